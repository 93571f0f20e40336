/* SPDX-License-Identifier: MIT */
#ifndef STORE_DB_H
#define STORE_DB_H

/*
 * The database behind the room's calls; private to src/store.
 *
 * What speaks SQL here (store.c, journal.c, tenant.c) speaks it through a struct db_conn, which it gets as the
 * argument of a closure:
 *
 *   db_write()  hands the closure to the one writer thread.  That thread runs all closures that wait in one
 *               transaction, each in a savepoint of its own, so that one's failure leaves the others as they are;
 *               commits once; and wakes their callers (group commit).  It returns 0 when the commit is durable.
 *   db_read()   runs the closure in the caller's thread, on a connection borrowed from a small pool, in one
 *               transaction: all its queries see the same state.
 *
 *   static int
 *   rename_it(struct db_conn *conn, void *arg, struct cc_err *err)
 *   {
 *       struct renaming *r = arg;
 *
 *       return db_exec(conn, "UPDATE thing SET name = $1 WHERE id = $2",
 *               DB_PARAMS(DB_TEXT(r->name), DB_INT(r->id)), &r->changes, err);
 *   }
 *
 * A closure must not call db_write() or db_read(), and must not wait for anything else.  What it writes through arg
 * means something only when db_write() or db_read() returned 0.  It may be run again from its beginning (a database
 * may refuse a transaction and want it repeated, or be lost before it committed), so it must not change its input.  One
 * that only reads is not run again once it has seen a row, which it may have handed on.
 *
 * SQL is written for SQLite and PostgreSQL alike: placeholders $1, $2 ... in the order of their first appearance
 * (checked); columns BIGINT, TEXT and BYTEA; ON CONFLICT ... DO UPDATE; no automatic row numbers; db_now_ms(), the
 * database's clock, for everything that several programs measure (leases); DB_SKIP_LOCKED at the end of a query of rows
 * that nobody else shall take meanwhile.
 *
 * On SQLite writers come one after the other.  On PostgreSQL those of several programs run side by side, each statement
 * seeing what was committed before it (READ COMMITTED): a closure that decides by what it read locks first.  Rows that
 * all programs write are avoided, for each waits there until the other's disk has written; see store_int.h.
 *
 * Errors are CC_DOM_STORE with the library's code, or one of enum db_fault.  Threads: any, for everything that takes a
 * struct db; a struct db_conn and its rows belong to the closure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/histogram.h"

struct db;
struct db_conn;
struct db_rows;

/* Codes of CC_DOM_STORE that are no library's. */
enum db_fault {
    DB_FAULT_AWAY = -1,    /* the database cannot be reached; it is tried again */
    DB_FAULT_UNKNOWN = -2, /* whether the transaction was committed could not be found out */
    DB_FAULT_FENCED = -3   /* the guard's: nothing of ours is written any more */
};

/* Schema: numbered steps 1, 2, 3 ... without a gap, never changed once released, only added to. */
struct db_step {
    int number;
    const char *what; /* what changes and why, for people */
    const char *sql;  /* one or more statements */
};

struct db_schema {
    const char *name; /* one database may hold several: "connector", "tenant" */
    const struct db_step *steps;
    size_t count;
    /* A program must know so many steps to go on with a database that has them all; 0: all. */
    size_t oldest;
};

/*
 * uri: "sqlite:PATH", "sqlite::memory:" or a connection URI of libpq without a password.  Runs the steps that are
 * missing, in one transaction, one program at a time.  A database with more steps than the program knows is used
 * where these allow it (oldest), so that two versions can run side by side, and else refused.  The schema is borrowed
 * during the call only.
 */
CC_MUST int db_open(const char *uri, const struct db_schema *schema, struct db **ret_db,
        struct cc_err *err);
void db_close(struct db *db); /* accepts NULL; no call may be under way */

/* Which steps a database has, without running any or making a file: 0 where there is nothing. */
struct db_look {
    bool shared; /* db_is_shared() */
    int64_t version;
    int64_t oldest; /* as in struct db_schema */
};
CC_MUST int db_look(const char *uri, const struct db_schema *schema, struct db_look *ret,
        struct cc_err *err);

/* Whether uri has a form that db_open() knows. */
CC_MUST int db_check_uri(const char *uri, struct cc_err *err);

/* Whether several programs on several machines may use it at once. */
bool db_is_shared(const struct db *db);

/* Whether the same call may succeed a little later. */
bool db_is_passing(const struct db *db, const struct cc_err *err);

/* Where it is not shared: makes sure that no other program does the same, until db_close(). */
CC_MUST int db_hold_alone(struct db *db, struct cc_err *err);

typedef int (*db_fn)(struct db_conn *conn, void *arg, struct cc_err *err);

CC_MUST int db_write(struct db *db, db_fn fn, void *arg, struct cc_err *err);
CC_MUST int db_read(struct db *db, db_fn fn, void *arg, struct cc_err *err);

/*
 * A guard stands before every transaction that writes, and knows of each whether it was committed.  A connection may be
 * lost while the answer to a commit is awaited: then the guard is asked on the next one.  Without a guard, or when the
 * database stays away too long, the calls of that transaction fail with DB_FAULT_UNKNOWN.
 */
struct db_guard {
    /* First in the transaction; -1 (DB_FAULT_FENCED) refuses it. */
    int (*enter)(struct db_conn *conn, void *arg, struct cc_err *err);
    /* Whether the transaction that was entered last was committed; in one of its own, waiting for the other to end. */
    int (*look)(struct db_conn *conn, void *arg, bool *ret_committed, struct cc_err *err);
    void *arg;
};

/* For the transactions that follow; NULL: none.  The struct is copied. */
void db_set_guard(struct db *db, const struct db_guard *guard);

/*
 * fn is called after each db_write() and db_read() that failed because the database cannot be used (full, read-only,
 * broken, away), in the thread that made the call.  Set before others call.
 */
typedef void (*db_outage_fn)(void *arg, const struct cc_err *err);
void db_watch(struct db *db, db_outage_fn fn, void *arg);

/* How group commit does, since db_open(). */
struct db_stats {
    uint64_t writes;                        /* closures handed to db_write() and ended */
    uint64_t commits;                       /* transactions they took */
    uint64_t failed;                        /* of the writes, those that ended in an error */
    struct cc_histogram_values commit_time; /* from the beginning of a transaction to its end */
    uint64_t reconnects;                    /* for writing, after the connection had been lost */
};
void db_stats(struct db *db, struct db_stats *ret);

/* Parameters: borrowed until the call returns (db_query: until db_rows_free). */
enum db_type { DB_TYPE_NULL, DB_TYPE_INT, DB_TYPE_TEXT, DB_TYPE_BLOB };

struct db_value {
    enum db_type type;
    int64_t number;
    struct cc_bytes bytes;
};

static inline struct db_value
db_value_int(int64_t number)
{
    return (struct db_value){ .type = DB_TYPE_INT, .number = number };
}

/* NULL becomes an SQL NULL. */
static inline struct db_value
db_value_text(const char *text)
{
    if (text == NULL)
        return (struct db_value){ .type = DB_TYPE_NULL };
    return (struct db_value){ .type = DB_TYPE_TEXT, .bytes = cc_bytes_of_str(text) };
}

/* Without data an SQL NULL. */
static inline struct db_value
db_value_blob(struct cc_bytes bytes)
{
    if (bytes.data == NULL)
        return (struct db_value){ .type = DB_TYPE_NULL };
    return (struct db_value){ .type = DB_TYPE_BLOB, .bytes = bytes };
}

#define DB_INT(number) db_value_int(number)
#define DB_TEXT(text) db_value_text(text)
#define DB_BLOB(bytes) db_value_blob(bytes)

/* The two arguments "params, count" in one. */
#define DB_PARAMS(...)                                                                             \
    ((const struct db_value[]){ __VA_ARGS__ }),                                                    \
            (sizeof((const struct db_value[]){ __VA_ARGS__ }) / sizeof(struct db_value))
#define DB_SKIP_LOCKED " FOR UPDATE SKIP LOCKED"
#define DB_NO_PARAMS ((const struct db_value *)NULL), ((size_t)0)

/* One statement without rows to read.  *ret_changes: rows inserted, updated or deleted; may be NULL. */
CC_MUST int db_exec(struct db_conn *conn, const char *sql, const struct db_value *params,
        size_t count, int64_t *ret_changes, struct cc_err *err);

/*
 * One statement with rows, read by db_next(): 1 with a row, 0 after the last, -1.  Rows are freed before the closure
 * returns.  Statements are kept prepared, so their texts should be few.
 */
CC_MUST int db_query(struct db_conn *conn, const char *sql, const struct db_value *params,
        size_t count, struct db_rows **ret_rows, struct cc_err *err);
CC_MUST int db_next(struct db_rows *rows, struct cc_err *err);
void db_rows_free(struct db_rows *rows); /* accepts NULL */

/* Columns of the present row, counted from 0; borrowed until the next db_next().  A NULL is 0, NULL, no bytes. */
bool db_is_null(struct db_rows *rows, int column);
int64_t db_int(struct db_rows *rows, int column);
const char *db_text(struct db_rows *rows, int column);
struct cc_bytes db_blob(struct db_rows *rows, int column);

#endif
