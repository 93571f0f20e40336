/* SPDX-License-Identifier: MIT */
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
    STACK_OF(X509) *list = NULL;
    int rc = pki_certs_read_pem(text, &list, err);

    while (rc == 0 && sk_X509_num(list) > 0)
        rc = push(ret, sk_X509_shift(list), err);
    sk_X509_pop_free(list, X509_free);
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
