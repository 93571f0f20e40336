/* SPDX-License-Identifier: MIT */
#ifndef TENANT_WAIT_H
#define TENANT_WAIT_H

/* Condition variables with deadlines of cc_clock_mono_ms(). */

#include <pthread.h>
#include <stdint.h>

void wait_init(pthread_cond_t *cond);

/* With the lock; may also return early. */
void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline);

#endif
