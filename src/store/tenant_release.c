/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include "tenant_int.h"

struct release_op {
    const char *version;
    int64_t release_ms;
    bool found;
    tenant_release_fn fn;
    void *arg;
};

static int
write_release(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct release_op *op = arg;

    return db_exec(conn,
            "INSERT INTO tenant_release (version, release_ms) VALUES ($1, $2)"
            " ON CONFLICT (version) DO UPDATE SET release_ms = excluded.release_ms",
            DB_PARAMS(DB_TEXT(op->version), DB_INT(op->release_ms)), NULL, err);
}

int
tenant_release_put(struct tenant_store *store, const char *version, int64_t release_ms,
        struct cc_err *err)
{
    struct release_op op = { .version = version, .release_ms = release_ms };

    return db_write(store->db, write_release, &op, err);
}

static int
delete_release(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct release_op *op = arg;
    int64_t changes;

    if (db_exec(conn, "DELETE FROM tenant_release WHERE version = $1",
                DB_PARAMS(DB_TEXT(op->version)), &changes, err) != 0)
        return -1;
    op->found = changes != 0;
    return 0;
}

int
tenant_release_remove(struct tenant_store *store, const char *version, bool *ret_found,
        struct cc_err *err)
{
    struct release_op op = { .version = version };

    if (db_write(store->db, delete_release, &op, err) != 0)
        return -1;
    *ret_found = op.found;
    return 0;
}

static int
read_releases(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct release_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT version, release_ms FROM tenant_release", DB_NO_PARAMS, &rows,
                err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1)
        if (op->fn(op->arg, db_text(rows, 0), db_int(rows, 1)) != 0)
            break;
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_release_list(struct tenant_store *store, tenant_release_fn fn, void *arg, struct cc_err *err)
{
    struct release_op op = { .fn = fn, .arg = arg };

    return db_read(store->db, read_releases, &op, err);
}
