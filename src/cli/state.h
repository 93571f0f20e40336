/* SPDX-License-Identifier: MIT */
#ifndef CLI_STATE_H
#define CLI_STATE_H

#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"
#include "store/store.h"

/*
 * Started by root, the process becomes the owner of the state directory for good: what it leaves there has to be the
 * daemon's, which runs as that user.
 */
CC_MUST int cli_become_owner(const struct config *config, struct cc_err *err);

/* The same, and then the state store of the configuration. */
CC_MUST int cli_open_state(const struct config *config, struct store **ret_store,
        struct cc_err *err);

#endif
