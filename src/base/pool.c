/* SPDX-License-Identifier: MIT */
#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/text.h"

#define THREADS_MAX 1024
#define QUEUE_CEILING ((size_t)1 << 20)
#define NAME_SIZE 16

/* While draining the clock is looked at this often, as a test may set it. */
#define DRAIN_LOOK_MS 100

struct job {
    cc_job_fn fn;
    void *arg;
};

struct cc_pool {
    pthread_mutex_t lock; /* guards all below but threads, name and queue_max, which never change */
    pthread_cond_t work;  /* a job was queued, or closing */
    pthread_cond_t idle;  /* nothing queued or running */
    struct job *queue;    /* a ring of queue_max */
    size_t first;
    size_t queued;
    unsigned running;
    bool closing;

    size_t queue_max;
    pthread_t *threads;
    unsigned thread_count;
    char name[NAME_SIZE];
};

/* LOCKED; the next job, or false when there will be none. */
static bool
next_job(struct cc_pool *pool, struct job *ret_job)
{
    while (pool->queued == 0 && !pool->closing)
        pthread_cond_wait(&pool->work, &pool->lock);
    if (pool->queued == 0)
        return false;
    *ret_job = pool->queue[pool->first];
    pool->first = (pool->first + 1) % pool->queue_max;
    pool->queued--;
    pool->running++;
    return true;
}

static void *
worker(void *arg)
{
    struct cc_pool *pool = arg;
    struct job job;

    (void)pthread_setname_np(pthread_self(), pool->name);
    pthread_mutex_lock(&pool->lock);
    while (next_job(pool, &job)) {
        pthread_mutex_unlock(&pool->lock);
        job.fn(job.arg);
        pthread_mutex_lock(&pool->lock);
        pool->running--;
        if (pool->queued == 0 && pool->running == 0)
            pthread_cond_broadcast(&pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Workers take no signals: those are for the thread that waits for them. */
static int
start_threads(struct cc_pool *pool, unsigned count, struct cc_err *err)
{
    sigset_t all, before;
    int rc = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (rc == 0 && pool->thread_count < count) {
        rc = pthread_create(&pool->threads[pool->thread_count], NULL, worker, pool);
        if (rc == 0)
            pool->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return cc_err_set_errno(err, rc, "start a thread of pool %s", pool->name);
    return 0;
}

static struct cc_pool *
pool_new(const char *name, unsigned threads, size_t queue_max, struct cc_err *err)
{
    struct cc_pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    if (cc_cond_init(&pool->idle, err) != 0) {
        free(pool);
        return NULL;
    }
    cc_strcpy(pool->name, sizeof(pool->name), name);
    pool->queue_max = queue_max;
    pool->queue = calloc(queue_max, sizeof(*pool->queue));
    pool->threads = calloc(threads, sizeof(*pool->threads));
    if (pool->queue == NULL || pool->threads == NULL) {
        cc_err_nomem(err);
        cc_pool_close(pool);
        return NULL;
    }
    return pool;
}

struct cc_pool *
cc_pool_open(const char *name, unsigned threads, size_t queue_max, struct cc_err *err)
{
    struct cc_pool *pool;

    if (threads < 1 || threads > THREADS_MAX || queue_max < 1 || queue_max > QUEUE_CEILING) {
        cc_err_set(err, CC_DOM_INTERNAL, EINVAL, "pool %s of %u threads over a queue of %zu", name,
                threads, queue_max);
        return NULL;
    }
    if ((pool = pool_new(name, threads, queue_max, err)) == NULL)
        return NULL;
    if (start_threads(pool, threads, err) != 0) {
        cc_pool_close(pool);
        return NULL;
    }
    return pool;
}

void
cc_pool_close(struct cc_pool *pool)
{
    unsigned i;

    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool->queue);
    free(pool);
}

bool
cc_pool_submit(struct cc_pool *pool, cc_job_fn fn, void *arg)
{
    bool taken = false;

    pthread_mutex_lock(&pool->lock);
    if (!pool->closing && pool->queued < pool->queue_max) {
        pool->queue[(pool->first + pool->queued) % pool->queue_max] =
                (struct job){ .fn = fn, .arg = arg };
        pool->queued++;
        taken = true;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

size_t
cc_pool_queued(struct cc_pool *pool)
{
    size_t queued;

    pthread_mutex_lock(&pool->lock);
    queued = pool->queued;
    pthread_mutex_unlock(&pool->lock);
    return queued;
}

bool
cc_pool_drain(struct cc_pool *pool, int64_t deadline)
{
    bool idle;
    int left;

    pthread_mutex_lock(&pool->lock);
    while (!(idle = pool->queued == 0 && pool->running == 0) &&
            (left = cc_deadline_left(deadline)) > 0)
        cc_cond_wait(&pool->idle, &pool->lock, left < DRAIN_LOOK_MS ? left : DRAIN_LOOK_MS);
    pthread_mutex_unlock(&pool->lock);
    return idle;
}
