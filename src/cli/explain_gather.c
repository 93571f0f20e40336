/* SPDX-License-Identifier: MIT */
#include "explain_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "eventlog/catalogue.h"
#include "eventlog/eventlog.h"
#include "pki/crl.h"
#include "store/cadb.h"
#include "store/journal.h"
#include "store/scepdb.h"

/* ---- steps and ids ---- */

static void
keep(char *dst, size_t size, const char *text)
{
    if (text != NULL && text[0] != '\0')
        (void)cc_strcpy(dst, size, text);
}

/* One more to be looked for, unless it is one already.  More than there is room for are left out. */
static void
add_id(struct explain *e, const char *id)
{
    if (id == NULL || id[0] == '\0' || strlen(id) >= EXPLAIN_ID_LEN ||
            e->id_count == EXPLAIN_IDS_MAX)
        return;
    for (size_t i = 0; i < e->id_count; i++)
        if (strcmp(e->ids[i], id) == 0)
            return;
    (void)cc_strcpy(e->ids[e->id_count++], EXPLAIN_ID_LEN, id);
}

static void
say(struct explain *e, const struct explain_step *step, const char *name, const char *text)
{
    if (cc_json_add_str(step->obj, name, text, NULL) != 0)
        e->no_memory = true;
}

static struct explain_step *
step_new(struct explain *e, int64_t at_ms, const char *source)
{
    struct explain_step *step;
    char time[CC_TIME_LEN];

    if (e->step_count == EXPLAIN_STEPS_MAX)
        return NULL;
    if (e->step_count == e->step_room) {
        const size_t room = e->step_room == 0 ? 64 : 2 * e->step_room;

        if ((step = realloc(e->steps, room * sizeof(*step))) == NULL) {
            e->no_memory = true;
            return NULL;
        }
        e->steps = step;
        e->step_room = room;
    }
    step = &e->steps[e->step_count];
    *step = (struct explain_step){ .at_ms = at_ms, .order = e->step_count };
    cc_time_format(at_ms, time);
    if ((step->obj = json_object_new_object()) == NULL) {
        e->no_memory = true;
        return NULL;
    }
    e->step_count++;
    say(e, step, "time", time);
    say(e, step, "source", source);
    return step;
}

static void
add_step(struct explain *e, int64_t at_ms, const char *source, const char *text)
{
    struct explain_step *step = step_new(e, at_ms, source);

    if (step != NULL)
        say(e, step, "text", text);
}

/* ---- the event log ---- */

static const char *
member(json_object *obj, const char *name)
{
    const char *text = NULL;

    return cc_json_get_str(obj, name, EXPLAIN_TEXT_MAX, &text, NULL) == 0 ? text : NULL;
}

static bool
is_known_line(const struct explain *e, const char *line, size_t len)
{
    for (size_t i = 0; i < e->step_count; i++) {
        const struct explain_step *step = &e->steps[i];

        if (step->line != NULL && step->len == len && memcmp(step->line, line, len) == 0)
            return true;
    }
    return false;
}

static void
copy_event(struct explain *e, struct explain_step *step, json_object *event, int64_t id)
{
    static const char *const names[] = { "name", "level", "requestId", "transactionId",
        "serialNumber", "connector" };

    if (cc_json_add_int(step->obj, "id", id, NULL) != 0)
        e->no_memory = true;
    say(e, step, "text", member(event, "message"));
    for (size_t i = 0; i < CC_COUNT(names); i++)
        say(e, step, names[i], member(event, names[i]));
}

static int
on_event(void *arg, const char *line, size_t len)
{
    struct explain *e = arg;
    json_object *event = NULL;
    struct explain_step *step;
    const char *time;
    int64_t at_ms, id = 0;

    if (is_known_line(e, line, len) || (event = cc_json_parse(line, len, NULL)) == NULL)
        return 0;
    time = member(event, "time");
    if (time != NULL && cc_time_parse(time, &at_ms, NULL) == 0 &&
            cc_json_get_int(event, "id", 0, INT32_MAX, 0, &id, NULL) == 0 &&
            (step = step_new(e, at_ms, "event log")) != NULL) {
        copy_event(e, step, event, id);
        if ((step->line = strndup(line, len)) == NULL)
            e->no_memory = true;
        step->len = len;
        keep(e->facts.user, sizeof(e->facts.user), member(event, "user"));
        keep(e->facts.device, sizeof(e->facts.device), member(event, "device"));
        /* What goes by several names is found by each of them. */
        add_id(e, member(event, "requestId"));
        add_id(e, member(event, "transactionId"));
    }
    json_object_put(event);
    return 0;
}

static void
gather_events(struct explain *e, const char *id)
{
    const struct event_filter filter = { .channel = -1, .category = -1, .about = id };
    struct cc_err err = { 0 };

    if (eventlog_read(e->config->log.directory, &filter, false, NULL, on_event, e, &err) != 0)
        e->log_error = err;
}

/* ---- the journal ---- */

static const struct {
    const char *workload, *variant, *kind;
} kinds[] = {
    { "pkcs", "recrypt", "request to re-encrypt a PFX" },
    { "pkcs", NULL, "PKCS request" },
    { "pfx-import", NULL, "imported-PFX request" },
    { "revocation", NULL, "revocation request" },
};

static const char *
kind_of_row(const struct journal_entry *entry)
{
    for (size_t i = 0; i < CC_COUNT(kinds); i++)
        if (strcmp(kinds[i].workload, entry->workload) == 0 &&
                (kinds[i].variant == NULL ||
                        (entry->variant != NULL && strcmp(kinds[i].variant, entry->variant) == 0)))
            return kinds[i].kind;
    return "request";
}

static void
judge_row(struct explain_facts *f, const struct journal_entry *entry)
{
    static const enum explain_stage stages[] = {
        [JOURNAL_RECEIVED] = EXPLAIN_STAGE_WORK,
        [JOURNAL_PREPARED] = EXPLAIN_STAGE_CA,
        [JOURNAL_ISSUED] = EXPLAIN_STAGE_SERVICE,
        [JOURNAL_FAILED] = EXPLAIN_STAGE_SERVICE,
        [JOURNAL_REPORTED] = EXPLAIN_STAGE_EVENT,
        [JOURNAL_CLOSED] = EXPLAIN_STAGE_NONE,
    };
    const bool over = entry->state == JOURNAL_CLOSED;

    f->stage = stages[entry->state];
    f->outcome = !over ? EXPLAIN_WAITS
                 : entry->outcome == JOURNAL_SUCCEEDED && entry->verdict == JOURNAL_ACCEPTED
                         ? EXPLAIN_SUCCEEDED
                         : EXPLAIN_FAILED;
    f->comes_again = over && entry->outcome == JOURNAL_FAILED_RETRYABLE;
    f->from_store = true;
    f->attempt = entry->attempt;
    keep(f->holder, sizeof(f->holder), entry->holder);
    keep(f->code, sizeof(f->code), entry->error_code);
    if (entry->error_code != NULL)
        keep(f->failure, sizeof(f->failure), entry->detail);
}

static int
on_row(void *arg, const struct journal_entry *entry)
{
    struct explain *e = arg;
    struct explain_facts *f = &e->facts;
    char text[256];

    add_id(e, entry->request_id);
    (void)snprintf(text, sizeof(text), "The %s was written into the journal", kind_of_row(entry));
    add_step(e, entry->received_ms, "state store", text);
    /* Who asks for a certificate wants to know how it came to be; that it was revoked later is one step of that. */
    if (e->serial[0] != '\0' && f->from_store && strcmp(entry->workload, "revocation") == 0)
        return 0;
    keep(f->kind, sizeof(f->kind), kind_of_row(entry));
    keep(f->request_id, sizeof(f->request_id), entry->request_id);
    keep(f->user, sizeof(f->user), entry->user);
    keep(f->device, sizeof(f->device), entry->device);
    keep(f->ca, sizeof(f->ca), entry->ca);
    keep(f->serial, sizeof(f->serial), entry->serial_number);
    judge_row(f, entry);
    return 0;
}

/* ---- SCEP ---- */

static int
on_scep(void *arg, const struct scepdb_row *row)
{
    static const enum explain_stage stages[] = {
        [SCEPDB_CLAIMED] = EXPLAIN_STAGE_CA,
        [SCEPDB_PENDING] = EXPLAIN_STAGE_PERSON,
        [SCEPDB_ISSUED] = EXPLAIN_STAGE_NONE,
        [SCEPDB_FAILED] = EXPLAIN_STAGE_NONE,
    };
    struct explain *e = arg;
    struct explain_facts *f = &e->facts;
    char hex[2 * SCEPDB_ID_LEN + 1];

    cc_hex(row->id.data, row->id.len <= SCEPDB_ID_LEN ? row->id.len : SCEPDB_ID_LEN, false, hex);
    keep(f->kind, sizeof(f->kind), "SCEP request");
    keep(f->request_id, sizeof(f->request_id), hex);
    keep(f->transaction_id, sizeof(f->transaction_id), row->transaction_id);
    keep(f->ca, sizeof(f->ca), row->ca);
    keep(f->ca_request_id, sizeof(f->ca_request_id), row->ca_request_id);
    f->from_store = true;
    f->stage = stages[row->state];
    f->outcome = row->state == SCEPDB_ISSUED   ? EXPLAIN_SUCCEEDED
                 : row->state == SCEPDB_FAILED ? EXPLAIN_FAILED
                                               : EXPLAIN_WAITS;
    if (row->notify == SCEPDB_NOTIFY_DUE)
        f->stage = EXPLAIN_STAGE_SERVICE;
    if (row->notify == SCEPDB_NOTIFY_EVENT)
        f->stage = EXPLAIN_STAGE_EVENT;
    if (row->state == SCEPDB_FAILED)
        keep(f->failure, sizeof(f->failure), row->detail);
    if (row->state == SCEPDB_PENDING)
        keep(f->approval, sizeof(f->approval), row->ca_request_id);
    add_id(e, hex);
    add_id(e, row->transaction_id);
    add_step(e, row->received_ms, "state store",
            "The SCEP request was written down, to get its certificate once");
    return 0;
}

/* ---- the CAs' databases ---- */

struct names {
    char name[EXPLAIN_IDS_MAX][128];
    size_t count;
};

static int
on_authority(void *arg, const struct cadb_authority *authority)
{
    struct names *names = arg;

    (void)cc_strcpy(names->name[names->count++], sizeof(names->name[0]), authority->name);
    return names->count == EXPLAIN_IDS_MAX;
}

struct at_ca {
    struct explain *explain;
    const char *ca;
    char request_id[EXPLAIN_ID_LEN];
};

static void
tell_certificate(struct at_ca *at, const struct cadb_certificate *cert, const char *serial)
{
    struct explain_facts *f = &at->explain->facts;
    char until[CC_TIME_LEN], text[256], source[160];
    const bool revoked = cert->state == CADB_REVOKED || cert->state == CADB_HELD;

    cc_time_format(cert->not_after_ms, until);
    (void)snprintf(f->certificate, sizeof(f->certificate),
            "%s of CA \"%s\", valid until %.10s, %s%s", serial, at->ca, until,
            cert->state == CADB_HELD       ? "on hold"
            : cert->state == CADB_REVOKED  ? "revoked: "
            : cert->state == CADB_RESERVED ? "not signed yet"
                                           : "in force",
            cert->state == CADB_REVOKED ? pki_reason_name((enum pki_reason)cert->reason) : "");
    (void)snprintf(source, sizeof(source), "CA \"%s\"", at->ca);
    if (cert->issued_ms != 0) {
        f->issued = true;
        (void)snprintf(text, sizeof(text), "CA \"%s\" issued certificate %s", at->ca, serial);
        add_step(at->explain, cert->issued_ms, source, text);
    }
    if (!revoked)
        return;
    (void)snprintf(text, sizeof(text), "Certificate %s was %s (%s)", serial,
            cert->state == CADB_HELD ? "put on hold" : "revoked",
            pki_reason_name((enum pki_reason)cert->reason));
    add_step(at->explain, cert->revoked_ms, source, text);
}

static int
on_certificate(void *arg, const struct cadb_certificate *cert)
{
    struct at_ca *at = arg;
    struct explain_facts *f = &at->explain->facts;
    char serial[2 * CADB_SERIAL_MAX + 1];

    if (cert->serial.len > CADB_SERIAL_MAX)
        return 0;
    cc_hex(cert->serial.data, cert->serial.len, true, serial);
    keep(f->serial, sizeof(f->serial), serial);
    keep(f->ca, sizeof(f->ca), at->ca);
    keep(at->request_id, sizeof(at->request_id), cert->request_id);
    tell_certificate(at, cert, serial);
    return 0;
}

/* A PKCS request's id at the CA is its own with what tells attempts apart behind it. */
static void
add_request_of(struct explain *e, const char *ca_request_id)
{
    const char *slash = strrchr(ca_request_id, '/');
    char id[EXPLAIN_ID_LEN];

    if (slash == NULL || cc_starts_with(ca_request_id, "scep/"))
        return;
    (void)snprintf(id, sizeof(id), "%.*s", (int)(slash - ca_request_id), ca_request_id);
    add_id(e, id);
}

static int
look_at_cas(struct explain *e, const struct names *names, const struct cadb_key *key,
        struct cc_err *err)
{
    for (size_t i = 0; i < names->count; i++) {
        struct at_ca at = { .explain = e, .ca = names->name[i] };

        if (cadb_find(e->store, names->name[i], key, on_certificate, &at, err) != 0)
            return -1;
        if (at.request_id[0] == '\0')
            continue;
        add_request_of(e, at.request_id);
        if (cc_starts_with(at.request_id, "scep/") &&
                scepdb_search(e->store, "", at.request_id, on_scep, e, err) != 0)
            return -1;
    }
    return 0;
}

/* The certificate, and the request for it. */
static int
look_for_serial(struct explain *e, const struct names *names, const char *serial,
        struct cc_err *err)
{
    struct cc_buf bytes = CC_BUF_INIT(CADB_SERIAL_MAX);
    int rc = 0;

    if (serial[0] != '\0' && cc_unhex(serial, &bytes, NULL) == 0)
        rc = look_at_cas(e, names, &(struct cadb_key){ .serial = cc_buf_bytes(&bytes) }, err);
    cc_buf_free(&bytes);
    return rc;
}

/* What came of the request, when it is not known yet. */
static int
look_for_certificate(struct explain *e, const struct names *names, struct cc_err *err)
{
    const struct explain_facts *f = &e->facts;

    if (f->certificate[0] != '\0')
        return 0;
    if (f->serial[0] != '\0')
        return look_for_serial(e, names, f->serial, err);
    if (f->ca_request_id[0] != '\0')
        return look_at_cas(e, names, &(struct cadb_key){ .request_id = f->ca_request_id }, err);
    return 0;
}

/* A request of ours that somebody has to decide on: its id at the CA begins with its own. */
static int
on_approval(void *arg, const struct cadb_approval *approval)
{
    struct explain *e = arg;
    const char *own = e->facts.request_id;
    const size_t len = strlen(own);

    if (len == 0 || strncmp(approval->request_id, own, len) != 0 ||
            approval->request_id[len] != '/')
        return 0;
    keep(e->facts.approval, sizeof(e->facts.approval), approval->request_id);
    return 1;
}

static int
look_for_approval(struct explain *e, const struct names *names, struct cc_err *err)
{
    if (e->facts.outcome != EXPLAIN_WAITS || e->facts.stage != EXPLAIN_STAGE_CA)
        return 0;
    for (size_t i = 0; i < names->count && e->facts.approval[0] == '\0'; i++) {
        if (cadb_approval_walk(e->store, names->name[i], on_approval, e, err) != 0)
            return -1;
        if (e->facts.approval[0] != '\0')
            keep(e->facts.ca, sizeof(e->facts.ca), names->name[i]);
    }
    if (e->facts.approval[0] != '\0')
        e->facts.stage = EXPLAIN_STAGE_PERSON;
    return 0;
}

/* ---- all of it ---- */

/* What the store knows by this name.  The rows of the very request come last, so that its facts stay. */
static int
look_up(struct explain *e, const char *id, struct cc_err *err)
{
    struct cc_buf bytes = CC_BUF_INIT(SCEPDB_ID_LEN);
    int rc = -1;

    if (scepdb_search(e->store, id, NULL, on_scep, e, err) != 0)
        goto out;
    if (strlen(id) == (size_t)2 * SCEPDB_ID_LEN && cc_unhex(id, &bytes, NULL) == 0 &&
            scepdb_find(e->store, cc_buf_bytes(&bytes), on_scep, e, err) != 0)
        goto out;
    rc = journal_search(e->store, id, NULL, on_row, e, err);
out:
    cc_buf_free(&bytes);
    return rc;
}

static int
gather_store(struct explain *e, struct cc_err *err)
{
    struct names *names = calloc(1, sizeof(*names));
    int rc = -1;

    if (names == NULL)
        return cc_err_nomem(err);
    if (cadb_authority_list(e->store, on_authority, names, err) != 0)
        goto out;
    /* The certificate first, as it names the request. */
    if (e->serial[0] != '\0' &&
            (look_for_serial(e, names, e->serial, err) != 0 ||
                    journal_search(e->store, e->asked, e->serial, on_row, e, err) != 0))
        goto out;
    for (size_t i = 0; i < e->id_count; i++)
        if (look_up(e, e->ids[i], err) != 0)
            goto out;
    if (look_for_approval(e, names, err) != 0)
        goto out;
    rc = look_for_certificate(e, names, err);
out:
    free(names);
    return rc;
}

static int
compare_steps(const void *left, const void *right)
{
    const struct explain_step *a = left, *b = right;

    if (a->at_ms != b->at_ms)
        return a->at_ms < b->at_ms ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* The same text at the same time from two readings of the store is one step. */
static void
drop_doubles(struct explain *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < e->step_count; i++) {
        struct explain_step *step = &e->steps[i];
        bool twice = false;

        for (size_t j = kept; j > 0 && !twice && e->steps[j - 1].at_ms == step->at_ms; j--)
            twice = step->line == NULL && e->steps[j - 1].line == NULL &&
                    json_object_equal(e->steps[j - 1].obj, step->obj);
        if (twice)
            json_object_put(step->obj);
        else
            e->steps[kept++] = *step;
    }
    e->step_count = kept;
}

/* The newest, but that the admin event of a failure says less than the step that failed. */
static bool
is_failure_to_tell(const struct explain_facts *f, const struct event_type *type)
{
    const struct event_type *told = event_type_get(f->failure_event);

    if (type->level != EVENT_LEVEL_ERROR && type->level != EVENT_LEVEL_WARNING)
        return false;
    return type->channel == EVENT_CHANNEL_OPERATIONAL || told == NULL ||
           told->level != EVENT_LEVEL_ERROR;
}

/* What the events say, where no row does; they are in order now. */
static void
judge_events(struct explain *e)
{
    struct explain_facts *f = &e->facts;

    for (size_t i = 0; i < e->step_count; i++) {
        json_object *obj = e->steps[i].obj;
        const char *level = member(obj, "level");
        int64_t id = 0;
        const struct event_type *type;

        if (e->steps[i].line == NULL || cc_json_get_int(obj, "id", 0, INT32_MAX, 0, &id, NULL) != 0)
            continue;
        keep(f->transaction_id, sizeof(f->transaction_id), member(obj, "transactionId"));
        if ((type = event_type_get((int)id)) == NULL || level == NULL)
            continue;
        if (f->request_id[0] == '\0')
            keep(f->request_id, sizeof(f->request_id), member(obj, "requestId"));
        if (f->kind[0] == '\0')
            (void)snprintf(f->kind, sizeof(f->kind), "%s request",
                    event_category_name(type->category));
        if (is_failure_to_tell(f, type)) {
            keep(f->failure, sizeof(f->failure), member(obj, "text"));
            f->failure_event = (int)id;
        }
        if (!f->from_store && type->channel == EVENT_CHANNEL_ADMIN)
            f->outcome = strcmp(level, "Error") == 0 ? EXPLAIN_FAILED : EXPLAIN_SUCCEEDED;
        else if (!f->from_store && f->outcome == EXPLAIN_NOTHING)
            f->outcome = EXPLAIN_WAITS;
    }
    /* Of what was asked for at the command line, or is forgotten otherwise, the CA alone knows. */
    if (f->outcome == EXPLAIN_NOTHING && f->issued)
        f->outcome = EXPLAIN_SUCCEEDED;
}

int
explain_gather(struct explain *e, struct cc_err *err)
{
    struct cc_err why = { 0 };
    size_t looked = 0;

    add_id(e, e->asked);
    if (e->serial[0] != '\0')
        add_id(e, e->serial);
    if (e->store != NULL && gather_store(e, &why) != 0)
        e->store_error = why;
    while (looked < e->id_count)
        gather_events(e, e->ids[looked++]);
    /* An event may have told another name by which the store knows it. */
    if (e->store != NULL && why.domain == CC_DOM_NONE && !e->facts.from_store &&
            gather_store(e, &why) != 0)
        e->store_error = why;
    if (e->no_memory)
        return cc_err_nomem(err);
    if (e->step_count == EXPLAIN_STEPS_MAX)
        return cc_err_set(err, CC_DOM_INPUT, EXPLAIN_STEPS_MAX,
                "more than %d events are about %s; look at them with certconnector events --request",
                EXPLAIN_STEPS_MAX, e->asked);
    if (e->step_count > 0)
        qsort(e->steps, e->step_count, sizeof(*e->steps), compare_steps);
    drop_doubles(e);
    judge_events(e);
    return 0;
}

void
explain_free(struct explain *e)
{
    for (size_t i = 0; i < e->step_count; i++) {
        json_object_put(e->steps[i].obj);
        free(e->steps[i].line);
    }
    free(e->steps);
    json_object_put(e->daemon);
    store_close(e->store);
}
