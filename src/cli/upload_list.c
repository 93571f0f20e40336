/* SPDX-License-Identifier: MIT */
#include "upload_list.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/text.h"

#define CSV_MAX (64 * 1024 * 1024)
#define FIELDS_MAX 16
#define KEY_LEN 65 /* SHA-256 in hexadecimal and NUL */

enum column { COLUMN_FILE, COLUMN_USER, COLUMN_PASSWORD, COLUMN_COUNT };

void
upload_list_init(struct upload_list *list)
{
    *list = (struct upload_list){ .progress_fd = -1 };
}

void
upload_list_free(struct upload_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].file);
        free(list->items[i].user);
        free(list->items[i].password);
    }
    free(list->items);
    free(list->progress_path);
    if (list->progress_fd != -1)
        (void)close(list->progress_fd);
    upload_list_init(list);
}

int
upload_list_add(struct upload_list *list, const char *file, const char *user, const char *password,
        struct cc_err *err)
{
    struct upload *item;

    if (list->count == UPLOAD_LIST_MAX)
        return cc_err_set(err, CC_DOM_USAGE, 0, "more than %d files at once", UPLOAD_LIST_MAX);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 16 : list->capacity * 2;
        struct upload *items = reallocarray(list->items, capacity, sizeof(*items));

        if (items == NULL)
            return cc_err_nomem(err);
        list->items = items;
        list->capacity = capacity;
    }
    item = &list->items[list->count];
    *item = (struct upload){ .file = strdup(file),
        .user = strdup(user),
        .password = strdup(password) };
    list->count++;
    if (item->file == NULL || item->user == NULL || item->password == NULL)
        return cc_err_nomem(err);
    return 0;
}

/*
 * Cuts one record off *rest in place: fields[] point into it, unquoted.  Returns the number of fields, or -1 for a
 * quote that is not closed, text behind one, or too many fields.  *line grows by the line ends passed.
 */
static int
csv_record(char **rest, char *fields[FIELDS_MAX], size_t *line)
{
    char *in = *rest;
    int count = 0;

    for (;;) {
        char *out = in;

        if (count == FIELDS_MAX)
            return -1;
        fields[count++] = out;
        if (*in == '"') {
            in++;
            while (*in != '\0' && (*in != '"' || in[1] == '"')) {
                *line += *in == '\n';
                in += *in == '"'; /* a doubled quote is one */
                *out++ = *in++;
            }
            if (*in++ != '"')
                return -1;
        } else {
            while (*in != '\0' && *in != ',' && *in != '\n' && !(*in == '\r' && in[1] == '\n'))
                *out++ = *in++;
        }
        if (*in == '\r' && in[1] == '\n')
            in++;
        if (*in == ',') {
            *out = '\0';
            in++;
            continue;
        }
        if (*in != '\n' && *in != '\0')
            return -1;
        *rest = *in == '\0' ? in : in + 1;
        *line += *in == '\n';
        *out = '\0';
        return count;
    }
}

static int
read_heading(char *fields[], int count, int columns[COLUMN_COUNT])
{
    static const char *const names[] = { "file", "user", "password" };
    int found = 0;

    for (int wanted = 0; wanted < COLUMN_COUNT; wanted++)
        for (int i = 0; i < count; i++)
            if (cc_equal_nocase(fields[i], names[wanted])) {
                columns[wanted] = i;
                found++;
                break;
            }
    return found == COLUMN_COUNT ? 0 : -1;
}

static int
add_record(struct upload_list *list, const char *folder, const char *const *values,
        struct cc_err *err)
{
    char *file = NULL;
    int rc;

    if (values[COLUMN_FILE][0] == '\0' || values[COLUMN_USER][0] == '\0' ||
            values[COLUMN_PASSWORD][0] == '\0')
        return cc_err_set(err, CC_DOM_USAGE, 0, "file, user and password must all be there");
    if (values[COLUMN_FILE][0] == '/')
        return upload_list_add(list, values[COLUMN_FILE], values[COLUMN_USER],
                values[COLUMN_PASSWORD], err);
    if (asprintf(&file, "%s/%s", folder, values[COLUMN_FILE]) == -1)
        return cc_err_nomem(err);
    rc = upload_list_add(list, file, values[COLUMN_USER], values[COLUMN_PASSWORD], err);
    free(file);
    return rc;
}

static int
parse_csv(struct upload_list *list, const char *path, const char *folder, char *text,
        struct cc_err *err)
{
    char *fields[FIELDS_MAX];
    int columns[COLUMN_COUNT] = { 0 }, count;
    size_t line = 1, begin;
    bool heading = true;

    while (*text != '\0') {
        begin = line;
        if ((count = csv_record(&text, fields, &line)) == -1)
            return cc_err_set(err, CC_DOM_USAGE, (long)begin,
                    "%s:%zu: not a line of CSV: look for quotes", path, begin);
        if (count == 1 && fields[0][0] == '\0')
            continue;
        if (heading) {
            if (read_heading(fields, count, columns) == -1)
                return cc_err_set(err, CC_DOM_USAGE, (long)begin,
                        "%s:%zu: the first line must name the columns file, user and password",
                        path, begin);
            heading = false;
            continue;
        }
        const char *values[COLUMN_COUNT];
        for (int i = 0; i < COLUMN_COUNT; i++)
            values[i] = columns[i] < count ? fields[columns[i]] : "";
        if (add_record(list, folder, values, err) == -1)
            return cc_err_in(err, "%s:%zu", path, begin);
    }
    if (list->count == 0)
        return cc_err_set(err, CC_DOM_USAGE, 0, "%s: nothing to upload in it", path);
    return 0;
}

/* What an upload is called in the progress: a hash, so that the file says nothing of users. */
static int
progress_key(const struct upload *item, const char *tag, char ret_key[KEY_LEN], struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(64 * 1024);
    uint8_t hash[32];
    int rc = -1;

    if (cc_buf_printf(&text, err, "%s\n%s\n%s", tag, item->user, item->file) == -1)
        goto out;
    if (EVP_Digest(text.data, text.len, hash, NULL, EVP_sha256(), NULL) != 1) {
        cc_err_set_openssl(err, "SHA-256");
        goto out;
    }
    cc_hex(hash, sizeof(hash), false, ret_key);
    rc = 0;
out:
    cc_buf_free(&text);
    return rc;
}

static int
compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, KEY_LEN - 1);
}

/* Marks the items that the progress of an earlier run names.  Its lines are all of one length; a torn last one is not counted. */
static int
read_progress(struct upload_list *list, const char *tag, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT((size_t)UPLOAD_LIST_MAX * KEY_LEN);
    char key[KEY_LEN];
    int rc = -1;

    if (access(list->progress_path, F_OK) == -1 && errno == ENOENT)
        return 0;
    if (cc_file_read(list->progress_path, &text, err) == -1)
        goto out;
    qsort(text.data, text.len / KEY_LEN, KEY_LEN, compare_keys);
    for (size_t i = 0; i < list->count; i++) {
        if (progress_key(&list->items[i], tag, key, err) == -1)
            goto out;
        list->items[i].done = text.len >= KEY_LEN && bsearch(key, text.data, text.len / KEY_LEN,
                                                             KEY_LEN, compare_keys) != NULL;
    }
    rc = 0;
out:
    cc_buf_free(&text);
    return rc;
}

int
upload_list_read_csv(struct upload_list *list, const char *path, const char *tag,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(CSV_MAX);
    char *copy = NULL;
    int rc = -1;

    if (cc_file_read(path, &text, err) == -1)
        goto out;
    if (memchr(text.data, '\0', text.len) != NULL) {
        cc_err_set(err, CC_DOM_USAGE, 0, "%s: not a text file", path);
        goto out;
    }
    if ((copy = cc_strdup(path, err)) == NULL)
        goto out;
    /* so that an empty file has its NUL too */
    if (cc_buf_add_u8(&text, '\n', err) == -1)
        goto out;
    if (parse_csv(list, path, dirname(copy), (char *)text.data, err) == -1)
        goto out;
    if (asprintf(&list->progress_path, "%s.progress", path) == -1) {
        list->progress_path = NULL;
        cc_err_nomem(err);
        goto out;
    }
    rc = read_progress(list, tag, err);
out:
    free(copy);
    cc_buf_free(&text);
    return rc;
}

/* Opens the progress for more; a line that a crash cut short is dropped. */
static int
open_progress(struct upload_list *list, struct cc_err *err)
{
    off_t end;
    int fd;

    if ((fd = open(list->progress_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) == -1)
        return cc_err_set_errno(err, errno, "%s", list->progress_path);
    list->progress_fd = fd;
    if ((end = lseek(fd, 0, SEEK_END)) == -1 || ftruncate(fd, end - end % KEY_LEN) == -1)
        return cc_err_set_errno(err, errno, "%s", list->progress_path);
    return 0;
}

int
upload_list_note(struct upload_list *list, const struct upload *item, const char *tag,
        struct cc_err *err)
{
    char key[KEY_LEN];

    if (list->progress_path == NULL)
        return 0;
    if (list->progress_fd == -1 && open_progress(list, err) == -1)
        return -1;
    if (progress_key(item, tag, key, err) == -1)
        return -1;
    key[KEY_LEN - 1] = '\n';
    if (cc_fd_write_all(list->progress_fd, key, KEY_LEN, err) == -1)
        return cc_err_in(err, "%s", list->progress_path);
    if (fdatasync(list->progress_fd) == -1)
        return cc_err_set_errno(err, errno, "%s", list->progress_path);
    return 0;
}

void
upload_list_finish(struct upload_list *list)
{
    if (list->progress_path != NULL)
        (void)unlink(list->progress_path);
}
