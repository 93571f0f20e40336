/* SPDX-License-Identifier: MIT */
#include "intune/pkcs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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
tells_the_kind(void **state)
{
    static const struct {
        const char *text;
        enum intune_pkcs_kind want;
    } cases[] = {
        { "{\"kind\":\"issue\"}", INTUNE_PKCS_ISSUE },
        { "{\"kind\":\"recrypt\"}", INTUNE_PKCS_RECRYPT },
        { "{}", INTUNE_PKCS_ISSUE },
        { "{\"kind\":null}", INTUNE_PKCS_ISSUE },
        { "{\"kind\":\"Issue\"}", INTUNE_PKCS_OTHER },
        { "{\"kind\":\"recrypt \"}", INTUNE_PKCS_OTHER },
        { "{\"kind\":\"\"}", INTUNE_PKCS_OTHER },
        { "{\"kind\":1}", INTUNE_PKCS_OTHER },
        { "[]", INTUNE_PKCS_OTHER },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        json_object *json = parse(cases[i].text);

        if (intune_pkcs_kind_of(json) != cases[i].want)
            fail_msg("%s: %d", cases[i].text, (int)intune_pkcs_kind_of(json));
        json_object_put(json);
    }
}

static void
reads_a_request_to_issue(void **state)
{
    json_object *json = parse(
            "{\"requestContext\":\"ctx\",\"requestId\":\"id\",\"kind\":\"issue\",\"attempt\":1,"
            "\"userPrincipalName\":\"u@contoso.example\",\"userId\":\"user\",\"deviceId\":\"device\","
            "\"subjectName\":\"CN=u,O=Sales\\\\, East\","
            "\"subjectAlternativeNames\":[{\"type\":\"upn\",\"value\":\"u@contoso.example\"},"
            "{\"type\":\"dns\",\"value\":\"\"},{\"type\":\"uri\"},{\"type\":\"odd\",\"value\":null}],"
            "\"onPremisesSecurityIdentifier\":\"S-1-5-21-1-2-3-1001\",\"keyAlgorithm\":\"rsa2048\","
            "\"keyUsages\":[\"digitalSignature\",\"keyEncipherment\"],"
            "\"extendedKeyUsages\":[\"1.3.6.1.5.5.7.3.2\"],\"validityPeriodInDays\":365,"
            "\"certificationAuthority\":\"ca.contoso.example\",\"certificationAuthorityName\":\"Issuing\","
            "\"certificateTemplateName\":\"User\",\"certificationAuthorityType\":\"microsoft\","
            "\"recipientCertificate\":\"AQID\",\"passwordEncryption\":\"cms\",\"contentCipher\":\"aes256\","
            "\"pfxEncryption\":\"compat\",\"more\":{}}");
    struct intune_pkcs_request request;
    struct cc_err err = { 0 };

    (void)state;
    if (intune_pkcs_request_read(json, &request, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_int_equal(request.kind, INTUNE_PKCS_ISSUE);
    assert_string_equal(request.user, "u@contoso.example");
    assert_string_equal(request.user_id, "user");
    assert_string_equal(request.device, "device");
    assert_string_equal(request.subject, "CN=u,O=Sales\\, East");
    assert_int_equal(request.san_count, 4);
    assert_string_equal(request.sans[0].type, "upn");
    assert_string_equal(request.sans[0].value, "u@contoso.example");
    assert_string_equal(request.sans[1].type, "dns");
    /* An empty value, and none, are for the workload to judge. */
    assert_string_equal(request.sans[1].value, "");
    assert_string_equal(request.sans[2].value, "");
    assert_string_equal(request.sans[3].type, "odd");
    assert_string_equal(request.sans[3].value, "");
    assert_string_equal(request.sid, "S-1-5-21-1-2-3-1001");
    assert_string_equal(request.key_algorithm, "rsa2048");
    assert_int_equal(request.key_usage_count, 2);
    assert_string_equal(request.key_usages[0], "digitalSignature");
    assert_string_equal(request.key_usages[1], "keyEncipherment");
    assert_int_equal(request.extended_key_usage_count, 1);
    assert_string_equal(request.extended_key_usages[0], "1.3.6.1.5.5.7.3.2");
    assert_int_equal(request.validity_days, 365);
    assert_string_equal(request.authority, "ca.contoso.example");
    assert_string_equal(request.authority_name, "Issuing");
    assert_string_equal(request.template_name, "User");
    assert_string_equal(request.authority_type, "microsoft");
    assert_string_equal(request.password_encryption, "cms");
    assert_string_equal(request.content_cipher, "aes256");
    assert_string_equal(request.pfx_encryption, "compat");
    assert_int_equal(request.recipient_certificate.len, 3);
    assert_memory_equal(request.recipient_certificate.data, "\1\2\3", 3);
    assert_int_equal(request.pfx.len, 0);
    assert_int_equal(request.encrypted_password.len, 0);
    intune_pkcs_request_free(&request);
    json_object_put(json);
}

static void
reads_a_request_to_recrypt(void **state)
{
    json_object *json = parse(
            "{\"kind\":\"recrypt\",\"encryptedPfxBlob\":\"AQID\",\"encryptedPfxPassword\":\"BAU=\","
            "\"recipientCertificate\":\"Bg==\",\"passwordEncryption\":\"rsaOaepSha256\"}");
    struct intune_pkcs_request request;

    (void)state;
    assert_int_equal(intune_pkcs_request_read(json, &request, NULL), 0);
    assert_int_equal(request.kind, INTUNE_PKCS_RECRYPT);
    assert_int_equal(request.pfx.len, 3);
    assert_memory_equal(request.pfx.data, "\1\2\3", 3);
    assert_int_equal(request.encrypted_password.len, 2);
    assert_memory_equal(request.encrypted_password.data, "\4\5", 2);
    assert_int_equal(request.recipient_certificate.len, 1);
    assert_string_equal(request.password_encryption, "rsaOaepSha256");
    intune_pkcs_request_free(&request);
    json_object_put(json);
}

static void
absent_and_null_are_the_same(void **state)
{
    static const char *const texts[] = { "{}",
        "{\"kind\":null,\"userPrincipalName\":null,\"userId\":null,\"deviceId\":null,\"subjectName\":null,"
        "\"subjectAlternativeNames\":null,\"onPremisesSecurityIdentifier\":null,\"keyAlgorithm\":null,"
        "\"keyUsages\":null,\"extendedKeyUsages\":null,\"validityPeriodInDays\":null,"
        "\"certificationAuthority\":null,\"certificationAuthorityName\":null,\"certificateTemplateName\":null,"
        "\"certificationAuthorityType\":null,\"recipientCertificate\":null,\"passwordEncryption\":null,"
        "\"contentCipher\":null,\"pfxEncryption\":null,\"encryptedPfxBlob\":null,\"encryptedPfxPassword\":null}",
        "{\"subjectAlternativeNames\":[],\"keyUsages\":[],\"extendedKeyUsages\":[]}" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(texts); i++) {
        json_object *json = parse(texts[i]);
        struct intune_pkcs_request request;
        struct cc_err err = { 0 };

        if (intune_pkcs_request_read(json, &request, &err) != 0)
            fail_msg("%s: %s", texts[i], cc_err_text(&err));
        assert_int_equal(request.kind, INTUNE_PKCS_ISSUE);
        assert_null(request.user);
        assert_null(request.user_id);
        assert_null(request.device);
        assert_null(request.subject);
        assert_int_equal(request.san_count, 0);
        assert_null(request.sid);
        assert_null(request.key_algorithm);
        assert_int_equal(request.key_usage_count, 0);
        assert_int_equal(request.extended_key_usage_count, 0);
        assert_int_equal(request.validity_days, 0);
        assert_null(request.authority);
        assert_null(request.authority_name);
        assert_null(request.template_name);
        assert_null(request.authority_type);
        assert_null(request.password_encryption);
        assert_null(request.content_cipher);
        assert_null(request.pfx_encryption);
        assert_int_equal(request.recipient_certificate.len, 0);
        assert_int_equal(request.pfx.len, 0);
        assert_int_equal(request.encrypted_password.len, 0);
        intune_pkcs_request_free(&request);
        json_object_put(json);
    }
}

static void
refuses_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "{\"kind\":1}", "\"kind\"" },
        { "{\"userPrincipalName\":1}", "\"userPrincipalName\"" },
        { "{\"userId\":[]}", "\"userId\"" },
        { "{\"deviceId\":{}}", "\"deviceId\"" },
        { "{\"subjectName\":true}", "\"subjectName\"" },
        { "{\"subjectName\":\"CN=a\\u0000b\"}", "\"subjectName\"" },
        { "{\"onPremisesSecurityIdentifier\":21}", "\"onPremisesSecurityIdentifier\"" },
        { "{\"keyAlgorithm\":2048}", "\"keyAlgorithm\"" },
        { "{\"certificationAuthority\":[]}", "\"certificationAuthority\"" },
        { "{\"certificationAuthorityName\":[]}", "\"certificationAuthorityName\"" },
        { "{\"certificateTemplateName\":7}", "\"certificateTemplateName\"" },
        { "{\"certificationAuthorityType\":7}", "\"certificationAuthorityType\"" },
        { "{\"passwordEncryption\":false}", "\"passwordEncryption\"" },
        { "{\"contentCipher\":256}", "\"contentCipher\"" },
        { "{\"pfxEncryption\":256}", "\"pfxEncryption\"" },
        { "{\"validityPeriodInDays\":\"365\"}", "\"validityPeriodInDays\"" },
        { "{\"validityPeriodInDays\":365.5}", "\"validityPeriodInDays\"" },
        { "{\"validityPeriodInDays\":0}", "\"validityPeriodInDays\"" },
        { "{\"validityPeriodInDays\":-1}", "\"validityPeriodInDays\"" },
        { "{\"validityPeriodInDays\":36501}", "\"validityPeriodInDays\"" },
        { "{\"validityPeriodInDays\":18446744073709551615}", "\"validityPeriodInDays\"" },
        { "{\"subjectAlternativeNames\":{}}", "\"subjectAlternativeNames\"" },
        { "{\"subjectAlternativeNames\":\"upn\"}", "\"subjectAlternativeNames\"" },
        { "{\"subjectAlternativeNames\":[null]}", "subjectAlternativeNames[0]" },
        { "{\"subjectAlternativeNames\":[{\"type\":\"upn\",\"value\":\"u\"},\"u\"]}",
                "subjectAlternativeNames[1]" },
        { "{\"subjectAlternativeNames\":[{\"value\":\"u\"}]}",
                "subjectAlternativeNames[0]: member \"type\"" },
        { "{\"subjectAlternativeNames\":[{\"type\":\"\",\"value\":\"u\"}]}",
                "subjectAlternativeNames[0]: member \"type\"" },
        { "{\"subjectAlternativeNames\":[{\"type\":1,\"value\":\"u\"}]}",
                "subjectAlternativeNames[0]: member \"type\"" },
        { "{\"subjectAlternativeNames\":[{\"type\":\"upn\",\"value\":[\"u\"]}]}",
                "subjectAlternativeNames[0]: member \"value\"" },
        { "{\"subjectAlternativeNames\":[{\"type\":\"upn\",\"value\":\"u\\u0000v\"}]}",
                "subjectAlternativeNames[0]: member \"value\"" },
        { "{\"keyUsages\":\"digitalSignature\"}", "\"keyUsages\"" },
        { "{\"keyUsages\":[\"digitalSignature\",1]}", "keyUsages[1]" },
        { "{\"keyUsages\":[null]}", "keyUsages[0]" },
        { "{\"keyUsages\":[\"a\\u0000b\"]}", "keyUsages[0]" },
        { "{\"extendedKeyUsages\":{}}", "\"extendedKeyUsages\"" },
        { "{\"extendedKeyUsages\":[[]]}", "extendedKeyUsages[0]" },
        { "{\"recipientCertificate\":\"*\"}", "\"recipientCertificate\"" },
        { "{\"recipientCertificate\":\"AQ==\\r\\n\"}", "\"recipientCertificate\"" },
        { "{\"encryptedPfxBlob\":\"A\"}", "\"encryptedPfxBlob\"" },
        { "{\"encryptedPfxPassword\":\"A-_A\"}", "\"encryptedPfxPassword\"" },
        { "{\"encryptedPfxPassword\":{}}", "\"encryptedPfxPassword\"" },
        { "[]", "not an object" },
        { "\"x\"", "not an object" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        json_object *json = parse(cases[i].text);
        struct intune_pkcs_request request;
        struct cc_err err = { 0 };

        if (intune_pkcs_request_read(json, &request, &err) != -1)
            fail_msg("%s was read", cases[i].text);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        if (strstr(err.text, cases[i].want) == NULL)
            fail_msg("%s: %s", cases[i].text, err.text);
        intune_pkcs_request_free(&request);
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
        { "kind", 1024, false },
        { "userPrincipalName", 1024, false },
        { "userId", 1024, false },
        { "deviceId", 1024, false },
        { "subjectName", 4096, false },
        { "onPremisesSecurityIdentifier", 1024, false },
        { "keyAlgorithm", 1024, false },
        { "certificationAuthority", 1024, false },
        { "certificationAuthorityName", 1024, false },
        { "certificateTemplateName", 1024, false },
        { "certificationAuthorityType", 1024, false },
        { "passwordEncryption", 1024, false },
        { "contentCipher", 1024, false },
        { "pfxEncryption", 1024, false },
        { "recipientCertificate", 65536, true },
        { "encryptedPfxBlob", 262144, true },
        { "encryptedPfxPassword", 65536, true },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(members); i++)
        for (size_t more = 0; more < 2; more++) {
            size_t len = members[i].max + more;
            char *data = malloc(len + 1);
            json_object *json = json_object_new_object();
            struct intune_pkcs_request request;
            struct cc_err err = { 0 };
            int rc;

            memset(data, 'x', len);
            data[len] = '\0';
            if (members[i].base64)
                assert_int_equal(cc_json_add_base64(json, members[i].name, data, len, NULL), 0);
            else
                assert_int_equal(cc_json_add_str(json, members[i].name, data, NULL), 0);
            rc = intune_pkcs_request_read(json, &request, &err);
            if (rc != (more ? -1 : 0))
                fail_msg("%s of %zu: %d %s", members[i].name, len, rc, cc_err_text(&err));
            if (more) {
                assert_int_equal(err.domain, CC_DOM_INPUT);
                assert_non_null(strstr(err.text, members[i].name));
            }
            intune_pkcs_request_free(&request);
            json_object_put(json);
            free(data);
        }
}

/* A body whose array has this many elements, each of so many bytes. */
static json_object *
array_body(const char *name, size_t count, size_t len)
{
    json_object *json = json_object_new_object();
    json_object *array = json_object_new_array();
    char *text = malloc(len + 1);

    memset(text, 'x', len);
    text[len] = '\0';
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_object_new_string(text);

        if (strcmp(name, "subjectAlternativeNames") == 0) {
            json_object *san = json_object_new_object();

            assert_int_equal(cc_json_add_str(san, "type", "dns", NULL), 0);
            assert_int_equal(cc_json_add(san, "value", item, NULL), 0);
            item = san;
        }
        assert_int_equal(json_object_array_add(array, item), 0);
    }
    assert_int_equal(cc_json_add(json, name, array, NULL), 0);
    free(text);
    return json;
}

static void
arrays_have_ceilings(void **state)
{
    static const struct {
        const char *name;
        size_t max;
    } arrays[] = {
        { "subjectAlternativeNames", INTUNE_PKCS_SANS_MAX },
        { "keyUsages", INTUNE_PKCS_USAGES_MAX },
        { "extendedKeyUsages", INTUNE_PKCS_USAGES_MAX },
    };
    static const struct {
        size_t more, len;
        int want_rc;
    } cases[] = { { 0, 1024, 0 }, { 1, 1, -1 }, { 1000, 1, -1 }, { 0, 1025, -1 } };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(arrays); i++)
        for (size_t j = 0; j < CC_COUNT(cases); j++) {
            json_object *json =
                    array_body(arrays[i].name, arrays[i].max + cases[j].more, cases[j].len);
            struct intune_pkcs_request request;
            struct cc_err err = { 0 };
            int rc = intune_pkcs_request_read(json, &request, &err);
            size_t count =
                    request.san_count + request.key_usage_count + request.extended_key_usage_count;

            if (rc != cases[j].want_rc)
                fail_msg("%s, case %zu: %d %s", arrays[i].name, j, rc, cc_err_text(&err));
            if (rc != 0)
                assert_non_null(strstr(err.text, arrays[i].name));
            else
                assert_int_equal(count, arrays[i].max);
            /* Whatever came, no count leads beyond its array. */
            assert_true(count <= arrays[i].max);
            intune_pkcs_request_free(&request);
            json_object_put(json);
        }
}

static void
writes_results(void **state)
{
    static const struct {
        struct intune_pkcs_result result;
        const char *want;
    } cases[] = {
        { { .request_context = "c1",
                  .error_message = "not sent",
                  .certificate = { (const uint8_t *)"\1\2\3", 3 },
                  .thumbprint = "0123456789ABCDEF0123456789ABCDEF01234567",
                  .serial_number = "0A5F",
                  .expiration_ms = INT64_C(1793534400000),
                  .issuing_authority = "CN=Issuing,O=Contoso",
                  .authority_configuration = "corp",
                  .pfx = { (const uint8_t *)"\4\5", 2 },
                  .encrypted_password = { (const uint8_t *)"\6", 1 },
                  .password_encryption = "cms" },
                "{\"requestContext\":\"c1\",\"succeeded\":true,\"errorCode\":\"None\",\"certificate\":\"AQID\","
                "\"certificateThumbprint\":\"0123456789ABCDEF0123456789ABCDEF01234567\","
                "\"certificateSerialNumber\":\"0A5F\",\"certificateExpirationDateTime\":\"2026-11-01T12:00:00.000Z\","
                "\"issuingCertificateAuthority\":\"CN=Issuing,O=Contoso\",\"caConfiguration\":\"corp\","
                "\"encryptedPfxBlob\":\"BAU=\",\"encryptedPfxPassword\":\"Bg==\",\"passwordEncryption\":\"cms\"}" },
        /* A recrypt: the certificate is the old one, and not told again. */
        { { .request_context = "c\"2",
                  .pfx = { (const uint8_t *)"\1\2\3", 3 },
                  .encrypted_password = { (const uint8_t *)"\4", 1 },
                  .password_encryption = "rsaPkcs1" },
                "{\"requestContext\":\"c\\\"2\",\"succeeded\":true,\"errorCode\":\"None\",\"encryptedPfxBlob\":\"AQID\","
                "\"encryptedPfxPassword\":\"BA==\",\"passwordEncryption\":\"rsaPkcs1\"}" },
        { { .request_context = "c3",
                  .error_code = INTUNE_CA_DENIED,
                  .error_message = "not by this profile",
                  .certificate = { (const uint8_t *)"\1", 1 },
                  .serial_number = "0A",
                  .pfx = { (const uint8_t *)"\1", 1 } },
                "{\"requestContext\":\"c3\",\"succeeded\":false,\"errorCode\":\"CaDenied\","
                "\"errorMessage\":\"not by this profile\",\"retryable\":false}" },
        { { .request_context = "c4", .error_code = INTUNE_CA_UNAVAILABLE, .retryable = true },
                "{\"requestContext\":\"c4\",\"succeeded\":false,\"errorCode\":\"CaUnavailable\",\"retryable\":true}" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf text = CC_BUF_INIT(10000);

        assert_int_equal(intune_pkcs_result_write(&cases[i].result, &text, NULL), 0);
        assert_string_equal(cc_buf_str(&text), cases[i].want);
        cc_buf_free(&text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_kind),
        cmocka_unit_test(reads_a_request_to_issue),
        cmocka_unit_test(reads_a_request_to_recrypt),
        cmocka_unit_test(absent_and_null_are_the_same),
        cmocka_unit_test(refuses_what_is_wrong),
        cmocka_unit_test(members_have_ceilings),
        cmocka_unit_test(arrays_have_ceilings),
        cmocka_unit_test(writes_results),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
