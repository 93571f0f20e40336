/* SPDX-License-Identifier: MIT */
#ifndef CLI_KEY_VERBS_H
#define CLI_KEY_VERBS_H

/* Between the files of "certconnector key". */

#include "cli_int.h"
#include "hsm/hsm.h"
#include "target.h"

/* -1: *ret_status is the exit status, and all is said. */
CC_MUST int key_need_role(const struct cli_command *command, const char *name,
        enum hsm_role *ret_role, int *ret_status);

/* The URI of a role's key: from the configuration, or the label that "key generate" gives. */
const char *key_role_uri(const struct cli_target *target, enum hsm_role role, char *fallback,
        size_t size);

/* To standard output when path is NULL; a file that is there stays as it is. */
CC_MUST int key_deliver(const char *path, const struct cc_buf *file, struct cc_err *err);

/* "key self-sign" */
int key_self_sign_run(const struct cli_command *command, int argc, char **argv);

#endif
