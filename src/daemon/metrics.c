/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "authorities.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "exposition.h"
#include "pki/scep.h"
#include "store/journal.h"

/*
 * What monitoring sees: what the rooms know of themselves, read when it is asked for.  Labels come from lists of ours and
 * from the configuration, never from a peer, so that their number is bounded.
 */

#define CAS_MAX 64

struct ca_view {
    char name[65];
    struct ca_measured measured;
};

struct view {
    bool running; /* the parts are there */
    unsigned features;
    struct hsm_status token;
    struct hsm_measured token_measured[HSM_MEASURED_MAX];
    size_t token_measured_count;
    struct intune_status service;
    struct intune_measured calls[INTUNE_MEASURED_MAX];
    size_t call_count;
    struct workload_status workloads[WORKLOADS];
    struct scep_counts scep;
    bool scep_counted; /* else the store cannot be asked */
    struct ca_view cas[CAS_MAX];
    size_t ca_count;
    bool publishes;
    struct ca_publish_stats publish;
};

/* ---- looking ---- */

/* LOCKED */
static void
look_at_authorities(const struct authorities *authorities, struct view *view)
{
    struct ca_publish *publish = authorities_get0_publish(authorities);
    size_t count;
    struct ca *const *cas = authorities_get0(authorities, &count);

    for (size_t i = 0; i < count && view->ca_count < CAS_MAX; i++) {
        struct ca_view *one = &view->cas[view->ca_count++];

        (void)cc_strcpy(one->name, sizeof(one->name), ca_name(cas[i]));
        ca_get_measured(cas[i], &one->measured);
    }
    if (publish == NULL)
        return;
    view->publishes = true;
    ca_publish_get_stats(publish, &view->publish);
}

static void
look(struct daemon *d, struct view *view)
{
    pthread_mutex_lock(&d->lock);
    view->features = d->config->connector.features;
    view->token.state = HSM_STATE_CLOSED;
    if (d->parts.hsm != NULL) {
        view->running = true;
        hsm_get_status(d->parts.hsm, &view->token);
        view->token_measured_count = hsm_get_measured(d->parts.hsm, view->token_measured);
    }
    if (d->parts.intune != NULL) {
        intune_get_status(d->parts.intune, &view->service);
        view->call_count = intune_get_measured(d->parts.intune, view->calls);
    }
    for (int i = 0; i < WORKLOADS; i++)
        workload_get_status(d, (enum workload)i, &view->workloads[i]);
    if (d->parts.authorities != NULL)
        look_at_authorities(d->parts.authorities, view);
    pthread_mutex_unlock(&d->lock);
    view->scep_counted = view->workloads[WORKLOAD_SCEP].running && store_is_usable(d->store) &&
                         scep_count(d->store, &view->scep, NULL) == 0;
}

/* ---- writing ---- */

static void
one(struct exposition *e, const char *name, enum exposition_type type, const char *help,
        double value)
{
    exposition_begin(e, name, type, help);
    exposition_put(e, value, NULL);
}

static double
seconds(int64_t ms)
{
    return (double)ms / 1000;
}

static void
write_standing(struct exposition *e, struct daemon *d)
{
    static const enum intune_standing standings[] = { INTUNE_STANDING_UNKNOWN,
        INTUNE_STANDING_ACTIVE, INTUNE_STANDING_WARNING, INTUNE_STANDING_ERROR };
    struct intune_lifecycle lifecycle;

    lifecycle_get(d, &lifecycle);
    exposition_begin(e, "version_status", EXPOSITION_GAUGE,
            "1 for how the service supports the version that runs.");
    for (size_t i = 0; i < CC_COUNT(standings); i++)
        exposition_put(e, lifecycle.standing == standings[i], "status",
                intune_standing_name(standings[i]), NULL);
}

static void
write_connector(struct exposition *e, struct daemon *d, const struct view *view)
{
    char why[512];

    exposition_begin(e, "build_info", EXPOSITION_GAUGE, "The version that runs; always 1.");
    exposition_put(e, 1, "version", CC_VERSION, NULL);
    one(e, "start_time_seconds", EXPOSITION_GAUGE, "When the connector started, since 1970.",
            seconds(d->started_ms));
    one(e, "ready", EXPOSITION_GAUGE,
            "1 when work can be done: token open, state store and event log usable, service reached.",
            status_is_ready(d, why, sizeof(why)));
    exposition_begin(e, "feature_enabled", EXPOSITION_GAUGE,
            "1 for each feature that the configuration has.");
    for (int i = 0; i < WORKLOADS; i++)
        exposition_put(e, (view->features & workload_feature((enum workload)i)) != 0, "feature",
                workload_name((enum workload)i), NULL);
    write_standing(e, d);
}

/* ---- workloads ---- */

static bool
has_queue(const struct view *view, int workload)
{
    return workload != WORKLOAD_SCEP && view->workloads[workload].running;
}

static void
put_outcomes(struct exposition *e, enum workload workload, double succeeded, double failed)
{
    exposition_put(e, succeeded, "workload", workload_name(workload), "outcome", "succeeded", NULL);
    exposition_put(e, failed, "workload", workload_name(workload), "outcome", "failed", NULL);
}

static void
write_outcomes(struct exposition *e, const struct view *view)
{
    exposition_begin(e, "requests_total", EXPOSITION_COUNTER,
            "Requests brought to their end, by outcome.");
    for (int i = 0; i < WORKLOADS; i++)
        if (view->workloads[i].running)
            put_outcomes(e, (enum workload)i, (double)view->workloads[i].succeeded,
                    (double)view->workloads[i].failed);
    exposition_begin(e, "request_failures_total", EXPOSITION_COUNTER,
            "Failed requests of queues by the reason that the service was told.");
    for (int i = 0; i < WORKLOADS; i++)
        for (unsigned code = 1; code < INTUNE_ERROR_CODES && has_queue(view, i); code++)
            exposition_put(e, (double)view->workloads[i].flow.failed_by[code], "workload",
                    workload_name((enum workload)i), "reason",
                    intune_error_code_name(intune_error_code_at(code)), NULL);
    exposition_begin(e, "request_retries_total", EXPOSITION_COUNTER,
            "Attempts that came to nothing and were, or will be, repeated.");
    for (int i = 0; i < WORKLOADS; i++)
        if (has_queue(view, i))
            exposition_put(e, (double)view->workloads[i].flow.tried_again, "workload",
                    workload_name((enum workload)i), NULL);
}

static void
write_work(struct exposition *e, const struct view *view)
{
    exposition_begin(e, "request_duration_seconds", EXPOSITION_HISTOGRAM,
            "From the download of a request to its admin event; of SCEP, from a message to its answer.");
    for (int i = 0; i < WORKLOADS; i++) {
        const struct workload_status *workload = &view->workloads[i];

        if (workload->running)
            exposition_put_histogram(e,
                    i == WORKLOAD_SCEP ? &workload->scep.time : &workload->flow.time, "workload",
                    workload_name((enum workload)i), NULL);
    }
    exposition_begin(e, "requests_in_work", EXPOSITION_GAUGE, "Requests in hand of this instance.");
    for (int i = 0; i < WORKLOADS; i++)
        if (view->workloads[i].running)
            exposition_put(e, view->workloads[i].in_work, "workload",
                    workload_name((enum workload)i), NULL);
    exposition_begin(e, "last_download_timestamp_seconds", EXPOSITION_GAUGE,
            "When the service's queue was last asked with success, since 1970; 0: never.");
    for (int i = 0; i < WORKLOADS; i++)
        if (has_queue(view, i))
            exposition_put(e, seconds(view->workloads[i].last_download_ms), "workload",
                    workload_name((enum workload)i), NULL);
    if (view->workloads[WORKLOAD_PKCS].running)
        one(e, "pkcs_ready_keys", EXPOSITION_GAUGE, "RSA key pairs made ahead.",
                (double)view->workloads[WORKLOAD_PKCS].ready_keys);
}

static double
age_of(int64_t since_ms)
{
    const int64_t now_ms = cc_clock_now_ms();

    return since_ms > 0 && since_ms < now_ms ? seconds(now_ms - since_ms) : 0;
}

/* What the state store says; nothing while it is away. */
static void
write_journal(struct exposition *e, struct daemon *d, const struct view *view)
{
    static const char *const states[] = {
        [JOURNAL_RECEIVED] = "received",
        [JOURNAL_PREPARED] = "prepared",
        [JOURNAL_ISSUED] = "issued",
        [JOURNAL_FAILED] = "failed",
        [JOURNAL_REPORTED] = "reported",
    };
    struct journal_counts counts[WORKLOADS];
    bool counted[WORKLOADS] = { false };

    for (int i = 0; i < WORKLOADS && store_is_usable(d->store); i++)
        counted[i] = has_queue(view, i) && journal_count(d->store, workload_name((enum workload)i),
                                                   &counts[i], NULL) == 0;
    exposition_begin(e, "journal_requests", EXPOSITION_GAUGE,
            "Requests in the journal that are not closed, by how far they are.");
    for (int i = 0; i < WORKLOADS; i++)
        for (size_t state = JOURNAL_RECEIVED; counted[i] && state < CC_COUNT(states); state++)
            exposition_put(e, (double)counts[i].by_state[state], "workload",
                    workload_name((enum workload)i), "state", states[state], NULL);
    exposition_begin(e, "oldest_request_age_seconds", EXPOSITION_GAUGE,
            "Age of the oldest request that is not closed; 0: there is none.");
    for (int i = 0; i < WORKLOADS; i++) {
        if (counted[i])
            exposition_put(e, age_of(counts[i].oldest_open_ms), "workload",
                    workload_name((enum workload)i), NULL);
        else if (i == WORKLOAD_SCEP && view->scep_counted)
            exposition_put(e, age_of(view->scep.oldest_open_ms), "workload",
                    workload_name((enum workload)i), NULL);
    }
}

static void
write_scep_counts(struct exposition *e, const struct view *view)
{
    exposition_begin(e, "scep_pending", EXPOSITION_GAUGE,
            "Requests that wait for somebody at the CA.");
    if (view->scep_counted)
        exposition_put(e, (double)view->scep.pending, NULL);
    exposition_begin(e, "scep_notifications_due", EXPOSITION_GAUGE,
            "Notifications that the service has not taken yet.");
    if (view->scep_counted)
        exposition_put(e, (double)view->scep.untold, NULL);
}

static void
write_scep(struct exposition *e, const struct scep_status *scep)
{
    static const char *const answers[SCEP_ANSWERED_KINDS] = { "success", "failure", "pending",
        "later", "refused" };

    one(e, "scep_ready", EXPOSITION_GAUGE, "1 when every profile has its RA certificates.",
            scep->ready);
    exposition_begin(e, "scep_messages_total", EXPOSITION_COUNTER,
            "Messages of devices by their answer; later: 503, refused: another HTTP status.");
    for (int i = 0; i < SCEP_ANSWERED_KINDS; i++)
        exposition_put(e, (double)scep->answered[i], "answer", answers[i], NULL);
    exposition_begin(e, "scep_failures_total", EXPOSITION_COUNTER,
            "Answers FAILURE by their failInfo (RFC 8894).");
    for (int i = 0; i < SCEP_FAIL_INFOS; i++)
        exposition_put(e, (double)scep->fail_info[i], "fail_info", pki_scep_fail_name(i), NULL);
    one(e, "scep_bad_messages_total", EXPOSITION_COUNTER,
            "Messages whose envelope could not be opened.", (double)scep->bad_messages);
}

/* ---- token ---- */

static void
write_token_operations(struct exposition *e, const struct view *view)
{
    exposition_begin(e, "token_operation_duration_seconds", EXPOSITION_HISTOGRAM,
            "Operations of the token by kind, waiting for a session included.");
    for (size_t i = 0; i < view->token_measured_count; i++)
        exposition_put_histogram(e, &view->token_measured[i].time, "operation",
                view->token_measured[i].operation, NULL);
    exposition_begin(e, "token_operation_failures_total", EXPOSITION_COUNTER,
            "Operations of the token that failed, whatever the reason.");
    for (size_t i = 0; i < view->token_measured_count; i++)
        exposition_put(e, (double)view->token_measured[i].failures, "operation",
                view->token_measured[i].operation, NULL);
}

static void
write_token(struct exposition *e, const struct view *view)
{
    static const enum hsm_state states[] = { HSM_STATE_STARTING, HSM_STATE_OPEN, HSM_STATE_LOST,
        HSM_STATE_PIN_REFUSED, HSM_STATE_CLOSED };
    const struct hsm_status *token = &view->token;

    exposition_begin(e, "token_state", EXPOSITION_GAUGE, "1 for the state that the token is in.");
    for (size_t i = 0; i < CC_COUNT(states); i++)
        exposition_put(e, token->state == states[i], "state", hsm_state_name(states[i]), NULL);
    one(e, "token_sessions", EXPOSITION_GAUGE, "Sessions with the token.", token->sessions);
    one(e, "token_sessions_busy", EXPOSITION_GAUGE, "Sessions with an operation under way.",
            token->busy);
    one(e, "token_callers_waiting", EXPOSITION_GAUGE, "Callers in line for a session.",
            token->waiting);
    one(e, "token_restarts_total", EXPOSITION_COUNTER,
            "Token processes started after the first, as one was lost.", (double)token->restarts);
    write_token_operations(e, view);
}

/* ---- service ---- */

static void
write_service(struct exposition *e, const struct view *view)
{
    static const enum intune_contact contacts[] = { INTUNE_CONTACT_NONE, INTUNE_CONTACT_OK,
        INTUNE_CONTACT_LOST, INTUNE_SIGN_IN_REFUSED, INTUNE_SIGN_IN_UNABLE,
        INTUNE_CERTIFICATE_REFUSED, INTUNE_CONNECTOR_REMOVED, INTUNE_CONNECTOR_LIMIT };

    exposition_begin(e, "service_contact", EXPOSITION_GAUGE,
            "1 for how contact with the service is.");
    for (size_t i = 0; i < CC_COUNT(contacts); i++)
        exposition_put(e, view->service.contact == contacts[i], "contact",
                status_contact_name(contacts[i]), NULL);
    one(e, "service_last_contact_timestamp_seconds", EXPOSITION_GAUGE,
            "When the service last answered well, since 1970; 0: never.",
            seconds(view->service.last_contact_ms));
    one(e, "clock_skew_seconds", EXPOSITION_GAUGE, "The service's clock minus ours.",
            seconds(view->service.clock_skew_ms));
    exposition_begin(e, "service_call_duration_seconds", EXPOSITION_HISTOGRAM,
            "Calls to the service with all their attempts; downloads wait for work on purpose.");
    for (size_t i = 0; i < view->call_count; i++)
        exposition_put_histogram(e, &view->calls[i].time, "call", view->calls[i].call, NULL);
    exposition_begin(e, "service_call_failures_total", EXPOSITION_COUNTER,
            "Calls without a good answer; refused: answered with a status of 400 to 499.");
    for (size_t i = 0; i < view->call_count; i++) {
        exposition_put(e, (double)view->calls[i].failed, "call", view->calls[i].call, "kind",
                "failed", NULL);
        exposition_put(e, (double)view->calls[i].refused, "call", view->calls[i].call, "kind",
                "refused", NULL);
    }
}

/* ---- authorities ---- */

static const char *
outcome_label(int outcome)
{
    static const char *const labels[CA_OUTCOMES] = {
        [CA_DONE] = "done",
        [CA_PENDING] = "pending",
        [CA_REFUSED] = "refused",
        [CA_RETRYABLE] = "not_now",
        [CA_MISCONFIGURED] = "misconfigured",
        [CA_UNKNOWN] = "unknown",
        [CA_NOT_FOUND] = "not_found",
    };

    return labels[outcome];
}

static void
write_authorities(struct exposition *e, const struct view *view)
{
    exposition_begin(e, "ca_operations_total", EXPOSITION_COUNTER,
            "What CAs were asked for and what came of it.");
    for (size_t i = 0; i < view->ca_count; i++)
        for (int operation = 0; operation < CA_OPERATIONS; operation++)
            for (int outcome = CA_DONE; outcome < CA_OUTCOMES; outcome++)
                exposition_put(e, (double)view->cas[i].measured.count[operation][outcome], "ca",
                        view->cas[i].name, "operation",
                        ca_operation_name((enum ca_operation)operation), "outcome",
                        outcome_label(outcome), NULL);
    exposition_begin(e, "ca_operation_duration_seconds", EXPOSITION_HISTOGRAM,
            "How long CAs took.");
    for (size_t i = 0; i < view->ca_count; i++)
        for (int operation = 0; operation < CA_OPERATIONS; operation++)
            exposition_put_histogram(e, &view->cas[i].measured.time[operation], "ca",
                    view->cas[i].name, "operation", ca_operation_name((enum ca_operation)operation),
                    NULL);
    if (!view->publishes)
        return;
    exposition_begin(e, "ocsp_answers_total", EXPOSITION_COUNTER,
            "OCSP answers: from the cache, signed for the question, or failed.");
    exposition_put(e, (double)view->publish.ocsp_from_cache, "source", "cache", NULL);
    exposition_put(e, (double)(view->publish.ocsp_answers - view->publish.ocsp_from_cache),
            "source", "signed", NULL);
    exposition_put(e, (double)view->publish.ocsp_failures, "source", "failed", NULL);
    one(e, "published_files_total", EXPOSITION_COUNTER,
            "CRLs and CA certificates that were fetched.", (double)view->publish.files);
}

/* ---- what ends on a day ---- */

static const int thresholds[] = { 60, 30, 14, 7, 1, 0 };

/* They come in the order in which they end. */
static bool
is_first_of_its_name(const struct upkeep_items *items, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(items->item[k].role, items->item[i].role) == 0 &&
                strcmp(items->item[k].name, items->item[i].name) == 0)
            return false;
    return true;
}

static void
write_items(struct exposition *e, const struct upkeep_items *items)
{
    const int64_t now_ms = cc_clock_now_ms();
    unsigned at[CC_COUNT(thresholds)] = { 0 };

    exposition_begin(e, "expiry_timestamp_seconds", EXPOSITION_GAUGE,
            "When what the connector depends on ends, since 1970.");
    for (size_t i = 0; i < items->count; i++) {
        const struct upkeep_item *item = &items->item[i];
        const int threshold = upkeep_threshold(item, now_ms);

        if (is_first_of_its_name(items, i))
            exposition_put(e, seconds(item->not_after_ms), "role", item->role, "name", item->name,
                    NULL);
        for (size_t k = 0; k < CC_COUNT(thresholds); k++)
            at[k] += threshold == thresholds[k];
    }
    exposition_begin(e, "expiring", EXPOSITION_GAUGE,
            "Things that end within so many days, 0: that have ended, and that nothing renews by "
            "itself in time.");
    for (size_t k = 0; k < CC_COUNT(thresholds); k++) {
        char days[16];

        (void)snprintf(days, sizeof(days), "%d", thresholds[k]);
        exposition_put(e, at[k], "days", days, NULL);
    }
}

static void
write_expiry(struct exposition *e, struct daemon *d)
{
    struct upkeep_items items = { .count = 0 };
    int rc = 0;

    pthread_mutex_lock(&d->lock);
    if (d->parts.expiry != NULL)
        rc = expiry_get(d->parts.expiry, &items, NULL);
    pthread_mutex_unlock(&d->lock);
    e->failed |= rc != 0;
    write_items(e, &items);
    upkeep_items_free(&items);
}

/* ---- store and event log ---- */

static void
write_store(struct exposition *e, struct daemon *d)
{
    struct store_stats stats;
    struct store_state state;

    store_stats(d->store, &stats);
    store_get_state(d->store, &state);
    one(e, "store_usable", EXPOSITION_GAUGE, "1 when the state store can be written.",
            state.usable);
    one(e, "store_outages_total", EXPOSITION_COUNTER, "Times that it could not.",
            (double)state.outages);
    one(e, "store_writes_total", EXPOSITION_COUNTER, "Calls that wrote.", (double)stats.writes);
    one(e, "store_write_failures_total", EXPOSITION_COUNTER, "Of these, those that failed.",
            (double)stats.failed);
    one(e, "store_reconnects_total", EXPOSITION_COUNTER,
            "Connections to the database made after one was lost.", (double)stats.reconnects);
    exposition_begin(e, "store_commit_duration_seconds", EXPOSITION_HISTOGRAM,
            "Transactions that writing calls share, from beginning to end.");
    exposition_put_histogram(e, &stats.commit_time, NULL);
}

static void
write_log(struct exposition *e, struct daemon *d)
{
    uint64_t counts[EVENTLOG_TYPES_MAX];
    struct eventlog_state state;
    size_t count;
    const struct event_type *types = event_types(&count);

    eventlog_get_counts(d->log, counts);
    eventlog_get_state(d->log, &state);
    one(e, "eventlog_usable", EXPOSITION_GAUGE, "1 when the event log can be written.",
            state.usable);
    one(e, "eventlog_lines_waiting", EXPOSITION_GAUGE, "Lines kept until it can.",
            (double)state.waiting);
    one(e, "eventlog_lines_lost_total", EXPOSITION_COUNTER, "Lines for which there was no room.",
            (double)state.lost);
    exposition_begin(e, "events_total", EXPOSITION_COUNTER,
            "Events written, by id (certconnector-events(7)).");
    for (size_t i = 0; i < count && i < EVENTLOG_TYPES_MAX; i++) {
        char id[16];

        (void)snprintf(id, sizeof(id), "%d", (int)types[i].id);
        exposition_put(e, (double)counts[i], "id", id, "name", types[i].name, "level",
                event_level_name(types[i].level), NULL);
    }
}

/* ---- processes ---- */

static unsigned
count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    unsigned count = 0;

    if (folder == NULL)
        return 0;
    while (readdir(folder) != NULL) /* a stream of our own: NOLINT(concurrency-mt-unsafe) */
        count++;
    (void)closedir(folder);
    return count > 3 ? count - 3 : 0; /* ".", "..", and the folder's own */
}

/* The second number of /proc/PID/statm: resident pages. */
static double
resident_bytes(long pid)
{
    char path[64];
    struct cc_buf text = CC_BUF_INIT(256);
    unsigned long pages = 0;

    (void)snprintf(path, sizeof(path), "/proc/%ld/statm", pid);
    if (pid > 0 && cc_file_read(path, &text, NULL) == 0)
        (void)sscanf(cc_buf_str(&text), "%*u %lu", &pages); /* NOLINT(cert-err34-c) */
    cc_buf_free(&text);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void
write_processes(struct exposition *e, struct daemon *d, const struct view *view)
{
    struct rusage usage = { .ru_maxrss = 0 };
    struct rlimit limit = { .rlim_cur = 0 };

    (void)getrusage(RUSAGE_SELF, &usage);
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    one(e, "process_cpu_seconds_total", EXPOSITION_COUNTER, "Time of the CPU that the daemon used.",
            (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    one(e, "process_resident_memory_bytes", EXPOSITION_GAUGE, "Memory of the daemon.",
            resident_bytes(getpid()));
    one(e, "process_start_time_seconds", EXPOSITION_GAUGE, "When the daemon started, since 1970.",
            seconds(d->started_ms));
    one(e, "process_open_fds", EXPOSITION_GAUGE, "Descriptors of the daemon.", count_descriptors());
    one(e, "process_max_fds", EXPOSITION_GAUGE, "How many it may have.", (double)limit.rlim_cur);
    one(e, "token_process_resident_memory_bytes", EXPOSITION_GAUGE,
            "Memory of the token process; 0: there is none.", resident_bytes(view->token.pid));
}

void
metrics_write(struct daemon *d, struct exposition *e)
{
    struct view *view = calloc(1, sizeof(*view));

    if (view == NULL) {
        e->failed = true;
        return;
    }
    look(d, view);
    write_connector(e, d, view);
    write_outcomes(e, view);
    write_work(e, view);
    write_journal(e, d, view);
    if (view->workloads[WORKLOAD_SCEP].running) {
        write_scep(e, &view->workloads[WORKLOAD_SCEP].scep);
        write_scep_counts(e, view);
    }
    write_token(e, view);
    write_service(e, view);
    write_authorities(e, view);
    write_expiry(e, d);
    write_store(e, d);
    write_log(e, d);
    write_processes(e, d, view);
    free(view);
}
