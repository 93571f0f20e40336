/* SPDX-License-Identifier: MIT */
#ifndef PKI_CSR_H
#define PKI_CSR_H

/* Certificate requests (PKCS #10, RFC 2986).  Threads: any, on objects of their own. */

#include <openssl/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"
#include "pki/plan.h"

#define PKI_CSR_MAX 65536

/* One request and nothing behind it; DER, or one PEM block.  Yours to free with X509_REQ_free(). */
CC_MUST int pki_csr_parse(struct cc_bytes text, X509_REQ **ret_csr, struct cc_err *err);

/* The signature under its own key: proof of possession.  CC_DOM_INPUT when it is not good. */
CC_MUST int pki_csr_verify(X509_REQ *csr, struct cc_err *err);

/*
 * The challengePassword (PKCS #9, RFC 2985 section 5.4.1) in UTF-8, of whichever string type; NULL: none, or an empty
 * one.  CC_DOM_INPUT for more than one.  Yours to free.
 */
CC_MUST int pki_csr_challenge(X509_REQ *csr, struct cc_secret **ret_challenge, struct cc_err *err);

/*
 * What a request asks for, as a struct pki_ask.  Read: subject, SAN of the known types, key usage, extended key usage.
 * Ignored because we decide on them: subject and authority key identifier, basicConstraints that says no CA, and what
 * Windows and old Netscape clients add of their own; and the SID, as extension or as URI among the names, which only
 * who asks for the certificate may set.  Any other extension is refused and named; so are names of other types, and
 * more than one of an extension.  Yours to free.
 */
struct pki_csr_ask;
CC_MUST int pki_csr_read_ask(X509_REQ *csr, struct pki_csr_ask **ret_ask, struct cc_err *err);
const struct pki_ask *pki_csr_ask_get0(const struct pki_csr_ask *ask);
bool pki_csr_ask_had_sid(const struct pki_csr_ask *ask); /* and it was dropped */
/* The SID that stood as URI among the names, for who has somebody to vouch for it; NULL: none. */
const char *pki_csr_ask_sid(const struct pki_csr_ask *ask);
void pki_csr_ask_free(struct pki_csr_ask *ask); /* accepts NULL */

/* Builds and signs a request; subject: DER of a Name, extensions: DER of Extensions or empty, challenge: NULL for none,
   UTF-8.  Appended, DER. */
CC_MUST int pki_csr_build(EVP_PKEY *key, struct cc_bytes subject, struct cc_bytes extensions,
        const struct cc_secret *challenge, struct cc_buf *ret, struct cc_err *err);

#endif
