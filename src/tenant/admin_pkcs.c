/* SPDX-License-Identifier: MIT */
#include "admin.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define TEXT_MAX 65536
#define BINARY_MAX ((size_t)4 << 20)
#define TOTAL_MAX ((size_t)256 << 20) /* of all requests of one call */

/* One element of what was asked for: count requests that differ in their subject only. */
struct order {
    json_object *obj; /* the body's; what is handed out */
    int64_t count;
    char kind[TENANT_KIND_MAX + 1];
    const char *user, *device_id; /* the body's */
    char *subject;                /* with marks; NULL: without, and all have the same */
    char *overrides;
};

struct orders {
    struct order *items;
    size_t count;
    struct tenant_new_request *requests;
    char **documents; /* of the requests */
    size_t request_count;
    size_t total; /* bytes of the documents */
};

static void
orders_free(struct orders *o)
{
    for (size_t i = 0; o->items != NULL && i < o->count; i++) {
        free(o->items[i].subject);
        free(o->items[i].overrides);
    }
    for (size_t i = 0; o->documents != NULL && i < o->request_count; i++)
        free(o->documents[i]);
    free(o->items);
    free(o->documents);
    free(o->requests);
}

/* ---- the shape of members: what they say is not judged, as refusing what cannot be done is the connector's part ---- */

static int
check_text(json_object *obj, const char *name, struct cc_err *err)
{
    const char *text;

    return cc_json_get_str(obj, name, TEXT_MAX, &text, err);
}

static int
check_binary(json_object *obj, const char *name, struct cc_err *err)
{
    struct cc_buf bytes = CC_BUF_INIT(BINARY_MAX);
    int rc = cc_json_get_base64(obj, name, &bytes, err);

    cc_buf_free(&bytes);
    return rc;
}

static int
check_number(json_object *obj, const char *name, struct cc_err *err)
{
    int64_t number;

    return cc_json_get_int(obj, name, INT64_MIN, INT64_MAX, 0, &number, err);
}

static int
check_texts(json_object *obj, const char *name, struct cc_err *err)
{
    json_object *array;

    if (cc_json_get_array(obj, name, &array, err) != 0)
        return -1;
    for (size_t i = 0; array != NULL && i < json_object_array_length(array); i++)
        if (!json_object_is_type(json_object_array_get_idx(array, i), json_type_string))
            return cc_err_set(err, CC_DOM_INPUT, 0, "%s[%zu] is not a text", name, i);
    return 0;
}

static int
check_names(json_object *obj, const char *name, struct cc_err *err)
{
    json_object *array;

    if (cc_json_get_array(obj, name, &array, err) != 0)
        return -1;
    for (size_t i = 0; array != NULL && i < json_object_array_length(array); i++) {
        json_object *item = json_object_array_get_idx(array, i);

        if (check_text(item, "type", err) != 0 || check_text(item, "value", err) != 0)
            return cc_err_in(err, "%s[%zu]", name, i);
    }
    return 0;
}

/* What is different at each delivery. */
static int
check_absent(json_object *obj, const char *name, struct cc_err *err)
{
    if (json_object_object_get_ex(obj, name, NULL))
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "member \"%s\" is the service's; overrides can change it", name);
    return 0;
}

static const struct {
    const char *name;
    int (*check)(json_object *obj, const char *name, struct cc_err *err);
} members[] = {
    { "userPrincipalName", check_text },
    { "userId", check_text },
    { "deviceId", check_text },
    { "subjectName", check_text },
    { "subjectAlternativeNames", check_names },
    { "onPremisesSecurityIdentifier", check_text },
    { "keyAlgorithm", check_text },
    { "keyUsages", check_texts },
    { "extendedKeyUsages", check_texts },
    { "validityPeriodInDays", check_number },
    { "certificationAuthority", check_text },
    { "certificationAuthorityName", check_text },
    { "certificateTemplateName", check_text },
    { "certificationAuthorityType", check_text },
    { "recipientCertificate", check_binary },
    { "passwordEncryption", check_text },
    { "contentCipher", check_text },
    { "pfxEncryption", check_text },
    { "encryptedPfxPassword", check_binary },
    { "encryptedPfxBlob", check_binary },
    { "requestContext", check_absent },
    { "requestId", check_absent },
    { "attempt", check_absent },
    { "leaseExpirationDateTime", check_absent },
};

/* ---- one element ---- */

/* The kind as it will be handed out: a request without one is to be issued. */
static int
read_kind(json_object *obj, struct order *order, struct cc_err *err)
{
    const char *kind;
    json_object *overrides, *other;

    if (cc_json_get_str(obj, "kind", TENANT_KIND_MAX, &kind, err) != 0)
        return -1;
    if (json_object_object_get_ex(obj, "overrides", &overrides) &&
            json_object_object_get_ex(overrides, "kind", &other))
        kind = json_object_is_type(other, json_type_string) ? json_object_get_string(other) : NULL;
    (void)cc_strcpy(order->kind, sizeof(order->kind),
            kind != NULL && kind[0] != '\0' ? kind : "issue");
    return 0;
}

static int
read_subject(json_object *obj, struct order *order, struct cc_err *err)
{
    const char *subject;

    if (cc_json_get_str(obj, "subjectName", TEXT_MAX, &subject, err) != 0)
        return -1;
    if (subject == NULL || strstr(subject, ADMIN_NUMBER_MARK) == NULL)
        return 0;
    return (order->subject = cc_strdup(subject, err)) != NULL ? 0 : -1;
}

static int
read_order(void *arg, size_t i, json_object *obj, struct cc_err *err)
{
    struct orders *o = arg;
    struct order *order = &o->items[i];

    for (size_t k = 0; k < CC_COUNT(members); k++)
        if (members[k].check(obj, members[k].name, err) != 0)
            return -1;
    if (cc_json_get_int(obj, "count", 1, ADMIN_ORDERS_MAX, 1, &order->count, err) != 0 ||
            cc_json_get_str(obj, "userPrincipalName", TEXT_MAX, &order->user, err) != 0 ||
            cc_json_get_str(obj, "deviceId", TEXT_MAX, &order->device_id, err) != 0 ||
            admin_order_overrides(obj, &order->overrides, err) != 0 ||
            read_kind(obj, order, err) != 0 || read_subject(obj, order, err) != 0)
        return -1;
    /* The rest is handed out. */
    json_object_object_del(obj, "count");
    json_object_object_del(obj, "overrides");
    order->obj = obj;
    o->request_count += (size_t)order->count;
    return 0;
}

static int
read_orders(json_object *body, struct orders *o, struct cc_err *err)
{
    size_t count;

    if (admin_order_count(body, &count, err) != 0)
        return -1;
    if ((o->items = calloc(count, sizeof(*o->items))) == NULL)
        return cc_err_nomem(err);
    o->count = count;
    if (admin_order_each(body, read_order, o, err) != 0)
        return -1;
    if (o->request_count > ADMIN_ORDERS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "more than %d requests", ADMIN_ORDERS_MAX);
    o->requests = calloc(o->request_count, sizeof(*o->requests));
    o->documents = calloc(o->request_count, sizeof(*o->documents));
    return o->requests != NULL && o->documents != NULL ? 0 : cc_err_nomem(err);
}

/* ---- what becomes of it ---- */

static int
put_subject(const struct order *order, size_t number, struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(TEXT_MAX * 4);
    int rc;

    if (order->subject == NULL)
        return 0;
    if ((rc = admin_order_number(order->subject, number, &subject, err)) == 0)
        rc = cc_json_add_str(order->obj, "subjectName", cc_buf_str(&subject), err);
    cc_buf_free(&subject);
    return rc;
}

/* The n-th request of the call, counted from 0. */
static int
make_request(struct orders *o, const struct order *order, size_t n, json_object *ids,
        struct cc_err *err)
{
    struct tenant_new_request *r = &o->requests[n];
    const char *text;

    if (put_subject(order, n + 1, err) != 0)
        return -1;
    text = json_object_to_json_string_ext(order->obj,
            JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    if (text == NULL)
        return cc_err_nomem(err);
    o->total += strlen(text);
    if (o->total > TOTAL_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "requests of more than %zu bytes", TOTAL_MAX);
    if ((o->documents[n] = cc_strdup(text, err)) == NULL)
        return -1;
    r->document = o->documents[n];
    r->kind = order->kind;
    r->user = order->user;
    r->device_id = order->device_id;
    r->overrides = order->overrides;
    if (cc_uuid(r->request_id, err) != 0)
        return -1;
    return admin_order_add_id(ids, r->request_id, err);
}

static int
make_requests(struct orders *o, json_object *ids, struct cc_err *err)
{
    size_t n = 0;

    if (ids == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < o->count; i++)
        for (int64_t k = 0; k < o->items[i].count; k++, n++)
            if (make_request(o, &o->items[i], n, ids, err) != 0)
                return -1;
    return 0;
}

void
admin_add_pkcs_requests(struct call *call)
{
    struct tenant *tenant = call->tenant;
    json_object *body = call_json(call, json_type_null);
    struct orders orders = { .count = 0 };
    struct cc_err err = { 0 };
    json_object *ids;
    bool one;

    if (body == NULL)
        return;
    one = admin_order_is_one(body);
    ids = json_object_new_array();
    if (read_orders(body, &orders, &err) != 0 || make_requests(&orders, ids, &err) != 0 ||
            tenant_queue_add(tenant->store, TENANT_FEATURE_PKCS, orders.requests,
                    orders.request_count, cc_clock_now_ms(), &err) != 0) {
        json_object_put(ids);
        call_reply_failed(call, &err);
    } else {
        parking_wake(tenant->parking[QUEUE_PKCS]);
        admin_order_reply(call, ids, one);
    }
    orders_free(&orders);
    json_object_put(body);
}
