/* SPDX-License-Identifier: MIT */
#ifndef TESTS_RAW_PEER_H
#define TESTS_RAW_PEER_H

/* A peer that writes bytes of its choice on a socket, and a certificate made on the spot.  For tests only. */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define RAW_WAIT_MS 20000

static inline int
raw_connect_from(const char *source, uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in from = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    inet_pton(AF_INET, source, &from.sin_addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static inline int
raw_connect(uint16_t port)
{
    return raw_connect_from("127.0.0.1", port);
}

static inline int
raw_connect_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* The peer may have closed already: then there is nobody to read it. */
static inline void
raw_send(int fd, const void *data, size_t len)
{
    const char *at = data;

    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        at += sent;
        len -= (size_t)sent;
    }
}

/* All until the peer closes; returns the length, -1 when it does not in time. */
static inline ssize_t
raw_read_all(int fd, char *ret, size_t size)
{
    size_t len = 0;

    for (;;) {
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        ssize_t got;

        if (poll(&pfd, 1, RAW_WAIT_MS) != 1)
            return -1;
        got = len < size - 1 ? recv(fd, ret + len, size - 1 - len, 0) : 0;
        if (got <= 0)
            break;
        len += (size_t)got;
    }
    ret[len] = '\0';
    return (ssize_t)len;
}

/* Until the text is there. */
static inline bool
raw_read_until(int fd, const char *text, char *ret, size_t size)
{
    size_t len = 0;

    ret[0] = '\0';
    while (strstr(ret, text) == NULL) {
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        ssize_t got;

        if (len == size - 1 || poll(&pfd, 1, RAW_WAIT_MS) != 1)
            return false;
        if ((got = recv(fd, ret + len, size - 1 - len, 0)) <= 0)
            return false;
        len += (size_t)got;
        ret[len] = '\0';
    }
    return true;
}

static inline int
raw_status(const char *answer)
{
    int status = 0;

    return sscanf(answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

/* A folder of its own for the test. */
static inline void
raw_folder(char ret_path[64])
{
    (void)snprintf(ret_path, 64, "/tmp/cc-test-XXXXXX");
    assert_non_null(mkdtemp(ret_path));
}

/* folder/name.pem and folder/name.key: self-signed, for host (a DNS name) and 127.0.0.1 when it is "localhost". */
static inline void
raw_make_certificate(const char *folder, const char *name, const char *host)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509V3_CTX ctx;
    X509_EXTENSION *ext;
    char text[256];
    FILE *file;

    assert_non_null(key);
    assert_non_null(cert);
    assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
            (const unsigned char *)host, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    (void)snprintf(text, sizeof(text), "DNS:%s%s", host,
            strcmp(host, "localhost") == 0 ? ",IP:127.0.0.1" : "");
    ext = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, text);
    assert_non_null(ext);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);

    (void)snprintf(text, sizeof(text), "%s/%s.pem", folder, name);
    assert_non_null(file = fopen(text, "w"));
    assert_int_equal(PEM_write_X509(file, cert), 1);
    (void)fclose(file);
    (void)snprintf(text, sizeof(text), "%s/%s.key", folder, name);
    assert_non_null(file = fopen(text, "w"));
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

#endif
