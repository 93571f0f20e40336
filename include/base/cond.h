/* SPDX-License-Identifier: MIT */
#ifndef BASE_COND_H
#define BASE_COND_H

/*
 * Condition variables whose waits have an end.  They wait by the monotonic clock as it really runs, whatever a test did
 * to base/clock.  As with all condition variables a wait may end early: callers look at what they wait for again.
 */

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "base/compiler.h"
#include "base/err.h"

/* pthread_cond_destroy() undoes it. */
CC_MUST int cc_cond_init(pthread_cond_t *cond, struct cc_err *err);

/* The end of a wait of ms milliseconds from now, for pthread_cond_timedwait() in a loop. */
struct timespec cc_cond_time(int64_t ms);

/* With the lock held: waits until signalled, and at most ms milliseconds. */
void cc_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms);

#endif
