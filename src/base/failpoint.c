/* SPDX-License-Identifier: MIT */
#include "base/failpoint.h"

#ifdef CC_FAILPOINTS

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

#define NAME_SIZE 96
#define SPEC_MAX 65536
#define RULES_MAX 512

enum action { CRASH, ERROR, DELAY, STOP };
enum occurrence { EACH, NTH, FIRST_N };

struct rule {
    char name[NAME_SIZE];
    bool prefix; /* the name's beginning */
    enum action action;
    int64_t delay_ms;
    enum occurrence occurrence;
    int64_t n;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *spec_path; /* NULL: there is none; constant after once */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct stat read_of;                              /* the file as it was read */
static char passed[PATH_MAX];                            /* "": nothing is counted */
static struct rule rules[RULES_MAX];
static size_t rule_count;

static void
find_spec(void)
{
    spec_path = secure_getenv("CERTCONNECTOR_FAILPOINTS_FILE");
}

/* ---- the specification ---- */

static void
bad_line(const char *line)
{
    cc_log(CC_LOG_ERROR, "base", "fail points: \"%s\" makes no sense", line);
    _exit(EXIT_FAILURE);
}

/* ACTION, ACTION@N, ACTION*N */
static int
parse_action(char *text, struct rule *ret)
{
    char *mark = strpbrk(text, "@*");

    ret->occurrence = EACH;
    if (mark != NULL) {
        ret->occurrence = *mark == '@' ? NTH : FIRST_N;
        *mark = '\0';
        if (cc_parse_int(mark + 1, 1, INT32_MAX, &ret->n, NULL) != 0)
            return -1;
    }
    if (strcmp(text, "crash") == 0)
        ret->action = CRASH;
    else if (strcmp(text, "error") == 0)
        ret->action = ERROR;
    else if (strcmp(text, "stop") == 0)
        ret->action = STOP;
    else if (cc_starts_with(text, "delay:"))
        ret->action = DELAY;
    else
        return -1;
    return ret->action == DELAY
                   ? cc_parse_int(text + strlen("delay:"), 1, INT32_MAX, &ret->delay_ms, NULL)
                   : 0;
}

static int
parse_rule(const char *name, char *action, struct rule *ret)
{
    size_t len = strlen(name);

    ret->prefix = len > 0 && name[len - 1] == '*';
    if (ret->prefix)
        len--;
    if (len >= sizeof(ret->name))
        return -1;
    memcpy(ret->name, name, len);
    ret->name[len] = '\0';
    return parse_action(action, ret);
}

static char *
trim(char *text)
{
    size_t len;

    while (isspace((unsigned char)*text))
        text++;
    for (len = strlen(text); len > 0 && isspace((unsigned char)text[len - 1]); len--)
        text[len - 1] = '\0';
    return text;
}

/* LOCKED */
static void
parse_line(char *text)
{
    char whole[256];
    char *line = trim(text), *equals = strchr(line, '=');

    (void)cc_strcpy(whole, sizeof(whole), line);
    if (*line == '\0' || *line == '#')
        return;
    if (equals == NULL) {
        bad_line(whole);
        return;
    }
    *equals = '\0';
    line = trim(line);
    text = trim(equals + 1);
    if (strcmp(line, "passed") == 0) {
        if (!cc_strcpy(passed, sizeof(passed), text))
            bad_line(whole);
    } else if (rule_count == RULES_MAX || parse_rule(line, text, &rules[rule_count]) != 0) {
        bad_line(whole);
    } else {
        rule_count++;
    }
}

/* LOCKED */
static void
parse_spec(char *text)
{
    char *rest = text;
    char *line;

    rule_count = 0;
    passed[0] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL)
        parse_line(line);
    for (size_t i = 0; i < rule_count; i++)
        if (rules[i].occurrence != EACH && passed[0] == '\0')
            bad_line("a count without a folder to count in");
}

static bool
is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* LOCKED; without the file there are no rules. */
static void
refresh(void)
{
    struct cc_buf text = CC_BUF_INIT(SPEC_MAX);
    struct stat now = { 0 };

    if (stat(spec_path, &now) == 0 && is_same(&now, &read_of))
        return;
    rule_count = 0;
    passed[0] = '\0';
    read_of = now;
    if (cc_file_read(spec_path, &text, NULL) == 0 && cc_buf_add(&text, "", 1, NULL) == 0)
        parse_spec((char *)text.data);
    cc_buf_free(&text);
}

/* ---- passing a point ---- */

/* "PkcsRequests/renewLeases" as pkcs-requests-renew-leases, behind what is there and a dot. */
static void
add_part(char name[NAME_SIZE], const char *part)
{
    size_t len = strlen(name);
    char before = '.';

    if (len > 0 && len + 1 < NAME_SIZE)
        name[len++] = '.';
    for (; *part != '\0' && len + 3 < NAME_SIZE; part++) {
        const unsigned char c = (unsigned char)*part;

        if (isupper(c) && (islower((unsigned char)before) || isdigit((unsigned char)before)))
            name[len++] = '-';
        name[len++] = isalnum(c) ? (char)tolower(c) : '-';
        before = (char)c;
    }
    name[len] = '\0';
}

/* LOCKED.  Which passing this is; what is appended stands at the end, also beside other processes.  0: not counted. */
static int64_t
count_passing(const char *name)
{
    char path[PATH_MAX + NAME_SIZE + 1];
    int64_t count = 0;
    int fd;

    if (passed[0] == '\0')
        return 0;
    (void)snprintf(path, sizeof(path), "%s/%s", passed, name);
    if ((fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644)) < 0)
        return 0;
    if (write(fd, ".", 1) == 1)
        count = lseek(fd, 0, SEEK_CUR);
    (void)close(fd);
    return count;
}

static bool
applies(const struct rule *rule, const char *name, int64_t count)
{
    if (rule->prefix ? !cc_starts_with(name, rule->name) : strcmp(name, rule->name) != 0)
        return false;
    switch (rule->occurrence) {
    case NTH:
        return count == rule->n;
    case FIRST_N:
        return count > 0 && count <= rule->n;
    case EACH:
        break;
    }
    return true;
}

static bool
act(const struct rule *rule)
{
    const struct timespec span = { .tv_sec = rule->delay_ms / 1000,
        .tv_nsec = (long)(rule->delay_ms % 1000) * 1000000 };

    switch (rule->action) {
    case CRASH:
        (void)kill(getpid(), SIGKILL);
        for (;;)
            (void)pause();
    case STOP:
        (void)kill(getpid(), SIGSTOP);
        return false;
    case DELAY:
        (void)nanosleep(&span, NULL);
        return false;
    case ERROR:
        break;
    }
    return true;
}

bool
cc_failpoint(const char *room, const char *step, const char *when)
{
    struct rule rule;
    char name[NAME_SIZE] = "";
    const int saved_errno = errno;
    bool found = false;
    int64_t count;

    (void)pthread_once(&once, find_spec);
    if (spec_path == NULL)
        return false;
    add_part(name, room);
    add_part(name, step);
    add_part(name, when);
    (void)pthread_mutex_lock(&lock);
    refresh();
    count = count_passing(name);
    for (size_t i = 0; i < rule_count && !found; i++)
        if ((found = applies(&rules[i], name, count)))
            rule = rules[i];
    (void)pthread_mutex_unlock(&lock);
    if (found)
        cc_log(CC_LOG_NOTICE, "base", "fail point %s", name);
    found = found && act(&rule);
    errno = saved_errno;
    return found;
}

#endif
