/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include "base/clock.h"
#include "base/text.h"

/* What a worker does: one request, tried once; when nothing came of it, it waits for its next try. */

/* Whether a result is the CA's word; a request that we refuse ourselves never came to it. */
static enum flow_lane_verdict
flow_result_verdict(const struct flow_result *result)
{
    if (result->outcome == JOURNAL_SUCCEEDED || result->error_code == INTUNE_CA_DENIED ||
            result->error_code == INTUNE_CERTIFICATE_NOT_FOUND_ERROR)
        return FLOW_LANE_ANSWERED;
    return result->error_code == INTUNE_CA_UNAVAILABLE ? FLOW_LANE_FAILED : FLOW_LANE_NOTHING;
}

/* Whether the CA, or what stands for it, said anything.  It is not blamed for what all need: the store, the token. */
static enum flow_lane_verdict
flow_verdict(struct flow *flow, enum flow_outcome outcome, const struct flow_result *result,
        const struct cc_err *err)
{
    if (outcome == FLOW_FINISHED)
        return flow_result_verdict(result);
    if (outcome == FLOW_PENDING)
        return FLOW_LANE_ANSWERED;
    if (outcome == FLOW_NOT_OURS)
        return FLOW_LANE_NOTHING;
    if (err->domain == CC_DOM_STORE || err->domain == CC_DOM_TOKEN || !flow_can_record(flow) ||
            !flow->kind.ready(flow->arg))
        return FLOW_LANE_NOTHING;
    return FLOW_LANE_FAILED;
}

/* The worker is free again. */
static void
flow_work_end(struct flow *flow, struct flow_lane *lane, enum flow_lane_verdict verdict,
        const struct cc_err *err)
{
    bool tell;

    pthread_mutex_lock(&flow->lock);
    tell = flow_lane_end(flow, lane, verdict);
    flow_dispatch(flow);
    if (tell)
        pthread_cond_broadcast(&flow->room);
    pthread_cond_broadcast(&flow->attend);
    pthread_mutex_unlock(&flow->lock);
    if (tell)
        flow_lane_tell(flow, lane, verdict == FLOW_LANE_FAILED, err);
}

/* Takes the request out of the queue; false when it is not to be worked now. */
static bool
flow_begin(struct flow_item *item, bool *ret_last_attempt)
{
    struct flow *flow = item->flow;
    bool go;

    pthread_mutex_lock(&flow->lock);
    go = !flow->stopping && (!item->lease_lost || flow_stays(item));
    if (go && !flow_can_record(flow)) {
        go = false;
        item->due = cc_deadline_in(FLOW_SERVICE_RETRY_MS);
        flow_item_set_stage(item, FLOW_WAITING);
    } else if (go) {
        flow_item_set_stage(item, FLOW_WORKING);
    } else {
        flow_put_aside(item);
    }
    *ret_last_attempt = item->attempt >= (int)flow->max_attempts;
    pthread_mutex_unlock(&flow->lock);
    return go;
}

static int64_t
flow_retry_ms(struct flow_item *item, enum flow_outcome outcome)
{
    int64_t most = item->flow->kind.retry_max_ms;

    if (outcome == FLOW_PENDING)
        most = FLOW_PENDING_MAX_MS;
    return cc_backoff_ms(item->tries++, FLOW_RETRY_MS, most > 0 ? most : FLOW_RETRY_MAX_MS);
}

/* Nothing came of this try: it waits for the next, or goes back as the keeper sees fit. */
static void
flow_try_later(struct flow_item *item, enum flow_outcome outcome)
{
    struct flow *flow = item->flow;

    pthread_mutex_lock(&flow->lock);
    item->begun = outcome != FLOW_LATER;
    item->due = cc_deadline_in(flow_retry_ms(item, outcome));
    if ((item->lease_lost || flow->stopping) && !flow_stays(item))
        flow_item_set_stage(item, FLOW_RETURNING);
    else if (outcome == FLOW_PENDING)
        flow_item_set_stage(item, FLOW_UNDECIDED);
    else
        flow_item_set_stage(item, FLOW_WAITING);
    pthread_mutex_unlock(&flow->lock);
}

static void
flow_end(struct flow_item *item, enum flow_stage stage)
{
    struct flow *flow = item->flow;

    json_object_put(item->body);
    item->body = NULL;
    pthread_mutex_lock(&flow->lock);
    flow_item_set_stage(item, stage);
    pthread_mutex_unlock(&flow->lock);
}

static struct event_fields
flow_fields(const struct flow_item *item, int64_t began, const struct cc_err *err)
{
    struct event_fields fields = {
        .request_id = item->request_id,
        .user = item->user,
        .device = item->device,
        .thumbprint = flow_thumbprint(item),
        .serial_number = flow_text(item->result.serial_number),
        .ca = flow_text(item->result.ca),
        .duration_ms = cc_clock_mono_ms() - began,
        .error = err,
    };

    /* What took no whole millisecond took time all the same. */
    if (fields.duration_ms < 1)
        fields.duration_ms = 1;
    return fields;
}

/* The event of a finished attempt.  One that the service will have tried again is no failure for good. */
static void
flow_write_result_event(struct flow_item *item, int64_t began, const struct cc_err *err)
{
    const struct flow_variant *variant = item->variant;
    const struct flow_result *result = &item->result;
    const char *outcome = "was done";
    enum event_id id = variant->event.work_success;
    struct event_fields fields =
            flow_fields(item, began, result->outcome == JOURNAL_SUCCEEDED ? NULL : err);

    if (result->outcome == JOURNAL_FAILED_RETRYABLE) {
        atomic_fetch_add(&item->flow->tried_again, 1);
        id = variant->event.work_failed_attempt;
        outcome = "failed and will be tried again";
    } else if (result->outcome == JOURNAL_FAILED_FINAL) {
        id = variant->event.work_failure;
        outcome = "failed";
    }
    if (result->event != 0)
        id = result->event;
    eventlog_write(item->flow->log, id, &fields, "The %s %s %s: %s", variant->title,
            item->request_id, outcome, result->detail);
}

static void
flow_write_attempt_event(struct flow_item *item, int64_t began, const struct cc_err *err)
{
    struct event_fields fields = flow_fields(item, began, err);

    eventlog_write(item->flow->log, item->variant->event.work_failed_attempt, &fields,
            "The %s %s cannot be done now and will be tried again: %s", item->variant->title,
            item->request_id, cc_err_text(err));
}

void
flow_work(void *arg)
{
    struct flow_item *item = arg;
    struct flow *flow = item->flow;
    struct flow_lane *lane = item->lane;
    struct flow_request request = { .request_id = item->request_id, .item = item };
    int64_t began = cc_clock_mono_ms();
    struct cc_err err = { 0 };
    enum flow_lane_verdict verdict;
    enum flow_outcome outcome;

    if (!flow_begin(item, &request.last_attempt)) {
        flow_work_end(flow, lane, FLOW_LANE_NOTHING, NULL);
        return;
    }
    request.request_context = item->request_context;
    request.body = item->body;
    request.note = item->note;
    item->result.event = (enum event_id)0;
    outcome = flow->kind.work(flow->arg, &request, &item->result, &err);
    verdict = flow_verdict(flow, outcome, &item->result, &err);
    switch (outcome) {
    case FLOW_FINISHED:
        flow_write_result_event(item, began, &err);
        flow_end(item, FLOW_DONE);
        break;
    case FLOW_LATER:
    case FLOW_UNKNOWN:
        atomic_fetch_add(&flow->tried_again, 1);
        flow_write_attempt_event(item, began, &err);
        flow_try_later(item, outcome);
        break;
    case FLOW_PENDING:
        /* Once: it may take days. */
        if (!item->told)
            flow_write_attempt_event(item, began, &err);
        item->told = true;
        flow_try_later(item, outcome);
        break;
    case FLOW_NOT_OURS:
        flow_debug(flow, "The %s %s is left to other instances: %s", item->variant->title,
                item->request_id, cc_err_text(&err));
        flow_end(item, FLOW_RETURNING);
        break;
    }
    flow_work_end(flow, lane, verdict, &err);
}
