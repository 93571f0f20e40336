/* SPDX-License-Identifier: MIT */

/* Which effective settings of two configurations differ. */

#include "config_int.h"

#include <string.h>

#include "base/buf.h"

struct comparison {
    bool all; /* not only what differs */
    config_change_fn fn;
    void *arg;
};

/* Empty text means "not set". */
static void
compare_texts(const struct comparison *c, const char *section, const char *key, bool secret,
        const char *old_text, const char *new_text)
{
    bool same = strcmp(old_text, new_text) == 0;

    if (same && (!c->all || new_text[0] == '\0'))
        return;
    if (secret && old_text[0] != '\0')
        old_text = "***";
    if (secret && new_text[0] != '\0')
        new_text = "***";
    c->fn(c->arg, section, key, old_text[0] == '\0' ? NULL : old_text,
            new_text[0] == '\0' ? NULL : new_text);
}

/* An object that is NULL has no settings. */
static void
compare_setting(const struct comparison *c, const char *section,
        const struct config_setting *setting, const void *old, const void *new_object)
{
    struct cc_buf old_text = CC_BUF_INIT(2 * CONFIG_LINE_MAX);
    struct cc_buf new_text = CC_BUF_INIT(2 * CONFIG_LINE_MAX);

    /* fails only without memory; a setting that cannot be shown is left out */
    if ((old == NULL || config_value_write(setting, old, &old_text, NULL) == 0) &&
            (new_object == NULL || config_value_write(setting, new_object, &new_text, NULL) == 0))
        compare_texts(c, section, setting->key, setting->secret, cc_buf_str(&old_text),
                cc_buf_str(&new_text));
    cc_buf_free(&old_text);
    cc_buf_free(&new_text);
}

/* One and the same item, of which one may be NULL. */
static void
compare_items(const struct comparison *c, const struct config_group *group, const void *old,
        const void *new_item)
{
    char label[CONFIG_SECTION_MAX];

    config_group_label(group, config_item_name(new_item != NULL ? new_item : old), label);
    for (size_t i = 0; i < config_setting_count; i++) {
        if (config_setting_group(&config_settings[i]) == group)
            compare_setting(c, label, &config_settings[i], old, new_item);
    }
}

static void
compare_group(const struct comparison *c, const struct config_group *group,
        const struct config *old, const struct config *new_config)
{
    size_t old_count = old == NULL ? 0 : config_group_count(old, group);

    for (size_t i = 0; i < old_count; i++) {
        const void *item = config_group_item(old, group, i);

        if (config_group_get(new_config, group, config_item_name(item)) == NULL)
            compare_items(c, group, item, NULL);
    }
    for (size_t i = 0; i < config_group_count(new_config, group); i++) {
        const void *item = config_group_item(new_config, group, i);

        compare_items(c, group,
                old == NULL ? NULL : config_group_get(old, group, config_item_name(item)), item);
    }
}

static void
compare_names(const struct comparison *c, const char *section, const struct config_pair *old,
        size_t old_count, const struct config_pair *new_pairs, size_t new_count)
{
    for (size_t i = 0; i < old_count; i++) {
        if (config_pair_index(new_pairs, new_count, old[i].name) == new_count)
            compare_texts(c, section, old[i].name, false, old[i].value, "");
    }
    for (size_t i = 0; i < new_count; i++) {
        size_t at = config_pair_index(old, old_count, new_pairs[i].name);

        compare_texts(c, section, new_pairs[i].name, false, at < old_count ? old[at].value : "",
                new_pairs[i].value);
    }
}

void
config_compare(const struct config *old, const struct config *new_config, config_change_fn fn,
        void *arg)
{
    struct comparison c = { .all = old == NULL, .fn = fn, .arg = arg };

    for (size_t i = 0; i < config_setting_count; i++) {
        const struct config_setting *s = &config_settings[i];

        if (config_setting_group(s) == NULL)
            compare_setting(&c, s->section, s, old, new_config);
    }
    compare_names(&c, "keys", old == NULL ? NULL : old->keys, old == NULL ? 0 : old->key_count,
            new_config->keys, new_config->key_count);
    compare_names(&c, "key-alias", old == NULL ? NULL : old->key_aliases,
            old == NULL ? 0 : old->key_alias_count, new_config->key_aliases,
            new_config->key_alias_count);
    for (size_t i = 0; i < CONFIG_GROUPS_COUNT; i++)
        compare_group(&c, &config_groups[i], old, new_config);
}
