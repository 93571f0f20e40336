/* SPDX-License-Identifier: MIT */
#include "store/scepdb.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/store_int.h"
#include "tests/unit/memory_store.h"

#define NOW 1000000
#define LEASE 60000
#define KEEP 5000000
#define THREADS 16

static struct store *store;

/* Instances "one", "two" … of epochs 1, 2 …; one process plays them all. */
static int
add_instances(struct db_conn *conn, void *arg, struct cc_err *err)
{
    (void)arg;
    return db_exec(conn,
            "INSERT INTO store_instance (epoch, name, host, alive, lease_until_ms, commits,"
            " joined_ms) VALUES (1, 'one', '', 1, 9999999999999, 0, 0),"
            " (2, 'two', '', 1, 9999999999999, 0, 0), (3, 'three', '', 1, 9999999999999, 0, 0)",
            DB_NO_PARAMS, NULL, err);
}

static int
end_instance(struct db_conn *conn, void *arg, struct cc_err *err)
{
    const int64_t *epoch = arg;

    return db_exec(conn, "UPDATE store_instance SET alive = 0 WHERE epoch = $1",
            DB_PARAMS(DB_INT(*epoch)), NULL, err);
}

static void
be(const char *name)
{
    const int64_t epoch = strcmp(name, "one") == 0 ? 1 : strcmp(name, "two") == 0 ? 2 : 3;

    /* Threads that are one instance only read it. */
    if (store->epoch != epoch)
        store->epoch = epoch;
}

static int
setup(void **state)
{
    (void)state;
    if (store_open(memory_store(), &store, NULL) != 0)
        return -1;
    be("one");
    return db_write(store->db, add_instances, NULL, NULL);
}

static int
teardown(void **state)
{
    (void)state;
    store_close(store);
    return 0;
}

/* ---- rows ---- */

struct id {
    uint8_t bytes[SCEPDB_ID_LEN];
};

static struct cc_bytes
id_of(struct id *id, char name)
{
    memset(id->bytes, name, sizeof(id->bytes));
    return (struct cc_bytes){ id->bytes, sizeof(id->bytes) };
}

/* A copy of what a callback saw. */
struct seen {
    unsigned calls;
    bool ours;
    enum scepdb_state state;
    enum scepdb_notify notify;
    char transaction_id[32], pending[32], certificate[32], csr[32], detail[32];
    int fail_info;
    unsigned attempts;
    int64_t expires_ms;
    uint32_t hresult;
};

static void
copy(char *to, size_t size, struct cc_bytes from)
{
    (void)snprintf(to, size, "%.*s", (int)from.len, from.len > 0 ? (const char *)from.data : "");
}

static int
see(void *arg, const struct scepdb_row *row)
{
    struct seen *seen = arg;

    seen->calls++;
    seen->state = row->state;
    seen->notify = row->notify;
    seen->fail_info = row->fail_info;
    seen->attempts = row->attempts;
    seen->expires_ms = row->expires_ms;
    seen->hresult = row->hresult;
    (void)snprintf(seen->transaction_id, sizeof(seen->transaction_id), "%s", row->transaction_id);
    seen->ours = row->ours;
    (void)snprintf(seen->pending, sizeof(seen->pending), "%s",
            row->pending != NULL ? row->pending : "");
    (void)snprintf(seen->detail, sizeof(seen->detail), "%s",
            row->detail != NULL ? row->detail : "");
    copy(seen->certificate, sizeof(seen->certificate), row->certificate);
    copy(seen->csr, sizeof(seen->csr), row->csr);
    return 0;
}

static enum scepdb_claim
claim_as(char name, const char *challenge, const char *owner, int64_t now_ms, struct seen *seen)
{
    struct id id, key;
    const struct scepdb_row row = {
        .id = id_of(&id, name),
        .profile = "corp",
        .transaction_id = "transaction",
        .key_hash = id_of(&key, 'k'),
        .ca = "ca",
        .ca_request_id = "scep/id",
        .csr = cc_bytes_of_str("sealed"),
        .received_ms = now_ms,
        .expires_ms = now_ms + KEEP,
    };
    const struct scepdb_claiming claiming = {
        .row = &row,
        .challenge = challenge != NULL ? cc_bytes_of_str(challenge) : (struct cc_bytes){ NULL, 0 },
        .challenge_expires_ms = now_ms + KEEP,
        .now_ms = now_ms,
        .lease_until_ms = now_ms + LEASE,
    };
    enum scepdb_claim claim = SCEPDB_BUSY;

    be(owner);
    assert_int_equal(scepdb_claim(store, &claiming, &claim, see, seen, NULL), 0);
    return claim;
}

static struct seen
look(char name)
{
    struct seen seen = { .calls = 0 };
    struct id id;

    assert_int_equal(scepdb_find(store, id_of(&id, name), see, &seen, NULL), 0);
    return seen;
}

static int
end(char name, const char *owner, const char *certificate, enum scepdb_notify notify)
{
    struct id id;
    const struct scepdb_ending ending = {
        .certificate =
                certificate != NULL ? cc_bytes_of_str(certificate) : (struct cc_bytes){ NULL, 0 },
        .fail_info = certificate != NULL ? 0 : 2,
        .detail = certificate != NULL ? NULL : "no",
        .hresult = certificate != NULL ? 0 : 0x80094014U,
        .notify = notify,
        .next_ms = NOW + 500,
        .expires_ms = NOW + KEEP,
    };

    be(owner);
    return scepdb_end(store, id_of(&id, name), &ending, NULL);
}

static int
pend(char name, const char *owner, const char *pending)
{
    struct id id;

    be(owner);
    return scepdb_pending(store, id_of(&id, name), pending, NULL);
}

static bool
take(char name, const char *owner, int64_t now_ms)
{
    struct id id;
    bool ours = false;

    be(owner);
    assert_int_equal(scepdb_take(store, id_of(&id, name), now_ms, now_ms + LEASE, &ours, NULL), 0);
    return ours;
}

static void
settle(char name, bool failed, bool take_back)
{
    struct id id;
    const struct scepdb_settled settled = {
        .id = id_of(&id, name),
        .failed = failed,
        .take_back = take_back,
        .fail_info = 2,
    };

    assert_int_equal(scepdb_settle(store, &settled, 1, NULL), 0);
}

static struct scepdb_counts
count(void)
{
    struct scepdb_counts counts;

    assert_int_equal(scepdb_count(store, &counts, NULL), 0);
    return counts;
}

/* ---- tests ---- */

static void
test_claim(void **state)
{
    struct seen seen = { .calls = 0 };

    (void)state;
    assert_int_equal(claim_as('a', "secret", "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(seen.calls, 0);
    seen = look('a');
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.state, SCEPDB_CLAIMED);
    assert_int_equal(seen.notify, SCEPDB_NOTIFY_NONE);
    assert_string_equal(seen.transaction_id, "transaction");
    assert_true(seen.ours);
    assert_string_equal(seen.csr, "sealed");
    assert_int_equal(look('b').calls, 0);

    /* The same again is the instance's own; another one waits for the lease. */
    assert_int_equal(claim_as('a', "secret", "one", NOW + 1, &seen), SCEPDB_TAKEN);
    assert_int_equal(claim_as('a', "secret", "two", NOW + 2, &seen), SCEPDB_BUSY);
    assert_int_equal(seen.state, SCEPDB_CLAIMED);
    assert_int_equal(claim_as('a', "secret", "two", NOW + 3 * LEASE, &seen), SCEPDB_TAKEN);
    assert_true(look('a').ours);
    assert_int_equal(claim_as('a', "secret", "one", NOW + 3 * LEASE, &seen), SCEPDB_BUSY);
}

static void
test_challenge_is_spent_once(void **state)
{
    struct seen seen = { .calls = 0 };
    bool more;

    (void)state;
    assert_int_equal(claim_as('a', "secret", "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(claim_as('b', "secret", "one", NOW, &seen), SCEPDB_SPENT);
    assert_int_equal(look('b').calls, 0);
    assert_int_equal(claim_as('b', "another", "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(claim_as('c', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(claim_as('d', NULL, "one", NOW, &seen), SCEPDB_NEW);

    /* Also when its row is long gone, as long as it is remembered. */
    assert_int_equal(end('a', "one", "certificate", SCEPDB_NOTIFY_EVENT), 0);
    settle('a', false, false);
    assert_int_equal(scepdb_prune(store, NOW + KEEP, 10, &more, NULL), 0);
    assert_int_equal(look('a').calls, 1);
    assert_int_equal(claim_as('e', "secret", "one", NOW + KEEP, &seen), SCEPDB_SPENT);
    assert_int_equal(scepdb_prune(store, NOW + KEEP + 1, 10, &more, NULL), 0);
    assert_false(more);
    assert_int_equal(look('a').calls, 0);
    assert_int_equal(look('b').calls, 1); /* open rows stay */
    assert_int_equal(claim_as('e', "secret", "one", NOW + KEEP + 2, &seen), SCEPDB_NEW);
}

static void
test_issued(void **state)
{
    struct seen seen = { .calls = 0 };

    (void)state;
    assert_int_equal(claim_as('a', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(count().claimed, 1);
    assert_int_equal(count().oldest_open_ms, NOW);
    assert_int_equal(end('a', "two", "certificate", SCEPDB_NOTIFY_DUE), -1); /* not his */
    assert_int_equal(end('a', "one", "certificate", SCEPDB_NOTIFY_DUE), 0);
    assert_int_equal(end('a', "one", "certificate", SCEPDB_NOTIFY_DUE), -1); /* not twice */
    assert_int_equal(count().claimed, 0);
    assert_int_equal(count().due, 1);
    assert_int_equal(claim_as('a', NULL, "one", NOW, &seen), SCEPDB_KNOWN);
    assert_int_equal(seen.state, SCEPDB_ISSUED);
    assert_string_equal(seen.certificate, "certificate");
    settle('a', false, false);
    seen = look('a');
    assert_int_equal(seen.notify, SCEPDB_NOTIFY_CLOSED);
    assert_string_equal(seen.csr, "");
    settle('a', false, false); /* changes nothing, counts nothing */
    assert_int_equal(count().succeeded, 1);
    assert_int_equal(count().failed, 0);
    assert_int_equal(count().due, 0);
    assert_int_equal(count().oldest_open_ms, 0);
}

static void
test_failed_and_taken_back(void **state)
{
    struct seen seen = { .calls = 0 };

    (void)state;
    assert_int_equal(claim_as('a', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('a', "one", NULL, SCEPDB_NOTIFY_DUE), 0);
    seen = look('a');
    assert_int_equal(seen.state, SCEPDB_FAILED);
    assert_int_equal(seen.fail_info, 2);
    assert_int_equal(seen.hresult, 0x80094014U);
    assert_string_equal(seen.detail, "no");
    settle('a', false, false);

    assert_int_equal(claim_as('b', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('b', "one", "certificate", SCEPDB_NOTIFY_DUE), 0);
    settle('b', true, true);
    seen = look('b');
    assert_int_equal(seen.state, SCEPDB_FAILED);
    assert_int_equal(seen.fail_info, 2);
    assert_string_equal(seen.certificate, "");

    assert_int_equal(claim_as('c', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('c', "one", "certificate", SCEPDB_NOTIFY_DUE), 0);
    settle('c', true, false);
    assert_int_equal(look('c').state, SCEPDB_ISSUED);
    assert_int_equal(count().succeeded, 0);
    assert_int_equal(count().failed, 3);
}

static void
test_pending(void **state)
{
    struct seen seen = { .calls = 0 };
    struct id key;

    (void)state;
    assert_int_equal(claim_as('a', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(pend('a', "two", "ticket"), -1);
    assert_int_equal(pend('a', "one", "ticket"), 0);
    assert_int_equal(count().pending, 1);
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(scepdb_find_transaction(store, "corp", "transaction", id_of(&key, 'k'), see,
                             &seen, NULL),
            0);
    assert_int_equal(seen.calls, 1);
    assert_string_equal(seen.pending, "ticket");
    assert_int_equal(scepdb_find_transaction(store, "corp", "transaction", id_of(&key, 'x'), see,
                             &seen, NULL),
            0);
    assert_int_equal(scepdb_find_transaction(store, "lab", "transaction", id_of(&key, 'k'), see,
                             &seen, NULL),
            0);
    assert_int_equal(seen.calls, 1);

    /* Any instance may go on with it, one at a time. */
    assert_true(take('a', "two", NOW));
    assert_false(take('a', "one", NOW));
    assert_int_equal(end('a', "two", "certificate", SCEPDB_NOTIFY_EVENT), 0);
    assert_false(take('a', "two", NOW));
}

static void
gone(int64_t epoch)
{
    assert_int_equal(db_write(store->db, end_instance, &epoch, NULL), 0);
}

static int64_t
adopt_as(const char *name)
{
    int64_t count = -1;

    be(name);
    assert_int_equal(scepdb_adopt(store, &count, NULL), 0);
    return count;
}

static void
test_what_an_instance_left_is_adopted(void **state)
{
    struct seen seen = { .calls = 0 };
    int64_t next_ms;

    (void)state;
    assert_int_equal(claim_as('a', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(claim_as('b', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('b', "one", "certificate", SCEPDB_NOTIFY_DUE), 0);
    assert_int_equal(claim_as('c', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('c', "one", "certificate", SCEPDB_NOTIFY_EVENT), 0);
    assert_int_equal(claim_as('d', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('d', "one", "certificate", SCEPDB_NOTIFY_EVENT), 0);
    settle('d', false, false);
    assert_int_equal(adopt_as("two"), 0);
    assert_false(take('a', "two", NOW));

    /* Whether the admin event of one stands is known to its own log alone. */
    gone(1);
    assert_int_equal(adopt_as("two"), 2);
    assert_true(look('a').ours && look('b').ours);
    assert_false(look('c').ours || look('d').ours);
    assert_int_equal(adopt_as("three"), 0);
    be("two");
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(scepdb_walk_due(store, NOW, 10, see, &seen, &next_ms, NULL), 0);
    assert_int_equal(seen.calls, 1); /* told at once */

    /* Who was away writes nothing more to it. */
    assert_int_equal(end('a', "one", "late", SCEPDB_NOTIFY_DUE), -1);
    assert_int_equal(end('a', "two", "certificate", SCEPDB_NOTIFY_DUE), 0);
    /* A later run of the first. */
    be("three");
    free(store->name);
    store->name = strdup("one");
    assert_int_equal(adopt_as("three"), 1);
    assert_true(look('c').ours);
}

static void
test_told_once(void **state)
{
    struct seen seen = { .calls = 0 };
    struct id id;
    const struct scepdb_settled told = { .id = id_of(&id, 'a') };
    const struct scepdb_settled refused = { .id = id_of(&id, 'a'),
        .take_back = true,
        .fail_info = 2 };
    bool ours = false;

    (void)state;
    assert_int_equal(claim_as('a', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('a', "one", "certificate", SCEPDB_NOTIFY_DUE), 0);
    be("two");
    assert_int_equal(scepdb_told(store, &told, 1, &ours, NULL), 0);
    assert_false(ours);
    be("one");
    assert_int_equal(scepdb_told(store, &refused, 1, &ours, NULL), 0);
    assert_true(ours);
    assert_int_equal(look('a').notify, SCEPDB_NOTIFY_EVENT);
    assert_int_equal(look('a').state, SCEPDB_FAILED);
    assert_int_equal(scepdb_told(store, &told, 1, &ours, NULL), 0);
    assert_false(ours);
}

static void
test_newest_of_a_transaction(void **state)
{
    struct seen seen = { .calls = 0 };
    struct id key;

    (void)state;
    assert_int_equal(claim_as('a', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('a', "one", "first", SCEPDB_NOTIFY_EVENT), 0);
    assert_int_equal(claim_as('b', NULL, "one", NOW + 1, &seen), SCEPDB_NEW);
    assert_int_equal(end('b', "one", "second", SCEPDB_NOTIFY_EVENT), 0);
    assert_int_equal(scepdb_find_transaction(store, "corp", "transaction", id_of(&key, 'k'), see,
                             &seen, NULL),
            0);
    assert_string_equal(seen.certificate, "second");
}

static void
test_outbox(void **state)
{
    struct seen seen = { .calls = 0 };
    struct id id;
    int64_t next = -1;

    (void)state;
    assert_int_equal(scepdb_walk_due(store, NOW, 10, see, &seen, &next, NULL), 0);
    assert_int_equal(next, 0);
    for (char name = 'a'; name <= 'c'; name++) {
        assert_int_equal(claim_as(name, NULL, "one", NOW, &seen), SCEPDB_NEW);
        assert_int_equal(end(name, "one", "certificate", SCEPDB_NOTIFY_DUE), 0);
    }
    assert_int_equal(scepdb_walk_due(store, NOW, 10, see, &seen, &next, NULL), 0);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(next, NOW + 500);
    assert_int_equal(scepdb_walk_due(store, NOW + 500, 2, see, &seen, &next, NULL), 0);
    assert_int_equal(seen.calls, 2);
    assert_int_equal(scepdb_tell_later(store, id_of(&id, 'a'), NOW + 9000, NULL), 0);
    assert_int_equal(look('a').attempts, 1);
    settle('b', false, false);
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(scepdb_walk_due(store, NOW + 500, 10, see, &seen, &next, NULL), 0);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(next, NOW + 9000);
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(scepdb_walk_open(store, see, &seen, NULL), 0);
    assert_int_equal(seen.calls, 2);
}

struct racer {
    pthread_t thread;
    char name;
    enum scepdb_claim claim;
};

static void *
race(void *arg)
{
    struct racer *racer = arg;
    struct seen seen = { .calls = 0 };

    racer->claim = claim_as(racer->name, "secret", "one", NOW, &seen);
    return NULL;
}

/* The whole story of a transaction, whoever signed; and by the id at the CA. */
static void
test_search(void **state)
{
    struct seen seen = { .calls = 0 };

    (void)state;
    assert_int_equal(claim_as('a', NULL, "one", NOW, &seen), SCEPDB_NEW);
    assert_int_equal(end('a', "one", "first", SCEPDB_NOTIFY_EVENT), 0);
    assert_int_equal(claim_as('b', NULL, "two", NOW + 1, &seen), SCEPDB_NEW);
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(scepdb_search(store, "transaction", NULL, see, &seen, NULL), 0);
    assert_int_equal(seen.calls, 2);
    assert_int_equal(seen.state, SCEPDB_CLAIMED);
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(scepdb_search(store, "another", NULL, see, &seen, NULL), 0);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(scepdb_search(store, "another", "scep/id", see, &seen, NULL), 0);
    assert_true(seen.calls > 0);
}

static void
test_one_of_many(void **state)
{
    struct racer racers[THREADS];
    unsigned winners = 0;

    (void)state;
    be("one");
    for (int i = 0; i < THREADS; i++) {
        racers[i].name = (char)('a' + i);
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(racers[i].thread, NULL);
        winners += racers[i].claim == SCEPDB_NEW;
        assert_true(racers[i].claim == SCEPDB_NEW || racers[i].claim == SCEPDB_SPENT);
    }
    assert_int_equal(winners, 1);
    assert_int_equal(count().claimed, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_claim, setup, teardown),
        cmocka_unit_test_setup_teardown(test_challenge_is_spent_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_issued, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_and_taken_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_an_instance_left_is_adopted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newest_of_a_transaction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outbox, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_of_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_search, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
