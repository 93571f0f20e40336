/* SPDX-License-Identifier: MIT */

/* Sections that stand once for each name: their items in struct config. */

#include "config_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define BLANK " \t"

const struct config_group *
config_group_find(const char *section)
{
    size_t len = strcspn(section, BLANK "\".");

    for (size_t i = 0; i < CONFIG_GROUPS_COUNT; i++) {
        const char *word = config_groups[i].section;

        if (strlen(word) == len && memcmp(word, section, len) == 0)
            return &config_groups[i];
    }
    return NULL;
}

int
config_group_name(const struct config_group *group, const char *section,
        char ret_name[CONFIG_NAME_MAX + 1], struct cc_err *err)
{
    const char *begin = section + strlen(group->section);
    size_t blanks = strspn(begin, BLANK);
    size_t len = strlen(begin + blanks);
    char name[CONFIG_NAME_MAX + 1];

    begin += blanks;
    if (blanks == 0 || len < 2 || begin[0] != '"' || begin[len - 1] != '"')
        return cc_err_set(err, CC_DOM_CONFIG, 0, "this section has a name in quotes; write [%s]",
                group->shown);
    len -= 2;
    if (len == 0 || len > CONFIG_NAME_MAX)
        return config_bad(err, "the name in quotes must have 1 to 64 bytes");
    memcpy(name, begin + 1, len);
    name[len] = '\0';
    if (config_check_name(name, NULL) != 0)
        return config_bad(err,
                "the name in quotes must be letters, digits, dots, dashes or underscores");
    memcpy(ret_name, name, len + 1);
    return 0;
}

const char *
config_group_label(const struct config_group *group, const char *name,
        char text[CONFIG_SECTION_MAX])
{
    (void)snprintf(text, CONFIG_SECTION_MAX, "%s \"%s\"", group->section, name);
    return text;
}

/* ---- items ---- */

static char **
items_of(struct config *config, const struct config_group *group)
{
    return (char **)(void *)((char *)config + group->items_offset);
}

static size_t *
count_of(struct config *config, const struct config_group *group)
{
    return (size_t *)(void *)((char *)config + group->count_offset);
}

size_t
config_group_count(const struct config *config, const struct config_group *group)
{
    size_t count;

    memcpy(&count, (const char *)config + group->count_offset, sizeof(count));
    return count;
}

void *
config_group_item(const struct config *config, const struct config_group *group, size_t i)
{
    char *items;

    memcpy(&items, (const char *)config + group->items_offset, sizeof(items));
    return items + i * group->item_size;
}

const char *
config_item_name(const void *item)
{
    return config_text_get(item, 0);
}

size_t
config_group_index(const struct config *config, const struct config_group *group, const char *name)
{
    size_t count = config_group_count(config, group);
    size_t i = 0;

    while (i < count && strcmp(config_item_name(config_group_item(config, group, i)), name) != 0)
        i++;
    return i;
}

void *
config_group_get(const struct config *config, const struct config_group *group, const char *name)
{
    size_t i = config_group_index(config, group, name);

    return i < config_group_count(config, group) ? config_group_item(config, group, i) : NULL;
}

int
config_group_add(struct config *config, const struct config_group *group, const char *name,
        struct cc_err *err)
{
    size_t *count = count_of(config, group);
    char **items = items_of(config, group);
    char *grown = realloc(*items, (*count + 1) * group->item_size);
    void *item;

    if (grown == NULL)
        return cc_err_nomem(err);
    *items = grown;
    item = grown + *count * group->item_size;
    memset(item, 0, group->item_size);
    if (config_text_set(item, 0, name, err) != 0)
        return -1;
    (*count)++;
    return config_object_defaults(item, group, err);
}

void
config_group_free(struct config *config, const struct config_group *group)
{
    char **items = items_of(config, group);
    size_t *count = count_of(config, group);

    for (size_t i = 0; i < *count; i++) {
        void *item = config_group_item(config, group, i);

        config_object_free(item, group);
        config_text_free(item, 0);
    }
    free(*items);
    *items = NULL;
    *count = 0;
}

/* ---- their settings ---- */

int
config_object_defaults(void *object, const struct config_group *group, struct cc_err *err)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct config_setting *s = &config_settings[i];

        if (config_setting_group(s) == group && config_value_read(s, s->fallback, object, err) != 0)
            return -1;
    }
    return 0;
}

void
config_object_free(void *object, const struct config_group *group)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        if (config_setting_group(&config_settings[i]) == group)
            config_value_free(&config_settings[i], object);
    }
}
