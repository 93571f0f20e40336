/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "ca_verbs.h"
#include "store/cadb.h"

/* Requests that wait for an administrator ([ca] approval = manual): looked at, approved, denied. */

#define REASON_MAX 200

struct options {
    const char *config, *ca, *reason;
    const char *request_id; /* NULL: all of them */
    bool all, json;
};

/* ---- pending ---- */

static bool
add_row(json_object *array, const struct cadb_approval *approval)
{
    json_object *obj = json_object_new_object();
    char asked[CC_TIME_LEN];

    cc_time_format(approval->asked_ms, asked);
    if (cc_json_add_str(obj, "requestId", approval->request_id, NULL) == 0 &&
            cc_json_add_str(obj, "subject", approval->subject, NULL) == 0 &&
            cc_json_add_str(obj, "profile", approval->profile, NULL) == 0 &&
            cc_json_add_str(obj, "askedDateTime", asked, NULL) == 0 &&
            json_object_array_add(array, obj) == 0)
        return true;
    json_object_put(obj);
    return false;
}

struct listing {
    json_object *array; /* NULL: for people */
    bool failed;
};

static int
on_row(void *arg, const struct cadb_approval *approval)
{
    struct listing *listing = arg;
    char asked[CC_TIME_LEN];

    if (listing->array != NULL) {
        if (!add_row(listing->array, approval))
            listing->failed = true;
        return 0;
    }
    cc_time_format(approval->asked_ms, asked);
    printf("%.19sZ  %-12s  ", asked, approval->profile);
    cli_print_escaped(approval->subject);
    printf("\n    ");
    cli_print_escaped(approval->request_id);
    putchar('\n');
    return 0;
}

static int
list(const struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    struct listing listing = { .array = NULL };
    json_object *obj = NULL;
    int rc;

    if (options->json && ((obj = json_object_new_object()) == NULL ||
                                 (listing.array = json_object_new_array()) == NULL ||
                                 cc_json_add(obj, "requests", listing.array, err) != 0)) {
        json_object_put(obj);
        return cc_err_nomem(err);
    }
    rc = cadb_approval_walk(a->store, a->entry->name, on_row, &listing, err);
    if (rc == 0 && listing.failed)
        rc = cc_err_nomem(err);
    if (rc == 0 && options->json)
        return cli_print_json(obj) == CLI_OK ? 0 : -1;
    json_object_put(obj);
    return rc;
}

/* ---- approve, deny ---- */

static int
decide(const struct cli_authority *a, const struct options *options, enum cadb_decision decision,
        struct cc_err *err)
{
    int64_t count = 0;

    if (cadb_approval_decide(a->store, a->entry->name, options->request_id, decision,
                options->reason, cc_clock_now_ms(), &count, err) != 0)
        return -1;
    if (options->request_id != NULL && count == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "no such request waits; certificate requests that wait: certconnector ca pending");
    printf("%lld request%s %s\n", (long long)count, count == 1 ? "" : "s",
            decision == CADB_APPROVED ? "approved: issued when asked for again" : "denied");
    return 0;
}

static int
approve(const struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    return decide(a, options, CADB_APPROVED, err);
}

static int
deny(const struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    return decide(a, options, CADB_DENIED, err);
}

/* ---- all of them ---- */

static int
run(const struct cli_command *command, const struct options *options,
        int (*work)(const struct cli_authority *a, const struct options *options,
                struct cc_err *err))
{
    struct cli_authority a = { .config = NULL };
    struct cc_err err = { 0 };
    int rc = cli_authority_load(options->config, options->ca, &a, &err);

    if (rc == 0)
        rc = cli_authority_open_store(&a, &err);
    if (rc == 0)
        rc = work(&a, options, &err);
    cli_authority_close(&a);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}

int
cli_ca_pending_run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .json = false };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "ca", &options.ca, NULL },
        { "json", NULL, &options.json },
        { NULL, NULL, NULL },
    };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "pending takes options only");
    return run(command, &options, list);
}

static int
run_decision(const struct cli_command *command, int argc, char **argv, bool approval)
{
    struct options options = { .all = false };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "ca", &options.ca, NULL },
        { "all", NULL, &options.all },
        { approval ? NULL : "reason", approval ? NULL : &options.reason, NULL },
        { NULL, NULL, NULL },
    };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc)
        options.request_id = argv[first++];
    if (first < argc || (options.request_id == NULL) != options.all)
        return cli_usage_error(command, "one REQUEST-ID, as ca pending shows it, or --all");
    if (options.reason != NULL && strlen(options.reason) > REASON_MAX)
        return cli_usage_error(command, "--reason has at most 200 bytes");
    return run(command, &options, approval ? approve : deny);
}

int
cli_ca_approve_run(const struct cli_command *command, int argc, char **argv)
{
    return run_decision(command, argc, argv, true);
}

int
cli_ca_deny_run(const struct cli_command *command, int argc, char **argv)
{
    return run_decision(command, argc, argv, false);
}
