/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/prctl.h>

#include "base/secret.h"
#include "files.h"
#include "pki/password.h"
#include "pki/pfx.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* The password of the test objects, never in clear in this program's own data. */
#define MASK 0x55
static const uint8_t masked[] = { 't' ^ MASK, 'e' ^ MASK, 's' ^ MASK, 't' ^ MASK, '-' ^ MASK,
    'p' ^ MASK, 'a' ^ MASK, 's' ^ MASK, 's' ^ MASK, 'w' ^ MASK, 'o' ^ MASK, 'r' ^ MASK,
    'd' ^ MASK };

#define WINDOW (1U << 20)
#define OVERLAP 64U

static uint8_t window[WINDOW];

/* Whether the password starts at p: plain, or as a BMPString. */
static bool
password_at(const uint8_t *p, size_t step)
{
    for (size_t i = 0; i < sizeof(masked); i++) {
        if ((p[i * step + step - 1] ^ MASK) != masked[i])
            return false;
        if (step == 2 && p[i * step] != 0)
            return false;
    }
    return true;
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
        for (size_t i = 0; i + 2 * sizeof(masked) <= len; i++)
            found += password_at(window + i, 1) || password_at(window + i, 2);
    }
    return found;
}

/* Places of the password in all that this process can write to, but for the window itself. */
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
    struct cc_secret *secret = cc_secret_new(sizeof(masked), NULL);

    assert_non_null(secret);
    for (size_t i = 0; i < sizeof(masked); i++)
        cc_secret_data(secret)[i] = masked[i] ^ MASK;
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
    secret = make_password();
    password = (struct cc_bytes){ cc_secret_data(secret), cc_secret_len(secret) };
    assert_int_equal(count_in_memory(), 1);
    encrypt(password);
    open_files_with(password);
    cc_secret_free(secret);
    assert_int_equal(count_in_memory(), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(no_password_stays_in_memory) };

    cc_process_harden();
    /* A process may read its own memory only where it may be traced. */
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
