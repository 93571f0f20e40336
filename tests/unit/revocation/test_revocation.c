/* SPDX-License-Identifier: MIT */
/* What becomes of a revocation request, against a service in this process and authorities that do as they are told. */

#include "revocation/revocation.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../intune/fake_service.h"
#include "base/file.h"
#include "base/json.h"
#include "ca/ca_int.h"
#include "pki/name.h"
#include "store/journal.h"
#include "tests/unit/memory_store.h"

#define HOUR_MS (60 * INT64_C(60000))
#define TAKEN "{\"@odata.context\":\"x\",\"value\":true}"
#define LAST_SERIAL "0F"

#define must(call)                                                                                 \
    do {                                                                                           \
        struct cc_err must_err = { 0 }, *err = &must_err;                                          \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, cc_err_text(err));                                           \
    } while (0)

/* ---- authorities ---- */

enum { CORP, CORP2, OTHER, LAST, CAS };

/* An authority that knows one serial, and answers otherwise where it is told to. */
struct fake_ca {
    struct ca base;
    struct ca_driver driver;
    X509 *certificate;
    const char *knows; /* upper-case hexadecimal */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum ca_outcome on_chain, on_status, on_revoke; /* guarded by lock; 0: well */
    enum cc_err_domain domain;                      /* guarded by lock: of what it says then */
    bool already;                                   /* guarded by lock */
    unsigned asked, revoked; /* guarded by lock: calls of revoke, and those that did */
    enum pki_reason reason;  /* guarded by lock: of the last */
};

/* What it is told to say, or CA_DONE. */
static enum ca_outcome
told(struct fake_ca *ca, const enum ca_outcome *outcome, struct cc_err *err)
{
    enum ca_outcome ret;

    pthread_mutex_lock(&ca->lock);
    ret = *outcome != 0 ? *outcome : CA_DONE;
    if (ret != CA_DONE && ret != CA_NOT_FOUND)
        cc_err_set(err, ca->domain, 403, "%s says so", ca->base.name);
    pthread_mutex_unlock(&ca->lock);
    return ret;
}

static bool
knows(const struct fake_ca *ca, struct cc_bytes serial)
{
    char text[200];

    assert_true(serial.len > 0 && 2 * serial.len < sizeof(text));
    cc_hex(serial.data, serial.len, true, text);
    return strcmp(text, ca->knows) == 0;
}

static enum ca_outcome
fake_ca_chain(struct ca *base, int64_t deadline, STACK_OF(X509) **ret_chain, struct cc_err *err)
{
    struct fake_ca *ca = (struct fake_ca *)base;
    enum ca_outcome outcome = told(ca, &ca->on_chain, err);

    (void)deadline;
    if (outcome == CA_DONE) {
        *ret_chain = sk_X509_new_null();
        assert_true(X509_up_ref(ca->certificate) == 1);
        assert_true(sk_X509_push(*ret_chain, ca->certificate) == 1);
    }
    return outcome;
}

static enum ca_outcome
fake_ca_status(struct ca *base, struct cc_bytes serial, int64_t deadline, enum ca_status *ret,
        struct cc_err *err)
{
    struct fake_ca *ca = (struct fake_ca *)base;
    enum ca_outcome outcome = told(ca, &ca->on_status, err);

    assert_true(deadline > cc_clock_mono_ms());
    if (outcome != CA_DONE)
        return outcome;
    *ret = CA_STATUS_GOOD;
    return knows(ca, serial) ? CA_DONE : CA_NOT_FOUND;
}

static enum ca_outcome
fake_ca_revoke(struct ca *base, const struct ca_revocation *revocation, bool *ret_already,
        struct cc_err *err)
{
    struct fake_ca *ca = (struct fake_ca *)base;
    enum ca_outcome outcome = told(ca, &ca->on_revoke, err);

    assert_true(revocation->deadline > cc_clock_mono_ms());
    if (outcome == CA_DONE && !knows(ca, revocation->serial))
        outcome = CA_NOT_FOUND;
    pthread_mutex_lock(&ca->lock);
    ca->asked++;
    if (outcome == CA_DONE) {
        ca->revoked++;
        ca->reason = revocation->reason;
        *ret_already = ca->already;
    }
    pthread_cond_broadcast(&ca->changed);
    pthread_mutex_unlock(&ca->lock);
    return outcome;
}

static void
fake_ca_open(struct fake_ca *ca, const char *name, const char *subject, const char *serial)
{
    X509_NAME *parsed = NULL;

    *ca = (struct fake_ca){
        .base = { .driver = &ca->driver },
        .driver = { .kind = "fake",
                .capabilities = CA_CAN_REVOKE | CA_CAN_HOLD | CA_CAN_REASONS | CA_CAN_STATUS,
                .chain = fake_ca_chain,
                .status = fake_ca_status,
                .revoke = fake_ca_revoke },
        .knows = serial,
        .domain = CC_DOM_NETWORK,
    };
    assert_non_null(ca->base.name = strdup(name));
    must(pki_name_parse(subject, &parsed, err));
    assert_non_null(ca->certificate = X509_new());
    assert_true(X509_set_subject_name(ca->certificate, parsed) == 1);
    X509_NAME_free(parsed);
    pthread_mutex_init(&ca->lock, NULL);
    pthread_cond_init(&ca->changed, NULL);
}

static void
fake_ca_close(struct fake_ca *ca)
{
    X509_free(ca->certificate);
    free(ca->base.name);
    pthread_cond_destroy(&ca->changed);
    pthread_mutex_destroy(&ca->lock);
}

/* Until it was asked to revoke so many times. */
static void
fake_ca_wait_asked(struct fake_ca *ca, unsigned count)
{
    pthread_mutex_lock(&ca->lock);
    while (ca->asked < count)
        pthread_cond_wait(&ca->changed, &ca->lock);
    pthread_mutex_unlock(&ca->lock);
}

static unsigned
fake_ca_asked(struct fake_ca *ca)
{
    unsigned asked;

    pthread_mutex_lock(&ca->lock);
    asked = ca->asked;
    pthread_mutex_unlock(&ca->lock);
    return asked;
}

static void
fake_ca_tell(struct fake_ca *ca, enum ca_outcome on_revoke)
{
    pthread_mutex_lock(&ca->lock);
    ca->on_revoke = on_revoke;
    pthread_mutex_unlock(&ca->lock);
}

/* ---- the rig ---- */

struct rig {
    struct fake service;
    char folder[64];
    struct store *store;
    struct eventlog *log;
    struct intune *intune;
    struct fake_ca ca[CAS];
    struct ca *cas[CAS];
    struct revocation_settings settings;
    struct revocation *work;
};

static struct rig *
rig_open(void)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    struct eventlog_settings log = { .connector = "test", .max_size = 1 << 30 };

    assert_non_null(rig);
    fake_open(&rig->service);
    (void)snprintf(rig->service.service_answer, sizeof(rig->service.service_answer), "%s", TAKEN);
    cc_strcpy(rig->folder, sizeof(rig->folder), "/tmp/test_revocation.XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    log.directory = rig->folder;
    must(eventlog_open(&log, &rig->log, err));
    must(store_open(memory_store(), &rig->store, err));
    fake_ca_open(&rig->ca[CORP], "corp", "CN=Corp CA,O=Contoso", "0A5F");
    fake_ca_open(&rig->ca[CORP2], "corp2", "CN=Corp CA,O=Contoso", "0B");
    fake_ca_open(&rig->ca[OTHER], "other", "CN=Other CA", "0C");
    fake_ca_open(&rig->ca[LAST], "last", "CN=Last CA", LAST_SERIAL);
    for (size_t i = 0; i < CAS; i++)
        rig->cas[i] = &rig->ca[i].base;
    rig->settings = (struct revocation_settings){
        .store = rig->store,
        .log = rig->log,
        .connector_id = "00000000-0000-4000-8000-000000000001",
        .cas = rig->cas,
        .ca_count = CAS,
        .reason = PKI_REASON_SUPERSEDED,
        .poll_interval_ms = HOUR_MS,
        .max_requests = 100,
        .workers = 1,
    };
    return rig;
}

/* The next download brings these, a list of objects. */
static void
rig_offer(struct rig *rig, const char *list)
{
    static char body[8192];
    const struct fake_answer answer = { .status = 200, .body = body };

    (void)snprintf(body, sizeof(body), "{\"@odata.context\":\"x\",\"value\":[%s]}", list);
    fake_script(&rig->service, FAKE_SERVICE, &answer, 1);
}

static void
rig_start(struct rig *rig)
{
    rig->settings.intune = rig->intune = fake_connect(&rig->service);
    must(revocation_start(&rig->settings, &rig->work, err));
}

static void
rig_stop(struct rig *rig)
{
    revocation_stop(rig->work, 10000);
    intune_close(rig->intune);
    rig->work = NULL;
    rig->intune = NULL;
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
    if (rig->work != NULL)
        rig_stop(rig);
    for (size_t i = 0; i < CAS; i++)
        fake_ca_close(&rig->ca[i]);
    store_close(rig->store);
    eventlog_close(rig->log);
    fake_close(&rig->service);
    (void)nftw(rig->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(rig);
}

/* ---- looking ---- */

struct seen {
    bool found;
    enum journal_state state;
    char result[1024], detail[512], body[1024];
};

static int
copy_row(void *arg, const struct journal_entry *entry)
{
    struct seen *seen = arg;

    seen->found = true;
    seen->state = entry->state;
    cc_strcpy(seen->result, sizeof(seen->result), fake_or_dash(entry->result));
    cc_strcpy(seen->detail, sizeof(seen->detail), fake_or_dash(entry->detail));
    cc_strcpy(seen->body, sizeof(seen->body), fake_or_dash(entry->body));
    return 0;
}

static struct seen
row(struct rig *rig, const char *id)
{
    struct seen seen = { .found = false };

    must(journal_find(rig->store, "revocation", id, copy_row, &seen, err));
    return seen;
}

/* The last event of an id and a request, and how many there are. */
struct events {
    unsigned count;
    char serial[80], ca[80], text[600];
};

static int
copy_event(void *arg, const char *line, size_t len)
{
    struct events *events = arg;
    json_object *json = cc_json_parse(line, len, NULL), *error = NULL;
    const char *serial = NULL, *ca = NULL, *text = NULL;

    events->count++;
    must(cc_json_get_str(json, "serialNumber", 80, &serial, err));
    must(cc_json_get_str(json, "ca", 80, &ca, err));
    must(cc_json_get_object(json, "error", &error, err));
    if (error != NULL)
        must(cc_json_get_str(error, "text", 600, &text, err));
    cc_strcpy(events->serial, sizeof(events->serial), fake_or_dash(serial));
    cc_strcpy(events->ca, sizeof(events->ca), fake_or_dash(ca));
    cc_strcpy(events->text, sizeof(events->text), fake_or_dash(text));
    json_object_put(json);
    return 0;
}

static struct events
events(struct rig *rig, enum event_id id, const char *request_id)
{
    const struct event_filter filter = { .channel = -1,
        .id = (int)id,
        .category = -1,
        .request_id = request_id };
    struct events ret = { .count = 0 };

    must(eventlog_read(rig->folder, &filter, false, NULL, copy_event, &ret, err));
    return ret;
}

/* ---- what becomes of each request ---- */

enum fate { DONE, LATER, LEFT };

#define CORP_NAME "CN=Corp CA,O=Contoso"
#define SUCCESS                                                                                    \
    "{\"requestContext\":\"one\",\"succeeded\":true,\"errorCode\":\"None\",\"errorMessage\":null}"
#define FAILURE(code, message)                                                                     \
    "{\"requestContext\":\"one\",\"succeeded\":false,\"errorCode\":\"" code                        \
    "\",\"errorMessage\":\"" message "\"}"
#define FOREIGN FAILURE("NotSupportedError", "the issuer is no CA of this connector")
#define BAD_SERIAL                                                                                 \
    FAILURE("ParameterDataInvalidError", "serialNumber is not hexadecimal, as it was reported")
#define NOT_FOUND                                                                                  \
    FAILURE("CertificateNotFoundError", "the CA does not know a certificate of this serialNumber")

/* Which of the authorities misbehaves, and how. */
struct trouble {
    unsigned ca;
    enum ca_outcome on_chain, on_status, on_revoke;
    enum cc_err_domain domain;
    unsigned cannot; /* capabilities that it lacks */
    bool already;
};

struct one_case {
    const char *name;
    const char *serial, *issuer, *configuration; /* of the request; NULL: no such member */
    struct trouble trouble, more_trouble;
    const char *filter;
    enum pki_reason reason;
    bool refuse_foreign, numeric;
    enum fate want;
    const char *want_result; /* DONE */
    const char *want_ca;     /* DONE, LATER; NULL: none */
    const char *want_detail; /* what the journal says, in part; NULL: anything */
};

static const char *
request_text(const struct one_case *one, char *ret, size_t size)
{
    json_object *json = json_object_new_object(), *last = json_object_new_object();

    must(cc_json_add_str(json, "requestContext", "one", err));
    must(cc_json_add_str(json, "serialNumber", one->serial, err));
    must(cc_json_add_str(json, "issuerName", one->issuer, err));
    must(cc_json_add_str(json, "caConfiguration", one->configuration, err));
    must(cc_json_add_str(last, "requestContext", "last", err));
    must(cc_json_add_str(last, "serialNumber", LAST_SERIAL, err));
    must(cc_json_add_str(last, "issuerName", one->filter, err));
    must(cc_json_add_str(last, "caConfiguration", "last", err));
    (void)snprintf(ret, size, "%s,", json_object_to_json_string(json));
    (void)strncat(ret, json_object_to_json_string(last), size - strlen(ret) - 1);
    json_object_put(json);
    json_object_put(last);
    return ret;
}

static void
make_trouble(struct rig *rig, const struct trouble *trouble)
{
    struct fake_ca *ca = &rig->ca[trouble->ca];

    if (trouble->on_chain != 0)
        ca->on_chain = trouble->on_chain;
    if (trouble->on_status != 0)
        ca->on_status = trouble->on_status;
    if (trouble->on_revoke != 0)
        ca->on_revoke = trouble->on_revoke;
    if (trouble->domain != CC_DOM_NONE)
        ca->domain = trouble->domain;
    ca->driver.capabilities &= ~trouble->cannot;
    ca->already = ca->already || trouble->already;
}

/* CAs come in turn, whichever request was first: both came in together, and each is worked by itself. */
static void
wait_worked(struct rig *rig, const char *id)
{
    const int64_t deadline = cc_deadline_in(20000);
    bool worked = false;

    while (!worked && cc_deadline_left(deadline) > 0) {
        const struct seen seen = row(rig, id);

        worked = !seen.found || seen.state != JOURNAL_RECEIVED ||
                 events(rig, EVENT_REVOKE_FAILED_ATTEMPT, id).count > 0;
        if (!worked)
            (void)usleep(1000);
    }
    assert_true(worked);
}

static void
run(struct rig *rig, const struct one_case *one)
{
    char list[4096];

    rig_offer(rig, request_text(one, list, sizeof(list)));
    make_trouble(rig, &one->trouble);
    make_trouble(rig, &one->more_trouble);
    rig->settings.issuer_name = one->filter;
    rig->settings.refuse_foreign = one->refuse_foreign;
    rig->settings.numeric_codes = one->numeric;
    if (one->reason != 0)
        rig->settings.reason = one->reason;
    rig_start(rig);
    fake_ca_wait_asked(&rig->ca[LAST], 1);
    wait_worked(rig, "one");
    rig_stop(rig);
}

static void
check_done(struct rig *rig, const struct one_case *one, const struct seen *seen)
{
    const bool succeeded = strstr(one->want_result, "\"succeeded\":true") != NULL;
    struct events done = events(rig, EVENT_REVOKE_REQUEST_SUCCESS, "one");
    struct events failed = events(rig, EVENT_REVOKE_REQUEST_FAILURE, "one");

    if (!seen->found || strcmp(seen->result, one->want_result) != 0)
        fail_msg("%s: result %s", one->name, seen->result);
    if (seen->state != JOURNAL_CLOSED || done.count != succeeded || failed.count != !succeeded)
        fail_msg("%s: state %d, %u and %u events", one->name, (int)seen->state, done.count,
                failed.count);
    if (strcmp(succeeded ? done.ca : failed.ca, fake_or_dash(one->want_ca)) != 0)
        fail_msg("%s: CA %s", one->name, succeeded ? done.ca : failed.ca);
    if (one->want_detail != NULL && strstr(seen->detail, one->want_detail) == NULL)
        fail_msg("%s: %s", one->name, seen->detail);
    for (size_t i = 0; i < CAS; i++)
        if (i != LAST && rig->ca[i].revoked !=
                                 (succeeded && strcmp(rig->ca[i].base.name, one->want_ca) == 0))
            fail_msg("%s: %s revoked %u", one->name, rig->ca[i].base.name, rig->ca[i].revoked);
}

/* It stays, whole, and was said to have been tried; or nothing is left of it, and nothing was said. */
static void
check_not_done(struct rig *rig, const struct one_case *one, const struct seen *seen)
{
    struct events attempts = events(rig, EVENT_REVOKE_FAILED_ATTEMPT, "one");
    unsigned ended = events(rig, EVENT_REVOKE_REQUEST_SUCCESS, "one").count +
                     events(rig, EVENT_REVOKE_REQUEST_FAILURE, "one").count +
                     events(rig, EVENT_REVOKE_FAILURE, "one").count;

    if (seen->found != (one->want == LATER) || (attempts.count > 0) != (one->want == LATER) ||
            ended != 0)
        fail_msg("%s: %s, state %d, %u attempts, %u ends, %s", one->name,
                seen->found ? "there" : "gone", (int)seen->state, attempts.count, ended,
                seen->result);
    if (one->want == LEFT)
        return;
    assert_int_equal(seen->state, JOURNAL_RECEIVED);
    assert_non_null(strstr(seen->body, one->serial));
    if (strstr(attempts.text, "says so") == NULL ||
            strcmp(attempts.ca, fake_or_dash(one->want_ca)) != 0)
        fail_msg("%s: CA %s: %s", one->name, attempts.ca, attempts.text);
}

static void
check_case(const struct one_case *one)
{
    struct rig *rig = rig_open();
    struct seen seen;

    run(rig, one);
    seen = row(rig, "one");
    if (one->want == DONE)
        check_done(rig, one, &seen);
    else
        check_not_done(rig, one, &seen);
    assert_int_equal(row(rig, "last").state, JOURNAL_CLOSED);
    rig_close(rig);
}

static void
the_right_ca_is_asked(void **state)
{
    static const struct one_case cases[] = {
        { .name = "by configuration",
                .serial = "0A5F",
                .configuration = "corp",
                .want_result = SUCCESS,
                .want_ca = "corp",
                .want_detail = "certificate 0A5F of CA \"corp\" revoked (superseded)" },
        { .name = "by configuration in other letters",
                .serial = "0A5F",
                .configuration = "CORP",
                .want_result = SUCCESS,
                .want_ca = "corp" },
        { .name = "by configuration, whatever the issuer",
                .serial = "0C",
                .issuer = CORP_NAME,
                .configuration = "other",
                .want_result = SUCCESS,
                .want_ca = "other" },
        { .name = "by issuer",
                .serial = "0C",
                .issuer = "CN=Other CA",
                .want_result = SUCCESS,
                .want_ca = "other" },
        { .name = "by issuer, as names are compared",
                .serial = "0A5F",
                .issuer = "cn=CORP ca,o=contoso",
                .want_result = SUCCESS,
                .want_ca = "corp" },
        { .name = "by issuer beside a configuration of nobody",
                .serial = "0C",
                .issuer = "CN=Other CA",
                .configuration = "nobody",
                .want_result = SUCCESS,
                .want_ca = "other" },
        { .name = "two of one subject: the one that knows it",
                .serial = "0B",
                .issuer = CORP_NAME,
                .want_result = SUCCESS,
                .want_ca = "corp2" },
        { .name = "two of one subject: neither knows it",
                .serial = "0C",
                .issuer = CORP_NAME,
                .want_result = NOT_FOUND,
                .want_ca = "corp" },
        { .name = "none named: the one that knows it",
                .serial = "0C",
                .want_result = SUCCESS,
                .want_ca = "other" },
        { .name = "empty names are none",
                .serial = "0B",
                .issuer = "",
                .configuration = "",
                .want_result = SUCCESS,
                .want_ca = "corp2" },
        { .name = "none named: one that is away holds up no other",
                .serial = "0C",
                .trouble = { .ca = CORP, .on_status = CA_RETRYABLE },
                .want_result = SUCCESS,
                .want_ca = "other" },
        { .name = "none named: one that never tells is passed over",
                .serial = "0C",
                .trouble = { .ca = CORP, .cannot = CA_CAN_STATUS },
                .more_trouble = { .ca = CORP2, .on_status = CA_REFUSED },
                .want_result = SUCCESS,
                .want_ca = "other" },
        { .name = "named by configuration, it need not tell its subject",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .on_chain = CA_RETRYABLE },
                .want_result = SUCCESS,
                .want_ca = "corp" },
        { .name = "named by its subject while another is away",
                .serial = "0C",
                .issuer = "CN=Other CA",
                .trouble = { .ca = CORP, .on_chain = CA_RETRYABLE },
                .want_result = SUCCESS,
                .want_ca = "other" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        check_case(&cases[i]);
}

static void
what_is_not_ours_is_left(void **state)
{
    static const struct one_case cases[] = {
        { .name = "foreign issuer", .serial = "0A5F", .issuer = "CN=Nobody", .want = LEFT },
        { .name = "foreign configuration",
                .serial = "0A5F",
                .configuration = "nobody",
                .want = LEFT },
        { .name = "a serial of nobody", .serial = "0D", .want = LEFT },
        { .name = "foreign, and writes serials in another way",
                .serial = "no. 7",
                .issuer = "CN=Nobody",
                .want = LEFT },
        { .name = "foreign issuer, refused",
                .serial = "0A5F",
                .issuer = "CN=Nobody",
                .refuse_foreign = true,
                .want_result = FOREIGN },
        { .name = "a serial of nobody, refused",
                .serial = "0D",
                .refuse_foreign = true,
                .numeric = true,
                .want_result = FAILURE("4006", "the issuer is no CA of this connector") },
        { .name = "the filter is the issuer",
                .serial = "0A5F",
                .issuer = CORP_NAME,
                .filter = "cn=Corp CA,O=Contoso",
                .want_result = SUCCESS,
                .want_ca = "corp" },
        { .name = "the filter is the configuration",
                .serial = "0A5F",
                .configuration = "Corp",
                .filter = "corp",
                .want_result = SUCCESS,
                .want_ca = "corp" },
        { .name = "beside the filter",
                .serial = "0A5F",
                .configuration = "corp",
                .filter = "other",
                .want = LEFT },
        { .name = "beside the filter is another's, not to be refused",
                .serial = "0C",
                .issuer = "CN=Other CA",
                .filter = CORP_NAME,
                .refuse_foreign = true,
                .want = LEFT },
        { .name = "no name, and a filter", .serial = "0A5F", .filter = "corp", .want = LEFT },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        check_case(&cases[i]);
}

static void
serials_are_read_as_reported(void **state)
{
    static const struct {
        const char *serial;
        bool good;
    } serials[] = {
        { "0A5F", true },
        { "0a5f", true },
        { "A5F", true },
        { "0000A5F", true },
        { "00000A5F", true },
        { "0A:5F", true },
        { "00:0a:5f", true },
        { "00:00:00:0A:5F", true },
        { "0A:5", false },
        { "A:5F", false },
        { "0A5:F", false },
        { "0:A5F", false },
        { ":0A:5F", false },
        { "0A:5F:", false },
        { "0A::5F", false },
        { ":", false },
        { "0A 5F", false },
        { " 0A5F", false },
        { "0A5F\n", false },
        { "0x0A5F", false },
        { "-0A5F", false },
        { "0A5G", false },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(serials); i++) {
        const struct one_case one = {
            .name = serials[i].serial,
            .serial = serials[i].serial,
            .configuration = "corp",
            .want_result = serials[i].good ? SUCCESS : BAD_SERIAL,
            .want_ca = serials[i].good ? "corp" : NULL,
        };

        check_case(&one);
    }
}

static void
serials_have_a_ceiling(void **state)
{
    char text[200];
    struct one_case one = { .serial = text, .configuration = "corp" };

    (void)state;
    memset(text, '1', sizeof(text));
    text[128] = '\0';
    one.name = "64 octets";
    one.want_result = NOT_FOUND;
    one.want_ca = "corp";
    check_case(&one);
    text[128] = '1';
    text[129] = '\0';
    one.name = "a digit more";
    one.want_result = FAILURE("ParameterDataInvalidError", "serialNumber is too long");
    one.want_ca = NULL;
    check_case(&one);
    /* Zeros in front are no part of the number; zero itself is one, of no certificate. */
    memset(text, '0', sizeof(text));
    memcpy(text + 190, "0A5F", 5);
    one.name = "zeros in front";
    one.want_result = SUCCESS;
    one.want_ca = "corp";
    check_case(&one);
    text[190] = '\0';
    one.name = "nothing but zeros";
    one.want_result = NOT_FOUND;
    check_case(&one);
}

static void
answers_for_good(void **state)
{
    static const struct one_case cases[] = {
        { .name = "revoked before",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .already = true },
                .want_result = SUCCESS,
                .want_ca = "corp",
                .want_detail = "certificate 0A5F of CA \"corp\" was revoked before" },
        { .name = "in numbers",
                .serial = "0A5F",
                .configuration = "corp",
                .numeric = true,
                .want_result =
                        "{\"requestContext\":\"one\",\"succeeded\":true,\"errorCode\":\"0\"}",
                .want_ca = "corp" },
        { .name = "not found",
                .serial = "0C",
                .configuration = "corp",
                .want_result = NOT_FOUND,
                .want_ca = "corp" },
        { .name = "its state is against it",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .on_revoke = CA_REFUSED, .domain = CC_DOM_INPUT },
                .want_result = FAILURE("ConflictError", "the CA refuses: corp says so"),
                .want_ca = "corp" },
        { .name = "the CA will not",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .on_revoke = CA_REFUSED, .domain = CC_DOM_HTTP },
                .numeric = true,
                .want_result = FAILURE("4000", "the CA refuses: corp says so"),
                .want_ca = "corp" },
        { .name = "the CA cannot revoke",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .cannot = CA_CAN_REVOKE },
                .want_result = FAILURE("NotSupportedError",
                        "the CA refuses: a CA of kind fake cannot revoke"),
                .want_ca = "corp" },
        { .name = "the CA cannot hold",
                .serial = "0A5F",
                .configuration = "corp",
                .reason = PKI_REASON_CERTIFICATE_HOLD,
                .trouble = { .ca = CORP, .cannot = CA_CAN_HOLD },
                .want_result = FAILURE("NotSupportedError",
                        "the CA refuses: a CA of kind fake cannot hold"),
                .want_ca = "corp" },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        check_case(&cases[i]);
}

static void
what_no_ca_answered_is_kept(void **state)
{
    static const struct one_case cases[] = {
        { .name = "not now",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .on_revoke = CA_RETRYABLE },
                .want = LATER,
                .want_ca = "corp" },
        { .name = "misconfigured",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .on_revoke = CA_MISCONFIGURED, .domain = CC_DOM_CONFIG },
                .want = LATER,
                .want_ca = "corp" },
        { .name = "unknown",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .on_revoke = CA_UNKNOWN },
                .want = LATER,
                .want_ca = "corp" },
        { .name = "pending",
                .serial = "0A5F",
                .configuration = "corp",
                .trouble = { .ca = CORP, .on_revoke = CA_PENDING },
                .want = LATER,
                .want_ca = "corp" },
        { .name = "the issuer that is meant cannot tell its subject",
                .serial = "0C",
                .issuer = "CN=Other CA",
                .trouble = { .ca = OTHER, .on_chain = CA_RETRYABLE },
                .refuse_foreign = true,
                .want = LATER },
        { .name = "none named, and one cannot be asked",
                .serial = "0D",
                .trouble = { .ca = CORP, .on_status = CA_RETRYABLE },
                .refuse_foreign = true,
                .want = LATER },
        { .name = "two of one subject, and one cannot be asked",
                .serial = "0B",
                .issuer = CORP_NAME,
                .trouble = { .ca = CORP2, .on_status = CA_RETRYABLE },
                .want = LATER },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(cases); i++)
        check_case(&cases[i]);
}

static void
what_cannot_be_read_is_refused(void **state)
{
    struct rig *rig = rig_open();
    struct seen seen;

    (void)state;
    rig_offer(rig, "{\"requestContext\":\"one\",\"serialNumber\":\"0A5F\",\"issuerName\":7}");
    rig_start(rig);
    fake_wait_calls(&rig->service, FAKE_SERVICE, 2);
    rig_stop(rig);
    seen = row(rig, "one");
    assert_int_equal(seen.state, JOURNAL_CLOSED);
    assert_non_null(strstr(seen.result, "\"errorCode\":\"DataSerializationError\""));
    assert_non_null(strstr(seen.result, "issuerName"));
    rig_close(rig);
}

/* ---- the whole way ---- */

static void
one_request_from_end_to_end(void **state)
{
    static const struct {
        enum event_id id;
        const char *request_id;
    } want[] = {
        { EVENT_REVOKE_DOWNLOAD_SUCCESS, NULL },
        { EVENT_REVOKE_DOWNLOADED_REQUEST, "one" },
        { EVENT_REVOKE_SUCCESS, "one" },
        { EVENT_REVOKE_UPLOAD_SUCCESS, NULL },
        { EVENT_REVOKE_UPLOADED_REQUEST, "one" },
        { EVENT_REVOKE_REQUEST_SUCCESS, "one" },
    };
    struct rig *rig = rig_open();
    struct flow_status status;
    struct events last;

    (void)state;
    rig_offer(rig,
            "{\"requestContext\":\"one\",\"serialNumber\":\"0A5F\",\"issuerName\":\"" CORP_NAME
            "\",\"caConfiguration\":null}");
    rig->settings.issuer_name = CORP_NAME;
    rig_start(rig);
    fake_wait_calls(&rig->service, FAKE_SERVICE, 2);
    revocation_get_status(rig->work, &status);
    assert_true(status.last_download_ms > 0);
    rig_stop(rig);
    assert_int_equal(rig->service.calls[FAKE_SERVICE], 2);
    assert_string_equal(rig->service.path[FAKE_SERVICE],
            "/svc/CertificateAuthorityRequests/uploadRevocationResults");
    assert_string_equal(rig->service.api_version[FAKE_SERVICE], "5019-05-05");
    assert_string_equal(rig->service.body[FAKE_SERVICE], "{\"results\":[" SUCCESS "]}");
    assert_int_equal(rig->ca[CORP].reason, PKI_REASON_SUPERSEDED);
    for (size_t i = 0; i < CC_COUNT(want); i++)
        if (events(rig, want[i].id, want[i].request_id).count != 1)
            fail_msg("event %d: %u", (int)want[i].id,
                    events(rig, want[i].id, want[i].request_id).count);
    last = events(rig, EVENT_REVOKE_REQUEST_SUCCESS, "one");
    assert_string_equal(last.serial, "0A5F");
    assert_string_equal(last.ca, "corp");
    rig_close(rig);
}

/* The service's filter is not to be trusted: all is asked for, and the connector filters. */
static void
no_filter_is_sent(void **state)
{
    struct rig *rig = rig_open();

    (void)state;
    rig_offer(rig, "");
    rig->settings.issuer_name = CORP_NAME;
    rig->settings.max_requests = 500;
    rig_start(rig);
    fake_wait_calls(&rig->service, FAKE_SERVICE, 1);
    rig_stop(rig);
    assert_int_equal(rig->service.calls[FAKE_SERVICE], 1);
    assert_string_equal(rig->service.body[FAKE_SERVICE],
            "{\"downloadParameters\":{\"maxRequests\":500,\"issuerName\":null}}");
    rig_close(rig);
}

/* Tried until the CA answers for good, across a restart, without being downloaded again. */
static void
it_is_tried_until_it_is_done(void **state)
{
    struct rig *rig = rig_open();
    struct fake_ca *corp = &rig->ca[CORP];
    unsigned tried;

    (void)state;
    rig_offer(rig,
            "{\"requestContext\":\"one\",\"serialNumber\":\"0A5F\",\"caConfiguration\":\"corp\"}");
    fake_ca_tell(corp, CA_RETRYABLE);
    rig_start(rig);
    fake_ca_wait_asked(corp, 2);
    rig_stop(rig);
    tried = corp->asked;
    assert_true(tried >= 2 && corp->revoked == 0);
    assert_int_equal(row(rig, "one").state, JOURNAL_RECEIVED);
    assert_int_equal(events(rig, EVENT_REVOKE_FAILED_ATTEMPT, "one").count, tried);
    assert_int_equal(rig->service.calls[FAKE_SERVICE], 1);

    rig_start(rig);
    fake_ca_wait_asked(corp, tried + 1);
    fake_ca_tell(corp, (enum ca_outcome)0);
    fake_wait_calls(&rig->service, FAKE_SERVICE, 2);
    rig_stop(rig);
    assert_int_equal(corp->revoked, 1);
    assert_int_equal(row(rig, "one").state, JOURNAL_CLOSED);
    assert_string_equal(rig->service.body[FAKE_SERVICE], "{\"results\":[" SUCCESS "]}");
    assert_int_equal(events(rig, EVENT_REVOKE_REQUEST_SUCCESS, "one").count, 1);
    rig_close(rig);
}

/* A no to the results is none to the requests: they are sent until they are taken. */
static void
results_are_sent_until_taken(void **state)
{
    static const struct fake_answer answers[] = {
        { .status = 200,
                .body = "{\"value\":[{\"requestContext\":\"one\",\"serialNumber\":\"0A5F\","
                        "\"caConfiguration\":\"corp\"}]}" },
        { .status = 200, .body = "{\"value\":false}" },
    };
    struct rig *rig = rig_open();

    (void)state;
    fake_script(&rig->service, FAKE_SERVICE, answers, CC_COUNT(answers));
    rig_start(rig);
    fake_wait_calls(&rig->service, FAKE_SERVICE, 3);
    rig_stop(rig);
    assert_int_equal(rig->ca[CORP].asked, 1);
    assert_string_equal(rig->service.body[FAKE_SERVICE], "{\"results\":[" SUCCESS "]}");
    assert_int_equal(events(rig, EVENT_REVOKE_UPLOAD_FAILURE, NULL).count, 1);
    assert_int_equal(events(rig, EVENT_REVOKE_REQUEST_SUCCESS, "one").count, 1);
    rig_close(rig);
}

/* New settings hold for what is tried next. */
static void
reconfigured(void **state)
{
    struct rig *rig = rig_open();
    struct fake_ca *corp = &rig->ca[CORP];

    (void)state;
    rig_offer(rig,
            "{\"requestContext\":\"one\",\"serialNumber\":\"0A5F\",\"caConfiguration\":\"corp\"}");
    fake_ca_tell(corp, CA_RETRYABLE);
    rig_start(rig);
    fake_ca_wait_asked(corp, 1);
    rig->settings.reason = PKI_REASON_CESSATION_OF_OPERATION;
    rig->settings.numeric_codes = true;
    must(revocation_reconfigure(rig->work, &rig->settings, err));
    /* What was under way with the old ones is over with this. */
    fake_ca_wait_asked(corp, fake_ca_asked(corp) + 1);
    fake_ca_tell(corp, (enum ca_outcome)0);
    fake_wait_calls(&rig->service, FAKE_SERVICE, 2);
    rig_stop(rig);
    assert_int_equal(corp->reason, PKI_REASON_CESSATION_OF_OPERATION);
    assert_non_null(strstr(rig->service.body[FAKE_SERVICE], "\"errorCode\":\"0\""));
    rig_close(rig);
}

/* Settings beyond what there is room for are refused, and those in force stay. */
static void
settings_have_ceilings(void **state)
{
    static const struct {
        size_t ca_count, name_len;
        int want_rc;
    } cases[] = { { 64, 1024, 0 }, { 65, 1024, -1 }, { 64, 1025, -1 }, { 0, 0, 0 } };
    struct rig *rig = rig_open();
    struct revocation_settings settings;
    struct revocation *work = NULL;
    struct ca *many[65];
    char name[1026];

    (void)state;
    for (size_t i = 0; i < CC_COUNT(many); i++)
        many[i] = rig->cas[0];
    rig_offer(rig, "");
    rig_start(rig);
    for (size_t i = 0; i < CC_COUNT(cases); i++) {
        struct cc_err refusal = { 0 }, again = { 0 };

        settings = rig->settings;
        settings.cas = many;
        settings.ca_count = cases[i].ca_count;
        memset(name, 'x', sizeof(name));
        name[cases[i].name_len] = '\0';
        settings.issuer_name = name;
        assert_int_equal(revocation_reconfigure(rig->work, &settings, &refusal), cases[i].want_rc);
        if (cases[i].want_rc == 0)
            continue;
        assert_int_equal(refusal.domain, CC_DOM_CONFIG);
        assert_int_equal(revocation_start(&settings, &work, &again), -1);
        assert_int_equal(again.domain, CC_DOM_CONFIG);
        assert_null(work);
    }
    rig_close(rig);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_ca_is_asked),
        cmocka_unit_test(what_is_not_ours_is_left),
        cmocka_unit_test(serials_are_read_as_reported),
        cmocka_unit_test(serials_have_a_ceiling),
        cmocka_unit_test(answers_for_good),
        cmocka_unit_test(what_no_ca_answered_is_kept),
        cmocka_unit_test(what_cannot_be_read_is_refused),
        cmocka_unit_test(one_request_from_end_to_end),
        cmocka_unit_test(no_filter_is_sent),
        cmocka_unit_test(it_is_tried_until_it_is_done),
        cmocka_unit_test(results_are_sent_until_taken),
        cmocka_unit_test(reconfigured),
        cmocka_unit_test(settings_have_ceilings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
