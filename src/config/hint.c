/* SPDX-License-Identifier: MIT */

/* What somebody may have meant who wrote a name that there is not. */

#include "config_int.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* The names of all sections, each once, in the table's order. */
static size_t
section_names(const char **names, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < config_setting_count && count < max; i++) {
        const char *section = config_settings[i].section;

        if (count == 0 || strcmp(names[count - 1], section) != 0)
            names[count++] = section;
    }
    for (size_t i = 0; i < CONFIG_NAMES_COUNT && count < max; i++)
        names[count++] = config_names[i].section;
    return count;
}

/* The keys of one section. */
static size_t
key_names(const char *section, const char **names, size_t max)
{
    const struct config_names *free_names = config_names_find(section);
    size_t count = 0;

    for (size_t i = 0; i < config_setting_count && count < max; i++) {
        if (strcmp(config_settings[i].section, section) == 0)
            names[count++] = config_settings[i].key;
    }
    for (size_t i = 0; free_names != NULL && free_names->names != NULL && count < max; i++) {
        if (free_names->names[i] == NULL)
            break;
        names[count++] = free_names->names[i];
    }
    return count;
}

/* "known are a, b, c", as far as it goes. */
static void
list_names(const char *const *names, size_t count, char *text, size_t size)
{
    size_t len = (size_t)snprintf(text, size, "known are");

    for (size_t i = 0; i < count && len < size; i++)
        len += (size_t)snprintf(text + len, size - len, "%s %s", i == 0 ? "" : ",", names[i]);
}

/* A section as it is written: "ca \"NAME\"". */
static const char *
shown(const char *section)
{
    const struct config_group *group = config_group_find(section);

    return group == NULL ? section : group->shown;
}

const char *
config_hint_section(const char *section, char *text, size_t size)
{
    const char *names[CONFIG_SETTINGS_MAX];
    size_t count = section_names(names, CC_COUNT(names));
    size_t len = strcspn(section, " \t\"");
    char word[CONFIG_SECTION_MAX];
    const char *near;

    /* its own name is no part of what the section is called */
    (void)snprintf(word, sizeof(word), "%.*s", (int)(len < sizeof(word) ? len : 0), section);
    if ((near = cc_nearest(word, names, count)) != NULL) {
        (void)snprintf(text, size, "did you mean [%s]?", shown(near));
        return text;
    }
    for (size_t i = 0; i < count; i++)
        names[i] = shown(names[i]);
    list_names(names, count, text, size);
    return text;
}

/* "it belongs in [a] or [b]"; false when no section has the key. */
static bool
list_owners(const char *key, char *text, size_t size)
{
    size_t len = 0;

    for (size_t i = 0; i < config_setting_count && len < size; i++) {
        const struct config_setting *s = &config_settings[i];

        if (strcmp(s->key, key) == 0)
            len += (size_t)snprintf(text + len, size - len, "%s[%s]",
                    len == 0 ? "it belongs in " : " or ", shown(s->section));
    }
    return len > 0;
}

const char *
config_hint_key(const char *section, const char *key, char *text, size_t size)
{
    const char *names[CONFIG_SETTINGS_MAX];
    size_t count = key_names(section, names, CC_COUNT(names));
    const char *near = cc_nearest(key, names, count);

    if (list_owners(key, text, size))
        return text;
    if (near != NULL)
        (void)snprintf(text, size, "did you mean %s?", near);
    else
        list_names(names, count, text, size);
    return text;
}

const char *
config_hint_item(const struct config *config, const struct config_group *group, const char *name,
        char *text, size_t size)
{
    const char *names[CONFIG_ITEMS_MAX];
    size_t count = config_group_count(config, group);
    const char *near;

    for (size_t i = 0; i < count; i++)
        names[i] = config_item_name(config_group_item(config, group, i));
    if ((near = cc_nearest(name, names, count)) != NULL)
        (void)snprintf(text, size, "did you mean %s?", near);
    else if (count > 0)
        list_names(names, count, text, size);
    else
        (void)snprintf(text, size, "add a section [%s \"%s\"]", group->section, name);
    return text;
}
