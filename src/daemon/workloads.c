/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdlib.h>
#include <string.h>

#include "authorities.h"
#include "base/clock.h"

/* The workloads and their settings: what of the configuration each wants to know. */

#define REVOCATION_WORKERS 2

static const struct {
    const char *name;
    unsigned feature;
} workloads[WORKLOADS] = {
    [WORKLOAD_PKCS] = { "pkcs", CONFIG_PKCS },
    [WORKLOAD_PFX_IMPORT] = { "pfx-import", CONFIG_PFX_IMPORT },
    [WORKLOAD_SCEP] = { "scep", CONFIG_SCEP },
    [WORKLOAD_REVOCATION] = { "revocation", CONFIG_REVOCATION },
};

const char *
workload_name(enum workload workload)
{
    return workloads[workload].name;
}

unsigned
workload_feature(enum workload workload)
{
    return workloads[workload].feature;
}

/* ---- imported PFX ---- */

static enum hsm_reencrypt_mode
reencrypt_mode(enum config_reencrypt mode)
{
    switch (mode) {
    case CONFIG_REENCRYPT_TOKEN:
        return HSM_REENCRYPT_TOKEN;
    case CONFIG_REENCRYPT_HOST:
        return HSM_REENCRYPT_HOST;
    case CONFIG_REENCRYPT_AUTO:
        break;
    }
    return HSM_REENCRYPT_AUTO;
}

/* [keys] pfx-import and [key-alias]; *ret_keys is yours to free, its names are borrowed from the configuration. */
static int
import_keys(struct hsm *hsm, const struct config *config, struct pfximport_key **ret_keys,
        size_t *ret_count, struct cc_err *err)
{
    const char *uri = config_key(config, hsm_role_name(HSM_ROLE_PFX_IMPORT));
    struct pfximport_key *keys = calloc(config->key_alias_count + 1, sizeof(*keys));
    size_t count = 0;
    int rc = 0;

    if (keys == NULL)
        return cc_err_nomem(err);
    if (uri != NULL)
        rc = hsm_key_get0(hsm, HSM_ROLE_PFX_IMPORT, uri, &keys[count++].key, err);
    for (size_t i = 0; i < config->key_alias_count && rc == 0; i++) {
        const struct config_pair *alias = &config->key_aliases[i];

        keys[count].name = alias->name;
        rc = hsm_key_get0(hsm, HSM_ROLE_PFX_IMPORT, alias->value, &keys[count++].key, err);
    }
    if (rc == 0 && count == 0)
        rc = cc_err_set(err, CC_DOM_CONFIG, 0,
                "[keys] pfx-import: the feature pfx-import needs a key");
    if (rc != 0) {
        free(keys);
        return -1;
    }
    *ret_keys = keys;
    *ret_count = count;
    return 0;
}

/* One more worker than the token has sessions, so that each session has its next operation waiting. */
static unsigned
workers(const struct config *config, struct hsm *hsm)
{
    struct hsm_status token;

    if (config->connector.workers > 0)
        return config->connector.workers;
    hsm_get_status(hsm, &token);
    return token.sessions + 1;
}

static struct pfximport_settings
pfximport_settings_of(struct daemon *d, const struct config *config, const struct parts *parts,
        const struct pfximport_key *keys, size_t key_count)
{
    return (struct pfximport_settings){
        .hsm = parts->hsm,
        .intune = parts->intune,
        .store = d->store,
        .log = d->log,
        .connector_id = d->connector_id,
        .keys = keys,
        .key_count = key_count,
        .reencrypt = reencrypt_mode(config->pfx_import.reencrypt),
        .check_pfx = config->pfx_import.check_pfx,
        .workers = workers(config, parts->hsm),
        .batch = config->pfx_import.batch,
        .poll_wait_ms = config->service.poll_wait_ms,
        .max_attempts = config->service.max_attempts,
    };
}

static int
start_pfximport(struct daemon *d, struct parts *parts, struct cc_err *err)
{
    struct pfximport_settings settings;
    struct pfximport_key *keys = NULL;
    size_t count = 0;
    int rc;

    if (import_keys(parts->hsm, d->config, &keys, &count, err) != 0)
        return -1;
    settings = pfximport_settings_of(d, d->config, parts, keys, count);
    rc = pfximport_start(&settings, &parts->pfximport, err);
    free(keys);
    return rc;
}

/* ---- PKCS requests ---- */

/* Lists for struct pkcs_settings, which copies them. */
struct pkcs_lists {
    struct pkcs_ca *cas;
    size_t ca_count;
    struct pkcs_profile *profiles;
    size_t profile_count;
};

static void
pkcs_lists_free(struct pkcs_lists *lists)
{
    free(lists->cas);
    free(lists->profiles);
}

static size_t
count_templates(const struct config *config)
{
    size_t count = 0;

    for (size_t i = 0; i < config->profile_count; i++)
        count += config->profiles[i].templates.count;
    return count;
}

/* Of the configuration that the parts began with: the texts live as long as they do. */
static int
pkcs_lists_fill(const struct config *config, const struct authorities *authorities,
        struct pkcs_lists *ret, struct cc_err *err)
{
    ret->cas = calloc(config->ca_count + 1, sizeof(*ret->cas));
    ret->profiles = calloc(count_templates(config) + 1, sizeof(*ret->profiles));
    if (ret->cas == NULL || ret->profiles == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < config->ca_count; i++) {
        const struct config_ca *ca = &config->cas[i];
        const char *profile = ca->profile != NULL ? ca->profile : config->pkcs.profile;

        ret->cas[ret->ca_count++] = (struct pkcs_ca){
            .ca = authorities_find(authorities, ca->name),
            .authority = ca->authority,
            .authority_name = ca->authority_name,
            .profile = authorities_profile(authorities, profile),
        };
    }
    for (size_t i = 0; i < config->profile_count; i++) {
        const struct config_profile *profile = &config->profiles[i];

        for (size_t k = 0; k < profile->templates.count; k++)
            ret->profiles[ret->profile_count++] = (struct pkcs_profile){
                .template_name = profile->templates.item[k],
                .profile = authorities_profile(authorities, profile->name),
            };
    }
    return 0;
}

static int
pkcs_settings_fill(struct daemon *d, const struct config *config, const struct parts *parts,
        const struct pkcs_lists *lists, struct pkcs_settings *ret, struct cc_err *err)
{
    const char *seal = config_key(config, hsm_role_name(HSM_ROLE_SEAL));
    const char *import = config_key(config, hsm_role_name(HSM_ROLE_PFX_IMPORT));

    *ret = (struct pkcs_settings){
        .hsm = parts->hsm,
        .intune = parts->intune,
        .store = d->store,
        .log = d->log,
        .connector_id = d->connector_id,
        .cas = lists->cas,
        .ca_count = lists->ca_count,
        .default_ca = authorities_find(parts->authorities, d->begun_with->pkcs.ca),
        .profiles = lists->profiles,
        .profile_count = lists->profile_count,
        .generation = config->pkcs.key_generation == CONFIG_GENERATE_TOKEN ? HSM_GENERATE_TOKEN
                                                                           : HSM_GENERATE_HOST,
        .reencrypt = reencrypt_mode(config->pfx_import.reencrypt),
        .pool = config->pkcs.key_pool,
        .workers = workers(config, parts->hsm),
        .batch = config->pkcs.batch,
        .max_attempts = config->service.max_attempts,
        .poll_wait_ms = config->service.poll_wait_ms,
    };
    if (hsm_key_get0(parts->hsm, HSM_ROLE_SEAL, seal, &ret->seal, err) != 0)
        return -1;
    if (import == NULL)
        return 0;
    return hsm_key_get0(parts->hsm, HSM_ROLE_PFX_IMPORT, import, &ret->pfx_import, err);
}

/* Starts it, or changes the running one. */
static int
use_pkcs(struct daemon *d, const struct config *config, struct parts *parts, struct cc_err *err)
{
    struct pkcs_lists lists = { NULL, 0, NULL, 0 };
    struct pkcs_settings settings;
    int rc = -1;

    if (pkcs_lists_fill(d->begun_with, parts->authorities, &lists, err) == 0 &&
            pkcs_settings_fill(d, config, parts, &lists, &settings, err) == 0)
        rc = parts->pkcs == NULL ? pkcs_start(&settings, &parts->pkcs, err)
                                 : pkcs_reconfigure(parts->pkcs, &settings, err);
    pkcs_lists_free(&lists);
    return rc;
}

/* ---- revocation ---- */

static struct revocation_settings
revocation_settings_of(struct daemon *d, const struct config *config, const struct parts *parts)
{
    struct revocation_settings settings = {
        .intune = parts->intune,
        .store = d->store,
        .log = d->log,
        .connector_id = d->connector_id,
        .reason = (enum pki_reason)pki_reason_parse(config->revocation.reason),
        .issuer_name = config->revocation.issuer_name,
        .refuse_foreign = config->revocation.foreign == CONFIG_FOREIGN_REFUSE,
        .numeric_codes = config->revocation.error_codes == CONFIG_ERROR_CODES_NUMBER,
        .poll_interval_ms = config->revocation.poll_interval_ms,
        .max_requests = config->revocation.max_requests,
        .workers = REVOCATION_WORKERS,
    };

    settings.cas = authorities_get0(parts->authorities, &settings.ca_count);
    return settings;
}

/* ---- all of them ---- */

/* The more urgent first. */
int
workloads_start(struct daemon *d, struct parts *parts, struct cc_err *err)
{
    const struct config *config = d->config;
    const struct revocation_settings revocation = revocation_settings_of(d, config, parts);

    if ((config->connector.features & CONFIG_SCEP) != 0 && enrolment_start(d, parts, err) != 0)
        return -1;
    if ((config->connector.features & CONFIG_REVOCATION) != 0 &&
            revocation_start(&revocation, &parts->revocation, err) != 0)
        return -1;
    if ((config->connector.features & CONFIG_PKCS) != 0 && use_pkcs(d, config, parts, err) != 0)
        return -1;
    if ((config->connector.features & CONFIG_PFX_IMPORT) != 0 &&
            start_pfximport(d, parts, err) != 0)
        return -1;
    return 0;
}

static int
reconfigure_pfximport(struct daemon *d, const struct config *new_config, struct cc_err *err)
{
    struct pfximport_settings settings;
    struct pfximport_key *keys = NULL;
    size_t count = 0;
    int rc;

    if (import_keys(d->parts.hsm, new_config, &keys, &count, err) != 0)
        return -1;
    settings = pfximport_settings_of(d, new_config, &d->parts, keys, count);
    rc = pfximport_reconfigure(d->parts.pfximport, &settings, err);
    free(keys);
    return rc;
}

int
workloads_reconfigure(struct daemon *d, const struct config *new_config, struct cc_err *err)
{
    struct parts parts = d->parts;
    const struct revocation_settings revocation = revocation_settings_of(d, new_config, &parts);

    if (parts.revocation != NULL && revocation_reconfigure(parts.revocation, &revocation, err) != 0)
        return -1;
    if (parts.pkcs != NULL && use_pkcs(d, new_config, &parts, err) != 0)
        return -1;
    return parts.pfximport != NULL ? reconfigure_pfximport(d, new_config, err) : 0;
}

void
workloads_adopt(const struct parts *parts)
{
    if (parts->scep != NULL)
        scep_adopt(parts->scep);
    if (parts->revocation != NULL)
        revocation_adopt(parts->revocation);
    if (parts->pkcs != NULL)
        pkcs_adopt(parts->pkcs);
    if (parts->pfximport != NULL)
        pfximport_adopt(parts->pfximport);
}

void
workloads_stop(const struct parts *parts, int64_t drain_ms)
{
    int64_t deadline = cc_deadline_in(drain_ms);

    pfximport_stop(parts->pfximport, cc_deadline_left(deadline));
    pkcs_stop(parts->pkcs, cc_deadline_left(deadline));
    revocation_stop(parts->revocation, cc_deadline_left(deadline));
    scep_stop(parts->scep, cc_deadline_left(deadline));
}

/* ---- what they are doing ---- */

static void
take_flow(const struct flow_status *flow, struct workload_status *ret)
{
    *ret = (struct workload_status){
        .running = true,
        .in_work = flow->in_hand,
        .succeeded = flow->succeeded,
        .failed = flow->failed,
        .last_download_ms = flow->last_download_ms,
        .flow = *flow,
    };
}

static void
get_pkcs(struct pkcs *work, struct workload_status *ret)
{
    struct pkcs_status status;

    pkcs_get_status(work, &status);
    take_flow(&status.flow, ret);
    ret->ready_keys = status.pool_ready;
}

static void
get_pfximport(struct pfximport *work, struct workload_status *ret)
{
    struct flow_status status;

    pfximport_get_status(work, &status);
    take_flow(&status, ret);
}

static void
get_revocation(struct revocation *work, struct workload_status *ret)
{
    struct flow_status status;

    revocation_get_status(work, &status);
    take_flow(&status, ret);
}

void
workload_get_status(const struct daemon *d, enum workload workload, struct workload_status *ret)
{
    const struct parts *parts = &d->parts;

    *ret = (struct workload_status){ .running = false };
    if (workload == WORKLOAD_PKCS && parts->pkcs != NULL)
        get_pkcs(parts->pkcs, ret);
    else if (workload == WORKLOAD_PFX_IMPORT && parts->pfximport != NULL)
        get_pfximport(parts->pfximport, ret);
    else if (workload == WORKLOAD_SCEP && parts->scep != NULL)
        enrolment_get_status(parts->scep, d->log, ret);
    else if (workload == WORKLOAD_REVOCATION && parts->revocation != NULL)
        get_revocation(parts->revocation, ret);
}
