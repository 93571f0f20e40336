/* SPDX-License-Identifier: MIT */
#include "intune/revocation.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "intune_int.h"

#define DOWNLOAD "CertificateAuthorityRequests/downloadRevocationRequests"
#define UPLOAD "CertificateAuthorityRequests/uploadRevocationResults"
#define CONTEXT_MAX 1024
#define TEXT_MAX 1024
#define ID_LEN_MAX 128
#define ANSWER_MIN ((size_t)64 << 10)
#define REQUEST_MAX ((size_t)8 << 10)
#define UPLOAD_MAX ((size_t)4 << 20)

/* ---- download ---- */

static json_object *
download_body(unsigned max, const char *issuer_name, struct cc_err *err)
{
    json_object *body = json_object_new_object();
    json_object *parameters = json_object_new_object();
    int rc = cc_json_add_int(parameters, "maxRequests", max, err);

    /* The member is always there, null for no filter. */
    if (rc == 0 && issuer_name != NULL)
        rc = cc_json_add_str(parameters, "issuerName", issuer_name, err);
    else if (rc == 0 && json_object_object_add(parameters, "issuerName", NULL) != 0)
        rc = cc_err_nomem(err);
    if (rc != 0) {
        json_object_put(parameters);
    } else if (cc_json_add(body, "downloadParameters", parameters, err) == 0) {
        return body;
    }
    json_object_put(body);
    return NULL;
}

/* The context is the only name that a request has; where it is no name for a journal and a log, its digest is. */
static void
id_of(const char *context, char *ret, size_t size)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char hex[2 * SHA256_DIGEST_LENGTH + 1];
    size_t len = strlen(context);
    bool plain = len <= ID_LEN_MAX;

    for (size_t i = 0; i < len && plain; i++)
        plain = context[i] > 0x20 && context[i] < 0x7f;
    SHA256((const unsigned char *)context, len, digest);
    cc_hex(digest, sizeof(digest), false, hex);
    (void)cc_strcpy(ret, size, plain ? context : hex);
}

static int
work_read(json_object *item, struct intune_work *ret, struct cc_err *err)
{
    const char *context = NULL, *serial = NULL;

    if (!json_object_is_type(item, json_type_object))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a request is no object");
    if (cc_json_need_str(item, "requestContext", CONTEXT_MAX, &context, err) != 0 ||
            cc_json_need_str(item, "serialNumber", TEXT_MAX, &serial, err) != 0)
        return -1;
    (void)cc_strcpy(ret->request_context, sizeof(ret->request_context), context);
    id_of(context, ret->request_id, sizeof(ret->request_id));
    ret->attempt = 0;
    ret->lease_until_ms = 0;
    ret->body = json_object_get(item);
    return 0;
}

static int
download_read(json_object *json, unsigned max, struct intune_work **ret_work, size_t *ret_count,
        size_t *ret_malformed, struct cc_err *err)
{
    json_object *list = NULL;
    struct intune_work *work;
    size_t count = 0, len;

    if (cc_json_get_array(json, "value", &list, err) != 0)
        return -1;
    if (list == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"value\" is missing");
    len = json_object_array_length(list);
    if (len > max)
        return cc_err_set(err, CC_DOM_INPUT, 0, "%zu requests where at most %u were asked for", len,
                max);
    if ((work = calloc(len + 1, sizeof(*work))) == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < len; i++)
        if (work_read(json_object_array_get_idx(list, i), &work[count], NULL) == 0)
            count++;
    *ret_work = work;
    *ret_count = count;
    *ret_malformed = len - count;
    return 0;
}

int
intune_revocation_download_read(const void *text, size_t len, unsigned max,
        struct intune_work **ret_work, size_t *ret_count, size_t *ret_malformed, struct cc_err *err)
{
    json_object *json = cc_json_parse(text, len, err);
    int rc = json == NULL ? -1 : download_read(json, max, ret_work, ret_count, ret_malformed, err);

    json_object_put(json);
    return rc;
}

int
intune_revocation_download(struct intune *intune, unsigned max, const char *issuer_name,
        struct intune_work **ret_work, size_t *ret_count, size_t *ret_malformed, struct cc_err *err)
{
    struct intune_call call = { .what = DOWNLOAD,
        .method = "POST",
        .api_version = INTUNE_REVOCATION_API_VERSION,
        .download = true };
    struct intune_answer answer = { 0 };
    int rc = -1;

    if (max < 1 || max > INTUNE_REVOCATION_MAX)
        max = max < 1 ? 1 : INTUNE_REVOCATION_MAX;
    call.max_response = ANSWER_MIN + max * REQUEST_MAX;
    if ((call.body = download_body(max, issuer_name, err)) == NULL)
        return -1;
    if (intune_call(intune, &call, &answer, err) == 0) {
        rc = download_read(answer.json, max, ret_work, ret_count, ret_malformed, err);
        if (rc != 0)
            cc_err_in(err, "%s", call.what);
    }
    json_object_put(answer.json);
    json_object_put(call.body);
    return rc;
}

int
intune_revocation_request_read(json_object *body, struct intune_revocation_request *ret,
        struct cc_err *err)
{
    *ret = (struct intune_revocation_request){ NULL, NULL, NULL };
    if (cc_json_need_str(body, "serialNumber", TEXT_MAX, &ret->serial_number, err) != 0 ||
            cc_json_get_str(body, "issuerName", TEXT_MAX, &ret->issuer_name, err) != 0)
        return -1;
    return cc_json_get_str(body, "caConfiguration", TEXT_MAX, &ret->ca_configuration, err);
}

/* ---- upload ---- */

/* This API has no others than its own thirteen. */
static enum intune_error_code
published_code(enum intune_error_code code)
{
    switch (code) {
    case INTUNE_TOKEN_UNAVAILABLE:
    case INTUNE_CA_UNAVAILABLE:
    case INTUNE_CA_PENDING:
        return INTUNE_SERVICE_UNAVAILABLE_EXCEPTION;
    case INTUNE_BAD_REQUEST:
        return INTUNE_PARAMETER_DATA_INVALID_ERROR;
    case INTUNE_KEY_NOT_FOUND:
    case INTUNE_DECRYPT_FAILED:
    case INTUNE_RECIPIENT_NOT_ACCEPTED:
        return INTUNE_CRYPTOGRAPHY_ERROR;
    case INTUNE_CA_DENIED:
        return INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION;
    default:
        return code;
    }
}

static int
add_code(json_object *json, const struct intune_revocation_result *result, struct cc_err *err)
{
    enum intune_error_code code = published_code(result->error_code);
    char number[16];

    if (!result->numeric)
        return cc_json_add_str(json, "errorCode", intune_error_code_name(code), err);
    (void)snprintf(number, sizeof(number), "%d", (int)code);
    return cc_json_add_str(json, "errorCode", number, err);
}

/* With a success the message has to be blank: null where codes are names, and not there where they are numbers. */
static int
add_message(json_object *json, const struct intune_revocation_result *result, struct cc_err *err)
{
    if (result->error_code != INTUNE_OK)
        return cc_json_add_str(json, "errorMessage", result->error_message, err);
    if (result->numeric)
        return 0;
    return json_object_object_add(json, "errorMessage", NULL) == 0 ? 0 : cc_err_nomem(err);
}

int
intune_revocation_result_write(const struct intune_revocation_result *result, struct cc_buf *ret,
        struct cc_err *err)
{
    json_object *json = json_object_new_object();
    int rc = -1;

    if (cc_json_add_str(json, "requestContext", result->request_context, err) == 0 &&
            cc_json_add_bool(json, "succeeded", result->error_code == INTUNE_OK, err) == 0 &&
            add_code(json, result, err) == 0 && add_message(json, result, err) == 0)
        rc = cc_json_write(json, ret, err);
    json_object_put(json);
    return rc;
}

static int
upload_text(const char *const *results, size_t count, struct cc_buf *ret, struct cc_err *err)
{
    if (cc_buf_add_str(ret, "{\"results\":[", err) != 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if ((i > 0 && cc_buf_add_str(ret, ",", err) != 0) ||
                cc_buf_add_str(ret, results[i], err) != 0)
            return -1;
    return cc_buf_add_str(ret, "]}", err);
}

/* true, or "true", which Microsoft's own libraries take as well. */
static bool
is_true(json_object *json)
{
    json_object *value = NULL;

    if (!json_object_object_get_ex(json, "value", &value))
        return false;
    if (json_object_is_type(value, json_type_string))
        return cc_equal_nocase(json_object_get_string(value), "true");
    return json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value);
}

int
intune_revocation_upload(struct intune *intune, const char *const *results, size_t count,
        enum intune_verdict *ret_verdicts, struct cc_err *err)
{
    struct intune_call call = { .what = UPLOAD,
        .method = "POST",
        .api_version = INTUNE_REVOCATION_API_VERSION,
        .max_response = ANSWER_MIN };
    struct cc_buf text = CC_BUF_INIT(UPLOAD_MAX);
    struct intune_answer answer = { 0 };
    int rc = -1;

    if (upload_text(results, count, &text, err) != 0)
        goto out;
    call.text = cc_buf_bytes(&text);
    if (intune_call(intune, &call, &answer, err) != 0)
        goto out;
    if (!is_true(answer.json)) {
        cc_err_set(err, CC_DOM_INPUT, 0, "%s: the service did not take the results", call.what);
        goto out;
    }
    for (size_t i = 0; i < count; i++)
        ret_verdicts[i] = INTUNE_ACCEPTED;
    rc = 0;
out:
    json_object_put(answer.json);
    cc_buf_free(&text);
    return rc;
}
