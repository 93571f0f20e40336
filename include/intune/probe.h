/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_PROBE_H
#define INTUNE_PROBE_H

/*
 * The steps before any call, one at a time and each once, for who looks for a fault: signing in, and discovery.  No request
 * is taken from a queue, and the service is told nothing.  Any thread; errors as in intune/service.h.
 */

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "intune/service.h"

enum intune_audience { INTUNE_AUDIENCE_GRAPH, INTUNE_AUDIENCE_SERVICE };

/* Signs in unless there is a token.  *ret_number, of a refusal: Entra ID's, "AADSTS" and this; else 0. */
CC_MUST int intune_probe_sign_in(struct intune *intune, enum intune_audience audience,
        long *ret_number, struct cc_err *err);

/* What discovery calls the services that features live by. */
#define INTUNE_PROVIDER_CONNECTOR "PkiConnectorFEService"
#define INTUNE_PROVIDER_SCEP "ScepRequestValidationFEService"

/*
 * Where a service is, appended; signs in to Graph for it.  CC_DOM_HTTP 403: the application lacks a permission of Graph;
 * 404 where discovery was answered: the tenant has no such service.
 */
CC_MUST int intune_probe_endpoint(struct intune *intune, const char *provider,
        struct cc_buf *ret_url, struct cc_err *err);

#endif
