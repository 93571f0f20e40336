/* SPDX-License-Identifier: MIT */
#include "pkcs_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* An existing PFX for a new recipient: its password, a CMS message to the import key, is encrypted anew. */

struct task {
    struct intune_pkcs_request wire;
    struct pkcs_delivery delivery;
    struct cc_buf password;
    bool on_token;
};

static int
read_request(struct pkcs *work, struct task *task, json_object *body, struct cc_err *err)
{
    struct cc_err cause = { 0 };

    if (intune_pkcs_request_read(body, &task->wire, &cause) != 0)
        return pkcs_refuse(err, INTUNE_DATA_SERIALIZATION_ERROR, &cause,
                "the request is malformed");
    if (task->wire.encrypted_password.len == 0)
        return pkcs_refuse(err, INTUNE_BAD_REQUEST, NULL, "the request lacks encryptedPfxPassword");
    if (task->wire.pfx.len == 0)
        return pkcs_refuse(err, INTUNE_BAD_REQUEST, NULL, "the request lacks encryptedPfxBlob");
    if (task->wire.recipient_certificate.len == 0)
        return pkcs_refuse(err, INTUNE_BAD_REQUEST, NULL, "the request lacks recipientCertificate");
    if (work->pfx_import == NULL)
        return pkcs_refuse(err, INTUNE_KEY_NOT_FOUND, NULL,
                "no key is configured to decrypt with: set [keys] pfx-import");
    return pkcs_read_delivery(&task->wire, &task->delivery, err);
}

static int
reencrypt(struct pkcs *work, struct task *task, enum hsm_reencrypt_mode mode, struct cc_err *err)
{
    const struct hsm_reencrypt request = {
        .mode = mode,
        .enveloped = true,
        .ciphertext = cc_buf_bytes(&task->wire.encrypted_password),
        .recipient = cc_buf_bytes(&task->wire.recipient_certificate),
        .form = task->delivery.form,
        .cipher = task->delivery.cipher,
        .pfx = cc_buf_bytes(&task->wire.pfx),
    };

    return hsm_key_reencrypt(work->pfx_import, &request, &task->password, &task->on_token, err);
}

static enum flow_outcome
write_success(struct pkcs *work, const struct flow_request *request, const struct task *task,
        struct flow_result *ret, struct cc_err *err)
{
    const struct intune_pkcs_result result = {
        .request_context = request->request_context,
        .pfx = cc_buf_bytes(&task->wire.pfx),
        .encrypted_password = cc_buf_bytes(&task->password),
        .password_encryption = pki_password_form_name(task->delivery.form),
    };
    const struct event_fields fields = {
        .request_id = request->request_id,
        .user = task->wire.user,
        .device = task->wire.device,
    };

    cc_buf_reset(&ret->json);
    if (intune_pkcs_result_write(&result, &ret->json, err) != 0)
        return FLOW_LATER;
    eventlog_write(work->log, EVENT_PKCS_RECRYPT_DECRYPT_SUCCESS, &fields,
            "The password of the PFX of request %s was decrypted", request->request_id);
    ret->outcome = JOURNAL_SUCCEEDED;
    (void)snprintf(ret->detail, sizeof(ret->detail), "password re-encrypted %s, CMS to %s",
            task->on_token ? "on the token" : "on the host", result.password_encryption);
    return FLOW_FINISHED;
}

static enum flow_outcome
task_do(struct pkcs *work, const struct flow_request *request, enum hsm_reencrypt_mode mode,
        struct task *task, struct flow_result *ret, struct cc_err *err)
{
    struct intune_fault fault;

    if (read_request(work, task, request->body, err) == 0 && reencrypt(work, task, mode, err) == 0)
        return write_success(work, request, task, ret, err);
    fault = intune_fault_of(err);
    if (fault.later)
        return FLOW_LATER;
    if (fault.code == INTUNE_DECRYPT_FAILED)
        ret->event = EVENT_PKCS_RECRYPT_DECRYPT_FAILURE;
    return pkcs_fail(request, &fault, ret, err);
}

enum flow_outcome
pkcs_recrypt(struct pkcs *work, const struct flow_request *request, struct flow_result *ret,
        struct cc_err *err)
{
    struct task task = { .password = CC_BUF_INIT(PKCS_OUTPUT_MAX) };
    enum hsm_reencrypt_mode mode;
    enum flow_outcome outcome;

    pthread_mutex_lock(&work->lock);
    mode = work->view.reencrypt;
    pthread_mutex_unlock(&work->lock);
    intune_pkcs_request_init(&task.wire);
    outcome = task_do(work, request, mode, &task, ret, err);
    cc_buf_free(&task.password);
    intune_pkcs_request_free(&task.wire);
    return outcome;
}
