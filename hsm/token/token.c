/* SPDX-License-Identifier: MIT */
#include "hsm/token/token.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/secret.h"
#include "base/text.h"
#include "hsm/token/conn.h"
#include "hsm/token/key.h"
#include "hsm/token/module.h"
#include "hsm/token/text.h"

#define TOKEN_CLOSE_MS 1000

/* ---- Waiting ---- */

bool
token_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline)
{
    const int left = cc_deadline_left(deadline);

    if (left == 0)
        return false;
    cc_cond_wait(cond, lock, left);
    return true;
}

/* ---- The state ---- */

/* That are not the same. */
static unsigned
token_conn_count(const struct token *token)
{
    return token->conns_shared ? 1 : token->channels;
}

void
token_note_open(struct token *token, const CK_INFO *library, const CK_TOKEN_INFO *info)
{
    struct token_state *state = &token->state;

    (void)pthread_mutex_lock(&token->lock);
    state->state = HSM_STATE_OPEN;
    p11_text_copy(info->label, sizeof(info->label), state->label);
    p11_text_copy(info->manufacturerID, sizeof(info->manufacturerID), state->manufacturer);
    p11_text_copy(info->model, sizeof(info->model), state->model);
    p11_text_copy(info->serialNumber, sizeof(info->serialNumber), state->serial);
    state->library = library->libraryVersion;
    if (!token->profile_fixed)
        state->profile = profile_by_info(library, info, state->profile);
    (void)pthread_cond_broadcast(&token->changed);
    (void)pthread_mutex_unlock(&token->lock);
}

void
token_note_failure(struct token *token, enum hsm_state state, const struct cc_err *why)
{
    (void)pthread_mutex_lock(&token->lock);
    token->state.state = state;
    token->state.why = *why;
    (void)pthread_cond_broadcast(&token->changed);
    (void)pthread_mutex_unlock(&token->lock);
}

void
token_get_state(struct token *token, int64_t deadline, struct token_state *ret)
{
    (void)pthread_mutex_lock(&token->lock);
    while (token->state.state == HSM_STATE_STARTING && !ask_is_new(token) &&
            token_cond_wait(&token->changed, &token->lock, deadline))
        ;
    *ret = token->state;
    (void)pthread_mutex_unlock(&token->lock);

    for (unsigned i = 0; i < token_conn_count(token); i++) {
        const int64_t ms = p11_conn_opening_ms(token->conns[i]);

        if (ms > ret->opening_ms)
            ret->opening_ms = ms;
    }
    (void)pthread_mutex_lock(&token->lock);
    ret->opening_ms = ask_without_wait(token, ret->opening_ms);
    ret->asks = ask_is_new(token);
    (void)pthread_mutex_unlock(&token->lock);
}

const struct profile *
token_profile(struct token *token)
{
    const struct profile *profile;

    (void)pthread_mutex_lock(&token->lock);
    profile = token->state.profile;
    (void)pthread_mutex_unlock(&token->lock);
    return profile;
}

bool
token_has_gap(struct token *token, enum profile_gap gap)
{
    bool has;

    (void)pthread_mutex_lock(&token->lock);
    has = profile_has_gap(token->state.profile, token->state.library, gap);
    (void)pthread_mutex_unlock(&token->lock);
    return has;
}

/* ---- Life ---- */

static int
token_refuse(struct cc_err *err, const char *what, const char *text)
{
    char shown[200];

    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%s: %s", what,
            cc_escape_into(shown, sizeof(shown), text));
}

/* A named profile is fixed; else the module's file name tells, and later the token. */
static int
token_choose_profile(struct token *token, const struct token_settings *settings, struct cc_err *err)
{
    const char *name = settings->profile;
    const struct profile *profile;

    token->profile_fixed = name[0] != '\0' && strcmp(name, "auto") != 0;
    profile = token->profile_fixed ? profile_by_name(name) : profile_by_module(settings->module);
    if (profile == NULL)
        return token_refuse(err, "no token profile has this name", name);
    if (profile->connection_per_thread)
        token->profile_fixed = true; /* what lies behind it describes itself, not the way to it */
    if (profile->init_args_wanted && settings->init_args[0] == '\0')
        return token_refuse(err, "this module needs init-args", profile->name);
    token->state.profile = profile;
    return 0;
}

static int
token_copy(struct token *token, const struct token_settings *settings, struct cc_err *err)
{
    const char *pin = settings->pin;

    if (p11_uri_parse(settings->uri, &token->uri, err) != 0)
        return -1;
    if (token->uri.object[0] != '\0' || token->uri.id_len != 0 || token->uri.has_class)
        return token_refuse(err, "the token's URI must not name an object", settings->uri);
    if (pin[0] == '\0')
        pin = token->uri.pin_source;
    if (pin[0] != '\0' &&
            (cc_secret_check_reference(pin, err) != 0 ||
                    (token->gate = pin_gate_new(pin,
                             settings->state_dir[0] == '\0' ? NULL : settings->state_dir, err)) ==
                            NULL))
        return -1;
    if (settings->init_args[0] != '\0' &&
            (token->init_args = cc_strdup(settings->init_args, err)) == NULL)
        return -1;
    if (settings->state_dir[0] != '\0' &&
            (token->state_dir = cc_strdup(settings->state_dir, err)) == NULL)
        return -1;
    token->allow_raw_rsa = settings->allow_raw_rsa;
    token->open_timeout_ms = settings->open_timeout_ms;
    token->channels = settings->channels;
    token->ask.notify = settings->notify;
    token->ask.notify_arg = settings->notify_arg;
    return 0;
}

/* The connection of one channel; the first opens at once, others when they are used. */
static int
token_connect(struct token *token, unsigned channel, struct cc_err *err)
{
    CK_FUNCTION_LIST *f = NULL;
    const CK_RV rv = token->get_functions(&f);

    if (rv != CKR_OK || f == NULL)
        return cc_err_set(err, CC_DOM_PKCS11, (long)rv, "C_GetFunctionList failed");
    return p11_conn_new(token, f, channel == 0, &token->conns[channel], err);
}

static int
token_connect_all(struct token *token, struct cc_err *err)
{
    token->conns_shared = !token->state.profile->connection_per_thread;
    if (token_connect(token, 0, err) != 0)
        return -1;
    for (unsigned i = 1; i < token->channels; i++) {
        if (token->conns_shared)
            token->conns[i] = token->conns[0];
        else if (token_connect(token, i, err) != 0)
            return -1;
    }
    return 0;
}

int
token_new(const struct token_settings *settings, struct token **ret_token, struct cc_err *err)
{
    struct token *token = calloc(1, sizeof(*token));

    if (token == NULL)
        return cc_err_nomem(err);
    if (cc_cond_init(&token->changed, err) != 0) {
        free(token);
        return -1;
    }
    (void)pthread_mutex_init(&token->lock, NULL);
    (void)pthread_mutex_init(&token->login_lock, NULL);
    token->state.state = HSM_STATE_STARTING;
    if (token_copy(token, settings, err) != 0 || token_choose_profile(token, settings, err) != 0 ||
            p11_module_load(settings->module, &token->library, &token->get_functions, err) != 0 ||
            token_connect_all(token, err) != 0) {
        (void)token_close(token);
        return -1;
    }
    *ret_token = token;
    return 0;
}

void
token_stop(struct token *token)
{
    if (token == NULL)
        return;
    ask_stop(token);
    for (unsigned i = 0; i < token_conn_count(token); i++)
        p11_conn_stop(token->conns[i]);
}

bool
token_close(struct token *token)
{
    const int64_t deadline = cc_deadline_in(TOKEN_CLOSE_MS);
    bool quiet = true;

    if (token == NULL)
        return true;
    ask_stop(token);
    for (unsigned i = 0; i < token_conn_count(token); i++)
        quiet = p11_conn_close(token->conns[i], deadline) && quiet;
    if (!quiet)
        return false;
    for (unsigned i = 0; i < token->key_count; i++)
        token_key_free(token->keys[i]);
    pin_gate_free(token->gate);
    free(token->init_args);
    free(token->state_dir);
    if (token->library != NULL)
        (void)dlclose(token->library);
    (void)pthread_mutex_destroy(&token->login_lock);
    (void)pthread_mutex_destroy(&token->lock);
    (void)pthread_cond_destroy(&token->changed);
    free(token);
    return true;
}
