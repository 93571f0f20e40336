/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "publish_int.h"

#define NONE SIZE_MAX

/* A chain of those whose ids begin alike. */
struct slot {
    struct publish_answer *answer; /* NULL: free */
    size_t next;
};

struct publish_cache {
    pthread_mutex_t lock; /* guards all */
    size_t max;
    size_t oldest; /* to be given up next, once all are used */
    struct slot *slots;
    size_t *heads; /* max of them */
};

struct publish_cache *
publish_cache_new(size_t max, struct cc_err *err)
{
    struct publish_cache *cache = calloc(1, sizeof(*cache));

    if (cache == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    pthread_mutex_init(&cache->lock, NULL);
    cache->max = max;
    cache->slots = calloc(max, sizeof(*cache->slots));
    cache->heads = calloc(max, sizeof(*cache->heads));
    if (cache->slots == NULL || cache->heads == NULL) {
        cc_err_nomem(err);
        publish_cache_free(cache);
        return NULL;
    }
    for (size_t i = 0; i < max; i++)
        cache->heads[i] = NONE;
    return cache;
}

void
publish_cache_free(struct publish_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; cache->slots != NULL && i < cache->max; i++)
        publish_answer_put(cache->slots[i].answer);
    pthread_mutex_destroy(&cache->lock);
    free(cache->slots);
    free(cache->heads);
    free(cache);
}

void
publish_answer_put(struct publish_answer *answer)
{
    if (answer != NULL && atomic_fetch_sub(&answer->owners, 1) == 1)
        free(answer);
}

/* The id is a hash already. */
static size_t *
head_of(struct publish_cache *cache, const uint8_t id[PUBLISH_ID_LEN])
{
    uint64_t start;

    memcpy(&start, id, sizeof(start));
    return &cache->heads[start % cache->max];
}

/* LOCKED */
static struct slot *
find(struct publish_cache *cache, const uint8_t id[PUBLISH_ID_LEN])
{
    for (size_t at = *head_of(cache, id); at != NONE; at = cache->slots[at].next)
        if (memcmp(cache->slots[at].answer->id, id, PUBLISH_ID_LEN) == 0)
            return &cache->slots[at];
    return NULL;
}

struct publish_answer *
publish_cache_find(struct publish_cache *cache, const uint8_t id[PUBLISH_ID_LEN])
{
    struct publish_answer *answer = NULL;
    struct slot *slot;

    pthread_mutex_lock(&cache->lock);
    if ((slot = find(cache, id)) != NULL) {
        answer = slot->answer;
        atomic_fetch_add(&answer->owners, 1);
    }
    pthread_mutex_unlock(&cache->lock);
    return answer;
}

/* LOCKED.  Takes the oldest answer out of its chain. */
static struct publish_answer *
vacate(struct publish_cache *cache, size_t place)
{
    struct publish_answer *answer = cache->slots[place].answer;
    size_t *at;

    if (answer == NULL)
        return NULL;
    for (at = head_of(cache, answer->id); *at != place; at = &cache->slots[*at].next)
        ;
    *at = cache->slots[place].next;
    return answer;
}

void
publish_cache_add(struct publish_cache *cache, struct publish_answer *answer)
{
    struct publish_answer *before;
    struct slot *slot;

    atomic_fetch_add(&answer->owners, 1);
    pthread_mutex_lock(&cache->lock);
    if ((slot = find(cache, answer->id)) != NULL) {
        before = slot->answer;
        slot->answer = answer;
    } else {
        size_t place = cache->oldest;
        size_t *head = head_of(cache, answer->id);

        cache->oldest = (place + 1) % cache->max;
        before = vacate(cache, place);
        cache->slots[place] = (struct slot){ answer, *head };
        *head = place;
    }
    pthread_mutex_unlock(&cache->lock);
    publish_answer_put(before);
}
