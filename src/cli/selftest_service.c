/* SPDX-License-Identifier: MIT */

/* The running daemon, and the service as far as no work is taken from it. */

#include "selftest_int.h"

#include <stdio.h>
#include <string.h>

#include "ask_daemon.h"
#include "base/json.h"
#include "intune/probe.h"

#define ANSWER_MAX 4096
#define URL_MAX 2048

/* ---- the daemon ---- */

static const char *
text_of(json_object *status, const char *part, const char *name)
{
    json_object *obj = NULL;

    return cc_json_get_object(status, part, &obj, NULL) == 0 ? selftest_text(obj, name) : NULL;
}

/* state is the good one, or why not. */
static int
need(json_object *status, const char *part, const char *name, const char *good, struct cc_err *err)
{
    const char *found = text_of(status, part, name), *why = text_of(status, part, "lastError");
    char shown[256];

    if (found != NULL && strcmp(found, good) == 0)
        return 0;
    return cc_err_set(err, CC_DOM_INPUT, 0, "%s: %s%s%s", part, found != NULL ? found : "unknown",
            why != NULL ? ": " : "", why != NULL ? cc_escape_into(shown, sizeof(shown), why) : "");
}

static int
need_feature(json_object *status, const char *name, struct cc_err *err)
{
    json_object *list = NULL;

    if (cc_json_get_array(status, "features", &list, err) != 0)
        return -1;
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        json_object *one = json_object_array_get_idx(list, i);

        if (json_object_is_type(one, json_type_string) &&
                strcmp(json_object_get_string(one), name) == 0)
            return 0;
    }
    return cc_err_set(err, CC_DOM_INPUT, 0,
            "the daemon does not do %s: was the configuration changed since it read it?", name);
}

static int
look_at_daemon(struct selftest *st, struct cc_err *err)
{
    static const struct {
        unsigned feature;
        const char *name;
    } wanted[] = { { CONFIG_PKCS, "pkcs" }, { CONFIG_PFX_IMPORT, "pfx-import" },
        { CONFIG_SCEP, "scep" }, { CONFIG_REVOCATION, "revocation" } };
    const char *name, *version;

    if (cli_fetch_status(st->config->connector.control_socket, &st->status, err) != 0)
        return -1;
    name = selftest_text(st->status, "name");
    version = selftest_text(st->status, "version");
    (void)snprintf(st->detail, sizeof(st->detail), "%s, version %s", name != NULL ? name : "?",
            version != NULL ? version : "?");
    for (size_t i = 0; i < CC_COUNT(wanted); i++)
        if ((st->features & wanted[i].feature) != 0 &&
                need_feature(st->status, wanted[i].name, err) != 0)
            return -1;
    if (need(st->status, "token", "state", "open", err) != 0)
        return -1;
    return need(st->status, "service", "contact", "ok", err);
}

int
selftest_daemon(struct selftest *st)
{
    static const struct selftest_step steps[] = {
        { "it runs, with its token and its service", look_at_daemon },
    };

    return selftest_run_steps(st, "daemon", steps, CC_COUNT(steps));
}

static int
post(struct http_client *client, struct http_response *response, struct cc_err *err)
{
    const struct http_request request = {
        .method = "POST",
        .url = "http://localhost/v1/poll",
        .timeout_ms = SELFTEST_CALL_MS,
        .max_response = ANSWER_MAX,
    };
    char shown[256];
    size_t len;

    if (http_client_send(client, &request, response, err) != 0)
        return -1;
    if (response->status == 202)
        return 0;
    len = strcspn(cc_buf_str(&response->body), "\n");
    return cc_err_set(err, CC_DOM_HTTP, response->status, "status %ld: %.*s", response->status,
            (int)(len < 200 ? len : 200),
            cc_escape_into(shown, sizeof(shown), cc_buf_str(&response->body)));
}

int
selftest_poll_now(struct selftest *st, struct cc_err *err)
{
    const struct http_client_settings settings = {
        .user_agent = "certconnector/" CC_VERSION,
        .unix_socket = st->config->connector.control_socket,
    };
    struct http_client *client = NULL;
    struct http_response response;
    int rc;

    http_response_init(&response);
    rc = http_client_open(&settings, &client, err);
    if (rc == 0)
        rc = post(client, &response, err);
    http_response_free(&response);
    http_client_close(client);
    return rc == 0 ? 0 : cc_err_in(err, "the daemon was to ask for revocations");
}

/* ---- the service ---- */

static int
sign_in(struct selftest *st, struct cc_err *err)
{
    long number;

    if (intune_probe_sign_in(st->intune, INTUNE_AUDIENCE_GRAPH, &number, err) != 0)
        return cc_err_in(err, "for Graph");
    if (intune_probe_sign_in(st->intune, INTUNE_AUDIENCE_SERVICE, &number, err) != 0)
        return cc_err_in(err, "for the service");
    return 0;
}

static int
find(struct selftest *st, const char *provider, struct cc_err *err)
{
    struct cc_buf url = CC_BUF_INIT(URL_MAX);
    int rc = intune_probe_endpoint(st->intune, provider, &url, err);

    cc_buf_free(&url);
    return rc == 0 ? 0 : cc_err_in(err, "%s", provider);
}

/* SCEP asks the one about challenges, everything else goes to the other. */
static int
discover(struct selftest *st, struct cc_err *err)
{
    if ((st->features & ~(unsigned)CONFIG_SCEP) != 0 &&
            find(st, INTUNE_PROVIDER_CONNECTOR, err) != 0)
        return -1;
    return (st->features & CONFIG_SCEP) == 0 ? 0 : find(st, INTUNE_PROVIDER_SCEP, err);
}

int
selftest_service(struct selftest *st)
{
    static const struct selftest_step steps[] = {
        { "it lets the connector sign in", sign_in },
        { "discovery finds its endpoints", discover },
    };

    return selftest_run_steps(st, "service", steps, CC_COUNT(steps));
}
