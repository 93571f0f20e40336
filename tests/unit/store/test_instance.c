/* SPDX-License-Identifier: MIT */
#include "store/instance.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/text.h"
#include "store/cadb.h"
#include "store/journal.h"
#include "store/store_int.h"
#include "tests/unit/memory_store.h"

static char folder[] = "/tmp/test-instance-XXXXXX";
static char uri[256];

static struct store *
must_open(void)
{
    struct cc_err err = { 0 };
    struct store *store = NULL;

    if (store_open(uri, &store, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return store;
}

static void
remove_files(void)
{
    static const char *const ends[] = { "", "-wal", "-shm" };
    char path[160];

    for (size_t i = 0; i < CC_COUNT(ends); i++) {
        (void)snprintf(path, sizeof(path), "%s/db%s", folder, ends[i]);
        (void)unlink(path);
    }
}

static int
setup(void **state)
{
    (void)state;
    remove_files();
    if (on_postgres())
        (void)snprintf(uri, sizeof(uri), "%s", memory_store());
    else
        (void)snprintf(uri, sizeof(uri), "sqlite:%s/db", folder);
    return 0;
}

static atomic_uint gone_calls, fenced_calls;

static void
on_gone(void *arg, bool news)
{
    (void)arg;
    if (news)
        atomic_fetch_add(&gone_calls, 1);
}

static void
on_fenced(void *arg)
{
    (void)arg;
    atomic_fetch_add(&fenced_calls, 1);
}

static int
join(struct store *store, const char *name, int64_t *ret_wait_ms, struct cc_err *err)
{
    const struct store_joining joining = { .name = name,
        .on_gone = on_gone,
        .on_fenced = on_fenced };

    return store_join(store, &joining, false, ret_wait_ms, err);
}

/* An earlier run of this name that did not leave is waited for, as a database does not know that this process played it. */
static void
must_join(struct store *store, const char *name)
{
    const int64_t deadline = cc_deadline_in(3 * STORE_LEASE_MS);
    struct cc_err err = { 0 };
    int64_t wait_ms = -1;

    do {
        if (join(store, name, &wait_ms, &err) != 0)
            fail_msg("%s", cc_err_text(&err));
    } while (wait_ms > 0 && cc_deadline_left(deadline) > 0 && usleep(20000) == 0);
    assert_int_equal(wait_ms, 0);
}

static int
fence(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const int64_t *epoch = arg;

    return db_exec(conn, "UPDATE store_instance SET alive = 0 WHERE epoch = $1",
            DB_PARAMS(DB_INT(*epoch)), NULL, err);
}

/* One process plays several: a file has no more than one that joins. */
static int
add_instance(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const int64_t *epoch = arg;

    return db_exec(conn,
            "INSERT INTO store_instance (epoch, name, host, alive, lease_until_ms, commits,"
            " joined_ms) VALUES ($1, CAST($1 AS TEXT), '', 1, 9999999999999, 0, 0)",
            DB_PARAMS(DB_INT(*epoch)), NULL, err);
}

static enum journal_todo
receive(struct store *store, const char *id)
{
    const struct journal_entry entry = { .workload = "pkcs", .request_id = id, .attempt = 1 };
    enum journal_todo todo = JOURNAL_BUSY;

    assert_int_equal(journal_receive(store, &entry, 1, &todo, NULL), 0);
    return todo;
}

static int
finish(struct store *store, const char *id, struct cc_err *err)
{
    return journal_finish(store, "pkcs", id, JOURNAL_SUCCEEDED, "{}", NULL, NULL, err);
}

static int
count_row(void *arg, const struct journal_entry *entry)
{
    unsigned *count = arg;

    (void)entry;
    ++*count;
    return 0;
}

static unsigned
rows_of(struct store *store)
{
    unsigned count = 0;

    assert_int_equal(journal_walk(store, "pkcs", count_row, &count, NULL), 0);
    return count;
}

static void
a_file_has_one_instance(void **state)
{
    struct store *one, *two;
    struct cc_err err = { 0 };
    int64_t wait_ms = 0;

    (void)state;
    one = must_open();
    two = must_open();
    must_join(one, "a");
    assert_int_equal(join(two, "b", &wait_ms, &err), -1);
    assert_non_null(strstr(cc_err_text(&err), "in use by another connector"));
    store_leave(one);
    store_close(one);
    must_join(two, "b");
    store_close(two);
}

static void
what_a_run_left_is_for_the_next(void **state)
{
    struct store *store = must_open();
    struct cc_err err = { 0 };
    int64_t adopted = 0, epoch;

    (void)state;
    must_join(store, "a");
    epoch = store->epoch;
    assert_int_equal(receive(store, "r1"), JOURNAL_DO);
    store_close(store); /* without leaving, as in a crash */
    store = must_open();
    must_join(store, "a");
    assert_true(store->epoch > epoch);
    assert_int_equal(rows_of(store), 0);
    assert_int_equal(journal_adopt(store, "pkcs", &adopted, &err), 0);
    assert_int_equal(adopted, 1);
    assert_int_equal(rows_of(store), 1);
    assert_int_equal(finish(store, "r1", &err), 0);
    store_close(store);
}

/* Another program may declare us gone at any time; here the admin's tool plays it, which has not joined. */
static void
a_fenced_instance_writes_nothing(void **state)
{
    struct store *store = must_open(), *other = must_open();
    struct cc_err err = { 0 };
    int64_t deadline = cc_deadline_in(20000);

    (void)state;
    atomic_store(&fenced_calls, 0);
    must_join(store, "a");
    assert_int_equal(receive(store, "r1"), JOURNAL_DO);
    assert_int_equal(db_write(other->db, fence, &store->epoch, NULL), 0);

    assert_int_equal(finish(store, "r1", &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_int_equal(err.code, DB_FAULT_FENCED);
    assert_int_equal(store_put_value(store, "x", "y", NULL), -1);
    assert_int_equal(rows_of(store), 1); /* reading is allowed */
    while (atomic_load(&fenced_calls) == 0 && cc_deadline_left(deadline) > 0)
        usleep(1000);
    assert_int_equal(atomic_load(&fenced_calls), 1);

    store_leave(store);
    must_join(store, "a");
    assert_int_equal(store_put_value(store, "x", "y", NULL), 0);
    store_close(other);
    store_close(store);
}

static void
rows_of_others_are_left_alone_until_they_are_gone(void **state)
{
    struct store *store = must_open();
    int64_t mine = 101, other = 102;

    (void)state;
    assert_int_equal(db_write(store->db, add_instance, &mine, NULL), 0);
    assert_int_equal(db_write(store->db, add_instance, &other, NULL), 0);
    store->epoch = mine;
    assert_int_equal(receive(store, "received"), JOURNAL_DO);
    assert_int_equal(receive(store, "prepared"), JOURNAL_DO);
    assert_int_equal(journal_prepare(store, "pkcs", "prepared", "note", NULL), 0);
    assert_int_equal(receive(store, "issued"), JOURNAL_DO);
    assert_int_equal(finish(store, "issued", NULL), 0);

    store->epoch = other; /* as another instance, while the first runs */
    assert_int_equal(receive(store, "received"), JOURNAL_ELSEWHERE);
    assert_int_equal(receive(store, "issued"), JOURNAL_ELSEWHERE);
    store->epoch = mine;
    assert_int_equal(rows_of(store), 3);

    assert_int_equal(db_write(store->db, fence, &mine, NULL), 0);
    store->epoch = other;
    assert_int_equal(receive(store, "received"), JOURNAL_BUSY);
    assert_int_equal(receive(store, "issued"), JOURNAL_UPLOAD);
    assert_int_equal(receive(store, "prepared"),
            JOURNAL_ELSEWHERE); /* to be adopted, with its note */
    assert_int_equal(rows_of(store), 2);
    store_close(store);
}

/* ---- serials of a CA ---- */

#define RESERVED_MS 1000
#define SERIAL(text) ((struct cc_bytes){ (const uint8_t *)(text), strlen(text) })

static void
add_ca(struct store *store)
{
    const struct cadb_authority authority = { .name = "corp", .key_uri = "pkcs11:object=ca" };
    bool exists;

    assert_int_equal(cadb_authority_add(store, &authority, &exists, NULL), 0);
}

static void
reserve(struct store *store, const char *serial)
{
    static const uint8_t key_hash[CADB_KEY_HASH_LEN] = { 1 };
    const struct cadb_certificate certificate = { .serial = SERIAL(serial),
        .request_id = serial,
        .profile = "device",
        .subject = "CN=Device 1",
        .key_hash = { key_hash, sizeof(key_hash) },
        .reserved_ms = RESERVED_MS };
    enum cadb_reserve reserved = CADB_RESERVE_KNOWN;

    assert_int_equal(cadb_reserve(store, "corp", &certificate, &reserved, NULL), 0);
    assert_int_equal(reserved, CADB_RESERVE_NEW);
}

static bool
give_up_before(struct store *store, const char *serial, int64_t before_ms)
{
    const struct cadb_revocation revocation = { SERIAL(serial), 5, 2000, 0 };
    bool done;

    assert_int_equal(cadb_give_up(store, "corp", &revocation, before_ms, &done, NULL), 0);
    return done;
}

static bool
give_up(struct store *store, const char *serial)
{
    return give_up_before(store, serial, RESERVED_MS);
}

static int
issue(struct store *store, const char *serial)
{
    return cadb_issued(store, "corp", SERIAL(serial), SERIAL("DER"), 1, NULL);
}

static int
count_serial(void *arg, const struct cadb_certificate *certificate)
{
    unsigned *count = arg;

    (void)certificate;
    ++*count;
    return 0;
}

static unsigned
left_by_a_crash(struct store *store)
{
    unsigned count = 0;

    assert_int_equal(cadb_walk_reserved(store, "corp", INT64_MAX, count_serial, &count, NULL), 0);
    return count;
}

static void
a_serial_is_not_given_up_while_its_instance_runs(void **state)
{
    struct store *store = must_open();
    int64_t mine = 101, other = 102;

    (void)state;
    assert_int_equal(db_write(store->db, add_instance, &mine, NULL), 0);
    assert_int_equal(db_write(store->db, add_instance, &other, NULL), 0);
    add_ca(store);
    store->epoch = mine;
    reserve(store, "signed");
    reserve(store, "lost");
    reserve(store, "ours");
    reserve(store, "slow");

    store->epoch = other; /* as another instance, while the first runs */
    assert_int_equal(left_by_a_crash(store), 0);
    assert_false(give_up(store, "signed"));
    assert_false(give_up(store, "lost"));
    assert_true(give_up_before(store, "slow", RESERVED_MS + 1));
    store->epoch = mine;
    assert_int_equal(issue(store, "signed"), 0);
    assert_int_equal(issue(store, "slow"), -1);
    assert_true(give_up(store, "ours")); /* nothing else of us is at it */

    assert_int_equal(db_write(store->db, fence, &mine, NULL), 0);
    store->epoch = other;
    assert_false(give_up(store, "signed")); /* which was issued */
    assert_int_equal(left_by_a_crash(store), 1);
    assert_true(give_up(store, "lost"));
    assert_false(give_up(store, "lost"));
    store->epoch = mine;
    assert_int_equal(issue(store, "lost"), -1);
    store_close(store);
}

static int
add_late_one(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn,
            "INSERT INTO store_instance (epoch, name, host, alive, lease_until_ms, commits,"
            " joined_ms) VALUES (101, 'late', '', 1, db_now_ms(), 0, 0)",
            DB_NO_PARAMS, NULL, err);
}

static int
revive_late_one(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn, "UPDATE store_instance SET alive = 1 WHERE epoch = 101", DB_NO_PARAMS,
            NULL, err);
}

static int
see_late_one(void *arg, const struct store_member *member)
{
    bool *seen = arg;

    *seen |= strcmp(member->name, "late") == 0;
    return 0;
}

static bool
late_one_is_there(struct store *store)
{
    bool seen = false;

    assert_int_equal(store_members(store, see_late_one, &seen, NULL), 0);
    return seen;
}

static void
wait_until_late_one_is_gone(struct store *store)
{
    const int64_t deadline = cc_deadline_in(10 * STORE_LEASE_MS);

    while (late_one_is_there(store) && cc_deadline_left(deadline) > 0)
        usleep(10000);
    assert_false(late_one_is_there(store));
}

static void
nobody_is_gone_right_after_the_database_came_back(void **state)
{
    struct store *store = must_open();
    int64_t cut;

    (void)state;
    must_join(store, "a");
    assert_int_equal(db_write(store->db, add_late_one, NULL, NULL), 0);
    wait_until_late_one_is_gone(store); /* by now we are long enough in touch to say so */
    cut = cc_clock_mono_ms();
    cut_all_connections(uri);
    assert_int_equal(db_write(store->db, revive_late_one, NULL, NULL), 0);
    wait_until_late_one_is_gone(store);
    assert_true(cc_clock_mono_ms() - cut >= STORE_LEASE_MS);
    store_close(store);
}

static void
leases_go_with_their_holder(void **state)
{
    struct store *store = must_open();
    int64_t mine;
    bool ours = false;

    (void)state;
    must_join(store, "a");
    mine = store->epoch;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(store_lease_take(store, "crl/x", &ours, NULL), 0);
        assert_true(ours);
    }
    store->epoch = mine + 1;
    assert_int_equal(store_lease_take(store, "crl/x", &ours, NULL), 0);
    assert_false(ours);
    store->epoch = mine;
    assert_int_equal(db_write(store->db, fence, &mine, NULL), 0);
    store_member_free(store);
    store->epoch = mine + 1;
    assert_int_equal(store_lease_take(store, "crl/x", &ours, NULL), 0);
    assert_true(ours);
    assert_int_equal(store_lease_release(store, "crl/x", NULL), 0);
    store_close(store);
}

static void
the_connector_id_is_kept(void **state)
{
    struct store *store = must_open();
    char id[CC_UUID_LEN], again[CC_UUID_LEN], other[CC_UUID_LEN];
    static const char old[] = "11111111-2222-4333-8444-555555555555";
    static const char given[] = "22222222-2222-4333-8444-555555555555";

    (void)state;
    assert_int_equal(store_put_value(store, "connector-id", old, NULL), 0);
    assert_int_equal(store_connector_id(store, "a", id, NULL), 0);
    assert_string_equal(id, old);
    assert_int_equal(store_connector_id(store, "a", again, NULL), 0);
    assert_string_equal(id, again);
    assert_int_equal(store_connector_id(store, "b", other, NULL), 0);
    assert_int_equal(store_connector_id_set(store, "b", given, NULL), 0);
    assert_int_equal(store_connector_id(store, "b", again, NULL), 0);
    assert_string_equal(again, given);
    assert_int_equal(store_connector_id(store, "a", again, NULL), 0);
    assert_string_equal(again, id);
    assert_string_not_equal(id, other);
    store_close(store);
}

#define CASE(fn) cmocka_unit_test_setup(fn, setup)

int
main(void)
{
    const struct CMUnitTest in_a_file[] = { CASE(a_file_has_one_instance) };
    const struct CMUnitTest anywhere[] = {
        CASE(what_a_run_left_is_for_the_next),
        CASE(a_fenced_instance_writes_nothing),
        CASE(rows_of_others_are_left_alone_until_they_are_gone),
        CASE(a_serial_is_not_given_up_while_its_instance_runs),
        CASE(leases_go_with_their_holder),
        CASE(the_connector_id_is_kept),
    };
    const struct CMUnitTest on_a_server[] = {
        CASE(nobody_is_gone_right_after_the_database_came_back),
    };
    int rc;

    if (mkdtemp(folder) == NULL)
        return 1;
    rc = cmocka_run_group_tests(anywhere, NULL, NULL);
    rc += on_postgres() ? cmocka_run_group_tests(on_a_server, NULL, NULL)
                        : cmocka_run_group_tests(in_a_file, NULL, NULL);
    remove_files();
    (void)rmdir(folder);
    return rc;
}
