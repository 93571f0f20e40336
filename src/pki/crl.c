/* SPDX-License-Identifier: MIT */
#include "pki/crl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "pki_int.h"

#define CHUNK ((size_t)64 * 1024)
#define HEAD_MAX ((size_t)256 * 1024) /* everything of a CRL but its entries */

struct pki_crl_writer {
    struct pki_crl_settings settings;
    int entries_fd;      /* unlinked; the entries one behind the other */
    int64_t entries_len; /* bytes in it and in chunk */
    uint8_t *chunk;      /* CHUNK bytes: entries not written yet, then what is copied */
    size_t filled;
    bool spent; /* an entry is missing, or it is signed already: no more of it */
};

/* ---- reasons ---- */

static const char *const reason_names[] = {
    [PKI_REASON_UNSPECIFIED] = "unspecified",
    [PKI_REASON_KEY_COMPROMISE] = "keyCompromise",
    [PKI_REASON_CA_COMPROMISE] = "cACompromise",
    [PKI_REASON_AFFILIATION_CHANGED] = "affiliationChanged",
    [PKI_REASON_SUPERSEDED] = "superseded",
    [PKI_REASON_CESSATION_OF_OPERATION] = "cessationOfOperation",
    [PKI_REASON_CERTIFICATE_HOLD] = "certificateHold",
    [PKI_REASON_REMOVE_FROM_CRL] = "removeFromCRL",
    [PKI_REASON_PRIVILEGE_WITHDRAWN] = "privilegeWithdrawn",
    [PKI_REASON_AA_COMPROMISE] = "aACompromise",
};

int
pki_reason_parse(const char *name)
{
    for (size_t i = 0; i < CC_COUNT(reason_names); i++)
        if (reason_names[i] != NULL && cc_equal_nocase(name, reason_names[i]))
            return (int)i;
    return -1;
}

const char *
pki_reason_name(enum pki_reason reason)
{
    const char *name = NULL;

    if ((int)reason >= 0 && (size_t)reason < CC_COUNT(reason_names))
        name = reason_names[reason];
    return name != NULL ? name : "unknown";
}

/* ---- DER ---- */

#define TAG_INTEGER 0x02
#define TAG_BIT_STRING 0x03
#define TAG_UTC_TIME 0x17
#define TAG_GENERALIZED_TIME 0x18
#define TAG_SEQUENCE 0x30
#define TAG_EXTENSIONS 0xa0 /* [0] EXPLICIT */

#define HEADER_MAX 10 /* a tag and the longest length */
#define TIME_MAX 17   /* with its tag and length */

/* Tag and length of what has len bytes; returns how many octets. */
static size_t
put_header(uint8_t out[HEADER_MAX], uint8_t tag, uint64_t len)
{
    size_t octets = 0;

    out[0] = tag;
    if (len < 0x80) {
        out[1] = (uint8_t)len;
        return 2;
    }
    for (uint64_t rest = len; rest > 0; rest >>= 8)
        octets++;
    out[1] = (uint8_t)(0x80 | octets);
    for (size_t i = 0; i < octets; i++)
        out[2 + i] = (uint8_t)(len >> 8 * (octets - 1 - i));
    return 2 + octets;
}

/* UTCTime through the year 2049, unless always GeneralizedTime (RFC 5280 sections 5.1.2.4 to 5.1.2.6); 0: out of range. */
static size_t
put_time(uint8_t out[TIME_MAX], int64_t time_ms, bool generalized)
{
    /* Rounded down, before 1970 as well. */
    time_t seconds = (time_t)(time_ms / 1000 - (time_ms % 1000 < 0));
    char text[32];
    struct tm tm;
    bool utc;
    int len;

    if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year < 50 || tm.tm_year > 9999 - 1900)
        return 0;
    utc = !generalized && tm.tm_year < 150;
    len = snprintf(text, sizeof(text), "%0*d%02d%02d%02d%02d%02dZ", utc ? 2 : 4,
            utc ? tm.tm_year % 100 : tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
            tm.tm_min, tm.tm_sec);
    out[0] = utc ? TAG_UTC_TIME : TAG_GENERALIZED_TIME;
    out[1] = (uint8_t)len;
    memcpy(out + 2, text, (size_t)len);
    return 2 + (size_t)len;
}

/* ---- entries ---- */

#define SERIAL_ROOM (2 + 1 + PKI_SERIAL_LEN)
#define REASON_LEN 12
#define INVALIDITY_LEN 26
#define ENTRY_MAX (2 + SERIAL_ROOM + TIME_MAX + 2 + REASON_LEN + INVALIDITY_LEN)

_Static_assert(ENTRY_MAX - 2 < 0x80, "lengths of entries are one octet");

/* 0: not a serial number of ours. */
static size_t
put_serial(uint8_t out[SERIAL_ROOM], struct cc_bytes serial)
{
    size_t pad;

    while (serial.len > 1 && serial.data[0] == 0) {
        serial.data++;
        serial.len--;
    }
    if (serial.len == 0 || serial.len > PKI_SERIAL_LEN)
        return 0;
    pad = serial.data[0] >= 0x80;
    out[0] = TAG_INTEGER;
    out[1] = (uint8_t)(pad + serial.len);
    out[2] = 0;
    memcpy(out + 2 + pad, serial.data, serial.len);
    return 2 + pad + serial.len;
}

/* The crlEntryExtensions that there are, with their SEQUENCE; *ret_len 0: none.  -1: the date is out of range. */
static int
put_entry_extensions(uint8_t *out, enum pki_reason reason, int64_t invalidity_ms, size_t *ret_len)
{
    /* reasonCode 2.5.29.21, ENUMERATED; invalidityDate 2.5.29.24, GeneralizedTime (section 5.3) */
    static const uint8_t reason_code[] = { 0x30, 0x0a, 0x06, 0x03, 0x55, 0x1d, 0x15, 0x04, 0x03,
        0x0a, 0x01 };
    static const uint8_t invalidity_date[] = { 0x30, 0x18, 0x06, 0x03, 0x55, 0x1d, 0x18, 0x04,
        0x11 };
    size_t len = 2;

    /* "SHOULD be absent instead of using the unspecified (0) reasonCode value" (section 5.3.1) */
    if (reason != PKI_REASON_UNSPECIFIED) {
        memcpy(out + len, reason_code, sizeof(reason_code));
        len += sizeof(reason_code);
        out[len++] = (uint8_t)reason;
    }
    if (invalidity_ms != 0) {
        memcpy(out + len, invalidity_date, sizeof(invalidity_date));
        len += sizeof(invalidity_date);
        if (put_time(out + len, invalidity_ms, true) == 0)
            return -1;
        len += TIME_MAX;
    }
    out[0] = TAG_SEQUENCE;
    out[1] = (uint8_t)(len - 2);
    *ret_len = len > 2 ? len : 0;
    return 0;
}

static int
flush_entries(struct pki_crl_writer *writer, struct cc_err *err)
{
    size_t len = writer->filled;

    writer->filled = 0;
    if (cc_fd_write_all(writer->entries_fd, writer->chunk, len, err) != 0)
        return cc_err_in(err, "collect entries of a CRL");
    return 0;
}

/* Room for one entry in the chunk; NULL when the disk did not take what was there. */
static uint8_t *
room_for_entry(struct pki_crl_writer *writer, struct cc_err *err)
{
    if (CHUNK - writer->filled < ENTRY_MAX && flush_entries(writer, err) != 0)
        return NULL;
    return writer->chunk + writer->filled;
}

/* Section 5.1.2.6; all in one-octet lengths, as ENTRY_MAX has it. */
static int
put_entry(uint8_t *out, struct cc_bytes serial, int64_t revoked_ms, enum pki_reason reason,
        int64_t invalidity_ms, size_t *ret_len, struct cc_err *err)
{
    size_t len = 2, part;

    if ((part = put_serial(out + len, serial)) == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a serial number of %zu bytes", serial.len);
    len += part;
    if ((part = put_time(out + len, revoked_ms, false)) == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a revocation date out of range");
    len += part;
    if (put_entry_extensions(out + len, reason, invalidity_ms, &part) != 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "an invalidity date out of range");
    len += part;
    out[0] = TAG_SEQUENCE;
    out[1] = (uint8_t)(len - 2);
    *ret_len = len;
    return 0;
}

static int
check_reason(const struct pki_crl_writer *writer, enum pki_reason reason, struct cc_err *err)
{
    if ((int)reason < 0 || (size_t)reason >= CC_COUNT(reason_names) || reason_names[reason] == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "there is no reason %d", (int)reason);
    if (reason == PKI_REASON_REMOVE_FROM_CRL && writer->settings.base_number < 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "removeFromCRL in a CRL that is no delta");
    return 0;
}

int
pki_crl_add(struct pki_crl_writer *writer, struct cc_bytes serial, int64_t revoked_ms,
        enum pki_reason reason, int64_t invalidity_ms, struct cc_err *err)
{
    uint8_t *room;
    size_t len = 0;

    if (check_reason(writer, reason, err) != 0 || (room = room_for_entry(writer, err)) == NULL ||
            put_entry(room, serial, revoked_ms, reason, invalidity_ms, &len, err) != 0) {
        writer->spent = true;
        return -1;
    }
    writer->filled += len;
    writer->entries_len += (int64_t)len;
    return 0;
}

/* ---- begin ---- */

static int
check_settings(const struct pki_crl_settings *settings, struct cc_err *err)
{
    uint8_t time[TIME_MAX];

    if (settings->issuer->certificate == NULL)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "a CRL needs its issuer's certificate");
    if (settings->number < 0 || settings->base_number > settings->number)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "CRL number %lld, of its base %lld",
                (long long)settings->number, (long long)settings->base_number);
    if (put_time(time, settings->this_update_ms, false) == 0 ||
            put_time(time, settings->next_update_ms, false) == 0 ||
            settings->next_update_ms <= settings->this_update_ms)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a CRL that ends before it begins");
    return 0;
}

int
pki_crl_begin(const struct pki_crl_settings *settings, struct pki_crl_writer **ret_writer,
        struct cc_err *err)
{
    struct pki_crl_writer *writer;

    if (check_settings(settings, err) != 0)
        return -1;
    if ((writer = calloc(1, sizeof(*writer))) == NULL)
        return cc_err_nomem(err);
    writer->settings = *settings;
    writer->entries_fd = -1;
    if ((writer->chunk = malloc(CHUNK)) == NULL) {
        cc_err_nomem(err);
        goto fail;
    }
    if ((writer->entries_fd = cc_file_unnamed(settings->folder, err)) < 0)
        goto fail;
    *ret_writer = writer;
    return 0;
fail:
    pki_crl_writer_free(writer);
    return -1;
}

void
pki_crl_writer_free(struct pki_crl_writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->entries_fd >= 0)
        (void)close(writer->entries_fd);
    free(writer->chunk);
    free(writer);
}

/* ---- the parts around the entries ---- */

static int
add_header(struct cc_buf *buf, uint8_t tag, uint64_t len, struct cc_err *err)
{
    uint8_t header[HEADER_MAX];

    return cc_buf_add(buf, header, put_header(header, tag, len), err);
}

static int
add_times(struct cc_buf *buf, const struct pki_crl_settings *settings, struct cc_err *err)
{
    uint8_t time[TIME_MAX];

    if (cc_buf_add(buf, time, put_time(time, settings->this_update_ms, false), err) != 0)
        return -1;
    return cc_buf_add(buf, time, put_time(time, settings->next_update_ms, false), err);
}

/* What stands before revokedCertificates: version, signature, issuer, the two times. */
static int
make_fields(const struct pki_crl_settings *settings, struct cc_bytes algorithm, struct cc_buf *ret,
        struct cc_err *err)
{
    static const uint8_t version2[] = { TAG_INTEGER, 1, 1 };
    const X509_NAME *issuer = X509_get_subject_name(settings->issuer->certificate);
    const unsigned char *name;
    size_t name_len;

    if (!X509_NAME_get0_der(issuer, &name, &name_len))
        return cc_err_set_openssl(err, "issuer of the CRL");
    if (cc_buf_add(ret, version2, sizeof(version2), err) != 0 ||
            cc_buf_add(ret, algorithm.data, algorithm.len, err) != 0 ||
            cc_buf_add(ret, name, name_len, err) != 0)
        return -1;
    return add_times(ret, settings, err);
}

/* [0] EXPLICIT Extensions, what stands behind the entries. */
static int
make_tail(const struct pki_crl_settings *settings, struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf extensions = CC_BUF_INIT(HEAD_MAX);
    int rc = -1;

    if (pki_crl_extensions(settings, &extensions, err) != 0 ||
            add_header(ret, TAG_EXTENSIONS, extensions.len, err) != 0)
        goto out;
    rc = cc_buf_add(ret, extensions.data, extensions.len, err);
out:
    cc_buf_free(&extensions);
    return rc;
}

/* Everything of the TBSCertList up to the entries.  No entries: no revokedCertificates (section 5.1.2.6). */
static int
make_head(const struct pki_crl_writer *writer, struct cc_bytes algorithm, size_t tail_len,
        struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf fields = CC_BUF_INIT(HEAD_MAX);
    uint64_t entries_len = (uint64_t)writer->entries_len;
    uint8_t list[HEADER_MAX];
    size_t list_len = entries_len > 0 ? put_header(list, TAG_SEQUENCE, entries_len) : 0;
    int rc = -1;

    if (make_fields(&writer->settings, algorithm, &fields, err) != 0)
        goto out;
    if (add_header(ret, TAG_SEQUENCE, fields.len + list_len + entries_len + tail_len, err) != 0 ||
            cc_buf_add(ret, fields.data, fields.len, err) != 0 ||
            cc_buf_add(ret, list, list_len, err) != 0)
        goto out;
    rc = 0;
out:
    cc_buf_free(&fields);
    return rc;
}

/* ---- the whole ---- */

/* Of one finish; the TBSCertList is head, the entries, tail. */
struct finishing {
    struct pki_crl_writer *writer;
    EVP_MD_CTX *sign;
    struct cc_buf algorithm, head, tail, signature;
    int out_fd;
};

typedef int (*piece_fn)(struct finishing *f, const void *data, size_t len, struct cc_err *err);

/* Calls fn for each piece of the entries file. */
static int
each_piece(struct finishing *f, piece_fn fn, struct cc_err *err)
{
    struct pki_crl_writer *writer = f->writer;
    off_t place = 0;

    while (place < writer->entries_len) {
        ssize_t n = pread(writer->entries_fd, writer->chunk, CHUNK, place);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cc_err_set_errno(err, errno, "read entries of a CRL");
        if (n == 0)
            return cc_err_set(err, CC_DOM_INTERNAL, 0, "entries of a CRL are missing");
        if (fn(f, writer->chunk, (size_t)n, err) != 0)
            return -1;
        place += n;
    }
    return 0;
}

/* The TBSCertList, piece by piece. */
static int
each_part(struct finishing *f, piece_fn fn, struct cc_err *err)
{
    if (fn(f, f->head.data, f->head.len, err) != 0 || each_piece(f, fn, err) != 0)
        return -1;
    return fn(f, f->tail.data, f->tail.len, err);
}

static int
hash_piece(struct finishing *f, const void *data, size_t len, struct cc_err *err)
{
    if (EVP_DigestSignUpdate(f->sign, data, len) != 1)
        return cc_err_set_openssl(err, "sign the CRL");
    return 0;
}

static int
write_piece(struct finishing *f, const void *data, size_t len, struct cc_err *err)
{
    if (cc_fd_write_all(f->out_fd, data, len, err) != 0)
        return cc_err_in(err, "put the CRL together");
    return 0;
}

/* The AlgorithmIdentifier that the key's provider gives for key and digest together. */
static int
begin_signature(struct finishing *f, struct cc_err *err)
{
    const struct pki_issuer *issuer = f->writer->settings.issuer;
    const EVP_MD *md = issuer->md != NULL ? issuer->md : pki_signature_md(issuer->key);
    uint8_t algorithm[256];
    OSSL_PARAM params[] = { OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, algorithm,
                                    sizeof(algorithm)),
        OSSL_PARAM_END };
    EVP_PKEY_CTX *ctx = NULL;

    ERR_clear_error();
    if ((f->sign = EVP_MD_CTX_new()) == NULL ||
            EVP_DigestSignInit(f->sign, &ctx, md, NULL, issuer->key) != 1)
        return cc_err_set_openssl(err, "sign the CRL");
    if (EVP_PKEY_CTX_get_params(ctx, params) <= 0 || !OSSL_PARAM_modified(params) ||
            params[0].return_size == 0)
        return cc_err_set_openssl(err, "signature algorithm of the CRL");
    return cc_buf_add(&f->algorithm, algorithm, params[0].return_size, err);
}

static int
sign(struct finishing *f, struct cc_err *err)
{
    size_t len = 0;
    uint8_t *room;

    if (each_part(f, hash_piece, err) != 0)
        return -1;
    if (EVP_DigestSignFinal(f->sign, NULL, &len) != 1)
        return cc_err_set_openssl(err, "sign the CRL");
    if ((room = cc_buf_reserve(&f->signature, len, err)) == NULL)
        return -1;
    if (EVP_DigestSignFinal(f->sign, room, &len) != 1)
        return cc_err_set_openssl(err, "sign the CRL");
    f->signature.len += len;
    return 0;
}

/* signatureAlgorithm and signatureValue, behind the TBSCertList. */
static int
add_signature(struct finishing *f, struct cc_buf *ret, struct cc_err *err)
{
    if (cc_buf_add(ret, f->algorithm.data, f->algorithm.len, err) != 0 ||
            add_header(ret, TAG_BIT_STRING, f->signature.len + 1, err) != 0 ||
            cc_buf_add_u8(ret, 0, err) != 0) /* unused bits */
        return -1;
    return cc_buf_add(ret, f->signature.data, f->signature.len, err);
}

static int
write_all(struct finishing *f, int64_t *ret_len, struct cc_err *err)
{
    struct cc_buf end = CC_BUF_INIT(HEAD_MAX);
    uint8_t header[HEADER_MAX];
    uint64_t len;
    size_t header_len;
    int rc = -1;

    if (add_signature(f, &end, err) != 0)
        goto out;
    len = f->head.len + (uint64_t)f->writer->entries_len + f->tail.len + end.len;
    header_len = put_header(header, TAG_SEQUENCE, len);
    if (write_piece(f, header, header_len, err) != 0 || each_part(f, write_piece, err) != 0 ||
            write_piece(f, end.data, end.len, err) != 0)
        goto out;
    if (lseek(f->out_fd, 0, SEEK_SET) != 0) {
        cc_err_set_errno(err, errno, "put the CRL together");
        goto out;
    }
    *ret_len = (int64_t)(header_len + len);
    rc = 0;
out:
    cc_buf_free(&end);
    return rc;
}

static int
finish(struct finishing *f, int64_t *ret_len, struct cc_err *err)
{
    const struct pki_crl_settings *settings = &f->writer->settings;

    if (flush_entries(f->writer, err) != 0)
        return -1;
    if (begin_signature(f, err) != 0 || make_tail(settings, &f->tail, err) != 0 ||
            make_head(f->writer, cc_buf_bytes(&f->algorithm), f->tail.len, &f->head, err) != 0)
        return -1;
    if (sign(f, err) != 0)
        return -1;
    if ((f->out_fd = cc_file_unnamed(settings->folder, err)) < 0)
        return -1;
    return write_all(f, ret_len, err);
}

int
pki_crl_finish(struct pki_crl_writer *writer, int *ret_fd, int64_t *ret_len, struct cc_err *err)
{
    struct finishing f = { .writer = writer,
        .algorithm = CC_BUF_INIT(HEAD_MAX),
        .head = CC_BUF_INIT(HEAD_MAX),
        .tail = CC_BUF_INIT(HEAD_MAX),
        .signature = CC_BUF_INIT(HEAD_MAX),
        .out_fd = -1 };
    int rc = -1;

    if (writer->spent)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "a CRL that lacks an entry, or was signed");
    writer->spent = true;
    if (finish(&f, ret_len, err) != 0)
        goto out;
    *ret_fd = f.out_fd;
    f.out_fd = -1;
    rc = 0;
out:
    if (f.out_fd >= 0)
        (void)close(f.out_fd);
    EVP_MD_CTX_free(f.sign);
    cc_buf_free(&f.algorithm);
    cc_buf_free(&f.head);
    cc_buf_free(&f.tail);
    cc_buf_free(&f.signature);
    return rc;
}
