/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include "base/clock.h"
#include "base/text.h"

/* What a worker does: one request, tried until it is finished, or until it is better given back. */

/* Takes the request out of the queue; false when it is not to be worked any more. */
static bool
flow_begin(struct flow_item *item, bool *ret_last_attempt)
{
    struct flow *flow = item->flow;
    bool go;

    pthread_mutex_lock(&flow->lock);
    go = !flow->stopping && !item->lease_lost;
    flow_item_set_stage(item, go ? FLOW_WORKING : FLOW_RETURNING);
    *ret_last_attempt = item->attempt >= (int)flow->max_attempts;
    pthread_mutex_unlock(&flow->lock);
    return go;
}

static void
flow_end(struct flow_item *item, enum flow_stage stage)
{
    struct flow *flow = item->flow;

    pthread_mutex_lock(&flow->lock);
    flow_item_set_stage(item, stage);
    pthread_mutex_unlock(&flow->lock);
}

/* Waits before the next try; false when the request is to be given back. */
static bool
flow_wait_retry(struct flow_item *item, unsigned tries)
{
    struct flow *flow = item->flow;
    int64_t until = cc_deadline_in(cc_backoff_ms(tries, FLOW_RETRY_MS, FLOW_RETRY_MAX_MS));
    bool kept;

    pthread_mutex_lock(&flow->lock);
    for (;;) {
        int64_t now = cc_clock_mono_ms();

        kept = !flow->stopping && !item->lease_lost && now - item->received < FLOW_KEEP_MS;
        if (!kept || now >= until)
            break;
        flow_wait(flow, &flow->attend, until - now);
    }
    pthread_mutex_unlock(&flow->lock);
    return kept;
}

static struct event_fields
flow_fields(const struct flow_item *item, int64_t began, const struct cc_err *err)
{
    struct event_fields fields = {
        .request_id = item->request_id,
        .user = item->user,
        .device = item->device,
        .thumbprint = item->thumbprint,
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
    const struct flow_kind *kind = &item->flow->kind;
    const struct flow_result *result = &item->result;
    const char *outcome = "was done";
    enum event_id id = kind->event.work_success;
    struct event_fields fields =
            flow_fields(item, began, result->outcome == JOURNAL_SUCCEEDED ? NULL : err);

    if (result->outcome == JOURNAL_FAILED_RETRYABLE) {
        id = kind->event.work_failed_attempt;
        outcome = "failed and will be tried again";
    } else if (result->outcome == JOURNAL_FAILED_FINAL) {
        id = kind->event.work_failure;
        outcome = "failed";
    }
    eventlog_write(item->flow->log, id, &fields, "The %s %s %s: %s", kind->title, item->request_id,
            outcome, result->detail);
}

static void
flow_write_attempt_event(struct flow_item *item, int64_t began, const struct cc_err *err)
{
    struct event_fields fields = flow_fields(item, began, err);

    eventlog_write(item->flow->log, item->flow->kind.event.work_failed_attempt, &fields,
            "The %s %s cannot be done now and will be tried again: %s", item->flow->kind.title,
            item->request_id, cc_err_text(err));
}

/* One try; 0 when the request is finished, well or badly. */
static int
flow_try(struct flow_item *item, bool last_attempt)
{
    struct flow *flow = item->flow;
    const struct flow_request request = {
        .request_context = item->request_context,
        .request_id = item->request_id,
        .last_attempt = last_attempt,
        .body = item->body,
    };
    int64_t began = cc_clock_mono_ms();
    struct cc_err err = { 0 };

    if (flow->kind.work(flow->arg, &request, &item->result, &err) != 0) {
        flow_write_attempt_event(item, began, &err);
        return -1;
    }
    flow_write_result_event(item, began, &err);
    return 0;
}

void
flow_work(void *arg)
{
    struct flow_item *item = arg;
    bool last_attempt;

    if (!flow_begin(item, &last_attempt))
        return;
    for (unsigned tries = 0; flow_try(item, last_attempt) != 0; tries++) {
        if (!flow_wait_retry(item, tries)) {
            flow_end(item, FLOW_RETURNING);
            return;
        }
    }
    json_object_put(item->body);
    item->body = NULL;
    flow_end(item, FLOW_DONE);
}
