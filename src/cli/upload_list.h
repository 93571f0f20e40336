/* SPDX-License-Identifier: MIT */
#ifndef CLI_UPLOAD_LIST_H
#define CLI_UPLOAD_LIST_H

/*
 * What "pfx import" is to upload, and what of it was uploaded before.
 *
 * A list comes from the command line or from a CSV file (RFC 4180: a heading line with the columns file, user and
 * password in any order; relative files are beside the CSV file).  Progress is kept beside the CSV file in
 * "<file>.progress", a line for each upload that the service has accepted, so that a run that was interrupted goes on
 * where it was; it is removed when everything is uploaded.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"

#define UPLOAD_LIST_MAX 1000000

struct upload {
    char *file;
    char *user;
    char *password; /* source, see cli/password.h */
    bool done;      /* in a run before */
};

struct upload_list {
    struct upload *items;
    size_t count;
    size_t capacity;
    char *progress_path; /* NULL: none is kept */
    int progress_fd;     /* -1 until the first is noted */
};

void upload_list_init(struct upload_list *list);
void upload_list_free(struct upload_list *list);

/* Copies all three. */
CC_MUST int upload_list_add(struct upload_list *list, const char *file, const char *user,
        const char *password, struct cc_err *err);

/* Errors name file and line.  tag: what distinguishes one kind of run from another (padding, update), kept with the progress. */
CC_MUST int upload_list_read_csv(struct upload_list *list, const char *path, const char *tag,
        struct cc_err *err);

/* Notes that the item is uploaded, durably; nothing for a list without progress. */
CC_MUST int upload_list_note(struct upload_list *list, const struct upload *item, const char *tag,
        struct cc_err *err);

/* Everything is uploaded: the progress is no longer needed. */
void upload_list_finish(struct upload_list *list);

#endif
