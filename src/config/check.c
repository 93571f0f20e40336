/* SPDX-License-Identifier: MIT */

/* What only the whole configuration shows: what is missing, and what does not go together. */

#include "config_int.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"

#define URL_MAX 2048

/* The addresses of each cloud.  What is NULL the administrator has to say, what is not he may not. */
struct cloud {
    const char *authority, *graph, *resource;
    const char *hosts; /* where discovery may send us */
};

static const struct cloud clouds[] = {
    [CONFIG_CLOUD_PUBLIC] = { "https://login.microsoftonline.com/", "https://graph.microsoft.com/",
            "https://api.manage.microsoft.com/", "manage.microsoft.com" },
    [CONFIG_CLOUD_USGOV] = { "https://login.microsoftonline.us/", "https://graph.microsoft.us/",
            "https://api.manage.microsoft.us/", "manage.microsoft.us" },
    [CONFIG_CLOUD_DOD] = { "https://login.microsoftonline.us/", "https://dod-graph.microsoft.us/",
            "https://api.manage.microsoft.us/", "manage.microsoft.us" },
    /* the service's resource in this cloud is not published */
    [CONFIG_CLOUD_CHINA] = { "https://login.partner.microsoftonline.cn/",
            "https://microsoftgraph.chinacloudapi.cn/", NULL, NULL },
    [CONFIG_CLOUD_CUSTOM] = { NULL, NULL, NULL, NULL },
};

static const struct config_origin *
said(const struct config_trace *trace, const struct config_setting *setting)
{
    const struct config_origin *at = &trace->settings[setting - config_settings];

    return at->file == NULL ? NULL : at;
}

/* Where a missing key would go: its section in the main file, or that file's end. */
static const struct config_origin *
place_for(const struct config_trace *trace, const char *section)
{
    for (size_t i = 0; i < trace->section_count; i++) {
        if (strcmp(trace->sections[i].name, section) == 0)
            return &trace->sections[i].origin;
    }
    return &trace->main;
}

static int
fail_missing(const struct config_trace *trace, const struct config_setting *setting,
        const char *why, struct cc_err *err)
{
    return config_fail(place_for(trace, setting->section), setting->section, setting->key, err,
            "is missing%s; add for example %s = %s", why, setting->key, setting->example);
}

static int
check_needed(const struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    for (size_t i = 0; i < config_setting_count; i++) {
        const struct config_setting *s = &config_settings[i];

        if (config_setting_group(s) != NULL || said(trace, s) != NULL)
            continue;
        if (s->need == CONFIG_NEED_ALWAYS)
            return fail_missing(trace, s, "", err);
        if (s->need == CONFIG_NEED_SERVICE && config->connector.features != 0)
            return fail_missing(trace, s, ", and the features need it", err);
    }
    return 0;
}

/* ---- sections with names ---- */

/* An item of a group, and where its parts were said. */
struct item {
    const struct config_group *group;
    void *object;
    const struct config_item_trace *trace;
};

static struct item
item_of(const struct config *config, const struct config_trace *trace,
        const struct config_group *group, size_t i)
{
    return (struct item){
        .group = group,
        .object = config_group_item(config, group, i),
        .trace = &trace->items[group - config_groups][i],
    };
}

/* Where a key was said, or else where the item begins. */
static const struct config_origin *
item_said(const struct item *item, const char *key)
{
    const struct config_setting *setting = config_setting_find(item->group->section, key);
    const struct config_origin *at = &item->trace->settings[setting - config_settings];

    return at->file == NULL ? &item->trace->begin : at;
}

static int
fail_item(const struct item *item, const char *key, struct cc_err *err, const char *text)
{
    char label[CONFIG_SECTION_MAX];

    config_group_label(item->group, config_item_name(item->object), label);
    return config_fail(item_said(item, key), label, key, err, "%s", text);
}

static int
check_item_needed(const struct item *item, struct cc_err *err)
{
    char text[128];

    for (size_t i = 0; i < config_setting_count; i++) {
        const struct config_setting *s = &config_settings[i];

        if (config_setting_group(s) != item->group || s->need != CONFIG_NEED_ALWAYS ||
                item->trace->settings[i].file != NULL)
            continue;
        (void)snprintf(text, sizeof(text), "is missing; add for example %s = %s", s->key,
                s->example);
        return fail_item(item, s->key, err, text);
    }
    return 0;
}

/* What the keys and intervals of a CA come to. */
static int
check_ca(const struct config *config, const struct item *item, struct cc_err *err)
{
    struct config_ca *ca = item->object;
    const struct config_setting *key = config_setting_find("ca", "key");
    const struct config_setting *ocsp_key = config_setting_find("ca", "ocsp-key");
    bool validity_said = item_said(item, "crl-validity") != &item->trace->begin;

    if (ca->key == NULL && config_text_set(ca, key->offset, config_key(config, "ca"), err) != 0)
        return -1;
    if (ca->ocsp_key == NULL &&
            config_text_set(ca, ocsp_key->offset, config_key(config, "ocsp"), err) != 0)
        return -1;
    if (ca->kind == CONFIG_CA_LOCAL && ca->key == NULL)
        return fail_item(item, "key", err,
                "is missing, and [keys] has no ca; add for example key = pkcs11:object=ca");
    if (ca->crl_validity_ms <= ca->crl_interval_ms)
        return fail_item(item, validity_said ? "crl-validity" : "crl-interval", err,
                "a CRL must be valid longer than until the next; make crl-validity longer than "
                "crl-interval");
    if (ca->delta_interval_ms >= ca->crl_interval_ms)
        return fail_item(item, "delta-interval", err,
                "must be shorter than crl-interval; 0s makes no delta CRLs");
    return 0;
}

/* The first item of a list that another has too; when there is none, the number of items. */
static size_t
shared_item(struct config_list list, struct config_list other)
{
    for (size_t i = 0; i < list.count; i++) {
        for (size_t j = 0; j < other.count; j++) {
            if (strcmp(list.item[i], other.item[j]) == 0)
                return i;
        }
    }
    return list.count;
}

/* Of which profile a request's template is must be clear. */
static int
check_templates(const struct config *config, const struct item *item, struct cc_err *err)
{
    struct config_profile *profile = item->object;
    const struct config_setting *templates = config_setting_find("profile", "templates");
    char text[CONFIG_NAME_MAX + 96];

    if (profile->templates.count == 0 &&
            config_value_read(templates, profile->name, profile, err) != 0)
        return -1;
    for (const struct config_profile *other = config->profiles; other != profile; other++) {
        size_t i = shared_item(profile->templates, other->templates);

        if (i == profile->templates.count)
            continue;
        (void)snprintf(text, sizeof(text),
                "item %zu of the list is of [profile \"%s\"], too; a template has one profile",
                i + 1, other->name);
        return fail_item(item, "templates", err, text);
    }
    return 0;
}

static int
check_group(const struct config *config, const struct config_trace *trace, const char *section,
        int (*check)(const struct config *config, const struct item *item, struct cc_err *err),
        struct cc_err *err)
{
    const struct config_group *group = config_group_find(section);

    for (size_t i = 0; i < config_group_count(config, group); i++) {
        struct item item = item_of(config, trace, group, i);

        if (check_item_needed(&item, err) != 0)
            return -1;
        if (check(config, &item, err) != 0)
            return -1;
    }
    return 0;
}

/* name is NULL or that of an item. */
static int
check_reference(const struct config *config, const char *group_name, const char *name,
        const struct config_origin *at, const char *section, const char *key, struct cc_err *err)
{
    const struct config_group *group = config_group_find(group_name);
    char hint[256];

    if (name == NULL || config_group_get(config, group, name) != NULL)
        return 0;
    return config_fail(at, section, key, err, "there is no [%s \"%s\"]; %s", group_name, name,
            config_hint_item(config, group, name, hint, sizeof(hint)));
}

/* A reference of [pkcs] or [scep]; when it is not said, it is to the only item. */
static int
check_choice(struct config *config, const struct config_trace *trace, const char *section,
        const char *key, struct cc_err *err)
{
    const struct config_setting *setting = config_setting_find(section, key);
    const struct config_group *group = config_group_find(key);
    const char *name = config_text_get(config, setting->offset);

    if (name != NULL)
        return check_reference(config, key, name, said(trace, setting), section, key, err);
    if (config_group_count(config, group) != 1)
        return 0;
    return config_text_set(config, setting->offset,
            config_item_name(config_group_item(config, group, 0)), err);
}

static int
check_references(struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    const struct config_group *group = config_group_find("ca");
    char label[CONFIG_SECTION_MAX];

    for (size_t i = 0; i < config->ca_count; i++) {
        struct item item = item_of(config, trace, group, i);
        const struct config_ca *ca = item.object;

        config_group_label(group, ca->name, label);
        if (check_reference(config, "profile", ca->profile, item_said(&item, "profile"), label,
                    "profile", err) != 0)
            return -1;
    }
    if (check_choice(config, trace, "pkcs", "ca", err) != 0 ||
            check_choice(config, trace, "pkcs", "profile", err) != 0 ||
            check_choice(config, trace, "scep", "ca", err) != 0)
        return -1;
    return check_choice(config, trace, "scep", "profile", err);
}

/* ---- SCEP profiles ---- */

/* Left to [scep], or one that there is. */
static int
check_scep_reference(const struct config *config, const struct item *item, const char *key,
        const char *of_scep, struct cc_err *err)
{
    const struct config_setting *setting = config_setting_find("scep-profile", key);
    const char *name = config_text_get(item->object, setting->offset);
    char label[CONFIG_SECTION_MAX];

    if (name == NULL)
        return config_text_set(item->object, setting->offset, of_scep, err);
    config_group_label(item->group, config_item_name(item->object), label);
    return check_reference(config, key, name, item_said(item, key), label, key, err);
}

/* What a challenge of this kind needs beside; NULL: nothing. */
static const char *
missing_challenge(const struct config_scep *scep)
{
    if (scep->challenge == CONFIG_CHALLENGE_STATIC && scep->challenge_secret == NULL)
        return "static needs challenge-secret, as in file:/etc/certconnector/scep.secret";
    if (scep->challenge == CONFIG_CHALLENGE_FILE && scep->challenge_file == NULL)
        return "file needs challenge-file, the path of a file with a secret a line";
    if (scep->challenge == CONFIG_CHALLENGE_HOOK && scep->challenge_url == NULL)
        return "hook needs challenge-url, as in https://hook.example/challenge";
    return NULL;
}

static int
check_scep_profile(const struct config *config, const struct item *item, struct cc_err *err)
{
    const char *missing = missing_challenge(item->object);

    if (check_scep_reference(config, item, "ca", config->scep.own.ca, err) != 0 ||
            check_scep_reference(config, item, "profile", config->scep.own.profile, err) != 0)
        return -1;
    return missing == NULL ? 0 : fail_item(item, "challenge", err, missing);
}

static int
check_scep(struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    const struct config_setting *challenge = config_setting_find("scep", "challenge");
    const char *missing = missing_challenge(&config->scep.own);

    if (missing != NULL)
        return config_fail(said(trace, challenge), "scep", "challenge", err, "%s", missing);
    return check_group(config, trace, "scep-profile", check_scep_profile, err);
}

/* ---- features ---- */

/* What the features lack, with what to do; NULL: nothing. */
static const char *
missing_for(const struct config *config)
{
    unsigned features = config->connector.features;

    if ((features & CONFIG_PFX_IMPORT) != 0 && config_key(config, "pfx-import") == NULL &&
            config->key_alias_count == 0)
        return "pfx-import has no key; add pfx-import = pkcs11:object=NAME to [keys], or the "
               "uploads' PROVIDER/KEY to [key-alias]";
    if ((features & CONFIG_PKCS) != 0 && config->ca_count == 0)
        return "pkcs has no CA; add a section [ca \"NAME\"] with kind = local";
    if ((features & CONFIG_PKCS) != 0 && config->profile_count == 0)
        return "pkcs has no profile; add a section [profile \"NAME\"]";
    if ((features & CONFIG_PKCS) != 0 && config_key(config, "seal") == NULL)
        return "pkcs has no key to seal others with; add seal = pkcs11:object=NAME to [keys]";
    if ((features & CONFIG_SCEP) != 0 && config->scep.listen == NULL)
        return "scep has no address; add listen = 127.0.0.1:8080 to [scep]";
    if ((features & CONFIG_SCEP) != 0 &&
            (config->scep.own.ca == NULL || config->scep.own.profile == NULL))
        return "scep has no CA or no profile; name a [ca \"NAME\"] and a [profile \"NAME\"] in [scep]";
    if ((features & CONFIG_SCEP) != 0 &&
            (config_key(config, "scep-ra-encrypt") == NULL || config_key(config, "seal") == NULL))
        return "scep has no keys; add scep-ra-sign, scep-ra-encrypt and seal to [keys], each as "
               "pkcs11:object=NAME";
    if ((features & CONFIG_REVOCATION) != 0 && config->ca_count == 0)
        return "revocation has no CA; add a section [ca \"NAME\"] with kind = local";
    return NULL;
}

static int
check_features(const struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    const struct config_setting *features = config_setting_find("connector", "features");
    const char *missing = missing_for(config);

    if (missing == NULL)
        return 0;
    return config_fail(said(trace, features), "connector", "features", err, "%s", missing);
}

/* ---- the service ---- */

/* Copies url with one slash at its end into the setting's field. */
static int
set_address(struct config *config, const struct config_setting *setting, const char *url,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(URL_MAX + 1);
    size_t len = strlen(url);
    int rc = -1;

    if (cc_buf_add_str(&text, url, err) != 0)
        goto out;
    if (url[len - 1] != '/' && cc_buf_add_str(&text, "/", err) != 0)
        goto out;
    rc = config_text_set(config, setting->offset, cc_buf_str(&text), err);
out:
    cc_buf_free(&text);
    return rc;
}

/* One of authority, graph, resource: said where it has to be and only there, https unless http is allowed. */
static int
check_address(struct config *config, const struct config_trace *trace, const char *key,
        const char *of_cloud, struct cc_err *err)
{
    const struct config_setting *setting = config_setting_find("service", key);
    const struct config_setting *cloud = config_setting_find("service", "cloud");
    const struct config_origin *at = said(trace, setting);
    const char *word = cloud->choices[config->service.cloud];
    const char *url = config_text_get(config, setting->offset);

    if (url == NULL && of_cloud == NULL && said(trace, cloud) != NULL)
        return config_fail(said(trace, cloud), "service", "cloud", err,
                "%s needs %s too; add for example %s = %s", word, key, key, setting->example);
    if (url != NULL && of_cloud != NULL)
        return config_fail(at, "service", key, err,
                "is given by cloud = %s; remove it, or write cloud = custom", word);
    if (url != NULL && !cc_starts_with(url, "https://") && !config->service.allow_http)
        return config_fail(at, "service", key, err,
                "must begin with https://; only a test may set allow-http = yes");
    return set_address(config, setting, of_cloud != NULL ? of_cloud : url, err);
}

/* A secret, or a certificate with a key: one of them. */
static int
check_sign_in(struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    const struct config_setting *secret = config_setting_find("service", "client-secret");
    const struct config_setting *certificate = config_setting_find("service", "client-certificate");
    const struct config_setting *key = config_setting_find("service", "client-key");

    if (said(trace, secret) != NULL && said(trace, certificate) != NULL)
        return config_fail(said(trace, certificate), "service", "client-certificate", err,
                "is a second way to sign in beside client-secret; remove one of them");
    if (said(trace, key) != NULL && said(trace, certificate) == NULL)
        return config_fail(said(trace, key), "service", "client-key", err,
                "signs in only with its certificate; add for example client-certificate = %s",
                certificate->example);
    if (said(trace, certificate) == NULL) {
        if (said(trace, secret) == NULL && config->connector.features != 0)
            return fail_missing(trace, secret,
                    ", and the features need it, or client-certificate instead", err);
        return 0;
    }
    if (config->service.client_key == NULL &&
            config_text_set(config, key->offset, config_key(config, "identity"), err) != 0)
        return -1;
    if (config->service.client_key == NULL)
        return config_fail(said(trace, certificate), "service", "client-certificate", err,
                "has no key; add identity = pkcs11:object=identity to [keys], or client-key here");
    return 0;
}

/* Where nothing is said of hosts: those of the cloud; with a service of one's own, empty, its addresses' hosts. */
static int
check_hosts(struct config *config, const struct config_trace *trace, const struct cloud *cloud,
        struct cc_err *err)
{
    const struct config_setting *setting = config_setting_find("service", "allowed-hosts");
    const struct config_origin *at = said(trace, config_setting_find("service", "cloud"));

    if (config->service.allowed_hosts.count > 0)
        return 0;
    if (config->service.cloud == CONFIG_CLOUD_CHINA)
        return config_fail(at, "service", "cloud", err,
                "china needs allowed-hosts too, as its hosts are not published; add for example "
                "allowed-hosts = manage.microsoft.cn");
    return config_value_read(setting, cloud->hosts, config, err);
}

static int
check_proxy(struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    const struct config_setting *proxy = config_setting_find("service", "proxy");
    const struct config_setting *password = config_setting_find("service", "proxy-password");

    if (config->service.proxy_password != NULL && config->service.proxy_user == NULL)
        return config_fail(said(trace, password), "service", "proxy-password", err,
                "is of no user; add for example proxy-user = certconnector");
    if (config->service.proxy != NULL && strcmp(config->service.proxy, "none") == 0)
        return config_text_set(config, proxy->offset, NULL, err);
    return 0;
}

static int
check_service(struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    const struct cloud *cloud = &clouds[config->service.cloud];

    if (check_sign_in(config, trace, err) != 0)
        return -1;
    if (check_address(config, trace, "authority", cloud->authority, err) != 0)
        return -1;
    if (check_address(config, trace, "graph", cloud->graph, err) != 0)
        return -1;
    if (check_address(config, trace, "resource", cloud->resource, err) != 0)
        return -1;
    if (config->service.private_addresses == CONFIG_PRIVATE_AUTO)
        config->service.private_addresses = config->service.cloud == CONFIG_CLOUD_CUSTOM
                                                    ? CONFIG_PRIVATE_YES
                                                    : CONFIG_PRIVATE_NO;
    if (check_hosts(config, trace, cloud, err) != 0)
        return -1;
    return check_proxy(config, trace, err);
}

int
config_check_whole(struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    if (check_needed(config, trace, err) != 0)
        return -1;
    if (check_group(config, trace, "ca", check_ca, err) != 0)
        return -1;
    if (check_group(config, trace, "profile", check_templates, err) != 0)
        return -1;
    if (check_references(config, trace, err) != 0)
        return -1;
    if (check_scep(config, trace, err) != 0)
        return -1;
    if (check_features(config, trace, err) != 0)
        return -1;
    return check_service(config, trace, err);
}
