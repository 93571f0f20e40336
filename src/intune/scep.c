/* SPDX-License-Identifier: MIT */
#include "intune/scep.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "intune_int.h"

#define VALIDATE "ScepActions/validateRequest"
#define SUCCESS "ScepActions/successNotification"
#define FAILURE "ScepActions/failureNotification"
#define ACCEPTED "Success"
#define ANSWER_MAX ((size_t)64 << 10)
#define BODY_MAX ((size_t)1 << 20)
#define CODE_MAX 1024
#define DESCRIPTION_CHARACTERS 255

/* Of what stands around a certificate request, as a rule. */
#define FRAME 1024

/* ---- the answer ---- */

static int
answer_read(json_object *json, struct intune_scep_answer *ret, struct cc_err *err)
{
    const char *code = NULL, *description = NULL;

    if (!json_object_is_type(json, json_type_object))
        return cc_err_set(err, CC_DOM_INPUT, 0, "the answer is no object");
    if (cc_json_need_str(json, "code", CODE_MAX, &code, err) != 0)
        return -1;
    /* It is shown, not relied on. */
    if (cc_json_get_str(json, "errorDescription", SIZE_MAX, &description, NULL) != 0)
        description = NULL;
    ret->accepted = strcmp(code, ACCEPTED) == 0;
    cc_escape_into(ret->code, sizeof(ret->code), code);
    cc_escape_into(ret->description, sizeof(ret->description),
            description == NULL ? "" : description);
    return 0;
}

int
intune_scep_answer_read(const void *text, size_t len, struct intune_scep_answer *ret,
        struct cc_err *err)
{
    json_object *json = cc_json_parse(text, len, err);
    int rc = json == NULL ? -1 : answer_read(json, ret, err);

    json_object_put(json);
    return rc;
}

/* ---- writing ---- */

/* NULL is left out. */
static int
add_text(struct cc_buf *ret, const char *before, const char *text, struct cc_err *err)
{
    json_object *string;
    int rc = -1;

    if (text == NULL)
        return 0;
    if (!cc_is_utf8(text, strlen(text)))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a text is not UTF-8");
    if ((string = json_object_new_string(text)) == NULL)
        return cc_err_nomem(err);
    if (cc_buf_add_str(ret, before, err) == 0)
        rc = cc_json_write(string, ret, err);
    json_object_put(string);
    return rc;
}

/*
 * The request is the largest part by far: with room made for all that goes around it, it is copied, and left behind,
 * nowhere else.
 */
static int
add_request(struct cc_buf *ret, const char *transaction_id, struct cc_bytes csr, struct cc_err *err)
{
    if (cc_buf_reserve(ret, FRAME + csr.len / 3 * 4 + 4, err) == NULL ||
            add_text(ret, "\"transactionId\":", transaction_id, err) != 0 ||
            cc_buf_add_str(ret, ",\"certificateRequest\":\"", err) != 0 ||
            cc_base64(csr.data, csr.len, ret, err) != 0)
        return -1;
    return cc_buf_add_str(ret, "\"", err);
}

/* What was appended is no text when a part of it is missing. */
static int
take_back(struct cc_buf *ret, size_t start, int rc)
{
    if (rc != 0 && ret->data != NULL) {
        cc_wipe(ret->data + start, ret->len - start);
        ret->len = start;
    }
    return rc;
}

static int
add_success(struct cc_buf *ret, const struct intune_scep_success *success, struct cc_err *err)
{
    char time[CC_TIME_LEN];

    cc_time_format(success->not_after_ms, time);
    if (cc_buf_add_str(ret, "{", err) != 0 ||
            add_request(ret, success->transaction_id, success->csr, err) != 0 ||
            add_text(ret, ",\"certificateThumbprint\":", success->thumbprint, err) != 0 ||
            add_text(ret, ",\"certificateSerialNumber\":", success->serial_number, err) != 0 ||
            add_text(ret, ",\"certificateExpirationDateUtc\":", time, err) != 0 ||
            add_text(ret, ",\"issuingCertificateAuthority\":", success->issuer, err) != 0 ||
            add_text(ret, ",\"caConfiguration\":", success->ca_configuration, err) != 0 ||
            add_text(ret, ",\"certificateAuthority\":", success->certificate_authority, err) != 0)
        return -1;
    return cc_buf_add_str(ret, "}", err);
}

int
intune_scep_success_write(const struct intune_scep_success *success, struct cc_buf *ret,
        struct cc_err *err)
{
    const size_t start = ret->len;

    return take_back(ret, start, add_success(ret, success, err));
}

/*
 * Bytes of the first characters of text, which is UTF-8.  A character outside the basic plane counts as two, as it does
 * at a peer that counts in UTF-16.
 */
static size_t
cut_at(const char *text, size_t characters)
{
    size_t len, count = 0;

    for (len = 0; text[len] != '\0'; len++) {
        unsigned char c = (unsigned char)text[len];

        if ((c & 0xC0) != 0x80)
            count += c >= 0xF0 ? 2 : 1;
        if (count > characters)
            break;
    }
    return len;
}

static int
add_failure(struct cc_buf *ret, const struct intune_scep_failure *failure, const char *description,
        struct cc_err *err)
{
    if (cc_buf_add_str(ret, "{", err) != 0 ||
            add_request(ret, failure->transaction_id, failure->csr, err) != 0 ||
            cc_buf_printf(ret, err, ",\"hResult\":%" PRIu32, failure->hresult) != 0 ||
            add_text(ret, ",\"errorDescription\":", description, err) != 0)
        return -1;
    return cc_buf_add_str(ret, "}", err);
}

int
intune_scep_failure_write(const struct intune_scep_failure *failure, struct cc_buf *ret,
        struct cc_err *err)
{
    const char *text = failure->description;
    char description[4 * DESCRIPTION_CHARACTERS + 1];
    const size_t start = ret->len;

    if (text == NULL || text[0] == '\0')
        text = "no certificate was issued";
    if (!cc_is_utf8(text, strlen(text)))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a text is not UTF-8");
    description[0] = '\0';
    (void)strncat(description, text, cut_at(text, DESCRIPTION_CHARACTERS));
    return take_back(ret, start, add_failure(ret, failure, description, err));
}

/* ---- calling ---- */

/* Who we are is what the settings say now, not when a text was written. */
static int
add_caller(struct intune *intune, struct cc_buf *ret, struct cc_err *err)
{
    struct intune_link *link = intune_link_get(intune);
    int rc = add_text(ret, ",\"callerInfo\":", link->caller_info, err);

    intune_link_put(link);
    return rc == 0 ? cc_buf_add_str(ret, "}}", err) : -1;
}

static int
ask(struct intune *intune, const char *action, const struct cc_buf *body, int64_t deadline,
        struct intune_scep_answer *ret, struct cc_err *err)
{
    const struct intune_call call = { .what = action,
        .service = INTUNE_SCEP_SERVICE,
        .api_version = INTUNE_SCEP_API_VERSION,
        .method = "POST",
        .text = cc_buf_bytes(body),
        .max_response = ANSWER_MAX,
        .deadline = deadline };
    struct intune_answer answer = { 0 };
    int rc;

    if (intune_call(intune, &call, &answer, err) != 0)
        return -1;
    if ((rc = answer_read(answer.json, ret, err)) != 0)
        cc_err_in(err, "%s", action);
    json_object_put(answer.json);
    return rc;
}

int
intune_scep_validate(struct intune *intune, const char *transaction_id, struct cc_bytes csr_der,
        int64_t deadline, struct intune_scep_answer *ret, struct cc_err *err)
{
    struct cc_buf body = CC_BUF_INIT(BODY_MAX);
    int rc = -1;

    if (cc_buf_add_str(&body, "{\"request\":{", err) == 0 &&
            add_request(&body, transaction_id, csr_der, err) == 0 &&
            add_caller(intune, &body, err) == 0)
        rc = ask(intune, VALIDATE, &body, deadline, ret, err);
    cc_buf_wipe(&body);
    return rc;
}

int
intune_scep_notify(struct intune *intune, enum intune_scep_notification kind, const char *text,
        int64_t deadline, struct intune_scep_answer *ret, struct cc_err *err)
{
    const char *action = kind == INTUNE_SCEP_SUCCESS ? SUCCESS : FAILURE;
    struct cc_buf body = CC_BUF_INIT(BODY_MAX);
    size_t len = strlen(text);
    int rc = -1;

    if (len < 3 || !cc_starts_with(text, "{\"") || text[len - 1] != '}')
        return cc_err_set(err, CC_DOM_INPUT, 0, "%s: the text is no notification", action);
    if (cc_buf_reserve(&body, len + FRAME, err) != NULL &&
            cc_buf_add_str(&body, "{\"notification\":", err) == 0 &&
            cc_buf_add(&body, text, len - 1, err) == 0 && add_caller(intune, &body, err) == 0)
        rc = ask(intune, action, &body, deadline, ret, err);
    cc_buf_wipe(&body);
    return rc;
}
