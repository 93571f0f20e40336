/* SPDX-License-Identifier: MIT */
#include "pki/keyspec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#define ALL ((1u << PKI_KEYSPECS) - 1)

/* Takes n and e over. */
static EVP_PKEY *
rsa_of(BIGNUM *take_n, BIGNUM *take_e)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params;

    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, take_n);
    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, take_e);
    params = OSSL_PARAM_BLD_to_param(build);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params), 1);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    BN_free(take_n);
    BN_free(take_e);
    return key;
}

static BIGNUM *
number(unsigned long value)
{
    BIGNUM *n = BN_new();

    BN_set_word(n, value);
    return n;
}

static BIGNUM *
product(const BIGNUM *a, const BIGNUM *b)
{
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *n = BN_new();

    assert_int_equal(BN_mul(n, a, b, ctx), 1);
    BN_CTX_free(ctx);
    return n;
}

static BIGNUM *
prime(int bits)
{
    BIGNUM *p = BN_new();

    assert_int_equal(BN_generate_prime_ex(p, bits, 0, NULL, NULL, NULL), 1);
    BN_set_bit(p, bits - 1);
    return p;
}

static BIGNUM *
good_modulus(int bits)
{
    EVP_PKEY *key = EVP_RSA_gen((unsigned)bits);
    BIGNUM *n = NULL;

    assert_int_equal(EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n), 1);
    EVP_PKEY_free(key);
    return n;
}

/* Two primes close together. */
static BIGNUM *
close_modulus(void)
{
    BIGNUM *p = prime(1024), *q = BN_dup(p), *n;

    do {
        BN_add_word(q, 2);
    } while (BN_check_prime(q, NULL, NULL) != 1);
    n = product(p, q);
    BN_free(p);
    BN_free(q);
    return n;
}

static BIGNUM *
small_factor_modulus(void)
{
    BIGNUM *p = prime(2040), *small = number(751), *n = product(p, small);

    BN_free(p);
    BN_free(small);
    return n;
}

/* A prime k * M + (65537^a mod M), M the product of the first primes. */
static BIGNUM *
roca_factor(unsigned long a)
{
    static const unsigned primes[] = { 2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53,
        59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151,
        157, 163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239, 241, 251,
        257, 263, 269, 271, 277, 281, 283, 293, 307, 311, 313, 317, 331, 337, 347, 349, 353 };
    BN_CTX *ctx = BN_CTX_new();
    BIGNUM *m = number(1), *power = BN_new(), *base = number(65537), *exponent = number(a);
    BIGNUM *k = BN_new(), *p = BN_new();

    for (size_t i = 0; i < CC_COUNT(primes); i++)
        BN_mul_word(m, primes[i]);
    assert_int_equal(BN_mod_exp(power, base, exponent, m, ctx), 1);
    do {
        BN_rand(k, 1024 - BN_num_bits(m), BN_RAND_TOP_TWO, BN_RAND_BOTTOM_ANY);
        assert_int_equal(BN_mul(p, k, m, ctx), 1);
        BN_add(p, p, power);
    } while (BN_check_prime(p, ctx, NULL) != 1);
    BN_free(m);
    BN_free(power);
    BN_free(base);
    BN_free(exponent);
    BN_free(k);
    BN_CTX_free(ctx);
    return p;
}

static BIGNUM *
roca_modulus(void)
{
    BIGNUM *p = roca_factor(123457), *q = roca_factor(7654321), *n = product(p, q);

    BN_free(p);
    BN_free(q);
    return n;
}

static BIGNUM *
even_modulus(void)
{
    BIGNUM *n = good_modulus(2048);

    BN_clear_bit(n, 0);
    return n;
}

static BIGNUM *
modulus_2048(void)
{
    return good_modulus(2048);
}

static BIGNUM *
modulus_1024(void)
{
    return good_modulus(1024);
}

static BIGNUM *
modulus_2040(void)
{
    return good_modulus(2040);
}

static BIGNUM *
large_exponent(void)
{
    BIGNUM *e = number(1);

    BN_lshift(e, e, 300);
    BN_add_word(e, 1);
    return e;
}

static const struct {
    BIGNUM *(*modulus)(void);
    unsigned long exponent; /* 0: a large one */
    const char *want;       /* NULL: good */
} rsa_cases[] = {
    { modulus_2048, 65537, NULL },
    { modulus_2048, 3, "below 65537" },
    { modulus_2048, 65536, "even" },
    { modulus_2048, 0, "too large" },
    { modulus_1024, 65537, "1024 bits" },
    { modulus_2040, 65537, "2040 bits" },
    { even_modulus, 65537, "modulus is even" },
    { small_factor_modulus, 65537, "small prime factor" },
    { close_modulus, 65537, "close together" },
    { roca_modulus, 65537, "CVE-2017-15361" },
};

static void
test_rsa_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(rsa_cases); i++) {
        unsigned long e = rsa_cases[i].exponent;
        EVP_PKEY *key = rsa_of(rsa_cases[i].modulus(), e != 0 ? number(e) : large_exponent());
        struct cc_err err = { 0 };
        int rc = pki_key_check(key, ALL, &err);

        if (rc != (rsa_cases[i].want == NULL ? 0 : -1))
            fail_msg("%zu: %s", i, err.text);
        if (rc != 0 && strstr(err.text, rsa_cases[i].want) == NULL)
            fail_msg("%zu: %s", i, err.text);
        EVP_PKEY_free(key);
    }
}

static const struct {
    const char *group;
    const char *want;
} ec_cases[] = {
    { "prime256v1", NULL },
    { "secp384r1", NULL },
    { "secp521r1", "not certified" },
    { "secp256k1", "not certified" },
};

static void
test_other_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(ec_cases); i++) {
        EVP_PKEY *key = EVP_EC_gen(ec_cases[i].group);
        struct cc_err err = { 0 };

        assert_int_equal(pki_key_check(key, ALL, &err), ec_cases[i].want == NULL ? 0 : -1);
        if (ec_cases[i].want != NULL)
            assert_non_null(strstr(err.text, ec_cases[i].want));
        EVP_PKEY_free(key);
    }
    EVP_PKEY *edwards = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    assert_int_equal(pki_key_check(edwards, ALL, NULL), -1);
    EVP_PKEY_free(edwards);
}

static void
test_kinds(void **state)
{
    (void)state;
    for (int i = 0; i < PKI_KEYSPECS; i++) {
        const enum pki_keyspec spec = (enum pki_keyspec)i;
        EVP_PKEY *key = NULL;
        struct cc_err err = { 0 };

        assert_int_equal(pki_keyspec_parse(pki_keyspec_name(spec)), i);
        /* 4096 bits take seconds to make, and are made like 3072. */
        if (spec == PKI_RSA4096)
            continue;
        assert_int_equal(pki_key_generate(spec, &key, NULL), 0);
        assert_int_equal(pki_keyspec_of(key), i);
        assert_int_equal(pki_key_check(key, 1u << i, NULL), 0);
        assert_int_equal(pki_key_check(key, ALL & ~(1u << i), &err), -1);
        assert_non_null(strstr(err.text, pki_keyspec_name(spec)));
        EVP_PKEY_free(key);
    }
    assert_int_equal(pki_keyspec_parse("rsa1024"), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rsa_keys),
        cmocka_unit_test(test_other_keys),
        cmocka_unit_test(test_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
