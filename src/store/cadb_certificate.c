/* SPDX-License-Identifier: MIT */
#include "store/cadb.h"

#include <string.h>

#include "cadb_int.h"

/* ---- reserve, issued, abandon ---- */

struct certificate_op {
    const struct store *store;
    const char *authority;
    const struct cadb_certificate *certificate;
    struct cc_bytes serial, der;
    int64_t issued_ms;
    enum cadb_reserve reserved;
};

static int
insert_reserved(struct db_conn *conn, int64_t authority, const struct certificate_op *op,
        bool *ret_inserted, struct cc_err *err)
{
    const struct cadb_certificate *c = op->certificate;
    int64_t changes = 0;

    /* Either of two keys may be in the way: the serial, or the request's id. */
    if (db_exec(conn,
                "INSERT INTO ca_certificate (authority, serial, state, request_id, profile,"
                " subject, key_hash, not_before_ms, not_after_ms, reserved_ms, reserved_by)"
                " VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
                DB_PARAMS(DB_INT(authority), DB_BLOB(c->serial), DB_TEXT(c->request_id),
                        DB_TEXT(c->profile), DB_TEXT(c->subject), DB_BLOB(c->key_hash),
                        DB_INT(c->not_before_ms), DB_INT(c->not_after_ms), DB_INT(c->reserved_ms),
                        DB_INT(op->store->epoch)),
                &changes, err) != 0)
        return -1;
    *ret_inserted = changes == 1;
    return 0;
}

/* Why nothing was inserted. */
static int
tell_conflict(struct db_conn *conn, int64_t authority, const char *request_id,
        enum cadb_reserve *ret, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT 1 FROM ca_certificate"
                " WHERE authority = $1 AND request_id = $2 AND state <> 5",
                DB_PARAMS(DB_INT(authority), DB_TEXT(request_id)), &rows, err) != 0)
        return -1;
    got = db_next(rows, err);
    *ret = got > 0 ? CADB_RESERVE_KNOWN : CADB_RESERVE_SERIAL_TAKEN;
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
reserve(struct db_conn *conn, void *arg, struct cc_err *err)
{
    static const struct cadb_step step = { .to = CADB_RESERVED };
    struct certificate_op *op = arg;
    bool inserted = false;
    int64_t id;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    if (insert_reserved(conn, id, op, &inserted, err) != 0)
        return -1;
    if (!inserted)
        return tell_conflict(conn, id, op->certificate->request_id, &op->reserved, err);
    op->reserved = CADB_RESERVE_NEW;
    return cadb_account(conn, op->store, id, &step, err);
}

int
cadb_reserve(struct store *store, const char *authority, const struct cadb_certificate *certificate,
        enum cadb_reserve *ret_reserved, struct cc_err *err)
{
    struct certificate_op op = { .store = store,
        .authority = authority,
        .certificate = certificate };

    if (cadb_serial_check(certificate->serial, err) != 0)
        return -1;
    if (certificate->key_hash.len != CADB_KEY_HASH_LEN)
        return cc_err_set(err, CC_DOM_STORE, 0, "key hash of %zu bytes", certificate->key_hash.len);
    if (db_write(store->db, reserve, &op, err) != 0)
        return -1;
    *ret_reserved = op.reserved;
    return 0;
}

/* One UPDATE that must hit a reserved row. */
static int
leave_reserved(struct db_conn *conn, const char *sql, const struct db_value *params, size_t count,
        struct cc_bytes serial, struct cc_err *err)
{
    char hex[CADB_HEX_LEN];
    int64_t changes = 0;

    if (db_exec(conn, sql, params, count, &changes, err) != 0)
        return -1;
    if (changes != 1)
        return cc_err_set(err, CC_DOM_STORE, 0, "serial %s is not reserved",
                cadb_serial_hex(serial, hex));
    return 0;
}

static int
set_issued(struct db_conn *conn, void *arg, struct cc_err *err)
{
    static const struct cadb_step step = { .from = CADB_RESERVED, .to = CADB_ISSUED };
    const struct certificate_op *op = arg;
    int64_t id;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    if (leave_reserved(conn,
                "UPDATE ca_certificate SET state = 2, issued_ms = $1"
                " WHERE authority = $2 AND serial = $3 AND state = 1",
                DB_PARAMS(DB_INT(op->issued_ms), DB_INT(id), DB_BLOB(op->serial)), op->serial,
                err) != 0)
        return -1;
    if (db_exec(conn,
                "INSERT INTO ca_certificate_der (authority, reserved_ms, serial, certificate)"
                " VALUES ($1, (SELECT reserved_ms FROM ca_certificate"
                " WHERE authority = $1 AND serial = $2), $2, $3)",
                DB_PARAMS(DB_INT(id), DB_BLOB(op->serial), DB_BLOB(op->der)), NULL, err) != 0)
        return -1;
    return cadb_account(conn, op->store, id, &step, err);
}

int
cadb_issued(struct store *store, const char *authority, struct cc_bytes serial,
        struct cc_bytes certificate, int64_t issued_ms, struct cc_err *err)
{
    struct certificate_op op = { .store = store,
        .authority = authority,
        .serial = serial,
        .der = certificate,
        .issued_ms = issued_ms };

    return db_write(store->db, set_issued, &op, err);
}

static int
set_abandoned(struct db_conn *conn, void *arg, struct cc_err *err)
{
    static const struct cadb_step step = { .from = CADB_RESERVED, .to = CADB_ABANDONED };
    const struct certificate_op *op = arg;
    int64_t id;

    if (cadb_authority_id(conn, op->authority, &id, err) != 0)
        return -1;
    if (leave_reserved(conn,
                "UPDATE ca_certificate SET state = 5"
                " WHERE authority = $1 AND serial = $2 AND state = 1",
                DB_PARAMS(DB_INT(id), DB_BLOB(op->serial)), op->serial, err) != 0)
        return -1;
    return cadb_account(conn, op->store, id, &step, err);
}

int
cadb_abandon(struct store *store, const char *authority, struct cc_bytes serial, struct cc_err *err)
{
    struct certificate_op op = { .store = store, .authority = authority, .serial = serial };

    return db_write(store->db, set_abandoned, &op, err);
}

/* ---- reading ---- */

struct reading {
    const char *authority;
    const struct cadb_key *key;
    const struct cadb_query *query;
    const char *pattern; /* of the query's subject */
    int64_t before_ms;
    cadb_certificate_fn fn;
    void *arg;
};

#define CERTIFICATE_COLUMNS                                                                        \
    "c.serial, c.state, c.request_id, c.profile, c.subject, c.key_hash, c.not_before_ms,"          \
    " c.not_after_ms, c.reserved_ms, c.issued_ms, r.revoked_ms, r.reason, r.invalidity_ms"
#define CERTIFICATE_TABLES                                                                         \
    " FROM ca_certificate c"                                                                       \
    " LEFT JOIN ca_revoked r ON r.authority = c.authority AND r.serial = c.serial"

#define DER_COLUMN 13
#define WITH_DER                                                                                   \
    "SELECT " CERTIFICATE_COLUMNS ", d.certificate" CERTIFICATE_TABLES                             \
    " LEFT JOIN ca_certificate_der d ON d.authority = c.authority"                                 \
    " AND d.reserved_ms = c.reserved_ms AND d.serial = c.serial"
#define WITHOUT_DER "SELECT " CERTIFICATE_COLUMNS CERTIFICATE_TABLES

static void
read_certificate(struct db_rows *rows, bool with_der, struct cadb_certificate *ret)
{
    *ret = (struct cadb_certificate){
        .serial = db_blob(rows, 0),
        .state = (enum cadb_state)db_int(rows, 1),
        .request_id = db_text(rows, 2),
        .profile = db_text(rows, 3),
        .subject = db_text(rows, 4),
        .key_hash = db_blob(rows, 5),
        .not_before_ms = db_int(rows, 6),
        .not_after_ms = db_int(rows, 7),
        .reserved_ms = db_int(rows, 8),
        .issued_ms = db_int(rows, 9),
        .revoked_ms = db_int(rows, 10),
        .reason = (int)db_int(rows, 11),
        .invalidity_ms = db_int(rows, 12),
    };
    if (with_der)
        ret->certificate = db_blob(rows, DER_COLUMN);
}

/* Shows each row to the reader until it has enough; frees rows. */
static int
show_certificates(struct db_rows *rows, bool with_der, const struct reading *reading,
        struct cc_err *err)
{
    struct cadb_certificate certificate;
    int got;

    while ((got = db_next(rows, err)) > 0) {
        read_certificate(rows, with_der, &certificate);
        if (reading->fn(reading->arg, &certificate) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
query_by_key(struct db_conn *conn, int64_t authority, const struct cadb_key *key,
        struct db_rows **ret_rows, struct cc_err *err)
{
    if (key->serial.len > 0)
        return db_query(conn, WITH_DER " WHERE c.authority = $1 AND c.serial = $2",
                DB_PARAMS(DB_INT(authority), DB_BLOB(key->serial)), ret_rows, err);
    if (key->request_id != NULL)
        return db_query(conn,
                WITH_DER " WHERE c.authority = $1 AND c.request_id = $2 AND c.state <> 5",
                DB_PARAMS(DB_INT(authority), DB_TEXT(key->request_id)), ret_rows, err);
    return db_query(conn,
            WITH_DER " WHERE c.authority = $1 AND c.key_hash = $2 AND c.state <> 5"
                     " ORDER BY c.reserved_ms DESC LIMIT 1",
            DB_PARAMS(DB_INT(authority), DB_BLOB(key->key_hash)), ret_rows, err);
}

static int
find(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct reading *reading = arg;
    struct db_rows *rows = NULL;
    int64_t id;

    if (cadb_authority_id(conn, reading->authority, &id, err) != 0)
        return -1;
    if (query_by_key(conn, id, reading->key, &rows, err) != 0)
        return -1;
    return show_certificates(rows, true, reading, err);
}

int
cadb_find(struct store *store, const char *authority, const struct cadb_key *key,
        cadb_certificate_fn fn, void *arg, struct cc_err *err)
{
    struct reading reading = { .authority = authority, .key = key, .fn = fn, .arg = arg };

    return db_read(store->db, find, &reading, err);
}

static int
walk_reserved(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct reading *reading = arg;
    struct db_rows *rows = NULL;
    int64_t id;

    if (cadb_authority_id(conn, reading->authority, &id, err) != 0)
        return -1;
    if (db_query(conn,
                WITHOUT_DER " WHERE c.authority = $1 AND c.state = 1 AND c.reserved_ms < $2"
                            " AND " OWNER_GONE("c.reserved_by") " ORDER BY c.reserved_ms, c.serial",
                DB_PARAMS(DB_INT(id), DB_INT(reading->before_ms)), &rows, err) != 0)
        return -1;
    return show_certificates(rows, false, reading, err);
}

int
cadb_walk_reserved(struct store *store, const char *authority, int64_t before_ms,
        cadb_certificate_fn fn, void *arg, struct cc_err *err)
{
    struct reading reading = { .authority = authority,
        .before_ms = before_ms,
        .fn = fn,
        .arg = arg };

    return db_read(store->db, walk_reserved, &reading, err);
}

/* ---- lists ---- */

/* A state that the query wants, or 0, which no row has. */
static struct db_value
wanted(const struct cadb_query *query, enum cadb_state state)
{
    bool is = query->states == 0 || (query->states & 1U << state) != 0;

    return DB_INT(is ? (int)state : 0);
}

static int
list(struct db_conn *conn, void *arg, struct cc_err *err)
{
    static const uint8_t nothing[1];
    const struct reading *reading = arg;
    const struct cadb_query *query = reading->query;
    bool from_first = query->after.len == 0;
    struct db_rows *rows = NULL;
    int64_t id;

    if (cadb_authority_id(conn, reading->authority, &id, err) != 0)
        return -1;
    if (db_query(conn,
                WITHOUT_DER " WHERE c.authority = $1 AND (c.reserved_ms, c.serial) > ($2, $3)"
                            " AND c.state IN ($4, $5, $6, $7, $8) AND c.not_after_ms < $9"
                            " AND lower(c.subject) LIKE lower($10) ESCAPE '!'"
                            " ORDER BY c.reserved_ms, c.serial LIMIT $11",
                DB_PARAMS(DB_INT(id), DB_INT(from_first ? INT64_MIN : query->after_ms),
                        DB_BLOB((from_first ? (struct cc_bytes){ nothing, 0 } : query->after)),
                        wanted(query, CADB_RESERVED), wanted(query, CADB_ISSUED),
                        wanted(query, CADB_HELD), wanted(query, CADB_REVOKED),
                        wanted(query, CADB_ABANDONED),
                        DB_INT(query->expires_before_ms != 0 ? query->expires_before_ms
                                                             : INT64_MAX),
                        DB_TEXT(reading->pattern), DB_INT(query->limit)),
                &rows, err) != 0)
        return -1;
    return show_certificates(rows, false, reading, err);
}

#define SUBJECT_PART_MAX 1024

/* LIKE's pattern for a text anywhere in the subject. */
static int
make_pattern(const char *part, struct cc_buf *ret, struct cc_err *err)
{
    if (cc_buf_add_str(ret, "%", err) != 0)
        return -1;
    for (; part != NULL && *part != '\0'; part++) {
        if (strchr("!%_", *part) != NULL && cc_buf_add_str(ret, "!", err) != 0)
            return -1;
        if (cc_buf_add(ret, part, 1, err) != 0)
            return -1;
    }
    return part == NULL ? 0 : cc_buf_add_str(ret, "%", err);
}

int
cadb_list(struct store *store, const char *authority, const struct cadb_query *query,
        cadb_certificate_fn fn, void *arg, struct cc_err *err)
{
    struct cc_buf pattern = CC_BUF_INIT(2 * SUBJECT_PART_MAX + 2);
    struct reading reading = { .authority = authority, .query = query, .fn = fn, .arg = arg };
    int rc = -1;

    if (make_pattern(query->subject, &pattern, err) != 0) {
        cc_err_in(err, "subject to look for");
        goto out;
    }
    reading.pattern = cc_buf_str(&pattern);
    rc = db_read(store->db, list, &reading, err);
out:
    cc_buf_free(&pattern);
    return rc;
}

/* ---- counts ---- */

struct counting {
    const char *authority;
    struct cadb_counts counts;
};

static int
count_states(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct counting *counting = arg;
    struct db_rows *rows = NULL;
    int64_t id;
    int got;

    if (cadb_authority_id(conn, counting->authority, &id, err) != 0)
        return -1;
    if (db_query(conn,
                "SELECT CAST(SUM(reserved) AS BIGINT), CAST(SUM(issued) AS BIGINT),"
                " CAST(SUM(held) AS BIGINT), CAST(SUM(revoked) AS BIGINT),"
                " CAST(SUM(abandoned) AS BIGINT) FROM ca_count WHERE authority = $1",
                DB_PARAMS(DB_INT(id)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        for (int state = CADB_RESERVED; state <= CADB_ABANDONED; state++)
            counting->counts.by_state[state] = db_int(rows, state - CADB_RESERVED);
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

int
cadb_count(struct store *store, const char *authority, struct cadb_counts *ret, struct cc_err *err)
{
    struct counting counting = { .authority = authority };

    if (db_read(store->db, count_states, &counting, err) != 0)
        return -1;
    *ret = counting.counts;
    return 0;
}
