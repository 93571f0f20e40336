/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

#define CONTROL_ANSWER_MAX ((size_t)256 * 1024)
#define CONTROL_CONNECTIONS 16
#define CONTROL_BODY_MAX 4096

/*
 * The control socket: who may connect to it (its mode, its folder) may ask.  GET /v1/status tells
 * what the connector does, POST /v1/reload reads the configuration again and tells whether it was taken.
 * POST /v1/poll has what is to be revoked asked for now.
 */

static void
reply_text(struct http_exchange *exchange, unsigned status, const char *text)
{
    http_exchange_reply(exchange, status, NULL, 0, "text/plain; charset=utf-8", text, strlen(text));
}

static void
reply_status(struct daemon *d, struct http_exchange *exchange)
{
    struct cc_buf body = CC_BUF_INIT(CONTROL_ANSWER_MAX);
    json_object *status = status_build(d);

    if (status != NULL && cc_json_write(status, &body, NULL) == 0)
        http_exchange_reply(exchange, 200, NULL, 0, "application/json", body.data, body.len);
    else
        reply_text(exchange, 500, "out of memory\n");
    json_object_put(status);
    cc_buf_free(&body);
}

/*
 * Intune hands out nothing for an hour after it was asked, and who asks in between may put it off for everybody: its
 * interval stays.  A service of one's own can be asked, if only to be tried.
 */
static void
poll_now(struct daemon *d, struct http_exchange *exchange)
{
    bool may, runs;

    pthread_mutex_lock(&d->lock);
    may = d->config->service.cloud == CONFIG_CLOUD_CUSTOM;
    runs = d->parts.revocation != NULL;
    if (may && runs)
        revocation_poll_now(d->parts.revocation);
    pthread_mutex_unlock(&d->lock);
    if (!runs)
        reply_text(exchange, 409, "the feature revocation is off\n");
    else if (!may)
        reply_text(exchange, 409, "Intune is asked at [revocation] poll-interval only\n");
    else
        reply_text(exchange, 202, "asked\n");
}

static void
control_handle(void *arg, struct http_exchange *exchange)
{
    static const struct {
        const char *path, *method, *refusal;
        void (*answer)(struct daemon *d, struct http_exchange *exchange);
    } calls[] = {
        { "/v1/status", "GET", "only GET\n", reply_status },
        { "/v1/reload", "POST", "only POST\n", reload_ask },
        { "/v1/poll", "POST", "only POST\n", poll_now },
    };

    for (size_t i = 0; i < CC_COUNT(calls); i++) {
        if (strcmp(http_exchange_path(exchange), calls[i].path) != 0)
            continue;
        if (strcmp(http_exchange_method(exchange), calls[i].method) == 0)
            calls[i].answer(arg, exchange);
        else
            reply_text(exchange, 405, calls[i].refusal);
        return;
    }
    reply_text(exchange, 404, "no such path\n");
}

int
control_open(struct daemon *d, struct cc_err *err)
{
    char listen[256];
    int len = snprintf(listen, sizeof(listen), "unix:%s", d->config->connector.control_socket);
    const struct http_listener_settings settings = {
        .listen = listen,
        .workers = 1,
        .max_connections = CONTROL_CONNECTIONS,
        .max_body = CONTROL_BODY_MAX,
        .handler = control_handle,
        .handler_arg = d,
    };

    if (len < 0 || (size_t)len >= sizeof(listen))
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "[connector] control-socket: the path is too long");
    if (http_listener_open(&settings, &d->control, err) != 0)
        return cc_err_in(err, "control socket");
    return 0;
}
