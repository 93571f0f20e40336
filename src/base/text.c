/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/process.h"
#include "base/secret.h"
#include "base_int.h"

#define BASE64_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

/* What the OpenSSL calls take at once with their int lengths, and more than any ceiling of ours. */
#define BASE64_INPUT_MAX ((size_t)1 << 30)

/* Longest form of one escaped character: two escaped bytes or \u{NNNN}. */
#define ESCAPED_MAX 8

#define NEAREST_DISTANCE 3
#define NEAREST_LEN 64 /* no name of ours is as long */

bool
cc_strcpy(char *dst, size_t size, const char *src)
{
    size_t len = strlen(src);
    bool fits = len < size;

    if (!fits)
        len = size - 1;
    memcpy(dst, src, len);
    dst[len] = '\0';
    return fits;
}

char *
cc_strdup(const char *text, struct cc_err *err)
{
    char *copy = strdup(text);

    if (copy == NULL)
        cc_err_nomem(err);
    return copy;
}

bool
cc_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool
cc_equal_nocase(const char *a, const char *b)
{
    for (; *a != '\0' && lower(*a) == lower(*b); a++)
        b++;
    return lower(*a) == lower(*b);
}

void
cc_lower(char *text)
{
    for (; *text != '\0'; text++)
        *text = lower(*text);
}

/* Length and value of the character that p begins with (RFC 3629 section 4); 0 when it is not well-formed. */
static size_t
utf8_next(const uint8_t *p, size_t len, uint32_t *ret_char)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t need = p[0] < 0x80             ? 1
                  : (p[0] & 0xE0) == 0xC0 ? 2
                  : (p[0] & 0xF0) == 0xE0 ? 3
                  : (p[0] & 0xF8) == 0xF0 ? 4
                                          : 0;
    uint32_t value;
    size_t i;

    if (need == 0 || need > len)
        return 0;
    value = need == 1 ? p[0] : p[0] & (0x7FU >> need);
    for (i = 1; i < need; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (p[i] & 0x3FU);
    }
    if (value < least[need] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *ret_char = value;
    return need;
}

/* Behind the ASCII that p begins with, in steps of a word. */
static const uint8_t *
skip_ascii(const uint8_t *p, size_t len)
{
    const uint8_t *end = p + len;
    uint64_t word;

    for (; (size_t)(end - p) >= sizeof(word); p += sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        if ((word & UINT64_C(0x8080808080808080)) != 0)
            break;
    }
    return p;
}

bool
cc_is_utf8(const void *text, size_t len)
{
    const uint8_t *p = text;
    const uint8_t *end = p + len;
    uint32_t value;

    while ((p = skip_ascii(p, (size_t)(end - p))) < end) {
        size_t n = utf8_next(p, (size_t)(end - p), &value);

        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

/* Line and paragraph separator, and what turns the direction of text (Unicode's Bidi_Control). */
static bool
is_format_control(uint32_t c)
{
    return (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0x200E ||
           c == 0x200F || c == 0x061C;
}

/* Writes the escaped form of p's first character and returns its length; *ret_used: bytes of p it stands for. */
static size_t
escape_next(const uint8_t *p, size_t len, bool keep_backslash, char out[ESCAPED_MAX + 1],
        size_t *ret_used)
{
    uint32_t c = 0;
    size_t used = utf8_next(p, len, &c);

    *ret_used = used == 0 ? 1 : used;
    if (used == 0 || c < 0x20 || c == 0x7F || (c == '\\' && !keep_backslash))
        return (size_t)snprintf(out, ESCAPED_MAX + 1, "\\x%02x", p[0]);
    if (c >= 0x80 && c < 0xA0)
        return (size_t)snprintf(out, ESCAPED_MAX + 1, "\\x%02x\\x%02x", p[0], p[1]);
    if (is_format_control(c))
        return (size_t)snprintf(out, ESCAPED_MAX + 1, "\\u{%04X}", c & 0xFFFF);
    memcpy(out, p, used);
    return used;
}

int
cc_escape(struct cc_buf *out, const void *text, size_t len, size_t limit, struct cc_err *err)
{
    const uint8_t *p = text;
    size_t start = out->len, used;
    char piece[ESCAPED_MAX + 1];

    for (; len > 0; p += used, len -= used) {
        size_t n = escape_next(p, len, false, piece, &used);

        if (n > limit) {
            if (cc_buf_add_str(out, "...", err) != 0)
                goto fail;
            return 0;
        }
        limit -= n;
        if (cc_buf_add(out, piece, n, err) != 0)
            goto fail;
    }
    return 0;
fail:
    out->len = start;
    if (out->data != NULL)
        out->data[start] = '\0';
    return -1;
}

static const char *
escape_array(char *dst, size_t size, const char *text, bool keep_backslash)
{
    const uint8_t *p = (const uint8_t *)text;
    size_t len = strlen(text), pos = 0, cut = 0, used;
    char piece[ESCAPED_MAX + 1];

    for (; len > 0; p += used, len -= used) {
        size_t n = escape_next(p, len, keep_backslash, piece, &used);

        if (pos + n >= size) {
            pos = cut;
            cc_strcpy(dst + pos, size - pos, "...");
            return dst;
        }
        memcpy(dst + pos, piece, n);
        pos += n;
        if (pos + sizeof("...") <= size)
            cut = pos;
    }
    dst[pos] = '\0';
    return dst;
}

const char *
cc_escape_into(char *dst, size_t size, const char *text)
{
    return escape_array(dst, size, text, false);
}

const char *
cc_escape_line(char *dst, size_t size, const char *text)
{
    return escape_array(dst, size, text, true);
}

void
cc_hex(const void *data, size_t len, bool upper, char *ret_text)
{
    const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    const uint8_t *p = data;

    for (; len > 0; len--, p++) {
        *ret_text++ = digits[*p >> 4];
        *ret_text++ = digits[*p & 15];
    }
    *ret_text = '\0';
}

/* -1 for what is no digit. */
static int
hex_digit(char c)
{
    c = lower(c);
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
cc_unhex(const char *text, struct cc_buf *ret, struct cc_err *err)
{
    size_t digits = strspn(text, "0123456789abcdefABCDEF");
    size_t i, len = digits / 2;
    uint8_t *place;

    if (text[digits] != '\0' || digits % 2 != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "not hexadecimal, at character %zu", digits + 1);
    if ((place = cc_buf_reserve(ret, len, err)) == NULL)
        return -1;
    for (i = 0; i < len; i++)
        place[i] = (uint8_t)(hex_digit(text[2 * i]) * 16 + hex_digit(text[2 * i + 1]));
    ret->len += len;
    return 0;
}

int
cc_base64(const void *data, size_t len, struct cc_buf *ret, struct cc_err *err)
{
    uint8_t *place;

    if (len > BASE64_INPUT_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "too long for base64");
    if ((place = cc_buf_reserve(ret, (len + 2) / 3 * 4, err)) == NULL)
        return -1;
    if (len > 0)
        ret->len += (size_t)EVP_EncodeBlock(place, data, (int)len);
    return 0;
}

/*
 * The last four characters: one to three bytes.  Bits that carry nothing must be zero (RFC 4648 section 3.5), which
 * encoding again shows.
 */
static int
unbase64_last(const char *quad, size_t pad, uint8_t *place, struct cc_err *err)
{
    uint8_t bytes[3];
    uint8_t again[5];
    int rc = -1;

    if (EVP_DecodeBlock(bytes, (const uint8_t *)quad, 4) == 3) {
        EVP_EncodeBlock(again, bytes, (int)(3 - pad));
        rc = memcmp(again, quad, 4) == 0 ? 0 : -1;
    }
    if (rc == 0)
        memcpy(place, bytes, 3 - pad);
    else
        cc_err_set(err, CC_DOM_INPUT, 0, "not base64, at its end");
    cc_wipe(bytes, sizeof(bytes));
    cc_wipe(again, sizeof(again));
    return rc;
}

int
cc_unbase64(const char *text, struct cc_buf *ret, struct cc_err *err)
{
    size_t digits = strspn(text, BASE64_ALPHABET);
    size_t pad = strspn(text + digits, "=");
    size_t len = digits + pad;
    uint8_t *place;

    if (text[len] != '\0' || pad > 2 || len % 4 != 0 || len > BASE64_INPUT_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "not base64, at character %zu", len + 1);
    if ((place = cc_buf_reserve(ret, len / 4 * 3 - pad, err)) == NULL)
        return -1;
    if (len == 0)
        return 0;
    if (unbase64_last(text + len - 4, pad, place + (len / 4 - 1) * 3, err) != 0)
        return -1;
    if (len > 4 && EVP_DecodeBlock(place, (const uint8_t *)text, (int)(len - 4)) < 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "not base64");
    ret->len += len / 4 * 3 - pad;
    return 0;
}

/* The digits at the start of text as a number; *ret_end points behind them. */
static bool
leading_number(const char *text, uint64_t *ret, const char **ret_end)
{
    uint64_t value = 0;
    const char *p;

    for (p = text; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, 10, &value) ||
                __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    *ret = value;
    *ret_end = p;
    return p != text;
}

int
cc_parse_size(const char *text, uint64_t *ret, struct cc_err *err)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = { { "", 1 }, { "K", UINT64_C(1) << 10 }, { "M", UINT64_C(1) << 20 },
        { "G", UINT64_C(1) << 30 } };
    const char *unit;
    uint64_t value;
    size_t i;

    if (leading_number(text, &value, &unit))
        for (i = 0; i < CC_COUNT(units); i++)
            if (strcmp(unit, units[i].name) == 0 &&
                    !__builtin_mul_overflow(value, units[i].factor, &value)) {
                *ret = value;
                return 0;
            }
    return cc_err_set(err, CC_DOM_INPUT, 0,
            "\"%.80s\" is not a size: bytes, or a number with K, M or G behind it", text);
}

int
cc_parse_duration_ms(const char *text, int64_t *ret, struct cc_err *err)
{
    static const struct {
        const char *name;
        int64_t factor;
    } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    const char *unit;
    uint64_t value;
    int64_t ms;
    size_t i;

    if (leading_number(text, &value, &unit))
        for (i = 0; i < CC_COUNT(units); i++)
            if (strcmp(unit, units[i].name) == 0 &&
                    !__builtin_mul_overflow(value, units[i].factor, &ms)) {
                *ret = ms;
                return 0;
            }
    return cc_err_set(err, CC_DOM_INPUT, 0,
            "\"%.80s\" is not a duration: a number with d, h, m, s or ms behind it", text);
}

int
cc_parse_bool(const char *text, bool *ret, struct cc_err *err)
{
    if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "\"%.80s\" is neither yes nor no", text);
    *ret = text[0] == 'y';
    return 0;
}

int
cc_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret, struct cc_err *err)
{
    bool negative = text[0] == '-';
    const char *end;
    uint64_t magnitude;
    int64_t value;
    bool ok = leading_number(negative ? text + 1 : text, &magnitude, &end) && *end == '\0';

    if (ok && negative)
        ok = !__builtin_sub_overflow(INT64_C(0), magnitude, &value);
    else if (ok)
        ok = !__builtin_add_overflow(INT64_C(0), magnitude, &value);
    if (!ok || value < min || value > max)
        return cc_err_set(err, CC_DOM_INPUT, 0, "\"%.80s\" is not a whole number from %jd to %jd",
                text, (intmax_t)min, (intmax_t)max);
    *ret = value;
    return 0;
}

static size_t
min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;

    return least < c ? least : c;
}

/* Letters to add, drop, replace or swap with their neighbour; both shorter than NEAREST_LEN. */
static size_t
edit_distance(const char *a, const char *b)
{
    size_t rows[3][NEAREST_LEN + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2], *spare;
    size_t i, j, b_len = strlen(b);

    for (j = 0; j <= b_len; j++)
        above[j] = j;
    for (i = 1; a[i - 1] != '\0'; i++) {
        row[0] = i;
        for (j = 1; j <= b_len; j++) {
            bool same = lower(a[i - 1]) == lower(b[j - 1]);

            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1));
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                    lower(a[i - 2]) == lower(b[j - 1]) && before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        spare = before;
        before = above;
        above = row;
        row = spare;
    }
    return above[b_len];
}

const char *
cc_nearest(const char *text, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t i, best = NEAREST_DISTANCE + 1, len = strlen(text);

    if (len >= NEAREST_LEN)
        return NULL;
    if (best > len) /* where every letter is another one, nothing was meant */
        best = len;
    for (i = 0; i < count; i++) {
        size_t distance;

        if (strlen(names[i]) >= NEAREST_LEN)
            continue;
        distance = edit_distance(text, names[i]);
        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

int
cc_uuid(char ret_text[CC_UUID_LEN], struct cc_err *err)
{
    static const size_t groups[] = { 4, 2, 2, 2, 6 };
    uint8_t bytes[16];
    const uint8_t *p = bytes;
    size_t i;

    if (cc_random(bytes, sizeof(bytes), err) != 0)
        return -1;
    /* RFC 9562 section 5.4: version 4, variant 10 */
    bytes[6] = (bytes[6] & 0x0F) | 0x40;
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    for (i = 0; i < CC_COUNT(groups); i++) {
        if (i > 0)
            *ret_text++ = '-';
        cc_hex(p, groups[i], false, ret_text);
        ret_text += 2 * groups[i];
        p += groups[i];
    }
    return 0;
}

bool
cc_is_uuid(const char *text)
{
    size_t i;

    for (i = 0; i < CC_UUID_LEN - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? text[i] != '-' : hex_digit(text[i]) < 0)
            return false;
    }
    return text[i] == '\0';
}
