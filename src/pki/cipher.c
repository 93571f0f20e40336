/* SPDX-License-Identifier: MIT */

/* Content ciphers, each out of a library context that has it. */

#include "pki_int.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/provider.h>
#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static OSSL_LIB_CTX *
        legacy; /* for single DES alone, so that nobody else gets at OpenSSL's old algorithms; never freed */
static EVP_CIPHER *des;

static void
load_legacy(void)
{
    legacy = OSSL_LIB_CTX_new();
    if (legacy != NULL && OSSL_PROVIDER_load(legacy, "default") != NULL &&
            OSSL_PROVIDER_load(legacy, "legacy") != NULL)
        des = EVP_CIPHER_fetch(legacy, "DES-CBC", NULL);
    ERR_clear_error();
}

const EVP_CIPHER *
pki_cipher_get0(int nid)
{
    if (nid != NID_des_cbc)
        return EVP_get_cipherbynid(nid);
    (void)pthread_once(&once, load_legacy);
    return des;
}

OSSL_LIB_CTX *
pki_cipher_libctx(int nid)
{
    if (nid != NID_des_cbc)
        return NULL;
    (void)pthread_once(&once, load_legacy);
    return legacy;
}
