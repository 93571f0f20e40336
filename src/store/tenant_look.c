/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tenant_int.h"

static const char *const state_names[TENANT_STATES] = {
    [TENANT_QUEUED] = "queued",
    [TENANT_LEASED] = "leased",
    [TENANT_COMPLETED] = "completed",
    [TENANT_FAILED] = "failed",
    [TENANT_CANCELLED] = "cancelled",
};

const char *
tenant_state_name(enum tenant_state state)
{
    if (state < TENANT_QUEUED || state >= TENANT_STATES)
        return "unknown";
    return state_names[state];
}

int
tenant_state_parse(const char *name)
{
    for (int i = TENANT_QUEUED; i < TENANT_STATES; i++)
        if (strcmp(name, state_names[i]) == 0)
            return i;
    return -1;
}

/* ---- requests ---- */

struct request_op {
    const struct tenant_request_query *query;
    const char *id;
    tenant_request_fn fn;
    void *arg;
};

#define SELECT_REQUEST                                                                             \
    "SELECT r.seq, r.id, r.feature, d.kind, COALESCE(b.upn, d.upn), b.thumbprint,"                 \
    " COALESCE(b.device_id, d.device_id), r.state, r.attempt, r.failures, r.connector_id,"         \
    " r.created_ms, r.updated_ms, r.due_ms"                                                        \
    " FROM tenant_request r LEFT JOIN tenant_request_body b ON b.seq = r.seq"                      \
    " LEFT JOIN tenant_request_document d ON d.seq = r.seq"

static int
query_newest(struct db_conn *conn, const struct tenant_request_query *q, struct db_rows **ret_rows,
        struct cc_err *err)
{
    if (q->state == 0)
        return db_query(conn,
                SELECT_REQUEST " WHERE r.feature = COALESCE($1, r.feature) AND r.seq < $2"
                               " ORDER BY r.seq DESC LIMIT $3",
                DB_PARAMS(DB_TEXT(q->feature), DB_INT(q->after_seq), DB_INT(q->limit)), ret_rows,
                err);
    return db_query(conn,
            SELECT_REQUEST " WHERE r.state = $1 AND r.feature = COALESCE($2, r.feature)"
                           " AND r.seq < $3 ORDER BY r.seq DESC LIMIT $4",
            DB_PARAMS(DB_INT((int64_t)q->state), DB_TEXT(q->feature), DB_INT(q->after_seq),
                    DB_INT(q->limit)),
            ret_rows, err);
}

static int
query_requests(struct db_conn *conn, const struct request_op *op, struct db_rows **ret_rows,
        struct cc_err *err)
{
    const struct tenant_request_query *q = op->query;

    if (op->id != NULL)
        return db_query(conn, SELECT_REQUEST " WHERE r.id = $1", DB_PARAMS(DB_TEXT(op->id)),
                ret_rows, err);
    if (q->newest_first)
        return query_newest(conn, q, ret_rows, err);
    if (q->state == 0)
        return db_query(conn,
                SELECT_REQUEST " WHERE r.feature = COALESCE($1, r.feature) AND r.seq > $2"
                               " ORDER BY r.seq LIMIT $3",
                DB_PARAMS(DB_TEXT(q->feature), DB_INT(q->after_seq), DB_INT(q->limit)), ret_rows,
                err);
    return db_query(conn,
            SELECT_REQUEST " WHERE r.state = $1 AND r.feature = COALESCE($2, r.feature)"
                           " AND r.seq > $3 ORDER BY r.seq LIMIT $4",
            DB_PARAMS(DB_INT((int64_t)q->state), DB_TEXT(q->feature), DB_INT(q->after_seq),
                    DB_INT(q->limit)),
            ret_rows, err);
}

static int
read_requests(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct request_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (query_requests(conn, op, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_request r = { .seq = db_int(rows, 0),
            .request_id = db_text(rows, 1),
            .feature = db_text(rows, 2),
            .kind = db_text(rows, 3),
            .user = db_text(rows, 4),
            .thumbprint = db_text(rows, 5),
            .device_id = db_text(rows, 6),
            .state = (enum tenant_state)db_int(rows, 7),
            .attempt = (int)db_int(rows, 8),
            .failures = (int)db_int(rows, 9),
            .connector_id = db_text(rows, 10),
            .created_ms = db_int(rows, 11),
            .updated_ms = db_int(rows, 12),
            .due_ms = db_int(rows, 13) };

        if (op->fn(op->arg, &r) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_request_list(struct tenant_store *store, const struct tenant_request_query *query,
        tenant_request_fn fn, void *arg, struct cc_err *err)
{
    struct request_op op = { .query = query, .fn = fn, .arg = arg };

    return db_read(store->db, read_requests, &op, err);
}

int
tenant_request_find(struct tenant_store *store, const char *request_id, tenant_request_fn fn,
        void *arg, struct cc_err *err)
{
    struct request_op op = { .id = request_id, .fn = fn, .arg = arg };

    return db_read(store->db, read_requests, &op, err);
}

/* ---- history ---- */

struct history_op {
    int64_t seq;
    tenant_event_fn fn;
    void *arg;
};

static int
read_history(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct history_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT time_ms, what, connector_id, attempt, lease_until_ms, verdict, requeued,"
                " result FROM tenant_event WHERE request = $1 ORDER BY n",
                DB_PARAMS(DB_INT(op->seq)), &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_event e = { .time_ms = db_int(rows, 0),
            .what = db_text(rows, 1),
            .connector_id = db_text(rows, 2),
            .attempt = (int)db_int(rows, 3),
            .lease_until_ms = db_int(rows, 4),
            .verdict = (enum tenant_verdict)db_int(rows, 5),
            .requeued = db_int(rows, 6) != 0,
            .result = db_text(rows, 7) };

        if (op->fn(op->arg, &e) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_request_history(struct tenant_store *store, int64_t seq, tenant_event_fn fn, void *arg,
        struct cc_err *err)
{
    struct history_op op = { .seq = seq, .fn = fn, .arg = arg };

    return db_read(store->db, read_history, &op, err);
}

/* ---- counts ---- */

struct states_op {
    const char *feature; /* NULL: all */
    int64_t by_state[TENANT_STATES];
};

static int
read_states(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct states_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    memset(op->by_state, 0, sizeof(op->by_state));
    if (op->feature == NULL)
        got = db_query(conn, "SELECT state, COUNT(*) FROM tenant_request GROUP BY state",
                DB_NO_PARAMS, &rows, err);
    else
        got = db_query(conn,
                "SELECT state, COUNT(*) FROM tenant_request WHERE feature = $1 GROUP BY state",
                DB_PARAMS(DB_TEXT(op->feature)), &rows, err);
    if (got != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        int64_t state = db_int(rows, 0);

        if (state > 0 && state < TENANT_STATES)
            op->by_state[state] = db_int(rows, 1);
    }
    db_rows_free(rows);
    return got;
}

int
tenant_count_feature(struct tenant_store *store, const char *feature,
        int64_t ret_by_state[TENANT_STATES], struct cc_err *err)
{
    struct states_op op = { .feature = feature };

    if (db_read(store->db, read_states, &op, err) != 0)
        return -1;
    memcpy(ret_by_state, op.by_state, sizeof(op.by_state));
    return 0;
}

static void
put_counter(struct tenant_counts *ret, const char *name, int64_t n)
{
    const char *verdict = name + strlen(COUNTER_UPLOADS);

    if (strcmp(name, COUNTER_LEASES) == 0)
        ret->leases = n;
    else if (strcmp(name, COUNTER_RELEASED) == 0)
        ret->released = n;
    else if (strcmp(name, COUNTER_REQUEUED) == 0)
        ret->requeued = n;
    else if (cc_starts_with(name, COUNTER_UPLOADS) && verdict[0] > '0' &&
             verdict[0] < '0' + TENANT_VERDICTS)
        ret->by_verdict[verdict[0] - '0'] = n;
}

static int
read_counts(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct tenant_counts *ret = arg;
    struct states_op states = { .feature = NULL };
    struct db_rows *rows = NULL;
    int got;

    memset(ret, 0, sizeof(*ret));
    if (read_states(conn, &states, err) != 0)
        return -1;
    memcpy(ret->by_state, states.by_state, sizeof(states.by_state));
    if (db_query(conn, "SELECT name, n FROM tenant_counter", DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1)
        put_counter(ret, db_text(rows, 0), db_int(rows, 1));
    db_rows_free(rows);
    return got;
}

int
tenant_count(struct tenant_store *store, struct tenant_counts *ret, struct cc_err *err)
{
    struct tenant_counts counts;

    if (db_read(store->db, read_counts, &counts, err) != 0)
        return -1;
    *ret = counts;
    return 0;
}
