/* SPDX-License-Identifier: MIT */
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/unit/memory_store.h"

/* A database that can be looked at from outside, empty. */
static char folder[] = "/tmp/test_look.XXXXXX";
static char file[64], uri[512];

static int
setup(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(file, sizeof(file), "%s/state.db", folder);
    if (on_postgres())
        (void)snprintf(uri, sizeof(uri), "%s", memory_store());
    else
        (void)snprintf(uri, sizeof(uri), "sqlite:%s", file);
    return 0;
}

static int
teardown(void **state)
{
    char path[128];

    (void)state;
    (void)unlink(file);
    (void)snprintf(path, sizeof(path), "%s-wal", file);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s-shm", file);
    (void)unlink(path);
    return rmdir(folder);
}

static void
execute(const char *sql)
{
    sqlite3 *db = NULL;
    PGconn *conn;
    PGresult *result;

    if (!on_postgres()) {
        assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        return;
    }
    conn = PQconnectdb(uri);
    result = PQexec(conn, sql);
    assert_int_equal(PQresultStatus(result), PGRES_COMMAND_OK);
    PQclear(result);
    PQfinish(conn);
}

static struct store_look
look(void)
{
    struct store_look found = { .schema = -1 };
    struct cc_err err = { 0 };

    if (store_look(uri, &found, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_int_equal(found.shared, on_postgres());
    assert_true(found.known > 0);
    return found;
}

/* What there is not yet stays so. */
static void
test_nothing(void **state)
{
    struct store_look found = look();

    (void)state;
    assert_int_equal(found.schema, 0);
    assert_true(found.usable);
    assert_int_not_equal(access(file, F_OK), 0);
    /* Looking made no tables, either. */
    assert_int_equal(look().schema, 0);
}

static void
test_versions(void **state)
{
    struct store *store = NULL;
    struct store_look found;
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(store_open(uri, &store, &err), 0);
    found = look();
    assert_int_equal(found.schema, found.known);
    assert_true(found.usable);
    store_close(store);

    execute("UPDATE schema_version SET version = version - 1");
    assert_int_equal(look().schema, found.known - 1);
    assert_int_equal(look().schema, found.known - 1); /* nothing was brought up to date */
    assert_true(look().usable);

    /* A newer one says itself whether older programs may use it. */
    execute("UPDATE schema_version SET version = 1000");
    assert_int_equal(look().schema, 1000);
    assert_true(look().usable);
    execute("UPDATE schema_oldest SET version = 1000");
    assert_false(look().usable);
}

/* An error of another kind than that there is no table does not make it an empty one. */
static void
test_not_to_be_read(void **state)
{
    struct store_look found = { .schema = 7 };
    struct cc_err err = { 0 };

    (void)state;
    execute("ALTER TABLE schema_version RENAME COLUMN version TO another");
    assert_int_equal(store_look(uri, &found, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_int_equal(found.schema, 7);
    execute("ALTER TABLE schema_version RENAME COLUMN another TO version");
    execute("DROP TABLE schema_version");
    assert_int_equal(look().schema, 0);
}

static void
test_unusable(void **state)
{
    static const char *const uris[] = { "nothing:/x",
        "sqlite:", "postgresql://nobody@127.0.0.1:1/nothing" };
    FILE *broken;

    (void)state;
    for (size_t i = 0; i < CC_COUNT(uris); i++) {
        struct store_look found = { .schema = 7 };
        struct cc_err err = { 0 };

        assert_int_equal(store_look(uris[i], &found, &err), -1);
        assert_true(strlen(err.text) > 0);
        assert_int_equal(found.schema, 7);
    }
    if (on_postgres())
        return;
    assert_non_null(broken = fopen(file, "w"));
    assert_true(fputs("this is no database, and long enough to be seen as none", broken) >= 0);
    assert_int_equal(fclose(broken), 0);
    for (int i = 0; i < 2; i++) {
        struct store_look found = { .schema = 7 };
        struct cc_err err = { 0 };

        assert_int_equal(store_look(uri, &found, &err), -1);
        assert_int_equal(err.domain, CC_DOM_STORE);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_not_to_be_read),
        cmocka_unit_test(test_unusable),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
