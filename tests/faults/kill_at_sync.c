/* SPDX-License-Identifier: MIT */

/*
 * Preloaded into certconnectord: ends it as kill -9 would right before or right after a chosen durable step.
 *
 * KILL_AT_SYNC names a file.  Nothing is counted until it is there; then it holds "N before" or "N after", and the Nth
 * fsync or fdatasync from then on is the last thing that the process does.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Atomic long count;

/* The step at which to die; 0: not yet, or never. */
static long
read_cue(bool *ret_after)
{
    /* The environment does not change: NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *path = getenv("KILL_AT_SYNC");
    char text[64] = "";
    ssize_t got;
    int fd;

    if (path == NULL || strcmp(program_invocation_short_name, "certconnectord") != 0)
        return 0;
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return 0;
    got = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    if (got <= 0)
        return 0;
    *ret_after = strstr(text, "after") != NULL;
    return strtol(text, NULL, 10);
}

static int
sync_or_die(int fd, const char *name)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int saved = errno;
    bool after = false;
    long cue = read_cue(&after);
    bool now = cue > 0 && atomic_fetch_add(&count, 1) + 1 == cue;
    int rc;

    errno = saved;
    if (now && !after)
        (void)kill(getpid(), SIGKILL);
    rc = real(fd);
    if (now)
        (void)kill(getpid(), SIGKILL);
    return rc;
}

int
fsync(int fd)
{
    return sync_or_die(fd, "fsync");
}

int
fdatasync(int fd)
{
    return sync_or_die(fd, "fdatasync");
}
