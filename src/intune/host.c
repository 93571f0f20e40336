/* SPDX-License-Identifier: MIT */
#include "intune_int.h"

#include <string.h>
#include <strings.h>

/*
 * Where discovery may send us.  It is the one who tells a connector where to bring its token and what it knows: an answer
 * that was forged, or is wrong, must not make it go to a host that the administrator did not mean.
 */

#define HOST_BYTES "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"

const char *
intune_url_host(const char *url, size_t *ret_len)
{
    const char *host = strstr(url, "://");

    host = host == NULL ? url : host + 3;
    *ret_len = host[0] == '[' ? strcspn(host, "]/") + (host[strcspn(host, "]/")] == ']')
                              : strcspn(host, ":/");
    return host;
}

/* A host itself, or what its name ends with behind a dot. */
static bool
is_below(const char *host, size_t len, const char *name)
{
    size_t name_len;

    name += name[0] == '.';
    name_len = strlen(name);
    if (len < name_len || strncasecmp(host + len - name_len, name, name_len) != 0)
        return false;
    return len == name_len || host[len - name_len - 1] == '.';
}

static bool
is_allowed(const struct intune_link *link, const char *host, size_t len)
{
    for (size_t i = 0; link->allowed_hosts[i] != NULL; i++)
        if (is_below(host, len, link->allowed_hosts[i]))
            return true;
    return false;
}

/* ":443", nothing, or any where it may be. */
static bool
is_port(const struct intune_link *link, const char *port)
{
    const size_t digits = port[0] == ':' ? strspn(port + 1, "0123456789") : 0;

    if (port[0] == '/' || port[0] == '\0')
        return true;
    if (port[0] != ':' || digits == 0 || digits > 5 ||
            (port[1 + digits] != '/' && port[1 + digits] != '\0'))
        return false;
    return link->any_port || link->allow_http || (digits == 3 && strncmp(port, ":443", 4) == 0);
}

static int
refuse(const char *provider, const char *uri, const char *why, struct cc_err *err)
{
    char text[128];

    return cc_err_set(err, CC_DOM_INPUT, 0, "the endpoint of %s %s: %s", provider, why,
            cc_escape_into(text, sizeof(text), uri));
}

int
intune_check_uri(const struct intune_link *link, const char *provider, const char *uri,
        struct cc_err *err)
{
    const char *host;
    size_t len;

    if (!cc_starts_with(uri, "https://") && !(link->allow_http && cc_starts_with(uri, "http://")))
        return refuse(provider, uri, "is not https", err);
    if (strpbrk(uri, "?#") != NULL)
        return refuse(provider, uri, "is no plain address", err);
    host = intune_url_host(uri, &len);
    if (memchr(host, '@', strcspn(host, "/")) != NULL)
        return refuse(provider, uri, "names a user", err);
    if (len == 0 || (host[0] != '[' && strspn(host, HOST_BYTES) != len))
        return refuse(provider, uri, "has no host", err);
    if (!is_port(link, host + len))
        return refuse(provider, uri, "is not at port 443", err);
    if (!is_allowed(link, host, len))
        return refuse(provider, uri, "is at a host that [service] allowed-hosts does not have",
                err);
    return 0;
}
