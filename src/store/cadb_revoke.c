/* SPDX-License-Identifier: MIT */
#include "store/cadb.h"

#include "cadb_int.h"

/* CRLReason, RFC 5280 section 5.3.1; 7 is not used. */
#define REASON_HOLD 6
#define REASON_REMOVE_FROM_CRL 8
#define REASON_MAX 10

struct revoking {
    const struct store *store;
    const char *authority;
    const struct cadb_revocation *revocation;
    struct cc_bytes serial;
    int64_t now_ms;
    enum cadb_revoked verdict;
    int64_t before_ms; /* reserved by others before that: given up */
    bool given_up;
};

/* The row as it is before the change; state 0: there is none. */
struct present {
    int state;
    int64_t not_after_ms;
    int64_t change; /* of a held or revoked one */
    bool in_hand;   /* another instance that is running reserved it, not long ago */
};

static int
read_present(struct db_conn *conn, int64_t authority, const struct revoking *op,
        struct present *ret, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    *ret = (struct present){ 0 };
    if (db_query(conn,
                "SELECT c.state, c.not_after_ms, r.change, (SELECT COUNT(*) FROM store_instance i"
                " WHERE i.epoch = c.reserved_by AND i.alive = 1 AND i.epoch <> $1"
                " AND c.reserved_ms >= $2)"
                " FROM ca_certificate c"
                " LEFT JOIN ca_revoked r ON r.authority = c.authority AND r.serial = c.serial"
                " WHERE c.authority = $3 AND c.serial = $4",
                DB_PARAMS(DB_INT(op->store->epoch), DB_INT(op->before_ms), DB_INT(authority),
                        DB_BLOB(op->serial)),
                &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        *ret = (struct present){ (int)db_int(rows, 0), db_int(rows, 1), db_int(rows, 2),
            db_int(rows, 3) > 0 };
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

/*
 * Only from the state that was read (*ret_done): what issues a reserved serial does not wait for the authority's lock.  One
 * that was only reserved never belonged to its request, which may be tried again.
 */
static int
leave_state(struct db_conn *conn, int64_t authority, struct cc_bytes serial,
        const struct cadb_step *step, bool *ret_done, struct cc_err *err)
{
    int64_t changes = 0;

    if (db_exec(conn,
                "UPDATE ca_certificate SET state = $1,"
                " request_id = CASE WHEN state = 1 THEN NULL ELSE request_id END"
                " WHERE authority = $2 AND serial = $3 AND state = $4",
                DB_PARAMS(DB_INT(step->to), DB_INT(authority), DB_BLOB(serial), DB_INT(step->from)),
                &changes, err) != 0)
        return -1;
    *ret_done = changes == 1;
    return 0;
}

/* ---- revoke ---- */

static enum cadb_revoked
judge_revoke(int state, bool hold)
{
    switch (state) {
    case CADB_RESERVED:
        /* Held, it could be released into a certificate that nobody has. */
        return hold ? CADB_REVOKE_NOT_FOUND : CADB_REVOKE_DONE;
    case CADB_ISSUED:
        return CADB_REVOKE_DONE;
    case CADB_HELD:
        return hold ? CADB_REVOKE_ALREADY : CADB_REVOKE_DONE;
    case CADB_REVOKED:
        return hold ? CADB_REVOKE_CONFLICT : CADB_REVOKE_ALREADY;
    default:
        return CADB_REVOKE_NOT_FOUND;
    }
}

static int
write_revoked(struct db_conn *conn, int64_t authority, const struct cadb_revocation *revocation,
        int64_t not_after_ms, struct cc_err *err)
{
    int64_t change = 0;

    if (cadb_change(conn, authority, &change, err) != 0)
        return -1;
    return db_exec(conn,
            "INSERT INTO ca_revoked (authority, serial, change, reason, revoked_ms, invalidity_ms,"
            " not_after_ms) VALUES ($1, $2, $3, $4, $5, $6, $7)"
            " ON CONFLICT (authority, serial) DO UPDATE SET change = excluded.change,"
            " reason = excluded.reason, revoked_ms = excluded.revoked_ms,"
            " invalidity_ms = excluded.invalidity_ms",
            DB_PARAMS(DB_INT(authority), DB_BLOB(revocation->serial), DB_INT(change),
                    DB_INT(revocation->reason), DB_INT(revocation->revoked_ms),
                    DB_INT(revocation->invalidity_ms), DB_INT(not_after_ms)),
            NULL, err);
}

/* What follows from the new state, which the row has. */
static int
record_revoked(struct db_conn *conn, int64_t authority, const struct revoking *op,
        const struct cadb_step *step, int64_t not_after_ms, struct cc_err *err)
{
    if (cadb_account(conn, op->store, authority, step, err) != 0 ||
            cadb_next_change(conn, authority, err) != 0)
        return -1;
    return write_revoked(conn, authority, op->revocation, not_after_ms, err);
}

static int
revoke(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct revoking *op = arg;
    bool hold = op->revocation->reason == REASON_HOLD, done = false;
    struct cadb_step step = { .to = hold ? CADB_HELD : CADB_REVOKED };
    struct present present;
    int64_t id;

    if (cadb_authority_lock(conn, op->authority, &id, err) != 0)
        return -1;
    /* A reserved one may be issued meanwhile, once: the next look sees it. */
    while (!done) {
        if (read_present(conn, id, op, &present, err) != 0)
            return -1;
        op->verdict = judge_revoke(present.state, hold);
        if (op->verdict != CADB_REVOKE_DONE)
            return 0;
        step.from = present.state;
        if (leave_state(conn, id, op->serial, &step, &done, err) != 0)
            return -1;
    }
    return record_revoked(conn, id, op, &step, present.not_after_ms, err);
}

static bool
may_revoke_for(int reason)
{
    return reason >= 0 && reason <= REASON_MAX && reason != 7 && reason != REASON_REMOVE_FROM_CRL;
}

int
cadb_revoke(struct store *store, const char *authority, const struct cadb_revocation *revocation,
        enum cadb_revoked *ret, struct cc_err *err)
{
    struct revoking op = { .store = store,
        .authority = authority,
        .revocation = revocation,
        .serial = revocation->serial };

    if (!may_revoke_for(revocation->reason))
        return cc_err_set(err, CC_DOM_STORE, 0, "nothing is revoked for reason %d",
                revocation->reason);
    if (db_write(store->db, revoke, &op, err) != 0)
        return -1;
    *ret = op.verdict;
    return 0;
}

/* ---- give up ---- */

static int
give_up(struct db_conn *conn, void *arg, struct cc_err *err)
{
    static const struct cadb_step step = { CADB_RESERVED, CADB_REVOKED };
    struct revoking *op = arg;
    struct present present;
    int64_t id;

    op->given_up = false;
    if (cadb_authority_lock(conn, op->authority, &id, err) != 0)
        return -1;
    if (read_present(conn, id, op, &present, err) != 0)
        return -1;
    if (present.state != CADB_RESERVED || present.in_hand)
        return 0;
    if (leave_state(conn, id, op->serial, &step, &op->given_up, err) != 0)
        return -1;
    if (!op->given_up)
        return 0;
    return record_revoked(conn, id, op, &step, present.not_after_ms, err);
}

int
cadb_give_up(struct store *store, const char *authority, const struct cadb_revocation *revocation,
        int64_t before_ms, bool *ret_done, struct cc_err *err)
{
    struct revoking op = { .store = store,
        .authority = authority,
        .revocation = revocation,
        .serial = revocation->serial,
        .before_ms = before_ms };

    if (!may_revoke_for(revocation->reason) || revocation->reason == REASON_HOLD)
        return cc_err_set(err, CC_DOM_STORE, 0, "nothing is given up for reason %d",
                revocation->reason);
    if (db_write(store->db, give_up, &op, err) != 0)
        return -1;
    *ret_done = op.given_up;
    return 0;
}

/* ---- release ---- */

static enum cadb_revoked
judge_release(int state)
{
    switch (state) {
    case CADB_HELD:
        return CADB_REVOKE_DONE;
    case CADB_ISSUED:
    case CADB_REVOKED:
        return CADB_REVOKE_CONFLICT;
    default:
        return CADB_REVOKE_NOT_FOUND;
    }
}

/* Takes it off what a CRL says, and remembers that it stood there: a delta CRL must tell. */
static int
move_to_released(struct db_conn *conn, int64_t authority, const struct revoking *op,
        int64_t held_change, struct cc_err *err)
{
    int64_t change = 0;

    if (cadb_change(conn, authority, &change, err) != 0)
        return -1;
    if (db_exec(conn, "DELETE FROM ca_revoked WHERE authority = $1 AND serial = $2",
                DB_PARAMS(DB_INT(authority), DB_BLOB(op->serial)), NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "INSERT INTO ca_released (authority, change, held_change, serial, released_ms)"
            " VALUES ($1, $2, $3, $4, $5)",
            DB_PARAMS(DB_INT(authority), DB_INT(change), DB_INT(held_change), DB_BLOB(op->serial),
                    DB_INT(op->now_ms)),
            NULL, err);
}

static int
release(struct db_conn *conn, void *arg, struct cc_err *err)
{
    static const struct cadb_step step = { CADB_HELD, CADB_ISSUED };
    struct revoking *op = arg;
    bool done = false;
    struct present present;
    int64_t id;

    if (cadb_authority_lock(conn, op->authority, &id, err) != 0)
        return -1;
    if (read_present(conn, id, op, &present, err) != 0)
        return -1;
    op->verdict = judge_release(present.state);
    if (op->verdict != CADB_REVOKE_DONE)
        return 0;
    if (cadb_account(conn, op->store, id, &step, err) != 0 || cadb_next_change(conn, id, err) != 0)
        return -1;
    if (move_to_released(conn, id, op, present.change, err) != 0)
        return -1;
    /* Held ones leave their state under the authority's lock alone. */
    return leave_state(conn, id, op->serial, &step, &done, err);
}

int
cadb_release(struct store *store, const char *authority, struct cc_bytes serial, int64_t now_ms,
        enum cadb_revoked *ret, struct cc_err *err)
{
    struct revoking op = { .store = store,
        .authority = authority,
        .serial = serial,
        .now_ms = now_ms };

    if (db_write(store->db, release, &op, err) != 0)
        return -1;
    *ret = op.verdict;
    return 0;
}

/* ---- what a CRL says ---- */

struct walking {
    const char *authority;
    int64_t since_change, expired_before_ms;
    cadb_crl_entry_fn fn;
    void *arg;
    int64_t change;
};

/* Shows each row to the reader; frees rows. */
static int
show_entries(struct db_rows *rows, const struct walking *walking, struct cc_err *err)
{
    int got;

    while ((got = db_next(rows, err)) > 0) {
        struct cadb_crl_entry entry = { .serial = db_blob(rows, 0),
            .revoked_ms = db_int(rows, 1),
            .reason = (int)db_int(rows, 2),
            .invalidity_ms = db_int(rows, 3) };

        if (walking->fn(walking->arg, &entry) != 0)
            break;
    }
    db_rows_free(rows);
    return got == 0 ? 0 : -1;
}

static int
walk_listed(struct db_conn *conn, int64_t authority, const struct walking *walking,
        struct cc_err *err)
{
    struct db_rows *rows = NULL;

    if (db_query(conn,
                "SELECT serial, revoked_ms, reason, invalidity_ms FROM ca_revoked"
                " WHERE authority = $1 AND change > $2 AND not_after_ms >= $3 ORDER BY change",
                DB_PARAMS(DB_INT(authority), DB_INT(walking->since_change),
                        DB_INT(walking->expired_before_ms)),
                &rows, err) != 0)
        return -1;
    return show_entries(rows, walking, err);
}

/*
 * Holds that ended since the base and that somebody may still believe in: they stood on the base, or on a CRL issued
 * after it (RFC 5280 section 5.2.4: a complete CRL may have been made of the base and an earlier delta).
 */
static int
walk_released(struct db_conn *conn, int64_t authority, const struct walking *walking,
        struct cc_err *err)
{
    struct db_rows *rows = NULL;

    if (db_query(conn,
                "SELECT h.serial, MAX(h.released_ms), CAST(8 AS BIGINT), CAST(0 AS BIGINT)"
                " FROM ca_released h WHERE h.authority = $1 AND h.change > $2"
                " AND (h.held_change <= $2 OR EXISTS ("
                "SELECT 1 FROM ca_crl_change p WHERE p.authority = h.authority"
                " AND p.change >= h.held_change AND p.change < h.change))"
                " AND NOT EXISTS (SELECT 1 FROM ca_revoked r WHERE r.authority = h.authority"
                " AND r.serial = h.serial)"
                " GROUP BY h.serial ORDER BY h.serial",
                DB_PARAMS(DB_INT(authority), DB_INT(walking->since_change)), &rows, err) != 0)
        return -1;
    return show_entries(rows, walking, err);
}

static int
walk_revoked(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct walking *walking = arg;
    int64_t id;

    if (cadb_authority_id(conn, walking->authority, &id, err) != 0)
        return -1;
    if (cadb_change(conn, id, &walking->change, err) != 0)
        return -1;
    if (walk_listed(conn, id, walking, err) != 0)
        return -1;
    return walking->since_change > 0 ? walk_released(conn, id, walking, err) : 0;
}

int
cadb_walk_revoked(struct store *store, const char *authority, int64_t since_change,
        int64_t expired_before_ms, cadb_crl_entry_fn fn, void *arg, int64_t *ret_change,
        struct cc_err *err)
{
    struct walking walking = { .authority = authority,
        .since_change = since_change,
        .expired_before_ms = expired_before_ms,
        .fn = fn,
        .arg = arg };

    if (db_read(store->db, walk_revoked, &walking, err) != 0)
        return -1;
    *ret_change = walking.change;
    return 0;
}
