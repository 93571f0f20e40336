/* SPDX-License-Identifier: MIT */
#include "intune/scep.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/json.h"
#include "fake_service.h"

#define VALIDATE_PATH "/svc/scep/ScepActions/validateRequest"
#define SUCCESS_PATH "/svc/scep/ScepActions/successNotification"
#define FAILURE_PATH "/svc/scep/ScepActions/failureNotification"
#define VERSION "2018-02-20"
#define TAKEN                                                                                      \
    "{\"@odata.context\":\"https://fef.msuc05.manage.microsoft.com/RACerts/"                       \
    "StatelessScepRequestValidationService/$metadata#scepActionResult\",\"code\":\"Success\","     \
    "\"errorDescription\":\"\"}"

static struct fake fake;
static struct intune *intune;

static int
set_up(void **state)
{
    (void)state;
    fake_open(&fake);
    (void)snprintf(fake.service_answer, sizeof(fake.service_answer), "%s", TAKEN);
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

static int
validate(int64_t deadline, struct intune_scep_answer *ret, struct cc_err *err)
{
    return intune_scep_validate(intune, "tx1", cc_bytes_of_str("BASE64"), deadline, ret, err);
}

static int
notify(int64_t deadline, struct intune_scep_answer *ret, struct cc_err *err)
{
    return intune_scep_notify(intune, INTUNE_SCEP_SUCCESS, "{\"transactionId\":\"tx1\"}", deadline,
            ret, err);
}

/* ---- what is sent ---- */

static void
validate_asks(void **state)
{
    static const struct {
        const char *transaction_id, *csr, *want_body;
    } asks[] = {
        { "tx1", "BASE64",
                "{\"request\":{\"transactionId\":\"tx1\",\"certificateRequest\":\"QkFTRTY0\","
                "\"callerInfo\":\"unit/1\"}}" },
        { "A\"\\/\xC3\xA9\n", "\xff\xff\xfe?",
                "{\"request\":{\"transactionId\":\"A\\\"\\\\/\xC3\xA9\\n\","
                "\"certificateRequest\":\"///+Pw==\",\"callerInfo\":\"unit/1\"}}" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(asks); i++) {
        struct intune_scep_answer answer = { 0 };

        assert_int_equal(intune_scep_validate(intune, asks[i].transaction_id,
                                 cc_bytes_of_str(asks[i].csr), cc_deadline_in(30000), &answer,
                                 NULL),
                0);
        assert_true(answer.accepted);
        assert_string_equal(answer.code, "Success");
        assert_string_equal(answer.description, "");
        assert_string_equal(fake.method[FAKE_SERVICE], "POST");
        assert_string_equal(fake.path[FAKE_SERVICE], VALIDATE_PATH);
        assert_string_equal(fake.body[FAKE_SERVICE], asks[i].want_body);
        assert_string_equal(fake.api_version[FAKE_SERVICE], VERSION);
        assert_string_equal(fake.user_agent[FAKE_SERVICE], "unit/1");
        assert_string_equal(fake.content_type[FAKE_SERVICE], "application/json");
        assert_true(cc_starts_with(fake.authorization[FAKE_SERVICE], "Bearer tok-"));
        assert_true(cc_is_uuid(fake.request_id[FAKE_SERVICE]));
    }
    /* Signed in and discovered once for both; Graph hears nothing of the service's own headers. */
    assert_int_equal(fake.calls[FAKE_TOKEN], 2);
    assert_int_equal(fake.calls[FAKE_DISCOVERY], 1);
    assert_string_equal(fake.user_agent[FAKE_DISCOVERY], "-");
    assert_string_equal(fake.api_version[FAKE_DISCOVERY], "-");
}

/* A request of a size that real ones have goes out whole. */
static void
large_requests_go_out(void **state)
{
    static uint8_t csr[5001];
    struct cc_buf text = CC_BUF_INIT(8192);
    struct intune_scep_answer answer = { 0 };

    (void)state;
    memset(csr, 'x', sizeof(csr));
    assert_int_equal(cc_base64(csr, sizeof(csr), &text, NULL), 0);
    assert_int_equal(intune_scep_validate(intune, "tx1", (struct cc_bytes){ csr, sizeof(csr) },
                             cc_deadline_in(30000), &answer, NULL),
            0);
    assert_non_null(strstr(fake.body[FAKE_SERVICE], cc_buf_str(&text)));
    cc_buf_free(&text);
}

static void
no_request_of_bad_text(void **state)
{
    struct intune_scep_answer answer = { .code = "untouched" };
    static uint8_t huge[1 << 20];
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(intune_scep_validate(intune, "t\xff", cc_bytes_of_str("x"), 0, &answer, &err),
            -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    cc_err_clear(&err);
    assert_int_equal(intune_scep_validate(intune, "t", (struct cc_bytes){ huge, sizeof(huge) }, 0,
                             &answer, &err),
            -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_string_equal(answer.code, "untouched");
    assert_int_equal(fake.calls[FAKE_SERVICE], 0);
}

static const struct intune_scep_success success = {
    .transaction_id = "tx1",
    .csr = { (const uint8_t *)"BASE64", 6 },
    .thumbprint = "AABB",
    .serial_number = "01",
    .not_after_ms = INT64_C(1812730280090),
    .issuer = "CN=CA, O=\"\xC3\x9C\"",
};

#define SUCCESS_TEXT                                                                               \
    "{\"transactionId\":\"tx1\",\"certificateRequest\":\"QkFTRTY0\","                              \
    "\"certificateThumbprint\":\"AABB\",\"certificateSerialNumber\":\"01\","                       \
    "\"certificateExpirationDateUtc\":\"2027-06-11T16:11:20.090Z\","                               \
    "\"issuingCertificateAuthority\":\"CN=CA, O=\\\"\xC3\x9C\\\"\""

static void
writes_successes(void **state)
{
    struct intune_scep_success with = success;
    struct cc_buf text = CC_BUF_INIT(4096);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(intune_scep_success_write(&with, &text, NULL), 0);
    assert_string_equal(cc_buf_str(&text), SUCCESS_TEXT "}");
    cc_buf_reset(&text);
    with.ca_configuration = "corp";
    with.certificate_authority = "ca1";
    assert_int_equal(cc_buf_add_str(&text, "x", NULL), 0);
    assert_int_equal(intune_scep_success_write(&with, &text, NULL), 0);
    assert_string_equal(cc_buf_str(&text),
            "x" SUCCESS_TEXT ",\"caConfiguration\":\"corp\",\"certificateAuthority\":\"ca1\"}");

    /* What cannot be written whole is not there at all. */
    with.certificate_authority = "\xC3";
    assert_int_equal(intune_scep_success_write(&with, &text, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_string_equal(strrchr(cc_buf_str(&text), ':'), ":\"ca1\"}");
    cc_buf_free(&text);
    text = (struct cc_buf)CC_BUF_INIT(200);
    assert_int_equal(intune_scep_success_write(&success, &text, NULL), -1);
    assert_string_equal(cc_buf_str(&text), "");
    cc_buf_free(&text);
}

/* count times text. */
static char *
many(const char *text, size_t count)
{
    size_t len = strlen(text);
    char *ret = calloc(count * len + 1, 1);

    assert_non_null(ret);
    for (size_t i = 0; i < count; i++)
        memcpy(ret + i * len, text, len);
    return ret;
}

static void
writes_failures(void **state)
{
    static const struct {
        const char *description;
        size_t times;
        uint32_t hresult;
        const char *want, *want_description;
        size_t want_times;
    } cases[] = {
        { "CA down", 1, 0x8000ffff, "2147549183", "CA down", 1 },
        { "", 1, 0, "0", "no certificate was issued", 1 },
        { NULL, 0, 1, "1", "no certificate was issued", 1 },
        { "\"\n", 1, UINT32_MAX, "4294967295", "\\\"\\n", 1 },
        { "a", 255, 1, "1", "a", 255 },
        { "a", 256, 1, "1", "a", 255 },
        { "\xC3\xA9", 255, 1, "1", "\xC3\xA9", 255 },
        { "\xC3\xA9", 256, 1, "1", "\xC3\xA9", 255 },
        { "\xE2\x82\xAC", 300, 1, "1", "\xE2\x82\xAC", 255 },
        { "\xF0\x9F\x98\x80", 127, 1, "1", "\xF0\x9F\x98\x80", 127 },
        { "\xF0\x9F\x98\x80", 128, 1, "1", "\xF0\x9F\x98\x80", 127 },
    };
    struct intune_scep_failure bad = { "tx1", { (const uint8_t *)"BASE64", 6 }, 1, "\xF0\x9F" };
    struct cc_buf text = CC_BUF_INIT(4096);
    struct cc_err err = { 0 };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        char *description =
                cases[i].description == NULL ? NULL : many(cases[i].description, cases[i].times);
        char *want_description = many(cases[i].want_description, cases[i].want_times);
        const struct intune_scep_failure failure = { "tx1", cc_bytes_of_str("BASE64"),
            cases[i].hresult, description };
        char want[2048];

        (void)snprintf(want, sizeof(want),
                "{\"transactionId\":\"tx1\",\"certificateRequest\":\"QkFTRTY0\",\"hResult\":%s,"
                "\"errorDescription\":\"%s\"}",
                cases[i].want, want_description);
        cc_buf_reset(&text);
        assert_int_equal(intune_scep_failure_write(&failure, &text, NULL), 0);
        assert_string_equal(cc_buf_str(&text), want);
        free(description);
        free(want_description);
    }
    cc_buf_reset(&text);
    assert_int_equal(intune_scep_failure_write(&bad, &text, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    bad.description = "x";
    bad.transaction_id = "\xff";
    assert_int_equal(intune_scep_failure_write(&bad, &text, NULL), -1);
    assert_int_equal(text.len, 0);
    cc_buf_free(&text);
}

/* Who sends it is named by who sends it, so that a text may be older than the program. */
static void
notifications_are_sent(void **state)
{
    struct intune_settings newer = fake_settings(&fake);
    struct intune_scep_answer answer = { 0 };
    struct cc_buf text = CC_BUF_INIT(4096);

    (void)state;
    assert_int_equal(intune_scep_success_write(&success, &text, NULL), 0);
    newer.caller_info = "unit/2 \"new\"";
    assert_int_equal(intune_reconfigure(intune, &newer, NULL), 0);
    assert_int_equal(intune_scep_notify(intune, INTUNE_SCEP_SUCCESS, cc_buf_str(&text),
                             cc_deadline_in(30000), &answer, NULL),
            0);
    assert_true(answer.accepted);
    assert_string_equal(fake.path[FAKE_SERVICE], SUCCESS_PATH);
    assert_string_equal(fake.body[FAKE_SERVICE],
            "{\"notification\":" SUCCESS_TEXT ",\"callerInfo\":\"unit/2 \\\"new\\\"\"}}");
    assert_string_equal(fake.user_agent[FAKE_SERVICE], "unit/2 \"new\"");
    assert_string_equal(fake.api_version[FAKE_SERVICE], VERSION);
    assert_int_equal(intune_scep_notify(intune, INTUNE_SCEP_FAILURE, "{\"hResult\":1}",
                             cc_deadline_in(30000), &answer, NULL),
            0);
    assert_string_equal(fake.path[FAKE_SERVICE], FAILURE_PATH);
    assert_string_equal(fake.body[FAKE_SERVICE],
            "{\"notification\":{\"hResult\":1,\"callerInfo\":\"unit/2 \\\"new\\\"\"}}");
    cc_buf_free(&text);
}

static void
damaged_notifications_stay_here(void **state)
{
    static const char *const bad[] = { "", "{", "{}", "{\"a\":1", "[1]", "x", "\"a\":1}" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(bad); i++) {
        struct intune_scep_answer answer = { 0 };
        struct cc_err err = { 0 };

        assert_int_equal(intune_scep_notify(intune, INTUNE_SCEP_SUCCESS, bad[i], 0, &answer, &err),
                -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
    }
    assert_int_equal(fake.calls[FAKE_SERVICE], 0);
}

/* ---- what is answered ---- */

#define LONG                                                                                       \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"

static void
answers_are_read(void **state)
{
    static const struct {
        const char *answer;
        int want_rc;
        bool want_accepted;
        const char *want_code, *want_description;
    } answers[] = {
        { TAKEN, 0, true, "Success", "" },
        { "{\"code\":\"Success\"}", 0, true, "Success", "" },
        { "{\"code\":\"Success\",\"errorDescription\":null}", 0, true, "Success", "" },
        { "{\"code\":\"Success\",\"errorDescription\":7}", 0, true, "Success", "" },
        { "{\"code\":\"success\"}", 0, false, "success", "" },
        { "{\"code\":\"Success \"}", 0, false, "Success ", "" },
        { "{\"code\":\"1\"}", 0, false, "1", "" },
        { "{\"code\":\"ChallengeExpired\",\"errorDescription\":\"too\\nlate\"}", 0, false,
                "ChallengeExpired", "too\\x0alate" },
        { "{\"code\":\"BadTenantIdInChallenge\"}", 0, false, "BadTenantIdInChallenge", "" },
        { "{\"code\":\"Unknown\"}", 0, false, "Unknown", "" },
        { "{\"code\":\"Neu\\u001b[31m\"}", 0, false, "Neu\\x1b[31m", "" },
        { "{\"code\":\"" LONG "\"}", 0, false, NULL, "" },
        { "{\"code\":\"Success\",\"code\":\"SubjectNameMismatch\"}", 0, false,
                "SubjectNameMismatch", "" },
        { "{\"code\":\"Success\\u0000x\"}", -1, false, NULL, NULL },
        { "{\"code\":\"\"}", -1, false, NULL, NULL },
        { "{\"code\":null}", -1, false, NULL, NULL },
        { "{\"code\":1}", -1, false, NULL, NULL },
        { "{\"code\":true}", -1, false, NULL, NULL },
        { "{\"code\":{\"code\":\"Success\"}}", -1, false, NULL, NULL },
        { "{\"Code\":\"Success\"}", -1, false, NULL, NULL },
        { "{\"value\":{\"code\":\"Success\"}}", -1, false, NULL, NULL },
        { "{}", -1, false, NULL, NULL },
        { "[\"Success\"]", -1, false, NULL, NULL },
        { "\"Success\"", -1, false, NULL, NULL },
        { "Success", -1, false, NULL, NULL },
        { "{\"code\":\"Success\"", -1, false, NULL, NULL },
        { "{\"code\":\"Success\"}}", -1, false, NULL, NULL },
        { "", -1, false, NULL, NULL },
        { "<html>Success</html>", -1, false, NULL, NULL },
    };
    static int (*const calls[])(int64_t, struct intune_scep_answer *, struct cc_err *) = { validate,
        notify };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(answers); i++)
        for (size_t j = 0; j < CC_COUNT(calls); j++) {
            struct intune_scep_answer answer = { .code = "untouched" };
            struct cc_err err = { 0 };
            unsigned before = fake.calls[FAKE_SERVICE];
            int rc;

            answer_with(answers[i].answer);
            rc = calls[j](cc_deadline_in(30000), &answer, &err);
            if (rc != answers[i].want_rc || answer.accepted != answers[i].want_accepted)
                fail_msg("%s: %d: %s", answers[i].answer, rc, cc_err_text(&err));
            if (rc != 0)
                assert_int_equal(err.domain, CC_DOM_INPUT);
            if (rc != 0)
                assert_string_equal(answer.code, "untouched");
            if (answers[i].want_code != NULL)
                assert_string_equal(answer.code, answers[i].want_code);
            if (answers[i].want_description != NULL)
                assert_string_equal(answer.description, answers[i].want_description);
            /* Neither a refusal nor nonsense is asked for again. */
            assert_int_equal(fake.calls[FAKE_SERVICE], before + 1);
        }
}

/* The service's own example: JSON as text within the message. */
#define INTERNAL_ERROR                                                                             \
    "{\"error\":{\"code\":\"InternalError\",\"message\":\"{\\r\\n  \\\"_version\\\": 3,\\r\\n  "   \
    "\\\"Message\\\": \\\"An internal server error has occurred\\\"\\r\\n}\"}}"

static void
failures_are_seen_to(void **state)
{
    /* The tokens are two, Graph's and the service's. */
    static const struct {
        const char *name;
        struct fake_answer answers[5];
        size_t count;
        int want_rc;
        long want_status;
        unsigned want_calls, want_tokens, want_discoveries; /* of the last, at least */
        const char *want_text;
    } cases[] = {
        { "good", { { .status = 200 } }, 1, 0, 0, 1, 2, 1, NULL },
        { "lost answer", { { .status = 0 } }, 1, 0, 0, 2, 2, 1, NULL },
        { "token refused", { { .status = 401, .body = "{}" } }, 1, 0, 0, 2, 3, 1, NULL },
        { "token refused again",
                { { .status = 401, .body = "{}" }, { .status = 401, .body = "{}" } }, 2, -1, 401, 2,
                3, 1, NULL },
        { "throttled", { { .status = 429, .body = "{}", .header = "Retry-After", .value = "0" } },
                1, 0, 0, 2, 2, 1, NULL },
        { "throttled without a word", { { .status = 429, .body = "" } }, 1, 0, 0, 2, 2, 1, NULL },
        { "throttled beyond the deadline",
                { { .status = 429, .body = "{}", .header = "Retry-After", .value = "60" } }, 1, -1,
                429, 1, 2, 1, NULL },
        { "internal error", { { .status = 500, .body = INTERNAL_ERROR } }, 1, 0, 0, 2, 2, 2, NULL },
        { "internal error each time",
                { { .status = 500, .body = INTERNAL_ERROR },
                        { .status = 500, .body = INTERNAL_ERROR },
                        { .status = 500, .body = INTERNAL_ERROR },
                        { .status = 500, .body = INTERNAL_ERROR } },
                4, -1, 500, 4, 2, 2, "status 500: InternalError: {\\x0d\\x0a  \"_version\": 3" },
        { "HTML", { { .status = 502, .body = "<html><body>Bad Gateway</body></html>" } }, 1, 0, 0,
                2, 2, 2, NULL },
        { "busy", { { .status = 503, .body = "{}", .header = "Retry-After", .value = "0" } }, 1, 0,
                0, 2, 2, 2, NULL },
        { "late", { { .status = 504, .body = "{}" } }, 1, 0, 0, 2, 2, 2, NULL },
        { "moved", { { .status = 410, .body = "{}" } }, 1, 0, 0, 2, 2, 2, NULL },
        { "bad request", { { .status = 400, .body = "{\"error\":{\"code\":\"BadRequest\"}}" } }, 1,
                -1, 400, 1, 2, 1, "BadRequest" },
        { "a yes that is none", { { .status = 400, .body = TAKEN } }, 1, -1, 400, 1, 2, 1, NULL },
        { "not allowed", { { .status = 403, .body = "{}" } }, 1, -1, 403, 1, 2, 1, NULL },
        { "elsewhere", { { .status = 302, .body = TAKEN, .header = "Location", .value = "/svc" } },
                1, -1, 302, 1, 2, 1, NULL },
    };
    static int (*const calls[])(int64_t, struct intune_scep_answer *, struct cc_err *) = { validate,
        notify };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        for (size_t j = 0; j < CC_COUNT(calls); j++) {
            struct intune_scep_answer answer = { 0 };
            struct cc_err err = { 0 };
            int rc;

            tear_down(NULL);
            set_up(NULL);
            fake_script(&fake, FAKE_SERVICE, cases[i].answers, cases[i].count);
            rc = calls[j](cc_deadline_in(30000), &answer, &err);
            if (rc != cases[i].want_rc || answer.accepted != (rc == 0) ||
                    fake.calls[FAKE_SERVICE] != cases[i].want_calls ||
                    fake.calls[FAKE_TOKEN] != cases[i].want_tokens ||
                    fake.calls[FAKE_DISCOVERY] < cases[i].want_discoveries)
                fail_msg("%s, call %zu: %d, %u calls, %u tokens, %u discoveries: %s", cases[i].name,
                        j, rc, fake.calls[FAKE_SERVICE], fake.calls[FAKE_TOKEN],
                        fake.calls[FAKE_DISCOVERY], cc_err_text(&err));
            if (rc != 0) {
                assert_int_equal(err.domain, CC_DOM_HTTP);
                assert_int_equal(err.code, cases[i].want_status);
            }
            if (cases[i].want_text != NULL && strstr(err.text, cases[i].want_text) == NULL)
                fail_msg("%s: %s", cases[i].name, err.text);
        }
}

/* ---- the deadline ---- */

static void
answer_held(unsigned status)
{
    pthread_mutex_lock(&fake.lock);
    while (fake.held_count > 0)
        http_exchange_reply(fake.held[--fake.held_count], status, NULL, 0, NULL, "{}", 2);
    pthread_mutex_unlock(&fake.lock);
}

/* Whichever of the exchanges on the way to an answer it is that never ends. */
static void
deadline_ends_it(void **state)
{
    static const struct fake_answer silence = { .status = 200, .hold = true };

    (void)state;
    for (int part = FAKE_TOKEN; part <= FAKE_SERVICE; part++) {
        struct intune_scep_answer answer = { 0 };
        struct cc_err err = { 0 };
        int64_t start;

        tear_down(NULL);
        set_up(NULL);
        fake_script(&fake, (enum fake_part)part, &silence, 1);
        start = cc_clock_mono_ms();
        assert_int_equal(validate(start + 300, &answer, &err), -1);
        assert_int_equal(err.domain, CC_DOM_NETWORK);
        assert_true(cc_clock_mono_ms() - start >= 290);
        assert_true(cc_clock_mono_ms() - start < 5000);
        assert_int_equal(fake.calls[part], 1);
        assert_false(answer.accepted);
        answer_held(200);
    }
}

/* Without one, a call waits as long as the settings say; with a long one, too. */
static void
long_deadlines_change_nothing(void **state)
{
    static const struct fake_answer silence = { .status = 200, .hold = true };
    static const int64_t deadlines[] = { 0, INT64_MAX };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(deadlines); i++) {
        struct intune_settings hasty = fake_settings(&fake);
        struct intune_scep_answer answer = { 0 };

        hasty.timeout_ms = 200;
        assert_int_equal(intune_reconfigure(intune, &hasty, NULL), 0);
        fake_script(&fake, FAKE_SERVICE, &silence, 1);
        assert_int_equal(validate(deadlines[i], &answer, NULL), 0);
        assert_true(answer.accepted);
        assert_int_equal(fake.calls[FAKE_SERVICE], 2 * (i + 1));
        answer_held(200);
    }
}

static void
past_deadlines_ask_nothing(void **state)
{
    struct intune_scep_answer answer = { 0 };
    struct intune_status status;
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(validate(cc_clock_mono_ms(), &answer, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    cc_err_clear(&err);
    assert_int_equal(notify(1, &answer, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    assert_int_equal(fake.calls[FAKE_TOKEN], 0);
    intune_get_status(intune, &status);
    assert_int_equal(status.contact, INTUNE_CONTACT_NONE);
}

struct caller {
    pthread_t thread;
    int64_t deadline;
    int rc;
    struct cc_err err;
};

static void *
call_validate(void *arg)
{
    struct caller *caller = arg;
    struct intune_scep_answer answer = { 0 };

    caller->rc = validate(caller->deadline, &answer, &caller->err);
    return NULL;
}

/* Who waits for a token that another call is fetching has a deadline of its own. */
static void
deadline_ends_the_wait_for_others(void **state)
{
    static const struct fake_answer silence = { .status = 500, .hold = true };
    struct caller patient = { .deadline = cc_deadline_in(30000) }, hasty = { 0 };

    (void)state;
    fake_script(&fake, FAKE_TOKEN, &silence, 1);
    assert_int_equal(pthread_create(&patient.thread, NULL, call_validate, &patient), 0);
    fake_wait_calls(&fake, FAKE_TOKEN, 1);
    hasty.deadline = cc_deadline_in(300);
    (void)call_validate(&hasty);
    assert_int_equal(hasty.rc, -1);
    assert_int_equal(hasty.err.domain, CC_DOM_NETWORK);
    assert_int_equal(fake.calls[FAKE_TOKEN], 1);
    answer_held(500);
    pthread_join(patient.thread, NULL);
    assert_int_equal(patient.rc, 0);
}

/* A tenant that discovery gives no such service. */
static void
missing_service_is_told(void **state)
{
    static const struct fake_answer none = { .status = 200, .body = "{\"value\":[]}" };
    struct intune_scep_answer answer = { 0 };
    struct cc_err err = { 0 };

    (void)state;
    fake_script(&fake, FAKE_DISCOVERY, &none, 1);
    assert_int_equal(validate(0, &answer, &err), -1);
    assert_int_equal(err.domain, CC_DOM_HTTP);
    assert_non_null(strstr(err.text, "ScepRequestValidationFEService"));
    assert_int_equal(validate(0, &answer, NULL), 0);
}

static void
cancelled_with_the_rest(void **state)
{
    struct intune_scep_answer answer = { 0 };
    struct cc_err err = { 0 };

    (void)state;
    intune_cancel_downloads(intune);
    assert_int_equal(validate(0, &answer, NULL), 0);
    intune_cancel(intune);
    assert_int_equal(validate(0, &answer, &err), -1);
    assert_int_equal(err.domain, CC_DOM_CANCELLED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(validate_asks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_requests_go_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_request_of_bad_text, set_up, tear_down),
        cmocka_unit_test(writes_successes),
        cmocka_unit_test(writes_failures),
        cmocka_unit_test_setup_teardown(notifications_are_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_notifications_stay_here, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_are_seen_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deadline_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_deadlines_change_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(past_deadlines_ask_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deadline_ends_the_wait_for_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_service_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cancelled_with_the_rest, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
