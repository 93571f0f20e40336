/* SPDX-License-Identifier: MIT */
#ifndef TENANT_FORM_H
#define TENANT_FORM_H

/* application/x-www-form-urlencoded bodies.  Pure functions; what they append may be secret: wipe it. */

#include <stdbool.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

/* The first field of this name, decoded and appended to ret; *ret_found false: there is none. */
CC_MUST int form_get(struct cc_bytes body, const char *name, struct cc_buf *ret, bool *ret_found,
        struct cc_err *err);

#endif
