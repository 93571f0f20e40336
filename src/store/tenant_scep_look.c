/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <string.h>

#include "base/text.h"
#include "tenant_int.h"

/* ---- challenges ---- */

struct find_op {
    const char *id;
    tenant_scep_challenge_fn fn;
    void *arg;
};

static int
find_challenge(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct find_op *op = arg;
    struct tenant_scep_challenge c;
    struct db_rows *rows;
    int got = tenant_one(conn,
            "SELECT seq, id, document, issued_ms, expires_ms, targeted, transaction_id, csr_hash"
            " FROM tenant_scep_challenge WHERE id = $1",
            DB_PARAMS(DB_TEXT(op->id)), &rows, err);

    if (got != 1)
        return got;
    c = (struct tenant_scep_challenge){ .seq = db_int(rows, 0),
        .id = db_text(rows, 1),
        .document = db_text(rows, 2),
        .issued_ms = db_int(rows, 3),
        .expires_ms = db_int(rows, 4),
        .targeted = db_int(rows, 5) != 0,
        .transaction_id = db_text(rows, 6),
        .csr_hash = db_blob(rows, 7) };
    (void)op->fn(op->arg, &c);
    db_rows_free(rows);
    return 0;
}

int
tenant_scep_challenge_find(struct tenant_store *store, const char *id, tenant_scep_challenge_fn fn,
        void *arg, struct cc_err *err)
{
    struct find_op op = { .id = id, .fn = fn, .arg = arg };

    return db_read(store->db, find_challenge, &op, err);
}

/* ---- transactions ---- */

#define SELECT_TRANSACTION                                                                         \
    "SELECT seq, transaction_id, csr_hash, challenge_id, validations, last_code, first_ms,"        \
    " last_ms, outcome, notification, caller_info, notifications, contradictions, notified_ms,"    \
    " notified_last_ms FROM tenant_scep_transaction"

struct list_op {
    const struct tenant_scep_query *query;
    tenant_scep_transaction_fn fn;
    void *arg;
};

static int
query_transactions(struct db_conn *conn, const struct tenant_scep_query *q,
        struct db_rows **ret_rows, struct cc_err *err)
{
    if (q->transaction_id != NULL)
        return db_query(conn,
                SELECT_TRANSACTION " WHERE transaction_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
                DB_PARAMS(DB_TEXT(q->transaction_id), DB_INT(q->after_seq), DB_INT(q->limit)),
                ret_rows, err);
    return db_query(conn, SELECT_TRANSACTION " WHERE seq > $1 ORDER BY seq LIMIT $2",
            DB_PARAMS(DB_INT(q->after_seq), DB_INT(q->limit)), ret_rows, err);
}

static int
list_transactions(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct list_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (query_transactions(conn, op->query, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_scep_transaction t = { .seq = db_int(rows, 0),
            .transaction_id = db_text(rows, 1),
            .csr_hash = db_blob(rows, 2),
            .challenge_id = db_text(rows, 3),
            .validations = db_int(rows, 4),
            .last_code = db_text(rows, 5),
            .first_ms = db_int(rows, 6),
            .last_ms = db_int(rows, 7),
            .outcome = (enum tenant_scep_outcome)db_int(rows, 8),
            .notification = db_text(rows, 9),
            .caller_info = db_text(rows, 10),
            .notifications = db_int(rows, 11),
            .contradictions = db_int(rows, 12),
            .notified_ms = db_int(rows, 13),
            .notified_last_ms = db_int(rows, 14) };

        if (op->fn(op->arg, &t) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_scep_list(struct tenant_store *store, const struct tenant_scep_query *query,
        tenant_scep_transaction_fn fn, void *arg, struct cc_err *err)
{
    struct list_op op = { .query = query, .fn = fn, .arg = arg };

    return db_read(store->db, list_transactions, &op, err);
}

/* ---- counts ---- */

static void
put_counter(struct tenant_scep_counts *ret, const char *name, int64_t n)
{
    const struct {
        const char *name;
        int64_t *to;
    } counters[] = {
        { COUNTER_SCEP_VALIDATED, &ret->validated },
        { COUNTER_SCEP_REFUSED, &ret->refused },
        { COUNTER_SCEP_SUCCEEDED, &ret->succeeded },
        { COUNTER_SCEP_FAILED, &ret->failed },
        { COUNTER_SCEP_REPEATED, &ret->repeated },
        { COUNTER_SCEP_CONTRADICTED, &ret->contradicted },
        { COUNTER_SCEP_UNKNOWN, &ret->unknown },
    };

    for (size_t i = 0; i < CC_COUNT(counters); i++)
        if (strcmp(counters[i].name, name) == 0)
            *counters[i].to = n;
}

static int
read_counts(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct tenant_scep_counts *ret = arg;
    struct db_rows *rows = NULL;
    int got;

    memset(ret, 0, sizeof(*ret));
    if (db_query(conn, "SELECT name, n FROM tenant_counter WHERE name LIKE 'scep.%'", DB_NO_PARAMS,
                &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1)
        put_counter(ret, db_text(rows, 0), db_int(rows, 1));
    db_rows_free(rows);
    return got;
}

int
tenant_scep_count(struct tenant_store *store, struct tenant_scep_counts *ret, struct cc_err *err)
{
    struct tenant_scep_counts counts;

    if (db_read(store->db, read_counts, &counts, err) != 0)
        return -1;
    *ret = counts;
    return 0;
}
