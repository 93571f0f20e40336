/* SPDX-License-Identifier: MIT */
#include "eventlog/catalogue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
test_order(void **state)
{
    size_t count;
    const struct event_type *types = event_types(&count);

    (void)state;
    assert_true(count > 80);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(event_type_get((int)types[i].id), &types[i]);
        assert_ptr_equal(event_type_find(types[i].name), &types[i]);
        if (i > 0)
            assert_true(types[i - 1].id < types[i].id);
    }
    assert_null(event_type_get(0));
    assert_null(event_type_get(999));
    assert_null(event_type_get(-1));
    assert_null(event_type_get(100000));
}

static void
test_entries(void **state)
{
    static const struct {
        int id;
        const char *want_name;
        const char *want_channel;
        const char *want_category;
        const char *want_level;
    } table[] = {
        { 23, "TokenPinRefused", "Admin", "General", "Error" },
        { 1001, "PkcsRequestFailure", "Admin", "PKCS", "Error" },
        { 2000, "PkcsImportRequestSuccess", "Admin", "PKCS Import", "Information" },
        { 2051, "PkcsImportReencryptFailedAttempt", "Operational", "PKCS Import", "Warning" },
        { 3032, "RevokeDigicertRequest", "Operational", "Revocation", "Information" },
        { 4000, "ScrepRequestSuccess", "Admin", "SCEP", "Information" },
        { 5002, "HealthMessageUploadFailure", "Operational", "Health", "Error" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        const struct event_type *type = event_type_get(table[i].id);

        assert_non_null(type);
        assert_string_equal(type->name, table[i].want_name);
        assert_string_equal(event_channel_name(type->channel), table[i].want_channel);
        assert_string_equal(event_category_name(type->category), table[i].want_category);
        assert_string_equal(event_level_name(type->level), table[i].want_level);
    }
}

static void
test_names(void **state)
{
    (void)state;
    assert_int_equal(event_type_find("ScepRequestSuccess")->id, 4000);
    assert_int_equal(event_type_find("screprequestsuccess")->id, 4000);
    assert_null(event_type_find("ScepRequest"));
    assert_int_equal(event_channel_parse("admin"), EVENT_CHANNEL_ADMIN);
    assert_int_equal(event_channel_parse("OPERATIONAL"), EVENT_CHANNEL_OPERATIONAL);
    assert_int_equal(event_channel_parse("both"), -1);
    assert_int_equal(event_category_parse("pkcs import"), EVENT_CATEGORY_PKCS_IMPORT);
    assert_int_equal(event_category_parse("SCEP"), EVENT_CATEGORY_SCEP);
    assert_int_equal(event_category_parse("scep "), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
