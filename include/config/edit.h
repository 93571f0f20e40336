/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_EDIT_H
#define CONFIG_EDIT_H

/*
 * Changing a configuration: settings are set and removed in the texts of its files, and everything else in them
 * (comments, order, blanks, line ends) stays byte for byte as somebody wrote it.
 *
 * A setting is named as on a command line: "service.tenant", "ca.corp.kind".  It is changed where it stands, in the
 * last file that has it; a new one goes behind the last key of its section, in the main file when none has the section.
 * Nothing is written before config_edit_write().  The owner closes; one thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"

struct config_edit;

struct config_change {
    const char *name;
    const char *value; /* NULL: the setting is removed, from every file */
};

/* Reads the files.  A main file that is not there is an empty one.  What is no configuration at all is refused. */
CC_MUST int config_edit_open(const char *path, struct config_edit **ret_edit, struct cc_err *err);
void config_edit_close(struct config_edit *edit); /* accepts NULL */

/*
 * Makes the changes, in an order of their own: the same changes give the same text whatever order they come in.  On
 * failure the texts may hold some of them, and the edit is only good for being closed.
 */
CC_MUST int config_edit_apply(struct config_edit *edit, const struct config_change *changes,
        size_t count, struct cc_err *err);

/* What the files say, as they are now; yours to free.  *ret_value is NULL when none says it. */
CC_MUST int config_edit_get(const struct config_edit *edit, const char *name, char **ret_value,
        struct cc_err *err);

/* The name of the first [ca "NAME"] or [profile "NAME"] of a group ("ca"); yours to free, *ret_name may be NULL. */
CC_MUST int config_edit_first(const struct config_edit *edit, const char *group, char **ret_name,
        struct cc_err *err);

/* What the texts come to, checked like any configuration; errors name the file and its line to be. */
CC_MUST int config_edit_load(const struct config_edit *edit, struct config **ret_config,
        struct cc_err *err);

bool config_edit_changed(const struct config_edit *edit);

/* The lines that go and come, file by file, as diff -U0 would show them; appended. */
CC_MUST int config_edit_diff(const struct config_edit *edit, struct cc_buf *ret,
        struct cc_err *err);

/*
 * Writes each file that changed in one step and durably, with the owner and mode that it had; what it was before stays
 * beside it as FILE.previous.  A new main file belongs to root and to the group of this name (where there is one), 0640.
 * Refused when somebody else changed a file meanwhile.  told, which may be NULL, hears of each file written; previous
 * is NULL for a new one.
 */
typedef void (*config_edit_told_fn)(void *arg, const char *file, const char *previous);
CC_MUST int config_edit_write(struct config_edit *edit, const char *group, config_edit_told_fn told,
        void *arg, struct cc_err *err);

/* Puts back what config_edit_write() replaced. */
CC_MUST int config_edit_undo(struct config_edit *edit, struct cc_err *err);

/* Whether "section.key=value" would be taken by itself. */
CC_MUST int config_check_setting(const char *setting, struct cc_err *err);

/* What a setting is when no file says it, in the form of a file; NULL: nothing. */
const char *config_default(const char *name);

/* A value as it should be written, to show somebody; NULL for what is no setting. */
const char *config_example(const char *name);

#endif
