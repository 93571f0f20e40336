/* SPDX-License-Identifier: MIT */
#ifndef CA_CA_H
#define CA_CA_H

/*
 * Certification authorities, whatever their kind.
 *
 * A struct ca is one authority behind its driver.  Whoever asks for a certificate names its own request id, which goes
 * with the request wherever the authority can keep it; after a crash, ca_find() tells what became of it before
 * anything is sent again.  Whatever an authority answers, the certificate is compared with the plan (pki/plan.h) before
 * the caller gets it: one that is not what was asked for is revoked at once where that can be done, and refused.
 *
 * Serial numbers travel as INTEGER bytes, big-endian without sign octet; each driver prints its own form.
 *
 * Threads: any, all calls.  A call blocks until the deadline that it is given (cc_clock_mono_ms).
 */

#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/histogram.h"
#include "pki/crl.h"
#include "pki/plan.h"

struct ca;

void ca_close(struct ca *ca); /* no call may be under way; accepts NULL */

/* The name in the configuration, and its kind ("local"). */
const char *ca_name(const struct ca *ca);
const char *ca_kind(const struct ca *ca);

/* What an authority can do.  What it cannot is answered with CA_REFUSED by the calls below. */
enum ca_capability {
    CA_CAN_REVOKE = 1 << 0,
    CA_CAN_HOLD = 1 << 1,          /* certificateHold and its release */
    CA_CAN_REASONS = 1 << 2,       /* it records the reason */
    CA_CAN_STATUS = 1 << 3,        /* ca_status() */
    CA_CAN_FIND = 1 << 4,          /* ca_find() */
    CA_CAN_PEND = 1 << 5,          /* it may answer CA_PENDING */
    CA_TAKES_SUBJECT = 1 << 6,     /* subject and SANs as data, whatever the CSR says */
    CA_TAKES_FOREIGN_CSR = 1 << 7, /* requests whose key is a device's */
    CA_CAN_SHOW = 1 << 8,          /* ca_get1_certificate(), ca_get1_crl() */
    CA_TAKES_OWN_KEYS = 1 << 9     /* requests without a CSR, for keys of our own token */
};
unsigned ca_capabilities(const struct ca *ca);

/* What a call came to; all but the first two and CA_NOT_FOUND come with an error that says why. */
enum ca_outcome {
    CA_DONE = 1,
    CA_PENDING,       /* somebody at the CA must decide; ca_poll() with the text */
    CA_REFUSED,       /* the CA, or our own rules, will not do this: asking again is no use */
    CA_RETRYABLE,     /* nothing was done; later it may work */
    CA_MISCONFIGURED, /* an administrator must change something here or there first */
    CA_UNKNOWN,       /* it may have been done: ca_find() or ca_status() before anything else */
    CA_NOT_FOUND      /* of find, status, revoke: the CA does not know it */
};

const char *ca_outcome_name(enum ca_outcome outcome);

#define CA_REQUEST_ID_MAX 200 /* bytes of our request ids */
#define CA_PENDING_MAX 1024   /* bytes of a pending text */

/* Borrowed. */
struct ca_request {
    const char *request_id; /* ours, unique; NULL: by hand, nobody will look for it */
    struct cc_bytes csr;    /* PKCS #10, DER; its signature is verified here, and its key checked */
    X509_REQ *checked_csr;  /* the same, of a caller that did both, by plan's profile; or NULL */
    EVP_PKEY *
            own_key; /* instead of a CSR: the public half of a key that our token has, as may sign nothing */
    const struct pki_plan *plan;
    int64_t deadline;
};

/* ret_* only with CA_DONE (*ret_certificate, yours to free) and CA_PENDING (ret_pending, opaque text, appended). */
CC_MUST enum ca_outcome ca_issue(struct ca *ca, const struct ca_request *request,
        X509 **ret_certificate, struct cc_buf *ret_pending, struct cc_err *err);
CC_MUST enum ca_outcome ca_poll(struct ca *ca, const struct ca_request *request,
        const char *pending, X509 **ret_certificate, struct cc_buf *ret_pending,
        struct cc_err *err);

/* What became of a request: the certificate that was issued for its id (CA_DONE), or that none was (CA_NOT_FOUND), or
   that it is not in force any more (CA_REFUSED).  It is as it was found: to be compared with the plan by the caller. */
CC_MUST enum ca_outcome ca_find(struct ca *ca, const char *request_id, int64_t deadline,
        X509 **ret_certificate, struct cc_err *err);

struct ca_revocation {
    struct cc_bytes serial;
    enum pki_reason reason; /* certificateHold: to be released with ca_release() */
    int64_t revoked_ms;     /* 0: now */
    int64_t invalidity_ms;  /* 0: not known */
    int64_t deadline;
};

/* CA_DONE also for one that was revoked before (*ret_already, may be NULL); its first date and reason stay. */
CC_MUST enum ca_outcome ca_revoke(struct ca *ca, const struct ca_revocation *revocation,
        bool *ret_already, struct cc_err *err);
CC_MUST enum ca_outcome ca_release(struct ca *ca, struct cc_bytes serial, int64_t deadline,
        struct cc_err *err);

enum ca_status { CA_STATUS_GOOD, CA_STATUS_HELD, CA_STATUS_REVOKED };
CC_MUST enum ca_outcome ca_get_status(struct ca *ca, struct cc_bytes serial, int64_t deadline,
        enum ca_status *ret_status, struct cc_err *err);

/* A certificate that it issued, and its newest full CRL of at most max bytes; yours to free.  CA_NOT_FOUND: there is none. */
CC_MUST enum ca_outcome ca_get1_certificate(struct ca *ca, struct cc_bytes serial, int64_t deadline,
        X509 **ret_certificate, struct cc_err *err);
CC_MUST enum ca_outcome ca_get1_crl(struct ca *ca, size_t max, int64_t deadline, X509_CRL **ret_crl,
        struct cc_err *err);

/* The CA's own certificate and those above it, the issuing one first; yours to free with sk_X509_pop_free(). */
CC_MUST enum ca_outcome ca_chain(struct ca *ca, int64_t deadline, STACK_OF(X509) **ret_chain,
        struct cc_err *err);

/* The issuing certificate's subject, RFC 4514: what is reported as issuer.  -1 while the CA cannot tell. */
CC_MUST int ca_issuer_name(struct ca *ca, struct cc_buf *ret, struct cc_err *err);

/* Whether it could issue now. */
CC_MUST enum ca_outcome ca_check(struct ca *ca, int64_t deadline, struct cc_err *err);

/* What was asked of it since it was opened, and how long that took. */
enum ca_operation { CA_OPERATION_ISSUE, CA_OPERATION_REVOKE, CA_OPERATIONS };
#define CA_OUTCOMES (CA_NOT_FOUND + 1)
struct ca_measured {
    uint64_t count[CA_OPERATIONS][CA_OUTCOMES]; /* by enum ca_outcome */
    struct cc_histogram_values time[CA_OPERATIONS];
};
void ca_get_measured(struct ca *ca, struct ca_measured *ret);
const char *ca_operation_name(enum ca_operation operation);

#endif
