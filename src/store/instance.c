/* SPDX-License-Identifier: MIT */
#include "store/instance.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/file.h"
#include "base/log.h"
#include "store_int.h"

#define TICK_MS 1500 /* four of them in a lease */
#define LOOK_TICKS 20
#define GAP_MS 3000 /* between two ticks: longer, and we were away ourselves */
#define KEEP_GONE_MS                                                                               \
    "604800000" /* rows of those that are gone: a week, as rows in hand name them */
#define HOST_LEN 160

struct member {
    struct store *store;
    struct member *next_gone;
    int64_t epoch;
    struct store_joining joining;
    int64_t commits;              /* transactions of this epoch; the writer's own */
    int64_t steady_since, ticked; /* monotonic; the thread's own */
    int64_t gone_seen; /* the sum of the epochs that are gone: another one, others are; the thread's own */
    uint64_t reconnects;
    unsigned ticks;

    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping; /* guarded by lock */
};

/* ---- the clock ---- */

static int
read_clock(struct db_conn *conn, void *arg, struct cc_err *err)
{
    int64_t *now_ms = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT db_now_ms()", DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        *now_ms = db_int(rows, 0);
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

static void
set_clock(struct store *store, int64_t now_ms, int64_t before, int64_t after)
{
    atomic_store(&store->clock_ahead, now_ms - (before + (after - before) / 2));
}

int
store_read_clock(struct store *store, struct cc_err *err)
{
    int64_t before = cc_clock_mono_ms(), now_ms = 0;

    if (db_read(store->db, read_clock, &now_ms, err) != 0)
        return -1;
    set_clock(store, now_ms, before, cc_clock_mono_ms());
    return 0;
}

int64_t
store_now_ms(struct store *store)
{
    if (!db_is_shared(store->db))
        return cc_clock_now_ms();
    return cc_clock_mono_ms() + atomic_load(&store->clock_ahead);
}

/* ---- the guard ---- */

static int
fenced(struct member *member, struct cc_err *err)
{
    atomic_store(&member->store->fenced, true);
    return cc_err_set(err, CC_DOM_STORE, DB_FAULT_FENCED,
            "this instance was taken for gone, and others go on with its work");
}

static int
guard_enter(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct member *member = arg;
    int64_t changes = 0;

    if (atomic_load(&member->store->fenced))
        return fenced(member, err);
    if (db_exec(conn,
                "UPDATE store_instance SET commits = $1, lease_until_ms = db_now_ms() + $2"
                " WHERE epoch = $3 AND alive = 1",
                DB_PARAMS(DB_INT(++member->commits), DB_INT(STORE_LEASE_MS), DB_INT(member->epoch)),
                &changes, err) != 0)
        return -1;
    return changes == 1 ? 0 : fenced(member, err);
}

/* The row's lock is waited for: the transaction in question may still be ending on the server. */
static int
guard_look(struct db_conn *conn, void *arg, bool *ret_committed, struct cc_err *err)
{
    struct member *member = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_exec(conn, "UPDATE store_instance SET commits = commits WHERE epoch = $1",
                DB_PARAMS(DB_INT(member->epoch)), NULL, err) != 0 ||
            db_query(conn, "SELECT commits FROM store_instance WHERE epoch = $1",
                    DB_PARAMS(DB_INT(member->epoch)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        *ret_committed = db_int(rows, 0) >= member->commits;
    else if (got == 0)
        got = fenced(member, err);
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

/* ---- who is there ---- */

struct ticking {
    struct store *store;
    bool reap;
    int64_t now_ms, gone;
};

/* Whose lease ended is gone, for good. */
static int
reap(struct db_conn *conn, int64_t epoch, struct cc_err *err)
{
    if (db_exec(conn,
                "UPDATE store_instance SET alive = 0"
                " WHERE alive = 1 AND lease_until_ms < db_now_ms() AND epoch <> $1",
                DB_PARAMS(DB_INT(epoch)), NULL, err) != 0)
        return -1;
    return db_exec(conn,
            "DELETE FROM store_instance WHERE alive = 0"
            " AND lease_until_ms < db_now_ms() - " KEEP_GONE_MS,
            DB_NO_PARAMS, NULL, err);
}

static int
tick(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct ticking *ticking = arg;
    struct db_rows *rows = NULL;
    int got;

    if (ticking->reap && reap(conn, ticking->store->epoch, err) != 0)
        return -1;
    if (db_query(conn,
                "SELECT db_now_ms(), CAST(COALESCE(SUM(epoch), 0) AS BIGINT) FROM store_instance"
                " WHERE alive = 0",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0) {
        ticking->now_ms = db_int(rows, 0);
        ticking->gone = db_int(rows, 1);
    }
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

/* ---- the thread ---- */

/*
 * When it was us, or all, who were out of touch, old leases say nothing.  After a restart of the database that nobody's
 * tick fell into, those who still wait for their turn to connect have a whole lease of time to do so.
 */
static void
take_note(struct member *member, const struct ticking *ticking, int64_t before)
{
    int64_t after = cc_clock_mono_ms();
    struct db_stats stats;

    db_stats(member->store->db, &stats);
    set_clock(member->store, ticking->now_ms, before, after);
    if (after - member->ticked > GAP_MS || stats.reconnects != member->reconnects)
        member->steady_since = after;
    member->reconnects = stats.reconnects;
    member->ticked = after;
}

static bool
may_reap(const struct member *member)
{
    struct db_stats stats;

    db_stats(member->store->db, &stats);
    return stats.reconnects == member->reconnects &&
           cc_clock_mono_ms() - member->steady_since >= STORE_LEASE_MS;
}

static bool
wait_tick(struct member *member)
{
    bool go;

    pthread_mutex_lock(&member->lock);
    if (!member->stopping)
        cc_cond_wait(&member->changed, &member->lock, TICK_MS);
    go = !member->stopping;
    pthread_mutex_unlock(&member->lock);
    return go;
}

static void
tick_once(struct member *member)
{
    struct ticking ticking = { .store = member->store };
    int64_t before = cc_clock_mono_ms();
    const bool usable = store_is_usable(member->store); /* else it has been said */
    struct cc_err err = { 0 };

    ticking.reap = may_reap(member);
    if (db_write(member->store->db, tick, &ticking, &err) != 0) {
        member->steady_since = cc_clock_mono_ms();
        if (usable)
            cc_log(CC_LOG_WARNING, "store", "lease: %s", cc_err_text(&err));
        return;
    }
    take_note(member, &ticking, before);
    if (member->joining.on_gone != NULL &&
            (ticking.gone != member->gone_seen || ++member->ticks % LOOK_TICKS == 0))
        member->joining.on_gone(member->joining.arg, ticking.gone != member->gone_seen);
    member->gone_seen = ticking.gone;
}

static void *
member_run(void *arg)
{
    struct member *member = arg;
    bool told = false;

    while (wait_tick(member)) {
        if (!atomic_load(&member->store->fenced))
            tick_once(member);
        if (!told && atomic_load(&member->store->fenced) && member->joining.on_fenced != NULL) {
            member->joining.on_fenced(member->joining.arg);
            told = true;
        }
    }
    return NULL;
}

/* ---- join ---- */

struct join_op {
    const char *name;
    const char *host;
    bool shared, again;
    int64_t epoch, wait_ms, now_ms;
};

/* Boot, namespace of processes, process and when it began: two processes that differ in none are one. */
static void
describe_process(long pid, char ret[HOST_LEN])
{
    struct cc_buf boot = CC_BUF_INIT(64), stat_text = CC_BUF_INIT(4096);
    char path[64], space[64] = "";
    const char *begun = NULL;

    if (cc_file_read("/proc/sys/kernel/random/boot_id", &boot, NULL) != 0)
        cc_buf_reset(&boot);
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    if (readlink("/proc/self/ns/pid", space, sizeof(space) - 1) < 0)
        space[0] = '\0';
    /* Field 22, counted from behind the name, which may hold anything. */
    if (cc_file_read(path, &stat_text, NULL) == 0)
        begun = strrchr(cc_buf_str(&stat_text), ')');
    for (int field = 2; begun != NULL && field < 22; field++)
        begun = strchr(begun + 1, ' ');
    (void)snprintf(ret, HOST_LEN, "%.36s %.40s %ld %.*s", cc_buf_str(&boot), space, pid,
            begun != NULL ? (int)strcspn(begun + 1, " ") : 0, begun != NULL ? begun + 1 : "");
    cc_buf_free(&boot);
    cc_buf_free(&stat_text);
}

/* Whether it is a process of this machine that runs no more. */
static bool
is_over(const char *host, const char *ours)
{
    const char *process = strchr(host, ' ') != NULL ? strchr(strchr(host, ' ') + 1, ' ') : NULL;
    char now[HOST_LEN];
    size_t len;

    if (process == NULL || strtol(process, NULL, 10) <= 0)
        return false;
    len = (size_t)(process - host) + 1;
    if (strncmp(host, ours, len) != 0)
        return false;
    describe_process(strtol(process, NULL, 10), now);
    return strcmp(host, now) != 0;
}

/* How long to wait for the one of our name; 0: there is none, or it is gone. */
static int
look_for_namesake(struct db_conn *conn, struct join_op *op, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    op->wait_ms = 0;
    if (db_query(conn,
                "SELECT host, lease_until_ms - db_now_ms() FROM store_instance"
                " WHERE name = $1 AND alive = 1",
                DB_PARAMS(DB_TEXT(op->name)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0 && op->shared && db_int(rows, 1) > 0 &&
            (op->again || !is_over(db_text(rows, 0), op->host)))
        op->wait_ms = db_int(rows, 1);
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
next_epoch(struct db_conn *conn, int64_t *ret, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_exec(conn,
                "INSERT INTO store_counter (name, value) VALUES ('epoch', 1)"
                " ON CONFLICT (name) DO UPDATE SET value = store_counter.value + 1",
                DB_NO_PARAMS, NULL, err) != 0 ||
            db_query(conn, "SELECT value FROM store_counter WHERE name = 'epoch'", DB_NO_PARAMS,
                    &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        *ret = db_int(rows, 0);
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

int
store_check_usable(struct db_conn *conn, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT value FROM store_value WHERE name = $1",
                DB_PARAMS(DB_TEXT(STORE_UNUSABLE)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        cc_err_set(err, CC_DOM_CONFIG, 0, "the state cannot be used: %s", db_text(rows, 0));
    db_rows_free(rows);
    return got == 0 ? 0 : -1;
}

/* Alone in a file, all others are gone. */
static int
join(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct join_op *op = arg;
    int rc;

    if (store_check_usable(conn, err) != 0 || next_epoch(conn, &op->epoch, err) != 0 ||
            look_for_namesake(conn, op, err) != 0)
        return -1;
    if (op->wait_ms > 0)
        return 0;
    if (op->shared)
        rc = db_exec(conn, "UPDATE store_instance SET alive = 0 WHERE alive = 1 AND name = $1",
                DB_PARAMS(DB_TEXT(op->name)), NULL, err);
    else
        rc = db_exec(conn, "UPDATE store_instance SET alive = 0 WHERE alive = 1", DB_NO_PARAMS,
                NULL, err);
    if (rc != 0)
        return -1;
    return db_exec(conn,
            "INSERT INTO store_instance (epoch, name, host, alive, lease_until_ms, commits,"
            " joined_ms) VALUES ($1, $2, $3, 1, db_now_ms() + $4, 0, db_now_ms())",
            DB_PARAMS(DB_INT(op->epoch), DB_TEXT(op->name), DB_TEXT(op->host),
                    DB_INT(STORE_LEASE_MS)),
            NULL, err);
}

static int
start_thread(struct member *member, struct cc_err *err)
{
    sigset_t all, before;
    int code;

    (void)pthread_mutex_init(&member->lock, NULL);
    if (cc_cond_init(&member->changed, err) != 0)
        return -1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&member->thread, NULL, member_run, member);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        pthread_cond_destroy(&member->changed);
        return cc_err_set_errno(err, code, "thread of the lease");
    }
    (void)pthread_setname_np(member->thread, "store-lease");
    member->started = true;
    return 0;
}

static int
become_member(struct store *store, const struct store_joining *joining, int64_t epoch,
        struct cc_err *err)
{
    struct member *member = calloc(1, sizeof(*member));
    const struct db_guard guard = { guard_enter, guard_look, member };

    if (member == NULL)
        return cc_err_nomem(err);
    member->store = store;
    member->epoch = epoch;
    member->joining = *joining;
    member->steady_since = member->ticked = cc_clock_mono_ms();
    free(store->name);
    store->name = cc_strdup(joining->name, err);
    store->epoch = epoch;
    atomic_store(&store->fenced, false);
    store->member = member;
    if (store->name == NULL || start_thread(member, err) != 0) {
        store_member_free(store);
        return -1;
    }
    db_set_guard(store->db, &guard);
    return 0;
}

int
store_join(struct store *store, const struct store_joining *joining, bool again,
        int64_t *ret_wait_ms, struct cc_err *err)
{
    char host[HOST_LEN];
    struct join_op op = { .name = joining->name,
        .host = host,
        .shared = db_is_shared(store->db),
        .again = again };

    if (strlen(joining->name) > STORE_MEMBER_NAME_MAX)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the name of the connector is too long");
    describe_process((long)getpid(), host);
    if (db_hold_alone(store->db, err) != 0 || store_read_clock(store, err) != 0 ||
            db_write(store->db, join, &op, err) != 0)
        return -1;
    *ret_wait_ms = op.wait_ms;
    return op.wait_ms > 0 ? 0 : become_member(store, joining, op.epoch, err);
}

bool
store_was_fenced(const struct store *store)
{
    return atomic_load(&store->fenced);
}

/* ---- leave ---- */

void
store_member_free(struct store *store)
{
    struct member *member = store->member;

    if (member == NULL)
        return;
    pthread_mutex_lock(&member->lock);
    member->stopping = true;
    if (member->started)
        pthread_cond_signal(&member->changed);
    pthread_mutex_unlock(&member->lock);
    if (member->started) {
        pthread_join(member->thread, NULL);
        pthread_cond_destroy(&member->changed);
    }
    db_set_guard(store->db, NULL);
    pthread_mutex_destroy(&member->lock);
    /* A transaction under way may still ask its guard. */
    member->next_gone = store->members_gone;
    store->members_gone = member;
    store->member = NULL;
    store->epoch = 0;
}

void
store_members_gone_free(struct store *store)
{
    struct member *member;

    while ((member = store->members_gone) != NULL) {
        store->members_gone = member->next_gone;
        free(member);
    }
}

static int
leave(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct store *store = arg;

    return db_exec(conn,
            "UPDATE store_instance SET alive = 0, lease_until_ms = db_now_ms() WHERE epoch = $1",
            DB_PARAMS(DB_INT(store->epoch)), NULL, err);
}

/* When it cannot be said, the lease says it a little later. */
void
store_leave(struct store *store)
{
    struct cc_err err = { 0 };

    if (store->member == NULL)
        return;
    if (!atomic_load(&store->fenced) && db_write(store->db, leave, store, &err) != 0)
        cc_log(CC_LOG_WARNING, "store", "leaving: %s", cc_err_text(&err));
    store_member_free(store);
}

/* ---- the service's name for us ---- */

struct id_op {
    char name[STORE_MEMBER_NAME_MAX + 16];
    char id[CC_UUID_LEN]; /* a new one, replaced by the one that is there */
};

static int
read_id(struct db_conn *conn, const char *name, char ret_id[CC_UUID_LEN], struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT value FROM store_value WHERE name = $1", DB_PARAMS(DB_TEXT(name)),
                &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0 && (got = cc_is_uuid(db_text(rows, 0)) ? 1 : 0) > 0)
        cc_strcpy(ret_id, CC_UUID_LEN, db_text(rows, 0));
    db_rows_free(rows);
    return got;
}

static int
write_id(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct id_op *op = arg;

    return db_exec(conn,
            "INSERT INTO store_value (name, value) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            DB_PARAMS(DB_TEXT(op->name), DB_TEXT(op->id)), NULL, err);
}

/* Before there were several, the only one had no name: whoever comes first was it. */
static int
find_id(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct id_op *op = arg;
    int got = read_id(conn, op->name, op->id, err);

    if (got != 0)
        return got < 0 ? -1 : 0;
    if ((got = read_id(conn, "connector-id", op->id, err)) < 0 ||
            (got > 0 && db_exec(conn, "DELETE FROM store_value WHERE name = 'connector-id'",
                                DB_NO_PARAMS, NULL, err) != 0))
        return -1;
    return write_id(conn, op, err);
}

int
store_connector_id_set(struct store *store, const char *name, const char *id, struct cc_err *err)
{
    struct id_op op;

    (void)snprintf(op.name, sizeof(op.name), "connector-id/%.*s", STORE_MEMBER_NAME_MAX, name);
    (void)cc_strcpy(op.id, sizeof(op.id), id);
    return db_write(store->db, write_id, &op, err);
}

int
store_connector_id(struct store *store, const char *name, char ret_id[CC_UUID_LEN],
        struct cc_err *err)
{
    struct id_op op;

    (void)snprintf(op.name, sizeof(op.name), "connector-id/%.*s", STORE_MEMBER_NAME_MAX, name);
    if (cc_uuid(op.id, err) != 0 || db_write(store->db, find_id, &op, err) != 0)
        return -1;
    cc_strcpy(ret_id, CC_UUID_LEN, op.id);
    return 0;
}

/* ---- members ---- */

struct listing {
    const struct store *store;
    store_member_fn fn;
    void *arg;
};

static int
list(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct listing *listing = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT name, joined_ms, epoch FROM store_instance WHERE alive = 1 ORDER BY name",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) > 0) {
        const struct store_member member = { db_text(rows, 0), db_int(rows, 1),
            db_int(rows, 2) == listing->store->epoch };

        if (listing->fn(listing->arg, &member) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
store_members(struct store *store, store_member_fn fn, void *arg, struct cc_err *err)
{
    struct listing listing = { store, fn, arg };

    return db_read(store->db, list, &listing, err);
}

/* ---- leases by name ---- */

struct lease_op {
    const char *name;
    int64_t epoch;
    bool held, ours;
};

static int
take_lease(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct lease_op *op = arg;
    int64_t changes = 0;

    if (db_exec(conn,
                "INSERT INTO store_lease (name, epoch) VALUES ($1, $2)"
                " ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch"
                " WHERE store_lease.epoch = excluded.epoch OR " OWNER_GONE("store_lease.epoch"),
                DB_PARAMS(DB_TEXT(op->name), DB_INT(op->epoch)), &changes, err) != 0)
        return -1;
    op->ours = changes == 1;
    return 0;
}

static int
look_at_lease(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct lease_op *op = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT epoch FROM store_lease WHERE name = $1 AND NOT (" OWNER_GONE("epoch") ")",
                DB_PARAMS(DB_TEXT(op->name)), &rows, err) != 0)
        return -1;
    got = db_next(rows, err);
    op->held = got > 0;
    op->ours = got > 0 && db_int(rows, 0) == op->epoch;
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

/* Mostly it is somebody else's, or ours already: looked at first, as reading costs no disk. */
int
store_lease_take(struct store *store, const char *name, bool *ret_ours, struct cc_err *err)
{
    struct lease_op op = { .name = name, .epoch = store->epoch };

    if (db_read(store->db, look_at_lease, &op, err) != 0)
        return -1;
    if (!op.held && op.epoch != 0 && db_write(store->db, take_lease, &op, err) != 0)
        return -1;
    *ret_ours = op.ours || (!op.held && op.epoch == 0);
    return 0;
}

static int
release_lease(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct lease_op *op = arg;

    return db_exec(conn, "DELETE FROM store_lease WHERE name = $1 AND epoch = $2",
            DB_PARAMS(DB_TEXT(op->name), DB_INT(op->epoch)), NULL, err);
}

int
store_lease_release(struct store *store, const char *name, struct cc_err *err)
{
    struct lease_op op = { .name = name, .epoch = store->epoch };

    return db_write(store->db, release_lease, &op, err);
}
