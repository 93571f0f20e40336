/* SPDX-License-Identifier: MIT */
#ifndef CLI_SERVICE_H
#define CLI_SERVICE_H

/* The service as the configuration describes it, for commands that talk to it. */

#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"
#include "hsm/hsm.h"
#include "intune/service.h"

struct cli_service {
    struct intune *intune;
    struct hsm *hsm; /* NULL where a secret signs in */
};

/*
 * The service is not contacted yet; the token, where its key signs in, has been opened.  A refused PIN is not remembered
 * beyond this command.  cli_service_close() it in every case; service is all zero before.
 */
CC_MUST int cli_service_open(const struct config *config, struct cli_service *service,
        struct cc_err *err);
void cli_service_close(struct cli_service *service);

#endif
