/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <string.h>

#include "base/text.h"
#include "tenant_int.h"

struct connector_op {
    const struct tenant_connector *connector;
    const struct tenant_new_identity *identity;
    const char *id, *name;
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
            " display_name = COALESCE($4, display_name),"
            " machine_name = COALESCE($5, machine_name), last_ms = $6,"
            " enrolled_ms = CASE enrolled_ms WHEN 0 THEN $7 ELSE enrolled_ms END WHERE id = $8",
            DB_PARAMS(DB_TEXT(c->version), DB_TEXT(c->features), DB_TEXT(c->heartbeat),
                    DB_TEXT(c->display_name), DB_TEXT(c->machine_name), DB_INT(c->last_ms),
                    DB_INT(c->enrolled_ms), DB_TEXT(c->id)),
            NULL, err);
}

static int
insert_connector(struct db_conn *conn, const struct tenant_connector *c, struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO tenant_connector"
            " (id, version, features, heartbeat, display_name, machine_name, first_ms, last_ms,"
            " enrolled_ms, removed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)",
            DB_PARAMS(DB_TEXT(c->id), DB_TEXT(c->version), DB_TEXT(c->features),
                    DB_TEXT(c->heartbeat), DB_TEXT(c->display_name), DB_TEXT(c->machine_name),
                    DB_INT(c->first_ms), DB_INT(c->last_ms), DB_INT(c->enrolled_ms)),
            NULL, err);
}

static int
insert_identity(struct db_conn *conn, const char *id, const struct tenant_new_identity *identity,
        struct cc_err *err)
{
    struct cc_bytes hash = { identity->hash, TENANT_HASH_LEN };
    struct cc_bytes key_hash = { identity->key_hash,
        identity->key_hash != NULL ? TENANT_HASH_LEN : 0 };
    struct db_rows *rows;
    int64_t n;
    int got = tenant_one(conn,
            "SELECT COALESCE(MAX(n), 0) FROM tenant_identity WHERE connector_id = $1",
            DB_PARAMS(DB_TEXT(id)), &rows, err);

    if (got != 1)
        return -1;
    n = db_int(rows, 0) + 1;
    db_rows_free(rows);
    return db_exec(conn,
            "INSERT INTO tenant_identity"
            " (hash, connector_id, n, expires_ms, used, superseded, key_hash)"
            " VALUES ($1, $2, $3, $4, 0, 0, $5)",
            DB_PARAMS(DB_BLOB(hash), DB_TEXT(id), DB_INT(n), DB_INT(identity->expires_ms),
                    DB_BLOB(key_hash)),
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
    if ((known ? update_connector(conn, op->connector, err)
               : insert_connector(conn, op->connector, err)) != 0)
        return -1;
    return op->identity != NULL ? insert_identity(conn, op->connector->id, op->identity, err) : 0;
}

int
tenant_connector_put(struct tenant_store *store, const struct tenant_connector *connector,
        const struct tenant_new_identity *identity, unsigned limit, int64_t gone_ms, bool *ret_full,
        struct cc_err *err)
{
    struct connector_op op = { .connector = connector,
        .identity = identity,
        .limit = limit,
        .gone_ms = gone_ms };

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
    if (!op->found)
        return 0;
    if (db_exec(conn, "DELETE FROM tenant_metric WHERE connector_id = $1",
                DB_PARAMS(DB_TEXT(op->id)), NULL, err) != 0)
        return -1;
    return db_exec(conn, "DELETE FROM tenant_metric_last WHERE connector_id = $1",
            DB_PARAMS(DB_TEXT(op->id)), NULL, err);
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
name_connector(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct connector_op *op = arg;
    int64_t changes;

    if (db_exec(conn, "UPDATE tenant_connector SET given_name = $1 WHERE id = $2 AND removed = 0",
                DB_PARAMS(DB_TEXT(op->name), DB_TEXT(op->id)), &changes, err) != 0)
        return -1;
    op->found = changes != 0;
    return 0;
}

int
tenant_connector_name(struct tenant_store *store, const char *id, const char *name, bool *ret_found,
        struct cc_err *err)
{
    struct connector_op op = { .id = id, .name = name };

    if (db_write(store->db, name_connector, &op, err) != 0)
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
                "SELECT id, version, features, heartbeat, COALESCE(given_name, display_name),"
                " machine_name, first_ms,"
                " last_ms, enrolled_ms, removed, COALESCE((SELECT MAX(expires_ms)"
                " FROM tenant_identity WHERE connector_id = id), 0)"
                " FROM tenant_connector ORDER BY first_ms, id",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_connector c = { .id = db_text(rows, 0),
            .version = db_text(rows, 1),
            .features = db_text(rows, 2),
            .heartbeat = db_text(rows, 3),
            .display_name = db_text(rows, 4),
            .machine_name = db_text(rows, 5),
            .first_ms = db_int(rows, 6),
            .last_ms = db_int(rows, 7),
            .enrolled_ms = db_int(rows, 8),
            .removed = db_int(rows, 9) != 0,
            .certificate_expires_ms = db_int(rows, 10) };

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

/* ---- certificates ---- */

struct identity_op {
    struct cc_bytes hash; /* of the certificate, or of its key */
    const char *display_name, *machine_name;
    struct tenant_identity got;
    int64_t n;
    bool used;
};

static int
read_identity(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct identity_op *op = arg;
    struct db_rows *rows;
    int got;

    memset(&op->got, 0, sizeof(op->got));
    op->used = true;
    got = tenant_one(conn,
            "SELECT connector_id, n, used, superseded, removed FROM tenant_identity"
            " JOIN tenant_connector ON id = connector_id WHERE hash = $1",
            DB_PARAMS(DB_BLOB(op->hash)), &rows, err);
    if (got != 1)
        return got;
    (void)cc_strcpy(op->got.connector_id, sizeof(op->got.connector_id), db_text(rows, 0));
    op->n = db_int(rows, 1);
    op->used = db_int(rows, 2) != 0;
    op->got.superseded = db_int(rows, 3) != 0;
    op->got.removed = db_int(rows, 4) != 0;
    db_rows_free(rows);
    return 0;
}

static int
write_identity_use(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct identity_op *op = arg;

    if (db_exec(conn, "UPDATE tenant_identity SET used = 1 WHERE hash = $1",
                DB_PARAMS(DB_BLOB(op->hash)), NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "UPDATE tenant_identity SET superseded = 1 WHERE connector_id = $1 AND n < $2",
            DB_PARAMS(DB_TEXT(op->got.connector_id), DB_INT(op->n)), NULL, err);
}

int
tenant_identity_use(struct tenant_store *store, const uint8_t hash[TENANT_HASH_LEN],
        struct tenant_identity *ret, struct cc_err *err)
{
    struct identity_op op = { .hash = { hash, TENANT_HASH_LEN } };

    if (db_read(store->db, read_identity, &op, err) != 0)
        return -1;
    if (!op.used && !op.got.superseded && !op.got.removed &&
            db_write(store->db, write_identity_use, &op, err) != 0)
        return -1;
    *ret = op.got;
    return 0;
}

static int
find_unused(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct identity_op *op = arg;
    struct db_rows *rows;
    int got;

    memset(&op->got, 0, sizeof(op->got));
    got = tenant_one(conn,
            "SELECT c.id FROM tenant_identity i JOIN tenant_connector c ON c.id = i.connector_id"
            " WHERE i.key_hash = $1 AND c.removed = 0"
            " AND COALESCE(c.display_name, '') = $2 AND COALESCE(c.machine_name, '') = $3"
            " AND NOT EXISTS (SELECT 1 FROM tenant_identity u"
            " WHERE u.connector_id = c.id AND u.used <> 0)"
            " ORDER BY c.last_ms DESC, c.id LIMIT 1",
            DB_PARAMS(DB_BLOB(op->hash), DB_TEXT(op->display_name), DB_TEXT(op->machine_name)),
            &rows, err);
    if (got != 1)
        return got;
    (void)cc_strcpy(op->got.connector_id, sizeof(op->got.connector_id), db_text(rows, 0));
    db_rows_free(rows);
    return 0;
}

int
tenant_identity_unused(struct tenant_store *store, const uint8_t key_hash[TENANT_HASH_LEN],
        const char *display_name, const char *machine_name, char ret_id[TENANT_ID_MAX + 1],
        struct cc_err *err)
{
    struct identity_op op = { .hash = { key_hash, TENANT_HASH_LEN },
        .display_name = display_name != NULL ? display_name : "",
        .machine_name = machine_name != NULL ? machine_name : "" };

    if (db_read(store->db, find_unused, &op, err) != 0)
        return -1;
    (void)cc_strcpy(ret_id, TENANT_ID_MAX + 1, op.got.connector_id);
    return 0;
}
