/* SPDX-License-Identifier: MIT */
#ifndef TESTS_TLS_PROXY_H
#define TESTS_TLS_PROXY_H

/*
 * An https proxy that asks whoever comes for a certificate, and gives a tunnel to one port of this host, wherever one
 * wants to.  One connection at a time.  For tests only.
 */

#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>

#include "raw_peer.h"

struct tls_proxy {
    int fd;
    char url[64];
    SSL_CTX *ctx; /* with certificate and key; borrowed */
    uint16_t target;
    pthread_t thread;
    unsigned tunnels; /* given */
    unsigned shown;   /* certificates of clients */
};

static inline int
tls_proxy_take_any(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

/* Until one of both ends it. */
static inline void
tls_proxy_relay(SSL *ssl, int client, int server)
{
    char bytes[16384];

    for (;;) {
        struct pollfd fds[] = { { .fd = client, .events = POLLIN },
            { .fd = server, .events = POLLIN } };
        const bool pending = SSL_pending(ssl) > 0;
        ssize_t got;

        if (!pending && poll(fds, 2, RAW_WAIT_MS) < 1)
            return;
        if (pending || fds[0].revents != 0) {
            if ((got = SSL_read(ssl, bytes, sizeof(bytes))) <= 0)
                return;
            raw_send(server, bytes, (size_t)got);
        }
        if (!pending && fds[1].revents != 0 &&
                ((got = recv(server, bytes, sizeof(bytes), 0)) <= 0 ||
                        SSL_write(ssl, bytes, (int)got) != got))
            return;
    }
}

static inline void
tls_proxy_serve(struct tls_proxy *proxy, SSL *ssl, int client)
{
    static const char answer[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    char head[4096] = "";
    X509 *seen;
    int len = 0, got, server;

    SSL_set_verify(ssl, SSL_VERIFY_PEER, tls_proxy_take_any);
    if (SSL_set_fd(ssl, client) != 1 || SSL_accept(ssl) != 1)
        return;
    while (strstr(head, "\r\n\r\n") == NULL) {
        if ((got = SSL_read(ssl, head + len, (int)sizeof(head) - 1 - len)) <= 0)
            return;
        head[len += got] = '\0';
    }
    if ((seen = SSL_get1_peer_certificate(ssl)) != NULL)
        proxy->shown++;
    X509_free(seen);
    proxy->tunnels++;
    server = raw_connect(proxy->target);
    if (SSL_write(ssl, answer, (int)strlen(answer)) > 0)
        tls_proxy_relay(ssl, client, server);
    (void)close(server);
}

static inline void *
tls_proxy_run(void *arg)
{
    struct tls_proxy *proxy = arg;
    int fd;

    while ((fd = accept(proxy->fd, NULL, NULL)) >= 0) {
        SSL *ssl = SSL_new(proxy->ctx);

        tls_proxy_serve(proxy, ssl, fd);
        SSL_free(ssl);
        (void)close(fd);
    }
    return NULL;
}

static inline void
tls_proxy_open(struct tls_proxy *proxy, SSL_CTX *ctx, uint16_t target)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);

    *proxy = (struct tls_proxy){ .ctx = ctx, .target = target };
    assert_true((proxy->fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    assert_int_equal(bind(proxy->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(proxy->fd, 8), 0);
    assert_int_equal(getsockname(proxy->fd, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(proxy->url, sizeof(proxy->url), "https://127.0.0.1:%u", ntohs(address.sin_port));
    assert_int_equal(pthread_create(&proxy->thread, NULL, tls_proxy_run, proxy), 0);
}

/* What it counted stands still then.  Nobody may be connected any more. */
static inline void
tls_proxy_close(struct tls_proxy *proxy)
{
    (void)shutdown(proxy->fd, SHUT_RDWR);
    pthread_join(proxy->thread, NULL);
    (void)close(proxy->fd);
}

#endif
