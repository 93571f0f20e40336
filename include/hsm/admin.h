/* SPDX-License-Identifier: MIT */
#ifndef HSM_ADMIN_H
#define HSM_ADMIN_H

/*
 * Looking at and provisioning tokens, for the administrator's command.  Each call runs in a token process of its own
 * that ends with it, so that no caller ever loads a PKCS#11 module.  Slow, one at a time, no recovery: a failure is
 * reported and that is all.  PINs go by reference (base/secret.h) and are read by that process.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "hsm/hsm.h"

/* helper, module, init_args, uri and pin as in struct hsm_settings; uri and pin may be NULL where not needed. */
struct hsm_admin_target {
    const char *helper;
    const char *module;
    const char *init_args;
    const char *uri;
    const char *pin;
    const char *so_pin; /* only for hsm_admin_init_token() */
};

struct hsm_admin_token {
    char label[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    unsigned long slot;
    bool initialised, login_required, write_protected, pin_initialised, pin_count_low,
            pin_final_try, pin_locked;
    char profile[32];
};

struct hsm_admin_key {
    char label[128];
    char id_hex[129];
    char kind[16];         /* "RSA-2048", "P-256", "AES-256" */
    char object_class[12]; /* "private", "public", "secret" */
    char uri[768];         /* relative to nothing: names token and key */
    bool sensitive, extractable, always_sensitive, never_extractable;
    bool sign, verify, encrypt, decrypt, wrap, unwrap, derive; /* CKA_* as set */
};

/* Tokens in all slots; the array is yours, free(). */
CC_MUST int hsm_admin_list_tokens(const struct hsm_admin_target *target,
        struct hsm_admin_token **ret_tokens, size_t *ret_count, struct cc_err *err);

/*
 * Initialises the first free slot's token with this label, SO PIN and user PIN; refuses a label that is in use, unless
 * that token has no user PIN yet, which it then gets: so a call that was cut short can be repeated, and so the tokens
 * of modules that make them by themselves (NSS) get theirs.  so_pin may be NULL where the SO PIN is empty (NSS).
 */
CC_MUST int hsm_admin_init_token(const struct hsm_admin_target *target, const char *label,
        struct cc_err *err);

CC_MUST int hsm_admin_list_keys(const struct hsm_admin_target *target,
        struct hsm_admin_key **ret_keys, size_t *ret_count, struct cc_err *err);

/*
 * Generates a key: private half sensitive, not extractable, with the usages of its roles (bits 1U << enum hsm_role) and
 * no other.  kind, of those that all its roles can have: "rsa2048", "rsa3072", "rsa4096", "ecP256", "ecP384", "ecP521", "aes256".  Refuses a label that is in use.
 */
CC_MUST int hsm_admin_generate_key(const struct hsm_admin_target *target, unsigned roles,
        const char *label, const char *kind, struct cc_err *err);

/* SubjectPublicKeyInfo, DER, of the one key with this URI; appended. */
CC_MUST int hsm_admin_export_public(const struct hsm_admin_target *target, const char *key_uri,
        struct cc_buf *ret_spki, struct cc_err *err);

#endif
