/* SPDX-License-Identifier: MIT */
#ifndef STORE_STORE_H
#define STORE_STORE_H

/*
 * The durable state, behind one interface: SQLite for one instance, PostgreSQL for several; the SQL is written for both.
 *
 * A struct store owns its connection(s).  Any thread may call anything here; writes of concurrent callers share a
 * transaction (group commit), and a call that writes returns when its write is durable.  Errors are CC_DOM_STORE
 * (code: the library's).  Closing waits for nobody: no call may be under way.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/histogram.h"

struct store;

/*
 * uri: "sqlite:PATH", "sqlite::memory:", or a connection URI of libpq ("postgresql://USER@HOST/DATABASE?…") without a
 * password.  Brings the schema up to date by numbered steps, one program at a time; a database of a newer version is
 * used where that version allows it, and else refused.
 */
CC_MUST int store_open(const char *uri, struct store **ret_store, struct cc_err *err);
void store_close(struct store *store); /* accepts NULL */

/* Whether uri has a form that store_open() knows; nothing is opened. */
CC_MUST int store_check_uri(const char *uri, struct cc_err *err);

/* What there is, looked at without changing anything: a database that is not up to date stays as it is. */
struct store_look {
    bool shared;    /* by several machines */
    int64_t schema; /* numbered steps that it has; 0: none, or there is no file yet */
    int64_t known;  /* that this program knows */
    bool usable;    /* what is newer allows to be used by this program */
};
CC_MUST int store_look(const char *uri, struct store_look *ret, struct cc_err *err);

/* What group commit does, since store_open(). */
struct store_stats {
    uint64_t writes;                        /* calls that wrote */
    uint64_t commits;                       /* transactions they shared */
    uint64_t failed;                        /* of the calls, those that ended in an error */
    uint64_t reconnects;                    /* after the connection for writing had been lost */
    struct cc_histogram_values commit_time; /* from the beginning of a transaction to its end */
};
void store_stats(struct store *store, struct store_stats *ret);

/*
 * Outages: the database is full, read-only, broken or away.  What cannot be made durable must not be begun, so those who
 * take work from others ask store_is_usable() first.  Nothing but store_probe() ends an outage: it needs some room and
 * not that of one small row, so that a nearly full disk is no coming and going.
 */
struct store_state {
    bool usable;
    int64_t since_ms;     /* wall time: of the last change; 0: never one */
    uint64_t outages;     /* since store_watch() */
    struct cc_err reason; /* of the outage that lasts */
};

/*
 * From now on outages are noticed.  begun is called once for each, from the thread whose call failed and under a lock; it
 * must not call the store.  NULL ends that; when this returns begun is not called any more.
 */
typedef void (*store_outage_fn)(void *arg);
void store_watch(struct store *store, store_outage_fn begun, void *arg);

/* Cheap; true while nobody watches. */
bool store_is_usable(struct store *store);
void store_get_state(struct store *store, struct store_state *ret);

/* Whether the same call may succeed a little later: it met others', or waited too long for their locks. */
bool store_is_passing(const struct store *store, const struct cc_err *err);

/* Writes and reads; 0 ends the outage. */
CC_MUST int store_probe(struct store *store, struct cc_err *err);

/* Small named values of the instance ("connector-id" …).  *ret_value is yours to free, NULL when there is none. */
CC_MUST int store_get_value(struct store *store, const char *name, char **ret_value,
        struct cc_err *err);
CC_MUST int store_put_value(struct store *store, const char *name, const char *value,
        struct cc_err *err);

#endif
