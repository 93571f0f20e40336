/* SPDX-License-Identifier: MIT */
#include "pkcs_int.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "store/instance.h"

/*
 * One request, from its wishes to a PFX.  It may be entered several times for the same request, after a failure or a
 * crash, and goes on where it was: the note in the journal says whether a key pair was made and the CA asked, and the CA
 * says what came of that.  From the note on the request is ours until it is known that no certificate is left over.
 */

#define SUBJECT_DER_MAX 16384
#define EXTENSIONS_MAX 65536
#define CHAIN_MAX ((size_t)256 * 1024)
#define FRIENDLY_MAX 200
#define REVOKE_MS 30000

struct task {
    struct pkcs *work;
    const struct flow_request *request;
    struct pkcs_view *view;
    struct intune_pkcs_request wire;
    struct pkcs_delivery delivery;
    enum pki_keyspec spec;
    struct ca *ca;
    const struct pki_profile *profile;
    struct pki_plan *plan;
    struct pkcs_note note;
    X509 *certificate;
    struct cc_buf certificate_der, chain, serial;
    struct cc_buf pfx, password;
};

/* ---- what is asked for ---- */

static int
read_key_algorithm(struct task *task, struct cc_err *err)
{
    const char *name = task->wire.key_algorithm;
    int spec = name != NULL ? pki_keyspec_parse(name) : PKI_RSA2048;

    if (spec < 0)
        return pkcs_refuse(err, INTUNE_NOT_SUPPORTED_ERROR, NULL,
                "the keyAlgorithm is not known here");
    if ((task->profile->key_specs & 1U << spec) == 0)
        return cc_err_set(err, CC_DOM_SERVICE, INTUNE_PARAMETER_DATA_INVALID_ERROR,
                "keyAlgorithm: the profile \"%s\" does not allow it", task->profile->name);
    task->spec = (enum pki_keyspec)spec;
    return 0;
}

/* Before anything is issued that then could not be delivered. */
static int
check_recipient(struct task *task, struct cc_err *err)
{
    X509 *recipient = NULL;
    struct cc_err cause = { 0 };
    int rc;

    if (task->wire.recipient_certificate.len == 0)
        return pkcs_refuse(err, INTUNE_BAD_REQUEST, NULL, "the request lacks recipientCertificate");
    rc = pki_cert_parse(cc_buf_bytes(&task->wire.recipient_certificate), &recipient, &cause);
    if (rc == 0)
        rc = pki_cert_check_recipient(recipient, cc_clock_now_ms(), &cause);
    X509_free(recipient);
    if (rc != 0)
        return pkcs_refuse(err, INTUNE_RECIPIENT_NOT_ACCEPTED, &cause, "recipientCertificate");
    return 0;
}

static int
read_request(struct task *task, struct cc_err *err)
{
    struct cc_err cause = { 0 };

    if (intune_pkcs_request_read(task->request->body, &task->wire, &cause) != 0)
        return pkcs_refuse(err, INTUNE_DATA_SERIALIZATION_ERROR, &cause,
                "the request is malformed");
    if (task->wire.kind != INTUNE_PKCS_ISSUE)
        return pkcs_refuse(err, INTUNE_NOT_SUPPORTED_ERROR, NULL,
                "the kind of the request is not known here");
    if (pkcs_read_delivery(&task->wire, &task->delivery, err) != 0 ||
            pkcs_choose(task->view, &task->wire, &task->ca, &task->profile, err) != 0 ||
            read_key_algorithm(task, err) != 0 ||
            pkcs_make_plan(&task->wire, task->profile, store_now_ms(task->work->store), &task->plan,
                    err) != 0)
        return -1;
    /* Of one that was begun a certificate may stand already; the token process judges the recipient then. */
    return task->request->note != NULL ? 0 : check_recipient(task, err);
}

/* ---- begun before ---- */

/* The CA that was asked, whatever the settings say now. */
static int
read_note(struct task *task, struct cc_err *err)
{
    if (pkcs_note_read(task->request->note, &task->note, err) != 0)
        return -1;
    for (size_t i = 0; i < task->view->ca_count; i++) {
        if (strcmp(ca_name(task->view->cas[i].ca), task->note.ca) == 0) {
            task->ca = task->view->cas[i].ca;
            return 0;
        }
    }
    return cc_err_set(err, CC_DOM_CONFIG, 0,
            "the request was sent to the CA \"%s\", which is not configured any more",
            task->note.ca);
}

/* Reads the note, when there is one; 0, or -1 with err. */
static int
resume(struct task *task, struct cc_err *err)
{
    return task->request->note != NULL ? read_note(task, err) : 0;
}

/* ---- key pair, request, note ---- */

static int
make_csr(struct task *task, struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(SUBJECT_DER_MAX), extensions = CC_BUF_INIT(EXTENSIONS_MAX);
    int rc = -1;

    if (pki_name_write(task->plan->subject, &subject, err) == 0 &&
            pki_plan_extensions(task->plan, &extensions, err) == 0)
        rc = hsm_device_key_csr(task->work->seal, cc_bytes_of_str(task->note.key_id),
                cc_buf_bytes(&task->note.sealed), cc_buf_bytes(&subject), cc_buf_bytes(&extensions),
                &task->note.csr, err);
    cc_buf_free(&subject);
    cc_buf_free(&extensions);
    return rc;
}

/* The id for the CA is the request's and something that no other attempt has: a withdrawn one may come again. */
static int
name_request(struct task *task, struct cc_err *err)
{
    char id[CC_UUID_LEN];

    if (cc_uuid(id, err) != 0)
        return -1;
    (void)snprintf(task->note.ca_request_id, sizeof(task->note.ca_request_id), "%.128s/%.8s",
            task->request->request_id, id);
    (void)cc_strcpy(task->note.ca, sizeof(task->note.ca), ca_name(task->ca));
    return 0;
}

static int
keep_note(struct task *task, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(4 * PKCS_CSR_MAX);
    int rc = -1;

    if (pkcs_note_write(&task->note, &text, err) == 0)
        rc = flow_prepare(task->request, cc_buf_str(&text), err);
    cc_buf_free(&text);
    return rc;
}

static int
prepare(struct task *task, struct cc_err *err)
{
    if (name_request(task, err) != 0 ||
            pool_get(task->work->pool, task->spec, task->view->generation, task->note.key_id,
                    &task->note.sealed, err) != 0 ||
            make_csr(task, err) != 0)
        return -1;
    return keep_note(task, err);
}

/* ---- the CA ---- */

static struct ca_request
ca_request_of(const struct task *task)
{
    return (struct ca_request){
        .request_id = task->note.ca_request_id,
        .csr = cc_buf_bytes(&task->note.csr),
        .plan = task->plan,
        .deadline = cc_deadline_in(PKCS_CA_DEADLINE_MS),
    };
}

/* What a CA found again is held against the plan as if it had just come. */
static enum ca_outcome
check_found(struct task *task, struct cc_err *err)
{
    X509_REQ *csr = NULL;
    int rc = pki_csr_parse(cc_buf_bytes(&task->note.csr), &csr, err);

    if (rc == 0)
        rc = pki_plan_compare(task->plan, X509_REQ_get0_pubkey(csr), task->certificate, err);
    X509_REQ_free(csr);
    return rc == 0 ? CA_DONE : CA_REFUSED;
}

/* Asked again and again, it mostly says the same. */
static int
keep_pending(struct task *task, const char *pending, struct cc_err *err)
{
    if (strcmp(task->note.pending, pending) != 0) {
        (void)cc_strcpy(task->note.pending, sizeof(task->note.pending), pending);
        if (keep_note(task, err) != 0)
            return -1;
    }
    cc_err_set(err, CC_DOM_SERVICE, INTUNE_CA_PENDING,
            "somebody at the CA has to decide on the request");
    return 0;
}

static enum ca_outcome
ask_ca(struct task *task, struct cc_err *err)
{
    const struct ca_request request = ca_request_of(task);
    const bool polls = task->note.pending[0] != '\0';
    struct cc_buf pending = CC_BUF_INIT(CA_PENDING_MAX);
    enum ca_outcome outcome;

    if (polls) {
        outcome =
                ca_poll(task->ca, &request, task->note.pending, &task->certificate, &pending, err);
        /* Given back, it would come again as another request, to be decided on once more. */
        if (outcome == CA_RETRYABLE || outcome == CA_MISCONFIGURED)
            outcome = CA_UNKNOWN;
    } else {
        outcome = ca_issue(task->ca, &request, &task->certificate, &pending, err);
    }
    if (outcome == CA_PENDING && keep_pending(task, cc_buf_str(&pending), err) != 0)
        outcome = CA_UNKNOWN;
    cc_buf_free(&pending);
    return outcome;
}

/* The certificate: found, when the CA was asked before, or issued. */
static enum ca_outcome
obtain(struct task *task, struct cc_err *err)
{
    bool asked_before = task->request->note != NULL && task->note.pending[0] == '\0' &&
                        (ca_capabilities(task->ca) & CA_CAN_FIND) != 0;
    enum ca_outcome outcome = CA_NOT_FOUND;

    if (asked_before) {
        outcome = ca_find(task->ca, task->note.ca_request_id, cc_deadline_in(PKCS_CA_DEADLINE_MS),
                &task->certificate, err);
        if (outcome == CA_DONE)
            return check_found(task, err);
        if (outcome == CA_RETRYABLE || outcome == CA_MISCONFIGURED)
            return CA_UNKNOWN;
    }
    if (outcome != CA_NOT_FOUND)
        return outcome;
    cc_err_clear(err);
    return ask_ca(task, err);
}

/* ---- PFX ---- */

static int
add_der(const X509 *certificate, struct cc_buf *ret, struct cc_err *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der), rc;

    if (len < 0)
        return cc_err_set_openssl(err, "a certificate");
    rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    return rc;
}

static int
read_chain(struct task *task, struct cc_err *err)
{
    STACK_OF(X509) *chain = NULL;
    int rc = 0;

    if (ca_chain(task->ca, cc_deadline_in(PKCS_CA_DEADLINE_MS), &chain, err) != CA_DONE)
        return cc_err_in(err, "the CA's chain");
    for (int i = 0; i < sk_X509_num(chain) && rc == 0; i++)
        rc = add_der(sk_X509_value(chain, i), &task->chain, err);
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

static int
make_pfx(struct task *task, struct cc_err *err)
{
    const char *user = task->wire.user;
    struct hsm_device_pfx parts = {
        .context = cc_bytes_of_str(task->note.key_id),
        .sealed = cc_buf_bytes(&task->note.sealed),
        .friendly_name = user != NULL && strlen(user) <= FRIENDLY_MAX ? user : NULL,
        .encryption = task->delivery.encryption,
        .recipient = cc_buf_bytes(&task->wire.recipient_certificate),
        .form = task->delivery.form,
        .cipher = task->delivery.cipher,
    };

    if (add_der(task->certificate, &task->certificate_der, err) != 0 ||
            pki_cert_serial(task->certificate, &task->serial, err) != 0 ||
            read_chain(task, err) != 0)
        return -1;
    parts.certificate = cc_buf_bytes(&task->certificate_der);
    parts.chain = cc_buf_bytes(&task->chain);
    return hsm_device_key_pfx(task->work->seal, &parts, &task->pfx, &task->password, err);
}

/* ---- the result ---- */

static enum flow_outcome
write_success(struct task *task, struct flow_result *ret, struct cc_err *err)
{
    struct cc_buf issuer = CC_BUF_INIT(2 * PKI_NAME_TEXT_MAX);
    struct intune_pkcs_result result = {
        .request_context = task->request->request_context,
        .certificate = cc_buf_bytes(&task->certificate_der),
        .serial_number = cc_buf_str(&task->serial),
        .authority_configuration = ca_name(task->ca),
        .pfx = cc_buf_bytes(&task->pfx),
        .encrypted_password = cc_buf_bytes(&task->password),
        .password_encryption = pki_password_form_name(task->delivery.form),
    };
    char thumbprint[PKI_THUMBPRINT_LEN];
    int64_t not_before;
    enum flow_outcome outcome = FLOW_UNKNOWN;

    if (pki_cert_thumbprint(task->certificate, thumbprint, err) != 0 ||
            pki_cert_validity(task->certificate, &not_before, &result.expiration_ms, err) != 0 ||
            pki_name_format(X509_get_issuer_name(task->certificate), &issuer, err) != 0)
        goto out;
    for (char *c = thumbprint; *c != '\0'; c++)
        *c = *c >= 'a' && *c <= 'f' ? (char)(*c - 'a' + 'A') : *c;
    result.thumbprint = thumbprint;
    result.issuing_authority = cc_buf_str(&issuer);
    cc_buf_reset(&ret->json);
    if (intune_pkcs_result_write(&result, &ret->json, err) != 0)
        goto out;
    ret->outcome = JOURNAL_SUCCEEDED;
    (void)cc_strcpy(ret->thumbprint, sizeof(ret->thumbprint), thumbprint);
    (void)cc_strcpy(ret->serial_number, sizeof(ret->serial_number), cc_buf_str(&task->serial));
    (void)cc_strcpy(ret->ca, sizeof(ret->ca), ca_name(task->ca));
    (void)snprintf(ret->detail, sizeof(ret->detail),
            "certificate %s issued by CA \"%s\", profile \"%s\"", cc_buf_str(&task->serial),
            ca_name(task->ca), task->profile->name);
    outcome = FLOW_FINISHED;
out:
    cc_buf_free(&issuer);
    return outcome;
}

enum flow_outcome
pkcs_fail(const struct flow_request *request, const struct intune_fault *fault,
        struct flow_result *ret, struct cc_err *err)
{
    struct intune_pkcs_result result = {
        .request_context = request->request_context,
        .error_code = fault->code,
        .error_message = fault->message != NULL ? fault->message : cc_err_text(err),
        .retryable = fault->retryable && !request->last_attempt,
    };
    struct cc_err ignored = { 0 };

    ret->outcome = result.retryable ? JOURNAL_FAILED_RETRYABLE : JOURNAL_FAILED_FINAL;
    ret->error_code = fault->code;
    (void)snprintf(ret->detail, sizeof(ret->detail), "%s: %s", intune_error_code_name(fault->code),
            cc_err_text(err));
    cc_buf_reset(&ret->json);
    return intune_pkcs_result_write(&result, &ret->json, &ignored) == 0 ? FLOW_FINISHED
                                                                        : FLOW_LATER;
}

static enum flow_outcome
fail_for(struct task *task, struct flow_result *ret, struct cc_err *err)
{
    const struct intune_fault fault = intune_fault_of(err);

    if (fault.later)
        return FLOW_LATER;
    return pkcs_fail(task->request, &fault, ret, err);
}

/* ---- what was issued and cannot be delivered ---- */

/* The certificate must not stay good when nobody gets it: only then has the request failed. */
static enum flow_outcome
undo(struct task *task, struct flow_result *ret, struct cc_err *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(task->certificate);
    const struct ca_revocation revocation = {
        .serial = { ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial) },
        .reason = PKI_REASON_CESSATION_OF_OPERATION,
        .deadline = cc_deadline_in(REVOKE_MS),
    };
    struct cc_err why = { 0 };
    enum ca_outcome outcome = ca_revoke(task->ca, &revocation, NULL, &why);
    const struct intune_fault fault = intune_fault_of(err);

    if (outcome != CA_DONE && outcome != CA_NOT_FOUND &&
            (ca_capabilities(task->ca) & CA_CAN_REVOKE) != 0)
        return FLOW_UNKNOWN;
    return pkcs_fail(task->request, &fault, ret, err);
}

static enum flow_outcome
deliver(struct task *task, struct flow_result *ret, struct cc_err *err)
{
    if (make_pfx(task, err) == 0)
        return write_success(task, ret, err);
    hsm_err_resolve(err);
    if (intune_fault_of(err).later || err->domain == CC_DOM_STORE)
        return FLOW_UNKNOWN;
    return undo(task, ret, err);
}

/* ---- all of it ---- */

/* What the CA said, as what becomes of the request. */
static enum flow_outcome
judge(struct task *task, enum ca_outcome outcome, struct flow_result *ret, struct cc_err *err)
{
    struct intune_fault denied = { .code = INTUNE_CA_DENIED };

    switch (outcome) {
    case CA_DONE:
        return deliver(task, ret, err);
    case CA_REFUSED:
    case CA_NOT_FOUND:
        if (task->certificate != NULL)
            return undo(task, ret, err);
        return pkcs_fail(task->request, &denied, ret, err);
    case CA_RETRYABLE:
    case CA_MISCONFIGURED:
        return FLOW_LATER;
    case CA_PENDING:
        return FLOW_PENDING;
    case CA_UNKNOWN:
        break;
    }
    return FLOW_UNKNOWN;
}

static void
note_digicert(struct task *task)
{
    const char *type = task->wire.authority_type;
    const struct event_fields fields = {
        .request_id = task->request->request_id,
        .user = task->wire.user,
        .device = task->wire.device,
        .ca = ca_name(task->ca),
    };

    if (task->request->note == NULL && type != NULL && cc_equal_nocase(type, "digicert"))
        eventlog_write(task->work->log, EVENT_PKCS_DIGI_CERT_REQUEST, &fields,
                "The PKCS request %s is for a DigiCert CA", task->request->request_id);
}

static enum flow_outcome
task_do(struct task *task, struct flow_result *ret, struct cc_err *err)
{
    const bool begun = task->request->note != NULL;

    if (read_request(task, err) != 0)
        /* Settings that changed since it was begun do not make it forgotten. */
        return begun ? FLOW_UNKNOWN : fail_for(task, ret, err);
    if (resume(task, err) != 0)
        return FLOW_UNKNOWN;
    note_digicert(task);
    if (!begun && prepare(task, err) != 0) {
        if (err->domain == CC_DOM_STORE)
            return FLOW_LATER;
        return fail_for(task, ret, err);
    }
    return judge(task, obtain(task, err), ret, err);
}

enum flow_outcome
pkcs_issue(struct pkcs *work, const struct flow_request *request, struct flow_result *ret,
        struct cc_err *err)
{
    struct task *task = calloc(1, sizeof(*task));
    enum flow_outcome outcome = request->note != NULL ? FLOW_UNKNOWN : FLOW_LATER;

    if (task == NULL || (task->view = pkcs_get_view(work)) == NULL) {
        free(task);
        cc_err_nomem(err);
        return outcome;
    }
    task->work = work;
    task->request = request;
    intune_pkcs_request_init(&task->wire);
    pkcs_note_init(&task->note);
    cc_buf_init(&task->certificate_der, PKI_CERT_MAX);
    cc_buf_init(&task->chain, CHAIN_MAX);
    cc_buf_init(&task->serial, 256);
    cc_buf_init(&task->pfx, PKCS_OUTPUT_MAX);
    cc_buf_init(&task->password, PKCS_OUTPUT_MAX);
    outcome = task_do(task, ret, err);
    cc_buf_free(&task->certificate_der);
    cc_buf_free(&task->chain);
    cc_buf_free(&task->serial);
    cc_buf_free(&task->pfx);
    cc_buf_free(&task->password);
    X509_free(task->certificate);
    pkcs_note_free(&task->note);
    pki_plan_free(task->plan);
    intune_pkcs_request_free(&task->wire);
    free(task->view);
    free(task);
    return outcome;
}
