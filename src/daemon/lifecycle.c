/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <string.h>

#include "base/clock.h"

/*
 * How the service supports our release, and which features it allows, as it answers health messages: kept for whoever
 * asks, and said as events when it changes.  What it last said is not kept over a restart: where something is wrong it is
 * said again then.
 */

/* ---- the release ---- */

/* The day alone, as the hour of an end half a year away says nothing; "a day not told" for none. */
static const char *
day_of(int64_t ms, char text[CC_TIME_LEN])
{
    if (ms == 0)
        return "a day not told";
    cc_time_format(ms, text);
    text[strlen("YYYY-MM-DD")] = '\0';
    return text;
}

static bool
is_news(const struct intune_lifecycle *said, const struct intune_lifecycle *now)
{
    if (now->standing == INTUNE_STANDING_UNKNOWN)
        return false;
    if (now->standing == INTUNE_STANDING_ACTIVE)
        return said->standing == INTUNE_STANDING_WARNING || said->standing == INTUNE_STANDING_ERROR;
    return said->standing != now->standing || said->supported_until_ms != now->supported_until_ms ||
           strcmp(said->latest_version, now->latest_version) != 0;
}

static void
say_standing(struct daemon *d, const struct intune_lifecycle *now)
{
    const char *latest = now->latest_version[0] != '\0' ? now->latest_version : "the newest one";
    const char *reason = now->reason[0] != '\0' ? now->reason : "no reason given";
    char text[CC_TIME_LEN];
    const char *until = day_of(now->supported_until_ms, text);

    switch (now->standing) {
    case INTUNE_STANDING_WARNING:
        eventlog_write(d->log, EVENT_CONNECTOR_VERSION_WARNING, NULL,
                "The service supports this release, %s, until %s: update to %s before then (%s)",
                CC_VERSION, until, latest, reason);
        break;
    case INTUNE_STANDING_ERROR:
        eventlog_write(d->log, EVENT_CONNECTOR_VERSION_ERROR, NULL,
                "The service does not support this release, %s, any more, since %s: update to %s (%s)",
                CC_VERSION, until, latest, reason);
        break;
    case INTUNE_STANDING_ACTIVE:
        eventlog_write(d->log, EVENT_CONNECTOR_VERSION_SUPPORTED, NULL,
                "The service supports this release, %s, again", CC_VERSION);
        break;
    case INTUNE_STANDING_UNKNOWN:
        break;
    }
}

/* ---- features ---- */

unsigned
lifecycle_refused(const struct intune_lifecycle *lifecycle, unsigned features)
{
    unsigned refused = 0;

    for (int i = 0; i < WORKLOADS; i++) {
        const unsigned feature = workload_feature((enum workload)i);

        if ((features & feature) != 0 &&
                !intune_lifecycle_allows(lifecycle, workload_name((enum workload)i)))
            refused |= feature;
    }
    return refused;
}

static void
say_refused(struct daemon *d, unsigned refused)
{
    for (int i = 0; i < WORKLOADS; i++)
        if ((refused & workload_feature((enum workload)i)) != 0)
            eventlog_write(d->log, EVENT_FEATURE_REFUSED, NULL,
                    "The service answers a health message that it does not allow this connector the "
                    "feature %s: allow it there, or take it out of [connector] features",
                    workload_name((enum workload)i));
}

/* ---- what others ask ---- */

void
lifecycle_learn(struct daemon *d, unsigned features, const struct intune_lifecycle *now)
{
    const unsigned refused = lifecycle_refused(now, features);
    struct lifecycle *lifecycle = &d->lifecycle;

    if (is_news(&lifecycle->said, now))
        say_standing(d, now);
    say_refused(d, refused & ~lifecycle->said_refused);
    if (now->standing != INTUNE_STANDING_UNKNOWN)
        lifecycle->said = *now;
    lifecycle->said_refused = refused;

    pthread_mutex_lock(&d->lock);
    lifecycle->now = *now;
    pthread_mutex_unlock(&d->lock);
}

void
lifecycle_get(struct daemon *d, struct intune_lifecycle *ret)
{
    pthread_mutex_lock(&d->lock);
    *ret = d->lifecycle.now;
    pthread_mutex_unlock(&d->lock);
}
