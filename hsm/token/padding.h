/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_PADDING_H
#define HSM_TOKEN_PADDING_H

/*
 * RSA paddings outside the token (RFC 8017), for tokens that offer the bare operation but not the hash, and the hashes
 * as PKCS#11 names them.  Any thread.  What decoding gives is secret.
 */

#include <openssl/types.h>
#include <p11-kit/pkcs11.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"

#define P11_HASHES 5
#define P11_RSA_MAX 2048 /* bytes of a modulus */

struct p11_hash {
    int nid;
    const char *name;
    CK_MECHANISM_TYPE mechanism;
    CK_RSA_PKCS_MGF_TYPE mgf;
    const EVP_MD *(*md)(void);
};

/* Of an OpenSSL nid: 0 … P11_HASHES - 1, or -1. */
int p11_hash_index(int nid);
const struct p11_hash *p11_hash(int index);

/* EMSA-PSS-ENCODE (section 9.1.1) of a digest into block, for a modulus of bits. */
CC_MUST int padding_pss_encode(const struct p11_hash *hash, const struct p11_hash *mgf,
        struct cc_bytes digest, size_t salt_len, size_t bits, uint8_t *ret_block, size_t len,
        struct cc_err *err);

/*
 * EME-OAEP decoding (section 7.1.2 step 3), in time that depends only on the lengths of block and label until the
 * verdict.  block is len bytes, the modulus' length, and is overwritten.  -1 with HSM_FAULT_DECRYPT, whatever is wrong.
 */
CC_MUST int padding_oaep_decode(const struct p11_hash *hash, const struct p11_hash *mgf,
        struct cc_bytes label, uint8_t *block, size_t len, struct cc_secret **ret_message,
        struct cc_err *err);

/*
 * Content-encryption keys, whose length is known: ret_key, len bytes, becomes the key where the block holds one of just that
 * length behind a good padding, and else stays what it was.  Which of the two, and why, shows neither in a result nor in
 * the time, which depends on the lengths, the hashes and the label (there is none) alone.
 */

/* EME-PKCS1-v1_5 (section 7.2.2 step 3). */
void padding_pkcs1_take_key(const uint8_t *block, size_t block_len, uint8_t *ret_key, size_t len);

/* EME-OAEP without a label; block is overwritten.  -1 only where hashing itself fails. */
CC_MUST int padding_oaep_take_key(const struct p11_hash *hash, const struct p11_hash *mgf,
        uint8_t *block, size_t block_len, uint8_t *ret_key, size_t len, struct cc_err *err);

/* What a token has unpadded itself: found_len bytes, secret like the rest, in a buffer of size. */
void padding_take_key(const uint8_t *found, size_t size, size_t found_len, uint8_t *ret_key,
        size_t len);

/* A number whose leading zeroes were left out, secret how many: moved to the end of its len bytes. */
void padding_align(uint8_t *block, size_t len, size_t number_len);

/* DigestInfo, DER (section 9.2 step 2); appended. */
CC_MUST int padding_digest_info(int nid, struct cc_bytes digest, struct cc_buf *ret,
        struct cc_err *err);

#endif
