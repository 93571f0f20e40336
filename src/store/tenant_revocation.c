/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tenant_int.h"

#define CLOCK "revocation" /* when its cool-down began */

static int
event_add(struct db_conn *conn, int64_t seq, int64_t n, const struct tenant_revocation_event *event,
        struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO tenant_revocation_event"
            " (request, n, time_ms, what, verdict, requeued, result)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            DB_PARAMS(DB_INT(seq), DB_INT(n), DB_INT(event->time_ms), DB_TEXT(event->what),
                    DB_INT((int64_t)event->verdict), DB_INT(event->requeued),
                    DB_TEXT(event->result)),
            NULL, err);
}

/* ---- adding ---- */

struct add_op {
    const struct tenant_new_revocation *revocations;
    char (*contexts)[CC_UUID_LEN];
    size_t count;
    int64_t now_ms;
};

static int
add_one(struct db_conn *conn, const struct add_op *op, size_t i, int64_t seq, struct cc_err *err)
{
    const struct tenant_new_revocation *r = &op->revocations[i];
    struct tenant_revocation_event queued = { .time_ms = op->now_ms, .what = "queued" };

    if (db_exec(conn,
                "INSERT INTO tenant_revocation (seq, id, context, serial_number, issuer_name,"
                " ca_configuration, state, open, deliveries, events, created_ms, updated_ms)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, 1, 0, 1, $8, $9)",
                DB_PARAMS(DB_INT(seq), DB_TEXT(r->request_id), DB_TEXT(op->contexts[i]),
                        DB_TEXT(r->serial_number), DB_TEXT(r->issuer_name),
                        DB_TEXT(r->ca_configuration), DB_INT(TENANT_REVOCATION_QUEUED),
                        DB_INT(op->now_ms), DB_INT(op->now_ms)),
                NULL, err) != 0)
        return -1;
    return event_add(conn, seq, 1, &queued, err);
}

static int
add_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct add_op *op = arg;
    struct db_rows *rows;
    int64_t seq;
    int got = tenant_one(conn, "SELECT COALESCE(MAX(seq), 0) FROM tenant_revocation", DB_NO_PARAMS,
            &rows, err);

    if (got != 1)
        return -1;
    seq = db_int(rows, 0) + 1;
    db_rows_free(rows);
    for (size_t i = 0; i < op->count; i++)
        if (add_one(conn, op, i, seq + (int64_t)i, err) != 0)
            return -1;
    return 0;
}

int
tenant_revocation_add(struct tenant_store *store, const struct tenant_new_revocation *revocations,
        size_t count, int64_t now_ms, struct cc_err *err)
{
    struct add_op op = { .revocations = revocations, .count = count, .now_ms = now_ms };
    int rc = 0;

    if (count == 0)
        return 0;
    if ((op.contexts = calloc(count, sizeof(*op.contexts))) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = cc_uuid(op.contexts[i], err);
    if (rc == 0)
        rc = db_write(store->db, add_all, &op, err);
    free(op.contexts);
    return rc;
}

/* ---- the cool-down ---- */

static int
clock_read(struct db_conn *conn, int64_t *ret_ms, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn, "SELECT time_ms FROM tenant_clock WHERE name = $1",
            DB_PARAMS(DB_TEXT(CLOCK)), &rows, err);

    *ret_ms = 0;
    if (got != 1)
        return got;
    *ret_ms = db_int(rows, 0);
    db_rows_free(rows);
    return 0;
}

static int
clock_write(struct db_conn *conn, int64_t time_ms, struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO tenant_clock (name, time_ms) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET time_ms = excluded.time_ms",
            DB_PARAMS(DB_TEXT(CLOCK), DB_INT(time_ms)), NULL, err);
}

static int
clock_get(struct db_conn *conn, void *arg, struct cc_err *err)
{
    return clock_read(conn, arg, err);
}

int
tenant_revocation_clock(struct tenant_store *store, int64_t *ret_ms, struct cc_err *err)
{
    int64_t time_ms = 0;

    if (db_read(store->db, clock_get, &time_ms, err) != 0)
        return -1;
    *ret_ms = time_ms;
    return 0;
}

static int
clock_advance(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const int64_t *by_ms = arg;

    return db_exec(conn, "UPDATE tenant_clock SET time_ms = time_ms - $1 WHERE name = $2",
            DB_PARAMS(DB_INT(*by_ms), DB_TEXT(CLOCK)), NULL, err);
}

int
tenant_revocation_clock_advance(struct tenant_store *store, int64_t by_ms, struct cc_err *err)
{
    return db_write(store->db, clock_advance, &by_ms, err);
}

static int
clock_reset(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn, "DELETE FROM tenant_clock WHERE name = $1", DB_PARAMS(DB_TEXT(CLOCK)),
            NULL, err);
}

int
tenant_revocation_clock_reset(struct tenant_store *store, struct cc_err *err)
{
    return db_write(store->db, clock_reset, NULL, err);
}

/* ---- handing out ---- */

struct pick {
    int64_t seq, deliveries, events;
};

struct deliver_op {
    const struct tenant_revocation_ask *ask;
    struct pick *picks; /* room for ask->max_requests */
    size_t count;
    tenant_revocation_fn fn;
    void *arg;
};

#define SELECT_OPEN                                                                                \
    "SELECT seq, deliveries, events, ca_configuration FROM tenant_revocation WHERE open = 1"

/* As documented the filter chooses among all, as the service really does it among those of the cut. */
static int
query_open(struct db_conn *conn, const struct tenant_revocation_ask *ask, struct db_rows **ret_rows,
        struct cc_err *err)
{
    if (ask->issuer_name != NULL && ask->filter == TENANT_FILTER_DOCUMENTED)
        return db_query(conn, SELECT_OPEN " AND issuer_name = $1 ORDER BY deliveries, seq LIMIT $2",
                DB_PARAMS(DB_TEXT(ask->issuer_name), DB_INT(ask->max_requests)), ret_rows, err);
    return db_query(conn, SELECT_OPEN " ORDER BY deliveries, seq LIMIT $1",
            DB_PARAMS(DB_INT(ask->max_requests)), ret_rows, err);
}

static bool
is_wanted(const struct tenant_revocation_ask *ask, const char *ca_configuration)
{
    if (ask->issuer_name == NULL || ask->filter == TENANT_FILTER_DOCUMENTED)
        return true;
    return ca_configuration != NULL && strcmp(ca_configuration, ask->issuer_name) == 0;
}

static int
deliver_pick(struct db_conn *conn, struct deliver_op *op, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (query_open(conn, op->ask, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1 && op->count < op->ask->max_requests)
        if (is_wanted(op->ask, db_text(rows, 3)))
            op->picks[op->count++] = (struct pick){ .seq = db_int(rows, 0),
                .deliveries = db_int(rows, 1) + 1,
                .events = db_int(rows, 2) + 1 };
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
deliver_mark(struct db_conn *conn, const struct pick *pick, int64_t now_ms, struct cc_err *err)
{
    struct tenant_revocation_event delivered = { .time_ms = now_ms, .what = "delivered" };

    if (db_exec(conn,
                "UPDATE tenant_revocation SET state = $1, deliveries = $2, events = $3,"
                " updated_ms = $4 WHERE seq = $5",
                DB_PARAMS(DB_INT(TENANT_REVOCATION_DELIVERED), DB_INT(pick->deliveries),
                        DB_INT(pick->events), DB_INT(now_ms), DB_INT(pick->seq)),
                NULL, err) != 0)
        return -1;
    return event_add(conn, pick->seq, pick->events, &delivered, err);
}

static int
deliver_take(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct deliver_op *op = arg;
    const struct tenant_revocation_ask *ask = op->ask;
    int64_t began_ms;

    op->count = 0;
    if (clock_read(conn, &began_ms, err) != 0)
        return -1;
    if (began_ms != 0 && ask->now_ms - began_ms < ask->cool_down_ms)
        return 0;
    if (clock_write(conn, ask->now_ms, err) != 0 || deliver_pick(conn, op, err) != 0)
        return -1;
    for (size_t i = 0; i < op->count; i++)
        if (deliver_mark(conn, &op->picks[i], ask->now_ms, err) != 0)
            return -1;
    return tenant_counter_add(conn, COUNTER_REVOCATION_DELIVERIES, (int64_t)op->count, err);
}

static int
deliver_read(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct deliver_op *op = arg;
    bool stopped = false;

    for (size_t i = 0; i < op->count && !stopped; i++)
        if (tenant_revocation_read(conn, op->picks[i].seq, op->fn, op->arg, &stopped, err) != 0)
            return -1;
    return 0;
}

int
tenant_revocation_deliver(struct tenant_store *store, const struct tenant_revocation_ask *ask,
        tenant_revocation_fn fn, void *arg, struct cc_err *err)
{
    struct deliver_op op = { .ask = ask, .fn = fn, .arg = arg };
    int rc;

    if ((op.picks = calloc(ask->max_requests, sizeof(*op.picks))) == NULL)
        return cc_err_nomem(err);
    rc = db_write(store->db, deliver_take, &op, err);
    if (rc == 0 && op.count > 0)
        rc = db_read(store->db, deliver_read, &op, err);
    free(op.picks);
    return rc;
}

/* ---- results ---- */

struct upload_op {
    const struct tenant_revocation_result *results;
    size_t count;
    int64_t now_ms;
};

/* What of a request a result changes. */
struct row {
    int64_t seq, state, events;
};

/* 1 with the row, 0 when no request has this context. */
static int
row_of_context(struct db_conn *conn, const char *context, struct row *ret, struct cc_err *err)
{
    struct db_rows *rows;
    int got =
            tenant_one(conn, "SELECT seq, state, events FROM tenant_revocation WHERE context = $1",
                    DB_PARAMS(DB_TEXT(context)), &rows, err);

    if (got != 1)
        return got;
    *ret = (struct row){ .seq = db_int(rows, 0),
        .state = db_int(rows, 1),
        .events = db_int(rows, 2) };
    db_rows_free(rows);
    return 1;
}

/* Anybody who is signed in can say anything of contexts that there are not: only the last of it is kept. */
static int
keep_unknown(struct db_conn *conn, const struct tenant_revocation_event *event, struct cc_err *err)
{
    struct db_rows *rows;
    int64_t n;
    int got = tenant_one(conn,
            "SELECT COALESCE(MAX(n), 0) FROM tenant_revocation_event WHERE request = 0",
            DB_NO_PARAMS, &rows, err);

    if (got != 1)
        return -1;
    n = db_int(rows, 0) + 1;
    db_rows_free(rows);
    if (db_exec(conn, "DELETE FROM tenant_revocation_event WHERE request = 0 AND n <= $1",
                DB_PARAMS(DB_INT(n - TENANT_REVOCATION_UNKNOWN_MAX)), NULL, err) != 0)
        return -1;
    return event_add(conn, 0, n, event, err);
}

/* A request that waits for its next delivery has had a failure; only a success says more. */
static enum tenant_revocation_verdict
judge(const struct row *row, const struct tenant_revocation_result *result)
{
    if (row->state == TENANT_REVOCATION_DELIVERED ||
            (row->state == TENANT_REVOCATION_QUEUED && result->succeeded))
        return TENANT_REVOCATION_ACCEPTED;
    return TENANT_REVOCATION_REPEATED;
}

static int64_t
state_after(const struct tenant_revocation_result *result)
{
    if (result->succeeded)
        return TENANT_REVOCATION_COMPLETED;
    return result->retryable ? TENANT_REVOCATION_QUEUED : TENANT_REVOCATION_FAILED;
}

/* The row as it is now, and what made it so. */
static int
row_step(struct db_conn *conn, struct row *row, const struct tenant_revocation_event *event,
        struct cc_err *err)
{
    bool open = row->state == TENANT_REVOCATION_QUEUED || row->state == TENANT_REVOCATION_DELIVERED;

    row->events++;
    if (db_exec(conn,
                "UPDATE tenant_revocation SET state = $1, open = $2, events = $3, updated_ms = $4"
                " WHERE seq = $5",
                DB_PARAMS(DB_INT(row->state), DB_INT(open), DB_INT(row->events),
                        DB_INT(event->time_ms), DB_INT(row->seq)),
                NULL, err) != 0)
        return -1;
    return event_add(conn, row->seq, row->events, event, err);
}

static int
upload_one(struct db_conn *conn, const struct upload_op *op,
        const struct tenant_revocation_result *result, struct tenant_revocation_event *event,
        struct cc_err *err)
{
    struct row row = { 0 };
    int got = row_of_context(conn, result->context, &row, err);

    *event = (struct tenant_revocation_event){ .time_ms = op->now_ms,
        .what = "uploaded",
        .verdict = TENANT_REVOCATION_UNKNOWN,
        .result = result->text };
    if (got < 0)
        return -1;
    if (got == 0)
        return keep_unknown(conn, event, err);

    event->verdict = judge(&row, result);
    if (event->verdict == TENANT_REVOCATION_ACCEPTED) {
        row.state = state_after(result);
        event->requeued = row.state == TENANT_REVOCATION_QUEUED;
    }
    return row_step(conn, &row, event, err);
}

static int
upload_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct upload_op *op = arg;
    int64_t by_verdict[TENANT_REVOCATION_VERDICTS] = { 0 };
    struct tenant_revocation_event event;
    int64_t requeued = 0;
    char name[32];

    for (size_t i = 0; i < op->count; i++) {
        if (upload_one(conn, op, &op->results[i], &event, err) != 0)
            return -1;
        by_verdict[event.verdict]++;
        requeued += event.requeued;
    }
    for (int v = TENANT_REVOCATION_ACCEPTED; v < TENANT_REVOCATION_VERDICTS; v++) {
        (void)snprintf(name, sizeof(name), COUNTER_REVOCATION_UPLOADS "%d", v);
        if (tenant_counter_add(conn, name, by_verdict[v], err) != 0)
            return -1;
    }
    return tenant_counter_add(conn, COUNTER_REVOCATION_REQUEUED, requeued, err);
}

int
tenant_revocation_upload(struct tenant_store *store, const struct tenant_revocation_result *results,
        size_t count, int64_t now_ms, struct cc_err *err)
{
    struct upload_op op = { .results = results, .count = count, .now_ms = now_ms };

    return db_write(store->db, upload_all, &op, err);
}
