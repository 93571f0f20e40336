/* SPDX-License-Identifier: MIT */
#ifndef PKI_ENVELOPED_H
#define PKI_ENVELOPED_H

/*
 * EnvelopedData (RFC 5652 section 6) whose key lives on a token: taken apart before the key is used, so that what is not
 * wanted never reaches it, and put together of parts that a token made.  OpenSSL's CMS_* gives neither the encrypted key
 * nor the content's cipher.  Threads: any, on objects of their own.
 */

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"
#include "pki/password.h"

#define PKI_ENVELOPED_MAX 65536

/* Codes of CC_DOM_INPUT from reading. */
enum pki_enveloped_fault {
    PKI_ENVELOPED_MALFORMED = 1,
    PKI_ENVELOPED_ALGORITHM, /* well formed, of a cipher or key transport that is not known here */
    PKI_ENVELOPED_RECIPIENT /* well formed, for somebody else, or for more than one where one is due */
};

/* One recipient by RSA key transport, content under a block cipher in CBC mode. */
struct pki_enveloped {
    bool oaep;               /* else PKCS#1 v1.5 */
    int digest_nid, mgf_nid; /* of OAEP */
    int cipher_nid;          /* NID_aes_256_cbc … */
    uint8_t iv[16];
    size_t iv_len;
    struct cc_buf encrypted_key, ciphertext;
};

/* pki_enveloped_free() in every case. */
void pki_enveloped_init(struct pki_enveloped *enveloped);
void pki_enveloped_free(struct pki_enveloped *enveloped);

/* For exactly one recipient; who that is, is not looked at.  AES and triple DES. */
CC_MUST int pki_enveloped_data_read(struct cc_bytes der, struct pki_enveloped *ret,
        struct cc_err *err);

/*
 * The same for one of these certificates, named by issuer and serial number or by its key identifier; *ret_which tells
 * which.  Other recipients beside it are passed over.  Single DES is read, too: whether it is wanted is the caller's to
 * say.
 */
CC_MUST int pki_enveloped_data_read_for(struct cc_bytes der, X509 *const *recipients, size_t count,
        size_t *ret_which, struct pki_enveloped *ret, struct cc_err *err);

/* Bytes of the content-encryption key. */
size_t pki_enveloped_key_len(const struct pki_enveloped *enveloped);

/* The content; CC_DOM_INPUT when it does not decrypt.  Takes the same time for any key, but for the last bytes. */
CC_MUST int pki_enveloped_open(const struct pki_enveloped *enveloped, struct cc_bytes key,
        struct cc_secret **ret_content, struct cc_err *err);

/*
 * The DER of an EnvelopedData whose parts were made elsewhere (on a token): one KeyTransRecipientInfo, version 0,
 * PKCS#1 v1.5, by issuer and serial number of recipient; content type id-data.
 */
CC_MUST int pki_enveloped_data_build(X509 *recipient, struct cc_bytes encrypted_key,
        enum pki_content_cipher cipher, struct cc_bytes iv, struct cc_bytes ciphertext,
        struct cc_buf *ret, struct cc_err *err);

/*
 * Encrypts for a recipient as a peer did for us (RFC 8894 section 3.1): like's cipher and key transport, by issuer and
 * serial number.  DER, appended.
 */
CC_MUST int pki_enveloped_write_like(const struct pki_enveloped *like, X509 *recipient,
        struct cc_bytes content, struct cc_buf *ret, struct cc_err *err);

#endif
