/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include <cmocka.h>

#include "base/text.h"

static void
first_cause_stays(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    assert_string_equal(cc_err_text(&err), "no error");
    assert_int_equal(cc_err_set(&err, CC_DOM_HTTP, 503, "answer %d", 503), -1);
    assert_int_equal(cc_err_set(&err, CC_DOM_INPUT, 1, "later"), -1);
    assert_int_equal(cc_err_set_errno(&err, EIO, "later"), -1);
    assert_int_equal(err.domain, CC_DOM_HTTP);
    assert_int_equal(err.code, 503);
    assert_string_equal(cc_err_text(&err), "answer 503");

    cc_err_clear(&err);
    assert_string_equal(cc_err_text(&err), "no error");
    cc_err_set(&err, CC_DOM_INPUT, 1, "later");
    assert_string_equal(cc_err_text(&err), "later");
}

static void
context_goes_in_front(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    cc_err_set(&err, CC_DOM_PKCS11, 0xA4, "C_Sign: %s", "CKR_PIN_LOCKED");
    assert_int_equal(cc_err_in(&err, "sign CertRep"), -1);
    assert_int_equal(cc_err_in(&err, "request %d", 4711), -1);
    assert_string_equal(err.text, "request 4711: sign CertRep: C_Sign: CKR_PIN_LOCKED");
    assert_int_equal(err.domain, CC_DOM_PKCS11);
    assert_int_equal(err.code, 0xA4);
}

static void
null_is_accepted(void **state)
{
    (void)state;
    assert_int_equal(cc_err_set(NULL, CC_DOM_INPUT, 0, "x"), -1);
    assert_int_equal(cc_err_set_errno(NULL, EIO, "x"), -1);
    assert_int_equal(cc_err_nomem(NULL), -1);
    assert_int_equal(cc_err_set_openssl(NULL, "x"), -1);
    assert_int_equal(cc_err_in(NULL, "x"), -1);
    cc_err_clear(NULL);
    assert_string_equal(cc_err_text(NULL), "no error");
}

static void
errno_has_its_text(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    cc_err_set_errno(&err, ENOENT, "open %s", "/x");
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, ENOENT);
    assert_string_equal(err.text, "open /x: No such file or directory");

    cc_err_clear(&err);
    cc_err_set_errno(&err, 9999, "open");
    assert_string_equal(err.text, "open: error 9999");

    cc_err_clear(&err);
    cc_err_nomem(&err);
    assert_int_equal(err.domain, CC_DOM_INTERNAL);
    assert_int_equal(err.code, ENOMEM);
}

static void
missing_cause_is_ours(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    cc_err_in(&err, "doing");
    assert_int_equal(err.domain, CC_DOM_INTERNAL);
    assert_string_equal(err.text, "doing: no cause was recorded");
}

static void
one_line_whatever_comes(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    cc_err_set(&err, CC_DOM_INPUT, 0, "%s", "a\nb\x1b[2J\tc\\d\xff \xc3\xa9 \xe2\x80\xae");
    assert_string_equal(err.text, "a\\x0ab\\x1b[2J\\x09c\\d\\xff \xc3\xa9 \\u{202E}");
    cc_err_in(&err, "peer\r%s", "\x7f");
    assert_string_equal(err.text,
            "peer\\x0d\\x7f: a\\x0ab\\x1b[2J\\x09c\\d\\xff \xc3\xa9 \\u{202E}");
}

static void
long_cause_is_cut_at_its_end(void **state)
{
    struct cc_err err = { 0 };
    char cause[1500];

    (void)state;
    memset(cause, 'c', sizeof(cause));
    cause[sizeof(cause) - 1] = '\0';
    cc_err_set(&err, CC_DOM_INPUT, 0, "begin %s", cause);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_string_equal(err.text + sizeof(err.text) - 4, "...");

    cc_err_in(&err, "doing");
    assert_true(cc_starts_with(err.text, "doing: begin ccc"));
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_string_equal(err.text + sizeof(err.text) - 4, "...");
}

static void
long_context_leaves_the_cause(void **state)
{
    struct cc_err err = { 0 };
    char doing[1500];
    int i;

    (void)state;
    memset(doing, 'd', sizeof(doing));
    doing[sizeof(doing) - 1] = '\0';
    cc_err_set(&err, CC_DOM_INPUT, 0, "the cause");
    cc_err_in(&err, "%s", doing);
    assert_string_equal(strchr(err.text, '.'), "...: the cause");
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);

    /* Many of them: bounded, one line, whole characters. */
    for (i = 0; i < 20; i++)
        cc_err_in(&err, "\xe2\x82\xac\xe2\x82\xac%d %s", i, doing);
    assert_true(strlen(err.text) < sizeof(err.text));
    assert_true(cc_starts_with(err.text, "\xe2\x82\xac\xe2\x82\xac"
                                         "19 ddd"));
    assert_true(cc_is_utf8(err.text, strlen(err.text)));
}

static void
cut_keeps_characters_whole(void **state)
{
    struct cc_err err = { 0 };
    char cause[1501];
    size_t i;

    (void)state;
    for (i = 0; i + 3 < sizeof(cause); i += 3)
        memcpy(cause + i, "\xe2\x82\xac", 3);
    cause[i] = '\0';
    cc_err_set(&err, CC_DOM_INPUT, 0, "%s", cause);
    assert_true(cc_is_utf8(err.text, strlen(err.text)));
    assert_null(strchr(err.text, '\\'));
}

static void
openssl_oldest_entry_counts(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    ERR_clear_error();
    ERR_raise_data(ERR_LIB_EVP, EVP_R_BAD_DECRYPT, "the oldest");
    ERR_raise(ERR_LIB_EVP, EVP_R_WRONG_FINAL_BLOCK_LENGTH);
    assert_int_equal(cc_err_set_openssl(&err, "decrypt %d", 7), -1);
    assert_int_equal(err.domain, CC_DOM_OPENSSL);
    assert_int_equal(ERR_GET_REASON((unsigned long)err.code), EVP_R_BAD_DECRYPT);
    assert_string_equal(err.text, "decrypt 7: bad decrypt (the oldest)");
    assert_int_equal(ERR_peek_error(), 0);

    cc_err_clear(&err);
    ERR_raise(ERR_LIB_SYS, ENOENT);
    cc_err_set_openssl(&err, "load");
    assert_string_equal(err.text, "load: No such file or directory");

    cc_err_clear(&err);
    cc_err_set_openssl(&err, "nothing queued");
    assert_int_equal(err.domain, CC_DOM_OPENSSL);
    assert_int_equal(err.code, 0);
    assert_string_equal(err.text, "nothing queued");
}

static void
openssl_queue_is_emptied_even_when_not_kept(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    cc_err_set(&err, CC_DOM_INPUT, 0, "first");
    ERR_raise(ERR_LIB_EVP, EVP_R_BAD_DECRYPT);
    cc_err_set_openssl(&err, "second");
    assert_string_equal(err.text, "first");
    assert_int_equal(ERR_peek_error(), 0);
}

static void
domains_have_distinct_names(void **state)
{
    int a, b;

    (void)state;
    for (a = CC_DOM_NONE; a <= CC_DOM_CANCELLED; a++)
        for (b = CC_DOM_NONE; b < a; b++)
            assert_string_not_equal(cc_err_domain_name((enum cc_err_domain)a),
                    cc_err_domain_name((enum cc_err_domain)b));
    assert_string_equal(cc_err_domain_name(CC_DOM_PKCS11), "pkcs11");
    assert_string_equal(cc_err_domain_name(CC_DOM_HTTP), "http");
    assert_string_equal(cc_err_domain_name((enum cc_err_domain)99), "unknown");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_cause_stays),
        cmocka_unit_test(context_goes_in_front),
        cmocka_unit_test(null_is_accepted),
        cmocka_unit_test(errno_has_its_text),
        cmocka_unit_test(missing_cause_is_ours),
        cmocka_unit_test(one_line_whatever_comes),
        cmocka_unit_test(long_cause_is_cut_at_its_end),
        cmocka_unit_test(long_context_leaves_the_cause),
        cmocka_unit_test(cut_keeps_characters_whole),
        cmocka_unit_test(openssl_oldest_entry_counts),
        cmocka_unit_test(openssl_queue_is_emptied_even_when_not_kept),
        cmocka_unit_test(domains_have_distinct_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
