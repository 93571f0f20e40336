/* SPDX-License-Identifier: MIT */
#include "base/failpoint.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/compiler.h"

#ifdef CC_FAILPOINTS

static char folder[64], spec[80];
static char passed[96]; /* of the specification in force */

static int
make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/test_failpoint.XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(spec, sizeof(spec), "%s/spec", folder);
    return setenv("CERTCONNECTOR_FAILPOINTS_FILE", spec, 1);
}

static int
drop_folder(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command) == 0 ? 0 : -1;
}

/* What is passed then is counted from 1. */
static void
write_spec(const char *rules)
{
    static unsigned number;
    char beside[96];
    FILE *file;

    (void)snprintf(passed, sizeof(passed), "%s/%u", folder, ++number);
    assert_int_equal(mkdir(passed, 0700), 0);
    (void)snprintf(beside, sizeof(beside), "%s.new", spec);
    assert_non_null(file = fopen(beside, "w"));
    assert_true(fprintf(file, "# a comment\n\n passed = %s\n%s\n", passed, rules) > 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(beside, spec), 0);
}

static int64_t
times_passed(const char *name)
{
    char path[192];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/%s", passed, name);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

static bool
pass(void)
{
    return CC_FAILPOINT("room", "a_step", "before");
}

/* How a child that passes the point ends, or stops. */
static int
pass_in_child(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        (void)pass();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    if (WIFSTOPPED(status)) {
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    return status;
}

static void
without_rules_it_is_counted(void **state)
{
    (void)state;
    assert_false(pass());
    write_spec("");
    assert_int_equal(times_passed("room.a-step.before"), 0);
    assert_false(pass());
    assert_false(pass());
    assert_int_equal(times_passed("room.a-step.before"), 2);
}

static void
names_are_made_plain(void **state)
{
    static const struct {
        const char *step;
        const char *want;
    } cases[] = {
        { "journal_finish", "room.journal-finish.after" },
        { "PkcsRequests/renewLeases", "room.pkcs-requests-renew-leases.after" },
        { "key2New", "room.key2-new.after" },
        { "", "room..after" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        write_spec("");
        assert_false(CC_FAILPOINT("room", cases[i].step, "after"));
        assert_int_equal(times_passed(cases[i].want), 1);
    }
}

/* Its name is cut, and nothing else. */
static void
a_long_name_does_no_harm(void **state)
{
    char step[300];

    (void)state;
    write_spec("");
    for (size_t len = 1; len < sizeof(step); len++) {
        memset(step, len % 2 == 0 ? 'a' : 'B', len);
        step[len] = '\0';
        assert_false(CC_FAILPOINT("room", step, "before"));
    }
}

static void
errors_as_often_as_asked_for(void **state)
{
    static const struct {
        const char *rules;
        const char *want; /* of five passings, those that fail */
    } cases[] = {
        { "room.a-step.before=error", "xxxxx" },
        { "room.a-step.before = error@3", "..x.." },
        { "room.a-step.before=error*2", "xx..." },
        { "room.*=error@2\nroom.a-step.before=error@4", ".x.x." },
        { "room.a-step.before=delay:1@2\nroom.a-*=error", "x.xxx" },
        { "room.a-step.after=error\nother.*=error", "....." },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        char got[6] = "";

        write_spec(cases[i].rules);
        for (size_t n = 0; n < 5; n++)
            got[n] = pass() ? 'x' : '.';
        assert_string_equal(got, cases[i].want);
    }
}

static void
a_delay_waits(void **state)
{
    int64_t began;

    (void)state;
    write_spec("room.a-step.before=delay:60");
    began = cc_clock_mono_ms();
    assert_false(pass());
    assert_true(cc_clock_mono_ms() - began >= 59);
}

/* The count goes on from process to process: the one that is started anew gets through. */
static void
a_crash_is_a_kill(void **state)
{
    int status;

    (void)state;
    write_spec("room.a-step.before=crash@2");
    assert_int_equal(pass_in_child(), 0);
    status = pass_in_child();
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(pass_in_child(), 0);
    assert_int_equal(times_passed("room.a-step.before"), 3);
}

static void
a_stop_is_a_stop(void **state)
{
    int status;

    (void)state;
    write_spec("room.a-step.before=stop");
    status = pass_in_child();
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
}

static void
nonsense_ends_the_program(void **state)
{
    static const char *const nonsense[] = { "room.a-step.before",
        "room.a-step.before=", "room.a-step.before=explode", "room.a-step.before=crash@",
        "room.a-step.before=crash@0", "room.a-step.before=delay", "room.a-step.before=delay:-1",
        "room.a-step.before=error*x" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(nonsense); i++) {
        int status;

        write_spec(nonsense[i]);
        status = pass_in_child();
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
    }
}

static void
a_specification_may_go(void **state)
{
    (void)state;
    write_spec("room.a-step.before=error");
    assert_true(pass());
    assert_int_equal(unlink(spec), 0);
    assert_false(pass());
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_rules_it_is_counted),
        cmocka_unit_test(names_are_made_plain),
        cmocka_unit_test(a_long_name_does_no_harm),
        cmocka_unit_test(errors_as_often_as_asked_for),
        cmocka_unit_test(a_delay_waits),
        cmocka_unit_test(a_crash_is_a_kill),
        cmocka_unit_test(a_stop_is_a_stop),
        cmocka_unit_test(nonsense_ends_the_program),
        cmocka_unit_test(a_specification_may_go),
    };

    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}

#else

static const char *
never_called(void)
{
    fail();
    return "";
}

static void
there_is_none(void **state)
{
    (void)state;
    assert_false(CC_FAILPOINT("room", never_called(), "before"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(there_is_none) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
