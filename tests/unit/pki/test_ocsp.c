/* SPDX-License-Identifier: MIT */
#include "pki/ocsp.h"

#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "files.h"
#include "issuer.h"

static char folder[] = "/tmp/test-ocsp-XXXXXX";
static struct pki_issuer ca, other;
static EVP_PKEY *signer_key;
static X509 *signer;

static int
setup(void **state)
{
    (void)state;
    ca = make_issuer("P-256");
    other = make_issuer("P-256");
    signer_key = make_key("rsa");
    signer = make_cert("Example OCSP", signer_key, &ca);
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    X509_free(signer);
    EVP_PKEY_free(signer_key);
    free_issuer(&other);
    free_issuer(&ca);
    return rmdir(folder);
}

/* ---- requests by OpenSSL ---- */

static OCSP_CERTID *
make_id(const EVP_MD *md, X509 *issuer, long serial)
{
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    OCSP_CERTID *id;

    assert_true(ASN1_INTEGER_set(number, serial));
    id = OCSP_cert_id_new(md, X509_get_subject_name(issuer), X509_get0_pubkey_bitstr(issuer),
            number);
    assert_non_null(id);
    ASN1_INTEGER_free(number);
    return id;
}

/* For serials 1, 2, 3 ... of the CA. */
static OCSP_REQUEST *
make_request(int count)
{
    OCSP_REQUEST *request = OCSP_REQUEST_new();

    for (int i = 0; i < count; i++)
        assert_non_null(OCSP_request_add0_id(request, make_id(EVP_sha1(), ca.certificate, i + 1)));
    return request;
}

/* Frees the request. */
static struct cc_buf
der_of(OCSP_REQUEST *request)
{
    struct cc_buf der = CC_BUF_INIT(4 * PKI_OCSP_REQUEST_MAX);
    unsigned char *bytes = NULL;
    int len = i2d_OCSP_REQUEST(request, &bytes);

    assert_true(len > 0);
    assert_int_equal(cc_buf_add(&der, bytes, (size_t)len, NULL), 0);
    OPENSSL_free(bytes);
    OCSP_REQUEST_free(request);
    return der;
}

/* NULL when it is refused; frees the request. */
static struct pki_ocsp_request *
parse(OCSP_REQUEST *request)
{
    struct cc_buf der = der_of(request);
    struct pki_ocsp_request *parsed = NULL;
    struct cc_err err = { 0 };
    int rc = pki_ocsp_request_parse(cc_buf_bytes(&der), &parsed, &err);

    assert_int_equal(rc == 0, parsed != NULL);
    assert_int_equal(err.domain, rc == 0 ? CC_DOM_NONE : CC_DOM_INPUT);
    cc_buf_free(&der);
    return parsed;
}

static bool
accepts(OCSP_REQUEST *request)
{
    struct pki_ocsp_request *parsed = parse(request);
    bool accepted = parsed != NULL;

    pki_ocsp_request_free(parsed);
    return accepted;
}

/* ---- parse ---- */

static void
issuers_are_known_by_any_digest(void **state)
{
    static const EVP_MD *(*const digests[])(void) = { EVP_sha1, EVP_sha224, EVP_sha256, EVP_sha384,
        EVP_sha512, EVP_sha3_256, EVP_md5 };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(digests); i++) {
        OCSP_REQUEST *request = OCSP_REQUEST_new();
        struct pki_ocsp_request *parsed;

        assert_non_null(OCSP_request_add0_id(request, make_id(digests[i](), ca.certificate, 5)));
        parsed = parse(request);
        assert_non_null(parsed);
        assert_true(pki_ocsp_request_is_for(parsed, 0, ca.certificate));
        /* the same name, another key */
        assert_false(pki_ocsp_request_is_for(parsed, 0, other.certificate));
        /* another name */
        assert_false(pki_ocsp_request_is_for(parsed, 0, signer));
        pki_ocsp_request_free(parsed);
    }
}

/* 1.3.14.3.2.x: 26 is SHA-1, 18 is SHA, which OpenSSL knows by name alone, 3 is no digest, and of 99 nobody heard. */
static void
digests_that_nobody_computes_match_nothing(void **state)
{
    static const struct {
        uint8_t last;
        bool want;
    } oids[] = { { 26, true }, { 18, false }, { 3, false }, { 99, false } };
    static const uint8_t sha1[] = { 0x06, 5, 0x2b, 0x0e, 3, 2, 26 };
    struct cc_buf der = der_of(make_request(1));
    uint8_t *oid = memmem(der.data, der.len, sha1, sizeof(sha1));

    (void)state;
    assert_non_null(oid);
    for (size_t i = 0; i < CC_COUNT(oids); i++) {
        struct pki_ocsp_request *parsed = NULL;

        oid[sizeof(sha1) - 1] = oids[i].last;
        assert_int_equal(pki_ocsp_request_parse(cc_buf_bytes(&der), &parsed, NULL), 0);
        assert_int_equal(pki_ocsp_request_is_for(parsed, 0, ca.certificate), oids[i].want);
        pki_ocsp_request_free(parsed);
    }
    cc_buf_free(&der);
}

/* OpenSSL reads end-of-contents octets as parameters, and then cannot read what it writes for them. */
static void
an_id_that_cannot_be_given_back_is_refused(void **state)
{
    static const uint8_t null_parameters[] = { 3, 2, 26, 5, 0, 4, 20 };
    struct cc_buf der = der_of(make_request(1));
    uint8_t *place = memmem(der.data, der.len, null_parameters, sizeof(null_parameters));
    struct pki_ocsp_request *parsed = NULL;
    struct cc_err err = { 0 };

    (void)state;
    assert_non_null(place);
    place[3] = 0;
    assert_int_equal(pki_ocsp_request_parse(cc_buf_bytes(&der), &parsed, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_null(parsed);
    cc_buf_free(&der);
}

static void
ids_and_serials_are_told(void **state)
{
    struct pki_ocsp_request *parsed = parse(make_request(3));
    struct cc_buf serial = CC_BUF_INIT(20);

    (void)state;
    assert_int_equal(pki_ocsp_request_count(parsed), 3);
    assert_false(pki_ocsp_request_has_nonce(parsed));
    for (size_t i = 0; i < 3; i++) {
        OCSP_CERTID *want = make_id(EVP_sha1(), ca.certificate, (long)i + 1);
        struct cc_bytes id = pki_ocsp_request_certid(parsed, i);
        unsigned char *der = NULL;
        int len = i2d_OCSP_CERTID(want, &der);

        assert_int_equal(id.len, len);
        assert_memory_equal(id.data, der, id.len);
        cc_buf_reset(&serial);
        assert_int_equal(pki_ocsp_request_serial(parsed, i, &serial, NULL), 0);
        assert_int_equal(serial.len, 1);
        assert_int_equal(serial.data[0], i + 1);
        OPENSSL_free(der);
        OCSP_CERTID_free(want);
    }
    cc_buf_free(&serial);
    pki_ocsp_request_free(parsed);
}

static const struct {
    const char *decimal;
    int want;
    const char *want_bytes;
    size_t want_len;
} serials[] = {
    { "0", 0, "\x00", 1 },
    { "127", 0, "\x7f", 1 },
    { "128", 0, "\x80", 1 },
    { "65280", 0, "\xff\x00", 2 },
    /* 2^160 - 1, and one more, which the buffer of 20 bytes does not take */
    { "1461501637330902918203684832716283019655932542975", 0,
            "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            20 },
    { "1461501637330902918203684832716283019655932542976", -1, NULL, 0 },
    { "-1", -1, NULL, 0 },
};

static void
serials_have_no_sign_octet(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(serials); i++) {
        struct cc_buf serial = CC_BUF_INIT(20);
        OCSP_REQUEST *request = OCSP_REQUEST_new();
        ASN1_INTEGER *number = s2i_ASN1_INTEGER(NULL, serials[i].decimal);
        struct pki_ocsp_request *parsed;
        struct cc_err err = { 0 };

        assert_non_null(OCSP_request_add0_id(request,
                OCSP_cert_id_new(EVP_sha1(), X509_get_subject_name(ca.certificate),
                        X509_get0_pubkey_bitstr(ca.certificate), number)));
        parsed = parse(request);
        assert_non_null(parsed);
        assert_int_equal(pki_ocsp_request_serial(parsed, 0, &serial, &err), serials[i].want);
        if (serials[i].want == 0) {
            assert_int_equal(serial.len, serials[i].want_len);
            assert_memory_equal(serial.data, serials[i].want_bytes, serial.len);
        } else {
            assert_int_equal(err.domain, CC_DOM_INPUT);
        }
        ASN1_INTEGER_free(number);
        pki_ocsp_request_free(parsed);
        cc_buf_free(&serial);
    }
}

static void
counts_are_limited(void **state)
{
    (void)state;
    assert_false(accepts(make_request(0)));
    assert_true(accepts(make_request(1)));
    assert_true(accepts(make_request(PKI_OCSP_CERTS_MAX)));
    assert_false(accepts(make_request(PKI_OCSP_CERTS_MAX + 1)));
}

/* An extension with these octets as they are. */
static void
add_raw_extension(OCSP_REQUEST *request, int nid, int critical, size_t len)
{
    static unsigned char zeros[PKI_OCSP_NONCE_MAX + 1];
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension;

    assert_true(ASN1_OCTET_STRING_set(value, zeros, (int)len));
    extension = X509_EXTENSION_create_by_NID(NULL, nid, critical, value);
    assert_true(OCSP_REQUEST_add_ext(request, extension, -1));
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
}

static const struct {
    size_t len;
    bool bare; /* not wrapped in an OCTET STRING */
    bool want;
} nonces[] = {
    { 1, false, true },
    { 32, false, true },
    { PKI_OCSP_NONCE_MAX, false, true },
    { PKI_OCSP_NONCE_MAX + 1, false, false },
    { 16, true, true },
    { PKI_OCSP_NONCE_MAX, true, true },
    { PKI_OCSP_NONCE_MAX + 1, true, false },
    { 0, true, false },
};

static void
nonces_are_limited(void **state)
{
    static unsigned char bytes[PKI_OCSP_NONCE_MAX + 1];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(nonces); i++) {
        OCSP_REQUEST *request = make_request(1);
        struct pki_ocsp_request *parsed;

        if (nonces[i].bare)
            add_raw_extension(request, NID_id_pkix_OCSP_Nonce, 0, nonces[i].len);
        else
            assert_true(OCSP_request_add1_nonce(request, bytes, (int)nonces[i].len));
        parsed = parse(request);
        assert_int_equal(parsed != NULL, nonces[i].want);
        if (parsed != NULL)
            assert_true(pki_ocsp_request_has_nonce(parsed));
        pki_ocsp_request_free(parsed);
    }
}

static void
extensions_are_looked_at(void **state)
{
    static const struct {
        int nid, critical, times;
        bool want;
    } extensions[] = {
        { NID_id_pkix_OCSP_acceptableResponses, 0, 1, true },
        { NID_id_pkix_OCSP_acceptableResponses, 1, 1, false },
        { NID_id_pkix_OCSP_Nonce, 1, 1, true },
        { NID_id_pkix_OCSP_Nonce, 0, 2, false },
    };
    OCSP_REQUEST *request = make_request(2);
    X509_EXTENSION *extension;
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();

    (void)state;
    /* of one certificate, critical */
    extension = X509_EXTENSION_create_by_NID(NULL, NID_id_pkix_OCSP_serviceLocator, 1, value);
    assert_true(OCSP_ONEREQ_add_ext(OCSP_request_onereq_get0(request, 1), extension, -1));
    assert_false(accepts(request));
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);

    for (size_t i = 0; i < CC_COUNT(extensions); i++) {
        request = make_request(1);
        for (int n = 0; n < extensions[i].times; n++)
            add_raw_extension(request, extensions[i].nid, extensions[i].critical, 16);
        assert_int_equal(accepts(request), extensions[i].want);
    }
}

static void
nothing_but_one_whole_request_is_taken(void **state)
{
    struct cc_buf der = der_of(make_request(2));
    struct pki_ocsp_request *parsed = NULL;
    uint8_t *big = calloc(1, PKI_OCSP_REQUEST_MAX + 1);
    struct cc_err err = { 0 };

    (void)state;
    for (size_t len = 0; len < der.len; len++) {
        uint8_t *copy = exact_copy(der.data, len);

        assert_int_equal(pki_ocsp_request_parse((struct cc_bytes){ copy, len }, &parsed, NULL), -1);
        free(copy);
    }
    assert_int_equal(cc_buf_add_u8(&der, 0, NULL), 0);
    assert_int_equal(pki_ocsp_request_parse(cc_buf_bytes(&der), &parsed, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_int_equal(pki_ocsp_request_parse((struct cc_bytes){ big, PKI_OCSP_REQUEST_MAX + 1 },
                             &parsed, NULL),
            -1);
    assert_null(parsed);
    pki_ocsp_request_free(NULL);
    free(big);
    cc_buf_free(&der);
}

/* ---- respond ---- */

static const struct {
    struct pki_ocsp_single single;
    int want_status, want_reason;
} statuses[] = {
    { { PKI_OCSP_GOOD, 0, PKI_REASON_UNSPECIFIED }, V_OCSP_CERTSTATUS_GOOD, -1 },
    { { PKI_OCSP_REVOKED, 1700000000000, PKI_REASON_UNSPECIFIED }, V_OCSP_CERTSTATUS_REVOKED, -1 },
    { { PKI_OCSP_REVOKED, 2600000000000, PKI_REASON_KEY_COMPROMISE }, V_OCSP_CERTSTATUS_REVOKED,
            1 },
    { { PKI_OCSP_REVOKED, 1700000000999, PKI_REASON_CERTIFICATE_HOLD }, V_OCSP_CERTSTATUS_REVOKED,
            6 },
    { { PKI_OCSP_REVOKED, 1000, PKI_REASON_AA_COMPROMISE }, V_OCSP_CERTSTATUS_REVOKED, 10 },
    { { PKI_OCSP_UNKNOWN, 0, PKI_REASON_UNSPECIFIED }, V_OCSP_CERTSTATUS_UNKNOWN, -1 },
};

static struct pki_ocsp_settings
settings_now(void)
{
    int64_t now_ms = cc_clock_now_ms();

    return (struct pki_ocsp_settings){ .signer = signer,
        .key = signer_key,
        .this_update_ms = now_ms - 1000,
        .next_update_ms = now_ms + 3600000 };
}

/* A response to a request for all of the table; frees the request. */
static struct cc_buf
respond(OCSP_REQUEST *request, const struct pki_ocsp_settings *settings)
{
    struct cc_buf der = CC_BUF_INIT(65536);
    struct pki_ocsp_single singles[CC_COUNT(statuses)];
    struct pki_ocsp_request *parsed = parse(request);
    struct cc_err err = { 0 };

    for (size_t i = 0; i < CC_COUNT(statuses); i++)
        singles[i] = statuses[i].single;
    if (pki_ocsp_respond(parsed, singles, settings, &der, &err) != 0)
        fail_msg("%s", err.text);
    pki_ocsp_request_free(parsed);
    return der;
}

static OCSP_BASICRESP *
basic_of(const struct cc_buf *der)
{
    const unsigned char *at = der->data;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)der->len);
    OCSP_BASICRESP *basic = NULL;

    if (response != NULL && at == der->data + der->len &&
            OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL)
        basic = OCSP_response_get1_basic(response);
    OCSP_RESPONSE_free(response);
    return basic;
}

static bool
verifies(const struct cc_buf *der, X509 *root)
{
    OCSP_BASICRESP *basic = basic_of(der);
    X509_STORE *store = X509_STORE_new();
    bool good;

    assert_true(X509_STORE_add_cert(store, root));
    good = basic != NULL && OCSP_basic_verify(basic, NULL, store, 0) == 1;
    X509_STORE_free(store);
    OCSP_BASICRESP_free(basic);
    return good;
}

static void
check_status(OCSP_BASICRESP *basic, size_t i)
{
    OCSP_CERTID *id = make_id(EVP_sha1(), ca.certificate, (long)i + 1);
    ASN1_GENERALIZEDTIME *revoked = NULL, *from = NULL, *to = NULL;
    int status = -1, reason = -1;

    assert_true(OCSP_resp_find_status(basic, id, &status, &reason, &revoked, &from, &to));
    assert_int_equal(status, statuses[i].want_status);
    assert_int_equal(reason, statuses[i].want_reason);
    assert_true(OCSP_check_validity(from, to, 5, -1));
    if (status == V_OCSP_CERTSTATUS_REVOKED)
        assert_int_equal(ASN1_TIME_cmp_time_t(revoked, statuses[i].single.revoked_ms / 1000), 0);
    else
        assert_null(revoked);
    OCSP_CERTID_free(id);
}

static void
openssl_reads_what_was_said(void **state)
{
    struct pki_ocsp_settings settings = settings_now();
    struct cc_buf der = respond(make_request(CC_COUNT(statuses)), &settings);
    const ASN1_OCTET_STRING *by_key = NULL;
    const X509_NAME *by_name = NULL;
    OCSP_BASICRESP *basic = basic_of(&der);

    (void)state;
    assert_non_null(basic);
    assert_true(verifies(&der, ca.certificate));
    assert_false(verifies(&der, other.certificate));
    assert_int_equal(OCSP_resp_count(basic), CC_COUNT(statuses));
    for (size_t i = 0; i < CC_COUNT(statuses); i++)
        check_status(basic, i);
    assert_true(OCSP_resp_get0_id(basic, &by_key, &by_name));
    assert_non_null(by_key);
    assert_int_equal(sk_X509_num(OCSP_resp_get0_certs(basic)), 1);
    assert_int_equal(OCSP_BASICRESP_get_ext_by_NID(basic, NID_id_pkix_OCSP_Nonce, -1), -1);
    OCSP_BASICRESP_free(basic);
    cc_buf_free(&der);
}

static void
spoiled_twins_do_not_verify(void **state)
{
    struct pki_ocsp_settings settings = settings_now();
    struct cc_buf der = respond(make_request(CC_COUNT(statuses)), &settings);

    (void)state;
    assert_true(verifies(&der, ca.certificate));
    for (size_t i = 0; i < der.len; i += 7) {
        der.data[i] ^= 1;
        assert_false(verifies(&der, ca.certificate));
        der.data[i] ^= 1;
    }
    der.len--;
    assert_false(verifies(&der, ca.certificate));
    cc_buf_free(&der);
}

static void
the_nonce_comes_back(void **state)
{
    struct pki_ocsp_settings settings = settings_now();
    OCSP_REQUEST *request = make_request(CC_COUNT(statuses)), *twin;
    OCSP_BASICRESP *basic;
    struct cc_buf der;

    (void)state;
    assert_true(OCSP_request_add1_nonce(request, NULL, 32));
    twin = ASN1_item_dup(ASN1_ITEM_rptr(OCSP_REQUEST), request);
    der = respond(request, &settings);
    basic = basic_of(&der);
    assert_true(verifies(&der, ca.certificate));
    assert_int_equal(OCSP_check_nonce(twin, basic), 1);
    assert_int_equal(OCSP_resp_count(basic), CC_COUNT(statuses));
    OCSP_REQUEST_free(twin);
    OCSP_BASICRESP_free(basic);
    cc_buf_free(&der);
}

static void
another_key_than_the_certificates_is_refused(void **state)
{
    struct pki_ocsp_settings settings = settings_now();
    struct pki_ocsp_request *parsed = parse(make_request(1));
    struct cc_buf der = CC_BUF_INIT(65536);
    struct cc_err err = { 0 };

    (void)state;
    settings.key = ca.key;
    assert_int_equal(pki_ocsp_respond(parsed, &statuses[0].single, &settings, &der, &err), -1);
    assert_int_equal(err.domain, CC_DOM_OPENSSL);
    assert_int_equal(der.len, 0);
    pki_ocsp_request_free(parsed);
    cc_buf_free(&der);
}

static void
the_digest_can_be_chosen(void **state)
{
    static const struct {
        const EVP_MD *(*md)(void);
        int want_nid;
    } mds[] = {
        { NULL, NID_sha256WithRSAEncryption },
        { EVP_sha512, NID_sha512WithRSAEncryption },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(mds); i++) {
        struct pki_ocsp_settings settings = settings_now();
        struct cc_buf der;
        OCSP_BASICRESP *basic;
        const ASN1_OBJECT *algorithm = NULL;

        settings.md = mds[i].md != NULL ? mds[i].md() : NULL;
        der = respond(make_request(CC_COUNT(statuses)), &settings);
        basic = basic_of(&der);
        X509_ALGOR_get0(&algorithm, NULL, NULL, OCSP_resp_get0_tbs_sigalg(basic));
        assert_int_equal(OBJ_obj2nid(algorithm), mds[i].want_nid);
        OCSP_BASICRESP_free(basic);
        cc_buf_free(&der);
    }
}

/* Another program's opinion. */
static void
the_openssl_program_accepts_it(void **state)
{
    struct pki_ocsp_settings settings = settings_now();
    struct cc_buf der = respond(make_request(CC_COUNT(statuses)), &settings);
    char pem[64], path[64], command[512];

    (void)state;
    write_pem(ca.certificate, folder, pem, sizeof(pem));
    snprintf(path, sizeof(path), "%s/response", folder);
    snprintf(command, sizeof(command),
            "openssl ocsp -respin %s -CAfile %s -issuer %s -serial 3 -no_nonce 2>&1 |"
            " tr '\\n' ' ' | grep -q 'verify OK.*keyCompromise'",
            path, pem, pem);
    assert_int_equal(cc_file_replace(path, der.data, der.len, 0600, NULL), 0);
    assert_int_equal(system(command), 0);
    der.data[der.len / 4] ^= 1;
    assert_int_equal(cc_file_replace(path, der.data, der.len, 0600, NULL), 0);
    assert_int_not_equal(system(command), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(pem), 0);
    cc_buf_free(&der);
}

static void
refusals_have_no_answer_in_them(void **state)
{
    static const enum pki_ocsp_refusal refusals[] = { PKI_OCSP_MALFORMED, PKI_OCSP_INTERNAL_ERROR,
        PKI_OCSP_TRY_LATER, PKI_OCSP_UNAUTHORIZED };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(refusals); i++) {
        struct cc_buf der = CC_BUF_INIT(64);
        const uint8_t want[] = { 0x30, 3, 0x0a, 1, (uint8_t)refusals[i] };

        assert_int_equal(pki_ocsp_refuse(refusals[i], &der, NULL), 0);
        assert_int_equal(der.len, sizeof(want));
        assert_memory_equal(der.data, want, sizeof(want));
        cc_buf_free(&der);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(issuers_are_known_by_any_digest),
        cmocka_unit_test(digests_that_nobody_computes_match_nothing),
        cmocka_unit_test(an_id_that_cannot_be_given_back_is_refused),
        cmocka_unit_test(ids_and_serials_are_told),
        cmocka_unit_test(serials_have_no_sign_octet),
        cmocka_unit_test(counts_are_limited),
        cmocka_unit_test(nonces_are_limited),
        cmocka_unit_test(extensions_are_looked_at),
        cmocka_unit_test(nothing_but_one_whole_request_is_taken),
        cmocka_unit_test(openssl_reads_what_was_said),
        cmocka_unit_test(spoiled_twins_do_not_verify),
        cmocka_unit_test(the_nonce_comes_back),
        cmocka_unit_test(another_key_than_the_certificates_is_refused),
        cmocka_unit_test(the_digest_can_be_chosen),
        cmocka_unit_test(the_openssl_program_accepts_it),
        cmocka_unit_test(refusals_have_no_answer_in_them),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
