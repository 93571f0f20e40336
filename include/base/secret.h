/* SPDX-License-Identifier: MIT */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

/*
 * Bytes that must leave no trace: PINs, passwords, client secrets, bearer tokens.
 *
 * They live in memory of their own that is kept out of swap and core dumps where the system allows, and are wiped
 * when freed.  There is no printf form, and nothing here writes to a log.  The owner frees.  A struct cc_secret may
 * be read by several threads at once while nobody changes it.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

#define CC_SECRET_MAX 65536 /* bytes */

struct cc_secret; /* opaque, so that nobody copies it by value */

/* A secret of len bytes, all zero, to be written through cc_secret_data(). */
CC_MUST struct cc_secret *cc_secret_new(size_t len, struct cc_err *err);

CC_MUST struct cc_secret *cc_secret_copy(const void *data, size_t len, struct cc_err *err);

/* Wipes and frees; accepts NULL. */
void cc_secret_free(struct cc_secret *secret);

uint8_t *cc_secret_data(struct cc_secret *secret);
size_t cc_secret_len(const struct cc_secret *secret);

/* The bytes as a string (a NUL follows the last); borrowed. */
const char *cc_secret_str(const struct cc_secret *secret);

/* Shortens to len bytes and wipes the rest. */
void cc_secret_truncate(struct cc_secret *secret, size_t len);

/*
 * The secret that a reference in the configuration names:
 *   file:PATH         the file's contents
 *   credential:NAME   the file NAME under $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=)
 * One line end at the end is not part of the secret.  Refused: an empty secret, one above CC_SECRET_MAX, a file
 * that others than owner and group may read.  What is named is in the error text, what it contains is not.
 */
CC_MUST struct cc_secret *cc_secret_load(const char *reference, struct cc_err *err);

/* Whether reference has a form that cc_secret_load() knows; nothing is read.  -1 with what is wrong. */
CC_MUST int cc_secret_check_reference(const char *reference, struct cc_err *err);

/* The same, everything that descriptor fd has until its end. */
CC_MUST struct cc_secret *cc_secret_read_fd(int fd, struct cc_err *err);

/* Wipes memory that is about to go out of scope; the compiler does not drop it. */
void cc_wipe(void *data, size_t len);

#endif
