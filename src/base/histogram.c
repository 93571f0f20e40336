/* SPDX-License-Identifier: MIT */
#include "base/histogram.h"

#include <time.h>

#include "base/compiler.h"

/* The same in whole microseconds, so that a duration on a bound is never counted beyond it. */
static const int64_t bounds_us[CC_HISTOGRAM_BOUNDS] = { 1000, 2500, 5000, 10000, 25000, 50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000 };

const double cc_histogram_bounds[CC_HISTOGRAM_BOUNDS] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300 };

void
cc_histogram_add(struct cc_histogram *histogram, int64_t us)
{
    size_t i = 0;

    if (us < 0)
        us = 0;
    while (i < CC_HISTOGRAM_BOUNDS && us > bounds_us[i])
        i++;
    (void)atomic_fetch_add_explicit(&histogram->count[i], 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&histogram->sum_us, (uint64_t)us, memory_order_relaxed);
}

void
cc_histogram_get(struct cc_histogram *histogram, struct cc_histogram_values *ret)
{
    struct cc_histogram_values values = { .total = 0 };

    for (size_t i = 0; i < CC_COUNT(values.count); i++) {
        values.count[i] = atomic_load_explicit(&histogram->count[i], memory_order_relaxed);
        values.total += values.count[i];
    }
    values.sum = (double)atomic_load_explicit(&histogram->sum_us, memory_order_relaxed) / 1e6;
    *ret = values;
}

int64_t
cc_histogram_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void
cc_histogram_add_since(struct cc_histogram *histogram, int64_t began_us)
{
    cc_histogram_add(histogram, cc_histogram_now() - began_us);
}
