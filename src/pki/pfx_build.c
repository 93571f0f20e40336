/* SPDX-License-Identifier: MIT */
#include "pki/pfx.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/secret.h"
#include "base/text.h"

/*
 * Iterations guard passwords that people choose; ours are random and long.  As many as Windows and Apple make, since
 * some readers refuse one.
 */
#define ITERATIONS 2048
#define PASSWORD_MAX 128
#define CHAIN_MAX 16
#define SALT_LEN 16

int
pki_pfx_encryption_parse(const char *name)
{
    if (cc_equal_nocase(name, "aes256"))
        return PKI_PFX_AES256;
    return cc_equal_nocase(name, "compat") ? PKI_PFX_COMPAT : -1;
}

/* Certificates in DER, one behind the other. */
static int
read_chain(struct cc_bytes der, STACK_OF(X509) *ret, struct cc_err *err)
{
    const unsigned char *at = der.data;
    const unsigned char *end = der.data + der.len;

    while (at < end) {
        X509 *cert = sk_X509_num(ret) < CHAIN_MAX ? d2i_X509(NULL, &at, (long)(end - at)) : NULL;

        if (cert == NULL || sk_X509_push(ret, cert) <= 0) {
            X509_free(cert);
            ERR_clear_error();
            return cc_err_set(err, CC_DOM_INPUT, 0, "the chain is not up to %d certificates in DER",
                    CHAIN_MAX);
        }
    }
    return 0;
}

static int
check_key(EVP_PKEY *key, X509 *cert, struct cc_err *err)
{
    if (X509_check_private_key(cert, key) == 1)
        return 0;
    ERR_clear_error();
    return cc_err_set(err, CC_DOM_INPUT, 0, "the certificate is not that of the key");
}

static int
build(const struct pki_pfx_parts *parts, X509 *cert, STACK_OF(X509) *chain, const char *password,
        struct cc_buf *ret, struct cc_err *err)
{
    const bool compat = parts->encryption == PKI_PFX_COMPAT;
    const int nid = compat ? NID_pbe_WithSHA1And3_Key_TripleDES_CBC : NID_aes_256_cbc;
    unsigned char *der = NULL;
    PKCS12 *pfx;
    int len, rc = -1;

    ERR_clear_error();
    /* A MAC count of -1: none yet, as its digest is ours to choose. */
    pfx = PKCS12_create(password, parts->friendly_name, parts->key, cert, chain, nid, nid,
            ITERATIONS, -1, 0);
    if (pfx == NULL ||
            !PKCS12_set_mac(pfx, password, -1, NULL, SALT_LEN, ITERATIONS,
                    compat ? EVP_sha1() : EVP_sha256()) ||
            (len = i2d_PKCS12(pfx, &der)) < 0)
        cc_err_set_openssl(err, "building a PFX");
    else
        rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    PKCS12_free(pfx);
    return rc;
}

/* A NUL would cut it short unnoticed, and of other letters readers disagree which bytes they are. */
static int
check_password(struct cc_bytes password, struct cc_err *err)
{
    if (password.len == 0 || password.len > PASSWORD_MAX)
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "a PFX password of %zu bytes", password.len);
    for (size_t i = 0; i < password.len; i++)
        if (password.data[i] < 0x20 || password.data[i] > 0x7e)
            return cc_err_set(err, CC_DOM_INTERNAL, 0, "a PFX password that is not ASCII");
    return 0;
}

int
pki_pfx_build(const struct pki_pfx_parts *parts, struct cc_bytes password, struct cc_buf *ret,
        struct cc_err *err)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    char text[PASSWORD_MAX + 1];
    X509 *cert = NULL;
    int rc = -1;

    if (chain == NULL)
        return cc_err_nomem(err);
    if (check_password(password, err) != 0)
        goto out;
    memcpy(text, password.data, password.len);
    text[password.len] = '\0';
    if (pki_cert_parse(parts->certificate, &cert, err) == 0 &&
            check_key(parts->key, cert, err) == 0 && read_chain(parts->chain, chain, err) == 0)
        rc = build(parts, cert, chain, text, ret, err);
out:
    cc_wipe(text, sizeof(text));
    X509_free(cert);
    sk_X509_pop_free(chain, X509_free);
    return rc;
}
