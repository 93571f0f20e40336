/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Runs check in a process of its own, as hardening stays; 0 when every step of it held, else the step. */
static int
in_child(int (*check)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(check());
    assert_true(pid > 0);
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int
check_limits(void)
{
    struct rlimit core;
    int ends[2];

    cc_process_harden();
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0)
        return 1;
    if (umask(0) != 027)
        return 2;
    if (pipe2(ends, O_CLOEXEC) != 0 || close(ends[0]) != 0)
        return 3;
    if (write(ends[1], "x", 1) != -1 || errno != EPIPE) /* and no SIGPIPE ended us */
        return 4;
    return 0;
}

static bool
is_null_device(int fd)
{
    struct stat st, null;

    return fstat(fd, &st) == 0 && stat("/dev/null", &null) == 0 && S_ISCHR(st.st_mode) &&
           st.st_rdev == null.st_rdev;
}

static int
check_descriptors(void)
{
    (void)close(0);
    (void)close(2);
    cc_process_harden();
    if (!is_null_device(0) || !is_null_device(2))
        return 1;
    if ((fcntl(0, F_GETFD) & FD_CLOEXEC) != 0)
        return 2;
    return dup(0) > 2 ? 0 : 3;
}

static void
limits_are_set(void **state)
{
    (void)state;
    assert_int_equal(in_child(check_limits), 0);
}

static void
closed_descriptors_are_opened(void **state)
{
    (void)state;
    assert_int_equal(in_child(check_descriptors), 0);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if !defined(SANITIZED) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static int
check_dumpable(void)
{
    cc_process_harden();
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
}

static void
not_traceable(void **state)
{
    (void)state;
    assert_int_equal(in_child(check_dumpable), 0);
}
#define HAVE_TRACE_TEST 1
#endif

static void
random_fills_exactly(void **state)
{
    uint8_t one[66] = { 0 }, two[66] = { 0 };
    static uint8_t large[3000000];
    size_t i, zeros = 0;

    (void)state;
    assert_int_equal(cc_random(one + 1, 64, NULL), 0);
    assert_int_equal(cc_random(two + 1, 64, NULL), 0);
    assert_int_equal(one[0] | one[65] | two[0] | two[65], 0);
    assert_memory_not_equal(one, two, sizeof(one));
    assert_int_equal(cc_random(NULL, 0, NULL), 0);

    /* One in 256 is zero; a part that was left out would show as many. */
    assert_int_equal(cc_random(large, sizeof(large), NULL), 0);
    for (i = 0; i < sizeof(large); i++)
        zeros += large[i] == 0;
    assert_in_range(zeros, sizeof(large) / 512, sizeof(large) / 128);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_set),
        cmocka_unit_test(closed_descriptors_are_opened),
#ifdef HAVE_TRACE_TEST
        cmocka_unit_test(not_traceable),
#endif
        cmocka_unit_test(random_fills_exactly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
