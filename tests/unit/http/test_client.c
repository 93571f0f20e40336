/* SPDX-License-Identifier: MIT */
#include "http/client.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http/listener.h"
#include "raw_peer.h"

#define SECRET_TOKEN "token-Vx3kQpZr81-that-must-leave-no-trace"

/* ---- a peer of our own making ---- */

static atomic_uint held_calls;
static struct http_exchange *held[48];
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t held_changed = PTHREAD_COND_INITIALIZER;

/* Answers with what was asked; some paths have a special answer. */
static void
answer(void *arg, struct http_exchange *exchange)
{
    const char *path = http_exchange_path(exchange);
    const char *fields[] = { "Authorization", "Content-Type", "X-A", "X-Empty", "User-Agent",
        "Expect", "Cookie" };
    struct cc_bytes body = http_exchange_body(exchange);
    struct http_header headers[3];
    char text[2048];
    size_t len, i;

    (void)arg;
    if (strcmp(path, "/hold") == 0) {
        pthread_mutex_lock(&held_lock);
        held[held_calls] = exchange;
        held_calls++;
        pthread_cond_broadcast(&held_changed);
        pthread_mutex_unlock(&held_lock);
        return;
    }
    if (strcmp(path, "/drop") == 0) {
        http_exchange_drop(exchange);
        return;
    }
    if (strcmp(path, "/big") == 0) {
        size_t size = (size_t)atol(http_exchange_query(exchange, "size"));
        char *big = malloc(size + 1);

        memset(big, 'b', size);
        http_exchange_reply(exchange, 200, NULL, 0, NULL, big, size);
        free(big);
        return;
    }
    if (strcmp(path, "/moved") == 0) {
        headers[0] = (struct http_header){ "Location", "/elsewhere" };
        headers[1] = (struct http_header){ "Set-Cookie", "a=b" };
        headers[2] = (struct http_header){ "x-ms-request-id", "\x1b[31mred" };
        http_exchange_reply(exchange, 302, headers, 3, "text/html", NULL, 0);
        return;
    }
    if (strcmp(path, "/later") == 0) {
        headers[0] = (struct http_header){ "Retry-After", http_exchange_query(exchange, "after") };
        headers[1] = (struct http_header){ "request-id", "4711" };
        headers[2] = (struct http_header){ "x-ms-retry-after-ms", "77" };
        http_exchange_reply(exchange, 429, headers, 3, "application/json", "{}", 2);
        return;
    }
    len = (size_t)snprintf(text, sizeof(text), "%s %s\n", http_exchange_method(exchange), path);
    for (i = 0; i < CC_COUNT(fields); i++) {
        const char *value = http_exchange_header(exchange, fields[i]);

        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s=%s\n", fields[i],
                value == NULL ? "-" : value);
    }
    len += (size_t)snprintf(text + len, sizeof(text) - len, "body=%.*s\n", (int)body.len,
            body.len == 0 ? "" : (const char *)body.data);
    http_exchange_reply(exchange, 200, NULL, 0, "text/plain", text, len);
}

struct fixture {
    struct http_listener *listener;
    struct http_client *client;
    char base[128];
    char folder[64];
    char cert[128], key[128], sock[128];
};

static struct http_client *
client_with(const struct http_client_settings *settings)
{
    struct http_client *client = NULL;
    struct cc_err err = { 0 };

    if (http_client_open(settings, &client, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return client;
}

static struct http_listener *
listener_with(struct http_listener_settings settings)
{
    struct http_listener *listener = NULL;
    struct cc_err err = { 0 };

    settings.handler = answer;
    if (settings.listen == NULL)
        settings.listen = "127.0.0.1:0";
    if (http_listener_open(&settings, &listener, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return listener;
}

static int
set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    raw_folder(f->folder);
    raw_make_certificate(f->folder, "tls", "localhost");
    (void)snprintf(f->cert, sizeof(f->cert), "%s/tls.pem", f->folder);
    (void)snprintf(f->key, sizeof(f->key), "%s/tls.key", f->folder);
    (void)snprintf(f->sock, sizeof(f->sock), "%s/sock", f->folder);
    f->listener = listener_with((struct http_listener_settings){ .tls_certificate_file = f->cert,
            .tls_key_file = f->key });
    f->client = client_with(
            &(struct http_client_settings){ .user_agent = "unit/1", .ca_file = f->cert });
    (void)snprintf(f->base, sizeof(f->base), "https://localhost:%u",
            http_listener_port(f->listener));
    held_calls = 0;
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    struct fixture *f = *state;

    http_client_close(f->client);
    http_listener_close(f->listener);
    (void)unlink(f->cert);
    (void)unlink(f->key);
    (void)rmdir(f->folder);
    free(f);
    return 0;
}

static int
get(struct http_client *client, const char *base, const char *path, struct http_response *ret,
        struct cc_err *err)
{
    char url[256];
    struct http_request request = { .method = "GET", .url = url, .timeout_ms = 10000 };

    (void)snprintf(url, sizeof(url), "%s%s", base, path);
    return http_client_send(client, &request, ret, err);
}

/* ---- tests ---- */

static void
methods_and_headers(void **state)
{
    static const struct {
        const char *method;
        const char *content_type;
        const char *body;
        const char *want;
    } cases[] = {
        { "GET", NULL, NULL,
                "GET /x\nAuthorization=Bearer " SECRET_TOKEN
                "\nContent-Type=-\nX-A=one two\nX-Empty=\n"
                "User-Agent=unit/1\nExpect=-\nCookie=-\nbody=\n" },
        { "POST", "application/json", "{}",
                "POST /x\nAuthorization=Bearer " SECRET_TOKEN
                "\nContent-Type=application/json\nX-A=one two\nX-Empty=\nUser-Agent=unit/1\nExpect=-\nCookie=-\nbody={}\n" },
        { "POST", NULL, NULL, "POST /x\nAuthorization=Bearer " SECRET_TOKEN "\nContent-Type=-\n" },
        { "POST", "text/plain", "",
                "POST /x\nAuthorization=Bearer " SECRET_TOKEN "\nContent-Type=text/plain\n" },
        { "PATCH", "text/plain", "p", "PATCH /x\n" },
        { "PUT", "text/plain", "p", "PUT /x\n" },
        { "DELETE", NULL, NULL,
                "DELETE /x\nAuthorization=Bearer " SECRET_TOKEN "\nContent-Type=-\n" },
    };
    struct fixture *f = *state;
    struct http_header headers[] = { { "X-A", "one two" }, { "X-Empty", "" } };
    struct cc_secret *token = cc_secret_copy(SECRET_TOKEN, strlen(SECRET_TOKEN), NULL);
    size_t i;

    for (i = 0; i < CC_COUNT(cases); i++) {
        char url[256];
        struct http_request request = { .method = cases[i].method,
            .url = url,
            .headers = headers,
            .header_count = 2,
            .bearer = token,
            .content_type = cases[i].content_type,
            .timeout_ms = 10000,
            .max_response = 4096 };
        struct http_response response;
        struct cc_err err = { 0 };

        if (cases[i].body != NULL)
            request.body = cc_bytes_of_str(cases[i].body);
        (void)snprintf(url, sizeof(url), "%s/x", f->base);
        http_response_init(&response);
        if (http_client_send(f->client, &request, &response, &err) != 0)
            fail_msg("%s: %s", cases[i].method, err.text);
        assert_int_equal(response.status, 200);
        assert_string_equal(response.content_type, "text/plain");
        assert_int_equal(response.retry_after_ms, -1);
        assert_int_equal(response.ms_retry_after, -1);
        assert_string_equal(response.request_id, "");
        assert_true(response.date_ms > 0 && llabs(response.date_ms - cc_clock_now_ms()) < 60000);
        if (strncmp(cc_buf_str(&response.body), cases[i].want, strlen(cases[i].want)) != 0)
            fail_msg("%s: %s", cases[i].method, cc_buf_str(&response.body));
        http_response_free(&response);
    }
    cc_secret_free(token);
}

static void
head_has_no_body(void **state)
{
    struct fixture *f = *state;
    char url[256];
    struct http_request request = { .method = "HEAD", .url = url, .timeout_ms = 10000 };
    struct http_response response;

    (void)snprintf(url, sizeof(url), "%s/x", f->base);
    assert_int_equal(http_client_send(f->client, &request, &response, NULL), 0);
    assert_int_equal(response.status, 200);
    assert_int_equal(response.body.len, 0);
    http_response_free(&response);
}

static void
answers_have_a_ceiling(void **state)
{
    static const struct {
        const char *path;
        size_t max;
        bool want_good;
    } cases[] = {
        { "/big?size=0", 1, true },
        { "/big?size=1000", 1000, true },
        { "/big?size=1001", 1000, false },
        { "/big?size=3000000", 3000000, true },
        { "/big?size=3000000", 2999999, false },
        { "/big?size=1048576", 0, true },
        { "/big?size=1048577", 0, false },
    };
    struct fixture *f = *state;
    size_t i;

    for (i = 0; i < CC_COUNT(cases); i++) {
        char url[256];
        struct http_request request = { .method = "GET",
            .url = url,
            .timeout_ms = 10000,
            .max_response = cases[i].max };
        struct http_response response;
        struct cc_err err = { 0 };
        int rc;

        http_response_init(&response);
        (void)snprintf(url, sizeof(url), "%s%s", f->base, cases[i].path);
        rc = http_client_send(f->client, &request, &response, &err);
        if ((rc == 0) != cases[i].want_good)
            fail_msg("case %zu: %d %s", i, rc, cc_err_text(&err));
        if (rc == 0)
            assert_int_equal(response.body.len, atol(strchr(cases[i].path, '=') + 1));
        else
            assert_int_equal(err.domain, CC_DOM_INPUT);
        http_response_free(&response);
    }
}

static void
redirects_and_cookies_are_not_followed(void **state)
{
    struct fixture *f = *state;
    struct http_response response;

    assert_int_equal(get(f->client, f->base, "/moved", &response, NULL), 0);
    assert_int_equal(response.status, 302);
    assert_string_equal(response.request_id, "\\x1b[31mred");
    http_response_free(&response);
    assert_int_equal(get(f->client, f->base, "/x", &response, NULL), 0);
    assert_non_null(strstr(cc_buf_str(&response.body), "Cookie=-"));
    http_response_free(&response);
}

/* RFC 1123 text of a time this many seconds from now. */
static void
http_date(int64_t in_s, char ret[64])
{
    time_t at = (time_t)(cc_clock_now_ms() / 1000 + in_s);
    struct tm tm;

    gmtime_r(&at, &tm);
    strftime(ret, 64, "%a,%%20%d%%20%b%%20%Y%%20%H:%M:%S%%20GMT", &tm);
}

static void
retry_after_forms(void **state)
{
    char soon[64], past[64], far[64];
    struct {
        const char *text;
        int64_t want_min, want_max;
    } cases[] = {
        { "0", 0, 0 },
        { "1", 1000, 1000 },
        { "120", 120000, 120000 },
        { "3600", 3600000, 3600000 },
        { "3601", 3600000, 3600000 },
        { "99999999999999999999999", 3600000, 3600000 },
        { "-5", -1, -1 },
        { "soon", -1, -1 },
        { "1.5", -1, -1 },
        { "5%20s", -1, -1 },
        { "", -1, -1 },
        { soon, 28000, 31000 },
        { past, 0, 0 },
        { far, 3600000, 3600000 },
    };
    struct fixture *f = *state;
    size_t i;

    http_date(30, soon);
    http_date(-100, past);
    http_date(100000, far);
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct http_response response;
        char path[128];

        (void)snprintf(path, sizeof(path), "/later?after=%s", cases[i].text);
        assert_int_equal(get(f->client, f->base, path, &response, NULL), 0);
        assert_int_equal(response.status, 429);
        if (response.retry_after_ms < cases[i].want_min ||
                response.retry_after_ms > cases[i].want_max)
            fail_msg("\"%s\": %lld", cases[i].text, (long long)response.retry_after_ms);
        assert_string_equal(response.request_id, "4711");
        assert_int_equal(response.ms_retry_after, 77);
        http_response_free(&response);
    }
}

static void
bad_urls_and_headers(void **state)
{
    static const char *const urls[] = { "", "localhost", "http://localhost/", "ftp://localhost/",
        "file:///etc/passwd", "https://", "https://user@localhost/", "https://user:word@localhost/",
        "gopher://localhost/", "//localhost/x", "https://local\nhost/" };
    static const struct http_header headers[] = { { "X-A", "one\r\nX-B: two" }, { "X-A", "one\n" },
        { "X\r\nA", "one" }, { "X:A", "one" } };
    struct fixture *f = *state;
    size_t i;

    for (i = 0; i < CC_COUNT(urls); i++) {
        struct http_request request = { .method = "GET", .url = urls[i], .timeout_ms = 10000 };
        struct http_response response;
        struct cc_err err = { 0 };

        if (http_client_send(f->client, &request, &response, &err) != -1 ||
                err.domain != CC_DOM_INPUT)
            fail_msg("\"%s\": %s", urls[i], cc_err_text(&err));
    }
    for (i = 0; i < CC_COUNT(headers); i++) {
        struct http_request request = { .method = "GET",
            .url = f->base,
            .headers = &headers[i],
            .header_count = 1 };
        struct http_response response;
        struct cc_err err = { 0 };

        assert_int_equal(http_client_send(f->client, &request, &response, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
    }
}

static void
tls_is_verified(void **state)
{
    struct fixture *f = *state;
    struct http_listener *wrong_name, *plain;
    struct http_client *client;
    struct http_response response;
    struct cc_err err = { 0 };
    char cert[128], key[128], base[128];

    /* Not signed by what the system trusts. */
    client = client_with(&(struct http_client_settings){ .user_agent = "unit/1" });
    assert_int_equal(get(client, f->base, "/x", &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    http_client_close(client);

    /* Another name than the one asked for. */
    raw_make_certificate(f->folder, "other", "other.example");
    (void)snprintf(cert, sizeof(cert), "%s/other.pem", f->folder);
    (void)snprintf(key, sizeof(key), "%s/other.key", f->folder);
    wrong_name = listener_with(
            (struct http_listener_settings){ .tls_certificate_file = cert, .tls_key_file = key });
    client = client_with(&(struct http_client_settings){ .ca_file = cert });
    (void)snprintf(base, sizeof(base), "https://localhost:%u", http_listener_port(wrong_name));
    cc_err_clear(&err);
    assert_int_equal(get(client, base, "/x", &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    http_client_close(client);
    http_listener_close(wrong_name);
    (void)unlink(cert);
    (void)unlink(key);

    /* A peer without TLS. */
    plain = listener_with((struct http_listener_settings){ 0 });
    (void)snprintf(base, sizeof(base), "https://localhost:%u", http_listener_port(plain));
    cc_err_clear(&err);
    assert_int_equal(get(f->client, base, "/x", &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    http_listener_close(plain);
}

static void
http_where_allowed(void **state)
{
    struct fixture *f = *state;
    struct http_listener *plain = listener_with((struct http_listener_settings){ 0 });
    struct http_client *client =
            client_with(&(struct http_client_settings){ .allow_http = true, .ca_file = f->cert });
    struct http_response response;
    char base[128];

    (void)snprintf(base, sizeof(base), "http://127.0.0.1:%u", http_listener_port(plain));
    assert_int_equal(get(client, base, "/x", &response, NULL), 0);
    assert_int_equal(response.status, 200);
    http_response_free(&response);
    assert_int_equal(get(client, f->base, "/x", &response, NULL), 0);
    http_response_free(&response);
    http_client_close(client);
    http_listener_close(plain);
}

static void
unix_sockets_and_proxies(void **state)
{
    struct fixture *f = *state;
    struct http_listener *local;
    struct http_client *client;
    struct http_response response;
    struct cc_err err = { 0 };
    char listen_on[160];

    (void)snprintf(listen_on, sizeof(listen_on), "unix:%s", f->sock);
    local = listener_with((struct http_listener_settings){ .listen = listen_on });
    client = client_with(&(struct http_client_settings){ .unix_socket = f->sock });
    assert_int_equal(get(client, "http://connector", "/over-unix", &response, NULL), 0);
    assert_non_null(strstr(cc_buf_str(&response.body), "GET /over-unix"));
    http_response_free(&response);
    http_client_close(client);
    http_listener_close(local);

    /* The environment's proxy is nobody's: no such port answers. */
    (void)setenv("https_proxy", "http://127.0.0.1:1", 1);
    (void)setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_int_equal(get(f->client, f->base, "/x", &response, &err), 0);
    http_response_free(&response);
    (void)unsetenv("https_proxy");
    (void)unsetenv("ALL_PROXY");

    /* Ours is used, and no_proxy goes past it. */
    client = client_with(
            &(struct http_client_settings){ .proxy = "http://127.0.0.1:1", .ca_file = f->cert });
    assert_int_equal(get(client, f->base, "/x", &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    http_client_close(client);
    client = client_with(&(struct http_client_settings){ .proxy = "http://127.0.0.1:1",
            .no_proxy = "localhost",
            .ca_file = f->cert });
    assert_int_equal(get(client, f->base, "/x", &response, NULL), 0);
    http_response_free(&response);
    http_client_close(client);
}

static void
no_answer_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct http_client *client = client_with(&(struct http_client_settings){ .allow_http = true });
    struct http_response response;
    struct cc_err err = { 0 };
    char url[256];
    struct http_request request = { .method = "GET", .url = url, .timeout_ms = 200 };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(address);
    int fd;

    assert_int_equal(get(f->client, f->base, "/drop", &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    assert_non_null(strstr(err.text, "https://localhost:"));
    assert_null(strstr(err.text, "/drop"));

    cc_err_clear(&err);
    assert_int_equal(get(client, "http://127.0.0.1:1", "/", &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);

    /* A peer that accepts and then says nothing. */
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", ntohs(address.sin_port));
    cc_err_clear(&err);
    assert_int_equal(http_client_send(client, &request, &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    (void)close(fd);
    http_client_close(client);
}

struct scripted {
    int fd;
    const char *bytes;
    char head[4096]; /* of the request */
};

/* Takes one connection, reads a request's head, writes the bytes, closes. */
static void *
scripted_peer(void *arg)
{
    struct scripted *s = arg;
    int fd = accept(s->fd, NULL, NULL);

    (void)raw_read_until(fd, "\r\n\r\n", s->head, sizeof(s->head));
    raw_send(fd, s->bytes, strlen(s->bytes));
    (void)close(fd);
    return NULL;
}

/* Proxies that give no tunnel, and what they were told of us. */
static void
proxies_that_refuse(void **state)
{
    static const struct {
        const char *answer, *user, *password;
        long want_code;
        const char *want_text;
        const char *want_head; /* NULL: no such header */
    } cases[] = {
        { "HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
                NULL, NULL, 407, "wants a user name and a password", NULL },
        { "HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
                "connector", "s3cr:t@", 407, "refuses the user name and password",
                "Proxy-Authorization: Basic Y29ubmVjdG9yOnMzY3I6dEA=\r\n" },
        { "HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n", "connector", NULL, 403,
                "does not let us through: it answers with status 403",
                "Proxy-Authorization: Basic Y29ubmVjdG9yOg==\r\n" },
        { "HTTP/1.1 503 X\r\n\r\n", NULL, NULL, 503, "status 503", NULL },
    };
    struct fixture *f = *state;
    char path[128], reference[160];

    (void)snprintf(path, sizeof(path), "%s/proxy.password", f->folder);
    (void)snprintf(reference, sizeof(reference), "file:%s", path);
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct scripted s = { .bytes = cases[i].answer };
        struct sockaddr_in address = { .sin_family = AF_INET,
            .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof(address);
        struct http_response response;
        struct http_client *client;
        struct cc_err err = { 0 };
        pthread_t thread;
        char proxy[64];
        FILE *file;

        s.fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(s.fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(s.fd, 1), 0);
        assert_int_equal(getsockname(s.fd, (struct sockaddr *)&address, &len), 0);
        (void)snprintf(proxy, sizeof(proxy), "http://127.0.0.1:%u", ntohs(address.sin_port));
        assert_non_null(file = fopen(path, "w"));
        (void)fputs(cases[i].password != NULL ? cases[i].password : "", file);
        (void)fclose(file);
        assert_int_equal(chmod(path, 0600), 0);
        client = client_with(&(struct http_client_settings){ .proxy = proxy,
                .proxy_user = cases[i].user,
                .proxy_password = cases[i].password != NULL ? reference : NULL,
                .ca_file = f->cert });
        assert_int_equal(pthread_create(&thread, NULL, scripted_peer, &s), 0);
        assert_int_equal(get(client, "https://server.example", "/x", &response, &err), -1);
        (void)shutdown(s.fd, SHUT_RDWR); /* in case nobody came */
        pthread_join(thread, NULL);
        (void)close(s.fd);
        if (err.domain != CC_DOM_NETWORK || err.code != cases[i].want_code ||
                strstr(err.text, cases[i].want_text) == NULL || strstr(err.text, proxy) == NULL)
            fail_msg("case %zu: %d %ld %s", i, (int)err.domain, err.code, err.text);
        assert_null(strstr(err.text, "s3cr"));
        assert_non_null(strstr(s.head, "CONNECT server.example:443 HTTP/1.1\r\n"));
        if (cases[i].want_head != NULL)
            assert_non_null(strstr(s.head, cases[i].want_head));
        else
            assert_null(strstr(s.head, "Proxy-Authorization"));
        http_client_close(client);
    }
    (void)unlink(path);
}

/* The password is looked for when it is needed, and its absence is said. */
static void
a_proxy_password_that_is_not_there(void **state)
{
    struct fixture *f = *state;
    struct http_client *client =
            client_with(&(struct http_client_settings){ .proxy = "http://127.0.0.1:1",
                    .proxy_user = "connector",
                    .proxy_password = "file:/nonexistent/password",
                    .ca_file = f->cert });
    struct http_response response;
    struct cc_err err = { 0 };

    assert_int_equal(get(client, f->base, "/x", &response, &err), -1);
    assert_non_null(strstr(err.text, "the proxy's password: "));
    http_client_close(client);
}

static void
public_addresses_only(void **state)
{
    struct fixture *f = *state;
    char url[160];
    struct http_request request = { .method = "GET",
        .url = url,
        .timeout_ms = 5000,
        .public_only = true };
    struct http_client *client = client_with(&(struct http_client_settings){ .ca_file = f->cert });
    struct http_response response;
    struct cc_err err = { 0 };

    (void)snprintf(url, sizeof(url), "%s/x", f->base);
    assert_int_equal(http_client_send(client, &request, &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    assert_non_null(strstr(err.text, "is inside of our own network"));
    request.public_only = false;
    assert_int_equal(http_client_send(client, &request, &response, NULL), 0);
    http_response_free(&response);

    /* The connection that was kept is not used for it either. */
    request.public_only = true;
    cc_err_clear(&err);
    assert_int_equal(http_client_send(client, &request, &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_NETWORK);
    assert_non_null(strstr(err.text, "is inside of our own network"));
    http_client_close(client);
}

static void
broken_answers(void **state)
{
    static const struct {
        const char *bytes;
        int want_rc;
        long want_status;
    } cases[] = {
        { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0, 200 },
        { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, 200 },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0, 200 },
        { "HTTP/1.1 204 No Content\r\n\r\n", 0, 204 },
        { "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", 0, 500 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", -1, 0 },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", -1, 0 },
        { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", -1, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Le", -1, 0 },
        { "HTTP/1.1 200 OK\r\n", -1, 0 },
        { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", -1, 0 },
        { "HTTP/1.1 200 OK\r\n\r\nuntil the end", 0, 200 },
        { "HTTP/1.1 ", -1, 0 },
        { "nonsense\r\n\r\n", -1, 0 },
        { "", -1, 0 },
    };
    struct http_client *client = client_with(&(struct http_client_settings){ .allow_http = true });
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct sockaddr_in address = { .sin_family = AF_INET,
            .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof(address);
        struct scripted script = { .fd = socket(AF_INET, SOCK_STREAM, 0), .bytes = cases[i].bytes };
        struct http_response response;
        struct cc_err err = { 0 };
        pthread_t thread;
        char base[64];
        int rc;

        assert_int_equal(bind(script.fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(script.fd, 1), 0);
        assert_int_equal(getsockname(script.fd, (struct sockaddr *)&address, &len), 0);
        assert_int_equal(pthread_create(&thread, NULL, scripted_peer, &script), 0);
        (void)snprintf(base, sizeof(base), "http://127.0.0.1:%u", ntohs(address.sin_port));
        rc = get(client, base, "/", &response, &err);
        pthread_join(thread, NULL);
        (void)close(script.fd);
        if (rc != cases[i].want_rc)
            fail_msg("case %zu: %d %s", i, rc, cc_err_text(&err));
        if (rc == 0) {
            assert_int_equal(response.status, cases[i].want_status);
            http_response_free(&response);
        } else {
            assert_int_equal(err.domain, CC_DOM_NETWORK);
        }
    }
    http_client_close(client);
}

struct long_call {
    struct fixture *f;
    int rc;
    struct cc_err err;
};

static void *
long_poll(void *arg)
{
    struct long_call *call = arg;
    char url[256];
    struct http_request request = { .method = "GET", .url = url, .timeout_ms = 60000 };
    struct http_response response;

    (void)snprintf(url, sizeof(url), "%s/hold", call->f->base);
    call->rc = http_client_send(call->f->client, &request, &response, &call->err);
    if (call->rc == 0)
        http_response_free(&response);
    return NULL;
}

/* Long polls end at once when the client is cancelled, and no later call begins. */
static void
cancel_ends_all(void **state)
{
    struct fixture *f = *state;
    struct long_call calls[4];
    pthread_t threads[4];
    struct http_response response;
    struct cc_err err = { 0 };
    int64_t start;
    size_t i;

    for (i = 0; i < CC_COUNT(calls); i++) {
        calls[i] = (struct long_call){ .f = f };
        assert_int_equal(pthread_create(&threads[i], NULL, long_poll, &calls[i]), 0);
    }
    pthread_mutex_lock(&held_lock);
    while (held_calls < CC_COUNT(calls))
        pthread_cond_wait(&held_changed, &held_lock);
    pthread_mutex_unlock(&held_lock);
    start = cc_clock_mono_ms();
    http_client_cancel(f->client);
    for (i = 0; i < CC_COUNT(calls); i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(calls[i].rc, -1);
        assert_int_equal(calls[i].err.domain, CC_DOM_CANCELLED);
        http_exchange_drop(held[i]);
    }
    assert_true(cc_clock_mono_ms() - start < 5000);
    assert_int_equal(get(f->client, f->base, "/x", &response, &err), -1);
    assert_int_equal(err.domain, CC_DOM_CANCELLED);
}

static void *
many_calls(void *arg)
{
    struct fixture *f = arg;
    int i;

    for (i = 0; i < 20; i++) {
        struct http_response response;

        if (get(f->client, f->base, "/x", &response, NULL) != 0 || response.status != 200)
            return f;
        http_response_free(&response);
    }
    return NULL;
}

static void
any_thread_may_send(void **state)
{
    pthread_t threads[6];
    size_t i;

    for (i = 0; i < CC_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many_calls, *state), 0);
    for (i = 0; i < CC_COUNT(threads); i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

/* Descriptors of this process that are connected to the port. */
static unsigned
connections_to(uint16_t port)
{
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        struct sockaddr_in peer = { 0 };
        socklen_t len = sizeof(peer);

        if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0 && peer.sin_family == AF_INET &&
                ntohs(peer.sin_port) == port)
            count++;
    }
    return count;
}

/* Calls of a busy hour keep what they were made over, and the next ones need nothing new. */
static void
connections_are_kept(void **state)
{
    struct fixture *f = *state;
    uint16_t port = http_listener_port(f->listener);
    struct long_call calls[CC_COUNT(held)];
    pthread_t threads[CC_COUNT(held)];

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < CC_COUNT(calls); i++) {
            calls[i] = (struct long_call){ .f = f };
            assert_int_equal(pthread_create(&threads[i], NULL, long_poll, &calls[i]), 0);
        }
        pthread_mutex_lock(&held_lock);
        while (held_calls < CC_COUNT(calls))
            pthread_cond_wait(&held_changed, &held_lock);
        held_calls = 0;
        for (size_t i = 0; i < CC_COUNT(calls); i++)
            http_exchange_reply(held[i], 200, NULL, 0, NULL, NULL, 0);
        pthread_mutex_unlock(&held_lock);
        for (size_t i = 0; i < CC_COUNT(calls); i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(calls[i].rc, 0);
        }
        assert_int_equal(connections_to(port), CC_COUNT(calls));
    }
}

/* Needles are split so that this program holds them nowhere in one piece. */
static bool
memory_holds(const char *first, const char *second)
{
    size_t first_len = strlen(first), second_len = strlen(second);
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char line[512];
    bool found = false;

    assert_non_null(maps);
    assert_true(mem >= 0);
    while (!found && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long begin, end;
        char mode[5];
        uint8_t *copy, *at, *stop;
        ssize_t got;

        if (sscanf(line, "%lx-%lx %4s", &begin, &end, mode) != 3 || strncmp(mode, "rw", 2) != 0 ||
                end - begin > ((size_t)256 << 20))
            continue;
        copy = mmap(NULL, end - begin, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(copy != MAP_FAILED);
        got = pread(mem, copy, end - begin, (off_t)begin);
        stop = copy + (got > 0 ? got : 0);
        for (at = copy; !found && (at = memmem(at, (size_t)(stop - at), first, first_len)) != NULL;
                at++)
            found = at + first_len + second_len <= stop &&
                    memcmp(at + first_len, second, second_len) == 0;
        munmap(copy, end - begin);
    }
    (void)fclose(maps);
    (void)close(mem);
    return found;
}

static void
nothing_secret_stays(void **state)
{
    struct fixture *f = *state;
    struct cc_secret *token = cc_secret_new(60, NULL);
    struct http_listener *plain = listener_with((struct http_listener_settings){ 0 });
    struct http_client *client = client_with(&(struct http_client_settings){ .allow_http = true });
    char url[128];
    struct http_request request = { .method = "GET",
        .url = url,
        .timeout_ms = 10000,
        .bearer = token };
    struct http_response response;
    char half[2][31];
    int i;

    (void)f;
    /* Two halves, made in place, so that the whole stands only where the client put it. */
    for (i = 0; i < 30; i++) {
        half[0][i] = (char)('a' + (i * 7 + 3) % 26);
        half[1][i] = (char)('A' + (i * 11 + 5) % 26);
    }
    half[0][30] = half[1][30] = '\0';
    memcpy(cc_secret_data(token), half[0], 30);
    memcpy(cc_secret_data(token) + 30, half[1], 30);
    assert_true(memory_holds(half[0], half[1]));
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/x", http_listener_port(plain));
    assert_int_equal(http_client_send(client, &request, &response, NULL), 0);
    assert_non_null(strstr(cc_buf_str(&response.body), half[0]));
    http_response_free(&response);
    cc_secret_free(token);
    /* The listener's library does not wipe what it read: it has to go first. */
    http_listener_close(plain);
    assert_false(memory_holds(half[0], half[1]));
    http_client_close(client);
}

static void
url_escape(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "", "" },
        { "abcXYZ019-._~", "abcXYZ019-._~" },
        { "a b+c", "a%20b%2Bc" },
        { "a/b?c&d=e", "a%2Fb%3Fc%26d%3De" },
        { "\xC3\xA9%", "%C3%A9%25" },
        { "O'Neil", "O%27Neil" },
        { "\x01\x7f", "%01%7F" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf buf = CC_BUF_INIT(100);

        assert_int_equal(http_url_escape(cases[i].text, &buf, NULL), 0);
        assert_string_equal(cc_buf_str(&buf), cases[i].want);
        cc_buf_free(&buf);
    }
    {
        struct cc_buf buf = CC_BUF_INIT(2);

        assert_int_equal(http_url_escape(" ", &buf, NULL), -1);
        cc_buf_free(&buf);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(methods_and_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(head_has_no_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_have_a_ceiling, set_up, tear_down),
        cmocka_unit_test_setup_teardown(redirects_and_cookies_are_not_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(retry_after_forms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_urls_and_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tls_is_verified, set_up, tear_down),
        cmocka_unit_test_setup_teardown(http_where_allowed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unix_sockets_and_proxies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_answer_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(proxies_that_refuse, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_proxy_password_that_is_not_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(public_addresses_only, set_up, tear_down),
        cmocka_unit_test(broken_answers),
        cmocka_unit_test_setup_teardown(cancel_ends_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_thread_may_send, set_up, tear_down),
        cmocka_unit_test_setup_teardown(connections_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_secret_stays, set_up, tear_down),
        cmocka_unit_test(url_escape),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
