/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_REVOCATION_H
#define INTUNE_REVOCATION_H

/*
 * Intune's published API of certificates to be revoked: CertificateAuthorityRequests/downloadRevocationRequests and
 * uploadRevocationResults of PkiConnectorFEService, api-version 5019-05-05.
 *
 * Not a queue with leases: after a download the service gives nothing for an hour (cool-down); what was not answered
 * comes again then.  Errors as in intune/service.h.  Any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "intune/queue.h"

#define INTUNE_REVOCATION_MAX                                                                      \
    500 /* requests in one download; the documentation advises at most 100 */

/*
 * issuer_name: NULL: no filter.  The requests come as struct intune_work: request_id is the requestContext, or its
 * SHA-256 in hexadecimal where it is too long for an id; attempt is 0, as the service counts none; lease_until_ms is 0.
 */
CC_MUST int intune_revocation_download(struct intune *intune, unsigned max, const char *issuer_name,
        struct intune_work **ret_work, size_t *ret_count, size_t *ret_malformed,
        struct cc_err *err);

struct intune_revocation_request {
    const char *serial_number;                  /* as reported when it was issued */
    const char *issuer_name, *ca_configuration; /* borrowed; NULL: absent */
};
CC_MUST int intune_revocation_request_read(json_object *body, struct intune_revocation_request *ret,
        struct cc_err *err);

struct intune_revocation_result {
    const char *request_context;
    enum intune_error_code error_code; /* INTUNE_OK: succeeded */
    const char *error_message;         /* only of a failure */
    bool numeric; /* errorCode as "4004" (as Microsoft's Java library), else by name (C#) */
};
CC_MUST int intune_revocation_result_write(const struct intune_revocation_result *result,
        struct cc_buf *ret, struct cc_err *err);

/* results: JSON texts.  The answer is one for all: INTUNE_ACCEPTED for each, or -1 (CC_DOM_INPUT: "value" was not true). */
CC_MUST int intune_revocation_upload(struct intune *intune, const char *const *results,
        size_t count, enum intune_verdict *ret_verdicts, struct cc_err *err);

#endif
