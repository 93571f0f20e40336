/* SPDX-License-Identifier: MIT */
#include "pkcs_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/text.h"
#include "store/instance.h"
#include "store/keypool.h"

/*
 * RSA keys take a while to make: some are made ahead, when no request is in hand, and kept sealed in the store, where
 * all instances find them.  Of those a few at a time are taken out, so that not each request waits for the disk; a crash
 * loses these, and nobody ever had them.
 *
 * Of the instances that share the store one at a time makes them, one that has nothing else to do: a hundred that start
 * together on an empty store would be busy with keys that nobody wants yet, when they should become ready.
 */

#define POOL_SPEC PKI_RSA2048
#define POOL_TAKE 16
#define POOL_LOOK_MS 500  /* between two looks at whether there is nothing to do */
#define POOL_REST_MS 5000 /* after a failure, and while another instance makes them */
#define POOL_LEASE "keys-ahead"

struct pool_key {
    STAILQ_ENTRY(pool_key) link;
    char id[64];
    struct cc_buf sealed, spki;
};

STAILQ_HEAD(pool_keys, pool_key);

struct pool {
    struct pkcs *work; /* borrowed */
    pthread_t thread;
    bool started;
    bool leads; /* the thread's own: the keys are ours to make */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct pool_keys taken; /* guarded by lock: out of the store, not yet used */
    unsigned size;          /* guarded by lock */
    bool stopping;          /* guarded by lock */
};

/* ---- making one ---- */

static int
make_key(struct pool *pool, enum pki_keyspec spec, enum hsm_generation generation, char ret_id[64],
        struct cc_buf *ret_sealed, struct cc_buf *ret_spki, struct cc_err *err)
{
    char id[CC_UUID_LEN];

    if (cc_uuid(id, err) != 0)
        return -1;
    (void)cc_strcpy(ret_id, 64, id);
    return hsm_device_key_new(pool->work->seal, spec, generation, cc_bytes_of_str(ret_id),
            ret_sealed, ret_spki, err);
}

static enum hsm_generation
generation_of(struct pool *pool)
{
    enum hsm_generation generation;

    pthread_mutex_lock(&pool->work->lock);
    generation = pool->work->view.generation;
    pthread_mutex_unlock(&pool->work->lock);
    return generation;
}

static int
add_key(struct pool *pool, struct cc_err *err)
{
    struct cc_buf sealed = CC_BUF_INIT(PKCS_SEALED_MAX), spki = CC_BUF_INIT(PKCS_SEALED_MAX);
    char id[64];
    int rc = make_key(pool, POOL_SPEC, generation_of(pool), id, &sealed, &spki, err);

    if (rc == 0) {
        const struct keypool_key key = {
            .id = id,
            .spec = pki_keyspec_name(POOL_SPEC),
            .sealed = cc_buf_bytes(&sealed),
            .spki = cc_buf_bytes(&spki),
        };
        rc = keypool_put(pool->work->store, &key, 1, cc_clock_now_ms(), err);
    }
    cc_buf_free(&sealed);
    cc_buf_free(&spki);
    return rc;
}

/* ---- the thread ---- */

/* Waits; false: we stop. */
static bool
pool_wait(struct pool *pool, int64_t ms)
{
    bool go;

    pthread_mutex_lock(&pool->lock);
    if (!pool->stopping && ms > 0)
        cc_cond_wait(&pool->changed, &pool->lock, ms);
    go = !pool->stopping;
    pthread_mutex_unlock(&pool->lock);
    return go;
}

static bool
is_token_open(struct pool *pool)
{
    struct hsm_status status;

    hsm_get_status(pool->work->hsm, &status);
    return status.state == HSM_STATE_OPEN;
}

/* Another may be idle. */
static void
leave_to_others(struct pool *pool)
{
    struct cc_err err = { 0 };

    if (!pool->leads)
        return;
    pool->leads = false;
    if (store_lease_release(pool->work->store, POOL_LEASE, &err) != 0)
        cc_log(CC_LOG_DEBUG, "pkcs", "leaving the keys to others: %s", cc_err_text(&err));
}

/* Makes one if one is wanted and nothing else is to be done; how long to rest then. */
static int64_t
fill(struct pool *pool)
{
    struct cc_err err = { 0 };
    int64_t count = 0;
    unsigned size;
    int rc;

    pthread_mutex_lock(&pool->lock);
    size = pool->size;
    pthread_mutex_unlock(&pool->lock);
    if (size == 0 || !pkcs_is_idle(pool->work) || !is_token_open(pool) ||
            !store_is_usable(pool->work->store)) {
        leave_to_others(pool);
        return size == 0 ? POOL_REST_MS : POOL_LOOK_MS;
    }
    rc = store_lease_take(pool->work->store, POOL_LEASE, &pool->leads, &err);
    if (rc == 0 && !pool->leads)
        return POOL_REST_MS;
    if (rc == 0)
        rc = keypool_count(pool->work->store, pki_keyspec_name(POOL_SPEC), &count, &err);
    if (rc == 0 && count >= size)
        return POOL_LOOK_MS;
    if (rc == 0 && add_key(pool, &err) == 0)
        return 0;
    leave_to_others(pool);
    cc_log(CC_LOG_WARNING, "pkcs", "making keys ahead: %s", cc_err_text(&err));
    return POOL_REST_MS;
}

static void *
pool_run(void *arg)
{
    struct pool *pool = arg;

    (void)hsm_work_for(HSM_WORK_AHEAD);
    while (pool_wait(pool, fill(pool)))
        ;
    return NULL;
}

/* ---- taking ---- */

struct taking {
    struct pool_keys keys;
    struct cc_err *err;
};

static void
key_free(struct pool_key *key)
{
    cc_buf_free(&key->sealed);
    cc_buf_free(&key->spki);
    free(key);
}

static int
on_key(void *arg, const struct keypool_key *key)
{
    struct taking *taking = arg;
    struct pool_key *item = calloc(1, sizeof(*item));

    if (item == NULL)
        return cc_err_nomem(taking->err);
    cc_buf_init(&item->sealed, PKCS_SEALED_MAX);
    cc_buf_init(&item->spki, PKCS_SEALED_MAX);
    (void)cc_strcpy(item->id, sizeof(item->id), key->id);
    if (cc_buf_add(&item->sealed, key->sealed.data, key->sealed.len, taking->err) != 0 ||
            cc_buf_add(&item->spki, key->spki.data, key->spki.len, taking->err) != 0) {
        key_free(item);
        return -1;
    }
    STAILQ_INSERT_TAIL(&taking->keys, item, link);
    return 0;
}

/* With the lock held, which others wait for: they want keys too. */
static int
take_some(struct pool *pool, struct cc_err *err)
{
    struct taking taking = { .keys = STAILQ_HEAD_INITIALIZER(taking.keys), .err = err };
    size_t count = 0;
    int rc = keypool_take(pool->work->store, pki_keyspec_name(POOL_SPEC), POOL_TAKE, on_key,
            &taking, &count, err);

    STAILQ_CONCAT(&pool->taken, &taking.keys);
    return rc;
}

/* NULL: none is ready. */
static struct pool_key *
take_one(struct pool *pool, struct cc_err *err)
{
    struct pool_key *key;

    pthread_mutex_lock(&pool->lock);
    if (STAILQ_EMPTY(&pool->taken) && pool->size > 0 && take_some(pool, err) != 0)
        cc_log(CC_LOG_WARNING, "pkcs", "taking a key made ahead: %s", cc_err_text(err));
    if ((key = STAILQ_FIRST(&pool->taken)) != NULL)
        STAILQ_REMOVE_HEAD(&pool->taken, link);
    pthread_mutex_unlock(&pool->lock);
    return key;
}

int
pool_get(struct pool *pool, enum pki_keyspec spec, enum hsm_generation generation, char ret_id[64],
        struct cc_buf *ret_sealed, struct cc_err *err)
{
    struct cc_buf spki = CC_BUF_INIT(PKCS_SEALED_MAX);
    struct pool_key *key = NULL;
    struct cc_err ignored = { 0 };
    int rc;

    if (spec == POOL_SPEC && (key = take_one(pool, &ignored)) != NULL) {
        (void)cc_strcpy(ret_id, 64, key->id);
        rc = cc_buf_add(ret_sealed, key->sealed.data, key->sealed.len, err);
        key_free(key);
        return rc;
    }
    rc = make_key(pool, spec, generation, ret_id, ret_sealed, &spki, err);
    cc_buf_free(&spki);
    return rc;
}

int64_t
pool_ready(struct pool *pool)
{
    struct pool_key *key;
    int64_t count = 0;

    if (keypool_count(pool->work->store, pki_keyspec_name(POOL_SPEC), &count, NULL) != 0)
        count = 0;
    pthread_mutex_lock(&pool->lock);
    STAILQ_FOREACH(key, &pool->taken, link)
    count++;
    pthread_mutex_unlock(&pool->lock);
    return count;
}

/* ---- begin, change, end ---- */

void
pool_set_size(struct pool *pool, unsigned size)
{
    pthread_mutex_lock(&pool->lock);
    pool->size = size;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

int
pool_open(struct pkcs *work, unsigned size, struct pool **ret_pool, struct cc_err *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    int rc;

    if (pool == NULL)
        return cc_err_nomem(err);
    pool->work = work;
    pool->size = size;
    STAILQ_INIT(&pool->taken);
    (void)pthread_mutex_init(&pool->lock, NULL);
    if (cc_cond_init(&pool->changed, err) != 0) {
        pthread_mutex_destroy(&pool->lock);
        free(pool);
        return -1;
    }
    if ((rc = pthread_create(&pool->thread, NULL, pool_run, pool)) != 0) {
        pool_close(pool);
        return cc_err_set_errno(err, rc, "thread of the key pool");
    }
    (void)pthread_setname_np(pool->thread, "cc-keypool");
    pool->started = true;
    *ret_pool = pool;
    return 0;
}

/* Keys that were taken out and not used go back. */
static void
put_back(struct pool *pool)
{
    struct pool_key *key;
    struct cc_err err = { 0 };

    while ((key = STAILQ_FIRST(&pool->taken)) != NULL) {
        const struct keypool_key row = {
            .id = key->id,
            .spec = pki_keyspec_name(POOL_SPEC),
            .sealed = cc_buf_bytes(&key->sealed),
            .spki = cc_buf_bytes(&key->spki),
        };

        STAILQ_REMOVE_HEAD(&pool->taken, link);
        if (keypool_put(pool->work->store, &row, 1, cc_clock_now_ms(), &err) != 0)
            cc_log(CC_LOG_DEBUG, "pkcs", "putting a key back: %s", cc_err_text(&err));
        key_free(key);
    }
}

void
pool_close(struct pool *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    if (pool->started)
        pthread_join(pool->thread, NULL);
    put_back(pool);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
