/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store_int.h"

/* The one place that knows whether the store can be used. */

/* Instances all try at once, and would wait for one another at a single row. */
#define PROBE_ROWS 128
#define PROBE_BYTES ((size_t)65536)

void
store_outage_init(struct store *store)
{
    (void)pthread_mutex_init(&store->outage.lock, NULL);
}

void
store_outage_free(struct store *store)
{
    pthread_mutex_destroy(&store->outage.lock);
}

static void
on_outage(void *arg, const struct cc_err *err)
{
    struct store_outage *outage = arg;
    bool begins;

    pthread_mutex_lock(&outage->lock);
    if (outage->begun == NULL) {
        pthread_mutex_unlock(&outage->lock);
        return;
    }
    outage->reason = *err;
    begins = !atomic_exchange(&outage->lasts, true);
    if (begins) {
        outage->since_ms = cc_clock_now_ms();
        outage->count++;
        outage->begun(outage->arg);
    }
    pthread_mutex_unlock(&outage->lock);
}

void
store_outage_notice(struct store *store)
{
    db_watch(store->db, on_outage, &store->outage);
}

void
store_watch(struct store *store, store_outage_fn begun, void *arg)
{
    pthread_mutex_lock(&store->outage.lock);
    store->outage.begun = begun;
    store->outage.arg = arg;
    pthread_mutex_unlock(&store->outage.lock);
}

bool
store_is_usable(struct store *store)
{
    return !atomic_load(&store->outage.lasts);
}

void
store_get_state(struct store *store, struct store_state *ret)
{
    struct store_outage *outage = &store->outage;

    pthread_mutex_lock(&outage->lock);
    *ret = (struct store_state){
        .usable = !atomic_load(&outage->lasts),
        .since_ms = outage->since_ms,
        .outages = outage->count,
        .reason = outage->reason,
    };
    pthread_mutex_unlock(&outage->lock);
}

/* ---- probing ---- */

/* A value of some length and nothing in it, as only its room counts; gone at once. */
static int
try_it(struct store *store, struct cc_err *err)
{
    char name[32];
    char *text = malloc(PROBE_BYTES);
    char *read = NULL;
    int rc = -1;

    if (text == NULL)
        return cc_err_nomem(err);
    memset(text, '.', PROBE_BYTES - 1);
    text[PROBE_BYTES - 1] = '\0';
    (void)snprintf(name, sizeof(name), "probe/%d", (int)(cc_clock_now_ms() % PROBE_ROWS));
    if (store_put_value(store, name, text, err) == 0 &&
            store_get_value(store, name, &read, err) == 0 &&
            store_put_value(store, name, "", err) == 0)
        rc = 0;
    free(read);
    free(text);
    return rc;
}

int
store_probe(struct store *store, struct cc_err *err)
{
    struct store_outage *outage = &store->outage;

    if (try_it(store, err) != 0)
        return -1;
    pthread_mutex_lock(&outage->lock);
    if (atomic_exchange(&outage->lasts, false))
        outage->since_ms = cc_clock_now_ms();
    cc_err_clear(&outage->reason);
    pthread_mutex_unlock(&outage->lock);
    return 0;
}
