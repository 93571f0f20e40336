/* SPDX-License-Identifier: MIT */
#include "revocation/revocation.h"

#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "flow/flow.h"
#include "hsm/hsm.h"
#include "intune/revocation.h"
#include "pki/name.h"

#define CAS_MAX 64
#define ISSUER_NAME_MAX 1024 /* bytes: what a request may say, too */
#define SERIAL_MAX 64        /* bytes; RFC 5280 has 20, some CAs more */
#define CA_DEADLINE_MS 30000
#define RETRY_MAX_MS 60000

struct revocation {
    struct flow *flow;
    struct intune *intune; /* borrowed */

    pthread_mutex_t lock; /* guards what may change while running */
    struct ca **cas;
    size_t ca_count;
    char *issuers[CAS_MAX]; /* their subjects, as far as they have told; NULL: not yet */
    char *issuer_name;      /* filter; NULL: none */
    enum pki_reason reason;
    bool refuse_foreign, numeric_codes;
};

/* The settings as one request sees them. */
struct view {
    struct ca *cas[CAS_MAX];
    size_t ca_count;
    char issuer_name[ISSUER_NAME_MAX + 1];
    enum pki_reason reason;
    bool refuse_foreign, numeric_codes;
};

static struct view
view_of(struct revocation *work)
{
    struct view view = { .ca_count = 0 };

    pthread_mutex_lock(&work->lock);
    for (size_t i = 0; i < work->ca_count; i++)
        view.cas[view.ca_count++] = work->cas[i];
    if (work->issuer_name != NULL)
        (void)cc_strcpy(view.issuer_name, sizeof(view.issuer_name), work->issuer_name);
    view.reason = work->reason;
    view.refuse_foreign = work->refuse_foreign;
    view.numeric_codes = work->numeric_codes;
    pthread_mutex_unlock(&work->lock);
    return view;
}

/* ---- one request ---- */

struct task {
    struct revocation *work;
    struct view view;
    struct intune_revocation_request wire;
    struct cc_buf serial;
    char serial_text[2 * SERIAL_MAX + 1]; /* upper-case hexadecimal, no zero octets in front */
    struct ca *meant[CAS_MAX];            /* those that the request may be for */
    size_t meant_count;
    struct ca *ca; /* the one that it is for */
    bool already;
};

static int
refuse(struct cc_err *err, enum intune_error_code code, const char *what)
{
    return cc_err_set(err, CC_DOM_SERVICE, code, "%s", what);
}

static int
refuse_serial(struct cc_err *err)
{
    return refuse(err, INTUNE_PARAMETER_DATA_INVALID_ERROR,
            "serialNumber is not hexadecimal, as it was reported");
}

/*
 * Hexadecimal as it was reported, any case, zeros in front or not.  Colons only between whole octets: a digit more or
 * less would be another certificate's number.
 */
static int
read_serial(struct task *task, struct cc_err *err)
{
    char hex[1 + 2 * SERIAL_MAX + 1] = "0"; /* in front of an odd number of digits */
    const char *text = task->wire.serial_number;
    const bool octets = strchr(text, ':') != NULL;
    size_t len = 0;

    if (octets && strlen(text) % 3 != 2)
        return refuse_serial(err);
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (octets && i % 3 == 2) {
            if (text[i] != ':')
                return refuse_serial(err);
            continue;
        }
        if (len == 0 && text[i] == '0')
            continue;
        if (len == 2 * SERIAL_MAX)
            return refuse(err, INTUNE_PARAMETER_DATA_INVALID_ERROR, "serialNumber is too long");
        hex[1 + len++] = text[i];
    }
    if (len == 0)
        hex[1 + len++] = '0';
    hex[1 + len] = '\0';
    if (cc_unhex(hex + 1 - len % 2, &task->serial, NULL) != 0)
        return refuse_serial(err);
    cc_hex(task->serial.data, task->serial.len, true, task->serial_text);
    return 0;
}

/* As names are compared, or letter by letter where one of them is no name. */
static bool
is_same_name(const char *a, const char *b)
{
    X509_NAME *first = NULL, *second = NULL;
    bool same;

    if (pki_name_parse(a, &first, NULL) == 0 && pki_name_parse(b, &second, NULL) == 0)
        same = X509_NAME_cmp(first, second) == 0;
    else
        same = cc_equal_nocase(a, b);
    X509_NAME_free(first);
    X509_NAME_free(second);
    return same;
}

static bool
is_named(const char *text)
{
    return text != NULL && text[0] != '\0';
}

/* What the filter of the settings lets through, as the service's own is said to work in two ways. */
static bool
passes_filter(const struct task *task)
{
    const char *filter = task->view.issuer_name;

    if (filter[0] == '\0')
        return true;
    return (is_named(task->wire.issuer_name) && is_same_name(filter, task->wire.issuer_name)) ||
           (is_named(task->wire.ca_configuration) &&
                   cc_equal_nocase(filter, task->wire.ca_configuration));
}

/* ---- which CA ---- */

/* By our name for it, of which there is one each. */
static void
find_by_configuration(struct task *task)
{
    for (size_t i = 0; i < task->view.ca_count; i++) {
        if (cc_equal_nocase(task->wire.ca_configuration, ca_name(task->view.cas[i])))
            task->meant[task->meant_count++] = task->view.cas[i];
    }
}

/* For the lanes, which must not ask. */
static void
remember_issuer(struct revocation *work, const struct ca *ca, const char *issuer)
{
    pthread_mutex_lock(&work->lock);
    for (size_t i = 0; i < work->ca_count; i++)
        if (work->cas[i] == ca && work->issuers[i] == NULL)
            work->issuers[i] = cc_strdup(issuer, NULL);
    pthread_mutex_unlock(&work->lock);
}

/* By its subject, which several may have.  While one cannot tell its own, nobody knows that it is not the one. */
static enum ca_outcome
find_by_issuer(struct task *task, struct cc_err *err)
{
    enum ca_outcome outcome = CA_NOT_FOUND;

    for (size_t i = 0; i < task->view.ca_count; i++) {
        struct cc_buf issuer = CC_BUF_INIT(2 * PKI_NAME_TEXT_MAX);

        if (ca_issuer_name(task->view.cas[i], &issuer, err) != 0)
            outcome = CA_RETRYABLE;
        else
            remember_issuer(task->work, task->view.cas[i], cc_buf_str(&issuer));
        if (issuer.len > 0 && is_same_name(task->wire.issuer_name, cc_buf_str(&issuer)))
            task->meant[task->meant_count++] = task->view.cas[i];
        cc_buf_free(&issuer);
    }
    return task->meant_count > 0 ? CA_DONE : outcome;
}

static bool
names_a_ca(const struct task *task)
{
    return is_named(task->wire.ca_configuration) || is_named(task->wire.issuer_name);
}

/* CA_DONE: task->meant, all of them when none is named.  CA_NOT_FOUND: the one named is not ours. */
static enum ca_outcome
find_meant(struct task *task, struct cc_err *err)
{
    if (!names_a_ca(task)) {
        task->meant_count = task->view.ca_count;
        memcpy(task->meant, task->view.cas, sizeof(task->meant));
        return CA_DONE;
    }
    if (is_named(task->wire.ca_configuration))
        find_by_configuration(task);
    if (task->meant_count > 0)
        return CA_DONE;
    return is_named(task->wire.issuer_name) ? find_by_issuer(task, err) : CA_NOT_FOUND;
}

/*
 * Of those meant, the one that knows the serial.  One that cannot be asked now counts only when no other knows it; one
 * that will never say does not.
 */
static enum ca_outcome
find_by_serial(struct task *task, struct cc_err *err)
{
    enum ca_outcome found = CA_NOT_FOUND;

    for (size_t i = 0; i < task->meant_count; i++) {
        struct ca *ca = task->meant[i];
        enum ca_status status;
        enum ca_outcome outcome;

        if ((ca_capabilities(ca) & CA_CAN_STATUS) == 0)
            continue;
        outcome = ca_get_status(ca, cc_buf_bytes(&task->serial), cc_deadline_in(CA_DEADLINE_MS),
                &status, err);
        if (outcome == CA_DONE) {
            task->ca = ca;
            return CA_DONE;
        }
        if (outcome != CA_NOT_FOUND && outcome != CA_REFUSED)
            found = outcome;
    }
    return found;
}

/* CA_DONE: task->ca.  A CA that is named answers itself for serials that it does not know. */
static enum ca_outcome
choose(struct task *task, struct cc_err *err)
{
    const bool named = names_a_ca(task);
    enum ca_outcome outcome = CA_NOT_FOUND;

    if (!named || task->meant_count > 1)
        outcome = find_by_serial(task, err);
    if (named && outcome == CA_NOT_FOUND) {
        task->ca = task->meant[0];
        outcome = CA_DONE;
    }
    return outcome;
}

static enum ca_outcome
revoke(struct task *task, struct cc_err *err)
{
    const struct ca_revocation revocation = {
        .serial = cc_buf_bytes(&task->serial),
        .reason = task->view.reason,
        .deadline = cc_deadline_in(CA_DEADLINE_MS),
    };

    return ca_revoke(task->ca, &revocation, &task->already, err);
}

/* ---- the result ---- */

static enum flow_outcome
later(const struct cc_err *cause, struct cc_err *err)
{
    struct cc_err why = *cause;

    cc_err_clear(err);
    cc_err_set(err, why.domain, why.code, "%s", why.text);
    return FLOW_LATER;
}

/* Of one that was revoked before, the first reason stays. */
static void
fill_success(const struct task *task, struct flow_result *ret)
{
    if (task->already)
        (void)snprintf(ret->detail, sizeof(ret->detail),
                "certificate %s of CA \"%s\" was revoked before", task->serial_text,
                ca_name(task->ca));
    else
        (void)snprintf(ret->detail, sizeof(ret->detail), "certificate %s of CA \"%s\" revoked (%s)",
                task->serial_text, ca_name(task->ca), pki_reason_name(task->view.reason));
}

static enum flow_outcome
finish(struct task *task, const struct flow_request *request, struct flow_result *ret,
        struct cc_err *err)
{
    struct intune_revocation_result result = {
        .request_context = request->request_context,
        .numeric = task->view.numeric_codes,
    };

    ret->outcome = JOURNAL_SUCCEEDED;
    if (err->domain != CC_DOM_NONE) {
        result.error_code = err->domain == CC_DOM_SERVICE ? (enum intune_error_code)err->code
                                                          : INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION;
        result.error_message = cc_err_text(err);
        ret->outcome = JOURNAL_FAILED_FINAL;
        ret->error_code = result.error_code;
        (void)snprintf(ret->detail, sizeof(ret->detail), "%s: %s",
                intune_error_code_name(result.error_code), cc_err_text(err));
    } else {
        fill_success(task, ret);
    }
    cc_buf_reset(&ret->json);
    return intune_revocation_result_write(&result, &ret->json, err) == 0 ? FLOW_FINISHED
                                                                         : FLOW_LATER;
}

/* A CA will not because it never does such a thing, because of the certificate's state, or for reasons of its own. */
static enum intune_error_code
refusal_code(const struct task *task, const struct cc_err *cause)
{
    unsigned needed = CA_CAN_REVOKE;

    if (task->view.reason == PKI_REASON_CERTIFICATE_HOLD)
        needed |= CA_CAN_HOLD;
    if ((ca_capabilities(task->ca) & needed) != needed)
        return INTUNE_NOT_SUPPORTED_ERROR;
    return cause->domain == CC_DOM_INPUT ? INTUNE_CONFLICT_ERROR
                                         : INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION;
}

/* What the CA said as what is to be done about it; FLOW_FINISHED with err set: a failure for good. */
static enum flow_outcome
judge(const struct task *task, enum ca_outcome outcome, const struct cc_err *cause,
        struct cc_err *err)
{
    switch (outcome) {
    case CA_DONE:
        return FLOW_FINISHED;
    case CA_NOT_FOUND:
        (void)refuse(err, INTUNE_CERTIFICATE_NOT_FOUND_ERROR,
                "the CA does not know a certificate of this serialNumber");
        return FLOW_FINISHED;
    case CA_REFUSED:
        (void)cc_err_set(err, CC_DOM_SERVICE, refusal_code(task, cause), "the CA refuses: %s",
                cc_err_text(cause));
        return FLOW_FINISHED;
    case CA_RETRYABLE:
    case CA_MISCONFIGURED:
    case CA_UNKNOWN:
    case CA_PENDING:
        break;
    }
    return later(cause, err);
}

static enum flow_outcome
leave(const struct task *task, struct cc_err *err)
{
    (void)refuse(err, INTUNE_NOT_SUPPORTED_ERROR, "the issuer is no CA of this connector");
    return task->view.refuse_foreign ? FLOW_FINISHED : FLOW_NOT_OURS;
}

/* The serial is judged once the request is known to be for us: how others write theirs is theirs to say. */
static enum flow_outcome
task_do(struct task *task, json_object *body, struct cc_err *err)
{
    struct cc_err cause = { 0 };
    enum ca_outcome outcome;

    if (intune_revocation_request_read(body, &task->wire, &cause) != 0) {
        (void)refuse(err, INTUNE_DATA_SERIALIZATION_ERROR, cc_err_text(&cause));
        return FLOW_FINISHED;
    }
    if (!passes_filter(task)) {
        (void)refuse(err, INTUNE_NOT_SUPPORTED_ERROR, "the issuer is not that of the filter");
        return FLOW_NOT_OURS;
    }
    outcome = find_meant(task, &cause);
    if (outcome == CA_DONE && read_serial(task, err) != 0)
        return FLOW_FINISHED;
    if (outcome == CA_DONE)
        outcome = choose(task, &cause);
    if (outcome == CA_NOT_FOUND)
        return leave(task, err);
    if (outcome == CA_DONE) {
        cc_err_clear(&cause);
        outcome = revoke(task, &cause);
    }
    return judge(task, outcome, &cause, err);
}

/* ---- what the flow calls ---- */

static bool
kind_ready(void *arg)
{
    (void)arg;
    return true;
}

static void
kind_describe(void *arg, json_object *body, struct flow_about *ret)
{
    (void)arg;
    (void)body;
    ret->resumes = true;
}

/* The CA that is named, the first of several of one subject; which it is of those that have not told yet shows later. */
static const char *
kind_lane(void *arg, json_object *body, const char *note)
{
    struct revocation *work = arg;
    struct intune_revocation_request wire = { .issuer_name = NULL };
    const char *by_configuration = NULL, *by_issuer = NULL;

    (void)note;
    if (intune_revocation_request_read(body, &wire, NULL) != 0)
        return NULL;
    pthread_mutex_lock(&work->lock);
    for (size_t i = work->ca_count; i-- > 0;) {
        const char *name = ca_name(work->cas[i]);

        if (is_named(wire.ca_configuration) && cc_equal_nocase(wire.ca_configuration, name))
            by_configuration = name;
        if (is_named(wire.issuer_name) && work->issuers[i] != NULL &&
                is_same_name(work->issuers[i], wire.issuer_name))
            by_issuer = name;
    }
    pthread_mutex_unlock(&work->lock);
    return by_configuration != NULL ? by_configuration : by_issuer;
}

static enum flow_outcome
kind_work(void *arg, const struct flow_request *request, struct flow_result *ret,
        struct cc_err *err)
{
    struct task task = { .work = arg, .view = view_of(arg), .serial = CC_BUF_INIT(SERIAL_MAX) };
    enum flow_outcome outcome;

    (void)hsm_work_for(HSM_WORK_REVOCATION);
    outcome = task_do(&task, request->body, err);
    (void)cc_strcpy(ret->serial_number, sizeof(ret->serial_number), task.serial_text);
    (void)cc_strcpy(ret->ca, sizeof(ret->ca), task.ca != NULL ? ca_name(task.ca) : "");
    if (outcome == FLOW_FINISHED)
        outcome = finish(&task, request, ret, err);
    cc_buf_free(&task.serial);
    return outcome;
}

static int
source_download(void *arg, unsigned max, struct intune_work **ret_work, size_t *ret_count,
        size_t *ret_malformed, struct cc_err *err)
{
    struct revocation *work = arg;

    /* No filter is sent: the service applies it behind the cut to max, and to another member than documented. */
    return intune_revocation_download(work->intune, max, NULL, ret_work, ret_count, ret_malformed,
            err);
}

static int
source_upload(void *arg, const char *const *results, size_t count,
        enum intune_verdict *ret_verdicts, struct cc_err *err)
{
    struct revocation *work = arg;

    return intune_revocation_upload(work->intune, results, count, ret_verdicts, err);
}

static const struct flow_source source = { source_download, source_upload };

static const struct flow_variant variant = {
    .title = "revocation request",
    .event = {
        .download_success = EVENT_REVOKE_DOWNLOAD_SUCCESS,
        .download_failure = EVENT_REVOKE_DOWNLOAD_FAILURE,
        .downloaded_request = EVENT_REVOKE_DOWNLOADED_REQUEST,
        .work_success = EVENT_REVOKE_SUCCESS,
        .work_failed_attempt = EVENT_REVOKE_FAILED_ATTEMPT,
        .work_failure = EVENT_REVOKE_FAILURE,
        .upload_success = EVENT_REVOKE_UPLOAD_SUCCESS,
        .upload_failure = EVENT_REVOKE_UPLOAD_FAILURE,
        .uploaded_request = EVENT_REVOKE_UPLOADED_REQUEST,
        .request_success = EVENT_REVOKE_REQUEST_SUCCESS,
        .request_failure = EVENT_REVOKE_REQUEST_FAILURE,
    },
};

static const struct flow_kind kind = {
    .source = &source,
    .workload = "revocation",
    .variants = &variant,
    .variant_count = 1,
    .batch_max = INTUNE_REVOCATION_MAX,
    .keep_ms = -1,
    .retry_max_ms = RETRY_MAX_MS,
    .ready = kind_ready,
    .describe = kind_describe,
    .lane = kind_lane,
    .work = kind_work,
};

/* ---- begin, change, end ---- */

static void
forget_issuers(struct revocation *work)
{
    for (size_t i = 0; i < CAS_MAX; i++) {
        free(work->issuers[i]);
        work->issuers[i] = NULL;
    }
}

static int
use_settings(struct revocation *work, const struct revocation_settings *settings,
        struct cc_err *err)
{
    struct ca **cas;
    char *issuer_name = NULL;

    if (settings->ca_count > CAS_MAX)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "more than %d CAs", CAS_MAX);
    if (settings->issuer_name != NULL && strlen(settings->issuer_name) > ISSUER_NAME_MAX)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the issuer's name is longer than %d bytes",
                ISSUER_NAME_MAX);
    if ((cas = calloc(settings->ca_count + 1, sizeof(struct ca *))) == NULL)
        return cc_err_nomem(err);
    if (settings->issuer_name != NULL &&
            (issuer_name = cc_strdup(settings->issuer_name, err)) == NULL) {
        free(cas);
        return -1;
    }
    for (size_t i = 0; i < settings->ca_count; i++)
        cas[i] = settings->cas[i];
    pthread_mutex_lock(&work->lock);
    free(work->cas);
    free(work->issuer_name);
    forget_issuers(work);
    work->cas = cas;
    work->ca_count = settings->ca_count;
    work->issuer_name = issuer_name;
    work->reason = settings->reason;
    work->refuse_foreign = settings->refuse_foreign;
    work->numeric_codes = settings->numeric_codes;
    pthread_mutex_unlock(&work->lock);
    return 0;
}

static struct flow_settings
flow_settings_of(const struct revocation_settings *settings)
{
    return (struct flow_settings){
        .intune = settings->intune,
        .store = settings->store,
        .log = settings->log,
        .connector_id = settings->connector_id,
        .workers = settings->workers,
        .lanes = (unsigned)settings->ca_count,
        .batch = settings->max_requests,
        .poll_interval_ms = settings->poll_interval_ms,
        .max_attempts = 1,
    };
}

int
revocation_start(const struct revocation_settings *settings, struct revocation **ret_work,
        struct cc_err *err)
{
    const struct flow_settings flow = flow_settings_of(settings);
    struct revocation *work = calloc(1, sizeof(*work));

    if (work == NULL)
        return cc_err_nomem(err);
    work->intune = settings->intune;
    (void)pthread_mutex_init(&work->lock, NULL);
    if (use_settings(work, settings, err) != 0 ||
            flow_start(&kind, &flow, work, &work->flow, err) != 0) {
        revocation_stop(work, 0);
        return -1;
    }
    *ret_work = work;
    return 0;
}

int
revocation_reconfigure(struct revocation *work, const struct revocation_settings *settings,
        struct cc_err *err)
{
    const struct flow_settings flow = flow_settings_of(settings);

    if (use_settings(work, settings, err) != 0)
        return -1;
    flow_reconfigure(work->flow, &flow);
    return 0;
}

void
revocation_stop(struct revocation *work, int64_t drain_ms)
{
    if (work == NULL)
        return;
    flow_stop(work->flow, drain_ms);
    free(work->cas);
    free(work->issuer_name);
    forget_issuers(work);
    pthread_mutex_destroy(&work->lock);
    free(work);
}

void
revocation_poll_now(struct revocation *work)
{
    flow_poll_now(work->flow);
}

void
revocation_adopt(struct revocation *work)
{
    flow_adopt(work->flow);
}

void
revocation_get_status(struct revocation *work, struct flow_status *ret)
{
    flow_get_status(work->flow, ret);
}
