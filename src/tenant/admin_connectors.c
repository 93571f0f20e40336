/* SPDX-License-Identifier: MIT */
#include "admin.h"
#include "connectors.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"

const char *
connector_state(const struct connector_view *v)
{
    if (v->connector->removed)
        return "removed";
    return v->active ? "active" : "inactive";
}

struct listing {
    json_object *value;
    struct cc_err err;
};

static int
add_enrolment(json_object *obj, const struct tenant_connector *c, struct cc_err *err)
{
    if (c->enrolled_ms == 0)
        return 0;
    if (admin_add_time(obj, "enrolledDateTime", c->enrolled_ms, err) != 0)
        return -1;
    return admin_add_time(obj, "certificateExpirationDateTime", c->certificate_expires_ms, err);
}

static int
add_lifecycle(json_object *obj, const struct lifecycle *l, struct cc_err *err)
{
    if (cc_json_add_str(obj, "status", lifecycle_status_name(l->status), err) != 0 ||
            cc_json_add_str(obj, "statusReason", l->reason, err) != 0)
        return -1;
    if (l->successor[0] == '\0')
        return 0;
    return admin_add_time(obj, "supportedUntilDateTime", l->supported_until_ms, err);
}

static int
list_one(void *arg, const struct connector_view *v)
{
    const struct tenant_connector *c = v->connector;
    struct listing *l = arg;
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "connectorId", c->id, &l->err) != 0 ||
            cc_json_add_str(obj, "state", connector_state(v), &l->err) != 0 ||
            cc_json_add_str(obj, "version", c->version, &l->err) != 0 ||
            cc_json_add_str(obj, "displayName", c->display_name, &l->err) != 0 ||
            cc_json_add_str(obj, "machineName", c->machine_name, &l->err) != 0 ||
            add_enrolment(obj, c, &l->err) != 0 ||
            add_lifecycle(obj, &v->lifecycle, &l->err) != 0 ||
            admin_add_json(obj, "features", c->features, &l->err) != 0 ||
            admin_add_time(obj, "firstContactDateTime", c->first_ms, &l->err) != 0 ||
            admin_add_time(obj, "lastContactDateTime", v->contact_ms, &l->err) != 0 ||
            admin_add_json(obj, "heartbeat", c->heartbeat, &l->err) != 0 ||
            json_object_array_add(l->value, obj) != 0) {
        json_object_put(obj);
        return cc_err_nomem(&l->err);
    }
    return 0;
}

void
admin_list_connectors(struct call *call)
{
    struct listing l = { .value = json_object_new_array() };
    json_object *body = NULL;
    struct cc_err err = { 0 };

    if (l.value == NULL) {
        cc_err_nomem(&err);
        goto fail;
    }
    if (connectors_each(call->tenant, list_one, &l, &err) != 0)
        goto fail;
    if (l.err.domain != CC_DOM_NONE) {
        err = l.err;
        goto fail;
    }
    body = json_object_new_object();
    if (cc_json_add(body, "value", json_object_get(l.value), &err) != 0)
        goto fail;
    call_reply_json(call, 200, body);
    json_object_put(l.value);
    return;
fail:
    json_object_put(body);
    json_object_put(l.value);
    call_reply_failed(call, &err);
}

void
admin_remove_connector(struct call *call)
{
    connectors_take_out(call, call->capture[0]);
}
