/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "exposition.h"

/*
 * What monitoring asks over HTTP: /metrics, /healthz (whether the process is alive) and /readyz (whether it can do work).
 * There is nothing secret in it; who may ask is a matter of the address.
 */

#define ANSWER_MAX ((size_t)2 << 20)
#define CONNECTIONS 32
#define WORKERS 2
#define BODY_MAX 1024
#define ALIVE_MS 90000 /* the main thread turns more often, even while it drains work */

static void
reply(struct http_exchange *exchange, unsigned status, const char *text)
{
    static const struct http_header fresh = { "Cache-Control", "no-store" };

    http_exchange_reply(exchange, status, &fresh, 1, "text/plain; charset=utf-8", text,
            strlen(text));
}

static void
reply_metrics(struct daemon *d, struct http_exchange *exchange)
{
    static const struct http_header fresh = { "Cache-Control", "no-store" };
    struct cc_buf text = CC_BUF_INIT(ANSWER_MAX);
    struct exposition exposition = EXPOSITION_INIT(&text);

    metrics_write(d, &exposition);
    if (exposition.failed)
        reply(exchange, 500, "out of memory\n");
    else
        http_exchange_reply(exchange, 200, &fresh, 1, "text/plain; version=0.0.4; charset=utf-8",
                text.data, text.len);
    cc_buf_free(&text);
}

static void
reply_health(struct daemon *d, struct http_exchange *exchange)
{
    if (cc_clock_mono_ms() - atomic_load(&d->turned_ms) < ALIVE_MS)
        reply(exchange, 200, "alive\n");
    else
        reply(exchange, 503, "the main thread does not turn any more\n");
}

static void
reply_ready(struct daemon *d, struct http_exchange *exchange)
{
    char why[512], text[sizeof(why) + 1];

    if (status_is_ready(d, why, sizeof(why))) {
        reply(exchange, 200, "ready\n");
        return;
    }
    (void)snprintf(text, sizeof(text), "%s\n", why);
    reply(exchange, 503, text);
}

static void
handle(void *arg, struct http_exchange *exchange)
{
    static const struct {
        const char *path;
        void (*run)(struct daemon *d, struct http_exchange *exchange);
    } paths[] = { { "/metrics", reply_metrics }, { "/healthz", reply_health },
        { "/readyz", reply_ready } };

    for (size_t i = 0; i < CC_COUNT(paths); i++) {
        if (strcmp(http_exchange_path(exchange), paths[i].path) != 0)
            continue;
        if (strcmp(http_exchange_method(exchange), "GET") == 0)
            paths[i].run(arg, exchange);
        else
            reply(exchange, 405, "only GET\n");
        return;
    }
    reply(exchange, 404, "there are /metrics, /healthz and /readyz\n");
}

static int
open_listener(struct daemon *d, const char *listen, struct http_listener **ret_listener,
        struct cc_err *err)
{
    const struct http_listener_settings settings = {
        .listen = listen,
        .workers = WORKERS,
        .max_connections = CONNECTIONS,
        .max_body = BODY_MAX,
        .handler = handle,
        .handler_arg = d,
    };

    *ret_listener = NULL;
    if (listen == NULL)
        return 0;
    if (http_listener_open(&settings, ret_listener, err) != 0)
        return cc_err_in(err, "[metrics] listen");
    return 0;
}

bool
monitor_is_at(const struct daemon *d, const char *listen)
{
    const char *at = d->monitor.at;

    return at == listen || (at != NULL && listen != NULL && strcmp(at, listen) == 0);
}

/* Takes over the listener; NULL: there is none. */
static void
be_at(struct daemon *d, char *take_at, struct http_listener *take_listener)
{
    http_listener_close(d->monitor.listener);
    free(d->monitor.at);
    d->monitor = (struct monitor){ take_listener, take_at };
}

/* Addresses that overlap (127.0.0.1:9180 and 0.0.0.0:9180) can be had only one after the other. */
static int
change_places(struct daemon *d, const char *listen, struct http_listener **ret_listener,
        struct cc_err *err)
{
    struct cc_err why = { 0 };

    http_listener_close(d->monitor.listener);
    d->monitor.listener = NULL;
    if (open_listener(d, listen, ret_listener, err) == 0)
        return 0;
    if (open_listener(d, d->monitor.at, &d->monitor.listener, &why) != 0)
        cc_log(CC_LOG_ERROR, "daemon", "back at the address before: %s", cc_err_text(&why));
    return -1;
}

int
monitor_move(struct daemon *d, const char *listen, struct cc_err *err)
{
    struct http_listener *listener = NULL;
    struct cc_err why = { 0 };
    char *at = NULL;

    if (monitor_is_at(d, listen))
        return 0;
    if (listen != NULL && (at = cc_strdup(listen, err)) == NULL)
        return -1;
    if (open_listener(d, listen, &listener, &why) != 0 &&
            (d->monitor.listener == NULL || change_places(d, listen, &listener, NULL) != 0)) {
        free(at);
        return cc_err_set(err, why.domain, why.code, "%s", cc_err_text(&why));
    }
    be_at(d, at, listener);
    return 0;
}

void
monitor_close(struct daemon *d)
{
    be_at(d, NULL, NULL);
}
