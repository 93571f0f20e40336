/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

static void
spawn_close_all(int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
        fds[i] = -1;
    }
}

/* Far ends lie above all descriptors that the new process gets, so that none is overwritten before it was copied. */
static int
spawn_pair(int *ret_near, int *ret_far, struct cc_err *err)
{
    int pair[2];
    int far;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        cc_err_set_errno(err, errno, "socketpair");
        return -1;
    }
    far = fcntl(pair[1], F_DUPFD_CLOEXEC, WIRE_FIRST_FD + WIRE_CHANNELS_MAX);
    (void)close(pair[1]);
    if (far < 0) {
        cc_err_set_errno(err, errno, "a descriptor for the token process");
        (void)close(pair[0]);
        return -1;
    }
    *ret_near = pair[0];
    *ret_far = far;
    return 0;
}

/* Standard input is nothing; what a module prints goes where errors go, never into output of ours. */
static int
spawn_descriptors(posix_spawn_file_actions_t *actions, const int *far, unsigned channels)
{
    int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(actions, STDERR_FILENO, STDOUT_FILENO);
    for (unsigned i = 0; rc == 0 && i < channels; i++)
        rc = posix_spawn_file_actions_adddup2(actions, far[i], WIRE_FIRST_FD + (int)i);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(actions, WIRE_FIRST_FD + (int)channels);
    return rc;
}

static int
spawn_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    int rc;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    rc = posix_spawnattr_setsigmask(attr, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(attr, &all);
    if (rc == 0)
        rc = posix_spawnattr_setpgroup(attr, 0);
    if (rc == 0)
        rc = posix_spawnattr_setflags(attr,
                POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    return rc;
}

static int
spawn_exec(const char *helper, const int *far, unsigned channels, pid_t *ret_pid)
{
    char path[4096], option[] = "--channels", number[12];
    char *argv[] = { path, option, number, NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc;

    (void)snprintf(path, sizeof(path), "%s", helper);
    (void)snprintf(number, sizeof(number), "%u", channels);
    if ((rc = posix_spawn_file_actions_init(&actions)) != 0)
        return rc;
    if ((rc = posix_spawnattr_init(&attr)) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return rc;
    }
    if ((rc = spawn_descriptors(&actions, far, channels)) == 0 &&
            (rc = spawn_attributes(&attr)) == 0)
        rc = posix_spawn(ret_pid, helper, &actions, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

int
hsm_process_start(const char *helper, unsigned channels, int *ret_fds,
        struct hsm_process *ret_process, struct cc_err *err)
{
    int near[WIRE_CHANNELS_MAX], far[WIRE_CHANNELS_MAX];
    struct hsm_process process = { .pid = 0, .pidfd = -1 };
    unsigned count = 0;
    int rc = -1, errnum;

    if (channels == 0 || channels > WIRE_CHANNELS_MAX)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "%u channels", channels);
    for (; count < channels; count++)
        if (spawn_pair(&near[count], &far[count], err) != 0)
            goto out;
    if ((errnum = spawn_exec(helper, far, channels, &process.pid)) != 0) {
        process.pid = 0;
        cc_err_set_errno(err, errnum, "start %s", helper);
        goto out;
    }
    if ((process.pidfd = pidfd_open(process.pid, 0)) < 0) {
        cc_err_set_errno(err, errno, "watch the token process");
        goto out;
    }

    for (unsigned i = 0; i < channels; i++) {
        ret_fds[i] = near[i];
        near[i] = -1;
    }
    *ret_process = process;
    process.pid = 0;
    rc = 0;
out:
    (void)hsm_process_end(&process, 0);
    spawn_close_all(near, count);
    spawn_close_all(far, count);
    return rc;
}

static bool
spawn_ended_within(const struct hsm_process *process, int64_t ms)
{
    struct pollfd p = { .fd = process->pidfd, .events = POLLIN };
    const int64_t deadline = cc_deadline_in(ms);
    int n;

    do {
        n = poll(&p, 1, cc_deadline_left(deadline));
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

/* Only this function collects the process, so that its number cannot have been given to another before. */
int
hsm_process_end(struct hsm_process *process, int64_t grace_ms)
{
    int status = 0;

    if (process->pid == 0)
        return 0;
    if (grace_ms > 0 && process->pidfd >= 0 && !spawn_ended_within(process, 0)) {
        (void)kill(process->pid, SIGTERM);
        (void)spawn_ended_within(process, grace_ms);
    }
    if (process->pidfd < 0 || !spawn_ended_within(process, 0))
        (void)kill(process->pid, SIGKILL);
    while (waitpid(process->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (process->pidfd >= 0)
        (void)close(process->pidfd);
    process->pid = 0;
    process->pidfd = -1;
    return status;
}
