/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "store/tenant_revocation.h"

/*
 * Intune's API of certificates to be revoked, as it is published and as it really behaves: a cool-down after each
 * download, a filter of which documentation and service differ, codes of errors in three spellings, members in two.
 */

#define DOWNLOAD_MAX 500
#define RESULTS_MAX 1000
#define TEXT_MAX 1024
#define ISSUER_NAME_MAX 256

struct revocations {
    pthread_mutex_t lock; /* guards what follows */
    int64_t cool_down_ms;
    int64_t clock_ms; /* what tests moved the cool-down's clock forward */
    bool filter_documented;
    int64_t value_false; /* uploads that are still to be answered with "value":false */
};

int
revocations_open(const struct tenant_settings *settings, struct revocations **ret_revocations,
        struct cc_err *err)
{
    struct revocations *revocations = calloc(1, sizeof(*revocations));

    if (revocations == NULL)
        return cc_err_nomem(err);
    pthread_mutex_init(&revocations->lock, NULL);
    revocations->cool_down_ms = settings->revocation_cool_down_ms;
    *ret_revocations = revocations;
    return 0;
}

void
revocations_close(struct revocations *revocations)
{
    if (revocations == NULL)
        return;
    pthread_mutex_destroy(&revocations->lock);
    free(revocations);
}

/* ---- download ---- */

static int
write_request(json_object *value, const struct tenant_revocation *r, struct cc_err *err)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "requestContext", r->context, err) != 0 ||
            cc_json_add_str(obj, "serialNumber", r->serial_number, err) != 0 ||
            cc_json_add_str(obj, "issuerName", r->issuer_name, err) != 0 ||
            cc_json_add_str(obj, "caConfiguration", r->ca_configuration, err) != 0 ||
            (r->issuer_name == NULL && json_object_object_add(obj, "issuerName", NULL) != 0) ||
            (r->ca_configuration == NULL &&
                    json_object_object_add(obj, "caConfiguration", NULL) != 0) ||
            json_object_array_add(value, obj) != 0) {
        json_object_put(obj);
        return cc_err_nomem(err);
    }
    return 0;
}

struct handing_out {
    json_object *value;
    struct cc_err err;
};

static int
hand_out(void *arg, const struct tenant_revocation *r)
{
    struct handing_out *h = arg;

    return write_request(h->value, r, &h->err);
}

/* {"@odata.context", "value"}; takes value over. */
static void
reply_odata(struct call *call, const char *context, json_object *take_value)
{
    json_object *body = json_object_new_object();
    struct cc_err err = { 0 };
    int rc = cc_json_add_str(body, "@odata.context", context, &err);

    if (rc != 0)
        json_object_put(take_value);
    else
        rc = cc_json_add(body, "value", take_value, &err);
    if (rc != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}

static void
download(struct call *call, json_object *body)
{
    struct revocations *revocations = call->tenant->revocations;
    struct tenant_revocation_ask ask = { .max = 0 };
    struct handing_out h = { .value = NULL };
    struct cc_err err = { 0 };
    json_object *parameters;
    int64_t max;

    if (cc_json_get_object(body, "downloadParameters", &parameters, &err) != 0)
        goto fail;
    if (parameters == NULL) {
        cc_err_set(&err, CC_DOM_INPUT, 0, "member \"downloadParameters\" is missing");
        goto fail;
    }
    if (cc_json_get_int(parameters, "maxRequests", 1, DOWNLOAD_MAX, 0, &max, &err) != 0 ||
            cc_json_get_str(parameters, "issuerName", ISSUER_NAME_MAX, &ask.issuer_name, &err) != 0)
        goto fail;
    if (max == 0) {
        cc_err_set(&err, CC_DOM_INPUT, 0, "member \"maxRequests\" is missing");
        goto fail;
    }
    ask.max = (unsigned)max;
    pthread_mutex_lock(&revocations->lock);
    ask.now_ms = cc_clock_now_ms() + revocations->clock_ms;
    ask.cool_down_ms = revocations->cool_down_ms;
    ask.filter_after_cut = !revocations->filter_documented;
    pthread_mutex_unlock(&revocations->lock);
    if ((h.value = json_object_new_array()) == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (tenant_revocation_hand_out(call->tenant->store, &ask, hand_out, &h, &err) != 0)
        goto fail;
    if (h.err.domain != CC_DOM_NONE) {
        err = h.err;
        goto fail;
    }
    reply_odata(call,
            "https://manage.microsoft.com/RACerts/StatelessPkiConnectorService/"
            "$metadata#Collection(microsoft.management.services.api.caRevocationRequest)",
            h.value);
    return;
fail:
    json_object_put(h.value);
    call_reply_failed(call, &err);
}

/* ---- upload ---- */

static const struct {
    int code;
    const char *name;
} codes[] = { { 0, "None" }, { 4000, "NonRetryableServiceException" },
    { 4001, "DataSerializationError" }, { 4002, "ParameterDataInvalidError" },
    { 4003, "CryptographyError" }, { 4004, "CertificateNotFoundError" }, { 4005, "ConflictError" },
    { 4006, "NotSupportedError" }, { 4007, "PayloadTooLargeError" },
    { 4100, "RetryableServiceException" }, { 4101, "ServiceUnavailableException" },
    { 4102, "ServiceTooBusyException" }, { 4103, "AuthenticationException" } };

#define FIRST_RETRYABLE 4100

/* A name, a number as text, or a number. */
static int
read_code(json_object *value, int64_t *ret, struct cc_err *err)
{
    const char *text =
            json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
    int64_t number = -1;

    if (json_object_is_type(value, json_type_int))
        number = json_object_get_int64(value);
    else if (text != NULL && cc_parse_int(text, 0, 9999, &number, NULL) != 0)
        number = -1;
    for (size_t i = 0; i < CC_COUNT(codes); i++) {
        if (codes[i].code == number || (text != NULL && cc_equal_nocase(codes[i].name, text))) {
            *ret = codes[i].code;
            return 0;
        }
    }
    return cc_err_set(err, CC_DOM_INPUT, 0, "member \"errorCode\" is not one of the codes");
}

/* Microsoft's C# library spells members with a capital when it uploads before it downloaded. */
static json_object *
member(json_object *obj, const char *name)
{
    json_object_object_foreach(obj, found, value)
    {
        if (cc_equal_nocase(found, name))
            return value;
    }
    return NULL;
}

struct uploads {
    struct tenant_revocation_answer *answers;
    char **texts;
    size_t count;
};

static void
uploads_free(struct uploads *u)
{
    for (size_t i = 0; u->texts != NULL && i < u->count; i++)
        free(u->texts[i]);
    free(u->texts);
    free(u->answers);
}

static int
read_answer(json_object *item, struct tenant_revocation_answer *ret, struct cc_err *err)
{
    json_object *context = member(item, "requestContext");
    json_object *succeeded = member(item, "succeeded");
    json_object *message = member(item, "errorMessage");
    bool ok;

    if (!json_object_is_type(context, json_type_string) ||
            json_object_get_string_len(context) == 0 ||
            json_object_get_string_len(context) > TEXT_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"requestContext\" is missing or empty");
    if (!json_object_is_type(succeeded, json_type_boolean))
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"succeeded\" is missing or no boolean");
    if (message != NULL && !json_object_is_type(message, json_type_string))
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"errorMessage\" is no text");
    if (read_code(member(item, "errorCode"), &ret->error_code, err) != 0)
        return -1;
    ok = json_object_get_boolean(succeeded) != 0;
    if (ok != (ret->error_code == 0))
        return cc_err_set(err, CC_DOM_INPUT, 0, "succeeded and errorCode contradict each other");
    if (ok && message != NULL && json_object_get_string_len(message) > 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a success with an errorMessage");
    ret->context = json_object_get_string(context);
    ret->retryable = ret->error_code >= FIRST_RETRYABLE;
    return 0;
}

static int
read_uploads(json_object *body, struct uploads *u, struct cc_err *err)
{
    json_object *array = member(body, "results");
    size_t count;

    if (!json_object_is_type(array, json_type_array))
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"results\" is missing or no array");
    count = json_object_array_length(array);
    if (count == 0 || count > RESULTS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"results\" has none, or over %d",
                RESULTS_MAX);
    u->answers = calloc(count, sizeof(*u->answers));
    u->texts = calloc(count, sizeof(*u->texts));
    if (u->answers == NULL || u->texts == NULL)
        return cc_err_nomem(err);
    u->count = count;
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_object_array_get_idx(array, i);

        if (!json_object_is_type(item, json_type_object))
            return cc_err_set(err, CC_DOM_INPUT, 0, "results[%zu] is no object", i);
        if (read_answer(item, &u->answers[i], err) != 0)
            return cc_err_in(err, "results[%zu]", i);
        u->texts[i] = cc_strdup(json_object_to_json_string_ext(item, JSON_C_TO_STRING_PLAIN), err);
        if (u->texts[i] == NULL)
            return -1;
        u->answers[i].text = u->texts[i];
    }
    return 0;
}

static bool
answer_false(struct revocations *revocations)
{
    bool result;

    pthread_mutex_lock(&revocations->lock);
    if ((result = revocations->value_false > 0))
        revocations->value_false--;
    pthread_mutex_unlock(&revocations->lock);
    return result;
}

/* A context that nobody knows is passed over: the API has one answer for all results. */
static void
upload(struct call *call, json_object *body)
{
    struct uploads u = { .count = 0 };
    struct cc_err err = { 0 };
    size_t unknown;
    bool taken;

    if (read_uploads(body, &u, &err) != 0)
        goto fail;
    taken = !answer_false(call->tenant->revocations);
    if (taken && tenant_revocation_answer(call->tenant->store, u.answers, u.count,
                         cc_clock_now_ms(), &unknown, &err) != 0)
        goto fail;
    reply_odata(call,
            "https://manage.microsoft.com/RACerts/StatelessPkiConnectorService/$metadata#Edm.Boolean",
            json_object_new_boolean(taken));
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    uploads_free(&u);
}

void
revocations_call(struct call *call)
{
    json_object *body;

    if (!discovery_check_account(call, TENANT_API_VERSION_REVOCATION))
        return;
    if (strcmp(call->capture[1], "downloadRevocationRequests") != 0 &&
            strcmp(call->capture[1], "uploadRevocationResults") != 0) {
        call_reply_error(call, 404, "ResourceNotFound", "there is no such action");
        return;
    }
    if ((body = call_json(call, json_type_object)) == NULL)
        return;
    if (strcmp(call->capture[1], "downloadRevocationRequests") == 0)
        download(call, body);
    else
        upload(call, body);
    json_object_put(body);
}

/* ---- the administrator: adding ---- */

struct orders {
    struct tenant_new_revocation *items;
    json_object **sources; /* what the texts of an item are part of; ours to put */
    char (*contexts)[TENANT_CONTEXT_LEN];
    size_t count;
};

static void
orders_free(struct orders *o)
{
    for (size_t i = 0; o->sources != NULL && i < o->count; i++)
        json_object_put(o->sources[i]);
    free(o->items);
    free(o->sources);
    free(o->contexts);
}

/* A certificate that a completed PKCS request got, or one by its serial number. */
static int
read_order(struct call *call, json_object *obj, struct tenant_new_revocation *ret,
        json_object **ret_source, struct cc_err *err)
{
    const char *request_id, *serial = "serialNumber", *issuer = "issuerName";

    if (!json_object_is_type(obj, json_type_object))
        return cc_err_set(err, CC_DOM_INPUT, 0, "not a JSON object");
    if (cc_json_get_str(obj, "requestId", TENANT_ID_MAX, &request_id, err) != 0)
        return -1;
    if (request_id != NULL) {
        if ((obj = admin_result_of(call, request_id, err)) == NULL)
            return -1;
        serial = "certificateSerialNumber";
        issuer = "issuingCertificateAuthority";
        *ret_source = obj;
    } else {
        *ret_source = json_object_get(obj);
    }
    if (cc_json_need_str(obj, serial, TEXT_MAX, &ret->serial_number, err) != 0 ||
            cc_json_get_str(obj, issuer, TEXT_MAX, &ret->issuer_name, err) != 0)
        return -1;
    return cc_json_get_str(obj, "caConfiguration", TEXT_MAX, &ret->ca_configuration, err);
}

static int
read_orders(struct call *call, json_object *body, struct orders *o, struct cc_err *err)
{
    bool many = json_object_is_type(body, json_type_array);
    size_t count = many ? json_object_array_length(body) : 1;

    if (count == 0 || count > QUEUE_ADD_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "no request, or more than %d", QUEUE_ADD_MAX);
    o->items = calloc(count, sizeof(*o->items));
    o->sources = calloc(count, sizeof(json_object *));
    o->contexts = calloc(count, sizeof(*o->contexts));
    if (o->items == NULL || o->sources == NULL || o->contexts == NULL)
        return cc_err_nomem(err);
    o->count = count;
    for (size_t i = 0; i < count; i++) {
        json_object *obj = many ? json_object_array_get_idx(body, i) : body;

        if (read_order(call, obj, &o->items[i], &o->sources[i], err) != 0)
            return many ? cc_err_in(err, "element %zu", i) : -1;
    }
    return 0;
}

static json_object *
write_contexts(const struct orders *o, struct cc_err *err)
{
    json_object *body = json_object_new_object();
    json_object *contexts = json_object_new_array();

    for (size_t i = 0; contexts != NULL && i < o->count; i++)
        (void)json_object_array_add(contexts, json_object_new_string(o->contexts[i]));
    if (cc_json_add(body, "requestContexts", contexts, err) != 0) {
        json_object_put(body);
        return NULL;
    }
    return body;
}

void
admin_add_revocations(struct call *call)
{
    json_object *body = call_json(call, json_type_null);
    struct orders orders = { .count = 0 };
    struct cc_err err = { 0 };
    json_object *answer = NULL;

    if (body == NULL)
        return;
    if (read_orders(call, body, &orders, &err) == 0 &&
            tenant_revocation_add(call->tenant->store, orders.items, orders.count,
                    cc_clock_now_ms(), orders.contexts, &err) == 0)
        answer = write_contexts(&orders, &err);
    if (answer == NULL)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 201, answer);
    orders_free(&orders);
    json_object_put(body);
}

/* ---- the administrator: looking ---- */

static const char *
state_name(enum tenant_revocation_state state)
{
    switch (state) {
    case TENANT_REVOCATION_OPEN:
        return "open";
    case TENANT_REVOCATION_SUCCEEDED:
        return "succeeded";
    case TENANT_REVOCATION_FAILED:
        break;
    }
    return "failed";
}

struct view {
    json_object *value;
    int64_t seq; /* of the last one; 0: none */
    struct cc_err err;
};

static int
view_revocation(void *arg, const struct tenant_revocation *r)
{
    struct view *v = arg;
    json_object *obj = json_object_new_object();

    v->seq = r->seq;
    if (cc_json_add_str(obj, "requestContext", r->context, &v->err) != 0 ||
            cc_json_add_str(obj, "serialNumber", r->serial_number, &v->err) != 0 ||
            cc_json_add_str(obj, "issuerName", r->issuer_name, &v->err) != 0 ||
            cc_json_add_str(obj, "caConfiguration", r->ca_configuration, &v->err) != 0 ||
            cc_json_add_str(obj, "state", state_name(r->state), &v->err) != 0 ||
            cc_json_add_int(obj, "downloads", r->downloads, &v->err) != 0 ||
            tenant_add_time(obj, "createdDateTime", r->created_ms, &v->err) != 0 ||
            tenant_add_time(obj, "lastModifiedDateTime", r->updated_ms, &v->err) != 0 ||
            (r->error_code >= 0 &&
                    cc_json_add_int(obj, "errorCode", r->error_code, &v->err) != 0) ||
            json_object_array_add(v->value, obj) != 0) {
        json_object_put(obj);
        return cc_err_nomem(&v->err);
    }
    return 0;
}

void
admin_list_revocations(struct call *call)
{
    const char *top = http_exchange_query(call->exchange, "$top");
    const char *after = http_exchange_query(call->exchange, "$skiptoken");
    struct view v = { .value = json_object_new_array() };
    struct cc_err err = { 0 };
    int64_t limit = 1000, after_seq = 0;

    if (v.value == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (top != NULL && cc_parse_int(top, 1, QUEUE_ADD_MAX, &limit, &err) != 0)
        goto fail;
    if (after != NULL && cc_parse_int(after, 0, INT64_MAX, &after_seq, &err) != 0)
        goto fail;
    if (tenant_revocation_list(call->tenant->store, NULL, after_seq, (unsigned)limit,
                view_revocation, &v, &err) != 0)
        goto fail;
    call_reply_value(call, v.value);
    return;
fail:
    json_object_put(v.value);
    call_reply_failed(call, &err);
}

static int
view_answer(void *arg, int64_t time_ms, const char *text)
{
    struct view *v = arg;
    json_object *obj = json_object_new_object();
    json_object *result = cc_json_parse(text, strlen(text), &v->err);

    if (tenant_add_time(obj, "dateTime", time_ms, &v->err) != 0) {
        json_object_put(result);
        json_object_put(obj);
        return -1;
    }
    if (cc_json_add(obj, "result", result, &v->err) != 0 ||
            json_object_array_add(v->value, obj) != 0) {
        json_object_put(obj);
        return -1;
    }
    return 0;
}

/* One, with all its answers. */
void
admin_get_revocation(struct call *call)
{
    struct tenant_store *store = call->tenant->store;
    struct view one = { .value = json_object_new_array() };
    struct view answers = { .value = json_object_new_array() };
    struct cc_err err = { 0 };
    json_object *obj;

    if (one.value == NULL || answers.value == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (tenant_revocation_list(store, call->capture[0], 0, 1, view_revocation, &one, &err) != 0)
        goto fail;
    if (json_object_array_length(one.value) == 0) {
        cc_err_set(&err, CC_DOM_INPUT, 404, "there is no such certificate to be revoked");
        goto fail;
    }
    if (tenant_revocation_answers(store, one.seq, view_answer, &answers, &err) != 0)
        goto fail;
    obj = json_object_array_get_idx(one.value, 0);
    if (cc_json_add(obj, "answers", json_object_get(answers.value), &err) != 0)
        goto fail;
    call_reply_json(call, 200, json_object_get(obj));
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    json_object_put(one.value);
    json_object_put(answers.value);
}

/* ---- the administrator: how the service behaves ---- */

static int
read_filter(json_object *body, bool *ret_documented, struct cc_err *err)
{
    const char *filter;

    if (cc_json_get_str(body, "filter", 32, &filter, err) != 0)
        return -1;
    if (filter == NULL)
        return 0;
    *ret_documented = strcmp(filter, "documented") == 0;
    if (!*ret_documented && strcmp(filter, "real") != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"filter\" is documented or real");
    return 0;
}

/* Members that are absent leave things as they are. */
void
admin_set_revocations(struct call *call)
{
    struct revocations *revocations = call->tenant->revocations;
    json_object *body = call_json(call, json_type_object);
    struct cc_err err = { 0 };
    int64_t cool_down_s, advance_s, value_false;
    bool documented;

    if (body == NULL)
        return;
    pthread_mutex_lock(&revocations->lock);
    documented = revocations->filter_documented;
    value_false = revocations->value_false;
    cool_down_s = -1;
    if (cc_json_get_int(body, "coolDownSeconds", 0, 86400, -1, &cool_down_s, &err) == 0 &&
            cc_json_get_int(body, "advanceSeconds", 0, 864000, 0, &advance_s, &err) == 0 &&
            cc_json_get_int(body, "valueFalse", 0, 1000, value_false, &value_false, &err) == 0 &&
            read_filter(body, &documented, &err) == 0) {
        if (cool_down_s >= 0)
            revocations->cool_down_ms = cool_down_s * 1000;
        revocations->clock_ms += advance_s * 1000;
        revocations->value_false = value_false;
        revocations->filter_documented = documented;
    }
    pthread_mutex_unlock(&revocations->lock);
    if (err.domain != CC_DOM_NONE)
        call_reply_failed(call, &err);
    else
        call_reply_empty(call, 204);
    json_object_put(body);
}
