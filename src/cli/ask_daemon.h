/* SPDX-License-Identifier: MIT */
#ifndef CLI_ASK_DAEMON_H
#define CLI_ASK_DAEMON_H

/* What the running daemon says of itself over its control socket. */

#include <json-c/json.h>

#include "base/compiler.h"
#include "base/err.h"

/* Whether anything listens: 0, or why not (errno); ENOENT and ECONNREFUSED: no daemon runs. */
int cli_knock(const char *path);

/* The status; yours to put.  -1 also when no daemon answers. */
CC_MUST int cli_fetch_status(const char *socket, json_object **ret_status, struct cc_err *err);

#endif
