/* SPDX-License-Identifier: MIT */
#include "db.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "backend.h"
#include "base/clock.h"
#include "base/text.h"

#define READERS_MAX 4
#define LOST_TRIES 3  /* of a transaction under which the connection was lost */
#define ALONE_TRIES 6 /* of one that met another's */
#define ALONE_MS 20
#define ALONE_MAX_MS 500
#define AWAY_MS                                                                                    \
    50 /* between two tries to reach a database that is away: backoff, and where it ends */
#define AWAY_MAX_MS 1000
#define UNKNOWN_MS 60000 /* how long it is asked what became of a commit */

/* One closure on its way through the writer thread; lives on its caller's stack. */
struct job {
    struct job *next;
    db_fn fn;
    void *arg;
    struct cc_err err;
    int rc;
    bool reading;
    bool done;             /* guarded by db->lock */
    pthread_cond_t served; /* with db->lock */
};

struct db {
    const struct db_backend *backend;
    char *place; /* the URI behind its scheme */
    bool shareable;
    int held;               /* descriptor of the lock; -1: none */
    db_outage_fn on_outage; /* or NULL */
    void *outage_arg;

    /* Of the writer thread alone, once it runs. */
    struct db_conn *writer; /* NULL: lost */
    unsigned away_tries;    /* to connect, since it was lost */
    int64_t away_until;     /* monotonic: of the next */
    struct cc_err away;     /* why the last failed */

    pthread_t thread;
    bool thread_runs;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;  /* first != NULL, or stopping */
    struct job *first, *last;
    bool stopping;
    struct db_guard guard; /* enter NULL: none */
    struct db_stats stats; /* but for commit_time */
    pthread_cond_t reader_back;
    struct db_conn *idle[READERS_MAX];
    unsigned idle_count, reader_count;

    struct cc_histogram commit_time;
};

/* ---- URI ---- */

static const struct db_backend *const backends[] = { &db_sqlite, &db_postgres };

static const struct db_backend *
find_backend(const char *uri, const char **ret_place, struct cc_err *err)
{
    for (size_t i = 0; i < CC_COUNT(backends); i++) {
        size_t len = strlen(backends[i]->scheme);

        if (strncmp(uri, backends[i]->scheme, len) == 0 && uri[len] == ':') {
            *ret_place = uri + len + 1;
            return backends[i];
        }
    }
    cc_err_set(err, CC_DOM_INPUT, 0,
            "a database is named as \"sqlite:PATH\" or \"postgresql://USER@HOST/DATABASE\"");
    return NULL;
}

int
db_check_uri(const char *uri, struct cc_err *err)
{
    const struct db_backend *backend;
    const char *place;

    if ((backend = find_backend(uri, &place, err)) == NULL)
        return -1;
    return backend->check(place, err);
}

static void
pause_ms(int64_t ms)
{
    const struct timespec span = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

    (void)nanosleep(&span, NULL);
}

/* ---- the writer's connection ---- */

static void
count_reconnect(struct db *db)
{
    pthread_mutex_lock(&db->lock);
    db->stats.reconnects++;
    pthread_mutex_unlock(&db->lock);
}

/* Whether there is one that works; while the database is away it is quick to say so. */
static int
need_writer(struct db *db, struct cc_err *err)
{
    struct cc_err why = { 0 };

    if (db->writer != NULL && !db->backend->is_broken(db->writer))
        return 0;
    db->backend->disconnect(db->writer);
    db->writer = NULL;
    if (db->away_tries == 0 || cc_deadline_left(db->away_until) == 0) {
        if (db->backend->connect(db->place, true, &db->writer, &why) == 0) {
            db->away_tries = 0;
            count_reconnect(db);
            return 0;
        }
        db->away_until = cc_deadline_in(cc_backoff_ms(db->away_tries++, AWAY_MS, AWAY_MAX_MS));
        db->away = why;
    }
    return cc_err_set(err, CC_DOM_STORE, DB_FAULT_AWAY, "%s", cc_err_text(&db->away));
}

static struct db_guard
guard_of(struct db *db)
{
    struct db_guard guard;

    pthread_mutex_lock(&db->lock);
    guard = db->guard;
    pthread_mutex_unlock(&db->lock);
    return guard;
}

void
db_set_guard(struct db *db, const struct db_guard *guard)
{
    pthread_mutex_lock(&db->lock);
    db->guard = guard != NULL ? *guard : (struct db_guard){ .enter = NULL };
    pthread_mutex_unlock(&db->lock);
}

/* ---- outages ---- */

void
db_watch(struct db *db, db_outage_fn fn, void *arg)
{
    db->on_outage = fn;
    db->outage_arg = arg;
}

/* After a failure. */
static void
note_failure(const struct db *db, const struct cc_err *err)
{
    if (db->on_outage != NULL && err->domain == CC_DOM_STORE &&
            (err->code == DB_FAULT_AWAY || err->code == DB_FAULT_UNKNOWN ||
                    db->backend->is_outage(err)))
        db->on_outage(db->outage_arg, err);
}

/* ---- group commit ---- */

/* What became of a transaction. */
enum ending {
    DONE,     /* committed; or there was one closure alone, and it failed */
    NOT_DONE, /* nothing of it was done */
    LOST,     /* the same, as the connection was lost at the commit; there is a new one */
    UNKNOWN   /* nobody knows */
};

/* One closure between savepoints.  -1: the transaction itself is lost, with everything in it. */
static int
run_among_others(struct db_conn *conn, struct job *job, struct cc_err *lost)
{
    const struct db_backend *backend = conn->backend;

    if (backend->mark(conn, lost) != 0)
        return -1;
    job->rc = job->fn(conn, job->arg, &job->err);
    if (!backend->in_transaction(conn))
        return cc_err_set(lost, CC_DOM_STORE, 0, "the database gave up the transaction");
    return job->rc == 0 ? backend->keep(conn, lost) : backend->undo(conn, lost);
}

/* The only closure needs no savepoint: when it fails, all goes. */
static int
run_by_itself(struct db_conn *conn, struct job *job, struct cc_err *lost)
{
    job->rc = job->fn(conn, job->arg, &job->err);
    if (!conn->backend->in_transaction(conn))
        return cc_err_set(lost, CC_DOM_STORE, 0, "the database gave up the transaction");
    return 0;
}

static int
run_closures(struct db *db, const struct db_guard *guard, struct job *first, struct cc_err *err)
{
    struct db_conn *conn = db->writer;
    int rc = 0;

    if (guard->enter != NULL && guard->enter(conn, guard->arg, err) != 0)
        return -1;
    for (struct job *job = first; job != NULL && rc == 0; job = job->next) {
        cc_err_clear(&job->err);
        rc = first->next == NULL ? run_by_itself(conn, job, err) : run_among_others(conn, job, err);
    }
    return rc;
}

/* The answer to the commit did not come.  The guard tells, as soon as the database can be asked. */
static enum ending
find_out(struct db *db, const struct db_guard *guard, struct cc_err *err)
{
    int64_t deadline = cc_deadline_in(UNKNOWN_MS);
    struct cc_err why = *err;
    bool committed = false;

    while (guard->look != NULL && cc_deadline_left(deadline) > 0) {
        cc_err_clear(&why);
        if (need_writer(db, &why) == 0 && db->backend->begin(db->writer, true, &why) == 0) {
            bool known = guard->look(db->writer, guard->arg, &committed, &why) == 0;

            db->backend->rollback(db->writer);
            if (known)
                return committed ? DONE : LOST;
        }
        pause_ms(AWAY_MS);
    }
    cc_err_clear(err);
    cc_err_set(err, CC_DOM_STORE, DB_FAULT_UNKNOWN,
            "whether the transaction was committed is not known: %s", cc_err_text(&why));
    return UNKNOWN;
}

static void
count_commit(struct db *db, int64_t began_us)
{
    cc_histogram_add_since(&db->commit_time, began_us);
    pthread_mutex_lock(&db->lock);
    db->stats.commits++;
    pthread_mutex_unlock(&db->lock);
}

/* All closures of the list in one transaction. */
static enum ending
run_group(struct db *db, struct job *first, struct cc_err *err)
{
    const struct db_guard guard = guard_of(db);
    const int64_t began_us = cc_histogram_now();
    enum ending ending = NOT_DONE;

    if (need_writer(db, err) != 0)
        return NOT_DONE;
    if (db->backend->begin(db->writer, true, err) != 0 ||
            run_closures(db, &guard, first, err) != 0) {
        db->backend->rollback(db->writer);
        return NOT_DONE;
    }
    if (first->next == NULL && first->rc != 0) {
        db->backend->rollback(db->writer);
        return DONE;
    }
    if (db->backend->commit(db->writer, err) == 0)
        ending = DONE;
    else if (db->backend->is_broken(db->writer))
        ending = find_out(db, &guard, err);
    else
        db->backend->rollback(db->writer);
    if (ending == DONE)
        count_commit(db, began_us);
    return ending;
}

/* Whether the transaction was lost with its connection, and another may bear it. */
static bool
was_cut(const struct db *db, const struct cc_err *err)
{
    return err->code != DB_FAULT_AWAY && (db->writer == NULL || db->backend->is_broken(db->writer));
}

static enum ending
run_until_answered(struct db *db, struct job *first, struct cc_err *err)
{
    enum ending ending = NOT_DONE;

    for (int tries = 0; tries < LOST_TRIES; tries++) {
        cc_err_clear(err);
        ending = run_group(db, first, err);
        if (ending != LOST && (ending != NOT_DONE || !was_cut(db, err)))
            break;
    }
    return ending == LOST ? NOT_DONE : ending;
}

static void
fail_all(struct job *first, const struct cc_err *err)
{
    for (struct job *job = first; job != NULL; job = job->next) {
        job->err = *err;
        job->rc = -1;
    }
}

static void
run_alone(struct db *db, struct job *job)
{
    struct cc_err err = { 0 };
    enum ending ending;

    for (unsigned tries = 0;; tries++) {
        ending = run_until_answered(db, job, &err);
        if (ending == DONE && (job->rc == 0 || !db->backend->is_passing(&job->err)))
            return;
        if (ending == UNKNOWN || tries >= ALONE_TRIES ||
                !db->backend->is_passing(ending == DONE ? &job->err : &err))
            break;
        pause_ms(cc_backoff_ms(tries, ALONE_MS, ALONE_MAX_MS));
    }
    /* The closure's own error, if it had one, is why the transaction was lost. */
    if (ending == UNKNOWN || job->err.domain == CC_DOM_NONE)
        job->err = err;
    job->rc = -1;
}

/* Those that met another's transaction, and were undone alone. */
static void
repeat_passing(struct db *db, struct job *first)
{
    struct job *next;

    for (struct job *job = first; job != NULL; job = next) {
        next = job->next;
        if (job->rc == 0 || !db->backend->is_passing(&job->err))
            continue;
        job->next = NULL;
        run_alone(db, job);
        job->next = next;
    }
}

/*
 * When a group's transaction is lost, each closure is run again in one of its own: the one that the database cannot
 * bear (a row too big for the disk) then fails by itself.
 */
static void
run_jobs(struct db *db, struct job *first)
{
    struct cc_err err = { 0 };
    enum ending ending = NOT_DONE;
    struct job *next;

    if (first->next != NULL)
        ending = run_until_answered(db, first, &err);
    if (ending == DONE) {
        repeat_passing(db, first);
        return;
    }
    if (ending == UNKNOWN || err.code == DB_FAULT_AWAY || err.code == DB_FAULT_FENCED) {
        fail_all(first, &err);
        return;
    }
    for (struct job *job = first; job != NULL; job = next) {
        next = job->next;
        job->next = NULL;
        run_alone(db, job);
        job->next = next;
    }
}

/* With db->lock held: takes the jobs of the next group off the queue. */
static struct job *
take_group(struct db *db)
{
    struct job *first = db->first;
    struct job *last = first;

    for (unsigned n = 1; n < db->backend->group_max && last->next != NULL; n++)
        last = last->next;
    db->first = last->next;
    if (db->first == NULL)
        db->last = NULL;
    last->next = NULL;
    return first;
}

/* With db->lock held.  A job is gone as soon as its caller saw done. */
static void
wake_group(struct db *db, struct job *first)
{
    struct job *next;

    for (struct job *job = first; job != NULL; job = next) {
        next = job->next;
        if (!job->reading) {
            db->stats.writes++;
            db->stats.failed += job->rc != 0;
        }
        job->done = true;
        pthread_cond_signal(&job->served);
    }
}

static void *
writer_main(void *arg)
{
    struct db *db = arg;
    struct job *group;

    pthread_mutex_lock(&db->lock);
    for (;;) {
        while (db->first == NULL && !db->stopping)
            pthread_cond_wait(&db->work, &db->lock);
        if (db->first == NULL)
            break;
        group = take_group(db);
        pthread_mutex_unlock(&db->lock);
        run_jobs(db, group);
        pthread_mutex_lock(&db->lock);
        wake_group(db, group);
    }
    pthread_mutex_unlock(&db->lock);
    return NULL;
}

/* Signals are for the program's own threads. */
static int
start_writer(struct db *db, struct cc_err *err)
{
    sigset_t all, before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&db->thread, NULL, writer_main, db);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return cc_err_set_errno(err, code, "thread of the store");
    (void)pthread_setname_np(db->thread, "store-writer");
    db->thread_runs = true;
    return 0;
}

static int
run_on_writer(struct db *db, db_fn fn, void *arg, bool reading, struct cc_err *err)
{
    struct job job = { .fn = fn, .arg = arg, .reading = reading };

    pthread_cond_init(&job.served, NULL);
    pthread_mutex_lock(&db->lock);
    if (db->last != NULL)
        db->last->next = &job;
    else
        db->first = &job;
    db->last = &job;
    pthread_cond_signal(&db->work);
    while (!job.done)
        pthread_cond_wait(&job.served, &db->lock);
    pthread_mutex_unlock(&db->lock);
    pthread_cond_destroy(&job.served);

    if (job.rc != 0)
        note_failure(db, &job.err);
    if (job.rc != 0 && err != NULL && err->domain == CC_DOM_NONE)
        *err = job.err;
    return job.rc == 0 ? 0 : -1;
}

int
db_write(struct db *db, db_fn fn, void *arg, struct cc_err *err)
{
    return run_on_writer(db, fn, arg, false, err);
}

/* ---- readers ---- */

static void
put_reader(struct db *db, struct db_conn *conn)
{
    pthread_mutex_lock(&db->lock);
    if (conn != NULL)
        db->idle[db->idle_count++] = conn;
    else
        db->reader_count--;
    pthread_cond_signal(&db->reader_back);
    pthread_mutex_unlock(&db->lock);
}

/* Readers are connected when first needed: an idle program has none. */
static struct db_conn *
take_reader(struct db *db, struct cc_err *err)
{
    struct db_conn *conn = NULL;

    pthread_mutex_lock(&db->lock);
    while (db->idle_count == 0 && db->reader_count == READERS_MAX)
        pthread_cond_wait(&db->reader_back, &db->lock);
    if (db->idle_count > 0)
        conn = db->idle[--db->idle_count];
    else
        db->reader_count++;
    pthread_mutex_unlock(&db->lock);

    if (conn == NULL && db->backend->connect(db->place, false, &conn, err) != 0)
        put_reader(db, NULL);
    return conn;
}

/* Whether this thread's reading closure has seen a row, and may have handed it on. */
static _Thread_local bool row_seen;

/* One transaction; *ret_cut: it was lost with its connection before anything was read, and may be done again. */
static int
read_once(struct db *db, db_fn fn, void *arg, bool *ret_cut, struct cc_err *err)
{
    struct db_conn *conn;
    int rc = -1;

    *ret_cut = false;
    row_seen = false;
    if ((conn = take_reader(db, err)) == NULL)
        return -1;
    if (db->backend->begin(conn, false, err) == 0)
        rc = fn(conn, arg, err);
    /* How a transaction ends that only read changes nothing of what was read. */
    if (rc != 0 || db->backend->commit(conn, NULL) != 0)
        db->backend->rollback(conn);
    if (db->backend->is_broken(conn)) {
        *ret_cut = rc != 0 && !row_seen;
        db->backend->disconnect(conn);
        conn = NULL;
    }
    put_reader(db, conn);
    return rc;
}

/* Connections that were idle when the database was restarted are all lost: each is found to be so but once. */
int
db_read(struct db *db, db_fn fn, void *arg, struct cc_err *err)
{
    struct cc_err why = { 0 };
    bool cut = true;
    int rc = -1;

    if (!db->shareable)
        return run_on_writer(db, fn, arg, true, err);
    for (int tries = 0; rc != 0 && cut && tries <= READERS_MAX; tries++) {
        cc_err_clear(&why);
        rc = read_once(db, fn, arg, &cut, &why);
    }
    if (rc != 0)
        note_failure(db, &why);
    if (rc != 0 && err != NULL && err->domain == CC_DOM_NONE)
        *err = why;
    return rc;
}

void
db_stats(struct db *db, struct db_stats *ret)
{
    pthread_mutex_lock(&db->lock);
    *ret = db->stats;
    pthread_mutex_unlock(&db->lock);
    cc_histogram_get(&db->commit_time, &ret->commit_time);
}

/* ---- statements ---- */

int
db_query(struct db_conn *conn, const char *sql, const struct db_value *params, size_t count,
        struct db_rows **ret_rows, struct cc_err *err)
{
    return conn->backend->query(conn, sql, params, count, ret_rows, err);
}

int
db_next(struct db_rows *rows, struct cc_err *err)
{
    int got = rows->backend->next(rows, err);

    row_seen |= got > 0;
    return got;
}

void
db_rows_free(struct db_rows *rows)
{
    if (rows != NULL)
        rows->backend->rows_free(rows);
}

int
db_exec(struct db_conn *conn, const char *sql, const struct db_value *params, size_t count,
        int64_t *ret_changes, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int64_t changes;
    int got;

    if (db_query(conn, sql, params, count, &rows, err) != 0)
        return -1;
    do {
        got = db_next(rows, err);
    } while (got > 0);
    changes = rows->backend->changes(rows);
    db_rows_free(rows);
    if (got < 0)
        return -1;
    if (ret_changes != NULL)
        *ret_changes = changes;
    return 0;
}

bool
db_is_null(struct db_rows *rows, int column)
{
    return rows->backend->is_null(rows, column);
}

int64_t
db_int(struct db_rows *rows, int column)
{
    return rows->backend->get_int(rows, column);
}

const char *
db_text(struct db_rows *rows, int column)
{
    return rows->backend->get_text(rows, column);
}

struct cc_bytes
db_blob(struct db_rows *rows, int column)
{
    return rows->backend->get_blob(rows, column);
}

/* ---- schema ---- */

/* Which steps the database has, and how many a program must know to use it. */
static int
query_version(struct db_conn *conn, const char *name, int64_t *ret_version, int64_t *ret_oldest,
        struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT v.version, COALESCE(o.version, v.version) FROM schema_version v"
                " LEFT JOIN schema_oldest o ON o.name = v.name WHERE v.name = $1",
                DB_PARAMS(DB_TEXT(name)), &rows, err) != 0)
        return -1;
    got = db_next(rows, err);
    if (got >= 0) {
        *ret_version = got == 1 ? db_int(rows, 0) : 0;
        *ret_oldest = got == 1 ? db_int(rows, 1) : 0;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
read_version(struct db_conn *conn, const char *name, int64_t *ret_version, int64_t *ret_oldest,
        struct cc_err *err)
{
    if (conn->backend->script(conn,
                "CREATE TABLE IF NOT EXISTS schema_version ("
                " name TEXT PRIMARY KEY,"
                " version BIGINT NOT NULL);"
                "CREATE TABLE IF NOT EXISTS schema_oldest ("
                " name TEXT PRIMARY KEY,"
                " version BIGINT NOT NULL)",
                err) != 0)
        return -1;
    return query_version(conn, name, ret_version, ret_oldest, err);
}

static int
write_version(struct db_conn *conn, const struct db_schema *schema, struct cc_err *err)
{
    const size_t oldest = schema->oldest > 0 ? schema->oldest : schema->count;

    if (db_exec(conn,
                "INSERT INTO schema_version (name, version) VALUES ($1, $2)"
                " ON CONFLICT (name) DO UPDATE SET version = excluded.version",
                DB_PARAMS(DB_TEXT(schema->name), DB_INT((int64_t)schema->count)), NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "INSERT INTO schema_oldest (name, version) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET version = excluded.version",
            DB_PARAMS(DB_TEXT(schema->name), DB_INT((int64_t)oldest)), NULL, err);
}

static int
run_steps(struct db_conn *conn, const struct db_schema *schema, struct cc_err *err)
{
    int64_t version, oldest;

    if (conn->backend->lock_schema(conn, err) != 0 ||
            read_version(conn, schema->name, &version, &oldest, err) != 0)
        return -1;
    if (version < 0 || oldest > (int64_t)schema->count)
        return cc_err_set(err, CC_DOM_STORE, 0,
                "the database has schema %lld, this program knows %zu: it was used by a newer version",
                (long long)version, schema->count);

    for (size_t i = (size_t)version; i < schema->count; i++) {
        const struct db_step *step = &schema->steps[i];

        if (step->number != (int)i + 1)
            return cc_err_set(err, CC_DOM_INTERNAL, 0, "schema step %d stands at place %zu",
                    step->number, i + 1);
        if (conn->backend->script(conn, step->sql, err) != 0)
            return cc_err_in(err, "schema step %d (%s)", step->number, step->what);
    }
    return (uint64_t)version >= schema->count ? 0 : write_version(conn, schema, err);
}

/* All steps or none; and of two programs that start at once, one after the other. */
static int
bring_up_to_date(struct db_conn *conn, const struct db_schema *schema, struct cc_err *err)
{
    if (conn->backend->begin(conn, true, err) != 0)
        return -1;
    if (run_steps(conn, schema, err) != 0 || conn->backend->commit(conn, err) != 0) {
        conn->backend->rollback(conn);
        return -1;
    }
    return 0;
}

/* ---- alone or shared ---- */

bool
db_is_shared(const struct db *db)
{
    return db->backend->hold_alone == NULL;
}

bool
db_is_passing(const struct db *db, const struct cc_err *err)
{
    return db->backend->is_passing(err) || db->backend->is_busy(err);
}

int
db_hold_alone(struct db *db, struct cc_err *err)
{
    if (db->backend->hold_alone == NULL || db->held >= 0)
        return 0;
    return db->backend->hold_alone(db->place, &db->held, err);
}

/* ---- open and close ---- */

int
db_open(const char *uri, const struct db_schema *schema, struct db **ret_db, struct cc_err *err)
{
    const struct db_backend *backend;
    const char *place;
    struct db *db = NULL;

    if ((backend = find_backend(uri, &place, err)) == NULL || backend->check(place, err) != 0)
        goto fail;
    if ((db = calloc(1, sizeof(*db))) == NULL) {
        cc_err_nomem(err);
        goto fail;
    }
    db->backend = backend;
    db->held = -1;
    db->shareable = backend->shareable(place);
    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->work, NULL);
    pthread_cond_init(&db->reader_back, NULL);

    if ((db->place = cc_strdup(place, err)) == NULL)
        goto fail;
    if (backend->prepare(place, err) != 0)
        goto fail;
    if (backend->connect(place, true, &db->writer, err) != 0)
        goto fail;
    if (bring_up_to_date(db->writer, schema, err) != 0)
        goto fail;
    if (start_writer(db, err) != 0)
        goto fail;

    *ret_db = db;
    return 0;
fail:
    db_close(db);
    return cc_err_in(err, "database %s", uri);
}

static int
look(const struct db_backend *backend, struct db_conn *conn, const struct db_schema *schema,
        struct db_look *ret, struct cc_err *err)
{
    struct cc_err why = { 0 };
    int rc;

    if (backend->begin(conn, false, err) != 0)
        return -1;
    rc = query_version(conn, schema->name, &ret->version, &ret->oldest, &why);
    backend->rollback(conn);
    /* Without the tables nothing of ours is in it; what may not be read, or not now, may hold anything. */
    if (rc == 0 || backend->is_no_table(&why))
        return 0;
    return cc_err_set(err, why.domain, why.code, "%s", why.text);
}

int
db_look(const char *uri, const struct db_schema *schema, struct db_look *ret, struct cc_err *err)
{
    const struct db_backend *backend;
    const char *place;
    struct db_look found = { .version = 0 };
    struct db_conn *conn = NULL;
    int rc;

    if ((backend = find_backend(uri, &place, err)) == NULL || backend->check(place, err) != 0)
        return cc_err_in(err, "database %s", uri);
    found.shared = backend->hold_alone == NULL;
    if (!found.shared && access(place, F_OK) != 0 && errno == ENOENT) {
        *ret = found;
        return 0;
    }
    rc = backend->connect(place, false, &conn, err);
    if (rc == 0)
        rc = look(backend, conn, schema, &found, err);
    backend->disconnect(conn);
    if (rc != 0)
        return cc_err_in(err, "database %s", uri);
    *ret = found;
    return 0;
}

void
db_close(struct db *db)
{
    if (db == NULL)
        return;
    if (db->thread_runs) {
        pthread_mutex_lock(&db->lock);
        db->stopping = true;
        pthread_cond_signal(&db->work);
        pthread_mutex_unlock(&db->lock);
        pthread_join(db->thread, NULL);
    }
    while (db->idle_count > 0)
        db->backend->disconnect(db->idle[--db->idle_count]);
    db->backend->disconnect(db->writer);
    if (db->held >= 0)
        (void)close(db->held);
    pthread_cond_destroy(&db->reader_back);
    pthread_cond_destroy(&db->work);
    pthread_mutex_destroy(&db->lock);
    free(db->place);
    free(db);
}
