/* SPDX-License-Identifier: MIT */
#include "flow/flow.h"
#include "flow_int.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

/* ---- what is in hand ---- */

static int
copy_text(char **ret, const char *text, struct cc_err *err)
{
    if (text == NULL)
        return 0;
    *ret = cc_strdup(text, err);
    return *ret == NULL ? -1 : 0;
}

/* The first, or the one of this name; a name that nobody knows any more is the first too. */
const struct flow_variant *
flow_variant_find(const struct flow *flow, const char *name)
{
    for (size_t i = 0; name != NULL && i < flow->kind.variant_count; i++) {
        const struct flow_variant *variant = &flow->kind.variants[i];

        if (variant->name != NULL && strcmp(variant->name, name) == 0)
            return variant;
    }
    return &flow->kind.variants[0];
}

struct flow_item *
flow_item_new(struct flow *flow, const char *request_context, const char *request_id, int attempt,
        const struct flow_about *about, struct cc_err *err)
{
    struct flow_item *item = calloc(1, sizeof(*item));

    if (item == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    item->flow = flow;
    item->lane = &flow->lanes[0];
    item->attempt = attempt;
    item->received = cc_clock_mono_ms();
    item->variant = flow_variant_find(flow, about->variant);
    cc_buf_init(&item->result.json, FLOW_RESULT_MAX);
    if (copy_text(&item->request_context, request_context, err) != 0 ||
            copy_text(&item->request_id, request_id, err) != 0 ||
            copy_text(&item->user, about->user, err) != 0 ||
            copy_text(&item->device, about->device, err) != 0 ||
            copy_text(&item->thumbprint, about->thumbprint, err) != 0) {
        flow_item_free(item);
        return NULL;
    }
    return item;
}

/* The result, as far as the journal has it. */
static int
read_result(struct flow_item *item, const struct journal_entry *entry, struct cc_err *err)
{
    struct flow_result *result = &item->result;

    if (entry->result != NULL && cc_buf_add_str(&result->json, entry->result, err) != 0)
        return -1;
    result->outcome = entry->outcome;
    if (entry->outcome != JOURNAL_SUCCEEDED)
        result->error_code = intune_error_code_parse(entry->error_code);
    cc_strcpy(result->detail, sizeof(result->detail), entry->detail != NULL ? entry->detail : "");
    cc_strcpy(result->serial_number, sizeof(result->serial_number),
            entry->serial_number != NULL ? entry->serial_number : "");
    cc_strcpy(result->ca, sizeof(result->ca), entry->ca != NULL ? entry->ca : "");
    return 0;
}

/* The request itself, for those that are worked on after a crash. */
static int
read_request(struct flow_item *item, const struct journal_entry *entry, struct cc_err *err)
{
    if (copy_text(&item->note, entry->note, err) != 0)
        return -1;
    item->begun = item->note != NULL;
    if (entry->body == NULL)
        return 0;
    item->body = cc_json_parse(entry->body, strlen(entry->body), err);
    return item->body == NULL ? -1 : 0;
}

struct flow_item *
flow_item_from_entry(struct flow *flow, const struct journal_entry *entry, struct cc_err *err)
{
    const struct flow_about about = {
        .user = entry->user,
        .device = entry->device,
        .thumbprint = entry->thumbprint,
        .variant = entry->variant,
    };
    struct flow_item *item = flow_item_new(flow, entry->request_context, entry->request_id,
            entry->attempt, &about, err);

    if (item == NULL)
        return NULL;
    if (read_result(item, entry, err) != 0 || read_request(item, entry, err) != 0) {
        flow_item_free(item);
        return NULL;
    }
    if (entry->holder != NULL && strcmp(entry->holder, flow->connector_id) != 0 &&
            (item->holder = cc_strdup(entry->holder, err)) == NULL) {
        flow_item_free(item);
        return NULL;
    }
    item->verdict = entry->verdict;
    item->journaled = entry->state >= JOURNAL_ISSUED;
    item->reported = entry->state >= JOURNAL_REPORTED;
    item->closed = entry->state == JOURNAL_CLOSED;
    item->silent = item->reported;
    return item;
}

void
flow_item_free(struct flow_item *item)
{
    if (item == NULL)
        return;
    json_object_put(item->body);
    cc_buf_free(&item->result.json);
    free(item->request_context);
    free(item->request_id);
    free(item->user);
    free(item->device);
    free(item->thumbprint);
    free(item->note);
    free(item->holder);
    free(item);
}

void
flow_item_lease(struct flow_item *item, int64_t lease_until_ms)
{
    int64_t length = lease_until_ms - cc_clock_now_ms();

    item->lease_begin = cc_clock_mono_ms();
    item->lease_end = item->lease_begin + (length > 0 ? length : 0);
    item->lease_lost = false;
}

const char *
flow_item_holder(const struct flow_item *item)
{
    return item->holder != NULL ? item->holder : item->flow->connector_id;
}

bool
flow_same_holder(const struct flow_item *a, const struct flow_item *b)
{
    return strcmp(flow_item_holder(a), flow_item_holder(b)) == 0;
}

unsigned
flow_unfinished(const struct flow *flow)
{
    const unsigned undecided = flow->count[FLOW_UNDECIDED];

    return flow->count[FLOW_QUEUED] + flow->count[FLOW_WORKING] + flow->count[FLOW_WAITING] -
           flow_held(flow) + (undecided > FLOW_PENDING_MAX ? undecided - FLOW_PENDING_MAX : 0);
}

/* How many unfinished ones a request in this stage is. */
static unsigned
is_unfinished(enum flow_stage stage)
{
    return stage == FLOW_QUEUED || stage == FLOW_WORKING || stage == FLOW_WAITING;
}

/* Results do not wait for requests that wait themselves. */
bool
flow_gathered(const struct flow *flow)
{
    return flow->count[FLOW_DONE] >= flow->batch || flow->count[FLOW_DONE] >= FLOW_BATCH_MAX ||
           (flow->count[FLOW_DONE] > 0 &&
                   flow->count[FLOW_QUEUED] + flow->count[FLOW_WORKING] == 0);
}

const char *
flow_text(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

const char *
flow_thumbprint(const struct flow_item *item)
{
    return item->result.thumbprint[0] != '\0' ? item->result.thumbprint : item->thumbprint;
}

/* Wakes who waits for what has just changed; with the lock held. */
static void
flow_signal(struct flow *flow, enum flow_stage stage)
{
    bool first = stage == FLOW_DONE && flow->count[FLOW_DONE] == 1;

    if (first)
        flow->done_since = cc_clock_mono_ms();
    if (first || flow_gathered(flow))
        pthread_cond_signal(&flow->done);
    if (stage == FLOW_RETURNING || stage == FLOW_WAITING || stage == FLOW_UNDECIDED ||
            stage == FLOW_UNSETTLED)
        pthread_cond_broadcast(&flow->attend);
    if (flow->room_wanted > 0 && flow_unfinished(flow) < flow->room_wanted)
        pthread_cond_signal(&flow->room);
    if (flow->count[FLOW_DONE] + flow->count[FLOW_UPLOADING] == 0)
        pthread_cond_signal(&flow->idle);
}

void
flow_item_add(struct flow_item *item, enum flow_stage stage)
{
    struct flow *flow = item->flow;

    TAILQ_INSERT_TAIL(&flow->items, item, link);
    item->stage = stage;
    flow->count[stage]++;
    item->lane->unfinished += is_unfinished(stage);
    flow_signal(flow, stage);
}

void
flow_item_set_stage(struct flow_item *item, enum flow_stage stage)
{
    struct flow *flow = item->flow;

    flow->count[item->stage]--;
    flow->count[stage]++;
    item->lane->unfinished += is_unfinished(stage) - is_unfinished(item->stage);
    item->stage = stage;
    flow_signal(flow, stage);
}

void
flow_item_remove(struct flow_item *item)
{
    struct flow *flow = item->flow;

    TAILQ_REMOVE(&flow->items, item, link);
    flow->count[item->stage]--;
    item->lane->unfinished -= is_unfinished(item->stage);
    flow_signal(flow, FLOW_STAGES);
}

bool
flow_stays(const struct flow_item *item)
{
    return item->begun || !flow_has_leases(item->flow);
}

/* While we stop, what stays is left to the next start. */
void
flow_put_aside(struct flow_item *item)
{
    item->due = cc_deadline_in(FLOW_SERVICE_RETRY_MS);
    flow_item_set_stage(item, flow_stays(item) ? FLOW_WAITING : FLOW_RETURNING);
}

int
flow_prepare(const struct flow_request *request, const char *note, struct cc_err *err)
{
    struct flow_item *item = request->item;
    struct flow *flow = item->flow;
    char *copy = cc_strdup(note, err);

    if (copy == NULL)
        return -1;
    if (journal_prepare(flow->store, flow->kind.workload, item->request_id, note, err) != 0) {
        free(copy);
        return -1;
    }
    free(item->note);
    item->note = copy;
    pthread_mutex_lock(&flow->lock);
    item->begun = true;
    pthread_mutex_unlock(&flow->lock);
    return 0;
}

/* ---- waiting ---- */

void
flow_wait(struct flow *flow, pthread_cond_t *cond, int64_t ms)
{
    cc_cond_wait(cond, &flow->lock, ms);
}

bool
flow_pause(struct flow *flow, int64_t ms, bool while_stopping)
{
    int64_t end = cc_deadline_in(ms);
    bool over = false;

    pthread_mutex_lock(&flow->lock);
    while (!flow->closing && (while_stopping || !flow->stopping)) {
        int64_t left = end - cc_clock_mono_ms();

        if (left <= 0) {
            over = true;
            break;
        }
        flow_wait(flow, &flow->attend, left);
    }
    pthread_mutex_unlock(&flow->lock);
    return over;
}

/* ---- what went wrong, said once ---- */

bool
flow_store_refused(const struct cc_err *err)
{
    return err->domain == CC_DOM_STORE && err->code == 0;
}

bool
flow_can_record(const struct flow *flow)
{
    return store_is_usable(flow->store) && eventlog_is_usable(flow->log);
}

/* A service that leases requests to connectors gives none of a feature before it has heard that we have it. */
static bool
is_refusal(struct flow *flow, const struct cc_err *err)
{
    return err->domain == CC_DOM_HTTP && err->code == 403 &&
           (!flow_has_leases(flow) || intune_was_heard(flow->intune));
}

int
flow_service_said(struct flow *flow, int rc, const struct cc_err *err)
{
    const struct event_fields fields = { .error = err };

    if (rc == 0)
        atomic_store(&flow->feature_refused, false);
    else if (is_refusal(flow, err) && !atomic_exchange(&flow->feature_refused, true))
        eventlog_write(flow->log, EVENT_FEATURE_REFUSED, &fields,
                "The service does not allow this connector the feature %s: allow it there, or take "
                "it out of [connector] features",
                flow->kind.workload);
    return rc;
}

void
flow_debug(struct flow *flow, const char *fmt, ...)
{
    const struct event_type *type =
            event_type_get((int)flow->kind.variants[0].event.request_success);
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    eventlog_debug(flow->log, EVENT_CHANNEL_OPERATIONAL, type->category, "%s", text);
}

void
flow_adopt(struct flow *flow)
{
    pthread_mutex_lock(&flow->lock);
    flow->adopting = true;
    pthread_cond_broadcast(&flow->attend);
    pthread_mutex_unlock(&flow->lock);
}

/* ---- begin and end ---- */

static int
flow_init_locks(struct flow *flow, struct cc_err *err)
{
    pthread_cond_t *conds[] = { &flow->room, &flow->done, &flow->attend, &flow->idle };
    int rc;

    for (size_t i = 0; i < CC_COUNT(conds); i++)
        if (cc_cond_init(conds[i], err) != 0)
            return -1;
    rc = pthread_mutex_init(&flow->lock, NULL);
    if (rc == 0)
        rc = pthread_mutex_init(&flow->admission, NULL);
    return rc == 0 ? 0 : cc_err_set_errno(err, rc, "lock");
}

static unsigned
at_most(unsigned value, unsigned most)
{
    return value < most ? value : most;
}

static unsigned
batch_max(const struct flow *flow)
{
    if (flow->kind.batch_max == 0)
        return FLOW_BATCH_MAX;
    return at_most(flow->kind.batch_max, FLOW_DOWNLOAD_MAX);
}

void
flow_reconfigure(struct flow *flow, const struct flow_settings *settings)
{
    pthread_mutex_lock(&flow->lock);
    flow->batch = at_most(settings->batch > 0 ? settings->batch : 1, batch_max(flow));
    flow->poll_wait_ms = settings->poll_wait_ms;
    flow->poll_interval_ms = settings->poll_interval_ms;
    flow->max_attempts = settings->max_attempts > 0 ? settings->max_attempts : 1;
    pthread_cond_broadcast(&flow->room);
    pthread_mutex_unlock(&flow->lock);
}

static void *
flow_thread_main(void *arg)
{
    struct flow_thread *thread = arg;

    thread->run(thread->flow);
    pthread_mutex_lock(&thread->flow->lock);
    thread->ended = true;
    pthread_cond_broadcast(&thread->flow->idle);
    pthread_cond_broadcast(&thread->flow->attend);
    pthread_mutex_unlock(&thread->flow->lock);
    return NULL;
}

static int
flow_start_thread(struct flow *flow, struct flow_thread *thread, const char *name,
        void (*run)(struct flow *flow), struct cc_err *err)
{
    int rc;

    thread->flow = flow;
    thread->run = run;
    if ((rc = pthread_create(&thread->id, NULL, flow_thread_main, thread)) != 0)
        return cc_err_set_errno(err, rc, "thread %s", name);
    (void)pthread_setname_np(thread->id, name);
    thread->started = true;
    return 0;
}

static int
flow_start_threads(struct flow *flow, struct cc_err *err)
{
    const unsigned threads = flow_threads(flow);

    if ((flow->pool = cc_pool_open("cc-work", threads, threads, err)) == NULL)
        return -1;
    for (int i = 0; i < FLOW_UPLOADERS; i++) {
        if (flow_start_thread(flow, &flow->uploaders[i], "cc-upload", flow_uploader, err) != 0)
            return -1;
    }
    if (flow_start_thread(flow, &flow->keeper, "cc-lease", flow_keeper, err) != 0)
        return -1;
    return flow_start_thread(flow, &flow->downloader, "cc-download", flow_downloader, err);
}

int
flow_start(const struct flow_kind *kind, const struct flow_settings *settings, void *arg,
        struct flow **ret_flow, struct cc_err *err)
{
    struct flow *flow = calloc(1, sizeof(*flow));

    if (flow == NULL)
        return cc_err_nomem(err);
    TAILQ_INIT(&flow->items);
    flow->kind = *kind;
    if (flow_lanes_init(flow, settings->lanes, err) != 0 || flow_init_locks(flow, err) != 0) {
        free(flow->lanes);
        free(flow);
        return -1;
    }
    flow->arg = arg;
    flow->intune = settings->intune;
    flow->store = settings->store;
    flow->log = settings->log;
    flow->workers = settings->workers > 0 ? settings->workers : 1;
    flow_reconfigure(flow, settings);
    if ((flow->connector_id = cc_strdup(settings->connector_id, err)) == NULL ||
            flow_start_threads(flow, err) != 0) {
        flow_stop(flow, 0);
        return -1;
    }
    *ret_flow = flow;
    return 0;
}

/* Lets uploads end that can. */
static void
flow_drain_uploads(struct flow *flow, int64_t deadline)
{
    pthread_mutex_lock(&flow->lock);
    for (;;) {
        int64_t left = deadline - cc_clock_mono_ms();

        if (flow->count[FLOW_DONE] + flow->count[FLOW_UPLOADING] == 0 || left <= 0)
            break;
        flow_wait(flow, &flow->idle, left);
    }
    flow->closing = true;
    pthread_cond_broadcast(&flow->done);
    pthread_cond_broadcast(&flow->attend);
    pthread_mutex_unlock(&flow->lock);
}

/* Whether the thread ends before the deadline. */
static bool
flow_wait_ended(struct flow *flow, const struct flow_thread *thread, int64_t deadline)
{
    bool ended;

    pthread_mutex_lock(&flow->lock);
    while (thread->started && !thread->ended && cc_deadline_left(deadline) > 0)
        flow_wait(flow, &flow->idle, cc_deadline_left(deadline));
    ended = !thread->started || thread->ended;
    pthread_mutex_unlock(&flow->lock);
    return ended;
}

/* A thread that still waits for the service when the time is over is told to wait no more. */
static void
flow_join(struct flow *flow, struct flow_thread *thread, int64_t deadline)
{
    if (!flow_wait_ended(flow, thread, deadline))
        intune_cancel(flow->intune);
    if (thread->started)
        pthread_join(thread->id, NULL);
}

/*
 * A download that has waited for a while is a long poll, and is cut.  One that has just begun may have its answer on
 * the way: requests that nobody else gets until their lease is over.
 */
static void
flow_stop_downloads(struct flow *flow, int64_t deadline)
{
    if (!flow_wait_ended(flow, &flow->downloader, cc_deadline_in(FLOW_ANSWER_MS)))
        intune_cancel_downloads(flow->intune);
    flow_join(flow, &flow->downloader, deadline);
}

static void
flow_free(struct flow *flow)
{
    struct flow_item *item;

    while ((item = TAILQ_FIRST(&flow->items)) != NULL) {
        TAILQ_REMOVE(&flow->items, item, link);
        flow_item_free(item);
    }
    pthread_cond_destroy(&flow->room);
    pthread_cond_destroy(&flow->done);
    pthread_cond_destroy(&flow->attend);
    pthread_cond_destroy(&flow->idle);
    pthread_mutex_destroy(&flow->lock);
    pthread_mutex_destroy(&flow->admission);
    free(flow->connector_id);
    free(flow->lanes);
    free(flow);
}

void
flow_stop(struct flow *flow, int64_t drain_ms)
{
    int64_t deadline = cc_deadline_in(drain_ms);

    if (flow == NULL)
        return;
    pthread_mutex_lock(&flow->lock);
    flow->stopping = true;
    flow_leave_off(flow);
    pthread_cond_broadcast(&flow->room);
    pthread_cond_broadcast(&flow->attend);
    pthread_mutex_unlock(&flow->lock);

    flow_stop_downloads(flow, deadline);
    cc_pool_close(flow->pool);
    flow_drain_uploads(flow, deadline);
    for (int i = 0; i < FLOW_UPLOADERS; i++)
        flow_join(flow, &flow->uploaders[i], deadline);
    flow_join(flow, &flow->keeper, deadline);
    flow_free(flow);
}

void
flow_get_status(struct flow *flow, struct flow_status *ret)
{
    struct flow_status status = { 0 };

    pthread_mutex_lock(&flow->lock);
    for (int stage = 0; stage < FLOW_STAGES; stage++)
        status.in_hand += flow->count[stage];
    pthread_mutex_unlock(&flow->lock);
    status.succeeded = atomic_load(&flow->succeeded);
    status.failed = atomic_load(&flow->failed);
    status.last_download_ms = atomic_load(&flow->last_download_ms);
    status.tried_again = atomic_load(&flow->tried_again);
    for (unsigned i = 0; i < INTUNE_ERROR_CODES; i++)
        status.failed_by[i] = atomic_load(&flow->failed_by[i]);
    cc_histogram_get(&flow->time, &status.time);
    *ret = status;
}
