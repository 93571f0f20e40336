/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define DOWNLOAD_MAX 100
#define WAIT_MAX_S 30
#define ANSWER_BYTES ((size_t)4 << 20) /* of requests in one download, about */

static const struct {
    const char *name; /* in paths, where "Requests" follows */
    const char *feature;
} queues[QUEUES] = {
    [QUEUE_PKCS] = { "Pkcs", TENANT_FEATURE_PKCS },
    [QUEUE_PFX_IMPORT] = { "PfxImport", TENANT_FEATURE_PFX_IMPORT },
};

const char *
queue_feature(enum queue queue)
{
    return queues[queue].feature;
}

static int
add_time(json_object *obj, const char *name, int64_t time_ms, struct cc_err *err)
{
    char text[CC_TIME_LEN];

    cc_time_format(time_ms, text);
    return cc_json_add_str(obj, name, text, err);
}

void
queue_reply(struct call *call, json_object *take_value)
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

/* Members that a test wants otherwise than they would be: null leaves one out. */
static int
apply_overrides(json_object *obj, const char *text, struct cc_err *err)
{
    json_object *overrides = cc_json_parse(text, strlen(text), err);
    int rc = 0;

    if (overrides == NULL)
        return -1;
    json_object_object_foreach(overrides, name, value)
    {
        if (value == NULL)
            json_object_object_del(obj, name);
        else if (rc == 0)
            rc = cc_json_add(obj, name, json_object_get(value), err);
    }
    json_object_put(overrides);
    return rc;
}

/* What there is to tell of an imported PFX; -1 leaves some of it in obj. */
static int
add_import(json_object *obj, const struct tenant_work *w, struct cc_err *err)
{
    const struct {
        const char *name, *text;
    } texts[] = { { "userPrincipalName", w->pfx.user }, { "deviceId", w->device_id },
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

    for (size_t i = 0; i < CC_COUNT(texts); i++)
        if (cc_json_add_str(obj, texts[i].name, texts[i].text, err) != 0)
            return -1;
    for (size_t i = 0; i < CC_COUNT(binaries); i++)
        if (cc_json_add_base64(obj, binaries[i].name, binaries[i].bytes.data, binaries[i].bytes.len,
                    err) != 0)
            return -1;
    return 0;
}

static json_object *
write_work(const struct tenant_work *w, struct cc_err *err)
{
    json_object *obj = w->document == NULL ? json_object_new_object()
                                           : cc_json_parse(w->document, strlen(w->document), err);

    if (obj == NULL)
        return NULL;
    if (w->document == NULL && add_import(obj, w, err) != 0)
        goto fail;
    if (cc_json_add_str(obj, "requestContext", w->context, err) != 0 ||
            cc_json_add_str(obj, "requestId", w->request_id, err) != 0 ||
            cc_json_add_int(obj, "attempt", w->attempt, err) != 0 ||
            add_time(obj, "leaseExpirationDateTime", w->lease_until_ms, err) != 0)
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
    json_object *obj = write_work(work, &h->err);

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
    struct tenant_lease_ask lease_ask = { .feature = queue_feature(ask->queue),
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
    queue_reply(call, h.value);
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
download(struct call *call, enum queue queue, json_object *body)
{
    struct parked_ask ask = { .queue = queue };
    struct cc_err err = { 0 };
    int64_t wait_s = 0;

    if (read_download(body, &ask, &wait_s, &err) != 0) {
        call_reply_failed(call, &err);
        return;
    }
    if (!connectors_admit(call, ask.connector_id, queue_feature(queue)))
        return;
    if (!queue_try_download(call, &ask, wait_s == 0))
        parking_add(call->tenant->parking[queue], call, &ask);
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
    if (ret->count == 0 || ret->count > QUEUE_CONTEXTS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"requestContexts\" has none, or over %d",
                QUEUE_CONTEXTS_MAX);
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
        if (held[i] && add_time(item, "leaseExpirationDateTime", until_ms, err) != 0)
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
renew(struct call *call, enum queue queue, json_object *body)
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
    if (!connectors_admit(call, c.connector_id, queue_feature(queue)))
        goto out;
    if ((held = calloc(c.count + 1, sizeof(*held))) == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (tenant_queue_renew(tenant->store, queue_feature(queue), c.connector_id, c.texts, c.count,
                now_ms, until_ms, held, &err) != 0 ||
            (value = write_renewed(&c, held, until_ms, &err)) == NULL)
        goto fail;
    queue_reply(call, value);
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    free(held);
    free(c.texts);
}

/* Silent about contexts that are not this connector's: they are what it wants already. */
static void
release(struct call *call, enum queue queue, json_object *body)
{
    struct tenant *tenant = call->tenant;
    struct contexts c = { .count = 0 };
    struct cc_err err = { 0 };
    size_t count = 0;

    if (read_contexts(body, &c, &err) != 0) {
        call_reply_failed(call, &err);
    } else if (connectors_admit(call, c.connector_id, queue_feature(queue))) {
        if (tenant_queue_release(tenant->store, queue_feature(queue), c.connector_id, c.texts,
                    c.count, cc_clock_now_ms(), &count, &err) != 0)
            call_reply_failed(call, &err);
        else
            queue_reply(call, json_object_new_array());
    }
    free(c.texts);
    if (count > 0)
        parking_wake(tenant->parking[queue]);
}

/* ---- capture 1 names the queue, capture 2 what is asked of it ---- */

static bool
find_queue(const char *name, enum queue *ret)
{
    for (enum queue q = 0; q < QUEUES; q++) {
        if (cc_equal_nocase(queues[q].name, name)) {
            *ret = q;
            return true;
        }
    }
    return false;
}

void
queue_call(struct call *call)
{
    static const struct {
        const char *name;
        void (*fn)(struct call *call, enum queue queue, json_object *body);
    } actions[] = { { "download", download }, { "renewLeases", renew }, { "upload", queue_upload },
        { "release", release } };
    enum queue queue;
    json_object *body;

    if (!discovery_check_account(call, TENANT_API_VERSION))
        return;
    if (!find_queue(call->capture[1], &queue)) {
        call_reply_error(call, 404, "ResourceNotFound", "there is no such queue");
        return;
    }
    for (size_t i = 0; i < CC_COUNT(actions); i++) {
        if (strcmp(call->capture[2], actions[i].name) != 0)
            continue;
        if ((body = call_json(call, json_type_object)) != NULL) {
            actions[i].fn(call, queue, body);
            json_object_put(body);
        }
        return;
    }
    call_reply_error(call, 404, "ResourceNotFound", "the queue has no such action");
}
