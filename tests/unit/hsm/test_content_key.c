/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include "hsm/hsm.h"
#include "token_dir.h"

/*
 * Content-encryption keys opened by a real token through the real token process: with the bare RSA operation, and where
 * that is forbidden.  What is spoiled in any way gives random bytes and no error.
 */

#define LONG_MS 60000
#define BLOCK_MAX 512

struct world {
    bool raw; /* allow_raw_rsa */
    struct hsm *hsm;
    struct hsm_key *key;
    EVP_PKEY *public;
    size_t len; /* of the modulus */
};

static struct token_dir *token;
static const uint8_t content_key[HSM_CONTENT_KEY_MAX + 1] =
        "0123456789abcdef0123456789ABCDEFghijklmnopqr";

static void
need(const struct cc_err *err, int rc)
{
    if (rc != 0)
        fail_msg("%s", err->text);
}

static int
world_open(struct world *world)
{
    struct hsm_settings settings = token_dir_settings(token);
    struct cc_err err = { 0 };

    settings.allow_raw_rsa = world->raw;
    need(&err, hsm_open(&settings, &world->hsm, &err));
    need(&err, hsm_wait_open(world->hsm, LONG_MS, &err));
    need(&err, hsm_key_get0(world->hsm, HSM_ROLE_SCEP_RA_ENCRYPT, "pkcs11:object=rsa", &world->key,
                       &err));
    need(&err, hsm_key_get1_public(world->key, &world->public, &err));
    world->len = (size_t)EVP_PKEY_get_size(world->public);
    return 0;
}

static struct world worlds[2] = { { .raw = true }, { .raw = false } };

static int
group_setup(void **state)
{
    (void)state;
    return world_open(&worlds[0]) | world_open(&worlds[1]);
}

static int
group_teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(worlds); i++) {
        EVP_PKEY_free(worlds[i].public);
        hsm_close(worlds[i].hsm);
    }
    return 0;
}

/* ---- making ciphertexts ---- */

/* md NULL: PKCS #1 v1.5. */
static void
encrypt(const struct world *world, const EVP_MD *md, const EVP_MD *mgf, size_t len,
        uint8_t ret[BLOCK_MAX])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(world->public, NULL);
    size_t ret_len = BLOCK_MAX;

    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    if (md != NULL) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, mgf), 1);
    }
    assert_int_equal(EVP_PKEY_encrypt(ctx, ret, &ret_len, content_key, len), 1);
    assert_int_equal(ret_len, world->len);
    EVP_PKEY_CTX_free(ctx);
}

/* A block as it is. */
static void
encrypt_bare(const struct world *world, const uint8_t *block, uint8_t ret[BLOCK_MAX])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(world->public, NULL);
    size_t ret_len = BLOCK_MAX;

    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING), 1);
    assert_int_equal(EVP_PKEY_encrypt(ctx, ret, &ret_len, block, world->len), 1);
    EVP_PKEY_CTX_free(ctx);
}

/* The ciphertext plus the modulus: the same number to who forgets to compare.  False where that is too long. */
static bool
add_modulus(const struct world *world, uint8_t *ciphertext)
{
    BIGNUM *n = NULL, *c = BN_bin2bn(ciphertext, (int)world->len, NULL);
    bool fits;

    assert_int_equal(EVP_PKEY_get_bn_param(world->public, OSSL_PKEY_PARAM_RSA_N, &n), 1);
    assert_int_equal(BN_add(c, c, n), 1);
    fits = (size_t)BN_num_bytes(c) <= world->len;
    if (fits)
        assert_true(BN_bn2binpad(c, ciphertext, (int)world->len) > 0);
    BN_free(n);
    BN_free(c);
    return fits;
}

/* ---- opening them ---- */

static struct hsm_key_transport
transport_of(const EVP_MD *md, const EVP_MD *mgf, const uint8_t *ciphertext, size_t len)
{
    return (struct hsm_key_transport){
        .oaep = md != NULL,
        .digest_nid = md != NULL ? EVP_MD_get_type(md) : 0,
        .mgf_nid = md != NULL ? EVP_MD_get_type(mgf) : 0,
        .encrypted = { ciphertext, len },
    };
}

static void
expect_opens(const struct world *world, const struct hsm_key_transport *transport, size_t len)
{
    uint8_t out[HSM_CONTENT_KEY_MAX] = { 0 };
    struct cc_err err = { 0 };

    need(&err, hsm_key_open_content_key(world->key, transport, out, len, &err));
    assert_memory_equal(out, content_key, len);
}

static void
expect_random(const struct world *world, const struct hsm_key_transport *transport, size_t len,
        const char *what)
{
    const uint64_t outages = hsm_key_outages(world->key);
    uint8_t out[2][HSM_CONTENT_KEY_MAX] = { 0 };
    struct hsm_status before, after;
    struct cc_err err = { 0 };

    hsm_get_status(world->hsm, &before);
    for (size_t i = 0; i < 2; i++) {
        need(&err, hsm_key_open_content_key(world->key, transport, out[i], len, &err));
        if (memcmp(out[i], content_key, len) == 0)
            fail_msg("%s: opened", what);
    }
    /* NSS unpads so that it has something to give for every ciphertext, always the same, and at times as long as a key. */
    if ((world->raw || !token->nss) && memcmp(out[0], out[1], len) == 0)
        fail_msg("%s: the same bytes twice", what);
    hsm_get_status(world->hsm, &after);
    assert_int_equal(after.failures, before.failures);
    assert_int_equal(hsm_key_outages(world->key), outages);
}

static void
test_good_keys(void **state)
{
    static const size_t lens[] = { 16, 24, 32, 64 };
    const EVP_MD *const mds[] = { NULL, EVP_sha1(), EVP_sha256(), EVP_sha512() };
    const struct world *world = *state;
    uint8_t ciphertext[BLOCK_MAX];

    for (size_t i = 0; i < CC_COUNT(lens) * CC_COUNT(mds) * CC_COUNT(mds); i++) {
        const size_t len = lens[i % CC_COUNT(lens)];
        const EVP_MD *const md = mds[i / CC_COUNT(lens) % CC_COUNT(mds)];
        const EVP_MD *const mgf = mds[i / CC_COUNT(lens) / CC_COUNT(mds)];
        struct hsm_key_transport transport;

        if ((md == NULL) != (mgf == NULL))
            continue;
        encrypt(world, md, mgf, len, ciphertext);
        transport = transport_of(md, mgf, ciphertext, world->len);
        if (world->raw || md == NULL || (md == EVP_sha1() && mgf == EVP_sha1())) {
            expect_opens(world, &transport, len);
        } else if (!token->nss) { /* SoftHSM knows no other hash */
            struct cc_err err = { 0 };
            uint8_t out[HSM_CONTENT_KEY_MAX];

            assert_int_equal(hsm_key_open_content_key(world->key, &transport, out, len, &err), -1);
            assert_int_equal(err.domain, CC_DOM_TOKEN);
            assert_int_equal(err.code, HSM_FAULT_UNSUPPORTED);
        } else {
            expect_opens(world, &transport, len);
        }
    }
}

static void
test_hash_that_nobody_knows(void **state)
{
    const struct world *world = *state;
    struct hsm_key_transport transport = { .oaep = true,
        .digest_nid = NID_md5,
        .mgf_nid = NID_sha1 };
    struct cc_err err = { 0 };
    uint8_t out[32];

    assert_int_equal(hsm_key_open_content_key(world->key, &transport, out, 32, &err), -1);
    assert_int_equal(err.domain, CC_DOM_TOKEN);
    assert_int_equal(err.code, HSM_FAULT_UNSUPPORTED);
}

/* 00 02 FF … FF 00 key, and what is wrong with it. */
static void
test_spoiled_pkcs1(void **state)
{
    enum { LEN = 32 };
    const struct world *world = *state;
    const size_t separator = world->len - LEN - 1;
    const struct {
        const char *what;
        size_t at;
        uint8_t value;
    } table[] = {
        { "first byte", 0, 1 },
        { "second byte", 1, 1 },
        { "second byte, zero", 1, 0 },
        { "no padding", 2, 0 },
        { "padding of seven", 9, 0 },
        { "padding of eight, a longer key", 10, 0 },
        { "zero in the padding", separator - 30, 0 },
        { "key a byte longer", separator - 1, 0 },
        { "no separator", separator, 0xff },
    };
    uint8_t block[BLOCK_MAX], ciphertext[BLOCK_MAX];
    struct hsm_key_transport transport = transport_of(NULL, NULL, ciphertext, world->len);

    memset(block, 0xff, sizeof(block));
    block[0] = 0;
    block[1] = 2;
    block[separator] = 0;
    memcpy(block + separator + 1, content_key, LEN);
    encrypt_bare(world, block, ciphertext);
    expect_opens(world, &transport, LEN);
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        const uint8_t kept = block[table[i].at];

        block[table[i].at] = table[i].value;
        encrypt_bare(world, block, ciphertext);
        expect_random(world, &transport, LEN, table[i].what);
        block[table[i].at] = kept;
    }
    memset(block, 0, sizeof(block));
    encrypt_bare(world, block, ciphertext);
    expect_random(world, &transport, LEN, "zero");
}

/* A key of another length than was asked for. */
static void
test_other_length(void **state)
{
    const EVP_MD *const mds[] = { NULL, EVP_sha1() };
    const struct world *world = *state;
    uint8_t ciphertext[BLOCK_MAX];

    for (size_t m = 0; m < CC_COUNT(mds); m++) {
        const struct hsm_key_transport transport =
                transport_of(mds[m], mds[m], ciphertext, world->len);

        for (size_t len = 0; len <= 65; len++) {
            if (len == 32 || (len > 3 && len < 30) || (len > 34 && len < 63))
                continue;
            encrypt(world, mds[m], mds[m], len, ciphertext);
            expect_random(world, &transport, 32, "another length");
        }
    }
}

static void
test_spoiled_ciphertext(void **state)
{
    const EVP_MD *const mds[] = { NULL, EVP_sha1(), EVP_sha256() };
    const struct world *world = *state;
    uint8_t ciphertext[2 * BLOCK_MAX] = { 0 };

    for (size_t m = 0; m < CC_COUNT(mds); m++) {
        struct hsm_key_transport transport = transport_of(mds[m], mds[m], ciphertext, world->len);
        const size_t lens[] = { 0, 1, 32, world->len - 1, world->len + 1, 2 * world->len };

        if (mds[m] == EVP_sha256() && !world->raw && !token->nss)
            continue; /* SoftHSM does not know it */
        encrypt(world, mds[m], mds[m], 32, ciphertext);
        expect_opens(world, &transport, 32);
        for (size_t i = 0; i < CC_COUNT(lens); i++) {
            transport.encrypted.len = lens[i];
            expect_random(world, &transport, 32, "another length of the ciphertext");
        }
        transport.encrypted.len = world->len;
        ciphertext[world->len / 2] ^= 1;
        expect_random(world, &transport, 32, "a bit of the ciphertext");
        ciphertext[world->len / 2] ^= 1;
        for (unsigned i = 0; !add_modulus(world, ciphertext); i++) {
            assert_true(i < 1000);
            encrypt(world, mds[m], mds[m], 32, ciphertext);
        }
        expect_random(world, &transport, 32, "not below the modulus");
        memset(ciphertext, 0xff, world->len);
        expect_random(world, &transport, 32, "all ones");
        memset(ciphertext, 0, sizeof(ciphertext));
        expect_random(world, &transport, 32, "all zeroes");
    }
}

static void
test_spoiled_oaep(void **state)
{
    const EVP_MD *const sha1 = EVP_sha1(), *const sha256 = EVP_sha256();
    const struct world *world = *state;
    uint8_t ciphertext[BLOCK_MAX], block[BLOCK_MAX];
    struct hsm_key_transport transport;

    encrypt(world, sha1, sha1, 32, ciphertext);
    transport = transport_of(NULL, NULL, ciphertext, world->len);
    expect_random(world, &transport, 32, "OAEP taken for PKCS #1 v1.5");
    encrypt(world, NULL, NULL, 32, ciphertext);
    transport = transport_of(sha1, sha1, ciphertext, world->len);
    expect_random(world, &transport, 32, "PKCS #1 v1.5 taken for OAEP");
    assert_int_equal(RAND_bytes(block, sizeof(block)), 1);
    block[0] = 0;
    encrypt_bare(world, block, ciphertext);
    expect_random(world, &transport, 32, "a random block");
    if (world->raw || token->nss) {
        encrypt(world, sha256, sha256, 32, ciphertext);
        expect_random(world, &transport, 32, "another hash");
    }
}

#define IN_BOTH(test)                                                                              \
    { #test ", bare RSA", test, NULL, NULL, &worlds[0] },                                          \
    {                                                                                              \
#test ", the token's padding", test, NULL, NULL, &worlds[1]                                \
    }

static int
run_all(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_good_keys),
        IN_BOTH(test_hash_that_nobody_knows),
        IN_BOTH(test_spoiled_pkcs1),
        IN_BOTH(test_other_length),
        IN_BOTH(test_spoiled_ciphertext),
        IN_BOTH(test_spoiled_oaep),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}

int
main(void)
{
    static const struct token_key keys[] = { { "rsa", "rsa:2048" } };

    return token_dir_run(keys, CC_COUNT(keys), &token, run_all);
}
