/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

/*
 * Who works next.  Each lane has a worker of its own, which nobody else takes; the others are for whoever came first.
 * So a lane whose CA hangs slows down no other, however many such there are.  A lane whose CA fails again and again has
 * only its own worker, and tries one request at a time.  All with the flow's lock held, but for flow_lane_choose() and
 * flow_lane_tell().
 */

int
flow_lanes_init(struct flow *flow, unsigned lanes, struct cc_err *err)
{
    flow->lane_max = flow->kind.lane != NULL ? lanes + 1 : 1;
    if ((flow->lanes = calloc(flow->lane_max, sizeof(*flow->lanes))) == NULL)
        return cc_err_nomem(err);
    for (unsigned i = 0; i < flow->lane_max; i++)
        TAILQ_INIT(&flow->lanes[i].line);
    flow->lane_count = 1; /* the first has no name */
    return 0;
}

unsigned
flow_threads(const struct flow *flow)
{
    return flow->workers - 1 + flow->lane_max;
}

/* The lane of this name, made when it is new.  More names than were announced share the lane that has none. */
static struct flow_lane *
lane_find(struct flow *flow, const char *name)
{
    unsigned i;

    if (name == NULL || name[0] == '\0' || strlen(name) >= FLOW_LANE_LEN)
        return &flow->lanes[0];
    for (i = 1; i < flow->lane_count; i++)
        if (strcmp(flow->lanes[i].name, name) == 0)
            return &flow->lanes[i];
    if (i == flow->lane_max)
        return &flow->lanes[0];
    (void)cc_strcpy(flow->lanes[i].name, sizeof(flow->lanes[i].name), name);
    flow->lane_count++;
    return &flow->lanes[i];
}

void
flow_lane_choose(struct flow_item *item)
{
    struct flow *flow = item->flow;
    const char *name = item->result.ca;

    if (flow->kind.lane == NULL)
        return;
    if (item->body != NULL)
        name = flow->kind.lane(flow->arg, item->body, item->note);
    pthread_mutex_lock(&flow->lock);
    item->lane = lane_find(flow, name);
    pthread_mutex_unlock(&flow->lock);
}

static bool
lane_is_sick(const struct flow_lane *lane)
{
    return cc_breaker_is_open(&lane->breaker);
}

/* It may hang, or only be slow: for the sake of other CAs, where there are any. */
static bool
lane_is_slow(const struct flow *flow, const struct flow_lane *lane, int64_t now)
{
    return flow->lane_max > 2 && lane->working > 0 && now - lane->moved >= FLOW_SLOW_MS;
}

unsigned
flow_held(const struct flow *flow)
{
    const int64_t now = cc_clock_mono_ms();
    unsigned held = 0;

    for (unsigned i = 1; i < flow->lane_count; i++) {
        const struct flow_lane *lane = &flow->lanes[i];

        if (lane_is_sick(lane) || lane_is_slow(flow, lane, now))
            held += lane->unfinished < FLOW_HELD_MAX ? lane->unfinished : FLOW_HELD_MAX;
    }
    return held;
}

bool
flow_is_held(const struct flow_item *item)
{
    return item->in_line && lane_is_sick(item->lane);
}

/* ---- lines ---- */

static void
line_join(struct flow_item *item)
{
    item->turn = item->flow->turns++;
    item->in_line = true;
    TAILQ_INSERT_TAIL(&item->lane->line, item, place);
}

void
flow_line_leave(struct flow_item *item)
{
    if (!item->in_line)
        return;
    item->in_line = false;
    TAILQ_REMOVE(&item->lane->line, item, place);
}

/* Workers that are nobody's own. */
static unsigned
shared_working(const struct flow *flow)
{
    unsigned shared = 0;

    for (unsigned i = 0; i < flow->lane_count; i++)
        if (flow->lanes[i].working > 0)
            shared += flow->lanes[i].working - 1;
    return shared;
}

/* Whether its first may go now, which is then counted. */
static bool
lane_begin(struct flow *flow, struct flow_lane *lane, int64_t now)
{
    if (lane->working > 0 && shared_working(flow) >= flow->workers - 1)
        return false;
    if (lane != &flow->lanes[0] && !cc_breaker_begin(&lane->breaker, now))
        return false;
    if (lane->working++ == 0)
        lane->moved = now;
    return true;
}

/* Of the first of all lanes the one that came first, if its lane may go on; else the next. */
static struct flow_item *
next_item(struct flow *flow, int64_t now)
{
    uint64_t after = 0;

    for (unsigned tries = 0; tries < flow->lane_count; tries++) {
        struct flow_item *next = NULL;

        for (unsigned i = 0; i < flow->lane_count; i++) {
            struct flow_item *first = TAILQ_FIRST(&flow->lanes[i].line);

            if (first != NULL && first->turn >= after && (next == NULL || first->turn < next->turn))
                next = first;
        }
        if (next == NULL || lane_begin(flow, next->lane, now))
            return next;
        after = next->turn + 1;
    }
    return NULL;
}

/* The pool has room for as many as there are threads, and no more are begun. */
void
flow_dispatch(struct flow *flow)
{
    struct flow_item *item;

    while (!flow->stopping && (item = next_item(flow, cc_clock_mono_ms())) != NULL) {
        const bool work = item->stage == FLOW_QUEUED;

        flow_line_leave(item);
        if (cc_pool_submit(flow->pool, work ? flow_work : flow_settle, item))
            continue;
        flow_lane_end(flow, item->lane, FLOW_LANE_NOTHING);
        if (work)
            flow_put_aside(item);
        else
            flow_settle_later(item);
    }
}

/* While we stop nothing is begun. */
void
flow_queue(struct flow_item *item)
{
    struct flow *flow = item->flow;

    if (flow->stopping) {
        if (item->stage == FLOW_QUEUED)
            flow_put_aside(item);
        else
            flow_settle_later(item);
        return;
    }
    if (item->stage == FLOW_QUEUED && item->lane->unfinished > FLOW_HELD_MAX &&
            (lane_is_sick(item->lane) || lane_is_slow(flow, item->lane, cc_clock_mono_ms())) &&
            !flow_stays(item)) {
        flow->overflowed = true;
        flow_item_set_stage(item, FLOW_RETURNING);
        return;
    }
    line_join(item);
    flow_dispatch(flow);
}

void
flow_leave_off(struct flow *flow)
{
    struct flow_item *item;

    TAILQ_FOREACH(item, &flow->items, link)
    if (item->stage == FLOW_WAITING)
        flow_put_aside(item);
    for (unsigned i = 0; i < flow->lane_count; i++) {
        while ((item = TAILQ_FIRST(&flow->lanes[i].line)) != NULL) {
            flow_line_leave(item);
            flow_queue(item);
        }
    }
}

/* ---- how it went ---- */

bool
flow_lane_end(struct flow *flow, struct flow_lane *lane, enum flow_lane_verdict verdict)
{
    lane->working--;
    lane->moved = cc_clock_mono_ms();
    if (lane == &flow->lanes[0])
        return false;
    if (verdict == FLOW_LANE_NOTHING) {
        cc_breaker_cancel(&lane->breaker);
        return false;
    }
    return cc_breaker_end(&lane->breaker, verdict == FLOW_LANE_ANSWERED, cc_clock_mono_ms());
}

void
flow_lane_tell(struct flow *flow, const struct flow_lane *lane, bool failed,
        const struct cc_err *err)
{
    const struct event_fields fields = { .ca = lane->name, .error = failed ? err : NULL };

    if (failed)
        eventlog_write(flow->log, EVENT_CA_UNAVAILABLE, &fields,
                "The CA \"%s\" does not do what %ss ask: they wait, and it is tried with one at a "
                "time until it does: %s",
                lane->name, flow->kind.variants[0].title, cc_err_text(err));
    else
        eventlog_write(flow->log, EVENT_CA_RECOVERED, &fields, "The CA \"%s\" does %ss again",
                lane->name, flow->kind.variants[0].title);
}

int64_t
flow_lanes_due(const struct flow *flow)
{
    int64_t due = INT64_MAX;

    for (unsigned i = 1; i < flow->lane_count; i++) {
        const struct flow_lane *lane = &flow->lanes[i];

        if (lane_is_sick(lane) && lane->working == 0 && !TAILQ_EMPTY(&lane->line) &&
                lane->breaker.probe_at < due)
            due = lane->breaker.probe_at;
    }
    return due;
}
