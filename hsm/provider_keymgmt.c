/* SPDX-License-Identifier: MIT */
#include "hsm/provider_int.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/proverr.h>

struct provider_key *
provider_key_ref(struct provider_key *key)
{
    (void)atomic_fetch_add(&key->refs, 1);
    return key;
}

void
provider_key_unref(struct provider_key *key)
{
    if (key == NULL || atomic_fetch_sub(&key->refs, 1) != 1)
        return;
    EVP_PKEY_free(key->public);
    free(key);
}

static void *
keymgmt_new(void *provctx, bool ec)
{
    struct provider_key *key = calloc(1, sizeof(*key));

    if (key == NULL) {
        ERR_raise(ERR_LIB_PROV, ERR_R_MALLOC_FAILURE);
        return NULL;
    }
    atomic_init(&key->refs, 1);
    key->provider = provctx;
    key->ec = ec;
    return key;
}

static void *
keymgmt_new_rsa(void *provctx)
{
    return keymgmt_new(provctx, false);
}

static void *
keymgmt_new_ec(void *provctx)
{
    return keymgmt_new(provctx, true);
}

static void
keymgmt_free(void *keydata)
{
    provider_key_unref(keydata);
}

/* Keys do not change, and what refers to the token may be shared. */
static void *
keymgmt_dup(const void *keydata, int selection)
{
    union {
        const void *in;
        struct provider_key *out;
    } key = { .in = keydata }; /* its count is all that changes */

    (void)selection;
    return provider_key_ref(key.out);
}

static int
keymgmt_has(const void *keydata, int selection)
{
    const struct provider_key *key = keydata;

    if (key == NULL || key->public == NULL)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && key->token == NULL)
        return 0;
    return 1;
}

/* Equal public halves mean equal keys; that both have a private half is not asked here. */
static int
keymgmt_match(const void *keydata1, const void *keydata2, int selection)
{
    const struct provider_key *a = keydata1, *b = keydata2;

    if (a->public == NULL || b->public == NULL)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0)
        return EVP_PKEY_eq(a->public, b->public) == 1;
    return EVP_PKEY_parameters_eq(a->public, b->public) == 1;
}

/* The default digest is ours to say; all else is what the software key says. */
static int
keymgmt_get_params(void *keydata, OSSL_PARAM params[])
{
    const struct provider_key *key = keydata;

    if (key->public == NULL)
        return 0;
    for (OSSL_PARAM *p = params; p->key != NULL; p++) {
        OSSL_PARAM one[2] = { *p, OSSL_PARAM_construct_end() };

        if (strcmp(p->key, OSSL_PKEY_PARAM_DEFAULT_DIGEST) == 0) {
            if (!OSSL_PARAM_set_utf8_string(p, "SHA256"))
                return 0;
            continue;
        }
        one[0].return_size = OSSL_PARAM_UNMODIFIED;
        if (EVP_PKEY_get_params(key->public, one))
            p->return_size = one[0].return_size;
    }
    return 1;
}

static const OSSL_PARAM *
keymgmt_gettable_rsa(void *provctx)
{
    static const OSSL_PARAM table[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)provctx;
    return table;
}

static const OSSL_PARAM *
keymgmt_gettable_ec(void *provctx)
{
    static const OSSL_PARAM table[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_X, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_Y, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)provctx;
    return table;
}

/* A public key that another provider exports to us, so that OpenSSL can compare it with one of ours. */
static int
import_public(struct provider_key *key, const OSSL_PARAM params[])
{
    OSSL_PARAM *copy = OSSL_PARAM_dup(params);
    EVP_PKEY_CTX *ctx =
            EVP_PKEY_CTX_new_from_name(key->provider->libctx, key->ec ? "EC" : "RSA", SOFTWARE);
    int ok;

    ok = copy != NULL && ctx != NULL && EVP_PKEY_fromdata_init(ctx) > 0 &&
         EVP_PKEY_fromdata(ctx, &key->public, EVP_PKEY_PUBLIC_KEY, copy) > 0;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(copy);
    return ok;
}

static int
keymgmt_import(void *keydata, int selection, const OSSL_PARAM params[])
{
    struct provider_key *key = keydata;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, PROVIDER_PARAM_KEY);
    const struct provider_key *handed = NULL;
    const void *pointer = NULL;
    size_t size = 0;

    if (key->public != NULL)
        return 0;
    if (p == NULL)
        return (selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) != 0 && import_public(key, params);
    if (!OSSL_PARAM_get_octet_ptr(p, &pointer, &size) || size != sizeof(*handed))
        return 0;
    handed = pointer;
    if (!EVP_PKEY_up_ref(handed->public))
        return 0;
    key->public = handed->public;
    key->token = handed->token;
    return 1;
}

/*
 * The public half only, and only to who asks for no more: OpenSSL first tries to export a key to the provider whose
 * algorithm it found first, and would go on there with what it got.
 */
static int
keymgmt_export(void *keydata, int selection, OSSL_CALLBACK *callback, void *arg)
{
    const struct provider_key *key = keydata;
    OSSL_PARAM *params = NULL;
    int ok;

    if (key->public == NULL ||
            (key->token != NULL && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0))
        return 0;
    if (EVP_PKEY_todata(key->public, EVP_PKEY_PUBLIC_KEY, &params) <= 0)
        return 0;
    ok = callback(params, arg);
    OSSL_PARAM_free(params);
    return ok;
}

static const OSSL_PARAM *
keymgmt_import_types(int selection)
{
    static const OSSL_PARAM table[] = {
        { PROVIDER_PARAM_KEY, OSSL_PARAM_OCTET_PTR, NULL, 0, 0 },
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)selection;
    return table;
}

static const OSSL_PARAM *
keymgmt_export_types(int selection)
{
    return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 ? NULL
                                                              : keymgmt_import_types(selection) + 1;
}

static const char *
keymgmt_operation_ec(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

#define KEYMGMT_COMMON                                                                             \
    { OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))keymgmt_free },                                      \
            { OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))keymgmt_dup },                                \
            { OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))keymgmt_has },                                \
            { OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))keymgmt_match },                            \
            { OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))keymgmt_get_params },                  \
            { OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))keymgmt_import },                          \
            { OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))keymgmt_import_types },              \
            { OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))keymgmt_export },                          \
    {                                                                                              \
        OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))keymgmt_export_types                       \
    }

const OSSL_DISPATCH provider_rsa_keymgmt[] = {
    { OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))keymgmt_new_rsa },
    { OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))keymgmt_gettable_rsa },
    KEYMGMT_COMMON,
    { 0, NULL },
};

const OSSL_DISPATCH provider_ec_keymgmt[] = {
    { OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))keymgmt_new_ec },
    { OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))keymgmt_gettable_ec },
    { OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))keymgmt_operation_ec },
    KEYMGMT_COMMON,
    { 0, NULL },
};
