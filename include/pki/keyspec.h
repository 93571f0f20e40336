/* SPDX-License-Identifier: MIT */
#ifndef PKI_KEYSPEC_H
#define PKI_KEYSPEC_H

/* Kinds of key pairs, and whether a public key is fit to be certified.  Any thread. */

#include <openssl/types.h>

#include "base/compiler.h"
#include "base/err.h"

enum pki_keyspec { PKI_RSA2048, PKI_RSA3072, PKI_RSA4096, PKI_EC_P256, PKI_EC_P384, PKI_KEYSPECS };

/* "rsa2048", "rsa3072", "rsa4096", "ecP256", "ecP384"; -1 for another text. */
int pki_keyspec_parse(const char *name);
const char *pki_keyspec_name(enum pki_keyspec spec);

/* The kind of a key, -1 when it is none of these (RSA: the size in whole; 2048 to 8192 bits count as the next lower). */
int pki_keyspec_of(const EVP_PKEY *key);

/*
 * A fresh key pair in this process's memory; yours to free.  For the token process; random bytes come from OpenSSL.
 */
CC_MUST int pki_key_generate(enum pki_keyspec spec, EVP_PKEY **ret_key, struct cc_err *err);

/*
 * Refuses, with the reason (CC_DOM_INPUT): RSA below 2048 or above 8192 bits, a public exponent that is even or below
 * 65537 or above 2^256, a modulus that is even, has small prime factors, has factors close together (Fermat), or comes
 * from a known weak generator (ROCA, CVE-2017-15361); curves other than P-256 and P-384, points not on the curve; any
 * other kind of key.
 * allowed: bits 1 << enum pki_keyspec.
 */
CC_MUST int pki_key_check(EVP_PKEY *key, unsigned allowed, struct cc_err *err);

#endif
