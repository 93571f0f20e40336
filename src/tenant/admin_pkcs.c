/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define DOCUMENT_MAX 2097152 /* bytes; a recrypt request carries a PFX */

/*
 * PKCS requests as an administrator, or a test, orders them: members as on the wire, which are not judged, as refusing
 * what cannot be done is the connector's part.  "count" makes many, in which "%d" in subjectName becomes 1, 2, ...
 */
struct orders {
    struct tenant_new_request *requests;
    char **documents;
    char **users, **devices;
    size_t count, room;
};

static void
orders_free(struct orders *o)
{
    for (size_t i = 0; i < o->count; i++) {
        free(o->documents[i]);
        free(o->users[i]);
        free(o->devices[i]);
    }
    free(o->requests);
    free(o->documents);
    free(o->users);
    free(o->devices);
}

static int
make_room(struct orders *o, size_t more, struct cc_err *err)
{
    if (more > QUEUE_ADD_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "no request, or more than %d", QUEUE_ADD_MAX);
    o->room = more + 1;
    o->requests = calloc(o->room, sizeof(*o->requests));
    o->documents = calloc(o->room, sizeof(*o->documents));
    o->users = calloc(o->room, sizeof(*o->users));
    o->devices = calloc(o->room, sizeof(*o->devices));
    if (o->requests == NULL || o->documents == NULL || o->users == NULL || o->devices == NULL)
        return cc_err_nomem(err);
    return 0;
}

/* A text that is shown in lists; one that is not a text is the document's own matter. */
static int
copy_text(json_object *obj, const char *name, size_t max, char **ret, struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(obj, name, max, &text, NULL) != 0 || text == NULL)
        return 0;
    return (*ret = cc_strdup(text, err)) != NULL ? 0 : -1;
}

/* obj's subjectName with number for "%d". */
static int
number_subject(json_object *obj, const char *subject, int64_t number, struct cc_err *err)
{
    const char *at = subject != NULL ? strstr(subject, "%d") : NULL;
    struct cc_buf text = CC_BUF_INIT(65536);
    int rc = 0;

    if (at != NULL) {
        rc = cc_buf_printf(&text, err, "%.*s%lld%s", (int)(at - subject), subject,
                (long long)number, at + 2);
        if (rc == 0)
            rc = cc_json_add_str(obj, "subjectName", cc_buf_str(&text), err);
    }
    cc_buf_free(&text);
    return rc;
}

static int
add_request(struct orders *o, json_object *obj, struct cc_err *err)
{
    size_t n = o->count;
    const char *text = json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PLAIN);

    if (text == NULL)
        return cc_err_nomem(err);
    if (strlen(text) > DOCUMENT_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a request has over %d bytes", DOCUMENT_MAX);
    if (n >= o->room - 1)
        return cc_err_set(err, CC_DOM_INPUT, 0, "more than %d requests", QUEUE_ADD_MAX);
    o->count++;
    if ((o->documents[n] = cc_strdup(text, err)) == NULL ||
            copy_text(obj, "userPrincipalName", TENANT_UPN_MAX, &o->users[n], err) != 0 ||
            copy_text(obj, "deviceId", TENANT_ID_MAX, &o->devices[n], err) != 0)
        return -1;
    o->requests[n].document = o->documents[n];
    o->requests[n].user = o->users[n];
    o->requests[n].device_id = o->devices[n];
    return cc_uuid(o->requests[n].request_id, err);
}

/* Takes obj apart: count and overrides are ours, the rest is the request. */
static int
read_order(struct orders *o, json_object *obj, int64_t count, struct cc_err *err)
{
    json_object *overrides, *subject_member;
    char *subject = NULL;
    int rc = 0;

    if (cc_json_get_object(obj, "overrides", &overrides, err) != 0)
        return -1;
    (void)json_object_get(overrides);
    json_object_object_del(obj, "overrides");
    json_object_object_del(obj, "count");
    if (!json_object_object_get_ex(obj, "kind", NULL))
        rc = cc_json_add_str(obj, "kind", "issue", err);
    if (rc == 0 && overrides != NULL)
        rc = queue_apply_overrides(obj, overrides, err);
    json_object_put(overrides);
    if (rc != 0)
        return -1;
    if (json_object_object_get_ex(obj, "subjectName", &subject_member) &&
            json_object_is_type(subject_member, json_type_string) &&
            (subject = cc_strdup(json_object_get_string(subject_member), err)) == NULL)
        return -1;
    for (int64_t i = 1; rc == 0 && i <= count; i++)
        if ((rc = number_subject(obj, subject, i, err)) == 0)
            rc = add_request(o, obj, err);
    free(subject);
    return rc;
}

static int
read_count(json_object *obj, int64_t *ret, struct cc_err *err)
{
    if (!json_object_is_type(obj, json_type_object))
        return cc_err_set(err, CC_DOM_INPUT, 0, "not a JSON object");
    return cc_json_get_int(obj, "count", 1, QUEUE_ADD_MAX, 1, ret, err);
}

static int
read_orders(struct orders *o, json_object *body, struct cc_err *err)
{
    bool many = json_object_is_type(body, json_type_array);
    size_t elements = many ? json_object_array_length(body) : 1;
    int64_t total = 0;

    /* Twice over the elements: how many there are, then what they are. */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < elements; i++) {
            json_object *obj = many ? json_object_array_get_idx(body, i) : body;
            int64_t count;
            int rc = read_count(obj, &count, err);

            if (rc == 0 && pass == 1)
                rc = read_order(o, obj, count, err);
            if (rc != 0)
                return many ? cc_err_in(err, "element %zu", i) : -1;
            total += count;
        }
        if (pass == 0 && (total == 0 || make_room(o, (size_t)total, err) != 0))
            return total == 0 ? cc_err_set(err, CC_DOM_INPUT, 0, "no request") : -1;
    }
    return 0;
}

void
admin_add_pkcs_requests(struct call *call)
{
    json_object *body = call_json(call, json_type_null);
    struct orders orders = { .count = 0 };
    struct cc_err err = { 0 };
    bool one;

    if (body == NULL)
        return;
    one = json_object_is_type(body, json_type_object) &&
          !json_object_object_get_ex(body, "count", NULL);
    if (read_orders(&orders, body, &err) != 0)
        call_reply_failed(call, &err);
    else
        admin_enqueue(call, &call->tenant->queues[QUEUE_PKCS], orders.requests, orders.count, one);
    orders_free(&orders);
    json_object_put(body);
}
