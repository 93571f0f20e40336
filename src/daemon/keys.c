/* SPDX-License-Identifier: MIT */
/*
 * Whether the configured keys work: a real operation with each, verified outside the token, when the token was opened
 * and from time to time, so that a key that is gone or spoiled is told of before a request meets it.
 */

#include "daemon_int.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/cond.h"

#define KEYS_LOOK_MS 1000 /* between two looks at the token's state */

struct keys {
    struct daemon *daemon;
    struct hsm *hsm;
    pthread_t thread;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t interval_ms;               /* guarded by lock */
    bool stopping;                     /* guarded by lock */
    struct key_state states[KEYS_MAX]; /* guarded by lock */
    size_t count;                      /* guarded by lock */
};

/* ---- which keys ---- */

static void
add_key(struct key_state *states, size_t *count, const char *role, const char *uri)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp(states[i].role, role) == 0 && strcmp(states[i].uri, uri) == 0)
            return;
    if (*count == KEYS_MAX)
        return;
    states[*count] = (struct key_state){ .checked_ms = 0 };
    (void)cc_strcpy(states[*count].role, sizeof(states[*count].role), role);
    (void)cc_strcpy(states[*count].uri, sizeof(states[*count].uri), uri);
    (*count)++;
}

static size_t
list_keys(struct daemon *d, struct key_state *ret)
{
    const char *import = hsm_role_name(HSM_ROLE_PFX_IMPORT);
    size_t count = 0;

    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->config->key_count; i++)
        add_key(ret, &count, d->config->keys[i].name, d->config->keys[i].value);
    for (size_t i = 0; i < d->config->key_alias_count; i++)
        add_key(ret, &count, import, d->config->key_aliases[i].value);
    if (d->config->service.client_key != NULL)
        add_key(ret, &count, hsm_role_name(HSM_ROLE_IDENTITY), d->config->service.client_key);
    pthread_mutex_unlock(&d->lock);
    return count;
}

/* ---- one look at all of them ---- */

/* A key that is missing or was replaced is told of where it happens (on_key), an outage as the token's. */
static bool
is_told(const struct cc_err *err)
{
    return err->domain == CC_DOM_TOKEN &&
           (err->code == HSM_FAULT_KEY_NOT_FOUND || err->code == HSM_FAULT_KEY_REPLACED ||
                   err->code == HSM_FAULT_ROLE || err->code == HSM_FAULT_UNAVAILABLE ||
                   err->code == HSM_FAULT_PIN_REFUSED);
}

static void
check_key(struct keys *keys, struct key_state *state, const struct key_state *before)
{
    struct hsm_key *key = NULL;
    struct cc_err err = { 0 };
    int role = hsm_role_parse(strcmp(state->role, IDENTITY_NEXT) == 0 ? IDENTITY : state->role);

    if (role != -1 && hsm_key_get0(keys->hsm, (enum hsm_role)role, state->uri, &key, &err) == 0 &&
            hsm_key_health(key, &err) == 0) {
        state->good = true;
        eventlog_debug(keys->daemon->log, EVENT_CHANNEL_ADMIN, EVENT_CATEGORY_GENERAL,
                "The %s key works", state->role);
    } else {
        const struct event_fields fields = { .error = &err };

        (void)cc_strcpy(state->error, sizeof(state->error), cc_err_text(&err));
        if (!is_told(&err) && (before == NULL || before->good))
            eventlog_write(keys->daemon->log, EVENT_TOKEN_KEY_UNUSABLE, &fields,
                    "The %s key cannot be used: %s", state->role, cc_err_text(&err));
    }
    state->checked_ms = cc_clock_now_ms();
}

static const struct key_state *
find_state(const struct key_state *states, size_t count, const struct key_state *wanted)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(states[i].role, wanted->role) == 0 && strcmp(states[i].uri, wanted->uri) == 0)
            return &states[i];
    return NULL;
}

static bool
is_stopping(struct keys *keys)
{
    bool stopping;

    pthread_mutex_lock(&keys->lock);
    stopping = keys->stopping;
    pthread_mutex_unlock(&keys->lock);
    return stopping;
}

static void
check_keys(struct keys *keys)
{
    struct key_state *states = calloc(KEYS_MAX, sizeof(*states));
    size_t count;

    if (states == NULL)
        return;
    count = list_keys(keys->daemon, states);
    /* Only this thread changes keys->states, so that it may read them without the lock. */
    for (size_t i = 0; i < count && !is_stopping(keys); i++)
        check_key(keys, &states[i], find_state(keys->states, keys->count, &states[i]));
    pthread_mutex_lock(&keys->lock);
    memcpy(keys->states, states, count * sizeof(*states));
    keys->count = count;
    pthread_mutex_unlock(&keys->lock);
    free(states);
}

/* ---- the thread ---- */

/* Waits a little; false: we stop. */
static bool
keys_wait(struct keys *keys, int64_t *ret_interval_ms)
{
    bool stopping;

    pthread_mutex_lock(&keys->lock);
    if (!keys->stopping)
        cc_cond_wait(&keys->changed, &keys->lock, KEYS_LOOK_MS);
    stopping = keys->stopping;
    *ret_interval_ms = keys->interval_ms;
    pthread_mutex_unlock(&keys->lock);
    return !stopping;
}

static void *
keys_run(void *arg)
{
    struct keys *keys = arg;
    int64_t checked_at = 0, opened_ms = 0, interval_ms = keys->interval_ms;

    do {
        struct hsm_status token;

        hsm_get_status(keys->hsm, &token);
        if (token.state != HSM_STATE_OPEN)
            continue;
        if (token.since_ms == opened_ms && cc_clock_mono_ms() - checked_at < interval_ms)
            continue;
        check_keys(keys);
        opened_ms = token.since_ms;
        checked_at = cc_clock_mono_ms();
    } while (keys_wait(keys, &interval_ms));
    return NULL;
}

/* ---- begin and end ---- */

static int
keys_init(struct keys *keys, struct cc_err *err)
{
    int rc;

    if ((rc = pthread_mutex_init(&keys->lock, NULL)) != 0)
        return cc_err_set_errno(err, rc, "lock");
    return cc_cond_init(&keys->changed, err);
}

int
keys_start(struct daemon *d, struct hsm *hsm, int64_t interval_ms, struct keys **ret_keys,
        struct cc_err *err)
{
    struct keys *keys = calloc(1, sizeof(*keys));
    int rc;

    if (keys == NULL)
        return cc_err_nomem(err);
    keys->daemon = d;
    keys->hsm = hsm;
    keys->interval_ms = interval_ms;
    if (keys_init(keys, err) != 0) {
        free(keys);
        return -1;
    }
    if ((rc = pthread_create(&keys->thread, NULL, keys_run, keys)) != 0) {
        pthread_cond_destroy(&keys->changed);
        pthread_mutex_destroy(&keys->lock);
        free(keys);
        return cc_err_set_errno(err, rc, "thread that watches the keys");
    }
    (void)pthread_setname_np(keys->thread, "cc-keys");
    *ret_keys = keys;
    return 0;
}

void
keys_set_interval(struct keys *keys, int64_t interval_ms)
{
    pthread_mutex_lock(&keys->lock);
    keys->interval_ms = interval_ms;
    pthread_mutex_unlock(&keys->lock);
}

size_t
keys_get(struct keys *keys, struct key_state *ret_states)
{
    size_t count;

    pthread_mutex_lock(&keys->lock);
    count = keys->count;
    memcpy(ret_states, keys->states, count * sizeof(*ret_states));
    pthread_mutex_unlock(&keys->lock);
    return count;
}

void
keys_stop(struct keys *keys)
{
    if (keys == NULL)
        return;
    pthread_mutex_lock(&keys->lock);
    keys->stopping = true;
    pthread_cond_signal(&keys->changed);
    pthread_mutex_unlock(&keys->lock);
    pthread_join(keys->thread, NULL);
    pthread_cond_destroy(&keys->changed);
    pthread_mutex_destroy(&keys->lock);
    free(keys);
}
