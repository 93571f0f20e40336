/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

/*
 * What the downloader does: it asks for as many requests as there is room for, journals them, and hands them to the
 * workers.  While the workload is not ready, or nothing can be made durable, it asks for none, so that other instances
 * get them.
 */

/* ---- how many to ask for ---- */

/* With the lock held: room for unfinished requests; enough to work on while the next download is under way. */
static unsigned
flow_capacity(const struct flow *flow)
{
    unsigned for_workers = FLOW_PER_WORKER * flow->workers;
    unsigned for_downloads = 2 * flow->batch;

    return for_workers > for_downloads ? for_workers : for_downloads;
}

/* With the lock held: how many to ask for now; 0: wait. */
static unsigned
flow_room(const struct flow *flow)
{
    unsigned capacity = flow_capacity(flow);
    unsigned unfinished = flow_unfinished(flow);
    unsigned room = unfinished < capacity ? capacity - unfinished : 0;

    /* Results that cannot be uploaded just now take memory too. */
    if (flow->count[FLOW_DONE] > FLOW_PER_WORKER * capacity)
        return 0;
    /* Few at a time would cost a call and a commit for each few. */
    if (2 * room < flow->batch)
        return 0;
    return room < flow->batch ? room : flow->batch;
}

/* Waits until requests may be asked for; how many, 0: we stop. */
static unsigned
flow_wait_room(struct flow *flow, int64_t *ret_poll_wait_ms)
{
    unsigned room = 0;

    pthread_mutex_lock(&flow->lock);
    while (!flow->stopping) {
        if ((room = flow_room(flow)) == 0) {
            flow->room_wanted = flow_capacity(flow) - (flow->batch + 1) / 2 + 1;
            flow_wait(flow, &flow->room, FLOW_SERVICE_RETRY_MS);
            flow->room_wanted = 0;
            continue;
        }
        pthread_mutex_unlock(&flow->lock);
        bool ready = flow_can_record(flow) && flow->kind.ready(flow->arg);
        pthread_mutex_lock(&flow->lock);
        if (ready)
            break;
        flow_wait(flow, &flow->room, FLOW_READY_POLL_MS);
    }
    if (flow->stopping)
        room = 0;
    *ret_poll_wait_ms = flow->poll_wait_ms;
    pthread_mutex_unlock(&flow->lock);
    return room;
}

/* ---- taking in ---- */

/* With the lock held: the request that is in hand already, or NULL. */
static struct flow_item *
flow_find(struct flow *flow, const struct intune_work *work)
{
    struct flow_item *item;

    TAILQ_FOREACH(item, &flow->items, link)
    {
        if (strcmp(item->request_id, work->request_id) == 0)
            return item;
    }
    return NULL;
}

/* With the lock held: a new delivery while the result of the one before is still being brought to its end. */
static bool
flow_comes_too_early(struct flow *flow, const struct intune_work *work)
{
    const struct flow_item *item = flow_find(flow, work);

    return item != NULL &&
           (item->stage == FLOW_DONE || item->stage == FLOW_UPLOADING ||
                   item->stage == FLOW_UNSETTLED || item->stage == FLOW_SETTLING) &&
           (item->attempt != work->attempt ||
                   strcmp(item->request_context, work->request_context) != 0);
}

/* Moves what comes too early to the end; how many do not. */
static size_t
flow_sort_out(struct flow *flow, struct intune_work *work, size_t count)
{
    size_t kept = 0;

    pthread_mutex_lock(&flow->lock);
    for (size_t i = 0; i < count; i++) {
        struct intune_work one = work[i];

        if (flow_comes_too_early(flow, &one))
            continue;
        work[i] = work[kept];
        work[kept++] = one;
    }
    pthread_mutex_unlock(&flow->lock);
    return kept;
}

/* With the lock held: a request in hand came again, under a new lease; one about to be given back is worked after all. */
static int
flow_take_again(struct flow_item *item, struct intune_work *work, struct cc_err *err)
{
    char *context = NULL;

    if (item->stage == FLOW_QUEUED || item->stage == FLOW_WAITING ||
            item->stage == FLOW_UNDECIDED || item->stage == FLOW_RETURNING) {
        if ((context = cc_strdup(work->request_context, err)) == NULL)
            return -1;
        free(item->request_context);
        item->request_context = context;
    }
    if (flow_has_leases(item->flow))
        flow_item_lease(item, work->lease_until_ms);
    free(item->holder);
    item->holder = NULL;
    item->attempt = work->attempt;
    if (item->stage == FLOW_RETURNING) {
        json_object_put(item->body);
        item->body = work->body;
        work->body = NULL;
        flow_item_set_stage(item, FLOW_QUEUED);
        flow_queue(item);
    }
    return 0;
}

/* Takes the body over: what several threads share is not left to a reference count. */
static int
flow_take_new(struct flow *flow, struct intune_work *work, const struct flow_about *about,
        struct cc_err *err)
{
    struct flow_item *item =
            flow_item_new(flow, work->request_context, work->request_id, work->attempt, about, err);

    if (item == NULL)
        return -1;
    item->body = work->body;
    work->body = NULL;
    flow_lane_choose(item);
    if (flow_has_leases(flow))
        flow_item_lease(item, work->lease_until_ms);
    pthread_mutex_lock(&flow->lock);
    flow_item_add(item, FLOW_QUEUED);
    flow_queue(item);
    pthread_mutex_unlock(&flow->lock);
    return 0;
}

struct flow_stored {
    struct flow *flow;
    struct flow_item *item;
    struct cc_err *err;
};

static int
flow_on_stored(void *arg, const struct journal_entry *entry)
{
    struct flow_stored *stored = arg;

    stored->item = flow_item_from_entry(stored->flow, entry, stored->err);
    return 0;
}

/* The stored result is answered under the context that the service uses now. */
static int
flow_readdress(struct flow_item *item, const char *request_context, struct cc_err *err)
{
    struct cc_buf *text = &item->result.json;
    json_object *result = NULL;
    int rc = -1;

    if (strcmp(item->request_context, request_context) == 0)
        return 0;
    if ((result = cc_json_parse(text->data, text->len, err)) == NULL)
        return cc_err_in(err, "stored result of request %s", item->request_id);
    if (cc_json_add_str(result, "requestContext", request_context, err) != 0)
        goto out;
    cc_buf_reset(text);
    rc = cc_json_write(result, text, err);
out:
    json_object_put(result);
    return rc;
}

/* A request whose result stands: uploaded again as it is. */
static int
flow_take_stored(struct flow *flow, const struct intune_work *work, struct cc_err *err)
{
    struct flow_stored stored = { flow, NULL, err };

    if (journal_find(flow->store, flow->kind.workload, work->request_id, flow_on_stored, &stored,
                err) != 0)
        return -1;
    if (stored.item == NULL)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "request %s is not in the journal",
                work->request_id);
    if (flow_readdress(stored.item, work->request_context, err) != 0) {
        flow_item_free(stored.item);
        return -1;
    }
    free(stored.item->holder);
    stored.item->holder = NULL;
    flow_lane_choose(stored.item);
    pthread_mutex_lock(&flow->lock);
    if (flow_has_leases(flow))
        flow_item_lease(stored.item, work->lease_until_ms);
    flow_item_add(stored.item, FLOW_DONE);
    pthread_mutex_unlock(&flow->lock);
    return 0;
}

static int
flow_take(struct flow *flow, struct intune_work *work, const struct flow_about *about,
        enum journal_todo todo, struct cc_err *err)
{
    struct flow_item *item;
    int rc = 0;

    pthread_mutex_lock(&flow->lock);
    if ((item = flow_find(flow, work)) != NULL)
        rc = flow_take_again(item, work, err);
    pthread_mutex_unlock(&flow->lock);
    if (item != NULL || todo == JOURNAL_ELSEWHERE)
        return rc;
    switch (todo) {
    case JOURNAL_UPLOAD:
    case JOURNAL_REUPLOAD:
        return flow_take_stored(flow, work, err);
    case JOURNAL_DO:
    case JOURNAL_BUSY: /* journaled once, and nobody has it */
    case JOURNAL_ELSEWHERE:
        break;
    }
    return flow_take_new(flow, work, about, err);
}

/* ---- a download ---- */

static void
flow_write_downloaded(struct flow *flow, const struct flow_variant *variant,
        const struct intune_work *work, const struct flow_about *about)
{
    const struct event_fields fields = {
        .request_id = work->request_id,
        .user = about->user,
        .device = about->device,
        .thumbprint = about->thumbprint,
    };

    if (work->attempt > 0)
        eventlog_write(flow->log, variant->event.downloaded_request, &fields,
                "Downloaded the %s %s, attempt %d", variant->title, work->request_id,
                work->attempt);
    else
        eventlog_write(flow->log, variant->event.downloaded_request, &fields,
                "Downloaded the %s %s", variant->title, work->request_id);
}

/* One event for all of each variant, and one for each request. */
static void
flow_write_download_events(struct flow *flow, const struct intune_work *work,
        const struct flow_about *about, size_t count, int64_t began)
{
    const struct event_fields batch = { .duration_ms = cc_clock_mono_ms() - began };

    for (size_t v = 0; v < flow->kind.variant_count; v++) {
        const struct flow_variant *variant = &flow->kind.variants[v];
        size_t mine = 0;

        for (size_t i = 0; i < count; i++)
            mine += flow_variant_find(flow, about[i].variant) == variant;
        if (mine == 0)
            continue;
        eventlog_write(flow->log, variant->event.download_success, &batch, "Downloaded %zu %s%s",
                mine, variant->title, mine == 1 ? "" : "s");
        for (size_t i = 0; i < count; i++)
            if (flow_variant_find(flow, about[i].variant) == variant)
                flow_write_downloaded(flow, variant, &work[i], &about[i]);
    }
}

static void
flow_write_download_failure(struct flow *flow, const struct cc_err *err, const char *what)
{
    const struct event_fields fields = { .error = err };

    eventlog_write(flow->log, flow->kind.variants[0].event.download_failure, &fields, "%s: %s",
            what, cc_err_text(err));
}

/* There are leases to keep that it does not know of. */
static void
flow_wake_keeper(struct flow *flow)
{
    pthread_mutex_lock(&flow->lock);
    pthread_cond_broadcast(&flow->attend);
    pthread_mutex_unlock(&flow->lock);
}

/* The text of a request that may be worked on after a crash; *ret_text is yours to free. */
static int
flow_body_text(const struct intune_work *work, const struct flow_about *about, char **ret_text,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(FLOW_BODY_MAX);
    int rc = 0;

    if (about->resumes) {
        rc = cc_json_write(work->body, &text, err);
        if (rc == 0)
            rc = (*ret_text = cc_strdup(cc_buf_str(&text), err)) == NULL ? -1 : 0;
    }
    cc_buf_free(&text);
    return rc;
}

/* What came, and what is known of it. */
struct flow_batch_in {
    struct intune_work *work;
    struct flow_about *about;
    struct journal_entry *entries;
    enum journal_todo *todo;
    char **bodies;
    size_t count;
    int64_t began;
};

static void
flow_batch_in_free(struct flow_batch_in *in)
{
    for (size_t i = 0; in->bodies != NULL && i < in->count; i++)
        free(in->bodies[i]);
    free(in->bodies);
    free(in->about);
    free(in->entries);
    free(in->todo);
}

static int
flow_batch_in_fill(struct flow *flow, struct flow_batch_in *in, struct cc_err *err)
{
    int64_t now = cc_clock_now_ms();

    in->about = calloc(in->count, sizeof(*in->about));
    in->entries = calloc(in->count, sizeof(*in->entries));
    in->todo = calloc(in->count, sizeof(*in->todo));
    in->bodies = calloc(in->count, sizeof(*in->bodies));
    if (in->about == NULL || in->entries == NULL || in->todo == NULL || in->bodies == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < in->count; i++) {
        const struct intune_work *work = &in->work[i];
        struct flow_about *about = &in->about[i];

        flow->kind.describe(flow->arg, work->body, about);
        if (flow_body_text(work, about, &in->bodies[i], err) != 0)
            return cc_err_in(err, "request %s", work->request_id);
        in->entries[i] = (struct journal_entry){
            .workload = flow->kind.workload,
            .request_id = work->request_id,
            .request_context = work->request_context,
            .attempt = work->attempt,
            .user = about->user,
            .device = about->device,
            .thumbprint = about->thumbprint,
            .body = in->bodies[i],
            .variant = about->variant,
            .holder = flow->connector_id,
            .lease_until_ms = work->lease_until_ms,
            .received_ms = now,
        };
    }
    return 0;
}

/* Journals what came and takes it in; the journal first, as a request that it does not know must not be begun. */
static int
flow_admit(struct flow *flow, struct flow_batch_in *in, struct cc_err *err)
{
    int rc;

    pthread_mutex_lock(&flow->admission);
    rc = journal_receive(flow->store, in->entries, in->count, in->todo, err);
    if (rc == 0)
        flow_write_download_events(flow, in->work, in->about, in->count, in->began);
    for (size_t i = 0; i < in->count && rc == 0; i++) {
        struct cc_err one = { 0 };

        /* What could not be taken in comes again when its lease is over. */
        if (flow_take(flow, &in->work[i], &in->about[i], in->todo[i], &one) != 0)
            flow_write_download_failure(flow, &one, "A downloaded request could not be taken in");
    }
    pthread_mutex_unlock(&flow->admission);
    flow_wake_keeper(flow);
    return rc;
}

/* Gives a whole download back; what cannot be given back comes again when its lease is over. */
static void
flow_refuse(struct flow *flow, const struct intune_work *work, size_t count)
{
    const char *contexts[FLOW_DOWNLOAD_MAX];
    struct cc_err err = { 0 };

    if (!flow_has_leases(flow))
        return;
    for (size_t i = 0; i < count; i++)
        contexts[i] = work[i].request_context;
    if (intune_queue_release(flow->intune, flow->kind.queue, flow->connector_id, contexts, count,
                &err) != 0)
        cc_log(CC_LOG_WARNING, "flow", "giving back %zu requests: %s", count, cc_err_text(&err));
}

static int
flow_take_download(struct flow *flow, struct intune_work *work, size_t count, int64_t began,
        struct cc_err *err)
{
    struct flow_batch_in in = { .work = work, .began = began };
    int rc = 0;

    /* They came with a long poll that was begun before. */
    if (!flow_can_record(flow)) {
        flow_refuse(flow, work, count);
        return 0;
    }
    in.count = flow_sort_out(flow, work, count);
    if (in.count < count) {
        flow_refuse(flow, work + in.count, count - in.count);
        (void)flow_pause(flow, FLOW_RETRY_MS, false);
    }
    if (in.count == 0)
        return 0;
    if (flow_batch_in_fill(flow, &in, err) != 0 || flow_admit(flow, &in, err) != 0) {
        flow_refuse(flow, work, in.count);
        rc = -1;
    }
    flow_batch_in_free(&in);
    return rc;
}

static int
flow_download(struct flow *flow, unsigned max, int64_t poll_wait_ms, struct cc_err *err)
{
    struct intune_work *work = NULL;
    size_t count = 0, malformed = 0;
    int64_t began = cc_clock_mono_ms();
    int rc = flow_source_download(flow, max, poll_wait_ms, &work, &count, &malformed, err);

    /* A question that failed does not put off the next: what it would have brought would wait for an interval. */
    if (flow_service_said(flow, rc, err) != 0)
        return -1;
    flow_note_poll(flow);
    atomic_store(&flow->last_download_ms, cc_clock_now_ms());
    flow_debug(flow, "Asked for up to %u %ss: %zu came after %lld ms", max,
            flow->kind.variants[0].title, count, (long long)(cc_clock_mono_ms() - began));
    if (malformed > 0) {
        struct cc_err lacking = { 0 };

        cc_err_set(&lacking, CC_DOM_INPUT, 0, "%zu requests lack members that every request has",
                malformed);
        flow_write_download_failure(flow, &lacking, "Requests were skipped");
    }
    if (count > FLOW_DOWNLOAD_MAX)
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "the service sent %zu requests", count);
    else if (count > 0)
        rc = flow_take_download(flow, work, count, began, err);
    intune_work_free(work, count);
    return rc;
}

/* Whether some of what came went back at once, as its CA fails and enough is held for it. */
static bool
flow_take_overflowed(struct flow *flow)
{
    bool overflowed;

    pthread_mutex_lock(&flow->lock);
    overflowed = flow->overflowed;
    flow->overflowed = false;
    pthread_mutex_unlock(&flow->lock);
    return overflowed;
}

/* What went back comes again: not at once.  false: we stop. */
static bool
flow_pause_overflowed(struct flow *flow, unsigned *times)
{
    if (!flow_take_overflowed(flow)) {
        *times = 0;
        return true;
    }
    return flow_pause(flow, cc_backoff_ms((*times)++, FLOW_RETRY_MS, FLOW_RETRY_MAX_MS), false);
}

/* The tenant has too many connectors: not told each time, and asked at leisure. */
static bool
flow_has_no_place(const struct cc_err *err)
{
    return err->domain == CC_DOM_HTTP && err->code == 409;
}

static int64_t
flow_download_retry_ms(const struct cc_err *err, unsigned failures)
{
    if (flow_has_no_place(err))
        return cc_backoff_ms(0, FLOW_LIMIT_RETRY_MS, FLOW_LIMIT_RETRY_MS);
    return cc_backoff_ms(failures, FLOW_SERVICE_RETRY_MS, FLOW_SERVICE_RETRY_MAX_MS);
}

/* Two who read the journal at once would both write the events of what they find reported. */
static void
flow_recover_first(struct flow *flow)
{
    flow_recover(flow);
    pthread_mutex_lock(&flow->lock);
    flow->recovered = true;
    pthread_cond_broadcast(&flow->attend);
    pthread_mutex_unlock(&flow->lock);
}

void
flow_downloader(struct flow *flow)
{
    unsigned failures = 0, overflows = 0;
    int64_t poll_wait_ms;
    unsigned max;

    flow_recover_first(flow);
    flow_read_poll(flow);
    while (flow_wait_poll(flow) && (max = flow_wait_room(flow, &poll_wait_ms)) > 0) {
        struct cc_err err = { 0 };

        if (flow_download(flow, max, poll_wait_ms, &err) == 0) {
            failures = 0;
            if (!flow_pause_overflowed(flow, &overflows))
                break;
            continue;
        }
        if (err.domain == CC_DOM_CANCELLED)
            break;
        if (failures == 0 || !flow_has_no_place(&err))
            flow_write_download_failure(flow, &err, "Downloading failed");
        if (!flow_pause(flow, flow_download_retry_ms(&err, failures++), false))
            break;
    }
}
