/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/memory_store.h"

#define THREADS 8

/* The database library's syncs pass here: counted, and failing on cue. */
static atomic_bool sync_fails;
static atomic_uint syncs;

static int
passing_sync(long call, int fd)
{
    atomic_fetch_add(&syncs, 1);
    if (atomic_load(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, fd);
}

int
fsync(int fd)
{
    return passing_sync(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
    return passing_sync(SYS_fdatasync, fd);
}

static char folder[] = "/tmp/test-store-XXXXXX";
static char path[64];
static char uri[256]; /* of a file, or of the PostgreSQL server that the tests were given */

static const struct db_step steps[] = {
    { 1, "a table to write into",
            "CREATE TABLE thing (id BIGINT PRIMARY KEY, text TEXT, data BYTEA)" },
    { 2, "two accounts",
            "CREATE TABLE account (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL);"
            "INSERT INTO account (id, amount) VALUES (1, 500), (2, 500)" },
};
static const struct db_schema schema = { "test", steps, 2, 0 };

static struct db *
must_open(const char *where)
{
    struct db *db = NULL;
    struct cc_err err = { 0 };

    if (db_open(where, &schema, &db, &err) != 0)
        fail_msg("%s", err.text);
    return db;
}

static void
remove_files(void)
{
    char name[80];

    (void)unlink(path);
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof(name), "%s%s", path, i == 0 ? "-wal" : "-shm");
        (void)unlink(name);
    }
}

static int
setup(void **state)
{
    (void)state;
    remove_files();
    (void)memory_store();
    return 0;
}

/* ---- closures ---- */

struct thing {
    int64_t id;
    const char *text;
    struct cc_bytes data;
};

static int
insert(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct thing *thing = arg;

    return db_exec(conn, "INSERT INTO thing (id, text, data) VALUES ($1, $2, $3)",
            DB_PARAMS(DB_INT(thing->id), DB_TEXT(thing->text), DB_BLOB(thing->data)), NULL, err);
}

static int
insert_and_fail(struct db_conn *conn, void *arg, struct cc_err *err)
{
    if (insert(conn, arg, err) != 0)
        return -1;
    return cc_err_set(err, CC_DOM_INPUT, 7, "thought better of it");
}

/* What a database does that gives up a transaction by itself. */
static int
insert_and_lose(struct db_conn *conn, void *arg, struct cc_err *err)
{
    if (insert(conn, arg, err) != 0)
        return -1;
    return db_exec(conn, "ROLLBACK", DB_NO_PARAMS, NULL, err);
}

static int
query_number(struct db_conn *conn, const char *sql, int64_t *ret, struct cc_err *err)
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

static int
count_things(struct db_conn *conn, void *arg, struct cc_err *err)
{
    return query_number(conn, "SELECT COUNT(*) FROM thing", arg, err);
}

static int64_t
things_in(struct db *db)
{
    int64_t n = -1;

    assert_int_equal(db_read(db, count_things, &n, NULL), 0);
    return n;
}

static int
insert_thing(struct db *db, int64_t id, struct cc_err *err)
{
    struct thing thing = { .id = id, .text = "t" };

    return db_write(db, insert, &thing, err);
}

/* ---- values ---- */

static int
check_values(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct db_rows *rows = NULL;

    (void)arg;
    assert_int_equal(db_query(conn, "SELECT id, text, data FROM thing WHERE id >= $1 ORDER BY id",
                             DB_PARAMS(DB_INT(INT64_MIN)), &rows, err),
            0);
    assert_int_equal(db_next(rows, err), 1);
    assert_true(db_int(rows, 0) == INT64_MIN);
    assert_string_equal(db_text(rows, 1), "");
    assert_false(db_is_null(rows, 1));
    assert_int_equal(db_blob(rows, 2).len, 0);
    assert_false(db_is_null(rows, 2));
    assert_non_null(db_blob(rows, 2).data);

    assert_int_equal(db_next(rows, err), 1);
    assert_int_equal(db_int(rows, 0), 1);
    assert_null(db_text(rows, 1));
    assert_true(db_is_null(rows, 1));
    assert_true(db_is_null(rows, 2));
    assert_null(db_blob(rows, 2).data);

    assert_int_equal(db_next(rows, err), 1);
    assert_true(db_int(rows, 0) == INT64_MAX);
    assert_string_equal(db_text(rows, 1), "caf\xc3\xa9");
    assert_int_equal(db_blob(rows, 2).len, 3);
    assert_memory_equal(db_blob(rows, 2).data, "\0\1\xff", 3);
    assert_int_equal(db_next(rows, err), 0);
    db_rows_free(rows);
    db_rows_free(NULL);
    return 0;
}

static void
values_come_back_as_they_were(void **state)
{
    struct db *db = must_open(memory_store());
    struct thing things[] = {
        { INT64_MAX, "caf\xc3\xa9", { (const uint8_t *)"\0\1\xff", 3 } },
        { 1, NULL, { NULL, 0 } },
        { INT64_MIN, "", { (const uint8_t *)"", 0 } },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(things); i++)
        assert_int_equal(db_write(db, insert, &things[i], NULL), 0);
    assert_int_equal(db_read(db, check_values, NULL, NULL), 0);
    db_close(db);
}

struct statement {
    const char *sql;
    size_t params;
};

static int
run_statement(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct statement *statement = arg;
    struct db_value values[2] = { DB_INT(1), DB_INT(2) };

    return db_exec(conn, statement->sql, values, statement->params, NULL, err);
}

static void
placeholders_are_named_in_order(void **state)
{
    static const struct {
        struct statement statement;
        int want;
    } cases[] = {
        { { "UPDATE account SET amount = $1 WHERE id = $2", 2 }, 0 },
        { { "UPDATE account SET amount = $1 WHERE id = $1", 1 }, 0 },
        { { "UPDATE account SET amount = $2 WHERE id = $1", 2 }, -1 },
        { { "UPDATE account SET amount = ? WHERE id = ?", 2 }, -1 },
        { { "UPDATE account SET amount = $1 WHERE id = $2", 1 }, -1 },
        { { "UPDATE account SET amount = $1 WHERE id = 1", 2 }, -1 },
        { { "UPDATE nowhere SET amount = 1", 0 }, -1 },
    };
    struct db *db = must_open("sqlite::memory:");

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct statement statement = cases[i].statement;

        assert_int_equal(db_write(db, run_statement, &statement, NULL), cases[i].want);
    }
    db_close(db);
}

/* More texts than are kept prepared, each twice, and one within itself. */
static int
many_statements(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct db_rows *outer = NULL;
    int64_t n = 0;
    char sql[64];

    (void)arg;
    for (int i = 0; i < 800; i++) {
        snprintf(sql, sizeof(sql), "SELECT %d + 0", i % 400);
        if (query_number(conn, sql, &n, err) != 0)
            return -1;
        assert_int_equal(n, i % 400);
    }
    if (db_query(conn, "SELECT id FROM account ORDER BY id", DB_NO_PARAMS, &outer, err) != 0)
        return -1;
    assert_int_equal(db_next(outer, err), 1);
    assert_int_equal(query_number(conn, "SELECT id FROM account ORDER BY id", &n, err), 0);
    assert_int_equal(n, 1);
    assert_int_equal(db_next(outer, err), 1);
    assert_int_equal(db_int(outer, 0), 2);
    db_rows_free(outer);
    return 0;
}

static void
statements_are_kept_and_dropped(void **state)
{
    struct db *db = must_open(uri);

    (void)state;
    assert_int_equal(db_read(db, many_statements, NULL, NULL), 0);
    db_close(db);
}

static void
a_reader_cannot_write(void **state)
{
    struct db *db = must_open(uri);
    struct thing thing = { .id = 1 };
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(db_read(db, insert, &thing, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_int_equal(things_in(db), 0);
    db_close(db);
}

/* ---- group commit ---- */

struct worker {
    pthread_t thread;
    struct db *db;
    pthread_barrier_t *barrier;
    int number;
    int writes;
    int failures;
};

static void *
write_many(void *arg)
{
    struct worker *w = arg;

    pthread_barrier_wait(w->barrier);
    for (int i = 0; i < w->writes; i++)
        w->failures += insert_thing(w->db, w->number * 100000 + i, NULL) != 0;
    return NULL;
}

/* Of every three the second thinks better of it and the third loses everybody's transaction. */
static void *
write_and_fail(void *arg)
{
    static const db_fn fns[] = { insert, insert_and_fail, insert_and_lose };
    struct worker *w = arg;

    pthread_barrier_wait(w->barrier);
    for (int i = 0; i < w->writes; i++) {
        struct thing thing = { .id = w->number * 100000 + i };
        struct cc_err err = { 0 };
        int kind = (w->number + i) % 3;
        int rc = db_write(w->db, fns[kind], &thing, &err);

        w->failures += (rc == 0) != (kind == 0);
        w->failures += kind == 1 && (err.domain != CC_DOM_INPUT || err.code != 7);
        w->failures += kind == 2 && err.domain != CC_DOM_STORE;
    }
    return NULL;
}

static int
run_workers(struct db *db, int writes, void *(*body)(void *))
{
    struct worker workers[THREADS];
    pthread_barrier_t barrier;
    int failures = 0;

    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        workers[i] =
                (struct worker){ .db = db, .barrier = &barrier, .number = i, .writes = writes };
        assert_int_equal(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        failures += workers[i].failures;
    }
    pthread_barrier_destroy(&barrier);
    return failures;
}

/* The syncs of this program's own file, where it has one. */
static void
check_syncs(unsigned syncs_before, const struct db_stats *stats)
{
    if (on_postgres())
        return;
    /* every commit was made durable, and no write by itself */
    assert_true(atomic_load(&syncs) - syncs_before >= stats->commits);
    assert_true(atomic_load(&syncs) - syncs_before < stats->writes);
}

static void
writers_share_commits(void **state)
{
    struct db *db = must_open(uri);
    struct db_stats stats;
    unsigned syncs_before = atomic_load(&syncs);

    (void)state;
    assert_int_equal(run_workers(db, 250, write_many), 0);
    db_stats(db, &stats);
    assert_int_equal(stats.writes, THREADS * 250);
    assert_int_equal(stats.failed, 0);
    assert_true(stats.commits >= 250);
    assert_true(stats.commits * 2 < stats.writes);
    check_syncs(syncs_before, &stats);
    assert_int_equal(things_in(db), THREADS * 250);
    db_close(db);

    db = must_open(uri);
    assert_int_equal(things_in(db), THREADS * 250);
    db_close(db);
}

static void
one_failure_undoes_itself_only(void **state)
{
    struct db *db = must_open(uri);
    struct db_stats stats;
    int64_t want = 0;

    (void)state;
    assert_int_equal(run_workers(db, 90, write_and_fail), 0);
    for (int number = 0; number < THREADS; number++)
        for (int i = 0; i < 90; i++)
            want += (number + i) % 3 == 0;
    assert_int_equal(things_in(db), want);
    db_stats(db, &stats);
    assert_int_equal(stats.writes, THREADS * 90);
    assert_int_equal(stats.failed, THREADS * 90 - want);
    db_close(db);
}

struct transfer {
    struct db *db;
    atomic_bool stop;
    atomic_int torn;
    atomic_int reads;
};

static int
move_money(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    if (db_exec(conn, "UPDATE account SET amount = amount - 1 WHERE id = 1", DB_NO_PARAMS, NULL,
                err) != 0)
        return -1;
    return db_exec(conn, "UPDATE account SET amount = amount + 1 WHERE id = 2", DB_NO_PARAMS, NULL,
            err);
}

static int
read_both(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct transfer *transfer = arg;
    int64_t a = 0, b = 0;

    if (query_number(conn, "SELECT amount FROM account WHERE id = 1", &a, err) != 0 ||
            query_number(conn, "SELECT amount FROM account WHERE id = 2", &b, err) != 0)
        return -1;
    if (a + b != 1000)
        atomic_fetch_add(&transfer->torn, 1);
    atomic_fetch_add(&transfer->reads, 1);
    return 0;
}

static void *
keep_reading(void *arg)
{
    struct transfer *transfer = arg;

    while (!atomic_load(&transfer->stop))
        if (db_read(transfer->db, read_both, transfer, NULL) != 0)
            atomic_fetch_add(&transfer->torn, 1);
    return NULL;
}

static void
readers_see_one_state(void **state)
{
    struct transfer transfer = { .db = must_open(uri) };
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_reading, &transfer), 0);
    for (int i = 0; i < 300 || atomic_load(&transfer.reads) < 300; i++)
        assert_int_equal(db_write(transfer.db, move_money, NULL, NULL), 0);
    atomic_store(&transfer.stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&transfer.torn), 0);
    db_close(transfer.db);
}

/* ---- a disk that does not do what it should ---- */

static void
a_failed_sync_fails_the_write(void **state)
{
    struct db *db = must_open(uri);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(insert_thing(db, 1, &err), 0);
    atomic_store(&sync_fails, true);
    assert_int_equal(insert_thing(db, 2, &err), -1);
    atomic_store(&sync_fails, false);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_int_not_equal(err.code, 0);
    assert_int_equal(things_in(db), 1);

    assert_int_equal(insert_thing(db, 2, NULL), 0);
    db_close(db);
    db = must_open(uri);
    assert_int_equal(things_in(db), 2);
    db_close(db);
}

static void
limit_files(rlim_t bytes)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes != 0 ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
a_full_disk_fails_the_write_and_not_the_next(void **state)
{
    static uint8_t big[400000];
    struct thing small = { .id = 1, .text = "small" };
    struct thing large = { .id = 2, .data = { big, sizeof(big) } };
    struct cc_err err = { 0 };
    struct db *db = must_open(uri);

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    limit_files(200000);
    assert_int_equal(db_write(db, insert, &large, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_int_not_equal(err.code, 0);
    assert_int_equal(db_write(db, insert, &small, NULL), 0);
    assert_int_equal(things_in(db), 1);

    limit_files(0);
    assert_int_equal(db_write(db, insert, &large, NULL), 0);
    db_close(db);
    db = must_open(uri);
    assert_int_equal(things_in(db), 2);
    db_close(db);
}

/* ---- schema ---- */

static void
a_newer_schema_is_refused(void **state)
{
    const struct db_schema older = { "test", steps, 1, 0 };
    struct cc_err err = { 0 };
    struct db *db;

    (void)state;
    db_close(must_open(uri));
    assert_int_equal(db_open(uri, &older, &db, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_non_null(strstr(err.text, "schema 2"));
    db_close(must_open(uri));
}

static void
a_newer_schema_is_used_where_it_allows_that(void **state)
{
    const struct db_schema older = { "test", steps, 1, 0 }, newer = { "test", steps, 2, 1 };
    struct cc_err err = { 0 };
    struct db *db = NULL, *beside = NULL;

    (void)state;
    assert_int_equal(db_open(uri, &older, &db, NULL), 0);
    assert_int_equal(db_open(uri, &newer, &beside, NULL), 0);
    assert_int_equal(insert_thing(db, 1, NULL), 0);
    assert_int_equal(insert_thing(beside, 2, NULL), 0);
    db_close(db);
    if (db_open(uri, &older, &db, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(things_in(db), 2);
    db_close(db);
    db_close(beside);
    /* The older one left the newer one's tables alone. */
    assert_int_equal(db_open(uri, &schema, &db, NULL), 0);
    db_close(db);
}

static void
steps_are_added_to_what_is_there(void **state)
{
    const struct db_schema older = { "test", steps, 1, 0 };
    struct db *db = NULL;

    (void)state;
    assert_int_equal(db_open(uri, &older, &db, NULL), 0);
    assert_int_equal(insert_thing(db, 1, NULL), 0);
    assert_int_equal(db_read(db, read_both, NULL, NULL), -1);
    db_close(db);
    db = must_open(uri);
    assert_int_equal(things_in(db), 1);
    assert_int_equal(db_write(db, move_money, NULL, NULL), 0);
    db_close(db);
}

static void
a_failing_step_changes_nothing(void **state)
{
    static const struct db_step bad[] = {
        { 1, "fine", "CREATE TABLE thing (id BIGINT PRIMARY KEY, text TEXT, data BYTEA)" },
        { 2, "half fine", "CREATE TABLE account (id BIGINT); INSERT INTO nowhere VALUES (1)" },
    };
    static const struct db_step gap[] = { { 2, "has no first", "SELECT 1" } };
    const struct db_schema schemas[] = { { "test", bad, 2, 0 }, { "test", gap, 1, 0 } };
    struct cc_err err = { 0 };
    struct db *db;

    (void)state;
    assert_int_equal(db_open(uri, &schemas[0], &db, &err), -1);
    assert_non_null(strstr(err.text, "half fine"));
    assert_int_equal(db_open(uri, &schemas[1], &db, NULL), -1);
    db_close(must_open(uri));
}

static void
schemas_of_two_names_live_in_one_database(void **state)
{
    static const struct db_step other[] = { { 1, "another's", "CREATE TABLE other (id BIGINT)" } };
    const struct db_schema others = { "other", other, 1, 0 };
    struct db *db = NULL;

    (void)state;
    db_close(must_open(uri));
    assert_int_equal(db_open(uri, &others, &db, NULL), 0);
    db_close(db);
    db_close(must_open(uri));
}

/* ---- files and names ---- */

static void
the_file_is_not_for_everybody(void **state)
{
    static const char *const suffixes[] = { "", "-wal", "-shm" };
    struct stat st;
    char name[80];
    struct db *db;
    mode_t mask = umask(0);

    (void)state;
    db = must_open(uri);
    assert_int_equal(insert_thing(db, 1, NULL), 0);
    for (size_t i = 0; i < CC_COUNT(suffixes); i++) {
        snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
        assert_int_equal(stat(name, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0640);
    }
    db_close(db);

    assert_int_equal(chmod(path, 0666), 0);
    db_close(must_open(uri));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    umask(mask);
}

static void
names_are_checked(void **state)
{
    static const struct {
        const char *uri;
        int want;
    } cases[] = {
        { "sqlite:/var/lib/certconnector/state.db", 0 },
        { "sqlite:state.db", 0 },
        { "sqlite::memory:", 0 },
        { "sqlite:", -1 },
        { "sqlite::memory", -1 },
        { "sqlite:file:/x?mode=ro", -1 },
        { "sqlite://host/x", -1 },
        { "postgresql://connector@db.example/certconnector", 0 },
        { "postgresql://connector@a.example,b.example/c?passfile=/etc/pass&sslmode=verify-full",
                0 },
        { "postgresql://connector:secret@db.example/certconnector", -1 },
        { "postgresql://db.example/certconnector?password=secret", -1 },
        { "postgresql://db.example/certconnector?no_such_option=1", -1 },
        { "postgresql:dbname=x", -1 },
        { "postgresql:", -1 },
        { "sqlite", -1 },
        { "oracle:x", -1 },
        { "/var/lib/certconnector/state.db", -1 },
        { "", -1 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        assert_int_equal(db_check_uri(cases[i].uri, NULL), cases[i].want);
}

static void
what_is_no_database_is_refused(void **state)
{
    struct cc_err err = { 0 };
    struct db *db = NULL;
    char where[128];
    FILE *file = fopen(path, "w");

    (void)state;
    assert_non_null(file);
    for (int i = 0; i < 1000; i++)
        fputs("this is no database ", file);
    fclose(file);
    assert_int_equal(db_open(uri, &schema, &db, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);

    snprintf(where, sizeof(where), "sqlite:%s/nowhere/state.db", folder);
    cc_err_clear(&err);
    assert_int_equal(db_open(where, &schema, &db, &err), -1);
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, ENOENT);

    snprintf(where, sizeof(where), "sqlite:%s", folder);
    assert_int_equal(db_open(where, &schema, &db, NULL), -1);
    assert_null(db);
    db_close(NULL);
}

#define CASE(name) cmocka_unit_test_setup(name, setup)

/* ---- a connection that is lost ---- */

struct cut_reading {
    bool before; /* the first row is read */
    unsigned runs;
};

/* Cut once; then everything is well again. */
static int
read_and_be_cut(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct cut_reading *reading = arg;
    int64_t n = 0;

    if (++reading->runs == 1 && reading->before)
        cut_all_connections(uri);
    if (query_number(conn, "SELECT COUNT(*) FROM account", &n, err) != 0)
        return -1;
    if (reading->runs == 1 && !reading->before)
        cut_all_connections(uri);
    return query_number(conn, "SELECT COUNT(*) FROM account", &n, err);
}

/* What was handed on is not handed on twice. */
static void
reading_is_done_again_before_the_first_row_only(void **state)
{
    struct db *db = must_open(uri);
    struct cut_reading reading = { .before = true };

    (void)state;
    assert_int_equal(db_read(db, read_and_be_cut, &reading, NULL), 0);
    assert_int_equal(reading.runs, 2);
    reading = (struct cut_reading){ .before = false };
    assert_int_equal(db_read(db, read_and_be_cut, &reading, NULL), -1);
    assert_int_equal(reading.runs, 1);
    db_close(db);
}

/* The first commit ends its own connection, and nothing of it is done. */
static int
cut_first_commit(struct db_conn *conn, void *arg, struct cc_err *err)
{
    static const char *const statements[] = {
        "CREATE SEQUENCE commits",
        ("CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
         " IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;"
         " RETURN NULL; END $$"),
        ("CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON account DEFERRABLE INITIALLY DEFERRED"
         " FOR EACH ROW EXECUTE FUNCTION cut()"),
    };

    (void)arg;
    for (size_t i = 0; i < CC_COUNT(statements); i++)
        if (db_exec(conn, statements[i], DB_NO_PARAMS, NULL, err) != 0)
            return -1;
    return 0;
}

static int
add_account(struct db_conn *conn, void *arg, struct cc_err *err)
{
    ++*(unsigned *)arg;
    return db_exec(conn, "INSERT INTO account (id, amount) VALUES (3, 1)", DB_NO_PARAMS, NULL, err);
}

static int
look_for_account(struct db_conn *conn, void *arg, bool *ret_committed, struct cc_err *err)
{
    int64_t n = 0;

    (void)arg;
    if (query_number(conn, "SELECT COUNT(*) FROM account WHERE id = 3", &n, err) != 0)
        return -1;
    *ret_committed = n > 0;
    return 0;
}

static void
what_was_lost_at_its_commit_is_done_again(void **state)
{
    const struct db_guard guard = { .look = look_for_account };
    struct db *db = must_open(uri);
    struct cc_err err = { 0 };
    unsigned runs = 0;

    (void)state;
    assert_int_equal(db_write(db, cut_first_commit, NULL, NULL), 0);
    db_set_guard(db, &guard);
    if (db_write(db, add_account, &runs, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_int_equal(runs, 2);
    db_close(db);
}

int
main(void)
{
    const struct CMUnitTest anywhere[] = {
        CASE(values_come_back_as_they_were),
        CASE(statements_are_kept_and_dropped),
        CASE(a_reader_cannot_write),
        CASE(writers_share_commits),
        CASE(one_failure_undoes_itself_only),
        CASE(readers_see_one_state),
        CASE(a_newer_schema_is_refused),
        CASE(a_newer_schema_is_used_where_it_allows_that),
        CASE(steps_are_added_to_what_is_there),
        CASE(a_failing_step_changes_nothing),
        CASE(schemas_of_two_names_live_in_one_database),
    };
    const struct CMUnitTest on_a_server[] = {
        CASE(reading_is_done_again_before_the_first_row_only),
        CASE(what_was_lost_at_its_commit_is_done_again),
    };
    const struct CMUnitTest in_a_file[] = {
        CASE(placeholders_are_named_in_order),
        CASE(a_failed_sync_fails_the_write),
        CASE(a_full_disk_fails_the_write_and_not_the_next),
        CASE(the_file_is_not_for_everybody),
        CASE(names_are_checked),
        CASE(what_is_no_database_is_refused),
    };
    int rc;

    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof(path), "%s/state.db", folder);
    if (on_postgres())
        snprintf(uri, sizeof(uri), "%s", memory_store());
    else
        snprintf(uri, sizeof(uri), "sqlite:%s", path);
    rc = cmocka_run_group_tests(anywhere, NULL, NULL);
    rc += on_postgres() ? cmocka_run_group_tests(on_a_server, NULL, NULL)
                        : cmocka_run_group_tests(in_a_file, NULL, NULL);
    remove_files();
    (void)rmdir(folder);
    return rc;
}
