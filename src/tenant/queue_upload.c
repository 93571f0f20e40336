/* SPDX-License-Identifier: MIT */
#include "queue.h"

#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "pki/cert.h"

#define PFX_MAX ((size_t)4 << 20)

struct uploads {
    const char *connector_id;
    struct tenant_result *results;
    char **texts;
    enum tenant_verdict *verdicts;
    size_t count;
    json_object *array; /* of the body */
};

static bool
is_no_error(const char *code)
{
    return code == NULL || cc_equal_nocase(code, "None") || strcmp(code, "0") == 0;
}

/* succeeded and errorCode must say the same. */
static int
read_result(json_object *item, struct tenant_result *ret, struct cc_err *err)
{
    json_object *succeeded;

    if (cc_json_need_str(item, "requestContext", 1024, &ret->context, err) != 0)
        return -1;
    if (!json_object_object_get_ex(item, "succeeded", &succeeded) ||
            !json_object_is_type(succeeded, json_type_boolean))
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"succeeded\" is missing or no boolean");
    ret->succeeded = json_object_get_boolean(succeeded) != 0;
    if (cc_json_get_bool(item, "retryable", false, &ret->retryable, err) != 0 ||
            cc_json_get_str(item, "errorCode", 64, &ret->error_code, err) != 0)
        return -1;
    if (ret->succeeded != is_no_error(ret->error_code))
        return cc_err_set(err, CC_DOM_INPUT, 0, "succeeded and errorCode contradict each other");
    return 0;
}

static int
read_upload(json_object *item, struct uploads *u, size_t i, struct cc_err *err)
{
    const char *text;

    if (read_result(item, &u->results[i], err) != 0)
        return -1;
    text = json_object_to_json_string_ext(item,
            JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    if (text == NULL)
        return cc_err_nomem(err);
    u->results[i].text = u->texts[i] = cc_strdup(text, err);
    return u->texts[i] != NULL ? 0 : -1;
}

/* What of a result is the same in all queues. */
static int
read_uploads(json_object *body, struct uploads *ret, struct cc_err *err)
{
    json_object *array;

    if (connectors_id(body, &ret->connector_id, err) != 0 ||
            cc_json_get_array(body, "results", &array, err) != 0)
        return -1;
    ret->count = array != NULL ? json_object_array_length(array) : 0;
    if (ret->count == 0 || ret->count > QUEUE_CONTEXTS_MAX) {
        ret->count = 0;
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"results\" has none, or over %d",
                QUEUE_CONTEXTS_MAX);
    }
    ret->results = calloc(ret->count, sizeof(*ret->results));
    ret->texts = calloc(ret->count, sizeof(*ret->texts));
    ret->verdicts = calloc(ret->count, sizeof(*ret->verdicts));
    if (ret->results == NULL || ret->texts == NULL || ret->verdicts == NULL)
        return cc_err_nomem(err);
    ret->array = array;
    for (size_t i = 0; i < ret->count; i++)
        if (read_upload(json_object_array_get_idx(array, i), ret, i, err) != 0)
            return cc_err_in(err, "results[%zu]", i);
    return 0;
}

static void
uploads_free(struct uploads *u)
{
    for (size_t i = 0; u->texts != NULL && i < u->count; i++)
        free(u->texts[i]);
    free(u->texts);
    free(u->results);
    free(u->verdicts);
}

/* ---- what a success must bring ---- */

/* A member in base64 that must be there; appended. */
static int
need_base64(json_object *item, const char *name, struct cc_buf *ret, struct cc_err *err)
{
    if (cc_json_get_base64(item, name, ret, err) != 0)
        return -1;
    return ret->len > 0 ? 0 : cc_err_set(err, CC_DOM_INPUT, 0, "a success without %s", name);
}

static int
check_password(json_object *item, struct cc_err *err)
{
    struct cc_buf password = CC_BUF_INIT(65536);
    const char *form;
    int rc = cc_json_need_str(item, "passwordEncryption", 64, &form, err);

    if (rc == 0)
        rc = need_base64(item, "encryptedPfxPassword", &password, err);
    cc_buf_free(&password);
    return rc;
}

static void
upper(char *hex)
{
    for (; *hex != '\0'; hex++)
        if (*hex >= 'a' && *hex <= 'f')
            *hex = (char)(*hex - 'a' + 'A');
}

/* What the result says of the certificate is what can be read from it, in the very same letters. */
static int
check_claims(json_object *item, const X509 *cert, struct cc_err *err)
{
    struct cc_buf serial = CC_BUF_INIT(PKI_CERT_MAX * 2);
    char thumbprint[PKI_THUMBPRINT_LEN];
    const char *said_thumbprint, *said_serial;
    int rc = -1;

    if (cc_json_need_str(item, "certificateThumbprint", 64, &said_thumbprint, err) != 0 ||
            cc_json_need_str(item, "certificateSerialNumber", 256, &said_serial, err) != 0 ||
            pki_cert_thumbprint(cert, thumbprint, err) != 0 ||
            pki_cert_serial(cert, &serial, err) != 0)
        goto out;
    upper(thumbprint);
    if (strcmp(said_thumbprint, thumbprint) != 0)
        cc_err_set(err, CC_DOM_INPUT, 0, "certificateThumbprint is not the certificate's");
    else if (strcmp(said_serial, cc_buf_str(&serial)) != 0)
        cc_err_set(err, CC_DOM_INPUT, 0, "certificateSerialNumber is not the certificate's");
    else
        rc = 0;
out:
    cc_buf_free(&serial);
    return rc;
}

static int
check_issued(json_object *item, struct cc_err *err)
{
    struct cc_buf der = CC_BUF_INIT(PKI_CERT_MAX);
    struct cc_buf pfx = CC_BUF_INIT(PFX_MAX);
    X509 *cert = NULL;
    int rc = -1;

    if (need_base64(item, "certificate", &der, err) != 0 ||
            pki_cert_parse(cc_buf_bytes(&der), &cert, err) != 0 ||
            check_claims(item, cert, err) != 0)
        goto out;
    rc = need_base64(item, "encryptedPfxBlob", &pfx, err);
out:
    X509_free(cert);
    cc_buf_free(&pfx);
    cc_buf_free(&der);
    return rc;
}

/* Of a request that is not known, it is not known either what a success must bring. */
static int
check_successes(const struct uploads *u, char (*kinds)[TENANT_KIND_MAX + 1], struct cc_err *err)
{
    for (size_t i = 0; i < u->count; i++) {
        json_object *item = json_object_array_get_idx(u->array, i);
        bool issued = kinds != NULL && kinds[i][0] != '\0' && strcmp(kinds[i], "recrypt") != 0;

        if (!u->results[i].succeeded)
            continue;
        if (check_password(item, err) != 0 || (issued && check_issued(item, err) != 0))
            return cc_err_in(err, "results[%zu]", i);
    }
    return 0;
}

static int
check_pkcs(struct call *call, const struct uploads *u, struct cc_err *err)
{
    const char **contexts = calloc(u->count, sizeof(*contexts));
    char(*kinds)[TENANT_KIND_MAX + 1] = calloc(u->count, sizeof(*kinds));
    int rc = -1;

    if (contexts == NULL || kinds == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    for (size_t i = 0; i < u->count; i++)
        contexts[i] = u->results[i].context;
    if (tenant_queue_kinds(call->tenant->store, TENANT_FEATURE_PKCS, contexts, u->count, kinds,
                err) != 0)
        goto out;
    rc = check_successes(u, kinds, err);
out:
    free(kinds);
    free(contexts);
    return rc;
}

static int
check(struct call *call, enum queue queue, const struct uploads *u, struct cc_err *err)
{
    return queue == QUEUE_PKCS ? check_pkcs(call, u, err) : check_successes(u, NULL, err);
}

/* ---- taking them ---- */

static const char *
verdict_name(enum tenant_verdict verdict)
{
    switch (verdict) {
    case TENANT_ACCEPTED:
    case TENANT_DUPLICATE:
        return "accepted";
    case TENANT_ALREADY_COMPLETED:
        return "alreadyCompleted";
    case TENANT_LEASE_LOST:
        return "leaseLost";
    case TENANT_UNKNOWN:
        break;
    }
    return "unknown";
}

static json_object *
write_verdicts(const struct uploads *u, struct cc_err *err)
{
    json_object *value = json_object_new_array();
    json_object *item = NULL;

    for (size_t i = 0; value != NULL && i < u->count; i++) {
        item = json_object_new_object();
        if (cc_json_add_str(item, "requestContext", u->results[i].context, err) != 0 ||
                cc_json_add_str(item, "status", verdict_name(u->verdicts[i]), err) != 0 ||
                json_object_array_add(value, item) != 0) {
            json_object_put(item);
            json_object_put(value);
            value = NULL;
        }
    }
    if (value == NULL)
        cc_err_nomem(err);
    return value;
}

void
queue_upload(struct call *call, enum queue queue, json_object *body)
{
    struct tenant *tenant = call->tenant;
    struct tenant_retry_rule rule = { .delay_ms = tenant->settings->retry_delay_ms,
        .max_attempts = tenant->settings->max_attempts };
    struct uploads u = { .count = 0 };
    struct cc_err err = { 0 };
    json_object *value;

    if (read_uploads(body, &u, &err) != 0 || check(call, queue, &u, &err) != 0)
        goto fail;
    if (!connectors_admit(call, u.connector_id, queue_feature(queue)))
        goto out;
    if (tenant_queue_upload(tenant->store, queue_feature(queue), u.connector_id, u.results, u.count,
                &rule, cc_clock_now_ms(), u.verdicts, &err) != 0 ||
            (value = write_verdicts(&u, &err)) == NULL)
        goto fail;
    queue_reply(call, value);
    /* A failure may have put a request back: whoever waits must know when it is due. */
    parking_wake(tenant->parking[queue]);
    goto out;
fail:
    call_reply_failed(call, &err);
out:
    uploads_free(&u);
}
