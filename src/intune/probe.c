/* SPDX-License-Identifier: MIT */
#include "intune/probe.h"

#include "intune_int.h"

static int
begin(struct intune *intune, struct intune_attempt *ret, struct cc_err *err)
{
    *ret = (struct intune_attempt){
        .link = intune_link_get(intune),
        .deadline = INT64_MAX,
        .retry_after_ms = -1,
    };
    if (cc_uuid(ret->request_id, err) == 0)
        return 0;
    intune_link_put(ret->link);
    return -1;
}

int
intune_probe_sign_in(struct intune *intune, enum intune_audience audience, long *ret_number,
        struct cc_err *err)
{
    const enum intune_scope scope =
            audience == INTUNE_AUDIENCE_GRAPH ? INTUNE_SCOPE_GRAPH : INTUNE_SCOPE_SERVICE;
    struct intune_attempt attempt;
    struct intune_token *token = NULL;
    int rc;

    *ret_number = 0;
    if (begin(intune, &attempt, err) != 0)
        return -1;
    rc = intune_token_get(&attempt, scope, &token, err);
    if (rc == 0)
        intune_token_put(attempt.link, token);
    *ret_number = attempt.entra_number;
    intune_link_put(attempt.link);
    return rc;
}

int
intune_probe_endpoint(struct intune *intune, const char *provider, struct cc_buf *ret_url,
        struct cc_err *err)
{
    struct intune_attempt attempt;
    int rc;

    if (begin(intune, &attempt, err) != 0)
        return -1;
    rc = intune_endpoint_get(&attempt, provider, ret_url, err);
    intune_link_put(attempt.link);
    return rc;
}
