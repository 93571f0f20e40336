/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include "base/clock.h"
#include "base/log.h"

/*
 * Results that the service did not take, of workloads that must undo them: withdrawn by a worker, tried until it
 * succeeds.  The row stays reported meanwhile, so that the next start goes on with it.
 */

bool
flow_must_settle(const struct flow_item *item)
{
    return item->flow->kind.withdraw != NULL && item->result.outcome == JOURNAL_SUCCEEDED &&
           item->verdict != JOURNAL_ACCEPTED && !item->closed;
}

void
flow_settle_later(struct flow_item *item)
{
    item->due = cc_deadline_in(
            cc_backoff_ms(item->tries++, FLOW_SERVICE_RETRY_MS, FLOW_SERVICE_RETRY_MAX_MS));
    flow_item_set_stage(item, FLOW_UNSETTLED);
}

/* Another instance's result stands, or will: nothing of ours is left to be told.  Else the request failed for good. */
static int
flow_end_withdrawn(struct flow_item *item, struct cc_err *err)
{
    struct flow *flow = item->flow;
    const char *id = item->request_id;

    if (item->verdict == JOURNAL_ALREADY_COMPLETED || item->verdict == JOURNAL_LEASE_LOST)
        return journal_withdraw(flow->store, flow->kind.workload, id, err);
    flow_write_admin_event(flow, item);
    item->silent = true;
    if (eventlog_sync(flow->log, err) != 0)
        return -1;
    return journal_close(flow->store, flow->kind.workload, &id, 1, err);
}

static int
flow_withdraw(struct flow_item *item, struct cc_err *err)
{
    const struct flow_result *result = &item->result;
    const struct flow_refused refused = {
        .request_id = item->request_id,
        .serial_number = result->serial_number[0] != '\0' ? result->serial_number : NULL,
        .ca = result->ca[0] != '\0' ? result->ca : NULL,
    };

    if (item->flow->kind.withdraw(item->flow->arg, &refused, err) != 0)
        return -1;
    return flow_end_withdrawn(item, err);
}

void
flow_settle(void *arg)
{
    struct flow_item *item = arg;
    struct flow *flow = item->flow;
    struct flow_lane *lane = item->lane;
    struct cc_err err = { 0 };
    bool over = flow_withdraw(item, &err) == 0 || flow_store_refused(&err);

    if (err.domain != CC_DOM_NONE)
        cc_log(CC_LOG_WARNING, "flow", "withdrawing the result of request %s: %s", item->request_id,
                cc_err_text(&err));
    pthread_mutex_lock(&flow->lock);
    if (over)
        flow_item_remove(item);
    else
        flow_settle_later(item);
    (void)flow_lane_end(flow, lane, FLOW_LANE_NOTHING);
    flow_dispatch(flow);
    pthread_cond_broadcast(&flow->attend); /* a lane may be free for its next try */
    pthread_mutex_unlock(&flow->lock);
    if (over)
        flow_item_free(item);
}
