/* SPDX-License-Identifier: MIT */
/* The way of requests through a flow, against a service in this process, with work that does as it is told. */

#include "flow/flow.h"

#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/breaker.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "service_sim.h"
#include "store/store.h"
#include "tests/unit/memory_store.h"

#define LEASE_MS 300000
#define SHORT_LEASE_MS 3000 /* a service tells times of its own in whole seconds */
#define WORKERS 4
#define HELD_MAX 500 /* as flow.h promises */
#define SICK_TOO_MANY "sick-500"
#define BATCH 10

/* One connector with everything that a flow needs. */
struct rig {
    char folder[64];
    struct sim *sim;
    struct store *store;
    struct eventlog *log;
    struct intune *intune;
    struct flow *flow;
    struct flow_kind kind;
    int64_t poll_wait_ms;
    int64_t poll_interval_ms;
    unsigned failing; /* downloads that fail before one does not */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ready;        /* guarded by lock */
    unsigned asked;    /* guarded by lock: whether it is ready */
    bool gate_closed;  /* guarded by lock: work waits */
    unsigned at_gate;  /* guarded by lock */
    unsigned troubles; /* guarded by lock: so many tries find the token away */
    unsigned unknown;  /* guarded by lock: so many tries end without knowing what came of them */
    unsigned worked;   /* guarded by lock: finished */
    unsigned prepared; /* guarded by lock: calls of flow_prepare() */
    char note[32];     /* guarded by lock: that the last finished try found, "-" for none */
    unsigned withdraw_fails, withdrawn; /* guarded by lock */
    char withdrawn_serial[65];          /* guarded by lock */
    unsigned lanes;
    bool sick;           /* guarded by lock: the CA "sick" fails */
    unsigned sick_calls; /* guarded by lock: so many times */
    unsigned at_sick,
            at_sick_late; /* guarded by lock: calls at once, and the most of those after the first few */
    unsigned offered; /* guarded by lock: of the source, requests not yet answered */
    unsigned polls;   /* guarded by lock: downloads from the source */
};

/* ---- the work: a body may say "fail": "final" or "retryable" ---- */

static bool
rig_ready(void *arg)
{
    struct rig *rig = arg;
    bool ready;

    pthread_mutex_lock(&rig->lock);
    ready = rig->ready;
    rig->asked++;
    pthread_cond_broadcast(&rig->changed);
    pthread_mutex_unlock(&rig->lock);
    return ready;
}

static void
rig_describe(void *arg, json_object *body, struct flow_about *ret)
{
    (void)arg;
    if (cc_json_get_str(body, "userPrincipalName", 256, &ret->user, NULL) != 0)
        ret->user = NULL;
    if (cc_json_get_str(body, "kind", 16, &ret->variant, NULL) != 0)
        ret->variant = NULL;
    if (cc_json_get_bool(body, "prepare", false, &ret->resumes, NULL) != 0)
        ret->resumes = false;
}

/* Waits at the gate, and says whether the token is away this time. */
static bool
rig_pass_gate(struct rig *rig)
{
    bool trouble;

    pthread_mutex_lock(&rig->lock);
    rig->at_gate++;
    pthread_cond_broadcast(&rig->changed);
    while (rig->gate_closed)
        pthread_cond_wait(&rig->changed, &rig->lock);
    rig->at_gate--;
    if ((trouble = rig->troubles > 0))
        rig->troubles--;
    else
        rig->worked++;
    pthread_mutex_unlock(&rig->lock);
    return trouble;
}

/* Prepares what says "prepare", and then may not know for a while what came of it; what says "decide" waits for that. */
static enum flow_outcome
rig_begin(struct rig *rig, const struct flow_request *request, struct cc_err *err)
{
    bool prepare = false, decide = false, unknown;

    if (cc_json_get_bool(request->body, "prepare", false, &prepare, err) != 0 ||
            cc_json_get_bool(request->body, "decide", false, &decide, err) != 0)
        return FLOW_LATER;
    if (prepare && request->note == NULL) {
        if (flow_prepare(request, "{\"key\":\"sealed\"}", err) != 0)
            return FLOW_LATER;
        pthread_mutex_lock(&rig->lock);
        rig->prepared++;
        pthread_mutex_unlock(&rig->lock);
    }
    pthread_mutex_lock(&rig->lock);
    if ((unknown = prepare && rig->unknown > 0))
        rig->unknown--;
    else
        cc_strcpy(rig->note, sizeof(rig->note), request->note != NULL ? request->note : "-");
    pthread_mutex_unlock(&rig->lock);
    if (!unknown)
        return FLOW_FINISHED;
    cc_err_set(err, CC_DOM_NETWORK, 28, "no answer of the CA");
    return decide ? FLOW_PENDING : FLOW_UNKNOWN;
}

/* The one place where these tests let time pass: between two looks at what others are doing. */
static void
look_again(void)
{
    usleep(1000);
}

/* ---- CAs: what says "ca" passes the gate only where that is a CA that hangs ---- */

#define FIRST_FEW (CC_BREAKER_FAILURES + WORKERS)

static const char *
rig_lane(void *arg, json_object *body, const char *note)
{
    const char *ca = NULL;

    (void)arg;
    (void)note;
    return cc_json_get_str(body, "ca", 16, &ca, NULL) == 0 ? ca : NULL;
}

/* Whether the CA "sick" does its work. */
static bool
rig_ask_sick(struct rig *rig)
{
    bool well;

    pthread_mutex_lock(&rig->lock);
    if (!(well = !rig->sick) && rig->sick_calls++ >= FIRST_FEW &&
            ++rig->at_sick > rig->at_sick_late)
        rig->at_sick_late = rig->at_sick;
    pthread_mutex_unlock(&rig->lock);
    if (well)
        return true;
    look_again();
    pthread_mutex_lock(&rig->lock);
    if (rig->at_sick > 0)
        rig->at_sick--;
    pthread_mutex_unlock(&rig->lock);
    return false;
}

static enum flow_outcome
rig_work(void *arg, const struct flow_request *request, struct flow_result *ret, struct cc_err *err)
{
    struct rig *rig = arg;
    const char *fail = NULL;
    const char *ca = rig->kind.lane != NULL ? rig_lane(rig, request->body, NULL) : NULL;
    struct intune_pfx_result result = { .request_context = request->request_context };
    enum flow_outcome outcome;

    if (ca == NULL)
        ca = "";

    if (cc_json_get_str(request->body, "fail", 16, &fail, err) != 0)
        return FLOW_LATER;
    if (fail != NULL && strcmp(fail, "always") == 0) {
        cc_err_set(err, CC_DOM_NETWORK, 7, "the CA is away");
        return FLOW_LATER;
    }
    if (strcmp(ca, "sick") == 0 && fail == NULL && !rig_ask_sick(rig)) {
        cc_err_set(err, CC_DOM_NETWORK, 7, "the CA is away");
        return FLOW_LATER;
    }
    if ((ca[0] == '\0' || strncmp(ca, "hung", 4) == 0) && rig_pass_gate(rig)) {
        cc_err_set(err, CC_DOM_TOKEN, 1, "the token is away");
        return FLOW_LATER;
    }
    if ((outcome = rig_begin(rig, request, err)) != FLOW_FINISHED)
        return outcome;
    if (fail != NULL && strcmp(fail, "foreign") == 0) {
        cc_err_set(err, CC_DOM_SERVICE, 0, "of no CA here");
        return FLOW_NOT_OURS;
    }
    cc_buf_reset(&ret->json);
    ret->outcome = JOURNAL_SUCCEEDED;
    cc_strcpy(ret->serial_number, sizeof(ret->serial_number), "0A");
    cc_strcpy(ret->ca, sizeof(ret->ca), "corp");
    if (fail != NULL) {
        result.error_code = ret->error_code = INTUNE_CRYPTOGRAPHY_ERROR;
        result.error_message = "as told";
        result.retryable = strcmp(fail, "retryable") == 0 && !request->last_attempt;
        ret->outcome = result.retryable ? JOURNAL_FAILED_RETRYABLE : JOURNAL_FAILED_FINAL;
    }
    cc_strcpy(ret->detail, sizeof(ret->detail), fail != NULL ? "failed as told" : "worked");
    return intune_pfx_result_write(&result, &ret->json, err) == 0 ? FLOW_FINISHED : FLOW_LATER;
}

static int
rig_withdraw(void *arg, const struct flow_refused *refused, struct cc_err *err)
{
    struct rig *rig = arg;
    int rc = 0;

    pthread_mutex_lock(&rig->lock);
    if (rig->withdraw_fails > 0) {
        rig->withdraw_fails--;
        rc = cc_err_set(err, CC_DOM_NETWORK, 7, "the CA is away");
    } else {
        rig->withdrawn++;
        cc_strcpy(rig->withdrawn_serial, sizeof(rig->withdrawn_serial), refused->serial_number);
    }
    pthread_cond_broadcast(&rig->changed);
    pthread_mutex_unlock(&rig->lock);
    return rc;
}

static const struct flow_variant variants[] = {
    {
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
    },
    {
            .name = "recrypt",
            .title = "re-encrypt request",
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
    .queue = INTUNE_QUEUE_PFX_IMPORT,
    .workload = "pfx-import",
    .variants = variants,
    .variant_count = CC_COUNT(variants),
    .ready = rig_ready,
    .describe = rig_describe,
    .work = rig_work,
};

/* ---- the rig ---- */

#define must(call)                                                                                 \
    do {                                                                                           \
        struct cc_err must_err = { 0 }, *err = &must_err;                                          \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, cc_err_text(err));                                           \
    } while (0)

static void
rig_start(struct rig *rig)
{
    const struct intune_settings service = {
        .authority = sim_url(rig->sim),
        .graph = sim_url(rig->sim),
        .graph_version = "v1.0",
        .resource = sim_url(rig->sim),
        .app_id = "0000000a-0000-0000-c000-000000000000",
        .tenant = "contoso.example",
        .client_id = "11111111-2222-3333-4444-555555555555",
        .client_secret = rig->folder, /* completed below */
        .caller_info = "test",
        .allow_http = true,
        .attempts = 1,
    };
    struct intune_settings with_secret = service;
    struct flow_settings settings = {
        .store = rig->store,
        .log = rig->log,
        .connector_id = "00000000-0000-4000-8000-000000000001",
        .workers = WORKERS,
        .lanes = rig->lanes,
        .batch = BATCH,
        .poll_wait_ms = rig->poll_wait_ms,
        .poll_interval_ms = rig->poll_interval_ms,
        .max_attempts = 3,
    };
    char secret[96];

    (void)snprintf(secret, sizeof(secret), "file:%s/secret", rig->folder);
    with_secret.client_secret = secret;
    must(intune_open(&with_secret, &rig->intune, err));
    settings.intune = rig->intune;
    must(flow_start(&rig->kind, &settings, rig, &rig->flow, err));
}

static void
rig_stop(struct rig *rig)
{
    flow_stop(rig->flow, 5000);
    intune_close(rig->intune);
    rig->flow = NULL;
    rig->intune = NULL;
}

static struct rig *
rig_open(int64_t lease_ms)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct eventlog_settings log = { .connector = "test", .max_size = 1 << 30 };
    char path[96];

    assert_non_null(rig);
    cc_strcpy(rig->folder, sizeof(rig->folder), "/tmp/test_flow.XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    (void)snprintf(path, sizeof(path), "%s/secret", rig->folder);
    must(cc_file_create(path, "secret", 6, 0600, err));
    log.directory = rig->folder;
    must(eventlog_open(&log, &rig->log, err));
    must(store_open(memory_store(), &rig->store, err));
    pthread_mutex_init(&rig->lock, NULL);
    pthread_cond_init(&rig->changed, NULL);
    rig->kind = kind;
    rig->ready = true;
    rig->poll_wait_ms = 1000;
    rig->sim = sim_open(lease_ms);
    return rig;
}

static int
remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void
rig_close(struct rig *rig)
{
    if (rig->flow != NULL)
        rig_stop(rig);
    sim_close(rig->sim);
    store_close(rig->store);
    eventlog_close(rig->log);
    (void)nftw(rig->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    pthread_cond_destroy(&rig->changed);
    pthread_mutex_destroy(&rig->lock);
    free(rig);
}

static void
rig_set_gate(struct rig *rig, bool closed)
{
    pthread_mutex_lock(&rig->lock);
    rig->gate_closed = closed;
    pthread_cond_broadcast(&rig->changed);
    pthread_mutex_unlock(&rig->lock);
}

static void
rig_set_ready(struct rig *rig)
{
    pthread_mutex_lock(&rig->lock);
    rig->ready = true;
    pthread_mutex_unlock(&rig->lock);
}

static void
rig_wait_at_gate(struct rig *rig, unsigned count)
{
    pthread_mutex_lock(&rig->lock);
    while (rig->at_gate < count)
        pthread_cond_wait(&rig->changed, &rig->lock);
    pthread_mutex_unlock(&rig->lock);
}

static void
rig_enqueue_many(struct rig *rig, unsigned count)
{
    char id[32];

    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(id, sizeof(id), "request-%u", i);
        sim_enqueue(rig->sim, id, NULL);
    }
}

/* ---- looking ---- */

struct count {
    int id;
    unsigned found;
};

static int
count_line(void *arg, const char *line, size_t len)
{
    struct count *count = arg;

    (void)line;
    (void)len;
    count->found++;
    return 0;
}

/* Events of this id, of one request or of any (NULL). */
static unsigned
events(struct rig *rig, int id, const char *request_id)
{
    const struct event_filter filter = { .channel = -1,
        .id = id,
        .category = -1,
        .request_id = request_id };
    struct count count = { .id = id };

    must(eventlog_read(rig->folder, &filter, false, NULL, count_line, &count, err));
    return count.found;
}

static unsigned
admin_events(struct rig *rig, const char *request_id)
{
    const struct event_filter filter = { .channel = EVENT_CHANNEL_ADMIN,
        .category = -1,
        .request_id = request_id };
    struct count count = { 0 };

    must(eventlog_read(rig->folder, &filter, false, NULL, count_line, &count, err));
    return count.found;
}

static int
copy_error(void *arg, const char *line, size_t len)
{
    json_object *event = cc_json_parse(line, len, NULL), *error = NULL;
    const char *domain = NULL, *text = NULL;
    int64_t code = 0;

    must(cc_json_get_object(event, "error", &error, err));
    assert_non_null(error);
    must(cc_json_need_str(error, "domain", 32, &domain, err));
    must(cc_json_need_str(error, "text", 512, &text, err));
    must(cc_json_get_int(error, "code", 0, INT64_MAX, 0, &code, err));
    (void)snprintf(arg, 256, "%s %lld %s", domain, (long long)code, text);
    json_object_put(event);
    return 1;
}

/* "domain code text" of a request's admin event. */
static void
assert_error(struct rig *rig, const char *request_id, const char *want)
{
    const struct event_filter filter = { .channel = EVENT_CHANNEL_ADMIN,
        .category = -1,
        .request_id = request_id };
    char error[256] = "";

    must(eventlog_read(rig->folder, &filter, false, NULL, copy_error, error, err));
    assert_string_equal(error, want);
}

static int
copy_row(void *arg, const struct journal_entry *entry)
{
    *(struct journal_entry *)arg = *entry;
    return 0;
}

/* Only the numbers of the row are good. */
static struct journal_entry
row(struct rig *rig, const char *id)
{
    struct journal_entry entry = { 0 };

    must(journal_find(rig->store, "pfx-import", id, copy_row, &entry, err));
    return entry;
}

static struct journal_counts
counts(struct rig *rig)
{
    struct journal_counts ret = { 0 };

    must(journal_count(rig->store, "pfx-import", &ret, err));
    return ret;
}

/* ---- tests ---- */

static void
test_each_request_is_done_once(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);
    char id[32];

    (void)state;
    rig_enqueue_many(rig, 300);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 300);
    rig_stop(rig);
    assert_int_equal(rig->worked, 300);
    assert_int_equal(counts(rig).by_state[JOURNAL_CLOSED], 300);
    assert_int_equal(counts(rig).succeeded, 300);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, NULL), 300);
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(id, sizeof(id), "request-%u", i);
        assert_int_equal(sim_request(rig->sim, id).accepted, 1);
        assert_int_equal(sim_request(rig->sim, id).downloads, 1);
        assert_int_equal(admin_events(rig, id), 1);
    }
    /* Results gather while uploads are under way: not a call for each. */
    assert_true(sim_uploads(rig->sim) < 300);
    /* In hand: twice a batch at the most, and what is being uploaded. */
    assert_true(sim_max_leased(rig->sim) <= 2 * BATCH + 2 * 100);
    rig_close(rig);
}

static void
test_no_more_is_asked_for_than_fits(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->gate_closed = true;
    rig_enqueue_many(rig, 100);
    rig_start(rig);
    rig_wait_at_gate(rig, WORKERS);
    sim_wait_leased(rig->sim, 2 * BATCH);
    rig_set_gate(rig, false);
    sim_wait_accepted(rig->sim, 100);
    rig_close(rig);
}

static void
test_failures(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    sim_enqueue(rig->sim, "bad", "{\"fail\":\"final\"}");
    sim_enqueue(rig->sim, "again", "{\"fail\":\"retryable\"}");
    sim_enqueue(rig->sim, "good", NULL);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 2); /* bad and good; again is only put off */
    while (sim_request(rig->sim, "again").accepted < 1)
        look_again();
    sim_enqueue(rig->sim, "again", NULL); /* its second attempt */
    while (sim_request(rig->sim, "again").accepted < 2)
        look_again();
    assert_int_equal(sim_request(rig->sim, "again").attempt, 3);
    sim_enqueue(rig->sim, "again", NULL); /* its third and last */
    sim_wait_accepted(rig->sim, 3);
    rig_stop(rig);

    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REENCRYPT_FAILURE, "bad"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_FAILURE, "bad"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REENCRYPT_FAILED_ATTEMPT, "again"), 2);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REENCRYPT_FAILURE, "again"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, "good"), 1);
    assert_int_equal(admin_events(rig, "bad"), 1);
    assert_error(rig, "bad", "service 4003 failed as told");
    assert_int_equal(admin_events(rig, "again"), 1);
    assert_int_equal(admin_events(rig, "good"), 1);
    assert_int_equal(counts(rig).by_state[JOURNAL_CLOSED], 3);
    assert_non_null(strstr(sim_request(rig->sim, "bad").result, "CryptographyError"));
    rig_close(rig);
}

static void
test_nothing_is_asked_while_not_ready(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->ready = false;
    sim_enqueue(rig->sim, "waits", NULL);
    rig_start(rig);
    pthread_mutex_lock(&rig->lock);
    while (rig->asked < 3)
        pthread_cond_wait(&rig->changed, &rig->lock);
    pthread_mutex_unlock(&rig->lock);
    rig_stop(rig);
    assert_int_equal(sim_downloads(rig->sim), 0);
    rig->ready = true;
    rig_start(rig);
    sim_wait_accepted(rig->sim, 1);
    rig_close(rig);
}

static void
test_token_away_for_a_while(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->troubles = 3;
    sim_enqueue(rig->sim, "patient", NULL);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 1);
    rig_stop(rig);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REENCRYPT_FAILED_ATTEMPT, "patient"), 3);
    assert_int_equal(sim_request(rig->sim, "patient").downloads, 1);
    assert_int_equal(admin_events(rig, "patient"), 1);
    rig_close(rig);
}

static void
test_leases_are_renewed(void **state)
{
    struct rig *rig = rig_open(SHORT_LEASE_MS);

    (void)state;
    rig->gate_closed = true;
    sim_enqueue(rig->sim, "long", NULL);
    rig_start(rig);
    rig_wait_at_gate(rig, 1);
    while (sim_request(rig->sim, "long").renewals < 3)
        look_again();
    assert_true(sim_request(rig->sim, "long").leased);
    rig_set_gate(rig, false);
    sim_wait_accepted(rig->sim, 1);
    assert_int_equal(sim_request(rig->sim, "long").downloads, 1);
    rig_close(rig);
}

static void
test_lost_lease(void **state)
{
    struct rig *rig = rig_open(SHORT_LEASE_MS);

    (void)state;
    rig->troubles = 1000000;
    sim_enqueue(rig->sim, "taken", NULL);
    rig_start(rig);
    while (row(rig, "taken").state == 0)
        look_again();
    sim_take_back(rig->sim, "taken");
    /* Told so at the next renewal, the connector lets go, and takes it when it comes again. */
    while (row(rig, "taken").state != 0)
        look_again();
    pthread_mutex_lock(&rig->lock);
    rig->troubles = 0;
    pthread_mutex_unlock(&rig->lock);
    sim_enqueue(rig->sim, "taken", NULL);
    sim_wait_accepted(rig->sim, 1);
    rig_stop(rig);
    assert_int_equal(sim_request(rig->sim, "taken").accepted, 1);
    assert_int_equal(sim_request(rig->sim, "taken").releases, 0);
    assert_int_equal(admin_events(rig, "taken"), 1);
    rig_close(rig);
}

static void
test_stop_gives_back(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);
    unsigned released = 0, accepted = 0;
    char id[32];

    (void)state;
    rig->troubles = 1000000;
    rig_enqueue_many(rig, 20);
    rig_start(rig);
    sim_wait_leased(rig->sim, 2 * BATCH);
    rig_stop(rig);
    for (unsigned i = 0; i < 20; i++) {
        (void)snprintf(id, sizeof(id), "request-%u", i);
        released += sim_request(rig->sim, id).releases;
        accepted += sim_request(rig->sim, id).accepted;
    }
    assert_int_equal(released, 20);
    assert_int_equal(accepted, 0);
    assert_int_equal(counts(rig).by_state[JOURNAL_RECEIVED], 0);
    /* Another start does them. */
    rig->troubles = 0;
    rig_start(rig);
    sim_wait_accepted(rig->sim, 20);
    rig_close(rig);
}

static void
test_stop_ends_what_is_begun(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);
    pthread_t stopper;

    (void)state;
    rig->gate_closed = true;
    rig_enqueue_many(rig, 20);
    rig_start(rig);
    rig_wait_at_gate(rig, WORKERS);
    assert_int_equal(
            pthread_create(&stopper, NULL, (void *(*)(void *))(void (*)(void))rig_stop, rig), 0);
    rig_set_gate(rig, false);
    pthread_join(stopper, NULL);
    assert_true(counts(rig).by_state[JOURNAL_CLOSED] >= WORKERS);
    assert_int_equal(counts(rig).by_state[JOURNAL_CLOSED], counts(rig).succeeded);
    assert_int_equal(counts(rig).by_state[JOURNAL_ISSUED], 0);
    assert_int_equal(counts(rig).by_state[JOURNAL_RECEIVED], 0);
    /* A call for more that the stop cut may have leased requests that nobody here heard of. */
    sim_end_leases(rig->sim);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 20);
    rig_stop(rig);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, NULL), 20);
    rig_close(rig);
}

static void
test_stop_cuts_a_long_poll(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);
    int64_t began;

    (void)state;
    rig->poll_wait_ms = 30000;
    rig_start(rig);
    while (sim_downloads(rig->sim) == 0)
        look_again();
    began = cc_clock_mono_ms();
    rig_stop(rig);
    assert_true(cc_clock_mono_ms() - began < 4000);
    /* A call that was cut is no trouble of the service. */
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_DOWNLOAD_FAILURE, NULL), 0);
    rig_close(rig);
}

/* Refused before the first heartbeat, it is only too early; afterwards somebody must know, once. */
static void
test_feature_that_is_refused(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    sim_fail(rig->sim, "download", 403, 2);
    sim_enqueue(rig->sim, "first", NULL);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 1);
    assert_int_equal(events(rig, EVENT_FEATURE_REFUSED, NULL), 0);

    must(intune_heartbeat(rig->intune, json_object_new_object(), NULL, &(struct cc_err){ 0 }));
    sim_fail(rig->sim, "download", 403, 2);
    while (events(rig, EVENT_FEATURE_REFUSED, NULL) == 0)
        look_again();
    sim_enqueue(rig->sim, "second", NULL);
    sim_wait_accepted(rig->sim, 2);
    assert_int_equal(events(rig, EVENT_FEATURE_REFUSED, NULL), 1);
    rig_stop(rig);
    rig_close(rig);
}

static void
test_refused_result_holds_up_no_other(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    sim_enqueue(rig->sim, "poison", NULL);
    rig_enqueue_many(rig, 30);
    sim_refuse_result(rig->sim, "poison");
    rig_start(rig);
    sim_wait_accepted(rig->sim, 30);
    while (row(rig, "poison").state != JOURNAL_CLOSED)
        look_again();
    rig_stop(rig);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_FAILURE, "poison"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, NULL), 30);
    assert_true(events(rig, EVENT_PKCS_IMPORT_UPLOAD_FAILURE, "poison") == 1);
    assert_error(rig, "poison", "service 4000 the service refused its result");
    rig_close(rig);
}

static void
test_unanswered_result_holds_up_no_other(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    sim_enqueue(rig->sim, "mute", NULL);
    sim_mute_result(rig->sim, "mute");
    rig_enqueue_many(rig, 30);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 30);
    while (row(rig, "mute").state != JOURNAL_CLOSED)
        look_again();
    rig_stop(rig);
    assert_true(sim_request(rig->sim, "mute").uploads > 1);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_UPLOAD_FAILURE, "mute"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_FAILURE, "mute"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, NULL), 30);
    rig_close(rig);
}

static void
test_service_trouble(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    sim_enqueue(rig->sim, "stubborn", NULL);
    sim_fail(rig->sim, "upload", 500, 2);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 1);
    rig_stop(rig);
    assert_int_equal(rig->worked, 1);
    assert_int_equal(sim_request(rig->sim, "stubborn").accepted, 1);
    assert_int_equal(admin_events(rig, "stubborn"), 1);
    rig_close(rig);
}

/* Journaled as closed, and out of the flow's hands: one that comes again while it is in hand is taken for the same. */
static void
wait_closed(struct rig *rig, const char *id)
{
    struct flow_status status;

    do {
        look_again();
        flow_get_status(rig->flow, &status);
    } while (row(rig, id).state != JOURNAL_CLOSED || status.in_hand != 0);
}

static void
test_completed_request_comes_again(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    sim_enqueue(rig->sim, "twice", NULL);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 1);
    wait_closed(rig, "twice");
    sim_enqueue(rig->sim, "twice", NULL);
    while (sim_request(rig->sim, "twice").uploads < 2)
        look_again();
    rig_stop(rig);
    assert_int_equal(rig->worked, 1);
    assert_int_equal(sim_request(rig->sim, "twice").accepted, 1);
    assert_int_equal(admin_events(rig, "twice"), 1);
    rig_close(rig);
}

static void
test_discarded_result_is_asked_for_again(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    sim_enqueue(rig->sim, "late", NULL);
    sim_lose_result(rig->sim, "late");
    rig_start(rig);
    wait_closed(rig, "late");
    assert_int_equal(admin_events(rig, "late"), 0);
    sim_enqueue(rig->sim, "late", NULL);
    sim_wait_accepted(rig->sim, 1);
    while (row(rig, "late").state != JOURNAL_CLOSED)
        look_again();
    rig_stop(rig);
    assert_int_equal(row(rig, "late").verdict, JOURNAL_ACCEPTED);
    assert_int_equal(rig->worked, 1);
    assert_int_equal(admin_events(rig, "late"), 1);
    assert_int_equal(counts(rig).succeeded, 1);
    rig_close(rig);
}

/* ---- after a crash ---- */

struct crash_case {
    const char *name;
    enum journal_state state; /* of the row that was left */
    bool event;               /* the admin event stands */
    bool service_knows;       /* the service has the result */
    unsigned want_worked;
};

static const struct crash_case crash_cases[] = {
    { "received", JOURNAL_RECEIVED, false, false, 1 },
    { "issued", JOURNAL_ISSUED, false, false, 0 },
    { "issued, uploaded", JOURNAL_ISSUED, false, true, 0 },
    { "failed", JOURNAL_FAILED, false, false, 0 },
    { "reported", JOURNAL_REPORTED, false, true, 0 },
    { "reported, event written", JOURNAL_REPORTED, true, true, 0 },
};

#define CRASH_ID "left"
#define CRASH_RESULT                                                                               \
    "{\"requestContext\":\"context-of-" CRASH_ID "\",\"succeeded\":true,\"errorCode\":\"None\"}"

static void
leave_row(struct rig *rig, const struct crash_case *c)
{
    const struct journal_entry entry = {
        .workload = "pfx-import",
        .request_id = CRASH_ID,
        .request_context = "context-of-" CRASH_ID,
        .attempt = 1,
        .received_ms = cc_clock_now_ms(),
        .lease_until_ms = cc_clock_now_ms() + LEASE_MS,
    };
    const struct journal_report report = { CRASH_ID, JOURNAL_ACCEPTED };
    const struct event_fields fields = { .request_id = CRASH_ID };
    enum journal_todo todo;

    must(journal_receive(rig->store, &entry, 1, &todo, err));
    if (c->state == JOURNAL_RECEIVED)
        return;
    must(journal_finish(rig->store, "pfx-import", CRASH_ID,
            c->state == JOURNAL_FAILED ? JOURNAL_FAILED_FINAL : JOURNAL_SUCCEEDED, CRASH_RESULT,
            c->state == JOURNAL_FAILED ? "CryptographyError" : NULL, "left", err));
    if (c->state == JOURNAL_REPORTED)
        must(journal_report(rig->store, "pfx-import", &report, 1, err));
    if (c->event)
        assert_int_equal(eventlog_write(rig->log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, &fields,
                                 "written before the crash"),
                0);
}

static void
test_crash(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(crash_cases); i++) {
        const struct crash_case *c = &crash_cases[i];
        struct rig *rig = rig_open(LEASE_MS);

        print_message("  %s\n", c->name);
        leave_row(rig, c);
        /* What the service knows: leased to us, or completed with the very result. */
        sim_enqueue(rig->sim, CRASH_ID, NULL);
        rig->ready = false;
        if (c->service_knows)
            sim_complete(rig->sim, CRASH_ID, CRASH_RESULT);
        else
            sim_lease(rig->sim, CRASH_ID);
        rig_start(rig);
        rig_set_ready(rig);
        sim_wait_accepted(rig->sim, 1);
        while (row(rig, CRASH_ID).state != JOURNAL_CLOSED)
            look_again();
        rig_stop(rig);
        assert_int_equal(rig->worked, c->want_worked);
        assert_int_equal(sim_request(rig->sim, CRASH_ID).releases, c->state == JOURNAL_RECEIVED);
        assert_int_equal(sim_request(rig->sim, CRASH_ID).accepted, 1);
        assert_int_equal(admin_events(rig, CRASH_ID), 1);
        assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_FAILURE, CRASH_ID),
                c->state == JOURNAL_FAILED);
        if (c->state == JOURNAL_FAILED)
            assert_error(rig, CRASH_ID, "service 4003 left");
        rig_close(rig);
    }
}

static void
test_many_reported_rows(void **state)
{
    enum { ROWS = 250 }; /* more than are closed at once */
    struct rig *rig = rig_open(LEASE_MS);
    char id[ROWS][16];

    (void)state;
    for (int i = 0; i < ROWS; i++) {
        const struct journal_entry entry = { .workload = "pfx-import",
            .request_id = id[i],
            .request_context = "context",
            .attempt = 1 };
        const struct journal_report report = { id[i],
            i % 5 == 0 ? JOURNAL_LEASE_LOST : JOURNAL_ACCEPTED };
        const struct event_fields fields = { .request_id = id[i], .deferred = true };
        enum journal_todo todo;

        (void)snprintf(id[i], sizeof(id[i]), "row-%d", i);
        must(journal_receive(rig->store, &entry, 1, &todo, err));
        must(journal_finish(rig->store, "pfx-import", id[i], JOURNAL_SUCCEEDED, CRASH_RESULT, NULL,
                "left", err));
        must(journal_report(rig->store, "pfx-import", &report, 1, err));
        if (i % 5 == 1)
            assert_int_equal(eventlog_write(rig->log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, &fields,
                                     "written before the crash"),
                    0);
    }
    rig_start(rig);
    /* News of an instance that is gone, while what our own run left is still looked at. */
    while (counts(rig).by_state[JOURNAL_CLOSED] < ROWS) {
        flow_adopt(rig->flow);
        look_again();
    }
    rig_stop(rig);
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(admin_events(rig, id[i]), i % 5 != 0);
    rig_close(rig);
}

/* ---- what was begun outside ---- */

#define BEGUN "{\"prepare\":true}"

static void
leave_prepared(struct rig *rig, const char *note)
{
    const struct journal_entry entry = {
        .workload = "pfx-import",
        .request_id = CRASH_ID,
        .request_context = "context-of-" CRASH_ID,
        .attempt = 1,
        .body = BEGUN,
        .lease_until_ms = cc_clock_now_ms() + LEASE_MS,
    };
    enum journal_todo todo;

    must(journal_receive(rig->store, &entry, 1, &todo, err));
    if (note != NULL)
        must(journal_prepare(rig->store, "pfx-import", CRASH_ID, note, err));
}

static void
test_begun_request_is_worked_on_after_a_crash(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    leave_prepared(rig, "the note");
    sim_enqueue(rig->sim, CRASH_ID, BEGUN);
    sim_lease(rig->sim, CRASH_ID);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 1);
    rig_stop(rig);
    assert_string_equal(rig->note, "the note");
    assert_int_equal(rig->prepared, 0);
    assert_int_equal(sim_request(rig->sim, CRASH_ID).releases, 0);
    assert_int_equal(admin_events(rig, CRASH_ID), 1);
    rig_close(rig);
}

static void
test_request_not_begun_goes_back_after_a_crash(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    leave_prepared(rig, NULL);
    sim_enqueue(rig->sim, CRASH_ID, BEGUN);
    sim_lease(rig->sim, CRASH_ID);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 1);
    rig_stop(rig);
    assert_string_equal(rig->note, "-");
    assert_int_equal(rig->prepared, 1);
    assert_int_equal(sim_request(rig->sim, CRASH_ID).releases, 1);
    rig_close(rig);
}

static void
test_unknown_outcome_is_not_given_back(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->unknown = 1000000;
    sim_enqueue(rig->sim, "open", BEGUN);
    rig_start(rig);
    while (events(rig, EVENT_PKCS_IMPORT_REENCRYPT_FAILED_ATTEMPT, "open") < 2)
        look_again();
    rig_stop(rig);
    assert_int_equal(row(rig, "open").state, JOURNAL_PREPARED);
    assert_int_equal(sim_request(rig->sim, "open").releases, 0);
    rig->unknown = 1;
    rig_start(rig);
    sim_wait_accepted(rig->sim, 1);
    rig_stop(rig);
    assert_int_equal(rig->prepared, 1);
    assert_string_equal(rig->note, "{\"key\":\"sealed\"}");
    assert_int_equal(sim_request(rig->sim, "open").downloads, 1);
    assert_int_equal(admin_events(rig, "open"), 1);
    rig_close(rig);
}

static void
test_unknown_outcome_outlives_its_lease(void **state)
{
    struct rig *rig = rig_open(SHORT_LEASE_MS);

    (void)state;
    rig->unknown = 1000000;
    sim_enqueue(rig->sim, "open", BEGUN);
    rig_start(rig);
    while (row(rig, "open").state != JOURNAL_PREPARED)
        look_again();
    sim_take_back(rig->sim, "open");
    while (sim_request(rig->sim, "open").refused_renewals < 1)
        look_again();
    pthread_mutex_lock(&rig->lock);
    rig->unknown = 0;
    pthread_mutex_unlock(&rig->lock);
    while (sim_request(rig->sim, "open").uploads < 1)
        look_again();
    assert_int_equal(rig->prepared, 1);
    rig_close(rig);
}

static void
test_waiting_requests_hold_no_worker(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);
    char id[32];

    (void)state;
    for (unsigned i = 0; i < 2 * WORKERS; i++) {
        (void)snprintf(id, sizeof(id), "away-%u", i);
        sim_enqueue(rig->sim, id, "{\"fail\":\"always\"}");
    }
    rig_enqueue_many(rig, 5);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 5);
    rig_stop(rig);
    assert_int_equal(counts(rig).by_state[JOURNAL_RECEIVED], 0);
    assert_int_equal(sim_request(rig->sim, "away-0").releases, 1);
    rig_close(rig);
}

/* More than there is room for wait for somebody's decision: the others are done, and those afterwards. */
static void
test_undecided_requests_take_no_room(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);
    const unsigned waiting = 3 * BATCH;
    unsigned left = 1000000;
    char id[32];

    (void)state;
    rig->unknown = left;
    for (unsigned i = 0; i < waiting; i++) {
        (void)snprintf(id, sizeof(id), "undecided-%u", i);
        sim_enqueue(rig->sim, id, "{\"prepare\":true,\"decide\":true}");
    }
    rig_enqueue_many(rig, 5);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 5);
    while (left > 1000000 - 3 * waiting) {
        look_again();
        pthread_mutex_lock(&rig->lock);
        left = rig->unknown;
        pthread_mutex_unlock(&rig->lock);
    }
    pthread_mutex_lock(&rig->lock);
    rig->unknown = 0;
    pthread_mutex_unlock(&rig->lock);
    sim_wait_accepted(rig->sim, 5 + waiting);
    assert_int_equal(rig->prepared, waiting);
    rig_stop(rig);
    for (unsigned i = 0; i < waiting; i++) {
        (void)snprintf(id, sizeof(id), "undecided-%u", i);
        assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REENCRYPT_FAILED_ATTEMPT, id), 1);
        assert_int_equal(admin_events(rig, id), 1);
    }
    rig_close(rig);
}

/* ---- CAs that hang or fail ---- */

static void
enqueue_for(struct rig *rig, const char *ca, unsigned first, unsigned count)
{
    char id[32], body[64];

    (void)snprintf(body, sizeof(body), "{\"ca\":\"%s\"}", ca);
    for (unsigned i = first; i < first + count; i++) {
        (void)snprintf(id, sizeof(id), "%s-%u", ca, i);
        sim_enqueue(rig->sim, id, body);
    }
}

static struct rig *
rig_open_lanes(unsigned lanes)
{
    struct rig *rig = rig_open(LEASE_MS);

    rig->kind.lane = rig_lane;
    rig->lanes = lanes;
    return rig;
}

/* More of their requests than there are workers or room come first. */
static void
test_hanging_cas_hold_up_no_other(void **state)
{
    struct rig *rig = rig_open_lanes(3);

    (void)state;
    rig->gate_closed = true;
    enqueue_for(rig, "hung-1", 0, 3 * BATCH);
    enqueue_for(rig, "hung-2", 0, 3 * BATCH);
    enqueue_for(rig, "good", 0, 20);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 20);
    /* Each has its own worker at least, and all that are shared are with one of them. */
    rig_wait_at_gate(rig, WORKERS + 1);
    pthread_mutex_lock(&rig->lock);
    assert_int_equal(rig->at_gate, WORKERS + 1);
    pthread_mutex_unlock(&rig->lock);
    rig_set_gate(rig, false);
    sim_wait_accepted(rig->sim, 20 + 6 * BATCH);
    rig_stop(rig);
    assert_int_equal(counts(rig).by_state[JOURNAL_CLOSED], 20 + 6 * BATCH);
    rig_close(rig);
}

static void
test_sick_ca_is_tried_with_one_at_a_time(void **state)
{
    struct rig *rig = rig_open_lanes(2);

    (void)state;
    rig->sick = true;
    enqueue_for(rig, "sick", 0, 3 * BATCH);
    enqueue_for(rig, "good", 0, 20);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 20);
    while (events(rig, EVENT_CA_UNAVAILABLE, NULL) < 1)
        look_again();
    pthread_mutex_lock(&rig->lock);
    while (rig->sick_calls < FIRST_FEW + 1) {
        pthread_mutex_unlock(&rig->lock);
        look_again();
        pthread_mutex_lock(&rig->lock);
    }
    rig->sick = false;
    assert_int_equal(rig->at_sick_late, 1);
    pthread_mutex_unlock(&rig->lock);
    sim_wait_accepted(rig->sim, 20 + 3 * BATCH);
    rig_stop(rig);
    assert_int_equal(events(rig, EVENT_CA_UNAVAILABLE, NULL), 1);
    assert_int_equal(events(rig, EVENT_CA_RECOVERED, NULL), 1);
    assert_int_equal(counts(rig).by_state[JOURNAL_CLOSED], 20 + 3 * BATCH);
    rig_close(rig);
}

/* What we refuse ourselves never comes to the CA, and says nothing of it. */
static void
test_sick_ca_is_not_well_for_what_it_never_saw(void **state)
{
    struct rig *rig = rig_open_lanes(2);

    (void)state;
    rig->sick = true;
    enqueue_for(rig, "sick", 0, FIRST_FEW);
    rig_start(rig);
    while (events(rig, EVENT_CA_UNAVAILABLE, NULL) < 1)
        look_again();
    sim_enqueue(rig->sim, "bad", "{\"ca\":\"sick\",\"fail\":\"final\"}");
    sim_wait_accepted(rig->sim, 1);
    assert_int_equal(sim_request(rig->sim, "bad").accepted, 1);
    assert_int_equal(events(rig, EVENT_CA_RECOVERED, NULL), 0);
    pthread_mutex_lock(&rig->lock);
    rig->sick = false;
    pthread_mutex_unlock(&rig->lock);
    sim_wait_accepted(rig->sim, 1 + FIRST_FEW);
    rig_stop(rig);
    assert_int_equal(events(rig, EVENT_CA_RECOVERED, NULL), 1);
    rig_close(rig);
}

/* What all need and is away is no CA's fault. */
static void
test_no_ca_is_blamed_for_the_token(void **state)
{
    struct rig *rig = rig_open_lanes(2);

    (void)state;
    rig->gate_closed = true;
    rig->troubles = FIRST_FEW;
    enqueue_for(rig, "hung", 0, 2 * BATCH);
    rig_start(rig);
    rig_wait_at_gate(rig, WORKERS);
    pthread_mutex_lock(&rig->lock);
    rig->ready = false;
    rig->gate_closed = false;
    pthread_cond_broadcast(&rig->changed);
    while (rig->troubles > 0) {
        pthread_mutex_unlock(&rig->lock);
        look_again();
        pthread_mutex_lock(&rig->lock);
    }
    pthread_mutex_unlock(&rig->lock);
    rig_set_ready(rig);
    sim_wait_accepted(rig->sim, 2 * BATCH);
    rig_stop(rig);
    assert_int_equal(events(rig, EVENT_CA_UNAVAILABLE, NULL), 0);
    rig_close(rig);
}

/* What a sick CA has in hand is bounded; what is beyond goes back, and what others have behind it is done. */
static void
test_sick_ca_holds_only_so_many(void **state)
{
    struct rig *rig = rig_open_lanes(2);

    (void)state;
    rig->sick = true;
    enqueue_for(rig, "sick", 0, HELD_MAX - 20);
    enqueue_for(rig, "good", 0, 20);
    enqueue_for(rig, "sick", HELD_MAX - 20, 60);
    rig_start(rig);
    sim_wait_accepted(rig->sim, 20);
    while (sim_request(rig->sim, SICK_TOO_MANY).releases < 1)
        look_again();
    rig_stop(rig);
    assert_true(sim_max_leased(rig->sim) <= HELD_MAX + 2 * BATCH + 20);
    assert_int_equal(counts(rig).by_state[JOURNAL_RECEIVED], 0);
    rig_close(rig);
}

/* ---- results that were not taken ---- */

static void
wait_withdrawn(struct rig *rig)
{
    pthread_mutex_lock(&rig->lock);
    while (rig->withdrawn == 0)
        pthread_cond_wait(&rig->changed, &rig->lock);
    pthread_mutex_unlock(&rig->lock);
}

static void
test_discarded_result_is_withdrawn(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->kind.withdraw = rig_withdraw;
    rig->withdraw_fails = 1;
    sim_enqueue(rig->sim, "late", NULL);
    sim_lose_result(rig->sim, "late");
    rig_start(rig);
    wait_withdrawn(rig);
    while (row(rig, "late").state != 0)
        look_again();
    assert_string_equal(rig->withdrawn_serial, "0A");
    assert_int_equal(admin_events(rig, "late"), 0);
    /* It is new when it comes again. */
    sim_enqueue(rig->sim, "late", NULL);
    sim_wait_accepted(rig->sim, 1);
    rig_stop(rig);
    assert_int_equal(rig->worked, 2);
    assert_int_equal(rig->withdrawn, 1);
    assert_int_equal(admin_events(rig, "late"), 1);
    rig_close(rig);
}

static void
test_refused_result_is_withdrawn(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->kind.withdraw = rig_withdraw;
    sim_enqueue(rig->sim, "poison", NULL);
    sim_refuse_result(rig->sim, "poison");
    rig_start(rig);
    while (row(rig, "poison").state != JOURNAL_CLOSED)
        look_again();
    rig_stop(rig);
    assert_int_equal(rig->withdrawn, 1);
    assert_int_equal(admin_events(rig, "poison"), 1);
    assert_error(rig, "poison", "service 4000 the service refused its result");
    rig_close(rig);
}

static void
test_withdrawing_survives_a_stop(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->kind.withdraw = rig_withdraw;
    rig->withdraw_fails = 1000000;
    sim_enqueue(rig->sim, "late", NULL);
    sim_lose_result(rig->sim, "late");
    rig_start(rig);
    while (row(rig, "late").state != JOURNAL_REPORTED)
        look_again();
    rig_stop(rig);
    assert_int_equal(row(rig, "late").state, JOURNAL_REPORTED);
    rig->withdraw_fails = 0;
    rig_start(rig);
    wait_withdrawn(rig);
    while (row(rig, "late").state != 0)
        look_again();
    rig_stop(rig);
    assert_int_equal(rig->withdrawn, 1);
    rig_close(rig);
}

/* ---- variants ---- */

static void
test_variants_are_told_apart(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    sim_enqueue(rig->sim, "one", NULL);
    sim_enqueue(rig->sim, "two", "{\"kind\":\"recrypt\"}");
    sim_enqueue(rig->sim, "bad", "{\"kind\":\"recrypt\",\"fail\":\"final\"}");
    rig_start(rig);
    sim_wait_accepted(rig->sim, 3);
    rig_stop(rig);
    assert_int_equal(events(rig, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, NULL), 1);
    assert_int_equal(events(rig, EVENT_PKCS_RECRYPT_REQUEST_SUCCESS, "two"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_RECRYPT_REENCRYPT_FAILURE, "bad"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_RECRYPT_REQUEST_FAILURE, "bad"), 1);
    assert_int_equal(events(rig, EVENT_PKCS_RECRYPT_DOWNLOADED_REQUEST, NULL), 2);
    assert_int_equal(events(rig, EVENT_PKCS_RECRYPT_UPLOADED_REQUEST, NULL), 2);
    assert_true(events(rig, EVENT_PKCS_RECRYPT_DOWNLOAD_SUCCESS, NULL) >= 1);
    assert_true(events(rig, EVENT_PKCS_RECRYPT_UPLOAD_SUCCESS, NULL) >= 1);
    rig_close(rig);
}

/* ---- a source without leases ---- */

static const char *const source_bodies[] = { "{\"prepare\":true}",
    "{\"prepare\":true,\"fail\":\"retryable\"}", "{\"fail\":\"foreign\"}" };

/* Offers, once an interval, what is not answered. */
static int
source_download(void *arg, unsigned max, struct intune_work **ret_work, size_t *ret_count,
        size_t *ret_malformed, struct cc_err *err)
{
    struct rig *rig = arg;
    struct intune_work *work = calloc(max, sizeof(*work));
    size_t count = 0;
    bool fails;

    if (work == NULL)
        return cc_err_nomem(err);
    pthread_mutex_lock(&rig->lock);
    fails = ++rig->polls <= rig->failing;
    pthread_cond_broadcast(&rig->changed);
    pthread_mutex_unlock(&rig->lock);
    if (fails) {
        free(work);
        return cc_err_set(err, CC_DOM_HTTP, 503, "not now");
    }
    pthread_mutex_lock(&rig->lock);
    for (size_t i = 0; i < CC_COUNT(source_bodies); i++) {
        if ((rig->offered & 1U << i) == 0)
            continue;
        work[count].body = cc_json_parse(source_bodies[i], strlen(source_bodies[i]), NULL);
        (void)snprintf(work[count].request_id, sizeof(work->request_id), "offer-%zu", i);
        cc_strcpy(work[count].request_context, sizeof(work->request_context),
                work[count].request_id);
        count++;
    }
    pthread_mutex_unlock(&rig->lock);
    *ret_work = work;
    *ret_count = count;
    *ret_malformed = 0;
    return 0;
}

static int
source_upload(void *arg, const char *const *results, size_t count,
        enum intune_verdict *ret_verdicts, struct cc_err *err)
{
    struct rig *rig = arg;

    (void)err;
    pthread_mutex_lock(&rig->lock);
    for (size_t i = 0; i < count; i++) {
        ret_verdicts[i] = INTUNE_ACCEPTED;
        if (strstr(results[i], "CryptographyError") == NULL)
            rig->offered &= ~1U;
    }
    pthread_mutex_unlock(&rig->lock);
    return 0;
}

static const struct flow_source source = { source_download, source_upload };

static void
wait_polls(struct rig *rig, unsigned count)
{
    pthread_mutex_lock(&rig->lock);
    while (rig->polls < count)
        pthread_cond_wait(&rig->changed, &rig->lock);
    pthread_mutex_unlock(&rig->lock);
}

/* The last one, and waits until what came of it has been worked. */
static void
stop_offering_last(struct rig *rig)
{
    unsigned polls;

    pthread_mutex_lock(&rig->lock);
    rig->offered &= ~(1U << 2);
    polls = rig->polls;
    pthread_mutex_unlock(&rig->lock);
    wait_polls(rig, polls + 2); /* the one under way was journaled before the next */
    while (row(rig, "offer-2").state != 0)
        look_again();
}

static void
test_source_without_leases(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->kind.source = &source;
    rig->kind.keep_ms = -1;
    rig->offered = 7;
    rig->poll_interval_ms = 50;
    rig_start(rig);
    while (events(rig, EVENT_PKCS_IMPORT_REENCRYPT_FAILED_ATTEMPT, "offer-1") < 2)
        look_again();
    stop_offering_last(rig);
    rig_stop(rig);
    assert_int_equal(admin_events(rig, "offer-0"), 1);
    /* A failure to be retried that comes again is worked again, and is no admin event. */
    assert_int_equal(admin_events(rig, "offer-1"), 0);
    /* What is of no CA here is left: no row, no event. */
    assert_int_equal(row(rig, "offer-2").state, 0);
    assert_int_equal(admin_events(rig, "offer-2"), 0);
    rig_close(rig);
}

static void
test_source_keeps_its_requests_over_a_stop(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->kind.source = &source;
    rig->kind.keep_ms = -1;
    rig->offered = 1;
    rig->troubles = 1000000;
    rig->poll_interval_ms = INT64_C(3600) * 1000;
    rig_start(rig);
    while (events(rig, EVENT_PKCS_IMPORT_REENCRYPT_FAILED_ATTEMPT, "offer-0") < 1)
        look_again();
    rig_stop(rig);
    assert_int_equal(row(rig, "offer-0").state, JOURNAL_RECEIVED);
    rig->troubles = 0;
    rig_start(rig);
    while (row(rig, "offer-0").state != JOURNAL_CLOSED)
        look_again();
    rig_stop(rig);
    assert_int_equal(admin_events(rig, "offer-0"), 1);
    /* The interval goes on over the restart. */
    assert_int_equal(rig->polls, 1);
    rig->poll_interval_ms = 1;
    rig_start(rig);
    wait_polls(rig, 3);
    rig_close(rig);
}

static void
test_source_is_asked_again_soon_when_asking_failed(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->kind.source = &source;
    rig->kind.keep_ms = -1;
    rig->failing = 1;
    rig->poll_interval_ms = INT64_C(3600) * 1000;
    rig_start(rig);
    wait_polls(rig, 2);
    rig_close(rig);
}

static unsigned
polls(struct rig *rig)
{
    unsigned count;

    pthread_mutex_lock(&rig->lock);
    count = rig->polls;
    pthread_mutex_unlock(&rig->lock);
    return count;
}

/* Whenever the wish comes, a download begins after it: here also while one is under way. */
static void
test_source_is_asked_at_once_when_somebody_wants_it(void **state)
{
    struct rig *rig = rig_open(LEASE_MS);

    (void)state;
    rig->kind.source = &source;
    rig->kind.keep_ms = -1;
    rig->poll_interval_ms = INT64_C(3600) * 1000;
    rig_start(rig);
    for (unsigned count = 1; count <= 20; count++) {
        wait_polls(rig, count);
        flow_poll_now(rig->flow);
    }
    wait_polls(rig, 21);
    rig_close(rig);
}

/* The wall clock was a day ahead when the source was asked, and is set right. */
static void
test_source_is_asked_in_time_when_the_clock_is_set_back(void **state)
{
    const int64_t day_ms = INT64_C(24 * 3600) * 1000, now = cc_clock_now_ms();
    struct rig *rig = rig_open(LEASE_MS);
    int64_t mono = cc_clock_mono_ms();

    (void)state;
    rig->kind.source = &source;
    rig->kind.keep_ms = -1;
    rig->poll_interval_ms = 50;
    cc_clock_set(now + day_ms, mono);
    rig_start(rig);
    wait_polls(rig, 1);
    while (polls(rig) < 2) {
        cc_clock_set(now, mono += 100);
        look_again();
    }
    cc_clock_real();
    rig_close(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_request_is_done_once),
        cmocka_unit_test(test_no_more_is_asked_for_than_fits),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_nothing_is_asked_while_not_ready),
        cmocka_unit_test(test_token_away_for_a_while),
        cmocka_unit_test(test_leases_are_renewed),
        cmocka_unit_test(test_lost_lease),
        cmocka_unit_test(test_stop_gives_back),
        cmocka_unit_test(test_stop_ends_what_is_begun),
        cmocka_unit_test(test_stop_cuts_a_long_poll),
        cmocka_unit_test(test_feature_that_is_refused),
        cmocka_unit_test(test_refused_result_holds_up_no_other),
        cmocka_unit_test(test_unanswered_result_holds_up_no_other),
        cmocka_unit_test(test_service_trouble),
        cmocka_unit_test(test_completed_request_comes_again),
        cmocka_unit_test(test_discarded_result_is_asked_for_again),
        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_many_reported_rows),
        cmocka_unit_test(test_begun_request_is_worked_on_after_a_crash),
        cmocka_unit_test(test_request_not_begun_goes_back_after_a_crash),
        cmocka_unit_test(test_unknown_outcome_is_not_given_back),
        cmocka_unit_test(test_unknown_outcome_outlives_its_lease),
        cmocka_unit_test(test_waiting_requests_hold_no_worker),
        cmocka_unit_test(test_undecided_requests_take_no_room),
        cmocka_unit_test(test_hanging_cas_hold_up_no_other),
        cmocka_unit_test(test_sick_ca_is_tried_with_one_at_a_time),
        cmocka_unit_test(test_sick_ca_is_not_well_for_what_it_never_saw),
        cmocka_unit_test(test_no_ca_is_blamed_for_the_token),
        cmocka_unit_test(test_sick_ca_holds_only_so_many),
        cmocka_unit_test(test_discarded_result_is_withdrawn),
        cmocka_unit_test(test_refused_result_is_withdrawn),
        cmocka_unit_test(test_withdrawing_survives_a_stop),
        cmocka_unit_test(test_variants_are_told_apart),
        cmocka_unit_test(test_source_without_leases),
        cmocka_unit_test(test_source_keeps_its_requests_over_a_stop),
        cmocka_unit_test(test_source_is_asked_again_soon_when_asking_failed),
        cmocka_unit_test(test_source_is_asked_at_once_when_somebody_wants_it),
        cmocka_unit_test(test_source_is_asked_in_time_when_the_clock_is_set_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
