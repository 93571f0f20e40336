/* SPDX-License-Identifier: MIT */
#include "intune/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "intune_int.h"

#define DOWNLOAD_MAX 100
#define WAIT_MAX_S 30
#define CONTEXT_MAX 1024
#define REQUEST_ID_MAX 128
#define ATTEMPTS_MAX 1000000
#define STATUS_MAX 64

/* Of one request: a PFX of 256 KiB in base64 and what goes with it. */
#define REQUEST_MAX ((size_t)512 << 10)
#define ANSWER_MIN ((size_t)64 << 10)

#define LEASE_MAX_MS INT64_C(86400000)

/* The service's Date counts whole seconds and may be this much behind. */
#define DATE_STEP_MS 1000

#define UPLOAD_MAX ((size_t)64 << 20)

static const struct {
    enum intune_error_code code;
    const char *name;
} error_codes[] = {
    { INTUNE_OK, "None" },
    { INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION, "NonRetryableServiceException" },
    { INTUNE_DATA_SERIALIZATION_ERROR, "DataSerializationError" },
    { INTUNE_PARAMETER_DATA_INVALID_ERROR, "ParameterDataInvalidError" },
    { INTUNE_CRYPTOGRAPHY_ERROR, "CryptographyError" },
    { INTUNE_CERTIFICATE_NOT_FOUND_ERROR, "CertificateNotFoundError" },
    { INTUNE_CONFLICT_ERROR, "ConflictError" },
    { INTUNE_NOT_SUPPORTED_ERROR, "NotSupportedError" },
    { INTUNE_PAYLOAD_TOO_LARGE_ERROR, "PayloadTooLargeError" },
    { INTUNE_RETRYABLE_SERVICE_EXCEPTION, "RetryableServiceException" },
    { INTUNE_SERVICE_UNAVAILABLE_EXCEPTION, "ServiceUnavailableException" },
    { INTUNE_SERVICE_TOO_BUSY_EXCEPTION, "ServiceTooBusyException" },
    { INTUNE_AUTHENTICATION_EXCEPTION, "AuthenticationException" },
    { INTUNE_TOKEN_UNAVAILABLE, "TokenUnavailable" },
    { INTUNE_CA_UNAVAILABLE, "CaUnavailable" },
    { INTUNE_CA_DENIED, "CaDenied" },
    { INTUNE_CA_PENDING, "CaPending" },
    { INTUNE_BAD_REQUEST, "BadRequest" },
    { INTUNE_RECIPIENT_NOT_ACCEPTED, "RecipientNotAccepted" },
    { INTUNE_KEY_NOT_FOUND, "KeyNotFound" },
    { INTUNE_DECRYPT_FAILED, "DecryptFailed" },
};

unsigned
intune_error_code_number(enum intune_error_code code)
{
    _Static_assert(CC_COUNT(error_codes) == INTUNE_ERROR_CODES, "as many as are announced");

    for (unsigned i = 0; i < INTUNE_ERROR_CODES; i++)
        if (error_codes[i].code == code)
            return i;
    return 1; /* as intune_error_code_parse() */
}

enum intune_error_code
intune_error_code_at(unsigned number)
{
    return error_codes[number].code;
}

const char *
intune_error_code_name(enum intune_error_code code)
{
    size_t i;

    for (i = 0; i < CC_COUNT(error_codes); i++)
        if (error_codes[i].code == code)
            return error_codes[i].name;
    return "NonRetryableServiceException";
}

enum intune_error_code
intune_error_code_parse(const char *name)
{
    size_t i;

    for (i = 0; name != NULL && i < CC_COUNT(error_codes); i++)
        if (strcmp(error_codes[i].name, name) == 0)
            return error_codes[i].code;
    return INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION;
}

/* ---- parts of the calls ---- */

enum action { DOWNLOAD, RENEW, UPLOAD, RELEASE };

static const char *
action_path(enum intune_queue queue, enum action action)
{
    static const char *const paths[][4] = {
        [INTUNE_QUEUE_PKCS] = { "PkcsRequests/download", "PkcsRequests/renewLeases",
                "PkcsRequests/upload", "PkcsRequests/release" },
        [INTUNE_QUEUE_PFX_IMPORT] = { "PfxImportRequests/download", "PfxImportRequests/renewLeases",
                "PfxImportRequests/upload", "PfxImportRequests/release" },
    };

    return paths[queue][action];
}

/* The list "value" that every answer of a queue has. */
static int
answer_list(json_object *json, json_object **ret_list, struct cc_err *err)
{
    if (cc_json_get_array(json, "value", ret_list, err) != 0)
        return -1;
    if (*ret_list == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"value\" is missing");
    return 0;
}

/*
 * The end of a lease by our wall clock.  The service's clock is read from the Date of the same answer; without one both
 * clocks are taken for equal.  0 when the text is no time.
 */
static int64_t
lease_end(const char *text, int64_t date_ms)
{
    int64_t now = cc_clock_now_ms();
    int64_t until;

    if (text == NULL || cc_time_parse(text, &until, NULL) != 0)
        return 0;
    if (date_ms != 0)
        until += now - date_ms - DATE_STEP_MS;
    if (until > now + LEASE_MAX_MS)
        until = now + LEASE_MAX_MS;
    return until < 1 ? 1 : until;
}

/* {"connectorId": …, "requestContexts": […]}; NULL without memory. */
static json_object *
contexts_body(const char *connector_id, const char *const *contexts, size_t count,
        struct cc_err *err)
{
    json_object *body = json_object_new_object();
    json_object *list = json_object_new_array();
    size_t i;

    if (body == NULL || list == NULL) {
        json_object_put(list);
        cc_err_nomem(err);
        goto fail;
    }
    for (i = 0; i < count; i++) {
        json_object *context = json_object_new_string(contexts[i]);

        if (context == NULL || json_object_array_add(list, context) != 0) {
            json_object_put(context);
            json_object_put(list);
            cc_err_nomem(err);
            goto fail;
        }
    }
    if (cc_json_add_str(body, "connectorId", connector_id, err) != 0) {
        json_object_put(list);
        goto fail;
    }
    if (cc_json_add(body, "requestContexts", list, err) == 0)
        return body;
fail:
    json_object_put(body);
    return NULL;
}

/* The item of an answer that has this context, or NULL.  Looks first where it most likely is. */
static json_object *
item_of(json_object *list, const char *context, size_t place)
{
    size_t len = json_object_array_length(list);
    size_t i;

    for (i = 0; i < len; i++) {
        json_object *item = json_object_array_get_idx(list, (place + i) % len);
        const char *text = NULL;

        if (cc_json_get_str(item, "requestContext", CONTEXT_MAX, &text, NULL) == 0 &&
                text != NULL && strcmp(text, context) == 0)
            return item;
    }
    return NULL;
}

/* ---- download ---- */

static json_object *
download_body(const char *connector_id, unsigned max, int64_t wait_s, struct cc_err *err)
{
    json_object *body = json_object_new_object();
    json_object *parameters = json_object_new_object();

    if (cc_json_add_str(parameters, "connectorId", connector_id, err) != 0 ||
            cc_json_add_int(parameters, "maxRequests", max, err) != 0 ||
            cc_json_add_int(parameters, "waitSeconds", wait_s, err) != 0) {
        json_object_put(parameters);
        json_object_put(body);
        return NULL;
    }
    if (cc_json_add(body, "downloadParameters", parameters, err) != 0) {
        json_object_put(body);
        return NULL;
    }
    return body;
}

static int
work_read(json_object *item, int64_t date_ms, struct intune_work *ret, struct cc_err *err)
{
    const char *context = NULL;
    const char *id = NULL;
    const char *lease = NULL;
    int64_t attempt = 1;

    if (cc_json_need_str(item, "requestContext", CONTEXT_MAX, &context, err) != 0 ||
            cc_json_need_str(item, "requestId", REQUEST_ID_MAX, &id, err) != 0 ||
            cc_json_need_str(item, "leaseExpirationDateTime", STATUS_MAX, &lease, err) != 0 ||
            cc_json_get_int(item, "attempt", 1, ATTEMPTS_MAX, 1, &attempt, err) != 0)
        return -1;
    if ((ret->lease_until_ms = lease_end(lease, date_ms)) == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"leaseExpirationDateTime\" is no time");
    cc_strcpy(ret->request_context, sizeof(ret->request_context), context);
    cc_strcpy(ret->request_id, sizeof(ret->request_id), id);
    ret->attempt = (int)attempt;
    ret->body = json_object_get(item);
    return 0;
}

static int
download_read(const struct intune_answer *answer, unsigned max, struct intune_work **ret_work,
        size_t *ret_count, size_t *ret_malformed, struct cc_err *err)
{
    json_object *list = NULL;
    struct intune_work *work;
    size_t count = 0;
    size_t i, len;

    if (answer_list(answer->json, &list, err) != 0)
        return -1;
    len = json_object_array_length(list);
    if (len > max)
        return cc_err_set(err, CC_DOM_INPUT, 0, "%zu requests where at most %u were asked for", len,
                max);
    if ((work = calloc(len + 1, sizeof(*work))) == NULL)
        return cc_err_nomem(err);
    for (i = 0; i < len; i++)
        if (work_read(json_object_array_get_idx(list, i), answer->date_ms, &work[count], NULL) == 0)
            count++;
    *ret_work = work;
    *ret_count = count;
    *ret_malformed = len - count;
    return 0;
}

int
intune_download_read(const void *text, size_t len, unsigned max, int64_t date_ms,
        struct intune_work **ret_work, size_t *ret_count, size_t *ret_malformed, struct cc_err *err)
{
    struct intune_answer answer = { .json = cc_json_parse(text, len, err), .date_ms = date_ms };
    int rc = answer.json == NULL
                     ? -1
                     : download_read(&answer, max, ret_work, ret_count, ret_malformed, err);

    json_object_put(answer.json);
    return rc;
}

int
intune_queue_download(struct intune *intune, enum intune_queue queue, const char *connector_id,
        unsigned max, int64_t wait_ms, struct intune_work **ret_work, size_t *ret_count,
        size_t *ret_malformed, struct cc_err *err)
{
    struct intune_call call = { .what = action_path(queue, DOWNLOAD), .method = "POST" };
    struct intune_answer answer = { 0 };
    int64_t wait_s = wait_ms <= 0 ? 0 : wait_ms / 1000;
    int rc = -1;

    if (wait_s > WAIT_MAX_S)
        wait_s = WAIT_MAX_S;
    if (max < 1 || max > DOWNLOAD_MAX)
        max = max < 1 ? 1 : DOWNLOAD_MAX;
    call.wait_ms = wait_s * 1000;
    call.download = true;
    call.max_response = ANSWER_MIN + max * REQUEST_MAX;
    connector_id = intune_call_name(intune, &call, connector_id);
    if ((call.body = download_body(connector_id, max, wait_s, err)) != NULL &&
            intune_call(intune, &call, &answer, err) == 0) {
        rc = download_read(&answer, max, ret_work, ret_count, ret_malformed, err);
        if (rc != 0)
            cc_err_in(err, "%s", call.what);
    }
    intune_link_put(call.link);
    json_object_put(answer.json);
    json_object_put(call.body);
    return rc;
}

void
intune_work_free(struct intune_work *work, size_t count)
{
    size_t i;

    if (work == NULL)
        return;
    for (i = 0; i < count; i++)
        json_object_put(work[i].body);
    free(work);
}

/* ---- leases ---- */

int
intune_queue_renew(struct intune *intune, enum intune_queue queue, const char *connector_id,
        const char *const *contexts, size_t count, int64_t *ret_lease_until_ms, struct cc_err *err)
{
    struct intune_call call = { .what = action_path(queue, RENEW), .method = "POST" };
    struct intune_answer answer = { 0 };
    json_object *list = NULL;
    int rc = -1;
    size_t i;

    call.max_response = ANSWER_MIN + count * 2 * CONTEXT_MAX;
    connector_id = intune_call_name(intune, &call, connector_id);
    if ((call.body = contexts_body(connector_id, contexts, count, err)) == NULL ||
            intune_call(intune, &call, &answer, err) != 0)
        goto out;
    if (answer_list(answer.json, &list, err) != 0) {
        cc_err_in(err, "%s", call.what);
        goto out;
    }
    for (i = 0; i < count; i++) {
        json_object *item = item_of(list, contexts[i], i);
        const char *text = NULL;

        if (item != NULL &&
                cc_json_get_str(item, "leaseExpirationDateTime", STATUS_MAX, &text, NULL) != 0)
            text = NULL;
        ret_lease_until_ms[i] = lease_end(text, answer.date_ms);
    }
    rc = 0;
out:
    intune_link_put(call.link);
    json_object_put(answer.json);
    json_object_put(call.body);
    return rc;
}

int
intune_queue_release(struct intune *intune, enum intune_queue queue, const char *connector_id,
        const char *const *contexts, size_t count, struct cc_err *err)
{
    struct intune_call call = { .what = action_path(queue, RELEASE),
        .method = "POST",
        .may_be_empty = true };
    struct intune_answer answer = { 0 };
    int rc = -1;

    connector_id = intune_call_name(intune, &call, connector_id);
    if ((call.body = contexts_body(connector_id, contexts, count, err)) != NULL)
        rc = intune_call(intune, &call, &answer, err);
    intune_link_put(call.link);
    json_object_put(answer.json);
    json_object_put(call.body);
    return rc;
}

/* ---- upload ---- */

static int
upload_body(const char *connector_id, const char *const *results, size_t count, struct cc_buf *ret,
        struct cc_err *err)
{
    json_object *id = json_object_new_string(connector_id);
    int rc = -1;
    size_t i;

    if (id == NULL)
        return cc_err_nomem(err);
    if (cc_buf_add_str(ret, "{\"connectorId\":", err) != 0 || cc_json_write(id, ret, err) != 0 ||
            cc_buf_add_str(ret, ",\"results\":[", err) != 0)
        goto out;
    for (i = 0; i < count; i++)
        if ((i > 0 && cc_buf_add_str(ret, ",", err) != 0) ||
                cc_buf_add_str(ret, results[i], err) != 0)
            goto out;
    rc = cc_buf_add_str(ret, "]}", err);
out:
    json_object_put(id);
    return rc;
}

/* A result as it is sent, and the context that it carries; reading it also shows that the text is one JSON object. */
struct sent {
    json_object *json;
    const char *context;
};

static int
sent_read(const char *result, struct sent *ret, struct cc_err *err)
{
    ret->json = cc_json_parse(result, strlen(result), err);
    if (ret->json == NULL)
        return -1;
    return cc_json_need_str(ret->json, "requestContext", CONTEXT_MAX, &ret->context, err);
}

static enum intune_verdict
verdict_read(json_object *item)
{
    static const struct {
        const char *name;
        enum intune_verdict verdict;
    } names[] = {
        { "accepted", INTUNE_ACCEPTED },
        { "alreadyCompleted", INTUNE_ALREADY_COMPLETED },
        { "leaseLost", INTUNE_LEASE_LOST },
    };
    const char *status = NULL;
    size_t i;

    if (item == NULL || cc_json_need_str(item, "status", STATUS_MAX, &status, NULL) != 0)
        return INTUNE_NO_VERDICT;
    for (i = 0; i < CC_COUNT(names); i++)
        if (cc_equal_nocase(status, names[i].name))
            return names[i].verdict;
    return INTUNE_UNKNOWN;
}

int
intune_queue_upload(struct intune *intune, enum intune_queue queue, const char *connector_id,
        const char *const *results, size_t count, enum intune_verdict *ret_verdicts,
        struct cc_err *err)
{
    struct intune_call call = { .what = action_path(queue, UPLOAD), .method = "POST" };
    struct cc_buf text = CC_BUF_INIT(UPLOAD_MAX);
    struct sent *sent = calloc(count + 1, sizeof(*sent));
    struct intune_answer answer = { 0 };
    json_object *list = NULL;
    int rc = -1;
    size_t i;

    connector_id = intune_call_name(intune, &call, connector_id);
    if (sent == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    for (i = 0; i < count; i++)
        if (sent_read(results[i], &sent[i], err) != 0) {
            cc_err_in(err, "result %zu", i);
            goto out;
        }
    if (upload_body(connector_id, results, count, &text, err) != 0)
        goto out;
    call.text = cc_buf_bytes(&text);
    call.max_response = ANSWER_MIN + count * 2 * CONTEXT_MAX;
    if (intune_call(intune, &call, &answer, err) != 0)
        goto out;
    if (answer_list(answer.json, &list, err) != 0) {
        cc_err_in(err, "%s", call.what);
        goto out;
    }
    for (i = 0; i < count; i++)
        ret_verdicts[i] = verdict_read(item_of(list, sent[i].context, i));
    rc = 0;
out:
    for (i = 0; sent != NULL && i < count; i++)
        json_object_put(sent[i].json);
    free(sent);
    intune_link_put(call.link);
    json_object_put(answer.json);
    cc_buf_free(&text);
    return rc;
}
