/* SPDX-License-Identifier: MIT */

/* A file of a configuration as lines, and how they differ from what was read. */

#include "edit_int.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

int
config_line_set(struct config_line *line, const char *text, struct cc_err *err)
{
    char *copy = cc_strdup(text, err);

    if (copy == NULL)
        return -1;
    free(line->text);
    line->text = copy;
    return 0;
}

bool
config_line_blank(const struct config_line *line)
{
    return line->text[strspn(line->text, " \t\r\n")] == '\0';
}

static bool
has_end(const char *line)
{
    size_t len = strlen(line);

    return len > 0 && line[len - 1] == '\n';
}

/* ---- lines ---- */

/* Room for one more line at an index. */
static struct config_line *
open_gap(struct config_sheet *sheet, size_t at, struct cc_err *err)
{
    struct config_line *grown = realloc(sheet->line, (sheet->count + 1) * sizeof(*grown));

    if (grown == NULL) {
        (void)cc_err_nomem(err);
        return NULL;
    }
    sheet->line = grown;
    memmove(grown + at + 1, grown + at, (sheet->count - at) * sizeof(*grown));
    sheet->count++;
    grown[at] = (struct config_line){ .text = NULL };
    return &grown[at];
}

static int
add_line(struct config_sheet *sheet, size_t at, const char *begin, size_t len, const char *end,
        size_t from, struct cc_err *err)
{
    struct cc_buf whole = CC_BUF_INIT(CONFIG_FILE_MAX + 2);
    char *copy = NULL;
    struct config_line *line;
    int rc = -1;

    if (cc_buf_add(&whole, begin, len, err) != 0 || cc_buf_add_str(&whole, end, err) != 0 ||
            (copy = cc_strdup(cc_buf_str(&whole), err)) == NULL)
        goto out;
    if ((line = open_gap(sheet, at, err)) == NULL)
        goto out;
    *line = (struct config_line){ .text = copy, .from = from };
    copy = NULL;
    rc = 0;
out:
    free(copy);
    cc_buf_free(&whole);
    return rc;
}

/* How this file ends its lines. */
static const char *
line_end(const struct config_sheet *sheet)
{
    size_t len = sheet->count == 0 ? 0 : strlen(sheet->line[0].text);

    return len > 1 && sheet->line[0].text[len - 2] == '\r' && has_end(sheet->line[0].text) ? "\r\n"
                                                                                           : "\n";
}

int
config_sheet_insert(struct config_sheet *sheet, size_t at, const char *line, struct cc_err *err)
{
    const char *end = line_end(sheet);

    if (at > 0 && !has_end(sheet->line[at - 1].text)) {
        struct cc_buf ended = CC_BUF_INIT(CONFIG_FILE_MAX + 2);
        int rc = cc_buf_printf(&ended, err, "%s%s", sheet->line[at - 1].text, end);

        if (rc == 0)
            rc = config_line_set(&sheet->line[at - 1], cc_buf_str(&ended), err);
        cc_buf_free(&ended);
        if (rc != 0)
            return -1;
    }
    return add_line(sheet, at, line, strlen(line), end, 0, err);
}

void
config_sheet_remove(struct config_sheet *sheet, size_t at)
{
    free(sheet->line[at].text);
    sheet->count--;
    memmove(sheet->line + at, sheet->line + at + 1, (sheet->count - at) * sizeof(*sheet->line));
}

int
config_sheet_take(struct config_sheet *sheet, struct config_file *take_file, struct cc_err *err)
{
    const char *at, *end;

    sheet->path = take_file->path;
    sheet->before = take_file->text;
    sheet->existed = access(sheet->path, F_OK) == 0;
    take_file->path = NULL;
    take_file->text = (struct cc_buf)CC_BUF_INIT(CONFIG_FILE_MAX);

    at = cc_buf_str(&sheet->before);
    end = at + sheet->before.len;
    if (memchr(at, '\0', sheet->before.len) != NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "%s: a line holds a NUL byte; the file must be plain text", sheet->path);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = newline == NULL ? (size_t)(end - at) : (size_t)(newline - at) + 1;

        if (add_line(sheet, sheet->count, at, len, "", sheet->count + 1, err) != 0)
            return -1;
        at += len;
    }
    return 0;
}

void
config_sheet_free(struct config_sheet *sheet)
{
    for (size_t i = 0; i < sheet->count; i++)
        free(sheet->line[i].text);
    free(sheet->line);
    free(sheet->path);
    cc_buf_free(&sheet->before);
}

int
config_sheet_join(const struct config_sheet *sheet, struct cc_buf *ret, struct cc_err *err)
{
    for (size_t i = 0; i < sheet->count; i++) {
        if (cc_buf_add_str(ret, sheet->line[i].text, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- what is different ---- */

/* The line of this number as it was read; len without its end. */
static const char *
line_before(const struct config_sheet *sheet, size_t number, size_t *ret_len)
{
    const char *at = cc_buf_str(&sheet->before);

    for (size_t i = 1; i < number; i++)
        at = strchr(at, '\n') + 1;
    *ret_len = strcspn(at, "\r\n");
    return at;
}

static size_t
lines_before(const struct config_sheet *sheet)
{
    size_t count = 0;

    for (size_t i = 0; i < sheet->before.len; i++)
        count += sheet->before.data[i] == '\n' || i + 1 == sheet->before.len;
    return count;
}

bool
config_sheet_changed(const struct config_sheet *sheet)
{
    struct cc_buf now = CC_BUF_INIT((size_t)2 * CONFIG_FILE_MAX);
    bool same = config_sheet_join(sheet, &now, NULL) == 0 && now.len == sheet->before.len &&
                (now.len == 0 || memcmp(now.data, sheet->before.data, now.len) == 0);

    cc_buf_free(&now);
    return !same;
}

struct diff {
    const struct config_sheet *sheet;
    struct cc_buf *out;
    const char *section; /* the line that begins the section we are in */
    size_t section_len;
    bool section_shown;
};

static int
show(struct diff *d, char sign, const char *line, size_t len, struct cc_err *err)
{
    bool begins = line[strspn(line, " \t")] == '[';

    if (!begins && !d->section_shown && d->section != NULL &&
            cc_buf_printf(d->out, err, " %.*s\n", (int)d->section_len, d->section) != 0)
        return -1;
    d->section_shown = true;
    return cc_buf_printf(d->out, err, "%c%.*s\n", sign, (int)len, line);
}

/* A line of the text as it is now, old lines before it that went having been shown. */
static int
show_line(struct diff *d, const struct config_line *line, struct cc_err *err)
{
    size_t len = strcspn(line->text, "\r\n"), old_len = 0;
    const char *old = line->from == 0 ? NULL : line_before(d->sheet, line->from, &old_len);

    if (line->text[strspn(line->text, " \t")] == '[') {
        d->section = line->text;
        d->section_len = len;
        d->section_shown = false;
    }
    if (old != NULL && old_len == len && memcmp(old, line->text, len) == 0)
        return 0;
    if (old != NULL && show(d, '-', old, old_len, err) != 0)
        return -1;
    return show(d, '+', line->text, len, err);
}

/* The number of the next line from an index on that was there before; behind the last, one more than there were. */
static size_t
next_before(const struct config_sheet *sheet, size_t at)
{
    while (at < sheet->count && sheet->line[at].from == 0)
        at++;
    return at < sheet->count ? sheet->line[at].from : lines_before(sheet) + 1;
}

static int
diff_sheet(const struct config_sheet *sheet, struct cc_buf *ret, struct cc_err *err)
{
    struct diff d = { .sheet = sheet, .out = ret };
    size_t next = 1; /* the first old line not yet passed */
    size_t len;

    for (size_t i = 0; i <= sheet->count; i++) {
        for (const size_t until = next_before(sheet, i); next < until; next++) {
            const char *old = line_before(sheet, next, &len);

            if (show(&d, '-', old, len, err) != 0)
                return -1;
        }
        if (i == sheet->count)
            break;
        if (sheet->line[i].from > 0)
            next = sheet->line[i].from + 1;
        if (show_line(&d, &sheet->line[i], err) != 0)
            return -1;
    }
    return 0;
}

bool
config_edit_changed(const struct config_edit *edit)
{
    for (size_t i = 0; i < edit->count; i++) {
        if (config_sheet_changed(&edit->file[i]))
            return true;
    }
    return false;
}

int
config_edit_diff(const struct config_edit *edit, struct cc_buf *ret, struct cc_err *err)
{
    for (size_t i = 0; i < edit->count; i++) {
        const struct config_sheet *sheet = &edit->file[i];

        if (!config_sheet_changed(sheet))
            continue;
        if (cc_buf_printf(ret, err, "--- %s\n+++ %s\n", sheet->existed ? sheet->path : "/dev/null",
                    sheet->path) != 0 ||
                diff_sheet(sheet, ret, err) != 0)
            return -1;
    }
    return 0;
}
