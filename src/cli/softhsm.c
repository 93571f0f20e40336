/* SPDX-License-Identifier: MIT */

/*
 * SoftHSM keeps keys in files that belong to who made them.  Connectors read a token that they cannot write: its files
 * are root's, and of the group that its folder has.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "configure.h"

#define CONF_MAX 65536
#define FILE_MODE 0640
#define FOLDER_KEY "directories.tokendir"

/* The folder that SoftHSM's configuration names; false: there is none. */
static bool
token_folder(char ret[PATH_MAX])
{
    const char *conf = getenv("SOFTHSM2_CONF");
    struct cc_buf text = CC_BUF_INIT(CONF_MAX);
    const char *at;
    bool found = false;

    if (cc_file_read(conf != NULL ? conf : "/etc/softhsm/softhsm2.conf", &text, NULL) == 0) {
        for (at = cc_buf_str(&text); at != NULL && !found; at = strchr(at, '\n')) {
            at += strspn(at, " \t\n");
            if (!cc_starts_with(at, FOLDER_KEY))
                continue;
            at += strlen(FOLDER_KEY);
            at += strspn(at, " \t=");
            (void)snprintf(ret, PATH_MAX, "%.*s", (int)strcspn(at, " \t\r\n"), at);
            found = ret[0] != '\0';
        }
    }
    cc_buf_free(&text);
    return found;
}

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

    if (geteuid() != 0 || strstr(module, "softhsm") == NULL || !token_folder(path) ||
            stat(path, &info) != 0 || info.st_uid != 0 || info.st_gid == 0)
        return 0; /* whoever made the token had other plans */
    if ((tokens = opendir(path)) == NULL)
        return cc_err_set_errno(err, errno, "%s", path);
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
