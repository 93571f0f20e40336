/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/text.h"
#include "hsm/hsm.h"
#include "token_dir.h"

/* A real token process with a real token, and a memory of PINs that answers as the test wants. */

#define LONG_MS 60000
#define TOLD_MAX 8

struct memory {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    enum hsm_pin_answer answer;
    bool away;            /* nothing can be asked or told */
    bool stuck;           /* who asks waits */
    unsigned tells_fail;  /* so many more */
    unsigned calls, asks; /* that were begun */
    struct hsm_pin asked; /* the last */
    unsigned told;
    struct hsm_pin told_pins[TOLD_MAX];
    enum hsm_pin_outcome outcomes[TOLD_MAX];
};

static struct token_dir *token;
static struct memory memory;
static struct hsm *hsm;

/* ---- the memory ---- */

/* LOCKED. */
static int
begin_locked(struct cc_err *err)
{
    memory.calls++;
    (void)pthread_cond_broadcast(&memory.changed);
    return memory.away ? cc_err_set(err, CC_DOM_STORE, 0, "the store is away") : 0;
}

static int
salt(void *arg, const char *identity, uint8_t ret_salt[HSM_PIN_SALT], uint32_t *ret_iterations,
        struct cc_err *err)
{
    int rc;

    (void)arg;
    assert_non_null(strstr(identity, "test"));
    (void)pthread_mutex_lock(&memory.lock);
    if ((rc = begin_locked(err)) == 0) {
        memset(ret_salt, 's', HSM_PIN_SALT);
        *ret_iterations = 100000;
    }
    (void)pthread_mutex_unlock(&memory.lock);
    return rc;
}

static int
ask(void *arg, const struct hsm_pin *pin, bool token_tells, enum hsm_pin_answer *ret_answer,
        struct cc_err *why)
{
    int rc;

    (void)arg;
    (void)token_tells;
    (void)pthread_mutex_lock(&memory.lock);
    memory.asked = *pin;
    memory.asks++;
    rc = begin_locked(why);
    while (memory.stuck)
        (void)pthread_cond_wait(&memory.changed, &memory.lock);
    *ret_answer = memory.answer;
    if (memory.answer != HSM_PIN_TRY && memory.answer != HSM_PIN_FREE)
        cc_err_set(why, CC_DOM_TOKEN, 0, "so says the memory");
    (void)pthread_mutex_unlock(&memory.lock);
    return rc;
}

static int
tell(void *arg, const struct hsm_pin *pin, enum hsm_pin_outcome outcome, const char *reason,
        struct cc_err *err)
{
    int rc;

    (void)arg;
    (void)reason;
    (void)pthread_mutex_lock(&memory.lock);
    if ((rc = begin_locked(err)) == 0 && memory.tells_fail > 0) {
        memory.tells_fail--;
        rc = cc_err_set(err, CC_DOM_STORE, 0, "not now");
    } else if (rc == 0 && memory.told < TOLD_MAX) {
        memory.told_pins[memory.told] = *pin;
        memory.outcomes[memory.told++] = outcome;
        (void)pthread_cond_broadcast(&memory.changed);
    }
    (void)pthread_mutex_unlock(&memory.lock);
    return rc;
}

/* ---- waiting for it ---- */

/* Fails when it takes too long. */
static void
until(const unsigned *counter, unsigned value)
{
    const int64_t deadline = cc_deadline_in(LONG_MS);
    bool reached;

    (void)pthread_mutex_lock(&memory.lock);
    while (*counter < value && cc_deadline_left(deadline) > 0)
        cc_cond_wait(&memory.changed, &memory.lock, cc_deadline_left(deadline));
    reached = *counter >= value;
    (void)pthread_mutex_unlock(&memory.lock);
    assert_true(reached);
}

static void
set_memory(bool away, bool stuck, enum hsm_pin_answer answer)
{
    (void)pthread_mutex_lock(&memory.lock);
    memory.away = away;
    memory.stuck = stuck;
    memory.answer = answer;
    (void)pthread_cond_broadcast(&memory.changed);
    (void)pthread_mutex_unlock(&memory.lock);
}

static struct hsm_status
status(void)
{
    struct hsm_status now;

    hsm_get_status(hsm, &now);
    return now;
}

static bool
is_in(enum hsm_state state, uint64_t restarts)
{
    const struct hsm_status now = status();

    return now.state == state && now.restarts >= restarts;
}

/* In that state, with so many token processes gone. */
static struct hsm_status
until_state(enum hsm_state state, uint64_t restarts)
{
    static const struct timespec pause = { .tv_nsec = 10000000 };
    const int64_t deadline = cc_deadline_in(LONG_MS);

    while (!is_in(state, restarts)) {
        assert_true(cc_deadline_left(deadline) > 0);
        (void)nanosleep(&pause, NULL);
    }
    return status();
}

/* ---- from open to close ---- */

static void
open_token(void)
{
    struct hsm_settings settings = token_dir_settings(token);
    struct cc_err err = { 0 };

    settings.pin_memory =
            (struct hsm_pin_memory){ .salt = salt, .ask = ask, .tell = tell, .arg = NULL };
    if (hsm_open(&settings, &hsm, &err) != 0)
        fail_msg("%s", err.text);
}

static void
close_token(void)
{
    hsm_close(hsm);
    hsm = NULL;
}

static int
setup(void **state)
{
    (void)state;
    memory = (struct memory){ .answer = HSM_PIN_TRY };
    (void)pthread_mutex_init(&memory.lock, NULL);
    return cc_cond_init(&memory.changed, NULL);
}

static int
teardown(void **state)
{
    (void)state;
    set_memory(false, false, HSM_PIN_TRY);
    close_token();
    (void)pthread_cond_destroy(&memory.changed);
    return pthread_mutex_destroy(&memory.lock);
}

/* ---- tests ---- */

static void
who_may_try_tells_what_came_of_it(void **state)
{
    (void)state;
    open_token();
    (void)until_state(HSM_STATE_OPEN, 0);
    until(&memory.told, 1);
    close_token();
    assert_int_equal(memory.asks, 1);
    assert_int_equal(memory.told, 1);
    assert_int_equal(memory.outcomes[0], HSM_PIN_WAS_ACCEPTED);
    assert_memory_equal(&memory.told_pins[0], &memory.asked, sizeof(memory.asked));
}

static void
of_a_free_pin_nothing_is_told(void **state)
{
    (void)state;
    memory.answer = HSM_PIN_FREE;
    open_token();
    (void)until_state(HSM_STATE_OPEN, 0);
    close_token();
    assert_int_equal(memory.told, 0);
}

static void
others_are_waited_for(void **state)
{
    (void)state;
    memory.answer = HSM_PIN_WAIT;
    open_token();
    until(&memory.asks, 3);
    assert_int_not_equal(status().state, HSM_STATE_OPEN);
    /* After a while the status says what for, and the process is not taken for one that hangs. */
    assert_non_null(strstr(until_state(HSM_STATE_LOST, 0).last_error, "so says the memory"));
    set_memory(false, false, HSM_PIN_FREE);
    assert_int_equal(until_state(HSM_STATE_OPEN, 0).restarts, 0);
}

static void
nothing_is_tried_while_nobody_can_be_asked(void **state)
{
    (void)state;
    memory.away = true;
    open_token();
    until(&memory.calls, 3);
    assert_non_null(strstr(until_state(HSM_STATE_LOST, 0).last_error, "the store is away"));
    set_memory(false, false, HSM_PIN_TRY);
    (void)until_state(HSM_STATE_OPEN, 0);
    until(&memory.told, 1);
    assert_int_equal(memory.outcomes[0], HSM_PIN_WAS_ACCEPTED);
}

static void
what_others_were_refused_is_not_tried(void **state)
{
    static const enum hsm_pin_answer answers[] = { HSM_PIN_REFUSED, HSM_PIN_HELP };

    (void)state;
    for (size_t i = 0; i < CC_COUNT(answers); i++) {
        memory.answer = answers[i];
        open_token();
        assert_non_null(
                strstr(until_state(HSM_STATE_PIN_REFUSED, 0).last_error, "so says the memory"));
        close_token();
        assert_int_equal(memory.told, 0);
    }
}

static void
an_outcome_is_told_until_it_is_noted(void **state)
{
    (void)state;
    memory.tells_fail = 3;
    open_token();
    (void)until_state(HSM_STATE_OPEN, 0);
    until(&memory.told, 1);
    close_token();
    assert_int_equal(memory.told, 1);
    assert_int_equal(memory.tells_fail, 0);
}

/* What was allowed to a process that is gone was not tried; its successor asks for itself. */
static void
a_process_that_dies_before_its_answer(void **state)
{
    (void)state;
    memory.stuck = true;
    open_token();
    until(&memory.asks, 1);
    assert_int_equal(kill(status().pid, SIGKILL), 0);
    (void)until_state(HSM_STATE_LOST, 1);
    set_memory(false, false, HSM_PIN_TRY);
    (void)until_state(HSM_STATE_OPEN, 0);
    until(&memory.told, 2);
    assert_int_equal(memory.outcomes[0], HSM_PIN_NOT_TRIED);
    assert_int_equal(memory.outcomes[1], HSM_PIN_WAS_ACCEPTED);
}

static int
run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_may_try_tells_what_came_of_it, setup, teardown),
        cmocka_unit_test_setup_teardown(of_a_free_pin_nothing_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(others_are_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_tried_while_nobody_can_be_asked, setup,
                teardown),
        cmocka_unit_test_setup_teardown(what_others_were_refused_is_not_tried, setup, teardown),
        cmocka_unit_test_setup_teardown(an_outcome_is_told_until_it_is_noted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_process_that_dies_before_its_answer, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

int
main(void)
{
    return token_dir_run(NULL, 0, &token, run_all);
}
