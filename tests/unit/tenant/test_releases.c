/* SPDX-License-Identifier: MIT */
#include "tenant/releases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

static void
versions_compare(void **state)
{
    static const char *const rising[] = { "0.9", "1.0.0-alpha", "1.0.0-rc", "1.0.0-rc1",
        "1.0.0-rc1b", "1.0.0-rc9", "1.0.0-rc10", "1.0.0-rc10.9", "1.0.0-rc10.10", "1.0.0", "1.0.1",
        "1.0.10", "1.2", "1.10", "2", "6.2406.0.1001", "6.2406.0.2002", "10.0" };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(rising); i++)
        for (size_t j = 0; j < CC_COUNT(rising); j++)
            assert_int_equal((release_compare(rising[i], rising[j]) > 0) -
                                     (release_compare(rising[i], rising[j]) < 0),
                    (i > j) - (i < j));
    assert_int_equal(release_compare("1.0", "1.0.0"), 0);
    assert_int_equal(release_compare("1.0-rc1", "1.0.0-rc01"), 0);
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

static void
expect(struct releases *releases, const char *want)
{
    struct cc_buf text = CC_BUF_INIT(1000);
    struct release *list;
    size_t count;

    assert_int_equal(releases_list(releases, &list, &count, NULL), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(
                cc_buf_printf(&text, NULL, "%s@%d ", list[i].version, (int)list[i].release_ms), 0);
    assert_string_equal(cc_buf_str(&text), want);
    free(list);
    cc_buf_free(&text);
}

/* Two texts of one height are two releases, each of which has one date. */
static void
a_text_is_one_release(void **state)
{
    struct tenant_store *store = NULL;
    struct releases *releases = NULL;
    bool found;

    (void)state;
    assert_int_equal(tenant_store_open("sqlite::memory:", &store, NULL), 0);
    assert_int_equal(releases_open(store, &releases, NULL), 0);
    assert_int_equal(releases_put(releases, "1.2.0", 1, NULL), 0);
    assert_int_equal(releases_put(releases, "1.2", 2, NULL), 0);
    assert_int_equal(releases_put(releases, "1.2.0", 3, NULL), 0);
    expect(releases, "1.2@2 1.2.0@3 ");
    assert_int_equal(releases_put(releases, "1.2", 4, NULL), 0);
    expect(releases, "1.2@4 1.2.0@3 ");
    assert_int_equal(releases_remove(releases, "1.2", &found, NULL), 0);
    assert_true(found);
    expect(releases, "1.2.0@3 ");
    releases_close(releases);
    tenant_store_close(store);
}

/* Also when there are as many as there may be. */
static void
dates_change(void **state)
{
    struct tenant_store *store = NULL;
    struct releases *releases = NULL;
    struct release *list;
    size_t count;
    char version[32];

    (void)state;
    assert_int_equal(tenant_store_open("sqlite::memory:", &store, NULL), 0);
    assert_int_equal(releases_open(store, &releases, NULL), 0);
    for (int i = 0; i < RELEASES_MAX; i++) {
        (void)snprintf(version, sizeof(version), "1.%d", i);
        assert_int_equal(releases_put(releases, version, i, NULL), 0);
    }
    assert_int_equal(releases_put(releases, "2.0", 1, NULL), -1);
    assert_int_equal(releases_put(releases, "1.7", 7777, NULL), 0);
    assert_int_equal(releases_list(releases, &list, &count, NULL), 0);
    assert_int_equal(count, RELEASES_MAX);
    assert_string_equal(list[RELEASES_MAX - 8].version, "1.7");
    assert_int_equal(list[RELEASES_MAX - 8].release_ms, 7777);
    free(list);
    releases_close(releases);
    tenant_store_close(store);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_compare),
        cmocka_unit_test(versions_are_known),
        cmocka_unit_test(months_are_added),
        cmocka_unit_test(a_text_is_one_release),
        cmocka_unit_test(dates_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
