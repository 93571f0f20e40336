/* SPDX-License-Identifier: MIT */
#ifndef CLI_GUIDE_H
#define CLI_GUIDE_H

/*
 * The questions of configure.  What is asked, in which order, is the table of guide_table.c; how an answer is taken, the
 * functions of guide_take.c; asking, going back and the end, configure_guide.c.
 */

#include "ask.h"
#include "configure.h"

#define GUIDE_MODULES 16

struct guide {
    struct plan *plan;
    const char *module[GUIDE_MODULES]; /* found on this machine */
    size_t module_count;
    struct hsm_admin_token *token; /* in the slots of the module */
    size_t token_count;
    struct key_list keys;
    bool keys_known;                /* the token was opened */
    char ca[65], profile[65];       /* that are asked about; "": not yet chosen */
    bool signs_with_key;            /* and not with a secret */
    bool ca_is_new, profile_is_new; /* no file has them */
};

struct question {
    const char *heading; /* of its part */
    const char *prompt;
    const char
            *name; /* the setting; NAME in it is that of the CA or the profile; NULL: it is none */
    const char *suggests; /* where neither a file nor the table of settings has a value */
    unsigned features;    /* CONFIG_…: asked when one of these is on; 0: whichever are */
    enum hsm_role role;   /* of a question about a key */
    bool optional;        /* "none" takes the setting away */
    bool secret;          /* what the file of this reference holds */
    bool (*when)(const struct guide *g, const struct question *q); /* NULL: always */
    void (*show)(struct guide *g); /* what there is to choose from */
    const char *(*present)(const struct guide *g, const struct question *q); /* NULL: the setting */
    int (*take)(struct guide *g, const struct question *q, const char *answer,
            struct cc_err *err); /* NULL: guide_take_setting() */
    const char *help;
};

extern const struct question guide_questions[];
extern const size_t guide_question_count;

/* CONFIG_… of the features that are chosen. */
unsigned guide_features(const struct guide *g);
/* The words of a feature's number from 1, NULL behind the last; and their bits. */
const char *guide_feature_name(size_t number);

/* The name of the question's setting, NAME replaced. */
const char *guide_setting_name(const struct guide *g, const struct question *q, char *text,
        size_t size);
/* What a setting will be as far as files and answers say; false: they say nothing. */
bool guide_value(const struct guide *g, const char *name, char ret[ASK_ANSWER_MAX]);

CC_MUST int guide_take_setting(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
CC_MUST int guide_take_secret(struct guide *g, const struct question *q,
        const struct cc_secret *secret, struct cc_err *err);

/* Of the table. */
void guide_show_features(struct guide *g);
void guide_show_modules(struct guide *g);
void guide_show_tokens(struct guide *g);
void guide_show_keys(struct guide *g);
int guide_take_features(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_module(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_token(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_key(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
/* Of the same key, said for a role that is asked about before; NULL: nothing. */
const char *guide_type_before(const struct guide *g, const struct question *q);
int guide_take_key_type(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_proxy(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_proxy_user(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_sign_in(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_self_sign(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_ca(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_ca_now(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_subject(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_validity(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);
int guide_take_profile(struct guide *g, const struct question *q, const char *answer,
        struct cc_err *err);

#endif
