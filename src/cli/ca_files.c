/* SPDX-License-Identifier: MIT */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "ca_verbs.h"
#include "pki/cert.h"

#define FILE_MAX ((size_t)1 << 20)
#define PEM_MAX ((size_t)96 << 20) /* of a CRL with a million entries */

static int
push(STACK_OF(X509) *list, X509 *cert, struct cc_err *err)
{
    if (sk_X509_push(list, cert) > 0)
        return 0;
    X509_free(cert);
    return cc_err_nomem(err);
}

static int
read_pem(struct cc_bytes text, STACK_OF(X509) *ret, struct cc_err *err)
{
    BIO *bio = BIO_new_mem_buf(text.data, (int)text.len);
    X509 *cert;
    int rc = 0;

    while (rc == 0 && bio != NULL && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        rc = push(ret, cert, err);
    ERR_clear_error();
    BIO_free(bio);
    return rc;
}

int
cli_read_certificates(const char *path, STACK_OF(X509) *ret, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(FILE_MAX);
    X509 *cert = NULL;
    int rc = cc_file_read(path, &text, err);

    if (rc == 0 && text.len > 0 && text.data[0] == 0x30) {
        rc = pki_cert_parse(cc_buf_bytes(&text), &cert, err);
        if (rc == 0)
            rc = push(ret, cert, err);
    } else if (rc == 0) {
        rc = read_pem(cc_buf_bytes(&text), ret, err);
    }
    if (rc == 0 && sk_X509_num(ret) == 0)
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "%s has no certificate in PEM or DER", path);
    cc_buf_free(&text);
    return rc == 0 ? 0 : cc_err_in(err, "%s", path);
}

int
cli_write_output(const char *path, const void *data, size_t len, struct cc_err *err)
{
    if (path != NULL)
        return cc_file_replace(path, data, len, 0644, err);
    return cc_fd_write_all(STDOUT_FILENO, data, len, err);
}

int
cli_add_pem(const char *name, struct cc_bytes der, struct cc_buf *ret, struct cc_err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len;
    int rc = -1;

    if (bio == NULL || der.len > PEM_MAX ||
            PEM_write_bio(bio, name, "", der.data, (long)der.len) <= 0)
        cc_err_set_openssl(err, "PEM");
    else if ((len = BIO_get_mem_data(bio, &text)) > 0)
        rc = cc_buf_add(ret, text, (size_t)len, err);
    BIO_free(bio);
    return rc;
}
