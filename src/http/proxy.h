/* SPDX-License-Identifier: MIT */
#ifndef HTTP_PROXY_H
#define HTTP_PROXY_H

#include <curl/curl.h>

#include "base/compiler.h"
#include "base/err.h"

/* Basic authentication at the proxy; user NULL: none.  password is a reference, or NULL for an empty one. */
CC_MUST int proxy_set_user(CURL *easy, const char *user, const char *password, struct cc_err *err);

#endif
