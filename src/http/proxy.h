/* SPDX-License-Identifier: MIT */
#ifndef HTTP_PROXY_H
#define HTTP_PROXY_H

#include <curl/curl.h>

#include "base/compiler.h"
#include "base/err.h"

/* As in struct http_client_settings. */
struct proxy_settings {
    const char *proxy, *user, *password, *no_proxy, *ca_file;
};

/* The way through it, or past all proxies where there is none.  Reads the password. */
CC_MUST int proxy_set(CURL *easy, const struct proxy_settings *settings, struct cc_err *err);

#endif
