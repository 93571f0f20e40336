/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"

/* From the heap without a NUL behind, so that a sanitizer sees who reads too far. */
static json_object *
parse_exact(const char *text, size_t len, struct cc_err *err)
{
    char *exact = malloc(len > 0 ? len : 1);
    json_object *value;

    assert_non_null(exact);
    memcpy(exact, text, len);
    value = cc_json_parse(exact, len, err);
    free(exact);
    return value;
}

static json_object *
parse(const char *text)
{
    struct cc_err err = { 0 };
    json_object *value = parse_exact(text, strlen(text), &err);

    if (value == NULL)
        fail_msg("%s: %s", text, err.text);
    return value;
}

#define S(literal) literal, sizeof(literal) - 1

static void
json_is_read(void **state)
{
    static const char *const cases[] = { "{}", "[]", "{\"a\":[1,2,{\"b\":null}]}", " {} ",
        "\r\n\t[1]\n", "\"text\"", "12", "-1.5e3", "0", "true", "\"\xe2\x82\xac \\u20ac \\\" \\n\"",
        "[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]" };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++)
        json_object_put(parse(cases[i]));
}

static void
what_is_no_json_is_refused(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } cases[] = { { S("") }, { S("  \n") }, { S("null") }, { S("{") }, { S("[1,") }, { S("\"abc") },
        { S("{}x") }, { S("{} {}") }, { S("[1]2") }, { S("12 13") }, { S("{}\0") }, { S("[1\0]") },
        { S("\"a\0b\"") }, { S("{'a':1}") }, { S("{a:1}") }, { S("[1,]") }, { S("{\"a\":1,}") },
        { S("/* */ {}") }, { S("[1 // x\n]") }, { S("TRUE") }, { S("tru") }, { S("[01]") },
        { S("[-]") }, { S("[1.]") }, { S("[+1]") }, { S("[-01]") }, { S("[1e]") }, { S("[1.5e+]") },
        { S("[.5]") }, { S("{\"a\" 1}") }, { S("[1 2]") }, { S("[truefalse]") }, { S("[12true]") },
        { S("\"\\") }, { S("\"\\\"") }, { S("[1\f]") }, { S("-") }, { S("1e") }, { S("\"\xff\"") },
        { S("\"\xc0\x8a\"") }, { S("\"\xc3") }, { S("\"\\x\"") }, { S("\"\\u12\"") },
        { S("[NaN]") }, { S("[Infinity]") }, { S("[-Infinity]") }, { S("\"a\nb\"") },
        { S("\"a\x1b\"") }, { S("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]") }, { S("\xef\xbb\xbf{}") } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        json_object *value = parse_exact(cases[i].text, cases[i].len, &err);

        if (value != NULL)
            fail_msg("case %zu was read: %s", i, cases[i].text);
        assert_int_equal(err.domain, CC_DOM_INPUT);
    }
}

static void
deep_text_is_refused(void **state)
{
    static char text[100000];
    struct cc_err err = { 0 };

    (void)state;
    memset(text, '[', sizeof(text));
    assert_null(parse_exact(text, sizeof(text), &err));
    assert_int_equal(err.domain, CC_DOM_INPUT);
}

static void
strings_are_read(void **state)
{
    json_object *obj = parse("{\"s\":\"four\",\"e\":\"\",\"n\":null,\"i\":7,\"z\":\"a\\u0000b\"}");
    const char *text = "x";
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(cc_json_get_str(obj, "s", 4, &text, NULL), 0);
    assert_string_equal(text, "four");
    assert_int_equal(cc_json_get_str(obj, "e", 4, &text, NULL), 0);
    assert_string_equal(text, "");
    assert_int_equal(cc_json_get_str(obj, "n", 4, &text, NULL), 0);
    assert_null(text);
    text = "x";
    assert_int_equal(cc_json_get_str(obj, "absent", 4, &text, NULL), 0);
    assert_null(text);

    text = "x";
    assert_int_equal(cc_json_get_str(obj, "s", 3, &text, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_non_null(strstr(err.text, "\"s\""));
    cc_err_clear(&err);
    assert_int_equal(cc_json_get_str(obj, "i", 4, &text, &err), -1);
    assert_non_null(strstr(err.text, "\"i\""));
    cc_err_clear(&err);
    assert_int_equal(cc_json_get_str(obj, "z", 10, &text, &err), -1);
    assert_non_null(strstr(err.text, "NUL"));
    assert_string_equal(text, "x");

    assert_int_equal(cc_json_need_str(obj, "s", 4, &text, NULL), 0);
    assert_string_equal(text, "four");
    assert_int_equal(cc_json_need_str(obj, "e", 4, &text, NULL), -1);
    assert_int_equal(cc_json_need_str(obj, "n", 4, &text, NULL), -1);
    cc_err_clear(&err);
    assert_int_equal(cc_json_need_str(obj, "absent", 4, &text, &err), -1);
    assert_non_null(strstr(err.text, "\"absent\""));
    assert_string_equal(text, "four");
    json_object_put(obj);
}

static void
integers_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t min, max;
        int want;
        int64_t want_value;
    } cases[] = { { "{\"n\":7}", 0, 10, 0, 7 }, { "{\"n\":-7}", -7, 10, 0, -7 },
        { "{}", 0, 10, 0, 99 }, { "{\"n\":null}", 0, 10, 0, 99 }, { "{\"n\":11}", 0, 10, -1, 0 },
        { "{\"n\":-1}", 0, 10, -1, 0 }, { "{\"n\":\"7\"}", 0, 10, -1, 0 },
        { "{\"n\":7.0}", 0, 10, -1, 0 }, { "{\"n\":true}", 0, 10, -1, 0 },
        { "{\"n\":9223372036854775807}", 0, INT64_MAX, 0, INT64_MAX },
        { "{\"n\":-9223372036854775808}", INT64_MIN, 0, 0, INT64_MIN },
        { "{\"n\":9223372036854775808}", 0, INT64_MAX, -1, 0 },
        { "{\"n\":18446744073709551615}", 0, INT64_MAX, -1, 0 } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        json_object *obj = parse(cases[i].text);
        struct cc_err err = { 0 };
        int64_t value = 42;

        if (cc_json_get_int(obj, "n", cases[i].min, cases[i].max, 99, &value, &err) !=
                cases[i].want)
            fail_msg("%s", cases[i].text);
        assert_true(value == (cases[i].want == 0 ? cases[i].want_value : 42));
        assert_int_equal(err.domain, cases[i].want == 0 ? CC_DOM_NONE : CC_DOM_INPUT);
        json_object_put(obj);
    }
}

/* json-c saturates what 64 bits do not hold; it must not pass for a number. */
static void
integers_beyond_64_bits_do_not_pass(void **state)
{
    json_object *obj = parse("{\"n\":99999999999999999999,\"m\":-99999999999999999999}");
    int64_t value = 42;

    (void)state;
    assert_int_equal(cc_json_get_int(obj, "n", INT64_MIN, INT64_MAX, 0, &value, NULL), -1);
    assert_int_equal(cc_json_get_int(obj, "m", INT64_MIN + 1, INT64_MAX, 0, &value, NULL), -1);
    assert_int_equal(value, 42);
    json_object_put(obj);
}

static void
other_types_are_read(void **state)
{
    json_object *obj = parse("{\"t\":true,\"f\":false,\"a\":[1],\"o\":{\"x\":1},\"n\":null}");
    json_object *got = obj;
    bool flag = false;

    (void)state;
    assert_int_equal(cc_json_get_bool(obj, "t", false, &flag, NULL), 0);
    assert_true(flag);
    assert_int_equal(cc_json_get_bool(obj, "f", true, &flag, NULL), 0);
    assert_false(flag);
    assert_int_equal(cc_json_get_bool(obj, "n", true, &flag, NULL), 0);
    assert_true(flag);
    assert_int_equal(cc_json_get_bool(obj, "a", false, &flag, NULL), -1);
    assert_true(flag);

    assert_int_equal(cc_json_get_array(obj, "a", &got, NULL), 0);
    assert_int_equal(json_object_array_length(got), 1);
    assert_int_equal(cc_json_get_array(obj, "o", &got, NULL), -1);
    assert_int_equal(cc_json_get_array(obj, "absent", &got, NULL), 0);
    assert_null(got);
    assert_int_equal(cc_json_get_object(obj, "o", &got, NULL), 0);
    assert_true(json_object_is_type(got, json_type_object));
    assert_int_equal(cc_json_get_object(obj, "a", &got, NULL), -1);
    assert_int_equal(cc_json_get_object(obj, "n", &got, NULL), 0);
    assert_null(got);
    json_object_put(obj);
}

static void
members_are_of_objects_only(void **state)
{
    json_object *array = parse("[1]");
    struct cc_err err = { 0 };
    const char *text;

    (void)state;
    assert_int_equal(cc_json_get_str(array, "s", 10, &text, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    cc_err_clear(&err);
    assert_int_equal(cc_json_get_str(NULL, "s", 10, &text, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    json_object_put(array);
}

static void
base64_is_read(void **state)
{
    json_object *obj = parse("{\"b\":\"Zm9v\\/w==\",\"bad\":\"Zm9\",\"n\":null,\"i\":1}");
    struct cc_buf buf = CC_BUF_INIT(4), small = CC_BUF_INIT(3);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(cc_json_get_base64(obj, "b", &buf, NULL), 0);
    assert_int_equal(buf.len, 4);
    assert_memory_equal(buf.data, "foo\xff", 4);
    assert_int_equal(cc_json_get_base64(obj, "n", &buf, NULL), 0);
    assert_int_equal(cc_json_get_base64(obj, "absent", &buf, NULL), 0);
    assert_int_equal(buf.len, 4);
    assert_int_equal(cc_json_get_base64(obj, "bad", &buf, &err), -1);
    assert_non_null(strstr(err.text, "\"bad\""));
    assert_int_equal(cc_json_get_base64(obj, "i", &buf, NULL), -1);
    assert_int_equal(cc_json_get_base64(obj, "b", &small, NULL), -1);
    assert_int_equal(small.len, 0);
    cc_buf_free(&buf);
    cc_buf_free(&small);
    json_object_put(obj);
}

static void
written_text_is_compact(void **state)
{
    json_object *obj = json_object_new_object();
    struct cc_buf out = CC_BUF_INIT(1000), small = CC_BUF_INIT(10);

    (void)state;
    assert_int_equal(cc_json_add_str(obj, "s", "a/b\n\"\x1b\xe2\x82\xac", NULL), 0);
    assert_int_equal(cc_json_add_str(obj, "none", NULL, NULL), 0);
    assert_int_equal(cc_json_add_int(obj, "i", INT64_MIN, NULL), 0);
    assert_int_equal(cc_json_add_bool(obj, "b", true, NULL), 0);
    assert_int_equal(cc_json_add_base64(obj, "d", "foo\xff", 4, NULL), 0);
    assert_int_equal(cc_json_add_base64(obj, "e", NULL, 0, NULL), 0);
    assert_int_equal(cc_json_add(obj, "a", json_object_new_array(), NULL), 0);
    assert_int_equal(cc_json_write(obj, &out, NULL), 0);
    assert_string_equal(cc_buf_str(&out),
            "{\"s\":\"a/b\\n\\\"\\u001b\xe2\x82\xac\",\"i\":-9223372036854775808,\"b\":true,"
            "\"d\":\"Zm9v/w==\",\"e\":\"\",\"a\":[]}");
    assert_int_equal(cc_json_write(obj, &small, NULL), -1);
    assert_int_equal(small.len, 0);
    cc_buf_free(&out);
    json_object_put(obj);
}

static void
value_is_taken_even_when_it_fails(void **state)
{
    struct cc_err err = { 0 };
    json_object *obj = json_object_new_object();

    (void)state;
    /* No object to add to, as when it could not be made: the leak check sees the string go. */
    assert_int_equal(cc_json_add(NULL, "s", json_object_new_string("x"), &err), -1);
    assert_int_equal(err.domain, CC_DOM_INTERNAL);
    assert_int_equal(cc_json_add(obj, "s", NULL, NULL), -1);
    assert_int_equal(json_object_object_length(obj), 0);
    json_object_put(obj);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_read),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(deep_text_is_refused),
        cmocka_unit_test(strings_are_read),
        cmocka_unit_test(integers_are_read),
        cmocka_unit_test(integers_beyond_64_bits_do_not_pass),
        cmocka_unit_test(other_types_are_read),
        cmocka_unit_test(members_are_of_objects_only),
        cmocka_unit_test(base64_is_read),
        cmocka_unit_test(written_text_is_compact),
        cmocka_unit_test(value_is_taken_even_when_it_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
