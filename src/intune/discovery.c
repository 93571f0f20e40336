/* SPDX-License-Identifier: MIT */
#include "intune_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/json.h"

#define REFRESH_MS INT64_C(86400000)

/* After a refresh that failed, while the old endpoints still serve. */
#define TRY_AGAIN_MS 60000
#define ANSWER_MAX ((size_t)256 << 10)
#define PROVIDER_MAX 256

void
intune_endpoints_clear(struct intune_endpoints *endpoints)
{
    size_t i;

    for (i = 0; i < endpoints->count; i++) {
        free(endpoints->item[i].provider);
        free(endpoints->item[i].uri);
    }
    endpoints->count = 0;
}

static const char *
find_uri(const struct intune_endpoints *endpoints, const char *provider)
{
    size_t i;

    for (i = 0; i < endpoints->count; i++)
        if (cc_equal_nocase(endpoints->item[i].provider, provider))
            return endpoints->item[i].uri;
    return NULL;
}

/* ---- reading the answer ---- */

/* Items without a name or an address, and second ones of a name, are not for us. */
static int
add_endpoint(struct intune_endpoints *endpoints, json_object *item, struct cc_err *err)
{
    struct intune_endpoint *endpoint = &endpoints->item[endpoints->count];
    const char *provider = NULL;
    const char *uri = NULL;
    size_t len;

    if (cc_json_get_str(item, "providerName", PROVIDER_MAX, &provider, err) != 0 ||
            cc_json_get_str(item, "uri", INTUNE_URL_MAX, &uri, err) != 0)
        return -1;
    if (provider == NULL || uri == NULL || find_uri(endpoints, provider) != NULL)
        return 0;
    if (endpoints->count == INTUNE_ENDPOINTS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "more than %d endpoints", INTUNE_ENDPOINTS_MAX);
    if ((endpoint->provider = cc_strdup(provider, err)) == NULL)
        return -1;
    if ((endpoint->uri = cc_strdup(uri, err)) == NULL) {
        free(endpoint->provider);
        return -1;
    }
    for (len = strlen(uri); len > 0 && endpoint->uri[len - 1] == '/'; len--)
        endpoint->uri[len - 1] = '\0';
    endpoints->count++;
    return 0;
}

int
intune_endpoints_read(const void *text, size_t len, struct intune_endpoints *ret,
        struct cc_err *err)
{
    json_object *json = cc_json_parse(text, len, err);
    json_object *list = NULL;
    int rc = -1;
    size_t i;

    if (json == NULL || cc_json_get_array(json, "value", &list, err) != 0)
        goto out;
    if (list == NULL) {
        cc_err_set(err, CC_DOM_INPUT, 0, "member \"value\" is missing");
        goto out;
    }
    for (i = 0; i < json_object_array_length(list); i++)
        if (add_endpoint(ret, json_object_array_get_idx(list, i), err) != 0)
            goto out;
    rc = 0;
out:
    if (rc != 0)
        intune_endpoints_clear(ret);
    json_object_put(json);
    return rc;
}

/* ---- asking ---- */

static int
make_url(const struct intune_link *link, struct cc_buf *url, struct cc_err *err)
{
    if (cc_buf_add_str(url, link->graph, err) != 0 ||
            http_url_escape(link->graph_version, url, err) != 0 ||
            cc_buf_add_str(url, "/servicePrincipals/appId=", err) != 0 ||
            http_url_escape(link->app_id, url, err) != 0)
        return -1;
    return cc_buf_add_str(url, "/endpoints", err);
}

static int
discover(struct intune_attempt *attempt, struct intune_endpoints *ret, struct cc_err *err)
{
    const struct http_header headers[] = { { "client-request-id", attempt->request_id },
        { "Accept", "application/json" } };
    struct cc_buf url = CC_BUF_INIT(INTUNE_URL_MAX);
    struct http_request request = {
        .method = "GET",
        .headers = headers,
        .header_count = CC_COUNT(headers),
        .timeout_ms = attempt->link->timeout_ms,
        .max_response = ANSWER_MAX,
    };
    struct http_response response;
    int rc = -1;

    http_response_init(&response);
    if (make_url(attempt->link, &url, err) != 0)
        goto out;
    request.url = cc_buf_str(&url);
    if (CC_FAILPOINT("service", "discovery", "before")) {
        cc_err_set(err, CC_DOM_NETWORK, INTUNE_CUT, "fail point before the call");
        goto out;
    }
    if (intune_send(attempt, INTUNE_SCOPE_GRAPH, &request, &response, err) != 0)
        goto out;
    if (response.status != 200) {
        intune_refusal(attempt, &response, NULL, err);
        goto out;
    }
    rc = intune_endpoints_read(response.body.data, response.body.len, ret, err);
out:
    if (rc != 0)
        cc_err_in(err, "discovery of the service's endpoints");
    http_response_free(&response);
    cc_buf_free(&url);
    return rc;
}

/* ---- the cache ---- */

/* LOCKED; whether the endpoints can be used without asking. */
static bool
serves(const struct intune_endpoints *endpoints)
{
    if (endpoints->count == 0 || endpoints->gone)
        return false;
    return endpoints->flight.busy ||
           (endpoints->fresh && cc_clock_mono_ms() < endpoints->refresh_at);
}

/* LOCKED; whether a service that both know is somewhere else now. */
static bool
moved(const struct intune_endpoints *before, const struct intune_endpoints *after)
{
    size_t i;

    for (i = 0; i < before->count; i++) {
        const char *uri = find_uri(after, before->item[i].provider);

        if (uri != NULL && strcmp(uri, before->item[i].uri) != 0)
            return true;
    }
    return false;
}

/* LOCKED */
static bool
take_over(struct intune_endpoints *endpoints, struct intune_endpoints *found)
{
    bool elsewhere = moved(endpoints, found);

    intune_endpoints_clear(endpoints);
    memcpy(endpoints->item, found->item, sizeof(endpoints->item));
    endpoints->count = found->count;
    endpoints->fresh = true;
    endpoints->gone = false;
    endpoints->refresh_at = cc_deadline_in(REFRESH_MS);
    return elsewhere;
}

/* LOCKED before and after, not meanwhile. */
static int
fetch(struct intune_attempt *attempt, struct cc_err *err)
{
    struct intune_link *link = attempt->link;
    struct intune_endpoints *endpoints = &link->endpoints;
    struct intune_endpoints *found = calloc(1, sizeof(*found));
    struct cc_err why = { 0 };
    bool elsewhere = false;
    int rc;

    if (found == NULL)
        return cc_err_nomem(err);
    endpoints->flight.busy = true;
    pthread_mutex_unlock(&link->lock);
    rc = discover(attempt, found, &why);
    pthread_mutex_lock(&link->lock);
    endpoints->flight.busy = false;
    endpoints->flight.landed++;
    endpoints->flight.err = why;
    endpoints->flight.refused = attempt->refused;
    endpoints->flight.unable = attempt->unable;
    if (rc == 0)
        elsewhere = take_over(endpoints, found);
    free(found);
    pthread_cond_broadcast(&link->landed);
    if (elsewhere) {
        pthread_mutex_unlock(&link->lock);
        intune_note_moved(link->intune);
        pthread_mutex_lock(&link->lock);
    }
    if (rc == 0)
        return 0;
    if (endpoints->count > 0 && !endpoints->gone && why.domain != CC_DOM_CANCELLED) {
        /* Graph being away is no reason not to talk to the service where it was. */
        attempt->refused = false;
        attempt->unable = false;
        attempt->retry_after_ms = -1;
        endpoints->fresh = true;
        endpoints->refresh_at = cc_deadline_in(TRY_AGAIN_MS);
        return 0;
    }
    return cc_err_set(err, why.domain, why.code, "%s", why.text);
}

/* LOCKED */
static int
await(struct intune_attempt *attempt, struct cc_err *err)
{
    struct intune_endpoints *endpoints = &attempt->link->endpoints;

    if (intune_flight_wait(attempt, &endpoints->flight, err) != 0)
        return -1;
    if (endpoints->flight.err.domain == CC_DOM_NONE || serves(endpoints))
        return 0;
    attempt->refused = endpoints->flight.refused;
    attempt->unable = endpoints->flight.unable;
    return cc_err_set(err, endpoints->flight.err.domain, endpoints->flight.err.code, "%s",
            endpoints->flight.err.text);
}

static int
check_uri(const struct intune_link *link, const char *provider, const char *uri, struct cc_err *err)
{
    if (uri == NULL)
        return cc_err_set(err, CC_DOM_HTTP, 404,
                "the service %s is not among the endpoints that discovery gives: is the tenant licensed for it?",
                provider);
    return intune_check_uri(link, provider, uri, err);
}

int
intune_endpoint_get(struct intune_attempt *attempt, const char *provider, struct cc_buf *ret_uri,
        struct cc_err *err)
{
    struct intune_link *link = attempt->link;
    const char *uri;
    int rc = 0;

    pthread_mutex_lock(&link->lock);
    while (rc == 0 && !serves(&link->endpoints)) {
        rc = link->endpoints.flight.busy ? await(attempt, err) : fetch(attempt, err);
        if (rc == 0 && link->endpoints.count == 0)
            break; /* an empty list is an answer, too */
    }
    if (rc == 0) {
        uri = find_uri(&link->endpoints, provider);
        rc = check_uri(link, provider, uri, err);
        if (rc != 0)
            link->endpoints.fresh = false; /* it may be there, or better, next time */
        if (rc == 0)
            rc = cc_buf_add_str(ret_uri, uri, err);
    }
    pthread_mutex_unlock(&link->lock);
    return rc;
}

void
intune_endpoint_forget(struct intune_link *link, bool gone)
{
    pthread_mutex_lock(&link->lock);
    link->endpoints.fresh = false;
    link->endpoints.gone = link->endpoints.gone || gone;
    pthread_mutex_unlock(&link->lock);
}
