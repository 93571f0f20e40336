/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <string.h>

#include "base/text.h"

/*
 * RFC 8894 section 4.1 has base64 with percent escapes.  What comes has its escapes or only some of them, a blank where
 * a proxy took "+" for one, line ends every 64 characters, the alphabet of RFC 4648 section 5, or no padding.
 */

static int
hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* The character at *raw, which moves behind it; -1: a broken escape. */
static int
next_character(const char **raw)
{
    int high, low;

    if (**raw != '%')
        return (unsigned char)*(*raw)++;
    high = hex((*raw)[1]);
    low = high >= 0 ? hex((*raw)[2]) : -1;
    if (low < 0)
        return -1;
    *raw += 3;
    return high << 4 | low;
}

static int
normal_form(const char *raw, struct cc_buf *ret)
{
    while (*raw != '\0') {
        const int c = next_character(&raw);

        switch (c) {
        case -1:
        case 0:
            return -1;
        case '\r':
        case '\n':
        case '\t':
        case '=':
            continue;
        default:
            break;
        }
        if (cc_buf_add_u8(ret, c == '-' || c == ' ' ? '+' : c == '_' ? '/' : (uint8_t)c, NULL) != 0)
            return -1;
    }
    while (ret->len % 4 != 0)
        if (cc_buf_add_u8(ret, '=', NULL) != 0)
            return -1;
    return 0;
}

int
get_decode(const char *raw, struct cc_buf *ret)
{
    struct cc_buf text = CC_BUF_INIT(2 * SCEP_TARGET_MAX);
    int rc = -1;

    if (normal_form(raw, &text) == 0 && text.len > 0)
        rc = cc_unbase64(cc_buf_str(&text), ret, NULL);
    cc_buf_free(&text);
    return rc;
}
