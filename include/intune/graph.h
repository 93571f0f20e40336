/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_GRAPH_H
#define INTUNE_GRAPH_H

/*
 * The administrator's side of imported PFX: Graph's collection deviceManagement/userPfxCertificates (beta).
 * Any thread; signs in with the Graph scope of the same struct intune.  Enum values are written as the wire spells them,
 * whatever their case.  Throttled calls (429) wait as asked and go on; other failures as in intune/service.h.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "intune/service.h"

struct intune_user_pfx {
    char id[257];
    char thumbprint[129];
    char user[257];
    char intended_purpose[33];
    char provider_name[257];
    char key_name[257];
    char padding_scheme[33];
    int64_t not_before_ms, not_after_ms, created_ms, modified_ms;
};

/*
 * Create, or with update change, one.  blob: the PFX; password: encrypted under the import key.  What is changed is
 * named by id, or, when id is empty, by user and thumbprint (which takes one more call).
 */
CC_MUST int intune_user_pfx_put(struct intune *intune, const struct intune_user_pfx *pfx,
        struct cc_bytes blob, struct cc_bytes encrypted_password, bool update, struct cc_err *err);

/* Calls fn for each, all pages; user and thumbprint filter, NULL: any.  Non-zero from fn ends the reading. */
typedef int (*intune_user_pfx_fn)(void *arg, const struct intune_user_pfx *pfx);
CC_MUST int intune_user_pfx_list(struct intune *intune, const char *user, const char *thumbprint,
        intune_user_pfx_fn fn, void *arg, struct cc_err *err);

/* id: as listed, "{user id without dashes}-{thumbprint}". */
CC_MUST int intune_user_pfx_delete(struct intune *intune, const char *id, struct cc_err *err);

#endif
