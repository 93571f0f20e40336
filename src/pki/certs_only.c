/* SPDX-License-Identifier: MIT */

/* Certificates and CRLs in a SignedData that nobody signed (RFC 8894 section 3.4). */

#include "pki/scep.h"

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/pkcs7.h>

/*
 * By PKCS7_*, which keeps the certificates in their order; CMS_* sorts them as a SET OF, and there are clients that take
 * the first one.  No PKCS7_content_new(): it would leave content of no length.
 */
static PKCS7 *
make(X509 *const *certificates, size_t count, X509_CRL *crl)
{
    PKCS7 *p7 = PKCS7_new();
    int ok = p7 != NULL && PKCS7_set_type(p7, NID_pkcs7_signed);

    if (ok) {
        ok = ASN1_INTEGER_set(p7->d.sign->version, 1);
        p7->d.sign->contents->type = OBJ_nid2obj(NID_pkcs7_data);
    }
    for (size_t i = 0; ok && i < count; i++)
        ok = PKCS7_add_certificate(p7, certificates[i]);
    if (ok && crl != NULL)
        ok = PKCS7_add_crl(p7, crl);
    if (ok)
        return p7;
    PKCS7_free(p7);
    return NULL;
}

int
pki_certs_only_write(X509 *const *certificates, size_t count, X509_CRL *crl, struct cc_buf *ret,
        struct cc_err *err)
{
    PKCS7 *p7;
    unsigned char *der = NULL;
    int len, rc = -1;

    ERR_clear_error();
    if ((p7 = make(certificates, count, crl)) == NULL || (len = i2d_PKCS7(p7, &der)) <= 0)
        cc_err_set_openssl(err, "certificates in PKCS #7");
    else
        rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    PKCS7_free(p7);
    return rc;
}

int
pki_certs_only_read(struct cc_bytes bytes, STACK_OF(X509) **ret_certificates, X509_CRL **ret_crl,
        struct cc_err *err)
{
    const unsigned char *at = bytes.data;
    CMS_ContentInfo *cms;
    STACK_OF(X509_CRL) *crls = NULL;
    int rc = -1;

    ERR_clear_error();
    cms = d2i_CMS_ContentInfo(NULL, &at, (long)bytes.len);
    if (cms == NULL || at != bytes.data + bytes.len ||
            OBJ_obj2nid(CMS_get0_type(cms)) != NID_pkcs7_signed) {
        cc_err_set(err, CC_DOM_INPUT, 0, "not certificates in PKCS #7");
        goto out;
    }
    *ret_certificates = CMS_get1_certs(cms);
    if (*ret_certificates == NULL && (*ret_certificates = sk_X509_new_null()) == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    crls = CMS_get1_crls(cms);
    *ret_crl = sk_X509_CRL_num(crls) > 0 ? sk_X509_CRL_shift(crls) : NULL;
    rc = 0;
out:
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
    CMS_ContentInfo_free(cms);
    ERR_clear_error();
    return rc;
}

/* ---- IssuerAndSerialNumber ---- */

int
pki_issuer_and_serial_read(struct cc_bytes der, X509_NAME **ret_issuer, ASN1_INTEGER **ret_serial,
        struct cc_err *err)
{
    const unsigned char *at = der.data;
    PKCS7_ISSUER_AND_SERIAL *both = d2i_PKCS7_ISSUER_AND_SERIAL(NULL, &at, (long)der.len);
    int rc = -1;

    ERR_clear_error();
    if (both == NULL || at != der.data + der.len) {
        cc_err_set(err, CC_DOM_INPUT, 0, "not an IssuerAndSerialNumber");
    } else {
        *ret_issuer = both->issuer;
        *ret_serial = both->serial;
        both->issuer = NULL;
        both->serial = NULL;
        rc = 0;
    }
    PKCS7_ISSUER_AND_SERIAL_free(both);
    return rc;
}

int
pki_issuer_and_serial_write(const X509_NAME *issuer, const ASN1_INTEGER *serial, struct cc_buf *ret,
        struct cc_err *err)
{
    PKCS7_ISSUER_AND_SERIAL *both = PKCS7_ISSUER_AND_SERIAL_new();
    unsigned char *der = NULL;
    int len, rc = -1;

    ERR_clear_error();
    if (both == NULL || !X509_NAME_set(&both->issuer, issuer) ||
            ASN1_STRING_copy(both->serial, serial) != 1 ||
            (len = i2d_PKCS7_ISSUER_AND_SERIAL(both, &der)) <= 0)
        cc_err_set_openssl(err, "IssuerAndSerialNumber");
    else
        rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    PKCS7_ISSUER_AND_SERIAL_free(both);
    return rc;
}
