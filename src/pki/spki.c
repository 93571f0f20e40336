/* SPDX-License-Identifier: MIT */

/*
 * SubjectPublicKeyInfo of a key.  X509_PUBKEY_set() and i2d_PUBKEY() look for an encoder among all that OpenSSL has, and
 * then for a decoder to read the result again, which costs about as much as a private-key operation.  For RSA, which is
 * what devices have, it is put together here; the bytes are the same.
 */

#include <openssl/asn1t.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>

#include "pki_int.h"

/* RFC 8017 appendix A.1.1 */
typedef struct {
    BIGNUM *modulus;
    BIGNUM *public_exponent;
} RSA_PUBLIC;

ASN1_SEQUENCE(RSA_PUBLIC) = {
    ASN1_SIMPLE(RSA_PUBLIC, modulus, BIGNUM),
    ASN1_SIMPLE(RSA_PUBLIC, public_exponent, BIGNUM),
} static_ASN1_SEQUENCE_END(RSA_PUBLIC)

static int
set_rsa(X509_PUBKEY *info, const EVP_PKEY *key)
{
    RSA_PUBLIC public = { .modulus = NULL };
    unsigned char *der = NULL;
    int len, ok = 0;

    if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &public.modulus) == 1 &&
            EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &public.public_exponent) == 1 &&
            (len = ASN1_item_i2d((const ASN1_VALUE *)&public, &der, ASN1_ITEM_rptr(RSA_PUBLIC))) >
                    0)
        ok = X509_PUBKEY_set0_param(info, OBJ_nid2obj(NID_rsaEncryption), V_ASN1_NULL, NULL, der,
                len);
    if (!ok)
        OPENSSL_free(der);
    BN_free(public.modulus);
    BN_free(public.public_exponent);
    return ok;
}

int
pki_spki_set(X509 *cert, EVP_PKEY *key)
{
    if (EVP_PKEY_is_a(key, "RSA"))
        return set_rsa(X509_get_X509_PUBKEY(cert), key);
    return X509_set_pubkey(cert, key);
}

X509_PUBKEY *
pki_spki_new(const EVP_PKEY *key)
{
    X509_PUBKEY *info = NULL;

    if (!EVP_PKEY_is_a(key, "RSA")) {
        (void)X509_PUBKEY_set(&info, (EVP_PKEY *)(uintptr_t)key);
        return info;
    }
    if ((info = X509_PUBKEY_new()) != NULL && set_rsa(info, key))
        return info;
    X509_PUBKEY_free(info);
    return NULL;
}
