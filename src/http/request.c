/* SPDX-License-Identifier: MIT */
#include "http_int.h"

#include <string.h>

#include "base/text.h"

/*
 * libmicrohttpd forgives much: line ends of one byte, folded lines, blanks before the colon, NUL bytes.  A proxy in
 * front of us may read the same bytes otherwise, and then two requests hide in one (request smuggling).  So the
 * header is checked again here, for its form too: before version 1.0 the library parses in place, which shows in the
 * distance between a value and the next name whether exactly CR LF stood there.
 */
#define LENIENT_PARSER "0."

struct head {
    struct cc_buf *copy;
    const char *line_end; /* NUL behind the line before */
    unsigned count;
    unsigned status;
    unsigned hosts, lengths, types, authorizations;
    const char *length;
};

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Appends text with its percent escapes decoded; false when one is broken, or gives a byte that hides something. */
static bool
decode(const char *text, size_t len, bool form, struct cc_buf *ret)
{
    size_t i;

    for (i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '%') {
            int high = i + 2 < len ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < len ? hex_digit(text[i + 2]) : -1;

            if (high < 0 || low < 0)
                return false;
            c = (unsigned char)(high << 4 | low);
            i += 2;
            if (c == '\0' || (!form && (c == '/' || c < 0x20 || c == 0x7f)))
                return false;
        } else if (form && c == '+') {
            c = ' ';
        }
        if (cc_buf_add_u8(ret, c, NULL) != 0)
            return false;
    }
    return true;
}

/* No empty, "." or ".." segment but a last empty one, no backslash, UTF-8. */
static bool
path_is_plain(const char *path)
{
    const char *segment = path + 1;

    if (path[0] != '/' || strchr(path, '\\') != NULL || !cc_is_utf8(path, strlen(path)))
        return false;
    while (*segment != '\0') {
        size_t len = strcspn(segment, "/");

        if (len == 0 || (len == 1 && segment[0] == '.') ||
                (len == 2 && segment[0] == '.' && segment[1] == '.'))
            return false;
        segment += len;
        if (*segment == '/')
            segment++;
    }
    return true;
}

/* Both forms of a value, each with its NUL. */
static bool
value_parse(const char *text, size_t len, bool raw_query, struct cc_buf *ret)
{
    size_t start;

    if (cc_buf_add(ret, text, len, NULL) != 0 || cc_buf_add_u8(ret, '\0', NULL) != 0)
        return false;
    start = ret->len;
    if (cc_buf_add_u8(ret, '=', NULL) != 0)
        return false;
    if (!decode(text, len, true, ret)) {
        if (!raw_query)
            return false;
        ret->len = start;
    }
    return cc_buf_add_u8(ret, '\0', NULL) == 0;
}

static bool
query_parse(const char *text, bool raw_query, struct cc_buf *ret)
{
    unsigned count = 0;

    while (*text != '\0') {
        size_t len = strcspn(text, "&");
        const char *equals = memchr(text, '=', len);
        size_t name_len = equals == NULL ? len : (size_t)(equals - text);
        size_t value = equals == NULL ? len : name_len + 1;

        if (len > 0) {
            if (++count > HTTP_QUERY_MAX || !decode(text, name_len, true, ret) ||
                    cc_buf_add_u8(ret, '\0', NULL) != 0 ||
                    !value_parse(text + value, len - value, raw_query, ret))
                return false;
        }
        text += len;
        if (*text == '&')
            text++;
    }
    return true;
}

static bool
path_parse(const char *raw, size_t len, const char *opaque_prefix, struct cc_buf *ret)
{
    if (opaque_prefix != NULL && cc_starts_with(raw, opaque_prefix))
        return cc_buf_add(ret, raw, len, NULL) == 0;
    return decode(raw, len, false, ret) && path_is_plain(cc_buf_str(ret));
}

size_t
http_path_max(const struct http_rules *rules)
{
    return rules->max_target > 0 ? rules->max_target : HTTP_HEADER_MAX;
}

/* Values are there twice, with three ends and a mark. */
size_t
http_query_max(const struct http_rules *rules)
{
    return http_path_max(rules) * 2 + (size_t)HTTP_QUERY_MAX * 4;
}

unsigned
http_target_parse(const char *raw, const struct http_rules *rules, struct cc_buf *ret_path,
        struct cc_buf *ret_query)
{
    size_t path_len = strcspn(raw, "?");
    const char *c;

    if (strlen(raw) > http_path_max(rules))
        return MHD_HTTP_URI_TOO_LONG;
    for (c = raw; *c != '\0'; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f || *c == '#')
            return MHD_HTTP_BAD_REQUEST;
    if (!path_parse(raw, path_len, rules->opaque_prefix, ret_path))
        return MHD_HTTP_BAD_REQUEST;
    if (raw[path_len] == '?' && !query_parse(raw + path_len + 1, rules->raw_query, ret_query))
        return MHD_HTTP_BAD_REQUEST;
    return 0;
}

const char *
http_query_find(const struct cc_buf *query, const char *name, bool raw)
{
    size_t at = 0;

    while (at < query->len) {
        const char *key = (const char *)query->data + at;
        const char *sent = key + strlen(key) + 1;
        const char *decoded = sent + strlen(sent) + 1;

        if (strcmp(key, name) == 0) {
            if (raw)
                return sent;
            return decoded[0] == '\0' ? NULL : decoded + 1;
        }
        at += (size_t)(decoded - key) + strlen(decoded) + 1;
    }
    return NULL;
}

/* RFC 9110 section 5.6.2. */
static bool
is_token(const char *text)
{
    const char *c;

    for (c = text; *c != '\0'; c++)
        if (!((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                    strchr("!#$%&'*+-.^_`|~", *c) != NULL))
            return false;
    return c != text;
}

static bool
is_field_value(const char *text)
{
    const char *c;

    for (c = text; *c != '\0'; c++)
        if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
            return false;
    return true;
}

/* Whether only the colon, blanks and CR LF lie between the line before, the name and the value. */
static bool
in_place(const struct head *head, const char *name, const char *value)
{
    const char *c;

    if (!cc_starts_with(MHD_get_version(), LENIENT_PARSER))
        return true;
    if (name != head->line_end + 2 || value < name + strlen(name) + 1)
        return false;
    for (c = name + strlen(name) + 1; c < value; c++)
        if (*c != ' ' && *c != '\t')
            return false;
    return true;
}

/* A folded line ends up behind the name of the field it belongs to. */
static bool
is_like(const char *name, const char *known)
{
    size_t len = strlen(known);
    size_t i;

    for (i = 0; i < len; i++)
        if (name[i] == '\0' || (name[i] | 0x20) != (known[i] | 0x20))
            return false;
    return name[len] != '\0';
}

static unsigned
field_check(struct head *head, const char *name, const char *value)
{
    if (!is_token(name) || !is_field_value(value) || !in_place(head, name, value))
        return MHD_HTTP_BAD_REQUEST;
    if (cc_equal_nocase(name, "Transfer-Encoding"))
        return MHD_HTTP_NOT_IMPLEMENTED;
    if (is_like(name, "Transfer-Encoding") || is_like(name, "Content-Length"))
        return MHD_HTTP_BAD_REQUEST;
    if (cc_equal_nocase(name, "Content-Length")) {
        head->lengths++;
        head->length = value;
    }
    head->hosts += cc_equal_nocase(name, "Host");
    head->types += cc_equal_nocase(name, "Content-Type");
    head->authorizations += cc_equal_nocase(name, "Authorization");
    if (++head->count > HTTP_HEADERS_MAX ||
            cc_buf_add(head->copy, name, strlen(name) + 1, NULL) != 0 ||
            cc_buf_add(head->copy, value, strlen(value) + 1, NULL) != 0)
        return MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
    return 0;
}

static enum MHD_Result
on_field(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct head *head = arg;

    (void)kind;
    if (value == NULL)
        head->status = MHD_HTTP_BAD_REQUEST;
    else
        head->status = field_check(head, name, value);
    if (head->status != 0)
        return MHD_NO;
    head->line_end = value + strlen(value);
    return MHD_YES;
}

static unsigned
method_check(const char *method)
{
    static const char *const allowed[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE" };
    static const char *const known[] = { "OPTIONS", "TRACE", "CONNECT" };
    size_t i;

    for (i = 0; i < CC_COUNT(allowed); i++)
        if (strcmp(method, allowed[i]) == 0)
            return 0;
    for (i = 0; i < CC_COUNT(known); i++)
        if (strcmp(method, known[i]) == 0)
            return MHD_HTTP_METHOD_NOT_ALLOWED;
    return MHD_HTTP_NOT_IMPLEMENTED;
}

/* RFC 9112 section 6.3: one length of digits alone, where a body belongs. */
static unsigned
length_check(const struct head *head, const char *method, size_t max_body)
{
    bool wants_body = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
                      strcmp(method, "PATCH") == 0;
    uint64_t length = 0;
    const char *c;

    if (head->lengths == 0)
        return wants_body ? MHD_HTTP_LENGTH_REQUIRED : 0;
    if (head->lengths > 1 || head->length[0] == '\0')
        return MHD_HTTP_BAD_REQUEST;
    for (c = head->length; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return MHD_HTTP_BAD_REQUEST;
        if (length <= max_body)
            length = length * 10 + (uint64_t)(*c - '0');
    }
    if (length > max_body)
        return MHD_HTTP_CONTENT_TOO_LARGE;
    if (length > 0 && !wants_body && strcmp(method, "DELETE") != 0)
        return MHD_HTTP_BAD_REQUEST;
    return 0;
}

/* Whether the request line is one blank, target, blank, version, and nothing was passed over before the empty line. */
static bool
is_whole(const struct head *head, const char *method, struct cc_bytes target, const char *version,
        size_t size)
{
    if (!cc_starts_with(MHD_get_version(), LENIENT_PARSER))
        return true;
    return (const char *)target.data == method + strlen(method) + 1 &&
           version == (const char *)target.data + target.len + 1 &&
           head->line_end + strlen("\r\n\r\n") == method + size;
}

unsigned
http_head_check(struct MHD_Connection *connection, const char *method, struct cc_bytes target,
        const char *version, const struct http_rules *rules, struct cc_buf *ret_headers)
{
    const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    struct head head = { .copy = ret_headers, .line_end = version + strlen(version) };
    size_t max = HTTP_HEADER_MAX + (rules->max_target > 0 ? target.len : 0);
    bool http_1_1 = strcmp(version, MHD_HTTP_VERSION_1_1) == 0;

    if (!http_1_1 && strcmp(version, MHD_HTTP_VERSION_1_0) != 0)
        return MHD_HTTP_BAD_REQUEST;
    if (info == NULL || info->header_size > max)
        return MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
    (void)MHD_get_connection_values(connection, MHD_HEADER_KIND, on_field, &head);
    if (head.status != 0)
        return head.status;
    if (!is_whole(&head, method, target, version, info->header_size))
        return MHD_HTTP_BAD_REQUEST;
    if (head.hosts > 1 || (http_1_1 && head.hosts == 0) || head.types > 1 ||
            head.authorizations > 1)
        return MHD_HTTP_BAD_REQUEST;
    if ((head.status = method_check(method)) != 0)
        return head.status;
    return length_check(&head, method, rules->max_body);
}

const char *
http_field_find(const struct cc_buf *headers, const char *name)
{
    size_t at = 0;

    while (at < headers->len) {
        const char *key = (const char *)headers->data + at;
        const char *value = key + strlen(key) + 1;

        if (cc_equal_nocase(key, name))
            return value;
        at += (size_t)(value - key) + strlen(value) + 1;
    }
    return NULL;
}
