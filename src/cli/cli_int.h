/* SPDX-License-Identifier: MIT */
#ifndef CLI_CLI_INT_H
#define CLI_CLI_INT_H

/*
 * What the administrator's commands share.
 *
 * A command is one struct cli_command in a file of its own, listed in commands.c.  Its run() gets the arguments from
 * its own name on, parses them with cli_options(), calls the rooms, prints to standard output, and returns an exit
 * status; errors go to standard error in one line that says what to do.  Commands with verbs ("key list") pick the
 * verb with cli_verb() and are otherwise the same.
 */

#include <getopt.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"

/* Exit statuses. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_command {
    const char *name;    /* "events" */
    const char *summary; /* one line for the list of commands */
    const char *usage;   /* the whole text of --help, ending with a line end */
    int (*run)(const struct cli_command *command, int argc, char **argv);
};

/* All commands, ended by NULL. */
extern const struct cli_command *const cli_commands[];

/* One option of a command: long name, whether it takes a value, and where the value goes. */
struct cli_option {
    const char *name;   /* "json" */
    const char **value; /* takes a value, which goes here (borrowed from argv); or NULL */
    bool *flag;         /* takes none, and sets this */
};

/*
 * Parses the options of argv[1…] (ended by an option without a name); --help prints the usage.  *ret_first is the
 * index of the first argument that is no option.  0; else the caller returns *ret_status at once.
 */
CC_MUST int cli_options(const struct cli_command *command, int argc, char **argv,
        const struct cli_option *options, int *ret_first, int *ret_status);

/* The same, and each option with a value is told as it comes, for those that may be repeated. */
typedef void (*cli_option_fn)(void *arg, const char *name, const char *value);
CC_MUST int cli_options_each(const struct cli_command *command, int argc, char **argv,
        const struct cli_option *options, cli_option_fn each, void *arg, int *ret_first,
        int *ret_status);

/* A verb of a command ("list" of "key list"). */
struct cli_verb {
    const char *name;
    int (*run)(const struct cli_command *command, int argc, char **argv); /* argv[0] is the verb */
};

/* Runs the verb that argv[1] names; verbs end with one without a name. */
int cli_verb(const struct cli_command *command, int argc, char **argv,
        const struct cli_verb *verbs);

/* "certconnector COMMAND: text" and where to get help; returns CLI_USAGE. */
int cli_usage_error(const struct cli_command *command, const char *fmt, ...) CC_PRINTF(2, 3);

/* "certconnector COMMAND: text of err"; returns CLI_FAILED, or CLI_USAGE for errors of usage and configuration. */
int cli_fail(const struct cli_command *command, const struct cc_err *err);

/* The configuration from path, or from its usual place when path is NULL. */
CC_MUST int cli_load_config(const char *path, struct config **ret_config, struct cc_err *err);

/* The object as indented JSON on standard output; takes it over. */
int cli_print_json(json_object *take_object);

/* Text of a peer for a terminal, control bytes escaped; ends no line. */
void cli_print_escaped(const char *text);

/* Rows under headings, columns as wide as needed; cells are escaped.  cells: rows × columns. */
void cli_print_table(const char *const *headings, size_t columns, const char *const *cells,
        size_t rows);

#endif
