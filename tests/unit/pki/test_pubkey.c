/* SPDX-License-Identifier: MIT */
#include "pki/pubkey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/text.h"
#include "files.h"

/* A key of which every byte is known: modulus byte i is (i + 2) mod 10, exponent 65537. */
#define VECTOR_SPKI_LEN 293
#define VECTOR_SPKI_SHA256 "d752f9b70e7f019a189cb1135e7a7e1a3aae49c4638c558a104b99a295ba3c10"
#define VECTOR_SPKI_BASE64 "MIIBITANBgkqhkiG9w0BAQEFAAOCAQ4A"
#define VECTOR_CNG_LEN 283
#define VECTOR_CNG_SHA256 "ad9b32649ef0545a372f93e40570dc40438870db5228c801eda78d54a03bef5a"

#define CNG_HEADER 24

static struct cc_buf
vector_cng(void)
{
    static const uint8_t head[] = { 'R', 'S', 'A', '1', 0, 8, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 1, 0, 1 };
    struct cc_buf cng = CC_BUF_INIT(4096);

    assert_int_equal(cc_buf_add(&cng, head, sizeof(head), NULL), 0);
    for (int i = 0; i < 256; i++)
        assert_int_equal(cc_buf_add_u8(&cng, (uint8_t)((i + 2) % 10), NULL), 0);
    return cng;
}

static void
assert_sha256(const struct cc_buf *buf, const char *want)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char hex[65];

    assert_true(EVP_Digest(buf->data, buf->len, digest, NULL, EVP_sha256(), NULL));
    cc_hex(digest, 32, false, hex);
    assert_string_equal(hex, want);
}

static EVP_PKEY *
must_read(const struct cc_buf *file)
{
    EVP_PKEY *key = NULL;
    struct cc_err err = { 0 };

    if (pki_pubkey_read(cc_buf_bytes(file), &key, &err) != 0)
        fail_msg("%s", err.text);
    return key;
}

static void
assert_refused(const void *data, size_t len)
{
    uint8_t *copy = exact_copy(data, len);
    struct cc_err err = { 0 };
    EVP_PKEY *key = NULL;

    assert_int_equal(pki_pubkey_read((struct cc_bytes){ copy, len }, &key, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_null(key);
    free(copy);
}

static void
the_known_key_has_its_known_forms(void **state)
{
    struct cc_buf cng = vector_cng();
    struct cc_buf spki = CC_BUF_INIT(4096);
    struct cc_buf base64 = CC_BUF_INIT(4096);
    struct cc_buf again = CC_BUF_INIT(4096);
    EVP_PKEY *key;

    (void)state;
    assert_int_equal(cng.len, VECTOR_CNG_LEN);
    assert_sha256(&cng, VECTOR_CNG_SHA256);
    key = must_read(&cng);

    assert_int_equal(pki_pubkey_write_spki(key, &spki, NULL), 0);
    assert_int_equal(spki.len, VECTOR_SPKI_LEN);
    assert_sha256(&spki, VECTOR_SPKI_SHA256);
    assert_int_equal(cc_base64(spki.data, spki.len, &base64, NULL), 0);
    assert_memory_equal(base64.data, VECTOR_SPKI_BASE64, strlen(VECTOR_SPKI_BASE64));

    assert_int_equal(pki_pubkey_write_cng(key, &again, NULL), 0);
    assert_int_equal(again.len, VECTOR_CNG_LEN);
    assert_sha256(&again, VECTOR_CNG_SHA256);

    EVP_PKEY_free(key);
    cc_buf_free(&cng);
    cc_buf_free(&spki);
    cc_buf_free(&base64);
    cc_buf_free(&again);
}

static void
every_form_leads_back_to_the_key(void **state)
{
    static int (*const writers[])(const EVP_PKEY *key, struct cc_buf *ret,
            struct cc_err *err) = { pki_pubkey_write_pem, pki_pubkey_write_cng };
    static const char *const files[] = { "rsa-key.pem", "rsa3072-key.pem" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(files); i++) {
        EVP_PKEY *key = read_key(files[i]);
        struct cc_buf spki = CC_BUF_INIT(4096);
        EVP_PKEY *back = NULL;

        for (size_t w = 0; w < CC_COUNT(writers); w++) {
            struct cc_buf file = CC_BUF_INIT(4096);

            assert_int_equal(writers[w](key, &file, NULL), 0);
            back = must_read(&file);
            assert_int_equal(EVP_PKEY_eq(key, back), 1);
            EVP_PKEY_free(back);
            cc_buf_free(&file);
        }
        back = NULL;
        assert_int_equal(pki_pubkey_write_spki(key, &spki, NULL), 0);
        assert_int_equal(pki_pubkey_parse_spki(cc_buf_bytes(&spki), &back, NULL), 0);
        assert_int_equal(EVP_PKEY_eq(key, back), 1);
        EVP_PKEY_free(back);
        EVP_PKEY_free(key);
        cc_buf_free(&spki);
    }
}

static void
an_spki_is_what_openssl_makes_of_the_key(void **state)
{
    EVP_PKEY *const keys[] = { read_key("rsa-key.pem"), read_key("rsa3072-key.pem"),
        EVP_RSA_gen(2049), EVP_EC_gen("P-256"), EVP_EC_gen("P-384") };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(keys); i++) {
        struct cc_buf spki = CC_BUF_INIT(4096);
        unsigned char *der = NULL;

        assert_int_equal(pki_pubkey_write_spki(keys[i], &spki, NULL), 0);
        assert_int_equal(i2d_PUBKEY(keys[i], &der), (int)spki.len);
        assert_memory_equal(spki.data, der, spki.len);
        OPENSSL_free(der);
        cc_buf_free(&spki);
        EVP_PKEY_free(keys[i]);
    }
}

static void
a_pem_file_holds_one_key_and_nothing_else(void **state)
{
    EVP_PKEY *key = read_key("rsa-key.pem");
    struct cc_buf pem = CC_BUF_INIT(8192);
    struct cc_buf file = CC_BUF_INIT(16384);
    EVP_PKEY *back;

    (void)state;
    assert_int_equal(pki_pubkey_write_pem(key, &pem, NULL), 0);

    /* CRLF, as Windows writes it, and empty lines behind it */
    for (size_t i = 0; i < pem.len; i++) {
        if (pem.data[i] == '\n')
            assert_int_equal(cc_buf_add_u8(&file, '\r', NULL), 0);
        assert_int_equal(cc_buf_add_u8(&file, pem.data[i], NULL), 0);
    }
    assert_int_equal(cc_buf_add_str(&file, "\r\n\n", NULL), 0);
    back = must_read(&file);
    assert_int_equal(EVP_PKEY_eq(key, back), 1);
    EVP_PKEY_free(back);

    for (size_t len = 0; len < pem.len - 2; len++)
        assert_refused(pem.data, len);

    cc_buf_reset(&file);
    assert_int_equal(cc_buf_add_str(&file, "# a key\n", NULL), 0);
    assert_int_equal(cc_buf_add(&file, pem.data, pem.len, NULL), 0);
    assert_refused(file.data, file.len);

    cc_buf_reset(&file);
    assert_int_equal(cc_buf_add(&file, pem.data, pem.len, NULL), 0);
    assert_int_equal(cc_buf_add(&file, pem.data, pem.len, NULL), 0);
    assert_refused(file.data, file.len);

    cc_buf_free(&pem);
    cc_buf_free(&file);
    EVP_PKEY_free(key);
}

/* Keys that are not RSA have an SPKI and a PEM form, which a key file must not hold, and no CNG form. */
static void
other_keys_are_no_key_files(void **state)
{
    static const char *const certs[] = { "ec256.der", "pss.der" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(certs); i++) {
        X509 *cert = read_cert(certs[i]);
        EVP_PKEY *key = X509_get0_pubkey(cert);
        struct cc_buf pem = CC_BUF_INIT(4096);
        struct cc_buf spki = CC_BUF_INIT(4096);
        EVP_PKEY *back = NULL;

        assert_int_equal(pki_pubkey_write_pem(key, &pem, NULL), 0);
        assert_refused(pem.data, pem.len);
        assert_int_equal(pki_pubkey_write_spki(key, &spki, NULL), 0);
        assert_int_equal(pki_pubkey_parse_spki(cc_buf_bytes(&spki), &back, NULL), 0);
        assert_int_equal(EVP_PKEY_eq(key, back), 1);
        EVP_PKEY_free(back);
        back = NULL;
        assert_int_equal(cc_buf_add_u8(&spki, 0, NULL), 0);
        assert_int_equal(pki_pubkey_parse_spki(cc_buf_bytes(&spki), &back, NULL), -1);
        spki.len = 0;
        assert_int_equal(pki_pubkey_write_cng(key, &spki, NULL), -1);
        assert_int_equal(spki.len, 0);
        X509_free(cert);
        cc_buf_free(&pem);
        cc_buf_free(&spki);
    }
}

static void
a_spoiled_cng_blob_is_refused(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } spoils[] = {
        { 0, 'S' },                /* magic */
        { 3, '3' },                /* that of a private key */
        { 5, 9 },                  /* more bits than the modulus has bytes for */
        { 5, 7 },                  /* fewer than it has */
        { 8, 0 },                  /* no exponent */
        { 8, 4 },                  /* lengths that do not add up */
        { 11, 0x80 },              /* a length above 2^31 */
        { 13, 2 },                 /* modulus longer than the file */
        { 15, 0xff },              /* much longer */
        { 16, 1 },                 /* prime factors */
        { 20, 1 },                 /* prime factors */
        { CNG_HEADER + 2, 2 },     /* an even exponent */
        { VECTOR_CNG_LEN - 1, 8 }, /* an even modulus */
        { CNG_HEADER + 3, 0 },     /* a modulus shorter than its length */
    };
    struct cc_buf cng = vector_cng();

    (void)state;
    for (size_t i = 0; i < CC_COUNT(spoils); i++) {
        uint8_t before = cng.data[spoils[i].at];

        cng.data[spoils[i].at] = spoils[i].value;
        assert_refused(cng.data, cng.len);
        cng.data[spoils[i].at] = before;
    }
    for (size_t len = 0; len < cng.len; len++)
        assert_refused(cng.data, len);
    assert_int_equal(cc_buf_add_u8(&cng, 0, NULL), 0);
    assert_refused(cng.data, cng.len);

    /* exponent 1 */
    memset(cng.data + CNG_HEADER, 0, 2);
    assert_refused(cng.data, cng.len - 1);
    cc_buf_free(&cng);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_known_key_has_its_known_forms),
        cmocka_unit_test(every_form_leads_back_to_the_key),
        cmocka_unit_test(an_spki_is_what_openssl_makes_of_the_key),
        cmocka_unit_test(a_pem_file_holds_one_key_and_nothing_else),
        cmocka_unit_test(other_keys_are_no_key_files),
        cmocka_unit_test(a_spoiled_cng_blob_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
