/* SPDX-License-Identifier: MIT */
#ifndef STORE_INT_H
#define STORE_INT_H

/* Shared by the files of the connector's own state. */

#include <pthread.h>
#include <stdatomic.h>

#include "db.h"
#include "store/store.h"

struct member;

struct store_outage {
    pthread_mutex_t lock;
    store_outage_fn begun; /* NULL: nobody watches */
    void *arg;
    atomic_bool lasts;
    int64_t since_ms;     /* guarded by lock; so the rest */
    uint64_t count;       /* outages so far */
    struct cc_err reason; /* the newest */
};

struct store {
    struct db *db;
    atomic_llong clock_ahead; /* the database's clock against our monotonic one */
    struct store_outage outage;

    /* Who we are; changed only while no call is under way. */
    int64_t epoch; /* 0: not joined */
    char *name;    /* "" */
    struct member *member;
    struct member *members_gone; /* of earlier epochs */
    atomic_bool fenced;          /* we were declared gone since we joined last */
};

/* outage.c */
void store_outage_init(struct store *store);
void store_outage_notice(struct store *store); /* from now on, with the database open */
void store_outage_free(struct store *store);

/* The named value that says why no instance may join. */
#define STORE_UNUSABLE "unusable"
CC_MUST int store_check_usable(struct db_conn *conn, struct cc_err *err);

/* The schema of the connector's state. */
extern const struct db_schema store_schema;

/* Conditions on a column that holds an epoch: its instance is not running any more; and not for an hour. */
#define OWNER_GONE(column) column " NOT IN (SELECT epoch FROM store_instance WHERE alive = 1)"
#define OWNER_LONG_GONE(column)                                                                    \
    column " NOT IN (SELECT epoch FROM store_instance WHERE lease_until_ms > db_now_ms() - 3600000)"

/* Its instance was an earlier run of the one whose name is this placeholder. */
#define OWNER_WAS(column, placeholder)                                                             \
    column " IN (SELECT epoch FROM store_instance WHERE name = " placeholder " AND alive = 0)"

/*
 * Counters are kept by each instance in a row of its own (column instance: store->name) and added up by who reads them.
 */

/* Ends the membership without telling; of store_close(). */
void store_member_free(struct store *store);
void store_members_gone_free(struct store *store); /* once the database is closed */

/* Measures clock_ahead. */
CC_MUST int store_read_clock(struct store *store, struct cc_err *err);

/* What writes the connector's state passes two fail points, which bear the name of the function that calls. */
#ifdef CC_FAILPOINTS
CC_MUST int db_write_step(struct db *db, const char *step, db_fn fn, void *arg, struct cc_err *err);
#define db_write(db, fn, arg, err) db_write_step(db, __func__, fn, arg, err)
#endif

#endif
