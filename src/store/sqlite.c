/* SPDX-License-Identifier: MIT */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#define BUSY_TIMEOUT_MS 10000
#define KEPT_STATEMENTS 64
#define FILE_MODE 0640

struct kept_statement {
    sqlite3_stmt *stmt;
    uint64_t used_at; /* in uses of this connection, for the choice of the one to drop */
    bool busy;
};

struct sqlite_conn {
    struct db_conn base;
    sqlite3 *handle;
    uint64_t uses;
    struct kept_statement kept[KEPT_STATEMENTS];
};

struct sqlite_rows {
    struct db_rows base;
    struct sqlite_conn *conn;
    sqlite3_stmt *stmt;
    struct kept_statement *kept; /* NULL: finalized with the rows */
};

static struct sqlite_conn *
conn_of(struct db_conn *conn)
{
    return (struct sqlite_conn *)conn;
}

static struct sqlite_rows *
rows_of(struct db_rows *rows)
{
    return (struct sqlite_rows *)rows;
}

static int
set_err(struct sqlite_conn *conn, int code, const char *doing, struct cc_err *err)
{
    const char *text = conn->handle != NULL ? sqlite3_errmsg(conn->handle) : sqlite3_errstr(code);

    return cc_err_set(err, CC_DOM_STORE, code, "%s: %s", doing, text);
}

static bool
is_memory(const char *path)
{
    return strcmp(path, ":memory:") == 0;
}

static int
sqlite_check(const char *path, struct cc_err *err)
{
    if (path[0] == '\0')
        return cc_err_set(err, CC_DOM_INPUT, 0, "no file is named behind \"sqlite:\"");
    if (path[0] == ':' && !is_memory(path))
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "a file name or :memory: belongs behind \"sqlite:\"");
    /* SQLite would read parameters out of such a name, where the administrator meant a file. */
    if (cc_starts_with(path, "file:") || cc_starts_with(path, "//"))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a plain file name belongs behind \"sqlite:\"");
    if (strlen(path) >= PATH_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the file name of the database is too long");
    return 0;
}

static bool
sqlite_shareable(const char *path)
{
    return !is_memory(path);
}

/* WAL needs memory shared between all who have the file open; over a network it would be torn, not refused. */
static int
refuse_network(const char *path, struct cc_err *err)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } networks[] = {
        { NFS_SUPER_MAGIC, "NFS" },
        { SMB_SUPER_MAGIC, "SMB" },
        { 0xff534d42UL, "CIFS" },
        { 0xfe534d42UL, "SMB2" },
        { AFS_SUPER_MAGIC, "AFS" },
    };
    struct statfs fs;

    if (statfs(path, &fs) != 0)
        return cc_err_set_errno(err, errno, "file system of %s", path);
    for (size_t i = 0; i < CC_COUNT(networks); i++)
        if (((unsigned long)fs.f_type & 0xffffffffUL) == networks[i].magic)
            return cc_err_set(err, CC_DOM_STORE, 0, "%s lies on %s; SQLite needs a local disk",
                    path, networks[i].name);
    return 0;
}

/* Makes the name of a new file durable. */
static int
sync_folder(const char *path, struct cc_err *err)
{
    char folder[PATH_MAX];
    char *slash;
    int fd;
    int rc = 0;

    (void)cc_strcpy(folder, sizeof(folder), path);
    slash = strrchr(folder, '/');
    if (slash == NULL)
        (void)cc_strcpy(folder, sizeof(folder), ".");
    else
        slash[slash == folder ? 1 : 0] = '\0';

    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return cc_err_set_errno(err, errno, "open %s", folder);
    if (fsync(fd) != 0)
        rc = cc_err_set_errno(err, errno, "fsync %s", folder);
    (void)close(fd);
    return rc;
}

/* Another kind of lock than SQLite's own, which this descriptor's end must not drop: it outlives them (fcntl(2)). */
static int
sqlite_hold_alone(const char *path, int *ret_fd, struct cc_err *err)
{
    int fd;

    if (is_memory(path))
        return 0;
    if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)) < 0)
        return cc_err_set_errno(err, errno, "open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_fd = fd;
        return 0;
    }
    if (errno == EWOULDBLOCK)
        cc_err_set(err, CC_DOM_STORE, 0, "%s is in use by another connector", path);
    else
        cc_err_set_errno(err, errno, "lock %s", path);
    (void)close(fd);
    return -1;
}

/*
 * Creates the file with our mode, which SQLite then gives to the files beside it.  A file that is already there is
 * not opened: closing a descriptor drops every lock this process holds on it (fcntl(2)).
 */
static int
sqlite_prepare(const char *path, struct cc_err *err)
{
    struct stat st;
    int fd;

    if (is_memory(path))
        return 0;

    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, FILE_MODE);
    if (fd >= 0) {
        (void)close(fd);
        if (sync_folder(path, err) != 0)
            return -1;
    } else if (errno != EEXIST) {
        return cc_err_set_errno(err, errno, "create %s", path);
    }

    if (stat(path, &st) != 0)
        return cc_err_set_errno(err, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return cc_err_set(err, CC_DOM_STORE, 0, "%s is not a regular file", path);
    if ((st.st_mode & S_IRWXO) != 0 && chmod(path, st.st_mode & 0770) != 0)
        return cc_err_set_errno(err, errno, "%s is open to everybody; take the rights away", path);
    return refuse_network(path, err);
}

static int
run_script(struct sqlite_conn *conn, const char *sql, const char *doing, struct cc_err *err)
{
    int code = sqlite3_exec(conn->handle, sql, NULL, NULL, NULL);

    return code == SQLITE_OK ? 0 : set_err(conn, code, doing, err);
}

/* Two programs that open a new database at once meet SQLITE_BUSY here, which the busy timeout does not cover. */
static int
switch_to_wal(struct sqlite_conn *conn, struct cc_err *err)
{
    int64_t deadline = cc_deadline_in(BUSY_TIMEOUT_MS);
    sqlite3_stmt *stmt = NULL;
    int rc = -1;
    int code;

    code = sqlite3_prepare_v2(conn->handle, "PRAGMA journal_mode = WAL", -1, &stmt, NULL);
    if (code != SQLITE_OK) {
        set_err(conn, code, "journal mode", err);
        goto out;
    }
    while ((code = sqlite3_step(stmt) & 0xff) == SQLITE_BUSY && cc_deadline_left(deadline) > 0) {
        (void)sqlite3_reset(stmt);
        (void)sqlite3_sleep(10);
    }
    if (code != SQLITE_ROW) {
        set_err(conn, code, "journal mode", err);
        goto out;
    }
    if (strcmp((const char *)sqlite3_column_text(stmt, 0), "wal") != 0) {
        cc_err_set(err, CC_DOM_STORE, 0, "this file system cannot hold a write-ahead log");
        goto out;
    }
    rc = 0;
out:
    (void)sqlite3_finalize(stmt);
    return rc;
}

static void
now_ms(sqlite3_context *context, int count, sqlite3_value **values)
{
    (void)count;
    (void)values;
    sqlite3_result_int64(context, cc_clock_now_ms());
}

static int
set_up(struct sqlite_conn *conn, const char *path, bool writer, struct cc_err *err)
{
    int code = sqlite3_create_function(conn->handle, "db_now_ms", 0, SQLITE_UTF8 | SQLITE_INNOCUOUS,
            NULL, now_ms, NULL, NULL);

    if (code != SQLITE_OK)
        return set_err(conn, code, "db_now_ms", err);
    (void)sqlite3_extended_result_codes(conn->handle, 1);
    (void)sqlite3_busy_timeout(conn->handle, BUSY_TIMEOUT_MS);
    (void)sqlite3_db_config(conn->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(conn->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);

    if (writer && !is_memory(path) && switch_to_wal(conn, err) != 0)
        return -1;
    if (run_script(conn,
                "PRAGMA synchronous = FULL;"
                "PRAGMA foreign_keys = ON;"
                "PRAGMA temp_store = MEMORY;"
                "PRAGMA cache_size = -1024;" /* KiB a connection */
                "PRAGMA journal_size_limit = 16777216;",
                "settings", err) != 0)
        return -1;
    return writer ? 0 : run_script(conn, "PRAGMA query_only = ON", "settings", err);
}

static void
sqlite_disconnect(struct db_conn *base)
{
    struct sqlite_conn *conn = conn_of(base);

    if (conn == NULL)
        return;
    for (size_t i = 0; i < CC_COUNT(conn->kept); i++)
        (void)sqlite3_finalize(conn->kept[i].stmt);
    (void)sqlite3_close_v2(conn->handle);
    free(conn);
}

static int
sqlite_connect(const char *path, bool writer, struct db_conn **ret_conn, struct cc_err *err)
{
    struct sqlite_conn *conn = calloc(1, sizeof(*conn));
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    int code;

    if (conn == NULL)
        return cc_err_nomem(err);
    conn->base.backend = &db_sqlite;
    if (is_memory(path))
        flags |= SQLITE_OPEN_CREATE;

    code = sqlite3_open_v2(path, &conn->handle, flags, NULL);
    if (code != SQLITE_OK) {
        set_err(conn, code, "open", err);
        goto fail;
    }
    if (set_up(conn, path, writer, err) != 0)
        goto fail;

    *ret_conn = &conn->base;
    return 0;
fail:
    sqlite_disconnect(&conn->base);
    return -1;
}

static int
sqlite_script(struct db_conn *base, const char *sql, struct cc_err *err)
{
    return run_script(conn_of(base), sql, "script", err);
}

static int
step_fixed(struct db_conn *base, const char *sql, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int rc = -1;

    if (base->backend->query(base, sql, NULL, 0, &rows, err) == 0 &&
            base->backend->next(rows, err) == 0)
        rc = 0;
    base->backend->rows_free(rows);
    return rc;
}

/* IMMEDIATE: a transaction that begins reading and then writes can fail in its middle because another one wrote. */
static int
sqlite_begin(struct db_conn *base, bool writing, struct cc_err *err)
{
    return step_fixed(base, writing ? "BEGIN IMMEDIATE" : "BEGIN", err);
}

static int
sqlite_commit(struct db_conn *base, struct cc_err *err)
{
    return step_fixed(base, "COMMIT", err);
}

static bool
sqlite_in_transaction(struct db_conn *base)
{
    return sqlite3_get_autocommit(conn_of(base)->handle) == 0;
}

/*
 * Full, read-only, broken, or locked for longer than we wait.  After a failed fsync nothing needs to be opened anew: the
 * index of the log does not know of the transaction, whose frames the next one writes over; and a checkpoint that failed
 * is done again from where the last good one ended.
 */
static bool
sqlite_is_outage(const struct cc_err *err)
{
    switch (err->code & 0xff) {
    case SQLITE_PERM:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_NOMEM:
    case SQLITE_READONLY:
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_FULL:
    case SQLITE_CANTOPEN:
    case SQLITE_PROTOCOL:
    case SQLITE_NOTADB:
        return true;
    default:
        return false;
    }
}

/* There is no code for it. */
static bool
sqlite_is_no_table(const struct cc_err *err)
{
    return err->domain == CC_DOM_STORE && (err->code & 0xff) == SQLITE_ERROR &&
           strstr(err->text, "no such table") != NULL;
}

static void
sqlite_rollback(struct db_conn *base)
{
    if (sqlite_in_transaction(base))
        (void)sqlite3_exec(conn_of(base)->handle, "ROLLBACK", NULL, NULL, NULL);
}

static int
sqlite_mark(struct db_conn *base, struct cc_err *err)
{
    return step_fixed(base, "SAVEPOINT closure", err);
}

static int
sqlite_keep(struct db_conn *base, struct cc_err *err)
{
    return step_fixed(base, "RELEASE closure", err);
}

static int
sqlite_undo(struct db_conn *base, struct cc_err *err)
{
    if (step_fixed(base, "ROLLBACK TO closure", err) != 0)
        return -1;
    return sqlite_keep(base, err);
}

/* The file is ours as long as it is open. */
static bool
sqlite_is_broken(struct db_conn *base)
{
    (void)base;
    return false;
}

/* There is one writer, and whoever comes second waits. */
static bool
sqlite_is_passing(const struct cc_err *err)
{
    (void)err;
    return false;
}

static bool
sqlite_is_busy(const struct cc_err *err)
{
    (void)err; /* that is a passing one here */
    return false;
}

static int
sqlite_lock_schema(struct db_conn *base, struct cc_err *err)
{
    (void)base;
    (void)err;
    return 0;
}

/* A prepared statement of this text that nobody uses just now, or the best place for a new one. */
static struct kept_statement *
find_kept(struct sqlite_conn *conn, const char *sql, size_t len, bool *ret_found)
{
    struct kept_statement *place = NULL;

    *ret_found = false;
    for (size_t i = 0; i < CC_COUNT(conn->kept); i++) {
        struct kept_statement *kept = &conn->kept[i];

        if (kept->busy)
            continue;
        if (kept->stmt != NULL && strncmp(sqlite3_sql(kept->stmt), sql, len) == 0 &&
                sqlite3_sql(kept->stmt)[len] == '\0') {
            *ret_found = true;
            return kept;
        }
        if (place == NULL || kept->used_at < place->used_at)
            place = kept;
    }
    return place;
}

/* SQLite numbers "$1" by first appearance, PostgreSQL by its digits; both must mean the same. */
static int
check_placeholders(sqlite3_stmt *stmt, size_t count, struct cc_err *err)
{
    int want = sqlite3_bind_parameter_count(stmt);
    char name[16];

    if (count != (size_t)want)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "%zu values for %d placeholders", count, want);
    for (int i = 1; i <= want; i++) {
        const char *is = sqlite3_bind_parameter_name(stmt, i);

        (void)snprintf(name, sizeof(name), "$%d", i);
        if (is == NULL || strcmp(is, name) != 0)
            return cc_err_set(err, CC_DOM_INTERNAL, 0, "placeholder %d is not named %s", i, name);
    }
    return 0;
}

static int
bind_value(sqlite3_stmt *stmt, int place, const struct db_value *value)
{
    /* Without an address SQLite would bind NULL where an empty value is meant. */
    const void *data = value->bytes.data != NULL ? (const void *)value->bytes.data : "";

    switch (value->type) {
    case DB_TYPE_INT:
        return sqlite3_bind_int64(stmt, place, value->number);
    case DB_TYPE_TEXT:
        return sqlite3_bind_text64(stmt, place, data, value->bytes.len, SQLITE_STATIC, SQLITE_UTF8);
    case DB_TYPE_BLOB:
        return sqlite3_bind_blob64(stmt, place, data, value->bytes.len, SQLITE_STATIC);
    case DB_TYPE_NULL:
        break;
    }
    return sqlite3_bind_null(stmt, place);
}

static void
sqlite_rows_free(struct db_rows *base)
{
    struct sqlite_rows *rows = rows_of(base);

    if (rows == NULL)
        return;
    if (rows->kept != NULL) {
        (void)sqlite3_reset(rows->stmt);
        (void)sqlite3_clear_bindings(rows->stmt);
        rows->kept->busy = false;
    } else {
        (void)sqlite3_finalize(rows->stmt);
    }
    free(rows);
}

/* There are no row locks here: who reads in order to write is alone. */
static size_t
without_row_locks(const char *sql)
{
    size_t len = strlen(sql), end = strlen(DB_SKIP_LOCKED);

    return len > end && strcmp(sql + len - end, DB_SKIP_LOCKED) == 0 ? len - end : len;
}

/* Gives rows a prepared statement, a kept one where possible. */
static int
take_statement(struct sqlite_rows *rows, const char *sql, struct cc_err *err)
{
    struct sqlite_conn *conn = rows->conn;
    const size_t len = without_row_locks(sql);
    struct kept_statement *kept;
    bool found;
    int code;

    kept = find_kept(conn, sql, len, &found);
    if (!found) {
        code = sqlite3_prepare_v3(conn->handle, sql, (int)len, SQLITE_PREPARE_PERSISTENT,
                &rows->stmt, NULL);
        if (code != SQLITE_OK)
            return set_err(conn, code, "prepare", err);
    }
    if (kept == NULL)
        return 0;
    if (found) {
        rows->stmt = kept->stmt;
    } else {
        (void)sqlite3_finalize(kept->stmt);
        kept->stmt = rows->stmt;
    }
    kept->busy = true;
    kept->used_at = ++conn->uses;
    rows->kept = kept;
    return 0;
}

static int
sqlite_query(struct db_conn *base, const char *sql, const struct db_value *params, size_t count,
        struct db_rows **ret_rows, struct cc_err *err)
{
    struct sqlite_rows *rows = calloc(1, sizeof(*rows));
    int code;

    if (rows == NULL)
        return cc_err_nomem(err);
    rows->base.backend = &db_sqlite;
    rows->conn = conn_of(base);

    if (take_statement(rows, sql, err) != 0)
        goto fail;
    if (check_placeholders(rows->stmt, count, err) != 0)
        goto fail;
    for (size_t i = 0; i < count; i++) {
        code = bind_value(rows->stmt, (int)i + 1, &params[i]);
        if (code != SQLITE_OK) {
            set_err(rows->conn, code, "bind", err);
            goto fail;
        }
    }

    *ret_rows = &rows->base;
    return 0;
fail:
    sqlite_rows_free(&rows->base);
    return -1;
}

static int
sqlite_next(struct db_rows *base, struct cc_err *err)
{
    struct sqlite_rows *rows = rows_of(base);
    int code = sqlite3_step(rows->stmt);

    if (code == SQLITE_ROW)
        return 1;
    return code == SQLITE_DONE ? 0 : set_err(rows->conn, code, "database", err);
}

static int64_t
sqlite_changes(struct db_rows *base)
{
    return sqlite3_changes(rows_of(base)->conn->handle);
}

static bool
sqlite_is_null(struct db_rows *base, int column)
{
    return sqlite3_column_type(rows_of(base)->stmt, column) == SQLITE_NULL;
}

static int64_t
sqlite_get_int(struct db_rows *base, int column)
{
    return sqlite3_column_int64(rows_of(base)->stmt, column);
}

static const char *
sqlite_get_text(struct db_rows *base, int column)
{
    return (const char *)sqlite3_column_text(rows_of(base)->stmt, column);
}

static struct cc_bytes
sqlite_get_blob(struct db_rows *base, int column)
{
    sqlite3_stmt *stmt = rows_of(base)->stmt;
    const void *data = sqlite3_column_blob(stmt, column);
    size_t len = (size_t)sqlite3_column_bytes(stmt, column);

    /* An empty blob has no address; it is not an SQL NULL for that. */
    if (data == NULL && !sqlite_is_null(base, column))
        data = "";
    return (struct cc_bytes){ .data = data, .len = len };
}

const struct db_backend db_sqlite = {
    .scheme = "sqlite",
    .group_max = 256,
    .check = sqlite_check,
    .shareable = sqlite_shareable,
    .hold_alone = sqlite_hold_alone,
    .prepare = sqlite_prepare,
    .connect = sqlite_connect,
    .disconnect = sqlite_disconnect,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .mark = sqlite_mark,
    .keep = sqlite_keep,
    .undo = sqlite_undo,
    .in_transaction = sqlite_in_transaction,
    .is_broken = sqlite_is_broken,
    .is_passing = sqlite_is_passing,
    .is_busy = sqlite_is_busy,
    .lock_schema = sqlite_lock_schema,
    .is_outage = sqlite_is_outage,
    .is_no_table = sqlite_is_no_table,
    .script = sqlite_script,
    .query = sqlite_query,
    .next = sqlite_next,
    .rows_free = sqlite_rows_free,
    .changes = sqlite_changes,
    .is_null = sqlite_is_null,
    .get_int = sqlite_get_int,
    .get_text = sqlite_get_text,
    .get_blob = sqlite_get_blob,
};
