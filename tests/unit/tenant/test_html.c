/* SPDX-License-Identifier: MIT */
#include "tenant/html.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct cc_buf out = CC_BUF_INIT(4096);

static struct html
begin(void)
{
    cc_buf_reset(&out);
    return (struct html){ .out = &out };
}

static void
texts_are_escaped(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = { { "plain Ünïcödé 证书 🔑", "plain Ünïcödé 证书 🔑" },
        { "<b a=\"1\" b='2'>&amp;", "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;amp;" },
        { "a\tb\nc", "a\tb\nc" }, { "\001\033[2J\177", "��[2J�" },
        { "\302\205\302\240", "�\302\240" }, { "\u202egnp.exe\u2066x\u200b\ufeff", "�gnp.exe�x��" },
        { "\u2026\u00e9", "\u2026\u00e9" }, { "\xff<\xc0\xbc", "\\xff&lt;\\xc0\\xbc" }, { "", "" },
        { NULL, "" } };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct html html = begin();

        html_text(&html, cases[i].text);
        assert_false(html.failed);
        assert_string_equal(cc_buf_str(&out), cases[i].want);
    }
}

static void
formats_take_only_what_they_know(void **state)
{
    struct html html = begin();

    (void)state;
    html_put(&html, "<p class=\"%s\">%d %lld 100%% %s</p>", "\"x", -5, 1LL << 40, "<%s>");
    assert_string_equal(cc_buf_str(&out),
            "<p class=\"&quot;x\">-5 1099511627776 100% &lt;%s&gt;</p>");
    assert_false(html.failed);
    html_put(&html, "%u", 1u);
    assert_true(html.failed);
}

static void
values_of_queries_are_encoded(void **state)
{
    struct html html = begin();

    (void)state;
    html_query(&html, "aZ09-._~ &=+#%/\"<é");
    assert_string_equal(cc_buf_str(&out), "aZ09-._~%20%26%3D%2B%23%25%2F%22%3C%C3%A9");
}

static void
times_are_for_people_and_machines(void **state)
{
    static const struct {
        int64_t then_ms;
        const char *want;
    } cases[] = { { 999500, "0&nbsp;seconds ago" }, { 998500, "1&nbsp;second ago" },
        { 941000, "59&nbsp;seconds ago" }, { 940000, "1&nbsp;minute ago" },
        { 1000000 - 3600000 * 47, "47&nbsp;hours ago" },
        { 1000000 - 86400000LL * 2, "2&nbsp;days ago" }, { 1120000, "in 2&nbsp;minutes" } };
    struct html html = begin();

    (void)state;
    html_time(&html, 1793536496789);
    html_moment(&html, 1793536496789);
    html_time(&html, 0);
    assert_string_equal(cc_buf_str(&out),
            "<time datetime=\"2026-11-01T12:34:56.789Z\">1&nbsp;Nov&nbsp;2026, 12:34&nbsp;UTC</time>"
            "<time datetime=\"2026-11-01T12:34:56.789Z\">1&nbsp;Nov&nbsp;2026, 12:34:56&nbsp;UTC</time>–");
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        html = begin();
        html_ago(&html, cases[i].then_ms, 1000000);
        assert_non_null(strstr(cc_buf_str(&out), cases[i].want));
    }
}

static void
a_failure_stays(void **state)
{
    struct cc_buf small = CC_BUF_INIT(4);
    struct html html = { .out = &small };

    (void)state;
    html_put(&html, "abc");
    html_put(&html, "defgh");
    html_put(&html, "i");
    assert_true(html.failed);
    assert_int_equal(html.err.domain, CC_DOM_INPUT);
    assert_string_equal(cc_buf_str(&small), "abc");
    cc_buf_free(&small);
}

static int
tear_down(void **state)
{
    (void)state;
    cc_buf_free(&out);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_escaped),
        cmocka_unit_test(formats_take_only_what_they_know),
        cmocka_unit_test(values_of_queries_are_encoded),
        cmocka_unit_test(times_are_for_people_and_machines),
        cmocka_unit_test(a_failure_stays),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down);
}
