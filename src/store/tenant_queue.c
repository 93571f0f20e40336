/* SPDX-License-Identifier: MIT */
#include "store/tenant.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/process.h"
#include "base/text.h"
#include "tenant_int.h"

/* What of a request changes, as a step of the queue reads and writes it. */
struct row {
    int64_t seq;
    char nonce[TENANT_NONCE_LEN];
    int state;
    int attempt, failures;
    int64_t due_ms;
    int64_t events;
    char connector_id[TENANT_ID_MAX + 1]; /* "": nobody */
};

/* ---- requestContext: "number.attempt.nonce" ---- */

static void
context_make(char ret[TENANT_CONTEXT_LEN], int64_t seq, int attempt, const char *nonce)
{
    (void)snprintf(ret, TENANT_CONTEXT_LEN, "%" PRId64 ".%d.%s", seq, attempt, nonce);
}

struct context {
    int64_t seq;
    int attempt;
    const char *nonce; /* inside the text it was read from */
};

static bool
context_read(const char *text, struct context *ret)
{
    char *end;

    if (strlen(text) >= TENANT_CONTEXT_LEN || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    ret->seq = strtoll(text, &end, 10);
    if (errno != 0 || end[0] != '.' || end[1] < '0' || end[1] > '9')
        return false;
    ret->attempt = (int)strtol(end + 1, &end, 10);
    if (errno != 0 || end[0] != '.')
        return false;
    ret->nonce = end + 1;
    return true;
}

/* ---- one row ---- */

/* 1 with the row that a context names, 0 when there is none such in this queue. */
static int
row_of_context(struct db_conn *conn, const char *feature, const char *text, struct row *ret,
        struct cc_err *err)
{
    struct context context;
    struct db_rows *rows;
    const char *connector;
    int got;

    if (!context_read(text, &context))
        return 0;
    got = tenant_one(conn,
            "SELECT nonce, state, attempt, failures, due_ms, events, connector_id"
            " FROM tenant_request WHERE seq = $1 AND feature = $2",
            DB_PARAMS(DB_INT(context.seq), DB_TEXT(feature)), &rows, err);
    if (got != 1)
        return got;

    ret->seq = context.seq;
    (void)cc_strcpy(ret->nonce, sizeof(ret->nonce), db_text(rows, 0));
    ret->state = (int)db_int(rows, 1);
    ret->attempt = (int)db_int(rows, 2);
    ret->failures = (int)db_int(rows, 3);
    ret->due_ms = db_int(rows, 4);
    ret->events = db_int(rows, 5);
    connector = db_text(rows, 6);
    (void)cc_strcpy(ret->connector_id, sizeof(ret->connector_id),
            connector != NULL ? connector : "");
    db_rows_free(rows);
    return strcmp(ret->nonce, context.nonce) == 0 && context.attempt <= ret->attempt;
}

static bool
is_open(int state)
{
    return state == TENANT_QUEUED || state == TENANT_LEASED;
}

static bool
leased_by(const struct row *row, const char *connector_id)
{
    return row->state == TENANT_LEASED && strcmp(row->connector_id, connector_id) == 0;
}

static int
row_write(struct db_conn *conn, const struct row *row, int64_t now_ms, struct cc_err *err)
{
    const char *connector = row->connector_id[0] != '\0' ? row->connector_id : NULL;

    return db_exec(conn,
            "UPDATE tenant_request SET state = $1, open = $2, due_ms = $3, attempt = $4,"
            " failures = $5, events = $6, updated_ms = $7, connector_id = $8 WHERE seq = $9",
            DB_PARAMS(DB_INT(row->state), DB_INT(is_open(row->state)), DB_INT(row->due_ms),
                    DB_INT(row->attempt), DB_INT(row->failures), DB_INT(row->events),
                    DB_INT(now_ms), DB_TEXT(connector), DB_INT(row->seq)),
            NULL, err);
}

int
tenant_event_add(struct db_conn *conn, int64_t seq, int64_t n, const struct tenant_event *event,
        struct cc_bytes hash, struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO tenant_event (request, n, time_ms, what, connector_id, attempt,"
            " lease_until_ms, verdict, requeued, hash, result)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            DB_PARAMS(DB_INT(seq), DB_INT(n), DB_INT(event->time_ms), DB_TEXT(event->what),
                    DB_TEXT(event->connector_id), DB_INT(event->attempt),
                    DB_INT(event->lease_until_ms), DB_INT((int64_t)event->verdict),
                    DB_INT(event->requeued), DB_BLOB(hash), DB_TEXT(event->result)),
            NULL, err);
}

/* The row as it is now, and what made it so. */
static int
row_step(struct db_conn *conn, struct row *row, const struct tenant_event *event,
        struct cc_bytes hash, struct cc_err *err)
{
    row->events++;
    if (tenant_event_add(conn, row->seq, row->events, event, hash, err) != 0)
        return -1;
    return row_write(conn, row, event->time_ms, err);
}

const struct cc_bytes tenant_no_hash = { NULL, 0 };

/* ---- leasing ---- */

struct lease_op {
    const struct tenant_lease_ask *ask;
    struct row *rows; /* room for ask->max_requests */
    size_t count;
    tenant_work_fn fn;
    void *arg;
    bool stopped;
};

/* Those that are free now, the longest waiting first, as far as max_bytes goes. */
static int
lease_pick(struct db_conn *conn, struct lease_op *op, struct cc_err *err)
{
    const struct tenant_lease_ask *ask = op->ask;
    struct db_rows *rows = NULL;
    size_t bytes = 0;
    int got;

    op->count = 0;
    if (db_query(conn,
                "SELECT seq, nonce, attempt, failures, events, bytes FROM tenant_request"
                " WHERE feature = $1 AND open = 1 AND due_ms <= $2"
                " ORDER BY due_ms, seq LIMIT $3",
                DB_PARAMS(DB_TEXT(ask->feature), DB_INT(ask->now_ms), DB_INT(ask->max_requests)),
                &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1 && op->count < ask->max_requests) {
        struct row *row = &op->rows[op->count];

        bytes += (size_t)db_int(rows, 5);
        if (op->count > 0 && bytes > ask->max_bytes)
            break;
        row->seq = db_int(rows, 0);
        (void)cc_strcpy(row->nonce, sizeof(row->nonce), db_text(rows, 1));
        row->attempt = (int)db_int(rows, 2);
        row->failures = (int)db_int(rows, 3);
        row->events = db_int(rows, 4);
        op->count++;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
lease_take(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct lease_op *op = arg;
    const struct tenant_lease_ask *ask = op->ask;

    if (lease_pick(conn, op, err) != 0)
        return -1;
    for (size_t i = 0; i < op->count; i++) {
        struct row *row = &op->rows[i];
        struct tenant_event leased = { .time_ms = ask->now_ms,
            .what = "leased",
            .connector_id = ask->connector_id,
            .attempt = row->attempt + 1,
            .lease_until_ms = ask->lease_until_ms };

        row->state = TENANT_LEASED;
        row->attempt++;
        row->due_ms = ask->lease_until_ms;
        (void)cc_strcpy(row->connector_id, sizeof(row->connector_id), ask->connector_id);
        if (row_step(conn, row, &leased, tenant_no_hash, err) != 0)
            return -1;
    }
    return tenant_counter_add(conn, COUNTER_LEASES, (int64_t)op->count, err);
}

/* A request whose PFX was removed meanwhile was cancelled with it and is left out. */
static int
lease_hand_out(struct db_conn *conn, struct lease_op *op, const struct row *row, struct cc_err *err)
{
    char context[TENANT_CONTEXT_LEN];
    struct db_rows *rows;
    int got;

    got = tenant_one(conn,
            "SELECT r.id, COALESCE(b.overrides, d.overrides), d.document, b.device_id,"
            " b.password_encryption, b.content_cipher, b.recipient, p.upn, p.thumbprint,"
            " p.intended_purpose, p.provider_name, p.key_name, p.padding_scheme, p.pfx,"
            " p.encrypted_password"
            " FROM tenant_request r LEFT JOIN tenant_request_document d ON d.seq = r.seq"
            " LEFT JOIN tenant_request_body b ON b.seq = r.seq"
            " LEFT JOIN tenant_pfx p ON p.id = b.pfx_id"
            " WHERE r.seq = $1 AND (d.seq IS NOT NULL OR p.id IS NOT NULL)",
            DB_PARAMS(DB_INT(row->seq)), &rows, err);
    if (got != 1)
        return got;
    context_make(context, row->seq, row->attempt, row->nonce);
    struct tenant_work work = { .request_id = db_text(rows, 0),
        .context = context,
        .attempt = row->attempt,
        .lease_until_ms = row->due_ms,
        .overrides = db_text(rows, 1),
        .document = db_text(rows, 2),
        .device_id = db_text(rows, 3),
        .password_encryption = db_text(rows, 4),
        .content_cipher = db_text(rows, 5),
        .recipient = db_blob(rows, 6),
        .pfx = { .user = db_text(rows, 7),
                .thumbprint = db_text(rows, 8),
                .intended_purpose = db_text(rows, 9),
                .provider_name = db_text(rows, 10),
                .key_name = db_text(rows, 11),
                .padding_scheme = db_text(rows, 12),
                .blob = db_blob(rows, 13),
                .encrypted_password = db_blob(rows, 14) } };
    op->stopped = op->fn(op->arg, &work) != 0;
    db_rows_free(rows);
    return 0;
}

static int
lease_read(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct lease_op *op = arg;

    op->stopped = false;
    for (size_t i = 0; i < op->count && !op->stopped; i++)
        if (lease_hand_out(conn, op, &op->rows[i], err) != 0)
            return -1;
    return 0;
}

int
tenant_queue_lease(struct tenant_store *store, const struct tenant_lease_ask *ask,
        tenant_work_fn fn, void *arg, size_t *ret_count, struct cc_err *err)
{
    struct lease_op op = { .ask = ask, .fn = fn, .arg = arg };
    int64_t due_ms;
    int rc = -1;

    /* An empty queue is asked far more often than a full one, and needs no transaction that writes. */
    if (tenant_queue_next_due(store, ask->feature, &due_ms, err) != 0)
        return -1;
    if (due_ms < 0 || due_ms > ask->now_ms) {
        *ret_count = 0;
        return 0;
    }
    if ((op.rows = calloc(ask->max_requests, sizeof(*op.rows))) == NULL)
        return cc_err_nomem(err);
    if (db_write(store->db, lease_take, &op, err) != 0)
        goto out;
    if (op.count > 0 && db_read(store->db, lease_read, &op, err) != 0)
        goto out;
    *ret_count = op.count;
    rc = 0;
out:
    free(op.rows);
    return rc;
}

struct due_op {
    const char *feature;
    int64_t due_ms;
};

static int
read_due(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct due_op *op = arg;
    struct db_rows *rows;
    int got;

    op->due_ms = -1;
    got = tenant_one(conn,
            "SELECT due_ms FROM tenant_request WHERE feature = $1 AND open = 1"
            " ORDER BY due_ms, seq LIMIT 1",
            DB_PARAMS(DB_TEXT(op->feature)), &rows, err);
    if (got != 1)
        return got;
    op->due_ms = db_int(rows, 0);
    db_rows_free(rows);
    return 0;
}

int
tenant_queue_next_due(struct tenant_store *store, const char *feature, int64_t *ret_ms,
        struct cc_err *err)
{
    struct due_op op = { .feature = feature };

    if (db_read(store->db, read_due, &op, err) != 0)
        return -1;
    *ret_ms = op.due_ms;
    return 0;
}

/* ---- renewing and giving back ---- */

struct contexts_op {
    const char *feature;
    const char *connector_id;
    const char *const *contexts;
    size_t count;
    int64_t now_ms, lease_until_ms;
    bool *held;
    size_t released;
};

static int
renew_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct contexts_op *op = arg;

    for (size_t i = 0; i < op->count; i++) {
        struct row row = { 0 };
        int got = row_of_context(conn, op->feature, op->contexts[i], &row, err);

        if (got < 0)
            return -1;
        /* A lease that ended but was given to nobody else goes on. */
        op->held[i] = got == 1 && leased_by(&row, op->connector_id);
        if (!op->held[i])
            continue;
        row.due_ms = op->lease_until_ms;
        if (row_write(conn, &row, op->now_ms, err) != 0)
            return -1;
    }
    return 0;
}

int
tenant_queue_renew(struct tenant_store *store, const char *feature, const char *connector_id,
        const char *const *contexts, size_t count, int64_t now_ms, int64_t lease_until_ms,
        bool *ret_held, struct cc_err *err)
{
    struct contexts_op op = { .feature = feature,
        .connector_id = connector_id,
        .contexts = contexts,
        .count = count,
        .now_ms = now_ms,
        .lease_until_ms = lease_until_ms,
        .held = ret_held };

    return db_write(store->db, renew_all, &op, err);
}

static int
release_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct contexts_op *op = arg;

    op->released = 0;
    for (size_t i = 0; i < op->count; i++) {
        struct row row = { 0 };
        struct tenant_event released = { .time_ms = op->now_ms,
            .what = "released",
            .connector_id = op->connector_id };
        int got = row_of_context(conn, op->feature, op->contexts[i], &row, err);

        if (got < 0)
            return -1;
        if (got == 0 || !leased_by(&row, op->connector_id))
            continue;
        released.attempt = row.attempt;
        row.state = TENANT_QUEUED;
        row.due_ms = op->now_ms;
        row.connector_id[0] = '\0';
        if (row_step(conn, &row, &released, tenant_no_hash, err) != 0)
            return -1;
        op->released++;
    }
    return tenant_counter_add(conn, COUNTER_RELEASED, (int64_t)op->released, err);
}

int
tenant_queue_release(struct tenant_store *store, const char *feature, const char *connector_id,
        const char *const *contexts, size_t count, int64_t now_ms, size_t *ret_count,
        struct cc_err *err)
{
    struct contexts_op op = { .feature = feature,
        .connector_id = connector_id,
        .contexts = contexts,
        .count = count,
        .now_ms = now_ms };

    if (db_write(store->db, release_all, &op, err) != 0)
        return -1;
    *ret_count = op.released;
    return 0;
}

/* ---- kinds ---- */

struct kinds_op {
    const char *feature;
    const char *const *contexts;
    size_t count;
    char (*kinds)[TENANT_KIND_MAX + 1];
};

static int
read_kind(struct db_conn *conn, int64_t seq, char ret[TENANT_KIND_MAX + 1], struct cc_err *err)
{
    struct db_rows *rows;
    const char *kind;
    int got = tenant_one(conn, "SELECT kind FROM tenant_request_document WHERE seq = $1",
            DB_PARAMS(DB_INT(seq)), &rows, err);

    if (got != 1)
        return got;
    if ((kind = db_text(rows, 0)) != NULL)
        (void)cc_strcpy(ret, TENANT_KIND_MAX + 1, kind);
    db_rows_free(rows);
    return 0;
}

static int
read_kinds(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct kinds_op *op = arg;

    for (size_t i = 0; i < op->count; i++) {
        struct row row = { 0 };
        int got = row_of_context(conn, op->feature, op->contexts[i], &row, err);

        op->kinds[i][0] = '\0';
        if (got < 0 || (got == 1 && read_kind(conn, row.seq, op->kinds[i], err) != 0))
            return -1;
    }
    return 0;
}

int
tenant_queue_kinds(struct tenant_store *store, const char *feature, const char *const *contexts,
        size_t count, char (*ret_kinds)[TENANT_KIND_MAX + 1], struct cc_err *err)
{
    struct kinds_op op = { .feature = feature,
        .contexts = contexts,
        .count = count,
        .kinds = ret_kinds };

    return db_read(store->db, read_kinds, &op, err);
}

/* ---- results ---- */

struct upload_op {
    const char *feature;
    const char *connector_id;
    const struct tenant_result *results;
    size_t count;
    const struct tenant_retry_rule *rule;
    int64_t now_ms;
    enum tenant_verdict *verdicts;
};

/* Whether the very same result was accepted before: 1, 0, -1. */
static int
seen_before(struct db_conn *conn, int64_t seq, struct cc_bytes hash, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn,
            "SELECT 1 FROM tenant_event WHERE request = $1 AND hash = $2 AND verdict = $3 LIMIT 1",
            DB_PARAMS(DB_INT(seq), DB_BLOB(hash), DB_INT(TENANT_ACCEPTED)), &rows, err);

    if (got == 1)
        db_rows_free(rows);
    return got;
}

static enum tenant_verdict
judge(const struct row *row, const struct upload_op *op, const struct tenant_result *result,
        bool seen)
{
    if (seen)
        return TENANT_DUPLICATE;
    if (row->state == TENANT_COMPLETED || row->state == TENANT_FAILED)
        return TENANT_ALREADY_COMPLETED;
    if (row->state == TENANT_CANCELLED)
        return TENANT_LEASE_LOST;
    /* Somebody else is at it and may succeed. */
    if (!result->succeeded && row->state == TENANT_LEASED && row->due_ms > op->now_ms &&
            !leased_by(row, op->connector_id))
        return TENANT_LEASE_LOST;
    return TENANT_ACCEPTED;
}

/* The row after an accepted result; true when the request goes back into the queue. */
static bool
settle(struct row *row, const struct upload_op *op, const struct tenant_result *result)
{
    bool again;

    (void)cc_strcpy(row->connector_id, sizeof(row->connector_id), op->connector_id);
    if (result->succeeded) {
        row->state = TENANT_COMPLETED;
        return false;
    }
    row->failures++;
    again = result->retryable && row->failures < op->rule->max_attempts;
    row->state = again ? TENANT_QUEUED : TENANT_FAILED;
    if (again) {
        row->due_ms = op->now_ms + op->rule->delay_ms;
        row->connector_id[0] = '\0';
    }
    return again;
}

static int
upload_one(struct db_conn *conn, const struct upload_op *op, const struct tenant_result *result,
        enum tenant_verdict *ret_verdict, bool *ret_requeued, struct cc_err *err)
{
    struct row row = { 0 };
    uint8_t digest[TENANT_HASH_LEN];
    struct cc_bytes hash = { digest, sizeof(digest) };
    struct tenant_event uploaded = { .time_ms = op->now_ms,
        .what = "uploaded",
        .connector_id = op->connector_id };
    int got, seen;

    *ret_requeued = false;
    if ((got = row_of_context(conn, op->feature, result->context, &row, err)) < 0)
        return -1;
    if (got == 0) {
        *ret_verdict = TENANT_UNKNOWN;
        return 0;
    }
    if (EVP_Digest(result->text, strlen(result->text), digest, NULL, EVP_sha256(), NULL) != 1)
        return cc_err_set_openssl(err, "digest of a result");
    if ((seen = seen_before(conn, row.seq, hash, err)) < 0)
        return -1;

    uploaded.attempt = row.attempt;
    uploaded.verdict = judge(&row, op, result, seen == 1);
    if (uploaded.verdict == TENANT_ACCEPTED)
        uploaded.requeued = settle(&row, op, result);
    if (uploaded.verdict != TENANT_DUPLICATE)
        uploaded.result = result->text;
    if (row_step(conn, &row, &uploaded, hash, err) != 0)
        return -1;
    *ret_verdict = uploaded.verdict;
    *ret_requeued = uploaded.requeued;
    return 0;
}

static int
count_uploads(struct db_conn *conn, const int64_t *by_verdict, int64_t requeued, struct cc_err *err)
{
    char name[32];

    for (int v = TENANT_ACCEPTED; v < TENANT_VERDICTS; v++) {
        (void)snprintf(name, sizeof(name), COUNTER_UPLOADS "%d", v);
        if (tenant_counter_add(conn, name, by_verdict[v], err) != 0)
            return -1;
    }
    return tenant_counter_add(conn, COUNTER_REQUEUED, requeued, err);
}

static int
upload_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct upload_op *op = arg;
    int64_t by_verdict[TENANT_VERDICTS] = { 0 };
    int64_t requeued = 0;
    bool again;

    for (size_t i = 0; i < op->count; i++) {
        if (upload_one(conn, op, &op->results[i], &op->verdicts[i], &again, err) != 0)
            return -1;
        by_verdict[op->verdicts[i]]++;
        requeued += again;
    }
    return count_uploads(conn, by_verdict, requeued, err);
}

int
tenant_queue_upload(struct tenant_store *store, const char *feature, const char *connector_id,
        const struct tenant_result *results, size_t count, const struct tenant_retry_rule *rule,
        int64_t now_ms, enum tenant_verdict *ret_verdicts, struct cc_err *err)
{
    struct upload_op op = { .feature = feature,
        .connector_id = connector_id,
        .results = results,
        .count = count,
        .rule = rule,
        .now_ms = now_ms,
        .verdicts = ret_verdicts };

    return db_write(store->db, upload_all, &op, err);
}

/* ---- cancelling ---- */

struct cancel_op {
    const char *request_id;
    int64_t now_ms;
    bool found;
};

static int
cancel_rows(struct db_conn *conn, struct db_rows *rows, int64_t now_ms, size_t *ret_count,
        struct cc_err *err)
{
    int got;

    *ret_count = 0;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_event cancelled = { .time_ms = now_ms, .what = "cancelled" };
        int64_t seq = db_int(rows, 0);
        int64_t n = db_int(rows, 1) + 1;

        if (tenant_event_add(conn, seq, n, &cancelled, tenant_no_hash, err) != 0)
            return -1;
        if (db_exec(conn,
                    "UPDATE tenant_request SET state = $1, open = 0, events = $2, updated_ms = $3"
                    " WHERE seq = $4",
                    DB_PARAMS(DB_INT(TENANT_CANCELLED), DB_INT(n), DB_INT(now_ms), DB_INT(seq)),
                    NULL, err) != 0)
            return -1;
        ++*ret_count;
    }
    return got;
}

int
tenant_queue_cancel_pfx(struct db_conn *conn, const char *pfx_id, int64_t now_ms,
        struct cc_err *err)
{
    struct db_rows *rows = NULL;
    size_t count;
    int rc;

    if (db_query(conn,
                "SELECT r.seq, r.events FROM tenant_request_body b"
                " JOIN tenant_request r ON r.seq = b.seq"
                " WHERE b.pfx_id = $1 AND r.open = 1 ORDER BY r.seq",
                DB_PARAMS(DB_TEXT(pfx_id)), &rows, err) != 0)
        return -1;
    rc = cancel_rows(conn, rows, now_ms, &count, err);
    db_rows_free(rows);
    return rc;
}

static int
cancel_request(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct cancel_op *op = arg;
    struct db_rows *rows = NULL;
    size_t count;
    int rc;

    if (db_query(conn, "SELECT seq, events FROM tenant_request WHERE id = $1 AND open = 1",
                DB_PARAMS(DB_TEXT(op->request_id)), &rows, err) != 0)
        return -1;
    rc = cancel_rows(conn, rows, op->now_ms, &count, err);
    op->found = count > 0;
    db_rows_free(rows);
    return rc;
}

int
tenant_queue_cancel(struct tenant_store *store, const char *request_id, int64_t now_ms,
        bool *ret_found, struct cc_err *err)
{
    struct cancel_op op = { .request_id = request_id, .now_ms = now_ms };

    if (db_write(store->db, cancel_request, &op, err) != 0)
        return -1;
    *ret_found = op.found;
    return 0;
}
