/* SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "cli_int.h"

const struct cli_command *const cli_commands[] = {
    NULL,
};
