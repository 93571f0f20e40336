/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define PAGE_MAX 1000
#define ACTIVE_MS                                                                                  \
    ((int64_t)10 * 60 * 1000) /* without a heartbeat, until an instance shows as inactive */

/* A text that is JSON, as JSON; nothing where it is NULL. */
static int
add_json(json_object *obj, const char *name, const char *text, struct cc_err *err)
{
    json_object *value;

    if (text == NULL)
        return 0;
    if ((value = cc_json_parse(text, strlen(text), err)) == NULL)
        return -1;
    return cc_json_add(obj, name, value, err);
}

/* ---- requests ---- */

static int
fill_request(json_object *obj, const struct tenant_request *r, struct cc_err *err)
{
    bool open = r->state == TENANT_QUEUED || r->state == TENANT_LEASED;

    if (cc_json_add_str(obj, "requestId", r->request_id, err) != 0 ||
            cc_json_add_str(obj, "feature", r->feature, err) != 0 ||
            cc_json_add_str(obj, "state", tenant_state_name(r->state), err) != 0 ||
            cc_json_add_str(obj, "userPrincipalName", r->user, err) != 0 ||
            cc_json_add_str(obj, "thumbprint", r->thumbprint, err) != 0 ||
            cc_json_add_str(obj, "deviceId", r->device_id, err) != 0 ||
            cc_json_add_int(obj, "attempt", r->attempt, err) != 0 ||
            cc_json_add_int(obj, "failures", r->failures, err) != 0 ||
            cc_json_add_str(obj, "connectorId", r->connector_id, err) != 0 ||
            tenant_add_time(obj, "createdDateTime", r->created_ms, err) != 0 ||
            tenant_add_time(obj, "lastModifiedDateTime", r->updated_ms, err) != 0)
        return -1;
    return open ? tenant_add_time(obj, "dueDateTime", r->due_ms, err) : 0;
}

struct request_list {
    json_object *value;
    unsigned page, count;
    int64_t last_seq;
    bool more;
    struct cc_err err;
};

static int
list_request(void *arg, const struct tenant_request *r)
{
    struct request_list *l = arg;
    json_object *obj;

    if (l->count == l->page) {
        l->more = true;
        return 1;
    }
    obj = json_object_new_object();
    if (fill_request(obj, r, &l->err) != 0 || json_object_array_add(l->value, obj) != 0) {
        json_object_put(obj);
        return cc_err_nomem(&l->err);
    }
    l->count++;
    l->last_seq = r->seq;
    return 0;
}

/* Takes l->value over. */
static json_object *
write_request_page(struct call *call, struct request_list *l, const char *state, struct cc_err *err)
{
    struct cc_buf link = CC_BUF_INIT(2048);
    json_object *body = json_object_new_object();
    int rc = cc_json_add(body, "value", l->value, err);

    l->value = NULL;
    if (rc == 0 && l->more) {
        rc = cc_buf_printf(&link, err, "%s?%s%s%s$top=%u&$skiptoken=%" PRId64,
                http_exchange_path(call->exchange), state != NULL ? "state=" : "",
                state != NULL ? state : "", state != NULL ? "&" : "", l->page, l->last_seq);
        if (rc == 0)
            rc = cc_json_add_str(body, "@odata.nextLink", cc_buf_str(&link), err);
    }
    cc_buf_free(&link);
    if (rc != 0) {
        json_object_put(body);
        return NULL;
    }
    return body;
}

struct request_query {
    const char *state_name;
    int state; /* 0: any */
    int64_t top, after;
};

static int
read_request_query(struct call *call, struct request_query *q, struct cc_err *err)
{
    const char *top = http_exchange_query(call->exchange, "$top");
    const char *after = http_exchange_query(call->exchange, "$skiptoken");

    *q = (struct request_query){ .top = 100 };
    q->state_name = http_exchange_query(call->exchange, "state");
    if (q->state_name != NULL && (q->state = tenant_state_parse(q->state_name)) < 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "there is no such state of a request");
    if (top != NULL && cc_parse_int(top, 1, PAGE_MAX, &q->top, err) != 0)
        return cc_err_in(err, "$top");
    if (after != NULL && cc_parse_int(after, 0, INT64_MAX, &q->after, err) != 0)
        return cc_err_in(err, "$skiptoken");
    return 0;
}

void
admin_list_requests(struct call *call)
{
    struct request_query q;
    struct request_list l = { .value = NULL };
    struct cc_err err = { 0 };
    json_object *body;

    if (read_request_query(call, &q, &err) != 0)
        goto fail;
    l.page = (unsigned)q.top;
    if ((l.value = json_object_new_array()) == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (tenant_request_list(call->tenant->store, (enum tenant_state)q.state, q.after, l.page + 1,
                list_request, &l, &err) != 0)
        goto fail;
    if (l.err.domain != CC_DOM_NONE) {
        err = l.err;
        goto fail;
    }
    if ((body = write_request_page(call, &l, q.state_name, &err)) == NULL)
        goto fail;
    call_reply_json(call, 200, body);
    return;
fail:
    json_object_put(l.value);
    call_reply_failed(call, &err);
}

/* ---- one request with its history ---- */

struct request_view {
    json_object *obj;
    json_object *history;
    int64_t seq; /* 0: not found */
    struct cc_err err;
};

static int
view_request(void *arg, const struct tenant_request *r)
{
    struct request_view *v = arg;

    v->seq = r->seq;
    return fill_request(v->obj, r, &v->err);
}

static const char *
verdict_text(const struct tenant_event *e)
{
    static const char *const names[TENANT_VERDICTS] = {
        [TENANT_ACCEPTED] = "accepted",
        [TENANT_DUPLICATE] = "duplicate",
        [TENANT_ALREADY_COMPLETED] = "alreadyCompleted",
        [TENANT_LEASE_LOST] = "leaseLost",
        [TENANT_UNKNOWN] = "unknown",
    };

    return e->verdict > 0 && e->verdict < TENANT_VERDICTS ? names[e->verdict] : NULL;
}

/* The last accepted result, also one that was put back, is the request's result. */
static int
view_event(void *arg, const struct tenant_event *e)
{
    struct request_view *v = arg;
    json_object *obj = json_object_new_object();

    if (tenant_add_time(obj, "dateTime", e->time_ms, &v->err) != 0 ||
            cc_json_add_str(obj, "event", e->what, &v->err) != 0 ||
            cc_json_add_str(obj, "connectorId", e->connector_id, &v->err) != 0 ||
            cc_json_add_int(obj, "attempt", e->attempt, &v->err) != 0 ||
            cc_json_add_str(obj, "status", verdict_text(e), &v->err) != 0 ||
            add_json(obj, "result", e->result, &v->err) != 0)
        goto fail;
    if (e->lease_until_ms != 0 &&
            tenant_add_time(obj, "leaseExpirationDateTime", e->lease_until_ms, &v->err) != 0)
        goto fail;
    if (e->requeued && cc_json_add_bool(obj, "requeued", true, &v->err) != 0)
        goto fail;
    if (e->verdict == TENANT_ACCEPTED && add_json(v->obj, "result", e->result, &v->err) != 0)
        goto fail;
    if (json_object_array_add(v->history, obj) != 0)
        goto fail;
    return 0;
fail:
    json_object_put(obj);
    return cc_err_nomem(&v->err);
}

static int
read_view(struct call *call, const char *request_id, struct request_view *v, struct cc_err *err)
{
    struct tenant_store *store = call->tenant->store;

    v->obj = json_object_new_object();
    v->history = json_object_new_array();
    if (v->obj == NULL || v->history == NULL)
        return cc_err_nomem(err);
    if (tenant_request_find(store, request_id, view_request, v, err) != 0)
        return -1;
    if (v->seq == 0)
        return cc_err_set(err, CC_DOM_INPUT, 404, "there is no such request");
    if (tenant_request_history(store, v->seq, view_event, v, err) != 0)
        return -1;
    if (v->err.domain != CC_DOM_NONE) {
        *err = v->err;
        return -1;
    }
    return cc_json_add(v->obj, "history", json_object_get(v->history), err);
}

json_object *
admin_result_of(struct call *call, const char *request_id, struct cc_err *err)
{
    struct request_view v = { .obj = NULL };
    json_object *result = NULL;

    if (read_view(call, request_id, &v, err) == 0) {
        if (json_object_object_get_ex(v.obj, "result", &result))
            (void)json_object_get(result);
        else
            cc_err_set(err, CC_DOM_INPUT, 0, "the request has no result yet");
    }
    json_object_put(v.obj);
    json_object_put(v.history);
    return result;
}

void
admin_get_request(struct call *call)
{
    struct request_view v = { .obj = NULL };
    struct cc_err err = { 0 };

    if (read_view(call, call->capture[0], &v, &err) != 0)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, json_object_get(v.obj));
    json_object_put(v.obj);
    json_object_put(v.history);
}

void
admin_cancel_request(struct call *call)
{
    struct cc_err err = { 0 };
    bool found;

    if (tenant_queue_cancel(call->tenant->store, call->capture[0], cc_clock_now_ms(), &found,
                &err) != 0)
        call_reply_failed(call, &err);
    else if (!found)
        call_reply_error(call, 404, "ResourceNotFound", "there is no such request that is open");
    else
        call_reply_empty(call, 204);
}

/* ---- connectors ---- */

struct connector_view {
    struct tenant *tenant;
    json_object *value;
    struct cc_err err;
};

static int
view_connector(void *arg, const struct tenant_connector *c)
{
    struct connector_view *v = arg;
    json_object *obj = json_object_new_object();
    int64_t last_ms = connectors_last_contact(v->tenant->connectors, c->id);
    bool active = !c->removed && cc_clock_now_ms() - last_ms < ACTIVE_MS;

    if (cc_json_add_str(obj, "connectorId", c->id, &v->err) != 0 ||
            cc_json_add_str(obj, "state",
                    c->removed ? "removed"
                    : active   ? "active"
                               : "inactive",
                    &v->err) != 0 ||
            cc_json_add_str(obj, "version", c->version, &v->err) != 0 ||
            add_json(obj, "features", c->features, &v->err) != 0 ||
            tenant_add_time(obj, "firstContactDateTime", c->first_ms, &v->err) != 0 ||
            tenant_add_time(obj, "lastContactDateTime", last_ms, &v->err) != 0 ||
            add_json(obj, "heartbeat", c->heartbeat, &v->err) != 0 ||
            json_object_array_add(v->value, obj) != 0) {
        json_object_put(obj);
        return cc_err_nomem(&v->err);
    }
    return 0;
}

void
admin_list_connectors(struct call *call)
{
    struct connector_view v = { .tenant = call->tenant, .value = json_object_new_array() };
    json_object *body = NULL;
    struct cc_err err = { 0 };

    if (v.value == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (tenant_connector_list(call->tenant->store, view_connector, &v, &err) != 0)
        goto fail;
    if (v.err.domain != CC_DOM_NONE) {
        err = v.err;
        goto fail;
    }
    body = json_object_new_object();
    if (cc_json_add(body, "value", json_object_get(v.value), &err) != 0)
        goto fail;
    call_reply_json(call, 200, body);
    json_object_put(v.value);
    return;
fail:
    json_object_put(body);
    json_object_put(v.value);
    call_reply_failed(call, &err);
}

/* ---- counts ---- */

static int
add_states(json_object *body, const struct tenant_counts *c, struct cc_err *err)
{
    json_object *requests = json_object_new_object();
    int64_t total = 0;
    int rc = 0;

    for (int s = TENANT_QUEUED; s < TENANT_STATES && rc == 0; s++) {
        total += c->by_state[s];
        rc = cc_json_add_int(requests, tenant_state_name((enum tenant_state)s), c->by_state[s],
                err);
    }
    if (rc != 0 || cc_json_add_int(requests, "total", total, err) != 0) {
        json_object_put(requests);
        return -1;
    }
    return cc_json_add(body, "requests", requests, err);
}

static int
add_uploads(json_object *body, const struct tenant_counts *c, struct cc_err *err)
{
    json_object *uploads = json_object_new_object();

    if (cc_json_add_int(uploads, "accepted", c->by_verdict[TENANT_ACCEPTED], err) != 0 ||
            cc_json_add_int(uploads, "duplicates", c->by_verdict[TENANT_DUPLICATE], err) != 0 ||
            cc_json_add_int(uploads, "alreadyCompleted", c->by_verdict[TENANT_ALREADY_COMPLETED],
                    err) != 0 ||
            cc_json_add_int(uploads, "leaseLost", c->by_verdict[TENANT_LEASE_LOST], err) != 0 ||
            cc_json_add_int(uploads, "unknown", c->by_verdict[TENANT_UNKNOWN], err) != 0 ||
            cc_json_add_int(uploads, "requeued", c->requeued, err) != 0) {
        json_object_put(uploads);
        return -1;
    }
    return cc_json_add(body, "uploads", uploads, err);
}

void
admin_counts(struct call *call)
{
    struct tenant_counts counts;
    struct cc_err err = { 0 };
    json_object *body = json_object_new_object();
    int64_t parked = 0;

    for (size_t i = 0; i < QUEUES; i++)
        parked += (int64_t)parking_count(call->tenant->queues[i].parking);
    if (tenant_count(call->tenant->store, &counts, &err) != 0 ||
            add_states(body, &counts, &err) != 0 || add_uploads(body, &counts, &err) != 0 ||
            cc_json_add_int(body, "leases", counts.leases, &err) != 0 ||
            cc_json_add_int(body, "released", counts.released, &err) != 0 ||
            cc_json_add_int(body, "waiting", parked, &err) != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}

/* ---- users ---- */

void
admin_add_user(struct call *call)
{
    json_object *body = call_json(call, json_type_object);
    json_object *answer = NULL;
    struct cc_err err = { 0 };
    char id[TENANT_UUID_LEN];
    const char *upn;

    if (body == NULL)
        return;
    if (cc_json_need_str(body, "userPrincipalName", TENANT_UPN_MAX, &upn, &err) != 0 ||
            tenant_user_id(call->tenant->store, upn, true, id, &err) != 0)
        goto fail;
    answer = json_object_new_object();
    if (cc_json_add_str(answer, "id", id, &err) != 0)
        goto fail;
    call_reply_json(call, 201, answer);
    json_object_put(body);
    return;
fail:
    json_object_put(answer);
    json_object_put(body);
    call_reply_failed(call, &err);
}

/* ---- the account and its tokens ---- */

void
admin_move_account(struct call *call)
{
    struct tenant *tenant = call->tenant;
    long account = atomic_fetch_add(&tenant->account, 1) + 1;
    struct cc_buf text = CC_BUF_INIT(32);
    struct cc_err err = { 0 };
    json_object *body = NULL;

    if (cc_buf_printf(&text, &err, "%ld", account) != 0 ||
            tenant_value_put(tenant->store, "account", cc_buf_str(&text), &err) != 0)
        goto fail;
    body = json_object_new_object();
    if (cc_json_add_int(body, "account", account, &err) != 0)
        goto fail;
    call_reply_json(call, 200, body);
    goto out;
fail:
    json_object_put(body);
    call_reply_failed(call, &err);
out:
    cc_buf_free(&text);
}

void
admin_expire_tokens(struct call *call)
{
    struct cc_err err = { 0 };
    json_object *body = json_object_new_object();
    int64_t count;

    if (tenant_token_expire_all(call->tenant->store, &count, &err) != 0 ||
            cc_json_add_int(body, "expired", count, &err) != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}
