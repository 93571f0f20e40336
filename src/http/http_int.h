/* SPDX-License-Identifier: MIT */
#ifndef HTTP_INT_H
#define HTTP_INT_H

/*
 * What the files of the listener share.
 *
 * An exchange is owned twice over: by libmicrohttpd's request, which ends when the answer is sent or the connection
 * is lost, and by the handler, which ends with its reply.  Whoever lets go last frees it, so that a handler that
 * answers after the listener was closed touches nothing that is gone.  The exchange keeps the listener's memory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <microhttpd.h>
#include <pthread.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/pool.h"
#include "http/listener.h"

#define HTTP_HEADER_MAX 8192 /* bytes of request line and header, but see max_target */
#define HTTP_HEADERS_MAX 64
#define HTTP_QUERY_MAX 64
#define HTTP_METHOD_MAX 15
#define HTTP_PEER_MAX 64
#define HTTP_CERTIFICATE_MAX 65536

enum http_phase {
    HTTP_PHASE_LINE,     /* the request line is there */
    HTTP_PHASE_BODY,     /* the head was found good */
    HTTP_PHASE_HELD,     /* complete, the connection is suspended, the handler's turn */
    HTTP_PHASE_ANSWERED, /* the answer waits for libmicrohttpd to take it */
    HTTP_PHASE_SENDING   /* libmicrohttpd has it, or never will */
};

struct http_exchange {
    struct http_listener *listener; /* counted */

    /* Guarded by the listener's lock. */
    enum http_phase phase;
    unsigned owners;
    struct MHD_Connection *connection; /* only while HELD */
    struct MHD_Response *response;
    unsigned status;
    bool drop;
    struct http_exchange *prev, *next; /* among those held */

    /* Written before it is held, constant from then on. */
    unsigned refusal;       /* status that the request line deserves; 0: it is fine */
    struct cc_bytes target; /* in libmicrohttpd's memory; while the head is checked */
    char method[HTTP_METHOD_MAX + 1];
    char peer[HTTP_PEER_MAX];
    struct cc_buf certificate; /* of the peer */
    struct cc_buf path;
    struct cc_buf query;   /* of http_target_parse() */
    struct cc_buf headers; /* of http_head_check() */
    struct cc_buf body;
};

/* One connection, from accept to close.  Guarded by the listener's lock. */
struct http_track {
    int fd;
    bool excess;      /* beyond the bound: to be told 503 */
    bool receiving;   /* waits for a whole request */
    int64_t deadline; /* monotonic; INT64_MAX: none */
    struct http_track *prev, *next;
};

/* What a listener takes. */
struct http_rules {
    char *opaque_prefix; /* NULL: none */
    size_t max_target;   /* 0: what HTTP_HEADER_MAX leaves it */
    bool raw_query;
    size_t max_body;
};

struct http_listener {
    pthread_mutex_t lock; /* taken before libmicrohttpd's own locks, never inside them */
    unsigned owners;      /* the opener and each exchange */
    bool closing;
    struct http_exchange *held;
    size_t answering; /* answered, and not yet sent or lost */
    pthread_cond_t answered;

    struct http_track *tracks;
    unsigned track_count;
    pthread_cond_t watch; /* an earlier deadline, or the end */
    int64_t watch_until;
    bool watch_end;
    pthread_t watcher;
    bool watching;

    /* Constant while open. */
    struct MHD_Daemon *daemon;
    struct cc_pool *pool;
    int fd;
    char *unix_path;
    struct http_rules rules;
    unsigned max_connections;
    bool asks_certificates;
    int64_t deadline_ms;
    http_handler_fn handler;
    void *handler_arg;
};

/* ---- request.c: what a request must look like ---- */

/* Ceilings of what http_target_parse() appends. */
size_t http_path_max(const struct http_rules *rules);
size_t http_query_max(const struct http_rules *rules);

/*
 * Takes a request target apart; 0 or the status that refuses it.  The query becomes triples of strings, each with its
 * NUL: name, value as sent, "=" and value decoded, or "" where it does not decode.
 */
unsigned http_target_parse(const char *raw, const struct http_rules *rules, struct cc_buf *ret_path,
        struct cc_buf *ret_query);

/* The value of the first triple of this name, as sent or decoded, or NULL. */
const char *http_query_find(const struct cc_buf *query, const char *name, bool raw);

/*
 * Copies the header, as pairs of strings, and checks it; 0 or the status that refuses it.  target: as it stands in the
 * request line.
 */
unsigned http_head_check(struct MHD_Connection *connection, const char *method,
        struct cc_bytes target, const char *version, const struct http_rules *rules,
        struct cc_buf *ret_headers);

/* The value of the first field of this name, or NULL. */
const char *http_field_find(const struct cc_buf *headers, const char *name);

/* ---- exchange.c ---- */

struct http_exchange *http_exchange_new(struct http_listener *listener);

/* The listener's lock is held. */
void http_exchange_answer(struct http_exchange *exchange, unsigned status,
        struct MHD_Response *take_response);

/* One owner less. */
void http_exchange_release(struct http_exchange *exchange);

/* The lock is held, and is released. */
void http_listener_release(struct http_listener *listener);

/* A plain answer of our own; NULL without memory. */
struct MHD_Response *http_refusal(unsigned status);

#endif
