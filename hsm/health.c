/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "base/process.h"
#include "hsm/role.h"

#define PROBE_LEN 32

static int
health_mismatch(struct cc_err *err)
{
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_KEY_REPLACED,
            "what the token made does not fit the key's public half");
}

/* A signature made on the token, verified with the public half by other software. */
static int
health_sign(OSSL_LIB_CTX *libctx, EVP_PKEY *pkey, EVP_PKEY *public_key, struct cc_err *err)
{
    EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
    uint8_t tbs[PROBE_LEN], sig[1024];
    size_t sig_len = sizeof(sig);
    int rc = -1;

    if (sign == NULL || verify == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    if (cc_random(tbs, sizeof(tbs), err) != 0)
        goto out;
    if (EVP_DigestSignInit_ex(sign, NULL, "SHA256", libctx, NULL, pkey, NULL) <= 0 ||
            EVP_DigestSign(sign, sig, &sig_len, tbs, sizeof(tbs)) <= 0) {
        cc_err_set_openssl(err, "sign");
        hsm_err_resolve(err);
        goto out;
    }
    if (EVP_DigestVerifyInit_ex(verify, NULL, "SHA256", libctx, "provider=default", public_key,
                NULL) <= 0 ||
            EVP_DigestVerify(verify, sig, sig_len, tbs, sizeof(tbs)) != 1) {
        health_mismatch(err);
        goto out;
    }
    rc = 0;
out:
    EVP_MD_CTX_free(sign);
    EVP_MD_CTX_free(verify);
    return rc;
}

static int
health_encrypt(OSSL_LIB_CTX *libctx, EVP_PKEY *public_key, const uint8_t *plain, uint8_t *ret,
        size_t *len, struct cc_err *err)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(libctx, public_key, "provider=default");
    int rc = 0;

    if (ctx == NULL || EVP_PKEY_encrypt_init(ctx) <= 0 ||
            EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) <= 0 ||
            EVP_PKEY_encrypt(ctx, ret, len, plain, PROBE_LEN) <= 0)
        rc = cc_err_set_openssl(err, "encrypt with the public half");
    EVP_PKEY_CTX_free(ctx);
    return rc;
}

/* Something random, encrypted with the public half, comes back from the token. */
static int
health_decrypt(struct hsm_key *key, EVP_PKEY *public_key, struct cc_err *err)
{
    uint8_t plain[PROBE_LEN], ciphertext[2048], back[2048];
    size_t len = sizeof(ciphertext), back_len = 0;
    struct hsm_decrypt decrypt = { .kind = WIRE_DECRYPT_RSA_OAEP,
        .digest_nid = NID_sha1,
        .mgf1_nid = NID_sha1 };

    if (cc_random(plain, sizeof(plain), err) != 0 ||
            health_encrypt(key->hsm->libctx, public_key, plain, ciphertext, &len, err) != 0)
        return -1;
    decrypt.ciphertext = (struct cc_bytes){ .data = ciphertext, .len = len };
    if (hsm_key_decrypt(key, &decrypt, back, sizeof(back), &back_len, err) != 0)
        return -1;
    if (back_len != sizeof(plain) || CRYPTO_memcmp(back, plain, sizeof(plain)) != 0)
        return health_mismatch(err);
    return 0;
}

static int
health_seal(struct hsm_key *key, struct cc_err *err)
{
    struct cc_buf sealed = CC_BUF_INIT(4096);
    struct cc_secret *back = NULL;
    const struct cc_bytes context = cc_bytes_of_str("health");
    uint8_t plain[PROBE_LEN];
    int rc = -1;

    if (cc_random(plain, sizeof(plain), err) != 0 ||
            hsm_seal(key, context, (struct cc_bytes){ plain, sizeof(plain) }, &sealed, err) != 0 ||
            hsm_unseal(key, context, cc_buf_bytes(&sealed), &back, err) != 0)
        goto out;
    if (cc_secret_len(back) != sizeof(plain) ||
            CRYPTO_memcmp(cc_secret_data(back), plain, sizeof(plain)) != 0) {
        health_mismatch(err);
        goto out;
    }
    rc = 0;
out:
    cc_secret_free(back);
    cc_buf_free(&sealed);
    return rc;
}

int
hsm_key_health(struct hsm_key *key, struct cc_err *err)
{
    const unsigned uses = hsm_role_uses(key->role);
    EVP_PKEY *pkey = NULL, *public_key = NULL;
    int rc = -1;

    if ((uses & HSM_USE_SEAL) != 0) {
        rc = health_seal(key, err);
        goto out;
    }
    if (hsm_key_get0_evp(key, &pkey, err) != 0 || hsm_key_get1_public(key, &public_key, err) != 0)
        goto out;
    if ((uses & HSM_USE_DECRYPT) != 0)
        rc = health_decrypt(key, public_key, err);
    else
        rc = health_sign(key->hsm->libctx, pkey, public_key, err);
out:
    EVP_PKEY_free(public_key);
    return rc == 0 ? 0 : cc_err_in(err, "health of the %s key", hsm_role_name(key->role));
}
