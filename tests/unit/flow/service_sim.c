/* SPDX-License-Identifier: MIT */
#include "service_sim.h"

#include <json-c/json.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "base/clock.h"
#include "http/listener.h"

#define SIM_WAIT_S 60

struct sim_row {
    TAILQ_ENTRY(sim_row) link;
    char id[64], context[80];
    json_object *body;
    bool queued, done, refused, lose, mute;
    int64_t lease_end; /* monotonic, 0: none */
    struct sim_request seen;
};

struct sim {
    struct http_listener *listener;
    char url[64];
    int64_t lease_ms;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    TAILQ_HEAD(, sim_row) rows;
    unsigned downloads, uploads, max_leased, accepted;
    char fail_call[16];
    unsigned fail_status, fail_count;
    bool closing;
};

/* ---- rows, with the lock held ---- */

static struct sim_row *
row_by_id(struct sim *sim, const char *id)
{
    struct sim_row *row;

    TAILQ_FOREACH(row, &sim->rows, link)
    {
        if (strcmp(row->id, id) == 0)
            return row;
    }
    return NULL;
}

static struct sim_row *
row_by_context(struct sim *sim, const char *context)
{
    struct sim_row *row;

    TAILQ_FOREACH(row, &sim->rows, link)
    {
        if (context != NULL && strcmp(row->context, context) == 0)
            return row;
    }
    return NULL;
}

static bool
row_leased(const struct sim_row *row)
{
    return row->lease_end > cc_clock_mono_ms();
}

static unsigned
count_leased(struct sim *sim)
{
    struct sim_row *row;
    unsigned count = 0;

    TAILQ_FOREACH(row, &sim->rows, link)
    count += row_leased(row);
    return count;
}

static void
put_time(json_object *obj, int64_t ms)
{
    char text[CC_TIME_LEN];

    cc_time_format(ms, text);
    json_object_object_add(obj, "leaseExpirationDateTime", json_object_new_string(text));
}

/* ---- calls ---- */

static json_object *
member(json_object *obj, const char *name)
{
    return obj != NULL ? json_object_object_get(obj, name) : NULL;
}

static bool
sim_wait(struct sim *sim, int64_t deadline)
{
    struct timespec until = { .tv_sec = deadline / 1000,
        .tv_nsec = (long)(deadline % 1000) * 1000000 };

    return pthread_cond_timedwait(&sim->changed, &sim->lock, &until) == 0;
}

static json_object *
lease_some(struct sim *sim, int64_t max)
{
    json_object *list = json_object_new_array();
    struct sim_row *row;

    TAILQ_FOREACH(row, &sim->rows, link)
    {
        json_object *copy = NULL;

        if (max == 0)
            break;
        /* A lease that ran out puts the request back into the queue. */
        if (row->lease_end != 0 && !row_leased(row) && !row->done) {
            row->lease_end = 0;
            row->queued = true;
        }
        if (!row->queued)
            continue;
        max--;
        row->queued = false;
        row->lease_end = cc_clock_mono_ms() + sim->lease_ms;
        row->seen.downloads++;
        json_object_deep_copy(row->body, &copy, NULL);
        json_object_object_add(copy, "attempt", json_object_new_int(row->seen.attempt));
        put_time(copy, cc_clock_now_ms() + sim->lease_ms);
        json_object_array_add(list, copy);
    }
    if (count_leased(sim) > sim->max_leased)
        sim->max_leased = count_leased(sim);
    return list;
}

static json_object *
on_download(struct sim *sim, json_object *body)
{
    json_object *parameters = member(body, "downloadParameters");
    int64_t max = json_object_get_int64(member(parameters, "maxRequests"));
    int64_t deadline =
            cc_clock_mono_ms() + 1000 * json_object_get_int64(member(parameters, "waitSeconds"));
    json_object *list;

    sim->downloads++;
    for (;;) {
        list = lease_some(sim, max);
        if (json_object_array_length(list) > 0 || sim->closing || cc_clock_mono_ms() >= deadline)
            break;
        json_object_put(list);
        (void)sim_wait(sim, deadline);
    }
    return list;
}

static json_object *
on_renew(struct sim *sim, json_object *body)
{
    json_object *contexts = member(body, "requestContexts"), *list = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(contexts); i++) {
        const char *context = json_object_get_string(json_object_array_get_idx(contexts, i));
        struct sim_row *row = row_by_context(sim, context);
        json_object *answer = json_object_new_object();

        json_object_object_add(answer, "requestContext", json_object_new_string(context));
        if (row != NULL && row_leased(row)) {
            row->lease_end = cc_clock_mono_ms() + sim->lease_ms;
            row->seen.renewals++;
            put_time(answer, cc_clock_now_ms() + sim->lease_ms);
        } else {
            if (row != NULL)
                row->seen.refused_renewals++;
            json_object_object_add(answer, "leaseExpirationDateTime", NULL);
        }
        json_object_array_add(list, answer);
    }
    return list;
}

static const char *
take_result(struct sim *sim, struct sim_row *row, json_object *result)
{
    const char *text = json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN);

    if (row == NULL)
        return "unknown";
    row->seen.uploads++;
    if (row->lose) {
        row->lose = false;
        row->lease_end = 0;
        return "leaseLost";
    }
    if (row->done)
        return strcmp(row->seen.result, text) == 0 ? "accepted" : "alreadyCompleted";
    row->lease_end = 0;
    row->seen.accepted++;
    (void)snprintf(row->seen.result, sizeof(row->seen.result), "%s", text);
    if (json_object_get_boolean(member(result, "retryable"))) {
        row->seen.attempt++;
        return "accepted";
    }
    row->done = true;
    sim->accepted++;
    return "accepted";
}

/* NULL when the call is refused. */
static json_object *
on_upload(struct sim *sim, json_object *body)
{
    json_object *results = member(body, "results"), *list;

    sim->uploads++;
    for (size_t i = 0; i < json_object_array_length(results); i++) {
        json_object *result = json_object_array_get_idx(results, i);
        struct sim_row *row =
                row_by_context(sim, json_object_get_string(member(result, "requestContext")));

        if (row != NULL && row->refused)
            return NULL;
    }
    list = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(results); i++) {
        json_object *result = json_object_array_get_idx(results, i);
        json_object *context = member(result, "requestContext"), *answer;
        struct sim_row *row = row_by_context(sim, json_object_get_string(context));
        const char *status;

        if (row != NULL && row->mute) {
            row->seen.uploads++;
            continue;
        }
        status = take_result(sim, row, result);
        answer = json_object_new_object();
        json_object_object_add(answer, "requestContext", json_object_get(context));
        json_object_object_add(answer, "status", json_object_new_string(status));
        json_object_array_add(list, answer);
    }
    return list;
}

static json_object *
on_release(struct sim *sim, json_object *body)
{
    json_object *contexts = member(body, "requestContexts");

    for (size_t i = 0; i < json_object_array_length(contexts); i++) {
        struct sim_row *row =
                row_by_context(sim, json_object_get_string(json_object_array_get_idx(contexts, i)));

        if (row == NULL || row->done)
            continue;
        row->seen.releases++;
        row->lease_end = 0;
        row->queued = true;
    }
    return json_object_new_array();
}

/* ---- HTTP ---- */

static void
reply_json(struct http_exchange *exchange, unsigned status, json_object *take)
{
    const char *text = json_object_to_json_string(take);

    http_exchange_reply(exchange, status, NULL, 0, "application/json", text, strlen(text));
    json_object_put(take);
}

static void
reply_error(struct http_exchange *exchange, unsigned status)
{
    reply_json(exchange, status,
            json_tokener_parse("{\"error\":{\"code\":\"Simulated\",\"message\":\"simulated\"}}"));
}

static bool
is_call(const char *path, const char *call)
{
    const char *end = strrchr(path, '/');

    return end != NULL && strcmp(end + 1, call) == 0;
}

/* With the lock held; NULL: refused. */
static json_object *
on_call(struct sim *sim, const char *path, json_object *body)
{
    if (is_call(path, "download"))
        return on_download(sim, body);
    if (is_call(path, "renewLeases"))
        return on_renew(sim, body);
    if (is_call(path, "upload"))
        return on_upload(sim, body);
    return on_release(sim, body);
}

static unsigned
fault_of_call(struct sim *sim, const char *path)
{
    if (sim->fail_count == 0 || !is_call(path, sim->fail_call))
        return 0;
    sim->fail_count--;
    return sim->fail_status;
}

static void
handle_queue(struct sim *sim, struct http_exchange *exchange)
{
    const char *path = http_exchange_path(exchange);
    struct cc_bytes bytes = http_exchange_body(exchange);
    char *text = strndup((const char *)bytes.data, bytes.len);
    json_object *body = json_tokener_parse(text), *list = NULL, *answer = json_object_new_object();
    unsigned fault;

    pthread_mutex_lock(&sim->lock);
    if ((fault = fault_of_call(sim, path)) == 0 && (list = on_call(sim, path, body)) == NULL)
        fault = 400;
    pthread_cond_broadcast(&sim->changed);
    pthread_mutex_unlock(&sim->lock);
    json_object_object_add(answer, "value", list);
    if (fault == 0) {
        reply_json(exchange, 200, answer);
    } else {
        json_object_put(answer);
        reply_error(exchange, fault);
    }
    json_object_put(body);
    free(text);
}

static void
handle(void *arg, struct http_exchange *exchange)
{
    struct sim *sim = arg;
    const char *path = http_exchange_path(exchange);
    char text[512];

    if (strstr(path, "/oauth2/") != NULL) {
        reply_json(exchange, 200,
                json_tokener_parse("{\"token_type\":\"Bearer\",\"expires_in\":3599,"
                                   "\"access_token\":\"simulated\"}"));
    } else if (strstr(path, "servicePrincipals") != NULL) {
        (void)snprintf(text, sizeof(text),
                "{\"value\":[{\"providerName\":\"PkiConnectorFEService\",\"uri\":\"%ssvc\"}]}",
                sim->url);
        reply_json(exchange, 200, json_tokener_parse(text));
    } else if (strstr(path, "/svc/Connectors/heartbeat") != NULL) {
        reply_json(exchange, 200, json_object_new_object());
    } else if (strstr(path, "/svc/PfxImportRequests/") != NULL) {
        handle_queue(sim, exchange);
    } else {
        reply_error(exchange, 404);
    }
}

/* ---- for tests ---- */

struct sim *
sim_open(int64_t lease_ms)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    const struct http_listener_settings settings = {
        .listen = "127.0.0.1:0",
        .workers = 8, /* a long poll holds one here */
        .max_body = 4 * 1024 * 1024,
        .handler = handle,
        .handler_arg = sim,
    };
    struct cc_err err = { 0 };
    pthread_condattr_t attr;

    TAILQ_INIT(&sim->rows);
    sim->lease_ms = lease_ms;
    pthread_mutex_init(&sim->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&sim->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (http_listener_open(&settings, &sim->listener, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    (void)snprintf(sim->url, sizeof(sim->url), "http://127.0.0.1:%u/",
            http_listener_port(sim->listener));
    return sim;
}

void
sim_close(struct sim *sim)
{
    struct sim_row *row;

    pthread_mutex_lock(&sim->lock);
    sim->closing = true;
    pthread_cond_broadcast(&sim->changed);
    pthread_mutex_unlock(&sim->lock);
    http_listener_close(sim->listener);
    while ((row = TAILQ_FIRST(&sim->rows)) != NULL) {
        TAILQ_REMOVE(&sim->rows, row, link);
        json_object_put(row->body);
        free(row);
    }
    pthread_cond_destroy(&sim->changed);
    pthread_mutex_destroy(&sim->lock);
    free(sim);
}

const char *
sim_url(const struct sim *sim)
{
    return sim->url;
}

void
sim_enqueue(struct sim *sim, const char *id, const char *extra)
{
    struct sim_row *row;

    pthread_mutex_lock(&sim->lock);
    if ((row = row_by_id(sim, id)) == NULL) {
        row = calloc(1, sizeof(*row));
        (void)snprintf(row->id, sizeof(row->id), "%s", id);
        (void)snprintf(row->context, sizeof(row->context), "context-of-%s", id);
        row->body = extra != NULL ? json_tokener_parse(extra) : json_object_new_object();
        row->seen.attempt = 1;
        json_object_object_add(row->body, "requestId", json_object_new_string(row->id));
        json_object_object_add(row->body, "requestContext", json_object_new_string(row->context));
        TAILQ_INSERT_TAIL(&sim->rows, row, link);
    }
    row->queued = true;
    pthread_cond_broadcast(&sim->changed);
    pthread_mutex_unlock(&sim->lock);
}

void
sim_take_back(struct sim *sim, const char *id)
{
    pthread_mutex_lock(&sim->lock);
    row_by_id(sim, id)->lease_end = 0;
    pthread_mutex_unlock(&sim->lock);
}

void
sim_end_leases(struct sim *sim)
{
    struct sim_row *row;

    pthread_mutex_lock(&sim->lock);
    TAILQ_FOREACH(row, &sim->rows, link)
    {
        if (row->lease_end == 0 || row->done)
            continue;
        row->lease_end = 0;
        row->queued = true;
    }
    pthread_cond_broadcast(&sim->changed);
    pthread_mutex_unlock(&sim->lock);
}

void
sim_mute_result(struct sim *sim, const char *id)
{
    pthread_mutex_lock(&sim->lock);
    row_by_id(sim, id)->mute = true;
    pthread_mutex_unlock(&sim->lock);
}

void
sim_lose_result(struct sim *sim, const char *id)
{
    pthread_mutex_lock(&sim->lock);
    row_by_id(sim, id)->lose = true;
    pthread_mutex_unlock(&sim->lock);
}

void
sim_lease(struct sim *sim, const char *id)
{
    struct sim_row *row;

    pthread_mutex_lock(&sim->lock);
    row = row_by_id(sim, id);
    row->queued = false;
    row->lease_end = cc_clock_mono_ms() + sim->lease_ms;
    pthread_mutex_unlock(&sim->lock);
}

void
sim_complete(struct sim *sim, const char *id, const char *result)
{
    struct sim_row *row;

    pthread_mutex_lock(&sim->lock);
    row = row_by_id(sim, id);
    row->queued = false;
    row->done = true;
    row->seen.accepted = 1;
    sim->accepted++;
    (void)snprintf(row->seen.result, sizeof(row->seen.result), "%s", result);
    pthread_mutex_unlock(&sim->lock);
}

static void
wait_for(struct sim *sim, const char *what, unsigned (*value)(struct sim *), unsigned want)
{
    int64_t deadline = cc_clock_mono_ms() + SIM_WAIT_S * 1000;

    pthread_mutex_lock(&sim->lock);
    while (value(sim) < want) {
        if (!sim_wait(sim, deadline) && cc_clock_mono_ms() >= deadline) {
            fprintf(stderr, "%u %s, not %u\n", value(sim), what, want);
            abort();
        }
    }
    pthread_mutex_unlock(&sim->lock);
}

static unsigned
accepted_of(struct sim *sim)
{
    return sim->accepted;
}

void
sim_wait_accepted(struct sim *sim, unsigned count)
{
    wait_for(sim, "accepted", accepted_of, count);
}

void
sim_wait_leased(struct sim *sim, unsigned count)
{
    wait_for(sim, "leased", count_leased, count);
}

struct sim_request
sim_request(struct sim *sim, const char *id)
{
    struct sim_request seen;
    struct sim_row *row;

    pthread_mutex_lock(&sim->lock);
    row = row_by_id(sim, id);
    seen = row->seen;
    seen.leased = row_leased(row);
    pthread_mutex_unlock(&sim->lock);
    return seen;
}

static unsigned
locked(struct sim *sim, const unsigned *value)
{
    unsigned copy;

    pthread_mutex_lock(&sim->lock);
    copy = *value;
    pthread_mutex_unlock(&sim->lock);
    return copy;
}

unsigned
sim_downloads(struct sim *sim)
{
    return locked(sim, &sim->downloads);
}

unsigned
sim_uploads(struct sim *sim)
{
    return locked(sim, &sim->uploads);
}

unsigned
sim_max_leased(struct sim *sim)
{
    return locked(sim, &sim->max_leased);
}

void
sim_fail(struct sim *sim, const char *call, unsigned status, unsigned count)
{
    pthread_mutex_lock(&sim->lock);
    (void)snprintf(sim->fail_call, sizeof(sim->fail_call), "%s", call);
    sim->fail_status = status;
    sim->fail_count = count;
    pthread_mutex_unlock(&sim->lock);
}

void
sim_refuse_result(struct sim *sim, const char *id)
{
    pthread_mutex_lock(&sim->lock);
    row_by_id(sim, id)->refused = true;
    pthread_mutex_unlock(&sim->lock);
}
