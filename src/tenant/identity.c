/* SPDX-License-Identifier: MIT */
#include "identity.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "base/process.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/plan.h"

#define VALUE "identity-ca" /* certificate and key in PEM, one after the other */
#define VALUE_MAX 16384
#define CA_LIFETIME_MS (INT64_C(20) * 365 * PKI_DAY_MS)
#define BACKDATE_MS (INT64_C(5) * 60 * 1000) /* for clocks that are behind */
#define CLIENT_AUTH "1.3.6.1.5.5.7.3.2"

static const char removed[] = "this connector was taken out";

struct identity {
    X509 *ca;
    EVP_PKEY *key;
    struct cc_buf der; /* of ca */
};

void
identity_close(struct identity *identity)
{
    if (identity == NULL)
        return;
    X509_free(identity->ca);
    EVP_PKEY_free(identity->key);
    cc_buf_free(&identity->der);
    free(identity);
}

/* ---- certificates ---- */

static int
set_common_name(struct pki_plan *plan, const char *name, struct cc_err *err)
{
    if (plan->subject == NULL && (plan->subject = X509_NAME_new()) == NULL)
        return cc_err_nomem(err);
    if (X509_NAME_add_entry_by_NID(plan->subject, NID_commonName, MBSTRING_UTF8,
                (const unsigned char *)name, -1, -1, 0) != 1)
        return cc_err_set_openssl(err, "name of a certificate");
    return 0;
}

/* Whole seconds, as a certificate has them. */
static void
set_validity(struct pki_plan *plan, int64_t from_ms, int64_t until_ms)
{
    plan->not_before_ms = from_ms / 1000 * 1000;
    plan->not_after_ms = until_ms / 1000 * 1000;
}

static int
issue(const struct pki_plan *plan, EVP_PKEY *key, const struct pki_issuer *issuer, X509 **ret_cert,
        struct cc_err *err)
{
    uint8_t serial[PKI_SERIAL_LEN];

    if (cc_random(serial, sizeof(serial), err) != 0)
        return -1;
    /* Positive, and without a leading zero octet (RFC 5280 section 4.1.2.2). */
    serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40);
    return pki_cert_issue(plan, (struct cc_bytes){ serial, sizeof(serial) }, key, issuer, ret_cert,
            err);
}

static int
write_der(X509 *cert, struct cc_buf *ret, struct cc_err *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    int rc = len > 0 ? cc_buf_add(ret, der, (size_t)len, err)
                     : cc_err_set_openssl(err, "write a certificate");

    OPENSSL_free(der);
    return rc;
}

/* ---- the CA ---- */

static int
make_ca(struct identity *identity, const char *tenant_name, struct cc_err *err)
{
    struct pki_plan *plan = pki_plan_new(err);
    int64_t now_ms = cc_clock_now_ms();
    char name[65];
    int rc = -1;

    if (plan == NULL || pki_key_generate(PKI_EC_P256, &identity->key, err) != 0)
        goto out;
    /* At most 64 characters (RFC 5280 appendix A.1). */
    (void)snprintf(name, sizeof(name), "%.40s connector identities", tenant_name);
    plan->is_ca = true;
    plan->path_len = 0;
    plan->key_usages = KU_KEY_CERT_SIGN | KU_CRL_SIGN;
    set_validity(plan, now_ms - BACKDATE_MS, now_ms + CA_LIFETIME_MS);
    if (set_common_name(plan, name, err) != 0)
        goto out;
    rc = issue(plan, identity->key, &(struct pki_issuer){ .key = identity->key }, &identity->ca,
            err);
out:
    pki_plan_free(plan);
    return rc;
}

static int
write_ca(const struct identity *identity, struct tenant_store *store, struct cc_err *err)
{
    BIO *out = BIO_new(BIO_s_secmem());
    struct cc_buf text = CC_BUF_INIT(VALUE_MAX);
    char *data = NULL;
    long len;
    int rc = -1;

    if (out == NULL || PEM_write_bio_X509(out, identity->ca) != 1 ||
            PEM_write_bio_PrivateKey(out, identity->key, NULL, NULL, 0, NULL, NULL) != 1) {
        cc_err_set_openssl(err, "write the identity CA");
        goto out;
    }
    len = BIO_get_mem_data(out, &data);
    if (cc_buf_add(&text, data, (size_t)len, err) == 0)
        rc = tenant_value_put(store, VALUE, cc_buf_str(&text), err);
out:
    cc_buf_wipe(&text);
    BIO_free(out);
    return rc;
}

static int
read_ca(struct identity *identity, const char *text, struct cc_err *err)
{
    BIO *in = BIO_new_mem_buf(text, -1);

    if (in != NULL) {
        identity->ca = PEM_read_bio_X509(in, NULL, NULL, NULL);
        identity->key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    }
    BIO_free(in);
    if (identity->ca == NULL || identity->key == NULL ||
            X509_check_private_key(identity->ca, identity->key) != 1)
        return cc_err_set_openssl(err, "the identity CA cannot be read");
    return 0;
}

int
identity_open(struct tenant_store *store, const char *tenant_name, struct identity **ret_identity,
        struct cc_err *err)
{
    struct identity *identity = calloc(1, sizeof(*identity));
    char *value = NULL;
    int rc = -1;

    if (identity == NULL)
        return cc_err_nomem(err);
    cc_buf_init(&identity->der, PKI_CERT_MAX);
    if (tenant_value_get(store, VALUE, &value, err) != 0)
        goto out;
    if (value != NULL)
        rc = read_ca(identity, value, err);
    else if (make_ca(identity, tenant_name, err) == 0)
        rc = write_ca(identity, store, err);
    if (rc == 0)
        rc = write_der(identity->ca, &identity->der, err);
    if (rc == 0)
        *ret_identity = identity;
out:
    if (value != NULL)
        cc_wipe(value, strlen(value));
    free(value);
    if (rc != 0)
        identity_close(identity);
    return rc;
}

struct cc_bytes
identity_ca_der(const struct identity *identity)
{
    return cc_buf_bytes(&identity->der);
}

/* ---- issuing ---- */

/* The key of a request is borrowed from it. */
static int
read_request(struct cc_bytes der, X509_REQ **ret_request, EVP_PKEY **ret_key, struct cc_err *err)
{
    if (pki_csr_parse(der, ret_request, err) != 0 || pki_csr_verify(*ret_request, err) != 0)
        return cc_err_in(err, "certificateRequest");
    if ((*ret_key = X509_REQ_get0_pubkey(*ret_request)) == NULL) {
        ERR_clear_error();
        return cc_err_set(err, CC_DOM_INPUT, 0, "certificateRequest: a key that is not known");
    }
    if (pki_key_check(*ret_key, (1u << PKI_KEYSPECS) - 1, err) != 0)
        return cc_err_in(err, "certificateRequest");
    return 0;
}

int
identity_key_hash(struct cc_bytes request, uint8_t ret[TENANT_HASH_LEN], struct cc_err *err)
{
    X509_REQ *csr = NULL;
    EVP_PKEY *key = NULL;
    unsigned char *der = NULL;
    int len, rc = -1;

    if (read_request(request, &csr, &key, err) != 0)
        goto out;
    if ((len = i2d_PUBKEY(key, &der)) <= 0 ||
            EVP_Digest(der, (size_t)len, ret, NULL, EVP_sha256(), NULL) != 1)
        cc_err_set_openssl(err, "hash of a key");
    else
        rc = 0;
out:
    OPENSSL_free(der);
    X509_REQ_free(csr);
    return rc;
}

int
identity_issue(const struct identity *identity, const char *connector_id, struct cc_bytes request,
        int64_t lifetime_s, struct identity_issued *ret, struct cc_err *err)
{
    const struct pki_issuer issuer = { .certificate = identity->ca, .key = identity->key };
    struct pki_plan *plan = pki_plan_new(err);
    int64_t now_ms = cc_clock_now_ms();
    X509_REQ *csr = NULL;
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    int rc = -1;

    if (plan == NULL || read_request(request, &csr, &key, err) != 0)
        goto out;
    plan->key_usages = KU_DIGITAL_SIGNATURE;
    set_validity(plan, now_ms - BACKDATE_MS, now_ms + lifetime_s * 1000);
    if (set_common_name(plan, connector_id, err) != 0 ||
            pki_plan_add_extended_key_usage(plan, CLIENT_AUTH, err) != 0 ||
            issue(plan, key, &issuer, &cert, err) != 0 || write_der(cert, &ret->der, err) != 0)
        goto out;
    if (EVP_Digest(ret->der.data, ret->der.len, ret->hash, NULL, EVP_sha256(), NULL) != 1) {
        cc_err_set_openssl(err, "hash of a certificate");
        goto out;
    }
    ret->expires_ms = plan->not_after_ms;
    ret->renew_after_ms = now_ms + lifetime_s * 1000 / 3 * 2;
    rc = 0;
out:
    X509_free(cert);
    X509_REQ_free(csr);
    pki_plan_free(plan);
    return rc;
}

/* ---- checking ---- */

/* NULL where the certificate itself is good. */
static const char *
judge(const struct identity *identity, X509 *cert)
{
    int64_t from_ms, until_ms, now_ms = cc_clock_now_ms();
    bool good =
            X509_NAME_cmp(X509_get_issuer_name(cert), X509_get_subject_name(identity->ca)) == 0 &&
            X509_verify(cert, identity->key) == 1;

    ERR_clear_error();
    if (!good)
        return "the certificate is not of this service";
    if (pki_cert_validity(cert, &from_ms, &until_ms, NULL) != 0 || now_ms < from_ms)
        return "the certificate is not valid yet";
    return now_ms > until_ms ? "the certificate has expired" : NULL;
}

static bool
has_common_name(X509 *cert, const char *name)
{
    char got[TENANT_ID_MAX + 1];

    return X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, got,
                   sizeof(got)) > 0 &&
           strcmp(got, name) == 0;
}

static int
check_known(struct tenant *tenant, struct cc_bytes der, X509 *cert, char ret_id[TENANT_ID_MAX + 1],
        const char **ret_why, struct cc_err *err)
{
    struct tenant_identity known;
    uint8_t hash[TENANT_HASH_LEN];

    if (EVP_Digest(der.data, der.len, hash, NULL, EVP_sha256(), NULL) != 1)
        return cc_err_set_openssl(err, "hash of a certificate");
    if (tenant_identity_use(tenant->store, hash, &known, err) != 0)
        return -1;
    if (known.connector_id[0] == '\0' || !has_common_name(cert, known.connector_id))
        *ret_why = "the certificate is not known";
    else if (known.removed)
        *ret_why = removed;
    else if (known.superseded)
        *ret_why = "the certificate was superseded by a newer one";
    else
        (void)cc_strcpy(ret_id, TENANT_ID_MAX + 1, known.connector_id);
    return 0;
}

int
identity_check(struct tenant *tenant, struct cc_bytes der, char ret_id[TENANT_ID_MAX + 1],
        const char **ret_why, struct cc_err *err)
{
    X509 *cert = NULL;
    int rc = 0;

    ret_id[0] = '\0';
    *ret_why = "";
    if (pki_cert_parse(der, &cert, NULL) != 0)
        *ret_why = "the certificate cannot be read";
    else if ((*ret_why = judge(tenant->identity, cert)) == NULL)
        rc = check_known(tenant, der, cert, ret_id, ret_why, err);
    X509_free(cert);
    return rc;
}

void
identity_refuse(struct call *call, const char *why)
{
    call_reply_error(call, 403, why == removed ? "ConnectorRemoved" : "CertificateRefused", "%s",
            why);
}
