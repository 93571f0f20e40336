/* SPDX-License-Identifier: MIT */

/*
 * Values: from text to their field and back, and what forms texts may have.
 *
 * An error here says what the value has to be.  It repeats words and numbers, never a text: what stands where a
 * reference should be may be the secret itself.
 */

#include "config_int.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/secret.h"
#include "base/text.h"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

static int
bad(struct cc_err *err, const char *text)
{
    return cc_err_set(err, CC_DOM_CONFIG, 0, "%s", text);
}

int
config_value_check(const char *value, struct cc_err *err)
{
    if (value[0] == '\0')
        return bad(err, "is empty; give it a value or remove the line");
    if (!cc_is_utf8(value, strlen(value)))
        return bad(err, "is not UTF-8; save the file as UTF-8");
    for (const char *p = value; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return bad(err, "holds a control byte; remove it");
    }
    return 0;
}

static bool
only(const char *value, const char *set)
{
    return value[strspn(value, set)] == '\0';
}

int
config_check_text(const char *value, struct cc_err *err)
{
    if (strlen(value) > 1024)
        return bad(err, "is longer than 1024 bytes");
    return 0;
}

int
config_check_name(const char *value, struct cc_err *err)
{
    if (strlen(value) > 64 || !only(value, LETTERS DIGITS ".-_"))
        return bad(err, "must be 1 to 64 letters, digits, dots, dashes or underscores");
    return 0;
}

int
config_check_path(const char *value, struct cc_err *err)
{
    if (value[0] != '/')
        return bad(err, "must be an absolute path; begin it with /");
    if (strlen(value) >= PATH_MAX)
        return bad(err, "is too long for a path");
    return 0;
}

int
config_check_socket(const char *value, struct cc_err *err)
{
    struct sockaddr_un address;

    if (config_check_path(value, err) != 0)
        return -1;
    if (strlen(value) >= sizeof(address.sun_path))
        return bad(err, "is too long for a socket's path; use at most 107 bytes");
    return 0;
}

int
config_check_state(const char *value, struct cc_err *err)
{
    if (cc_starts_with(value, "postgresql:"))
        return bad(err, "PostgreSQL is not part of this version; write sqlite:PATH");
    if (!cc_starts_with(value, "sqlite:/"))
        return bad(err, "must be sqlite: and an absolute path, sqlite:/PATH");
    return config_check_path(value + strlen("sqlite:"), err);
}

static bool
uri_has(const char *uri, const char *attribute)
{
    size_t len = strlen(attribute);

    for (const char *p = strstr(uri, attribute); p != NULL; p = strstr(p + 1, attribute)) {
        if (p[len] == '=' && strchr(":;?&", p[-1]) != NULL)
            return true;
    }
    return false;
}

static int
check_uri(const char *value, struct cc_err *err)
{
    if (!cc_starts_with(value, "pkcs11:"))
        return bad(err, "must be a PKCS#11 URI; begin it with pkcs11:");
    if (!only(value, LETTERS DIGITS "-._~:;[]@!$'()*+,=&/?%"))
        return bad(err, "holds a byte that a PKCS#11 URI cannot; write it as %XX (RFC 7512)");
    if (uri_has(value, "pin-value") || uri_has(value, "pin-source"))
        return bad(err, "must not name a PIN; use [token] pin = file:PATH");
    return 0;
}

int
config_check_token_uri(const char *value, struct cc_err *err)
{
    static const char *const attributes[] = { "token", "serial", "manufacturer", "model" };

    if (check_uri(value, err) != 0)
        return -1;
    for (size_t i = 0; i < CC_COUNT(attributes); i++) {
        if (uri_has(value, attributes[i]))
            return 0;
    }
    return bad(err, "names no token; add token=LABEL");
}

int
config_check_key_uri(const char *value, struct cc_err *err)
{
    if (check_uri(value, err) != 0)
        return -1;
    if (!uri_has(value, "object") && !uri_has(value, "id"))
        return bad(err, "names no key; add object=LABEL or id=%XX");
    return 0;
}

int
config_check_reference(const char *value, struct cc_err *err)
{
    if (cc_secret_check_reference(value, NULL) != 0)
        return bad(err,
                "must be a reference, as secrets do not stand in this file; write file:PATH or "
                "credential:NAME");
    return 0;
}

static bool
is_port(const char *text, size_t len)
{
    long port = 0;

    if (len == 0 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (text[i] - '0');
    }
    return port >= 1 && port <= 65535;
}

/* host, host:port, [address] or [address]:port, up to the first slash; returns where it ends, NULL when it is none. */
static const char *
host_end(const char *text)
{
    size_t host = text[0] == '[' ? strspn(text + 1, DIGITS "abcdefABCDEF:.") + 1
                                 : strspn(text, LETTERS DIGITS ".-");
    const char *p = text + host;
    size_t port;

    if (text[0] == '[' && *p++ != ']')
        return NULL;
    if (p == text)
        return NULL;
    if (*p == ':') {
        port = strcspn(p + 1, "/");
        if (!is_port(p + 1, port))
            return NULL;
        p += port + 1;
    }
    return *p == '\0' || *p == '/' ? p : NULL;
}

static const char *
url_rest(const char *value)
{
    if (cc_starts_with(value, "https://"))
        return host_end(value + strlen("https://"));
    if (cc_starts_with(value, "http://"))
        return host_end(value + strlen("http://"));
    return NULL;
}

int
config_check_url(const char *value, struct cc_err *err)
{
    const char *rest = url_rest(value);

    if (rest == NULL || !only(rest, LETTERS DIGITS "/-._~%"))
        return bad(err, "must be a URL without user name, query and fragment, https://HOST/");
    return 0;
}

int
config_check_proxy(const char *value, struct cc_err *err)
{
    const char *rest = url_rest(value);

    if (rest == NULL || (strcmp(rest, "") != 0 && strcmp(rest, "/") != 0))
        return bad(err,
                "must be http://HOST:PORT or https://HOST:PORT, without user name or password");
    return 0;
}

int
config_check_uuid(const char *value, struct cc_err *err)
{
    if (!cc_is_uuid(value))
        return bad(err, "must be a UUID, 11111111-2222-3333-4444-555555555555");
    return 0;
}

int
config_check_tenant(const char *value, struct cc_err *err)
{
    if (strlen(value) > 253 || !only(value, LETTERS DIGITS ".-"))
        return bad(err, "must be the tenant's domain name or UUID");
    return 0;
}

int
config_check_alias(const char *value, struct cc_err *err)
{
    const char *slash = strchr(value, '/');

    if (slash == NULL || slash == value || slash[1] == '\0')
        return bad(err, "an alias must be PROVIDER/KEY, the names that uploads carry");
    return config_check_text(value, err);
}

/* ---- fields ---- */

static void *
field(struct config *config, size_t offset)
{
    return (char *)config + offset;
}

static const void *
field_of(const struct config *config, size_t offset)
{
    return (const char *)config + offset;
}

const char *
config_text_get(const struct config *config, size_t offset)
{
    const char *text;

    memcpy(&text, field_of(config, offset), sizeof(text));
    return text;
}

int
config_text_set(struct config *config, size_t offset, const char *value, struct cc_err *err)
{
    char **slot = field(config, offset);
    char *copy = NULL;

    if (value != NULL && (copy = cc_strdup(value, err)) == NULL)
        return -1;
    free(*slot);
    *slot = copy;
    return 0;
}

static int
read_text(const struct config_setting *setting, const char *value, struct config *config,
        struct cc_err *err)
{
    if (value != NULL && setting->check(value, err) != 0)
        return -1;
    return config_text_set(config, setting->offset, value, err);
}

static int
read_unsigned(const struct config_setting *setting, const char *value, struct config *config,
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
    *(unsigned *)field(config, setting->offset) = (unsigned)number;
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
read_duration(const struct config_setting *setting, const char *value, struct config *config,
        struct cc_err *err)
{
    int64_t ms;
    char low[32], high[32];

    if (cc_parse_duration_ms(value, &ms, NULL) != 0)
        return bad(err, "must be a time with its unit: 250ms, 10s, 30m, 12h or 365d");
    if (ms < setting->min || ms > setting->max) {
        duration_text(setting->min, low, sizeof(low));
        duration_text(setting->max, high, sizeof(high));
        return cc_err_set(err, CC_DOM_CONFIG, 0, "must be from %s to %s", low, high);
    }
    *(int64_t *)field(config, setting->offset) = ms;
    return 0;
}

static int
read_size(const struct config_setting *setting, const char *value, struct config *config,
        struct cc_err *err)
{
    uint64_t size;

    if (cc_parse_size(value, &size, NULL) != 0)
        return bad(err, "must be a size in bytes or with K, M or G: 50M");
    if (size < (uint64_t)setting->min || size > (uint64_t)setting->max)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "must be from %" PRId64 "K to %" PRId64 "G",
                setting->min >> 10, setting->max >> 30);
    *(uint64_t *)field(config, setting->offset) = size;
    return 0;
}

static int
read_bool(const struct config_setting *setting, const char *value, struct config *config,
        struct cc_err *err)
{
    if (cc_parse_bool(value, field(config, setting->offset), NULL) != 0)
        return bad(err, "must be yes or no");
    return 0;
}

static int
read_choice(const struct config_setting *setting, const char *value, struct config *config,
        struct cc_err *err)
{
    char list[128] = "";
    char shown[64];
    size_t len = 0;

    for (int i = 0; setting->choices[i] != NULL; i++) {
        if (strcmp(setting->choices[i], value) == 0) {
            /* every enum of struct config is as wide as an int */
            *(int *)field(config, setting->offset) = i;
            return 0;
        }
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i == 0 ? "" : ", ",
                setting->choices[i]);
    }
    return cc_err_set(err, CC_DOM_CONFIG, 0, "\"%s\" is no choice; write one of %s",
            cc_escape_into(shown, sizeof(shown), value), list);
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
        if ((f->bit & CONFIG_FEATURES_HERE) == 0)
            return cc_err_set(err, CC_DOM_CONFIG, 0, "%s is not part of this version; remove it",
                    f->name);
        if ((*features & f->bit) != 0)
            return cc_err_set(err, CC_DOM_CONFIG, 0, "%s stands here twice; remove one", f->name);
        *features |= f->bit;
        return 0;
    }
    near = cc_nearest(word, names, config_feature_name_count);
    return cc_err_set(err, CC_DOM_CONFIG, 0, "there is no feature \"%s\"; %s%s",
            cc_escape_into(shown, sizeof(shown), word),
            near == NULL ? "write pfx-import" : "did you mean ", near == NULL ? "" : near);
}

static int
read_features(const struct config_setting *setting, const char *value, struct config *config,
        struct cc_err *err)
{
    unsigned features = 0;
    const char *p = value;

    for (;;) {
        size_t len, end;
        char word[32];

        p += strspn(p, " \t");
        len = strcspn(p, ",");
        end = len;
        while (end > 0 && (p[end - 1] == ' ' || p[end - 1] == '\t'))
            end--;
        if (end == 0 || end >= sizeof(word))
            return bad(err, "must be features with commas between them: pfx-import");
        memcpy(word, p, end);
        word[end] = '\0';
        if (add_feature(word, &features, err) != 0)
            return -1;
        if (p[len] == '\0')
            break;
        p += len + 1;
    }
    *(unsigned *)field(config, setting->offset) = features;
    return 0;
}

int
config_value_read(const struct config_setting *setting, const char *value, struct config *config,
        struct cc_err *err)
{
    if (setting->form == CONFIG_FORM_TEXT)
        return read_text(setting, value, config, err);
    if (value == NULL) /* without a default: all bits 0, as the struct was made */
        return 0;
    switch (setting->form) {
    case CONFIG_FORM_UNSIGNED:
        return read_unsigned(setting, value, config, err);
    case CONFIG_FORM_DURATION:
        return read_duration(setting, value, config, err);
    case CONFIG_FORM_SIZE:
        return read_size(setting, value, config, err);
    case CONFIG_FORM_BOOL:
        return read_bool(setting, value, config, err);
    case CONFIG_FORM_CHOICE:
        return read_choice(setting, value, config, err);
    default:
        return read_features(setting, value, config, err);
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
config_value_write(const struct config_setting *setting, const struct config *config,
        struct cc_buf *ret, struct cc_err *err)
{
    const void *at = field_of(config, setting->offset);
    const char *text;

    switch (setting->form) {
    case CONFIG_FORM_TEXT:
        text = config_text_get(config, setting->offset);
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
    default:
        return write_features(*(const unsigned *)at, ret, err);
    }
}
