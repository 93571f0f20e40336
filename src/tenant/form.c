/* SPDX-License-Identifier: MIT */
#include "form.h"

#include <string.h>

static int
hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "+" is a space and %NN a byte; a NUL would end the text for who reads it, and is refused. */
static int
decode(struct cc_bytes text, struct cc_buf *ret, struct cc_err *err)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i] == '+' ? ' ' : text.data[i];

        if (c == '%') {
            int high = text.len - i > 2 ? hex_value(text.data[i + 1]) : -1;
            int low = text.len - i > 2 ? hex_value(text.data[i + 2]) : -1;

            if (high < 0 || low < 0)
                return cc_err_set(err, CC_DOM_INPUT, 0, "a %% without two hexadecimal digits");
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        if (c == 0)
            return cc_err_set(err, CC_DOM_INPUT, 0, "a NUL in a form");
        if (cc_buf_add_u8(ret, c, err) != 0)
            return -1;
    }
    return 0;
}

int
form_get(struct cc_bytes body, const char *name, struct cc_buf *ret, bool *ret_found,
        struct cc_err *err)
{
    size_t name_len = strlen(name);
    const uint8_t *at = body.data;
    size_t left = body.len;

    *ret_found = false;
    while (left > 0) {
        const uint8_t *end = memchr(at, '&', left);
        size_t len = end != NULL ? (size_t)(end - at) : left;

        if (len > name_len && memcmp(at, name, name_len) == 0 && at[name_len] == '=') {
            struct cc_bytes value = { at + name_len + 1, len - name_len - 1 };

            *ret_found = true;
            return decode(value, ret, err);
        }
        if (end == NULL)
            break;
        at = end + 1;
        left -= len + 1;
    }
    return 0;
}
