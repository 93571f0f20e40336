/* SPDX-License-Identifier: MIT */
#include "hsm/token/padding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>

#include <cmocka.h>

#include "hsm/hsm.h"

/* What OpenSSL makes of our paddings and we of its. */
struct fixture {
    EVP_PKEY *key;
    size_t bits, len;
};

static const unsigned key_bits[] = { 1031, 1033, 2048, 1536 };

static int
setup(void **state)
{
    static struct fixture fixtures[CC_COUNT(key_bits)];

    for (size_t i = 0; i < CC_COUNT(key_bits); i++) {
        fixtures[i].key = EVP_RSA_gen(key_bits[i]);
        if (fixtures[i].key == NULL)
            return -1;
        fixtures[i].bits = (size_t)EVP_PKEY_get_bits(fixtures[i].key);
        fixtures[i].len = (fixtures[i].bits + 7) / 8;
    }
    *state = fixtures;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *fixtures = *state;

    for (size_t i = 0; i < CC_COUNT(key_bits); i++)
        EVP_PKEY_free(fixtures[i].key);
    return 0;
}

/* RSA without padding, private (decrypting) or public. */
static void
bare_rsa(const struct fixture *f, bool private, const uint8_t *in, uint8_t *out)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(f->key, NULL);
    size_t len = f->len;

    assert_int_equal(private ? EVP_PKEY_decrypt_init(ctx) : EVP_PKEY_encrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING), 1);
    assert_int_equal(private ? EVP_PKEY_decrypt(ctx, out, &len, in, f->len)
                             : EVP_PKEY_encrypt(ctx, out, &len, in, f->len),
            1);
    assert_int_equal(len, f->len);
    EVP_PKEY_CTX_free(ctx);
}

static void
oaep_encrypt(const struct fixture *f, const struct p11_hash *hash, const struct p11_hash *mgf,
        const char *label, const uint8_t *data, size_t len, uint8_t *out)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(f->key, NULL);
    size_t out_len = f->len;

    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, hash->md()), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, mgf->md()), 1);
    if (label[0] != '\0')
        assert_int_equal(
                EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, OPENSSL_strdup(label), (int)strlen(label)),
                1);
    assert_int_equal(EVP_PKEY_encrypt(ctx, out, &out_len, data, len), 1);
    EVP_PKEY_CTX_free(ctx);
}

static void
oaep_of_openssl_is_decoded(void **state)
{
    const struct fixture *fixtures = *state;
    static const char *const labels[] = { "", "label" };
    uint8_t out[P11_RSA_MAX], block[P11_RSA_MAX];

    for (unsigned i = 0; i < CC_COUNT(key_bits) * P11_HASHES * P11_HASHES * 2; i++) {
        const struct fixture *f = &fixtures[i / (P11_HASHES * P11_HASHES * 2)];
        const struct p11_hash *hash = p11_hash((int)(i / 2 / P11_HASHES % P11_HASHES));
        const struct p11_hash *mgf = p11_hash((int)(i / 2 % P11_HASHES));
        const char *label = labels[i % 2];
        const size_t h_len = (size_t)EVP_MD_get_size(hash->md());
        const size_t sizes[] = { 0, 1, f->len - 2 * h_len - 2 };

        if (f->len < 2 * h_len + 2 + 1)
            continue;
        for (size_t s = 0; s < CC_COUNT(sizes); s++) {
            static const uint8_t data[P11_RSA_MAX] = { 0x01, 0x00, 0x01 };
            struct cc_secret *message = NULL;

            oaep_encrypt(f, hash, mgf, label, data, sizes[s], out);
            bare_rsa(f, true, out, block);
            assert_int_equal(padding_oaep_decode(hash, mgf, cc_bytes_of_str(label), block, f->len,
                                     &message, NULL),
                    0);
            assert_int_equal(cc_secret_len(message), sizes[s]);
            assert_memory_equal(cc_secret_data(message), data, sizes[s]);
            cc_secret_free(message);
        }
    }
}

static void
expect_refused(const uint8_t *block, size_t len, const struct p11_hash *hash,
        const struct p11_hash *mgf, const char *label)
{
    struct cc_secret *message = NULL;
    struct cc_err err = { 0 };
    uint8_t copy[P11_RSA_MAX];

    memcpy(copy, block, len);
    assert_int_equal(
            padding_oaep_decode(hash, mgf, cc_bytes_of_str(label), copy, len, &message, &err), -1);
    assert_null(message);
    assert_int_equal(err.domain, CC_DOM_TOKEN);
    assert_int_equal(err.code, HSM_FAULT_DECRYPT);
    assert_string_equal(err.text, "the ciphertext does not decrypt with this key");
}

/* Every byte of the block matters, and all is refused in the same words. */
static void
spoiled_oaep_is_refused(void **state)
{
    const struct fixture *f = &((const struct fixture *)*state)[2];
    const struct p11_hash *sha256 = p11_hash(p11_hash_index(NID_sha256));
    const struct p11_hash *sha1 = p11_hash(0);
    uint8_t out[P11_RSA_MAX], block[P11_RSA_MAX];

    oaep_encrypt(f, sha256, sha256, "label", (const uint8_t *)"secret", 6, out);
    bare_rsa(f, true, out, block);
    /* Up to the separator; behind it the message may be anything. */
    for (size_t i = 0; i < f->len - 6; i++) {
        block[i] ^= 0x40;
        expect_refused(block, f->len, sha256, sha256, "label");
        block[i] ^= 0x40;
    }
    expect_refused(block, f->len, sha256, sha256, "");
    expect_refused(block, f->len, sha256, sha256, "labels");
    expect_refused(block, f->len, sha1, sha256, "label");
    expect_refused(block, f->len, sha256, sha1, "label");
    for (size_t len = 0; len < f->len; len++)
        expect_refused(block, len, sha256, sha256, "label");
    memset(block, 0, sizeof(block));
    expect_refused(block, f->len, sha256, sha256, "");
}

/* ---- Content-encryption keys ---- */

#define KEY_MAX 64

static const size_t key_lens[] = { 16, 24, 32, KEY_MAX };

/* NULL for PKCS #1 v1.5. */
static const struct p11_hash *
key_hash(unsigned i)
{
    return i == 0 ? NULL : p11_hash((int)i - 1);
}

static void
key_encrypt(const struct fixture *f, const struct p11_hash *hash, const uint8_t *key, size_t len,
        uint8_t *ret_block)
{
    uint8_t out[P11_RSA_MAX];
    EVP_PKEY_CTX *ctx;
    size_t out_len = sizeof(out);

    if (hash != NULL) {
        oaep_encrypt(f, hash, hash, "", key, len, out);
    } else {
        ctx = EVP_PKEY_CTX_new(f->key, NULL);
        assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
        assert_int_equal(EVP_PKEY_encrypt(ctx, out, &out_len, key, len), 1);
        EVP_PKEY_CTX_free(ctx);
    }
    bare_rsa(f, true, out, ret_block);
}

/* Whether the key was taken; else ret_key must be as it was. */
static bool
key_take(const struct p11_hash *hash, const uint8_t *block, size_t block_len, const uint8_t *key,
        size_t len)
{
    uint8_t copy[P11_RSA_MAX], random[KEY_MAX], out[KEY_MAX];

    memcpy(copy, block, block_len);
    memset(random, 0xa5, sizeof(random));
    memcpy(out, random, sizeof(out));
    if (hash == NULL)
        padding_pkcs1_take_key(copy, block_len, out, len);
    else
        assert_int_equal(padding_oaep_take_key(hash, hash, copy, block_len, out, len, NULL), 0);
    assert_memory_equal(out + len, random + len, KEY_MAX - len);
    if (memcmp(out, random, len) == 0)
        return false;
    assert_memory_equal(out, key, len);
    return true;
}

static void
content_keys_of_openssl_are_taken(void **state)
{
    const struct fixture *fixtures = *state;
    static const uint8_t zeroes[KEY_MAX], key[KEY_MAX] = { 0x01, 0x00, 0x02 };
    uint8_t block[P11_RSA_MAX];

    for (unsigned i = 0; i < CC_COUNT(key_bits) * (1 + P11_HASHES) * CC_COUNT(key_lens); i++) {
        const struct fixture *f = &fixtures[i / ((1 + P11_HASHES) * CC_COUNT(key_lens))];
        const struct p11_hash *hash = key_hash(i / CC_COUNT(key_lens) % (1 + P11_HASHES));
        const size_t len = key_lens[i % CC_COUNT(key_lens)];
        const size_t around = hash == NULL ? 11 : 2 * (size_t)EVP_MD_get_size(hash->md()) + 2;

        if (f->len < len + around)
            continue;
        key_encrypt(f, hash, key, len, block);
        assert_true(key_take(hash, block, f->len, key, len));
        assert_false(key_take(hash, block, f->len, key, len - 1));
        if (len < KEY_MAX)
            assert_false(key_take(hash, block, f->len, key, len + 1));
        key_encrypt(f, hash, zeroes, len, block);
        assert_true(key_take(hash, block, f->len, zeroes, len));
    }
}

/* Every byte before the key matters, but for those of PKCS #1's padding that are another number. */
static void
spoiled_blocks_give_no_content_key(void **state)
{
    const struct fixture *f = &((const struct fixture *)*state)[2];
    static const uint8_t key[KEY_MAX] = { 1, 2, 3 };
    uint8_t block[P11_RSA_MAX];
    const size_t len = 32, before = f->len - len;

    for (unsigned h = 0; h < 1 + P11_HASHES; h++) {
        const struct p11_hash *hash = key_hash(h);

        key_encrypt(f, hash, key, len, block);
        for (size_t i = 0; i < before; i++) {
            const uint8_t kept = block[i];

            block[i] = hash == NULL && i >= 2 && i < before - 1 ? 0 : kept ^ 0x40;
            assert_false(key_take(hash, block, f->len, key, len));
            block[i] = kept;
        }
        assert_true(key_take(hash, block, f->len, key, len));
        for (size_t cut = 1; cut < f->len; cut++)
            assert_false(key_take(hash, block, f->len - cut, key, len));
        memset(block, 0, sizeof(block));
        assert_false(key_take(hash, block, f->len, key, len));
    }
}

/* Eight bytes are the least (RFC 8017 section 7.2.2). */
static void
pkcs1_padding_may_be_short_but_not_shorter(void **state)
{
    static const uint8_t key[KEY_MAX] = { 1, 2, 3 };
    uint8_t block[11 + KEY_MAX];

    (void)state;
    for (size_t padding = 0; padding <= 8; padding++) {
        memset(block, 0xff, sizeof(block));
        block[0] = 0;
        block[1] = 2;
        block[2 + padding] = 0;
        memcpy(block + 3 + padding, key, 32);
        assert_int_equal(key_take(NULL, block, 3 + padding + 32, key, 32), padding == 8);
    }
}

static void
what_a_token_unpadded_is_taken_by_its_length(void **state)
{
    static const uint8_t found[128] = { 7, 8, 9 };
    uint8_t out[KEY_MAX], random[KEY_MAX];

    (void)state;
    memset(random, 0xa5, sizeof(random));
    for (size_t len = 0; len <= sizeof(found); len++) {
        memcpy(out, random, sizeof(out));
        padding_take_key(found, sizeof(found), len, out, 24);
        assert_memory_equal(out, len == 24 ? found : random, 24);
        assert_memory_equal(out + 24, random + 24, sizeof(out) - 24);
    }
    padding_take_key(found, 23, 24, out, 24);
    assert_memory_equal(out, random, 24);
}

static void
left_out_zeroes_are_put_back(void **state)
{
    uint8_t number[200], block[200], want[200];

    (void)state;
    for (size_t i = 0; i < sizeof(number); i++)
        number[i] = (uint8_t)(i + 1);
    for (size_t len = 1; len <= sizeof(number); len++)
        for (size_t number_len = 0; number_len <= len; number_len++) {
            memset(block, 0xee, sizeof(block));
            memcpy(block, number, number_len);
            memset(want, 0, len - number_len);
            memcpy(want + len - number_len, number, number_len);
            padding_align(block, len, number_len);
            assert_memory_equal(block, want, len);
        }
}

static void
pss_is_verified_by_openssl(void **state)
{
    const struct fixture *fixtures = *state;
    uint8_t digest[EVP_MAX_MD_SIZE], block[P11_RSA_MAX], signature[P11_RSA_MAX];

    memset(digest, 0x5a, sizeof(digest));
    for (unsigned i = 0; i < CC_COUNT(key_bits) * P11_HASHES * P11_HASHES; i++) {
        const struct fixture *f = &fixtures[i / (P11_HASHES * P11_HASHES)];
        const struct p11_hash *hash = p11_hash((int)(i / P11_HASHES % P11_HASHES));
        const struct p11_hash *mgf = p11_hash((int)(i % P11_HASHES));
        const size_t h_len = (size_t)EVP_MD_get_size(hash->md());
        const struct cc_bytes bytes = { digest, h_len };
        const size_t most = (f->bits + 6) / 8 - h_len - 2;
        const size_t salts[] = { 0, 1, most };

        if ((f->bits + 6) / 8 < h_len + 2)
            continue;
        for (size_t s = 0; s < CC_COUNT(salts); s++) {
            EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(f->key, NULL);

            assert_int_equal(
                    padding_pss_encode(hash, mgf, bytes, salts[s], f->bits, block, f->len, NULL),
                    0);
            bare_rsa(f, true, block, signature);
            assert_int_equal(EVP_PKEY_verify_init(ctx), 1);
            assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING), 1);
            assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, hash->md()), 1);
            assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, mgf->md()), 1);
            assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)salts[s]), 1);
            assert_int_equal(EVP_PKEY_verify(ctx, signature, f->len, digest, h_len), 1);
            EVP_PKEY_CTX_free(ctx);
        }
        assert_int_equal(
                padding_pss_encode(hash, mgf, bytes, most + 1, f->bits, block, f->len, NULL), -1);
        assert_int_equal(padding_pss_encode(hash, mgf, (struct cc_bytes){ digest, h_len - 1 }, 0,
                                 f->bits, block, f->len, NULL),
                -1);
    }
}

/* RFC 8017 section 9.2, note 1. */
static void
digest_info_is_that_of_the_rfc(void **state)
{
    static const uint8_t want[] = { 0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
        0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20 };
    static const uint8_t digest[32] = { 1, 2, 3 };
    struct cc_buf out = CC_BUF_INIT(100);

    (void)state;
    assert_int_equal(padding_digest_info(NID_sha256, (struct cc_bytes){ digest, 32 }, &out, NULL),
            0);
    assert_int_equal(out.len, sizeof(want) + 32);
    assert_memory_equal(out.data, want, sizeof(want));
    assert_memory_equal(out.data + sizeof(want), digest, 32);
    assert_int_equal(padding_digest_info(NID_sha256, (struct cc_bytes){ digest, 31 }, &out, NULL),
            -1);
    assert_int_equal(
            padding_digest_info(NID_rsaEncryption, (struct cc_bytes){ digest, 32 }, &out, NULL),
            -1);
    cc_buf_free(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oaep_of_openssl_is_decoded),
        cmocka_unit_test(spoiled_oaep_is_refused),
        cmocka_unit_test(content_keys_of_openssl_are_taken),
        cmocka_unit_test(spoiled_blocks_give_no_content_key),
        cmocka_unit_test(pkcs1_padding_may_be_short_but_not_shorter),
        cmocka_unit_test(what_a_token_unpadded_is_taken_by_its_length),
        cmocka_unit_test(left_out_zeroes_are_put_back),
        cmocka_unit_test(pss_is_verified_by_openssl),
        cmocka_unit_test(digest_info_is_that_of_the_rfc),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
