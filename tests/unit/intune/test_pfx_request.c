/* SPDX-License-Identifier: MIT */
#include "intune/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

static json_object *
parse(const char *text)
{
    struct cc_err err = { 0 };
    json_object *json = cc_json_parse(text, strlen(text), &err);

    if (json == NULL)
        fail_msg("%s: %s", text, cc_err_text(&err));
    return json;
}

static void
reads_all_members(void **state)
{
    json_object *json = parse(
            "{\"userPrincipalName\":\"u@contoso.example\",\"deviceId\":\"d\",\"thumbprint\":\"aa\","
            "\"intendedPurpose\":\"smimeSigning\",\"providerName\":\"Contoso HSM\",\"keyName\":\"PFXEncryptionKey\","
            "\"paddingScheme\":\"oaepSha512\",\"passwordEncryption\":\"cms\",\"contentCipher\":\"aes256\","
            "\"encryptedPfxBlob\":\"AQID\",\"encryptedPfxPassword\":\"BAU=\",\"recipientCertificate\":\"Bg==\",\"more\":[1]}");
    struct intune_pfx_request request;
    struct cc_err err = { 0 };

    (void)state;
    if (intune_pfx_request_read(json, &request, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_string_equal(request.user, "u@contoso.example");
    assert_string_equal(request.device, "d");
    assert_string_equal(request.thumbprint, "aa");
    assert_string_equal(request.intended_purpose, "smimeSigning");
    assert_string_equal(request.provider_name, "Contoso HSM");
    assert_string_equal(request.key_name, "PFXEncryptionKey");
    assert_string_equal(request.padding_scheme, "oaepSha512");
    assert_string_equal(request.password_encryption, "cms");
    assert_string_equal(request.content_cipher, "aes256");
    assert_int_equal(request.pfx.len, 3);
    assert_memory_equal(request.pfx.data, "\1\2\3", 3);
    assert_int_equal(request.encrypted_password.len, 2);
    assert_memory_equal(request.encrypted_password.data, "\4\5", 2);
    assert_int_equal(request.recipient_certificate.len, 1);
    intune_pfx_request_free(&request);
    json_object_put(json);

    /* What is absent is absent; whether that can be is the workload's affair. */
    json = parse("{\"deviceId\":null}");
    assert_int_equal(intune_pfx_request_read(json, &request, NULL), 0);
    assert_null(request.user);
    assert_null(request.device);
    assert_int_equal(request.pfx.len, 0);
    intune_pfx_request_free(&request);
    json_object_put(json);
}

static void
refuses_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "{\"userPrincipalName\":1}", "userPrincipalName" },
        { "{\"keyName\":[]}", "keyName" },
        { "{\"providerName\":\"a\\u0000b\"}", "providerName" },
        { "{\"encryptedPfxBlob\":\"A\"}", "encryptedPfxBlob" },
        { "{\"encryptedPfxBlob\":\"AQ=\"}", "encryptedPfxBlob" },
        { "{\"encryptedPfxBlob\":\"AQ==\\r\\n\"}", "encryptedPfxBlob" },
        { "{\"encryptedPfxPassword\":\"A-_A\"}", "encryptedPfxPassword" },
        { "{\"encryptedPfxPassword\":{}}", "encryptedPfxPassword" },
        { "{\"recipientCertificate\":\"*\"}", "recipientCertificate" },
        { "{\"recipientCertificate\":true}", "recipientCertificate" },
        { "[]", "not an object" },
        { "7", "not an object" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        json_object *json = parse(cases[i].text);
        struct intune_pfx_request request;
        struct cc_err err = { 0 };

        assert_int_equal(intune_pfx_request_read(json, &request, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        if (strstr(err.text, cases[i].want) == NULL)
            fail_msg("%s: %s", cases[i].text, err.text);
        intune_pfx_request_free(&request);
        json_object_put(json);
    }
}

/* At each ceiling, and one byte above it. */
static void
members_have_ceilings(void **state)
{
    static const struct {
        const char *name;
        size_t max;
        bool base64;
    } members[] = {
        { "userPrincipalName", 1024, false },
        { "deviceId", 1024, false },
        { "thumbprint", 1024, false },
        { "intendedPurpose", 1024, false },
        { "providerName", 1024, false },
        { "keyName", 1024, false },
        { "paddingScheme", 1024, false },
        { "passwordEncryption", 1024, false },
        { "contentCipher", 1024, false },
        { "encryptedPfxBlob", 262144, true },
        { "encryptedPfxPassword", 1024, true },
        { "recipientCertificate", 65536, true },
    };
    size_t i, more;

    (void)state;
    for (i = 0; i < CC_COUNT(members); i++)
        for (more = 0; more < 2; more++) {
            size_t len = members[i].max + more;
            char *data = malloc(len + 1);
            json_object *json = json_object_new_object();
            struct intune_pfx_request request;
            struct cc_err err = { 0 };
            int rc;

            memset(data, 'x', len);
            data[len] = '\0';
            if (members[i].base64)
                assert_int_equal(cc_json_add_base64(json, members[i].name, data, len, NULL), 0);
            else
                assert_int_equal(cc_json_add_str(json, members[i].name, data, NULL), 0);
            rc = intune_pfx_request_read(json, &request, &err);
            if (rc != (more ? -1 : 0))
                fail_msg("%s of %zu: %d %s", members[i].name, len, rc, cc_err_text(&err));
            if (more) {
                assert_int_equal(err.domain, CC_DOM_INPUT);
                assert_non_null(strstr(err.text, members[i].name));
            }
            intune_pfx_request_free(&request);
            json_object_put(json);
            free(data);
        }
}

static void
writes_results(void **state)
{
    static const struct {
        struct intune_pfx_result result;
        const char *want;
    } cases[] = {
        { { .request_context = "c1",
                  .encrypted_password = { (const uint8_t *)"\1\2\3", 3 },
                  .password_encryption = "cms",
                  .on_token = true,
                  .error_message = "not sent" },
                "{\"requestContext\":\"c1\",\"succeeded\":true,\"errorCode\":\"None\",\"encryptedPfxPassword\":\"AQID\","
                "\"passwordEncryption\":\"cms\",\"reencryptedIn\":\"token\"}" },
        { { .request_context = "c\"2",
                  .encrypted_password = { (const uint8_t *)"\1", 1 },
                  .password_encryption = "rsaPkcs1" },
                "{\"requestContext\":\"c\\\"2\",\"succeeded\":true,\"errorCode\":\"None\",\"encryptedPfxPassword\":\"AQ==\","
                "\"passwordEncryption\":\"rsaPkcs1\",\"reencryptedIn\":\"host\"}" },
        { { .request_context = "c3",
                  .error_code = INTUNE_KEY_NOT_FOUND,
                  .error_message = "no such key",
                  .retryable = false,
                  .encrypted_password = { (const uint8_t *)"\1", 1 } },
                "{\"requestContext\":\"c3\",\"succeeded\":false,\"errorCode\":\"KeyNotFound\",\"errorMessage\":\"no such key\","
                "\"retryable\":false}" },
        { { .request_context = "c4", .error_code = INTUNE_TOKEN_UNAVAILABLE, .retryable = true },
                "{\"requestContext\":\"c4\",\"succeeded\":false,\"errorCode\":\"TokenUnavailable\",\"retryable\":true}" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf text = CC_BUF_INIT(10000);

        assert_int_equal(intune_pfx_result_write(&cases[i].result, &text, NULL), 0);
        assert_string_equal(cc_buf_str(&text), cases[i].want);
        cc_buf_free(&text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_members),
        cmocka_unit_test(refuses_what_is_wrong),
        cmocka_unit_test(members_have_ceilings),
        cmocka_unit_test(writes_results),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
