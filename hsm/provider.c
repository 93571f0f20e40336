/* SPDX-License-Identifier: MIT */
#include "hsm/provider_int.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/proverr.h>
#include <openssl/rsa.h>

/* ---- what the tables share ---- */

int
provider_fail(int reason)
{
    ERR_raise(ERR_LIB_PROV, reason);
    return 0;
}

int
provider_get_text(const OSSL_PARAM *param, char *ret, size_t size)
{
    if (!OSSL_PARAM_get_utf8_string(param, &ret, size))
        return provider_fail(PROV_R_FAILED_TO_GET_PARAMETER);
    return 1;
}

int
provider_set_md(const struct provider *provider, EVP_MD **md, const char *name)
{
    EVP_MD *found = NULL;

    if (name[0] != '\0' && (found = EVP_MD_fetch(provider->libctx, name, SOFTWARE)) == NULL)
        return provider_fail(PROV_R_INVALID_DIGEST);
    EVP_MD_free(*md);
    *md = found;
    return 1;
}

static const struct {
    int number;
    const char *name;
} paddings[] = {
    { RSA_PKCS1_PADDING, OSSL_PKEY_RSA_PAD_MODE_PKCSV15 },
    { RSA_PKCS1_PSS_PADDING, OSSL_PKEY_RSA_PAD_MODE_PSS },
    { RSA_PKCS1_OAEP_PADDING, OSSL_PKEY_RSA_PAD_MODE_OAEP },
    { RSA_NO_PADDING, OSSL_PKEY_RSA_PAD_MODE_NONE },
};

int
provider_get_padding(const OSSL_PARAM *param, int *ret)
{
    char name[16];
    int number = 0;
    const bool by_name = param->data_type == OSSL_PARAM_UTF8_STRING;

    if (by_name ? !provider_get_text(param, name, sizeof(name))
                : !OSSL_PARAM_get_int(param, &number))
        return 0;
    for (size_t i = 0; i < CC_COUNT(paddings); i++)
        if (by_name ? strcmp(paddings[i].name, name) == 0 : paddings[i].number == number) {
            *ret = paddings[i].number;
            return 1;
        }
    return provider_fail(PROV_R_ILLEGAL_OR_UNSUPPORTED_PADDING_MODE);
}

int
provider_put_padding(OSSL_PARAM *param, int padding)
{
    if (param->data_type != OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_set_int(param, padding);
    for (size_t i = 0; i < CC_COUNT(paddings); i++)
        if (paddings[i].number == padding)
            return OSSL_PARAM_set_utf8_string(param, paddings[i].name);
    return 0;
}

/* ---- the provider itself ---- */

#define RSA_NAMES "RSA:rsaEncryption:1.2.840.113549.1.1.1"
#define EC_NAMES "EC:id-ecPublicKey:1.2.840.10045.2.1"

static const OSSL_ALGORITHM keymgmts[] = {
    { RSA_NAMES, HSM_PROVIDER_QUERY, provider_rsa_keymgmt, "RSA keys on the token" },
    { EC_NAMES, HSM_PROVIDER_QUERY, provider_ec_keymgmt, "EC keys on the token" },
    { NULL, NULL, NULL, NULL },
};

static const OSSL_ALGORITHM signatures[] = {
    { RSA_NAMES, HSM_PROVIDER_QUERY, provider_rsa_signature, "RSA signatures by the token" },
    { "ECDSA", HSM_PROVIDER_QUERY, provider_ecdsa_signature, "ECDSA by the token" },
    { NULL, NULL, NULL, NULL },
};

static const OSSL_ALGORITHM ciphers[] = {
    { RSA_NAMES, HSM_PROVIDER_QUERY, provider_rsa_cipher, "RSA decryption by the token" },
    { NULL, NULL, NULL, NULL },
};

static const OSSL_ALGORITHM *
provider_query(void *provctx, int operation, int *ret_no_cache)
{
    (void)provctx;
    *ret_no_cache = 0;
    switch (operation) {
    case OSSL_OP_KEYMGMT:
        return keymgmts;
    case OSSL_OP_SIGNATURE:
        return signatures;
    case OSSL_OP_ASYM_CIPHER:
        return ciphers;
    default:
        return NULL;
    }
}

static void
provider_teardown(void *provctx)
{
    free(provctx);
}

static const OSSL_DISPATCH provider_table[] = {
    { OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))provider_query },
    { OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))provider_teardown },
    { 0, NULL },
};

/*
 * The core context of a provider inside the program is the library context that it was loaded into (provider-base(7),
 * core_get_libctx).
 */
static int
provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
        void **provctx)
{
    OSSL_FUNC_core_get_libctx_fn *get_libctx = NULL;
    struct provider *provider;

    for (; in->function_id != 0; in++)
        if (in->function_id == OSSL_FUNC_CORE_GET_LIBCTX)
            get_libctx = OSSL_FUNC_core_get_libctx(in);
    if (get_libctx == NULL || (provider = calloc(1, sizeof(*provider))) == NULL)
        return 0;
    provider->libctx = (OSSL_LIB_CTX *)get_libctx(handle);
    *out = provider_table;
    *provctx = provider;
    return 1;
}

/* ---- for the client ---- */

/*
 * The default provider first: where somebody asks for "RSA" and nothing more, OpenSSL takes the provider that was
 * loaded first, and ours must not be it.  Asking for one of its algorithms makes OpenSSL load it by itself, so that it
 * stays when we are gone; only in a library context with providers of the caller's choice do we have to load it.
 */
static int
load_default(struct hsm *hsm, struct cc_err *err)
{
    EVP_MD *probe = EVP_MD_fetch(hsm->libctx, "SHA256", SOFTWARE);

    if (probe != NULL) {
        EVP_MD_free(probe);
        return 0;
    }
    ERR_clear_error();
    if ((hsm->default_provider = OSSL_PROVIDER_load(hsm->libctx, "default")) == NULL)
        return cc_err_set_openssl(err, "load OpenSSL's default provider");
    return 0;
}

int
hsm_provider_load(struct hsm *hsm, struct cc_err *err)
{
    ERR_clear_error();
    if (load_default(hsm, err) != 0)
        return -1;
    if (!OSSL_PROVIDER_add_builtin(hsm->libctx, HSM_PROVIDER_NAME, provider_init) ||
            (hsm->provider = OSSL_PROVIDER_try_load(hsm->libctx, HSM_PROVIDER_NAME, 1)) == NULL)
        return cc_err_set_openssl(err, "load our OpenSSL provider");
    return 0;
}

void
hsm_provider_unload(struct hsm *hsm)
{
    if (hsm->provider != NULL)
        (void)OSSL_PROVIDER_unload(hsm->provider);
    if (hsm->default_provider != NULL)
        (void)OSSL_PROVIDER_unload(hsm->default_provider);
}

int
hsm_provider_key(OSSL_LIB_CTX *libctx, struct hsm_key *key, EVP_PKEY *public_key,
        EVP_PKEY **ret_pkey, struct cc_err *err)
{
    const char *name = EVP_PKEY_is_a(public_key, "EC") ? "EC" : "RSA";
    struct provider_key handed = { .token = key, .public = public_key };
    void *pointer = &handed;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_ptr(PROVIDER_PARAM_KEY, &pointer, sizeof(handed)),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *ctx;
    EVP_PKEY *pkey = NULL;
    int rc = -1;

    ERR_clear_error();
    ctx = EVP_PKEY_CTX_new_from_name(libctx, name, HSM_PROVIDER_QUERY);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) <= 0 ||
            EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_KEYPAIR, params) <= 0) {
        cc_err_set_openssl(err, "offer the key to OpenSSL");
        goto out;
    }
    *ret_pkey = pkey;
    rc = 0;
out:
    EVP_PKEY_CTX_free(ctx);
    return rc;
}
