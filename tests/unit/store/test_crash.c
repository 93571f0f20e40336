/* SPDX-License-Identifier: MIT */
#include "store/journal.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/db.h"
#include "store/store_int.h"

#define WORKLOAD "pfx-import"
#define BATCH 5
#define ROUNDS 12

static char folder[] = "/tmp/test-store-XXXXXX";
static char path[64];
static char uri[80];

/* What the child says after each call that returned, so that the parent knows what must be there. */
struct promise {
    int round, batch;
    enum journal_state state;
};

static void
promise(int fd, int round, int batch, enum journal_state state)
{
    struct promise p = { round, batch, state };

    if (write(fd, &p, sizeof(p)) != sizeof(p))
        _exit(3);
}

static void
name_request(char *dst, size_t size, int round, int batch, int i)
{
    snprintf(dst, size, "r%d-b%d-%d", round, batch, i);
}

static void
must(int rc)
{
    if (rc != 0)
        _exit(2);
}

/* One batch through all its states. */
static void
work_batch(struct store *store, int fd, int round, int batch)
{
    struct journal_entry entries[BATCH];
    struct journal_report reports[BATCH];
    enum journal_todo todo[BATCH];
    const char *ids[BATCH];
    char names[BATCH][32];

    for (int i = 0; i < BATCH; i++) {
        name_request(names[i], sizeof(names[i]), round, batch, i);
        ids[i] = names[i];
        entries[i] = (struct journal_entry){ .workload = WORKLOAD,
            .request_id = ids[i],
            .request_context = "c",
            .attempt = 1 };
        reports[i] = (struct journal_report){ ids[i], JOURNAL_ACCEPTED };
    }
    must(journal_receive(store, entries, BATCH, todo, NULL));
    promise(fd, round, batch, JOURNAL_RECEIVED);
    for (int i = 0; i < BATCH; i++)
        must(journal_finish(store, WORKLOAD, ids[i], JOURNAL_SUCCEEDED, "{\"r\":1}", NULL, NULL,
                NULL));
    promise(fd, round, batch, JOURNAL_ISSUED);
    must(journal_report(store, WORKLOAD, reports, BATCH, NULL));
    promise(fd, round, batch, JOURNAL_REPORTED);
    must(journal_close(store, WORKLOAD, ids, BATCH, NULL));
    promise(fd, round, batch, JOURNAL_CLOSED);
}

static void
child_main(int fd, int round)
{
    struct store *store = NULL;

    must(store_open(uri, &store, NULL));
    for (int batch = 0;; batch++)
        work_batch(store, fd, round, batch);
}

/* Runs a child until it has promised this many times, then kills it; returns its last promise. */
static struct promise
kill_after(int promises, int round)
{
    struct promise p = { 0 };
    struct promise next;
    int ends[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        child_main(ends[1], round);
        _exit(1);
    }
    close(ends[1]);
    for (int i = 0; i < promises; i++)
        assert_int_equal(read(ends[0], &p, sizeof(p)), sizeof(p));
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    while (read(ends[0], &next, sizeof(next)) == sizeof(next))
        p = next;
    close(ends[0]);
    return p;
}

static int
see_state(void *arg, const struct journal_entry *entry)
{
    *(enum journal_state *)arg = entry->state;
    if (entry->state >= JOURNAL_ISSUED)
        assert_string_equal(entry->result, "{\"r\":1}");
    else
        assert_null(entry->result);
    return 0;
}

static enum journal_state
state_of(struct store *store, int round, int batch, int i)
{
    enum journal_state state = (enum journal_state)0;
    char name[32];

    name_request(name, sizeof(name), round, batch, i);
    assert_int_equal(journal_find(store, WORKLOAD, name, see_state, &state, NULL), 0);
    return state;
}

/* At least what was promised, and of a step in batches all or nothing. */
static void
check_batch(struct store *store, int round, int batch, enum journal_state promised)
{
    enum journal_state first = state_of(store, round, batch, 0);

    assert_true(first >= promised);
    for (int i = 0; i < BATCH; i++) {
        enum journal_state state = state_of(store, round, batch, i);

        assert_true(state >= promised);
        if (promised != JOURNAL_RECEIVED)
            assert_int_equal(state, first);
    }
}

static int
check_integrity(struct db_conn *conn, void *arg, struct cc_err *err)
{
    struct db_rows *rows = NULL;

    (void)arg;
    assert_int_equal(db_query(conn, "PRAGMA integrity_check", DB_NO_PARAMS, &rows, err), 0);
    assert_int_equal(db_next(rows, err), 1);
    assert_string_equal(db_text(rows, 0), "ok");
    db_rows_free(rows);
    return 0;
}

static void
nothing_promised_is_lost_and_nothing_torn(void **state)
{
    struct store *store = NULL;

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        struct promise last = kill_after(1 + round * 3, round);

        assert_int_equal(store_open(uri, &store, NULL), 0);
        assert_int_equal(db_read(store->db, check_integrity, NULL, NULL), 0);
        for (int batch = 0; batch < last.batch; batch++)
            check_batch(store, round, batch, JOURNAL_CLOSED);
        check_batch(store, round, last.batch, last.state);
        /* the batch after it, begun or not, is whole */
        check_batch(store, round, last.batch + 1, (enum journal_state)0);
        store_close(store);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_promised_is_lost_and_nothing_torn),
    };
    static const char *const suffixes[] = { "", "-wal", "-shm" };
    char name[80];
    int rc;

    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof(path), "%s/state.db", folder);
    snprintf(uri, sizeof(uri), "sqlite:%s", path);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < CC_COUNT(suffixes); i++) {
        snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
        (void)unlink(name);
    }
    (void)rmdir(folder);
    return rc;
}
