/* SPDX-License-Identifier: MIT */
#ifndef STORE_CADB_H
#define STORE_CADB_H

/*
 * The database of built-in certification authorities: the CAs, every certificate from its reserved serial on, and CRLs.
 *
 * A certificate goes  reserved -> issued <-> held
 *                         |         \-> revoked <-/
 *                         \-> abandoned
 *
 * A serial is reserved durably before anything is signed with it, and never given twice.  A row has at most one of our
 * request ids, and an id at most one row that is not abandoned: that is what makes issuing idempotent.  Each change of
 * revocation gets the next number of its CA ("change"), by which delta CRLs and caches are made.
 *
 * Every call that writes is one durable step.  Any thread.  Serials are INTEGER bytes (big-endian, no sign octet).
 * Errors: CC_DOM_STORE.  Times: milliseconds since 1970.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "store/store.h"

#define CADB_SERIAL_MAX 20
#define CADB_KEY_HASH_LEN 32 /* SHA-256 of SubjectPublicKeyInfo */

/* ---- authorities ---- */

struct cadb_authority {
    const char *name;            /* of the configuration */
    const char *key_uri;         /* PKCS#11 URI of its key when it was made */
    struct cc_bytes certificate; /* DER; empty: waits for the certificate of the CA above */
    struct cc_bytes chain;   /* certificates above it, DER one behind the other, up to the root */
    struct cc_bytes request; /* PKCS #10 for the CA above; empty: a root */
    struct cc_bytes ocsp_signer; /* certificate of the present OCSP signer, DER; empty: none */
    int64_t created_ms;
    int64_t change; /* number of the last change of revocation; 0: none yet */
    int64_t generation; /* counts every change of a certificate's row: a cache with another one is stale */
};

/* Adds one; *ret_exists: there is one of this name, and nothing was changed. */
CC_MUST int cadb_authority_add(struct store *store, const struct cadb_authority *authority,
        bool *ret_exists, struct cc_err *err);

/* The certificate that the CA above gave, and the chain; only while there is none, or to renew it (same key). */
CC_MUST int cadb_authority_set_certificate(struct store *store, const char *name,
        struct cc_bytes certificate, struct cc_bytes chain, struct cc_err *err);
CC_MUST int cadb_authority_set_ocsp_signer(struct store *store, const char *name,
        struct cc_bytes certificate, struct cc_err *err);

/* fn is called once or not at all; strings and bytes live during the callback, which must not call the store.  Here and
   below non-zero ends a walk, which is no error unless it says so. */
typedef int (*cadb_authority_fn)(void *arg, const struct cadb_authority *authority);
CC_MUST int cadb_authority_find(struct store *store, const char *name, cadb_authority_fn fn,
        void *arg, struct cc_err *err);
CC_MUST int cadb_authority_list(struct store *store, cadb_authority_fn fn, void *arg,
        struct cc_err *err);

/* The two numbers alone: cheap, asked for often.  -1 with CC_DOM_STORE/0 when there is no such CA. */
CC_MUST int cadb_authority_numbers(struct store *store, const char *name, int64_t *ret_change,
        int64_t *ret_generation, struct cc_err *err);

/* ---- certificates ---- */

enum cadb_state { CADB_RESERVED = 1, CADB_ISSUED, CADB_HELD, CADB_REVOKED, CADB_ABANDONED };

struct cadb_certificate {
    struct cc_bytes serial;
    enum cadb_state state;
    const char *request_id; /* NULL: none (issued by hand) */
    const char *profile;
    const char *subject;         /* RFC 4514, for people */
    struct cc_bytes key_hash;    /* CADB_KEY_HASH_LEN bytes */
    struct cc_bytes certificate; /* DER; empty before it is issued, and in lists */
    int64_t not_before_ms, not_after_ms;
    int64_t reserved_ms, issued_ms;
    int64_t revoked_ms;    /* of held and revoked ones */
    int reason;            /* CRLReason of them */
    int64_t invalidity_ms; /* 0: not known */
};

enum cadb_reserve { CADB_RESERVE_NEW, CADB_RESERVE_KNOWN, CADB_RESERVE_SERIAL_TAKEN };

/*
 * Reserves certificate->serial, with request_id, profile, subject, key_hash and times.  KNOWN: the request id has a row
 * already, and nothing was done (cadb_find() tells).  SERIAL_TAKEN: choose another serial.
 */
CC_MUST int cadb_reserve(struct store *store, const char *authority,
        const struct cadb_certificate *certificate, enum cadb_reserve *ret_reserved,
        struct cc_err *err);

/* reserved -> issued, with the DER. */
CC_MUST int cadb_issued(struct store *store, const char *authority, struct cc_bytes serial,
        struct cc_bytes certificate, int64_t issued_ms, struct cc_err *err);

/* reserved -> abandoned: it was not signed, or what was signed never left; its request id is free again. */
CC_MUST int cadb_abandon(struct store *store, const char *authority, struct cc_bytes serial,
        struct cc_err *err);

typedef int (*cadb_certificate_fn)(void *arg, const struct cadb_certificate *certificate);

/* By exactly one of serial, request_id and key_hash (then the newest); by the last two no abandoned one.  fn once or not
   at all. */
struct cadb_key {
    struct cc_bytes serial;
    const char *request_id;
    struct cc_bytes key_hash;
};
CC_MUST int cadb_find(struct store *store, const char *authority, const struct cadb_key *key,
        cadb_certificate_fn fn, void *arg, struct cc_err *err);

/* Reserved rows of this CA that are older than before_ms, and whose instance is gone: left by a crash. */
CC_MUST int cadb_walk_reserved(struct store *store, const char *authority, int64_t before_ms,
        cadb_certificate_fn fn, void *arg, struct cc_err *err);

struct cadb_query {
    unsigned states;           /* bits 1 << enum cadb_state; 0: all */
    const char *subject;       /* substring, ASCII case ignored; NULL: any */
    int64_t expires_before_ms; /* 0: any */
    struct cc_bytes
            after; /* serial: those behind it in the order of (reserved_ms, serial); empty: from the first */
    int64_t after_ms; /* reserved_ms of that one */
    unsigned limit;
};
CC_MUST int cadb_list(struct store *store, const char *authority, const struct cadb_query *query,
        cadb_certificate_fn fn, void *arg, struct cc_err *err);

struct cadb_counts {
    int64_t by_state[CADB_ABANDONED + 1];
};
CC_MUST int cadb_count(struct store *store, const char *authority, struct cadb_counts *ret,
        struct cc_err *err);

/* ---- revocation ---- */

enum cadb_revoked {
    CADB_REVOKE_DONE,
    CADB_REVOKE_ALREADY,   /* revoked before; the first date and reason stay */
    CADB_REVOKE_NOT_FOUND, /* no such serial, or never issued */
    CADB_REVOKE_CONFLICT   /* to be held, and revoked for good; or to be released, and not held */
};

/* issued, held -> revoked; issued -> held when reason is certificateHold.  A reserved row may be revoked too: a
   certificate may have been signed and lost; its request id is free again.  Not held, though (NOT_FOUND). */
struct cadb_revocation {
    struct cc_bytes serial;
    int reason;
    int64_t revoked_ms;
    int64_t invalidity_ms;
};
CC_MUST int cadb_revoke(struct store *store, const char *authority,
        const struct cadb_revocation *revocation, enum cadb_revoked *ret, struct cc_err *err);

/*
 * The same for a serial that is still reserved, by us, by an instance that is gone, or by any other before before_ms: what
 * may have been signed with it nobody has, and who would still record it as issued is refused.  *ret_done: false, and
 * nothing was changed, when it is not reserved any more, or another instance may be signing just now.
 */
CC_MUST int cadb_give_up(struct store *store, const char *authority,
        const struct cadb_revocation *revocation, int64_t before_ms, bool *ret_done,
        struct cc_err *err);

/* held -> issued. */
CC_MUST int cadb_release(struct store *store, const char *authority, struct cc_bytes serial,
        int64_t now_ms, enum cadb_revoked *ret, struct cc_err *err);

/* What a CRL says of one certificate. */
struct cadb_crl_entry {
    struct cc_bytes serial;
    int64_t revoked_ms;
    int reason; /* 8 (removeFromCRL): released since the base */
    int64_t invalidity_ms;
};
typedef int (*cadb_crl_entry_fn)(void *arg, const struct cadb_crl_entry *entry);

/*
 * All that are held or revoked and did not expire before expired_before_ms, as of one moment; with since_change > 0
 * only those that changed after it, among them released ones that were on the base or on a CRL stored since (delta, RFC
 * 5280 section 5.2.4).  *ret_change: the number of the last change that is in it.  fn runs inside a read transaction
 * and must not call the store; non-zero ends it with an error that fn has set in its own arg.
 */
CC_MUST int cadb_walk_revoked(struct store *store, const char *authority, int64_t since_change,
        int64_t expired_before_ms, cadb_crl_entry_fn fn, void *arg, int64_t *ret_change,
        struct cc_err *err);

/* ---- CRLs ---- */

enum cadb_crl_kind { CADB_CRL_FULL = 1, CADB_CRL_DELTA };

struct cadb_crl {
    enum cadb_crl_kind kind;
    int64_t number;      /* cRLNumber, counted for both kinds together */
    int64_t base_number; /* of a delta */
    int64_t change;      /* the last change that is in it */
    int64_t this_update_ms, next_update_ms;
    int64_t len; /* bytes of DER */
};

/* The next CRL number; durable, never given twice. */
CC_MUST int cadb_crl_next_number(struct store *store, const char *authority, int64_t *ret_number,
        struct cc_err *err);

/*
 * Stores a CRL in place of the one of its kind, unless that has a higher number (*ret_stored).  The DER is read from fd
 * (a file; len bytes from its present position, which stays) in pieces, so that memory does not grow with it.
 */
CC_MUST int cadb_crl_put(struct store *store, const char *authority, const struct cadb_crl *crl,
        int fd, bool *ret_stored, struct cc_err *err);

/* The newest of a kind: *ret_found; and its DER written to fd (-1: not wanted). */
CC_MUST int cadb_crl_get(struct store *store, const char *authority, enum cadb_crl_kind kind,
        bool *ret_found, struct cadb_crl *ret, int fd, struct cc_err *err);

/* ---- requests that an administrator decides on ---- */

enum cadb_decision { CADB_UNDECIDED = 0, CADB_APPROVED, CADB_DENIED };

struct cadb_approval {
    const char *request_id, *profile, *subject;
    enum cadb_decision decision;
    const char *reason; /* of a denial; or NULL */
    int64_t asked_ms, decided_ms;
};
typedef int (*cadb_approval_fn)(void *arg, const struct cadb_approval *approval);

/* Records a request unless it is known, and calls fn once with what is known of it. */
CC_MUST int cadb_approval_ask(struct store *store, const char *authority,
        const struct cadb_approval *approval, cadb_approval_fn fn, void *arg, struct cc_err *err);

/* Decides on one that is undecided, or on all of them (request_id NULL); *ret_count: how many. */
CC_MUST int cadb_approval_decide(struct store *store, const char *authority, const char *request_id,
        enum cadb_decision decision, const char *reason, int64_t now_ms, int64_t *ret_count,
        struct cc_err *err);

/* The undecided ones, the oldest first. */
CC_MUST int cadb_approval_walk(struct store *store, const char *authority, cadb_approval_fn fn,
        void *arg, struct cc_err *err);

/* Those that have their certificate go, and those asked before this time, decided on or not. */
CC_MUST int cadb_approval_prune(struct store *store, const char *authority, int64_t before_ms,
        struct cc_err *err);

#endif
