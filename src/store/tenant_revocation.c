/* SPDX-License-Identifier: MIT */
#include "store/tenant_revocation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/process.h"
#include "base/text.h"
#include "tenant_int.h"

#define NONCE_BYTES 8

/* The end of the cool-down is a small named value, so that a restart does not end it. */
#define NEXT_DOWNLOAD "revocation-next-download-ms"

#define COLUMNS                                                                                    \
    "seq, context, serial_number, issuer_name, ca_configuration, state, downloads, created_ms,"    \
    " updated_ms, COALESCE(error_code, -1), result"

static struct tenant_revocation
read_row(struct db_rows *rows)
{
    return (struct tenant_revocation){ .seq = db_int(rows, 0),
        .context = db_text(rows, 1),
        .serial_number = db_text(rows, 2),
        .issuer_name = db_text(rows, 3),
        .ca_configuration = db_text(rows, 4),
        .state = (enum tenant_revocation_state)db_int(rows, 5),
        .downloads = db_int(rows, 6),
        .created_ms = db_int(rows, 7),
        .updated_ms = db_int(rows, 8),
        .error_code = db_int(rows, 9),
        .result = db_text(rows, 10) };
}

static int
read_one_int(struct db_conn *conn, const char *sql, const struct db_value *params, size_t count,
        int64_t fallback, int64_t *ret, struct cc_err *err)
{
    struct db_rows *rows;
    int got = tenant_one(conn, sql, params, count, &rows, err);

    *ret = fallback;
    if (got != 1)
        return got;
    *ret = db_int(rows, 0);
    db_rows_free(rows);
    return 0;
}

/* ---- adding ---- */

struct add_op {
    const struct tenant_new_revocation *revocations;
    size_t count;
    int64_t now_ms;
    char (*contexts)[TENANT_CONTEXT_LEN];
};

static int
add_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct add_op *op = arg;
    int64_t seq;

    if (read_one_int(conn, "SELECT COALESCE(MAX(seq), 0) FROM tenant_revocation", DB_NO_PARAMS, 0,
                &seq, err) != 0)
        return -1;
    for (size_t i = 0; i < op->count; i++) {
        const struct tenant_new_revocation *r = &op->revocations[i];

        if (db_exec(conn,
                    "INSERT INTO tenant_revocation (seq, context, serial_number, issuer_name,"
                    " ca_configuration, state, downloads, created_ms, updated_ms, error_code,"
                    " result) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, NULL, NULL)",
                    DB_PARAMS(DB_INT(++seq), DB_TEXT(op->contexts[i]), DB_TEXT(r->serial_number),
                            DB_TEXT(r->issuer_name), DB_TEXT(r->ca_configuration),
                            DB_INT(TENANT_REVOCATION_OPEN), DB_INT(op->now_ms), DB_INT(op->now_ms)),
                    NULL, err) != 0)
            return -1;
    }
    return 0;
}

int
tenant_revocation_add(struct tenant_store *store, const struct tenant_new_revocation *revocations,
        size_t count, int64_t now_ms, char (*ret_contexts)[TENANT_CONTEXT_LEN], struct cc_err *err)
{
    struct add_op op = { .revocations = revocations,
        .count = count,
        .now_ms = now_ms,
        .contexts = ret_contexts };

    for (size_t i = 0; i < count; i++) {
        uint8_t nonce[2 * NONCE_BYTES];

        if (cc_random(nonce, sizeof(nonce), err) != 0)
            return -1;
        cc_hex(nonce, sizeof(nonce), false, ret_contexts[i]);
    }
    return db_write(store->db, add_all, &op, err);
}

/* ---- handing out ---- */

struct hand_out_op {
    const struct tenant_revocation_ask *ask;
    int64_t *seqs; /* room for ask->max */
    size_t count;
    tenant_revocation_fn fn;
    void *arg;
};

static int
cool_down(struct db_conn *conn, const struct tenant_revocation_ask *ask, bool *ret_waits,
        struct cc_err *err)
{
    struct db_rows *rows;
    int64_t next_ms = 0;
    char text[32];
    int got = tenant_one(conn, "SELECT value FROM tenant_value WHERE name = $1",
            DB_PARAMS(DB_TEXT(NEXT_DOWNLOAD)), &rows, err);

    if (got < 0)
        return -1;
    if (got == 1) {
        next_ms = strtoll(db_text(rows, 0), NULL, 10);
        db_rows_free(rows);
    }
    if ((*ret_waits = ask->now_ms < next_ms))
        return 0;
    (void)snprintf(text, sizeof(text), "%" PRId64, ask->now_ms + ask->cool_down_ms);
    return db_exec(conn,
            "INSERT INTO tenant_value (name, value) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            DB_PARAMS(DB_TEXT(NEXT_DOWNLOAD), DB_TEXT(text)), NULL, err);
}

static bool
passes(const struct tenant_revocation_ask *ask, const struct tenant_revocation *r)
{
    const char *value = ask->filter_after_cut ? r->ca_configuration : r->issuer_name;

    if (ask->issuer_name == NULL || ask->issuer_name[0] == '\0')
        return true;
    return value != NULL && strcmp(value, ask->issuer_name) == 0;
}

static int
pick(struct db_conn *conn, struct hand_out_op *op, struct cc_err *err)
{
    const struct tenant_revocation_ask *ask = op->ask;
    struct db_rows *rows = NULL;
    unsigned seen = 0;
    int got;

    if (db_query(conn, "SELECT " COLUMNS " FROM tenant_revocation WHERE state = $1 ORDER BY seq",
                DB_PARAMS(DB_INT(TENANT_REVOCATION_OPEN)), &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_revocation r = read_row(rows);
        bool wanted = passes(ask, &r);

        if (wanted || ask->filter_after_cut)
            seen++;
        if (seen > ask->max)
            break;
        if (wanted)
            op->seqs[op->count++] = r.seq;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
take(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct hand_out_op *op = arg;
    bool waits;

    op->count = 0;
    if (cool_down(conn, op->ask, &waits, err) != 0)
        return -1;
    if (waits)
        return 0;
    if (pick(conn, op, err) != 0)
        return -1;
    for (size_t i = 0; i < op->count; i++)
        if (db_exec(conn,
                    "UPDATE tenant_revocation SET downloads = downloads + 1, updated_ms = $1"
                    " WHERE seq = $2",
                    DB_PARAMS(DB_INT(op->ask->now_ms), DB_INT(op->seqs[i])), NULL, err) != 0)
            return -1;
    return 0;
}

static int
show(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct hand_out_op *op = arg;

    for (size_t i = 0; i < op->count; i++) {
        struct db_rows *rows;
        struct tenant_revocation r;
        int got = tenant_one(conn, "SELECT " COLUMNS " FROM tenant_revocation WHERE seq = $1",
                DB_PARAMS(DB_INT(op->seqs[i])), &rows, err);
        int stop;

        if (got < 0)
            return -1;
        if (got == 0)
            continue;
        r = read_row(rows);
        stop = op->fn(op->arg, &r);
        db_rows_free(rows);
        if (stop != 0)
            break;
    }
    return 0;
}

int
tenant_revocation_hand_out(struct tenant_store *store, const struct tenant_revocation_ask *ask,
        tenant_revocation_fn fn, void *arg, struct cc_err *err)
{
    struct hand_out_op op = { .ask = ask, .fn = fn, .arg = arg };
    int rc;

    if ((op.seqs = calloc(ask->max, sizeof(*op.seqs))) == NULL)
        return cc_err_nomem(err);
    rc = db_write(store->db, take, &op, err);
    if (rc == 0 && op.count > 0)
        rc = db_read(store->db, show, &op, err);
    free(op.seqs);
    return rc;
}

/* ---- answers ---- */

struct answer_op {
    const struct tenant_revocation_answer *answers;
    size_t count;
    int64_t now_ms;
    size_t unknown;
};

static enum tenant_revocation_state
state_after(const struct tenant_revocation_answer *answer)
{
    if (answer->error_code == 0)
        return TENANT_REVOCATION_SUCCEEDED;
    return answer->retryable ? TENANT_REVOCATION_OPEN : TENANT_REVOCATION_FAILED;
}

static int
answer_one(struct db_conn *conn, struct answer_op *op,
        const struct tenant_revocation_answer *answer, struct cc_err *err)
{
    int64_t seq, n;

    if (read_one_int(conn, "SELECT seq FROM tenant_revocation WHERE context = $1",
                DB_PARAMS(DB_TEXT(answer->context)), 0, &seq, err) != 0)
        return -1;
    if (seq == 0) {
        op->unknown++;
        return 0;
    }
    if (read_one_int(conn, "SELECT COUNT(*) FROM tenant_revocation_answer WHERE seq = $1",
                DB_PARAMS(DB_INT(seq)), 0, &n, err) != 0)
        return -1;
    if (db_exec(conn,
                "INSERT INTO tenant_revocation_answer (seq, n, time_ms, result)"
                " VALUES ($1, $2, $3, $4)",
                DB_PARAMS(DB_INT(seq), DB_INT(n + 1), DB_INT(op->now_ms), DB_TEXT(answer->text)),
                NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "UPDATE tenant_revocation SET state = $1, error_code = $2, result = $3,"
            " updated_ms = $4 WHERE seq = $5 AND state = $6",
            DB_PARAMS(DB_INT((int64_t)state_after(answer)), DB_INT(answer->error_code),
                    DB_TEXT(answer->text), DB_INT(op->now_ms), DB_INT(seq),
                    DB_INT(TENANT_REVOCATION_OPEN)),
            NULL, err);
}

static int
answer_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct answer_op *op = arg;

    op->unknown = 0;
    for (size_t i = 0; i < op->count; i++)
        if (answer_one(conn, op, &op->answers[i], err) != 0)
            return -1;
    return 0;
}

int
tenant_revocation_answer(struct tenant_store *store, const struct tenant_revocation_answer *answers,
        size_t count, int64_t now_ms, size_t *ret_unknown, struct cc_err *err)
{
    struct answer_op op = { .answers = answers, .count = count, .now_ms = now_ms };

    if (db_write(store->db, answer_all, &op, err) != 0)
        return -1;
    *ret_unknown = op.unknown;
    return 0;
}

/* ---- looking ---- */

struct list_op {
    const char *context;
    int64_t after_seq;
    unsigned limit;
    tenant_revocation_fn fn;
    tenant_revocation_answer_fn answer_fn;
    void *arg;
};

static int
list(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct list_op *op = arg;
    struct db_rows *rows = NULL;
    int got, rc;

    if (op->context != NULL)
        rc = db_query(conn, "SELECT " COLUMNS " FROM tenant_revocation WHERE context = $1",
                DB_PARAMS(DB_TEXT(op->context)), &rows, err);
    else
        rc = db_query(conn,
                "SELECT " COLUMNS " FROM tenant_revocation WHERE seq > $1 ORDER BY seq LIMIT $2",
                DB_PARAMS(DB_INT(op->after_seq), DB_INT(op->limit)), &rows, err);
    if (rc != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1) {
        struct tenant_revocation r = read_row(rows);

        if (op->fn(op->arg, &r) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_revocation_list(struct tenant_store *store, const char *context, int64_t after_seq,
        unsigned limit, tenant_revocation_fn fn, void *arg, struct cc_err *err)
{
    struct list_op op = { .context = context,
        .after_seq = after_seq,
        .limit = limit,
        .fn = fn,
        .arg = arg };

    return db_read(store->db, list, &op, err);
}

static int
list_answers(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct list_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT time_ms, result FROM tenant_revocation_answer WHERE seq = $1 ORDER BY n",
                DB_PARAMS(DB_INT(op->after_seq)), &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) == 1)
        if (op->answer_fn(op->arg, db_int(rows, 0), db_text(rows, 1)) != 0)
            break;
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
tenant_revocation_answers(struct tenant_store *store, int64_t seq, tenant_revocation_answer_fn fn,
        void *arg, struct cc_err *err)
{
    struct list_op op = { .after_seq = seq, .answer_fn = fn, .arg = arg };

    return db_read(store->db, list_answers, &op, err);
}
