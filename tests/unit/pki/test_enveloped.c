/* SPDX-License-Identifier: MIT */
#include "pki/enveloped.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/asn1t.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "files.h"

/* Messages that OpenSSL made: their parts, decrypted one by one, give what went in. */

#define TEXT "a password"

static struct world {
    EVP_PKEY *key;
    X509 *cert, *other, *ec;
} world;

static int
group_setup(void **state)
{
    (void)state;
    world.key = read_key("rsa-key.pem");
    world.cert = read_cert("rsa.der");
    world.other = read_cert("rsa3072.der");
    world.ec = read_cert("ec256.der");
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    EVP_PKEY_free(world.key);
    X509_free(world.cert);
    X509_free(world.other);
    X509_free(world.ec);
    return 0;
}

/* ---- making messages ---- */

struct recipe {
    const char *name;
    const EVP_CIPHER *(*cipher)(void);
    bool by_key_id;
    const EVP_MD *(*oaep)(void), *(*mgf)(void); /* NULL: PKCS #1 v1.5 */
    int want_digest, want_mgf;
    const char *label; /* written out behind the hashes, NULL: not at all */
    bool want_refused;
};

static void
write_label(CMS_RecipientInfo *ri, const char *label)
{
    X509_ALGOR *alg = NULL, *source = X509_ALGOR_new();
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    ASN1_STRING *packed = NULL;
    RSA_OAEP_PARAMS *params;

    assert_int_equal(CMS_RecipientInfo_ktri_get0_algs(ri, NULL, NULL, &alg), 1);
    params = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(RSA_OAEP_PARAMS), alg->parameter);
    assert_non_null(params);
    assert_int_equal(ASN1_OCTET_STRING_set(octets, (const uint8_t *)label, (int)strlen(label)), 1);
    assert_int_equal(
            X509_ALGOR_set0(source, OBJ_nid2obj(NID_pSpecified), V_ASN1_OCTET_STRING, octets), 1);
    params->pSourceFunc = source;
    packed = ASN1_item_pack(params, ASN1_ITEM_rptr(RSA_OAEP_PARAMS), NULL);
    assert_int_equal(X509_ALGOR_set0(alg, OBJ_nid2obj(NID_rsaesOaep), V_ASN1_SEQUENCE, packed), 1);
    RSA_OAEP_PARAMS_free(params);
}

static CMS_RecipientInfo *
add_recipient(CMS_ContentInfo *cms, const struct recipe *recipe, X509 *cert)
{
    CMS_RecipientInfo *ri = CMS_add1_recipient_cert(cms, cert,
            CMS_KEY_PARAM | (recipe->by_key_id ? CMS_USE_KEYID : 0));
    EVP_PKEY_CTX *ctx;

    assert_non_null(ri);
    if (recipe->oaep == NULL)
        return ri;
    ctx = CMS_RecipientInfo_get0_pkey_ctx(ri);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, recipe->oaep()), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, recipe->mgf()), 1);
    return ri;
}

static struct cc_buf
make_message(const struct recipe *recipe, X509 *second)
{
    CMS_ContentInfo *cms = CMS_encrypt(NULL, NULL, recipe->cipher(), CMS_BINARY | CMS_PARTIAL);
    BIO *in = BIO_new_mem_buf(TEXT, -1);
    CMS_RecipientInfo *ri = add_recipient(cms, recipe, world.cert);
    struct cc_buf out = CC_BUF_INIT(FILE_BYTES);
    unsigned char *der = NULL;
    int len;

    if (second != NULL)
        assert_non_null(CMS_add1_recipient_cert(cms, second, 0));
    assert_int_equal(CMS_final(cms, in, NULL, CMS_BINARY), 1);
    if (recipe->label != NULL)
        write_label(ri, recipe->label);
    len = i2d_CMS_ContentInfo(cms, &der);
    assert_true(len > 0);
    assert_int_equal(cc_buf_add(&out, der, (size_t)len, NULL), 0);
    OPENSSL_free(der);
    BIO_free(in);
    CMS_ContentInfo_free(cms);
    return out;
}

/* An exact-size copy is read, so that a sanitizer sees a read behind its end. */
static int
read_message(struct cc_bytes der, struct pki_enveloped *ret, struct cc_err *err)
{
    uint8_t *copy = exact_copy(der.data, der.len);
    int rc;

    pki_enveloped_init(ret);
    rc = pki_enveloped_data_read((struct cc_bytes){ copy, der.len }, ret, err);
    free(copy);
    assert_int_equal(ERR_peek_error(), 0);
    if (rc != 0) {
        assert_int_equal(err->domain, CC_DOM_INPUT);
        pki_enveloped_free(ret);
    }
    return rc;
}

static void
expect_refused(struct cc_bytes der)
{
    struct pki_enveloped message;
    struct cc_err err = { 0 };

    if (read_message(der, &message, &err) != -1)
        fail_msg("was read");
}

/* ---- what it is made of ---- */

static size_t
open_key(const struct pki_enveloped *message, uint8_t key[256])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(world.key, NULL);
    size_t len = 256;

    assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
    if (message->oaep) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
        assert_int_equal(
                EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_get_digestbynid(message->digest_nid)), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_get_digestbynid(message->mgf_nid)),
                1);
    }
    assert_int_equal(EVP_PKEY_decrypt(ctx, key, &len, message->encrypted_key.data,
                             message->encrypted_key.len),
            1);
    EVP_PKEY_CTX_free(ctx);
    return len;
}

static void
check_opens(const struct pki_enveloped *message)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t key[256], plain[64];
    int len = 0, tail = 0;

    assert_int_equal(open_key(message, key), (int)pki_enveloped_key_len(message));
    assert_int_equal(message->iv_len,
            EVP_CIPHER_get_iv_length(EVP_get_cipherbynid(message->cipher_nid)));
    assert_true(message->ciphertext.len < sizeof(plain));
    assert_int_equal(EVP_DecryptInit_ex(ctx, EVP_get_cipherbynid(message->cipher_nid), NULL, key,
                             message->iv),
            1);
    assert_int_equal(EVP_DecryptUpdate(ctx, plain, &len, message->ciphertext.data,
                             (int)message->ciphertext.len),
            1);
    assert_int_equal(EVP_DecryptFinal_ex(ctx, plain + len, &tail), 1);
    assert_int_equal(len + tail, strlen(TEXT));
    assert_memory_equal(plain, TEXT, strlen(TEXT));
    EVP_CIPHER_CTX_free(ctx);
}

static const struct recipe recipes[] = {
    { .name = "AES-256", .cipher = EVP_aes_256_cbc },
    { .name = "AES-192", .cipher = EVP_aes_192_cbc },
    { .name = "AES-128", .cipher = EVP_aes_128_cbc },
    { .name = "triple DES", .cipher = EVP_des_ede3_cbc },
    { .name = "by key identifier", .cipher = EVP_aes_256_cbc, .by_key_id = true },
    { .name = "OAEP, all defaults",
            .cipher = EVP_aes_256_cbc,
            .oaep = EVP_sha1,
            .mgf = EVP_sha1,
            .want_digest = NID_sha1,
            .want_mgf = NID_sha1 },
    { .name = "OAEP SHA-256",
            .cipher = EVP_aes_128_cbc,
            .by_key_id = true,
            .oaep = EVP_sha256,
            .mgf = EVP_sha256,
            .want_digest = NID_sha256,
            .want_mgf = NID_sha256 },
    { .name = "OAEP SHA-512, MGF1 SHA-1",
            .cipher = EVP_aes_256_cbc,
            .oaep = EVP_sha512,
            .mgf = EVP_sha1,
            .want_digest = NID_sha512,
            .want_mgf = NID_sha1 },
    { .name = "OAEP, the empty label written out",
            .cipher = EVP_aes_256_cbc,
            .oaep = EVP_sha256,
            .mgf = EVP_sha256,
            .want_digest = NID_sha256,
            .want_mgf = NID_sha256,
            .label = "" },
    { .name = "OAEP with a label",
            .cipher = EVP_aes_256_cbc,
            .oaep = EVP_sha256,
            .mgf = EVP_sha256,
            .label = "label",
            .want_refused = true },
    { .name = "a cipher that is not for us", .cipher = EVP_camellia_256_cbc, .want_refused = true },
};

static void
messages_come_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(recipes); i++) {
        const struct recipe *recipe = &recipes[i];
        struct cc_buf der = make_message(recipe, NULL);
        struct pki_enveloped message;
        struct cc_err err = { 0 };
        const int rc = read_message(cc_buf_bytes(&der), &message, &err);

        if ((rc != 0) != recipe->want_refused)
            fail_msg("%s: %s", recipe->name, cc_err_text(&err));
        if (rc == 0) {
            assert_int_equal(message.oaep, recipe->oaep != NULL);
            assert_int_equal(message.digest_nid, recipe->want_digest);
            assert_int_equal(message.mgf_nid, recipe->want_mgf);
            check_opens(&message);
            pki_enveloped_free(&message);
        }
        cc_buf_free(&der);
    }
}

/* What we build ourselves we read. */
static void
ours_comes_apart(void **state)
{
    struct cc_buf der = CC_BUF_INIT(FILE_BYTES);
    struct pki_enveloped message;
    struct cc_err err = { 0 };

    (void)state;
    for (int cipher = PKI_CIPHER_AES256; cipher <= PKI_CIPHER_DES_EDE3; cipher++) {
        cc_buf_reset(&der);
        assert_int_equal(pki_password_encrypt_for(world.cert, PKI_PASSWORD_CMS,
                                 (enum pki_content_cipher)cipher, cc_bytes_of_str(TEXT), &der,
                                 &err),
                0);
        assert_int_equal(read_message(cc_buf_bytes(&der), &message, &err), 0);
        check_opens(&message);
        pki_enveloped_free(&message);
    }
    cc_buf_free(&der);
}

/* ---- what is none ---- */

static void
spoiled_messages(void **state)
{
    struct cc_buf der = make_message(&recipes[0], NULL);
    static uint8_t large[PKI_ENVELOPED_MAX + 1];

    (void)state;
    for (size_t len = 0; len < der.len; len++)
        expect_refused((struct cc_bytes){ der.data, len });
    assert_int_equal(cc_buf_add_u8(&der, 0, NULL), 0);
    expect_refused(cc_buf_bytes(&der));
    cc_buf_free(&der);
    expect_refused((struct cc_bytes){ large, sizeof(large) });
    expect_refused((struct cc_bytes){ large, sizeof(large) - 1 });
}

/* One byte another: refused, or read as something of the same lengths; no more than that. */
static void
flipped_messages(void **state)
{
    struct cc_buf der = make_message(&recipes[6], NULL);

    (void)state;
    for (size_t at = 0; at < der.len; at++)
        for (int bit = 0; bit < 8; bit++) {
            struct pki_enveloped message;
            struct cc_err err = { 0 };

            der.data[at] ^= (uint8_t)(1 << bit);
            if (read_message(cc_buf_bytes(&der), &message, &err) == 0) {
                assert_true(message.iv_len <= sizeof(message.iv));
                assert_true(message.encrypted_key.len + message.ciphertext.len < der.len);
                pki_enveloped_free(&message);
            }
            der.data[at] ^= (uint8_t)(1 << bit);
        }
    cc_buf_free(&der);
}

static void
other_recipients(void **state)
{
    CMS_ContentInfo *cms;
    struct cc_buf der;
    unsigned char *ec = NULL;
    BIO *in = BIO_new_mem_buf(TEXT, -1);
    STACK_OF(X509) *certs = sk_X509_new_null();
    int len;

    (void)state;
    der = make_message(&recipes[0], world.other);
    expect_refused(cc_buf_bytes(&der));
    cc_buf_free(&der);
    /* key agreement */
    assert_true(sk_X509_push(certs, world.ec) > 0);
    cms = CMS_encrypt(certs, in, EVP_aes_256_cbc(), CMS_BINARY);
    assert_non_null(cms);
    len = i2d_CMS_ContentInfo(cms, &ec);
    expect_refused((struct cc_bytes){ ec, (size_t)len });
    OPENSSL_free(ec);
    CMS_ContentInfo_free(cms);
    sk_X509_free(certs);
    BIO_free(in);
}

/* ---- for one of several, and written like it ---- */

static int
read_for(struct cc_bytes der, X509 *const *recipients, size_t count, size_t *ret_which,
        struct pki_enveloped *ret, struct cc_err *err)
{
    uint8_t *copy = exact_copy(der.data, der.len);
    int rc;

    pki_enveloped_init(ret);
    rc = pki_enveloped_data_read_for((struct cc_bytes){ copy, der.len }, recipients, count,
            ret_which, ret, err);
    free(copy);
    assert_int_equal(ERR_peek_error(), 0);
    if (rc != 0) {
        assert_int_equal(err->domain, CC_DOM_INPUT);
        pki_enveloped_free(ret);
    }
    return rc;
}

static void
expect_for_nobody(struct cc_bytes der, X509 *const *recipients, size_t count)
{
    struct pki_enveloped message;
    struct cc_err err = { 0 };
    size_t which;

    assert_int_equal(read_for(der, recipients, count, &which, &message, &err), -1);
    assert_int_equal(err.code, PKI_ENVELOPED_RECIPIENT);
}

static void
the_recipient_is_found(void **state)
{
    X509 *const all[] = { world.other, world.ec, world.cert };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(recipes); i++) {
        struct cc_buf der = make_message(&recipes[i], NULL);
        struct pki_enveloped message;
        struct cc_err err = { 0 };
        size_t which = 99;

        if (recipes[i].want_refused) {
            assert_int_equal(read_for(cc_buf_bytes(&der), all, 3, &which, &message, &err), -1);
            assert_int_equal(err.code, PKI_ENVELOPED_ALGORITHM);
        } else {
            assert_int_equal(read_for(cc_buf_bytes(&der), all, 3, &which, &message, &err), 0);
            assert_int_equal(which, 2);
            check_opens(&message);
            pki_enveloped_free(&message);
        }
        expect_for_nobody(cc_buf_bytes(&der), all, 2);
        expect_for_nobody(cc_buf_bytes(&der), NULL, 0);
        cc_buf_free(&der);
    }
}

static void
other_recipients_are_passed_over(void **state)
{
    X509 *const ours[] = { world.cert }, *const theirs[] = { world.ec },
                *const both[] = { world.cert, world.other };
    struct cc_buf der = make_message(&recipes[0], world.other);
    struct pki_enveloped message;
    struct cc_err err = { 0 };
    size_t which = 99;

    (void)state;
    assert_int_equal(read_for(cc_buf_bytes(&der), ours, 1, &which, &message, &err), 0);
    assert_int_equal(which, 0);
    check_opens(&message);
    pki_enveloped_free(&message);
    expect_for_nobody(cc_buf_bytes(&der), theirs, 1);
    expect_for_nobody(cc_buf_bytes(&der), both, 2);
    cc_buf_free(&der);
    der = make_message(&recipes[0], world.cert);
    expect_for_nobody(cc_buf_bytes(&der), ours, 1);
    cc_buf_free(&der);
}

/* Tag, length of up to 255 bytes, and what stands between from and the end of the buffer. */
static void
wrap(struct cc_buf *der, size_t from, uint8_t tag)
{
    const size_t len = der->len - from;
    uint8_t header[3] = { tag, 0x81, (uint8_t)len };

    assert_true(len < 256);
    assert_int_equal(cc_buf_add(der, header, sizeof(header), NULL), 0);
    memmove(der->data + from + sizeof(header), der->data + from, len);
    memcpy(der->data + from, header, sizeof(header));
}

static void
add_bytes(struct cc_buf *der, const char *bytes, size_t len)
{
    assert_int_equal(cc_buf_add(der, bytes, len, NULL), 0);
}

#define ADD(der, bytes) add_bytes(der, bytes, sizeof(bytes) - 1)

/* A message whose recipient is named by this. */
static void
write_recipient(const char *rid, size_t rid_len, struct cc_buf *ret)
{
    size_t at[6];

    at[0] = ret->len;
    ADD(ret, "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03");
    at[1] = ret->len;
    at[2] = ret->len;
    ADD(ret, "\x02\x01\x00");
    at[3] = ret->len;
    ADD(ret, "\x02\x01\x00");
    add_bytes(ret, rid, rid_len);
    ADD(ret, "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x04\x01\xaa");
    wrap(ret, at[3], 0x30);
    wrap(ret, at[3], 0x31);
    at[4] = ret->len;
    ADD(ret, "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01");
    at[5] = ret->len;
    ADD(ret, "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2a\x04\x10" TEXT "123456");
    wrap(ret, at[5], 0x30);
    ADD(ret, "\x80\x10" TEXT "123456");
    wrap(ret, at[4], 0x30);
    wrap(ret, at[2], 0x30);
    wrap(ret, at[1], 0xa0);
    wrap(ret, at[0], 0x30);
}

static void
recipients_named_in_no_known_way_are_nobody(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rids[] = { { "\x01\x01\xff", 3 }, { "\x05\x00", 2 }, { "\x06\x03\x55\x04\x03", 5 },
        { "\x02\x01\x05", 3 }, { "\x0c\x01\x41", 3 }, { "\x04\x01\x41", 3 }, { "\x03\x01\x00", 3 },
        { "\x31\x00", 2 }, { "\x30\x00", 2 }, { "\x80\x00", 2 }, { "\x80\x01\xaa", 3 },
        { "\xa0\x00", 2 }, { "\xa0\x02\x05\x00", 4 }, { "\x81\x00", 2 } };
    X509 *const all[] = { world.cert, world.other, world.ec };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(rids); i++) {
        struct cc_buf der = CC_BUF_INIT(1024);
        struct pki_enveloped message;
        struct cc_err err = { 0 };

        write_recipient(rids[i].bytes, rids[i].len, &der);
        /* well formed: who it is for, is not looked at here */
        assert_int_equal(read_message(cc_buf_bytes(&der), &message, &err), 0);
        assert_int_equal(message.ciphertext.len, 16);
        pki_enveloped_free(&message);
        expect_for_nobody(cc_buf_bytes(&der), all, CC_COUNT(all));
        cc_buf_free(&der);
    }
}

static void
check_cms_decrypts(const struct cc_buf *der)
{
    const unsigned char *at = der->data;
    CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)der->len);
    BIO *out = BIO_new(BIO_s_mem());
    char *text = NULL;

    assert_true(CMS_decrypt(cms, world.key, world.cert, NULL, out, CMS_BINARY));
    assert_int_equal(BIO_get_mem_data(out, &text), (long)strlen(TEXT));
    assert_memory_equal(text, TEXT, strlen(TEXT));
    BIO_free(out);
    CMS_ContentInfo_free(cms);
}

/* Single DES, too: an old client is answered as it asked, where its endpoint allows it. */
static void
an_answer_is_encrypted_as_the_request_was(void **state)
{
    static const int ciphers[] = { NID_aes_256_cbc, NID_aes_192_cbc, NID_aes_128_cbc,
        NID_des_ede3_cbc, NID_des_cbc };
    static const int digests[] = { NID_undef, NID_sha1, NID_sha256, NID_sha512 };
    X509 *const ours[] = { world.cert };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(ciphers) * CC_COUNT(digests); i++) {
        const int digest = digests[i / CC_COUNT(ciphers)];
        const struct pki_enveloped like = { .oaep = digest != NID_undef,
            .digest_nid = digest,
            .mgf_nid = digest == NID_sha512 ? NID_sha1 : digest,
            .cipher_nid = ciphers[i % CC_COUNT(ciphers)] };
        struct cc_buf der = CC_BUF_INIT(FILE_BYTES);
        struct pki_enveloped message;
        struct cc_secret *content = NULL;
        struct cc_err err = { 0 };
        uint8_t key[256];
        size_t which, len;

        assert_int_equal(
                pki_enveloped_write_like(&like, world.cert, cc_bytes_of_str(TEXT), &der, &err), 0);
        assert_int_equal(read_for(cc_buf_bytes(&der), ours, 1, &which, &message, &err), 0);
        assert_int_equal(message.cipher_nid, like.cipher_nid);
        assert_int_equal(message.oaep, like.oaep);
        assert_int_equal(message.digest_nid, like.digest_nid);
        assert_int_equal(message.mgf_nid, like.mgf_nid);
        len = open_key(&message, key);
        assert_int_equal(len, pki_enveloped_key_len(&message));
        assert_int_equal(
                pki_enveloped_open(&message, (struct cc_bytes){ key, len }, &content, &err), 0);
        assert_string_equal(cc_secret_str(content), TEXT);
        cc_secret_free(content);
        content = NULL;
        if (like.cipher_nid != NID_des_cbc)
            check_cms_decrypts(&der);
        else
            expect_refused(cc_buf_bytes(&der));

        /* with another key, and one of another length */
        assert_int_equal(
                pki_enveloped_open(&message, (struct cc_bytes){ key, len - 1 }, &content, &err),
                -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        memset(key, 0x5a, sizeof(key));
        if (pki_enveloped_open(&message, (struct cc_bytes){ key, len }, &content, NULL) == 0)
            assert_string_not_equal(cc_secret_str(content), TEXT);
        cc_secret_free(content);
        pki_enveloped_free(&message);
        cc_buf_free(&der);
    }
}

/* The parameter of the cipher is its vector, and as long as that. */
static void
other_vectors(void **state)
{
    static const uint8_t bytes[16];
    struct cc_buf der = CC_BUF_INIT(FILE_BYTES);
    struct cc_err err = { 0 };
    uint8_t *at;

    (void)state;
    assert_int_equal(pki_enveloped_data_build(world.cert, cc_bytes_of_str("key"),
                             PKI_CIPHER_DES_EDE3, (struct cc_bytes){ bytes, 8 },
                             (struct cc_bytes){ bytes, 8 }, &der, &err),
            0);
    /* the only OCTET STRING of eight zeroes, made an INTEGER */
    at = memmem(der.data, der.len, "\x04\x08\0\0\0\0\0\0\0\0", 10);
    assert_non_null(at);
    at[0] = 0x02;
    expect_refused(cc_buf_bytes(&der));
    /* other modes of AES */
    cc_buf_reset(&der);
    assert_int_equal(pki_enveloped_data_build(world.cert, cc_bytes_of_str("key"), PKI_CIPHER_AES256,
                             (struct cc_bytes){ bytes, 16 }, (struct cc_bytes){ bytes, 16 }, &der,
                             &err),
            0);
    at = memmem(der.data, der.len, "\x60\x86\x48\x01\x65\x03\x04\x01\x2a", 9);
    assert_non_null(at);
    at[8] = 0x29; /* id-aes256-ECB */
    expect_refused(cc_buf_bytes(&der));
    at[8] = 0x2e; /* id-aes256-GCM */
    expect_refused(cc_buf_bytes(&der));
    cc_buf_free(&der);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_apart),
        cmocka_unit_test(ours_comes_apart),
        cmocka_unit_test(spoiled_messages),
        cmocka_unit_test(flipped_messages),
        cmocka_unit_test(other_recipients),
        cmocka_unit_test(other_vectors),
        cmocka_unit_test(the_recipient_is_found),
        cmocka_unit_test(other_recipients_are_passed_over),
        cmocka_unit_test(recipients_named_in_no_known_way_are_nobody),
        cmocka_unit_test(an_answer_is_encrypted_as_the_request_was),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
