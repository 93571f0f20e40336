/* SPDX-License-Identifier: MIT */
#ifndef CLI_CONFIGURE_H
#define CLI_CONFIGURE_H

/*
 * certconnector configure: a plan of what is to be done, the questions that fill it, and its execution.
 *
 * Whoever fills the plan, command line or questions, nothing is touched before it is carried out, but for secrets that
 * were typed: these wait in a file beside their place, so that they can be tried.
 */

#include "cli_int.h"
#include "config/edit.h"
#include "hsm/admin.h"

#define CONFIGURE_GROUP "certconnector" /* that the daemon belongs to */
#define CONFIGURE_SECRETS 8
#define CONFIGURE_ROLES HSM_ROLE_COUNT

/* A secret that was typed. */
struct plan_secret {
    char *path;   /* where it belongs; NULL: this place is free */
    char *staged; /* where it waits, and after it was placed where the one before does */
    bool placed;
    bool had_before;
};

struct plan {
    const struct cli_command *command;
    const char *path;           /* of the main file */
    struct config_edit *before; /* as the files are */

    struct config_change *change; /* name and value on the heap */
    size_t change_count;
    struct plan_secret secret[CONFIGURE_SECRETS];

    bool generate_keys;
    char key_type[CONFIGURE_ROLES][16]; /* of a key that has to be made; "": its usual one */

    bool self_sign; /* the certificate to sign in with, when its file is not there */

    bool init_ca;
    char ca[65]; /* of the configuration; "": its only one */
    char subject[512];
    char validity[32]; /* "": the usual */
};

CC_MUST int plan_open(struct plan *plan, const struct cli_command *command, const char *path,
        struct cc_err *err);
/* Secrets that were typed and not put in place are gone then; those before that could not be put back stay. */
void plan_close(struct plan *plan);

/* value NULL: removes the setting.  What the files say anyway is no change. */
CC_MUST int plan_set(struct plan *plan, const char *name, const char *value, struct cc_err *err);
/* What the files will say; yours to free, *ret_value may be NULL. */
CC_MUST int plan_get(const struct plan *plan, const char *name, char **ret_value,
        struct cc_err *err);

/* The files with the changes made, and the configuration that they are then; both yours. */
CC_MUST int plan_make(const struct plan *plan, struct config_edit **ret_edit,
        struct config **ret_config, struct cc_err *err);

/* The secret that belongs to path waits beside it, in place of one that did before. */
CC_MUST int plan_stage(struct plan *plan, const char *path, const struct cc_secret *secret,
        struct cc_err *err);
void plan_unstage(struct plan *plan, const char *path);
/* The reference by which a secret can be read now: to where it waits, or as it is. */
const char *plan_reference(const struct plan *plan, const char *reference, char *text, size_t size);

/*
 * All that wait to where they belong, and the ones before in their stead; and for good, or back again.  Where not all can
 * be placed, those that were wait for plan_return_secrets().
 */
CC_MUST int plan_place_secrets(struct plan *plan, struct cc_err *err);
void plan_keep_secrets(struct plan *plan);
CC_MUST int plan_return_secrets(struct plan *plan, struct cc_err *err);

/* ---- keys ---- */

/* What "key generate" makes for a role unless told otherwise. */
const char *plan_usual_type(enum hsm_role role);
/*
 * Of a key with these roles (bits 1U << enum hsm_role): the type that the plan, which may be NULL, says for one of them,
 * or the largest of their usual ones.  NULL, with why, where it says several, or one of them cannot have it.
 */
const char *plan_key_type(const struct plan *plan, unsigned roles, struct cc_err *err);
/* Whether a role can have a key of this type. */
bool plan_role_takes(enum hsm_role role, const char *type);

struct key_list {
    struct hsm_admin_key *key;
    size_t count;
};

/* Whether one of them, private or secret, has this URI. */
bool key_list_has(const struct key_list *list, const char *uri);

/* The token's keys, with its PIN. */
CC_MUST int key_list_read(const struct plan *plan, const struct config *config,
        struct key_list *ret, struct cc_err *err);
void key_list_free(struct key_list *list);

/* ---- configure_check.c ---- */

/*
 * Tries what can be tried: the token with its PIN, the keys, signing in.  Says what it found, a line each.  Keys that are
 * missing are an error, unless they are to be made.
 */
CC_MUST int configure_check(const struct plan *plan, const struct config *config,
        struct cc_err *err);

/* ---- configure_apply.c ---- */

/* Carries the plan out, and says each step.  On failure the configuration is what it was. */
CC_MUST int configure_apply(struct plan *plan, struct config_edit *edit,
        const struct config *config, struct cc_err *err);

/* Whether a certificate to sign in with is made: it cannot sign in before it was registered. */
bool configure_makes_certificate(const struct plan *plan, const struct config *config);

/* The lines that change, on standard output. */
CC_MUST int configure_show_diff(const struct config_edit *edit, struct cc_err *err);

/* ---- softhsm.c ---- */

/* Keys that were made in a SoftHSM token as root belong to the group that reads the token, as token-init.sh leaves them. */
CC_MUST int softhsm_settle(const char *module, struct cc_err *err);

/* ---- configure_guide.c ---- */

/* Asks for everything; the exit status. */
int configure_guide(struct plan *plan, bool check);

#endif
