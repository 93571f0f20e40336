/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/compiler.h"
#include "base/histogram.h"

static void
test_a_bound_is_in_its_span(void **state)
{
    static const struct {
        int64_t us;
        size_t span;
    } cases[] = { { -5, 0 }, { 0, 0 }, { 1000, 0 }, { 1001, 1 }, { 2500, 1 }, { 999999, 9 },
        { 1000000, 9 }, { 1000001, 10 }, { 300000000, 15 }, { 300000001, 16 },
        { INT64_C(1) << 50, 16 } };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_histogram histogram = { .sum_us = 0 };
        struct cc_histogram_values values;

        cc_histogram_add(&histogram, cases[i].us);
        cc_histogram_get(&histogram, &values);
        assert_int_equal(values.count[cases[i].span], 1);
        assert_int_equal(values.total, 1);
    }
}

static void
test_bounds_rise(void **state)
{
    (void)state;
    for (size_t i = 1; i < CC_HISTOGRAM_BOUNDS; i++)
        assert_true(cc_histogram_bounds[i] > cc_histogram_bounds[i - 1]);
}

#define THREADS 4
#define EACH 20000

static void *
add_many(void *arg)
{
    for (int i = 0; i < EACH; i++)
        cc_histogram_add(arg, i % 2 == 0 ? 500 : 1500000);
    return NULL;
}

static void
test_nothing_is_lost_between_threads(void **state)
{
    struct cc_histogram histogram = { .sum_us = 0 };
    struct cc_histogram_values values;
    pthread_t thread[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, add_many, &histogram), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    cc_histogram_get(&histogram, &values);
    assert_int_equal(values.total, THREADS * EACH);
    assert_int_equal(values.count[0], THREADS * EACH / 2);
    assert_int_equal(values.count[10], THREADS * EACH / 2);
    assert_true(values.sum > 60019.9 && values.sum < 60020.1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bound_is_in_its_span),
        cmocka_unit_test(test_bounds_rise),
        cmocka_unit_test(test_nothing_is_lost_between_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
