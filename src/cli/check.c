/* SPDX-License-Identifier: MIT */

/* certconnector check: what could keep the connector from its work, tried for real; each finding with cause and cure. */

#include "check_int.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ask_daemon.h"
#include "base/text.h"
#include "upkeep/machine.h"

#define SERVICE_USER "certconnector"

/* ---- steps that are others' work ---- */

static void
check_files(struct check *c)
{
    upkeep_check_files(c->config, c->path, check_take, c);
}

static void
check_disks(struct check *c)
{
    upkeep_check_disk(c->config, check_take, c);
}

/* In this order; what a step needs is opened by one before it, which may be of another area. */
static const struct step {
    const char *area;
    void (*run)(struct check *c);
} steps[] = {
    { "files", check_files },
    { "disk", check_disks },
    { "store", check_store },
    { "token", check_module },
    { "token", check_pin },
    { "token", check_keys },
    { "token", check_uses },
    { "network", check_way },
    { "network", check_clock },
    { "service", check_client },
    { "service", check_identity },
    { "service", check_sign_in },
    { "service", check_discovery },
    { "ca", check_authorities },
    { "ca", check_publishing },
    { "scep", check_scep },
    { "metrics", check_metrics },
    { "expiry", check_expiry },
};

static const char *const areas[] = { "config", "files", "disk", "store", "token", "network",
    "service", "ca", "scep", "metrics", "expiry" };

/* ---- who looks ---- */

/* The daemon's user: who owns its state, or else the one of the package; NULL: root, or whoever we are. */
static const struct passwd *
service_user(const struct config *config)
{
    struct stat info;

    if (geteuid() != 0)
        return NULL;
    if (stat(config->connector.state_directory, &info) == 0 && info.st_uid != 0)
        return getpwuid(info.st_uid); /* NOLINT(concurrency-mt-unsafe) */
    return getpwnam(SERVICE_USER);    /* NOLINT(concurrency-mt-unsafe) */
}

/* For good, so that everything is seen as the daemon will see it. */
static int
become_service_user(const struct config *config, struct cc_err *err)
{
    const struct passwd *user = service_user(config);

    if (user == NULL)
        return 0;
    if (initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
            setuid(user->pw_uid) != 0)
        return cc_err_set_errno(err, errno, "becoming user %s", user->pw_name);
    return 0;
}

/* ---- the configuration comes first: without it there is nothing to look at ---- */

static bool
load(struct check *c, const char *const *overrides, size_t count)
{
    struct cc_err err = { 0 };
    struct upkeep_finding *f;

    c->area = "config";
    if (config_load(c->path, overrides, count, &c->config, &err) == 0) {
        check_say(c, "settings", UPKEEP_OK, "%s and its drop-ins are good", c->path);
        return true;
    }
    f = check_say(c, "settings", UPKEEP_ERROR, "the configuration cannot be used");
    upkeep_cause(f, "%s", cc_err_text(&err));
    upkeep_cure(f,
            "correct it there; certconnector check-config tells at once whether it is good, and "
            "certconnector.conf(5) what may stand in it");
    return false;
}

/* ---- run ---- */

static bool
is_wanted(const char *only, const char *area)
{
    return only == NULL || strcmp(only, area) == 0;
}

/* What the area needs of others before it, too, and says nothing of them. */
static bool
is_needed(const char *only, const char *area)
{
    static const struct {
        const char *area, *needs;
    } needs[] = {
        { "token", "store" },
        { "ca", "store" },
        { "ca", "token" },
        { "scep", "store" },
        { "scep", "token" },
        { "service", "store" },
        { "service", "token" },
        { "service", "network" },
        { "expiry", "store" },
    };

    for (size_t i = 0; only != NULL && i < CC_COUNT(needs); i++)
        if (strcmp(only, needs[i].area) == 0 && strcmp(area, needs[i].needs) == 0)
            return true;
    return is_wanted(only, area);
}

static void
run_steps(struct check *c, const char *only)
{
    for (size_t i = 0; i < CC_COUNT(steps); i++) {
        const size_t before = c->count;

        if (!is_needed(only, steps[i].area))
            continue;
        c->area = steps[i].area;
        steps[i].run(c);
        if (!is_wanted(only, steps[i].area))
            c->count = before;
    }
}

static void
close_all(struct check *c)
{
    intune_close(c->intune);
    hsm_close(c->hsm);
    store_close(c->store);
    json_object_put(c->status);
    config_free(c->config);
    free(c->places);
    free(c->findings);
}

static int
look(const struct cli_command *command, struct check *c, const char *const *overrides,
        size_t override_count, const char *only)
{
    struct cc_err err = { 0 };

    if (load(c, overrides, override_count)) {
        if (become_service_user(c->config, &err) != 0) {
            (void)cli_fail(command, &err);
            return -1;
        }
        if (cli_fetch_status(c->config->connector.control_socket, &c->status, &err) != 0)
            c->status = NULL;
        if (!is_wanted(only, "config"))
            c->count = 0;
        run_steps(c, only);
    }
    return 0;
}

/* "--set section.key=value", any number of times, taken out of the arguments. */
static int
take_overrides(const struct cli_command *command, int *argc, char **argv, const char **ret,
        size_t *ret_count)
{
    int kept = 0;

    for (int i = 0; i < *argc; i++) {
        if (cc_starts_with(argv[i], "--set=")) {
            ret[(*ret_count)++] = argv[i] + strlen("--set=");
        } else if (strcmp(argv[i], "--set") == 0) {
            if (i + 1 == *argc)
                return cli_usage_error(command, "--set needs a value");
            ret[(*ret_count)++] = argv[++i];
        } else {
            argv[kept++] = argv[i];
        }
    }
    argv[ *argc = kept] = NULL;
    return 0;
}

static int
check_only(const struct cli_command *command, const char *only)
{
    const char *nearest;

    if (only == NULL)
        return 0;
    for (size_t i = 0; i < CC_COUNT(areas); i++)
        if (strcmp(only, areas[i]) == 0)
            return 0;
    nearest = cc_nearest(only, areas, CC_COUNT(areas));
    return cli_usage_error(command, "no area has this name%s%s",
            nearest != NULL ? ", is it " : "; the help lists them", nearest != NULL ? nearest : "");
}

static int
run_with(const struct cli_command *command, int argc, char **argv, const char **overrides)
{
    const char *path = NULL, *only = NULL;
    bool json = false;
    const struct cli_option options[] = {
        { "config", &path, NULL },
        { "only", &only, NULL },
        { "json", NULL, &json },
        { NULL, NULL, NULL },
    };
    struct check c = { .count = 0 };
    size_t count = 0;
    int first, status;

    if ((status = take_overrides(command, &argc, argv, overrides, &count)) != 0)
        return status;
    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if ((status = check_only(command, only)) != 0)
        return status;
    c.path = path != NULL ? path : CONFIG_DEFAULT_PATH;
    if (look(command, &c, overrides, count, only) != 0)
        status = 2;
    else
        status = json ? check_print_json(&c) : check_print(&c);
    close_all(&c);
    return status;
}

static int
run(const struct cli_command *command, int argc, char **argv)
{
    const char **overrides = calloc((size_t)argc + 1, sizeof(*overrides));
    int status;

    if (overrides == NULL)
        return 2;
    status = run_with(command, argc, argv, overrides);
    free(overrides);
    return status;
}

extern const struct cli_command cli_check;
const struct cli_command cli_check = {
    .name = "check",
    .summary = "tries everything the connector depends on, and says what to do",
    .usage =
            "usage: certconnector check [--only AREA] [--json] [--config FILE]\n"
            "                           [--set SECTION.KEY=VALUE]...\n"
            "\n"
            "Looks for what keeps the connector from its work, or soon will: each finding with\n"
            "its cause and what to do about it.  Nothing is changed, no request is taken, and the\n"
            "PIN is tried at most once, and never when the token refused it before.  What a\n"
            "running daemon holds is asked of it.  As root it looks with the eyes of the daemon's\n"
            "user.\n"
            "\n"
            "  --only AREA    config, files, disk, store, token, network, service, ca, scep,\n"
            "                 metrics, expiry\n"
            "  --json         one JSON object: {\"findings\": [...], \"summary\": {...}}\n"
            "  --config FILE  the configuration (default " CONFIG_DEFAULT_PATH ")\n"
            "  --set SECTION.KEY=VALUE\n"
            "                 as if it stood in the configuration\n"
            "\n"
            "Exit status: 0 all is well; 1 there are warnings; 2 there are errors, or bad usage.\n",
    .run = run,
};
