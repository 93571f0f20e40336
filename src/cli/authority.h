/* SPDX-License-Identifier: MIT */
#ifndef CLI_AUTHORITY_H
#define CLI_AUTHORITY_H

/*
 * One built-in CA of the configuration with what it stands on, as the commands "ca …" want it: the store, and a token
 * process of this command's own.
 */

#include "ca/local.h"
#include "cli_int.h"
#include "hsm/hsm.h"
#include "pki/plan.h"
#include "store/store.h"

struct cli_authority {
    struct config *config;
    const struct config_ca *entry; /* borrowed from config */
    struct store *store;
    struct hsm *hsm;
    struct ca_local_settings settings; /* borrows from config */
    struct ca *ca;                     /* NULL before cli_authority_open_ca() */
};

/* Configuration and entry: name, or the only one. */
CC_MUST int cli_authority_load(const char *config_path, const char *name, struct cli_authority *ret,
        struct cc_err *err);

/*
 * The store alone; and with token and keys.  Started by root, the process first becomes the owner of the state directory
 * for good: what it leaves there has to be the daemon's, which runs as that user.
 */
CC_MUST int cli_authority_open_store(struct cli_authority *authority, struct cc_err *err);
CC_MUST int cli_authority_open(struct cli_authority *authority, struct cc_err *err);

/* The CA itself, which must have been made. */
CC_MUST int cli_authority_open_ca(struct cli_authority *authority, struct cc_err *err);

void cli_authority_close(struct cli_authority *authority);

/* From the configuration to what the rooms want to know; store, token and keys of the CA are the caller's to set. */
struct hsm_settings cli_token_settings(const struct config *config);
struct ca_local_settings cli_authority_settings(const struct config *config,
        const struct config_ca *ca);

/* The [profile] of this name, or the only one; yours to free with pki_profile_free(). */
CC_MUST int cli_authority_profile(const struct cli_authority *authority, const char *name,
        struct pki_profile **ret_profile, struct cc_err *err);

#endif
