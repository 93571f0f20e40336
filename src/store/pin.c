/* SPDX-License-Identifier: MIT */
#include "store/pin.h"

#include <stdio.h>
#include <string.h>

#include "base/process.h"
#include "base/text.h"
#include "store_int.h"

/*
 * A row for each token, and one for each PIN that it refused.  Who decides holds the token's row: what is read before,
 * without it, only saves writing when there is nothing to decide.
 */

/* ---- the salt ---- */

struct salting {
    struct cc_bytes token;
    uint32_t iterations;
    uint8_t fresh[STORE_PIN_SALT]; /* for the row when there is none */
    bool found;
    uint8_t salt[STORE_PIN_SALT];
    int64_t found_iterations;
};

static int
read_salt(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct salting *op = arg;
    struct db_rows *rows = NULL;
    struct cc_bytes salt;
    int got;

    op->found = false;
    if (db_query(conn, "SELECT salt, iterations FROM pin_token WHERE token = $1",
                DB_PARAMS(DB_BLOB(op->token)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0) {
        salt = db_blob(rows, 0);
        op->found_iterations = db_int(rows, 1);
        op->found = salt.len == STORE_PIN_SALT && op->found_iterations > 0 &&
                    op->found_iterations <= UINT32_MAX;
        if (op->found)
            memcpy(op->salt, salt.data, STORE_PIN_SALT);
        else
            got = cc_err_set(err, CC_DOM_STORE, 0, "the salt of a PIN is spoiled");
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
make_salt(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct salting *op = arg;

    if (db_exec(conn,
                "INSERT INTO pin_token (token, salt, iterations, failures, accepted_ms,"
                " trying_owner, trying_until_ms) VALUES ($1, $2, $3, 0, 0, 0, 0)"
                " ON CONFLICT (token) DO NOTHING",
                DB_PARAMS(DB_BLOB(op->token),
                        DB_BLOB(((struct cc_bytes){ op->fresh, STORE_PIN_SALT })),
                        DB_INT(op->iterations)),
                NULL, err) != 0)
        return -1;
    return read_salt(conn, op, err);
}

int
store_pin_salt(struct store *store, struct cc_bytes token, uint32_t iterations,
        uint8_t ret_salt[STORE_PIN_SALT], uint32_t *ret_iterations, struct cc_err *err)
{
    struct salting op = { .token = token, .iterations = iterations };

    if (db_read(store->db, read_salt, &op, err) != 0)
        return -1;
    if (!op.found && (cc_random(op.fresh, sizeof(op.fresh), err) != 0 ||
                             db_write(store->db, make_salt, &op, err) != 0))
        return -1;
    if (!op.found)
        return cc_err_set(err, CC_DOM_STORE, 0, "the salt of a PIN is not there");
    memcpy(ret_salt, op.salt, STORE_PIN_SALT);
    *ret_iterations = (uint32_t)op.found_iterations;
    return 0;
}

/* ---- asking ---- */

struct asking {
    const struct store *store;
    struct cc_bytes token, hash;
    bool token_tells;
    enum store_pin_answer answer;
    char reason[STORE_PIN_REASON];
};

/* What a row says, when nobody else changes it meanwhile. */
static enum store_pin_answer
decide(struct db_rows *rows, const struct asking *op)
{
    const int64_t failures = db_int(rows, 0), accepted_ago_ms = db_int(rows, 2);
    const bool was_accepted = db_int(rows, 1) != 0, is_tried = db_int(rows, 3) != 0;

    if (!db_is_null(rows, 4))
        return STORE_PIN_REFUSED;
    if (was_accepted && accepted_ago_ms >= 0 && accepted_ago_ms < STORE_PIN_FREE_MS)
        return STORE_PIN_FREE;
    if (is_tried)
        return STORE_PIN_WAIT;
    if (!was_accepted && failures >= STORE_PIN_FAILURES && !op->token_tells)
        return STORE_PIN_HELP;
    return STORE_PIN_TRY;
}

static int
look(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct asking *op = arg;
    struct db_rows *rows = NULL;
    int got;

    op->reason[0] = '\0';
    if (db_query(conn,
                "SELECT failures, CASE WHEN accepted = $1 THEN 1 ELSE 0 END,"
                " db_now_ms() - accepted_ms,"
                " CASE WHEN trying IS NOT NULL AND trying_until_ms > db_now_ms()"
                " AND (trying_owner = 0 OR NOT (" OWNER_GONE(
                        "trying_owner") "))"
                                        " THEN 1 ELSE 0 END,"
                                        " (SELECT reason FROM pin_refused WHERE pin_refused.token = pin_token.token"
                                        " AND hash = $1)"
                                        " FROM pin_token WHERE token = $2",
                DB_PARAMS(DB_BLOB(op->hash), DB_BLOB(op->token)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0) {
        op->answer = decide(rows, op);
        if (op->answer == STORE_PIN_REFUSED)
            (void)cc_strcpy(op->reason, sizeof(op->reason), db_text(rows, 4));
    } else if (got == 0) {
        cc_err_set(err, CC_DOM_STORE, 0, "nothing is known of this token");
    }
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

/* What comes after it in the transaction sees what others have committed, and nobody else decides meanwhile. */
static int
lock_token(struct db_conn *conn, struct cc_bytes token, struct cc_err *err)
{
    return db_exec(conn, "UPDATE pin_token SET failures = failures WHERE token = $1",
            DB_PARAMS(DB_BLOB(token)), NULL, err);
}

static int
claim(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct asking *op = arg;

    if (lock_token(conn, op->token, err) != 0 || look(conn, op, err) != 0)
        return -1;
    if (op->answer != STORE_PIN_TRY)
        return 0;
    return db_exec(conn,
            "UPDATE pin_token SET trying = $1, trying_owner = $2,"
            " trying_until_ms = db_now_ms() + $3,"
            " failures = failures + CASE WHEN accepted = $1 THEN 0 ELSE 1 END WHERE token = $4",
            DB_PARAMS(DB_BLOB(op->hash), DB_INT(op->store->epoch), DB_INT(STORE_PIN_TRY_MS),
                    DB_BLOB(op->token)),
            NULL, err);
}

int
store_pin_ask(struct store *store, struct cc_bytes token, struct cc_bytes hash, bool token_tells,
        enum store_pin_answer *ret_answer, char ret_reason[STORE_PIN_REASON], struct cc_err *err)
{
    struct asking op = {
        .store = store,
        .token = token,
        .hash = hash,
        .token_tells = token_tells,
    };

    if (db_read(store->db, look, &op, err) != 0)
        return -1;
    if (op.answer == STORE_PIN_TRY && db_write(store->db, claim, &op, err) != 0)
        return -1;
    *ret_answer = op.answer;
    (void)cc_strcpy(ret_reason, STORE_PIN_REASON, op.reason);
    return 0;
}

/* ---- telling ---- */

struct telling {
    const struct store *store;
    struct cc_bytes token, hash;
    enum store_pin_outcome outcome;
    const char *reason;
};

/* Another PIN than before: the token's was changed, and what it refused until then says nothing any more. */
static int
tell_accepted(struct db_conn *conn, const struct telling *op, struct cc_err *err)
{
    if (db_exec(conn,
                "DELETE FROM pin_refused WHERE token = $1 AND (hash = $2 OR EXISTS"
                " (SELECT 1 FROM pin_token WHERE pin_token.token = $1 AND accepted <> $2))",
                DB_PARAMS(DB_BLOB(op->token), DB_BLOB(op->hash)), NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "UPDATE pin_token SET failures = 0, accepted = $1, accepted_ms = db_now_ms(),"
            " trying = CASE WHEN trying = $1 THEN NULL ELSE trying END WHERE token = $2",
            DB_PARAMS(DB_BLOB(op->hash), DB_BLOB(op->token)), NULL, err);
}

/* An attempt that was counted when it began is not counted again. */
static int
tell_refused(struct db_conn *conn, const struct telling *op, struct cc_err *err)
{
    if (db_exec(conn,
                "INSERT INTO pin_refused (token, hash, reason, refused_ms)"
                " VALUES ($1, $2, $3, db_now_ms()) ON CONFLICT (token, hash) DO NOTHING",
                DB_PARAMS(DB_BLOB(op->token), DB_BLOB(op->hash), DB_TEXT(op->reason)), NULL,
                err) != 0)
        return -1;
    return db_exec(conn,
            "UPDATE pin_token SET"
            " failures = failures + CASE WHEN trying = $1 AND (accepted IS NULL OR accepted <> $1)"
            " THEN 0 ELSE 1 END,"
            " accepted_ms = CASE WHEN accepted = $1 THEN 0 ELSE accepted_ms END,"
            " trying = CASE WHEN trying = $1 THEN NULL ELSE trying END WHERE token = $2",
            DB_PARAMS(DB_BLOB(op->hash), DB_BLOB(op->token)), NULL, err);
}

/* counted: 1 when the attempt counts none the less. */
static int
tell_nothing(struct db_conn *conn, const struct telling *op, int64_t counted, struct cc_err *err)
{
    return db_exec(conn,
            "UPDATE pin_token SET trying = NULL,"
            " failures = failures - CASE WHEN accepted = $1 THEN 0 ELSE 1 - CAST($2 AS BIGINT) END"
            " WHERE trying = $1 AND trying_owner = $3 AND token = $4",
            DB_PARAMS(DB_BLOB(op->hash), DB_INT(counted), DB_INT(op->store->epoch),
                    DB_BLOB(op->token)),
            NULL, err);
}

static int
tell(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct telling *op = arg;

    if (lock_token(conn, op->token, err) != 0)
        return -1;
    switch (op->outcome) {
    case STORE_PIN_WAS_ACCEPTED:
        return tell_accepted(conn, op, err);
    case STORE_PIN_WAS_REFUSED:
        return tell_refused(conn, op, err);
    case STORE_PIN_NOT_TRIED:
        return tell_nothing(conn, op, 0, err);
    case STORE_PIN_NOT_KNOWN:
        return tell_nothing(conn, op, 1, err);
    }
    return 0;
}

int
store_pin_tell(struct store *store, struct cc_bytes token, struct cc_bytes hash,
        enum store_pin_outcome outcome, const char *reason, struct cc_err *err)
{
    struct telling op = {
        .store = store,
        .token = token,
        .hash = hash,
        .outcome = outcome,
        .reason = reason != NULL ? reason : "",
    };

    return db_write(store->db, tell, &op, err);
}

/* ---- forgetting ---- */

/* The salt stays, as running instances have hashed with it. */
static int
forget(struct db_conn *conn, void *arg, struct cc_err *err)
{
    int64_t *count = arg;

    if (db_exec(conn, "DELETE FROM pin_refused", DB_NO_PARAMS, NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "UPDATE pin_token SET failures = 0, accepted = NULL, accepted_ms = 0, trying = NULL",
            DB_NO_PARAMS, count, err);
}

int
store_pin_forget(struct store *store, int64_t *ret_count, struct cc_err *err)
{
    return db_write(store->db, forget, ret_count, err);
}
