/* SPDX-License-Identifier: MIT */

/* Every section and key there is. */

#include "config_int.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define AT(field) offsetof(struct config, field)
#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

static const char *const clouds[] = { "public", "usgov", "dod", "china", "custom", NULL };
static const char *const reencrypts[] = { "auto", "token", "host", NULL };
static const char *const debugs[] = { "none", "admin", "operational", "all", NULL };

static const char *const roles[] = {
    "pfx-import",
    "scep-ra-sign",
    "scep-ra-encrypt",
    "ca",
    "ocsp",
    "identity",
    "seal",
    "audit",
    NULL,
};

const struct config_feature_name config_feature_names[] = {
    { CONFIG_PKCS, "pkcs" },
    { CONFIG_PFX_IMPORT, "pfx-import" },
    { CONFIG_SCEP, "scep" },
    { CONFIG_REVOCATION, "revocation" },
};
const size_t config_feature_name_count = CC_COUNT(config_feature_names);

/* clang-format off */
const struct config_setting config_settings[] = {
    {.section = "connector", .key = "name", .form = CONFIG_FORM_TEXT, .offset = AT(connector.name),
     .check = config_check_name, .example = "dc1-connector-1"},
    {.section = "connector", .key = "features", .form = CONFIG_FORM_FEATURES, .offset = AT(connector.features),
     .example = "pfx-import"},
    {.section = "connector", .key = "state", .form = CONFIG_FORM_TEXT, .offset = AT(connector.state),
     .check = config_check_state, .fallback = "sqlite:/var/lib/certconnector/state.db",
     .example = "sqlite:/var/lib/certconnector/state.db"},
    {.section = "connector", .key = "state-directory", .form = CONFIG_FORM_TEXT,
     .offset = AT(connector.state_directory), .check = config_check_path,
     .fallback = "/var/lib/certconnector", .example = "/var/lib/certconnector"},
    {.section = "connector", .key = "control-socket", .form = CONFIG_FORM_TEXT,
     .offset = AT(connector.control_socket), .check = config_check_socket,
     .fallback = "/run/certconnector/control.sock", .example = "/run/certconnector/control.sock"},
    {.section = "connector", .key = "workers", .form = CONFIG_FORM_UNSIGNED, .offset = AT(connector.workers),
     .zero = "auto", .min = 1, .max = 256, .fallback = "auto", .example = "auto"},

    {.section = "token", .key = "module", .form = CONFIG_FORM_TEXT, .offset = AT(token.module),
     .check = config_check_path, .fallback = "/usr/lib/softhsm/libsofthsm2.so",
     .example = "/usr/lib/softhsm/libsofthsm2.so"},
    {.section = "token", .key = "init-args", .form = CONFIG_FORM_TEXT, .offset = AT(token.init_args),
     .check = config_check_text, .example = "configDir='/etc/certconnector/nss'"},
    {.section = "token", .key = "uri", .form = CONFIG_FORM_TEXT, .offset = AT(token.uri),
     .check = config_check_token_uri, .need = CONFIG_NEED_ALWAYS, .example = "pkcs11:token=certconnector"},
    {.section = "token", .key = "pin", .form = CONFIG_FORM_TEXT, .offset = AT(token.pin),
     .check = config_check_reference, .need = CONFIG_NEED_ALWAYS, .secret = true,
     .example = "file:/etc/certconnector/token.pin"},
    {.section = "token", .key = "profile", .form = CONFIG_FORM_TEXT, .offset = AT(token.profile),
     .check = config_check_name, .fallback = "auto", .example = "auto"},
    {.section = "token", .key = "sessions", .form = CONFIG_FORM_UNSIGNED, .offset = AT(token.sessions),
     .zero = "auto", .min = 1, .max = 256, .fallback = "auto", .example = "auto"},
    {.section = "token", .key = "deadline", .form = CONFIG_FORM_DURATION, .offset = AT(token.deadline_ms),
     .min = 100, .max = 10 * MINUTE, .fallback = "10s", .example = "10s"},
    {.section = "token", .key = "allow-raw-rsa", .form = CONFIG_FORM_BOOL, .offset = AT(token.allow_raw_rsa),
     .fallback = "yes", .example = "yes"},
    {.section = "token", .key = "helper", .form = CONFIG_FORM_TEXT, .offset = AT(token.helper),
     .check = config_check_path, .example = "/usr/libexec/certconnector-token"},

    {.section = "service", .key = "tenant", .form = CONFIG_FORM_TEXT, .offset = AT(service.tenant),
     .check = config_check_tenant, .need = CONFIG_NEED_SERVICE, .example = "contoso.example"},
    {.section = "service", .key = "client-id", .form = CONFIG_FORM_TEXT, .offset = AT(service.client_id),
     .check = config_check_uuid, .need = CONFIG_NEED_SERVICE, .example = "11111111-2222-3333-4444-555555555555"},
    {.section = "service", .key = "client-secret", .form = CONFIG_FORM_TEXT, .offset = AT(service.client_secret),
     .check = config_check_reference, .need = CONFIG_NEED_SERVICE, .secret = true,
     .example = "file:/etc/certconnector/client.secret"},
    {.section = "service", .key = "cloud", .form = CONFIG_FORM_CHOICE, .offset = AT(service.cloud),
     .choices = clouds, .fallback = "public", .example = "public"},
    {.section = "service", .key = "authority", .form = CONFIG_FORM_TEXT, .offset = AT(service.authority),
     .check = config_check_url, .example = "https://login.example/"},
    {.section = "service", .key = "graph", .form = CONFIG_FORM_TEXT, .offset = AT(service.graph),
     .check = config_check_url, .example = "https://graph.example/"},
    {.section = "service", .key = "resource", .form = CONFIG_FORM_TEXT, .offset = AT(service.resource),
     .check = config_check_url, .example = "https://manage.example/"},
    {.section = "service", .key = "intune-app-id", .form = CONFIG_FORM_TEXT, .offset = AT(service.intune_app_id),
     .check = config_check_uuid, .fallback = "0000000a-0000-0000-c000-000000000000",
     .example = "0000000a-0000-0000-c000-000000000000"},
    {.section = "service", .key = "graph-version", .form = CONFIG_FORM_TEXT, .offset = AT(service.graph_version),
     .check = config_check_name, .fallback = "v1.0", .example = "v1.0"},
    {.section = "service", .key = "proxy", .form = CONFIG_FORM_TEXT, .offset = AT(service.proxy),
     .check = config_check_proxy, .example = "http://proxy.example:3128"},
    {.section = "service", .key = "no-proxy", .form = CONFIG_FORM_TEXT, .offset = AT(service.no_proxy),
     .check = config_check_text, .example = "localhost,.intern.example"},
    {.section = "service", .key = "ca-file", .form = CONFIG_FORM_TEXT, .offset = AT(service.ca_file),
     .check = config_check_path, .example = "/etc/certconnector/service-ca.pem"},
    {.section = "service", .key = "allow-http", .form = CONFIG_FORM_BOOL, .offset = AT(service.allow_http),
     .fallback = "no", .example = "no"},
    {.section = "service", .key = "poll-wait", .form = CONFIG_FORM_DURATION, .offset = AT(service.poll_wait_ms),
     .min = 0, .max = 5 * MINUTE, .fallback = "30s", .example = "30s"},
    {.section = "service", .key = "timeout", .form = CONFIG_FORM_DURATION, .offset = AT(service.timeout_ms),
     .min = 100, .max = 10 * MINUTE, .fallback = "30s", .example = "30s"},
    {.section = "service", .key = "heartbeat", .form = CONFIG_FORM_DURATION, .offset = AT(service.heartbeat_ms),
     .min = 100, .max = 24 * HOUR, .fallback = "60s", .example = "60s"},
    {.section = "service", .key = "max-attempts", .form = CONFIG_FORM_UNSIGNED, .offset = AT(service.max_attempts),
     .min = 1, .max = 100, .fallback = "5", .example = "5"},

    {.section = "pfx-import", .key = "reencrypt", .form = CONFIG_FORM_CHOICE, .offset = AT(pfx_import.reencrypt),
     .choices = reencrypts, .fallback = "auto", .example = "auto"},
    {.section = "pfx-import", .key = "check-pfx", .form = CONFIG_FORM_BOOL, .offset = AT(pfx_import.check_pfx),
     .fallback = "yes", .example = "yes"},
    {.section = "pfx-import", .key = "batch", .form = CONFIG_FORM_UNSIGNED, .offset = AT(pfx_import.batch),
     .min = 1, .max = 100, .fallback = "50", .example = "50"},

    {.section = "log", .key = "directory", .form = CONFIG_FORM_TEXT, .offset = AT(log.directory),
     .check = config_check_path, .fallback = "/var/log/certconnector", .example = "/var/log/certconnector"},
    {.section = "log", .key = "max-size", .form = CONFIG_FORM_SIZE, .offset = AT(log.max_size),
     .min = 4096, .max = INT64_C(1) << 40, .fallback = "50M", .example = "50M"},
    {.section = "log", .key = "debug", .form = CONFIG_FORM_CHOICE, .offset = AT(log.debug),
     .choices = debugs, .fallback = "none", .example = "none"},
    {.section = "log", .key = "journald", .form = CONFIG_FORM_BOOL, .offset = AT(log.journald),
     .fallback = "yes", .example = "yes"},
};

const struct config_names config_names[CONFIG_NAMES_COUNT] = {
    {.section = "keys", .names = roles, .check = config_check_key_uri, .pairs_offset = AT(keys),
     .count_offset = AT(key_count), .example = "pkcs11:object=pfx-import"},
    {.section = "key-alias", .check_name = config_check_alias, .check = config_check_key_uri,
     .pairs_offset = AT(key_aliases), .count_offset = AT(key_alias_count), .example = "pkcs11:object=pfx-import"},
};
/* clang-format on */

const size_t config_setting_count = CC_COUNT(config_settings);

_Static_assert(CC_COUNT(config_settings) <= CONFIG_SETTINGS_MAX, "struct config_trace has no room");

const struct config_setting *
config_setting_find(const char *section, const char *key)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct config_setting *s = &config_settings[i];

        if (strcmp(s->section, section) == 0 && strcmp(s->key, key) == 0)
            return s;
    }
    return NULL;
}

const struct config_names *
config_names_find(const char *section)
{
    for (size_t i = 0; i < CONFIG_NAMES_COUNT; i++) {
        if (strcmp(config_names[i].section, section) == 0)
            return &config_names[i];
    }
    return NULL;
}

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

const char *
config_hint_section(const char *section, char *text, size_t size)
{
    const char *names[CONFIG_SETTINGS_MAX];
    size_t count = section_names(names, CC_COUNT(names));
    const char *near = cc_nearest(section, names, count);

    if (near != NULL)
        (void)snprintf(text, size, "did you mean [%s]?", near);
    else
        list_names(names, count, text, size);
    return text;
}

const char *
config_hint_key(const char *section, const char *key, char *text, size_t size)
{
    const char *names[CONFIG_SETTINGS_MAX];
    size_t count = key_names(section, names, CC_COUNT(names));
    const char *near = cc_nearest(key, names, count);

    for (size_t i = 0; i < config_setting_count; i++) {
        if (strcmp(config_settings[i].key, key) == 0) {
            (void)snprintf(text, size, "it belongs in [%s]", config_settings[i].section);
            return text;
        }
    }
    if (near != NULL)
        (void)snprintf(text, size, "did you mean %s?", near);
    else
        list_names(names, count, text, size);
    return text;
}
