/* SPDX-License-Identifier: MIT */
#include "scep.h"

#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/clock.h"
#include "base/json.h"
#include "pki/csr.h"

/* Intune's API of SCEP requests, ScepActions. */

#define TRANSACTION_ID_MAX 512
#define REQUEST_MAX (((size_t)PKI_CSR_MAX + 2) / 3 * 4)
#define TEXT_MAX 1024
#define ISSUER_CHARS_MAX 256
#define DESCRIPTION_CHARS_MAX 255

/* As the service writes it. */
#define METADATA                                                                                   \
    "https://manage.microsoft.com/RACerts/StatelessScepRequestValidationService/$metadata"         \
    "#microsoft.management.services.scepRequestValidationService.api.scepActionResult"

static const char *const code_names[] = {
    [SCEP_SUCCESS] = "Success",
    [SCEP_REQUEST_DECODING_FAILED] = "CertificateRequestDecodingFailed",
    [SCEP_PASSWORD_MISSING] = "ChallengePasswordMissing",
    [SCEP_CHALLENGE_DESERIALIZATION] = "ChallengeDeserializationError",
    [SCEP_CHALLENGE_DECRYPTION] = "ChallengeDecryptionError",
    [SCEP_CHALLENGE_DECODING] = "ChallengeDecodingError",
    [SCEP_CHALLENGE_TIMESTAMP] = "ChallengeInvalidTimestamp",
    [SCEP_CHALLENGE_EXPIRED] = "ChallengeExpired",
    [SCEP_SUBJECT_MISSING] = "SubjectNameMissing",
    [SCEP_SUBJECT_MISMATCH] = "SubjectNameMismatch",
    [SCEP_SAN_MISSING] = "SubjectAltNameMissing",
    [SCEP_SAN_MISMATCH] = "SubjectAltNameMismatch",
    [SCEP_KEY_USAGE_MISMATCH] = "KeyUsageMismatch",
    [SCEP_KEY_LENGTH_MISMATCH] = "KeyLengthMismatch",
    [SCEP_EKU_MISSING] = "EnhancedKeyUsageMissing",
    [SCEP_EKU_MISMATCH] = "EnhancedKeyUsageMismatch",
    [SCEP_NOT_TARGETED] = "ScepProfileNoLongerTargetedToTheClient",
    [SCEP_SIGNATURE] = "SignatureValidationFailed",
    [SCEP_BAD_REQUEST_ID] = "BadCertificateRequestIdInChallenge",
    [SCEP_BAD_TENANT_ID] = "BadTenantIdInChallenge",
};

const char *
scep_code_name(long code)
{
    return code > 0 && (size_t)code < CC_COUNT(code_names) ? code_names[code] : NULL;
}

/* What a refusal comes to; anything else that went wrong has no code. */
static const char *
refusal_name(const struct cc_err *err)
{
    return err->domain == CC_DOM_INPUT ? scep_code_name(err->code) : NULL;
}

/* By what was found: no error is success, a refusal its code, anything else an error of HTTP. */
static void
reply(struct call *call, const struct cc_err *found)
{
    bool good = found->domain == CC_DOM_NONE;
    const char *code = good ? scep_code_name(SCEP_SUCCESS) : refusal_name(found);
    json_object *body;
    struct cc_err err = { 0 };

    if (code == NULL) {
        call_reply_failed(call, found);
        return;
    }
    body = json_object_new_object();
    if (cc_json_add_str(body, "code", code, &err) != 0 ||
            cc_json_add_str(body, "errorDescription", good ? "" : found->text, &err) != 0 ||
            cc_json_add_str(body, "@odata.context", METADATA, &err) != 0) {
        json_object_put(body);
        call_reply_failed(call, &err);
        return;
    }
    call_reply_json(call, 200, body);
}

/* ---- what all three have ---- */

/* Borrowed from the body but for the request. */
struct ask {
    const char *transaction_id, *caller_info;
    struct cc_buf request;         /* DER; or the text, where that is not base64 */
    struct cc_err decoding;        /* set in that case */
    uint8_t hash[TENANT_HASH_LEN]; /* of the request */
};

/* That a request is not base64 is a refusal, which is recorded like others: so it is no error here. */
static int
read_request(json_object *obj, struct ask *ret, struct cc_err *err)
{
    struct cc_err decoding = { 0 };
    const char *text;

    cc_buf_init(&ret->request, REQUEST_MAX + 1);
    if (cc_json_need_str(obj, "certificateRequest", REQUEST_MAX, &text, err) != 0)
        return -1;
    if (cc_unbase64(text, &ret->request, &decoding) != 0) {
        cc_err_set(&ret->decoding, CC_DOM_INPUT, SCEP_REQUEST_DECODING_FAILED,
                "The certificate request is not base64.");
        cc_buf_reset(&ret->request);
        if (cc_buf_add_str(&ret->request, text, err) != 0)
            return -1;
    }
    if (EVP_Digest(ret->request.data, ret->request.len, ret->hash, NULL, EVP_sha256(), NULL) != 1)
        return cc_err_set_openssl(err, "hash of a certificate request");
    return 0;
}

static int
read_ask(json_object *obj, struct ask *ret, struct cc_err *err)
{
    if (cc_json_need_str(obj, "transactionId", TRANSACTION_ID_MAX, &ret->transaction_id, err) !=
                    0 ||
            cc_json_need_str(obj, "callerInfo", TEXT_MAX, &ret->caller_info, err) != 0)
        return -1;
    return read_request(obj, ret, err);
}

/* The one object that a body has; borrowed. */
static int
read_envelope(json_object *body, const char *name, json_object **ret, struct cc_err *err)
{
    if (cc_json_get_object(body, name, ret, err) != 0)
        return -1;
    if (*ret == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" is missing", name);
    return 0;
}

/* No PEM here, and one who has the key. */
static int
open_request(const struct ask *ask, X509_REQ **ret, struct cc_err *err)
{
    struct cc_err parsing = { 0 };
    X509_REQ *csr = NULL;

    if (ask->decoding.domain != CC_DOM_NONE) {
        *err = ask->decoding;
        return -1;
    }
    if (ask->request.len == 0 || ask->request.data[0] == '-')
        cc_err_set(&parsing, CC_DOM_INPUT, 0, "not a certificate request in DER");
    else if (pki_csr_parse(cc_buf_bytes(&ask->request), &csr, &parsing) == 0 &&
             pki_csr_verify(csr, &parsing) == 0)
        *ret = csr;
    if (parsing.domain == CC_DOM_NONE)
        return 0;
    X509_REQ_free(csr);
    return cc_err_set(err, CC_DOM_INPUT, SCEP_REQUEST_DECODING_FAILED,
            "The certificate request cannot be read: %s", cc_err_text(&parsing));
}

/* ---- validateRequest ---- */

struct finding {
    bool found, targeted;
    json_object *order; /* yours to put */
    struct cc_err err;
};

static int
take_challenge(void *arg, const struct tenant_scep_challenge *c)
{
    struct finding *f = arg;

    f->found = true;
    f->targeted = c->targeted;
    f->order = cc_json_parse(c->document, strlen(c->document), &f->err);
    return 0;
}

/* The order that a challenge belongs to; yours to put. */
static int
find_order(struct tenant_store *store, const char *id, json_object **ret, struct cc_err *err)
{
    struct finding f = { .found = false };

    if (tenant_scep_challenge_find(store, id, take_challenge, &f, err) != 0)
        return -1;
    if (f.found && f.order == NULL) {
        cc_err_set(err, CC_DOM_INTERNAL, 0, "order of challenge %s: %s", id, cc_err_text(&f.err));
    } else if (!f.found) {
        cc_err_set(err, CC_DOM_INPUT, SCEP_BAD_REQUEST_ID,
                "The challenge belongs to no certificate request.");
    } else if (!f.targeted) {
        cc_err_set(err, CC_DOM_INPUT, SCEP_NOT_TARGETED,
                "The SCEP profile is no longer targeted to the client.");
    } else {
        *ret = f.order;
        return 0;
    }
    json_object_put(f.order);
    return -1;
}

static int
compare(struct tenant_store *store, const char *challenge_id, X509_REQ *csr, struct cc_err *err)
{
    struct scep_wants *wants = NULL;
    json_object *order = NULL;
    int rc = -1;

    if (find_order(store, challenge_id, &order, err) != 0)
        return -1;
    if (scep_wants_read(order, &wants, err) == 0)
        rc = scep_compare(wants, csr, err);
    scep_wants_free(wants);
    json_object_put(order);
    return rc;
}

/* Whether the request is what its challenge was made for. */
static int
judge(const struct tenant *tenant, const struct ask *ask, int64_t now_ms,
        struct scep_challenge *ret_challenge, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(SCEP_CHALLENGE_MAX);
    X509_REQ *csr = NULL;
    int rc = -1;

    if (open_request(ask, &csr, err) == 0 && scep_challenge_of(csr, &text, err) == 0 &&
            scep_challenge_read(tenant, cc_buf_str(&text), now_ms, ret_challenge, err) == 0)
        rc = compare(tenant->store, ret_challenge->id, csr, err);
    X509_REQ_free(csr);
    cc_buf_wipe(&text);
    return rc;
}

/* found: what was found so far; a challenge that is bound to another is found here. */
static int
record(struct tenant_store *store, const struct ask *ask, const char *challenge_id, int64_t now_ms,
        struct cc_err *found, struct cc_err *err)
{
    bool good = found->domain == CC_DOM_NONE;
    struct tenant_scep_validation validation = { .transaction_id = ask->transaction_id,
        .csr_hash = { ask->hash, sizeof(ask->hash) },
        .code = good ? scep_code_name(SCEP_SUCCESS) : refusal_name(found),
        .challenge_id = good ? challenge_id : NULL,
        .bound_code = scep_code_name(SCEP_BAD_REQUEST_ID),
        .now_ms = now_ms };
    bool bound;

    if (tenant_scep_validate(store, &validation, &bound, err) != 0)
        return -1;
    if (!bound)
        cc_err_set(found, CC_DOM_INPUT, SCEP_BAD_REQUEST_ID,
                "The challenge was used for another certificate request.");
    return 0;
}

static void
validate(struct call *call, json_object *body)
{
    struct tenant *tenant = call->tenant;
    int64_t now_ms = cc_clock_now_ms();
    struct ask ask = { .transaction_id = NULL };
    struct scep_challenge challenge;
    struct cc_err found = { 0 };
    struct cc_err err = { 0 };
    json_object *obj;

    if (read_envelope(body, "request", &obj, &err) != 0 || read_ask(obj, &ask, &err) != 0) {
        call_reply_failed(call, &err);
    } else if (judge(tenant, &ask, now_ms, &challenge, &found) != 0 &&
               refusal_name(&found) == NULL) {
        call_reply_failed(call, &found);
    } else if (record(tenant->store, &ask, challenge.id, now_ms, &found, &err) != 0) {
        call_reply_failed(call, &err);
    } else {
        reply(call, &found);
    }
    cc_buf_free(&ask.request);
}

/* ---- notifications ---- */

static int
need_chars(json_object *obj, const char *name, size_t max, const char **ret, struct cc_err *err)
{
    if (cc_json_need_str(obj, name, 4 * max, ret, err) != 0)
        return -1;
    if (call_count_chars(*ret) > max)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" has more than %zu characters", name,
                max);
    return 0;
}

/* RFC 3339, but that the offset may lack its colon: real connectors send both. */
static int
check_time(const char *text, struct cc_err *err)
{
    size_t len = strlen(text);
    char fixed[64];
    int64_t ms;

    if (len > 5 && len + 1 < sizeof(fixed) && strchr("+-", text[len - 5]) != NULL) {
        (void)snprintf(fixed, sizeof(fixed), "%.*s:%s", (int)(len - 2), text, text + len - 2);
        text = fixed;
    }
    return cc_time_parse(text, &ms, err);
}

/* A text that may be absent or null, either of which is written as absent. */
static int
copy_text(json_object *obj, const char *name, json_object *ret, struct cc_err *err)
{
    const char *text;

    if (cc_json_get_str(obj, name, TEXT_MAX, &text, err) != 0)
        return -1;
    return cc_json_add_str(ret, name, text, err);
}

/* Reads the members of its own and writes them down, always in the same way. */
static int
read_success(json_object *obj, json_object *ret, struct cc_err *err)
{
    const char *thumbprint, *serial, *expiration, *issuer;

    if (cc_json_need_str(obj, "certificateThumbprint", TEXT_MAX, &thumbprint, err) != 0 ||
            cc_json_need_str(obj, "certificateSerialNumber", TEXT_MAX, &serial, err) != 0 ||
            cc_json_need_str(obj, "certificateExpirationDateUtc", TEXT_MAX, &expiration, err) !=
                    0 ||
            need_chars(obj, "issuingCertificateAuthority", ISSUER_CHARS_MAX, &issuer, err) != 0)
        return -1;
    if (check_time(expiration, err) != 0)
        return cc_err_in(err, "member \"certificateExpirationDateUtc\"");
    if (cc_json_add_str(ret, "certificateThumbprint", thumbprint, err) != 0 ||
            cc_json_add_str(ret, "certificateSerialNumber", serial, err) != 0 ||
            cc_json_add_str(ret, "certificateExpirationDateUtc", expiration, err) != 0 ||
            cc_json_add_str(ret, "issuingCertificateAuthority", issuer, err) != 0)
        return -1;
    if (copy_text(obj, "caConfiguration", ret, err) != 0)
        return -1;
    return copy_text(obj, "certificateAuthority", ret, err);
}

/* 32 bits that come with a sign or without. */
static int
read_failure(json_object *obj, json_object *ret, struct cc_err *err)
{
    const char *description;
    int64_t h_result;

    if (json_object_object_get(obj, "hResult") == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"hResult\" is missing");
    if (cc_json_get_int(obj, "hResult", INT32_MIN, UINT32_MAX, 0, &h_result, err) != 0 ||
            need_chars(obj, "errorDescription", DESCRIPTION_CHARS_MAX, &description, err) != 0)
        return -1;
    if (cc_json_add_int(ret, "hResult", h_result & UINT32_MAX, err) != 0)
        return -1;
    return cc_json_add_str(ret, "errorDescription", description, err);
}

static int
read_notification(json_object *body, enum tenant_scep_outcome outcome, struct ask *ret_ask,
        struct cc_buf *ret_text, struct cc_err *err)
{
    json_object *members = json_object_new_object();
    json_object *obj;
    int rc = -1;

    if (members == NULL)
        return cc_err_nomem(err);
    if (read_envelope(body, "notification", &obj, err) == 0 && read_ask(obj, ret_ask, err) == 0 &&
            (outcome == TENANT_SCEP_SUCCEEDED ? read_success : read_failure)(obj, members, err) ==
                    0)
        rc = cc_json_write(members, ret_text, err);
    json_object_put(members);
    return rc;
}

/* What the caller is told of a verdict. */
static void
judge_notification(enum tenant_scep_verdict verdict, struct cc_err *ret_found)
{
    if (verdict == TENANT_SCEP_UNKNOWN)
        cc_err_set(ret_found, CC_DOM_INPUT, SCEP_BAD_REQUEST_ID,
                "This transactionId was not validated with this certificate request.");
    else if (verdict == TENANT_SCEP_CONTRADICTED)
        cc_err_set(ret_found, CC_DOM_INPUT, SCEP_BAD_REQUEST_ID,
                "Another notification was taken for this transactionId and certificate request.");
}

static void
notify(struct call *call, json_object *body, enum tenant_scep_outcome outcome)
{
    struct ask ask = { .transaction_id = NULL };
    struct cc_buf text = CC_BUF_INIT(8 * TEXT_MAX * 6);
    struct tenant_scep_notification notification = { .outcome = outcome,
        .now_ms = cc_clock_now_ms() };
    enum tenant_scep_verdict verdict;
    struct cc_err err = { 0 };

    if (read_notification(body, outcome, &ask, &text, &err) != 0)
        goto out;
    if (ask.decoding.domain != CC_DOM_NONE) {
        err = ask.decoding;
        goto out;
    }
    notification.transaction_id = ask.transaction_id;
    notification.csr_hash = (struct cc_bytes){ ask.hash, sizeof(ask.hash) };
    notification.text = cc_buf_str(&text);
    notification.caller_info = ask.caller_info;
    if (tenant_scep_notify(call->tenant->store, &notification, &verdict, &err) == 0)
        judge_notification(verdict, &err);
out:
    reply(call, &err);
    cc_buf_free(&ask.request);
    cc_buf_free(&text);
}

static void
notify_success(struct call *call, json_object *body)
{
    notify(call, body, TENANT_SCEP_SUCCEEDED);
}

static void
notify_failure(struct call *call, json_object *body)
{
    notify(call, body, TENANT_SCEP_FAILED);
}

/* ---- capture 1 names the action ---- */

/* Clients that have one version for all of the service's APIs send that of revocation, and are served. */
static const char *
api_version(struct call *call)
{
    const char *version = http_exchange_header(call->exchange, "api-version");

    if (version != NULL && strcmp(version, TENANT_REVOCATION_API_VERSION) == 0)
        return version;
    return TENANT_SCEP_API_VERSION;
}

void
scep_call(struct call *call)
{
    static const struct {
        const char *name;
        void (*fn)(struct call *call, json_object *body);
    } actions[] = { { "validateRequest", validate }, { "successNotification", notify_success },
        { "failureNotification", notify_failure } };
    json_object *body;

    if (!discovery_check_account(call, api_version(call)))
        return;
    for (size_t i = 0; i < CC_COUNT(actions); i++) {
        if (strcmp(call->capture[1], actions[i].name) != 0)
            continue;
        if ((body = call_json_latin1(call, json_type_object)) != NULL)
            actions[i].fn(call, body);
        json_object_put(body);
        return;
    }
    call_reply_error(call, 404, "ResourceNotFound", "there is no such action");
}
