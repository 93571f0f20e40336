/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* How long before a row was made its admin event is looked for, as the clock may have been set back since. */
#define FLOW_EVENT_SLACK_MS (24 * INT64_C(3600) * 1000)

enum {
    FLOW_FOUND_RETURNING,
    FLOW_FOUND_RESUMING,
    FLOW_FOUND_FINISHED,
    FLOW_FOUND_REPORTED,
    FLOW_FOUND
};

/* What the journal held, by what is to be done with it. */
struct flow_found {
    struct flow *flow;
    struct flow_items returning; /* received: given back */
    struct flow_items resuming;  /* begun, or of no queue: worked on */
    struct flow_items finished;  /* issued, failed: uploaded again */
    struct flow_items reported;  /* closed once their admin event stands */
    size_t count[FLOW_FOUND];
    struct cc_err *err;
};

static struct flow_items *
flow_found_list(struct flow_found *found, int which)
{
    struct flow_items *lists[FLOW_FOUND] = { &found->returning, &found->resuming, &found->finished,
        &found->reported };

    return lists[which];
}

/* With admission held: what is in hand already is in the journal, too. */
static bool
flow_has_in_hand(struct flow *flow, const char *request_id)
{
    struct flow_item *item;

    pthread_mutex_lock(&flow->lock);
    TAILQ_FOREACH(item, &flow->items, link)
    {
        if (strcmp(item->request_id, request_id) == 0)
            break;
    }
    pthread_mutex_unlock(&flow->lock);
    return item != NULL;
}

static int
flow_on_row(void *arg, const struct journal_entry *entry)
{
    struct flow_found *found = arg;
    int which = FLOW_FOUND_FINISHED;
    struct flow_item *item;

    if (flow_has_in_hand(found->flow, entry->request_id))
        return 0;
    if ((item = flow_item_from_entry(found->flow, entry, found->err)) == NULL)
        return -1;
    if (entry->state == JOURNAL_RECEIVED || entry->state == JOURNAL_PREPARED) {
        bool resumes = item->body != NULL && flow_stays(item);

        which = resumes ? FLOW_FOUND_RESUMING : FLOW_FOUND_RETURNING;
        if (flow_has_leases(found->flow))
            flow_item_lease(item, entry->lease_until_ms);
    } else if (entry->state == JOURNAL_REPORTED) {
        which = FLOW_FOUND_REPORTED;
        /* Looked up below: a row that is not closed may lack its event. */
        item->silent = false;
        item->received = entry->received_ms;
    }
    found->count[which]++;
    TAILQ_INSERT_TAIL(flow_found_list(found, which), item, link);
    return 0;
}

static void
flow_free_all(struct flow_items *items)
{
    struct flow_item *item;

    while ((item = TAILQ_FIRST(items)) != NULL) {
        TAILQ_REMOVE(items, item, link);
        flow_item_free(item);
    }
}

/* What others left is ours first, then all that is ours and not in hand. */
static int
flow_adopt_and_walk(struct flow *flow, struct flow_found *found, struct cc_err *err)
{
    int64_t adopted = 0;

    if (journal_adopt(flow->store, flow->kind.workload, &adopted, err) != 0)
        return -1;
    return journal_walk(flow->store, flow->kind.workload, flow_on_row, found, err);
}

/* The journal as it was left; repeated until the store can be read.  false: we stop. */
static bool
flow_read_journal(struct flow *flow, struct flow_found *found)
{
    for (unsigned failures = 0;; failures++) {
        struct cc_err err = { 0 };

        found->err = &err;
        memset(found->count, 0, sizeof(found->count));
        if (flow_adopt_and_walk(flow, found, &err) == 0 && err.domain == CC_DOM_NONE)
            return true;
        cc_log(CC_LOG_ERROR, "flow", "reading the journal: %s", cc_err_text(&err));
        for (int which = 0; which < FLOW_FOUND; which++)
            flow_free_all(flow_found_list(found, which));
        if (!flow_pause(flow,
                    cc_backoff_ms(failures, FLOW_SERVICE_RETRY_MS, FLOW_SERVICE_RETRY_MAX_MS),
                    false))
            return false;
    }
}

/* Uploaded, or to be given back, by the threads that do so anyway. */
static void
flow_hand_over(struct flow *flow, struct flow_items *items, enum flow_stage stage)
{
    struct flow_item *item;

    TAILQ_FOREACH(item, items, link)
    flow_lane_choose(item);
    pthread_mutex_lock(&flow->lock);
    while ((item = TAILQ_FIRST(items)) != NULL) {
        TAILQ_REMOVE(items, item, link);
        flow_item_add(item, stage);
    }
    pthread_mutex_unlock(&flow->lock);
}

struct flow_reported {
    struct flow_item *item[FLOW_BATCH_MAX];
    const char *id[FLOW_BATCH_MAX];
    size_t count;
    int64_t since;
};

/* The oldest of those that were reported; false when there are none. */
static bool
flow_take_reported(struct flow_items *items, struct flow_reported *ret)
{
    struct flow_item *item;

    *ret = (struct flow_reported){ .since = INT64_MAX };
    while (ret->count < FLOW_BATCH_MAX && (item = TAILQ_FIRST(items)) != NULL) {
        TAILQ_REMOVE(items, item, link);
        ret->id[ret->count] = item->request_id;
        ret->item[ret->count++] = item;
        if (item->received - FLOW_EVENT_SLACK_MS < ret->since)
            ret->since = item->received - FLOW_EVENT_SLACK_MS;
    }
    return ret->count > 0;
}

/* The service's answers stand; the admin events may.  Those that do not are written, so that each has exactly one. */
static int
flow_close_reported(struct flow *flow, const struct flow_reported *reported, struct cc_err *err)
{
    bool found[FLOW_BATCH_MAX];
    const char *ids[FLOW_BATCH_MAX];
    size_t count = 0;

    if (eventlog_find_admin_events(flow->log, reported->id, reported->count, reported->since, found,
                err) != 0)
        return -1;
    for (size_t i = 0; i < reported->count; i++) {
        struct flow_item *item = reported->item[i];

        item->silent = found[i];
        if (flow_must_settle(item))
            continue;
        if (!found[i])
            flow_write_admin_event(flow, item);
        ids[count++] = reported->id[i];
    }
    if (count == 0)
        return 0;
    if (eventlog_sync(flow->log, err) != 0)
        return -1;
    return journal_close(flow->store, flow->kind.workload, ids, count, err);
}

/* Repeated until it succeeds; false: we stop, and the next start does it. */
static bool
flow_close_until_done(struct flow *flow, const struct flow_reported *reported)
{
    for (unsigned failures = 0;; failures++) {
        struct cc_err err = { 0 };

        if (flow_close_reported(flow, reported, &err) == 0)
            return true;
        cc_log(CC_LOG_ERROR, "flow", "closing %zu requests: %s", reported->count,
                cc_err_text(&err));
        if (flow_store_refused(&err))
            return true;
        if (!flow_pause(flow,
                    cc_backoff_ms(failures, FLOW_SERVICE_RETRY_MS, FLOW_SERVICE_RETRY_MAX_MS),
                    false))
            return false;
    }
}

/* Those that are closed go; those that are to be withdrawn are. */
static void
flow_let_go_reported(struct flow *flow, struct flow_item *item, bool go)
{
    if (!go || !flow_must_settle(item)) {
        flow_item_free(item);
        return;
    }
    item->received = cc_clock_mono_ms();
    flow_lane_choose(item);
    pthread_mutex_lock(&flow->lock);
    flow_item_add(item, FLOW_UNSETTLED);
    pthread_mutex_unlock(&flow->lock);
}

static void
flow_close_all_reported(struct flow *flow, struct flow_items *items)
{
    struct flow_reported reported;
    bool go = true;

    while (go && flow_take_reported(items, &reported)) {
        go = flow_close_until_done(flow, &reported);
        for (size_t i = 0; i < reported.count; i++)
            flow_let_go_reported(flow, reported.item[i], go);
    }
    flow_free_all(items);
}

void
flow_recover(struct flow *flow)
{
    struct flow_found found = {
        .flow = flow,
        .returning = TAILQ_HEAD_INITIALIZER(found.returning),
        .resuming = TAILQ_HEAD_INITIALIZER(found.resuming),
        .finished = TAILQ_HEAD_INITIALIZER(found.finished),
        .reported = TAILQ_HEAD_INITIALIZER(found.reported),
    };
    const size_t *count = found.count;
    bool read;

    pthread_mutex_lock(&flow->admission);
    if ((read = flow_read_journal(flow, &found))) {
        flow_hand_over(flow, &found.returning, FLOW_RETURNING);
        flow_hand_over(flow, &found.resuming, FLOW_WAITING);
        flow_hand_over(flow, &found.finished, FLOW_DONE);
    }
    pthread_mutex_unlock(&flow->admission);
    if (!read)
        return;
    if (count[FLOW_FOUND_RETURNING] + count[FLOW_FOUND_RESUMING] + count[FLOW_FOUND_FINISHED] +
                    count[FLOW_FOUND_REPORTED] >
            0)
        eventlog_write(flow->log, EVENT_JOURNAL_RESUMED, NULL,
                "Resumed from the journal: %zu %ss go back to the service, %zu are worked on, "
                "%zu results are uploaded, %zu answers are reported",
                count[FLOW_FOUND_RETURNING], flow->kind.variants[0].title,
                count[FLOW_FOUND_RESUMING], count[FLOW_FOUND_FINISHED], count[FLOW_FOUND_REPORTED]);
    flow_close_all_reported(flow, &found.reported);
}
