/* SPDX-License-Identifier: MIT */
#include "hsm/provider_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/params.h>
#include <openssl/proverr.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define SIGNATURE_MAX 2048 /* bytes; RSA of 16384 bits */

#ifndef RSA_PSS_SALTLEN_AUTO_DIGEST_MAX
#define RSA_PSS_SALTLEN_AUTO_DIGEST_MAX (-4)
#endif

struct signature {
    const struct provider *provider;
    struct provider_key *key;
    EVP_MD *md, *mgf1;
    EVP_MD_CTX *hash; /* of digest_sign and digest_verify */
    bool hashing;     /* the digest was fixed at the start of one of these */
    int padding;
    int salt_len; /* as set: bytes, or RSA_PSS_SALTLEN_* */
};

/* ---- contexts ---- */

static void *
signature_new(void *provctx, const char *propq)
{
    struct signature *ctx = calloc(1, sizeof(*ctx));

    (void)propq;
    if (ctx == NULL) {
        ERR_raise(ERR_LIB_PROV, ERR_R_MALLOC_FAILURE);
        return NULL;
    }
    ctx->provider = provctx;
    ctx->padding = RSA_PKCS1_PADDING;
    ctx->salt_len = RSA_PSS_SALTLEN_AUTO;
    return ctx;
}

static void
signature_free(void *vctx)
{
    struct signature *ctx = vctx;

    if (ctx == NULL)
        return;
    provider_key_unref(ctx->key);
    EVP_MD_free(ctx->md);
    EVP_MD_free(ctx->mgf1);
    EVP_MD_CTX_free(ctx->hash);
    free(ctx);
}

static void *
signature_dup(void *vctx)
{
    const struct signature *from = vctx;
    struct signature *to = calloc(1, sizeof(*to));

    if (to == NULL)
        return NULL;
    *to = *from;
    to->hash = NULL;
    if (to->key != NULL)
        (void)provider_key_ref(to->key);
    if (to->md != NULL)
        (void)EVP_MD_up_ref(to->md);
    if (to->mgf1 != NULL)
        (void)EVP_MD_up_ref(to->mgf1);
    if (from->hash != NULL &&
            ((to->hash = EVP_MD_CTX_new()) == NULL || !EVP_MD_CTX_copy_ex(to->hash, from->hash))) {
        signature_free(to);
        return NULL;
    }
    return to;
}

/* ---- parameters ---- */

/* The hashes that PKCS#11 tokens know. */
static bool
md_is_known(const EVP_MD *md)
{
    switch (EVP_MD_get_type(md)) {
    case NID_sha1:
    case NID_sha224:
    case NID_sha256:
    case NID_sha384:
    case NID_sha512:
        return true;
    default:
        return false;
    }
}

static int
signature_set_md(struct signature *ctx, EVP_MD **md, const char *name)
{
    if (!provider_set_md(ctx->provider, md, name))
        return 0;
    if (*md != NULL && !md_is_known(*md))
        return provider_fail(PROV_R_DIGEST_NOT_ALLOWED);
    return 1;
}

static int
get_salt_len(const OSSL_PARAM *param, int *ret)
{
    static const struct {
        const char *name;
        int len;
    } names[] = {
        { OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST, RSA_PSS_SALTLEN_DIGEST },
        { OSSL_PKEY_RSA_PSS_SALT_LEN_MAX, RSA_PSS_SALTLEN_MAX },
        { OSSL_PKEY_RSA_PSS_SALT_LEN_AUTO, RSA_PSS_SALTLEN_AUTO },
        { "auto-digestmax", RSA_PSS_SALTLEN_AUTO_DIGEST_MAX },
    };
    char text[24], *end = NULL;
    long len;

    if (param->data_type != OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_get_int(param, ret) && *ret >= RSA_PSS_SALTLEN_AUTO_DIGEST_MAX &&
               *ret <= SIGNATURE_MAX;
    if (!provider_get_text(param, text, sizeof(text)))
        return 0;
    for (size_t i = 0; i < CC_COUNT(names); i++)
        if (strcmp(names[i].name, text) == 0) {
            *ret = names[i].len;
            return 1;
        }
    len = strtol(text, &end, 10);
    if (end == text || *end != '\0' || len < 0 || len > SIGNATURE_MAX)
        return provider_fail(PROV_R_INVALID_SALT_LENGTH);
    *ret = (int)len;
    return 1;
}

/* A digest may be named again, but not changed, once hashing with it has begun. */
static int
set_digest(struct signature *ctx, const OSSL_PARAM *param)
{
    char name[64];
    EVP_MD *md = NULL;
    int ok;

    if (!provider_get_text(param, name, sizeof(name)) || !signature_set_md(ctx, &md, name)) {
        EVP_MD_free(md);
        return 0;
    }
    ok = !ctx->hashing || (md != NULL && EVP_MD_get_type(md) == EVP_MD_get_type(ctx->md));
    if (ok) {
        EVP_MD *old = ctx->md;

        ctx->md = md;
        md = old;
    }
    EVP_MD_free(md);
    return ok ? 1 : provider_fail(PROV_R_DIGEST_NOT_ALLOWED);
}

static int
signature_set_params(void *vctx, const OSSL_PARAM params[])
{
    struct signature *ctx = vctx;
    const OSSL_PARAM *p;
    char name[64];

    if (params == NULL)
        return 1;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST)) != NULL &&
            !set_digest(ctx, p))
        return 0;
    if (ctx->key != NULL && ctx->key->ec)
        return 1;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) != NULL) {
        if (!provider_get_padding(p, &ctx->padding))
            return 0;
        if (ctx->padding == RSA_PKCS1_OAEP_PADDING)
            return provider_fail(PROV_R_ILLEGAL_OR_UNSUPPORTED_PADDING_MODE);
    }
    if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN)) != NULL &&
            !get_salt_len(p, &ctx->salt_len))
        return 0;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST)) != NULL &&
            (!provider_get_text(p, name, sizeof(name)) || !signature_set_md(ctx, &ctx->mgf1, name)))
        return 0;
    return 1;
}

static const OSSL_PARAM *
signature_settable_rsa(void *vctx, void *provctx)
{
    static const OSSL_PARAM table[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)vctx;
    (void)provctx;
    return table;
}

static const OSSL_PARAM *
signature_settable_ecdsa(void *vctx, void *provctx)
{
    static const OSSL_PARAM table[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)vctx;
    (void)provctx;
    return table;
}

static const EVP_MD *
signature_mgf1(const struct signature *ctx)
{
    return ctx->mgf1 != NULL ? ctx->mgf1 : ctx->md;
}

/*
 * Salt in bytes.  "auto" is as long as the digest, which every token accepts, where OpenSSL 3.0 would take the most
 * that fits; verifiers read the length from the signature or from its parameters.
 */
static int
signature_salt_len(const struct signature *ctx)
{
    const int digest = EVP_MD_get_size(ctx->md);
    const int max = (EVP_PKEY_get_bits(ctx->key->public) - 1 + 7) / 8 - digest - 2;

    if (ctx->salt_len >= 0)
        return ctx->salt_len;
    if (ctx->salt_len == RSA_PSS_SALTLEN_MAX || max < digest)
        return max;
    return digest;
}

/* ---- the AlgorithmIdentifier that goes with the signature (RFC 8017 A.2.3, RFC 5758, RFC 4055) ---- */

static X509_ALGOR *
algor_md(const EVP_MD *md)
{
    X509_ALGOR *alg = X509_ALGOR_new();

    if (alg != NULL)
        X509_ALGOR_set_md(alg, md);
    return alg;
}

static X509_ALGOR *
algor_mgf1(const EVP_MD *md)
{
    X509_ALGOR *alg = X509_ALGOR_new(), *hash = algor_md(md);
    ASN1_STRING *packed = NULL;

    if (alg == NULL || hash == NULL ||
            ASN1_item_pack(hash, ASN1_ITEM_rptr(X509_ALGOR), &packed) == NULL ||
            !X509_ALGOR_set0(alg, OBJ_nid2obj(NID_mgf1), V_ASN1_SEQUENCE, packed)) {
        ASN1_STRING_free(packed);
        X509_ALGOR_free(alg);
        alg = NULL;
    }
    X509_ALGOR_free(hash);
    return alg;
}

/* Default values are left out, as DER wants them. */
static int
algor_set_pss(const struct signature *ctx, X509_ALGOR *alg)
{
    RSA_PSS_PARAMS *pss = RSA_PSS_PARAMS_new();
    ASN1_STRING *packed = NULL;
    const int salt_len = signature_salt_len(ctx);
    int ok = 0;

    if (pss == NULL)
        return 0;
    if (EVP_MD_get_type(ctx->md) != NID_sha1 && (pss->hashAlgorithm = algor_md(ctx->md)) == NULL)
        goto out;
    if (EVP_MD_get_type(signature_mgf1(ctx)) != NID_sha1 &&
            (pss->maskGenAlgorithm = algor_mgf1(signature_mgf1(ctx))) == NULL)
        goto out;
    if (salt_len != 20 && ((pss->saltLength = ASN1_INTEGER_new()) == NULL ||
                                  !ASN1_INTEGER_set(pss->saltLength, salt_len)))
        goto out;
    if (ASN1_item_pack(pss, ASN1_ITEM_rptr(RSA_PSS_PARAMS), &packed) == NULL ||
            !X509_ALGOR_set0(alg, OBJ_nid2obj(NID_rsassaPss), V_ASN1_SEQUENCE, packed)) {
        ASN1_STRING_free(packed);
        goto out;
    }
    ok = 1;
out:
    RSA_PSS_PARAMS_free(pss);
    return ok;
}

static int
algor_set_plain(const struct signature *ctx, X509_ALGOR *alg)
{
    const int key_nid = ctx->key->ec ? NID_X9_62_id_ecPublicKey : NID_rsaEncryption;
    int nid = NID_undef;

    if (!OBJ_find_sigid_by_algs(&nid, EVP_MD_get_type(ctx->md), key_nid))
        return 0;
    return X509_ALGOR_set0(alg, OBJ_nid2obj(nid), ctx->key->ec ? V_ASN1_UNDEF : V_ASN1_NULL, NULL);
}

static int
put_algorithm_id(const struct signature *ctx, OSSL_PARAM *param)
{
    X509_ALGOR *alg = X509_ALGOR_new();
    unsigned char *der = NULL;
    int len = -1, ok = 0;

    if (alg == NULL || ctx->md == NULL || ctx->key == NULL)
        goto out;
    if (ctx->key->ec || ctx->padding == RSA_PKCS1_PADDING)
        ok = algor_set_plain(ctx, alg);
    else if (ctx->padding == RSA_PKCS1_PSS_PADDING)
        ok = algor_set_pss(ctx, alg);
    ok = ok && (len = i2d_X509_ALGOR(alg, &der)) > 0 &&
         OSSL_PARAM_set_octet_string(param, der, (size_t)len);
out:
    OPENSSL_free(der);
    X509_ALGOR_free(alg);
    return ok;
}

static int
put_salt_len(const struct signature *ctx, OSSL_PARAM *param)
{
    const int len = ctx->md != NULL && ctx->key != NULL ? signature_salt_len(ctx) : ctx->salt_len;
    char text[12];

    if (param->data_type != OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_set_int(param, len);
    (void)snprintf(text, sizeof(text), "%d", len);
    return OSSL_PARAM_set_utf8_string(param, text);
}

static int
signature_get_params(void *vctx, OSSL_PARAM params[])
{
    const struct signature *ctx = vctx;
    OSSL_PARAM *p;

    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID)) != NULL &&
            !put_algorithm_id(ctx, p))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST)) != NULL &&
            !OSSL_PARAM_set_utf8_string(p, ctx->md != NULL ? EVP_MD_get0_name(ctx->md) : ""))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST_SIZE)) != NULL &&
            !OSSL_PARAM_set_size_t(p, ctx->md != NULL ? (size_t)EVP_MD_get_size(ctx->md) : 0))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) != NULL &&
            !provider_put_padding(p, ctx->padding))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST)) != NULL &&
            !OSSL_PARAM_set_utf8_string(p,
                    signature_mgf1(ctx) != NULL ? EVP_MD_get0_name(signature_mgf1(ctx)) : ""))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN)) != NULL &&
            !put_salt_len(ctx, p))
        return 0;
    return 1;
}

static const OSSL_PARAM *
signature_gettable_rsa(void *vctx, void *provctx)
{
    static const OSSL_PARAM table[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)vctx;
    (void)provctx;
    return table;
}

static const OSSL_PARAM *
signature_gettable_ecdsa(void *vctx, void *provctx)
{
    static const OSSL_PARAM table[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_size_t(OSSL_SIGNATURE_PARAM_DIGEST_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)vctx;
    (void)provctx;
    return table;
}

/* ---- signing ---- */

static int
signature_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    struct signature *ctx = vctx;
    struct provider_key *old = ctx->key;

    if (keydata != NULL) {
        ctx->key = provider_key_ref(keydata);
        provider_key_unref(old);
    }
    if (ctx->key == NULL)
        return provider_fail(PROV_R_NO_KEY_SET);
    ctx->hashing = false;
    return signature_set_params(ctx, params);
}

static int
signature_sign_init(void *vctx, void *keydata, const OSSL_PARAM params[])
{
    const struct signature *ctx = vctx;

    if (!signature_init(vctx, keydata, params))
        return 0;
    return ctx->key->token != NULL ? 1 : provider_fail(PROV_R_NOT_A_PRIVATE_KEY);
}

/* What the token is asked for. */
static int
signature_plan(const struct signature *ctx, struct cc_bytes tbs, struct hsm_sign *ret)
{
    *ret = (struct hsm_sign){ .kind = WIRE_SIGN_ECDSA, .tbs = tbs };
    if (ctx->md != NULL) {
        ret->digest_nid = EVP_MD_get_type(ctx->md);
        if (ctx->padding != RSA_NO_PADDING && tbs.len != (size_t)EVP_MD_get_size(ctx->md))
            return provider_fail(PROV_R_INVALID_DIGEST_LENGTH);
    }
    if (ctx->key->ec)
        return 1;
    switch (ctx->padding) {
    case RSA_PKCS1_PADDING:
        ret->kind = WIRE_SIGN_RSA_PKCS1;
        return 1;
    case RSA_PKCS1_PSS_PADDING:
        if (ctx->md == NULL)
            return provider_fail(PROV_R_INVALID_DIGEST);
        if (signature_salt_len(ctx) < 0)
            return provider_fail(PROV_R_KEY_SIZE_TOO_SMALL);
        ret->kind = WIRE_SIGN_RSA_PSS;
        ret->mgf1_nid = EVP_MD_get_type(signature_mgf1(ctx));
        ret->salt_len = (unsigned)signature_salt_len(ctx);
        return 1;
    default:
        ret->kind = WIRE_SIGN_RSA_RAW;
        ret->digest_nid = NID_undef;
        return 1;
    }
}

static int
signature_sign(void *vctx, unsigned char *sig, size_t *sig_len, size_t size,
        const unsigned char *tbs, size_t tbs_len)
{
    const struct signature *ctx = vctx;
    const int key_size = EVP_PKEY_get_size(ctx->key->public);
    struct cc_buf made = CC_BUF_INIT(SIGNATURE_MAX);
    struct cc_err err = { 0 };
    struct hsm_sign sign;
    int ok = 0;

    if (sig == NULL) {
        *sig_len = (size_t)key_size;
        return 1;
    }
    if (size < (size_t)key_size)
        return provider_fail(PROV_R_OUTPUT_BUFFER_TOO_SMALL);
    if (!signature_plan(ctx, (struct cc_bytes){ .data = tbs, .len = tbs_len }, &sign))
        return 0;
    if (hsm_key_sign(ctx->key->token, &sign, &made, &err) != 0) {
        hsm_err_raise(&err);
    } else if (made.len == 0 || made.len > (size_t)key_size) {
        provider_fail(PROV_R_FAILED_TO_SIGN);
    } else {
        memcpy(sig, made.data, made.len);
        *sig_len = made.len;
        ok = 1;
    }
    cc_buf_free(&made);
    return ok;
}

/* ---- verifying: the software key does it ---- */

static int
verify_set_rsa(const struct signature *ctx, EVP_PKEY_CTX *soft)
{
    if (EVP_PKEY_CTX_set_rsa_padding(soft, ctx->padding) <= 0)
        return 0;
    if (ctx->padding != RSA_PKCS1_PSS_PADDING)
        return 1;
    return EVP_PKEY_CTX_set_rsa_mgf1_md(soft, signature_mgf1(ctx)) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(soft, ctx->salt_len) > 0;
}

static int
signature_verify(void *vctx, const unsigned char *sig, size_t sig_len, const unsigned char *tbs,
        size_t tbs_len)
{
    const struct signature *ctx = vctx;
    EVP_PKEY_CTX *soft =
            EVP_PKEY_CTX_new_from_pkey(ctx->provider->libctx, ctx->key->public, SOFTWARE);
    int ok;

    ok = soft != NULL && EVP_PKEY_verify_init(soft) > 0 &&
         (ctx->md == NULL || EVP_PKEY_CTX_set_signature_md(soft, ctx->md) > 0) &&
         (ctx->key->ec || verify_set_rsa(ctx, soft)) &&
         EVP_PKEY_verify(soft, sig, sig_len, tbs, tbs_len) == 1;
    EVP_PKEY_CTX_free(soft);
    return ok;
}

/* ---- with hashing ---- */

static int
digest_init(struct signature *ctx, const char *md_name)
{
    if (!signature_set_md(ctx, &ctx->md, md_name != NULL && *md_name != '\0' ? md_name : "SHA256"))
        return 0;
    EVP_MD_CTX_free(ctx->hash);
    ctx->hash = EVP_MD_CTX_new();
    if (ctx->hash == NULL || !EVP_DigestInit_ex2(ctx->hash, ctx->md, NULL))
        return 0;
    ctx->hashing = true;
    return 1;
}

static int
signature_digest_sign_init(void *vctx, const char *md_name, void *keydata,
        const OSSL_PARAM params[])
{
    return signature_sign_init(vctx, keydata, NULL) && digest_init(vctx, md_name) &&
           signature_set_params(vctx, params);
}

static int
signature_digest_verify_init(void *vctx, const char *md_name, void *keydata,
        const OSSL_PARAM params[])
{
    return signature_init(vctx, keydata, NULL) && digest_init(vctx, md_name) &&
           signature_set_params(vctx, params);
}

static int
signature_digest_update(void *vctx, const unsigned char *data, size_t len)
{
    const struct signature *ctx = vctx;

    return ctx->hash != NULL && EVP_DigestUpdate(ctx->hash, data, len);
}

static int
signature_digest_sign_final(void *vctx, unsigned char *sig, size_t *sig_len, size_t size)
{
    const struct signature *ctx = vctx;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (ctx->hash == NULL)
        return 0;
    if (sig != NULL && !EVP_DigestFinal_ex(ctx->hash, digest, &len))
        return 0;
    return signature_sign(vctx, sig, sig_len, size, digest, len);
}

static int
signature_digest_verify_final(void *vctx, const unsigned char *sig, size_t sig_len)
{
    const struct signature *ctx = vctx;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    return ctx->hash != NULL && EVP_DigestFinal_ex(ctx->hash, digest, &len) &&
           signature_verify(vctx, sig, sig_len, digest, len);
}

/* ---- tables ---- */

#define SIGNATURE_COMMON                                                                           \
    { OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))signature_new },                                 \
            { OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))signature_free },                       \
            { OSSL_FUNC_SIGNATURE_DUPCTX, (void (*)(void))signature_dup },                         \
            { OSSL_FUNC_SIGNATURE_SIGN_INIT, (void (*)(void))signature_sign_init },                \
            { OSSL_FUNC_SIGNATURE_SIGN, (void (*)(void))signature_sign },                          \
            { OSSL_FUNC_SIGNATURE_VERIFY_INIT, (void (*)(void))signature_init },                   \
            { OSSL_FUNC_SIGNATURE_VERIFY, (void (*)(void))signature_verify },                      \
            { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))signature_digest_sign_init },  \
            { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_UPDATE, (void (*)(void))signature_digest_update },   \
            { OSSL_FUNC_SIGNATURE_DIGEST_SIGN_FINAL,                                               \
                (void (*)(void))signature_digest_sign_final },                                     \
            { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT,                                              \
                (void (*)(void))signature_digest_verify_init },                                    \
            { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_UPDATE, (void (*)(void))signature_digest_update }, \
            { OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_FINAL,                                             \
                (void (*)(void))signature_digest_verify_final },                                   \
            { OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, (void (*)(void))signature_get_params },          \
    {                                                                                              \
        OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (void (*)(void))signature_set_params                   \
    }

const OSSL_DISPATCH provider_rsa_signature[] = {
    SIGNATURE_COMMON,
    { OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))signature_gettable_rsa },
    { OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (void (*)(void))signature_settable_rsa },
    { 0, NULL },
};

const OSSL_DISPATCH provider_ecdsa_signature[] = {
    SIGNATURE_COMMON,
    { OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))signature_gettable_ecdsa },
    { OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (void (*)(void))signature_settable_ecdsa },
    { 0, NULL },
};
