/* SPDX-License-Identifier: MIT */
#include "base/cond.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>

#include <cmocka.h>

#include "base/clock.h"

static void
a_time_lies_ahead_by_what_was_asked(void **state)
{
    static const int64_t cases[] = { 0, 1, 999, 1000, 1001, 86400000 };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct timespec before, at, after;
        int64_t least, most;

        (void)clock_gettime(CLOCK_MONOTONIC, &before);
        at = cc_cond_time(cases[i]);
        (void)clock_gettime(CLOCK_MONOTONIC, &after);
        assert_in_range(at.tv_nsec, 0, 999999999);
        least = (at.tv_sec - after.tv_sec) * 1000000000 + at.tv_nsec - after.tv_nsec;
        most = (at.tv_sec - before.tv_sec) * 1000000000 + at.tv_nsec - before.tv_nsec;
        assert_true(least <= cases[i] * 1000000 && cases[i] * 1000000 <= most);
    }
    assert_true(cc_cond_time(-5).tv_sec <= cc_cond_time(0).tv_sec);
}

static void
a_wait_ends_by_itself_though_the_clock_stands_still(void **state)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;

    (void)state;
    assert_int_equal(cc_cond_init(&cond, NULL), 0);
    cc_clock_set(1, 1);
    (void)pthread_mutex_lock(&lock);
    cc_cond_wait(&cond, &lock, 10);
    (void)pthread_mutex_unlock(&lock);
    cc_clock_real();
    (void)pthread_cond_destroy(&cond);
}

struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool come;
};

static void *
come(void *arg)
{
    struct meeting *meeting = arg;

    (void)pthread_mutex_lock(&meeting->lock);
    meeting->come = true;
    (void)pthread_cond_signal(&meeting->cond);
    (void)pthread_mutex_unlock(&meeting->lock);
    return NULL;
}

static void
a_wait_ends_when_signalled(void **state)
{
    struct meeting meeting = { .lock = PTHREAD_MUTEX_INITIALIZER };
    pthread_t thread;

    (void)state;
    assert_int_equal(cc_cond_init(&meeting.cond, NULL), 0);
    (void)pthread_mutex_lock(&meeting.lock);
    assert_int_equal(pthread_create(&thread, NULL, come, &meeting), 0);
    while (!meeting.come)
        cc_cond_wait(&meeting.cond, &meeting.lock, 3600000);
    (void)pthread_mutex_unlock(&meeting.lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)pthread_cond_destroy(&meeting.cond);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_time_lies_ahead_by_what_was_asked),
        cmocka_unit_test(a_wait_ends_by_itself_though_the_clock_stands_still),
        cmocka_unit_test(a_wait_ends_when_signalled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
