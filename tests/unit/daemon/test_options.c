/* SPDX-License-Identifier: MIT */
/* The daemon's command line. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/daemon_int.h"

#define ARGS_MAX 8

struct options_case {
    const char *name;
    const char *argv[ARGS_MAX];
    int want_rc;
    int want_status; /* when want_rc is -1 */
    const char *want_config;
    size_t want_overrides;
    bool want_check;
};

static const struct options_case cases[] = {
    { "nothing", { "certconnectord" }, 0, 0, CONFIG_DEFAULT_PATH, 0, false },
    { "a file", { "certconnectord", "--config", "a.conf" }, 0, 0, "a.conf", 0, false },
    { "a file, joined", { "certconnectord", "--config=a.conf" }, 0, 0, "a.conf", 0, false },
    { "overrides", { "certconnectord", "--set", "log.debug=all", "--set", "token.sessions=2" }, 0,
            0, CONFIG_DEFAULT_PATH, 2, false },
    { "only a check", { "certconnectord", "--check-config" }, 0, 0, CONFIG_DEFAULT_PATH, 0, true },
    { "help", { "certconnectord", "--help" }, -1, 0, NULL, 0, false },
    { "version", { "certconnectord", "--version" }, -1, 0, NULL, 0, false },
    { "unknown option", { "certconnectord", "--confg", "a.conf" }, -1, 2, NULL, 0, false },
    { "option without value", { "certconnectord", "--config" }, -1, 2, NULL, 0, false },
    { "an argument", { "certconnectord", "a.conf" }, -1, 2, NULL, 0, false },
};

static int
count_args(const char *const *argv)
{
    int count = 0;

    while (count < ARGS_MAX && argv[count] != NULL)
        count++;
    return count;
}

static void
test_options(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        const struct options_case *c = &cases[i];
        char *argv[ARGS_MAX + 1] = { NULL };
        struct options options;
        int status = -1;

        print_message("  %s\n", c->name);
        memcpy(argv, c->argv, sizeof(c->argv));
        assert_int_equal(options_parse(count_args(c->argv), argv, &options, &status), c->want_rc);
        if (c->want_rc != 0) {
            assert_int_equal(status, c->want_status);
        } else {
            assert_string_equal(options.config_path, c->want_config);
            assert_int_equal(options.override_count, c->want_overrides);
            assert_int_equal(options.check_only, c->want_check);
        }
        options_free(&options);
    }
}

static void
test_overrides_keep_their_order(void **state)
{
    char *argv[] = { (char[]){ "certconnectord" }, (char[]){ "--set" }, (char[]){ "a.b=1" },
        (char[]){ "--set" }, (char[]){ "a.b=2" }, NULL };
    struct options options;
    int status;

    (void)state;
    assert_int_equal(options_parse(5, argv, &options, &status), 0);
    assert_string_equal(options.overrides[0], "a.b=1");
    assert_string_equal(options.overrides[1], "a.b=2");
    options_free(&options);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_overrides_keep_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
