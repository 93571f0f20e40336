/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_MODULE_H
#define HSM_TOKEN_MODULE_H

/* The first steps into a PKCS#11 module: loading it, C_Initialize, the slot. */

#include <p11-kit/pkcs11.h>

#include "base/compiler.h"
#include "base/err.h"
#include "hsm/token/uri.h"

/* *ret_library is for dlclose(). */
CC_MUST int p11_module_load(const char *path, void **ret_library, CK_C_GetFunctionList *ret_get,
        struct cc_err *err);

/* With locks of the operating system; init_args, which the module may write to, or NULL.  A module that was initialised
   before is fine. */
CC_MUST CK_RV p11_initialize(CK_FUNCTION_LIST *f, char *init_args);

/*
 * The one slot whose token has this URI and these flags (CKF_TOKEN_INITIALIZED, but for a token that is being set up).
 * Never the first slot: that may be another token.
 */
CC_MUST int p11_find_slot(CK_FUNCTION_LIST *f, const struct p11_uri *uri, CK_FLAGS flags,
        CK_SLOT_ID *ret_slot, CK_TOKEN_INFO *ret_info, struct cc_err *err);

#endif
