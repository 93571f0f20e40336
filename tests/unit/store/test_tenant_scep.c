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

/* ---- challenges ---- */

static void
add_challenge(struct tenant_store *store, const char *id)
{
    struct tenant_new_scep_challenge c = { .document = "{\"a\":1}",
        .issued_ms = 1000,
        .expires_ms = 2000 };

    (void)cc_strcpy(c.id, sizeof(c.id), id);
    OK(tenant_scep_challenge_add(store, &c, 1, &err));
}

/* "id document issued-expires targeted transaction hash" */
struct found {
    char text[256];
    int count;
};

static int
take_challenge(void *arg, const struct tenant_scep_challenge *c)
{
    struct found *f = arg;

    f->count++;
    (void)snprintf(f->text, sizeof(f->text), "%s %s %d-%d %d %s %.*s", c->id, c->document,
            (int)c->issued_ms, (int)c->expires_ms, c->targeted,
            c->transaction_id != NULL ? c->transaction_id : "-", (int)c->csr_hash.len,
            c->csr_hash.data != NULL ? (const char *)c->csr_hash.data : "");
    return 0;
}

static void
assert_challenge(struct tenant_store *store, const char *id, const char *want)
{
    struct found f = { .text = "" };

    OK(tenant_scep_challenge_find(store, id, take_challenge, &f, &err));
    assert_int_equal(f.count, want[0] != '\0');
    assert_string_equal(f.text, want);
}

static void
challenges(void **state)
{
    bool found;

    assert_challenge(*state, "c1", "");
    add_challenge(*state, "c1");
    add_challenge(*state, "c2");
    assert_challenge(*state, "c2", "c2 {\"a\":1} 1000-2000 1 - ");
    OK(tenant_scep_challenge_untarget(*state, "c1", &found, &err));
    assert_true(found);
    OK(tenant_scep_challenge_untarget(*state, "c3", &found, &err));
    assert_false(found);
    assert_challenge(*state, "c1", "c1 {\"a\":1} 1000-2000 0 - ");
    assert_challenge(*state, "c2", "c2 {\"a\":1} 1000-2000 1 - ");
}

/* None of several is added when one cannot be. */
static void
challenges_at_once(void **state)
{
    struct tenant_new_scep_challenge c[] = { { .id = "c1", .document = "{}" },
        { .id = "c1", .document = "{}" } };

    assert_int_equal(tenant_scep_challenge_add(*state, c, 2, NULL), -1);
    assert_challenge(*state, "c1", "");
    OK(tenant_scep_challenge_add(*state, c, 1, &err));
    assert_challenge(*state, "c1", "c1 {} 0-0 1 - ");
}

/* ---- transactions ---- */

/* challenge NULL: refused as "Bad". */
static bool
validate(struct tenant_store *store, const char *transaction, const char *hash,
        const char *challenge, int64_t now_ms)
{
    struct tenant_scep_validation v = { .transaction_id = transaction,
        .csr_hash = cc_bytes_of_str(hash),
        .code = challenge != NULL ? "Success" : "Bad",
        .challenge_id = challenge,
        .bound_code = "Bound",
        .now_ms = now_ms };
    bool bound = false;

    OK(tenant_scep_validate(store, &v, &bound, &err));
    return bound;
}

static enum tenant_scep_verdict
notify(struct tenant_store *store, const char *transaction, const char *hash,
        enum tenant_scep_outcome outcome, const char *text, int64_t now_ms)
{
    struct tenant_scep_notification n = { .transaction_id = transaction,
        .csr_hash = cc_bytes_of_str(hash),
        .outcome = outcome,
        .text = text,
        .caller_info = "caller",
        .now_ms = now_ms };
    enum tenant_scep_verdict verdict = 0;

    OK(tenant_scep_notify(store, &n, &verdict, &err));
    return verdict;
}

struct listed {
    char text[1024];
    int count, stop_after;
    int64_t last_seq;
};

static int
take_transaction(void *arg, const struct tenant_scep_transaction *t)
{
    struct listed *l = arg;
    size_t len = strlen(l->text);

    (void)snprintf(l->text + len, sizeof(l->text) - len,
            "%s/%.*s %s %d %s %d-%d, %d %s %s %d %d %d-%d;", t->transaction_id,
            (int)t->csr_hash.len, (const char *)t->csr_hash.data,
            t->challenge_id != NULL ? t->challenge_id : "-", (int)t->validations, t->last_code,
            (int)t->first_ms, (int)t->last_ms, (int)t->outcome,
            t->notification != NULL ? t->notification : "-",
            t->caller_info != NULL ? t->caller_info : "-", (int)t->notifications,
            (int)t->contradictions, (int)t->notified_ms, (int)t->notified_last_ms);
    l->last_seq = t->seq;
    return ++l->count == l->stop_after;
}

static void
assert_transactions(struct tenant_store *store, const char *transaction, const char *want)
{
    struct tenant_scep_query q = { .transaction_id = transaction, .limit = 100 };
    struct listed l = { .text = "" };

    OK(tenant_scep_list(store, &q, take_transaction, &l, &err));
    assert_string_equal(l.text, want);
}

static struct tenant_scep_counts
count(struct tenant_store *store)
{
    struct tenant_scep_counts counts;

    OK(tenant_scep_count(store, &counts, &err));
    return counts;
}

static void
binding(void **state)
{
    add_challenge(*state, "c1");
    assert_true(validate(*state, "t1", "A", NULL, 1));
    assert_challenge(*state, "c1", "c1 {\"a\":1} 1000-2000 1 - ");
    assert_true(validate(*state, "t1", "A", "c1", 2));
    assert_challenge(*state, "c1", "c1 {\"a\":1} 1000-2000 1 t1 A");
    assert_true(validate(*state, "t1", "A", "c1", 3));
    assert_false(validate(*state, "t1", "B", "c1", 4));
    assert_false(validate(*state, "t2", "A", "c1", 5));
    assert_false(validate(*state, "t1", "A", "c9", 6));
    assert_challenge(*state, "c1", "c1 {\"a\":1} 1000-2000 1 t1 A");
    assert_transactions(*state, NULL,
            "t1/A c1 4 Bound 1-6, 0 - - 0 0 0-0;"
            "t1/B - 1 Bound 4-4, 0 - - 0 0 0-0;"
            "t2/A - 1 Bound 5-5, 0 - - 0 0 0-0;");
    assert_int_equal(count(*state).validated, 2);
    assert_int_equal(count(*state).refused, 4);
}

static void
notifications(void **state)
{
    static const struct {
        enum tenant_scep_outcome first, second;
        const char *first_text, *second_text;
        enum tenant_scep_verdict want;
    } cases[] = {
        { TENANT_SCEP_SUCCEEDED, TENANT_SCEP_SUCCEEDED, "x", "x", TENANT_SCEP_REPEATED },
        { TENANT_SCEP_FAILED, TENANT_SCEP_FAILED, "x", "x", TENANT_SCEP_REPEATED },
        { TENANT_SCEP_SUCCEEDED, TENANT_SCEP_SUCCEEDED, "x", "X", TENANT_SCEP_CONTRADICTED },
        { TENANT_SCEP_FAILED, TENANT_SCEP_FAILED, "x", "xx", TENANT_SCEP_CONTRADICTED },
        { TENANT_SCEP_SUCCEEDED, TENANT_SCEP_FAILED, "x", "x", TENANT_SCEP_CONTRADICTED },
        { TENANT_SCEP_FAILED, TENANT_SCEP_SUCCEEDED, "x", "x", TENANT_SCEP_CONTRADICTED },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        bool repeated = cases[i].want == TENANT_SCEP_REPEATED;
        void *store = NULL;
        char want[128];

        (void)setup(&store);
        add_challenge(store, "c1");
        (void)validate(store, "t1", "A", "c1", 1);
        assert_int_equal(notify(store, "t1", "A", cases[i].first, cases[i].first_text, 7),
                TENANT_SCEP_ACCEPTED);
        for (int64_t k = 8; k < 10; k++)
            assert_int_equal(notify(store, "t1", "A", cases[i].second, cases[i].second_text, k),
                    cases[i].want);
        (void)snprintf(want, sizeof(want), "t1/A c1 1 Success 1-1, %d x caller %d %d 7-%d;",
                (int)cases[i].first, repeated ? 3 : 1, repeated ? 0 : 2, repeated ? 9 : 7);
        assert_transactions(store, NULL, want);
        assert_int_equal(count(store).succeeded, cases[i].first == TENANT_SCEP_SUCCEEDED);
        assert_int_equal(count(store).failed, cases[i].first == TENANT_SCEP_FAILED);
        assert_int_equal(count(store).repeated, repeated ? 2 : 0);
        assert_int_equal(count(store).contradicted, repeated ? 0 : 2);
        (void)teardown(&store);
    }
}

static void
nothing_without_a_validation(void **state)
{
    add_challenge(*state, "c1");
    (void)validate(*state, "t1", "A", "c1", 1);
    (void)validate(*state, "t2", "B", NULL, 1);
    assert_int_equal(notify(*state, "t1", "B", TENANT_SCEP_SUCCEEDED, "x", 2), TENANT_SCEP_UNKNOWN);
    assert_int_equal(notify(*state, "t2", "A", TENANT_SCEP_SUCCEEDED, "x", 2), TENANT_SCEP_UNKNOWN);
    assert_int_equal(notify(*state, "t2", "B", TENANT_SCEP_FAILED, "x", 2), TENANT_SCEP_UNKNOWN);
    assert_transactions(*state, NULL,
            "t1/A c1 1 Success 1-1, 0 - - 0 0 0-0;t2/B - 1 Bad 1-1, 0 - - 0 0 0-0;");
    assert_int_equal(count(*state).unknown, 3);
    /* A later refusal takes nothing back. */
    (void)validate(*state, "t1", "A", NULL, 3);
    assert_int_equal(notify(*state, "t1", "A", TENANT_SCEP_SUCCEEDED, "x", 4),
            TENANT_SCEP_ACCEPTED);
    assert_transactions(*state, "t1", "t1/A c1 2 Bad 1-3, 1 x caller 1 0 4-4;");
}

static void
lists(void **state)
{
    struct tenant_scep_query q = { .limit = 2 };
    struct listed l = { .text = "" };

    for (int64_t i = 0; i < 5; i++)
        (void)validate(*state, i % 2 == 0 ? "even" : "odd",
                i < 2   ? "A"
                : i < 4 ? "B"
                        : "C",
                NULL, i);
    OK(tenant_scep_list(*state, &q, take_transaction, &l, &err));
    assert_int_equal(l.count, 2);
    q.after_seq = l.last_seq;
    q.limit = 9;
    l = (struct listed){ .stop_after = 2 };
    OK(tenant_scep_list(*state, &q, take_transaction, &l, &err));
    assert_string_equal(l.text,
            "even/B - 1 Bad 2-2, 0 - - 0 0 0-0;odd/B - 1 Bad 3-3, 0 - - 0 0 0-0;");
    q.transaction_id = "even";
    l = (struct listed){ .text = "" };
    OK(tenant_scep_list(*state, &q, take_transaction, &l, &err));
    assert_string_equal(l.text,
            "even/B - 1 Bad 2-2, 0 - - 0 0 0-0;even/C - 1 Bad 4-4, 0 - - 0 0 0-0;");
    assert_transactions(*state, "EVEN", "");
}

static int
take_number(void *arg, const struct tenant_scep_transaction *t)
{
    struct listed *l = arg;

    if (l->count++ == 0)
        (void)cc_strcpy(l->text, sizeof(l->text), t->transaction_id);
    return 0;
}

/* Those that were refused are many and nobody asked for them; those that were good stay. */
static void
refused_are_forgotten(void **state)
{
    struct tenant_scep_query q = { .limit = 2 * TENANT_SCEP_REFUSED_MAX };
    struct listed l = { .text = "" };
    char name[16];

    add_challenge(*state, "c1");
    (void)validate(*state, "good", "A", "c1", 1);
    for (int i = 1; i <= TENANT_SCEP_REFUSED_MAX + 3; i++) {
        (void)snprintf(name, sizeof(name), "%d", i);
        (void)validate(*state, name, "A", NULL, 1);
    }
    OK(tenant_scep_list(*state, &q, take_number, &l, &err));
    assert_int_equal(l.count, TENANT_SCEP_REFUSED_MAX + 1);
    assert_string_equal(l.text, "good");
    assert_transactions(*state, "3", "");
    assert_transactions(*state, "4", "4/A - 1 Bad 1-1, 0 - - 0 0 0-0;");
}

static void
lasts_on_disk(void **state)
{
    char folder[] = "/tmp/certconnector-tenant-scep.XXXXXX";
    char uri[96], path[64];
    struct tenant_store *store = NULL;

    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/state.db", folder);
    (void)snprintf(uri, sizeof(uri), "sqlite:%s", path);
    OK(tenant_store_open(uri, &store, &err));
    add_challenge(store, "c1");
    (void)validate(store, "t1", "A", "c1", 1);
    (void)notify(store, "t1", "A", TENANT_SCEP_SUCCEEDED, "x", 2);
    tenant_store_close(store);
    OK(tenant_store_open(uri, &store, &err));
    assert_challenge(store, "c1", "c1 {\"a\":1} 1000-2000 1 t1 A");
    assert_transactions(store, NULL, "t1/A c1 1 Success 1-1, 1 x caller 1 0 2-2;");
    assert_false(validate(store, "t1", "B", "c1", 3));
    assert_int_equal(notify(store, "t1", "A", TENANT_SCEP_SUCCEEDED, "x", 4), TENANT_SCEP_REPEATED);
    tenant_store_close(store);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(challenges),
        TEST(challenges_at_once),
        TEST(binding),
        cmocka_unit_test(notifications),
        TEST(nothing_without_a_validation),
        TEST(lists),
        TEST(refused_are_forgotten),
        cmocka_unit_test(lasts_on_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
