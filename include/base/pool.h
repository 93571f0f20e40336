/* SPDX-License-Identifier: MIT */
#ifndef BASE_POOL_H
#define BASE_POOL_H

/*
 * A fixed number of worker threads over one bounded queue.
 *
 * cc_pool_submit() fails when the queue is full: the caller decides whether to wait, refuse or ask for less.
 * Any thread may submit, a job too.  Jobs of one pool run in the order of submission, as many at once as there are
 * threads.  cc_pool_close() takes no more jobs, runs those queued, joins the threads and frees.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

struct cc_pool;

typedef void (*cc_job_fn)(void *arg);

/* name: at most 15 bytes, seen in top(1). */
CC_MUST struct cc_pool *cc_pool_open(const char *name, unsigned threads, size_t queue_max,
        struct cc_err *err);

void cc_pool_close(struct cc_pool *pool);

/* false: full or closing; fn was not and will not be called. */
CC_MUST bool cc_pool_submit(struct cc_pool *pool, cc_job_fn fn, void *arg);

/* Jobs queued and not begun. */
size_t cc_pool_queued(struct cc_pool *pool);

/* Waits until nothing is queued or running; false at the deadline (cc_clock_mono_ms). */
CC_MUST bool cc_pool_drain(struct cc_pool *pool, int64_t deadline);

#endif
