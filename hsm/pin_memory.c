/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/text.h"

/*
 * What the token process asks of PINs goes to the memory that several instances share, in a thread of its own, as that
 * may be on a server which does not answer.  The supervisor fetches a question, hands it over, and carries the answer
 * back when it is there.
 *
 * What became of an attempt is told until it is noted.  A process that is gone with an attempt under way told nothing:
 * then that is told.
 */

/* Between two times that the memory is asked the same. */
#define ASK_FIRST_MS 50
#define ASK_MAX_MS 1000

/* LOCKED: hsm->lock. */
static bool
is_over(const struct hsm *hsm, const struct hsm_pin_work *work)
{
    return hsm->pins.stopping || (work->life != hsm->pins.life && work->kind != WIRE_PIN_OUTCOME);
}

/* LOCKED: hsm->lock.  The process whose question it was may be gone. */
static void
reply_locked(struct hsm *hsm, const struct hsm_pin_work *work, const struct hsm_pin_reply *reply)
{
    if (work->life != hsm->pins.life || work->number == 0)
        return;
    hsm->pins.reply = *reply;
    hsm->pins.reply.number = work->number;
    hsm->pins.has_reply = true;
    hsm_wake(hsm);
}

/* ---- one question ---- */

static int
ask_salt(struct hsm *hsm, const struct hsm_pin_work *work, struct hsm_pin_reply *reply)
{
    const struct hsm_pin_memory *memory = &hsm->pin_memory;

    if (memory->salt(memory->arg, work->pin.token, reply->salt, &reply->iterations, &reply->why) !=
            0)
        return -1;
    reply->answer = HSM_PIN_TRY;
    return 0;
}

static int
ask_may_try(struct hsm *hsm, const struct hsm_pin_work *work, struct hsm_pin_reply *reply)
{
    const struct hsm_pin_memory *memory = &hsm->pin_memory;

    return memory->ask(memory->arg, &work->pin, work->token_tells, &reply->answer, &reply->why);
}

/* Of a PIN that was free to be tried only its refusal is news. */
static int
tell_outcome(struct hsm *hsm, const struct hsm_pin_work *work, struct hsm_pin_reply *reply)
{
    const struct hsm_pin_memory *memory = &hsm->pin_memory;

    reply->answer = HSM_PIN_TRY;
    if (!work->was_ours && work->outcome != HSM_PIN_WAS_REFUSED)
        return 0;
    return memory->tell(memory->arg, &work->pin, work->outcome, work->reason, &reply->why);
}

static int
ask_once(struct hsm *hsm, const struct hsm_pin_work *work, struct hsm_pin_reply *reply)
{
    switch (work->kind) {
    case WIRE_PIN_SALT:
        return ask_salt(hsm, work, reply);
    case WIRE_PIN_MAY_TRY:
        return ask_may_try(hsm, work, reply);
    case WIRE_PIN_OUTCOME:
        return tell_outcome(hsm, work, reply);
    }
    return 0;
}

static void
say_away(const struct hsm_pin_reply *reply)
{
    cc_log(CC_LOG_WARNING, "hsm", "%s", cc_err_text(&reply->why));
}

/* Asks until there is an answer other than to wait.  false: it is wanted no more. */
static bool
ask_until_answered(struct hsm *hsm, const struct hsm_pin_work *work, struct hsm_pin_reply *reply)
{
    for (unsigned tries = 0;; tries++) {
        bool over;

        *reply = (struct hsm_pin_reply){ .answer = HSM_PIN_WAIT };
        if (ask_once(hsm, work, reply) != 0) {
            reply->answer = HSM_PIN_WAIT;
            cc_err_in(&reply->why, "what is known of the token's PIN cannot be asked now");
            if (tries == 0)
                say_away(reply);
        }
        (void)pthread_mutex_lock(&hsm->lock);
        over = is_over(hsm, work);
        if (!over && reply->answer == HSM_PIN_WAIT) {
            reply_locked(hsm, work, reply);
            cc_cond_wait(&hsm->pins.wanted, &hsm->lock,
                    cc_backoff_ms(tries, ASK_FIRST_MS, ASK_MAX_MS));
            over = is_over(hsm, work);
        }
        (void)pthread_mutex_unlock(&hsm->lock);
        if (reply->answer != HSM_PIN_WAIT)
            return true;
        if (over)
            return false;
    }
}

/* LOCKED: hsm->lock.  An attempt that was allowed to a process which is gone is given back: none was made. */
static void
finish_locked(struct hsm *hsm, const struct hsm_pin_work *work, const struct hsm_pin_reply *reply)
{
    struct hsm_pins *pins = &hsm->pins;

    if (work->kind == WIRE_PIN_MAY_TRY && reply->answer == HSM_PIN_TRY) {
        pins->permit = *work;
        pins->permit.kind = WIRE_PIN_OUTCOME;
        pins->permit.number = 0;
        pins->permit.was_ours = true;
        pins->permit.outcome = work->life == pins->life ? HSM_PIN_NOT_KNOWN : HSM_PIN_NOT_TRIED;
        pins->permitted = work->life == pins->life;
        pins->lost = !pins->permitted;
    }
    reply_locked(hsm, work, reply);
}

/* ---- the thread ---- */

/* LOCKED: hsm->lock. */
static bool
take_work_locked(struct hsm_pins *pins, struct hsm_pin_work *ret)
{
    if (pins->lost) {
        *ret = pins->permit;
        pins->lost = false;
        return true;
    }
    if (!pins->has_work)
        return false;
    *ret = pins->work;
    pins->has_work = false;
    if (ret->kind == WIRE_PIN_OUTCOME) {
        ret->was_ours = pins->permitted;
        pins->permitted = false;
    }
    return true;
}

static void *
pins_run(void *arg)
{
    struct hsm *hsm = arg;
    struct hsm_pins *pins = &hsm->pins;
    struct hsm_pin_work work;
    struct hsm_pin_reply reply;

    (void)pthread_mutex_lock(&hsm->lock);
    for (;;) {
        const bool stopping = pins->stopping;

        if (take_work_locked(pins, &work)) {
            (void)pthread_mutex_unlock(&hsm->lock);
            if (ask_until_answered(hsm, &work, &reply)) {
                (void)pthread_mutex_lock(&hsm->lock);
                finish_locked(hsm, &work, &reply);
            } else {
                (void)pthread_mutex_lock(&hsm->lock);
            }
        } else if (stopping) {
            break;
        } else {
            (void)pthread_cond_wait(&pins->wanted, &hsm->lock);
        }
    }
    (void)pthread_mutex_unlock(&hsm->lock);
    return NULL;
}

int
hsm_pins_start(struct hsm *hsm, struct cc_err *err)
{
    sigset_t all, before;
    int rc;

    if (hsm->pin_memory.ask == NULL)
        return 0;
    if (cc_cond_init(&hsm->pins.wanted, err) != 0)
        return -1;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&hsm->pins.thread, NULL, pins_run, hsm);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        (void)pthread_cond_destroy(&hsm->pins.wanted);
        return cc_err_set_errno(err, rc, "thread that asks about PINs");
    }
    (void)pthread_setname_np(hsm->pins.thread, "hsm-pins");
    hsm->pins.started = true;
    return 0;
}

void
hsm_pins_stop(struct hsm *hsm)
{
    if (!hsm->pins.started)
        return;
    (void)pthread_mutex_lock(&hsm->lock);
    hsm->pins.stopping = true;
    (void)pthread_cond_broadcast(&hsm->pins.wanted);
    (void)pthread_mutex_unlock(&hsm->lock);
    (void)pthread_join(hsm->pins.thread, NULL);
    (void)pthread_cond_destroy(&hsm->pins.wanted);
    hsm->pins.started = false;
}

/* ---- the supervisor's side ---- */

void
hsm_pins_forget_locked(struct hsm *hsm)
{
    struct hsm_pins *pins = &hsm->pins;

    if (!pins->started)
        return;
    /* What became of an attempt is told all the same. */
    if (pins->has_work && pins->work.kind != WIRE_PIN_OUTCOME)
        pins->has_work = false;
    if (pins->permitted && !pins->has_work) {
        pins->permitted = false;
        pins->lost = true;
    }
    pins->has_reply = pins->in_hand = false;
    pins->life++;
    (void)pthread_cond_broadcast(&pins->wanted);
}

bool
hsm_pins_in_hand(struct hsm *hsm)
{
    bool in_hand;

    (void)pthread_mutex_lock(&hsm->lock);
    in_hand = hsm->pins.in_hand;
    (void)pthread_mutex_unlock(&hsm->lock);
    return in_hand;
}

bool
hsm_pins_have_reply(struct hsm *hsm)
{
    bool have;

    (void)pthread_mutex_lock(&hsm->lock);
    have = hsm->pins.has_reply;
    (void)pthread_mutex_unlock(&hsm->lock);
    return have;
}

static int
read_question(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    struct hsm_pin_work *work = arg;
    struct cc_bytes hash = { 0 };
    uint8_t kind = 0, tells = 0, outcome = 0;

    if (wire_get_u32(rest, &work->number, err) != 0 || wire_get_u8(rest, &kind, err) != 0 ||
            wire_get_str(rest, work->pin.token, sizeof(work->pin.token), err) != 0 ||
            wire_get_bytes(rest, &hash, err) != 0 || wire_get_u8(rest, &tells, err) != 0 ||
            wire_get_u8(rest, &outcome, err) != 0 ||
            wire_get_str(rest, work->reason, sizeof(work->reason), err) != 0)
        return -1;
    if (kind < WIRE_PIN_SALT || kind > WIRE_PIN_OUTCOME || outcome > HSM_PIN_NOT_KNOWN ||
            hash.len != (kind == WIRE_PIN_SALT ? 0 : HSM_PIN_HASH))
        return cc_err_set(err, CC_DOM_INPUT, 0, "a question about a PIN that there is not");
    work->kind = (enum wire_pin_question)kind;
    work->outcome = (enum hsm_pin_outcome)outcome;
    work->token_tells = tells != 0;
    if (hash.len != 0)
        memcpy(work->pin.hash, hash.data, hash.len);
    return 0;
}

static int
fetch_question(struct hsm *hsm, int64_t deadline, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(16);
    struct hsm_pin_work work = { .kind = WIRE_PIN_SALT };
    bool answered = false;
    int rc = -1;

    if (wire_put_u8(&call, WIRE_PIN_QUESTION, err) != 0 ||
            hsm_call_control(hsm, &call, deadline, read_question, &work, &answered, err) != 0)
        goto out;
    (void)pthread_mutex_lock(&hsm->lock);
    if (work.number != 0) {
        work.life = hsm->pins.life;
        hsm->pins.work = work;
        hsm->pins.has_work = hsm->pins.in_hand = true;
        (void)pthread_cond_broadcast(&hsm->pins.wanted);
    }
    (void)pthread_mutex_unlock(&hsm->lock);
    rc = 0;
out:
    cc_buf_free(&call);
    return rc;
}

static int
send_reply(struct hsm *hsm, const struct hsm_pin_reply *reply, int64_t deadline, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(1024);
    const bool has_salt = reply->iterations != 0;
    bool answered = false;
    int rc = -1;

    if (wire_put_u8(&call, WIRE_PIN_ANSWER, err) == 0 &&
            wire_put_u32(&call, reply->number, err) == 0 &&
            wire_put_u8(&call, (uint8_t)reply->answer, err) == 0 &&
            wire_put_str(&call, reply->why.text, err) == 0 &&
            wire_put_bytes(&call, reply->salt, has_salt ? HSM_PIN_SALT : 0, err) == 0 &&
            wire_put_u32(&call, reply->iterations, err) == 0)
        rc = hsm_call_control(hsm, &call, deadline, NULL, NULL, &answered, err);
    cc_buf_free(&call);
    return rc;
}

int
hsm_pins_serve(struct hsm *hsm, bool asks, int64_t deadline, struct cc_err *err)
{
    struct hsm_pin_reply reply;
    bool has_reply;

    if (!hsm->pins.started)
        return 0;
    (void)pthread_mutex_lock(&hsm->lock);
    reply = hsm->pins.reply;
    has_reply = hsm->pins.has_reply;
    hsm->pins.has_reply = false;
    if (has_reply && reply.answer != HSM_PIN_WAIT)
        hsm->pins.in_hand = false;
    asks = asks && !hsm->pins.has_work;
    (void)pthread_mutex_unlock(&hsm->lock);

    if (has_reply && send_reply(hsm, &reply, deadline, err) != 0)
        return cc_err_in(err, "answer about a PIN");
    if (asks && fetch_question(hsm, deadline, err) != 0)
        return cc_err_in(err, "question about a PIN");
    return 0;
}
