/* SPDX-License-Identifier: MIT */
#ifndef TENANT_OPTIONS_H
#define TENANT_OPTIONS_H

/* The command line of certconnector-tenant.  Texts are the command line's own. */

#include <stdbool.h>

#include "base/compiler.h"
#include "base/err.h"
#include "tenant_int.h"

struct options {
    struct tenant_settings settings;
    const char *listen;
    const char *state;
    const char *tls_certificate, *tls_key;
    const char *ready_file;
    const char *client_id, *client_secret_file, *client_certificate;
    const char *admin_token_file;
    bool help, version;
};

/* -1 with CC_DOM_USAGE. */
CC_MUST int options_parse(int argc, char **argv, struct options *ret, struct cc_err *err);

extern const char options_help[];

#endif
