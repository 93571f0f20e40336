/* SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/text.h"

static char folder[] = "/tmp/test_secret.XXXXXX";
static char path[64];

static int
make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(path, sizeof(path), "%s/pin", folder);
    return 0;
}

static int
drop_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static int
drop_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void
holds_its_bytes(void **state)
{
    struct cc_secret *secret = cc_secret_copy("s3cr\0t", 6, NULL);

    (void)state;
    assert_non_null(secret);
    assert_int_equal(cc_secret_len(secret), 6);
    assert_memory_equal(cc_secret_data(secret), "s3cr\0t\0", 7);
    cc_secret_free(secret);
    cc_secret_free(NULL);
}

static void
new_is_zero_and_bounded(void **state)
{
    static const uint8_t zero[CC_SECRET_MAX + 1];
    struct cc_err err = { 0 };
    struct cc_secret *secret = cc_secret_new(CC_SECRET_MAX, &err);

    (void)state;
    assert_non_null(secret);
    assert_memory_equal(cc_secret_data(secret), zero, sizeof(zero));
    cc_secret_free(secret);
    assert_null(cc_secret_new(CC_SECRET_MAX + 1, &err));
    assert_int_equal(err.domain, CC_DOM_INPUT);

    secret = cc_secret_new(0, NULL);
    assert_non_null(secret);
    assert_string_equal(cc_secret_str(secret), "");
    cc_secret_free(secret);
}

/* More than are kept for the next, of several sizes, and all of them used before. */
static void
nothing_is_left_from_secret_to_secret(void **state)
{
    static const size_t sizes[] = { 1, 100, 4000, 4100 };
    struct cc_secret *secrets[100];

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < CC_COUNT(secrets); i++) {
            size_t len = sizes[(i + (size_t)round) % CC_COUNT(sizes)];

            secrets[i] = cc_secret_new(len, NULL);
            assert_non_null(secrets[i]);
            assert_int_equal(cc_secret_len(secrets[i]), len);
            for (size_t j = 0; j <= len; j++)
                assert_int_equal(cc_secret_data(secrets[i])[j], 0);
            memset(cc_secret_data(secrets[i]), 0xaa, len);
        }
        for (size_t i = 0; i < CC_COUNT(secrets); i++)
            cc_secret_free(secrets[i]);
    }
}

static void
truncate_wipes_the_rest(void **state)
{
    struct cc_secret *secret = cc_secret_copy("password", 8, NULL);

    (void)state;
    assert_non_null(secret);
    cc_secret_truncate(secret, 20);
    assert_int_equal(cc_secret_len(secret), 8);
    cc_secret_truncate(secret, 4);
    assert_int_equal(cc_secret_len(secret), 4);
    assert_memory_equal(cc_secret_data(secret), "pass\0\0\0\0", 9);
    cc_secret_free(secret);
}

/* proc(5): "dd" is what MADV_DONTDUMP sets. */
static void
is_kept_out_of_core_dumps(void **state)
{
    struct cc_secret *secret = cc_secret_copy("x", 1, NULL);
    uintptr_t place = (uintptr_t)cc_secret_data(secret);
    FILE *maps = fopen("/proc/self/smaps", "re");
    bool inside = false, found = false;
    uintptr_t from, to;
    char line[512];

    (void)state;
    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
            inside = from <= place && place < to;
        if (inside && strncmp(line, "VmFlags:", 8) == 0)
            found = strstr(line, " dd") != NULL;
    }
    (void)fclose(maps);
    cc_secret_free(secret);
    assert_true(found);
}

static void
wipe_wipes(void **state)
{
    char text[] = "password";

    (void)state;
    cc_wipe(text, 4);
    assert_memory_equal(text, "\0\0\0\0word", 9);
    cc_wipe(NULL, 0);
}

static void
descriptor_is_read_to_its_end(void **state)
{
    static const struct {
        const char *given;
        const char *want; /* NULL: refused */
    } cases[] = { { "1234", "1234" }, { "1234\n", "1234" }, { "1234\r\n", "1234" },
        { "1234\n\n", "1234\n" }, { " 12 34 ", " 12 34 " }, { "12\n34", "12\n34" },
        { "1234\r", "1234\r" }, { "", NULL }, { "\n", NULL }, { "\r\n", NULL } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        struct cc_secret *secret;
        int ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(cc_fd_write_all(ends[1], cases[i].given, strlen(cases[i].given), NULL), 0);
        close(ends[1]);
        secret = cc_secret_read_fd(ends[0], &err);
        close(ends[0]);
        if (cases[i].want == NULL) {
            assert_null(secret);
            assert_int_equal(err.domain, CC_DOM_INPUT);
        } else {
            assert_non_null(secret);
            assert_string_equal(cc_secret_str(secret), cases[i].want);
            assert_int_equal(cc_secret_len(secret), strlen(cases[i].want));
        }
        cc_secret_free(secret);
    }
}

static void
bad_descriptor_is_refused(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    assert_null(cc_secret_read_fd(-1, &err));
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, EBADF);
}

/* The file at path as a secret of len letters followed by end. */
static struct cc_secret *
load_of_length(size_t len, const char *end, struct cc_err *err)
{
    static uint8_t data[CC_SECRET_MAX + 16];
    char reference[80];

    memset(data, 'p', len);
    memcpy(data + len, end, strlen(end));
    assert_int_equal(cc_file_replace(path, data, len + strlen(end), 0600, NULL), 0);
    (void)snprintf(reference, sizeof(reference), "file:%s", path);
    return cc_secret_load(reference, err);
}

static void
length_is_bounded(void **state)
{
    static const struct {
        size_t len;
        const char *end;
        bool want;
    } cases[] = { { CC_SECRET_MAX, "", true }, { CC_SECRET_MAX, "\n", true },
        { CC_SECRET_MAX, "\r\n", true }, { CC_SECRET_MAX + 1, "", false },
        { CC_SECRET_MAX + 1, "\n", false }, { CC_SECRET_MAX + 1, "\r\n", false },
        { CC_SECRET_MAX + 1, "\r\nmore", false }, { CC_SECRET_MAX + 10, "", false } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        struct cc_secret *secret = load_of_length(cases[i].len, cases[i].end, &err);

        assert_int_equal(secret != NULL, cases[i].want);
        if (secret != NULL)
            assert_int_equal(cc_secret_len(secret), cases[i].len);
        else
            assert_int_equal(err.domain, CC_DOM_INPUT);
        cc_secret_free(secret);
    }
}

static void
mode_open_to_others_is_refused(void **state)
{
    static const struct {
        mode_t mode;
        bool want;
    } cases[] = { { 0400, true }, { 0600, true }, { 0640, true }, { 0660, true }, { 0644, false },
        { 0604, false }, { 0602, false }, { 0601, false } };
    char reference[80], want_text[80];
    size_t i;

    (void)state;
    (void)snprintf(reference, sizeof(reference), "file:%s", path);
    (void)snprintf(want_text, sizeof(want_text), "chmod o= %s", path);
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };
        struct cc_secret *secret;

        assert_int_equal(cc_file_replace(path, "1234\n", 5, cases[i].mode, NULL), 0);
        secret = cc_secret_load(reference, &err);
        assert_int_equal(secret != NULL, cases[i].want);
        if (secret == NULL) {
            assert_int_equal(err.domain, CC_DOM_CONFIG);
            assert_non_null(strstr(err.text, want_text));
            assert_null(strstr(err.text, "1234"));
        }
        cc_secret_free(secret);
    }
}

static void
credential_is_found_in_its_folder(void **state)
{
    struct cc_err err = { 0 };
    struct cc_secret *secret;

    (void)state;
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(cc_file_replace(path, "1234\n", 5, 0400, NULL), 0);
    assert_null(cc_secret_load("credential:pin", &err));
    assert_int_equal(err.domain, CC_DOM_CONFIG);
    assert_non_null(strstr(err.text, "CREDENTIALS_DIRECTORY"));

    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    secret = cc_secret_load("credential:pin", NULL);
    assert_non_null(secret);
    assert_string_equal(cc_secret_str(secret), "1234");
    cc_secret_free(secret);

    cc_err_clear(&err);
    assert_null(cc_secret_load("credential:other", &err));
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, ENOENT);
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void
folder_is_no_secret(void **state)
{
    struct cc_err err = { 0 };
    char reference[80];

    (void)state;
    (void)snprintf(reference, sizeof(reference), "file:%s", folder);
    assert_null(cc_secret_load(reference, &err));
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, EISDIR);
}

static void
references_are_checked(void **state)
{
    static const struct {
        const char *reference;
        int want;
    } cases[] = { { "file:/etc/certconnector/pin", 0 }, { "credential:pin", 0 }, { "file:", -1 },
        { "credential:", -1 }, { "credential:../pin", -1 }, { "credential:..", -1 },
        { "credential:a/b", -1 }, { "hunter2", -1 }, { "File:/x", -1 }, { "", -1 } };
    size_t i;

    (void)state;
    for (i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err err = { 0 };

        assert_int_equal(cc_secret_check_reference(cases[i].reference, &err), cases[i].want);
        assert_int_equal(err.domain, cases[i].want == 0 ? CC_DOM_NONE : CC_DOM_CONFIG);
        assert_null(strstr(err.text, "hunter2"));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_its_bytes),
        cmocka_unit_test(new_is_zero_and_bounded),
        cmocka_unit_test(nothing_is_left_from_secret_to_secret),
        cmocka_unit_test(truncate_wipes_the_rest),
        cmocka_unit_test(is_kept_out_of_core_dumps),
        cmocka_unit_test(wipe_wipes),
        cmocka_unit_test(descriptor_is_read_to_its_end),
        cmocka_unit_test(bad_descriptor_is_refused),
        cmocka_unit_test_teardown(length_is_bounded, drop_file),
        cmocka_unit_test_teardown(mode_open_to_others_is_refused, drop_file),
        cmocka_unit_test_teardown(credential_is_found_in_its_folder, drop_file),
        cmocka_unit_test(folder_is_no_secret),
        cmocka_unit_test(references_are_checked),
    };

    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
