/* SPDX-License-Identifier: MIT */
#ifndef STORE_COPY_H
#define STORE_COPY_H

/*
 * Copies of a store: for a backup, to come back from one, and to move from one kind of database to another.  Errors as
 * in store/store.h.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "store/store.h"

/*
 * -1 when an instance uses it.  A file is then ours alone until store_close(); in a shared database an instance could
 * still begin.
 */
CC_MUST int store_check_unused(struct store *store, struct cc_err *err);

/*
 * All rows of one moment into a store that has none, however many there are, in constant memory; from may be in use.
 * What was in hand is there for the next run of the instance that had it.  Until the copy is complete no instance joins
 * the new store.  past: the copy takes the place of what went on since it was made, so CRLs (RFC 5280 section 5.2.3: their
 * numbers only rise) and epochs get numbers that were not given meanwhile, and CRLs are due at once.  fn (may be NULL) hears
 * now and then how far it is.  *ret_rows: how many were copied.
 */
struct store_copy_progress {
    const char *table;
    int64_t rows; /* of all tables, until now */
};
typedef void (*store_copy_fn)(void *arg, const struct store_copy_progress *progress);
CC_MUST int store_copy(struct store *from, struct store *to, bool past, store_copy_fn fn, void *arg,
        int64_t *ret_rows, struct cc_err *err);

/* From now on no instance joins it, and those that run on it are gone; the reason is what they say.  NULL: they may again. */
CC_MUST int store_retire(struct store *store, const char *reason, struct cc_err *err);

#endif
