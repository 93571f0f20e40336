/* SPDX-License-Identifier: MIT */
#include "store/journal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/unit/memory_store.h"

#define WORKLOAD "pfx-import"

static struct store *store;

static int
setup(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    cc_clock_set(1000, 0);
    return store_open(memory_store(), &store, &err);
}

static int
teardown(void **state)
{
    (void)state;
    store_close(store);
    cc_clock_real();
    return 0;
}

static enum journal_todo
receive(const char *id, int attempt, const char *context)
{
    struct journal_entry entry = { .workload = WORKLOAD,
        .request_id = id,
        .request_context = context,
        .attempt = attempt,
        .user = "user1@contoso.example",
        .device = "device-1",
        .thumbprint = "00ff",
        .lease_until_ms = 5000 + attempt };
    enum journal_todo todo = (enum journal_todo)99;
    struct cc_err err = { 0 };

    assert_int_equal(journal_receive(store, &entry, 1, &todo, &err), 0);
    return todo;
}

static int
finish(const char *id, enum journal_outcome outcome)
{
    return journal_finish(store, WORKLOAD, id, outcome, "{\"a\":1}",
            outcome == JOURNAL_SUCCEEDED ? NULL : "DecryptFailed", "detail", NULL);
}

static int
prepare(const char *id)
{
    return journal_prepare(store, WORKLOAD, id, "note", NULL);
}

static int
report(const char *id)
{
    struct journal_report r = { id, JOURNAL_ACCEPTED };

    return journal_report(store, WORKLOAD, &r, 1, NULL);
}

static int
close_it(const char *id)
{
    return journal_close(store, WORKLOAD, &id, 1, NULL);
}

static int
forget(const char *id)
{
    return journal_forget(store, WORKLOAD, &id, 1, NULL);
}

static int
withdraw(const char *id)
{
    return journal_withdraw(store, WORKLOAD, id, NULL);
}

/* A copy of what a row says, deep enough for the tests. */
struct seen {
    int rows;
    enum journal_state state;
    enum journal_outcome outcome;
    enum journal_verdict verdict;
    int attempt;
    int64_t lease, received, updated;
    char context[32], note[32], result[32], error_code[32], detail[32], ids[64];
};

static void
copy(char *dst, size_t size, const char *src)
{
    snprintf(dst, size, "%s", src != NULL ? src : "-");
}

static int
see(void *arg, const struct journal_entry *entry)
{
    struct seen *seen = arg;
    size_t len = strlen(seen->ids);

    seen->rows++;
    seen->state = entry->state;
    seen->outcome = entry->outcome;
    seen->verdict = entry->verdict;
    seen->attempt = entry->attempt;
    seen->lease = entry->lease_until_ms;
    seen->received = entry->received_ms;
    seen->updated = entry->updated_ms;
    copy(seen->context, sizeof(seen->context), entry->request_context);
    copy(seen->note, sizeof(seen->note), entry->note);
    copy(seen->result, sizeof(seen->result), entry->result);
    copy(seen->error_code, sizeof(seen->error_code), entry->error_code);
    copy(seen->detail, sizeof(seen->detail), entry->detail);
    snprintf(seen->ids + len, sizeof(seen->ids) - len, "%s ", entry->request_id);
    return 0;
}

static struct seen
look(const char *id)
{
    struct seen seen = { 0 };

    assert_int_equal(journal_find(store, WORKLOAD, id, see, &seen, NULL), 0);
    return seen;
}

/* Brings a fresh request into a state by the calls that lead there. */
static void
bring_to(const char *id, enum journal_state state, enum journal_outcome outcome)
{
    assert_int_equal(receive(id, 1, "ctx-1"), JOURNAL_DO);
    if (state == JOURNAL_RECEIVED)
        return;
    if (state == JOURNAL_PREPARED) {
        assert_int_equal(prepare(id), 0);
        return;
    }
    assert_int_equal(finish(id, outcome), 0);
    if (state >= JOURNAL_REPORTED)
        assert_int_equal(report(id), 0);
    if (state == JOURNAL_CLOSED)
        assert_int_equal(close_it(id), 0);
}

static const struct {
    enum journal_state state;
    enum journal_outcome outcome;
    /* -1 refused, else the state the call leads to; 0: the row is gone */
    int want_prepare, want_issue, want_fail, want_report, want_close, want_forget, want_withdraw;
} transitions[] = {
    { JOURNAL_RECEIVED, JOURNAL_NO_OUTCOME, 2, 3, 4, -1, -1, 0, -1 },
    { JOURNAL_PREPARED, JOURNAL_NO_OUTCOME, 2, 3, 4, -1, -1, 0, -1 },
    { JOURNAL_ISSUED, JOURNAL_SUCCEEDED, -1, 3, -1, 5, -1, -1, -1 },
    { JOURNAL_FAILED, JOURNAL_FAILED_FINAL, -1, -1, 4, 5, -1, -1, -1 },
    { JOURNAL_FAILED, JOURNAL_FAILED_RETRYABLE, -1, -1, -1, 5, -1, -1, -1 },
    { JOURNAL_REPORTED, JOURNAL_SUCCEEDED, -1, -1, -1, 5, 6, -1, 0 },
    { JOURNAL_REPORTED, JOURNAL_FAILED_RETRYABLE, -1, -1, -1, 5, 6, -1, 0 },
    { JOURNAL_CLOSED, JOURNAL_SUCCEEDED, -1, -1, -1, -1, 6, -1, -1 },
    { JOURNAL_CLOSED, JOURNAL_FAILED_FINAL, -1, -1, -1, -1, 6, -1, -1 },
};

static int
do_issue(const char *id)
{
    return finish(id, JOURNAL_SUCCEEDED);
}

static int
do_fail(const char *id)
{
    return finish(id, JOURNAL_FAILED_FINAL);
}

static void
try_transition(size_t row, const char *name, int (*call)(const char *id), int want)
{
    char id[32];
    struct seen before, after;
    int rc;

    snprintf(id, sizeof(id), "%zu-%s", row, name);
    bring_to(id, transitions[row].state, transitions[row].outcome);
    before = look(id);
    assert_int_equal(before.state, transitions[row].state);
    rc = call(id);
    after = look(id);
    if (want == -1) {
        assert_int_equal(rc, -1);
        assert_int_equal(after.state, before.state);
        assert_int_equal(after.outcome, before.outcome);
        assert_int_equal(after.verdict, before.verdict);
        assert_string_equal(after.note, before.note);
        assert_string_equal(after.result, before.result);
    } else {
        assert_int_equal(rc, 0);
        assert_int_equal(after.rows, want != 0);
        assert_int_equal(after.state, want);
    }
}

static void
transitions_lead_where_drawn_and_nowhere_else(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(transitions); i++) {
        try_transition(i, "prepare", prepare, transitions[i].want_prepare);
        try_transition(i, "issue", do_issue, transitions[i].want_issue);
        try_transition(i, "fail", do_fail, transitions[i].want_fail);
        try_transition(i, "report", report, transitions[i].want_report);
        try_transition(i, "close", close_it, transitions[i].want_close);
        try_transition(i, "forget", forget, transitions[i].want_forget);
        try_transition(i, "withdraw", withdraw, transitions[i].want_withdraw);
    }
}

static void
unknown_requests_are_refused_with_code_0(void **state)
{
    struct cc_err err = { 0 };

    (void)state;
    assert_int_equal(prepare("nobody"), -1);
    assert_int_equal(report("nobody"), -1);
    assert_int_equal(close_it("nobody"), -1);
    assert_int_equal(forget("nobody"), -1);
    assert_int_equal(withdraw("nobody"), -1);
    assert_int_equal(
            journal_finish(store, WORKLOAD, "nobody", JOURNAL_SUCCEEDED, "{}", NULL, NULL, &err),
            -1);
    assert_int_equal(err.domain, CC_DOM_STORE);
    assert_int_equal(err.code, 0);
    assert_non_null(strstr(err.text, "nobody"));
    assert_int_equal(look("nobody").rows, 0);
}

static const struct {
    enum journal_state state;
    enum journal_outcome outcome;
    int attempt; /* of the second download; the first had 1 */
    enum journal_todo want_todo;
    enum journal_state want_state;
    bool want_new_context;
} downloads[] = {
    { JOURNAL_RECEIVED, JOURNAL_NO_OUTCOME, 0, JOURNAL_BUSY, JOURNAL_RECEIVED, false },
    { JOURNAL_RECEIVED, JOURNAL_NO_OUTCOME, 1, JOURNAL_BUSY, JOURNAL_RECEIVED, true },
    { JOURNAL_RECEIVED, JOURNAL_NO_OUTCOME, 2, JOURNAL_DO, JOURNAL_RECEIVED, true },
    { JOURNAL_PREPARED, JOURNAL_NO_OUTCOME, 1, JOURNAL_BUSY, JOURNAL_PREPARED, true },
    { JOURNAL_PREPARED, JOURNAL_NO_OUTCOME, 2, JOURNAL_DO, JOURNAL_PREPARED, true },
    { JOURNAL_ISSUED, JOURNAL_SUCCEEDED, 1, JOURNAL_UPLOAD, JOURNAL_ISSUED, false },
    { JOURNAL_ISSUED, JOURNAL_SUCCEEDED, 2, JOURNAL_UPLOAD, JOURNAL_ISSUED, false },
    { JOURNAL_FAILED, JOURNAL_FAILED_RETRYABLE, 2, JOURNAL_UPLOAD, JOURNAL_FAILED, false },
    { JOURNAL_REPORTED, JOURNAL_SUCCEEDED, 2, JOURNAL_REUPLOAD, JOURNAL_REPORTED, false },
    { JOURNAL_REPORTED, JOURNAL_FAILED_RETRYABLE, 1, JOURNAL_REUPLOAD, JOURNAL_REPORTED, false },
    { JOURNAL_REPORTED, JOURNAL_FAILED_RETRYABLE, 2, JOURNAL_DO, JOURNAL_RECEIVED, true },
    { JOURNAL_CLOSED, JOURNAL_SUCCEEDED, 2, JOURNAL_REUPLOAD, JOURNAL_CLOSED, false },
    { JOURNAL_CLOSED, JOURNAL_FAILED_FINAL, 2, JOURNAL_REUPLOAD, JOURNAL_CLOSED, false },
    { JOURNAL_CLOSED, JOURNAL_FAILED_RETRYABLE, 1, JOURNAL_REUPLOAD, JOURNAL_CLOSED, false },
    { JOURNAL_CLOSED, JOURNAL_FAILED_RETRYABLE, 2, JOURNAL_DO, JOURNAL_RECEIVED, true },
    /* A service that counts no attempts. */
    { JOURNAL_ISSUED, JOURNAL_SUCCEEDED, 0, JOURNAL_UPLOAD, JOURNAL_ISSUED, false },
    { JOURNAL_CLOSED, JOURNAL_SUCCEEDED, 0, JOURNAL_REUPLOAD, JOURNAL_CLOSED, false },
    { JOURNAL_CLOSED, JOURNAL_FAILED_FINAL, 0, JOURNAL_REUPLOAD, JOURNAL_CLOSED, false },
    { JOURNAL_CLOSED, JOURNAL_FAILED_RETRYABLE, 0, JOURNAL_DO, JOURNAL_RECEIVED, true },
};

static void
a_request_that_comes_again_is_recognised(void **state)
{
    (void)state;
    for (size_t i = 0; i < CC_COUNT(downloads); i++) {
        char id[16];
        struct seen seen;

        snprintf(id, sizeof(id), "again-%zu", i);
        cc_clock_set(1000, 0);
        bring_to(id, downloads[i].state, downloads[i].outcome);
        cc_clock_set(2000, 0);
        assert_int_equal(receive(id, downloads[i].attempt, "ctx-2"), downloads[i].want_todo);
        seen = look(id);
        assert_int_equal(seen.state, downloads[i].want_state);
        assert_string_equal(seen.context, downloads[i].want_new_context ? "ctx-2" : "ctx-1");
        assert_int_equal(seen.lease,
                5000 + (downloads[i].want_new_context ? downloads[i].attempt : 1));
        assert_int_equal(seen.updated, downloads[i].want_new_context ? 2000 : 1000);
    }
}

static void
a_reopened_request_starts_anew(void **state)
{
    struct seen seen;

    (void)state;
    bring_to("r", JOURNAL_CLOSED, JOURNAL_FAILED_RETRYABLE);
    cc_clock_set(3000, 0);
    assert_int_equal(receive("r", 2, "ctx-2"), JOURNAL_DO);
    seen = look("r");
    assert_int_equal(seen.outcome, JOURNAL_NO_OUTCOME);
    assert_int_equal(seen.verdict, JOURNAL_NO_VERDICT);
    assert_int_equal(seen.attempt, 2);
    assert_int_equal(seen.received, 3000);
    assert_string_equal(seen.result, "-");
    assert_string_equal(seen.error_code, "-");
    assert_string_equal(seen.detail, "-");
}

/* After a lease that was lost, or another instance's result: what follows an acceptance is still to come, so that a
   crash right after it finds the row open. */
static void
a_result_that_was_not_taken_is_answered_anew(void **state)
{
    static const struct {
        enum journal_verdict verdict;
        bool closed;
        enum journal_outcome outcome;
        enum journal_state want_state;
    } table[] = {
        { JOURNAL_LEASE_LOST, false, JOURNAL_SUCCEEDED, JOURNAL_ISSUED },
        { JOURNAL_LEASE_LOST, true, JOURNAL_SUCCEEDED, JOURNAL_ISSUED },
        { JOURNAL_LEASE_LOST, true, JOURNAL_FAILED_FINAL, JOURNAL_FAILED },
        { JOURNAL_ALREADY_COMPLETED, true, JOURNAL_SUCCEEDED, JOURNAL_ISSUED },
    };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct journal_counts counts;
        struct journal_report r = { .verdict = table[i].verdict };
        struct seen seen;
        char id[16];

        snprintf(id, sizeof(id), "lost-%zu", i);
        r.request_id = id;
        bring_to(id, JOURNAL_ISSUED, table[i].outcome);
        assert_int_equal(journal_report(store, WORKLOAD, &r, 1, NULL), 0);
        if (table[i].closed)
            assert_int_equal(close_it(id), 0);
        assert_int_equal(receive(id, 2, "ctx-2"), JOURNAL_UPLOAD);
        seen = look(id);
        assert_int_equal(seen.state, table[i].want_state);
        assert_int_equal(seen.verdict, JOURNAL_NO_VERDICT);
        assert_int_equal(seen.outcome, table[i].outcome);
        assert_string_equal(seen.result, "{\"a\":1}");
        assert_string_equal(seen.context, "ctx-1");
        assert_int_equal(journal_count(store, WORKLOAD, &counts, NULL), 0);
        assert_int_equal(counts.succeeded + counts.failed, 0);
    }
}

static void
a_note_stays_until_the_work_is_done(void **state)
{
    (void)state;
    bring_to("n", JOURNAL_PREPARED, JOURNAL_NO_OUTCOME);
    assert_string_equal(look("n").note, "note");
    assert_int_equal(journal_prepare(store, WORKLOAD, "n", "second", NULL), 0);
    assert_string_equal(look("n").note, "second");
    assert_int_equal(receive("n", 2, "ctx-2"), JOURNAL_DO);
    assert_string_equal(look("n").note, "second");
    assert_int_equal(finish("n", JOURNAL_SUCCEEDED), 0);
    assert_string_equal(look("n").note, "-");
    assert_string_equal(look("n").result, "{\"a\":1}");
}

static void
a_batch_is_one_step(void **state)
{
    struct journal_entry entries[] = {
        { .workload = WORKLOAD, .request_id = "a", .request_context = "c", .attempt = 1 },
        { .workload = WORKLOAD, .request_id = "b", .attempt = 1 },
        { .workload = WORKLOAD, .request_id = "a", .request_context = "c", .attempt = 1 },
    };
    enum journal_todo todo[3];
    struct journal_report reports[] = { { "a", JOURNAL_ACCEPTED }, { "b", JOURNAL_LEASE_LOST } };
    const char *ids[] = { "a", "b" };

    (void)state;
    assert_int_equal(journal_receive(store, entries, 3, todo, NULL), 0);
    assert_int_equal(todo[0], JOURNAL_DO);
    assert_int_equal(todo[1], JOURNAL_DO);
    assert_int_equal(todo[2], JOURNAL_BUSY);

    assert_int_equal(finish("a", JOURNAL_SUCCEEDED), 0);
    /* b is not finished: nothing of the batch happens */
    assert_int_equal(journal_report(store, WORKLOAD, reports, 2, NULL), -1);
    assert_int_equal(look("a").state, JOURNAL_ISSUED);
    assert_int_equal(journal_forget(store, WORKLOAD, ids, 2, NULL), -1);
    assert_int_equal(look("b").state, JOURNAL_RECEIVED);

    assert_int_equal(finish("b", JOURNAL_FAILED_FINAL), 0);
    assert_int_equal(journal_report(store, WORKLOAD, reports, 2, NULL), 0);
    assert_int_equal(look("a").verdict, JOURNAL_ACCEPTED);
    assert_int_equal(look("b").verdict, JOURNAL_LEASE_LOST);
    assert_int_equal(journal_close(store, WORKLOAD, ids, 2, NULL), 0);
    assert_int_equal(look("b").state, JOURNAL_CLOSED);

    assert_int_equal(journal_receive(store, NULL, 0, NULL, NULL), 0);
    assert_int_equal(journal_report(store, WORKLOAD, NULL, 0, NULL), 0);
    assert_int_equal(journal_close(store, WORKLOAD, NULL, 0, NULL), 0);
    assert_int_equal(journal_forget(store, WORKLOAD, NULL, 0, NULL), 0);
}

static int
see_first(void *arg, const struct journal_entry *entry)
{
    (void)see(arg, entry);
    return 1;
}

static void
the_walk_shows_what_is_open_oldest_first(void **state)
{
    struct journal_entry other = { .workload = "pkcs", .request_id = "x", .attempt = 1 };
    enum journal_todo todo;
    struct seen seen = { 0 };
    struct seen first = { 0 };

    (void)state;
    cc_clock_set(3000, 0);
    bring_to("third", JOURNAL_ISSUED, JOURNAL_SUCCEEDED);
    cc_clock_set(1000, 0);
    bring_to("first", JOURNAL_RECEIVED, JOURNAL_NO_OUTCOME);
    bring_to("done", JOURNAL_CLOSED, JOURNAL_SUCCEEDED);
    cc_clock_set(2000, 0);
    bring_to("second", JOURNAL_REPORTED, JOURNAL_FAILED_FINAL);
    assert_int_equal(journal_receive(store, &other, 1, &todo, NULL), 0);

    assert_int_equal(journal_walk(store, WORKLOAD, see, &seen, NULL), 0);
    assert_string_equal(seen.ids, "first second third ");
    assert_int_equal(journal_walk(store, WORKLOAD, see_first, &first, NULL), 0);
    assert_string_equal(first.ids, "first ");
}

static void
counts_follow_the_states_and_count_each_request_once(void **state)
{
    struct journal_counts counts;

    (void)state;
    assert_int_equal(journal_count(store, WORKLOAD, &counts, NULL), 0);
    assert_int_equal(counts.oldest_open_ms, 0);
    assert_int_equal(counts.succeeded + counts.failed, 0);

    bring_to("a", JOURNAL_RECEIVED, JOURNAL_NO_OUTCOME);
    bring_to("b", JOURNAL_PREPARED, JOURNAL_NO_OUTCOME);
    bring_to("c", JOURNAL_ISSUED, JOURNAL_SUCCEEDED);
    bring_to("d", JOURNAL_FAILED, JOURNAL_FAILED_FINAL);
    bring_to("e", JOURNAL_REPORTED, JOURNAL_SUCCEEDED);
    bring_to("f", JOURNAL_CLOSED, JOURNAL_SUCCEEDED);
    bring_to("g", JOURNAL_CLOSED, JOURNAL_FAILED_FINAL);
    bring_to("h", JOURNAL_CLOSED, JOURNAL_FAILED_RETRYABLE);
    assert_int_equal(journal_count(store, WORKLOAD, &counts, NULL), 0);
    for (int i = JOURNAL_RECEIVED; i <= JOURNAL_REPORTED; i++)
        assert_int_equal(counts.by_state[i], 1);
    assert_int_equal(counts.by_state[JOURNAL_CLOSED], 3);
    assert_int_equal(counts.succeeded, 1);
    assert_int_equal(counts.failed, 2);
    assert_int_equal(counts.oldest_open_ms, 1000);

    /* h comes again and succeeds: its failure is no longer counted */
    assert_int_equal(receive("h", 2, "ctx-2"), JOURNAL_DO);
    assert_int_equal(finish("h", JOURNAL_SUCCEEDED), 0);
    assert_int_equal(report("h"), 0);
    assert_int_equal(close_it("h"), 0);
    assert_int_equal(journal_count(store, WORKLOAD, &counts, NULL), 0);
    assert_int_equal(counts.succeeded, 2);
    assert_int_equal(counts.failed, 1);
}

/* Whoever was not told whether it became durable does it again. */
static void
the_same_ending_again_is_no_error_and_another_is(void **state)
{
    struct journal_report other = { "a", JOURNAL_LEASE_LOST };
    struct journal_counts counts;

    (void)state;
    bring_to("a", JOURNAL_ISSUED, JOURNAL_SUCCEEDED);
    assert_int_equal(finish("a", JOURNAL_SUCCEEDED), 0);
    assert_int_equal(journal_finish(store, WORKLOAD, "a", JOURNAL_SUCCEEDED, "{\"a\":2}", NULL,
                             "detail", NULL),
            -1);
    assert_int_equal(finish("a", JOURNAL_FAILED_FINAL), -1);
    assert_string_equal(look("a").result, "{\"a\":1}");

    assert_int_equal(report("a"), 0);
    assert_int_equal(report("a"), 0);
    assert_int_equal(journal_report(store, WORKLOAD, &other, 1, NULL), -1);
    assert_int_equal(look("a").verdict, JOURNAL_ACCEPTED);

    assert_int_equal(close_it("a"), 0);
    assert_int_equal(close_it("a"), 0);
    assert_int_equal(journal_count(store, WORKLOAD, &counts, NULL), 0);
    assert_int_equal(counts.succeeded, 1);
}

static void
pruning_takes_closed_rows_only_and_keeps_the_totals(void **state)
{
    struct journal_counts counts;

    (void)state;
    bring_to("old", JOURNAL_CLOSED, JOURNAL_SUCCEEDED);
    bring_to("open", JOURNAL_REPORTED, JOURNAL_SUCCEEDED);
    cc_clock_set(2000, 0);
    bring_to("new", JOURNAL_CLOSED, JOURNAL_SUCCEEDED);

    assert_int_equal(journal_prune(store, 2000, NULL), 0);
    assert_int_equal(look("old").rows, 0);
    assert_int_equal(look("open").rows, 1);
    assert_int_equal(look("new").rows, 1);
    assert_int_equal(journal_count(store, WORKLOAD, &counts, NULL), 0);
    assert_int_equal(counts.succeeded, 2);
    assert_int_equal(counts.by_state[JOURNAL_CLOSED], 1);
}

static void
texts_come_back_as_they_were(void **state)
{
    static const char nasty[] = "'; DROP TABLE journal; -- \xc3\xa9 $1 \n\x1b";
    struct journal_entry entry = { .workload = WORKLOAD,
        .request_id = nasty,
        .request_context = nasty,
        .attempt = 1 };
    enum journal_todo todo;
    struct seen seen;

    (void)state;
    assert_int_equal(journal_receive(store, &entry, 1, &todo, NULL), 0);
    seen = look(nasty);
    assert_int_equal(seen.rows, 1);
    assert_memory_equal(seen.context, nasty, sizeof(seen.context) - 1);
}

static void
named_values(void **state)
{
    char *value = NULL;

    (void)state;
    assert_int_equal(store_get_value(store, "connector-id", &value, NULL), 0);
    assert_null(value);
    assert_int_equal(store_put_value(store, "connector-id", "one", NULL), 0);
    assert_int_equal(store_put_value(store, "connector-id", "two", NULL), 0);
    assert_int_equal(store_put_value(store, "other", "", NULL), 0);
    assert_int_equal(store_get_value(store, "connector-id", &value, NULL), 0);
    assert_string_equal(value, "two");
    free(value);
    assert_int_equal(store_get_value(store, "other", &value, NULL), 0);
    assert_string_equal(value, "");
    free(value);
}

/* What of a row only some workloads say. */
struct more {
    char body[32], variant[32], thumbprint[48], serial[48], ca[32];
};

static int
see_more(void *arg, const struct journal_entry *entry)
{
    struct more *more = arg;

    copy(more->body, sizeof(more->body), entry->body);
    copy(more->variant, sizeof(more->variant), entry->variant);
    copy(more->thumbprint, sizeof(more->thumbprint), entry->thumbprint);
    copy(more->serial, sizeof(more->serial), entry->serial_number);
    copy(more->ca, sizeof(more->ca), entry->ca);
    return 0;
}

static void
assert_more(const char *body, const char *variant, const char *thumbprint, const char *serial,
        const char *ca)
{
    struct more more = { 0 };

    assert_int_equal(journal_find(store, WORKLOAD, "more", see_more, &more, NULL), 0);
    assert_string_equal(more.body, body);
    assert_string_equal(more.variant, variant);
    assert_string_equal(more.thumbprint, thumbprint);
    assert_string_equal(more.serial, serial);
    assert_string_equal(more.ca, ca);
}

static void
request_and_certificate_of_a_row(void **state)
{
    struct journal_entry entry = { .workload = WORKLOAD,
        .request_id = "more",
        .request_context = "c",
        .attempt = 1,
        .body = "{\"subject\":1}",
        .variant = "recrypt" };
    struct journal_finished finished = { .request_id = "more",
        .outcome = JOURNAL_FAILED_RETRYABLE,
        .result = "{}",
        .thumbprint = "AB",
        .serial_number = "0A",
        .ca = "corp" };
    enum journal_todo todo;
    bool done = false;

    (void)state;
    assert_int_equal(journal_receive(store, &entry, 1, &todo, NULL), 0);
    assert_more("{\"subject\":1}", "recrypt", "-", "-", "-");
    assert_int_equal(journal_finish_batch(store, WORKLOAD, &finished, 1, &done, NULL), 0);
    assert_more("-", "recrypt", "AB", "0A", "corp");
    assert_int_equal(report("more"), 0);
    entry.attempt = 2;
    entry.variant = NULL;
    assert_int_equal(journal_receive(store, &entry, 1, &todo, NULL), 0);
    assert_int_equal(todo, JOURNAL_DO);
    assert_more("{\"subject\":1}", "-", "-", "-", "-");
}

static void
test_finish_batch(void **state)
{
    const struct journal_finished finished[] = {
        { "one", JOURNAL_SUCCEEDED, "{\"a\":1}", NULL, "detail", NULL, NULL, NULL },
        { "nobody", JOURNAL_SUCCEEDED, "{\"a\":2}", NULL, "detail", NULL, NULL, NULL },
        { "two", JOURNAL_FAILED_FINAL, "{\"a\":3}", "DecryptFailed", "detail", NULL, NULL, NULL },
        { "done", JOURNAL_SUCCEEDED, "{\"a\":4}", NULL, "detail", NULL, NULL, NULL },
    };
    const bool want_done[] = { true, false, true, false };
    const struct journal_finished without = { .request_id = "one", .result = "{}" };
    bool done[4] = { false };
    struct cc_err err = { 0 };

    (void)state;
    receive("one", 1, "c1");
    receive("two", 1, "c2");
    receive("done", 1, "c3");
    assert_int_equal(finish("done", JOURNAL_FAILED_FINAL), 0);
    assert_int_equal(journal_finish_batch(store, WORKLOAD, finished, 4, done, &err), 0);
    assert_memory_equal(done, want_done, sizeof(done));
    assert_int_equal(look("one").state, JOURNAL_ISSUED);
    assert_string_equal(look("two").error_code, "DecryptFailed");
    assert_string_equal(look("two").result, "{\"a\":3}");
    assert_int_equal(look("done").state, JOURNAL_FAILED);
    assert_int_equal(journal_finish_batch(store, WORKLOAD, finished, 0, done, &err), 0);
    assert_int_equal(journal_finish_batch(store, WORKLOAD, &without, 1, done, &err), -1);
    assert_int_equal(err.domain, CC_DOM_INTERNAL);
}

static void
assert_search(const char *id, const char *serial, const char *want)
{
    struct seen seen = { 0 };

    assert_int_equal(journal_search(store, id, serial, see, &seen, NULL), 0);
    assert_string_equal(seen.ids, want);
}

static void
search_finds_by_id_and_serial_number(void **state)
{
    struct journal_entry other = { .workload = "revocation",
        .request_id = "Third",
        .request_context = "c" };
    struct journal_finished finished = { .request_id = "first",
        .outcome = JOURNAL_SUCCEEDED,
        .result = "{}",
        .serial_number = "0A" };
    enum journal_todo todo;
    bool done = false;

    (void)state;
    receive("first", 1, "c1");
    receive("second", 1, "c2");
    assert_int_equal(journal_receive(store, &other, 1, &todo, NULL), 0);
    assert_search("FIRST", NULL, "first ");
    assert_search("third", NULL, "Third ");
    assert_search("0A", "0A", "");
    assert_int_equal(journal_finish_batch(store, WORKLOAD, &finished, 1, &done, NULL), 0);
    assert_search("0A", "0A", "first ");
    assert_search("second", "0A", "first second ");
    assert_search("nobody", NULL, "");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(transitions_lead_where_drawn_and_nowhere_else),
        CASE(unknown_requests_are_refused_with_code_0),
        CASE(a_request_that_comes_again_is_recognised),
        CASE(a_reopened_request_starts_anew),
        CASE(a_result_that_was_not_taken_is_answered_anew),
        CASE(a_note_stays_until_the_work_is_done),
        CASE(a_batch_is_one_step),
        CASE(the_walk_shows_what_is_open_oldest_first),
        CASE(counts_follow_the_states_and_count_each_request_once),
        CASE(the_same_ending_again_is_no_error_and_another_is),
        CASE(pruning_takes_closed_rows_only_and_keeps_the_totals),
        CASE(texts_come_back_as_they_were),
        CASE(test_finish_batch),
        CASE(request_and_certificate_of_a_row),
        CASE(named_values),
        CASE(search_finds_by_id_and_serial_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
