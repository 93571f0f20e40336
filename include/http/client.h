/* SPDX-License-Identifier: MIT */
#ifndef HTTP_CLIENT_H
#define HTTP_CLIENT_H

/*
 * An HTTPS client: bytes out, bytes in, within a deadline and a ceiling.
 *
 * TLS 1.2 at least, certificates verified, no redirects, no cookies, no netrc, no environment proxies.  Connections
 * are kept and shared.  Any thread may send; each call blocks until its deadline.  Memory that held a request or an
 * answer is wiped when freed, as both may carry secrets.
 *
 * A proxy is asked for a tunnel (CONNECT) to https servers, with basic authentication when there is a user.
 *
 * Errors: CC_DOM_NETWORK (code: CURLcode, HTTP_CERTIFICATE_REFUSED, or the status of a proxy that gives no tunnel) when
 * there is no answer; CC_DOM_CANCELLED after http_client_cancel(); CC_DOM_INPUT for an answer beyond its ceiling or a URL
 * that is not allowed.  An answer of any status is no error.
 */

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"

struct http_client;

/* The other side does not take our certificate, and ended the connection for it (TLS alert).  CURLE_SSL_CERTPROBLEM. */
#define HTTP_CERTIFICATE_REFUSED 58

/* The proxy does not take our user and password, or wants some. */
#define HTTP_PROXY_WANTS_USER 407

/* What we show a server that asks who we are; no proxy. */
struct http_client_identity {
    X509 *certificate;     /* counted up, as are those of the chain */
    STACK_OF(X509) *chain; /* or NULL */

    /*
     * Its key, which may live on a token; borrowed.  Asked for by each new connection, in the thread of a call; what
     * goes wrong with it becomes the error of the call.
     */
    int (*key)(void *arg, EVP_PKEY **ret_key, struct cc_err *err);
    void *arg;
};

/* Everything is copied. */
struct http_client_settings {
    const char *user_agent;
    const char *proxy;      /* http://host:port or https://host:port, or NULL */
    const char *proxy_user; /* or NULL: the proxy wants none */
    const char
            *proxy_password; /* reference (base/secret.h), read for each call and wiped; or NULL */
    const char *no_proxy;    /* curl's list form, or NULL */
    const char *ca_file;     /* PEM, or NULL: the system's */
    const char *unix_socket; /* connect here whatever the URL's host says, or NULL */
    bool allow_http;         /* else only https:// (a unix socket may always speak http://) */
    int64_t connect_timeout_ms;                  /* 0: 10 s */
    const struct http_client_identity *identity; /* NULL: none */
};

CC_MUST int http_client_open(const struct http_client_settings *settings,
        struct http_client **ret_client, struct cc_err *err);
void http_client_close(struct http_client *client); /* no call may be under way; accepts NULL */

/* Ends all calls under way at once, and refuses later ones. */
void http_client_cancel(struct http_client *client);

struct http_header {
    const char *name;
    const char *value;
};

struct http_request {
    const char *method; /* "GET", "POST" … */
    const char *url;
    const struct http_header *headers;
    size_t header_count;
    const struct cc_secret *bearer; /* Authorization: Bearer …; NULL: none */
    const char *content_type;       /* NULL: no body */
    struct cc_bytes body;
    int64_t timeout_ms;  /* of the whole call; 0: 30 s */
    size_t max_response; /* bytes of the answer's body; 0: 1 MiB */
    /* Refuse to connect where only this host or its network is, unless a proxy does the connecting. */
    bool public_only;
};

struct http_response {
    long status;
    struct cc_buf body;
    char content_type[128];
    int64_t retry_after_ms; /* from Retry-After, seconds or a date; -1: none; at most an hour */
    int64_t date_ms;        /* from Date; 0: none */
    char request_id[128];   /* from request-id or x-ms-request-id, escaped; "" when none */
    int64_t ms_retry_after; /* from x-ms-retry-after-ms as it is; -1: none */
};

/* Fills ret on success; http_response_free() in every case. */
CC_MUST int http_client_send(struct http_client *client, const struct http_request *request,
        struct http_response *ret, struct cc_err *err);
void http_response_init(struct http_response *response);
void http_response_free(struct http_response *response); /* wipes */

/* Appends text as a form value or query part (RFC 3986 unreserved characters stay). */
CC_MUST int http_url_escape(const char *text, struct cc_buf *ret, struct cc_err *err);

#endif
