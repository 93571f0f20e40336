/* SPDX-License-Identifier: MIT */

/* certconnector configure: what the command line says of the plan. */

#include "configure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "pki/name.h"

struct options {
    const char *config, *key_type, *init_ca, *ca, *ca_validity, *set, *unset;
    bool no_input, dry_run, no_check, generate_keys, self_sign;
};

/* While the options are read. */
struct reading {
    struct plan *plan;
    const char **seen; /* names of settings so far */
    size_t seen_count;
    struct cc_err *err;
    bool failed;
};

/* ---- options that may be repeated ---- */

static int
change_once(struct reading *r, const char *name, const char *value)
{
    for (size_t i = 0; i < r->seen_count; i++) {
        if (strcmp(r->seen[i], name) == 0)
            return cc_err_set(r->err, CC_DOM_USAGE, 0, "%s is changed twice; say it once", name);
    }
    if (plan_set(r->plan, name, value, r->err) != 0)
        return -1;
    if ((r->seen[r->seen_count] = cc_strdup(name, r->err)) == NULL)
        return -1;
    r->seen_count++;
    return 0;
}

static int
read_set(struct reading *r, const char *text)
{
    const char *equals = strchr(text, '=');
    char *name;
    int rc;

    if (config_check_setting(text, r->err) != 0)
        return -1;
    if ((name = strndup(text, (size_t)(equals - text))) == NULL)
        return cc_err_nomem(r->err);
    rc = change_once(r, name, equals + 1);
    free(name);
    return rc;
}

/* Of a name that there is: an example of its value would be taken. */
static int
read_unset(struct reading *r, const char *name)
{
    const char *example = config_example(name);
    struct cc_buf text = CC_BUF_INIT(8192);
    int rc;

    if (strchr(name, '=') != NULL)
        return cc_err_set(r->err, CC_DOM_USAGE, 0,
                "--unset takes a name alone, as in --unset log.debug, and not %s", name);
    rc = cc_buf_printf(&text, r->err, "%s=%s", name, example != NULL ? example : "x");

    if (rc == 0)
        rc = config_check_setting(cc_buf_str(&text), r->err);
    cc_buf_free(&text);
    return rc == 0 ? change_once(r, name, NULL) : -1;
}

static int
read_key_type(struct reading *r, const char *text)
{
    const char *equals = strchr(text, '=');
    char name[32];
    int role = -1;

    if (equals != NULL && (size_t)(equals - text) < sizeof(name)) {
        (void)snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
        role = hsm_role_parse(name);
    }
    if (role < 0 || !plan_role_takes((enum hsm_role)role, equals + 1))
        return cc_err_set(r->err, CC_DOM_USAGE, 0,
                "--key-type is ROLE=TYPE, of a type that the role can have: --key-type ca=ecP256");
    (void)cc_strcpy(r->plan->key_type[role], sizeof(r->plan->key_type[role]), equals + 1);
    return 0;
}

static void
on_option(void *arg, const char *name, const char *value)
{
    struct reading *r = arg;
    int rc = 0;

    if (r->failed)
        return;
    if (strcmp(name, "set") == 0)
        rc = read_set(r, value);
    else if (strcmp(name, "unset") == 0)
        rc = read_unset(r, value);
    else if (strcmp(name, "key-type") == 0)
        rc = read_key_type(r, value);
    r->failed = rc != 0;
}

/* ---- without questions ---- */

static int
carry_out(struct plan *plan, const struct options *options, struct config_edit *edit,
        const struct config *config, struct cc_err *err)
{
    if (options->dry_run)
        return configure_show_diff(edit, err);
    if (options->no_check)
        puts("Not tried, as --no-check says: the token, its keys, signing in.");
    else if (configure_check(plan, config, err) != 0)
        return -1;
    return configure_apply(plan, edit, config, err);
}

static int
run_plan(struct plan *plan, const struct options *options)
{
    struct config_edit *edit = NULL;
    struct config *config = NULL;
    struct cc_err err = { 0 };
    int rc = plan_make(plan, &edit, &config, &err);

    if (rc == 0)
        rc = carry_out(plan, options, edit, config, &err);
    config_free(config);
    config_edit_close(edit);
    return rc == 0 ? CLI_OK : cli_fail(plan->command, &err);
}

/* ---- the command ---- */

static int
read_ca(struct plan *plan, const struct options *options, struct cc_err *err)
{
    X509_NAME *name = NULL;
    int64_t ms;

    if (options->init_ca == NULL)
        return 0;
    if (pki_name_parse(options->init_ca, &name, err) != 0)
        return cc_err_in(err, "--init-ca");
    X509_NAME_free(name);
    if (options->ca_validity != NULL && cc_parse_duration_ms(options->ca_validity, &ms, err) != 0)
        return cc_err_in(err, "--ca-validity");
    plan->init_ca = true;
    if (!cc_strcpy(plan->subject, sizeof(plan->subject), options->init_ca) ||
            (options->ca != NULL && !cc_strcpy(plan->ca, sizeof(plan->ca), options->ca)) ||
            (options->ca_validity != NULL &&
                    !cc_strcpy(plan->validity, sizeof(plan->validity), options->ca_validity)))
        return cc_err_set(err, CC_DOM_USAGE, 0, "a text about the CA is too long");
    return 0;
}

/* Once to find the file and what is wrong with the options, and then for what is repeated in them. */
static int
run_options(const struct cli_command *command, int argc, char **argv, struct options *options,
        const struct cli_option *table)
{
    struct cc_err err = { 0 };
    struct plan plan = { .path = NULL };
    struct reading r = { .plan = &plan, .err = &err };
    int first, status = CLI_USAGE;

    if (plan_open(&plan, command, options->config, &err) != 0)
        return cli_fail(command, &err);
    if ((r.seen = calloc((size_t)argc, sizeof(*r.seen))) == NULL)
        r.failed = cc_err_nomem(&err) != 0;
    plan.generate_keys = options->generate_keys;
    plan.self_sign = options->self_sign;
    if (!r.failed &&
            cli_options_each(command, argc, argv, table, on_option, &r, &first, &status) != 0)
        goto out;
    if (r.failed || read_ca(&plan, options, &err) != 0)
        status = cli_fail(command, &err);
    else if (options->no_input || options->dry_run)
        status = run_plan(&plan, options);
    else
        status = configure_guide(&plan, !options->no_check);
out:
    for (size_t i = 0; i < r.seen_count; i++)
        free((void *)(uintptr_t)r.seen[i]);
    free(r.seen);
    plan_close(&plan);
    return status;
}

static int
run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .config = NULL };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "set", &options.set, NULL },
        { "unset", &options.unset, NULL },
        { "key-type", &options.key_type, NULL },
        { "init-ca", &options.init_ca, NULL },
        { "ca", &options.ca, NULL },
        { "ca-validity", &options.ca_validity, NULL },
        { "no-input", NULL, &options.no_input },
        { "dry-run", NULL, &options.dry_run },
        { "no-check", NULL, &options.no_check },
        { "generate-keys", NULL, &options.generate_keys },
        { "self-sign", NULL, &options.self_sign },
        { NULL, NULL, NULL },
    };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if ((options.ca != NULL || options.ca_validity != NULL) && options.init_ca == NULL)
        return cli_usage_error(command, "--ca and --ca-validity are of --init-ca SUBJECT");
    if (!options.no_input && !options.dry_run && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)))
        return cli_usage_error(command,
                "there is no terminal to ask on; say --no-input, and --set what is to change");
    return run_options(command, argc, argv, &options, table);
}

const struct cli_command cli_configure = {
    .name = "configure",
    .summary = "sets the connector up, guided or by options, and changes it while it runs",
    .usage =
            "usage: certconnector configure [--config FILE] [--set SECTION.KEY=VALUE]...\n"
            "                               [--unset SECTION.KEY]... [--generate-keys]\n"
            "                               [--key-type ROLE=TYPE]... [--self-sign]\n"
            "                               [--init-ca SUBJECT [--ca NAME] [--ca-validity TIME]]\n"
            "                               [--no-input | --dry-run] [--no-check]\n"
            "\n"
            "Asks for what a connector needs: features, token, keys, service, proxy, CA, SCEP, log;\n"
            "then tries it, shows what changes, writes it and has the running connector take it.\n"
            "Every question shows the present value, which Enter keeps; ? explains, < goes back,\n"
            "Ctrl-C leaves everything as it was.  It can be run again at any time.\n"
            "\n"
            "  --set SECTION.KEY=VALUE  a setting, as in service.proxy=http://proxy.example:3128 or\n"
            "                           ca.NAME.kind=local\n"
            "  --unset SECTION.KEY      removes a setting\n"
            "  --generate-keys          makes the keys of [keys] that the token does not have\n"
            "  --key-type ROLE=TYPE     of which type, as for certconnector key generate\n"
            "  --self-sign              makes the certificate to sign in with, when the file that\n"
            "                           service.client-certificate names is not there\n"
            "  --init-ca SUBJECT        makes the certificate of the built-in CA, unless it is there, as\n"
            "                           certconnector ca init does\n"
            "  --ca NAME                which CA, where there are several\n"
            "  --ca-validity TIME       how long it is valid: 3650d\n"
            "  --no-input               asks nothing\n"
            "  --dry-run                asks and writes nothing, and shows what would change\n"
            "  --no-check               writes without trying token, keys and sign-in\n"
            "  --config FILE            the configuration (default\n"
            "                           " CONFIG_DEFAULT_PATH ")\n"
            "\n"
            "Secrets are never options: token.pin=file:PATH and service.client-secret=file:PATH name\n"
            "the files that they are in.  The file before stays as FILE.previous.\n"
            "\n"
            "Exit status: 0; 1 when something failed or was given up, and the configuration is what it\n"
            "was before (keys, a CA and a certificate that were made stay, and the same command goes on\n"
            "from there); 2 for bad usage and a bad configuration.\n",
    .run = run,
};
