/* SPDX-License-Identifier: MIT */
#ifndef HTTP_PROBE_H
#define HTTP_PROBE_H

/*
 * How far one gets on the way to a server, and what stands in the way: for people who look for a fault.
 *
 * One HEAD request as http/client.h would make it, with nothing secret in it.  Where the server's certificate is not
 * trusted it is asked once more without verifying, to learn whose certificate it is and what time the server has: of that
 * nothing is relied on.  Any thread; blocks up to twice the timeout.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

struct http_probe_settings {
    const char *url;
    const char *proxy, *proxy_user, *proxy_password, *no_proxy,
            *ca_file; /* as in struct http_client_settings */
    int64_t timeout_ms;
};

enum http_obstacle {
    HTTP_OBSTACLE_NONE,       /* the server answered */
    HTTP_OBSTACLE_PROXY_NAME, /* the proxy's name is unknown */
    HTTP_OBSTACLE_PROXY,      /* it cannot be reached, its TLS fails, or it refuses: proxy_status */
    HTTP_OBSTACLE_NAME,       /* the server's name is unknown */
    HTTP_OBSTACLE_CONNECT,    /* nobody accepts a connection there */
    HTTP_OBSTACLE_TRUST,      /* no CA that we know: verify_code */
    HTTP_OBSTACLE_EXPIRED,    /* its certificate, or one above it, is not of today */
    HTTP_OBSTACLE_HOST,       /* its certificate is another host's */
    HTTP_OBSTACLE_TLS,        /* no TLS that both can */
    HTTP_OBSTACLE_TIMEOUT,
    HTTP_OBSTACLE_OTHER
};

struct http_probe {
    enum http_obstacle obstacle;
    struct cc_err err; /* libcurl's words; set unless there is no obstacle */
    long proxy_status; /* of the CONNECT request; 0: none was answered */
    /* X509_V_ERR_… of an https proxy that we have no TLS with; X509_V_ERR_UNSPECIFIED: not for its CA or its dates */
    long proxy_verify_code;
    long verify_code;  /* X509_V_ERR_… of TRUST and EXPIRED */
    char subject[256]; /* of the server's certificate, escaped; "": not seen */
    char issuer
            [256]; /* of the last certificate that the server sent: whom one would have to trust */
    char not_after[64]; /* as OpenSSL prints it */
    int64_t date_ms;    /* Date of the answer; 0: none */
    int64_t seen_ms;    /* our wall clock then */
};

/* -1: libcurl cannot be used at all. */
CC_MUST int http_probe(const struct http_probe_settings *settings, struct http_probe *ret,
        struct cc_err *err);

#endif
