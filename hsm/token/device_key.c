/* SPDX-License-Identifier: MIT */
#include "hsm/token/device_key.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/clock.h"
#include "base/process.h"
#include "base/secret.h"
#include "hsm/token/decrypt.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/pubkey.h"

#define PASSWORD_LEN 32 /* of 64 letters: 192 bits */

/* ---- PKCS #8 (RFC 5208), in memory of its own ---- */

static int
write_private(EVP_PKEY *key, struct cc_secret **ret, struct cc_err *err)
{
    PKCS8_PRIV_KEY_INFO *info;
    unsigned char *der = NULL;
    int len;

    ERR_clear_error();
    info = EVP_PKEY2PKCS8(key);
    if (info == NULL || (len = i2d_PKCS8_PRIV_KEY_INFO(info, &der)) < 0) {
        PKCS8_PRIV_KEY_INFO_free(info);
        return cc_err_set_openssl(err, "a device's key");
    }
    *ret = cc_secret_copy(der, (size_t)len, err);
    OPENSSL_clear_free(der, (size_t)len);
    PKCS8_PRIV_KEY_INFO_free(info);
    return *ret == NULL ? -1 : 0;
}

static int
read_private(struct cc_secret *secret, EVP_PKEY **ret_key, struct cc_err *err)
{
    const unsigned char *at = cc_secret_data(secret);
    PKCS8_PRIV_KEY_INFO *info;
    EVP_PKEY *key = NULL;

    ERR_clear_error();
    info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)cc_secret_len(secret));
    if (info != NULL)
        key = EVP_PKCS82PKEY(info);
    PKCS8_PRIV_KEY_INFO_free(info);
    ERR_clear_error();
    if (key == NULL)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT,
                "what was unsealed is no private key");
    *ret_key = key;
    return 0;
}

static int
unseal(struct p11_worker *worker, struct token_key *seal, struct cc_bytes context,
        struct cc_bytes sealed, EVP_PKEY **ret_key, struct cc_err *err)
{
    struct cc_secret *secret = NULL;
    int rc = -1;

    if (token_unseal(worker, seal, TOKEN_SEALED_DEVICE_KEY, context, sealed, &secret, err) == 0)
        rc = read_private(secret, ret_key, err);
    cc_secret_free(secret);
    return rc;
}

/* ---- new ---- */

int
token_device_key_new(struct p11_worker *worker, struct token_key *seal, enum pki_keyspec spec,
        enum hsm_generation generation, struct cc_bytes context, struct cc_buf *ret_sealed,
        struct cc_buf *ret_spki, struct cc_err *err)
{
    struct cc_secret *secret = NULL;
    EVP_PKEY *key = NULL;
    int rc = -1;

    if (generation == HSM_GENERATE_TOKEN)
        rc = token_generate_pair(worker, spec, &key, err);
    else
        rc = pki_key_generate(spec, &key, err);
    if (rc != 0)
        return -1;
    rc = -1;
    if (write_private(key, &secret, err) == 0 && pki_pubkey_write_spki(key, ret_spki, err) == 0)
        rc = token_seal(worker, seal, TOKEN_SEALED_DEVICE_KEY, context,
                (struct cc_bytes){ cc_secret_data(secret), cc_secret_len(secret) }, ret_sealed,
                err);
    cc_secret_free(secret);
    EVP_PKEY_free(key);
    return rc;
}

/* ---- request ---- */

int
token_device_key_csr(struct p11_worker *worker, struct token_key *seal, struct cc_bytes context,
        struct cc_bytes sealed, struct cc_bytes subject, struct cc_bytes extensions,
        struct cc_buf *ret_csr, struct cc_err *err)
{
    EVP_PKEY *key = NULL;
    struct cc_err e = { 0 };
    int rc;

    if (unseal(worker, seal, context, sealed, &key, err) != 0)
        return -1;
    rc = pki_csr_build(key, subject, extensions, NULL, ret_csr, &e);
    EVP_PKEY_free(key);
    if (rc == 0)
        return 0;
    if (e.domain == CC_DOM_INPUT)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%s", e.text);
    return cc_err_set(err, e.domain, e.code, "%s", e.text);
}

/* ---- PFX ---- */

/* Letters that no keyboard, shell or file format takes for something else. */
static struct cc_secret *
make_password(struct cc_err *err)
{
    static const char letters[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct cc_secret *password = cc_secret_new(PASSWORD_LEN, err);
    uint8_t *data;

    if (password == NULL)
        return NULL;
    data = cc_secret_data(password);
    if (cc_random(data, PASSWORD_LEN, err) != 0) {
        cc_secret_free(password);
        return NULL;
    }
    for (size_t i = 0; i < PASSWORD_LEN; i++)
        data[i] = (uint8_t)letters[data[i] % 64];
    return password;
}

static int
read_recipient(struct cc_bytes der, X509 **ret, struct cc_err *err)
{
    X509 *recipient = NULL;
    struct cc_err e = { 0 };

    if (pki_cert_parse(der, &recipient, &e) == 0 &&
            pki_cert_check_recipient(recipient, cc_clock_now_ms(), &e) == 0) {
        *ret = recipient;
        return 0;
    }
    X509_free(recipient);
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_RECIPIENT, "recipient's certificate: %s",
            e.text);
}

static int
build_pfx(EVP_PKEY *key, const struct hsm_device_pfx *parts, struct cc_bytes password,
        struct cc_buf *ret_pfx, struct cc_err *err)
{
    const struct pki_pfx_parts pfx = {
        .key = key,
        .certificate = parts->certificate,
        .chain = parts->chain,
        .friendly_name = parts->friendly_name,
        .encryption = parts->encryption,
    };
    struct cc_err e = { 0 };

    if (pki_pfx_build(&pfx, password, ret_pfx, &e) == 0)
        return 0;
    if (e.domain == CC_DOM_INPUT)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "PFX: %s", e.text);
    return cc_err_set(err, e.domain, e.code, "%s", e.text);
}

int
token_device_key_pfx(struct p11_worker *worker, struct token_key *seal,
        const struct hsm_device_pfx *parts, struct cc_buf *ret_pfx, struct cc_buf *ret_password,
        struct cc_err *err)
{
    struct cc_secret *password = NULL;
    X509 *recipient = NULL;
    EVP_PKEY *key = NULL;
    struct cc_bytes bytes;
    int rc = -1;

    if (read_recipient(parts->recipient, &recipient, err) != 0 ||
            unseal(worker, seal, parts->context, parts->sealed, &key, err) != 0 ||
            (password = make_password(err)) == NULL)
        goto out;
    bytes = (struct cc_bytes){ cc_secret_data(password), cc_secret_len(password) };
    if (build_pfx(key, parts, bytes, ret_pfx, err) == 0)
        rc = pki_password_encrypt_for(recipient, parts->form, parts->cipher, bytes, ret_password,
                err);
out:
    cc_secret_free(password);
    EVP_PKEY_free(key);
    X509_free(recipient);
    return rc;
}
