/* SPDX-License-Identifier: MIT */
#include "admin.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

int
admin_add_time(json_object *obj, const char *name, int64_t time_ms, struct cc_err *err)
{
    char text[CC_TIME_LEN];

    cc_time_format(time_ms, text);
    return cc_json_add_str(obj, name, text, err);
}

int
admin_add_json(json_object *obj, const char *name, const char *text, struct cc_err *err)
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
            cc_json_add_str(obj, "kind", r->kind, err) != 0 ||
            cc_json_add_str(obj, "state", tenant_state_name(r->state), err) != 0 ||
            cc_json_add_str(obj, "userPrincipalName", r->user, err) != 0 ||
            cc_json_add_str(obj, "thumbprint", r->thumbprint, err) != 0 ||
            cc_json_add_str(obj, "deviceId", r->device_id, err) != 0 ||
            cc_json_add_int(obj, "attempt", r->attempt, err) != 0 ||
            cc_json_add_int(obj, "failures", r->failures, err) != 0 ||
            cc_json_add_str(obj, "connectorId", r->connector_id, err) != 0 ||
            admin_add_time(obj, "createdDateTime", r->created_ms, err) != 0 ||
            admin_add_time(obj, "lastModifiedDateTime", r->updated_ms, err) != 0)
        return -1;
    return open ? admin_add_time(obj, "dueDateTime", r->due_ms, err) : 0;
}

static int
list_request(void *arg, const struct tenant_request *r)
{
    struct admin_page *page = arg;
    json_object *obj;

    if (admin_page_full(page))
        return 1;
    obj = json_object_new_object();
    if (fill_request(obj, r, &page->err) != 0) {
        json_object_put(obj);
        return -1;
    }
    return admin_page_add(page, r->seq, obj);
}

static int
check_feature(const char *name, struct cc_err *err)
{
    for (enum queue q = 0; q < QUEUES; q++)
        if (strcmp(queue_feature(q), name) == 0)
            return 0;
    return cc_err_set(err, CC_DOM_INPUT, 0, "no queue is of this feature");
}

/* text: what the next page needs of it. */
static int
read_request_query(struct call *call, struct tenant_request_query *q, struct cc_buf *text,
        struct cc_err *err)
{
    const char *name = http_exchange_query(call->exchange, "state");
    int state = name != NULL ? tenant_state_parse(name) : 0;

    q->feature = http_exchange_query(call->exchange, "feature");
    if (state < 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "there is no such state of a request");
    if (q->feature != NULL && check_feature(q->feature, err) != 0)
        return -1;
    q->state = (enum tenant_state)state;
    if (name != NULL && cc_buf_printf(text, err, "state=%s&", name) != 0)
        return -1;
    return q->feature != NULL ? cc_buf_printf(text, err, "feature=%s&", q->feature) : 0;
}

void
admin_list_requests(struct call *call)
{
    struct tenant_request_query q = { .state = 0 };
    struct admin_page page = { .value = NULL };
    struct cc_buf text = CC_BUF_INIT(256);
    struct cc_err err = { 0 };

    if (read_request_query(call, &q, &text, &err) != 0 || admin_page_open(call, &page, &err) != 0)
        goto fail;
    q.after_seq = page.after;
    q.limit = page.top + 1;
    if (tenant_request_list(call->tenant->store, &q, list_request, &page, &err) != 0)
        goto fail;
    admin_page_reply(call, &page, cc_buf_str(&text));
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    admin_page_free(&page);
    cc_buf_free(&text);
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

const char *
admin_verdict_name(enum tenant_verdict verdict)
{
    static const char *const names[TENANT_VERDICTS] = {
        [TENANT_ACCEPTED] = "accepted",
        [TENANT_DUPLICATE] = "duplicate",
        [TENANT_ALREADY_COMPLETED] = "alreadyCompleted",
        [TENANT_LEASE_LOST] = "leaseLost",
        [TENANT_UNKNOWN] = "unknown",
    };

    return verdict > 0 && verdict < TENANT_VERDICTS ? names[verdict] : NULL;
}

/* The last accepted result, also one that was put back, is the request's result. */
static int
view_event(void *arg, const struct tenant_event *e)
{
    struct request_view *v = arg;
    json_object *obj = json_object_new_object();

    if (admin_add_time(obj, "dateTime", e->time_ms, &v->err) != 0 ||
            cc_json_add_str(obj, "event", e->what, &v->err) != 0 ||
            cc_json_add_str(obj, "connectorId", e->connector_id, &v->err) != 0 ||
            cc_json_add_int(obj, "attempt", e->attempt, &v->err) != 0 ||
            cc_json_add_str(obj, "status", admin_verdict_name(e->verdict), &v->err) != 0 ||
            admin_add_json(obj, "result", e->result, &v->err) != 0)
        goto fail;
    if (e->lease_until_ms != 0 &&
            admin_add_time(obj, "leaseExpirationDateTime", e->lease_until_ms, &v->err) != 0)
        goto fail;
    if (e->requeued && cc_json_add_bool(obj, "requeued", true, &v->err) != 0)
        goto fail;
    if (e->verdict == TENANT_ACCEPTED && admin_add_json(v->obj, "result", e->result, &v->err) != 0)
        goto fail;
    if (json_object_array_add(v->history, obj) != 0)
        goto fail;
    return 0;
fail:
    json_object_put(obj);
    return cc_err_nomem(&v->err);
}

static int
read_view(struct call *call, struct request_view *v, struct cc_err *err)
{
    struct tenant_store *store = call->tenant->store;

    v->obj = json_object_new_object();
    v->history = json_object_new_array();
    if (v->obj == NULL || v->history == NULL)
        return cc_err_nomem(err);
    if (tenant_request_find(store, call->capture[0], view_request, v, err) != 0)
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

void
admin_get_request(struct call *call)
{
    struct request_view v = { .obj = NULL };
    struct cc_err err = { 0 };

    if (read_view(call, &v, &err) != 0)
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

/* ---- counts ---- */

static int
add_states(json_object *obj, const int64_t by_state[TENANT_STATES], struct cc_err *err)
{
    int64_t total = 0;

    for (int s = TENANT_QUEUED; s < TENANT_STATES; s++) {
        total += by_state[s];
        if (cc_json_add_int(obj, tenant_state_name((enum tenant_state)s), by_state[s], err) != 0)
            return -1;
    }
    return cc_json_add_int(obj, "total", total, err);
}

static int
add_requests(json_object *body, const struct tenant_counts *c, struct cc_err *err)
{
    json_object *requests = json_object_new_object();

    if (add_states(requests, c->by_state, err) != 0) {
        json_object_put(requests);
        return -1;
    }
    return cc_json_add(body, "requests", requests, err);
}

static int
add_feature(struct tenant *tenant, json_object *features, enum queue queue, struct cc_err *err)
{
    json_object *obj = json_object_new_object();
    int64_t by_state[TENANT_STATES];
    int64_t parked = (int64_t)parking_count(tenant->parking[queue]);

    if (tenant_count_feature(tenant->store, queue_feature(queue), by_state, err) != 0 ||
            add_states(obj, by_state, err) != 0 ||
            cc_json_add_int(obj, "waiting", parked, err) != 0) {
        json_object_put(obj);
        return -1;
    }
    return cc_json_add(features, queue_feature(queue), obj, err);
}

static int
add_features(struct tenant *tenant, json_object *body, struct cc_err *err)
{
    json_object *features = json_object_new_object();

    for (enum queue q = 0; q < QUEUES; q++) {
        if (add_feature(tenant, features, q, err) != 0) {
            json_object_put(features);
            return -1;
        }
    }
    return cc_json_add(body, "features", features, err);
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
    struct tenant *tenant = call->tenant;
    struct tenant_counts counts;
    struct cc_err err = { 0 };
    json_object *body = json_object_new_object();
    size_t parked = 0;

    for (size_t q = 0; q < QUEUES; q++)
        parked += parking_count(tenant->parking[q]);
    if (tenant_count(tenant->store, &counts, &err) != 0 || add_requests(body, &counts, &err) != 0 ||
            add_uploads(body, &counts, &err) != 0 || add_features(tenant, body, &err) != 0 ||
            admin_add_revocation_counts(tenant, body, &err) != 0 ||
            admin_add_scep_counts(tenant, body, &err) != 0 ||
            cc_json_add_int(body, "leases", counts.leases, &err) != 0 ||
            cc_json_add_int(body, "released", counts.released, &err) != 0 ||
            cc_json_add_int(body, "waiting", (int64_t)parked, &err) != 0) {
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
