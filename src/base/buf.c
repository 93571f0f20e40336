/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

#define CAP_MIN 64

void
cc_buf_init(struct cc_buf *buf, size_t max)
{
    *buf = (struct cc_buf)CC_BUF_INIT(max);
}

void
cc_buf_free(struct cc_buf *buf)
{
    if (buf == NULL)
        return;
    free(buf->data);
    cc_buf_init(buf, buf->max);
}

void
cc_buf_wipe(struct cc_buf *buf)
{
    if (buf == NULL)
        return;
    if (buf->data != NULL)
        cc_wipe(buf->data, buf->cap + 1);
    cc_buf_free(buf);
}

void
cc_buf_reset(struct cc_buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

/* Room for need bytes in all and the NUL behind them; need is within the ceiling. */
static int
grow(struct cc_buf *buf, size_t need, struct cc_err *err)
{
    size_t cap = buf->cap < CAP_MIN ? CAP_MIN : buf->cap;
    uint8_t *data;

    while (cap < need)
        cap = cap > buf->max / 2 ? buf->max : cap * 2;
    if (cap > buf->max)
        cap = buf->max;
    if (cap == SIZE_MAX || (data = realloc(buf->data, cap + 1)) == NULL) {
        cc_err_nomem(err);
        return -1;
    }
    buf->data = data;
    buf->cap = cap;
    return 0;
}

uint8_t *
cc_buf_reserve(struct cc_buf *buf, size_t len, struct cc_err *err)
{
    if (len > buf->max || buf->len > buf->max - len) {
        cc_err_set(err, CC_DOM_INPUT, (long)buf->max, "more than the %zu bytes allowed", buf->max);
        return NULL;
    }
    if ((buf->data == NULL || buf->len + len > buf->cap) && grow(buf, buf->len + len, err) != 0)
        return NULL;
    /* The caller may use less than it asked for, and the NUL must stand behind what it used. */
    memset(buf->data + buf->len, 0, len + 1);
    return buf->data + buf->len;
}

int
cc_buf_add(struct cc_buf *buf, const void *data, size_t len, struct cc_err *err)
{
    uint8_t *place = cc_buf_reserve(buf, len, err);

    if (place == NULL)
        return -1;
    if (len > 0)
        memcpy(place, data, len);
    buf->len += len;
    return 0;
}

int
cc_buf_add_str(struct cc_buf *buf, const char *text, struct cc_err *err)
{
    return cc_buf_add(buf, text, strlen(text), err);
}

int
cc_buf_add_u8(struct cc_buf *buf, uint8_t value, struct cc_err *err)
{
    return cc_buf_add(buf, &value, sizeof(value), err);
}

int
cc_buf_printf(struct cc_buf *buf, struct cc_err *err, const char *fmt, ...)
{
    uint8_t *place;
    va_list ap;
    int len;

    va_start(ap, fmt);
    len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (len < 0)
        return cc_err_set(err, CC_DOM_INTERNAL, errno, "format of text");
    if ((place = cc_buf_reserve(buf, (size_t)len, err)) == NULL)
        return -1;
    va_start(ap, fmt);
    (void)vsnprintf((char *)place, (size_t)len + 1, fmt, ap);
    va_end(ap);
    buf->len += (size_t)len;
    return 0;
}

const char *
cc_buf_str(const struct cc_buf *buf)
{
    if (buf->data == NULL)
        return "";
    /* A writer into reserved room may have left bytes behind what it then counted. */
    if (buf->data[buf->len] != '\0')
        buf->data[buf->len] = '\0';
    return (const char *)buf->data;
}

struct cc_bytes
cc_buf_bytes(const struct cc_buf *buf)
{
    return (struct cc_bytes){ .data = buf->data, .len = buf->len };
}

struct cc_bytes
cc_bytes_of_str(const char *text)
{
    return (struct cc_bytes){ .data = (const uint8_t *)text, .len = strlen(text) };
}
