/* SPDX-License-Identifier: MIT */
#include "intune/queue.h"

#include <string.h>

#include "base/json.h"
#include "intune_int.h"

#define TEXT_MAX 1024
#define PFX_MAX ((size_t)256 << 10)
#define PASSWORD_MAX 1024
#define CERTIFICATE_MAX ((size_t)64 << 10)
#define RESULT_MAX ((size_t)64 << 10)

void
intune_pfx_request_init(struct intune_pfx_request *request)
{
    memset(request, 0, sizeof(*request));
    cc_buf_init(&request->pfx, PFX_MAX);
    cc_buf_init(&request->encrypted_password, PASSWORD_MAX);
    cc_buf_init(&request->recipient_certificate, CERTIFICATE_MAX);
}

void
intune_pfx_request_free(struct intune_pfx_request *request)
{
    if (request == NULL)
        return;
    cc_buf_wipe(&request->pfx);
    cc_buf_free(&request->encrypted_password);
    cc_buf_free(&request->recipient_certificate);
}

int
intune_pfx_request_read(json_object *body, struct intune_pfx_request *ret, struct cc_err *err)
{
    const struct {
        const char *name;
        const char **ret;
    } texts[] = {
        { "userPrincipalName", &ret->user },
        { "deviceId", &ret->device },
        { "thumbprint", &ret->thumbprint },
        { "intendedPurpose", &ret->intended_purpose },
        { "providerName", &ret->provider_name },
        { "keyName", &ret->key_name },
        { "paddingScheme", &ret->padding_scheme },
        { "passwordEncryption", &ret->password_encryption },
        { "contentCipher", &ret->content_cipher },
    };
    const struct {
        const char *name;
        struct cc_buf *ret;
    } blobs[] = {
        { "encryptedPfxBlob", &ret->pfx },
        { "encryptedPfxPassword", &ret->encrypted_password },
        { "recipientCertificate", &ret->recipient_certificate },
    };
    size_t i;

    intune_pfx_request_init(ret);
    for (i = 0; i < CC_COUNT(texts); i++)
        if (cc_json_get_str(body, texts[i].name, TEXT_MAX, texts[i].ret, err) != 0)
            return -1;
    for (i = 0; i < CC_COUNT(blobs); i++)
        if (cc_json_get_base64(body, blobs[i].name, blobs[i].ret, err) != 0)
            return -1;
    return 0;
}

static int
add_success(json_object *json, const struct intune_pfx_result *result, struct cc_err *err)
{
    if (cc_json_add_base64(json, "encryptedPfxPassword", result->encrypted_password.data,
                result->encrypted_password.len, err) != 0 ||
            cc_json_add_str(json, "passwordEncryption", result->password_encryption, err) != 0)
        return -1;
    return cc_json_add_str(json, "reencryptedIn", result->on_token ? "token" : "host", err);
}

int
intune_pfx_result_write(const struct intune_pfx_result *result, struct cc_buf *ret,
        struct cc_err *err)
{
    json_object *json = json_object_new_object();
    bool succeeded = result->error_code == INTUNE_OK;
    int rc = -1;

    if (cc_json_add_str(json, "requestContext", result->request_context, err) != 0 ||
            cc_json_add_bool(json, "succeeded", succeeded, err) != 0 ||
            cc_json_add_str(json, "errorCode", intune_error_code_name(result->error_code), err) !=
                    0)
        goto out;
    if (succeeded ? add_success(json, result, err) != 0
                  : cc_json_add_str(json, "errorMessage", result->error_message, err) != 0 ||
                            cc_json_add_bool(json, "retryable", result->retryable, err) != 0)
        goto out;
    rc = cc_json_write(json, ret, err);
out:
    json_object_put(json);
    return rc;
}
