/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_AUTHORITIES_H
#define DAEMON_AUTHORITIES_H

/*
 * The certification authorities of the configuration and their profiles; what the built-in ones publish, and the thread
 * that keeps their CRLs.  Opened and closed by the main thread; what is got from here lives until then.
 */

#include "ca/ca.h"
#include "ca/publish.h"
#include "config/config.h"
#include "eventlog/eventlog.h"
#include "hsm/hsm.h"
#include "intune/service.h"
#include "pki/plan.h"
#include "store/store.h"

struct authorities;

struct authorities_settings {
    const struct config *config; /* borrowed during the call */
    struct hsm *hsm;
    struct store *store;
    struct eventlog *log;
    struct intune *intune; /* whose clock ours is held against */
};

CC_MUST int authorities_open(const struct authorities_settings *settings,
        struct authorities **ret_authorities, struct cc_err *err);
void authorities_close(struct authorities *authorities); /* accepts NULL */

/* In the order of the configuration; borrowed. */
struct ca *const *authorities_get0(const struct authorities *authorities, size_t *ret_count);

/* NULL when there is none of this name, or name is NULL. */
struct ca *authorities_find(const struct authorities *authorities, const char *name);
const struct pki_profile *authorities_profile(const struct authorities *authorities,
        const char *name);

/* What is published; NULL: nothing. */
struct ca_publish *authorities_get0_publish(const struct authorities *authorities);

#endif
