/* SPDX-License-Identifier: MIT */
#include "local_int.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "pki/cert.h"

/*
 * The delegated signer of OCSP answers (RFC 6960 section 4.2.2.2): a certificate of short life for the OCSP key, issued
 * by the CA itself, made anew in time.  Its clients need not ask whether it is revoked (section 4.2.2.2.1).
 */

#define SIGNER_VALIDITY_MS (30 * PKI_DAY_MS)
#define BACKDATE_MS 300000
#define OID_OCSP_SIGNING "1.3.6.1.5.5.7.3.9"
#define PROFILE "ocsp-signer"

struct reading {
    X509 *certificate;
    int rc;
    struct cc_err *err;
};

static int
on_authority(void *arg, const struct cadb_authority *authority)
{
    struct reading *reading = arg;

    if (authority->ocsp_signer.len > 0)
        reading->rc = pki_cert_parse(authority->ocsp_signer, &reading->certificate, reading->err);
    return 0;
}

/* Whether it is for this key and of this CA, and a third of its life is left. */
static bool
is_fit(X509 *signer, EVP_PKEY *key, X509 *issuer, int64_t now)
{
    int64_t not_before, not_after;
    bool fit;

    if (signer == NULL || pki_cert_validity(signer, &not_before, &not_after, NULL) != 0)
        return false;
    fit = now >= not_before && now < not_before + (not_after - not_before) / 3 * 2 &&
          EVP_PKEY_eq(X509_get0_pubkey(signer), key) == 1 &&
          X509_check_issued(issuer, signer) == X509_V_OK;
    ERR_clear_error();
    return fit;
}

static int
make_plan(struct ca_local *local, struct pki_plan **ret_plan, struct cc_err *err)
{
    struct pki_plan *plan = pki_plan_new(err);
    struct cc_buf subject = CC_BUF_INIT(256);
    int64_t now_ms = store_now_ms(local->store) / 1000 * 1000;
    int rc = -1;

    if (plan == NULL)
        return -1;
    plan->key_usages = KU_DIGITAL_SIGNATURE;
    plan->ocsp_no_check = true;
    plan->not_before_ms = now_ms - BACKDATE_MS;
    plan->not_after_ms = now_ms + SIGNER_VALIDITY_MS;
    if (cc_buf_printf(&subject, err, "CN=OCSP %.50s", local->base.name) == 0 &&
            pki_name_parse(cc_buf_str(&subject), &plan->subject, err) == 0)
        rc = pki_plan_add_extended_key_usage(plan, OID_OCSP_SIGNING, err);
    cc_buf_free(&subject);
    if (rc != 0)
        pki_plan_free(plan);
    else
        *ret_plan = plan;
    return rc;
}

static int
keep(struct ca_local *local, X509 *signer, struct cc_err *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509(signer, &der), rc;

    if (len < 0)
        return cc_err_set_openssl(err, "the OCSP signer's certificate");
    rc = cadb_authority_set_ocsp_signer(local->store, local->base.name,
            (struct cc_bytes){ der, (size_t)len }, err);
    OPENSSL_free(der);
    return rc;
}

static int
issue(struct ca_local *local, EVP_PKEY *key, X509 **ret, struct cc_err *err)
{
    struct pki_plan *plan = NULL;
    X509 *signer = NULL;
    enum ca_outcome outcome;

    if (make_plan(local, &plan, err) != 0)
        return -1;
    outcome = ca_local_issue_plan(local, plan, key, NULL, PROFILE, &signer, err);
    pki_plan_free(plan);
    if (outcome != CA_DONE || keep(local, signer, err) != 0) {
        X509_free(signer);
        return cc_err_in(err, "issuing the OCSP signer's certificate");
    }
    *ret = signer;
    return 0;
}

/* With ocsp_lock held: the one at hand, the stored one, or a new one. */
static int
need_signer(struct ca_local *local, EVP_PKEY *key, X509 *issuer, struct cc_err *err)
{
    const int64_t now_ms = store_now_ms(local->store);
    struct reading reading = { .err = err };
    X509 *signer = NULL;

    if (is_fit(local->ocsp_signer, key, issuer, now_ms))
        return 0;
    if (cadb_authority_find(local->store, local->base.name, on_authority, &reading, err) != 0 ||
            reading.rc != 0)
        return -1;
    if (is_fit(reading.certificate, key, issuer, now_ms)) {
        signer = reading.certificate;
    } else {
        X509_free(reading.certificate);
        if (issue(local, key, &signer, err) != 0)
            return -1;
    }
    X509_free(local->ocsp_signer);
    local->ocsp_signer = signer;
    return 0;
}

int
ca_local_get1_ocsp_signer(struct ca *ca, X509 **ret_certificate, EVP_PKEY **ret_key,
        struct cc_err *err)
{
    struct ca_local *local = ca_local_of(ca);
    EVP_PKEY *key = NULL;
    X509 *issuer = NULL;
    int rc = -1;

    if (local->ocsp_key == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the CA \"%s\" has no OCSP key", ca->name);
    if (hsm_key_get0_evp(local->ocsp_key, &key, err) != 0 ||
            ca_local_certificate(local, &issuer, err) != 0)
        return -1;
    pthread_mutex_lock(&local->ocsp_lock);
    if (need_signer(local, key, issuer, err) == 0) {
        *ret_certificate = local->ocsp_signer;
        (void)X509_up_ref(*ret_certificate);
        *ret_key = key;
        rc = 0;
    }
    pthread_mutex_unlock(&local->ocsp_lock);
    X509_free(issuer);
    return rc;
}
