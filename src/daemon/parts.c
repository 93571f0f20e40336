/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdlib.h>
#include <string.h>

#include "authorities.h"
#include "base/log.h"
#include "store/instance.h"
#include "upkeep/pins.h"

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
    case INTUNE_SIGN_IN_UNABLE:
        atomic_store(&d->service_was_lost, true);
        eventlog_write(d->log, EVENT_SIGN_IN_FAILED, &fields,
                "The connector cannot sign in, as it cannot say who it is; it is tried again until it can: %s",
                cc_err_text(err));
        break;
    case INTUNE_CERTIFICATE_REFUSED:
    case INTUNE_CONNECTOR_REMOVED:
        atomic_store(&d->service_was_lost, true); /* who looks after the identity says it */
        break;
    case INTUNE_CONNECTOR_LIMIT:
        atomic_store(&d->service_was_lost, true);
        eventlog_write(d->log, EVENT_CONNECTOR_LIMIT, &fields,
                "The service has no place for this connector, and gives it no requests; it is asked "
                "again until there is one: %s",
                cc_err_text(err));
        break;
    case INTUNE_MOVED:
        eventlog_write(d->log, EVENT_ACCOUNT_MOVED, NULL,
                "The service moved the account; its new addresses are used from now on");
        break;
    case INTUNE_CLOCK_OFF:
        eventlog_write(d->log, EVENT_CLOCK_SKEW, &fields, "Have the clock set, by NTP: %s",
                cc_err_text(err));
        break;
    case INTUNE_CLOCK_RIGHT:
        eventlog_write(d->log, EVENT_CLOCK_RIGHT, NULL,
                "The clock of this host agrees with that of the service again");
        break;
    case INTUNE_CONTACT_NONE:
        break;
    }
}

/* ---- settings ---- */

struct eventlog_settings
parts_log_settings(const struct daemon *d)
{
    static const enum eventlog_debug debug[] = {
        [CONFIG_DEBUG_NONE] = EVENTLOG_DEBUG_NONE,
        [CONFIG_DEBUG_ADMIN] = EVENTLOG_DEBUG_ADMIN,
        [CONFIG_DEBUG_OPERATIONAL] = EVENTLOG_DEBUG_OPERATIONAL,
        [CONFIG_DEBUG_ALL] = EVENTLOG_DEBUG_ALL,
    };
    const struct config *config = d->config;

    return (struct eventlog_settings){
        .directory = config->log.directory,
        .connector = d->name,
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
        .pin_memory = upkeep_pins_memory(d->store),
        .on_state = on_token,
        .on_state_arg = d,
        .on_key = on_key,
        .on_key_arg = d,
    };
}

/* How the connector says who it is. */
static int
sign_in_settings(struct hsm *hsm, const struct config *config, struct intune_settings *ret,
        struct cc_err *err)
{
    static const enum intune_assertion_alg algs[] = {
        [CONFIG_ASSERTION_PS256] = INTUNE_PS256,
        [CONFIG_ASSERTION_RS256] = INTUNE_RS256,
    };

    if (config->service.client_certificate == NULL) {
        ret->client_secret = config->service.client_secret;
        return 0;
    }
    ret->assertion = (struct intune_assertion){
        .certificate = config->service.client_certificate,
        .alg = algs[config->service.client_assertion],
        .chain = config->service.client_chain,
    };
    return hsm_key_get0(hsm, HSM_ROLE_IDENTITY, config->service.client_key, &ret->assertion.key,
            err);
}

int
parts_service_settings(struct daemon *d, struct hsm *hsm, const struct config *config,
        struct intune_settings *ret, struct cc_err *err)
{
    *ret = (struct intune_settings){
        .authority = config->service.authority,
        .graph = config->service.graph,
        .graph_version = config->service.graph_version,
        .resource = config->service.resource,
        .app_id = config->service.intune_app_id,
        .tenant = config->service.tenant,
        .client_id = config->service.client_id,
        .caller_info = "certconnector/" CC_VERSION,
        .proxy = config->service.proxy,
        .proxy_user = config->service.proxy_user,
        .proxy_password = config->service.proxy_password,
        .no_proxy = config->service.no_proxy,
        .allowed_hosts = config->service.allowed_hosts.item,
        .allowed_host_count = config->service.allowed_hosts.count,
        .any_port = config->service.cloud == CONFIG_CLOUD_CUSTOM,
        .private_addresses = config->service.private_addresses == CONFIG_PRIVATE_YES,
        .max_clock_skew_ms = config->service.max_clock_skew_ms,
        .ca_file = config->service.ca_file,
        .allow_http = config->service.allow_http,
        .timeout_ms = config->service.timeout_ms,
        .on_contact = on_contact,
        .on_contact_arg = d,
    };
    return sign_in_settings(hsm, config, ret, err);
}

/* ---- begin, change, end ---- */

static void
set_parts(struct daemon *d, const struct parts *parts)
{
    pthread_mutex_lock(&d->lock);
    d->parts = *parts;
    pthread_mutex_unlock(&d->lock);
}

/* Each part goes out of sight of other threads before it is closed. */
static void
close_parts(struct daemon *d, const struct parts *parts, int64_t drain_ms)
{
    struct parts seen = *parts;

    seen.expiry = NULL;
    seen.pfximport = NULL;
    seen.pkcs = NULL;
    seen.revocation = NULL;
    seen.scep = NULL;
    seen.authorities = NULL;
    seen.keys = NULL;
    set_parts(d, &seen);
    expiry_stop(parts->expiry);
    workloads_stop(parts, drain_ms);
    keys_stop(parts->keys);
    identity_stop(parts->identity);
    health_stop(parts->health);
    set_parts(d, &(struct parts){ .hsm = NULL });
    authorities_close(parts->authorities);
    intune_close(parts->intune);
    identity_close(parts->identity);
    hsm_close(parts->hsm);
    store_leave(d->store);
}

static int
open_authorities(struct daemon *d, struct parts *parts, struct cc_err *err)
{
    const struct authorities_settings settings = {
        .config = d->config,
        .hsm = parts->hsm,
        .store = d->store,
        .log = d->log,
        .intune = parts->intune,
    };

    return authorities_open(&settings, &parts->authorities, err);
}

/* Without features there may be none to talk to. */
static bool
has_service(const struct config *config)
{
    return config->service.tenant != NULL && config->service.client_id != NULL;
}

static int
open_service(struct daemon *d, struct parts *parts, struct cc_err *err)
{
    struct intune_settings service;

    if (parts_service_settings(d, parts->hsm, d->config, &service, err) != 0 ||
            (has_service(d->config) &&
                    identity_open(d, parts->hsm, d->config, &parts->identity, err) != 0))
        return -1;
    identity_fill(parts->identity, &service);
    return intune_open(&service, &parts->intune, err);
}

static int
start_once(struct daemon *d, struct cc_err *err)
{
    const struct hsm_settings token = token_settings(d, d->config);
    struct parts parts = { .hsm = NULL };
    int rc = -1;

    d->begun_with = d->config;
    if (membership_join(d, err) != 0)
        goto out;
    if (hsm_open(&token, &parts.hsm, err) != 0)
        goto out;
    if (open_service(d, &parts, err) != 0)
        goto out;
    if (open_authorities(d, &parts, err) != 0)
        goto out;
    if (workloads_start(d, &parts, err) != 0)
        goto out;
    if (keys_start(d, parts.hsm, d->config->service.heartbeat_ms, &parts.keys, err) != 0)
        goto out;
    if (expiry_start(d, parts.scep, &parts.expiry, err) != 0)
        goto out;
    if (parts.identity != NULL && identity_start(parts.identity, parts.intune, err) != 0)
        goto out;
    set_parts(d, &parts);
    if (has_service(d->config) &&
            health_start(d, parts.intune, d->config->service.heartbeat_ms, &parts.health, err) != 0)
        goto out;
    d->parts.health = parts.health;
    rc = 0;
out:
    if (rc != 0)
        close_parts(d, &parts, 0);
    return rc;
}

int
parts_start(struct daemon *d, struct cc_err *err)
{
    for (;;) {
        struct store_state before;
        struct cc_err why = { 0 };

        store_get_state(d->store, &before);
        if (start_once(d, &why) == 0)
            return 0;
        if (membership_wait(d, before.outages, &why, err) != 0)
            return -1;
    }
}

static void
end_parts(struct daemon *d, int64_t drain_ms)
{
    const struct parts parts = d->parts;

    close_parts(d, &parts, drain_ms);
    if (d->begun_with != d->config)
        config_free(d->begun_with);
    d->begun_with = NULL;
}

void
parts_stop(struct daemon *d)
{
    end_parts(d, DAEMON_DRAIN_MS);
}

void
parts_drop(struct daemon *d)
{
    end_parts(d, 0);
}

static int
reconfigure_service(struct daemon *d, const struct config *new_config, struct cc_err *err)
{
    struct intune_settings service;

    if (d->parts.identity != NULL)
        return identity_reconfigure(d->parts.identity, new_config, err);
    if (parts_service_settings(d, d->parts.hsm, new_config, &service, err) != 0)
        return -1;
    return intune_reconfigure(d->parts.intune, &service, err);
}

int
parts_reconfigure(struct daemon *d, const struct config *new_config, struct cc_err *err)
{
    if (workloads_reconfigure(d, new_config, err) != 0 ||
            reconfigure_service(d, new_config, err) != 0)
        return -1;
    if (d->parts.health != NULL)
        health_set_interval(d->parts.health, new_config->service.heartbeat_ms);
    keys_set_interval(d->parts.keys, new_config->service.heartbeat_ms);
    expiry_reconfigure(d->parts.expiry, new_config);
    return 0;
}
