/* SPDX-License-Identifier: MIT */
#include "pki/enveloped.h"

#include <openssl/asn1.h>
#include <openssl/asn1t.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

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

/* ---- reading ---- */

/* As above, with a recipient identifier of either kind. */
typedef struct {
    int32_t version;
    ASN1_TYPE *rid;
    X509_ALGOR *algorithm;
    ASN1_OCTET_STRING *encrypted_key;
} ANY_KEY_TRANS;

DEFINE_STACK_OF(ANY_KEY_TRANS)

ASN1_SEQUENCE(ANY_KEY_TRANS) = {
    ASN1_EMBED(ANY_KEY_TRANS, version, INT32),
    ASN1_SIMPLE(ANY_KEY_TRANS, rid, ASN1_ANY),
    ASN1_SIMPLE(ANY_KEY_TRANS, algorithm, X509_ALGOR),
    ASN1_SIMPLE(ANY_KEY_TRANS, encrypted_key, ASN1_OCTET_STRING),
} static_ASN1_SEQUENCE_END(ANY_KEY_TRANS)

typedef struct {
    int32_t version;
    STACK_OF(ANY_KEY_TRANS) *recipients;
    ENCRYPTED_CONTENT *content;
} ANY_ENVELOPED;

ASN1_SEQUENCE(ANY_ENVELOPED) = {
    ASN1_EMBED(ANY_ENVELOPED, version, INT32),
    ASN1_SET_OF(ANY_ENVELOPED, recipients, ANY_KEY_TRANS),
    ASN1_SIMPLE(ANY_ENVELOPED, content, ENCRYPTED_CONTENT),
} static_ASN1_SEQUENCE_END(ANY_ENVELOPED)

typedef struct {
    ASN1_OBJECT *type;
    ANY_ENVELOPED *content;
} ANY_CONTENT_INFO;

ASN1_SEQUENCE(ANY_CONTENT_INFO) = {
    ASN1_SIMPLE(ANY_CONTENT_INFO, type, ASN1_OBJECT),
    ASN1_EXP(ANY_CONTENT_INFO, content, ANY_ENVELOPED, 0),
} static_ASN1_SEQUENCE_END(ANY_CONTENT_INFO)

static int
refuse(struct cc_err *err, enum pki_enveloped_fault fault, const char *what)
{
    ERR_clear_error();
    return cc_err_set(err, CC_DOM_INPUT, (long)fault, "EnvelopedData: %s", what);
}

static int
malformed(struct cc_err *err, const char *what)
{
    return refuse(err, PKI_ENVELOPED_MALFORMED, what);
}

static int
digest_of(const X509_ALGOR *algorithm)
{
    return algorithm == NULL ? NID_sha1 : OBJ_obj2nid(algorithm->algorithm);
}

/* The empty label, which is also the default, may be written out (RFC 4055 section 4.1). */
static bool
is_empty_label(const X509_ALGOR *source)
{
    const ASN1_TYPE *parameter = source->parameter;

    return OBJ_obj2nid(source->algorithm) == NID_pSpecified && parameter != NULL &&
           parameter->type == V_ASN1_OCTET_STRING &&
           ASN1_STRING_length(parameter->value.octet_string) == 0;
}

/* RFC 8017 appendix A.2.1; a label is nothing that anybody uses here. */
static int
read_oaep(const X509_ALGOR *algorithm, struct pki_enveloped *ret, struct cc_err *err)
{
    RSA_OAEP_PARAMS *params =
            ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(RSA_OAEP_PARAMS), algorithm->parameter);
    X509_ALGOR *mgf = NULL;
    int rc = 0;

    if (params == NULL)
        return malformed(err, "the parameters of RSAES-OAEP cannot be read");
    ret->oaep = true;
    ret->digest_nid = digest_of(params->hashFunc);
    ret->mgf_nid = NID_sha1;
    if (params->maskGenFunc != NULL) {
        mgf = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(X509_ALGOR), params->maskGenFunc->parameter);
        if (OBJ_obj2nid(params->maskGenFunc->algorithm) != NID_mgf1 || mgf == NULL)
            rc = refuse(err, PKI_ENVELOPED_ALGORITHM,
                    "the mask generation of RSAES-OAEP is not known");
        else
            ret->mgf_nid = digest_of(mgf);
    }
    if (rc == 0 && params->pSourceFunc != NULL && !is_empty_label(params->pSourceFunc))
        rc = refuse(err, PKI_ENVELOPED_ALGORITHM, "RSAES-OAEP with a label");
    X509_ALGOR_free(mgf);
    RSA_OAEP_PARAMS_free(params);
    return rc;
}

static int
read_recipient(const ANY_KEY_TRANS *from, struct pki_enveloped *ret, struct cc_err *err)
{
    switch (OBJ_obj2nid(from->algorithm->algorithm)) {
    case NID_rsaEncryption:
        break;
    case NID_rsaesOaep:
        if (read_oaep(from->algorithm, ret, err) != 0)
            return -1;
        break;
    default:
        return refuse(err, PKI_ENVELOPED_ALGORITHM,
                "its key transport is neither RSA PKCS #1 v1.5 nor OAEP");
    }
    return cc_buf_add(&ret->encrypted_key, ASN1_STRING_get0_data(from->encrypted_key),
            (size_t)ASN1_STRING_length(from->encrypted_key), err);
}

static bool
is_block_cipher(int nid)
{
    return nid == NID_aes_256_cbc || nid == NID_aes_192_cbc || nid == NID_aes_128_cbc ||
           nid == NID_des_ede3_cbc || nid == NID_des_cbc;
}

static int
read_content(const ENCRYPTED_CONTENT *content, struct pki_enveloped *ret, struct cc_err *err)
{
    const int nid = OBJ_obj2nid(content->algorithm->algorithm);
    const ASN1_TYPE *parameter = content->algorithm->parameter;

    if (!is_block_cipher(nid))
        return refuse(err, PKI_ENVELOPED_ALGORITHM, "its content cipher is not known");
    ret->cipher_nid = nid;
    ret->iv_len = nid == NID_des_ede3_cbc || nid == NID_des_cbc ? 8 : 16;
    if (parameter == NULL || parameter->type != V_ASN1_OCTET_STRING ||
            (size_t)ASN1_STRING_length(parameter->value.octet_string) != ret->iv_len)
        return malformed(err, "its initialisation vector is missing or of another length");
    memcpy(ret->iv, ASN1_STRING_get0_data(parameter->value.octet_string), ret->iv_len);
    if (content->encrypted_content == NULL)
        return malformed(err, "it has no content");
    return cc_buf_add(&ret->ciphertext, ASN1_STRING_get0_data(content->encrypted_content),
            (size_t)ASN1_STRING_length(content->encrypted_content), err);
}

/* [0] subjectKeyIdentifier, which ASN1_ANY leaves in its encoding. */
static bool
is_key_id_of(const ASN1_STRING *rid, X509 *recipient)
{
    const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(recipient);
    const unsigned char *data = ASN1_STRING_get0_data(rid);

    return key_id != NULL && ASN1_STRING_length(rid) == 2 + ASN1_STRING_length(key_id) &&
           data[0] == 0x80 && data[1] == ASN1_STRING_length(key_id) && data[1] < 0x80 &&
           memcmp(data + 2, ASN1_STRING_get0_data(key_id), data[1]) == 0;
}

static bool
is_name_of(const ASN1_STRING *rid, X509 *recipient)
{
    const unsigned char *at = ASN1_STRING_get0_data(rid);
    ISSUER_AND_SERIAL *name = (ISSUER_AND_SERIAL *)ASN1_item_d2i(NULL, &at, ASN1_STRING_length(rid),
            ASN1_ITEM_rptr(ISSUER_AND_SERIAL));
    bool is = name != NULL && X509_NAME_cmp(name->issuer, X509_get_issuer_name(recipient)) == 0 &&
              ASN1_INTEGER_cmp(name->serial_number, X509_get0_serialNumber(recipient)) == 0;

    ASN1_item_free((ASN1_VALUE *)name, ASN1_ITEM_rptr(ISSUER_AND_SERIAL));
    return is;
}

/* Section 6.2.1.  Only of these two types is the value a string. */
static bool
is_for(const ASN1_TYPE *rid, X509 *recipient)
{
    switch (rid->type) {
    case V_ASN1_OTHER:
        return is_key_id_of(rid->value.asn1_string, recipient);
    case V_ASN1_SEQUENCE:
        return is_name_of(rid->value.sequence, recipient);
    default:
        return false;
    }
}

/* The one that names one of the certificates; NULL when none does, or two.  The others are for others, and none is tried. */
static const ANY_KEY_TRANS *
find_recipient(const ANY_CONTENT_INFO *info, X509 *const *recipients, size_t count,
        size_t *ret_which)
{
    const ANY_KEY_TRANS *found = NULL;

    for (int i = 0; i < sk_ANY_KEY_TRANS_num(info->content->recipients); i++) {
        const ANY_KEY_TRANS *one = sk_ANY_KEY_TRANS_value(info->content->recipients, i);

        for (size_t j = 0; j < count; j++) {
            if (!is_for(one->rid, recipients[j]))
                continue;
            if (found != NULL)
                return NULL;
            found = one;
            *ret_which = j;
        }
    }
    return found;
}

void
pki_enveloped_init(struct pki_enveloped *enveloped)
{
    *enveloped = (struct pki_enveloped){ .oaep = false };
    cc_buf_init(&enveloped->encrypted_key, PKI_ENVELOPED_MAX);
    cc_buf_init(&enveloped->ciphertext, PKI_ENVELOPED_MAX);
}

void
pki_enveloped_free(struct pki_enveloped *enveloped)
{
    cc_buf_free(&enveloped->encrypted_key);
    cc_buf_free(&enveloped->ciphertext);
}

static int
read_info(struct cc_bytes der, ANY_CONTENT_INFO **ret_info, struct cc_err *err)
{
    const unsigned char *at = der.data;
    ANY_CONTENT_INFO *info;

    if (der.len == 0 || der.len > PKI_ENVELOPED_MAX)
        return cc_err_set(err, CC_DOM_INPUT, PKI_ENVELOPED_MALFORMED, "EnvelopedData of %zu bytes",
                der.len);
    ERR_clear_error();
    info = (ANY_CONTENT_INFO *)ASN1_item_d2i(NULL, &at, (long)der.len,
            ASN1_ITEM_rptr(ANY_CONTENT_INFO));
    ERR_clear_error();
    if (info == NULL || at != der.data + der.len ||
            OBJ_obj2nid(info->type) != NID_pkcs7_enveloped || info->content == NULL)
        malformed(err, "it is not one, or has something that no message here has");
    else {
        *ret_info = info;
        return 0;
    }
    ASN1_item_free((ASN1_VALUE *)info, ASN1_ITEM_rptr(ANY_CONTENT_INFO));
    return -1;
}

int
pki_enveloped_data_read(struct cc_bytes der, struct pki_enveloped *ret, struct cc_err *err)
{
    ANY_CONTENT_INFO *info = NULL;
    int rc;

    if (read_info(der, &info, err) != 0)
        return -1;
    if (sk_ANY_KEY_TRANS_num(info->content->recipients) != 1)
        rc = refuse(err, PKI_ENVELOPED_RECIPIENT, "it is not for exactly one recipient");
    else if ((rc = read_recipient(sk_ANY_KEY_TRANS_value(info->content->recipients, 0), ret,
                      err)) == 0)
        rc = read_content(info->content->content, ret, err);
    if (rc == 0 && ret->cipher_nid == NID_des_cbc)
        rc = refuse(err, PKI_ENVELOPED_ALGORITHM, "its content cipher is single DES");
    ASN1_item_free((ASN1_VALUE *)info, ASN1_ITEM_rptr(ANY_CONTENT_INFO));
    return rc;
}

int
pki_enveloped_data_read_for(struct cc_bytes der, X509 *const *recipients, size_t count,
        size_t *ret_which, struct pki_enveloped *ret, struct cc_err *err)
{
    ANY_CONTENT_INFO *info = NULL;
    const ANY_KEY_TRANS *ours;
    int rc;

    if (read_info(der, &info, err) != 0)
        return -1;
    if ((ours = find_recipient(info, recipients, count, ret_which)) == NULL)
        rc = refuse(err, PKI_ENVELOPED_RECIPIENT, "it is for another recipient");
    else if ((rc = read_recipient(ours, ret, err)) == 0)
        rc = read_content(info->content->content, ret, err);
    ASN1_item_free((ASN1_VALUE *)info, ASN1_ITEM_rptr(ANY_CONTENT_INFO));
    ERR_clear_error();
    return rc;
}

/* ---- opening ---- */

size_t
pki_enveloped_key_len(const struct pki_enveloped *enveloped)
{
    switch (enveloped->cipher_nid) {
    case NID_aes_256_cbc:
        return 32;
    case NID_aes_192_cbc:
    case NID_des_ede3_cbc:
        return 24;
    case NID_aes_128_cbc:
        return 16;
    default:
        return 8;
    }
}

int
pki_enveloped_open(const struct pki_enveloped *enveloped, struct cc_bytes key,
        struct cc_secret **ret_content, struct cc_err *err)
{
    const struct cc_buf *ciphertext = &enveloped->ciphertext;
    const EVP_CIPHER *cipher = pki_cipher_get0(enveloped->cipher_nid);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    struct cc_secret *content = NULL;
    int len = 0, tail = 0, rc = -1;

    ERR_clear_error();
    if (cipher == NULL || ctx == NULL) {
        cc_err_set_openssl(err, "the content's cipher");
        goto out;
    }
    if (ciphertext->len + EVP_MAX_BLOCK_LENGTH > CC_SECRET_MAX) {
        malformed(err, "its content is too long");
        goto out;
    }
    if ((content = cc_secret_new(ciphertext->len + EVP_MAX_BLOCK_LENGTH, err)) == NULL)
        goto out;
    if (key.len != (size_t)EVP_CIPHER_get_key_length(cipher) ||
            EVP_DecryptInit_ex(ctx, cipher, NULL, key.data, enveloped->iv) != 1 ||
            EVP_DecryptUpdate(ctx, cc_secret_data(content), &len, ciphertext->data,
                    (int)ciphertext->len) != 1 ||
            EVP_DecryptFinal_ex(ctx, cc_secret_data(content) + len, &tail) != 1 ||
            len + tail == 0) {
        malformed(err, "its content does not decrypt");
        goto out;
    }
    cc_secret_truncate(content, (size_t)(len + tail));
    *ret_content = content;
    content = NULL;
    rc = 0;
out:
    cc_secret_free(content);
    EVP_CIPHER_CTX_free(ctx);
    return rc;
}

/* ---- writing ---- */

static int
set_oaep(CMS_RecipientInfo *recipient, const struct pki_enveloped *like)
{
    EVP_PKEY_CTX *ctx = CMS_RecipientInfo_get0_pkey_ctx(recipient);

    return ctx != NULL && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_get_digestbynid(like->digest_nid)) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_get_digestbynid(like->mgf_nid)) > 0;
}

int
pki_enveloped_write_like(const struct pki_enveloped *like, X509 *recipient, struct cc_bytes content,
        struct cc_buf *ret, struct cc_err *err)
{
    const EVP_CIPHER *cipher = pki_cipher_get0(like->cipher_nid);
    CMS_ContentInfo *cms = NULL;
    CMS_RecipientInfo *to = NULL;
    BIO *in = BIO_new_mem_buf(content.data, (int)content.len);
    unsigned char *der = NULL;
    int len, rc = -1;

    ERR_clear_error();
    if (cipher == NULL || in == NULL ||
            (cms = CMS_EnvelopedData_create_ex(cipher, pki_cipher_libctx(like->cipher_nid),
                     NULL)) == NULL ||
            CMS_set_detached(cms, 0) != 1 ||
            (to = CMS_add1_recipient_cert(cms, recipient, CMS_KEY_PARAM)) == NULL ||
            (like->oaep && !set_oaep(to, like)) || CMS_final(cms, in, NULL, CMS_BINARY) != 1 ||
            (len = i2d_CMS_ContentInfo(cms, &der)) <= 0) {
        cc_err_set_openssl(err, "EnvelopedData");
        goto out;
    }
    rc = cc_buf_add(ret, der, (size_t)len, err);
out:
    OPENSSL_free(der);
    CMS_ContentInfo_free(cms);
    BIO_free(in);
    return rc;
}
