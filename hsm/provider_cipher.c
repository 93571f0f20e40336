/* SPDX-License-Identifier: MIT */
#include "hsm/provider_int.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>
#include <openssl/proverr.h>
#include <openssl/rsa.h>

#define LABEL_MAX 1024
#define PLAIN_MAX 2048 /* bytes; RSA of 16384 bits */

#ifndef OSSL_ASYM_CIPHER_PARAM_IMPLICIT_REJECTION
#define OSSL_ASYM_CIPHER_PARAM_IMPLICIT_REJECTION "implicit-rejection"
#endif

struct cipher {
    const struct provider *provider;
    struct provider_key *key;
    EVP_MD *md, *mgf1; /* of OAEP; NULL: SHA-1, and the same as md */
    unsigned char *label;
    size_t label_len;
    int padding;
};

static void *
cipher_new(void *provctx)
{
    struct cipher *ctx = calloc(1, sizeof(*ctx));

    if (ctx == NULL) {
        ERR_raise(ERR_LIB_PROV, ERR_R_MALLOC_FAILURE);
        return NULL;
    }
    ctx->provider = provctx;
    ctx->padding = RSA_PKCS1_PADDING;
    return ctx;
}

static void
cipher_free(void *vctx)
{
    struct cipher *ctx = vctx;

    if (ctx == NULL)
        return;
    provider_key_unref(ctx->key);
    EVP_MD_free(ctx->md);
    EVP_MD_free(ctx->mgf1);
    free(ctx->label);
    free(ctx);
}

static int
cipher_set_label(struct cipher *ctx, const void *label, size_t len)
{
    unsigned char *copy = NULL;

    if (len > LABEL_MAX)
        return provider_fail(PROV_R_INVALID_DATA);
    if (len > 0) {
        if ((copy = malloc(len)) == NULL)
            return provider_fail(ERR_R_MALLOC_FAILURE);
        memcpy(copy, label, len);
    }
    free(ctx->label);
    ctx->label = copy;
    ctx->label_len = len;
    return 1;
}

static void *
cipher_dup(void *vctx)
{
    const struct cipher *from = vctx;
    struct cipher *to = calloc(1, sizeof(*to));

    if (to == NULL)
        return NULL;
    *to = *from;
    to->label = NULL;
    if (to->key != NULL)
        (void)provider_key_ref(to->key);
    if (to->md != NULL)
        (void)EVP_MD_up_ref(to->md);
    if (to->mgf1 != NULL)
        (void)EVP_MD_up_ref(to->mgf1);
    if (!cipher_set_label(to, from->label, from->label_len)) {
        cipher_free(to);
        return NULL;
    }
    return to;
}

/* ---- parameters ---- */

static int
cipher_set_md(struct cipher *ctx, EVP_MD **md, const OSSL_PARAM params[], const char *name)
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, name);
    char text[64];

    return p == NULL ||
           (provider_get_text(p, text, sizeof(text)) && provider_set_md(ctx->provider, md, text));
}

/*
 * "implicit-rejection" is accepted and changes nothing: how a failed decryption looks to others is decided where the
 * token is, and for CMS by OpenSSL, which takes a random key then.
 */
static int
cipher_set_params(void *vctx, const OSSL_PARAM params[])
{
    struct cipher *ctx = vctx;
    const OSSL_PARAM *p;
    const void *label = NULL;
    size_t len = 0;

    if (params == NULL)
        return 1;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_ASYM_CIPHER_PARAM_PAD_MODE)) != NULL) {
        if (!provider_get_padding(p, &ctx->padding))
            return 0;
        if (ctx->padding == RSA_PKCS1_PSS_PADDING)
            return provider_fail(PROV_R_ILLEGAL_OR_UNSUPPORTED_PADDING_MODE);
    }
    if (!cipher_set_md(ctx, &ctx->md, params, OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST) ||
            !cipher_set_md(ctx, &ctx->mgf1, params, OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST))
        return 0;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL)) != NULL &&
            (!OSSL_PARAM_get_octet_string_ptr(p, &label, &len) ||
                    !cipher_set_label(ctx, label, len)))
        return 0;
    return 1;
}

static const OSSL_PARAM *
cipher_settable(void *vctx, void *provctx)
{
    static const OSSL_PARAM table[] = {
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, NULL, 0),
        OSSL_PARAM_uint(OSSL_ASYM_CIPHER_PARAM_IMPLICIT_REJECTION, NULL),
        OSSL_PARAM_END,
    };

    (void)vctx;
    (void)provctx;
    return table;
}

static const char *
cipher_md_name(const struct cipher *ctx)
{
    return ctx->md != NULL ? EVP_MD_get0_name(ctx->md) : "SHA1";
}

static int
cipher_get_params(void *vctx, OSSL_PARAM params[])
{
    const struct cipher *ctx = vctx;
    OSSL_PARAM *p;

    if ((p = OSSL_PARAM_locate(params, OSSL_ASYM_CIPHER_PARAM_PAD_MODE)) != NULL &&
            !provider_put_padding(p, ctx->padding))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST)) != NULL &&
            !OSSL_PARAM_set_utf8_string(p, cipher_md_name(ctx)))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST)) != NULL &&
            !OSSL_PARAM_set_utf8_string(p,
                    ctx->mgf1 != NULL ? EVP_MD_get0_name(ctx->mgf1) : cipher_md_name(ctx)))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL)) != NULL &&
            !OSSL_PARAM_set_octet_ptr(p, ctx->label, ctx->label_len))
        return 0;
    return 1;
}

static const OSSL_PARAM *
cipher_gettable(void *vctx, void *provctx)
{
    static const OSSL_PARAM table[] = {
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_OAEP_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ASYM_CIPHER_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_octet_ptr(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)vctx;
    (void)provctx;
    return table;
}

/* ---- decrypting on the token ---- */

static int
cipher_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    struct cipher *ctx = vctx;
    struct provider_key *old = ctx->key;

    if (keydata != NULL) {
        ctx->key = provider_key_ref(keydata);
        provider_key_unref(old);
    }
    if (ctx->key == NULL)
        return provider_fail(PROV_R_NO_KEY_SET);
    return cipher_set_params(ctx, params);
}

static int
cipher_decrypt_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    const struct cipher *ctx = vctx;

    if (!cipher_init(vctx, keydata, params))
        return 0;
    return ctx->key->token != NULL ? 1 : provider_fail(PROV_R_NOT_A_PRIVATE_KEY);
}

static struct hsm_decrypt
cipher_plan(const struct cipher *ctx, const unsigned char *in, size_t len)
{
    struct hsm_decrypt plan = { .kind = WIRE_DECRYPT_RSA_PKCS1,
        .ciphertext = { .data = in, .len = len } };

    if (ctx->padding == RSA_NO_PADDING) {
        plan.kind = WIRE_DECRYPT_RSA_RAW;
    } else if (ctx->padding == RSA_PKCS1_OAEP_PADDING) {
        plan.kind = WIRE_DECRYPT_RSA_OAEP;
        plan.digest_nid = ctx->md != NULL ? EVP_MD_get_type(ctx->md) : NID_sha1;
        plan.mgf1_nid = ctx->mgf1 != NULL ? EVP_MD_get_type(ctx->mgf1) : plan.digest_nid;
        plan.label = (struct cc_bytes){ .data = ctx->label, .len = ctx->label_len };
    }
    return plan;
}

static int
cipher_decrypt(void *vctx, unsigned char *out, size_t *out_len, size_t size,
        const unsigned char *in, size_t in_len)
{
    const struct cipher *ctx = vctx;
    const struct hsm_decrypt plan = cipher_plan(ctx, in, in_len);
    unsigned char plain[PLAIN_MAX];
    struct cc_err err = { 0 };
    size_t len = 0;
    int ok = 0;

    if (out == NULL) {
        *out_len = (size_t)EVP_PKEY_get_size(ctx->key->public);
        return 1;
    }
    if (hsm_key_decrypt(ctx->key->token, &plan, plain, sizeof(plain), &len, &err) != 0) {
        hsm_err_raise(&err);
    } else if (len > size) {
        provider_fail(PROV_R_OUTPUT_BUFFER_TOO_SMALL);
    } else {
        memcpy(out, plain, len);
        *out_len = len;
        ok = 1;
    }
    cc_wipe(plain, sizeof(plain));
    return ok;
}

/* ---- encrypting: the software key does it ---- */

static int
encrypt_set_oaep(const struct cipher *ctx, EVP_PKEY_CTX *soft)
{
    void *label = NULL;

    if ((ctx->md != NULL && EVP_PKEY_CTX_set_rsa_oaep_md(soft, ctx->md) <= 0) ||
            (ctx->mgf1 != NULL && EVP_PKEY_CTX_set_rsa_mgf1_md(soft, ctx->mgf1) <= 0))
        return 0;
    if (ctx->label_len == 0)
        return 1;
    if ((label = OPENSSL_memdup(ctx->label, ctx->label_len)) == NULL)
        return 0;
    if (EVP_PKEY_CTX_set0_rsa_oaep_label(soft, label, (int)ctx->label_len) <= 0) {
        OPENSSL_free(label);
        return 0;
    }
    return 1;
}

static int
cipher_encrypt(void *vctx, unsigned char *out, size_t *out_len, size_t size,
        const unsigned char *in, size_t in_len)
{
    const struct cipher *ctx = vctx;
    EVP_PKEY_CTX *soft =
            EVP_PKEY_CTX_new_from_pkey(ctx->provider->libctx, ctx->key->public, SOFTWARE);
    int ok;

    *out_len = size;
    ok = soft != NULL && EVP_PKEY_encrypt_init(soft) > 0 &&
         EVP_PKEY_CTX_set_rsa_padding(soft, ctx->padding) > 0 &&
         (ctx->padding != RSA_PKCS1_OAEP_PADDING || encrypt_set_oaep(ctx, soft)) &&
         EVP_PKEY_encrypt(soft, out, out_len, in, in_len) > 0;
    EVP_PKEY_CTX_free(soft);
    return ok;
}

const OSSL_DISPATCH provider_rsa_cipher[] = {
    { OSSL_FUNC_ASYM_CIPHER_NEWCTX, (void (*)(void))cipher_new },
    { OSSL_FUNC_ASYM_CIPHER_FREECTX, (void (*)(void))cipher_free },
    { OSSL_FUNC_ASYM_CIPHER_DUPCTX, (void (*)(void))cipher_dup },
    { OSSL_FUNC_ASYM_CIPHER_DECRYPT_INIT, (void (*)(void))cipher_decrypt_init },
    { OSSL_FUNC_ASYM_CIPHER_DECRYPT, (void (*)(void))cipher_decrypt },
    { OSSL_FUNC_ASYM_CIPHER_ENCRYPT_INIT, (void (*)(void))cipher_init },
    { OSSL_FUNC_ASYM_CIPHER_ENCRYPT, (void (*)(void))cipher_encrypt },
    { OSSL_FUNC_ASYM_CIPHER_GET_CTX_PARAMS, (void (*)(void))cipher_get_params },
    { OSSL_FUNC_ASYM_CIPHER_GETTABLE_CTX_PARAMS, (void (*)(void))cipher_gettable },
    { OSSL_FUNC_ASYM_CIPHER_SET_CTX_PARAMS, (void (*)(void))cipher_set_params },
    { OSSL_FUNC_ASYM_CIPHER_SETTABLE_CTX_PARAMS, (void (*)(void))cipher_settable },
    { 0, NULL },
};
