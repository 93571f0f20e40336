/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/json.h"
#include "intune/intune_int.h"

/* Assertions signed with keys of this process, taken apart and verified by OpenSSL. */

#define NOW_MS INT64_C(1794000000987)
#define AUDIENCE "https://login.example/contoso.example/oauth2/v2.0/token"
#define CLIENT "11111111-2222-3333-4444-555555555555"

struct signer {
    EVP_PKEY *key, *other, *ec;
    char folder[64];
    char file[96], chain_file[96], other_file[96], ec_file[96], no_file[96];
    X509 *certificate, *other_certificate;
};

static X509 *
certify(EVP_PKEY *key)
{
    X509 *certificate = X509_new();

    assert_true(X509_set_version(certificate, 2) == 1 &&
                ASN1_INTEGER_set(X509_get_serialNumber(certificate), 7) == 1 &&
                X509_gmtime_adj(X509_getm_notBefore(certificate), -60) != NULL &&
                X509_gmtime_adj(X509_getm_notAfter(certificate), 3600) != NULL &&
                X509_set_pubkey(certificate, key) == 1 &&
                X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static void
write_pem(const char *path, X509 *first, X509 *second)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    (void)fputs("what stands in front does not matter\n", file);
    assert_int_equal(PEM_write_X509(file, first), 1);
    if (second != NULL)
        assert_int_equal(PEM_write_X509(file, second), 1);
    assert_int_equal(fclose(file), 0);
}

static int
setup(void **state)
{
    struct signer *s = calloc(1, sizeof(*s));
    X509 *ec;

    assert_non_null(s);
    s->key = EVP_RSA_gen(2048);
    s->other = EVP_RSA_gen(2048);
    s->ec = EVP_EC_gen("P-256");
    assert_true(s->key != NULL && s->other != NULL && s->ec != NULL);
    s->certificate = certify(s->key);
    s->other_certificate = certify(s->other);
    ec = certify(s->ec);
    (void)snprintf(s->folder, sizeof(s->folder), "/tmp/cc-test-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    (void)snprintf(s->file, sizeof(s->file), "%s/own", s->folder);
    (void)snprintf(s->chain_file, sizeof(s->chain_file), "%s/chain", s->folder);
    (void)snprintf(s->other_file, sizeof(s->other_file), "%s/other", s->folder);
    (void)snprintf(s->ec_file, sizeof(s->ec_file), "%s/ec", s->folder);
    (void)snprintf(s->no_file, sizeof(s->no_file), "%s/none", s->folder);
    write_pem(s->file, s->certificate, NULL);
    write_pem(s->chain_file, s->certificate, s->other_certificate);
    write_pem(s->other_file, s->other_certificate, NULL);
    write_pem(s->ec_file, ec, NULL);
    X509_free(ec);
    *state = s;
    return 0;
}

static int
teardown(void **state)
{
    struct signer *s = *state;

    (void)unlink(s->file);
    (void)unlink(s->chain_file);
    (void)unlink(s->other_file);
    (void)unlink(s->ec_file);
    (void)rmdir(s->folder);
    X509_free(s->certificate);
    X509_free(s->other_certificate);
    EVP_PKEY_free(s->key);
    EVP_PKEY_free(s->other);
    EVP_PKEY_free(s->ec);
    free(s);
    return 0;
}

/* ---- taking it apart ---- */

static void
decode(const char *text, size_t len, struct cc_buf *ret)
{
    char plain[32768];

    assert_true(len + 4 < sizeof(plain));
    for (size_t i = 0; i < len; i++) {
        assert_null(strchr("+/=", text[i]));
        plain[i] = (char)(text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i]);
    }
    while (len % 4 != 0)
        plain[len++] = '=';
    plain[len] = '\0';
    assert_int_equal(cc_unbase64(plain, ret, NULL), 0);
}

struct parts {
    json_object *header, *claims;
    size_t signed_len; /* of the text that is signed */
    struct cc_buf signature;
};

static void
take_apart(const char *text, struct parts *ret)
{
    const char *first = strchr(text, '.'), *second = first == NULL ? NULL : strchr(first + 1, '.');
    struct cc_buf header = CC_BUF_INIT(32768), claims = CC_BUF_INIT(32768);

    *ret = (struct parts){ .signature = CC_BUF_INIT(4096) };
    assert_non_null(second);
    assert_null(strchr(second + 1, '.'));
    decode(text, (size_t)(first - text), &header);
    decode(first + 1, (size_t)(second - first) - 1, &claims);
    decode(second + 1, strlen(second + 1), &ret->signature);
    ret->signed_len = (size_t)(second - text);
    ret->header = cc_json_parse(header.data, header.len, NULL);
    ret->claims = cc_json_parse(claims.data, claims.len, NULL);
    assert_non_null(ret->header);
    assert_non_null(ret->claims);
    cc_buf_free(&header);
    cc_buf_free(&claims);
}

static void
parts_free(struct parts *parts)
{
    json_object_put(parts->header);
    json_object_put(parts->claims);
    cc_buf_free(&parts->signature);
}

static bool
verifies(const struct parts *parts, const char *text, EVP_PKEY *key, bool pss)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_ctx = NULL;
    bool good;

    assert_int_equal(EVP_DigestVerifyInit(ctx, &key_ctx, EVP_sha256(), NULL, key), 1);
    if (pss)
        assert_true(EVP_PKEY_CTX_set_rsa_padding(key_ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
                    EVP_PKEY_CTX_set_rsa_pss_saltlen(key_ctx, 32) == 1 &&
                    EVP_PKEY_CTX_set_rsa_mgf1_md(key_ctx, EVP_sha256()) == 1);
    good = EVP_DigestVerify(ctx, parts->signature.data, parts->signature.len,
                   (const unsigned char *)text, parts->signed_len) == 1;
    EVP_MD_CTX_free(ctx);
    return good;
}

static const char *
text_of(json_object *json, const char *name)
{
    const char *text = NULL;

    assert_int_equal(cc_json_need_str(json, name, 65536, &text, NULL), 0);
    return text;
}

/* A number without fraction. */
static int64_t
number_of(json_object *json, const char *name)
{
    json_object *number = NULL;

    assert_true(json_object_object_get_ex(json, name, &number));
    assert_true(json_object_is_type(number, json_type_int));
    return json_object_get_int64(number);
}

static void
assert_thumbprint(json_object *header, const char *name, X509 *certificate, const EVP_MD *md)
{
    struct cc_buf got = CC_BUF_INIT(64);
    unsigned char want[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    assert_int_equal(X509_digest(certificate, md, want, &len), 1);
    decode(text_of(header, name), strlen(text_of(header, name)), &got);
    assert_int_equal(got.len, len);
    assert_memory_equal(got.data, want, len);
    cc_buf_free(&got);
}

static void
sign(const struct intune_assertion *assertion, EVP_PKEY *key, struct cc_buf *ret)
{
    const struct intune_claims claims = { AUDIENCE, CLIENT, NOW_MS };
    struct cc_err err = { 0 };

    if (intune_assertion_sign(assertion, key, &claims, ret, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
}

/* ---- the tests ---- */

static void
each_part(void **state)
{
    const struct signer *s = *state;
    static const struct {
        enum intune_assertion_alg alg;
        const char *want_alg;
        bool want_pss;
    } cases[] = { { INTUNE_PS256, "PS256", true }, { INTUNE_RS256, "RS256", false } };

    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        const struct intune_assertion assertion = { .certificate = s->file, .alg = cases[i].alg };
        struct cc_buf text = CC_BUF_INIT(65536);
        struct parts parts;

        sign(&assertion, s->key, &text);
        take_apart(cc_buf_str(&text), &parts);
        assert_true(verifies(&parts, cc_buf_str(&text), s->key, cases[i].want_pss));
        assert_false(verifies(&parts, cc_buf_str(&text), s->key, !cases[i].want_pss));
        assert_false(verifies(&parts, cc_buf_str(&text), s->other, cases[i].want_pss));

        assert_string_equal(text_of(parts.header, "alg"), cases[i].want_alg);
        assert_string_equal(text_of(parts.header, "typ"), "JWT");
        assert_thumbprint(parts.header, "x5t", s->certificate, EVP_sha1());
        assert_thumbprint(parts.header, "x5t#S256", s->certificate, EVP_sha256());
        assert_int_equal(json_object_object_length(parts.header), 4);

        assert_string_equal(text_of(parts.claims, "aud"), AUDIENCE);
        assert_string_equal(text_of(parts.claims, "iss"), CLIENT);
        assert_string_equal(text_of(parts.claims, "sub"), CLIENT);
        assert_true(cc_is_uuid(text_of(parts.claims, "jti")));
        assert_int_equal(number_of(parts.claims, "iat"), NOW_MS / 1000);
        assert_int_equal(number_of(parts.claims, "nbf"), NOW_MS / 1000);
        assert_int_equal(number_of(parts.claims, "exp"), NOW_MS / 1000 + 600);
        assert_int_equal(json_object_object_length(parts.claims), 7);
        parts_free(&parts);
        cc_buf_free(&text);
    }
}

static void
chain_when_wanted(void **state)
{
    const struct signer *s = *state;
    const struct intune_assertion assertion = { .certificate = s->chain_file, .chain = true };
    struct cc_buf text = CC_BUF_INIT(65536), der = CC_BUF_INIT(65536);
    json_object *list = NULL;
    struct parts parts;
    X509 *const want[] = { s->certificate, s->other_certificate };

    sign(&assertion, s->key, &text);
    take_apart(cc_buf_str(&text), &parts);
    assert_int_equal(cc_json_get_array(parts.header, "x5c", &list, NULL), 0);
    assert_int_equal(json_object_array_length(list), CC_COUNT(want));
    for (size_t i = 0; i < CC_COUNT(want); i++) {
        unsigned char *made = NULL;
        int len = i2d_X509(want[i], &made);

        cc_buf_reset(&der);
        assert_int_equal(
                cc_unbase64(json_object_get_string(json_object_array_get_idx(list, i)), &der, NULL),
                0);
        assert_int_equal(der.len, len);
        assert_memory_equal(der.data, made, der.len);
        OPENSSL_free(made);
    }
    parts_free(&parts);
    cc_buf_free(&der);
    cc_buf_free(&text);
}

static void
never_the_same_id(void **state)
{
    const struct signer *s = *state;
    const struct intune_assertion assertion = { .certificate = s->file };
    char ids[2][CC_UUID_LEN];

    for (size_t i = 0; i < CC_COUNT(ids); i++) {
        struct cc_buf text = CC_BUF_INIT(65536);
        struct parts parts;

        sign(&assertion, s->key, &text);
        take_apart(cc_buf_str(&text), &parts);
        (void)cc_strcpy(ids[i], sizeof(ids[i]), text_of(parts.claims, "jti"));
        parts_free(&parts);
        cc_buf_free(&text);
    }
    assert_string_not_equal(ids[0], ids[1]);
}

/* Nothing is signed that nobody could verify. */
static void
certificate_of_another_key(void **state)
{
    const struct signer *s = *state;
    const struct intune_claims claims = { AUDIENCE, CLIENT, NOW_MS };
    struct intune_assertion assertion = { .certificate = s->other_file };
    struct cc_buf text = CC_BUF_INIT(65536);
    struct cc_err err = { 0 };

    assert_int_equal(intune_assertion_sign(&assertion, s->key, &claims, &text, &err), -1);
    assert_int_equal(err.domain, CC_DOM_CONFIG);
    assert_non_null(strstr(err.text, s->other_file));
    assert_non_null(strstr(err.text, "is of another key"));
    assert_int_equal(text.len, 0);
    cc_buf_free(&text);
}

/* What is wrong with the file is said when it is configured. */
static void
files_that_are_no_use(void **state)
{
    const struct signer *s = *state;
    const struct {
        const char *file, *want;
    } cases[] = {
        { s->no_file, "No such file" },
        { "/dev/null", "no certificate in PEM" },
        { s->ec_file, "only keys that are RSA" },
    };

    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        const struct intune_assertion from = { .certificate = cases[i].file };
        struct intune_assertion to = { .certificate = NULL };
        struct cc_err err = { 0 };

        assert_int_equal(intune_assertion_copy(&from, &to, &err), -1);
        assert_int_equal(err.domain, CC_DOM_CONFIG);
        assert_non_null(strstr(err.text, cases[i].want));
        intune_assertion_free(&to);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_part, setup, teardown),
        cmocka_unit_test_setup_teardown(chain_when_wanted, setup, teardown),
        cmocka_unit_test_setup_teardown(never_the_same_id, setup, teardown),
        cmocka_unit_test_setup_teardown(certificate_of_another_key, setup, teardown),
        cmocka_unit_test_setup_teardown(files_that_are_no_use, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
