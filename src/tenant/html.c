/* SPDX-License-Identifier: MIT */
#include "html.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"

#define BAD_TEXT_MAX 1024 /* bytes that are shown of what is not UTF-8 */

static void
add(struct html *html, const char *text, size_t len)
{
    if (!html->failed && cc_buf_add(html->out, text, len, &html->err) != 0)
        html->failed = true;
}

static void
add_str(struct html *html, const char *text)
{
    add(html, text, strlen(text));
}

/* ---- escaping ---- */

/* Bytes of a character at text that must not be shown, 0: it may be. */
static size_t
hidden_len(const char *text)
{
    static const char *const marks[] = { "\u061c", "\u200b", "\u200e", "\u200f", "\u2028", "\u2029",
        "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069",
        "\ufeff" };
    unsigned char c = (unsigned char)text[0];

    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
        return 1;
    if (c == 0xc2 && (unsigned char)text[1] < 0xa0)
        return 2; /* C1 */
    for (size_t i = 0; i < CC_COUNT(marks); i++)
        if (cc_starts_with(text, marks[i]))
            return strlen(marks[i]);
    return 0;
}

static const char *
reference(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

static void
escape(struct html *html, const char *text)
{
    while (*text != '\0') {
        const char *begin = text;
        size_t hidden = 0;

        while (*text != '\0' && reference(*text) == NULL && (hidden = hidden_len(text)) == 0)
            text++;
        add(html, begin, (size_t)(text - begin));
        if (*text == '\0')
            break;
        add_str(html, hidden > 0 ? "\ufffd" : reference(*text));
        text += hidden > 0 ? hidden : 1;
    }
}

void
html_text(struct html *html, const char *text)
{
    struct cc_buf bytes = CC_BUF_INIT(8 * BAD_TEXT_MAX);

    if (text == NULL)
        return;
    if (cc_is_utf8(text, strlen(text))) {
        escape(html, text);
        return;
    }
    if (cc_escape(&bytes, text, strlen(text), BAD_TEXT_MAX, &html->err) != 0)
        html->failed = true;
    else
        escape(html, cc_buf_str(&bytes));
    cc_buf_free(&bytes);
}

void
html_query(struct html *html, const char *value)
{
    char code[4];

    for (; *value != '\0'; value++) {
        if (isalnum((unsigned char)*value) || strchr("-._~", *value) != NULL) {
            add(html, value, 1);
            continue;
        }
        (void)snprintf(code, sizeof(code), "%%%02X", (unsigned)(unsigned char)*value);
        add(html, code, 3);
    }
}

/* ---- formats ---- */

static void
add_number(struct html *html, long long number)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%lld", number);
    add_str(html, text);
}

void
html_put(struct html *html, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    for (const char *at = fmt; *at != '\0';) {
        size_t plain = strcspn(at, "%");

        add(html, at, plain);
        at += plain;
        if (*at == '\0')
            break;
        at++;
        if (*at == 's') {
            html_text(html, va_arg(ap, const char *));
            at++;
        } else if (*at == 'd') {
            add_number(html, va_arg(ap, int));
            at++;
        } else if (cc_starts_with(at, "lld")) {
            add_number(html, va_arg(ap, long long));
            at += 3;
        } else if (*at == '%') {
            add(html, at++, 1);
        } else {
            cc_err_set(&html->err, CC_DOM_INTERNAL, 0, "a conversion that is not known");
            html->failed = true;
            break;
        }
    }
    va_end(ap);
}

/* ---- times ---- */

static void
put_time(struct html *html, int64_t time_ms, bool seconds)
{
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
        "Sep", "Oct", "Nov", "Dec" };
    time_t time = (time_t)(time_ms / 1000);
    char exact[CC_TIME_LEN], clock[CC_TIME_LEN];
    struct tm tm;

    if (time_ms == 0 || gmtime_r(&time, &tm) == NULL) {
        add_str(html, "–");
        return;
    }
    cc_time_format(time_ms, exact);
    /* "2026-11-01T12:34:56.789Z" */
    (void)cc_strcpy(clock, sizeof(clock), exact + 11);
    clock[seconds ? 8 : 5] = '\0';
    html_put(html, "<time datetime=\"%s\">%d&nbsp;%s&nbsp;%d, %s&nbsp;UTC</time>", exact,
            tm.tm_mday, months[tm.tm_mon % 12], tm.tm_year + 1900, clock);
}

void
html_time(struct html *html, int64_t time_ms)
{
    put_time(html, time_ms, false);
}

void
html_moment(struct html *html, int64_t time_ms)
{
    put_time(html, time_ms, true);
}

void
html_ago(struct html *html, int64_t time_ms, int64_t now_ms)
{
    static const struct {
        int64_t unit_s, until_s;
        const char *one, *many;
    } units[] = { { 1, 60, "second", "seconds" }, { 60, 3600, "minute", "minutes" },
        { 3600, 48 * 3600, "hour", "hours" }, { 86400, INT64_MAX, "day", "days" } };
    int64_t distance_s = (time_ms > now_ms ? time_ms - now_ms : now_ms - time_ms) / 1000;
    char exact[CC_TIME_LEN];
    size_t u = 0;
    long long count;

    if (time_ms == 0) {
        add_str(html, "–");
        return;
    }
    while (distance_s >= units[u].until_s)
        u++;
    count = distance_s / units[u].unit_s;
    cc_time_format(time_ms, exact);
    html_put(html, "<time datetime=\"%s\" title=\"%s\">%s%lld&nbsp;%s%s</time>", exact, exact,
            time_ms > now_ms ? "in " : "", count, count == 1 ? units[u].one : units[u].many,
            time_ms > now_ms ? "" : " ago");
}
