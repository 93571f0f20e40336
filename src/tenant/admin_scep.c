/* SPDX-License-Identifier: MIT */
#include "admin.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "pki/name.h"
#include "scep.h"

#define VALIDITY_S ((int64_t)24 * 3600)
#define VALIDITY_MAX_S ((int64_t)10 * 366 * 86400)
#define TOTAL_MAX ((size_t)256 << 20) /* of what is kept of all challenges of one call */
#define QUERY_MAX 1700                /* bytes of a query in the address of the next page */

/* ---- ordering challenges ---- */

/* One element of what was asked for: count challenges that differ in their subject only. */
struct order {
    json_object *obj; /* the body's; what is kept */
    int64_t count, age_s, validity_s;
    char *subject; /* as it was written */
    char tenant_id[65];
};

struct orders {
    struct tenant *tenant;
    struct order *items;
    size_t count;
    struct tenant_new_scep_challenge *challenges;
    char **documents; /* of the challenges */
    size_t challenge_count;
    size_t total; /* bytes of the documents */
};

static void
orders_free(struct orders *o)
{
    for (size_t i = 0; o->items != NULL && i < o->count; i++)
        free(o->items[i].subject);
    for (size_t i = 0; o->documents != NULL && i < o->challenge_count; i++)
        free(o->documents[i]);
    free(o->items);
    free(o->documents);
    free(o->challenges);
}

/* For tests: a challenge that is older or younger than it is, and another tenant's. */
static int
read_test_members(struct tenant *tenant, json_object *obj, struct order *order, struct cc_err *err)
{
    const char *tenant_id;

    if (cc_json_get_int(obj, "ageSeconds", -VALIDITY_MAX_S, VALIDITY_MAX_S, 0, &order->age_s,
                err) != 0 ||
            cc_json_get_str(obj, "tenantId", sizeof(order->tenant_id) - 1, &tenant_id, err) != 0)
        return -1;
    (void)cc_strcpy(order->tenant_id, sizeof(order->tenant_id),
            tenant_id != NULL && tenant_id[0] != '\0' ? tenant_id : tenant->id);
    return 0;
}

static int
read_subject(json_object *obj, struct order *order, struct cc_err *err)
{
    const char *subject;

    if (cc_json_get_str(obj, "subjectName", PKI_NAME_TEXT_MAX, &subject, err) != 0)
        return -1;
    if (subject == NULL)
        return 0;
    return (order->subject = cc_strdup(subject, err)) != NULL ? 0 : -1;
}

static int
read_order(void *arg, size_t i, json_object *obj, struct cc_err *err)
{
    struct orders *o = arg;
    struct order *order = &o->items[i];
    struct scep_wants *wants = NULL;
    const char *text;

    if (cc_json_get_int(obj, "count", 1, ADMIN_ORDERS_MAX, 1, &order->count, err) != 0 ||
            cc_json_get_int(obj, "validitySeconds", 1, VALIDITY_MAX_S, VALIDITY_S,
                    &order->validity_s, err) != 0 ||
            cc_json_get_str(obj, "userPrincipalName", TENANT_UPN_MAX, &text, err) != 0 ||
            cc_json_get_str(obj, "deviceId", TENANT_ID_MAX, &text, err) != 0)
        return -1;
    if (read_test_members(o->tenant, obj, order, err) != 0 || read_subject(obj, order, err) != 0 ||
            scep_wants_read(obj, &wants, err) != 0)
        return -1;
    scep_wants_free(wants);
    json_object_object_del(obj, "count");
    json_object_object_del(obj, "validitySeconds");
    json_object_object_del(obj, "ageSeconds");
    json_object_object_del(obj, "tenantId");
    order->obj = obj;
    o->challenge_count += (size_t)order->count;
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
    if (o->challenge_count > ADMIN_ORDERS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "more than %d challenges", ADMIN_ORDERS_MAX);
    o->challenges = calloc(o->challenge_count, sizeof(*o->challenges));
    o->documents = calloc(o->challenge_count, sizeof(*o->documents));
    return o->challenges != NULL && o->documents != NULL ? 0 : cc_err_nomem(err);
}

/* The order as it is kept; its subject has the number of the challenge. */
static int
make_document(const struct order *order, size_t number, char **ret, struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(PKI_NAME_TEXT_MAX * 4);
    const char *text;
    int rc = 0;

    if (order->subject != NULL) {
        if ((rc = admin_order_number(order->subject, number, &subject, err)) == 0)
            rc = cc_json_add_str(order->obj, "subjectName", cc_buf_str(&subject), err);
        cc_buf_free(&subject);
    }
    if (rc != 0)
        return -1;
    text = json_object_to_json_string_ext(order->obj,
            JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    if (text == NULL)
        return cc_err_nomem(err);
    return (*ret = cc_strdup(text, err)) != NULL ? 0 : -1;
}

/* Takes nothing over; text: of the challenge. */
static int
add_challenge(json_object *list, const char *id, const char *text, struct cc_err *err)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "id", id, err) != 0 ||
            cc_json_add_str(obj, "challenge", text, err) != 0) {
        json_object_put(obj);
        return -1;
    }
    if (json_object_array_add(list, obj) != 0) {
        json_object_put(obj);
        return cc_err_nomem(err);
    }
    return 0;
}

/* The n-th challenge of the call, counted from 0. */
static int
make_challenge(struct orders *o, const struct order *order, size_t n, json_object *list,
        struct cc_err *err)
{
    struct tenant_new_scep_challenge *c = &o->challenges[n];
    struct scep_challenge challenge;
    struct cc_buf text = CC_BUF_INIT(SCEP_CHALLENGE_MAX);
    int rc = -1;

    c->issued_ms = cc_clock_now_ms() - order->age_s * 1000;
    c->expires_ms = c->issued_ms + order->validity_s * 1000;
    if (cc_uuid(c->id, err) != 0 || make_document(order, n + 1, &o->documents[n], err) != 0)
        return -1;
    c->document = o->documents[n];
    if ((o->total += strlen(c->document)) > TOTAL_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "challenges of more than %zu bytes", TOTAL_MAX);
    challenge.issued_ms = c->issued_ms;
    challenge.expires_ms = c->expires_ms;
    (void)cc_strcpy(challenge.id, sizeof(challenge.id), c->id);
    (void)cc_strcpy(challenge.tenant_id, sizeof(challenge.tenant_id), order->tenant_id);
    if (scep_challenge_write(o->tenant, &challenge, &text, err) == 0)
        rc = add_challenge(list, c->id, cc_buf_str(&text), err);
    cc_buf_wipe(&text);
    return rc;
}

static int
make_challenges(struct orders *o, json_object *list, struct cc_err *err)
{
    size_t n = 0;

    if (list == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < o->count; i++)
        for (int64_t k = 0; k < o->items[i].count; k++, n++)
            if (make_challenge(o, &o->items[i], n, list, err) != 0)
                return -1;
    return 0;
}

void
admin_add_scep_challenges(struct call *call)
{
    struct tenant *tenant = call->tenant;
    json_object *body = call_json(call, json_type_null);
    struct orders orders = { .tenant = tenant };
    struct cc_err err = { 0 };
    json_object *list, *answer;

    if (body == NULL)
        return;
    list = json_object_new_array();
    answer = json_object_new_object();
    if (read_orders(body, &orders, &err) != 0 || make_challenges(&orders, list, &err) != 0 ||
            tenant_scep_challenge_add(tenant->store, orders.challenges, orders.challenge_count,
                    &err) != 0 ||
            cc_json_add(answer, "challenges", json_object_get(list), &err) != 0)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 201, json_object_get(answer));
    json_object_put(answer);
    json_object_put(list);
    orders_free(&orders);
    json_object_put(body);
}

/* ---- one challenge ---- */

static int
add_hash(json_object *obj, const char *name, struct cc_bytes hash, struct cc_err *err)
{
    char text[2 * TENANT_HASH_LEN + 1];

    if (hash.len != TENANT_HASH_LEN)
        return 0;
    cc_hex(hash.data, hash.len, true, text);
    return cc_json_add_str(obj, name, text, err);
}

struct view {
    json_object *obj; /* NULL: not found */
    struct cc_err err;
};

static int
view_challenge(void *arg, const struct tenant_scep_challenge *c)
{
    struct view *v = arg;
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "id", c->id, &v->err) != 0 ||
            admin_add_json(obj, "order", c->document, &v->err) != 0 ||
            admin_add_time(obj, "issuedDateTime", c->issued_ms, &v->err) != 0 ||
            admin_add_time(obj, "expirationDateTime", c->expires_ms, &v->err) != 0 ||
            cc_json_add_bool(obj, "targeted", c->targeted, &v->err) != 0 ||
            cc_json_add_str(obj, "transactionId", c->transaction_id, &v->err) != 0 ||
            add_hash(obj, "certificateRequestHash", c->csr_hash, &v->err) != 0) {
        json_object_put(obj);
        return -1;
    }
    v->obj = obj;
    return 0;
}

void
admin_get_scep_challenge(struct call *call)
{
    struct view v = { .obj = NULL };

    if (tenant_scep_challenge_find(call->tenant->store, call->capture[0], view_challenge, &v,
                &v.err) == 0 &&
            v.obj == NULL)
        cc_err_set(&v.err, CC_DOM_INPUT, 404, "there is no such challenge");
    if (v.err.domain != CC_DOM_NONE) {
        json_object_put(v.obj);
        call_reply_failed(call, &v.err);
        return;
    }
    call_reply_json(call, 200, v.obj);
}

void
admin_untarget_scep_challenge(struct call *call)
{
    struct cc_err err = { 0 };
    bool found;

    if (tenant_scep_challenge_untarget(call->tenant->store, call->capture[0], &found, &err) != 0)
        call_reply_failed(call, &err);
    else if (!found)
        call_reply_error(call, 404, "ResourceNotFound", "there is no such challenge");
    else
        call_reply_empty(call, 204);
}

/* ---- transactions ---- */

static const char *
outcome_text(enum tenant_scep_outcome outcome)
{
    switch (outcome) {
    case TENANT_SCEP_SUCCEEDED:
        return "success";
    case TENANT_SCEP_FAILED:
        return "failure";
    }
    return NULL;
}

static int
fill_notification(json_object *obj, const struct tenant_scep_transaction *t, struct cc_err *err)
{
    if (cc_json_add_str(obj, "kind", outcome_text(t->outcome), err) != 0 ||
            cc_json_add_int(obj, "count", t->notifications, err) != 0 ||
            cc_json_add_int(obj, "contradictions", t->contradictions, err) != 0 ||
            admin_add_json(obj, "members", t->notification, err) != 0 ||
            cc_json_add_str(obj, "callerInfo", t->caller_info, err) != 0 ||
            admin_add_time(obj, "firstDateTime", t->notified_ms, err) != 0)
        return -1;
    return admin_add_time(obj, "lastDateTime", t->notified_last_ms, err);
}

static int
add_notification(json_object *obj, const struct tenant_scep_transaction *t, struct cc_err *err)
{
    json_object *notification;

    if (t->outcome == 0)
        return 0;
    notification = json_object_new_object();
    if (fill_notification(notification, t, err) != 0) {
        json_object_put(notification);
        return -1;
    }
    return cc_json_add(obj, "notification", notification, err);
}

static int
fill_transaction(json_object *obj, const struct tenant_scep_transaction *t, struct cc_err *err)
{
    if (cc_json_add_str(obj, "transactionId", t->transaction_id, err) != 0 ||
            add_hash(obj, "certificateRequestHash", t->csr_hash, err) != 0 ||
            cc_json_add_str(obj, "challengeId", t->challenge_id, err) != 0 ||
            cc_json_add_int(obj, "validations", t->validations, err) != 0 ||
            cc_json_add_str(obj, "lastCode", t->last_code, err) != 0 ||
            admin_add_time(obj, "createdDateTime", t->first_ms, err) != 0 ||
            admin_add_time(obj, "lastValidationDateTime", t->last_ms, err) != 0)
        return -1;
    return add_notification(obj, t, err);
}

static int
list_transaction(void *arg, const struct tenant_scep_transaction *t)
{
    struct admin_page *page = arg;
    json_object *obj;

    if (admin_page_full(page))
        return 1;
    obj = json_object_new_object();
    if (fill_transaction(obj, t, &page->err) != 0) {
        json_object_put(obj);
        return -1;
    }
    return admin_page_add(page, t->seq, obj);
}

/* "transactionId=...&", every byte that means something in a query escaped. */
static int
write_query(const char *transaction_id, struct cc_buf *ret, struct cc_err *err)
{
    if (cc_buf_add_str(ret, "transactionId=", err) != 0)
        return -1;
    for (const unsigned char *c = (const unsigned char *)transaction_id; *c != '\0'; c++)
        if (cc_buf_printf(ret, err, isalnum(*c) ? "%c" : "%%%02X", *c) != 0)
            return -1;
    return cc_buf_add_str(ret, "&", err);
}

void
admin_list_scep_transactions(struct call *call)
{
    struct tenant_scep_query q = { .transaction_id =
                                           http_exchange_query(call->exchange, "transactionId") };
    struct admin_page page = { .value = NULL };
    struct cc_buf text = CC_BUF_INIT(QUERY_MAX);
    struct cc_err err = { 0 };

    if (admin_page_open(call, &page, &err) != 0)
        goto fail;
    if (q.transaction_id != NULL && write_query(q.transaction_id, &text, &err) != 0)
        goto fail;
    q.after_seq = page.after;
    q.limit = page.top + 1;
    if (tenant_scep_list(call->tenant->store, &q, list_transaction, &page, &err) != 0)
        goto fail;
    admin_page_reply(call, &page, cc_buf_str(&text));
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    admin_page_free(&page);
    cc_buf_free(&text);
}

/* ---- counts ---- */

static int
fill_counts(json_object *obj, const struct tenant_scep_counts *c, struct cc_err *err)
{
    if (cc_json_add_int(obj, "validated", c->validated, err) != 0 ||
            cc_json_add_int(obj, "refused", c->refused, err) != 0 ||
            cc_json_add_int(obj, "succeeded", c->succeeded, err) != 0 ||
            cc_json_add_int(obj, "failed", c->failed, err) != 0 ||
            cc_json_add_int(obj, "repeated", c->repeated, err) != 0 ||
            cc_json_add_int(obj, "contradicted", c->contradicted, err) != 0)
        return -1;
    return cc_json_add_int(obj, "unknown", c->unknown, err);
}

int
admin_add_scep_counts(struct tenant *tenant, json_object *body, struct cc_err *err)
{
    struct tenant_scep_counts counts;
    json_object *obj = json_object_new_object();

    if (tenant_scep_count(tenant->store, &counts, err) != 0 ||
            fill_counts(obj, &counts, err) != 0) {
        json_object_put(obj);
        return -1;
    }
    return cc_json_add(body, "scep", obj, err);
}
