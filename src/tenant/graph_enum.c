/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

static const char *
find(const char *const *names, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (cc_equal_nocase(names[i], text))
            return names[i];
    return NULL;
}

const char *
graph_purpose(const char *text)
{
    static const char *const names[] = { "unassigned", "smimeEncryption", "smimeSigning", "vpn",
        "wifi" };

    return find(names, CC_COUNT(names), text);
}

const char *
graph_padding(const char *text)
{
    static const char *const names[] = { "none", "pkcs1", "oaepSha1", "oaepSha256", "oaepSha384",
        "oaepSha512" };

    return find(names, CC_COUNT(names), text);
}
