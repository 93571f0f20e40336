/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/failpoint.h"
#include "base/text.h"

/*
 * How often an operation is sent: once, and again each time the process was lost under it.  An operation that ends
 * its process itself must not do so for ever; but one that had the bad luck to run beside it may have it twice.
 */
#define CALL_TRIES 3

int64_t
hsm_patience_ms(const struct hsm *hsm)
{
    return hsm->deadline_ms * 3 / 10;
}

/* ---- taking and giving back ---- */

void
hsm_condemn_locked(struct hsm *hsm, const char *reason)
{
    if (!hsm->condemned)
        (void)cc_strcpy(hsm->reason, sizeof(hsm->reason), reason);
    hsm->condemned = true;
    hsm->serving = false;
    for (unsigned i = 0; i <= hsm->sessions; i++)
        if (hsm->channels[i].fd >= 0)
            (void)shutdown(hsm->channels[i].fd, SHUT_RDWR);
    hsm_wake(hsm);
}

/* Why the wait was for nothing. */
static void
channel_none(struct hsm *hsm, const struct hsm_key *key, struct cc_err *err)
{
    if (hsm->stopping)
        cc_err_set(err, CC_DOM_CANCELLED, 0, "the token is being closed");
    else if (key != NULL && key->refusal.domain != CC_DOM_NONE)
        cc_err_set(err, key->refusal.domain, key->refusal.code, "%s", key->refusal.text);
    else if (!hsm->serving)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                "no token process within the deadline%s%s",
                hsm->status.last_error[0] != '\0' ? "; it was lost: " : "", hsm->status.last_error);
    else
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                "all %u sessions were busy until the deadline", hsm->sessions);
}

/*
 * Waits in line for a channel.  first: before those who have not been served yet, because this one was and lost it.
 */
static int
channel_take(struct hsm *hsm, const struct hsm_key *key, bool lengthy, bool first, int64_t deadline,
        struct hsm_channel **ret_channel, struct cc_err *err)
{
    struct hsm_waiter self = { .key = key, .work = hsm_work_of(key), .lengthy = lengthy };
    const struct timespec until = cc_cond_time(cc_deadline_left(deadline));
    int rc = 0;

    if (cc_cond_init(&self.turn, err) != 0)
        return -1;
    (void)pthread_mutex_lock(&hsm->lock);
    hsm_line_join_locked(hsm, &self, first);
    while (self.granted == NULL && rc == 0 && !hsm->stopping &&
            (key == NULL || key->refusal.domain == CC_DOM_NONE))
        rc = pthread_cond_timedwait(&self.turn, &hsm->lock, &until);
    if (self.granted == NULL) {
        hsm_line_leave_locked(hsm, &self);
        channel_none(hsm, key, err);
        rc = -1;
    } else {
        *ret_channel = self.granted;
        rc = 0;
    }
    (void)pthread_mutex_unlock(&hsm->lock);
    (void)pthread_cond_destroy(&self.turn);
    return rc;
}

/* Whether this answer tells that the token is not what we last knew of it. */
static bool
answer_is_news(const struct cc_err *err)
{
    return err->domain == CC_DOM_TOKEN &&
           (err->code == HSM_FAULT_UNAVAILABLE || err->code == HSM_FAULT_PIN_REFUSED);
}

static void
channel_give(struct hsm *hsm, struct hsm_channel *channel, enum hsm_outcome outcome,
        const struct cc_err *err)
{
    (void)pthread_mutex_lock(&hsm->lock);
    hsm_release_locked(hsm, channel);
    if (outcome == HSM_ANSWERED) {
        hsm->status.operations++;
        if (err->domain != CC_DOM_NONE)
            hsm->status.failures++;
        if (answer_is_news(err) && !hsm->state_stale) {
            hsm->state_stale = true;
            hsm_wake(hsm);
        }
        hsm_grant_locked(hsm);
    } else if (!hsm->condemned) {
        hsm_condemn_locked(hsm, err->text);
    }
    if (hsm->condemned)
        (void)pthread_cond_broadcast(&hsm->changed);
    (void)pthread_mutex_unlock(&hsm->lock);
}

/* ---- one exchange ---- */

/* An error reply that is none must not pass for the token's answer. */
static int
reply_check_error(struct cc_bytes reply, struct cc_err *err)
{
    struct cc_bytes text = { 0 };
    uint8_t status = 0, domain = 0;
    uint64_t code = 0;

    if (wire_get_u8(&reply, &status, err) != 0 || wire_get_u8(&reply, &domain, err) != 0 ||
            wire_get_u64(&reply, &code, err) != 0 || wire_get_bytes(&reply, &text, err) != 0 ||
            wire_get_end(&reply, err) != 0)
        return -1;
    if (domain == CC_DOM_NONE || domain > CC_DOM_CANCELLED || text.len >= sizeof(err->text) ||
            (text.len > 0 && memchr(text.data, '\0', text.len) != NULL))
        return cc_err_set(err, CC_DOM_INPUT, 0, "an error reply that says nothing");
    return 0;
}

enum hsm_outcome
hsm_reply_read(struct cc_bytes reply, hsm_read_fn read, void *arg, struct cc_err *err)
{
    if (reply.len == 0 || (reply.data[0] != WIRE_OK && reply.data[0] != WIRE_ERROR)) {
        cc_err_set(err, CC_DOM_INPUT, 0, "a reply without status");
        return HSM_SENSELESS;
    }
    if (reply.data[0] == WIRE_ERROR) {
        if (reply_check_error(reply, err) != 0 || wire_get_status(&reply, err) == 0)
            return HSM_SENSELESS;
        return HSM_ANSWERED;
    }
    if (wire_get_status(&reply, err) != 0 || (read != NULL && read(&reply, arg, err) != 0) ||
            wire_get_end(&reply, err) != 0)
        return HSM_SENSELESS;
    return HSM_ANSWERED;
}

static bool
is_notice(const struct cc_buf *frame)
{
    return frame->len == 1 && frame->data[0] == WIRE_NOTICE;
}

/* On HSM_ANSWERED err is set or not, and that is the answer.  ret_notice: whether there were notices before it, or NULL
   where none may come. */
static enum hsm_outcome
channel_exchange(int fd, const struct cc_buf *call, int64_t deadline, hsm_read_fn read, void *arg,
        bool *ret_notice, struct cc_err *err)
{
    struct cc_buf reply = CC_BUF_INIT(WIRE_FRAME_MAX);
    enum hsm_outcome outcome;
    bool missed = false;
    int rc;

    if ((rc = wire_send(fd, call, deadline, err)) == 0)
        rc = wire_recv(fd, &reply, deadline, &missed, err);
    while (rc == 0 && ret_notice != NULL && is_notice(&reply)) {
        *ret_notice = true;
        rc = wire_recv(fd, &reply, deadline, &missed, err);
    }
    if (rc != 0)
        outcome = missed || cc_deadline_left(deadline) == 0 ? HSM_MISSED : HSM_LOST;
    else
        outcome = hsm_reply_read(cc_buf_bytes(&reply), read, arg, err);
    cc_buf_wipe(&reply);
    return outcome;
}

int
hsm_call_control(struct hsm *hsm, const struct cc_buf *call, int64_t deadline, hsm_read_fn read,
        void *arg, bool *ret_answered, struct cc_err *err)
{
    struct cc_err local = { 0 };
    bool notice = false;
    enum hsm_outcome outcome =
            channel_exchange(hsm->channels[0].fd, call, deadline, read, arg, &notice, &local);

    *ret_answered = outcome == HSM_ANSWERED;
    if (notice) {
        (void)pthread_mutex_lock(&hsm->lock);
        hsm->state_stale = true;
        (void)pthread_mutex_unlock(&hsm->lock);
    }
    if (local.domain == CC_DOM_NONE)
        return 0;
    return cc_err_set(err, local.domain, local.code, "%s", local.text);
}

/* ---- calls ---- */

/* How long primes are searched for is chance: what is merely unlucky must not pass for hung. */
static bool
call_is_long(const struct cc_buf *call)
{
    return call->data[0] == WIRE_DEVICE_KEY_NEW;
}

/* The least time that this operation is given. */
static int64_t
call_least_ms(const struct hsm *hsm, const struct cc_buf *call)
{
    return call_is_long(call) ? hsm->deadline_ms / 2 : hsm_patience_ms(hsm);
}

/*
 * Half the time that is left, so that a repeat has time too; but never so little that a token process which is merely
 * slow would be ended for an operation that stood in line too long.  All of it for a long one, whose repeat would begin
 * anew.
 */
static int64_t
call_try_deadline(const struct hsm *hsm, const struct cc_buf *call, int64_t deadline)
{
    const int64_t left = cc_deadline_left(deadline);
    const int64_t share = call_is_long(call) ? left : left / 2;
    const int64_t least = call_least_ms(hsm, call);

    return cc_deadline_in(share > least ? share : least);
}

static void
call_put_number(struct hsm *hsm, const struct hsm_key *key, struct cc_buf *call)
{
    uint16_t number;

    (void)pthread_mutex_lock(&hsm->lock);
    number = key->number;
    (void)pthread_mutex_unlock(&hsm->lock);
    call->data[1] = (uint8_t)(number >> 8);
    call->data[2] = (uint8_t)number;
}

/* 0: answered, err tells how; 1: the process was lost, err tells why; -1: no channel. */
static int
call_try(struct hsm *hsm, struct hsm_key *key, struct cc_buf *call, int64_t deadline, bool again,
        hsm_read_fn read, void *arg, struct cc_err *err)
{
    struct hsm_channel *channel = NULL;
    enum hsm_outcome outcome;

    if (channel_take(hsm, key, call_is_long(call), again, deadline - call_least_ms(hsm, call),
                &channel, err) != 0)
        return -1;
    if (key != NULL)
        call_put_number(hsm, key, call);
    outcome = channel_exchange(channel->fd, call, call_try_deadline(hsm, call, deadline), read, arg,
            NULL, err);
    channel_give(hsm, channel, outcome, err);
    return outcome == HSM_ANSWERED ? 0 : 1;
}

static void
call_measure(struct hsm *hsm, uint8_t op, int64_t began_us, bool failed)
{
    _Static_assert(WIRE_OPEN_CONTENT_KEY < HSM_MEASURED_MAX, "operations on keys are measured");
    if (op >= HSM_MEASURED_MAX)
        return;
    cc_histogram_add_since(&hsm->measures[op].time, began_us);
    if (failed)
        (void)atomic_fetch_add(&hsm->measures[op].failures, 1);
}

/* Whether the failure is the token's or ours, not that of what the operation was given. */
static bool
failure_is_outage(const struct cc_err *err)
{
    if (err->domain != CC_DOM_TOKEN)
        return err->domain != CC_DOM_PKCS11 && err->domain != CC_DOM_INPUT;
    switch ((enum hsm_fault)err->code) {
    case HSM_FAULT_UNAVAILABLE:
    case HSM_FAULT_PIN_REFUSED:
    case HSM_FAULT_KEY_NOT_FOUND:
    case HSM_FAULT_KEY_REPLACED:
    case HSM_FAULT_ROLE:
    case HSM_FAULT_UNSUPPORTED:
        return true;
    case HSM_FAULT_DECRYPT:
    case HSM_FAULT_RECIPIENT:
    case HSM_FAULT_PFX_PASSWORD:
    case HSM_FAULT_PFX_CONTENT:
    case HSM_FAULT_INPUT:
        return false;
    }
    return true;
}

/* Tells of a key that cannot be used, once; err is how an operation with it ended, CC_DOM_NONE: well. */
static void
call_tell_key(struct hsm *hsm, struct hsm_key *key, const struct cc_err *err)
{
    const bool is_key = err->domain == CC_DOM_TOKEN &&
                        (err->code == HSM_FAULT_KEY_NOT_FOUND ||
                                err->code == HSM_FAULT_KEY_REPLACED || err->code == HSM_FAULT_ROLE);

    if (err->domain == CC_DOM_NONE)
        atomic_store(&key->told, 0);
    else if (is_key && atomic_exchange(&key->told, (int)err->code) != (int)err->code &&
             hsm->on_key != NULL)
        hsm->on_key(hsm->on_key_arg, key, err);
}

static bool
call_has_time(const struct hsm *hsm, const struct cc_buf *call, int64_t deadline)
{
    return cc_deadline_left(deadline) >= call_least_ms(hsm, call);
}

/* Whatever the last try died of, to the caller it is one thing. */
static void
call_say_lost(struct cc_err *err)
{
    const struct cc_err cause = *err;

    cc_err_clear(err);
    cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "token process lost: %s", cause.text);
}

/* As call_try(), until it is not lost; err tells how it ended. */
static void
call_until_answered(struct hsm *hsm, struct hsm_key *key, struct cc_buf *call, hsm_read_fn read,
        void *arg, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(hsm->deadline_ms);
    int rc = 1;

    for (int tries = 0; rc > 0 && tries < CALL_TRIES && call_has_time(hsm, call, deadline);
            tries++) {
        cc_err_clear(err);
        rc = call_try(hsm, key, call, deadline, tries > 0, read, arg, err);
    }
    if (rc > 0)
        call_say_lost(err);
}

int
hsm_call(struct hsm *hsm, struct hsm_key *key, struct cc_buf *call, hsm_read_fn read, void *arg,
        struct cc_err *err)
{
    const int64_t began_us = cc_histogram_now();
    struct cc_err local = { 0 };

    if (CC_FAILPOINT("channel", wire_op_name(call->data[0]), "before"))
        cc_err_set(&local, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "fail point before the call");
    else
        call_until_answered(hsm, key, call, read, arg, &local);
    if (local.domain == CC_DOM_NONE &&
            CC_FAILPOINT("channel", wire_op_name(call->data[0]), "after"))
        cc_err_set(&local, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "fail point after the call");
    call_measure(hsm, call->data[0], began_us, local.domain != CC_DOM_NONE);
    if (key != NULL)
        call_tell_key(hsm, key, &local);
    if (local.domain == CC_DOM_NONE)
        return 0;
    if (key != NULL && failure_is_outage(&local))
        (void)atomic_fetch_add(&key->outages, 1);
    return cc_err_set(err, local.domain, local.code, "%s", local.text);
}
