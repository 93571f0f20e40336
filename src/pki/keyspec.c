/* SPDX-License-Identifier: MIT */
#include "pki/keyspec.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned bits;     /* of RSA */
    const char *group; /* of EC */
} specs[PKI_KEYSPECS] = {
    [PKI_RSA2048] = { "rsa2048", 2048, NULL },
    [PKI_RSA3072] = { "rsa3072", 3072, NULL },
    [PKI_RSA4096] = { "rsa4096", 4096, NULL },
    [PKI_EC_P256] = { "ecP256", 0, "prime256v1" },
    [PKI_EC_P384] = { "ecP384", 0, "secp384r1" },
};

int
pki_keyspec_parse(const char *name)
{
    for (int i = 0; i < PKI_KEYSPECS; i++)
        if (strcmp(specs[i].name, name) == 0)
            return i;
    return -1;
}

const char *
pki_keyspec_name(enum pki_keyspec spec)
{
    return specs[spec].name;
}

static int
rsa_spec(int bits)
{
    if (bits < 2048 || bits > 8192)
        return -1;
    if (bits >= 4096)
        return PKI_RSA4096;
    return bits >= 3072 ? PKI_RSA3072 : PKI_RSA2048;
}

int
pki_keyspec_of(const EVP_PKEY *key)
{
    char group[64];
    size_t len = 0;

    if (EVP_PKEY_is_a(key, "RSA"))
        return rsa_spec(EVP_PKEY_get_bits(key));
    if (!EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, group, sizeof(group), &len) != 1)
        return -1;
    if (strcmp(group, specs[PKI_EC_P256].group) == 0)
        return PKI_EC_P256;
    return strcmp(group, specs[PKI_EC_P384].group) == 0 ? PKI_EC_P384 : -1;
}

int
pki_key_generate(enum pki_keyspec spec, EVP_PKEY **ret_key, struct cc_err *err)
{
    EVP_PKEY *key;

    ERR_clear_error();
    if (specs[spec].group != NULL)
        key = EVP_EC_gen(specs[spec].group);
    else
        key = EVP_RSA_gen(specs[spec].bits);
    if (key == NULL)
        return cc_err_set_openssl(err, "generating a key pair %s", specs[spec].name);
    *ret_key = key;
    return 0;
}
