/* SPDX-License-Identifier: MIT */
#include "target.h"

#include <string.h>

static const char *
first_of(const char *a, const char *b)
{
    return a != NULL ? a : b;
}

int
cli_target_resolve(struct cli_target *target, struct cc_err *err)
{
    const struct config *config;

    if (target->config_path != NULL || target->module == NULL) {
        if (cli_load_config(target->config_path, &target->config, err) != 0)
            return target->config_path != NULL
                           ? -1
                           : cc_err_in(err,
                                     "neither --module nor a configuration says which token");
    }
    target->admin = (struct hsm_admin_target){
        .module = target->module,
        .init_args = target->init_args,
        .uri = target->uri,
        .pin = target->pin,
        .so_pin = target->so_pin,
    };
    if ((config = target->config) == NULL)
        return 0;
    target->admin.helper = config->token.helper;
    target->admin.module = first_of(target->module, config->token.module);
    target->admin.init_args = first_of(target->init_args, config->token.init_args);
    target->admin.uri = first_of(target->uri, config->token.uri);
    target->admin.pin = first_of(target->pin, config->token.pin);
    return 0;
}

void
cli_target_free(struct cli_target *target)
{
    config_free(target->config);
    memset(target, 0, sizeof(*target));
}
