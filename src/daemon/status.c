/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "authorities.h"
#include "base/clock.h"
#include "base/json.h"
#include "ca/ca.h"
#include "store/journal.h"

#define CA_CHECK_MS 5000 /* for all authorities together */

/* What the parts say of themselves, taken in one moment.  A part that is not there, as while they are started anew,
   is closed and does nothing. */
struct snapshot {
    char name[256];
    unsigned features; /* that run */
    struct hsm_status token;
    struct intune_status service;
    bool has_identity; /* or is to have one */
    struct identity_status identity;
    struct workload_status workloads[WORKLOADS];
};

static void
snapshot_take(struct daemon *d, struct snapshot *ret)
{
    struct snapshot s = { .token = { .state = HSM_STATE_CLOSED } };

    pthread_mutex_lock(&d->lock);
    cc_strcpy(s.name, sizeof(s.name), d->name);
    if (d->parts.hsm != NULL)
        hsm_get_status(d->parts.hsm, &s.token);
    if (d->parts.intune != NULL)
        intune_get_status(d->parts.intune, &s.service);
    s.has_identity = d->parts.identity != NULL;
    if (s.has_identity)
        identity_get_status(d->parts.identity, &s.identity);
    for (int i = 0; i < WORKLOADS; i++) {
        workload_get_status(d, (enum workload)i, &s.workloads[i]);
        if (s.workloads[i].running)
            s.features |= workload_feature((enum workload)i);
    }
    pthread_mutex_unlock(&d->lock);
    *ret = s;
}

/* ---- writing; a tree without memory is no tree: *ok says so at the end ---- */

static void
put_str(json_object *obj, const char *name, const char *value, bool *ok)
{
    *ok = *ok && cc_json_add_str(obj, name, value, NULL) == 0;
}

static void
put_int(json_object *obj, const char *name, int64_t value, bool *ok)
{
    *ok = *ok && cc_json_add_int(obj, name, value, NULL) == 0;
}

static void
put_count(json_object *obj, const char *name, uint64_t value, bool *ok)
{
    put_int(obj, name, value < INT64_MAX ? (int64_t)value : INT64_MAX, ok);
}

/* Adds nothing for a time that never was. */
static void
put_time(json_object *obj, const char *name, int64_t ms, bool *ok)
{
    char text[CC_TIME_LEN];

    if (ms == 0)
        return;
    cc_time_format(ms, text);
    put_str(obj, name, text, ok);
}

/* An object in obj to be filled, or NULL, which the functions above take for no memory too. */
static json_object *
put_object(json_object *obj, const char *name, bool *ok)
{
    json_object *inner = json_object_new_object();

    *ok = *ok && inner != NULL && cc_json_add(obj, name, inner, NULL) == 0;
    return *ok ? inner : NULL;
}

static void
put_features(json_object *obj, const char *name, unsigned features, bool *ok)
{
    json_object *list = json_object_new_array();

    for (int i = 0; list != NULL && i < WORKLOADS; i++)
        if ((features & workload_feature((enum workload)i)) != 0)
            json_object_array_add(list, json_object_new_string(workload_name((enum workload)i)));
    *ok = *ok && list != NULL && cc_json_add(obj, name, list, NULL) == 0;
}

static json_object *
finish(json_object *obj, bool ok)
{
    if (ok)
        return obj;
    json_object_put(obj);
    return NULL;
}

/* ---- status ---- */

const char *
status_contact_name(enum intune_contact contact)
{
    switch (contact) {
    case INTUNE_CONTACT_NONE:
        return "none";
    case INTUNE_CONTACT_OK:
        return "ok";
    case INTUNE_CONTACT_LOST:
        return "lost";
    case INTUNE_SIGN_IN_REFUSED:
        return "sign-in refused";
    case INTUNE_SIGN_IN_UNABLE:
        return "sign-in not possible";
    case INTUNE_CERTIFICATE_REFUSED:
        return "identity refused";
    case INTUNE_CONNECTOR_REMOVED:
        return "removed";
    case INTUNE_CONNECTOR_LIMIT:
        return "connector limit reached";
    case INTUNE_MOVED:
        return "moved";
    case INTUNE_CLOCK_OFF:
    case INTUNE_CLOCK_RIGHT:
        return "clock";
    }
    return "none";
}

static void
put_token(json_object *obj, const struct hsm_status *token, bool *ok)
{
    put_str(obj, "state", hsm_state_name(token->state), ok);
    put_time(obj, "sinceDateTime", token->since_ms, ok);
    put_str(obj, "label", token->label, ok);
    put_str(obj, "manufacturer", token->manufacturer, ok);
    put_str(obj, "model", token->model, ok);
    put_str(obj, "serial", token->serial, ok);
    put_str(obj, "profile", token->profile, ok);
    put_int(obj, "sessions", token->sessions, ok);
    put_int(obj, "busy", token->busy, ok);
    put_int(obj, "waiting", token->waiting, ok);
    put_count(obj, "operations", token->operations, ok);
    put_count(obj, "failures", token->failures, ok);
    put_count(obj, "restarts", token->restarts, ok);
    put_int(obj, "pid", token->pid, ok);
    if (token->state != HSM_STATE_OPEN)
        put_str(obj, "lastError", token->last_error, ok);
}

/* Of the store and of the event log: whether work can be made durable and told. */
static void
put_durable(json_object *obj, bool usable, int64_t since_ms, const struct cc_err *reason, bool *ok)
{
    put_str(obj, "state", usable ? "ok" : "lost", ok);
    put_time(obj, "sinceDateTime", since_ms, ok);
    if (!usable)
        put_str(obj, "lastError", cc_err_text(reason), ok);
}

static void
put_store(json_object *obj, struct daemon *d, bool *ok)
{
    struct store_state state;

    store_get_state(d->store, &state);
    put_durable(obj, state.usable, state.since_ms, &state.reason, ok);
    put_count(obj, "outages", state.outages, ok);
}

static void
put_log(json_object *obj, struct daemon *d, bool *ok)
{
    struct eventlog_state state;

    eventlog_get_state(d->log, &state);
    put_durable(obj, state.usable, state.since_ms, &state.reason, ok);
    put_count(obj, "waiting", state.waiting, ok);
    put_count(obj, "lost", state.lost, ok);
}

/* Nothing before the service has said something of it. */
static void
put_lifecycle(json_object *service, struct daemon *d, unsigned features, bool *ok)
{
    struct intune_lifecycle lifecycle;
    json_object *obj;

    lifecycle_get(d, &lifecycle);
    if (lifecycle.standing == INTUNE_STANDING_UNKNOWN && !lifecycle.says_features)
        return;
    obj = put_object(service, "lifecycle", ok);
    put_str(obj, "status", intune_standing_name(lifecycle.standing), ok);
    if (lifecycle.reason[0] != '\0')
        put_str(obj, "statusReason", lifecycle.reason, ok);
    if (lifecycle.latest_version[0] != '\0')
        put_str(obj, "latestVersion", lifecycle.latest_version, ok);
    put_time(obj, "supportedUntilDateTime", lifecycle.supported_until_ms, ok);
    put_features(obj, "refusedFeatures", lifecycle_refused(&lifecycle, features), ok);
}

static void
put_service(json_object *obj, const struct intune_status *service, bool *ok)
{
    put_str(obj, "contact", status_contact_name(service->contact), ok);
    put_time(obj, "lastContactDateTime", service->last_contact_ms, ok);
    put_int(obj, "clockSkewMs", service->clock_skew_ms, ok);
    if (service->clock_is_off)
        put_str(obj, "clockWarning",
                "the clock of this host is wrong, no certificate is issued: have it set by NTP",
                ok);
    if (service->contact != INTUNE_CONTACT_OK)
        put_str(obj, "lastError", service->last_error, ok);
}

static void
put_identity(json_object *obj, const struct identity_status *identity, bool *ok)
{
    const char *state = "valid";

    if (!identity->enrolled)
        state = "none";
    else if (identity->removed)
        state = "removed";
    else if (identity->refused)
        state = "refused";
    else if (identity->not_after_ms <= cc_clock_now_ms())
        state = "expired";
    put_str(obj, "state", state, ok);
    if (identity->enrolled) {
        put_str(obj, "connectorId", identity->connector_id, ok);
        put_str(obj, "serialNumber", identity->serial, ok);
        put_str(obj, "key", identity->key, ok);
    }
    put_time(obj, "notBeforeDateTime", identity->not_before_ms, ok);
    put_time(obj, "expirationDateTime", identity->not_after_ms, ok);
    put_time(obj, "renewAfterDateTime", identity->renew_after_ms, ok);
    if (identity->last_error[0] != '\0')
        put_str(obj, "lastError", identity->last_error, ok);
}

static void
put_journal(json_object *obj, const struct journal_counts *journal, bool *ok)
{
    static const char *const names[] = {
        [JOURNAL_RECEIVED] = "received",
        [JOURNAL_PREPARED] = "prepared",
        [JOURNAL_ISSUED] = "issued",
        [JOURNAL_FAILED] = "failed",
        [JOURNAL_REPORTED] = "reported",
        [JOURNAL_CLOSED] = "closed",
    };

    for (size_t state = JOURNAL_RECEIVED; state < CC_COUNT(names); state++)
        put_count(obj, names[state], journal->by_state[state], ok);
}

/* counts: NULL while the journal cannot be read. */
static void
put_workload(json_object *obj, const struct workload_status *workload,
        const struct journal_counts *counts, bool *ok)
{
    put_int(obj, "inWork", workload->in_work, ok);
    put_count(obj, "succeeded", workload->succeeded, ok);
    put_count(obj, "failed", workload->failed, ok);
    put_time(obj, "lastDownloadDateTime", workload->last_download_ms, ok);
    if (counts == NULL)
        return;
    put_count(obj, "totalSucceeded", counts->succeeded, ok);
    put_count(obj, "totalFailed", counts->failed, ok);
    put_time(obj, "oldestRequestDateTime", counts->oldest_open_ms, ok);
    put_journal(put_object(obj, "journal", ok), counts, ok);
}

static void
put_key(json_object *list, const struct key_state *state, bool *ok)
{
    json_object *key = json_object_new_object();

    if (key == NULL || json_object_array_add(list, key) != 0) {
        json_object_put(key);
        *ok = false;
        return;
    }
    put_str(key, "role", state->role, ok);
    put_str(key, "uri", state->uri, ok);
    put_str(key, "state", state->checked_ms == 0 ? "unknown" : state->good ? "good" : "bad", ok);
    put_time(key, "checkedDateTime", state->checked_ms, ok);
    if (!state->good)
        put_str(key, "error", state->error, ok);
}

static void
put_keys(json_object *status, struct daemon *d, bool *ok)
{
    struct key_state *states = calloc(KEYS_MAX, sizeof(*states));
    json_object *list = json_object_new_array();
    size_t count = 0;

    if (status == NULL || states == NULL || cc_json_add(status, "keys", list, NULL) != 0) {
        *ok = false;
        free(states);
        return;
    }
    pthread_mutex_lock(&d->lock);
    if (d->parts.keys != NULL)
        count = keys_get(d->parts.keys, states);
    pthread_mutex_unlock(&d->lock);
    for (size_t i = 0; i < count; i++)
        put_key(list, &states[i], ok);
    free(states);
}

/* ---- what ends on a day ---- */

/* Empty while the parts are started anew. */
static void
take_items(struct daemon *d, struct upkeep_items *ret, bool *ok)
{
    *ret = (struct upkeep_items){ .count = 0 };
    pthread_mutex_lock(&d->lock);
    if (d->parts.expiry != NULL)
        *ok = expiry_get(d->parts.expiry, ret, NULL) == 0 && *ok;
    pthread_mutex_unlock(&d->lock);
}

static json_object *
add_object(json_object *list, bool *ok)
{
    json_object *obj = json_object_new_object();

    if (*ok && obj != NULL && json_object_array_add(list, obj) == 0)
        return obj;
    json_object_put(obj);
    *ok = false;
    return NULL;
}

static json_object *
put_list(json_object *obj, const char *name, bool *ok)
{
    json_object *list = json_object_new_array();

    *ok = *ok && list != NULL && cc_json_add(obj, name, list, NULL) == 0;
    return *ok ? list : NULL;
}

static void
put_certificates(json_object *obj, struct daemon *d, bool *ok)
{
    json_object *list = put_list(obj, "certificates", ok);
    const int64_t now = cc_clock_now_ms();
    struct upkeep_items items;

    take_items(d, &items, ok);
    for (size_t i = 0; *ok && i < items.count; i++) {
        json_object *one = add_object(list, ok);

        put_str(one, "role", items.item[i].role, ok);
        put_str(one, "name", items.item[i].name, ok);
        put_time(one, "expirationDateTime", items.item[i].not_after_ms, ok);
        put_int(one, "daysLeft", upkeep_days_left(&items.item[i], now), ok);
        if (upkeep_threshold(&items.item[i], now) >= 0)
            put_int(one, "threshold", upkeep_threshold(&items.item[i], now), ok);
    }
    upkeep_items_free(&items);
}

/* It has no queue: its requests come by themselves, and its rows are not the journal's. */
static void
put_scep(json_object *obj, struct daemon *d, const struct workload_status *workload, bool *ok)
{
    const struct scep_status *scep = &workload->scep;
    struct scep_counts counts;

    put_str(obj, "state", scep->ready ? "ready" : "starting", ok);
    put_int(obj, "inWork", workload->in_work, ok);
    if (store_is_usable(d->store) && scep_count(d->store, &counts, NULL) == 0) {
        put_count(obj, "succeeded", counts.succeeded, ok);
        put_count(obj, "failed", counts.failed, ok);
        put_count(obj, "pending", counts.pending, ok);
        put_count(obj, "notificationsDue", counts.untold, ok);
        put_time(obj, "oldestRequestDateTime", counts.oldest_open_ms, ok);
    }
    put_count(obj, "badMessages", scep->bad_messages, ok);
    put_int(obj, "port", scep->port, ok);
    if (scep->legacy != NULL)
        put_str(obj, "legacy", scep->legacy, ok);
    if (!scep->ready && scep->last_error[0] != '\0')
        put_str(obj, "lastError", scep->last_error, ok);
}

/* Those that run; imported PFX always, whose numbers monitoring has looked for since the first version. */
static void
put_workloads(json_object *obj, struct daemon *d, const struct snapshot *s, bool *ok)
{
    for (int i = 0; i < WORKLOADS; i++) {
        const char *name = workload_name((enum workload)i);
        struct journal_counts counts;
        json_object *one;
        bool counted;

        if (!s->workloads[i].running && i != WORKLOAD_PFX_IMPORT)
            continue;
        if (i == WORKLOAD_SCEP) {
            put_scep(put_object(obj, name, ok), d, &s->workloads[i], ok);
            continue;
        }
        counted = store_is_usable(d->store) && journal_count(d->store, name, &counts, NULL) == 0;
        one = put_object(obj, name, ok);
        put_workload(one, &s->workloads[i], counted ? &counts : NULL, ok);
        if (i == WORKLOAD_PKCS)
            put_int(one, "readyKeys", s->workloads[i].ready_keys, ok);
    }
}

json_object *
status_build(struct daemon *d)
{
    json_object *status = json_object_new_object();
    bool ok = status != NULL;
    struct snapshot s;

    snapshot_take(d, &s);
    put_str(status, "version", CC_VERSION, &ok);
    put_str(status, "name", s.name, &ok);
    put_str(status, "connectorId", s.identity.enrolled ? s.identity.connector_id : d->connector_id,
            &ok);
    put_int(status, "pid", getpid(), &ok);
    put_time(status, "startedDateTime", d->started_ms, &ok);
    put_features(status, "features", s.features, &ok);
    put_token(put_object(status, "token", &ok), &s.token, &ok);
    put_keys(status, d, &ok);
    put_store(put_object(status, "store", &ok), d, &ok);
    put_log(put_object(status, "eventLog", &ok), d, &ok);
    json_object *service = put_object(status, "service", &ok);
    put_service(service, &s.service, &ok);
    put_lifecycle(service, d, s.features, &ok);
    if (s.has_identity)
        put_identity(put_object(status, "identity", &ok), &s.identity, &ok);
    put_workloads(put_object(status, "workloads", &ok), d, &s, &ok);
    put_certificates(status, d, &ok);
    return finish(status, ok);
}

bool
status_is_ready(struct daemon *d, char *ret_text, size_t size)
{
    struct snapshot s;
    bool token, service, store = store_is_usable(d->store), log = eventlog_is_usable(d->log);

    snapshot_take(d, &s);
    token = s.token.state == HSM_STATE_OPEN;
    service = s.service.contact == INTUNE_CONTACT_OK || s.features == 0;
    (void)snprintf(ret_text, size, "not ready:%s%s%s%s%s%s", token ? "" : " token ",
            token ? "" : hsm_state_name(s.token.state), service ? "" : " service ",
            service ? "" : status_contact_name(s.service.contact), store ? "" : " state store lost",
            log ? "" : " event log lost");
    return token && service && store && log;
}

void
status_line(struct daemon *d, char *ret_text, size_t size)
{
    struct snapshot s;

    struct workload_status all = { .in_work = 0 };

    snapshot_take(d, &s);
    for (int i = 0; i < WORKLOADS; i++) {
        all.in_work += s.workloads[i].in_work;
        all.succeeded += s.workloads[i].succeeded;
        all.failed += s.workloads[i].failed;
    }
    (void)snprintf(ret_text, size,
            "token %s, service %s%s%s, %u requests in work, %llu done, %llu failed",
            hsm_state_name(s.token.state), status_contact_name(s.service.contact),
            store_is_usable(d->store) ? "" : ", state store lost",
            eventlog_is_usable(d->log) ? "" : ", event log lost", all.in_work,
            (unsigned long long)all.succeeded, (unsigned long long)all.failed);
}

/* ---- heartbeat ---- */

static void
put_metric(json_object *list, const char *name, uint64_t succeeded, uint64_t failed, bool *ok)
{
    json_object *metric = json_object_new_object();

    put_str(metric, "name", name, ok);
    put_count(metric, "value", succeeded + failed, ok);
    put_count(metric, "successCount", succeeded, ok);
    put_count(metric, "failureCount", failed, ok);
    if (!*ok || json_object_array_add(list, metric) != 0) {
        json_object_put(metric);
        *ok = false;
    }
}

static void
put_issue(json_object *list, const char *code, const char *severity, const char *message, bool *ok)
{
    json_object *issue = json_object_new_object();

    put_str(issue, "code", code, ok);
    put_str(issue, "severity", severity, ok);
    put_str(issue, "message", message, ok);
    if (!*ok || json_object_array_add(list, issue) != 0) {
        json_object_put(issue);
        *ok = false;
    }
}

static void
put_heartbeat_token(json_object *obj, const struct hsm_status *token, bool *ok)
{
    put_str(obj, "state", hsm_state_name(token->state), ok);
    put_str(obj, "label", token->label, ok);
    put_str(obj, "manufacturer", token->manufacturer, ok);
    put_str(obj, "model", token->model, ok);
}

static void
put_heartbeat_workloads(json_object *beat, const struct snapshot *s, bool *ok)
{
    json_object *queues = put_object(beat, "queues", ok), *metrics = put_list(beat, "metrics", ok);

    for (int i = 0; i < WORKLOADS; i++) {
        const struct workload_status *workload = &s->workloads[i];
        const char *name = workload_name((enum workload)i);

        if (!workload->running)
            continue;
        put_int(queues, name, workload->in_work, ok);
        put_metric(metrics, name, workload->succeeded, workload->failed, ok);
    }
}

/* CRLs come and go by themselves, and are nobody's certificates. */
static void
put_heartbeat_certificates(json_object *beat, struct daemon *d, bool *ok)
{
    json_object *list = put_list(beat, "certificates", ok);
    struct upkeep_items items;

    take_items(d, &items, ok);
    for (size_t i = 0; *ok && i < items.count; i++) {
        json_object *one;

        if (strstr(items.item[i].role, "crl") != NULL)
            continue;
        one = add_object(list, ok);
        put_str(one, "role", items.item[i].role, ok);
        put_time(one, "expirationDateTime", items.item[i].not_after_ms, ok);
    }
    upkeep_items_free(&items);
}

static void
put_token_issues(json_object *issues, const struct hsm_status *token, bool *ok)
{
    if (token->state == HSM_STATE_LOST)
        put_issue(issues, "TokenLost", "error", token->last_error, ok);
    if (token->state == HSM_STATE_PIN_REFUSED)
        put_issue(issues, "TokenPinRefused", "error", token->last_error, ok);
}

static void
put_key_issues(json_object *issues, struct daemon *d, bool *ok)
{
    struct key_state *states = calloc(KEYS_MAX, sizeof(*states));
    size_t count = 0;
    char text[512];

    *ok = *ok && states != NULL;
    pthread_mutex_lock(&d->lock);
    if (states != NULL && d->parts.keys != NULL)
        count = keys_get(d->parts.keys, states);
    pthread_mutex_unlock(&d->lock);
    for (size_t i = 0; i < count; i++) {
        if (states[i].good || states[i].checked_ms == 0)
            continue;
        (void)snprintf(text, sizeof(text), "%s: %s", states[i].role, states[i].error);
        put_issue(issues, "KeyUnusable", "error", text, ok);
    }
    free(states);
}

/* For the thread of health messages: the authorities are closed after it has ended. */
static void
put_ca_issues(json_object *issues, struct daemon *d, bool *ok)
{
    const int64_t deadline = cc_deadline_in(CA_CHECK_MS);
    struct authorities *authorities;
    struct ca *const *list = NULL;
    size_t count = 0;

    pthread_mutex_lock(&d->lock);
    authorities = d->parts.authorities;
    pthread_mutex_unlock(&d->lock);
    if (authorities != NULL)
        list = authorities_get0(authorities, &count);
    for (size_t i = 0; i < count; i++) {
        struct cc_err err = { 0 };
        char text[sizeof(err.text) + 64];

        if (ca_check(list[i], deadline, &err) == CA_DONE)
            continue;
        (void)snprintf(text, sizeof(text), "%s: %s", ca_name(list[i]), cc_err_text(&err));
        put_issue(issues, "CaUnavailable", "error", text, ok);
    }
}

static void
put_expiry_issues(json_object *issues, struct daemon *d, bool *ok)
{
    const int64_t now = cc_clock_now_ms();
    struct upkeep_items items;

    take_items(d, &items, ok);
    for (size_t i = 0; i < items.count; i++) {
        const struct upkeep_item *item = &items.item[i];
        const int threshold = upkeep_threshold(item, now);
        char end[CC_TIME_LEN], text[sizeof(item->name) + sizeof(item->cure) + 128];

        if (threshold < 0)
            continue;
        cc_time_format(item->not_after_ms, end);
        (void)snprintf(text, sizeof(text), "%s, %s, end%s %.10s: %s", item->role, item->name,
                threshold == 0 ? "ed on" : "s on", end, item->cure);
        put_issue(issues, threshold == 0 ? "Expired" : "Expiring",
                threshold == 0 ? "error" : "warning", text, ok);
    }
    upkeep_items_free(&items);
}

static void
put_durable_issues(json_object *issues, struct daemon *d, bool *ok)
{
    struct store_state store;
    struct eventlog_state log;

    store_get_state(d->store, &store);
    eventlog_get_state(d->log, &log);
    if (!store.usable)
        put_issue(issues, "StoreUnavailable", "error", cc_err_text(&store.reason), ok);
    if (!log.usable)
        put_issue(issues, "LogUnavailable", "error", cc_err_text(&log.reason), ok);
}

static void
put_other_issues(json_object *issues, const struct snapshot *s, bool *ok)
{
    const struct workload_status *scep = &s->workloads[WORKLOAD_SCEP];
    char text[128];

    if (scep->running && !scep->scep.ready && scep->scep.last_error[0] != '\0')
        put_issue(issues, "ScepNotReady", "error", scep->scep.last_error, ok);
    if (!s->service.clock_is_off)
        return;
    (void)snprintf(text, sizeof(text), "the connector's clock is %lld s %s that of the service",
            llabs(s->service.clock_skew_ms) / 1000,
            s->service.clock_skew_ms > 0 ? "behind" : "ahead of");
    put_issue(issues, "ClockSkew", "warning", text, ok);
}

/* A token that is not there is all there is to say of the keys and authorities in it. */
static void
put_issues(json_object *beat, struct daemon *d, const struct snapshot *s, bool *ok)
{
    json_object *issues = put_list(beat, "issues", ok);

    put_token_issues(issues, &s->token, ok);
    if (s->token.state == HSM_STATE_OPEN) {
        put_key_issues(issues, d, ok);
        put_ca_issues(issues, d, ok);
    }
    put_expiry_issues(issues, d, ok);
    put_durable_issues(issues, d, ok);
    put_other_issues(issues, s, ok);
}

json_object *
status_build_heartbeat(struct daemon *d, unsigned *ret_features)
{
    json_object *beat = json_object_new_object();
    bool ok = beat != NULL;
    struct snapshot s;

    snapshot_take(d, &s);
    put_str(beat, "connectorId", d->connector_id, &ok);
    put_str(beat, "displayName", s.name, &ok);
    put_str(beat, "version", CC_VERSION, &ok);
    put_features(beat, "features", s.features, &ok);
    put_time(beat, "startedDateTime", d->started_ms, &ok);
    put_time(beat, "sentDateTime", cc_clock_now_ms(), &ok);
    put_heartbeat_token(put_object(beat, "token", &ok), &s.token, &ok);
    put_heartbeat_workloads(beat, &s, &ok);
    put_issues(beat, d, &s, &ok);
    put_heartbeat_certificates(beat, d, &ok);
    *ret_features = s.features;
    return finish(beat, ok);
}
