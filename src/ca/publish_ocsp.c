/* SPDX-License-Identifier: MIT */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "local_int.h"
#include "pki/ocsp.h"
#include "publish_int.h"

#define CONTENT_TYPE "application/ocsp-response"
#define RESPONSE_MAX 65536
#define SERIAL_MAX 64
#define TAG_BYTES 16 /* of the hash of an answer, in its ETag */

/* One request being answered. */
struct asking {
    struct ca_publish *publish;
    struct pki_ocsp_request *request;
    bool keep; /* one certificate, no nonce: the answer serves others, too */
    uint8_t id[PUBLISH_ID_LEN];
    struct publish_ca *ca;
    struct pki_ocsp_single singles[PKI_OCSP_CERTS_MAX];
    bool known;
    enum pki_ocsp_refusal refusal; /* when it fails */
};

/* ---- the database's numbers ---- */

static int
read_numbers(struct publish_ca *ca, struct publish_numbers *ret, struct cc_err *err)
{
    int64_t now = cc_clock_mono_ms();
    struct publish_numbers numbers;

    if (ca_local_numbers(ca->ca, &numbers.change, &numbers.generation, err) != 0)
        return -1;
    pthread_mutex_lock(&ca->lock);
    ca->numbers = numbers;
    ca->numbers_at = now;
    ca->has_numbers = true;
    pthread_mutex_unlock(&ca->lock);
    *ret = numbers;
    return 0;
}

/* Not older than PUBLISH_LOOK_MS. */
static int
recent_numbers(struct publish_ca *ca, struct publish_numbers *ret, struct cc_err *err)
{
    int64_t now = cc_clock_mono_ms();
    bool recent;

    pthread_mutex_lock(&ca->lock);
    recent = ca->has_numbers && now - ca->numbers_at < PUBLISH_LOOK_MS;
    *ret = ca->numbers;
    pthread_mutex_unlock(&ca->lock);
    return recent ? 0 : read_numbers(ca, ret, err);
}

/* ---- answers that were given before ---- */

/* Until half of its time is over, and nothing was revoked or released; one for an unknown serial until any other
   certificate is known. */
static bool
is_current(struct ca_publish *publish, const struct publish_answer *answer)
{
    int64_t now = store_now_ms(ca_local_of(publish->cas[answer->ca].ca)->store);
    struct publish_numbers numbers;

    if (now < answer->this_update_ms ||
            now - answer->this_update_ms >= (answer->next_update_ms - answer->this_update_ms) / 2)
        return false;
    if (recent_numbers(&publish->cas[answer->ca], &numbers, NULL) != 0)
        return false;
    return answer->numbers.change == numbers.change &&
           (answer->known || answer->numbers.generation == numbers.generation);
}

static struct publish_answer *
find_kept(const struct asking *asking)
{
    struct publish_answer *answer = publish_cache_find(asking->publish->cache, asking->id);

    if (answer != NULL && !is_current(asking->publish, answer)) {
        publish_answer_put(answer);
        answer = NULL;
    }
    return answer;
}

/* ---- a new answer ---- */

static bool
is_all_for(const struct asking *asking, X509 *issuer)
{
    for (size_t i = 0; i < pki_ocsp_request_count(asking->request); i++)
        if (!pki_ocsp_request_is_for(asking->request, i, issuer))
            return false;
    return true;
}

/* The one authority that all certificates are of: our signers answer for their own (RFC 6960 section 2.2). */
static int
find_ca(struct asking *asking, struct cc_err *err)
{
    for (size_t i = 0; i < asking->publish->count; i++) {
        struct publish_ca *ca = &asking->publish->cas[i];
        X509 *issuer = NULL;
        bool all =
                ca_local_get1_certificate(ca->ca, &issuer, NULL) == 0 && is_all_for(asking, issuer);

        X509_free(issuer);
        if (all) {
            asking->ca = ca;
            return 0;
        }
    }
    asking->refusal = PKI_OCSP_UNAUTHORIZED;
    return cc_err_set(err, CC_DOM_INPUT, 0, "the certificates are of no CA here");
}

static void
set_single(const struct ca_local_status *status, struct pki_ocsp_single *ret)
{
    *ret = (struct pki_ocsp_single){ .status = PKI_OCSP_UNKNOWN };
    if (!status->known)
        return;
    ret->status = status->state == CADB_ISSUED ? PKI_OCSP_GOOD : PKI_OCSP_REVOKED;
    ret->revoked_ms = status->revoked_ms;
    ret->reason = (enum pki_reason)status->reason;
}

static int
read_singles(struct asking *asking, struct cc_err *err)
{
    struct cc_buf serial = CC_BUF_INIT(SERIAL_MAX);
    struct ca_local_status status;
    int rc = 0;

    asking->known = true;
    for (size_t i = 0; rc == 0 && i < pki_ocsp_request_count(asking->request); i++) {
        cc_buf_reset(&serial);
        status = (struct ca_local_status){ 0 };
        /* What cannot be a serial of ours is not known here. */
        if (pki_ocsp_request_serial(asking->request, i, &serial, NULL) == 0)
            rc = ca_local_status(asking->ca->ca, cc_buf_bytes(&serial), &status, err);
        asking->known = asking->known && status.known;
        set_single(&status, &asking->singles[i]);
    }
    cc_buf_free(&serial);
    return rc;
}

static int
sign(const struct asking *asking, struct pki_ocsp_settings *settings, struct cc_buf *ret_der,
        struct cc_err *err)
{
    int rc;

    if (ca_local_get1_ocsp_signer(asking->ca->ca, &settings->signer, &settings->key, err) != 0)
        return -1;
    rc = pki_ocsp_respond(asking->request, asking->singles, settings, ret_der, err);
    X509_free(settings->signer);
    if (rc != 0)
        hsm_err_resolve(err);
    return rc;
}

/* Token and store come back; a missing key does not by itself. */
static enum pki_ocsp_refusal
refusal_of(const struct cc_err *err)
{
    switch (err->domain) {
    case CC_DOM_TOKEN:
    case CC_DOM_PKCS11:
    case CC_DOM_STORE:
        return PKI_OCSP_TRY_LATER;
    case CC_DOM_CONFIG:
        return PKI_OCSP_UNAUTHORIZED;
    default:
        return PKI_OCSP_INTERNAL_ERROR;
    }
}

/* So that a token that is away does not hold the workers that serve files. */
static int
check_token(const struct asking *asking, struct cc_err *err)
{
    struct hsm_status status;

    hsm_get_status(ca_local_of(asking->ca->ca)->hsm, &status);
    if (status.state != HSM_STATE_OPEN)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "the token is %s",
                hsm_state_name(status.state));
    return 0;
}

static struct publish_answer *
answer_new(const struct asking *asking, const struct publish_numbers *numbers,
        const struct pki_ocsp_settings *settings, struct cc_bytes der, struct cc_err *err)
{
    struct publish_answer *answer = malloc(sizeof(*answer) + der.len);

    if (answer == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    atomic_init(&answer->owners, 1);
    memcpy(answer->id, asking->id, PUBLISH_ID_LEN);
    answer->ca = (size_t)(asking->ca - asking->publish->cas);
    answer->known = asking->known;
    answer->numbers = *numbers;
    answer->this_update_ms = settings->this_update_ms;
    answer->next_update_ms = settings->next_update_ms;
    answer->len = der.len;
    memcpy(answer->der, der.data, der.len);
    return answer;
}

static struct publish_answer *
make_answer(struct asking *asking, struct cc_err *err)
{
    struct cc_buf der = CC_BUF_INIT(RESPONSE_MAX);
    struct publish_answer *answer = NULL;
    const struct ca_local *local = ca_local_of(asking->ca->ca);
    struct pki_ocsp_settings settings = { .this_update_ms = store_now_ms(local->store) };
    struct publish_numbers numbers;

    if (check_token(asking, err) != 0)
        goto out;
    settings.next_update_ms = settings.this_update_ms + local->ocsp_validity_ms;
    /* The numbers first: what changes after them is not missed. */
    if (read_numbers(asking->ca, &numbers, err) != 0 || read_singles(asking, err) != 0 ||
            sign(asking, &settings, &der, err) != 0)
        goto out;
    answer = answer_new(asking, &numbers, &settings, cc_buf_bytes(&der), err);
out:
    cc_buf_free(&der);
    return answer;
}

static struct publish_answer *
answer_anew(struct asking *asking, struct cc_err *err)
{
    struct publish_answer *answer;

    if (find_ca(asking, err) != 0)
        return NULL;
    if ((answer = make_answer(asking, err)) == NULL) {
        asking->refusal = refusal_of(err);
        return NULL;
    }
    if (asking->keep)
        publish_cache_add(asking->publish->cache, answer);
    return answer;
}

/* ---- what is sent ---- */

static void
refuse(struct ca_publish *publish, struct http_exchange *exchange, enum pki_ocsp_refusal refusal)
{
    static const struct http_header headers[] = { { "Cache-Control", "no-store" } };
    struct cc_buf der = CC_BUF_INIT(RESPONSE_MAX);

    atomic_fetch_add(&publish->ocsp_failures, 1);
    if (pki_ocsp_refuse(refusal, &der, NULL) == 0)
        http_exchange_reply(exchange, 200, headers, CC_COUNT(headers), CONTENT_TYPE, der.data,
                der.len);
    else
        publish_refuse(exchange, 503, NULL);
    cc_buf_free(&der);
}

/* One with a nonce is for who asked alone (RFC 5019 section 4). */
static void
reply(const struct asking *asking, struct http_exchange *exchange,
        const struct publish_answer *answer)
{
    static const struct http_header no_store[] = { { "Cache-Control", "no-store" } };
    bool get = strcmp(http_exchange_method(exchange), "POST") != 0;
    uint8_t hash[EVP_MAX_MD_SIZE];
    char tag[2 * TAG_BYTES + 1];
    struct publish_fresh fresh;

    if (!asking->keep || !EVP_Digest(answer->der, answer->len, hash, NULL, EVP_sha256(), NULL)) {
        http_exchange_reply(exchange, 200, no_store, CC_COUNT(no_store), CONTENT_TYPE, answer->der,
                answer->len);
        return;
    }
    cc_hex(hash, TAG_BYTES, false, tag);
    publish_fresh_set(&fresh, tag, answer->this_update_ms, answer->next_update_ms);
    if (get && publish_has_it(exchange, &fresh))
        publish_not_modified(exchange, &fresh);
    else
        http_exchange_reply(exchange, 200, fresh.headers, CC_COUNT(fresh.headers), CONTENT_TYPE,
                answer->der, answer->len);
}

static int
read_request(struct asking *asking, struct cc_bytes der, struct cc_err *err)
{
    struct cc_bytes id;

    asking->refusal = PKI_OCSP_MALFORMED;
    if (pki_ocsp_request_parse(der, &asking->request, err) != 0)
        return -1;
    asking->keep = pki_ocsp_request_count(asking->request) == 1 &&
                   !pki_ocsp_request_has_nonce(asking->request);
    id = pki_ocsp_request_certid(asking->request, 0);
    asking->refusal = PKI_OCSP_INTERNAL_ERROR;
    if (!EVP_Digest(id.data, id.len, asking->id, NULL, EVP_sha256(), NULL))
        return cc_err_set_openssl(err, "hash of a CertID");
    return 0;
}

static void
answer(struct ca_publish *publish, struct http_exchange *exchange, struct cc_bytes der)
{
    struct asking asking = { .publish = publish };
    struct publish_answer *given = NULL;
    struct cc_err err = { 0 };

    if (read_request(&asking, der, &err) != 0)
        goto out;
    if (asking.keep && (given = find_kept(&asking)) != NULL)
        atomic_fetch_add(&publish->ocsp_from_cache, 1);
    else
        given = answer_anew(&asking, &err);
out:
    if (given != NULL) {
        atomic_fetch_add(&publish->ocsp_answers, 1);
        reply(&asking, exchange, given);
    } else {
        cc_log(CC_LOG_DEBUG, "ca", "OCSP: %s", cc_err_text(&err));
        refuse(publish, exchange, asking.refusal);
    }
    publish_answer_put(given);
    pki_ocsp_request_free(asking.request);
}

void
publish_ocsp_post(struct ca_publish *publish, struct http_exchange *exchange)
{
    answer(publish, exchange, http_exchange_body(exchange));
}

/* ---- GET ---- */

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

/* Takes percent escapes out; what is wrong with the text shows when it is no base64. */
static int
unescape(const char *text, struct cc_buf *ret)
{
    for (; *text != '\0'; text++) {
        char c = *text;

        if (c == '%') {
            int high = hex_digit(text[1]);
            int low = high < 0 ? -1 : hex_digit(text[2]);

            if (low < 0)
                return -1;
            c = (char)(high << 4 | low);
            text += 2;
        }
        if (c == '\0' || cc_buf_add(ret, &c, 1, NULL) != 0)
            return -1;
    }
    return 0;
}

/* Whoever joined a URL that ends in a slash with another one sends more of them in front, where base64 of a SEQUENCE
   has none. */
void
publish_ocsp_get(struct ca_publish *publish, struct http_exchange *exchange, const char *text)
{
    struct cc_buf base64 = CC_BUF_INIT(2 * PKI_OCSP_REQUEST_MAX);
    struct cc_buf der = CC_BUF_INIT(PKI_OCSP_REQUEST_MAX);

    text += strspn(text, "/");
    if (unescape(text, &base64) == 0 && cc_unbase64(cc_buf_str(&base64), &der, NULL) == 0)
        answer(publish, exchange, cc_buf_bytes(&der));
    else
        refuse(publish, exchange, PKI_OCSP_MALFORMED);
    cc_buf_free(&base64);
    cc_buf_free(&der);
}
