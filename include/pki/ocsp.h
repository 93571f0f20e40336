/* SPDX-License-Identifier: MIT */
#ifndef PKI_OCSP_H
#define PKI_OCSP_H

/*
 * OCSP requests of others and answers to them (RFC 6960), one certificate status at a time.  Threads: any, on objects
 * of their own.
 */

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "pki/crl.h"
#include "pki/plan.h"

#define PKI_OCSP_REQUEST_MAX 16384
#define PKI_OCSP_CERTS_MAX 32  /* asked for in one request */
#define PKI_OCSP_NONCE_MAX 128 /* bytes; RFC 8954 allows 32 */

struct pki_ocsp_request;

/* Yours to free.  CC_DOM_INPUT for what is not a request within the limits. */
CC_MUST int pki_ocsp_request_parse(struct cc_bytes der, struct pki_ocsp_request **ret_request,
        struct cc_err *err);
void pki_ocsp_request_free(struct pki_ocsp_request *request); /* accepts NULL */

size_t pki_ocsp_request_count(const struct pki_ocsp_request *request);
bool pki_ocsp_request_has_nonce(const struct pki_ocsp_request *request);

/* The DER of the CertID of one, borrowed: what a cached answer is found by. */
struct cc_bytes pki_ocsp_request_certid(const struct pki_ocsp_request *request, size_t i);

/* Whether it asks about a certificate of this issuer (any hash that OpenSSL knows); its serial as INTEGER bytes. */
bool pki_ocsp_request_is_for(const struct pki_ocsp_request *request, size_t i, X509 *issuer);
CC_MUST int pki_ocsp_request_serial(const struct pki_ocsp_request *request, size_t i,
        struct cc_buf *ret_serial, struct cc_err *err);

enum pki_ocsp_status { PKI_OCSP_GOOD, PKI_OCSP_REVOKED, PKI_OCSP_UNKNOWN };

struct pki_ocsp_single {
    enum pki_ocsp_status status;
    int64_t revoked_ms; /* of a revoked one */
    enum pki_reason reason;
};

struct pki_ocsp_settings {
    X509 *signer; /* certificate of the delegated signer, sent along */
    EVP_PKEY *key;
    const EVP_MD *md; /* NULL: by the key */
    int64_t this_update_ms, next_update_ms;
};

/* A signed BasicOCSPResponse, with the request's nonce when it has one; singles: one for each asked.  DER, appended. */
CC_MUST int pki_ocsp_respond(const struct pki_ocsp_request *request,
        const struct pki_ocsp_single *singles, const struct pki_ocsp_settings *settings,
        struct cc_buf *ret_der, struct cc_err *err);

/* An unsigned one that only says why not: enum of RFC 6960 section 4.2.1. */
enum pki_ocsp_refusal {
    PKI_OCSP_MALFORMED = 1,
    PKI_OCSP_INTERNAL_ERROR = 2,
    PKI_OCSP_TRY_LATER = 3,
    PKI_OCSP_UNAUTHORIZED = 6
};
CC_MUST int pki_ocsp_refuse(enum pki_ocsp_refusal refusal, struct cc_buf *ret_der,
        struct cc_err *err);

#endif
