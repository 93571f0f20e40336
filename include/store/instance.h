/* SPDX-License-Identifier: MIT */
#ifndef STORE_INSTANCE_H
#define STORE_INSTANCE_H

/*
 * Instances that share a store.
 *
 * A running instance joins under its name and gets an epoch, a number that no other run ever had: the fencing token.
 * What it has in hand in the store is marked with it, and every transaction of it first finds its own row alive, so
 * that one whose lease ended and whose work others took over can write nothing more, however late it wakes up.  The
 * lease lasts STORE_LEASE_MS on the database's clock and is renewed by every write, and by a thread.
 *
 * An instance whose lease ended is declared gone by any other that has itself been in touch with the database all that
 * time (after an outage of the database all leases are old, and nobody is gone).  Its work is then adopted: see
 * journal_adopt(), scepdb_adopt().  A lease by name (store_lease_take()) is held as long as its holder is alive.
 *
 * SQLite holds one instance, which joins at once: the file is locked while it runs.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/text.h"
#include "store/store.h"

#define STORE_LEASE_MS 6000
#define STORE_MEMBER_NAME_MAX 255

struct store_joining {
    const char *name; /* copied; at most STORE_MEMBER_NAME_MAX bytes */

    /* From the store's own thread; they must not wait for anything that the store does. */
    /* Another instance is gone: look for what it left.  Also without news now and then, as looking may have failed. */
    void (*on_gone)(void *arg, bool news);
    void (*on_fenced)(void *arg); /* we were declared gone: leave, and join again; once */
    void *arg;
};

/*
 * *ret_wait_ms: 0: joined; else another instance of this name is running, or was until just now: ask again after so many
 * milliseconds.  An earlier run of the same machine whose process is gone is not waited for, unless again is set: then we
 * were just declared gone by another of our name, which somebody must put right.
 */
CC_MUST int store_join(struct store *store, const struct store_joining *joining, bool again,
        int64_t *ret_wait_ms, struct cc_err *err);

/* Whether we were declared gone since we joined last; still after store_leave(). */
bool store_was_fenced(const struct store *store);

/* What is left in hand is at once for others.  No other call may be under way.  Nothing to do when not joined. */
void store_leave(struct store *store);

/* The database's clock, in milliseconds since 1970, within a few of them: for everything that several instances measure.
   Of SQLite the machine's own. */
int64_t store_now_ms(struct store *store);

/* The id under which the service knows the instance of this name: made once, kept until it is set. */
CC_MUST int store_connector_id(struct store *store, const char *name, char ret_id[CC_UUID_LEN],
        struct cc_err *err);

/* The service gave it another one. */
CC_MUST int store_connector_id_set(struct store *store, const char *name, const char *id,
        struct cc_err *err);

/* Those that run, by name; fn must not call the store; non-zero ends the walk. */
struct store_member {
    const char *name;
    int64_t joined_ms;
    bool is_us;
};
typedef int (*store_member_fn)(void *arg, const struct store_member *member);
CC_MUST int store_members(struct store *store, store_member_fn fn, void *arg, struct cc_err *err);

/*
 * What one instance at a time does ("crl/NAME"): *ret_ours until it is released, or the instance is gone.  An instance
 * that cannot do it now releases it, so that another may.  Without having joined it is ours when nobody else's.
 */
CC_MUST int store_lease_take(struct store *store, const char *name, bool *ret_ours,
        struct cc_err *err);
CC_MUST int store_lease_release(struct store *store, const char *name, struct cc_err *err);

#endif
