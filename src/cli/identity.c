/* SPDX-License-Identifier: MIT */
#include "cli_int.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ask_daemon.h"
#include "base/clock.h"
#include "base/json.h"
#include "intune/enrol.h"
#include "pki/cert.h"
#include "pki/name.h"
#include "service.h"
#include "state.h"

/* What "identity show" and "identity remove" look at. */
struct local {
    struct config *config;
    struct cc_buf path, next_path;
    struct intune_enrolled enrolled;
};

static void
local_free(struct local *local)
{
    intune_enrolled_free(&local->enrolled);
    cc_buf_free(&local->path);
    cc_buf_free(&local->next_path);
    config_free(local->config);
}

static int
local_load(const char *config_path, struct local *local, struct cc_err *err)
{
    cc_buf_init(&local->path, PATH_MAX);
    cc_buf_init(&local->next_path, PATH_MAX);
    if (cli_load_config(config_path, &local->config, err) != 0 ||
            config_identity_path(local->config->connector.state_directory,
                    local->config->connector.name, &local->path, err) != 0)
        return -1;
    return cc_buf_printf(&local->next_path, err, "%s.next", cc_buf_str(&local->path));
}

static int
local_read(struct local *local, struct cc_err *err)
{
    struct cc_err why = { 0 };

    if (intune_enrolled_read(cc_buf_str(&local->path), &local->enrolled, &why) == 0)
        return 0;
    if (why.domain == CC_DOM_SYSTEM && why.code == ENOENT)
        return cc_err_set(err, why.domain, why.code,
                "%s is not there: the connector has no identity, and enrols when it is started with an identity "
                "among its [keys]",
                cc_buf_str(&local->path));
    return cc_err_set(err, why.domain, why.code, "%s", why.text);
}

/* ---- show ---- */

struct shown {
    struct cc_buf subject, serial;
    char thumbprint[PKI_THUMBPRINT_LEN];
    char begin[CC_TIME_LEN], end[CC_TIME_LEN], renewal[CC_TIME_LEN];
    const char *uri;
};

static int
describe(const struct local *local, struct shown *ret, struct cc_err *err)
{
    const struct intune_enrolled *enrolled = &local->enrolled;

    *ret = (struct shown){ .subject = CC_BUF_INIT(PKI_NAME_TEXT_MAX),
        .serial = CC_BUF_INIT(256),
        .uri = config_key(local->config, enrolled->key) };
    cc_time_format(enrolled->not_before_ms, ret->begin);
    cc_time_format(enrolled->not_after_ms, ret->end);
    cc_time_format(enrolled->renew_after_ms, ret->renewal);
    if (pki_name_format(X509_get_subject_name(enrolled->certificate), &ret->subject, err) != 0 ||
            pki_cert_serial(enrolled->certificate, &ret->serial, err) != 0)
        return -1;
    return pki_cert_thumbprint(enrolled->certificate, ret->thumbprint, err);
}

static int
print_json(const struct local *local, const struct shown *shown)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "connectorId", local->enrolled.connector_id, NULL) == 0 &&
            cc_json_add_str(obj, "subject", cc_buf_str(&shown->subject), NULL) == 0 &&
            cc_json_add_str(obj, "serialNumber", cc_buf_str(&shown->serial), NULL) == 0 &&
            cc_json_add_str(obj, "thumbprint", shown->thumbprint, NULL) == 0 &&
            cc_json_add_str(obj, "key", local->enrolled.key, NULL) == 0 &&
            cc_json_add_str(obj, "keyUri", shown->uri, NULL) == 0 &&
            cc_json_add_str(obj, "notBeforeDateTime", shown->begin, NULL) == 0 &&
            cc_json_add_str(obj, "expirationDateTime", shown->end, NULL) == 0 &&
            cc_json_add_str(obj, "renewAfterDateTime", shown->renewal, NULL) == 0 &&
            cc_json_add_str(obj, "file", cc_buf_str(&local->path), NULL) == 0)
        return cli_print_json(obj);
    json_object_put(obj);
    return CLI_FAILED;
}

static int
print_text(const struct local *local, const struct shown *shown)
{
    const char *const lines[][2] = {
        { "subject", cc_buf_str(&shown->subject) },
        { "serial", cc_buf_str(&shown->serial) },
        { "thumbprint", shown->thumbprint },
        { "key", local->enrolled.key },
        { "  in token", shown->uri != NULL ? shown->uri : "not configured any more" },
        { "valid from", shown->begin },
        { "valid until", shown->end },
        { "renewal", shown->renewal },
        { "file", cc_buf_str(&local->path) },
    };

    for (size_t i = 0; i < CC_COUNT(lines); i++) {
        printf("%-13s", lines[i][0]);
        cli_print_escaped(lines[i][1]);
        putchar('\n');
    }
    return CLI_OK;
}

static int
show_run(const struct cli_command *command, int argc, char **argv)
{
    const char *config_path = NULL;
    bool json = false;
    const struct cli_option options[] = {
        { "config", &config_path, NULL },
        { "json", NULL, &json },
        { NULL, NULL, NULL },
    };
    struct local local = { .config = NULL };
    struct shown shown = { .subject = CC_BUF_INIT(1), .serial = CC_BUF_INIT(1) };
    struct cc_err err = { 0 };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (local_load(config_path, &local, &err) != 0 || local_read(&local, &err) != 0 ||
            describe(&local, &shown, &err) != 0)
        status = cli_fail(command, &err);
    else
        status = json ? print_json(&local, &shown) : print_text(&local, &shown);
    cc_buf_free(&shown.subject);
    cc_buf_free(&shown.serial);
    local_free(&local);
    return status;
}

/* ---- remove ---- */

/* It would enrol again as soon as it found itself taken out. */
static int
check_stopped(const struct config *config, struct cc_err *err)
{
    const int why = cli_knock(config->connector.control_socket);

    if (why == 0)
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "the daemon runs and goes on to use this identity: stop it first (systemctl stop certconnectord)");
    if (why != ENOENT && why != ECONNREFUSED)
        return cc_err_set_errno(err, why, "%s, to see whether the daemon is stopped",
                config->connector.control_socket);
    return 0;
}

static int
remove_remote(const struct local *local, struct cc_err *err)
{
    struct cli_service service = { .intune = NULL };
    int rc = -1;

    if (cli_service_open_as(local->config, &local->enrolled, &service, err) == 0)
        rc = intune_remove(service.intune, local->enrolled.connector_id, true, err);
    cli_service_close(&service);
    return rc == 0 ? 0
                   : cc_err_in(err, "the service did not take the connector out (with --local it "
                                    "is forgotten here alone)");
}

static int
remove_local(const struct local *local, struct cc_err *err)
{
    const char *const paths[] = { cc_buf_str(&local->path), cc_buf_str(&local->next_path) };

    for (size_t i = 0; i < CC_COUNT(paths); i++)
        if (unlink(paths[i]) != 0 && errno != ENOENT)
            return cc_err_set_errno(err, errno, "%s", paths[i]);
    return 0;
}

static int
take_out(struct local *local, bool only_local, struct cc_err *err)
{
    if (check_stopped(local->config, err) != 0 || cli_become_owner(local->config, err) != 0)
        return -1;
    /* What cannot be read can be forgotten all the same. */
    if (!only_local && (local_read(local, err) != 0 || remove_remote(local, err) != 0))
        return -1;
    return remove_local(local, err);
}

static int
say_removed(const struct local *local, bool only_local, bool json)
{
    json_object *obj;

    if (!json && only_local)
        puts("the identity is forgotten here; the service still knows it");
    else if (!json)
        printf("%s is taken out, and its certificate deleted\n", local->enrolled.connector_id);
    if (!json)
        return CLI_OK;
    obj = json_object_new_object();
    if (cc_json_add_str(obj, "connectorId", only_local ? NULL : local->enrolled.connector_id,
                NULL) == 0 &&
            cc_json_add_bool(obj, "removedAtService", !only_local, NULL) == 0)
        return cli_print_json(obj);
    json_object_put(obj);
    return CLI_FAILED;
}

static int
remove_run(const struct cli_command *command, int argc, char **argv)
{
    const char *config_path = NULL;
    bool only_local = false, json = false;
    const struct cli_option options[] = {
        { "config", &config_path, NULL },
        { "local", NULL, &only_local },
        { "json", NULL, &json },
        { NULL, NULL, NULL },
    };
    struct local local = { .config = NULL };
    struct cc_err err = { 0 };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (local_load(config_path, &local, &err) != 0 || take_out(&local, only_local, &err) != 0)
        status = cli_fail(command, &err);
    else
        status = say_removed(&local, only_local, json);
    local_free(&local);
    return status;
}

static int
identity_run(const struct cli_command *command, int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        { "show", show_run },
        { "remove", remove_run },
        { NULL, NULL },
    };

    return cli_verb(command, argc, argv, verbs);
}

const struct cli_command cli_identity = {
    .name = "identity",
    .summary = "the connector's own certificate at the service",
    .usage =
            "usage: certconnector identity show [--json] [--config FILE]\n"
            "       certconnector identity remove [--local] [--json] [--config FILE]\n"
            "\n"
            "show tells what the connector is at the service: its id, its certificate and key, and\n"
            "when it is renewed.  remove takes it out at the service, which refuses it from then\n"
            "on, and deletes the certificate; the daemon must be stopped.  When it is started\n"
            "again it enrols as another.\n"
            "\n"
            "  --local         only delete the certificate, the service is not asked\n"
            "  --json          one JSON object\n"
            "  --config FILE   the configuration (default " CONFIG_DEFAULT_PATH ")\n"
            "\n"
            "Exit status: 0; 1 for failure; 2 for bad usage.\n",
    .run = identity_run,
};
