/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_PUBLIC_H
#define HSM_TOKEN_PUBLIC_H

/* The public half of a key on the token, as OpenSSL sees it. */

#include <openssl/types.h>
#include <p11-kit/pkcs11.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

/*
 * From the parts of object, which is the private or the public key, each part from the public object of the same CKA_ID
 * where object has it not; else from CKA_PUBLIC_KEY_INFO.  CKR_OK with *ret NULL where the token does not tell; another
 * value, with err set, where it failed.
 */
CC_MUST CK_RV p11_public_read(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session,
        CK_OBJECT_HANDLE object, CK_KEY_TYPE type, struct cc_bytes id, EVP_PKEY **ret,
        struct cc_err *err);

/* CKA_EC_PARAMS, the DER of a named curve's OID, as an OpenSSL nid; NID_undef for anything else. */
int p11_public_curve(struct cc_bytes params);

#endif
