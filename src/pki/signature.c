/* SPDX-License-Identifier: MIT */
#include <openssl/evp.h>

#include "pki_int.h"

/* A digest is to be as strong as the key (RFC 5480 section 4). */
const EVP_MD *
pki_signature_md(const EVP_PKEY *key)
{
    if (EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_bits(key) >= 384)
        return EVP_sha384();
    return EVP_sha256();
}
