/* SPDX-License-Identifier: MIT */
#ifndef STORE_INT_H
#define STORE_INT_H

/* Shared by the files of the connector's own state. */

#include "db.h"
#include "store/store.h"

struct store {
    struct db *db;
};

/* The schema of the connector's state. */
extern const struct db_schema store_schema;

#endif
