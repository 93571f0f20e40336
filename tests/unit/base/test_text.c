/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
copies_say_whether_all_went_in(void **state)
{
    char dst[5];
    char *copy = cc_strdup("text", NULL);

    (void)state;
    assert_true(cc_strcpy(dst, sizeof(dst), "four"));
    assert_string_equal(dst, "four");
    assert_false(cc_strcpy(dst, sizeof(dst), "fives"));
    assert_string_equal(dst, "five");
    assert_false(cc_strcpy(dst, 1, "x"));
    assert_string_equal(dst, "");
    assert_true(cc_strcpy(dst, 1, ""));
    assert_string_equal(copy, "text");
    free(copy);
}

static void
comparisons(void **state)
{
    char text[] = "MiXed \xc3\x84 09";

    (void)state;
    assert_true(cc_starts_with("file:x", "file:"));
    assert_true(cc_starts_with("file:x", ""));
    assert_false(cc_starts_with("fil", "file:"));
    assert_true(cc_equal_nocase("Content-Type", "content-tYPE"));
    assert_true(cc_equal_nocase("", ""));
    assert_false(cc_equal_nocase("ab", "abc"));
    assert_false(cc_equal_nocase("abc", "ab"));
    assert_false(cc_equal_nocase("[", "{"));
    assert_false(cc_equal_nocase("\xc3\x84", "\xc3\xa4"));
    cc_lower(text);
    assert_string_equal(text, "mixed \xc3\x84 09");
}

#define S(literal) literal, sizeof(literal) - 1

static const struct {
    const char *text;
    size_t len;
    const char *want;
} escapes[] = {
    { S(""), "" },
    { S("plain \"text\" 'x'"), "plain \"text\" 'x'" },
    { S("a\nb\r\t\0c"), "a\\x0ab\\x0d\\x09\\x00c" },
    { S("\x1b[31m\x7f"), "\\x1b[31m\\x7f" },
    { S("C:\\x0a"), "C:\\x5cx0a" },
    { S("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x91"),
            "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x94\x91" },
    { S("\xc2\x85\xc2\x9b\xc2\xa0"), "\\xc2\\x85\\xc2\\x9b\xc2\xa0" },
    { S("\xe2\x80\xa8\xe2\x80\xa9"), "\\u{2028}\\u{2029}" },
    { S("\xe2\x80\xae\xe2\x81\xa6\xe2\x81\xa9\xe2\x80\x8e\xe2\x80\x8f\xd8\x9c"),
            "\\u{202E}\\u{2066}\\u{2069}\\u{200E}\\u{200F}\\u{061C}" },
    { S("\xff\xfe"), "\\xff\\xfe" },
    { S("\xc3"), "\\xc3" },
    { S("\xc3("), "\\xc3(" },
    { S("\xc0\x8a"), "\\xc0\\x8a" },
    { S("\xe0\x80\x8a"), "\\xe0\\x80\\x8a" },
    { S("\xed\xa0\x80"), "\\xed\\xa0\\x80" },
    { S("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80" },
    { S("\xe2\x82"), "\\xe2\\x82" },
};

static void
escape_leaves_nothing_harmful(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(escapes); i++) {
        struct cc_buf out = CC_BUF_INIT(1000);
        char array[200];

        assert_int_equal(cc_escape(&out, escapes[i].text, escapes[i].len, 1000, NULL), 0);
        assert_string_equal(cc_buf_str(&out), escapes[i].want);
        if (memchr(escapes[i].text, '\0', escapes[i].len) == NULL)
            assert_string_equal(cc_escape_into(array, sizeof(array), escapes[i].text),
                    escapes[i].want);
        cc_buf_free(&out);
    }
}

/* Every byte pair: the outcome is UTF-8, without control bytes. */
static void
escape_of_all_pairs_is_clean(void **state)
{
    unsigned a, b;

    (void)state;
    for (a = 0; a < 256; a++)
        for (b = 0; b < 256; b++) {
            uint8_t pair[2] = { (uint8_t)a, (uint8_t)b };
            struct cc_buf out = CC_BUF_INIT(100);
            size_t i;

            assert_int_equal(cc_escape(&out, pair, 2, 100, NULL), 0);
            assert_true(cc_is_utf8(out.data, out.len));
            for (i = 0; i < out.len; i++)
                assert_true(out.data[i] >= 0x20 && out.data[i] != 0x7F);
            cc_buf_free(&out);
        }
}

static void
escape_is_cut_between_characters(void **state)
{
    static const struct {
        const char *text;
        size_t limit;
        const char *want;
    } cases[] = { { "abcdef", 6, "abcdef" }, { "abcdef", 5, "abcde..." }, { "abcdef", 0, "..." },
        { "", 0, "" }, { "ab\n", 6, "ab\\x0a" }, { "ab\n", 5, "ab..." },
        { "a\xe2\x82\xac", 4, "a\xe2\x82\xac" }, { "a\xe2\x82\xac", 3, "a..." } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf out = CC_BUF_INIT(100);

        assert_int_equal(
                cc_escape(&out, cases[i].text, strlen(cases[i].text), cases[i].limit, NULL), 0);
        assert_string_equal(cc_buf_str(&out), cases[i].want);
        cc_buf_free(&out);
    }
}

static void
escape_that_does_not_fit_adds_nothing(void **state)
{
    struct cc_buf out = CC_BUF_INIT(6);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(cc_buf_add_str(&out, "ab", NULL), 0);
    assert_int_equal(cc_escape(&out, "12345", 5, 100, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INPUT);
    assert_string_equal(cc_buf_str(&out), "ab");
    assert_int_equal(cc_escape(&out, "12345", 5, 2, NULL), -1);
    assert_string_equal(cc_buf_str(&out), "ab");
    cc_buf_free(&out);
}

static void
escape_into_every_size(void **state)
{
    static const struct {
        const char *text;
        size_t size;
        const char *want;
    } cases[] = { { "abcdef", 7, "abcdef" }, { "abcdef", 6, "ab..." }, { "abcdef", 4, "..." },
        { "abcdef", 3, ".." }, { "abcdef", 2, "." }, { "abcdef", 1, "" }, { "", 1, "" },
        { "\n", 5, "\\x0a" }, { "\n\n", 8, "\\x0a..." }, { "\n\n", 7, "..." },
        { "a\xe2\x82\xac"
          "b",
                6,
                "a\xe2\x82\xac"
                "b" },
        { "a\xe2\x82\xac"
          "bc",
                6, "a..." } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        char *dst = malloc(cases[i].size); /* on the heap, where a sanitizer sees its end */

        assert_non_null(dst);
        assert_string_equal(cc_escape_into(dst, cases[i].size, cases[i].text), cases[i].want);
        free(dst);
    }
}

static void
utf8_is_told_from_the_rest(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        bool want;
    } cases[] = { { S(""), true }, { S("a\0b"), true }, { S("\xc2\x80"), true },
        { S("\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"), true },
        { S("\xed\x9f\xbf\xee\x80\x80"), true }, { S("\x80"), false }, { S("\xc1\xbf"), false },
        { S("\xe0\x9f\xbf"), false }, { S("\xf0\x8f\xbf\xbf"), false },
        { S("\xed\xbf\xbf"), false }, { S("\xf4\x90\x80\x80"), false },
        { S("\xf8\x88\x80\x80\x80"), false }, { S("a\xe2\x82"), false },
        { S("\xe2\x82\xac\xac"), false } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++)
        assert_int_equal(cc_is_utf8(cases[i].text, cases[i].len), cases[i].want);
    /* wherever it stands among ASCII, which is passed over in steps */
    for (i = 0; i < 24; i++) {
        char text[26];

        memset(text, 'a', sizeof(text));
        memcpy(text + i, "\xc3\xa9", 2);
        assert_true(cc_is_utf8(text, sizeof(text)));
        assert_false(cc_is_utf8(text, i + 1));
        text[i + 1] = 'a';
        assert_false(cc_is_utf8(text, sizeof(text)));
    }
}

static void
hex_goes_both_ways(void **state)
{
    static const uint8_t bytes[] = { 0x00, 0x0f, 0xa5, 0xff };
    struct cc_buf out = CC_BUF_INIT(4);
    char text[9];

    (void)state;
    cc_hex(bytes, sizeof(bytes), false, text);
    assert_string_equal(text, "000fa5ff");
    cc_hex(bytes, sizeof(bytes), true, text);
    assert_string_equal(text, "000FA5FF");
    assert_int_equal(cc_unhex("000fA5Ff", &out, NULL), 0);
    assert_int_equal(out.len, 4);
    assert_memory_equal(out.data, bytes, 4);
    assert_int_equal(cc_unhex("", &out, NULL), 0);
    assert_int_equal(out.len, 4);
    assert_int_equal(cc_unhex("00", &out, NULL), -1);
    cc_buf_free(&out);
    cc_hex(bytes, 0, true, text);
    assert_string_equal(text, "");
}

static void
what_is_no_hex_is_refused(void **state)
{
    static const char *const cases[] = { "0", "000", "0g", "0x00", "00 ", " 00", "-1", "00:00" };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf out = CC_BUF_INIT(10);
        struct cc_err err = { 0 };

        assert_int_equal(cc_unhex(cases[i], &out, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_int_equal(out.len, 0);
        cc_buf_free(&out);
    }
}

/* RFC 4648 section 10 and the two letters that the URL form has not. */
static const struct {
    const char *plain;
    const char *coded;
} base64s[] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
    { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
    { "\xfb\xff\xfe", "+//+" } };

static void
base64_goes_both_ways(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(base64s); i++) {
        size_t len = strlen(base64s[i].plain);
        struct cc_buf coded = CC_BUF_INIT(strlen(base64s[i].coded));
        struct cc_buf plain = CC_BUF_INIT(len); /* exactly: padding takes no room */

        assert_int_equal(cc_base64(base64s[i].plain, len, &coded, NULL), 0);
        assert_string_equal(cc_buf_str(&coded), base64s[i].coded);
        assert_int_equal(cc_unbase64(base64s[i].coded, &plain, NULL), 0);
        assert_string_equal(cc_buf_str(&plain), base64s[i].plain);
        if (len > 0)
            assert_int_equal(cc_unbase64("AA==", &plain, NULL), -1);
        cc_buf_free(&coded);
        cc_buf_free(&plain);
    }
}

static void
base64_of_any_length(void **state)
{
    uint8_t bytes[300];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    for (i = 0; i <= sizeof(bytes); i++) {
        struct cc_buf coded = CC_BUF_INIT(1000), plain = CC_BUF_INIT(1000);

        assert_int_equal(cc_buf_add_str(&plain, "x", NULL), 0);
        assert_int_equal(cc_base64(bytes, i, &coded, NULL), 0);
        assert_int_equal(cc_unbase64(cc_buf_str(&coded), &plain, NULL), 0);
        assert_int_equal(plain.len, i + 1);
        assert_memory_equal(plain.data + 1, bytes, i);
        cc_buf_free(&coded);
        cc_buf_free(&plain);
    }
}

static void
what_is_no_base64_is_refused(void **state)
{
    static const char *const cases[] = { "Z", "Zg", "Zg=", "Zg===", "Zm9vYg", "=", "====", "Zg==\n",
        " Zg==", "Zm9v\nYmFy", "Zm9v YmFy", "Zm9vYg==Zm9v", "Zh==", "Zm9=", "Zm-_",
        "Z=g=", "Zm9v=", "Zm9v====" };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_buf out = CC_BUF_INIT(100);
        struct cc_err err = { 0 };

        if (cc_unbase64(cases[i], &out, &err) == 0)
            fail_msg("\"%s\" was decoded", cases[i]);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_int_equal(out.len, 0);
        cc_buf_free(&out);
    }
}

static void
sizes(void **state)
{
    static const struct {
        const char *text;
        int want;
        uint64_t want_value;
    } cases[] = { { "0", 0, 0 }, { "300", 0, 300 }, { "1K", 0, 1024 }, { "50M", 0, 50 << 20 },
        { "2G", 0, UINT64_C(2) << 30 }, { "18446744073709551615", 0, UINT64_MAX },
        { "17179869183G", 0, UINT64_C(17179869183) << 30 }, { "18446744073709551616", -1, 0 },
        { "17179869184G", -1, 0 }, { "", -1, 0 }, { "M", -1, 0 }, { "-1", -1, 0 }, { "+1", -1, 0 },
        { "1k", -1, 0 }, { "1KB", -1, 0 }, { "1 M", -1, 0 }, { " 1", -1, 0 }, { "1.5M", -1, 0 },
        { "0x10", -1, 0 } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        uint64_t value = 42;

        if (cc_parse_size(cases[i].text, &value, &err) != cases[i].want)
            fail_msg("\"%s\": %s", cases[i].text, cc_err_text(&err));
        assert_true(value == (cases[i].want == 0 ? cases[i].want_value : 42));
        assert_int_equal(err.domain, cases[i].want == 0 ? CC_DOM_NONE : CC_DOM_INPUT);
    }
}

static void
durations(void **state)
{
    static const struct {
        const char *text;
        int want;
        int64_t want_value;
    } cases[] = { { "250ms", 0, 250 }, { "10s", 0, 10000 }, { "30m", 0, 1800000 },
        { "12h", 0, 43200000 }, { "365d", 0, INT64_C(31536000000) }, { "0s", 0, 0 },
        { "9223372036854775807ms", 0, INT64_MAX }, { "9223372036854775808ms", -1, 0 },
        { "106751991168d", -1, 0 }, { "10", -1, 0 }, { "", -1, 0 }, { "s", -1, 0 },
        { "-1s", -1, 0 }, { "1S", -1, 0 }, { "1 s", -1, 0 }, { "1h30m", -1, 0 }, { "1w", -1, 0 },
        { "1.5h", -1, 0 } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        int64_t value = 42;

        if (cc_parse_duration_ms(cases[i].text, &value, &err) != cases[i].want)
            fail_msg("\"%s\": %s", cases[i].text, cc_err_text(&err));
        assert_true(value == (cases[i].want == 0 ? cases[i].want_value : 42));
        assert_int_equal(err.domain, cases[i].want == 0 ? CC_DOM_NONE : CC_DOM_INPUT);
    }
}

static void
integers(void **state)
{
    static const struct {
        const char *text;
        int64_t min, max;
        int want;
        int64_t want_value;
    } cases[] = { { "0", 0, 10, 0, 0 }, { "10", 0, 10, 0, 10 }, { "-5", -5, 5, 0, -5 },
        { "007", 0, 10, 0, 7 }, { "-0", 0, 1, 0, 0 },
        { "9223372036854775807", INT64_MIN, INT64_MAX, 0, INT64_MAX },
        { "-9223372036854775808", INT64_MIN, INT64_MAX, 0, INT64_MIN },
        { "9223372036854775808", INT64_MIN, INT64_MAX, -1, 0 },
        { "-9223372036854775809", INT64_MIN, INT64_MAX, -1, 0 },
        { "99999999999999999999999", INT64_MIN, INT64_MAX, -1, 0 }, { "11", 0, 10, -1, 0 },
        { "-1", 0, 10, -1, 0 }, { "", 0, 10, -1, 0 }, { "-", -9, 10, -1, 0 },
        { "--1", -9, 10, -1, 0 }, { "+1", 0, 10, -1, 0 }, { " 1", 0, 10, -1, 0 },
        { "1 ", 0, 10, -1, 0 }, { "1x", 0, 10, -1, 0 }, { "0x1", 0, 10, -1, 0 } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        int64_t value = 42;

        if (cc_parse_int(cases[i].text, cases[i].min, cases[i].max, &value, &err) != cases[i].want)
            fail_msg("\"%s\": %s", cases[i].text, cc_err_text(&err));
        assert_true(value == (cases[i].want == 0 ? cases[i].want_value : 42));
        assert_int_equal(err.domain, cases[i].want == 0 ? CC_DOM_NONE : CC_DOM_INPUT);
    }
}

static void
booleans(void **state)
{
    static const char *const refused[] = { "", "Yes", "YES", "true", "1", "on", "yes ", "n",
        "nope" };
    bool value = false;
    size_t i;

    (void)state;
    assert_int_equal(cc_parse_bool("yes", &value, NULL), 0);
    assert_true(value);
    for (i = 0; i < CC_COUNT(refused); i++) {
        struct cc_err err = { 0 };

        assert_int_equal(cc_parse_bool(refused[i], &value, &err), -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_true(value);
    }
    assert_int_equal(cc_parse_bool("no", &value, NULL), 0);
    assert_false(value);
}

static void
nearest_name(void **state)
{
    static const char *const names[] = { "directory", "level", "max-size", "operational", "a" };
    static const struct {
        const char *text;
        const char *want;
    } cases[] = { { "directory", "directory" }, { "direktory", "directory" },
        { "Directory", "directory" }, { "dircetory", "directory" }, { "dirrectory", "directory" },
        { "diretory", "directory" }, { "lvel", "level" }, { "levle", "level" },
        { "maxsize", "max-size" }, { "max_size", "max-size" }, { "max_syze", "max-size" },
        { "mux_syze", "max-size" }, { "mux_syce", NULL }, { "something", NULL }, { "", NULL },
        { "x", NULL }, { "xy", NULL },
        { "directory directory directory directory directory directory directory", NULL } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        const char *got = cc_nearest(cases[i].text, names, CC_COUNT(names));

        if (cases[i].want == NULL ? got != NULL : got == NULL || strcmp(got, cases[i].want) != 0)
            fail_msg("\"%s\" gave %s", cases[i].text, got == NULL ? "nothing" : got);
    }
    assert_null(cc_nearest("level", names, 0));
}

static void
uuids(void **state)
{
    static const struct {
        const char *text;
        bool want;
    } cases[] = { { "0f8fad5b-d9cb-469f-a165-70867728950e", true },
        { "0F8FAD5B-D9CB-469F-A165-70867728950E", true },
        { "0f8fad5b-d9cb-469f-a165-70867728950", false },
        { "0f8fad5b-d9cb-469f-a165-70867728950e0", false },
        { "0f8fad5bd9cb469fa16570867728950e", false },
        { "{0f8fad5b-d9cb-469f-a165-70867728950e}", false },
        { "0f8fad5b-d9cb-469f-a165-70867728950g", false },
        { "0f8fad5b_d9cb-469f-a165-70867728950e", false }, { "", false } };
    char one[CC_UUID_LEN], two[CC_UUID_LEN];
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++)
        assert_int_equal(cc_is_uuid(cases[i].text), cases[i].want);
    for (i = 0; i < 100; i++) {
        assert_int_equal(cc_uuid(one, NULL), 0);
        assert_int_equal(cc_uuid(two, NULL), 0);
        assert_true(cc_is_uuid(one));
        assert_string_not_equal(one, two);
        assert_int_equal(one[14], '4');
        assert_non_null(strchr("89ab", one[19]));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_say_whether_all_went_in),
        cmocka_unit_test(comparisons),
        cmocka_unit_test(escape_leaves_nothing_harmful),
        cmocka_unit_test(escape_of_all_pairs_is_clean),
        cmocka_unit_test(escape_is_cut_between_characters),
        cmocka_unit_test(escape_that_does_not_fit_adds_nothing),
        cmocka_unit_test(escape_into_every_size),
        cmocka_unit_test(utf8_is_told_from_the_rest),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(what_is_no_hex_is_refused),
        cmocka_unit_test(base64_goes_both_ways),
        cmocka_unit_test(base64_of_any_length),
        cmocka_unit_test(what_is_no_base64_is_refused),
        cmocka_unit_test(sizes),
        cmocka_unit_test(durations),
        cmocka_unit_test(integers),
        cmocka_unit_test(booleans),
        cmocka_unit_test(nearest_name),
        cmocka_unit_test(uuids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
