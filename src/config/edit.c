/* SPDX-License-Identifier: MIT */

/*
 * Changes in the texts of a configuration.
 *
 * A file is kept as its lines.  Where a setting stands is asked of the reader that the daemon uses, each time anew, and
 * after each change it is asked what it reads now: so what is written is what was meant, or is refused.
 */

#include "config/edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "config_int.h"
#include "edit_int.h"

/* ---- where a setting stands ---- */

/* What one file has of a setting; line numbers begin at 1. */
struct place {
    const struct config_setting_name *name;
    bool inside;  /* while reading: in its section */
    int line;     /* the last that sets it; 0: none */
    char *value;  /* what that says; on the heap */
    int last_key; /* the last line with a key in its section, or that begins it; 0: there is none */
};

static bool
same_section(const char *text, const char *label)
{
    const struct config_group *group = config_group_find(text);
    char name[CONFIG_NAME_MAX + 1], own[CONFIG_SECTION_MAX];

    if (group == NULL)
        return strcmp(text, label) == 0;
    return config_group_name(group, text, name, NULL) == 0 &&
           strcmp(config_group_label(group, name, own), label) == 0;
}

static int
place_section(void *arg, const struct config_origin *at, const char *section, struct cc_err *err)
{
    struct place *place = arg;

    (void)err;
    place->inside = same_section(section, place->name->section);
    if (place->inside)
        place->last_key = at->line;
    return 0;
}

static int
place_entry(void *arg, const struct config_origin *at, const char *section, const char *key,
        const char *value, struct cc_err *err)
{
    struct place *place = arg;

    (void)section;
    if (!place->inside)
        return 0;
    place->last_key = at->line;
    if (strcmp(key, place->name->key) != 0)
        return 0;
    free(place->value);
    place->line = at->line;
    return (place->value = cc_strdup(value, err)) != NULL ? 0 : -1;
}

/* Frees nothing of what place held. */
static int
find_place(const struct config_sheet *file, const struct config_setting_name *name,
        struct place *ret, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT((size_t)2 * CONFIG_FILE_MAX);
    const struct config_reader reader = {
        .file = file->path,
        .section = place_section,
        .entry = place_entry,
        .arg = ret,
    };
    int lines, rc;

    *ret = (struct place){ .name = name };
    rc = config_sheet_join(file, &text, err);
    if (rc == 0)
        rc = config_read_text(&reader, cc_buf_str(&text), text.len, &lines, err);
    if (rc != 0) {
        free(ret->value);
        ret->value = NULL;
    }
    cc_buf_free(&text);
    return rc;
}

/* ---- a line that sets something ---- */

struct span {
    size_t begin, end;
};

/* Where the value lies in a line that inih takes for a key and its value: up to a comment that a blank sets off. */
static struct span
value_span(const char *line)
{
    struct span span = { .begin = strcspn(line, "=:") + 1 };
    const size_t after = span.begin;
    bool blank = false;

    span.begin += strspn(line + span.begin, " \t");
    for (span.end = after; line[span.end] != '\0' && !(blank && line[span.end] == ';'); span.end++)
        blank = strchr(" \t\r\n", line[span.end]) != NULL;
    while (span.end > after && strchr(" \t\r\n", line[span.end - 1]) != NULL)
        span.end--;
    if (span.begin > span.end)
        span.begin = span.end;
    return span;
}

static int
change_line(struct config_sheet *file, int number, const char *value, struct cc_err *err)
{
    struct config_line *line = &file->line[number - 1];
    const struct span span = value_span(line->text);
    struct cc_buf text = CC_BUF_INIT((size_t)4 * CONFIG_LINE_MAX);
    int rc = -1;

    if (cc_buf_add(&text, line->text, span.begin, err) == 0 &&
            cc_buf_add_str(&text, value, err) == 0 &&
            cc_buf_add_str(&text, line->text + span.end, err) == 0)
        rc = config_line_set(line, cc_buf_str(&text), err);
    cc_buf_free(&text);
    return rc;
}

/* Behind line number, or at the end with a section of its own. */
static int
add_line(struct config_sheet *file, const struct config_setting_name *name, int number,
        const char *value, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT((size_t)4 * CONFIG_LINE_MAX);
    size_t at = (size_t)number;
    int rc = -1;

    if (number == 0) {
        at = file->count;
        if (at > 0 && !config_line_blank(&file->line[at - 1]) &&
                config_sheet_insert(file, at++, "", err) != 0)
            goto out;
        if (cc_buf_printf(&text, err, "[%s]", name->section) != 0 ||
                config_sheet_insert(file, at++, cc_buf_str(&text), err) != 0)
            goto out;
        cc_buf_reset(&text);
    }
    if (cc_buf_printf(&text, err, "%s = %s", name->key, value) == 0)
        rc = config_sheet_insert(file, at, cc_buf_str(&text), err);
out:
    cc_buf_free(&text);
    return rc;
}

/* ---- changes ---- */

/* What the file now says is what was meant. */
static int
check_place(const struct config_sheet *file, const struct config_setting_name *name,
        const char *value, struct cc_err *err)
{
    const struct config_origin at = { .file = file->path, .line = 0 };
    struct place place;
    bool same;

    if (find_place(file, name, &place, err) != 0)
        return -1;
    same = place.value != NULL && strcmp(place.value, value) == 0;
    free(place.value);
    if (same)
        return 0;
    return config_fail(&at, name->section, name->key, err,
            "this cannot stand in a file; leave out blanks at its ends and ; behind a blank");
}

/*
 * The file that a setting is changed in: the last that has it, else the first that has its section, else the main one.
 * *ret_place is of that file; its value is freed already, and only tells whether there is one.
 */
static int
choose_file(struct config_edit *edit, const struct config_setting_name *name,
        struct config_sheet **ret_file, struct place *ret_place, struct cc_err *err)
{
    struct config_sheet *chosen = NULL;
    struct place best = { .line = 0 };

    for (size_t i = 0; i < edit->count; i++) {
        struct place place;

        if (find_place(&edit->file[i], name, &place, err) != 0)
            return -1;
        free(place.value);
        if (place.line > 0 || (best.line == 0 && best.last_key == 0 && place.last_key > 0)) {
            best = place;
            chosen = &edit->file[i];
        }
    }
    *ret_file = chosen != NULL ? chosen : &edit->file[0];
    *ret_place = best;
    return 0;
}

static int
set(struct config_edit *edit, const struct config_setting_name *name, const char *value,
        struct cc_err *err)
{
    struct config_sheet *file;
    struct place place;

    if (choose_file(edit, name, &file, &place, err) != 0)
        return -1;
    if (place.line > 0 ? change_line(file, place.line, value, err) != 0
                       : add_line(file, name, place.last_key, value, err) != 0)
        return -1;
    return check_place(file, name, value, err);
}

static int
unset(struct config_edit *edit, const struct config_setting_name *name, struct cc_err *err)
{
    for (size_t i = 0; i < edit->count; i++) {
        struct place place;

        do {
            if (find_place(&edit->file[i], name, &place, err) != 0)
                return -1;
            free(place.value);
            if (place.line > 0)
                config_sheet_remove(&edit->file[i], (size_t)place.line - 1);
        } while (place.line > 0);
    }
    return 0;
}

static int
change(struct config_edit *edit, const struct config_change *change, struct cc_err *err)
{
    struct config_setting_name name;
    char *present = NULL;
    int rc = -1;

    if (config_setting_split(change->name, strlen(change->name), &name, err) != 0)
        return -1;
    if (change->value == NULL)
        return unset(edit, &name, err);
    if (config_edit_get(edit, change->name, &present, err) != 0)
        return -1;
    if (present != NULL && strcmp(present, change->value) == 0)
        rc = 0;
    else
        rc = set(edit, &name, change->value, err);
    free(present);
    return rc;
}

/* ---- the order of changes: that of the table of settings ---- */

/* Keys by their role stand before the sections of the features, which need them. */
static size_t
section_rank(const char *section)
{
    const struct config_names *names = config_names_find(section);
    const struct config_group *group = config_group_find(section);
    const char *word = names != NULL ? "pfx-import" : group != NULL ? group->section : section;
    size_t i = 0;

    while (i < config_setting_count && strcmp(config_settings[i].section, word) != 0)
        i++;
    return CONFIG_NAMES_COUNT * (i + 1) -
           (names != NULL ? (size_t)(&config_names[CONFIG_NAMES_COUNT] - names) : 0);
}

static size_t
key_rank(const struct config_setting_name *name)
{
    const struct config_group *group = config_group_find(name->section);
    const struct config_setting *setting =
            config_setting_find(group != NULL ? group->section : name->section, name->key);
    const struct config_names *names = config_names_find(name->section);

    if (setting != NULL)
        return (size_t)(setting - config_settings);
    for (size_t i = 0; names != NULL && names->names != NULL && names->names[i] != NULL; i++) {
        if (strcmp(names->names[i], name->key) == 0)
            return i;
    }
    return config_setting_count;
}

static int
by_rank(size_t a, size_t b)
{
    return (a > b) - (a < b);
}

/* qsort's; names that are none come last, and are refused when it is their turn. */
static int
by_table(const void *a, const void *b)
{
    const char *names[] = { ((const struct config_change *)a)->name,
        ((const struct config_change *)b)->name };
    struct config_setting_name one, other;
    int order;

    if (config_setting_split(names[0], strlen(names[0]), &one, NULL) != 0 ||
            config_setting_split(names[1], strlen(names[1]), &other, NULL) != 0)
        return strcmp(names[0], names[1]);
    if ((order = by_rank(section_rank(one.section), section_rank(other.section))) != 0 ||
            (order = strcmp(one.section, other.section)) != 0 ||
            (order = by_rank(key_rank(&one), key_rank(&other))) != 0)
        return order;
    return strcmp(one.key, other.key);
}

int
config_edit_apply(struct config_edit *edit, const struct config_change *changes, size_t count,
        struct cc_err *err)
{
    struct config_change *sorted = calloc(count + 1, sizeof(*sorted));
    int rc = 0;

    if (sorted == NULL)
        return cc_err_nomem(err);
    if (count > 0)
        memcpy(sorted, changes, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), by_table);
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (i > 0 && strcmp(sorted[i].name, sorted[i - 1].name) == 0)
            rc = cc_err_set(err, CC_DOM_USAGE, 0, "%s is changed twice; say it once",
                    sorted[i].name);
        else
            rc = change(edit, &sorted[i], err);
    }
    free(sorted);
    return rc;
}

/* ---- what the files say ---- */

int
config_edit_get(const struct config_edit *edit, const char *name, char **ret_value,
        struct cc_err *err)
{
    struct config_setting_name setting;
    char *value = NULL;

    if (config_setting_split(name, strlen(name), &setting, err) != 0)
        return -1;
    for (size_t i = edit->count; i > 0 && value == NULL; i--) {
        struct place place;

        if (find_place(&edit->file[i - 1], &setting, &place, err) != 0)
            return -1;
        value = place.value;
    }
    *ret_value = value;
    return 0;
}

/* While reading for the first item of a group. */
struct first {
    const struct config_group *group;
    char *name;
};

static int
first_section(void *arg, const struct config_origin *at, const char *section, struct cc_err *err)
{
    struct first *first = arg;
    char name[CONFIG_NAME_MAX + 1];

    if (first->name != NULL || config_group_find(section) != first->group)
        return 0;
    (void)at;
    if (config_group_name(first->group, section, name, err) != 0)
        return -1;
    return (first->name = cc_strdup(name, err)) != NULL ? 0 : -1;
}

static int
first_entry(void *arg, const struct config_origin *at, const char *section, const char *key,
        const char *value, struct cc_err *err)
{
    (void)arg;
    (void)at;
    (void)section;
    (void)key;
    (void)value;
    (void)err;
    return 0;
}

int
config_edit_first(const struct config_edit *edit, const char *group, char **ret_name,
        struct cc_err *err)
{
    struct first first = { .group = config_group_find(group) };
    int rc = 0;

    for (size_t i = 0; i < edit->count && rc == 0; i++) {
        const struct config_reader reader = {
            .file = edit->file[i].path,
            .section = first_section,
            .entry = first_entry,
            .arg = &first,
        };
        struct cc_buf text = CC_BUF_INIT((size_t)2 * CONFIG_FILE_MAX);
        int lines;

        rc = config_sheet_join(&edit->file[i], &text, err);
        if (rc == 0)
            rc = config_read_text(&reader, cc_buf_str(&text), text.len, &lines, err);
        cc_buf_free(&text);
    }
    if (rc != 0)
        free(first.name);
    else
        *ret_name = first.name;
    return rc;
}

/* The files of a configuration as the edit has them, path borrowed and text ours. */
static int
copy_files(const struct config_edit *edit, struct config_files *files, struct cc_err *err)
{
    if ((files->file = calloc(edit->count, sizeof(*files->file))) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < edit->count; i++) {
        files->count++;
        cc_buf_init(&files->file[i].text, (size_t)2 * CONFIG_FILE_MAX);
        if ((files->file[i].path = cc_strdup(edit->file[i].path, err)) == NULL ||
                config_sheet_join(&edit->file[i], &files->file[i].text, err) != 0)
            return -1;
    }
    return 0;
}

int
config_edit_load(const struct config_edit *edit, struct config **ret_config, struct cc_err *err)
{
    struct config_files files = { .count = 0 };
    int rc = copy_files(edit, &files, err);

    if (rc == 0)
        rc = config_load_files(&files, NULL, 0, ret_config, err);
    config_files_free(&files);
    return rc;
}

/* ---- open ---- */

/* Whether it can be read at all: what stands in it may well be wrong, and is there to be corrected. */
static int
check_form(const struct config_sheet *file, struct cc_err *err)
{
    static const struct config_setting_name nothing = { .section = "", .key = "" };
    struct place place;

    return find_place(file, &nothing, &place, err);
}

int
config_edit_open(const char *path, struct config_edit **ret_edit, struct cc_err *err)
{
    struct config_files files = { .count = 0 };
    struct config_edit *edit = NULL;
    int rc = -1;

    if (config_files_read(path, true, &files, err) != 0)
        return -1;
    if ((edit = calloc(1, sizeof(*edit))) == NULL ||
            (edit->file = calloc(files.count, sizeof(*edit->file))) == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < files.count; i++) {
        edit->count++;
        if (config_sheet_take(&edit->file[i], &files.file[i], err) != 0 ||
                check_form(&edit->file[i], err) != 0)
            goto out;
    }
    *ret_edit = edit;
    edit = NULL;
    rc = 0;
out:
    config_edit_close(edit);
    config_files_free(&files);
    return rc;
}

void
config_edit_close(struct config_edit *edit)
{
    if (edit == NULL)
        return;
    for (size_t i = 0; i < edit->count; i++)
        config_sheet_free(&edit->file[i]);
    free(edit->file);
    free(edit);
}

/* ---- about settings ---- */

static const struct config_setting *
setting_of(const char *name, struct config_setting_name *parts)
{
    const struct config_group *group;

    if (config_setting_split(name, strlen(name), parts, NULL) != 0)
        return NULL;
    group = config_group_find(parts->section);
    return config_setting_find(group != NULL ? group->section : parts->section, parts->key);
}

const char *
config_default(const char *name)
{
    struct config_setting_name parts;
    const struct config_setting *setting = setting_of(name, &parts);

    return setting == NULL ? NULL : setting->fallback;
}

const char *
config_example(const char *name)
{
    struct config_setting_name parts;
    const struct config_setting *setting = setting_of(name, &parts);
    const struct config_names *names;

    if (setting != NULL)
        return setting->example;
    names = config_names_find(parts.section);
    return names == NULL ? NULL : names->example;
}
