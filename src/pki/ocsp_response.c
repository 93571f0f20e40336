/* SPDX-License-Identifier: MIT */
#include "pki/ocsp.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/x509.h>

#include "pki_int.h"

static int
add_response(OCSP_RESPONSE *response, struct cc_buf *ret_der, struct cc_err *err)
{
    unsigned char *der = NULL;
    int len = response != NULL ? i2d_OCSP_RESPONSE(response, &der) : -1;
    int rc;

    if (len <= 0)
        return cc_err_set_openssl(err, "OCSP response");
    rc = cc_buf_add(ret_der, der, (size_t)len, err);
    OPENSSL_free(der);
    return rc;
}

/* ---- one certificate's status ---- */

/* The times of one status; freed by their maker. */
struct times {
    ASN1_TIME *revoked, *this_update, *next_update;
};

static ASN1_TIME *
make_time(int64_t time_ms)
{
    return ASN1_TIME_set(NULL, (time_t)(time_ms / 1000));
}

static int
status_of(const struct pki_ocsp_single *single)
{
    switch (single->status) {
    case PKI_OCSP_GOOD:
        return V_OCSP_CERTSTATUS_GOOD;
    case PKI_OCSP_REVOKED:
        return V_OCSP_CERTSTATUS_REVOKED;
    case PKI_OCSP_UNKNOWN:
        break;
    }
    return V_OCSP_CERTSTATUS_UNKNOWN;
}

static int
add_single(OCSP_BASICRESP *basic, OCSP_CERTID *id, const struct pki_ocsp_single *single,
        const struct pki_ocsp_settings *settings, struct cc_err *err)
{
    struct times times = { make_time(single->revoked_ms), make_time(settings->this_update_ms),
        make_time(settings->next_update_ms) };
    /* What goes for CRLs goes here: no reason instead of unspecified (RFC 5280 section 5.3.1). */
    int reason = single->reason != PKI_REASON_UNSPECIFIED ? (int)single->reason
                                                          : OCSP_REVOKED_STATUS_NOSTATUS;
    int rc = 0;

    if (times.revoked == NULL || times.this_update == NULL || times.next_update == NULL ||
            OCSP_basic_add1_status(basic, id, status_of(single), reason, times.revoked,
                    times.this_update, times.next_update) == NULL)
        rc = cc_err_set_openssl(err, "status of a certificate");
    ASN1_TIME_free(times.revoked);
    ASN1_TIME_free(times.this_update);
    ASN1_TIME_free(times.next_update);
    return rc;
}

/* ---- the whole ---- */

static int
fill(OCSP_BASICRESP *basic, const struct pki_ocsp_request *request,
        const struct pki_ocsp_single *singles, const struct pki_ocsp_settings *settings,
        struct cc_err *err)
{
    for (size_t i = 0; i < pki_ocsp_request_count(request); i++)
        if (add_single(basic, pki_ocsp_request_get0_id(request, i), &singles[i], settings, err) !=
                0)
            return -1;
    /* 1: copied; 2: the request has none */
    if (OCSP_copy_nonce(basic, pki_ocsp_request_get0(request)) <= 0)
        return cc_err_set_openssl(err, "nonce of an OCSP response");
    return 0;
}

int
pki_ocsp_respond(const struct pki_ocsp_request *request, const struct pki_ocsp_single *singles,
        const struct pki_ocsp_settings *settings, struct cc_buf *ret_der, struct cc_err *err)
{
    const EVP_MD *md = settings->md != NULL ? settings->md : pki_signature_md(settings->key);
    OCSP_BASICRESP *basic = NULL;
    OCSP_RESPONSE *response = NULL;
    int rc = -1;

    ERR_clear_error();
    if ((basic = OCSP_BASICRESP_new()) == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    if (fill(basic, request, singles, settings, err) != 0)
        goto out;
    if (!OCSP_basic_sign(basic, settings->signer, settings->key, md, NULL, OCSP_RESPID_KEY)) {
        cc_err_set_openssl(err, "sign an OCSP response");
        goto out;
    }
    response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    rc = add_response(response, ret_der, err);
out:
    OCSP_RESPONSE_free(response);
    OCSP_BASICRESP_free(basic);
    return rc;
}

int
pki_ocsp_refuse(enum pki_ocsp_refusal refusal, struct cc_buf *ret_der, struct cc_err *err)
{
    OCSP_RESPONSE *response;
    int rc;

    ERR_clear_error();
    response = OCSP_response_create((int)refusal, NULL);
    rc = add_response(response, ret_der, err);
    OCSP_RESPONSE_free(response);
    return rc;
}
