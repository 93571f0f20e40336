/* SPDX-License-Identifier: MIT */
#include "service.h"

#define TOKEN_OPEN_MS 15000

static int
open_token(const struct config *config, struct cli_service *service, struct cc_err *err)
{
    const struct hsm_settings token = {
        .helper = config->token.helper,
        .module = config->token.module,
        .init_args = config->token.init_args,
        .uri = config->token.uri,
        .pin = config->token.pin,
        .profile = config->token.profile,
        .sessions = 1,
        .deadline_ms = config->token.deadline_ms,
        .allow_raw_rsa = config->token.allow_raw_rsa,
    };

    if (hsm_open(&token, &service->hsm, err) != 0)
        return -1;
    return hsm_wait_open(service->hsm, TOKEN_OPEN_MS, err);
}

static int
set_sign_in(const struct config *config, struct cli_service *service,
        struct intune_settings *settings, struct cc_err *err)
{
    if (config->service.client_certificate == NULL) {
        settings->client_secret = config->service.client_secret;
        return 0;
    }
    settings->assertion = (struct intune_assertion){
        .certificate = config->service.client_certificate,
        .alg = config->service.client_assertion == CONFIG_ASSERTION_RS256 ? INTUNE_RS256
                                                                          : INTUNE_PS256,
        .chain = config->service.client_chain,
    };
    if (open_token(config, service, err) != 0)
        return -1;
    return hsm_key_get0(service->hsm, HSM_ROLE_IDENTITY, config->service.client_key,
            &settings->assertion.key, err);
}

int
cli_service_open(const struct config *config, struct cli_service *service, struct cc_err *err)
{
    struct intune_settings settings = {
        .authority = config->service.authority,
        .graph = config->service.graph,
        .graph_version = config->service.graph_version,
        .resource = config->service.resource,
        .app_id = config->service.intune_app_id,
        .tenant = config->service.tenant,
        .client_id = config->service.client_id,
        .caller_info = "certconnector/" CC_VERSION,
        .proxy = config->service.proxy,
        .no_proxy = config->service.no_proxy,
        .ca_file = config->service.ca_file,
        .allow_http = config->service.allow_http,
        .timeout_ms = config->service.timeout_ms,
    };

    if (set_sign_in(config, service, &settings, err) != 0)
        return -1;
    return intune_open(&settings, &service->intune, err);
}

void
cli_service_close(struct cli_service *service)
{
    intune_close(service->intune);
    hsm_close(service->hsm);
    *service = (struct cli_service){ .intune = NULL };
}
