/* SPDX-License-Identifier: MIT */
#include "pki/name.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/objects.h>

#include "base/text.h"

/* ---- text to Name and back; want: as it is written again ---- */

static const struct {
    const char *text, *want;
} good[] = {
    { "", "" },
    { "CN=user1", "CN=user1" },
    { "cn = user1 , o = Contoso", "CN=user1,O=Contoso" },
    { "CN=user1,OU=Sales\\, East,O=Contoso \\+ Co", "CN=user1,OU=Sales\\, East,O=Contoso \\+ Co" },
    { "CN=a\\\"b\\\\c\\<d\\>e\\;f", "CN=a\\\"b\\\\c\\<d\\>e\\;f" },
    { "CN=\\ leading and trailing\\ ", "CN=\\ leading and trailing\\ " },
    { "CN=\\#hash", "CN=\\#hash" },
    { "CN=a#b", "CN=a#b" },
    { "CN=equals=sign", "CN=equals=sign" },
    { "CN=Lu\\C4\\8Di\\C4\\87", "CN=Lu\xc4\x8di\xc4\x87" },
    { "CN=\xe6\x97\xa5\xe6\x9c\xac", "CN=\xe6\x97\xa5\xe6\x9c\xac" },
    { "OU=Sales+CN=J.  Smith,O=Contoso", "OU=Sales+CN=J.  Smith,O=Contoso" },
    { "1.3.6.1.4.1.32473.1=value", "1.3.6.1.4.1.32473.1=value" },
    { "2.5.4.3=user1", "CN=user1" },
    { "CN=#0C0548656C6C6F", "CN=Hello" },
    { "E=user1@contoso.example,DC=contoso,DC=example",
            "E=user1@contoso.example,DC=contoso,DC=example" },
    { "C=DE", "C=DE" },
};

static void
test_good_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(good); i++) {
        struct cc_buf text = CC_BUF_INIT(4096), der = CC_BUF_INIT(4096);
        X509_NAME *name = NULL, *again = NULL;
        struct cc_err err = { 0 };

        if (pki_name_parse(good[i].text, &name, &err) != 0)
            fail_msg("%s: %s", good[i].text, err.text);
        assert_int_equal(pki_name_format(name, &text, &err), 0);
        assert_string_equal(cc_buf_str(&text), good[i].want);
        assert_int_equal(pki_name_write(name, &der, &err), 0);
        assert_int_equal(pki_name_read(cc_buf_bytes(&der), &again, &err), 0);
        assert_int_equal(X509_NAME_cmp(name, again), 0);
        X509_NAME_free(name);
        X509_NAME_free(again);
        cc_buf_free(&text);
        cc_buf_free(&der);
    }
}

/* The first RDN of the text is the last of the Name (RFC 4514 section 2.1). */
static void
test_order(void **state)
{
    X509_NAME *name = NULL;

    (void)state;
    assert_int_equal(pki_name_parse("CN=c,OU=b,O=a", &name, NULL), 0);
    assert_int_equal(X509_NAME_get_index_by_NID(name, NID_organizationName, -1), 0);
    assert_int_equal(X509_NAME_get_index_by_NID(name, NID_commonName, -1), 2);
    X509_NAME_free(name);
}

#define SIXTEEN "0123456789abcdef"

static const struct {
    const char *text, *want;
} bad[] = {
    { "CN", "TYPE=value" },
    { "=x", "TYPE=value" },
    { "CN=a,", "ends in a separator" },
    { "CN=a+", "ends in a separator" },
    { "CN=", "CN is empty" },
    { "CN=  ", "CN is empty" },
    { "CN=a,O=,OU=b", "O is empty" },
    { "NOSUCH=a", "NOSUCH is no attribute type" },
    { "9.9=a", "9.9 is no attribute type" },
    { "CN=a\\", "backslash that escapes nothing" },
    { "CN=a\\x", "backslash that escapes nothing" },
    { "CN=a\\00b", "CN has a NUL" },
    { "CN=a\\0Ab", "CN has a control character" },
    { "CN=a\tb", "CN has a control character" },
    { "CN=\xc2\x85", "CN has a control character" },
    { "CN=\xff", "CN is not UTF-8" },
    { "CN=a\\C4", "CN is not UTF-8" },
    { "CN=a\"b", "needs a backslash" },
    { "CN=a;O=b", "needs a backslash" },
    { "CN=#0C05", "no string in its hexadecimal form" },
    { "CN=#0C0", "half a byte" },
    { "CN=#0C0161x", "something behind" },
    { "CN=#020101", "no string in its hexadecimal form" },
    { "C=#160122", "another string type" },
    { "emailAddress=#0C0161", "another string type" },
    { "C=DEU", "longer than 2 characters" },
    { "C=\xc3\x84\xc3\x96", "its type does not allow" },
    { "serialNumber=a_b", "its type does not allow" },
    { "E=\xc3\xbc@contoso.example", "its type does not allow" },
    { "CN=" SIXTEEN SIXTEEN SIXTEEN SIXTEEN "x", "longer than 64 characters" },
};

static void
test_bad_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(bad); i++) {
        X509_NAME *name = NULL;
        struct cc_err err = { 0 };

        assert_int_equal(pki_name_parse(bad[i].text, &name, &err), -1);
        assert_null(name);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        if (strstr(err.text, bad[i].want) == NULL)
            fail_msg("%s: %s", bad[i].text, err.text);
    }
}

static void
test_too_long(void **state)
{
    char text[PKI_NAME_TEXT_MAX + 2];
    X509_NAME *name = NULL;

    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text, "CN=", 3);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(pki_name_parse(text, &name, NULL), -1);
}

/* ---- alternative names ---- */

static const struct {
    enum pki_san_type type;
    const char *value, *want; /* want NULL: good */
} sans[] = {
    { PKI_SAN_UPN, "user1@contoso.example", NULL },
    { PKI_SAN_UPN, "us\xc3\xa9r@contoso.example", NULL },
    { PKI_SAN_UPN, "", "upn is empty" },
    { PKI_SAN_UPN, "a\nb", "upn has a character" },
    { PKI_SAN_EMAIL, "user1@contoso.example", NULL },
    { PKI_SAN_EMAIL, "", "email is empty" },
    { PKI_SAN_EMAIL, "contoso.example", "email is no mailbox" },
    { PKI_SAN_EMAIL, "a@b@contoso.example", "email is no mailbox" },
    { PKI_SAN_EMAIL, "us\xc3\xa9r@contoso.example", "email is no mailbox" },
    { PKI_SAN_DNS, "host.contoso.example", NULL },
    { PKI_SAN_DNS, "*.contoso.example", NULL },
    { PKI_SAN_DNS, "", "dns is empty" },
    { PKI_SAN_DNS, "a..b", "dns is no DNS name" },
    { PKI_SAN_DNS, "-a.example", "dns is no DNS name" },
    { PKI_SAN_DNS, "a.*.example", "dns is no DNS name" },
    { PKI_SAN_DNS,
            "b\xc3\xbc"
            "cher.example",
            "A-labels" },
    { PKI_SAN_URI, "urn:a:b", NULL },
    { PKI_SAN_URI, "", "uri is empty" },
    { PKI_SAN_URI, "no scheme", "uri is no URI" },
    { PKI_SAN_IP, "192.0.2.1", NULL },
    { PKI_SAN_IP, "2001:db8::1", NULL },
    { PKI_SAN_IP, "192.0.2", "ip is not written as one" },
    { PKI_SAN_IP, "", "ip is empty" },
    { PKI_SAN_GUID, "00112233-4455-6677-8899-aabbccddeeff", NULL },
    { PKI_SAN_GUID, "{00112233-4455-6677-8899-AABBCCDDEEFF}", NULL },
    { PKI_SAN_GUID, "00112233", "guid is not written as one" },
    { PKI_SAN_GUID, "", "guid is empty" },
};

static void
test_sans(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(sans); i++) {
        const struct pki_san san = { sans[i].type, sans[i].value };
        GENERAL_NAMES *names = NULL;
        struct cc_err err = { 0 };
        int rc = pki_san_build(&san, 1, &names, &err);

        assert_int_equal(rc, sans[i].want == NULL ? 0 : -1);
        if (rc != 0 && (strstr(err.text, sans[i].want) == NULL ||
                               strstr(err.text, "subjectAlternativeNames[0]") == NULL))
            fail_msg("%s: %s", sans[i].value, err.text);
        assert_int_equal(sk_GENERAL_NAME_num(names), rc == 0 ? 1 : -1);
        sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    }
}

static void
test_guid_is_stored_as_windows_does(void **state)
{
    const struct pki_san san = { PKI_SAN_GUID, "00112233-4455-6677-8899-aabbccddeeff" };
    GENERAL_NAMES *names = NULL;
    unsigned char *der = NULL;
    char hex[128];
    int len;

    (void)state;
    assert_int_equal(pki_san_build(&san, 1, &names, NULL), 0);
    len = i2d_GENERAL_NAMES(names, &der);
    cc_hex(der, (size_t)len, false, hex);
    assert_string_equal(hex,
            "3021a01f06092b0601040182371901a012041033221100554477668899aabbccddeeff");
    OPENSSL_free(der);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
}

static void
test_san_types(void **state)
{
    (void)state;
    for (int i = 0; i < PKI_SAN_TYPES; i++)
        assert_int_equal(pki_san_type_parse(pki_san_type_name((enum pki_san_type)i)), i);
    assert_int_equal(pki_san_type_parse("rfc822"), -1);
}

static void
test_sids(void **state)
{
    static const char *const bad_sids[] = { "", "S-1-", "S-2-5", "S-1-5-", "S-1--5", "S-1-5-x",
        "s-1-5-21", "S-1-5-21 " };

    (void)state;
    assert_int_equal(pki_sid_check("S-1-5-21-1-2-3-500", NULL), 0);
    for (size_t i = 0; i < CC_COUNT(bad_sids); i++)
        assert_int_equal(pki_sid_check(bad_sids[i], NULL), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_names),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_sans),
        cmocka_unit_test(test_guid_is_stored_as_windows_does),
        cmocka_unit_test(test_san_types),
        cmocka_unit_test(test_sids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
