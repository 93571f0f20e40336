/* SPDX-License-Identifier: MIT */
#include "pki/cert.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "files.h"

static int64_t
ms_of(const char *text)
{
    int64_t ms = 0;

    assert_int_equal(cc_time_parse(text, &ms, NULL), 0);
    return ms;
}

static void
parse_takes_one_certificate_and_nothing_behind_it(void **state)
{
    struct cc_buf der = read_object("rsa.der");
    struct cc_err err = { 0 };
    X509 *cert = NULL;

    (void)state;
    for (size_t len = 0; len < der.len; len++) {
        uint8_t *copy = exact_copy(der.data, len);

        assert_int_equal(pki_cert_parse((struct cc_bytes){ copy, len }, &cert, NULL), -1);
        free(copy);
    }
    assert_int_equal(cc_buf_add_u8(&der, 0, NULL), 0);
    assert_int_equal(pki_cert_parse(cc_buf_bytes(&der), &cert, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    der.len--;
    assert_null(cert);
    assert_int_equal(pki_cert_parse(cc_buf_bytes(&der), &cert, NULL), 0);
    X509_free(cert);
    cc_buf_free(&der);
}

static void
parse_has_a_ceiling(void **state)
{
    uint8_t *big = calloc(1, PKI_CERT_MAX + 1);
    X509 *cert = NULL;

    (void)state;
    /* a SEQUENCE of the whole length */
    memcpy(big, "\x30\x82\xff\xfd", 4);
    assert_int_equal(pki_cert_parse((struct cc_bytes){ big, PKI_CERT_MAX + 1 }, &cert, NULL), -1);
    assert_int_equal(pki_cert_parse((struct cc_bytes){ NULL, 0 }, &cert, NULL), -1);
    free(big);
}

/* Flipped bits must not crash, and what then still parses must be usable by all the readers. */
static void
flipped_bits_are_survived(void **state)
{
    struct cc_buf der = read_object("ec256.der");

    (void)state;
    for (size_t bit = 0; bit < der.len * 8; bit++) {
        struct cc_buf serial = CC_BUF_INIT(FILE_BYTES);
        char thumbprint[PKI_THUMBPRINT_LEN];
        int64_t from, to;
        X509 *cert = NULL;

        der.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        if (pki_cert_parse(cc_buf_bytes(&der), &cert, NULL) == 0) {
            assert_int_equal(pki_cert_thumbprint(cert, thumbprint, NULL), 0);
            assert_int_equal(pki_cert_serial(cert, &serial, NULL), 0);
            (void)!pki_cert_validity(cert, &from, &to, NULL);
            assert_int_equal(pki_cert_check_recipient(cert, 0, NULL), -1);
        }
        X509_free(cert);
        cc_buf_free(&serial);
        der.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    cc_buf_free(&der);
}

static void
the_thumbprint_is_sha1_of_the_file(void **state)
{
    struct cc_buf der = read_object("rsa.der");
    X509 *cert = read_cert("rsa.der");
    char thumbprint[PKI_THUMBPRINT_LEN];
    unsigned char digest[EVP_MAX_MD_SIZE];
    char want[PKI_THUMBPRINT_LEN] = "";

    (void)state;
    assert_true(EVP_Digest(der.data, der.len, digest, NULL, EVP_sha1(), NULL));
    for (int i = 0; i < 20; i++)
        snprintf(want + 2 * i, 3, "%02x", digest[i]);
    assert_int_equal(pki_cert_thumbprint(cert, thumbprint, NULL), 0);
    assert_string_equal(thumbprint, want);
    X509_free(cert);
    cc_buf_free(&der);
}

static void
validity_is_in_milliseconds(void **state)
{
    X509 *cert = read_cert("dated.der");
    int64_t from = 0, to = 0;

    (void)state;
    assert_int_equal(pki_cert_validity(cert, &from, &to, NULL), 0);
    assert_true(from == ms_of("2026-01-01T00:00:00Z"));
    assert_true(to == ms_of("2026-12-31T23:59:59Z"));
    X509_free(cert);
}

static void
recipients_are_judged(void **state)
{
    static const struct {
        const char *file, *now;
        int want;
        const char *want_text;
    } cases[] = {
        { "dated.der", "2026-06-01T00:00:00Z", 0, NULL },
        { "dated.der", "2026-01-01T00:00:00Z", 0, NULL },
        { "dated.der", "2025-12-31T23:59:59.999Z", -1, "not valid before 2026-01-01" },
        { "dated.der", "2026-12-31T23:59:59.999Z", 0, NULL },
        { "dated.der", "2027-01-01T00:00:00Z", -1, "ended on 2026-12-31" },
        { "rsa3072.der", "2030-06-01T00:00:00Z", 0, NULL },
        { "rsa1024.der", "2030-06-01T00:00:00Z", -1, "1024 bits" },
        { "pss.der", "2030-06-01T00:00:00Z", -1, "not RSA" },
        { "ec256.der", "2030-06-01T00:00:00Z", -1, "not RSA" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        X509 *cert = read_cert(cases[i].file);
        struct cc_err err = { 0 };

        assert_int_equal(pki_cert_check_recipient(cert, ms_of(cases[i].now), &err), cases[i].want);
        if (cases[i].want != 0) {
            assert_int_equal(err.domain, CC_DOM_INPUT);
            assert_non_null(strstr(err.text, cases[i].want_text));
        }
        X509_free(cert);
    }
}

/* The certificate with another public exponent; what its signature says does not matter here. */
static void
set_exponent(X509 *cert, unsigned long exponent)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params;
    EVP_PKEY *key = NULL;
    BIGNUM *n = NULL, *e = BN_new();

    assert_int_equal(EVP_PKEY_get_bn_param(X509_get0_pubkey(cert), OSSL_PKEY_PARAM_RSA_N, &n), 1);
    assert_true(BN_set_word(e, exponent) == 1);
    assert_true(OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1);
    assert_true(OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1);
    assert_non_null(params = OSSL_PARAM_BLD_to_param(bld));
    assert_true(EVP_PKEY_fromdata_init(ctx) == 1);
    assert_true(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1);
    assert_true(X509_set_pubkey(cert, key) == 1);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    BN_free(n);
    BN_free(e);
}

static void
an_exponent_that_encrypts_nothing_is_refused(void **state)
{
    static const struct {
        unsigned long exponent;
        int want;
    } cases[] = { { 1, -1 }, { 2, -1 }, { 65536, -1 }, { 3, 0 }, { 65537, 0 } };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        X509 *cert = read_cert("rsa3072.der");

        set_exponent(cert, cases[i].exponent);
        assert_int_equal(pki_cert_check_recipient(cert, ms_of("2030-06-01T00:00:00Z"), NULL),
                cases[i].want);
        X509_free(cert);
    }
}

static void
serial_numbers(void **state)
{
    static const struct {
        const char *file, *want;
    } cases[] = {
        { "rsa.der", "C0FFEE" },
        { "rsa3072.der", "0A" },
        { "rsa1024.der", "00" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf serial = CC_BUF_INIT(64);
        X509 *cert = read_cert(cases[i].file);

        assert_int_equal(pki_cert_serial(cert, &serial, NULL), 0);
        assert_string_equal(cc_buf_str(&serial), cases[i].want);
        X509_free(cert);
        cc_buf_free(&serial);
    }
}

/* ---- PEM ---- */

/* Changes a copy of the PEM of a certificate. */
typedef void (*spoil_fn)(char *pem);

static void
spoil_base64(char *pem)
{
    pem[strlen("-----BEGIN CERTIFICATE-----\n") + 70] = '!';
}

/* Good base64, of what is no certificate. */
static void
spoil_der(char *pem)
{
    pem[strlen("-----BEGIN CERTIFICATE-----\n")] = 'A';
}

static void
cut_in_the_middle(char *pem)
{
    pem[strlen(pem) / 2 / 65 * 65] = '\0';
}

static void
cut_before_the_end(char *pem)
{
    *strstr(pem, "-----END") = '\0';
}

static void
turn_into_something_else(char *pem)
{
    memcpy(strstr(pem, "BEGIN ") + 6, "SOMETHING..", 11);
    memcpy(strstr(pem, "END ") + 4, "SOMETHING..", 11);
}

static void
write_pem(const char *object, spoil_fn spoil, struct cc_buf *ret)
{
    X509 *cert = read_cert(object);
    BIO *bio = BIO_new(BIO_s_mem());
    char pem[8192];
    int len;

    assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
    assert_true((len = BIO_read(bio, pem, sizeof(pem) - 1)) > 0);
    pem[len] = '\0';
    if (spoil != NULL)
        spoil(pem);
    assert_int_equal(cc_buf_add_str(ret, pem, NULL), 0);
    BIO_free(bio);
    X509_free(cert);
}

static void
pem_is_read_whole_or_not_at_all(void **state)
{
    static const struct {
        const char *name;
        spoil_fn spoil; /* the second of three */
        int want;       /* certificates; 0: refused */
    } cases[] = {
        { "good", NULL, 3 },
        { "something else between", turn_into_something_else, 2 },
        { "base64", spoil_base64, 0 },
        { "DER", spoil_der, 0 },
        { "cut", cut_in_the_middle, 0 },
        { "without end", cut_before_the_end, 0 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        for (int last = 0; last < 2; last++) {
            struct cc_buf text = CC_BUF_INIT(FILE_BYTES);
            STACK_OF(X509) *list = NULL;
            struct cc_err err = { 0 };
            int rc;

            assert_int_equal(cc_buf_add_str(&text, "Ours:\n", NULL), 0);
            write_pem("rsa.der", NULL, &text);
            assert_int_equal(cc_buf_add_str(&text, "\nand another:\n", NULL), 0);
            write_pem("ec256.der", cases[i].spoil, &text);
            if (!last)
                write_pem("rsa3072.der", NULL, &text);
            rc = pki_certs_read_pem(cc_buf_bytes(&text), &list, &err);
            if (rc != (cases[i].want == 0 ? -1 : 0) ||
                    (rc == 0 && sk_X509_num(list) != cases[i].want - last) ||
                    (rc != 0 && (err.domain != CC_DOM_INPUT ||
                                        strstr(err.text, "PEM that is damaged") == NULL)))
                fail_msg("%s: %d, %d certificates: %s", cases[i].name, rc, sk_X509_num(list),
                        cc_err_text(&err));
            sk_X509_pop_free(list, X509_free);
            cc_buf_free(&text);
        }
}

static void
pem_without_certificates(void **state)
{
    static const char *const texts[] = { "", "nothing\n",
        "-----BEGIN SOMETHING-----\nAAAA\n-----END SOMETHING-----\n" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(texts); i++) {
        const struct cc_bytes text = { i == 0 ? NULL : (const uint8_t *)texts[i],
            strlen(texts[i]) };
        STACK_OF(X509) *list = NULL;
        struct cc_err err = { 0 };

        assert_int_equal(pki_certs_read_pem(text, &list, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_string_equal(err.text, "no certificate in PEM");
        assert_null(list);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_takes_one_certificate_and_nothing_behind_it),
        cmocka_unit_test(parse_has_a_ceiling),
        cmocka_unit_test(flipped_bits_are_survived),
        cmocka_unit_test(the_thumbprint_is_sha1_of_the_file),
        cmocka_unit_test(validity_is_in_milliseconds),
        cmocka_unit_test(recipients_are_judged),
        cmocka_unit_test(an_exponent_that_encrypts_nothing_is_refused),
        cmocka_unit_test(serial_numbers),
        cmocka_unit_test(pem_is_read_whole_or_not_at_all),
        cmocka_unit_test(pem_without_certificates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
