/* SPDX-License-Identifier: MIT */

/* The archives of a directory: their names, and their compression. */

#include "eventlog_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#define STAMP_LEN 19 /* 20261101T123456789Z */
#define CHUNK 65536
#define LEVEL 3
#define WINDOW_LOG 20 /* 1 MiB, so that compressing a log does not take the daemon's memory */
#define ARCHIVES_MAX 100000

static const char *const stems[] = {
    [EVENT_CHANNEL_ADMIN] = "admin",
    [EVENT_CHANNEL_OPERATIONAL] = "operational",
};

const char *
event_file_name(enum event_channel channel)
{
    return channel == EVENT_CHANNEL_ADMIN ? "admin.log" : "operational.log";
}

/* A time as it stands in a name: RFC 3339 without its punctuation. */
static void
stamp_format(int64_t ms, char text[STAMP_LEN + 1])
{
    char full[CC_TIME_LEN];
    size_t n = 0;

    cc_time_format(ms, full);
    for (const char *p = full; *p != '\0' && n < STAMP_LEN; p++) {
        if (strchr("-:.", *p) == NULL)
            text[n++] = *p;
    }
    text[n] = '\0';
}

/* The time at the start of text; NULL when there is none, else what follows it. */
static const char *
stamp_parse(const char *text, int64_t *ret_ms)
{
    char full[CC_TIME_LEN];

    if (strlen(text) < STAMP_LEN)
        return NULL;
    (void)snprintf(full, sizeof(full), "%.4s-%.2s-%.5s:%.2s:%.2s.%.4s", text, text + 4, text + 6,
            text + 11, text + 13, text + 15);
    if (cc_time_parse(full, ret_ms, NULL) != 0)
        return NULL;
    return text + STAMP_LEN;
}

static bool
exists(int dir_fd, const char *name)
{
    struct stat st;

    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int
event_archive_name(int dir_fd, enum event_channel channel, int64_t from_ms, int64_t to_ms,
        char ret_name[EVENT_FILE_NAME_MAX], struct cc_err *err)
{
    char from[STAMP_LEN + 1], to[STAMP_LEN + 1];
    char name[EVENT_FILE_NAME_MAX], packed[EVENT_FILE_NAME_MAX + 8];

    stamp_format(from_ms, from);
    stamp_format(to_ms, to);
    for (unsigned n = 1; n < ARCHIVES_MAX; n++) {
        if (n == 1)
            (void)snprintf(name, sizeof(name), "%s-%s-%s.log", stems[channel], from, to);
        else
            (void)snprintf(name, sizeof(name), "%s-%s-%s-%u.log", stems[channel], from, to, n);
        (void)snprintf(packed, sizeof(packed), "%s.zst", name);
        if (!exists(dir_fd, name) && !exists(dir_fd, packed)) {
            memcpy(ret_name, name, sizeof(name));
            return 0;
        }
    }
    return cc_err_set(err, CC_DOM_INTERNAL, EEXIST, "no name is left for an archive");
}

/* "admin-FROM-TO[-N].log[.zst]" */
static bool
archive_parse(const char *file, enum event_channel channel, struct event_archive *ret)
{
    size_t stem = strlen(stems[channel]);
    struct event_archive a = { .number = 1 };
    const char *p = file;
    char *end;

    if (strlen(file) >= sizeof(a.name) || strncmp(p, stems[channel], stem) != 0 || p[stem] != '-')
        return false;
    if ((p = stamp_parse(p + stem + 1, &a.from_ms)) == NULL || *p != '-')
        return false;
    if ((p = stamp_parse(p + 1, &a.to_ms)) == NULL)
        return false;
    if (*p == '-') {
        a.number = (unsigned)strtoul(p + 1, &end, 10);
        p = end;
    }
    a.compressed = strcmp(p, ".log.zst") == 0;
    if (!a.compressed && strcmp(p, ".log") != 0)
        return false;
    memcpy(a.name, file, (size_t)(p - file) + strlen(".log"));
    *ret = a;
    return true;
}

/* In time; of one archive's two forms the compressed one first. */
static int
archive_order(const void *one, const void *other)
{
    const struct event_archive *a = one;
    const struct event_archive *b = other;

    if (a->from_ms != b->from_ms)
        return a->from_ms < b->from_ms ? -1 : 1;
    if (a->to_ms != b->to_ms)
        return a->to_ms < b->to_ms ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return (int)b->compressed - (int)a->compressed;
}

static size_t
drop_doubles(struct event_archive *list, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || strcmp(list[kept - 1].name, list[i].name) != 0)
            list[kept++] = list[i];
    }
    return kept;
}

/* An own stream of the directory: dir_fd keeps its position. */
static DIR *
open_dir(int dir_fd, struct cc_err *err)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (dir == NULL) {
        cc_err_set_errno(err, errno, "read the event log's folder");
        if (fd >= 0)
            (void)close(fd);
    }
    return dir;
}

/* All archives with both forms of each, in no order. */
static int
scan(DIR *dir, enum event_channel channel, struct event_archive **list, size_t *count,
        struct cc_err *err)
{
    size_t room = 0;
    const struct dirent *entry;

    while ((entry = readdir(dir)) != NULL) {
        struct event_archive a;
        void *grown;

        if (!archive_parse(entry->d_name, channel, &a))
            continue;
        if (*count == ARCHIVES_MAX)
            return cc_err_set(err, CC_DOM_INPUT, 0, "more than %d archives; move some away",
                    ARCHIVES_MAX);
        if (*count == room) {
            room = room == 0 ? 16 : 2 * room;
            if ((grown = realloc(*list, room * sizeof(a))) == NULL)
                return cc_err_nomem(err);
            *list = grown;
        }
        (*list)[(*count)++] = a;
    }
    return 0;
}

int
event_archives_list(int dir_fd, enum event_channel channel, struct event_archive **ret_archives,
        size_t *ret_count, struct cc_err *err)
{
    struct event_archive *list = NULL;
    size_t count = 0;
    DIR *dir = open_dir(dir_fd, err);
    int rc = -1;

    if (dir == NULL)
        goto out;
    if (scan(dir, channel, &list, &count, err) != 0)
        goto out;
    if (count > 0) {
        qsort(list, count, sizeof(list[0]), archive_order);
        count = drop_doubles(list, count);
    }
    *ret_archives = list;
    *ret_count = count;
    list = NULL;
    rc = 0;
out:
    free(list);
    if (dir != NULL)
        (void)closedir(dir);
    return rc;
}

/* ---- compressing ---- */

static int
compress_chunk(ZSTD_CCtx *ctx, ZSTD_inBuffer *in, bool last, char *out, int out_fd,
        struct cc_err *err)
{
    size_t left;

    do {
        ZSTD_outBuffer to = { .dst = out, .size = CHUNK, .pos = 0 };

        left = ZSTD_compressStream2(ctx, &to, in, last ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return cc_err_set(err, CC_DOM_INTERNAL, 0, "zstd: %s", ZSTD_getErrorName(left));
        if (cc_fd_write_all(out_fd, out, to.pos, err) != 0)
            return -1;
    } while (last ? left != 0 : in->pos < in->size);
    return 0;
}

static int
compress_fd(int in_fd, int out_fd, struct cc_err *err)
{
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    char *in = malloc(CHUNK);
    char *out = malloc(CHUNK);
    ssize_t n;
    int rc = -1;

    if (ctx == NULL || in == NULL || out == NULL) {
        (void)cc_err_nomem(err);
        goto out;
    }
    (void)ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, LEVEL);
    (void)ZSTD_CCtx_setParameter(ctx, ZSTD_c_windowLog, WINDOW_LOG);
    (void)ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 1);
    do {
        ZSTD_inBuffer from = { .src = in, .size = 0, .pos = 0 };

        do {
            n = read(in_fd, in, CHUNK);
        } while (n < 0 && errno == EINTR);
        if (n < 0) {
            cc_err_set_errno(err, errno, "read");
            goto out;
        }
        from.size = (size_t)n;
        if (compress_chunk(ctx, &from, n == 0, out, out_fd, err) != 0)
            goto out;
    } while (n > 0);
    rc = 0;
out:
    free(in);
    free(out);
    (void)ZSTD_freeCCtx(ctx);
    return rc;
}

/* The compressed form is whole and durable under its name before the other one goes. */
static int
compress_archive(int dir_fd, const char *name, struct cc_err *err)
{
    char part[EVENT_FILE_NAME_MAX + 16], packed[EVENT_FILE_NAME_MAX + 8];
    int in_fd = -1;
    int out_fd = -1;
    int rc = -1;

    (void)snprintf(packed, sizeof(packed), "%s.zst", name);
    (void)snprintf(part, sizeof(part), "%s.zst.part", name);
    if ((in_fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0 ||
            (out_fd = openat(dir_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                     0640)) < 0) {
        cc_err_set_errno(err, errno, "open");
        goto out;
    }
    if (compress_fd(in_fd, out_fd, err) != 0)
        goto out;
    if (fsync(out_fd) != 0 || renameat(dir_fd, part, dir_fd, packed) != 0 || fsync(dir_fd) != 0 ||
            unlinkat(dir_fd, name, 0) != 0) {
        cc_err_set_errno(err, errno, "put the compressed file in place");
        goto out;
    }
    rc = 0;
out:
    if (rc != 0) {
        cc_err_in(err, "archive %s", name);
        if (out_fd >= 0)
            (void)unlinkat(dir_fd, part, 0);
    }
    if (in_fd >= 0)
        (void)close(in_fd);
    if (out_fd >= 0)
        (void)close(out_fd);
    return rc;
}

/* What was left of a compression that did not end. */
static int
remove_parts(int dir_fd, struct cc_err *err)
{
    DIR *dir = open_dir(dir_fd, err);
    const struct dirent *entry;

    if (dir == NULL)
        return -1;
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        struct event_archive a;
        char name[EVENT_FILE_NAME_MAX + 16];

        if (len <= 5 || len >= sizeof(name) || strcmp(entry->d_name + len - 5, ".part") != 0)
            continue;
        memcpy(name, entry->d_name, len - 5);
        name[len - 5] = '\0';
        if (archive_parse(name, EVENT_CHANNEL_ADMIN, &a) ||
                archive_parse(name, EVENT_CHANNEL_OPERATIONAL, &a))
            (void)unlinkat(dir_fd, entry->d_name, 0);
    }
    (void)closedir(dir);
    return 0;
}

int
event_archives_compress(int dir_fd, struct cc_err *err)
{
    if (remove_parts(dir_fd, err) != 0)
        return -1;
    for (int channel = 0; channel < EVENT_CHANNELS; channel++) {
        struct event_archive *list = NULL;
        size_t count = 0;
        int rc = event_archives_list(dir_fd, (enum event_channel)channel, &list, &count, err);

        for (size_t i = 0; i < count && rc == 0; i++) {
            if (!list[i].compressed)
                rc = compress_archive(dir_fd, list[i].name, err);
            else if (unlinkat(dir_fd, list[i].name, 0) != 0 && errno != ENOENT)
                rc = cc_err_set_errno(err, errno, "archive %s: remove", list[i].name);
        }
        free(list);
        if (rc != 0)
            return -1;
    }
    return 0;
}
