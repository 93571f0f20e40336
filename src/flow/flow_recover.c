/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* How long before a row was made its admin event is looked for, as the clock may have been set back since. */
#define FLOW_EVENT_SLACK_MS (24 * INT64_C(3600) * 1000)

/* What the journal held, by what is to be done with it. */
struct flow_found {
    struct flow *flow;
    struct flow_items unfinished; /* received, prepared: given back */
    struct flow_items finished;   /* issued, failed: uploaded again */
    struct flow_items reported;   /* closed once their admin event stands */
    size_t count[3];
    struct cc_err *err;
};

static int
flow_on_row(void *arg, const struct journal_entry *entry)
{
    struct flow_found *found = arg;
    struct flow_items *list = &found->finished;
    struct flow_item *item = flow_item_from_entry(found->flow, entry, found->err);

    if (item == NULL)
        return -1;
    if (entry->state == JOURNAL_RECEIVED || entry->state == JOURNAL_PREPARED) {
        list = &found->unfinished;
        found->count[0]++;
    } else if (entry->state == JOURNAL_REPORTED) {
        list = &found->reported;
        /* Looked up below: a row that is not closed may lack its event. */
        item->silent = false;
        item->received = entry->received_ms;
        found->count[2]++;
    } else {
        found->count[1]++;
    }
    TAILQ_INSERT_TAIL(list, item, link);
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

/* The journal as it was left; repeated until the store can be read.  false: we stop. */
static bool
flow_read_journal(struct flow *flow, struct flow_found *found)
{
    for (unsigned failures = 0;; failures++) {
        struct cc_err err = { 0 };

        found->err = &err;
        memset(found->count, 0, sizeof(found->count));
        if (flow_store_said(flow,
                    journal_walk(flow->store, flow->kind.workload, flow_on_row, found, &err),
                    &err) == 0 &&
                err.domain == CC_DOM_NONE)
            return true;
        cc_log(CC_LOG_ERROR, "flow", "reading the journal: %s", cc_err_text(&err));
        flow_free_all(&found->unfinished);
        flow_free_all(&found->finished);
        flow_free_all(&found->reported);
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

    if (eventlog_find_admin_events(flow->log, reported->id, reported->count, reported->since, found,
                err) != 0)
        return -1;
    for (size_t i = 0; i < reported->count; i++) {
        if (!found[i])
            flow_write_admin_event(flow, reported->item[i]);
    }
    if (eventlog_sync(flow->log, err) != 0)
        return -1;
    return flow_store_said(flow,
            journal_close(flow->store, flow->kind.workload, reported->id, reported->count, err),
            err);
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

static void
flow_close_all_reported(struct flow *flow, struct flow_items *items)
{
    struct flow_reported reported;
    bool go = true;

    while (go && flow_take_reported(items, &reported)) {
        go = flow_close_until_done(flow, &reported);
        for (size_t i = 0; i < reported.count; i++)
            flow_item_free(reported.item[i]);
    }
    flow_free_all(items);
}

void
flow_recover(struct flow *flow)
{
    struct flow_found found = {
        .flow = flow,
        .unfinished = TAILQ_HEAD_INITIALIZER(found.unfinished),
        .finished = TAILQ_HEAD_INITIALIZER(found.finished),
        .reported = TAILQ_HEAD_INITIALIZER(found.reported),
    };

    if (!flow_read_journal(flow, &found))
        return;
    if (found.count[0] + found.count[1] + found.count[2] > 0)
        eventlog_write(flow->log, EVENT_JOURNAL_RESUMED, NULL,
                "Resumed from the journal: %zu %ss go back to the service, %zu results are uploaded, "
                "%zu answers are reported",
                found.count[0], flow->kind.title, found.count[1], found.count[2]);
    flow_hand_over(flow, &found.unfinished, FLOW_RETURNING);
    flow_hand_over(flow, &found.finished, FLOW_DONE);
    flow_close_all_reported(flow, &found.reported);
}
