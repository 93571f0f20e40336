/* SPDX-License-Identifier: MIT */
#include "pki/csr.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "pki_int.h"

/* One PEM block, nothing but blanks behind it. */
static int
from_pem(struct cc_bytes text, X509_REQ **ret_csr, struct cc_err *err)
{
    BIO *bio = BIO_new_mem_buf(text.data, (int)text.len);
    X509_REQ *csr = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
    char rest = ' ';
    int rc = 0;

    while (csr != NULL && (rest == ' ' || rest == '\n' || rest == '\r') &&
            BIO_read(bio, &rest, 1) == 1)
        ;
    if (csr == NULL)
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "not a certificate request in PEM");
    else if (rest != ' ' && rest != '\n' && rest != '\r')
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "something stands behind the certificate request");
    ERR_clear_error();
    BIO_free(bio);
    if (rc != 0)
        X509_REQ_free(csr);
    else
        *ret_csr = csr;
    return rc;
}

int
pki_csr_parse(struct cc_bytes text, X509_REQ **ret_csr, struct cc_err *err)
{
    const unsigned char *at = text.data;
    X509_REQ *csr;

    if (text.len == 0 || text.len > PKI_CSR_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a certificate request of %zu bytes", text.len);
    ERR_clear_error();
    if (text.data[0] == '-')
        return from_pem(text, ret_csr, err);
    csr = d2i_X509_REQ(NULL, &at, (long)text.len);
    ERR_clear_error();
    if (csr == NULL || at != text.data + text.len) {
        X509_REQ_free(csr);
        return cc_err_set(err, CC_DOM_INPUT, 0, "not a certificate request in DER");
    }
    *ret_csr = csr;
    return 0;
}

int
pki_csr_verify(X509_REQ *csr, struct cc_err *err)
{
    EVP_PKEY *key = X509_REQ_get0_pubkey(csr);
    int good;

    ERR_clear_error();
    if (key == NULL) {
        ERR_clear_error();
        return cc_err_set(err, CC_DOM_INPUT, 0, "the request's key cannot be read");
    }
    good = X509_REQ_verify(csr, key);
    ERR_clear_error();
    if (good != 1)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "the request's signature is not good: it does not prove possession of its key");
    return 0;
}

/* One attribute with one value, of a type that OpenSSL can turn into UTF-8. */
static int
read_challenge(const ASN1_TYPE *value, struct cc_secret **ret_challenge, struct cc_err *err)
{
    unsigned char *text = NULL;
    int len = -1, rc = 0;

    if (value != NULL && ASN1_tag2bit(value->type) != 0)
        len = ASN1_STRING_to_UTF8(&text, value->value.asn1_string);
    ERR_clear_error();
    if (len < 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the request's challengePassword is no text");
    if (len > 0 && (*ret_challenge = cc_secret_copy(text, (size_t)len, err)) == NULL)
        rc = -1;
    OPENSSL_clear_free(text, (size_t)len);
    return rc;
}

int
pki_csr_challenge(X509_REQ *csr, struct cc_secret **ret_challenge, struct cc_err *err)
{
    const int at = X509_REQ_get_attr_by_NID(csr, NID_pkcs9_challengePassword, -1);
    X509_ATTRIBUTE *attribute;

    *ret_challenge = NULL;
    if (at < 0)
        return 0;
    attribute = X509_REQ_get_attr(csr, at);
    if (X509_REQ_get_attr_by_NID(csr, NID_pkcs9_challengePassword, at) >= 0 ||
            X509_ATTRIBUTE_count(attribute) != 1)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the request has more than one challengePassword");
    return read_challenge(X509_ATTRIBUTE_get0_type(attribute, 0), ret_challenge, err);
}

static int
set_subject(X509_REQ *csr, struct cc_bytes subject, struct cc_err *err)
{
    X509_NAME *name = NULL;
    int rc = 0;

    if (pki_name_read(subject, &name, err) != 0)
        return -1;
    if (!X509_REQ_set_subject_name(csr, name))
        rc = cc_err_set_openssl(err, "the request's subject");
    X509_NAME_free(name);
    return rc;
}

static int
set_extensions(X509_REQ *csr, struct cc_bytes der, struct cc_err *err)
{
    const unsigned char *at = der.data;
    X509_EXTENSIONS *extensions;
    int rc = 0;

    if (der.len == 0)
        return 0;
    if (der.len > PKI_CSR_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "extensions of %zu bytes", der.len);
    extensions = d2i_X509_EXTENSIONS(NULL, &at, (long)der.len);
    if (extensions == NULL || at != der.data + der.len)
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "not extensions in DER");
    else if (!X509_REQ_add_extensions(csr, extensions))
        rc = cc_err_set_openssl(err, "the request's extensions");
    ERR_clear_error();
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return rc;
}

/* PrintableString where it can be: there are servers that take nothing else. */
static int
set_challenge(X509_REQ *csr, const struct cc_secret *challenge, struct cc_err *err)
{
    ASN1_STRING *text = NULL;
    int rc = 0;

    if (challenge == NULL)
        return 0;
    if (ASN1_mbstring_copy(&text, (const unsigned char *)cc_secret_str(challenge),
                (int)cc_secret_len(challenge), MBSTRING_UTF8,
                B_ASN1_PRINTABLESTRING | B_ASN1_UTF8STRING) < 0 ||
            X509_REQ_add1_attr_by_NID(csr, NID_pkcs9_challengePassword, ASN1_STRING_type(text),
                    ASN1_STRING_get0_data(text), ASN1_STRING_length(text)) != 1)
        rc = cc_err_set_openssl(err, "the request's challengePassword");
    ASN1_STRING_clear_free(text);
    return rc;
}

int
pki_csr_build(EVP_PKEY *key, struct cc_bytes subject, struct cc_bytes extensions,
        const struct cc_secret *challenge, struct cc_buf *ret, struct cc_err *err)
{
    X509_REQ *csr = X509_REQ_new();
    unsigned char *der = NULL;
    int len, rc = -1;

    ERR_clear_error();
    if (csr == NULL)
        return cc_err_nomem(err);
    if (set_subject(csr, subject, err) != 0 || set_extensions(csr, extensions, err) != 0 ||
            set_challenge(csr, challenge, err) != 0)
        goto out;
    if (!X509_REQ_set_version(csr, X509_REQ_VERSION_1) || !X509_REQ_set_pubkey(csr, key) ||
            X509_REQ_sign(csr, key, pki_signature_md(key)) <= 0 ||
            (len = i2d_X509_REQ(csr, &der)) < 0) {
        cc_err_set_openssl(err, "signing a certificate request");
        goto out;
    }
    rc = cc_buf_add(ret, der, (size_t)len, err);
out:
    OPENSSL_free(der);
    X509_REQ_free(csr);
    return rc;
}
