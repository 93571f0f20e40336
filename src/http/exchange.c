/* SPDX-License-Identifier: MIT */
#include "http_int.h"

#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/secret.h"

struct http_exchange *
http_exchange_new(struct http_listener *listener)
{
    struct http_exchange *exchange = calloc(1, sizeof(*exchange));

    if (exchange == NULL)
        return NULL;
    cc_buf_init(&exchange->path, http_path_max(&listener->rules));
    cc_buf_init(&exchange->query, http_query_max(&listener->rules));
    cc_buf_init(&exchange->headers, HTTP_HEADER_MAX);
    cc_buf_init(&exchange->certificate, HTTP_CERTIFICATE_MAX);
    cc_buf_init(&exchange->body, listener->rules.max_body);
    exchange->listener = listener;
    exchange->owners = 1;
    pthread_mutex_lock(&listener->lock);
    listener->owners++;
    pthread_mutex_unlock(&listener->lock);
    return exchange;
}

/* Header and body may carry tokens and secrets. */
static void
exchange_free(struct http_exchange *exchange)
{
    if (exchange->response != NULL)
        MHD_destroy_response(exchange->response);
    cc_buf_wipe(&exchange->path);
    cc_buf_wipe(&exchange->query);
    cc_buf_wipe(&exchange->headers);
    cc_buf_free(&exchange->certificate);
    cc_buf_wipe(&exchange->body);
    free(exchange);
}

void
http_exchange_release(struct http_exchange *exchange)
{
    struct http_listener *listener = exchange->listener;
    bool last;

    pthread_mutex_lock(&listener->lock);
    last = --exchange->owners == 0;
    if (!last) {
        pthread_mutex_unlock(&listener->lock);
        return;
    }
    exchange_free(exchange);
    http_listener_release(listener);
}

/* ---- the request ---- */

const char *
http_exchange_method(const struct http_exchange *exchange)
{
    return exchange->method;
}

const char *
http_exchange_path(const struct http_exchange *exchange)
{
    return (const char *)exchange->path.data;
}

const char *
http_exchange_query(const struct http_exchange *exchange, const char *name)
{
    return http_query_find(&exchange->query, name, false);
}

const char *
http_exchange_query_raw(const struct http_exchange *exchange, const char *name)
{
    return http_query_find(&exchange->query, name, true);
}

const char *
http_exchange_header(const struct http_exchange *exchange, const char *name)
{
    return http_field_find(&exchange->headers, name);
}

struct cc_bytes
http_exchange_body(const struct http_exchange *exchange)
{
    return cc_buf_bytes(&exchange->body);
}

const char *
http_exchange_peer(const struct http_exchange *exchange)
{
    return exchange->peer;
}

struct cc_bytes
http_exchange_peer_certificate(const struct http_exchange *exchange)
{
    return cc_buf_bytes(&exchange->certificate);
}

bool
http_exchange_alive(struct http_exchange *exchange)
{
    struct http_listener *listener = exchange->listener;
    const union MHD_ConnectionInfo *info = NULL;
    struct pollfd peer = { .events = POLLRDHUP };
    bool alive = false;

    /* While it is held libmicrohttpd does not close the connection: its descriptor stays what it is. */
    pthread_mutex_lock(&listener->lock);
    if (exchange->phase == HTTP_PHASE_HELD)
        info = MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info != NULL) {
        peer.fd = info->connect_fd;
        alive = poll(&peer, 1, 0) == 0;
    }
    pthread_mutex_unlock(&listener->lock);
    return alive;
}

/* ---- the answer ---- */

static void
wipe_and_free(void *memory)
{
    cc_wipe(memory, malloc_usable_size(memory));
    free(memory);
}

static struct MHD_Response *
response_new(const void *body, size_t len)
{
    struct MHD_Response *response;
    void *copy = malloc(len + 1);

    if (copy == NULL)
        return NULL;
    if (len > 0)
        memcpy(copy, body, len);
    response = MHD_create_response_from_buffer_with_free_callback(len, copy, wipe_and_free);
    if (response == NULL)
        wipe_and_free(copy);
    return response;
}

struct MHD_Response *
http_refusal(unsigned status)
{
    const char *text = MHD_get_reason_phrase_for(status);
    struct MHD_Response *response;

    if (text == NULL)
        text = "Error";
    if ((response = response_new(text, strlen(text))) == NULL)
        return NULL;
    (void)MHD_add_response_header(response, "Content-Type", "text/plain");
    (void)MHD_add_response_header(response, "Connection", "close");
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
        (void)MHD_add_response_header(response, "Retry-After", "5");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, "Allow", "GET, HEAD, POST, PUT, PATCH, DELETE");
    return response;
}

void
http_exchange_answer(struct http_exchange *exchange, unsigned status,
        struct MHD_Response *take_response)
{
    struct http_listener *listener = exchange->listener;
    struct MHD_Connection *connection = exchange->connection;

    if (exchange->phase != HTTP_PHASE_HELD) {
        /* The listener was closed, and answered in the handler's place. */
        if (take_response != NULL)
            MHD_destroy_response(take_response);
        return;
    }
    if (exchange->prev != NULL)
        exchange->prev->next = exchange->next;
    else
        listener->held = exchange->next;
    if (exchange->next != NULL)
        exchange->next->prev = exchange->prev;
    exchange->connection = NULL;
    exchange->phase = HTTP_PHASE_ANSWERED;
    exchange->status = status;
    exchange->response = take_response;
    exchange->drop = take_response == NULL;
    listener->answering++;
    MHD_resume_connection(connection);
}

static void
reply(struct http_exchange *exchange, unsigned status, struct MHD_Response *take_response)
{
    pthread_mutex_lock(&exchange->listener->lock);
    http_exchange_answer(exchange, status, take_response);
    pthread_mutex_unlock(&exchange->listener->lock);
    http_exchange_release(exchange);
}

static void
reply_with(struct http_exchange *exchange, unsigned status, const struct http_header *headers,
        size_t header_count, const char *content_type, struct MHD_Response *take_response)
{
    size_t i;

    if (take_response != NULL) {
        if (content_type != NULL)
            (void)MHD_add_response_header(take_response, "Content-Type", content_type);
        for (i = 0; i < header_count; i++)
            (void)MHD_add_response_header(take_response, headers[i].name, headers[i].value);
    }
    reply(exchange, status, take_response);
}

void
http_exchange_reply(struct http_exchange *exchange, unsigned status,
        const struct http_header *headers, size_t header_count, const char *content_type,
        const void *body, size_t len)
{
    reply_with(exchange, status, headers, header_count, content_type, response_new(body, len));
}

void
http_exchange_reply_file(struct http_exchange *exchange, unsigned status,
        const struct http_header *headers, size_t header_count, const char *content_type,
        int take_fd, uint64_t len)
{
    struct MHD_Response *response = MHD_create_response_from_fd64(len, take_fd);

    if (response == NULL)
        (void)close(take_fd);
    reply_with(exchange, status, headers, header_count, content_type, response);
}

void
http_exchange_drop(struct http_exchange *exchange)
{
    reply(exchange, 0, NULL);
}
