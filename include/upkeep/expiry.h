/* SPDX-License-Identifier: MIT */
#ifndef UPKEEP_EXPIRY_H
#define UPKEEP_EXPIRY_H

/*
 * What the connector depends on and what ends on a day: certificates, CRLs, secrets.
 *
 * Collected anew each time, from files and from the store, so that what was renewed is seen.  Which thresholds have been
 * passed is for the caller to remember, by the item's id: it names this very certificate, not the place where it lies.
 * Pure functions but for the collecting, which reads files and the store; any thread.
 */

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"
#include "store/store.h"

#define UPKEEP_DAY_MS (INT64_C(24) * 3600 * 1000)

struct upkeep_item {
    char role
            [24]; /* "ca", "ca-chain", "ocsp", "crl", "delta-crl", "scep-ra", "next-ca", "client-certificate",
                       "identity", "service-ca", "client-secret" */
    char name[256]; /* for people: whose it is, and where */
    char id[80];    /* no blanks */
    int64_t not_after_ms;
    int64_t quiet_until_ms; /* it is renewed by itself: before this, nothing is wrong */
    char cure[256];         /* what somebody has to do */
};

struct upkeep_items {
    struct upkeep_item *item;
    size_t count;
};

/*
 * All there are.  store: NULL: what lies there is left out.  What cannot be read is left out, too: that it cannot is told
 * elsewhere.  -1 without memory.  upkeep_items_free() in every case.
 */
CC_MUST int upkeep_items_collect(const struct config *config, struct store *store,
        struct upkeep_items *ret, struct cc_err *err);

/* One more, of a certificate; renewed: by itself, when two thirds of its life are over. */
CC_MUST int upkeep_items_add(struct upkeep_items *items, const char *role, const char *name,
        const char *cure, X509 *certificate, bool renewed, struct cc_err *err);
void upkeep_items_free(struct upkeep_items *items);

/* Days from now on, rounded down; negative: so many days ago, or a part of a day. */
int64_t upkeep_days_left(const struct upkeep_item *item, int64_t now_ms);

/* The last of the days before its end that is reached, 60, 30, 14, 7, 1, 0; -1: none, or it is quiet. */
int upkeep_threshold(const struct upkeep_item *item, int64_t now_ms);

/* The next time that upkeep_threshold() changes; INT64_MAX: it does not. */
int64_t upkeep_next_change_ms(const struct upkeep_item *item, int64_t now_ms);

#endif
