/* SPDX-License-Identifier: MIT */
#ifndef PKI_PASSWORD_H
#define PKI_PASSWORD_H

/*
 * How the password of a PFX is encrypted: on upload under the import key, on delivery for a recipient.
 * The names are those of the wire (Graph's userPFXCertificate, the connector service).
 */

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

/* paddingScheme of an upload.  "none" means the default, OAEP with SHA-512. */
enum pki_padding {
    PKI_PADDING_PKCS1,
    PKI_PADDING_OAEP_SHA1,
    PKI_PADDING_OAEP_SHA256,
    PKI_PADDING_OAEP_SHA384,
    PKI_PADDING_OAEP_SHA512
};

/* passwordEncryption of a delivery. */
enum pki_password_form {
    PKI_PASSWORD_CMS, /* RFC 5652 EnvelopedData, issuerAndSerialNumber, RSA PKCS#1 v1.5 key transport */
    PKI_PASSWORD_OAEP_SHA256,
    PKI_PASSWORD_OAEP_SHA1,
    PKI_PASSWORD_PKCS1
};

/* contentCipher of PKI_PASSWORD_CMS. */
enum pki_content_cipher { PKI_CIPHER_AES256, PKI_CIPHER_DES_EDE3 };

/* Wire name to value, ASCII case ignored for padding schemes as Graph does; -1 for another text. */
int pki_padding_parse(const char *name);
int pki_password_form_parse(const char *name);
int pki_content_cipher_parse(const char *name);

const char *pki_padding_name(enum pki_padding padding);
const char *pki_password_form_name(enum pki_password_form form);
const char *pki_content_cipher_name(enum pki_content_cipher cipher);

/* Hash of an OAEP scheme and of its MGF1: borrowed; NULL for PKCS#1 v1.5. */
const EVP_MD *pki_padding_md(enum pki_padding padding);

#define PKI_PASSWORD_MAX 1024 /* bytes of a PFX password */

/* Encrypts a password under an RSA public key, as on upload. */
CC_MUST int pki_password_encrypt_padding(EVP_PKEY *key, enum pki_padding padding,
        struct cc_bytes password, struct cc_buf *ret, struct cc_err *err);

/* Encrypts a password for a recipient, as on delivery. */
CC_MUST int pki_password_encrypt_for(X509 *recipient, enum pki_password_form form,
        enum pki_content_cipher cipher, struct cc_bytes password, struct cc_buf *ret,
        struct cc_err *err);

#endif
