/* SPDX-License-Identifier: MIT */
#ifndef CA_PUBLISH_H
#define CA_PUBLISH_H

/*
 * What built-in authorities show the world, over HTTP: certificates (AIA), CRLs (CDP), OCSP.
 *
 *   GET  /NAME.cer         the CA's certificate, DER
 *   GET  /NAME.crl         the newest full CRL
 *   GET  /NAME-delta.crl   the newest delta CRL
 *   POST /ocsp             an OCSP request for any of the authorities (RFC 6960 appendix A)
 *   GET  /ocsp/BASE64      the same, as RFC 5019 section 5 has it
 *
 * Answers without a nonce are kept and given again until half of their time is over or the CA's database changes, with
 * the Cache-Control and ETag of RFC 5019 section 6; answers with a nonce are signed each time.
 * Owns its listener and threads.  The authorities are borrowed.
 */

#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "ca/ca.h"

struct ca_publish;

struct ca_publish_settings {
    const char *listen;    /* "127.0.0.1:8081", "unix:/path"; port 0: any free one */
    struct ca *const *cas; /* those of kind local are shown */
    size_t count;
    const char *folder; /* for unlinked files that hold the CRLs being served */
    size_t cache_max;   /* OCSP answers kept; 0: 4096 */
    unsigned workers;   /* 0: 4 */
};

CC_MUST int ca_publish_open(const struct ca_publish_settings *settings,
        struct ca_publish **ret_publish, struct cc_err *err);
void ca_publish_close(struct ca_publish *publish); /* accepts NULL */
uint16_t ca_publish_port(const struct ca_publish *publish);

struct ca_publish_stats {
    uint64_t ocsp_answers, ocsp_from_cache, ocsp_failures, files;
};
void ca_publish_get_stats(struct ca_publish *publish, struct ca_publish_stats *ret);

#endif
