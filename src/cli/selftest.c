/* SPDX-License-Identifier: MIT */
#include "selftest_int.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "state.h"

#define TIMEOUT "60s"

struct options {
    const char *feature, *admin_token_file, *admin_url;
};

/* ---- which features ---- */

static const struct {
    const char *name;
    unsigned feature;
    int (*run)(struct selftest *st);
} features[] = {
    { "pkcs", CONFIG_PKCS, selftest_pkcs },
    { "pfx-import", CONFIG_PFX_IMPORT, selftest_pfx },
    { "scep", CONFIG_SCEP, selftest_scep },
    /* at last: it revokes what the others had issued */
    { "revocation", CONFIG_REVOCATION, selftest_revocation },
};

static unsigned
feature_of(const char *word, size_t len)
{
    for (size_t i = 0; i < CC_COUNT(features); i++)
        if (strlen(features[i].name) == len && strncmp(features[i].name, word, len) == 0)
            return features[i].feature;
    return 0;
}

/* A list as in the configuration, of features that are on. */
static int
read_features(const struct config *config, const char *list, unsigned *ret, struct cc_err *err)
{
    unsigned chosen = 0;

    for (; list != NULL && *list != '\0'; list += strspn(list, ", ")) {
        const size_t len = strcspn(list, ", ");
        const unsigned feature = feature_of(list, len);

        if (feature == 0)
            return cc_err_set(err, CC_DOM_USAGE, 0,
                    "--feature %.*s: features are pkcs, pfx-import, scep and revocation", (int)len,
                    list);
        if ((config->connector.features & feature) == 0)
            return cc_err_set(err, CC_DOM_USAGE, 0,
                    "--feature %.*s: [connector] features does not have it", (int)len, list);
        chosen |= feature;
        list += len;
    }
    *ret = chosen != 0 ? chosen : config->connector.features;
    if (*ret == 0)
        return cc_err_set(err, CC_DOM_USAGE, 0, "the configuration has no features to be tried");
    return 0;
}

/* ---- begin and end ---- */

static int
read_timeout(struct selftest *st, struct cc_err *err)
{
    struct cc_err why = { 0 };

    if (cc_parse_duration_ms(st->timeout, &st->timeout_ms, &why) != 0 || st->timeout_ms <= 0)
        return cc_err_set(err, CC_DOM_USAGE, 0, "--timeout: %s",
                why.domain != CC_DOM_NONE ? cc_err_text(&why) : "more than nothing is wanted");
    return 0;
}

/* What everything synthetic of this run is known by. */
static int
mark(struct selftest *st, struct cc_err *err)
{
    X509_NAME *subject = NULL;

    if (cc_uuid(st->run, err) != 0 || cc_uuid(st->device, err) != 0)
        return -1;
    (void)snprintf(st->subject, sizeof(st->subject), "CN=certconnector selftest %s", st->run);
    (void)snprintf(st->user, sizeof(st->user), "selftest@%.256s", st->config->service.tenant);
    if ((st->plan = pki_plan_new(err)) == NULL || pki_name_parse(st->subject, &subject, err) != 0)
        return -1;
    X509_NAME_free(st->plan->subject);
    st->plan->subject = subject;
    return 0;
}

/* As the daemon's user from here on: the token and the store are to be left as it needs them. */
static int
begin(struct selftest *st, const struct options *options, struct cc_err *err)
{
    if (read_timeout(st, err) != 0 || cli_load_config(st->config_path, &st->config, err) != 0 ||
            read_features(st->config, options->feature, &st->features, err) != 0 ||
            mark(st, err) != 0)
        return -1;
    if (options->admin_token_file != NULL &&
            selftest_admin_open(st->config, options->admin_token_file, options->admin_url,
                    &st->admin, err) != 0)
        return -1;
    if (cli_become_owner(st->config, err) != 0 ||
            cli_service_open(st->config, &st->service, err) != 0)
        return -1;
    st->intune = st->service.intune;
    return selftest_report_open(&st->report, err);
}

static void
forget(struct selftest *st)
{
    selftest_pkcs_forget(st);
    selftest_pfx_forget(st);
    selftest_scep_forget(st);
    X509_free(st->recipient.certificate);
    EVP_PKEY_free(st->recipient.key);
    cc_buf_free(&st->recipient.der);
    for (size_t i = 0; i < st->ca_count; i++)
        cli_authority_close(&st->cas[i]);
    hsm_close(st->hsm);
    pki_plan_free(st->plan);
    json_object_put(st->status);
    cli_service_close(&st->service);
    selftest_admin_close(st->admin);
    config_free(st->config);
    selftest_report_close(&st->report);
}

/* ---- the run ---- */

static void
announce(const struct selftest *st)
{
    if (st->report.json)
        return;
    printf("%s, user %s", st->subject, st->user);
    if (st->admin != NULL)
        printf(", through the service at %s\n", selftest_admin_url(st->admin));
    else
        puts(", not through the service's queue");
    fflush(stdout);
}

/* A feature that fails leaves the others to be tried; without daemon or service there is nothing to try. */
static void
try_all(struct selftest *st)
{
    static const struct selftest_step device = { "a recipient makes its key", selftest_recipient };

    if (selftest_daemon(st) != 0 || (st->admin == NULL && selftest_service(st) != 0))
        return;
    if ((st->features & ~(unsigned)CONFIG_SCEP) != 0 &&
            selftest_run_steps(st, "device", &device, 1) != 0)
        return;
    for (size_t i = 0; i < CC_COUNT(features); i++)
        if ((st->features & features[i].feature) != 0 && !selftest_stopped(st, 0))
            (void)features[i].run(st);
    selftest_clean(st);
}

static int
run(const struct cli_command *command, int argc, char **argv)
{
    struct selftest st = { .command = command,
        .timeout = TIMEOUT,
        .report = { .signals = -1 },
        .recipient = { .der = CC_BUF_INIT(PKI_CERT_MAX) } };
    struct options options = { .feature = NULL };
    const struct cli_option table[] = {
        { "config", &st.config_path, NULL },
        { "feature", &options.feature, NULL },
        { "admin-token-file", &options.admin_token_file, NULL },
        { "admin-url", &options.admin_url, NULL },
        { "timeout", &st.timeout, NULL },
        { "json", NULL, &st.report.json },
        { NULL, NULL, NULL },
    };
    struct cc_err err = { 0 };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (options.admin_url != NULL && options.admin_token_file == NULL)
        return cli_usage_error(command, "--admin-url goes with --admin-token-file");
    if (begin(&st, &options, &err) == 0) {
        announce(&st);
        try_all(&st);
        status = selftest_conclude(&st);
    } else {
        status = cli_fail(command, &err);
    }
    forget(&st);
    return status;
}

const struct cli_command cli_selftest = {
    .name = "selftest",
    .summary = "send a synthetic request of each feature through the whole path",
    .usage =
            "usage: certconnector selftest [--feature LIST] [--admin-token-file FILE [--admin-url URL]]\n"
            "                              [--timeout DURATION] [--json] [--config FILE]\n"
            "\n"
            "Has a certificate issued, a PFX delivered, a device enrolled, and all of it revoked\n"
            "and removed again, step by step, while the daemon runs.  Everything made is marked:\n"
            "subject CN=certconnector selftest GUID, user selftest@TENANT.  With the admin token\n"
            "of a stand-in service requests go through its queues and back.  With Intune, where\n"
            "only Intune can make requests, each feature is tried as far as it goes without.\n"
            "\n"
            "  --feature LIST           of pkcs, pfx-import, scep, revocation (default: those of\n"
            "                           the configuration)\n"
            "  --admin-token-file FILE  the stand-in's admin token\n"
            "  --admin-url URL          where the stand-in is (default: the host of [service] graph)\n"
            "  --timeout DURATION       of each wait (default " TIMEOUT ")\n"
            "  --json                   the outcome as one JSON object\n"
            "  --config FILE            the configuration (default\n"
            "                           " CONFIG_DEFAULT_PATH ")\n"
            "\n"
            "Exit status: 0; 1 when a step failed or something was left behind; 2 for bad usage.\n",
    .run = run,
};
