/* SPDX-License-Identifier: MIT */
#include "cli_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "state.h"
#include "store/pin.h"
#include "store/store.h"
#include "target.h"

/* ---- token list ---- */

static json_object *
token_json(const struct hsm_admin_token *token)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "label", token->label, NULL) == 0 &&
            cc_json_add_str(obj, "manufacturer", token->manufacturer, NULL) == 0 &&
            cc_json_add_str(obj, "model", token->model, NULL) == 0 &&
            cc_json_add_str(obj, "serial", token->serial, NULL) == 0 &&
            cc_json_add(obj, "slot", json_object_new_uint64(token->slot), NULL) == 0 &&
            cc_json_add_bool(obj, "initialised", token->initialised, NULL) == 0 &&
            cc_json_add_bool(obj, "loginRequired", token->login_required, NULL) == 0 &&
            cc_json_add_bool(obj, "writeProtected", token->write_protected, NULL) == 0 &&
            cc_json_add_bool(obj, "pinInitialised", token->pin_initialised, NULL) == 0 &&
            cc_json_add_bool(obj, "pinCountLow", token->pin_count_low, NULL) == 0 &&
            cc_json_add_bool(obj, "pinFinalTry", token->pin_final_try, NULL) == 0 &&
            cc_json_add_bool(obj, "pinLocked", token->pin_locked, NULL) == 0 &&
            cc_json_add_str(obj, "profile", token->profile, NULL) == 0)
        return obj;
    json_object_put(obj);
    return NULL;
}

static int
print_json(const struct hsm_admin_token *tokens, size_t count)
{
    json_object *obj = json_object_new_object(), *array = json_object_new_array();

    for (size_t i = 0; i < count; i++) {
        json_object *entry = token_json(&tokens[i]);

        if (entry == NULL || array == NULL || json_object_array_add(array, entry) != 0) {
            json_object_put(entry);
            json_object_put(array);
            json_object_put(obj);
            return CLI_FAILED;
        }
    }
    if (cc_json_add(obj, "tokens", array, NULL) != 0) {
        json_object_put(obj);
        return CLI_FAILED;
    }
    return cli_print_json(obj);
}

/* The one thing about a token that its administrator should see first. */
static const char *
token_state(const struct hsm_admin_token *token)
{
    if (!token->initialised)
        return "not initialised";
    if (token->pin_locked)
        return "PIN locked";
    if (token->pin_final_try)
        return "one PIN try left";
    if (token->pin_count_low)
        return "a wrong PIN was tried";
    if (token->login_required && !token->pin_initialised)
        return "no PIN set";
    return token->write_protected ? "ready, read-only" : "ready";
}

#define COLUMNS 7

static int
print_table(const struct hsm_admin_token *tokens, size_t count)
{
    static const char *const headings[COLUMNS] = { "LABEL", "STATE", "MANUFACTURER", "MODEL",
        "SERIAL", "SLOT", "PROFILE" };
    const char **cells = calloc(count + 1, COLUMNS * sizeof(*cells));
    char(*slots)[24] = calloc(count + 1, sizeof(*slots));

    if (cells == NULL || slots == NULL) {
        free(slots);
        free(cells);
        return CLI_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        const struct hsm_admin_token *token = &tokens[i];
        const char **row = cells + i * COLUMNS;

        (void)snprintf(slots[i], sizeof(slots[i]), "%lu", token->slot);
        row[0] = token->label;
        row[1] = token_state(token);
        row[2] = token->manufacturer;
        row[3] = token->model;
        row[4] = token->serial;
        row[5] = slots[i];
        row[6] = token->profile;
    }
    cli_print_table(headings, COLUMNS, cells, count);
    free(slots);
    free(cells);
    return CLI_OK;
}

static int
list_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_target target = { 0 };
    bool json = false;
    const struct cli_option options[] = {
        CLI_MODULE_OPTIONS(target),
        { "json", NULL, &json },
        { NULL, NULL, NULL },
    };
    struct hsm_admin_token *tokens = NULL;
    struct cc_err err = { 0 };
    size_t count = 0;
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (cli_target_resolve(&target, &err) != 0 ||
            hsm_admin_list_tokens(&target.admin, &tokens, &count, &err) != 0)
        status = cli_fail(command, &err);
    else
        status = json ? print_json(tokens, count) : print_table(tokens, count);
    free(tokens);
    cli_target_free(&target);
    return status;
}

/* ---- token init ---- */

static int
init_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_target target = { 0 };
    const char *label = NULL;
    const struct cli_option options[] = {
        CLI_MODULE_OPTIONS(target),
        { "pin", &target.pin, NULL },
        { "so-pin", &target.so_pin, NULL },
        { "label", &label, NULL },
        { NULL, NULL, NULL },
    };
    struct cc_err err = { 0 };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (label == NULL)
        return cli_usage_error(command, "token init needs --label");
    if (cli_target_resolve(&target, &err) != 0 ||
            hsm_admin_init_token(&target.admin, label, &err) != 0) {
        status = cli_fail(command, &err);
    } else {
        fputs("token ", stdout);
        cli_print_escaped(label);
        puts(": initialised, its PIN is set");
        status = CLI_OK;
    }
    cli_target_free(&target);
    return status;
}

/* ---- token forget-pins ---- */

static int
forget_pins(const char *config_path, int64_t *ret_count, struct cc_err *err)
{
    struct config *config = NULL;
    struct store *store = NULL;
    int rc = -1;

    if (cli_load_config(config_path, &config, err) == 0 && cli_open_state(config, &store, err) == 0)
        rc = store_pin_forget(store, ret_count, err);
    store_close(store);
    config_free(config);
    return rc;
}

static int
forget_run(const struct cli_command *command, int argc, char **argv)
{
    const char *config_path = NULL;
    const struct cli_option options[] = {
        { "config", &config_path, NULL },
        { NULL, NULL, NULL },
    };
    struct cc_err err = { 0 };
    int64_t count = 0;
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (forget_pins(config_path, &count, &err) != 0)
        return cli_fail(command, &err);
    printf("forgotten: what PINs %lld token%s accepted and refused\n", (long long)count,
            count == 1 ? "" : "s");
    return CLI_OK;
}

static int
token_run(const struct cli_command *command, int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        { "list", list_run },
        { "init", init_run },
        { "forget-pins", forget_run },
        { NULL, NULL },
    };

    return cli_verb(command, argc, argv, verbs);
}

const struct cli_command cli_token = {
    .name = "token",
    .summary = "look at and initialise tokens",
    .usage =
            "usage: certconnector token list [--json] [--module FILE]\n"
            "       certconnector token init --label LABEL --pin REFERENCE --so-pin REFERENCE\n"
            "                                [--module FILE]\n"
            "       certconnector token forget-pins [--config FILE]\n"
            "\n"
            "list shows the tokens in all slots of the PKCS#11 module, and what is wrong with\n"
            "them.  init initialises the first slot's token that is not, and sets its PINs;\n"
            "a token of this label that has no user PIN yet gets one.  forget-pins has the\n"
            "connectors that share a store begin anew with PINs: for when they try none because\n"
            "attempts failed.  Log in by hand first, so that the token counts anew as well.\n"
            "\n"
            "  --label LABEL       of the new token\n"
            "  --pin REFERENCE     the new user PIN, which connectors use\n"
            "  --so-pin REFERENCE  the new security officer's PIN, which can set another user PIN\n"
            "                      (a reference is file:PATH or credential:NAME, never the PIN)\n"
            "  --json              one JSON object: {\"tokens\": [...]}\n" CLI_MODULE_HELP "\n"
            "Exit status: 0; 1 for failure; 2 for bad usage.\n",
    .run = token_run,
};
