/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "pki/cert.h"

#define DOWNLOAD_MAX 100
#define WAIT_MAX_S 30
#define CONTEXTS_MAX 1000
#define PFX_MAX 1048576
#define ANSWER_BYTES ((size_t)4 << 20) /* of requests in one download, about */

int
tenant_add_time(json_object *obj, const char *name, int64_t time_ms, struct cc_err *err)
{
    char text[CC_TIME_LEN];

    cc_time_format(time_ms, text);
    return cc_json_add_str(obj, name, text, err);
}

void
call_reply_value(struct call *call, json_object *take_value)
{
    json_object *body = json_object_new_object();
    struct cc_err err = { 0 };

    if (cc_json_add(body, "value", take_value, &err) != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}

/* ---- download ---- */

int
queue_apply_overrides(json_object *obj, json_object *overrides, struct cc_err *err)
{
    json_object_object_foreach(overrides, name, value)
    {
        if (value == NULL)
            json_object_object_del(obj, name);
        else if (cc_json_add(obj, name, json_object_get(value), err) != 0)
            return -1;
    }
    return 0;
}

static int
apply_overrides(json_object *obj, const char *text, struct cc_err *err)
{
    json_object *overrides = cc_json_parse(text, strlen(text), err);
    int rc = overrides != NULL ? queue_apply_overrides(obj, overrides, err) : -1;

    json_object_put(overrides);
    return rc;
}

/* The members that the administrator gave, and those of the lease. */
static json_object *
write_document(const struct tenant_work *w, struct cc_err *err)
{
    json_object *obj = cc_json_parse(w->document, strlen(w->document), err);

    if (obj == NULL)
        return NULL;
    if (cc_json_add_str(obj, "requestContext", w->context, err) != 0 ||
            cc_json_add_str(obj, "requestId", w->request_id, err) != 0 ||
            cc_json_add_int(obj, "attempt", w->attempt, err) != 0 ||
            tenant_add_time(obj, "leaseExpirationDateTime", w->lease_until_ms, err) != 0) {
        json_object_put(obj);
        return NULL;
    }
    return obj;
}

static json_object *
write_pfx(const struct tenant_work *w, struct cc_err *err)
{
    json_object *obj = json_object_new_object();
    const struct {
        const char *name, *text;
    } texts[] = { { "requestContext", w->context }, { "requestId", w->request_id },
        { "userPrincipalName", w->pfx.user }, { "deviceId", w->device_id },
        { "thumbprint", w->pfx.thumbprint }, { "intendedPurpose", w->pfx.intended_purpose },
        { "providerName", w->pfx.provider_name }, { "keyName", w->pfx.key_name },
        { "paddingScheme", w->pfx.padding_scheme },
        { "passwordEncryption", w->password_encryption }, { "contentCipher", w->content_cipher } };
    const struct {
        const char *name;
        struct cc_bytes bytes;
    } binaries[] = { { "encryptedPfxBlob", w->pfx.blob },
        { "encryptedPfxPassword", w->pfx.encrypted_password },
        { "recipientCertificate", w->recipient } };

    if (obj == NULL)
        goto fail;
    for (size_t i = 0; i < CC_COUNT(texts); i++)
        if (cc_json_add_str(obj, texts[i].name, texts[i].text, err) != 0)
            goto fail;
    if (cc_json_add_int(obj, "attempt", w->attempt, err) != 0 ||
            tenant_add_time(obj, "leaseExpirationDateTime", w->lease_until_ms, err) != 0)
        goto fail;
    for (size_t i = 0; i < CC_COUNT(binaries); i++)
        if (cc_json_add_base64(obj, binaries[i].name, binaries[i].bytes.data, binaries[i].bytes.len,
                    err) != 0)
            goto fail;
    if (w->overrides != NULL && apply_overrides(obj, w->overrides, err) != 0)
        goto fail;
    return obj;
fail:
    json_object_put(obj);
    return NULL;
}

struct handing_out {
    json_object *value;
    struct cc_err err;
};

static int
hand_out(void *arg, const struct tenant_work *work)
{
    struct handing_out *h = arg;
    json_object *obj =
            work->document != NULL ? write_document(work, &h->err) : write_pfx(work, &h->err);

    if (obj != NULL && json_object_array_add(h->value, obj) == 0)
        return 0;
    json_object_put(obj);
    cc_err_nomem(&h->err);
    return 1;
}

static int
lease(struct call *call, const struct parked_ask *ask, struct handing_out *h, size_t *ret_count,
        struct cc_err *err)
{
    int64_t now_ms = cc_clock_now_ms();
    struct tenant_lease_ask lease_ask = { .feature = call->queue->feature,
        .connector_id = ask->connector_id,
        .max_requests = ask->max_requests,
        .max_bytes = ANSWER_BYTES,
        .now_ms = now_ms,
        .lease_until_ms = now_ms + call->tenant->settings->lease_ms };

    if ((h->value = json_object_new_array()) == NULL)
        return cc_err_nomem(err);
    if (tenant_queue_lease(call->tenant->store, &lease_ask, hand_out, h, ret_count, err) != 0)
        return -1;
    if (h->err.domain != CC_DOM_NONE) {
        *err = h->err;
        return -1;
    }
    return 0;
}

bool
queue_try_download(struct call *call, const struct parked_ask *ask, bool last)
{
    struct handing_out h = { .value = NULL };
    struct cc_err err = { 0 };
    size_t count = 0;

    if (lease(call, ask, &h, &count, &err) != 0) {
        json_object_put(h.value);
        call_reply_failed(call, &err);
        return true;
    }
    if (count == 0 && !last) {
        json_object_put(h.value);
        return false;
    }
    call_reply_value(call, h.value);
    return true;
}

static int
read_download(json_object *body, struct parked_ask *ask, int64_t *ret_wait_s, struct cc_err *err)
{
    json_object *parameters;
    const char *connector;
    int64_t max;

    if (cc_json_get_object(body, "downloadParameters", &parameters, err) != 0)
        return -1;
    if (parameters == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"downloadParameters\" is missing");
    if (connectors_id(parameters, &connector, err) != 0 ||
            cc_json_get_int(parameters, "maxRequests", 1, DOWNLOAD_MAX, 0, &max, err) != 0 ||
            cc_json_get_int(parameters, "waitSeconds", 0, WAIT_MAX_S, 0, ret_wait_s, err) != 0)
        return -1;
    if (max == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"maxRequests\" is missing");
    (void)cc_strcpy(ask->connector_id, sizeof(ask->connector_id), connector);
    ask->max_requests = (unsigned)max;
    ask->deadline = cc_deadline_in(*ret_wait_s * 1000);
    return 0;
}

static void
download(struct call *call, json_object *body)
{
    struct parked_ask ask;
    struct cc_err err = { 0 };
    int64_t wait_s = 0;

    if (read_download(body, &ask, &wait_s, &err) != 0) {
        call_reply_failed(call, &err);
        return;
    }
    if (!connectors_admit(call, ask.connector_id, call->queue->feature))
        return;
    if (!queue_try_download(call, &ask, wait_s == 0))
        parking_add(call->queue->parking, call, &ask);
}

/* ---- contexts: renewLeases and release ---- */

struct contexts {
    const char *connector_id;
    const char **texts; /* of the JSON */
    size_t count;
};

static int
read_contexts(json_object *body, struct contexts *ret, struct cc_err *err)
{
    json_object *array;

    if (connectors_id(body, &ret->connector_id, err) != 0 ||
            cc_json_get_array(body, "requestContexts", &array, err) != 0)
        return -1;
    ret->count = array != NULL ? json_object_array_length(array) : 0;
    if (ret->count == 0 || ret->count > CONTEXTS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"requestContexts\" has none, or over %d",
                CONTEXTS_MAX);
    if ((ret->texts = calloc(ret->count, sizeof(*ret->texts))) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < ret->count; i++) {
        json_object *item = json_object_array_get_idx(array, i);

        if (!json_object_is_type(item, json_type_string))
            return cc_err_set(err, CC_DOM_INPUT, 0, "requestContexts[%zu] is not a text", i);
        ret->texts[i] = json_object_get_string(item);
    }
    return 0;
}

static json_object *
write_renewed(const struct contexts *c, const bool *held, int64_t until_ms, struct cc_err *err)
{
    json_object *value = json_object_new_array();
    json_object *item = NULL;

    if (value == NULL)
        goto fail;
    for (size_t i = 0; i < c->count; i++) {
        item = json_object_new_object();
        if (cc_json_add_str(item, "requestContext", c->texts[i], err) != 0)
            goto fail;
        if (held[i] && tenant_add_time(item, "leaseExpirationDateTime", until_ms, err) != 0)
            goto fail;
        if (!held[i] && json_object_object_add(item, "leaseExpirationDateTime", NULL) != 0)
            goto fail;
        if (json_object_array_add(value, item) != 0)
            goto fail;
        item = NULL;
    }
    return value;
fail:
    json_object_put(item);
    json_object_put(value);
    cc_err_nomem(err);
    return NULL;
}

static void
renew(struct call *call, json_object *body)
{
    struct tenant *tenant = call->tenant;
    struct contexts c = { .count = 0 };
    struct cc_err err = { 0 };
    int64_t now_ms = cc_clock_now_ms();
    int64_t until_ms = now_ms + tenant->settings->lease_ms;
    bool *held = NULL;
    json_object *value;

    if (read_contexts(body, &c, &err) != 0)
        goto fail;
    if (!connectors_admit(call, c.connector_id, call->queue->feature))
        goto out;
    if ((held = calloc(c.count + 1, sizeof(*held))) == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (tenant_queue_renew(tenant->store, call->queue->feature, c.connector_id, c.texts, c.count,
                now_ms, until_ms, held, &err) != 0 ||
            (value = write_renewed(&c, held, until_ms, &err)) == NULL)
        goto fail;
    call_reply_value(call, value);
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    free(held);
    free(c.texts);
}

/* Silent about contexts that are not this connector's: they are what it wants already. */
static void
release(struct call *call, json_object *body)
{
    struct tenant *tenant = call->tenant;
    struct queue *queue = call->queue; /* lives on when the call has ended */
    struct contexts c = { .count = 0 };
    struct cc_err err = { 0 };
    size_t count = 0;

    if (read_contexts(body, &c, &err) != 0) {
        call_reply_failed(call, &err);
    } else if (connectors_admit(call, c.connector_id, call->queue->feature)) {
        if (tenant_queue_release(tenant->store, queue->feature, c.connector_id, c.texts, c.count,
                    cc_clock_now_ms(), &count, &err) != 0)
            call_reply_failed(call, &err);
        else
            call_reply_value(call, json_object_new_array());
    }
    free(c.texts);
    if (count > 0)
        parking_wake(queue->parking);
}

/* ---- upload ---- */

struct uploads {
    const char *connector_id;
    struct tenant_result *results;
    char **texts;
    enum tenant_verdict *verdicts;
    size_t count;
};

static bool
is_no_error(const char *code)
{
    return code == NULL || cc_equal_nocase(code, "None") || strcmp(code, "0") == 0;
}

static int
need_binary(json_object *item, const char *name, size_t max, struct cc_buf *ret, struct cc_err *err)
{
    cc_buf_init(ret, max);
    if (cc_json_get_base64(item, name, ret, err) != 0)
        return -1;
    if (ret->len == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a success without %s", name);
    return 0;
}

static int
check_password(json_object *item, struct cc_err *err)
{
    struct cc_buf password;
    const char *form;
    int rc = need_binary(item, "encryptedPfxPassword", 65536, &password, err);

    if (rc == 0)
        rc = cc_json_need_str(item, "passwordEncryption", 64, &form, err);
    cc_buf_free(&password);
    return rc;
}

/* What is said of the certificate is what stands in it. */
static int
check_certificate(json_object *item, struct cc_err *err)
{
    struct cc_buf der;
    X509 *certificate = NULL;
    char thumbprint[PKI_THUMBPRINT_LEN];
    const char *said, *serial, *expires, *issuer;
    int rc = -1;

    if (need_binary(item, "certificate", PKI_CERT_MAX, &der, err) != 0 ||
            cc_json_need_str(item, "certificateThumbprint", 128, &said, err) != 0 ||
            cc_json_need_str(item, "certificateSerialNumber", 128, &serial, err) != 0 ||
            cc_json_need_str(item, "certificateExpirationDateTime", 64, &expires, err) != 0 ||
            cc_json_need_str(item, "issuingCertificateAuthority", 1024, &issuer, err) != 0)
        goto out;
    if (pki_cert_parse(cc_buf_bytes(&der), &certificate, err) != 0)
        goto out;
    if (pki_cert_thumbprint(certificate, thumbprint, err) != 0)
        goto out;
    rc = 0;
    if (!cc_equal_nocase(said, thumbprint))
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "certificateThumbprint is another certificate's");
out:
    X509_free(certificate);
    cc_buf_free(&der);
    return rc;
}

/* A recrypted PFX comes without a certificate. */
static int
check_pkcs(json_object *item, struct cc_err *err)
{
    struct cc_buf pfx;
    int rc = need_binary(item, "encryptedPfxBlob", PFX_MAX, &pfx, err);

    cc_buf_free(&pfx);
    if (rc == 0 && json_object_object_get_ex(item, "certificate", NULL))
        rc = check_certificate(item, err);
    return rc;
}

static int
check_success(const struct call *call, json_object *item, struct cc_err *err)
{
    if (call->queue == &call->tenant->queues[QUEUE_PKCS] && check_pkcs(item, err) != 0)
        return -1;
    return check_password(item, err);
}

/* succeeded and errorCode must say the same. */
static int
read_result(const struct call *call, json_object *item, struct tenant_result *ret,
        struct cc_err *err)
{
    json_object *succeeded;

    if (cc_json_need_str(item, "requestContext", 1024, &ret->context, err) != 0)
        return -1;
    if (!json_object_object_get_ex(item, "succeeded", &succeeded) ||
            !json_object_is_type(succeeded, json_type_boolean))
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"succeeded\" is missing or no boolean");
    ret->succeeded = json_object_get_boolean(succeeded) != 0;
    if (cc_json_get_bool(item, "retryable", false, &ret->retryable, err) != 0 ||
            cc_json_get_str(item, "errorCode", 64, &ret->error_code, err) != 0)
        return -1;
    if (ret->succeeded != is_no_error(ret->error_code))
        return cc_err_set(err, CC_DOM_INPUT, 0, "succeeded and errorCode contradict each other");
    return ret->succeeded ? check_success(call, item, err) : 0;
}

static int
read_uploads(const struct call *call, json_object *body, struct uploads *ret, struct cc_err *err)
{
    json_object *array;

    if (connectors_id(body, &ret->connector_id, err) != 0 ||
            cc_json_get_array(body, "results", &array, err) != 0)
        return -1;
    ret->count = array != NULL ? json_object_array_length(array) : 0;
    if (ret->count == 0 || ret->count > CONTEXTS_MAX) {
        ret->count = 0;
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"results\" has none, or over %d",
                CONTEXTS_MAX);
    }
    ret->results = calloc(ret->count, sizeof(*ret->results));
    ret->texts = calloc(ret->count, sizeof(*ret->texts));
    ret->verdicts = calloc(ret->count, sizeof(*ret->verdicts));
    if (ret->results == NULL || ret->texts == NULL || ret->verdicts == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < ret->count; i++) {
        json_object *item = json_object_array_get_idx(array, i);

        if (read_result(call, item, &ret->results[i], err) != 0)
            return cc_err_in(err, "results[%zu]", i);
        ret->texts[i] = cc_strdup(json_object_to_json_string_ext(item,
                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
                err);
        if (ret->texts[i] == NULL)
            return -1;
        ret->results[i].text = ret->texts[i];
    }
    return 0;
}

static void
uploads_free(struct uploads *u)
{
    for (size_t i = 0; u->texts != NULL && i < u->count; i++)
        free(u->texts[i]);
    free(u->texts);
    free(u->results);
    free(u->verdicts);
}

static const char *
verdict_name(enum tenant_verdict verdict)
{
    switch (verdict) {
    case TENANT_ACCEPTED:
    case TENANT_DUPLICATE:
        return "accepted";
    case TENANT_ALREADY_COMPLETED:
        return "alreadyCompleted";
    case TENANT_LEASE_LOST:
        return "leaseLost";
    case TENANT_UNKNOWN:
        break;
    }
    return "unknown";
}

static json_object *
write_verdicts(const struct uploads *u, struct cc_err *err)
{
    json_object *value = json_object_new_array();
    json_object *item = NULL;

    for (size_t i = 0; value != NULL && i < u->count; i++) {
        item = json_object_new_object();
        if (cc_json_add_str(item, "requestContext", u->results[i].context, err) != 0 ||
                cc_json_add_str(item, "status", verdict_name(u->verdicts[i]), err) != 0 ||
                json_object_array_add(value, item) != 0) {
            json_object_put(item);
            json_object_put(value);
            value = NULL;
        }
    }
    if (value == NULL)
        cc_err_nomem(err);
    return value;
}

static void
upload(struct call *call, json_object *body)
{
    struct tenant *tenant = call->tenant;
    struct queue *queue = call->queue; /* lives on when the call has ended */
    struct tenant_retry_rule rule = { .delay_ms = tenant->settings->retry_delay_ms,
        .max_attempts = tenant->settings->max_attempts };
    struct uploads u = { .count = 0 };
    struct cc_err err = { 0 };
    json_object *value;

    if (read_uploads(call, body, &u, &err) != 0)
        goto fail;
    if (!connectors_admit(call, u.connector_id, call->queue->feature))
        goto out;
    if (tenant_queue_upload(tenant->store, queue->feature, u.connector_id, u.results, u.count,
                &rule, cc_clock_now_ms(), u.verdicts, &err) != 0 ||
            (value = write_verdicts(&u, &err)) == NULL)
        goto fail;
    call_reply_value(call, value);
    /* A failure may have put a request back: whoever waits must know when it is due. */
    parking_wake(queue->parking);
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    uploads_free(&u);
}

/* ---- capture 1 names what is asked for ---- */

static void
queue_call(struct call *call, enum queue_number number)
{
    static const struct {
        const char *name;
        void (*fn)(struct call *call, json_object *body);
    } actions[] = { { "download", download }, { "renewLeases", renew }, { "upload", upload },
        { "release", release } };
    json_object *body;

    if (!discovery_check_account(call, TENANT_API_VERSION))
        return;
    call->queue = &call->tenant->queues[number];
    for (size_t i = 0; i < CC_COUNT(actions); i++) {
        if (strcmp(call->capture[1], actions[i].name) != 0)
            continue;
        if ((body = call_json(call, json_type_object)) != NULL) {
            actions[i].fn(call, body);
            json_object_put(body);
        }
        return;
    }
    call_reply_error(call, 404, "ResourceNotFound", "the queue has no such action");
}

void
queue_pfx_call(struct call *call)
{
    queue_call(call, QUEUE_PFX_IMPORT);
}

void
queue_pkcs_call(struct call *call)
{
    queue_call(call, QUEUE_PKCS);
}
