/* SPDX-License-Identifier: MIT */
#include "store/cadb.h"

#include "base/text.h"
#include "cadb_int.h"

/* The numbers in the SQL of these files are enum cadb_state. */
_Static_assert(CADB_RESERVED == 1 && CADB_ISSUED == 2 && CADB_HELD == 3 && CADB_REVOKED == 4 &&
                       CADB_ABANDONED == 5,
        "the SQL and the database hold these numbers");

/* ---- for all files of the CAs' database ---- */

/* One number out of the authority's row. */
static int
read_number(struct db_conn *conn, const char *sql, struct db_value key, bool *ret_found,
        int64_t *ret, struct cc_err *err)
{
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, sql, &key, 1, &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        *ret = db_int(rows, 0);
    *ret_found = got > 0;
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
no_authority(const char *name, struct cc_err *err)
{
    return cc_err_set(err, CC_DOM_STORE, 0, "there is no CA \"%s\" in the database", name);
}

int
cadb_authority_id(struct db_conn *conn, const char *name, int64_t *ret_id, struct cc_err *err)
{
    bool found = false;

    if (read_number(conn, "SELECT id FROM ca_authority WHERE name = $1", DB_TEXT(name), &found,
                ret_id, err) != 0)
        return -1;
    return found ? 0 : no_authority(name, err);
}

int
cadb_authority_lock(struct db_conn *conn, const char *name, int64_t *ret_id, struct cc_err *err)
{
    if (db_exec(conn, "UPDATE ca_authority SET change = change WHERE name = $1",
                DB_PARAMS(DB_TEXT(name)), NULL, err) != 0)
        return -1;
    return cadb_authority_id(conn, name, ret_id, err);
}

int
cadb_account(struct db_conn *conn, const struct store *store, int64_t authority,
        const struct cadb_step *step, struct cc_err *err)
{
    int64_t more[CADB_ABANDONED + 1] = { 0 };

    more[step->from]--;
    more[step->to]++;
    return db_exec(conn,
            "INSERT INTO ca_count (authority, instance, generation, reserved, issued, held, revoked,"
            " abandoned) VALUES ($1, $2, 1, $3, $4, $5, $6, $7)"
            " ON CONFLICT (authority, instance) DO UPDATE SET"
            " generation = ca_count.generation + 1, reserved = ca_count.reserved + excluded.reserved,"
            " issued = ca_count.issued + excluded.issued, held = ca_count.held + excluded.held,"
            " revoked = ca_count.revoked + excluded.revoked,"
            " abandoned = ca_count.abandoned + excluded.abandoned",
            DB_PARAMS(DB_INT(authority), DB_TEXT(store->name), DB_INT(more[CADB_RESERVED]),
                    DB_INT(more[CADB_ISSUED]), DB_INT(more[CADB_HELD]), DB_INT(more[CADB_REVOKED]),
                    DB_INT(more[CADB_ABANDONED])),
            NULL, err);
}

int
cadb_next_change(struct db_conn *conn, int64_t authority, struct cc_err *err)
{
    return db_exec(conn, "UPDATE ca_authority SET change = change + 1 WHERE id = $1",
            DB_PARAMS(DB_INT(authority)), NULL, err);
}

int
cadb_change(struct db_conn *conn, int64_t authority, int64_t *ret_change, struct cc_err *err)
{
    bool found = false;

    return read_number(conn, "SELECT change FROM ca_authority WHERE id = $1", DB_INT(authority),
            &found, ret_change, err);
}

const char *
cadb_serial_hex(struct cc_bytes serial, char ret_text[CADB_HEX_LEN])
{
    cc_hex(serial.data, serial.len <= CADB_SERIAL_MAX ? serial.len : CADB_SERIAL_MAX, true,
            ret_text);
    return ret_text;
}

int
cadb_serial_check(struct cc_bytes serial, struct cc_err *err)
{
    if (serial.len == 0 || serial.len > CADB_SERIAL_MAX || serial.data[0] == 0)
        return cc_err_set(err, CC_DOM_STORE, 0, "not a serial number (%zu bytes)", serial.len);
    return 0;
}

/* ---- authorities ---- */

struct authority_op {
    const char *name;
    const struct cadb_authority *authority;
    struct cc_bytes certificate, chain;
    bool exists;
};

static int
add(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct authority_op *op = arg;
    const struct cadb_authority *a = op->authority;
    int64_t changes = 0;

    if (db_exec(conn,
                "INSERT INTO ca_authority (id, name, key_uri, certificate, chain, request,"
                " ocsp_signer, created_ms, change, crl_number)"
                " VALUES ((SELECT COALESCE(MAX(id), 0) + 1 FROM ca_authority), $1, $2, $3, $4, $5,"
                " $6, $7, 0, 0) ON CONFLICT (name) DO NOTHING",
                DB_PARAMS(DB_TEXT(a->name), DB_TEXT(a->key_uri), DB_BLOB(a->certificate),
                        DB_BLOB(a->chain), DB_BLOB(a->request), DB_BLOB(a->ocsp_signer),
                        DB_INT(a->created_ms)),
                &changes, err) != 0)
        return -1;
    op->exists = changes == 0;
    return 0;
}

int
cadb_authority_add(struct store *store, const struct cadb_authority *authority, bool *ret_exists,
        struct cc_err *err)
{
    struct authority_op op = { .name = authority->name, .authority = authority };

    if (db_write(store->db, add, &op, err) != 0)
        return cc_err_in(err, "store CA \"%s\"", authority->name);
    *ret_exists = op.exists;
    return 0;
}

/* One UPDATE that must hit the authority's row. */
static int
change_authority(struct db_conn *conn, const char *sql, const struct db_value *params, size_t count,
        const char *name, struct cc_err *err)
{
    int64_t changes = 0;

    if (db_exec(conn, sql, params, count, &changes, err) != 0)
        return -1;
    return changes == 1 ? 0 : no_authority(name, err);
}

static int
set_certificate(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct authority_op *op = arg;

    return change_authority(conn,
            "UPDATE ca_authority SET certificate = $1, chain = $2 WHERE name = $3",
            DB_PARAMS(DB_BLOB(op->certificate), DB_BLOB(op->chain), DB_TEXT(op->name)), op->name,
            err);
}

int
cadb_authority_set_certificate(struct store *store, const char *name, struct cc_bytes certificate,
        struct cc_bytes chain, struct cc_err *err)
{
    struct authority_op op = { .name = name, .certificate = certificate, .chain = chain };

    return db_write(store->db, set_certificate, &op, err);
}

static int
set_ocsp_signer(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct authority_op *op = arg;

    return change_authority(conn, "UPDATE ca_authority SET ocsp_signer = $1 WHERE name = $2",
            DB_PARAMS(DB_BLOB(op->certificate), DB_TEXT(op->name)), op->name, err);
}

int
cadb_authority_set_ocsp_signer(struct store *store, const char *name, struct cc_bytes certificate,
        struct cc_err *err)
{
    struct authority_op op = { .name = name, .certificate = certificate };

    return db_write(store->db, set_ocsp_signer, &op, err);
}

/* ---- reading authorities ---- */

struct reading {
    const char *name;
    cadb_authority_fn fn;
    void *arg;
    int64_t change, generation;
};

#define GENERATION                                                                                 \
    "(SELECT CAST(COALESCE(SUM(n.generation), 0) AS BIGINT) FROM ca_count n"                       \
    " WHERE n.authority = ca_authority.id)"
#define AUTHORITY_COLUMNS                                                                          \
    "name, key_uri, certificate, chain, request, ocsp_signer, created_ms, change,"                 \
    " " GENERATION

/* Shows each row to the reader until it has enough; frees rows. */
static int
show_authorities(struct db_rows *rows, const struct reading *reading, struct cc_err *err)
{
    int got;

    while ((got = db_next(rows, err)) > 0) {
        struct cadb_authority authority = { .name = db_text(rows, 0),
            .key_uri = db_text(rows, 1),
            .certificate = db_blob(rows, 2),
            .chain = db_blob(rows, 3),
            .request = db_blob(rows, 4),
            .ocsp_signer = db_blob(rows, 5),
            .created_ms = db_int(rows, 6),
            .change = db_int(rows, 7),
            .generation = db_int(rows, 8) };

        if (reading->fn(reading->arg, &authority) != 0)
            break;
    }
    db_rows_free(rows);
    return got < 0 ? -1 : 0;
}

static int
find_authority(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct reading *reading = arg;
    struct db_rows *rows = NULL;

    if (db_query(conn, "SELECT " AUTHORITY_COLUMNS " FROM ca_authority WHERE name = $1",
                DB_PARAMS(DB_TEXT(reading->name)), &rows, err) != 0)
        return -1;
    return show_authorities(rows, reading, err);
}

int
cadb_authority_find(struct store *store, const char *name, cadb_authority_fn fn, void *arg,
        struct cc_err *err)
{
    struct reading reading = { .name = name, .fn = fn, .arg = arg };

    return db_read(store->db, find_authority, &reading, err);
}

static int
list_authorities(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct reading *reading = arg;
    struct db_rows *rows = NULL;

    if (db_query(conn, "SELECT " AUTHORITY_COLUMNS " FROM ca_authority ORDER BY name", DB_NO_PARAMS,
                &rows, err) != 0)
        return -1;
    return show_authorities(rows, reading, err);
}

int
cadb_authority_list(struct store *store, cadb_authority_fn fn, void *arg, struct cc_err *err)
{
    struct reading reading = { .fn = fn, .arg = arg };

    return db_read(store->db, list_authorities, &reading, err);
}

static int
read_numbers(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct reading *reading = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn, "SELECT change, " GENERATION " FROM ca_authority WHERE name = $1",
                DB_PARAMS(DB_TEXT(reading->name)), &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0) {
        reading->change = db_int(rows, 0);
        reading->generation = db_int(rows, 1);
    } else if (got == 0) {
        no_authority(reading->name, err);
    }
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

int
cadb_authority_numbers(struct store *store, const char *name, int64_t *ret_change,
        int64_t *ret_generation, struct cc_err *err)
{
    struct reading reading = { .name = name };

    if (db_read(store->db, read_numbers, &reading, err) != 0)
        return -1;
    *ret_change = reading.change;
    *ret_generation = reading.generation;
    return 0;
}
