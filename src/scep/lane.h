/* SPDX-License-Identifier: MIT */
#ifndef SCEP_LANE_H
#define SCEP_LANE_H

/*
 * Messages of different CAs go in lanes, so that a CA that hangs or fails keeps no other's devices waiting.
 *
 * Each lane has a worker of its own, and the others are for who came first.  A message for which there is none is parked
 * without a thread, and taken on by the next worker that is free.  A lane whose CA failed again and again takes one
 * message at a time, at growing intervals, until that works (base/breaker.h); what else comes for it is turned away, and
 * so it is while a lane with several workers has let all of them wait.
 *
 * Any thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/compiler.h"
#include "base/err.h"

#define LANE_PARKED_MAX 1024 /* of each lane */
#define LANE_HANGS_MS 5000   /* without the end of a message */

struct lanes;

/* A message; in the memory of who enters it. */
struct lane_visit {
    STAILQ_ENTRY(lane_visit) next;
    unsigned lane;
};

STAILQ_HEAD(lane_visits, lane_visit);

enum lane_entry {
    LANE_GO,     /* work on it, then lanes_leave() */
    LANE_PARKED, /* not yours any more: some lanes_leave() returns it */
    LANE_BUSY    /* turn it away */
};

enum lane_verdict { LANE_ANSWERED, LANE_FAILED, LANE_NOTHING };

/* Of so many shared workers, one at least; there must be lanes_threads() threads to work. */
CC_MUST struct lanes *lanes_new(unsigned workers, unsigned count, struct cc_err *err);
void lanes_free(struct lanes *lanes); /* accepts NULL */
unsigned lanes_threads(const struct lanes *lanes);

enum lane_entry lanes_enter(struct lanes *lanes, struct lane_visit *visit, int64_t now);

/*
 * A message of this lane is done with.  Returns the parked one that the same worker does next, or NULL.  ret_refused gets
 * those that are to be turned away; *ret_turned: the lane's CA failed once too often by that, or works again.
 */
struct lane_visit *lanes_leave(struct lanes *lanes, unsigned lane, enum lane_verdict verdict,
        int64_t now, struct lane_visits *ret_refused, bool *ret_turned);

#endif
