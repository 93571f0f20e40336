/* SPDX-License-Identifier: MIT */
#include "pki/keyspec.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Keys that look like keys and protect nothing.  What is checked here is what CAs of the web check before they certify
 * (CA/Browser Forum Baseline Requirements, section 6.1.1.3).
 */

#define FERMAT_ROUNDS 100
#define EXPONENT_BITS_MAX 256

static const unsigned small_primes[] = { 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53,
    59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157,
    163, 167, 173, 179, 181, 191, 193, 197, 199, 211, 223, 227, 229, 233, 239, 241, 251, 257, 263,
    269, 271, 277, 281, 283, 293, 307, 311, 313, 317, 331, 337, 347, 349, 353, 359, 367, 373, 379,
    383, 389, 397, 401, 409, 419, 421, 431, 433, 439, 443, 449, 457, 461, 463, 467, 479, 487, 491,
    499, 503, 509, 521, 523, 541, 547, 557, 563, 569, 571, 577, 587, 593, 599, 601, 607, 613, 617,
    619, 631, 641, 643, 647, 653, 659, 661, 673, 677, 683, 691, 701, 709, 719, 727, 733, 739, 743,
    751 };

/* Primes of which the generator of CVE-2017-15361 made its primes: p = k * M + (65537^a mod M), M their product. */
static const unsigned roca_primes[] = { 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59,
    61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163,
    167 };

/*
 * What is left of n modulo each prime; the primes are taken together as long as their product fits a word, since it is
 * the division of n that costs.
 */
static void
residues(const BIGNUM *n, const unsigned *primes, size_t count, unsigned *ret)
{
    for (size_t i = 0, next; i < count; i = next) {
        uint64_t product = primes[i];
        BN_ULONG left;

        for (next = i + 1; next < count && product * primes[next] <= UINT32_MAX; next++)
            product *= primes[next];
        left = BN_mod_word(n, (BN_ULONG)product);
        for (size_t k = i; k < next; k++)
            ret[k] = (unsigned)(left % primes[k]);
    }
}

static bool
has_small_factor(const BIGNUM *n)
{
    unsigned left[CC_COUNT(small_primes)];

    residues(n, small_primes, CC_COUNT(small_primes), left);
    for (size_t i = 0; i < CC_COUNT(small_primes); i++)
        if (left[i] == 0)
            return true;
    return false;
}

/* Whether value is a power of 65537 modulo prime. */
static bool
is_power(unsigned value, unsigned prime)
{
    const unsigned generator = 65537 % prime;
    unsigned power = 1;

    for (unsigned i = 0; i < prime; i++) {
        if (power == value)
            return true;
        power = power * generator % prime;
    }
    return false;
}

/* A product of two such primes is such a power modulo each of them; of another modulus that is as good as impossible. */
static bool
is_roca(const BIGNUM *n)
{
    unsigned left[CC_COUNT(roca_primes)];

    residues(n, roca_primes, CC_COUNT(roca_primes), left);
    for (size_t i = 0; i < CC_COUNT(roca_primes); i++)
        if (!is_power(left[i], roca_primes[i]))
            return false;
    return true;
}

/* The whole part of the square root, by Newton's way from above. */
static int
bn_sqrt(const BIGNUM *n, BIGNUM *ret, BN_CTX *ctx)
{
    BIGNUM *next, *quotient;
    int ok = 0;

    BN_CTX_start(ctx);
    next = BN_CTX_get(ctx);
    quotient = BN_CTX_get(ctx);
    if (quotient == NULL)
        goto out;
    BN_zero(ret);
    if (BN_is_zero(n)) {
        ok = 1;
        goto out;
    }
    if (!BN_set_bit(next, (BN_num_bits(n) + 1) / 2))
        goto out;
    do {
        if (BN_copy(ret, next) == NULL || !BN_div(quotient, NULL, n, ret, ctx) ||
                !BN_add(next, ret, quotient) || !BN_rshift1(next, next))
            goto out;
    } while (BN_cmp(next, ret) < 0);
    ok = 1;
out:
    BN_CTX_end(ctx);
    return ok;
}

/* Most numbers are no squares, and show it in what is left when they are divided by something small. */
static bool
may_be_square(const BIGNUM *n)
{
    static const unsigned moduli[] = { 256, 315, 143, 323 };
    const uint64_t together = (uint64_t)256 * 315 * 143 * 323;
    BN_ULONG all;

    /* An odd square is 1 modulo 8, an even one a multiple of 4: few numbers get as far as a division. */
    if (BN_is_odd(n) ? BN_is_bit_set(n, 1) || BN_is_bit_set(n, 2) : BN_is_bit_set(n, 1))
        return false;
    all = BN_mod_word(n, (BN_ULONG)together);
    for (size_t i = 0; i < CC_COUNT(moduli); i++) {
        const unsigned left = (unsigned)(all % moduli[i]);
        bool residue = false;

        for (unsigned x = 0; x <= moduli[i] / 2 && !residue; x++)
            residue = x * x % moduli[i] == left;
        if (!residue)
            return false;
    }
    return true;
}

static int
is_square(const BIGNUM *n, BN_CTX *ctx, bool *ret_square)
{
    BIGNUM *root, *square;
    int ok = 0;

    *ret_square = false;
    if (!may_be_square(n))
        return 1;
    BN_CTX_start(ctx);
    root = BN_CTX_get(ctx);
    square = BN_CTX_get(ctx);
    if (square != NULL && bn_sqrt(n, root, ctx) && BN_sqr(square, root, ctx)) {
        *ret_square = BN_cmp(square, n) == 0;
        ok = 1;
    }
    BN_CTX_end(ctx);
    return ok;
}

/* Whether n is found to be a * a - b * b with a a little above its root: factors that lie close together. */
static int
fermat(const BIGNUM *n, BN_CTX *ctx, bool *ret_found)
{
    BIGNUM *a, *rest;
    int ok = 0;

    *ret_found = false;
    BN_CTX_start(ctx);
    a = BN_CTX_get(ctx);
    rest = BN_CTX_get(ctx);
    if (rest == NULL || !bn_sqrt(n, a, ctx) || !BN_add_word(a, 1))
        goto out;
    for (int i = 0; i < FERMAT_ROUNDS && !*ret_found; i++) {
        if (!BN_sqr(rest, a, ctx) || !BN_sub(rest, rest, n) || !is_square(rest, ctx, ret_found) ||
                !BN_add_word(a, 1))
            goto out;
    }
    ok = 1;
out:
    BN_CTX_end(ctx);
    return ok;
}

static int
refuse(struct cc_err *err, const char *why)
{
    return cc_err_set(err, CC_DOM_INPUT, 0, "the key is weak: %s", why);
}

static int
check_modulus(const BIGNUM *n, struct cc_err *err)
{
    BN_CTX *ctx = BN_CTX_new();
    bool close_factors = false;
    int rc = -1;

    if (ctx == NULL || !fermat(n, ctx, &close_factors))
        cc_err_nomem(err);
    else if (!BN_is_odd(n))
        refuse(err, "its modulus is even");
    else if (has_small_factor(n))
        refuse(err, "its modulus has a small prime factor");
    else if (is_roca(n))
        refuse(err, "it comes from a generator that is broken (CVE-2017-15361)");
    else if (close_factors)
        refuse(err, "the factors of its modulus lie close together");
    else
        rc = 0;
    BN_CTX_free(ctx);
    return rc;
}

static int
check_exponent(const BIGNUM *e, struct cc_err *err)
{
    if (!BN_is_odd(e))
        return refuse(err, "its public exponent is even");
    if (BN_num_bits(e) < 17)
        return refuse(err, "its public exponent is below 65537");
    if (BN_num_bits(e) > EXPONENT_BITS_MAX)
        return refuse(err, "its public exponent is too large");
    return 0;
}

static int
check_rsa(EVP_PKEY *key, struct cc_err *err)
{
    BIGNUM *n = NULL, *e = NULL;
    int rc = -1;

    if (EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &n) != 1 ||
            EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &e) != 1)
        cc_err_set_openssl(err, "reading an RSA key");
    else if (BN_num_bits(n) < 2048 || BN_num_bits(n) > 8192)
        cc_err_set(err, CC_DOM_INPUT, 0, "the RSA key has %d bits, 2048 to 8192 are allowed",
                BN_num_bits(n));
    else if (check_exponent(e, err) == 0 && check_modulus(n, err) == 0)
        rc = 0;
    BN_free(n);
    BN_free(e);
    return rc;
}

/* SP 800-56A section 5.6.2.3: on the curve, of the right order, not at infinity. */
static int
check_ec(EVP_PKEY *key, struct cc_err *err)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    int rc = 0;

    if (ctx == NULL)
        return cc_err_nomem(err);
    if (EVP_PKEY_public_check(ctx) != 1)
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "the EC key is no point of its curve");
    ERR_clear_error();
    EVP_PKEY_CTX_free(ctx);
    return rc;
}

int
pki_key_check(EVP_PKEY *key, unsigned allowed, struct cc_err *err)
{
    int spec;

    ERR_clear_error();
    if (EVP_PKEY_is_a(key, "RSA") && check_rsa(key, err) != 0)
        return -1;
    if ((spec = pki_keyspec_of(key)) < 0)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "the key is of a kind that is not certified: RSA and EC P-256 and P-384 are");
    if ((spec == PKI_EC_P256 || spec == PKI_EC_P384) && check_ec(key, err) != 0)
        return -1;
    if ((allowed & 1U << spec) == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the profile does not allow keys %s",
                pki_keyspec_name((enum pki_keyspec)spec));
    return 0;
}
