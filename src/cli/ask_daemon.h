/* SPDX-License-Identifier: MIT */
#ifndef CLI_ASK_DAEMON_H
#define CLI_ASK_DAEMON_H

/* What the running daemon says of itself over its control socket. */

#include <json-c/json.h>

#include "base/compiler.h"
#include "base/err.h"

/* The status; yours to put.  -1 also when no daemon answers. */
CC_MUST int cli_fetch_status(const char *socket, json_object **ret_status, struct cc_err *err);

#endif
