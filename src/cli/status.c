/* SPDX-License-Identifier: MIT */
#include "ask_daemon.h"
#include "cli_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"

#define LABEL_WIDTH 16 /* of the longest, "  last contact", and a gap */
#define TEXT_MAX 4096  /* bytes of one text in the answer */

/* ---- asking the daemon ---- */

static int
fetch_configured(const char *config_path, const char *socket, json_object **ret_status,
        struct cc_err *err)
{
    struct config *config = NULL;
    int rc;

    if (socket != NULL)
        return cli_fetch_status(socket, ret_status, err);
    if (cli_load_config(config_path, &config, err) != 0)
        return -1;
    rc = cli_fetch_status(config->connector.control_socket, ret_status, err);
    config_free(config);
    return rc;
}

/* ---- showing what it said; what is absent or of another type is not shown ---- */

static json_object *
inner(json_object *obj, const char *name)
{
    json_object *found = NULL;

    return obj != NULL && cc_json_get_object(obj, name, &found, NULL) == 0 ? found : NULL;
}

static const char *
text(json_object *obj, const char *name)
{
    const char *found = NULL;

    return obj != NULL && cc_json_get_str(obj, name, TEXT_MAX, &found, NULL) == 0 ? found : NULL;
}

static int64_t
number(json_object *obj, const char *name)
{
    int64_t found = 0;

    return obj != NULL && cc_json_get_int(obj, name, INT64_MIN, INT64_MAX, 0, &found, NULL) == 0
                   ? found
                   : 0;
}

static void
show(const char *label, const char *value)
{
    if (value == NULL || value[0] == '\0')
        return;
    printf("%-*s", LABEL_WIDTH, label);
    cli_print_escaped(value);
    putchar('\n');
}

/* "12 s ago", "3 h ago"; NULL for a time that is not there. */
static const char *
ago(const char *time, char *ret, size_t size)
{
    int64_t then, seconds;

    if (time == NULL || cc_time_parse(time, &then, NULL) != 0)
        return NULL;
    seconds = (cc_clock_now_ms() - then) / 1000;
    if (seconds < 120)
        (void)snprintf(ret, size, "%" PRId64 " s ago", seconds > 0 ? seconds : 0);
    else if (seconds < 7200)
        (void)snprintf(ret, size, "%" PRId64 " min ago", seconds / 60);
    else if (seconds < 2 * INT64_C(86400))
        (void)snprintf(ret, size, "%" PRId64 " h ago", seconds / 3600);
    else
        (void)snprintf(ret, size, "%" PRId64 " days ago", seconds / 86400);
    return ret;
}

/* The names in a list of the answer, on one line. */
static void
show_names(const char *label, json_object *obj, const char *name, const char *none)
{
    json_object *list = NULL;
    size_t count;

    if (obj == NULL || cc_json_get_array(obj, name, &list, NULL) != 0 || list == NULL)
        return;
    count = json_object_array_length(list);
    if (count == 0 && none == NULL)
        return;
    printf("%-*s", LABEL_WIDTH, label);
    for (size_t i = 0; i < count; i++) {
        fputs(i > 0 ? ", " : "", stdout);
        cli_print_escaped(json_object_get_string(json_object_array_get_idx(list, i)));
    }
    puts(count == 0 ? none : "");
}

/* How the service supports this release. */
static void
show_lifecycle(json_object *lifecycle)
{
    const char *standing = text(lifecycle, "status"), *reason = text(lifecycle, "statusReason");
    const char *latest = text(lifecycle, "latestVersion");
    const char *until = text(lifecycle, "supportedUntilDateTime");
    char line[1024];

    if (standing == NULL)
        return;
    (void)snprintf(line, sizeof(line), "%s%s%.10s%s%s%s%s", standing,
            until != NULL ? ", supported until " : "", until != NULL ? until : "",
            latest != NULL ? ", the newest release is " : "", latest != NULL ? latest : "",
            reason != NULL ? ": " : "", reason != NULL ? reason : "");
    show("  lifecycle", line);
    show_names("  not allowed", lifecycle, "refusedFeatures", NULL);
}

static void
show_connector(json_object *status)
{
    char line[512], since[32];

    show("connector", text(status, "name"));
    show("id", text(status, "connectorId"));
    if (ago(text(status, "startedDateTime"), since, sizeof(since)) != NULL) {
        const char *version = text(status, "version");

        (void)snprintf(line, sizeof(line), "%s, pid %" PRId64 ", started %s",
                version != NULL ? version : "unknown", number(status, "pid"), since);
        show("version", line);
    }
    show_lifecycle(inner(inner(status, "service"), "lifecycle"));
    show_names("features", status, "features", "none");
}

static void
show_token(json_object *token)
{
    char line[512], since[32];

    if (token == NULL)
        return;
    (void)snprintf(line, sizeof(line), "%s, since %s", text(token, "state"),
            text(token, "sinceDateTime") != NULL
                    ? ago(text(token, "sinceDateTime"), since, sizeof(since))
                    : "the start");
    show("token", line);
    show("  because", text(token, "lastError"));
    show("  label", text(token, "label"));
    show("  model", text(token, "model"));
    show("  profile", text(token, "profile"));
    (void)snprintf(line, sizeof(line),
            "%" PRId64 " sessions, %" PRId64 " callers waiting, %" PRId64 " operations, %" PRId64
            " failed, %" PRId64 " restarts",
            number(token, "sessions"), number(token, "waiting"), number(token, "operations"),
            number(token, "failures"), number(token, "restarts"));
    show("  work", line);
}

static void
show_keys(json_object *status)
{
    json_object *keys = NULL;
    char line[1024], since[32];

    if (cc_json_get_array(status, "keys", &keys, NULL) != 0 || keys == NULL)
        return;
    for (size_t i = 0; i < json_object_array_length(keys); i++) {
        json_object *key = json_object_array_get_idx(keys, i);
        const char *error = text(key, "error");
        const char *checked = ago(text(key, "checkedDateTime"), since, sizeof(since));

        (void)snprintf(line, sizeof(line), "%s %s, tried %s%s%s", text(key, "role"),
                text(key, "state"), checked != NULL ? checked : "never", error != NULL ? ": " : "",
                error != NULL ? error : "");
        show(i == 0 ? "keys" : "", line);
    }
}

/* The state store, or the event log. */
static void
show_durable(const char *name, json_object *durable)
{
    const char *state = text(durable, "state");
    const int64_t lost = number(durable, "lost"), waiting = number(durable, "waiting");
    char line[128], since[32];

    if (durable == NULL || state == NULL)
        return;
    if (ago(text(durable, "sinceDateTime"), since, sizeof(since)) != NULL) {
        (void)snprintf(line, sizeof(line), "%s, since %s", state, since);
        show(name, line);
    } else {
        show(name, state);
    }
    show("  because", text(durable, "lastError"));
    if (waiting == 0 && lost == 0)
        return;
    (void)snprintf(line, sizeof(line), "%" PRId64 " wait to be written, %" PRId64 " lost", waiting,
            lost);
    show("  events", line);
}

static void
show_service(json_object *service)
{
    char line[128], since[32];

    if (service == NULL)
        return;
    show("service", text(service, "contact"));
    show("  because", text(service, "lastError"));
    show("  last contact", ago(text(service, "lastContactDateTime"), since, sizeof(since)));
    (void)snprintf(line, sizeof(line), "%+.1f s", (double)number(service, "clockSkewMs") / 1000);
    show("  its clock", line);
    show("  warning", text(service, "clockWarning"));
}

/* The instance's own at the service. */
static void
show_identity(json_object *identity)
{
    const char *state = text(identity, "state"), *until = text(identity, "expirationDateTime");
    char line[256];

    if (identity == NULL || state == NULL)
        return;
    (void)snprintf(line, sizeof(line), "%s%s%s", state, until != NULL ? ", until " : "",
            until != NULL ? until : "");
    show("identity", line);
    show("  because", text(identity, "lastError"));
    show("  key", text(identity, "key"));
    show("  renewal", text(identity, "renewAfterDateTime"));
}

static void
show_workload(const char *name, json_object *workload)
{
    json_object *journal = inner(workload, "journal");
    char line[256], since[32];

    if (workload == NULL)
        return;
    (void)snprintf(line, sizeof(line),
            "%" PRId64 " in work; since start %" PRId64 " succeeded, %" PRId64 " failed",
            number(workload, "inWork"), number(workload, "succeeded"), number(workload, "failed"));
    show(name, line);
    (void)snprintf(line, sizeof(line),
            "%" PRId64 " received, %" PRId64 " prepared, %" PRId64 " issued, %" PRId64
            " failed, %" PRId64 " reported, %" PRId64 " closed",
            number(journal, "received"), number(journal, "prepared"), number(journal, "issued"),
            number(journal, "failed"), number(journal, "reported"), number(journal, "closed"));
    if (journal != NULL)
        show("  journal", line);
    (void)snprintf(line, sizeof(line), "%" PRId64 " succeeded, %" PRId64 " failed",
            number(workload, "totalSucceeded"), number(workload, "totalFailed"));
    show("  in all", line);
    show("  last asked", ago(text(workload, "lastDownloadDateTime"), since, sizeof(since)));
    show("  oldest", ago(text(workload, "oldestRequestDateTime"), since, sizeof(since)));
    if (!json_object_object_get_ex(workload, "readyKeys", NULL))
        return;
    (void)snprintf(line, sizeof(line), "%" PRId64, number(workload, "readyKeys"));
    show("  ready keys", line);
}

/* It is asked by devices and not by the service, and counts what all instances of its store have done. */
static void
show_scep(const char *name, json_object *workload)
{
    const char *legacy = text(workload, "legacy"), *state = text(workload, "state");
    char line[256], since[32];

    if (workload == NULL)
        return;
    (void)snprintf(line, sizeof(line), "%s; %" PRId64 " in work, %" PRId64 " pending at the CA",
            state != NULL ? state : "unknown", number(workload, "inWork"),
            number(workload, "pending"));
    show(name, line);
    show("  because", text(workload, "lastError"));
    (void)snprintf(line, sizeof(line), "%" PRId64, number(workload, "port"));
    show("  port", number(workload, "port") > 0 ? line : NULL);
    (void)snprintf(line, sizeof(line), "%" PRId64 " succeeded, %" PRId64 " failed",
            number(workload, "succeeded"), number(workload, "failed"));
    show("  in all", line);
    (void)snprintf(line, sizeof(line), "%" PRId64 " not told to the service yet",
            number(workload, "notificationsDue"));
    show("  outcomes", line);
    (void)snprintf(line, sizeof(line), "%" PRId64 " could not be opened since start",
            number(workload, "badMessages"));
    show("  messages", line);
    show("  oldest", ago(text(workload, "oldestRequestDateTime"), since, sizeof(since)));
    if (legacy == NULL)
        return;
    (void)snprintf(line, sizeof(line), "a profile takes old algorithms (legacy = %s)", legacy);
    show("  warning", line);
}

/* What ends on a day, the first in front. */
static void
show_certificates(json_object *status)
{
    json_object *list = NULL;

    if (cc_json_get_array(status, "certificates", &list, NULL) != 0 || list == NULL)
        return;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        json_object *one = json_object_array_get_idx(list, i);
        const int64_t days = number(one, "daysLeft");
        char line[320];

        (void)snprintf(line, sizeof(line),
                days < 0 ? "EXPIRED: %.256s" : "%.256s: %" PRId64 " days left",
                text(one, "name") != NULL ? text(one, "name") : "?", days);
        show(i == 0 ? "ends" : "", line);
    }
}

static void
show_status(json_object *status)
{
    json_object *workloads = inner(status, "workloads");

    show_connector(status);
    show_token(inner(status, "token"));
    show_keys(status);
    show_durable("state store", inner(status, "store"));
    show_durable("event log", inner(status, "eventLog"));
    show_service(inner(status, "service"));
    show_identity(inner(status, "identity"));
    show_certificates(status);
    if (workloads == NULL)
        return;
    json_object_object_foreach(workloads, name, workload)
    {
        if (strcmp(name, "scep") == 0)
            show_scep(name, workload);
        else
            show_workload(name, workload);
    }
}

static int
status_run(const struct cli_command *command, int argc, char **argv)
{
    const char *config_path = NULL, *socket = NULL;
    bool json = false;
    const struct cli_option options[] = {
        { "config", &config_path, NULL },
        { "socket", &socket, NULL },
        { "json", NULL, &json },
        { NULL, NULL, NULL },
    };
    json_object *status = NULL;
    struct cc_err err = { 0 };
    int first, exit_status;

    if (cli_options(command, argc, argv, options, &first, &exit_status) != 0)
        return exit_status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (fetch_configured(config_path, socket, &status, &err) != 0)
        return cli_fail(command, &err);
    if (json)
        return cli_print_json(status);
    show_status(status);
    json_object_put(status);
    return CLI_OK;
}

const struct cli_command cli_status = {
    .name = "status",
    .summary = "what the running connector does",
    .usage = "usage: certconnector status [--json] [--config FILE | --socket PATH]\n"
             "\n"
             "Asks the running daemon over its control socket: version, features, token,\n"
             "service, requests in work and done, the oldest request, and when certificates,\n"
             "CRLs and secrets end.\n"
             "\n"
             "  --json          as one JSON object\n"
             "  --config FILE   where the control socket is named (default\n"
             "                  " CONFIG_DEFAULT_PATH ")\n"
             "  --socket PATH   the control socket itself\n"
             "\n"
             "Exit status: 0; 1 when the daemon does not answer; 2 for bad usage.\n",
    .run = status_run,
};
