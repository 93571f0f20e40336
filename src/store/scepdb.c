/* SPDX-License-Identifier: MIT */
#include "store/scepdb.h"

#include <string.h>

#include "store_int.h"

#define COLUMNS                                                                                    \
    "id, profile, transaction_id, key_hash, state, notify, ca, ca_request_id, csr, pending,"       \
    " certificate, fail_info, detail, hresult, attempts, received_ms, expires_ms, owner,"          \
    " lease_until_ms"

static void
read_row(struct db_rows *rows, int64_t epoch, struct scepdb_row *ret)
{
    *ret = (struct scepdb_row){
        .id = db_blob(rows, 0),
        .profile = db_text(rows, 1),
        .transaction_id = db_text(rows, 2),
        .key_hash = db_blob(rows, 3),
        .state = (enum scepdb_state)db_int(rows, 4),
        .notify = (enum scepdb_notify)db_int(rows, 5),
        .ca = db_text(rows, 6),
        .ca_request_id = db_text(rows, 7),
        .csr = db_blob(rows, 8),
        .pending = db_text(rows, 9),
        .certificate = db_blob(rows, 10),
        .fail_info = (int)db_int(rows, 11),
        .detail = db_text(rows, 12),
        .hresult = (uint32_t)db_int(rows, 13),
        .attempts = (unsigned)db_int(rows, 14),
        .received_ms = db_int(rows, 15),
        .expires_ms = db_int(rows, 16),
        .ours = db_int(rows, 17) == epoch,
        .lease_until_ms = db_int(rows, 18),
    };
}

/* Calls fn for each row until it returns non-zero. */
static int
each_row(struct db_rows *rows, int64_t epoch, scepdb_fn fn, void *arg, struct cc_err *err)
{
    struct scepdb_row row;
    int got;

    while ((got = db_next(rows, err)) > 0) {
        read_row(rows, epoch, &row);
        if (fn(arg, &row) != 0)
            break;
    }
    return got < 0 ? -1 : 0;
}

/* ---- claim ---- */

struct claim_op {
    int64_t epoch;
    const struct scepdb_claiming *claiming;
    enum scepdb_claim claim;
    scepdb_fn fn;
    void *arg;
    bool found;
};

static int
insert_row(struct db_conn *conn, const struct scepdb_claiming *c, int64_t epoch, bool *ret_inserted,
        struct cc_err *err)
{
    const struct scepdb_row *row = c->row;
    int64_t changes = 0;

    if (db_exec(conn,
                "INSERT INTO scep_transaction (id, profile, transaction_id, key_hash, state, notify,"
                " owner, lease_until_ms, ca, ca_request_id, csr, fail_info, hresult, attempts,"
                " next_ms, received_ms, expires_ms)"
                " VALUES ($1, $2, $3, $4, 1, 0, $5, $6, $7, $8, $9, 0, 0, 0, 0, $10, $11)"
                " ON CONFLICT DO NOTHING",
                DB_PARAMS(DB_BLOB(row->id), DB_TEXT(row->profile), DB_TEXT(row->transaction_id),
                        DB_BLOB(row->key_hash), DB_INT(epoch), DB_INT(c->lease_until_ms),
                        DB_TEXT(row->ca), DB_TEXT(row->ca_request_id), DB_BLOB(row->csr),
                        DB_INT(row->received_ms), DB_INT(row->expires_ms)),
                &changes, err) != 0)
        return -1;
    *ret_inserted = changes == 1;
    return 0;
}

static int
take_row(struct db_conn *conn, struct cc_bytes id, int64_t epoch, int64_t now_ms,
        int64_t lease_until_ms, bool *ret_ours, struct cc_err *err)
{
    int64_t changes = 0;

    if (db_exec(conn,
                "UPDATE scep_transaction SET owner = $1, lease_until_ms = $2"
                " WHERE id = $3 AND state <= 2 AND (owner = $1 OR lease_until_ms < $4"
                " OR " OWNER_GONE("owner") ")",
                DB_PARAMS(DB_INT(epoch), DB_INT(lease_until_ms), DB_BLOB(id), DB_INT(now_ms)),
                &changes, err) != 0)
        return -1;
    *ret_ours = changes == 1;
    return 0;
}

/* The challenge is this row's, or nobody's until now. */
static int
spend(struct db_conn *conn, const struct scepdb_claiming *c, bool *ret_ours, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int64_t changes = 0;
    int got;

    *ret_ours = true;
    if (c->challenge.len == 0)
        return 0;
    if (db_exec(conn,
                "INSERT INTO scep_challenge (hash, transaction_key, expires_ms) VALUES ($1, $2, $3)"
                " ON CONFLICT DO NOTHING",
                DB_PARAMS(DB_BLOB(c->challenge), DB_BLOB(c->row->id),
                        DB_INT(c->challenge_expires_ms)),
                &changes, err) != 0)
        return -1;
    if (changes == 1)
        return 0;
    if (db_query(conn, "SELECT 1 FROM scep_challenge WHERE hash = $1 AND transaction_key = $2",
                DB_PARAMS(DB_BLOB(c->challenge), DB_BLOB(c->row->id)), &rows, err) != 0)
        return -1;
    got = db_next(rows, err);
    db_rows_free(rows);
    *ret_ours = got > 0;
    return got < 0 ? -1 : 0;
}

static int
note_row(void *arg, const struct scepdb_row *row)
{
    struct claim_op *op = arg;

    op->found = true;
    if (row->state > SCEPDB_PENDING)
        op->claim = SCEPDB_KNOWN;
    return op->fn(op->arg, row);
}

static int
look_row(struct db_conn *conn, struct cc_bytes id, int64_t epoch, scepdb_fn fn, void *arg,
        struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int rc;

    if (db_query(conn, "SELECT " COLUMNS " FROM scep_transaction WHERE id = $1",
                DB_PARAMS(DB_BLOB(id)), &rows, err) != 0)
        return -1;
    rc = each_row(rows, epoch, fn, arg, err);
    db_rows_free(rows);
    return rc;
}

static int
claim(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct claim_op *op = arg;
    const struct scepdb_claiming *c = op->claiming;
    bool inserted = false, ours = false;

    if (insert_row(conn, c, op->epoch, &inserted, err) != 0)
        return -1;
    if (inserted) {
        if (spend(conn, c, &ours, err) != 0)
            return -1;
        op->claim = ours ? SCEPDB_NEW : SCEPDB_SPENT;
        if (ours)
            return 0;
        return db_exec(conn, "DELETE FROM scep_transaction WHERE id = $1",
                DB_PARAMS(DB_BLOB(c->row->id)), NULL, err);
    }
    if (take_row(conn, c->row->id, op->epoch, c->now_ms, c->lease_until_ms, &ours, err) != 0)
        return -1;
    op->claim = ours ? SCEPDB_TAKEN : SCEPDB_BUSY;
    return look_row(conn, c->row->id, op->epoch, note_row, op, err);
}

int
scepdb_claim(struct store *store, const struct scepdb_claiming *claiming,
        enum scepdb_claim *ret_claim, scepdb_fn fn, void *arg, struct cc_err *err)
{
    struct claim_op op = { .epoch = store->epoch, .claiming = claiming, .fn = fn, .arg = arg };

    if (db_write(store->db, claim, &op, err) != 0)
        return -1;
    *ret_claim = op.claim;
    return 0;
}

/* ---- look ---- */

struct look_op {
    int64_t epoch;
    struct cc_bytes id, key_hash;
    const char *profile, *transaction_id, *ca_request_id;
    int64_t now_ms, next_ms;
    unsigned max;
    scepdb_fn fn;
    void *arg;
};

static int
look_id(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct look_op *op = arg;

    return look_row(conn, op->id, op->epoch, op->fn, op->arg, err);
}

int
scepdb_find(struct store *store, struct cc_bytes id, scepdb_fn fn, void *arg, struct cc_err *err)
{
    struct look_op op = { .epoch = store->epoch, .id = id, .fn = fn, .arg = arg };

    return db_read(store->db, look_id, &op, err);
}

static int
look_transaction(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct look_op *op = arg;
    struct db_rows *rows = NULL;
    int rc;

    if (db_query(conn,
                "SELECT " COLUMNS " FROM scep_transaction"
                " WHERE transaction_id = $1 AND key_hash = $2 AND profile = $3"
                " ORDER BY received_ms DESC LIMIT 1",
                DB_PARAMS(DB_TEXT(op->transaction_id), DB_BLOB(op->key_hash), DB_TEXT(op->profile)),
                &rows, err) != 0)
        return -1;
    rc = each_row(rows, op->epoch, op->fn, op->arg, err);
    db_rows_free(rows);
    return rc;
}

int
scepdb_find_transaction(struct store *store, const char *profile, const char *transaction_id,
        struct cc_bytes key_hash, scepdb_fn fn, void *arg, struct cc_err *err)
{
    struct look_op op = { .epoch = store->epoch,
        .profile = profile,
        .transaction_id = transaction_id,
        .key_hash = key_hash,
        .fn = fn,
        .arg = arg };

    return db_read(store->db, look_transaction, &op, err);
}

static int
look_search(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct look_op *op = arg;
    struct db_rows *rows = NULL;
    int rc;

    if (db_query(conn,
                "SELECT " COLUMNS " FROM scep_transaction"
                " WHERE transaction_id = $1 OR ca_request_id = $2 ORDER BY received_ms",
                DB_PARAMS(DB_TEXT(op->transaction_id), DB_TEXT(op->ca_request_id)), &rows,
                err) != 0)
        return -1;
    rc = each_row(rows, op->epoch, op->fn, op->arg, err);
    db_rows_free(rows);
    return rc;
}

int
scepdb_search(struct store *store, const char *transaction_id, const char *ca_request_id,
        scepdb_fn fn, void *arg, struct cc_err *err)
{
    struct look_op op = { .epoch = store->epoch,
        .transaction_id = transaction_id,
        .ca_request_id = ca_request_id,
        .fn = fn,
        .arg = arg };

    return db_read(store->db, look_search, &op, err);
}

static int
look_due(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct look_op *op = arg;
    struct db_rows *rows = NULL;
    int rc, got;

    if (db_query(conn,
                "SELECT " COLUMNS " FROM scep_transaction WHERE notify = 1 AND next_ms <= $1"
                " AND owner = $2 ORDER BY next_ms LIMIT $3",
                DB_PARAMS(DB_INT(op->now_ms), DB_INT(op->epoch), DB_INT(op->max)), &rows, err) != 0)
        return -1;
    rc = each_row(rows, op->epoch, op->fn, op->arg, err);
    db_rows_free(rows);
    rows = NULL;
    if (rc != 0 ||
            db_query(conn,
                    "SELECT MIN(next_ms) FROM scep_transaction WHERE notify = 1 AND next_ms > $1"
                    " AND owner = $2",
                    DB_PARAMS(DB_INT(op->now_ms), DB_INT(op->epoch)), &rows, err) != 0)
        return -1;
    got = db_next(rows, err);
    op->next_ms = got > 0 ? db_int(rows, 0) : 0;
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
scepdb_walk_due(struct store *store, int64_t now_ms, unsigned max, scepdb_fn fn, void *arg,
        int64_t *ret_next_ms, struct cc_err *err)
{
    struct look_op op = { .epoch = store->epoch,
        .now_ms = now_ms,
        .max = max,
        .fn = fn,
        .arg = arg };

    if (db_read(store->db, look_due, &op, err) != 0)
        return -1;
    *ret_next_ms = op.next_ms;
    return 0;
}

static int
look_open(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct look_op *op = arg;
    struct db_rows *rows = NULL;
    int rc;

    if (db_query(conn,
                "SELECT " COLUMNS " FROM scep_transaction WHERE notify <> 3 ORDER BY received_ms",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    rc = each_row(rows, op->epoch, op->fn, op->arg, err);
    db_rows_free(rows);
    return rc;
}

int
scepdb_walk_open(struct store *store, scepdb_fn fn, void *arg, struct cc_err *err)
{
    struct look_op op = { .epoch = store->epoch, .fn = fn, .arg = arg };

    return db_read(store->db, look_open, &op, err);
}

/* ---- steps ---- */

struct step_op {
    int64_t epoch;
    struct cc_bytes id;
    const char *pending;
    const struct scepdb_ending *ending;
    int64_t now_ms, until_ms;
    bool ours;
};

static int
must_hit(int64_t changes, struct cc_err *err)
{
    if (changes == 1)
        return 0;
    return cc_err_set(err, CC_DOM_STORE, 0,
            "the enrolment is not in this state, or another instance's by now");
}

static int
take(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct step_op *op = arg;

    return take_row(conn, op->id, op->epoch, op->now_ms, op->until_ms, &op->ours, err);
}

int
scepdb_take(struct store *store, struct cc_bytes id, int64_t now_ms, int64_t lease_until_ms,
        bool *ret_ours, struct cc_err *err)
{
    struct step_op op = { .epoch = store->epoch,
        .id = id,
        .now_ms = now_ms,
        .until_ms = lease_until_ms };

    if (db_write(store->db, take, &op, err) != 0)
        return -1;
    *ret_ours = op.ours;
    return 0;
}

static int
set_pending(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct step_op *op = arg;
    int64_t changes = 0;

    /* Nobody works on it until it is asked for again. */
    if (db_exec(conn,
                "UPDATE scep_transaction SET state = 2, pending = $1, lease_until_ms = 0"
                " WHERE id = $2 AND owner = $3 AND state <= 2",
                DB_PARAMS(DB_TEXT(op->pending), DB_BLOB(op->id), DB_INT(op->epoch)), &changes,
                err) != 0)
        return -1;
    return must_hit(changes, err);
}

int
scepdb_pending(struct store *store, struct cc_bytes id, const char *pending, struct cc_err *err)
{
    struct step_op op = { .epoch = store->epoch, .id = id, .pending = pending };

    return db_write(store->db, set_pending, &op, err);
}

static int
end_it(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct step_op *op = arg;
    const struct scepdb_ending *ending = op->ending;
    int64_t changes = 0;

    if (db_exec(conn,
                "UPDATE scep_transaction SET state = $1, notify = $2, certificate = $3,"
                " fail_info = $4, detail = $5, hresult = $6, next_ms = $7, expires_ms = $8"
                " WHERE id = $9 AND owner = $10 AND state <= 2",
                DB_PARAMS(DB_INT(ending->certificate.len > 0 ? SCEPDB_ISSUED : SCEPDB_FAILED),
                        DB_INT(ending->notify), DB_BLOB(ending->certificate),
                        DB_INT(ending->fail_info), DB_TEXT(ending->detail), DB_INT(ending->hresult),
                        DB_INT(ending->next_ms), DB_INT(ending->expires_ms), DB_BLOB(op->id),
                        DB_INT(op->epoch)),
                &changes, err) != 0)
        return -1;
    return must_hit(changes, err);
}

int
scepdb_end(struct store *store, struct cc_bytes id, const struct scepdb_ending *ending,
        struct cc_err *err)
{
    struct step_op op = { .epoch = store->epoch, .id = id, .ending = ending };

    return db_write(store->db, end_it, &op, err);
}

static int
put_off(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct step_op *op = arg;

    return db_exec(conn,
            "UPDATE scep_transaction SET next_ms = $1, attempts = attempts + 1"
            " WHERE id = $2 AND notify = 1",
            DB_PARAMS(DB_INT(op->until_ms), DB_BLOB(op->id)), NULL, err);
}

int
scepdb_tell_later(struct store *store, struct cc_bytes id, int64_t next_ms, struct cc_err *err)
{
    struct step_op op = { .id = id, .until_ms = next_ms };

    return db_write(store->db, put_off, &op, err);
}

/* ---- told, settled ---- */

struct telling {
    int64_t epoch;
    const struct scepdb_settled *told;
    size_t count;
    bool *ours;
};

/* Nobody shall have the certificate. */
static int
take_back(struct db_conn *conn, const struct scepdb_settled *one, struct cc_err *err)
{
    return db_exec(conn,
            "UPDATE scep_transaction SET state = 4, certificate = NULL, fail_info = $1"
            " WHERE id = $2",
            DB_PARAMS(DB_INT(one->fail_info), DB_BLOB(one->id)), NULL, err);
}

static int
tell(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct telling *op = arg;

    for (size_t i = 0; i < op->count; i++) {
        int64_t changes = 0;

        if (db_exec(conn,
                    "UPDATE scep_transaction SET notify = 2"
                    " WHERE id = $1 AND owner = $2 AND notify = 1",
                    DB_PARAMS(DB_BLOB(op->told[i].id), DB_INT(op->epoch)), &changes, err) != 0)
            return -1;
        op->ours[i] = changes == 1;
        if (op->ours[i] && op->told[i].take_back && take_back(conn, &op->told[i], err) != 0)
            return -1;
    }
    return 0;
}

int
scepdb_told(struct store *store, const struct scepdb_settled *told, size_t count, bool *ret_ours,
        struct cc_err *err)
{
    struct telling op = { store->epoch, told, count, ret_ours };

    return count == 0 ? 0 : db_write(store->db, tell, &op, err);
}

struct settle_op {
    const struct store *store;
    const struct scepdb_settled *settled;
    size_t count;
};

static int
count_one(struct db_conn *conn, const struct store *store, const char *name, struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO scep_count (name, instance, count) VALUES ($1, $2, 1)"
            " ON CONFLICT (name, instance) DO UPDATE SET count = scep_count.count + 1",
            DB_PARAMS(DB_TEXT(name), DB_TEXT(store->name)), NULL, err);
}

static int
read_state(void *arg, const struct scepdb_row *row)
{
    bool *issued = arg;

    *issued = row->state == SCEPDB_ISSUED;
    return 0;
}

static int
settle_one(struct db_conn *conn, const struct store *store, const struct scepdb_settled *one,
        struct cc_err *err)
{
    int64_t changes = 0;
    bool issued = false;

    if (look_row(conn, one->id, store->epoch, read_state, &issued, err) != 0 ||
            db_exec(conn,
                    "UPDATE scep_transaction SET notify = 3, csr = NULL"
                    " WHERE id = $1 AND owner = $2 AND (notify = 1 OR notify = 2)",
                    DB_PARAMS(DB_BLOB(one->id), DB_INT(store->epoch)), &changes, err) != 0)
        return -1;
    if (changes == 0)
        return 0;
    if (one->take_back && take_back(conn, one, err) != 0)
        return -1;
    return count_one(conn, store,
            issued && !one->failed && !one->take_back ? "succeeded" : "failed", err);
}

static int
settle(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct settle_op *op = arg;

    for (size_t i = 0; i < op->count; i++)
        if (settle_one(conn, op->store, &op->settled[i], err) != 0)
            return -1;
    return 0;
}

int
scepdb_settle(struct store *store, const struct scepdb_settled *settled, size_t count,
        struct cc_err *err)
{
    struct settle_op op = { .store = store, .settled = settled, .count = count };

    return db_write(store->db, settle, &op, err);
}

/* ---- adopt ---- */

struct adopting {
    const struct store *store;
    int64_t count;
};

static int
adopt(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct adopting *op = arg;

    return db_exec(conn,
            "UPDATE scep_transaction SET owner = $1,"
            " next_ms = CASE WHEN notify = 1 THEN 0 ELSE next_ms END"
            " WHERE notify <> 3 AND owner <> $1"
            " AND ((notify <> 2 AND " OWNER_GONE(
                    "owner") ") OR " OWNER_WAS("owner", "$2") " OR " OWNER_LONG_GONE("owner") ")",
            DB_PARAMS(DB_INT(op->store->epoch), DB_TEXT(op->store->name)), &op->count, err);
}

int
scepdb_adopt(struct store *store, int64_t *ret_count, struct cc_err *err)
{
    struct adopting op = { store, 0 };

    if (db_write(store->db, adopt, &op, err) != 0)
        return -1;
    *ret_count = op.count;
    return 0;
}

/* ---- count and prune ---- */

static int
count_rows(struct db_conn *conn, struct scepdb_counts *ret, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT SUM(CASE WHEN state = 1 THEN 1 ELSE 0 END),"
                " SUM(CASE WHEN state = 2 THEN 1 ELSE 0 END),"
                " SUM(CASE WHEN notify = 1 THEN 1 ELSE 0 END),"
                " MIN(CASE WHEN state <> 2 THEN received_ms END)"
                " FROM scep_transaction WHERE notify <> 3",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0) {
        ret->claimed = (uint64_t)db_int(rows, 0);
        ret->pending = (uint64_t)db_int(rows, 1);
        ret->due = (uint64_t)db_int(rows, 2);
        ret->oldest_open_ms = db_int(rows, 3);
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
count_totals(struct db_conn *conn, struct scepdb_counts *ret, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT name, CAST(SUM(count) AS BIGINT) FROM scep_count GROUP BY name",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) > 0) {
        const uint64_t count = (uint64_t)db_int(rows, 1);

        if (strcmp(db_text(rows, 0), "succeeded") == 0)
            ret->succeeded = count;
        else
            ret->failed = count;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
count_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct scepdb_counts *counts = arg;

    *counts = (struct scepdb_counts){ 0 };
    if (count_rows(conn, counts, err) != 0)
        return -1;
    return count_totals(conn, counts, err);
}

int
scepdb_count(struct store *store, struct scepdb_counts *ret, struct cc_err *err)
{
    return db_read(store->db, count_all, ret, err);
}

struct prune_op {
    int64_t now_ms;
    unsigned max;
    bool more;
};

static int
prune(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct prune_op *op = arg;
    int64_t rows = 0, challenges = 0;

    if (db_exec(conn,
                "DELETE FROM scep_transaction WHERE id IN (SELECT id FROM scep_transaction"
                " WHERE expires_ms < $1 AND notify = 3 ORDER BY expires_ms LIMIT $2)",
                DB_PARAMS(DB_INT(op->now_ms), DB_INT(op->max)), &rows, err) != 0 ||
            db_exec(conn,
                    "DELETE FROM scep_challenge WHERE hash IN (SELECT hash FROM scep_challenge"
                    " WHERE expires_ms < $1 ORDER BY expires_ms LIMIT $2)",
                    DB_PARAMS(DB_INT(op->now_ms), DB_INT(op->max)), &challenges, err) != 0)
        return -1;
    op->more = rows == op->max || challenges == op->max;
    return 0;
}

int
scepdb_prune(struct store *store, int64_t now_ms, unsigned max, bool *ret_more, struct cc_err *err)
{
    struct prune_op op = { .now_ms = now_ms, .max = max };

    if (db_write(store->db, prune, &op, err) != 0)
        return -1;
    *ret_more = op.more;
    return 0;
}
