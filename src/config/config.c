/* SPDX-License-Identifier: MIT */
#include "config/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "config/edit.h"
#include "config_int.h"

/* A configuration under construction. */
struct loader {
    struct config *config;
    struct config_trace trace;
    struct config_origin
            *pairs[CONFIG_NAMES_COUNT]; /* per entry of config_names, one per line of it */
};

int
config_fail(const struct config_origin *at, const char *section, const char *key,
        struct cc_err *err, const char *fmt, ...)
{
    char text[384];
    char shown_section[CONFIG_SECTION_MAX], shown_key[64], place[280];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (at->line > 0)
        (void)snprintf(place, sizeof(place), "%s:%d", at->file, at->line);
    else
        (void)snprintf(place, sizeof(place), "%s", at->file);
    if (section == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, at->line, "%s: %s", place, text);
    cc_escape_into(shown_section, sizeof(shown_section), section);
    if (key == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, at->line, "%s: [%s]: %s", place, shown_section, text);
    return cc_err_set(err, CC_DOM_CONFIG, at->line, "%s: [%s] %s: %s", place, shown_section,
            cc_escape_into(shown_key, sizeof(shown_key), key), text);
}

/* ---- entries ---- */

/* A text that readers see as constant and we own. */
static void
free_text(const char *text)
{
    free((void *)(uintptr_t)text);
}

static bool
same_file(const struct config_origin *a, const struct config_origin *b)
{
    return a->file == b->file && a->line > 0;
}

static int
fail_twice(const struct config_origin *at, const struct config_origin *first, const char *section,
        const char *key, struct cc_err *err)
{
    return config_fail(at, section, key, err, "is set a second time; line %d has it, remove one",
            first->line);
}

/* A section of a file or an override, as the configuration under construction has it. */
struct section {
    const char *name; /* the table's */
    char label[CONFIG_SECTION_MAX];
    void *object;
    struct config_origin *origins;  /* of its settings */
    struct config_item_trace *item; /* NULL: it stands once */
};

static int
set_value(const struct section *section, const struct config_origin *at,
        const struct config_setting *setting, const char *value, struct cc_err *err)
{
    struct config_origin *origin = &section->origins[setting - config_settings];
    struct cc_err why = { .domain = CC_DOM_NONE };

    if (origin->file != NULL && same_file(origin, at))
        return fail_twice(at, origin, section->label, setting->key, err);
    if (config_value_check(value, &why) != 0 ||
            config_value_read(setting, value, section->object, &why) != 0)
        return config_fail(at, section->label, setting->key, err, "%s", why.text);
    *origin = *at;
    return 0;
}

static struct config_pair **
pairs_of(struct config *config, const struct config_names *names)
{
    return (struct config_pair **)(void *)((char *)config + names->pairs_offset);
}

static size_t *
count_of(struct config *config, const struct config_names *names)
{
    return (size_t *)(void *)((char *)config + names->count_offset);
}

size_t
config_pair_index(const struct config_pair *pairs, size_t count, const char *name)
{
    size_t i = 0;

    while (i < count && strcmp(pairs[i].name, name) != 0)
        i++;
    return i;
}

/* Makes room for one more pair and where it was said. */
static int
grow_pairs(struct loader *l, const struct config_names *names, struct cc_err *err)
{
    struct config_pair **pairs = pairs_of(l->config, names);
    struct config_origin **origins = &l->pairs[names - config_names];
    size_t count = *count_of(l->config, names) + 1;
    void *grown;

    if ((grown = realloc(*pairs, count * sizeof(**pairs))) == NULL)
        return cc_err_nomem(err);
    *pairs = grown;
    if ((grown = realloc(*origins, count * sizeof(**origins))) == NULL)
        return cc_err_nomem(err);
    *origins = grown;
    return 0;
}

static int
store_pair(struct loader *l, const struct config_origin *at, const struct config_names *names,
        const char *name, const char *value, struct cc_err *err)
{
    size_t *count = count_of(l->config, names);
    struct config_pair **pairs = pairs_of(l->config, names);
    size_t i = config_pair_index(*pairs, *count, name);
    char *new_name = NULL;
    char *new_value = NULL;
    int rc = -1;

    if (i < *count && same_file(&l->pairs[names - config_names][i], at))
        return fail_twice(at, &l->pairs[names - config_names][i], names->section, name, err);
    if (i == CONFIG_PAIRS_MAX)
        return config_fail(at, names->section, name, err,
                "there are more than %d names in this section", CONFIG_PAIRS_MAX);
    if ((new_value = cc_strdup(value, err)) == NULL)
        goto out;
    if (i == *count) {
        if ((new_name = cc_strdup(name, err)) == NULL || grow_pairs(l, names, err) != 0)
            goto out;
        (*pairs)[i] = (struct config_pair){ .name = new_name };
        new_name = NULL;
        (*count)++;
    }
    free_text((*pairs)[i].value);
    (*pairs)[i].value = new_value;
    new_value = NULL;
    l->pairs[names - config_names][i] = *at;
    rc = 0;
out:
    free(new_name);
    free(new_value);
    return rc;
}

static bool
name_listed(const struct config_names *names, const char *name)
{
    for (size_t i = 0; names->names[i] != NULL; i++) {
        if (strcmp(names->names[i], name) == 0)
            return true;
    }
    return false;
}

static int
set_pair(struct loader *l, const struct config_origin *at, const struct config_names *names,
        const char *name, const char *value, struct cc_err *err)
{
    struct cc_err why = { .domain = CC_DOM_NONE };
    char hint[256];

    if (names->names != NULL && !name_listed(names, name))
        return config_fail(at, names->section, name, err, "there is no such key; %s",
                config_hint_key(names->section, name, hint, sizeof(hint)));
    if ((names->check_name != NULL &&
                (config_value_check(name, &why) != 0 || names->check_name(name, &why) != 0)) ||
            config_value_check(value, &why) != 0 || names->check(value, &why) != 0)
        return config_fail(at, names->section, name, err, "%s", why.text);
    return store_pair(l, at, names, name, value, err);
}

/* ---- sections ---- */

/* The table's name of a section that stands once, or NULL. */
static const char *
section_known(const char *section)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        if (strcmp(config_settings[i].section, section) == 0)
            return config_settings[i].section;
    }
    return config_names_find(section) != NULL ? config_names_find(section)->section : NULL;
}

static int
add_item(struct loader *l, const struct config_origin *at, const struct config_group *group,
        const char *name, struct cc_err *err)
{
    struct config_item_trace **traces = &l->trace.items[group - config_groups];
    size_t count = config_group_count(l->config, group);
    void *grown;

    if (count == CONFIG_ITEMS_MAX)
        return config_fail(at, group->shown, NULL, err, "there are more than %d of these sections",
                CONFIG_ITEMS_MAX);
    if ((grown = realloc(*traces, (count + 1) * sizeof(**traces))) == NULL)
        return cc_err_nomem(err);
    *traces = grown;
    memset(&(*traces)[count], 0, sizeof(**traces));
    (*traces)[count].begin = *at;
    return config_group_add(l->config, group, name, err);
}

/* The item that a section is about; made when it is not there. */
static int
find_item(struct loader *l, const struct config_origin *at, const struct config_group *group,
        const char *text, struct section *ret, struct cc_err *err)
{
    struct cc_err why = { .domain = CC_DOM_NONE };
    char name[CONFIG_NAME_MAX + 1];
    size_t i;

    if (config_group_name(group, text, name, &why) != 0)
        return config_fail(at, text, NULL, err, "%s", why.text);
    i = config_group_index(l->config, group, name);
    if (i == config_group_count(l->config, group) && add_item(l, at, group, name, err) != 0)
        return -1;
    ret->name = group->section;
    config_group_label(group, name, ret->label);
    ret->object = config_group_item(l->config, group, i);
    ret->item = &l->trace.items[group - config_groups][i];
    ret->origins = ret->item->settings;
    return 0;
}

static int
find_section(struct loader *l, const struct config_origin *at, const char *text,
        struct section *ret, struct cc_err *err)
{
    const struct config_group *group = config_group_find(text);
    char hint[256];

    if (group != NULL)
        return find_item(l, at, group, text, ret, err);
    if ((ret->name = section_known(text)) == NULL)
        return config_fail(at, text, NULL, err, "there is no such section; %s",
                config_hint_section(text, hint, sizeof(hint)));
    (void)cc_strcpy(ret->label, sizeof(ret->label), ret->name);
    ret->object = l->config;
    ret->origins = l->trace.settings;
    ret->item = NULL;
    return 0;
}

/* For what is missing later: where a section begins in the main file. */
static void
note_begin(struct loader *l, const struct config_origin *at, const char *name)
{
    size_t n = l->trace.section_count;

    if (at->file != l->trace.main.file || n == CC_COUNT(l->trace.sections))
        return;
    for (size_t i = 0; i < n; i++) {
        if (l->trace.sections[i].name == name)
            return;
    }
    l->trace.sections[n].name = name;
    l->trace.sections[n].origin = *at;
    l->trace.section_count++;
}

/* config_reader's section. */
static int
on_section(void *arg, const struct config_origin *at, const char *text, struct cc_err *err)
{
    struct loader *l = arg;
    struct section section;

    if (find_section(l, at, text, &section, err) != 0)
        return -1;
    if (section.item == NULL) {
        note_begin(l, at, section.name);
        return 0;
    }
    if (section.item->section.file != NULL && same_file(&section.item->section, at))
        return config_fail(at, section.label, NULL, err,
                "this section stands here a second time; line %d begins it, join them",
                section.item->section.line);
    section.item->section = *at;
    return 0;
}

/* config_reader's entry, and what an override comes to. */
static int
on_entry(void *arg, const struct config_origin *at, const char *text, const char *key,
        const char *value, struct cc_err *err)
{
    struct loader *l = arg;
    const struct config_setting *setting;
    const struct config_names *names;
    struct section section;
    char hint[256];

    if (find_section(l, at, text, &section, err) != 0)
        return -1;
    if ((setting = config_setting_find(section.name, key)) != NULL)
        return set_value(&section, at, setting, value, err);
    if ((names = config_names_find(section.name)) != NULL)
        return set_pair(l, at, names, key, value, err);
    return config_fail(at, section.label, key, err, "there is no such key; %s",
            config_hint_key(section.name, key, hint, sizeof(hint)));
}

/* ---- files and overrides ---- */

static int
load_file(struct loader *l, const struct config_file *file, bool is_main, struct cc_err *err)
{
    const struct config_reader reader = {
        .file = file->path,
        .section = on_section,
        .entry = on_entry,
        .arg = l,
    };
    int lines = 0;

    if (is_main)
        l->trace.main = (struct config_origin){ .file = reader.file, .line = 1 };
    if (config_read_text(&reader, cc_buf_str(&file->text), file->text.len, &lines, err) != 0)
        return -1;
    if (is_main && lines > 0)
        l->trace.main.line = lines;
    return 0;
}

static const struct config_origin command_line = { .file = "command line", .line = 0 };

int
config_setting_split(const char *text, size_t len, struct config_setting_name *ret,
        struct cc_err *err)
{
    const struct config_group *group = config_group_find(text);
    const char *dot = memchr(text, '.', len);
    const char *last = memrchr(text, '.', len);
    int written;

    /* the value is not repeated: it may be a secret in the wrong place */
    if (dot == NULL || dot == text || dot + 1 == text + len)
        return config_fail(&command_line, NULL, NULL, err, "a setting must be SECTION.KEY=VALUE");
    if (group != NULL && dot == last)
        return config_fail(&command_line, NULL, NULL, err, "this setting must be %s.NAME.KEY=VALUE",
                group->section);
    if (group == NULL)
        last = dot;
    if ((size_t)(text + len - last) > sizeof(ret->key))
        return config_fail(&command_line, NULL, NULL, err, "this key is too long");
    written = group == NULL ? snprintf(ret->section, sizeof(ret->section), "%.*s",
                                      (int)(dot - text), text)
                            : snprintf(ret->section, sizeof(ret->section), "%s \"%.*s\"",
                                      group->section, (int)(last - dot - 1), dot + 1);
    if (written < 0 || (size_t)written >= sizeof(ret->section))
        return config_fail(&command_line, NULL, NULL, err, "the section's name is too long");
    memcpy(ret->key, last + 1, (size_t)(text + len - last) - 1);
    ret->key[text + len - last - 1] = '\0';
    return 0;
}

/* "section.key=value", or where a section has names, which may have dots themselves, "section.name.key=value". */
static int
load_override(struct loader *l, const char *text, struct cc_err *err)
{
    const char *equals = strchr(text, '=');
    struct config_setting_name name;

    if (equals == NULL)
        return config_fail(&command_line, NULL, NULL, err, "a setting must be SECTION.KEY=VALUE");
    if (config_setting_split(text, (size_t)(equals - text), &name, err) != 0)
        return -1;
    return on_entry(l, &command_line, name.section, name.key, equals + 1, err);
}

static int
load_defaults(struct loader *l, struct cc_err *err)
{
    const struct config_setting *name = config_setting_find("connector", "name");
    char host[256] = "";

    if (config_object_defaults(l->config, NULL, err) != 0)
        return -1;
    if (gethostname(host, sizeof(host) - 1) != 0 || host[0] == '\0' ||
            config_check_name(host, NULL) != 0)
        (void)cc_strcpy(host, sizeof(host), "connector");
    return config_text_set(l->config, name->offset, host, err);
}

static void
loader_close(struct loader *l)
{
    config_free(l->config);
    for (size_t i = 0; i < CC_COUNT(l->pairs); i++)
        free(l->pairs[i]);
    for (size_t i = 0; i < CC_COUNT(l->trace.items); i++)
        free(l->trace.items[i]);
}

int
config_load_files(const struct config_files *files, const char *const *overrides,
        size_t override_count, struct config **ret_config, struct cc_err *err)
{
    struct loader l = { .config = calloc(1, sizeof(*l.config)) };
    int rc = -1;

    if (l.config == NULL)
        return cc_err_nomem(err);
    if (load_defaults(&l, err) != 0)
        goto out;
    for (size_t i = 0; i < files->count; i++) {
        if (load_file(&l, &files->file[i], i == 0, err) != 0)
            goto out;
    }
    for (size_t i = 0; i < override_count; i++) {
        if (load_override(&l, overrides[i], err) != 0)
            goto out;
    }
    if (config_check_whole(l.config, &l.trace, err) != 0)
        goto out;

    *ret_config = l.config;
    l.config = NULL;
    rc = 0;
out:
    loader_close(&l);
    return rc;
}

int
config_load(const char *path, const char *const *overrides, size_t override_count,
        struct config **ret_config, struct cc_err *err)
{
    struct config_files files = { .count = 0 };
    int rc = config_files_read(path, false, &files, err);

    if (rc == 0)
        rc = config_load_files(&files, overrides, override_count, ret_config, err);
    config_files_free(&files);
    return rc;
}

int
config_check_setting(const char *setting, struct cc_err *err)
{
    struct loader l = { .config = calloc(1, sizeof(*l.config)) };
    int rc = -1;

    if (l.config == NULL)
        return cc_err_nomem(err);
    if (load_defaults(&l, err) == 0)
        rc = load_override(&l, setting, err);
    loader_close(&l);
    return rc;
}

void
config_free(struct config *config)
{
    if (config == NULL)
        return;
    config_object_free(config, NULL);
    for (size_t i = 0; i < CONFIG_GROUPS_COUNT; i++)
        config_group_free(config, &config_groups[i]);
    for (size_t i = 0; i < CONFIG_NAMES_COUNT; i++) {
        struct config_pair *pairs = *pairs_of(config, &config_names[i]);

        for (size_t j = 0; j < *count_of(config, &config_names[i]); j++) {
            free_text(pairs[j].name);
            free_text(pairs[j].value);
        }
        free(pairs);
    }
    free(config);
}

const char *
config_key(const struct config *config, const char *role)
{
    size_t i = config_pair_index(config->keys, config->key_count, role);

    return i < config->key_count ? config->keys[i].value : NULL;
}

int
config_identity_path(const char *state_directory, const char *name, struct cc_buf *ret,
        struct cc_err *err)
{
    return cc_buf_printf(ret, err, "%s/identity-%s.pem", state_directory, name);
}

const struct config_ca *
config_ca_find(const struct config *config, const char *name)
{
    return config_group_get(config, config_group_find("ca"), name);
}

const struct config_profile *
config_profile_find(const struct config *config, const char *name)
{
    return config_group_get(config, config_group_find("profile"), name);
}
