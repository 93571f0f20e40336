/* SPDX-License-Identifier: MIT */
#ifndef HSM_PROVIDER_INT_H
#define HSM_PROVIDER_INT_H

/*
 * Our provider inside OpenSSL: keys whose private half is on the token.
 *
 * Everything that needs the public half alone (parameters, comparison, verification, encryption) is left to a
 * software key of the default provider.  Objects here live as OpenSSL's reference counts say; a struct hsm_key is
 * borrowed.  The functions in the tables are called by OpenSSL and follow its rules: 1 for success, 0 for failure
 * with an entry on the error queue.
 */

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/types.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "hsm/hsm_int.h"

#define SOFTWARE "provider=default"

struct provider {
    OSSL_LIB_CTX *libctx; /* that the provider was loaded into */
};

/* A key of ours. Never changes once it is made, so that duplicating is counting. */
struct provider_key {
    atomic_int refs;
    const struct provider *provider;
    bool ec;
    struct hsm_key *token; /* NULL: only a public key */
    EVP_PKEY *public;
};

struct provider_key *provider_key_ref(struct provider_key *key);
void provider_key_unref(struct provider_key *key);

/* Replaces *md by the digest of this name, or clears it for "". */
int provider_set_md(const struct provider *provider, EVP_MD **md, const char *name);

/* Text of a parameter into an array. */
int provider_get_text(const OSSL_PARAM *param, char *ret, size_t size);

/* RSA padding modes by number or by name, both are in use. */
int provider_get_padding(const OSSL_PARAM *param, int *ret);
int provider_put_padding(OSSL_PARAM *param, int padding);

int provider_fail(int reason); /* raises reason of ERR_LIB_PROV; 0 */

extern const OSSL_DISPATCH provider_rsa_keymgmt[], provider_ec_keymgmt[];
extern const OSSL_DISPATCH provider_rsa_signature[], provider_ecdsa_signature[];
extern const OSSL_DISPATCH provider_rsa_cipher[];

/* How hsm_provider_key() hands a key in: the one parameter that only our import understands. */
#define PROVIDER_PARAM_KEY "certconnector-key"

#endif
