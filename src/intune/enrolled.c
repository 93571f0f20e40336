/* SPDX-License-Identifier: MIT */
#include "intune/enrol.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/clock.h"
#include "base/file.h"
#include "pki/cert.h"

/* The file of an identity. */

#define FILE_MAX ((size_t)1 << 20)
#define KEY_LINE "key: "
#define RENEW_LINE "renew-after: "
#define PROVEN_LINE "proven: "

/* ---- writing ---- */

static int
add_pem(X509 *certificate, struct cc_buf *ret, struct cc_err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len;
    int rc = -1;

    ERR_clear_error();
    if (bio == NULL || PEM_write_bio_X509(bio, certificate) != 1 ||
            (len = BIO_get_mem_data(bio, &text)) <= 0)
        cc_err_set_openssl(err, "a certificate in PEM");
    else
        rc = cc_buf_add(ret, text, (size_t)len, err);
    BIO_free(bio);
    return rc;
}

int
intune_enrolled_write(const struct intune_enrolled *enrolled, const char *path, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(FILE_MAX);
    char renew[CC_TIME_LEN];
    int rc;

    cc_time_format(enrolled->renew_after_ms, renew);
    rc = cc_buf_printf(&text, err,
            "The identity of this connector at its service.  Made and renewed by certconnectord.\n"
            "connector-id: %s\n" KEY_LINE "%s\n" RENEW_LINE "%s\n" PROVEN_LINE "%s\n",
            enrolled->connector_id, enrolled->key, renew, enrolled->proven ? "yes" : "no");
    if (rc == 0)
        rc = add_pem(enrolled->certificate, &text, err);
    for (int i = 0; rc == 0 && i < sk_X509_num(enrolled->chain); i++)
        rc = add_pem(sk_X509_value(enrolled->chain, i), &text, err);
    if (rc == 0)
        rc = cc_file_replace(path, text.data, text.len, 0640, err);
    cc_buf_free(&text);
    return rc;
}

/* ---- reading ---- */

/* What stands behind the words that a line begins with. */
static int
find_line(const char *text, const char *words, char *ret, size_t size, struct cc_err *err)
{
    const char *line = text;

    while (line != NULL && !cc_starts_with(line, "-----BEGIN")) {
        if (cc_starts_with(line, words)) {
            const char *value = line + strlen(words);
            size_t len = strcspn(value, "\n");

            if (len == 0 || len >= size)
                break;
            memcpy(ret, value, len);
            ret[len] = '\0';
            return 0;
        }
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return cc_err_set(err, CC_DOM_INPUT, 0, "no line that begins with \"%s\"", words);
}

static int
read_text(const struct cc_buf *text, struct intune_enrolled *ret, struct cc_err *err)
{
    char renew[CC_TIME_LEN], id[CC_UUID_LEN], proven[8];

    if (find_line(cc_buf_str(text), "connector-id: ", id, sizeof(id), err) != 0 ||
            find_line(cc_buf_str(text), KEY_LINE, ret->key, sizeof(ret->key), err) != 0 ||
            find_line(cc_buf_str(text), RENEW_LINE, renew, sizeof(renew), err) != 0 ||
            cc_time_parse(renew, &ret->renew_after_ms, err) != 0 ||
            pki_certs_read_pem(cc_buf_bytes(text), &ret->chain, err) != 0)
        return -1;
    ret->certificate = sk_X509_shift(ret->chain);
    /* Files that do not say are those of before. */
    ret->proven = find_line(cc_buf_str(text), PROVEN_LINE, proven, sizeof(proven), NULL) != 0 ||
                  strcmp(proven, "no") != 0;
    if (!cc_is_uuid(id))
        return cc_err_set(err, CC_DOM_INPUT, 0, "the connector's id is none");
    (void)cc_strcpy(ret->connector_id, sizeof(ret->connector_id), id);
    return pki_cert_validity(ret->certificate, &ret->not_before_ms, &ret->not_after_ms, err);
}

int
intune_enrolled_read(const char *path, struct intune_enrolled *ret, struct cc_err *err)
{
    struct intune_enrolled enrolled = { .certificate = NULL };
    struct cc_buf text = CC_BUF_INIT(FILE_MAX);
    int rc = cc_file_read(path, &text, err);

    if (rc == 0 && (rc = read_text(&text, &enrolled, err)) != 0)
        cc_err_in(err, "%s", path);
    cc_buf_free(&text);
    if (rc == 0)
        *ret = enrolled;
    else
        intune_enrolled_free(&enrolled);
    return rc;
}
