/* SPDX-License-Identifier: MIT */
#ifndef SCEP_SCEP_H
#define SCEP_SCEP_H

/*
 * The SCEP server (RFC 8894): devices enrol and renew over HTTP; every private key is the token's.
 *
 *   message -> signature, algorithms -> envelope opened on the token -> request -> who asks (challenge, or the old
 *   certificate) -> claim (durable) -> CA -> certificate (durable) -> the service is told -> CertRep
 *
 * Messages of different CAs go in lanes: each CA has a thread of its own, and the others are shared, so that a CA that hangs
 * keeps no other's devices waiting; one that failed several times in a row is tried with one message at a time, and the
 * other devices of its profiles get 503.
 *
 * Owns its listener with the threads that work, four that tell the service, one that settles and recovers, and one that
 * keeps the RA's certificates.  What it is given is borrowed and must outlive it; strings and lists are copied.  Secret:
 * challenges are held only while their message is worked on, and in the store sealed.
 *
 * Nothing is lost by a kill at any point: a certificate that stands is found again, and what the service must hear is in
 * the store (store/scepdb.h).  While the token, the store or the CA are away devices get 503 with Retry-After, never a
 * FAILURE, which would make them give up.
 */

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/histogram.h"
#include "ca/ca.h"
#include "eventlog/eventlog.h"
#include "hsm/hsm.h"
#include "intune/service.h"
#include "pki/profile.h"
#include "store/store.h"

struct scep;

/* Who says whether a challenge is good. */
enum scep_challenge {
    SCEP_CHALLENGE_SERVICE, /* Intune's validateRequest; it is told of every outcome */
    SCEP_CHALLENGE_STATIC,  /* one secret for all */
    SCEP_CHALLENGE_FILE,    /* a file of secrets, each good once */
    SCEP_CHALLENGE_HOOK     /* an HTTP service of the operator's */
};

/* What is taken from clients that cannot do better. */
enum scep_legacy {
    SCEP_LEGACY_NONE,
    SCEP_LEGACY_3DES, /* triple DES and SHA-1 */
    SCEP_LEGACY_DES   /* single DES, too */
};

/* One SCEP profile: what is enrolled at one URL. */
struct scep_profile {
    const char *name; /* last part of its URL; NULL: the path itself */
    struct ca *ca;
    const struct pki_profile *profile;
    enum scep_challenge challenge;
    const char *challenge_secret; /* STATIC: reference (base/secret.h) */
    const char *challenge_file;   /* FILE: path, a secret a line */
    const char *challenge_url;    /* HOOK: answers {"accepted": true} */
    enum scep_legacy legacy;
    bool before_reply;         /* no certificate unless the service took the news of it */
    int64_t renewal_window_ms; /* before the old certificate's end; 0: any time */
    int64_t renewal_grace_ms;  /* behind its end */
    bool queries;              /* GetCert and GetCRL */
    bool chain_in_reply;       /* the CA's certificates behind the issued one */
    bool root_in_chain;        /* GetCACert ends with the root */
    const char *next_ca_file;  /* PEM: the CA's next certificates; NULL: none */
    const char *ra_sign_file,
            *ra_encrypt_file; /* PEM of certificates that a CA elsewhere gave; NULL: the CA is asked */
};

struct scep_settings {
    struct hsm *hsm;
    struct intune *intune;
    struct store *store;
    struct eventlog *log;
    struct hsm_key *sign; /* role HSM_ROLE_SCEP_RA_SIGN */
    struct hsm_key
            *encrypt; /* role HSM_ROLE_SCEP_RA_ENCRYPT; the same key on the token may serve both */
    struct hsm_key *seal;
    const char *listen; /* http/listener.h */
    const char *path;   /* "/scep" */
    unsigned workers;
    unsigned max_connections;
    const struct scep_profile *profiles;
    size_t profile_count;
    int64_t deadline_ms; /* of one request of a device */
    int64_t remember_ms; /* ended enrolments and spent challenges, to recognise what comes again */
    const char *proxy, *proxy_user, *proxy_password, *no_proxy, *ca_file; /* of hooks */
    bool allow_http;
};

CC_MUST int scep_start(const struct scep_settings *settings, struct scep **ret_scep,
        struct cc_err *err);

/* Answers what is under way within the time, tells the service what it can; the rest waits in the store.  Accepts NULL. */
void scep_stop(struct scep *scep, int64_t drain_ms);

/* Another instance of the store is gone: goes on with what it had in hand. */
void scep_adopt(struct scep *scep);

/* How messages of devices (PKIOperation) were answered. */
enum scep_answered {
    SCEP_ANSWERED_SUCCESS,
    SCEP_ANSWERED_FAILURE,
    SCEP_ANSWERED_PENDING,
    SCEP_ANSWERED_LATER,   /* 503 */
    SCEP_ANSWERED_REFUSED, /* another HTTP status, nothing signed */
    SCEP_ANSWERED_KINDS
};
#define SCEP_FAIL_INFOS 5 /* of RFC 8894 section 3.2.1.4.5, from 0 */

/* The RA's certificates in use, of all profiles; yours to free.  Into an array of max; how many. */
size_t scep_get1_certificates(struct scep *scep, X509 **ret, size_t max);

struct scep_status {
    bool ready;            /* every profile has its RA certificates */
    unsigned in_work;      /* messages of devices */
    uint64_t bad_messages; /* envelopes that could not be opened, since start */
    uint64_t answered[SCEP_ANSWERED_KINDS], fail_info[SCEP_FAIL_INFOS]; /* since start */
    struct cc_histogram_values time;                                    /* of each answer */
    uint16_t port;
    const char *legacy;   /* "des" or "3des" where a profile takes it, or NULL */
    char last_error[256]; /* of the RA's certificates */
};
void scep_get_status(struct scep *scep, struct scep_status *ret);

/* What the store knows, of all its instances; -1 while it cannot be asked. */
struct scep_counts {
    uint64_t succeeded, failed; /* ever */
    uint64_t pending;           /* wait for somebody at the CA */
    uint64_t untold;            /* notifications that the service has not taken yet */
    int64_t oldest_open_ms;     /* of what does not wait for somebody; wall time; 0: none */
};
CC_MUST int scep_count(struct store *store, struct scep_counts *ret, struct cc_err *err);

#endif
