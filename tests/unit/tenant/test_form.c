/* SPDX-License-Identifier: MIT */
#include "tenant/form.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct form_case {
    const char *body, *name;
    const char *want; /* NULL: refused */
    bool want_found;
};

static const struct form_case cases[] = {
    { "a=1&b=2", "a", "1", true },
    { "a=1&b=2", "b", "2", true },
    { "a=1&b=2", "c", "", false },
    { "a=1&a=2", "a", "1", true },
    { "ab=1&b=2", "b", "2", true },
    { "a=&b=2", "a", "", true },
    { "a&b=2", "a", "", false },
    { "", "a", "", false },
    { "&&&a=x&", "a", "x", true },
    { "a=b=c", "a", "b=c", true },
    { "a=1+2%20%2B%7e~", "a", "1 2 +~~", true },
    { "a=%C3%A9%c3%a9", "a", "\xc3\xa9\xc3\xa9", true },
    { "a=%", "a", NULL, true },
    { "a=%4", "a", NULL, true },
    { "a=%4&b=1", "a", NULL, true },
    { "a=%4g", "a", NULL, true },
    { "a=x%00y", "a", NULL, true },
    { "b=%&a=1", "a", "1", true },
    { "a=0123456789abcdef", "a", "0123456789abcdef", true },
    { "a=0123456789abcdefg", "a", NULL, true },
};

static void
fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf value = CC_BUF_INIT(16);
        struct cc_err err = { 0 };
        bool found = false;
        int rc = form_get(cc_bytes_of_str(cases[i].body), cases[i].name, &value, &found, &err);

        if ((rc == 0) != (cases[i].want != NULL))
            fail_msg("%s: %s", cases[i].body, cc_err_text(&err));
        assert_int_equal(found, cases[i].want_found);
        if (rc == 0)
            assert_string_equal(cc_buf_str(&value), cases[i].want);
        else
            assert_int_equal(err.domain, CC_DOM_INPUT);
        cc_buf_free(&value);
    }
}

/* The body is no string: what lies behind it does not belong to it. */
static void
body_ends_where_it_ends(void **state)
{
    static const char text[] = "a=12345";
    struct cc_buf value = CC_BUF_INIT(16);
    bool found;

    (void)state;
    assert_int_equal(
            form_get((struct cc_bytes){ (const uint8_t *)text, 4 }, "a", &value, &found, NULL), 0);
    assert_string_equal(cc_buf_str(&value), "12");
    cc_buf_reset(&value);
    assert_int_equal(
            form_get((struct cc_bytes){ (const uint8_t *)text, 1 }, "a", &value, &found, NULL), 0);
    assert_false(found);
    cc_buf_free(&value);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields),
        cmocka_unit_test(body_ends_where_it_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
