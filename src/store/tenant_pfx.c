/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include "base/text.h"
#include "tenant_int.h"

struct pfx_op {
    const struct tenant_pfx *pfx;
    const char *user_lower;
    const char *id;
    int64_t now_ms;
    bool hit;
};

static int
insert_pfx(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct pfx_op *op = arg;
    const struct tenant_pfx *p = op->pfx;
    int64_t changes;

    if (db_exec(conn,
                "INSERT INTO tenant_pfx (id, user_id, upn, upn_lower, thumbprint,"
                " intended_purpose, provider_name, key_name, padding_scheme, start_ms,"
                " expiration_ms, created_ms, modified_ms, encrypted_password, pfx)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
                " ON CONFLICT (id) DO NOTHING",
                DB_PARAMS(DB_TEXT(p->id), DB_TEXT(p->user_id), DB_TEXT(p->user),
                        DB_TEXT(op->user_lower), DB_TEXT(p->thumbprint),
                        DB_TEXT(p->intended_purpose), DB_TEXT(p->provider_name),
                        DB_TEXT(p->key_name), DB_TEXT(p->padding_scheme), DB_INT(p->start_ms),
                        DB_INT(p->expiration_ms), DB_INT(p->created_ms), DB_INT(p->modified_ms),
                        DB_BLOB(p->encrypted_password), DB_BLOB(p->blob)),
                &changes, err) != 0)
        return -1;
    op->hit = changes == 0;
    return 0;
}

int
tenant_pfx_add(struct tenant_store *store, const struct tenant_pfx *pfx, bool *ret_exists,
        struct cc_err *err)
{
    char lower[TENANT_UPN_MAX + 1];
    struct pfx_op op = { .pfx = pfx, .user_lower = lower };

    if (!cc_strcpy(lower, sizeof(lower), pfx->user))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a user name of more than %d bytes",
                TENANT_UPN_MAX);
    cc_lower(lower);
    if (db_write(store->db, insert_pfx, &op, err) != 0)
        return -1;
    *ret_exists = op.hit;
    return 0;
}

/* A time of 0 means that it stays. */
static struct db_value
time_or_null(int64_t time_ms)
{
    return time_ms != 0 ? DB_INT(time_ms) : DB_TEXT(NULL);
}

static int
update_pfx(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct pfx_op *op = arg;
    const struct tenant_pfx *p = op->pfx;
    int64_t changes;

    if (db_exec(conn,
                "UPDATE tenant_pfx SET"
                " intended_purpose = COALESCE($1, intended_purpose),"
                " provider_name = COALESCE($2, provider_name),"
                " key_name = COALESCE($3, key_name),"
                " padding_scheme = COALESCE($4, padding_scheme),"
                " start_ms = COALESCE($5, start_ms),"
                " expiration_ms = COALESCE($6, expiration_ms),"
                " modified_ms = COALESCE($7, modified_ms),"
                " encrypted_password = COALESCE($8, encrypted_password),"
                " pfx = COALESCE($9, pfx)"
                " WHERE id = $10",
                DB_PARAMS(DB_TEXT(p->intended_purpose), DB_TEXT(p->provider_name),
                        DB_TEXT(p->key_name), DB_TEXT(p->padding_scheme), time_or_null(p->start_ms),
                        time_or_null(p->expiration_ms), time_or_null(p->modified_ms),
                        DB_BLOB(p->encrypted_password), DB_BLOB(p->blob), DB_TEXT(p->id)),
                &changes, err) != 0)
        return -1;
    op->hit = changes != 0;
    return 0;
}

int
tenant_pfx_change(struct tenant_store *store, const struct tenant_pfx *pfx, bool *ret_found,
        struct cc_err *err)
{
    struct pfx_op op = { .pfx = pfx };

    if (db_write(store->db, update_pfx, &op, err) != 0)
        return -1;
    *ret_found = op.hit;
    return 0;
}

static int
delete_pfx(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct pfx_op *op = arg;
    int64_t changes;

    if (db_exec(conn, "DELETE FROM tenant_pfx WHERE id = $1", DB_PARAMS(DB_TEXT(op->id)), &changes,
                err) != 0)
        return -1;
    op->hit = changes != 0;
    return op->hit ? tenant_queue_cancel_pfx(conn, op->id, op->now_ms, err) : 0;
}

int
tenant_pfx_remove(struct tenant_store *store, const char *id, int64_t now_ms, bool *ret_found,
        struct cc_err *err)
{
    struct pfx_op op = { .id = id, .now_ms = now_ms };

    if (db_write(store->db, delete_pfx, &op, err) != 0)
        return -1;
    *ret_found = op.hit;
    return 0;
}

/* ---- reading ---- */

struct list_op {
    const struct tenant_pfx_query *query;
    tenant_pfx_fn fn;
    void *arg;
};

#define SELECT_PFX                                                                                 \
    "SELECT id, user_id, upn, thumbprint, intended_purpose, provider_name, key_name,"              \
    " padding_scheme, start_ms, expiration_ms, created_ms, modified_ms FROM tenant_pfx"

static int
query_pfx(struct db_conn *conn, const struct tenant_pfx_query *q, struct db_rows **ret_rows,
        struct cc_err *err)
{
    const char *after = q->after_id != NULL ? q->after_id : "";

    if (q->id != NULL)
        return db_query(conn, SELECT_PFX " WHERE id = $1", DB_PARAMS(DB_TEXT(q->id)), ret_rows,
                err);
    /* With the user the index of users serves, without it the order of ids does. */
    if (q->user_lower != NULL)
        return db_query(conn,
                SELECT_PFX " WHERE upn_lower = $1 AND id > $2"
                           " AND upn = COALESCE($3, upn) AND thumbprint = COALESCE($4, thumbprint)"
                           " AND intended_purpose = COALESCE($5, intended_purpose)"
                           " ORDER BY id LIMIT $6",
                DB_PARAMS(DB_TEXT(q->user_lower), DB_TEXT(after), DB_TEXT(q->user),
                        DB_TEXT(q->thumbprint), DB_TEXT(q->intended_purpose), DB_INT(q->limit)),
                ret_rows, err);
    return db_query(conn,
            SELECT_PFX " WHERE id > $1 AND thumbprint = COALESCE($2, thumbprint)"
                       " AND intended_purpose = COALESCE($3, intended_purpose)"
                       " ORDER BY id LIMIT $4",
            DB_PARAMS(DB_TEXT(after), DB_TEXT(q->thumbprint), DB_TEXT(q->intended_purpose),
                    DB_INT(q->limit)),
            ret_rows, err);
}

static int
read_pfx_list(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct list_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (query_pfx(conn, op->query, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_pfx p = { .id = db_text(rows, 0),
            .user_id = db_text(rows, 1),
            .user = db_text(rows, 2),
            .thumbprint = db_text(rows, 3),
            .intended_purpose = db_text(rows, 4),
            .provider_name = db_text(rows, 5),
            .key_name = db_text(rows, 6),
            .padding_scheme = db_text(rows, 7),
            .start_ms = db_int(rows, 8),
            .expiration_ms = db_int(rows, 9),
            .created_ms = db_int(rows, 10),
            .modified_ms = db_int(rows, 11) };

        if (op->fn(op->arg, &p) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_pfx_list(struct tenant_store *store, const struct tenant_pfx_query *query, tenant_pfx_fn fn,
        void *arg, struct cc_err *err)
{
    struct tenant_pfx_query q = *query;
    struct list_op op = { .query = &q, .fn = fn, .arg = arg };
    char lower[TENANT_UPN_MAX + 1];

    /* The exact name narrows the index of lower-case names as well. */
    if (q.user != NULL && q.user_lower == NULL) {
        if (!cc_strcpy(lower, sizeof(lower), q.user))
            return 0;
        cc_lower(lower);
        q.user_lower = lower;
    }
    return db_read(store->db, read_pfx_list, &op, err);
}

struct choose_op {
    const char *user_lower, *thumbprint, *intended_purpose;
    char id[TENANT_PFX_ID_MAX];
};

static int
choose_pfx(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct choose_op *op = arg;
    struct db_rows *rows;
    int got;

    op->id[0] = '\0';
    got = tenant_one(conn,
            "SELECT id FROM tenant_pfx WHERE upn_lower = $1"
            " AND thumbprint = COALESCE($2, thumbprint)"
            " AND intended_purpose = COALESCE($3, intended_purpose)"
            " ORDER BY start_ms DESC, id LIMIT 1",
            DB_PARAMS(DB_TEXT(op->user_lower), DB_TEXT(op->thumbprint),
                    DB_TEXT(op->intended_purpose)),
            &rows, err);
    if (got != 1)
        return got;
    (void)cc_strcpy(op->id, sizeof(op->id), db_text(rows, 0));
    db_rows_free(rows);
    return 0;
}

int
tenant_pfx_choose(struct tenant_store *store, const char *user_lower, const char *thumbprint,
        const char *intended_purpose, char ret_id[TENANT_PFX_ID_MAX], struct cc_err *err)
{
    struct choose_op op = { .user_lower = user_lower,
        .thumbprint = thumbprint,
        .intended_purpose = intended_purpose };

    if (db_read(store->db, choose_pfx, &op, err) != 0)
        return -1;
    (void)cc_strcpy(ret_id, TENANT_PFX_ID_MAX, op.id);
    return 0;
}
