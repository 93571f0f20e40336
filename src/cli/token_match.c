/* SPDX-License-Identifier: MIT */
#include "token_match.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* The value of one attribute against a text, percent-escapes resolved. */
static bool
equals(const char *value, size_t len, const char *text)
{
    for (size_t i = 0; i < len; text++) {
        const char hex[3] = { i + 1 < len ? value[i + 1] : '\0', i + 2 < len ? value[i + 2] : '\0',
            '\0' };
        char c = value[i];

        if (c == '%' && i + 2 < len) {
            c = (char)strtoul(hex, NULL, 16);
            i += 2;
        }
        i++;
        if (*text == '\0' || *text != c)
            return false;
    }
    return *text == '\0';
}

/* An attribute that says nothing of tokens matches. */
static bool
attribute_matches(const char *attribute, size_t len, const struct hsm_admin_token *token)
{
    const struct {
        const char *name, *text;
    } known[] = {
        { "token=", token->label },
        { "serial=", token->serial },
        { "manufacturer=", token->manufacturer },
        { "model=", token->model },
    };

    for (size_t i = 0; i < CC_COUNT(known); i++) {
        const size_t name_len = strlen(known[i].name);

        if (len >= name_len && strncmp(attribute, known[i].name, name_len) == 0)
            return equals(attribute + name_len, len - name_len, known[i].text);
    }
    return true;
}

bool
cli_token_matches(const char *uri, const struct hsm_admin_token *token)
{
    const char *at = cc_starts_with(uri, "pkcs11:") ? uri + strlen("pkcs11:") : uri;

    if (!token->initialised)
        return false;
    while (*at != '\0' && *at != '?') {
        const size_t len = strcspn(at, ";?");

        if (!attribute_matches(at, len, token))
            return false;
        at += len;
        if (*at == ';')
            at++;
    }
    return true;
}

bool
cli_key_label(const char *uri, char *ret, size_t size)
{
    const char *label = strstr(uri, "object=");
    const size_t len = label != NULL ? strcspn(label + 7, ";?") : 0;

    if (len == 0 || len >= size || memchr(label + 7, '%', len) != NULL)
        return false;
    memcpy(ret, label + 7, len);
    ret[len] = '\0';
    return true;
}
