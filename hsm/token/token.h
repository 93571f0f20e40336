/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_TOKEN_H
#define HSM_TOKEN_TOKEN_H

/*
 * What the threads of the token process share: settings, the module, connections, keys, and the state as told to the
 * daemon.
 *
 * A connection (conn.h) is one result of C_GetFunctionList.  Ordinary modules have one, used by all channels; where the
 * profile says so, each channel has its own.  Lock order: a connection's lock, then token->lock or a key's lock;
 * token->login_lock is taken with no other held.
 */

#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "hsm/hsm.h"
#include "hsm/profiles/profile.h"
#include "hsm/token/ask.h"
#include "hsm/token/pin.h"
#include "hsm/token/uri.h"
#include "hsm/wire.h"

struct p11_conn;
struct token_key;

/* Everything is copied. */
struct token_settings {
    const char *module;
    const char *init_args; /* "" for none */
    const char *uri;
    const char *pin;       /* reference; "" for pin-source of the URI, or no login at all */
    const char *profile;   /* name, "auto" or "" */
    const char *state_dir; /* "" for none */
    bool allow_raw_rsa;
    int64_t open_timeout_ms; /* the longest that one operation waits for the token to come back */
    unsigned channels;
    void (*notify)(void *arg); /* there is a question about a PIN; NULL: nobody is to be asked */
    void *notify_arg;
};

/* What the daemon is told. */
struct token_state {
    enum hsm_state state;
    char label[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    const struct profile *profile;
    CK_VERSION library;
    struct cc_err why;  /* of the last failure to open */
    int64_t opening_ms; /* how long the module has been at opening the token by now; 0: it is not */
    bool asks;          /* there is a question about a PIN */
};

struct token {
    /* Constant after token_new(). */
    char *init_args; /* NULL for none */
    char *state_dir; /* NULL for none */
    struct p11_uri uri;
    bool profile_fixed; /* named by the configuration */
    bool allow_raw_rsa;
    int64_t open_timeout_ms;
    unsigned channels;
    void *library;
    CK_C_GetFunctionList get_functions;
    struct p11_conn *conns
            [WIRE_CHANNELS_MAX]; /* by channel; all the same unless the profile says otherwise */
    bool conns_shared;

    /* One C_Login at a time in this process, and what it depends on. */
    pthread_mutex_t login_lock;
    struct pin_gate *gate; /* NULL: no PIN configured */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct token_state state;
    struct token_ask ask;
    struct token_key *keys[WIRE_KEYS_MAX];
    unsigned key_count;
};

/* Loads the module and starts opening it.  Fails only for what can never work. */
CC_MUST int token_new(const struct token_settings *settings, struct token **ret_token,
        struct cc_err *err);

/* Lets operations that wait for the token give up; the beginning of the end.  Accepts NULL. */
void token_stop(struct token *token);

/* Closes sessions, finalises and frees, in about a second at most.  false: a thread is stuck in the module and goes on
   using all this, so that the process must end without running the module's destructors.  Accepts NULL. */
bool token_close(struct token *token);

/* Opening succeeded, with these descriptions, or failed because of why. */
void token_note_open(struct token *token, const CK_INFO *library, const CK_TOKEN_INFO *info);
void token_note_failure(struct token *token, enum hsm_state state, const struct cc_err *why);

/* A copy, after waiting until the state is no longer HSM_STATE_STARTING or there is a question. */
void token_get_state(struct token *token, int64_t deadline, struct token_state *ret);

/* Whether operations need not try that. */
bool token_has_gap(struct token *token, enum profile_gap gap);
const struct profile *token_profile(struct token *token);

/* Waits on a condition of cc_cond_init().  False at the deadline (cc_clock_mono_ms). */
bool token_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline);

#endif
