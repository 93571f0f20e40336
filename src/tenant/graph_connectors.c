/* SPDX-License-Identifier: MIT */
/* Graph's view of the connectors: ndesConnectors and certificateConnectorDetails with their health metrics. */
#include "connectors.h"

#include <string.h>

#include "admin.h"
#include "base/clock.h"
#include "base/json.h"

#define NAME_MAX_LEN 256
#define NAMES_MAX 64

/* ---- the two resources ---- */

typedef int (*write_fn)(json_object *obj, const struct connector_view *v, struct cc_err *err);

static const char *
shown_name(const struct tenant_connector *c)
{
    return c->display_name != NULL ? c->display_name : c->id;
}

static int64_t
enrolled_ms(const struct tenant_connector *c)
{
    return c->enrolled_ms != 0 ? c->enrolled_ms : c->first_ms;
}

static int
write_ndes(json_object *obj, const struct connector_view *v, struct cc_err *err)
{
    const struct tenant_connector *c = v->connector;
    json_object *tags = json_object_new_array();

    if (tags != NULL)
        (void)json_object_array_add(tags, json_object_new_string("0"));
    if (cc_json_add(obj, "roleScopeTagIds", tags, err) != 0 ||
            cc_json_add_str(obj, "id", c->id, err) != 0 ||
            admin_add_time(obj, "lastConnectionDateTime", v->contact_ms, err) != 0 ||
            cc_json_add_str(obj, "state",
                    c->version == NULL ? "none"
                    : v->active        ? "active"
                                       : "inactive",
                    err) != 0 ||
            cc_json_add_str(obj, "displayName", shown_name(c), err) != 0 ||
            cc_json_add_str(obj, "machineName", c->machine_name, err) != 0 ||
            admin_add_time(obj, "enrolledDateTime", enrolled_ms(c), err) != 0)
        return -1;
    return cc_json_add_str(obj, "connectorVersion", c->version, err);
}

static int
write_detail(json_object *obj, const struct connector_view *v, struct cc_err *err)
{
    const struct tenant_connector *c = v->connector;

    if (cc_json_add_str(obj, "id", c->id, err) != 0 ||
            cc_json_add_str(obj, "connectorName", shown_name(c), err) != 0 ||
            cc_json_add_str(obj, "machineName", c->machine_name, err) != 0 ||
            admin_add_time(obj, "enrollmentDateTime", enrolled_ms(c), err) != 0 ||
            admin_add_time(obj, "lastCheckinDateTime", v->contact_ms, err) != 0)
        return -1;
    return cc_json_add_str(obj, "connectorVersion", c->version, err);
}

static const struct resource {
    const char *name;
    write_fn write;
} ndes = { "ndesConnectors", write_ndes },
  details = { "certificateConnectorDetails", write_detail };

/* ---- lists and items ---- */

struct listing {
    const struct resource *resource;
    const char *id; /* only this one; NULL: all */
    json_object *value;
    struct cc_err err;
};

static int
list_one(void *arg, const struct connector_view *v)
{
    struct listing *l = arg;
    json_object *obj;

    if (v->connector->removed || (l->id != NULL && strcmp(l->id, v->connector->id) != 0))
        return 0;
    obj = json_object_new_object();
    if (l->resource->write(obj, v, &l->err) == 0 && json_object_array_add(l->value, obj) == 0)
        return 0;
    json_object_put(obj);
    cc_err_nomem(&l->err);
    return 1;
}

static int
read_listing(struct call *call, struct listing *l, struct cc_err *err)
{
    if ((l->value = json_object_new_array()) == NULL)
        return cc_err_nomem(err);
    if (connectors_each(call->tenant, list_one, l, err) != 0)
        return -1;
    *err = l->err;
    return l->err.domain != CC_DOM_NONE ? -1 : 0;
}

static int
add_context(struct call *call, json_object *body, const struct resource *resource,
        const char *entity, struct cc_err *err)
{
    struct cc_buf base = CC_BUF_INIT(1024), text = CC_BUF_INIT(2048);
    int rc = call_read_base_url(call, &base, err);

    if (rc == 0)
        rc = cc_buf_printf(&text, err, "%s/beta/$metadata#deviceManagement/%s%s", cc_buf_str(&base),
                resource->name, entity);
    if (rc == 0)
        rc = cc_json_add_str(body, "@odata.context", cc_buf_str(&text), err);
    cc_buf_free(&base);
    cc_buf_free(&text);
    return rc;
}

static void
reply_list(struct call *call, const struct resource *resource)
{
    struct listing l = { .resource = resource };
    json_object *body = json_object_new_object();
    struct cc_err err = { 0 };

    if (read_listing(call, &l, &err) != 0 || add_context(call, body, resource, "", &err) != 0 ||
            cc_json_add(body, "value", json_object_get(l.value), &err) != 0)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, json_object_get(body));
    json_object_put(l.value);
    json_object_put(body);
}

static void
reply_item(struct call *call, const struct resource *resource)
{
    struct listing l = { .resource = resource, .id = call->capture[0] };
    json_object *item = NULL;
    struct cc_err err = { 0 };

    if (read_listing(call, &l, &err) != 0) {
        call_reply_failed(call, &err);
    } else if ((item = json_object_array_get_idx(l.value, 0)) == NULL) {
        call_reply_error(call, 404, "ResourceNotFound", "there is no such connector");
    } else if (add_context(call, item, resource, "/$entity", &err) != 0) {
        call_reply_failed(call, &err);
    } else {
        call_reply_json(call, 200, json_object_get(item));
    }
    json_object_put(l.value);
}

void
graph_ndes_list(struct call *call)
{
    reply_list(call, &ndes);
}

void
graph_ndes_get(struct call *call)
{
    reply_item(call, &ndes);
}

void
graph_detail_list(struct call *call)
{
    reply_list(call, &details);
}

void
graph_detail_get(struct call *call)
{
    reply_item(call, &details);
}

/* ---- changes ---- */

void
graph_ndes_patch(struct call *call)
{
    json_object *body = call_json(call, json_type_object);
    struct cc_err err = { 0 };
    const char *name;
    bool found;

    if (body == NULL)
        return;
    if (cc_json_need_str(body, "displayName", NAME_MAX_LEN, &name, &err) != 0 ||
            tenant_connector_name(call->tenant->store, call->capture[0], name, &found, &err) != 0)
        call_reply_failed(call, &err);
    else if (!found)
        call_reply_error(call, 404, "ResourceNotFound", "there is no such connector");
    else
        reply_item(call, &ndes);
    json_object_put(body);
}

void
graph_ndes_delete(struct call *call)
{
    connectors_take_out(call, call->capture[0]);
}

/* ---- health metrics ---- */

/* false: the call was ended. */
static bool
check_connector(struct call *call)
{
    struct listing l = { .resource = &details, .id = call->capture[0] };
    struct cc_err err = { 0 };
    bool found = false;

    if (read_listing(call, &l, &err) != 0)
        call_reply_failed(call, &err);
    else if (!(found = json_object_array_length(l.value) > 0))
        call_reply_error(call, 404, "ResourceNotFound", "there is no such connector");
    json_object_put(l.value);
    return found;
}

/* Which metrics are wanted; NULL: all of them. */
struct wanted {
    json_object *names;
    json_object *value;
    struct cc_err err;
};

static bool
is_wanted(json_object *names, const char *name)
{
    for (size_t i = 0; names != NULL && i < json_object_array_length(names); i++) {
        json_object *item = json_object_array_get_idx(names, i);

        if (json_object_is_type(item, json_type_string) &&
                strcmp(json_object_get_string(item), name) == 0)
            return true;
    }
    return names == NULL;
}

static int
add_metric(void *arg, const struct tenant_metric *m)
{
    struct wanted *w = arg;
    json_object *obj;

    if (!is_wanted(w->names, m->name))
        return 0;
    obj = json_object_new_object();
    if (cc_json_add_str(obj, "name", m->name, &w->err) == 0 &&
            cc_json_add_int(obj, "value", m->value, &w->err) == 0 &&
            json_object_array_add(w->value, obj) == 0)
        return 0;
    json_object_put(obj);
    cc_err_nomem(&w->err);
    return 1;
}

static int
add_point(void *arg, const struct tenant_metric *m)
{
    struct wanted *w = arg;
    json_object *obj = json_object_new_object();

    if (admin_add_time(obj, "dateTime", m->time_ms, &w->err) == 0 &&
            cc_json_add_int(obj, "successCount", m->succeeded, &w->err) == 0 &&
            cc_json_add_int(obj, "failureCount", m->failed, &w->err) == 0 &&
            json_object_array_add(w->value, obj) == 0)
        return 0;
    json_object_put(obj);
    cc_err_nomem(&w->err);
    return 1;
}

/* Ends the call. */
static void
reply_wanted(struct call *call, struct wanted *w, int rc, struct cc_err *err)
{
    json_object *body = json_object_new_object();

    if (rc == 0 && w->err.domain != CC_DOM_NONE) {
        *err = w->err;
        rc = -1;
    }
    if (rc == 0)
        rc = cc_json_add(body, "value", json_object_get(w->value), err);
    if (rc == 0)
        call_reply_json(call, 200, json_object_get(body));
    else
        call_reply_failed(call, err);
    json_object_put(body);
}

void
graph_detail_metrics(struct call *call)
{
    struct wanted w = { .value = json_object_new_array() };
    json_object *body = NULL;
    struct cc_err err = { 0 };
    int rc;

    if (!check_connector(call) || (body = call_json(call, json_type_object)) == NULL)
        goto out;
    rc = w.value == NULL ? cc_err_nomem(&err)
                         : cc_json_get_array(body, "metricNames", &w.names, &err);
    if (rc == 0 && w.names != NULL && json_object_array_length(w.names) > NAMES_MAX)
        rc = cc_err_set(&err, CC_DOM_INPUT, 0, "member \"metricNames\" has more than %d",
                NAMES_MAX);
    if (rc == 0)
        rc = tenant_metric_list(call->tenant->store, call->capture[0], add_metric, &w, &err);
    reply_wanted(call, &w, rc, &err);
out:
    json_object_put(w.value);
    json_object_put(body);
}

static int
read_time(json_object *obj, const char *name, int64_t *ret_ms, struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(obj, name, 64, &text, err) != 0)
        return -1;
    if (text != NULL && cc_time_parse(text, ret_ms, err) != 0)
        return cc_err_in(err, "member \"%s\"", name);
    return 0;
}

/* Without times it is all that is kept. */
static int
read_series_query(json_object *body, struct tenant_metric_query *q, struct cc_err *err)
{
    json_object *parameter;

    *q = (struct tenant_metric_query){ .from_ms = 0, .until_ms = INT64_MAX };
    if (cc_json_get_object(body, "timeSeriesParameter", &parameter, err) != 0)
        return -1;
    if (parameter == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"timeSeriesParameter\" is missing");
    if (cc_json_need_str(parameter, "metricName", TENANT_METRIC_NAME_MAX, &q->name, err) != 0 ||
            read_time(parameter, "startDateTime", &q->from_ms, err) != 0)
        return -1;
    return read_time(parameter, "endDateTime", &q->until_ms, err);
}

void
graph_detail_series(struct call *call)
{
    struct wanted w = { .value = json_object_new_array() };
    struct tenant_metric_query query;
    json_object *body = NULL;
    struct cc_err err = { 0 };
    int rc;

    if (!check_connector(call) || (body = call_json(call, json_type_object)) == NULL)
        goto out;
    rc = w.value == NULL ? cc_err_nomem(&err) : read_series_query(body, &query, &err);
    if (rc == 0)
        rc = tenant_metric_series(call->tenant->store, call->capture[0], &query, add_point, &w,
                &err);
    reply_wanted(call, &w, rc, &err);
out:
    json_object_put(w.value);
    json_object_put(body);
}
