/* SPDX-License-Identifier: MIT */
/* Connectors/enroll: an instance gets its name and its certificate, or its next certificate. */
#include "connectors.h"

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "identity.h"
#include "pki/csr.h"

#define NAME_MAX_LEN 256

struct enrolment {
    struct tenant_connector connector; /* texts of the body, and of features */
    char id[TENANT_ID_MAX + 1];
    bool renews;
    json_object *features;
    struct cc_buf request; /* DER */
    uint8_t key_hash[TENANT_HASH_LEN];
    struct identity_issued issued;
};

static void
enrolment_free(struct enrolment *e)
{
    json_object_put(e->features);
    cc_buf_free(&e->request);
    cc_buf_free(&e->issued.der);
}

static int
read_enrolment(json_object *body, struct enrolment *e, struct cc_err *err)
{
    struct tenant_connector *c = &e->connector;
    json_object *connector;

    if (cc_json_get_object(body, "connector", &connector, err) != 0)
        return -1;
    if (connector == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"connector\" is missing");
    if (cc_json_get_str(connector, "displayName", NAME_MAX_LEN, &c->display_name, err) != 0 ||
            cc_json_get_str(connector, "machineName", NAME_MAX_LEN, &c->machine_name, err) != 0 ||
            cc_json_need_str(connector, "version", CONNECTOR_VERSION_MAX, &c->version, err) != 0 ||
            connectors_features(connector, &e->features, err) != 0 ||
            cc_json_get_base64(connector, "certificateRequest", &e->request, err) != 0)
        return -1;
    if (e->request.len == 0)
        return cc_err_set(err, CC_DOM_INPUT, 0, "member \"certificateRequest\" is missing");
    c->features = json_object_to_json_string_ext(e->features, JSON_C_TO_STRING_PLAIN);
    return c->features != NULL ? 0 : cc_err_nomem(err);
}

/* One that asks again, as it has not got the answer or could not keep it, does not take another place. */
static int
find_unused(struct call *call, struct enrolment *e, struct cc_err *err)
{
    if (tenant_identity_unused(call->tenant->store, e->key_hash, e->connector.display_name,
                e->connector.machine_name, e->id, err) != 0)
        return -1;
    return e->id[0] != '\0' ? 0 : cc_uuid(e->id, err);
}

/* By the certificate that it comes with an instance says which it is; without one it is a new one.  false: the call was
   ended. */
static bool
find_id(struct call *call, struct enrolment *e)
{
    struct cc_bytes der = http_exchange_peer_certificate(call->exchange);
    const char *why = "";
    struct cc_err err = { 0 };
    int rc;

    e->renews = der.len > 0;
    rc = identity_key_hash(cc_buf_bytes(&e->request), e->key_hash, &err);
    if (rc == 0)
        rc = e->renews ? identity_check(call->tenant, der, e->id, &why, &err)
                       : find_unused(call, e, &err);
    if (rc != 0)
        call_reply_failed(call, &err);
    else if (e->id[0] == '\0')
        identity_refuse(call, why);
    return rc == 0 && e->id[0] != '\0';
}

static json_object *
write_answer(const struct call *call, const struct enrolment *e, struct cc_err *err)
{
    struct cc_bytes ca = identity_ca_der(call->tenant->identity);
    struct cc_buf text = CC_BUF_INIT(65536);
    json_object *body = json_object_new_object();
    json_object *chain = json_object_new_array();
    char renew_after[CC_TIME_LEN];
    int rc = -1;

    cc_time_format(e->issued.renew_after_ms, renew_after);
    if (chain == NULL || cc_base64(ca.data, ca.len, &text, err) != 0 ||
            json_object_array_add(chain, json_object_new_string(cc_buf_str(&text))) != 0) {
        cc_err_nomem(err);
        goto out;
    }
    if (cc_json_add_str(body, "connectorId", e->id, err) == 0 &&
            cc_json_add_base64(body, "certificate", e->issued.der.data, e->issued.der.len, err) ==
                    0 &&
            cc_json_add(body, "chain", json_object_get(chain), err) == 0)
        rc = cc_json_add_str(body, "renewAfterDateTime", renew_after, err);
out:
    json_object_put(chain);
    cc_buf_free(&text);
    if (rc == 0)
        return body;
    json_object_put(body);
    return NULL;
}

/* The certificate is made before it is known that there is room: one that nobody gets is worth nothing. */
static void
enroll(struct call *call, struct enrolment *e)
{
    struct tenant *tenant = call->tenant;
    int64_t now_ms = cc_clock_now_ms();
    struct tenant_new_identity identity = { .hash = e->issued.hash, .key_hash = e->key_hash };
    json_object *answer = NULL;
    struct cc_err err = { 0 };

    if (identity_issue(tenant->identity, e->id, cc_buf_bytes(&e->request),
                faults_identity_lifetime_s(tenant->faults), &e->issued, &err) != 0) {
        call_reply_failed(call, &err);
        return;
    }
    identity.expires_ms = e->issued.expires_ms;
    e->connector.id = e->id;
    e->connector.first_ms = now_ms;
    e->connector.last_ms = now_ms;
    e->connector.enrolled_ms = now_ms;
    if (!connectors_record(call, &e->connector, &identity))
        return;
    if ((answer = write_answer(call, e, &err)) == NULL)
        call_reply_failed(call, &err);
    else
        call_reply_json(call, 200, answer);
}

void
connectors_enroll(struct call *call, json_object *body)
{
    struct enrolment e = { .request = CC_BUF_INIT(PKI_CSR_MAX),
        .issued = { .der = CC_BUF_INIT(65536) } };
    struct cc_err err = { 0 };

    if (read_enrolment(body, &e, &err) != 0)
        call_reply_failed(call, &err);
    else if (find_id(call, &e))
        enroll(call, &e);
    enrolment_free(&e);
}
