/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include "tenant_int.h"

struct connector_op {
    const struct tenant_connector *connector;
    const char *id;
    unsigned limit;
    int64_t gone_ms;
    bool full;
    bool found;
    tenant_connector_fn fn;
    void *arg;
};

/* Those that have a place: neither removed nor long gone. */
static int
count_connectors(struct db_conn *conn, int64_t gone_ms, int64_t *ret, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn,
            "SELECT COUNT(*) FROM tenant_connector WHERE removed = 0 AND last_ms >= $1",
            DB_PARAMS(DB_INT(gone_ms)), &rows, err);

    if (got != 1)
        return -1;
    *ret = db_int(rows, 0);
    db_rows_free(rows);
    return 0;
}

/* *ret_known: there is a row of it; *ret_placed: and it has its place. */
static int
find_connector(struct db_conn *conn, const struct connector_op *op, bool *ret_known,
        bool *ret_placed, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn, "SELECT last_ms, removed FROM tenant_connector WHERE id = $1",
            DB_PARAMS(DB_TEXT(op->connector->id)), &rows, err);

    *ret_known = got == 1;
    *ret_placed = false;
    if (got == 1) {
        *ret_placed = db_int(rows, 0) >= op->gone_ms || db_int(rows, 1) != 0;
        db_rows_free(rows);
    }
    return got < 0 ? -1 : 0;
}

static int
update_connector(struct db_conn *conn, const struct tenant_connector *c, struct cc_err *err)
{
    return db_exec(conn,
            "UPDATE tenant_connector SET version = COALESCE($1, version),"
            " features = COALESCE($2, features), heartbeat = COALESCE($3, heartbeat),"
            " last_ms = $4 WHERE id = $5",
            DB_PARAMS(DB_TEXT(c->version), DB_TEXT(c->features), DB_TEXT(c->heartbeat),
                    DB_INT(c->last_ms), DB_TEXT(c->id)),
            NULL, err);
}

static int
insert_connector(struct db_conn *conn, const struct tenant_connector *c, struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO tenant_connector"
            " (id, version, features, heartbeat, first_ms, last_ms, removed)"
            " VALUES ($1, $2, $3, $4, $5, $6, 0)",
            DB_PARAMS(DB_TEXT(c->id), DB_TEXT(c->version), DB_TEXT(c->features),
                    DB_TEXT(c->heartbeat), DB_INT(c->first_ms), DB_INT(c->last_ms)),
            NULL, err);
}

static int
write_connector(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct connector_op *op = arg;
    bool known, placed;
    int64_t count;

    op->full = false;
    if (find_connector(conn, op, &known, &placed, err) != 0)
        return -1;
    if (!placed) {
        if (count_connectors(conn, op->gone_ms, &count, err) != 0)
            return -1;
        if ((op->full = count >= (int64_t)op->limit))
            return 0;
    }
    return known ? update_connector(conn, op->connector, err)
                 : insert_connector(conn, op->connector, err);
}

int
tenant_connector_put(struct tenant_store *store, const struct tenant_connector *connector,
        unsigned limit, int64_t gone_ms, bool *ret_full, struct cc_err *err)
{
    struct connector_op op = { .connector = connector, .limit = limit, .gone_ms = gone_ms };

    if (db_write(store->db, write_connector, &op, err) != 0)
        return -1;
    *ret_full = op.full;
    return 0;
}

static int
remove_connector(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct connector_op *op = arg;
    int64_t changes;

    if (db_exec(conn, "UPDATE tenant_connector SET removed = 1 WHERE id = $1 AND removed = 0",
                DB_PARAMS(DB_TEXT(op->id)), &changes, err) != 0)
        return -1;
    op->found = changes != 0;
    return 0;
}

int
tenant_connector_remove(struct tenant_store *store, const char *id, bool *ret_found,
        struct cc_err *err)
{
    struct connector_op op = { .id = id };

    if (db_write(store->db, remove_connector, &op, err) != 0)
        return -1;
    *ret_found = op.found;
    return 0;
}

static int
read_connectors(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct connector_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT id, version, features, heartbeat, first_ms, last_ms, removed"
                " FROM tenant_connector ORDER BY first_ms, id",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_connector c = { .id = db_text(rows, 0),
            .version = db_text(rows, 1),
            .features = db_text(rows, 2),
            .heartbeat = db_text(rows, 3),
            .first_ms = db_int(rows, 4),
            .last_ms = db_int(rows, 5),
            .removed = db_int(rows, 6) != 0 };

        if (op->fn(op->arg, &c) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_connector_list(struct tenant_store *store, tenant_connector_fn fn, void *arg,
        struct cc_err *err)
{
    struct connector_op op = { .fn = fn, .arg = arg };

    return db_read(store->db, read_connectors, &op, err);
}
