/* SPDX-License-Identifier: MIT */
#include "upkeep/finding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* A command is for a shell: what a path has in it stays one word. */
static void
test_command(void **state)
{
    struct upkeep_finding f = { .severity = UPKEEP_ERROR };

    (void)state;
    UPKEEP_COMMAND(&f, "chmod", "g-w,o=", "/etc/pin");
    assert_string_equal(f.command, "chmod g-w,o= /etc/pin");
    UPKEEP_COMMAND(&f, "chown", "root", "/a b/$(c);'d'", "");
    assert_string_equal(f.command,
            "chmod g-w,o= /etc/pin && chown root '/a b/$(c);'\\''d'\\''' ''");
}

/* A part of a command is none. */
static void
test_long_command(void **state)
{
    struct upkeep_finding f = { .severity = UPKEEP_ERROR };
    char path[sizeof(f.command)];

    (void)state;
    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    UPKEEP_COMMAND(&f, "rm", path);
    assert_string_equal(f.command, "");
}

static void
test_texts(void **state)
{
    struct upkeep_finding f = { .severity = UPKEEP_OK };
    char text[2 * sizeof(f.what)];

    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    upkeep_what(&f, "%s", text);
    assert_int_equal(strlen(f.what), sizeof(f.what) - 1);
    assert_string_equal(upkeep_severity_name(UPKEEP_OK), "ok");
    assert_string_equal(upkeep_severity_name(UPKEEP_WARNING), "warning");
    assert_string_equal(upkeep_severity_name(UPKEEP_ERROR), "error");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command),
        cmocka_unit_test(test_long_command),
        cmocka_unit_test(test_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
