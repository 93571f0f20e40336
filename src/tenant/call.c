/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#define STORE_RETRY_S 5
#define HEADERS_MAX 10
#define ANSWER_MAX ((size_t)32 << 20)

struct call *
call_new(struct tenant *tenant, struct http_exchange *exchange)
{
    struct call *call = calloc(1, sizeof(*call));

    if (call == NULL)
        return NULL;
    call->tenant = tenant;
    call->exchange = exchange;
    if (cc_uuid(call->request_id, NULL) != 0)
        call->request_id[0] = '\0';
    return call;
}

static void
call_free(struct call *call)
{
    free(call->fault.body);
    free(call);
}

void
call_drop(struct call *call)
{
    http_exchange_drop(call->exchange);
    call_free(call);
}

void
call_reply(struct call *call, unsigned status, const struct http_header *headers, size_t count,
        const char *content_type, const void *body, size_t len)
{
    struct http_header all[HEADERS_MAX];
    size_t n = 0;
    const char *client_id = http_exchange_header(call->exchange, "client-request-id");

    if (call->fault.drop == FAULT_DROP_AFTER) {
        call_drop(call);
        return;
    }
    for (size_t i = 0; i < count && n < HEADERS_MAX - 2; i++)
        all[n++] = headers[i];
    all[n++] = (struct http_header){ "request-id", call->request_id };
    if (client_id != NULL && cc_is_uuid(client_id))
        all[n++] = (struct http_header){ "client-request-id", client_id };
    http_exchange_reply(call->exchange, status, all, n, content_type, body, len);
    call_free(call);
}

void
call_reply_empty(struct call *call, unsigned status)
{
    call_reply(call, status, NULL, 0, NULL, NULL, 0);
}

void
call_reply_json(struct call *call, unsigned status, json_object *take_body)
{
    struct cc_buf text = CC_BUF_INIT(ANSWER_MAX);
    struct cc_err err = { 0 };

    if (cc_json_write(take_body, &text, &err) != 0) {
        cc_log(CC_LOG_ERROR, TENANT_ROOM, "answer: %s", cc_err_text(&err));
        call_reply_empty(call, 500);
    } else {
        call_reply(call, status, NULL, 0, "application/json; charset=utf-8", text.data, text.len);
    }
    json_object_put(take_body);
    cc_buf_free(&text);
}

/* {"error":{"code","message","innerError":{"request-id","date"}}}, as Graph has it. */
static int
write_error(const struct call *call, const char *code, const char *message, struct cc_buf *ret)
{
    json_object *root = json_object_new_object();
    json_object *error = json_object_new_object();
    json_object *inner = json_object_new_object();
    char date[CC_TIME_LEN];
    int rc = -1;

    cc_time_format(cc_clock_now_ms(), date);
    if (root == NULL || error == NULL || inner == NULL)
        goto out;
    if (cc_json_add_str(inner, "request-id", call->request_id, NULL) != 0 ||
            cc_json_add_str(inner, "date", date, NULL) != 0 ||
            cc_json_add_str(error, "code", code, NULL) != 0 ||
            cc_json_add_str(error, "message", message, NULL) != 0)
        goto out;
    rc = cc_json_add(error, "innerError", inner, NULL);
    inner = NULL;
    if (rc != 0)
        goto out;
    rc = cc_json_add(root, "error", error, NULL);
    error = NULL;
    if (rc == 0)
        rc = cc_json_write(root, ret, NULL);
out:
    json_object_put(root);
    json_object_put(error);
    json_object_put(inner);
    return rc;
}

static void
reply_error(struct call *call, unsigned status, const struct http_header *headers, size_t count,
        const char *code, const char *message)
{
    struct cc_buf text = CC_BUF_INIT(16384);

    if (write_error(call, code, message, &text) != 0)
        cc_buf_reset(&text);
    call_reply(call, status, headers, count, "application/json; charset=utf-8", text.data,
            text.len);
    cc_buf_free(&text);
}

void
call_reply_error(struct call *call, unsigned status, const char *code, const char *fmt, ...)
{
    static const struct http_header challenge = { "WWW-Authenticate", "Bearer" };
    char message[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    reply_error(call, status, &challenge, status == 401, code, message);
}

void
call_reply_busy(struct call *call, unsigned status, unsigned retry_after_s)
{
    char seconds[16];
    struct http_header header = { "Retry-After", seconds };

    (void)snprintf(seconds, sizeof(seconds), "%u", retry_after_s);
    reply_error(call, status, &header, 1, "TooManyRequests", "come again later");
}

void
call_reply_failed(struct call *call, const struct cc_err *err)
{
    if (err->domain == CC_DOM_INPUT && err->code == 404) {
        call_reply_error(call, 404, "ResourceNotFound", "%s", cc_err_text(err));
    } else if (err->domain == CC_DOM_INPUT) {
        call_reply_error(call, 400, "BadRequest", "%s", cc_err_text(err));
    } else {
        cc_log(CC_LOG_ERROR, TENANT_ROOM, "%s %s: %s", http_exchange_method(call->exchange),
                http_exchange_path(call->exchange), cc_err_text(err));
        /* A database that is full or away will do again; code 0 is what it does not want. */
        if (err->domain == CC_DOM_STORE && err->code != 0) {
            call_reply_busy(call, 503, STORE_RETRY_S);
            return;
        }
        call_reply_error(call, 500, "InternalServerError", "the request could not be carried out");
    }
}

static bool
is_json_type(const char *type)
{
    static const char want[] = "application/json";
    size_t len = sizeof(want) - 1;

    return type != NULL && strncasecmp(type, want, len) == 0 &&
           (type[len] == '\0' || type[len] == ';' || type[len] == ' ');
}

/* Each byte of ISO 8859-1 is the code point of the same number. */
static int
add_latin1(struct cc_buf *ret, struct cc_bytes text, struct cc_err *err)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        const uint8_t two[] = { (uint8_t)(0xc0 | c >> 6), (uint8_t)(0x80 | (c & 0x3f)) };

        if (cc_buf_add(ret, c < 0x80 ? &c : two, c < 0x80 ? 1 : 2, err) != 0)
            return -1;
    }
    return 0;
}

static json_object *
parse_latin1(struct cc_bytes body, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(2 * body.len + 1);
    json_object *obj = NULL;

    if (add_latin1(&text, body, err) == 0)
        obj = cc_json_parse(text.data, text.len, err);
    cc_buf_free(&text);
    return obj;
}

static json_object *
read_json(struct call *call, json_type type, bool latin1)
{
    struct cc_bytes body = http_exchange_body(call->exchange);
    struct cc_err err = { 0 };
    json_object *obj;

    if (!is_json_type(http_exchange_header(call->exchange, "Content-Type"))) {
        call_reply_error(call, 415, "UnsupportedMediaType",
                "Content-Type must be application/json");
        return NULL;
    }
    if (latin1 && !cc_is_utf8(body.data, body.len))
        obj = parse_latin1(body, &err);
    else
        obj = cc_json_parse(body.data, body.len, &err);
    if (obj == NULL) {
        call_reply_failed(call, &err);
        return NULL;
    }
    if (type != json_type_null && !json_object_is_type(obj, type)) {
        call_reply_error(call, 400, "BadRequest", "the body must be a JSON %s",
                json_type_to_name(type));
        json_object_put(obj);
        return NULL;
    }
    return obj;
}

json_object *
call_json(struct call *call, json_type type)
{
    return read_json(call, type, false);
}

json_object *
call_json_latin1(struct call *call, json_type type)
{
    return read_json(call, type, true);
}

size_t
call_count_chars(const char *text)
{
    size_t count = 0;

    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

/* A Host header ends up in URLs of answers: only what may stand in an authority (RFC 3986 section 3.2). */
static bool
is_host(const char *text)
{
    if (text == NULL || text[0] == '\0' || strlen(text) > 255)
        return false;
    for (; *text != '\0'; text++)
        if (!isalnum((unsigned char)*text) && strchr(".-_:[]", *text) == NULL)
            return false;
    return true;
}

int
call_read_base_url(struct call *call, struct cc_buf *ret, struct cc_err *err)
{
    const struct tenant_settings *settings = call->tenant->settings;
    const char *host = http_exchange_header(call->exchange, "Host");

    if (settings->public_url != NULL)
        return cc_buf_add_str(ret, settings->public_url, err);
    if (!is_host(host))
        return cc_err_set(err, CC_DOM_INPUT, 0, "the Host header names no host");
    return cc_buf_printf(ret, err, "%s://%s", settings->tls ? "https" : "http", host);
}

int
call_base_url(struct call *call, struct cc_buf *ret)
{
    struct cc_err err = { 0 };
    int rc = call_read_base_url(call, ret, &err);

    if (rc != 0)
        call_reply_failed(call, &err);
    return rc;
}
