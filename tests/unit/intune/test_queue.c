/* SPDX-License-Identifier: MIT */
#include "intune/queue.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/json.h"
#include "fake_service.h"

#define CONNECTOR "9a0b1c2d-0000-0000-0000-000000000001"

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

static void
answer_with(const char *text)
{
    (void)snprintf(fake.service_answer, sizeof(fake.service_answer), "%s", text);
}

static void
error_code_names(void **state)
{
    static const struct {
        enum intune_error_code code;
        const char *want;
    } names[] = {
        { INTUNE_OK, "None" },
        { INTUNE_CERTIFICATE_NOT_FOUND_ERROR, "CertificateNotFoundError" },
        { INTUNE_AUTHENTICATION_EXCEPTION, "AuthenticationException" },
        { INTUNE_TOKEN_UNAVAILABLE, "TokenUnavailable" },
        { INTUNE_DECRYPT_FAILED, "DecryptFailed" },
        { (enum intune_error_code)12345, "NonRetryableServiceException" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(names); i++)
        assert_string_equal(intune_error_code_name(names[i].code), names[i].want);
}

static void
download_asks(void **state)
{
    static const struct {
        enum intune_queue queue;
        unsigned max;
        int64_t wait_ms;
        const char *want_path, *want_body;
    } asks[] = {
        { INTUNE_QUEUE_PFX_IMPORT, 10, 20000, "/svc/PfxImportRequests/download",
                "{\"downloadParameters\":{\"connectorId\":\"" CONNECTOR
                "\",\"maxRequests\":10,\"waitSeconds\":20}}" },
        { INTUNE_QUEUE_PKCS, 0, -5, "/svc/PkcsRequests/download",
                "{\"downloadParameters\":{\"connectorId\":\"" CONNECTOR
                "\",\"maxRequests\":1,\"waitSeconds\":0}}" },
        { INTUNE_QUEUE_PKCS, 1000, 99999, "/svc/PkcsRequests/download",
                "{\"downloadParameters\":{\"connectorId\":\"" CONNECTOR
                "\",\"maxRequests\":100,\"waitSeconds\":30}}" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(asks); i++) {
        struct intune_work *work = NULL;
        size_t count = 7, malformed = 7;

        assert_int_equal(intune_queue_download(intune, asks[i].queue, CONNECTOR, asks[i].max,
                                 asks[i].wait_ms, &work, &count, &malformed, NULL),
                0);
        assert_int_equal(count, 0);
        assert_int_equal(malformed, 0);
        assert_string_equal(fake.path[FAKE_SERVICE], asks[i].want_path);
        assert_string_equal(fake.body[FAKE_SERVICE], asks[i].want_body);
        intune_work_free(work, count);
    }
}

#define GOOD_ITEM(n, lease)                                                                        \
    "{\"requestContext\":\"ctx" n "\",\"requestId\":\"id" n                                        \
    "\",\"leaseExpirationDateTime\":\"" lease "\",\"attempt\":2,\"x\":{}}"
#define LEASE "2099-01-01T00:00:00Z"

static void
download_answers(void **state)
{
    static const struct {
        const char *answer;
        int want_rc;
        size_t want_count, want_malformed;
    } answers[] = {
        { "{\"value\":[]}", 0, 0, 0 },
        { "{\"value\":[" GOOD_ITEM("1", LEASE) "]}", 0, 1, 0 },
        { "{\"value\":[" GOOD_ITEM("1", LEASE) "," GOOD_ITEM("2", LEASE) "]}", 0, 2, 0 },
        { "{\"value\":[{}," GOOD_ITEM("1", LEASE) ",7,null,\"x\"]}", 0, 1, 4 },
        { "{\"value\":[" GOOD_ITEM("1", "soon") "]}", 0, 0, 1 },
        { "{\"value\":[{\"requestContext\":\"c\",\"leaseExpirationDateTime\":\"" LEASE "\"}]}", 0,
                0, 1 },
        { "{\"value\":[{\"requestContext\":\"\",\"requestId\":\"i\",\"leaseExpirationDateTime\":\"" LEASE
          "\"}]}",
                0, 0, 1 },
        { "{\"value\":[{\"requestContext\":5,\"requestId\":\"i\",\"leaseExpirationDateTime\":\"" LEASE
          "\"}]}",
                0, 0, 1 },
        { "{\"value\":[{\"requestContext\":\"c\",\"requestId\":\"i\",\"leaseExpirationDateTime\":\"" LEASE
          "\",\"attempt\":0}]}",
                0, 0, 1 },
        { "{\"value\":[{\"requestContext\":\"c\",\"requestId\":\"i\",\"leaseExpirationDateTime\":\"" LEASE
          "\"}]}",
                0, 1, 0 },
        { "{\"value\":{}}", -1, 0, 0 },
        { "{\"value\":null}", -1, 0, 0 },
        { "{}", -1, 0, 0 },
        { "[]", -1, 0, 0 },
        { "{\"value\":[" GOOD_ITEM("1", LEASE) "," GOOD_ITEM("2", LEASE) "," GOOD_ITEM("3",
                  LEASE) "," GOOD_ITEM("4", LEASE) "," GOOD_ITEM("5", LEASE) "," GOOD_ITEM("6",
                  LEASE) "]}",
                -1, 0, 0 },
    };
    size_t i, j;

    (void)state;
    for (i = 0; i < CC_COUNT(answers); i++) {
        struct intune_work *work = NULL;
        size_t count = 0, malformed = 0;
        struct cc_err err = { 0 };
        int rc;

        answer_with(answers[i].answer);
        rc = intune_queue_download(intune, INTUNE_QUEUE_PFX_IMPORT, CONNECTOR, 5, 0, &work, &count,
                &malformed, &err);
        if (rc != answers[i].want_rc || count != answers[i].want_count ||
                malformed != answers[i].want_malformed)
            fail_msg("%s: %d %zu %zu %s", answers[i].answer, rc, count, malformed,
                    cc_err_text(&err));
        if (rc != 0)
            assert_int_equal(err.domain, CC_DOM_INPUT);
        for (j = 0; j < count; j++) {
            assert_true(work[j].request_context[0] == 'c');
            assert_true(work[j].request_id[0] == 'i');
            assert_true(work[j].attempt == 2 || work[j].attempt == 1);
            assert_true(json_object_is_type(work[j].body, json_type_object));
        }
        intune_work_free(work, count);
    }
}

/* The service's clock is an hour ahead: the lease's length counts, not its end. */
static void
lease_by_our_clock(void **state)
{
    struct intune_work *work = NULL;
    size_t count = 0, malformed = 0;
    char answer[512], end[CC_TIME_LEN];
    int64_t now;

    (void)state;
    /* The listener's Date is the real time; our clock is set an hour behind. */
    cc_clock_real();
    now = cc_clock_now_ms();
    cc_time_format(now + 300000, end);
    (void)snprintf(answer, sizeof(answer),
            "{\"value\":[{\"requestContext\":\"c\",\"requestId\":\"i\",\"leaseExpirationDateTime\":\"%s\"}]}",
            end);
    answer_with(answer);
    cc_clock_set(now - 3600000, cc_clock_mono_ms());
    assert_int_equal(intune_queue_download(intune, INTUNE_QUEUE_PFX_IMPORT, CONNECTOR, 5, 0, &work,
                             &count, &malformed, NULL),
            0);
    assert_int_equal(count, 1);
    assert_true(work[0].lease_until_ms <= now - 3600000 + 300000);
    assert_true(work[0].lease_until_ms > now - 3600000 + 270000);
    intune_work_free(work, count);
    {
        struct intune_status status;

        intune_get_status(intune, &status);
        assert_true(status.clock_skew_ms > 3590000 && status.clock_skew_ms < 3660000);
    }
    cc_clock_real();
}

static void
renew(void **state)
{
    static const char *const contexts[] = { "a", "b", "c", "d\"\n" };
    int64_t until[4] = { 7, 7, 7, 7 };
    struct cc_err err = { 0 };

    (void)state;
    answer_with(
            "{\"value\":[{\"requestContext\":\"d\\\"\\n\",\"leaseExpirationDateTime\":\"2099-01-01T00:00:00Z\"},"
            "{\"requestContext\":\"b\",\"leaseExpirationDateTime\":null},"
            "{\"requestContext\":\"a\",\"leaseExpirationDateTime\":\"2099-01-01T00:00:00+01:00\"},{},3]}");
    assert_int_equal(intune_queue_renew(intune, INTUNE_QUEUE_PFX_IMPORT, CONNECTOR, contexts, 4,
                             until, &err),
            0);
    assert_string_equal(fake.path[FAKE_SERVICE], "/svc/PfxImportRequests/renewLeases");
    assert_string_equal(fake.body[FAKE_SERVICE],
            "{\"connectorId\":\"" CONNECTOR
            "\",\"requestContexts\":[\"a\",\"b\",\"c\",\"d\\\"\\n\"]}");
    assert_true(until[0] > cc_clock_now_ms());
    assert_int_equal(until[1], 0);
    assert_int_equal(until[2], 0);
    assert_true(until[3] > cc_clock_now_ms());
    /* No lease is for ever. */
    assert_true(until[3] <= cc_clock_now_ms() + 86400000);

    answer_with("{\"value\":true}");
    until[0] = 7;
    assert_int_equal(intune_queue_renew(intune, INTUNE_QUEUE_PFX_IMPORT, CONNECTOR, contexts, 4,
                             until, &err),
            -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_int_equal(until[0], 7);
}

static void
release(void **state)
{
    static const char *const contexts[] = { "a" };
    static const struct fake_answer empty[] = { { .status = 204, .body = "" } };

    (void)state;
    fake_script(&fake, FAKE_SERVICE, empty, 1);
    assert_int_equal(intune_queue_release(intune, INTUNE_QUEUE_PKCS, CONNECTOR, contexts, 1, NULL),
            0);
    assert_string_equal(fake.path[FAKE_SERVICE], "/svc/PkcsRequests/release");
    assert_string_equal(fake.body[FAKE_SERVICE],
            "{\"connectorId\":\"" CONNECTOR "\",\"requestContexts\":[\"a\"]}");
    assert_int_equal(intune_queue_release(intune, INTUNE_QUEUE_PKCS, CONNECTOR, contexts, 1, NULL),
            0);
}

static void
upload(void **state)
{
    static const char *const results[] = { "{\"requestContext\":\"a\",\"succeeded\":true}",
        "{\"requestContext\":\"b\"}", "{\"requestContext\":\"c\"}", "{\"requestContext\":\"d\"}" };
    static const struct {
        const char *answer;
        int want_rc;
        enum intune_verdict want[4];
    } answers[] = {
        { "{\"value\":[{\"requestContext\":\"d\",\"status\":\"unknown\"},{\"requestContext\":\"a\",\"status\":\"accepted\"},"
          "{\"requestContext\":\"b\",\"status\":\"alreadyCompleted\"},{\"requestContext\":\"c\",\"status\":\"LEASELOST\"}]}",
                0,
                { INTUNE_ACCEPTED, INTUNE_ALREADY_COMPLETED, INTUNE_LEASE_LOST, INTUNE_UNKNOWN } },
        { "{\"value\":[{\"requestContext\":\"d\",\"status\":\"new\"},{\"requestContext\":\"a\",\"status\":\"accepted\"},"
          "{\"requestContext\":\"b\",\"status\":\"accepted\"},{\"requestContext\":\"c\",\"status\":\"accepted\"}]}",
                0, { INTUNE_ACCEPTED, INTUNE_ACCEPTED, INTUNE_ACCEPTED, INTUNE_UNKNOWN } },
        { "{\"value\":[{\"requestContext\":\"a\",\"status\":\"accepted\"}]}", 0,
                { INTUNE_ACCEPTED } },
        { "{\"value\":[{\"requestContext\":\"d\",\"status\":7},{\"requestContext\":\"a\",\"status\":\"accepted\"},"
          "{\"requestContext\":\"b\",\"status\":\"accepted\"},{\"requestContext\":\"c\",\"status\":\"accepted\"}]}",
                0, { INTUNE_ACCEPTED, INTUNE_ACCEPTED, INTUNE_ACCEPTED, INTUNE_NO_VERDICT } },
        { "{\"value\":[]}", 0, { INTUNE_NO_VERDICT } },
        { "{}", -1, { 0 } },
    };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(answers); i++) {
        enum intune_verdict verdicts[4] = { 0 };
        struct cc_err err = { 0 };

        answer_with(answers[i].answer);
        if (intune_queue_upload(intune, INTUNE_QUEUE_PFX_IMPORT, CONNECTOR, results, 4, verdicts,
                    &err) != answers[i].want_rc)
            fail_msg("case %zu: %s", i, cc_err_text(&err));
        assert_memory_equal(verdicts, answers[i].want, sizeof(verdicts));
        if (answers[i].want_rc != 0)
            assert_int_equal(err.domain, CC_DOM_INPUT);
    }
    assert_string_equal(fake.path[FAKE_SERVICE], "/svc/PfxImportRequests/upload");
    assert_string_equal(fake.body[FAKE_SERVICE],
            "{\"connectorId\":\"" CONNECTOR
            "\",\"results\":[{\"requestContext\":\"a\",\"succeeded\":true},"
            "{\"requestContext\":\"b\"},{\"requestContext\":\"c\"},{\"requestContext\":\"d\"}]}");
}

/* What is no result never leaves the house. */
static void
upload_of_nonsense(void **state)
{
    static const char *const bad[] = { "", "{", "[]", "{}", "{\"requestContext\":\"\"}",
        "{\"requestContext\":\"a\"},{}", "{\"requestContext\":1}" };
    enum intune_verdict verdict = 0;
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(bad); i++) {
        struct cc_err err = { 0 };

        assert_int_equal(intune_queue_upload(intune, INTUNE_QUEUE_PFX_IMPORT, CONNECTOR, &bad[i], 1,
                                 &verdict, &err),
                -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
    }
    assert_int_equal(fake.calls[FAKE_SERVICE], 0);
}

/* A held answer ends at the timeout, and a long poll only at its own time beyond it. */
static void
long_poll_has_its_time(void **state)
{
    static const struct fake_answer hold[] = { { .status = 200, .hold = true },
        { .status = 200, .hold = true } };
    struct intune_settings settings = fake_settings(&fake);
    struct intune_work *work = NULL;
    size_t count, malformed, i;
    struct cc_err err = { 0 };
    int64_t start;

    (void)state;
    assert_int_equal(intune_heartbeat(intune, json_object_new_object(), NULL, NULL), 0);
    settings.timeout_ms = 300;
    settings.attempts = 1;
    assert_int_equal(intune_reconfigure(intune, &settings, NULL), 0);
    fake_script(&fake, FAKE_SERVICE, hold, 2);
    start = cc_clock_mono_ms();
    assert_int_equal(intune_queue_download(intune, INTUNE_QUEUE_PKCS, CONNECTOR, 1, 0, &work,
                             &count, &malformed, &err),
            -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    assert_true(cc_clock_mono_ms() - start < 1200);
    start = cc_clock_mono_ms();
    assert_int_equal(intune_queue_download(intune, INTUNE_QUEUE_PKCS, CONNECTOR, 1, 1000, &work,
                             &count, &malformed, NULL),
            -1);
    assert_true(cc_clock_mono_ms() - start >= 1300);
    fake_wait_calls(&fake, FAKE_SERVICE, 3);
    for (i = 0; i < 2; i++)
        http_exchange_drop(fake.held[i]);
}

static void
heartbeat_gives_the_answer(void **state)
{
    json_object *heartbeat = json_object_new_object();
    struct intune_lifecycle lifecycle = { .standing = INTUNE_STANDING_UNKNOWN };

    (void)state;
    assert_int_equal(cc_json_add_str(heartbeat, "connectorId", CONNECTOR, NULL), 0);
    answer_with(
            "{\"status\":\"Warning\",\"statusReason\":\"a newer one\",\"latestVersion\":\"9.1\","
            "\"supportedUntilDateTime\":\"1970-01-01T00:00:01Z\",\"features\":[\"scep\"]}");
    assert_int_equal(intune_heartbeat(intune, heartbeat, &lifecycle, NULL), 0);
    assert_string_equal(fake.body[FAKE_SERVICE],
            "{\"heartbeat\":{\"connectorId\":\"" CONNECTOR "\"}}");
    assert_int_equal(lifecycle.standing, INTUNE_STANDING_WARNING);
    assert_string_equal(lifecycle.reason, "a newer one");
    assert_string_equal(lifecycle.latest_version, "9.1");
    assert_int_equal(lifecycle.supported_until_ms, 1000);
    assert_true(intune_lifecycle_allows(&lifecycle, "scep"));
    assert_false(intune_lifecycle_allows(&lifecycle, "pkcs"));
}

/* A service that says little says nothing against us. */
static void
heartbeat_answers(void **state)
{
    static const struct {
        const char *answer;
        enum intune_standing want;
        bool want_pkcs;
    } cases[] = {
        { "{}", INTUNE_STANDING_UNKNOWN, true },
        { "{\"status\":\"Active\",\"supportedUntilDateTime\":null,\"features\":null}",
                INTUNE_STANDING_ACTIVE, true },
        { "{\"status\":\"Error\",\"features\":[]}", INTUNE_STANDING_ERROR, false },
        { "{\"status\":\"Splendid\",\"features\":[\"pkcs\"]}", INTUNE_STANDING_UNKNOWN, true },
        { "{\"features\":[\"pkcs-and-thirty-more-letters-than-any-of-ours\"]}",
                INTUNE_STANDING_UNKNOWN, false },
    };
    static const char *const spoiled[] = {
        "{\"status\":1}",
        "{\"statusReason\":[]}",
        "{\"latestVersion\":{}}",
        "{\"supportedUntilDateTime\":\"soon\"}",
        "{\"features\":\"pkcs\"}",
        "{\"features\":[\"pkcs\",7]}",
        "[]",
    };
    struct intune_lifecycle lifecycle = { .standing = INTUNE_STANDING_ERROR };
    struct cc_err err = { 0 };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        answer_with(cases[i].answer);
        assert_int_equal(intune_heartbeat(intune, json_object_new_object(), &lifecycle, NULL), 0);
        assert_int_equal(lifecycle.standing, cases[i].want);
        assert_int_equal(lifecycle.supported_until_ms, 0);
        assert_int_equal(intune_lifecycle_allows(&lifecycle, "pkcs"), cases[i].want_pkcs);
    }
    lifecycle.standing = INTUNE_STANDING_WARNING;
    for (size_t i = 0; i < CC_COUNT(spoiled); i++) {
        cc_err_clear(&err);
        answer_with(spoiled[i]);
        assert_int_equal(intune_heartbeat(intune, json_object_new_object(), &lifecycle, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_int_equal(lifecycle.standing, INTUNE_STANDING_WARNING);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_code_names),
        cmocka_unit_test_setup_teardown(download_asks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(download_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lease_by_our_clock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(renew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(release, set_up, tear_down),
        cmocka_unit_test_setup_teardown(upload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(upload_of_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_poll_has_its_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(heartbeat_gives_the_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(heartbeat_answers, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
