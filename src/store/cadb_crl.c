/* SPDX-License-Identifier: MIT */
#include "store/cadb.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "cadb_int.h"

#define PIECE_MAX ((size_t)1024 * 1024)

struct crl_op {
    const char *authority;
    enum cadb_crl_kind kind;
    const struct cadb_crl *put;
    struct cadb_crl got;
    int fd;
    off_t start; /* where in fd the DER to be stored begins */
    uint8_t *piece;
    size_t piece_len;
    int64_t n; /* of the piece */
    int64_t number;
    bool done; /* stored, or found; dropping: there is none left */
};

/* ---- numbers ---- */

static int
next_number(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct crl_op *op = arg;
    struct db_rows *rows = NULL;
    int64_t id;
    int got;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    if (db_exec(conn, "UPDATE ca_authority SET crl_number = crl_number + 1 WHERE id = $1",
                DB_PARAMS(DB_INT(id)), NULL, err) != 0)
        return -1;
    if (db_query(conn, "SELECT crl_number FROM ca_authority WHERE id = $1", DB_PARAMS(DB_INT(id)),
                &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        op->number = db_int(rows, 0);
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
cadb_crl_next_number(struct store *store, const char *authority, int64_t *ret_number,
        struct cc_err *err)
{
    struct crl_op op = { .authority = authority };

    if (db_write(store->db, next_number, &op, err) != 0)
        return -1;
    *ret_number = op.number;
    return 0;
}

/* ---- the row of a CRL ---- */

/* 1 with *ret, 0 when there is none, -1. */
static int
read_crl(struct db_conn *conn, int64_t authority, enum cadb_crl_kind kind, struct cadb_crl *ret,
        struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT number, base_number, change, this_update_ms, next_update_ms, len"
                " FROM ca_crl WHERE authority = $1 AND kind = $2",
                DB_PARAMS(DB_INT(authority), DB_INT(kind)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        *ret = (struct cadb_crl){ kind, db_int(rows, 0), db_int(rows, 1), db_int(rows, 2),
            db_int(rows, 3), db_int(rows, 4), db_int(rows, 5) };
    db_rows_free(rows);
    return got;
}

static int
write_crl(struct db_conn *conn, int64_t authority, const struct cadb_crl *crl, struct cc_err *err)
{
    if (db_exec(conn,
                "INSERT INTO ca_crl (authority, kind, number, base_number, change, this_update_ms,"
                " next_update_ms, len) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
                " ON CONFLICT (authority, kind) DO UPDATE SET number = excluded.number,"
                " base_number = excluded.base_number, change = excluded.change,"
                " this_update_ms = excluded.this_update_ms,"
                " next_update_ms = excluded.next_update_ms, len = excluded.len",
                DB_PARAMS(DB_INT(authority), DB_INT(crl->kind), DB_INT(crl->number),
                        DB_INT(crl->base_number), DB_INT(crl->change), DB_INT(crl->this_update_ms),
                        DB_INT(crl->next_update_ms), DB_INT(crl->len)),
                NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "INSERT INTO ca_crl_change (authority, change) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            DB_PARAMS(DB_INT(authority), DB_INT(crl->change)), NULL, err);
}

/* ---- put ---- */

/* All of len bytes at a place in the file. */
static int
read_at(int fd, uint8_t *data, size_t len, off_t place, struct cc_err *err)
{
    while (len > 0) {
        ssize_t n = pread(fd, data, len, place);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cc_err_set_errno(err, errno, "read the CRL");
        if (n == 0)
            return cc_err_set(err, CC_DOM_INTERNAL, 0, "the CRL is shorter than was said");
        data += n;
        place += n;
        len -= (size_t)n;
    }
    return 0;
}

/*
 * The pieces go into the store one by one, under the number of their CRL, before it takes the place of the last, whose
 * pieces then go as they came: in one transaction memory would grow with both.  What a crash leaves goes with the next.
 */
static int
put_piece(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct crl_op *op = arg;
    int64_t id;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    return db_exec(conn,
            "INSERT INTO ca_crl_piece (authority, kind, number, n, data) VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (authority, kind, number, n) DO UPDATE SET data = excluded.data",
            DB_PARAMS(DB_INT(id), DB_INT(op->put->kind), DB_INT(op->put->number), DB_INT(op->n),
                    DB_BLOB(((struct cc_bytes){ op->piece, op->piece_len }))),
            NULL, err);
}

static int
put_pieces(struct store *store, struct crl_op *op, struct cc_err *err)
{
    int64_t left = op->put->len;
    off_t place = op->start;

    for (op->n = 0; left > 0; op->n++) {
        op->piece_len = left < (int64_t)PIECE_MAX ? (size_t)left : PIECE_MAX;
        if (read_at(op->fd, op->piece, op->piece_len, place, err) != 0 ||
                db_write(store->db, put_piece, op, err) != 0)
            return -1;
        place += (off_t)op->piece_len;
        left -= (int64_t)op->piece_len;
    }
    return 0;
}

static int
put(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct crl_op *op = arg;
    struct cadb_crl before;
    int64_t id;
    int got;

    if (cadb_authority_lock(conn, op->authority, &id, err) != 0)
        return -1;
    if ((got = read_crl(conn, id, op->put->kind, &before, err)) < 0)
        return -1;
    op->done = got == 0 || before.number <= op->put->number;
    op->number = op->done ? op->put->number : before.number;
    return op->done ? write_crl(conn, id, op->put, err) : 0;
}

/* One piece of a CRL that came before. */
static int
drop_piece(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct crl_op *op = arg;
    int64_t id, changes = 0;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    if (db_exec(conn,
                "DELETE FROM ca_crl_piece WHERE (authority, kind, number, n) IN"
                " (SELECT authority, kind, number, n FROM ca_crl_piece"
                " WHERE authority = $1 AND kind = $2 AND number < $3 LIMIT 1)",
                DB_PARAMS(DB_INT(id), DB_INT(op->put->kind), DB_INT(op->number)), &changes,
                err) != 0)
        return -1;
    op->done = changes == 0;
    return 0;
}

int
cadb_crl_put(struct store *store, const char *authority, const struct cadb_crl *crl, int fd,
        bool *ret_stored, struct cc_err *err)
{
    struct crl_op op = { .authority = authority, .put = crl, .fd = fd };
    int rc = -1;

    if ((op.start = lseek(fd, 0, SEEK_CUR)) < 0)
        return cc_err_set_errno(err, errno, "read the CRL");
    if ((op.piece = malloc(PIECE_MAX)) == NULL)
        return cc_err_nomem(err);
    if (put_pieces(store, &op, err) != 0 || db_write(store->db, put, &op, err) != 0)
        goto out;
    *ret_stored = op.done;
    rc = 0;
    for (op.done = false; rc == 0 && !op.done;)
        rc = db_write(store->db, drop_piece, &op, err);
out:
    if (rc != 0)
        cc_err_in(err, "store CRL %lld", (long long)crl->number);
    free(op.piece);
    return rc;
}

/* ---- get ---- */

static int
copy_pieces(struct db_conn *conn, int64_t authority, const struct crl_op *op, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT data FROM ca_crl_piece WHERE authority = $1 AND kind = $2 AND number = $3"
                " ORDER BY n",
                DB_PARAMS(DB_INT(authority), DB_INT(op->kind), DB_INT(op->got.number)), &rows,
                err) != 0)
        return -1;
    while ((got = db_next(rows, err)) > 0) {
        struct cc_bytes piece = db_blob(rows, 0);

        if (cc_fd_write_all(op->fd, piece.data, piece.len, err) != 0) {
            got = -1;
            break;
        }
    }
    db_rows_free(rows);
    return got;
}

static int
get(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct crl_op *op = arg;
    int64_t id;
    int got;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    if ((got = read_crl(conn, id, op->kind, &op->got, err)) < 0)
        return -1;
    op->done = got > 0;
    return op->done && op->fd >= 0 ? copy_pieces(conn, id, op, err) : 0;
}

int
cadb_crl_get(struct store *store, const char *authority, enum cadb_crl_kind kind, bool *ret_found,
        struct cadb_crl *ret, int fd, struct cc_err *err)
{
    struct crl_op op = { .authority = authority, .kind = kind, .fd = fd };

    if (db_read(store->db, get, &op, err) != 0)
        return -1;
    *ret_found = op.done;
    if (op.done)
        *ret = op.got;
    return 0;
}
