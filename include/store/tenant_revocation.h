/* SPDX-License-Identifier: MIT */
#ifndef STORE_TENANT_REVOCATION_H
#define STORE_TENANT_REVOCATION_H

/*
 * The stand-in service's certificates that are to be revoked.  Rules as in store/tenant.h.
 *
 * No leases: what is open is handed out at every download that the cool-down allows, until an answer ends it.  A
 * failure that may be retried leaves it open.
 */

#include "store/tenant.h"

enum tenant_revocation_state {
    TENANT_REVOCATION_OPEN = 1,
    TENANT_REVOCATION_SUCCEEDED,
    TENANT_REVOCATION_FAILED
};

struct tenant_new_revocation {
    const char *serial_number;
    const char *issuer_name, *ca_configuration; /* NULL: none */
};

/* Adds all in one step; ret_contexts[i] is made here. */
CC_MUST int tenant_revocation_add(struct tenant_store *store,
        const struct tenant_new_revocation *revocations, size_t count, int64_t now_ms,
        char (*ret_contexts)[TENANT_CONTEXT_LEN], struct cc_err *err);

struct tenant_revocation {
    int64_t seq;
    const char *context, *serial_number, *issuer_name, *ca_configuration;
    enum tenant_revocation_state state;
    int64_t downloads; /* how often it was handed out */
    int64_t created_ms, updated_ms;
    int64_t error_code; /* of the last answer; -1: none yet */
    const char *result; /* the last answer, JSON, or NULL */
};
/* Non-zero ends the walk. */
typedef int (*tenant_revocation_fn)(void *arg, const struct tenant_revocation *revocation);

struct tenant_revocation_ask {
    unsigned max;
    const char *issuer_name; /* NULL: no filter */
    bool filter_after_cut; /* as the service really does: compares ca_configuration, after cutting to max */
    int64_t now_ms, cool_down_ms;
};

/*
 * Hands out what is open, the oldest first, and begins the cool-down; during it nothing is handed out.  Which ones and
 * that they were is durable before fn sees them.
 */
CC_MUST int tenant_revocation_hand_out(struct tenant_store *store,
        const struct tenant_revocation_ask *ask, tenant_revocation_fn fn, void *arg,
        struct cc_err *err);

struct tenant_revocation_answer {
    const char *context;
    int64_t error_code; /* 0: succeeded */
    bool retryable;
    const char *text; /* JSON */
};

/* Takes all in one step.  What is ended stays as it is; *ret_unknown: how many contexts nobody knows. */
CC_MUST int tenant_revocation_answer(struct tenant_store *store,
        const struct tenant_revocation_answer *answers, size_t count, int64_t now_ms,
        size_t *ret_unknown, struct cc_err *err);

/* context NULL: all with seq above after_seq, in order of seq. */
CC_MUST int tenant_revocation_list(struct tenant_store *store, const char *context,
        int64_t after_seq, unsigned limit, tenant_revocation_fn fn, void *arg, struct cc_err *err);

/* All answers to one, in order, as JSON texts. */
typedef int (*tenant_revocation_answer_fn)(void *arg, int64_t time_ms, const char *text);
CC_MUST int tenant_revocation_answers(struct tenant_store *store, int64_t seq,
        tenant_revocation_answer_fn fn, void *arg, struct cc_err *err);

#endif
