/* SPDX-License-Identifier: MIT */
#include "intune/service.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/cond.h"
#include "hsm/hsm.h"
#include "intune/queue.h"
#include "intune_int.h"

#define TIMEOUT_MS 30000
#define BACKOFF_MS 500
#define ATTEMPTS 4

/*
 * Ten calls that succeed pay for one retry, and ten retries can be saved up: when the service is down, calls soon fail
 * at their first attempt, and many connectors do not multiply what it has to bear when it comes back.
 */
#define BUDGET_FULL 100
#define BUDGET_EARNED 1
#define BUDGET_RETRY 10

/* ---- links ---- */

static void
link_free(struct intune_link *link)
{
    size_t i;

    if (link == NULL)
        return;
    intune_tokens_free(link);
    intune_endpoints_clear(&link->endpoints);
    http_client_close(link->http);
    http_client_close(link->download);
    http_client_close(link->shown);
    http_client_close(link->shown_download);
    pthread_cond_destroy(&link->landed);
    pthread_mutex_destroy(&link->lock);
    free(link->authority);
    free(link->graph);
    free(link->graph_version);
    free(link->resource);
    free(link->app_id);
    free(link->tenant);
    free(link->client_id);
    free(link->client_secret);
    intune_assertion_free(&link->assertion);
    free(link->caller_info);
    for (i = 0; link->allowed_hosts != NULL && link->allowed_hosts[i] != NULL; i++)
        free(link->allowed_hosts[i]);
    free(link->allowed_hosts);
    free(link);
}

static char *
copy_url(const char *url, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(INTUNE_URL_MAX);
    size_t len = strlen(url);

    if (cc_buf_add(&text, url, len, err) != 0 ||
            ((len == 0 || url[len - 1] != '/') && cc_buf_add_str(&text, "/", err) != 0)) {
        cc_buf_free(&text);
        return NULL;
    }
    return (char *)text.data;
}

static char *
copy_host(const char *url, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(INTUNE_URL_MAX);
    size_t len;
    const char *host = intune_url_host(url, &len);

    if (cc_buf_add(&text, host, len, err) != 0 || cc_buf_add(&text, "", 1, err) != 0) {
        cc_buf_free(&text);
        return NULL;
    }
    return (char *)text.data;
}

static int
copy_hosts(struct intune_link *link, const struct intune_settings *settings, struct cc_err *err)
{
    const size_t count = settings->allowed_host_count;
    size_t i;

    if ((link->allowed_hosts = calloc(count + 3, sizeof(*link->allowed_hosts))) == NULL)
        return cc_err_nomem(err);
    for (i = 0; i < count; i++)
        if ((link->allowed_hosts[i] = cc_strdup(settings->allowed_hosts[i], err)) == NULL)
            return -1;
    if (count > 0)
        return 0;
    if ((link->allowed_hosts[0] = copy_host(settings->resource, err)) == NULL ||
            (link->allowed_hosts[1] = copy_host(settings->graph, err)) == NULL)
        return -1;
    return 0;
}

/* What is not set is empty: without features a connector needs no service. */
static char *
copy_text(const char *text, struct cc_err *err)
{
    return cc_strdup(text != NULL ? text : "", err);
}

static int
copy_settings(struct intune_link *link, const struct intune_settings *settings, struct cc_err *err)
{
    if ((link->authority = copy_url(settings->authority, err)) == NULL ||
            (link->graph = copy_url(settings->graph, err)) == NULL ||
            (link->resource = copy_url(settings->resource, err)) == NULL ||
            (link->graph_version = cc_strdup(settings->graph_version, err)) == NULL ||
            (link->app_id = cc_strdup(settings->app_id, err)) == NULL ||
            (link->tenant = copy_text(settings->tenant, err)) == NULL ||
            (link->client_id = copy_text(settings->client_id, err)) == NULL ||
            (link->caller_info = cc_strdup(settings->caller_info, err)) == NULL)
        return -1;
    if (settings->assertion.key != NULL) {
        if (intune_assertion_copy(&settings->assertion, &link->assertion, err) != 0)
            return -1;
    } else if (settings->client_secret != NULL &&
               (link->client_secret = cc_strdup(settings->client_secret, err)) == NULL) {
        return -1;
    }
    if (copy_hosts(link, settings, err) != 0)
        return -1;
    link->allow_http = settings->allow_http;
    link->any_port = settings->any_port;
    link->private_addresses = settings->private_addresses;
    link->timeout_ms = settings->timeout_ms > 0 ? settings->timeout_ms : TIMEOUT_MS;
    link->attempts = settings->attempts > 0 ? settings->attempts : ATTEMPTS;
    link->backoff_ms = settings->backoff_ms > 0 ? settings->backoff_ms : BACKOFF_MS;
    return 0;
}

static int
give_identity_key(void *arg, EVP_PKEY **ret_key, struct cc_err *err)
{
    return hsm_key_get0_evp(arg, ret_key, err);
}

static int
open_clients(struct intune_link *link, const struct intune_settings *settings, struct cc_err *err)
{
    const struct http_client_identity identity = {
        .certificate = settings->identity.certificate,
        .chain = settings->identity.chain,
        .key = give_identity_key,
        .arg = settings->identity.key,
    };
    struct http_client_settings http = {
        .user_agent = settings->caller_info,
        .proxy = settings->proxy,
        .proxy_user = settings->proxy_user,
        .proxy_password = settings->proxy_password,
        .no_proxy = settings->no_proxy,
        .ca_file = settings->ca_file,
        .allow_http = settings->allow_http,
    };

    if (http_client_open(&http, &link->http, err) != 0 ||
            http_client_open(&http, &link->download, err) != 0)
        return -1;
    if (settings->identity.certificate == NULL)
        return 0;
    http.identity = &identity;
    link->identity_key = settings->identity.key;
    (void)cc_strcpy(link->connector_id, sizeof(link->connector_id),
            settings->identity.connector_id);
    if (http_client_open(&http, &link->shown, err) != 0)
        return -1;
    return http_client_open(&http, &link->shown_download, err);
}

static struct intune_link *
link_new(struct intune *intune, const struct intune_settings *settings, struct cc_err *err)
{
    struct intune_link *link = calloc(1, sizeof(*link));

    if (link == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    pthread_mutex_init(&link->lock, NULL);
    if (cc_cond_init(&link->landed, err) != 0) {
        pthread_mutex_destroy(&link->lock);
        free(link);
        return NULL;
    }
    link->intune = intune;
    link->owners = 1;
    if (copy_settings(link, settings, err) != 0 || open_clients(link, settings, err) != 0) {
        link_free(link);
        return NULL;
    }
    return link;
}

struct intune_link *
intune_link_get(struct intune *intune)
{
    struct intune_link *link;

    pthread_mutex_lock(&intune->lock);
    link = intune->links;
    link->owners++;
    pthread_mutex_unlock(&intune->lock);
    return link;
}

void
intune_link_ref(struct intune_link *link)
{
    pthread_mutex_lock(&link->intune->lock);
    link->owners++;
    pthread_mutex_unlock(&link->intune->lock);
}

bool
intune_link_is_current(struct intune_link *link)
{
    bool current;

    pthread_mutex_lock(&link->intune->lock);
    current = link->intune->links == link;
    pthread_mutex_unlock(&link->intune->lock);
    return current;
}

void
intune_link_put(struct intune_link *link)
{
    struct intune *intune = link->intune;
    struct intune_link **at;
    bool last;

    pthread_mutex_lock(&intune->lock);
    last = --link->owners == 0;
    if (last) {
        for (at = &intune->links; *at != link; at = &(*at)->next)
            ;
        *at = link->next;
    }
    pthread_mutex_unlock(&intune->lock);
    if (last)
        link_free(link);
}

/* ---- open, close, cancel ---- */

int
intune_open(const struct intune_settings *settings, struct intune **ret_intune, struct cc_err *err)
{
    struct intune *intune = calloc(1, sizeof(*intune));

    if (intune == NULL)
        return cc_err_nomem(err);
    pthread_mutex_init(&intune->lock, NULL);
    pthread_mutex_init(&intune->contact_lock, NULL);
    if (cc_cond_init(&intune->cancel, err) != 0) {
        free(intune);
        return -1;
    }
    intune->budget = BUDGET_FULL;
    intune->max_skew_ms = settings->max_clock_skew_ms;
    intune->on_contact = settings->on_contact;
    intune->on_contact_arg = settings->on_contact_arg;
    if ((intune->links = link_new(intune, settings, err)) == NULL) {
        intune_close(intune);
        return -1;
    }
    *ret_intune = intune;
    return 0;
}

void
intune_close(struct intune *intune)
{
    if (intune == NULL)
        return;
    if (intune->links != NULL)
        intune_link_put(intune->links);
    pthread_cond_destroy(&intune->cancel);
    pthread_mutex_destroy(&intune->contact_lock);
    pthread_mutex_destroy(&intune->lock);
    free(intune);
}

static void
cancel_downloads(struct intune_link *link)
{
    http_client_cancel(link->download);
    if (link->shown_download != NULL)
        http_client_cancel(link->shown_download);
}

static void
cancel_all(struct intune_link *link)
{
    cancel_downloads(link);
    http_client_cancel(link->http);
    if (link->shown != NULL)
        http_client_cancel(link->shown);
}

void
intune_cancel(struct intune *intune)
{
    struct intune_link *link;

    pthread_mutex_lock(&intune->lock);
    intune->cancelled = true;
    intune->downloads_cancelled = true;
    for (link = intune->links; link != NULL; link = link->next)
        cancel_all(link);
    pthread_cond_broadcast(&intune->cancel);
    pthread_mutex_unlock(&intune->lock);
}

void
intune_cancel_downloads(struct intune *intune)
{
    struct intune_link *link;

    pthread_mutex_lock(&intune->lock);
    intune->downloads_cancelled = true;
    for (link = intune->links; link != NULL; link = link->next)
        cancel_downloads(link);
    pthread_cond_broadcast(&intune->cancel);
    pthread_mutex_unlock(&intune->lock);
}

int
intune_reconfigure(struct intune *intune, const struct intune_settings *settings,
        struct cc_err *err)
{
    struct intune_link *link = link_new(intune, settings, err);
    struct intune_link *old;

    if (link == NULL)
        return -1;
    pthread_mutex_lock(&intune->contact_lock);
    pthread_mutex_lock(&intune->lock);
    if (intune->cancelled)
        cancel_all(link);
    else if (intune->downloads_cancelled)
        cancel_downloads(link);
    old = intune->links;
    link->next = old;
    /* What was said of an identity was said of the one before. */
    if (intune->status.contact == INTUNE_CERTIFICATE_REFUSED ||
            intune->status.contact == INTUNE_CONNECTOR_REMOVED)
        intune->status.contact = INTUNE_CONTACT_NONE;
    intune->links = link;
    intune->max_skew_ms = settings->max_clock_skew_ms;
    intune->on_contact = settings->on_contact;
    intune->on_contact_arg = settings->on_contact_arg;
    pthread_mutex_unlock(&intune->lock);
    pthread_mutex_unlock(&intune->contact_lock);
    intune_link_put(old);
    return 0;
}

/* ---- waiting ---- */

int
intune_wait(struct intune *intune, int64_t ms, bool download, struct cc_err *err)
{
    const struct timespec at = cc_cond_time(ms);
    bool cancelled;
    int rc = 0;

    pthread_mutex_lock(&intune->lock);
    for (;;) {
        cancelled = intune->cancelled || (download && intune->downloads_cancelled);
        if (cancelled || rc != 0)
            break;
        rc = pthread_cond_timedwait(&intune->cancel, &intune->lock, &at);
    }
    pthread_mutex_unlock(&intune->lock);
    return cancelled ? cc_err_set(err, CC_DOM_CANCELLED, 0, "stopping") : 0;
}

bool
intune_may_retry(struct intune *intune)
{
    bool may;

    pthread_mutex_lock(&intune->lock);
    may = intune->budget >= BUDGET_RETRY;
    if (may)
        intune->budget -= BUDGET_RETRY;
    pthread_mutex_unlock(&intune->lock);
    return may;
}

void
intune_note_call_at(struct intune *intune, int64_t at)
{
    pthread_mutex_lock(&intune->lock);
    if (at > intune->call_at)
        intune->call_at = at;
    pthread_mutex_unlock(&intune->lock);
}

int64_t
intune_call_at(struct intune *intune)
{
    int64_t at;

    pthread_mutex_lock(&intune->lock);
    at = intune->call_at;
    pthread_mutex_unlock(&intune->lock);
    return at;
}

/* ---- contact ---- */

/* With contact_lock held, and no other. */
static void
tell(struct intune *intune, enum intune_contact contact, const struct cc_err *err)
{
    if (intune->on_contact != NULL)
        intune->on_contact(intune->on_contact_arg, contact, err);
}

/* counted: an answer of the service that has only so many connectors; of others it takes what it does not give us. */
void
intune_note_success(struct intune *intune, bool counted)
{
    enum intune_contact was;
    bool changed, refused;

    pthread_mutex_lock(&intune->contact_lock);
    pthread_mutex_lock(&intune->lock);
    was = intune->status.contact;
    refused = !counted && (was == INTUNE_CONNECTOR_LIMIT || was == INTUNE_CERTIFICATE_REFUSED ||
                                  was == INTUNE_CONNECTOR_REMOVED);
    changed = was != INTUNE_CONTACT_OK && !refused;
    if (!refused) {
        intune->status.contact = INTUNE_CONTACT_OK;
        intune->status.last_error[0] = '\0';
    }
    intune->status.last_contact_ms = cc_clock_now_ms();
    if (counted)
        intune->call_at = 0;
    if (intune->budget < BUDGET_FULL)
        intune->budget += BUDGET_EARNED;
    pthread_mutex_unlock(&intune->lock);
    if (changed)
        tell(intune, INTUNE_CONTACT_OK, NULL);
    pthread_mutex_unlock(&intune->contact_lock);
}

void
intune_note_failure(struct intune *intune, enum intune_contact contact, const struct cc_err *err)
{
    bool changed;

    pthread_mutex_lock(&intune->contact_lock);
    pthread_mutex_lock(&intune->lock);
    changed = intune->status.contact != contact;
    intune->status.contact = contact;
    cc_strcpy(intune->status.last_error, sizeof(intune->status.last_error), cc_err_text(err));
    pthread_mutex_unlock(&intune->lock);
    if (changed)
        tell(intune, contact, err);
    pthread_mutex_unlock(&intune->contact_lock);
}

/* Whoever answers has a clock that is right, a refusal of sign-in (which a wrong clock of ours may be the cause of) included. */
void
intune_note_date(struct intune *intune, int64_t date_ms)
{
    struct intune_status *status = &intune->status;
    struct cc_err err = { 0 };
    bool changed, is_off;

    if (date_ms == 0)
        return;
    pthread_mutex_lock(&intune->contact_lock);
    pthread_mutex_lock(&intune->lock);
    status->clock_skew_ms = date_ms - cc_clock_now_ms();
    is_off = intune->max_skew_ms > 0 && llabs(status->clock_skew_ms) > intune->max_skew_ms;
    changed = is_off != status->clock_is_off;
    status->clock_is_off = is_off;
    pthread_mutex_unlock(&intune->lock);
    if (changed && intune_check_clock(intune, &err) != 0)
        tell(intune, INTUNE_CLOCK_OFF, &err);
    else if (changed)
        tell(intune, INTUNE_CLOCK_RIGHT, NULL);
    pthread_mutex_unlock(&intune->contact_lock);
}

int
intune_check_clock(struct intune *intune, struct cc_err *err)
{
    struct intune_status status;

    intune_get_status(intune, &status);
    if (!status.clock_is_off)
        return 0;
    return cc_err_set(err, CC_DOM_SERVICE, INTUNE_CA_UNAVAILABLE,
            "the clock of this host is %lld s %s that of the service: nothing is issued until it is set right",
            llabs(status.clock_skew_ms) / 1000, status.clock_skew_ms > 0 ? "behind" : "ahead of");
}

void
intune_note_moved(struct intune *intune)
{
    pthread_mutex_lock(&intune->contact_lock);
    tell(intune, INTUNE_MOVED, NULL);
    pthread_mutex_unlock(&intune->contact_lock);
}

void
intune_get_status(struct intune *intune, struct intune_status *ret)
{
    pthread_mutex_lock(&intune->lock);
    *ret = intune->status;
    pthread_mutex_unlock(&intune->lock);
}
