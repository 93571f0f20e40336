/* SPDX-License-Identifier: MIT */
#include "eventlog/catalogue.h"

#include <stdlib.h>

#include "base/text.h"

#define EVENT_TYPE(number, symbol, text, in, of, how)                                              \
    {                                                                                              \
        .id = EVENT_##symbol,                                                                      \
        .name = (text),                                                                            \
        .channel = EVENT_CHANNEL_##in,                                                             \
        .category = EVENT_CATEGORY_##of,                                                           \
        .level = EVENT_LEVEL_##how,                                                                \
    },

static const struct event_type catalogue[] = { EVENT_CATALOGUE(EVENT_TYPE) };

static const char *const channels[] = {
    [EVENT_CHANNEL_ADMIN] = "Admin",
    [EVENT_CHANNEL_OPERATIONAL] = "Operational",
};

static const char *const categories[] = {
    [EVENT_CATEGORY_GENERAL] = "General",
    [EVENT_CATEGORY_PKCS] = "PKCS",
    [EVENT_CATEGORY_PKCS_IMPORT] = "PKCS Import",
    [EVENT_CATEGORY_REVOCATION] = "Revocation",
    [EVENT_CATEGORY_SCEP] = "SCEP",
    [EVENT_CATEGORY_HEALTH] = "Health",
};

static const char *const levels[] = {
    [EVENT_LEVEL_ERROR] = "Error",
    [EVENT_LEVEL_WARNING] = "Warning",
    [EVENT_LEVEL_INFORMATION] = "Information",
    [EVENT_LEVEL_DEBUG] = "Debug",
};

static int
by_id(const void *id, const void *type)
{
    int a = *(const int *)id;
    int b = (int)((const struct event_type *)type)->id;

    return (a > b) - (a < b);
}

const struct event_type *
event_type_get(int id)
{
    return bsearch(&id, catalogue, CC_COUNT(catalogue), sizeof(catalogue[0]), by_id);
}

const struct event_type *
event_type_find(const char *name)
{
    if (cc_equal_nocase(name, "ScepRequestSuccess"))
        return event_type_get(EVENT_SCREP_REQUEST_SUCCESS);
    for (size_t i = 0; i < CC_COUNT(catalogue); i++) {
        if (cc_equal_nocase(name, catalogue[i].name))
            return &catalogue[i];
    }
    return NULL;
}

const struct event_type *
event_types(size_t *ret_count)
{
    *ret_count = CC_COUNT(catalogue);
    return catalogue;
}

const char *
event_channel_name(enum event_channel channel)
{
    return channels[channel];
}

const char *
event_category_name(enum event_category category)
{
    return categories[category];
}

const char *
event_level_name(enum event_level level)
{
    return levels[level];
}

static int
parse(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (cc_equal_nocase(name, names[i]))
            return (int)i;
    }
    return -1;
}

int
event_channel_parse(const char *name)
{
    return parse(name, channels, CC_COUNT(channels));
}

int
event_category_parse(const char *name)
{
    return parse(name, categories, CC_COUNT(categories));
}
