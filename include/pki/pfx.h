/* SPDX-License-Identifier: MIT */
#ifndef PKI_PFX_H
#define PKI_PFX_H

/*
 * PFX files (PKCS#12, RFC 7292) of others.
 *
 * A PFX is hostile input: size, number of bags and iteration counts are capped before any work is done with it, and
 * one without a MAC is refused.  Threads: any.  The password is borrowed and never kept.  Both password encodings of
 * practice are tried: the bytes as ISO 8859-1 text (what Windows makes of them), and as UTF-8.
 */

#include <openssl/types.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "pki/cert.h"

#define PKI_PFX_MAX 262144
#define PKI_PFX_ITERATIONS_MAX 2000000 /* of all key derivations together */
#define PKI_PFX_BAGS_MAX 64

/* Codes of CC_DOM_INPUT from here. */
enum pki_pfx_fault {
    PKI_PFX_MALFORMED = 1,
    PKI_PFX_LIMIT,
    PKI_PFX_NO_MAC,
    PKI_PFX_PASSWORD,
    PKI_PFX_CERTIFICATE
};

/* Of the certificate that belongs to the private key (localKeyID), or of the only one. */
struct pki_pfx_info {
    char thumbprint[PKI_THUMBPRINT_LEN]; /* lower-case hexadecimal */
    int64_t not_before_ms, not_after_ms;
    char subject[256]; /* RFC 2253, escaped, possibly cut */
    char key_type[16]; /* "RSA-2048", "EC-P-256" … */
};

/* Verifies the MAC with the password and reads the certificate.  The private key is not decrypted. */
CC_MUST int pki_pfx_check(struct cc_bytes pfx, struct cc_bytes password,
        struct pki_pfx_info *ret_info, struct cc_err *err);

/*
 * The same, but of the certificate only the thumbprint, lower-case, of its bytes as they stand there: reading the
 * certificate costs OpenSSL more than all the rest, a good part of an RSA operation.
 */
CC_MUST int pki_pfx_check_thumbprint(struct cc_bytes pfx, struct cc_bytes password,
        char ret_hex[PKI_THUMBPRINT_LEN], struct cc_err *err);

/* pfxEncryption of the connector service. */
enum pki_pfx_encryption {
    PKI_PFX_AES256, /* PBES2, PBKDF2-HMAC-SHA-256, AES-256-CBC; MAC SHA-256 */
    PKI_PFX_COMPAT  /* pbeWithSHAAnd3-KeyTripleDES-CBC; MAC SHA-1 */
};

/* "aes256", "compat"; -1 for another text. */
int pki_pfx_encryption_parse(const char *name);

/*
 * A PFX of a key, its certificate (localKeyID links them) and the certificates above it.  password: ASCII.  chain:
 * certificates in DER, one behind the other, may be empty.  friendly_name may be NULL.  Appended.
 */
struct pki_pfx_parts {
    EVP_PKEY *key;
    struct cc_bytes certificate, chain;
    const char *friendly_name;
    enum pki_pfx_encryption encryption;
};
CC_MUST int pki_pfx_build(const struct pki_pfx_parts *parts, struct cc_bytes password,
        struct cc_buf *ret, struct cc_err *err);

#endif
