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

/*
 * The DER of an EnvelopedData whose parts were made elsewhere (on a token): one KeyTransRecipientInfo, version 0,
 * PKCS#1 v1.5, by issuer and serial number of recipient; content type id-data.
 */
CC_MUST int pki_enveloped_data_build(X509 *recipient, struct cc_bytes encrypted_key,
        enum pki_content_cipher cipher, struct cc_bytes iv, struct cc_bytes ciphertext,
        struct cc_buf *ret, struct cc_err *err);

/*
 * The parts of an EnvelopedData for one recipient by RSA key transport, to be decrypted elsewhere (on a token): the
 * reverse.  OpenSSL's CMS_* gives neither the encrypted key nor the content's parameters.  Who the recipient is, is not
 * looked at.  Content: AES-CBC or triple DES.
 */
#define PKI_ENVELOPED_MAX 65536

struct pki_enveloped {
    bool oaep; /* else PKCS#1 v1.5 */
    int digest_nid, mgf_nid;
    const EVP_CIPHER *cipher; /* borrowed from OpenSSL */
    uint8_t iv[16];
    size_t iv_len;
    struct cc_buf encrypted_key, ciphertext;
};

/* pki_enveloped_free() in every case. */
void pki_enveloped_init(struct pki_enveloped *enveloped);
CC_MUST int pki_enveloped_data_read(struct cc_bytes der, struct pki_enveloped *ret,
        struct cc_err *err);
void pki_enveloped_free(struct pki_enveloped *enveloped);

#endif
