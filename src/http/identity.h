/* SPDX-License-Identifier: MIT */
#ifndef HTTP_IDENTITY_H
#define HTTP_IDENTITY_H

/* Our certificate in the TLS connections of libcurl, and what becomes of it there. */

#include <curl/curl.h>
#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "http/client.h"

/* Once a process, before the others. */
CC_MUST int identity_library_open(void);

CC_MUST int identity_copy(const struct http_client_identity *from, struct http_client_identity *to,
        struct cc_err *err);
void identity_free(struct http_client_identity *identity);

/* Of the connections of one easy handle, which it outlives.  One thread at a time. */
struct identity_use {
    const struct http_client_identity *identity;
    struct cc_err err;   /* why it cannot be shown; of the present call */
    const char *refusal; /* what the other side said of it in the present call; NULL: nothing */
};

/* CURLOPT_SSL_CTX_FUNCTION; arg is a struct identity_use.  Proxies are shown nothing. */
CURLcode identity_put(CURL *easy, void *ssl_ctx, void *arg);

#endif
