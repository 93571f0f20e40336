/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/text.h"
#include "tests/unit/memory_store.h"

static int
setup(void **state)
{
    struct tenant_store *store = NULL;
    struct cc_err err = { 0 };

    if (tenant_store_open(memory_store(), &store, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    *state = store;
    return 0;
}

static int
teardown(void **state)
{
    tenant_store_close(*state);
    return 0;
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        struct cc_err err = { 0 };                                                                 \
        if ((call) != 0)                                                                           \
            fail_msg(#call ": %s", cc_err_text(&err));                                             \
    } while (0)

/* ---- values, clients, tokens, users ---- */

static void
values(void **state)
{
    char *value = NULL;

    OK(tenant_value_get(*state, "a", &value, &err));
    assert_null(value);
    OK(tenant_value_put(*state, "a", "1", &err));
    OK(tenant_value_put(*state, "a", "2", &err));
    OK(tenant_value_get(*state, "a", &value, &err));
    assert_string_equal(value, "2");
    free(value);
}

static void
clients(void **state)
{
    struct tenant_client one = { .salt = "salt", .hash = "hash" };
    struct tenant_client two = { .salt = "pepper", .hash = "hush" };
    struct tenant_client got;
    int64_t count;
    bool found;

    OK(tenant_client_find(*state, "c", &found, &got, &err));
    assert_false(found);
    OK(tenant_client_put(*state, "c", &one, &err));
    OK(tenant_client_put(*state, "c", &two, &err));
    OK(tenant_client_find(*state, "c", &found, &got, &err));
    assert_true(found);
    assert_memory_equal(&got, &two, sizeof(two));
    OK(tenant_client_count(*state, &count, &err));
    assert_int_equal(count, 1);
}

static void
client_certificates(void **state)
{
    static const uint8_t sha1[TENANT_SHA1_LEN] = { 1 }, sha256[TENANT_HASH_LEN] = { 2 };
    struct tenant_client client = { .secret_expires_ms = TENANT_SECRET_NONE, .roles = -1 };
    struct tenant_client_certificate certificate = { .sha1 = { sha1, sizeof(sha1) },
        .sha256 = { sha256, sizeof(sha256) },
        .der = cc_bytes_of_str("der") };
    struct cc_buf der = CC_BUF_INIT(100);
    bool found;

    OK(tenant_client_put(*state, "c", &client, &err));
    OK(tenant_client_certificate_add(*state, "c", &certificate, &err));
    OK(tenant_client_certificate_add(*state, "c", &certificate, &err));
    OK(tenant_client_certificate_find(*state, "c", certificate.sha1, &der, &err));
    assert_string_equal(cc_buf_str(&der), "der");
    cc_buf_reset(&der);
    OK(tenant_client_certificate_find(*state, "c", certificate.sha256, &der, &err));
    assert_string_equal(cc_buf_str(&der), "der");
    cc_buf_reset(&der);
    OK(tenant_client_certificate_find(*state, "d", certificate.sha256, &der, &err));
    assert_int_equal(der.len, 0);
    OK(tenant_client_remove(*state, "c", &found, &err));
    assert_true(found);
    OK(tenant_client_remove(*state, "c", &found, &err));
    assert_false(found);
    OK(tenant_client_certificate_find(*state, "c", certificate.sha256, &der, &err));
    assert_int_equal(der.len, 0);
    cc_buf_free(&der);
}

static void
assertions(void **state)
{
    bool fresh;

    OK(tenant_assertion_use(*state, "c", "1", 1000, 2000, &fresh, &err));
    assert_true(fresh);
    OK(tenant_assertion_use(*state, "c", "1", 1999, 3000, &fresh, &err));
    assert_false(fresh);
    OK(tenant_assertion_use(*state, "d", "1", 1999, 3000, &fresh, &err));
    assert_true(fresh);
    /* Once it has ended it is refused for its age, and need not be remembered. */
    OK(tenant_assertion_use(*state, "c", "1", 2000, 3000, &fresh, &err));
    assert_true(fresh);
}

static void
tokens(void **state)
{
    const uint8_t hash[TENANT_HASH_LEN] = { 1 }, other[TENANT_HASH_LEN] = { 2 };
    struct tenant_client client = { .roles = 5 };
    struct tenant_token token = { 0 };
    int64_t count;
    bool found;

    OK(tenant_client_put(*state, "c", &client, &err));
    OK(tenant_token_put(*state, hash, "c", TENANT_AUDIENCE_GRAPH, 1000, 2000, &err));
    OK(tenant_token_find(*state, hash, 1999, &found, &token, &err));
    assert_true(found);
    assert_int_equal(token.audience, TENANT_AUDIENCE_GRAPH);
    assert_int_equal(token.roles, 5);
    /* Roles are the client's of this moment. */
    client.roles = 4;
    OK(tenant_client_put(*state, "c", &client, &err));
    OK(tenant_token_find(*state, hash, 1999, &found, &token, &err));
    assert_true(found);
    assert_int_equal(token.roles, 4);
    OK(tenant_token_find(*state, hash, 2000, &found, &token, &err));
    assert_false(found);
    OK(tenant_client_remove(*state, "c", &found, &err));
    OK(tenant_token_find(*state, hash, 1999, &found, &token, &err));
    assert_false(found);
    /* One that is made after it knows nothing of them. */
    OK(tenant_client_put(*state, "c", &client, &err));
    OK(tenant_token_find(*state, hash, 1999, &found, &token, &err));
    assert_false(found);
    OK(tenant_token_put(*state, hash, "nobody", TENANT_AUDIENCE_GRAPH, 1000, 2000, &err));
    OK(tenant_token_find(*state, hash, 1999, &found, &token, &err));
    assert_false(found);
    OK(tenant_token_find(*state, other, 1000, &found, &token, &err));
    assert_false(found);
    /* A new one at a later time drops those that ended. */
    OK(tenant_token_put(*state, other, "c", TENANT_AUDIENCE_RESOURCE, 2000, 9000, &err));
    OK(tenant_token_expire_all(*state, &count, &err));
    assert_int_equal(count, 1);
    OK(tenant_token_find(*state, other, 2000, &found, &token, &err));
    assert_false(found);
}

static void
users(void **state)
{
    char id[TENANT_UUID_LEN], again[TENANT_UUID_LEN], longest[TENANT_UPN_MAX + 2];

    OK(tenant_user_id(*state, "User@X.example", false, id, &err));
    assert_string_equal(id, "");
    OK(tenant_user_id(*state, "User@X.example", true, id, &err));
    assert_true(cc_is_uuid(id));
    OK(tenant_user_id(*state, "uSER@x.EXAMPLE", true, again, &err));
    assert_string_equal(again, id);
    memset(longest, 'u', sizeof(longest));
    longest[TENANT_UPN_MAX + 1] = '\0';
    assert_int_equal(tenant_user_id(*state, longest, true, again, NULL), -1);
}

/* ---- imported PFX ---- */

static struct tenant_pfx
pfx(const char *id, const char *user, const char *thumbprint)
{
    static const uint8_t blob[] = "pfx", password[] = "password";

    return (struct tenant_pfx){ .id = id,
        .user_id = "user-id",
        .user = user,
        .thumbprint = thumbprint,
        .intended_purpose = "vpn",
        .provider_name = "provider",
        .key_name = "key",
        .padding_scheme = "oaepSha512",
        .blob = { blob, 3 },
        .encrypted_password = { password, 8 },
        .start_ms = 100,
        .expiration_ms = 200,
        .created_ms = 300,
        .modified_ms = 300 };
}

static void
add_pfx(struct tenant_store *store, const char *id, const char *user, const char *thumbprint)
{
    struct tenant_pfx p = pfx(id, user, thumbprint);
    bool exists;

    OK(tenant_pfx_add(store, &p, &exists, &err));
    assert_false(exists);
}

struct ids {
    char text[512];
    struct tenant_pfx last;
};

static int
take_id(void *arg, const struct tenant_pfx *p)
{
    struct ids *ids = arg;
    size_t len = strlen(ids->text);

    (void)snprintf(ids->text + len, sizeof(ids->text) - len, "%s%s", len > 0 ? " " : "", p->id);
    ids->last.start_ms = p->start_ms;
    ids->last.modified_ms = p->modified_ms;
    return 0;
}

static void
pfx_list_and_choice(void **state)
{
    static const struct {
        struct tenant_pfx_query query;
        const char *want;
    } cases[] = {
        { { .limit = 10 }, "1-a 1-b 2-a" },
        { { .limit = 2 }, "1-a 1-b" },
        { { .limit = 2, .after_id = "1-b" }, "2-a" },
        { { .limit = 9, .user_lower = "one@x" }, "1-a 1-b" },
        { { .limit = 9, .user_lower = "One@x" }, "" },
        { { .limit = 9, .user = "One@x" }, "1-a" },
        { { .limit = 9, .user_lower = "one@x", .thumbprint = "b" }, "1-b" },
        { { .limit = 9, .user_lower = "one@x", .after_id = "1-a" }, "1-b" },
        { { .limit = 9, .thumbprint = "a" }, "1-a 2-a" },
        { { .limit = 9, .intended_purpose = "vpn", .thumbprint = "b" }, "1-b" },
        { { .limit = 9, .intended_purpose = "wifi" }, "" },
        { { .limit = 9, .id = "2-a" }, "2-a" },
        { { .limit = 9, .id = "2-" }, "" },
    };
    struct tenant_pfx late = pfx("1-b", NULL, NULL);
    struct tenant_pfx again = pfx("1-a", "One@x", "a");
    char id[TENANT_PFX_ID_MAX];
    bool hit;

    add_pfx(*state, "2-a", "two@x", "a");
    add_pfx(*state, "1-a", "One@x", "a");
    add_pfx(*state, "1-b", "one@x", "b");
    OK(tenant_pfx_add(*state, &again, &hit, &err));
    assert_true(hit);
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct ids ids = { .text = "" };

        OK(tenant_pfx_list(*state, &cases[i].query, take_id, &ids, &err));
        assert_string_equal(ids.text, cases[i].want);
    }

    late.start_ms = 999;
    OK(tenant_pfx_change(*state, &late, &hit, &err));
    assert_true(hit);
    OK(tenant_pfx_choose(*state, "one@x", NULL, "vpn", id, &err));
    assert_string_equal(id, "1-b");
    OK(tenant_pfx_choose(*state, "one@x", "a", NULL, id, &err));
    assert_string_equal(id, "1-a");
    OK(tenant_pfx_choose(*state, "one@x", NULL, "wifi", id, &err));
    assert_string_equal(id, "");
    OK(tenant_pfx_remove(*state, "1-a", 1, &hit, &err));
    assert_true(hit);
    OK(tenant_pfx_remove(*state, "1-a", 1, &hit, &err));
    assert_false(hit);
    late.id = "1-a";
    OK(tenant_pfx_change(*state, &late, &hit, &err));
    assert_false(hit);
}

/* ---- connectors ---- */

struct seen_connector {
    unsigned count, removed;
    char features[64];
};

static int
take_connector(void *arg, const struct tenant_connector *c)
{
    struct seen_connector *seen = arg;

    seen->count++;
    seen->removed += c->removed;
    (void)cc_strcpy(seen->features, sizeof(seen->features), c->features != NULL ? c->features : "");
    return 0;
}

#define GONE_MS 1000

static void
connectors(void **state)
{
    struct tenant_connector c = { .id = "a", .features = "[]", .first_ms = 1, .last_ms = GONE_MS };
    struct seen_connector seen = { 0 };
    bool full, found;

    OK(tenant_connector_put(*state, &c, NULL, 2, GONE_MS, &full, &err));
    assert_false(full);
    c.features = NULL;
    OK(tenant_connector_put(*state, &c, NULL, 2, GONE_MS, &full, &err));
    OK(tenant_connector_list(*state, take_connector, &seen, &err));
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.features, "[]");

    c.id = "b";
    OK(tenant_connector_put(*state, &c, NULL, 2, GONE_MS, &full, &err));
    c.id = "c";
    OK(tenant_connector_put(*state, &c, NULL, 2, GONE_MS, &full, &err));
    assert_true(full);
    OK(tenant_connector_remove(*state, "a", &found, &err));
    assert_true(found);
    OK(tenant_connector_remove(*state, "a", &found, &err));
    assert_false(found);
    OK(tenant_connector_put(*state, &c, NULL, 2, GONE_MS, &full, &err));
    assert_false(full);

    /* One that was not heard of for long makes room; and when it is back, it must find room itself. */
    c.id = "d";
    OK(tenant_connector_put(*state, &c, NULL, 2, GONE_MS, &full, &err));
    assert_true(full);
    c.last_ms = GONE_MS + 1;
    OK(tenant_connector_put(*state, &c, NULL, 2, GONE_MS + 1, &full, &err));
    assert_false(full);
    c.id = "b";
    OK(tenant_connector_put(*state, &c, NULL, 1, GONE_MS + 1, &full, &err));
    assert_true(full);
    OK(tenant_connector_put(*state, &c, NULL, 2, GONE_MS + 1, &full, &err));
    assert_false(full);

    memset(&seen, 0, sizeof(seen));
    OK(tenant_connector_list(*state, take_connector, &seen, &err));
    assert_int_equal(seen.count, 4);
    assert_int_equal(seen.removed, 1);
}

static void
identity_add(struct tenant_store *store, const char *connector, const uint8_t *hash)
{
    struct tenant_connector c = { .id = connector, .last_ms = GONE_MS, .enrolled_ms = 1 };
    struct tenant_new_identity identity = { .hash = hash, .expires_ms = 5000 };
    bool full;

    OK(tenant_connector_put(store, &c, &identity, 9, GONE_MS, &full, &err));
    assert_false(full);
}

static struct tenant_identity
identity_use(struct tenant_store *store, const uint8_t *hash)
{
    struct tenant_identity got;

    OK(tenant_identity_use(store, hash, &got, &err));
    return got;
}

static void
identities(void **state)
{
    static const uint8_t hash[5][TENANT_HASH_LEN] = { { 1 }, { 2 }, { 3 }, { 4 }, { 5 } };
    bool found;

    identity_add(*state, "a", hash[0]);
    identity_add(*state, "b", hash[3]);
    assert_string_equal(identity_use(*state, hash[0]).connector_id, "a");
    assert_string_equal(identity_use(*state, hash[4]).connector_id, "");
    /* One that is not used yet takes nothing from those before it. */
    identity_add(*state, "a", hash[1]);
    identity_add(*state, "a", hash[2]);
    assert_false(identity_use(*state, hash[0]).superseded);
    assert_false(identity_use(*state, hash[1]).superseded);
    assert_true(identity_use(*state, hash[0]).superseded);
    assert_false(identity_use(*state, hash[2]).superseded);
    assert_true(identity_use(*state, hash[1]).superseded);
    assert_false(identity_use(*state, hash[2]).superseded);
    assert_false(identity_use(*state, hash[3]).superseded);
    OK(tenant_connector_remove(*state, "a", &found, &err));
    assert_true(identity_use(*state, hash[2]).removed);
    assert_false(identity_use(*state, hash[3]).removed);
}

static void
place_add(struct tenant_store *store, const char *id, const char *name, int64_t last_ms,
        const uint8_t *hash, const uint8_t *key_hash)
{
    struct tenant_connector c = { .id = id, .display_name = name, .last_ms = last_ms };
    struct tenant_new_identity identity = { .hash = hash, .key_hash = key_hash };
    bool full;

    OK(tenant_connector_put(store, &c, &identity, 99, 0, &full, &err));
    assert_false(full);
}

static void
identities_that_were_never_used(void **state)
{
    static const uint8_t hash[4][TENANT_HASH_LEN] = { { 11 }, { 12 }, { 13 }, { 14 } };
    static const uint8_t key[2][TENANT_HASH_LEN] = { { 21 }, { 22 } };
    char id[TENANT_ID_MAX + 1];
    bool found;

    place_add(*state, "older", "dc", 1, hash[0], key[0]);
    place_add(*state, "newer", "dc", 2, hash[1], key[0]);
    place_add(*state, "without", "dc", 3, hash[2], NULL);
    OK(tenant_identity_unused(*state, key[1], "dc", NULL, id, &err));
    assert_string_equal(id, "");
    OK(tenant_identity_unused(*state, key[0], NULL, NULL, id, &err));
    assert_string_equal(id, "");
    OK(tenant_identity_unused(*state, key[0], "dc", "host", id, &err));
    assert_string_equal(id, "");
    OK(tenant_identity_unused(*state, key[0], "dc", NULL, id, &err));
    assert_string_equal(id, "newer");
    /* With any of its certificates it is in use. */
    place_add(*state, "newer", "dc", 4, hash[3], key[1]);
    assert_string_equal(identity_use(*state, hash[3]).connector_id, "newer");
    OK(tenant_identity_unused(*state, key[0], "dc", NULL, id, &err));
    assert_string_equal(id, "older");
    OK(tenant_connector_remove(*state, "older", &found, &err));
    OK(tenant_identity_unused(*state, key[0], "dc", NULL, id, &err));
    assert_string_equal(id, "");
}

/* ---- metrics and releases ---- */

static int
write_metric(void *arg, const struct tenant_metric *m)
{
    return cc_buf_printf(arg, NULL, "%s@%d=%d,%d,%d ", m->name, (int)m->time_ms, (int)m->value,
            (int)m->succeeded, (int)m->failed);
}

static void
metrics(void **state)
{
    const struct tenant_metric_query all = { .name = "a", .until_ms = INT64_MAX };
    const struct tenant_metric first[] = { { .name = "b", .value = 7 },
        { .name = "a", .value = 3, .succeeded = 2, .failed = 1 } };
    const struct tenant_metric more = { .name = "a", .value = 6, .succeeded = 4, .failed = 2 };
    const struct tenant_metric anew = { .name = "a", .value = 1, .succeeded = 1 };
    struct cc_buf text = CC_BUF_INIT(1000);

    OK(tenant_metric_add(*state, "c", first, 2, 60000, &err));
    OK(tenant_metric_add(*state, "c", &more, 1, 119999, &err));
    OK(tenant_metric_add(*state, "c", &anew, 1, 120000, &err));
    OK(tenant_metric_add(*state, "d", &more, 1, 120000, &err));
    OK(tenant_metric_list(*state, "c", write_metric, &text, &err));
    assert_string_equal(cc_buf_str(&text), "a@120000=1,1,0 b@60000=7,0,0 ");
    cc_buf_reset(&text);
    OK(tenant_metric_series(*state, "c", &all, write_metric, &text, &err));
    /* What was told first may be of years. */
    assert_string_equal(cc_buf_str(&text), "a@60000=0,2,1 a@120000=0,1,0 ");
    /* What is a day old is let go. */
    OK(tenant_metric_add(*state, "c", &more, 1, 120000 + TENANT_METRICS_KEPT_MS, &err));
    cc_buf_reset(&text);
    OK(tenant_metric_list(*state, "c", write_metric, &text, &err));
    assert_string_equal(cc_buf_str(&text), "a@86520000=6,4,2 ");
    cc_buf_reset(&text);
    OK(tenant_metric_series(*state, "c", &all, write_metric, &text, &err));
    assert_string_equal(cc_buf_str(&text), "a@120000=0,1,0 a@86520000=0,3,2 ");
    /* Of the silent too, and what they tell next is told first again. */
    OK(tenant_metric_add(*state, "d", &anew, 1, 240000 + 2 * TENANT_METRICS_KEPT_MS, &err));
    cc_buf_reset(&text);
    OK(tenant_metric_series(*state, "c", &all, write_metric, &text, &err));
    OK(tenant_metric_series(*state, "d", &all, write_metric, &text, &err));
    assert_string_equal(cc_buf_str(&text), "");
    OK(tenant_metric_list(*state, "c", write_metric, &text, &err));
    assert_string_equal(cc_buf_str(&text), "a@86520000=6,4,2 ");
    cc_buf_free(&text);
}

static void
metrics_of_the_removed(void **state)
{
    const struct tenant_metric_query all = { .name = "a", .until_ms = INT64_MAX };
    const struct tenant_connector connector = { .id = "c", .first_ms = 60000, .last_ms = 60000 };
    const struct tenant_metric one = { .name = "a", .value = 1, .succeeded = 1 };
    struct cc_buf text = CC_BUF_INIT(1000);
    bool full, found;

    OK(tenant_connector_put(*state, &connector, NULL, 10, 0, &full, &err));
    for (int i = 0; i < 2; i++) {
        OK(tenant_metric_add(*state, "c", &one, 1, 60000, &err));
        OK(tenant_metric_add(*state, "d", &one, 1, 60000, &err));
    }
    OK(tenant_connector_remove(*state, "c", &found, &err));
    assert_true(found);
    OK(tenant_metric_list(*state, "c", write_metric, &text, &err));
    OK(tenant_metric_series(*state, "c", &all, write_metric, &text, &err));
    assert_string_equal(cc_buf_str(&text), "");
    OK(tenant_metric_list(*state, "d", write_metric, &text, &err));
    OK(tenant_metric_series(*state, "d", &all, write_metric, &text, &err));
    assert_string_equal(cc_buf_str(&text), "a@60000=1,1,0 a@60000=0,0,0 ");
    cc_buf_free(&text);
}

static int
write_release(void *arg, const char *version, int64_t release_ms)
{
    return cc_buf_printf(arg, NULL, "%s@%d ", version, (int)release_ms);
}

static void
releases(void **state)
{
    struct cc_buf text = CC_BUF_INIT(1000);
    bool found;

    OK(tenant_release_put(*state, "1", 5, &err));
    OK(tenant_release_put(*state, "2", 6, &err));
    OK(tenant_release_put(*state, "2", 7, &err));
    OK(tenant_release_remove(*state, "1", &found, &err));
    assert_true(found);
    OK(tenant_release_remove(*state, "1", &found, &err));
    assert_false(found);
    OK(tenant_release_list(*state, write_release, &text, &err));
    assert_string_equal(cc_buf_str(&text), "2@7 ");
    cc_buf_free(&text);
}

/* ---- the queue ---- */

#define FEATURE "pfx-import"
#define PKCS "pkcs"
#define LEASE 1000

struct leased {
    unsigned count;
    char contexts[16][TENANT_CONTEXT_LEN];
    char ids[16][TENANT_UUID_LEN];
    int attempts[16];
    char blob[16];
    char document[64]; /* of the last one, and its overrides */
};

static int
take_work(void *arg, const struct tenant_work *w)
{
    struct leased *l = arg;

    assert_true(l->count < 16);
    (void)cc_strcpy(l->contexts[l->count], sizeof(l->contexts[0]), w->context);
    (void)cc_strcpy(l->ids[l->count], sizeof(l->ids[0]), w->request_id);
    l->attempts[l->count] = w->attempt;
    (void)snprintf(l->blob, sizeof(l->blob), "%.*s/%.*s", (int)w->pfx.blob.len,
            (const char *)w->pfx.blob.data, (int)w->recipient.len, (const char *)w->recipient.data);
    (void)snprintf(l->document, sizeof(l->document), "%s/%s",
            w->document != NULL ? w->document : "-", w->overrides != NULL ? w->overrides : "-");
    l->count++;
    return 0;
}

static struct leased
lease_of(struct tenant_store *store, const char *feature, const char *connector, unsigned most,
        int64_t now_ms)
{
    struct tenant_lease_ask ask = { .feature = feature,
        .connector_id = connector,
        .max_requests = most,
        .max_bytes = 1 << 20,
        .now_ms = now_ms,
        .lease_until_ms = now_ms + LEASE };
    struct leased l = { .count = 0 };
    size_t count;

    OK(tenant_queue_lease(store, &ask, take_work, &l, &count, &err));
    assert_int_equal(count, l.count);
    return l;
}

static struct leased
lease(struct tenant_store *store, const char *connector, unsigned most, int64_t now_ms)
{
    return lease_of(store, FEATURE, connector, most, now_ms);
}

/* Requests of the other queue, for user "user", of kind "issue", with overrides. */
static void
enqueue_documents(struct tenant_store *store, const char *document, unsigned count, int64_t now_ms)
{
    struct tenant_new_request requests[16] = { 0 };

    for (unsigned i = 0; i < count; i++) {
        requests[i].document = document;
        requests[i].user = "user";
        requests[i].kind = "issue";
        requests[i].device_id = "device";
        requests[i].overrides = "{\"o\":1}";
        OK(cc_uuid(requests[i].request_id, &err));
    }
    OK(tenant_queue_add(store, PKCS, requests, count, now_ms, &err));
}

/* Requests "0", "1" … as they are counted. */
static void
enqueue(struct tenant_store *store, unsigned count, int64_t now_ms)
{
    static const uint8_t recipient[] = "to";
    struct tenant_new_request requests[16] = { 0 };

    for (unsigned i = 0; i < count; i++) {
        requests[i].pfx_id = "1-a";
        requests[i].recipient = (struct cc_bytes){ recipient, 2 };
        OK(cc_uuid(requests[i].request_id, &err));
    }
    OK(tenant_queue_add(store, FEATURE, requests, count, now_ms, &err));
}

static enum tenant_verdict
upload(struct tenant_store *store, const char *connector, const char *context, bool succeeded,
        bool retryable, const char *text, int64_t now_ms)
{
    struct tenant_retry_rule rule = { .delay_ms = 50, .max_attempts = 3 };
    struct tenant_result result = { .context = context,
        .succeeded = succeeded,
        .retryable = retryable,
        .text = text };
    enum tenant_verdict verdict;

    OK(tenant_queue_upload(store, FEATURE, connector, &result, 1, &rule, now_ms, &verdict, &err));
    return verdict;
}

static struct tenant_counts
count(struct tenant_store *store)
{
    struct tenant_counts counts;

    OK(tenant_count(store, &counts, &err));
    return counts;
}

static void
leases(void **state)
{
    struct leased l;
    int64_t due;

    OK(tenant_queue_next_due(*state, FEATURE, &due, &err));
    assert_int_equal(due, -1);
    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 3, 100);
    OK(tenant_queue_next_due(*state, FEATURE, &due, &err));
    assert_int_equal(due, 100);
    OK(tenant_queue_next_due(*state, "pkcs", &due, &err));
    assert_int_equal(due, -1);

    l = lease(*state, "a", 2, 100);
    assert_int_equal(l.count, 2);
    assert_string_equal(l.blob, "pfx/to");
    assert_int_equal(l.attempts[0], 1);
    l = lease(*state, "b", 9, 100);
    assert_int_equal(l.count, 1);
    assert_int_equal(lease(*state, "b", 9, 100 + LEASE - 1).count, 0);
    OK(tenant_queue_next_due(*state, FEATURE, &due, &err));
    assert_int_equal(due, 100 + LEASE);

    /* All three leases ended at once: the oldest first again, with another attempt and another context. */
    struct leased again = lease(*state, "b", 9, 100 + LEASE);
    assert_int_equal(again.count, 3);
    assert_int_equal(again.attempts[0], 2);
    assert_string_equal(again.ids[2], l.ids[0]);
    assert_string_not_equal(again.contexts[2], l.contexts[0]);
    assert_int_equal(count(*state).leases, 6);
}

static void
bytes_bound_a_lease(void **state)
{
    struct tenant_lease_ask ask = { .feature = FEATURE,
        .connector_id = "a",
        .max_requests = 9,
        .max_bytes = 1,
        .now_ms = 100,
        .lease_until_ms = 200 };
    struct leased l = { .count = 0 };
    size_t got;

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 3, 100);
    OK(tenant_queue_lease(*state, &ask, take_work, &l, &got, &err));
    assert_int_equal(got, 1);
}

static void
renew_and_release(void **state)
{
    struct leased l;
    bool held[3];
    size_t released;

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 2, 100);
    l = lease(*state, "a", 2, 100);
    const char *contexts[] = { l.contexts[0], l.contexts[1], "1.1.0000000000000000" };

    OK(tenant_queue_renew(*state, FEATURE, "a", contexts, 3, 900, 900 + LEASE, held, &err));
    assert_true(held[0] && held[1] && !held[2]);
    OK(tenant_queue_renew(*state, FEATURE, "b", contexts, 3, 900, 900 + LEASE, held, &err));
    assert_false(held[0] || held[1] || held[2]);
    assert_int_equal(lease(*state, "b", 2, 100 + LEASE).count, 0);

    OK(tenant_queue_release(*state, FEATURE, "b", contexts, 3, 950, &released, &err));
    assert_int_equal(released, 0);
    OK(tenant_queue_release(*state, FEATURE, "a", contexts, 1, 950, &released, &err));
    assert_int_equal(released, 1);
    l = lease(*state, "b", 2, 950);
    assert_int_equal(l.count, 1);
    assert_int_equal(l.attempts[0], 2);
    /* The other instance has it now, by the same request number. */
    OK(tenant_queue_renew(*state, FEATURE, "a", contexts, 1, 960, 960 + LEASE, held, &err));
    assert_false(held[0]);
}

struct upload_case {
    const char *name;
    const char *connector;
    bool succeeded, retryable;
    int64_t now_ms;
    enum tenant_verdict want;
    enum tenant_state want_state;
};

/* "a" has the lease from 100 on, for LEASE. */
static const struct upload_case upload_cases[] = {
    { "success of the holder", "a", true, false, 150, TENANT_ACCEPTED, TENANT_COMPLETED },
    { "success of another", "b", true, false, 150, TENANT_ACCEPTED, TENANT_COMPLETED },
    { "success after the lease", "a", true, false, 5000, TENANT_ACCEPTED, TENANT_COMPLETED },
    { "failure of the holder", "a", false, false, 150, TENANT_ACCEPTED, TENANT_FAILED },
    { "failure of another", "b", false, false, 150, TENANT_LEASE_LOST, TENANT_LEASED },
    { "failure after the lease", "b", false, false, 5000, TENANT_ACCEPTED, TENANT_FAILED },
    { "failure to be tried again", "a", false, true, 150, TENANT_ACCEPTED, TENANT_QUEUED },
};

static void
uploads(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(upload_cases); i++) {
        const struct upload_case *c = &upload_cases[i];
        void *store = NULL;
        struct leased l;
        enum tenant_verdict verdict;

        (void)setup(&store);
        add_pfx(store, "1-a", "one@x", "a");
        enqueue(store, 1, 100);
        l = lease(store, "a", 1, 100);
        verdict = upload(store, c->connector, l.contexts[0], c->succeeded, c->retryable,
                "{\"n\":1}", c->now_ms);
        if (verdict != c->want || count(store).by_state[c->want_state] != 1)
            fail_msg("%s", c->name);
        if (verdict == TENANT_ACCEPTED) {
            assert_int_equal(upload(store, c->connector, l.contexts[0], c->succeeded, c->retryable,
                                     "{\"n\":1}", c->now_ms),
                    TENANT_DUPLICATE);
            assert_int_equal(count(store).by_state[c->want_state], 1);
        }
        if (verdict == TENANT_ACCEPTED && c->want_state != TENANT_QUEUED)
            assert_int_equal(upload(store, "b", l.contexts[0], true, false, "{\"n\":2}", c->now_ms),
                    TENANT_ALREADY_COMPLETED);
        (void)teardown(&store);
    }
}

/* Two attempts fail in the same words: their contexts, which real results carry, tell them apart. */
static void
retries_end(void **state)
{
    int64_t now_ms = 100, due;
    struct leased l;

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 1, now_ms);
    for (int attempt = 1; attempt <= 3; attempt++, now_ms += 50) {
        assert_int_equal(lease(*state, "a", 1, now_ms - 1).count, 0);
        l = lease(*state, "a", 1, now_ms);
        assert_int_equal(l.attempts[0], attempt);
        assert_int_equal(upload(*state, "a", l.contexts[0], false, true, l.contexts[0], now_ms),
                TENANT_ACCEPTED);
        OK(tenant_queue_next_due(*state, FEATURE, &due, &err));
        assert_int_equal(due, attempt < 3 ? now_ms + 50 : -1);
    }
    assert_int_equal(count(*state).by_state[TENANT_FAILED], 1);
    assert_int_equal(count(*state).requeued, 2);
}

static void
spoiled_contexts(void **state)
{
    static const char *const spoiled[] = { "", "1", "1.", "1.1", "1.1.", "1..x", "x.1.y", "-1.1.x",
        "99999999999999999999.1.x", "1.99999999999.x", "2.1.x" };
    char text[TENANT_CONTEXT_LEN + 8];
    struct leased l;

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 1, 100);
    l = lease(*state, "a", 1, 100);
    for (size_t i = 0; i < CC_COUNT(spoiled); i++)
        assert_int_equal(upload(*state, "a", spoiled[i], true, false, "{}", 100), TENANT_UNKNOWN);
    /* An attempt that there was not, a nonce cut short, flipped, doubled. */
    (void)cc_strcpy(text, sizeof(text), l.contexts[0]);
    text[2] = '2';
    assert_int_equal(upload(*state, "a", text, true, false, "{}", 100), TENANT_UNKNOWN);
    (void)cc_strcpy(text, sizeof(text), l.contexts[0]);
    text[strlen(text) - 1] = '\0';
    assert_int_equal(upload(*state, "a", text, true, false, "{}", 100), TENANT_UNKNOWN);
    (void)cc_strcpy(text, sizeof(text), l.contexts[0]);
    text[5] = text[5] == '0' ? '1' : '0';
    assert_int_equal(upload(*state, "a", text, true, false, "{}", 100), TENANT_UNKNOWN);
    assert_int_equal(count(*state).by_verdict[TENANT_UNKNOWN], CC_COUNT(spoiled) + 3);
    assert_int_equal(count(*state).by_state[TENANT_LEASED], 1);
}

static void
cancelling(void **state)
{
    struct leased l;
    bool hit;

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 3, 100);
    l = lease(*state, "a", 2, 100);
    OK(tenant_queue_cancel(*state, l.ids[0], 150, &hit, &err));
    assert_true(hit);
    OK(tenant_queue_cancel(*state, l.ids[0], 150, &hit, &err));
    assert_false(hit);
    assert_int_equal(upload(*state, "a", l.contexts[0], true, false, "{}", 160), TENANT_LEASE_LOST);

    assert_int_equal(upload(*state, "a", l.contexts[1], true, false, "{}", 160), TENANT_ACCEPTED);
    OK(tenant_pfx_remove(*state, "1-a", 170, &hit, &err));
    assert_int_equal(count(*state).by_state[TENANT_CANCELLED], 2);
    assert_int_equal(count(*state).by_state[TENANT_COMPLETED], 1);
    assert_int_equal(lease(*state, "a", 2, 9999).count, 0);
}

static void
nothing_for_an_unknown_pfx(void **state)
{
    struct tenant_new_request requests[2] = { { .pfx_id = "1-a" }, { .pfx_id = "none" } };
    struct cc_err why = { 0 };

    add_pfx(*state, "1-a", "one@x", "a");
    for (size_t i = 0; i < 2; i++) {
        requests[i].recipient = cc_bytes_of_str("to");
        OK(cc_uuid(requests[i].request_id, &err));
    }
    assert_int_equal(tenant_queue_add(*state, FEATURE, requests, 2, 1, &why), -1);
    assert_int_equal(why.domain, CC_DOM_INPUT);
    assert_int_equal(why.code, 404);
    assert_int_equal(count(*state).by_state[TENANT_QUEUED], 0);
}

/* ---- looking ---- */

struct story {
    char text[512];
    int64_t seq;
    enum tenant_state state;
};

static int
take_request(void *arg, const struct tenant_request *r)
{
    struct story *s = arg;

    s->seq = r->seq;
    s->state = r->state;
    return 0;
}

static int
take_event(void *arg, const struct tenant_event *e)
{
    struct story *s = arg;
    size_t len = strlen(s->text);

    (void)snprintf(s->text + len, sizeof(s->text) - len, "%s,%s,%d,%d,%d,%s;", e->what,
            e->connector_id != NULL ? e->connector_id : "-", e->attempt, (int)e->verdict,
            e->requeued, e->result != NULL ? e->result : "-");
    return 0;
}

static void
history(void **state)
{
    struct story s = { .text = "" };
    struct leased l;

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 1, 100);
    l = lease(*state, "a", 1, 100);
    assert_int_equal(upload(*state, "a", l.contexts[0], false, true, "[1]", 110), TENANT_ACCEPTED);
    l = lease(*state, "b", 1, 200);
    assert_int_equal(upload(*state, "b", l.contexts[0], true, false, "[2]", 210), TENANT_ACCEPTED);
    assert_int_equal(upload(*state, "b", l.contexts[0], true, false, "[2]", 220), TENANT_DUPLICATE);
    assert_int_equal(upload(*state, "a", l.contexts[0], true, false, "[3]", 230),
            TENANT_ALREADY_COMPLETED);

    OK(tenant_request_find(*state, l.ids[0], take_request, &s, &err));
    assert_int_equal(s.state, TENANT_COMPLETED);
    OK(tenant_request_history(*state, s.seq, take_event, &s, &err));
    assert_string_equal(s.text,
            "queued,-,0,0,0,-;leased,a,1,0,0,-;uploaded,a,1,1,1,[1];leased,b,2,0,0,-;"
            "uploaded,b,2,1,0,[2];uploaded,b,2,2,0,-;uploaded,a,2,3,0,[3];");
}

static int
count_request(void *arg, const struct tenant_request *r)
{
    unsigned *n = arg;

    (void)r;
    ++*n;
    return 0;
}

static int
write_number(void *arg, const struct tenant_request *r)
{
    return cc_buf_printf(arg, NULL, "%d ", (int)r->seq);
}

static void
request_lists(void **state)
{
    static const struct {
        struct tenant_request_query query;
        unsigned want;
    } cases[] = {
        { { .limit = 99 }, 7 },
        { { .limit = 3 }, 3 },
        { { .limit = 99, .after_seq = 3 }, 4 },
        { { .limit = 99, .state = TENANT_LEASED }, 2 },
        { { .limit = 99, .state = TENANT_QUEUED }, 5 },
        { { .limit = 99, .state = TENANT_QUEUED, .after_seq = 4 }, 3 },
        { { .limit = 99, .state = TENANT_FAILED }, 0 },
        { { .limit = 99, .feature = FEATURE }, 5 },
        { { .limit = 99, .feature = PKCS }, 2 },
        { { .limit = 1, .feature = PKCS }, 1 },
        { { .limit = 99, .feature = PKCS, .after_seq = 6 }, 1 },
        { { .limit = 99, .feature = "other" }, 0 },
        { { .limit = 99, .state = TENANT_QUEUED, .feature = FEATURE }, 3 },
        { { .limit = 99, .state = TENANT_LEASED, .feature = PKCS }, 0 },
        { { .limit = 99, .state = TENANT_QUEUED, .feature = PKCS }, 2 },
        { { .limit = 99, .newest_first = true, .after_seq = INT64_MAX }, 7 },
        { { .limit = 99, .newest_first = true, .after_seq = 3 }, 2 },
        { { .limit = 99, .newest_first = true, .after_seq = 5, .state = TENANT_QUEUED }, 2 },
        { { .limit = 99, .newest_first = true, .after_seq = 7, .feature = PKCS }, 1 },
    };
    const struct tenant_request_query newest = { .limit = 3, .newest_first = true, .after_seq = 7 };
    struct cc_buf numbers = CC_BUF_INIT(100);

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 5, 100);
    enqueue_documents(*state, "{}", 2, 100);
    (void)lease(*state, "a", 2, 100);
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        unsigned n = 0;

        OK(tenant_request_list(*state, &cases[i].query, count_request, &n, &err));
        assert_int_equal(n, cases[i].want);
    }
    OK(tenant_request_list(*state, &newest, write_number, &numbers, &err));
    assert_string_equal(cc_buf_str(&numbers), "6 5 4 ");
    cc_buf_free(&numbers);
    for (int s = TENANT_QUEUED; s < TENANT_STATES; s++)
        assert_int_equal(tenant_state_parse(tenant_state_name((enum tenant_state)s)), s);
    assert_int_equal(tenant_state_parse("other"), -1);
}

/* ---- requests that are a document ---- */

static void
documents(void **state)
{
    struct leased l;
    bool hit;

    enqueue_documents(*state, "{\"subjectName\":\"CN=x\"}", 2, 100);
    assert_int_equal(lease(*state, "a", 9, 100).count, 0);
    l = lease_of(*state, PKCS, "a", 9, 100);
    assert_int_equal(l.count, 2);
    assert_string_equal(l.document, "{\"subjectName\":\"CN=x\"}/{\"o\":1}");
    assert_string_equal(l.blob, "/");
    OK(tenant_queue_cancel(*state, l.ids[1], 150, &hit, &err));
    assert_true(hit);
    l = lease_of(*state, PKCS, "b", 9, 100 + LEASE);
    assert_int_equal(l.count, 1);
    assert_int_equal(l.attempts[0], 2);

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 1, 100);
    l = lease(*state, "a", 9, 100);
    assert_string_equal(l.document, "-/-");
    assert_string_equal(l.blob, "pfx/to");
}

static void
documents_bound_a_lease(void **state)
{
    struct tenant_lease_ask ask = { .feature = PKCS,
        .connector_id = "a",
        .max_requests = 9,
        .max_bytes = 1500,
        .now_ms = 100,
        .lease_until_ms = 200 };
    char document[901];
    struct leased l = { .count = 0 };
    size_t got;

    memset(document, 'd', sizeof(document));
    document[900] = '\0';
    enqueue_documents(*state, document, 2, 100);
    OK(tenant_queue_lease(*state, &ask, take_work, &l, &got, &err));
    assert_int_equal(got, 1);
}

/* What one queue gave out means nothing in the other. */
static void
queues_are_apart(void **state)
{
    char kinds[2][TENANT_KIND_MAX + 1];
    const char *contexts[2];
    int64_t by_state[TENANT_STATES];
    struct leased pkcs, pfx_import;
    bool held[2];
    size_t released;

    add_pfx(*state, "1-a", "one@x", "a");
    enqueue(*state, 1, 100);
    enqueue_documents(*state, "{}", 1, 100);
    pfx_import = lease(*state, "a", 9, 100);
    pkcs = lease_of(*state, PKCS, "a", 9, 100);
    contexts[0] = pkcs.contexts[0];
    contexts[1] = pfx_import.contexts[0];

    OK(tenant_queue_renew(*state, PKCS, "a", contexts, 2, 150, 1150, held, &err));
    assert_true(held[0] && !held[1]);
    OK(tenant_queue_kinds(*state, PKCS, contexts, 2, kinds, &err));
    assert_string_equal(kinds[0], "issue");
    assert_string_equal(kinds[1], "");
    OK(tenant_queue_kinds(*state, FEATURE, contexts, 2, kinds, &err));
    assert_string_equal(kinds[0], "");
    assert_string_equal(kinds[1], "");
    assert_int_equal(upload(*state, "a", contexts[0], true, false, "{}", 160), TENANT_UNKNOWN);
    OK(tenant_queue_release(*state, PKCS, "a", contexts, 2, 170, &released, &err));
    assert_int_equal(released, 1);

    OK(tenant_count_feature(*state, PKCS, by_state, &err));
    assert_int_equal(by_state[TENANT_QUEUED], 1);
    assert_int_equal(by_state[TENANT_LEASED], 0);
    OK(tenant_count_feature(*state, FEATURE, by_state, &err));
    assert_int_equal(by_state[TENANT_QUEUED], 0);
    assert_int_equal(by_state[TENANT_LEASED], 1);
    assert_int_equal(count(*state).by_state[TENANT_QUEUED], 1);
    assert_int_equal(count(*state).by_state[TENANT_LEASED], 1);
}

/* ---- certificates to be revoked ---- */

#define COOL 1000

/* Serial numbers that were handed out, "1 2 3"; and the last one's context and id. */
struct handed {
    char serials[128];
    char contexts[8][TENANT_UUID_LEN];
    char id[TENANT_UUID_LEN];
    int deliveries;
    int64_t seq;
    enum tenant_revocation_state state;
    unsigned count;
};

static int
take_revocation(void *arg, const struct tenant_revocation *r)
{
    struct handed *h = arg;
    size_t len = strlen(h->serials);

    assert_true(h->count < 8);
    (void)snprintf(h->serials + len, sizeof(h->serials) - len, "%s%s", len > 0 ? " " : "",
            r->serial_number);
    (void)cc_strcpy(h->contexts[h->count++], TENANT_UUID_LEN, r->context);
    (void)cc_strcpy(h->id, sizeof(h->id), r->request_id);
    h->deliveries = r->deliveries;
    h->seq = r->seq;
    h->state = r->state;
    return 0;
}

/* Serials "1", "2" … of the issuer, and of the configuration "conf " and the issuer. */
static void
add_revocations(struct tenant_store *store, const char *issuer, int first, int count)
{
    struct tenant_new_revocation r[8] = { 0 };
    char serials[8][8], configuration[32];

    (void)snprintf(configuration, sizeof(configuration), "conf %s", issuer);
    for (int i = 0; i < count; i++) {
        (void)snprintf(serials[i], sizeof(serials[i]), "%d", first + i);
        r[i].serial_number = serials[i];
        r[i].issuer_name = issuer;
        r[i].ca_configuration = configuration;
        OK(cc_uuid(r[i].request_id, &err));
    }
    OK(tenant_revocation_add(store, r, (size_t)count, 1, &err));
}

static struct handed
deliver_of(struct tenant_store *store, const char *issuer, enum tenant_revocation_filter filter,
        unsigned most, int64_t now_ms)
{
    struct tenant_revocation_ask ask = { .issuer_name = issuer,
        .filter = filter,
        .max_requests = most,
        .now_ms = now_ms,
        .cool_down_ms = COOL };
    struct handed h = { .count = 0 };

    OK(tenant_revocation_deliver(store, &ask, take_revocation, &h, &err));
    return h;
}

static struct handed
deliver(struct tenant_store *store, unsigned most, int64_t now_ms)
{
    return deliver_of(store, NULL, TENANT_FILTER_DOCUMENTED, most, now_ms);
}

static void
revoked(struct tenant_store *store, const char *context, bool succeeded, bool retryable,
        const char *text)
{
    struct tenant_revocation_result result = { .context = context,
        .succeeded = succeeded,
        .retryable = retryable,
        .text = text };

    OK(tenant_revocation_upload(store, &result, 1, 5, &err));
}

static struct tenant_revocation_counts
count_revocations(struct tenant_store *store)
{
    struct tenant_revocation_counts counts;

    OK(tenant_revocation_count(store, &counts, &err));
    return counts;
}

static void
cool_down(void **state)
{
    int64_t began;

    OK(tenant_revocation_clock(*state, &began, &err));
    assert_int_equal(began, 0);
    /* An empty answer begins it too. */
    assert_string_equal(deliver(*state, 9, 5000).serials, "");
    OK(tenant_revocation_clock(*state, &began, &err));
    assert_int_equal(began, 5000);
    add_revocations(*state, "A", 1, 3);
    assert_string_equal(deliver(*state, 9, 5000 + COOL - 1).serials, "");
    assert_string_equal(deliver(*state, 2, 5000 + COOL).serials, "1 2");

    OK(tenant_revocation_clock_advance(*state, COOL - 1, &err));
    assert_string_equal(deliver(*state, 9, 5000 + COOL).serials, "");
    OK(tenant_revocation_clock_advance(*state, 1, &err));
    /* Those that waited longest for a delivery come first. */
    assert_string_equal(deliver(*state, 9, 5000 + COOL).serials, "3 1 2");
    OK(tenant_revocation_clock_reset(*state, &err));
    OK(tenant_revocation_clock_advance(*state, 1, &err));
    OK(tenant_revocation_clock(*state, &began, &err));
    assert_int_equal(began, 0);
    assert_int_equal(deliver(*state, 9, 5000 + COOL).count, 3);
    assert_int_equal(count_revocations(*state).deliveries, 2 + 3 + 3);
}

static void
revocation_filters(void **state)
{
    static const struct {
        const char *issuer;
        enum tenant_revocation_filter filter;
        unsigned most;
        const char *want;
    } cases[] = {
        { NULL, TENANT_FILTER_DOCUMENTED, 8, "1 2 3 4" },
        { NULL, TENANT_FILTER_REAL, 3, "1 2 3" },
        { "B", TENANT_FILTER_DOCUMENTED, 8, "3 4" },
        { "B", TENANT_FILTER_DOCUMENTED, 1, "3" },
        { "conf B", TENANT_FILTER_DOCUMENTED, 8, "" },
        { "b", TENANT_FILTER_DOCUMENTED, 8, "" },
        { "conf B", TENANT_FILTER_REAL, 8, "3 4" },
        { "conf B", TENANT_FILTER_REAL, 3, "3" },
        { "conf B", TENANT_FILTER_REAL, 2, "" },
        { "B", TENANT_FILTER_REAL, 8, "" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        void *store = NULL;

        (void)setup(&store);
        add_revocations(store, "A", 1, 2);
        add_revocations(store, "B", 3, 2);
        assert_string_equal(
                deliver_of(store, cases[i].issuer, cases[i].filter, cases[i].most, 1).serials,
                cases[i].want);
        (void)teardown(&store);
    }
}

static int
take_revocation_event(void *arg, const struct tenant_revocation_event *e)
{
    struct story *s = arg;
    size_t len = strlen(s->text);

    (void)snprintf(s->text + len, sizeof(s->text) - len, "%s,%d,%d,%s;", e->what, (int)e->verdict,
            e->requeued, e->result != NULL ? e->result : "-");
    return 0;
}

static void
assert_revocation_history(struct tenant_store *store, int64_t seq, const char *want)
{
    struct story s = { .text = "" };

    OK(tenant_revocation_history(store, seq, take_revocation_event, &s, &err));
    assert_string_equal(s.text, want);
}

static void
revocation_results(void **state)
{
    static const struct {
        bool succeeded, retryable;
        enum tenant_revocation_state want;
        enum tenant_revocation_verdict want_of_failure, want_of_success;
    } cases[] = {
        { true, false, TENANT_REVOCATION_COMPLETED, TENANT_REVOCATION_REPEATED,
                TENANT_REVOCATION_REPEATED },
        { false, false, TENANT_REVOCATION_FAILED, TENANT_REVOCATION_REPEATED,
                TENANT_REVOCATION_REPEATED },
        { false, true, TENANT_REVOCATION_QUEUED, TENANT_REVOCATION_REPEATED,
                TENANT_REVOCATION_ACCEPTED },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        void *store = NULL;
        struct handed h;
        char want[128];

        (void)setup(&store);
        add_revocations(store, "A", 1, 1);
        h = deliver(store, 9, 1);
        assert_int_equal(h.state, TENANT_REVOCATION_DELIVERED);
        revoked(store, h.contexts[0], cases[i].succeeded, cases[i].retryable, "1");
        assert_int_equal(count_revocations(store).by_state[cases[i].want], 1);
        revoked(store, h.contexts[0], false, false, "2");
        assert_int_equal(count_revocations(store).by_state[cases[i].want], 1);
        revoked(store, h.contexts[0], true, false, "3");
        (void)snprintf(want, sizeof(want),
                "queued,0,0,-;delivered,0,0,-;uploaded,1,%d,1;uploaded,%d,0,2;uploaded,%d,0,3;",
                cases[i].retryable, (int)cases[i].want_of_failure, (int)cases[i].want_of_success);
        assert_revocation_history(store, h.seq, want);
        assert_int_equal(count_revocations(store).requeued, cases[i].retryable);
        (void)teardown(&store);
    }
}

static void
revocations_come_again(void **state)
{
    struct handed first, second;

    add_revocations(*state, "A", 1, 4);
    first = deliver(*state, 9, 1);
    revoked(*state, first.contexts[0], true, false, "{}");
    revoked(*state, first.contexts[1], false, false, "{}");
    revoked(*state, first.contexts[2], false, true, "{}");
    second = deliver(*state, 9, 1 + COOL);
    assert_string_equal(second.serials, "3 4");
    assert_int_equal(second.deliveries, 2);
    assert_string_equal(second.contexts[0], first.contexts[2]);
    assert_string_equal(second.contexts[1], first.contexts[3]);
}

static void
unknown_revocations(void **state)
{
    struct story s = { .text = "" };
    struct tenant_revocation_result *results;
    size_t count = TENANT_REVOCATION_UNKNOWN_MAX + 1;

    revoked(*state, "x", true, false, "first");
    assert_revocation_history(*state, 0, "uploaded,3,0,first;");
    assert_non_null(results = calloc(count, sizeof(*results)));
    for (size_t i = 0; i < count; i++)
        results[i] = (struct tenant_revocation_result){ .context = "x", .text = i < 2 ? "2" : "" };
    OK(tenant_revocation_upload(*state, results, count, 5, &err));
    free(results);
    assert_int_equal(count_revocations(*state).by_verdict[TENANT_REVOCATION_UNKNOWN], count + 1);
    OK(tenant_revocation_history(*state, 0, take_revocation_event, &s, &err));
    assert_true(cc_starts_with(s.text, "uploaded,3,0,2;uploaded,3,0,;"));
}

static void
revocation_lists(void **state)
{
    static const struct {
        struct tenant_revocation_query query;
        const char *want;
    } cases[] = {
        { { .limit = 9 }, "1 2 3 4" },
        { { .limit = 2 }, "1 2" },
        { { .limit = 2, .after_seq = 3 }, "4" },
        { { .limit = 9, .state = TENANT_REVOCATION_QUEUED }, "4" },
        { { .limit = 9, .state = TENANT_REVOCATION_DELIVERED }, "2 3" },
        { { .limit = 9, .state = TENANT_REVOCATION_DELIVERED, .after_seq = 2 }, "3" },
        { { .limit = 9, .state = TENANT_REVOCATION_COMPLETED }, "1" },
        { { .limit = 9, .state = TENANT_REVOCATION_FAILED }, "" },
    };
    struct handed h, found = { .count = 0 };

    add_revocations(*state, "A", 1, 4);
    h = deliver(*state, 3, 1);
    revoked(*state, h.contexts[0], true, false, "{}");
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct handed listed = { .count = 0 };

        OK(tenant_revocation_list(*state, &cases[i].query, take_revocation, &listed, &err));
        assert_string_equal(listed.serials, cases[i].want);
    }
    OK(tenant_revocation_find(*state, h.id, take_revocation, &found, &err));
    assert_string_equal(found.serials, "3");
    OK(tenant_revocation_find(*state, "none", take_revocation, &found, &err));
    assert_int_equal(found.count, 1);
    for (int s = TENANT_REVOCATION_QUEUED; s < TENANT_REVOCATION_STATES; s++)
        assert_int_equal(tenant_revocation_state_parse(
                                 tenant_revocation_state_name((enum tenant_revocation_state)s)),
                s);
    assert_int_equal(tenant_revocation_state_parse("leased"), -1);
}

static void
lasts_on_disk(void **state)
{
    char folder[] = "/tmp/certconnector-tenant.XXXXXX";
    char uri[96], path[64];
    struct tenant_store *store = NULL;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/state.db", folder);
    (void)snprintf(uri, sizeof(uri), "sqlite:%s", path);
    OK(tenant_store_open(uri, &store, &err));
    add_pfx(store, "1-a", "one@x", "a");
    enqueue(store, 4, 100);
    (void)lease(store, "a", 1, 100);
    enqueue_documents(store, "{}", 1, 100);
    add_revocations(store, "A", 1, 2);
    (void)deliver(store, 1, 100);
    tenant_store_close(store);
    OK(tenant_store_open(uri, &store, &err));
    assert_int_equal(count(store).by_state[TENANT_QUEUED], 4);
    assert_int_equal(lease(store, "a", 9, 100).count, 3);
    assert_string_equal(lease_of(store, PKCS, "a", 9, 100).document, "{}/{\"o\":1}");
    assert_int_equal(deliver(store, 9, 100 + COOL - 1).count, 0);
    assert_string_equal(deliver(store, 9, 100 + COOL).serials, "2 1");
    tenant_store_close(store);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values),
        TEST(clients),
        TEST(client_certificates),
        TEST(assertions),
        TEST(tokens),
        TEST(users),
        TEST(pfx_list_and_choice),
        TEST(connectors),
        TEST(identities),
        TEST(identities_that_were_never_used),
        TEST(metrics),
        TEST(metrics_of_the_removed),
        TEST(releases),
        TEST(leases),
        TEST(bytes_bound_a_lease),
        TEST(renew_and_release),
        cmocka_unit_test(uploads),
        TEST(retries_end),
        TEST(spoiled_contexts),
        TEST(cancelling),
        TEST(nothing_for_an_unknown_pfx),
        TEST(history),
        TEST(request_lists),
        TEST(documents),
        TEST(documents_bound_a_lease),
        TEST(queues_are_apart),
        TEST(cool_down),
        cmocka_unit_test(revocation_filters),
        cmocka_unit_test(revocation_results),
        TEST(revocations_come_again),
        TEST(unknown_revocations),
        TEST(revocation_lists),
        cmocka_unit_test(lasts_on_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
