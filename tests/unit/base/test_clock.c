/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static int
run_again(void **state)
{
    (void)state;
    cc_clock_real();
    return 0;
}

static void
real_clocks_are_the_systems(void **state)
{
    struct timespec before, after;
    int64_t now, mono;

    (void)state;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &before), 0);
    mono = cc_clock_mono_ms();
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &after), 0);
    assert_true(mono >= (int64_t)before.tv_sec * 1000 + before.tv_nsec / 1000000);
    assert_true(mono <= (int64_t)after.tv_sec * 1000 + after.tv_nsec / 1000000);

    now = cc_clock_now_ms();
    assert_true(now / 1000 >= (int64_t)time(NULL) - 5);
    assert_true(now / 1000 <= (int64_t)time(NULL) + 5);
}

static void
set_clocks_stand_still(void **state)
{
    (void)state;
    cc_clock_set(1000, 77);
    assert_int_equal(cc_clock_now_ms(), 1000);
    assert_int_equal(cc_clock_mono_ms(), 77);
    assert_int_equal(cc_clock_mono_ms(), 77);
    cc_clock_set(2000, 78);
    assert_int_equal(cc_clock_now_ms(), 2000);
    cc_clock_real();
    assert_true(cc_clock_now_ms() > INT64_C(1600000000000));
}

static void
deadlines_saturate(void **state)
{
    (void)state;
    cc_clock_set(0, 1000);
    assert_int_equal(cc_deadline_in(500), 1500);
    assert_int_equal(cc_deadline_in(-500), 500);
    assert_true(cc_deadline_in(INT64_MAX) == INT64_MAX);
    assert_int_equal(cc_deadline_left(1500), 500);
    assert_int_equal(cc_deadline_left(1000), 0);
    assert_int_equal(cc_deadline_left(999), 0);
    assert_int_equal(cc_deadline_left(INT64_MIN), 0);
    assert_int_equal(cc_deadline_left(INT64_MAX), INT_MAX);
    assert_int_equal(cc_deadline_left((int64_t)INT_MAX + 1000), INT_MAX);
    assert_int_equal(cc_deadline_left((int64_t)INT_MAX + 999), INT_MAX - 1);
    cc_clock_set(0, -1000);
    assert_true(cc_deadline_in(INT64_MIN) == INT64_MIN);
    assert_int_equal(cc_deadline_left(INT64_MAX), INT_MAX);
}

static const struct {
    int64_t ms;
    const char *text;
} times[] = {
    { 0, "1970-01-01T00:00:00.000Z" },
    { -1, "1969-12-31T23:59:59.999Z" },
    { INT64_C(1793536496789), "2026-11-01T12:34:56.789Z" },
    { INT64_C(951782400000), "2000-02-29T00:00:00.000Z" },
    { INT64_C(4107542399999), "2100-02-28T23:59:59.999Z" },
    { INT64_C(-2203891200001), "1900-02-28T23:59:59.999Z" },
    { INT64_C(-62167219200000), "0000-01-01T00:00:00.000Z" },
    { INT64_C(-62135596800001), "0000-12-31T23:59:59.999Z" },
    { INT64_C(253402300799999), "9999-12-31T23:59:59.999Z" },
};

static void
time_goes_both_ways(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(times); i++) {
        char text[CC_TIME_LEN];
        int64_t ms = 42;

        cc_time_format(times[i].ms, text);
        assert_string_equal(text, times[i].text);
        assert_int_equal(cc_time_parse(times[i].text, &ms, NULL), 0);
        assert_true(ms == times[i].ms);
    }
}

static void
every_day_goes_both_ways(void **state)
{
    int64_t ms, back;
    char text[CC_TIME_LEN];

    (void)state;
    for (ms = INT64_C(-62167219200000); ms < INT64_C(253402300800000);
            ms += INT64_C(86400000) * 5) {
        cc_time_format(ms, text);
        assert_int_equal(cc_time_parse(text, &back, NULL), 0);
        assert_true(back == ms);
    }
}

static void
far_times_are_clamped(void **state)
{
    char text[CC_TIME_LEN];

    (void)state;
    cc_time_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    cc_time_format(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000Z");
}

static void
rfc3339_forms_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t want;
    } cases[] = {
        { "2026-11-01T12:34:56Z", INT64_C(1793536496000) },
        { "2026-11-01t12:34:56z", INT64_C(1793536496000) },
        { "2026-11-01 12:34:56Z", INT64_C(1793536496000) },
        { "2026-11-01T12:34:56.7Z", INT64_C(1793536496700) },
        { "2026-11-01T12:34:56.78Z", INT64_C(1793536496780) },
        { "2026-11-01T12:34:56.7899999Z", INT64_C(1793536496789) },
        { "2026-11-01T12:34:56.00000000000000000000000000001Z", INT64_C(1793536496000) },
        { "2026-11-01T13:34:56+01:00", INT64_C(1793536496000) },
        { "2026-11-01T07:04:56.5-05:30", INT64_C(1793536496500) },
        { "2026-11-01T12:34:56-00:00", INT64_C(1793536496000) },
        { "2016-12-31T23:59:60Z", INT64_C(1483228800000) },
        { "2017-01-01T00:59:60.25+01:00", INT64_C(1483228800250) },
    };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        int64_t ms = 42;

        if (cc_time_parse(cases[i].text, &ms, &err) != 0)
            fail_msg("%s", err.text);
        assert_true(ms == cases[i].want);
    }
}

static void
other_forms_are_refused(void **state)
{
    static const char *const cases[] = { "", "2026-11-01", "2026-11-01T12:34:56",
        "2026-11-01T12:34Z", "2026-11-01T12:34:56.Z", "2026-11-01T12:34:56,5Z",
        "2026-11-01T24:00:00Z", "2026-11-01T12:60:00Z", "2026-11-01T12:34:60Z",
        "2026-11-01T12:34:61Z", "2026-13-01T12:34:56Z", "2026-00-01T12:34:56Z",
        "2026-11-00T12:34:56Z", "2026-11-31T12:34:56Z", "2026-02-29T12:34:56Z",
        "2100-02-29T12:34:56Z", "2026-11-01T12:34:56Z ", " 2026-11-01T12:34:56Z",
        "2026-11-01T12:34:56+0100", "2026-11-01T12:34:56+01", "2026-11-01T12:34:56+24:00",
        "2026-11-01T12:34:56+01:60", "2026-11-01T12:34:56 +01:00", "26-11-01T12:34:56Z",
        "+2026-11-01T12:34:56Z", "2026-1-01T12:34:56Z", "2026-11-01X12:34:56Z",
        "2026-11-01T-2:34:56Z" };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        int64_t ms = 42;

        if (cc_time_parse(cases[i], &ms, &err) == 0)
            fail_msg("\"%s\" was read", cases[i]);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_int_equal(ms, 42);
    }
}

static void
backoff_stays_in_its_span(void **state)
{
    static const struct {
        unsigned attempt;
        int64_t base, cap, want_max;
    } cases[] = { { 0, 100, 10000, 100 }, { 1, 100, 10000, 200 }, { 3, 100, 10000, 800 },
        { 7, 100, 10000, 10000 }, { UINT_MAX, 100, 10000, 10000 }, { 5, 100, 50, 50 },
        { 200, 3, INT64_MAX, INT64_MAX }, { 0, 0, 0, 1 }, { 4, -5, -7, 1 } };
    size_t i;
    int round;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++)
        for (round = 0; round < 200; round++) {
            int64_t ms = cc_backoff_ms(cases[i].attempt, cases[i].base, cases[i].cap);

            assert_true(ms >= 1 && ms <= cases[i].want_max);
        }
}

/* 400 draws of 1 to 1000 leave a quarter of the span empty with a chance of 1e-50. */
static void
backoff_uses_its_whole_span(void **state)
{
    bool quarter[4] = { false };
    int round;

    (void)state;
    for (round = 0; round < 400; round++)
        quarter[(cc_backoff_ms(0, 1000, 5000) - 1) / 250] = true;
    assert_true(quarter[0] && quarter[1] && quarter[2] && quarter[3]);
}

/* Never before what was asked for, and not all at the same time. */
static void
lateness_stays_in_its_span(void **state)
{
    static const struct {
        int64_t asked, spread, want_max;
    } cases[] = { { 60000, 500, 60000 }, { 100, 500, 500 }, { 0, 0, 1 }, { -5, -7, 1 } };
    size_t i;
    int round;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++)
        for (round = 0; round < 200; round++) {
            int64_t ms = cc_lateness_ms(cases[i].asked, cases[i].spread);

            assert_true(ms >= 1 && ms <= cases[i].want_max);
        }
    assert_int_equal(cc_lateness_of(0, 60000, 500), 1);
    assert_int_equal(cc_lateness_of(59999, 60000, 500), 60000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_clocks_are_the_systems),
        cmocka_unit_test_teardown(set_clocks_stand_still, run_again),
        cmocka_unit_test_teardown(deadlines_saturate, run_again),
        cmocka_unit_test(time_goes_both_ways),
        cmocka_unit_test(every_day_goes_both_ways),
        cmocka_unit_test(far_times_are_clamped),
        cmocka_unit_test(rfc3339_forms_are_read),
        cmocka_unit_test(other_forms_are_refused),
        cmocka_unit_test(backoff_stays_in_its_span),
        cmocka_unit_test(backoff_uses_its_whole_span),
        cmocka_unit_test(lateness_stays_in_its_span),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
