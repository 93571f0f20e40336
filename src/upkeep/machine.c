/* SPDX-License-Identifier: MIT */
#include "upkeep/machine.h"

#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/text.h"
#include "upkeep/softhsm.h"

#define FILES "files"
#define DISK "disk"

/* Who looks, whom they tell, and what they are at. */
struct look {
    const struct config *config;
    upkeep_fn fn;
    void *arg;
    char user[64], group[64], owner[130]; /* "certconnector:certconnector" */
    struct upkeep_finding finding;        /* the one being made */
};

static void
look_begin(struct look *look, const struct config *config, upkeep_fn fn, void *arg)
{
    const struct passwd *user = getpwuid(geteuid()); /* NOLINT(concurrency-mt-unsafe) */
    const struct group *group = getgrgid(getegid()); /* NOLINT(concurrency-mt-unsafe) */

    *look = (struct look){ .config = config, .fn = fn, .arg = arg };
    (void)snprintf(look->user, sizeof(look->user), "%ld", (long)geteuid());
    if (user != NULL)
        (void)cc_strcpy(look->user, sizeof(look->user), user->pw_name);
    (void)snprintf(look->group, sizeof(look->group), "%ld", (long)getegid());
    if (group != NULL)
        (void)cc_strcpy(look->group, sizeof(look->group), group->gr_name);
    (void)snprintf(look->owner, sizeof(look->owner), "%s:%s", look->user, look->group);
}

static struct upkeep_finding *
begin(struct look *look, const char *area, const char *check, enum upkeep_severity severity)
{
    look->finding = (struct upkeep_finding){ .area = area, .check = check, .severity = severity };
    return &look->finding;
}

static void
say(struct look *look)
{
    look->fn(look->arg, &look->finding);
}

/* ---- files that we read ---- */

struct wanted_file {
    const char *check;
    const char *what; /* "the token's PIN" */
    const char *setting;
    bool secret;
};

static void
say_unreadable(struct look *look, const struct wanted_file *wanted, const char *path, int reason)
{
    struct upkeep_finding *f = begin(look, FILES, wanted->check, UPKEEP_ERROR);

    upkeep_what(f, "%s, %s, cannot be read by user %s", path, wanted->what, look->user);
    upkeep_cause(f, "%s names it: %s", wanted->setting,
            strerror(reason)); /* NOLINT(concurrency-mt-unsafe) */
    if (reason == ENOENT || reason == ENOTDIR) {
        upkeep_cure(f, "correct %s, or put the file there", wanted->setting);
    } else {
        upkeep_cure(f, "let its group be %s, and let that read it", look->group);
        UPKEEP_COMMAND(f, "chgrp", look->group, path);
        UPKEEP_COMMAND(f, "chmod", wanted->secret ? "0640" : "g+r", path);
    }
    say(look);
}

/* What others may do with it; true when something was said. */
static bool
say_open(struct look *look, const struct wanted_file *wanted, const char *path, mode_t mode)
{
    const mode_t bad = wanted->secret ? S_IRWXO : S_IWOTH;
    struct upkeep_finding *f;

    if ((mode & bad) != 0) {
        f = begin(look, FILES, wanted->check, UPKEEP_ERROR);
        upkeep_what(f, "%s, %s, is open to every user of this machine (mode %04o)", path,
                wanted->what, (unsigned)(mode & 07777));
        upkeep_cause(f, "others may %s it; %s", (mode & bad & S_IROTH) != 0 ? "read" : "change",
                wanted->secret ? "a secret that others can read is not used"
                               : "who can change it can make the connector do anything");
        upkeep_cure(f, "take the right from others%s",
                wanted->secret ? ", and change the secret, which somebody may have read" : "");
        UPKEEP_COMMAND(f, "chmod", wanted->secret ? "g-w,o=" : "go-w", path);
    } else if ((mode & S_IWGRP) != 0) {
        f = begin(look, FILES, wanted->check, UPKEEP_WARNING);
        upkeep_what(f, "%s, %s, can be changed by its group (mode %04o)", path, wanted->what,
                (unsigned)(mode & 07777));
        upkeep_cause(f, "the daemon is of a group that only has to read it");
        upkeep_cure(f, "let the owner alone change it");
        UPKEEP_COMMAND(f, "chmod", "g-w", path);
    } else {
        return false;
    }
    say(look);
    return true;
}

static void
check_file(struct look *look, const struct wanted_file *wanted, const char *path)
{
    struct stat info;

    if (stat(path, &info) != 0 || access(path, R_OK) != 0) {
        say_unreadable(look, wanted, path, errno);
        return;
    }
    if (say_open(look, wanted, path, info.st_mode))
        return;
    upkeep_what(begin(look, FILES, wanted->check, UPKEEP_OK), "%s, %s", path, wanted->what);
    say(look);
}

/* A credential of systemd is a file that only the service sees. */
static void
check_secret(struct look *look, const char *check, const char *what, const char *setting,
        const char *reference)
{
    const struct wanted_file wanted = { check, what, setting, true };

    if (reference != NULL && cc_starts_with(reference, "file:"))
        check_file(look, &wanted, reference + strlen("file:"));
}

static void
check_scep(struct look *look, const struct config_scep *scep)
{
    const struct wanted_file file = { "secret-file", "the challenges of SCEP", "challenge-file",
        true };

    if (scep->challenge == CONFIG_CHALLENGE_STATIC)
        check_secret(look, "secret-file", "the challenge of SCEP", "challenge-secret",
                scep->challenge_secret);
    if (scep->challenge == CONFIG_CHALLENGE_FILE && scep->challenge_file != NULL)
        check_file(look, &file, scep->challenge_file);
}

static void
check_secrets(struct look *look)
{
    const struct config *config = look->config;
    const struct wanted_file ca = { "ca-file", "the CAs that the service is verified by",
        "[service] ca-file", false };
    const struct wanted_file client = { "client-certificate-file",
        "the certificate to sign in with", "[service] client-certificate", false };

    check_secret(look, "pin-file", "the token's PIN", "[token] pin", config->token.pin);
    check_secret(look, "secret-file", "the secret to sign in with", "[service] client-secret",
            config->service.client_secret);
    check_secret(look, "secret-file", "the password at the proxy", "[service] proxy-password",
            config->service.proxy_password);
    if (config->service.ca_file != NULL)
        check_file(look, &ca, config->service.ca_file);
    if (config->service.client_certificate != NULL)
        check_file(look, &client, config->service.client_certificate);
    if ((config->connector.features & CONFIG_SCEP) == 0)
        return;
    check_scep(look, &config->scep.own);
    for (size_t i = 0; i < config->scep_profile_count; i++)
        check_scep(look, &config->scep_profiles[i]);
}

static void
check_config(struct look *look, const char *path)
{
    const struct wanted_file wanted = { "config-file", "the configuration", "the command line",
        false };
    char pattern[PATH_MAX];
    glob_t found = { .gl_pathc = 0 };

    check_file(look, &wanted, path);
    if ((size_t)snprintf(pattern, sizeof(pattern), "%s.d/*.conf", path) >= sizeof(pattern))
        return;
    /* Without tildes and words to expand: NOLINTNEXTLINE(concurrency-mt-unsafe) */
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++)
            check_file(look, &wanted, found.gl_pathv[i]);
    globfree(&found);
}

/* ---- folders that we write to ---- */

static void
say_folder(struct look *look, const char *check, const char *what, const char *path, int reason)
{
    struct upkeep_finding *f = begin(look, FILES, check, UPKEEP_ERROR);

    if (reason == ENOENT) {
        upkeep_what(f, "%s, %s, is not there", path, what);
        upkeep_cause(f, "the daemon does not make it by itself");
        upkeep_cure(f, "make it");
        UPKEEP_COMMAND(f, "install", "-d", "-m", "0750", "-o", look->user, "-g", look->group, path);
    } else if (reason == EROFS) {
        upkeep_what(f, "%s, %s, is on a file system that is mounted read-only", path, what);
        upkeep_cause(f, "it was mounted so, or became so after an error of the disk (see dmesg)");
        upkeep_cure(f, "repair the disk if it is broken, and mount it for writing");
    } else {
        upkeep_what(f, "%s, %s, cannot be written to by user %s", path, what, look->user);
        upkeep_cause(f, "%s", strerror(reason)); /* NOLINT(concurrency-mt-unsafe) */
        upkeep_cure(f, "give it to the user");
        UPKEEP_COMMAND(f, "chown", look->owner, path);
        UPKEEP_COMMAND(f, "chmod", "0750", path);
    }
    say(look);
}

static void
check_folder(struct look *look, const char *check, const char *what, const char *path)
{
    struct stat info;
    struct upkeep_finding *f;

    if (stat(path, &info) != 0 || access(path, R_OK | W_OK | X_OK) != 0) {
        say_folder(look, check, what, path, errno);
        return;
    }
    if ((info.st_mode & S_IRWXO) == 0) {
        upkeep_what(begin(look, FILES, check, UPKEEP_OK), "%s, %s", path, what);
    } else {
        f = begin(look, FILES, check,
                (info.st_mode & S_IWOTH) != 0 ? UPKEEP_ERROR : UPKEEP_WARNING);
        upkeep_what(f, "%s, %s, is open to every user of this machine (mode %04o)", path, what,
                (unsigned)(info.st_mode & 07777));
        upkeep_cause(f, "others may %s it", (info.st_mode & S_IWOTH) != 0 ? "change" : "look into");
        upkeep_cure(f, "take the right from others");
        UPKEEP_COMMAND(f, "chmod", "o=", path);
    }
    say(look);
}

/* What the service manager makes at each start, and takes away, need not be there now. */
static void
check_run_folder(struct look *look)
{
    char path[PATH_MAX];
    char *slash;

    if (!cc_strcpy(path, sizeof(path), look->config->connector.control_socket) ||
            (slash = strrchr(path, '/')) == NULL || slash == path)
        return;
    *slash = '\0';
    if (access(path, F_OK) != 0 && errno == ENOENT &&
            (cc_starts_with(path, "/run/") || cc_starts_with(path, "/var/run/"))) {
        upkeep_what(begin(look, FILES, "control-socket", UPKEEP_OK),
                "%s, the folder of the control socket, is made when the service starts", path);
        say(look);
        return;
    }
    if (access(path, W_OK | X_OK) == 0) {
        upkeep_what(begin(look, FILES, "control-socket", UPKEEP_OK),
                "%s, the folder of the control socket", path);
        say(look);
        return;
    }
    say_folder(look, "control-socket", "the folder of the control socket", path, errno);
}

/* ---- the files of a SoftHSM token ---- */

/*
 * Every login rewrites token.object where it can, and who is killed meanwhile leaves it empty: with the key in it by
 * which all others are encrypted.
 */
static void
say_token(struct look *look, const char *path)
{
    struct upkeep_finding *f = begin(look, FILES, "token-files", UPKEEP_WARNING);
    char *folder = strdup(path), *slash = folder != NULL ? strrchr(folder, '/') : NULL;

    if (slash != NULL)
        *slash = '\0';
    upkeep_what(f, "%s can be written by user %s", path, look->user);
    upkeep_cause(f,
            "SoftHSM rewrites it at each login; a crash in that moment destroys the token with "
            "all its keys, and connectors that start together hinder one another");
    upkeep_cure(f, "let root own the token, and the group %s read it", look->group);
    if (slash != NULL) {
        UPKEEP_COMMAND(f, "chown", "-R", "root", folder);
        UPKEEP_COMMAND(f, "chgrp", "-R", look->group, folder);
        UPKEEP_COMMAND(f, "chmod", "-R", "u=rwX,g=rX,o=", folder);
    }
    free(folder);
    say(look);
}

bool
upkeep_softhsm_folder(const struct config *config, char *ret, size_t size)
{
    return strstr(config->token.module, "softhsm") != NULL && softhsm_folder(ret, size);
}

static void
check_token_files(struct look *look)
{
    char folder[PATH_MAX], pattern[PATH_MAX + 32];
    glob_t found = { .gl_pathc = 0 };
    size_t bad = 0;

    /* To root everything is writable. */
    if (geteuid() == 0 || !upkeep_softhsm_folder(look->config, folder, sizeof(folder)))
        return;
    (void)snprintf(pattern, sizeof(pattern), "%s/*/token.object", folder);
    /* The same: NOLINTNEXTLINE(concurrency-mt-unsafe) */
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            if (access(found.gl_pathv[i], W_OK) != 0)
                continue;
            say_token(look, found.gl_pathv[i]);
            bad++;
        }
        if (bad == 0 && found.gl_pathc > 0) {
            upkeep_what(begin(look, FILES, "token-files", UPKEEP_OK),
                    "SoftHSM's token files cannot be written by user %s", look->user);
            say(look);
        }
    }
    globfree(&found);
}

void
upkeep_check_files(const struct config *config, const char *config_path, upkeep_fn fn, void *arg)
{
    struct look look;

    look_begin(&look, config, fn, arg);
    check_config(&look, config_path);
    check_secrets(&look);
    check_folder(&look, "state-directory", "the state directory",
            config->connector.state_directory);
    check_folder(&look, "log-directory", "the log directory", config->log.directory);
    check_run_folder(&look);
    check_token_files(&look);
}

/* ---- disks ---- */

static enum upkeep_severity
judge_room(uint64_t free_mib, uint64_t all_mib)
{
    if (free_mib < UPKEEP_DISK_ERROR_MIB)
        return UPKEEP_ERROR;
    return free_mib < UPKEEP_DISK_WARNING_MIB || free_mib < all_mib / 20 ? UPKEEP_WARNING
                                                                         : UPKEEP_OK;
}

static void
check_room(struct look *look, const char *check, const char *what, const char *path)
{
    struct statvfs disk;
    struct upkeep_finding *f;
    uint64_t free_mib, all_mib;

    /* A folder that is not there was told of. */
    if (statvfs(path, &disk) != 0)
        return;
    free_mib = ((uint64_t)disk.f_bavail * disk.f_frsize) >> 20;
    all_mib = ((uint64_t)disk.f_blocks * disk.f_frsize) >> 20;
    f = begin(look, DISK, check, judge_room(free_mib, all_mib));
    upkeep_what(f, "%s: %llu MiB free of %llu MiB for %s", path, (unsigned long long)free_mib,
            (unsigned long long)all_mib, what);
    if (f->severity != UPKEEP_OK) {
        upkeep_cause(f,
                "without room nothing can be made durable: the connector takes no work then");
        upkeep_cure(f,
                "make room on the disk that %s lies on, or enlarge it: at least %d MiB and a twentieth of "
                "it should be free",
                path, UPKEEP_DISK_WARNING_MIB);
    }
    say(look);
}

void
upkeep_check_disk(const struct config *config, upkeep_fn fn, void *arg)
{
    struct look look;

    look_begin(&look, config, fn, arg);
    check_room(&look, "state-room", "the state", config->connector.state_directory);
    check_room(&look, "log-room", "the log", config->log.directory);
}
