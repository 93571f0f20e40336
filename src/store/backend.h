/* SPDX-License-Identifier: MIT */
#ifndef STORE_BACKEND_H
#define STORE_BACKEND_H

/*
 * What a database library must offer to db.c.  One struct of functions a library; a struct db_conn is one
 * connection, used by one thread at a time.
 */

#include "db.h"

struct db_backend {
    const char *scheme; /* of the URI: "sqlite" */
    unsigned group_max; /* closures in one transaction */

    /* Whether rest (the URI behind "scheme:") names a database. */
    int (*check)(const char *rest, struct cc_err *err);

    /* Whether several connections may see this database: if not, reads go over the writer's. */
    bool (*shareable)(const char *rest);

    /* Locks the database against another program that does the same, until *ret_fd is closed; NULL: it is shared. */
    int (*hold_alone)(const char *rest, int *ret_fd, struct cc_err *err);

    /* Makes ready what all connections need (a file); called once, before the first connection. */
    int (*prepare)(const char *rest, struct cc_err *err);

    int (*connect)(const char *rest, bool writer, struct db_conn **ret_conn, struct cc_err *err);
    void (*disconnect)(struct db_conn *conn); /* accepts NULL */

    int (*begin)(struct db_conn *conn, bool writing, struct cc_err *err);
    int (*commit)(struct db_conn *conn, struct cc_err *err);
    void (*rollback)(struct db_conn *conn);

    /* A savepoint in the transaction: set, kept, or undone.  keep and undo both end it. */
    int (*mark)(struct db_conn *conn, struct cc_err *err);
    int (*keep)(struct db_conn *conn, struct cc_err *err);
    int (*undo)(struct db_conn *conn, struct cc_err *err);

    /* Whether a transaction is open: some errors end it without being asked. */
    bool (*in_transaction)(struct db_conn *conn);

    /* Whether the connection can serve no more: what was not committed is undone, and a new one is needed. */
    bool (*is_broken)(struct db_conn *conn);

    /* Whether the same transaction may succeed when it is done again (it met another's, as in a deadlock). */
    bool (*is_passing)(const struct cc_err *err);

    /* Whether it waited too long for a lock that another held. */
    bool (*is_busy)(const struct cc_err *err);

    /*
     * In the transaction that brings the schema up to date, first: makes all others who want to do that wait, and makes
     * what the SQL relies on, db_now_ms().
     */
    int (*lock_schema)(struct db_conn *conn, struct cc_err *err);

    /* Whether such an error says that the database cannot be used just now, whatever the statement. */
    bool (*is_outage)(const struct cc_err *err);

    /* Whether it says that a table is not there. */
    bool (*is_no_table)(const struct cc_err *err);

    /* Several statements without parameters. */
    int (*script)(struct db_conn *conn, const char *sql, struct cc_err *err);

    int (*query)(struct db_conn *conn, const char *sql, const struct db_value *params, size_t count,
            struct db_rows **ret_rows, struct cc_err *err);
    int (*next)(struct db_rows *rows, struct cc_err *err);
    void (*rows_free)(struct db_rows *rows);
    int64_t (*changes)(struct db_rows *rows); /* after the last db_next() */

    bool (*is_null)(struct db_rows *rows, int column);
    int64_t (*get_int)(struct db_rows *rows, int column);
    const char *(*get_text)(struct db_rows *rows, int column);
    struct cc_bytes (*get_blob)(struct db_rows *rows, int column);
};

/* Each backend's connections and rows begin with this. */
struct db_conn {
    const struct db_backend *backend;
};

struct db_rows {
    const struct db_backend *backend;
};

extern const struct db_backend db_sqlite;
extern const struct db_backend db_postgres;

#endif
