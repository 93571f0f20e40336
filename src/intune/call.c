/* SPDX-License-Identifier: MIT */
#include "intune_int.h"

#include <string.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/failpoint.h"
#include "base/json.h"
#include "hsm/hsm.h"

#define BACKOFF_CAP_MS 20000
#define RETRY_AFTER_CAP_MS 60000
#define ANSWER_MAX ((size_t)1 << 20)
#define CODE_SHOWN 80
#define MESSAGE_SHOWN 240

/* What libcurl says of a call that took too long (CURLE_OPERATION_TIMEDOUT). */
#define TIMED_OUT 28

/* A peer that throttles and says how long is obeyed this often before a call gives up. */
#define THROTTLED_MAX 30

/* ---- refusals ---- */

/* The text of a member, or NULL when there is none: what a refusal says is shown, not relied on. */
static const char *
text_of(json_object *json, const char *name)
{
    const char *text = NULL;

    return json != NULL && cc_json_get_str(json, name, SIZE_MAX, &text, NULL) == 0 ? text : NULL;
}

static json_object *
object_of(json_object *json, const char *name)
{
    json_object *object = NULL;

    return json != NULL && cc_json_get_object(json, name, &object, NULL) == 0 ? object : NULL;
}

/* Graph's and ours: {"error":{"code","message"}}; OAuth's: {"error":"…","error_description":"…"}; old Graph's. */
static void
read_refusal(json_object *json, const char **ret_code, const char **ret_message)
{
    json_object *error = object_of(json, "error");

    if (error == NULL)
        error = object_of(json, "odata.error");
    if (error == NULL) {
        *ret_code = text_of(json, "error");
        *ret_message = text_of(json, "error_description");
        return;
    }
    *ret_code = text_of(error, "code");
    *ret_message = text_of(error, "message");
    if (*ret_message == NULL)
        *ret_message = text_of(object_of(error, "message"), "value");
}

/* The first of OAuth's "error_codes". */
static long
entra_number(json_object *json)
{
    json_object *codes = NULL;
    int64_t number;

    if (json == NULL || cc_json_get_array(json, "error_codes", &codes, NULL) != 0 ||
            codes == NULL || json_object_array_length(codes) == 0)
        return 0;
    number = json_object_get_int64(json_object_array_get_idx(codes, 0));
    return number > 0 && number < INT32_MAX ? (long)number : 0;
}

/* The names that the connectors' service has for what it thinks of our identity. */
static void
note_code(struct intune_attempt *attempt, const char *code)
{
    if (code == NULL)
        return;
    attempt->certificate_refused = cc_equal_nocase(code, "CertificateRefused") ||
                                   cc_equal_nocase(code, "CertificateRequired");
    attempt->removed = cc_equal_nocase(code, "ConnectorRemoved");
}

int
intune_refusal(struct intune_attempt *attempt, const struct http_response *response,
        const char *what, struct cc_err *err)
{
    json_object *json = cc_json_parse(response->body.data, response->body.len, NULL);
    const char *code = NULL;
    const char *message = NULL;
    char shown_code[CODE_SHOWN];
    char shown_message[MESSAGE_SHOWN];

    attempt->retry_after_ms = response->retry_after_ms;
    if (attempt->retry_after_ms < 0)
        attempt->retry_after_ms = response->ms_retry_after;
    read_refusal(json, &code, &message);
    attempt->entra_number = entra_number(json);
    note_code(attempt, code);
    cc_err_set(err, CC_DOM_HTTP, response->status,
            "%s%sstatus %ld%s%s%s%s (client-request-id %s%s%s)", what == NULL ? "" : what,
            what == NULL ? "" : ": ", response->status, code == NULL ? "" : ": ",
            code == NULL ? "" : cc_escape_into(shown_code, sizeof(shown_code), code),
            message == NULL ? "" : ": ",
            message == NULL ? "" : cc_escape_into(shown_message, sizeof(shown_message), message),
            attempt->request_id, response->request_id[0] == '\0' ? "" : ", request-id ",
            response->request_id);
    json_object_put(json);
    return -1;
}

/* ---- within the deadline ---- */

static int
too_late(struct cc_err *err)
{
    return cc_err_set(err, CC_DOM_NETWORK, TIMED_OUT, "the time for the call is over");
}

int
intune_exchange(struct intune_attempt *attempt, struct http_client *client,
        const struct http_request *request, struct http_response *ret, struct cc_err *err)
{
    struct http_request bounded = *request;
    int left = cc_deadline_left(attempt->deadline);

    if (left == 0)
        return too_late(err);
    if (bounded.timeout_ms > left)
        bounded.timeout_ms = left;
    if (http_client_send(client, &bounded, ret, err) != 0)
        return -1;
    intune_note_date(attempt->link->intune, ret->date_ms);
    return 0;
}

int
intune_flight_wait(struct intune_attempt *attempt, const struct intune_flight *flight,
        struct cc_err *err)
{
    struct intune_link *link = attempt->link;
    const unsigned landed = flight->landed;

    while (flight->landed == landed) {
        int left = cc_deadline_left(attempt->deadline);

        if (left == 0)
            return too_late(err);
        cc_cond_wait(&link->landed, &link->lock, left);
    }
    return 0;
}

/* ---- with our identity ---- */

bool
intune_was_certificate(const struct cc_err *err)
{
    return err->domain == CC_DOM_NETWORK && err->code == HTTP_CERTIFICATE_REFUSED;
}

static struct http_client *
client_for(const struct intune_attempt *attempt, bool shown)
{
    const struct intune_link *link = attempt->link;

    if (shown)
        return attempt->download ? link->shown_download : link->shown;
    return attempt->download ? link->download : link->http;
}

/* A token that went away in the middle of a handshake is told by libcurl as a broken connection. */
static int
exchange_shown(struct intune_attempt *attempt, const struct http_request *request,
        struct http_response *ret, struct cc_err *err)
{
    struct hsm_key *key = attempt->link->identity_key;
    const uint64_t outages = hsm_key_outages(key);

    if (intune_exchange(attempt, client_for(attempt, true), request, ret, err) == 0)
        return 0;
    attempt->certificate_refused = intune_was_certificate(err);
    if (err->domain == CC_DOM_NETWORK && hsm_key_outages(key) != outages) {
        err->domain = CC_DOM_TOKEN;
        err->code = HSM_FAULT_UNAVAILABLE;
        cc_err_in(err, "the token did not sign");
    }
    attempt->unable = err->domain == CC_DOM_TOKEN || err->domain == CC_DOM_PKCS11 ||
                      err->domain == CC_DOM_CONFIG;
    return -1;
}

/* ---- with a token ---- */

static int
send_once(struct intune_attempt *attempt, enum intune_scope scope, struct http_request *request,
        struct http_response *ret, struct intune_token **ret_token, struct cc_err *err)
{
    struct intune_token *token;
    int rc;

    if (intune_token_get(attempt, scope, &token, err) != 0)
        return -1;
    request->bearer = token->secret;
    if (scope == INTUNE_SCOPE_SERVICE && attempt->shown && attempt->link->shown != NULL)
        rc = exchange_shown(attempt, request, ret, err);
    else
        rc = intune_exchange(attempt, client_for(attempt, false), request, ret, err);
    request->bearer = NULL;
    *ret_token = token;
    return rc;
}

int
intune_send(struct intune_attempt *attempt, enum intune_scope scope, struct http_request *request,
        struct http_response *ret, struct cc_err *err)
{
    for (;;) {
        struct intune_token *token = NULL;
        int rc = send_once(attempt, scope, request, ret, &token, err);
        bool again = rc == 0 && ret->status == 401 && !attempt->renewed[scope];

        if (token != NULL && rc == 0 && ret->status == 401)
            intune_token_drop(attempt->link, scope, token);
        if (token != NULL)
            intune_token_put(attempt->link, token);
        if (!again) {
            attempt->refused = attempt->refused || (rc == 0 && ret->status == 401);
            return rc;
        }
        attempt->renewed[scope] = true;
        http_response_free(ret);
    }
}

/* ---- one attempt ---- */

/* Where the call goes, as seen now. */
static int
make_url(struct intune_attempt *attempt, const struct intune_call *call, struct cc_buf *url,
        struct cc_err *err)
{
    if (call->url != NULL)
        return cc_buf_add_str(url, call->url, err);
    if (intune_endpoint_get(attempt,
                call->service != NULL ? call->service : INTUNE_CONNECTOR_SERVICE, url, err) != 0 ||
            cc_buf_add_str(url, "/", err) != 0)
        return -1;
    return cc_buf_add_str(url, call->what, err);
}

static int
send_call(struct intune_attempt *attempt, const struct intune_call *call, struct http_response *ret,
        struct cc_err *err)
{
    const char *version = call->api_version != NULL ? call->api_version : INTUNE_API_VERSION;
    /* The last two are the services' own; the spelling of UserAgent is theirs, besides the usual header. */
    const struct http_header headers[] = { { "client-request-id", attempt->request_id },
        { "Accept", "application/json" }, { "api-version", version },
        { "UserAgent", attempt->link->caller_info } };
    struct cc_buf url = CC_BUF_INIT(INTUNE_URL_MAX * 4);
    struct http_request request = {
        .method = call->method,
        .headers = headers,
        .header_count = call->url != NULL ? CC_COUNT(headers) - 2 : CC_COUNT(headers),
        .content_type = call->text.data != NULL ? "application/json" : NULL,
        .body = call->text,
        .timeout_ms = attempt->link->timeout_ms + call->wait_ms,
        .max_response = call->max_response > 0 ? call->max_response : ANSWER_MAX,
        .public_only = call->url == NULL && !attempt->link->private_addresses &&
                       !attempt->link->allow_http,
    };
    int rc = make_url(attempt, call, &url, err);

    if (rc == 0) {
        request.url = cc_buf_str(&url);
        rc = intune_send(attempt, call->url != NULL ? INTUNE_SCOPE_GRAPH : INTUNE_SCOPE_SERVICE,
                &request, ret, err);
    }
    cc_buf_free(&url);
    return rc;
}

/* Between its two fail points. */
static int
send_passing(struct intune_attempt *attempt, const struct intune_call *call,
        struct http_response *ret, struct cc_err *err)
{
    if (CC_FAILPOINT("service", call->what, "before"))
        return cc_err_set(err, CC_DOM_NETWORK, INTUNE_CUT, "fail point before the call");
    if (send_call(attempt, call, ret, err) != 0)
        return -1;
    if (CC_FAILPOINT("service", call->what, "after"))
        return cc_err_set(err, CC_DOM_NETWORK, INTUNE_CUT, "fail point after the call");
    return 0;
}

static int
read_answer(const struct intune_call *call, const struct http_response *response,
        struct intune_answer *ret, struct cc_err *err)
{
    json_object *json = NULL;

    if (!(call->may_be_empty && response->body.len == 0) &&
            (json = cc_json_parse(response->body.data, response->body.len, err)) == NULL)
        return cc_err_in(err, "the answer");
    if (json != NULL && !json_object_is_type(json, json_type_object)) {
        json_object_put(json);
        return cc_err_set(err, CC_DOM_INPUT, 0, "the answer is no object");
    }
    ret->json = json;
    ret->date_ms = response->date_ms;
    return 0;
}

/* Of our identity it says nothing of what was asked: that may well be done when we are somebody again. */
static int
refuse(struct intune_attempt *attempt, const struct http_response *response, struct cc_err *err)
{
    intune_refusal(attempt, response, NULL, err);
    if (attempt->certificate_refused) {
        attempt->refused = false;
        err->domain = CC_DOM_NETWORK;
        err->code = HTTP_CERTIFICATE_REFUSED;
    }
    return -1;
}

/*
 * One attempt, with what it may repeat at once: a refused token (intune_send()) and an address that is gone.  Of other
 * failures the address may be to blame as well, so that the next attempt asks discovery first.
 */
static int
try_call(struct intune_attempt *attempt, const struct intune_call *call, struct intune_answer *ret,
        struct cc_err *err)
{
    for (;;) {
        struct http_response response;
        bool gone, doubtful, again;
        int rc;

        http_response_init(&response);
        rc = send_passing(attempt, call, &response, err);
        gone = rc == 0 && (response.status == 404 || response.status == 410);
        doubtful = rc == 0 ? response.status >= 500
                           : err->domain == CC_DOM_NETWORK && !attempt->certificate_refused;
        again = call->url == NULL && gone && !attempt->rediscovered;
        if (call->url == NULL && (gone || doubtful) && !attempt->rediscovered) {
            attempt->rediscovered = true;
            intune_endpoint_forget(attempt->link, gone);
        }
        if (rc == 0 && !again) {
            if (response.status >= 200 && response.status < 300)
                rc = read_answer(call, &response, ret, err);
            else
                rc = refuse(attempt, &response, err);
        }
        http_response_free(&response);
        if (!again)
            return rc;
    }
}

/* ---- all attempts ---- */

static bool
throttled(const struct intune_attempt *attempt, const struct cc_err *err)
{
    return err->domain == CC_DOM_HTTP && err->code == 429 && attempt->retry_after_ms >= 0;
}

/* A password that a proxy refused is wrong the next time as well, and the account may be locked for trying. */
static bool
passes(const struct cc_err *err)
{
    return (err->domain == CC_DOM_NETWORK && err->code != HTTP_PROXY_WANTS_USER) ||
           (err->domain == CC_DOM_HTTP &&
                   (err->code == 408 || err->code == 429 || err->code >= 500));
}

/* As long as the peer asks for, as far as we heed it. */
static int64_t
asked_ms(const struct intune_attempt *attempt)
{
    return attempt->retry_after_ms < RETRY_AFTER_CAP_MS ? attempt->retry_after_ms
                                                        : RETRY_AFTER_CAP_MS;
}

/* What the peer asks for comes before what we would choose; but others were asked for the same at the same time. */
static int64_t
pause_ms(const struct intune_attempt *attempt, unsigned failed)
{
    if (attempt->retry_after_ms >= 0)
        return asked_ms(attempt) + cc_lateness_ms(asked_ms(attempt), attempt->link->backoff_ms);
    return cc_backoff_ms(failed, attempt->link->backoff_ms, BACKOFF_CAP_MS);
}

/* Whether to try again after this failure, the pause being over then; no pause outlasts the deadline. */
static bool
again(struct intune_attempt *attempt, const struct intune_call *call, unsigned *failed,
        unsigned *slowed, struct cc_err *why)
{
    struct intune *intune = attempt->link->intune;
    struct cc_err stop = { 0 };
    int64_t pause;

    if (!passes(why))
        return false;
    if (call->url != NULL && throttled(attempt, why) && *slowed < THROTTLED_MAX)
        (*slowed)++;
    else if (*failed + 1 >= attempt->link->attempts)
        return false;
    else
        (*failed)++;
    pause = pause_ms(attempt, *failed);
    if (pause >= cc_deadline_left(attempt->deadline))
        return false;
    if (!throttled(attempt, why) && !intune_may_retry(intune))
        return false;
    if (intune_wait(intune, pause, call->download, &stop) != 0) {
        *why = stop;
        return false;
    }
    return true;
}

/* The service that connectors live by, which keeps count of them. */
static bool
is_connector_service(const struct intune_call *call)
{
    return call->url == NULL && call->service == NULL;
}

/* What a Retry-After asks of one call, it asks of all; false: we stop, or the time for the call ends before. */
static bool
heed_retry_after(const struct intune_attempt *attempt, const struct intune_call *call,
        struct cc_err *err)
{
    struct intune *intune = attempt->link->intune;
    int64_t left = is_connector_service(call) ? intune_call_at(intune) - cc_clock_mono_ms() : 0;

    if (left <= 0)
        return true;
    left += cc_lateness_ms(left, attempt->link->backoff_ms);
    if (left >= cc_deadline_left(attempt->deadline)) {
        cc_err_set(err, CC_DOM_HTTP, 503, "the service asked not to be called before");
        return false;
    }
    return intune_wait(intune, left, call->download, err) == 0;
}

/* The identity may have been renewed meanwhile; who the body speaks for stays. */
static void
take_new_identity(struct intune_attempt *attempt)
{
    struct intune_link *now = intune_link_get(attempt->link->intune);

    if (strcmp(now->connector_id, attempt->link->connector_id) == 0) {
        intune_link_put(attempt->link);
        attempt->link = now;
    } else {
        intune_link_put(now);
    }
}

/* Our own protocol, whose calls say which connector makes them; those of Intune's published APIs do not. */
static bool
names_connector(const struct intune_call *call)
{
    return is_connector_service(call) && call->api_version == NULL;
}

/* Graph is the administrator's; contact with the service is what the connector lives by. */
static void
note(struct intune *intune, const struct intune_call *call, const struct intune_attempt *attempt,
        const struct cc_err *why)
{
    /* Those where 409 means that there is no place for us. */
    const bool counted = names_connector(call);

    if (call->url != NULL || why->domain == CC_DOM_CANCELLED)
        return;
    /* What fails under settings that are no longer in force says nothing of those that are. */
    if (why->domain != CC_DOM_NONE && !intune_link_is_current(attempt->link))
        return;
    if (why->domain == CC_DOM_NONE)
        intune_note_success(intune, counted);
    else if (attempt->refused)
        intune_note_failure(intune, INTUNE_SIGN_IN_REFUSED, why);
    else if (attempt->unable)
        intune_note_failure(intune, INTUNE_SIGN_IN_UNABLE, why);
    else if (attempt->certificate_refused ||
             (attempt->removed && attempt->shown && attempt->link->identity_key != NULL))
        intune_note_failure(intune,
                attempt->removed ? INTUNE_CONNECTOR_REMOVED : INTUNE_CERTIFICATE_REFUSED, why);
    else if (counted && why->domain == CC_DOM_HTTP && why->code == 409)
        intune_note_failure(intune, INTUNE_CONNECTOR_LIMIT, why);
    else if (why->domain == CC_DOM_HTTP && why->code >= 400 && why->code < 500 &&
             why->code != 404 && why->code != 410 && why->code != 429)
        intune_note_success(intune, counted); /* no, but an answer */
    else
        intune_note_failure(intune, INTUNE_CONTACT_LOST, why);
}

static int
call_text(struct intune *intune, const struct intune_call *call, struct intune_answer *ret,
        struct cc_err *err)
{
    struct intune_attempt attempt = {
        .link = call->link,
        .download = call->download,
        .shown = is_connector_service(call) && !call->unshown,
        .deadline = call->deadline != 0 ? call->deadline : INT64_MAX,
    };
    const int64_t began_us = cc_histogram_now();
    struct intune_answer answer = { 0 };
    unsigned failed = 0;
    unsigned slowed = 0;
    struct cc_err why = { 0 };
    int rc;

    if (attempt.link == NULL)
        attempt.link = intune_link_get(intune);
    else
        intune_link_ref(attempt.link);
    if (!heed_retry_after(&attempt, call, &why)) {
        intune_link_put(attempt.link);
        return cc_err_set(err, why.domain, why.code, "%s: %s", call->what, why.text);
    }
    do {
        cc_err_clear(&why);
        attempt.retry_after_ms = -1;
        attempt.refused = false;
        attempt.unable = false;
        attempt.removed = false;
        if (attempt.certificate_refused)
            take_new_identity(&attempt);
        attempt.certificate_refused = false;
        rc = cc_uuid(attempt.request_id, &why);
        if (rc == 0)
            rc = try_call(&attempt, call, &answer, &why);
        if (rc != 0 && attempt.retry_after_ms > 0 && is_connector_service(call))
            intune_note_call_at(intune, cc_deadline_in(asked_ms(&attempt)));
    } while (rc != 0 && again(&attempt, call, &failed, &slowed, &why));
    note(intune, call, &attempt, &why);
    intune_measure(intune, call->what, began_us, &why);
    intune_link_put(attempt.link);
    if (rc != 0 && call->removal &&
            (attempt.removed || (why.domain == CC_DOM_HTTP && why.code == 404)))
        return 0;
    if (rc != 0) {
        cc_err_set(err, why.domain, why.code, "%s: %s", call->what, why.text);
        return -1;
    }
    *ret = answer;
    return 0;
}

const char *
intune_call_name(struct intune *intune, struct intune_call *call, const char *name)
{
    call->link = intune_link_get(intune);
    return call->link->connector_id[0] != '\0' ? call->link->connector_id : name;
}

int
intune_call(struct intune *intune, const struct intune_call *call, struct intune_answer *ret,
        struct cc_err *err)
{
    struct intune_call written = *call;
    struct cc_buf text = CC_BUF_INIT((size_t)64 << 20);
    int rc = 0;

    /* Nothing is asked then, which says nothing of the service. */
    if (call->deadline != 0 && cc_deadline_left(call->deadline) == 0) {
        too_late(err);
        return cc_err_in(err, "%s", call->what);
    }
    if (call->body != NULL) {
        rc = cc_json_write(call->body, &text, err);
        written.text = cc_buf_bytes(&text);
    }
    if (rc == 0)
        rc = call_text(intune, &written, ret, err);
    cc_buf_free(&text);
    return rc;
}
