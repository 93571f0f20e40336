/* SPDX-License-Identifier: MIT */
#include "admin.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "pki/cert.h"

#define OVERRIDES_MAX 262144

/* ---- what orders of all kinds share ---- */

bool
admin_order_is_one(json_object *body)
{
    return json_object_is_type(body, json_type_object) &&
           !json_object_object_get_ex(body, "count", NULL);
}

int
admin_order_count(json_object *body, size_t *ret, struct cc_err *err)
{
    bool many = json_object_is_type(body, json_type_array);
    size_t count = many ? json_object_array_length(body) : 1;

    if (count == 0 || count > ADMIN_ORDERS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "no request, or more than %d", ADMIN_ORDERS_MAX);
    *ret = count;
    return 0;
}

int
admin_order_each(json_object *body, admin_order_fn fn, void *arg, struct cc_err *err)
{
    bool many = json_object_is_type(body, json_type_array);
    size_t count;

    if (admin_order_count(body, &count, err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        json_object *obj = many ? json_object_array_get_idx(body, i) : body;
        int rc = json_object_is_type(obj, json_type_object)
                         ? fn(arg, i, obj, err)
                         : cc_err_set(err, CC_DOM_INPUT, 0, "not a JSON object");

        if (rc != 0)
            return many ? cc_err_in(err, "element %zu", i) : -1;
    }
    return 0;
}

int
admin_order_overrides(json_object *obj, char **ret, struct cc_err *err)
{
    json_object *overrides;
    const char *text;

    if (cc_json_get_object(obj, "overrides", &overrides, err) != 0)
        return -1;
    if (overrides == NULL)
        return 0;
    text = json_object_to_json_string_ext(overrides, JSON_C_TO_STRING_PLAIN);
    if (text == NULL)
        return cc_err_nomem(err);
    if (strlen(text) > OVERRIDES_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"overrides\" is too long");
    return (*ret = cc_strdup(text, err)) != NULL ? 0 : -1;
}

int
admin_order_number(const char *text, size_t number, struct cc_buf *ret, struct cc_err *err)
{
    const char *mark;

    while ((mark = strstr(text, ADMIN_NUMBER_MARK)) != NULL) {
        if (cc_buf_add(ret, text, (size_t)(mark - text), err) != 0 ||
                cc_buf_printf(ret, err, "%zu", number) != 0)
            return -1;
        text = mark + strlen(ADMIN_NUMBER_MARK);
    }
    return cc_buf_add_str(ret, text, err);
}

int
admin_order_add_id(json_object *ids, const char *id, struct cc_err *err)
{
    json_object *text = json_object_new_string(id);

    if (text == NULL || json_object_array_add(ids, text) != 0) {
        json_object_put(text);
        return cc_err_nomem(err);
    }
    return 0;
}

void
admin_order_reply(struct call *call, json_object *take_ids, bool one)
{
    json_object *body = json_object_new_object();
    struct cc_err err = { 0 };
    int rc;

    if (one)
        rc = cc_json_add(body, "requestId", json_object_get(json_object_array_get_idx(take_ids, 0)),
                &err);
    else
        rc = cc_json_add(body, "requestIds", json_object_get(take_ids), &err);
    json_object_put(take_ids);
    if (rc != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 201, body);
}

/* ---- deliveries of imported PFX ---- */

/* One element of what was asked for: count requests of the same kind. */
struct order {
    struct tenant_new_request request; /* its texts are the JSON's, or below */
    char pfx_id[TENANT_PFX_ID_MAX];
    struct cc_buf recipient;
    char *overrides;
    int64_t count;
};

struct orders {
    struct call *call;
    struct order *items;
    size_t count;
    struct tenant_new_request *requests;
    size_t request_count;
};

static void
orders_free(struct orders *o)
{
    for (size_t i = 0; o->items != NULL && i < o->count; i++) {
        cc_buf_free(&o->items[i].recipient);
        free(o->items[i].overrides);
    }
    free(o->items);
    free(o->requests);
}

/* ---- which PFX ---- */

static int
read_purpose(json_object *obj, const char **ret, struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(obj, "intendedPurpose", 64, &text, err) != 0)
        return -1;
    *ret = text != NULL ? graph_purpose(text) : NULL;
    if (text != NULL && *ret == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"intendedPurpose\" has no such value");
    return 0;
}

static int
find_pfx(struct call *call, json_object *obj, struct order *order, struct cc_err *err)
{
    const char *user, *thumbprint, *purpose;
    char user_lower[TENANT_UPN_MAX + 1], thumbprint_lower[129];

    if (cc_json_need_str(obj, "userPrincipalName", TENANT_UPN_MAX, &user, err) != 0 ||
            cc_json_get_str(obj, "thumbprint", sizeof(thumbprint_lower) - 1, &thumbprint, err) !=
                    0 ||
            read_purpose(obj, &purpose, err) != 0)
        return -1;
    (void)cc_strcpy(user_lower, sizeof(user_lower), user);
    cc_lower(user_lower);
    if (thumbprint != NULL) {
        (void)cc_strcpy(thumbprint_lower, sizeof(thumbprint_lower), thumbprint);
        cc_lower(thumbprint_lower);
        thumbprint = thumbprint_lower;
    }
    if (tenant_pfx_choose(call->tenant->store, user_lower, thumbprint, purpose, order->pfx_id,
                err) != 0)
        return -1;
    if (order->pfx_id[0] == '\0')
        return cc_err_set(err, CC_DOM_INPUT, 404, "the user has no such imported certificate");
    order->request.pfx_id = order->pfx_id;
    return 0;
}

/* ---- how it shall be delivered: not judged, as refusing what cannot be done is the connector's part ---- */

static int
read_forms(json_object *obj, struct tenant_new_request *r, struct cc_err *err)
{
    if (cc_json_get_str(obj, "passwordEncryption", 64, &r->password_encryption, err) != 0)
        return -1;
    return cc_json_get_str(obj, "contentCipher", 64, &r->content_cipher, err);
}

static int
read_recipient(json_object *obj, struct order *order, struct cc_err *err)
{
    if (cc_json_get_base64(obj, "recipientCertificate", &order->recipient, err) != 0)
        return -1;
    if (order->recipient.len == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"recipientCertificate\" is missing");
    order->request.recipient = cc_buf_bytes(&order->recipient);
    return 0;
}

static int
read_order(void *arg, size_t i, json_object *obj, struct cc_err *err)
{
    struct orders *o = arg;
    struct order *order = &o->items[i];

    cc_buf_init(&order->recipient, PKI_CERT_MAX);
    if (cc_json_get_int(obj, "count", 1, ADMIN_ORDERS_MAX, 1, &order->count, err) != 0 ||
            cc_json_get_str(obj, "deviceId", TENANT_ID_MAX, &order->request.device_id, err) != 0)
        return -1;
    if (read_forms(obj, &order->request, err) != 0 || read_recipient(obj, order, err) != 0 ||
            admin_order_overrides(obj, &order->overrides, err) != 0)
        return -1;
    order->request.overrides = order->overrides;
    o->request_count += (size_t)order->count;
    return find_pfx(o->call, obj, order, err);
}

/* ---- all of them ---- */

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
    return 0;
}

static int
make_requests(struct orders *o, json_object *ids, struct cc_err *err)
{
    size_t n = 0;

    if (ids == NULL || (o->requests = calloc(o->request_count + 1, sizeof(*o->requests))) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < o->count; i++) {
        for (int64_t k = 0; k < o->items[i].count; k++, n++) {
            o->requests[n] = o->items[i].request;
            if (cc_uuid(o->requests[n].request_id, err) != 0 ||
                    admin_order_add_id(ids, o->requests[n].request_id, err) != 0)
                return -1;
        }
    }
    return 0;
}

void
admin_add_pfx_requests(struct call *call)
{
    struct tenant *tenant = call->tenant;
    json_object *body = call_json(call, json_type_null);
    struct orders orders = { .call = call };
    struct cc_err err = { 0 };
    json_object *ids;

    if (body == NULL)
        return;
    ids = json_object_new_array();
    if (read_orders(body, &orders, &err) != 0 || make_requests(&orders, ids, &err) != 0 ||
            tenant_queue_add(tenant->store, TENANT_FEATURE_PFX_IMPORT, orders.requests,
                    orders.request_count, cc_clock_now_ms(), &err) != 0) {
        json_object_put(ids);
        call_reply_failed(call, &err);
    } else {
        parking_wake(tenant->parking[QUEUE_PFX_IMPORT]);
        admin_order_reply(call, ids, admin_order_is_one(body));
    }
    orders_free(&orders);
    json_object_put(body);
}
