/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include "base/json.h"
#include "odata_filter.h"

static json_object *
user_list(const char *id, const char *upn, struct cc_err *err)
{
    json_object *body = json_object_new_object();
    json_object *value = json_object_new_array();
    json_object *user = NULL;

    if (value == NULL)
        goto fail;
    if (id[0] != '\0') {
        user = json_object_new_object();
        if (cc_json_add_str(user, "id", id, err) != 0 ||
                cc_json_add_str(user, "userPrincipalName", upn, err) != 0 ||
                json_object_array_add(value, user) != 0)
            goto fail;
        user = NULL;
    }
    if (cc_json_add(body, "value", value, err) != 0) {
        value = NULL;
        goto fail;
    }
    return body;
fail:
    json_object_put(user);
    json_object_put(value);
    json_object_put(body);
    return NULL;
}

/* The directory compares user names without case, whatever the filter says. */
void
graph_users(struct call *call)
{
    const char *text = http_exchange_query(call->exchange, "$filter");
    struct odata_filter filter;
    const struct odata_term *term;
    char id[TENANT_UUID_LEN];
    struct cc_err err = { 0 };
    json_object *body;

    if (text == NULL) {
        call_reply_error(call, 400, "BadRequest", "users are found by userPrincipalName only");
        return;
    }
    if (odata_filter_parse(text, &filter, &err) != 0) {
        call_reply_failed(call, &err);
        return;
    }
    term = odata_filter_find(&filter, "userPrincipalName");
    if (term == NULL || filter.count != 1) {
        call_reply_error(call, 400, "BadRequest", "users are found by userPrincipalName only");
        return;
    }
    if (tenant_user_id(call->tenant->store, term->value, false, id, &err) != 0 ||
            (body = user_list(id, term->value, &err)) == NULL)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, body);
}
