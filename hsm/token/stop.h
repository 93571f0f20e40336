/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_STOP_H
#define HSM_TOKEN_STOP_H

/*
 * How the process ends: as after the end of channel 0, also on SIGTERM, and within a bounded time whatever a module
 * does.  A kill in the middle of C_Login can destroy a SoftHSM token, so we are asked first and get time to obey.
 */

#include "base/compiler.h"
#include "base/err.h"

/* Before any other thread: SIGTERM from now on ends channel 0; SIGINT is the daemon's matter. */
CC_MUST int stop_init(struct cc_err *err);

/* From now on the process has a few seconds until it is ended, by status 0, wherever its threads are. */
void stop_soon(void);

#endif
