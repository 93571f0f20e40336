/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include "tenant_int.h"

#define MINUTE_MS 60000

struct metric_op {
    const char *connector_id;
    const struct tenant_metric *metrics;
    size_t count;
    int64_t now_ms;
    const struct tenant_metric_query *query;
    tenant_metric_fn fn;
    void *arg;
};

/* What was told before; false in *ret_known: nothing. */
static int
read_last(struct db_conn *conn, const char *connector_id, const char *name, bool *ret_known,
        struct tenant_metric *ret, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn,
            "SELECT succeeded, failed FROM tenant_metric_last"
            " WHERE connector_id = $1 AND name = $2",
            DB_PARAMS(DB_TEXT(connector_id), DB_TEXT(name)), &rows, err);

    *ret_known = got == 1;
    *ret = (struct tenant_metric){ .succeeded = 0 };
    if (got == 1) {
        ret->succeeded = db_int(rows, 0);
        ret->failed = db_int(rows, 1);
        db_rows_free(rows);
    }
    return got < 0 ? -1 : 0;
}

static int
has_room(struct db_conn *conn, const char *connector_id, bool *ret, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn, "SELECT COUNT(*) FROM tenant_metric_last WHERE connector_id = $1",
            DB_PARAMS(DB_TEXT(connector_id)), &rows, err);

    if (got != 1)
        return -1;
    *ret = db_int(rows, 0) < TENANT_METRICS_MAX;
    db_rows_free(rows);
    return 0;
}

/* How much a counter went up; one that is lower than before began anew. */
static int64_t
increase(int64_t before, int64_t now)
{
    return now >= before ? now - before : now;
}

static int
write_point(struct db_conn *conn, const struct metric_op *op, const struct tenant_metric *m,
        const struct tenant_metric *before, struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO tenant_metric (connector_id, minute, name, succeeded, failed)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (connector_id, minute, name) DO UPDATE"
            " SET succeeded = tenant_metric.succeeded + excluded.succeeded,"
            " failed = tenant_metric.failed + excluded.failed",
            DB_PARAMS(DB_TEXT(op->connector_id), DB_INT(op->now_ms / MINUTE_MS), DB_TEXT(m->name),
                    DB_INT(increase(before->succeeded, m->succeeded)),
                    DB_INT(increase(before->failed, m->failed))),
            NULL, err);
}

static int
write_metric(struct db_conn *conn, const struct metric_op *op, const struct tenant_metric *m,
        struct cc_err *err)
{
    struct tenant_metric before;
    bool known, room = true;

    if (read_last(conn, op->connector_id, m->name, &known, &before, err) != 0 ||
            (!known && has_room(conn, op->connector_id, &room, err) != 0))
        return -1;
    if (!room)
        return 0;
    if (db_exec(conn,
                "INSERT INTO tenant_metric_last"
                " (connector_id, name, time_ms, value, succeeded, failed)"
                " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (connector_id, name) DO UPDATE"
                " SET time_ms = excluded.time_ms, value = excluded.value,"
                " succeeded = excluded.succeeded, failed = excluded.failed",
                DB_PARAMS(DB_TEXT(op->connector_id), DB_TEXT(m->name), DB_INT(op->now_ms),
                        DB_INT(m->value), DB_INT(m->succeeded), DB_INT(m->failed)),
                NULL, err) != 0)
        return -1;
    /* From what it went up is not known the first time, nor after it was silent for long. */
    return known ? write_point(conn, op, m, &before, err) : 0;
}

static int
write_metrics(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct metric_op *op = arg;
    int64_t oldest_ms = op->now_ms - TENANT_METRICS_KEPT_MS;

    /* The minutes of all of them: there may be some that tell nothing any more. */
    if (db_exec(conn, "DELETE FROM tenant_metric WHERE minute < $1",
                DB_PARAMS(DB_INT(oldest_ms / MINUTE_MS)), NULL, err) != 0 ||
            db_exec(conn, "DELETE FROM tenant_metric_last WHERE connector_id = $1 AND time_ms < $2",
                    DB_PARAMS(DB_TEXT(op->connector_id), DB_INT(oldest_ms)), NULL, err) != 0)
        return -1;
    for (size_t i = 0; i < op->count; i++)
        if (write_metric(conn, op, &op->metrics[i], err) != 0)
            return -1;
    return 0;
}

int
tenant_metric_add(struct tenant_store *store, const char *connector_id,
        const struct tenant_metric *metrics, size_t count, int64_t now_ms, struct cc_err *err)
{
    struct metric_op op = { .connector_id = connector_id,
        .metrics = metrics,
        .count = count,
        .now_ms = now_ms };

    return count > 0 ? db_write(store->db, write_metrics, &op, err) : 0;
}

static int
read_metrics(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct metric_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT name, time_ms, value, succeeded, failed FROM tenant_metric_last"
                " WHERE connector_id = $1 ORDER BY name",
                DB_PARAMS(DB_TEXT(op->connector_id)), &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_metric m = { .name = db_text(rows, 0),
            .time_ms = db_int(rows, 1),
            .value = db_int(rows, 2),
            .succeeded = db_int(rows, 3),
            .failed = db_int(rows, 4) };

        if (op->fn(op->arg, &m) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_metric_list(struct tenant_store *store, const char *connector_id, tenant_metric_fn fn,
        void *arg, struct cc_err *err)
{
    struct metric_op op = { .connector_id = connector_id, .fn = fn, .arg = arg };

    return db_read(store->db, read_metrics, &op, err);
}

static int
read_series(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct metric_op *op = arg;
    const struct tenant_metric_query *q = op->query;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT minute, succeeded, failed FROM tenant_metric WHERE connector_id = $1"
                " AND name = $2 AND minute >= $3 AND minute <= $4 ORDER BY minute",
                DB_PARAMS(DB_TEXT(op->connector_id), DB_TEXT(q->name),
                        DB_INT(q->from_ms / MINUTE_MS), DB_INT(q->until_ms / MINUTE_MS)),
                &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_metric m = { .name = q->name,
            .time_ms = db_int(rows, 0) * MINUTE_MS,
            .succeeded = db_int(rows, 1),
            .failed = db_int(rows, 2) };

        if (op->fn(op->arg, &m) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_metric_series(struct tenant_store *store, const char *connector_id,
        const struct tenant_metric_query *query, tenant_metric_fn fn, void *arg, struct cc_err *err)
{
    struct metric_op op = { .connector_id = connector_id, .query = query, .fn = fn, .arg = arg };

    return db_read(store->db, read_series, &op, err);
}
