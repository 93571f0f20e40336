/* SPDX-License-Identifier: MIT */
#ifndef PKI_SCEP_H
#define PKI_SCEP_H

/*
 * Messages of SCEP (RFC 8894 section 3), as a server, a client or an RA reads and writes them.  What is in the
 * EnvelopedData inside is pki/enveloped.h's.  Threads: any, on objects of their own.
 */

#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

#define PKI_SCEP_MESSAGE_MAX 65536
#define PKI_SCEP_TRANSACTION_MAX 128 /* bytes of a transactionID */
#define PKI_SCEP_NONCE_MAX 64
#define PKI_SCEP_NONCE_LEN 16 /* section 3.2.1.5 */

/* Section 3.2.1.2 */
enum pki_scep_type {
    PKI_SCEP_CERT_REP = 3,
    PKI_SCEP_RENEWAL_REQ = 17,
    PKI_SCEP_PKCS_REQ = 19,
    PKI_SCEP_CERT_POLL = 20,
    PKI_SCEP_GET_CERT = 21,
    PKI_SCEP_GET_CRL = 22
};

/* Section 3.2.1.3 */
enum pki_scep_status { PKI_SCEP_SUCCESS = 0, PKI_SCEP_FAILURE = 2, PKI_SCEP_PENDING = 3 };

/* Section 3.2.1.4 */
enum pki_scep_fail {
    PKI_SCEP_BAD_ALG = 0,
    PKI_SCEP_BAD_MESSAGE_CHECK = 1,
    PKI_SCEP_BAD_REQUEST = 2,
    PKI_SCEP_BAD_TIME = 3,
    PKI_SCEP_BAD_CERT_ID = 4
};

const char *pki_scep_type_name(int type);      /* "PKCSReq"; "unknown" */
const char *pki_scep_fail_name(int fail_info); /* "badAlg"; "unknown" */

/*
 * A message as it came.  Numbers are -1, and bytes are empty, where the attribute is missing or malformed; bytes and
 * certificates are borrowed from the message.
 */
struct pki_scep_message {
    X509 *signer;   /* the certificate that the SignerInfo names; nothing about it is checked */
    int digest_nid; /* of the SignerInfo; NID_undef: not known */
    int type, status, fail_info;
    struct cc_bytes transaction_id, sender_nonce, recipient_nonce;
    int transaction_tag;       /* ASN.1 type of transactionID, to be echoed */
    struct cc_bytes fail_text; /* failInfoText, UTF-8 */
    struct cc_bytes envelope;  /* pkcsPKIEnvelope; empty: absent, or of no length */
    struct pki_scep_private *private;
};

/* SignedData in BER or DER with one SignerInfo, whose certificate is in it.  pki_scep_message_free() after success. */
CC_MUST int pki_scep_read(struct cc_bytes bytes, struct pki_scep_message *ret, struct cc_err *err);
void pki_scep_message_free(struct pki_scep_message *message);

/* The signature with the signer's key, over the signed attributes as they came or in the order of DER, and the digest of
   the content.  CC_DOM_INPUT when they are not good. */
CC_MUST int pki_scep_verify(const struct pki_scep_message *message, struct cc_err *err);

/* A message to be written; everything is borrowed. */
struct pki_scep_draft {
    int type;
    int status, fail_info; /* -1: absent */
    const char *fail_text; /* NULL: none */
    struct cc_bytes transaction_id;
    int transaction_tag; /* 0: PrintableString */
    struct cc_bytes sender_nonce;
    struct cc_bytes recipient_nonce; /* empty: absent */
    struct cc_bytes envelope;        /* empty: content of no length, which every client takes */
    X509 *signer;
    EVP_PKEY *key; /* may live on a token */
    const EVP_MD *md;
};

/* DER, appended; rsaEncryption, issuer and serial number, and the signer's certificate in it. */
CC_MUST int pki_scep_write(const struct pki_scep_draft *draft, struct cc_buf *ret,
        struct cc_err *err);

/* SignedData around some content, with the usual attributes and the signer's certificate; DER, appended. */
CC_MUST int pki_signed_write(X509 *signer, EVP_PKEY *key, const EVP_MD *md, struct cc_bytes content,
        struct cc_buf *ret, struct cc_err *err);

/* Certificates in this order, and a CRL (NULL: none), without a signature (section 3.4); DER, appended. */
CC_MUST int pki_certs_only_write(X509 *const *certificates, size_t count, X509_CRL *crl,
        struct cc_buf *ret, struct cc_err *err);

/* The certificates and the first CRL (NULL: none) in such a message, BER or DER; both yours to free. */
CC_MUST int pki_certs_only_read(struct cc_bytes bytes, STACK_OF(X509) **ret_certificates,
        X509_CRL **ret_crl, struct cc_err *err);

/* IssuerAndSerialNumber (RFC 5652 section 10.2.4) of GetCert and GetCRL; both yours to free. */
CC_MUST int pki_issuer_and_serial_read(struct cc_bytes der, X509_NAME **ret_issuer,
        ASN1_INTEGER **ret_serial, struct cc_err *err);
CC_MUST int pki_issuer_and_serial_write(const X509_NAME *issuer, const ASN1_INTEGER *serial,
        struct cc_buf *ret, struct cc_err *err);

#endif
