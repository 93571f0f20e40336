/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdlib.h>

#include "authorities.h"

/* The SCEP server and its settings. */

static struct scep_profile
profile_of(const struct config_scep *config, const struct authorities *authorities)
{
    static const enum scep_challenge challenges[] = {
        [CONFIG_CHALLENGE_SERVICE] = SCEP_CHALLENGE_SERVICE,
        [CONFIG_CHALLENGE_STATIC] = SCEP_CHALLENGE_STATIC,
        [CONFIG_CHALLENGE_FILE] = SCEP_CHALLENGE_FILE,
        [CONFIG_CHALLENGE_HOOK] = SCEP_CHALLENGE_HOOK,
    };
    static const enum scep_legacy legacies[] = {
        [CONFIG_LEGACY_NONE] = SCEP_LEGACY_NONE,
        [CONFIG_LEGACY_3DES] = SCEP_LEGACY_3DES,
        [CONFIG_LEGACY_DES] = SCEP_LEGACY_DES,
    };

    return (struct scep_profile){
        .name = config->name,
        .ca = authorities_find(authorities, config->ca),
        .profile = authorities_profile(authorities, config->profile),
        .challenge = challenges[config->challenge],
        .challenge_secret = config->challenge_secret,
        .challenge_file = config->challenge_file,
        .challenge_url = config->challenge_url,
        .legacy = legacies[config->legacy],
        .before_reply = config->notify == CONFIG_NOTIFY_BEFORE_REPLY,
        .renewal_window_ms = config->renewal_window_ms,
        .renewal_grace_ms = config->renewal_grace_ms,
        .queries = config->queries,
        .chain_in_reply = config->chain_in_reply,
        .root_in_chain = config->root_in_chain,
        .next_ca_file = config->next_ca,
        .ra_sign_file = config->ra_sign,
        .ra_encrypt_file = config->ra_encrypt,
    };
}

/* Without a key of its own for signing, one key does both. */
static int
get_keys(const struct config *config, const struct parts *parts, struct scep_settings *ret,
        struct cc_err *err)
{
    const char *encrypt = config_key(config, hsm_role_name(HSM_ROLE_SCEP_RA_ENCRYPT));
    const char *sign = config_key(config, hsm_role_name(HSM_ROLE_SCEP_RA_SIGN));
    const char *seal = config_key(config, hsm_role_name(HSM_ROLE_SEAL));

    if (hsm_key_get0(parts->hsm, HSM_ROLE_SCEP_RA_ENCRYPT, encrypt, &ret->encrypt, err) != 0 ||
            hsm_key_get0(parts->hsm, HSM_ROLE_SCEP_RA_SIGN, sign != NULL ? sign : encrypt,
                    &ret->sign, err) != 0)
        return -1;
    return hsm_key_get0(parts->hsm, HSM_ROLE_SEAL, seal, &ret->seal, err);
}

int
enrolment_start(struct daemon *d, struct parts *parts, struct cc_err *err)
{
    const struct config *config = d->begun_with;
    struct scep_profile *profiles = calloc(config->scep_profile_count + 1, sizeof(*profiles));
    struct scep_settings settings = {
        .hsm = parts->hsm,
        .intune = parts->intune,
        .store = d->store,
        .log = d->log,
        .listen = config->scep.listen,
        .path = config->scep.path,
        .workers = config->scep.workers,
        .max_connections = config->scep.max_connections,
        .profiles = profiles,
        .deadline_ms = config->scep.deadline_ms,
        .remember_ms = config->scep.remember_ms,
        .proxy = config->service.proxy,
        .proxy_user = config->service.proxy_user,
        .proxy_password = config->service.proxy_password,
        .no_proxy = config->service.no_proxy,
        .ca_file = config->service.ca_file,
        .allow_http = config->service.allow_http,
    };
    int rc;

    if (profiles == NULL)
        return cc_err_nomem(err);
    profiles[settings.profile_count++] = profile_of(&config->scep.own, parts->authorities);
    for (size_t i = 0; i < config->scep_profile_count; i++)
        profiles[settings.profile_count++] =
                profile_of(&config->scep_profiles[i], parts->authorities);
    rc = get_keys(config, parts, &settings, err);
    if (rc == 0)
        rc = scep_start(&settings, &parts->scep, err);
    free(profiles);
    return rc;
}

/* As of the other workloads: the admin events that were written since the start. */
void
enrolment_get_status(struct scep *scep, struct eventlog *log, struct workload_status *ret)
{
    struct scep_status status;

    scep_get_status(scep, &status);
    *ret = (struct workload_status){
        .running = true,
        .in_work = status.in_work,
        .succeeded = eventlog_count(log, EVENT_SCREP_REQUEST_SUCCESS),
        .failed = eventlog_count(log, EVENT_SCEP_REQUEST_ISSUED_FAILURE) +
                  eventlog_count(log, EVENT_SCEP_REQUEST_UPLOAD_FAILURE),
        .scep = status,
    };
}
