/* SPDX-License-Identifier: MIT */
#include "intune/pkcs.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "intune_int.h"

#define TEXT_MAX 1024
#define SUBJECT_MAX 4096
#define DAYS_MAX 36500
#define PFX_MAX ((size_t)256 << 10)
#define PASSWORD_MAX 65536 /* a message in CMS */
#define CERTIFICATE_MAX ((size_t)64 << 10)

enum intune_pkcs_kind
intune_pkcs_kind_of(json_object *body)
{
    const char *kind = NULL;

    if (cc_json_get_str(body, "kind", TEXT_MAX, &kind, NULL) != 0)
        return INTUNE_PKCS_OTHER;
    if (kind == NULL || strcmp(kind, "issue") == 0)
        return INTUNE_PKCS_ISSUE;
    return strcmp(kind, "recrypt") == 0 ? INTUNE_PKCS_RECRYPT : INTUNE_PKCS_OTHER;
}

void
intune_pkcs_request_init(struct intune_pkcs_request *request)
{
    memset(request, 0, sizeof(*request));
    cc_buf_init(&request->recipient_certificate, CERTIFICATE_MAX);
    cc_buf_init(&request->pfx, PFX_MAX);
    cc_buf_init(&request->encrypted_password, PASSWORD_MAX);
}

void
intune_pkcs_request_free(struct intune_pkcs_request *request)
{
    if (request == NULL)
        return;
    cc_buf_free(&request->recipient_certificate);
    cc_buf_wipe(&request->pfx);
    cc_buf_free(&request->encrypted_password);
}

/* ---- reading ---- */

static int
read_texts(json_object *body, struct intune_pkcs_request *ret, struct cc_err *err)
{
    const char *kind; /* read by intune_pkcs_kind_of(); here it has to be a text */
    const struct {
        const char *name;
        size_t max;
        const char **ret;
    } texts[] = {
        { "kind", TEXT_MAX, &kind },
        { "userPrincipalName", TEXT_MAX, &ret->user },
        { "userId", TEXT_MAX, &ret->user_id },
        { "deviceId", TEXT_MAX, &ret->device },
        { "subjectName", SUBJECT_MAX, &ret->subject },
        { "onPremisesSecurityIdentifier", TEXT_MAX, &ret->sid },
        { "keyAlgorithm", TEXT_MAX, &ret->key_algorithm },
        { "certificationAuthority", TEXT_MAX, &ret->authority },
        { "certificationAuthorityName", TEXT_MAX, &ret->authority_name },
        { "certificateTemplateName", TEXT_MAX, &ret->template_name },
        { "certificationAuthorityType", TEXT_MAX, &ret->authority_type },
        { "passwordEncryption", TEXT_MAX, &ret->password_encryption },
        { "contentCipher", TEXT_MAX, &ret->content_cipher },
        { "pfxEncryption", TEXT_MAX, &ret->pfx_encryption },
    };

    for (size_t i = 0; i < CC_COUNT(texts); i++)
        if (cc_json_get_str(body, texts[i].name, texts[i].max, texts[i].ret, err) != 0)
            return -1;
    return cc_json_get_int(body, "validityPeriodInDays", 1, DAYS_MAX, 0, &ret->validity_days, err);
}

/* An array of at most max elements; *ret_count 0 when it is absent. */
static int
read_array(json_object *body, const char *name, size_t max, json_object **ret, size_t *ret_count,
        struct cc_err *err)
{
    size_t count;

    if (cc_json_get_array(body, name, ret, err) != 0)
        return -1;
    count = *ret != NULL ? json_object_array_length(*ret) : 0;
    if (count > max)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"%s\" has more than %zu elements", name,
                max);
    *ret_count = count;
    return 0;
}

static int
read_usages(json_object *body, const char *name, const char **ret, size_t *ret_count,
        struct cc_err *err)
{
    json_object *array = NULL;

    if (read_array(body, name, INTUNE_PKCS_USAGES_MAX, &array, ret_count, err) != 0)
        return -1;
    for (size_t i = 0; i < *ret_count; i++) {
        json_object *item = json_object_array_get_idx(array, i);

        if (!json_object_is_type(item, json_type_string) ||
                strlen(json_object_get_string(item)) != (size_t)json_object_get_string_len(item) ||
                json_object_get_string_len(item) > TEXT_MAX)
            return cc_err_set(err, CC_DOM_INPUT, 0, "%s[%zu] is no text", name, i);
        ret[i] = json_object_get_string(item);
    }
    return 0;
}

/* What is absent is left to who judges the value: it is as empty as an empty one. */
static int
read_sans(json_object *body, struct intune_pkcs_request *ret, struct cc_err *err)
{
    static const char name[] = "subjectAlternativeNames";
    json_object *array = NULL;

    if (read_array(body, name, INTUNE_PKCS_SANS_MAX, &array, &ret->san_count, err) != 0)
        return -1;
    for (size_t i = 0; i < ret->san_count; i++) {
        json_object *item = json_object_array_get_idx(array, i);
        struct intune_pkcs_san *san = &ret->sans[i];

        if (!json_object_is_type(item, json_type_object))
            return cc_err_set(err, CC_DOM_INPUT, 0, "%s[%zu] is no object", name, i);
        if (cc_json_need_str(item, "type", TEXT_MAX, &san->type, err) != 0 ||
                cc_json_get_str(item, "value", TEXT_MAX, &san->value, err) != 0)
            return cc_err_in(err, "%s[%zu]", name, i);
        if (san->value == NULL)
            san->value = "";
    }
    return 0;
}

static int
read_blobs(json_object *body, struct intune_pkcs_request *ret, struct cc_err *err)
{
    const struct {
        const char *name;
        struct cc_buf *ret;
    } blobs[] = {
        { "recipientCertificate", &ret->recipient_certificate },
        { "encryptedPfxBlob", &ret->pfx },
        { "encryptedPfxPassword", &ret->encrypted_password },
    };

    for (size_t i = 0; i < CC_COUNT(blobs); i++)
        if (cc_json_get_base64(body, blobs[i].name, blobs[i].ret, err) != 0)
            return -1;
    return 0;
}

int
intune_pkcs_request_read(json_object *body, struct intune_pkcs_request *ret, struct cc_err *err)
{
    intune_pkcs_request_init(ret);
    ret->kind = intune_pkcs_kind_of(body);
    if (read_texts(body, ret, err) != 0 || read_sans(body, ret, err) != 0)
        return -1;
    if (read_usages(body, "keyUsages", ret->key_usages, &ret->key_usage_count, err) != 0 ||
            read_usages(body, "extendedKeyUsages", ret->extended_key_usages,
                    &ret->extended_key_usage_count, err) != 0)
        return -1;
    return read_blobs(body, ret, err);
}

/* ---- writing ---- */

static int
add_bytes(json_object *json, const char *name, struct cc_bytes bytes, struct cc_err *err)
{
    return bytes.len == 0 ? 0 : cc_json_add_base64(json, name, bytes.data, bytes.len, err);
}

/* A recrypt has no certificate of its own. */
static int
add_certificate(json_object *json, const struct intune_pkcs_result *result, struct cc_err *err)
{
    char time[CC_TIME_LEN];

    if (result->certificate.len == 0)
        return 0;
    cc_time_format(result->expiration_ms, time);
    if (add_bytes(json, "certificate", result->certificate, err) != 0 ||
            cc_json_add_str(json, "certificateThumbprint", result->thumbprint, err) != 0 ||
            cc_json_add_str(json, "certificateSerialNumber", result->serial_number, err) != 0 ||
            cc_json_add_str(json, "certificateExpirationDateTime", time, err) != 0 ||
            cc_json_add_str(json, "issuingCertificateAuthority", result->issuing_authority, err) !=
                    0)
        return -1;
    return cc_json_add_str(json, "caConfiguration", result->authority_configuration, err);
}

static int
add_success(json_object *json, const struct intune_pkcs_result *result, struct cc_err *err)
{
    if (add_certificate(json, result, err) != 0 ||
            add_bytes(json, "encryptedPfxBlob", result->pfx, err) != 0 ||
            add_bytes(json, "encryptedPfxPassword", result->encrypted_password, err) != 0)
        return -1;
    return cc_json_add_str(json, "passwordEncryption", result->password_encryption, err);
}

static int
add_failure(json_object *json, const struct intune_pkcs_result *result, struct cc_err *err)
{
    if (cc_json_add_str(json, "errorMessage", result->error_message, err) != 0)
        return -1;
    return cc_json_add_bool(json, "retryable", result->retryable, err);
}

int
intune_pkcs_result_write(const struct intune_pkcs_result *result, struct cc_buf *ret,
        struct cc_err *err)
{
    json_object *json = json_object_new_object();
    const bool succeeded = result->error_code == INTUNE_OK;
    int rc = -1;

    if (cc_json_add_str(json, "requestContext", result->request_context, err) == 0 &&
            cc_json_add_bool(json, "succeeded", succeeded, err) == 0 &&
            cc_json_add_str(json, "errorCode", intune_error_code_name(result->error_code), err) ==
                    0 &&
            (succeeded ? add_success(json, result, err) : add_failure(json, result, err)) == 0)
        rc = cc_json_write(json, ret, err);
    json_object_put(json);
    return rc;
}
