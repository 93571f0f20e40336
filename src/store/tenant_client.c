/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include "tenant_int.h"

struct certificate_op {
    const char *client_id;
    const struct tenant_client_certificate *certificate;
    struct cc_bytes hash;
    struct cc_buf *ret;
    bool found;
};

static int
remove_client(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct certificate_op *op = arg;
    int64_t changes;

    if (db_exec(conn, "DELETE FROM tenant_client WHERE id = $1", DB_PARAMS(DB_TEXT(op->client_id)),
                &changes, err) != 0)
        return -1;
    op->found = changes != 0;
    /* Tokens too: they are not to be good again for another client of that name. */
    if (db_exec(conn, "DELETE FROM tenant_token WHERE client_id = $1",
                DB_PARAMS(DB_TEXT(op->client_id)), NULL, err) != 0)
        return -1;
    return db_exec(conn, "DELETE FROM tenant_client_certificate WHERE client_id = $1",
            DB_PARAMS(DB_TEXT(op->client_id)), NULL, err);
}

int
tenant_client_remove(struct tenant_store *store, const char *id, bool *ret_found,
        struct cc_err *err)
{
    struct certificate_op op = { .client_id = id };

    if (db_write(store->db, remove_client, &op, err) != 0)
        return -1;
    *ret_found = op.found;
    return 0;
}

static int
add_certificate(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct certificate_op *op = arg;

    return db_exec(conn,
            "INSERT INTO tenant_client_certificate (client_id, sha256, sha1, der)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (client_id, sha256) DO NOTHING",
            DB_PARAMS(DB_TEXT(op->client_id), DB_BLOB(op->certificate->sha256),
                    DB_BLOB(op->certificate->sha1), DB_BLOB(op->certificate->der)),
            NULL, err);
}

int
tenant_client_certificate_add(struct tenant_store *store, const char *client_id,
        const struct tenant_client_certificate *certificate, struct cc_err *err)
{
    struct certificate_op op = { .client_id = client_id, .certificate = certificate };

    return db_write(store->db, add_certificate, &op, err);
}

static int
read_certificate(struct db_conn *conn, void *arg, struct cc_err *err)
{
    static const char by_sha1[] = "SELECT der FROM tenant_client_certificate"
                                  " WHERE client_id = $1 AND sha1 = $2";
    static const char by_sha256[] = "SELECT der FROM tenant_client_certificate"
                                    " WHERE client_id = $1 AND sha256 = $2";
    struct certificate_op *op = arg;
    struct cc_bytes der;
    struct db_rows *rows;
    int got;

    cc_buf_reset(op->ret);
    got = tenant_one(conn, op->hash.len == TENANT_SHA1_LEN ? by_sha1 : by_sha256,
            DB_PARAMS(DB_TEXT(op->client_id), DB_BLOB(op->hash)), &rows, err);
    if (got != 1)
        return got;
    der = db_blob(rows, 0);
    got = cc_buf_add(op->ret, der.data, der.len, err);
    db_rows_free(rows);
    return got;
}

int
tenant_client_certificate_find(struct tenant_store *store, const char *client_id,
        struct cc_bytes hash, struct cc_buf *ret, struct cc_err *err)
{
    struct certificate_op op = { .client_id = client_id, .hash = hash, .ret = ret };

    return db_read(store->db, read_certificate, &op, err);
}

/* ---- assertions ---- */

struct assertion_op {
    const char *client_id, *jti;
    int64_t now_ms, expires_ms;
    bool fresh;
};

static int
use_assertion(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct assertion_op *op = arg;
    int64_t changes;

    if (db_exec(conn, "DELETE FROM tenant_assertion WHERE expires_ms <= $1",
                DB_PARAMS(DB_INT(op->now_ms)), NULL, err) != 0 ||
            db_exec(conn,
                    "INSERT INTO tenant_assertion (client_id, jti, expires_ms)"
                    " VALUES ($1, $2, $3) ON CONFLICT (client_id, jti) DO NOTHING",
                    DB_PARAMS(DB_TEXT(op->client_id), DB_TEXT(op->jti), DB_INT(op->expires_ms)),
                    &changes, err) != 0)
        return -1;
    op->fresh = changes != 0;
    return 0;
}

int
tenant_assertion_use(struct tenant_store *store, const char *client_id, const char *jti,
        int64_t now_ms, int64_t expires_ms, bool *ret_fresh, struct cc_err *err)
{
    struct assertion_op op = { .client_id = client_id,
        .jti = jti,
        .now_ms = now_ms,
        .expires_ms = expires_ms };

    if (db_write(store->db, use_assertion, &op, err) != 0)
        return -1;
    *ret_fresh = op.fresh;
    return 0;
}
