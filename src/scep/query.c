/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "pki/cert.h"

/* What is asked after: an enrolment that waits (CertPoll), a certificate, a CRL (RFC 8894 sections 3.3.3 to 3.3.5). */

#define DEADLINE_MS 20000
#define UNKNOWN "there is no such transaction"

static struct answer
later(const struct task *task, const struct cc_err *err)
{
    cc_log(CC_LOG_WARNING, "scep", "transaction %s: %s", task->transaction, cc_err_text(err));
    return answer_later();
}

/* ---- CertPoll ---- */

struct polled {
    bool found;
    enum scepdb_state state;
    enum scepdb_notify notify;
    int fail_info;
    uint8_t id[SCEPDB_ID_LEN];
    struct cc_buf csr, certificate, pending;
};

static int
note_polled(void *arg, const struct scepdb_row *row)
{
    struct polled *polled = arg;

    polled->found = true;
    polled->state = row->state;
    polled->notify = row->notify;
    polled->fail_info = row->fail_info;
    if (row->id.len == SCEPDB_ID_LEN)
        memcpy(polled->id, row->id.data, SCEPDB_ID_LEN);
    (void)(cc_buf_add(&polled->csr, row->csr.data, row->csr.len, NULL) == 0 &&
            cc_buf_add(&polled->certificate, row->certificate.data, row->certificate.len, NULL) ==
                    0 &&
            (row->pending == NULL || cc_buf_add_str(&polled->pending, row->pending, NULL) == 0));
    return 0;
}

/* The key that signs is the one that signed the request: the device's own, or at a renewal that of the old certificate. */
static int
find_polled(struct task *task, struct polled *ret, struct cc_err *err)
{
    if (task_hash_signer(task, err) != 0)
        return -1;
    return scepdb_find_transaction(task->endpoint->scep->store, task->endpoint->name,
            task->transaction, (struct cc_bytes){ task->key_hash, SCEPDB_ID_LEN }, note_polled, ret,
            err);
}

static struct answer
go_on(struct task *task, const struct polled *polled)
{
    struct scep *scep = task->endpoint->scep;
    const struct cc_bytes id = { task->id, SCEPDB_ID_LEN };
    const int64_t now_ms = store_now_ms(scep->store);
    struct answer answer = { .kind = ANSWER_PENDING };
    struct cc_err err = { 0 };
    bool ours = false;

    if (scepdb_take(scep->store, id, now_ms, now_ms + SCEP_LEASE_MS, &ours, &err) != 0)
        return later(task, &err);
    if (!ours)
        return answer;
    if (task_unseal_csr(task, cc_buf_bytes(&polled->csr), &err) != 0)
        return later(task, &err);
    /* A renewal without a challenge is believed for the old certificate alone, which may have been revoked since. */
    if (task->challenge == NULL && authorise_query(task, &answer) != 0)
        return answer;
    return enrol_resume(task, polled->state == SCEPDB_PENDING ? cc_buf_str(&polled->pending) : NULL,
            RESUME_ASK);
}

static struct answer
answer_polled(struct task *task, const struct polled *polled)
{
    struct answer answer = { .kind = ANSWER_SUCCESS };
    struct cc_err err = { 0 };

    switch (polled->state) {
    case SCEPDB_ISSUED:
        if (task->endpoint->settings.before_reply && polled->notify == SCEPDB_NOTIFY_DUE)
            return (struct answer){ .kind = ANSWER_PENDING };
        if (pki_cert_parse(cc_buf_bytes(&polled->certificate), &answer.certificate, &err) != 0)
            return later(task, &err);
        return answer;
    case SCEPDB_FAILED:
        return answer_failure(polled->fail_info, "the certificate was refused");
    case SCEPDB_PENDING:
    case SCEPDB_CLAIMED:
        break;
    }
    memcpy(task->id, polled->id, SCEPDB_ID_LEN);
    task_name(task);
    if (!flight_begin(task->endpoint->scep, task->id, NULL))
        return (struct answer){ .kind = ANSWER_PENDING };
    answer = go_on(task, polled);
    answer_waiting(flight_end(task->endpoint->scep, task->id), &answer);
    return answer;
}

struct answer
query_poll(struct task *task)
{
    struct polled polled = { .found = false };
    struct cc_err err = { 0 };
    struct answer answer;

    cc_buf_init(&polled.csr, 2 * PKI_CSR_MAX);
    cc_buf_init(&polled.certificate, PKI_CERT_MAX);
    cc_buf_init(&polled.pending, CA_PENDING_MAX);
    if (find_polled(task, &polled, &err) != 0)
        answer = later(task, &err);
    else if (!polled.found)
        answer = answer_failure(PKI_SCEP_BAD_REQUEST, UNKNOWN);
    else
        answer = answer_polled(task, &polled);
    cc_buf_free(&polled.csr);
    cc_buf_free(&polled.certificate);
    cc_buf_free(&polled.pending);
    return answer;
}

/* ---- GetCert, GetCRL ---- */

static bool
is_issuer(const struct task *task, const X509_NAME *issuer)
{
    return X509_NAME_cmp(issuer, X509_get_subject_name(sk_X509_value(task->ra->chain, 0))) == 0;
}

/* 0, or 1 with an answer. */
static int
read_query(struct task *task, ASN1_INTEGER **ret_serial, struct answer *ret_answer)
{
    const struct cc_bytes content = { cc_secret_data(task->content), cc_secret_len(task->content) };
    X509_NAME *issuer = NULL;
    struct cc_err err = { 0 };

    if (pki_issuer_and_serial_read(content, &issuer, ret_serial, &err) != 0) {
        *ret_answer = answer_failure(PKI_SCEP_BAD_MESSAGE_CHECK, "the message cannot be opened");
        return 1;
    }
    if (!is_issuer(task, issuer)) {
        *ret_answer = answer_failure(PKI_SCEP_BAD_CERT_ID, "this CA did not issue it");
        ASN1_INTEGER_free(*ret_serial);
        *ret_serial = NULL;
    }
    X509_NAME_free(issuer);
    return *ret_serial == NULL ? 1 : 0;
}

struct answer
query_get_cert(struct task *task)
{
    struct answer answer = { .kind = ANSWER_SUCCESS };
    ASN1_INTEGER *serial = NULL;
    struct cc_err err = { 0 };

    if (read_query(task, &serial, &answer) != 0)
        return answer;
    switch (ca_get1_certificate(task->endpoint->settings.ca,
            (struct cc_bytes){ ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial) },
            cc_deadline_in(DEADLINE_MS), &answer.certificate, &err)) {
    case CA_DONE:
        break;
    case CA_NOT_FOUND:
    case CA_REFUSED:
        answer = answer_failure(PKI_SCEP_BAD_CERT_ID, "there is no such certificate");
        break;
    default:
        answer = later(task, &err);
        break;
    }
    ASN1_INTEGER_free(serial);
    return answer;
}

struct answer
query_get_crl(struct task *task)
{
    struct answer answer = { .kind = ANSWER_SUCCESS };
    ASN1_INTEGER *serial = NULL;
    struct cc_err err = { 0 };

    if (read_query(task, &serial, &answer) != 0)
        return answer;
    ASN1_INTEGER_free(serial);
    switch (ca_get1_crl(task->endpoint->settings.ca, SCEP_CRL_MAX, cc_deadline_in(DEADLINE_MS),
            &answer.crl, &err)) {
    case CA_DONE:
        return answer;
    case CA_NOT_FOUND:
    case CA_REFUSED:
        return answer_failure(PKI_SCEP_BAD_CERT_ID, "there is no CRL");
    default:
        return later(task, &err);
    }
}
