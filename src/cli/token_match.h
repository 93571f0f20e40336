/* SPDX-License-Identifier: MIT */
#ifndef CLI_TOKEN_MATCH_H
#define CLI_TOKEN_MATCH_H

/* Which of the tokens there are a PKCS#11 URI names (RFC 7512). */

#include <stdbool.h>

#include "hsm/admin.h"

bool cli_token_matches(const char *uri, const struct hsm_admin_token *token);

#endif
