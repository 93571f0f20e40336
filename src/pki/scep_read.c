/* SPDX-License-Identifier: MIT */
#include "pki/scep.h"

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "scep_int.h"

struct pki_scep_private {
    CMS_ContentInfo *cms;
    CMS_SignerInfo *signer; /* in cms */
    X509 *certificate;
};

static int
malformed(struct cc_err *err, const char *what)
{
    ERR_clear_error();
    return cc_err_set(err, CC_DOM_INPUT, 0, "pkiMessage: %s", what);
}

/* ---- names ---- */

const char *
pki_scep_type_name(int type)
{
    switch (type) {
    case PKI_SCEP_CERT_REP:
        return "CertRep";
    case PKI_SCEP_RENEWAL_REQ:
        return "RenewalReq";
    case PKI_SCEP_PKCS_REQ:
        return "PKCSReq";
    case PKI_SCEP_CERT_POLL:
        return "CertPoll";
    case PKI_SCEP_GET_CERT:
        return "GetCert";
    case PKI_SCEP_GET_CRL:
        return "GetCRL";
    default:
        return "unknown";
    }
}

const char *
pki_scep_fail_name(int fail_info)
{
    static const char *const names[] = {
        [PKI_SCEP_BAD_ALG] = "badAlg",
        [PKI_SCEP_BAD_MESSAGE_CHECK] = "badMessageCheck",
        [PKI_SCEP_BAD_REQUEST] = "badRequest",
        [PKI_SCEP_BAD_TIME] = "badTime",
        [PKI_SCEP_BAD_CERT_ID] = "badCertId",
    };

    return fail_info >= 0 && (size_t)fail_info < CC_COUNT(names) ? names[fail_info] : "unknown";
}

/* ---- attributes ---- */

/* The one value of an attribute that stands once; NULL otherwise. */
static const ASN1_TYPE *
attribute_value(const CMS_SignerInfo *signer, enum scep_attribute which)
{
    ASN1_OBJECT *oid = scep_attribute_oid(which);
    const int at = oid == NULL ? -1 : CMS_signed_get_attr_by_OBJ(signer, oid, -1);
    X509_ATTRIBUTE *attribute;

    if (at < 0 || CMS_signed_get_attr_by_OBJ(signer, oid, at) >= 0)
        return NULL;
    attribute = CMS_signed_get_attr(signer, at);
    return X509_ATTRIBUTE_count(attribute) == 1 ? X509_ATTRIBUTE_get0_type(attribute, 0) : NULL;
}

static bool
is_text(int tag)
{
    return tag == V_ASN1_PRINTABLESTRING || tag == V_ASN1_UTF8STRING || tag == V_ASN1_IA5STRING ||
           tag == V_ASN1_T61STRING;
}

static struct cc_bytes
string_bytes(const ASN1_TYPE *value, size_t max)
{
    const struct cc_bytes none = { NULL, 0 };
    int len;

    if (value == NULL)
        return none;
    len = ASN1_STRING_length(value->value.asn1_string);
    if (len <= 0 || (size_t)len > max)
        return none;
    return (struct cc_bytes){ ASN1_STRING_get0_data(value->value.asn1_string), (size_t)len };
}

static struct cc_bytes
read_text(const CMS_SignerInfo *signer, enum scep_attribute which, size_t max, int *ret_tag)
{
    const ASN1_TYPE *value = attribute_value(signer, which);

    if (value != NULL && !is_text(value->type))
        value = NULL;
    *ret_tag = value != NULL ? value->type : V_ASN1_PRINTABLESTRING;
    return string_bytes(value, max);
}

/* Decimal digits as text; -1 for anything else. */
static int
read_number(const CMS_SignerInfo *signer, enum scep_attribute which)
{
    int tag, number = 0;
    struct cc_bytes text = read_text(signer, which, 3, &tag);

    if (text.len == 0)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return -1;
        number = number * 10 + (text.data[i] - '0');
    }
    return number;
}

static struct cc_bytes
read_nonce(const CMS_SignerInfo *signer, enum scep_attribute which)
{
    const ASN1_TYPE *value = attribute_value(signer, which);

    if (value != NULL && value->type != V_ASN1_OCTET_STRING)
        value = NULL;
    return string_bytes(value, PKI_SCEP_NONCE_MAX);
}

static void
read_attributes(struct pki_scep_message *message)
{
    const CMS_SignerInfo *signer = message->private->signer;
    int tag;

    message->type = read_number(signer, SCEP_MESSAGE_TYPE);
    message->status = read_number(signer, SCEP_PKI_STATUS);
    message->fail_info = read_number(signer, SCEP_FAIL_INFO);
    message->fail_text = read_text(signer, SCEP_FAIL_INFO_TEXT, 1024, &tag);
    message->transaction_id = read_text(signer, SCEP_TRANSACTION_ID, PKI_SCEP_TRANSACTION_MAX,
            &message->transaction_tag);
    message->sender_nonce = read_nonce(signer, SCEP_SENDER_NONCE);
    message->recipient_nonce = read_nonce(signer, SCEP_RECIPIENT_NONCE);
}

/* ---- the message ---- */

static int
find_signer(struct pki_scep_private *private, struct cc_err *err)
{
    STACK_OF(CMS_SignerInfo) *signers = CMS_get0_SignerInfos(private->cms);
    STACK_OF(X509) *certificates;

    if (sk_CMS_SignerInfo_num(signers) != 1)
        return malformed(err, "it has not exactly one signer");
    private->signer = sk_CMS_SignerInfo_value(signers, 0);
    certificates = CMS_get1_certs(private->cms);
    for (int i = 0; i < sk_X509_num(certificates) && private->certificate == NULL; i++) {
        X509 *certificate = sk_X509_value(certificates, i);

        if (CMS_SignerInfo_cert_cmp(private->signer, certificate) == 0 &&
                X509_up_ref(certificate) == 1)
        private->certificate = certificate;
    }
    sk_X509_pop_free(certificates, X509_free);
    ERR_clear_error();
    if (private->certificate == NULL)
        return malformed(err, "the signer's certificate is not in it");
    return 0;
}

static struct cc_bytes
content_of(CMS_ContentInfo *cms)
{
    ASN1_OCTET_STRING **content = CMS_get0_content(cms);

    ERR_clear_error();
    if (content == NULL || *content == NULL || ASN1_STRING_length(*content) == 0)
        return (struct cc_bytes){ NULL, 0 };
    return (struct cc_bytes){ ASN1_STRING_get0_data(*content),
        (size_t)ASN1_STRING_length(*content) };
}

static int
digest_nid(CMS_SignerInfo *signer)
{
    X509_ALGOR *algorithm = NULL;

    CMS_SignerInfo_get0_algs(signer, NULL, NULL, &algorithm, NULL);
    return algorithm == NULL ? NID_undef : OBJ_obj2nid(algorithm->algorithm);
}

static int
parse(struct cc_bytes bytes, struct pki_scep_private *private, struct cc_err *err)
{
    const unsigned char *at = bytes.data;

    private->cms = d2i_CMS_ContentInfo(NULL, &at, (long)bytes.len);
    if (private->cms == NULL || at != bytes.data + bytes.len ||
            OBJ_obj2nid(CMS_get0_type(private->cms)) != NID_pkcs7_signed)
        return malformed(err, "it is not one SignedData and nothing else");
    return find_signer(private, err);
}

int
pki_scep_read(struct cc_bytes bytes, struct pki_scep_message *ret, struct cc_err *err)
{
    struct pki_scep_private *private;

    if (bytes.len == 0 || bytes.len > PKI_SCEP_MESSAGE_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "pkiMessage of %zu bytes", bytes.len);
    if ((private = calloc(1, sizeof(*private))) == NULL)
        return cc_err_nomem(err);
    ERR_clear_error();
    *ret = (struct pki_scep_message){ .private = private };
    if (parse(bytes, private, err) != 0) {
        pki_scep_message_free(ret);
        return -1;
    }
    ret->signer = private->certificate;
    ret->digest_nid = digest_nid(private->signer);
    ret->envelope = content_of(private->cms);
    read_attributes(ret);
    ERR_clear_error();
    return 0;
}

void
pki_scep_message_free(struct pki_scep_message *message)
{
    if (message->private == NULL)
        return;
    X509_free(message->private->certificate);
    CMS_ContentInfo_free(message->private->cms);
    free(message->private);
    message->private = NULL;
}

/* ---- the signature ---- */

static bool
digest_is_good(const struct pki_scep_message *message, const EVP_MD *md)
{
    const ASN1_OCTET_STRING *given = CMS_signed_get0_data_by_OBJ(message->private->signer,
            OBJ_nid2obj(NID_pkcs9_messageDigest), -3, V_ASN1_OCTET_STRING);
    const struct cc_bytes content = message->envelope;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    return given != NULL &&
           EVP_Digest(content.len > 0 ? content.data : digest, content.len, digest, &len, md,
                   NULL) == 1 &&
           (unsigned int)ASN1_STRING_length(given) == len &&
           memcmp(ASN1_STRING_get0_data(given), digest, len) == 0;
}

/*
 * A signature over the attributes in the order of DER, although they came in another: what a library that sorts while
 * it signs, but not while it writes, leaves.  RSA PKCS #1 v1.5, as such clients use nothing else.
 */
static bool
sorted_is_good(const struct pki_scep_message *message, const EVP_MD *md)
{
    const ASN1_OCTET_STRING *signature = CMS_SignerInfo_get0_signature(message->private->signer);
    EVP_PKEY *key = X509_get0_pubkey(message->signer);
    struct cc_buf attributes = CC_BUF_INIT(PKI_SCEP_MESSAGE_MAX);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good;

    good = ctx != NULL && key != NULL &&
           scep_attributes_sorted(message->private->signer, &attributes) == 0 &&
           EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) == 1 &&
           EVP_DigestVerify(ctx, ASN1_STRING_get0_data(signature),
                   (size_t)ASN1_STRING_length(signature), attributes.data, attributes.len) == 1;
    EVP_MD_CTX_free(ctx);
    cc_buf_free(&attributes);
    return good;
}

int
pki_scep_verify(const struct pki_scep_message *message, struct cc_err *err)
{
    const EVP_MD *md = EVP_get_digestbynid(message->digest_nid);
    CMS_SignerInfo *signer = message->private->signer;
    bool good;

    ERR_clear_error();
    if (md == NULL)
        return malformed(err, "its digest algorithm is not known");
    if (CMS_signed_get_attr_count(signer) < 0)
        return malformed(err, "it has no signed attributes");
    CMS_SignerInfo_set1_signer_cert(signer, message->signer);
    good = digest_is_good(message, md) &&
           (CMS_SignerInfo_verify(signer) == 1 || sorted_is_good(message, md));
    ERR_clear_error();
    return good ? 0 : malformed(err, "its signature is not good");
}
