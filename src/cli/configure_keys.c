/* SPDX-License-Identifier: MIT */

/* The token's keys, and which of them a configuration means. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "configure.h"

#define VALUE_MAX 256

static const struct {
    const char *usual;
    const char *types; /* that the role can have */
} role_types[HSM_ROLE_COUNT] = {
    [HSM_ROLE_PFX_IMPORT] = { "rsa3072", "rsa2048 rsa3072 rsa4096" },
    [HSM_ROLE_SCEP_RA_SIGN] = { "rsa2048", "rsa2048 rsa3072 rsa4096 ecP256 ecP384 ecP521" },
    [HSM_ROLE_SCEP_RA_ENCRYPT] = { "rsa2048", "rsa2048 rsa3072 rsa4096" },
    [HSM_ROLE_CA] = { "rsa4096", "rsa2048 rsa3072 rsa4096 ecP256 ecP384 ecP521" },
    [HSM_ROLE_OCSP] = { "rsa2048", "rsa2048 rsa3072 rsa4096 ecP256 ecP384 ecP521" },
    [HSM_ROLE_IDENTITY] = { "rsa2048", "rsa2048 rsa3072 rsa4096 ecP256 ecP384 ecP521" },
    [HSM_ROLE_SEAL] = { "aes256", "aes256" },
    [HSM_ROLE_AUDIT] = { "ecP256", "rsa2048 rsa3072 rsa4096 ecP256 ecP384 ecP521" },
};

const char *
plan_usual_type(enum hsm_role role)
{
    return role_types[role].usual;
}

bool
plan_role_takes(enum hsm_role role, const char *type)
{
    const char *at = role_types[role].types;

    while (*at != '\0') {
        size_t len = strcspn(at, " ");

        if (strlen(type) == len && memcmp(at, type, len) == 0)
            return true;
        at += len + strspn(at + len, " ");
    }
    return false;
}

static size_t
strength(const char *type)
{
    static const char *const weakest_first[] = { "ecP256", "rsa2048", "rsa3072", "rsa4096" };
    size_t i = 0;

    while (i < CC_COUNT(weakest_first) && strcmp(weakest_first[i], type) != 0)
        i++;
    return i;
}

static const char *
largest_usual(unsigned roles)
{
    const char *largest = NULL;

    for (int role = 0; role < HSM_ROLE_COUNT; role++) {
        const char *usual = role_types[role].usual;

        if ((roles & 1U << role) != 0 && (largest == NULL || strength(usual) > strength(largest)))
            largest = usual;
    }
    return largest;
}

/* *ret stays when nothing was said. */
static int
said_type(const struct plan *plan, unsigned roles, const char **ret, struct cc_err *err)
{
    int first = -1;

    for (int role = 0; plan != NULL && role < HSM_ROLE_COUNT; role++) {
        if ((roles & 1U << role) == 0 || plan->key_type[role][0] == '\0')
            continue;
        if (first >= 0 && strcmp(plan->key_type[role], plan->key_type[first]) != 0)
            return cc_err_set(err, CC_DOM_USAGE, 0,
                    "one key is to be of type %s as %s and of type %s as %s; say the same of both",
                    plan->key_type[first], hsm_role_name((enum hsm_role)first),
                    plan->key_type[role], hsm_role_name((enum hsm_role)role));
        *ret = plan->key_type[role];
        first = role;
    }
    return 0;
}

const char *
plan_key_type(const struct plan *plan, unsigned roles, struct cc_err *err)
{
    const char *type = largest_usual(roles);

    if (said_type(plan, roles, &type, err) != 0)
        return NULL;
    for (int role = 0; role < HSM_ROLE_COUNT; role++) {
        if ((roles & 1U << role) == 0 || plan_role_takes((enum hsm_role)role, type))
            continue;
        (void)cc_err_set(err, CC_DOM_USAGE, 0,
                "a key of type %s cannot be that of %s too; name a key of its own for it", type,
                hsm_role_name((enum hsm_role)role));
        return NULL;
    }
    return type;
}

/* ---- PKCS#11 URIs (RFC 7512) ---- */

static int
digit(char c)
{
    const char *digits = "0123456789abcdef", *at;

    if (c >= 'A' && c <= 'F')
        c = (char)(c - 'A' + 'a');
    return c != '\0' && (at = strchr(digits, c)) != NULL ? (int)(at - digits) : -1;
}

/* The bytes of an attribute; false when there is none, or it is no such thing. */
static bool
uri_attribute(const char *uri, const char *name, unsigned char ret[VALUE_MAX], size_t *ret_len)
{
    const char *at = cc_starts_with(uri, "pkcs11:") ? uri + 7 : "";
    const size_t name_len = strlen(name);

    while (*at != '\0' && (strncmp(at, name, name_len) != 0 || at[name_len] != '=')) {
        at += strcspn(at, ";?");
        if (*at++ != ';')
            return false;
    }
    if (*at == '\0')
        return false;
    *ret_len = 0;
    for (at += name_len + 1; *at != '\0' && *at != ';' && *at != '?' && *ret_len < VALUE_MAX;
            at++) {
        unsigned char byte = (unsigned char)*at;

        if (*at == '%') {
            if (digit(at[1]) < 0 || digit(at[2]) < 0)
                return false;
            byte = (unsigned char)(digit(at[1]) * 16 + digit(at[2]));
            at += 2;
        }
        ret[(*ret_len)++] = byte;
    }
    return true;
}

static bool
key_is(const struct hsm_admin_key *key, const char *uri)
{
    unsigned char value[VALUE_MAX];
    char hex[2 * VALUE_MAX + 1];
    size_t len;
    bool named = false;

    if (strcmp(key->object_class, "public") == 0)
        return false;
    if (uri_attribute(uri, "object", value, &len)) {
        named = true;
        if (strlen(key->label) != len || memcmp(key->label, value, len) != 0)
            return false;
    }
    if (uri_attribute(uri, "id", value, &len)) {
        named = true;
        cc_hex(value, len, false, hex);
        if (!cc_equal_nocase(key->id_hex, hex))
            return false;
    }
    return named;
}

bool
key_list_has(const struct key_list *list, const char *uri)
{
    for (size_t i = 0; i < list->count; i++) {
        if (key_is(&list->key[i], uri))
            return true;
    }
    return false;
}

/* ---- the token ---- */

int
key_list_read(const struct plan *plan, const struct config *config, struct key_list *ret,
        struct cc_err *err)
{
    char pin[4200];
    const struct hsm_admin_target target = {
        .helper = config->token.helper,
        .module = config->token.module,
        .init_args = config->token.init_args,
        .uri = config->token.uri,
        .pin = plan_reference(plan, config->token.pin, pin, sizeof(pin)),
    };

    *ret = (struct key_list){ .count = 0 };
    return hsm_admin_list_keys(&target, &ret->key, &ret->count, err);
}

void
key_list_free(struct key_list *list)
{
    free(list->key);
    *list = (struct key_list){ .count = 0 };
}
