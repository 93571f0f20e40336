/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include "assertion.h"
#include "base/clock.h"
#include "base/json.h"
#include "form.h"

#define FIELD_MAX 4096

/* Errors of the token endpoint, with the numbers that Entra ID gives them. */
static const struct oauth_error {
    unsigned status;
    const char *error;
    long number;
    const char *text;
} oauth_errors[] = {
    { 400, "invalid_request", 900144, "The request body is malformed or lacks a parameter." },
    { 400, "unsupported_grant_type", 70003, "The grant type is not supported." },
    { 400, "unauthorized_client", 700016, "The application was not found in the directory." },
    { 401, "invalid_client", 7000215, "Invalid client secret provided." },
    { 401, "invalid_client", 7000222, "The provided client secret keys are expired." },
    { 401, "invalid_client", 7000218,
            "The request body must contain the following parameter: 'client_assertion' or "
            "'client_secret'." },
    { 401, "invalid_client", 50027, "Invalid JWT token." },
    { 401, "invalid_client", 700027,
            "Client assertion contains an invalid signature, or its key was not found." },
    { 401, "invalid_client", 700027,
            "The certificate used to sign the client assertion is expired." },
    { 401, "invalid_client", 700021,
            "Client assertion application identifier doesn't match 'client_id' parameter." },
    { 401, "invalid_client", 700023, "Client assertion audience claim is not this endpoint." },
    { 401, "invalid_client", 700024, "Client assertion is not within its valid time range." },
    { 401, "invalid_client", 50013, "Assertion failed: it has been used before." },
    { 400, "invalid_scope", 70011,
            "The provided value for the input parameter 'scope' is not valid." },
    { 400, "invalid_resource", 500011, "The resource principal was not found in the tenant." },
    { 400, "invalid_request", 90002, "The tenant was not found." },
};

enum {
    OAUTH_MALFORMED,
    OAUTH_GRANT,
    OAUTH_CLIENT,
    OAUTH_SECRET,
    OAUTH_SECRET_ENDED,
    OAUTH_NO_CREDENTIAL,
    OAUTH_ASSERTION, /* and ASSERTION_* - ASSERTION_MALFORMED from here on */
    OAUTH_SCOPE = OAUTH_ASSERTION + ASSERTION_REPEATED,
    OAUTH_RESOURCE,
    OAUTH_TENANT
};

static json_object *
error_body(const struct call *call, const struct oauth_error *e)
{
    char text[256], timestamp[CC_TIME_LEN];
    json_object *body = json_object_new_object();
    json_object *codes = json_object_new_array();
    const char *correlation = http_exchange_header(call->exchange, "client-request-id");

    if (correlation == NULL || !cc_is_uuid(correlation))
        correlation = call->request_id;
    cc_time_format(cc_clock_now_ms(), timestamp);
    (void)snprintf(text, sizeof(text), "AADSTS%ld: %s Trace ID: %s Timestamp: %s", e->number,
            e->text, call->request_id, timestamp);
    if (codes != NULL)
        (void)json_object_array_add(codes, json_object_new_int64(e->number));
    if (cc_json_add_str(body, "error", e->error, NULL) != 0 ||
            cc_json_add_str(body, "error_description", text, NULL) != 0 ||
            cc_json_add(body, "error_codes", codes, NULL) != 0 ||
            cc_json_add_str(body, "timestamp", timestamp, NULL) != 0 ||
            cc_json_add_str(body, "trace_id", call->request_id, NULL) != 0 ||
            cc_json_add_str(body, "correlation_id", correlation, NULL) != 0) {
        json_object_put(body);
        return NULL;
    }
    return body;
}

static void
refuse(struct call *call, int which)
{
    json_object *body = error_body(call, &oauth_errors[which]);

    if (body == NULL)
        call_reply_empty(call, 500);
    else
        call_reply_json(call, oauth_errors[which].status, body);
}

static bool
is_tenant(const struct call *call)
{
    const char *name = call->capture[0];

    return cc_equal_nocase(name, call->tenant->settings->name) ||
           cc_equal_nocase(name, call->tenant->id);
}

/* ---- the scope ---- */

static const char *const graph_urls[] = { "https://graph.microsoft.com",
    "https://graph.microsoft.us", "https://dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn" };

static const char *const resource_urls[] = { "https://api.manage.microsoft.com",
    "https://api.manage.microsoft.us", "c161e42e-d4df-4a3d-9b42-e7a3c31f59d4",
    "api://c161e42e-d4df-4a3d-9b42-e7a3c31f59d4" };

static bool
is_one_of(const char *url, const char *const *urls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (cc_equal_nocase(url, urls[i]))
            return true;
    return false;
}

/*
 * The audience of "{base}/.default" or "{base}//.default"; 0: an unknown resource; -1: not such a scope.  Where Graph
 * and the service have the same address, as here, a token is good for both.
 */
static int
scope_audience(char *scope, const char *base)
{
    static const char suffix[] = "/.default";
    size_t len = strlen(scope);

    if (len < sizeof(suffix) || strcmp(scope + len - (sizeof(suffix) - 1), suffix) != 0)
        return -1;
    len -= sizeof(suffix) - 1;
    if (len > 1 && scope[len - 1] == '/')
        len--;
    scope[len] = '\0';
    if (is_one_of(scope, graph_urls, CC_COUNT(graph_urls)))
        return TENANT_AUDIENCE_GRAPH;
    if (is_one_of(scope, resource_urls, CC_COUNT(resource_urls)))
        return TENANT_AUDIENCE_RESOURCE;
    if (cc_equal_nocase(scope, base))
        return TENANT_AUDIENCE_GRAPH | TENANT_AUDIENCE_RESOURCE;
    return 0;
}

/* A list; what is no resource (openid, profile) does not matter. */
static int
scopes_audience(char *scopes, const char *base)
{
    char *rest = NULL;
    int found = -1;

    for (char *scope = strtok_r(scopes, " ", &rest); scope != NULL;
            scope = strtok_r(NULL, " ", &rest)) {
        int audience = scope_audience(scope, base);

        if (audience >= 0 && found >= 0)
            return -1; /* two resources in one request */
        if (audience >= 0)
            found = audience;
    }
    return found;
}

/* ---- the token ---- */

struct token_request {
    struct cc_buf grant_type, client_id, secret, assertion_type, assertion, scope, base;
};

static int
read_request(struct call *call, struct token_request *r, bool *ret_complete, struct cc_err *err)
{
    struct cc_bytes body = http_exchange_body(call->exchange);
    const struct {
        const char *name;
        struct cc_buf *value;
        bool needed;
    } fields[] = { { "grant_type", &r->grant_type, true }, { "client_id", &r->client_id, true },
        { "client_secret", &r->secret, false }, { "client_assertion", &r->assertion, false },
        { "client_assertion_type", &r->assertion_type, false }, { "scope", &r->scope, true } };

    *ret_complete = true;
    for (size_t i = 0; i < CC_COUNT(fields); i++) {
        bool found;

        if (form_get(body, fields[i].name, fields[i].value, &found, err) != 0)
            return -1;
        *ret_complete = *ret_complete && (!fields[i].needed || fields[i].value->len > 0);
    }
    return 0;
}

/* The same as check_client(). */
static int
check_secret(const struct tenant_client *client, const struct cc_buf *secret, struct cc_err *err)
{
    uint8_t hash[TENANT_HASH_LEN];

    if (client->secret_expires_ms == TENANT_SECRET_NONE)
        return OAUTH_SECRET;
    if (auth_hash_secret(client->salt, secret->data, secret->len, hash, err) != 0)
        return -2;
    if (CRYPTO_memcmp(hash, client->hash, sizeof(hash)) != 0)
        return OAUTH_SECRET;
    if (client->secret_expires_ms != TENANT_SECRET_NEVER_ENDS &&
            client->secret_expires_ms <= cc_clock_now_ms())
        return OAUTH_SECRET_ENDED;
    return -1;
}

/* The same as check_client(). */
static int
check_assertion(struct call *call, const struct token_request *r, struct cc_err *err)
{
    enum assertion_verdict verdict;

    if (strcmp(cc_buf_str(&r->assertion_type),
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer") != 0)
        return OAUTH_ASSERTION;
    if (assertion_check(call->tenant, cc_buf_str(&r->base), cc_buf_str(&r->client_id),
                cc_buf_str(&r->assertion), &verdict, err) != 0)
        return -2;
    return verdict == ASSERTION_GOOD ? -1 : OAUTH_ASSERTION + (int)verdict - ASSERTION_MALFORMED;
}

/* Whether this is the client: an error's number, or -1 when it is; -2: err. */
static int
check_client(struct call *call, const struct token_request *r, struct cc_err *err)
{
    struct tenant_client client;
    bool found;

    if (tenant_client_find(call->tenant->store, cc_buf_str(&r->client_id), &found, &client, err) !=
            0)
        return -2;
    if (!found)
        return OAUTH_CLIENT;
    if (r->secret.len > 0 && r->assertion.len > 0)
        return OAUTH_MALFORMED;
    if (r->assertion.len > 0)
        return check_assertion(call, r, err);
    return r->secret.len > 0 ? check_secret(&client, &r->secret, err) : OAUTH_NO_CREDENTIAL;
}

static void
grant(struct call *call, const struct token_request *r, unsigned audience)
{
    static const struct http_header no_store = { "Cache-Control", "no-store" };
    int64_t lifetime_s = faults_token_lifetime_s(call->tenant->faults);
    int64_t now_ms = cc_clock_now_ms();
    char token[AUTH_TOKEN_LEN];
    uint8_t hash[TENANT_HASH_LEN];
    char text[256];
    struct cc_err err = { 0 };
    int len;

    if (auth_make_token(token, &err) != 0)
        goto fail;
    auth_hash_token(token, hash);
    if (tenant_token_put(call->tenant->store, hash, cc_buf_str(&r->client_id), audience, now_ms,
                now_ms + lifetime_s * 1000, &err) != 0)
        goto fail;
    len = snprintf(text, sizeof(text),
            "{\"token_type\":\"Bearer\",\"expires_in\":%" PRId64 ",\"ext_expires_in\":%" PRId64
            ",\"access_token\":\"%s\"}",
            lifetime_s, lifetime_s, token);
    call_reply(call, 200, &no_store, 1, "application/json; charset=utf-8", text, (size_t)len);
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    cc_wipe(token, sizeof(token));
    cc_wipe(text, sizeof(text));
}

/* Ends the call. */
static void
answer(struct call *call, struct token_request *r)
{
    struct cc_err err = { 0 };
    bool complete;
    int audience, wrong;

    if (read_request(call, r, &complete, &err) != 0 || !complete) {
        refuse(call, OAUTH_MALFORMED);
        return;
    }
    if (strcmp(cc_buf_str(&r->grant_type), "client_credentials") != 0) {
        refuse(call, OAUTH_GRANT);
        return;
    }
    if (call_base_url(call, &r->base) != 0)
        return;
    if ((wrong = check_client(call, r, &err)) == -2) {
        call_reply_failed(call, &err);
        return;
    }
    if (wrong >= 0) {
        refuse(call, wrong);
        return;
    }
    audience = scopes_audience((char *)r->scope.data, cc_buf_str(&r->base));
    if (audience <= 0)
        refuse(call, audience < 0 ? OAUTH_SCOPE : OAUTH_RESOURCE);
    else
        grant(call, r, (unsigned)audience);
}

void
oauth_token(struct call *call)
{
    static const char form[] = "application/x-www-form-urlencoded";
    const char *type = http_exchange_header(call->exchange, "Content-Type");
    struct token_request r = { .grant_type = CC_BUF_INIT(FIELD_MAX),
        .client_id = CC_BUF_INIT(TENANT_ID_MAX),
        .secret = CC_BUF_INIT(FIELD_MAX),
        .assertion_type = CC_BUF_INIT(FIELD_MAX),
        .assertion = CC_BUF_INIT(ASSERTION_MAX),
        .scope = CC_BUF_INIT(FIELD_MAX),
        .base = CC_BUF_INIT(FIELD_MAX) };

    if (!is_tenant(call))
        refuse(call, OAUTH_TENANT);
    else if (type == NULL || strncasecmp(type, form, sizeof(form) - 1) != 0)
        refuse(call, OAUTH_MALFORMED);
    else
        answer(call, &r);
    cc_buf_free(&r.grant_type);
    cc_buf_free(&r.client_id);
    cc_buf_wipe(&r.secret);
    cc_buf_free(&r.assertion_type);
    cc_buf_wipe(&r.assertion);
    cc_buf_free(&r.scope);
    cc_buf_free(&r.base);
}

/* ---- metadata ---- */

static int
add_url(json_object *body, const char *name, const char *base, const char *tenant, const char *path,
        struct cc_err *err)
{
    struct cc_buf url = CC_BUF_INIT(FIELD_MAX);
    int rc = cc_buf_printf(&url, err, "%s/%s/%s", base, tenant, path);

    if (rc == 0)
        rc = cc_json_add_str(body, name, cc_buf_str(&url), err);
    cc_buf_free(&url);
    return rc;
}

static int
add_texts(json_object *body, const char *name, const char *const *texts, size_t count,
        struct cc_err *err)
{
    json_object *array = json_object_new_array();

    for (size_t i = 0; array != NULL && i < count; i++)
        (void)json_object_array_add(array, json_object_new_string(texts[i]));
    return cc_json_add(body, name, array, err);
}

void
oauth_configuration(struct call *call)
{
    static const char *const auth_methods[] = { "client_secret_post", "private_key_jwt" };
    static const char *const algorithms[] = { "RS256", "PS256" };
    struct cc_buf base = CC_BUF_INIT(FIELD_MAX);
    const char *id = call->tenant->id;
    json_object *body = NULL;
    struct cc_err err = { 0 };

    if (!is_tenant(call)) {
        refuse(call, OAUTH_TENANT);
        return;
    }
    if (call_base_url(call, &base) != 0)
        goto out;
    body = json_object_new_object();
    if (add_url(body, "token_endpoint", cc_buf_str(&base), call->capture[0], "oauth2/v2.0/token",
                &err) != 0 ||
            add_url(body, "authorization_endpoint", cc_buf_str(&base), call->capture[0],
                    "oauth2/v2.0/authorize", &err) != 0 ||
            add_url(body, "issuer", cc_buf_str(&base), id, "v2.0", &err) != 0 ||
            add_texts(body, "token_endpoint_auth_methods_supported", auth_methods,
                    CC_COUNT(auth_methods), &err) != 0 ||
            add_texts(body, "token_endpoint_auth_signing_alg_values_supported", algorithms,
                    CC_COUNT(algorithms), &err) != 0) {
        call_reply_failed(call, &err);
        json_object_put(body);
        goto out;
    }
    call_reply_json(call, 200, body);
out:
    cc_buf_free(&base);
}
