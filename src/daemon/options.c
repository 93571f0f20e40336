/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define EXIT_USAGE 2

static const char usage[] =
        "usage: certconnectord [OPTION...]\n"
        "\n"
        "Runs a certificate connector, in the foreground, until SIGTERM.  SIGHUP reads\n"
        "the configuration again.\n"
        "\n"
        "  --config FILE             the configuration (default " CONFIG_DEFAULT_PATH ")\n"
        "  --set SECTION.KEY=VALUE   overrides a setting; may be repeated\n"
        "  --check-config            only check the configuration\n"
        "  --help, --version\n"
        "\n"
        "Exit status: 0 after SIGTERM; 1 when it could not start or go on; 2 for bad\n"
        "usage or a bad configuration, which is named with file and line.\n";

static int
say(FILE *out, const char *text, int status, int *ret_status)
{
    fputs(text, out);
    *ret_status = status;
    return -1;
}

int
options_parse(int argc, char **argv, struct options *ret, int *ret_status)
{
    static const struct option table[] = {
        { "config", required_argument, NULL, 'c' },
        { "set", required_argument, NULL, 's' },
        { "check-config", no_argument, NULL, 'k' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'v' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    *ret = (struct options){ .config_path = CONFIG_DEFAULT_PATH };
    /* There are never more overrides than arguments. */
    if ((ret->overrides = calloc((size_t)argc + 1, sizeof(*ret->overrides))) == NULL)
        return say(stderr, "certconnectord: out of memory\n", EXIT_FAILURE, ret_status);
    optind = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread yet */
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (option) {
        case 'c':
            ret->config_path = optarg;
            break;
        case 's':
            ret->overrides[ret->override_count++] = optarg;
            break;
        case 'k':
            ret->check_only = true;
            break;
        case 'h':
            return say(stdout, usage, EXIT_SUCCESS, ret_status);
        case 'v':
            return say(stdout, "certconnectord " CC_VERSION "\n", EXIT_SUCCESS, ret_status);
        default:
            return say(stderr, "See certconnectord --help.\n", EXIT_USAGE, ret_status);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "certconnectord: unexpected argument %s\n", argv[optind]);
        return say(stderr, "See certconnectord --help.\n", EXIT_USAGE, ret_status);
    }
    return 0;
}

void
options_free(struct options *options)
{
    free(options->overrides);
    options->overrides = NULL;
}
