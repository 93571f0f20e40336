/* SPDX-License-Identifier: MIT */
#ifndef CLI_TOKEN_MATCH_H
#define CLI_TOKEN_MATCH_H

/* What PKCS#11 URIs (RFC 7512) name: which of the tokens there are, and the label of a key. */

#include <stdbool.h>
#include <stddef.h>

#include "hsm/admin.h"

bool cli_token_matches(const char *uri, const struct hsm_admin_token *token);

/* The label in a key's URI; false when it has none, or one that is not written plainly, without escapes. */
bool cli_key_label(const char *uri, char *ret, size_t size);

#endif
