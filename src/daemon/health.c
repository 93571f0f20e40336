/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "intune/queue.h"
#include "store/journal.h"

#define DAY_MS (24 * INT64_C(3600) * 1000)
#define HEALTH_TRIES                                                                               \
    3 /* of a message; each is several attempts already, made one after the other */
#define HEALTH_RETRY_MS 5000

struct health {
    struct daemon *daemon;
    struct intune *intune;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t interval_ms; /* guarded by lock */
    bool stopping;       /* guarded by lock */
    bool ended;          /* guarded by lock */
};

/* ---- a health message ---- */

/* Whether sending the same again soon makes sense. */
static bool
health_may_retry(const struct cc_err *err)
{
    return !(err->domain == CC_DOM_HTTP &&
             (err->code == 400 || err->code == 403 || err->code == 409));
}

static void
health_write_failure(struct health *health, unsigned failures, const struct cc_err *err)
{
    const struct event_fields fields = { .error = err };

    if (failures < HEALTH_TRIES && health_may_retry(err))
        eventlog_write(health->daemon->log, EVENT_HEALTH_MESSAGE_UPLOAD_FAILED_ATTEMPT, &fields,
                "A health message could not be sent and will be tried again: %s", cc_err_text(err));
    else
        eventlog_write(health->daemon->log, EVENT_HEALTH_MESSAGE_UPLOAD_FAILURE, &fields,
                "A health message could not be sent: %s", cc_err_text(err));
}

/* 0 when it was sent, or there is no use in trying again before the next one is due. */
static int
health_send(struct health *health, unsigned failures)
{
    unsigned features;
    json_object *heartbeat = status_build_heartbeat(health->daemon, &features);
    struct intune_lifecycle lifecycle;
    struct event_fields fields = { .duration_ms = cc_clock_mono_ms() };
    struct cc_err err = { 0 };

    if (heartbeat == NULL)
        return -1;
    if (intune_heartbeat(health->intune, heartbeat, &lifecycle, &err) == 0) {
        fields.duration_ms = cc_clock_mono_ms() - fields.duration_ms;
        eventlog_write(health->daemon->log, EVENT_HEALTH_MESSAGE_UPLOAD_SUCCESS, &fields,
                "Sent a health message");
        lifecycle_learn(health->daemon, features, &lifecycle);
        return 0;
    }
    if (err.domain != CC_DOM_CANCELLED)
        health_write_failure(health, failures + 1, &err);
    return health_may_retry(&err) && failures + 1 < HEALTH_TRIES ? -1 : 0;
}

static void
health_prune(struct health *health)
{
    struct cc_err err = { 0 };

    if (journal_prune(health->daemon->store, cc_clock_now_ms() - DAEMON_CLOSED_KEEP_MS, &err) != 0)
        cc_log(CC_LOG_WARNING, "daemon", "pruning the journal: %s", cc_err_text(&err));
}

/* ---- the thread ---- */

/* Waits until the interval, as it is then, or the time before a retry has passed; false: we stop. */
static bool
health_next(struct health *health, int64_t last, bool retry)
{
    bool stopping;

    pthread_mutex_lock(&health->lock);
    while (!health->stopping) {
        bool sooner = retry && HEALTH_RETRY_MS < health->interval_ms;
        int64_t left = last + (sooner ? HEALTH_RETRY_MS : health->interval_ms) - cc_clock_mono_ms();

        if (left <= 0)
            break;
        cc_cond_wait(&health->changed, &health->lock, left);
    }
    stopping = health->stopping;
    pthread_mutex_unlock(&health->lock);
    return !stopping;
}

static void *
health_run(void *arg)
{
    struct health *health = arg;
    int64_t last, prune_at = 0;
    unsigned failures = 0;

    do {
        last = cc_clock_mono_ms();
        failures = health_send(health, failures) == 0 ? 0 : failures + 1;
        if (last >= prune_at) {
            health_prune(health);
            prune_at = last + DAY_MS;
        }
    } while (health_next(health, last, failures > 0));
    (void)health_send(health, HEALTH_TRIES);
    pthread_mutex_lock(&health->lock);
    health->ended = true;
    pthread_cond_signal(&health->changed);
    pthread_mutex_unlock(&health->lock);
    return NULL;
}

/* ---- begin and end ---- */

static int
health_init(struct health *health, struct cc_err *err)
{
    int rc;

    if ((rc = pthread_mutex_init(&health->lock, NULL)) != 0)
        return cc_err_set_errno(err, rc, "lock");
    return cc_cond_init(&health->changed, err);
}

int
health_start(struct daemon *d, struct intune *intune, int64_t interval_ms,
        struct health **ret_health, struct cc_err *err)
{
    struct health *health = calloc(1, sizeof(*health));
    int rc;

    if (health == NULL)
        return cc_err_nomem(err);
    health->daemon = d;
    health->intune = intune;
    health->interval_ms = interval_ms;
    if (health_init(health, err) != 0) {
        free(health);
        return -1;
    }
    if ((rc = pthread_create(&health->thread, NULL, health_run, health)) != 0) {
        pthread_cond_destroy(&health->changed);
        pthread_mutex_destroy(&health->lock);
        free(health);
        return cc_err_set_errno(err, rc, "thread of health messages");
    }
    (void)pthread_setname_np(health->thread, "cc-health");
    *ret_health = health;
    return 0;
}

void
health_set_interval(struct health *health, int64_t interval_ms)
{
    pthread_mutex_lock(&health->lock);
    health->interval_ms = interval_ms;
    pthread_cond_signal(&health->changed);
    pthread_mutex_unlock(&health->lock);
}

/* The last message has a little time; then it is cut. */
static void
health_join(struct health *health)
{
    int64_t deadline = cc_deadline_in(DAEMON_GOODBYE_MS);
    bool ended;

    pthread_mutex_lock(&health->lock);
    while (!health->ended && cc_deadline_left(deadline) > 0)
        cc_cond_wait(&health->changed, &health->lock, cc_deadline_left(deadline));
    ended = health->ended;
    pthread_mutex_unlock(&health->lock);
    if (!ended)
        intune_cancel(health->intune);
    pthread_join(health->thread, NULL);
}

void
health_stop(struct health *health)
{
    if (health == NULL)
        return;
    pthread_mutex_lock(&health->lock);
    health->stopping = true;
    pthread_cond_signal(&health->changed);
    pthread_mutex_unlock(&health->lock);
    health_join(health);
    pthread_cond_destroy(&health->changed);
    pthread_mutex_destroy(&health->lock);
    free(health);
}
