/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

/*
 * Watches over what makes work durable, the store and the event log: says when either is out of order, tries it until
 * it works again, and says that.  The workloads take nothing meanwhile; they look for themselves.
 */

#define TRY_MS 500 /* backoff of tries, and where it ends */
#define TRY_MAX_MS 10000
#define CALM_MS 60000 /* what was in order for so long begins anew with the backoff */

/* One of the two. */
struct watched {
    bool said;       /* that it is out of order */
    unsigned tries;  /* kept for a while: what fails again soon is not tried as soon */
    int64_t due;     /* of the next try, monotonic */
    int64_t calm_at; /* monotonic: tries begin anew */
};

struct watch {
    struct daemon *daemon;
    pthread_t thread;
    struct watched store, log; /* the thread's */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool trouble;  /* guarded by lock: something has just gone wrong */
    bool stopping; /* guarded by lock */
};

/* From any thread, with locks of others held. */
static void
on_trouble(void *arg)
{
    struct watch *watch = arg;

    pthread_mutex_lock(&watch->lock);
    watch->trouble = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
}

static void
set_next_try(struct watched *watched)
{
    watched->due = cc_deadline_in(cc_backoff_ms(watched->tries++, TRY_MS, TRY_MAX_MS));
}

static void
begin(struct watched *watched)
{
    if (cc_deadline_left(watched->calm_at) == 0)
        watched->tries = 0;
    watched->said = true;
    set_next_try(watched);
}

static void
end(struct watched *watched)
{
    watched->said = false;
    watched->calm_at = cc_deadline_in(CALM_MS);
}

/* ---- the store ---- */

static void
say_store_lost(struct daemon *d)
{
    struct store_state state;
    const struct event_fields fields = { .error = &state.reason };

    store_get_state(d->store, &state);
    cc_log(CC_LOG_ERROR, "daemon", "state store: %s", cc_err_text(&state.reason));
    eventlog_write(d->log, EVENT_STORE_UNAVAILABLE, &fields,
            "The state store cannot be used; no new work is taken until it can: %s",
            cc_err_text(&state.reason));
}

static void
look_at_store(struct watch *watch)
{
    struct daemon *d = watch->daemon;
    struct cc_err err = { 0 };

    if (!watch->store.said && store_is_usable(d->store))
        return;
    if (!watch->store.said) {
        begin(&watch->store);
        say_store_lost(d);
    }
    if (cc_deadline_left(watch->store.due) > 0)
        return;
    if (store_probe(d->store, &err) != 0) {
        set_next_try(&watch->store);
        return;
    }
    end(&watch->store);
    cc_log(CC_LOG_NOTICE, "daemon", "the state store can be used again");
    eventlog_write(d->log, EVENT_STORE_RECOVERED, NULL, "The state store can be used again");
}

/* ---- the event log; what cannot be written there is kept, and goes to the journal where that runs ---- */

static void
say_log_lost(struct daemon *d)
{
    struct eventlog_state state;
    const struct event_fields fields = { .error = &state.reason };

    eventlog_get_state(d->log, &state);
    eventlog_write(d->log, EVENT_LOG_UNAVAILABLE, &fields,
            "The event log cannot be written; no new work is taken until it can: %s",
            cc_err_text(&state.reason));
}

static void
say_log_recovered(struct daemon *d)
{
    struct eventlog_state state;

    eventlog_get_state(d->log, &state);
    eventlog_write(d->log, EVENT_LOG_RECOVERED, NULL,
            "The event log is written again; %llu events were lost since the start",
            (unsigned long long)state.lost);
}

static void
look_at_log(struct watch *watch)
{
    struct daemon *d = watch->daemon;
    struct cc_err err = { 0 };

    if (!watch->log.said && eventlog_is_usable(d->log))
        return;
    if (!watch->log.said) {
        begin(&watch->log);
        say_log_lost(d);
    }
    if (cc_deadline_left(watch->log.due) > 0)
        return;
    if (eventlog_flush(d->log, &err) != 0) {
        set_next_try(&watch->log);
        return;
    }
    end(&watch->log);
    say_log_recovered(d);
}

/* ---- the thread ---- */

static int64_t
idle_ms(const struct watch *watch)
{
    int64_t ms = INT64_C(3600) * 1000;

    if (watch->store.said && cc_deadline_left(watch->store.due) < ms)
        ms = cc_deadline_left(watch->store.due);
    if (watch->log.said && cc_deadline_left(watch->log.due) < ms)
        ms = cc_deadline_left(watch->log.due);
    return ms;
}

/* Until there is something to look at; false: we stop. */
static bool
wait_trouble(struct watch *watch)
{
    const int64_t until = cc_deadline_in(idle_ms(watch));
    bool go;

    pthread_mutex_lock(&watch->lock);
    while (!watch->stopping && !watch->trouble && cc_deadline_left(until) > 0)
        cc_cond_wait(&watch->changed, &watch->lock, cc_deadline_left(until));
    watch->trouble = false;
    go = !watch->stopping;
    pthread_mutex_unlock(&watch->lock);
    return go;
}

static void *
watch_run(void *arg)
{
    struct watch *watch = arg;

    do {
        look_at_store(watch);
        look_at_log(watch);
    } while (wait_trouble(watch));
    return NULL;
}

/* ---- begin and end ---- */

int
watch_start(struct daemon *d, struct watch **ret_watch, struct cc_err *err)
{
    struct watch *watch = calloc(1, sizeof(*watch));
    int rc;

    if (watch == NULL)
        return cc_err_nomem(err);
    watch->daemon = d;
    (void)pthread_mutex_init(&watch->lock, NULL);
    if (cc_cond_init(&watch->changed, err) != 0) {
        pthread_mutex_destroy(&watch->lock);
        free(watch);
        return -1;
    }
    store_watch(d->store, on_trouble, watch);
    eventlog_watch(d->log, on_trouble, watch);
    if ((rc = pthread_create(&watch->thread, NULL, watch_run, watch)) != 0) {
        eventlog_watch(d->log, NULL, NULL);
        store_watch(d->store, NULL, NULL);
        pthread_cond_destroy(&watch->changed);
        pthread_mutex_destroy(&watch->lock);
        free(watch);
        return cc_err_set_errno(err, rc, "thread that watches the store");
    }
    (void)pthread_setname_np(watch->thread, "cc-watch");
    *ret_watch = watch;
    return 0;
}

void
watch_stop(struct watch *watch)
{
    if (watch == NULL)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->stopping = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    eventlog_watch(watch->daemon->log, NULL, NULL);
    store_watch(watch->daemon->store, NULL, NULL);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}
