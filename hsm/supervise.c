/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/*
 * One process after another, each through the same steps: start, settings, keys, the token's state; then it serves
 * until something is wrong with it, and is ended.  The first start after a good run comes almost at once, because
 * what was lost may have been a process that somebody killed; those after bad ones wait longer and longer.
 */

#define RESTART_FIRST_MS 10
#define RESTART_MAX_MS 5000
#define SETTLED_MS 5000 /* a process that served so long, or answered, was a good one */
#define STATE_SLICE_MS                                                                             \
    500 /* how long the process may wait with an answer while the token is being opened */
#define STATE_OPEN_MS 5000   /* how often a token that works is asked */
#define STATE_OTHER_MS 250   /* and one that does not */
#define GRACE_MS 1000        /* between SIGTERM and SIGKILL */
#define START_LEAST_MS 10000 /* what a process may take for one step of its start */

struct state_report {
    enum hsm_state state;
    char label[33], manufacturer[33], model[17], serial[17], profile[32];
    char last_error[sizeof(
            ((struct cc_err *)NULL)->text)]; /* hsm_status has room for its beginning */
    uint64_t opening_ms;
    uint8_t asks;
};

static int64_t
start_timeout_ms(const struct hsm *hsm)
{
    const int64_t ms = 3 * hsm->deadline_ms;

    return ms > START_LEAST_MS ? ms : START_LEAST_MS;
}

/*
 * How long an operation waits inside the process for a token that went away: less than the least time that we wait
 * for the operation, so that a process is not ended for its token's sake.
 */
static int64_t
open_timeout_ms(const struct hsm *hsm)
{
    return hsm->deadline_ms / 5;
}

/* ---- states ---- */

/* LOCKED: hsm->lock.  Whether that is news, to be told with state_tell() when the lock is gone. */
static bool
state_set_locked(struct hsm *hsm, enum hsm_state state)
{
    if (hsm->status.state == state)
        return false;
    hsm->status.state = state;
    hsm->status.since_ms = cc_clock_now_ms();
    (void)pthread_cond_broadcast(&hsm->changed);
    return true;
}

static void
state_tell(struct hsm *hsm, enum hsm_state state, const char *why)
{
    struct cc_err err = { 0 };

    cc_log(CC_LOG_INFO, "hsm", "token %s%s%s", hsm_state_name(state), why[0] != '\0' ? ": " : "",
            why);
    if (hsm->on_state == NULL)
        return;
    if (state == HSM_STATE_LOST)
        cc_err_set(&err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "%s", why);
    else if (state == HSM_STATE_PIN_REFUSED)
        cc_err_set(&err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED, "%s", why);
    hsm->on_state(hsm->on_state_arg, state, err.domain != CC_DOM_NONE ? &err : NULL);
}

static void
state_lose(struct hsm *hsm, const char *why)
{
    bool news;

    (void)pthread_mutex_lock(&hsm->lock);
    (void)cc_strcpy(hsm->status.last_error, sizeof(hsm->status.last_error), why);
    news = state_set_locked(hsm, HSM_STATE_LOST);
    (void)pthread_mutex_unlock(&hsm->lock);
    if (news)
        state_tell(hsm, HSM_STATE_LOST, why);
}

static void
state_take_report(struct hsm *hsm, const struct state_report *report)
{
    struct hsm_status *status = &hsm->status;
    bool news;

    (void)pthread_mutex_lock(&hsm->lock);
    (void)cc_strcpy(status->label, sizeof(status->label), report->label);
    (void)cc_strcpy(status->manufacturer, sizeof(status->manufacturer), report->manufacturer);
    (void)cc_strcpy(status->model, sizeof(status->model), report->model);
    (void)cc_strcpy(status->serial, sizeof(status->serial), report->serial);
    (void)cc_strcpy(status->profile, sizeof(status->profile), report->profile);
    if (report->state != HSM_STATE_OPEN)
        (void)cc_strcpy(status->last_error, sizeof(status->last_error), report->last_error);
    news = report->state != HSM_STATE_STARTING && state_set_locked(hsm, report->state);
    (void)pthread_mutex_unlock(&hsm->lock);
    if (news)
        state_tell(hsm, report->state, report->state == HSM_STATE_OPEN ? "" : report->last_error);
}

/* ---- what the supervisor says to the process ---- */

static int
control_setup(struct hsm *hsm, bool *ret_answered, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    int rc = -1;

    *ret_answered = false;
    if (wire_put_u8(&call, WIRE_SETUP, err) != 0 || wire_put_u32(&call, WIRE_VERSION, err) != 0 ||
            wire_put_str(&call, hsm->module, err) != 0 ||
            wire_put_str(&call, hsm->init_args, err) != 0 ||
            wire_put_str(&call, hsm->uri, err) != 0 || wire_put_str(&call, hsm->pin, err) != 0 ||
            wire_put_str(&call, hsm->profile, err) != 0 ||
            wire_put_str(&call, hsm->state_dir, err) != 0 ||
            wire_put_u8(&call, hsm->allow_raw_rsa, err) != 0 ||
            wire_put_u64(&call, (uint64_t)open_timeout_ms(hsm), err) != 0 ||
            wire_put_u8(&call, hsm->pins.started, err) != 0)
        goto out;
    rc = hsm_call_control(hsm, &call, cc_deadline_in(start_timeout_ms(hsm)), NULL, NULL,
            ret_answered, err);
out:
    cc_buf_free(&call);
    return rc;
}

static int
read_u16(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    return wire_get_u16(rest, arg, err);
}

/* The pinned public key goes along, so that a new process accepts no other. */
static int
control_put_key(struct hsm *hsm, const struct hsm_key *key, struct cc_buf *call, struct cc_err *err)
{
    int rc;

    if (wire_put_u8(call, WIRE_ADD_KEY, err) != 0 ||
            wire_put_u8(call, (uint8_t)key->role, err) != 0 ||
            wire_put_str(call, key->uri, err) != 0)
        return -1;
    (void)pthread_mutex_lock(&hsm->lock);
    rc = wire_put_bytes(call, key->spki, key->spki_len, err);
    (void)pthread_mutex_unlock(&hsm->lock);
    return rc;
}

/* A key that the process refuses keeps the reason, and the others go on. */
static int
control_add_key(struct hsm *hsm, struct hsm_key *key, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_err refusal = { 0 };
    uint16_t number = 0;
    bool answered = false;
    int rc = -1;

    if (control_put_key(hsm, key, &call, err) != 0)
        goto out;
    rc = hsm_call_control(hsm, &call, cc_deadline_in(start_timeout_ms(hsm)), read_u16, &number,
            &answered, &refusal);
    if (rc != 0 && !answered) {
        cc_err_set(err, refusal.domain, refusal.code, "%s", refusal.text);
        goto out;
    }
    (void)pthread_mutex_lock(&hsm->lock);
    key->added = rc == 0;
    key->number = number;
    key->refusal = refusal;
    if (rc != 0)
        hsm_line_wake_locked(hsm);
    (void)pthread_mutex_unlock(&hsm->lock);
    rc = 0;
out:
    cc_buf_free(&call);
    return rc;
}

static struct hsm_key *
find_unknown_key(struct hsm *hsm)
{
    struct hsm_key *found = NULL;

    (void)pthread_mutex_lock(&hsm->lock);
    for (size_t i = 0; i < hsm->key_count && found == NULL; i++)
        if (!hsm->keys[i]->added && hsm->keys[i]->refusal.domain == CC_DOM_NONE)
            found = hsm->keys[i];
    (void)pthread_mutex_unlock(&hsm->lock);
    return found;
}

static int
control_add_keys(struct hsm *hsm, struct cc_err *err)
{
    struct hsm_key *key;

    while ((key = find_unknown_key(hsm)) != NULL)
        if (control_add_key(hsm, key, err) != 0)
            return cc_err_in(err, "name key %s to the token process", key->uri);
    (void)pthread_mutex_lock(&hsm->lock);
    hsm_grant_locked(hsm);
    (void)pthread_mutex_unlock(&hsm->lock);
    return 0;
}

static int
read_state(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    struct state_report *report = arg;
    uint8_t state = 0;

    if (wire_get_u8(rest, &state, err) != 0 ||
            wire_get_str(rest, report->label, sizeof(report->label), err) != 0 ||
            wire_get_str(rest, report->manufacturer, sizeof(report->manufacturer), err) != 0 ||
            wire_get_str(rest, report->model, sizeof(report->model), err) != 0 ||
            wire_get_str(rest, report->serial, sizeof(report->serial), err) != 0 ||
            wire_get_str(rest, report->profile, sizeof(report->profile), err) != 0 ||
            wire_get_str(rest, report->last_error, sizeof(report->last_error), err) != 0 ||
            wire_get_u64(rest, &report->opening_ms, err) != 0 ||
            wire_get_u8(rest, &report->asks, err) != 0)
        return -1;
    if (state > HSM_STATE_PIN_REFUSED)
        return cc_err_set(err, CC_DOM_INPUT, 0, "token state %u", state);
    report->state = (enum hsm_state)state;
    return 0;
}

/*
 * Asks for the token's state, which the process may hold back for wait_ms while the token is being opened, and carries
 * questions and answers about PINs.
 */
static int
control_state(struct hsm *hsm, int64_t wait_ms, enum hsm_state *ret_state, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct state_report report = { 0 };
    bool answered = false;
    int rc = -1;

    if (wire_put_u8(&call, WIRE_STATE, err) != 0 ||
            wire_put_u64(&call, (uint64_t)wait_ms, err) != 0 ||
            hsm_call_control(hsm, &call, cc_deadline_in(wait_ms + start_timeout_ms(hsm)),
                    read_state, &report, &answered, err) != 0)
        goto out;
    state_take_report(hsm, &report);
    /* Modules are known that never come back from a server that stopped; only another process helps. */
    if (report.opening_ms > (uint64_t)start_timeout_ms(hsm)) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                "the PKCS#11 module has not come back from opening the token for %llu ms",
                (unsigned long long)report.opening_ms);
        goto out;
    }
    if (hsm_pins_serve(hsm, report.asks != 0, cc_deadline_in(start_timeout_ms(hsm)), err) != 0)
        goto out;
    *ret_state = report.state;
    rc = 0;
out:
    cc_buf_free(&call);
    return rc;
}

/* ---- the life of one process ---- */

static bool
must_end(struct hsm *hsm)
{
    bool end;

    (void)pthread_mutex_lock(&hsm->lock);
    end = hsm->stopping || hsm->condemned;
    (void)pthread_mutex_unlock(&hsm->lock);
    return end;
}

/* Says once to hsm_open() how the first start went. */
static void
judge(struct hsm *hsm, const struct cc_err *verdict)
{
    (void)pthread_mutex_lock(&hsm->lock);
    if (!hsm->judged) {
        hsm->judged = true;
        if (verdict != NULL)
            hsm->verdict = *verdict;
        (void)pthread_cond_broadcast(&hsm->changed);
    }
    (void)pthread_mutex_unlock(&hsm->lock);
}

static int
life_start(struct hsm *hsm, struct cc_err *err)
{
    int fds[WIRE_CHANNELS_MAX];

    if (hsm_process_start(hsm->helper, hsm->sessions + 1, fds, &hsm->process, err) != 0) {
        judge(hsm, err);
        return -1;
    }
    (void)pthread_mutex_lock(&hsm->lock);
    for (unsigned i = 0; i <= hsm->sessions; i++)
        hsm->channels[i] = (struct hsm_channel){ .fd = fds[i] };
    hsm->condemned = false;
    hsm->reason[0] = '\0';
    hsm->state_stale = false;
    hsm->status.pid = hsm->process.pid;
    if (hsm->stopping)
        hsm_condemn_locked(hsm, "");
    (void)pthread_mutex_unlock(&hsm->lock);
    return 0;
}

/* Only an answer that says no is a verdict on the settings; a process that died may do better next time. */
static int
life_introduce(struct hsm *hsm, struct cc_err *err)
{
    bool answered = false;

    if (control_setup(hsm, &answered, err) != 0) {
        judge(hsm, answered ? err : NULL);
        return -1;
    }
    judge(hsm, NULL);
    return 0;
}

static void
drain_wake(struct hsm *hsm)
{
    uint64_t count;

    while (read(hsm->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

static void
condemn(struct hsm *hsm)
{
    (void)pthread_mutex_lock(&hsm->lock);
    hsm_condemn_locked(hsm, "");
    (void)pthread_mutex_unlock(&hsm->lock);
}

static void
set_state_stale(struct hsm *hsm)
{
    (void)pthread_mutex_lock(&hsm->lock);
    hsm->state_stale = true;
    (void)pthread_mutex_unlock(&hsm->lock);
}

/*
 * Sleeps until there is something to do: the process ended, or sent a notice; somebody called hsm_wake(); or it is
 * time.  A process that has closed its channel is about to end, and then that is waited for.
 */
static void
life_sleep(struct hsm *hsm, int64_t ms)
{
    const int64_t until = cc_deadline_in(ms);
    struct pollfd p[3] = {
        { .fd = hsm->wake_fd, .events = POLLIN },
        { .fd = hsm->process.pidfd, .events = POLLIN },
        { .fd = hsm->channels[0].fd, .events = POLLIN },
    };
    const bool runs = hsm->process.pid != 0;

    (void)poll(p, runs ? 3 : 1, cc_deadline_left(until));
    if (runs && (p[2].revents & (POLLHUP | POLLERR)) != 0)
        (void)poll(p, 2, cc_deadline_left(until));
    else if (runs && p[2].revents != 0)
        set_state_stale(hsm);
    if (p[0].revents != 0)
        drain_wake(hsm);
    if (runs && p[1].revents != 0)
        condemn(hsm);
}

static int
life_await_token(struct hsm *hsm, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(start_timeout_ms(hsm));
    enum hsm_state state = HSM_STATE_STARTING;

    while (state == HSM_STATE_STARTING && !must_end(hsm)) {
        if (cc_deadline_left(deadline) == 0)
            return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                    "the token was not opened within %lld ms", (long long)start_timeout_ms(hsm));
        /* While a question is with us, the process has nothing to say. */
        if (control_add_keys(hsm, err) != 0 ||
                control_state(hsm, hsm_pins_in_hand(hsm) ? 0 : STATE_SLICE_MS, &state, err) != 0)
            return -1;
        if (state == HSM_STATE_STARTING && hsm_pins_in_hand(hsm))
            life_sleep(hsm, STATE_SLICE_MS);
    }
    return 0;
}

static void
life_open_doors(struct hsm *hsm)
{
    (void)pthread_mutex_lock(&hsm->lock);
    hsm->serving = !hsm->condemned && !hsm->stopping;
    hsm_grant_locked(hsm);
    (void)pthread_mutex_unlock(&hsm->lock);
}

static bool
take_state_stale(struct hsm *hsm)
{
    bool stale;

    (void)pthread_mutex_lock(&hsm->lock);
    stale = hsm->state_stale;
    hsm->state_stale = false;
    (void)pthread_mutex_unlock(&hsm->lock);
    return stale;
}

static int
life_serve(struct hsm *hsm, struct cc_err *err)
{
    enum hsm_state state = HSM_STATE_STARTING;
    int64_t next = cc_deadline_in(0);

    life_open_doors(hsm);
    while (!must_end(hsm)) {
        if (control_add_keys(hsm, err) != 0)
            return -1;
        if (take_state_stale(hsm) || hsm_pins_have_reply(hsm) || cc_deadline_left(next) == 0) {
            if (control_state(hsm, 0, &state, err) != 0)
                return -1;
            next = cc_deadline_in(state == HSM_STATE_OPEN ? STATE_OPEN_MS : STATE_OTHER_MS);
        }
        life_sleep(hsm, cc_deadline_left(next));
    }
    return 0;
}

static bool
all_idle(const struct hsm *hsm)
{
    for (unsigned i = 0; i <= hsm->sessions; i++)
        if (hsm->channels[i].busy)
            return false;
    return true;
}

/* The reason may be cut, the status not. */
static void
describe_end(int status, const char *reason, char *ret, size_t size)
{
    char how[64];
    size_t len;

    if (WIFSIGNALED(status))
        (void)snprintf(how, sizeof(how), "token process ended by signal %d", WTERMSIG(status));
    else
        (void)snprintf(how, sizeof(how), "token process ended with status %d", WEXITSTATUS(status));
    (void)cc_strcpy(ret, size, how);
    if (reason[0] == '\0')
        return;
    len = strlen(ret);
    (void)cc_strcpy(ret + len, size - len, ": ");
    (void)cc_strcpy(ret + len + 2, size - len - 2, reason);
}

/* LOCKED: hsm->lock. */
static void
life_forget_locked(struct hsm *hsm)
{
    for (unsigned i = 0; i <= hsm->sessions; i++) {
        if (hsm->channels[i].fd >= 0)
            (void)close(hsm->channels[i].fd);
        hsm->channels[i].fd = -1;
    }
    for (size_t i = 0; i < hsm->key_count; i++) {
        hsm->keys[i]->added = false;
        cc_err_clear(&hsm->keys[i]->refusal);
    }
    hsm->status.pid = 0;
    hsm_pins_forget_locked(hsm);
}

/* Nobody is given a channel any more, those who have one come back, the process is ended, and all is closed. */
static void
life_end(struct hsm *hsm, const struct cc_err *err)
{
    char why[sizeof(hsm->status.last_error)];
    const int64_t grace = hsm->deadline_ms / 20;
    const bool ran = hsm->process.pid != 0;
    bool stopping;
    int status;

    (void)pthread_mutex_lock(&hsm->lock);
    hsm_condemn_locked(hsm, err->text);
    (void)pthread_mutex_unlock(&hsm->lock);

    status = hsm_process_end(&hsm->process, grace < GRACE_MS ? grace : GRACE_MS);

    (void)pthread_mutex_lock(&hsm->lock);
    while (!all_idle(hsm))
        (void)pthread_cond_wait(&hsm->changed, &hsm->lock);
    life_forget_locked(hsm);
    if (ran)
        describe_end(status, hsm->reason, why, sizeof(why));
    else
        (void)cc_strcpy(why, sizeof(why), err->text);
    stopping = hsm->stopping;
    (void)pthread_mutex_unlock(&hsm->lock);
    if (!stopping)
        state_lose(hsm, why);
}

static uint64_t
count_operations(struct hsm *hsm)
{
    uint64_t operations;

    (void)pthread_mutex_lock(&hsm->lock);
    operations = hsm->status.operations;
    (void)pthread_mutex_unlock(&hsm->lock);
    return operations;
}

/* true: the process was of use, so that the next one need not wait. */
static bool
live_once(struct hsm *hsm)
{
    const uint64_t before = count_operations(hsm);
    struct cc_err err = { 0 };
    int64_t settled = INT64_MAX;

    if (life_start(hsm, &err) == 0 && life_introduce(hsm, &err) == 0 &&
            life_await_token(hsm, &err) == 0) {
        settled = cc_deadline_in(SETTLED_MS);
        (void)life_serve(hsm, &err);
    }
    life_end(hsm, &err);
    return count_operations(hsm) > before ||
           (settled != INT64_MAX && cc_deadline_left(settled) == 0);
}

static bool
is_stopping(struct hsm *hsm)
{
    bool stopping;

    (void)pthread_mutex_lock(&hsm->lock);
    stopping = hsm->stopping || hsm->verdict.domain != CC_DOM_NONE;
    (void)pthread_mutex_unlock(&hsm->lock);
    return stopping;
}

static void
wait_before_restart(struct hsm *hsm, unsigned failures)
{
    const int64_t until = cc_deadline_in(
            failures == 0 ? RESTART_FIRST_MS
                          : cc_backoff_ms(failures, RESTART_FIRST_MS, RESTART_MAX_MS));

    while (!is_stopping(hsm) && cc_deadline_left(until) > 0)
        life_sleep(hsm, cc_deadline_left(until));
}

void *
hsm_supervise(void *arg)
{
    struct hsm *hsm = arg;
    unsigned failures = 0;

    while (!is_stopping(hsm)) {
        failures = live_once(hsm) ? 0 : failures + 1;
        wait_before_restart(hsm, failures);
        if (is_stopping(hsm))
            break;
        (void)pthread_mutex_lock(&hsm->lock);
        hsm->status.restarts++;
        (void)pthread_mutex_unlock(&hsm->lock);
    }
    return NULL;
}
