/* SPDX-License-Identifier: MIT */
#include "pki/pfx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pkcs12.h>

#include "base/clock.h"
#include "files.h"

#define PASSWORD "test-password"
#define LONG_PASSWORD                                                                              \
    "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"                               \
    "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"
#define LATIN1 "Gr\366\337e-\351"
#define UTF8 "Gr\303\266\303\237e-\303\251"

static int
check(const struct cc_buf *pfx, const char *password, struct pki_pfx_info *ret, struct cc_err *err)
{
    uint8_t *copy = exact_copy(pfx->data, pfx->len);
    uint8_t *pass = exact_copy(password, strlen(password));
    int rc = pki_pfx_check((struct cc_bytes){ copy, pfx->len },
            (struct cc_bytes){ pass, strlen(password) }, ret, err);
    char thumbprint[PKI_THUMBPRINT_LEN] = "";
    struct cc_err short_err = { 0 };
    int short_rc = pki_pfx_check_thumbprint((struct cc_bytes){ copy, pfx->len },
            (struct cc_bytes){ pass, strlen(password) }, thumbprint, &short_err);

    /* The short form comes to the same, unless it is the certificate itself that cannot be read. */
    assert_true(short_rc == 0 || rc != 0);
    if (rc == 0)
        assert_string_equal(thumbprint, ret->thumbprint);
    else if (short_rc != 0 && err != NULL)
        assert_int_equal(short_err.code, err->code);
    free(copy);
    free(pass);
    assert_int_equal(ERR_peek_error(), 0);
    return rc;
}

/* ---- files of other programs ---- */

static const struct {
    const char *file, *password, *cert;
    const char *want_key_type;
    int want_fault; /* 0: opens */
} files[] = {
    { "rsa-aes.pfx", PASSWORD, "rsa.der", "RSA-2048", 0 },
    { "rsa-3des.pfx", PASSWORD, "rsa.der", "RSA-2048", 0 },
    { "rsa-rc2.pfx", PASSWORD, "rsa.der", "RSA-2048", 0 },
    { "ec256-aes.pfx", PASSWORD, "ec256.der", "EC-P-256", 0 },
    { "ec384-3des.pfx", PASSWORD, "ec384.der", "EC-P-384", 0 },
    { "ec521-rc2.pfx", PASSWORD, "ec521.der", "EC-P-521", 0 },
    { "plain-certs.pfx", PASSWORD, "rsa.der", "RSA-2048", 0 },
    { "chain.pfx", PASSWORD, "rsa.der", "RSA-2048", 0 },
    { "java.pfx", PASSWORD, NULL, "RSA-2048", 0 },
    { "nss.pfx", PASSWORD, "rsa.der", "RSA-2048", 0 },
    { "iterations.pfx", PASSWORD, "rsa.der", "RSA-2048", 0 },

    { "one-aes.pfx", "x", "rsa.der", "RSA-2048", 0 },
    { "long-aes.pfx", LONG_PASSWORD, "rsa.der", "RSA-2048", 0 },
    { "long-3des.pfx", LONG_PASSWORD, "rsa.der", "RSA-2048", 0 },
    { "empty-aes.pfx", "", "rsa.der", "RSA-2048", 0 },

    /* one byte a character, as the password is uploaded; and as the administrator's terminal writes it */
    { "utf8-aes.pfx", LATIN1, "rsa.der", "RSA-2048", 0 },
    { "utf8-3des.pfx", LATIN1, "rsa.der", "RSA-2048", 0 },
    { "utf8-rc2.pfx", LATIN1, "rsa.der", "RSA-2048", 0 },
    { "utf8-aes.pfx", UTF8, "rsa.der", "RSA-2048", 0 },
    { "utf8-3des.pfx", UTF8, "rsa.der", "RSA-2048", 0 },
    { "latin1-aes.pfx", LATIN1, "rsa.der", "RSA-2048", 0 },
    { "latin1-3des.pfx", LATIN1, "rsa.der", "RSA-2048", 0 },

    { "rsa-aes.pfx", "test-passwore", NULL, NULL, PKI_PFX_PASSWORD },
    { "rsa-aes.pfx", "test-passwor", NULL, NULL, PKI_PFX_PASSWORD },
    { "rsa-aes.pfx", "test-password ", NULL, NULL, PKI_PFX_PASSWORD },
    { "rsa-aes.pfx", "", NULL, NULL, PKI_PFX_PASSWORD },
    { "rsa-rc2.pfx", "Test-Password", NULL, NULL, PKI_PFX_PASSWORD },
    { "utf8-aes.pfx", "Gr\366\337e-\350", NULL, NULL, PKI_PFX_PASSWORD },
    { "utf8-3des.pfx", "Gr??e-?", NULL, NULL, PKI_PFX_PASSWORD },
    { "empty-aes.pfx", " ", NULL, NULL, PKI_PFX_PASSWORD },

    { "nomac.pfx", PASSWORD, NULL, NULL, PKI_PFX_NO_MAC },
    { "nokey.pfx", PASSWORD, NULL, NULL, PKI_PFX_CERTIFICATE },
    { "rsa.der", PASSWORD, NULL, NULL, PKI_PFX_MALFORMED },
    { "rsa-key.pem", PASSWORD, NULL, NULL, PKI_PFX_MALFORMED },
};

static void
assert_is_of(const struct pki_pfx_info *info, const char *name)
{
    char thumbprint[PKI_THUMBPRINT_LEN];
    X509 *cert = read_cert(name);
    int64_t from = 0, to = 0;

    assert_int_equal(pki_cert_thumbprint(cert, thumbprint, NULL), 0);
    assert_int_equal(pki_cert_validity(cert, &from, &to, NULL), 0);
    assert_string_equal(info->thumbprint, thumbprint);
    assert_true(info->not_before_ms == from);
    assert_true(info->not_after_ms == to);
    X509_free(cert);
}

static void
files_of_other_programs(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(files); i++) {
        struct cc_buf pfx = read_object(files[i].file);
        struct pki_pfx_info info = { .subject = "untouched" };
        struct cc_err err = { 0 };
        int rc = check(&pfx, files[i].password, &info, &err);

        if (files[i].want_fault == 0) {
            if (rc != 0)
                fail_msg("%s: %s", files[i].file, err.text);
            assert_string_equal(info.key_type, files[i].want_key_type);
            if (files[i].cert != NULL)
                assert_is_of(&info, files[i].cert);
        } else {
            assert_int_equal(rc, -1);
            assert_int_equal(err.domain, CC_DOM_INPUT);
            assert_int_equal(err.code, files[i].want_fault);
            assert_string_equal(info.subject, "untouched");
            assert_null(strstr(err.text, "est-passwor"));
        }
        cc_buf_free(&pfx);
    }
}

static void
the_subject_is_escaped(void **state)
{
    struct cc_buf pfx = read_object("rsa-3des.pfx");
    struct pki_pfx_info info;

    (void)state;
    assert_int_equal(check(&pfx, PASSWORD, &info, NULL), 0);
    assert_string_equal(info.subject, "CN=user1,O=Example \\\"Quoted\\\"\\, Ltd.,C=DE");
    cc_buf_free(&pfx);
}

/* ---- spoiled files ---- */

static const char *const spoiled[] = { "ec256-aes.pfx", "ec521-rc2.pfx" };

static void
cut_short_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(spoiled); i++) {
        struct cc_buf pfx = read_object(spoiled[i]);
        size_t whole = pfx.len;

        for (pfx.len = 0; pfx.len < whole; pfx.len++) {
            struct pki_pfx_info info;
            struct cc_err err = { 0 };

            assert_int_equal(check(&pfx, PASSWORD, &info, &err), -1);
            assert_int_equal(err.domain, CC_DOM_INPUT);
        }
        pfx.len = whole;
        assert_int_equal(cc_buf_add_u8(&pfx, 0, NULL), 0);
        assert_int_equal(check(&pfx, PASSWORD, &(struct pki_pfx_info){ 0 }, NULL), -1);
        cc_buf_free(&pfx);
    }
}

/* What the MAC does not cover (the version, say) may be flipped and make no difference, and never another one. */
static void
flipped_bits_never_show_another_certificate(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(spoiled); i++) {
        struct cc_buf pfx = read_object(spoiled[i]);
        struct pki_pfx_info whole;
        size_t opened = 0;

        assert_int_equal(check(&pfx, PASSWORD, &whole, NULL), 0);
        for (size_t at = 0; at < pfx.len; at++) {
            uint8_t bit = (uint8_t)(1U << at % 8);
            struct pki_pfx_info info;
            struct cc_err err = { 0 };

            pfx.data[at] ^= bit;
            if (check(&pfx, PASSWORD, &info, &err) == 0) {
                assert_string_equal(info.thumbprint, whole.thumbprint);
                opened++;
            } else {
                assert_int_equal(err.domain, CC_DOM_INPUT);
            }
            pfx.data[at] ^= bit;
        }
        assert_true(opened < 20);
        cc_buf_free(&pfx);
    }
}

/* Each place where an iteration count stands asks for 8 million: refused, and at once. */
static void
an_iteration_bomb_is_refused_before_any_work(void **state)
{
    static const uint8_t count[] = { 0x02, 0x03, 0x09, 0x27, 0xc1 }; /* INTEGER 600001 */
    static const uint8_t bomb[] = { 0x02, 0x03, 0x7f, 0xff, 0xff };
    static const uint8_t negative[] = { 0x02, 0x03, 0xff, 0xff, 0xff };
    struct cc_buf pfx = read_object("iterations.pfx");
    int64_t begun = cc_clock_mono_ms();
    int places = 0;

    (void)state;
    for (size_t at = 0; at + sizeof(count) <= pfx.len; at++) {
        struct pki_pfx_info info;
        struct cc_err err = { 0 };

        if (memcmp(pfx.data + at, count, sizeof(count)) != 0)
            continue;
        places++;
        memcpy(pfx.data + at, bomb, sizeof(bomb));
        assert_int_equal(check(&pfx, PASSWORD, &info, &err), -1);
        assert_int_equal(err.code, PKI_PFX_LIMIT);
        memcpy(pfx.data + at, negative, sizeof(negative));
        cc_err_clear(&err);
        assert_int_equal(check(&pfx, PASSWORD, &info, &err), -1);
        assert_int_equal(err.code, PKI_PFX_MALFORMED);
        memcpy(pfx.data + at, count, sizeof(count));
    }
    assert_int_equal(places, 3);
    assert_true(cc_clock_mono_ms() - begun < 1000);
    cc_buf_free(&pfx);
}

static void
a_file_or_password_above_its_ceiling_is_refused(void **state)
{
    uint8_t *big = calloc(1, PKI_PFX_MAX + 1);
    struct cc_bytes file = { big, PKI_PFX_MAX + 1 };
    struct cc_err err = { 0 };
    struct pki_pfx_info info;

    (void)state;
    assert_int_equal(pki_pfx_check(file, cc_bytes_of_str(PASSWORD), &info, &err), -1);
    assert_int_equal(err.code, PKI_PFX_LIMIT);

    cc_err_clear(&err);
    file.len = 100;
    assert_int_equal(pki_pfx_check(file, (struct cc_bytes){ big, 1025 }, &info, &err), -1);
    assert_int_equal(err.code, PKI_PFX_PASSWORD);
    free(big);
}

/* ---- files made here ---- */

/* A PFX under construction: bags go into one SafeContents. */
struct making {
    STACK_OF(PKCS12_SAFEBAG) *bags;
    STACK_OF(PKCS7) *safes;
};

static struct making
make(void)
{
    struct making m = { sk_PKCS12_SAFEBAG_new_null(), sk_PKCS7_new_null() };

    return m;
}

/* id: its localKeyID, or NULL. */
static void
add_cert(struct making *m, const char *name, const char *id)
{
    X509 *cert = read_cert(name);
    PKCS12_SAFEBAG *bag = PKCS12_add_cert(&m->bags, cert);

    assert_non_null(bag);
    if (id != NULL)
        assert_int_equal(
                PKCS12_add_localkeyid(bag, (unsigned char *)(uintptr_t)id, (int)strlen(id)), 1);
    X509_free(cert);
}

/* nid: of a PBE; 0: not encrypted. */
static void
add_key(struct making *m, const char *name, const char *id, int nid)
{
    EVP_PKEY *key = read_key(name);
    PKCS12_SAFEBAG *bag =
            PKCS12_add_key(&m->bags, key, 0, 1, nid != 0 ? nid : -1, nid != 0 ? PASSWORD : NULL);

    assert_non_null(bag);
    if (id != NULL)
        assert_int_equal(
                PKCS12_add_localkeyid(bag, (unsigned char *)(uintptr_t)id, (int)strlen(id)), 1);
    EVP_PKEY_free(key);
}

/* The bags so far become one safe; nid -1: not encrypted. */
static void
end_safe(struct making *m, int nid)
{
    assert_int_equal(PKCS12_add_safe(&m->safes, m->bags, nid, 1, PASSWORD), 1);
    sk_PKCS12_SAFEBAG_pop_free(m->bags, PKCS12_SAFEBAG_free);
    m->bags = sk_PKCS12_SAFEBAG_new_null();
}

/* The bags so far become one bag. */
static void
nest(struct making *m)
{
    PKCS12_SAFEBAG *bag = PKCS12_SAFEBAG_new();
    struct making outer = { sk_PKCS12_SAFEBAG_new_null(), NULL };
    unsigned char *der = NULL, *inner = NULL;
    const unsigned char *at;
    int inner_len, len;

    /* No call makes a safeContentsBag, so it is put together: SEQUENCE { OID, [0] { SafeContents } }. */
    inner_len = ASN1_item_i2d((ASN1_VALUE *)m->bags, &inner, ASN1_ITEM_rptr(PKCS12_SAFEBAGS));
    assert_true(inner_len > 0);
    {
        static const uint8_t oid[] = { 0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c,
            0x0a, 0x01, 0x06 };
        int value_len = ASN1_object_size(1, inner_len, 0);
        unsigned char *out;

        len = ASN1_object_size(1, (int)sizeof(oid) + value_len, V_ASN1_SEQUENCE);
        out = der = malloc((size_t)len);
        ASN1_put_object(&out, 1, (int)sizeof(oid) + value_len, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
        memcpy(out, oid, sizeof(oid));
        out += sizeof(oid);
        ASN1_put_object(&out, 1, inner_len, 0, V_ASN1_CONTEXT_SPECIFIC);
        memcpy(out, inner, (size_t)inner_len);
    }
    PKCS12_SAFEBAG_free(bag);
    at = der;
    bag = d2i_PKCS12_SAFEBAG(NULL, &at, len);
    assert_non_null(bag);
    assert_true(sk_PKCS12_SAFEBAG_push(outer.bags, bag) > 0);
    sk_PKCS12_SAFEBAG_pop_free(m->bags, PKCS12_SAFEBAG_free);
    m->bags = outer.bags;
    OPENSSL_free(inner);
    free(der);
}

static struct cc_buf
end_file(struct making *m)
{
    PKCS12 *p12 = PKCS12_add_safes(m->safes, 0);
    struct cc_buf pfx = CC_BUF_INIT(PKI_PFX_MAX);
    unsigned char *der = NULL;
    int len;

    assert_non_null(p12);
    assert_int_equal(PKCS12_set_mac(p12, PASSWORD, -1, NULL, 0, 1, EVP_sha256()), 1);
    len = i2d_PKCS12(p12, &der);
    assert_true(len > 0);
    assert_int_equal(cc_buf_add(&pfx, der, (size_t)len, NULL), 0);
    OPENSSL_free(der);
    PKCS12_free(p12);
    sk_PKCS7_pop_free(m->safes, PKCS7_free);
    sk_PKCS12_SAFEBAG_pop_free(m->bags, PKCS12_SAFEBAG_free);
    return pfx;
}

/* want_cert NULL: refused with want_fault. */
static void
assert_made(struct making *m, const char *want_cert, int want_fault)
{
    struct cc_buf pfx = end_file(m);
    struct pki_pfx_info info;
    struct cc_err err = { 0 };
    int rc = check(&pfx, PASSWORD, &info, &err);

    if (want_cert != NULL) {
        if (rc != 0)
            fail_msg("%s", err.text);
        assert_is_of(&info, want_cert);
    } else {
        assert_int_equal(rc, -1);
        assert_int_equal(err.domain, CC_DOM_INPUT);
        assert_int_equal(err.code, want_fault);
    }
    cc_buf_free(&pfx);
}

#define DES3 NID_pbe_WithSHA1And3_Key_TripleDES_CBC

static void
the_certificate_is_that_of_the_key(void **state)
{
    struct making m;

    (void)state;
    /* told by localKeyID, wherever it stands */
    m = make();
    add_cert(&m, "ca.der", NULL);
    add_cert(&m, "ec256.der", "2");
    add_cert(&m, "rsa.der", "1");
    end_safe(&m, DES3);
    add_key(&m, "rsa-key.pem", "1", DES3);
    end_safe(&m, -1);
    assert_made(&m, "rsa.der", 0);

    /* the only one needs no mark, even if the key has one */
    m = make();
    add_cert(&m, "rsa.der", NULL);
    add_key(&m, "rsa-key.pem", "1", DES3);
    end_safe(&m, DES3);
    assert_made(&m, "rsa.der", 0);

    /* of two without a mark it is not guessed */
    m = make();
    add_cert(&m, "ca.der", NULL);
    add_cert(&m, "rsa.der", NULL);
    add_key(&m, "rsa-key.pem", NULL, DES3);
    end_safe(&m, DES3);
    assert_made(&m, NULL, PKI_PFX_CERTIFICATE);

    m = make();
    add_key(&m, "rsa-key.pem", "1", DES3);
    end_safe(&m, DES3);
    assert_made(&m, NULL, PKI_PFX_CERTIFICATE);

    /* a key that is not encrypted, inside a safe that is */
    m = make();
    add_key(&m, "rsa-key.pem", "1", 0);
    add_cert(&m, "rsa.der", "1");
    end_safe(&m, NID_aes_128_cbc);
    assert_made(&m, "rsa.der", 0);
}

static void
nested_bags_are_found_and_bounded(void **state)
{
    struct making m;

    (void)state;
    for (int depth = 1; depth <= 6; depth++) {
        m = make();
        add_cert(&m, "rsa.der", "1");
        add_key(&m, "rsa-key.pem", "1", DES3);
        for (int i = 0; i < depth; i++)
            nest(&m);
        end_safe(&m, depth % 2 != 0 ? DES3 : -1);
        if (depth <= 4)
            assert_made(&m, "rsa.der", 0);
        else
            assert_made(&m, NULL, PKI_PFX_LIMIT);
    }
}

static void
bags_and_safes_are_counted(void **state)
{
    static const struct {
        int bags, nested, safes;
        bool fits;
    } cases[] = {
        { 63, 0, 0, true }, /* with the key */
        { 64, 0, 0, false },
        { 30, 32, 0, true }, /* with the key and the bag they are nested in */
        { 30, 33, 0, false },
        { 1, 0, 14, true },
        { 1, 0, 16, false },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct making m = make();

        for (int n = 0; n < cases[i].nested; n++)
            add_cert(&m, "ec256.der", NULL);
        if (cases[i].nested > 0)
            nest(&m);
        for (int n = 0; n < cases[i].bags; n++)
            add_cert(&m, n == 0 ? "rsa.der" : "ec256.der", n == 0 ? "1" : NULL);
        end_safe(&m, -1);
        add_key(&m, "rsa-key.pem", "1", DES3);
        end_safe(&m, -1);
        for (int n = 0; n < cases[i].safes; n++)
            end_safe(&m, -1);
        if (cases[i].fits)
            assert_made(&m, "rsa.der", 0);
        else
            assert_made(&m, NULL, PKI_PFX_LIMIT);
    }
}

/* A ContentInfo of this type with an empty content, or with none at all. */
static PKCS7 *
odd_content(int nid, bool with_content)
{
    PKCS7 *odd = PKCS7_new();

    assert_non_null(odd);
    if (!with_content) {
        odd->type = OBJ_nid2obj(nid);
        return odd;
    }
    assert_int_equal(PKCS7_set_type(odd, nid), 1);
    if (nid == NID_pkcs7_signed)
        assert_int_equal(PKCS7_content_new(odd, NID_pkcs7_data), 1);
    return odd;
}

static void
other_content_is_refused(void **state)
{
    static const struct {
        int nid;
        bool with_content;
    } odds[] = {
        { NID_pkcs7_signed, true },
        { NID_pkcs7_data, true },
        { NID_pkcs7_data, false },
        { NID_pkcs7_encrypted, false },
        { NID_pkcs7_enveloped, false },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(odds); i++) {
        struct making m = make();

        add_cert(&m, "rsa.der", "1");
        add_key(&m, "rsa-key.pem", "1", DES3);
        end_safe(&m, -1);
        assert_true(sk_PKCS7_push(m.safes, odd_content(odds[i].nid, odds[i].with_content)) > 0);
        assert_made(&m, NULL, PKI_PFX_MALFORMED);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_other_programs),
        cmocka_unit_test(the_subject_is_escaped),
        cmocka_unit_test(cut_short_anywhere_is_refused),
        cmocka_unit_test(flipped_bits_never_show_another_certificate),
        cmocka_unit_test(an_iteration_bomb_is_refused_before_any_work),
        cmocka_unit_test(a_file_or_password_above_its_ceiling_is_refused),
        cmocka_unit_test(the_certificate_is_that_of_the_key),
        cmocka_unit_test(nested_bags_are_found_and_bounded),
        cmocka_unit_test(bags_and_safes_are_counted),
        cmocka_unit_test(other_content_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
