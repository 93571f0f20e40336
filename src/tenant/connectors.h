/* SPDX-License-Identifier: MIT */
#ifndef TENANT_CONNECTORS_H
#define TENANT_CONNECTORS_H

/* What the files of the connectors' calls share. */

#include "releases.h"
#include "tenant_int.h"

#define CONNECTOR_VERSION_MAX 64 /* bytes */

/* The features that there are, of those that the instance says it has; *ret is yours to put. */
CC_MUST int connectors_features(json_object *obj, json_object **ret, struct cc_err *err);

/* Writes down what an instance told, with its new certificate where identity is not NULL; false: the call was ended. */
CC_MUST bool connectors_record(struct call *call, const struct tenant_connector *connector,
        const struct tenant_new_identity *identity);

/* Removes it; ends the call. */
void connectors_take_out(struct call *call, const char *id);

/* A connector as those see it who look at it. */
struct connector_view {
    const struct tenant_connector *connector;
    bool active;        /* not removed, its last health message is fresh */
    int64_t contact_ms; /* when it last called for anything */
    struct lifecycle lifecycle;
};
const char *connector_state(const struct connector_view *v); /* "active", "inactive", "removed" */

/* Also those that were removed; fn must not call the store.  Not 0 from fn: no more. */
typedef int (*connector_view_fn)(void *arg, const struct connector_view *v);
CC_MUST int connectors_each(struct tenant *tenant, connector_view_fn fn, void *arg,
        struct cc_err *err);

/* Connectors/enroll (enroll.c); ends the call. */
void connectors_enroll(struct call *call, json_object *body);

#endif
