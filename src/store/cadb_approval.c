/* SPDX-License-Identifier: MIT */
#include "store/cadb.h"

#include "cadb_int.h"

#define COLUMNS "request_id, profile, subject, decision, reason, asked_ms, decided_ms"

struct approval_op {
    const char *authority, *request_id, *reason;
    const struct cadb_approval *ask;
    enum cadb_decision decision;
    int64_t now_ms, count;
    cadb_approval_fn fn;
    void *arg;
};

static int
each_row(struct db_rows *rows, const struct approval_op *op, struct cc_err *err)
{
    int got;

    while ((got = db_next(rows, err)) > 0) {
        const struct cadb_approval approval = {
            .request_id = db_text(rows, 0),
            .profile = db_text(rows, 1),
            .subject = db_text(rows, 2),
            .decision = (enum cadb_decision)db_int(rows, 3),
            .reason = db_text(rows, 4),
            .asked_ms = db_int(rows, 5),
            .decided_ms = db_int(rows, 6),
        };

        if (op->fn(op->arg, &approval) != 0)
            break;
    }
    return got < 0 ? -1 : 0;
}

static int
ask(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct approval_op *op = arg;
    struct db_rows *rows = NULL;
    int64_t id;
    int rc;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0 ||
            db_exec(conn,
                    "INSERT INTO ca_approval (authority, request_id, profile, subject, decision,"
                    " asked_ms, decided_ms) VALUES ($1, $2, $3, $4, 0, $5, 0)"
                    " ON CONFLICT DO NOTHING",
                    DB_PARAMS(DB_INT(id), DB_TEXT(op->ask->request_id), DB_TEXT(op->ask->profile),
                            DB_TEXT(op->ask->subject), DB_INT(op->ask->asked_ms)),
                    NULL, err) != 0 ||
            db_query(conn,
                    "SELECT " COLUMNS " FROM ca_approval WHERE authority = $1 AND request_id = $2",
                    DB_PARAMS(DB_INT(id), DB_TEXT(op->ask->request_id)), &rows, err) != 0)
        return -1;
    rc = each_row(rows, op, err);
    db_rows_free(rows);
    return rc;
}

int
cadb_approval_ask(struct store *store, const char *authority, const struct cadb_approval *approval,
        cadb_approval_fn fn, void *arg, struct cc_err *err)
{
    struct approval_op op = { .authority = authority, .ask = approval, .fn = fn, .arg = arg };

    return db_write(store->db, ask, &op, err);
}

static int
decide(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct approval_op *op = arg;
    int64_t id;

    op->count = 0;
    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    if (op->request_id == NULL)
        return db_exec(conn,
                "UPDATE ca_approval SET decision = $1, reason = $2, decided_ms = $3"
                " WHERE authority = $4 AND decision = 0",
                DB_PARAMS(DB_INT(op->decision), DB_TEXT(op->reason), DB_INT(op->now_ms),
                        DB_INT(id)),
                &op->count, err);
    return db_exec(conn,
            "UPDATE ca_approval SET decision = $1, reason = $2, decided_ms = $3"
            " WHERE authority = $4 AND request_id = $5 AND decision = 0",
            DB_PARAMS(DB_INT(op->decision), DB_TEXT(op->reason), DB_INT(op->now_ms), DB_INT(id),
                    DB_TEXT(op->request_id)),
            &op->count, err);
}

int
cadb_approval_decide(struct store *store, const char *authority, const char *request_id,
        enum cadb_decision decision, const char *reason, int64_t now_ms, int64_t *ret_count,
        struct cc_err *err)
{
    struct approval_op op = { .authority = authority,
        .request_id = request_id,
        .decision = decision,
        .reason = reason,
        .now_ms = now_ms };

    if (db_write(store->db, decide, &op, err) != 0)
        return -1;
    *ret_count = op.count;
    return 0;
}

static int
walk(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct approval_op *op = arg;
    struct db_rows *rows = NULL;
    int64_t id;
    int rc;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0 ||
            db_query(conn,
                    "SELECT " COLUMNS " FROM ca_approval WHERE authority = $1 AND decision = 0"
                    " ORDER BY asked_ms, request_id",
                    DB_PARAMS(DB_INT(id)), &rows, err) != 0)
        return -1;
    rc = each_row(rows, op, err);
    db_rows_free(rows);
    return rc;
}

int
cadb_approval_walk(struct store *store, const char *authority, cadb_approval_fn fn, void *arg,
        struct cc_err *err)
{
    struct approval_op op = { .authority = authority, .fn = fn, .arg = arg };

    return db_read(store->db, walk, &op, err);
}

static int
prune(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct approval_op *op = arg;
    int64_t id;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    /* 1 and 5: reserved and abandoned, from which the request may have to be issued once more. */
    return db_exec(conn,
            "DELETE FROM ca_approval WHERE authority = $1 AND (asked_ms < $2"
            " OR EXISTS (SELECT 1 FROM ca_certificate WHERE ca_certificate.authority = $1"
            " AND ca_certificate.request_id = ca_approval.request_id AND state <> 5 AND state <> 1))",
            DB_PARAMS(DB_INT(id), DB_INT(op->now_ms)), NULL, err);
}

int
cadb_approval_prune(struct store *store, const char *authority, int64_t before_ms,
        struct cc_err *err)
{
    struct approval_op op = { .authority = authority, .now_ms = before_ms };

    return db_write(store->db, prune, &op, err);
}
