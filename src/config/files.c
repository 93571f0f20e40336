/* SPDX-License-Identifier: MIT */

/* The main file and its drop-ins, as texts. */

#include "config_int.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

void
config_files_free(struct config_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->file[i].path);
        cc_buf_free(&files->file[i].text);
    }
    free(files->file);
    *files = (struct config_files){ .count = 0 };
}

/* An empty file of this name at the end. */
static struct config_file *
add_file(struct config_files *files, const char *path, struct cc_err *err)
{
    struct config_file *grown = realloc(files->file, (files->count + 1) * sizeof(*grown));
    struct config_file *file;

    if (grown == NULL) {
        (void)cc_err_nomem(err);
        return NULL;
    }
    files->file = grown;
    file = &grown[files->count];
    if ((file->path = cc_strdup(path, err)) == NULL)
        return NULL;
    cc_buf_init(&file->text, CONFIG_FILE_MAX);
    files->count++;
    return file;
}

static int
read_file(struct config_files *files, const char *path, bool may_lack, struct cc_err *err)
{
    struct config_file *file = add_file(files, path, err);

    if (file == NULL)
        return -1;
    if (may_lack && access(path, F_OK) != 0 && errno == ENOENT)
        return 0;
    return cc_file_read(path, &file->text, err) == 0 ? 0 : cc_err_in(err, "configuration");
}

static int
is_drop_in(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int
read_drop_ins(struct config_files *files, const char *path, struct cc_err *err)
{
    struct cc_buf name = CC_BUF_INIT(2 * CONFIG_LINE_MAX);
    struct dirent **entries = NULL;
    size_t folder_len;
    int count = 0;
    int rc = -1;

    if (cc_buf_printf(&name, err, "%s.d", path) != 0)
        goto out;
    folder_len = name.len;
    if ((count = scandir(cc_buf_str(&name), &entries, is_drop_in, by_name)) < 0) {
        if (errno == ENOENT)
            rc = 0;
        else
            cc_err_set_errno(err, errno, "configuration: read folder %s", cc_buf_str(&name));
        goto out;
    }
    if (count > CONFIG_FILES_MAX) {
        cc_err_set(err, CC_DOM_CONFIG, 0, "%s: more than %d files; join some", cc_buf_str(&name),
                CONFIG_FILES_MAX);
        goto out;
    }
    for (int i = 0; i < count; i++) {
        name.len = folder_len;
        if (cc_buf_printf(&name, err, "/%s", entries[i]->d_name) != 0)
            goto out;
        if (read_file(files, cc_buf_str(&name), false, err) != 0)
            goto out;
    }
    rc = 0;
out:
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    cc_buf_free(&name);
    return rc;
}

int
config_files_read(const char *path, bool may_lack, struct config_files *ret, struct cc_err *err)
{
    struct config_files files = { .count = 0 };

    if (read_file(&files, path, may_lack, err) != 0 || read_drop_ins(&files, path, err) != 0) {
        config_files_free(&files);
        return -1;
    }
    *ret = files;
    return 0;
}
