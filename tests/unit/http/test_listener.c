/* SPDX-License-Identifier: MIT */
#include "http/listener.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "raw_peer.h"

#define HOST "Host: x\r\n"
#define CLOSE "Connection: close\r\n"
#define SMUGGLED "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

/* What the handler saw, and exchanges that it keeps. */
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned calls;
    bool smuggled;
    struct http_exchange *kept[64];
    unsigned kept_count;
    bool gate_shut;
    int take_file; /* what /file answers with */
    uint64_t file_len;
    char line[512];
};

static void
echo(void *arg, struct http_exchange *exchange)
{
    struct seen *seen = arg;
    const char *path = http_exchange_path(exchange);
    const char *query = http_exchange_query(exchange, "q");
    const char *raw = http_exchange_query_raw(exchange, "q");
    const char *header = http_exchange_header(exchange, "x-a");
    struct cc_bytes body = http_exchange_body(exchange);
    const struct http_header headers[] = { { "X-Test", "yes" } };
    bool keep = strcmp(path, "/keep") == 0;
    char line[512];

    (void)snprintf(line, sizeof(line), "<%s %.100s q=%.100s x=%.100s b=%.*s p=%s>{%zu:%.100s}",
            http_exchange_method(exchange), path, query == NULL ? "-" : query,
            header == NULL ? "-" : header, (int)body.len,
            body.len == 0 ? "" : (const char *)body.data, http_exchange_peer(exchange),
            raw == NULL ? 0 : strlen(raw), raw == NULL ? "-" : raw);
    pthread_mutex_lock(&seen->lock);
    seen->calls++;
    if (strstr(path, "smuggled") != NULL)
        seen->smuggled = true;
    memcpy(seen->line, line, sizeof(line));
    if (keep)
        seen->kept[seen->kept_count++] = exchange;
    pthread_cond_broadcast(&seen->changed);
    while (!keep && strcmp(path, "/gate") == 0 && seen->gate_shut)
        pthread_cond_wait(&seen->changed, &seen->lock);
    pthread_mutex_unlock(&seen->lock);
    if (keep)
        return;
    if (strcmp(path, "/drop") == 0)
        http_exchange_drop(exchange);
    else if (strcmp(path, "/file") == 0)
        http_exchange_reply_file(exchange, 200, headers, 1, "text/plain", seen->take_file,
                seen->file_len);
    else
        http_exchange_reply(exchange, 200, headers, 1, "text/plain", line, strlen(line));
}

static void
seen_init(struct seen *seen)
{
    memset(seen, 0, sizeof(*seen));
    pthread_mutex_init(&seen->lock, NULL);
    pthread_cond_init(&seen->changed, NULL);
}

static void
wait_calls(struct seen *seen, unsigned calls)
{
    pthread_mutex_lock(&seen->lock);
    while (seen->calls < calls)
        pthread_cond_wait(&seen->changed, &seen->lock);
    pthread_mutex_unlock(&seen->lock);
}

static struct http_listener *
open_with(struct seen *seen, struct http_listener_settings settings)
{
    struct http_listener *listener = NULL;
    struct cc_err err = { 0 };

    seen_init(seen);
    settings.handler = echo;
    settings.handler_arg = seen;
    if (settings.listen == NULL)
        settings.listen = "127.0.0.1:0";
    if (http_listener_open(&settings, &listener, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return listener;
}

/* ---- the table: bytes on the wire and what must come of them ---- */

struct raw_case {
    const char *name;
    const char *bytes;
    size_t len;            /* 0: strlen */
    int want_status;       /* 0: closed without an answer */
    const char *want_line; /* what the handler answered, in part */
};

#define BYTES(text) (text), sizeof(text) - 1

static const struct raw_case cases[] = {
    /* good ones */
    { "plain GET", BYTES("GET / HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200,
            "<GET / q=- x=- b= p=127.0.0.1>" },
    { "query", BYTES("GET /a/b?q=1%202+3&z HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200,
            "<GET /a/b q=1 2 3 x=-" },
    { "empty query", BYTES("GET /a?q= HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200, "q= x" },
    { "name in the query only decoded once", BYTES("GET /?q=%2541 HTTP/1.1\r\n" HOST CLOSE "\r\n"),
            200, "q=%41 " },
    { "query as it came", BYTES("GET /?q=a+b%2B%2f%3D HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200,
            "q=a b+/= x=- b= p=127.0.0.1>{12:a+b%2B%2f%3D}" },
    { "query twice", BYTES("GET /?q=1&x=2&q=3 HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200,
            "q=1 x=- b= p=127.0.0.1>{1:1}" },
    { "query without value", BYTES("GET /?&&q&x HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200,
            "q= x=- b= p=127.0.0.1>{0:}" },
    { "equals in a value", BYTES("GET /?q==a=b= HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200,
            "q==a=b= x=- b= p=127.0.0.1>{5:=a=b=}" },
    { "no such query", BYTES("GET /?Q=1 HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200, "q=- " },
    { "escaped path", BYTES("GET /a%28%27x%27%29 HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200, "/a('x')" },
    { "last slash", BYTES("GET /a/ HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200, "<GET /a/ " },
    { "dots in names", BYTES("GET /.well-known/a..b/...c HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200,
            "/...c" },
    { "UTF-8", BYTES("GET /%C3%A9 HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200, "/\xC3\xA9 " },
    { "header without blank", BYTES("GET / HTTP/1.1\r\nHost:x\r\nX-A:1\r\n" CLOSE "\r\n"), 200,
            "x=1" },
    { "header in any case", BYTES("GET / HTTP/1.1\r\nhOST: x\r\nX-a: 1\r\n" CLOSE "\r\n"), 200,
            "x=1" },
    { "empty header", BYTES("GET / HTTP/1.1\r\n" HOST "X-A:\r\n" CLOSE "\r\n"), 200, "x= b" },
    { "tab before value", BYTES("GET / HTTP/1.1\r\n" HOST "X-A:\t 1\r\n" CLOSE "\r\n"), 200,
            "x=1" },
    { "POST", BYTES("POST / HTTP/1.1\r\n" HOST CLOSE "Content-Length: 5\r\n\r\nhello"), 200,
            "b=hello" },
    { "POST of nothing", BYTES("POST / HTTP/1.1\r\n" HOST CLOSE "Content-Length: 0\r\n\r\n"), 200,
            "b= p" },
    { "PUT", BYTES("PUT /x HTTP/1.1\r\n" HOST CLOSE "Content-Length: 1\r\n\r\n1"), 200, "<PUT /x" },
    { "PATCH", BYTES("PATCH /x HTTP/1.1\r\n" HOST CLOSE "Content-Length: 1\r\n\r\n1"), 200,
            "<PATCH /x" },
    { "DELETE", BYTES("DELETE /x HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200, "<DELETE /x" },
    { "DELETE with body", BYTES("DELETE /x HTTP/1.1\r\n" HOST CLOSE "Content-Length: 1\r\n\r\n1"),
            200, "b=1" },
    { "POST without type, with query",
            BYTES("POST /?q=PKIOperation HTTP/1.1\r\n" HOST CLOSE
                  "Content-Length: 3\r\n\r\n\x30\x01z"),
            200, "q=PKIOperation x=- b=\x30\x01z p" },
    { "HEAD", BYTES("HEAD / HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200, "" },
    { "HTTP/1.0", BYTES("GET / HTTP/1.0\r\n\r\n"), 200, "<GET /" },
    { "body at the ceiling",
            BYTES("POST / HTTP/1.1\r\n" HOST CLOSE "Content-Length: 64\r\n\r\n"
                  "0123456789012345678901234567890123456789012345678901234567890123"),
            200, "90123 p" },
    { "zeros before the length",
            BYTES("POST / HTTP/1.1\r\n" HOST CLOSE "Content-Length: 005\r\n\r\nhello"), 200,
            "b=hello" },
    { "dropped by the handler", BYTES("GET /drop HTTP/1.1\r\n" HOST CLOSE "\r\n"), 0, NULL },
    { "two in a pipe",
            BYTES("GET /one HTTP/1.1\r\n" HOST "\r\nGET /two HTTP/1.1\r\n" HOST CLOSE "\r\n"), 200,
            "/two" },

    /* length and transfer coding */
    { "two equal lengths",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello" SMUGGLED),
            400, NULL },
    { "two lengths",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello" SMUGGLED),
            400, NULL },
    { "lengths in another case",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "content-length: 0\r\nContent-Length: 5\r\n\r\n" SMUGGLED),
            400, NULL },
    { "length list", BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello" SMUGGLED),
            -1, NULL },
    { "signed length", BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello" SMUGGLED),
            -1, NULL },
    { "negative length", BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n" SMUGGLED),
            -1, NULL },
    { "hexadecimal length",
            BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\nhello" SMUGGLED), -1,
            NULL },
    { "length with blank behind",
            BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 5 \r\n\r\nhello" SMUGGLED), -1,
            NULL },
    { "empty length", BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n" SMUGGLED), -1,
            NULL },
    { "length of 2^64",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Content-Length: 18446744073709551616\r\n\r\n" SMUGGLED),
            -1, NULL },
    { "length of 2^64 + 5",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Content-Length: 18446744073709551621\r\n\r\nhello" SMUGGLED),
            -1, NULL },
    { "length above the ceiling", BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 65\r\n\r\n"),
            413, NULL },
    { "huge length", BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 9999999999\r\n\r\n"), 413,
            NULL },
    { "no length", BYTES("POST / HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 411, NULL },
    { "PUT without length", BYTES("PUT / HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 411, NULL },
    { "GET with body", BYTES("GET / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello" SMUGGLED),
            400, NULL },
    { "HEAD with body", BYTES("HEAD / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello" SMUGGLED),
            400, NULL },
    { "chunked",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED),
            501, NULL },
    { "chunked and length",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED),
            501, NULL },
    { "length and chunked",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" SMUGGLED),
            501, NULL },
    { "chunked twice",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" SMUGGLED),
            501, NULL },
    { "unknown coding",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" SMUGGLED),
            501, NULL },
    { "identity",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n" SMUGGLED),
            501, NULL },
    { "GET chunked",
            BYTES("GET / HTTP/1.1\r\n" HOST "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n" SMUGGLED),
            501, NULL },
    { "coding with tab",
            BYTES("POST / HTTP/1.1\r\n" HOST
                  "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" SMUGGLED),
            501, NULL },

    /* names and line ends */
    { "blank before the colon",
            BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length : 36\r\n\r\n" SMUGGLED), 400, NULL },
    { "tab before the colon",
            BYTES("GET / HTTP/1.1\r\n" HOST "Transfer-Encoding\t: chunked\r\n\r\n" SMUGGLED), 400,
            NULL },
    { "no colon", BYTES("GET / HTTP/1.1\r\n" HOST "nonsense\r\n\r\n" SMUGGLED), -1, NULL },
    { "no name", BYTES("GET / HTTP/1.1\r\n" HOST ": x\r\n\r\n" SMUGGLED), -1, NULL },
    { "bad byte in a name", BYTES("GET / HTTP/1.1\r\n" HOST "X(A): 1\r\n\r\n" SMUGGLED), 400,
            NULL },
    { "high byte in a name", BYTES("GET / HTTP/1.1\r\n" HOST "X\xC3\xA9: 1\r\n\r\n" SMUGGLED), 400,
            NULL },
    { "control byte in a value", BYTES("GET / HTTP/1.1\r\n" HOST "X-A: a\x01z\r\n\r\n" SMUGGLED),
            400, NULL },
    { "NUL in a value", BYTES("GET / HTTP/1.1\r\n" HOST "X-A: a\0z\r\n" CLOSE "\r\n" SMUGGLED), 400,
            NULL },
    { "NUL in a name", BYTES("GET / HTTP/1.1\r\n" HOST "X\0A: a\r\n" CLOSE "\r\n" SMUGGLED), -1,
            NULL },
    { "NUL in the last value",
            BYTES("GET / HTTP/1.1\r\n" HOST CLOSE "X-A: a\0Transfer-Encoding: chunked\r\n\r\n"),
            400, NULL },
    { "folded", BYTES("GET / HTTP/1.1\r\n" HOST "X-A: 1\r\n folded\r\n" CLOSE "\r\n" SMUGGLED), 400,
            NULL },
    { "folded at the end",
            BYTES("GET / HTTP/1.1\r\n" HOST CLOSE "X-A: 1\r\n folded\r\n\r\n" SMUGGLED), 400,
            NULL },
    { "folded length", BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n 6\r\n\r\n" SMUGGLED),
            400, NULL },
    { "folded length of GET",
            BYTES("GET / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n 6\r\n\r\n" SMUGGLED), 400,
            NULL },
    { "folded coding",
            BYTES("GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n x\r\n\r\n" SMUGGLED),
            400, NULL },
    { "coding folded to nothing",
            BYTES("GET / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n" SMUGGLED), -2,
            NULL },
    { "fold before the first name", BYTES("GET / HTTP/1.1\r\n " HOST "\r\n" SMUGGLED), -1, NULL },
    { "bare LF", BYTES("GET / HTTP/1.1\nHost: x\n\n" SMUGGLED), -1, NULL },
    { "bare LF in the header",
            BYTES("GET / HTTP/1.1\r\n" HOST "X-A: 1\nX-B: 2\r\n" CLOSE "\r\n" SMUGGLED), 400,
            NULL },
    { "bare CR in the header",
            BYTES("GET / HTTP/1.1\r\n" HOST "X-A: 1\rX-B: 2\r\n" CLOSE "\r\n" SMUGGLED), 400,
            NULL },
    { "bare CR hides a length",
            BYTES("POST / HTTP/1.1\r\n" HOST "X-A: 1\rContent-Length: 36\r\n\r\n" SMUGGLED), 400,
            NULL },
    { "bare CR behind an empty value",
            BYTES("POST / HTTP/1.1\r\n" HOST "X-A:\rContent-Length: 36\r\n\r\n" SMUGGLED), 400,
            NULL },
    { "bare CR behind the request line",
            BYTES("POST / HTTP/1.1\rContent-Length: 36\r\n" HOST "\r\n" SMUGGLED), 400, NULL },

    /* host and other single fields */
    { "no host", BYTES("GET / HTTP/1.1\r\n\r\n"), 400, NULL },
    { "two hosts", BYTES("GET / HTTP/1.1\r\n" HOST HOST "\r\n" SMUGGLED), 400, NULL },
    { "two authorizations",
            BYTES("GET / HTTP/1.1\r\n" HOST
                  "Authorization: a\r\nAuthorization: b\r\n\r\n" SMUGGLED),
            400, NULL },
    { "two content types",
            BYTES("GET / HTTP/1.1\r\n" HOST "Content-Type: a\r\nContent-Type: b\r\n\r\n" SMUGGLED),
            400, NULL },

    /* request line */
    { "unknown method", BYTES("BREW / HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 501, NULL },
    { "method in small letters", BYTES("get / HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 501, NULL },
    { "OPTIONS", BYTES("OPTIONS / HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 405, NULL },
    { "OPTIONS *", BYTES("OPTIONS * HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "TRACE", BYTES("TRACE / HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 405, NULL },
    { "CONNECT", BYTES("CONNECT x:443 HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "long method", BYTES("GETGETGETGETGETGETGETGETGET / HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 501,
            NULL },
    { "HTTP/0.9", BYTES("GET /\r\n\r\n"), -1, NULL },
    { "HTTP/1.2", BYTES("GET / HTTP/1.2\r\n" HOST "\r\n" SMUGGLED), -1, NULL },
    { "HTTP/2.0", BYTES("GET / HTTP/2.0\r\n" HOST "\r\n" SMUGGLED), -1, NULL },
    { "http/1.1", BYTES("GET / http/1.1\r\n" HOST "\r\n" SMUGGLED), -1, NULL },
    { "no HTTP at all", BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), -1, NULL },
    { "two blanks before the path", BYTES("GET  / HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "two blanks behind the path", BYTES("GET /  HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), -1, NULL },
    { "blank in the path", BYTES("GET /a b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), -1, NULL },
    { "NUL in the path", BYTES("GET /a\0b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), -1, NULL },
    { "absolute form", BYTES("GET http://x/ HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "relative", BYTES("GET a HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "fragment", BYTES("GET /a#b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "double slash", BYTES("GET //a HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "double slash inside", BYTES("GET /a//b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "dot", BYTES("GET /a/./b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "dot dot", BYTES("GET /a/../b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "dot dot at the end", BYTES("GET /a/.. HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "escaped dot dot", BYTES("GET /a/%2e%2E/b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "escaped slash", BYTES("GET /a%2fb HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "backslash", BYTES("GET /a\\b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "escaped backslash", BYTES("GET /a%5Cb HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "escaped NUL", BYTES("GET /a%00b HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "escaped NUL in the query", BYTES("GET /a?q=%00 HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400,
            NULL },
    { "escaped line end", BYTES("GET /a%0d%0ab HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "escaped DEL", BYTES("GET /a%7f HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "broken escape", BYTES("GET /a%zz HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "cut escape", BYTES("GET /a%4 HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "broken escape in the query", BYTES("GET /a?q=%4g HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400,
            NULL },
    { "not UTF-8", BYTES("GET /%ff HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "overlong UTF-8", BYTES("GET /%c0%af HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },
    { "raw high byte", BYTES("GET /\xC3\xA9 HTTP/1.1\r\n" HOST "\r\n" SMUGGLED), 400, NULL },

    /* cut short: the deadline ends them */
    { "nothing", BYTES(""), 0, NULL },
    { "half a request line", BYTES("GET / HT"), 0, NULL },
    { "half a header", BYTES("GET / HTTP/1.1\r\nHo"), 0, NULL },
    { "half a body", BYTES("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel"), 0, NULL },
};

static int
check_case(struct seen *seen, uint16_t port, const struct raw_case *c)
{
    char answer[8192];
    int fd = raw_connect(port);
    const char *last;
    int status;
    unsigned calls;
    bool smuggled;
    bool good;

    raw_send(fd, c->bytes, c->len);
    if (raw_read_all(fd, answer, sizeof(answer)) < 0)
        (void)snprintf(answer, sizeof(answer), "(not closed)");
    (void)close(fd);
    status = raw_status(answer);
    /* -1: any refusal, or none at all; -2: the same, or the field was understood as one. */
    if (c->want_status < 0)
        good = status == 0 || status == 400 || status == 413 || status == 505 ||
               (c->want_status == -2 && status == 501);
    else
        good = status == c->want_status;
    pthread_mutex_lock(&seen->lock);
    calls = seen->calls;
    smuggled = seen->smuggled;
    pthread_mutex_unlock(&seen->lock);
    last = strstr(answer, "\r\n\r\n");
    if (good && c->want_line != NULL)
        good = strstr(answer, c->want_line) != NULL && last != NULL && !smuggled;
    else if (good && c->want_status != 0)
        good = calls == 0;
    if (good && smuggled)
        good = false;
    if (!good)
        print_error("%s: status %d, %u calls, smuggled %d: %s\n", c->name, status, calls, smuggled,
                answer);
    return good ? 0 : 1;
}

static void
requests_on_the_wire(void **state)
{
    struct seen seen;
    struct http_listener *listener = open_with(&seen,
            (struct http_listener_settings){ .max_body = 64, .deadline_ms = 1000 });
    int failures = 0;
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        pthread_mutex_lock(&seen.lock);
        seen.calls = 0;
        seen.smuggled = false;
        pthread_mutex_unlock(&seen.lock);
        failures += check_case(&seen, http_listener_port(listener), &cases[i]);
    }
    http_listener_close(listener);
    assert_int_equal(failures, 0);
}

/* Field by field up to the ceiling and beyond it. */
static void
header_ceiling(void **state)
{
    static const struct {
        size_t field;
        size_t count;
        bool in_target;
        bool want_good;
    } sizes[] = {
        { 7000, 1, false, true },
        { 8200, 1, false, false },
        { 100, 60, false, true },
        { 10, 80, false, false },
        { 500, 40, false, false },
        { 30000, 1, false, false },
        { 7000, 1, true, true },
        { 9000, 1, true, false },
        { 40000, 1, true, false },
    };
    struct seen seen;
    struct http_listener *listener = open_with(&seen, (struct http_listener_settings){ 0 });
    size_t i, j;

    (void)state;
    for (i = 0; i < CC_COUNT(sizes); i++) {
        char *request = calloc(1, 100000);
        char answer[8192];
        char *at = request;
        int fd = raw_connect(http_listener_port(listener));
        int status;

        at += sprintf(at, "GET /");
        if (sizes[i].in_target) {
            memset(at, 'a', sizes[i].field);
            at += sizes[i].field;
        }
        at += sprintf(at, " HTTP/1.1\r\n" HOST CLOSE);
        for (j = 0; !sizes[i].in_target && j < sizes[i].count; j++) {
            at += sprintf(at, "X-%zu: ", j);
            memset(at, 'a', sizes[i].field);
            at += sizes[i].field;
            at += sprintf(at, "\r\n");
        }
        at += sprintf(at, "\r\n");
        raw_send(fd, request, (size_t)(at - request));
        assert_true(raw_read_all(fd, answer, sizeof(answer)) >= 0);
        status = raw_status(answer);
        if (sizes[i].want_good ? status != 200 : status == 200)
            fail_msg("case %zu: status %d", i, status);
        if (!sizes[i].want_good && status != 0)
            assert_true(status == 431 || status == 414 || status == 413);
        (void)close(fd);
        free(request);
    }
    http_listener_close(listener);
}

/* What a listener that leaves the values to its handler lets through. */
static void
raw_queries(void **state)
{
    static const struct {
        const char *query;
        int want_status;
        const char *want_line;
    } table[] = {
        { "q=MII+a/b%2B%0A%3D%3D", 200,
                "<GET /a q=MII a/b+\n== x=- b= p=127.0.0.1>{19:MII+a/b%2B%0A%3D%3D}" },
        { "q=a+%zz", 200, "<GET /a q=- x=- b= p=127.0.0.1>{5:a+%zz}" },
        { "q=%", 200, "q=- x=- b= p=127.0.0.1>{1:%}" },
        { "q=a%4", 200, "q=- x=- b= p=127.0.0.1>{3:a%4}" },
        { "q=%00", 200, "q=- x=- b= p=127.0.0.1>{3:%00}" },
        { "q=%zz&q=2", 200, "q=- x=- b= p=127.0.0.1>{3:%zz}" },
        { "q=1&q=%zz", 200, "q=1 x=- b= p=127.0.0.1>{1:1}" },
        { "x=%zz&q=1", 200, "q=1 x=- b= p=127.0.0.1>{1:1}" },
        { "x=%zz", 200, "q=- x=- b= p=127.0.0.1>{0:-}" },
        { "Q=1", 200, "q=- x=- b= p=127.0.0.1>{0:-}" },
        { "q", 200, "q= x=- b= p=127.0.0.1>{0:}" },
        { "", 200, "q=- x=- b= p=127.0.0.1>{0:-}" },
        { "%71=1", 200, "q=1 x=- b= p=127.0.0.1>{1:1}" },
        { "%zz=1", 400, NULL },
        { "q=a#b", 400, NULL },
        { "q=\xC3\xA9", 400, NULL },
        { "q=a\x01z", 400, NULL },
    };
    struct seen seen;
    struct http_listener *listener =
            open_with(&seen, (struct http_listener_settings){ .raw_query = true });
    char request[256], answer[1024];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        int fd = raw_connect(http_listener_port(listener));

        (void)snprintf(request, sizeof(request), "GET /a?%s HTTP/1.1\r\n" HOST CLOSE "\r\n",
                table[i].query);
        raw_send(fd, request, strlen(request));
        assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
        if (raw_status(answer) != table[i].want_status ||
                (table[i].want_line != NULL && strstr(answer, table[i].want_line) == NULL))
            fail_msg("%s: %s", table[i].query, answer);
        (void)close(fd);
    }
    http_listener_close(listener);
}

/* A target with a ceiling of its own takes nothing from the header, and lends it nothing. */
static void
target_ceiling(void **state)
{
    static const struct {
        size_t max_target, target, field;
        int want_status;
    } sizes[] = {
        { 16384, 16384, 1, 200 },
        { 16384, 16385, 1, 414 },
        { 16384, 16384, 8000, 200 },
        { 16384, 16384, 8200, 431 },
        { 16384, 50, 8000, 200 },
        { 16384, 50, 8200, 431 },
        { 16384, 9000, 15000, 431 },
        { 16384, 50, 60000, 431 },
        { 16384, 60000, 1, 414 },
        { 60, 60, 8000, 200 },
        { 60, 61, 1, 414 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(sizes); i++) {
        struct seen seen;
        struct http_listener *listener = open_with(&seen,
                (struct http_listener_settings){ .max_target = sizes[i].max_target });
        char *request = calloc(1, 100000);
        char answer[8192], want[32];
        int fd = raw_connect(http_listener_port(listener));
        size_t value = sizes[i].target - strlen("/?q=");
        char *at = request;

        at += sprintf(at, "GET /?q=");
        memset(at, '+', value);
        at += value;
        at += sprintf(at, " HTTP/1.1\r\n" HOST CLOSE "X-B: ");
        memset(at, 'a', sizes[i].field);
        at += sizes[i].field;
        at += sprintf(at, "\r\n\r\n");
        raw_send(fd, request, (size_t)(at - request));
        assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
        if (raw_status(answer) != sizes[i].want_status)
            fail_msg("case %zu: %s", i, answer);
        (void)snprintf(want, sizeof(want), "{%zu:+++", value);
        if (sizes[i].want_status == 200)
            assert_non_null(strstr(answer, want));
        (void)close(fd);
        free(request);
        http_listener_close(listener);
    }
}

/* They know no chunks, and that the answer is over from the end of the connection. */
static void
old_clients_are_answered(void **state)
{
    static const char *const requests[] = {
        "GET /old?q=GetCACaps HTTP/1.0\r\n\r\n",
        "GET /old HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST /old HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        "POST /old HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
        "POST /old HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
    };
    struct seen seen;
    struct http_listener *listener = open_with(&seen, (struct http_listener_settings){ 0 });
    char answer[1024], want[64];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(requests); i++) {
        int fd = raw_connect(http_listener_port(listener));
        const char *body;

        raw_send(fd, requests[i], strlen(requests[i]));
        assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
        assert_int_equal(raw_status(answer), 200);
        assert_non_null(body = strstr(answer, "\r\n\r\n"));
        (void)snprintf(want, sizeof(want), "Content-Length: %zu\r\n", strlen(body + 4));
        if (strstr(answer, want) == NULL || strstr(answer, "<") == NULL ||
                strstr(answer, "Transfer-Encoding") != NULL || strstr(answer, " 100 ") != NULL)
            fail_msg("%s: %s", requests[i], answer);
        (void)close(fd);
    }
    http_listener_close(listener);
}

/* A client that asks first is told to go on, or at once that it need not. */
static void
expectations_are_met(void **state)
{
    struct seen seen;
    struct http_listener *listener =
            open_with(&seen, (struct http_listener_settings){ .max_body = 64 });
    uint16_t port = http_listener_port(listener);
    char answer[1024];
    int fd = raw_connect(port);

    (void)state;
    raw_send(fd, BYTES("POST / HTTP/1.1\r\n" HOST CLOSE
                       "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    assert_true(raw_read_until(fd, "HTTP/1.1 100 Continue\r\n\r\n", answer, sizeof(answer)));
    assert_int_equal(seen.calls, 0);
    raw_send(fd, BYTES("hello"));
    assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
    assert_int_equal(raw_status(answer), 200);
    assert_non_null(strstr(answer, "b=hello"));
    (void)close(fd);

    fd = raw_connect(port);
    raw_send(fd, BYTES("POST / HTTP/1.1\r\n" HOST CLOSE
                       "Content-Length: 65\r\nExpect: 100-continue\r\n\r\n"));
    assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
    assert_int_equal(raw_status(answer), 413);
    (void)close(fd);

    /* Nothing to wait for: the answer comes, with or without a word before it. */
    fd = raw_connect(port);
    raw_send(fd, BYTES("POST / HTTP/1.1\r\n" HOST CLOSE
                       "Content-Length: 0\r\nExpect: 100-continue\r\n\r\n"));
    assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
    assert_non_null(strstr(answer, "HTTP/1.1 200 OK\r\n"));
    (void)close(fd);
    http_listener_close(listener);
}

/* One byte now and then does not help: the deadline is of the whole request. */
static void
slow_peers_are_cut(void **state)
{
    static const char request[] =
            "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\nslow and slower still";
    struct seen seen;
    struct http_listener *listener =
            open_with(&seen, (struct http_listener_settings){ .deadline_ms = 500 });
    int fd = raw_connect(http_listener_port(listener));
    int64_t start = cc_clock_mono_ms();
    size_t sent = 0;
    bool closed = false;

    (void)state;
    while (!closed && cc_clock_mono_ms() - start < RAW_WAIT_MS) {
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        char byte;

        if (sent < sizeof(request) - 1)
            raw_send(fd, request + sent++, 1);
        closed = poll(&pfd, 1, 20) == 1 && recv(fd, &byte, 1, 0) <= 0;
    }
    assert_true(closed);
    assert_true(cc_clock_mono_ms() - start >= 450);
    assert_int_equal(seen.calls, 0);
    (void)close(fd);
    http_listener_close(listener);
}

/* Idle and half-sent connections take the room; a good client comes through at once all the same. */
static void
slow_crowd_gives_way(void **state)
{
    struct seen seen;
    struct http_listener *listener = open_with(&seen,
            (struct http_listener_settings){ .max_connections = 32, .deadline_ms = 60000 });
    int fds[200];
    char answer[1024];
    int fd;
    size_t i;
    int64_t start;

    (void)state;
    for (i = 0; i < CC_COUNT(fds); i++) {
        fds[i] = raw_connect(http_listener_port(listener));
        raw_send(fds[i], "GET / HTTP/1.1\r\nX:", i % 19);
    }
    start = cc_clock_mono_ms();
    fd = raw_connect(http_listener_port(listener));
    raw_send(fd, BYTES("GET /good HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
    assert_int_equal(raw_status(answer), 200);
    assert_true(cc_clock_mono_ms() - start < 5000);
    (void)close(fd);
    for (i = 0; i < CC_COUNT(fds); i++)
        (void)close(fds[i]);
    http_listener_close(listener);
}

/* A byte on each connection; one that was closed is opened again. */
static void
trickle(int *fds, size_t count, size_t round, uint16_t port)
{
    static const char request[] = "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n";

    for (size_t i = 0; i < count; i++) {
        char byte;

        if (recv(fds[i], &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN) {
            (void)close(fds[i]);
            fds[i] = raw_connect(port);
        }
        raw_send(fds[i], request + round % (sizeof(request) - 1), 1);
    }
}

/* Many more than there is room for, each of them sending and none ever done, and all of them back as soon as cut. */
static void
good_clients_pass_a_slow_crowd(void **state)
{
    enum { CROWD = 2000, ROUNDS = 5 };
    struct rlimit files, before;
    int *fds = calloc(CROWD, sizeof(*fds));
    struct http_listener *listener;
    struct seen seen;
    uint16_t port;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    files = before;
    if (files.rlim_max < 4096)
        skip();
    files.rlim_cur = files.rlim_cur < 4096 ? 4096 : files.rlim_cur;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    listener = open_with(&seen,
            (struct http_listener_settings){ .max_connections = 512, .deadline_ms = 60000 });
    port = http_listener_port(listener);
    for (size_t i = 0; i < CROWD; i++)
        fds[i] = raw_connect(port);
    for (size_t round = 0; round < ROUNDS; round++) {
        int64_t start = cc_clock_mono_ms();
        int fd = raw_connect(port);
        char answer[1024];

        /* In two parts, with the crowd's next bytes and newcomers between them. */
        raw_send(fd, BYTES("POST /good HTTP/1.1\r\n" HOST CLOSE "Content-Length: 5\r\n\r\nhe"));
        trickle(fds, 400, round, port);
        raw_send(fd, BYTES("llo"));
        assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
        assert_int_equal(raw_status(answer), 200);
        assert_true(cc_clock_mono_ms() - start < 5000);
        (void)close(fd);
        trickle(fds, CROWD, round, port);
    }
    assert_int_equal(seen.calls, ROUNDS);
    for (size_t i = 0; i < CROWD; i++)
        (void)close(fds[i]);
    http_listener_close(listener);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    free(fds);
}

static void
one_address_has_a_bound(void **state)
{
    struct seen seen;
    struct http_listener *listener =
            open_with(&seen, (struct http_listener_settings){ .max_connections_per_address = 2,
                                     .deadline_ms = 60000 });
    uint16_t port = http_listener_port(listener);
    char answer[1024];
    int first = raw_connect(port);
    int second = raw_connect(port);
    int third, other;

    (void)state;
    /* Answered ones are certainly counted. */
    raw_send(first, BYTES("GET /a HTTP/1.1\r\n" HOST "\r\n"));
    raw_send(second, BYTES("GET /a HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(raw_read_until(first, "p=127.0.0.1>", answer, sizeof(answer)));
    assert_true(raw_read_until(second, "p=127.0.0.1>", answer, sizeof(answer)));
    third = raw_connect(port);
    raw_send(third, BYTES("GET /b HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_int_equal(raw_read_all(third, answer, sizeof(answer)), 0);
    other = raw_connect_from("127.0.0.9", port);
    raw_send(other, BYTES("GET /c HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_true(raw_read_all(other, answer, sizeof(answer)) > 0);
    assert_non_null(strstr(answer, "p=127.0.0.9>"));
    (void)close(first);
    (void)close(second);
    (void)close(third);
    (void)close(other);
    http_listener_close(listener);
}

/* Every connection is held by a handler, so a newcomer is told. */
static void
full_house_says_so(void **state)
{
    struct seen seen;
    struct http_listener *listener =
            open_with(&seen, (struct http_listener_settings){ .max_connections = 2 });
    uint16_t port = http_listener_port(listener);
    char answer[1024];
    int fds[2];
    int fd;
    unsigned i;

    (void)state;
    for (i = 0; i < 2; i++) {
        fds[i] = raw_connect(port);
        raw_send(fds[i], BYTES("GET /keep HTTP/1.1\r\n" HOST CLOSE "\r\n"));
        wait_calls(&seen, i + 1);
    }
    fd = raw_connect(port);
    raw_send(fd, BYTES("GET / HTTP/1.1\r\n" HOST "\r\n"));
    assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
    assert_int_equal(raw_status(answer), 503);
    assert_non_null(strstr(answer, "Retry-After: "));
    (void)close(fd);
    for (i = 0; i < 2; i++)
        http_exchange_reply(seen.kept[i], 204, NULL, 0, NULL, NULL, 0);
    for (i = 0; i < 2; i++) {
        assert_true(raw_read_all(fds[i], answer, sizeof(answer)) > 0);
        assert_int_equal(raw_status(answer), 204);
        (void)close(fds[i]);
    }
    http_listener_close(listener);
}

static void
full_queue_says_so(void **state)
{
    struct seen seen;
    struct http_listener *listener =
            open_with(&seen, (struct http_listener_settings){ .workers = 1, .queue_max = 1 });
    uint16_t port = http_listener_port(listener);
    char answer[1024];
    int fds[8];
    unsigned refused = 0;
    size_t i;

    (void)state;
    pthread_mutex_lock(&seen.lock);
    seen.gate_shut = true;
    pthread_mutex_unlock(&seen.lock);
    fds[0] = raw_connect(port);
    raw_send(fds[0], BYTES("GET /gate HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    wait_calls(&seen, 1);
    /* One waits in the queue, all others are told; which one is the listener's affair. */
    for (i = 1; i < CC_COUNT(fds); i++) {
        fds[i] = raw_connect(port);
        raw_send(fds[i], BYTES("GET /quick HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    }
    while (refused < CC_COUNT(fds) - 2) {
        struct pollfd pfds[CC_COUNT(fds)];

        for (i = 0; i < CC_COUNT(fds); i++)
            pfds[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
        assert_true(poll(pfds, CC_COUNT(fds), RAW_WAIT_MS) > 0);
        for (i = 0; i < CC_COUNT(fds); i++) {
            if (pfds[i].revents == 0)
                continue;
            assert_true(raw_read_all(fds[i], answer, sizeof(answer)) > 0);
            assert_int_equal(raw_status(answer), 503);
            (void)close(fds[i]);
            fds[i] = -1;
            refused++;
        }
    }
    pthread_mutex_lock(&seen.lock);
    seen.gate_shut = false;
    pthread_cond_broadcast(&seen.changed);
    pthread_mutex_unlock(&seen.lock);
    for (i = 0; i < CC_COUNT(fds); i++) {
        if (fds[i] < 0)
            continue;
        assert_true(raw_read_all(fds[i], answer, sizeof(answer)) > 0);
        assert_int_equal(raw_status(answer), 200);
        (void)close(fds[i]);
    }
    http_listener_close(listener);
}

/* Closing answers what nobody answered, and a late reply touches nothing that is gone. */
static void
close_answers_the_rest(void **state)
{
    struct seen seen;
    struct http_listener *listener =
            open_with(&seen, (struct http_listener_settings){ .workers = 2 });
    uint16_t port = http_listener_port(listener);
    char answer[1024];
    int fds[20];
    unsigned i;

    (void)state;
    for (i = 0; i < CC_COUNT(fds); i++) {
        fds[i] = raw_connect(port);
        raw_send(fds[i], BYTES("POST /keep HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbody"));
    }
    wait_calls(&seen, CC_COUNT(fds));
    http_listener_close(listener);
    for (i = 0; i < CC_COUNT(fds); i++) {
        assert_true(raw_read_all(fds[i], answer, sizeof(answer)) > 0);
        assert_int_equal(raw_status(answer), 503);
        (void)close(fds[i]);
        assert_string_equal(http_exchange_path(seen.kept[i]), "/keep");
        assert_int_equal(http_exchange_body(seen.kept[i]).len, 4);
        assert_string_equal(http_exchange_header(seen.kept[i], "HOST"), "x");
        if (i % 2 == 0)
            http_exchange_reply(seen.kept[i], 200, NULL, 0, NULL, "late", 4);
        else
            http_exchange_drop(seen.kept[i]);
    }
}

struct closing {
    struct http_listener *listener;
    struct seen *seen;
};

static void *
answer_kept(void *arg)
{
    struct closing *closing = arg;
    unsigned done = 0;

    while (done < 16) {
        struct http_exchange *exchange = NULL;

        pthread_mutex_lock(&closing->seen->lock);
        while (closing->seen->kept_count <= done)
            pthread_cond_wait(&closing->seen->changed, &closing->seen->lock);
        exchange = closing->seen->kept[done++];
        pthread_mutex_unlock(&closing->seen->lock);
        http_exchange_reply(exchange, 200, NULL, 0, NULL, "x", 1);
    }
    return NULL;
}

/* Replies from another thread while the listener closes: whoever comes first, each peer hears one answer. */
static void
close_races_with_replies(void **state)
{
    unsigned round;

    (void)state;
    for (round = 0; round < 20; round++) {
        struct seen seen;
        struct http_listener *listener = open_with(&seen, (struct http_listener_settings){ 0 });
        struct closing closing = { listener, &seen };
        pthread_t thread;
        char answer[1024];
        int fds[16];
        size_t i;

        for (i = 0; i < CC_COUNT(fds); i++) {
            fds[i] = raw_connect(http_listener_port(listener));
            raw_send(fds[i], BYTES("GET /keep HTTP/1.1\r\n" HOST CLOSE "\r\n"));
        }
        wait_calls(&seen, CC_COUNT(fds));
        assert_int_equal(pthread_create(&thread, NULL, answer_kept, &closing), 0);
        http_listener_close(listener);
        pthread_join(thread, NULL);
        for (i = 0; i < CC_COUNT(fds); i++) {
            assert_true(raw_read_all(fds[i], answer, sizeof(answer)) > 0);
            assert_true(raw_status(answer) == 200 || raw_status(answer) == 503);
            (void)close(fds[i]);
        }
    }
}

/* A peer that leaves while its request is held. */
static void
peer_leaves_early(void **state)
{
    struct seen seen;
    struct http_listener *listener = open_with(&seen, (struct http_listener_settings){ 0 });
    int fd = raw_connect(http_listener_port(listener));
    int64_t deadline = cc_deadline_in(5000);
    char answer[1024];

    (void)state;
    raw_send(fd, BYTES("GET /keep HTTP/1.1\r\n" HOST "\r\n"));
    wait_calls(&seen, 1);
    assert_true(http_exchange_alive(seen.kept[0]));
    (void)close(fd);
    while (http_exchange_alive(seen.kept[0]) && cc_deadline_left(deadline) > 0)
        (void)sched_yield();
    assert_false(http_exchange_alive(seen.kept[0]));
    http_exchange_reply(seen.kept[0], 200, NULL, 0, NULL, "x", 1);
    fd = raw_connect(http_listener_port(listener));
    raw_send(fd, BYTES("GET / HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
    (void)close(fd);
    http_listener_close(listener);
}

static void
unix_socket(void **state)
{
    struct seen seen;
    char folder[64], listen_on[128], path[100];
    struct http_listener *listener;
    struct http_listener *second = NULL;
    struct cc_err err = { 0 };
    struct stat st;
    char answer[1024];
    int fd;

    (void)state;
    raw_folder(folder);
    (void)snprintf(path, sizeof(path), "%s/sock", folder);
    (void)snprintf(listen_on, sizeof(listen_on), "unix:%s", path);
    listener = open_with(&seen,
            (struct http_listener_settings){ .listen = listen_on, .unix_mode = 0600 });
    assert_int_equal(http_listener_port(listener), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    fd = raw_connect_unix(path);
    assert_true(fd >= 0);
    raw_send(fd, BYTES("GET /u HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
    assert_non_null(strstr(answer, "p=unix>"));
    (void)close(fd);

    /* In use: refused, and still there for its owner. */
    assert_int_equal(http_listener_open(&(struct http_listener_settings){ .listen = listen_on,
                                                .handler = echo },
                             &second, &err),
            -1);
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, EADDRINUSE);
    fd = raw_connect_unix(path);
    assert_true(fd >= 0);
    (void)close(fd);
    http_listener_close(listener);
    assert_int_equal(access(path, F_OK), -1);

    /* Left over by a process that is gone: taken over. */
    {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        (void)close(fd);
    }
    listener = open_with(&seen, (struct http_listener_settings){ .listen = listen_on });
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    http_listener_close(listener);
    (void)rmdir(folder);
}

static void
bad_settings(void **state)
{
    static const char *const bad[] = {
        "", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x", "::1:80", "[::1]",
        "localhost:80", "[::1:80", "unix:", "unix:relative", ":80", "300.1.1.1:80", "127.0.0.1:-1",
        "unix:/nowhere/at/all/sock",
        "unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    };
    struct http_listener *listener = NULL;
    char folder[64], cert[128], key[128];
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(bad); i++) {
        struct cc_err err = { 0 };

        assert_int_equal(http_listener_open(&(struct http_listener_settings){ .listen = bad[i],
                                                    .handler = echo },
                                 &listener, &err),
                -1);
        assert_true(err.domain != CC_DOM_NONE);
        assert_null(listener);
    }
    raw_folder(folder);
    raw_make_certificate(folder, "one", "localhost");
    raw_make_certificate(folder, "two", "localhost");
    (void)snprintf(cert, sizeof(cert), "%s/one.pem", folder);
    (void)snprintf(key, sizeof(key), "%s/two.key", folder);
    for (i = 0; i < 3; i++) {
        struct cc_err err = { 0 };
        struct http_listener_settings settings = { .listen = "127.0.0.1:0",
            .handler = echo,
            .tls_certificate_file = i == 1 ? "/nowhere" : cert,
            .tls_key_file = i == 2 ? NULL : key };

        assert_int_equal(http_listener_open(&settings, &listener, &err), -1);
        assert_true(err.domain != CC_DOM_NONE);
    }
    for (i = 0; i < 2; i++) {
        (void)snprintf(cert, sizeof(cert), "%s/%s.pem", folder, i == 0 ? "one" : "two");
        (void)snprintf(key, sizeof(key), "%s/%s.key", folder, i == 0 ? "one" : "two");
        (void)unlink(cert);
        (void)unlink(key);
    }
    (void)rmdir(folder);
}

static void
ipv6_listens(void **state)
{
    struct seen seen;
    struct http_listener *listener = NULL;
    struct cc_err err = { 0 };
    struct http_listener_settings settings = { .listen = "[::1]:0",
        .handler = echo,
        .handler_arg = &seen };
    struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    char answer[1024];
    int fd;

    (void)state;
    seen_init(&seen);
    if (http_listener_open(&settings, &listener, &err) != 0) {
        /* A machine without IPv6. */
        assert_true(err.code == EADDRNOTAVAIL || err.code == EAFNOSUPPORT);
        skip();
    }
    address.sin6_port = htons(http_listener_port(listener));
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    raw_send(fd, BYTES("GET / HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
    assert_non_null(strstr(answer, "p=::1>"));
    (void)close(fd);
    http_listener_close(listener);
}

static void
opaque_paths(void **state)
{
    static const struct {
        const char *target;
        int want_status;
        const char *want_line;
    } table[] = {
        { "/ocsp/MEow//a+b=", 200, "<GET /ocsp/MEow//a+b= q=-" },
        { "/ocsp/a%2Fb%2b%3D%00%zz", 200, "<GET /ocsp/a%2Fb%2b%3D%00%zz q=-" },
        { "/ocsp/..//.\\", 200, "<GET /ocsp/..//.\\ " },
        { "/ocsp/", 200, "<GET /ocsp/ " },
        { "/ocsp/a?q=%41", 200, "<GET /ocsp/a q=A" },
        { "/ocsp", 200, "<GET /ocsp " },
        { "/OCSP/a%2Fb", 400, NULL },
        { "//ocsp/a", 400, NULL },
        { "/x/ocsp/a%2Fb", 400, NULL },
        { "/ocsp/a#b", 400, NULL },
        { "/ocsp/a\x01", 400, NULL },
        { "/ocsp/\xC3\xA9", 400, NULL },
        { "/ocsp/a?q=%zz", 400, NULL },
    };
    struct seen seen;
    struct http_listener *listener =
            open_with(&seen, (struct http_listener_settings){ .opaque_prefix = "/ocsp/" });
    char request[256], answer[1024];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        int fd = raw_connect(http_listener_port(listener));

        (void)snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" HOST CLOSE "\r\n",
                table[i].target);
        raw_send(fd, request, strlen(request));
        assert_true(raw_read_all(fd, answer, sizeof(answer)) > 0);
        if (raw_status(answer) != table[i].want_status)
            fail_msg("%s: %s", table[i].target, answer);
        if (table[i].want_line != NULL && strstr(answer, table[i].want_line) == NULL)
            fail_msg("%s: %s", table[i].target, answer);
        (void)close(fd);
    }
    http_listener_close(listener);
}

static void
answers_from_a_file(void **state)
{
    enum { SIZE = 3000000 };
    char *content = malloc(SIZE), *answer = malloc(SIZE + 1024);
    int file = memfd_create("answer", MFD_CLOEXEC);
    struct http_listener *listener;
    struct seen seen;
    ssize_t len;
    int fd;

    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (char)('a' + i % 23);
    assert_int_equal(write(file, content, SIZE), SIZE); /* and its position is its end */
    listener = open_with(&seen, (struct http_listener_settings){ .workers = 1 });
    seen.take_file = fcntl(file, F_DUPFD_CLOEXEC, 0);
    seen.file_len = SIZE;
    fd = raw_connect(http_listener_port(listener));
    raw_send(fd, BYTES("GET /file HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_true((len = raw_read_all(fd, answer, SIZE + 1024)) > SIZE);
    assert_int_equal(raw_status(answer), 200);
    assert_non_null(strstr(answer, "Content-Length: 3000000\r\n"));
    assert_non_null(strstr(answer, "X-Test: yes\r\n"));
    assert_memory_equal(answer + len - SIZE, content, SIZE);
    (void)close(fd);

    /* HEAD has the length, and nothing behind the header. */
    seen.take_file = fcntl(file, F_DUPFD_CLOEXEC, 0);
    fd = raw_connect(http_listener_port(listener));
    raw_send(fd, BYTES("HEAD /file HTTP/1.1\r\n" HOST CLOSE "\r\n"));
    assert_true((len = raw_read_all(fd, answer, SIZE + 1024)) > 0);
    assert_non_null(strstr(answer, "Content-Length: 3000000\r\n"));
    assert_string_equal(answer + len - 4, "\r\n\r\n");
    (void)close(fd);
    http_listener_close(listener);

    /* The descriptor was taken: closed with its answer. */
    assert_int_equal(fcntl(seen.take_file, F_GETFD), -1);
    (void)close(file);
    free(content);
    free(answer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_on_the_wire),
        cmocka_unit_test(header_ceiling),
        cmocka_unit_test(raw_queries),
        cmocka_unit_test(target_ceiling),
        cmocka_unit_test(old_clients_are_answered),
        cmocka_unit_test(expectations_are_met),
        cmocka_unit_test(slow_peers_are_cut),
        cmocka_unit_test(slow_crowd_gives_way),
        cmocka_unit_test(good_clients_pass_a_slow_crowd),
        cmocka_unit_test(one_address_has_a_bound),
        cmocka_unit_test(full_house_says_so),
        cmocka_unit_test(full_queue_says_so),
        cmocka_unit_test(close_answers_the_rest),
        cmocka_unit_test(close_races_with_replies),
        cmocka_unit_test(peer_leaves_early),
        cmocka_unit_test(unix_socket),
        cmocka_unit_test(bad_settings),
        cmocka_unit_test(ipv6_listens),
        cmocka_unit_test(opaque_paths),
        cmocka_unit_test(answers_from_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
