/* SPDX-License-Identifier: MIT */
#ifndef CLI_SCEP_CLIENT_H
#define CLI_SCEP_CLIENT_H

/*
 * The client's side of SCEP (RFC 8894): whom a message is encrypted for, what it holds, and whether an answer is one to
 * it.  Bytes in, bytes out: the connection is somebody else's.  Threads: any, on objects of their own.
 * What a server sent and is not good is CC_DOM_INPUT.
 */

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"
#include "pki/plan.h"
#include "pki/scep.h"

/* What a certificate of GetCACert is for; bits. */
enum scep_role { SCEP_ROLE_CA = 1, SCEP_ROLE_SIGN = 2, SCEP_ROLE_ENCRYPT = 4 };

/*
 * The answer to GetCACert: one certificate (several: false) or certificates in PKCS #7 (section 4.2.1); in their order.
 * Yours to free with sk_X509_pop_free().
 */
CC_MUST int scep_authority_read(struct cc_bytes bytes, bool several, STACK_OF(X509) **ret,
        struct cc_err *err);

/* Bits of one of them, by its extensions; a CA signs and opens messages itself only where no RA stands beside it, and
   a lone certificate does everything. */
unsigned scep_authority_roles(STACK_OF(X509) *authority, X509 *certificate);

/* The first one of a role; NULL: none.  Borrowed. */
X509 *scep_authority_find(STACK_OF(X509) *authority, enum scep_role role);

/* One of them has this SHA-256, and whoever signs or opens messages is that one or was certified below it, and is within
   its validity. */
CC_MUST int scep_authority_trust(STACK_OF(X509) *authority, const uint8_t sha256[32],
        struct cc_err *err);

/* The certificate that signs a first request (section 2.3): of the plan's subject and key usages, for a week. */
CC_MUST int scep_self_signed(const struct pki_plan *plan, EVP_PKEY *key, X509 **ret_certificate,
        struct cc_err *err);

/* A PKCS #10 of the plan's subject and extensions; challenge: NULL: none.  Appended, DER. */
CC_MUST int scep_csr(const struct pki_plan *plan, EVP_PKEY *key, const struct cc_secret *challenge,
        struct cc_buf *ret, struct cc_err *err);

/* IssuerAndSubject of a CertPoll (section 3.3.3), DER, appended. */
CC_MUST int scep_issuer_and_subject(const X509_NAME *issuer, const X509_NAME *subject,
        struct cc_buf *ret, struct cc_err *err);

/* Who asks, and how; borrowed. */
struct scep_client {
    STACK_OF(X509) *authority;
    X509 *certificate; /* signs requests with key, and answers are encrypted for it */
    EVP_PKEY *key;
    int cipher_nid; /* NID_aes_256_cbc … */
    bool oaep;      /* with SHA-1, as RFC 8894's peers have it */
    const EVP_MD *md;
};

/* What an answer is told by. */
struct scep_transaction {
    char id[33];
    uint8_t nonce[PKI_SCEP_NONCE_LEN]; /* senderNonce of the last request */
};

/* A random transactionID. */
CC_MUST int scep_transaction_begin(struct scep_transaction *ret, struct cc_err *err);

/* The pkiMessage around what a type of request holds (section 3.3), with a fresh nonce; DER, appended. */
CC_MUST int scep_client_write(const struct scep_client *client, enum pki_scep_type type,
        struct cc_bytes content, struct scep_transaction *transaction, struct cc_buf *ret,
        struct cc_err *err);

struct scep_answer {
    int status;                   /* enum pki_scep_status */
    int fail_info;                /* enum pki_scep_fail, of FAILURE */
    char fail_text[512];          /* failInfoText, escaped; "": none */
    STACK_OF(X509) *certificates; /* of SUCCESS, else NULL */
    X509_CRL *crl;                /* NULL: none */
};

/*
 * A CertRep to the last request of the transaction, signed by one of the authority's signers (section 3.3.2), opened.
 * FAILURE and PENDING are answers, too.  scep_answer_free() after success.
 */
CC_MUST int scep_client_read(const struct scep_client *client,
        const struct scep_transaction *transaction, struct cc_bytes bytes, struct scep_answer *ret,
        struct cc_err *err);
void scep_answer_free(struct scep_answer *answer);

/* The certificate of this key in a successful answer; borrowed. */
CC_MUST int scep_answer_certificate(const struct scep_answer *answer, const EVP_PKEY *key,
        X509 **ret_certificate, struct cc_err *err);

#endif
