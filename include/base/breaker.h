/* SPDX-License-Identifier: MIT */
#ifndef BASE_BREAKER_H
#define BASE_BREAKER_H

/*
 * Whether a peer that fails is worth asking.
 *
 * After CC_BREAKER_FAILURES calls in a row that failed it is open: the peer is asked by one call at a time, at longer and
 * longer intervals with full jitter, until one is answered.  What counts as an answer is the caller's to say: a refusal
 * is one.
 *
 * Plain values, monotonic times; a lock of the caller's guards it.  All zero: closed.
 */

#include <stdbool.h>
#include <stdint.h>

#define CC_BREAKER_FAILURES 5
#define CC_BREAKER_RETRY_MS 1000
#define CC_BREAKER_RETRY_MAX_MS 10000

struct cc_breaker {
    unsigned failures; /* in a row */
    unsigned calls;    /* under way */
    int64_t probe_at;  /* while open: when the next call may be made */
};

bool cc_breaker_is_open(const struct cc_breaker *breaker);

/* Whether a call may be made now; if so it is counted, and cc_breaker_end() must follow. */
bool cc_breaker_begin(struct cc_breaker *breaker, int64_t now);

/* How a call ended; true when that opened or closed it. */
bool cc_breaker_end(struct cc_breaker *breaker, bool answered, int64_t now);

/* The call came to nothing that says anything of the peer. */
void cc_breaker_cancel(struct cc_breaker *breaker);

#endif
