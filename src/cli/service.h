/* SPDX-License-Identifier: MIT */
#ifndef CLI_SERVICE_H
#define CLI_SERVICE_H

/* The service as the configuration describes it, for commands that talk to it. */

#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"
#include "hsm/hsm.h"
#include "intune/enrol.h"
#include "intune/service.h"

struct cli_service {
    struct intune *intune;
    struct hsm *hsm; /* NULL where a secret signs in */
};

/* Whether signing in takes a key of the token. */
bool cli_service_signs_with_token(const struct config *config);

/* Whether it names a credential of the systemd unit that the daemon alone has; NULL does not. */
bool cli_is_of_unit(const char *reference);

/* Whether signing in, or the proxy on the way, takes one. */
bool cli_service_needs_credential(const struct config *config);

/* Borrows from the configuration and, where its key signs in, from the token; else hsm may be NULL. */
CC_MUST int cli_service_settings(const struct config *config, struct hsm *hsm,
        struct intune_settings *ret, struct cc_err *err);

/*
 * The service is not contacted yet; the token, where its key signs in, has been opened.  A refused PIN is not remembered
 * beyond this command.  cli_service_close() it in every case; service is all zero before.
 */
CC_MUST int cli_service_open(const struct config *config, struct cli_service *service,
        struct cc_err *err);

/* The same, as this instance; enrolled may be freed before. */
CC_MUST int cli_service_open_as(const struct config *config, const struct intune_enrolled *enrolled,
        struct cli_service *service, struct cc_err *err);
void cli_service_close(struct cli_service *service);

#endif
