/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_ATTR_H
#define HSM_TOKEN_ATTR_H

/* Attributes of objects, and searching.  Calls into the module: only between entering a connection and leaving it. */

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"

#define P11_ATTR_MAX 8192 /* bytes of one attribute */

/* Appends the value to ret, whose ceiling should be P11_ATTR_MAX.  An attribute that the object has not, or that
   is empty, is CKR_ATTRIBUTE_TYPE_INVALID. */
CC_MUST CK_RV p11_attr_read(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
        CK_ATTRIBUTE_TYPE type, struct cc_buf *ret);

CC_MUST CK_RV p11_attr_read_ulong(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session,
        CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, CK_ULONG *ret);

/* At most max handles; *ret_count may be as much.  The search is ended in every case. */
CC_MUST CK_RV p11_find(CK_FUNCTION_LIST *f, CK_SESSION_HANDLE session, CK_ATTRIBUTE *template,
        CK_ULONG attributes, CK_OBJECT_HANDLE *ret_handles, CK_ULONG max, CK_ULONG *ret_count);

/* An attribute of a template; data is borrowed. */
CK_ATTRIBUTE p11_attr(CK_ATTRIBUTE_TYPE type, const void *data, size_t len);

#endif
