/* SPDX-License-Identifier: MIT */
#include "local_int.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/text.h"
#include "pki/cert.h"
#include "pki/pubkey.h"

#define SERIAL_TRIES 3
#define SIGNING_MS 10000 /* longer, and it is not waited for what another instance reserved */
#define LOST_MS                                                                                    \
    60000 /* a serial that was reserved so long ago has no process any more that will use it */

int
ca_local_key_hash(const EVP_PKEY *key, uint8_t ret[CADB_KEY_HASH_LEN], struct cc_err *err)
{
    struct cc_buf der = CC_BUF_INIT(PKI_CERT_MAX);
    const int rc = pki_pubkey_write_spki(key, &der, err);

    if (rc == 0)
        SHA256(der.data, der.len, ret);
    cc_buf_free(&der);
    return rc;
}

/* RFC 5280 section 4.1.2.2: positive, at most 20 octets; no zero in front, so that its bytes are its INTEGER's. */
int
ca_local_serial(struct hsm *hsm, uint8_t ret[PKI_SERIAL_LEN], struct cc_err *err)
{
    if (hsm_random(hsm, ret, PKI_SERIAL_LEN, err) != 0)
        return -1;
    ret[0] = (uint8_t)((ret[0] & 0x7f) | 0x40);
    return 0;
}

/* ---- what is known of a request ---- */

struct known {
    bool found;
    enum cadb_state state;
    uint8_t serial[CADB_SERIAL_MAX];
    size_t serial_len;
    uint8_t key_hash[CADB_KEY_HASH_LEN];
    X509 *certificate; /* of an issued one */
    int rc;
    struct cc_err *err;
};

static int
on_known(void *arg, const struct cadb_certificate *certificate)
{
    struct known *known = arg;

    known->found = true;
    known->state = certificate->state;
    if (certificate->serial.len <= sizeof(known->serial)) {
        memcpy(known->serial, certificate->serial.data, certificate->serial.len);
        known->serial_len = certificate->serial.len;
    }
    if (certificate->key_hash.len == sizeof(known->key_hash))
        memcpy(known->key_hash, certificate->key_hash.data, sizeof(known->key_hash));
    if (certificate->certificate.len > 0)
        known->rc = pki_cert_parse(certificate->certificate, &known->certificate, known->err);
    return 0;
}

static int
find_request(struct ca_local *local, const char *request_id, struct known *ret, struct cc_err *err)
{
    const struct cadb_key key = { .request_id = request_id };

    *ret = (struct known){ .err = err };
    if (cadb_find(local->store, local->base.name, &key, on_known, ret, err) != 0)
        return -1;
    return ret->rc;
}

/* A serial that may have been signed with, in a process that is gone: nobody has the certificate, and nobody may. */
static int
give_up_serial(struct ca_local *local, struct cc_bytes serial, bool *ret_done, struct cc_err *err)
{
    const int64_t now_ms = store_now_ms(local->store);
    const struct cadb_revocation revocation = {
        .serial = serial,
        .reason = PKI_REASON_CESSATION_OF_OPERATION,
        .revoked_ms = now_ms,
    };

    return cadb_give_up(local->store, local->base.name, &revocation, now_ms - SIGNING_MS, ret_done,
            err);
}

/*
 * In one process a request is in one worker's hands at a time: a serial that is still reserved for it was left by a
 * crash, or by us when it could not be recorded; unless another instance is signing with it just now.  That one may have
 * lost the request to us, and never come back to it: it is not waited for long.
 */
static enum ca_outcome
clear_reserved(struct ca_local *local, const struct known *known, struct cc_err *err)
{
    bool done = false;

    if (give_up_serial(local, (struct cc_bytes){ known->serial, known->serial_len }, &done, err) !=
            0)
        return CA_RETRYABLE;
    if (done)
        return CA_NOT_FOUND;
    cc_err_set(err, CC_DOM_STORE, 0, "the request is being issued by another instance");
    return CA_RETRYABLE;
}

/* The state of our own request. */
static enum ca_outcome
look_up(struct ca_local *local, const char *request_id, struct known *ret, struct cc_err *err)
{
    if (find_request(local, request_id, ret, err) != 0)
        return CA_RETRYABLE;
    if (!ret->found)
        return CA_NOT_FOUND;
    if (ret->state == CADB_RESERVED)
        return clear_reserved(local, ret, err);
    if (ret->state != CADB_ISSUED || ret->certificate == NULL) {
        cc_err_set(err, CC_DOM_INPUT, 0, "the certificate of this request was revoked");
        return CA_REFUSED;
    }
    return CA_DONE;
}

enum ca_outcome
ca_local_find(struct ca *ca, const char *request_id, int64_t deadline, X509 **ret_certificate,
        struct cc_err *err)
{
    struct known known;
    enum ca_outcome outcome;

    (void)deadline;
    outcome = look_up(ca_local_of(ca), request_id, &known, err);
    if (outcome == CA_DONE)
        *ret_certificate = known.certificate;
    else
        X509_free(known.certificate);
    return outcome;
}

/* ---- a new certificate ---- */

struct issuing {
    struct ca_local *local;
    const struct pki_plan *plan;
    EVP_PKEY *public_key;
    const char *request_id, *profile;
    uint8_t serial[PKI_SERIAL_LEN];
};

static int
reserve_once(struct issuing *issuing, enum cadb_reserve *ret_reserved, struct cc_err *err)
{
    struct ca_local *local = issuing->local;
    struct cc_buf subject = CC_BUF_INIT(2 * PKI_NAME_TEXT_MAX);
    uint8_t key_hash[CADB_KEY_HASH_LEN];
    int rc = -1;

    if (ca_local_serial(local->hsm, issuing->serial, err) == 0 &&
            ca_local_key_hash(issuing->public_key, key_hash, err) == 0 &&
            pki_name_format(issuing->plan->subject, &subject, err) == 0) {
        const struct cadb_certificate row = {
            .serial = { issuing->serial, PKI_SERIAL_LEN },
            .request_id = issuing->request_id,
            .profile = issuing->profile,
            .subject = cc_buf_str(&subject),
            .key_hash = { key_hash, sizeof(key_hash) },
            .not_before_ms = issuing->plan->not_before_ms,
            .not_after_ms = issuing->plan->not_after_ms,
            .reserved_ms = store_now_ms(local->store),
        };
        rc = cadb_reserve(local->store, local->base.name, &row, ret_reserved, err);
    }
    cc_buf_free(&subject);
    return rc;
}

/* A serial that is taken already is as likely as a broken source of random bytes. */
static int
reserve(struct issuing *issuing, struct cc_err *err)
{
    enum cadb_reserve reserved = CADB_RESERVE_SERIAL_TAKEN;

    for (int i = 0; i < SERIAL_TRIES && reserved == CADB_RESERVE_SERIAL_TAKEN; i++)
        if (reserve_once(issuing, &reserved, err) != 0)
            return -1;
    if (reserved == CADB_RESERVE_SERIAL_TAKEN)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token's random source repeats serial numbers");
    if (reserved == CADB_RESERVE_KNOWN)
        return cc_err_set(err, CC_DOM_STORE, 0, "the request is being issued elsewhere");
    return 0;
}

/* The profile's places, or the CA's where it has none. */
static struct pki_profile
with_places(const struct ca_local *local, const struct pki_profile *profile)
{
    struct pki_profile ret = *profile;

    if (ret.crl_urls.count == 0)
        ret.crl_urls = local->crl_urls;
    if (ret.delta_crl_urls.count == 0 && local->delta_interval_ms > 0)
        ret.delta_crl_urls = local->delta_crl_urls;
    if (ret.issuer_urls.count == 0)
        ret.issuer_urls = local->issuer_urls;
    if (ret.ocsp_urls.count == 0)
        ret.ocsp_urls = local->ocsp_urls;
    return ret;
}

static int
sign(struct issuing *issuing, X509 **ret_certificate, struct cc_err *err)
{
    struct pki_plan plan = *issuing->plan;
    struct pki_profile profile;
    struct pki_issuer issuer;
    int rc;

    if (plan.profile != NULL) {
        profile = with_places(issuing->local, plan.profile);
        plan.profile = &profile;
    }
    if (ca_local_issuer(issuing->local, &issuer, err) != 0)
        return -1;
    rc = pki_cert_issue(&plan, (struct cc_bytes){ issuing->serial, PKI_SERIAL_LEN },
            issuing->public_key, &issuer, ret_certificate, err);
    X509_free(issuer.certificate);
    return rc;
}

static int
record(struct issuing *issuing, X509 *certificate, struct cc_err *err)
{
    struct ca_local *local = issuing->local;
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der), rc;

    if (len < 0)
        return cc_err_set_openssl(err, "the certificate");
    rc = cadb_issued(local->store, local->base.name,
            (struct cc_bytes){ issuing->serial, PKI_SERIAL_LEN },
            (struct cc_bytes){ der, (size_t)len }, store_now_ms(local->store), err);
    OPENSSL_free(der);
    return rc;
}

/* Nothing was signed: the serial is not used, and the request may be made again. */
static void
abandon(struct issuing *issuing)
{
    struct ca_local *local = issuing->local;

    /* What fails here is cleared up as after a crash. */
    (void)(cadb_abandon(local->store, local->base.name,
                   (struct cc_bytes){ issuing->serial, PKI_SERIAL_LEN }, NULL) == 0);
}

enum ca_outcome
ca_local_issue_plan(struct ca_local *local, const struct pki_plan *plan, EVP_PKEY *public_key,
        const char *request_id, const char *profile, X509 **ret_certificate, struct cc_err *err)
{
    struct issuing issuing = {
        .local = local,
        .plan = plan,
        .public_key = public_key,
        .request_id = request_id,
        .profile = profile,
    };
    X509 *certificate = NULL;

    if (reserve(&issuing, err) != 0)
        return ca_local_outcome(err);
    if (sign(&issuing, &certificate, err) != 0) {
        abandon(&issuing);
        return ca_local_outcome(err);
    }
    if (record(&issuing, certificate, err) != 0) {
        X509_free(certificate);
        return CA_UNKNOWN;
    }
    *ret_certificate = certificate;
    return CA_DONE;
}

/* ---- an administrator's decision ---- */

#define WAITING "an administrator has to approve it"

struct verdict {
    enum cadb_decision decision;
    char reason[256]; /* printable; "": none */
};

static int
on_decision(void *arg, const struct cadb_approval *approval)
{
    struct verdict *verdict = arg;

    verdict->decision = approval->decision;
    if (approval->reason != NULL)
        (void)cc_escape_into(verdict->reason, sizeof(verdict->reason), approval->reason);
    return 0;
}

static enum ca_outcome
judge(const struct verdict *verdict, struct cc_buf *ret_pending, struct cc_err *err)
{
    switch (verdict->decision) {
    case CADB_APPROVED:
        return CA_DONE;
    case CADB_UNDECIDED:
        return cc_buf_add_str(ret_pending, WAITING, err) == 0 ? CA_PENDING : CA_RETRYABLE;
    case CADB_DENIED:
        break;
    }
    cc_err_set(err, CC_DOM_INPUT, 0, "an administrator denied the request%s%s",
            verdict->reason[0] != '\0' ? ": " : "", verdict->reason);
    return CA_REFUSED;
}

/* CA_DONE: it may be issued. */
static enum ca_outcome
ask_administrator(struct ca_local *local, const struct ca_request *request,
        struct cc_buf *ret_pending, struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(2 * PKI_NAME_TEXT_MAX);
    struct verdict verdict = { .decision = CADB_UNDECIDED };
    int rc = pki_name_format(request->plan->subject, &subject, err);

    if (rc == 0) {
        const struct cadb_approval approval = {
            .request_id = request->request_id,
            .profile = request->plan->profile != NULL ? request->plan->profile->name : "",
            .subject = cc_buf_str(&subject),
            .asked_ms = store_now_ms(local->store),
        };
        rc = cadb_approval_ask(local->store, local->base.name, &approval, on_decision, &verdict,
                err);
    }
    cc_buf_free(&subject);
    return rc == 0 ? judge(&verdict, ret_pending, err) : ca_local_outcome(err);
}

/* Polled, it is asked for once more: the id tells what became of it. */
enum ca_outcome
ca_local_poll(struct ca *ca, const struct ca_checked *checked, const char *pending,
        X509 **ret_certificate, struct cc_buf *ret_pending, struct cc_err *err)
{
    (void)pending;
    return ca_local_issue(ca, checked, ret_certificate, ret_pending, err);
}

enum ca_outcome
ca_local_issue(struct ca *ca, const struct ca_checked *checked, X509 **ret_certificate,
        struct cc_buf *ret_pending, struct cc_err *err)
{
    struct ca_local *local = ca_local_of(ca);
    const struct ca_request *request = checked->request;
    const struct pki_profile *profile = request->plan->profile;
    enum ca_outcome outcome = CA_NOT_FOUND;
    struct known known = { .found = false };

    if (request->request_id != NULL) {
        outcome = look_up(local, request->request_id, &known, err);
        if (outcome == CA_DONE)
            *ret_certificate = known.certificate;
        else
            X509_free(known.certificate);
    }
    if (outcome == CA_NOT_FOUND && local->approval && request->request_id != NULL &&
            request->own_key == NULL) {
        outcome = ask_administrator(local, request, ret_pending, err);
        if (outcome == CA_DONE)
            outcome = CA_NOT_FOUND;
    }
    if (outcome != CA_NOT_FOUND)
        return outcome;
    if (local->may_issue != NULL && local->may_issue(local->may_issue_arg, err) != 0)
        return CA_RETRYABLE;
    return ca_local_issue_plan(local, request->plan, checked->key, request->request_id,
            profile != NULL ? profile->name : "", ret_certificate, err);
}

/* ---- after a crash ---- */

#define LOST_MAX 256
#define REMEMBER_MS                                                                                \
    (INT64_C(90) * 24 * 3600 * 1000) /* requests for an administrator, decided on or not */

struct lost {
    struct {
        uint8_t serial[CADB_SERIAL_MAX];
        size_t len;
    } item[LOST_MAX];
    size_t count;
};

static int
on_lost(void *arg, const struct cadb_certificate *certificate)
{
    struct lost *lost = arg;

    if (lost->count == LOST_MAX)
        return 1;
    memcpy(lost->item[lost->count].serial, certificate->serial.data, certificate->serial.len);
    lost->item[lost->count++].len = certificate->serial.len;
    return 0;
}

int
ca_local_recover(struct ca *ca, struct cc_err *err)
{
    struct ca_local *local = ca_local_of(ca);
    struct lost lost;
    bool done; /* or somebody else did it */

    if (cadb_approval_prune(local->store, ca->name, store_now_ms(local->store) - REMEMBER_MS,
                err) != 0)
        return -1;
    do {
        lost.count = 0;
        if (cadb_walk_reserved(local->store, ca->name, store_now_ms(local->store) - LOST_MS,
                    on_lost, &lost, err) != 0)
            return -1;
        for (size_t i = 0; i < lost.count; i++)
            if (give_up_serial(local, (struct cc_bytes){ lost.item[i].serial, lost.item[i].len },
                        &done, err) != 0)
                return -1;
    } while (lost.count == LOST_MAX);
    return 0;
}
