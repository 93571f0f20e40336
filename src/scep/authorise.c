/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <openssl/err.h>

#include "base/clock.h"
#include "base/log.h"
#include "pki/cert.h"

/*
 * Who signed the message decides what it is: a key of its own (first enrolment), or a certificate of ours (renewal,
 * RFC 8894 section 2.3), whichever of PKCSReq and RenewalReq it says; there are clients that know only one of them.
 */

#define STATUS_DEADLINE_MS 10000

#define NOT_OURS "the signer's certificate is not one of this CA's"

static bool
signed_itself(const struct task *task)
{
    X509 *signer = task->message.signer;

    return X509_NAME_cmp(X509_get_subject_name(signer), X509_get_issuer_name(signer)) == 0 &&
           EVP_PKEY_eq(X509_get0_pubkey(signer), task->key) == 1;
}

static bool
is_ours(const struct task *task)
{
    X509 *signer = task->message.signer, *issuer = sk_X509_value(task->ra->chain, 0);
    bool ours = X509_NAME_cmp(X509_get_issuer_name(signer), X509_get_subject_name(issuer)) == 0 &&
                X509_verify(signer, X509_get0_pubkey(issuer)) == 1;

    ERR_clear_error();
    return ours;
}

static int
refuse(struct answer *ret_answer, int fail_info, const char *text)
{
    *ret_answer = answer_failure(fail_info, text);
    return 1;
}

static int
check_time(const struct task *task, struct answer *ret_answer)
{
    const struct scep_profile *settings = &task->endpoint->settings;
    const int64_t now_ms = cc_clock_now_ms();
    int64_t from, to;

    if (pki_cert_validity(task->message.signer, &from, &to, NULL) != 0)
        return refuse(ret_answer, PKI_SCEP_BAD_REQUEST, NOT_OURS);
    if (now_ms < from || now_ms >= to + 1000 + settings->renewal_grace_ms)
        return refuse(ret_answer, PKI_SCEP_BAD_REQUEST,
                "the certificate to be renewed is not valid");
    if (settings->renewal_window_ms > 0 && now_ms < to - settings->renewal_window_ms)
        return refuse(ret_answer, PKI_SCEP_BAD_REQUEST,
                "it is too early to renew this certificate");
    return 0;
}

static int
check_status(struct task *task, struct answer *ret_answer)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(task->message.signer);
    const struct cc_bytes bytes = { ASN1_STRING_get0_data(serial),
        (size_t)ASN1_STRING_length(serial) };
    enum ca_status status = CA_STATUS_REVOKED;
    struct cc_err err = { 0 };
    const enum ca_outcome outcome = ca_get_status(task->endpoint->settings.ca, bytes,
            cc_deadline_in(STATUS_DEADLINE_MS), &status, &err);

    task_ca_said(task, outcome, &err);
    switch (outcome) {
    case CA_DONE:
        if (status == CA_STATUS_GOOD)
            return 0;
        return refuse(ret_answer, PKI_SCEP_BAD_REQUEST, "the certificate to be renewed is revoked");
    case CA_NOT_FOUND:
    case CA_REFUSED:
        return refuse(ret_answer, PKI_SCEP_BAD_REQUEST, NOT_OURS);
    default:
        cc_log(CC_LOG_WARNING, "scep", "the status of a certificate to be renewed: %s",
                cc_err_text(&err));
        *ret_answer = answer_later();
        return 1;
    }
}

int
authorise(struct task *task, struct answer *ret_answer)
{
    int rc;

    if (signed_itself(task)) {
        if (task->message.type == PKI_SCEP_RENEWAL_REQ)
            return refuse(ret_answer, PKI_SCEP_BAD_REQUEST,
                    "a renewal is signed with the certificate to be renewed");
        return 0;
    }
    if (!is_ours(task))
        return refuse(ret_answer, PKI_SCEP_BAD_REQUEST, NOT_OURS);
    /* Without a challenge the signature is all that such a request is believed for. */
    if (task->message.digest_nid == NID_sha1 && task->challenge == NULL)
        return refuse(ret_answer, PKI_SCEP_BAD_ALG,
                "a renewal without a challenge is not signed with SHA-1");
    if ((rc = check_time(task, ret_answer)) == 0 && (rc = check_status(task, ret_answer)) == 0)
        task->renewal = true;
    return rc;
}

int
authorise_query(struct task *task, struct answer *ret_answer)
{
    if (!is_ours(task))
        return refuse(ret_answer, PKI_SCEP_BAD_REQUEST, NOT_OURS);
    return check_status(task, ret_answer);
}
