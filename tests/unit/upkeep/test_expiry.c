/* SPDX-License-Identifier: MIT */
#include "upkeep/expiry.h"

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
#include <openssl/x509.h>

#define NOW INT64_C(1800000000000)
#define DAY UPKEEP_DAY_MS

/* Days are counted as people do: what ends in 23 hours has no whole day left, and what ended an hour ago is over. */
static void
test_days_left(void **state)
{
    static const struct {
        int64_t left_ms, want;
    } table[] = {
        { 60 * DAY, 60 },
        { 60 * DAY - 1, 59 },
        { DAY, 1 },
        { DAY - 1, 0 },
        { 0, 0 },
        { -1, -1 },
        { -DAY, -1 },
        { -DAY - 1, -2 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        const struct upkeep_item item = { .not_after_ms = NOW + table[i].left_ms };

        assert_int_equal(upkeep_days_left(&item, NOW), table[i].want);
    }
}

static void
test_thresholds(void **state)
{
    static const struct {
        int64_t left_ms;
        int want;
    } table[] = {
        { 60 * DAY + 1, -1 },
        { 60 * DAY, 60 },
        { 30 * DAY + 1, 60 },
        { 30 * DAY, 30 },
        { 14 * DAY, 14 },
        { 7 * DAY, 7 },
        { 7 * DAY - 1, 7 },
        { DAY, 1 },
        { 1, 1 },
        { 0, 0 },
        { -1000 * DAY, 0 },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        const struct upkeep_item item = { .not_after_ms = NOW + table[i].left_ms };

        assert_int_equal(upkeep_threshold(&item, NOW), table[i].want);
    }
}

/* From one change to the next, and to no other: what is said there is what the watch says. */
static void
test_changes(void **state)
{
    static const int want[] = { 60, 30, 14, 7, 1, 0 };
    const struct upkeep_item item = { .not_after_ms = NOW + 100 * DAY };
    int64_t now = NOW;

    (void)state;
    for (size_t i = 0; i < CC_COUNT(want); i++) {
        const int64_t next = upkeep_next_change_ms(&item, now);

        assert_true(next > now);
        assert_int_equal(upkeep_threshold(&item, next - 1), i == 0 ? -1 : want[i - 1]);
        assert_int_equal(upkeep_threshold(&item, next), want[i]);
        now = next;
    }
    assert_int_equal(upkeep_next_change_ms(&item, now), INT64_MAX);
}

/* What renews itself is not told of before that is overdue, and then as near its end as it is. */
static void
test_quiet(void **state)
{
    const struct upkeep_item item = { .not_after_ms = NOW + 100 * DAY,
        .quiet_until_ms = NOW + 90 * DAY };

    (void)state;
    assert_int_equal(upkeep_threshold(&item, NOW + 60 * DAY), -1);
    assert_int_equal(upkeep_next_change_ms(&item, NOW), NOW + 90 * DAY);
    assert_int_equal(upkeep_threshold(&item, NOW + 90 * DAY), 14);
    assert_int_equal(upkeep_next_change_ms(&item, NOW + 90 * DAY), NOW + 93 * DAY);
}

/* ---- certificates ---- */

static X509 *
make_certificate(int64_t from_days, int64_t to_days)
{
    X509 *certificate = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    time_t now = (time_t)(NOW / 1000);

    assert_non_null(certificate);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), (long)to_days + 7), 1);
    assert_non_null(X509_time_adj_ex(X509_getm_notBefore(certificate), (int)from_days, 0, &now));
    assert_non_null(X509_time_adj_ex(X509_getm_notAfter(certificate), (int)to_days, 0, &now));
    assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN",
                             MBSTRING_ASC, (const unsigned char *)"one", -1, -1, 0),
            1);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    EVP_PKEY_free(key);
    return certificate;
}

static void
test_certificates(void **state)
{
    struct upkeep_items items = { .count = 0 };
    X509 *certificate = make_certificate(-60, 30), *other = make_certificate(0, 1);
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(upkeep_items_add(&items, "ca", "CA", "renew it", certificate, false, &err), 0);
    /* The same one in the same role is one; in another it is another. */
    assert_int_equal(upkeep_items_add(&items, "ca", "CA", "renew it", certificate, false, &err), 0);
    assert_int_equal(items.count, 1);
    assert_int_equal(upkeep_items_add(&items, "ocsp", "OCSP", "wait", certificate, true, &err), 0);
    assert_int_equal(upkeep_items_add(&items, "ocsp", "OCSP", "wait", other, true, &err), 0);
    assert_int_equal(items.count, 3);

    assert_string_equal(items.item[0].name, "CA (CN=one)");
    assert_int_equal(items.item[0].not_after_ms, NOW + 30 * DAY);
    assert_int_equal(upkeep_threshold(&items.item[0], NOW), 30);
    /* Two thirds of 90 days are over now, and a day of slack begins. */
    assert_int_equal(items.item[1].quiet_until_ms, NOW + DAY);
    assert_int_equal(upkeep_threshold(&items.item[1], NOW), -1);
    /* One that lives for a day has no day of slack. */
    assert_int_equal(items.item[2].quiet_until_ms, items.item[2].not_after_ms);
    assert_string_not_equal(items.item[1].id, items.item[2].id);
    assert_null(strchr(items.item[0].id, ' '));

    upkeep_items_free(&items);
    assert_null(items.item);
    X509_free(other);
    X509_free(certificate);
}

/* Beside that of another instance with the same state directory. */
static void
test_identity_file(void **state)
{
    char folder[] = "/tmp/cc-test-XXXXXX";
    const struct config config = { .connector = { .name = "dc1", .state_directory = folder } };
    const struct config other = { .connector = { .name = "dc2", .state_directory = folder } };
    struct cc_buf path = CC_BUF_INIT(256);
    X509 *certificate = make_certificate(-60, 30);
    struct upkeep_items items;
    struct cc_err err = { 0 };
    FILE *file;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(config_identity_path(config.connector.state_directory, config.connector.name,
                             &path, &err),
            0);
    assert_non_null(file = fopen(cc_buf_str(&path), "w"));
    assert_true(PEM_write_X509(file, certificate) == 1 && fclose(file) == 0);

    assert_int_equal(upkeep_items_collect(&config, NULL, &items, &err), 0);
    assert_int_equal(items.count, 1);
    assert_string_equal(items.item[0].role, "identity");
    assert_non_null(strstr(items.item[0].name, cc_buf_str(&path)));
    assert_int_equal(items.item[0].not_after_ms, NOW + 30 * DAY);
    upkeep_items_free(&items);

    assert_int_equal(upkeep_items_collect(&other, NULL, &items, &err), 0);
    assert_int_equal(items.count, 0);
    upkeep_items_free(&items);

    (void)unlink(cc_buf_str(&path));
    (void)rmdir(folder);
    cc_buf_free(&path);
    X509_free(certificate);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days_left),
        cmocka_unit_test(test_thresholds),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_identity_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
