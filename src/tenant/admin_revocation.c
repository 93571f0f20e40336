/* SPDX-License-Identifier: MIT */
#include "admin.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define SERIAL_MAX 256
#define NAME_MAX_LEN 1024
#define ADVANCE_MAX_S ((int64_t)10 * 366 * 86400)

/* ---- ordering ---- */

struct orders {
    struct tenant *tenant;
    struct tenant_new_revocation *items; /* their texts are the body's, or of the results */
    json_object **results;               /* of PKCS requests, where one was named */
    size_t count;
};

static void
orders_free(struct orders *o)
{
    for (size_t i = 0; o->results != NULL && i < o->count; i++)
        json_object_put(o->results[i]);
    free(o->results);
    free(o->items);
}

/* What a PKCS request came to. */
struct outcome {
    int64_t seq; /* 0: there is none */
    bool completed;
    json_object *result; /* yours to put */
    struct cc_err err;
};

static int
take_request(void *arg, const struct tenant_request *r)
{
    struct outcome *o = arg;

    if (strcmp(r->feature, TENANT_FEATURE_PKCS) != 0)
        return 0;
    o->seq = r->seq;
    o->completed = r->state == TENANT_COMPLETED;
    return 0;
}

/* The last accepted result is the request's. */
static int
take_event(void *arg, const struct tenant_event *e)
{
    struct outcome *o = arg;

    if (e->verdict != TENANT_ACCEPTED || e->result == NULL)
        return 0;
    json_object_put(o->result);
    o->result = cc_json_parse(e->result, strlen(e->result), &o->err);
    return o->result != NULL ? 0 : -1;
}

static int
find_outcome(struct tenant_store *store, const char *request_id, struct outcome *ret,
        struct cc_err *err)
{
    if (tenant_request_find(store, request_id, take_request, ret, err) != 0)
        return -1;
    if (ret->seq == 0)
        return cc_err_set(err, CC_DOM_INPUT, 404, "there is no such PKCS request");
    if (!ret->completed)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the PKCS request is not completed");
    if (tenant_request_history(store, ret->seq, take_event, ret, err) != 0)
        return -1;
    if (ret->err.domain != CC_DOM_NONE)
        *err = ret->err;
    return ret->result != NULL ? 0 : -1;
}

/* names: of the serial number, the issuer and the CA configuration. */
static int
read_certificate(json_object *obj, const char *const names[3], struct tenant_new_revocation *ret,
        struct cc_err *err)
{
    if (cc_json_need_str(obj, names[0], SERIAL_MAX, &ret->serial_number, err) != 0 ||
            cc_json_get_str(obj, names[1], NAME_MAX_LEN, &ret->issuer_name, err) != 0)
        return -1;
    return cc_json_get_str(obj, names[2], NAME_MAX_LEN, &ret->ca_configuration, err);
}

static int
read_order(void *arg, size_t i, json_object *obj, struct cc_err *err)
{
    static const char *const named[] = { "serialNumber", "issuerName", "caConfiguration" };
    static const char *const issued[] = { "certificateSerialNumber", "issuingCertificateAuthority",
        "caConfiguration" };
    struct orders *o = arg;
    struct outcome outcome = { .seq = 0 };
    const char *request_id;

    if (cc_uuid(o->items[i].request_id, err) != 0 ||
            cc_json_get_str(obj, "requestId", TENANT_UUID_LEN - 1, &request_id, err) != 0)
        return -1;
    if (request_id == NULL)
        return read_certificate(obj, named, &o->items[i], err);
    if (find_outcome(o->tenant->store, request_id, &outcome, err) != 0) {
        json_object_put(outcome.result);
        return -1;
    }
    o->results[i] = outcome.result;
    return read_certificate(outcome.result, issued, &o->items[i], err);
}

static int
read_orders(json_object *body, struct orders *o, struct cc_err *err)
{
    size_t count;

    if (admin_order_count(body, &count, err) != 0)
        return -1;
    o->items = calloc(count, sizeof(*o->items));
    o->results = calloc(count, sizeof(json_object *));
    if (o->items == NULL || o->results == NULL)
        return cc_err_nomem(err);
    o->count = count;
    return admin_order_each(body, read_order, o, err);
}

static int
list_ids(const struct orders *o, json_object *ids, struct cc_err *err)
{
    if (ids == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < o->count; i++)
        if (admin_order_add_id(ids, o->items[i].request_id, err) != 0)
            return -1;
    return 0;
}

void
admin_add_revocations(struct call *call)
{
    json_object *body = call_json(call, json_type_null);
    struct orders orders = { .tenant = call->tenant };
    struct cc_err err = { 0 };
    json_object *ids;

    if (body == NULL)
        return;
    ids = json_object_new_array();
    if (read_orders(body, &orders, &err) != 0 || list_ids(&orders, ids, &err) != 0 ||
            tenant_revocation_add(call->tenant->store, orders.items, orders.count,
                    cc_clock_now_ms(), &err) != 0) {
        json_object_put(ids);
        call_reply_failed(call, &err);
    } else {
        admin_order_reply(call, ids, json_object_is_type(body, json_type_object));
    }
    orders_free(&orders);
    json_object_put(body);
}

/* ---- looking ---- */

static int
fill(json_object *obj, const struct tenant_revocation *r, struct cc_err *err)
{
    if (cc_json_add_str(obj, "requestId", r->request_id, err) != 0 ||
            cc_json_add_str(obj, "requestContext", r->context, err) != 0 ||
            cc_json_add_str(obj, "serialNumber", r->serial_number, err) != 0 ||
            cc_json_add_str(obj, "issuerName", r->issuer_name, err) != 0 ||
            cc_json_add_str(obj, "caConfiguration", r->ca_configuration, err) != 0 ||
            cc_json_add_str(obj, "state", tenant_revocation_state_name(r->state), err) != 0 ||
            cc_json_add_int(obj, "deliveries", r->deliveries, err) != 0 ||
            admin_add_time(obj, "createdDateTime", r->created_ms, err) != 0)
        return -1;
    return admin_add_time(obj, "lastModifiedDateTime", r->updated_ms, err);
}

static int
list_one(void *arg, const struct tenant_revocation *r)
{
    struct admin_page *page = arg;
    json_object *obj;

    if (admin_page_full(page))
        return 1;
    obj = json_object_new_object();
    if (fill(obj, r, &page->err) != 0) {
        json_object_put(obj);
        return -1;
    }
    return admin_page_add(page, r->seq, obj);
}

void
admin_list_revocations(struct call *call)
{
    const char *name = http_exchange_query(call->exchange, "state");
    int state = name != NULL ? tenant_revocation_state_parse(name) : 0;
    struct tenant_revocation_query q = { .limit = 0 };
    struct admin_page page = { .value = NULL };
    struct cc_buf text = CC_BUF_INIT(256);
    struct cc_err err = { 0 };

    if (state < 0) {
        cc_err_set(&err, CC_DOM_INPUT, 0, "there is no such state of a revocation");
        goto fail;
    }
    if ((name != NULL && cc_buf_printf(&text, &err, "state=%s&", name) != 0) ||
            admin_page_open(call, &page, &err) != 0)
        goto fail;
    q.state = (enum tenant_revocation_state)state;
    q.after_seq = page.after;
    q.limit = page.top + 1;
    if (tenant_revocation_list(call->tenant->store, &q, list_one, &page, &err) != 0)
        goto fail;
    admin_page_reply(call, &page, cc_buf_str(&text));
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    admin_page_free(&page);
    cc_buf_free(&text);
}

struct view {
    json_object *obj;
    json_object *history;
    int64_t seq; /* 0: not found */
    struct cc_err err;
};

static int
view_one(void *arg, const struct tenant_revocation *r)
{
    struct view *v = arg;

    v->seq = r->seq;
    return fill(v->obj, r, &v->err);
}

static const char *
verdict_text(enum tenant_revocation_verdict verdict)
{
    static const char *const names[TENANT_REVOCATION_VERDICTS] = {
        [TENANT_REVOCATION_ACCEPTED] = "accepted",
        [TENANT_REVOCATION_REPEATED] = "repeated",
        [TENANT_REVOCATION_UNKNOWN] = "unknown",
    };

    return verdict > 0 && verdict < TENANT_REVOCATION_VERDICTS ? names[verdict] : NULL;
}

/* The last accepted result, also one after which it is offered again, is the request's result. */
static int
view_event(void *arg, const struct tenant_revocation_event *e)
{
    struct view *v = arg;
    json_object *obj = json_object_new_object();

    if (admin_add_time(obj, "dateTime", e->time_ms, &v->err) != 0 ||
            cc_json_add_str(obj, "event", e->what, &v->err) != 0 ||
            cc_json_add_str(obj, "status", verdict_text(e->verdict), &v->err) != 0 ||
            admin_add_json(obj, "result", e->result, &v->err) != 0 ||
            (e->requeued && cc_json_add_bool(obj, "requeued", true, &v->err) != 0))
        goto fail;
    if (e->verdict == TENANT_REVOCATION_ACCEPTED &&
            admin_add_json(v->obj, "result", e->result, &v->err) != 0)
        goto fail;
    if (json_object_array_add(v->history, obj) != 0) {
        cc_err_nomem(&v->err);
        goto fail;
    }
    return 0;
fail:
    json_object_put(obj);
    return -1;
}

/* id NULL: the results for contexts that there are not, as the member "value". */
static int
read_view(struct tenant_store *store, const char *id, struct view *v, struct cc_err *err)
{
    v->obj = json_object_new_object();
    v->history = json_object_new_array();
    if (v->obj == NULL || v->history == NULL)
        return cc_err_nomem(err);
    if (id != NULL && tenant_revocation_find(store, id, view_one, v, err) != 0)
        return -1;
    if (id != NULL && v->seq == 0)
        return cc_err_set(err, CC_DOM_INPUT, 404, "there is no such request");
    if (tenant_revocation_history(store, v->seq, view_event, v, err) != 0)
        return -1;
    if (v->err.domain != CC_DOM_NONE) {
        *err = v->err;
        return -1;
    }
    return cc_json_add(v->obj, id != NULL ? "history" : "value", json_object_get(v->history), err);
}

static void
reply_view(struct call *call, const char *id)
{
    struct view v = { .obj = NULL };
    struct cc_err err = { 0 };

    if (read_view(call->tenant->store, id, &v, &err) != 0)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, json_object_get(v.obj));
    json_object_put(v.obj);
    json_object_put(v.history);
}

void
admin_get_revocation(struct call *call)
{
    reply_view(call, call->capture[0]);
}

void
admin_unknown_revocations(struct call *call)
{
    reply_view(call, NULL);
}

/* ---- counts ---- */

static int
fill_counts(json_object *obj, const struct tenant_revocation_counts *c, struct cc_err *err)
{
    for (int s = TENANT_REVOCATION_QUEUED; s < TENANT_REVOCATION_STATES; s++)
        if (cc_json_add_int(obj, tenant_revocation_state_name((enum tenant_revocation_state)s),
                    c->by_state[s], err) != 0)
            return -1;
    for (int v = TENANT_REVOCATION_ACCEPTED; v < TENANT_REVOCATION_VERDICTS; v++)
        if (cc_json_add_int(obj, verdict_text((enum tenant_revocation_verdict)v), c->by_verdict[v],
                    err) != 0)
            return -1;
    if (cc_json_add_int(obj, "requeued", c->requeued, err) != 0)
        return -1;
    return cc_json_add_int(obj, "deliveries", c->deliveries, err);
}

int
admin_add_revocation_counts(struct tenant *tenant, json_object *body, struct cc_err *err)
{
    struct tenant_revocation_counts counts;
    json_object *obj = json_object_new_object();

    if (tenant_revocation_count(tenant->store, &counts, err) != 0 ||
            fill_counts(obj, &counts, err) != 0) {
        json_object_put(obj);
        return -1;
    }
    return cc_json_add(body, "revocation", obj, err);
}

/* ---- the clock of the cool-down, and the filter ---- */

static int
fill_clock(struct tenant *tenant, json_object *obj, struct cc_err *err)
{
    int64_t cool_down_ms = tenant->settings->revocation_cool_down_ms;
    int64_t began_ms, left_ms;

    if (tenant_revocation_clock(tenant->store, &began_ms, err) != 0)
        return -1;
    left_ms = began_ms != 0 ? began_ms + cool_down_ms - cc_clock_now_ms() : 0;
    if (cc_json_add_int(obj, "coolDownSeconds", cool_down_ms / 1000, err) != 0)
        return -1;
    return cc_json_add_int(obj, "leftSeconds", left_ms > 0 ? (left_ms + 999) / 1000 : 0, err);
}

void
admin_get_revocation_clock(struct call *call)
{
    json_object *body = json_object_new_object();
    struct cc_err err = { 0 };

    if (fill_clock(call->tenant, body, &err) != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}

static int
set_clock(struct tenant_store *store, json_object *body, struct cc_err *err)
{
    int64_t advance_s;
    bool reset;

    if (cc_json_get_int(body, "advanceSeconds", 1, ADVANCE_MAX_S, 0, &advance_s, err) != 0 ||
            cc_json_get_bool(body, "reset", false, &reset, err) != 0)
        return -1;
    if ((advance_s != 0) == reset)
        return cc_err_set(err, CC_DOM_INPUT, 0, "it is one of advanceSeconds and reset");
    return reset ? tenant_revocation_clock_reset(store, err)
                 : tenant_revocation_clock_advance(store, advance_s * 1000, err);
}

void
admin_set_revocation_clock(struct call *call)
{
    json_object *body = call_json(call, json_type_object);
    struct cc_err err = { 0 };

    if (body == NULL)
        return;
    if (set_clock(call->tenant->store, body, &err) != 0)
        call_reply_failed(call, &err);
    else
        admin_get_revocation_clock(call);
    json_object_put(body);
}

void
admin_put_revocation_filter(struct call *call)
{
    json_object *body = call_json(call, json_type_object);
    enum tenant_revocation_filter filter;
    struct cc_err err = { 0 };
    const char *name;

    if (body == NULL)
        return;
    if (cc_json_need_str(body, "filter", 64, &name, &err) == 0 &&
            !revocation_filter_parse(name, &filter))
        cc_err_set(&err, CC_DOM_INPUT, 0, "member \"filter\" is documented or real");
    if (err.domain != CC_DOM_NONE) {
        call_reply_failed(call, &err);
    } else {
        atomic_store(&call->tenant->revocation_filter, filter);
        call_reply_empty(call, 204);
    }
    json_object_put(body);
}
