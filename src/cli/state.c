/* SPDX-License-Identifier: MIT */
#include "state.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

int
cli_become_owner(const struct config *config, struct cc_err *err)
{
    const char *folder = config->connector.state_directory;
    struct stat info;
    struct passwd *user;

    if (geteuid() != 0)
        return 0;
    if (stat(folder, &info) != 0)
        return cc_err_set_errno(err, errno, "%s", folder);
    if (info.st_uid == 0)
        return 0;
    user = getpwuid(info.st_uid);
    if (user == NULL || initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
            setuid(user->pw_uid) != 0)
        return cc_err_set_errno(err, errno, "becoming the user that owns %s", folder);
    return 0;
}

int
cli_open_state(const struct config *config, struct store **ret_store, struct cc_err *err)
{
    if (cli_become_owner(config, err) != 0)
        return -1;
    if (store_open(config->connector.state, ret_store, err) != 0)
        return cc_err_in(err, "state store");
    return 0;
}
