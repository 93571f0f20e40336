/* SPDX-License-Identifier: MIT */
#include "store/copy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/text.h"
#include "store/copy_int.h"
#include "store/instance.h"
#include "store/store_int.h"
#include "tests/unit/memory_store.h"

#define ROWS 450 /* more than two batches */
#define BIG_BYTES 300000

static char folder[] = "/tmp/test-copy-XXXXXX";
static char uri[3][128];

static struct store *
must_open(const char *where)
{
    struct store *store = NULL;
    struct cc_err err = { 0 };

    if (store_open(where, &store, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return store;
}

static void
remove_files(void)
{
    static const char *const ends[] = { "", "-wal", "-shm", ".lock" };
    char path[200];

    for (int i = 0; i < 3; i++) {
        for (size_t k = 0; k < CC_COUNT(ends); k++) {
            (void)snprintf(path, sizeof(path), "%s/%d%s", folder, i, ends[k]);
            (void)unlink(path);
        }
    }
}

static int
setup(void **state)
{
    (void)state;
    remove_files();
    for (int i = 0; i < 3; i++)
        (void)snprintf(uri[i], sizeof(uri[i]), "sqlite:%s/%d", folder, i);
    return 0;
}

/* ---- rows of every kind in every table ---- */

struct column {
    char name[64];
    char type;
};

static size_t
columns_of(const struct copy_table *table, struct column *ret)
{
    char list[2048];
    char *rest = list, *name;
    size_t n = 0;

    (void)snprintf(list, sizeof(list), "%s", table->columns);
    while ((name = strtok_r(rest, ", ", &rest)) != NULL) {
        (void)snprintf(ret[n].name, sizeof(ret[n].name), "%s", name);
        ret[n].type = table->types[n];
        n++;
    }
    assert_int_equal(n, strlen(table->types));
    return n;
}

static char big[BIG_BYTES];

/* Numbers differ in each row, and so do texts and blobs; the empty one and a long one are among them. */
static struct db_value
value_of(const struct column *column, int row, char text[32])
{
    const char type = column->type;

    if (type == 'i')
        return DB_INT(row % 7 == 6 ? INT64_MAX - row : row + 1);
    if (row == 3 && (strcmp(column->name, "certificate") == 0 || strcmp(column->name, "data") == 0))
        return DB_BLOB(((struct cc_bytes){ (const uint8_t *)big, sizeof(big) }));
    if (row == 4)
        return type == 't' ? DB_TEXT("") : DB_BLOB(((struct cc_bytes){ (const uint8_t *)"", 0 }));
    (void)snprintf(text, 32, "caf\xc3\xa9 %d", row);
    if (type == 't')
        return DB_TEXT(text);
    text[0] = '\0'; /* blobs may hold this */
    return DB_BLOB(((struct cc_bytes){ (const uint8_t *)text, strlen(text + 1) + 1 }));
}

static int
fill_table(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct copy_table *table = arg;
    struct column columns[32];
    size_t n = columns_of(table, columns);
    struct cc_buf sql = CC_BUF_INIT(4096);
    int rc = cc_buf_printf(&sql, err, "INSERT INTO %s (%s) VALUES (", table->name, table->columns);

    for (size_t i = 0; i < n && rc == 0; i++)
        rc = cc_buf_printf(&sql, err, "$%zu%s", i + 1, i + 1 < n ? ", " : ")");
    for (int row = 0; row < ROWS && rc == 0; row++) {
        struct db_value values[32];
        char texts[32][32];

        for (size_t i = 0; i < n; i++)
            values[i] = value_of(&columns[i], row, texts[i]);
        rc = db_exec(conn, cc_buf_str(&sql), values, n, NULL, err);
    }
    cc_buf_free(&sql);
    return rc;
}

static void
fill(struct store *store)
{
    struct cc_err err = { 0 };

    for (size_t i = 0; i < copy_table_count; i++)
        if (db_write(store->db, fill_table, (void *)(uintptr_t)&copy_tables[i], &err) != 0)
            fail_msg("%s: %s", copy_tables[i].name, cc_err_text(&err));
}

/* All that a store holds, as one text for each table. */
struct dump {
    const struct copy_table *table;
    struct cc_buf *text;
};

static int
dump_row(struct db_rows *rows, const struct copy_table *table, struct cc_buf *text,
        struct cc_err *err)
{
    int rc = 0;

    for (int i = 0; table->types[i] != '\0' && rc == 0; i++) {
        if (db_is_null(rows, i))
            rc = cc_buf_printf(text, err, "NULL|");
        else if (table->types[i] == 'i')
            rc = cc_buf_printf(text, err, "%lld|", (long long)db_int(rows, i));
        else if (table->types[i] == 't')
            rc = cc_buf_printf(text, err, "'%s'|", db_text(rows, i));
        else
            rc = cc_buf_printf(text, err, "%zu:", db_blob(rows, i).len) != 0 ||
                                 cc_buf_add(text, db_blob(rows, i).data, db_blob(rows, i).len,
                                         err) != 0
                         ? -1
                         : 0;
    }
    return rc == 0 ? cc_buf_printf(text, err, "\n") : -1;
}

static int
dump_table(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const struct dump *dump = arg;
    struct db_rows *rows = NULL;
    char sql[2200];
    int got;

    (void)snprintf(sql, sizeof(sql), "SELECT %s FROM %s ORDER BY 1, 2", dump->table->columns,
            dump->table->name);
    cc_buf_reset(dump->text);
    if (db_query(conn, sql, DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) > 0) {
        if (dump_row(rows, dump->table, dump->text, err) != 0)
            got = -1;
        if (got < 0)
            break;
    }
    db_rows_free(rows);
    return got;
}

static void
check_same(struct store *one, struct store *other)
{
    struct cc_buf texts[2] = { CC_BUF_INIT(16 * 1024 * 1024), CC_BUF_INIT(16 * 1024 * 1024) };

    for (size_t i = 0; i < copy_table_count; i++) {
        struct dump dump = { &copy_tables[i], &texts[0] };
        struct cc_err err = { 0 };

        if (strcmp(copy_tables[i].name, "store_instance") == 0)
            continue; /* those who were alive are not in the copy */
        assert_int_equal(db_read(one->db, dump_table, &dump, &err), 0);
        dump.text = &texts[1];
        assert_int_equal(db_read(other->db, dump_table, &dump, &err), 0);
        assert_int_equal(texts[0].len, texts[1].len);
        assert_memory_equal(texts[0].data, texts[1].data, texts[0].len);
    }
    cc_buf_free(&texts[0]);
    cc_buf_free(&texts[1]);
}

/* ---- cases ---- */

static int64_t
must_copy(struct store *from, struct store *to)
{
    struct cc_err err = { 0 };
    int64_t rows = 0;

    if (store_copy(from, to, false, NULL, NULL, &rows, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return rows;
}

/* Over PostgreSQL where there is one: there and back. */
static void
all_rows_are_copied(void **state)
{
    struct store *from = must_open(uri[0]);
    struct store *between = must_open(on_postgres() ? memory_store() : uri[1]);
    struct store *to = must_open(uri[2]);

    (void)state;
    fill(from);
    assert_int_equal(must_copy(from, between), ROWS * (int64_t)copy_table_count);
    assert_int_equal(must_copy(between, to), ROWS * (int64_t)copy_table_count);
    check_same(from, to);
    store_close(from);
    store_close(between);
    store_close(to);
}

/* What a later step of the schema adds is copied, too. */
struct schema {
    struct cc_buf found;
};

static int
read_schema(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct cc_buf *found = arg;
    struct db_rows *rows = NULL;
    int got;

    cc_buf_reset(found);
    if (db_query(conn,
                "SELECT m.name, c.name, c.type FROM sqlite_master AS m, pragma_table_info(m.name) AS c"
                " WHERE m.type = 'table' AND m.name NOT IN ('db_schema', 'schema_version',"
                " 'schema_oldest', 'store_lease') ORDER BY m.name, c.cid",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    while ((got = db_next(rows, err)) > 0)
        if (cc_buf_printf(found, err, "%s.%s %c\n", db_text(rows, 0), db_text(rows, 1),
                    db_text(rows, 2)[0] == 'T'   ? 't'
                    : db_text(rows, 2)[2] == 'G' ? 'i'
                                                 : 'b') != 0)
            break;
    db_rows_free(rows);
    return got;
}

static bool
is_copied(const char *line)
{
    for (size_t i = 0; i < copy_table_count; i++) {
        struct column columns[32];
        size_t n = columns_of(&copy_tables[i], columns);
        char text[2400];

        for (size_t k = 0; k < n; k++) {
            (void)snprintf(text, sizeof(text), "%s.%s %c", copy_tables[i].name, columns[k].name,
                    columns[k].type);
            if (strcmp(text, line) == 0)
                return true;
        }
    }
    return false;
}

static void
every_column_is_copied(void **state)
{
    struct store *store = must_open(uri[0]);
    struct cc_buf found = CC_BUF_INIT(65536);
    struct cc_err err = { 0 };
    unsigned seen = 0;
    char *rest, *line;

    (void)state;
    assert_int_equal(db_read(store->db, read_schema, &found, &err), 0);
    rest = (char *)(uintptr_t)cc_buf_str(&found);
    while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
        if (!is_copied(line))
            fail_msg("not copied: %s", line);
        seen++;
    }
    assert_true(seen > 100);
    cc_buf_free(&found);
    store_close(store);
}

static void
what_is_not_empty_is_left_alone(void **state)
{
    struct store *from = must_open(uri[0]), *to = must_open(uri[1]);
    struct cc_err err = { 0 };
    int64_t rows = 0;
    char *value = NULL;

    (void)state;
    assert_int_equal(store_put_value(from, "a", "theirs", NULL), 0);
    assert_int_equal(store_put_value(to, "a", "ours", NULL), 0);
    assert_int_equal(store_copy(from, to, false, NULL, NULL, &rows, &err), -1);
    assert_non_null(strstr(cc_err_text(&err), "not empty"));
    assert_int_equal(store_get_value(to, "a", &value, NULL), 0);
    assert_string_equal(value, "ours");
    free(value);
    store_close(from);
    store_close(to);
}

static int
join(struct store *store, const char *name, struct cc_err *err)
{
    const struct store_joining joining = { .name = name };
    int64_t wait_ms = 0;

    return store_join(store, &joining, false, &wait_ms, err);
}

/* A row that the new store refuses: what was copied until then is not the whole. */
static int
break_it(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn, "ALTER TABLE keypool RENAME COLUMN spki TO other", DB_NO_PARAMS, NULL,
            err);
}

static void
half_a_copy_is_not_used(void **state)
{
    struct store *from = must_open(uri[0]), *to = must_open(uri[1]), *third = must_open(uri[2]);
    struct cc_err err = { 0 };
    int64_t rows = 0;

    (void)state;
    fill(from);
    assert_int_equal(db_write(to->db, break_it, NULL, NULL), 0);
    assert_int_equal(store_copy(from, to, false, NULL, NULL, &rows, &err), -1);
    assert_true(rows > 0);
    cc_err_clear(&err);
    assert_int_equal(join(to, "a", &err), -1);
    assert_non_null(strstr(cc_err_text(&err), "did not come to its end"));
    cc_err_clear(&err);
    assert_int_equal(store_copy(to, third, false, NULL, NULL, &rows, &err), -1);
    assert_non_null(strstr(cc_err_text(&err), "did not come to its end"));
    store_close(from);
    store_close(to);
    store_close(third);
}

static void
what_was_moved_away_is_not_used(void **state)
{
    struct store *from = must_open(uri[0]), *to = must_open(uri[1]);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(join(from, "a", NULL), 0);
    assert_int_equal(must_copy(from, to) > 0, 1);
    store_leave(from);
    assert_int_equal(join(from, "b", NULL), 0); /* stopped before, and unseen */
    assert_int_equal(store_retire(from, "it was moved to there", NULL), 0);
    assert_int_equal(store_put_value(from, "x", "y", &err), -1);
    assert_int_equal(err.code, DB_FAULT_FENCED);
    cc_err_clear(&err);
    store_leave(from);
    assert_int_equal(join(from, "a", &err), -1);
    assert_non_null(strstr(cc_err_text(&err), "it was moved to there"));
    assert_int_equal(join(to, "a", NULL), 0); /* nobody of this name is alive there */
    store_close(from);
    store_close(to);
}

struct numbers {
    int64_t crl, epoch;
};

static int
read_numbers(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct numbers *numbers = arg;
    struct db_rows *rows = NULL;
    int got;

    if (db_query(conn,
                "SELECT MIN(crl_number), (SELECT value FROM store_counter WHERE name = 'epoch')"
                " FROM ca_authority",
                DB_NO_PARAMS, &rows, err) != 0)
        return -1;
    if ((got = db_next(rows, err)) > 0)
        *numbers = (struct numbers){ db_int(rows, 0), db_int(rows, 1) };
    db_rows_free(rows);
    return got > 0 ? 0 : -1;
}

static int
add_authority(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn,
            "INSERT INTO ca_authority (id, name, key_uri, created_ms, change, crl_number)"
            " VALUES (1, 'corp', 'pkcs11:object=ca', 0, 0, 7)",
            DB_NO_PARAMS, NULL, err);
}

/* Numbers that were given after a backup was made are not given again when it has been restored. */
static void
a_copy_of_the_past_goes_on_behind_a_gap(void **state)
{
    struct store *from = must_open(uri[0]), *to = must_open(uri[1]);
    struct numbers before, after;
    int64_t rows = 0;

    (void)state;
    assert_int_equal(db_write(from->db, add_authority, NULL, NULL), 0);
    assert_int_equal(join(from, "a", NULL), 0); /* counts epochs */
    assert_int_equal(db_read(from->db, read_numbers, &before, NULL), 0);
    assert_int_equal(store_copy(from, to, true, NULL, NULL, &rows, NULL), 0);
    assert_int_equal(db_read(to->db, read_numbers, &after, NULL), 0);
    assert_int_equal(after.crl, before.crl + 10000);
    assert_int_equal(after.epoch, before.epoch + 1000000);
    store_close(from);
    store_close(to);
}

static void
who_uses_it_is_seen(void **state)
{
    const char *where = on_postgres() ? memory_store() : uri[0];
    struct store *one = must_open(where), *other = must_open(where);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(join(one, "a", NULL), 0);
    assert_int_equal(store_check_unused(other, &err), -1);
    store_leave(one);
    store_close(one);
    assert_int_equal(store_check_unused(other, NULL), 0);
    store_close(other);
}

#define CASE(fn) cmocka_unit_test_setup(fn, setup)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(all_rows_are_copied),
        CASE(every_column_is_copied),
        CASE(what_is_not_empty_is_left_alone),
        CASE(half_a_copy_is_not_used),
        CASE(what_was_moved_away_is_not_used),
        CASE(a_copy_of_the_past_goes_on_behind_a_gap),
        CASE(who_uses_it_is_seen),
    };
    int rc;

    if (mkdtemp(folder) == NULL)
        return 1;
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    remove_files();
    (void)rmdir(folder);
    return rc;
}
