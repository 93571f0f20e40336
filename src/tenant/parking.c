/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

/* More than every instance with several polls each; a call beyond it is told to come again. */
#define PARKED_MAX 1000

/* Without a due time this is how long the thread sleeps when nobody wakes it. */
#define IDLE_MS 60000

struct parked {
    struct parked *next;
    struct call *call;
    struct parked_ask ask;
};

struct parking {
    struct tenant_store *store;
    const char *feature;
    parking_try_fn try_fn;
    pthread_t thread;
    bool thread_runs;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct parked *first, **last; /* in order of arrival */
    size_t count;
    bool maybe_work;
    bool stopping;
};

static void
append(struct parking *parking, struct parked *parked)
{
    parked->next = NULL;
    *parking->last = parked;
    parking->last = &parked->next;
    parking->count++;
}

/* Takes out the one that link points to. */
static struct parked *
take(struct parking *parking, struct parked **link)
{
    struct parked *parked = *link;

    *link = parked->next;
    if (parking->last == &parked->next)
        parking->last = link;
    parking->count--;
    return parked;
}

static void
put_back(struct parking *parking, struct parked *parked)
{
    parked->next = parking->first;
    if (parking->first == NULL)
        parking->last = &parked->next;
    parking->first = parked;
    parking->count++;
}

/* One whose time is up, taken out; NULL: none.  *ret_deadline: of the next. */
static struct parked *
take_expired(struct parking *parking, int64_t *ret_deadline)
{
    *ret_deadline = INT64_MAX;
    for (struct parked **link = &parking->first; *link != NULL; link = &(*link)->next) {
        if (parking->stopping || cc_deadline_left((*link)->ask.deadline) == 0)
            return take(parking, link);
        if ((*link)->ask.deadline < *ret_deadline)
            *ret_deadline = (*link)->ask.deadline;
    }
    return NULL;
}

/* Milliseconds until the queue has something by itself. */
static int64_t
until_due(struct parking *parking)
{
    struct cc_err err = { 0 };
    int64_t due_ms, left;

    if (tenant_queue_next_due(parking->store, parking->feature, &due_ms, &err) != 0) {
        cc_log(CC_LOG_ERROR, TENANT_ROOM, "next in the queue: %s", cc_err_text(&err));
        return 1000;
    }
    if (due_ms < 0)
        return IDLE_MS;
    left = due_ms - cc_clock_now_ms();
    return left < 1 ? 1 : left < IDLE_MS ? left : IDLE_MS;
}

/* Work that is leased to one who is gone would wait for the end of its lease. */
static bool
answer(struct parking *parking, struct parked *parked, bool last)
{
    if (http_exchange_alive(parked->call->exchange))
        return parking->try_fn(parked->call, &parked->ask, last);
    call_drop(parked->call);
    return true;
}

/* With the lock, which is let go of meanwhile. */
static void
answer_last(struct parking *parking, struct parked *parked)
{
    pthread_mutex_unlock(&parking->lock);
    (void)answer(parking, parked, true);
    free(parked);
    pthread_mutex_lock(&parking->lock);
}

/* With the lock, which is let go of meanwhile. */
static void
answer_first(struct parking *parking)
{
    struct parked *parked = take(parking, &parking->first);
    bool answered;

    parking->maybe_work = false;
    pthread_mutex_unlock(&parking->lock);
    answered = answer(parking, parked, false);
    if (answered)
        free(parked);
    pthread_mutex_lock(&parking->lock);
    if (!answered)
        put_back(parking, parked);
    else
        parking->maybe_work = true; /* where this came from there may be more */
}

static void *
parking_main(void *arg)
{
    struct parking *parking = arg;
    struct parked *expired;
    int64_t deadline, due;

    pthread_mutex_lock(&parking->lock);
    for (;;) {
        while ((expired = take_expired(parking, &deadline)) != NULL)
            answer_last(parking, expired);
        if (parking->stopping)
            break;
        if (parking->first == NULL) {
            cc_cond_wait(&parking->changed, &parking->lock, IDLE_MS);
            continue;
        }
        if (parking->maybe_work) {
            answer_first(parking);
            continue;
        }
        pthread_mutex_unlock(&parking->lock);
        due = cc_deadline_in(until_due(parking));
        pthread_mutex_lock(&parking->lock);
        if (!parking->maybe_work && !parking->stopping)
            cc_cond_wait(&parking->changed, &parking->lock,
                    cc_deadline_left(due < deadline ? due : deadline));
        if (cc_deadline_left(due) == 0)
            parking->maybe_work = true;
    }
    pthread_mutex_unlock(&parking->lock);
    return NULL;
}

int
parking_open(struct tenant_store *store, const char *feature, parking_try_fn try_fn,
        struct parking **ret_parking, struct cc_err *err)
{
    struct parking *parking = calloc(1, sizeof(*parking));
    int code;

    if (parking == NULL)
        return cc_err_nomem(err);
    parking->store = store;
    parking->feature = feature;
    parking->try_fn = try_fn;
    parking->last = &parking->first;
    if (cc_cond_init(&parking->changed, err) != 0) {
        free(parking);
        return -1;
    }
    pthread_mutex_init(&parking->lock, NULL);

    if ((code = pthread_create(&parking->thread, NULL, parking_main, parking)) != 0) {
        cc_err_set_errno(err, code, "thread for waiting calls");
        parking_close(parking);
        return -1;
    }
    parking->thread_runs = true;
    *ret_parking = parking;
    return 0;
}

void
parking_stop(struct parking *parking)
{
    if (parking == NULL || !parking->thread_runs)
        return;
    pthread_mutex_lock(&parking->lock);
    parking->stopping = true;
    pthread_cond_signal(&parking->changed);
    pthread_mutex_unlock(&parking->lock);
    pthread_join(parking->thread, NULL);
    parking->thread_runs = false;
}

void
parking_close(struct parking *parking)
{
    if (parking == NULL)
        return;
    parking_stop(parking);
    pthread_cond_destroy(&parking->changed);
    pthread_mutex_destroy(&parking->lock);
    free(parking);
}

void
parking_add(struct parking *parking, struct call *call, const struct parked_ask *ask)
{
    struct parked *parked = calloc(1, sizeof(*parked));
    bool full;

    if (parked == NULL) {
        call_reply_busy(call, 503, 1);
        return;
    }
    parked->call = call;
    parked->ask = *ask;

    pthread_mutex_lock(&parking->lock);
    full = parking->stopping || parking->count >= PARKED_MAX;
    if (!full) {
        append(parking, parked);
        /* Work may have come since the call found none. */
        parking->maybe_work = true;
        pthread_cond_signal(&parking->changed);
    }
    pthread_mutex_unlock(&parking->lock);

    if (full) {
        free(parked);
        call_reply_busy(call, 503, 1);
    }
}

void
parking_wake(struct parking *parking)
{
    pthread_mutex_lock(&parking->lock);
    parking->maybe_work = true;
    pthread_cond_signal(&parking->changed);
    pthread_mutex_unlock(&parking->lock);
}

size_t
parking_count(struct parking *parking)
{
    size_t count;

    pthread_mutex_lock(&parking->lock);
    count = parking->count;
    pthread_mutex_unlock(&parking->lock);
    return count;
}
