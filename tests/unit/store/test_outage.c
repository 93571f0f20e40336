/* SPDX-License-Identifier: MIT */
#include "store/store.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/journal.h"

#define BIG 200000 /* more than is left on our full disk, and than a probe needs */

static char folder[] = "/tmp/test-outage-XXXXXX";
static char uri[80], log_path[80];
static struct store *store;
static int begun;

static void
on_outage(void *arg)
{
    ++*(int *)arg;
}

static int
setup(void **state)
{
    char path[80];
    struct cc_err err = { 0 };

    (void)state;
    begun = 0;
    (void)snprintf(uri, sizeof(uri), "sqlite:%s/state.db", folder);
    (void)snprintf(log_path, sizeof(log_path), "%s/state.db-wal", folder);
    (void)snprintf(path, sizeof(path), "%s/state.db", folder);
    (void)unlink(path);
    if (store_open(uri, &store, &err) != 0) {
        print_error("%s\n", cc_err_text(&err));
        return -1;
    }
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    store_close(store);
    return 0;
}

/* A disk with this room left behind what is written: a limit of files' sizes is one, too. */
static void
leave_room(long bytes)
{
    struct rlimit limit;
    struct stat st;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(stat(log_path, &st), 0);
    limit.rlim_cur = bytes < 0 ? limit.rlim_max : (rlim_t)(st.st_size + bytes);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static int
put(const char *name, size_t len, struct cc_err *err)
{
    char *value = calloc(1, len + 1);
    int rc;

    assert_non_null(value);
    memset(value, 'v', len);
    rc = store_put_value(store, name, value, err);
    free(value);
    return rc;
}

static void
test_full(void **state)
{
    struct store_state seen;
    struct cc_err err = { 0 };
    char *value = NULL;

    (void)state;
    store_watch(store, on_outage, &begun);
    store_get_state(store, &seen);
    assert_true(seen.usable && seen.since_ms == 0 && seen.outages == 0);

    leave_room(40000);
    assert_int_equal(put("big", BIG, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_false(store_is_usable(store));
    assert_int_equal(begun, 1);
    store_get_state(store, &seen);
    assert_true(!seen.usable && seen.since_ms > 0 && seen.outages == 1);
    assert_int_equal(seen.reason.domain, CC_DOM_STORE);

    /* There is room for small things, which does not end it, and another failure is not another outage. */
    assert_int_equal(put("small", 10, NULL), 0);
    assert_int_equal(put("big", BIG, NULL), -1);
    assert_int_equal(store_probe(store, NULL), -1);
    assert_false(store_is_usable(store));
    assert_int_equal(begun, 1);

    leave_room(-1);
    assert_false(store_is_usable(store));
    assert_int_equal(store_probe(store, NULL), 0);
    assert_true(store_is_usable(store));
    store_get_state(store, &seen);
    assert_true(seen.usable && seen.outages == 1 && seen.reason.domain == CC_DOM_NONE);
    assert_int_equal(put("big", BIG, NULL), 0);
    assert_int_equal(store_get_value(store, "small", &value, NULL), 0);
    assert_string_equal(value, "vvvvvvvvvv");
    free(value);
}

/* What the database does not want is no outage. */
static void
test_refused(void **state)
{
    const struct journal_report report = { "no such request", JOURNAL_ACCEPTED };
    struct cc_err err = { 0 };

    (void)state;
    store_watch(store, on_outage, &begun);
    assert_int_equal(journal_report(store, "pkcs", &report, 1, &err), -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_true(store_is_usable(store));
    assert_int_equal(begun, 0);
}

/* Without somebody who tries again, an outage would last for ever. */
static void
test_nobody_watches(void **state)
{
    (void)state;
    leave_room(40000);
    assert_int_equal(put("big", BIG, NULL), -1);
    assert_true(store_is_usable(store));
    leave_room(-1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_watches, setup, teardown),
    };
    char command[128];
    int failed;

    if (mkdtemp(folder) == NULL || signal(SIGXFSZ, SIG_IGN) == SIG_ERR)
        return 99;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) == 0 ? failed : 99;
}
