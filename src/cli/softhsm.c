/* SPDX-License-Identifier: MIT */

/*
 * SoftHSM keeps keys in files that belong to who made them.  Connectors read a token that they cannot write: its files
 * are root's, and of the group that its folder has.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "configure.h"
#include "upkeep/softhsm.h"

#define FILE_MODE 0640

/* Files of one token's folder that root made for itself. */
static int
settle_folder(int folder, gid_t group, struct cc_err *err)
{
    DIR *entries = fdopendir(folder);
    const struct dirent *entry;
    struct stat info;
    int rc = 0;

    if (entries == NULL) {
        (void)close(folder);
        return cc_err_set_errno(err, errno, "read a token's folder");
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (rc == 0 && (entry = readdir(entries)) != NULL) {
        if (fstatat(folder, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
                !S_ISREG(info.st_mode) || info.st_uid != 0 || info.st_gid == group)
            continue;
        if (fchownat(folder, entry->d_name, 0, group, AT_SYMLINK_NOFOLLOW) != 0 ||
                fchmodat(folder, entry->d_name, FILE_MODE, 0) != 0)
            rc = cc_err_set_errno(err, errno, "give %s to the group of its token", entry->d_name);
    }
    (void)closedir(entries);
    return rc;
}

int
softhsm_settle(const char *module, struct cc_err *err)
{
    char path[PATH_MAX];
    const struct dirent *entry;
    struct stat info;
    DIR *tokens;
    int rc = 0;

    if (geteuid() != 0 || strstr(module, "softhsm") == NULL ||
            !softhsm_folder(path, sizeof(path)) || stat(path, &info) != 0 || info.st_uid != 0 ||
            info.st_gid == 0)
        return 0; /* whoever made the token had other plans */
    if ((tokens = opendir(path)) == NULL)
        return cc_err_set_errno(err, errno, "%s", path);
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (rc == 0 && (entry = readdir(tokens)) != NULL) {
        int folder = entry->d_name[0] == '.'
                             ? -1
                             : openat(dirfd(tokens), entry->d_name,
                                       O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

        if (folder >= 0)
            rc = settle_folder(folder, info.st_gid, err);
    }
    (void)closedir(tokens);
    return rc;
}
