/* SPDX-License-Identifier: MIT */

/* certconnector check-config: whether a configuration would be taken, and what it comes to. */

#include "cli_int.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"

struct printing {
    char section[128]; /* the last one printed */
    json_object *json; /* NULL: as a file */
    bool failed;
};

static void
print_setting(void *arg, const char *section, const char *key, const char *old_value,
        const char *new_value)
{
    struct printing *p = arg;

    (void)old_value; /* there is none */
    if (strcmp(p->section, section) != 0)
        printf("\n[%s]\n", section);
    (void)cc_strcpy(p->section, sizeof(p->section), section);
    cli_print_escaped(key);
    fputs(" = ", stdout);
    cli_print_escaped(new_value);
    putchar('\n');
}

static void
add_setting(void *arg, const char *section, const char *key, const char *old_value,
        const char *new_value)
{
    struct printing *p = arg;
    json_object *keys = NULL;

    (void)old_value;
    if (!json_object_object_get_ex(p->json, section, &keys)) {
        keys = json_object_new_object();
        if (keys == NULL || cc_json_add(p->json, section, keys, NULL) != 0) {
            p->failed = true;
            return;
        }
    }
    if (cc_json_add_str(keys, key, new_value, NULL) != 0)
        p->failed = true;
}

static int
print_json(const struct config *config)
{
    struct printing p = { .json = json_object_new_object() };

    if (p.json == NULL)
        return CLI_FAILED;
    config_compare(NULL, config, add_setting, &p);
    if (p.failed) {
        json_object_put(p.json);
        return CLI_FAILED;
    }
    return cli_print_json(p.json);
}

static int
print_file(const char *path, const struct config *config)
{
    struct printing p = { .section = "" };

    fputs("; ", stdout);
    cli_print_escaped(path);
    fputs(" is good; with it these settings are in force\n", stdout);
    config_compare(NULL, config, print_setting, &p);
    return CLI_OK;
}

static int
run(const struct cli_command *command, int argc, char **argv)
{
    const char *path = NULL;
    bool json = false;
    const struct cli_option options[] = {
        { "config", &path, NULL },
        { "json", NULL, &json },
        { NULL, NULL, NULL },
    };
    struct config *config = NULL;
    struct cc_err err = { .domain = CC_DOM_NONE };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (argc - first > 1 || (first < argc && path != NULL))
        return cli_usage_error(command, "it takes one file");
    if (first < argc)
        path = argv[first];
    if (path == NULL)
        path = CONFIG_DEFAULT_PATH;
    if (cli_load_config(path, &config, &err) != 0) {
        (void)cli_fail(command, &err);
        return CLI_USAGE; /* one that cannot be read is as bad as a wrong one */
    }
    status = json ? print_json(config) : print_file(path, config);
    config_free(config);
    return status;
}

const struct cli_command cli_check_config = {
    .name = "check-config",
    .summary = "checks a configuration file and shows the settings in force",
    .usage = "usage: certconnector check-config [FILE] [--json]\n"
             "\n"
             "Reads FILE and its drop-ins (FILE.d/*.conf) as the daemon would, without starting\n"
             "anything, and prints every effective setting; references to secrets as ***.\n"
             "Ends with 0 when the configuration is good, else with 2 and one line that names\n"
             "file, line and what to do.\n"
             "\n"
             "  FILE, --config FILE  " CONFIG_DEFAULT_PATH " unless given\n"
             "  --json               the settings as JSON\n",
    .run = run,
};
