/* SPDX-License-Identifier: MIT */

/* certconnector events: reads the event log. */

#include "cli_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "eventlog/eventlog.h"

#define TEXT_MAX (64 * 1024)

/* What the command line says. */
struct request {
    const char *config, *directory, *channel, *id, *category, *since, *request_id;
    bool follow, json;
};

/* ---- showing ---- */

static const char *
text_of(json_object *obj, const char *name)
{
    const char *text = NULL;

    return cc_json_get_str(obj, name, TEXT_MAX, &text, NULL) == 0 && text != NULL ? text : "";
}

/* " name=value", quoted where a space would make it two. */
static void
print_field(const char *name, const char *value)
{
    bool quote = strchr(value, ' ') != NULL || value[0] == '\0';

    printf(" %s=%s", name, quote ? "\"" : "");
    cli_print_escaped(value);
    fputs(quote ? "\"" : "", stdout);
}

static void
print_error(json_object *obj)
{
    json_object *error = NULL;
    int64_t code = 0;

    if (cc_json_get_object(obj, "error", &error, NULL) != 0 || error == NULL)
        return;
    (void)!cc_json_get_int(error, "code", INT64_MIN, INT64_MAX, 0, &code, NULL);
    fputs(" error=", stdout);
    cli_print_escaped(text_of(error, "domain"));
    printf("/%" PRId64 ": ", code);
    cli_print_escaped(text_of(error, "text"));
}

static void
print_fields(json_object *obj)
{
    static const char *const names[] = {
        "requestId",
        "transactionId",
        "serialNumber",
        "thumbprint",
        "user",
        "device",
        "ca",
    };
    int64_t duration = 0;

    for (size_t i = 0; i < CC_COUNT(names); i++) {
        const char *value = NULL;

        if (cc_json_get_str(obj, names[i], TEXT_MAX, &value, NULL) == 0 && value != NULL)
            print_field(names[i], value);
    }
    if (cc_json_get_int(obj, "durationMs", 0, INT64_MAX, 0, &duration, NULL) == 0 && duration > 0)
        printf(" durationMs=%" PRId64, duration);
    print_error(obj);
}

/* "TIME LEVEL ID NAME: message field=value…" */
static void
print_event(json_object *obj)
{
    int64_t id = 0;
    char level[32];

    (void)!cc_json_get_int(obj, "id", 0, INT32_MAX, 0, &id, NULL);
    cli_print_escaped(text_of(obj, "time"));
    cc_escape_into(level, sizeof(level), text_of(obj, "level"));
    printf(" %-11s %4" PRId64 " ", level, id);
    cli_print_escaped(text_of(obj, "name"));
    fputs(": ", stdout);
    cli_print_escaped(text_of(obj, "message"));
    print_fields(obj);
    putchar('\n');
}

/* event_fn; ends the reading when nobody reads what we print. */
static int
show(void *arg, const char *line, size_t len)
{
    const struct request *request = arg;
    json_object *obj;

    if (request->json) {
        (void)fwrite(line, 1, len, stdout);
        putchar('\n');
    } else if ((obj = cc_json_parse(line, len, NULL)) != NULL) {
        print_event(obj);
        json_object_put(obj);
    }
    if (request->follow)
        (void)fflush(stdout);
    return ferror(stdout) ? 1 : 0;
}

/* ---- asking ---- */

/* A time, or how long ago. */
static int
parse_since(const char *text, int64_t *ret_ms)
{
    int64_t ago;

    if (cc_parse_duration_ms(text, &ago, NULL) == 0) {
        int64_t now = cc_clock_now_ms();

        *ret_ms = ago < now ? now - ago : 0;
        return 0;
    }
    return cc_time_parse(text, ret_ms, NULL);
}

/* A number, or a name of the catalogue. */
static int
parse_id(const char *text, int *ret_id)
{
    const struct event_type *type = event_type_find(text);
    int64_t number;

    if (type == NULL && cc_parse_int(text, 1, INT32_MAX, &number, NULL) == 0)
        type = event_type_get((int)number);
    if (type == NULL)
        return -1;
    *ret_id = (int)type->id;
    return 0;
}

static int
make_filter(const struct cli_command *command, const struct request *request,
        struct event_filter *ret)
{
    struct event_filter f = { .channel = -1, .category = -1, .request_id = request->request_id };

    if (request->channel != NULL && (f.channel = event_channel_parse(request->channel)) < 0)
        return cli_usage_error(command, "--channel must be admin or operational");
    if (request->category != NULL && (f.category = event_category_parse(request->category)) < 0)
        return cli_usage_error(command, "--category must be General, PKCS, \"PKCS Import\", "
                                        "Revocation, SCEP or Health");
    if (request->id != NULL && parse_id(request->id, &f.id) != 0)
        return cli_usage_error(command, "--id: there is no such event; give its number or name");
    if (request->since != NULL && parse_since(request->since, &f.since_ms) != 0)
        return cli_usage_error(command,
                "--since must be how long ago (30m, 2h, 7d) or a time (RFC 3339)");
    *ret = f;
    return CLI_OK;
}

static int
read_events(const struct request *request, const struct event_filter *filter, struct cc_err *err)
{
    struct config *config = NULL;
    const char *directory = request->directory;
    struct request shown = *request;
    int rc = -1;

    if (directory == NULL) {
        if (cli_load_config(request->config, &config, err) != 0)
            goto out;
        directory = config->log.directory;
    }
    rc = eventlog_read(directory, filter, request->follow, NULL, show, &shown, err);
out:
    config_free(config);
    return rc;
}

static int
run(const struct cli_command *command, int argc, char **argv)
{
    struct request request = { .follow = false };
    const struct cli_option options[] = {
        { "config", &request.config, NULL },
        { "directory", &request.directory, NULL },
        { "channel", &request.channel, NULL },
        { "id", &request.id, NULL },
        { "category", &request.category, NULL },
        { "since", &request.since, NULL },
        { "request", &request.request_id, NULL },
        { "follow", NULL, &request.follow },
        { "json", NULL, &request.json },
        { NULL, NULL, NULL },
    };
    struct event_filter filter;
    struct cc_err err = { .domain = CC_DOM_NONE };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "it takes options only");
    if ((status = make_filter(command, &request, &filter)) != CLI_OK)
        return status;
    if (read_events(&request, &filter, &err) != 0)
        return cli_fail(command, &err);
    return CLI_OK;
}

const struct cli_command cli_events = {
    .name = "events",
    .summary = "reads the event log",
    .usage = "usage: certconnector events [OPTION...]\n"
             "\n"
             "Shows the events of both channels in order of time, archives included.\n"
             "\n"
             "  --channel C      admin or operational\n"
             "  --id N           events of this number, or of this name\n"
             "  --category C     General, PKCS, \"PKCS Import\", Revocation, SCEP or Health\n"
             "  --since T        not before T: how long ago (30m, 2h, 7d) or a time "
             "(2026-11-01T12:00:00Z)\n"
             "  --request ID     of this request or transaction\n"
             "  --follow         goes on with what is written from now on\n"
             "  --json           the events as they are written, one JSON object a line\n"
             "  --directory DIR  reads this folder instead of the configuration's\n"
             "  --config FILE    " CONFIG_DEFAULT_PATH " unless given\n",
    .run = run,
};
