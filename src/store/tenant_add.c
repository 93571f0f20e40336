/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <stdlib.h>
#include <string.h>

#include "base/process.h"
#include "base/text.h"
#include "tenant_int.h"

struct add_op {
    const char *feature;
    const struct tenant_new_request *requests;
    char (*nonces)[TENANT_NONCE_LEN];
    size_t count;
    int64_t now_ms;
};

/* What of the PFX belongs to a request; kept from one to the next, as many requests may want the same. */
struct add_pfx {
    const char *id;
    char user[TENANT_UPN_MAX + 1];
    char thumbprint[129];
    int64_t bytes;
};

static int
add_read_pfx(struct db_conn *conn, const char *id, struct add_pfx *ret, struct cc_err *err)
{
    struct db_rows *rows;
    int got;

    if (ret->id != NULL && strcmp(ret->id, id) == 0)
        return 0;
    got = tenant_one(conn, "SELECT upn, thumbprint, LENGTH(pfx) FROM tenant_pfx WHERE id = $1",
            DB_PARAMS(DB_TEXT(id)), &rows, err);
    if (got < 0)
        return -1;
    if (got == 0)
        return cc_err_set(err, CC_DOM_INPUT, 404, "there is no imported PFX %s", id);
    ret->id = id;
    (void)cc_strcpy(ret->user, sizeof(ret->user), db_text(rows, 0));
    (void)cc_strcpy(ret->thumbprint, sizeof(ret->thumbprint), db_text(rows, 1));
    ret->bytes = db_int(rows, 2);
    db_rows_free(rows);
    return 0;
}

static int
next_seq(struct db_conn *conn, int64_t *ret, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn, "SELECT COALESCE(MAX(seq), 0) FROM tenant_request", DB_NO_PARAMS,
            &rows, err);

    if (got != 1)
        return -1;
    *ret = db_int(rows, 0) + 1;
    db_rows_free(rows);
    return 0;
}

/* About what the JSON will take: base64, and the names and small members. */
static int64_t
bytes_of(const struct tenant_new_request *r, const struct add_pfx *pfx)
{
    size_t overrides = r->overrides != NULL ? strlen(r->overrides) : 0;

    if (r->document != NULL)
        return (int64_t)strlen(r->document) + (int64_t)overrides + 300;
    return pfx->bytes * 4 / 3 + (int64_t)r->recipient.len * 4 / 3 + (int64_t)overrides + 1500;
}

static int
add_document(struct db_conn *conn, const struct tenant_new_request *r, int64_t seq,
        struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO tenant_request_document (seq, upn, device_id, kind, overrides, document)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            DB_PARAMS(DB_INT(seq), DB_TEXT(r->user), DB_TEXT(r->device_id), DB_TEXT(r->kind),
                    DB_TEXT(r->overrides), DB_TEXT(r->document)),
            NULL, err);
}

static int
add_body(struct db_conn *conn, const struct tenant_new_request *r, int64_t seq,
        const struct add_pfx *pfx, struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO tenant_request_body (seq, pfx_id, upn, thumbprint, device_id,"
            " password_encryption, content_cipher, overrides, recipient)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            DB_PARAMS(DB_INT(seq), DB_TEXT(r->pfx_id), DB_TEXT(pfx->user), DB_TEXT(pfx->thumbprint),
                    DB_TEXT(r->device_id), DB_TEXT(r->password_encryption),
                    DB_TEXT(r->content_cipher), DB_TEXT(r->overrides), DB_BLOB(r->recipient)),
            NULL, err);
}

static int
add_one(struct db_conn *conn, const struct add_op *op, size_t i, int64_t seq,
        const struct add_pfx *pfx, struct cc_err *err)
{
    const struct tenant_new_request *r = &op->requests[i];
    struct tenant_event queued = { .time_ms = op->now_ms, .what = "queued" };
    int rc;

    if (db_exec(conn,
                "INSERT INTO tenant_request (seq, id, nonce, feature, bytes, created_ms, state,"
                " open, due_ms, attempt, failures, events, updated_ms, connector_id)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, 0, 0, 1, $9, NULL)",
                DB_PARAMS(DB_INT(seq), DB_TEXT(r->request_id), DB_TEXT(op->nonces[i]),
                        DB_TEXT(op->feature), DB_INT(bytes_of(r, pfx)), DB_INT(op->now_ms),
                        DB_INT(TENANT_QUEUED), DB_INT(op->now_ms), DB_INT(op->now_ms)),
                NULL, err) != 0)
        return -1;
    rc = r->document != NULL ? add_document(conn, r, seq, err) : add_body(conn, r, seq, pfx, err);
    return rc == 0 ? tenant_event_add(conn, seq, 1, &queued, tenant_no_hash, err) : -1;
}

static int
add_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct add_op *op = arg;
    struct add_pfx pfx = { .id = NULL };
    int64_t seq;

    if (next_seq(conn, &seq, err) != 0)
        return -1;
    for (size_t i = 0; i < op->count; i++) {
        if (op->requests[i].document == NULL &&
                add_read_pfx(conn, op->requests[i].pfx_id, &pfx, err) != 0)
            return -1;
        if (add_one(conn, op, i, seq + (int64_t)i, &pfx, err) != 0)
            return -1;
    }
    return 0;
}

int
tenant_queue_add(struct tenant_store *store, const char *feature,
        const struct tenant_new_request *requests, size_t count, int64_t now_ms, struct cc_err *err)
{
    struct add_op op = { .feature = feature,
        .requests = requests,
        .count = count,
        .now_ms = now_ms };
    uint8_t *random = NULL;
    int rc = -1;

    if (count == 0)
        return 0;
    random = calloc(count, TENANT_NONCE_BYTES);
    op.nonces = calloc(count, sizeof(*op.nonces));
    if (random == NULL || op.nonces == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    if (cc_random(random, count * TENANT_NONCE_BYTES, err) != 0)
        goto out;
    for (size_t i = 0; i < count; i++)
        cc_hex(random + i * TENANT_NONCE_BYTES, TENANT_NONCE_BYTES, false, op.nonces[i]);
    rc = db_write(store->db, add_all, &op, err);
out:
    free(random);
    free(op.nonces);
    return rc;
}
