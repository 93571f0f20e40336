/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "cli_int.h"
#include "state.h"
#include "store/copy.h"

#define URI_MAX 4200

struct options {
    const char *config, *to;
    bool json;
};

/* Two stores, and what is said of the copy from one to the other. */
struct job {
    struct config *config;
    struct store *from, *to;
    bool shows; /* somebody watches */
    int64_t rows;
};

/* The verb's file, or none where that is moved; 0, else the caller returns *ret_status at once. */
static int
parse(const struct cli_command *command, int argc, char **argv, struct options *options,
        const char **ret_file, int *ret_status)
{
    const struct cli_option known[] = {
        { "config", &options->config, NULL },
        { "json", NULL, &options->json },
        { ret_file == NULL ? "to" : NULL, &options->to, NULL },
        { NULL, NULL, NULL },
    };
    const int arguments = ret_file == NULL ? 0 : 1;
    int first;

    if (cli_options(command, argc, argv, known, &first, ret_status) != 0)
        return -1;
    if (argc - first != arguments) {
        *ret_status = cli_usage_error(command, "%s takes %s", argv[0],
                arguments == 0 ? "options only" : "the name of one file");
        return -1;
    }
    if (ret_file != NULL)
        *ret_file = argv[first];
    return 0;
}

/* ---- what all do ---- */

static void
on_progress(void *arg, const struct store_copy_progress *progress)
{
    const struct job *job = arg;

    if (job->shows)
        fprintf(stderr, "\r%lld rows, now of %s\033[K", (long long)progress->rows, progress->table);
}

static int
copy(struct job *job, bool past, struct cc_err *err)
{
    int rc;

    job->shows = isatty(STDERR_FILENO) == 1;
    rc = store_copy(job->from, job->to, past, on_progress, job, &job->rows, err);
    if (job->shows)
        fprintf(stderr, "\r\033[K");
    return rc;
}

static int
open_file(const char *path, struct store **ret_store, struct cc_err *err)
{
    struct cc_buf uri = CC_BUF_INIT(URI_MAX);
    int rc = cc_buf_printf(&uri, err, "sqlite:%s", path);

    if (rc == 0)
        rc = store_open(cc_buf_str(&uri), ret_store, err);
    cc_buf_free(&uri);
    return rc;
}

static int
say(const struct options *options, const struct job *job, const char *what, const char *place)
{
    json_object *obj;

    if (!options->json) {
        printf("%lld rows %s %s\n", (long long)job->rows, what, place);
        return CLI_OK;
    }
    obj = json_object_new_object();
    if (cc_json_add_int(obj, "rows", job->rows, NULL) != 0) {
        json_object_put(obj);
        return CLI_FAILED;
    }
    return cli_print_json(obj);
}

static void
close_job(struct job *job)
{
    store_close(job->to);
    store_close(job->from);
    config_free(job->config);
}

/* ---- backup ---- */

/* What is left of a copy that failed is of no use. */
static void
remove_file(const char *path)
{
    static const char *const ends[] = { "", "-wal", "-shm" };
    struct cc_buf name = CC_BUF_INIT(URI_MAX);

    for (size_t i = 0; i < CC_COUNT(ends); i++) {
        cc_buf_reset(&name);
        if (cc_buf_printf(&name, NULL, "%s%s", path, ends[i]) == 0)
            (void)unlink(cc_buf_str(&name));
    }
    cc_buf_free(&name);
}

static int
back_up(struct job *job, const char *path, struct cc_err *err)
{
    if (cli_open_state(job->config, &job->from, err) != 0)
        return -1;
    if (access(path, F_OK) == 0)
        return cc_err_set(err, CC_DOM_USAGE, 0, "%s is there already", path);
    if (open_file(path, &job->to, err) == 0 && copy(job, false, err) == 0)
        return 0;
    store_close(job->to);
    job->to = NULL;
    remove_file(path);
    return -1;
}

/* ---- restore ---- */

static int
restore(struct job *job, const char *path, struct cc_err *err)
{
    if (cli_become_owner(job->config, err) != 0)
        return -1;
    if (access(path, R_OK) != 0)
        return cc_err_set_errno(err, errno, "%s", path);
    if (open_file(path, &job->from, err) != 0 || cli_open_state(job->config, &job->to, err) != 0 ||
            store_check_unused(job->to, err) != 0)
        return -1;
    return copy(job, true, err);
}

/* ---- both, with their file ---- */

static int
run_with_file(const struct cli_command *command, int argc, char **argv, bool restores)
{
    struct options options = { .json = false };
    struct job job = { .rows = 0 };
    struct cc_err err = { 0 };
    const char *path;
    int status;

    if (parse(command, argc, argv, &options, &path, &status) != 0)
        return status;
    if (cli_load_config(options.config, &job.config, &err) != 0 ||
            (restores ? restore(&job, path, &err) : back_up(&job, path, &err)) != 0)
        status = cli_fail(command, &err);
    else if (restores)
        status = say(&options, &job, "restored into", job.config->connector.state);
    else
        status = say(&options, &job, "written to", path);
    close_job(&job);
    return status;
}

static int
run_backup(const struct cli_command *command, int argc, char **argv)
{
    return run_with_file(command, argc, argv, false);
}

static int
run_restore(const struct cli_command *command, int argc, char **argv)
{
    return run_with_file(command, argc, argv, true);
}

/* ---- migrate ---- */

static int
retire(struct store *store, const char *what, const char *uri, struct cc_err *err)
{
    struct cc_buf reason = CC_BUF_INIT(URI_MAX);
    int rc = cc_buf_printf(&reason, err, "it %s moved to %s", what, uri);

    if (rc == 0)
        rc = store_retire(store, cc_buf_str(&reason), err);
    cc_buf_free(&reason);
    return rc;
}

/* Nobody begins to use the old one meanwhile; it is as it was when this fails. */
static int
migrate(struct job *job, const char *uri, struct cc_err *err)
{
    struct cc_err ignored = { 0 };

    if (cli_open_state(job->config, &job->from, err) != 0 ||
            store_check_unused(job->from, err) != 0)
        return -1;
    if (store_open(uri, &job->to, err) != 0 || store_check_unused(job->to, err) != 0)
        return cc_err_in(err, "the new state store");
    if (retire(job->from, "is being", uri, err) != 0)
        return -1;
    if (copy(job, false, err) == 0)
        return retire(job->from, "was", uri, err);
    if (store_retire(job->from, NULL, &ignored) != 0)
        fprintf(stderr, "the old state store stays unused: %s\n", cc_err_text(&ignored));
    return cc_err_in(err, "the new state store");
}

static int
run_migrate(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .json = false };
    struct job job = { .rows = 0 };
    struct cc_err err = { 0 };
    int status;

    if (parse(command, argc, argv, &options, NULL, &status) != 0)
        return status;
    if (options.to == NULL)
        return cli_usage_error(command, "--to URI says where the state shall be");
    if (store_check_uri(options.to, &err) == 0 &&
            cli_load_config(options.config, &job.config, &err) == 0 &&
            migrate(&job, options.to, &err) == 0) {
        status = say(&options, &job, "moved to", options.to);
        if (!options.json)
            printf("now set [connector] state = %s, for every instance that used the old one\n",
                    options.to);
    } else {
        status = cli_fail(command, &err);
    }
    close_job(&job);
    return status;
}

/* ---- the command ---- */

static int
run_store(const struct cli_command *command, int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        { "backup", run_backup },
        { "restore", run_restore },
        { "migrate", run_migrate },
        { NULL, NULL },
    };

    return cli_verb(command, argc, argv, verbs);
}

const struct cli_command cli_store = {
    .name = "store",
    .summary = "back up, restore or move the connector's state",
    .usage = "usage: certconnector store backup [--config FILE] [--json] FILE\n"
             "       certconnector store restore [--config FILE] [--json] FILE\n"
             "       certconnector store migrate [--config FILE] [--json] --to URI\n"
             "\n"
             "Copies the state: requests in hand, the built-in CAs' databases, SCEP\n"
             "transactions, keys made ahead.  The keys of the token are not part of it.\n"
             "\n"
             "  backup   writes the state of one moment into a new file; connectors may run\n"
             "  restore  reads such a file into a [connector] state that is empty; CRL\n"
             "           numbers go on with a gap\n"
             "  migrate  moves the state to an empty database of either kind, while no\n"
             "           connector uses it; the old one is kept, and refuses to be used\n"
             "\n"
             "  --config FILE  the configuration (default " CONFIG_DEFAULT_PATH ")\n"
             "  --to URI       sqlite:PATH, or postgresql://USER@HOST/DATABASE?...\n"
             "  --json         print the result as JSON\n"
             "\n"
             "Started by root, it works as the user that owns the state directory.\n",
    .run = run_store,
};
