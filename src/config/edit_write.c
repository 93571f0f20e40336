/* SPDX-License-Identifier: MIT */

/* An edited configuration back to its files. */

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "edit_int.h"

#define NEW_MODE 0640

/* Where the file really lies, so that a link stays one. */
static int
real_path(const struct config_sheet *sheet, char ret[PATH_MAX], struct cc_err *err)
{
    if (sheet->existed ? realpath(sheet->path, ret) != NULL
                       : snprintf(ret, PATH_MAX, "%s", sheet->path) < PATH_MAX)
        return 0;
    return cc_err_set_errno(err, sheet->existed ? errno : ENAMETOOLONG, "%s", sheet->path);
}

/* Whether the file is as it was read. */
static int
is_as_before(const struct config_sheet *sheet, bool *ret, struct cc_err *err)
{
    struct cc_buf now = CC_BUF_INIT(CONFIG_FILE_MAX);
    bool exists = access(sheet->path, F_OK) == 0;

    *ret = exists == sheet->existed;
    if (!*ret || !exists)
        return 0;
    if (cc_file_read(sheet->path, &now, err) != 0)
        return -1;
    *ret = now.len == sheet->before.len &&
           (now.len == 0 || memcmp(now.data, sheet->before.data, now.len) == 0);
    cc_buf_free(&now);
    return 0;
}

static int
check_unchanged(const struct config_sheet *sheet, struct cc_err *err)
{
    bool same;

    if (is_as_before(sheet, &same, err) != 0)
        return -1;
    if (same)
        return 0;
    return cc_err_set(err, CC_DOM_CONFIG, 0,
            "%s was changed by somebody else meanwhile; nothing was written, begin again",
            sheet->path);
}

/* Owner and mode as the file has them; of a new one those that a daemon can read. */
static int
owner_of(const struct config_sheet *sheet, const char *path, const char *group,
        struct cc_file_owner *ret, struct cc_err *err)
{
    struct stat info;
    struct group *entry;

    if (sheet->existed) {
        if (stat(path, &info) != 0)
            return cc_err_set_errno(err, errno, "%s", path);
        *ret = (struct cc_file_owner){ info.st_uid, info.st_gid, info.st_mode & 07777 };
        return 0;
    }
    *ret = (struct cc_file_owner){ (uid_t)-1, (gid_t)-1, NEW_MODE };
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): an edit is one thread's, of a program that does nothing else */
    if (geteuid() == 0 && (entry = getgrnam(group)) != NULL)
        ret->gid = entry->gr_gid;
    return 0;
}

static int
write_text(struct config_sheet *sheet, const char *group, config_edit_told_fn told, void *arg,
        struct cc_err *err)
{
    struct cc_buf now = CC_BUF_INIT((size_t)2 * CONFIG_FILE_MAX);
    char path[PATH_MAX], previous[PATH_MAX + sizeof(".previous")];
    struct cc_file_owner owner;
    int rc = -1;

    if (real_path(sheet, path, err) != 0 || owner_of(sheet, path, group, &owner, err) != 0)
        return -1;
    (void)snprintf(previous, sizeof(previous), "%s.previous", path);
    if (config_sheet_join(sheet, &now, err) != 0)
        goto out;
    if (sheet->existed && cc_file_replace_owned(previous, sheet->before.data, sheet->before.len,
                                  &owner, err) != 0)
        goto out;
    sheet->written = true; /* perhaps: it can fail with the new one in its place already */
    if (cc_file_replace_owned(path, now.data, now.len, &owner, err) != 0)
        goto out;
    if (told != NULL)
        told(arg, path, sheet->existed ? previous : NULL);
    rc = 0;
out:
    cc_buf_free(&now);
    return rc;
}

int
config_edit_write(struct config_edit *edit, const char *group, config_edit_told_fn told, void *arg,
        struct cc_err *err)
{
    for (size_t i = 0; i < edit->count; i++) {
        if (check_unchanged(&edit->file[i], err) != 0)
            return -1;
    }
    for (size_t i = 0; i < edit->count; i++) {
        if (config_sheet_changed(&edit->file[i]) &&
                write_text(&edit->file[i], group, told, arg, err) != 0) {
            /* what cannot be put back either lies beside it as FILE.previous */
            return config_edit_undo(edit, NULL) == 0 ? -1 : cc_err_in(err, "and not put back");
        }
    }
    return 0;
}

static int
undo_text(struct config_sheet *sheet, struct cc_err *err)
{
    char path[PATH_MAX];
    struct cc_file_owner owner;
    bool same;

    /* one that could not be read is put back all the same */
    if (is_as_before(sheet, &same, NULL) == 0 && same)
        return 0;
    if (real_path(sheet, path, err) != 0)
        return -1;
    if (!sheet->existed)
        return unlink(path) == 0 ? 0 : cc_err_set_errno(err, errno, "remove %s", path);
    if (owner_of(sheet, path, NULL, &owner, err) != 0)
        return -1;
    return cc_file_replace_owned(path, sheet->before.data, sheet->before.len, &owner, err);
}

int
config_edit_undo(struct config_edit *edit, struct cc_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < edit->count; i++) {
        if (!edit->file[i].written)
            continue;
        if (undo_text(&edit->file[i], err) != 0)
            rc = -1;
        else
            edit->file[i].written = false;
    }
    return rc;
}
