/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/process.h"

#define NONCE_LEN PKI_SCEP_NONCE_LEN
#define CERTS_MAX 16
#define KEEP_MAX 16384 /* bytes: an enrolment's answer, but no CRL */

/* ---- answers ---- */

struct answer
answer_failure(int fail_info, const char *text)
{
    return (struct answer){ .kind = ANSWER_FAILURE, .fail_info = fail_info, .text = text };
}

struct answer
answer_later(void)
{
    return (struct answer){ .kind = ANSWER_LATER };
}

struct answer
answer_refused(unsigned status, const char *text)
{
    return (struct answer){ .kind = ANSWER_REFUSED, .status = status, .text = text };
}

struct answer
answer_copy(const struct answer *answer)
{
    struct answer copy = *answer;

    if (copy.certificate != NULL)
        (void)X509_up_ref(copy.certificate);
    if (copy.crl != NULL)
        (void)X509_CRL_up_ref(copy.crl);
    return copy;
}

void
answer_free(struct answer *answer)
{
    X509_free(answer->certificate);
    X509_CRL_free(answer->crl);
    answer->certificate = NULL;
    answer->crl = NULL;
}

/* ---- without a signature ---- */

void
reply_plain(struct http_exchange *exchange, unsigned status, const char *text)
{
    http_exchange_reply(exchange, status, NULL, 0, "text/plain", text, strlen(text));
}

void
reply_busy(struct http_exchange *exchange)
{
    static const struct http_header retry = { "Retry-After", "5" };
    static const char text[] = "not now\n";

    http_exchange_reply(exchange, 503, &retry, 1, "text/plain", text, strlen(text));
}

/* ---- CertRep ---- */

/* The issued certificate alone: Apple's clients take the first one.  Or with the CA's behind it, for clients that want it. */
static int
write_content(const struct task *task, const struct answer *answer, struct cc_buf *ret,
        struct cc_err *err)
{
    X509 *certificates[CERTS_MAX];
    size_t count = 0;

    if (answer->certificate != NULL)
        certificates[count++] = answer->certificate;
    if (answer->certificate != NULL && task->endpoint->settings.chain_in_reply)
        for (int i = 0; i < sk_X509_num(task->ra->chain) && count < CERTS_MAX; i++)
            certificates[count++] = sk_X509_value(task->ra->chain, i);
    return pki_certs_only_write(certificates, count, answer->crl, ret, err);
}

/* Under the key of who signed the request (RFC 8894 section 3.1), in the cipher that it came in. */
static int
write_envelope(const struct task *task, const struct answer *answer, struct cc_buf *ret,
        struct cc_err *err)
{
    struct cc_buf content = CC_BUF_INIT(SCEP_REPLY_MAX);
    int rc = write_content(task, answer, &content, err);

    if (rc == 0)
        rc = pki_enveloped_write_like(&task->envelope, task->message.signer, cc_buf_bytes(&content),
                ret, err);
    cc_buf_free(&content);
    return rc;
}

/* The digest of the request where it is one of ours, for clients that know no other. */
static const EVP_MD *
digest_of(const struct task *task)
{
    switch (task->message.digest_nid) {
    case NID_sha1:
        return task->endpoint->settings.legacy != SCEP_LEGACY_NONE ? EVP_sha1() : EVP_sha256();
    case NID_sha224:
    case NID_sha384:
    case NID_sha512:
        return EVP_get_digestbynid(task->message.digest_nid);
    default:
        return EVP_sha256();
    }
}

static int
write_cert_rep(const struct task *task, const struct answer *answer, struct cc_buf *ret,
        struct cc_err *err)
{
    static const int statuses[] = {
        [ANSWER_SUCCESS] = PKI_SCEP_SUCCESS,
        [ANSWER_FAILURE] = PKI_SCEP_FAILURE,
        [ANSWER_PENDING] = PKI_SCEP_PENDING,
    };
    const bool failed = answer->kind == ANSWER_FAILURE;
    struct cc_buf envelope = CC_BUF_INIT(SCEP_REPLY_MAX);
    uint8_t nonce[NONCE_LEN];
    struct pki_scep_draft draft = {
        .type = PKI_SCEP_CERT_REP,
        .status = statuses[answer->kind],
        .fail_info = failed ? answer->fail_info : -1,
        .fail_text = failed ? answer->text : NULL,
        .transaction_id = task->message.transaction_id,
        .transaction_tag = task->message.transaction_tag,
        .sender_nonce = { nonce, sizeof(nonce) },
        .recipient_nonce = task->message.sender_nonce,
        .signer = task->ra->sign,
        .key = task->ra->sign_key,
        .md = digest_of(task),
    };
    int rc = cc_random(nonce, sizeof(nonce), err);

    if (rc == 0 && answer->kind == ANSWER_SUCCESS)
        rc = write_envelope(task, answer, &envelope, err);
    draft.envelope = cc_buf_bytes(&envelope);
    if (rc == 0)
        rc = pki_scep_write(&draft, ret, err);
    cc_buf_free(&envelope);
    return rc;
}

/* ---- kept for repeats ---- */

static void
keep(struct scep *scep, const uint8_t *digest, struct cc_buf *take_reply)
{
    struct cached *place;

    pthread_mutex_lock(&scep->lock);
    place = &scep->cache[scep->cache_next];
    scep->cache_next = (scep->cache_next + 1) % CACHE_SIZE;
    cc_buf_free(&place->reply);
    memcpy(place->digest, digest, SCEPDB_ID_LEN);
    place->reply = *take_reply;
    pthread_mutex_unlock(&scep->lock);
    cc_buf_init(take_reply, take_reply->max);
}

static void
send_message(struct http_exchange *exchange, const struct cc_buf *reply)
{
    if (CC_FAILPOINT("answer", "scep", "before")) {
        reply_busy(exchange);
        return;
    }
    http_exchange_reply(exchange, 200, NULL, 0, "application/x-pki-message", reply->data,
            reply->len);
    (void)CC_FAILPOINT("answer", "scep", "after");
}

bool
reply_repeat(struct scep *scep, struct http_exchange *exchange, const uint8_t digest[SCEPDB_ID_LEN])
{
    struct cc_buf reply = CC_BUF_INIT(SCEP_REPLY_MAX);
    bool found = false;

    pthread_mutex_lock(&scep->lock);
    for (size_t i = 0; i < CACHE_SIZE && !found; i++)
        if (scep->cache[i].reply.len > 0 &&
                memcmp(scep->cache[i].digest, digest, SCEPDB_ID_LEN) == 0)
            found = cc_buf_add(&reply, scep->cache[i].reply.data, scep->cache[i].reply.len, NULL) ==
                    0;
    pthread_mutex_unlock(&scep->lock);
    if (found)
        send_message(exchange, &reply);
    cc_buf_free(&reply);
    return found;
}

void
reply_send(struct task *task, const struct answer *answer)
{
    struct cc_buf reply = CC_BUF_INIT(SCEP_REPLY_MAX);
    struct cc_err err = { 0 };

    if (answer->kind == ANSWER_REFUSED) {
        reply_plain(task->exchange, answer->status, answer->text);
        return;
    }
    if (answer->kind == ANSWER_LATER || write_cert_rep(task, answer, &reply, &err) != 0) {
        if (err.domain != CC_DOM_NONE)
            cc_log(CC_LOG_WARNING, "scep", "no answer could be signed: %s", cc_err_text(&err));
        reply_busy(task->exchange);
    } else {
        send_message(task->exchange, &reply);
        if (answer->kind != ANSWER_PENDING && reply.len <= KEEP_MAX)
            keep(task->endpoint->scep, task->digest, &reply);
    }
    cc_buf_free(&reply);
}

int
reply_next_ca(const struct ra *ra, struct cc_buf *ret, struct cc_err *err)
{
    return pki_signed_write(ra->sign, ra->sign_key, EVP_sha256(), cc_buf_bytes(&ra->next), ret,
            err);
}
