/* SPDX-License-Identifier: MIT */
/* certconnector pfx: the administrator's side of imported PFX, at the service's Graph resource. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "cli_int.h"
#include "intune/graph.h"
#include "pfx_import.h"
#include "service.h"

#define CELLS 6 /* columns of the table */

struct listing {
    bool json;
    json_object *array;
    char **cells;
    size_t rows, capacity;
    struct cc_err *err;
};

static int
list_json(struct listing *listing, const struct intune_user_pfx *pfx)
{
    char from[CC_TIME_LEN], until[CC_TIME_LEN];
    json_object *object = json_object_new_object();

    cc_time_format(pfx->not_before_ms, from);
    cc_time_format(pfx->not_after_ms, until);
    if (object == NULL || cc_json_add_str(object, "id", pfx->id, listing->err) == -1 ||
            cc_json_add_str(object, "userPrincipalName", pfx->user, listing->err) == -1 ||
            cc_json_add_str(object, "thumbprint", pfx->thumbprint, listing->err) == -1 ||
            cc_json_add_str(object, "intendedPurpose", pfx->intended_purpose, listing->err) == -1 ||
            cc_json_add_str(object, "providerName", pfx->provider_name, listing->err) == -1 ||
            cc_json_add_str(object, "keyName", pfx->key_name, listing->err) == -1 ||
            cc_json_add_str(object, "paddingScheme", pfx->padding_scheme, listing->err) == -1 ||
            cc_json_add_str(object, "startDateTime", from, listing->err) == -1 ||
            cc_json_add_str(object, "expirationDateTime", until, listing->err) == -1) {
        json_object_put(object);
        return -1;
    }
    return json_object_array_add(listing->array, object);
}

static int
list_row(struct listing *listing, const struct intune_user_pfx *pfx)
{
    char until[CC_TIME_LEN];
    const char *const values[CELLS] = { pfx->user, pfx->thumbprint, until, pfx->intended_purpose,
        pfx->key_name, pfx->padding_scheme };

    cc_time_format(pfx->not_after_ms, until);
    until[10] = '\0'; /* the day is enough */
    if (listing->rows == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 64 : listing->capacity * 2;
        char **cells = reallocarray(listing->cells, capacity * CELLS, sizeof(*cells));

        if (cells == NULL)
            return cc_err_nomem(listing->err);
        listing->cells = cells;
        listing->capacity = capacity;
    }
    for (size_t i = 0; i < CELLS; i++)
        if ((listing->cells[listing->rows * CELLS + i] = cc_strdup(values[i], listing->err)) ==
                NULL)
            return -1;
    listing->rows++;
    return 0;
}

static int
list_one(void *arg, const struct intune_user_pfx *pfx)
{
    struct listing *listing = arg;

    return listing->json ? list_json(listing, pfx) : list_row(listing, pfx);
}

static int
run_list(const struct cli_command *command, int argc, char **argv)
{
    static const char *const headings[CELLS] = { "USER", "THUMBPRINT", "EXPIRES", "PURPOSE", "KEY",
        "PADDING" };
    const char *path = NULL, *user = NULL;
    struct cc_err err = { 0 };
    struct listing listing = { .err = &err };
    const struct cli_option options[] = { { "config", &path, NULL }, { "user", &user, NULL },
        { "json", NULL, &listing.json }, { NULL, NULL, NULL } };
    struct config *config = NULL;
    struct cli_service service = { .intune = NULL };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) == -1)
        return status;
    if (first < argc)
        return cli_usage_error(command, "list takes no %s", argv[first]);
    status = CLI_FAILED;
    if (listing.json && (listing.array = json_object_new_array()) == NULL) {
        cc_err_nomem(&err);
        goto out;
    }
    if (cli_load_config(path, &config, &err) == -1 ||
            cli_service_open(config, &service, &err) == -1 ||
            intune_user_pfx_list(service.intune, user, NULL, list_one, &listing, &err) == -1 ||
            err.domain != CC_DOM_NONE)
        goto out;
    status = CLI_OK;
    if (listing.json) {
        status = cli_print_json(listing.array);
        listing.array = NULL;
    } else {
        cli_print_table(headings, CELLS, (const char *const *)listing.cells, listing.rows);
    }
out:
    if (status != CLI_OK)
        status = cli_fail(command, &err);
    for (size_t i = 0; i < listing.rows * CELLS; i++)
        free(listing.cells[i]);
    free(listing.cells);
    json_object_put(listing.array);
    cli_service_close(&service);
    config_free(config);
    return status;
}

/* Ids of what is to be removed, collected before the first is: the pages must not move under the reading. */
struct ids {
    char **ids;
    size_t count;
    struct cc_err *err;
};

static int
collect_id(void *arg, const struct intune_user_pfx *pfx)
{
    struct ids *ids = arg;
    char **grown = reallocarray(ids->ids, ids->count + 1, sizeof(*grown));

    if (grown == NULL)
        return cc_err_nomem(ids->err);
    ids->ids = grown;
    if ((ids->ids[ids->count] = cc_strdup(pfx->id, ids->err)) == NULL)
        return -1;
    ids->count++;
    return 0;
}

static int
remove_ids(struct intune *intune, const struct ids *ids, struct cc_err *err)
{
    size_t removed = 0;

    for (; removed < ids->count; removed++) {
        if (intune_user_pfx_delete(intune, ids->ids[removed], err) == -1)
            break;
        fputs("removed ", stdout);
        cli_print_escaped(ids->ids[removed]);
        putchar('\n');
    }
    printf("%zu of %zu removed\n", removed, ids->count);
    return removed == ids->count ? 0 : -1;
}

static int
run_remove(const struct cli_command *command, int argc, char **argv)
{
    const char *path = NULL, *user = NULL, *thumbprint = NULL;
    const struct cli_option options[] = { { "config", &path, NULL }, { "user", &user, NULL },
        { "thumbprint", &thumbprint, NULL }, { NULL, NULL, NULL } };
    struct cc_err err = { 0 };
    struct ids ids = { .err = &err };
    struct config *config = NULL;
    struct cli_service service = { .intune = NULL };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) == -1)
        return status;
    if (first < argc || user == NULL)
        return cli_usage_error(command, "remove wants --user USER, and nothing but options");
    status = CLI_FAILED;
    if (cli_load_config(path, &config, &err) == -1 ||
            cli_service_open(config, &service, &err) == -1 ||
            intune_user_pfx_list(service.intune, user, thumbprint, collect_id, &ids, &err) == -1 ||
            err.domain != CC_DOM_NONE)
        goto out;
    if (ids.count == 0) {
        cc_err_set(&err, CC_DOM_INPUT, 0, "the service has no such PFX");
        goto out;
    }
    if (remove_ids(service.intune, &ids, &err) == 0)
        status = CLI_OK;
out:
    if (status != CLI_OK)
        status = cli_fail(command, &err);
    for (size_t i = 0; i < ids.count; i++)
        free(ids.ids[i]);
    free(ids.ids);
    cli_service_close(&service);
    config_free(config);
    return status;
}

static int
run(const struct cli_command *command, int argc, char **argv)
{
    static const struct cli_verb verbs[] = { { "import", pfx_import_run }, { "list", run_list },
        { "remove", run_remove }, { NULL, NULL } };

    return cli_verb(command, argc, argv, verbs);
}

const struct cli_command cli_pfx = {
    .name = "pfx",
    .summary = "upload PFX files for users, list them, remove them",
    .usage = "usage: certconnector pfx import [OPTION...] --user USER FILE...\n"
             "       certconnector pfx import [OPTION...] --csv LIST\n"
             "       certconnector pfx list [--user USER] [--json]\n"
             "       certconnector pfx remove --user USER [--thumbprint HEX]\n"
             "\n"
             "Uploads PFX files to the service.  Each file is opened with its password\n"
             "first; the password is encrypted for the connectors' key and travels with\n"
             "the file.  Exit status 1 when one failed; the others are uploaded all the same.\n"
             "\n"
             "  --config FILE        the connector's configuration: service and sign-in\n"
             "  --user USER          whose certificate it is (user principal name)\n"
             "  --csv LIST           CSV with the columns file, user and password; the\n"
             "                       password is file:PATH, credential:NAME, fd:N or prompt.\n"
             "                       A run that was interrupted goes on where it was.\n"
             "  --password SOURCE    the same for FILE... (default prompt)\n"
             "  --password-encoding utf-8|latin-1|auto   of the passwords (default auto)\n"
             "  --public-key FILE    the key that passwords are encrypted for, PEM or CNG\n"
             "                       blob (default: read from the token)\n"
             "  --provider NAME, --key-name NAME         what connectors know that key by\n"
             "                       (default: the first [key-alias] of the configuration)\n"
             "  --padding oaepSha512|oaepSha384|oaepSha256   (default oaepSha512)\n"
             "  --purpose unassigned|smimeEncryption|smimeSigning|vpn|wifi\n"
             "                       (default unassigned)\n"
             "  --update             replace what is there already\n"
             "  --json               a list of outcomes, or of PFX, as JSON\n",
    .run = run,
};
