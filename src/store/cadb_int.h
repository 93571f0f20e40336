/* SPDX-License-Identifier: MIT */
#ifndef CADB_INT_H
#define CADB_INT_H

/* Shared by the files of the CAs' database. */

#include "store/cadb.h"
#include "store_int.h"

/* -1 with CC_DOM_STORE/0 when there is no authority of this name. */
CC_MUST int cadb_authority_id(struct db_conn *conn, const char *name, int64_t *ret_id,
        struct cc_err *err);

/*
 * The same for closures that read and then write what they decided by it: until the transaction ends nobody else does
 * that to this authority.  (SQLite has one writer anyway; elsewhere the row's lock makes the others wait.)
 */
CC_MUST int cadb_authority_lock(struct db_conn *conn, const char *name, int64_t *ret_id,
        struct cc_err *err);

/* A certificate went from one state (0: there was no row) to another. */
struct cadb_step {
    int from, to;
};
CC_MUST int cadb_account(struct db_conn *conn, const struct store *store, int64_t authority,
        const struct cadb_step *step, struct cc_err *err);

/* The next number of a change of revocation, with the authority locked; and the last. */
CC_MUST int cadb_next_change(struct db_conn *conn, int64_t authority, struct cc_err *err);
CC_MUST int cadb_change(struct db_conn *conn, int64_t authority, int64_t *ret_change,
        struct cc_err *err);

/* Serials in error texts. */
#define CADB_HEX_LEN (2 * CADB_SERIAL_MAX + 1)
const char *cadb_serial_hex(struct cc_bytes serial, char ret_text[CADB_HEX_LEN]);

CC_MUST int cadb_serial_check(struct cc_bytes serial, struct cc_err *err);

#endif
