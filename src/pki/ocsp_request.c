/* SPDX-License-Identifier: MIT */
#include "pki/ocsp.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "pki_int.h"

struct certid {
    OCSP_CERTID *id;
    unsigned char *der;
    size_t len;
};

struct pki_ocsp_request {
    OCSP_REQUEST *ocsp;
    struct certid certs[PKI_OCSP_CERTS_MAX];
    size_t count;
    bool has_nonce;
};

/* ---- parse ---- */

/* Nonce ::= OCTET STRING, inside the extension's own (RFC 8954 section 2.1); old clients put bare octets there. */
static int
check_nonce_len(const ASN1_OCTET_STRING *value, struct cc_err *err)
{
    const unsigned char *at = ASN1_STRING_get0_data(value);
    int len = ASN1_STRING_length(value);
    ASN1_OCTET_STRING *nonce = d2i_ASN1_OCTET_STRING(NULL, &at, len);

    if (nonce != NULL)
        len = ASN1_STRING_length(nonce);
    else
        ERR_clear_error();
    ASN1_OCTET_STRING_free(nonce);
    if (len < 1 || len > PKI_OCSP_NONCE_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "OCSP nonce of %d bytes", len);
    return 0;
}

static int
read_nonce(struct pki_ocsp_request *request, struct cc_err *err)
{
    int at = OCSP_REQUEST_get_ext_by_NID(request->ocsp, NID_id_pkix_OCSP_Nonce, -1);

    if (at < 0)
        return 0;
    if (OCSP_REQUEST_get_ext_by_NID(request->ocsp, NID_id_pkix_OCSP_Nonce, at) >= 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "OCSP request with two nonces");
    request->has_nonce = true;
    return check_nonce_len(X509_EXTENSION_get_data(OCSP_REQUEST_get_ext(request->ocsp, at)), err);
}

/* "Unrecognized extensions MUST be ignored (unless they have the critical flag set ...)" (RFC 6960 section 4.4). */
static int
check_critical(const struct pki_ocsp_request *request, struct cc_err *err)
{
    int at = -1;

    while ((at = OCSP_REQUEST_get_ext_by_critical(request->ocsp, 1, at)) >= 0) {
        X509_EXTENSION *extension = OCSP_REQUEST_get_ext(request->ocsp, at);

        if (OBJ_obj2nid(X509_EXTENSION_get_object(extension)) != NID_id_pkix_OCSP_Nonce)
            return cc_err_set(err, CC_DOM_INPUT, 0, "critical extension in an OCSP request");
    }
    for (size_t i = 0; i < request->count; i++)
        if (OCSP_ONEREQ_get_ext_by_critical(OCSP_request_onereq_get0(request->ocsp, (int)i), 1,
                    -1) >= 0)
            return cc_err_set(err, CC_DOM_INPUT, 0, "critical extension in an OCSP request");
    return 0;
}

static int
read_certs(struct pki_ocsp_request *request, struct cc_err *err)
{
    int count = OCSP_request_onereq_count(request->ocsp);

    if (count < 1 || count > PKI_OCSP_CERTS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "OCSP request for %d certificates", count);
    for (int i = 0; i < count; i++) {
        struct certid *cert = &request->certs[i];
        int len;

        /* OpenSSL reads some odd parameters that it cannot read again once written, as whoever gets the answer must. */
        cert->id = OCSP_CERTID_dup(OCSP_onereq_get0_id(OCSP_request_onereq_get0(request->ocsp, i)));
        if (cert->id == NULL || (len = i2d_OCSP_CERTID(cert->id, &cert->der)) <= 0) {
            ERR_clear_error();
            return cc_err_set(err, CC_DOM_INPUT, 0, "CertID that is no DER");
        }
        cert->len = (size_t)len;
        request->count++;
    }
    return 0;
}

int
pki_ocsp_request_parse(struct cc_bytes der, struct pki_ocsp_request **ret_request,
        struct cc_err *err)
{
    const unsigned char *at = der.data;
    struct pki_ocsp_request *request = NULL;
    int rc = -1;

    if (der.len == 0 || der.len > PKI_OCSP_REQUEST_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "OCSP request of %zu bytes", der.len);
    if ((request = calloc(1, sizeof(*request))) == NULL)
        return cc_err_nomem(err);

    ERR_clear_error();
    if ((request->ocsp = d2i_OCSP_REQUEST(NULL, &at, (long)der.len)) == NULL) {
        ERR_clear_error();
        cc_err_set(err, CC_DOM_INPUT, 0, "not an OCSP request in DER");
        goto out;
    }
    if (at != der.data + der.len) {
        cc_err_set(err, CC_DOM_INPUT, 0, "%zu bytes behind the OCSP request",
                (size_t)(der.data + der.len - at));
        goto out;
    }
    if (read_certs(request, err) != 0 || read_nonce(request, err) != 0 ||
            check_critical(request, err) != 0)
        goto out;

    *ret_request = request;
    request = NULL;
    rc = 0;
out:
    pki_ocsp_request_free(request);
    return rc;
}

static void
free_certid(struct certid *cert)
{
    OCSP_CERTID_free(cert->id);
    OPENSSL_free(cert->der);
}

void
pki_ocsp_request_free(struct pki_ocsp_request *request)
{
    if (request == NULL)
        return;
    for (size_t i = 0; i < CC_COUNT(request->certs); i++)
        free_certid(&request->certs[i]);
    OCSP_REQUEST_free(request->ocsp);
    free(request);
}

/* ---- what it asks ---- */

size_t
pki_ocsp_request_count(const struct pki_ocsp_request *request)
{
    return request->count;
}

bool
pki_ocsp_request_has_nonce(const struct pki_ocsp_request *request)
{
    return request->has_nonce;
}

struct cc_bytes
pki_ocsp_request_certid(const struct pki_ocsp_request *request, size_t i)
{
    return (struct cc_bytes){ request->certs[i].der, request->certs[i].len };
}

OCSP_REQUEST *
pki_ocsp_request_get0(const struct pki_ocsp_request *request)
{
    return request->ocsp;
}

OCSP_CERTID *
pki_ocsp_request_get0_id(const struct pki_ocsp_request *request, size_t i)
{
    return request->certs[i].id;
}

bool
pki_ocsp_request_is_for(const struct pki_ocsp_request *request, size_t i, X509 *issuer)
{
    OCSP_CERTID *asked = request->certs[i].id;
    ASN1_OBJECT *hash = NULL;
    OCSP_CERTID *ours = NULL;
    const EVP_MD *md;
    bool is = false;

    if (!OCSP_id_get0_info(NULL, &hash, NULL, NULL, asked) ||
            (md = EVP_get_digestbyobj(hash)) == NULL)
        return false;
    /* One that OpenSSL knows by name and does not offer fails here. */
    ours = OCSP_cert_id_new(md, X509_get_subject_name(issuer), X509_get0_pubkey_bitstr(issuer),
            NULL);
    if (ours != NULL)
        is = OCSP_id_issuer_cmp(asked, ours) == 0;
    else
        ERR_clear_error();
    OCSP_CERTID_free(ours);
    return is;
}

int
pki_ocsp_request_serial(const struct pki_ocsp_request *request, size_t i, struct cc_buf *ret_serial,
        struct cc_err *err)
{
    ASN1_INTEGER *serial = NULL;

    if (!OCSP_id_get0_info(NULL, NULL, NULL, &serial, request->certs[i].id))
        return cc_err_set_openssl(err, "serial number of a CertID");
    if (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER)
        return cc_err_set(err, CC_DOM_INPUT, 0, "negative serial number");
    return cc_buf_add(ret_serial, ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial),
            err);
}
