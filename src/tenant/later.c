/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/pool.h"

#define THREADS 4
#define HELD_MAX 1000
#define IDLE_MS 60000

struct held {
    struct held *next;
    struct call *call;
    later_fn fn;
    int64_t deadline;
};

struct later {
    struct cc_pool *pool; /* runs what is due: the clock's thread must not block */
    pthread_t thread;
    bool thread_runs;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct held *first; /* by deadline */
    size_t count;
    bool stopping;
};

static void
run_held(void *arg)
{
    struct held *held = arg;

    held->fn(held->call);
    free(held);
}

/* With the lock, which is let go of meanwhile. */
static void
let_go(struct later *later)
{
    struct held *held = later->first;

    later->first = held->next;
    later->count--;
    pthread_mutex_unlock(&later->lock);
    if (!cc_pool_submit(later->pool, run_held, held))
        run_held(held);
    pthread_mutex_lock(&later->lock);
}

static void *
later_main(void *arg)
{
    struct later *later = arg;

    pthread_mutex_lock(&later->lock);
    while (!later->stopping || later->first != NULL) {
        if (later->first == NULL)
            cc_cond_wait(&later->changed, &later->lock, IDLE_MS);
        else if (later->stopping || cc_deadline_left(later->first->deadline) == 0)
            let_go(later);
        else
            cc_cond_wait(&later->changed, &later->lock, cc_deadline_left(later->first->deadline));
    }
    pthread_mutex_unlock(&later->lock);
    return NULL;
}

int
later_open(struct later **ret_later, struct cc_err *err)
{
    struct later *later = calloc(1, sizeof(*later));
    int code;

    if (later == NULL)
        return cc_err_nomem(err);
    if (cc_cond_init(&later->changed, err) != 0) {
        free(later);
        return -1;
    }
    pthread_mutex_init(&later->lock, NULL);

    if ((later->pool = cc_pool_open("tenant-later", THREADS, HELD_MAX, err)) == NULL)
        goto fail;
    if ((code = pthread_create(&later->thread, NULL, later_main, later)) != 0) {
        cc_err_set_errno(err, code, "thread for delayed calls");
        goto fail;
    }
    later->thread_runs = true;
    *ret_later = later;
    return 0;
fail:
    later_close(later);
    return -1;
}

void
later_stop(struct later *later)
{
    if (later == NULL || !later->thread_runs)
        return;
    pthread_mutex_lock(&later->lock);
    later->stopping = true;
    pthread_cond_signal(&later->changed);
    pthread_mutex_unlock(&later->lock);
    pthread_join(later->thread, NULL);
    later->thread_runs = false;
    cc_pool_close(later->pool); /* after what it has */
    later->pool = NULL;
}

void
later_close(struct later *later)
{
    if (later == NULL)
        return;
    later_stop(later);
    cc_pool_close(later->pool);
    pthread_cond_destroy(&later->changed);
    pthread_mutex_destroy(&later->lock);
    free(later);
}

void
later_add(struct later *later, struct call *call, int64_t delay_ms, later_fn fn)
{
    struct held *held = calloc(1, sizeof(*held));
    struct held **link;

    if (held == NULL) {
        fn(call);
        return;
    }
    held->call = call;
    held->fn = fn;
    held->deadline = cc_deadline_in(delay_ms);

    pthread_mutex_lock(&later->lock);
    if (later->stopping || later->count >= HELD_MAX) {
        pthread_mutex_unlock(&later->lock);
        run_held(held);
        return;
    }
    for (link = &later->first; *link != NULL; link = &(*link)->next)
        if ((*link)->deadline > held->deadline)
            break;
    held->next = *link;
    *link = held;
    later->count++;
    pthread_cond_signal(&later->changed);
    pthread_mutex_unlock(&later->lock);
}
