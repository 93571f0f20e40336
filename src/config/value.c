/* SPDX-License-Identifier: MIT */

/* Values: from text to their field and back. */

#include "config_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static void *
field(void *object, size_t offset)
{
    return (char *)object + offset;
}

static const void *
field_of(const void *object, size_t offset)
{
    return (const char *)object + offset;
}

const char *
config_text_get(const void *object, size_t offset)
{
    const char *text;

    memcpy(&text, field_of(object, offset), sizeof(text));
    return text;
}

int
config_text_set(void *object, size_t offset, const char *value, struct cc_err *err)
{
    char **slot = field(object, offset);
    char *copy = NULL;

    if (value != NULL && (copy = cc_strdup(value, err)) == NULL)
        return -1;
    free(*slot);
    *slot = copy;
    return 0;
}

void
config_text_free(void *object, size_t offset)
{
    char **slot = field(object, offset);

    free(*slot);
    *slot = NULL;
}

/* The number of a word among choices, or -1. */
static int
find_word(const char *const *choices, const char *word)
{
    for (int i = 0; choices[i] != NULL; i++) {
        if (strcmp(choices[i], word) == 0)
            return i;
    }
    return -1;
}

static int
bad_word(const char *const *choices, const char *word, struct cc_err *err)
{
    char list[192] = "";
    char shown[64];
    size_t len = 0;

    for (int i = 0; choices[i] != NULL && len < sizeof(list); i++)
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i == 0 ? "" : ", ",
                choices[i]);
    return cc_err_set(err, CC_DOM_CONFIG, 0, "\"%s\" is no choice; write one of %s",
            cc_escape_into(shown, sizeof(shown), word), list);
}

/* A text, or an item of a list. */
static int
check_text(const struct config_setting *setting, const char *value, struct cc_err *err)
{
    bool by_word = setting->choices != NULL;

    if (by_word && setting->check != NULL && value[0] >= '0' && value[0] <= '9')
        by_word = false;
    if (!by_word)
        return setting->check(value, err);
    return find_word(setting->choices, value) >= 0 ? 0 : bad_word(setting->choices, value, err);
}

static int
read_text(const struct config_setting *setting, const char *value, void *object, struct cc_err *err)
{
    if (value != NULL && check_text(setting, value, err) != 0)
        return -1;
    return config_text_set(object, setting->offset, value, err);
}

static int
read_unsigned(const struct config_setting *setting, const char *value, void *object,
        struct cc_err *err)
{
    int64_t number = 0;

    if (setting->zero != NULL && strcmp(value, setting->zero) == 0) {
        number = 0;
    } else if (cc_parse_int(value, setting->min, setting->max, &number, NULL) != 0) {
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "must be %s%sa number from %" PRId64 " to %" PRId64,
                setting->zero == NULL ? "" : setting->zero, setting->zero == NULL ? "" : " or ",
                setting->min, setting->max);
    }
    *(unsigned *)field(object, setting->offset) = (unsigned)number;
    return 0;
}

/* The largest unit that divides a number of milliseconds. */
static void
duration_text(int64_t ms, char *text, size_t size)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 } };

    for (size_t i = 0; i < CC_COUNT(units); i++) {
        if (ms >= units[i].ms && ms % units[i].ms == 0) {
            (void)snprintf(text, size, "%" PRId64 "%s", ms / units[i].ms, units[i].unit);
            return;
        }
    }
    (void)snprintf(text, size, "%" PRId64 "ms", ms);
}

static int
read_duration(const struct config_setting *setting, const char *value, void *object,
        struct cc_err *err)
{
    int64_t ms;
    char low[32], high[32];

    if (cc_parse_duration_ms(value, &ms, NULL) != 0)
        return config_bad(err, "must be a time with its unit: 250ms, 10s, 30m, 12h or 365d");
    if (ms < setting->min || ms > setting->max) {
        duration_text(setting->min, low, sizeof(low));
        duration_text(setting->max, high, sizeof(high));
        return cc_err_set(err, CC_DOM_CONFIG, 0, "must be from %s to %s", low, high);
    }
    *(int64_t *)field(object, setting->offset) = ms;
    return 0;
}

static int
read_size(const struct config_setting *setting, const char *value, void *object, struct cc_err *err)
{
    uint64_t size;

    if (cc_parse_size(value, &size, NULL) != 0)
        return config_bad(err, "must be a size in bytes or with K, M or G: 50M");
    if (size < (uint64_t)setting->min || size > (uint64_t)setting->max)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "must be from %" PRId64 "K to %" PRId64 "G",
                setting->min >> 10, setting->max >> 30);
    *(uint64_t *)field(object, setting->offset) = size;
    return 0;
}

static int
read_bool(const struct config_setting *setting, const char *value, void *object, struct cc_err *err)
{
    if (cc_parse_bool(value, field(object, setting->offset), NULL) != 0)
        return config_bad(err, "must be yes or no");
    return 0;
}

static int
read_choice(const struct config_setting *setting, const char *value, void *object,
        struct cc_err *err)
{
    int i = find_word(setting->choices, value);

    if (i < 0)
        return bad_word(setting->choices, value, err);
    /* every enum of struct config is as wide as an int */
    *(int *)field(object, setting->offset) = i;
    return 0;
}

/* The next part of "a, b, c", without the blanks around it; false behind the last, when *at is NULL. */
static bool
next_part(const char **at, const char **ret_part, size_t *ret_len)
{
    const char *part = *at;
    size_t len;

    if (part == NULL)
        return false;
    part += strspn(part, " "); /* config_value_check() has refused tabs */
    len = strcspn(part, ",");
    *at = part[len] == ',' ? part + len + 1 : NULL;
    while (len > 0 && part[len - 1] == ' ')
        len--;
    *ret_part = part;
    *ret_len = len;
    return true;
}

static int
add_feature(const char *word, unsigned *features, struct cc_err *err)
{
    const char *names[8];
    char shown[64];
    const char *near;

    for (size_t i = 0; i < config_feature_name_count; i++) {
        const struct config_feature_name *f = &config_feature_names[i];

        names[i] = f->name;
        if (strcmp(f->name, word) != 0)
            continue;
        if ((*features & f->bit) != 0)
            return cc_err_set(err, CC_DOM_CONFIG, 0, "%s stands here twice; remove one", f->name);
        *features |= f->bit;
        return 0;
    }
    near = cc_nearest(word, names, config_feature_name_count);
    return cc_err_set(err, CC_DOM_CONFIG, 0, "there is no feature \"%s\"; %s%s",
            cc_escape_into(shown, sizeof(shown), word),
            near == NULL ? "write pkcs, pfx-import, scep or revocation" : "did you mean ",
            near == NULL ? "" : near);
}

static int
read_features(const struct config_setting *setting, const char *value, void *object,
        struct cc_err *err)
{
    const char *at = value;
    const char *part;
    unsigned features = 0;
    size_t len;

    while (next_part(&at, &part, &len)) {
        char word[32];

        if (len == 0 || len >= sizeof(word))
            return config_bad(err, "must be features with commas between them: pkcs, pfx-import");
        memcpy(word, part, len);
        word[len] = '\0';
        if (add_feature(word, &features, err) != 0)
            return -1;
    }
    *(unsigned *)field(object, setting->offset) = features;
    return 0;
}

/* ---- lists ---- */

static struct config_list
list_of(const void *object, size_t offset)
{
    struct config_list list;

    memcpy(&list, field_of(object, offset), sizeof(list));
    return list;
}

static void
set_list(void *object, size_t offset, struct config_list list)
{
    free((void *)(uintptr_t)list_of(object, offset).item);
    memcpy(field(object, offset), &list, sizeof(list));
}

static size_t
count_parts(const char *value)
{
    const char *part;
    size_t len, count = 0;

    while (next_part(&value, &part, &len))
        count++;
    return count;
}

static int
check_part(const struct config_setting *setting, char *const *items, size_t i, struct cc_err *err)
{
    struct cc_err why = { .domain = CC_DOM_NONE };

    if (items[i][0] == '\0')
        return config_bad(err,
                "must be a list with commas between its items, and none of them empty");
    if (check_text(setting, items[i], &why) != 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "item %zu of the list: %s", i + 1, why.text);
    for (size_t j = 0; j < i; j++) {
        if (strcmp(items[i], items[j]) == 0)
            return cc_err_set(err, CC_DOM_CONFIG, 0,
                    "item %zu of the list is item %zu again; remove one", i + 1, j + 1);
    }
    return 0;
}

/* One block: the pointers, then what they point to. */
static int
read_list(const struct config_setting *setting, const char *value, void *object, struct cc_err *err)
{
    size_t count = count_parts(value);
    size_t len, i = 0;
    const char *part;
    char **items;
    char *text;

    if (count > CONFIG_LIST_MAX || strlen(value) > CONFIG_LINE_MAX)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "is too long a list; at most %d items and %d bytes are read", CONFIG_LIST_MAX,
                CONFIG_LINE_MAX);
    if ((items = malloc(count * sizeof(*items) + strlen(value) + 1)) == NULL)
        return cc_err_nomem(err);
    text = (char *)(items + count);
    while (next_part(&value, &part, &len)) {
        memcpy(text, part, len);
        text[len] = '\0';
        items[i] = text;
        text += len + 1;
        if (check_part(setting, items, i++, err) != 0) {
            free(items);
            return -1;
        }
    }
    set_list(object, setting->offset,
            (struct config_list){ .item = (const char *const *)items, .count = count });
    return 0;
}

int
config_value_read(const struct config_setting *setting, const char *value, void *object,
        struct cc_err *err)
{
    if (setting->form == CONFIG_FORM_TEXT)
        return read_text(setting, value, object, err);
    if (value == NULL) /* without a default: all bits 0, as the struct was made */
        return 0;
    switch (setting->form) {
    case CONFIG_FORM_UNSIGNED:
        return read_unsigned(setting, value, object, err);
    case CONFIG_FORM_DURATION:
        return read_duration(setting, value, object, err);
    case CONFIG_FORM_SIZE:
        return read_size(setting, value, object, err);
    case CONFIG_FORM_BOOL:
        return read_bool(setting, value, object, err);
    case CONFIG_FORM_CHOICE:
        return read_choice(setting, value, object, err);
    case CONFIG_FORM_LIST:
        return read_list(setting, value, object, err);
    default:
        return read_features(setting, value, object, err);
    }
}

static int
write_unsigned(const struct config_setting *setting, unsigned number, struct cc_buf *ret,
        struct cc_err *err)
{
    if (number == 0 && setting->zero != NULL)
        return cc_buf_add_str(ret, setting->zero, err);
    return cc_buf_printf(ret, err, "%u", number);
}

static int
write_duration(int64_t ms, struct cc_buf *ret, struct cc_err *err)
{
    char text[32];

    duration_text(ms, text, sizeof(text));
    return cc_buf_add_str(ret, text, err);
}

static int
write_size(uint64_t size, struct cc_buf *ret, struct cc_err *err)
{
    static const struct {
        const char *unit;
        unsigned shift;
    } units[] = { { "G", 30 }, { "M", 20 }, { "K", 10 } };

    for (size_t i = 0; i < CC_COUNT(units); i++) {
        if (size != 0 && size % (UINT64_C(1) << units[i].shift) == 0)
            return cc_buf_printf(ret, err, "%" PRIu64 "%s", size >> units[i].shift, units[i].unit);
    }
    return cc_buf_printf(ret, err, "%" PRIu64, size);
}

static int
write_list(struct config_list list, struct cc_buf *ret, struct cc_err *err)
{
    for (size_t i = 0; i < list.count; i++) {
        if (cc_buf_printf(ret, err, "%s%s", i == 0 ? "" : ", ", list.item[i]) != 0)
            return -1;
    }
    return 0;
}

static int
write_features(unsigned features, struct cc_buf *ret, struct cc_err *err)
{
    bool first = true;

    for (size_t i = 0; i < config_feature_name_count; i++) {
        if ((features & config_feature_names[i].bit) == 0)
            continue;
        if (cc_buf_printf(ret, err, "%s%s", first ? "" : ", ", config_feature_names[i].name) != 0)
            return -1;
        first = false;
    }
    return 0;
}

int
config_value_write(const struct config_setting *setting, const void *object, struct cc_buf *ret,
        struct cc_err *err)
{
    const void *at = field_of(object, setting->offset);
    const char *text;

    switch (setting->form) {
    case CONFIG_FORM_TEXT:
        text = config_text_get(object, setting->offset);
        return text == NULL ? 0 : cc_buf_add_str(ret, text, err);
    case CONFIG_FORM_UNSIGNED:
        return write_unsigned(setting, *(const unsigned *)at, ret, err);
    case CONFIG_FORM_DURATION:
        return write_duration(*(const int64_t *)at, ret, err);
    case CONFIG_FORM_SIZE:
        return write_size(*(const uint64_t *)at, ret, err);
    case CONFIG_FORM_BOOL:
        return cc_buf_add_str(ret, *(const bool *)at ? "yes" : "no", err);
    case CONFIG_FORM_CHOICE:
        return cc_buf_add_str(ret, setting->choices[*(const int *)at], err);
    case CONFIG_FORM_LIST:
        return write_list(list_of(object, setting->offset), ret, err);
    default:
        return write_features(*(const unsigned *)at, ret, err);
    }
}

void
config_value_free(const struct config_setting *setting, void *object)
{
    if (setting->form == CONFIG_FORM_TEXT)
        config_text_free(object, setting->offset);
    else if (setting->form == CONFIG_FORM_LIST)
        set_list(object, setting->offset, (struct config_list){ .count = 0 });
}
