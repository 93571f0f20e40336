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

#include "raw_peer.h"

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_no_password_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
