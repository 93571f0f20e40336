/* SPDX-License-Identifier: MIT */
#ifndef STORE_SCEPDB_H
#define STORE_SCEPDB_H

/*
 * SCEP enrolments under way and done, what the service must still hear of them, and the challenges that were spent.
 *
 *   claimed -> issued -> ...            each enrolment has one row from the moment when nothing but its certificate is
 *          |-> pending -> issued        missing; the row's id names the very request (scep/ says how it is made), so
 *          \-> failed                   that a message that is sent again finds what became of the first
 *
 * notify:  none -> due -> closed, or none -> event -> closed where nobody has to be told
 *
 * due      the service must still hear of it (the outbox)
 * event    it has, or need not; the admin event alone is to be written
 * closed   it stands; the row is kept until it expires, to recognise a message that comes again
 *
 * A row that is not closed belongs to one instance.  Another one may take it over, and does (scepdb_adopt()), when its
 * owner is gone (store/instance.h); one that is claimed or pending also when its lease ended, as the device may be back
 * somewhere else.  One whose event is due only goes to a later run of the same name, whose log knows whether it stands.
 *
 * Times are of store_now_ms().  Each call is one durable step.  The CSR holds a challenge, so it comes here sealed, and
 * goes when nobody needs it any more.  Threads and errors as in store/store.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "store/store.h"

#define SCEPDB_ID_LEN 32 /* SHA-256 */

enum scepdb_state { SCEPDB_CLAIMED = 1, SCEPDB_PENDING, SCEPDB_ISSUED, SCEPDB_FAILED };

enum scepdb_notify {
    SCEPDB_NOTIFY_NONE = 0,
    SCEPDB_NOTIFY_DUE,
    SCEPDB_NOTIFY_EVENT,
    SCEPDB_NOTIFY_CLOSED
};

/* A row; in callbacks valid during the callback. */
struct scepdb_row {
    struct cc_bytes id;         /* SCEPDB_ID_LEN */
    const char *profile;        /* of the SCEP server */
    const char *transaction_id; /* as the device names it, printable */
    struct cc_bytes key_hash; /* SHA-256 over the SubjectPublicKeyInfo of who signed the request */
    enum scepdb_state state;
    enum scepdb_notify notify;
    bool ours; /* we have it in hand, or had it last */
    const char *ca, *ca_request_id;
    struct cc_bytes csr;         /* sealed; none: gone */
    const char *pending;         /* the CA's text, or NULL */
    struct cc_bytes certificate; /* DER; none: not issued */
    int fail_info;               /* of a failure */
    const char *detail;          /* of a failure, for people; or NULL */
    uint32_t hresult;            /* of a failure, for the service */
    unsigned attempts;           /* to tell the service */
    int64_t lease_until_ms;
    int64_t received_ms, expires_ms;
};

enum scepdb_claim {
    SCEPDB_NEW,   /* the row is made and ours */
    SCEPDB_TAKEN, /* it was there, claimed or pending, and is ours now */
    SCEPDB_BUSY,  /* it was there, claimed or pending, and another instance is at work on it */
    SCEPDB_KNOWN, /* it was there, and ended */
    SCEPDB_SPENT  /* the challenge belongs to another row */
};

struct scepdb_claiming {
    const struct scepdb_row *row; /* id … key_hash, ca, ca_request_id, csr, times */
    struct cc_bytes challenge;    /* its hash; none: no challenge that may be used once only */
    int64_t challenge_expires_ms; /* it is remembered so long */
    int64_t now_ms, lease_until_ms;
};

/* fn: called with the row as it is when it was there before (TAKEN, BUSY, KNOWN).  It must not call the store. */
typedef int (*scepdb_fn)(void *arg, const struct scepdb_row *row);
CC_MUST int scepdb_claim(struct store *store, const struct scepdb_claiming *claiming,
        enum scepdb_claim *ret_claim, scepdb_fn fn, void *arg, struct cc_err *err);

/* The row of this id, or nothing: fn is called once or not at all. */
CC_MUST int scepdb_find(struct store *store, struct cc_bytes id, scepdb_fn fn, void *arg,
        struct cc_err *err);

/* The newest of this transaction and key. */
CC_MUST int scepdb_find_transaction(struct store *store, const char *profile,
        const char *transaction_id, struct cc_bytes key_hash, scepdb_fn fn, void *arg,
        struct cc_err *err);

/* For people who look for something: all of this transaction, whoever signed it, or of this request at a CA (NULL: none),
   oldest first, until fn returns non-zero. */
CC_MUST int scepdb_search(struct store *store, const char *transaction_id,
        const char *ca_request_id, scepdb_fn fn, void *arg, struct cc_err *err);

/* Takes a row that is claimed or pending over, or keeps it: *ret_ours. */
CC_MUST int scepdb_take(struct store *store, struct cc_bytes id, int64_t now_ms,
        int64_t lease_until_ms, bool *ret_ours, struct cc_err *err);

/* claimed|pending -> pending, with the CA's text. */
CC_MUST int scepdb_pending(struct store *store, struct cc_bytes id, const char *pending,
        struct cc_err *err);

/*
 * claimed|pending -> issued or failed; notify: DUE (from now on at next_ms) or EVENT.  -1 (CC_DOM_STORE, code 0) when the
 * row is not ours any more.
 */
struct scepdb_ending {
    struct cc_bytes certificate; /* none: failed */
    int fail_info;
    const char *detail;
    uint32_t hresult;
    enum scepdb_notify notify;
    int64_t next_ms;
    int64_t expires_ms;
};
CC_MUST int scepdb_end(struct store *store, struct cc_bytes id, const struct scepdb_ending *ending,
        struct cc_err *err);

/* due, and not before next_ms again. */
CC_MUST int scepdb_tell_later(struct store *store, struct cc_bytes id, int64_t next_ms,
        struct cc_err *err);

/*
 * due|event -> closed, a batch in one step: the CSR goes, and the totals count it.  A row in another state, or not ours,
 * is left alone.
 */
struct scepdb_settled {
    struct cc_bytes id;
    bool failed;    /* it counts as failed although there is a certificate */
    bool take_back; /* nobody shall have the certificate: it becomes failed, with fail_info */
    int fail_info;
};
CC_MUST int scepdb_settle(struct store *store, const struct scepdb_settled *settled, size_t count,
        struct cc_err *err);

/*
 * due -> event, a batch in one step: the service has heard of them, and what shall be taken back is.  ret_ours[i]: so it
 * was, and the admin event is the caller's to write; else another has done it, or will.
 */
CC_MUST int scepdb_told(struct store *store, const struct scepdb_settled *told, size_t count,
        bool *ret_ours, struct cc_err *err);

/* Makes rows ours that are not closed and whose owner is gone, as said above; *ret_count: how many. */
CC_MUST int scepdb_adopt(struct store *store, int64_t *ret_count, struct cc_err *err);

/* Those of ours that are due by now_ms, at most max, the earliest first. */
CC_MUST int scepdb_walk_due(struct store *store, int64_t now_ms, unsigned max, scepdb_fn fn,
        void *arg, int64_t *ret_next_ms, struct cc_err *err);

/* Those of all instances that are not closed, the oldest first, until fn returns non-zero. */
CC_MUST int scepdb_walk_open(struct store *store, scepdb_fn fn, void *arg, struct cc_err *err);

struct scepdb_counts {
    uint64_t claimed, pending, due;
    uint64_t succeeded, failed; /* closed, ever */
    int64_t oldest_open_ms;     /* of those that are not pending; 0: none */
};
CC_MUST int scepdb_count(struct store *store, struct scepdb_counts *ret, struct cc_err *err);

/* Removes closed rows and challenges that expired, at most max of each; *ret_more: there are others. */
CC_MUST int scepdb_prune(struct store *store, int64_t now_ms, unsigned max, bool *ret_more,
        struct cc_err *err);

#endif
