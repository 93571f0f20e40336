/* SPDX-License-Identifier: MIT */
#include "store/journal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "store_int.h"

/*
 * Every change of state is one UPDATE that names the states it may start from; a row that was elsewhere is not
 * changed, and that is the error.  The numbers in the SQL are enum journal_state.
 *
 * Whether a change became durable may stay unknown to who made it, who then makes it again.  What ends the work on a
 * request (finish, report, close) finds its own change in the row then, and that is no error.
 */
_Static_assert(JOURNAL_RECEIVED == 1 && JOURNAL_PREPARED == 2 && JOURNAL_ISSUED == 3 &&
                       JOURNAL_FAILED == 4 && JOURNAL_REPORTED == 5 && JOURNAL_CLOSED == 6,
        "the SQL and the database hold these numbers");
_Static_assert(JOURNAL_NO_VERDICT == 0, "the SQL and the database hold these numbers");
_Static_assert(JOURNAL_SUCCEEDED == 1 && JOURNAL_FAILED_FINAL == 2 && JOURNAL_FAILED_RETRYABLE == 3,
        "the SQL and the database hold these numbers");

static int
refuse_state(const char *request_id, const char *want, struct cc_err *err)
{
    return cc_err_set(err, CC_DOM_STORE, 0, "request %s is not journaled as %s", request_id, want);
}

/* One UPDATE or DELETE that must hit its row. */
static int
change_row(struct db_conn *conn, const char *sql, const struct db_value *params, size_t count,
        const char *request_id, const char *want, struct cc_err *err)
{
    int64_t changes = 0;

    if (db_exec(conn, sql, params, count, &changes, err) != 0)
        return -1;
    return changes == 1 ? 0 : refuse_state(request_id, want, err);
}

/* Adds to our own row of the workload's totals; it may be another that counted what is taken off. */
static int
count(struct db_conn *conn, const struct store *store, const char *workload, bool succeeded, int n,
        struct cc_err *err)
{
    return db_exec(conn,
            "INSERT INTO journal_count (workload, instance, succeeded, failed)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT (workload, instance) DO UPDATE SET"
            " succeeded = journal_count.succeeded + excluded.succeeded,"
            " failed = journal_count.failed + excluded.failed",
            DB_PARAMS(DB_TEXT(workload), DB_TEXT(store->name), DB_INT(succeeded ? n : 0),
                    DB_INT(succeeded ? 0 : n)),
            NULL, err);
}

/* ---- receive ---- */

struct receiving {
    const struct store *store;
    const struct journal_entry *entries;
    size_t count;
    int64_t now_ms;
    enum journal_todo *todo;
};

/* What the journal knew of a request before. */
struct known {
    enum journal_state state;
    enum journal_outcome outcome;
    enum journal_verdict verdict;
    int64_t attempt;
    int64_t owner;
    bool gone; /* the owner runs no more */
};

static int
insert_new(struct db_conn *conn, const struct journal_entry *entry, int64_t owner, int64_t now_ms,
        bool *ret_inserted, struct cc_err *err)
{
    int64_t changes = 0;

    if (db_exec(conn,
                "INSERT INTO journal (workload, request_id, request_context, attempt, state,"
                " outcome, verdict, user_name, device, thumbprint, body, variant, lease_until_ms,"
                " received_ms, updated_ms, owner, holder)"
                " VALUES ($1, $2, $3, $4, 1, 0, 0, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
                " ON CONFLICT (workload, request_id) DO NOTHING",
                DB_PARAMS(DB_TEXT(entry->workload), DB_TEXT(entry->request_id),
                        DB_TEXT(entry->request_context != NULL ? entry->request_context : ""),
                        DB_INT(entry->attempt), DB_TEXT(entry->user), DB_TEXT(entry->device),
                        DB_TEXT(entry->thumbprint), DB_TEXT(entry->body), DB_TEXT(entry->variant),
                        DB_INT(entry->lease_until_ms), DB_INT(now_ms), DB_INT(now_ms),
                        DB_INT(owner), DB_TEXT(entry->holder)),
                &changes, err) != 0)
        return -1;
    *ret_inserted = changes == 1;
    return 0;
}

static int
read_known(struct db_conn *conn, const struct journal_entry *entry, struct known *ret,
        struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT state, outcome, verdict, attempt, owner,"
                " CASE WHEN " OWNER_GONE("owner") " THEN 1 ELSE 0 END FROM journal"
                                                  " WHERE workload = $1 AND request_id = $2",
                DB_PARAMS(DB_TEXT(entry->workload), DB_TEXT(entry->request_id)), &rows, err) != 0)
        return -1;
    got = db_next(rows, err);
    if (got > 0)
        *ret = (struct known){ (enum journal_state)db_int(rows, 0),
            (enum journal_outcome)db_int(rows, 1), (enum journal_verdict)db_int(rows, 2),
            db_int(rows, 3), db_int(rows, 4), db_int(rows, 5) != 0 };
    else if (got == 0)
        cc_err_set(err, CC_DOM_STORE, 0, "request %s vanished", entry->request_id);
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

/* A row that nobody finished: the newest download's context and lease are those to answer under. */
static int
refresh(struct db_conn *conn, const struct journal_entry *entry, int64_t now_ms, struct cc_err *err)
{
    return change_row(conn,
            "UPDATE journal SET request_context = $1, attempt = $2, lease_until_ms = $3,"
            " updated_ms = $4, holder = $5"
            " WHERE workload = $6 AND request_id = $7 AND state IN (1, 2)",
            DB_PARAMS(DB_TEXT(entry->request_context != NULL ? entry->request_context : ""),
                    DB_INT(entry->attempt), DB_INT(entry->lease_until_ms), DB_INT(now_ms),
                    DB_TEXT(entry->holder), DB_TEXT(entry->workload), DB_TEXT(entry->request_id)),
            entry->request_id, "received or prepared", err);
}

/* Takes a closed row that is opened again off the workload's totals: it is counted when it is closed again. */
static int
uncount(struct db_conn *conn, const struct receiving *receiving, const char *workload,
        const struct known *known, struct cc_err *err)
{
    if (known->state != JOURNAL_CLOSED)
        return 0;
    return count(conn, receiving->store, workload, known->outcome == JOURNAL_SUCCEEDED, -1, err);
}

static int
reopen(struct db_conn *conn, const struct journal_entry *entry, const struct known *known,
        const struct receiving *receiving, struct cc_err *err)
{
    const int64_t now_ms = receiving->now_ms;

    if (uncount(conn, receiving, entry->workload, known, err) != 0)
        return -1;
    return change_row(conn,
            "UPDATE journal SET state = 1, outcome = 0, verdict = 0, request_context = $1,"
            " attempt = $2, lease_until_ms = $3, received_ms = $4, updated_ms = $5, body = $6,"
            " variant = $7, thumbprint = $8, note = NULL, result = NULL, error_code = NULL,"
            " detail = NULL, serial_number = NULL, ca = NULL, holder = $9"
            " WHERE workload = $10 AND request_id = $11 AND state IN (5, 6) AND outcome = 3",
            DB_PARAMS(DB_TEXT(entry->request_context != NULL ? entry->request_context : ""),
                    DB_INT(entry->attempt), DB_INT(entry->lease_until_ms), DB_INT(now_ms),
                    DB_INT(now_ms), DB_TEXT(entry->body), DB_TEXT(entry->variant),
                    DB_TEXT(entry->thumbprint), DB_TEXT(entry->holder), DB_TEXT(entry->workload),
                    DB_TEXT(entry->request_id)),
            entry->request_id, "ended in a failure to be retried", err);
}

/* The service did not take the result then, and asks for it now: all that follows an upload is still to come. */
static int
unreport(struct db_conn *conn, const struct journal_entry *entry, const struct known *known,
        const struct receiving *receiving, struct cc_err *err)
{
    const int64_t now_ms = receiving->now_ms;

    if (uncount(conn, receiving, entry->workload, known, err) != 0)
        return -1;
    return change_row(conn,
            "UPDATE journal SET state = CASE WHEN outcome = 1 THEN 3 ELSE 4 END, verdict = 0,"
            " updated_ms = $1"
            " WHERE workload = $2 AND request_id = $3 AND state IN (5, 6)",
            DB_PARAMS(DB_INT(now_ms), DB_TEXT(entry->workload), DB_TEXT(entry->request_id)),
            entry->request_id, "reported or closed", err);
}

/* An open row of another's: left alone while that one runs.  *ret_ours: it is ours from now on. */
static int
take_over(struct db_conn *conn, const struct journal_entry *entry, const struct known *known,
        const struct receiving *receiving, bool *ret_ours, struct cc_err *err)
{
    *ret_ours = known->gone && known->state != JOURNAL_PREPARED && known->state != JOURNAL_REPORTED;
    if (*ret_ours || known->state == JOURNAL_CLOSED) {
        *ret_ours = true;
        return change_row(conn,
                "UPDATE journal SET owner = $1 WHERE workload = $2 AND request_id = $3 AND owner = $4",
                DB_PARAMS(DB_INT(receiving->store->epoch), DB_TEXT(entry->workload),
                        DB_TEXT(entry->request_id), DB_INT(known->owner)),
                entry->request_id, "open", err);
    }
    if (known->gone && known->state == JOURNAL_PREPARED && entry->attempt >= known->attempt)
        return refresh(conn, entry, receiving->now_ms, err);
    return 0;
}

static int
receive_known(struct db_conn *conn, const struct journal_entry *entry,
        const struct receiving *receiving, enum journal_todo *ret_todo, struct cc_err *err)
{
    const int64_t now_ms = receiving->now_ms;
    struct known known;
    bool ours = true;

    if (read_known(conn, entry, &known, err) != 0)
        return -1;
    if (known.owner != receiving->store->epoch &&
            take_over(conn, entry, &known, receiving, &ours, err) != 0)
        return -1;
    if (!ours) {
        *ret_todo = JOURNAL_ELSEWHERE;
        return 0;
    }

    switch (known.state) {
    case JOURNAL_RECEIVED:
    case JOURNAL_PREPARED:
        *ret_todo = entry->attempt > known.attempt ? JOURNAL_DO : JOURNAL_BUSY;
        /* An older attempt's lease is over: what is known of the newer one stays. */
        if (entry->attempt < known.attempt)
            return 0;
        return refresh(conn, entry, now_ms, err);
    case JOURNAL_ISSUED:
    case JOURNAL_FAILED:
        *ret_todo = JOURNAL_UPLOAD;
        return 0;
    case JOURNAL_REPORTED:
    case JOURNAL_CLOSED:
        if (known.outcome == JOURNAL_FAILED_RETRYABLE &&
                (entry->attempt > known.attempt || entry->attempt == 0)) {
            *ret_todo = JOURNAL_DO;
            return reopen(conn, entry, &known, receiving, err);
        }
        if (known.verdict == JOURNAL_LEASE_LOST || known.verdict == JOURNAL_ALREADY_COMPLETED) {
            *ret_todo = JOURNAL_UPLOAD;
            return unreport(conn, entry, &known, receiving, err);
        }
        *ret_todo = JOURNAL_REUPLOAD;
        return 0;
    }
    return cc_err_set(err, CC_DOM_STORE, 0, "request %s is journaled in the unknown state %d",
            entry->request_id, (int)known.state);
}

static int
receive(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct receiving *receiving = arg;

    for (size_t i = 0; i < receiving->count; i++) {
        const struct journal_entry *entry = &receiving->entries[i];
        bool inserted = false;

        if (insert_new(conn, entry, receiving->store->epoch, receiving->now_ms, &inserted, err) !=
                0)
            return -1;
        receiving->todo[i] = JOURNAL_DO;
        if (!inserted && receive_known(conn, entry, receiving, &receiving->todo[i], err) != 0)
            return -1;
    }
    return 0;
}

int
journal_receive(struct store *store, const struct journal_entry *entries, size_t count,
        enum journal_todo *ret_todo, struct cc_err *err)
{
    struct receiving receiving = { store, entries, count, cc_clock_now_ms(), ret_todo };

    if (count == 0)
        return 0;
    if (db_write(store->db, receive, &receiving, err) != 0)
        return cc_err_in(err, "journal %zu requests", count);
    return 0;
}

/* ---- prepare, finish ---- */

struct working {
    const char *workload;
    const char *request_id;
    const char *note;
    int64_t now_ms;
};

static int
prepare(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct working *w = arg;

    return change_row(conn,
            "UPDATE journal SET state = 2, note = $1, updated_ms = $2"
            " WHERE workload = $3 AND request_id = $4 AND state IN (1, 2)",
            DB_PARAMS(DB_TEXT(w->note), DB_INT(w->now_ms), DB_TEXT(w->workload),
                    DB_TEXT(w->request_id)),
            w->request_id, "received or prepared", err);
}

int
journal_prepare(struct store *store, const char *workload, const char *request_id, const char *note,
        struct cc_err *err)
{
    struct working working = { .workload = workload,
        .request_id = request_id,
        .note = note,
        .now_ms = cc_clock_now_ms() };

    return db_write(store->db, prepare, &working, err);
}

struct finishing {
    const struct store *store;
    const char *workload;
    const struct journal_finished *finished;
    size_t count;
    int64_t now_ms;
    bool *done;
};

/* The request and the note of what was begun have served their purpose. */
static int
finish_row(struct db_conn *conn, const struct finishing *f, const struct journal_finished *row,
        bool *ret_done, struct cc_err *err)
{
    enum journal_state state = row->outcome == JOURNAL_SUCCEEDED ? JOURNAL_ISSUED : JOURNAL_FAILED;
    int64_t changes = 0;

    if (db_exec(conn,
                "UPDATE journal SET state = $1, outcome = $2, result = $3, error_code = $4,"
                " detail = $5, updated_ms = $6, thumbprint = COALESCE($7, thumbprint),"
                " serial_number = $8, ca = $9, note = NULL, body = NULL"
                " WHERE workload = $10 AND request_id = $11"
                " AND (state IN (1, 2)"
                " OR (state = $1 AND outcome = $2 AND result = $3 AND owner = $12))",
                DB_PARAMS(DB_INT(state), DB_INT(row->outcome), DB_TEXT(row->result),
                        DB_TEXT(row->error_code), DB_TEXT(row->detail), DB_INT(f->now_ms),
                        DB_TEXT(row->thumbprint), DB_TEXT(row->serial_number), DB_TEXT(row->ca),
                        DB_TEXT(f->workload), DB_TEXT(row->request_id), DB_INT(f->store->epoch)),
                &changes, err) != 0)
        return -1;
    *ret_done = changes == 1;
    return 0;
}

static int
finish(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct finishing *f = arg;

    for (size_t i = 0; i < f->count; i++) {
        if (finish_row(conn, f, &f->finished[i], &f->done[i], err) != 0)
            return -1;
    }
    return 0;
}

int
journal_finish_batch(struct store *store, const char *workload,
        const struct journal_finished *finished, size_t count, bool *ret_done, struct cc_err *err)
{
    struct finishing finishing = { store, workload, finished, count, cc_clock_now_ms(), ret_done };

    for (size_t i = 0; i < count; i++) {
        if (finished[i].outcome == JOURNAL_NO_OUTCOME)
            return cc_err_set(err, CC_DOM_INTERNAL, 0, "request %s without outcome",
                    finished[i].request_id);
    }
    return count == 0 ? 0 : db_write(store->db, finish, &finishing, err);
}

int
journal_finish(struct store *store, const char *workload, const char *request_id,
        enum journal_outcome outcome, const char *result, const char *error_code,
        const char *detail, struct cc_err *err)
{
    const struct journal_finished finished = {
        .request_id = request_id,
        .outcome = outcome,
        .result = result,
        .error_code = error_code,
        .detail = detail,
    };
    bool done = false;

    if (journal_finish_batch(store, workload, &finished, 1, &done, err) != 0)
        return -1;
    return done ? 0 : refuse_state(request_id, "received or prepared", err);
}

/* ---- report, close, forget: batches ---- */

struct batch {
    const struct store *store;
    const char *workload;
    const struct journal_report *reports;
    const char *const *request_ids;
    size_t count;
    int64_t now_ms;
};

static int
report(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct batch *batch = arg;

    for (size_t i = 0; i < batch->count; i++) {
        const struct journal_report *r = &batch->reports[i];

        if (change_row(conn,
                    "UPDATE journal SET state = 5, verdict = $1, updated_ms = $2"
                    " WHERE workload = $3 AND request_id = $4"
                    " AND (state IN (3, 4) OR (state = 5 AND verdict = $1 AND owner = $5))",
                    DB_PARAMS(DB_INT(r->verdict), DB_INT(batch->now_ms), DB_TEXT(batch->workload),
                            DB_TEXT(r->request_id), DB_INT(batch->store->epoch)),
                    r->request_id, "issued or failed", err) != 0)
            return -1;
    }
    return 0;
}

int
journal_report(struct store *store, const char *workload, const struct journal_report *reports,
        size_t count, struct cc_err *err)
{
    struct batch batch = { .store = store,
        .workload = workload,
        .reports = reports,
        .count = count,
        .now_ms = cc_clock_now_ms() };

    return count == 0 ? 0 : db_write(store->db, report, &batch, err);
}

/* Where a request is, and how it ended. */
static int
read_ending(struct db_conn *conn, const char *workload, const char *request_id,
        enum journal_state *ret_state, bool *ret_succeeded, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT state, outcome FROM journal WHERE workload = $1 AND request_id = $2",
                DB_PARAMS(DB_TEXT(workload), DB_TEXT(request_id)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0) {
        *ret_state = (enum journal_state)db_int(rows, 0);
        *ret_succeeded = db_int(rows, 1) == JOURNAL_SUCCEEDED;
    }
    db_rows_free(rows);
    if (got == 0)
        return refuse_state(request_id, "reported", err);
    return got > 0 ? 0 : -1;
}

/* What is closed already was counted then. */
static int
close_row(struct db_conn *conn, const struct batch *batch, const char *id, struct cc_err *err)
{
    enum journal_state state = JOURNAL_RECEIVED;
    bool succeeded = false;

    if (read_ending(conn, batch->workload, id, &state, &succeeded, err) != 0)
        return -1;
    if (state == JOURNAL_CLOSED)
        return 0;
    if (change_row(conn,
                "UPDATE journal SET state = 6, updated_ms = $1"
                " WHERE workload = $2 AND request_id = $3 AND state = 5",
                DB_PARAMS(DB_INT(batch->now_ms), DB_TEXT(batch->workload), DB_TEXT(id)), id,
                "reported", err) != 0)
        return -1;
    return count(conn, batch->store, batch->workload, succeeded, 1, err);
}

static int
close_rows(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct batch *batch = arg;

    for (size_t i = 0; i < batch->count; i++) {
        if (close_row(conn, batch, batch->request_ids[i], err) != 0)
            return -1;
    }
    return 0;
}

int
journal_close(struct store *store, const char *workload, const char *const *request_ids,
        size_t count, struct cc_err *err)
{
    struct batch batch = { .store = store,
        .workload = workload,
        .request_ids = request_ids,
        .count = count,
        .now_ms = cc_clock_now_ms() };

    return count == 0 ? 0 : db_write(store->db, close_rows, &batch, err);
}

static int
forget(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct batch *batch = arg;

    for (size_t i = 0; i < batch->count; i++) {
        const char *id = batch->request_ids[i];

        if (change_row(conn,
                    "DELETE FROM journal WHERE workload = $1 AND request_id = $2"
                    " AND state IN (1, 2)",
                    DB_PARAMS(DB_TEXT(batch->workload), DB_TEXT(id)), id, "received or prepared",
                    err) != 0)
            return -1;
    }
    return 0;
}

int
journal_forget(struct store *store, const char *workload, const char *const *request_ids,
        size_t count, struct cc_err *err)
{
    struct batch batch = { .workload = workload, .request_ids = request_ids, .count = count };

    return count == 0 ? 0 : db_write(store->db, forget, &batch, err);
}

static int
withdraw(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct working *w = arg;

    return change_row(conn,
            "DELETE FROM journal WHERE workload = $1 AND request_id = $2 AND state = 5",
            DB_PARAMS(DB_TEXT(w->workload), DB_TEXT(w->request_id)), w->request_id, "reported",
            err);
}

int
journal_withdraw(struct store *store, const char *workload, const char *request_id,
        struct cc_err *err)
{
    struct working working = { .workload = workload, .request_id = request_id };

    return db_write(store->db, withdraw, &working, err);
}

/* ---- adopt ---- */

struct adopting {
    const struct store *store;
    const char *workload;
    int64_t count;
};

static int
adopt(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct adopting *adopting = arg;

    return db_exec(conn,
            "UPDATE journal SET owner = $1 WHERE workload = $2 AND state <> 6 AND owner <> $1"
            " AND ((state <> 5 AND " OWNER_GONE(
                    "owner") ") OR " OWNER_WAS("owner", "$3") " OR " OWNER_LONG_GONE("owner") ")",
            DB_PARAMS(DB_INT(adopting->store->epoch), DB_TEXT(adopting->workload),
                    DB_TEXT(adopting->store->name)),
            &adopting->count, err);
}

int
journal_adopt(struct store *store, const char *workload, int64_t *ret_count, struct cc_err *err)
{
    struct adopting adopting = { store, workload, 0 };

    if (db_write(store->db, adopt, &adopting, err) != 0)
        return -1;
    *ret_count = adopting.count;
    return 0;
}

/* ---- reading ---- */

struct reading {
    const struct store *store;
    const char *workload;
    const char *request_id;
    const char *serial_number;
    journal_fn fn;
    void *arg;
};

#define ENTRY_COLUMNS                                                                              \
    "workload, request_id, request_context, attempt, state, outcome, verdict, user_name, device,"  \
    " thumbprint, note, result, error_code, detail, lease_until_ms, received_ms, updated_ms,"      \
    " body, variant, serial_number, ca, holder"

static void
read_entry(struct db_rows *rows, struct journal_entry *ret)
{
    *ret = (struct journal_entry){
        .workload = db_text(rows, 0),
        .request_id = db_text(rows, 1),
        .request_context = db_text(rows, 2),
        .attempt = (int)db_int(rows, 3),
        .state = (enum journal_state)db_int(rows, 4),
        .outcome = (enum journal_outcome)db_int(rows, 5),
        .verdict = (enum journal_verdict)db_int(rows, 6),
        .user = db_text(rows, 7),
        .device = db_text(rows, 8),
        .thumbprint = db_text(rows, 9),
        .note = db_text(rows, 10),
        .result = db_text(rows, 11),
        .error_code = db_text(rows, 12),
        .detail = db_text(rows, 13),
        .lease_until_ms = db_int(rows, 14),
        .received_ms = db_int(rows, 15),
        .updated_ms = db_int(rows, 16),
        .body = db_text(rows, 17),
        .variant = db_text(rows, 18),
        .serial_number = db_text(rows, 19),
        .ca = db_text(rows, 20),
        .holder = db_text(rows, 21),
    };
}

/* Shows each row to the reader until it has enough; frees rows. */
static int
show_rows(struct db_rows *rows, const struct reading *reading, struct cc_err *err)
{
    struct journal_entry entry;
    int got;

    while ((got = db_next(rows, err)) > 0) {
        read_entry(rows, &entry);
        if (reading->fn(reading->arg, &entry) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
walk(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct reading *reading = arg;
    struct db_rows *rows = NULL;

    if (db_query(conn,
                "SELECT " ENTRY_COLUMNS " FROM journal WHERE workload = $1 AND state <> 6"
                " AND owner = $2 ORDER BY received_ms, request_id",
                DB_PARAMS(DB_TEXT(reading->workload), DB_INT(reading->store->epoch)), &rows,
                err) != 0)
        return -1;
    return show_rows(rows, reading, err);
}

int
journal_walk(struct store *store, const char *workload, journal_fn fn, void *arg,
        struct cc_err *err)
{
    struct reading reading = { .store = store, .workload = workload, .fn = fn, .arg = arg };

    return db_read(store->db, walk, &reading, err);
}

static int
find(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct reading *reading = arg;
    struct db_rows *rows = NULL;

    if (db_query(conn,
                "SELECT " ENTRY_COLUMNS " FROM journal WHERE workload = $1 AND request_id = $2",
                DB_PARAMS(DB_TEXT(reading->workload), DB_TEXT(reading->request_id)), &rows,
                err) != 0)
        return -1;
    return show_rows(rows, reading, err);
}

int
journal_find(struct store *store, const char *workload, const char *request_id, journal_fn fn,
        void *arg, struct cc_err *err)
{
    struct reading reading = { .workload = workload,
        .request_id = request_id,
        .fn = fn,
        .arg = arg };

    return db_read(store->db, find, &reading, err);
}

static int
search(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct reading *reading = arg;
    struct db_rows *rows = NULL;

    if (db_query(conn,
                "SELECT " ENTRY_COLUMNS " FROM journal WHERE lower(request_id) = $1"
                " OR serial_number = $2 ORDER BY received_ms, request_id",
                DB_PARAMS(DB_TEXT(reading->request_id), DB_TEXT(reading->serial_number)), &rows,
                err) != 0)
        return -1;
    return show_rows(rows, reading, err);
}

int
journal_search(struct store *store, const char *request_id, const char *serial_number,
        journal_fn fn, void *arg, struct cc_err *err)
{
    struct reading reading = { .serial_number = serial_number, .fn = fn, .arg = arg };
    char *lower = cc_strdup(request_id, err);
    int rc;

    if (lower == NULL)
        return -1;
    cc_lower(lower);
    reading.request_id = lower;
    rc = db_read(store->db, search, &reading, err);
    free(lower);
    return rc;
}

/* ---- counts ---- */

struct counting {
    const struct store *store;
    const char *workload;
    struct journal_counts counts;
};

static int
count_open(struct db_conn *conn, struct counting *counting, struct cc_err *err)
{
    struct journal_counts *counts = &counting->counts;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT state, COUNT(*), MIN(received_ms) FROM journal"
                " WHERE workload = $1 AND state <> 6 AND owner = $2 GROUP BY state",
                DB_PARAMS(DB_TEXT(counting->workload), DB_INT(counting->store->epoch)), &rows,
                err) != 0)
        return -1;
    while ((got = db_next(rows, err)) > 0) {
        int64_t state = db_int(rows, 0);
        int64_t oldest = db_int(rows, 2);

        if (state >= JOURNAL_RECEIVED && state < JOURNAL_CLOSED)
            counts->by_state[state] = (uint64_t)db_int(rows, 1);
        if (counts->oldest_open_ms == 0 || oldest < counts->oldest_open_ms)
            counts->oldest_open_ms = oldest;
    }
    db_rows_free(rows);
    return got;
}

static int
count_closed(struct db_conn *conn, struct counting *counting, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT COUNT(*) FROM journal WHERE workload = $1 AND state = 6",
                DB_PARAMS(DB_TEXT(counting->workload)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        counting->counts.by_state[JOURNAL_CLOSED] = (uint64_t)db_int(rows, 0);
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
read_totals(struct db_conn *conn, struct counting *counting, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT CAST(SUM(succeeded) AS BIGINT), CAST(SUM(failed) AS BIGINT)"
                " FROM journal_count WHERE workload = $1",
                DB_PARAMS(DB_TEXT(counting->workload)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0) {
        counting->counts.succeeded = (uint64_t)db_int(rows, 0);
        counting->counts.failed = (uint64_t)db_int(rows, 1);
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
count_all(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct counting *counting = arg;

    memset(&counting->counts, 0, sizeof(counting->counts));
    if (count_open(conn, counting, err) != 0 || count_closed(conn, counting, err) != 0)
        return -1;
    return read_totals(conn, counting, err);
}

int
journal_count(struct store *store, const char *workload, struct journal_counts *ret,
        struct cc_err *err)
{
    struct counting counting = { .store = store, .workload = workload };

    if (db_read(store->db, count_all, &counting, err) != 0)
        return -1;
    *ret = counting.counts;
    return 0;
}

/* ---- prune ---- */

static int
prune(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const int64_t *before_ms = arg;

    return db_exec(conn, "DELETE FROM journal WHERE state = 6 AND updated_ms < $1",
            DB_PARAMS(DB_INT(*before_ms)), NULL, err);
}

int
journal_prune(struct store *store, int64_t before_ms, struct cc_err *err)
{
    return db_write(store->db, prune, &before_ms, err);
}
