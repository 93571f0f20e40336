/* SPDX-License-Identifier: MIT */
#include "pki/pfx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pkcs12.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "issuer.h"

/* What we build is opened by our own reader, by OpenSSL, and by the programs of OpenSSL, NSS and GnuTLS. */

#define PASSWORD "Abc-012_xyzABCDEFGHIJKLMNOPQRSTUV"

static const char *const kinds[] = { "rsa", "P-256", "P-384" };

static struct world {
    EVP_PKEY *keys[CC_COUNT(kinds)], *ca_key;
    X509 *certs[CC_COUNT(kinds)], *ca;
    struct cc_buf ders[CC_COUNT(kinds)], ca_der;
    char folder[32];
} world;

static void
to_der(X509 *cert, struct cc_buf *ret)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);

    assert_true(len > 0);
    cc_buf_init(ret, FILE_BYTES);
    assert_int_equal(cc_buf_add(ret, der, (size_t)len, NULL), 0);
    OPENSSL_free(der);
}

static int
group_setup(void **state)
{
    struct pki_issuer by;

    (void)state;
    world.ca_key = make_key("rsa");
    world.ca = make_cert("Test CA", world.ca_key, NULL);
    to_der(world.ca, &world.ca_der);
    by = (struct pki_issuer){ .certificate = world.ca, .key = world.ca_key };
    for (size_t i = 0; i < CC_COUNT(kinds); i++) {
        world.keys[i] = make_key(kinds[i]);
        world.certs[i] = make_cert(kinds[i], world.keys[i], &by);
        to_der(world.certs[i], &world.ders[i]);
    }
    (void)snprintf(world.folder, sizeof(world.folder), "/tmp/cc-pfx-XXXXXX");
    return mkdtemp(world.folder) == NULL;
}

static int
group_teardown(void **state)
{
    char command[64];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(kinds); i++) {
        EVP_PKEY_free(world.keys[i]);
        X509_free(world.certs[i]);
        cc_buf_free(&world.ders[i]);
    }
    EVP_PKEY_free(world.ca_key);
    X509_free(world.ca);
    cc_buf_free(&world.ca_der);
    (void)snprintf(command, sizeof(command), "rm -rf %s", world.folder);
    return system(command);
}

static struct pki_pfx_parts
parts_of(size_t kind)
{
    return (struct pki_pfx_parts){
        .key = world.keys[kind],
        .certificate = cc_buf_bytes(&world.ders[kind]),
        .chain = cc_buf_bytes(&world.ca_der),
        .friendly_name = "Device 1",
        .encryption = PKI_PFX_AES256,
    };
}

static struct cc_buf
build(const struct pki_pfx_parts *parts)
{
    struct cc_buf pfx = CC_BUF_INIT(FILE_BYTES);
    struct cc_err err = { 0 };

    if (pki_pfx_build(parts, cc_bytes_of_str(PASSWORD), &pfx, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_int_equal(ERR_peek_error(), 0);
    return pfx;
}

/* ---- opened by ourselves and by OpenSSL ---- */

static void
check_parsed(const struct cc_buf *pfx, size_t kind, int want_chain, const char *want_name)
{
    const unsigned char *at = pfx->data;
    PKCS12 *p12 = d2i_PKCS12(NULL, &at, (long)pfx->len);
    STACK_OF(X509) *chain = NULL;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    int len = 0;
    unsigned char *name;

    assert_non_null(p12);
    assert_ptr_equal(at, pfx->data + pfx->len);
    assert_int_equal(PKCS12_parse(p12, PASSWORD, &key, &cert, &chain), 1);
    assert_int_equal(EVP_PKEY_eq(key, world.keys[kind]), 1);
    assert_int_equal(X509_cmp(cert, world.certs[kind]), 0);
    assert_int_equal(chain == NULL ? 0 : sk_X509_num(chain), want_chain);
    for (int i = 0; i < want_chain; i++)
        assert_int_equal(X509_cmp(sk_X509_value(chain, i), world.ca), 0);
    name = X509_alias_get0(cert, &len);
    assert_int_equal(name != NULL, want_name != NULL);
    if (want_name != NULL) {
        assert_int_equal(len, strlen(want_name));
        assert_memory_equal(name, want_name, strlen(want_name));
    }
    sk_X509_pop_free(chain, X509_free);
    X509_free(cert);
    EVP_PKEY_free(key);
    PKCS12_free(p12);
}

static void
check_ours(const struct cc_buf *pfx, size_t kind)
{
    struct pki_pfx_info info;
    struct cc_err err = { 0 };
    char thumbprint[PKI_THUMBPRINT_LEN];

    if (pki_pfx_check(cc_buf_bytes(pfx), cc_bytes_of_str(PASSWORD), &info, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    assert_int_equal(pki_cert_thumbprint(world.certs[kind], thumbprint, NULL), 0);
    assert_string_equal(info.thumbprint, thumbprint);
    assert_int_equal(pki_pfx_check(cc_buf_bytes(pfx), cc_bytes_of_str(PASSWORD "x"), &info, &err),
            -1);
    assert_int_equal(err.code, PKI_PFX_PASSWORD);
}

static void
every_kind_opens(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < CC_COUNT(kinds); kind++)
        for (int encryption = PKI_PFX_AES256; encryption <= PKI_PFX_COMPAT; encryption++)
            for (int chain = 0; chain <= 2; chain++) {
                struct pki_pfx_parts parts = parts_of(kind);
                struct cc_buf certs = CC_BUF_INIT(FILE_BYTES), pfx;

                for (int i = 0; i < chain; i++)
                    assert_int_equal(cc_buf_add(&certs, world.ca_der.data, world.ca_der.len, NULL),
                            0);
                parts.encryption = (enum pki_pfx_encryption)encryption;
                parts.chain = cc_buf_bytes(&certs);
                if (chain == 1)
                    parts.friendly_name = NULL;
                pfx = build(&parts);
                check_parsed(&pfx, kind, chain, parts.friendly_name);
                check_ours(&pfx, kind);
                cc_buf_free(&pfx);
                cc_buf_free(&certs);
            }
}

/* A name in UTF-8, and what stood in the buffer before. */
static void
is_appended(void **state)
{
    struct pki_pfx_parts parts = parts_of(0);
    struct cc_buf pfx = CC_BUF_INIT(FILE_BYTES), alone = CC_BUF_INIT(FILE_BYTES);

    (void)state;
    parts.friendly_name = "Ger\303\244t 1";
    assert_int_equal(cc_buf_add_str(&pfx, "before", NULL), 0);
    assert_int_equal(pki_pfx_build(&parts, cc_bytes_of_str(PASSWORD), &pfx, NULL), 0);
    assert_memory_equal(pfx.data, "before", 6);
    assert_int_equal(cc_buf_add(&alone, pfx.data + 6, pfx.len - 6, NULL), 0);
    check_parsed(&alone, 0, 1, parts.friendly_name);
    cc_buf_free(&alone);
    cc_buf_free(&pfx);
}

/* ---- the bags ---- */

/* The bags of every safe, with the key still encrypted. */
static STACK_OF(PKCS12_SAFEBAG) *
read_bags(const struct cc_buf *pfx)
{
    const unsigned char *at = pfx->data;
    PKCS12 *p12 = d2i_PKCS12(NULL, &at, (long)pfx->len);
    STACK_OF(PKCS7) *safes = PKCS12_unpack_authsafes(p12);
    STACK_OF(PKCS12_SAFEBAG) *all = sk_PKCS12_SAFEBAG_new_null();

    assert_non_null(safes);
    for (int i = 0; i < sk_PKCS7_num(safes); i++) {
        PKCS7 *safe = sk_PKCS7_value(safes, i);
        STACK_OF(PKCS12_SAFEBAG) *bags =
                OBJ_obj2nid(safe->type) == NID_pkcs7_data
                        ? PKCS12_unpack_p7data(safe)
                        : PKCS12_unpack_p7encdata(safe, PASSWORD, (int)strlen(PASSWORD));

        assert_non_null(bags);
        while (sk_PKCS12_SAFEBAG_num(bags) > 0)
            assert_true(sk_PKCS12_SAFEBAG_push(all, sk_PKCS12_SAFEBAG_shift(bags)) > 0);
        sk_PKCS12_SAFEBAG_free(bags);
    }
    sk_PKCS7_pop_free(safes, PKCS7_free);
    PKCS12_free(p12);
    return all;
}

/* localKeyID on the key and its certificate, the same, and on no other; never a key in clear. */
static void
key_and_certificate_are_linked(void **state)
{
    (void)state;
    for (int encryption = PKI_PFX_AES256; encryption <= PKI_PFX_COMPAT; encryption++) {
        struct pki_pfx_parts parts = parts_of(1);
        const ASN1_TYPE *of_key = NULL, *of_cert = NULL;
        int keys = 0, certs = 0, linked = 0;
        STACK_OF(PKCS12_SAFEBAG) *bags;
        struct cc_buf pfx;

        parts.encryption = (enum pki_pfx_encryption)encryption;
        pfx = build(&parts);
        bags = read_bags(&pfx);
        for (int i = 0; i < sk_PKCS12_SAFEBAG_num(bags); i++) {
            const PKCS12_SAFEBAG *bag = sk_PKCS12_SAFEBAG_value(bags, i);
            const ASN1_TYPE *id = PKCS12_SAFEBAG_get0_attr(bag, NID_localKeyID);
            const int nid = PKCS12_SAFEBAG_get_nid(bag);

            linked += id != NULL;
            if (nid == NID_pkcs8ShroudedKeyBag) {
                keys++;
                of_key = id;
            } else {
                assert_int_equal(nid, NID_certBag);
                certs++;
                of_cert = id != NULL ? id : of_cert;
            }
        }
        assert_int_equal(keys, 1);
        assert_int_equal(certs, 2);
        assert_int_equal(linked, 2);
        assert_non_null(of_key);
        assert_non_null(of_cert);
        assert_int_equal(ASN1_TYPE_cmp(of_key, of_cert), 0);
        sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
        cc_buf_free(&pfx);
    }
}

/* ---- opened by programs ---- */

/* Output of a command, both streams; *ret_status is its exit code.  %s in format: the file, then the password. */
static void
ask_program(const char *format, const char *password, char *ret, size_t size, int *ret_status)
{
    char path[64], command[512];
    FILE *out;
    size_t len;

    (void)snprintf(path, sizeof(path), "%s/a.pfx", world.folder);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(command, sizeof(command), format, path, password);
#pragma GCC diagnostic pop
    out = popen(command, "r");
    assert_non_null(out);
    len = fread(ret, 1, size - 1, out);
    ret[len] = '\0';
    *ret_status = WEXITSTATUS(pclose(out));
}

static const struct {
    enum pki_pfx_encryption encryption;
    const char *command;
    const char *want[4]; /* in what it says */
} programs[] = {
    { PKI_PFX_AES256, "openssl pkcs12 -info -nodes -in %s -passin pass:%s 2>&1",
            { "MAC: sha256, Iteration 2048",
                    "PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256",
                    "friendlyName: Device 1", "BEGIN PRIVATE KEY" } },
    { PKI_PFX_COMPAT, "openssl pkcs12 -info -nodes -in %s -passin pass:%s 2>&1",
            { "MAC: sha1, Iteration 2048",
                    "Shrouded Keybag: pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048",
                    "PKCS7 Encrypted data: pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048",
                    "BEGIN PRIVATE KEY" } },
    { PKI_PFX_AES256, "pk12util -l %s -W '%s' 2>&1",
            { "Key(shrouded)", "Friendly Name: Device 1", "Test CA", "AES-256-CBC" } },
    { PKI_PFX_COMPAT, "pk12util -l %s -W '%s' 2>&1",
            { "Key(shrouded)", "Friendly Name: Device 1", "Test CA", "Triple DES" } },
    { PKI_PFX_AES256, "certtool --p12-info --inder --infile %s --password '%s' 2>&1",
            { "MAC: SHA256", "PBES2-AES256-CBC", "Friendly name: Device 1",
                    "BEGIN ENCRYPTED PRIVATE KEY" } },
    { PKI_PFX_COMPAT, "certtool --p12-info --inder --infile %s --password '%s' 2>&1",
            { "MAC: SHA1", "PKCS12-3DES-SHA1", "Friendly name: Device 1",
                    "BEGIN ENCRYPTED PRIVATE KEY" } },
};

static void
programs_open_it(void **state)
{
    char path[64], said[32768];
    int status = 0;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/a.pfx", world.folder);
    for (size_t i = 0; i < CC_COUNT(programs) * CC_COUNT(kinds); i++) {
        const size_t which = i / CC_COUNT(kinds);
        struct pki_pfx_parts parts = parts_of(i % CC_COUNT(kinds));
        struct cc_buf pfx;
        FILE *file;

        parts.encryption = programs[which].encryption;
        pfx = build(&parts);
        file = fopen(path, "we");
        assert_non_null(file);
        assert_int_equal(fwrite(pfx.data, 1, pfx.len, file), pfx.len);
        assert_int_equal(fclose(file), 0);
        ask_program(programs[which].command, PASSWORD, said, sizeof(said), &status);
        if (status != 0)
            fail_msg("%s: %d: %s", programs[which].command, status, said);
        for (size_t w = 0; w < CC_COUNT(programs[which].want); w++)
            if (strstr(said, programs[which].want[w]) == NULL)
                fail_msg("%s: no \"%s\" in %s", programs[which].command, programs[which].want[w],
                        said);
        ask_program(programs[which].command, "another", said, sizeof(said), &status);
        if (status == 0 && strstr(said, "Device 1") != NULL)
            fail_msg("%s opens with any password", programs[which].command);
        cc_buf_free(&pfx);
    }
}

/* ---- what must fail ---- */

static void
refuse(const struct pki_pfx_parts *parts, struct cc_bytes password, enum cc_err_domain want)
{
    struct cc_buf pfx = CC_BUF_INIT(FILE_BYTES);
    struct cc_err err = { 0 };

    assert_int_equal(pki_pfx_build(parts, password, &pfx, &err), -1);
    if (err.domain != want)
        fail_msg("%s", cc_err_text(&err));
    assert_int_equal(pfx.len, 0);
    assert_int_equal(ERR_peek_error(), 0);
    cc_buf_free(&pfx);
}

static void
parts_that_do_not_fit(void **state)
{
    const struct cc_bytes password = cc_bytes_of_str(PASSWORD);
    struct cc_buf chain = CC_BUF_INIT(FILE_BYTES), pfx;
    struct pki_pfx_parts parts = parts_of(0);

    (void)state;
    /* another key of the same kind, and of another */
    parts.key = world.ca_key;
    refuse(&parts, password, CC_DOM_INPUT);
    parts.key = world.keys[1];
    refuse(&parts, password, CC_DOM_INPUT);

    parts = parts_of(0);
    parts.certificate.len--;
    refuse(&parts, password, CC_DOM_INPUT);
    parts.certificate.len = 0;
    refuse(&parts, password, CC_DOM_INPUT);

    parts = parts_of(0);
    parts.chain.len--;
    refuse(&parts, password, CC_DOM_INPUT);
    for (int i = 0; i < 17; i++)
        assert_int_equal(cc_buf_add(&chain, world.ca_der.data, world.ca_der.len, NULL), 0);
    parts.chain = cc_buf_bytes(&chain);
    refuse(&parts, password, CC_DOM_INPUT);
    /* one less */
    parts.chain.len -= world.ca_der.len;
    pfx = build(&parts);
    cc_buf_free(&pfx);
    assert_int_equal(cc_buf_add_str(&chain, "garbage", NULL), 0);
    parts.chain = (struct cc_bytes){ chain.data + 16 * world.ca_der.len, world.ca_der.len + 7 };
    refuse(&parts, password, CC_DOM_INPUT);
    cc_buf_free(&chain);
}

static void
passwords_that_are_none(void **state)
{
    static const char long_one[129] = { 0 };
    const struct pki_pfx_parts parts = parts_of(1);
    char text[sizeof(long_one)];

    (void)state;
    memset(text, 'p', sizeof(text));
    refuse(&parts, (struct cc_bytes){ NULL, 0 }, CC_DOM_INTERNAL);
    refuse(&parts, (struct cc_bytes){ (uint8_t *)text, sizeof(text) }, CC_DOM_INTERNAL);
    refuse(&parts, (struct cc_bytes){ (const uint8_t *)"cut\0short", 9 }, CC_DOM_INTERNAL);
    refuse(&parts, cc_bytes_of_str("Gr\366\337e"), CC_DOM_INTERNAL);
    refuse(&parts, cc_bytes_of_str("a\nb"), CC_DOM_INTERNAL);
    refuse(&parts, cc_bytes_of_str("a\177b"), CC_DOM_INTERNAL);
}

static void
names(void **state)
{
    (void)state;
    assert_int_equal(pki_pfx_encryption_parse("aes256"), PKI_PFX_AES256);
    assert_int_equal(pki_pfx_encryption_parse("compat"), PKI_PFX_COMPAT);
    assert_int_equal(pki_pfx_encryption_parse("aes"), -1);
    assert_int_equal(pki_pfx_encryption_parse(""), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_opens),
        cmocka_unit_test(is_appended),
        cmocka_unit_test(key_and_certificate_are_linked),
        cmocka_unit_test(programs_open_it),
        cmocka_unit_test(parts_that_do_not_fit),
        cmocka_unit_test(passwords_that_are_none),
        cmocka_unit_test(names),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
