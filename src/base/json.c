/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include <limits.h>
#include <string.h>

#include "base/text.h"

/* What one base64 member of our own may take before it is written: 16 MiB of data. */
#define BASE64_MAX ((size_t)22 << 20)

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/*
 * json-c's strict mode still takes 'single quotes', NaN, Infinity, -01, 1. and raw control bytes in strings.  So each
 * token is held against RFC 8259 first; how tokens make up a value is json-c's to check.
 */

/* Behind the string that p begins, NULL when it is none (section 7). */
static const char *
skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if ((unsigned char)*p < 0x20)
            return NULL;
        if (*p == '\\' && ++p == end)
            return NULL;
    }
    return p < end ? p + 1 : NULL;
}

static const char *
skip_digits(const char *p, const char *end)
{
    const char *start = p;

    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p > start ? p : NULL;
}

/* Behind the number that p begins, NULL when it is none (section 6). */
static const char *
skip_number(const char *p, const char *end)
{
    const char *start;

    if (*p == '-')
        p++;
    start = p;
    p = skip_digits(p, end);
    if (p != NULL && *start == '0' && p > start + 1)
        return NULL;
    if (p != NULL && p < end && *p == '.')
        p = skip_digits(p + 1, end);
    if (p != NULL && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        p = skip_digits(p, end);
    }
    return p;
}

/* Behind "true", "false" or "null" (section 3). */
static const char *
skip_word(const char *p, const char *end)
{
    static const char *const words[] = { "true", "false", "null" };
    size_t i;

    for (i = 0; i < CC_COUNT(words); i++) {
        size_t len = strlen(words[i]);

        if ((size_t)(end - p) >= len && memcmp(p, words[i], len) == 0)
            return p + len;
    }
    return NULL;
}

/* The first byte that begins no JSON token; end when there is none. */
static const char *
first_bad_token(const char *p, const char *end)
{
    while (p < end) {
        const char *next;

        if (is_space(*p) || (*p != '\0' && strchr("{}[]:,", *p) != NULL))
            next = p + 1;
        else if (*p == '"')
            next = skip_string(p, end);
        else if (*p == '-' || (*p >= '0' && *p <= '9'))
            next = skip_number(p, end);
        else
            next = skip_word(p, end);
        if (next == NULL)
            break;
        p = next;
    }
    return p;
}

/* A number at the very end is complete only when the parser hears that nothing follows. */
static json_object *
parse_whole(json_tokener *tok, const char *text, size_t len)
{
    json_object *value = json_tokener_parse_ex(tok, text, (int)len);

    if (json_tokener_get_error(tok) == json_tokener_continue)
        value = json_tokener_parse_ex(tok, "", 1);
    else if (json_tokener_get_parse_end(tok) != len) {
        json_object_put(value);
        value = NULL;
    }
    return value;
}

json_object *
cc_json_parse(const void *data, size_t len, struct cc_err *err)
{
    const char *text = data, *bad;
    json_tokener *tok;
    json_object *value;

    while (len > 0 && is_space(text[len - 1]))
        len--;
    if (len == 0 || len > INT_MAX) {
        cc_err_set(err, CC_DOM_INPUT, 0, "not JSON: %s", len == 0 ? "empty" : "far too long");
        return NULL;
    }
    if (!cc_is_utf8(text, len)) { /* json-c's own check lets overlong forms through */
        cc_err_set(err, CC_DOM_INPUT, 0, "not JSON: not UTF-8");
        return NULL;
    }
    if ((bad = first_bad_token(text, text + len)) != text + len) {
        cc_err_set(err, CC_DOM_INPUT, 0, "not JSON at byte %td", bad - text);
        return NULL;
    }
    if ((tok = json_tokener_new_ex(CC_JSON_DEPTH)) == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
    if ((value = parse_whole(tok, text, len)) == NULL)
        cc_err_set(err, CC_DOM_INPUT, 0, "not JSON that we take: %s at byte %zu",
                json_tokener_get_error(tok) == json_tokener_success
                        ? "null, or bytes after the value"
                        : json_tokener_error_desc(json_tokener_get_error(tok)),
                json_tokener_get_parse_end(tok));
    json_tokener_free(tok);
    return value;
}

/* 1 and the member; 0 when it is absent or null; -1 when it has another type. */
static int
find(json_object *obj, const char *name, json_type type, json_object **ret, struct cc_err *err)
{
    json_object *value;

    if (!json_object_is_type(obj, json_type_object))
        return cc_err_set(err, CC_DOM_INPUT, 0, "not an object, where member \"%s\" is read", name);
    if (!json_object_object_get_ex(obj, name, &value) || value == NULL)
        return 0;
    if (!json_object_is_type(value, type))
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" is of type %s, not %s", name,
                json_type_to_name(json_object_get_type(value)), json_type_to_name(type));
    *ret = value;
    return 1;
}

int
cc_json_get_str(json_object *obj, const char *name, size_t max, const char **ret,
        struct cc_err *err)
{
    json_object *value = NULL;
    const char *text;
    size_t len;
    int found = find(obj, name, json_type_string, &value, err);

    if (found < 0)
        return -1;
    if (found == 0) {
        *ret = NULL;
        return 0;
    }
    text = json_object_get_string(value);
    len = (size_t)json_object_get_string_len(value);
    if (len > max)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" has more than %zu bytes", name, max);
    if (memchr(text, '\0', len) != NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" has a NUL inside", name);
    *ret = text;
    return 0;
}

int
cc_json_need_str(json_object *obj, const char *name, size_t max, const char **ret,
        struct cc_err *err)
{
    const char *text = NULL;

    if (cc_json_get_str(obj, name, max, &text, err) != 0)
        return -1;
    if (text == NULL || text[0] == '\0')
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" is missing or empty", name);
    *ret = text;
    return 0;
}

/* json-c keeps numbers above INT64_MAX apart and would saturate. */
static bool
fits_int64(json_object *value)
{
    return json_object_get_int64(value) < 0 || json_object_get_uint64(value) <= INT64_MAX;
}

int
cc_json_get_int(json_object *obj, const char *name, int64_t min, int64_t max, int64_t fallback,
        int64_t *ret, struct cc_err *err)
{
    json_object *value = NULL;
    int64_t number = fallback;
    int found = find(obj, name, json_type_int, &value, err);

    if (found < 0)
        return -1;
    if (found > 0) {
        number = json_object_get_int64(value);
        if (!fits_int64(value) || number < min || number > max)
            return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" is not from %jd to %jd", name,
                    (intmax_t)min, (intmax_t)max);
    }
    *ret = number;
    return 0;
}

int
cc_json_get_bool(json_object *obj, const char *name, bool fallback, bool *ret, struct cc_err *err)
{
    json_object *value = NULL;
    int found = find(obj, name, json_type_boolean, &value, err);

    if (found < 0)
        return -1;
    *ret = found > 0 ? json_object_get_boolean(value) != 0 : fallback;
    return 0;
}

static int
get_typed(json_object *obj, const char *name, json_type type, json_object **ret, struct cc_err *err)
{
    json_object *value = NULL;

    if (find(obj, name, type, &value, err) < 0)
        return -1;
    *ret = value;
    return 0;
}

int
cc_json_get_array(json_object *obj, const char *name, json_object **ret, struct cc_err *err)
{
    return get_typed(obj, name, json_type_array, ret, err);
}

int
cc_json_get_object(json_object *obj, const char *name, json_object **ret, struct cc_err *err)
{
    return get_typed(obj, name, json_type_object, ret, err);
}

int
cc_json_get_base64(json_object *obj, const char *name, struct cc_buf *ret, struct cc_err *err)
{
    const char *text = NULL;

    if (cc_json_get_str(obj, name, SIZE_MAX, &text, err) != 0)
        return -1;
    if (text != NULL && cc_unbase64(text, ret, err) != 0)
        return cc_err_in(err, "member \"%s\"", name);
    return 0;
}

int
cc_json_add(json_object *obj, const char *name, json_object *take_value, struct cc_err *err)
{
    if (obj == NULL || take_value == NULL || json_object_object_add(obj, name, take_value) != 0) {
        json_object_put(take_value);
        return cc_err_nomem(err);
    }
    return 0;
}

int
cc_json_add_str(json_object *obj, const char *name, const char *text, struct cc_err *err)
{
    return text == NULL ? 0 : cc_json_add(obj, name, json_object_new_string(text), err);
}

int
cc_json_add_int(json_object *obj, const char *name, int64_t value, struct cc_err *err)
{
    return cc_json_add(obj, name, json_object_new_int64(value), err);
}

int
cc_json_add_bool(json_object *obj, const char *name, bool value, struct cc_err *err)
{
    return cc_json_add(obj, name, json_object_new_boolean(value), err);
}

int
cc_json_add_base64(json_object *obj, const char *name, const void *data, size_t len,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(BASE64_MAX);
    int rc = cc_base64(data, len, &text, err);

    if (rc == 0)
        rc = cc_json_add_str(obj, name, cc_buf_str(&text), err);
    cc_buf_free(&text);
    return rc;
}

int
cc_json_write(json_object *obj, struct cc_buf *ret, struct cc_err *err)
{
    size_t len = 0;
    const char *text = json_object_to_json_string_length(obj,
            JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

    if (text == NULL)
        return cc_err_nomem(err);
    return cc_buf_add(ret, text, len, err);
}
