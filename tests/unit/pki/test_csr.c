/* SPDX-License-Identifier: MIT */
#include "pki/csr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/err.h>

#include "files.h"
#include "issuer.h"

/* What devices put into their requests: a challenge, a SID, extensions out of habit. */

#define SID "S-1-5-21-1004336348-1177238915-682003330-512"
#define SID_URI "tag:microsoft.com,2022-09-14:sid:"

static EVP_PKEY *key;

static int
group_setup(void **state)
{
    (void)state;
    key = make_key("P-256");
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

/* ---- challengePassword ---- */

static X509_REQ *
make_csr(void)
{
    X509_REQ *csr = X509_REQ_new();

    assert_true(X509_REQ_set_pubkey(csr, key));
    return csr;
}

static void
add_challenge(X509_REQ *csr, int tag, const char *value, int len)
{
    X509_ATTRIBUTE *attribute =
            X509_ATTRIBUTE_create_by_NID(NULL, NID_pkcs9_challengePassword, tag, value, len);

    assert_non_null(attribute);
    assert_true(X509_REQ_add1_attr(csr, attribute));
    X509_ATTRIBUTE_free(attribute);
}

/* want: NULL: none. */
static void
expect_challenge(X509_REQ *csr, const char *want)
{
    struct cc_secret *challenge = NULL;
    struct cc_err err = { 0 };

    if (pki_csr_challenge(csr, &challenge, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_int_equal(ERR_peek_error(), 0);
    if (want == NULL)
        assert_null(challenge);
    else
        assert_string_equal(cc_secret_str(challenge), want);
    cc_secret_free(challenge);
}

static void
expect_no_challenge(X509_REQ *csr)
{
    struct cc_secret *challenge = NULL;
    struct cc_err err = { 0 };

    assert_int_equal(pki_csr_challenge(csr, &challenge, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_int_equal(ERR_peek_error(), 0);
    assert_null(challenge);
}

static void
challenges_are_of_any_string_type(void **state)
{
    static const struct {
        int tag;
        const char *bytes;
        int len;
        const char *want;
    } cases[] = {
        { V_ASN1_PRINTABLESTRING, "secret 1", 8, "secret 1" },
        { V_ASN1_UTF8STRING, "gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f" },
        { V_ASN1_IA5STRING, "a@b", 3, "a@b" },
        { V_ASN1_T61STRING, "gr\xfc", 3, "gr\xc3\xbc" },
        { V_ASN1_BMPSTRING, "\0s\0e\0\xfc", 6, "se\xc3\xbc" },
        { V_ASN1_UNIVERSALSTRING, "\0\0\0s\0\0\0\xfc", 8, "s\xc3\xbc" },
        { V_ASN1_PRINTABLESTRING, "", 0, NULL },
        { V_ASN1_UTF8STRING, "", 0, NULL },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        X509_REQ *csr = make_csr();

        expect_challenge(csr, NULL);
        add_challenge(csr, cases[i].tag, cases[i].bytes, cases[i].len);
        expect_challenge(csr, cases[i].want);
        X509_REQ_free(csr);
    }
}

static void
challenges_that_are_none_are_refused(void **state)
{
    static const struct {
        int tag;
        const char *bytes;
        int len;
    } cases[] = {
        { V_ASN1_OCTET_STRING, "secret", 6 },
        { V_ASN1_BIT_STRING, "secret", 6 },
        { V_ASN1_INTEGER, "\1", 1 },
        { V_ASN1_ENUMERATED, "\1", 1 },
        { V_ASN1_UTF8STRING, "\xff\xfe", 2 },
    };
    X509_REQ *csr;

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        csr = make_csr();
        add_challenge(csr, cases[i].tag, cases[i].bytes, cases[i].len);
        expect_no_challenge(csr);
        X509_REQ_free(csr);
    }
}

/* Two values of one attribute; and two attributes, which OpenSSL does not write: another one is renamed. */
static void
a_second_challenge_is_refused(void **state)
{
    static const uint8_t unstructured_name[] = { 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09,
        0x02 };
    X509_REQ *csr = make_csr(), *again = NULL;
    X509_ATTRIBUTE *attribute = X509_ATTRIBUTE_create_by_NID(NULL, NID_pkcs9_challengePassword,
            V_ASN1_UTF8STRING, "one", 3);
    unsigned char *der = NULL, *at;
    int len;

    (void)state;
    assert_true(X509_ATTRIBUTE_set1_data(attribute, V_ASN1_UTF8STRING, "two", 3));
    assert_true(X509_REQ_add1_attr(csr, attribute));
    expect_no_challenge(csr);
    X509_ATTRIBUTE_free(attribute);
    X509_REQ_free(csr);

    csr = make_csr();
    add_challenge(csr, V_ASN1_UTF8STRING, "one", 3);
    assert_true(X509_REQ_add1_attr_by_NID(csr, NID_pkcs9_unstructuredName, V_ASN1_UTF8STRING,
            (const unsigned char *)"two", 3));
    assert_true(X509_REQ_sign(csr, key, EVP_sha256()) > 0);
    len = i2d_X509_REQ(csr, &der);
    assert_true(len > 0);
    at = memmem(der, (size_t)len, unstructured_name, sizeof(unstructured_name));
    assert_non_null(at);
    at[8] = 7;
    assert_int_equal(pki_csr_parse((struct cc_bytes){ der, (size_t)len }, &again, NULL), 0);
    expect_no_challenge(again);
    X509_REQ_free(again);
    X509_REQ_free(csr);
    OPENSSL_free(der);
}

static void
challenges_are_written(void **state)
{
    static const struct {
        const char *challenge;
        int want_tag;
    } cases[] = {
        { "Secret-1", V_ASN1_PRINTABLESTRING },
        { "under_score", V_ASN1_UTF8STRING },
        { "gr\xc3\xbc\xc3\x9f", V_ASN1_UTF8STRING },
    };
    static const uint8_t empty_name[] = { 0x30, 0x00 };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_secret *challenge =
                cc_secret_copy(cases[i].challenge, strlen(cases[i].challenge), NULL);
        struct cc_buf der = CC_BUF_INIT(PKI_CSR_MAX);
        X509_REQ *csr = NULL;
        X509_ATTRIBUTE *attribute;

        assert_int_equal(pki_csr_build(key, (struct cc_bytes){ empty_name, 2 },
                                 (struct cc_bytes){ NULL, 0 }, challenge, &der, NULL),
                0);
        assert_int_equal(pki_csr_parse(cc_buf_bytes(&der), &csr, NULL), 0);
        assert_int_equal(pki_csr_verify(csr, NULL), 0);
        expect_challenge(csr, cases[i].challenge);
        attribute = X509_REQ_get_attr(csr, 0);
        assert_int_equal(X509_ATTRIBUTE_get0_type(attribute, 0)->type, cases[i].want_tag);
        X509_REQ_free(csr);
        cc_buf_free(&der);
        cc_secret_free(challenge);
    }
}

/* ---- extensions ---- */

/* name: as X509V3_EXT_conf() has it. */
static int
read_with(const char *const *names, const char *const *values, size_t count,
        struct pki_csr_ask **ret, struct cc_err *err)
{
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    X509_REQ *csr = make_csr();
    int rc;

    for (size_t i = 0; i < count; i++) {
        X509_EXTENSION *one = X509V3_EXT_conf(NULL, NULL, names[i], values[i]);

        assert_non_null(one);
        assert_non_null(X509v3_add_ext(&extensions, one, -1));
        X509_EXTENSION_free(one);
    }
    assert_true(X509_REQ_add_extensions(csr, extensions));
    rc = pki_csr_read_ask(csr, ret, err);
    assert_int_equal(ERR_peek_error(), 0);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(csr);
    return rc;
}

static void
expect_refused(const char *const *names, const char *const *values, size_t count, const char *why)
{
    struct pki_csr_ask *ask = NULL;
    struct cc_err err = { 0 };

    if (read_with(names, values, count, &ask, &err) == 0)
        fail_msg("%s=%s was read", names[0], values[0]);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_non_null(strstr(cc_err_text(&err), why));
    assert_null(ask);
}

/* With its length, as some have a NUL inside. */
struct uri {
    const char *bytes;
    int len;
};

#define URI(text)                                                                                  \
    {                                                                                              \
        (text), sizeof(text) - 1                                                                   \
    }

static int
read_uris(const struct uri *uris, size_t count, struct pki_csr_ask **ret, struct cc_err *err)
{
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    X509_REQ *csr = make_csr();
    int rc;

    for (size_t i = 0; i < count; i++) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *value = ASN1_IA5STRING_new();

        assert_true(ASN1_STRING_set(value, uris[i].bytes, uris[i].len));
        GENERAL_NAME_set0_value(name, GEN_URI, value);
        assert_true(sk_GENERAL_NAME_push(names, name));
    }
    assert_int_equal(X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, 0, 0), 1);
    assert_true(X509_REQ_add_extensions(csr, extensions));
    rc = pki_csr_read_ask(csr, ret, err);
    assert_int_equal(ERR_peek_error(), 0);
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(csr);
    return rc;
}

static void
a_sid_is_no_name(void **state)
{
    static const struct uri lower[] = { URI("urn:a:b"), URI(SID_URI SID) },
                            upper[] = { URI("TAG:Microsoft.com,2022-09-14:SID:" SID),
                                URI("urn:a:b") },
                            none[] = { URI("urn:a:b"), URI("tag:microsoft.com,2022-09-14:other") };
    struct pki_csr_ask *ask = NULL;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(read_uris(i == 0 ? lower : upper, 2, &ask, NULL), 0);
        assert_string_equal(pki_csr_ask_sid(ask), SID);
        assert_true(pki_csr_ask_had_sid(ask));
        assert_int_equal(pki_csr_ask_get0(ask)->san_count, 1);
        assert_string_equal(pki_csr_ask_get0(ask)->sans[0].value, "urn:a:b");
        assert_null(pki_csr_ask_get0(ask)->sid);
        pki_csr_ask_free(ask);
    }
    assert_int_equal(read_uris(none, 2, &ask, NULL), 0);
    assert_null(pki_csr_ask_sid(ask));
    assert_false(pki_csr_ask_had_sid(ask));
    assert_int_equal(pki_csr_ask_get0(ask)->san_count, 2);
    pki_csr_ask_free(ask);
}

static void
a_malformed_or_second_sid_is_refused(void **state)
{
    static const struct uri bad[] = { URI(SID_URI), URI(SID_URI "S-1-"), URI(SID_URI "S-2-5-21"),
        URI(SID_URI SID "-"), URI(SID_URI SID " "), URI(SID_URI SID "\0"),
        URI(SID_URI SID "\0.example"),
        URI(SID_URI "S-1-5-21-11111111111111111111111111111111111111111111111111111111111111111111"
                    "11111111111111111111111111111111111111111111111111111111111111111111111111111"
                    "11111111111111111111111111111111111111111111111111111111111111111111111111111"
                    "11111111111111111111111111111111111111111111") };
    static const struct uri twice[] = { URI(SID_URI SID), URI(SID_URI SID) };
    struct pki_csr_ask *ask = NULL;

    (void)state;
    for (size_t i = 0; i < CC_COUNT(bad); i++) {
        struct cc_err err = { 0 };

        if (read_uris(&bad[i], 1, &ask, &err) == 0)
            fail_msg("%s was read", bad[i].bytes);
        assert_int_equal(err.domain, CC_DOM_INPUT);
    }
    assert_int_equal(read_uris(twice, 2, &ask, NULL), -1);
    assert_null(ask);
}

static void
habits_are_passed_over(void **state)
{
    static const char *const oids[] = { "1.3.6.1.4.1.311.20.2", "1.3.6.1.4.1.311.21.8", "2.5.29.1",
        "2.5.29.3", "2.16.840.1.113730.1.11" };
    static const char *const value[] = { "DER:05:00", "DER:05:00" };
    static const char *const unknown[] = { "1.3.6.1.4.1.99999.1" };
    static const char *const policies[] = { "1.3.6.1.4.1.311.21.10" }; /* usages by another name */

    (void)state;
    for (size_t i = 0; i < CC_COUNT(oids); i++) {
        struct pki_csr_ask *ask = NULL;

        if (read_with(&oids[i], value, 1, &ask, NULL) != 0)
            fail_msg("%s was refused", oids[i]);
        assert_false(pki_csr_ask_had_sid(ask));
        pki_csr_ask_free(ask);
    }
    expect_refused(unknown, value, 1, "1.3.6.1.4.1.99999.1");
    expect_refused(policies, value, 1, "1.3.6.1.4.1.311.21.10");
}

static void
an_extension_that_stands_twice_is_refused(void **state)
{
    static const char *const names[] = { "keyUsage", "keyUsage" }, *const values[] = {
        "digitalSignature", "digitalSignature"
    };
    static const char *const ca_name[] = { "basicConstraints" }, *const ca[] = { "CA:TRUE" },
                             *const no_ca[] = { "CA:FALSE" };
    struct pki_csr_ask *ask = NULL;

    (void)state;
    expect_refused(names, values, 2, "twice");
    expect_refused(ca_name, ca, 1, "basicConstraints");
    assert_int_equal(read_with(ca_name, no_ca, 1, &ask, NULL), 0);
    pki_csr_ask_free(ask);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(challenges_are_of_any_string_type),
        cmocka_unit_test(challenges_that_are_none_are_refused),
        cmocka_unit_test(a_second_challenge_is_refused),
        cmocka_unit_test(challenges_are_written),
        cmocka_unit_test(a_sid_is_no_name),
        cmocka_unit_test(a_malformed_or_second_sid_is_refused),
        cmocka_unit_test(habits_are_passed_over),
        cmocka_unit_test(an_extension_that_stands_twice_is_refused),
    };

    return cmocka_run_group_tests_name("pki csr", tests, group_setup, group_teardown);
}
