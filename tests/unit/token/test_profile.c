/* SPDX-License-Identifier: MIT */
#include "hsm/profiles/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
profiles_are_found_by_name_and_module(void **state)
{
    static const struct {
        const char *module;
        const struct profile *want;
    } cases[] = {
        { "/usr/lib/softhsm/libsofthsm2.so", &profile_softhsm },
        { "libsofthsm2.so", &profile_softhsm },
        { "/usr/lib/x86_64-linux-gnu/libsoftokn3.so", &profile_nss_softokn },
        { "/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so", &profile_p11_kit_client },
        { "/opt/vendor/libcryptoki.so", &profile_generic },
        { "/opt/libsofthsm2.so/other.so", &profile_generic },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_ptr_equal(profile_by_module(cases[i].module), cases[i].want);
    assert_ptr_equal(profile_by_name("softhsm"), &profile_softhsm);
    assert_ptr_equal(profile_by_name("generic"), &profile_generic);
    assert_null(profile_by_name("auto"));
    assert_null(profile_by_name("SoftHSM"));
}

static void
a_token_says_what_it_is(void **state)
{
    CK_INFO library;
    CK_TOKEN_INFO token;

    (void)state;
    memset(&library, ' ', sizeof(library));
    memset(&token, ' ', sizeof(token));
    assert_ptr_equal(profile_by_info(&library, &token, &profile_generic), &profile_generic);
    memcpy(library.manufacturerID, "SoftHSM", 7);
    assert_ptr_equal(profile_by_info(&library, &token, &profile_generic), &profile_generic);
    memcpy(token.manufacturerID, "SoftHSM project", 15);
    assert_ptr_equal(profile_by_info(&library, &token, &profile_generic), &profile_softhsm);
}

static void
gaps_end_with_a_version(void **state)
{
    static const struct profile open_end = { .name = "x", .gaps = PROFILE_GAP_WRAP };
    static const struct {
        CK_VERSION library;
        bool want;
    } cases[] = {
        { { 1, 9 }, true },
        { { 2, 5 }, true },
        { { 2, 6 }, true },
        { { 2, 7 }, false },
        { { 3, 0 }, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(profile_has_gap(&profile_softhsm, cases[i].library, PROFILE_GAP_OAEP_SHA2),
                cases[i].want);
    assert_false(profile_has_gap(&profile_softhsm, cases[0].library, PROFILE_GAP_WRAP));
    assert_true(profile_has_gap(&open_end, cases[4].library, PROFILE_GAP_WRAP));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(profiles_are_found_by_name_and_module),
        cmocka_unit_test(a_token_says_what_it_is),
        cmocka_unit_test(gaps_end_with_a_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
