/* SPDX-License-Identifier: MIT */
/* certconnector: the administrator's command.  Picks the command; everything else is in its own file. */

#include <stdio.h>
#include <string.h>

#include "base/process.h"
#include "cli_int.h"

static void
print_help(FILE *out)
{
    fputs("usage: certconnector COMMAND [OPTION...]\n\n", out);
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++)
        fprintf(out, "  %-14s %s\n", (*command)->name, (*command)->summary);
    fputs("\ncertconnector COMMAND --help tells more.\n", out);
}

int
main(int argc, char **argv)
{
    cc_process_harden();
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("certconnector " CC_VERSION);
        return CLI_OK;
    }
    for (const struct cli_command *const *command = cli_commands; *command != NULL; command++)
        if (strcmp((*command)->name, argv[1]) == 0)
            return (*command)->run(*command, argc - 1, argv + 1);
    fprintf(stderr, "certconnector: unknown command %s (see certconnector --help)\n", argv[1]);
    return CLI_USAGE;
}
