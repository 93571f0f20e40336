/* SPDX-License-Identifier: MIT */
#include "hsm/token/ckr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
values_have_names(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    assert_string_equal(ckr_name(0), "CKR_OK");
    assert_string_equal(ckr_name(0x30), "CKR_DEVICE_ERROR");
    assert_string_equal(ckr_name(0xF0), "CKR_UNWRAPPING_KEY_HANDLE_INVALID");
    assert_string_equal(ckr_name(0x191), "CKR_CRYPTOKI_ALREADY_INITIALIZED");
    assert_string_equal(ckr_name(0x80000001), "CKR_0x80000001");
    assert_int_equal(ckr_err(&err, 0xA4, "C_Login"), -1);
    assert_int_equal(err.domain, CC_DOM_PKCS11);
    assert_int_equal(err.code, 0xA4);
    assert_string_equal(err.text, "C_Login: CKR_PIN_LOCKED");
}

static void
values_say_what_to_do(void **state)
{
    static const struct {
        CK_RV rv;
        enum ckr_class want, want_open;
    } cases[] = {
        { CKR_OBJECT_HANDLE_INVALID, CKR_IS_KEY, CKR_IS_DEVICE },
        { CKR_KEY_HANDLE_INVALID, CKR_IS_KEY, CKR_IS_DEVICE },
        { CKR_SESSION_HANDLE_INVALID, CKR_IS_LOGIN, CKR_IS_LOGIN },
        { CKR_SESSION_CLOSED, CKR_IS_LOGIN, CKR_IS_LOGIN },
        { CKR_USER_NOT_LOGGED_IN, CKR_IS_LOGIN, CKR_IS_LOGIN },
        { CKR_OPERATION_ACTIVE, CKR_IS_SESSION, CKR_IS_DEVICE },
        { CKR_DEVICE_ERROR, CKR_IS_DEVICE, CKR_IS_DEVICE },
        { CKR_DEVICE_REMOVED, CKR_IS_DEVICE, CKR_IS_DEVICE },
        { CKR_TOKEN_NOT_PRESENT, CKR_IS_DEVICE, CKR_IS_DEVICE },
        { CKR_TOKEN_NOT_RECOGNIZED, CKR_IS_DEVICE, CKR_IS_DEVICE },
        { CKR_SLOT_ID_INVALID, CKR_IS_DEVICE, CKR_IS_DEVICE },
        { CKR_CRYPTOKI_NOT_INITIALIZED, CKR_IS_DEVICE, CKR_IS_DEVICE },
        { CKR_SESSION_COUNT, CKR_IS_BUSY, CKR_IS_BUSY },
        { CKR_PIN_INCORRECT, CKR_IS_PIN, CKR_IS_DEVICE },
        { CKR_PIN_LOCKED, CKR_IS_PIN, CKR_IS_DEVICE },
        { CKR_PIN_EXPIRED, CKR_IS_PIN, CKR_IS_DEVICE },
        { CKR_PIN_INVALID, CKR_IS_PIN, CKR_IS_DEVICE },
        { CKR_PIN_LEN_RANGE, CKR_IS_PIN, CKR_IS_DEVICE },
        /* What other processes' logins make of ours is no bad PIN. */
        { CKR_USER_PIN_NOT_INITIALIZED, CKR_IS_ANSWER, CKR_IS_DEVICE },
        { CKR_GENERAL_ERROR, CKR_IS_ANSWER, CKR_IS_DEVICE },
        { CKR_ENCRYPTED_DATA_INVALID, CKR_IS_ANSWER, CKR_IS_DEVICE },
        { CKR_MECHANISM_INVALID, CKR_IS_ANSWER, CKR_IS_DEVICE },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        if (ckr_class(cases[i].rv) != cases[i].want ||
                ckr_class_open(cases[i].rv) != cases[i].want_open)
            fail_msg("%s", ckr_name(cases[i].rv));
    }
}

static void
a_bad_ciphertext_is_no_refusal(void **state)
{
    static const CK_RV data[] = { CKR_OK, CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED,
        CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_WRAPPED_KEY_INVALID,
        CKR_WRAPPED_KEY_LEN_RANGE, CKR_DATA_INVALID, CKR_DEVICE_ERROR };
    static const CK_RV refusals[] = { CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID,
        CKR_FUNCTION_NOT_SUPPORTED, CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_TEMPLATE_INCONSISTENT };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(data); i++)
        assert_false(ckr_is_refusal(data[i]));
    for (size_t i = 0; i < CC_COUNT(refusals); i++)
        assert_true(ckr_is_refusal(refusals[i]));
    assert_true(ckr_is_template(CKR_ATTRIBUTE_READ_ONLY));
    assert_false(ckr_is_template(CKR_MECHANISM_INVALID));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_have_names),
        cmocka_unit_test(values_say_what_to_do),
        cmocka_unit_test(a_bad_ciphertext_is_no_refusal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
