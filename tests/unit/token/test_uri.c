/* SPDX-License-Identifier: MIT */
#include "hsm/token/uri.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hsm/hsm.h"

static void
attributes_are_read(void **state)
{
    struct p11_uri uri;

    (void)state;
    assert_int_equal(
            p11_uri_parse(
                    "pkcs11:token=My%20token%2f1;manufacturer=M%26M;model=X+1;serial=00ff;slot-id=7;"
                    "object=k%C3%A4se;id=%01%ff%00;type=private?pin-source=file:/etc/pin%20file",
                    &uri, NULL),
            0);
    assert_string_equal(uri.token, "My token/1");
    assert_string_equal(uri.manufacturer, "M&M");
    assert_string_equal(uri.model, "X+1");
    assert_string_equal(uri.serial, "00ff");
    assert_true(uri.has_slot && uri.slot == 7);
    assert_string_equal(uri.object, "k\xc3\xa4se");
    assert_int_equal(uri.id_len, 3);
    assert_memory_equal(uri.id, "\x01\xff\x00", 3);
    assert_true(uri.has_class && uri.class == CKO_PRIVATE_KEY);
    assert_string_equal(uri.pin_source, "file:/etc/pin file");
}

static void
pin_sources_are_files(void **state)
{
    static const struct {
        const char *uri;
        const char *want; /* NULL: refused */
    } cases[] = {
        { "pkcs11:?pin-source=/etc/pin", "file:/etc/pin" },
        { "pkcs11:?pin-source=file:/etc/pin", "file:/etc/pin" },
        { "pkcs11:?pin-source=file:///etc/pin", "file:/etc/pin" },
        { "pkcs11:?pin-source=file:%2Fetc%2Fpin", "file:/etc/pin" },
        { "pkcs11:", "" },
        { "pkcs11:?pin-source=file://host/etc/pin", NULL },
        { "pkcs11:?pin-source=etc/pin", NULL },
        { "pkcs11:?pin-source=|cat%20/etc/pin", NULL },
        { "pkcs11:?pin-source=https://example/pin", NULL },
        { "pkcs11:?pin-source=/a&pin-source=/b", NULL },
        { "pkcs11:?pin-value=1234", NULL },
        { "pkcs11:?module-path=/evil.so", NULL },
        { "pkcs11:?module-name=evil", NULL },
    };
    struct p11_uri uri;

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        const int rc = p11_uri_parse(cases[i].uri, &uri, &err);

        if (rc != (cases[i].want == NULL ? -1 : 0))
            fail_msg("%s: %s", cases[i].uri, cc_err_text(&err));
        if (cases[i].want != NULL)
            assert_string_equal(uri.pin_source, cases[i].want);
        assert_null(strstr(err.text, "1234"));
    }
}

static void
what_is_not_understood_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "pkcs11",
        "PKCS11:token=a",
        "http:token=a",
        "pkcs11:token",
        "pkcs11:token=",
        "pkcs11:=a",
        "pkcs11:token=a;",
        "pkcs11:;token=a",
        "pkcs11:token=a;;object=b",
        "pkcs11:token=a;token=b",
        "pkcs11:object=a;object=a",
        "pkcs11:id=%01;id=%02",
        "pkcs11:type=private;type=private",
        "pkcs11:type=key",
        "pkcs11:slot-id=x",
        "pkcs11:slot-id=-1",
        "pkcs11:slot-id=99999999999999999999999",
        "pkcs11:slot-id=1;slot-id=1",
        "pkcs11:token=a%2",
        "pkcs11:token=a%zz",
        "pkcs11:token=a%",
        "pkcs11:token=a b",
        "pkcs11:token=a\"b",
        "pkcs11:token=a/b",
        "pkcs11:token=a%00b",
        "pkcs11:token=%ff",
        "pkcs11:token=123456789012345678901234567890123",
        "pkcs11:serial=12345678901234567",
        "pkcs11:x-vendor=1",
        "pkcs11:library-version=1",
        "pkcs11:token=a?token=b",
        "pkcs11:token=a#b",
        "pkcs11:this-name-is-longer-than-any-attribute-has=1",
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(bad); i++) {
        struct p11_uri uri;
        struct cc_err err = { 0 };

        if (p11_uri_parse(bad[i], &uri, &err) == 0)
            fail_msg("accepted: %s", bad[i]);
        assert_int_equal(err.domain, CC_DOM_TOKEN);
        assert_int_equal(err.code, HSM_FAULT_INPUT);
    }
}

static void
a_text_beyond_the_ceiling_is_refused(void **state)
{
    char text[P11_URI_MAX + 64] = "pkcs11:object=";
    struct p11_uri uri;

    (void)state;
    memset(text + strlen(text), 'a', 127);
    assert_int_equal(p11_uri_parse(text, &uri, NULL), 0);
    memset(text + strlen(text), 'a', 1);
    assert_int_equal(p11_uri_parse(text, &uri, NULL), -1);
    memset(text + strlen("pkcs11:"), 'a', sizeof(text) - strlen("pkcs11:") - 1);
    assert_int_equal(p11_uri_parse(text, &uri, NULL), -1);
}

static void
a_key_is_named_within_its_token(void **state)
{
    static const struct {
        const char *key;
        int want;
    } cases[] = {
        { "pkcs11:object=a", 0 },
        { "pkcs11:id=%01", 0 },
        { "pkcs11:token=here;object=a", 0 },
        { "pkcs11:serial=1;object=a", 0 },
        { "pkcs11:token=elsewhere;object=a", -1 },
        { "pkcs11:slot-id=2;object=a", -1 },
        { "pkcs11:token=here", -1 },
        { "pkcs11:type=private", -1 },
        { "pkcs11:object=a?pin-source=/a", -1 },
    };
    struct p11_uri token, key;

    (void)state;
    assert_int_equal(p11_uri_parse("pkcs11:token=here;slot-id=1", &token, NULL), 0);
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        if (p11_uri_parse_key(cases[i].key, &token, &key, NULL) != cases[i].want)
            fail_msg("%s", cases[i].key);
}

static void
pad(CK_UTF8CHAR *field, size_t size, const char *text)
{
    memset(field, ' ', size);
    memcpy(field, text, strlen(text));
}

static void
tokens_match_whole_texts(void **state)
{
    static const struct {
        const char *uri;
        bool want;
    } cases[] = {
        { "pkcs11:", true },
        { "pkcs11:token=Token%20A", true },
        { "pkcs11:token=Token%20A;serial=1;model=M;manufacturer=Co", true },
        { "pkcs11:slot-id=3", true },
        { "pkcs11:token=Token", false },
        { "pkcs11:token=Token%20A%20", false },
        { "pkcs11:token=Token%20AB", false },
        { "pkcs11:token=Token%20A;serial=2", false },
        { "pkcs11:model=m", false },
        { "pkcs11:slot-id=4", false },
    };
    CK_TOKEN_INFO info;

    (void)state;
    memset(&info, 0, sizeof(info));
    pad(info.label, sizeof(info.label), "Token A");
    pad(info.manufacturerID, sizeof(info.manufacturerID), "Co");
    pad(info.model, sizeof(info.model), "M");
    /* Some tokens pad with NUL. */
    info.serialNumber[0] = '1';
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct p11_uri uri;

        assert_int_equal(p11_uri_parse(cases[i].uri, &uri, NULL), 0);
        if (p11_uri_names_token(&uri, 3, &info) != cases[i].want)
            fail_msg("%s", cases[i].uri);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_are_read),
        cmocka_unit_test(pin_sources_are_files),
        cmocka_unit_test(what_is_not_understood_is_refused),
        cmocka_unit_test(a_text_beyond_the_ceiling_is_refused),
        cmocka_unit_test(a_key_is_named_within_its_token),
        cmocka_unit_test(tokens_match_whole_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
