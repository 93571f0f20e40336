/* SPDX-License-Identifier: MIT */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/*
 * The two clocks, which tests can set, and waiting.
 *
 * Wall time is for what people and peers see; monotonic time for every deadline.  Both in milliseconds.  Any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

/* Milliseconds since 1970-01-01 UTC. */
int64_t cc_clock_now_ms(void);

/* Milliseconds of a clock that only goes forward. */
int64_t cc_clock_mono_ms(void);

/* For tests: both clocks stand still at these values until changed; cc_clock_real() lets them run again. */
void cc_clock_set(int64_t now_ms, int64_t mono_ms);
void cc_clock_real(void);

/* A point in monotonic time ms from now, saturating. */
int64_t cc_deadline_in(int64_t ms);

/* Milliseconds left, 0 when past; never negative, capped to what poll(2) takes. */
int cc_deadline_left(int64_t deadline);

#define CC_TIME_LEN 25 /* "2026-11-01T12:34:56.789Z" and NUL */

/* RFC 3339 in UTC with milliseconds. */
void cc_time_format(int64_t now_ms, char ret_text[CC_TIME_LEN]);

/* Any RFC 3339 time, any offset, any number of fraction digits; -1 with CC_DOM_INPUT. */
CC_MUST int cc_time_parse(const char *text, int64_t *ret_ms, struct cc_err *err);

/*
 * Waiting before the next attempt: full jitter over an exponentially growing span, as in "Exponential Backoff And
 * Jitter".  attempt counts from 0.  Between 1 and min(cap_ms, base_ms << attempt) milliseconds.
 */
int64_t cc_backoff_ms(unsigned attempt, int64_t base_ms, int64_t cap_ms);

/* The same with a random number of the caller's. */
int64_t cc_backoff_of(uint64_t random, unsigned attempt, int64_t base_ms, int64_t cap_ms);

/* How much later than asked for to come: up to as long again, or up to spread_ms where that is more. */
int64_t cc_lateness_ms(int64_t asked_ms, int64_t spread_ms);
int64_t cc_lateness_of(uint64_t random, int64_t asked_ms, int64_t spread_ms);

#endif
