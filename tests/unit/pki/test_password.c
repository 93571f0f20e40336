/* SPDX-License-Identifier: MIT */
#include "pki/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/cms.h>
#include <openssl/rsa.h>

#include "files.h"
#include "pki/enveloped.h"

#define PASSWORD "Gr\366\337e-\351" /* in ISO 8859-1 */

static struct cc_bytes
repeat(uint8_t *space, size_t len)
{
    memset(space, 'p', len);
    return (struct cc_bytes){ space, len };
}

/* Under the recipient's private key, by OpenSSL alone. */
static struct cc_buf
decrypt_rsa(EVP_PKEY *key, const EVP_MD *md, const struct cc_buf *ciphertext)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    struct cc_buf plain = CC_BUF_INIT(4096);
    size_t len = 4096;

    assert_true(EVP_PKEY_decrypt_init(ctx) > 0);
    assert_true(EVP_PKEY_CTX_set_rsa_padding(ctx,
                        md != NULL ? RSA_PKCS1_OAEP_PADDING : RSA_PKCS1_PADDING) > 0);
    if (md != NULL) {
        assert_true(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) > 0);
        assert_true(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) > 0);
    }
    assert_non_null(cc_buf_reserve(&plain, len, NULL));
    assert_true(EVP_PKEY_decrypt(ctx, plain.data, &len, ciphertext->data, ciphertext->len) > 0);
    plain.len = len;
    EVP_PKEY_CTX_free(ctx);
    return plain;
}

static CMS_ContentInfo *
parse_cms(const struct cc_buf *der)
{
    const unsigned char *at = der->data;
    CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)der->len);

    assert_non_null(cms);
    assert_ptr_equal(at, der->data + der->len);
    return cms;
}

static struct cc_buf
decrypt_cms(EVP_PKEY *key, X509 *cert, const struct cc_buf *der)
{
    CMS_ContentInfo *cms = parse_cms(der);
    struct cc_buf plain = CC_BUF_INIT(4096);
    BIO *out = BIO_new(BIO_s_mem());
    char *data = NULL;
    long len;

    assert_int_equal(CMS_decrypt(cms, key, cert, NULL, out, CMS_BINARY), 1);
    len = BIO_get_mem_data(out, &data);
    assert_int_equal(cc_buf_add(&plain, data, (size_t)len, NULL), 0);
    BIO_free(out);
    CMS_ContentInfo_free(cms);
    return plain;
}

static void
names_of_the_wire(void **state)
{
    static const struct {
        const char *name;
        int want;
    } paddings[] = {
        { "pkcs1", PKI_PADDING_PKCS1 },
        { "oaepSha1", PKI_PADDING_OAEP_SHA1 },
        { "oaepSha256", PKI_PADDING_OAEP_SHA256 },
        { "oaepSha384", PKI_PADDING_OAEP_SHA384 },
        { "oaepSha512", PKI_PADDING_OAEP_SHA512 },
        { "none", PKI_PADDING_OAEP_SHA512 },
        { "OaepSha512", PKI_PADDING_OAEP_SHA512 },
        { "NONE", PKI_PADDING_OAEP_SHA512 },
        { "Pkcs1", PKI_PADDING_PKCS1 },
        { "oaep", -1 },
        { "oaepSha512 ", -1 },
        { "", -1 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(paddings); i++)
        assert_int_equal(pki_padding_parse(paddings[i].name), paddings[i].want);
    assert_string_equal(pki_padding_name(PKI_PADDING_OAEP_SHA512), "oaepSha512");
    for (int i = PKI_PADDING_PKCS1; i <= PKI_PADDING_OAEP_SHA512; i++)
        assert_int_equal(pki_padding_parse(pki_padding_name((enum pki_padding)i)), i);
    for (int i = PKI_PASSWORD_CMS; i <= PKI_PASSWORD_PKCS1; i++)
        assert_int_equal(pki_password_form_parse(pki_password_form_name((enum pki_password_form)i)),
                i);
    for (int i = PKI_CIPHER_AES256; i <= PKI_CIPHER_DES_EDE3; i++)
        assert_int_equal(
                pki_content_cipher_parse(pki_content_cipher_name((enum pki_content_cipher)i)), i);
    assert_int_equal(pki_password_form_parse("CMS"), -1);
    assert_int_equal(pki_content_cipher_parse("aes128"), -1);
    assert_null(pki_padding_md(PKI_PADDING_PKCS1));
    assert_true(EVP_MD_is_a(pki_padding_md(PKI_PADDING_OAEP_SHA384), "SHA384"));
}

/* The longest password that fits under 2048 bits, and one byte more. */
static const struct {
    enum pki_padding padding;
    size_t most;
} uploads[] = {
    { PKI_PADDING_PKCS1, 245 },
    { PKI_PADDING_OAEP_SHA1, 214 },
    { PKI_PADDING_OAEP_SHA256, 190 },
    { PKI_PADDING_OAEP_SHA384, 158 },
    { PKI_PADDING_OAEP_SHA512, 126 },
};

static void
an_upload_opens_under_the_private_key(void **state)
{
    EVP_PKEY *key = read_key("rsa-key.pem");
    uint8_t space[256];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(uploads); i++) {
        for (size_t len = 0; len <= uploads[i].most; len += uploads[i].most / 2) {
            struct cc_bytes password = repeat(space, len);
            struct cc_buf out = CC_BUF_INIT(4096);
            struct cc_buf plain;

            assert_int_equal(
                    pki_password_encrypt_padding(key, uploads[i].padding, password, &out, NULL), 0);
            assert_int_equal(out.len, 256);
            plain = decrypt_rsa(key, pki_padding_md(uploads[i].padding), &out);
            assert_int_equal(plain.len, len);
            assert_memory_equal(plain.data, space, len);
            cc_buf_free(&plain);
            cc_buf_free(&out);
        }
    }
    EVP_PKEY_free(key);
}

static void
a_password_that_does_not_fit_is_refused(void **state)
{
    EVP_PKEY *key = read_key("rsa-key.pem");
    uint8_t space[PKI_PASSWORD_MAX + 1];
    struct cc_buf out = CC_BUF_INIT(4096);
    X509 *cert = read_cert("rsa.der");

    (void)state;
    for (size_t i = 0; i < CC_COUNT(uploads); i++) {
        struct cc_err err = { 0 };

        assert_int_equal(pki_password_encrypt_padding(key, uploads[i].padding,
                                 repeat(space, uploads[i].most + 1), &out, &err),
                -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_null(strstr(err.text, "ppp"));
    }
    assert_int_equal(pki_password_encrypt_for(cert, PKI_PASSWORD_CMS, PKI_CIPHER_AES256,
                             repeat(space, sizeof(space)), &out, NULL),
            -1);
    assert_int_equal(out.len, 0);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void
keys_that_are_too_small_or_not_rsa_are_refused(void **state)
{
    static const char *const certs[] = { "rsa1024.der", "ec256.der", "pss.der" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(certs); i++) {
        X509 *cert = read_cert(certs[i]);
        struct cc_buf out = CC_BUF_INIT(4096);

        for (int form = PKI_PASSWORD_CMS; form <= PKI_PASSWORD_PKCS1; form++) {
            struct cc_err err = { 0 };

            assert_int_equal(pki_password_encrypt_for(cert, (enum pki_password_form)form,
                                     PKI_CIPHER_AES256, cc_bytes_of_str("x"), &out, &err),
                    -1);
            assert_int_equal(err.domain, CC_DOM_INPUT);
            assert_int_equal(out.len, 0);
        }
        X509_free(cert);
    }
}

static const struct recipient {
    const char *cert, *key;
} recipients[] = { { "rsa.der", "rsa-key.pem" }, { "rsa3072.der", "rsa3072-key.pem" } };

static void
rsa_deliveries_open(void **state)
{
    static const struct {
        enum pki_password_form form;
        const EVP_MD *(*md)(void);
    } forms[] = {
        { PKI_PASSWORD_OAEP_SHA256, EVP_sha256 },
        { PKI_PASSWORD_OAEP_SHA1, EVP_sha1 },
        { PKI_PASSWORD_PKCS1, NULL },
    };

    (void)state;
    for (size_t r = 0; r < CC_COUNT(recipients); r++) {
        X509 *cert = read_cert(recipients[r].cert);
        EVP_PKEY *key = read_key(recipients[r].key);

        for (size_t i = 0; i < CC_COUNT(forms); i++) {
            struct cc_buf out = CC_BUF_INIT(4096);
            struct cc_buf plain;

            assert_int_equal(pki_password_encrypt_for(cert, forms[i].form, PKI_CIPHER_AES256,
                                     cc_bytes_of_str(PASSWORD), &out, NULL),
                    0);
            plain = decrypt_rsa(key, forms[i].md != NULL ? forms[i].md() : NULL, &out);
            assert_string_equal(cc_buf_str(&plain), PASSWORD);
            cc_buf_free(&plain);
            cc_buf_free(&out);
        }
        X509_free(cert);
        EVP_PKEY_free(key);
    }
}

static void
cms_deliveries_open(void **state)
{
    /* around the block lengths of both ciphers, whose padding is always at least one byte */
    static const size_t lengths[] = { 0, 1, 7, 8, 9, 15, 16, 17, 126, PKI_PASSWORD_MAX };
    uint8_t space[PKI_PASSWORD_MAX];

    (void)state;
    for (size_t r = 0; r < CC_COUNT(recipients); r++) {
        X509 *cert = read_cert(recipients[r].cert);
        EVP_PKEY *key = read_key(recipients[r].key);

        for (int cipher = PKI_CIPHER_AES256; cipher <= PKI_CIPHER_DES_EDE3; cipher++)
            for (size_t i = 0; i < CC_COUNT(lengths); i++) {
                struct cc_buf out = CC_BUF_INIT(8192);
                struct cc_buf plain;

                assert_int_equal(pki_password_encrypt_for(cert, PKI_PASSWORD_CMS,
                                         (enum pki_content_cipher)cipher, repeat(space, lengths[i]),
                                         &out, NULL),
                        0);
                plain = decrypt_cms(key, cert, &out);
                assert_int_equal(plain.len, lengths[i]);
                if (plain.len > 0)
                    assert_memory_equal(plain.data, space, plain.len);
                cc_buf_free(&plain);
                cc_buf_free(&out);
            }
        X509_free(cert);
        EVP_PKEY_free(key);
    }
}

static CMS_RecipientInfo *
only_recipient(CMS_ContentInfo *cms)
{
    STACK_OF(CMS_RecipientInfo) *infos = CMS_get0_RecipientInfos(cms);

    assert_int_equal(sk_CMS_RecipientInfo_num(infos), 1);
    return sk_CMS_RecipientInfo_value(infos, 0);
}

static void
cms_has_the_shape_that_windows_makes(void **state)
{
    X509 *cert = read_cert("rsa.der");
    struct cc_buf out = CC_BUF_INIT(8192);
    CMS_RecipientInfo *info;
    CMS_ContentInfo *cms;
    X509_ALGOR *algor = NULL;
    ASN1_OCTET_STRING *key_id = NULL;
    ASN1_INTEGER *serial = NULL;
    X509_NAME *issuer = NULL;
    unsigned char *again = NULL;
    const ASN1_OBJECT *oid;
    int parameter_type;
    int len;

    (void)state;
    assert_int_equal(pki_password_encrypt_for(cert, PKI_PASSWORD_CMS, PKI_CIPHER_AES256,
                             cc_bytes_of_str(PASSWORD), &out, NULL),
            0);
    cms = parse_cms(&out);
    assert_int_equal(OBJ_obj2nid(CMS_get0_type(cms)), NID_pkcs7_enveloped);
    assert_int_equal(OBJ_obj2nid(CMS_get0_eContentType(cms)), NID_pkcs7_data);

    info = only_recipient(cms);
    assert_int_equal(CMS_RecipientInfo_type(info), CMS_RECIPINFO_TRANS);
    assert_int_equal(CMS_RecipientInfo_ktri_get0_signer_id(info, &key_id, &issuer, &serial), 1);
    assert_null(key_id);
    assert_int_equal(X509_NAME_cmp(issuer, X509_get_issuer_name(cert)), 0);
    assert_int_equal(ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(cert)), 0);
    assert_int_equal(CMS_RecipientInfo_ktri_get0_algs(info, NULL, NULL, &algor), 1);
    X509_ALGOR_get0(&oid, &parameter_type, NULL, algor);
    assert_int_equal(OBJ_obj2nid(oid), NID_rsaEncryption);
    assert_int_equal(parameter_type, V_ASN1_NULL);

    /* it is DER: encoded anew it is the same; both versions are 0 */
    len = i2d_CMS_ContentInfo(cms, &again);
    assert_int_equal(len, out.len);
    assert_memory_equal(again, out.data, out.len);
    assert_memory_equal(out.data + 15, "\xa0\x82", 2);
    assert_memory_equal(out.data + 19, "\x30\x82", 2);
    assert_memory_equal(out.data + 23, "\x02\x01\x00\x31\x82", 5);
    assert_memory_equal(out.data + 30, "\x30\x82", 2);
    assert_memory_equal(out.data + 34, "\x02\x01\x00", 3);

    OPENSSL_free(again);
    CMS_ContentInfo_free(cms);
    cc_buf_free(&out);
    X509_free(cert);
}

static void
parts_made_elsewhere_are_taken_as_they_are(void **state)
{
    X509 *cert = read_cert("rsa.der");
    struct cc_buf out = CC_BUF_INIT(4096);
    const struct cc_bytes key = cc_bytes_of_str("the encrypted key");
    const struct cc_bytes iv = cc_bytes_of_str("8 octets");
    const struct cc_bytes text = cc_bytes_of_str("ciphertext of 24 octets.");
    struct cc_err err = { 0 };
    CMS_ContentInfo *cms;
    ASN1_OCTET_STRING **content;

    (void)state;
    assert_int_equal(pki_enveloped_data_build(cert, key, PKI_CIPHER_AES256, iv, text, &out, &err),
            -1);
    assert_int_equal(out.len, 0);
    assert_int_equal(pki_enveloped_data_build(cert, key, PKI_CIPHER_DES_EDE3, iv, text, &out, NULL),
            0);
    cms = parse_cms(&out);
    content = CMS_get0_content(cms);
    assert_non_null(content);
    assert_int_equal((*content)->length, text.len);
    assert_memory_equal((*content)->data, text.data, text.len);
    (void)only_recipient(cms);
    CMS_ContentInfo_free(cms);

    /* a ceiling that is too low is an error and not half an object */
    cc_buf_free(&out);
    cc_buf_init(&out, 100);
    assert_int_equal(pki_enveloped_data_build(cert, key, PKI_CIPHER_DES_EDE3, iv, text, &out, NULL),
            -1);
    cc_buf_free(&out);
    X509_free(cert);
}

static void
each_delivery_has_a_fresh_key(void **state)
{
    X509 *cert = read_cert("rsa.der");
    struct cc_buf outs[2] = { CC_BUF_INIT(4096), CC_BUF_INIT(4096) };

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pki_password_encrypt_for(cert, PKI_PASSWORD_CMS, PKI_CIPHER_AES256,
                                 cc_bytes_of_str(PASSWORD), &outs[i], NULL),
                0);
    assert_int_equal(outs[0].len, outs[1].len);
    /* the ciphertext's last block */
    assert_memory_not_equal(outs[0].data + outs[0].len - 16, outs[1].data + outs[1].len - 16, 16);
    cc_buf_free(&outs[0]);
    cc_buf_free(&outs[1]);
    X509_free(cert);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_the_wire),
        cmocka_unit_test(an_upload_opens_under_the_private_key),
        cmocka_unit_test(a_password_that_does_not_fit_is_refused),
        cmocka_unit_test(keys_that_are_too_small_or_not_rsa_are_refused),
        cmocka_unit_test(rsa_deliveries_open),
        cmocka_unit_test(cms_deliveries_open),
        cmocka_unit_test(cms_has_the_shape_that_windows_makes),
        cmocka_unit_test(parts_made_elsewhere_are_taken_as_they_are),
        cmocka_unit_test(each_delivery_has_a_fresh_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
