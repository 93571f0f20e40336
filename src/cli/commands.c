/* SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "cli_int.h"

extern const struct cli_command cli_events;
extern const struct cli_command cli_check_config;
extern const struct cli_command cli_status;
extern const struct cli_command cli_token;
extern const struct cli_command cli_key;

const struct cli_command *const cli_commands[] = {
    &cli_events,
    &cli_check_config,
    &cli_status,
    &cli_token,
    &cli_key,
    NULL,
};
