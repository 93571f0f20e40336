/* SPDX-License-Identifier: MIT */
#include "pki/crl.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "issuer.h"

#define CRL_MAX ((size_t)4 * 1024 * 1024)
#define MANY 10000

/* The writer's open(2) passes here, and may be one of a file system that has no unnamed files. */
static bool no_unnamed;

int
open(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode = 0;

    va_start(args, flags);
    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE)
        mode = va_arg(args, mode_t);
    va_end(args);
    if (no_unnamed && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static char folder[] = "/tmp/test-crl-XXXXXX";
static struct pki_issuer rsa;

static int
setup(void **state)
{
    (void)state;
    rsa = make_issuer("rsa");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
    (void)state;
    free_issuer(&rsa);
    /* empty: no temporary file stayed */
    return rmdir(folder);
}

static int64_t
ms_of(const char *text)
{
    int64_t ms = 0;

    assert_int_equal(cc_time_parse(text, &ms, NULL), 0);
    return ms;
}

static struct pki_crl_settings
settings_of(const struct pki_issuer *issuer)
{
    return (struct pki_crl_settings){ .issuer = issuer,
        .this_update_ms = ms_of("2026-03-01T12:00:00.700Z"),
        .next_update_ms = ms_of("2026-03-08T12:00:00Z"),
        .number = 5,
        .base_number = -1,
        .folder = folder };
}

struct entry {
    const char *serial; /* bytes */
    size_t serial_len;
    const char *revoked;
    enum pki_reason reason;
    const char *invalidity; /* NULL: not known */
};

#define SERIAL(bytes) bytes, sizeof(bytes) - 1

static const struct entry entries[] = {
    { SERIAL("\x7f"), "2026-02-01T00:00:00Z", PKI_REASON_UNSPECIFIED, NULL },
    { SERIAL("\x80"), "2049-12-31T23:59:59Z", PKI_REASON_KEY_COMPROMISE, "2025-12-24T18:00:00Z" },
    { SERIAL("\xff\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13"),
            "2050-01-01T00:00:00Z", PKI_REASON_CERTIFICATE_HOLD, "2051-01-01T00:00:00Z" },
    { SERIAL("\x01\x00"), "1999-12-31T23:59:59.999Z", PKI_REASON_UNSPECIFIED,
            "2026-01-01T00:00:00Z" },
};

static void
add_ours(struct pki_crl_writer *writer, const struct entry *e)
{
    struct cc_err err = { 0 };

    if (pki_crl_add(writer, (struct cc_bytes){ (const uint8_t *)e->serial, e->serial_len },
                ms_of(e->revoked), e->reason, e->invalidity != NULL ? ms_of(e->invalidity) : 0,
                &err) != 0)
        fail_msg("%s", err.text);
}

/* Signs; the CRL's bytes, after a look at the file that they come in. */
static struct cc_buf
finish(struct pki_crl_writer *writer)
{
    struct cc_buf der = CC_BUF_INIT(CRL_MAX);
    struct cc_err err = { 0 };
    struct stat st;
    int64_t len = 0;
    int fd = -1;

    if (pki_crl_finish(writer, &fd, &len, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_size, len);
    assert_int_equal(cc_fd_read_all(fd, &der, NULL), 0);
    assert_int_equal(der.len, len);
    close(fd);
    /* once only */
    assert_int_equal(pki_crl_finish(writer, &fd, &len, NULL), -1);
    pki_crl_writer_free(writer);
    return der;
}

static struct pki_crl_writer *
begin(const struct pki_crl_settings *settings)
{
    struct pki_crl_writer *writer = NULL;
    struct cc_err err = { 0 };

    if (pki_crl_begin(settings, &writer, &err) != 0)
        fail_msg("%s", err.text);
    return writer;
}

static struct cc_buf
write_ours(const struct pki_crl_settings *settings, size_t count)
{
    struct pki_crl_writer *writer = begin(settings);

    for (size_t i = 0; i < count; i++)
        add_ours(writer, &entries[i]);
    return finish(writer);
}

static X509_CRL *
parse(const struct cc_buf *der)
{
    const unsigned char *at = der->data;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)der->len);

    if (crl != NULL)
        assert_ptr_equal(at, der->data + der->len);
    return crl;
}

static bool
verifies(const struct cc_buf *der, X509 *issuer)
{
    X509_CRL *crl = parse(der);
    bool good = crl != NULL && X509_CRL_verify(crl, X509_get0_pubkey(issuer)) == 1;

    X509_CRL_free(crl);
    return good;
}

/* ---- the same CRL by OpenSSL's own writer: RSA signatures are the same each time ---- */

static void
add_theirs(X509_CRL *crl, const struct entry *e)
{
    X509_REVOKED *revoked = X509_REVOKED_new();
    BIGNUM *number = BN_bin2bn((const unsigned char *)e->serial, (int)e->serial_len, NULL);
    ASN1_INTEGER *serial = BN_to_ASN1_INTEGER(number, NULL);
    ASN1_TIME *time = ASN1_TIME_set(NULL, ms_of(e->revoked) / 1000);

    assert_true(X509_REVOKED_set_serialNumber(revoked, serial));
    assert_true(X509_REVOKED_set_revocationDate(revoked, time));
    if (e->reason != PKI_REASON_UNSPECIFIED) {
        ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();

        assert_true(ASN1_ENUMERATED_set(reason, e->reason));
        assert_true(X509_REVOKED_add1_ext_i2d(revoked, NID_crl_reason, reason, 0, 0));
        ASN1_ENUMERATED_free(reason);
    }
    if (e->invalidity != NULL) {
        ASN1_GENERALIZEDTIME *date = ASN1_GENERALIZEDTIME_set(NULL, ms_of(e->invalidity) / 1000);

        assert_true(X509_REVOKED_add1_ext_i2d(revoked, NID_invalidity_date, date, 0, 0));
        ASN1_GENERALIZEDTIME_free(date);
    }
    assert_true(X509_CRL_add0_revoked(crl, revoked));
    ASN1_TIME_free(time);
    ASN1_INTEGER_free(serial);
    BN_free(number);
}

static void
add_theirs_extension(X509_CRL *crl, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, NULL, NULL, crl, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    assert_true(X509_CRL_add_ext(crl, extension, -1));
    X509_EXTENSION_free(extension);
}

static void
add_theirs_number(X509_CRL *crl, int nid, int critical, int64_t number)
{
    ASN1_INTEGER *value = ASN1_INTEGER_new();

    assert_true(ASN1_INTEGER_set_int64(value, number));
    assert_true(X509_CRL_add1_ext_i2d(crl, nid, value, critical, 0));
    ASN1_INTEGER_free(value);
}

static struct cc_buf
write_theirs(const struct pki_crl_settings *s, size_t count, const char *freshest)
{
    struct cc_buf der = CC_BUF_INIT(CRL_MAX);
    X509_CRL *crl = X509_CRL_new();
    X509 *issuer = s->issuer->certificate;
    ASN1_TIME *from = ASN1_TIME_set(NULL, s->this_update_ms / 1000);
    ASN1_TIME *to = ASN1_TIME_set(NULL, s->next_update_ms / 1000);
    unsigned char *bytes = NULL;
    int len;

    assert_true(X509_CRL_set_version(crl, X509_CRL_VERSION_2));
    assert_true(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer)));
    assert_true(X509_CRL_set1_lastUpdate(crl, from) && X509_CRL_set1_nextUpdate(crl, to));
    for (size_t i = 0; i < count; i++)
        add_theirs(crl, &entries[i]);
    add_theirs_extension(crl, issuer, NID_authority_key_identifier, "keyid");
    add_theirs_number(crl, NID_crl_number, 0, s->number);
    if (s->base_number >= 0)
        add_theirs_number(crl, NID_delta_crl, 1, s->base_number);
    if (freshest != NULL)
        add_theirs_extension(crl, issuer, NID_freshest_crl, freshest);
    assert_true(X509_CRL_sign(crl, s->issuer->key, EVP_sha256()) > 0);
    assert_true((len = i2d_X509_CRL(crl, &bytes)) > 0);
    assert_int_equal(cc_buf_add(&der, bytes, (size_t)len, NULL), 0);
    OPENSSL_free(bytes);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    X509_CRL_free(crl);
    return der;
}

static const char *const urls[] = { "http://crl.example/delta.crl", "ldap://dir.example/cn=ca" };
static const struct pki_texts one_url = { urls, 1 };
static const struct pki_texts two_urls = { urls, 2 };
static const struct pki_texts no_urls = { urls, 0 };

static const struct {
    size_t count;
    int64_t number, base_number;
    const char *this_update, *next_update;
    const struct pki_texts *freshest;
    const char *want_freshest; /* for OpenSSL's writer */
} same[] = {
    { 0, 1, -1, "2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z", NULL, NULL },
    { 1, 127, -1, "2026-03-01T12:00:00.999Z", "2026-03-08T12:00:00Z", &no_urls, NULL },
    { 3, 128, -1, "2049-12-31T00:00:00Z", "2050-01-07T00:00:00Z", &one_url,
            "URI:http://crl.example/delta.crl" },
    { 4, INT64_MAX, -1, "2055-01-01T00:00:00Z", "2055-01-02T00:00:00Z", NULL, NULL },
    { 0, 9, 8, "2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z", NULL, NULL },
    { 4, 9, 0, "2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z", &two_urls, NULL },
    { 2, 9, 9, "2026-03-01T12:00:00Z", "2026-03-08T12:00:00Z", NULL, NULL },
};

static void
byte_for_byte_what_openssl_writes(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(same); i++) {
        struct pki_crl_settings settings = settings_of(&rsa);
        struct cc_buf ours, theirs;

        settings.number = same[i].number;
        settings.base_number = same[i].base_number;
        settings.this_update_ms = ms_of(same[i].this_update);
        settings.next_update_ms = ms_of(same[i].next_update);
        settings.freshest_urls = same[i].freshest;
        ours = write_ours(&settings, same[i].count);
        theirs = write_theirs(&settings, same[i].count, same[i].want_freshest);
        assert_true(verifies(&ours, rsa.certificate));
        assert_int_equal(ours.len, theirs.len);
        assert_memory_equal(ours.data, theirs.data, ours.len);
        cc_buf_free(&ours);
        cc_buf_free(&theirs);
    }
}

static void
several_urls_are_one_distribution_point(void **state)
{
    struct pki_crl_settings settings = settings_of(&rsa);
    CRL_DIST_POINTS *points;
    GENERAL_NAMES *names;
    struct cc_buf der;
    X509_CRL *crl;

    (void)state;
    settings.freshest_urls = &two_urls;
    der = write_ours(&settings, 1);
    crl = parse(&der);
    points = X509_CRL_get_ext_d2i(crl, NID_freshest_crl, NULL, NULL);
    assert_int_equal(sk_DIST_POINT_num(points), 1);
    names = sk_DIST_POINT_value(points, 0)->distpoint->name.fullname;
    assert_int_equal(sk_GENERAL_NAME_num(names), 2);
    for (int i = 0; i < 2; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        assert_int_equal(name->type, GEN_URI);
        assert_string_equal((const char *)ASN1_STRING_get0_data(name->d.ia5), urls[i]);
    }
    CRL_DIST_POINTS_free(points);
    X509_CRL_free(crl);
    cc_buf_free(&der);
}

/* Without a subjectKeyIdentifier the key's SHA-1 takes its place, which is what "hash" makes one of. */
static void
a_ca_without_key_identifier_gets_one(void **state)
{
    struct pki_issuer bare = { .certificate = X509_dup(rsa.certificate), .key = rsa.key };
    struct pki_crl_settings with = settings_of(&rsa), without = settings_of(&bare);
    struct cc_buf want = write_ours(&with, 1), got;
    int at = X509_get_ext_by_NID(bare.certificate, NID_subject_key_identifier, -1);

    (void)state;
    X509_EXTENSION_free(X509_delete_ext(bare.certificate, at));
    assert_true(X509_sign(bare.certificate, bare.key, EVP_sha256()) > 0);
    got = write_ours(&without, 1);
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data, want.data, got.len);
    X509_free(bare.certificate);
    cc_buf_free(&got);
    cc_buf_free(&want);
}

static const struct {
    const char *kind;
    const EVP_MD *(*md)(void);
    int want_nid;
} keys[] = {
    { "rsa", NULL, NID_sha256WithRSAEncryption },
    { "rsa", EVP_sha512, NID_sha512WithRSAEncryption },
    { "P-256", NULL, NID_ecdsa_with_SHA256 },
    { "P-384", NULL, NID_ecdsa_with_SHA384 },
    { "P-384", EVP_sha256, NID_ecdsa_with_SHA256 },
};

static void
the_key_decides_the_signature(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(keys); i++) {
        struct pki_issuer issuer = make_issuer(keys[i].kind);
        struct pki_crl_settings settings = settings_of(&issuer);
        struct cc_buf der;
        X509_CRL *crl;

        if (keys[i].md != NULL)
            issuer.md = keys[i].md();
        der = write_ours(&settings, 3);
        crl = parse(&der);
        assert_non_null(crl);
        assert_int_equal(X509_CRL_get_signature_nid(crl), keys[i].want_nid);
        assert_int_equal(X509_CRL_verify(crl, issuer.key), 1);
        assert_int_not_equal(X509_CRL_verify(crl, rsa.key), 1);
        X509_CRL_free(crl);
        cc_buf_free(&der);
        free_issuer(&issuer);
    }
}

/* ---- many ---- */

static void
serial_of(uint32_t i, uint8_t serial[4])
{
    uint32_t mixed = (i + 1) * 2654435761U;

    for (int b = 0; b < 4; b++)
        serial[b] = (uint8_t)(mixed >> 8 * (3 - b));
}

static struct cc_buf
write_many(const struct pki_crl_settings *settings)
{
    struct pki_crl_writer *writer = begin(settings);
    uint8_t serial[4];

    for (uint32_t i = 0; i < MANY; i++) {
        serial_of(i, serial);
        assert_int_equal(pki_crl_add(writer, (struct cc_bytes){ serial, 4 }, (int64_t)i * 100000000,
                                 (enum pki_reason)(i % 7), i % 3, NULL),
                0);
    }
    return finish(writer);
}

static int
reason_of(X509_REVOKED *revoked)
{
    ASN1_ENUMERATED *value = X509_REVOKED_get_ext_d2i(revoked, NID_crl_reason, NULL, NULL);
    int reason = value != NULL ? (int)ASN1_ENUMERATED_get(value) : -1;

    ASN1_ENUMERATED_free(value);
    return reason;
}

static void
ten_thousand_entries_are_all_there(void **state)
{
    struct pki_crl_settings settings = settings_of(&rsa);
    struct cc_buf der = write_many(&settings);
    X509_CRL *crl = parse(&der);
    X509_REVOKED *revoked;
    uint8_t serial[4];

    (void)state;
    assert_non_null(crl);
    assert_int_equal(X509_CRL_verify(crl, rsa.key), 1);
    assert_int_equal(sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl)), MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        ASN1_INTEGER *number;
        BIGNUM *bn;
        time_t when = (time_t)i * 100000;

        serial_of(i, serial);
        bn = BN_bin2bn(serial, 4, NULL);
        number = BN_to_ASN1_INTEGER(bn, NULL);
        assert_int_equal(X509_CRL_get0_by_serial(crl, &revoked, number), 1);
        assert_int_equal(reason_of(revoked), i % 7 == 0 ? -1 : (int)(i % 7));
        assert_int_equal(ASN1_TIME_cmp_time_t(X509_REVOKED_get0_revocationDate(revoked), when), 0);
        assert_int_equal(X509_REVOKED_get_ext_by_NID(revoked, NID_invalidity_date, -1) >= 0,
                i % 3 != 0);
        ASN1_INTEGER_free(number);
        BN_free(bn);
    }
    X509_CRL_free(crl);
    cc_buf_free(&der);
}

static void
spoiled_twins_do_not_verify(void **state)
{
    struct pki_crl_settings settings = settings_of(&rsa);
    struct cc_buf der = write_many(&settings);
    const size_t places[] = { 40, der.len / 2, der.len - 270, der.len - 1 };

    (void)state;
    assert_true(verifies(&der, rsa.certificate));
    for (size_t i = 0; i < CC_COUNT(places); i++) {
        der.data[places[i]] ^= 1;
        assert_false(verifies(&der, rsa.certificate));
        der.data[places[i]] ^= 1;
    }
    der.len--;
    assert_false(verifies(&der, rsa.certificate));
    cc_buf_free(&der);
}

static void
a_file_system_without_unnamed_files_will_do(void **state)
{
    struct pki_crl_settings settings = settings_of(&rsa);
    struct cc_buf want = write_ours(&settings, 3), got;

    (void)state;
    no_unnamed = true;
    got = write_ours(&settings, 3);
    no_unnamed = false;
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data, want.data, got.len);
    cc_buf_free(&got);
    cc_buf_free(&want);
}

/* Another program's opinion. */
static void
the_openssl_program_accepts_it(void **state)
{
    static const size_t counts[] = { 0, 3 };
    char pem[64], path[64], command[512];

    (void)state;
    write_pem(rsa.certificate, folder, pem, sizeof(pem));
    for (size_t i = 0; i < CC_COUNT(counts); i++) {
        struct pki_crl_settings settings = settings_of(&rsa);
        struct cc_buf der = write_ours(&settings, counts[i]);

        snprintf(path, sizeof(path), "%s/list.crl", folder);
        snprintf(command, sizeof(command),
                "openssl crl -inform DER -in %s -CAfile %s -noout -text 2>&1 | grep -q '^verify OK$'",
                path, pem);
        assert_int_equal(cc_file_replace(path, der.data, der.len, 0600, NULL), 0);
        assert_int_equal(system(command), 0);
        der.data[60] ^= 1;
        assert_int_equal(cc_file_replace(path, der.data, der.len, 0600, NULL), 0);
        assert_int_not_equal(system(command), 0);
        cc_buf_free(&der);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(pem), 0);
}

/* ---- reasons ---- */

static const struct {
    const char *name;
    int want;
} reasons[] = {
    { "unspecified", 0 },
    { "keyCompromise", 1 },
    { "KEYCOMPROMISE", 1 },
    { "cACompromise", 2 },
    { "affiliationChanged", 3 },
    { "superseded", 4 },
    { "cessationOfOperation", 5 },
    { "certificateHold", 6 },
    { "removeFromCRL", 8 },
    { "privilegeWithdrawn", 9 },
    { "aACompromise", 10 },
    { "", -1 },
    { "unknown", -1 },
    { "keyCompromise ", -1 },
    { "key", -1 },
};

static void
reasons_have_the_names_of_the_rfc(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(reasons); i++) {
        assert_int_equal(pki_reason_parse(reasons[i].name), reasons[i].want);
        if (reasons[i].want >= 0 && i != 2)
            assert_string_equal(pki_reason_name((enum pki_reason)reasons[i].want), reasons[i].name);
    }
    assert_string_equal(pki_reason_name((enum pki_reason)7), "unknown");
    assert_string_equal(pki_reason_name((enum pki_reason) - 1), "unknown");
    assert_string_equal(pki_reason_name((enum pki_reason)11), "unknown");
}

static void
every_reason_is_written(void **state)
{
    (void)state;
    for (int reason = 0; reason <= 10; reason++) {
        struct pki_crl_settings settings = settings_of(&rsa);
        struct pki_crl_writer *writer;
        struct cc_buf der;
        X509_CRL *crl;

        if (reason == 7)
            continue;
        settings.base_number = 1;
        writer = begin(&settings);
        assert_int_equal(pki_crl_add(writer, (struct cc_bytes){ (const uint8_t *)"\x05", 1 }, 0,
                                 (enum pki_reason)reason, 0, NULL),
                0);
        der = finish(writer);
        crl = parse(&der);
        assert_int_equal(reason_of(sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), 0)),
                reason == 0 ? -1 : reason);
        X509_CRL_free(crl);
        cc_buf_free(&der);
    }
}

/* ---- refusals ---- */

#define LONGEST "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14"

static const struct {
    const char *serial;
    size_t serial_len;
    const char *revoked, *invalidity;
    int reason;
    int64_t base_number;
    int want;
} adds[] = {
    { SERIAL(LONGEST), "2026-01-01T00:00:00Z", NULL, 1, -1, 0 },
    { SERIAL("\x00\x00" LONGEST), "2026-01-01T00:00:00Z", NULL, 1, -1, 0 },
    { SERIAL(LONGEST "\x01"), "2026-01-01T00:00:00Z", NULL, 1, -1, -1 },
    { "", 0, "2026-01-01T00:00:00Z", NULL, 1, -1, -1 },
    { SERIAL("\x01"), "1950-01-01T00:00:00Z", NULL, 1, -1, 0 },
    { SERIAL("\x01"), "1949-12-31T23:59:59.999Z", NULL, 1, -1, -1 },
    { SERIAL("\x01"), "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", 1, -1, 0 },
    { SERIAL("\x01"), "2026-01-01T00:00:00Z", "1949-12-31T23:59:59.999Z", 1, -1, -1 },
    { SERIAL("\x01"), "2026-01-01T00:00:00Z", NULL, 7, -1, -1 },
    { SERIAL("\x01"), "2026-01-01T00:00:00Z", NULL, 11, -1, -1 },
    { SERIAL("\x01"), "2026-01-01T00:00:00Z", NULL, -1, -1, -1 },
    { SERIAL("\x01"), "2026-01-01T00:00:00Z", NULL, 8, -1, -1 },
    { SERIAL("\x01"), "2026-01-01T00:00:00Z", NULL, 8, 3, 0 },
};

static void
an_entry_that_is_refused_spoils_the_list(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(adds); i++) {
        struct pki_crl_settings settings = settings_of(&rsa);
        struct pki_crl_writer *writer;
        struct cc_err err = { 0 };
        int64_t len = 0;
        int fd = -1;

        settings.base_number = adds[i].base_number;
        writer = begin(&settings);
        assert_int_equal(
                pki_crl_add(writer,
                        (struct cc_bytes){ (const uint8_t *)adds[i].serial, adds[i].serial_len },
                        ms_of(adds[i].revoked), (enum pki_reason)adds[i].reason,
                        adds[i].invalidity != NULL ? ms_of(adds[i].invalidity) : 0, &err),
                adds[i].want);
        assert_int_equal(err.domain, adds[i].want == 0 ? CC_DOM_NONE : CC_DOM_INPUT);
        assert_int_equal(pki_crl_finish(writer, &fd, &len, NULL), adds[i].want);
        if (fd >= 0)
            close(fd);
        pki_crl_writer_free(writer);
    }
}

static void
settings_are_checked(void **state)
{
    struct pki_issuer no_cert = { .key = rsa.key };
    struct pki_crl_settings good = settings_of(&rsa);
    struct pki_crl_settings bad[5] = { good, good, good, good, good };
    struct pki_crl_writer *writer = NULL;
    struct cc_err err = { 0 };

    (void)state;
    bad[0].issuer = &no_cert;
    bad[1].next_update_ms = bad[1].this_update_ms;
    bad[2].number = -1;
    bad[3].base_number = bad[3].number + 1;
    bad[4].folder = "/nonexistent";
    for (size_t i = 0; i < CC_COUNT(bad); i++)
        assert_int_equal(pki_crl_begin(&bad[i], &writer, NULL), -1);
    assert_int_equal(pki_crl_begin(&bad[4], &writer, &err), -1);
    assert_int_equal(err.domain, CC_DOM_SYSTEM);
    assert_int_equal(err.code, ENOENT);
    assert_null(writer);
    pki_crl_writer_free(NULL);
    pki_crl_writer_free(begin(&good));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_for_byte_what_openssl_writes),
        cmocka_unit_test(several_urls_are_one_distribution_point),
        cmocka_unit_test(a_ca_without_key_identifier_gets_one),
        cmocka_unit_test(the_key_decides_the_signature),
        cmocka_unit_test(ten_thousand_entries_are_all_there),
        cmocka_unit_test(spoiled_twins_do_not_verify),
        cmocka_unit_test(a_file_system_without_unnamed_files_will_do),
        cmocka_unit_test(the_openssl_program_accepts_it),
        cmocka_unit_test(reasons_have_the_names_of_the_rfc),
        cmocka_unit_test(every_reason_is_written),
        cmocka_unit_test(an_entry_that_is_refused_spoils_the_list),
        cmocka_unit_test(settings_are_checked),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
