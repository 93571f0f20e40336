/* SPDX-License-Identifier: MIT */
#ifndef CLI_SERVICE_H
#define CLI_SERVICE_H

/* The service as the configuration describes it, for commands that talk to it. */

#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"
#include "intune/service.h"

/* Nothing is contacted yet; intune_close() it. */
CC_MUST int cli_open_service(const struct config *config, struct intune **ret_intune,
        struct cc_err *err);

#endif
