/* SPDX-License-Identifier: MIT */
#include "ca/ca.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ca_int.h"
#include "pki/csr.h"
#include "pki/keyspec.h"

#define REVOKE_AT_ONCE_MS 10000 /* for a certificate that must not stay */

void
ca_close(struct ca *ca)
{
    if (ca != NULL)
        ca->driver->close(ca);
}

const char *
ca_name(const struct ca *ca)
{
    return ca->name;
}

const char *
ca_kind(const struct ca *ca)
{
    return ca->driver->kind;
}

unsigned
ca_capabilities(const struct ca *ca)
{
    return ca->driver->capabilities;
}

const char *
ca_outcome_name(enum ca_outcome outcome)
{
    switch (outcome) {
    case CA_DONE:
        return "done";
    case CA_PENDING:
        return "pending";
    case CA_REFUSED:
        return "refused";
    case CA_RETRYABLE:
        return "not now";
    case CA_MISCONFIGURED:
        return "misconfigured";
    case CA_UNKNOWN:
        return "outcome unknown";
    case CA_NOT_FOUND:
        return "not found";
    }
    return "?";
}

int
ca_serial_of(const X509 *certificate, struct cc_buf *ret, struct cc_err *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    const unsigned char *data = ASN1_STRING_get0_data(serial);
    int len = ASN1_STRING_length(serial);

    return cc_buf_add(ret, data, (size_t)len, err);
}

/* What the CA does not do is refused before it is asked. */
static bool
can(const struct ca *ca, enum ca_capability capability, const char *what, struct cc_err *err)
{
    if ((ca->driver->capabilities & capability) != 0)
        return true;
    cc_err_set(err, CC_DOM_INPUT, 0, "a CA of kind %s cannot %s", ca->driver->kind, what);
    return false;
}

/* ---- measures ---- */

static enum ca_outcome
measured(struct ca *ca, enum ca_operation operation, int64_t began_us, enum ca_outcome outcome)
{
    cc_histogram_add_since(&ca->time[operation], began_us);
    (void)atomic_fetch_add(&ca->count[operation][outcome], 1);
    return outcome;
}

void
ca_get_measured(struct ca *ca, struct ca_measured *ret)
{
    for (int operation = 0; operation < CA_OPERATIONS; operation++) {
        for (int outcome = 0; outcome < CA_OUTCOMES; outcome++)
            ret->count[operation][outcome] = atomic_load(&ca->count[operation][outcome]);
        cc_histogram_get(&ca->time[operation], &ret->time[operation]);
    }
}

const char *
ca_operation_name(enum ca_operation operation)
{
    return operation == CA_OPERATION_REVOKE ? "revoke" : "issue";
}

/* ---- issuing ---- */

static int
check_request(const struct ca *ca, const struct ca_request *request, struct ca_checked *ret,
        struct cc_err *err)
{
    const struct pki_profile *profile = request->plan->profile;

    *ret = (struct ca_checked){ .request = request };
    if (request->request_id != NULL && strlen(request->request_id) > CA_REQUEST_ID_MAX)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a request id of %zu bytes",
                strlen(request->request_id));
    if (request->own_key != NULL) {
        if (!can(ca, CA_TAKES_OWN_KEYS, "certify a key without a request", err))
            return -1;
        ret->key = request->own_key;
    } else if (request->checked_csr != NULL) {
        ret->key = X509_REQ_get0_pubkey(request->checked_csr);
        return 0;
    } else {
        if (pki_csr_parse(request->csr, &ret->csr, err) != 0 || pki_csr_verify(ret->csr, err) != 0)
            return -1;
        ret->key = X509_REQ_get0_pubkey(ret->csr);
    }
    return pki_key_check(ret->key, profile != NULL ? profile->key_specs : ~0u, err);
}

/* A certificate that is not what was asked for must not stay good. */
static enum ca_outcome
reject(struct ca *ca, const X509 *certificate, struct cc_err *err)
{
    struct cc_buf serial = CC_BUF_INIT(64);
    struct cc_err why = { 0 };
    struct ca_revocation revocation = { .reason = PKI_REASON_CESSATION_OF_OPERATION,
        .deadline = cc_deadline_in(REVOKE_AT_ONCE_MS) };
    const char *end = "it was revoked";

    if (ca_serial_of(certificate, &serial, &why) == 0)
        revocation.serial = cc_buf_bytes(&serial);
    if (serial.len == 0 || ca_revoke(ca, &revocation, NULL, &why) != CA_DONE)
        end = "it could not be revoked";
    cc_err_in(err, "CA \"%s\" answered with another certificate (%s)", ca->name, end);
    cc_buf_free(&serial);
    return CA_REFUSED;
}

static enum ca_outcome
accept(struct ca *ca, const struct ca_checked *checked, enum ca_outcome outcome, X509 *take_cert,
        X509 **ret_certificate, struct cc_err *err)
{
    if (outcome != CA_DONE)
        return outcome;
    if (pki_plan_compare(checked->request->plan, checked->key, take_cert, err) != 0) {
        outcome = reject(ca, take_cert, err);
        X509_free(take_cert);
        return outcome;
    }
    *ret_certificate = take_cert;
    return CA_DONE;
}

/* What failed decides the outcome, so that drivers need it even where the caller does not. */
#define NEED_ERR(err)                                                                              \
    struct cc_err need_err = { 0 };                                                                \
    if ((err) == NULL)                                                                             \
    (err) = &need_err

enum ca_outcome
ca_issue(struct ca *ca, const struct ca_request *request, X509 **ret_certificate,
        struct cc_buf *ret_pending, struct cc_err *err)
{
    const int64_t began_us = cc_histogram_now();
    struct ca_checked checked;
    enum ca_outcome outcome = CA_REFUSED;
    X509 *certificate = NULL;
    NEED_ERR(err);

    if (check_request(ca, request, &checked, err) == 0) {
        outcome = ca->driver->issue(ca, &checked, &certificate, ret_pending, err);
        outcome = accept(ca, &checked, outcome, certificate, ret_certificate, err);
    }
    X509_REQ_free(checked.csr);
    return measured(ca, CA_OPERATION_ISSUE, began_us, outcome);
}

enum ca_outcome
ca_poll(struct ca *ca, const struct ca_request *request, const char *pending,
        X509 **ret_certificate, struct cc_buf *ret_pending, struct cc_err *err)
{
    struct ca_checked checked;
    enum ca_outcome outcome = CA_REFUSED;
    X509 *certificate = NULL;
    NEED_ERR(err);

    if (!can(ca, CA_CAN_PEND, "be asked for what it left pending", err))
        return CA_REFUSED;
    if (check_request(ca, request, &checked, err) == 0) {
        outcome = ca->driver->poll(ca, &checked, pending, &certificate, ret_pending, err);
        outcome = accept(ca, &checked, outcome, certificate, ret_certificate, err);
    }
    X509_REQ_free(checked.csr);
    return outcome;
}

enum ca_outcome
ca_find(struct ca *ca, const char *request_id, int64_t deadline, X509 **ret_certificate,
        struct cc_err *err)
{
    NEED_ERR(err);

    if (!can(ca, CA_CAN_FIND, "find a request", err))
        return CA_REFUSED;
    return ca->driver->find(ca, request_id, deadline, ret_certificate, err);
}

/* ---- what becomes of a certificate ---- */

enum ca_outcome
ca_revoke(struct ca *ca, const struct ca_revocation *revocation, bool *ret_already,
        struct cc_err *err)
{
    const int64_t began_us = cc_histogram_now();
    struct ca_revocation asked = *revocation;
    bool already = false;
    enum ca_outcome outcome;
    NEED_ERR(err);

    if (!can(ca, CA_CAN_REVOKE, "revoke", err))
        return CA_REFUSED;
    if (asked.reason == PKI_REASON_CERTIFICATE_HOLD && !can(ca, CA_CAN_HOLD, "hold", err))
        return CA_REFUSED;
    if (asked.serial.len == 0) {
        cc_err_set(err, CC_DOM_INPUT, 0, "an empty serial number");
        return CA_REFUSED;
    }
    if (asked.revoked_ms == 0)
        asked.revoked_ms = cc_clock_now_ms();
    outcome = ca->driver->revoke(ca, &asked, &already, err);
    if (ret_already != NULL)
        *ret_already = already;
    return measured(ca, CA_OPERATION_REVOKE, began_us, outcome);
}

enum ca_outcome
ca_release(struct ca *ca, struct cc_bytes serial, int64_t deadline, struct cc_err *err)
{
    NEED_ERR(err);

    if (!can(ca, CA_CAN_HOLD, "release", err))
        return CA_REFUSED;
    return ca->driver->release(ca, serial, deadline, err);
}

enum ca_outcome
ca_get_status(struct ca *ca, struct cc_bytes serial, int64_t deadline, enum ca_status *ret_status,
        struct cc_err *err)
{
    NEED_ERR(err);

    if (!can(ca, CA_CAN_STATUS, "tell the status of a certificate", err))
        return CA_REFUSED;
    return ca->driver->status(ca, serial, deadline, ret_status, err);
}

enum ca_outcome
ca_get1_certificate(struct ca *ca, struct cc_bytes serial, int64_t deadline, X509 **ret_certificate,
        struct cc_err *err)
{
    NEED_ERR(err);

    if (!can(ca, CA_CAN_SHOW, "show a certificate", err))
        return CA_REFUSED;
    return ca->driver->certificate(ca, serial, deadline, ret_certificate, err);
}

/* ---- the CA itself ---- */

enum ca_outcome
ca_get1_crl(struct ca *ca, size_t max, int64_t deadline, X509_CRL **ret_crl, struct cc_err *err)
{
    NEED_ERR(err);

    if (!can(ca, CA_CAN_SHOW, "show its CRL", err))
        return CA_REFUSED;
    return ca->driver->crl(ca, max, deadline, ret_crl, err);
}

enum ca_outcome
ca_chain(struct ca *ca, int64_t deadline, STACK_OF(X509) **ret_chain, struct cc_err *err)
{
    NEED_ERR(err);

    return ca->driver->chain(ca, deadline, ret_chain, err);
}

int
ca_issuer_name(struct ca *ca, struct cc_buf *ret, struct cc_err *err)
{
    STACK_OF(X509) *chain = NULL;
    int rc;

    if (ca_chain(ca, cc_deadline_in(REVOKE_AT_ONCE_MS), &chain, err) != CA_DONE)
        return -1;
    rc = pki_name_format(X509_get_subject_name(sk_X509_value(chain, 0)), ret, err);
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

enum ca_outcome
ca_check(struct ca *ca, int64_t deadline, struct cc_err *err)
{
    NEED_ERR(err);

    return ca->driver->check(ca, deadline, err);
}
