/* SPDX-License-Identifier: MIT */
#include "ca/publish.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "pki/ocsp.h"
#include "publish_int.h"

#define CACHE_MAX 4096
#define OCSP_PATH "/ocsp"
#define OCSP_PREFIX OCSP_PATH "/"

/* ---- HTTP ---- */

/* RFC 9110 section 5.6.7, whatever the locale. */
static void
format_date(int64_t time_ms, char *ret, size_t size)
{
    static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
        "Sep", "Oct", "Nov", "Dec" };
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm tm = { 0 };

    (void)gmtime_r(&seconds, &tm);
    (void)snprintf(ret, size, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
            months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void
publish_fresh_set(struct publish_fresh *fresh, const char *tag, int64_t modified_ms,
        int64_t expires_ms)
{
    int64_t left = (expires_ms - cc_clock_now_ms()) / 1000;

    (void)snprintf(fresh->etag, sizeof(fresh->etag), "\"%s\"", tag);
    (void)snprintf(fresh->cache_control, sizeof(fresh->cache_control),
            "max-age=%lld, public, no-transform, must-revalidate",
            left > 0 ? (long long)left : 0LL);
    format_date(modified_ms, fresh->modified, sizeof(fresh->modified));
    format_date(expires_ms, fresh->expires, sizeof(fresh->expires));
    fresh->headers[0] = (struct http_header){ "ETag", fresh->etag };
    fresh->headers[1] = (struct http_header){ "Cache-Control", fresh->cache_control };
    fresh->headers[2] = (struct http_header){ "Last-Modified", fresh->modified };
    fresh->headers[3] = (struct http_header){ "Expires", fresh->expires };
}

/* Our tags have no commas, so that a list can be taken apart at them; weak ones count (RFC 9110 section 13.1.2). */
bool
publish_has_it(const struct http_exchange *exchange, const struct publish_fresh *fresh)
{
    const char *list = http_exchange_header(exchange, "If-None-Match");
    size_t len = strlen(fresh->etag);

    while (list != NULL && *list != '\0') {
        size_t item;

        list += strspn(list, " \t,");
        if (cc_starts_with(list, "W/"))
            list += 2;
        item = strcspn(list, " \t,");
        if ((item == 1 && list[0] == '*') || (item == len && memcmp(list, fresh->etag, len) == 0))
            return true;
        list += item;
    }
    return false;
}

void
publish_not_modified(struct http_exchange *exchange, const struct publish_fresh *fresh)
{
    http_exchange_reply(exchange, 304, fresh->headers, CC_COUNT(fresh->headers), NULL, NULL, 0);
}

void
publish_refuse(struct http_exchange *exchange, unsigned status, const char *allow)
{
    struct http_header headers[2] = { { "Cache-Control", "no-store" } };
    size_t count = 1;
    char text[32];

    if (allow != NULL)
        headers[count++] = (struct http_header){ "Allow", allow };
    else if (status == 503)
        headers[count++] = (struct http_header){ "Retry-After", "5" };
    (void)snprintf(text, sizeof(text), "error %u\n", status);
    http_exchange_reply(exchange, status, headers, count, "text/plain", text, strlen(text));
}

static void
handle(void *arg, struct http_exchange *exchange)
{
    struct ca_publish *publish = arg;
    const char *path = http_exchange_path(exchange);
    const char *method = http_exchange_method(exchange);
    bool post = strcmp(method, "POST") == 0;
    bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

    if (strcmp(path, OCSP_PATH) == 0 || strcmp(path, OCSP_PREFIX) == 0) {
        if (post)
            publish_ocsp_post(publish, exchange);
        else
            publish_refuse(exchange, 405, "POST");
    } else if (!get) {
        publish_refuse(exchange, 405, "GET, HEAD");
    } else if (cc_starts_with(path, OCSP_PREFIX)) {
        publish_ocsp_get(publish, exchange, path + strlen(OCSP_PREFIX));
    } else {
        publish_file(publish, exchange, path + 1);
    }
}

/* ---- open and close ---- */

static int
take_cas(struct ca_publish *publish, const struct ca_publish_settings *settings, struct cc_err *err)
{
    if ((publish->cas = calloc(settings->count + 1, sizeof(*publish->cas))) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < settings->count; i++) {
        struct publish_ca *ca = &publish->cas[publish->count];

        if (strcmp(ca_kind(settings->cas[i]), "local") != 0)
            continue;
        ca->ca = settings->cas[i];
        pthread_mutex_init(&ca->lock, NULL);
        publish_files_init(ca);
        publish->count++;
    }
    return 0;
}

static int
open_listener(struct ca_publish *publish, const struct ca_publish_settings *settings,
        struct cc_err *err)
{
    const struct http_listener_settings listener = {
        .listen = settings->listen,
        .workers = settings->workers,
        .max_body = PKI_OCSP_REQUEST_MAX,
        .opaque_prefix = OCSP_PREFIX,
        .handler = handle,
        .handler_arg = publish,
    };

    return http_listener_open(&listener, &publish->listener, err);
}

int
ca_publish_open(const struct ca_publish_settings *settings, struct ca_publish **ret_publish,
        struct cc_err *err)
{
    struct ca_publish *publish = calloc(1, sizeof(*publish));

    if (publish == NULL)
        return cc_err_nomem(err);
    publish->folder = cc_strdup(settings->folder, err);
    if (publish->folder == NULL || take_cas(publish, settings, err) != 0)
        goto fail;
    publish->cache =
            publish_cache_new(settings->cache_max > 0 ? settings->cache_max : CACHE_MAX, err);
    if (publish->cache == NULL || open_listener(publish, settings, err) != 0)
        goto fail;
    *ret_publish = publish;
    return 0;
fail:
    ca_publish_close(publish);
    return -1;
}

void
ca_publish_close(struct ca_publish *publish)
{
    if (publish == NULL)
        return;
    http_listener_close(publish->listener);
    for (size_t i = 0; i < publish->count; i++) {
        publish_files_free(&publish->cas[i]);
        pthread_mutex_destroy(&publish->cas[i].lock);
    }
    publish_cache_free(publish->cache);
    free(publish->cas);
    free(publish->folder);
    free(publish);
}

uint16_t
ca_publish_port(const struct ca_publish *publish)
{
    return http_listener_port(publish->listener);
}

void
ca_publish_get_stats(struct ca_publish *publish, struct ca_publish_stats *ret)
{
    ret->ocsp_answers = atomic_load(&publish->ocsp_answers);
    ret->ocsp_from_cache = atomic_load(&publish->ocsp_from_cache);
    ret->ocsp_failures = atomic_load(&publish->ocsp_failures);
    ret->files = atomic_load(&publish->files);
}
