/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/text.h"

#define RETRY_BASE_MS 500
#define RETRY_CAP_MS 30000
#define CAPS_MAX 1024 /* there are clients that drop a longer answer */

bool
scep_wait(struct scep *scep, int64_t ms)
{
    if (!scep->stopping && ms > 0)
        cc_cond_wait(&scep->changed, &scep->lock, ms);
    return !scep->stopping;
}

bool
scep_can_record(const struct scep *scep)
{
    return store_is_usable(scep->store) && eventlog_is_usable(scep->log);
}

struct endpoint *
endpoint_find(struct scep *scep, const char *name)
{
    for (size_t i = 0; i < scep->endpoint_count; i++)
        if (strcmp(scep->endpoints[i].name, name) == 0)
            return &scep->endpoints[i];
    return NULL;
}

/* ---- profiles ---- */

/*
 * RFC 8894 section 3.5.2.  SHA-384, which is not in the RFC's table, is there for a strongSwan that takes its place for
 * AES.  The list is not signed and may be forged: what is refused is refused whatever it says.
 */
static int
write_caps(struct endpoint *endpoint, struct cc_err *err)
{
    static const char modern[] = "POSTPKIOperation\nSCEPStandard\nAES\nSHA-256\nSHA-384\nSHA-512\n";
    struct cc_buf *caps = &endpoint->caps;

    if (cc_buf_add_str(caps, modern, err) != 0)
        return -1;
    if (endpoint->settings.legacy != SCEP_LEGACY_NONE &&
            cc_buf_add_str(caps, "SHA-1\nDES3\n", err) != 0)
        return -1;
    if (endpoint->settings.next_ca_file != NULL &&
            cc_buf_add_str(caps, "GetNextCACert\n", err) != 0)
        return -1;
    return cc_buf_add_str(caps, "Renewal\n", err);
}

static int
copy_text(const char **text, struct cc_err *err)
{
    if (*text == NULL)
        return 0;
    *text = cc_strdup(*text, err);
    return *text != NULL ? 0 : -1;
}

static int
open_hook(struct endpoint *endpoint, const struct scep_settings *settings, struct cc_err *err)
{
    const struct http_client_settings client = {
        .user_agent = "certconnector/" CC_VERSION,
        .proxy = settings->proxy,
        .proxy_user = settings->proxy_user,
        .proxy_password = settings->proxy_password,
        .no_proxy = settings->no_proxy,
        .ca_file = settings->ca_file,
        .allow_http = settings->allow_http,
    };

    if (endpoint->settings.challenge != SCEP_CHALLENGE_HOOK)
        return 0;
    return http_client_open(&client, &endpoint->hook, err);
}

/* All of its strings are copies, or NULL, when this returns, whether it failed or not. */
static int
copy_profile(struct endpoint *endpoint, const struct scep_profile *profile, struct cc_err *err)
{
    struct scep_profile *copy = &endpoint->settings;
    const char **texts[] = { &copy->name, &copy->challenge_secret, &copy->challenge_file,
        &copy->challenge_url, &copy->next_ca_file, &copy->ra_sign_file, &copy->ra_encrypt_file };
    int rc = 0;

    *copy = *profile;
    for (size_t i = 0; i < CC_COUNT(texts); i++) {
        if (rc == 0)
            rc = copy_text(texts[i], err);
        else
            *texts[i] = NULL;
    }
    endpoint->name = copy->name != NULL ? copy->name : "";
    return rc;
}

static int
open_endpoint(struct scep *scep, const struct scep_profile *profile,
        const struct scep_settings *settings, struct cc_err *err)
{
    struct endpoint *endpoint = &scep->endpoints[scep->endpoint_count++];

    endpoint->scep = scep;
    (void)pthread_mutex_init(&endpoint->lock, NULL);
    cc_buf_init(&endpoint->caps, CAPS_MAX);
    if (copy_profile(endpoint, profile, err) != 0 || write_caps(endpoint, err) != 0)
        return -1;
    return open_hook(endpoint, settings, err);
}

static void
free_text(const char *text)
{
    union {
        const char *in;
        char *out;
    } borrowed = { .in = text };

    free(borrowed.out);
}

static void
close_endpoint(struct endpoint *endpoint)
{
    struct scep_profile *settings = &endpoint->settings;

    ra_free(endpoint->ra);
    http_client_close(endpoint->hook);
    cc_buf_free(&endpoint->caps);
    free_text(settings->name);
    free_text(settings->challenge_secret);
    free_text(settings->challenge_file);
    free_text(settings->challenge_url);
    free_text(settings->next_ca_file);
    free_text(settings->ra_sign_file);
    free_text(settings->ra_encrypt_file);
    pthread_mutex_destroy(&endpoint->lock);
}

/* ---- the RA's certificates, as soon as the token is there ---- */

static bool
keep_all(struct scep *scep, int64_t *ret_wait_ms)
{
    struct cc_err err = { 0 };
    int64_t wait;
    bool all = true;

    *ret_wait_ms = INT64_MAX;
    for (size_t i = 0; i < scep->endpoint_count; i++) {
        struct cc_err one = { 0 };

        if (ra_keep(&scep->endpoints[i], &wait, &one) != 0) {
            if (all)
                err = one;
            all = false;
            continue;
        }
        if (wait < *ret_wait_ms)
            *ret_wait_ms = wait;
    }
    pthread_mutex_lock(&scep->lock);
    (void)cc_strcpy(scep->last_error, sizeof(scep->last_error), all ? "" : cc_err_text(&err));
    pthread_mutex_unlock(&scep->lock);
    if (!all)
        cc_log(CC_LOG_WARNING, "scep", "%s", cc_err_text(&err));
    return all;
}

static void *
ra_run(void *arg)
{
    struct scep *scep = arg;
    unsigned attempt = 0;
    bool go_on = true;

    (void)hsm_work_for(HSM_WORK_ENROLMENT);
    while (go_on) {
        int64_t wait;

        if (keep_all(scep, &wait))
            attempt = 0;
        else
            wait = cc_backoff_ms(attempt++, RETRY_BASE_MS, RETRY_CAP_MS);
        wait = cc_deadline_in(wait);
        pthread_mutex_lock(&scep->lock);
        while ((go_on = !scep->stopping) && cc_deadline_left(wait) > 0)
            (void)scep_wait(scep, cc_deadline_left(wait));
        pthread_mutex_unlock(&scep->lock);
    }
    return NULL;
}

static int
start_ra(struct scep *scep, struct cc_err *err)
{
    const int rc = pthread_create(&scep->ra_thread, NULL, ra_run, scep);

    if (rc != 0)
        return cc_err_set_errno(err, rc, "thread of the RA's certificates");
    (void)pthread_setname_np(scep->ra_thread, "cc-scep-ra");
    scep->ra_started = true;
    return 0;
}

/* ---- start and stop ---- */

static int
open_listener(struct scep *scep, const struct scep_settings *settings, struct cc_err *err)
{
    const struct http_listener_settings listener = {
        .listen = settings->listen,
        .workers = lanes_threads(scep->lanes),
        .queue_max = settings->max_connections,
        .max_connections = settings->max_connections,
        .max_body = SCEP_BODY_MAX,
        .max_target = SCEP_TARGET_MAX,
        .raw_query = true,
        .handler = serve,
        .handler_arg = scep,
    };

    if (http_listener_open(&listener, &scep->listener, err) != 0)
        return cc_err_in(err, "[scep] listen");
    return 0;
}

/* Profiles of one CA share a lane. */
static int
make_lanes(struct scep *scep, unsigned workers, struct cc_err *err)
{
    unsigned count = 0;

    for (size_t i = 0; i < scep->endpoint_count; i++) {
        struct endpoint *endpoint = &scep->endpoints[i];
        size_t k = 0;

        while (scep->endpoints[k].settings.ca != endpoint->settings.ca)
            k++;
        endpoint->lane = k < i ? scep->endpoints[k].lane : count++;
    }
    return (scep->lanes = lanes_new(workers, count, err)) != NULL ? 0 : -1;
}

static int
start(struct scep *scep, const struct scep_settings *settings, struct cc_err *err)
{
    scep->endpoints = calloc(settings->profile_count, sizeof(*scep->endpoints));
    if (scep->endpoints == NULL)
        return cc_err_nomem(err);
    if ((scep->path = cc_strdup(settings->path, err)) == NULL)
        return -1;
    for (size_t i = 0; i < settings->profile_count; i++)
        if (open_endpoint(scep, &settings->profiles[i], settings, err) != 0)
            return -1;
    if (make_lanes(scep, settings->workers, err) != 0)
        return -1;
    if (notify_start(scep, err) != 0 || start_ra(scep, err) != 0)
        return -1;
    return open_listener(scep, settings, err);
}

int
scep_start(const struct scep_settings *settings, struct scep **ret_scep, struct cc_err *err)
{
    struct scep *scep = calloc(1, sizeof(*scep));

    if (scep == NULL)
        return cc_err_nomem(err);
    scep->hsm = settings->hsm;
    scep->intune = settings->intune;
    scep->store = settings->store;
    scep->log = settings->log;
    scep->sign = settings->sign;
    scep->encrypt = settings->encrypt;
    scep->seal = settings->seal;
    scep->deadline_ms = settings->deadline_ms;
    scep->remember_ms = settings->remember_ms;
    for (size_t i = 0; i < CACHE_SIZE; i++)
        cc_buf_init(&scep->cache[i].reply, SCEP_REPLY_MAX);
    (void)pthread_mutex_init(&scep->lock, NULL);
    if (cc_cond_init(&scep->changed, err) != 0) {
        pthread_mutex_destroy(&scep->lock);
        free(scep);
        return -1;
    }
    if (start(scep, settings, err) != 0) {
        scep_stop(scep, 0);
        return -1;
    }
    *ret_scep = scep;
    return 0;
}

void
scep_stop(struct scep *scep, int64_t drain_ms)
{
    const int64_t deadline = cc_deadline_in(drain_ms);

    if (scep == NULL)
        return;
    http_listener_close(scep->listener);
    notify_stop(scep, deadline);
    pthread_mutex_lock(&scep->lock);
    scep->stopping = true;
    pthread_cond_broadcast(&scep->changed);
    pthread_mutex_unlock(&scep->lock);
    if (scep->ra_started)
        pthread_join(scep->ra_thread, NULL);
    for (size_t i = 0; i < scep->endpoint_count; i++)
        close_endpoint(&scep->endpoints[i]);
    for (size_t i = 0; i < CACHE_SIZE; i++)
        cc_buf_free(&scep->cache[i].reply);
    lanes_free(scep->lanes);
    free(scep->endpoints);
    free(scep->path);
    pthread_cond_destroy(&scep->changed);
    pthread_mutex_destroy(&scep->lock);
    free(scep);
}

/* ---- status ---- */

static bool
is_ready(struct scep *scep)
{
    for (size_t i = 0; i < scep->endpoint_count; i++) {
        struct ra *ra = ra_get(&scep->endpoints[i]);

        ra_free(ra);
        if (ra == NULL)
            return false;
    }
    return true;
}

static const char *
legacy_of(const struct scep *scep)
{
    const char *legacy = NULL;

    for (size_t i = 0; i < scep->endpoint_count; i++) {
        if (scep->endpoints[i].settings.legacy == SCEP_LEGACY_DES)
            return "des";
        if (scep->endpoints[i].settings.legacy == SCEP_LEGACY_3DES)
            legacy = "3des";
    }
    return legacy;
}

void
scep_adopt(struct scep *scep)
{
    notify_adopt(scep);
}

static size_t
add_certificate(X509 *certificate, X509 **ret, size_t count, size_t max)
{
    for (size_t i = 0; i < count; i++)
        if (X509_cmp(ret[i], certificate) == 0)
            return count;
    if (count == max || X509_up_ref(certificate) != 1)
        return count;
    ret[count] = certificate;
    return count + 1;
}

size_t
scep_get1_certificates(struct scep *scep, X509 **ret, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < scep->endpoint_count; i++) {
        struct ra *ra = ra_get(&scep->endpoints[i]);

        if (ra == NULL)
            continue;
        count = add_certificate(ra->sign, ret, count, max);
        count = add_certificate(ra->encrypt[0], ret, count, max);
        ra_free(ra);
    }
    return count;
}

void
scep_get_status(struct scep *scep, struct scep_status *ret)
{
    *ret = (struct scep_status){
        .ready = is_ready(scep),
        .in_work = atomic_load(&scep->in_work),
        .bad_messages = atomic_load(&scep->bad_messages),
        .port = http_listener_port(scep->listener),
        .legacy = legacy_of(scep),
    };
    for (int i = 0; i < SCEP_ANSWERED_KINDS; i++)
        ret->answered[i] = atomic_load(&scep->answered[i]);
    for (int i = 0; i < SCEP_FAIL_INFOS; i++)
        ret->fail_info[i] = atomic_load(&scep->fail_info[i]);
    cc_histogram_get(&scep->time, &ret->time);
    pthread_mutex_lock(&scep->lock);
    (void)cc_strcpy(ret->last_error, sizeof(ret->last_error), scep->last_error);
    pthread_mutex_unlock(&scep->lock);
}

int
scep_count(struct store *store, struct scep_counts *ret, struct cc_err *err)
{
    struct scepdb_counts counts = { 0 };

    if (scepdb_count(store, &counts, err) != 0)
        return -1;
    *ret = (struct scep_counts){ counts.succeeded, counts.failed, counts.pending, counts.due,
        counts.oldest_open_ms };
    return 0;
}
