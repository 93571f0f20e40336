/* SPDX-License-Identifier: MIT */

/* certconnector explain: the story of one request. */

#include "ask_daemon.h"
#include "cli_int.h"
#include "explain_int.h"
#include "state.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "store/cadb.h"

#define LABEL_WIDTH 13
#define WORDS_MAX 1024
#define ALIKE_MAX 4 /* steps alike that are shown one by one */

struct options {
    const char *config;
    bool json;
};

static const char *
outcome_name(const struct explain_facts *f)
{
    switch (f->outcome) {
    case EXPLAIN_NOTHING:
        return "unknown";
    case EXPLAIN_WAITS:
        return "waiting";
    case EXPLAIN_SUCCEEDED:
        return "succeeded";
    case EXPLAIN_FAILED:
        return f->comes_again ? "failed for now" : "failed";
    }
    return "unknown";
}

/* ---- for people ---- */

/* "35 ms", "12.3 s", "5 min". */
static const char *
span(int64_t ms, char *ret, size_t size)
{
    if (ms < 1000)
        (void)snprintf(ret, size, "%" PRId64 " ms", ms);
    else if (ms < INT64_C(120) * 1000)
        (void)snprintf(ret, size, "%.1f s", (double)ms / 1000);
    else if (ms < INT64_C(7200) * 1000)
        (void)snprintf(ret, size, "%" PRId64 " min", ms / 60000);
    else if (ms < INT64_C(172800) * 1000)
        (void)snprintf(ret, size, "%" PRId64 " h", ms / 3600000);
    else
        (void)snprintf(ret, size, "%" PRId64 " days", ms / 86400000);
    return ret;
}

static void
show(const char *label, const char *text)
{
    if (text[0] == '\0')
        return;
    printf("%-*s", LABEL_WIDTH, label);
    cli_print_escaped(text);
    putchar('\n');
}

static const char *
member(json_object *obj, const char *name)
{
    const char *text = NULL;

    return cc_json_get_str(obj, name, EXPLAIN_TEXT_MAX, &text, NULL) == 0 && text != NULL ? text
                                                                                          : "";
}

static int64_t
event_of(const struct explain *e, size_t i)
{
    int64_t id = 0;

    (void)!cc_json_get_int(e->steps[i].obj, "id", 1, INT32_MAX, 0, &id, NULL);
    return id;
}

/* "TIME  +SPAN  text  [event]": the span since the step before. */
static void
show_step(const struct explain *e, size_t i)
{
    const struct explain_step *step = &e->steps[i];
    const int64_t id = event_of(e, i);
    char since[32] = "";

    if (i > 0)
        (void)span(step->at_ms - e->steps[i - 1].at_ms, since, sizeof(since));
    printf("  %s  %s%-9s  ", member(step->obj, "time"), i > 0 ? "+" : " ", since);
    cli_print_escaped(member(step->obj, "text"));
    if (id > 0)
        printf("  [%" PRId64 "]\n", id);
    else
        printf("  [%s]\n", member(step->obj, "source"));
}

/* Of the same event over and over, as when something was tried for days, the first and the last. */
static void
show_steps(const struct explain *e)
{
    for (size_t i = 0; i < e->step_count; i++) {
        size_t last = i;

        while (last + 1 < e->step_count && event_of(e, i) != 0 &&
                event_of(e, last + 1) == event_of(e, i))
            last++;
        show_step(e, i);
        if (last - i < ALIKE_MAX)
            continue;
        printf("  %24s  %10s  and %zu more times  [%" PRId64 "]\n", "", "", last - i - 1,
                event_of(e, i));
        i = last - 1;
    }
}

static void
show_head(const struct explain *e)
{
    const struct explain_facts *f = &e->facts;
    char line[WORDS_MAX], took[32];

    show("request", f->request_id);
    show("transaction", f->transaction_id);
    show("kind", f->kind);
    show("user", f->user);
    show("device", f->device);
    if (f->attempt > 1) {
        (void)snprintf(line, sizeof(line), "%d", f->attempt);
        show("attempt", line);
    }
    (void)snprintf(line, sizeof(line), "%s", outcome_name(f));
    if (e->step_count > 1 && f->outcome != EXPLAIN_WAITS)
        (void)snprintf(line, sizeof(line), "%s; from first to last step %s", outcome_name(f),
                span(e->steps[e->step_count - 1].at_ms - e->steps[0].at_ms, took, sizeof(took)));
    else if (e->step_count > 0 && f->outcome == EXPLAIN_WAITS)
        (void)snprintf(line, sizeof(line), "%s, for %s", outcome_name(f),
                span(cc_clock_now_ms() - e->steps[0].at_ms, took, sizeof(took)));
    show("outcome", line);
    if (f->outcome != EXPLAIN_SUCCEEDED) {
        show("failure", f->failure);
        show("code", f->code);
    }
    show("certificate", f->certificate);
}

static void
show_story(const struct explain *e)
{
    char words[WORDS_MAX];

    show_head(e);
    putchar('\n');
    show_steps(e);
    putchar('\n');
    explain_waits(e, words, sizeof(words));
    show("waits for", words);
    explain_advice(e, words, sizeof(words));
    show("what to do", words);
    if (e->store_error.domain != CC_DOM_NONE)
        show("not seen", cc_err_text(&e->store_error));
    if (e->log_error.domain != CC_DOM_NONE)
        show("not seen", cc_err_text(&e->log_error));
}

/* ---- for programs ---- */

static void
add(json_object *obj, const char *name, const char *text, bool *ok)
{
    if (text[0] != '\0')
        *ok = *ok && cc_json_add_str(obj, name, text, NULL) == 0;
}

static json_object *
steps_of(const struct explain *e, bool *ok)
{
    json_object *list = json_object_new_array();

    for (size_t i = 0; i < e->step_count && list != NULL; i++) {
        json_object *obj = e->steps[i].obj;

        if (i > 0)
            *ok = *ok && cc_json_add_int(obj, "afterMs", e->steps[i].at_ms - e->steps[i - 1].at_ms,
                                 NULL) == 0;
        *ok = *ok && json_object_array_add(list, json_object_get(obj)) == 0;
    }
    return list;
}

static int
print_story(const struct explain *e, struct cc_err *err)
{
    const struct explain_facts *f = &e->facts;
    json_object *obj = json_object_new_object();
    bool ok = obj != NULL;
    char words[WORDS_MAX];

    add(obj, "asked", e->asked, &ok);
    add(obj, "requestId", f->request_id, &ok);
    add(obj, "transactionId", f->transaction_id, &ok);
    add(obj, "kind", f->kind, &ok);
    add(obj, "user", f->user, &ok);
    add(obj, "device", f->device, &ok);
    add(obj, "outcome", outcome_name(f), &ok);
    add(obj, "failure", f->outcome != EXPLAIN_SUCCEEDED ? f->failure : "", &ok);
    add(obj, "errorCode", f->outcome != EXPLAIN_SUCCEEDED ? f->code : "", &ok);
    add(obj, "ca", f->ca, &ok);
    add(obj, "serialNumber", f->serial, &ok);
    add(obj, "certificate", f->certificate, &ok);
    explain_waits(e, words, sizeof(words));
    add(obj, "waitsFor", words, &ok);
    explain_advice(e, words, sizeof(words));
    add(obj, "advice", words, &ok);
    if (f->attempt > 0)
        ok = ok && cc_json_add_int(obj, "attempt", f->attempt, NULL) == 0;
    ok = ok && cc_json_add_bool(obj, "daemonAnswers", e->daemon != NULL, NULL) == 0;
    add(obj, "storeError", e->store_error.text, &ok);
    add(obj, "logError", e->log_error.text, &ok);
    ok = ok && cc_json_add(obj, "steps", steps_of(e, &ok), NULL) == 0;
    if (ok)
        return cli_print_json(obj);
    json_object_put(obj);
    return cc_err_nomem(err);
}

/* ---- asking ---- */

/* As serial numbers are written: upper-case hex of whole octets, without separators; empty when text is none. */
static void
read_serial(const char *text, char *ret, size_t size)
{
    char digits[2 * CADB_SERIAL_MAX + 2];
    size_t len = 0;

    ret[0] = '\0';
    for (; *text != '\0'; text++) {
        if (*text == ':' || *text == ' ' || (*text == '0' && len == 0))
            continue;
        if (strchr("0123456789abcdefABCDEF", *text) == NULL || len == sizeof(digits) - 1)
            return;
        digits[len++] = *text >= 'a' ? (char)(*text - 'a' + 'A') : *text;
    }
    digits[len] = '\0';
    if (len > 0 && len <= (size_t)2 * CADB_SERIAL_MAX)
        (void)snprintf(ret, size, "%s%s", len % 2 != 0 ? "0" : "", digits);
}

static int
nothing_known(const struct explain *e, struct cc_err *err)
{
    const bool log = e->log_error.domain != CC_DOM_NONE,
               store = e->store_error.domain != CC_DOM_NONE;

    return cc_err_set(err, CC_DOM_INPUT, 0,
            "nothing is known of %.64s: no such request, transaction or serial number in %s with its archives%s%.100s, "
            "nor in the journal, SCEP requests and CAs of the state store%s%.100s; what ended is forgotten after a "
            "while, and other connectors have their own",
            e->asked, e->config->log.directory, log ? ", not to be read: " : "",
            log ? cc_err_text(&e->log_error) : "", store ? ", not to be read: " : "",
            store ? cc_err_text(&e->store_error) : "");
}

static int
tell(struct explain *e, const struct options *options, struct cc_err *err)
{
    /* The socket is asked first: who opens the store as root becomes its owner. */
    if (cli_fetch_status(e->config->connector.control_socket, &e->daemon, &(struct cc_err){ 0 }) !=
            0)
        e->daemon = NULL;
    if (cli_open_state(e->config, &e->store, &e->store_error) != 0)
        e->store = NULL;
    if (explain_gather(e, err) != 0)
        return -1;
    if (e->step_count == 0)
        return nothing_known(e, err);
    if (options->json)
        return print_story(e, err);
    show_story(e);
    return 0;
}

static int
run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .json = false };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "json", NULL, &options.json },
        { NULL, NULL, NULL },
    };
    struct explain explain = { .asked = NULL };
    struct config *config = NULL;
    struct cc_err err = { 0 };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first + 1 != argc)
        return cli_usage_error(command, "it takes one request id, transaction id or serial number");
    explain.asked = argv[first];
    if (explain.asked[0] == '\0' || strlen(explain.asked) >= EXPLAIN_ID_LEN)
        return cli_usage_error(command, "an id has 1 to %d bytes", EXPLAIN_ID_LEN - 1);
    read_serial(explain.asked, explain.serial, sizeof(explain.serial));
    if (cli_load_config(options.config, &config, &err) != 0)
        return cli_fail(command, &err);
    explain.config = config;
    status = tell(&explain, &options, &err) == 0 ? CLI_OK : cli_fail(command, &err);
    explain_free(&explain);
    config_free(config);
    return status;
}

const struct cli_command cli_explain = {
    .name = "explain",
    .summary = "tells the story of one request",
    .usage = "usage: certconnector explain [--json] [--config FILE] ID\n"
             "\n"
             "Shows what happened to a request, step by step, what it waits for, and what to\n"
             "do when it failed: from the event log, archives included, and from the state\n"
             "store, whether the daemon runs or not.\n"
             "\n"
             "ID is the id of a request, the transaction id of a SCEP request, or the serial\n"
             "number of a certificate in hexadecimal.\n"
             "\n"
             "  --json          as one JSON object\n"
             "  --config FILE   " CONFIG_DEFAULT_PATH " unless given\n"
             "\n"
             "Exit status: 0; 1 when nothing is known of it; 2 for bad usage.\n",
    .run = run,
};
