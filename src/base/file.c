/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK ((size_t)16384)

/* read(2) across EINTR. */
static ssize_t
read_some(int fd, void *data, size_t len)
{
    ssize_t n;

    do
        n = read(fd, data, len);
    while (n < 0 && errno == EINTR);
    return n;
}

/* One read; 1 when there was something, 0 at the end. */
static int
read_chunk(int fd, struct cc_buf *ret, struct cc_err *err)
{
    size_t room = ret->max - ret->len;
    uint8_t beyond;
    uint8_t *place = &beyond; /* at the ceiling one more byte tells whether this is the end */
    ssize_t n;

    if (room > READ_CHUNK)
        room = READ_CHUNK;
    if (room > 0 && (place = cc_buf_reserve(ret, room, err)) == NULL)
        return -1;
    if ((n = read_some(fd, place, room > 0 ? room : 1)) < 0)
        return cc_err_set_errno(err, errno, "read");
    if (n == 0)
        return 0;
    if (room == 0)
        return cc_err_set(err, CC_DOM_INPUT, (long)ret->max, "more than the %zu bytes allowed",
                ret->max);
    ret->len += (size_t)n;
    return 1;
}

int
cc_fd_read_all(int fd, struct cc_buf *ret, struct cc_err *err)
{
    size_t start = ret->len;
    int rc;

    do
        rc = read_chunk(fd, ret, err);
    while (rc > 0);
    if (rc < 0) {
        ret->len = start;
        if (ret->data != NULL)
            ret->data[start] = '\0';
    }
    return rc;
}

int
cc_fd_write_all(int fd, const void *data, size_t len, struct cc_err *err)
{
    const uint8_t *place = data;

    while (len > 0) {
        ssize_t n = write(fd, place, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cc_err_set_errno(err, errno, "write");
        place += n;
        len -= (size_t)n;
    }
    return 0;
}

int
cc_file_read(const char *path, struct cc_buf *ret, struct cc_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int rc;

    if (fd < 0)
        return cc_err_set_errno(err, errno, "%s", path);
    if ((rc = cc_fd_read_all(fd, ret, err)) != 0)
        cc_err_in(err, "%s", path);
    (void)close(fd);
    return rc;
}

/* Makes the name of path durable. */
static int
sync_folder(const char *path, struct cc_err *err)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    int fd, rc = 0;

    if (slash == NULL)
        (void)snprintf(folder, sizeof(folder), ".");
    else
        (void)snprintf(folder, sizeof(folder), "%.*s", len > 0 ? (int)len : 1, path);
    if ((fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return cc_err_set_errno(err, errno, "%s", folder);
    if (fsync(fd) != 0 && errno != EINVAL) /* EINVAL: a file system that has no such thing */
        rc = cc_err_set_errno(err, errno, "fsync %s", folder);
    (void)close(fd);
    return rc;
}

/* Fills a new file; mode bits are set at the end and whatever the umask. */
static int
fill(int fd, const void *data, size_t len, mode_t mode, struct cc_err *err)
{
    if (cc_fd_write_all(fd, data, len, err) != 0)
        return -1;
    if (fchmod(fd, mode) != 0)
        return cc_err_set_errno(err, errno, "fchmod");
    if (fsync(fd) != 0)
        return cc_err_set_errno(err, errno, "fsync");
    return 0;
}

int
cc_file_replace(const char *path, const void *data, size_t len, mode_t mode, struct cc_err *err)
{
    const struct cc_file_owner owner = { (uid_t)-1, (gid_t)-1, mode };

    return cc_file_replace_owned(path, data, len, &owner, err);
}

int
cc_file_replace_owned(const char *path, const void *data, size_t len,
        const struct cc_file_owner *owner, struct cc_err *err)
{
    char temporary[PATH_MAX];
    int fd = -1, rc = -1, n;

    n = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof(temporary))
        return cc_err_set_errno(err, ENAMETOOLONG, "%s", path);
    if ((fd = mkostemp(temporary, O_CLOEXEC)) < 0)
        return cc_err_set_errno(err, errno, "create a file beside %s", path);
    /* before the mode bits, which are for this owner */
    if (fchown(fd, owner->uid, owner->gid) != 0) {
        cc_err_set_errno(err, errno, "fchown");
        goto out;
    }
    if (fill(fd, data, len, owner->mode, err) != 0)
        goto out;
    if (rename(temporary, path) != 0) {
        cc_err_set_errno(err, errno, "rename");
        goto out;
    }
    temporary[0] = '\0';
    rc = sync_folder(path, err);
out:
    if (rc != 0)
        cc_err_in(err, "%s", path);
    if (temporary[0] != '\0')
        (void)unlink(temporary);
    (void)close(fd);
    return rc;
}

int
cc_file_create(const char *path, const void *data, size_t len, mode_t mode, struct cc_err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = -1;

    if (fd < 0)
        return cc_err_set_errno(err, errno, "%s", path);
    if (fill(fd, data, len, mode, err) != 0 || sync_folder(path, err) != 0) {
        cc_err_in(err, "%s", path);
        (void)unlink(path);
        goto out;
    }
    rc = 0;
out:
    (void)close(fd);
    return rc;
}

int
cc_file_unnamed(const char *folder, struct cc_err *err)
{
    char name[PATH_MAX];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int n;

    /* Not every file system can do that (EOPNOTSUPP); what else is wrong comes again. */
    if (fd >= 0)
        return fd;
    n = snprintf(name, sizeof(name), "%s/unnamed.XXXXXX", folder);
    if (n < 0 || (size_t)n >= sizeof(name))
        return cc_err_set_errno(err, ENAMETOOLONG, "temporary file in %s", folder);
    if ((fd = mkostemp(name, O_CLOEXEC)) < 0)
        return cc_err_set_errno(err, errno, "temporary file in %s", folder);
    (void)unlink(name);
    return fd;
}
