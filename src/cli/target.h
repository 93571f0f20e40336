/* SPDX-License-Identifier: MIT */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

/*
 * Which token a command means: the one of the configuration, or of --module, --uri and so on.  An option counts more
 * than the configuration, which is read when --config is given or --module is not.
 */

#include "cli_int.h"
#include "hsm/admin.h"

struct cli_target {
    /* From the command line. */
    const char *config_path, *module, *init_args, *uri, *pin, *so_pin;

    /* What comes of it; borrows from the command line and from config. */
    struct hsm_admin_target admin;
    struct config *config; /* NULL: not read */
};

/* Entries of a struct cli_option table: for the module, and for one token in it. */
#define CLI_MODULE_OPTIONS(target)                                                                 \
    { "config", &(target).config_path, NULL }, { "module", &(target).module, NULL },               \
    {                                                                                              \
        "init-args", &(target).init_args, NULL                                                     \
    }
#define CLI_TOKEN_OPTIONS(target)                                                                  \
    CLI_MODULE_OPTIONS(target), { "uri", &(target).uri, NULL },                                    \
    {                                                                                              \
        "pin", &(target).pin, NULL                                                                 \
    }

/* Their part of --help. */
#define CLI_MODULE_HELP                                                                            \
    "  --module FILE     PKCS#11 module; without it, module and token are those of the\n"          \
    "                    configuration\n"                                                          \
    "  --init-args TEXT  what the module wants at its start (NSS)\n"                               \
    "  --config FILE     the configuration (default " CONFIG_DEFAULT_PATH ")\n"
#define CLI_TOKEN_HELP                                                                             \
    "  --uri URI         the token: pkcs11:token=LABEL\n"                                          \
    "  --pin REFERENCE   its PIN: file:PATH or credential:NAME, never the PIN itself\n" CLI_MODULE_HELP

CC_MUST int cli_target_resolve(struct cli_target *target, struct cc_err *err);
void cli_target_free(struct cli_target *target);

#endif
