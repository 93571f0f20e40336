/* SPDX-License-Identifier: MIT */
#ifndef TENANT_HTML_H
#define TENANT_HTML_H

/*
 * Writing HTML: whatever is put in is escaped, and only the formats themselves are markup.  The first failure stays, and
 * nothing is written after it; html_failed() tells in the end.  One thread at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

struct html {
    struct cc_buf *out; /* borrowed */
    bool failed;
    struct cc_err err; /* where it failed */
};

/*
 * Markup with "%s" for a text, escaped for element content and for attributes in double quotes (NULL: nothing), "%d" for
 * an int, "%lld" for a long long, "%%".  No other conversion is known.
 */
void html_put(struct html *html, const char *fmt, ...) CC_PRINTF(2, 3);

/*
 * A text as it is seen: "&<>"'" as references; control characters, and those that turn the direction of text, as
 * U+FFFD; what is not UTF-8 with its bytes named.
 */
void html_text(struct html *html, const char *text);

/* One value of a query, percent-encoded. */
void html_query(struct html *html, const char *value);

/* <time>, with the day and the minute in UTC; and how long ago it was, or will be.  0: a dash. */
void html_time(struct html *html, int64_t time_ms);
void html_moment(struct html *html, int64_t time_ms); /* with its second */
void html_ago(struct html *html, int64_t time_ms, int64_t now_ms);

#endif
