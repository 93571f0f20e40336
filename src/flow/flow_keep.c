/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/*
 * What the keeper does: it renews leases when a third of their time is gone, has waiting requests tried again when
 * their time has come, gives back to the service what will not be worked here, and takes over what other instances
 * left.
 */

/* Contexts of up to one call, of one holder; copies, as their requests may go at any time. */
struct flow_contexts {
    char *holder;
    char *text[FLOW_BATCH_MAX];
    size_t count;
};

static void
contexts_free(struct flow_contexts *contexts)
{
    for (size_t i = 0; i < contexts->count; i++)
        free(contexts->text[i]);
    free(contexts->holder);
    contexts->holder = NULL;
    contexts->count = 0;
}

/* What is of another holder waits for the next call. */
static void
contexts_add(struct flow_contexts *contexts, const struct flow_item *item)
{
    char *copy;

    if (contexts->holder == NULL &&
            (contexts->holder = cc_strdup(flow_item_holder(item), NULL)) == NULL)
        return;
    if (strcmp(contexts->holder, flow_item_holder(item)) != 0 ||
            contexts->count == FLOW_BATCH_MAX ||
            (copy = cc_strdup(item->request_context, NULL)) == NULL)
        return;
    contexts->text[contexts->count++] = copy;
}

/* ---- leases ---- */

static bool
flow_holds_lease(const struct flow_item *item)
{
    return item->lease_end != 0 && item->stage != FLOW_RETURNING && item->stage != FLOW_UNSETTLED &&
           item->stage != FLOW_SETTLING;
}

static int64_t
flow_renew_at(const struct flow_item *item)
{
    return item->lease_begin + (item->lease_end - item->lease_begin) / 3;
}

/* With the lock held.  What was begun is brought to its end all the same. */
static void
flow_lose_lease(struct flow_item *item)
{
    item->lease_end = 0;
    item->lease_lost = true;
    if ((item->stage == FLOW_WAITING || (item->stage == FLOW_QUEUED && item->in_line)) &&
            !flow_stays(item)) {
        flow_line_leave(item);
        flow_item_set_stage(item, FLOW_RETURNING);
    }
}

/* With the lock held: what is to be renewed now; leases whose time is over are lost. */
static void
flow_find_due(struct flow *flow, int64_t now, struct flow_contexts *ret_due)
{
    struct flow_item *item;

    TAILQ_FOREACH(item, &flow->items, link)
    {
        if (!flow_holds_lease(item))
            continue;
        if (item->lease_end <= now)
            flow_lose_lease(item);
        else if (flow_renew_at(item) <= now)
            contexts_add(ret_due, item);
    }
}

/* With the lock held. */
static void
flow_set_lease(struct flow *flow, const char *context, int64_t lease_until_ms)
{
    struct flow_item *item;

    TAILQ_FOREACH(item, &flow->items, link)
    {
        if (!flow_holds_lease(item) || strcmp(item->request_context, context) != 0)
            continue;
        if (lease_until_ms == 0)
            flow_lose_lease(item);
        else
            flow_item_lease(item, lease_until_ms);
        return;
    }
}

/* Renews what is due; false when the service could not be asked. */
static bool
flow_renew(struct flow *flow)
{
    struct flow_contexts due = { .count = 0 };
    int64_t until[FLOW_BATCH_MAX] = { 0 };
    struct cc_err err = { 0 };
    bool renewed = true;

    pthread_mutex_lock(&flow->lock);
    flow_find_due(flow, cc_clock_mono_ms(), &due);
    pthread_mutex_unlock(&flow->lock);
    if (due.count == 0) {
        contexts_free(&due);
        return true;
    }
    if (flow_service_said(flow,
                intune_queue_renew(flow->intune, flow->kind.queue, due.holder,
                        (const char *const *)due.text, due.count, until, &err),
                &err) != 0) {
        cc_log(CC_LOG_WARNING, "flow", "renewing %zu leases: %s", due.count, cc_err_text(&err));
        renewed = false;
    } else {
        flow_debug(flow, "Renewed the leases of %zu %ss", due.count, flow->kind.variants[0].title);
        pthread_mutex_lock(&flow->lock);
        for (size_t i = 0; i < due.count; i++)
            flow_set_lease(flow, due.text[i], until[i]);
        pthread_mutex_unlock(&flow->lock);
    }
    contexts_free(&due);
    return renewed;
}

/* ---- giving back ---- */

/* With the lock held: takes requests to be given back out of hand, of one holder. */
static size_t
flow_take_returning(struct flow *flow, struct flow_item *ret_items[FLOW_BATCH_MAX])
{
    struct flow_item *item, *next;
    size_t count = 0;

    for (item = TAILQ_FIRST(&flow->items); item != NULL && count < FLOW_BATCH_MAX; item = next) {
        next = TAILQ_NEXT(item, link);
        if (item->stage != FLOW_RETURNING || (count > 0 && !flow_same_holder(item, ret_items[0])))
            continue;
        flow_item_remove(item);
        ret_items[count++] = item;
    }
    return count;
}

/*
 * Gives leases back and forgets the rows.  With admission held, so that a request that comes back at once finds its row
 * gone.  When the service cannot be told as we stop, the rows stay, and the next start tells it.
 */
static void
flow_give_back(struct flow *flow, struct flow_item *const *items, size_t count)
{
    const char *contexts[FLOW_BATCH_MAX], *ids[FLOW_BATCH_MAX];
    struct cc_err err = { 0 };
    size_t leased = 0;

    flow_debug(flow, "%zu %ss go back to the service unworked", count,
            flow->kind.variants[0].title);
    for (size_t i = 0; i < count; i++) {
        ids[i] = items[i]->request_id;
        if (!items[i]->lease_lost && flow_has_leases(flow))
            contexts[leased++] = items[i]->request_context;
    }
    if (leased > 0 && intune_queue_release(flow->intune, flow->kind.queue,
                              flow_item_holder(items[0]), contexts, leased, &err) != 0) {
        cc_log(CC_LOG_WARNING, "flow", "giving back %zu requests: %s", leased, cc_err_text(&err));
        if (err.domain == CC_DOM_CANCELLED)
            return;
    }
    cc_err_clear(&err);
    if (journal_forget(flow->store, flow->kind.workload, ids, count, &err) != 0)
        cc_log(CC_LOG_ERROR, "flow", "forgetting %zu requests: %s", count, cc_err_text(&err));
}

/*
 * With the lock held: whether there is something to give back, and it may be given back now.  As we stop, a download
 * that is still under way would only fetch it again.
 */
static bool
flow_may_return(const struct flow *flow)
{
    return flow->count[FLOW_RETURNING] > 0 &&
           (!flow->stopping || flow->downloader.ended || !flow->downloader.started);
}

/* False when there was nothing to give back. */
static bool
flow_return_some(struct flow *flow)
{
    struct flow_item *items[FLOW_BATCH_MAX];
    size_t count = 0;

    pthread_mutex_lock(&flow->admission);
    pthread_mutex_lock(&flow->lock);
    if (flow_may_return(flow))
        count = flow_take_returning(flow, items);
    pthread_mutex_unlock(&flow->lock);
    if (count > 0)
        flow_give_back(flow, items, count);
    pthread_mutex_unlock(&flow->admission);
    for (size_t i = 0; i < count; i++)
        flow_item_free(items[i]);
    return count > 0;
}

/* ---- what waits for its time ---- */

/* With the lock held. */
static bool
flow_waits(const struct flow_item *item)
{
    return item->stage == FLOW_WAITING || item->stage == FLOW_UNDECIDED ||
           item->stage == FLOW_UNSETTLED;
}

/* With the lock held: what will not be tried any more here, as we stop or have tried long enough. */
static bool
flow_gives_up(const struct flow_item *item, int64_t now)
{
    const struct flow *flow = item->flow;
    int64_t keep_ms = flow->kind.keep_ms != 0 ? flow->kind.keep_ms : FLOW_KEEP_MS;

    if (item->stage != FLOW_WAITING && (item->stage != FLOW_QUEUED || !flow_is_held(item)))
        return false;
    if (flow_stays(item))
        return false;
    return flow->stopping || (keep_ms > 0 && now - item->received >= keep_ms);
}

/* Those whose time has come go to the workers; while we stop, none does. */
static void
flow_wake_waiting(struct flow *flow)
{
    int64_t now = cc_clock_mono_ms();
    struct flow_item *item;

    pthread_mutex_lock(&flow->lock);
    TAILQ_FOREACH(item, &flow->items, link)
    {
        if (flow_gives_up(item, now)) {
            flow_line_leave(item);
            flow_item_set_stage(item, FLOW_RETURNING);
        } else if (flow_waits(item) && item->due <= now && !flow->stopping) {
            flow_item_set_stage(item, item->stage != FLOW_UNSETTLED ? FLOW_QUEUED : FLOW_SETTLING);
            flow_queue(item);
        }
    }
    flow_dispatch(flow);
    pthread_mutex_unlock(&flow->lock);
}

/* ---- the thread ---- */

/* With the lock held: milliseconds until the keeper has something to do. */
static int64_t
flow_keeper_idle_ms(struct flow *flow, int64_t not_before)
{
    int64_t now = cc_clock_mono_ms(), renew = now + FLOW_SERVICE_RETRY_MAX_MS, due = renew;
    int64_t lanes = flow->stopping ? due : flow_lanes_due(flow);
    struct flow_item *item;

    if (lanes < due)
        due = lanes;
    TAILQ_FOREACH(item, &flow->items, link)
    {
        if (flow_holds_lease(item) && flow_renew_at(item) < renew)
            renew = flow_renew_at(item);
        if (flow_gives_up(item, now))
            due = now;
        else if (flow_waits(item) && !flow->stopping && item->due < due)
            due = item->due;
    }
    if (renew < not_before)
        renew = not_before;
    if (due < renew)
        renew = due;
    return renew > now ? renew - now : 0;
}

/* With the lock held. */
static bool
flow_may_adopt(const struct flow *flow)
{
    return flow->adopting && flow->recovered;
}

/* Waits until there is something to do; false when all is over. */
static bool
flow_keeper_wait(struct flow *flow, int64_t not_before)
{
    bool go;

    pthread_mutex_lock(&flow->lock);
    while (!flow->closing && !flow_may_return(flow) && !flow_may_adopt(flow)) {
        int64_t ms = flow_keeper_idle_ms(flow, not_before);

        if (ms == 0)
            break;
        flow_wait(flow, &flow->attend, ms);
    }
    go = !flow->closing || flow_may_return(flow);
    pthread_mutex_unlock(&flow->lock);
    return go;
}

static void
flow_keeper_adopt(struct flow *flow)
{
    bool adopting;

    pthread_mutex_lock(&flow->lock);
    adopting = flow_may_adopt(flow);
    if (adopting)
        flow->adopting = false;
    adopting = adopting && !flow->stopping;
    pthread_mutex_unlock(&flow->lock);
    if (adopting)
        flow_recover(flow);
}

void
flow_keeper(struct flow *flow)
{
    unsigned failures = 0;
    int64_t not_before = 0;

    while (flow_keeper_wait(flow, not_before)) {
        flow_keeper_adopt(flow);
        flow_wake_waiting(flow);
        while (flow_return_some(flow))
            continue;
        if (cc_clock_mono_ms() < not_before)
            continue;
        if (flow_renew(flow)) {
            failures = 0;
            not_before = 0;
        } else {
            not_before = cc_deadline_in(
                    cc_backoff_ms(failures++, FLOW_SERVICE_RETRY_MS, FLOW_SERVICE_RETRY_MAX_MS));
        }
    }
}
