/* SPDX-License-Identifier: MIT */
#ifndef BASE_JSON_H
#define BASE_JSON_H

/*
 * Reading and writing JSON with json-c, with ceilings and errors that name the member.
 *
 * Objects are json-c's own: json_object_put() frees, json_object_get() shares.  Readers borrow.  In the readers a
 * member that is absent or null gives the "absent" answer; one of another type is an error (CC_DOM_INPUT).
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

#define CC_JSON_DEPTH 16

/* One value and nothing behind it, strict syntax, UTF-8, at most CC_JSON_DEPTH deep; yours to free. */
CC_MUST json_object *cc_json_parse(const void *text, size_t len, struct cc_err *err);

/* Borrowed string without NUL bytes inside; *ret is NULL when absent.  max: bytes. */
CC_MUST int cc_json_get_str(json_object *obj, const char *name, size_t max, const char **ret,
        struct cc_err *err);

/* The same for one that must be there and not be empty. */
CC_MUST int cc_json_need_str(json_object *obj, const char *name, size_t max, const char **ret,
        struct cc_err *err);

/* fallback when absent. */
CC_MUST int cc_json_get_int(json_object *obj, const char *name, int64_t min, int64_t max,
        int64_t fallback, int64_t *ret, struct cc_err *err);
CC_MUST int cc_json_get_bool(json_object *obj, const char *name, bool fallback, bool *ret,
        struct cc_err *err);

/* Borrowed; *ret is NULL when absent. */
CC_MUST int cc_json_get_array(json_object *obj, const char *name, json_object **ret,
        struct cc_err *err);
CC_MUST int cc_json_get_object(json_object *obj, const char *name, json_object **ret,
        struct cc_err *err);

/* base64 member decoded and appended to ret, whose ceiling bounds it; absent appends nothing. */
CC_MUST int cc_json_get_base64(json_object *obj, const char *name, struct cc_buf *ret,
        struct cc_err *err);

/* Each adds a member; a NULL text adds nothing.  -1 without memory. */
CC_MUST int cc_json_add_str(json_object *obj, const char *name, const char *text,
        struct cc_err *err);
CC_MUST int cc_json_add_int(json_object *obj, const char *name, int64_t value, struct cc_err *err);
CC_MUST int cc_json_add_bool(json_object *obj, const char *name, bool value, struct cc_err *err);
CC_MUST int cc_json_add_base64(json_object *obj, const char *name, const void *data, size_t len,
        struct cc_err *err);

/* Takes value over in every case; NULL for obj or value is memory that was not to be had when it was made. */
CC_MUST int cc_json_add(json_object *obj, const char *name, json_object *take_value,
        struct cc_err *err);

/* Appends the compact text form on one line. */
CC_MUST int cc_json_write(json_object *obj, struct cc_buf *ret, struct cc_err *err);

#endif
