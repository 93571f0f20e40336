/* SPDX-License-Identifier: MIT */
#include "http/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "http_int.h"

#define WORKERS 4
#define QUEUE_MAX 256
#define CONNECTIONS_MAX 512
#define BODY_MAX ((size_t)256 << 10)
#define DEADLINE_MS 10000

/* Connections beyond the bound, so that they can be told. */
#define EXCESS_CONNECTIONS 64

/* Of libmicrohttpd, a connection: the header of the request and that of the answer; a target of its own ceiling more. */
#define CONNECTION_MEMORY ((size_t)2 * HTTP_HEADER_MAX)

/* A peer that takes its answer slower than this is let go. */
#define SENDING_MS 60000

/* How long closing waits for the last answers to leave. */
#define LINGER_MS 2000

#define TLS_FILE_MAX ((size_t)1 << 20)
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* ---- memory ---- */

void
http_listener_release(struct http_listener *listener)
{
    bool last = --listener->owners == 0;

    pthread_mutex_unlock(&listener->lock);
    if (!last)
        return;
    pthread_cond_destroy(&listener->watch);
    pthread_cond_destroy(&listener->answered);
    pthread_mutex_destroy(&listener->lock);
    free(listener->unix_path);
    free(listener->rules.opaque_prefix);
    free(listener);
}

static struct http_listener *
listener_new(const struct http_listener_settings *settings, struct cc_err *err)
{
    struct http_listener *listener = calloc(1, sizeof(*listener));

    if (listener == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    pthread_mutex_init(&listener->lock, NULL);
    if (cc_cond_init(&listener->watch, err) != 0 || cc_cond_init(&listener->answered, err) != 0) {
        free(listener);
        return NULL;
    }
    listener->owners = 1;
    listener->fd = -1;
    listener->max_connections =
            settings->max_connections > 0 ? settings->max_connections : CONNECTIONS_MAX;
    listener->rules.max_body = settings->max_body > 0 ? settings->max_body : BODY_MAX;
    listener->rules.max_target = settings->max_target;
    listener->rules.raw_query = settings->raw_query;
    listener->deadline_ms = settings->deadline_ms > 0 ? settings->deadline_ms : DEADLINE_MS;
    listener->handler = settings->handler;
    listener->handler_arg = settings->handler_arg;
    return listener;
}

/* ---- connections and their deadlines; all with the lock held ---- */

/* libmicrohttpd then meets the end of the stream and closes the connection itself. */
static void
track_cut(struct http_track *track)
{
    track->deadline = INT64_MAX;
    (void)shutdown(track->fd, SHUT_RDWR);
}

static void
track_until(struct http_listener *listener, struct http_track *track, bool receiving,
        int64_t deadline)
{
    track->receiving = receiving;
    track->deadline = deadline;
    if (deadline < listener->watch_until)
        pthread_cond_signal(&listener->watch);
}

/* Room for a newcomer: whoever has kept us waiting longest for a request goes. */
static bool
cut_slowest(struct http_listener *listener)
{
    struct http_track *slowest = NULL;
    struct http_track *track;

    for (track = listener->tracks; track != NULL; track = track->next)
        if (track->receiving && track->deadline != INT64_MAX &&
                (slowest == NULL || track->deadline < slowest->deadline))
            slowest = track;
    if (slowest == NULL)
        return false;
    track_cut(slowest);
    return true;
}

static void *
watch(void *arg)
{
    struct http_listener *listener = arg;

    (void)pthread_setname_np(pthread_self(), "http-watch");
    pthread_mutex_lock(&listener->lock);
    while (!listener->watch_end) {
        int64_t now = cc_clock_mono_ms();
        struct http_track *track;

        listener->watch_until = INT64_MAX;
        for (track = listener->tracks; track != NULL; track = track->next) {
            if (track->deadline <= now)
                track_cut(track);
            if (track->deadline < listener->watch_until)
                listener->watch_until = track->deadline;
        }
        if (listener->watch_until == INT64_MAX) {
            pthread_cond_wait(&listener->watch, &listener->lock);
        } else {
            cc_cond_wait(&listener->watch, &listener->lock, listener->watch_until - now);
        }
    }
    pthread_mutex_unlock(&listener->lock);
    return NULL;
}

static void
track_begin(struct http_listener *listener, struct MHD_Connection *connection,
        void **socket_context)
{
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct http_track *track = calloc(1, sizeof(*track));

    *socket_context = track;
    if (track == NULL || info == NULL) {
        free(track);
        *socket_context = NULL;
        return;
    }
    track->fd = info->connect_fd;
    pthread_mutex_lock(&listener->lock);
    if (++listener->track_count > listener->max_connections)
        track->excess = !cut_slowest(listener);
    track->next = listener->tracks;
    if (track->next != NULL)
        track->next->prev = track;
    listener->tracks = track;
    track_until(listener, track, true, cc_deadline_in(listener->deadline_ms));
    pthread_mutex_unlock(&listener->lock);
}

/* libmicrohttpd closes the descriptor only after this. */
static void
track_end(struct http_listener *listener, struct http_track *track)
{
    if (track == NULL)
        return;
    pthread_mutex_lock(&listener->lock);
    listener->track_count--;
    if (track->prev != NULL)
        track->prev->next = track->next;
    else
        listener->tracks = track->next;
    if (track->next != NULL)
        track->next->prev = track->prev;
    pthread_mutex_unlock(&listener->lock);
    free(track);
}

static struct http_track *
track_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info == NULL ? NULL : info->socket_context;
}

static void
on_connection(void *arg, struct MHD_Connection *connection, void **socket_context,
        enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        track_begin(arg, connection, socket_context);
    else
        track_end(arg, *socket_context);
}

/* ---- requests, on libmicrohttpd's thread ---- */

static void
note_peer(struct http_exchange *exchange, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info == NULL ? NULL : info->client_addr;
    const void *raw = NULL;

    if (address != NULL && address->sa_family == AF_INET)
        raw = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (address != NULL && address->sa_family == AF_INET6)
        raw = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (raw == NULL ||
            inet_ntop(address->sa_family, raw, exchange->peer, sizeof(exchange->peer)) == NULL)
        cc_strcpy(exchange->peer, sizeof(exchange->peer), "unix");
}

/* One that is too long, or for which there is no memory, is none. */
static void
note_certificate(struct http_exchange *exchange, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    const gnutls_datum_t *chain = NULL;
    unsigned count = 0;

    if (info != NULL && info->tls_session != NULL)
        chain = gnutls_certificate_get_peers(info->tls_session, &count);
    if (chain != NULL && count > 0 &&
            cc_buf_add(&exchange->certificate, chain[0].data, chain[0].size, NULL) != 0)
        cc_buf_reset(&exchange->certificate);
}

/* The request line is there.  What this returns is the request's context from now on. */
static void *
on_line(void *arg, const char *target, struct MHD_Connection *connection)
{
    struct http_exchange *exchange = http_exchange_new(arg);

    if (exchange == NULL)
        return NULL;
    exchange->refusal = http_target_parse(target, &exchange->listener->rules, &exchange->path,
            &exchange->query);
    exchange->target = cc_bytes_of_str(target);
    note_peer(exchange, connection);
    if (exchange->listener->asks_certificates)
        note_certificate(exchange, connection);
    return exchange;
}

static enum MHD_Result
send_answer(struct MHD_Connection *connection, struct http_exchange *exchange, unsigned status,
        struct MHD_Response *take_response)
{
    struct http_listener *listener = exchange->listener;
    struct http_track *track = track_of(connection);
    enum MHD_Result result;

    pthread_mutex_lock(&listener->lock);
    if (exchange->phase == HTTP_PHASE_ANSWERED)
        exchange->response = NULL;
    else
        listener->answering++;
    exchange->phase = HTTP_PHASE_SENDING;
    if (track != NULL)
        track_until(listener, track, false, cc_deadline_in(SENDING_MS));
    pthread_mutex_unlock(&listener->lock);
    if (take_response == NULL)
        return MHD_NO;
    result = MHD_queue_response(connection, status, take_response);
    MHD_destroy_response(take_response);
    return result;
}

static enum MHD_Result
refuse(struct MHD_Connection *connection, struct http_exchange *exchange, unsigned status)
{
    return send_answer(connection, exchange, status, http_refusal(status));
}

static enum MHD_Result
begin(struct MHD_Connection *connection, struct http_exchange *exchange, const char *method,
        const char *version)
{
    struct http_listener *listener = exchange->listener;
    struct http_track *track = track_of(connection);
    unsigned status = exchange->refusal;
    bool full;

    exchange->phase = HTTP_PHASE_BODY;
    cc_strcpy(exchange->method, sizeof(exchange->method), method);
    if (status == 0)
        status = http_head_check(connection, method, exchange->target, version, &listener->rules,
                &exchange->headers);
    pthread_mutex_lock(&listener->lock);
    full = track == NULL || track->excess || listener->closing;
    pthread_mutex_unlock(&listener->lock);
    if (status == 0 && full)
        status = MHD_HTTP_SERVICE_UNAVAILABLE;
    return status == 0 ? MHD_YES : refuse(connection, exchange, status);
}

/* LOCKED */
static void
answer_unavailable(struct http_exchange *exchange)
{
    http_exchange_answer(exchange, MHD_HTTP_SERVICE_UNAVAILABLE,
            http_refusal(MHD_HTTP_SERVICE_UNAVAILABLE));
}

/* On a worker. */
static void
handle(void *arg)
{
    struct http_exchange *exchange = arg;
    struct http_listener *listener = exchange->listener;
    bool closing;

    pthread_mutex_lock(&listener->lock);
    closing = listener->closing;
    if (closing)
        answer_unavailable(exchange);
    pthread_mutex_unlock(&listener->lock);
    if (closing)
        http_exchange_release(exchange);
    else
        listener->handler(listener->handler_arg, exchange);
}

/* The pool is there for as long as the listener is not closing, so it is asked with the lock held. */
static enum MHD_Result
hand_over(struct MHD_Connection *connection, struct http_exchange *exchange)
{
    struct http_listener *listener = exchange->listener;
    struct http_track *track = track_of(connection);

    pthread_mutex_lock(&listener->lock);
    if (listener->closing) {
        pthread_mutex_unlock(&listener->lock);
        return refuse(connection, exchange, MHD_HTTP_SERVICE_UNAVAILABLE);
    }
    MHD_suspend_connection(connection);
    if (track != NULL)
        track_until(listener, track, false, INT64_MAX);
    exchange->phase = HTTP_PHASE_HELD;
    exchange->connection = connection;
    exchange->next = listener->held;
    if (exchange->next != NULL)
        exchange->next->prev = exchange;
    listener->held = exchange;
    exchange->owners++;
    if (!cc_pool_submit(listener->pool, handle, exchange)) {
        exchange->owners--;
        answer_unavailable(exchange);
    }
    pthread_mutex_unlock(&listener->lock);
    return MHD_YES;
}

static enum MHD_Result
on_request(void *arg, struct MHD_Connection *connection, const char *target, const char *method,
        const char *version, const char *data, size_t *len, void **context)
{
    struct http_exchange *exchange = *context;
    struct http_listener *listener = arg;
    enum http_phase phase;

    (void)target;
    if (exchange == NULL)
        return MHD_NO;
    pthread_mutex_lock(&listener->lock);
    phase = exchange->phase;
    pthread_mutex_unlock(&listener->lock);
    switch (phase) {
    case HTTP_PHASE_LINE:
        return begin(connection, exchange, method, version);
    case HTTP_PHASE_BODY:
        if (*len == 0)
            return hand_over(connection, exchange);
        if (cc_buf_add(&exchange->body, data, *len, NULL) != 0)
            return MHD_NO;
        *len = 0;
        return MHD_YES;
    case HTTP_PHASE_ANSWERED:
        return send_answer(connection, exchange, exchange->status, exchange->response);
    case HTTP_PHASE_HELD:
    case HTTP_PHASE_SENDING:
        break;
    }
    *len = 0;
    return MHD_YES;
}

static void
on_completed(void *arg, struct MHD_Connection *connection, void **context,
        enum MHD_RequestTerminationCode why)
{
    struct http_listener *listener = arg;
    struct http_exchange *exchange = *context;
    struct http_track *track = track_of(connection);

    *context = NULL;
    if (exchange == NULL)
        return;
    if (why == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        (void)CC_FAILPOINT("answer", exchange->method, "after");
    pthread_mutex_lock(&listener->lock);
    if (exchange->phase == HTTP_PHASE_ANSWERED || exchange->phase == HTTP_PHASE_SENDING) {
        listener->answering--;
        pthread_cond_broadcast(&listener->answered);
    }
    exchange->phase = HTTP_PHASE_SENDING;
    if (track != NULL)
        track_until(listener, track, true, cc_deadline_in(listener->deadline_ms));
    pthread_mutex_unlock(&listener->lock);
    http_exchange_release(exchange);
}

/* ---- sockets ---- */

/* A socket file that nobody answers on is left over from a process that is gone. */
static void
unlink_stale(const struct sockaddr_un *address)
{
    struct stat st;
    int fd;

    if (lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return;
    if (connect(fd, (const struct sockaddr *)(const void *)address, sizeof(*address)) != 0 &&
            errno == ECONNREFUSED)
        (void)unlink(address->sun_path);
    (void)close(fd);
}

static int
listen_unix(struct http_listener *listener, const char *path, mode_t mode, struct cc_err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (path[0] != '/' || !cc_strcpy(address.sun_path, sizeof(address.sun_path), path))
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "unix socket %s: not an absolute path of at most %zu bytes", path,
                sizeof(address.sun_path) - 1);
    if ((listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        return cc_err_set_errno(err, errno, "socket");
    unlink_stale(&address);
    if (bind(listener->fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        return cc_err_set_errno(err, errno, "bind %s", path);
    if ((listener->unix_path = cc_strdup(path, err)) == NULL) {
        (void)unlink(path);
        return -1;
    }
    /* Nobody can connect before listen(), so the mode is in time. */
    if (chmod(path, mode != 0 ? mode : 0660) != 0)
        return cc_err_set_errno(err, errno, "mode of %s", path);
    return 0;
}

/* "host:port" or "[host]:port" in its parts. */
static int
split_address(const char *text, char *ret_host, size_t size, const char **ret_port,
        struct cc_err *err)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon == NULL ? 0 : (size_t)(colon - text);

    if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL) {
        len = 0;
    }
    if (len == 0 || len >= size)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "\"%s\" is no address to listen on, such as 127.0.0.1:8080, [::1]:8080 or unix:/path",
                text);
    memcpy(ret_host, text, len);
    ret_host[len] = '\0';
    *ret_port = colon + 1;
    return 0;
}

static int
listen_tcp(struct http_listener *listener, const char *text, struct cc_err *err)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    const char *port = NULL;
    char host[64];
    int64_t number;
    int on = 1;
    int rc;

    if (split_address(text, host, sizeof(host), &port, err) != 0 ||
            cc_parse_int(port, 0, 65535, &number, err) != 0)
        return cc_err_in(err, "listen address %s", text);
    if ((rc = getaddrinfo(host, port, &hints, &found)) != 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "listen address %s: %s", text, gai_strerror(rc));
    rc = -1;
    listener->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener->fd < 0) {
        cc_err_set_errno(err, errno, "socket");
        goto out;
    }
    (void)setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (found->ai_family == AF_INET6)
        (void)setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    rc = bind(listener->fd, found->ai_addr, found->ai_addrlen);
    if (rc != 0)
        cc_err_set_errno(err, errno, "bind %s", text);
out:
    freeaddrinfo(found);
    return rc;
}

static int
open_socket(struct http_listener *listener, const struct http_listener_settings *settings,
        struct cc_err *err)
{
    static const char unix_prefix[] = "unix:";
    int rc;

    if (cc_starts_with(settings->listen, unix_prefix))
        rc = listen_unix(listener, settings->listen + strlen(unix_prefix), settings->unix_mode,
                err);
    else
        rc = listen_tcp(listener, settings->listen, err);
    if (rc != 0)
        return -1;
    if (listen(listener->fd, SOMAXCONN) != 0)
        return cc_err_set_errno(err, errno, "listen on %s", settings->listen);
    return 0;
}

/* ---- open and close ---- */

static void on_message(void *arg, const char *fmt, va_list ap)
        __attribute__((format(printf, 2, 0)));

static void
on_message(void *arg, const char *fmt, va_list ap)
{
    char line[256];

    (void)arg;
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    line[strcspn(line, "\r\n")] = '\0';
    cc_log(CC_LOG_DEBUG, "http", "%s", line);
}

static int
start_daemon(struct http_listener *listener, const struct http_listener_settings *settings,
        struct cc_err *err)
{
    struct cc_buf certificate = CC_BUF_INIT(TLS_FILE_MAX);
    struct cc_buf key = CC_BUF_INIT(TLS_FILE_MAX);
    struct cc_buf trust = CC_BUF_INIT(TLS_FILE_MAX);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    char priorities[] = TLS_PRIORITIES;
    struct MHD_OptionItem tls[5] = { { MHD_OPTION_END, 0, NULL }, { MHD_OPTION_END, 0, NULL },
        { MHD_OPTION_END, 0, NULL }, { MHD_OPTION_END, 0, NULL }, { MHD_OPTION_END, 0, NULL } };
    int rc = -1;

    if (settings->tls_certificate_file != NULL) {
        if (settings->tls_key_file == NULL) {
            cc_err_set(err, CC_DOM_CONFIG, 0, "a TLS certificate without its key");
            goto out;
        }
        if (cc_file_read(settings->tls_certificate_file, &certificate, err) != 0 ||
                cc_file_read(settings->tls_key_file, &key, err) != 0)
            goto out;
        flags |= MHD_USE_TLS;
        tls[0] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_CERT, 0, certificate.data };
        tls[1] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_KEY, 0, key.data };
        tls[2] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0, priorities };
        if (settings->tls_client_ca != NULL) {
            if (cc_buf_add_str(&trust, settings->tls_client_ca, err) != 0)
                goto out;
            tls[3] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_MEM_TRUST, 0, trust.data };
            listener->asks_certificates = true;
        }
    }
    /* clang-format off */
    listener->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, listener,
            MHD_OPTION_EXTERNAL_LOGGER, on_message, NULL, /* has to be first */
            MHD_OPTION_LISTEN_SOCKET, listener->fd,
            MHD_OPTION_URI_LOG_CALLBACK, on_line, listener,
            MHD_OPTION_NOTIFY_COMPLETED, on_completed, listener,
            MHD_OPTION_NOTIFY_CONNECTION, on_connection, listener,
            MHD_OPTION_CONNECTION_LIMIT, listener->max_connections + EXCESS_CONNECTIONS,
            MHD_OPTION_PER_IP_CONNECTION_LIMIT, settings->max_connections_per_address,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY + listener->rules.max_target,
            MHD_OPTION_STRICT_FOR_CLIENT, 1,
            MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    /* clang-format on */
    if (listener->daemon == NULL) {
        cc_err_set(err, CC_DOM_SYSTEM, errno, "start the HTTP server on %s%s", settings->listen,
                settings->tls_certificate_file != NULL
                        ? ": are certificate and key a pair in PEM form?"
                        : "");
        goto out;
    }
    rc = 0;
out:
    cc_buf_wipe(&key);
    cc_buf_free(&trust);
    cc_buf_free(&certificate);
    return rc;
}

/* Threads that take no signals: those are for the thread that waits for them. */
static int
start_threads(struct http_listener *listener, const struct http_listener_settings *settings,
        struct cc_err *err)
{
    sigset_t all, before;
    int rc = -1;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if ((failed = pthread_create(&listener->watcher, NULL, watch, listener)) != 0) {
        cc_err_set_errno(err, failed, "start a thread");
        goto out;
    }
    listener->watching = true;
    rc = start_daemon(listener, settings, err);
out:
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int
http_listener_open(const struct http_listener_settings *settings,
        struct http_listener **ret_listener, struct cc_err *err)
{
    struct http_listener *listener = listener_new(settings, err);

    if (listener == NULL)
        return -1;
    if (settings->opaque_prefix != NULL &&
            (listener->rules.opaque_prefix = cc_strdup(settings->opaque_prefix, err)) == NULL) {
        http_listener_close(listener);
        return -1;
    }
    listener->pool = cc_pool_open("http", settings->workers > 0 ? settings->workers : WORKERS,
            settings->queue_max > 0 ? settings->queue_max : QUEUE_MAX, err);
    if (listener->pool == NULL || open_socket(listener, settings, err) != 0 ||
            start_threads(listener, settings, err) != 0) {
        http_listener_close(listener);
        return -1;
    }
    *ret_listener = listener;
    return 0;
}

/* LOCKED */
static void
answer_all(struct http_listener *listener)
{
    while (listener->held != NULL)
        answer_unavailable(listener->held);
}

/* LOCKED */
static void
wait_for_answers(struct http_listener *listener)
{
    const struct timespec at = cc_cond_time(LINGER_MS);

    while (listener->answering > 0)
        if (pthread_cond_timedwait(&listener->answered, &listener->lock, &at) != 0)
            return;
}

void
http_listener_close(struct http_listener *listener)
{
    if (listener == NULL)
        return;
    pthread_mutex_lock(&listener->lock);
    listener->closing = true;
    pthread_mutex_unlock(&listener->lock);
    if (listener->daemon != NULL)
        (void)MHD_quiesce_daemon(listener->daemon);
    cc_pool_close(listener->pool);
    if (listener->daemon != NULL) {
        pthread_mutex_lock(&listener->lock);
        answer_all(listener);
        wait_for_answers(listener);
        pthread_mutex_unlock(&listener->lock);
        MHD_stop_daemon(listener->daemon);
    }

    pthread_mutex_lock(&listener->lock);
    listener->watch_end = true;
    pthread_cond_signal(&listener->watch);
    pthread_mutex_unlock(&listener->lock);
    if (listener->watching)
        pthread_join(listener->watcher, NULL);
    if (listener->fd >= 0)
        (void)close(listener->fd);
    if (listener->unix_path != NULL)
        (void)unlink(listener->unix_path);
    pthread_mutex_lock(&listener->lock);
    http_listener_release(listener);
}

uint16_t
http_listener_port(const struct http_listener *listener)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_storage storage;
    } address = { 0 };
    socklen_t len = sizeof(address);

    if (getsockname(listener->fd, &address.any, &len) != 0)
        return 0;
    if (address.any.sa_family == AF_INET)
        return ntohs(address.v4.sin_port);
    if (address.any.sa_family == AF_INET6)
        return ntohs(address.v6.sin6_port);
    return 0;
}
