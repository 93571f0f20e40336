/* SPDX-License-Identifier: MIT */
#include "store/copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "copy_int.h"
#include "store/instance.h"
#include "store_int.h"

#define COLUMNS_MAX 32
#define BATCH_ROWS 200
#define BATCH_BYTES ((size_t)1024 * 1024)
#define TELL_ROWS 10000
#define CRL_GAP "10000"
#define EPOCH_GAP "1000000"
#define UNFINISHED "a copy into it did not come to its end"

/* Without leases, which are the running instances'. */
const struct copy_table copy_tables[] = {
    { "store_value", "name, value", "tt" },
    { "store_counter", "name, value", "ti" },
    { "store_instance", "epoch, name, host, alive, lease_until_ms, commits, joined_ms", "ittiiii" },
    { "journal",
            "workload, request_id, request_context, attempt, state, outcome, verdict, user_name,"
            " device, thumbprint, note, result, error_code, detail, lease_until_ms, received_ms,"
            " updated_ms, body, variant, serial_number, ca, owner, holder",
            "tttiiiitttttttiiittttit" },
    { "journal_count", "workload, instance, succeeded, failed", "ttii" },
    { "ca_authority",
            "id, name, key_uri, certificate, chain, request, ocsp_signer, created_ms, change,"
            " crl_number",
            "ittbbbbiii" },
    { "ca_count", "authority, instance, generation, reserved, issued, held, revoked, abandoned",
            "itiiiiii" },
    { "ca_certificate",
            "authority, serial, state, request_id, profile, subject, key_hash, not_before_ms,"
            " not_after_ms, reserved_ms, issued_ms, reserved_by",
            "ibitttbiiiii" },
    { "ca_certificate_der", "authority, reserved_ms, serial, certificate", "iibb" },
    { "ca_revoked", "authority, serial, change, reason, revoked_ms, invalidity_ms, not_after_ms",
            "ibiiiii" },
    { "ca_released", "authority, change, held_change, serial, released_ms", "iiibi" },
    { "ca_crl", "authority, kind, number, base_number, change, this_update_ms, next_update_ms, len",
            "iiiiiiii" },
    { "ca_crl_piece", "authority, kind, number, n, data", "iiiib" },
    { "ca_crl_change", "authority, change", "ii" },
    { "ca_approval",
            "authority, request_id, profile, subject, decision, reason, asked_ms, decided_ms",
            "itttitii" },
    { "keypool", "id, spec, sealed, spki, made_ms", "ttbbi" },
    { "scep_transaction",
            "id, profile, transaction_id, key_hash, state, notify, lease_until_ms, ca,"
            " ca_request_id, csr, pending, certificate, fail_info, detail, hresult, attempts,"
            " next_ms, received_ms, expires_ms, owner",
            "bttbiiittbtbitiiiiii" },
    { "scep_challenge", "hash, transaction_key, expires_ms", "bbi" },
    { "scep_count", "name, instance, count", "tti" },
    { "pin_token",
            "token, salt, iterations, failures, accepted, accepted_ms, trying, trying_owner,"
            " trying_until_ms",
            "bbiibibii" },
    { "pin_refused", "token, hash, reason, refused_ms", "bbti" },
};
const size_t copy_table_count = CC_COUNT(copy_tables);

/* ---- a batch of rows ---- */

struct batch {
    const struct copy_table *table;
    size_t columns;
    char insert[2048];
    size_t rows, bytes;
    struct db_value values[BATCH_ROWS * COLUMNS_MAX]; /* texts and blobs are ours */
};

static int
batch_begin(struct batch *batch, const struct copy_table *table, struct cc_err *err)
{
    struct cc_buf sql = CC_BUF_INIT(sizeof(batch->insert) - 1);
    int rc = cc_buf_printf(&sql, err, "INSERT INTO %s (%s) VALUES (", table->name, table->columns);

    batch->table = table;
    batch->columns = strlen(table->types);
    for (size_t i = 1; i <= batch->columns && rc == 0; i++)
        rc = cc_buf_printf(&sql, err, "$%zu%s", i, i < batch->columns ? ", " : ")");
    if (rc == 0)
        cc_strcpy(batch->insert, sizeof(batch->insert), cc_buf_str(&sql));
    cc_buf_free(&sql);
    return rc;
}

static void
batch_drop(struct batch *batch)
{
    for (size_t i = 0; i < batch->rows * batch->columns; i++)
        free((void *)(uintptr_t)batch->values[i].bytes.data);
    batch->rows = 0;
    batch->bytes = 0;
}

static int
insert_batch(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct batch *batch = arg;

    for (size_t row = 0; row < batch->rows; row++)
        if (db_exec(conn, batch->insert, batch->values + row * batch->columns, batch->columns, NULL,
                    err) != 0)
            return cc_err_in(err, "%s", batch->table->name);
    return 0;
}

static int
batch_flush(struct batch *batch, struct store *to, struct cc_err *err)
{
    int rc = batch->rows == 0 ? 0 : db_write(to->db, insert_batch, batch, err);

    batch_drop(batch);
    return rc;
}

/* An empty one is not NULL. */
static int
copy_bytes(struct db_value *value, struct cc_bytes from, struct cc_err *err)
{
    uint8_t *copy = malloc(from.len + 1);

    if (copy == NULL)
        return cc_err_nomem(err);
    if (from.len > 0)
        memcpy(copy, from.data, from.len);
    copy[from.len] = '\0';
    value->bytes = (struct cc_bytes){ copy, from.len };
    return 0;
}

static int
read_value(struct db_rows *rows, int column, char type, struct db_value *ret, struct cc_err *err)
{
    struct cc_bytes bytes;

    if (db_is_null(rows, column))
        return 0;
    if (type == 'i') {
        *ret = DB_INT(db_int(rows, column));
        return 0;
    }
    bytes = type == 't' ? cc_bytes_of_str(db_text(rows, column)) : db_blob(rows, column);
    ret->type = type == 't' ? DB_TYPE_TEXT : DB_TYPE_BLOB;
    return copy_bytes(ret, bytes, err);
}

/* The row is counted first, so that what was copied of it is freed whatever happens. */
static int
batch_add(struct batch *batch, struct db_rows *rows, struct cc_err *err)
{
    struct db_value *values = batch->values + batch->rows * batch->columns;

    for (size_t i = 0; i < batch->columns; i++)
        values[i] = (struct db_value){ .type = DB_TYPE_NULL };
    batch->rows++;
    for (size_t i = 0; i < batch->columns; i++) {
        if (read_value(rows, (int)i, batch->table->types[i], &values[i], err) != 0)
            return -1;
        batch->bytes += values[i].bytes.len;
    }
    return 0;
}

/* ---- all rows ---- */

struct copying {
    struct store *to;
    struct batch *batch;
    store_copy_fn fn;
    void *arg;
    int64_t rows;
    bool begun;
};

static void
tell(const struct copying *copying)
{
    const struct store_copy_progress progress = { copying->batch->table->name, copying->rows };

    if (copying->fn != NULL)
        copying->fn(copying->arg, &progress);
}

static int
copy_rows(struct copying *copying, struct db_rows *rows, struct cc_err *err)
{
    struct batch *batch = copying->batch;
    int got;

    while ((got = db_next(rows, err)) > 0) {
        if (batch_add(batch, rows, err) != 0)
            return -1;
        if (++copying->rows % TELL_ROWS == 0)
            tell(copying);
        if ((batch->rows == BATCH_ROWS || batch->bytes >= BATCH_BYTES) &&
                batch_flush(batch, copying->to, err) != 0)
            return -1;
    }
    return got < 0 ? -1 : batch_flush(batch, copying->to, err);
}

static int
copy_table(struct db_conn *from, struct copying *copying, const struct copy_table *table,
        struct cc_err *err)
{
    /* Why the old one must not be used any more is no reason for the new one. */
    const char *only =
            strcmp(table->name, "store_value") == 0 ? " WHERE name <> '" STORE_UNUSABLE "'" : "";
    struct cc_buf select = CC_BUF_INIT(2048);
    struct db_rows *rows = NULL;
    int rc = -1;

    if (batch_begin(copying->batch, table, err) == 0 &&
            cc_buf_printf(&select, err, "SELECT %s FROM %s%s", table->columns, table->name, only) ==
                    0 &&
            db_query(from, cc_buf_str(&select), DB_NO_PARAMS, &rows, err) == 0)
        rc = copy_rows(copying, rows, err);
    batch_drop(copying->batch);
    db_rows_free(rows);
    cc_buf_free(&select);
    return rc;
}

/* A closure may be run again when its connection was lost; what was copied is in the other store then. */
static int
copy_all(struct db_conn *from, void *arg, struct cc_err *err)
{
    struct copying *copying = arg;

    if (copying->begun)
        return cc_err_set(err, CC_DOM_STORE, 0, "the connection was lost during the copy");
    copying->begun = true;
    for (size_t i = 0; i < copy_table_count; i++)
        if (copy_table(from, copying, &copy_tables[i], err) != 0)
            return -1;
    return 0;
}

/* ---- before and after ---- */

static int
count_of(struct db_conn *conn, const char *sql, int64_t *ret, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, sql, DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        *ret = db_int(rows, 0);
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

/* Nothing is in it, and from now on it is marked. */
static int
claim(struct db_conn *conn, void *arg, struct cc_err *err)
{
    char sql[128];
    int64_t found = 0;

    (void)arg;
    for (size_t i = 0; i < copy_table_count; i++) {
        (void)snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM (SELECT 1 FROM %s LIMIT 1) AS found",
                copy_tables[i].name);
        if (count_of(conn, sql, &found, err) != 0)
            return -1;
        if (found > 0)
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "it is not empty (there are rows in %s): what is copied goes into a new one",
                    copy_tables[i].name);
    }
    return db_exec(conn, "INSERT INTO store_value (name, value) VALUES ($1, $2)",
            DB_PARAMS(DB_TEXT(STORE_UNUSABLE), DB_TEXT(UNFINISHED)), NULL, err);
}

/* Numbers that were not given since the copy was made, and CRLs at once. */
static int
leave_gaps(struct db_conn *conn, struct cc_err *err)
{
    if (db_exec(conn, "UPDATE ca_authority SET crl_number = crl_number + " CRL_GAP, DB_NO_PARAMS,
                NULL, err) != 0 ||
            db_exec(conn, "UPDATE ca_crl SET this_update_ms = 0", DB_NO_PARAMS, NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "UPDATE store_counter SET value = value + " EPOCH_GAP " WHERE name = 'epoch'",
            DB_NO_PARAMS, NULL, err);
}

/* Those who ran when the copy was made do not run on it. */
static int
complete(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const bool *past = arg;

    if (*past && leave_gaps(conn, err) != 0)
        return -1;
    if (db_exec(conn, "UPDATE store_instance SET alive = 0", DB_NO_PARAMS, NULL, err) != 0)
        return -1;
    return db_exec(conn, "DELETE FROM store_value WHERE name = $1",
            DB_PARAMS(DB_TEXT(STORE_UNUSABLE)), NULL, err);
}

/* What was moved away is whole; what a copy left half is not. */
static int
check_whole(struct db_conn *conn, void *arg, struct cc_err *err)
{
    int64_t found = 0;

    (void)arg;
    if (count_of(conn,
                "SELECT COUNT(*) FROM store_value WHERE name = '" STORE_UNUSABLE
                "' AND value = '" UNFINISHED "'",
                &found, err) != 0)
        return -1;
    return found == 0 ? 0 : cc_err_set(err, CC_DOM_INPUT, 0, UNFINISHED);
}

int
store_copy(struct store *from, struct store *to, bool past, store_copy_fn fn, void *arg,
        int64_t *ret_rows, struct cc_err *err)
{
    struct copying copying = { .to = to, .fn = fn, .arg = arg };
    int rc = -1;

    if ((copying.batch = calloc(1, sizeof(*copying.batch))) == NULL)
        return cc_err_nomem(err);
    if (db_read(from->db, check_whole, NULL, err) == 0 && db_write(to->db, claim, NULL, err) == 0 &&
            db_read(from->db, copy_all, &copying, err) == 0 &&
            db_write(to->db, complete, &past, err) == 0)
        rc = 0;
    free(copying.batch);
    *ret_rows = copying.rows;
    return rc;
}

/* ---- the store as a whole ---- */

static int
look_for_instances(struct db_conn *conn, void *arg, struct cc_err *err)
{
    int64_t *ret_count = arg;

    return count_of(conn,
            "SELECT COUNT(*) FROM store_instance WHERE alive = 1 AND lease_until_ms > db_now_ms()",
            ret_count, err);
}

int
store_check_unused(struct store *store, struct cc_err *err)
{
    int64_t count = 0;

    if (!db_is_shared(store->db))
        return db_hold_alone(store->db, err);
    if (db_read(store->db, look_for_instances, &count, err) != 0)
        return -1;
    if (count == 0)
        return 0;
    return cc_err_set(err, CC_DOM_INPUT, 0, "%lld instances use it: stop them first",
            (long long)count);
}

/* Who runs on it is declared gone: an instance that was stopped all the while writes nothing when it wakes up. */
static int
retire(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const char *reason = arg;

    if (reason == NULL)
        return db_exec(conn, "DELETE FROM store_value WHERE name = $1",
                DB_PARAMS(DB_TEXT(STORE_UNUSABLE)), NULL, err);
    if (db_exec(conn, "UPDATE store_instance SET alive = 0", DB_NO_PARAMS, NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "INSERT INTO store_value (name, value) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            DB_PARAMS(DB_TEXT(STORE_UNUSABLE), DB_TEXT(reason)), NULL, err);
}

int
store_retire(struct store *store, const char *reason, struct cc_err *err)
{
    return db_write(store->db, retire, (void *)(uintptr_t)reason, err);
}
