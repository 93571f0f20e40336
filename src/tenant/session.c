/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "base/clock.h"

struct session {
    uint8_t hash[TENANT_HASH_LEN];
    int64_t until; /* monotonic; 0: none */
};

struct sessions {
    pthread_mutex_t lock; /* guards what follows */
    struct session list[SESSIONS_MAX];
};

int
sessions_open(struct sessions **ret_sessions, struct cc_err *err)
{
    struct sessions *sessions = calloc(1, sizeof(*sessions));

    if (sessions == NULL)
        return cc_err_nomem(err);
    pthread_mutex_init(&sessions->lock, NULL);
    *ret_sessions = sessions;
    return 0;
}

void
sessions_close(struct sessions *sessions)
{
    if (sessions == NULL)
        return;
    pthread_mutex_destroy(&sessions->lock);
    free(sessions);
}

/* With the lock: one that is free, or the one that ends first. */
static struct session *
find_place(struct sessions *sessions)
{
    struct session *place = &sessions->list[0];

    for (size_t i = 1; i < SESSIONS_MAX; i++)
        if (sessions->list[i].until < place->until)
            place = &sessions->list[i];
    return place;
}

int
session_begin(struct sessions *sessions, char ret_name[AUTH_TOKEN_LEN], struct cc_err *err)
{
    struct session *place;

    if (auth_make_token(ret_name, err) != 0)
        return -1;
    pthread_mutex_lock(&sessions->lock);
    place = find_place(sessions);
    auth_hash_token(ret_name, place->hash);
    place->until = cc_deadline_in((int64_t)SESSION_LIFE_S * 1000);
    pthread_mutex_unlock(&sessions->lock);
    return 0;
}

/* With the lock; NULL: there is none. */
static struct session *
find(struct sessions *sessions, const char *name)
{
    uint8_t hash[TENANT_HASH_LEN];
    struct session *found = NULL;

    auth_hash_token(name, hash);
    for (size_t i = 0; i < SESSIONS_MAX; i++) {
        struct session *s = &sessions->list[i];

        if (s->until > cc_clock_mono_ms() && CRYPTO_memcmp(s->hash, hash, sizeof(hash)) == 0)
            found = s;
    }
    return found;
}

bool
session_is_good(struct sessions *sessions, const char *name)
{
    bool good;

    pthread_mutex_lock(&sessions->lock);
    good = find(sessions, name) != NULL;
    pthread_mutex_unlock(&sessions->lock);
    return good;
}

void
session_end(struct sessions *sessions, const char *name)
{
    struct session *session;

    pthread_mutex_lock(&sessions->lock);
    if ((session = find(sessions, name)) != NULL)
        *session = (struct session){ .until = 0 };
    pthread_mutex_unlock(&sessions->lock);
}
