/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/breaker.h"

#define START 1000000

static void
fail_many(struct cc_breaker *breaker, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_true(cc_breaker_begin(breaker, START));
        assert_false(cc_breaker_end(breaker, false, START));
    }
}

static void
test_opens_after_failures_in_a_row(void **state)
{
    struct cc_breaker breaker = { .failures = 0 };

    (void)state;
    fail_many(&breaker, CC_BREAKER_FAILURES - 1);
    assert_true(cc_breaker_begin(&breaker, START));
    assert_false(cc_breaker_end(&breaker, true, START));
    fail_many(&breaker, CC_BREAKER_FAILURES - 1);
    assert_false(cc_breaker_is_open(&breaker));
    assert_true(cc_breaker_begin(&breaker, START));
    assert_true(cc_breaker_end(&breaker, false, START));
    assert_true(cc_breaker_is_open(&breaker));
}

/* One call at a time, and none before its time has come, which comes later each time. */
static void
test_is_probed_until_answered(void **state)
{
    struct cc_breaker breaker = { .failures = CC_BREAKER_FAILURES, .probe_at = START };
    int64_t now = START, longest = 0;

    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_false(cc_breaker_begin(&breaker, now - 1));
        assert_true(cc_breaker_begin(&breaker, now));
        assert_false(cc_breaker_begin(&breaker, now));
        assert_false(cc_breaker_end(&breaker, false, now));
        assert_in_range(breaker.probe_at - now, 1, CC_BREAKER_RETRY_MAX_MS);
        if (breaker.probe_at - now > longest)
            longest = breaker.probe_at - now;
        now = breaker.probe_at;
    }
    assert_true(longest > CC_BREAKER_RETRY_MS);
    assert_true(cc_breaker_begin(&breaker, now));
    assert_true(cc_breaker_end(&breaker, true, now));
    assert_false(cc_breaker_is_open(&breaker));
    assert_true(cc_breaker_begin(&breaker, now));
    assert_true(cc_breaker_begin(&breaker, now));
}

/* Those that were under way when it opened end one after the other, and then only is it probed. */
static void
test_calls_under_way(void **state)
{
    struct cc_breaker breaker = { .failures = 0 };
    unsigned told = 0;

    (void)state;
    for (int i = 0; i < CC_BREAKER_FAILURES + 3; i++)
        assert_true(cc_breaker_begin(&breaker, START));
    for (int i = 0; i < CC_BREAKER_FAILURES + 2; i++)
        told += cc_breaker_end(&breaker, false, START);
    assert_int_equal(told, 1);
    assert_false(cc_breaker_begin(&breaker, START + 2 * CC_BREAKER_RETRY_MAX_MS));
    cc_breaker_cancel(&breaker);
    assert_true(cc_breaker_begin(&breaker, START + 2 * CC_BREAKER_RETRY_MAX_MS));
    /* A call that says nothing of the peer leaves it as it was. */
    cc_breaker_cancel(&breaker);
    assert_true(cc_breaker_is_open(&breaker));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_after_failures_in_a_row),
        cmocka_unit_test(test_is_probed_until_answered),
        cmocka_unit_test(test_calls_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
