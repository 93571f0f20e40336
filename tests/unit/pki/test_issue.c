/* SPDX-License-Identifier: MIT */
#include "pki/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>

#include "base/clock.h"
#include "base/text.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/lint.h"

/* A root, an intermediate and keys of both kinds, made once. */
static struct {
    EVP_PKEY *root_key, *ca_key, *rsa, *ec;
    X509 *root, *ca;
} pki;

static const uint8_t serial_bytes[PKI_SERIAL_LEN] = { 0x7f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    13, 14, 15, 16, 17, 18, 19 };
static const struct cc_bytes serial = { serial_bytes, sizeof(serial_bytes) };

#define must(call)                                                                                 \
    do {                                                                                           \
        struct cc_err must_err = { 0 }, *err = &must_err;                                          \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, cc_err_text(err));                                           \
    } while (0)

static struct pki_profile
profile_of(void)
{
    static const char *const extended[] = { "1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.4" };
    static const char *const policies[] = { "1.3.6.1.4.1.32473.1", "2.5.29.32.0" };
    static const char *const crls[] = { "http://pki.contoso.example/corp.crl" };
    static const char *const deltas[] = { "http://pki.contoso.example/corp-delta.crl" };
    static const char *const issuers[] = { "http://pki.contoso.example/corp.cer" };
    static const char *const ocsps[] = { "http://pki.contoso.example/ocsp" };

    return (struct pki_profile){
        .name = "device",
        .validity_ms = 365 * PKI_DAY_MS,
        .backdate_ms = 300000,
        .key_usages = KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT,
        .extended_key_usages = { extended, 2 },
        .san_types = (1u << PKI_SAN_TYPES) - 1,
        .key_specs = (1u << PKI_KEYSPECS) - 1,
        .policies = { policies, 2 },
        .crl_urls = { crls, 1 },
        .delta_crl_urls = { deltas, 1 },
        .issuer_urls = { issuers, 1 },
        .ocsp_urls = { ocsps, 1 },
        .sid = PKI_SID_EXTENSION,
    };
}

static X509 *
make_ca(const char *subject, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, int path_len)
{
    struct pki_plan *plan = pki_plan_new(NULL);
    struct pki_issuer by = { .certificate = issuer, .key = issuer_key };
    X509 *cert = NULL;

    assert_non_null(plan);
    plan->is_ca = true;
    plan->path_len = path_len;
    plan->key_usages = KU_KEY_CERT_SIGN | KU_CRL_SIGN;
    plan->not_before_ms = cc_clock_now_ms() - 3600000;
    plan->not_after_ms = plan->not_before_ms + 3650 * PKI_DAY_MS;
    must(pki_name_parse(subject, &plan->subject, err));
    must(pki_cert_issue(plan, serial, key, &by, &cert, err));
    pki_plan_free(plan);
    return cert;
}

static int
setup(void **state)
{
    (void)state;
    must(pki_key_generate(PKI_EC_P384, &pki.root_key, err));
    must(pki_key_generate(PKI_RSA2048, &pki.ca_key, err));
    must(pki_key_generate(PKI_RSA2048, &pki.rsa, err));
    must(pki_key_generate(PKI_EC_P256, &pki.ec, err));
    pki.root = make_ca("CN=Contoso Root,O=Contoso", pki.root_key, NULL, pki.root_key, -1);
    pki.ca = make_ca("CN=Contoso Issuing,O=Contoso", pki.ca_key, pki.root, pki.root_key, 0);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    X509_free(pki.root);
    X509_free(pki.ca);
    EVP_PKEY_free(pki.root_key);
    EVP_PKEY_free(pki.ca_key);
    EVP_PKEY_free(pki.rsa);
    EVP_PKEY_free(pki.ec);
    return 0;
}

static const struct pki_san sans[] = { { PKI_SAN_UPN, "user1@contoso.example" },
    { PKI_SAN_EMAIL, "user1@contoso.example" }, { PKI_SAN_DNS, "device1.contoso.example" },
    { PKI_SAN_URI, "urn:device:1" }, { PKI_SAN_IP, "2001:db8::1" },
    { PKI_SAN_GUID, "00112233-4455-6677-8899-aabbccddeeff" } };

#define SID "S-1-5-21-1004336348-1177238915-682003330-1105"

static struct pki_plan *
make_plan(const struct pki_profile *profile, const struct pki_ask *ask)
{
    struct pki_plan *plan = NULL;

    must(pki_plan_make(profile, ask, cc_clock_now_ms(), &plan, err));
    return plan;
}

static X509 *
issue(const struct pki_plan *plan, EVP_PKEY *key)
{
    const struct pki_issuer by = { .certificate = pki.ca, .key = pki.ca_key };
    X509 *cert = NULL;

    must(pki_cert_issue(plan, serial, key, &by, &cert, err));
    return cert;
}

/* ---- what other tools say of it ---- */

static void
write_pem(const char *folder, const char *name, X509 *cert)
{
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "a");
    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, cert), 1);
    fclose(file);
}

static void
run(const char *folder, const char *command)
{
    char line[512];

    (void)snprintf(line, sizeof(line), "cd %s && %s", folder, command);
    if (system(line) != 0)
        fail_msg("%s", line);
}

static void
test_chain_passes_other_tools(void **state)
{
    struct pki_profile profile = profile_of();
    struct pki_ask ask = { .subject = "CN=user1,OU=Sales\\, East,O=Contoso",
        .sans = sans,
        .san_count = CC_COUNT(sans),
        .sid = SID };
    EVP_PKEY *keys[] = { pki.rsa, pki.ec };
    char folder[] = "/tmp/test_issue.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(folder));
    write_pem(folder, "root.pem", pki.root);
    write_pem(folder, "ca.pem", pki.ca);
    for (size_t i = 0; i < CC_COUNT(keys); i++) {
        struct pki_plan *plan = make_plan(&profile, &ask);
        X509 *cert = issue(plan, keys[i]);

        must(pki_plan_compare(plan, keys[i], cert, err));
        write_pem(folder, "leaf.pem", cert);
        run(folder, "openssl verify -x509_strict -purpose sslclient -CAfile root.pem -untrusted "
                    "ca.pem leaf.pem >/dev/null");
        run(folder, "cat leaf.pem ca.pem root.pem >chain.pem && certtool --verify-chain --infile "
                    "chain.pem >/dev/null");
        run(folder, "rm leaf.pem chain.pem");
        X509_free(cert);
        pki_plan_free(plan);
    }
    run(folder, "rm -r ../$(basename $PWD)");
}

/* ---- the SID extension, byte for byte ---- */

static void
test_sid_extension(void **state)
{
    struct pki_profile profile = profile_of();
    struct pki_ask ask = { .subject = "CN=user1", .sid = SID };
    struct pki_plan *plan = make_plan(&profile, &ask);
    X509 *cert = issue(plan, pki.rsa);
    ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.4.1.311.25.2", 1);
    X509_EXTENSION *extension = X509_get_ext(cert, X509_get_ext_by_OBJ(cert, oid, -1));
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);
    char hex[256];

    (void)state;
    cc_hex(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value), false, hex);
    assert_string_equal(hex,
            "303fa03d060a2b060104018237190201a02f042d532d312d352d32312d313030343333363334382d31313737"
            "3233383931352d3638323030333333302d31313035");
    assert_int_equal(X509_EXTENSION_get_critical(extension), 0);
    ASN1_OBJECT_free(oid);
    X509_free(cert);
    pki_plan_free(plan);

    profile.sid = PKI_SID_URI;
    plan = make_plan(&profile, &ask);
    cert = issue(plan, pki.ec);
    must(pki_plan_compare(plan, pki.ec, cert, err));
    assert_int_equal(sk_GENERAL_NAME_num(plan->sans), 1);
    assert_string_equal((const char *)ASN1_STRING_get0_data(
                                sk_GENERAL_NAME_value(plan->sans, 0)->d.uniformResourceIdentifier),
            "tag:microsoft.com,2022-09-14:sid:" SID);
    X509_free(cert);
    pki_plan_free(plan);
}

/* ---- what a profile does not allow ---- */

static const char *const san_domain[] = { "contoso.example" };
static const char *const few_attributes[] = { "CN", "emailAddress" };
static const char *const server_auth[] = { "1.3.6.1.5.5.7.3.1" };
static const struct pki_san upn_elsewhere[] = { { PKI_SAN_UPN, "user1@fabrikam.example" } };
static const struct pki_san upn_lookalike[] = { { PKI_SAN_UPN, "user1@evilcontoso.example" } };
static const struct pki_san empty_email[] = { { PKI_SAN_DNS, "a.contoso.example" },
    { PKI_SAN_EMAIL, "" } };
static const struct pki_san an_ip[] = { { PKI_SAN_IP, "192.0.2.1" } };
static const struct pki_san bad_dns[] = { { PKI_SAN_DNS, "a b.contoso.example" } };

static const struct {
    struct pki_ask ask;
    const char *want;
} refused[] = {
    { { .subject = "CN=a,L=Town" }, "attribute L" },
    { { .subject = "CN=a", .sans = upn_elsewhere, .san_count = 1 }, "domain of this upn" },
    { { .subject = "CN=a", .sans = upn_lookalike, .san_count = 1 }, "domain of this upn" },
    { { .subject = "CN=a", .sans = empty_email, .san_count = 2 },
            "subjectAlternativeNames[1]: email is empty" },
    { { .subject = "CN=a", .sans = an_ip, .san_count = 1 }, "type ip" },
    { { .subject = "CN=a", .sans = bad_dns, .san_count = 1 }, "dns" },
    { { .subject = "CN=a", .key_usages = KU_KEY_CERT_SIGN }, "keyUsages" },
    { { .subject = "CN=a", .extended_key_usages = { server_auth, 1 } }, "extendedKeyUsages" },
    { { .subject = "" }, "it is empty" },
    { { .subject = "CN=a", .sid = "S-1-5-x" }, "onPremisesSecurityIdentifier" },
    { { .subject = "CN=" }, "CN is empty" },
};

static void
test_what_the_profile_forbids(void **state)
{
    struct pki_profile profile = profile_of();

    (void)state;
    profile.san_domains = (struct pki_texts){ san_domain, 1 };
    profile.subject_attributes = (struct pki_texts){ few_attributes, 2 };
    profile.san_types &= ~(1u << PKI_SAN_IP);
    for (size_t i = 0; i < CC_COUNT(refused); i++) {
        struct pki_plan *plan = NULL;
        struct cc_err why = { 0 };

        assert_int_equal(pki_plan_make(&profile, &refused[i].ask, 0, &plan, &why), -1);
        assert_null(plan);
        assert_int_equal(why.domain, CC_DOM_INPUT);
        if (strstr(why.text, refused[i].want) == NULL)
            fail_msg("%zu: %s", i, why.text);
    }
}

static void
test_validity(void **state)
{
    struct pki_profile profile = profile_of();
    struct pki_ask ask = { .subject = "CN=a", .validity_ms = 10 * PKI_DAY_MS };
    const int64_t now = INT64_C(1800000000123);
    struct pki_plan *plan = NULL;

    (void)state;
    must(pki_plan_make(&profile, &ask, now, &plan, err));
    assert_int_equal(plan->not_before_ms, INT64_C(1799999700000));
    assert_int_equal(plan->not_after_ms, INT64_C(1800000000000) + 10 * PKI_DAY_MS - 1000);
    pki_plan_free(plan);
    ask.validity_ms = 1000 * PKI_DAY_MS;
    must(pki_plan_make(&profile, &ask, now, &plan, err));
    assert_int_equal(plan->not_after_ms, INT64_C(1800000000000) + 365 * PKI_DAY_MS - 1000);
    pki_plan_free(plan);
    /* Never longer than the CA's own certificate. */
    profile.validity_ms = 36500 * PKI_DAY_MS;
    ask.validity_ms = 0;
    plan = make_plan(&profile, &ask);
    X509 *cert = issue(plan, pki.ec);
    assert_int_equal(ASN1_TIME_compare(X509_get0_notAfter(cert), X509_get0_notAfter(pki.ca)), 0);
    X509_free(cert);
    pki_plan_free(plan);
}

/* ---- an answer that is not what was asked for ---- */

static void
spoil_subject(struct pki_plan *plan)
{
    X509_NAME_free(plan->subject);
    plan->subject = NULL;
    must(pki_name_parse("CN=somebody else", &plan->subject, err));
}

static void
spoil_add_san(struct pki_plan *plan)
{
    GENERAL_NAMES *more = NULL;

    must(pki_san_build(&(struct pki_san){ PKI_SAN_UPN, "admin@contoso.example" }, 1, &more, err));
    (void)sk_GENERAL_NAME_push(plan->sans, sk_GENERAL_NAME_pop(more));
    sk_GENERAL_NAME_free(more);
}

static void
spoil_drop_san(struct pki_plan *plan)
{
    GENERAL_NAME_free(sk_GENERAL_NAME_pop(plan->sans));
}

static void
spoil_usages(struct pki_plan *plan)
{
    plan->key_usages = KU_DIGITAL_SIGNATURE;
}

static void
spoil_extended(struct pki_plan *plan)
{
    must(pki_plan_add_extended_key_usage(plan, "1.3.6.1.5.5.7.3.1", err));
}

static void
spoil_sid(struct pki_plan *plan)
{
    cc_strcpy(plan->sid, sizeof(plan->sid), "S-1-5-21-1004336348-1177238915-682003330-500");
}

static void
spoil_no_sid(struct pki_plan *plan)
{
    plan->sid[0] = '\0';
}

static void
spoil_validity(struct pki_plan *plan)
{
    plan->not_after_ms += 30 * PKI_DAY_MS;
}

static void
spoil_ca(struct pki_plan *plan)
{
    plan->is_ca = true;
    plan->key_usages |= KU_KEY_CERT_SIGN;
}

static const struct {
    void (*spoil)(struct pki_plan *plan); /* what the CA makes of it */
    const char *want;
} answers[] = {
    { spoil_subject, "subject is another" },
    { spoil_add_san, "not asked for" },
    { spoil_drop_san, "missing or another" },
    { spoil_usages, "key usages" },
    { spoil_extended, "extended key usage that was not" },
    { spoil_sid, "SID is another" },
    { spoil_no_sid, "SID is missing" },
    { spoil_validity, "valid longer" },
    { spoil_ca, "that of a CA" },
};

static void
test_compare(void **state)
{
    struct pki_profile profile = profile_of();
    struct pki_ask ask = { .subject = "CN=user1",
        .sans = sans,
        .san_count = CC_COUNT(sans),
        .sid = SID };
    struct pki_plan *plan = make_plan(&profile, &ask);
    X509 *good = issue(plan, pki.rsa);
    struct cc_err why = { 0 };

    (void)state;
    must(pki_plan_compare(plan, pki.rsa, good, err));
    assert_int_equal(pki_plan_compare(plan, pki.ec, good, &why), -1);
    assert_non_null(strstr(why.text, "another key"));
    for (size_t i = 0; i < CC_COUNT(answers); i++) {
        struct pki_plan *other = make_plan(&profile, &ask);
        /* The issuing CA has a path length of 0: a CA below it comes from the root. */
        struct pki_issuer by = { .certificate = pki.ca, .key = pki.ca_key };
        X509 *cert = NULL;

        answers[i].spoil(other);
        if (other->is_ca)
            by = (struct pki_issuer){ .certificate = pki.root, .key = pki.root_key };
        must(pki_cert_issue(other, serial, pki.rsa, &by, &cert, err));
        cc_err_clear(&why);
        assert_int_equal(pki_plan_compare(plan, pki.rsa, cert, &why), -1);
        if (strstr(why.text, answers[i].want) == NULL)
            fail_msg("%zu: %s", i, why.text);
        X509_free(cert);
        pki_plan_free(other);
    }
    X509_free(good);
    pki_plan_free(plan);
}

/* ---- requests ---- */

static void
test_request(void **state)
{
    struct pki_profile profile = profile_of();
    struct pki_ask ask = { .subject = "CN=user1,O=Contoso",
        .sans = sans,
        .san_count = CC_COUNT(sans),
        .sid = SID };
    struct pki_plan *plan = make_plan(&profile, &ask);
    struct cc_buf subject = CC_BUF_INIT(4096), extensions = CC_BUF_INIT(4096),
                  der = CC_BUF_INIT(8192);
    struct pki_csr_ask *read = NULL;
    const struct pki_ask *got;
    X509_REQ *csr = NULL;
    struct cc_err why = { 0 };

    (void)state;
    must(pki_name_write(plan->subject, &subject, err));
    must(pki_plan_extensions(plan, &extensions, err));
    must(pki_csr_build(pki.ec, cc_buf_bytes(&subject), cc_buf_bytes(&extensions), NULL, &der, err));
    must(pki_csr_parse(cc_buf_bytes(&der), &csr, err));
    must(pki_csr_verify(csr, err));
    must(pki_csr_read_ask(csr, &read, err));
    got = pki_csr_ask_get0(read);
    assert_string_equal(got->subject, "CN=user1,O=Contoso");
    assert_int_equal(got->san_count, CC_COUNT(sans));
    for (size_t i = 0; i < got->san_count; i++) {
        assert_int_equal(got->sans[i].type, sans[i].type);
        assert_string_equal(got->sans[i].value, sans[i].value);
    }
    assert_true(pki_csr_ask_had_sid(read));
    assert_null(got->sid);
    assert_int_equal(got->key_usages, KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT);
    assert_int_equal(got->extended_key_usages.count, 2);
    pki_csr_ask_free(read);
    X509_REQ_free(csr);

    /* Cut short, followed by something, and with a signature of another key. */
    assert_int_equal(pki_csr_parse((struct cc_bytes){ der.data, der.len - 1 }, &csr, &why), -1);
    der.data[der.len - 1] ^= 1;
    must(pki_csr_parse(cc_buf_bytes(&der), &csr, err));
    cc_err_clear(&why);
    assert_int_equal(pki_csr_verify(csr, &why), -1);
    assert_non_null(strstr(why.text, "signature"));
    X509_REQ_free(csr);
    must(cc_buf_add_u8(&der, 0, err));
    assert_int_equal(pki_csr_parse(cc_buf_bytes(&der), &csr, NULL), -1);
    cc_buf_free(&subject);
    cc_buf_free(&extensions);
    cc_buf_free(&der);
    pki_plan_free(plan);
}

static void
add_request_extension(X509_REQ *csr, const char *name, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();

    X509V3_set_ctx(&ctx, NULL, NULL, csr, NULL, 0);
    extension = X509V3_EXT_nconf(NULL, &ctx, name, value);
    assert_non_null(extension);
    sk_X509_EXTENSION_push(list, extension);
    assert_int_equal(X509_REQ_add_extensions(csr, list), 1);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
}

static const struct {
    const char *name, *value, *want; /* want NULL: taken */
} request_extensions[] = {
    { "basicConstraints", "CA:TRUE", "basicConstraints" },
    { "basicConstraints", "CA:FALSE", NULL },
    { "nameConstraints", "permitted;DNS:a.example", "2.5.29.30" },
    { "subjectAltName", "RID:1.2.3.4", "type that is not known" },
    { "subjectAltName", "otherName:1.2.3.4;UTF8:x", "otherName 1.2.3.4" },
    { "subjectAltName", "DNS:a.contoso.example", NULL },
    { "1.2.3.4.5", "ASN1:UTF8:x", "1.2.3.4.5" },
};

static void
test_request_extensions(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(request_extensions); i++) {
        X509_REQ *csr = X509_REQ_new();
        struct pki_csr_ask *ask = NULL;
        struct cc_err why = { 0 };
        int rc;

        add_request_extension(csr, request_extensions[i].name, request_extensions[i].value);
        rc = pki_csr_read_ask(csr, &ask, &why);
        assert_int_equal(rc, request_extensions[i].want == NULL ? 0 : -1);
        if (rc != 0 && strstr(why.text, request_extensions[i].want) == NULL)
            fail_msg("%zu: %s", i, why.text);
        pki_csr_ask_free(ask);
        X509_REQ_free(csr);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_passes_other_tools),
        cmocka_unit_test(test_sid_extension),
        cmocka_unit_test(test_what_the_profile_forbids),
        cmocka_unit_test(test_validity),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_request_extensions),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
