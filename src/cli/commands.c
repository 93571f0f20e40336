/* SPDX-License-Identifier: MIT */
#include <stddef.h>

#include "cli_int.h"

extern const struct cli_command cli_ca;
extern const struct cli_command cli_check;
extern const struct cli_command cli_check_config;
extern const struct cli_command cli_configure;
extern const struct cli_command cli_events;
extern const struct cli_command cli_explain;
extern const struct cli_command cli_identity;
extern const struct cli_command cli_key;
extern const struct cli_command cli_pfx;
extern const struct cli_command cli_scep;
extern const struct cli_command cli_selftest;
extern const struct cli_command cli_status;
extern const struct cli_command cli_store;
extern const struct cli_command cli_token;

/* In the order of --help: what is set up first comes first. */
const struct cli_command *const cli_commands[] = {
    &cli_configure,
    &cli_check_config,
    &cli_check,
    &cli_token,
    &cli_key,
    &cli_identity,
    &cli_ca,
    &cli_pfx,
    &cli_scep,
    &cli_store,
    &cli_status,
    &cli_events,
    &cli_explain,
    &cli_selftest,
    NULL,
};
