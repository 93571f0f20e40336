/* SPDX-License-Identifier: MIT */
#include "http/probe.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http/listener.h"
#include "raw_peer.h"
#include "tls_proxy.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#define PASSWORD "a password that is long enough"
#define IN_HEADER "Y29ubmVjdG9yOmEgcGFzc3dvcmQgdGhhdCBpcyBsb25nIGVub3VnaA=="

struct refusing {
    int fd;
    bool heard; /* the password */
};

static void *
refusing_proxy(void *arg)
{
    static const char answer[] =
            "HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    struct refusing *proxy = arg;
    char head[4096];
    int fd = accept(proxy->fd, NULL, NULL);

    (void)raw_read_until(fd, "\r\n\r\n", head, sizeof(head));
    proxy->heard = strstr(head, IN_HEADER) != NULL;
    raw_send(fd, answer, strlen(answer));
    (void)close(fd);
    return NULL;
}

/* Whether a text lies in the heap of this process, in use or free. */
static bool
is_in_heap(const char *text)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long from = 0, to = 0;

    assert_non_null(maps);
    while (to == 0 && fgets(line, sizeof(line), maps) != NULL)
        if (strstr(line, "[heap]") != NULL)
            assert_int_equal(sscanf(line, "%lx-%lx", &from, &to), 2);
    (void)fclose(maps);
    assert_true(from < to);
    return memmem((const void *)from, to - from, text, strlen(text)) != NULL;
}

/* libcurl takes for good the memory that it was first told to take: the probe may well be what comes first. */
static void
leaves_no_password_behind(void **state)
{
    struct refusing proxy = { .fd = socket(AF_INET, SOCK_STREAM, 0) };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof(address);
    struct http_probe probe;
    struct cc_err err = { 0 };
    char folder[64], path[128], reference[160], url[64];
    pthread_t thread;
    int fd;

    (void)state;
#ifdef SANITIZED
    skip(); /* memory is kept elsewhere */
#endif
    raw_folder(folder);
    (void)snprintf(path, sizeof(path), "%s/password", folder);
    (void)snprintf(reference, sizeof(reference), "file:%s", path);
    assert_true((fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) >= 0);
    assert_int_equal(write(fd, PASSWORD, strlen(PASSWORD)), strlen(PASSWORD));
    (void)close(fd);
    assert_int_equal(bind(proxy.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(proxy.fd, 1), 0);
    assert_int_equal(getsockname(proxy.fd, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&thread, NULL, refusing_proxy, &proxy), 0);

    const struct http_probe_settings settings = { .url = "https://server.example/",
        .proxy = url,
        .proxy_user = "connector",
        .proxy_password = reference,
        .timeout_ms = RAW_WAIT_MS };
    assert_int_equal(http_probe(&settings, &probe, &err), 0);
    (void)shutdown(proxy.fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    (void)close(proxy.fd);
    (void)unlink(path);
    (void)rmdir(folder);

    assert_int_equal(probe.obstacle, HTTP_OBSTACLE_PROXY);
    assert_int_equal(probe.proxy_status, 407);
    assert_true(proxy.heard);
    assert_false(is_in_heap(IN_HEADER));
    assert_false(is_in_heap(PASSWORD));
}

/* ---- an https proxy ---- */

static void
answer(void *arg, struct http_exchange *exchange)
{
    (void)arg;
    http_exchange_reply(exchange, 200, NULL, 0, "text/plain", "", 0);
}

/* The files of raw_make_certificate(), and both in one. */
static void
make_certificates(const char *folder)
{
    char path[128], bytes[8192];
    size_t len = 0;
    FILE *file;

    raw_make_certificate(folder, "proxy", "localhost");
    raw_make_certificate(folder, "server", "localhost");
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s.pem", folder, i == 0 ? "proxy" : "server");
        assert_non_null(file = fopen(path, "r"));
        len += fread(bytes + len, 1, sizeof(bytes) - len, file);
        (void)fclose(file);
    }
    (void)snprintf(path, sizeof(path), "%s/both.pem", folder);
    assert_non_null(file = fopen(path, "w"));
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    (void)fclose(file);
}

static void
remove_certificates(const char *folder)
{
    static const char *const names[] = { "proxy.pem", "proxy.key", "server.pem", "server.key",
        "both.pem" };
    char path[128];

    for (size_t i = 0; i < CC_COUNT(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

static SSL_CTX *
proxy_context(const char *folder)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/proxy.pem", folder);
    assert_int_equal(SSL_CTX_use_certificate_file(ctx, path, SSL_FILETYPE_PEM), 1);
    (void)snprintf(path, sizeof(path), "%s/proxy.key", folder);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, path, SSL_FILETYPE_PEM), 1);
    return ctx;
}

/* The CA of the service is the proxy's as well, and what of the two is not trusted is told apart. */
static void
https_proxies_are_judged(void **state)
{
    static const struct {
        const char *trusted, *url;
        enum http_obstacle want;
        bool want_proxy_verify;
        unsigned want_tunnels;
    } cases[] = {
        { "both", "https://localhost/", HTTP_OBSTACLE_NONE, false, 1 },
        { "server", "https://localhost/", HTTP_OBSTACLE_PROXY, true, 0 },
        { "proxy", "https://localhost/", HTTP_OBSTACLE_TRUST, false, 2 },
        { "both", "https://elsewhere.example/", HTTP_OBSTACLE_HOST, false, 2 },
    };
    char folder[64], certificate[128], key[128], ca_file[128];
    struct http_listener *server = NULL;
    SSL_CTX *ctx;

    (void)state;
    raw_folder(folder);
    make_certificates(folder);
    ctx = proxy_context(folder);
    (void)snprintf(certificate, sizeof(certificate), "%s/server.pem", folder);
    (void)snprintf(key, sizeof(key), "%s/server.key", folder);
    assert_int_equal(http_listener_open(&(struct http_listener_settings){ .listen = "127.0.0.1:0",
                                                .handler = answer,
                                                .tls_certificate_file = certificate,
                                                .tls_key_file = key },
                             &server, NULL),
            0);
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct http_probe_settings settings = { .url = cases[i].url,
            .ca_file = ca_file,
            .timeout_ms = RAW_WAIT_MS };
        struct http_probe probe;
        struct tls_proxy proxy;

        (void)snprintf(ca_file, sizeof(ca_file), "%s/%s.pem", folder, cases[i].trusted);
        tls_proxy_open(&proxy, ctx, http_listener_port(server));
        settings.proxy = proxy.url;
        assert_int_equal(http_probe(&settings, &probe, NULL), 0);
        tls_proxy_close(&proxy);
        if (probe.obstacle != cases[i].want || proxy.tunnels != cases[i].want_tunnels ||
                (probe.proxy_verify_code != X509_V_OK) != cases[i].want_proxy_verify)
            fail_msg("case %zu: %d, verify code %ld, %u tunnels: %s", i, (int)probe.obstacle,
                    probe.proxy_verify_code, proxy.tunnels, cc_err_text(&probe.err));
    }
    http_listener_close(server);
    SSL_CTX_free(ctx);
    remove_certificates(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_no_password_behind), /* first: it is about what comes first */
        cmocka_unit_test(https_proxies_are_judged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
