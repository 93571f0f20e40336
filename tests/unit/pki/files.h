/* SPDX-License-Identifier: MIT */
#ifndef TEST_PKI_FILES_H
#define TEST_PKI_FILES_H

/* The objects of tests/data/pki, for the tests beside this file. */

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "pki/cert.h"

#define FILE_BYTES 65536

/* The buffer is yours to free. */
static inline struct cc_buf
read_object(const char *name)
{
    struct cc_buf buf = CC_BUF_INIT(FILE_BYTES);
    char path[512];

    snprintf(path, sizeof(path), "%s/pki/%s", TEST_DATA, name);
    assert_int_equal(cc_file_read(path, &buf, NULL), 0);
    return buf;
}

static inline X509 *
read_cert(const char *name)
{
    struct cc_buf der = read_object(name);
    X509 *cert = NULL;

    assert_int_equal(pki_cert_parse(cc_buf_bytes(&der), &cert, NULL), 0);
    cc_buf_free(&der);
    return cert;
}

static inline EVP_PKEY *
read_key(const char *name)
{
    char path[512];
    FILE *file;
    EVP_PKEY *key;

    snprintf(path, sizeof(path), "%s/pki/%s", TEST_DATA, name);
    file = fopen(path, "re");
    assert_non_null(file);
    key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(key);
    return key;
}

/* An exact-size copy on the heap, so that a sanitizer sees a read behind its end. */
static inline uint8_t *
exact_copy(const void *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, data, len);
    return copy;
}

#endif
