/* SPDX-License-Identifier: MIT */
#include "hsm/token/fork.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* How a process ends that forbids fork() and then calls it. */
static int
end_of_forker(void)
{
    const struct rlimit no_core = { 0, 0 };
    const pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL);
        fork_forbid();
        if (fork() == 0)
            _exit(0);
        _exit(42);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void
fork_is_refused_in_builds_with_assertions(void **state)
{
    const int status = end_of_forker();

    (void)state;
#ifdef NDEBUG
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
#else
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
#endif
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fork_is_refused_in_builds_with_assertions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
