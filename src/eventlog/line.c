/* SPDX-License-Identifier: MIT */

/* One event as one line of JSON. */

#include "eventlog_int.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"

/* Bytes of the UTF-8 sequence at p, 0 when there is none. */
static size_t
sequence_len(const char *p, size_t left)
{
    unsigned char c = (unsigned char)*p;
    size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

    return len <= left && cc_is_utf8(p, len) ? len : 0;
}

int
event_text_clean(const char *text, size_t max, struct cc_buf *ret, struct cc_err *err)
{
    size_t left = strlen(text);
    const char *p = text;

    if (left <= max && cc_is_utf8(text, left)) /* nearly always */
        return cc_buf_add(ret, text, left, err);
    while (left > 0) {
        char hex[5];
        size_t len = sequence_len(p, left);
        const char *out = p;
        size_t out_len = len;

        if (len == 0) {
            out_len = (size_t)snprintf(hex, sizeof(hex), "\\x%02X", (unsigned char)*p);
            out = hex;
            len = 1;
        }
        if (out_len > max)
            return cc_buf_add_str(ret, "...", err);
        if (cc_buf_add(ret, out, out_len, err) != 0)
            return -1;
        max -= out_len;
        p += len;
        left -= len;
    }
    return 0;
}

static int
add_text(json_object *obj, const char *name, const char *text, size_t max, struct cc_err *err)
{
    struct cc_buf clean = CC_BUF_INIT(EVENT_MESSAGE_MAX + 16);
    int rc = -1;

    if (text == NULL)
        return 0;
    if (event_text_clean(text, max, &clean, err) == 0)
        rc = cc_json_add_str(obj, name, cc_buf_str(&clean), err);
    cc_buf_free(&clean);
    return rc;
}

static int
add_error(json_object *obj, const struct cc_err *error, struct cc_err *err)
{
    json_object *sub;

    if (error == NULL || error->domain == CC_DOM_NONE)
        return 0;
    if ((sub = json_object_new_object()) == NULL)
        return cc_err_nomem(err);
    if (cc_json_add_str(sub, "domain", cc_err_domain_name(error->domain), err) != 0 ||
            cc_json_add_int(sub, "code", error->code, err) != 0 ||
            add_text(sub, "text", error->text, EVENT_FIELD_MAX, err) != 0) {
        json_object_put(sub);
        return -1;
    }
    return cc_json_add(obj, "error", sub, err);
}

static int
add_fields(json_object *obj, const struct event_fields *f, struct cc_err *err)
{
    const struct {
        const char *name;
        const char *text;
    } texts[] = {
        { "requestId", f->request_id },
        { "transactionId", f->transaction_id },
        { "serialNumber", f->serial_number },
        { "thumbprint", f->thumbprint },
        { "user", f->user },
        { "device", f->device },
        { "ca", f->ca },
    };

    for (size_t i = 0; i < CC_COUNT(texts); i++) {
        if (add_text(obj, texts[i].name, texts[i].text, EVENT_FIELD_MAX, err) != 0)
            return -1;
    }
    if (f->duration_ms > 0 && cc_json_add_int(obj, "durationMs", f->duration_ms, err) != 0)
        return -1;
    return add_error(obj, f->error, err);
}

static json_object *
line_object(const struct event_line *line, struct cc_err *err)
{
    json_object *obj = json_object_new_object();
    char time[CC_TIME_LEN];

    if (obj == NULL) {
        (void)cc_err_nomem(err);
        return NULL;
    }
    cc_time_format(line->time_ms, time);
    if (cc_json_add_str(obj, "time", time, err) == 0 &&
            cc_json_add_int(obj, "id", line->type->id, err) == 0 &&
            cc_json_add_str(obj, "name", line->type->name, err) == 0 &&
            cc_json_add_str(obj, "channel", event_channel_name(line->type->channel), err) == 0 &&
            cc_json_add_str(obj, "category", event_category_name(line->category), err) == 0 &&
            cc_json_add_str(obj, "level", event_level_name(line->type->level), err) == 0 &&
            add_text(obj, "connector", line->connector, EVENT_FIELD_MAX, err) == 0 &&
            add_text(obj, "message", line->message, EVENT_MESSAGE_MAX, err) == 0 &&
            (line->fields == NULL || add_fields(obj, line->fields, err) == 0))
        return obj;
    json_object_put(obj);
    return NULL;
}

/*
 * What json-c leaves in a string and a terminal or an editor would obey: DEL, the C1 controls, line and paragraph
 * separator, and the marks that turn text around.  In JSON's text they can only stand inside strings, where \uNNNN
 * means the same.  Returns the code point and its length in bytes; 0 for anything else.
 */
static unsigned
harmful(const unsigned char *p, size_t left, size_t *ret_len)
{
    unsigned code = 0;

    if (p[0] == 0x7f) {
        *ret_len = 1;
        return 0x7f;
    }
    if (left >= 2 && p[0] >= 0xc2 && p[0] < 0xe0) {
        *ret_len = 2;
        code = (p[0] & 0x1fU) << 6 | (p[1] & 0x3fU);
    } else if (left >= 3 && p[0] >= 0xe0 && p[0] < 0xf0) {
        *ret_len = 3;
        code = (p[0] & 0x0fU) << 12 | (p[1] & 0x3fU) << 6 | (p[2] & 0x3fU);
    }
    if ((code >= 0x80 && code <= 0x9f) || code == 0x61c || code == 0x200e || code == 0x200f ||
            (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
            code == 0xfeff)
        return code;
    return 0;
}

static int
add_harmless(struct cc_buf *ret, const char *json, size_t len, struct cc_err *err)
{
    const unsigned char *p = (const unsigned char *)json;
    const unsigned char *end = p + len;
    const unsigned char *from = p; /* not yet copied */

    while (p < end) {
        size_t used = 1;
        unsigned code = *p < 0x7f ? 0 : harmful(p, (size_t)(end - p), &used);

        if (code == 0) {
            p++;
            continue;
        }
        if (cc_buf_add(ret, from, (size_t)(p - from), err) != 0 ||
                cc_buf_printf(ret, err, "\\u%04x", code) != 0)
            return -1;
        p += used;
        from = p;
    }
    return cc_buf_add(ret, from, (size_t)(end - from), err);
}

int
event_line_write(const struct event_line *line, struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf json = CC_BUF_INIT(EVENT_LINE_MAX);
    json_object *obj = line_object(line, err);
    int rc = -1;

    if (obj == NULL)
        goto out;
    if (cc_json_write(obj, &json, err) != 0)
        goto out;
    if (add_harmless(ret, cc_buf_str(&json), json.len, err) != 0)
        goto out;
    rc = cc_buf_add_u8(ret, '\n', err);
out:
    json_object_put(obj);
    cc_buf_free(&json);
    return rc;
}

int
event_line_time(const char *line, size_t len, int64_t *ret_ms)
{
    static const char start[] = "{\"time\":\"";
    const size_t at = sizeof(start) - 1;
    char text[CC_TIME_LEN];

    if (len < at + sizeof(text) || memcmp(line, start, at) != 0 ||
            line[at + sizeof(text) - 1] != '"')
        return -1;
    memcpy(text, line + at, sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    return cc_time_parse(text, ret_ms, NULL);
}
