/* SPDX-License-Identifier: MIT */
#include "selftest_int.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"

#define FEATURE_WIDTH 12
#define WHAT_WIDTH 46

/* ---- signals ---- */

static void
stop_signals(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGTERM);
}

int
selftest_report_open(struct selftest_report *report, struct cc_err *err)
{
    sigset_t set;

    stop_signals(&set);
    report->began_ms = cc_clock_mono_ms();
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 ||
            (report->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) == -1)
        return cc_err_set_errno(err, errno, "signals");
    return 0;
}

bool
selftest_stopped(struct selftest *st, int ms)
{
    struct selftest_report *report = &st->report;
    struct pollfd fd = { .fd = report->signals, .events = POLLIN };
    struct signalfd_siginfo info;
    sigset_t set;

    if (poll(&fd, 1, report->stopped ? 0 : ms) <= 0 ||
            read(report->signals, &info, sizeof(info)) != sizeof(info))
        return report->stopped;
    report->stopped = true;
    stop_signals(&set);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    if (!report->json) {
        puts("interrupted: cleaning up (once more ends at once)");
        fflush(stdout);
    }
    return true;
}

void
selftest_report_close(struct selftest_report *report)
{
    for (size_t i = 0; i < report->left_count; i++)
        free(report->left[i]);
    free(report->left);
    free(report->records);
    if (report->signals >= 0)
        (void)close(report->signals);
}

/* ---- steps ---- */

static void
show(const struct selftest_record *record)
{
    printf("%-*s%-*s%7" PRId64 " ms", FEATURE_WIDTH, record->feature, WHAT_WIDTH, record->what,
            record->duration_ms);
    fputs(record->succeeded ? "" : "  FAILED", stdout);
    fputs(record->text[0] != '\0' ? "  " : "", stdout);
    cli_print_escaped(record->text);
    putchar('\n');
    fflush(stdout);
}

static void
keep(struct selftest_report *report, const struct selftest_record *record)
{
    struct selftest_record *records =
            reallocarray(report->records, report->count + 1, sizeof(*records));

    if (!report->json)
        show(record);
    if (records == NULL)
        return;
    report->records = records;
    report->records[report->count++] = *record;
}

static int
run_step(struct selftest *st, const char *feature, const struct selftest_step *step)
{
    struct selftest_record record = { .feature = feature, .what = step->what };
    const int64_t began = cc_clock_mono_ms();
    struct cc_err err = { 0 };

    st->detail[0] = '\0';
    record.succeeded = step->run(st, &err) == 0;
    record.duration_ms = cc_clock_mono_ms() - began;
    (void)cc_strcpy(record.text, sizeof(record.text),
            record.succeeded ? st->detail : cc_err_text(&err));
    keep(&st->report, &record);
    return record.succeeded ? 0 : -1;
}

int
selftest_run_steps(struct selftest *st, const char *feature, const struct selftest_step *steps,
        size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (selftest_stopped(st, 0) || run_step(st, feature, &steps[i]) != 0)
            return -1;
    return 0;
}

void
selftest_run_clean_step(struct selftest *st, const struct selftest_step *step)
{
    (void)run_step(st, "clean-up", step);
}

void
selftest_left_behind(struct selftest *st, const char *fmt, ...)
{
    struct selftest_report *report = &st->report;
    char **left = reallocarray(report->left, report->left_count + 1, sizeof(*left));
    va_list ap;

    if (left == NULL)
        return;
    report->left = left;
    va_start(ap, fmt);
    if (vasprintf(&left[report->left_count], fmt, ap) >= 0)
        report->left_count++;
    va_end(ap);
}

/* ---- the end ---- */

static int
add_record(json_object *steps, const struct selftest_record *record, struct cc_err *err)
{
    json_object *step = json_object_new_object();

    if (cc_json_add_str(step, "feature", record->feature, err) != 0 ||
            cc_json_add_str(step, "step", record->what, err) != 0 ||
            cc_json_add_bool(step, "succeeded", record->succeeded, err) != 0 ||
            cc_json_add_int(step, "durationMs", record->duration_ms, err) != 0 ||
            cc_json_add_str(step, record->succeeded ? "detail" : "error",
                    record->text[0] != '\0' ? record->text : NULL, err) != 0 ||
            json_object_array_add(steps, step) != 0) {
        json_object_put(step);
        return cc_err_nomem(err);
    }
    return 0;
}

static int
add_left(json_object *list, const char *text, struct cc_err *err)
{
    json_object *string = json_object_new_string(text);

    if (string == NULL || json_object_array_add(list, string) != 0) {
        json_object_put(string);
        return cc_err_nomem(err);
    }
    return 0;
}

static int
fill(struct selftest *st, json_object *root, bool succeeded, struct cc_err *err)
{
    json_object *steps = json_object_new_array(), *left;

    if (cc_json_add(root, "steps", steps, err) != 0)
        return -1;
    left = json_object_new_array();
    if (cc_json_add(root, "leftBehind", left, err) != 0 ||
            cc_json_add_str(root, "run", st->run, err) != 0 ||
            cc_json_add_bool(root, "throughService", st->admin != NULL, err) != 0 ||
            cc_json_add_bool(root, "interrupted", st->report.stopped, err) != 0 ||
            cc_json_add_bool(root, "succeeded", succeeded, err) != 0)
        return -1;
    for (size_t i = 0; i < st->report.count; i++)
        if (add_record(steps, &st->report.records[i], err) != 0)
            return -1;
    for (size_t i = 0; i < st->report.left_count; i++)
        if (add_left(left, st->report.left[i], err) != 0)
            return -1;
    return 0;
}

static int
conclude_json(struct selftest *st, bool succeeded)
{
    json_object *root = json_object_new_object();
    struct cc_err err = { 0 };

    if (root == NULL || fill(st, root, succeeded, &err) != 0) {
        json_object_put(root);
        return cli_fail(st->command, &err);
    }
    return cli_print_json(root) == CLI_OK && succeeded ? CLI_OK : CLI_FAILED;
}

static void
say_failures(const struct selftest *st)
{
    const struct selftest_report *report = &st->report;
    char shown[2048];

    for (size_t i = 0; i < report->count; i++) {
        const struct selftest_record *record = &report->records[i];

        if (!record->succeeded)
            fprintf(stderr, "certconnector selftest: %s: %s: %s\n", record->feature, record->what,
                    cc_escape_into(shown, sizeof(shown), record->text));
    }
    for (size_t i = 0; i < report->left_count; i++)
        fprintf(stderr, "certconnector selftest: left behind: %s\n",
                cc_escape_into(shown, sizeof(shown), report->left[i]));
    if (report->stopped)
        fputs("certconnector selftest: interrupted\n", stderr);
}

int
selftest_conclude(struct selftest *st)
{
    const struct selftest_report *report = &st->report;
    const int64_t ms = cc_clock_mono_ms() - report->began_ms;
    size_t good = 0;
    bool succeeded;

    for (size_t i = 0; i < report->count; i++)
        good += report->records[i].succeeded;
    succeeded = good == report->count && report->left_count == 0 && !report->stopped;
    if (report->json) {
        const int status = conclude_json(st, succeeded);

        say_failures(st);
        return status;
    }
    printf("%zu of %zu steps succeeded, in %.1f s%s\n", good, report->count, (double)ms / 1000,
            st->admin != NULL ? "" : "; not through the service's queue");
    fflush(stdout);
    say_failures(st);
    return succeeded ? CLI_OK : CLI_FAILED;
}
