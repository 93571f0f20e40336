/* SPDX-License-Identifier: MIT */
#ifndef STORE_KEYPOOL_H
#define STORE_KEYPOOL_H

/*
 * Key pairs made in idle time and kept until a request wants one.  Only sealed keys come here (hsm_device_key_new());
 * what is taken is gone from the store, so that no key serves twice.  Any thread; each call is one durable step.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "store/store.h"

struct keypool_key {
    const char *id;   /* what its sealed form is bound to */
    const char *spec; /* "rsa2048" */
    struct cc_bytes sealed, spki;
};

CC_MUST int keypool_put(struct store *store, const struct keypool_key *keys, size_t count,
        int64_t now_ms, struct cc_err *err);

/*
 * Takes up to max of the oldest of a kind; fn is called for each when it is durably gone from the store, in the caller's
 * thread.  *ret_count: calls of fn, which ends it with non-zero (what is left is gone as well).
 */
typedef int (*keypool_fn)(void *arg, const struct keypool_key *key);
CC_MUST int keypool_take(struct store *store, const char *spec, unsigned max, keypool_fn fn,
        void *arg, size_t *ret_count, struct cc_err *err);

CC_MUST int keypool_count(struct store *store, const char *spec, int64_t *ret, struct cc_err *err);

/* Those sealed under a key that is gone serve nobody. */
CC_MUST int keypool_clear(struct store *store, struct cc_err *err);

#endif
