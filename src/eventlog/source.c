/* SPDX-License-Identifier: MIT */

/* The lines of one file, compressed or not. */

#include "eventlog_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/text.h"

#define CHUNK 65536

struct event_source {
    int fd;
    struct stat st;
    ZSTD_DCtx *zstd;  /* NULL: plain */
    size_t zstd_left; /* not 0: the frame goes on */
    bool zstd_full;   /* it has more to give without more input */
    ZSTD_inBuffer packed;
    char *packed_data;
    struct cc_buf text; /* read, and not yet given out from at on */
    size_t at;
    bool skipping; /* inside a line that is too long */
};

int
event_source_open(int dir_fd, const char *name, struct event_source **ret, struct cc_err *err)
{
    size_t len = strlen(name);
    struct event_source *s = calloc(1, sizeof(*s));
    int rc = -1;

    if (s == NULL)
        return cc_err_nomem(err);
    cc_buf_init(&s->text, EVENT_LINE_MAX + 2 * CHUNK);
    s->fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (s->fd < 0 && errno == ENOENT) {
        *ret = NULL;
        rc = 0;
        goto out;
    }
    if (s->fd < 0 || fstat(s->fd, &s->st) != 0) {
        cc_err_set_errno(err, errno, "open %s", name);
        goto out;
    }
    if (len > 4 && strcmp(name + len - 4, ".zst") == 0) {
        if ((s->zstd = ZSTD_createDCtx()) == NULL || (s->packed_data = malloc(CHUNK)) == NULL) {
            (void)cc_err_nomem(err);
            goto out;
        }
        s->packed.src = s->packed_data;
    }
    *ret = s;
    s = NULL;
    rc = 0;
out:
    event_source_close(s);
    return rc;
}

void
event_source_close(struct event_source *source)
{
    if (source == NULL)
        return;
    if (source->fd >= 0)
        (void)close(source->fd);
    (void)ZSTD_freeDCtx(source->zstd);
    free(source->packed_data);
    cc_buf_free(&source->text);
    free(source);
}

static int
read_some(int fd, void *data, size_t size, size_t *ret_len, struct cc_err *err)
{
    ssize_t n;

    do {
        n = read(fd, data, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return cc_err_set_errno(err, errno, "read");
    *ret_len = (size_t)n;
    return 0;
}

/* Up to CHUNK bytes of text to out; *ret_len 0 at the end. */
static int
read_packed(struct event_source *s, void *out, size_t *ret_len, struct cc_err *err)
{
    ZSTD_outBuffer to = { .dst = out, .size = CHUNK, .pos = 0 };

    while (to.pos == 0) {
        if (s->packed.pos == s->packed.size && !s->zstd_full) {
            s->packed.pos = 0;
            if (read_some(s->fd, s->packed_data, CHUNK, &s->packed.size, err) != 0)
                return -1;
            if (s->packed.size == 0 && s->zstd_left != 0)
                return cc_err_set(err, CC_DOM_INPUT, 0, "is cut short");
            if (s->packed.size == 0)
                break;
        }
        s->zstd_left = ZSTD_decompressStream(s->zstd, &to, &s->packed);
        if (ZSTD_isError(s->zstd_left))
            return cc_err_set(err, CC_DOM_INPUT, 0, "zstd: %s", ZSTD_getErrorName(s->zstd_left));
        s->zstd_full = s->zstd_left != 0 && to.pos == to.size;
    }
    *ret_len = to.pos;
    return 0;
}

/* Reads on behind what is there; what was given out is dropped first.  1, 0 at the end, -1. */
static int
fill(struct event_source *s, struct cc_err *err)
{
    size_t len = 0;
    uint8_t *room;
    int rc;

    if (s->at > 0) {
        s->text.len -= s->at;
        memmove(s->text.data, s->text.data + s->at, s->text.len);
        s->at = 0;
    }
    if (s->text.len > EVENT_LINE_MAX) {
        s->text.len = 0;
        s->skipping = true;
    }
    if ((room = cc_buf_reserve(&s->text, CHUNK, err)) == NULL)
        return -1;
    if (s->zstd != NULL)
        rc = read_packed(s, room, &len, err);
    else
        rc = read_some(s->fd, room, CHUNK, &len, err);
    if (rc != 0)
        return -1;
    s->text.len += len;
    return len > 0 ? 1 : 0;
}

int
event_source_next(struct event_source *source, const char **ret_line, size_t *ret_len,
        struct cc_err *err)
{
    size_t searched = 0; /* bytes from at on that hold no line end */
    int rc;

    for (;;) {
        const char *line = cc_buf_str(&source->text) + source->at;
        size_t left = source->text.len - source->at;
        const char *end = NULL;

        if (left > searched)
            end = memchr(line + searched, '\n', left - searched);
        if (end != NULL) {
            bool skipped = source->skipping;

            source->at += (size_t)(end - line) + 1;
            source->skipping = false;
            searched = 0;
            if (skipped)
                continue;
            *ret_line = line;
            *ret_len = (size_t)(end - line);
            return 1;
        }
        searched = left;
        if ((rc = fill(source, err)) <= 0)
            return rc;
        if (source->text.len < searched) /* dropped, too long */
            searched = 0;
    }
}

bool
event_source_is(const struct event_source *source, int dir_fd, const char *name)
{
    struct stat st;

    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == source->st.st_ino &&
           st.st_dev == source->st.st_dev;
}
