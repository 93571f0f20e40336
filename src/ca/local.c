/* SPDX-License-Identifier: MIT */
#include "ca/local.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "local_int.h"
#include "pki/cert.h"
#include "pki/profile.h"

#define REREAD_MS                                                                                  \
    10000 /* how long the CA's certificate is believed: another process may renew it */
#define CHAIN_MAX 16

enum ca_outcome
ca_local_outcome(struct cc_err *err)
{
    hsm_err_resolve(err);
    if (err->domain == CC_DOM_INPUT || err->domain == CC_DOM_USAGE)
        return CA_REFUSED;
    if (err->domain == CC_DOM_CONFIG)
        return CA_MISCONFIGURED;
    if (err->domain == CC_DOM_TOKEN && err->code != HSM_FAULT_UNAVAILABLE &&
            err->code != HSM_FAULT_PIN_REFUSED)
        return CA_MISCONFIGURED;
    return CA_RETRYABLE;
}

int
ca_local_digest(const char *name, const EVP_MD **ret, struct cc_err *err)
{
    *ret = NULL;
    if (name == NULL)
        return 0;
    if (strcmp(name, "sha256") == 0)
        *ret = EVP_sha256();
    else if (strcmp(name, "sha384") == 0)
        *ret = EVP_sha384();
    else if (strcmp(name, "sha512") == 0)
        *ret = EVP_sha512();
    else
        return cc_err_set(err, CC_DOM_CONFIG, 0, "no digest %s: sha256, sha384 or sha512", name);
    return 0;
}

/* ---- the CA's certificates ---- */

int
ca_local_read_chain(struct cc_bytes der, STACK_OF(X509) **ret, struct cc_err *err)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    const unsigned char *at = der.data, *end = der.data + der.len;

    while (chain != NULL && at < end) {
        X509 *cert = sk_X509_num(chain) < CHAIN_MAX ? d2i_X509(NULL, &at, (long)(end - at)) : NULL;

        if (cert == NULL || sk_X509_push(chain, cert) <= 0) {
            X509_free(cert);
            sk_X509_pop_free(chain, X509_free);
            ERR_clear_error();
            return cc_err_set(err, CC_DOM_INPUT, 0, "the chain cannot be read");
        }
    }
    *ret = chain;
    return chain == NULL ? cc_err_nomem(err) : 0;
}

struct reading {
    struct ca_local *local;
    X509 *certificate;
    STACK_OF(X509) *chain;
    bool found;
    int rc;
    struct cc_err *err;
};

static int
on_authority(void *arg, const struct cadb_authority *authority)
{
    struct reading *reading = arg;

    reading->found = true;
    if (authority->certificate.len == 0)
        return 0;
    reading->rc = pki_cert_parse(authority->certificate, &reading->certificate, reading->err);
    if (reading->rc == 0)
        reading->rc = ca_local_read_chain(authority->chain, &reading->chain, reading->err);
    return 0;
}

/* With the lock held. */
static int
read_certificate(struct ca_local *local, struct cc_err *err)
{
    struct reading reading = { .local = local, .err = err };

    if (cadb_authority_find(local->store, local->base.name, on_authority, &reading, err) != 0 ||
            reading.rc != 0) {
        X509_free(reading.certificate);
        return -1;
    }
    if (!reading.found)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "there is no CA \"%s\" yet: make it with certconnector ca init", local->base.name);
    X509_free(local->certificate);
    sk_X509_pop_free(local->chain, X509_free);
    local->certificate = reading.certificate;
    local->chain = reading.chain;
    local->read_at = cc_clock_mono_ms();
    return 0;
}

/* With the lock held: present, or read anew. */
static int
need_certificate(struct ca_local *local, struct cc_err *err)
{
    bool stale = local->certificate == NULL || local->read_at == 0 ||
                 cc_clock_mono_ms() - local->read_at > REREAD_MS;

    if (stale && read_certificate(local, err) != 0)
        return -1;
    if (local->certificate == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "the CA \"%s\" waits for its certificate: certconnector ca init --certificate",
                local->base.name);
    if (X509_cmp_current_time(X509_get0_notAfter(local->certificate)) <= 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the certificate of the CA \"%s\" has expired",
                local->base.name);
    return 0;
}

int
ca_local_certificate(struct ca_local *local, X509 **ret, struct cc_err *err)
{
    int rc;

    pthread_mutex_lock(&local->lock);
    if ((rc = need_certificate(local, err)) == 0) {
        *ret = local->certificate;
        (void)X509_up_ref(*ret);
    }
    pthread_mutex_unlock(&local->lock);
    return rc;
}

int
ca_local_get1_certificate(struct ca *ca, X509 **ret, struct cc_err *err)
{
    return ca_local_certificate(ca_local_of(ca), ret, err);
}

int
ca_local_issuer(struct ca_local *local, struct pki_issuer *ret, struct cc_err *err)
{
    X509 *certificate = NULL;
    EVP_PKEY *key = NULL;

    if (ca_local_certificate(local, &certificate, err) != 0)
        return -1;
    if (hsm_key_get0_evp(local->key, &key, err) != 0) {
        X509_free(certificate);
        return -1;
    }
    if (EVP_PKEY_eq(X509_get0_pubkey(certificate), key) != 1) {
        ERR_clear_error();
        X509_free(certificate);
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "the key %s is not that of the certificate of the CA \"%s\"",
                hsm_key_uri(local->key), local->base.name);
    }
    *ret = (struct pki_issuer){ .certificate = certificate, .key = key, .md = local->md };
    return 0;
}

/* ---- what becomes of certificates ---- */

static enum ca_outcome
verdict_outcome(enum cadb_revoked verdict, bool *ret_already, struct cc_err *err)
{
    switch (verdict) {
    case CADB_REVOKE_DONE:
        return CA_DONE;
    case CADB_REVOKE_ALREADY:
        *ret_already = true;
        return CA_DONE;
    case CADB_REVOKE_NOT_FOUND:
        return CA_NOT_FOUND;
    case CADB_REVOKE_CONFLICT:
        break;
    }
    cc_err_set(err, CC_DOM_INPUT, 0, "the certificate is not in a state that allows this");
    return CA_REFUSED;
}

static enum ca_outcome
local_revoke(struct ca *ca, const struct ca_revocation *revocation, bool *ret_already,
        struct cc_err *err)
{
    const struct cadb_revocation change = {
        .serial = revocation->serial,
        .reason = (int)revocation->reason,
        .revoked_ms = revocation->revoked_ms,
        .invalidity_ms = revocation->invalidity_ms,
    };
    enum cadb_revoked verdict;

    if (cadb_revoke(ca_local_of(ca)->store, ca->name, &change, &verdict, err) != 0)
        return CA_RETRYABLE;
    return verdict_outcome(verdict, ret_already, err);
}

static enum ca_outcome
local_release(struct ca *ca, struct cc_bytes serial, int64_t deadline, struct cc_err *err)
{
    enum cadb_revoked verdict;
    bool already = false;

    (void)deadline;
    if (cadb_release(ca_local_of(ca)->store, ca->name, serial, store_now_ms(ca_local_of(ca)->store),
                &verdict, err) != 0)
        return CA_RETRYABLE;
    return verdict_outcome(verdict, &already, err);
}

static int
on_status(void *arg, const struct cadb_certificate *certificate)
{
    struct ca_local_status *status = arg;

    *status = (struct ca_local_status){
        .known = certificate->state != CADB_ABANDONED,
        .state = certificate->state,
        .revoked_ms = certificate->revoked_ms,
        .reason = certificate->reason,
    };
    return 0;
}

int
ca_local_status(struct ca *ca, struct cc_bytes serial, struct ca_local_status *ret,
        struct cc_err *err)
{
    const struct cadb_key key = { .serial = serial };

    *ret = (struct ca_local_status){ .known = false };
    return cadb_find(ca_local_of(ca)->store, ca->name, &key, on_status, ret, err);
}

int
ca_local_numbers(struct ca *ca, int64_t *ret_change, int64_t *ret_generation, struct cc_err *err)
{
    return cadb_authority_numbers(ca_local_of(ca)->store, ca->name, ret_change, ret_generation,
            err);
}

static enum ca_outcome
local_status(struct ca *ca, struct cc_bytes serial, int64_t deadline, enum ca_status *ret_status,
        struct cc_err *err)
{
    struct ca_local_status status;

    (void)deadline;
    if (ca_local_status(ca, serial, &status, err) != 0)
        return CA_RETRYABLE;
    if (!status.known || status.state == CADB_RESERVED)
        return CA_NOT_FOUND;
    *ret_status = status.state == CADB_REVOKED ? CA_STATUS_REVOKED
                  : status.state == CADB_HELD  ? CA_STATUS_HELD
                                               : CA_STATUS_GOOD;
    return CA_DONE;
}

struct shown {
    X509 *certificate;
    int rc;
    struct cc_err *err;
};

static int
on_shown(void *arg, const struct cadb_certificate *certificate)
{
    struct shown *shown = arg;

    if (certificate->certificate.len > 0)
        shown->rc = pki_cert_parse(certificate->certificate, &shown->certificate, shown->err);
    return 0;
}

static enum ca_outcome
local_certificate(struct ca *ca, struct cc_bytes serial, int64_t deadline, X509 **ret_certificate,
        struct cc_err *err)
{
    const struct cadb_key key = { .serial = serial };
    struct shown shown = { .err = err };

    (void)deadline;
    if (cadb_find(ca_local_of(ca)->store, ca->name, &key, on_shown, &shown, err) != 0 ||
            shown.rc != 0)
        return CA_RETRYABLE;
    if (shown.certificate == NULL)
        return CA_NOT_FOUND;
    *ret_certificate = shown.certificate;
    return CA_DONE;
}

/* ---- the CA itself ---- */

static enum ca_outcome
local_chain(struct ca *ca, int64_t deadline, STACK_OF(X509) **ret_chain, struct cc_err *err)
{
    struct ca_local *local = ca_local_of(ca);
    STACK_OF(X509) *chain = NULL;

    (void)deadline;
    pthread_mutex_lock(&local->lock);
    if (need_certificate(local, err) == 0 && (chain = X509_chain_up_ref(local->chain)) != NULL) {
        (void)X509_up_ref(local->certificate);
        if (sk_X509_unshift(chain, local->certificate) <= 0) {
            X509_free(local->certificate);
            sk_X509_pop_free(chain, X509_free);
            chain = NULL;
        }
    }
    pthread_mutex_unlock(&local->lock);
    if (chain == NULL) {
        if (err->domain == CC_DOM_NONE)
            cc_err_nomem(err);
        return ca_local_outcome(err);
    }
    *ret_chain = chain;
    return CA_DONE;
}

static enum ca_outcome
local_check(struct ca *ca, int64_t deadline, struct cc_err *err)
{
    struct ca_local *local = ca_local_of(ca);
    struct pki_issuer issuer;

    (void)deadline;
    if (ca_local_issuer(local, &issuer, err) != 0)
        return ca_local_outcome(err);
    X509_free(issuer.certificate);
    if (hsm_key_health(local->key, err) != 0)
        return ca_local_outcome(err);
    return CA_DONE;
}

static void
local_close(struct ca *ca)
{
    struct ca_local *local = ca_local_of(ca);

    X509_free(local->certificate);
    X509_free(local->ocsp_signer);
    sk_X509_pop_free(local->chain, X509_free);
    pki_texts_free(&local->crl_urls);
    pki_texts_free(&local->delta_crl_urls);
    pki_texts_free(&local->issuer_urls);
    pki_texts_free(&local->ocsp_urls);
    free(local->folder);
    free(ca->name);
    pthread_mutex_destroy(&local->lock);
    pthread_mutex_destroy(&local->crl_lock);
    pthread_mutex_destroy(&local->ocsp_lock);
    free(local);
}

static const struct ca_driver driver = {
    .kind = "local",
    .capabilities = CA_CAN_REVOKE | CA_CAN_HOLD | CA_CAN_REASONS | CA_CAN_STATUS | CA_CAN_FIND |
                    CA_TAKES_SUBJECT | CA_TAKES_FOREIGN_CSR | CA_CAN_SHOW | CA_TAKES_OWN_KEYS |
                    CA_CAN_PEND,
    .close = local_close,
    .issue = ca_local_issue,
    .poll = ca_local_poll,
    .find = ca_local_find,
    .revoke = local_revoke,
    .release = local_release,
    .status = local_status,
    .certificate = local_certificate,
    .crl = ca_local_show_crl,
    .chain = local_chain,
    .check = local_check,
};

/* ---- opening ---- */

static int
copy_urls(struct ca_local *local, const struct ca_local_settings *settings, struct cc_err *err)
{
    if (pki_texts_copy(&settings->crl_urls, &local->crl_urls, err) != 0 ||
            pki_texts_copy(&settings->delta_crl_urls, &local->delta_crl_urls, err) != 0 ||
            pki_texts_copy(&settings->issuer_urls, &local->issuer_urls, err) != 0)
        return -1;
    return pki_texts_copy(&settings->ocsp_urls, &local->ocsp_urls, err);
}

int
ca_local_open(const struct ca_local_settings *settings, struct ca **ret_ca, struct cc_err *err)
{
    struct ca_local *local = calloc(1, sizeof(*local));

    if (local == NULL)
        return cc_err_nomem(err);
    local->base.driver = &driver;
    local->store = settings->store;
    local->hsm = settings->hsm;
    local->key = settings->key;
    local->ocsp_key = settings->ocsp_key;
    local->crl_validity_ms = settings->crl_validity_ms;
    local->crl_interval_ms = settings->crl_interval_ms;
    local->delta_interval_ms = settings->delta_interval_ms;
    local->ocsp_validity_ms = settings->ocsp_validity_ms;
    local->approval = settings->approval;
    local->may_issue = settings->may_issue;
    local->may_issue_arg = settings->may_issue_arg;
    (void)pthread_mutex_init(&local->lock, NULL);
    (void)pthread_mutex_init(&local->crl_lock, NULL);
    (void)pthread_mutex_init(&local->ocsp_lock, NULL);
    if ((local->base.name = cc_strdup(settings->name, err)) == NULL ||
            (local->folder = cc_strdup(settings->folder, err)) == NULL ||
            copy_urls(local, settings, err) != 0 ||
            ca_local_digest(settings->digest, &local->md, err) != 0 ||
            read_certificate(local, err) != 0) {
        local_close(&local->base);
        return -1;
    }
    *ret_ca = &local->base;
    return 0;
}
