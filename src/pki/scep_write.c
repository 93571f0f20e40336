/* SPDX-License-Identifier: MIT */
#include "pki/scep.h"

#include <openssl/cms.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "scep_int.h"

/* The length is given always: a length of -1 means something else to this function than strlen(). */
static int
add_attribute(CMS_SignerInfo *signer, enum scep_attribute which, int tag, const void *data,
        size_t len)
{
    const ASN1_OBJECT *oid = scep_attribute_oid(which);

    return oid != NULL && CMS_signed_add1_attr_by_OBJ(signer, oid, tag, data, (int)len) == 1;
}

static int
add_number(CMS_SignerInfo *signer, enum scep_attribute which, int number)
{
    char text[16];

    if (number < 0)
        return 1;
    (void)snprintf(text, sizeof(text), "%d", number);
    return add_attribute(signer, which, V_ASN1_PRINTABLESTRING, text, strlen(text));
}

static int
add_nonce(CMS_SignerInfo *signer, enum scep_attribute which, struct cc_bytes nonce)
{
    return nonce.len == 0 ||
           add_attribute(signer, which, V_ASN1_OCTET_STRING, nonce.data, nonce.len);
}

static int
add_attributes(CMS_SignerInfo *signer, const struct pki_scep_draft *draft)
{
    const char *text = draft->fail_text;
    const int tag = draft->transaction_tag != 0 ? draft->transaction_tag : V_ASN1_PRINTABLESTRING;

    return add_number(signer, SCEP_MESSAGE_TYPE, draft->type) &&
           add_number(signer, SCEP_PKI_STATUS, draft->status) &&
           add_number(signer, SCEP_FAIL_INFO, draft->fail_info) &&
           (text == NULL || add_attribute(signer, SCEP_FAIL_INFO_TEXT, V_ASN1_UTF8STRING, text,
                                    strlen(text))) &&
           add_attribute(signer, SCEP_TRANSACTION_ID, tag, draft->transaction_id.data,
                   draft->transaction_id.len) &&
           add_nonce(signer, SCEP_SENDER_NONCE, draft->sender_nonce) &&
           add_nonce(signer, SCEP_RECIPIENT_NONCE, draft->recipient_nonce);
}

/* The SignerInfo is signed by CMS_final(), when the attributes are there. */
static CMS_ContentInfo *
sign(const struct pki_scep_draft *draft)
{
    static const uint8_t nothing[1];
    const unsigned flags = CMS_BINARY | CMS_NOSMIMECAP | CMS_PARTIAL;
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, CMS_BINARY | CMS_PARTIAL);
    BIO *content = BIO_new_mem_buf(draft->envelope.len > 0 ? draft->envelope.data : nothing,
            (int)draft->envelope.len);
    CMS_SignerInfo *signer;

    if (cms != NULL && content != NULL &&
            (signer = CMS_add1_signer(cms, draft->signer, draft->key, draft->md, flags)) != NULL &&
            add_attributes(signer, draft) && CMS_final(cms, content, NULL, CMS_BINARY) == 1) {
        BIO_free(content);
        return cms;
    }
    BIO_free(content);
    CMS_ContentInfo_free(cms);
    return NULL;
}

int
pki_scep_write(const struct pki_scep_draft *draft, struct cc_buf *ret, struct cc_err *err)
{
    CMS_ContentInfo *cms;
    unsigned char *der = NULL;
    int len, rc = -1;

    ERR_clear_error();
    if ((cms = sign(draft)) == NULL || (len = i2d_CMS_ContentInfo(cms, &der)) <= 0)
        cc_err_set_openssl(err, "%s", pki_scep_type_name(draft->type));
    else
        rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    CMS_ContentInfo_free(cms);
    return rc;
}

int
pki_signed_write(X509 *signer, EVP_PKEY *key, const EVP_MD *md, struct cc_bytes content,
        struct cc_buf *ret, struct cc_err *err)
{
    const unsigned flags = CMS_BINARY | CMS_NOSMIMECAP | CMS_PARTIAL;
    CMS_ContentInfo *cms = CMS_sign(NULL, NULL, NULL, NULL, CMS_BINARY | CMS_PARTIAL);
    BIO *in = BIO_new_mem_buf(content.data, (int)content.len);
    unsigned char *der = NULL;
    int len, rc = -1;

    ERR_clear_error();
    if (cms == NULL || in == NULL || CMS_add1_signer(cms, signer, key, md, flags) == NULL ||
            CMS_final(cms, in, NULL, CMS_BINARY) != 1 ||
            (len = i2d_CMS_ContentInfo(cms, &der)) <= 0)
        cc_err_set_openssl(err, "SignedData");
    else
        rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    BIO_free(in);
    CMS_ContentInfo_free(cms);
    return rc;
}
