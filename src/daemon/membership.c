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
        int number;

        if (store_join(d->store, &joining, d->was_fenced, &wait_ms, err) != 0)
            return cc_err_in(err, "state store");
        if (wait_ms == 0)
            break;
        if (tries == 0)
            say_waiting(d);
        number = daemon_next_signal(d, wait_ms < LOOK_AGAIN_MS ? wait_ms : LOOK_AGAIN_MS);
        if (number == SIGTERM || number == SIGINT)
            return cc_err_set(err, CC_DOM_CANCELLED, 0, "stopped");
    }
    d->was_fenced = false;
    return store_connector_id(d->store, joining.name, d->connector_id, err);
}
