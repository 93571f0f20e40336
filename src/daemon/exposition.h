/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_EXPOSITION_H
#define DAEMON_EXPOSITION_H

/*
 * Writes Prometheus' text format, version 0.0.4: families one after the other, each begun with its help and its type.
 * Names get the prefix "certconnector_" unless they begin with "process_".  A failure (no memory, the ceiling) is
 * remembered and told at the end.
 */

#include <stdbool.h>

#include "base/buf.h"
#include "base/histogram.h"

enum exposition_type { EXPOSITION_COUNTER, EXPOSITION_GAUGE, EXPOSITION_HISTOGRAM };

struct exposition {
    struct cc_buf *buf;
    char name[96]; /* of the family that was begun last */
    bool failed;
};

#define EXPOSITION_INIT(target) ((struct exposition){ .buf = (target) })

/* help is one line; names of counters end in _total, and units are seconds and bytes. */
void exposition_begin(struct exposition *e, const char *name, enum exposition_type type,
        const char *help);

/* One sample of the family: label names and values by turns, ended by NULL. */
void exposition_put(struct exposition *e, double value, ...) __attribute__((sentinel));

/* The same of a histogram: its buckets, sum and count. */
void exposition_put_histogram(struct exposition *e, const struct cc_histogram_values *values, ...)
        __attribute__((sentinel));

#endif
