/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <sys/prctl.h>

#include "base/secret.h"
#include "files.h"
#include "issuer.h"
#include "pki/keyspec.h"
#include "pki/password.h"
#include "pki/pfx.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* What is searched for, never in clear in this program's own data. */
#define MASK 0x55
#define NEEDLE_MAX 32
static struct needle {
    uint8_t masked[NEEDLE_MAX];
    size_t len;
    bool is_text; /* else a number */
} needle;

/* The password of the test objects. */
static const struct needle test_password = {
    .masked = { 't' ^ MASK, 'e' ^ MASK, 's' ^ MASK, 't' ^ MASK, '-' ^ MASK, 'p' ^ MASK, 'a' ^ MASK,
            's' ^ MASK, 's' ^ MASK, 'w' ^ MASK, 'o' ^ MASK, 'r' ^ MASK, 'd' ^ MASK },
    .len = 13,
    .is_text = true,
};

#define WINDOW (1U << 20)
#define OVERLAP 64U

static uint8_t window[WINDOW];

/* Whether the text starts at p: plain, or as a BMPString. */
static bool
text_at(const uint8_t *p, size_t step)
{
    for (size_t i = 0; i < needle.len; i++) {
        if ((p[i * step + step - 1] ^ MASK) != needle.masked[i])
            return false;
        if (step == 2 && p[i * step] != 0)
            return false;
    }
    return true;
}

/* Whether the number's first bytes are at p: as in DER, or in the order of the processor. */
static bool
number_at(const uint8_t *p, bool reversed)
{
    for (size_t i = 0; i < needle.len; i++)
        if ((p[reversed ? needle.len - 1 - i : i] ^ MASK) != needle.masked[i])
            return false;
    return true;
}

static bool
needle_at(const uint8_t *p)
{
    if (needle.is_text)
        return text_at(p, 1) || text_at(p, 2);
    return number_at(p, false) || number_at(p, true);
}

static int
count_in(FILE *mem, unsigned long start, unsigned long end)
{
    int found = 0;

    for (unsigned long at = start; at < end; at += WINDOW - OVERLAP) {
        size_t len = end - at < WINDOW ? end - at : WINDOW;

        if (fseek(mem, (long)at, SEEK_SET) != 0)
            return found;
        len = fread(window, 1, len, mem);
        for (size_t i = 0; i + 2 * needle.len <= len; i++)
            found += needle_at(window + i);
    }
    return found;
}

/* Places of the needle in all that this process can write to, but for the window itself. */
static int
count_in_memory(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    FILE *mem = fopen("/proc/self/mem", "re");
    char line[512];
    int found = 0;

    assert_non_null(maps);
    assert_non_null(mem);
    (void)setvbuf(mem, NULL, _IONBF, 0);
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start, end, own = (unsigned long)(uintptr_t)window;

        if (sscanf(line, "%lx-%lx rw", &start, &end) != 2 || strstr(line, " rw") == NULL)
            continue;
        if (start < own + WINDOW && own < end) {
            found += count_in(mem, start, own);
            start = own + WINDOW;
        }
        found += count_in(mem, start, end);
    }
    fclose(mem);
    fclose(maps);
    return found;
}

static struct cc_secret *
make_password(void)
{
    struct cc_secret *secret = cc_secret_new(test_password.len, NULL);

    assert_non_null(secret);
    for (size_t i = 0; i < test_password.len; i++)
        cc_secret_data(secret)[i] = test_password.masked[i] ^ MASK;
    return secret;
}

static void
open_files_with(struct cc_bytes password)
{
    static const char *const files[] = { "rsa-aes.pfx", "rsa-3des.pfx", "rsa-rc2.pfx", "java.pfx" };

    for (size_t i = 0; i < CC_COUNT(files); i++) {
        struct cc_buf pfx = read_object(files[i]);
        struct pki_pfx_info info;

        assert_int_equal(pki_pfx_check(cc_buf_bytes(&pfx), password, &info, NULL), 0);
        cc_buf_free(&pfx);
    }
}

static void
encrypt(struct cc_bytes password)
{
    X509 *cert = read_cert("rsa.der");
    struct cc_buf out = CC_BUF_INIT(65536);

    for (int form = PKI_PASSWORD_CMS; form <= PKI_PASSWORD_PKCS1; form++)
        for (int cipher = PKI_CIPHER_AES256; cipher <= PKI_CIPHER_DES_EDE3; cipher++)
            assert_int_equal(pki_password_encrypt_for(cert, (enum pki_password_form)form,
                                     (enum pki_content_cipher)cipher, password, &out, NULL),
                    0);
    for (int padding = PKI_PADDING_PKCS1; padding <= PKI_PADDING_OAEP_SHA512; padding++)
        assert_int_equal(pki_password_encrypt_padding(X509_get0_pubkey(cert),
                                 (enum pki_padding)padding, password, &out, NULL),
                0);
    cc_buf_free(&out);
    X509_free(cert);
}

static void
no_password_stays_in_memory(void **state)
{
    struct cc_secret *secret;
    struct cc_bytes password;

    (void)state;
#ifdef SANITIZED
    skip(); /* a sanitizer's own memory is terabytes */
#endif
    needle = test_password;
    secret = make_password();
    password = (struct cc_bytes){ cc_secret_data(secret), cc_secret_len(secret) };
    assert_int_equal(count_in_memory(), 1);
    encrypt(password);
    open_files_with(password);
    cc_secret_free(secret);
    assert_int_equal(count_in_memory(), 0);
}

/* ---- a PFX of our own ---- */

#define OWN_LEN 32

/* As long as ours are; looked for is the second half, as the allocator writes over the first of what was freed. */
static struct cc_secret *
make_own_password(struct needle *ret)
{
    struct cc_secret *secret = cc_secret_new(OWN_LEN, NULL);
    uint8_t *data;

    assert_non_null(secret);
    data = cc_secret_data(secret);
    assert_int_equal(cc_random(data, OWN_LEN, NULL), 0);
    *ret = (struct needle){ .len = OWN_LEN / 2, .is_text = true };
    for (size_t i = 0; i < OWN_LEN; i++)
        data[i] = (uint8_t)('A' + data[i] % 26);
    for (size_t i = 0; i < ret->len; i++)
        ret->masked[i] = data[OWN_LEN / 2 + i] ^ MASK;
    return secret;
}

/* A prime of an RSA key, or the private number of another. */
static void
look_for_key(const EVP_PKEY *key)
{
    const char *name =
            EVP_PKEY_is_a(key, "RSA") ? OSSL_PKEY_PARAM_RSA_FACTOR1 : OSSL_PKEY_PARAM_PRIV_KEY;
    BIGNUM *number = NULL;
    struct cc_secret *bytes;

    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &number), 1);
    bytes = cc_secret_new((size_t)BN_num_bytes(number), NULL);
    assert_non_null(bytes);
    assert_true(BN_bn2bin(number, cc_secret_data(bytes)) >= 24);
    needle = (struct needle){ .len = 24 };
    for (size_t i = 0; i < needle.len; i++)
        needle.masked[i] = cc_secret_data(bytes)[i] ^ MASK;
    cc_secret_free(bytes);
    BN_clear_free(number);
}

static void
build_pfx(EVP_PKEY *key, X509 *cert, struct cc_bytes password)
{
    unsigned char *der = NULL;
    const int len = i2d_X509(cert, &der);
    struct pki_pfx_parts parts = { .key = key, .friendly_name = "device" };
    struct cc_buf none = CC_BUF_INIT(65536);

    assert_true(len > 0);
    parts.certificate = parts.chain = (struct cc_bytes){ der, (size_t)len };
    for (int encryption = PKI_PFX_AES256; encryption <= PKI_PFX_COMPAT; encryption++) {
        struct cc_buf pfx = CC_BUF_INIT(65536);

        parts.encryption = (enum pki_pfx_encryption)encryption;
        assert_int_equal(pki_pfx_build(&parts, password, &pfx, NULL), 0);
        cc_buf_free(&pfx);
    }
    /* and one that fails half-way */
    parts.chain.len--;
    assert_int_equal(pki_pfx_build(&parts, password, &none, NULL), -1);
    OPENSSL_free(der);
}

static void
nothing_of_a_built_pfx_stays_in_memory(void **state)
{
    static const enum pki_keyspec specs[] = { PKI_RSA2048, PKI_EC_P256, PKI_EC_P384 };

    (void)state;
#ifdef SANITIZED
    skip();
#endif
    for (size_t i = 0; i < CC_COUNT(specs); i++) {
        struct needle own;
        struct cc_secret *secret = make_own_password(&own);
        EVP_PKEY *key = NULL;
        X509 *cert;
        int before;

        assert_int_equal(pki_key_generate(specs[i], &key, NULL), 0);
        look_for_key(key);
        /* A key that has signed once holds its primes twice. */
        cert = make_cert("device", key, NULL);
        before = count_in_memory();
        assert_true(before > 0);
        build_pfx(key, cert, (struct cc_bytes){ cc_secret_data(secret), cc_secret_len(secret) });
        assert_int_equal(count_in_memory(), before);
        X509_free(cert);
        EVP_PKEY_free(key);
        assert_int_equal(count_in_memory(), 0);

        needle = own;
        assert_int_equal(count_in_memory(), 1);
        cc_secret_free(secret);
        assert_int_equal(count_in_memory(), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_password_stays_in_memory),
        cmocka_unit_test(nothing_of_a_built_pfx_stays_in_memory),
    };

    cc_process_harden();
    /* A process may read its own memory only where it may be traced. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
