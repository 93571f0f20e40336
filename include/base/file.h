/* SPDX-License-Identifier: MIT */
#ifndef BASE_FILE_H
#define BASE_FILE_H

/* Whole small files.  Any thread; every descriptor is close-on-exec. */

#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

/* Appends the contents of path to ret, whose ceiling bounds it. */
CC_MUST int cc_file_read(const char *path, struct cc_buf *ret, struct cc_err *err);

/* Replaces path in one step (temporary file beside it, fsync, rename, fsync of the folder), with these mode bits. */
CC_MUST int cc_file_replace(const char *path, const void *data, size_t len, mode_t mode,
        struct cc_err *err);

/* The same, for an owner; (uid_t)-1 and (gid_t)-1: whoever we are. */
struct cc_file_owner {
    uid_t uid;
    gid_t gid;
    mode_t mode;
};
CC_MUST int cc_file_replace_owned(const char *path, const void *data, size_t len,
        const struct cc_file_owner *owner, struct cc_err *err);

/* Creates path, which must not exist. */
CC_MUST int cc_file_create(const char *path, const void *data, size_t len, mode_t mode,
        struct cc_err *err);

/* A new file in folder that has no name and is gone with its descriptor; -1 with an error. */
CC_MUST int cc_file_unnamed(const char *folder, struct cc_err *err);

/* Reads all that descriptor fd has until its end. */
CC_MUST int cc_fd_read_all(int fd, struct cc_buf *ret, struct cc_err *err);

/* Writes all of it, across short writes and EINTR. */
CC_MUST int cc_fd_write_all(int fd, const void *data, size_t len, struct cc_err *err);

#endif
