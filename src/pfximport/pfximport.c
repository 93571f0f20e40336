/* SPDX-License-Identifier: MIT */
#include "pfximport/pfximport.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "flow/flow.h"
#include "intune/fault.h"
#include "pki/password.h"

#define NAME_MAX_LEN 520 /* "providerName/keyName" */
#define OUTPUT_MAX 16384 /* bytes of a re-encrypted password */

/* A key under a name of our own. */
struct key {
    char *name; /* NULL: the default key */
    struct hsm_key *key;
};

struct pfximport {
    struct flow *flow;
    struct hsm *hsm; /* borrowed */

    pthread_mutex_t lock; /* guards what may change while running */
    struct key *keys;
    size_t key_count;
    enum hsm_reencrypt_mode reencrypt;
    bool check_pfx;
};

/* One request on its way through.  What fails is in err: CC_DOM_SERVICE (code: enum intune_error_code) when we judged
   the request, the token's own domains when the token did. */
struct task {
    struct intune_pfx_request wire;
    struct hsm_key *key; /* borrowed */
    struct hsm_reencrypt reencrypt;
    struct cc_buf password; /* re-encrypted */
    bool on_token;
};

/* ---- the steps of one request ---- */

static int
refuse(struct cc_err *err, enum intune_error_code code, const struct cc_err *cause,
        const char *what)
{
    if (cause == NULL)
        return cc_err_set(err, CC_DOM_SERVICE, code, "%s", what);
    return cc_err_set(err, CC_DOM_SERVICE, code, "%s: %s", what, cc_err_text(cause));
}

static int
task_read(struct task *task, json_object *body, struct cc_err *err)
{
    struct intune_pfx_request *wire = &task->wire;
    struct cc_err cause = { 0 };

    if (intune_pfx_request_read(body, wire, &cause) != 0)
        return refuse(err, INTUNE_DATA_SERIALIZATION_ERROR, &cause, "the request is malformed");
    if (wire->pfx.len == 0)
        return refuse(err, INTUNE_BAD_REQUEST, NULL, "the request lacks encryptedPfxBlob");
    if (wire->encrypted_password.len == 0)
        return refuse(err, INTUNE_BAD_REQUEST, NULL, "the request lacks encryptedPfxPassword");
    if (wire->recipient_certificate.len == 0)
        return refuse(err, INTUNE_BAD_REQUEST, NULL, "the request lacks recipientCertificate");
    if (wire->thumbprint == NULL || wire->thumbprint[0] == '\0')
        return refuse(err, INTUNE_BAD_REQUEST, NULL, "the request lacks thumbprint");
    return 0;
}

/* An absent name means the default, the first of its kind but for paddings ("none"). */
static int
task_check_forms(struct task *task, struct cc_err *err)
{
    const struct intune_pfx_request *wire = &task->wire;
    const char *padding_name = wire->padding_scheme != NULL ? wire->padding_scheme : "none";
    int padding = pki_padding_parse(padding_name);
    int form = PKI_PASSWORD_CMS, cipher = PKI_CIPHER_AES256;

    if (padding < 0)
        return refuse(err, INTUNE_NOT_SUPPORTED_ERROR, NULL, "the paddingScheme is not known here");
    if (wire->password_encryption != NULL &&
            (form = pki_password_form_parse(wire->password_encryption)) < 0)
        return refuse(err, INTUNE_NOT_SUPPORTED_ERROR, NULL,
                "the passwordEncryption is not known here");
    if (wire->content_cipher != NULL &&
            (cipher = pki_content_cipher_parse(wire->content_cipher)) < 0)
        return refuse(err, INTUNE_NOT_SUPPORTED_ERROR, NULL, "the contentCipher is not known here");
    task->reencrypt.padding = (enum pki_padding)padding;
    task->reencrypt.form = (enum pki_password_form)form;
    task->reencrypt.cipher = (enum pki_content_cipher)cipher;
    return 0;
}

/* The whole "providerName/keyName", or an empty text when neither is said. */
static bool
task_key_name(const struct task *task, char ret_name[NAME_MAX_LEN])
{
    const char *provider = task->wire.provider_name != NULL ? task->wire.provider_name : "";
    const char *key = task->wire.key_name != NULL ? task->wire.key_name : "";
    int len;

    ret_name[0] = '\0';
    if (provider[0] == '\0' && key[0] == '\0')
        return true;
    len = snprintf(ret_name, NAME_MAX_LEN, "%s/%s", provider, key);
    return len > 0 && len < NAME_MAX_LEN;
}

/* With the lock held. */
static struct hsm_key *
find_key(const struct pfximport *work, const char *name)
{
    bool any_key = name[0] == '\0' || (work->key_count == 1 && work->keys[0].name == NULL);

    for (size_t i = 0; i < work->key_count; i++) {
        if (work->keys[i].name == NULL ? any_key : strcmp(work->keys[i].name, name) == 0)
            return work->keys[i].key;
    }
    return NULL;
}

static int
task_find_key(struct task *task, struct pfximport *work, struct cc_err *err)
{
    char name[NAME_MAX_LEN], shown[200];

    if (!task_key_name(task, name))
        return refuse(err, INTUNE_BAD_REQUEST, NULL, "providerName and keyName are too long");
    pthread_mutex_lock(&work->lock);
    task->key = find_key(work, name);
    task->reencrypt.mode = work->reencrypt;
    if (work->check_pfx)
        task->reencrypt.pfx = cc_buf_bytes(&task->wire.pfx);
    pthread_mutex_unlock(&work->lock);
    if (task->key != NULL)
        return 0;
    return cc_err_set(err, CC_DOM_SERVICE, INTUNE_KEY_NOT_FOUND,
            "no key is configured for \"%s\": add it to [key-alias]",
            cc_escape_into(shown, sizeof(shown), name));
}

/* Asks the token for the public half the first time, so that what follows may fail as the token does. */
static int
task_check_length(struct task *task, struct cc_err *err)
{
    EVP_PKEY *public = NULL;

    if (hsm_key_get0_evp(task->key, &public, err) != 0)
        return -1;
    if (task->wire.encrypted_password.len != (size_t)EVP_PKEY_get_size(public))
        return cc_err_set(err, CC_DOM_SERVICE, INTUNE_PARAMETER_DATA_INVALID_ERROR,
                "encryptedPfxPassword has %zu bytes, and the key %d",
                task->wire.encrypted_password.len, EVP_PKEY_get_size(public));
    return 0;
}

/*
 * The recipient's certificate is judged by the token process, before it uses the key: reading one takes OpenSSL a
 * good part of the time of an RSA operation, too much to do it here as well.
 */
static int
task_reencrypt(struct task *task, struct cc_err *err)
{
    task->reencrypt.ciphertext = cc_buf_bytes(&task->wire.encrypted_password);
    task->reencrypt.recipient = cc_buf_bytes(&task->wire.recipient_certificate);
    task->reencrypt.thumbprint = task->wire.thumbprint;
    return hsm_key_reencrypt(task->key, &task->reencrypt, &task->password, &task->on_token, err);
}

static int
task_do(struct task *task, struct pfximport *work, json_object *body, struct cc_err *err)
{
    if (task_read(task, body, err) != 0)
        return -1;
    if (task_check_forms(task, err) != 0)
        return -1;
    if (task_find_key(task, work, err) != 0)
        return -1;
    if (task_check_length(task, err) != 0)
        return -1;
    return task_reencrypt(task, err);
}

/* ---- the result ---- */

static void
fill_failure(const struct intune_fault *fault, const struct cc_err *cause,
        struct intune_pfx_result *result, struct flow_result *ret)
{
    result->error_code = fault->code;
    result->error_message = fault->message != NULL ? fault->message : cc_err_text(cause);
    result->retryable = ret->outcome == JOURNAL_FAILED_RETRYABLE;
    ret->error_code = fault->code;
    (void)snprintf(ret->detail, sizeof(ret->detail), "%s: %s", intune_error_code_name(fault->code),
            cc_err_text(cause));
}

static void
fill_success(const struct task *task, struct intune_pfx_result *result, struct flow_result *ret)
{
    result->encrypted_password = cc_buf_bytes(&task->password);
    result->password_encryption = pki_password_form_name(task->reencrypt.form);
    result->on_token = task->on_token;
    ret->outcome = JOURNAL_SUCCEEDED;
    (void)snprintf(ret->detail, sizeof(ret->detail), "password re-encrypted %s, %s to %s",
            task->on_token ? "on the token" : "on the host",
            pki_padding_name(task->reencrypt.padding),
            pki_password_form_name(task->reencrypt.form));
}

/* ---- what the flow calls ---- */

static bool
kind_ready(void *arg)
{
    struct pfximport *work = arg;
    struct hsm_status status;

    hsm_get_status(work->hsm, &status);
    return status.state == HSM_STATE_OPEN;
}

/* A member that is not what it should be is left out here; the work finds fault with it. */
static const char *
text_of(json_object *body, const char *name, size_t max)
{
    const char *text = NULL;

    return cc_json_get_str(body, name, max, &text, NULL) == 0 ? text : NULL;
}

static void
kind_describe(void *arg, json_object *body, struct flow_about *ret)
{
    (void)arg;
    ret->user = text_of(body, "userPrincipalName", 256);
    ret->device = text_of(body, "deviceId", 128);
    ret->thumbprint = text_of(body, "thumbprint", 128);
}

static enum flow_outcome
kind_work(void *arg, const struct flow_request *request, struct flow_result *ret,
        struct cc_err *err)
{
    struct pfximport *work = arg;
    struct task task = { .password = CC_BUF_INIT(OUTPUT_MAX) };
    struct intune_pfx_result result = { .request_context = request->request_context };
    struct intune_fault fault = { .code = INTUNE_OK };
    enum flow_outcome outcome = FLOW_FINISHED;

    intune_pfx_request_init(&task.wire);
    cc_buf_reset(&ret->json);
    if (task_do(&task, work, request->body, err) == 0) {
        fill_success(&task, &result, ret);
    } else {
        fault = intune_fault_of(err);
        ret->outcome = fault.retryable && !request->last_attempt ? JOURNAL_FAILED_RETRYABLE
                                                                 : JOURNAL_FAILED_FINAL;
        fill_failure(&fault, err, &result, ret);
    }
    if (fault.later || intune_pfx_result_write(&result, &ret->json, err) != 0)
        outcome = FLOW_LATER;
    cc_buf_free(&task.password);
    intune_pfx_request_free(&task.wire);
    return outcome;
}

static const struct flow_variant variant = {
    .title = "imported-PFX request",
    .event = {
        .download_success = EVENT_PKCS_IMPORT_DOWNLOAD_SUCCESS,
        .download_failure = EVENT_PKCS_IMPORT_DOWNLOAD_FAILURE,
        .downloaded_request = EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST,
        .work_success = EVENT_PKCS_IMPORT_REENCRYPT_SUCCESS,
        .work_failed_attempt = EVENT_PKCS_IMPORT_REENCRYPT_FAILED_ATTEMPT,
        .work_failure = EVENT_PKCS_IMPORT_REENCRYPT_FAILURE,
        .upload_success = EVENT_PKCS_IMPORT_UPLOAD_SUCCESS,
        .upload_failure = EVENT_PKCS_IMPORT_UPLOAD_FAILURE,
        .uploaded_request = EVENT_PKCS_IMPORT_UPLOADED_REQUEST,
        .request_success = EVENT_PKCS_IMPORT_REQUEST_SUCCESS,
        .request_failure = EVENT_PKCS_IMPORT_REQUEST_FAILURE,
    },
};

static const struct flow_kind kind = {
    .queue = INTUNE_QUEUE_PFX_IMPORT,
    .workload = "pfx-import",
    .variants = &variant,
    .variant_count = 1,
    .ready = kind_ready,
    .describe = kind_describe,
    .work = kind_work,
};

/* ---- begin, change, end ---- */

static void
free_keys(struct key *keys, size_t count)
{
    for (size_t i = 0; i < count && keys != NULL; i++)
        free(keys[i].name);
    free(keys);
}

static int
copy_keys(const struct pfximport_settings *settings, struct key **ret_keys, struct cc_err *err)
{
    struct key *keys = calloc(settings->key_count + 1, sizeof(*keys));

    if (keys == NULL)
        return cc_err_nomem(err);
    for (size_t i = 0; i < settings->key_count; i++) {
        const char *name = settings->keys[i].name;

        keys[i].key = settings->keys[i].key;
        if (name != NULL && (keys[i].name = cc_strdup(name, err)) == NULL) {
            free_keys(keys, settings->key_count);
            return -1;
        }
    }
    *ret_keys = keys;
    return 0;
}

static int
use_settings(struct pfximport *work, const struct pfximport_settings *settings, struct cc_err *err)
{
    struct key *keys = NULL, *old_keys;
    size_t old_count;

    if (copy_keys(settings, &keys, err) != 0)
        return -1;
    pthread_mutex_lock(&work->lock);
    old_keys = work->keys;
    old_count = work->key_count;
    work->keys = keys;
    work->key_count = settings->key_count;
    work->reencrypt = settings->reencrypt;
    work->check_pfx = settings->check_pfx;
    pthread_mutex_unlock(&work->lock);
    free_keys(old_keys, old_count);
    return 0;
}

static struct flow_settings
flow_settings_of(const struct pfximport_settings *settings)
{
    return (struct flow_settings){
        .intune = settings->intune,
        .store = settings->store,
        .log = settings->log,
        .connector_id = settings->connector_id,
        .workers = settings->workers,
        .batch = settings->batch,
        .poll_wait_ms = settings->poll_wait_ms,
        .max_attempts = settings->max_attempts,
    };
}

int
pfximport_start(const struct pfximport_settings *settings, struct pfximport **ret_work,
        struct cc_err *err)
{
    const struct flow_settings flow = flow_settings_of(settings);
    struct pfximport *work = calloc(1, sizeof(*work));

    if (work == NULL)
        return cc_err_nomem(err);
    work->hsm = settings->hsm;
    (void)pthread_mutex_init(&work->lock, NULL);
    if (use_settings(work, settings, err) != 0 ||
            flow_start(&kind, &flow, work, &work->flow, err) != 0) {
        pfximport_stop(work, 0);
        return -1;
    }
    *ret_work = work;
    return 0;
}

int
pfximport_reconfigure(struct pfximport *work, const struct pfximport_settings *settings,
        struct cc_err *err)
{
    const struct flow_settings flow = flow_settings_of(settings);

    if (use_settings(work, settings, err) != 0)
        return -1;
    flow_reconfigure(work->flow, &flow);
    return 0;
}

void
pfximport_stop(struct pfximport *work, int64_t drain_ms)
{
    if (work == NULL)
        return;
    flow_stop(work->flow, drain_ms);
    free_keys(work->keys, work->key_count);
    pthread_mutex_destroy(&work->lock);
    free(work);
}

void
pfximport_adopt(struct pfximport *work)
{
    flow_adopt(work->flow);
}

void
pfximport_get_status(struct pfximport *work, struct flow_status *ret)
{
    flow_get_status(work->flow, ret);
}
