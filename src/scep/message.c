/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <openssl/err.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "hsm/hsm.h"
#include "pki/pubkey.h"

/*
 * PKIOperation (RFC 8894 section 4.3), from the message to the request in it.  What costs nothing comes before the
 * token is used; and whatever is wrong with an envelope, from its first byte to the request inside, is answered in the
 * same words after the same work, as a difference would decrypt other people's messages piece by piece.
 */

#define BAD_ENVELOPE "the message cannot be opened"
#define FAKE_CONTENT_LEN 1024

/* ---- a task ---- */

/* The same bytes at another URL are another message. */
static int
digest_message(const struct endpoint *endpoint, struct cc_bytes body, uint8_t ret[SCEPDB_ID_LEN])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const bool ok = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                    EVP_DigestUpdate(ctx, endpoint->name, strlen(endpoint->name) + 1) == 1 &&
                    EVP_DigestUpdate(ctx, body.data, body.len) == 1 &&
                    EVP_DigestFinal_ex(ctx, ret, NULL) == 1;

    EVP_MD_CTX_free(ctx);
    return ok ? 0 : -1;
}

static struct task *
task_new(struct endpoint *endpoint, struct http_exchange *exchange, struct cc_bytes body)
{
    struct task *task = calloc(1, sizeof(*task));

    if (task == NULL)
        return NULL;
    task->endpoint = endpoint;
    task->exchange = exchange;
    task->body = body;
    task->begun_ms = cc_clock_mono_ms();
    task->deadline = cc_deadline_in(endpoint->scep->deadline_ms);
    pki_enveloped_init(&task->envelope);
    cc_buf_init(&task->csr_der, PKI_CSR_MAX);
    if (digest_message(endpoint, body, task->digest) != 0) {
        task_free(task);
        return NULL;
    }
    cc_hex(task->digest, SCEPDB_ID_LEN, false, task->request_id);
    return task;
}

void
task_free(struct task *task)
{
    if (task == NULL)
        return;
    pki_plan_free(task->plan);
    pki_csr_ask_free(task->ask);
    cc_secret_free(task->challenge);
    X509_REQ_free(task->csr);
    cc_buf_wipe(&task->csr_der);
    cc_secret_free(task->content);
    pki_enveloped_free(&task->envelope);
    pki_scep_message_free(&task->message);
    ra_free(task->ra);
    free(task);
}

void
task_name(struct task *task)
{
    cc_hex(task->id, SCEPDB_ID_LEN, false, task->request_id);
    (void)snprintf(task->ca_request_id, sizeof(task->ca_request_id), "scep/%s", task->request_id);
}

struct task *
task_new_resumed(struct endpoint *endpoint, const struct scepdb_row *row)
{
    struct task *task = calloc(1, sizeof(*task));

    if (task == NULL)
        return NULL;
    task->endpoint = endpoint;
    task->begun_ms = cc_clock_mono_ms();
    task->deadline = cc_deadline_in(endpoint->scep->deadline_ms);
    pki_enveloped_init(&task->envelope);
    cc_buf_init(&task->csr_der, PKI_CSR_MAX);
    (void)cc_strcpy(task->transaction, sizeof(task->transaction), row->transaction_id);
    memcpy(task->id, row->id.data, SCEPDB_ID_LEN);
    memcpy(task->key_hash, row->key_hash.data, SCEPDB_ID_LEN);
    task_name(task);
    return task;
}

/* ---- events ---- */

static struct event_fields
fields_of(const struct task *task)
{
    return (struct event_fields){
        .request_id = task->request_id,
        .transaction_id = task->transaction,
        .ca = ca_name(task->endpoint->settings.ca),
        .duration_ms = cc_clock_mono_ms() - task->begun_ms,
    };
}

static void
say_received(const struct task *task)
{
    struct event_fields fields = fields_of(task);

    fields.duration_ms = 0;
    eventlog_write(task->endpoint->scep->log, EVENT_SCEP_REQUEST_RECEIVED, &fields,
            "A SCEP request (%s) was received from %s: transaction %s",
            pki_scep_type_name(task->message.type), http_exchange_peer(task->exchange),
            task->transaction);
}

void
task_say_failed(const struct task *task, const char *why, const struct cc_err *err)
{
    struct event_fields fields = fields_of(task);

    fields.error = err;
    fields.deferred = true;
    eventlog_write(task->endpoint->scep->log, EVENT_SCEP_REQUEST_ISSUED_FAILURE, &fields,
            "No certificate was issued for SCEP request %s: %s", task->transaction, why);
}

/* A failure that no row stands for is said here; the same message again gets its answer without another event. */
static struct answer
fail(const struct task *task, int fail_info, const char *text, const struct cc_err *err)
{
    task_say_failed(task, err != NULL ? cc_err_text(err) : text, err);
    return answer_failure(fail_info, text);
}

/* ---- algorithms ---- */

static bool
is_digest_allowed(const struct task *task, int nid)
{
    switch (nid) {
    case NID_sha224:
    case NID_sha256:
    case NID_sha384:
    case NID_sha512:
        return true;
    case NID_sha1:
        return task->endpoint->settings.legacy >= SCEP_LEGACY_3DES;
    default:
        return false;
    }
}

static bool
is_cipher_allowed(const struct task *task)
{
    switch (task->envelope.cipher_nid) {
    case NID_des_ede3_cbc:
        return task->endpoint->settings.legacy >= SCEP_LEGACY_3DES;
    case NID_des_cbc:
        return task->endpoint->settings.legacy >= SCEP_LEGACY_DES;
    default:
        return true;
    }
}

/* The digest of the CSR's own signature. */
static bool
is_csr_digest_allowed(const struct task *task)
{
    int digest = NID_undef, key = NID_undef;
    const int nid = X509_REQ_get_signature_nid(task->csr);

    /* PSS has its digest among its parameters, and none of them is an old one. */
    if (nid == NID_rsassaPss || nid == NID_ED25519 || nid == NID_ED448)
        return true;
    return OBJ_find_sigid_algs(nid, &digest, &key) == 1 && is_digest_allowed(task, digest);
}

/* ---- the envelope ---- */

/* Something to decrypt in place of what cannot be read: it costs the same and comes to nothing. */
static int
fake_envelope(struct task *task, struct cc_err *err)
{
    struct pki_enveloped *envelope = &task->envelope;
    const size_t key_len = (size_t)EVP_PKEY_get_size(X509_get0_pubkey(task->ra->encrypt[0]));
    uint8_t *key, *content;

    cc_buf_reset(&envelope->encrypted_key);
    cc_buf_reset(&envelope->ciphertext);
    envelope->oaep = false;
    envelope->cipher_nid = NID_aes_128_cbc;
    envelope->iv_len = 16;
    if ((key = cc_buf_reserve(&envelope->encrypted_key, key_len, err)) == NULL ||
            cc_random(key, key_len, err) != 0 ||
            (content = cc_buf_reserve(&envelope->ciphertext, FAKE_CONTENT_LEN, err)) == NULL ||
            cc_random(content, FAKE_CONTENT_LEN, err) != 0)
        return -1;
    key[0] = 0; /* below every modulus */
    envelope->encrypted_key.len = key_len;
    envelope->ciphertext.len = FAKE_CONTENT_LEN;
    return 0;
}

/* 0, or 1 with an answer: that of an algorithm that everybody may know of. */
static int
read_envelope(struct task *task, struct answer *ret_answer)
{
    struct cc_err err = { 0 };
    size_t which;
    int rc = pki_enveloped_data_read_for(task->message.envelope, task->ra->encrypt,
            task->ra->encrypt_count, &which, &task->envelope, &err);

    if (rc != 0 && err.domain == CC_DOM_INPUT && err.code == PKI_ENVELOPED_ALGORITHM) {
        *ret_answer =
                fail(task, PKI_SCEP_BAD_ALG, "the encryption algorithm is not accepted", &err);
        return 1;
    }
    if (rc == 0 && !is_cipher_allowed(task)) {
        *ret_answer = fail(task, PKI_SCEP_BAD_ALG,
                task->envelope.cipher_nid == NID_des_cbc ? "single DES is not accepted"
                                                         : "triple DES is not accepted",
                NULL);
        return 1;
    }
    if (rc == 0)
        return 0;
    cc_log(CC_LOG_DEBUG, "scep", "transaction %s: %s", task->transaction, cc_err_text(&err));
    cc_err_clear(&err);
    if (fake_envelope(task, &err) == 0)
        return 0;
    *ret_answer = answer_later();
    return 1;
}

/* -1: the token cannot be used just now.  *ret_good: there is content. */
static int
open_envelope(struct task *task, bool *ret_good, struct cc_err *err)
{
    const struct pki_enveloped *envelope = &task->envelope;
    const struct hsm_key_transport transport = {
        .oaep = envelope->oaep,
        .digest_nid = envelope->digest_nid,
        .mgf_nid = envelope->mgf_nid,
        .encrypted = cc_buf_bytes(&envelope->encrypted_key),
    };
    const size_t len = pki_enveloped_key_len(envelope);
    uint8_t key[EVP_MAX_KEY_LENGTH];
    int rc = hsm_key_open_content_key(task->endpoint->scep->encrypt, &transport, key, len, err);

    if (rc == 0)
        *ret_good = pki_enveloped_open(envelope, (struct cc_bytes){ key, len }, &task->content,
                            NULL) == 0;
    cc_wipe(key, sizeof(key));
    return rc;
}

static struct answer
bad_envelope(struct task *task)
{
    atomic_fetch_add(&task->endpoint->scep->bad_messages, 1);
    return fail(task, PKI_SCEP_BAD_MESSAGE_CHECK, BAD_ENVELOPE, NULL);
}

/* 0 with content, 1 with an answer. */
static int
open_message(struct task *task, struct answer *ret_answer)
{
    struct cc_err err = { 0 };
    bool good = false;

    if (read_envelope(task, ret_answer) != 0)
        return 1;
    if (open_envelope(task, &good, &err) != 0) {
        cc_log(CC_LOG_WARNING, "scep", "transaction %s: %s", task->transaction, cc_err_text(&err));
        *ret_answer = answer_later();
        return 1;
    }
    if (good)
        return 0;
    *ret_answer = bad_envelope(task);
    return 1;
}

/* ---- the request in it ---- */

int
task_hash_signer(struct task *task, struct cc_err *err)
{
    struct cc_buf der = CC_BUF_INIT(PKI_CSR_MAX);
    const int rc = pki_pubkey_write_spki(X509_get0_pubkey(task->message.signer), &der, err);

    if (rc == 0)
        SHA256(der.data, der.len, task->key_hash);
    cc_buf_free(&der);
    return rc;
}

/* What names this very request, and no other: sent again it finds what became of the first (RFC 8894 section 7.4). */
static int
name_task(struct task *task, struct cc_err *err)
{
    const struct cc_bytes transaction = task->message.transaction_id;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t csr[SHA256_DIGEST_LENGTH], signer[SHA256_DIGEST_LENGTH] = { 0 };
    const char *name = task->endpoint->name;
    unsigned int signer_len = 0;
    int ok;

    if (task_hash_signer(task, err) != 0) {
        EVP_MD_CTX_free(ctx);
        return -1;
    }
    ERR_clear_error();
    SHA256(task->csr_der.data, task->csr_der.len, csr);
    ok = ctx != NULL;
    /* Two renewals with the same key are two. */
    if (ok && task->renewal)
        ok = X509_digest(task->message.signer, EVP_sha256(), signer, &signer_len);
    ok = ok && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
         EVP_DigestUpdate(ctx, name, strlen(name) + 1) == 1 &&
         EVP_DigestUpdate(ctx, csr, sizeof(csr)) == 1 &&
         EVP_DigestUpdate(ctx, signer, sizeof(signer)) == 1 &&
         EVP_DigestUpdate(ctx, transaction.data, transaction.len) == 1 &&
         EVP_DigestFinal_ex(ctx, task->id, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return cc_err_set_openssl(err, "the name of an enrolment");
    task_name(task);
    return 0;
}

/* The key and the challenge of the CSR. */
static int
read_csr(struct task *task, struct cc_err *err)
{
    if ((task->key = X509_REQ_get0_pubkey(task->csr)) == NULL) {
        ERR_clear_error();
        return cc_err_set(err, CC_DOM_INPUT, 0, "the request's key cannot be read");
    }
    return pki_csr_challenge(task->csr, &task->challenge, err);
}

int
task_unseal_csr(struct task *task, struct cc_bytes sealed, struct cc_err *err)
{
    struct cc_secret *csr = NULL;
    int rc;

    if (hsm_unseal(task->endpoint->scep->seal, cc_bytes_of_str(task->request_id), sealed, &csr,
                err) != 0)
        return -1;
    rc = cc_buf_add(&task->csr_der, cc_secret_data(csr), cc_secret_len(csr), err);
    cc_secret_free(csr);
    if (rc != 0 || pki_csr_parse(cc_buf_bytes(&task->csr_der), &task->csr, err) != 0)
        return -1;
    return read_csr(task, err);
}

/* DER, and nothing else: whatever is not a CSR did not decrypt. */
static int
parse_content(struct task *task)
{
    const struct cc_bytes content = { cc_secret_data(task->content), cc_secret_len(task->content) };

    if (content.len > PKI_CSR_MAX || content.data[0] != (V_ASN1_CONSTRUCTED | V_ASN1_SEQUENCE) ||
            pki_csr_parse(content, &task->csr, NULL) != 0)
        return -1;
    return cc_buf_add(&task->csr_der, content.data, content.len, NULL);
}

/* 0, or 1 with an answer. */
static int
read_request(struct task *task, struct answer *ret_answer)
{
    const struct scep_profile *settings = &task->endpoint->settings;
    struct cc_err err = { 0 };

    if (parse_content(task) != 0) {
        *ret_answer = bad_envelope(task);
        return 1;
    }
    if (read_csr(task, &err) != 0) {
        *ret_answer =
                fail(task, PKI_SCEP_BAD_REQUEST, "the certificate request is malformed", &err);
    } else if (!is_csr_digest_allowed(task)) {
        *ret_answer = fail(task, PKI_SCEP_BAD_ALG,
                "the digest of the request's signature is not accepted", NULL);
    } else if (pki_csr_verify(task->csr, &err) != 0) {
        *ret_answer = fail(task, PKI_SCEP_BAD_REQUEST,
                "the signature of the certificate request is not good", &err);
    } else if (pki_key_check(task->key, settings->profile->key_specs, &err) != 0) {
        *ret_answer = fail(task, PKI_SCEP_BAD_ALG, "this key is not accepted", &err);
    } else if (authorise(task, ret_answer) != 0) {
        if (ret_answer->kind == ANSWER_FAILURE)
            task_say_failed(task, ret_answer->text, NULL);
    } else if (name_task(task, &err) != 0) {
        *ret_answer = answer_later();
    } else {
        task->checked = true;
        return 0;
    }
    return 1;
}

/* ---- the message ---- */

/* 0, or 1 with an answer. */
static int
check_message(struct task *task, struct answer *ret_answer)
{
    const struct pki_scep_message *message = &task->message;
    struct cc_err err = { 0 };

    if (message->transaction_id.len == 0 || message->sender_nonce.len == 0)
        *ret_answer = answer_refused(400, "transactionID or senderNonce is missing\n");
    else if (!is_digest_allowed(task, message->digest_nid))
        *ret_answer = fail(task, PKI_SCEP_BAD_ALG, "the digest algorithm is not accepted", NULL);
    else if (pki_scep_verify(message, &err) != 0)
        *ret_answer = fail(task, PKI_SCEP_BAD_MESSAGE_CHECK, "the signature is not good", &err);
    else if (!EVP_PKEY_is_a(X509_get0_pubkey(message->signer), "RSA"))
        *ret_answer = fail(task, PKI_SCEP_BAD_ALG,
                "an RSA key is needed, as the answer is encrypted for it", NULL);
    else
        return 0;
    return 1;
}

/* For people, events and the service. */
static void
name_transaction(struct task *task)
{
    const struct cc_bytes id = task->message.transaction_id;
    struct cc_buf text = CC_BUF_INIT(sizeof(task->transaction) - 1);

    if (cc_escape(&text, id.data, id.len, sizeof(task->transaction) - 4, NULL) == 0)
        (void)cc_strcpy(task->transaction, sizeof(task->transaction), cc_buf_str(&text));
    cc_buf_free(&text);
}

static int
parse_message(struct task *task, struct answer *ret_answer)
{
    struct cc_err err = { 0 };

    if (pki_scep_read(task->body, &task->message, &err) != 0) {
        cc_log(CC_LOG_INFO, "scep", "%s: %s", http_exchange_peer(task->exchange),
                cc_err_text(&err));
        *ret_answer = answer_refused(400, "not a SCEP message\n");
        return 1;
    }
    name_transaction(task);
    return check_message(task, ret_answer);
}

/* ---- which work ---- */

static void
measure(struct task *task, const struct answer *answer)
{
    static const enum scep_answered kinds[] = {
        [ANSWER_SUCCESS] = SCEP_ANSWERED_SUCCESS,
        [ANSWER_FAILURE] = SCEP_ANSWERED_FAILURE,
        [ANSWER_PENDING] = SCEP_ANSWERED_PENDING,
        [ANSWER_LATER] = SCEP_ANSWERED_LATER,
        [ANSWER_REFUSED] = SCEP_ANSWERED_REFUSED,
    };
    struct scep *scep = task->endpoint->scep;

    (void)atomic_fetch_add(&scep->answered[kinds[answer->kind]], 1);
    if (answer->kind == ANSWER_FAILURE && answer->fail_info >= 0 &&
            answer->fail_info < SCEP_FAIL_INFOS)
        (void)atomic_fetch_add(&scep->fail_info[answer->fail_info], 1);
    cc_histogram_add(&scep->time, (cc_clock_mono_ms() - task->begun_ms) * 1000);
}

static void
finish(struct task *task, struct answer *take_answer)
{
    measure(task, take_answer);
    reply_send(task, take_answer);
    answer_free(take_answer);
    atomic_fetch_sub(&task->endpoint->scep->in_work, 1);
    task_free(task);
}

void
answer_waiting(struct task *take_waiting, const struct answer *answer)
{
    while (take_waiting != NULL) {
        struct task *next = take_waiting->next;
        struct answer copy = answer_copy(answer);

        finish(take_waiting, &copy);
        take_waiting = next;
    }
}

static void
do_enrol(struct task *take_task)
{
    struct task *task = take_task;
    struct answer answer = { .kind = ANSWER_LATER };

    if (open_message(task, &answer) != 0 || read_request(task, &answer) != 0) {
        finish(task, &answer);
        return;
    }
    if (!flight_begin(task->endpoint->scep, task->id, task))
        return;
    say_received(task);
    answer = enrol(task);
    answer_waiting(flight_end(task->endpoint->scep, task->id), &answer);
    finish(task, &answer);
}

static struct answer
do_query(struct task *task)
{
    struct answer answer = { .kind = ANSWER_LATER };

    if (task->message.type == PKI_SCEP_CERT_POLL) {
        /* What is encrypted in it is not needed; how it is, says how the answer has to be. */
        if (read_envelope(task, &answer) != 0)
            return answer;
        return query_poll(task);
    }
    if (!task->endpoint->settings.queries)
        return answer_failure(PKI_SCEP_BAD_REQUEST, "GetCert and GetCRL are not offered here");
    if (authorise_query(task, &answer) != 0 || open_message(task, &answer) != 0)
        return answer;
    return task->message.type == PKI_SCEP_GET_CERT ? query_get_cert(task) : query_get_crl(task);
}

static void
dispatch(struct task *take_task)
{
    struct answer answer;

    switch (take_task->message.type) {
    case PKI_SCEP_PKCS_REQ:
    case PKI_SCEP_RENEWAL_REQ:
        do_enrol(take_task);
        return;
    case PKI_SCEP_CERT_POLL:
    case PKI_SCEP_GET_CERT:
    case PKI_SCEP_GET_CRL:
        answer = do_query(take_task);
        break;
    default:
        answer = fail(take_task, PKI_SCEP_BAD_REQUEST, "the messageType is not known", NULL);
        break;
    }
    finish(take_task, &answer);
}

/* ---- lanes ---- */

/* What no CA is to be blamed for: the store, the token as a whole. */
static bool
is_trouble_of_all(struct scep *scep, const struct cc_err *err)
{
    return err->domain == CC_DOM_STORE || !scep_can_record(scep) ||
           (err->domain == CC_DOM_TOKEN &&
                   (err->code == HSM_FAULT_UNAVAILABLE || err->code == HSM_FAULT_PIN_REFUSED));
}

void
task_ca_said(struct task *task, enum ca_outcome outcome, const struct cc_err *err)
{
    if (task->call == NULL || task->call->verdict == LANE_FAILED)
        return;
    if (outcome != CA_RETRYABLE && outcome != CA_MISCONFIGURED && outcome != CA_UNKNOWN) {
        task->call->verdict = LANE_ANSWERED;
        return;
    }
    if (is_trouble_of_all(task->endpoint->scep, err))
        return;
    task->call->verdict = LANE_FAILED;
    task->call->err = *err;
}

static void
say_turned(struct endpoint *endpoint, const struct lane_call *call)
{
    const char *ca = ca_name(endpoint->settings.ca);
    const bool failed = call->verdict == LANE_FAILED;
    const struct event_fields fields = { .ca = ca, .error = failed ? &call->err : NULL };

    if (failed)
        eventlog_write(endpoint->scep->log, EVENT_CA_UNAVAILABLE, &fields,
                "The CA \"%s\" does not do what SCEP devices ask: they are told to come again, and "
                "it is tried with one at a time until it does: %s",
                ca, cc_err_text(&call->err));
    else
        eventlog_write(endpoint->scep->log, EVENT_CA_RECOVERED, &fields,
                "The CA \"%s\" serves SCEP devices again", ca);
}

/* What waited too long in its lane is not begun any more. */
static void
work_on(struct task *take_task, struct lane_call *call)
{
    struct answer answer = { .kind = ANSWER_LATER };

    take_task->call = call;
    if (cc_deadline_left(take_task->deadline) == 0 || parse_message(take_task, &answer) != 0)
        finish(take_task, &answer);
    else
        dispatch(take_task);
}

static struct task *
task_of(struct lane_visit *visit)
{
    return (struct task *)visit;
}

/* A task whose turn it is, and then those that waited for a worker. */
static void
work_in_lane(struct task *take_task)
{
    struct lane_visit *next = &take_task->visit;

    while (next != NULL) {
        struct task *task = task_of(next);
        struct endpoint *endpoint = task->endpoint;
        struct lane_call call = { .verdict = LANE_NOTHING };
        struct lane_visits refused;
        struct lane_visit *one;
        bool turned;

        work_on(task, &call);
        next = lanes_leave(endpoint->scep->lanes, endpoint->lane, call.verdict, cc_clock_mono_ms(),
                &refused, &turned);
        if (turned)
            say_turned(endpoint, &call);
        while ((one = STAILQ_FIRST(&refused)) != NULL) {
            struct answer answer = { .kind = ANSWER_LATER };

            STAILQ_REMOVE_HEAD(&refused, next);
            finish(task_of(one), &answer);
        }
    }
}

void
message_handle(struct endpoint *endpoint, struct http_exchange *exchange, struct cc_bytes body)
{
    struct answer answer = { .kind = ANSWER_LATER };
    struct task *task = task_new(endpoint, exchange, body);

    if (task == NULL || (task->ra = ra_get(endpoint)) == NULL) {
        reply_busy(exchange);
        task_free(task);
        return;
    }
    if (reply_repeat(endpoint->scep, exchange, task->digest)) {
        task_free(task);
        return;
    }
    /* Before the service or a CA hears of it. */
    if (!scep_can_record(endpoint->scep)) {
        reply_busy(exchange);
        task_free(task);
        return;
    }
    atomic_fetch_add(&endpoint->scep->in_work, 1);
    task->visit.lane = endpoint->lane;
    switch (lanes_enter(endpoint->scep->lanes, &task->visit, cc_clock_mono_ms())) {
    case LANE_GO:
        work_in_lane(task);
        break;
    case LANE_BUSY:
        finish(task, &answer);
        break;
    case LANE_PARKED:
        break;
    }
}
