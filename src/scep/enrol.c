/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "pki/cert.h"

/*
 * From a request to its certificate.  The row in the store comes before the CA is asked, and names the request to it:
 * whatever happens then, the same message finds the same certificate, and the challenge is spent on nothing else.
 */

#define CA_DEADLINE_MS 20000
#define SEALED_MAX (PKI_CSR_MAX + 256)

#define REFUSED "the request is not authorised"
#define DENIED "the certificate was refused"

/* HRESULTs of Windows' certificate services, as the service's console shows them. */
#define CERTSRV_E_BAD_REQUESTSUBJECT 0x80094001U
#define CERTSRV_E_ADMIN_DENIED_REQUEST 0x80094014U
#define E_ABORT 0x80004004U

/* The service hears of what it was asked about. */
static bool
is_told(const struct task *task)
{
    return task->endpoint->settings.challenge == SCEP_CHALLENGE_SERVICE && task->challenge != NULL;
}

static struct event_fields
fields_of(const struct task *task)
{
    return (struct event_fields){
        .request_id = task->request_id,
        .transaction_id = task->transaction,
        .ca = ca_name(task->endpoint->settings.ca),
    };
}

static struct answer
later(const struct task *task, const struct cc_err *err)
{
    cc_log(CC_LOG_WARNING, "scep", "transaction %s: %s", task->transaction, cc_err_text(err));
    return answer_later();
}

static struct answer
success(X509 *take_certificate)
{
    return (struct answer){ .kind = ANSWER_SUCCESS, .certificate = take_certificate };
}

/* ---- the end, durable ---- */

static int
add_der(const X509 *certificate, struct cc_buf *ret, struct cc_err *err)
{
    unsigned char *der = NULL;
    const int len = i2d_X509(certificate, &der);
    int rc;

    if (len < 0)
        return cc_err_set_openssl(err, "the certificate");
    rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    return rc;
}

/* A renewal is recognised as long as it could be sent again; any other request for a while. */
static int64_t
expires_ms(const struct task *task, int64_t now_ms)
{
    const int64_t remember = now_ms + task->endpoint->scep->remember_ms;
    int64_t from, to;

    if (!task->renewal || task->message.signer == NULL ||
            pki_cert_validity(task->message.signer, &from, &to, NULL) != 0)
        return remember;
    to += task->endpoint->settings.renewal_grace_ms + PKI_DAY_MS;
    return to > remember ? to : remember;
}

static void
say_not_saved(const struct task *task, const struct cc_err *err)
{
    struct event_fields fields = fields_of(task);

    fields.error = err;
    eventlog_write(task->endpoint->scep->log, EVENT_SCEP_NOTIFY_SAVE_TO_DISK_FAILED, &fields,
            "The outcome of SCEP request %s could not be stored; it is found again when the device "
            "asks again: %s",
            task->transaction, cc_err_text(err));
}

/* Writes it, and sends the news on its way.  -1: nothing is durable. */
static int
end(const struct task *task, struct scepdb_ending *ending, X509 *certificate,
        enum notice_verdict *ret_verdict, struct cc_err *err)
{
    struct scep *scep = task->endpoint->scep;
    const int64_t now_ms = store_now_ms(scep->store);
    const bool before_reply = task->endpoint->settings.before_reply;
    struct notice *notice = NULL;

    *ret_verdict = NOTICE_TAKEN;
    ending->notify = is_told(task) ? SCEPDB_NOTIFY_DUE : SCEPDB_NOTIFY_EVENT;
    ending->next_ms = notify_due_ms(scep);
    ending->expires_ms = expires_ms(task, now_ms);
    if (notice_new(task, ending, certificate, &notice, err) != 0)
        return -1;
    if (scepdb_end(scep->store, (struct cc_bytes){ task->id, SCEPDB_ID_LEN }, ending, err) != 0) {
        notice_free(notice);
        say_not_saved(task, err);
        return -1;
    }
    if (before_reply && ending->certificate.len > 0 && is_told(task))
        *ret_verdict = notice_tell_now(scep, notice);
    else
        notice_enqueue(scep, notice);
    return 0;
}

static struct answer
end_failed(struct task *task, uint32_t hresult, const char *text, const struct cc_err *why)
{
    const struct event_fields fields = fields_of(task);
    struct scepdb_ending ending = {
        .fail_info = PKI_SCEP_BAD_REQUEST,
        .detail = cc_err_text(why),
        .hresult = hresult,
    };
    enum notice_verdict verdict;
    struct cc_err err = { 0 };

    eventlog_write(task->endpoint->scep->log, EVENT_SCEP_ISSUED_FAILURE, &fields,
            "No certificate was issued for SCEP request %s: %s", task->transaction,
            cc_err_text(why));
    if (end(task, &ending, NULL, &verdict, &err) != 0)
        return later(task, &err);
    return answer_failure(PKI_SCEP_BAD_REQUEST, text);
}

/* Where the service shall have the news first: what it did not take, nobody gets. */
static struct answer
told(enum notice_verdict verdict, X509 *take_certificate)
{
    if (verdict == NOTICE_TAKEN)
        return success(take_certificate);
    X509_free(take_certificate);
    return verdict == NOTICE_REFUSED ? answer_failure(PKI_SCEP_BAD_REQUEST, DENIED)
                                     : answer_later();
}

static struct answer
end_issued(struct task *task, X509 *take_certificate)
{
    struct cc_buf der = CC_BUF_INIT(PKI_CERT_MAX), serial = CC_BUF_INIT(256);
    struct event_fields fields = fields_of(task);
    struct scepdb_ending ending = { .fail_info = 0 };
    enum notice_verdict verdict = NOTICE_LATER;
    struct cc_err err = { 0 };
    struct answer answer;
    int rc = -1;

    if (add_der(take_certificate, &der, &err) == 0 &&
            pki_cert_serial(take_certificate, &serial, &err) == 0) {
        fields.serial_number = cc_buf_str(&serial);
        eventlog_write(task->endpoint->scep->log, EVENT_SCEP_ISSUED_SUCCESS, &fields,
                "Certificate %s was issued for SCEP request %s", cc_buf_str(&serial),
                task->transaction);
        ending.certificate = cc_buf_bytes(&der);
        rc = end(task, &ending, take_certificate, &verdict, &err);
    }
    if (rc == 0) {
        answer = told(verdict, take_certificate);
    } else {
        X509_free(take_certificate);
        answer = later(task, &err);
    }
    cc_buf_free(&der);
    cc_buf_free(&serial);
    return answer;
}

/* ---- the CA ---- */

static int
make_plan(struct task *task, struct cc_err *err)
{
    const char *sid = NULL;
    struct pki_ask ask;

    if (task->ask == NULL && pki_csr_read_ask(task->csr, &task->ask, err) != 0)
        return -1;
    ask = *pki_csr_ask_get0(task->ask);
    sid = pki_csr_ask_sid(task->ask);
    if (task->vouched || (task->renewal && task->challenge == NULL))
        ask.sid = sid;
    else if (pki_csr_ask_had_sid(task->ask))
        cc_log(CC_LOG_NOTICE, "scep",
                "transaction %s: the security identifier in the request was dropped, as nobody "
                "vouches for it",
                task->transaction);
    return pki_plan_make(task->endpoint->settings.profile, &ask,
            store_now_ms(task->endpoint->scep->store), &task->plan, err);
}

static struct ca_request
ca_request_of(const struct task *task)
{
    return (struct ca_request){
        .request_id = task->ca_request_id,
        .csr = cc_buf_bytes(&task->csr_der),
        .checked_csr = task->checked ? task->csr : NULL,
        .plan = task->plan,
        .deadline = cc_deadline_in(CA_DEADLINE_MS),
    };
}

static struct answer
stay_pending(struct task *task, const char *text)
{
    struct scep *scep = task->endpoint->scep;
    struct cc_err err = { 0 };

    if (scepdb_pending(scep->store, (struct cc_bytes){ task->id, SCEPDB_ID_LEN }, text, &err) != 0)
        return later(task, &err);
    return (struct answer){ .kind = ANSWER_PENDING };
}

static struct answer
judge(struct task *task, enum ca_outcome outcome, X509 *certificate, const char *pending,
        struct cc_err *err)
{
    switch (outcome) {
    case CA_DONE:
        return end_issued(task, certificate);
    case CA_PENDING:
        return stay_pending(task, pending);
    case CA_REFUSED:
    case CA_NOT_FOUND:
        return end_failed(task, CERTSRV_E_ADMIN_DENIED_REQUEST, DENIED, err);
    case CA_RETRYABLE:
    case CA_MISCONFIGURED:
    case CA_UNKNOWN:
        break;
    }
    return later(task, err);
}

static struct answer
ask_ca(struct task *task, const char *pending)
{
    struct ca *ca = task->endpoint->settings.ca;
    const struct ca_request request = ca_request_of(task);
    struct cc_buf text = CC_BUF_INIT(CA_PENDING_MAX);
    X509 *certificate = NULL;
    struct cc_err err = { 0 };
    enum ca_outcome outcome;
    struct answer answer;

    if (pending != NULL)
        outcome = ca_poll(ca, &request, pending, &certificate, &text, &err);
    else
        outcome = ca_issue(ca, &request, &certificate, &text, &err);
    task_ca_said(task, outcome, &err);
    answer = judge(task, outcome, certificate, cc_buf_str(&text), &err);
    cc_buf_free(&text);
    return answer;
}

/* ---- begun before ---- */

/* What a CA found again is held against the plan as if it had just come. */
static struct answer
take_found(struct task *task, X509 *take_certificate)
{
    struct cc_err err = { 0 };

    if (pki_plan_compare(task->plan, task->key, take_certificate, &err) == 0)
        return end_issued(task, take_certificate);
    X509_free(take_certificate);
    return end_failed(task, CERTSRV_E_ADMIN_DENIED_REQUEST, DENIED, &err);
}

/* The CA has no certificate for it. */
static struct answer
nothing_found(struct task *task, enum resume resume)
{
    struct cc_err why = { 0 };

    switch (resume) {
    case RESUME_ASK:
        return ask_ca(task, NULL);
    case RESUME_LOOK:
        return answer_later();
    case RESUME_GIVE_UP:
        break;
    }
    cc_err_set(&why, CC_DOM_INPUT, 0, "the device did not come back for it");
    return end_failed(task, E_ABORT, "it is too late", &why);
}

struct answer
enrol_resume(struct task *task, const char *pending, enum resume resume)
{
    struct ca *ca = task->endpoint->settings.ca;
    enum ca_outcome outcome = CA_NOT_FOUND;
    X509 *certificate = NULL;
    struct cc_err err = { 0 };

    /* Nobody gets this far whose challenge was not found good, or, without one, whose old certificate was not. */
    task->renewal = task->renewal || task->challenge == NULL;
    task->vouched =
            task->challenge != NULL && task->endpoint->settings.challenge == SCEP_CHALLENGE_SERVICE;
    if (task->plan == NULL && make_plan(task, &err) != 0)
        return end_failed(task, CERTSRV_E_BAD_REQUESTSUBJECT, DENIED, &err);
    if (pending != NULL)
        return ask_ca(task, pending);
    if ((ca_capabilities(ca) & CA_CAN_FIND) != 0)
        outcome = ca_find(ca, task->ca_request_id, cc_deadline_in(CA_DEADLINE_MS), &certificate,
                &err);
    task_ca_said(task, outcome, &err);
    if (outcome == CA_DONE)
        return take_found(task, certificate);
    if (outcome == CA_REFUSED)
        return end_failed(task, CERTSRV_E_ADMIN_DENIED_REQUEST, DENIED, &err);
    return outcome == CA_NOT_FOUND ? nothing_found(task, resume) : later(task, &err);
}

/* ---- what is known of it ---- */

struct known {
    bool found;
    enum scepdb_state state;
    enum scepdb_notify notify;
    int fail_info;
    struct cc_buf certificate, pending;
};

static int
note_known(void *arg, const struct scepdb_row *row)
{
    struct known *known = arg;

    known->found = true;
    known->state = row->state;
    known->notify = row->notify;
    known->fail_info = row->fail_info;
    cc_buf_reset(&known->certificate);
    cc_buf_reset(&known->pending);
    (void)(cc_buf_add(&known->certificate, row->certificate.data, row->certificate.len, NULL) ==
                    0 &&
            (row->pending == NULL || cc_buf_add_str(&known->pending, row->pending, NULL) == 0));
    return 0;
}

/* The same certificate again; first to the service, where that has not heard of it and must. */
static struct answer
repeat_issued(struct task *task, const struct known *known)
{
    const struct scepdb_ending ending = { .certificate = cc_buf_bytes(&known->certificate),
        .notify = SCEPDB_NOTIFY_DUE };
    X509 *certificate = NULL;
    struct notice *notice = NULL;
    struct cc_err err = { 0 };

    if (pki_cert_parse(cc_buf_bytes(&known->certificate), &certificate, &err) != 0)
        return later(task, &err);
    if (!task->endpoint->settings.before_reply || known->notify != SCEPDB_NOTIFY_DUE)
        return success(certificate);
    if (notice_new(task, &ending, certificate, &notice, &err) != 0) {
        X509_free(certificate);
        return later(task, &err);
    }
    return told(notice_tell_now(task->endpoint->scep, notice), certificate);
}

static struct answer
repeat(struct task *task, const struct known *known)
{
    switch (known->state) {
    case SCEPDB_ISSUED:
        return repeat_issued(task, known);
    case SCEPDB_FAILED:
        return answer_failure(known->fail_info, DENIED);
    case SCEPDB_PENDING:
        return enrol_resume(task, cc_buf_str(&known->pending), RESUME_ASK);
    case SCEPDB_CLAIMED:
        break;
    }
    return enrol_resume(task, NULL, RESUME_ASK);
}

/* ---- claiming ---- */

static int
seal_csr(const struct task *task, struct cc_buf *ret, struct cc_err *err)
{
    return hsm_seal(task->endpoint->scep->seal, cc_bytes_of_str(task->request_id),
            cc_buf_bytes(&task->csr_der), ret, err);
}

static int
claim(struct task *task, struct known *known, enum scepdb_claim *ret_claim, struct cc_err *err)
{
    struct scep *scep = task->endpoint->scep;
    const int64_t now_ms = store_now_ms(scep->store);
    struct cc_buf sealed = CC_BUF_INIT(SEALED_MAX);
    uint8_t hash[SCEPDB_ID_LEN];
    int rc = seal_csr(task, &sealed, err);

    if (rc == 0) {
        const struct scepdb_row row = {
            .id = { task->id, SCEPDB_ID_LEN },
            .profile = task->endpoint->name,
            .transaction_id = task->transaction,
            .key_hash = { task->key_hash, SCEPDB_ID_LEN },
            .ca = ca_name(task->endpoint->settings.ca),
            .ca_request_id = task->ca_request_id,
            .csr = cc_buf_bytes(&sealed),
            .received_ms = now_ms,
            .expires_ms = expires_ms(task, now_ms),
        };
        const struct scepdb_claiming claiming = {
            .row = &row,
            .challenge = challenge_hash(task, hash),
            .challenge_expires_ms = now_ms + scep->remember_ms,
            .now_ms = now_ms,
            .lease_until_ms = now_ms + SCEP_LEASE_MS,
        };
        rc = scepdb_claim(scep->store, &claiming, ret_claim, note_known, known, err);
    }
    cc_buf_free(&sealed);
    return rc;
}

static struct answer
spent(struct task *task)
{
    task_say_failed(task, "its challenge was used before, for another request", NULL);
    return answer_failure(PKI_SCEP_BAD_REQUEST, REFUSED);
}

/* Good as far as who asks goes: it gets its row, and then its certificate. */
static struct answer
issue(struct task *task, struct known *known, const struct cc_err *plan_err)
{
    enum scepdb_claim claimed = SCEPDB_BUSY;
    struct cc_err err = { 0 };

    if (claim(task, known, &claimed, &err) != 0)
        return later(task, &err);
    switch (claimed) {
    case SCEPDB_NEW:
        if (plan_err != NULL)
            return end_failed(task, CERTSRV_E_BAD_REQUESTSUBJECT, DENIED, plan_err);
        return ask_ca(task, NULL);
    case SCEPDB_TAKEN:
    case SCEPDB_KNOWN:
        return repeat(task, known);
    case SCEPDB_SPENT:
        return spent(task);
    case SCEPDB_BUSY:
        break;
    }
    return answer_later();
}

/* ---- all of it ---- */

/* A renewal without a challenge is for who the old certificate is for. */
static int
check_renewal(struct task *task, struct answer *ret_answer)
{
    struct cc_err err = { 0 };

    if (make_plan(task, &err) == 0 &&
            pki_plan_compare_identity(task->plan, task->message.signer, &err) == 0)
        return 0;
    task_say_failed(task, cc_err_text(&err), &err);
    *ret_answer = answer_failure(PKI_SCEP_BAD_REQUEST,
            "the request is not for the identity in the certificate to be renewed");
    return 1;
}

/* 0, or 1 with an answer. */
static int
check_who(struct task *task, struct answer *ret_answer)
{
    if (task->challenge == NULL && task->renewal)
        return check_renewal(task, ret_answer);
    if (task->challenge == NULL) {
        task_say_failed(task, "there is no challenge in the request", NULL);
        *ret_answer = answer_failure(PKI_SCEP_BAD_REQUEST, REFUSED);
        return 1;
    }
    if (challenge_check(task, ret_answer) == 0)
        return 0;
    if (ret_answer->kind == ANSWER_FAILURE)
        task_say_failed(task, "its challenge is not good", NULL);
    return 1;
}

/* What it came to before, if it is known. */
static int
look(struct task *task, struct known *known, struct answer *ret_answer)
{
    struct scep *scep = task->endpoint->scep;
    const struct cc_bytes id = { task->id, SCEPDB_ID_LEN };
    const int64_t now_ms = store_now_ms(scep->store);
    struct cc_err err = { 0 };
    bool ours = true;

    if (scepdb_find(scep->store, id, note_known, known, &err) != 0) {
        *ret_answer = later(task, &err);
        return 1;
    }
    if (!known->found)
        return 0;
    if (known->state <= SCEPDB_PENDING &&
            scepdb_take(scep->store, id, now_ms, now_ms + SCEP_LEASE_MS, &ours, &err) != 0)
        *ret_answer = later(task, &err);
    else
        *ret_answer = ours ? repeat(task, known) : answer_later();
    return 1;
}

struct answer
enrol(struct task *task)
{
    struct known known = { .found = false };
    struct answer answer = { .kind = ANSWER_LATER };
    struct cc_err err = { 0 };
    bool planned;

    cc_buf_init(&known.certificate, PKI_CERT_MAX);
    cc_buf_init(&known.pending, CA_PENDING_MAX);
    if (look(task, &known, &answer) == 0 && check_who(task, &answer) == 0) {
        planned = task->plan != NULL || make_plan(task, &err) == 0;
        if (!planned && err.domain != CC_DOM_INPUT)
            answer = later(task, &err);
        else
            answer = issue(task, &known, planned ? NULL : &err);
    }
    cc_buf_free(&known.certificate);
    cc_buf_free(&known.pending);
    return answer;
}
