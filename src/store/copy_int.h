/* SPDX-License-Identifier: MIT */
#ifndef STORE_COPY_INT_H
#define STORE_COPY_INT_H

/* What there is to be copied; a test compares it with the schema. */

#include <stddef.h>

struct copy_table {
    const char *name;
    const char *columns; /* separated by ", " */
    const char *types;   /* a character each: i BIGINT, t TEXT, b BYTEA */
};

extern const struct copy_table copy_tables[];
extern const size_t copy_table_count;

#endif
