/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "intune_int.h"

/* How calls go, for monitoring. */

static const char *const calls[] = {
    "other",
    "Connectors/enroll",
    "Connectors/heartbeat",
    "Connectors/remove",
    "PkcsRequests/download",
    "PkcsRequests/renewLeases",
    "PkcsRequests/upload",
    "PkcsRequests/release",
    "PfxImportRequests/download",
    "PfxImportRequests/renewLeases",
    "PfxImportRequests/upload",
    "PfxImportRequests/release",
    "CertificateAuthorityRequests/downloadRevocationRequests",
    "CertificateAuthorityRequests/uploadRevocationResults",
    "ScepActions/validateRequest",
    "ScepActions/successNotification",
    "ScepActions/failureNotification",
};

void
intune_measure(struct intune *intune, const char *what, int64_t began_us, const struct cc_err *why)
{
    struct intune_measure *measure = &intune->measures[0];

    _Static_assert(CC_COUNT(calls) <= INTUNE_MEASURED_MAX, "room for all");
    /* What we end ourselves says nothing of the service. */
    if (why->domain == CC_DOM_CANCELLED)
        return;
    for (size_t i = 1; i < CC_COUNT(calls); i++)
        if (strcmp(calls[i], what) == 0)
            measure = &intune->measures[i];
    cc_histogram_add_since(&measure->time, began_us);
    if (why->domain == CC_DOM_HTTP && why->code >= 400 && why->code < 500)
        (void)atomic_fetch_add(&measure->refused, 1);
    else if (why->domain != CC_DOM_NONE)
        (void)atomic_fetch_add(&measure->failed, 1);
}

size_t
intune_get_measured(struct intune *intune, struct intune_measured ret[INTUNE_MEASURED_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < CC_COUNT(calls); i++) {
        struct intune_measured *one = &ret[count];

        one->call = calls[i];
        one->failed = atomic_load(&intune->measures[i].failed);
        one->refused = atomic_load(&intune->measures[i].refused);
        cc_histogram_get(&intune->measures[i].time, &one->time);
        count += one->time.total > 0;
    }
    return count;
}
