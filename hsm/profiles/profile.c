/* SPDX-License-Identifier: MIT */
#include "hsm/profiles/profile.h"

#include <string.h>

#include "base/compiler.h"

static const struct profile *const profiles[] = {
    &profile_softhsm,
    &profile_nss_softokn,
    &profile_p11_kit_client,
    &profile_generic,
};

const struct profile *
profile_by_name(const char *name)
{
    for (size_t i = 0; i < CC_COUNT(profiles); i++)
        if (strcmp(profiles[i]->name, name) == 0)
            return profiles[i];
    return NULL;
}

const struct profile *
profile_by_module(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *file = slash == NULL ? path : slash + 1;

    for (size_t i = 0; i < CC_COUNT(profiles); i++)
        if (profiles[i]->module != NULL && strcmp(profiles[i]->module, file) == 0)
            return profiles[i];
    return &profile_generic;
}

static bool
profile_begins(const char *want, const CK_UTF8CHAR *field, size_t size)
{
    return want != NULL && strlen(want) <= size && memcmp(want, field, strlen(want)) == 0;
}

const struct profile *
profile_by_info(const CK_INFO *library, const CK_TOKEN_INFO *token, const struct profile *fallback)
{
    for (size_t i = 0; i < CC_COUNT(profiles); i++) {
        const struct profile *p = profiles[i];

        if (profile_begins(p->library_manufacturer, library->manufacturerID,
                    sizeof(library->manufacturerID)) &&
                profile_begins(p->token_manufacturer, token->manufacturerID,
                        sizeof(token->manufacturerID)))
            return p;
    }
    return fallback;
}

bool
profile_has_gap(const struct profile *profile, CK_VERSION library, enum profile_gap gap)
{
    const CK_VERSION last = profile->gaps_until;

    if ((profile->gaps & gap) == 0)
        return false;
    if (last.major == 0 && last.minor == 0)
        return true;
    return library.major < last.major ||
           (library.major == last.major && library.minor <= last.minor);
}
