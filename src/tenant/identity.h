/* SPDX-License-Identifier: MIT */
#ifndef TENANT_IDENTITY_H
#define TENANT_IDENTITY_H

/*
 * The certificates that connectors are known by: a CA of the service's own, whose key is made at the first start and
 * kept in its state.  Constant once opened; any thread.
 */

#include "tenant_int.h"

#define IDENTITY_LIFETIME_S ((int64_t)365 * 24 * 3600)

CC_MUST int identity_open(struct tenant_store *store, const char *tenant_name,
        struct identity **ret_identity, struct cc_err *err);
void identity_close(struct identity *identity); /* accepts NULL */

/* DER of the CA's certificate, borrowed. */
struct cc_bytes identity_ca_der(const struct identity *identity);

struct identity_issued {
    struct cc_buf der;
    uint8_t hash[TENANT_HASH_LEN]; /* SHA-256 of it */
    int64_t expires_ms, renew_after_ms;
};

/* SHA-256 of the key (SubjectPublicKeyInfo) of a request whose signature and key are good, else CC_DOM_INPUT. */
CC_MUST int identity_key_hash(struct cc_bytes request, uint8_t ret[TENANT_HASH_LEN],
        struct cc_err *err);

/* For a request (DER) whose signature and key are good, else CC_DOM_INPUT.  ret->der is yours to free. */
CC_MUST int identity_issue(const struct identity *identity, const char *connector_id,
        struct cc_bytes request, int64_t lifetime_s, struct identity_issued *ret,
        struct cc_err *err);

/*
 * Whose certificate this is: from this CA, of this time, not superseded by one that has been used, its connector not
 * removed.  *ret_id is "" where it is not good, and *ret_why says why.  One that is used for the first time supersedes
 * those before it.
 */
CC_MUST int identity_check(struct tenant *tenant, struct cc_bytes der,
        char ret_id[TENANT_ID_MAX + 1], const char **ret_why, struct cc_err *err);

/* Ends a call whose certificate is not good: 403, with a code of its own for a connector that was taken out, which must
   not enrol anew by itself. */
void identity_refuse(struct call *call, const char *why);

#endif
