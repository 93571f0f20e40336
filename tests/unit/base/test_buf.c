/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void
empty_is_a_string(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(4);

    (void)state;
    assert_string_equal(cc_buf_str(&buf), "");
    assert_int_equal(cc_buf_bytes(&buf).len, 0);
    assert_int_equal(cc_buf_add(&buf, NULL, 0, NULL), 0);
    assert_string_equal(cc_buf_str(&buf), "");
    cc_buf_free(&buf);
    cc_buf_free(NULL);
    cc_buf_wipe(NULL);
}

static void
grows_to_its_ceiling_and_no_further(void **state)
{
    struct cc_buf buf;
    struct cc_err err = { 0 };
    int i;

    (void)state;
    cc_buf_init(&buf, 1000);
    for (i = 0; i < 1000; i++)
        assert_int_equal(cc_buf_add_u8(&buf, (uint8_t)i, &err), 0);
    assert_int_equal(buf.len, 1000);
    assert_true(buf.cap <= 1000);
    for (i = 0; i < 1000; i++)
        assert_int_equal(buf.data[i], (uint8_t)i);
    assert_int_equal(buf.data[1000], 0);

    assert_int_equal(cc_buf_add_u8(&buf, 1, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_int_equal(err.code, 1000);
    assert_int_equal(buf.len, 1000);
    assert_int_equal(cc_buf_add(&buf, "", 0, NULL), 0);

    cc_buf_free(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.max, 1000);
    assert_int_equal(cc_buf_add_str(&buf, "again", NULL), 0);
    assert_string_equal(cc_buf_str(&buf), "again");
    cc_buf_wipe(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.max, 1000);
}

static void
huge_lengths_do_not_wrap(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(SIZE_MAX);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(cc_buf_add_str(&buf, "abc", NULL), 0);
    assert_null(cc_buf_reserve(&buf, SIZE_MAX, &err));
    assert_int_equal(err.domain, CC_DOM_INPUT);
    cc_err_clear(&err);
    assert_null(cc_buf_reserve(&buf, SIZE_MAX - 3, &err));
    assert_int_equal(err.domain, CC_DOM_INTERNAL);
    assert_string_equal(cc_buf_str(&buf), "abc");
    cc_buf_free(&buf);
}

static void
printf_appends_all_or_nothing(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(10);

    (void)state;
    assert_int_equal(cc_buf_printf(&buf, NULL, "%s-%d", "ab", 12), 0);
    assert_string_equal(cc_buf_str(&buf), "ab-12");
    assert_int_equal(cc_buf_printf(&buf, NULL, "%06d", 1), -1);
    assert_string_equal(cc_buf_str(&buf), "ab-12");
    assert_int_equal(cc_buf_printf(&buf, NULL, "%05d", 1), 0);
    assert_string_equal(cc_buf_str(&buf), "ab-1200001");
    assert_int_equal(cc_buf_printf(&buf, NULL, "%s", ""), 0);
    cc_buf_free(&buf);
}

static void
reserved_room_may_be_used_in_part(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(100);
    uint8_t *place;

    (void)state;
    assert_int_equal(cc_buf_add_str(&buf, "0123456789012345678901234567890123456789", NULL), 0);
    cc_buf_reset(&buf);
    assert_string_equal(cc_buf_str(&buf), "");
    place = cc_buf_reserve(&buf, 20, NULL);
    assert_non_null(place);
    memcpy(place, "abc", 3);
    buf.len += 3;
    assert_int_equal(buf.data[buf.len], 0);
    assert_string_equal(cc_buf_str(&buf), "abc");

    /* Written beyond what was then counted. */
    place = cc_buf_reserve(&buf, 20, NULL);
    assert_non_null(place);
    memset(place, 'x', 20);
    buf.len += 1;
    assert_string_equal(cc_buf_str(&buf), "abcx");
    cc_buf_free(&buf);
}

static void
views_borrow(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(8);
    struct cc_bytes view = cc_bytes_of_str("four");

    (void)state;
    assert_int_equal(view.len, 4);
    assert_int_equal(cc_buf_add(&buf, view.data, view.len, NULL), 0);
    view = cc_buf_bytes(&buf);
    assert_ptr_equal(view.data, buf.data);
    assert_int_equal(view.len, 4);
    cc_buf_free(&buf);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_is_a_string),
        cmocka_unit_test(grows_to_its_ceiling_and_no_further),
        cmocka_unit_test(huge_lengths_do_not_wrap),
        cmocka_unit_test(printf_appends_all_or_nothing),
        cmocka_unit_test(reserved_room_may_be_used_in_part),
        cmocka_unit_test(views_borrow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
