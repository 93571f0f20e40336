/* SPDX-License-Identifier: MIT */
#include "tenant/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

static void
sessions_end(void **state)
{
    struct sessions *sessions = NULL;
    char first[AUTH_TOKEN_LEN], second[AUTH_TOKEN_LEN];

    (void)state;
    cc_clock_set(1000, 1000);
    assert_int_equal(sessions_open(&sessions, NULL), 0);
    assert_int_equal(session_begin(sessions, first, NULL), 0);
    cc_clock_set(2000, 2000);
    assert_int_equal(session_begin(sessions, second, NULL), 0);
    assert_string_not_equal(first, second);
    assert_true(session_is_good(sessions, first));
    assert_false(session_is_good(sessions, ""));
    assert_false(session_is_good(sessions, "x"));
    /* Eight hours later, whatever the wall says. */
    cc_clock_set(0, 1000 + (int64_t)SESSION_LIFE_S * 1000);
    assert_false(session_is_good(sessions, first));
    assert_true(session_is_good(sessions, second));
    session_end(sessions, first);
    session_end(sessions, second);
    assert_false(session_is_good(sessions, second));
    sessions_close(sessions);
    sessions_close(NULL);
    cc_clock_real();
}

static void
the_oldest_makes_room(void **state)
{
    struct sessions *sessions = NULL;
    char names[SESSIONS_MAX + 1][AUTH_TOKEN_LEN];

    (void)state;
    assert_int_equal(sessions_open(&sessions, NULL), 0);
    for (int i = 0; i <= SESSIONS_MAX; i++) {
        cc_clock_set(0, 1000 + i);
        assert_int_equal(session_begin(sessions, names[i], NULL), 0);
    }
    for (int i = 0; i <= SESSIONS_MAX; i++)
        assert_int_equal(session_is_good(sessions, names[i]), i > 0);
    sessions_close(sessions);
    cc_clock_real();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_end),
        cmocka_unit_test(the_oldest_makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
