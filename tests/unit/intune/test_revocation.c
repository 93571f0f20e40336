/* SPDX-License-Identifier: MIT */
#include "intune/revocation.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/json.h"
#include "fake_service.h"

#define DOWNLOAD_PATH "/svc/CertificateAuthorityRequests/downloadRevocationRequests"
#define UPLOAD_PATH "/svc/CertificateAuthorityRequests/uploadRevocationResults"
#define VERSION "5019-05-05"
#define TAKEN                                                                                      \
    "{\"@odata.context\":\"https://manage.microsoft.com/RACerts/StatelessPkiConnectorService/"     \
    "$metadata#Edm.Boolean\",\"value\":true}"

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

static json_object *
parse(const char *text)
{
    struct cc_err err = { 0 };
    json_object *json = cc_json_parse(text, strlen(text), &err);

    if (json == NULL)
        fail_msg("%s: %s", text, cc_err_text(&err));
    return json;
}

/* ---- download ---- */

static void
download_asks(void **state)
{
    static const struct {
        unsigned max;
        const char *issuer_name, *want_body;
    } asks[] = {
        { 100, NULL, "{\"downloadParameters\":{\"maxRequests\":100,\"issuerName\":null}}" },
        { 0, NULL, "{\"downloadParameters\":{\"maxRequests\":1,\"issuerName\":null}}" },
        { 1, "CN=\"A\"",
                "{\"downloadParameters\":{\"maxRequests\":1,\"issuerName\":\"CN=\\\"A\\\"\"}}" },
        { 500, "corp", "{\"downloadParameters\":{\"maxRequests\":500,\"issuerName\":\"corp\"}}" },
        { 501, NULL, "{\"downloadParameters\":{\"maxRequests\":500,\"issuerName\":null}}" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(asks); i++) {
        struct intune_work *work = NULL;
        size_t count = 7, malformed = 7;

        assert_int_equal(intune_revocation_download(intune, asks[i].max, asks[i].issuer_name, &work,
                                 &count, &malformed, NULL),
                0);
        assert_int_equal(count, 0);
        assert_int_equal(malformed, 0);
        assert_string_equal(fake.method[FAKE_SERVICE], "POST");
        assert_string_equal(fake.path[FAKE_SERVICE], DOWNLOAD_PATH);
        assert_string_equal(fake.body[FAKE_SERVICE], asks[i].want_body);
        assert_string_equal(fake.api_version[FAKE_SERVICE], VERSION);
        assert_true(cc_starts_with(fake.authorization[FAKE_SERVICE], "Bearer tok-"));
        assert_true(cc_is_uuid(fake.request_id[FAKE_SERVICE]));
        intune_work_free(work, count);
    }
}

/* Another call of the same service keeps the version of its own. */
static void
versions_stay_apart(void **state)
{
    struct intune_work *work = NULL;
    size_t count = 0, malformed = 0;

    (void)state;
    assert_int_equal(intune_revocation_download(intune, 5, NULL, &work, &count, &malformed, NULL),
            0);
    intune_work_free(work, count);
    assert_string_equal(fake.api_version[FAKE_SERVICE], VERSION);
    assert_int_equal(intune_queue_download(intune, INTUNE_QUEUE_PKCS, "c", 5, 0, &work, &count,
                             &malformed, NULL),
            0);
    intune_work_free(work, count);
    assert_string_equal(fake.api_version[FAKE_SERVICE], "2026-11-01");
}

#define ITEM(n) "{\"requestContext\":\"ctx" n "\",\"serialNumber\":\"0A\"}"

static void
download_answers(void **state)
{
    static const struct {
        const char *answer;
        int want_rc;
        size_t want_count, want_malformed;
    } answers[] = {
        { "{\"@odata.context\":\"x\",\"value\":[]}", 0, 0, 0 },
        { "{\"@odata.context\":\"x\",\"value\":[{\"requestContext\":\"ctx1\",\"serialNumber\":\"0A\","
          "\"issuerName\":\"CN=CA\",\"caConfiguration\":null}]}",
                0, 1, 0 },
        { "{\"value\":[" ITEM("1") "," ITEM("2") "," ITEM("3") "," ITEM("4") "," ITEM("5") "]}", 0,
                5, 0 },
        { "{\"value\":[{}," ITEM("1") ",7,null,\"x\"]}", 0, 1, 4 },
        { "{\"value\":[{\"requestContext\":\"c\"}]}", 0, 0, 1 },
        { "{\"value\":[{\"requestContext\":\"c\",\"serialNumber\":null}]}", 0, 0, 1 },
        { "{\"value\":[{\"requestContext\":\"c\",\"serialNumber\":\"\"}]}", 0, 0, 1 },
        { "{\"value\":[{\"requestContext\":\"c\",\"serialNumber\":10}]}", 0, 0, 1 },
        { "{\"value\":[{\"serialNumber\":\"0A\"}]}", 0, 0, 1 },
        { "{\"value\":[{\"requestContext\":null,\"serialNumber\":\"0A\"}]}", 0, 0, 1 },
        { "{\"value\":[{\"requestContext\":\"\",\"serialNumber\":\"0A\"}]}", 0, 0, 1 },
        { "{\"value\":[{\"requestContext\":5,\"serialNumber\":\"0A\"}," ITEM("2") "]}", 0, 1, 1 },
        { "{\"value\":[{\"requestContext\":\"a\\u0000b\",\"serialNumber\":\"0A\"}]}", 0, 0, 1 },
        { "{\"value\":{}}", -1, 0, 0 },
        { "{\"value\":null}", -1, 0, 0 },
        { "{\"value\":true}", -1, 0, 0 },
        { "{\"@odata.context\":\"x\"}", -1, 0, 0 },
        { "{\"Value\":[]}", -1, 0, 0 },
        { "[]", -1, 0, 0 },
        { "{\"value\":[" ITEM("1") "," ITEM("2") "," ITEM("3") "," ITEM("4") "," ITEM("5") "," ITEM(
                  "6") "]}",
                -1, 0, 0 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(answers); i++) {
        struct intune_work *work = NULL;
        size_t count = 0, malformed = 0;
        struct cc_err err = { 0 };
        int rc;

        answer_with(answers[i].answer);
        rc = intune_revocation_download(intune, 5, NULL, &work, &count, &malformed, &err);
        if (rc != answers[i].want_rc || count != answers[i].want_count ||
                malformed != answers[i].want_malformed)
            fail_msg("%s: %d %zu %zu %s", answers[i].answer, rc, count, malformed,
                    cc_err_text(&err));
        if (rc != 0)
            assert_int_equal(err.domain, CC_DOM_INPUT);
        for (size_t j = 0; j < count; j++) {
            assert_true(cc_starts_with(work[j].request_context, "ctx"));
            assert_string_equal(work[j].request_id, work[j].request_context);
            assert_int_equal(work[j].attempt, 0);
            assert_int_equal(work[j].lease_until_ms, 0);
            assert_true(json_object_is_type(work[j].body, json_type_object));
        }
        intune_work_free(work, count);
    }
}

/* The answer to one request of this context; false: it was skipped. */
static bool
download_one(const char *context, struct intune_work *ret)
{
    struct intune_work *work = NULL;
    size_t count = 0, malformed = 0;
    json_object *body = json_object_new_object();
    json_object *list = json_object_new_array(), *item = json_object_new_object();
    bool came;

    assert_int_equal(cc_json_add_str(item, "requestContext", context, NULL), 0);
    assert_int_equal(cc_json_add_str(item, "serialNumber", "0A", NULL), 0);
    assert_int_equal(json_object_array_add(list, item), 0);
    assert_int_equal(cc_json_add(body, "value", list, NULL), 0);
    answer_with(json_object_to_json_string(body));
    json_object_put(body);
    assert_int_equal(intune_revocation_download(intune, 5, NULL, &work, &count, &malformed, NULL),
            0);
    assert_int_equal(count + malformed, 1);
    if ((came = count == 1))
        *ret = work[0];
    intune_work_free(work, count);
    return came;
}

static void
ids_are_fit_for_a_log(void **state)
{
    static const struct {
        const char *context, *want;
    } cases[] = {
        { "ctx1", "ctx1" },
        { "0b6a~!\"\\{}", "0b6a~!\"\\{}" },
        /* printf '%s' 'a b' | sha256sum */
        { "a b", "c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c2034ae8c38e6fcc6d65" },
        { "a\nb", "7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78" },
        { "\xc3\xa4", "33e6d73fee82904c8d7afb78de1154d1e8dc2a0edb08120e63df5b9385c2d9cc" },
    };
    struct intune_work work;
    char context[1026];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        assert_true(download_one(cases[i].context, &work));
        assert_string_equal(work.request_context, cases[i].context);
        assert_string_equal(work.request_id, cases[i].want);
    }
    /* The context is the id up to 128 bytes, and its digest above; beyond its ceiling it is none. */
    memset(context, 'x', sizeof(context));
    context[128] = '\0';
    assert_true(download_one(context, &work));
    assert_string_equal(work.request_id, context);
    context[128] = 'x';
    context[129] = '\0';
    assert_true(download_one(context, &work));
    assert_string_equal(work.request_context, context);
    assert_string_equal(work.request_id,
            "0ec9eb33e74510bcdd1f2ea55206e82f21649c5c2becbf2b433eb475b34c01bd");
    context[129] = 'x';
    context[1024] = '\0';
    assert_true(download_one(context, &work));
    assert_string_equal(work.request_context, context);
    context[1024] = 'x';
    context[1025] = '\0';
    assert_false(download_one(context, &work));
}

/* ---- requests and results ---- */

static void
reads_requests(void **state)
{
    static const struct {
        const char *text;
        int want_rc;
        const char *want_serial, *want_issuer, *want_configuration;
        const char *want_error;
    } cases[] = {
        { "{\"requestContext\":\"ctx1\",\"serialNumber\":\"0A\",\"issuerName\":\"CN=CA\",\"caConfiguration\":null}",
                0, "0A", "CN=CA", NULL, NULL },
        { "{\"serialNumber\":\"z\",\"issuerName\":null,\"caConfiguration\":\"corp\",\"more\":[]}",
                0, "z", NULL, "corp", NULL },
        { "{\"serialNumber\":\"1\"}", 0, "1", NULL, NULL, NULL },
        { "{\"serialNumber\":\"1\",\"issuerName\":\"\"}", 0, "1", "", NULL, NULL },
        { "{}", -1, NULL, NULL, NULL, "\"serialNumber\"" },
        { "{\"serialNumber\":null}", -1, NULL, NULL, NULL, "\"serialNumber\"" },
        { "{\"serialNumber\":\"\"}", -1, NULL, NULL, NULL, "\"serialNumber\"" },
        { "{\"serialNumber\":10}", -1, NULL, NULL, NULL, "\"serialNumber\"" },
        { "{\"serialNumber\":\"1\",\"issuerName\":{}}", -1, NULL, NULL, NULL, "\"issuerName\"" },
        { "{\"serialNumber\":\"1\",\"caConfiguration\":7}", -1, NULL, NULL, NULL,
                "\"caConfiguration\"" },
        { "[]", -1, NULL, NULL, NULL, "not an object" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        json_object *json = parse(cases[i].text);
        struct intune_revocation_request request;
        struct cc_err err = { 0 };
        int rc = intune_revocation_request_read(json, &request, &err);

        if (rc != cases[i].want_rc)
            fail_msg("%s: %d %s", cases[i].text, rc, cc_err_text(&err));
        if (rc != 0) {
            assert_int_equal(err.domain, CC_DOM_INPUT);
            assert_non_null(strstr(err.text, cases[i].want_error));
        } else {
            assert_string_equal(request.serial_number, cases[i].want_serial);
            assert_string_equal(fake_or_dash(request.issuer_name),
                    fake_or_dash(cases[i].want_issuer));
            assert_string_equal(fake_or_dash(request.ca_configuration),
                    fake_or_dash(cases[i].want_configuration));
        }
        json_object_put(json);
    }
}

static void
members_have_ceilings(void **state)
{
    static const char *const names[] = { "serialNumber", "issuerName", "caConfiguration" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(names); i++)
        for (size_t more = 0; more < 2; more++) {
            json_object *json = json_object_new_object();
            struct intune_revocation_request request;
            struct cc_err err = { 0 };
            char text[1026];

            memset(text, 'A', sizeof(text));
            text[1024 + more] = '\0';
            assert_int_equal(cc_json_add_str(json, "serialNumber", "1", NULL), 0);
            assert_int_equal(cc_json_add_str(json, names[i], text, NULL), 0);
            assert_int_equal(intune_revocation_request_read(json, &request, &err), more ? -1 : 0);
            if (more)
                assert_non_null(strstr(err.text, names[i]));
            json_object_put(json);
        }
}

static void
writes_results(void **state)
{
    static const struct {
        struct intune_revocation_result result;
        const char *want;
    } cases[] = {
        /* As Microsoft's C# library. */
        { { .request_context = "ctx1", .error_message = "not sent" },
                "{\"requestContext\":\"ctx1\",\"succeeded\":true,\"errorCode\":\"None\",\"errorMessage\":null}" },
        { { .request_context = "c\"2",
                  .error_code = INTUNE_CERTIFICATE_NOT_FOUND_ERROR,
                  .error_message = "nf" },
                "{\"requestContext\":\"c\\\"2\",\"succeeded\":false,\"errorCode\":\"CertificateNotFoundError\","
                "\"errorMessage\":\"nf\"}" },
        /* As its Java library. */
        { { .request_context = "ctx1", .numeric = true, .error_message = "not sent" },
                "{\"requestContext\":\"ctx1\",\"succeeded\":true,\"errorCode\":\"0\"}" },
        { { .request_context = "ctx2",
                  .numeric = true,
                  .error_code = INTUNE_CERTIFICATE_NOT_FOUND_ERROR,
                  .error_message = "nf" },
                "{\"requestContext\":\"ctx2\",\"succeeded\":false,\"errorCode\":\"4004\",\"errorMessage\":\"nf\"}" },
        { { .request_context = "ctx3", .error_code = INTUNE_AUTHENTICATION_EXCEPTION },
                "{\"requestContext\":\"ctx3\",\"succeeded\":false,\"errorCode\":\"AuthenticationException\"}" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf text = CC_BUF_INIT(10000);

        assert_int_equal(intune_revocation_result_write(&cases[i].result, &text, NULL), 0);
        assert_string_equal(cc_buf_str(&text), cases[i].want);
        cc_buf_free(&text);
    }
}

/* Codes that this API does not have are told by the nearest that it has, in both spellings. */
static void
codes_are_of_this_api(void **state)
{
    static const struct {
        enum intune_error_code code;
        const char *want_name, *want_number;
    } cases[] = {
        { INTUNE_OK, "None", "0" },
        { INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION, "NonRetryableServiceException", "4000" },
        { INTUNE_DATA_SERIALIZATION_ERROR, "DataSerializationError", "4001" },
        { INTUNE_PARAMETER_DATA_INVALID_ERROR, "ParameterDataInvalidError", "4002" },
        { INTUNE_CRYPTOGRAPHY_ERROR, "CryptographyError", "4003" },
        { INTUNE_CERTIFICATE_NOT_FOUND_ERROR, "CertificateNotFoundError", "4004" },
        { INTUNE_CONFLICT_ERROR, "ConflictError", "4005" },
        { INTUNE_NOT_SUPPORTED_ERROR, "NotSupportedError", "4006" },
        { INTUNE_PAYLOAD_TOO_LARGE_ERROR, "PayloadTooLargeError", "4007" },
        { INTUNE_RETRYABLE_SERVICE_EXCEPTION, "RetryableServiceException", "4100" },
        { INTUNE_SERVICE_UNAVAILABLE_EXCEPTION, "ServiceUnavailableException", "4101" },
        { INTUNE_SERVICE_TOO_BUSY_EXCEPTION, "ServiceTooBusyException", "4102" },
        { INTUNE_AUTHENTICATION_EXCEPTION, "AuthenticationException", "4103" },
        { INTUNE_TOKEN_UNAVAILABLE, "ServiceUnavailableException", "4101" },
        { INTUNE_CA_UNAVAILABLE, "ServiceUnavailableException", "4101" },
        { INTUNE_CA_DENIED, "NonRetryableServiceException", "4000" },
        { INTUNE_CA_PENDING, "ServiceUnavailableException", "4101" },
        { INTUNE_BAD_REQUEST, "ParameterDataInvalidError", "4002" },
        { INTUNE_RECIPIENT_NOT_ACCEPTED, "CryptographyError", "4003" },
        { INTUNE_KEY_NOT_FOUND, "CryptographyError", "4003" },
        { INTUNE_DECRYPT_FAILED, "CryptographyError", "4003" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        for (int numeric = 0; numeric < 2; numeric++) {
            const struct intune_revocation_result result = { .request_context = "c",
                .error_code = cases[i].code,
                .numeric = numeric != 0 };
            struct cc_buf text = CC_BUF_INIT(10000);
            json_object *json;
            const char *code = NULL;
            bool succeeded = false;

            assert_int_equal(intune_revocation_result_write(&result, &text, NULL), 0);
            json = parse(cc_buf_str(&text));
            assert_int_equal(cc_json_get_str(json, "errorCode", 64, &code, NULL), 0);
            assert_string_equal(code, numeric ? cases[i].want_number : cases[i].want_name);
            assert_int_equal(cc_json_get_bool(json, "succeeded", false, &succeeded, NULL), 0);
            assert_int_equal(succeeded, cases[i].code == INTUNE_OK);
            json_object_put(json);
            cc_buf_free(&text);
        }
}

/* ---- upload ---- */

static const char *const results[] = { "{\"requestContext\":\"ctx1\",\"succeeded\":true}",
    "{\"requestContext\":\"ctx2\",\"succeeded\":false}" };

static void
upload_sends(void **state)
{
    enum intune_verdict verdicts[2] = { INTUNE_NO_VERDICT, INTUNE_NO_VERDICT };
    struct cc_err err = { 0 };

    (void)state;
    answer_with(TAKEN);
    if (intune_revocation_upload(intune, results, 2, verdicts, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_int_equal(verdicts[0], INTUNE_ACCEPTED);
    assert_int_equal(verdicts[1], INTUNE_ACCEPTED);
    assert_string_equal(fake.method[FAKE_SERVICE], "POST");
    assert_string_equal(fake.path[FAKE_SERVICE], UPLOAD_PATH);
    assert_string_equal(fake.body[FAKE_SERVICE],
            "{\"results\":[{\"requestContext\":\"ctx1\",\"succeeded\":true},"
            "{\"requestContext\":\"ctx2\",\"succeeded\":false}]}");
    assert_string_equal(fake.api_version[FAKE_SERVICE], VERSION);

    verdicts[0] = INTUNE_NO_VERDICT;
    assert_int_equal(intune_revocation_upload(intune, results, 1, verdicts, NULL), 0);
    assert_int_equal(verdicts[0], INTUNE_ACCEPTED);
    assert_string_equal(fake.body[FAKE_SERVICE],
            "{\"results\":[{\"requestContext\":\"ctx1\",\"succeeded\":true}]}");
}

/* Anything but a clear yes leaves the results to be sent again. */
static void
upload_answers(void **state)
{
    static const struct {
        const char *answer;
        int want_rc;
    } answers[] = {
        { "{\"value\":true}", 0 },
        { "{\"value\":\"true\"}", 0 },
        { "{\"value\":\"True\"}", 0 },
        { "{\"value\":false}", -1 },
        { "{\"value\":\"false\"}", -1 },
        { "{\"value\":\"true \"}", -1 },
        { "{\"value\":\"\"}", -1 },
        { "{\"value\":1}", -1 },
        { "{\"value\":null}", -1 },
        { "{\"value\":[]}", -1 },
        { "{\"value\":[true]}", -1 },
        { "{\"Value\":true}", -1 },
        { "{}", -1 },
        { "true", -1 },
        { "", -1 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(answers); i++) {
        enum intune_verdict verdicts[2] = { INTUNE_NO_VERDICT, INTUNE_NO_VERDICT };
        struct cc_err err = { 0 };
        int rc;

        answer_with(answers[i].answer);
        rc = intune_revocation_upload(intune, results, 2, verdicts, &err);
        if (rc != answers[i].want_rc)
            fail_msg("%s: %d %s", answers[i].answer, rc, cc_err_text(&err));
        for (size_t j = 0; j < 2; j++)
            assert_int_equal(verdicts[j], rc == 0 ? INTUNE_ACCEPTED : INTUNE_NO_VERDICT);
        if (rc != 0)
            assert_int_equal(err.domain, CC_DOM_INPUT);
    }
}

/* ---- what every call goes through, these too ---- */

/* One call of the two, as a table may hold it. */
static int
call_download(struct cc_err *err)
{
    struct intune_work *work = NULL;
    size_t count = 0, malformed = 0;
    int rc;

    answer_with("{\"value\":[" ITEM("1") "]}");
    rc = intune_revocation_download(intune, 5, NULL, &work, &count, &malformed, err);
    if (rc == 0)
        assert_int_equal(count, 1);
    intune_work_free(work, count);
    return rc;
}

static int
call_upload(struct cc_err *err)
{
    enum intune_verdict verdict = INTUNE_NO_VERDICT;

    answer_with(TAKEN);
    return intune_revocation_upload(intune, results, 1, &verdict, err);
}

static void
failures_are_seen_to(void **state)
{
    /* The tokens are two, Graph's and the service's. */
    static const struct {
        const char *name;
        struct fake_answer answer;
        int want_rc;
        unsigned want_calls, want_tokens, want_discoveries; /* of the last, at least */
    } cases[] = {
        { "good", { .status = 200 }, 0, 1, 2, 1 },
        { "lost answer", { .status = 0 }, 0, 2, 2, 1 },
        { "token refused", { .status = 401, .body = "{}" }, 0, 2, 3, 1 },
        { "throttled", { .status = 429, .body = "{}", .header = "Retry-After", .value = "0" }, 0, 2,
                2, 1 },
        { "busy", { .status = 503, .body = "{}", .header = "Retry-After", .value = "0" }, 0, 2, 2,
                2 },
        { "moved", { .status = 410, .body = "{}" }, 0, 2, 2, 2 },
        { "bad request", { .status = 400, .body = "{}" }, -1, 1, 2, 1 },
        { "not allowed", { .status = 403, .body = "{}" }, -1, 1, 2, 1 },
    };
    static int (*const calls[])(struct cc_err *) = { call_download, call_upload };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        for (size_t j = 0; j < CC_COUNT(calls); j++) {
            struct cc_err err = { 0 };
            int rc;

            tear_down(NULL);
            set_up(NULL);
            fake_script(&fake, FAKE_SERVICE, &cases[i].answer, 1);
            rc = calls[j](&err);
            if (rc != cases[i].want_rc || fake.calls[FAKE_SERVICE] != cases[i].want_calls ||
                    fake.calls[FAKE_TOKEN] != cases[i].want_tokens ||
                    fake.calls[FAKE_DISCOVERY] < cases[i].want_discoveries)
                fail_msg("%s, call %zu: %d, %u calls, %u tokens, %u discoveries: %s", cases[i].name,
                        j, rc, fake.calls[FAKE_SERVICE], fake.calls[FAKE_TOKEN],
                        fake.calls[FAKE_DISCOVERY], cc_err_text(&err));
            if (rc != 0)
                assert_int_equal(err.domain, CC_DOM_HTTP);
            assert_string_equal(fake.api_version[FAKE_SERVICE], VERSION);
            assert_string_equal(fake.path[FAKE_SERVICE], j == 0 ? DOWNLOAD_PATH : UPLOAD_PATH);
        }
}

/* A connector that stops does not begin what starts the service's cool-down; results still go out. */
static void
downloads_end_by_themselves(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    intune_cancel_downloads(intune);
    assert_int_equal(call_download(&err), -1);
    assert_int_equal(err.domain, CC_DOM_CANCELLED);
    assert_int_equal(fake.calls[FAKE_SERVICE], 0);
    assert_int_equal(call_upload(NULL), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(download_asks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(versions_stay_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(download_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ids_are_fit_for_a_log, set_up, tear_down),
        cmocka_unit_test(reads_requests),
        cmocka_unit_test(members_have_ceilings),
        cmocka_unit_test(writes_results),
        cmocka_unit_test(codes_are_of_this_api),
        cmocka_unit_test_setup_teardown(upload_sends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(upload_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_are_seen_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(downloads_end_by_themselves, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
