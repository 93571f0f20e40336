/* SPDX-License-Identifier: MIT */
#include "base/cond.h"

int
cc_cond_init(pthread_cond_t *cond, struct cc_err *err)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (rc == 0) {
        rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        if (rc == 0)
            rc = pthread_cond_init(cond, &attr);
        (void)pthread_condattr_destroy(&attr);
    }
    return rc == 0 ? 0 : cc_err_set_errno(err, rc, "condition variable");
}

struct timespec
cc_cond_time(int64_t ms)
{
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    if (ms > 0) {
        at.tv_sec += ms / 1000;
        at.tv_nsec += (long)(ms % 1000) * 1000000;
    }
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

void
cc_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms)
{
    const struct timespec until = cc_cond_time(ms);

    (void)pthread_cond_timedwait(cond, lock, &until);
}
