/* SPDX-License-Identifier: MIT */

/* What only the whole configuration shows: what is missing, and what does not go together. */

#include "config_int.h"

#include <string.h>

#include "base/buf.h"
#include "base/text.h"

#define URL_MAX 2048

/* The addresses of each cloud.  What is NULL the administrator has to say, what is not he may not. */
struct cloud {
    const char *authority, *graph, *resource;
};

static const struct cloud clouds[] = {
    [CONFIG_CLOUD_PUBLIC] = { "https://login.microsoftonline.com/", "https://graph.microsoft.com/",
            "https://api.manage.microsoft.com/" },
    [CONFIG_CLOUD_USGOV] = { "https://login.microsoftonline.us/", "https://graph.microsoft.us/",
            "https://api.manage.microsoft.us/" },
    [CONFIG_CLOUD_DOD] = { "https://login.microsoftonline.us/", "https://dod-graph.microsoft.us/",
            "https://api.manage.microsoft.us/" },
    /* the service's resource in this cloud is not published */
    [CONFIG_CLOUD_CHINA] = { "https://login.partner.microsoftonline.cn/",
            "https://microsoftgraph.chinacloudapi.cn/", NULL },
    [CONFIG_CLOUD_CUSTOM] = { NULL, NULL, NULL },
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

        if (said(trace, s) != NULL)
            continue;
        if (s->need == CONFIG_NEED_ALWAYS)
            return fail_missing(trace, s, "", err);
        if (s->need == CONFIG_NEED_SERVICE && config->connector.features != 0)
            return fail_missing(trace, s, ", and the features need it", err);
    }
    return 0;
}

static int
check_feature_keys(const struct config *config, const struct config_trace *trace,
        struct cc_err *err)
{
    const struct config_setting *features = config_setting_find("connector", "features");

    if ((config->connector.features & CONFIG_PFX_IMPORT) == 0)
        return 0;
    if (config_key(config, "pfx-import") != NULL || config->key_alias_count > 0)
        return 0;
    return config_fail(said(trace, features), "connector", "features", err,
            "pfx-import has no key; add pfx-import = pkcs11:object=NAME to [keys], or the "
            "uploads' PROVIDER/KEY to [key-alias]");
}

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

static int
check_service(struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    const struct cloud *cloud = &clouds[config->service.cloud];

    if (check_address(config, trace, "authority", cloud->authority, err) != 0)
        return -1;
    if (check_address(config, trace, "graph", cloud->graph, err) != 0)
        return -1;
    return check_address(config, trace, "resource", cloud->resource, err);
}

int
config_check_whole(struct config *config, const struct config_trace *trace, struct cc_err *err)
{
    if (check_needed(config, trace, err) != 0)
        return -1;
    if (check_feature_keys(config, trace, err) != 0)
        return -1;
    return check_service(config, trace, err);
}
