/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include "base/clock.h"
#include "base/log.h"

/*
 * What an uploader does: it takes all results there are, up to a batch, and brings them to their end together: journal
 * (issued, failed), upload, journal (reported), admin events, journal (closed).  A batch costs a call and four
 * waits for the disk, whatever its size.  So while others are worked on, a result waits a little for them; when it is
 * the last, as on an idle system, it is uploaded at once.
 */

struct flow_batch {
    struct flow_item *item[FLOW_BATCH_MAX];
    size_t count;
    int64_t began; /* of the upload, monotonic */
};

/* With the lock held: waits until there are results that need not wait for more, or all is over. */
static void
flow_wait_done(struct flow *flow)
{
    while (!flow->closing && !flow_gathered(flow)) {
        int64_t left = flow->done_since + FLOW_GATHER_MS - cc_clock_mono_ms();

        if (flow->count[FLOW_DONE] == 0)
            pthread_cond_wait(&flow->done, &flow->lock);
        else if (left > 0)
            flow_wait(flow, &flow->done, left);
        else
            break;
    }
}

/* Takes the results there are, of one holder; false when all is over. */
static bool
flow_take_done(struct flow *flow, struct flow_batch *batch)
{
    struct flow_item *item;

    batch->count = 0;
    pthread_mutex_lock(&flow->lock);
    flow_wait_done(flow);
    if (!flow->closing) {
        TAILQ_FOREACH(item, &flow->items, link)
        {
            if (item->stage != FLOW_DONE || batch->count == FLOW_BATCH_MAX ||
                    (batch->count > 0 && !flow_same_holder(item, batch->item[0])))
                continue;
            flow_item_set_stage(item, FLOW_UPLOADING);
            batch->item[batch->count++] = item;
        }
    }
    pthread_mutex_unlock(&flow->lock);
    return batch->count > 0;
}

static void
flow_let_go(struct flow *flow, struct flow_batch *batch)
{
    pthread_mutex_lock(&flow->lock);
    for (size_t i = 0; i < batch->count; i++)
        flow_item_remove(batch->item[i]);
    pthread_mutex_unlock(&flow->lock);
    for (size_t i = 0; i < batch->count; i++)
        flow_item_free(batch->item[i]);
    batch->count = 0;
}

/* While nothing can be recorded there is no use in trying, and when it can there is none in waiting longer. */
static bool
flow_wait_repeat(struct flow *flow, unsigned failures)
{
    if (flow_can_record(flow))
        return flow_pause(flow,
                cc_backoff_ms(failures, FLOW_SERVICE_RETRY_MS, FLOW_SERVICE_RETRY_MAX_MS), true);
    while (!flow_can_record(flow))
        if (!flow_pause(flow, FLOW_SERVICE_RETRY_MS, true))
            return false;
    return true;
}

/* Repeats a step of a batch until it succeeds; false: we are closing, and the journal tells the next start. */
typedef int (*flow_step_fn)(struct flow *flow, struct flow_batch *batch, struct cc_err *err);

static bool
flow_until_done(struct flow *flow, struct flow_batch *batch, const char *what, flow_step_fn step)
{
    for (unsigned failures = 0;; failures++) {
        struct cc_err err = { 0 };

        if (step(flow, batch, &err) == 0)
            return true;
        cc_log(CC_LOG_WARNING, "flow", "%s of %zu results: %s", what, batch->count,
                cc_err_text(&err));
        if (flow_store_refused(&err) || !flow_wait_repeat(flow, failures))
            return false;
    }
}

/* ---- journal: issued, failed ---- */

static int
flow_journal_results(struct flow *flow, struct flow_batch *batch, struct cc_err *err)
{
    struct journal_finished finished[FLOW_BATCH_MAX];
    struct flow_item *items[FLOW_BATCH_MAX];
    bool done[FLOW_BATCH_MAX] = { false };
    size_t count = 0;

    for (size_t i = 0; i < batch->count; i++) {
        struct flow_item *item = batch->item[i];
        struct flow_result *result = &item->result;

        if (item->journaled)
            continue;
        items[count] = item;
        finished[count++] = (struct journal_finished){
            .request_id = item->request_id,
            .outcome = result->outcome,
            .result = cc_buf_str(&result->json),
            .error_code = result->outcome == JOURNAL_SUCCEEDED
                                  ? NULL
                                  : intune_error_code_name(result->error_code),
            .detail = result->detail,
            .thumbprint = flow_text(result->thumbprint),
            .serial_number = flow_text(result->serial_number),
            .ca = flow_text(result->ca),
        };
    }
    if (count > 0 &&
            journal_finish_batch(flow->store, flow->kind.workload, finished, count, done, err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (!done[i])
            cc_log(CC_LOG_ERROR, "flow", "request %s left the journal while it was worked",
                    items[i]->request_id);
        items[i]->journaled = done[i];
    }
    return 0;
}

/* A result that the journal refuses is not uploaded: its request is not ours any more. */
static void
flow_drop_unjournaled(struct flow *flow, struct flow_batch *batch)
{
    struct flow_batch dropped = { .count = 0 };
    size_t kept = 0;

    for (size_t i = 0; i < batch->count; i++) {
        if (batch->item[i]->journaled)
            batch->item[kept++] = batch->item[i];
        else
            dropped.item[dropped.count++] = batch->item[i];
    }
    batch->count = kept;
    flow_let_go(flow, &dropped);
}

/* ---- upload ---- */

static enum journal_verdict
flow_verdict(enum intune_verdict verdict)
{
    switch (verdict) {
    case INTUNE_ACCEPTED:
        return JOURNAL_ACCEPTED;
    case INTUNE_ALREADY_COMPLETED:
        return JOURNAL_ALREADY_COMPLETED;
    case INTUNE_LEASE_LOST:
        return JOURNAL_LEASE_LOST;
    case INTUNE_NO_VERDICT:
        return JOURNAL_NO_VERDICT;
    case INTUNE_UNKNOWN:
        break;
    }
    return JOURNAL_UNKNOWN;
}

static const char *
flow_verdict_text(enum journal_verdict verdict)
{
    switch (verdict) {
    case JOURNAL_ACCEPTED:
        return "accepted";
    case JOURNAL_ALREADY_COMPLETED:
        return "not needed, as another instance's result stands";
    case JOURNAL_LEASE_LOST:
        return "discarded, as the lease was lost; the service gives the request out again";
    case JOURNAL_NO_VERDICT:
    case JOURNAL_UNKNOWN:
        break;
    }
    return "refused";
}

/* Of these, those of one variant. */
static size_t
flow_count_variant(struct flow_item *const *items, size_t count, const struct flow_variant *variant)
{
    size_t mine = 0;

    for (size_t i = 0; i < count; i++)
        mine += items[i]->variant == variant;
    return mine;
}

/* One event for all of each variant; request_id: of the one that is at fault, or NULL. */
static void
flow_write_upload_failure(struct flow *flow, struct flow_item *const *items, size_t count,
        const char *request_id, const struct cc_err *err)
{
    const struct event_fields fields = { .request_id = request_id, .error = err };

    for (size_t v = 0; v < flow->kind.variant_count; v++) {
        const struct flow_variant *variant = &flow->kind.variants[v];
        size_t mine = flow_count_variant(items, count, variant);

        if (mine > 0)
            eventlog_write(flow->log, variant->event.upload_failure, &fields,
                    "Uploading %zu result%s of %ss failed: %s", mine, mine == 1 ? "" : "s",
                    variant->title, cc_err_text(err));
    }
}

/* A result that the service will not speak of is not sent for ever. */
static void
flow_note_unanswered(struct flow *flow, struct flow_item *item)
{
    struct cc_err silence = { 0 };

    if (item->verdict != JOURNAL_NO_VERDICT || ++item->unanswered < FLOW_UNANSWERED_MAX)
        return;
    cc_err_set(&silence, CC_DOM_INPUT, 0, "the service's answers say nothing of this result");
    flow_write_upload_failure(flow, &item, 1, item->request_id, &silence);
    item->verdict = JOURNAL_UNKNOWN;
}

static int
flow_upload_items(struct flow *flow, struct flow_item *const *items, size_t count,
        struct cc_err *err)
{
    const char *results[FLOW_BATCH_MAX] = { NULL };
    enum intune_verdict verdicts[FLOW_BATCH_MAX];
    size_t answered = 0;

    for (size_t i = 0; i < count; i++)
        results[i] = cc_buf_str(&items[i]->result.json);
    if (flow_service_said(flow,
                flow_source_upload(flow, flow_item_holder(items[0]), results, count, verdicts, err),
                err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        items[i]->verdict = flow_verdict(verdicts[i]);
        flow_note_unanswered(flow, items[i]);
        answered += items[i]->verdict != JOURNAL_NO_VERDICT;
    }
    if (answered == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the answer says nothing of the results sent");
    return 0;
}

/* Whether the service will never take this as it is (400, 409, 413), as against now. */
static bool
flow_upload_refused(const struct cc_err *err)
{
    return err->domain == CC_DOM_HTTP &&
           (err->code == 400 || err->code == 409 || err->code == 413 || err->code == 422);
}

/* One result of a refused batch by itself, so that it does not hold up its neighbours. */
static int
flow_upload_alone(struct flow *flow, struct flow_item *item, struct cc_err *err)
{
    struct cc_err refusal = { 0 };

    if (flow_upload_items(flow, &item, 1, &refusal) == 0)
        return 0;
    if (!flow_upload_refused(&refusal)) {
        *err = refusal;
        return -1;
    }
    flow_write_upload_failure(flow, &item, 1, item->request_id, &refusal);
    item->verdict = JOURNAL_UNKNOWN;
    return 0;
}

static int
flow_upload(struct flow *flow, struct flow_batch *batch, struct cc_err *err)
{
    int rc = 0;

    batch->began = cc_clock_mono_ms();
    if (flow_upload_items(flow, batch->item, batch->count, err) == 0)
        return 0;
    flow_write_upload_failure(flow, batch->item, batch->count, NULL, err);
    if (!flow_upload_refused(err))
        return -1;
    cc_err_clear(err);
    for (size_t i = 0; i < batch->count && rc == 0; i++)
        rc = flow_upload_alone(flow, batch->item[i], err);
    return rc;
}

/* Of which the answer said nothing: they are sent again with those that come next. */
static void
flow_put_back_unanswered(struct flow *flow, struct flow_batch *batch)
{
    size_t kept = 0;

    pthread_mutex_lock(&flow->lock);
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->item[i]->verdict == JOURNAL_NO_VERDICT)
            flow_item_set_stage(batch->item[i], FLOW_DONE);
        else
            batch->item[kept++] = batch->item[i];
    }
    pthread_mutex_unlock(&flow->lock);
    batch->count = kept;
}

static struct event_fields
flow_upload_fields(const struct flow_item *item)
{
    return (struct event_fields){
        .request_id = item->request_id,
        .user = item->user,
        .device = item->device,
        .thumbprint = flow_thumbprint(item),
        .serial_number = flow_text(item->result.serial_number),
        .ca = flow_text(item->result.ca),
    };
}

static void
flow_write_upload_events(struct flow *flow, const struct flow_batch *batch)
{
    const struct event_fields all = { .duration_ms = cc_clock_mono_ms() - batch->began };

    for (size_t v = 0; v < flow->kind.variant_count; v++) {
        const struct flow_variant *variant = &flow->kind.variants[v];
        size_t mine = flow_count_variant(batch->item, batch->count, variant);

        if (mine > 0)
            eventlog_write(flow->log, variant->event.upload_success, &all,
                    "Uploaded %zu result%s of %ss", mine, mine == 1 ? "" : "s", variant->title);
    }
    for (size_t i = 0; i < batch->count; i++) {
        const struct flow_item *item = batch->item[i];
        const struct event_fields one = flow_upload_fields(item);

        eventlog_write(flow->log, item->variant->event.uploaded_request, &one,
                "The result of the %s %s was %s", item->variant->title, item->request_id,
                flow_verdict_text(item->verdict));
    }
}

/* ---- journal: reported; admin events; journal: closed ---- */

static int
flow_journal_reports(struct flow *flow, struct flow_batch *batch, struct cc_err *err)
{
    struct journal_report reports[FLOW_BATCH_MAX];
    size_t count = 0;

    for (size_t i = 0; i < batch->count; i++) {
        if (!batch->item[i]->reported)
            reports[count++] =
                    (struct journal_report){ batch->item[i]->request_id, batch->item[i]->verdict };
    }
    if (count == 0)
        return 0;
    return journal_report(flow->store, flow->kind.workload, reports, count, err);
}

/* A row must not be closed before its event is on disk. */
static int
flow_sync_events(struct flow *flow, struct flow_batch *batch, struct cc_err *err)
{
    (void)batch;
    return eventlog_sync(flow->log, err);
}

static int
flow_journal_closes(struct flow *flow, struct flow_batch *batch, struct cc_err *err)
{
    const char *ids[FLOW_BATCH_MAX];
    size_t count = 0;

    for (size_t i = 0; i < batch->count; i++) {
        if (!batch->item[i]->closed)
            ids[count++] = batch->item[i]->request_id;
    }
    if (count == 0)
        return 0;
    return journal_close(flow->store, flow->kind.workload, ids, count, err);
}

/* Whether the event is ours to write: not when another instance, or another attempt, will. */
static bool
flow_has_admin_event(const struct flow_item *item)
{
    switch (item->verdict) {
    case JOURNAL_ALREADY_COMPLETED:
    case JOURNAL_LEASE_LOST:
        return false;
    case JOURNAL_ACCEPTED:
        return !item->silent && item->result.outcome != JOURNAL_FAILED_RETRYABLE;
    case JOURNAL_NO_VERDICT:
    case JOURNAL_UNKNOWN:
        break;
    }
    return !item->silent;
}

static void
flow_write_failure(struct flow *flow, const struct flow_item *item, struct event_fields fields)
{
    struct cc_err why = { 0 };

    if (item->verdict != JOURNAL_ACCEPTED)
        cc_err_set(&why, CC_DOM_SERVICE, INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION,
                "the service refused its result");
    else
        cc_err_set(&why, CC_DOM_SERVICE, item->result.error_code, "%s", item->result.detail);
    fields.error = &why;
    atomic_fetch_add(&flow->failed, 1);
    atomic_fetch_add(&flow->failed_by[intune_error_code_number((enum intune_error_code)why.code)],
            1);
    eventlog_write(flow->log, item->variant->event.request_failure, &fields, "The %s %s failed: %s",
            item->variant->title, item->request_id, cc_err_text(&why));
}

/* What an earlier start had received, by the wall clock, says nothing of this one. */
static void
flow_measure(struct flow *flow, const struct flow_item *item)
{
    const int64_t now = cc_clock_mono_ms();

    if (item->received <= now)
        cc_histogram_add(&flow->time, (now - item->received) * 1000);
}

void
flow_write_admin_event(struct flow *flow, const struct flow_item *item)
{
    struct event_fields fields = flow_upload_fields(item);

    fields.deferred = true;
    if (!flow_has_admin_event(item))
        return;
    flow_measure(flow, item);
    if (item->verdict != JOURNAL_ACCEPTED || item->result.outcome != JOURNAL_SUCCEEDED) {
        flow_write_failure(flow, item, fields);
        return;
    }
    atomic_fetch_add(&flow->succeeded, 1);
    eventlog_write(flow->log, item->variant->event.request_success, &fields,
            "The %s %s was fulfilled and its result accepted: %s", item->variant->title,
            item->request_id, item->result.detail);
}

/* ---- a batch from done to closed ---- */

/* Those whose result is to be withdrawn: workers do that. */
static void
flow_part_unsettled(struct flow *flow, struct flow_batch *batch)
{
    size_t kept = 0;

    pthread_mutex_lock(&flow->lock);
    for (size_t i = 0; i < batch->count; i++) {
        struct flow_item *item = batch->item[i];

        if (flow_must_settle(item)) {
            item->due = 0;
            item->tries = 0;
            flow_item_set_stage(item, FLOW_UNSETTLED);
        } else {
            batch->item[kept++] = item;
        }
    }
    pthread_mutex_unlock(&flow->lock);
    batch->count = kept;
}

static void
flow_bring_to_end(struct flow *flow, struct flow_batch *batch)
{
    if (!flow_until_done(flow, batch, "journaling", flow_journal_results))
        return;
    flow_drop_unjournaled(flow, batch);
    if (batch->count == 0 || !flow_until_done(flow, batch, "uploading", flow_upload))
        return;
    flow_put_back_unanswered(flow, batch);
    flow_write_upload_events(flow, batch);
    if (!flow_until_done(flow, batch, "journaling the upload", flow_journal_reports))
        return;
    flow_part_unsettled(flow, batch);
    if (batch->count == 0)
        return;
    for (size_t i = 0; i < batch->count; i++)
        flow_write_admin_event(flow, batch->item[i]);
    if (!flow_until_done(flow, batch, "writing the events", flow_sync_events))
        return;
    (void)flow_until_done(flow, batch, "closing", flow_journal_closes);
}

void
flow_uploader(struct flow *flow)
{
    struct flow_batch batch;

    while (flow_take_done(flow, &batch)) {
        flow_bring_to_end(flow, &batch);
        flow_let_go(flow, &batch);
    }
}
