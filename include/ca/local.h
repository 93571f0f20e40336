/* SPDX-License-Identifier: MIT */
#ifndef CA_LOCAL_H
#define CA_LOCAL_H

/*
 * The built-in authority: its key in the token, its database in the store.
 *
 * Several processes may use one authority at a time (a daemon and the administrator's command): everything that counts
 * is in the store.  A certificate's serial is 20 bytes from the token's random source, reserved before anything is
 * signed; a reserved serial that a crash left behind is revoked by the next start, as a certificate may have been
 * signed with it.
 *
 * Threads: any.
 */

#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "ca/ca.h"
#include "hsm/hsm.h"
#include "pki/plan.h"
#include "store/cadb.h"
#include "store/store.h"

/* Strings and lists are copied; hsm, keys and store are borrowed and must outlive the CA. */
struct ca_local_settings {
    const char *name;
    struct store *store;
    struct hsm *hsm;
    struct hsm_key *key;      /* role HSM_ROLE_CA */
    struct hsm_key *ocsp_key; /* role HSM_ROLE_OCSP; NULL: no OCSP answers */
    const char *digest;       /* "sha256", "sha384", "sha512"; NULL: by the key */
    int64_t crl_validity_ms, crl_interval_ms;
    int64_t delta_interval_ms; /* 0: no delta CRLs */
    /* For certificates whose profile has none; the second also for freshestCRL of full CRLs. */
    struct pki_texts crl_urls, delta_crl_urls, issuer_urls, ocsp_urls;
    int64_t ocsp_validity_ms; /* of an answer */
    const char *folder;       /* for temporary files */
    /* Requests with an id and a CSR are CA_PENDING until an administrator decides on them (cadb_approval_decide()). */
    bool approval;
    /* Asked before something is issued: -1, with an error, means not now.  NULL: always. */
    int (*may_issue)(void *arg, struct cc_err *err);
    void *may_issue_arg;
};

/* Needs the authority to be in the store (ca_local_init()); the token need not be there yet. */
CC_MUST int ca_local_open(const struct ca_local_settings *settings, struct ca **ret_ca,
        struct cc_err *err);

/*
 * Serials that a crash left reserved are revoked (reason cessationOfOperation), as certificates may have been signed with
 * them and lost, and their request ids are free.  Those of instances that run, and of the last minute, may be another
 * process's at work and are left: ca_issue() and ca_find() of the same request id see to them.  What an administrator was asked about is forgotten when
 * its certificate stands, or after 90 days.  At start, and now and then.
 */
CC_MUST int ca_local_recover(struct ca *ca, struct cc_err *err);

/* ---- making one ---- */

struct ca_local_init {
    const char *subject; /* RFC 4514 */
    int64_t validity_ms; /* of a root */
    int path_len;        /* -1: no limit */
    bool intermediate;   /* make a request for a CA elsewhere instead of a root */
    bool scep;           /* its key also serves SCEP clients: keyUsage says so; RSA only */
};

/*
 * Makes the authority named by the settings, with the key that they name.  A root signs itself; an intermediate's
 * request is appended to ret_request (DER) and it waits for ca_local_set_certificate().  Refused when there is one.
 */
CC_MUST int ca_local_init(const struct ca_local_settings *settings,
        const struct ca_local_init *init, struct cc_buf *ret_request, struct cc_err *err);

/* certificate of this CA's key, with CA:TRUE, and the certificates above it up to a root: verified. */
CC_MUST int ca_local_set_certificate(const struct ca_local_settings *settings,
        struct cc_bytes certificate, const struct cc_bytes *chain, size_t chain_count,
        struct cc_err *err);

/* ---- CRLs ---- */

/* Signs and stores a CRL now. */
CC_MUST int ca_local_make_crl(struct ca *ca, enum cadb_crl_kind kind, struct cadb_crl *ret,
        struct cc_err *err);

/*
 * Signs what is due: a full CRL after its interval, and, when something was revoked since the last, a delta at once, or
 * a full one where there are no deltas.  *ret_next_ms: milliseconds until it wants to be called again, at most a
 * second: other processes revoke, too.  *ret_made may be NULL.
 */
CC_MUST int ca_local_keep_crls(struct ca *ca, int64_t *ret_next_ms, bool *ret_made,
        struct cc_err *err);

/* The newest CRL, DER, into fd (an open file, written from its position); *ret_found. */
CC_MUST int ca_local_get_crl(struct ca *ca, enum cadb_crl_kind kind, bool *ret_found,
        struct cadb_crl *ret, int fd, struct cc_err *err);

/* ---- OCSP ---- */

/* The CA's own certificate; yours to free.  -1 while there is none. */
CC_MUST int ca_local_get1_certificate(struct ca *ca, X509 **ret, struct cc_err *err);

/* What is known of a serial. */
struct ca_local_status {
    bool known;
    enum cadb_state state;
    int64_t revoked_ms;
    int reason;
};
CC_MUST int ca_local_status(struct ca *ca, struct cc_bytes serial, struct ca_local_status *ret,
        struct cc_err *err);

/* For caches, cheap: *ret_change moves when a status of a known certificate does, *ret_generation also when another
   certificate becomes known. */
CC_MUST int ca_local_numbers(struct ca *ca, int64_t *ret_change, int64_t *ret_generation,
        struct cc_err *err);

/*
 * The delegated signer: certificate (yours to free) and key (borrowed) of the OCSP role.  A certificate is issued when
 * there is none, or two thirds of its life are over.
 */
CC_MUST int ca_local_get1_ocsp_signer(struct ca *ca, X509 **ret_certificate, EVP_PKEY **ret_key,
        struct cc_err *err);

#endif
