/* SPDX-License-Identifier: MIT */
#ifndef REVOCATION_REVOCATION_H
#define REVOCATION_REVOCATION_H

/*
 * The workload of revocation: what the service wants revoked is revoked at its CA, and acknowledged only then.
 *
 * A request is journaled whole, and tried until its CA has answered for good, across restarts: the service gives it out
 * once an hour at most.  A certificate that is revoked already counts as done.
 *
 * Owns its threads (flow/flow.h).  What it is given is borrowed and must outlive it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "ca/ca.h"
#include "eventlog/eventlog.h"
#include "flow/flow.h"
#include "intune/service.h"
#include "store/store.h"

struct revocation;

struct revocation_settings {
    struct intune *intune;
    struct store *store;
    struct eventlog *log;
    const char *connector_id;
    struct ca *const *cas; /* copied */
    size_t ca_count;
    enum pki_reason reason; /* recorded at the CA, as the service gives none */
    const char *
            issuer_name; /* filter: only requests whose issuerName or caConfiguration is this; NULL: none */
    bool refuse_foreign; /* requests of no CA of ours: NotSupportedError; else left for another instance */
    bool numeric_codes;       /* errorCode "4004" instead of "CertificateNotFoundError" */
    int64_t poll_interval_ms; /* the service's cool-down */
    unsigned max_requests;    /* 1..500 */
    unsigned workers;
};

CC_MUST int revocation_start(const struct revocation_settings *settings,
        struct revocation **ret_work, struct cc_err *err);
CC_MUST int revocation_reconfigure(struct revocation *work,
        const struct revocation_settings *settings, struct cc_err *err);
void revocation_stop(struct revocation *work, int64_t drain_ms); /* accepts NULL */

/* The service is asked now, though poll_interval_ms is not over: for services that keep no cool-down. */
void revocation_poll_now(struct revocation *work);

/* Another instance of the store is gone: goes on with what it had in hand. */
void revocation_adopt(struct revocation *work);

void revocation_get_status(struct revocation *work, struct flow_status *ret);

#endif
