/* SPDX-License-Identifier: MIT */

/* What configure is going to do, as long as nothing of it is done. */

#include "configure.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/secret.h"
#include "base/text.h"

#define SECRET_MODE 0640
#define FOLDER_MODE 0750
#define CHANGES_MAX 1024

int
plan_open(struct plan *plan, const struct cli_command *command, const char *path,
        struct cc_err *err)
{
    *plan = (struct plan){ .command = command, .path = path != NULL ? path : CONFIG_DEFAULT_PATH };
    return config_edit_open(plan->path, &plan->before, err);
}

static void
free_change(struct config_change *change)
{
    free((void *)(uintptr_t)change->name);
    free((void *)(uintptr_t)change->value);
}

void
plan_close(struct plan *plan)
{
    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        if (plan->secret[i].path != NULL)
            plan_unstage(plan, plan->secret[i].path);
    }
    for (size_t i = 0; i < plan->change_count; i++)
        free_change(&plan->change[i]);
    free(plan->change);
    config_edit_close(plan->before);
    *plan = (struct plan){ .path = NULL };
}

/* ---- settings ---- */

static struct config_change *
find_change(const struct plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->change_count; i++) {
        if (strcmp(plan->change[i].name, name) == 0)
            return &plan->change[i];
    }
    return NULL;
}

static void
drop_change(struct plan *plan, const char *name)
{
    struct config_change *change = find_change(plan, name);

    if (change == NULL)
        return;
    free_change(change);
    *change = plan->change[--plan->change_count];
}

static int
add_change(struct plan *plan, const char *name, const char *value, struct cc_err *err)
{
    struct config_change *grown = realloc(plan->change, (plan->change_count + 1) * sizeof(*grown));
    struct config_change change = { NULL, NULL };

    if (grown == NULL)
        return cc_err_nomem(err);
    plan->change = grown;
    if (plan->change_count == CHANGES_MAX)
        return cc_err_set(err, CC_DOM_USAGE, 0, "more than %d changes at once", CHANGES_MAX);
    if ((change.name = cc_strdup(name, err)) == NULL ||
            (value != NULL && (change.value = cc_strdup(value, err)) == NULL)) {
        free_change(&change);
        return -1;
    }
    plan->change[plan->change_count++] = change;
    return 0;
}

int
plan_set(struct plan *plan, const char *name, const char *value, struct cc_err *err)
{
    char *present = NULL;
    bool same;

    if (config_edit_get(plan->before, name, &present, err) != 0)
        return -1;
    same = value == NULL ? present == NULL : present != NULL && strcmp(present, value) == 0;
    free(present);
    drop_change(plan, name);
    return same ? 0 : add_change(plan, name, value, err);
}

int
plan_get(const struct plan *plan, const char *name, char **ret_value, struct cc_err *err)
{
    const struct config_change *change = find_change(plan, name);

    if (change == NULL)
        return config_edit_get(plan->before, name, ret_value, err);
    *ret_value = NULL;
    if (change->value != NULL && (*ret_value = cc_strdup(change->value, err)) == NULL)
        return -1;
    return 0;
}

int
plan_make(const struct plan *plan, struct config_edit **ret_edit, struct config **ret_config,
        struct cc_err *err)
{
    struct config_edit *edit = NULL;

    if (config_edit_open(plan->path, &edit, err) == 0 &&
            config_edit_apply(edit, plan->change, plan->change_count, err) == 0 &&
            config_edit_load(edit, ret_config, err) == 0) {
        *ret_edit = edit;
        return 0;
    }
    config_edit_close(edit);
    return -1;
}

/* ---- secrets ---- */

static gid_t
daemon_group(void)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread */
    const struct group *entry = geteuid() == 0 ? getgrnam(CONFIGURE_GROUP) : NULL;

    return entry == NULL ? (gid_t)-1 : entry->gr_gid;
}

/* The folder of a file, where it is not there yet. */
static int
need_folder(const char *path, struct cc_err *err)
{
    char copy[PATH_MAX];
    const char *folder;

    if (!cc_strcpy(copy, sizeof(copy), path))
        return cc_err_set_errno(err, ENAMETOOLONG, "%s", path);
    folder = dirname(copy); /* NOLINT(concurrency-mt-unsafe) */
    if (mkdir(folder, FOLDER_MODE) != 0)
        return errno == EEXIST ? 0 : cc_err_set_errno(err, errno, "create folder %s", folder);
    if (chown(folder, (uid_t)-1, daemon_group()) != 0)
        return cc_err_set_errno(err, errno, "folder %s", folder);
    return 0;
}

static struct plan_secret *
find_secret(const struct plan *plan, const char *path)
{
    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        const struct plan_secret *secret = &plan->secret[i];

        if (secret->path != NULL && strcmp(secret->path, path) == 0)
            return (struct plan_secret *)(uintptr_t)secret;
    }
    return NULL;
}

void
plan_unstage(struct plan *plan, const char *path)
{
    struct plan_secret *secret = find_secret(plan, path);

    if (secret == NULL)
        return;
    /* where what was typed could not be taken back, this is the only copy of the secret before */
    if (secret->staged != NULL && !(secret->placed && secret->had_before))
        (void)unlink(secret->staged);
    free(secret->path);
    free(secret->staged);
    *secret = (struct plan_secret){ .path = NULL };
}

static struct plan_secret *
free_place(struct plan *plan, struct cc_err *err)
{
    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        if (plan->secret[i].path == NULL)
            return &plan->secret[i];
    }
    (void)cc_err_set(err, CC_DOM_INTERNAL, 0, "more than %d secrets at once", CONFIGURE_SECRETS);
    return NULL;
}

int
plan_stage(struct plan *plan, const char *path, const struct cc_secret *secret, struct cc_err *err)
{
    const struct cc_file_owner owner = { (uid_t)-1, daemon_group(), SECRET_MODE };
    struct cc_buf name = CC_BUF_INIT(PATH_MAX);
    struct plan_secret *place;
    int rc = -1;

    plan_unstage(plan, path);
    if ((place = free_place(plan, err)) == NULL)
        return -1;
    if (need_folder(path, err) != 0 || cc_buf_printf(&name, err, "%s.new", path) != 0 ||
            (place->path = cc_strdup(path, err)) == NULL ||
            cc_file_replace_owned(cc_buf_str(&name), cc_secret_str(secret), cc_secret_len(secret),
                    &owner, err) != 0)
        goto out;
    if ((place->staged = cc_strdup(cc_buf_str(&name), err)) == NULL) {
        (void)unlink(cc_buf_str(&name));
        goto out;
    }
    rc = 0;
out:
    if (rc != 0)
        plan_unstage(plan, path);
    cc_buf_free(&name);
    return rc;
}

/* The one before gets a second name, which it waits under, and is replaced. */
static int
place_aside(struct plan_secret *secret, struct cc_err *err)
{
    struct cc_buf name = CC_BUF_INIT(PATH_MAX);
    char *aside = NULL;

    if (cc_buf_printf(&name, err, "%s.before", secret->path) == 0)
        aside = cc_strdup(cc_buf_str(&name), err);
    cc_buf_free(&name);
    if (aside == NULL)
        return -1;
    if (link(secret->path, aside) != 0) {
        (void)cc_err_set_errno(err, errno, "keep %s as %s", secret->path, aside);
        free(aside);
        return -1;
    }
    if (rename(secret->staged, secret->path) != 0) {
        (void)cc_err_set_errno(err, errno, "%s", secret->path);
        (void)unlink(aside);
        free(aside);
        return -1;
    }
    free(secret->staged);
    secret->staged = aside;
    secret->placed = secret->had_before = true;
    return 0;
}

/* Exchanges the two names where there is a file before, and the file system can do that. */
static int
place_secret(struct plan_secret *secret, struct cc_err *err)
{
    const bool had_before = access(secret->path, F_OK) == 0;
    const int rc = had_before ? renameat2(AT_FDCWD, secret->staged, AT_FDCWD, secret->path,
                                        RENAME_EXCHANGE)
                              : rename(secret->staged, secret->path);

    if (rc != 0 && had_before && (errno == EINVAL || errno == ENOSYS))
        return place_aside(secret, err);
    if (rc != 0)
        return cc_err_set_errno(err, errno, "%s", secret->path);
    secret->placed = true;
    secret->had_before = had_before;
    return 0;
}

/* The one before takes its place again, and what was typed is gone. */
static int
return_secret(struct plan_secret *secret, struct cc_err *err)
{
    const int rc = secret->had_before ? rename(secret->staged, secret->path) : unlink(secret->path);

    if (rc != 0 && secret->had_before)
        return cc_err_set_errno(err, errno, "put %s back (what it was before is in %s)",
                secret->path, secret->staged);
    if (rc != 0)
        return cc_err_set_errno(err, errno, "remove %s", secret->path);
    secret->placed = false;
    return 0;
}

int
plan_return_secrets(struct plan *plan, struct cc_err *err)
{
    int rc = 0;

    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        if (plan->secret[i].placed && return_secret(&plan->secret[i], err) != 0)
            rc = -1;
    }
    return rc;
}

int
plan_place_secrets(struct plan *plan, struct cc_err *err)
{
    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        if (plan->secret[i].path == NULL || place_secret(&plan->secret[i], err) == 0)
            continue;
        return -1;
    }
    return 0;
}

void
plan_keep_secrets(struct plan *plan)
{
    for (size_t i = 0; i < CONFIGURE_SECRETS; i++) {
        if (plan->secret[i].path == NULL)
            continue;
        plan->secret[i].placed = false; /* the one before is not wanted any more */
        plan_unstage(plan, plan->secret[i].path);
    }
}

const char *
plan_reference(const struct plan *plan, const char *reference, char *text, size_t size)
{
    const struct plan_secret *secret = reference != NULL && cc_starts_with(reference, "file:")
                                               ? find_secret(plan, reference + 5)
                                               : NULL;

    if (secret == NULL)
        return reference;
    if (secret->placed)
        return reference;
    (void)snprintf(text, size, "file:%s", secret->staged);
    return text;
}
