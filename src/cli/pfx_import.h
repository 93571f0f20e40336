/* SPDX-License-Identifier: MIT */
#ifndef CLI_PFX_IMPORT_H
#define CLI_PFX_IMPORT_H

#include "cli_int.h"

/* The verb "pfx import". */
int pfx_import_run(const struct cli_command *command, int argc, char **argv);

#endif
