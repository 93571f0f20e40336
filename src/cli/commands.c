/* SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "cli_int.h"

extern const struct cli_command cli_events;
extern const struct cli_command cli_check_config;

const struct cli_command *const cli_commands[] = {
    &cli_events,
    &cli_check_config,
    NULL,
};
