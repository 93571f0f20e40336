/* SPDX-License-Identifier: MIT */
#ifndef TENANT_QUEUE_H
#define TENANT_QUEUE_H

/* What the files of the queues share. */

#include "tenant_int.h"

#define QUEUE_CONTEXTS_MAX 1000 /* in one call */

/* Replies {"value":[…]}. */
void queue_reply(struct call *call, json_object *take_value);

/* The action "upload". */
void queue_upload(struct call *call, enum queue queue, json_object *body);

#endif
