/* SPDX-License-Identifier: MIT */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

/*
 * How long things take, for monitoring: counts of durations between fixed bounds, the same for all, so that histograms
 * can be added up and compared.  Any thread adds, without a lock; all zero is an empty one.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define CC_HISTOGRAM_BOUNDS 16

/* Seconds, rising; a duration is counted below the first bound that it does not exceed, or beyond the last. */
extern const double cc_histogram_bounds[CC_HISTOGRAM_BOUNDS];

struct cc_histogram {
    atomic_uint_fast64_t count[CC_HISTOGRAM_BOUNDS + 1];
    atomic_uint_fast64_t sum_us;
};

/* A copy that nobody changes. */
struct cc_histogram_values {
    uint64_t count[CC_HISTOGRAM_BOUNDS + 1]; /* of each span alone */
    uint64_t total;                          /* the sum of these */
    double sum;                              /* seconds */
};

/* us: microseconds; less than 0 counts as 0. */
void cc_histogram_add(struct cc_histogram *histogram, int64_t us);
void cc_histogram_get(struct cc_histogram *histogram, struct cc_histogram_values *ret);

/* From a moment of cc_histogram_now() until now. */
int64_t cc_histogram_now(void); /* monotonic microseconds */
void cc_histogram_add_since(struct cc_histogram *histogram, int64_t began_us);

#endif
