/* SPDX-License-Identifier: MIT */
#include "intune/graph.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/json.h"
#include "fake_service.h"

static struct fake fake;
static struct intune *intune;

static int
set_up(void **state)
{
    (void)state;
    fake_open(&fake);
    intune = fake_connect(&fake);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    intune_close(intune);
    fake_close(&fake);
    return 0;
}

static const struct intune_user_pfx sample = {
    .thumbprint = "F6F5F8F6",
    .user = "user1@contoso.example",
    .intended_purpose = "SMIMEencryption",
    .provider_name = "Contoso HSM",
    .key_name = "PFXEncryptionKey",
    .padding_scheme = "OaepSha512",
    .not_before_ms = INT64_C(1767225600000),
    .not_after_ms = INT64_C(1798761600000),
};

static const struct cc_bytes blob = { (const uint8_t *)"\x30\x82", 2 };
static const struct cc_bytes password = { (const uint8_t *)"\xff\xfe\xfd", 3 };

static void
create(void **state)
{
    static const struct fake_answer created[] = { { .status = 201, .body = "{\"id\":\"x\"}" } };
    struct cc_err err = { 0 };

    (void)state;
    cc_clock_set(INT64_C(1777636800000), 1000);
    fake_script(&fake, FAKE_GRAPH, created, 1);
    if (intune_user_pfx_put(intune, &sample, blob, password, false, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    cc_clock_real();
    assert_string_equal(fake.method[FAKE_GRAPH], "POST");
    assert_string_equal(fake.path[FAKE_GRAPH], "/beta/deviceManagement/userPfxCertificates");
    assert_string_equal(fake.body[FAKE_GRAPH],
            "{\"thumbprint\":\"f6f5f8f6\",\"intendedPurpose\":\"smimeEncryption\",\"userPrincipalName\":\"user1@contoso.example\","
            "\"startDateTime\":\"2026-01-01T00:00:00.000Z\",\"expirationDateTime\":\"2027-01-01T00:00:00.000Z\","
            "\"providerName\":\"Contoso HSM\",\"keyName\":\"PFXEncryptionKey\",\"paddingScheme\":\"oaepSha512\","
            "\"encryptedPfxBlob\":\"MII=\",\"encryptedPfxPassword\":\"//79\","
            "\"createdDateTime\":\"2026-05-01T12:00:00.000Z\",\"lastModifiedDateTime\":\"2026-05-01T12:00:00.000Z\"}");
    assert_string_equal(fake.authorization[FAKE_GRAPH], "Bearer tok-1");
    assert_string_equal(fake.api_version[FAKE_GRAPH], "-");
    assert_true(cc_is_uuid(fake.request_id[FAKE_GRAPH]));
    /* Neither discovery nor the service's token is needed, and contact is not the administrator's affair. */
    assert_int_equal(fake.calls[FAKE_TOKEN], 1);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 0);
    assert_non_null(strstr(fake.body[FAKE_TOKEN], "scope=http%3A%2F%2F127.0.0.1"));
    assert_non_null(strstr(fake.body[FAKE_TOKEN], "%2F.default"));
    assert_null(strstr(fake.body[FAKE_TOKEN], "%2F%2F.default"));
    assert_string_equal(fake.contacts, "");
}

static void
update(void **state)
{
    struct intune_user_pfx pfx = sample;
    struct cc_err err = { 0 };

    (void)state;
    (void)snprintf(pfx.id, sizeof(pfx.id), "5ffff976-f6f5");
    assert_int_equal(intune_user_pfx_put(intune, &pfx, blob, password, true, NULL), 0);
    assert_string_equal(fake.method[FAKE_GRAPH], "PATCH");
    assert_string_equal(fake.path[FAKE_GRAPH],
            "/beta/deviceManagement/userPfxCertificates('5ffff976-f6f5')");
    assert_null(strstr(fake.body[FAKE_GRAPH], "createdDateTime"));

    /* Without an id it is looked up. */
    (void)snprintf(fake.graph_answer, sizeof(fake.graph_answer),
            "{\"value\":[{\"id\":\"found-it\"}]}");
    assert_int_equal(intune_user_pfx_put(intune, &sample, blob, password, true, NULL), 0);
    assert_string_equal(fake.path[FAKE_GRAPH],
            "/beta/deviceManagement/userPfxCertificates('found-it')");
    (void)snprintf(fake.graph_answer, sizeof(fake.graph_answer), "{\"value\":[]}");
    assert_int_equal(intune_user_pfx_put(intune, &sample, blob, password, true, &err), -1);
    assert_int_equal(err.domain, CC_DOM_HTTP);
    assert_int_equal(err.code, 404);
}

static void
refusals(void **state)
{
    static const struct fake_answer conflict[] = { { .status = 409,
            .body = "{\"error\":{\"code\":\"Conflict\",\"message\":\"it is there\",\"innerError\":{}}}",
            .header = "request-id",
            .value = "g-1" } };
    struct cc_err err = { 0 };

    (void)state;
    fake_script(&fake, FAKE_GRAPH, conflict, 1);
    assert_int_equal(intune_user_pfx_put(intune, &sample, blob, password, false, &err), -1);
    assert_int_equal(err.domain, CC_DOM_HTTP);
    assert_int_equal(err.code, 409);
    assert_non_null(strstr(err.text, "Conflict: it is there"));
    assert_non_null(strstr(err.text, "request-id g-1"));
    assert_int_equal(fake.calls[FAKE_GRAPH], 1);
    assert_string_equal(fake.contacts, "");
}

/* Throttled more often than attempts are allowed, in each of the ways Graph says how long. */
static void
throttled(void **state)
{
    struct fake_answer busy[10];
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(busy); i++)
        busy[i] = (struct fake_answer){ .status = 429,
            .body = "",
            .header = i % 2 == 0 ? "x-ms-retry-after-ms" : "Retry-After",
            .value = i % 2 == 0 ? "2" : "0" };
    fake_script(&fake, FAKE_GRAPH, busy, CC_COUNT(busy));
    assert_int_equal(intune_user_pfx_put(intune, &sample, blob, password, false, NULL), 0);
    assert_int_equal(fake.calls[FAKE_GRAPH], CC_COUNT(busy) + 1);
}

struct listed {
    unsigned count;
    unsigned stop_at;
    struct intune_user_pfx last;
};

static int
take(void *arg, const struct intune_user_pfx *pfx)
{
    struct listed *listed = arg;

    listed->last = *pfx;
    return ++listed->count == listed->stop_at;
}

static void
list_one(void **state)
{
    struct listed listed = { 0 };
    struct cc_err err = { 0 };

    (void)state;
    (void)snprintf(fake.graph_answer, sizeof(fake.graph_answer),
            "{\"value\":[{\"id\":\"5ff-f6\",\"thumbprint\":\"f6\",\"intendedPurpose\":\"SmimeEncryption\",\"userPrincipalName\":\"u\","
            "\"startDateTime\":\"2016-12-31T23:58:46.7156189-07:00\",\"expirationDateTime\":\"2027-01-01T00:00:00Z\",\"providerName\":\"p\","
            "\"keyName\":\"k\",\"paddingScheme\":\"OAEPSHA256\",\"encryptedPfxBlob\":\"AA==\",\"encryptedPfxPassword\":\"\","
            "\"createdDateTime\":\"2026-05-01T12:00:00Z\",\"lastModifiedDateTime\":null}]}");
    if (intune_user_pfx_list(intune, "O'Neil@Contoso.example", "ABCDEF", take, &listed, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_string_equal(fake.method[FAKE_GRAPH], "GET");
    assert_string_equal(fake.filter,
            "tolower(userPrincipalName) eq 'o''neil@contoso.example' and tolower(thumbprint) eq 'abcdef'");
    assert_int_equal(listed.count, 1);
    assert_string_equal(listed.last.id, "5ff-f6");
    assert_string_equal(listed.last.intended_purpose, "smimeEncryption");
    assert_string_equal(listed.last.padding_scheme, "oaepSha256");
    assert_int_equal(listed.last.not_before_ms, INT64_C(1483253926715));
    assert_int_equal(listed.last.modified_ms, 0);

    assert_int_equal(intune_user_pfx_list(intune, NULL, "ab", take, &listed, NULL), 0);
    assert_string_equal(fake.filter, "tolower(thumbprint) eq 'ab'");
    assert_int_equal(intune_user_pfx_list(intune, NULL, NULL, take, &listed, NULL), 0);
    assert_string_equal(fake.filter, "-");
}

static void
pages(void **state)
{
    char first[256], second[256], elsewhere[4][256];
    struct fake_answer script[3] = { { .status = 200, .body = first },
        { .status = 200, .body = second },
        { .status = 200, .body = "{\"value\":[{\"id\":\"3\"}]}" } };
    struct listed listed = { 0 };
    size_t i;

    (void)state;
    (void)snprintf(first, sizeof(first),
            "{\"value\":[{\"id\":\"1\"},{\"id\":\"2\"}],\"@odata.nextLink\":\"%s/beta/next?$skiptoken=a%%20b\"}",
            fake.base);
    (void)snprintf(second, sizeof(second), "{\"value\":[],\"@odata.nextLink\":\"%s/beta/last\"}",
            fake.base);
    fake_script(&fake, FAKE_GRAPH, script, 3);
    assert_int_equal(intune_user_pfx_list(intune, NULL, NULL, take, &listed, NULL), 0);
    assert_int_equal(listed.count, 3);
    assert_int_equal(fake.calls[FAKE_GRAPH], 3);
    assert_string_equal(fake.path[FAKE_GRAPH], "/beta/last");

    /* The reader has enough. */
    listed = (struct listed){ .stop_at = 1 };
    fake_script(&fake, FAKE_GRAPH, script, 3);
    assert_int_equal(intune_user_pfx_list(intune, NULL, NULL, take, &listed, NULL), 0);
    assert_int_equal(listed.count, 1);
    assert_int_equal(fake.calls[FAKE_GRAPH], 4);

    /* Our token goes nowhere else. */
    (void)snprintf(elsewhere[0], sizeof(elsewhere[0]),
            "{\"value\":[],\"@odata.nextLink\":\"https://evil.example/beta/x\"}");
    (void)snprintf(elsewhere[1], sizeof(elsewhere[1]),
            "{\"value\":[],\"@odata.nextLink\":\"%s1/beta/x\"}", fake.base);
    (void)snprintf(elsewhere[2], sizeof(elsewhere[2]),
            "{\"value\":[],\"@odata.nextLink\":\"%s@evil.example/x\"}", fake.base);
    (void)snprintf(elsewhere[3], sizeof(elsewhere[3]),
            "{\"value\":[],\"@odata.nextLink\":\"/beta/x\"}");
    for (i = 0; i < 4; i++) {
        struct fake_answer evil = { .status = 200, .body = elsewhere[i] };
        struct cc_err err = { 0 };
        unsigned before = fake.calls[FAKE_GRAPH];

        fake_script(&fake, FAKE_GRAPH, &evil, 1);
        assert_int_equal(intune_user_pfx_list(intune, NULL, NULL, take, &listed, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_int_equal(fake.calls[FAKE_GRAPH], before + 1);
    }
}

static void
list_of_nonsense(void **state)
{
    static const char *const bad[] = { "{}", "{\"value\":{}}", "{\"value\":[7]}",
        "{\"value\":[{\"id\":7}]}", "{\"value\":[{\"startDateTime\":\"soon\"}]}",
        "{\"value\":[],\"@odata.nextLink\":7}", "[]", "" };
    struct listed listed = { 0 };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(bad); i++) {
        struct fake_answer answer = { .status = 200, .body = bad[i] };
        struct cc_err err = { 0 };

        fake_script(&fake, FAKE_GRAPH, &answer, 1);
        assert_int_equal(intune_user_pfx_list(intune, NULL, NULL, take, &listed, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
    }
    assert_int_equal(listed.count, 0);
}

static void
delete_one(void **state)
{
    static const struct fake_answer gone[] = { { .status = 204, .body = "" },
        { .status = 404, .body = "{}" } };
    static const char *const bad[] = { "", "a/b", "a'b", "a?b", "a#b", "..%2f" };
    struct cc_err err = { 0 };
    size_t i;

    (void)state;
    fake_script(&fake, FAKE_GRAPH, gone, 2);
    assert_int_equal(intune_user_pfx_delete(intune, "5ff-f6", NULL), 0);
    assert_string_equal(fake.method[FAKE_GRAPH], "DELETE");
    assert_string_equal(fake.path[FAKE_GRAPH],
            "/beta/deviceManagement/userPfxCertificates('5ff-f6')");
    assert_int_equal(intune_user_pfx_delete(intune, "5ff-f6", &err), -1);
    assert_int_equal(err.code, 404);
    assert_int_equal(fake.calls[FAKE_GRAPH], 2);
    for (i = 0; i < CC_COUNT(bad); i++) {
        cc_err_clear(&err);
        assert_int_equal(intune_user_pfx_delete(intune, bad[i], &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
    }
    assert_int_equal(fake.calls[FAKE_GRAPH], 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(create, set_up, tear_down),
        cmocka_unit_test_setup_teardown(update, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(throttled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(list_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(list_of_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(delete_one, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
