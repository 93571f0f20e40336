/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_PROVISION_H
#define HSM_TOKEN_PROVISION_H

/*
 * Looking at and provisioning tokens, for one administrator's command in a process of its own: one thread, one call, no
 * recovery.  What is under way when the command gives up is ended with the process.
 *
 *   provision.c           the token opened and logged in
 *   provision_token.c     slots and tokens, initialisation
 *   provision_key.c       keys as they are
 *   provision_generate.c  new keys
 *   admin.c               the fields of hsm/wire.h around all this
 *
 * libp11 does what needs no session: enumerating slots and C_InitToken.  The rest calls PKCS#11 itself, because libp11
 * 0.4.12 waits for ever where C_OpenSession fails, generates RSA keys only, and lets nobody say what a key may be used
 * for.  A module has one owner at a time in a process: libp11's context is gone before we initialise the module.
 */

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "hsm/hsm.h"
#include "hsm/profiles/profile.h"
#include "hsm/token/uri.h"
#include "hsm/wire.h"

/* "" for what is not given. */
struct provision_target {
    char module[WIRE_PATH_SIZE];
    char init_args[WIRE_PATH_SIZE]; /* modules may write to it */
    char uri[WIRE_URI_SIZE];
    char pin[WIRE_REFERENCE_SIZE]; /* reference for cc_secret_load() */
};

/* Fails where the module is known to need init_args and has none. */
CC_MUST int provision_check_module(const struct provision_target *target, struct cc_err *err);

/* ---- Tokens ---- */

struct provision_token {
    CK_SLOT_ID slot;
    uint32_t flags; /* enum wire_token_flag */
    char label[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    const struct profile *profile;
};

/* Of all slots that have one; the array is yours, free(). */
CC_MUST int provision_list_tokens(struct provision_target *target,
        struct provision_token **ret_tokens, size_t *ret_count, struct cc_err *err);

/* so_pin is a reference or "".  See hsm_admin_init_token(). */
CC_MUST int provision_init_token(struct provision_target *target, const char *label,
        const char *so_pin, struct cc_err *err);

/* ---- A token, opened ---- */

struct provision {
    void *library;
    CK_FUNCTION_LIST *f;
    CK_SLOT_ID slot;
    CK_TOKEN_INFO info;
    CK_SESSION_HANDLE session;
    struct p11_uri uri;
    bool initialised; /* C_Finalize is due */
    bool logged_in;
};

/* To write needs a PIN; to read, a token without PIN shows what is public.  ret is closed in every case. */
CC_MUST int provision_open(struct provision_target *target, bool write, struct provision *ret,
        struct cc_err *err);
void provision_close(struct provision *p);

/* Without login, on the token that has this URI and these flags. */
CC_MUST int provision_open_session(struct provision_target *target, const struct p11_uri *uri,
        CK_FLAGS flags, bool write, struct provision *ret, struct cc_err *err);

/* Sets err for a call that was to write; says so where it may be that the caller has no right to. */
int provision_write_error(CK_RV rv, const char *where, struct cc_err *err);

/* Once, never again by itself.  reference names the PIN in the error text. */
CC_MUST int provision_login(struct provision *p, CK_USER_TYPE user, struct cc_bytes pin,
        const char *reference, struct cc_err *err);

/* ---- Keys ---- */

struct provision_key {
    uint8_t class;  /* enum wire_key_class */
    uint32_t flags; /* enum wire_key_flag */
    char label[WIRE_LABEL_SIZE];
    uint8_t id[WIRE_ID_MAX];
    size_t id_len;
    char kind[WIRE_KIND_SIZE];
};

#define PROVISION_USAGES                                                                           \
    (WIRE_KEY_SIGN | WIRE_KEY_VERIFY | WIRE_KEY_ENCRYPT | WIRE_KEY_DECRYPT | WIRE_KEY_WRAP |       \
            WIRE_KEY_UNWRAP | WIRE_KEY_DERIVE)

CC_MUST int provision_list_keys(struct provision *p, struct provision_key **ret_keys,
        size_t *ret_count, struct cc_err *err);

CC_MUST int provision_read_key(struct provision *p, CK_OBJECT_HANDLE object, CK_OBJECT_CLASS class,
        struct provision_key *ret, struct cc_err *err);

/* SubjectPublicKeyInfo of the one key, appended. */
CC_MUST int provision_export_public(struct provision *p, const char *key_uri, struct cc_buf *ret,
        struct cc_err *err);

/* SubjectPublicKeyInfo of an object, appended. */
CC_MUST int provision_read_public(struct provision *p, CK_OBJECT_HANDLE object, struct cc_buf *ret,
        struct cc_err *err);

CC_MUST int provision_generate_key(struct provision *p, uint32_t roles, const char *label,
        const char *kind, struct cc_err *err);

/* 1 to size - 1 bytes of UTF-8 without control bytes; what names it in the error text. */
CC_MUST int provision_check_label(const char *label, size_t size, const char *what,
        struct cc_err *err);

#endif
