/* SPDX-License-Identifier: MIT */
#include "pkcs_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"

#define WITHDRAW_MS 30000
#define SERIAL_MAX 64
#define NAME_MAX_BYTES 4096 /* of a CA in a request */

struct pkcs_view *
pkcs_get_view(struct pkcs *work)
{
    struct pkcs_view *view = malloc(sizeof(*view));

    if (view == NULL)
        return NULL;
    pthread_mutex_lock(&work->lock);
    *view = work->view;
    pthread_mutex_unlock(&work->lock);
    return view;
}

bool
pkcs_is_idle(struct pkcs *work)
{
    struct flow_status status = { .in_hand = 1 };

    pthread_mutex_lock(&work->lock);
    if (work->flow != NULL)
        flow_get_status(work->flow, &status);
    pthread_mutex_unlock(&work->lock);
    return status.in_hand == 0;
}

/* ---- what the flow calls ---- */

static bool
kind_ready(void *arg)
{
    struct pkcs *work = arg;
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

#define VARIANT_RECRYPT "recrypt"

static void
kind_describe(void *arg, json_object *body, struct flow_about *ret)
{
    (void)arg;
    ret->user = text_of(body, "userPrincipalName", 256);
    ret->device = text_of(body, "deviceId", 128);
    if (intune_pkcs_kind_of(body) == INTUNE_PKCS_RECRYPT)
        ret->variant = VARIANT_RECRYPT;
    else
        ret->resumes = true;
}

static struct ca *
find_ca(struct pkcs *work, const char *name)
{
    struct ca *ca = NULL;

    pthread_mutex_lock(&work->lock);
    for (size_t i = 0; i < work->view.ca_count && ca == NULL; i++)
        if (strcmp(ca_name(work->view.cas[i].ca), name) == 0)
            ca = work->view.cas[i].ca;
    pthread_mutex_unlock(&work->lock);
    return ca;
}

/* Of one that was begun, the CA that was asked. */
static const char *
name_of_note(struct pkcs *work, const char *note)
{
    struct pkcs_note read;
    struct ca *ca = NULL;

    pkcs_note_init(&read);
    if (pkcs_note_read(note, &read, NULL) == 0)
        ca = find_ca(work, read.ca);
    pkcs_note_free(&read);
    return ca != NULL ? ca_name(ca) : NULL;
}

static const char *
name_of_request(struct pkcs *work, json_object *body)
{
    const struct intune_pkcs_request wire = {
        .authority = text_of(body, "certificationAuthority", NAME_MAX_BYTES),
        .authority_name = text_of(body, "certificationAuthorityName", NAME_MAX_BYTES),
    };
    struct pkcs_view *view = pkcs_get_view(work);
    const struct pkcs_ca *ca = view != NULL ? pkcs_find_ca(view, &wire) : NULL;
    const char *name = ca != NULL ? ca_name(ca->ca) : NULL;

    free(view);
    return name;
}

static const char *
kind_lane(void *arg, json_object *body, const char *note)
{
    if (intune_pkcs_kind_of(body) == INTUNE_PKCS_RECRYPT)
        return NULL;
    return note != NULL ? name_of_note(arg, note) : name_of_request(arg, body);
}

static enum flow_outcome
kind_work(void *arg, const struct flow_request *request, struct flow_result *ret,
        struct cc_err *err)
{
    if (intune_pkcs_kind_of(request->body) == INTUNE_PKCS_RECRYPT)
        return pkcs_recrypt(arg, request, ret, err);
    return pkcs_issue(arg, request, ret, err);
}

/* A certificate that nobody gets, as another instance's stands.  A recrypt made none. */
static int
kind_withdraw(void *arg, const struct flow_refused *refused, struct cc_err *err)
{
    struct cc_buf serial = CC_BUF_INIT(SERIAL_MAX);
    struct ca_revocation revocation = { .reason = PKI_REASON_SUPERSEDED,
        .deadline = cc_deadline_in(WITHDRAW_MS) };
    enum ca_outcome outcome = CA_DONE;
    struct ca *ca;
    int rc = 0;

    if (refused->serial_number == NULL || refused->ca == NULL)
        return 0;
    if ((ca = find_ca(arg, refused->ca)) == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the CA \"%s\" is not configured any more",
                refused->ca);
    if ((rc = cc_unhex(refused->serial_number, &serial, err)) == 0) {
        revocation.serial = cc_buf_bytes(&serial);
        outcome = ca_revoke(ca, &revocation, NULL, err);
        rc = outcome == CA_DONE || outcome == CA_NOT_FOUND || outcome == CA_REFUSED ? 0 : -1;
    }
    cc_buf_free(&serial);
    return rc;
}

static const struct flow_variant variants[] = {
    {
            .title = "PKCS request",
            .event = {
                    .download_success = EVENT_PKCS_DOWNLOAD_SUCCESS,
                    .download_failure = EVENT_PKCS_DOWNLOAD_FAILURE,
                    .downloaded_request = EVENT_PKCS_DOWNLOADED_REQUEST,
                    .work_success = EVENT_PKCS_ISSUED_SUCCESS,
                    .work_failed_attempt = EVENT_PKCS_ISSUED_FAILED_ATTEMPT,
                    .work_failure = EVENT_PKCS_ISSUED_FAILURE,
                    .upload_success = EVENT_PKCS_UPLOAD_SUCCESS,
                    .upload_failure = EVENT_PKCS_UPLOAD_FAILURE,
                    .uploaded_request = EVENT_PKCS_UPLOADED_REQUEST,
                    .request_success = EVENT_PKCS_REQUEST_SUCCESS,
                    .request_failure = EVENT_PKCS_REQUEST_FAILURE,
            },
    },
    {
            .name = VARIANT_RECRYPT,
            .title = "PKCS re-encrypt request",
            .event = {
                    .download_success = EVENT_PKCS_RECRYPT_DOWNLOAD_SUCCESS,
                    .download_failure = EVENT_PKCS_RECRYPT_DOWNLOAD_FAILURE,
                    .downloaded_request = EVENT_PKCS_RECRYPT_DOWNLOADED_REQUEST,
                    .work_success = EVENT_PKCS_RECRYPT_REENCRYPT_SUCCESS,
                    .work_failed_attempt = EVENT_PKCS_RECRYPT_REENCRYPT_FAILURE,
                    .work_failure = EVENT_PKCS_RECRYPT_REENCRYPT_FAILURE,
                    .upload_success = EVENT_PKCS_RECRYPT_UPLOAD_SUCCESS,
                    .upload_failure = EVENT_PKCS_RECRYPT_UPLOAD_FAILURE,
                    .uploaded_request = EVENT_PKCS_RECRYPT_UPLOADED_REQUEST,
                    .request_success = EVENT_PKCS_RECRYPT_REQUEST_SUCCESS,
                    .request_failure = EVENT_PKCS_RECRYPT_REQUEST_FAILURE,
            },
    },
};

static const struct flow_kind kind = {
    .queue = INTUNE_QUEUE_PKCS,
    .workload = "pkcs",
    .variants = variants,
    .variant_count = CC_COUNT(variants),
    .ready = kind_ready,
    .describe = kind_describe,
    .lane = kind_lane,
    .work = kind_work,
    .withdraw = kind_withdraw,
};

/* ---- begin, change, end ---- */

static int
use_settings(struct pkcs *work, const struct pkcs_settings *settings, struct cc_err *err)
{
    if (settings->ca_count > PKCS_CAS_MAX || settings->profile_count > PKCS_PROFILES_MAX)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "more than %d CAs or %d templates", PKCS_CAS_MAX,
                PKCS_PROFILES_MAX);
    pthread_mutex_lock(&work->lock);
    work->view.ca_count = settings->ca_count;
    work->view.profile_count = settings->profile_count;
    if (settings->ca_count > 0)
        memcpy(work->view.cas, settings->cas, settings->ca_count * sizeof(settings->cas[0]));
    if (settings->profile_count > 0)
        memcpy(work->view.profiles, settings->profiles,
                settings->profile_count * sizeof(settings->profiles[0]));
    work->view.default_ca = settings->default_ca;
    work->view.generation = settings->generation;
    work->view.reencrypt = settings->reencrypt;
    pthread_mutex_unlock(&work->lock);
    return 0;
}

static struct flow_settings
flow_settings_of(const struct pkcs_settings *settings)
{
    return (struct flow_settings){
        .intune = settings->intune,
        .store = settings->store,
        .log = settings->log,
        .connector_id = settings->connector_id,
        .workers = settings->workers,
        .lanes = (unsigned)settings->ca_count,
        .batch = settings->batch,
        .poll_wait_ms = settings->poll_wait_ms,
        .max_attempts = settings->max_attempts,
    };
}

/* The flow first is made known to the pool, which looks whether there is anything to do. */
static int
start_flow(struct pkcs *work, const struct pkcs_settings *settings, struct cc_err *err)
{
    const struct flow_settings flow_settings = flow_settings_of(settings);
    struct flow *flow = NULL;

    if (flow_start(&kind, &flow_settings, work, &flow, err) != 0)
        return -1;
    pthread_mutex_lock(&work->lock);
    work->flow = flow;
    pthread_mutex_unlock(&work->lock);
    return 0;
}

int
pkcs_start(const struct pkcs_settings *settings, struct pkcs **ret_work, struct cc_err *err)
{
    struct pkcs *work = calloc(1, sizeof(*work));

    if (work == NULL)
        return cc_err_nomem(err);
    work->hsm = settings->hsm;
    work->seal = settings->seal;
    work->pfx_import = settings->pfx_import;
    work->store = settings->store;
    work->log = settings->log;
    (void)pthread_mutex_init(&work->lock, NULL);
    if (use_settings(work, settings, err) != 0 ||
            pool_open(work, settings->pool, &work->pool, err) != 0 ||
            start_flow(work, settings, err) != 0) {
        pkcs_stop(work, 0);
        return -1;
    }
    *ret_work = work;
    return 0;
}

int
pkcs_reconfigure(struct pkcs *work, const struct pkcs_settings *settings, struct cc_err *err)
{
    const struct flow_settings flow = flow_settings_of(settings);

    if (use_settings(work, settings, err) != 0)
        return -1;
    pool_set_size(work->pool, settings->pool);
    flow_reconfigure(work->flow, &flow);
    return 0;
}

void
pkcs_stop(struct pkcs *work, int64_t drain_ms)
{
    struct flow *flow;

    if (work == NULL)
        return;
    /* Out of the pool's sight before it goes; the pool serves requests until the last one has ended. */
    pthread_mutex_lock(&work->lock);
    flow = work->flow;
    work->flow = NULL;
    pthread_mutex_unlock(&work->lock);
    flow_stop(flow, drain_ms);
    pool_close(work->pool);
    pthread_mutex_destroy(&work->lock);
    free(work);
}

void
pkcs_adopt(struct pkcs *work)
{
    flow_adopt(work->flow);
}

void
pkcs_get_status(struct pkcs *work, struct pkcs_status *ret)
{
    flow_get_status(work->flow, &ret->flow);
    ret->pool_ready = pool_ready(work->pool);
}
