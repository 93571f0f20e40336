/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <string.h>

#include "base/text.h"
#include "tenant_int.h"

/* The number of a table's next row. */
static int
next_seq(struct db_conn *conn, const char *sql, int64_t *ret, struct cc_err *err)
{
    struct db_rows *rows;

    if (tenant_one(conn, sql, DB_NO_PARAMS, &rows, err) != 1)
        return -1;
    *ret = db_int(rows, 0) + 1;
    db_rows_free(rows);
    return 0;
}

/* ---- challenges ---- */

struct add_op {
    const struct tenant_new_scep_challenge *challenges;
    size_t count;
};

static int
add_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct add_op *op = arg;
    int64_t seq;

    if (next_seq(conn, "SELECT COALESCE(MAX(seq), 0) FROM tenant_scep_challenge", &seq, err) != 0)
        return -1;
    for (size_t i = 0; i < op->count; i++) {
        const struct tenant_new_scep_challenge *c = &op->challenges[i];

        if (db_exec(conn,
                    "INSERT INTO tenant_scep_challenge"
                    " (seq, id, document, issued_ms, expires_ms, targeted)"
                    " VALUES ($1, $2, $3, $4, $5, 1)",
                    DB_PARAMS(DB_INT(seq + (int64_t)i), DB_TEXT(c->id), DB_TEXT(c->document),
                            DB_INT(c->issued_ms), DB_INT(c->expires_ms)),
                    NULL, err) != 0)
            return -1;
    }
    return 0;
}

int
tenant_scep_challenge_add(struct tenant_store *store,
        const struct tenant_new_scep_challenge *challenges, size_t count, struct cc_err *err)
{
    struct add_op op = { .challenges = challenges, .count = count };

    return db_write(store->db, add_all, &op, err);
}

struct untarget_op {
    const char *id;
    int64_t changes;
};

static int
untarget(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct untarget_op *op = arg;

    return db_exec(conn, "UPDATE tenant_scep_challenge SET targeted = 0 WHERE id = $1",
            DB_PARAMS(DB_TEXT(op->id)), &op->changes, err);
}

int
tenant_scep_challenge_untarget(struct tenant_store *store, const char *id, bool *ret_found,
        struct cc_err *err)
{
    struct untarget_op op = { .id = id };

    if (db_write(store->db, untarget, &op, err) != 0)
        return -1;
    *ret_found = op.changes > 0;
    return 0;
}

/* ---- a transaction's row ---- */

struct row {
    int64_t seq, validated, outcome;
    bool same_text; /* its notification is the one in hand */
};

/* 1 with the row, 0 without. */
static int
row_find(struct db_conn *conn, const char *transaction_id, struct cc_bytes csr_hash,
        const char *text, struct row *ret, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn,
            "SELECT seq, validated, outcome, notification FROM tenant_scep_transaction"
            " WHERE transaction_id = $1 AND csr_hash = $2",
            DB_PARAMS(DB_TEXT(transaction_id), DB_BLOB(csr_hash)), &rows, err);

    if (got != 1)
        return got;
    *ret = (struct row){ .seq = db_int(rows, 0),
        .validated = db_int(rows, 1),
        .outcome = db_int(rows, 2),
        .same_text = text != NULL && !db_is_null(rows, 3) && strcmp(db_text(rows, 3), text) == 0 };
    db_rows_free(rows);
    return 1;
}

/* ---- validations ---- */

struct validate_op {
    const struct tenant_scep_validation *validation;
    bool bound;
};

/* Of two requests that come with one challenge at the same time, one finds it bound. */
static int
bind_challenge(struct db_conn *conn, struct validate_op *op, struct cc_err *err)
{
    const struct tenant_scep_validation *v = op->validation;
    int64_t changes;

    op->bound = true;
    if (v->challenge_id == NULL)
        return 0;
    if (db_exec(conn,
                "UPDATE tenant_scep_challenge SET transaction_id = $1, csr_hash = $2"
                " WHERE id = $3 AND (transaction_id IS NULL"
                " OR (transaction_id = $1 AND csr_hash = $2))",
                DB_PARAMS(DB_TEXT(v->transaction_id), DB_BLOB(v->csr_hash),
                        DB_TEXT(v->challenge_id)),
                &changes, err) != 0)
        return -1;
    op->bound = changes > 0;
    return 0;
}

/* The oldest beyond the last TENANT_SCEP_REFUSED_MAX that were only refused. */
static int
forget_refused(struct db_conn *conn, struct cc_err *err)
{
    return db_exec(conn,
            "DELETE FROM tenant_scep_transaction WHERE validated = 0 AND seq <= ("
            "SELECT seq FROM tenant_scep_transaction WHERE validated = 0"
            " ORDER BY seq DESC LIMIT 1 OFFSET $1)",
            DB_PARAMS(DB_INT(TENANT_SCEP_REFUSED_MAX)), NULL, err);
}

static int
row_add(struct db_conn *conn, const struct tenant_scep_validation *v, bool good, const char *code,
        struct cc_err *err)
{
    int64_t seq;

    if (next_seq(conn, "SELECT COALESCE(MAX(seq), 0) FROM tenant_scep_transaction", &seq, err) != 0)
        return -1;
    if (db_exec(conn,
                "INSERT INTO tenant_scep_transaction (seq, transaction_id, csr_hash, challenge_id,"
                " validated, validations, last_code, first_ms, last_ms, outcome, notifications,"
                " contradictions, notified_ms, notified_last_ms)"
                " VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, 0, 0, 0, 0, 0)",
                DB_PARAMS(DB_INT(seq), DB_TEXT(v->transaction_id), DB_BLOB(v->csr_hash),
                        DB_TEXT(good ? v->challenge_id : NULL), DB_INT(good), DB_TEXT(code),
                        DB_INT(v->now_ms), DB_INT(v->now_ms)),
                NULL, err) != 0)
        return -1;
    return good ? 0 : forget_refused(conn, err);
}

static int
row_validated(struct db_conn *conn, const struct row *row, const struct tenant_scep_validation *v,
        bool good, const char *code, struct cc_err *err)
{
    if (db_exec(conn,
                "UPDATE tenant_scep_transaction SET validations = validations + 1, last_code = $1,"
                " last_ms = $2 WHERE seq = $3",
                DB_PARAMS(DB_TEXT(code), DB_INT(v->now_ms), DB_INT(row->seq)), NULL, err) != 0)
        return -1;
    if (!good)
        return 0;
    return db_exec(conn,
            "UPDATE tenant_scep_transaction SET validated = 1, challenge_id = $1 WHERE seq = $2",
            DB_PARAMS(DB_TEXT(v->challenge_id), DB_INT(row->seq)), NULL, err);
}

static int
validate(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct validate_op *op = arg;
    const struct tenant_scep_validation *v = op->validation;
    struct row row;
    const char *code;
    bool good;
    int got;

    if (bind_challenge(conn, op, err) != 0)
        return -1;
    good = v->challenge_id != NULL && op->bound;
    code = op->bound ? v->code : v->bound_code;
    if ((got = row_find(conn, v->transaction_id, v->csr_hash, NULL, &row, err)) < 0)
        return -1;
    if ((got == 1 ? row_validated(conn, &row, v, good, code, err)
                  : row_add(conn, v, good, code, err)) != 0)
        return -1;
    return tenant_counter_add(conn, good ? COUNTER_SCEP_VALIDATED : COUNTER_SCEP_REFUSED, 1, err);
}

int
tenant_scep_validate(struct tenant_store *store, const struct tenant_scep_validation *validation,
        bool *ret_bound, struct cc_err *err)
{
    struct validate_op op = { .validation = validation };

    if (db_write(store->db, validate, &op, err) != 0)
        return -1;
    *ret_bound = op.bound;
    return 0;
}

/* ---- notifications ---- */

struct notify_op {
    const struct tenant_scep_notification *notification;
    enum tenant_scep_verdict verdict;
};

static int
take(struct db_conn *conn, const struct row *row, const struct tenant_scep_notification *n,
        struct cc_err *err)
{
    return db_exec(conn,
            "UPDATE tenant_scep_transaction SET outcome = $1, notification = $2, caller_info = $3,"
            " notifications = 1, notified_ms = $4, notified_last_ms = $5 WHERE seq = $6",
            DB_PARAMS(DB_INT((int64_t)n->outcome), DB_TEXT(n->text), DB_TEXT(n->caller_info),
                    DB_INT(n->now_ms), DB_INT(n->now_ms), DB_INT(row->seq)),
            NULL, err);
}

static int
count_one(struct db_conn *conn, const struct row *row, const struct notify_op *op,
        struct cc_err *err)
{
    if (op->verdict == TENANT_SCEP_CONTRADICTED)
        return db_exec(conn,
                "UPDATE tenant_scep_transaction SET contradictions = contradictions + 1"
                " WHERE seq = $1",
                DB_PARAMS(DB_INT(row->seq)), NULL, err);
    return db_exec(conn,
            "UPDATE tenant_scep_transaction SET notifications = notifications + 1,"
            " notified_last_ms = $1 WHERE seq = $2",
            DB_PARAMS(DB_INT(op->notification->now_ms), DB_INT(row->seq)), NULL, err);
}

static const char *
counter_of(const struct notify_op *op)
{
    switch (op->verdict) {
    case TENANT_SCEP_ACCEPTED:
        return op->notification->outcome == TENANT_SCEP_SUCCEEDED ? COUNTER_SCEP_SUCCEEDED
                                                                  : COUNTER_SCEP_FAILED;
    case TENANT_SCEP_REPEATED:
        return COUNTER_SCEP_REPEATED;
    case TENANT_SCEP_CONTRADICTED:
        return COUNTER_SCEP_CONTRADICTED;
    case TENANT_SCEP_UNKNOWN:
        break;
    }
    return COUNTER_SCEP_UNKNOWN;
}

static int
notify(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct notify_op *op = arg;
    const struct tenant_scep_notification *n = op->notification;
    struct row row = { 0 };
    int rc = 0;

    if (row_find(conn, n->transaction_id, n->csr_hash, n->text, &row, err) < 0)
        return -1;
    if (row.validated == 0) {
        op->verdict = TENANT_SCEP_UNKNOWN;
    } else if (row.outcome == 0) {
        op->verdict = TENANT_SCEP_ACCEPTED;
        rc = take(conn, &row, n, err);
    } else {
        op->verdict = row.outcome == (int64_t)n->outcome && row.same_text
                              ? TENANT_SCEP_REPEATED
                              : TENANT_SCEP_CONTRADICTED;
        rc = count_one(conn, &row, op, err);
    }
    return rc == 0 ? tenant_counter_add(conn, counter_of(op), 1, err) : -1;
}

int
tenant_scep_notify(struct tenant_store *store, const struct tenant_scep_notification *notification,
        enum tenant_scep_verdict *ret_verdict, struct cc_err *err)
{
    struct notify_op op = { .notification = notification };

    if (db_write(store->db, notify, &op, err) != 0)
        return -1;
    *ret_verdict = op.verdict;
    return 0;
}
