/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/*
 * The parts and their settings: from the configuration to what each room wants to know.
 */

/* ---- what the rooms report ---- */

static void
on_token(void *arg, enum hsm_state state, const struct cc_err *err)
{
    struct daemon *d = arg;
    const struct event_fields fields = { .error = err };

    switch (state) {
    case HSM_STATE_OPEN:
        if (atomic_exchange(&d->token_was_lost, false))
            eventlog_write(d->log, EVENT_TOKEN_RECOVERED, NULL, "The token works again");
        else
            eventlog_write(d->log, EVENT_TOKEN_OPENED, NULL, "The token is open");
        break;
    case HSM_STATE_LOST:
        atomic_store(&d->token_was_lost, true);
        eventlog_write(d->log, EVENT_TOKEN_LOST, &fields,
                "The token cannot be used; it is tried again until it can: %s", cc_err_text(err));
        break;
    case HSM_STATE_PIN_REFUSED:
        atomic_store(&d->token_was_lost, true);
        eventlog_write(d->log, EVENT_TOKEN_PIN_REFUSED, &fields,
                "The token refused the PIN, which is not tried again: correct it in its file, that "
                "is noticed");
        break;
    case HSM_STATE_STARTING:
    case HSM_STATE_CLOSED:
        break;
    }
}

/* Nothing of ours makes such a key good again: somebody must look. */
static void
on_key(void *arg, const struct hsm_key *key, const struct cc_err *err)
{
    struct daemon *d = arg;
    const struct event_fields fields = { .error = err };
    const char *role = hsm_role_name(hsm_key_role(key));

    if (err->code == HSM_FAULT_KEY_REPLACED)
        eventlog_write(d->log, EVENT_TOKEN_KEY_REPLACED, &fields,
                "The %s key was replaced on the token and is not used: put the old one back, or "
                "restart to use the new one: %s",
                role, cc_err_text(err));
    else
        eventlog_write(d->log, EVENT_TOKEN_KEY_UNUSABLE, &fields, "The %s key cannot be used: %s",
                role, cc_err_text(err));
}

static void
on_contact(void *arg, enum intune_contact contact, const struct cc_err *err)
{
    struct daemon *d = arg;
    const struct event_fields fields = { .error = err };

    switch (contact) {
    case INTUNE_CONTACT_OK:
        if (atomic_exchange(&d->service_was_lost, false))
            eventlog_write(d->log, EVENT_SERVICE_RECOVERED, NULL, "The service answers again");
        break;
    case INTUNE_CONTACT_LOST:
        atomic_store(&d->service_was_lost, true);
        eventlog_write(d->log, EVENT_SERVICE_UNREACHABLE, &fields,
                "The service cannot be reached: %s", cc_err_text(err));
        break;
    case INTUNE_SIGN_IN_REFUSED:
        atomic_store(&d->service_was_lost, true);
        eventlog_write(d->log, EVENT_SIGN_IN_FAILED, &fields,
                "The service refused to sign the connector in: %s", cc_err_text(err));
        break;
    case INTUNE_MOVED:
        eventlog_write(d->log, EVENT_ACCOUNT_MOVED, NULL,
                "The service moved the account; its new addresses are used from now on");
        break;
    case INTUNE_CONTACT_NONE:
        break;
    }
}

/* ---- settings ---- */

struct eventlog_settings
parts_log_settings(const struct config *config)
{
    static const enum eventlog_debug debug[] = {
        [CONFIG_DEBUG_NONE] = EVENTLOG_DEBUG_NONE,
        [CONFIG_DEBUG_ADMIN] = EVENTLOG_DEBUG_ADMIN,
        [CONFIG_DEBUG_OPERATIONAL] = EVENTLOG_DEBUG_OPERATIONAL,
        [CONFIG_DEBUG_ALL] = EVENTLOG_DEBUG_ALL,
    };

    return (struct eventlog_settings){
        .directory = config->log.directory,
        .connector = config->connector.name,
        .max_size = config->log.max_size,
        .debug = debug[config->log.debug],
        .journald = config->log.journald,
    };
}

static struct hsm_settings
token_settings(struct daemon *d, const struct config *config)
{
    return (struct hsm_settings){
        .helper = config->token.helper,
        .module = config->token.module,
        .init_args = config->token.init_args,
        .uri = config->token.uri,
        .pin = config->token.pin,
        .profile = config->token.profile,
        .sessions = config->token.sessions,
        .deadline_ms = config->token.deadline_ms,
        .allow_raw_rsa = config->token.allow_raw_rsa,
        .state_dir = config->connector.state_directory,
        .on_state = on_token,
        .on_state_arg = d,
        .on_key = on_key,
        .on_key_arg = d,
    };
}

static struct intune_settings
service_settings(struct daemon *d, const struct config *config)
{
    return (struct intune_settings){
        .authority = config->service.authority,
        .graph = config->service.graph,
        .graph_version = config->service.graph_version,
        .resource = config->service.resource,
        .app_id = config->service.intune_app_id,
        .tenant = config->service.tenant,
        .client_id = config->service.client_id,
        .client_secret = config->service.client_secret,
        .caller_info = "certconnector/" CC_VERSION,
        .proxy = config->service.proxy,
        .no_proxy = config->service.no_proxy,
        .ca_file = config->service.ca_file,
        .allow_http = config->service.allow_http,
        .timeout_ms = config->service.timeout_ms,
        .on_contact = on_contact,
        .on_contact_arg = d,
    };
}

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

/* ---- begin, change, end ---- */

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

static void
set_parts(struct daemon *d, const struct parts *parts)
{
    pthread_mutex_lock(&d->lock);
    d->parts = *parts;
    pthread_mutex_unlock(&d->lock);
}

/* Each part goes out of sight of other threads before it is closed. */
static void
close_parts(struct daemon *d, const struct parts *parts)
{
    struct parts seen = *parts;

    seen.pfximport = NULL;
    seen.keys = NULL;
    set_parts(d, &seen);
    pfximport_stop(parts->pfximport, DAEMON_DRAIN_MS);
    keys_stop(parts->keys);
    health_stop(parts->health);
    set_parts(d, &(struct parts){ .hsm = NULL });
    intune_close(parts->intune);
    hsm_close(parts->hsm);
}

int
parts_start(struct daemon *d, struct cc_err *err)
{
    const struct hsm_settings token = token_settings(d, d->config);
    const struct intune_settings service = service_settings(d, d->config);
    struct parts parts = { .hsm = NULL };
    int rc = -1;

    if ((d->config->connector.features & ~(unsigned)DAEMON_FEATURES) != 0)
        cc_log(CC_LOG_WARNING, "daemon",
                "this version has the feature pfx-import only; others are off");
    if (hsm_open(&token, &parts.hsm, err) != 0)
        goto out;
    if (intune_open(&service, &parts.intune, err) != 0)
        goto out;
    if ((d->config->connector.features & CONFIG_PFX_IMPORT) != 0 &&
            start_pfximport(d, &parts, err) != 0)
        goto out;
    if (keys_start(d, parts.hsm, d->config->service.heartbeat_ms, &parts.keys, err) != 0)
        goto out;
    set_parts(d, &parts);
    if (health_start(d, parts.intune, d->config->service.heartbeat_ms, &parts.health, err) != 0)
        goto out;
    d->parts.health = parts.health;
    rc = 0;
out:
    if (rc != 0)
        close_parts(d, &parts);
    return rc;
}

void
parts_stop(struct daemon *d)
{
    const struct parts parts = d->parts;

    close_parts(d, &parts);
}

int
parts_reconfigure(struct daemon *d, const struct config *new_config, struct cc_err *err)
{
    const struct intune_settings service = service_settings(d, new_config);
    struct pfximport_settings settings;
    struct pfximport_key *keys = NULL;
    size_t count = 0;
    int rc = 0;

    if (d->parts.pfximport != NULL) {
        if (import_keys(d->parts.hsm, new_config, &keys, &count, err) != 0)
            return -1;
        settings = pfximport_settings_of(d, new_config, &d->parts, keys, count);
        rc = pfximport_reconfigure(d->parts.pfximport, &settings, err);
        free(keys);
    }
    if (rc != 0 || intune_reconfigure(d->parts.intune, &service, err) != 0)
        return -1;
    health_set_interval(d->parts.health, new_config->service.heartbeat_ms);
    keys_set_interval(d->parts.keys, new_config->service.heartbeat_ms);
    return 0;
}
