/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <unistd.h>

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
            d->config->connector.name);
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

/* After a call failed: 0 when it can be made again, as the store was out of order and is not any more. */
static int
wait_for_store(struct daemon *d, uint64_t outages_before, const struct cc_err *why,
        struct cc_err *err)
{
    struct store_state state;

    store_get_state(d->store, &state);
    if (state.usable && state.outages == outages_before) {
        *err = *why;
        return -1;
    }
    do {
        if (pause_for(d, LOOK_AGAIN_MS, err) != 0)
            return -1;
    } while (!store_is_usable(d->store));
    return 0;
}

static uint64_t
outages(struct daemon *d)
{
    struct store_state state;

    store_get_state(d->store, &state);
    return state.outages;
}

static int
join(struct daemon *d, const struct store_joining *joining, int64_t *ret_wait_ms,
        struct cc_err *err)
{
    for (;;) {
        const uint64_t before = outages(d);
        struct cc_err why = { 0 };

        if (store_join(d->store, joining, d->was_fenced, ret_wait_ms, &why) == 0)
            return 0;
        if (wait_for_store(d, before, &why, err) != 0)
            return -1;
    }
}

static int
get_connector_id(struct daemon *d, const char *name, struct cc_err *err)
{
    for (;;) {
        const uint64_t before = outages(d);
        struct cc_err why = { 0 };

        if (store_connector_id(d->store, name, d->connector_id, &why) == 0)
            return 0;
        if (wait_for_store(d, before, &why, err) != 0)
            return -1;
    }
}

int
membership_join(struct daemon *d, struct cc_err *err)
{
    const struct store_joining joining = {
        .name = d->config->connector.name,
        .on_gone = on_gone,
        .on_fenced = on_fenced,
        .arg = d,
    };
    int64_t wait_ms = 0;

    for (unsigned tries = 0;; tries++) {
        if (join(d, &joining, &wait_ms, err) != 0)
            return cc_err_in(err, "state store");
        if (wait_ms == 0)
            break;
        if (tries == 0)
            say_waiting(d);
        if (pause_for(d, wait_ms < LOOK_AGAIN_MS ? wait_ms : LOOK_AGAIN_MS, err) != 0)
            return -1;
    }
    d->was_fenced = false;
    return get_connector_id(d, joining.name, err);
}
