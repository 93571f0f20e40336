/* SPDX-License-Identifier: MIT */
#ifndef TENANT_CONNECTORS_H
#define TENANT_CONNECTORS_H

/* What the files of the connectors' calls share. */

#include "tenant_int.h"

#define CONNECTOR_VERSION_MAX 64 /* bytes */

/* The features that there are, of those that the instance says it has; *ret is yours to put. */
CC_MUST int connectors_features(json_object *obj, json_object **ret, struct cc_err *err);

/* Writes down what an instance told, with its new certificate where identity is not NULL; false: the call was ended. */
CC_MUST bool connectors_record(struct call *call, const struct tenant_connector *connector,
        const struct tenant_new_identity *identity);

/* Connectors/enroll (enroll.c); ends the call. */
void connectors_enroll(struct call *call, json_object *body);

#endif
