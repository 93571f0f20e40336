/* SPDX-License-Identifier: MIT */
#include "intune_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/json.h"

/* RFC 6749 section 4.4, as Entra speaks it. */
#define LIFE_DEFAULT_S 3600
#define LIFE_MIN_S 60
#define LIFE_MAX_S 86400
#define ANSWER_MAX ((size_t)CC_SECRET_MAX + 16384)
#define FORM_MAX ((size_t)CC_SECRET_MAX * 3 + 8192)

/* While an old token still serves, a failed sign-in is not repeated at once. */
#define TRY_AGAIN_MS 30000

/* Clocks that differ less are taken for the same; the endpoint itself allows for 5 minutes. */
#define CLOCK_TOLERANCE_MS 60000

static const char *const scope_names[] = { "Graph", "service" };

/* ---- reading the answer ---- */

/* Behind the string that begins at text[at]; len when it has no end. */
static size_t
skip_string(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < len ? at + 1 : len;
}

static size_t
skip_space(const char *text, size_t len, size_t at)
{
    while (at < len &&
            (text[at] == ' ' || text[at] == '\t' || text[at] == '\r' || text[at] == '\n'))
        at++;
    return at;
}

/* The token without JSON's escapes, of which only that of the slash can stand in one (RFC 6750 section 2.1). */
static struct cc_secret *
token_copy(const char *text, size_t len, struct cc_err *err)
{
    struct cc_secret *secret = cc_secret_new(len, err);
    size_t i, used = 0;

    if (secret == NULL)
        return NULL;
    for (i = 0; i < len; i++) {
        char c = text[i];

        if (c == '\\' && i + 1 < len && text[i + 1] == '/')
            c = text[++i];
        if (c <= 0x20 || c >= 0x7f || c == '\\') {
            cc_err_set(err, CC_DOM_INPUT, 0, "the token has bytes that no token has");
            cc_secret_free(secret);
            return NULL;
        }
        cc_secret_data(secret)[used++] = (uint8_t)c;
    }
    cc_secret_truncate(secret, used);
    return secret;
}

int
intune_token_cut(struct cc_buf *text, struct cc_secret **ret_token, struct cc_err *err)
{
    static const char name[] = "\"access_token\"";
    struct cc_secret *token = NULL;
    char *data = (char *)text->data;
    size_t at = 0;
    int depth = 0;

    while (at < text->len) {
        size_t begin = at, value, end;

        depth += data[at] == '{' || data[at] == '[';
        depth -= data[at] == '}' || data[at] == ']';
        if (data[at] != '"') {
            at++;
            continue;
        }
        at = skip_string(data, text->len, at);
        if (depth != 1 || at - begin != strlen(name) || memcmp(data + begin, name, at - begin) != 0)
            continue;
        value = skip_space(data, text->len, at);
        if (value >= text->len || data[value] != ':')
            continue;
        value = skip_space(data, text->len, value + 1);
        if (value >= text->len || data[value] != '"')
            continue;
        end = skip_string(data, text->len, value);
        if (token != NULL || end - value <= 2) {
            cc_secret_free(token);
            return cc_err_set(err, CC_DOM_INPUT, 0,
                    token != NULL ? "two tokens in one answer" : "an empty token");
        }
        if ((token = token_copy(data + value + 1, end - value - 2, err)) == NULL)
            return -1;
        memset(data + value + 1, '*', end - value - 2);
        at = end;
    }
    if (token == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"access_token\" is missing");
    *ret_token = token;
    return 0;
}

/* A number, or one in a string as older servers have it. */
static int
read_life(json_object *json, int64_t *ret_s, struct cc_err *err)
{
    const char *text = NULL;

    if (cc_json_get_int(json, "expires_in", 0, INT64_MAX, LIFE_DEFAULT_S, ret_s, NULL) == 0)
        return 0;
    if (cc_json_get_str(json, "expires_in", 20, &text, err) != 0)
        return -1;
    return cc_parse_int(text, 0, INT64_MAX, ret_s, err);
}

int
intune_token_read(struct cc_buf *text, struct cc_secret **ret_token, int64_t *ret_life_ms,
        struct cc_err *err)
{
    struct cc_secret *token = NULL;
    json_object *json = NULL;
    const char *type = NULL;
    int64_t life;
    int rc = -1;

    if (intune_token_cut(text, &token, err) != 0 ||
            (json = cc_json_parse(text->data, text->len, err)) == NULL ||
            cc_json_get_str(json, "token_type", 64, &type, err) != 0 ||
            read_life(json, &life, err) != 0)
        goto out;
    if (type != NULL && !cc_equal_nocase(type, "Bearer")) {
        cc_err_set(err, CC_DOM_INPUT, 0, "the token is not of type Bearer");
        goto out;
    }
    if (life < LIFE_MIN_S)
        life = LIFE_MIN_S;
    *ret_life_ms = (life > LIFE_MAX_S ? LIFE_MAX_S : life) * 1000;
    *ret_token = token;
    token = NULL;
    rc = 0;
out:
    cc_secret_free(token);
    json_object_put(json);
    return rc;
}

/* ---- asking ---- */

static int
add_field(struct cc_buf *form, const char *name, const char *value, struct cc_err *err)
{
    if (form->len > 0 && cc_buf_add_str(form, "&", err) != 0)
        return -1;
    if (cc_buf_add_str(form, name, err) != 0 || cc_buf_add_str(form, "=", err) != 0)
        return -1;
    return http_url_escape(value, form, err);
}

/* The resource ends with a slash and "/.default" begins with one: both are sent, as Microsoft's own clients do. */
static int
add_scope(const struct intune_link *link, enum intune_scope scope, struct cc_buf *form,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(INTUNE_URL_MAX);
    int rc = -1;

    if (cc_buf_add_str(&text, scope == INTUNE_SCOPE_GRAPH ? link->graph : link->resource, err) ==
                    0 &&
            cc_buf_add_str(&text, scope == INTUNE_SCOPE_GRAPH ? ".default" : "/.default", err) == 0)
        rc = add_field(form, "scope", cc_buf_str(&text), err);
    cc_buf_free(&text);
    return rc;
}

/* Room for all of it at once: a form that grew would leave copies of the secret behind. */
static int
begin_form(const struct intune_link *link, enum intune_scope scope, size_t secret_len,
        struct cc_buf *form, struct cc_err *err)
{
    if (cc_buf_reserve(form, secret_len * 3 + 8192, err) == NULL ||
            add_field(form, "grant_type", "client_credentials", err) != 0 ||
            add_field(form, "client_id", link->client_id, err) != 0)
        return -1;
    return add_scope(link, scope, form, err);
}

static int
make_form_with_secret(const struct intune_link *link, enum intune_scope scope, struct cc_buf *form,
        struct cc_err *err)
{
    struct cc_secret *secret;
    int rc = -1;

    if (link->client_secret == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "there is no client secret");
    if ((secret = cc_secret_load(link->client_secret, err)) == NULL)
        return cc_err_in(err, "client secret");
    if (strlen(cc_secret_str(secret)) != cc_secret_len(secret))
        cc_err_set(err, CC_DOM_INPUT, 0, "the client secret has a NUL inside");
    else if (begin_form(link, scope, cc_secret_len(secret), form, err) == 0)
        rc = add_field(form, "client_secret", cc_secret_str(secret), err);
    cc_secret_free(secret);
    return rc;
}

static int64_t
clock_skew(const struct intune_link *link)
{
    struct intune_status status;

    intune_get_status(link->intune, &status);
    return status.clock_skew_ms;
}

static int
make_form_with_assertion(const struct intune_link *link, enum intune_scope scope, const char *url,
        struct cc_buf *form, struct cc_err *err)
{
    const struct intune_claims claims = {
        .audience = url,
        .client_id = link->client_id,
        /* Whoever judges it does so by a clock of its own. */
        .now_ms = cc_clock_now_ms() + clock_skew(link),
    };
    struct cc_buf assertion = CC_BUF_INIT(FORM_MAX);
    int rc = -1;

    if (intune_assertion_make(&link->assertion, &claims, &assertion, err) == 0 &&
            begin_form(link, scope, assertion.len, form, err) == 0 &&
            add_field(form, "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", err) == 0)
        rc = add_field(form, "client_assertion", cc_buf_str(&assertion), err);
    cc_buf_wipe(&assertion);
    return rc;
}

/* What says who we are is ours to find; when it cannot be had, nobody has refused us. */
static int
make_form(struct intune_attempt *attempt, enum intune_scope scope, const char *url,
        struct cc_buf *form, struct cc_err *err)
{
    const struct intune_link *link = attempt->link;
    int rc;

    if (link->assertion.key != NULL)
        rc = make_form_with_assertion(link, scope, url, form, err);
    else
        rc = make_form_with_secret(link, scope, form, err);
    attempt->unable = rc != 0;
    return rc;
}

static int
make_url(const struct intune_link *link, struct cc_buf *url, struct cc_err *err)
{
    if (link->tenant[0] == '\0' || link->client_id[0] == '\0')
        return cc_err_set(err, CC_DOM_CONFIG, 0, "[service] %s is not set",
                link->tenant[0] == '\0' ? "tenant" : "client-id");
    if (cc_buf_add_str(url, link->authority, err) != 0 ||
            http_url_escape(link->tenant, url, err) != 0)
        return -1;
    return cc_buf_add_str(url, "/oauth2/v2.0/token", err);
}

static int
ask(struct intune_attempt *attempt, const char *url, const struct cc_buf *form,
        struct http_response *response, struct cc_err *err)
{
    struct intune_link *link = attempt->link;
    const struct http_header headers[] = { { "client-request-id", attempt->request_id },
        { "Accept", "application/json" } };
    const struct http_request request = {
        .method = "POST",
        .url = url,
        .headers = headers,
        .header_count = CC_COUNT(headers),
        .content_type = "application/x-www-form-urlencoded",
        .body = cc_buf_bytes(form),
        .timeout_ms = link->timeout_ms,
        .max_response = ANSWER_MAX,
    };
    const char *advice;

    if (CC_FAILPOINT("service", "sign-in", "before"))
        return cc_err_set(err, CC_DOM_NETWORK, INTUNE_CUT, "fail point before the call");
    if (intune_exchange(attempt, link->http, &request, response, err) != 0)
        return -1;
    if (CC_FAILPOINT("service", "sign-in", "after"))
        return cc_err_set(err, CC_DOM_NETWORK, INTUNE_CUT, "fail point after the call");
    if (response->status == 200)
        return 0;
    attempt->refused =
            response->status == 400 || response->status == 401 || response->status == 403;
    intune_refusal(attempt, response, NULL, err);
    advice = intune_sign_in_advice(response);
    return advice == NULL ? -1 : cc_err_in(err, "%s", advice);
}

/* An assertion is good for some minutes; who refuses one tells the time, and that one made by this time is good. */
static bool
was_clock(const struct intune_attempt *attempt, int64_t skew_before)
{
    return attempt->link->assertion.key != NULL && attempt->refused &&
           llabs(clock_skew(attempt->link) - skew_before) > CLOCK_TOLERANCE_MS;
}

/* Says who we are, and says it again where only the clock was wrong. */
static int
present(struct intune_attempt *attempt, enum intune_scope scope, const char *url,
        struct http_response *response, struct cc_err *err)
{
    struct cc_buf form = CC_BUF_INIT(FORM_MAX);
    int tries, rc = -1;

    for (tries = 0; tries < 2; tries++) {
        int64_t skew = clock_skew(attempt->link);

        attempt->refused = false;
        http_response_free(response);
        cc_err_clear(err);
        if (make_form(attempt, scope, url, &form, err) != 0)
            break;
        rc = ask(attempt, url, &form, response, err);
        cc_buf_wipe(&form);
        if (rc == 0 || !was_clock(attempt, skew))
            break;
    }
    cc_buf_wipe(&form);
    return rc;
}

/* One token, from the secret to the answer. */
static int
sign_in(struct intune_attempt *attempt, enum intune_scope scope, struct intune_token **ret_token,
        struct cc_err *err)
{
    struct intune_link *link = attempt->link;
    struct intune_token *token = calloc(1, sizeof(*token));
    struct cc_buf url = CC_BUF_INIT(INTUNE_URL_MAX);
    struct http_response response;
    int64_t now = cc_clock_mono_ms();
    int64_t life;
    int rc = -1;

    http_response_init(&response);
    if (token == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    if (make_url(link, &url, err) != 0 ||
            present(attempt, scope, cc_buf_str(&url), &response, err) != 0)
        goto out;
    if (intune_token_read(&response.body, &token->secret, &life, err) != 0)
        goto out;
    token->owners = 1;
    token->refresh_at = now + life / 2;
    token->expires_at = now + life;
    *ret_token = token;
    token = NULL;
    rc = 0;
out:
    if (rc != 0)
        cc_err_in(err, "sign-in for the %s token", scope_names[scope]);
    http_response_free(&response);
    cc_buf_free(&url);
    free(token);
    return rc;
}

/* ---- the cache ---- */

/* LOCKED */
static void
token_release(struct intune_token *token)
{
    if (token == NULL || --token->owners > 0)
        return;
    cc_secret_free(token->secret);
    free(token);
}

/* LOCKED; whether the token can be given out without asking for a new one. */
static bool
serves(const struct intune_token_slot *slot)
{
    int64_t now = cc_clock_mono_ms();

    if (slot->token == NULL || now >= slot->token->expires_at)
        return false;
    return now < slot->token->refresh_at || slot->flight.busy || now < slot->try_at;
}

/* LOCKED before and after, not meanwhile. */
static int
fetch(struct intune_attempt *attempt, enum intune_scope scope, struct cc_err *err)
{
    struct intune_link *link = attempt->link;
    struct intune_token_slot *slot = &link->tokens[scope];
    struct intune_token *token = NULL;
    struct cc_err why = { 0 };
    int rc;

    slot->flight.busy = true;
    pthread_mutex_unlock(&link->lock);
    rc = sign_in(attempt, scope, &token, &why);
    pthread_mutex_lock(&link->lock);
    slot->flight.busy = false;
    slot->flight.landed++;
    slot->flight.err = why;
    slot->flight.refused = attempt->refused;
    slot->flight.unable = attempt->unable;
    pthread_cond_broadcast(&link->landed);
    if (rc == 0) {
        token_release(slot->token);
        slot->token = token;
        return 0;
    }
    slot->try_at = cc_deadline_in(TRY_AGAIN_MS);
    if (serves(slot)) {
        attempt->refused = false;
        attempt->unable = false;
        attempt->retry_after_ms = -1;
        return 0;
    }
    return cc_err_set(err, why.domain, why.code, "%s", why.text);
}

/* LOCKED; somebody else is asking already: their answer is ours. */
static int
await(struct intune_attempt *attempt, struct intune_token_slot *slot, struct cc_err *err)
{
    if (intune_flight_wait(attempt, &slot->flight, err) != 0)
        return -1;
    if (slot->flight.err.domain == CC_DOM_NONE || serves(slot))
        return 0;
    attempt->refused = slot->flight.refused;
    attempt->unable = slot->flight.unable;
    return cc_err_set(err, slot->flight.err.domain, slot->flight.err.code, "%s",
            slot->flight.err.text);
}

int
intune_token_get(struct intune_attempt *attempt, enum intune_scope scope,
        struct intune_token **ret_token, struct cc_err *err)
{
    struct intune_link *link = attempt->link;
    struct intune_token_slot *slot = &link->tokens[scope];
    int rc = 0;

    pthread_mutex_lock(&link->lock);
    while (rc == 0 && !serves(slot))
        rc = slot->flight.busy ? await(attempt, slot, err) : fetch(attempt, scope, err);
    if (rc == 0) {
        slot->token->owners++;
        *ret_token = slot->token;
    }
    pthread_mutex_unlock(&link->lock);
    return rc;
}

void
intune_token_put(struct intune_link *link, struct intune_token *token)
{
    pthread_mutex_lock(&link->lock);
    token_release(token);
    pthread_mutex_unlock(&link->lock);
}

void
intune_token_drop(struct intune_link *link, enum intune_scope scope, struct intune_token *token)
{
    struct intune_token_slot *slot = &link->tokens[scope];

    pthread_mutex_lock(&link->lock);
    if (slot->token == token) {
        token_release(slot->token);
        slot->token = NULL;
    }
    pthread_mutex_unlock(&link->lock);
}

void
intune_tokens_free(struct intune_link *link)
{
    int scope;

    for (scope = 0; scope < INTUNE_SCOPES; scope++)
        token_release(link->tokens[scope].token);
}
