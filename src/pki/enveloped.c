/* SPDX-License-Identifier: MIT */
#include "pki/password.h"

#include <openssl/asn1.h>
#include <openssl/asn1t.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/x509.h>

#include "pki_int.h"

/*
 * EnvelopedData of RFC 5652, as far as one recipient by key transport needs it.  OpenSSL's CMS_* makes the parts
 * itself and cannot take those that a token made.
 */

/* Section 10.2.4 */
typedef struct {
    X509_NAME *issuer;
    ASN1_INTEGER *serial_number;
} ISSUER_AND_SERIAL;

ASN1_SEQUENCE(ISSUER_AND_SERIAL) = {
    ASN1_SIMPLE(ISSUER_AND_SERIAL, issuer, X509_NAME),
    ASN1_SIMPLE(ISSUER_AND_SERIAL, serial_number, ASN1_INTEGER),
} static_ASN1_SEQUENCE_END(ISSUER_AND_SERIAL)

/* Section 6.2.1 */
typedef struct {
    int32_t version;
    ISSUER_AND_SERIAL *rid;
    X509_ALGOR *algorithm;
    ASN1_OCTET_STRING *encrypted_key;
} KEY_TRANS;

DEFINE_STACK_OF(KEY_TRANS)

ASN1_SEQUENCE(KEY_TRANS) = {
    ASN1_EMBED(KEY_TRANS, version, INT32),
    ASN1_SIMPLE(KEY_TRANS, rid, ISSUER_AND_SERIAL),
    ASN1_SIMPLE(KEY_TRANS, algorithm, X509_ALGOR),
    ASN1_SIMPLE(KEY_TRANS, encrypted_key, ASN1_OCTET_STRING),
} static_ASN1_SEQUENCE_END(KEY_TRANS)

/* Section 6.1 */
typedef struct {
    ASN1_OBJECT *type;
    X509_ALGOR *algorithm;
    ASN1_OCTET_STRING *encrypted_content;
} ENCRYPTED_CONTENT;

ASN1_SEQUENCE(ENCRYPTED_CONTENT) = {
    ASN1_SIMPLE(ENCRYPTED_CONTENT, type, ASN1_OBJECT),
    ASN1_SIMPLE(ENCRYPTED_CONTENT, algorithm, X509_ALGOR),
    ASN1_IMP(ENCRYPTED_CONTENT, encrypted_content, ASN1_OCTET_STRING, 0),
} static_ASN1_SEQUENCE_END(ENCRYPTED_CONTENT)

typedef struct {
    int32_t version;
    STACK_OF(KEY_TRANS) *recipients;
    ENCRYPTED_CONTENT *content;
} ENVELOPED;

ASN1_SEQUENCE(ENVELOPED) = {
    ASN1_EMBED(ENVELOPED, version, INT32),
    ASN1_SET_OF(ENVELOPED, recipients, KEY_TRANS),
    ASN1_SIMPLE(ENVELOPED, content, ENCRYPTED_CONTENT),
} static_ASN1_SEQUENCE_END(ENVELOPED)

/* Section 3 */
typedef struct {
    ASN1_OBJECT *type;
    ENVELOPED *content;
} CONTENT_INFO;

ASN1_SEQUENCE(CONTENT_INFO) = {
    ASN1_SIMPLE(CONTENT_INFO, type, ASN1_OBJECT),
    ASN1_EXP(CONTENT_INFO, content, ENVELOPED, 0),
} static_ASN1_SEQUENCE_END(CONTENT_INFO)

static int
set_octets(ASN1_OCTET_STRING *string, struct cc_bytes bytes)
{
    if (bytes.len > INT32_MAX)
        return 0;
    return ASN1_OCTET_STRING_set(string, bytes.data, (int)bytes.len);
}

/* Version 0 goes with issuerAndSerialNumber (section 6.2.1); rsaEncryption has NULL parameters (RFC 3370, 4.2.1). */
static int
fill_recipient(KEY_TRANS *to, X509 *recipient, struct cc_bytes encrypted_key)
{
    ASN1_INTEGER *serial = ASN1_INTEGER_dup(X509_get0_serialNumber(recipient));

    if (serial == NULL)
        return 0;
    ASN1_INTEGER_free(to->rid->serial_number);
    to->rid->serial_number = serial;
    to->version = 0;
    return X509_NAME_set(&to->rid->issuer, X509_get_issuer_name(recipient)) &&
           X509_ALGOR_set0(to->algorithm, OBJ_nid2obj(NID_rsaEncryption), V_ASN1_NULL, NULL) &&
           set_octets(to->encrypted_key, encrypted_key);
}

/* The initialisation vector is the parameter of both ciphers (RFC 3370 section 5.1, RFC 3565 section 4.1). */
static int
fill_content(ENCRYPTED_CONTENT *content, int cipher_nid, struct cc_bytes iv,
        struct cc_bytes ciphertext)
{
    ASN1_OCTET_STRING *parameter = ASN1_OCTET_STRING_new();

    if (parameter == NULL || !set_octets(parameter, iv) ||
            !X509_ALGOR_set0(content->algorithm, OBJ_nid2obj(cipher_nid), V_ASN1_OCTET_STRING,
                    parameter)) {
        ASN1_OCTET_STRING_free(parameter);
        return 0;
    }
    content->type = OBJ_nid2obj(NID_pkcs7_data);
    return set_octets(content->encrypted_content, ciphertext);
}

/* Version 0: no originator, one recipient of version 0, no attributes (section 6.1). */
static int
fill(CONTENT_INFO *info, X509 *recipient, struct cc_bytes encrypted_key, int cipher_nid,
        struct cc_bytes iv, struct cc_bytes ciphertext)
{
    KEY_TRANS *to;

    info->type = OBJ_nid2obj(NID_pkcs7_enveloped);
    info->content->version = 0;

    to = (KEY_TRANS *)ASN1_item_new(ASN1_ITEM_rptr(KEY_TRANS));
    if (to == NULL || !sk_KEY_TRANS_push(info->content->recipients, to)) {
        ASN1_item_free((ASN1_VALUE *)to, ASN1_ITEM_rptr(KEY_TRANS));
        return 0;
    }
    return fill_recipient(to, recipient, encrypted_key) &&
           fill_content(info->content->content, cipher_nid, iv, ciphertext);
}

int
pki_enveloped_data_build(X509 *recipient, struct cc_bytes encrypted_key,
        enum pki_content_cipher cipher, struct cc_bytes iv, struct cc_bytes ciphertext,
        struct cc_buf *ret, struct cc_err *err)
{
    const EVP_CIPHER *evp = pki_content_cipher_evp(cipher);
    CONTENT_INFO *info = NULL;
    unsigned char *der = NULL;
    int len;
    int rc = -1;

    if (iv.len != (size_t)EVP_CIPHER_get_iv_length(evp))
        return cc_err_set(err, CC_DOM_INTERNAL, 0, "initialisation vector of %zu bytes", iv.len);

    ERR_clear_error();
    info = (CONTENT_INFO *)ASN1_item_new(ASN1_ITEM_rptr(CONTENT_INFO));
    if (info == NULL ||
            !fill(info, recipient, encrypted_key, EVP_CIPHER_get_nid(evp), iv, ciphertext)) {
        cc_err_set_openssl(err, "EnvelopedData");
        goto out;
    }
    len = ASN1_item_i2d((ASN1_VALUE *)info, &der, ASN1_ITEM_rptr(CONTENT_INFO));
    if (len <= 0) {
        cc_err_set_openssl(err, "EnvelopedData");
        goto out;
    }
    rc = cc_buf_add(ret, der, (size_t)len, err);
out:
    OPENSSL_free(der);
    ASN1_item_free((ASN1_VALUE *)info, ASN1_ITEM_rptr(CONTENT_INFO));
    return rc;
}
