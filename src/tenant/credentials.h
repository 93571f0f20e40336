/* SPDX-License-Identifier: MIT */
#ifndef TENANT_CREDENTIALS_H
#define TENANT_CREDENTIALS_H

/* What must be there before the service can be used: the admin token and a client that may sign in. */

#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"
#include "options.h"

/* From its file, or made and written there and printed once.  Yours to free. */
CC_MUST int credentials_admin_token(const struct options *options, struct cc_secret **ret_token,
        struct cc_err *err);

/* The client of the options; else, when there is none at all, a new one, whose secret is written beside the state. */
CC_MUST int credentials_client(const struct options *options, struct tenant_store *store,
        struct cc_err *err);

#endif
