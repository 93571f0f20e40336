/* SPDX-License-Identifier: MIT */
#include "pki/password.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>

#include "base/process.h"
#include "base/secret.h"
#include "base/text.h"
#include "pki/enveloped.h"
#include "pki_int.h"

#define RSA_BYTES_MIN 256
#define RSA_BYTES_MAX 2048

/* ---- names ---- */

struct name {
    const char *text;
    int value;
};

static const struct name paddings[] = {
    { "pkcs1", PKI_PADDING_PKCS1 },
    { "oaepSha1", PKI_PADDING_OAEP_SHA1 },
    { "oaepSha256", PKI_PADDING_OAEP_SHA256 },
    { "oaepSha384", PKI_PADDING_OAEP_SHA384 },
    { "oaepSha512", PKI_PADDING_OAEP_SHA512 },
    { "none", PKI_PADDING_OAEP_SHA512 },
};

static const struct name forms[] = {
    { "cms", PKI_PASSWORD_CMS },
    { "rsaOaepSha256", PKI_PASSWORD_OAEP_SHA256 },
    { "rsaOaepSha1", PKI_PASSWORD_OAEP_SHA1 },
    { "rsaPkcs1", PKI_PASSWORD_PKCS1 },
};

static const struct name ciphers[] = {
    { "aes256", PKI_CIPHER_AES256 },
    { "des-ede3", PKI_CIPHER_DES_EDE3 },
};

static const char *
name_of(const struct name *names, size_t count, int value)
{
    for (size_t i = 0; i < count; i++)
        if (names[i].value == value)
            return names[i].text;
    return "unknown";
}

static int
value_of(const struct name *names, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i].text, text) == 0)
            return names[i].value;
    return -1;
}

int
pki_padding_parse(const char *name)
{
    for (size_t i = 0; i < CC_COUNT(paddings); i++)
        if (cc_equal_nocase(paddings[i].text, name))
            return paddings[i].value;
    return -1;
}

int
pki_password_form_parse(const char *name)
{
    return value_of(forms, CC_COUNT(forms), name);
}

int
pki_content_cipher_parse(const char *name)
{
    return value_of(ciphers, CC_COUNT(ciphers), name);
}

const char *
pki_padding_name(enum pki_padding padding)
{
    return name_of(paddings, CC_COUNT(paddings), (int)padding);
}

const char *
pki_password_form_name(enum pki_password_form form)
{
    return name_of(forms, CC_COUNT(forms), (int)form);
}

const char *
pki_content_cipher_name(enum pki_content_cipher cipher)
{
    return name_of(ciphers, CC_COUNT(ciphers), (int)cipher);
}

const EVP_MD *
pki_padding_md(enum pki_padding padding)
{
    switch (padding) {
    case PKI_PADDING_PKCS1:
        break;
    case PKI_PADDING_OAEP_SHA1:
        return EVP_sha1();
    case PKI_PADDING_OAEP_SHA256:
        return EVP_sha256();
    case PKI_PADDING_OAEP_SHA384:
        return EVP_sha384();
    case PKI_PADDING_OAEP_SHA512:
        return EVP_sha512();
    }
    return NULL;
}

const EVP_CIPHER *
pki_content_cipher_evp(enum pki_content_cipher cipher)
{
    return cipher == PKI_CIPHER_DES_EDE3 ? EVP_des_ede3_cbc() : EVP_aes_256_cbc();
}

/* ---- RSA ---- */

/* RFC 8017: 7.1.1 k - 2hLen - 2 for OAEP, 7.2.1 k - 11 for PKCS #1 v1.5. */
static size_t
most_bytes(size_t modulus_len, enum pki_padding padding)
{
    const EVP_MD *md = pki_padding_md(padding);

    return md == NULL ? modulus_len - 11 : modulus_len - 2 * (size_t)EVP_MD_get_size(md) - 2;
}

/* OAEP: one hash for the label and for MGF1, no label (RFC 8017 section 7.1). */
static int
choose_padding(EVP_PKEY_CTX *ctx, enum pki_padding padding)
{
    const EVP_MD *md = pki_padding_md(padding);

    if (md == NULL)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING);
    if (EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) <= 0 ||
            EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) <= 0)
        return 0;
    return EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md);
}

static int
check_key(EVP_PKEY *key, struct cc_err *err)
{
    if (key == NULL || !EVP_PKEY_is_a(key, "RSA"))
        return cc_err_set(err, CC_DOM_INPUT, 0, "not an RSA key");
    if (EVP_PKEY_get_size(key) < RSA_BYTES_MIN || EVP_PKEY_get_size(key) > RSA_BYTES_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "RSA key of %d bits, %d to %d are allowed",
                EVP_PKEY_get_bits(key), RSA_BYTES_MIN * 8, RSA_BYTES_MAX * 8);
    return 0;
}

static int
rsa_encrypt(EVP_PKEY *key, enum pki_padding padding, struct cc_bytes plain, struct cc_buf *ret,
        struct cc_err *err)
{
    uint8_t out[RSA_BYTES_MAX];
    size_t out_len = sizeof(out);
    const uint8_t *data = plain.data != NULL ? plain.data : (const uint8_t *)"";
    EVP_PKEY_CTX *ctx = NULL;
    int rc = -1;

    if (check_key(key, err) != 0)
        return -1;
    if (plain.len > most_bytes((size_t)EVP_PKEY_get_size(key), padding))
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "%zu bytes do not fit under an RSA key of %d bits with padding %s", plain.len,
                EVP_PKEY_get_bits(key), pki_padding_name(padding));

    ERR_clear_error();
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    if (ctx == NULL || EVP_PKEY_encrypt_init(ctx) <= 0 || choose_padding(ctx, padding) <= 0 ||
            EVP_PKEY_encrypt(ctx, out, &out_len, data, plain.len) <= 0) {
        cc_err_set_openssl(err, "RSA encryption");
        goto out;
    }
    rc = cc_buf_add(ret, out, out_len, err);
out:
    EVP_PKEY_CTX_free(ctx);
    return rc;
}

int
pki_password_encrypt_padding(EVP_PKEY *key, enum pki_padding padding, struct cc_bytes password,
        struct cc_buf *ret, struct cc_err *err)
{
    if (password.len > PKI_PASSWORD_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "password of %zu bytes", password.len);
    return rsa_encrypt(key, padding, password, ret, err);
}

/* ---- CMS ---- */

struct sealed {
    uint8_t key[EVP_MAX_KEY_LENGTH];
    size_t key_len;
    uint8_t iv[EVP_MAX_IV_LENGTH];
    size_t iv_len;
    uint8_t text[PKI_PASSWORD_MAX + EVP_MAX_BLOCK_LENGTH];
    size_t text_len;
};

/* The password under a fresh key, CBC with the padding of RFC 5652 section 6.3. */
static int
seal_password(struct cc_bytes password, const EVP_CIPHER *cipher, struct sealed *ret,
        struct cc_err *err)
{
    const uint8_t *data = password.data != NULL ? password.data : (const uint8_t *)"";
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int first = 0;
    int last = 0;
    int rc = -1;

    ret->key_len = (size_t)EVP_CIPHER_get_key_length(cipher);
    ret->iv_len = (size_t)EVP_CIPHER_get_iv_length(cipher);
    if (cc_random(ret->iv, ret->iv_len, err) != 0)
        goto out;
    ERR_clear_error();
    /* rand_key knows what a key of this cipher looks like: DES wants its parity. */
    if (ctx == NULL || EVP_EncryptInit_ex2(ctx, cipher, NULL, NULL, NULL) <= 0 ||
            EVP_CIPHER_CTX_rand_key(ctx, ret->key) <= 0 ||
            EVP_EncryptInit_ex2(ctx, NULL, ret->key, ret->iv, NULL) <= 0 ||
            EVP_EncryptUpdate(ctx, ret->text, &first, data, (int)password.len) <= 0 ||
            EVP_EncryptFinal_ex(ctx, ret->text + first, &last) <= 0) {
        cc_err_set_openssl(err, "content encryption");
        goto out;
    }
    ret->text_len = (size_t)first + (size_t)last;
    rc = 0;
out:
    EVP_CIPHER_CTX_free(ctx);
    return rc;
}

/*
 * Not through CMS_encrypt(): it takes the content through BIOs and stack buffers that keep it.
 */
static int
encrypt_cms(X509 *recipient, enum pki_content_cipher cipher, struct cc_bytes password,
        struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf wrapped = CC_BUF_INIT(RSA_BYTES_MAX);
    struct sealed sealed = { .key_len = 0 };
    int rc = -1;

    if (seal_password(password, pki_content_cipher_evp(cipher), &sealed, err) != 0)
        goto out;
    if (rsa_encrypt(X509_get0_pubkey(recipient), PKI_PADDING_PKCS1,
                (struct cc_bytes){ sealed.key, sealed.key_len }, &wrapped, err) != 0)
        goto out;
    rc = pki_enveloped_data_build(recipient, cc_buf_bytes(&wrapped), cipher,
            (struct cc_bytes){ sealed.iv, sealed.iv_len },
            (struct cc_bytes){ sealed.text, sealed.text_len }, ret, err);
out:
    cc_wipe(&sealed, sizeof(sealed));
    cc_buf_free(&wrapped);
    return rc;
}

int
pki_password_encrypt_for(X509 *recipient, enum pki_password_form form,
        enum pki_content_cipher cipher, struct cc_bytes password, struct cc_buf *ret,
        struct cc_err *err)
{
    EVP_PKEY *key = X509_get0_pubkey(recipient);

    if (password.len > PKI_PASSWORD_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "password of %zu bytes", password.len);

    switch (form) {
    case PKI_PASSWORD_CMS:
        return encrypt_cms(recipient, cipher, password, ret, err);
    case PKI_PASSWORD_OAEP_SHA256:
        return rsa_encrypt(key, PKI_PADDING_OAEP_SHA256, password, ret, err);
    case PKI_PASSWORD_OAEP_SHA1:
        return rsa_encrypt(key, PKI_PADDING_OAEP_SHA1, password, ret, err);
    case PKI_PASSWORD_PKCS1:
        return rsa_encrypt(key, PKI_PADDING_PKCS1, password, ret, err);
    }
    return cc_err_set(err, CC_DOM_INTERNAL, 0, "password form %d", (int)form);
}
