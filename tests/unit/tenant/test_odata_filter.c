/* SPDX-License-Identifier: MIT */
#include "tenant/odata_filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct filter_case {
    const char *text;
    const char *want; /* "property|lower|value;" of each term; NULL: refused */
};

static const struct filter_case cases[] = {
    { "userPrincipalName eq 'a@b'", "userPrincipalName|0|a@b;" },
    { "tolower(userPrincipalName) eq 'a@b'", "userPrincipalName|1|a@b;" },
    { "tolower(userPrincipalName) eq 'a' and tolower(thumbprint) eq 'b'",
            "userPrincipalName|1|a;thumbprint|1|b;" },
    { "  ToLower ( x )  EQ  'y'  AND  z eq ''  ", "x|1|y;z|0|;" },
    { "(a eq 'b')", "a|0|b;" },
    { "((a eq 'b') and (c eq 'd' and e eq 'f'))", "a|0|b;c|0|d;e|0|f;" },
    { "a eq 'it''s'", "a|0|it's;" },
    { "a eq ''''", "a|0|';" },
    { "a eq ') and ('", "a|0|) and (;" },
    { "a eq 'b' and ", NULL },
    { "a eq 'b' and", NULL },
    { "a eq 'b' or c eq 'd'", NULL },
    { "a eq 'b' c eq 'd'", NULL },
    { "a eq 'it's'", NULL },
    { "a eq 'b", NULL },
    { "a eq b", NULL },
    { "a eq \"b\"", NULL },
    { "a ne 'b'", NULL },
    { "a eq", NULL },
    { "a", NULL },
    { "", NULL },
    { " ", NULL },
    { "'a' eq a", NULL },
    { "toupper(a) eq 'b'", NULL },
    { "tolower(a eq 'b'", NULL },
    { "tolower() eq 'b'", NULL },
    { "(a eq 'b'", NULL },
    { "a eq 'b')", NULL },
    { "not a eq 'b'", NULL },
    { "a eq 'b' ; drop", NULL },
    { "((((((((a eq 'b'))))))))", "a|0|b;" },
    { "(((((((((a eq 'b')))))))))", NULL },
    { "a eq '1' and a eq '2' and a eq '3' and a eq '4' and a eq '5' and a eq '6' and a eq '7' and a eq '8'",
            "a|0|1;a|0|2;a|0|3;a|0|4;a|0|5;a|0|6;a|0|7;a|0|8;" },
    { "a eq '1' and a eq '2' and a eq '3' and a eq '4' and a eq '5' and a eq '6' and a eq '7' and a eq '8' and a eq '9'",
            NULL },
};

static void
filters(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct odata_filter filter;
        struct cc_err err = { 0 };
        char got[1024] = "";
        int rc = odata_filter_parse(cases[i].text, &filter, &err);

        if (cases[i].want == NULL) {
            if (rc == 0)
                fail_msg("taken: %s", cases[i].text);
            assert_int_equal(err.domain, CC_DOM_INPUT);
            continue;
        }
        if (rc != 0)
            fail_msg("refused: %s: %s", cases[i].text, cc_err_text(&err));
        for (size_t k = 0; k < filter.count; k++) {
            size_t len = strlen(got);

            (void)snprintf(got + len, sizeof(got) - len, "%s|%d|%s;", filter.terms[k].property,
                    filter.terms[k].tolower, filter.terms[k].value);
        }
        assert_string_equal(got, cases[i].want);
    }
}

static void
long_ones(void **state)
{
    struct odata_filter filter;
    char text[2048];

    (void)state;
    for (int len = 500; len < 530; len++) {
        (void)snprintf(text, sizeof(text), "a eq '%0*d'", len, 0);
        assert_int_equal(odata_filter_parse(text, &filter, NULL), len < 512 ? 0 : -1);
    }
    for (int len = 60; len < 70; len++) {
        (void)snprintf(text, sizeof(text), "%0*d eq 'b'", len, 0);
        assert_int_equal(odata_filter_parse(text, &filter, NULL), len < 64 ? 0 : -1);
    }
}

static void
finds_a_term(void **state)
{
    struct odata_filter filter;

    (void)state;
    assert_int_equal(odata_filter_parse("a eq '1' and B eq '2'", &filter, NULL), 0);
    assert_string_equal(odata_filter_find(&filter, "b")->value, "2");
    assert_null(odata_filter_find(&filter, "c"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters),
        cmocka_unit_test(long_ones),
        cmocka_unit_test(finds_a_term),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
