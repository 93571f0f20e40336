/* SPDX-License-Identifier: MIT */
#include "service.h"

#include "authority.h"
#include "base/secret.h"
#include "base/text.h"

#define TOKEN_OPEN_MS 15000

static int
open_token(const struct config *config, struct cli_service *service, struct cc_err *err)
{
    struct hsm_settings token = cli_token_settings(config);

    token.sessions = 1;
    if (hsm_open(&token, &service->hsm, err) != 0)
        return -1;
    return hsm_wait_open(service->hsm, TOKEN_OPEN_MS, err);
}

int
cli_service_settings(const struct config *config, struct hsm *hsm, struct intune_settings *ret,
        struct cc_err *err)
{
    *ret = (struct intune_settings){
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
        .proxy_user = config->service.proxy_user,
        .proxy_password = config->service.proxy_password,
        .no_proxy = config->service.no_proxy,
        .allowed_hosts = config->service.allowed_hosts.item,
        .allowed_host_count = config->service.allowed_hosts.count,
        .any_port = config->service.cloud == CONFIG_CLOUD_CUSTOM,
        .private_addresses = config->service.private_addresses == CONFIG_PRIVATE_YES,
        .ca_file = config->service.ca_file,
        .allow_http = config->service.allow_http,
        .timeout_ms = config->service.timeout_ms,
    };
    if (config->service.client_certificate == NULL)
        return 0;
    ret->client_secret = NULL;
    ret->assertion = (struct intune_assertion){
        .certificate = config->service.client_certificate,
        .alg = config->service.client_assertion == CONFIG_ASSERTION_RS256 ? INTUNE_RS256
                                                                          : INTUNE_PS256,
        .chain = config->service.client_chain,
    };
    return hsm_key_get0(hsm, HSM_ROLE_IDENTITY, config->service.client_key, &ret->assertion.key,
            err);
}

int
cli_service_open(const struct config *config, struct cli_service *service, struct cc_err *err)
{
    struct intune_settings settings;

    if (cli_service_signs_with_token(config) && open_token(config, service, err) != 0)
        return -1;
    if (cli_service_settings(config, service->hsm, &settings, err) != 0)
        return -1;
    return intune_open(&settings, &service->intune, err);
}

int
cli_service_open_as(const struct config *config, const struct intune_enrolled *enrolled,
        struct cli_service *service, struct cc_err *err)
{
    const char *uri = config_key(config, enrolled->key);
    struct intune_settings settings;

    if (uri == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "[keys] has no %s, whose certificate it is",
                enrolled->key);
    if (open_token(config, service, err) != 0 ||
            cli_service_settings(config, service->hsm, &settings, err) != 0)
        return -1;
    settings.identity = (struct intune_identity){
        .certificate = enrolled->certificate,
        .chain = enrolled->chain,
        .connector_id = enrolled->connector_id,
    };
    if (hsm_key_get0(service->hsm, HSM_ROLE_IDENTITY, uri, &settings.identity.key, err) != 0)
        return -1;
    return intune_open(&settings, &service->intune, err);
}

bool
cli_service_signs_with_token(const struct config *config)
{
    return config->service.client_certificate != NULL;
}

bool
cli_is_of_unit(const char *reference)
{
    struct cc_secret *secret;
    bool here;

    if (reference == NULL || !cc_starts_with(reference, "credential:"))
        return false;
    secret = cc_secret_load(reference, NULL);
    here = secret != NULL;
    cc_secret_free(secret);
    return !here;
}

bool
cli_service_needs_credential(const struct config *config)
{
    return cli_is_of_unit(cli_service_signs_with_token(config) ? config->token.pin
                                                               : config->service.client_secret) ||
           cli_is_of_unit(config->service.proxy_password);
}

void
cli_service_close(struct cli_service *service)
{
    intune_close(service->intune);
    hsm_close(service->hsm);
    *service = (struct cli_service){ .intune = NULL };
}
