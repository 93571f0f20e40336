/* SPDX-License-Identifier: MIT */
#include "tenant/releases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

static void
versions_compare(void **state)
{
    static const char *const rising[] = { "0.9", "1.0.0-alpha", "1.0.0-rc1", "1.0.0", "1.0.1",
        "1.0.10", "1.2", "1.10", "2", "6.2406.0.1001", "6.2406.0.2002", "10.0" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(rising); i++)
        for (size_t j = 0; j < CC_COUNT(rising); j++)
            assert_int_equal((release_compare(rising[i], rising[j]) > 0) -
                                     (release_compare(rising[i], rising[j]) < 0),
                    (i > j) - (i < j));
    assert_int_equal(release_compare("1.0", "1.0.0"), 0);
    assert_true(release_compare("", "0.1") < 0);
    assert_true(release_compare("tea", "0.1") < 0);
    assert_true(release_compare("99999999999999999999999", "1") > 0);
}

static void
versions_are_known(void **state)
{
    static const struct {
        const char *text;
        bool want;
    } cases[] = { { "1", true }, { "1.2.3", true }, { "6.2406.0.1001", true }, { "1.0-rc.1", true },
        { "", false }, { ".1", false }, { "1.", false }, { "1..2", false }, { "v1", false },
        { "1.0 ", false }, { "1.0x", false }, { "1.0-<b>", false }, { "1.-x", false },
        { "1.0-rc1+build", true } };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        if (release_is_version(cases[i].text) != cases[i].want)
            fail_msg("\"%s\"", cases[i].text);
}

static void
months_are_added(void **state)
{
    static const struct {
        const char *from, *want;
    } cases[] = { { "2026-01-15T10:20:30.123Z", "2026-07-15T10:20:30.123Z" },
        { "2026-08-31T00:00:00.000Z", "2027-02-28T00:00:00.000Z" },
        { "2027-08-31T23:59:59.999Z", "2028-02-29T23:59:59.999Z" },
        { "2026-03-31T12:00:00.000Z", "2026-09-30T12:00:00.000Z" },
        { "2026-07-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z" },
        { "2026-12-31T00:00:00.000Z", "2027-06-30T00:00:00.000Z" } };
    char text[CC_TIME_LEN];
    int64_t from_ms;

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        assert_int_equal(cc_time_parse(cases[i].from, &from_ms, NULL), 0);
        cc_time_format(release_add_months(from_ms, 6), text);
        assert_string_equal(text, cases[i].want);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_compare),
        cmocka_unit_test(versions_are_known),
        cmocka_unit_test(months_are_added),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
