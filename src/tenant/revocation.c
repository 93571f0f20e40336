/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

/* Intune's API of certificates to be revoked, CertificateAuthorityRequests. */

#define REQUESTS_MAX 500
#define RESULTS_MAX 10000
#define ISSUER_CHARS_MAX 256
#define ISSUER_BYTES_MAX ((size_t)4 * ISSUER_CHARS_MAX)

/* As the service writes them. */
#define METADATA "https://manage.microsoft.com/RACerts/StatelessPkiConnectorService/$metadata"
#define METADATA_REQUESTS                                                                          \
    METADATA "#Collection(microsoft.management.services.api.caRevocationRequest)"
#define METADATA_RESULT METADATA "#Edm.Boolean"

static const char *const filter_names[] = {
    [TENANT_FILTER_DOCUMENTED] = "documented",
    [TENANT_FILTER_REAL] = "real",
};

bool
revocation_filter_parse(const char *name, enum tenant_revocation_filter *ret)
{
    for (size_t i = 0; i < CC_COUNT(filter_names); i++) {
        if (strcmp(filter_names[i], name) == 0) {
            *ret = (enum tenant_revocation_filter)i;
            return true;
        }
    }
    return false;
}

/* Takes value over. */
static void
reply_value(struct call *call, const char *context, json_object *take_value)
{
    json_object *body = json_object_new_object();
    struct cc_err err = { 0 };

    if (cc_json_add(body, "value", take_value, &err) != 0 ||
            cc_json_add_str(body, "@odata.context", context, &err) != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}

/* ---- download ---- */

struct handing_out {
    json_object *value;
    struct cc_err err;
};

/* A text, or null where there is none: the members are always there. */
static int
add_text(json_object *obj, const char *name, const char *text, struct cc_err *err)
{
    if (text != NULL)
        return cc_json_add_str(obj, name, text, err);
    return json_object_object_add(obj, name, NULL) == 0 ? 0 : cc_err_nomem(err);
}

static int
hand_out(void *arg, const struct tenant_revocation *r)
{
    struct handing_out *h = arg;
    json_object *obj = json_object_new_object();

    if (obj == NULL || cc_json_add_str(obj, "requestContext", r->context, &h->err) != 0 ||
            cc_json_add_str(obj, "serialNumber", r->serial_number, &h->err) != 0 ||
            add_text(obj, "issuerName", r->issuer_name, &h->err) != 0 ||
            add_text(obj, "caConfiguration", r->ca_configuration, &h->err) != 0 ||
            json_object_array_add(h->value, obj) != 0) {
        json_object_put(obj);
        return cc_err_nomem(&h->err);
    }
    return 0;
}

static int
read_ask(json_object *body, struct tenant_revocation_ask *ask, struct cc_err *err)
{
    json_object *parameters;
    int64_t max;

    if (cc_json_get_object(body, "downloadParameters", &parameters, err) != 0)
        return -1;
    if (parameters == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"downloadParameters\" is missing");
    if (cc_json_get_int(parameters, "maxRequests", 1, REQUESTS_MAX, 0, &max, err) != 0 ||
            cc_json_get_str(parameters, "issuerName", ISSUER_BYTES_MAX, &ask->issuer_name, err) !=
                    0)
        return -1;
    if (max == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"maxRequests\" is missing");
    if (ask->issuer_name != NULL && call_count_chars(ask->issuer_name) > ISSUER_CHARS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"issuerName\" has more than %d characters",
                ISSUER_CHARS_MAX);
    /* An empty name works as none. */
    if (ask->issuer_name != NULL && ask->issuer_name[0] == '\0')
        ask->issuer_name = NULL;
    ask->max_requests = (unsigned)max;
    return 0;
}

static void
download(struct call *call, json_object *body)
{
    struct tenant *tenant = call->tenant;
    struct tenant_revocation_ask ask = { .filter = atomic_load(&tenant->revocation_filter),
        .now_ms = cc_clock_now_ms(),
        .cool_down_ms = tenant->settings->revocation_cool_down_ms };
    struct handing_out h = { .value = json_object_new_array() };
    struct cc_err err = { 0 };

    if (h.value == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (read_ask(body, &ask, &err) != 0 ||
            tenant_revocation_deliver(tenant->store, &ask, hand_out, &h, &err) != 0)
        goto fail;
    if (h.err.domain != CC_DOM_NONE) {
        err = h.err;
        goto fail;
    }
    reply_value(call, METADATA_REQUESTS, h.value);
    return;
fail:
    json_object_put(h.value);
    call_reply_failed(call, &err);
}

/* ---- upload ---- */

static const struct error_code {
    int number;
    const char *name;
} error_codes[] = {
    { 0, "None" },
    { 4000, "NonRetryableServiceException" },
    { 4001, "DataSerializationError" },
    { 4002, "ParameterDataInvalidError" },
    { 4003, "CryptographyError" },
    { 4004, "CertificateNotFoundError" },
    { 4005, "ConflictError" },
    { 4006, "NotSupportedError" },
    { 4007, "PayloadTooLargeError" },
    { 4100, "RetryableServiceException" },
    { 4101, "ServiceUnavailableException" },
    { 4102, "ServiceTooBusyException" },
    { 4103, "AuthenticationException" },
};

/* Microsoft's libraries send the number as a text (Java) or the name (C#); a number as such is taken as well. */
static bool
is_error_code(const struct error_code *code, json_object *value)
{
    char number[16];

    if (json_object_is_type(value, json_type_int))
        return json_object_get_int64(value) == code->number;
    if (!json_object_is_type(value, json_type_string))
        return false;
    (void)snprintf(number, sizeof(number), "%d", code->number);
    return strcmp(json_object_get_string(value), code->name) == 0 ||
           strcmp(json_object_get_string(value), number) == 0;
}

static int
read_error_code(json_object *members, int *ret, struct cc_err *err)
{
    json_object *value = json_object_object_get(members, "errorCode");

    for (size_t i = 0; i < CC_COUNT(error_codes); i++) {
        if (is_error_code(&error_codes[i], value)) {
            *ret = error_codes[i].number;
            return 0;
        }
    }
    return cc_err_set(err, CC_DOM_INPUT, 0, "member \"errorCode\" is missing or not one of them");
}

/* The members of a result by their names, whatever case these are in: one of the libraries writes PascalCase. */
static int
fold(json_object *item, json_object *ret, struct cc_err *err)
{
    static const char *const names[] = { "requestContext", "succeeded", "errorCode",
        "errorMessage" };

    if (!json_object_is_type(item, json_type_object))
        return cc_err_set(err, CC_DOM_INPUT, 0, "not an object");
    json_object_object_foreach(item, name, value)
    {
        for (size_t i = 0; i < CC_COUNT(names); i++) {
            if (!cc_equal_nocase(name, names[i]))
                continue;
            if (json_object_object_get_ex(ret, names[i], NULL))
                return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" twice", names[i]);
            if (json_object_object_add(ret, names[i], json_object_get(value)) != 0) {
                json_object_put(value);
                return cc_err_nomem(err);
            }
        }
    }
    return 0;
}

static bool
is_blank(const char *text)
{
    return text == NULL || text[strspn(text, " \t\r\n")] == '\0';
}

static int
read_members(json_object *members, struct tenant_revocation_result *ret, struct cc_err *err)
{
    json_object *succeeded = json_object_object_get(members, "succeeded");
    const char *message;
    int code;

    if (cc_json_need_str(members, "requestContext", 1024, &ret->context, err) != 0 ||
            cc_json_get_str(members, "errorMessage", 65536, &message, err) != 0 ||
            read_error_code(members, &code, err) != 0)
        return -1;
    if (!json_object_is_type(succeeded, json_type_boolean))
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"succeeded\" is missing or no boolean");
    ret->succeeded = json_object_get_boolean(succeeded) != 0;
    ret->retryable = code >= 4100;
    if (ret->succeeded != (code == 0))
        return cc_err_set(err, CC_DOM_INPUT, 0, "succeeded and errorCode contradict each other");
    if (ret->succeeded && !is_blank(message))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a success with an errorMessage");
    return 0;
}

/* The context is the item's own. */
static int
read_result(json_object *item, struct tenant_revocation_result *ret, struct cc_err *err)
{
    json_object *members = json_object_new_object();
    int rc = -1;

    if (members == NULL)
        return cc_err_nomem(err);
    if (fold(item, members, err) != 0 || read_members(members, ret, err) != 0)
        goto out;
    /* Kept with the item as long as that lives. */
    ret->text = json_object_to_json_string_ext(item,
            JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    rc = ret->text != NULL ? 0 : cc_err_nomem(err);
out:
    json_object_put(members);
    return rc;
}

static int
read_results(json_object *body, struct tenant_revocation_result **ret_results, size_t *ret_count,
        struct cc_err *err)
{
    struct tenant_revocation_result *results;
    json_object *array;
    size_t count;

    if (cc_json_get_array(body, "results", &array, err) != 0)
        return -1;
    count = array != NULL ? json_object_array_length(array) : 0;
    if (count == 0 || count > RESULTS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"results\" has none, or over %d",
                RESULTS_MAX);
    if ((results = calloc(count, sizeof(*results))) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < count; i++) {
        if (read_result(json_object_array_get_idx(array, i), &results[i], err) != 0) {
            free(results);
            return cc_err_in(err, "results[%zu]", i);
        }
    }
    *ret_results = results;
    *ret_count = count;
    return 0;
}

/* A context that there is not, or that has its result already, is none of the caller's faults: true all the same. */
static void
upload(struct call *call, json_object *body)
{
    struct tenant_revocation_result *results = NULL;
    struct cc_err err = { 0 };
    size_t count = 0;

    if (read_results(body, &results, &count, &err) != 0 ||
            tenant_revocation_upload(call->tenant->store, results, count, cc_clock_now_ms(),
                    &err) != 0)
        call_reply_failed(call, &err);
    else
        reply_value(call, METADATA_RESULT, json_object_new_boolean(true));
    free(results);
}

/* ---- capture 1 names what is asked for ---- */

void
revocation_call(struct call *call)
{
    void (*fn)(struct call * call, json_object * body) = NULL;
    json_object *body;

    if (!discovery_check_account(call, TENANT_REVOCATION_API_VERSION))
        return;
    if (strcmp(call->capture[1], "downloadRevocationRequests") == 0)
        fn = download;
    else if (strcmp(call->capture[1], "uploadRevocationResults") == 0)
        fn = upload;
    if (fn == NULL) {
        call_reply_error(call, 404, "ResourceNotFound", "there is no such action");
        return;
    }
    if ((body = call_json_latin1(call, json_type_object)) == NULL)
        return;
    fn(call, body);
    json_object_put(body);
}
