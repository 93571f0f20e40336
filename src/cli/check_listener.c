/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"

/* "HOST:PORT" or "[HOST]:PORT" taken apart. */
static bool
split(const char *listen, char *host, size_t host_size, char *port, size_t port_size)
{
    const char *colon = strrchr(listen, ':');
    const char *begin = listen;
    size_t len;

    if (colon == NULL || !cc_strcpy(port, port_size, colon + 1))
        return false;
    len = (size_t)(colon - listen);
    if (len >= 2 && begin[0] == '[' && begin[len - 1] == ']') {
        begin++;
        len -= 2;
    }
    if (len >= host_size)
        return false;
    memcpy(host, begin, len);
    host[len] = '\0';
    return true;
}

/* ---- where nobody listens yet ---- */

/* As the daemon's listener does it; -1 with errno. */
static int
bind_alone(int fd, const struct addrinfo *address)
{
    const int yes = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0)
        return -1;
    /* "[::]" leaves IPv4 to others. */
    if (address->ai_family == AF_INET6 &&
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) != 0)
        return -1;
    return bind(fd, address->ai_addr, address->ai_addrlen);
}

/* 0, or the errno of bind(). */
static int
try_bind(const char *host, const char *port)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
    struct addrinfo *found = NULL;
    int fd, rc = 0;

    if (getaddrinfo(host, port, &hints, &found) != 0)
        return EADDRNOTAVAIL;
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind_alone(fd, found) != 0)
        rc = errno;
    if (fd >= 0)
        (void)close(fd);
    freeaddrinfo(found);
    return rc;
}

void
check_can_listen(struct check *c, const char *listen, const char *setting)
{
    char host[128], port[16], filter[32];
    struct upkeep_finding *f;
    int rc;

    if (cc_starts_with(listen, "unix:") || !split(listen, host, sizeof(host), port, sizeof(port)))
        return;
    rc = try_bind(host, port);
    if (rc == 0) {
        check_say(c, "port", UPKEEP_OK, "%s of %s is free", listen, setting);
        return;
    }
    if (rc == EACCES) {
        check_not_tried(c, "port", listen,
                "ports below 1024 are for programs with a right that systemd gives the service "
                "(AmbientCapabilities=CAP_NET_BIND_SERVICE)");
        return;
    }
    f = check_say(c, "port", UPKEEP_ERROR, "the daemon cannot listen on %s (%s)", listen, setting);
    upkeep_cause(f,
            rc == EADDRINUSE ? "another program listens there"
                             : "this machine has no such address: %s",
            strerror(rc)); /* NOLINT(concurrency-mt-unsafe) */
    upkeep_cure(f,
            rc == EADDRINUSE ? "end that program, which ss names, or choose another port in %s"
                             : "correct %s",
            setting);
    if (rc != EADDRINUSE)
        return;
    (void)snprintf(filter, sizeof(filter), "sport = :%s", port);
    UPKEEP_COMMAND(f, "ss", "-ltnp", filter);
}

/* ---- where the daemon listens ---- */

static bool
make_url(const char *listen, const char *path, char *ret, size_t size)
{
    char host[128], port[16];

    if (cc_starts_with(listen, "unix:"))
        return (size_t)snprintf(ret, size, "http://localhost%s", path) < size;
    if (!split(listen, host, sizeof(host), port, sizeof(port)))
        return false;
    /* Of "any address" the loopback is one. */
    if (strcmp(host, "0.0.0.0") == 0)
        (void)cc_strcpy(host, sizeof(host), "127.0.0.1");
    if (strcmp(host, "::") == 0)
        (void)cc_strcpy(host, sizeof(host), "::1");
    return (size_t)snprintf(ret, size,
                   strchr(host, ':') != NULL ? "http://[%s]:%s%s" : "http://%s:%s%s", host, port,
                   path) < size;
}

int
check_get(const char *listen, const char *path, struct http_response *response, struct cc_err *err)
{
    const struct http_client_settings settings = {
        .user_agent = "certconnector-check/" CC_VERSION,
        .unix_socket = cc_starts_with(listen, "unix:") ? listen + strlen("unix:") : NULL,
        .allow_http = true,
    };
    char url[1024];
    const struct http_request request = { .method = "GET",
        .url = url,
        .timeout_ms = CHECK_NETWORK_MS,
        .max_response = (size_t)64 << 20 };
    struct http_client *client = NULL;
    int rc = -1;

    if (!make_url(listen, path, url, sizeof(url)))
        return cc_err_set(err, CC_DOM_INPUT, 0, "%s is no address", listen);
    if (http_client_open(&settings, &client, err) == 0)
        rc = http_client_send(client, &request, response, err);
    http_client_close(client);
    if (rc != 0)
        return cc_err_in(err, "%s", url);
    if (response->status != 200)
        return cc_err_set(err, CC_DOM_HTTP, response->status, "%s answers with status %ld", url,
                response->status);
    return 0;
}

/* ---- the listener of [metrics] ---- */

static void
check_health(struct check *c, const char *listen)
{
    struct http_response response;
    struct cc_err err = { 0 };
    struct upkeep_finding *f;

    http_response_init(&response);
    if (check_get(listen, "/healthz", &response, &err) == 0) {
        check_say(c, "metrics", UPKEEP_OK, "metrics are shown on %s", listen);
    } else {
        f = check_say(c, "metrics", UPKEEP_ERROR, "no metrics are shown on %s", listen);
        upkeep_cause(f, "%s", cc_err_text(&err));
        upkeep_cure(f,
                "reload the daemon if [metrics] listen was changed; else its log says what is wrong with the listener");
    }
    http_response_free(&response);
}

void
check_metrics(struct check *c)
{
    const char *listen = c->config->metrics.listen;

    if (listen == NULL)
        return;
    if (c->status != NULL)
        check_health(c, listen);
    else
        check_can_listen(c, listen, "[metrics] listen");
}
