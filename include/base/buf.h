/* SPDX-License-Identifier: MIT */
#ifndef BASE_BUF_H
#define BASE_BUF_H

/*
 * Growing bytes with a ceiling.
 *
 * A buffer cannot be made without the most it may ever hold, so that no peer decides how much memory we take.  The
 * owner of the struct frees it.  One thread at a time.  Contents that are secret belong into struct cc_secret.
 * After the last byte there is always a NUL that len does not count, so that text can be read as a string.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"

/* Somebody else's bytes, borrowed. */
struct cc_bytes {
    const uint8_t *data;
    size_t len;
};

struct cc_buf {
    uint8_t *data; /* NULL until the first byte */
    size_t len;
    size_t cap;
    size_t max; /* ceiling in bytes */
};

#define CC_BUF_INIT(ceiling)                                                                       \
    {                                                                                              \
        .data = NULL, .len = 0, .cap = 0, .max = (ceiling)                                         \
    }

void cc_buf_init(struct cc_buf *buf, size_t max);

/* Frees the memory; the buffer is empty then and keeps its ceiling.  Accepts NULL. */
void cc_buf_free(struct cc_buf *buf);

/* The same, wiping every byte ever held at its last place first. */
void cc_buf_wipe(struct cc_buf *buf);

/* Forgets the bytes and keeps the memory. */
void cc_buf_reset(struct cc_buf *buf);

/* Each appends; -1 with CC_DOM_INPUT when the ceiling would be passed (code: the ceiling), CC_DOM_INTERNAL without memory. */
CC_MUST int cc_buf_add(struct cc_buf *buf, const void *data, size_t len, struct cc_err *err);
CC_MUST int cc_buf_add_str(struct cc_buf *buf, const char *text, struct cc_err *err);
CC_MUST int cc_buf_add_u8(struct cc_buf *buf, uint8_t value, struct cc_err *err);
CC_MUST int cc_buf_printf(struct cc_buf *buf, struct cc_err *err, const char *fmt, ...)
        CC_PRINTF(3, 4);

/* Makes room for len more bytes and returns where they go; the caller writes them and then adds to buf->len itself. */
CC_MUST uint8_t *cc_buf_reserve(struct cc_buf *buf, size_t len, struct cc_err *err);

/* The contents as a string, "" when empty; borrowed until the next change. */
const char *cc_buf_str(const struct cc_buf *buf);

/* Borrowed view of the contents until the next change. */
struct cc_bytes cc_buf_bytes(const struct cc_buf *buf);

struct cc_bytes cc_bytes_of_str(const char *text);

#endif
