/* SPDX-License-Identifier: MIT */
#include "intune/queue.h"

#include "base/json.h"
#include "intune_int.h"

int
intune_heartbeat(struct intune *intune, json_object *take_heartbeat, json_object **ret_answer,
        struct cc_err *err)
{
    struct intune_call call = { .what = "Connectors/heartbeat", .method = "POST" };
    json_object *body = json_object_new_object();
    struct intune_answer answer = { 0 };
    int rc = cc_json_add(body, "heartbeat", take_heartbeat, err);

    if (rc == 0) {
        call.body = body;
        rc = intune_call(intune, &call, &answer, err);
    }
    json_object_put(body);
    if (rc == 0)
        atomic_store(&intune->was_heard, true);
    if (rc == 0 && ret_answer != NULL)
        *ret_answer = answer.json;
    else
        json_object_put(answer.json);
    return rc;
}

bool
intune_was_heard(struct intune *intune)
{
    return atomic_load(&intune->was_heard);
}
