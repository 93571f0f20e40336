/* SPDX-License-Identifier: MIT */
#include "selftest_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define ANSWER_MAX ((size_t)4 * 1024 * 1024)
#define BODY_MAX ((size_t)1024 * 1024)
#define PATH_MAX_LEN 512
#define TEXT_MAX 4096
#define LOOK_MS 50

struct selftest_admin {
    struct http_client *http;
    struct cc_secret *token;
    struct cc_buf url; /* ends with a slash */
};

/* ---- begin and end ---- */

/* Scheme and authority of a URL, and a slash. */
static int
origin(const char *url, struct cc_buf *ret, struct cc_err *err)
{
    const char *host = strstr(url, "://");
    size_t len;

    if (host == NULL)
        return cc_err_set(err, CC_DOM_USAGE, 0, "--admin-url is to begin with https://");
    host += strlen("://");
    len = (size_t)(host - url) + strcspn(host, "/");
    if (cc_buf_add(ret, url, len, err) != 0)
        return -1;
    return cc_buf_add_str(ret, "/", err);
}

static int
read_token(const char *path, struct cc_secret **ret_token, struct cc_err *err)
{
    struct cc_buf reference = CC_BUF_INIT(PATH_MAX_LEN * 8);
    int rc = -1;

    if (cc_buf_printf(&reference, err, "file:%s", path) == 0 &&
            (*ret_token = cc_secret_load(cc_buf_str(&reference), err)) != NULL)
        rc = 0;
    cc_buf_free(&reference);
    return rc;
}

int
selftest_admin_open(const struct config *config, const char *token_file, const char *url,
        struct selftest_admin **ret_admin, struct cc_err *err)
{
    const struct http_client_settings settings = {
        .user_agent = "certconnector/" CC_VERSION,
        .proxy = config->service.proxy,
        .proxy_user = config->service.proxy_user,
        .proxy_password = config->service.proxy_password,
        .no_proxy = config->service.no_proxy,
        .ca_file = config->service.ca_file,
        .allow_http = config->service.allow_http,
    };
    struct selftest_admin *admin;

    if (config->service.cloud != CONFIG_CLOUD_CUSTOM)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "--admin-token-file is for a service of one's own ([service] cloud = custom): Intune "
                "has no such side");
    if ((admin = calloc(1, sizeof(*admin))) == NULL)
        return cc_err_nomem(err);
    cc_buf_init(&admin->url, PATH_MAX_LEN);
    if (origin(url != NULL ? url : config->service.graph, &admin->url, err) != 0 ||
            read_token(token_file, &admin->token, err) != 0 ||
            http_client_open(&settings, &admin->http, err) != 0) {
        selftest_admin_close(admin);
        return -1;
    }
    *ret_admin = admin;
    return 0;
}

void
selftest_admin_close(struct selftest_admin *admin)
{
    if (admin == NULL)
        return;
    http_client_close(admin->http);
    cc_secret_free(admin->token);
    cc_buf_free(&admin->url);
    free(admin);
}

const char *
selftest_admin_url(const struct selftest_admin *admin)
{
    return cc_buf_str(&admin->url);
}

const char *
selftest_text(json_object *obj, const char *name)
{
    const char *text = NULL;

    return obj != NULL && cc_json_get_str(obj, name, TEXT_MAX, &text, NULL) == 0 ? text : NULL;
}

/* ---- one call ---- */

/* What the stand-in says of a refusal. */
static int
refusal(const char *method, const char *path, const struct http_response *response,
        struct cc_err *err)
{
    json_object *json = cc_json_parse(response->body.data, response->body.len, NULL);
    json_object *error = NULL;
    const char *message = NULL;
    char shown[256];

    if (json != NULL && cc_json_get_object(json, "error", &error, NULL) == 0 && error != NULL)
        message = selftest_text(error, "message");
    if (response->status == 401)
        message = "the token in --admin-token-file is not this service's";
    cc_err_set(err, CC_DOM_HTTP, response->status, "%s /admin/api/%s: status %ld%s%s", method, path,
            response->status, message != NULL ? ": " : "",
            message != NULL ? cc_escape_into(shown, sizeof(shown), message) : "");
    json_object_put(json);
    return -1;
}

static int
send_text(struct selftest_admin *admin, const char *method, const char *path,
        const struct cc_buf *body, struct http_response *response, struct cc_err *err)
{
    struct cc_buf url = CC_BUF_INIT(PATH_MAX_LEN * 2);
    struct http_request request = {
        .method = method,
        .bearer = admin->token,
        .content_type = body->len > 0 ? "application/json" : NULL,
        .body = cc_buf_bytes(body),
        .timeout_ms = SELFTEST_CALL_MS,
        .max_response = ANSWER_MAX,
    };
    int rc = -1;

    if (cc_buf_printf(&url, err, "%sadmin/api/%s", cc_buf_str(&admin->url), path) == 0) {
        request.url = cc_buf_str(&url);
        rc = http_client_send(admin->http, &request, response, err);
    }
    cc_buf_free(&url);
    if (rc != 0)
        return cc_err_in(err, "%s /admin/api/%s", method, path);
    if (response->status < 200 || response->status > 299)
        return refusal(method, path, response, err);
    return 0;
}

int
selftest_admin_send(struct selftest_admin *admin, const char *method, const char *path,
        json_object *take_body, struct http_response *ret, struct cc_err *err)
{
    struct cc_buf body = CC_BUF_INIT(BODY_MAX);
    struct http_response own;
    int rc = 0;

    http_response_init(&own);
    if (take_body != NULL)
        rc = cc_json_write(take_body, &body, err);
    if (rc == 0)
        rc = send_text(admin, method, path, &body, ret != NULL ? ret : &own, err);
    http_response_free(&own);
    cc_buf_free(&body);
    json_object_put(take_body);
    return rc;
}

int
selftest_admin_call(struct selftest_admin *admin, const char *method, const char *path,
        json_object *take_body, json_object **ret_answer, struct cc_err *err)
{
    struct http_response response;
    json_object *answer;
    int rc;

    http_response_init(&response);
    rc = selftest_admin_send(admin, method, path, take_body, &response, err);
    if (rc == 0) {
        answer = cc_json_parse(response.body.data, response.body.len, err);
        if (answer != NULL)
            *ret_answer = answer;
        else
            rc = cc_err_in(err, "%s /admin/api/%s", method, path);
    }
    http_response_free(&response);
    return rc;
}

/* ---- requests ---- */

int
selftest_order(struct selftest *st, const char *collection, json_object *take_body,
        char ret_id[CC_UUID_LEN], struct cc_err *err)
{
    json_object *answer = NULL;
    const char *id;
    int rc = -1;

    if (st->request_count == SELFTEST_REQUESTS_MAX) {
        json_object_put(take_body);
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "too many requests");
    }
    if (selftest_admin_call(st->admin, "POST", collection, take_body, &answer, err) != 0)
        return -1;
    if (cc_json_need_str(answer, "requestId", CC_UUID_LEN - 1, &id, err) == 0) {
        (void)cc_strcpy(ret_id, CC_UUID_LEN, id);
        (void)cc_strcpy(st->requests[st->request_count++], CC_UUID_LEN, id);
        rc = 0;
    }
    json_object_put(answer);
    return rc;
}

int
selftest_await(struct selftest *st, const char *path, selftest_done_fn done,
        json_object **ret_answer, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(st->timeout_ms);
    json_object *answer = NULL;
    int rc;

    for (;;) {
        if (selftest_admin_call(st->admin, "GET", path, NULL, &answer, err) != 0)
            return -1;
        if ((rc = done(st, answer, err)) == 1) {
            *ret_answer = answer;
            return 0;
        }
        json_object_put(answer);
        answer = NULL;
        if (rc != 0)
            return -1;
        if (cc_deadline_left(deadline) == 0)
            return cc_err_set(err, CC_DOM_CANCELLED, 0,
                    "not within %s: look at certconnector status and certconnector events",
                    st->timeout);
        if (selftest_stopped(st, LOOK_MS))
            return cc_err_set(err, CC_DOM_CANCELLED, 0, "interrupted");
    }
}

static int
is_finished(struct selftest *st, json_object *answer, struct cc_err *err)
{
    const char *state;

    (void)st;
    if (cc_json_need_str(answer, "state", 32, &state, err) != 0)
        return -1;
    if (strcmp(state, "cancelled") == 0)
        return cc_err_set(err, CC_DOM_SERVICE, 0, "somebody cancelled the request");
    return strcmp(state, "completed") == 0 || strcmp(state, "failed") == 0;
}

int
selftest_refuse_result(json_object *result, struct cc_err *err)
{
    const char *code = selftest_text(result, "errorCode");
    const char *message = selftest_text(result, "errorMessage");
    char shown[320];

    return cc_err_set(err, CC_DOM_SERVICE, 0, "the connector reported %s: %s",
            code != NULL ? code : "a failure",
            cc_escape_into(shown, sizeof(shown), message != NULL ? message : "without a reason"));
}

int
selftest_await_result(struct selftest *st, const char *id, json_object **ret_result,
        struct cc_err *err)
{
    json_object *answer = NULL, *result = NULL;
    char path[128];
    bool succeeded = false;
    int rc = -1;

    (void)snprintf(path, sizeof(path), "requests/%s", id);
    if (selftest_await(st, path, is_finished, &answer, err) != 0)
        return -1;
    if (cc_json_get_object(answer, "result", &result, err) != 0 || result == NULL)
        cc_err_set(err, CC_DOM_INPUT, 0, "the service has no result of the request");
    else if (cc_json_get_bool(result, "succeeded", false, &succeeded, err) == 0 && !succeeded)
        selftest_refuse_result(result, err);
    else if (succeeded)
        rc = 0;
    if (rc == 0)
        *ret_result = json_object_get(result);
    json_object_put(answer);
    return rc;
}
