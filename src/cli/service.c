/* SPDX-License-Identifier: MIT */
#include "service.h"

int
cli_open_service(const struct config *config, struct intune **ret_intune, struct cc_err *err)
{
    struct intune_settings settings = {
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
    };

    return intune_open(&settings, ret_intune, err);
}
