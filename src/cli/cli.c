/* SPDX-License-Identifier: MIT */
#include "cli_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define OPTIONS_MAX 32

int
cli_usage_error(const struct cli_command *command, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "certconnector %s: ", command->name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, " (see certconnector %s --help)\n", command->name);
    return CLI_USAGE;
}

int
cli_fail(const struct cli_command *command, const struct cc_err *err)
{
    fprintf(stderr, "certconnector %s: %s\n", command->name, cc_err_text(err));
    return err->domain == CC_DOM_USAGE || err->domain == CC_DOM_CONFIG ? CLI_USAGE : CLI_FAILED;
}

/* getopt_long's table of our options, with --help at index 0. */
static size_t
long_options(const struct cli_option *options, struct option *ret)
{
    size_t count = 1;

    ret[0] = (struct option){ "help", no_argument, NULL, 0 };
    for (; options->name != NULL && count < OPTIONS_MAX; options++, count++)
        ret[count] = (struct option){ options->name,
            options->value != NULL ? required_argument : no_argument, NULL, 0 };
    ret[count] = (struct option){ 0 };
    return count;
}

int
cli_options(const struct cli_command *command, int argc, char **argv,
        const struct cli_option *options, int *ret_first, int *ret_status)
{
    return cli_options_each(command, argc, argv, options, NULL, NULL, ret_first, ret_status);
}

int
cli_options_each(const struct cli_command *command, int argc, char **argv,
        const struct cli_option *options, cli_option_fn each, void *arg, int *ret_first,
        int *ret_status)
{
    struct option table[OPTIONS_MAX + 1];
    int index, found;

    (void)long_options(options, table);
    opterr = 0;
    optind = 0; /* glibc: start over, a command line before may have been parsed */
    while ((found = getopt_long(argc, argv, ":", table, &index)) != -1) {
        if (found == 0 && index == 0) {
            fputs(command->usage, stdout);
            *ret_status = CLI_OK;
            return -1;
        }
        if (found != 0) {
            *ret_status = cli_usage_error(command,
                    found == ':' ? "%s needs a value" : "unknown option %s", argv[optind - 1]);
            return -1;
        }
        if (options[index - 1].value != NULL && each != NULL)
            each(arg, options[index - 1].name, optarg);
        if (options[index - 1].value != NULL)
            *options[index - 1].value = optarg;
        else
            *options[index - 1].flag = true;
    }
    *ret_first = optind;
    return 0;
}

int
cli_verb(const struct cli_command *command, int argc, char **argv, const struct cli_verb *verbs)
{
    if (argc < 2)
        return cli_usage_error(command, "what is to be done?");
    if (strcmp(argv[1], "--help") == 0) {
        fputs(command->usage, stdout);
        return CLI_OK;
    }
    for (const struct cli_verb *verb = verbs; verb->name != NULL; verb++)
        if (strcmp(verb->name, argv[1]) == 0)
            return verb->run(command, argc - 1, argv + 1);
    return cli_usage_error(command, "unknown: %s", argv[1]);
}

int
cli_load_config(const char *path, struct config **ret_config, struct cc_err *err)
{
    return config_load(path != NULL ? path : CONFIG_DEFAULT_PATH, NULL, 0, ret_config, err);
}

int
cli_print_json(json_object *take_object)
{
    int rc = CLI_OK;

    if (take_object == NULL || puts(json_object_to_json_string_ext(take_object,
                                       JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                               JSON_C_TO_STRING_NOSLASHESCAPE)) < 0)
        rc = CLI_FAILED;
    json_object_put(take_object);
    return rc;
}

void
cli_print_escaped(const char *text)
{
    struct cc_buf out = CC_BUF_INIT(64 * 1024);

    if (cc_escape(&out, text, strlen(text), 16 * 1024, NULL) == 0)
        fputs(cc_buf_str(&out), stdout);
    cc_buf_free(&out);
}

/* Columns that a terminal gives to UTF-8 text, close enough: one for each character. */
static size_t
width(const char *text)
{
    size_t count = 0;

    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

static void
print_row(const char *const *cells, size_t columns, const size_t *widths)
{
    for (size_t i = 0; i < columns; i++) {
        const char *cell = cells[i] != NULL ? cells[i] : "";

        cli_print_escaped(cell);
        if (i + 1 < columns)
            printf("%*s", (int)(widths[i] + 2 - width(cell)), "");
    }
    putchar('\n');
}

void
cli_print_table(const char *const *headings, size_t columns, const char *const *cells, size_t rows)
{
    size_t *widths = calloc(columns, sizeof(*widths));

    if (widths == NULL)
        return;
    for (size_t i = 0; i < columns; i++) {
        widths[i] = width(headings[i]);
        for (size_t row = 0; row < rows; row++) {
            const char *cell = cells[row * columns + i];

            if (cell != NULL && width(cell) > widths[i])
                widths[i] = width(cell);
        }
    }
    print_row(headings, columns, widths);
    for (size_t row = 0; row < rows; row++)
        print_row(cells + row * columns, columns, widths);
    free(widths);
}
