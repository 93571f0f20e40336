/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_SERVE_H
#define HSM_TOKEN_SERVE_H

/* The channels: frames in, one operation each, frames out (hsm/wire.h). */

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

/* What becomes of a call. */
enum serve_outcome {
    SERVE_DONE,     /* reply holds the results */
    SERVE_FAILED,   /* err says why, and is the reply */
    SERVE_MALFORMED /* no frame of ours: the process ends */
};

/* Serves channels descriptors from WIRE_FIRST_FD on until channel 0 ends.  0 at its end, -1 for a malformed frame. */
CC_MUST int serve(unsigned channels, struct cc_err *err);

/*
 * One-shot administration: operations from WIRE_ADMIN_LIST_TOKENS on, on channel 0 in place of WIRE_SETUP.  args is
 * what follows the operation; results are appended to reply behind its status.
 */
CC_MUST enum serve_outcome admin_dispatch(uint8_t op, struct cc_bytes *args, struct cc_buf *reply,
        struct cc_err *err);

#endif
