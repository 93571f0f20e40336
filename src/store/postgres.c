/* SPDX-License-Identifier: MIT */
#include "backend.h"

#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

/*
 * PostgreSQL through libpq, in pipeline mode: what begins and ends transactions and savepoints has no answer worth
 * waiting for, and goes with the statement that follows it, so that a closure costs one round trip a statement.
 *
 * A pooler that gives each transaction another connection of its own (pgbouncer) is borne: no state outlives a
 * transaction but prepared statements, whose names say their text, so that a statement of a name is the same whoever
 * prepared it; and where the pooler does not know them, none are used from then on.
 *
 * Nothing waits for ever: the server is told to end what takes too long or is left open, and a server that says nothing
 * is given up after a while, as are peers that vanished (TCP keepalive).
 */

#define WRITE_MS 15000 /* an answer while writing */
#define READ_MS 20000  /* a row while reading */
#define CONNECT_SECONDS                                                                            \
    "4" /* each host of the URI, by its name and addresses; only libpq's own waiting heeds it */
#define PARAMS_MAX 32
#define PENDING_MAX 4 /* begin, its settings, release, savepoint */
#define PREPARED_MAX 256
#define NAME_LEN (3 + 32 + 1)

/* Types by their fixed numbers (pg_type.dat). */
enum { OID_BOOL = 16, OID_BYTEA = 17, OID_INT8 = 20, OID_INT2 = 21, OID_INT4 = 23, OID_TEXT = 25 };

/* The schema's lock, among all who use this database: the first bytes of "certconnector". */
#define SCHEMA_LOCK "7162249612166687843"

/*
 * Of each transaction that writes.  synchronous_commit: an administrator may have switched it off for others; a
 * transaction left open (we were stopped in its middle) must not keep its locks longer than a lease lasts.
 */
static const char begin_writing[] = "BEGIN";
static const char write_settings[] =
        "SELECT set_config('synchronous_commit',"
        " CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')"
        " THEN 'on' ELSE current_setting('synchronous_commit') END, true),"
        " set_config('statement_timeout', '10000', true),"
        " set_config('lock_timeout', '3000', true),"
        " set_config('idle_in_transaction_session_timeout', '2000', true)";
static const char read_settings[] = "SET LOCAL lock_timeout = 3000";
static const char begin_reading[] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

struct pg_rows;

struct pg_conn {
    struct db_conn base;
    PGconn *pg;
    bool writer;
    bool broken;
    bool open;                        /* a transaction, begun or about to be */
    const char *pending[PENDING_MAX]; /* goes before the next statement */
    size_t pending_count;
    struct pg_rows *streaming;          /* its rows still come over the connection */
    uint8_t prepared[PREPARED_MAX][16]; /* hashes of the statements that this session knows */
    size_t prepared_count;
};

struct pg_rows {
    struct db_rows base;
    struct pg_conn *conn;
    PGresult *row; /* the present one */
    PGresult **
            ahead; /* rows read before they were asked for, as another statement needed the connection */
    size_t ahead_count, ahead_next;
    int64_t changes;
    bool over;
};

/* A pooler was met that does not know what another of its connections prepared. */
static atomic_bool never_prepare;

static struct pg_conn *
conn_of(struct db_conn *conn)
{
    return (struct pg_conn *)conn;
}

static struct pg_rows *
rows_of(struct db_rows *rows)
{
    return (struct pg_rows *)rows;
}

/* ---- errors ---- */

/* SQLSTATE, five characters of 36, as a number: our errors' codes are numbers. */
static int64_t
state_code(const char *state)
{
    return state != NULL && strlen(state) == 5 ? (int64_t)strtol(state, NULL, 36) : 1;
}

static bool
is_state(const struct cc_err *err, const char *state)
{
    return err->domain == CC_DOM_STORE && err->code == state_code(state);
}

/* The first line of what libpq says. */
static int
set_text_err(const char *text, const char *doing, int64_t code, struct cc_err *err)
{
    int len = (int)strcspn(text, "\n");

    return cc_err_set(err, CC_DOM_STORE, code, "%s: %.*s", doing, len,
            len > 0 ? text : "no reason given");
}

static int
set_conn_err(struct pg_conn *conn, const char *doing, struct cc_err *err)
{
    conn->broken = true;
    return set_text_err(PQerrorMessage(conn->pg), doing, 1, err);
}

static int
set_result_err(struct pg_conn *conn, const PGresult *result, const char *doing, struct cc_err *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

    /* 57P0x: the server ends the session; without a state: libpq lost the server. */
    if (state == NULL || strncmp(state, "57P0", 4) == 0 || strcmp(state, "25P03") == 0)
        conn->broken = true;
    /* 26000 and 42P05: the pooler gave us another session than the one we prepared it in. */
    if (state != NULL && (strcmp(state, "26000") == 0 || strcmp(state, "42P05") == 0)) {
        atomic_store(&never_prepare, true);
        conn->broken = true;
    }
    return set_text_err(text != NULL ? text : PQresultErrorMessage(result), doing,
            state_code(state), err);
}

/* ---- URI ---- */

static int
pg_uri(const char *rest, char *ret, size_t size, struct cc_err *err)
{
    int len = snprintf(ret, size, "postgresql:%s", rest);

    if (len < 0 || (size_t)len >= size)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the name of the database is too long");
    return 0;
}

#define URI_MAX 2048

static int
check_options(const PQconninfoOption *options, struct cc_err *err)
{
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++) {
        if (o->val == NULL)
            continue;
        if (strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0)
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    "a password does not belong into the name of a database: use ?passfile=FILE or a "
                    "client certificate");
        if (strcmp(o->keyword, "replication") == 0 || strcmp(o->keyword, "client_encoding") == 0)
            return cc_err_set(err, CC_DOM_INPUT, 0, "%s cannot be set here", o->keyword);
    }
    return 0;
}

static int
pg_check(const char *rest, struct cc_err *err)
{
    char uri[URI_MAX];
    PQconninfoOption *options;
    char *why = NULL;
    int rc = -1;

    if (strncmp(rest, "//", 2) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "//USER@HOST/DATABASE belongs behind \"postgresql:\"");
    if (pg_uri(rest, uri, sizeof(uri), err) != 0)
        return -1;
    if ((options = PQconninfoParse(uri, &why)) == NULL)
        cc_err_set(err, CC_DOM_INPUT, 0, "database: %s", why != NULL ? why : "out of memory");
    else
        rc = check_options(options, err);
    PQconninfoFree(options);
    PQfreemem(why);
    return rc;
}

static bool
pg_shareable(const char *rest)
{
    (void)rest;
    return true;
}

static int
pg_prepare(const char *rest, struct cc_err *err)
{
    (void)rest;
    (void)err;
    return 0;
}

/* ---- waiting ---- */

/* Waits for the socket; false: not within the time, and the connection is given up. */
static bool
wait_socket(struct pg_conn *conn, short events, int64_t deadline, struct cc_err *err)
{
    struct pollfd fd = { .fd = PQsocket(conn->pg), .events = events };
    int n;

    do {
        n = poll(&fd, 1, cc_deadline_left(deadline));
    } while (n < 0 && errno == EINTR);
    if (n > 0)
        return true;
    conn->broken = true;
    cc_err_set(err, CC_DOM_STORE, 1, "the database does not answer");
    return false;
}

/* Until all that was sent is on its way: the server may wait for us to read before it reads on. */
static int
flush(struct pg_conn *conn, int64_t deadline, struct cc_err *err)
{
    int left;

    while ((left = PQflush(conn->pg)) > 0) {
        if (!wait_socket(conn, POLLIN | POLLOUT, deadline, err))
            return -1;
        if (PQconsumeInput(conn->pg) != 1)
            return set_conn_err(conn, "database", err);
    }
    return left == 0 ? 0 : set_conn_err(conn, "database", err);
}

/* The next result, or NULL where libpq has one between those of two statements; *ret is yours to clear. */
static int
get_result(struct pg_conn *conn, PGresult **ret, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(conn->writer ? WRITE_MS : READ_MS);

    while (PQisBusy(conn->pg) == 1) {
        if (!wait_socket(conn, POLLIN, deadline, err))
            return -1;
        if (PQconsumeInput(conn->pg) != 1)
            return set_conn_err(conn, "database", err);
    }
    *ret = PQgetResult(conn->pg);
    return 0;
}

/* ---- sending ---- */

static int
send_plain(struct pg_conn *conn, const char *sql, struct cc_err *err)
{
    if (PQsendQueryParams(conn->pg, sql, 0, NULL, NULL, NULL, NULL, 1) == 1)
        return 0;
    return set_conn_err(conn, "database", err);
}

/* What a statement is bound to: libpq wants addresses, and numbers in network order. */
struct bound {
    Oid type[PARAMS_MAX];
    const char *value[PARAMS_MAX];
    int len[PARAMS_MAX], format[PARAMS_MAX];
    uint64_t number[PARAMS_MAX];
    int count;
};

static void
bind_one(struct bound *bound, int i, const struct db_value *value)
{
    bound->format[i] = 1;
    switch (value->type) {
    case DB_TYPE_INT:
        bound->type[i] = OID_INT8;
        bound->number[i] = htobe64((uint64_t)value->number);
        bound->value[i] = (const char *)&bound->number[i];
        bound->len[i] = sizeof(bound->number[i]);
        break;
    case DB_TYPE_TEXT:
    case DB_TYPE_BLOB:
        bound->type[i] = value->type == DB_TYPE_TEXT ? OID_TEXT : OID_BYTEA;
        bound->value[i] = value->bytes.data != NULL ? (const char *)value->bytes.data : "";
        bound->len[i] = (int)value->bytes.len;
        break;
    case DB_TYPE_NULL:
        bound->type[i] = 0; /* as its place wants it */
        bound->value[i] = NULL;
        break;
    }
}

static int
bind_all(struct bound *bound, const struct db_value *params, size_t count, struct cc_err *err)
{
    if (count > PARAMS_MAX)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "%zu values in one statement", count);
    for (size_t i = 0; i < count; i++) {
        /* In binary a text would go through with a NUL, which the server refuses, and longer than it takes. */
        if (params[i].bytes.len > INT32_MAX / 2)
            return cc_err_set(err, CC_DOM_STORE, 1, "a value of %zu bytes", params[i].bytes.len);
        bind_one(bound, (int)i, &params[i]);
    }
    bound->count = (int)count;
    return 0;
}

/* A statement is what it says and what its values are. */
static int
hash_statement(const char *sql, const struct bound *bound, uint8_t ret[16], struct cc_err *err)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t full[EVP_MAX_MD_SIZE];
    int rc = -1;

    if (md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
            EVP_DigestUpdate(md, bound->type, (size_t)bound->count * sizeof(bound->type[0])) == 1 &&
            EVP_DigestUpdate(md, sql, strlen(sql)) == 1 &&
            EVP_DigestFinal_ex(md, full, NULL) == 1) {
        memcpy(ret, full, 16);
        rc = 0;
    }
    EVP_MD_CTX_free(md);
    return rc == 0 ? 0 : cc_err_set_openssl(err, "hash of a statement");
}

static bool
knows(const struct pg_conn *conn, const uint8_t hash[16])
{
    for (size_t i = 0; i < conn->prepared_count; i++)
        if (memcmp(conn->prepared[i], hash, 16) == 0)
            return true;
    return false;
}

/* *ret_extra: there is one more answer to come, that of the preparation. */
static int
send_prepared(struct pg_conn *conn, const char *sql, const struct bound *bound, bool *ret_extra,
        struct cc_err *err)
{
    char name[NAME_LEN] = "cc_";
    uint8_t hash[16];

    if (hash_statement(sql, bound, hash, err) != 0)
        return -1;
    cc_hex(hash, sizeof(hash), false, name + 3);
    if (!knows(conn, hash)) {
        if (PQsendPrepare(conn->pg, name, sql, bound->count, bound->type) != 1)
            return set_conn_err(conn, "database", err);
        memcpy(conn->prepared[conn->prepared_count++], hash, 16);
        *ret_extra = true;
    }
    if (PQsendQueryPrepared(conn->pg, name, bound->count, bound->value, bound->len, bound->format,
                1) != 1)
        return set_conn_err(conn, "database", err);
    return 0;
}

static int
send_statement(struct pg_conn *conn, const char *sql, const struct bound *bound, bool *ret_extra,
        struct cc_err *err)
{
    *ret_extra = false;
    if (!atomic_load(&never_prepare) && conn->prepared_count < PREPARED_MAX)
        return send_prepared(conn, sql, bound, ret_extra, err);
    if (PQsendQueryParams(conn->pg, sql, bound->count, bound->type, bound->value, bound->len,
                bound->format, 1) != 1)
        return set_conn_err(conn, "database", err);
    return 0;
}

/* ---- answers ---- */

/* One statement's answer that has no rows for us; the first error of several is kept. */
static int
skip_answer(struct pg_conn *conn, struct cc_err *err)
{
    PGresult *result = NULL;
    int rc = 0;

    while (!conn->broken) {
        ExecStatusType status;

        if (get_result(conn, &result, err) != 0)
            return -1;
        if (result == NULL)
            break;
        status = PQresultStatus(result);
        if (rc == 0 && status == PGRES_FATAL_ERROR)
            rc = set_result_err(conn, result, "database", err);
        else if (rc == 0 && status == PGRES_PIPELINE_ABORTED)
            rc = cc_err_set(err, CC_DOM_STORE, 1, "an earlier statement failed");
        PQclear(result);
    }
    return conn->broken ? -1 : rc;
}

/* The end of what was sent together. */
static int
skip_sync(struct pg_conn *conn, struct cc_err *err)
{
    PGresult *result = NULL;
    int rc = -1;

    if (conn->broken || get_result(conn, &result, err) != 0)
        return -1;
    if (result != NULL && PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        rc = 0;
    } else {
        conn->broken = true;
        cc_err_set(err, CC_DOM_STORE, 1, "the database answers out of order");
    }
    PQclear(result);
    return rc;
}

/* Reads what is left of rows that still come, so that another statement can be sent. */
static int park(struct pg_rows *rows, struct cc_err *err);

static int
free_connection(struct pg_conn *conn, struct cc_err *err)
{
    if (conn->broken)
        return cc_err_set(err, CC_DOM_STORE, 1, "the connection to the database is lost");
    return conn->streaming == NULL ? 0 : park(conn->streaming, err);
}

static int
send_pending(struct pg_conn *conn, struct cc_err *err)
{
    for (size_t i = 0; i < conn->pending_count; i++)
        if (send_plain(conn, conn->pending[i], err) != 0)
            return -1;
    return 0;
}

static int
skip_pending(struct pg_conn *conn, struct cc_err *err)
{
    size_t count = conn->pending_count;
    int rc = 0;

    conn->pending_count = 0;
    for (size_t i = 0; i < count && !conn->broken; i++) {
        struct cc_err why = { 0 };

        if (skip_answer(conn, &why) != 0 && rc == 0) {
            *err = why;
            rc = -1;
        }
    }
    return rc;
}

static int
send_sync(struct pg_conn *conn, struct cc_err *err)
{
    if (PQpipelineSync(conn->pg) != 1)
        return set_conn_err(conn, "database", err);
    return flush(conn, cc_deadline_in(WRITE_MS), err);
}

/* What is pending and this, at once; all answers read. */
static int
run_now(struct pg_conn *conn, const char *sql, struct cc_err *err)
{
    struct cc_err why = { 0 };
    int rc;

    if (free_connection(conn, err) != 0 || send_pending(conn, err) != 0 ||
            send_plain(conn, sql, err) != 0 || send_sync(conn, err) != 0)
        return -1;
    rc = skip_pending(conn, err);
    if (skip_answer(conn, rc == 0 ? err : &why) != 0)
        rc = -1;
    if (skip_sync(conn, rc == 0 ? err : &why) != 0)
        rc = -1;
    return rc;
}

/* Goes with the next statement. */
static int
run_later(struct pg_conn *conn, const char *sql, struct cc_err *err)
{
    if (conn->pending_count == PENDING_MAX)
        return run_now(conn, sql, err);
    conn->pending[conn->pending_count++] = sql;
    return 0;
}

/* ---- connections ---- */

static void
say_nothing(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

static int
open_connection(struct pg_conn *conn, const char *uri, struct cc_err *err)
{
    /* The URI's own settings come after those that are only defaults, and before those that are not. */
    static const char *const keys[] = { "fallback_application_name", "connect_timeout",
        "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
        "target_session_attrs", "dbname", "client_encoding", NULL };
    const char *const values[] = { "certconnector", CONNECT_SECONDS, "10", "5", "3", "15000",
        "read-write", uri, "UTF8", NULL };

    if ((conn->pg = PQconnectdbParams(keys, values, 1)) == NULL)
        return cc_err_nomem(err);
    if (PQstatus(conn->pg) != CONNECTION_OK)
        return set_conn_err(conn, "connect", err);
    (void)PQsetNoticeReceiver(conn->pg, say_nothing, NULL);
    return 0;
}

static void
pg_disconnect(struct db_conn *base)
{
    struct pg_conn *conn = conn_of(base);

    if (conn == NULL)
        return;
    PQfinish(conn->pg);
    free(conn);
}

static int
pg_connect(const char *rest, bool writer, struct db_conn **ret_conn, struct cc_err *err)
{
    struct pg_conn *conn = calloc(1, sizeof(*conn));
    char uri[URI_MAX];

    if (conn == NULL)
        return cc_err_nomem(err);
    conn->base.backend = &db_postgres;
    conn->writer = writer;
    if (pg_uri(rest, uri, sizeof(uri), err) != 0 || open_connection(conn, uri, err) != 0)
        goto fail;
    if (PQserverVersion(conn->pg) < 120000) {
        cc_err_set(err, CC_DOM_STORE, 0, "PostgreSQL %d is too old: 12 or newer is needed",
                PQserverVersion(conn->pg) / 10000);
        goto fail;
    }
    if (PQsetnonblocking(conn->pg, 1) != 0 || PQenterPipelineMode(conn->pg) != 1) {
        set_conn_err(conn, "connect", err);
        goto fail;
    }
    *ret_conn = &conn->base;
    return 0;
fail:
    pg_disconnect(&conn->base);
    return -1;
}

static bool
pg_is_broken(struct db_conn *base)
{
    struct pg_conn *conn = conn_of(base);

    return conn->broken || PQstatus(conn->pg) != CONNECTION_OK;
}

/* Serialization, deadlock, the same row made by another: done again, it goes another way. */
static bool
pg_is_passing(const struct cc_err *err)
{
    return is_state(err, "40001") || is_state(err, "40P01") || is_state(err, "23505");
}

static bool
pg_is_busy(const struct cc_err *err)
{
    return is_state(err, "55P03");
}

/*
 * By the class of the SQLSTATE: connection, read-only (a standby), out of disk, memory or connections, stopped by an
 * administrator, its disk's errors, damage.  What has no state was cut.
 */
static bool
pg_is_outage(const struct cc_err *err)
{
    static const char *const classes[] = { "08000", "53000", "57000", "58000", "F0000", "XX000" };
    const long class = 36 * 36 * 36;

    if (err->code == state_code(NULL) || is_state(err, "25006"))
        return true;
    for (size_t i = 0; i < CC_COUNT(classes); i++)
        if (err->code / class == state_code(classes[i]) / class)
            return true;
    return false;
}

static bool
pg_is_no_table(const struct cc_err *err)
{
    return is_state(err, "42P01");
}

/* ---- transactions ---- */

static int
pg_begin(struct db_conn *base, bool writing, struct cc_err *err)
{
    struct pg_conn *conn = conn_of(base);

    if (conn->broken)
        return cc_err_set(err, CC_DOM_STORE, 1, "the connection to the database is lost");
    conn->pending_count = 0;
    conn->open = true;
    if (run_later(conn, writing ? begin_writing : begin_reading, err) != 0)
        return -1;
    return run_later(conn, writing ? write_settings : read_settings, err);
}

static int
pg_end(struct pg_conn *conn, const char *sql, struct cc_err *err)
{
    conn->open = false;
    /* It never got to the server. */
    if (conn->pending_count > 0 &&
            (conn->pending[0] == begin_writing || conn->pending[0] == begin_reading)) {
        conn->pending_count = 0;
        return 0;
    }
    return run_now(conn, sql, err);
}

/* COMMIT of a transaction that failed is a ROLLBACK, and says so only in its tag. */
static int
pg_commit(struct db_conn *base, struct cc_err *err)
{
    struct pg_conn *conn = conn_of(base);

    if (PQtransactionStatus(conn->pg) == PQTRANS_INERROR)
        return cc_err_set(err, CC_DOM_STORE, 1, "a statement of the transaction failed");
    return pg_end(conn, "COMMIT", err);
}

static void
pg_rollback(struct db_conn *base)
{
    struct pg_conn *conn = conn_of(base);
    struct cc_err ignored = { 0 };

    if (conn == NULL)
        return;
    if (!conn->open && PQtransactionStatus(conn->pg) == PQTRANS_IDLE)
        return;
    /* What would come before it is not wanted any more; but the transaction may be begun. */
    if (conn->pending_count > 0 && conn->pending[0] != begin_writing &&
            conn->pending[0] != begin_reading)
        conn->pending_count = 0;
    if (!conn->broken && pg_end(conn, "ROLLBACK", &ignored) != 0)
        conn->broken = true;
    conn->open = false;
}

static int
pg_mark(struct db_conn *base, struct cc_err *err)
{
    return run_later(conn_of(base), "SAVEPOINT closure", err);
}

static int
pg_keep(struct db_conn *base, struct cc_err *err)
{
    return run_later(conn_of(base), "RELEASE closure", err);
}

static int
pg_undo(struct db_conn *base, struct cc_err *err)
{
    if (run_now(conn_of(base), "ROLLBACK TO closure", err) != 0)
        return -1;
    return pg_keep(base, err);
}

/* What was not sent yet is as good as begun. */
static bool
pg_in_transaction(struct db_conn *base)
{
    struct pg_conn *conn = conn_of(base);
    PGTransactionStatusType status = PQtransactionStatus(conn->pg);

    if (conn->broken || !conn->open)
        return false;
    return conn->pending_count > 0 || status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
}

/* One statement after the other, as pipeline mode takes one at a time; none of ours has a semicolon inside. */
static int
pg_script(struct db_conn *base, const char *sql, struct cc_err *err)
{
    struct pg_conn *conn = conn_of(base);

    while (*sql != '\0') {
        size_t len = strcspn(sql, ";");
        char *one = strndup(sql, len);
        int rc;

        if (one == NULL)
            return cc_err_nomem(err);
        rc = run_now(conn, one, err);
        free(one);
        if (rc != 0)
            return -1;
        sql += len;
        sql += strspn(sql, "; ");
    }
    return 0;
}

/* The function is made anew each time, which costs nothing; it needs the lock as well. */
static int
pg_lock_schema(struct db_conn *base, struct cc_err *err)
{
    struct pg_conn *conn = conn_of(base);

    /* A hundred programs may stand in line, each for as long as the one before makes its tables. */
    if (run_now(conn,
                "SELECT set_config('lock_timeout', '60000', true), set_config('statement_timeout', '60000', true)",
                err) != 0 ||
            run_now(conn, "SELECT pg_advisory_xact_lock(" SCHEMA_LOCK ")", err) != 0)
        return cc_err_in(err, "the schema is being changed by another program");
    return run_now(conn,
            "CREATE OR REPLACE FUNCTION db_now_ms() RETURNS BIGINT LANGUAGE sql VOLATILE AS"
            " 'SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT'",
            err);
}

/* ---- rows ---- */

/* Types that a column may have here; a number that is none of these is the statement's mistake. */
static int
check_columns(const PGresult *result, struct cc_err *err)
{
    for (int i = 0; i < PQnfields(result); i++) {
        switch (PQftype(result, i)) {
        case OID_BOOL:
        case OID_BYTEA:
        case OID_INT8:
        case OID_INT2:
        case OID_INT4:
        case OID_TEXT:
            break;
        default:
            return cc_err_set(err, CC_DOM_INTERNAL, 0, "column %d of a query has the type %u", i,
                    PQftype(result, i));
        }
    }
    return 0;
}

/* The end of the statement's own answers, and of what was sent with it. */
static void
end_stream(struct pg_rows *rows)
{
    struct cc_err ignored = { 0 };

    rows->over = true;
    if (rows->conn->streaming != rows)
        return;
    rows->conn->streaming = NULL;
    if (!rows->conn->broken && skip_answer(rows->conn, &ignored) == 0)
        (void)skip_sync(rows->conn, &ignored);
}

/* After an error libpq has a NULL for us, then the end. */
static int
fail_stream(struct pg_rows *rows, const PGresult *result, struct cc_err *err)
{
    int rc = set_result_err(rows->conn, result, "database", err);

    end_stream(rows);
    return rc;
}

/* 1 with *ret a row, 0 after the last, -1. */
static int
read_row(struct pg_rows *rows, PGresult **ret, struct cc_err *err)
{
    struct pg_conn *conn = rows->conn;
    PGresult *result = NULL;
    int rc = -1;

    if (rows->over)
        return 0;
    if (conn->broken || get_result(conn, &result, err) != 0) {
        rows->over = true;
        conn->streaming = NULL;
        if (err->domain == CC_DOM_NONE)
            cc_err_set(err, CC_DOM_STORE, 1, "the connection to the database is lost");
        return -1;
    }
    switch (PQresultStatus(result)) {
    case PGRES_SINGLE_TUPLE:
        if (check_columns(result, err) == 0) {
            *ret = result;
            return 1;
        }
        break;
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        rows->changes = strtoll(PQcmdTuples(result), NULL, 10);
        end_stream(rows);
        rc = 0;
        break;
    case PGRES_PIPELINE_ABORTED:
        cc_err_set(err, CC_DOM_STORE, 1, "an earlier statement failed");
        end_stream(rows);
        break;
    default:
        rc = fail_stream(rows, result, err);
        break;
    }
    PQclear(result);
    return rc;
}

static int
keep_ahead(struct pg_rows *rows, PGresult *row, struct cc_err *err)
{
    PGresult **more = reallocarray(rows->ahead, rows->ahead_count + 1, sizeof(PGresult *));

    if (more == NULL) {
        PQclear(row);
        return cc_err_nomem(err);
    }
    rows->ahead = more;
    rows->ahead[rows->ahead_count++] = row;
    return 0;
}

static int
park(struct pg_rows *rows, struct cc_err *err)
{
    PGresult *row = NULL;
    int got;

    while ((got = read_row(rows, &row, err)) > 0)
        if (keep_ahead(rows, row, err) != 0)
            return -1;
    return got;
}

static int
pg_next(struct db_rows *base, struct cc_err *err)
{
    struct pg_rows *rows = rows_of(base);

    PQclear(rows->row);
    rows->row = NULL;
    if (rows->ahead_next < rows->ahead_count) {
        rows->row = rows->ahead[rows->ahead_next];
        rows->ahead[rows->ahead_next++] = NULL;
        return 1;
    }
    return read_row(rows, &rows->row, err);
}

static void
pg_rows_free(struct db_rows *base)
{
    struct pg_rows *rows = rows_of(base);
    struct cc_err ignored = { 0 };
    PGresult *row = NULL;

    if (rows == NULL)
        return;
    while (!rows->over && read_row(rows, &row, &ignored) > 0)
        PQclear(row);
    for (size_t i = rows->ahead_next; i < rows->ahead_count; i++)
        PQclear(rows->ahead[i]);
    free(rows->ahead);
    PQclear(rows->row);
    free(rows);
}

/* Sent with what is pending; the statement's own answers are left to be read row by row. */
static int
start_query(struct pg_rows *rows, const char *sql, const struct bound *bound, struct cc_err *err)
{
    struct pg_conn *conn = rows->conn;
    bool extra = false;
    struct cc_err why = { 0 };
    int rc;

    if (free_connection(conn, err) != 0 || send_pending(conn, err) != 0 ||
            send_statement(conn, sql, bound, &extra, err) != 0 || send_sync(conn, err) != 0)
        return -1;
    rc = skip_pending(conn, err);
    if (extra && skip_answer(conn, rc == 0 ? err : &why) != 0)
        rc = -1;
    if (conn->broken)
        return -1;
    conn->streaming = rows;
    rows->over = false;
    /* libpq takes this for the statement whose answers come next. */
    if (rc == 0 && PQsetSingleRowMode(conn->pg) == 1)
        return 0;
    end_stream(rows);
    return rc != 0 ? -1 : set_conn_err(conn, "single-row mode", err);
}

static int
pg_query(struct db_conn *base, const char *sql, const struct db_value *params, size_t count,
        struct db_rows **ret_rows, struct cc_err *err)
{
    struct pg_rows *rows = calloc(1, sizeof(*rows));
    struct bound bound = { .count = 0 };

    if (rows == NULL)
        return cc_err_nomem(err);
    rows->base.backend = &db_postgres;
    rows->conn = conn_of(base);
    rows->over = true;
    if (bind_all(&bound, params, count, err) != 0 || start_query(rows, sql, &bound, err) != 0) {
        pg_rows_free(&rows->base);
        return -1;
    }
    *ret_rows = &rows->base;
    return 0;
}

static int64_t
pg_changes(struct db_rows *base)
{
    return rows_of(base)->changes;
}

/* ---- columns ---- */

static bool
pg_is_null(struct db_rows *base, int column)
{
    return PQgetisnull(rows_of(base)->row, 0, column) == 1;
}

static int64_t
pg_get_int(struct db_rows *base, int column)
{
    const PGresult *row = rows_of(base)->row;
    const char *data = PQgetvalue(row, 0, column);
    uint64_t wide;
    uint32_t word;
    uint16_t half;

    if (PQgetisnull(row, 0, column) == 1)
        return 0;
    switch (PQgetlength(row, 0, column)) {
    case 8:
        memcpy(&wide, data, 8);
        return (int64_t)be64toh(wide);
    case 4:
        memcpy(&word, data, 4);
        return (int32_t)be32toh(word);
    case 2:
        memcpy(&half, data, 2);
        return (int16_t)be16toh(half);
    default:
        return data[0];
    }
}

static const char *
pg_get_text(struct db_rows *base, int column)
{
    return pg_is_null(base, column) ? NULL : PQgetvalue(rows_of(base)->row, 0, column);
}

static struct cc_bytes
pg_get_blob(struct db_rows *base, int column)
{
    const PGresult *row = rows_of(base)->row;

    if (PQgetisnull(row, 0, column) == 1)
        return (struct cc_bytes){ .data = NULL };
    return (struct cc_bytes){ .data = (const uint8_t *)PQgetvalue(row, 0, column),
        .len = (size_t)PQgetlength(row, 0, column) };
}

const struct db_backend db_postgres = {
    .scheme = "postgresql",
    .group_max = 60, /* more savepoints than 64 make all others' snapshots slow */
    .check = pg_check,
    .shareable = pg_shareable,
    .prepare = pg_prepare,
    .connect = pg_connect,
    .disconnect = pg_disconnect,
    .begin = pg_begin,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .mark = pg_mark,
    .keep = pg_keep,
    .undo = pg_undo,
    .in_transaction = pg_in_transaction,
    .is_broken = pg_is_broken,
    .is_passing = pg_is_passing,
    .is_busy = pg_is_busy,
    .is_outage = pg_is_outage,
    .is_no_table = pg_is_no_table,
    .lock_schema = pg_lock_schema,
    .script = pg_script,
    .query = pg_query,
    .next = pg_next,
    .rows_free = pg_rows_free,
    .changes = pg_changes,
    .is_null = pg_is_null,
    .get_int = pg_get_int,
    .get_text = pg_get_text,
    .get_blob = pg_get_blob,
};
