/* SPDX-License-Identifier: MIT */
#include "store/pin.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "store/store_int.h"
#include "tests/unit/memory_store.h"

/*
 * Several instances are several handles on one store in a database; in memory they are one handle with several epochs,
 * which is what an instance is to this code.
 */

static struct store *store;
static const struct cc_bytes token = { (const uint8_t *)"maker\nmodel\n1\nA", 15 };
static const struct cc_bytes other_token = { (const uint8_t *)"maker\nmodel\n2\n\xff", 15 };

static int
setup(void **state)
{
    struct cc_err err = { 0 };
    uint8_t salt[STORE_PIN_SALT];
    uint32_t iterations;

    (void)state;
    if (store_open(memory_store(), &store, &err) != 0 ||
            store_pin_salt(store, token, 1000, salt, &iterations, &err) != 0) {
        fprintf(stderr, "%s\n", cc_err_text(&err));
        return -1;
    }
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    store_close(store);
    return 0;
}

/* The hash of a PIN, as far as the store can tell. */
static struct cc_bytes
hash(const char *pin)
{
    return cc_bytes_of_str(pin);
}

static enum store_pin_answer
ask_of(struct cc_bytes of, const char *pin, bool token_tells)
{
    enum store_pin_answer answer = STORE_PIN_HELP;
    char reason[STORE_PIN_REASON];
    struct cc_err err = { 0 };

    if (store_pin_ask(store, of, hash(pin), token_tells, &answer, reason, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
    return answer;
}

static enum store_pin_answer
ask(const char *pin)
{
    return ask_of(token, pin, false);
}

static void
tell(const char *pin, enum store_pin_outcome outcome)
{
    struct cc_err err = { 0 };

    if (store_pin_tell(store, token, hash(pin), outcome, "CKR_PIN_INCORRECT", &err) != 0)
        fail_msg("%s", cc_err_text(&err));
}

static int
run_sql(struct db_conn *conn, void *arg, struct cc_err *err)
{
    return db_exec(conn, arg, DB_NO_PARAMS, NULL, err);
}

static void
sql(const char *text)
{
    char copy[300];
    struct cc_err err = { 0 };

    assert_true(cc_strcpy(copy, sizeof(copy), text));
    if (db_write(store->db, run_sql, copy, &err) != 0)
        fail_msg("%s", cc_err_text(&err));
}

static void
time_passes_for_the_accepted(void)
{
    sql("UPDATE pin_token SET accepted_ms = accepted_ms - 10001");
}

static void
time_passes_for_the_tried(void)
{
    sql("UPDATE pin_token SET trying_until_ms = 0");
}

static void
the_salt_is_made_once(void **state)
{
    uint8_t first[STORE_PIN_SALT], second[STORE_PIN_SALT];
    uint32_t iterations = 0;

    (void)state;
    assert_int_equal(store_pin_salt(store, token, 7, first, &iterations, NULL), 0);
    assert_int_equal(iterations, 1000);
    assert_int_equal(store_pin_salt(store, token, 8, second, &iterations, NULL), 0);
    assert_memory_equal(first, second, sizeof(first));
    assert_int_equal(store_pin_salt(store, other_token, 8, second, &iterations, NULL), 0);
    assert_int_equal(iterations, 8);
    assert_memory_not_equal(first, second, sizeof(first));
}

static void
a_refused_pin_is_tried_once(void **state)
{
    enum store_pin_answer answer = STORE_PIN_TRY;
    char reason[STORE_PIN_REASON];

    (void)state;
    assert_int_equal(ask("wrong"), STORE_PIN_TRY);
    assert_int_equal(ask("wrong"), STORE_PIN_WAIT);
    assert_int_equal(ask("another"), STORE_PIN_WAIT);
    tell("wrong", STORE_PIN_WAS_REFUSED);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask("wrong"), STORE_PIN_REFUSED);
    assert_int_equal(store_pin_ask(store, token, hash("wrong"), true, &answer, reason, NULL), 0);
    assert_int_equal(answer, STORE_PIN_REFUSED);
    assert_string_equal(reason, "CKR_PIN_INCORRECT");
    /* Corrected. */
    assert_int_equal(ask("right"), STORE_PIN_TRY);
    tell("right", STORE_PIN_WAS_ACCEPTED);
    assert_int_equal(ask("right"), STORE_PIN_FREE);
    /* Who still has the wrong one does not try it, as often as it starts. */
    assert_int_equal(ask("wrong"), STORE_PIN_REFUSED);
}

static void
an_accepted_pin_is_free_for_a_while(void **state)
{
    (void)state;
    assert_int_equal(ask("right"), STORE_PIN_TRY);
    tell("right", STORE_PIN_WAS_ACCEPTED);
    assert_int_equal(ask("right"), STORE_PIN_FREE);
    assert_int_equal(ask("right"), STORE_PIN_FREE);
    time_passes_for_the_accepted();
    /* The token's may have been changed: one goes first. */
    assert_int_equal(ask("right"), STORE_PIN_TRY);
    assert_int_equal(ask("right"), STORE_PIN_WAIT);
    tell("right", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask("right"), STORE_PIN_REFUSED);
    /* A clock that went back frees nothing for ever. */
    assert_int_equal(ask("new"), STORE_PIN_TRY);
    tell("new", STORE_PIN_WAS_ACCEPTED);
    sql("UPDATE pin_token SET accepted_ms = accepted_ms + 3600000");
    assert_int_equal(ask("new"), STORE_PIN_TRY);
}

static void
a_changed_pin_voids_refusals(void **state)
{
    (void)state;
    assert_int_equal(ask("old"), STORE_PIN_TRY);
    tell("old", STORE_PIN_WAS_ACCEPTED);
    /* Put into the file before it was put into the token. */
    assert_int_equal(ask("new"), STORE_PIN_TRY);
    tell("new", STORE_PIN_WAS_REFUSED);
    tell("old", STORE_PIN_WAS_ACCEPTED);
    assert_int_equal(ask("new"), STORE_PIN_REFUSED);
    assert_int_equal(ask("newer"), STORE_PIN_TRY);
    tell("newer", STORE_PIN_WAS_ACCEPTED);
    assert_int_equal(ask("new"), STORE_PIN_TRY);
}

static void
an_attempt_of_unknown_outcome_counts(void **state)
{
    (void)state;
    assert_int_equal(ask("a"), STORE_PIN_TRY);
    time_passes_for_the_tried();
    assert_int_equal(ask("a"), STORE_PIN_TRY);
    tell("a", STORE_PIN_NOT_KNOWN);
    assert_int_equal(ask("a"), STORE_PIN_HELP);
    assert_int_equal(ask("b"), STORE_PIN_HELP);
    /* The token tells by itself how near it is to its lock. */
    assert_int_equal(ask_of(token, "b", true), STORE_PIN_TRY);
    tell("b", STORE_PIN_WAS_ACCEPTED);
    assert_int_equal(ask("a"), STORE_PIN_TRY);
}

static void
two_refused_pins_are_enough(void **state)
{
    (void)state;
    assert_int_equal(ask("a"), STORE_PIN_TRY);
    tell("a", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask("b"), STORE_PIN_TRY);
    tell("b", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask("c"), STORE_PIN_HELP);
    assert_int_equal(ask("a"), STORE_PIN_REFUSED);
}

static void
what_the_token_did_not_see_does_not_count(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ask("a"), STORE_PIN_TRY);
        tell("a", STORE_PIN_NOT_TRIED);
    }
    assert_int_equal(ask("a"), STORE_PIN_TRY);
}

/* Instances that are killed in their logins do not end the others' work. */
static void
the_accepted_pin_counts_only_when_refused(void **state)
{
    (void)state;
    assert_int_equal(ask("right"), STORE_PIN_TRY);
    tell("right", STORE_PIN_WAS_ACCEPTED);
    for (int i = 0; i < 5; i++) {
        time_passes_for_the_accepted();
        assert_int_equal(ask("right"), STORE_PIN_TRY);
        if (i % 2 == 0)
            tell("right", STORE_PIN_NOT_KNOWN);
        else
            time_passes_for_the_tried();
    }
    time_passes_for_the_accepted();
    assert_int_equal(ask("right"), STORE_PIN_TRY);
    tell("right", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask("b"), STORE_PIN_TRY);
    tell("b", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask("c"), STORE_PIN_HELP);
}

/* Those who were let in when it had just been accepted. */
static void
refusals_of_a_free_pin_count(void **state)
{
    (void)state;
    assert_int_equal(ask("right"), STORE_PIN_TRY);
    tell("right", STORE_PIN_WAS_ACCEPTED);
    assert_int_equal(ask("right"), STORE_PIN_FREE);
    assert_int_equal(ask("right"), STORE_PIN_FREE);
    tell("right", STORE_PIN_WAS_REFUSED);
    tell("right", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask("right"), STORE_PIN_REFUSED);
    assert_int_equal(ask("b"), STORE_PIN_HELP);
}

static void
who_is_gone_tries_no_more(void **state)
{
    (void)state;
    sql("INSERT INTO store_instance (epoch, name, host, alive, lease_until_ms, commits, joined_ms)"
        " VALUES (41, 'a', '', 1, 9999999999999, 0, 0), (42, 'b', '', 1, 9999999999999, 0, 0)");
    store->epoch = 41;
    assert_int_equal(ask("a"), STORE_PIN_TRY);
    store->epoch = 42;
    assert_int_equal(ask("a"), STORE_PIN_WAIT);
    /* One's word is nothing for another's attempt, but the token's is. */
    tell("a", STORE_PIN_NOT_TRIED);
    assert_int_equal(ask("a"), STORE_PIN_WAIT);
    sql("UPDATE store_instance SET alive = 0 WHERE epoch = 41");
    assert_int_equal(ask("a"), STORE_PIN_TRY);
    tell("a", STORE_PIN_NOT_KNOWN);
    assert_int_equal(ask("a"), STORE_PIN_HELP);
    store->epoch = 0;
}

static void
tokens_are_apart(void **state)
{
    uint8_t salt[STORE_PIN_SALT];
    uint32_t iterations;

    (void)state;
    assert_int_equal(store_pin_salt(store, other_token, 8, salt, &iterations, NULL), 0);
    assert_int_equal(ask("a"), STORE_PIN_TRY);
    assert_int_equal(ask_of(other_token, "a", false), STORE_PIN_TRY);
    tell("a", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask_of(other_token, "a", false), STORE_PIN_WAIT);
}

static void
an_administrator_begins_anew(void **state)
{
    int64_t count = 0;

    (void)state;
    assert_int_equal(ask("a"), STORE_PIN_TRY);
    tell("a", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask("b"), STORE_PIN_TRY);
    tell("b", STORE_PIN_WAS_REFUSED);
    assert_int_equal(ask("c"), STORE_PIN_HELP);
    assert_int_equal(store_pin_forget(store, &count, NULL), 0);
    assert_int_equal(count, 1);
    assert_int_equal(ask("a"), STORE_PIN_TRY);
}

static void
nothing_is_said_of_an_unknown_token(void **state)
{
    enum store_pin_answer answer = STORE_PIN_HELP;
    char reason[STORE_PIN_REASON];

    (void)state;
    assert_int_equal(store_pin_ask(store, other_token, hash("a"), false, &answer, reason, NULL),
            -1);
}

/* ---- all at once ---- */

#define ASKERS 16

struct asker {
    struct store *store;
    pthread_t thread;
    enum store_pin_answer answer;
};

static void *
ask_in_a_thread(void *arg)
{
    struct asker *asker = arg;
    char reason[STORE_PIN_REASON];

    if (store_pin_ask(asker->store, token, hash("a"), false, &asker->answer, reason, NULL) != 0)
        asker->answer = STORE_PIN_HELP;
    return NULL;
}

/* Each has connections of its own, where the database is on a server. */
static void
one_of_many_tries(void **state)
{
    const char *uri = getenv("CC_TEST_POSTGRES");
    struct asker askers[ASKERS] = { { .store = store } };
    unsigned tries = 0, waits = 0;

    (void)state;
    for (int i = 0; i < ASKERS; i++) {
        askers[i].store = store;
        if (uri != NULL)
            assert_int_equal(store_open(uri, &askers[i].store, NULL), 0);
    }
    for (int i = 0; i < ASKERS; i++)
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_in_a_thread, &askers[i]), 0);
    for (int i = 0; i < ASKERS; i++) {
        assert_int_equal(pthread_join(askers[i].thread, NULL), 0);
        tries += askers[i].answer == STORE_PIN_TRY;
        waits += askers[i].answer == STORE_PIN_WAIT;
        if (uri != NULL)
            store_close(askers[i].store);
    }
    assert_int_equal(tries, 1);
    assert_int_equal(waits, ASKERS - 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_salt_is_made_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_pin_is_tried_once, setup, teardown),
        cmocka_unit_test_setup_teardown(an_accepted_pin_is_free_for_a_while, setup, teardown),
        cmocka_unit_test_setup_teardown(a_changed_pin_voids_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(an_attempt_of_unknown_outcome_counts, setup, teardown),
        cmocka_unit_test_setup_teardown(two_refused_pins_are_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_token_did_not_see_does_not_count, setup, teardown),
        cmocka_unit_test_setup_teardown(the_accepted_pin_counts_only_when_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_of_a_free_pin_count, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_gone_tries_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(tokens_are_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(an_administrator_begins_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_said_of_an_unknown_token, setup, teardown),
        cmocka_unit_test_setup_teardown(one_of_many_tries, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
