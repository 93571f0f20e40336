/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tenant_int.h"

static const struct db_step steps[] = {
    { .number = 1,
            .what = "clients, tokens, users, imported PFX, connectors, the queues",
            .sql = "CREATE TABLE tenant_value ("
                   " name TEXT PRIMARY KEY,"
                   " value TEXT NOT NULL);"
                   "CREATE TABLE tenant_counter ("
                   " name TEXT PRIMARY KEY,"
                   " n BIGINT NOT NULL);"
                   "CREATE TABLE tenant_client ("
                   " id TEXT PRIMARY KEY,"
                   " salt BYTEA NOT NULL,"
                   " hash BYTEA NOT NULL);"
                   "CREATE TABLE tenant_token ("
                   " hash BYTEA PRIMARY KEY,"
                   " client_id TEXT NOT NULL,"
                   " audience BIGINT NOT NULL,"
                   " expires_ms BIGINT NOT NULL);"
                   "CREATE INDEX tenant_token_end ON tenant_token (expires_ms);"
                   "CREATE TABLE tenant_user ("
                   " upn_lower TEXT PRIMARY KEY,"
                   " id TEXT NOT NULL UNIQUE,"
                   " upn TEXT NOT NULL);"
                   "CREATE TABLE tenant_pfx ("
                   " id TEXT PRIMARY KEY,"
                   " user_id TEXT NOT NULL,"
                   " upn TEXT NOT NULL,"
                   " upn_lower TEXT NOT NULL,"
                   " thumbprint TEXT NOT NULL,"
                   " intended_purpose TEXT NOT NULL,"
                   " provider_name TEXT,"
                   " key_name TEXT,"
                   " padding_scheme TEXT NOT NULL,"
                   " start_ms BIGINT NOT NULL,"
                   " expiration_ms BIGINT NOT NULL,"
                   " created_ms BIGINT NOT NULL,"
                   " modified_ms BIGINT NOT NULL,"
                   " encrypted_password BYTEA NOT NULL,"
                   " pfx BYTEA NOT NULL);"
                   "CREATE INDEX tenant_pfx_user ON tenant_pfx (upn_lower, id);"
                   "CREATE TABLE tenant_connector ("
                   " id TEXT PRIMARY KEY,"
                   " version TEXT,"
                   " features TEXT,"
                   " heartbeat TEXT,"
                   " first_ms BIGINT NOT NULL,"
                   " last_ms BIGINT NOT NULL,"
                   " removed BIGINT NOT NULL);"
                   /* What changes at every step is kept apart from what is long and never changes. */
                   "CREATE TABLE tenant_request ("
                   " seq BIGINT PRIMARY KEY,"
                   " id TEXT NOT NULL UNIQUE,"
                   " nonce TEXT NOT NULL,"
                   " feature TEXT NOT NULL,"
                   " bytes BIGINT NOT NULL,"
                   " created_ms BIGINT NOT NULL,"
                   " state BIGINT NOT NULL,"
                   " open BIGINT NOT NULL,"
                   " due_ms BIGINT NOT NULL,"
                   " attempt BIGINT NOT NULL,"
                   " failures BIGINT NOT NULL,"
                   " events BIGINT NOT NULL,"
                   " updated_ms BIGINT NOT NULL,"
                   " connector_id TEXT);"
                   "CREATE INDEX tenant_request_due ON tenant_request (feature, due_ms, seq)"
                   " WHERE open = 1;"
                   "CREATE INDEX tenant_request_state ON tenant_request (state, seq);"
                   "CREATE TABLE tenant_request_body ("
                   " seq BIGINT PRIMARY KEY,"
                   " pfx_id TEXT NOT NULL,"
                   " upn TEXT NOT NULL,"
                   " thumbprint TEXT NOT NULL,"
                   " device_id TEXT,"
                   " password_encryption TEXT,"
                   " content_cipher TEXT,"
                   " overrides TEXT,"
                   " recipient BYTEA NOT NULL);"
                   "CREATE INDEX tenant_request_body_pfx ON tenant_request_body (pfx_id);"
                   "CREATE TABLE tenant_event ("
                   " request BIGINT NOT NULL,"
                   " n BIGINT NOT NULL,"
                   " time_ms BIGINT NOT NULL,"
                   " what TEXT NOT NULL,"
                   " connector_id TEXT,"
                   " attempt BIGINT NOT NULL,"
                   " lease_until_ms BIGINT NOT NULL,"
                   " verdict BIGINT NOT NULL,"
                   " requeued BIGINT NOT NULL,"
                   " hash BYTEA,"
                   " result TEXT,"
                   " PRIMARY KEY (request, n));" },
    { .number = 2,
            .what = "requests that are a document, for queues other than that of imported PFX;"
                    " certificates to be revoked",
            .sql = "CREATE TABLE tenant_request_document ("
                   " seq BIGINT PRIMARY KEY,"
                   " upn TEXT,"
                   " device_id TEXT,"
                   " kind TEXT,"
                   " overrides TEXT,"
                   " document TEXT NOT NULL);"
                   "CREATE INDEX tenant_request_feature ON tenant_request (feature, state);"
                   "CREATE TABLE tenant_revocation ("
                   " seq BIGINT PRIMARY KEY,"
                   " id TEXT NOT NULL UNIQUE,"
                   " context TEXT NOT NULL UNIQUE,"
                   " serial_number TEXT NOT NULL,"
                   " issuer_name TEXT,"
                   " ca_configuration TEXT,"
                   " state BIGINT NOT NULL,"
                   " open BIGINT NOT NULL,"
                   " deliveries BIGINT NOT NULL,"
                   " events BIGINT NOT NULL,"
                   " created_ms BIGINT NOT NULL,"
                   " updated_ms BIGINT NOT NULL);"
                   "CREATE INDEX tenant_revocation_open ON tenant_revocation (deliveries, seq)"
                   " WHERE open = 1;"
                   "CREATE INDEX tenant_revocation_state ON tenant_revocation (state, seq);"
                   /* Request 0: results for contexts that there are not. */
                   "CREATE TABLE tenant_revocation_event ("
                   " request BIGINT NOT NULL,"
                   " n BIGINT NOT NULL,"
                   " time_ms BIGINT NOT NULL,"
                   " what TEXT NOT NULL,"
                   " verdict BIGINT NOT NULL,"
                   " requeued BIGINT NOT NULL,"
                   " result TEXT,"
                   " PRIMARY KEY (request, n));"
                   "CREATE TABLE tenant_clock ("
                   " name TEXT PRIMARY KEY,"
                   " time_ms BIGINT NOT NULL);" },
    { .number = 3,
            .what = "challenges of devices, and what was said of their SCEP transactions",
            .sql = "CREATE TABLE tenant_scep_challenge ("
                   " seq BIGINT PRIMARY KEY,"
                   " id TEXT NOT NULL UNIQUE,"
                   " document TEXT NOT NULL,"
                   " issued_ms BIGINT NOT NULL,"
                   " expires_ms BIGINT NOT NULL,"
                   " targeted BIGINT NOT NULL,"
                   " transaction_id TEXT,"
                   " csr_hash BYTEA);"
                   "CREATE TABLE tenant_scep_transaction ("
                   " seq BIGINT PRIMARY KEY,"
                   " transaction_id TEXT NOT NULL,"
                   " csr_hash BYTEA NOT NULL,"
                   " challenge_id TEXT,"
                   " validated BIGINT NOT NULL,"
                   " validations BIGINT NOT NULL,"
                   " last_code TEXT NOT NULL,"
                   " first_ms BIGINT NOT NULL,"
                   " last_ms BIGINT NOT NULL,"
                   " outcome BIGINT NOT NULL,"
                   " notification TEXT,"
                   " caller_info TEXT,"
                   " notifications BIGINT NOT NULL,"
                   " contradictions BIGINT NOT NULL,"
                   " notified_ms BIGINT NOT NULL,"
                   " notified_last_ms BIGINT NOT NULL,"
                   " UNIQUE (transaction_id, csr_hash));"
                   /* To forget the oldest of them. */
                   "CREATE INDEX tenant_scep_refused ON tenant_scep_transaction (seq)"
                   " WHERE validated = 0;" },
    { .number = 4,
            .what = "clients that sign in with a certificate, secrets that end, roles",
            .sql = "ALTER TABLE tenant_client ADD COLUMN"
                   " secret_expires_ms BIGINT NOT NULL DEFAULT 0;"
                   "ALTER TABLE tenant_client ADD COLUMN roles BIGINT NOT NULL DEFAULT -1;"
                   "CREATE TABLE tenant_client_certificate ("
                   " client_id TEXT NOT NULL,"
                   " sha256 BYTEA NOT NULL,"
                   " sha1 BYTEA NOT NULL,"
                   " der BYTEA NOT NULL,"
                   " PRIMARY KEY (client_id, sha256));"
                   "CREATE TABLE tenant_assertion ("
                   " client_id TEXT NOT NULL,"
                   " jti TEXT NOT NULL,"
                   " expires_ms BIGINT NOT NULL,"
                   " PRIMARY KEY (client_id, jti));"
                   "CREATE INDEX tenant_assertion_end ON tenant_assertion (expires_ms);" },
    { .number = 5,
            .what = "connectors that are enrolled, and their certificates",
            .sql = "ALTER TABLE tenant_connector ADD COLUMN display_name TEXT;"
                   "ALTER TABLE tenant_connector ADD COLUMN machine_name TEXT;"
                   "ALTER TABLE tenant_connector ADD COLUMN enrolled_ms BIGINT NOT NULL DEFAULT 0;"
                   "CREATE TABLE tenant_identity ("
                   " hash BYTEA PRIMARY KEY,"
                   " connector_id TEXT NOT NULL,"
                   " n BIGINT NOT NULL,"
                   " expires_ms BIGINT NOT NULL,"
                   " used BIGINT NOT NULL,"
                   " superseded BIGINT NOT NULL,"
                   " UNIQUE (connector_id, n));" },
    { .number = 6,
            .what = "releases of the connector",
            .sql = "CREATE TABLE tenant_release ("
                   " version TEXT PRIMARY KEY,"
                   " release_ms BIGINT NOT NULL);" },
    { .number = 7,
            .what = "health metrics of connectors, and names that administrators give them",
            .sql = "ALTER TABLE tenant_connector ADD COLUMN given_name TEXT;"
                   "CREATE TABLE tenant_metric_last ("
                   " connector_id TEXT NOT NULL,"
                   " name TEXT NOT NULL,"
                   " time_ms BIGINT NOT NULL,"
                   " value BIGINT NOT NULL,"
                   " succeeded BIGINT NOT NULL,"
                   " failed BIGINT NOT NULL,"
                   " PRIMARY KEY (connector_id, name));"
                   "CREATE TABLE tenant_metric ("
                   " connector_id TEXT NOT NULL,"
                   " minute BIGINT NOT NULL,"
                   " name TEXT NOT NULL,"
                   " succeeded BIGINT NOT NULL,"
                   " failed BIGINT NOT NULL,"
                   " PRIMARY KEY (connector_id, minute, name));" },
    { .number = 8,
            .what = "keys of connectors, by which those are found that have not used their certificate",
            .sql = "ALTER TABLE tenant_identity ADD COLUMN key_hash BYTEA;"
                   "CREATE INDEX tenant_identity_key ON tenant_identity (key_hash);" },
    { .number = 9,
            .what = "minutes of health metrics by their age",
            .sql = "CREATE INDEX tenant_metric_minute ON tenant_metric (minute);" },
};

static const struct db_schema schema = { .name = "tenant",
    .steps = steps,
    .count = CC_COUNT(steps) };

int
tenant_store_open(const char *uri, struct tenant_store **ret_store, struct cc_err *err)
{
    struct tenant_store *store = calloc(1, sizeof(*store));

    if (store == NULL)
        return cc_err_nomem(err);
    if (db_open(uri, &schema, &store->db, err) != 0) {
        free(store);
        return -1;
    }
    *ret_store = store;
    return 0;
}

void
tenant_store_close(struct tenant_store *store)
{
    if (store == NULL)
        return;
    db_close(store->db);
    free(store);
}

int
tenant_one(struct db_conn *conn, const char *sql, const struct db_value *params, size_t count,
        struct db_rows **ret_rows, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, sql, params, count, &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) != 1) {
        db_rows_free(rows);
        return got;
    }
    *ret_rows = rows;
    return 1;
}

int
tenant_counter_add(struct db_conn *conn, const char *name, int64_t n, struct cc_err *err)
{
    if (n == 0)
        return 0;
    return db_exec(conn,
            "INSERT INTO tenant_counter (name, n) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET n = tenant_counter.n + excluded.n",
            DB_PARAMS(DB_TEXT(name), DB_INT(n)), NULL, err);
}

/* ---- values ---- */

struct value_op {
    const char *name;
    const char *value;
    char *got;
};

static int
read_value(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct value_op *op = arg;
    struct db_rows *rows;
    int got;

    free(op->got);
    op->got = NULL;
    got = tenant_one(conn, "SELECT value FROM tenant_value WHERE name = $1",
            DB_PARAMS(DB_TEXT(op->name)), &rows, err);
    if (got != 1)
        return got;
    op->got = cc_strdup(db_text(rows, 0), err);
    db_rows_free(rows);
    return op->got == NULL ? -1 : 0;
}

int
tenant_value_get(struct tenant_store *store, const char *name, char **ret_value, struct cc_err *err)
{
    struct value_op op = { .name = name };

    if (db_read(store->db, read_value, &op, err) != 0) {
        free(op.got);
        return -1;
    }
    *ret_value = op.got;
    return 0;
}

static int
write_value(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct value_op *op = arg;

    return db_exec(conn,
            "INSERT INTO tenant_value (name, value) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            DB_PARAMS(DB_TEXT(op->name), DB_TEXT(op->value)), NULL, err);
}

int
tenant_value_put(struct tenant_store *store, const char *name, const char *value,
        struct cc_err *err)
{
    struct value_op op = { .name = name, .value = value };

    return db_write(store->db, write_value, &op, err);
}

/* ---- clients ---- */

struct client_op {
    const char *id;
    const struct tenant_client *client;
    struct tenant_client got;
    bool found;
    int64_t count;
};

static int
write_client(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct client_op *op = arg;
    struct cc_bytes salt = { op->client->salt, TENANT_SALT_LEN };
    struct cc_bytes hash = { op->client->hash, TENANT_HASH_LEN };

    return db_exec(conn,
            "INSERT INTO tenant_client (id, salt, hash, secret_expires_ms, roles)"
            " VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (id) DO UPDATE SET salt = excluded.salt, hash = excluded.hash,"
            " secret_expires_ms = excluded.secret_expires_ms, roles = excluded.roles",
            DB_PARAMS(DB_TEXT(op->id), DB_BLOB(salt), DB_BLOB(hash),
                    DB_INT(op->client->secret_expires_ms), DB_INT(op->client->roles)),
            NULL, err);
}

int
tenant_client_put(struct tenant_store *store, const char *id, const struct tenant_client *client,
        struct cc_err *err)
{
    struct client_op op = { .id = id, .client = client };

    return db_write(store->db, write_client, &op, err);
}

static int
read_client(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct client_op *op = arg;
    struct cc_bytes salt, hash;
    struct db_rows *rows;
    int got;

    op->found = false;
    got = tenant_one(conn,
            "SELECT salt, hash, secret_expires_ms, roles FROM tenant_client WHERE id = $1",
            DB_PARAMS(DB_TEXT(op->id)), &rows, err);
    if (got != 1)
        return got;
    salt = db_blob(rows, 0);
    hash = db_blob(rows, 1);
    if (salt.len == TENANT_SALT_LEN && hash.len == TENANT_HASH_LEN) {
        memcpy(op->got.salt, salt.data, TENANT_SALT_LEN);
        memcpy(op->got.hash, hash.data, TENANT_HASH_LEN);
        op->got.secret_expires_ms = db_int(rows, 2);
        op->got.roles = db_int(rows, 3);
        op->found = true;
    }
    db_rows_free(rows);
    return 0;
}

int
tenant_client_find(struct tenant_store *store, const char *id, bool *ret_found,
        struct tenant_client *ret, struct cc_err *err)
{
    struct client_op op = { .id = id };

    if (db_read(store->db, read_client, &op, err) != 0)
        return -1;
    *ret_found = op.found;
    *ret = op.got;
    return 0;
}

static int
count_clients(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct client_op *op = arg;
    struct db_rows *rows;
    int got = tenant_one(conn, "SELECT COUNT(*) FROM tenant_client", DB_NO_PARAMS, &rows, err);

    if (got != 1)
        return got;
    op->count = db_int(rows, 0);
    db_rows_free(rows);
    return 0;
}

int
tenant_client_count(struct tenant_store *store, int64_t *ret, struct cc_err *err)
{
    struct client_op op = { .count = 0 };

    if (db_read(store->db, count_clients, &op, err) != 0)
        return -1;
    *ret = op.count;
    return 0;
}

/* ---- tokens ---- */

struct token_op {
    struct cc_bytes hash;
    const char *client_id;
    unsigned audience;
    int64_t now_ms, expires_ms;
    bool found;
    struct tenant_token got;
    int64_t count;
};

static int
write_token(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct token_op *op = arg;

    if (db_exec(conn, "DELETE FROM tenant_token WHERE expires_ms <= $1",
                DB_PARAMS(DB_INT(op->now_ms)), NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "INSERT INTO tenant_token (hash, client_id, audience, expires_ms)"
            " VALUES ($1, $2, $3, $4)",
            DB_PARAMS(DB_BLOB(op->hash), DB_TEXT(op->client_id), DB_INT(op->audience),
                    DB_INT(op->expires_ms)),
            NULL, err);
}

int
tenant_token_put(struct tenant_store *store, const uint8_t hash[TENANT_HASH_LEN],
        const char *client_id, unsigned audience, int64_t now_ms, int64_t expires_ms,
        struct cc_err *err)
{
    struct token_op op = { .hash = { hash, TENANT_HASH_LEN },
        .client_id = client_id,
        .audience = audience,
        .now_ms = now_ms,
        .expires_ms = expires_ms };

    return db_write(store->db, write_token, &op, err);
}

static int
read_token(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct token_op *op = arg;
    struct db_rows *rows;
    int got;

    op->found = false;
    got = tenant_one(conn,
            "SELECT audience, roles FROM tenant_token"
            " JOIN tenant_client ON id = client_id WHERE tenant_token.hash = $1"
            " AND expires_ms > $2",
            DB_PARAMS(DB_BLOB(op->hash), DB_INT(op->now_ms)), &rows, err);
    if (got != 1)
        return got;
    op->got = (struct tenant_token){ .audience = (unsigned)db_int(rows, 0),
        .roles = db_int(rows, 1) };
    op->found = true;
    db_rows_free(rows);
    return 0;
}

int
tenant_token_find(struct tenant_store *store, const uint8_t hash[TENANT_HASH_LEN], int64_t now_ms,
        bool *ret_found, struct tenant_token *ret, struct cc_err *err)
{
    struct token_op op = { .hash = { hash, TENANT_HASH_LEN }, .now_ms = now_ms };

    if (db_read(store->db, read_token, &op, err) != 0)
        return -1;
    *ret_found = op.found;
    *ret = op.got;
    return 0;
}

static int
delete_tokens(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct token_op *op = arg;

    return db_exec(conn, "DELETE FROM tenant_token", DB_NO_PARAMS, &op->count, err);
}

int
tenant_token_expire_all(struct tenant_store *store, int64_t *ret_count, struct cc_err *err)
{
    struct token_op op = { .count = 0 };

    if (db_write(store->db, delete_tokens, &op, err) != 0)
        return -1;
    *ret_count = op.count;
    return 0;
}

/* ---- users ---- */

struct user_op {
    const char *upn;
    const char *upn_lower;
    const char *new_id;
    char id[TENANT_UUID_LEN];
};

static int
read_user(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct user_op *op = arg;
    struct db_rows *rows;
    int got;

    op->id[0] = '\0';
    got = tenant_one(conn, "SELECT id FROM tenant_user WHERE upn_lower = $1",
            DB_PARAMS(DB_TEXT(op->upn_lower)), &rows, err);
    if (got != 1)
        return got;
    (void)cc_strcpy(op->id, sizeof(op->id), db_text(rows, 0));
    db_rows_free(rows);
    return 0;
}

/* Another caller may have made the user in between: then that one's id is the answer. */
static int
write_user(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct user_op *op = arg;

    if (db_exec(conn,
                "INSERT INTO tenant_user (upn_lower, id, upn) VALUES ($1, $2, $3)"
                " ON CONFLICT (upn_lower) DO NOTHING",
                DB_PARAMS(DB_TEXT(op->upn_lower), DB_TEXT(op->new_id), DB_TEXT(op->upn)), NULL,
                err) != 0)
        return -1;
    return read_user(conn, arg, err);
}

int
tenant_user_id(struct tenant_store *store, const char *upn, bool create,
        char ret_id[TENANT_UUID_LEN], struct cc_err *err)
{
    char lower[TENANT_UPN_MAX + 1];
    char new_id[CC_UUID_LEN];
    struct user_op op = { .upn = upn, .upn_lower = lower, .new_id = new_id };

    if (!cc_strcpy(lower, sizeof(lower), upn))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a user name of more than %d bytes",
                TENANT_UPN_MAX);
    cc_lower(lower);
    if (db_read(store->db, read_user, &op, err) != 0)
        return -1;
    if (op.id[0] == '\0' && create) {
        if (cc_uuid(new_id, err) != 0 || db_write(store->db, write_user, &op, err) != 0)
            return -1;
    }
    memcpy(ret_id, op.id, sizeof(op.id));
    return 0;
}
