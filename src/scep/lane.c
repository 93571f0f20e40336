/* SPDX-License-Identifier: MIT */
#include "lane.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/breaker.h"

struct lane {
    struct lane_visits parked;
    unsigned parked_count;
    unsigned working;
    int64_t moved; /* when it last began from nothing, or a message of it ended */
    struct cc_breaker breaker;
};

struct lanes {
    pthread_mutex_t lock; /* guards all of each lane, and next */
    unsigned workers, count;
    unsigned next; /* the lane that is looked at first, so that none is always last */
    struct lane lane[];
};

struct lanes *
lanes_new(unsigned workers, unsigned count, struct cc_err *err)
{
    struct lanes *lanes = calloc(1, sizeof(*lanes) + count * sizeof(lanes->lane[0]));

    if (lanes == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    (void)pthread_mutex_init(&lanes->lock, NULL);
    lanes->workers = workers > 0 ? workers : 1;
    lanes->count = count;
    for (unsigned i = 0; i < count; i++)
        STAILQ_INIT(&lanes->lane[i].parked);
    return lanes;
}

void
lanes_free(struct lanes *lanes)
{
    if (lanes == NULL)
        return;
    pthread_mutex_destroy(&lanes->lock);
    free(lanes);
}

unsigned
lanes_threads(const struct lanes *lanes)
{
    return lanes->workers - 1 + lanes->count;
}

/* LOCKED: all below. */

static bool
has_worker(const struct lanes *lanes, const struct lane *lane)
{
    unsigned shared = 0;

    if (lane->working == 0)
        return true;
    for (unsigned i = 0; i < lanes->count; i++)
        if (lanes->lane[i].working > 0)
            shared += lanes->lane[i].working - 1;
    return shared < lanes->workers - 1;
}

/* Of a single lane nobody else suffers, and of a single worker one slow message is no sign. */
static bool
hangs(const struct lanes *lanes, const struct lane *lane, int64_t now)
{
    return lanes->count > 1 && lane->working > 1 && now - lane->moved >= LANE_HANGS_MS;
}

static void
begin(struct lane *lane, int64_t now)
{
    if (lane->working++ == 0)
        lane->moved = now;
}

static enum lane_entry
enter_locked(struct lanes *lanes, struct lane_visit *visit, int64_t now)
{
    struct lane *lane = &lanes->lane[visit->lane];

    if (hangs(lanes, lane, now))
        return LANE_BUSY;
    if (has_worker(lanes, lane)) {
        if (!cc_breaker_begin(&lane->breaker, now))
            return LANE_BUSY;
        begin(lane, now);
        return LANE_GO;
    }
    if (cc_breaker_is_open(&lane->breaker) || lane->parked_count >= LANE_PARKED_MAX)
        return LANE_BUSY;
    lane->parked_count++;
    STAILQ_INSERT_TAIL(&lane->parked, visit, next);
    return LANE_PARKED;
}

static void
refuse_all(struct lane *lane, struct lane_visits *ret_refused)
{
    STAILQ_CONCAT(ret_refused, &lane->parked);
    lane->parked_count = 0;
}

/* Lanes take turns. */
static struct lane_visit *
take_parked(struct lanes *lanes, int64_t now)
{
    for (unsigned i = 0; i < lanes->count; i++) {
        const unsigned number = (lanes->next + i) % lanes->count;
        struct lane *lane = &lanes->lane[number];
        struct lane_visit *visit = STAILQ_FIRST(&lane->parked);

        if (visit == NULL || !has_worker(lanes, lane) || !cc_breaker_begin(&lane->breaker, now))
            continue;
        STAILQ_REMOVE_HEAD(&lane->parked, next);
        lane->parked_count--;
        begin(lane, now);
        lanes->next = (number + 1) % lanes->count;
        return visit;
    }
    return NULL;
}

/* ---- */

enum lane_entry
lanes_enter(struct lanes *lanes, struct lane_visit *visit, int64_t now)
{
    enum lane_entry entry;

    pthread_mutex_lock(&lanes->lock);
    entry = enter_locked(lanes, visit, now);
    pthread_mutex_unlock(&lanes->lock);
    return entry;
}

struct lane_visit *
lanes_leave(struct lanes *lanes, unsigned number, enum lane_verdict verdict, int64_t now,
        struct lane_visits *ret_refused, bool *ret_turned)
{
    struct lane *lane = &lanes->lane[number];
    struct lane_visit *next;

    *ret_turned = false;
    STAILQ_INIT(ret_refused);
    pthread_mutex_lock(&lanes->lock);
    lane->working--;
    lane->moved = now;
    if (verdict == LANE_NOTHING)
        cc_breaker_cancel(&lane->breaker);
    else
        *ret_turned = cc_breaker_end(&lane->breaker, verdict == LANE_ANSWERED, now);
    if (cc_breaker_is_open(&lane->breaker))
        refuse_all(lane, ret_refused);
    next = take_parked(lanes, now);
    pthread_mutex_unlock(&lanes->lock);
    return next;
}
