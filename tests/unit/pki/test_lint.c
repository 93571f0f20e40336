/* SPDX-License-Identifier: MIT */
#include "pki/lint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include "base/text.h"

#define DAY 86400

/* A good CA's certificate and one that it could issue; each case spoils one of them in one way. */
struct world {
    EVP_PKEY *ca_key, *ec_key, *rsa_key;
    X509 *ca, *leaf;
};

static void
add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void
remove_extension(X509 *cert, int nid)
{
    int at = X509_get_ext_by_NID(cert, nid, -1);

    assert_true(at >= 0);
    X509_EXTENSION_free(X509_delete_ext(cert, at));
}

static void
replace_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    remove_extension(cert, nid);
    add_extension(cert, issuer, nid, value);
}

/* An extension of any bytes. */
static void
add_raw(X509 *cert, int nid, bool critical, const void *der, int len)
{
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension;

    assert_int_equal(ASN1_OCTET_STRING_set(value, der, len), 1);
    extension = X509_EXTENSION_create_by_NID(NULL, nid, critical, value);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
}

static void
set_critical(X509 *cert, int nid, bool critical)
{
    int at = X509_get_ext_by_NID(cert, nid, -1);

    assert_true(at >= 0);
    assert_int_equal(X509_EXTENSION_set_critical(X509_get_ext(cert, at), critical), 1);
}

static void
set_time(X509 *cert, bool end, const char *text)
{
    ASN1_TIME *t = ASN1_TIME_new();

    assert_int_equal(ASN1_STRING_set(t, text, -1), 1);
    t->type = strlen(text) > 13 ? V_ASN1_GENERALIZEDTIME : V_ASN1_UTCTIME;
    assert_int_equal(end ? X509_set1_notAfter(cert, t) : X509_set1_notBefore(cert, t), 1);
    ASN1_TIME_free(t);
}

static X509_NAME *
name_of(const char *text)
{
    X509_NAME *name = X509_NAME_new();

    if (text[0] != '\0')
        assert_int_equal(X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                 (const unsigned char *)text, -1, -1, 0),
                1);
    return name;
}

static void
set_names(X509 *cert, const char *subject, const char *issuer)
{
    X509_NAME *name = name_of(subject);

    assert_int_equal(X509_set_subject_name(cert, name), 1);
    X509_NAME_free(name);
    name = name_of(issuer);
    assert_int_equal(X509_set_issuer_name(cert, name), 1);
    X509_NAME_free(name);
}

static X509 *
new_cert(EVP_PKEY *key, const char *subject, const char *issuer, long days)
{
    X509 *cert = X509_new();

    assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set_int64(X509_get_serialNumber(cert), 0x1234567), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -DAY);
    X509_gmtime_adj(X509_getm_notAfter(cert), days * DAY);
    assert_int_equal(X509_set_pubkey(cert, key), 1);
    set_names(cert, subject, issuer);
    return cert;
}

static void
make_world(struct world *w)
{
    w->ca_key = EVP_EC_gen("P-256");
    w->ec_key = EVP_EC_gen("P-256");
    w->rsa_key = EVP_RSA_gen(2048);
    w->ca = new_cert(w->ca_key, "CA", "CA", 100);
    add_extension(w->ca, w->ca, NID_basic_constraints, "critical,CA:TRUE,pathlen:1");
    add_extension(w->ca, w->ca, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(w->ca, w->ca, NID_subject_key_identifier, "hash");
    assert_true(X509_sign(w->ca, w->ca_key, EVP_sha256()) > 0);
    w->leaf = new_cert(w->ec_key, "leaf", "CA", 10);
    add_extension(w->leaf, w->ca, NID_key_usage, "critical,digitalSignature");
    add_extension(w->leaf, w->ca, NID_ext_key_usage, "clientAuth");
    add_extension(w->leaf, w->ca, NID_subject_key_identifier, "hash");
    add_extension(w->leaf, w->ca, NID_authority_key_identifier, "keyid:always");
    add_extension(w->leaf, w->ca, NID_subject_alt_name, "DNS:pc1.contoso.example");
    add_extension(w->leaf, w->ca, NID_crl_distribution_points, "URI:http://pki.example/ca.crl");
}

static void
free_world(struct world *w)
{
    X509_free(w->ca);
    X509_free(w->leaf);
    EVP_PKEY_free(w->ca_key);
    EVP_PKEY_free(w->ec_key);
    EVP_PKEY_free(w->rsa_key);
}

/* ---- the ways to spoil a leaf ---- */

static void
version_1(struct world *w)
{
    assert_int_equal(X509_set_version(w->leaf, X509_VERSION_1), 1);
}

static void
serial_0(struct world *w)
{
    ASN1_INTEGER_set_int64(X509_get_serialNumber(w->leaf), 0);
}

static void
serial_negative(struct world *w)
{
    ASN1_INTEGER_set_int64(X509_get_serialNumber(w->leaf), -5);
}

static void
set_serial(struct world *w, const uint8_t *bytes, int len)
{
    ASN1_STRING_set(X509_get_serialNumber(w->leaf), bytes, len);
    X509_get_serialNumber(w->leaf)->type = V_ASN1_INTEGER;
}

static void
serial_of_21(struct world *w)
{
    static const uint8_t bytes[21] = { 1 };

    set_serial(w, bytes, 21);
}

/* Its top bit takes an octet more. */
static void
serial_of_20_and_a_bit(struct world *w)
{
    static const uint8_t bytes[20] = { 0x80 };

    set_serial(w, bytes, 20);
}

static void
serial_of_20(struct world *w)
{
    static const uint8_t bytes[20] = { 0x7f };

    set_serial(w, bytes, 20);
}

static void
issuer_empty(struct world *w)
{
    set_names(w->leaf, "leaf", "");
}

static void
issuer_other(struct world *w)
{
    set_names(w->leaf, "leaf", "Another");
}

static void
end_before_begin(struct world *w)
{
    X509_gmtime_adj(X509_getm_notAfter(w->leaf), -2 * DAY);
}

static void
outlives_issuer(struct world *w)
{
    X509_gmtime_adj(X509_getm_notAfter(w->leaf), 101L * DAY);
}

static void
utc_with_offset(struct world *w)
{
    set_time(w->leaf, false, "260101000000+0100");
}

static void
generalized_too_early(struct world *w)
{
    set_time(w->leaf, false, "20260101000000Z");
}

static void
subject_empty(struct world *w)
{
    set_names(w->leaf, "", "CA");
}

static void
subject_empty_but_san_critical(struct world *w)
{
    set_names(w->leaf, "", "CA");
    set_critical(w->leaf, NID_subject_alt_name, true);
}

static void
subject_long(struct world *w)
{
    X509_NAME *name = X509_NAME_new();
    char text[66];

    memset(text, 'a', 65);
    text[65] = '\0';
    /* More than the bound, which the NID form would refuse. */
    ASN1_STRING *value = ASN1_STRING_type_new(V_ASN1_UTF8STRING);
    X509_NAME_ENTRY *entry = NULL;

    ASN1_STRING_set(value, text, 65);
    entry = X509_NAME_ENTRY_create_by_OBJ(NULL, OBJ_nid2obj(NID_commonName), V_ASN1_UTF8STRING,
            ASN1_STRING_get0_data(value), 65);
    assert_int_equal(X509_NAME_add_entry(name, entry, -1, 0), 1);
    assert_int_equal(X509_set_subject_name(w->leaf, name), 1);
    X509_NAME_ENTRY_free(entry);
    ASN1_STRING_free(value);
    X509_NAME_free(name);
}

static void
extension_twice(struct world *w)
{
    add_extension(w->leaf, w->ca, NID_ext_key_usage, "serverAuth");
}

static void
no_aki(struct world *w)
{
    remove_extension(w->leaf, NID_authority_key_identifier);
}

static void
aki_of_another(struct world *w)
{
    static const uint8_t der[] = { 0x30, 0x06, 0x80, 0x04, 1, 2, 3, 4 };

    remove_extension(w->leaf, NID_authority_key_identifier);
    add_raw(w->leaf, NID_authority_key_identifier, false, der, sizeof(der));
}

static void
ski_critical(struct world *w)
{
    set_critical(w->leaf, NID_subject_key_identifier, true);
}

static void
leaf_signs_certificates(struct world *w)
{
    replace_extension(w->leaf, w->ca, NID_key_usage, "critical,digitalSignature,keyCertSign");
}

static void
no_usage(struct world *w)
{
    static const uint8_t der[] = { 0x03, 0x01, 0x00 };

    remove_extension(w->leaf, NID_key_usage);
    add_raw(w->leaf, NID_key_usage, true, der, sizeof(der));
}

static void
ec_encipherment(struct world *w)
{
    replace_extension(w->leaf, w->ca, NID_key_usage, "critical,digitalSignature,keyEncipherment");
}

static void
rsa_agreement(struct world *w)
{
    X509_set_pubkey(w->leaf, w->rsa_key);
    replace_extension(w->leaf, w->ca, NID_key_usage, "critical,keyAgreement");
}

static void
policy_twice(struct world *w)
{
    static const uint8_t der[] = { 0x30, 0x0c, 0x30, 0x04, 0x06, 0x02, 0x2a, 0x03, 0x30, 0x04, 0x06,
        0x02, 0x2a, 0x03 };

    add_raw(w->leaf, NID_certificate_policies, false, der, sizeof(der));
}

static void
san_empty(struct world *w)
{
    static const uint8_t der[] = { 0x30, 0x00 };

    remove_extension(w->leaf, NID_subject_alt_name);
    add_raw(w->leaf, NID_subject_alt_name, false, der, sizeof(der));
}

static void
san_dns_with_space(struct world *w)
{
    static const uint8_t der[] = { 0x30, 0x05, 0x82, 0x03, 'a', ' ', 'b' };

    remove_extension(w->leaf, NID_subject_alt_name);
    add_raw(w->leaf, NID_subject_alt_name, false, der, sizeof(der));
}

static void
san_ip_of_5(struct world *w)
{
    static const uint8_t der[] = { 0x30, 0x07, 0x87, 0x05, 1, 2, 3, 4, 5 };

    remove_extension(w->leaf, NID_subject_alt_name);
    add_raw(w->leaf, NID_subject_alt_name, false, der, sizeof(der));
}

static void
path_length_of_a_leaf(struct world *w)
{
    static const uint8_t der[] = { 0x30, 0x03, 0x02, 0x01, 0x00 };

    add_raw(w->leaf, NID_basic_constraints, true, der, sizeof(der));
}

static void
extended_empty(struct world *w)
{
    static const uint8_t der[] = { 0x30, 0x00 };

    remove_extension(w->leaf, NID_ext_key_usage);
    add_raw(w->leaf, NID_ext_key_usage, false, der, sizeof(der));
}

static void
crl_points_critical(struct world *w)
{
    set_critical(w->leaf, NID_crl_distribution_points, true);
}

static void
nothing(struct world *w)
{
    (void)w;
}

/* ---- and a CA below ---- */

static void
make_sub(struct world *w, const char *constraints)
{
    replace_extension(w->leaf, w->ca, NID_key_usage, "critical,keyCertSign,cRLSign");
    remove_extension(w->leaf, NID_ext_key_usage);
    add_extension(w->leaf, w->ca, NID_basic_constraints, constraints);
}

static void
sub_good(struct world *w)
{
    make_sub(w, "critical,CA:TRUE,pathlen:0");
}

static void
sub_not_critical(struct world *w)
{
    make_sub(w, "CA:TRUE,pathlen:0");
}

static void
sub_as_long(struct world *w)
{
    make_sub(w, "critical,CA:TRUE,pathlen:1");
}

static void
sub_without_ski(struct world *w)
{
    make_sub(w, "critical,CA:TRUE,pathlen:0");
    remove_extension(w->leaf, NID_subject_key_identifier);
}

static void
sub_may_not_sign(struct world *w)
{
    make_sub(w, "critical,CA:TRUE,pathlen:0");
    replace_extension(w->leaf, w->ca, NID_key_usage, "critical,cRLSign");
}

static const struct {
    const char *name;
    void (*spoil)(struct world *w);
    const char *section; /* NULL: it is good */
} cases[] = {
    { "nothing", nothing, NULL },
    { "version 1", version_1, "4.1.2.1" },
    { "serial 0", serial_0, "4.1.2.2" },
    { "serial negative", serial_negative, "4.1.2.2" },
    { "serial of 21 octets", serial_of_21, "4.1.2.2" },
    { "serial of 20 octets and a bit", serial_of_20_and_a_bit, "4.1.2.2" },
    { "serial of 20 octets", serial_of_20, NULL },
    { "issuer empty", issuer_empty, "4.1.2.4" },
    { "issuer another", issuer_other, "6.1.3" },
    { "UTCTime with an offset", utc_with_offset, "4.1.2.5" },
    { "GeneralizedTime before 2050", generalized_too_early, "4.1.2.5" },
    { "end before begin", end_before_begin, "4.1.2.5" },
    { "outlives its issuer", outlives_issuer, "4.1.2.5" },
    { "subject empty", subject_empty, "4.1.2.6" },
    { "subject empty, SAN critical", subject_empty_but_san_critical, NULL },
    { "subject too long", subject_long, "A.1" },
    { "extension twice", extension_twice, "4.2" },
    { "no authorityKeyIdentifier", no_aki, "4.2.1.1" },
    { "authorityKeyIdentifier of another", aki_of_another, "4.2.1.1" },
    { "subjectKeyIdentifier critical", ski_critical, "4.2.1.2" },
    { "leaf signs certificates", leaf_signs_certificates, "4.2.1.3" },
    { "no usage", no_usage, "4.2.1.3" },
    { "EC key for encipherment", ec_encipherment, "4.2.1.3" },
    { "RSA key for agreement", rsa_agreement, "4.2.1.3" },
    { "policy twice", policy_twice, "4.2.1.4" },
    { "SAN empty", san_empty, "4.2.1.6" },
    { "DNS name with a space", san_dns_with_space, "4.2.1.6" },
    { "IP address of 5 octets", san_ip_of_5, "4.2.1.6" },
    { "pathLenConstraint of a leaf", path_length_of_a_leaf, "4.2.1.9" },
    { "extKeyUsage empty", extended_empty, "4.2.1.12" },
    { "CRL distribution points critical", crl_points_critical, "4.2.2.1" },
    { "a CA below", sub_good, NULL },
    { "a CA below, not critical", sub_not_critical, "4.2.1.9" },
    { "a CA below, as long a path", sub_as_long, "4.2.1.9" },
    { "a CA below without subjectKeyIdentifier", sub_without_ski, "4.2.1.2" },
    { "a CA below that may not sign", sub_may_not_sign, "4.2.1.3" },
};

static void
test_each_rule(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct world w;
        struct cc_err err = { 0 };
        char want[64];
        int rc;

        make_world(&w);
        cases[i].spoil(&w);
        rc = pki_lint(w.leaf, w.ca, &err);
        if (cases[i].section == NULL) {
            if (rc != 0)
                fail_msg("%s: %s", cases[i].name, err.text);
        } else {
            (void)snprintf(want, sizeof(want), "section %s:", cases[i].section);
            if (rc != -1 || err.domain != CC_DOM_INPUT || strstr(err.text, want) == NULL)
                fail_msg("%s: %d \"%s\"", cases[i].name, rc, err.text);
        }
        free_world(&w);
    }
}

static void
test_one_that_signs_itself(void **state)
{
    struct world w;
    struct cc_err err = { 0 };

    (void)state;
    make_world(&w);
    if (pki_lint(w.ca, NULL, &err) != 0)
        fail_msg("%s", err.text);
    set_names(w.ca, "CA", "Another");
    assert_int_equal(pki_lint(w.ca, NULL, &err), -1);
    free_world(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_rule),
        cmocka_unit_test(test_one_that_signs_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
