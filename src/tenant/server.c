/* SPDX-License-Identifier: MIT */
#include "scep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "identity.h"
#include "releases.h"
#include "session.h"

#define CONFIGURATION_READ (TENANT_ROLE_CONFIGURATION_READ | TENANT_ROLE_CONFIGURATION_WRITE)
#define CONNECTOR (TENANT_ROLE_SCEP | TENANT_ROLE_PFX)

/* "*" in a segment stands for one or more bytes of it. */
static const struct route {
    const char *method;
    const char *pattern;
    enum auth auth;
    void (*handler)(struct call *call);
    unsigned roles; /* one of them is needed; 0: none */
} routes[] = {
    { "POST", "/*/oauth2/v2.0/token", AUTH_NONE, oauth_token, 0 },
    { "GET", "/*/v2.0/.well-known/openid-configuration", AUTH_NONE, oauth_configuration, 0 },

    { "GET", "/*/servicePrincipals/appId=*/endpoints", AUTH_GRAPH, discovery_endpoints,
            TENANT_ROLE_APPLICATIONS },
    { "GET", "/*/users", AUTH_GRAPH, graph_users, TENANT_ROLE_USERS },
    { "GET", "/beta/deviceManagement/userPfxCertificates", AUTH_GRAPH, graph_pfx_list,
            CONFIGURATION_READ },
    { "POST", "/beta/deviceManagement/userPfxCertificates", AUTH_GRAPH, graph_pfx_create,
            TENANT_ROLE_CONFIGURATION_WRITE },
    { "GET", "/beta/deviceManagement/userPfxCertificates(*)", AUTH_GRAPH, graph_pfx_get,
            CONFIGURATION_READ },
    { "GET", "/beta/deviceManagement/userPfxCertificates/*", AUTH_GRAPH, graph_pfx_get,
            CONFIGURATION_READ },
    { "PATCH", "/beta/deviceManagement/userPfxCertificates(*)", AUTH_GRAPH, graph_pfx_patch,
            TENANT_ROLE_CONFIGURATION_WRITE },
    { "PATCH", "/beta/deviceManagement/userPfxCertificates/*", AUTH_GRAPH, graph_pfx_patch,
            TENANT_ROLE_CONFIGURATION_WRITE },
    { "DELETE", "/beta/deviceManagement/userPfxCertificates(*)", AUTH_GRAPH, graph_pfx_delete,
            TENANT_ROLE_CONFIGURATION_WRITE },
    { "DELETE", "/beta/deviceManagement/userPfxCertificates/*", AUTH_GRAPH, graph_pfx_delete,
            TENANT_ROLE_CONFIGURATION_WRITE },

    { "GET", "/beta/deviceManagement/ndesConnectors", AUTH_GRAPH, graph_ndes_list,
            CONFIGURATION_READ },
    { "GET", "/beta/deviceManagement/ndesConnectors/*", AUTH_GRAPH, graph_ndes_get,
            CONFIGURATION_READ },
    { "PATCH", "/beta/deviceManagement/ndesConnectors/*", AUTH_GRAPH, graph_ndes_patch,
            TENANT_ROLE_CONFIGURATION_WRITE },
    { "DELETE", "/beta/deviceManagement/ndesConnectors/*", AUTH_GRAPH, graph_ndes_delete,
            TENANT_ROLE_CONFIGURATION_WRITE },
    { "GET", "/beta/deviceManagement/certificateConnectorDetails", AUTH_GRAPH, graph_detail_list,
            CONFIGURATION_READ },
    { "GET", "/beta/deviceManagement/certificateConnectorDetails/*", AUTH_GRAPH, graph_detail_get,
            CONFIGURATION_READ },
    { "POST", "/beta/deviceManagement/certificateConnectorDetails/*/getHealthMetrics", AUTH_GRAPH,
            graph_detail_metrics, CONFIGURATION_READ },
    { "POST", "/beta/deviceManagement/certificateConnectorDetails/*/getHealthMetricTimeSeries",
            AUTH_GRAPH, graph_detail_series, CONFIGURATION_READ },

    { "POST", "/RACerts/*/StatelessPkiConnectorService/CertificateAuthorityRequests/*",
            AUTH_RESOURCE, revocation_call, CONNECTOR },
    { "POST", "/RACerts/*/StatelessPkiConnectorService/*Requests/*", AUTH_CONNECTOR, queue_call,
            CONNECTOR },
    { "POST", "/RACerts/*/StatelessPkiConnectorService/Connectors/*", AUTH_CONNECTOR,
            connectors_call, CONNECTOR },

    { "POST", "/RACerts/*/StatelessScepRequestValidationService/ScepActions/*", AUTH_RESOURCE,
            scep_call, TENANT_ROLE_SCEP },

    { "GET", "/admin", AUTH_PAGE, page_overview, 0 },
    { "GET", "/admin/", AUTH_PAGE, page_overview, 0 },
    { "GET", "/admin/connector", AUTH_PAGE, page_connector, 0 },
    { "GET", "/admin/requests", AUTH_PAGE, page_requests, 0 },
    { "GET", "/admin/requests/*", AUTH_PAGE, page_request, 0 },
    { "GET", "/admin/releases", AUTH_PAGE, page_releases, 0 },
    { "GET", "/admin/sign-in", AUTH_NONE, page_sign_in, 0 },
    { "POST", "/admin/sign-in", AUTH_NONE, page_take_sign_in, 0 },
    { "POST", "/admin/sign-out", AUTH_NONE, page_sign_out, 0 },
    { "GET", "/admin/style.css", AUTH_NONE, page_style, 0 },
    { "GET", "/admin/icon.svg", AUTH_NONE, page_icon, 0 },

    { "POST", "/admin/api/users", AUTH_ADMIN, admin_add_user, 0 },
    { "POST", "/admin/api/clients", AUTH_ADMIN, admin_put_client, 0 },
    { "DELETE", "/admin/api/clients/*", AUTH_ADMIN, admin_remove_client, 0 },
    { "POST", "/admin/api/pfxImportRequests", AUTH_ADMIN, admin_add_pfx_requests, 0 },
    { "POST", "/admin/api/pkcsRequests", AUTH_ADMIN, admin_add_pkcs_requests, 0 },
    { "GET", "/admin/api/requests", AUTH_ADMIN, admin_list_requests, 0 },
    { "GET", "/admin/api/requests/*", AUTH_ADMIN, admin_get_request, 0 },
    { "DELETE", "/admin/api/requests/*", AUTH_ADMIN, admin_cancel_request, 0 },
    { "POST", "/admin/api/revocationRequests", AUTH_ADMIN, admin_add_revocations, 0 },
    { "GET", "/admin/api/revocationRequests", AUTH_ADMIN, admin_list_revocations, 0 },
    { "GET", "/admin/api/revocationRequests/*", AUTH_ADMIN, admin_get_revocation, 0 },
    { "GET", "/admin/api/unknownRevocationResults", AUTH_ADMIN, admin_unknown_revocations, 0 },
    { "GET", "/admin/api/revocationClock", AUTH_ADMIN, admin_get_revocation_clock, 0 },
    { "POST", "/admin/api/revocationClock", AUTH_ADMIN, admin_set_revocation_clock, 0 },
    { "PUT", "/admin/api/revocationFilter", AUTH_ADMIN, admin_put_revocation_filter, 0 },
    { "POST", "/admin/api/scepChallenges", AUTH_ADMIN, admin_add_scep_challenges, 0 },
    { "GET", "/admin/api/scepChallenges/*", AUTH_ADMIN, admin_get_scep_challenge, 0 },
    { "DELETE", "/admin/api/scepChallenges/*", AUTH_ADMIN, admin_untarget_scep_challenge, 0 },
    { "GET", "/admin/api/scepTransactions", AUTH_ADMIN, admin_list_scep_transactions, 0 },
    { "GET", "/admin/api/connectors", AUTH_ADMIN, admin_list_connectors, 0 },
    { "DELETE", "/admin/api/connectors/*", AUTH_ADMIN, admin_remove_connector, 0 },
    { "POST", "/admin/api/releases", AUTH_ADMIN, admin_put_release, 0 },
    { "GET", "/admin/api/releases", AUTH_ADMIN, admin_list_releases, 0 },
    { "DELETE", "/admin/api/releases/*", AUTH_ADMIN, admin_remove_release, 0 },
    { "GET", "/admin/api/lifecycleClock", AUTH_ADMIN, admin_get_lifecycle_clock, 0 },
    { "POST", "/admin/api/lifecycleClock", AUTH_ADMIN, admin_set_lifecycle_clock, 0 },
    { "GET", "/admin/api/counts", AUTH_ADMIN, admin_counts, 0 },
    { "PUT", "/admin/api/faults", AUTH_ADMIN, admin_put_faults, 0 },
    { "GET", "/admin/api/faults", AUTH_ADMIN, admin_get_faults, 0 },
    { "DELETE", "/admin/api/faults", AUTH_ADMIN, admin_delete_faults, 0 },
    { "POST", "/admin/api/moveAccount", AUTH_ADMIN, admin_move_account, 0 },
    { "POST", "/admin/api/expireTokens", AUTH_ADMIN, admin_expire_tokens, 0 },
};

/* ---- routing ---- */

static size_t
segment_len(const char *text)
{
    return strcspn(text, "/");
}

/* One segment against one of the pattern; what "*" stands for goes to capture. */
static bool
match_segment(const char *pattern, size_t pattern_len, const char *text, size_t len, char *capture,
        bool *ret_captured)
{
    const char *star = memchr(pattern, '*', pattern_len);
    size_t before = star != NULL ? (size_t)(star - pattern) : pattern_len;
    size_t after = star != NULL ? pattern_len - before - 1 : 0;

    *ret_captured = star != NULL;
    if (star == NULL)
        return len == pattern_len && strncasecmp(pattern, text, len) == 0;
    if (len <= before + after || len - before - after >= CALL_CAPTURE_MAX)
        return false;
    if (strncasecmp(pattern, text, before) != 0 ||
            strncasecmp(star + 1, text + len - after, after) != 0)
        return false;
    memcpy(capture, text + before, len - before - after);
    capture[len - before - after] = '\0';
    return true;
}

/* Whole paths, segment by segment. */
static bool
match(struct call *call, const char *pattern, const char *path)
{
    size_t captures = 0;

    while (*pattern == '/' && *path == '/') {
        size_t pattern_len = segment_len(++pattern);
        size_t len = segment_len(++path);
        char capture[CALL_CAPTURE_MAX];
        bool captured;

        if (!match_segment(pattern, pattern_len, path, len, capture, &captured))
            return false;
        if (captured && captures < CALL_CAPTURES)
            memcpy(call->capture[captures++], capture, sizeof(capture));
        pattern += pattern_len;
        path += len;
    }
    return *pattern == '\0' && *path == '\0';
}

static void
refuse_method(struct call *call, const char *allow)
{
    struct http_header header = { "Allow", allow };
    static const char body[] =
            "{\"error\":{\"code\":\"MethodNotAllowed\",\"message\":\"not with this method\"}}";

    call_reply(call, 405, &header, 1, "application/json; charset=utf-8", body, sizeof(body) - 1);
}

static void
route(struct call *call)
{
    const char *method = http_exchange_method(call->exchange);
    const char *path = http_exchange_path(call->exchange);
    char allow[64] = "";

    for (size_t i = 0; i < CC_COUNT(routes); i++) {
        size_t len = strlen(allow);

        if (!match(call, routes[i].pattern, path))
            continue;
        if (strcmp(routes[i].method, method) == 0) {
            if (auth_check(call, routes[i].auth, routes[i].roles))
                routes[i].handler(call);
            return;
        }
        (void)snprintf(allow + len, sizeof(allow) - len, "%s%s", len > 0 ? ", " : "",
                routes[i].method);
    }
    if (allow[0] != '\0')
        refuse_method(call, allow);
    else
        call_reply_error(call, 404, "ResourceNotFound", "there is nothing at this path");
}

/* ---- faults ---- */

static void
reply_fault(struct call *call)
{
    const struct fault *fault = &call->fault;
    struct http_header headers[2];
    char seconds[24], ms[24];
    size_t count = 0;
    const char *body = fault->body;

    (void)snprintf(seconds, sizeof(seconds), "%lld", (long long)fault->retry_after_s);
    (void)snprintf(ms, sizeof(ms), "%lld", (long long)fault->ms_retry_after);
    if (fault->retry_after_s >= 0)
        headers[count++] = (struct http_header){ "Retry-After", seconds };
    if (fault->ms_retry_after >= 0)
        headers[count++] = (struct http_header){ "x-ms-retry-after-ms", ms };
    if (body == NULL)
        body = "{\"error\":{\"code\":\"Fault\",\"message\":\"a fault that was asked for\"}}";
    call_reply(call, fault->status, headers, count,
            fault->content_type[0] != '\0' ? fault->content_type
                                           : "application/json; charset=utf-8",
            body, strlen(body));
}

static void
run(struct call *call)
{
    if (call->fault.drop == FAULT_DROP_BEFORE)
        call_drop(call);
    else if (call->fault.status != 0)
        reply_fault(call);
    else
        route(call);
}

void
tenant_handle(void *arg, struct http_exchange *exchange)
{
    struct tenant *tenant = arg;
    const char *path = http_exchange_path(exchange);
    struct call *call = call_new(tenant, exchange);

    if (call == NULL) {
        http_exchange_reply(exchange, 503, NULL, 0, NULL, NULL, 0);
        return;
    }
    if (strcmp(path, "/admin") != 0 && !cc_starts_with(path, "/admin/"))
        call->fault = faults_decide(tenant->faults, path);
    if (call->fault.latency_ms > 0)
        later_add(tenant->later, call, call->fault.latency_ms, run);
    else
        run(call);
}

/* ---- life ---- */

/* A value that is made once and stays. */
static int
load_id(struct tenant *tenant, struct cc_err *err)
{
    char *value = NULL;

    if (tenant_value_get(tenant->store, "tenant-id", &value, err) != 0)
        return -1;
    if (value != NULL) {
        (void)cc_strcpy(tenant->id, sizeof(tenant->id), value);
        free(value);
        return 0;
    }
    if (cc_uuid(tenant->id, err) != 0)
        return -1;
    return tenant_value_put(tenant->store, "tenant-id", tenant->id, err);
}

static int
load_account(struct tenant *tenant, struct cc_err *err)
{
    char *value = NULL;
    int64_t account = 1;
    int rc = 0;

    if (tenant_value_get(tenant->store, "account", &value, err) != 0)
        return -1;
    if (value != NULL)
        rc = cc_parse_int(value, 1, 100000000, &account, err);
    atomic_store(&tenant->account, (long)account);
    free(value);
    return rc;
}

static int
open_parkings(struct tenant *tenant, struct cc_err *err)
{
    for (enum queue q = 0; q < QUEUES; q++)
        if (parking_open(tenant->store, queue_feature(q), queue_try_download, &tenant->parking[q],
                    err) != 0)
            return -1;
    return 0;
}

int
tenant_open(const struct tenant_settings *settings, struct tenant_store *take_store,
        const struct cc_secret *admin_token, struct tenant **ret_tenant, struct cc_err *err)
{
    struct tenant *tenant = calloc(1, sizeof(*tenant));

    if (tenant == NULL) {
        tenant_store_close(take_store);
        return cc_err_nomem(err);
    }
    tenant->settings = settings;
    tenant->store = take_store;
    atomic_store(&tenant->revocation_filter, settings->revocation_filter);
    auth_hash_token(cc_secret_str(admin_token), tenant->admin_hash);
    if (load_id(tenant, err) != 0 || load_account(tenant, err) != 0 ||
            scep_key_load(tenant, err) != 0 ||
            identity_open(tenant->store, settings->name, &tenant->identity, err) != 0)
        goto fail;
    if (connectors_open(tenant->store, &tenant->connectors, err) != 0 ||
            faults_open(&tenant->faults, err) != 0 || later_open(&tenant->later, err) != 0 ||
            releases_open(tenant->store, &tenant->releases, err) != 0 ||
            sessions_open(&tenant->sessions, err) != 0 || open_parkings(tenant, err) != 0)
        goto fail;
    *ret_tenant = tenant;
    return 0;
fail:
    tenant_close(tenant);
    return -1;
}

int
tenant_identity_ca(const struct tenant *tenant, struct cc_buf *ret, struct cc_err *err)
{
    struct cc_bytes der = identity_ca_der(tenant->identity);

    if (cc_buf_add_str(ret, "-----BEGIN CERTIFICATE-----\n", err) != 0 ||
            cc_base64(der.data, der.len, ret, err) != 0)
        return -1;
    return cc_buf_add_str(ret, "\n-----END CERTIFICATE-----\n", err);
}

void
tenant_stop(struct tenant *tenant)
{
    later_stop(tenant->later);
    for (size_t q = 0; q < QUEUES; q++)
        parking_stop(tenant->parking[q]);
}

void
tenant_close(struct tenant *tenant)
{
    if (tenant == NULL)
        return;
    for (size_t q = 0; q < QUEUES; q++)
        parking_close(tenant->parking[q]);
    later_close(tenant->later);
    faults_close(tenant->faults);
    connectors_close(tenant->connectors);
    identity_close(tenant->identity);
    releases_close(tenant->releases);
    sessions_close(tenant->sessions);
    tenant_store_close(tenant->store);
    cc_wipe(tenant->scep_key, sizeof(tenant->scep_key));
    free(tenant);
}
