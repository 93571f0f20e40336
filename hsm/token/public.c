/* SPDX-License-Identifier: MIT */
#include "hsm/token/public.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include "hsm/token/attr.h"
#include "hsm/token/ckr.h"
#include "pki/pubkey.h"

/* A key on the token, and where its parts may come from. */
struct key_look {
    CK_FUNCTION_LIST *f;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE object;
    CK_OBJECT_HANDLE public; /* 0: none, or not to be told from another */
};

/* From the object itself or, failing that, from the public one. */
static CK_RV
look_read(const struct key_look *look, CK_ATTRIBUTE_TYPE type, struct cc_buf *ret)
{
    CK_RV rv = p11_attr_read(look->f, look->session, look->object, type, ret);

    if (rv == CKR_OK || look->public == 0 || ckr_class(rv) != CKR_IS_ANSWER)
        return rv;
    return p11_attr_read(look->f, look->session, look->public, type, ret);
}

static CK_RV
look_find_public(struct key_look *look, CK_KEY_TYPE type, struct cc_bytes id)
{
    const CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_ATTRIBUTE template[] = {
        p11_attr(CKA_CLASS, &class, sizeof(class)),
        p11_attr(CKA_KEY_TYPE, &type, sizeof(type)),
        p11_attr(CKA_ID, id.data, id.len),
    };
    CK_OBJECT_HANDLE handles[2];
    CK_ULONG count;
    CK_RV rv;

    if (id.len == 0)
        return CKR_OK;
    rv = p11_find(look->f, look->session, template, CC_COUNT(template), handles, 2, &count);
    if (rv == CKR_OK && count == 1)
        look->public = handles[0];
    return rv;
}

static EVP_PKEY *
key_from_params(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *pkey = NULL;

    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
            EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *
key_make_rsa(const struct cc_buf *modulus, const struct cc_buf *exponent)
{
    BIGNUM *n = BN_bin2bn(modulus->data, (int)modulus->len, NULL);
    BIGNUM *e = BN_bin2bn(exponent->data, (int)exponent->len, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (n != NULL && e != NULL && build != NULL &&
            OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
            OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1 &&
            (params = OSSL_PARAM_BLD_to_param(build)) != NULL)
        pkey = key_from_params("RSA", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(e);
    BN_free(n);
    return pkey;
}

int
p11_public_curve(struct cc_bytes params)
{
    const unsigned char *p = params.data;
    ASN1_OBJECT *oid = d2i_ASN1_OBJECT(NULL, &p, (long)params.len);
    const int nid = oid == NULL ? NID_undef : OBJ_obj2nid(oid);

    ASN1_OBJECT_free(oid);
    return nid;
}

static EVP_PKEY *
key_make_ec_point(int nid, const uint8_t *point, size_t len)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (build != NULL &&
            OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, OBJ_nid2sn(nid),
                    0) == 1 &&
            OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, len) == 1 &&
            (params = OSSL_PARAM_BLD_to_param(build)) != NULL)
        pkey = key_from_params("EC", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    return pkey;
}

/* CKA_EC_POINT is a DER OCTET STRING; some tokens give the bare point. */
static EVP_PKEY *
key_make_ec(const struct cc_buf *params, const struct cc_buf *point)
{
    const unsigned char *p = point->data;
    ASN1_OCTET_STRING *octets = d2i_ASN1_OCTET_STRING(NULL, &p, (long)point->len);
    const int nid = p11_public_curve(cc_buf_bytes(params));
    EVP_PKEY *pkey = NULL;

    if (nid != NID_undef && octets != NULL && p == point->data + point->len)
        pkey = key_make_ec_point(nid, ASN1_STRING_get0_data(octets),
                (size_t)ASN1_STRING_length(octets));
    if (nid != NID_undef && pkey == NULL)
        pkey = key_make_ec_point(nid, point->data, point->len);
    ASN1_OCTET_STRING_free(octets);
    return pkey;
}

/* The two parts of a public key, or CKR_ATTRIBUTE_TYPE_INVALID. */
static CK_RV
look_read_two(const struct key_look *look, CK_ATTRIBUTE_TYPE first, struct cc_buf *ret_first,
        CK_ATTRIBUTE_TYPE second, struct cc_buf *ret_second)
{
    const CK_RV rv = look_read(look, first, ret_first);

    return rv != CKR_OK ? rv : look_read(look, second, ret_second);
}

/* *ret stays NULL where the token does not say. */
static CK_RV
look_read_parts(const struct key_look *look, CK_KEY_TYPE type, EVP_PKEY **ret)
{
    struct cc_buf first = CC_BUF_INIT(P11_ATTR_MAX), second = CC_BUF_INIT(P11_ATTR_MAX);
    CK_RV rv;

    if (type == CKK_RSA) {
        rv = look_read_two(look, CKA_MODULUS, &first, CKA_PUBLIC_EXPONENT, &second);
        if (rv == CKR_OK)
            *ret = key_make_rsa(&first, &second);
    } else {
        rv = look_read_two(look, CKA_EC_PARAMS, &first, CKA_EC_POINT, &second);
        if (rv == CKR_OK)
            *ret = key_make_ec(&first, &second);
    }
    cc_buf_free(&second);
    cc_buf_free(&first);
    return rv;
}

static CK_RV
look_read_info(const struct key_look *look, EVP_PKEY **ret)
{
    struct cc_buf info = CC_BUF_INIT(P11_ATTR_MAX);
    const CK_RV rv =
            p11_attr_read(look->f, look->session, look->object, CKA_PUBLIC_KEY_INFO, &info);

    if (rv == CKR_OK && pki_pubkey_parse_spki(cc_buf_bytes(&info), ret, NULL) != 0)
        *ret = NULL;
    cc_buf_free(&info);
    return rv;
}

CK_RV
p11_public_read(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
        CK_KEY_TYPE type, struct cc_bytes id, EVP_PKEY **ret, struct cc_err *err)
{
    struct key_look look = { .f = f, .session = session, .object = object };
    CK_RV rv;

    *ret = NULL;
    if ((rv = look_find_public(&look, type, id)) != CKR_OK) {
        ckr_err(err, rv, "search of the public key");
        return rv;
    }
    rv = look_read_parts(&look, type, ret);
    if (*ret == NULL && ckr_class(rv) == CKR_IS_ANSWER)
        rv = look_read_info(&look, ret);
    if (*ret == NULL && ckr_class(rv) != CKR_IS_ANSWER)
        ckr_err(err, rv, "public key");
    return *ret != NULL || ckr_class(rv) == CKR_IS_ANSWER ? CKR_OK : rv;
}
