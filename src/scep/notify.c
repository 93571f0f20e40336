/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/text.h"
#include "pki/cert.h"
#include "pki/name.h"

/*
 * The outbox.  A notice is made with the row's end and told by one of a few threads; then the admin event is written,
 * and the row closed, many at once (the settler).  What the service does not take now waits in the store.
 */

#define TELLERS 4
#define QUEUE_MAX 1024
#define TELL_MS 20000
#define NOW_MS 10000
#define QUEUED_MS 60000 /* the store takes a queued notice over after this */
#define LATER_BASE_MS 1000
#define LATER_CAP_MS 300000
#define SETTLE_MAX 64
#define WALK_MAX 64
#define WALK_MS 5000
#define PUT_OFF_MS 60000
#define LEFT_MS 60000
#define PRUNE_MAX 500
#define STORE_RETRY_MS 1000
#define REVOKE_MS 10000
#define JSON_MAX ((size_t)128 << 10)

struct notice {
    struct notice *next;
    struct scep *scep;
    struct ca *ca;
    uint8_t id[SCEPDB_ID_LEN];
    char request_id[SCEP_HEX_LEN];
    char transaction[4 * PKI_SCEP_TRANSACTION_MAX + 4];
    char serial[128], thumbprint[PKI_THUMBPRINT_LEN], detail[256];
    uint8_t serial_bytes[64];
    size_t serial_len;
    bool issued;
    bool tell; /* else only the event is due */
    bool first; /* the service hears of it before the device does: refused, the certificate is taken back */
    bool in_flight; /* of the store: nobody else may have it in hand */
    bool silent;    /* the admin event stands already */
    bool ours;      /* that it is told was written for this notice, and for no other */
    bool unsure;    /* the same, perhaps: the store's answer was lost */
    enum notice_verdict verdict;
    bool take_back;
    unsigned attempts;
    int64_t begun_ms; /* monotonic; 0: not known */
    struct cc_buf json;
};

struct notifier {
    struct cc_pool *pool;
    pthread_t thread;
    bool started;
    struct notice *settling; /* guarded by scep->lock */
    size_t settling_count;
    int64_t next_left_ms, next_prune_ms; /* monotonic; the settler's own */
    atomic_bool adopt;                   /* another instance is gone */
};

int64_t
notify_due_ms(struct scep *scep)
{
    return store_now_ms(scep->store) + QUEUED_MS;
}

void
notice_free(struct notice *notice)
{
    if (notice == NULL)
        return;
    cc_buf_wipe(&notice->json);
    free(notice);
}

/* ---- making one ---- */

static int
write_success(struct notice *notice, X509 *certificate, struct cc_bytes csr, struct cc_err *err)
{
    struct cc_buf issuer = CC_BUF_INIT(2 * PKI_NAME_TEXT_MAX);
    struct intune_scep_success success = {
        .transaction_id = notice->transaction,
        .csr = csr,
        .thumbprint = notice->thumbprint,
        .serial_number = notice->serial,
        .ca_configuration = ca_name(notice->ca),
    };
    int64_t from;
    int rc = -1;

    if (pki_cert_validity(certificate, &from, &success.not_after_ms, err) == 0 &&
            pki_name_format(X509_get_issuer_name(certificate), &issuer, err) == 0) {
        success.issuer = cc_buf_str(&issuer);
        rc = intune_scep_success_write(&success, &notice->json, err);
    }
    cc_buf_free(&issuer);
    return rc;
}

static int
read_certificate(struct notice *notice, X509 *certificate, struct cc_err *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    struct cc_buf text = CC_BUF_INIT(sizeof(notice->serial) - 1);
    int rc = -1;

    notice->serial_len = (size_t)ASN1_STRING_length(serial);
    if (notice->serial_len > sizeof(notice->serial_bytes))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a serial number of %zu bytes", notice->serial_len);
    memcpy(notice->serial_bytes, ASN1_STRING_get0_data(serial), notice->serial_len);
    if (pki_cert_serial(certificate, &text, err) == 0 &&
            pki_cert_thumbprint(certificate, notice->thumbprint, err) == 0) {
        (void)cc_strcpy(notice->serial, sizeof(notice->serial), cc_buf_str(&text));
        for (char *c = notice->thumbprint; *c != '\0'; c++)
            *c = *c >= 'a' && *c <= 'f' ? (char)(*c - 'a' + 'A') : *c;
        rc = 0;
    }
    cc_buf_free(&text);
    return rc;
}

static int
fill(struct notice *notice, const struct scepdb_ending *ending, X509 *certificate,
        struct cc_bytes csr, struct cc_err *err)
{
    if (!notice->issued) {
        const struct intune_scep_failure failure = {
            .transaction_id = notice->transaction,
            .csr = csr,
            .hresult = ending->hresult,
            .description = notice->detail,
        };
        return notice->tell ? intune_scep_failure_write(&failure, &notice->json, err) : 0;
    }
    if (read_certificate(notice, certificate, err) != 0)
        return -1;
    return notice->tell ? write_success(notice, certificate, csr, err) : 0;
}

int
notice_new(const struct task *task, const struct scepdb_ending *ending, X509 *certificate,
        struct notice **ret_notice, struct cc_err *err)
{
    struct notice *notice = calloc(1, sizeof(*notice));

    if (notice == NULL)
        return cc_err_nomem(err);
    notice->scep = task->endpoint->scep;
    notice->ca = task->endpoint->settings.ca;
    memcpy(notice->id, task->id, SCEPDB_ID_LEN);
    (void)cc_strcpy(notice->request_id, sizeof(notice->request_id), task->request_id);
    (void)cc_strcpy(notice->transaction, sizeof(notice->transaction), task->transaction);
    (void)cc_strcpy(notice->detail, sizeof(notice->detail),
            ending->detail != NULL ? ending->detail : "");
    notice->issued = certificate != NULL;
    notice->tell = ending->notify == SCEPDB_NOTIFY_DUE;
    notice->first = task->endpoint->settings.before_reply && notice->issued && notice->tell;
    notice->begun_ms = task->begun_ms;
    cc_buf_init(&notice->json, JSON_MAX);
    if (fill(notice, ending, certificate, cc_buf_bytes(&task->csr_der), err) != 0) {
        notice_free(notice);
        return -1;
    }
    *ret_notice = notice;
    return 0;
}

int
notice_of_row(struct scep *scep, const struct scepdb_row *row, struct notice **ret_notice,
        struct cc_err *err)
{
    const struct scepdb_ending ending = {
        .certificate = row->certificate,
        .notify = row->notify,
        .detail = row->detail,
        .hresult = row->hresult,
    };
    struct endpoint *endpoint = endpoint_find(scep, row->profile);
    X509 *certificate = NULL;
    struct task *task;
    int rc = -1;

    if (endpoint == NULL)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "the SCEP profile \"%s\" of an enrolment is not configured any more", row->profile);
    if (row->certificate.len > 0 && pki_cert_parse(row->certificate, &certificate, err) != 0)
        return -1;
    if ((task = task_new_resumed(endpoint, row)) == NULL)
        cc_err_nomem(err);
    else if (row->notify != SCEPDB_NOTIFY_DUE || task_unseal_csr(task, row->csr, err) == 0)
        rc = notice_new(task, &ending, certificate, ret_notice, err);
    if (rc == 0) {
        (*ret_notice)->begun_ms = 0;
        (*ret_notice)->attempts = row->attempts;
    }
    task_free(task);
    X509_free(certificate);
    return rc;
}

/* ---- events ---- */

static struct event_fields
fields_of(const struct notice *notice)
{
    return (struct event_fields){
        .request_id = notice->request_id,
        .transaction_id = notice->transaction,
        .serial_number = notice->issued ? notice->serial : NULL,
        .thumbprint = notice->issued ? notice->thumbprint : NULL,
        .ca = ca_name(notice->ca),
        .duration_ms = notice->begun_ms > 0 ? cc_clock_mono_ms() - notice->begun_ms : 0,
        .deferred = true,
    };
}

/* Exactly one of these a request. */
static void
say_end(const struct notice *notice)
{
    const struct event_fields fields = fields_of(notice);
    struct eventlog *log = notice->scep->log;

    if (notice->silent)
        return;
    if (!notice->issued)
        eventlog_write(log, EVENT_SCEP_REQUEST_ISSUED_FAILURE, &fields,
                "No certificate was issued for SCEP request %s: %s", notice->transaction,
                notice->detail);
    else if (notice->verdict == NOTICE_REFUSED)
        eventlog_write(log, EVENT_SCEP_REQUEST_UPLOAD_FAILURE, &fields,
                "Certificate %s was issued for SCEP request %s, but the service did not take the "
                "news: %s%s",
                notice->serial, notice->transaction, notice->detail,
                notice->take_back ? "; the certificate was revoked" : "");
    else
        eventlog_write(log, EVENT_SCREP_REQUEST_SUCCESS, &fields,
                "Certificate %s was issued for SCEP request %s%s", notice->serial,
                notice->transaction, notice->tell ? ", and the service was told" : "");
}

/* ---- telling ---- */

/* The service's word is final unless it may have been out of order itself. */
static bool
is_final(const struct cc_err *err)
{
    return err->domain == CC_DOM_HTTP && err->code >= 400 && err->code < 500 && err->code != 401 &&
           err->code != 403 && err->code != 404 && err->code != 408 && err->code != 410 &&
           err->code != 429;
}

static enum notice_verdict
ask(struct notice *notice, int64_t ms)
{
    struct scep *scep = notice->scep;
    struct intune_scep_answer said = { .accepted = false };
    struct event_fields fields = fields_of(notice);
    struct cc_err err = { 0 };

    if (intune_scep_notify(scep->intune, notice->issued ? INTUNE_SCEP_SUCCESS : INTUNE_SCEP_FAILURE,
                cc_buf_str(&notice->json), cc_deadline_in(ms), &said, &err) != 0) {
        if (is_final(&err)) {
            (void)cc_strcpy(notice->detail, sizeof(notice->detail), cc_err_text(&err));
            return NOTICE_REFUSED;
        }
        fields.error = &err;
        eventlog_write(scep->log, EVENT_SCEP_NOTIFY_ATTEMPT_FAILED, &fields,
                "The service could not be told of SCEP request %s; it is tried again: %s",
                notice->transaction, cc_err_text(&err));
        return NOTICE_LATER;
    }
    if (said.accepted) {
        eventlog_write(scep->log, EVENT_SCEP_NOTIFY_SUCCESS, &fields,
                "The service was told of SCEP request %s", notice->transaction);
        return NOTICE_TAKEN;
    }
    if (notice->issued)
        (void)snprintf(notice->detail, sizeof(notice->detail), "%s: %.180s", said.code,
                said.description);
    return NOTICE_REFUSED;
}

/* A certificate that nobody may have does not stay good: until the CA has revoked it nothing is settled. */
static enum notice_verdict
take_back(struct notice *notice)
{
    const struct ca_revocation revocation = {
        .serial = { notice->serial_bytes, notice->serial_len },
        .reason = PKI_REASON_CESSATION_OF_OPERATION,
        .deadline = cc_deadline_in(REVOKE_MS),
    };
    struct cc_err err = { 0 };
    const enum ca_outcome outcome = ca_revoke(notice->ca, &revocation, NULL, &err);

    notice->take_back = true;
    if (outcome == CA_DONE || outcome == CA_NOT_FOUND)
        return NOTICE_REFUSED;
    cc_log(CC_LOG_ERROR, "scep",
            "certificate %s, which the service did not accept, could not be revoked: %s",
            notice->serial, cc_err_text(&err));
    return outcome == CA_REFUSED ? NOTICE_REFUSED : NOTICE_LATER;
}

static enum notice_verdict
tell(struct notice *notice, int64_t ms)
{
    const enum notice_verdict verdict = ask(notice, ms);

    return verdict == NOTICE_REFUSED && notice->first ? take_back(notice) : verdict;
}

static void
put_off(struct notice *notice)
{
    struct cc_err err = { 0 };
    const int64_t wait = cc_backoff_ms(notice->attempts, LATER_BASE_MS, LATER_CAP_MS);

    if (scepdb_tell_later(notice->scep->store, (struct cc_bytes){ notice->id, SCEPDB_ID_LEN },
                store_now_ms(notice->scep->store) + wait, &err) != 0)
        cc_log(CC_LOG_WARNING, "scep", "%s", cc_err_text(&err));
}

/* ---- settling ---- */

static struct scepdb_settled
settled_of(const struct notice *notice)
{
    return (struct scepdb_settled){
        .id = { notice->id, SCEPDB_ID_LEN },
        .failed = notice->verdict == NOTICE_REFUSED,
        .take_back = notice->take_back,
        .fail_info = PKI_SCEP_BAD_REQUEST,
    };
}

/* Devices that asked meanwhile for what was in hand ask again. */
static void
end_flight(struct notice *notice)
{
    const struct answer answer = { .kind = ANSWER_LATER };

    if (notice->in_flight)
        answer_waiting(flight_end(notice->scep, notice->id), &answer);
    notice->in_flight = false;
}

static void
put_to_settle(struct notice *take_notice)
{
    struct scep *scep = take_notice->scep;

    end_flight(take_notice);
    pthread_mutex_lock(&scep->lock);
    take_notice->next = scep->notifier->settling;
    scep->notifier->settling = take_notice;
    scep->notifier->settling_count++;
    pthread_cond_broadcast(&scep->changed);
    pthread_mutex_unlock(&scep->lock);
}

static void
tell_job(void *arg)
{
    struct notice *notice = arg;

    notice->verdict = tell(notice, TELL_MS);
    if (notice->verdict == NOTICE_LATER) {
        put_off(notice);
        end_flight(notice);
        notice_free(notice);
        return;
    }
    put_to_settle(notice);
}

void
notice_enqueue(struct scep *scep, struct notice *take_notice)
{
    if (!take_notice->tell || take_notice->silent) {
        put_to_settle(take_notice);
    } else if (!cc_pool_submit(scep->notifier->pool, tell_job, take_notice)) {
        end_flight(take_notice);
        notice_free(take_notice);
    }
}

void
notice_enqueue_again(struct notice *take_notice, bool silent)
{
    struct scep *scep = take_notice->scep;

    take_notice->silent = silent;
    if (!silent && !flight_begin(scep, take_notice->id, NULL)) {
        notice_free(take_notice);
        return;
    }
    take_notice->in_flight = !silent;
    notice_enqueue(scep, take_notice);
}

enum notice_verdict
notice_tell_now(struct scep *scep, struct notice *take_notice)
{
    const enum notice_verdict verdict = tell(take_notice, NOW_MS);
    struct scepdb_settled settled;
    struct cc_err err = { 0 };
    bool ours = true;

    take_notice->verdict = verdict;
    if (verdict == NOTICE_LATER) {
        put_off(take_notice);
        notice_free(take_notice);
        return verdict;
    }
    settled = settled_of(take_notice);
    if (scepdb_told(scep->store, &settled, 1, &ours, &err) == 0) {
        take_notice->silent = !ours;
        say_end(take_notice);
        take_notice->silent = true;
        if (eventlog_sync(scep->log, &err) == 0 &&
                scepdb_settle(scep->store, &settled, 1, &err) == 0) {
            notice_free(take_notice);
            return verdict;
        }
    }
    /* The device need not wait until the store can be used. */
    cc_log(CC_LOG_ERROR, "scep", "%s", cc_err_text(&err));
    take_notice->unsure = !take_notice->silent;
    put_to_settle(take_notice);
    return verdict;
}

/* At most SETTLE_MAX of those that wait; NULL: none. */
static struct notice *
take_settling(struct scep *scep, size_t *ret_count)
{
    struct notifier *notifier = scep->notifier;
    struct notice *list = NULL;

    *ret_count = 0;
    pthread_mutex_lock(&scep->lock);
    while (notifier->settling != NULL && *ret_count < SETTLE_MAX) {
        struct notice *one = notifier->settling;

        notifier->settling = one->next;
        notifier->settling_count--;
        one->next = list;
        list = one;
        ++*ret_count;
    }
    pthread_mutex_unlock(&scep->lock);
    return list;
}

static void
free_list(struct notice *list)
{
    while (list != NULL) {
        struct notice *next = list->next;

        notice_free(list);
        list = next;
    }
}

/* A while, and as long as there is no use in trying; false: we stop. */
static bool
wait_recordable(struct scep *scep)
{
    bool go_on;

    pthread_mutex_lock(&scep->lock);
    do
        go_on = scep_wait(scep, STORE_RETRY_MS);
    while (go_on && !scep_can_record(scep));
    pthread_mutex_unlock(&scep->lock);
    return go_on;
}

/* What is to be settled together. */
struct settling {
    struct scep *scep;
    struct notice *notice[SETTLE_MAX];
    struct scepdb_settled settled[SETTLE_MAX];
    size_t count;
};

/* As after a crash: where nobody knows whether it was us who wrote that it is told, the log says what is missing. */
static int
settle_unsure(struct settling *s, struct notice *notice, struct cc_err *err)
{
    const char *const id = notice->request_id;

    if (eventlog_find_admin_events(s->scep->log, &id, 1, 0, &notice->silent, err) != 0)
        return -1;
    notice->unsure = false;
    notice->ours = !notice->silent;
    return 0;
}

/* Durable before the event is: where we end between the two, our next run looks for it in the log; nobody else can. */
static int
settle_told(struct settling *s, struct cc_err *err)
{
    struct scepdb_settled told[SETTLE_MAX];
    struct notice *notice[SETTLE_MAX];
    bool ours[SETTLE_MAX];
    size_t count = 0;

    for (size_t i = 0; i < s->count; i++) {
        if (!s->notice[i]->tell)
            continue;
        notice[count] = s->notice[i];
        told[count++] = s->settled[i];
    }
    if (count == 0)
        return 0;
    if (scepdb_told(s->scep->store, told, count, ours, err) != 0) {
        for (size_t i = 0; i < count; i++)
            notice[i]->unsure = !notice[i]->silent && !notice[i]->ours;
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        notice[i]->ours = notice[i]->ours || ours[i];
    for (size_t i = 0; i < count; i++) {
        if (notice[i]->ours)
            continue;
        if (!notice[i]->unsure)
            notice[i]->silent = true;
        else if (settle_unsure(s, notice[i], err) != 0)
            return -1;
    }
    return 0;
}

static int
settle_ended(struct settling *s, struct cc_err *err)
{
    if (eventlog_sync(s->scep->log, err) != 0)
        return -1;
    return scepdb_settle(s->scep->store, s->settled, s->count, err);
}

/* What cannot be made durable now is settled by what the store says, at the next start at the latest.  false: we stop. */
static bool
settle_step(struct settling *s, int (*step)(struct settling *s, struct cc_err *err))
{
    struct cc_err err = { 0 };
    bool go_on = true;

    while (go_on && step(s, &err) != 0) {
        cc_log(CC_LOG_ERROR, "scep", "%s", cc_err_text(&err));
        cc_err_clear(&err);
        go_on = wait_recordable(s->scep);
    }
    return go_on;
}

static void
settle(struct scep *scep, struct notice *take_list)
{
    struct settling s = { .scep = scep };

    for (struct notice *one = take_list; one != NULL; one = one->next) {
        s.notice[s.count] = one;
        s.settled[s.count++] = settled_of(one);
    }
    if (settle_step(&s, settle_told)) {
        for (size_t i = 0; i < s.count; i++)
            say_end(s.notice[i]);
        (void)settle_step(&s, settle_ended);
    }
    free_list(take_list);
}

/* ---- out of the store ---- */

struct walk {
    struct scepdb_row *row[WALK_MAX];
    size_t count;
};

static int
note_due(void *arg, const struct scepdb_row *row)
{
    struct walk *walk = arg;

    if (row->id.len == SCEPDB_ID_LEN && (walk->row[walk->count] = row_copy(row)) != NULL)
        walk->count++;
    return walk->count == WALK_MAX;
}

/* Takes a row in hand, unless somebody has it.  -1: no notice can be made of it now. */
static int
enqueue_row(struct scep *scep, const struct scepdb_row *row, struct cc_err *err)
{
    const struct answer later = { .kind = ANSWER_LATER };
    struct notice *notice = NULL;

    if (!flight_begin(scep, row->id.data, NULL))
        return 0;
    if (notice_of_row(scep, row, &notice, err) != 0) {
        answer_waiting(flight_end(scep, row->id.data), &later);
        return -1;
    }
    notice->in_flight = true;
    notice_enqueue(scep, notice);
    return 0;
}

/* *ret_ms: until there may be others.  The token is away, or a profile is gone: one line for all, now and then. */
static void
walk_due(struct scep *scep, int64_t *ret_ms)
{
    struct walk walk = { .count = 0 };
    const int64_t now_ms = store_now_ms(scep->store);
    struct cc_err err = { 0 }, why = { 0 };
    int64_t next_ms = 0;
    size_t waiting = 0;

    *ret_ms = WALK_MS;
    if (scepdb_walk_due(scep->store, now_ms, WALK_MAX, note_due, &walk, &next_ms, &err) != 0)
        cc_log(CC_LOG_WARNING, "scep", "%s", cc_err_text(&err));
    if (next_ms > 0 && next_ms - now_ms < *ret_ms)
        *ret_ms = next_ms > now_ms ? next_ms - now_ms : 0;
    for (size_t i = 0; i < walk.count; i++) {
        cc_err_clear(&err);
        if (enqueue_row(scep, walk.row[i], &err) != 0) {
            if (waiting++ == 0)
                why = err;
            (void)(scepdb_tell_later(scep->store, walk.row[i]->id, now_ms + PUT_OFF_MS, NULL) == 0);
        }
        free(walk.row[i]);
    }
    if (waiting > 0)
        cc_log(CC_LOG_WARNING, "scep", "%zu notifications wait: %s", waiting, cc_err_text(&why));
}

static void
tidy(struct scep *scep)
{
    struct notifier *notifier = scep->notifier;
    const int64_t now = cc_clock_mono_ms();
    struct cc_err err = { 0 };
    int64_t adopted = 0;
    bool more = true;

    if (now >= notifier->next_left_ms || atomic_exchange(&notifier->adopt, false)) {
        if (scepdb_adopt(scep->store, &adopted, &err) != 0)
            cc_log(CC_LOG_WARNING, "scep", "%s", cc_err_text(&err));
        cc_err_clear(&err);
        recover_left(scep);
        if (eventlog_sync(scep->log, &err) != 0)
            cc_log(CC_LOG_WARNING, "scep", "%s", cc_err_text(&err));
        notifier->next_left_ms = now + LEFT_MS;
    }
    if (now < notifier->next_prune_ms)
        return;
    while (more &&
            scepdb_prune(scep->store, store_now_ms(scep->store), PRUNE_MAX, &more, &err) == 0)
        ;
    notifier->next_prune_ms = now + 60 * LEFT_MS;
}

/* ---- the settler ---- */

static bool
wait_settling(struct scep *scep, int64_t ms)
{
    bool go_on = true;

    pthread_mutex_lock(&scep->lock);
    if (scep->notifier->settling == NULL)
        go_on = scep_wait(scep, ms);
    pthread_mutex_unlock(&scep->lock);
    return go_on;
}

/* Nobody else knows which of our rows have their event; false: we stop. */
static bool
recover_until_done(struct scep *scep)
{
    struct cc_err err = { 0 };
    bool go_on = true;

    while (go_on && recover_own(scep, &err) != 0) {
        cc_log(CC_LOG_ERROR, "scep", "%s", cc_err_text(&err));
        cc_err_clear(&err);
        go_on = wait_recordable(scep);
    }
    return go_on;
}

static void *
settler_run(void *arg)
{
    struct scep *scep = arg;
    int64_t walk_at = 0, wait_ms = WALK_MS;
    bool go_on;

    (void)hsm_work_for(HSM_WORK_ENROLMENT);
    go_on = recover_until_done(scep);
    while (go_on) {
        size_t count;
        struct notice *list;
        const bool due = cc_clock_mono_ms() >= walk_at || atomic_load(&scep->notifier->adopt);

        if (due && !scep_can_record(scep)) {
            walk_at = cc_deadline_in(STORE_RETRY_MS);
        } else if (due) {
            tidy(scep);
            walk_due(scep, &wait_ms);
            walk_at = cc_clock_mono_ms() + wait_ms;
        }
        go_on = wait_settling(scep, cc_deadline_left(walk_at));
        while ((list = take_settling(scep, &count)) != NULL)
            settle(scep, list);
    }
    return NULL;
}

void
notify_adopt(struct scep *scep)
{
    atomic_store(&scep->notifier->adopt, true);
    pthread_mutex_lock(&scep->lock);
    pthread_cond_broadcast(&scep->changed);
    pthread_mutex_unlock(&scep->lock);
}

int
notify_start(struct scep *scep, struct cc_err *err)
{
    struct notifier *notifier = calloc(1, sizeof(*notifier));
    int rc;

    if (notifier == NULL)
        return cc_err_nomem(err);
    scep->notifier = notifier;
    if ((notifier->pool = cc_pool_open("cc-scep-tell", TELLERS, QUEUE_MAX, err)) == NULL)
        return -1;
    if ((rc = pthread_create(&notifier->thread, NULL, settler_run, scep)) != 0)
        return cc_err_set_errno(err, rc, "thread of the SCEP notifications");
    (void)pthread_setname_np(notifier->thread, "cc-scep-settle");
    notifier->started = true;
    return 0;
}

void
notify_stop(struct scep *scep, int64_t deadline)
{
    struct notifier *notifier = scep->notifier;

    if (notifier == NULL)
        return;
    if (notifier->pool != NULL && !cc_pool_drain(notifier->pool, deadline))
        intune_cancel(scep->intune);
    cc_pool_close(notifier->pool);
    pthread_mutex_lock(&scep->lock);
    scep->stopping = true;
    pthread_cond_broadcast(&scep->changed);
    pthread_mutex_unlock(&scep->lock);
    if (notifier->started)
        pthread_join(notifier->thread, NULL);
    free_list(notifier->settling);
    free(notifier);
    scep->notifier = NULL;
}
