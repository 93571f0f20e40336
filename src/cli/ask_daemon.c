/* SPDX-License-Identifier: MIT */
#include "ask_daemon.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "http/client.h"

#define STATUS_TIMEOUT_MS 5000
#define STATUS_ANSWER_MAX ((size_t)256 * 1024)

int
cli_knock(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd, why = 0;

    if (!cc_strcpy(address.sun_path, sizeof(address.sun_path), path))
        return ENAMETOOLONG;
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return errno;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 && errno != EAGAIN)
        why = errno; /* EAGAIN: so many wait to be let in */
    (void)close(fd);
    return why;
}

static int
ask(struct http_client *client, const char *socket, struct http_response *response,
        struct cc_err *err)
{
    const struct http_request request = {
        .method = "GET",
        .url = "http://localhost/v1/status",
        .timeout_ms = STATUS_TIMEOUT_MS,
        .max_response = STATUS_ANSWER_MAX,
    };
    struct cc_err cause = { 0 };

    if (http_client_send(client, &request, response, &cause) != 0)
        return cc_err_set(err, cause.domain, cause.code,
                "the daemon does not answer on %s: start it (systemctl start certconnectord) and look at "
                "its log when it does not stay; you must be root or of its group to ask it (%s)",
                socket, cc_err_text(&cause));
    if (response->status != 200)
        return cc_err_set(err, CC_DOM_HTTP, response->status,
                "the daemon on %s answered with status %ld: is it of another version?", socket,
                response->status);
    return 0;
}

int
cli_fetch_status(const char *socket, json_object **ret_status, struct cc_err *err)
{
    const struct http_client_settings settings = {
        .user_agent = "certconnector/" CC_VERSION,
        .unix_socket = socket,
    };
    struct http_client *client = NULL;
    struct http_response response;
    int rc = -1;

    http_response_init(&response);
    if (http_client_open(&settings, &client, err) != 0 || ask(client, socket, &response, err) != 0)
        goto out;
    if ((*ret_status = cc_json_parse(response.body.data, response.body.len, err)) == NULL) {
        cc_err_in(err, "answer of the daemon on %s", socket);
        goto out;
    }
    rc = 0;
out:
    http_response_free(&response);
    http_client_close(client);
    return rc;
}
