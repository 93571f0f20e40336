/* SPDX-License-Identifier: MIT */
#ifndef TEST_PKI_ISSUER_H
#define TEST_PKI_ISSUER_H

/* CAs and certificates of them, made on the spot, for the tests beside this file. */

#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "pki/plan.h"

static inline EVP_PKEY *
make_key(const char *kind)
{
    EVP_PKEY *key = strcmp(kind, "rsa") == 0 ? EVP_RSA_gen(2048) : EVP_EC_gen(kind);

    assert_non_null(key);
    return key;
}

static inline void
add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    assert_true(X509_add_ext(cert, extension, -1));
    X509_EXTENSION_free(extension);
}

/* Without an issuer a CA, else an OCSP signer of it. */
static inline X509 *
make_cert(const char *name, EVP_PKEY *key, const struct pki_issuer *issuer)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_NAME_new();
    X509 *above = issuer != NULL ? issuer->certificate : cert;

    assert_true(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
            (const unsigned char *)name, -1, -1, 0));
    assert_true(X509_set_version(cert, X509_VERSION_3));
    assert_true(ASN1_INTEGER_set(X509_get_serialNumber(cert), issuer != NULL ? 77 : 1));
    assert_true(X509_set_subject_name(cert, subject));
    assert_true(X509_set_issuer_name(cert, X509_get_subject_name(above)));
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), -3600));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 86400));
    assert_true(X509_set_pubkey(cert, key));
    add_extension(cert, above, NID_subject_key_identifier, "hash");
    if (issuer == NULL) {
        add_extension(cert, above, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(cert, above, NID_key_usage, "critical,keyCertSign,cRLSign");
    } else {
        add_extension(cert, above, NID_ext_key_usage, "OCSPSigning");
        add_extension(cert, above, NID_id_pkix_OCSP_noCheck, "");
    }
    assert_true(X509_sign(cert, issuer != NULL ? issuer->key : key, EVP_sha256()) > 0);
    X509_NAME_free(subject);
    return cert;
}

static inline struct pki_issuer
make_issuer(const char *kind)
{
    EVP_PKEY *key = make_key(kind);

    return (struct pki_issuer){ .certificate = make_cert("Example CA", key, NULL), .key = key };
}

static inline void
free_issuer(struct pki_issuer *issuer)
{
    X509_free(issuer->certificate);
    EVP_PKEY_free(issuer->key);
}

/* A file of this name in folder; the name is the caller's array. */
static inline void
write_pem(X509 *cert, const char *folder, char *path, size_t size)
{
    FILE *file;

    snprintf(path, size, "%s/cert.pem", folder);
    file = fopen(path, "we");
    assert_non_null(file);
    assert_true(PEM_write_X509(file, cert));
    fclose(file);
}

#endif
