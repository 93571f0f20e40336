/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <string.h>

#include "base/text.h"
#include "tenant_int.h"

static const char *const state_names[TENANT_REVOCATION_STATES] = {
    [TENANT_REVOCATION_QUEUED] = "queued",
    [TENANT_REVOCATION_DELIVERED] = "delivered",
    [TENANT_REVOCATION_COMPLETED] = "completed",
    [TENANT_REVOCATION_FAILED] = "failed",
};

const char *
tenant_revocation_state_name(enum tenant_revocation_state state)
{
    if (state < TENANT_REVOCATION_QUEUED || state >= TENANT_REVOCATION_STATES)
        return "unknown";
    return state_names[state];
}

int
tenant_revocation_state_parse(const char *name)
{
    for (int i = TENANT_REVOCATION_QUEUED; i < TENANT_REVOCATION_STATES; i++)
        if (strcmp(name, state_names[i]) == 0)
            return i;
    return -1;
}

/* ---- requests ---- */

#define SELECT_REVOCATION                                                                          \
    "SELECT seq, id, context, serial_number, issuer_name, ca_configuration, state, deliveries,"    \
    " created_ms, updated_ms FROM tenant_revocation"

/* Calls fn for each row and frees them. */
static int
each_row(struct db_rows *rows, tenant_revocation_fn fn, void *arg, bool *ret_stopped,
        struct cc_err *err)
{
    int got;

    while ((got = db_next(rows, err)) == 1) {
        struct tenant_revocation r = { .seq = db_int(rows, 0),
            .request_id = db_text(rows, 1),
            .context = db_text(rows, 2),
            .serial_number = db_text(rows, 3),
            .issuer_name = db_text(rows, 4),
            .ca_configuration = db_text(rows, 5),
            .state = (enum tenant_revocation_state)db_int(rows, 6),
            .deliveries = (int)db_int(rows, 7),
            .created_ms = db_int(rows, 8),
            .updated_ms = db_int(rows, 9) };

        if ((*ret_stopped = fn(arg, &r) != 0))
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_revocation_read(struct db_conn *conn, int64_t seq, tenant_revocation_fn fn, void *arg,
        bool *ret_stopped, struct cc_err *err)
{
    struct db_rows *rows = NULL;

    if (db_query(conn, SELECT_REVOCATION " WHERE seq = $1", DB_PARAMS(DB_INT(seq)), &rows, err) !=
            0)
        return -1;
    return each_row(rows, fn, arg, ret_stopped, err);
}

struct look_op {
    const struct tenant_revocation_query *query;
    const char *id;
    tenant_revocation_fn fn;
    void *arg;
};

static int
query_revocations(struct db_conn *conn, const struct look_op *op, struct db_rows **ret_rows,
        struct cc_err *err)
{
    const struct tenant_revocation_query *q = op->query;

    if (op->id != NULL)
        return db_query(conn, SELECT_REVOCATION " WHERE id = $1", DB_PARAMS(DB_TEXT(op->id)),
                ret_rows, err);
    if (q->state == 0)
        return db_query(conn, SELECT_REVOCATION " WHERE seq > $1 ORDER BY seq LIMIT $2",
                DB_PARAMS(DB_INT(q->after_seq), DB_INT(q->limit)), ret_rows, err);
    return db_query(conn, SELECT_REVOCATION " WHERE state = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            DB_PARAMS(DB_INT((int64_t)q->state), DB_INT(q->after_seq), DB_INT(q->limit)), ret_rows,
            err);
}

static int
read_revocations(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct look_op *op = arg;
    struct db_rows *rows = NULL;
    bool stopped;

    if (query_revocations(conn, op, &rows, err) != 0)
        return -1;
    return each_row(rows, op->fn, op->arg, &stopped, err);
}

int
tenant_revocation_list(struct tenant_store *store, const struct tenant_revocation_query *query,
        tenant_revocation_fn fn, void *arg, struct cc_err *err)
{
    struct look_op op = { .query = query, .fn = fn, .arg = arg };

    return db_read(store->db, read_revocations, &op, err);
}

int
tenant_revocation_find(struct tenant_store *store, const char *request_id, tenant_revocation_fn fn,
        void *arg, struct cc_err *err)
{
    struct look_op op = { .id = request_id, .fn = fn, .arg = arg };

    return db_read(store->db, read_revocations, &op, err);
}

/* ---- history ---- */

struct history_op {
    int64_t seq;
    tenant_revocation_event_fn fn;
    void *arg;
};

static int
read_history(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct history_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT time_ms, what, verdict, requeued, result FROM tenant_revocation_event"
                " WHERE request = $1 ORDER BY n",
                DB_PARAMS(DB_INT(op->seq)), &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_revocation_event e = { .time_ms = db_int(rows, 0),
            .what = db_text(rows, 1),
            .verdict = (enum tenant_revocation_verdict)db_int(rows, 2),
            .requeued = db_int(rows, 3) != 0,
            .result = db_text(rows, 4) };

        if (op->fn(op->arg, &e) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_revocation_history(struct tenant_store *store, int64_t seq, tenant_revocation_event_fn fn,
        void *arg, struct cc_err *err)
{
    struct history_op op = { .seq = seq, .fn = fn, .arg = arg };

    return db_read(store->db, read_history, &op, err);
}

/* ---- counts ---- */

static int
read_states(struct db_conn *conn, struct tenant_revocation_counts *ret, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT state, COUNT(*) FROM tenant_revocation GROUP BY state", DB_NO_PARAMS,
                &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        int64_t state = db_int(rows, 0);

        if (state > 0 && state < TENANT_REVOCATION_STATES)
            ret->by_state[state] = db_int(rows, 1);
    }
    db_rows_free(rows);
    return got;
}

static void
put_counter(struct tenant_revocation_counts *ret, const char *name, int64_t n)
{
    const char *verdict = name + strlen(COUNTER_REVOCATION_UPLOADS);

    if (strcmp(name, COUNTER_REVOCATION_DELIVERIES) == 0)
        ret->deliveries = n;
    else if (strcmp(name, COUNTER_REVOCATION_REQUEUED) == 0)
        ret->requeued = n;
    else if (cc_starts_with(name, COUNTER_REVOCATION_UPLOADS) && verdict[0] > '0' &&
             verdict[0] < '0' + TENANT_REVOCATION_VERDICTS)
        ret->by_verdict[verdict[0] - '0'] = n;
}

static int
read_counts(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct tenant_revocation_counts *ret = arg;
    struct db_rows *rows = NULL;
    int got;

    memset(ret, 0, sizeof(*ret));
    if (read_states(conn, ret, err) != 0)
        return -1;
    if (db_query(conn, "SELECT name, n FROM tenant_counter WHERE name LIKE 'revocation.%'",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1)
        put_counter(ret, db_text(rows, 0), db_int(rows, 1));
    db_rows_free(rows);
    return got;
}

int
tenant_revocation_count(struct tenant_store *store, struct tenant_revocation_counts *ret,
        struct cc_err *err)
{
    struct tenant_revocation_counts counts;

    if (db_read(store->db, read_counts, &counts, err) != 0)
        return -1;
    *ret = counts;
    return 0;
}
