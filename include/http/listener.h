/* SPDX-License-Identifier: MIT */
#ifndef HTTP_LISTENER_H
#define HTTP_LISTENER_H

/*
 * An HTTP server over libmicrohttpd: strict, bounded, and never waiting for slow peers or slow work.
 *
 * Every request is read whole within its ceilings and an absolute deadline, then given to the handler on a worker
 * thread as a struct http_exchange.  The handler, or any thread later, answers it exactly once; until then the
 * exchange holds no thread (a long poll costs a connection and nothing more).  When connections or the worker queue
 * are at their bound the answer is 503 with Retry-After, at once.
 *
 * Refused before any handler sees it: methods other than those allowed, more than one Content-Length, any
 * Transfer-Encoding, paths that are not absolute, plain, and without "//", ".", "..", NUL or control bytes; 400, 405,
 * 411, 413, 414, 431, 501.  Below the opaque prefix a path may be anything that is printable ASCII: it is not decoded, and
 * its handler must take it for data.  A query whose escapes are broken is refused, too, unless raw_query leaves its
 * values to the handler.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "http/client.h"

struct http_listener;
struct http_exchange;

/* Runs on a worker thread and must see to it that http_exchange_reply() is called once, now or later. */
typedef void (*http_handler_fn)(void *arg, struct http_exchange *exchange);

/* Everything is copied. */
struct http_listener_settings {
    const char *listen; /* "127.0.0.1:8080", "[::1]:8080", port 0: any free one; or "unix:/path" */
    mode_t unix_mode;   /* of the socket; 0: 0660 */
    const char *tls_certificate_file; /* PEM chain, or NULL: no TLS; TLS 1.2 at least */
    const char *tls_key_file;
    /*
     * A CA in PEM: clients are asked for a certificate, with its name as a hint, and need have none; NULL: they are not
     * asked.  Nothing is verified here but that the client has the key.  Only with TLS.
     */
    const char *tls_client_ca;
    unsigned workers;                     /* 0: 4 */
    size_t queue_max;                     /* exchanges waiting for a worker; 0: 256 */
    unsigned max_connections;             /* 0: 512 */
    unsigned max_connections_per_address; /* 0: no bound of its own */
    size_t max_body;                      /* bytes; 0: 256 KiB */
    size_t max_target;   /* bytes of a request target, besides 8 KiB of header; 0: 8 KiB for both */
    int64_t deadline_ms; /* from the first byte of a request to its last; 0: 10 s */
    const char *opaque_prefix; /* "/ocsp/": below it a path is given as it was sent; NULL: none */
    bool raw_query;            /* values of the query need not decode: http_exchange_query_raw() */
    http_handler_fn handler;
    void *handler_arg;
};

CC_MUST int http_listener_open(const struct http_listener_settings *settings,
        struct http_listener **ret_listener, struct cc_err *err);

/* Takes no new connections, answers what is still unanswered with 503, waits for running handlers, frees. */
void http_listener_close(struct http_listener *listener);

/* Port in use (for port 0); 0 for a unix socket. */
uint16_t http_listener_port(const struct http_listener *listener);

/* ---- the request, borrowed until the reply ---- */
const char *http_exchange_method(const struct http_exchange *exchange);
const char *http_exchange_path(const struct http_exchange
                *exchange); /* percent-decoded unless opaque, without the query */

/* Of the first parameter of this name.  NULL: absent, or (where the settings allow it) it does not decode. */
const char *http_exchange_query(const struct http_exchange *exchange, const char *name);

/* The same as it was sent, "+" and "%" in it; NULL: absent. */
const char *http_exchange_query_raw(const struct http_exchange *exchange, const char *name);

const char *http_exchange_header(const struct http_exchange *exchange,
        const char *name); /* NULL: absent */
struct cc_bytes http_exchange_body(const struct http_exchange *exchange);
const char *http_exchange_peer(
        const struct http_exchange *exchange); /* address text; "unix" for a unix socket */

/* DER of the certificate that the peer showed, as it is: the handler judges it.  Empty: it showed none. */
struct cc_bytes http_exchange_peer_certificate(const struct http_exchange *exchange);

/*
 * Whether the peer still waits for the answer: false once its connection was closed or half closed.  Any thread, before
 * the reply; for those that keep an exchange long and would waste something on a peer that is gone.
 */
bool http_exchange_alive(struct http_exchange *exchange);

/* Answers and frees the exchange.  Any thread, once.  Body and headers are copied; content_type may be NULL. */
void http_exchange_reply(struct http_exchange *exchange, unsigned status,
        const struct http_header *headers, size_t header_count, const char *content_type,
        const void *body, size_t len);

/* The same with len bytes of an open file from its beginning, which are read as the peer takes them.  fd is closed. */
void http_exchange_reply_file(struct http_exchange *exchange, unsigned status,
        const struct http_header *headers, size_t header_count, const char *content_type,
        int take_fd, uint64_t len);

/* Ends the connection without an answer (for servers that simulate a broken network). */
void http_exchange_drop(struct http_exchange *exchange);

#endif
