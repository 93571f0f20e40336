/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <unistd.h>

#include "base/log.h"
#include "store/instance.h"

/*
 * This instance among those that share the state store: store/instance.h says how; here is what the daemon makes of it.
 * The callbacks come from the store's thread, at any time between joining and leaving.
 */

#define LOOK_AGAIN_MS 500

static void
on_gone(void *arg, bool news)
{
    struct daemon *d = arg;

    if (news)
        eventlog_write(d->log, EVENT_INSTANCE_GONE, NULL,
                "Another instance is gone; what it had in hand is taken over");
    pthread_mutex_lock(&d->lock);
    workloads_adopt(&d->parts);
    pthread_mutex_unlock(&d->lock);
}

static void
on_fenced(void *arg)
{
    (void)arg;
    (void)kill(getpid(), DAEMON_SIGNAL_FENCED);
}

static void
say_waiting(struct daemon *d)
{
    eventlog_write(d->log, EVENT_INSTANCE_NAME_IN_USE, NULL,
            "Another instance named \"%s\" uses this state store, or did until just now; it is waited for. Each "
            "instance needs a [connector] name of its own",
            d->name);
}

/* -1 when we are told to stop. */
static int
pause_for(struct daemon *d, int64_t ms, struct cc_err *err)
{
    const int number = daemon_next_signal(d, ms);

    if (number == SIGTERM || number == SIGINT)
        return cc_err_set(err, CC_DOM_CANCELLED, 0, "stopped");
    return 0;
}

int
membership_join(struct daemon *d, struct cc_err *err)
{
    const struct store_joining joining = {
        .name = d->name,
        .on_gone = on_gone,
        .on_fenced = on_fenced,
        .arg = d,
    };
    int64_t wait_ms = 0;

    for (unsigned tries = 0;; tries++) {
        if (store_join(d->store, &joining, d->was_fenced, &wait_ms, err) != 0)
            return cc_err_in(err, "state store");
        if (wait_ms == 0)
            break;
        if (tries == 0)
            say_waiting(d);
        if (pause_for(d, wait_ms < LOOK_AGAIN_MS ? wait_ms : LOOK_AGAIN_MS, err) != 0)
            return -1;
    }
    d->was_fenced = false;
    return store_connector_id(d->store, joining.name, d->connector_id, err);
}

static int
wait_until_usable(struct daemon *d, struct cc_err *err)
{
    while (!store_is_usable(d->store)) {
        if (pause_for(d, LOOK_AGAIN_MS, err) != 0)
            return -1;
    }
    return 0;
}

int
membership_wait(struct daemon *d, uint64_t outages_before, const struct cc_err *why,
        struct cc_err *err)
{
    struct store_state state;

    /* Said once, until we have joined again. */
    if (store_was_fenced(d->store) && !d->was_fenced) {
        membership_say_fenced(d);
        return 0;
    }
    store_get_state(d->store, &state);
    if (state.outages != outages_before || !state.usable)
        return wait_until_usable(d, err);
    /* Many who join at once may wait too long for one another. */
    if (store_is_passing(d->store, why)) {
        cc_log(CC_LOG_WARNING, "daemon", "%s; trying again", cc_err_text(why));
        return pause_for(d, LOOK_AGAIN_MS, err);
    }
    *err = *why;
    return -1;
}

void
membership_say_fenced(struct daemon *d)
{
    eventlog_write(d->log, EVENT_INSTANCE_FENCED, NULL,
            "This instance was out of touch with the state store for longer than its lease, and others took over "
            "its work; it begins anew");
    d->was_fenced = true;
}
