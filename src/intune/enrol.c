/* SPDX-License-Identifier: MIT */
#include "intune/enrol.h"

#include <string.h>

#include <openssl/err.h>

#include "base/clock.h"
#include "base/json.h"
#include "hsm/hsm.h"
#include "intune_int.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/name.h"

#define TIME_MAX 64
#define ANSWER_MAX ((size_t)1 << 20)

void
intune_enrolled_free(struct intune_enrolled *enrolled)
{
    X509_free(enrolled->certificate);
    sk_X509_pop_free(enrolled->chain, X509_free);
    *enrolled = (struct intune_enrolled){ .certificate = NULL };
}

/* ---- the request ---- */

/* Whatever subject it names, the service names its own. */
static int
make_request(EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(1024);
    X509_NAME *name = NULL;
    int rc = -1;

    if (pki_name_parse("CN=certconnector", &name, err) == 0 &&
            pki_name_write(name, &subject, err) == 0)
        rc = pki_csr_build(key, cc_buf_bytes(&subject), (struct cc_bytes){ NULL, 0 }, NULL, ret,
                err);
    X509_NAME_free(name);
    cc_buf_free(&subject);
    return rc;
}

static int
add_features(json_object *obj, const struct intune_enrolment *enrolment, struct cc_err *err)
{
    json_object *list = json_object_new_array();

    if (cc_json_add(obj, "features", list, err) != 0)
        return -1;
    for (size_t i = 0; i < enrolment->feature_count; i++)
        if (json_object_array_add(list, json_object_new_string(enrolment->features[i])) != 0)
            return cc_err_nomem(err);
    return 0;
}

static json_object *
make_body(const struct intune_enrolment *enrolment, struct cc_bytes request, struct cc_err *err)
{
    json_object *body = json_object_new_object();
    json_object *connector = json_object_new_object();

    if (cc_json_add(body, "connector", connector, err) == 0 &&
            cc_json_add_str(connector, "displayName", enrolment->display_name, err) == 0 &&
            cc_json_add_str(connector, "machineName", enrolment->machine_name, err) == 0 &&
            cc_json_add_str(connector, "version", enrolment->version, err) == 0 &&
            add_features(connector, enrolment, err) == 0 &&
            cc_json_add_base64(connector, "certificateRequest", request.data, request.len, err) ==
                    0)
        return body;
    json_object_put(body);
    return NULL;
}

/* ---- the answer ---- */

static int
read_chain(json_object *json, struct intune_enrolled *ret, struct cc_err *err)
{
    json_object *list = NULL;

    if ((ret->chain = sk_X509_new_null()) == NULL)
        return cc_err_nomem(err);
    if (cc_json_get_array(json, "chain", &list, err) != 0)
        return -1;
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(list, i));
        struct cc_buf der = CC_BUF_INIT(PKI_CERT_MAX);
        X509 *certificate = NULL;
        int rc = cc_unbase64(text == NULL ? "" : text, &der, err);

        if (rc == 0)
            rc = pki_cert_parse(cc_buf_bytes(&der), &certificate, err);
        cc_buf_free(&der);
        if (rc != 0)
            return cc_err_in(err, "chain");
        if (sk_X509_push(ret->chain, certificate) <= 0) {
            X509_free(certificate);
            return cc_err_nomem(err);
        }
    }
    return 0;
}

/* What follows from the certificate: whose it is, and how long. */
static int
complete(struct intune_enrolled *enrolled, struct cc_err *err)
{
    char name[CC_UUID_LEN + 1] = "";

    if (X509_NAME_get_text_by_NID(X509_get_subject_name(enrolled->certificate), NID_commonName,
                name, sizeof(name)) < 0 ||
            !cc_is_uuid(name))
        return cc_err_set(err, CC_DOM_INPUT, 0, "the certificate names no connector");
    cc_lower(name);
    (void)cc_strcpy(enrolled->connector_id, sizeof(enrolled->connector_id), name);
    return pki_cert_validity(enrolled->certificate, &enrolled->not_before_ms,
            &enrolled->not_after_ms, err);
}

/* A time that makes no sense is not waited for. */
static void
set_renewal(struct intune_enrolled *enrolled, const char *text)
{
    const int64_t life = enrolled->not_after_ms - enrolled->not_before_ms;

    if (text == NULL || cc_time_parse(text, &enrolled->renew_after_ms, NULL) != 0 ||
            enrolled->renew_after_ms < enrolled->not_before_ms ||
            enrolled->renew_after_ms >= enrolled->not_after_ms)
        enrolled->renew_after_ms = enrolled->not_before_ms + life / 3 * 2;
}

static int
read_answer(json_object *json, struct intune_enrolled *ret, struct cc_err *err)
{
    struct cc_buf der = CC_BUF_INIT(PKI_CERT_MAX);
    const char *id = NULL, *renew = NULL;
    int rc = -1;

    if (cc_json_need_str(json, "connectorId", CC_UUID_LEN - 1, &id, err) != 0 ||
            cc_json_get_str(json, "renewAfterDateTime", TIME_MAX, &renew, err) != 0 ||
            cc_json_get_base64(json, "certificate", &der, err) != 0 ||
            pki_cert_parse(cc_buf_bytes(&der), &ret->certificate, err) != 0 ||
            complete(ret, err) != 0 || read_chain(json, ret, err) != 0)
        goto out;
    if (!cc_equal_nocase(id, ret->connector_id)) {
        cc_err_set(err, CC_DOM_INPUT, 0,
                "the certificate is not of the connector that it came for");
        goto out;
    }
    set_renewal(ret, renew);
    rc = 0;
out:
    cc_buf_free(&der);
    return rc;
}

int
intune_enrol(struct intune *intune, const struct intune_enrolment *enrolment,
        struct intune_enrolled *ret, struct cc_err *err)
{
    struct intune_call call = { .what = "Connectors/enroll",
        .method = "POST",
        .max_response = ANSWER_MAX,
        .unshown = !enrolment->renews };
    struct cc_buf request = CC_BUF_INIT(PKI_CSR_MAX);
    struct intune_enrolled enrolled = { .certificate = NULL };
    struct intune_answer answer = { 0 };
    int rc = -1;

    if (make_request(enrolment->pkey, &request, err) != 0) {
        hsm_err_resolve(err);
        goto out;
    }
    if ((call.body = make_body(enrolment, cc_buf_bytes(&request), err)) == NULL ||
            intune_call(intune, &call, &answer, err) != 0)
        goto out;
    if (read_answer(answer.json, &enrolled, err) != 0) {
        cc_err_in(err, "%s: the answer", call.what);
        goto out;
    }
    if (EVP_PKEY_eq(X509_get0_pubkey(enrolled.certificate), enrolment->pkey) != 1) {
        cc_err_set(err, CC_DOM_INPUT, 0, "%s: the certificate is of another key", call.what);
        goto out;
    }
    (void)cc_strcpy(enrolled.key, sizeof(enrolled.key), enrolment->key);
    *ret = enrolled;
    enrolled = (struct intune_enrolled){ .certificate = NULL };
    rc = 0;
out:
    ERR_clear_error();
    intune_enrolled_free(&enrolled);
    json_object_put(answer.json);
    json_object_put(call.body);
    cc_buf_free(&request);
    return rc;
}

/* ---- removal ---- */

int
intune_remove(struct intune *intune, const char *connector_id, bool shown, struct cc_err *err)
{
    struct intune_call call = { .what = "Connectors/remove",
        .method = "POST",
        .may_be_empty = true,
        .removal = true,
        .unshown = !shown };
    json_object *body = json_object_new_object();
    struct intune_answer answer = { 0 };
    int rc = cc_json_add_str(body, "connectorId", connector_id, err);

    if (rc == 0) {
        call.body = body;
        rc = intune_call(intune, &call, &answer, err);
    }
    json_object_put(answer.json);
    json_object_put(body);
    return rc;
}
