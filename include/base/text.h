/* SPDX-License-Identifier: MIT */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

/* Text to values and back.  Pure functions; any thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

/* Copies at most size - 1 bytes and a NUL; true when all of it went in.  size is at least 1. */
bool cc_strcpy(char *dst, size_t size, const char *src);

/* Heap copy; NULL without memory. */
CC_MUST char *cc_strdup(const char *text, struct cc_err *err);

bool cc_starts_with(const char *text, const char *prefix);

/* Equal, ASCII letters without case, whatever the locale. */
bool cc_equal_nocase(const char *a, const char *b);

/* ASCII lower case in place. */
void cc_lower(char *text);

/*
 * Peer text made harmless for a line of a log or a terminal: control bytes (C0, DEL, C1), backslash, and bytes that
 * are not UTF-8 become \xNN; U+2028, U+2029 and the bidirectional controls become \u{NNNN}.  Appends at most limit
 * bytes of output and "..." when cut.
 */
CC_MUST int cc_escape(struct cc_buf *out, const void *text, size_t len, size_t limit,
        struct cc_err *err);

/* The same into a fixed array, always terminated; returns dst. */
const char *cc_escape_into(char *dst, size_t size, const char *text);

/* Whether len bytes are well-formed UTF-8. */
bool cc_is_utf8(const void *text, size_t len);

/* Hexadecimal; ret_text has room for 2 * len + 1. */
void cc_hex(const void *data, size_t len, bool upper, char *ret_text);
CC_MUST int cc_unhex(const char *text, struct cc_buf *ret, struct cc_err *err);

/* Standard base64 with padding, one line (RFC 4648 section 4); decoding refuses anything else, line breaks too. */
CC_MUST int cc_base64(const void *data, size_t len, struct cc_buf *ret, struct cc_err *err);
CC_MUST int cc_unbase64(const char *text, struct cc_buf *ret, struct cc_err *err);

/* "50M" (K, M, G: powers of 1024), "300" bytes. */
CC_MUST int cc_parse_size(const char *text, uint64_t *ret, struct cc_err *err);

/* "365d", "12h", "30m", "10s", "250ms"; a plain number is refused, so that a unit is never guessed. */
CC_MUST int cc_parse_duration_ms(const char *text, int64_t *ret, struct cc_err *err);

/* "yes" or "no", and nothing else. */
CC_MUST int cc_parse_bool(const char *text, bool *ret, struct cc_err *err);

CC_MUST int cc_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret,
        struct cc_err *err);

/* The one of names that is most likely meant by text (edit distance at most 3), or NULL. */
const char *cc_nearest(const char *text, const char *const *names, size_t count);

#define CC_UUID_LEN 37 /* lower-case text form and NUL */

/* A random UUID, version 4 (RFC 9562); -1 when there is no randomness. */
CC_MUST int cc_uuid(char ret_text[CC_UUID_LEN], struct cc_err *err);

/* Whether text is a UUID in its 36-character form, any case. */
bool cc_is_uuid(const char *text);

#endif
