/* SPDX-License-Identifier: MIT */
#include "hsm/token/conn.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "hsm/token/ckr.h"
#include "hsm/token/key.h"
#include "hsm/token/open.h"

/* Of opening anew, in milliseconds. */
#define CONN_BACKOFF_BASE 20
#define CONN_BACKOFF_CAP 2000
/* Failures at a start are races for so long, and are not reported. */
#define CONN_START_GRACE 1000
/* How often a refused PIN is looked at for a change, and a locked token asked again. */
#define CONN_PIN_LOOK 2000
#define CONN_FLAG_LOOK 5000
/* What was opened so long ago may know nothing of keys made since. */
#define CONN_FRESH 5000
/* Waiting for a session of a token that has none left. */
#define CONN_BUSY_BASE 5
#define CONN_BUSY_CAP 100

#define CONN_TRIES 4 /* searches and repairs of one operation, its two executions included */

enum conn_phase { CONN_IDLE, CONN_OPENING, CONN_OPEN, CONN_DOWN, CONN_REFUSED };
enum conn_repair { CONN_NO_REPAIR, CONN_LOGIN, CONN_REOPEN };

struct conn_handle {
    CK_OBJECT_HANDLE handle;
    unsigned generation; /* 0: not searched */
};

struct p11_conn {
    struct token *token; /* borrowed */
    CK_FUNCTION_LIST *f; /* called without the lock, by those inside or by the opener */
    pthread_t opener;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    enum conn_phase phase;
    enum conn_repair want;
    bool stopping;
    bool poked;            /* somebody wants a refused PIN looked at now */
    unsigned looks;        /* at a refused PIN */
    unsigned inside;       /* operations in the module */
    unsigned generation;   /* of the last opening, from 1 */
    unsigned attempt;      /* failures since the last opening */
    int64_t opening_since; /* in CONN_OPENING */
    int64_t opened_at;
    int64_t down_since;
    int64_t refused_at;
    struct cc_err why; /* of the last failure */
    struct p11_opened opened;
    struct conn_handle handles[WIRE_KEYS_MAX]; /* by key number */
};

/* ---- The opener ---- */

static enum p11_outcome
conn_open_now(struct p11_conn *conn, enum conn_repair want, bool was_open, struct cc_err *err)
{
    enum p11_outcome outcome;

    if (want == CONN_LOGIN && was_open) {
        outcome = p11_open_again(conn->token, conn->f, &conn->opened, NULL);
        if (outcome == P11_OPENED)
            return outcome;
    }
    if (was_open)
        p11_finalize(conn->f);
    return p11_open(conn->token, conn->f, &conn->opened, err);
}

/* Lock held. */
static void
conn_opened(struct p11_conn *conn)
{
    conn->phase = CONN_OPEN;
    conn->want = CONN_NO_REPAIR;
    conn->attempt = 0;
    conn->opened_at = cc_clock_mono_ms();
    if (++conn->generation == 0)
        conn->generation = 1;
    token_note_open(conn->token, &conn->opened.library, &conn->opened.info);
}

/* Lock held. */
static void
conn_failed(struct p11_conn *conn, enum p11_outcome outcome, const struct cc_err *why)
{
    const int64_t now = cc_clock_mono_ms();

    conn->why = *why;
    if (conn->attempt++ == 0)
        conn->down_since = now;
    if (outcome == P11_FAILED) {
        conn->phase = CONN_DOWN;
        conn->want = CONN_REOPEN;
        if (conn->generation != 0 || now - conn->down_since >= CONN_START_GRACE)
            token_note_failure(conn->token, HSM_STATE_LOST, why);
        return;
    }
    conn->phase = CONN_REFUSED;
    conn->want = CONN_NO_REPAIR;
    conn->refused_at = now;
    token_note_failure(conn->token, HSM_STATE_PIN_REFUSED, why);
}

/* Lock held, released during the call into the module. */
static enum p11_outcome
conn_attempt(struct p11_conn *conn)
{
    const bool was_open = conn->phase == CONN_OPEN;
    const enum conn_repair want = conn->want;
    enum p11_outcome outcome;
    struct cc_err why = { 0 };

    conn->phase = CONN_OPENING;
    conn->opening_since = cc_clock_mono_ms();
    (void)pthread_mutex_unlock(&conn->lock);
    outcome = conn_open_now(conn, want, was_open, &why);
    (void)pthread_mutex_lock(&conn->lock);

    if (outcome == P11_OPENED)
        conn_opened(conn);
    else
        conn_failed(conn, outcome, &why);
    (void)pthread_cond_broadcast(&conn->changed);
    return outcome;
}

/* Lock held.  Waits for ms, shorter when stopping. */
static void
conn_pause(struct p11_conn *conn, int64_t ms)
{
    const int64_t deadline = cc_deadline_in(ms);

    while (!conn->stopping && token_cond_wait(&conn->changed, &conn->lock, deadline))
        ;
}

/* Lock held.  A refused PIN is looked at from time to time and when somebody asks; only another one is tried. */
static void
conn_look_at_pin(struct p11_conn *conn, bool flagged)
{
    const int64_t deadline =
            flagged ? conn->refused_at + CONN_FLAG_LOOK : cc_deadline_in(CONN_PIN_LOOK);
    bool changed;

    while (!conn->stopping && !conn->poked &&
            token_cond_wait(&conn->changed, &conn->lock, deadline))
        ;
    if (conn->stopping)
        return;
    /* What the token's flags forbid ends with the flags, whatever the PIN; opening looks at them first. */
    changed = flagged && cc_deadline_left(deadline) == 0;
    if (!flagged) {
        (void)pthread_mutex_unlock(&conn->lock);
        (void)pthread_mutex_lock(&conn->token->login_lock);
        changed = pin_gate_changed(conn->token->gate);
        (void)pthread_mutex_unlock(&conn->token->login_lock);
        (void)pthread_mutex_lock(&conn->lock);
    }
    conn->poked = false;
    conn->looks++;
    if (changed)
        conn->want = CONN_REOPEN;
    (void)pthread_cond_broadcast(&conn->changed);
}

static void *
conn_opener(void *arg)
{
    struct p11_conn *conn = arg;
    enum p11_outcome outcome = P11_OPENED;

    (void)pthread_mutex_lock(&conn->lock);
    while (!conn->stopping) {
        if (conn->want == CONN_NO_REPAIR && conn->phase == CONN_REFUSED) {
            conn_look_at_pin(conn, outcome == P11_FLAGGED);
        } else if (conn->want == CONN_NO_REPAIR || conn->inside > 0) {
            (void)pthread_cond_wait(&conn->changed, &conn->lock);
        } else {
            outcome = conn_attempt(conn);
            if (outcome == P11_FAILED)
                conn_pause(conn, cc_backoff_ms(conn->attempt, CONN_BACKOFF_BASE, CONN_BACKOFF_CAP));
        }
    }
    (void)pthread_mutex_unlock(&conn->lock);
    return NULL;
}

/* ---- Life ---- */

int
p11_conn_new(struct token *token, CK_FUNCTION_LIST *f, bool eager, struct p11_conn **ret_conn,
        struct cc_err *err)
{
    struct p11_conn *conn = calloc(1, sizeof(*conn));
    int e;

    if (conn == NULL)
        return cc_err_nomem(err);
    conn->token = token;
    conn->f = f;
    conn->phase = CONN_IDLE;
    conn->want = eager ? CONN_REOPEN : CONN_NO_REPAIR;
    if (cc_cond_init(&conn->changed, err) != 0) {
        free(conn);
        return -1;
    }
    (void)pthread_mutex_init(&conn->lock, NULL);
    if ((e = pthread_create(&conn->opener, NULL, conn_opener, conn)) != 0) {
        (void)pthread_cond_destroy(&conn->changed);
        (void)pthread_mutex_destroy(&conn->lock);
        free(conn);
        return cc_err_set_errno(err, e, "thread that opens the token");
    }
    (void)pthread_setname_np(conn->opener, "opener");
    *ret_conn = conn;
    return 0;
}

void
p11_conn_stop(struct p11_conn *conn)
{
    (void)pthread_mutex_lock(&conn->lock);
    conn->stopping = true;
    (void)pthread_cond_broadcast(&conn->changed);
    (void)pthread_mutex_unlock(&conn->lock);
}

int64_t
p11_conn_opening_ms(struct p11_conn *conn)
{
    int64_t ms = 0;

    (void)pthread_mutex_lock(&conn->lock);
    if (conn->phase == CONN_OPENING)
        ms = cc_clock_mono_ms() - conn->opening_since;
    (void)pthread_mutex_unlock(&conn->lock);
    return ms;
}

bool
p11_conn_close(struct p11_conn *conn, int64_t deadline)
{
    bool quiet;

    if (conn == NULL)
        return true;
    p11_conn_stop(conn);
    (void)pthread_mutex_lock(&conn->lock);
    while ((conn->inside > 0 || conn->phase == CONN_OPENING) &&
            token_cond_wait(&conn->changed, &conn->lock, deadline))
        ;
    quiet = conn->inside == 0 && conn->phase != CONN_OPENING;
    (void)pthread_mutex_unlock(&conn->lock);

    if (!quiet)
        return false;
    (void)pthread_join(conn->opener, NULL);
    if (conn->phase == CONN_OPEN)
        p11_finalize(conn->f);
    (void)pthread_cond_destroy(&conn->changed);
    (void)pthread_mutex_destroy(&conn->lock);
    free(conn);
    return true;
}

/* ---- Operations ---- */

/* Lock held.  Why an operation cannot be let in now. */
static int
conn_away(const struct p11_conn *conn, struct cc_err *err)
{
    if (conn->stopping)
        return cc_err_set(err, CC_DOM_CANCELLED, 0, "the token process is ending");
    if (conn->phase == CONN_REFUSED)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED, "%s", conn->why.text);
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "the token is away: %s",
            conn->attempt == 0 ? "it is still being opened" : conn->why.text);
}

/* Lock held.  Whether there is no use in waiting. */
static bool
conn_is_hopeless(const struct p11_conn *conn, unsigned looks)
{
    if (conn->stopping)
        return true;
    if (conn->phase == CONN_REFUSED && conn->want == CONN_NO_REPAIR)
        return conn->looks != looks;
    return conn->phase == CONN_DOWN &&
           cc_clock_mono_ms() - conn->down_since > conn->token->open_timeout_ms;
}

static int
conn_enter(struct p11_conn *conn, int64_t deadline, unsigned *ret_generation, struct cc_err *err)
{
    unsigned looks;
    int rc = -1;

    (void)pthread_mutex_lock(&conn->lock);
    looks = conn->looks;
    if (conn->phase == CONN_IDLE && conn->want == CONN_NO_REPAIR)
        conn->want = CONN_REOPEN;
    if (conn->phase == CONN_REFUSED)
        conn->poked = true;
    (void)pthread_cond_broadcast(&conn->changed);

    while (conn->phase != CONN_OPEN || conn->want != CONN_NO_REPAIR) {
        if (conn_is_hopeless(conn, looks) ||
                !token_cond_wait(&conn->changed, &conn->lock, deadline)) {
            conn_away(conn, err);
            goto out;
        }
    }
    if (conn->stopping) {
        conn_away(conn, err);
        goto out;
    }
    conn->inside++;
    *ret_generation = conn->generation;
    rc = 0;
out:
    (void)pthread_mutex_unlock(&conn->lock);
    return rc;
}

/* want: what must be done before anybody goes in again, because of what happened in generation. */
static void
conn_leave(struct p11_conn *conn, unsigned generation, enum conn_repair want)
{
    (void)pthread_mutex_lock(&conn->lock);
    conn->inside--;
    if (generation == conn->generation && want > conn->want)
        conn->want = want;
    if (conn->want != CONN_NO_REPAIR || conn->stopping)
        (void)pthread_cond_broadcast(&conn->changed);
    (void)pthread_mutex_unlock(&conn->lock);
}

/* Inside.  The worker's session of this generation, opened where there is none. */
static CK_RV
worker_session(struct p11_worker *worker, unsigned generation)
{
    struct p11_conn *conn = worker->conn;
    CK_RV rv = CKR_OK;

    if (worker->generation == generation && worker->stale)
        (void)conn->f->C_CloseSession(worker->session);
    if (worker->generation != generation || worker->stale) {
        worker->generation = 0;
        worker->stale = false;
        rv = conn->f->C_OpenSession(conn->opened.slot, CKF_SERIAL_SESSION, NULL, NULL,
                &worker->session);
        if (rv == CKR_OK)
            worker->generation = generation;
    }
    return rv;
}

static bool
conn_get_handle(struct p11_conn *conn, unsigned key, unsigned generation, CK_OBJECT_HANDLE *ret)
{
    bool found;

    (void)pthread_mutex_lock(&conn->lock);
    found = conn->handles[key].generation == generation;
    *ret = conn->handles[key].handle;
    (void)pthread_mutex_unlock(&conn->lock);
    return found;
}

static bool
conn_is_fresh(struct p11_conn *conn)
{
    bool fresh;

    (void)pthread_mutex_lock(&conn->lock);
    fresh = cc_clock_mono_ms() - conn->opened_at < CONN_FRESH;
    (void)pthread_mutex_unlock(&conn->lock);
    return fresh;
}

/* generation 0 forgets. */
static void
conn_set_handle(struct p11_conn *conn, unsigned key, unsigned generation, CK_OBJECT_HANDLE handle)
{
    (void)pthread_mutex_lock(&conn->lock);
    conn->handles[key] = (struct conn_handle){ .handle = handle, .generation = generation };
    (void)pthread_mutex_unlock(&conn->lock);
}

/* Inside.  The handle of a key, searched and compared where this generation does not know it yet. */
static int
worker_handle(struct p11_worker *worker, struct token_key *key, struct p11_call *call, CK_RV *ret,
        struct cc_err *err)
{
    struct p11_conn *conn = worker->conn;
    const unsigned number = token_key_number(key);

    *ret = CKR_OK;
    if (conn_get_handle(conn, number, worker->generation, &call->key))
        return 0;
    call->fresh = conn_is_fresh(conn);
    if (token_key_find(key, call, conn->opened.slot, ret, err) != 0)
        return -1;
    conn_set_handle(conn, number, worker->generation, call->key);
    return 0;
}

/* One try of one operation. */
struct run_try {
    unsigned executions; /* of op so far */
    bool reopened;       /* the token was opened anew for this operation */
    enum ckr_class is;   /* of the failure */
    CK_RV rv;
    bool is_final; /* the error is set and nothing can be repaired */
};

/* Inside. */
static int
run_inside(struct p11_worker *worker, struct token_key *key, unsigned generation, p11_op op,
        void *arg, struct run_try *try, struct cc_err *err)
{
    struct p11_call call = {
        .f = worker->conn->f,
        .where = "C_OpenSession",
        .reopened = try->reopened,
    };

    if ((try->rv = worker_session(worker, generation)) != CKR_OK) {
        try->is = ckr_class_open(try->rv);
        return ckr_err(err, try->rv, call.where);
    }
    call.session = worker->session;
    if (key != NULL && worker_handle(worker, key, &call, &try->rv, err) != 0) {
        worker->stale = true;
        try->is = ckr_class(try->rv);
        try->is_final = try->rv == CKR_OK;
        return -1;
    }
    try->executions++;
    try->rv = op(&call, arg);
    worker->stale = call.dirty || try->rv != CKR_OK;
    if (try->rv == CKR_OK)
        return 0;
    try->is = ckr_class(try->rv);
    return ckr_err(err, try->rv, call.where);
}

static enum conn_repair
run_repair(enum ckr_class is)
{
    switch (is) {
    case CKR_IS_LOGIN:
        return CONN_LOGIN;
    case CKR_IS_DEVICE:
        return CONN_REOPEN;
    default:
        return CONN_NO_REPAIR;
    }
}

static int
run_once(struct p11_worker *worker, struct token_key *key, p11_op op, void *arg, int64_t deadline,
        struct run_try *try, struct cc_err *err)
{
    struct p11_conn *conn = worker->conn;
    unsigned generation = 0;
    int rc;

    try->is = CKR_IS_ANSWER;
    try->rv = CKR_OK;
    if (conn_enter(conn, deadline, &generation, err) != 0) {
        try->is_final = true;
        return -1;
    }
    rc = run_inside(worker, key, generation, op, arg, try, err);
    if (rc != 0 && key != NULL && try->is == CKR_IS_KEY)
        conn_set_handle(conn, token_key_number(key), 0, 0);
    conn_leave(conn, generation, rc == 0 ? CONN_NO_REPAIR : run_repair(try->is));
    return rc;
}

/* Between two tries.  False when the deadline has passed. */
static bool
run_wait_busy(struct p11_conn *conn, unsigned attempt, int64_t deadline)
{
    int64_t until = cc_deadline_in(cc_backoff_ms(attempt, CONN_BUSY_BASE, CONN_BUSY_CAP));

    if (until > deadline)
        until = deadline;
    (void)pthread_mutex_lock(&conn->lock);
    while (!conn->stopping && token_cond_wait(&conn->changed, &conn->lock, until))
        ;
    (void)pthread_mutex_unlock(&conn->lock);
    return cc_deadline_left(deadline) > 0;
}

int
p11_run(struct p11_worker *worker, struct token_key *key, p11_op op, void *arg, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(worker->conn->token->open_timeout_ms);
    struct run_try try = { 0 };
    struct cc_err e = { 0 };
    unsigned tries = 0, waits = 0;

    for (;;) {
        cc_err_clear(&e);
        if (run_once(worker, key, op, arg, deadline, &try, &e) == 0)
            return 0;
        if (try.is_final || try.is == CKR_IS_ANSWER || try.is == CKR_IS_PIN)
            return cc_err_set(err, e.domain, e.code, "%s", e.text);
        if (try.is == CKR_IS_BUSY) {
            if (!run_wait_busy(worker->conn, waits++, deadline))
                break;
        } else if (++tries == CONN_TRIES || try.executions == 2) {
            break;
        }
        if (try.is == CKR_IS_DEVICE)
            try.reopened = true;
        cc_log(CC_LOG_INFO, "hsm", "once more after %s", e.text);
    }
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "%s", e.text);
}

void
p11_worker_tidy(struct p11_worker *worker)
{
    struct p11_conn *conn = worker->conn;
    unsigned generation = 0;
    bool open;

    if (!worker->stale || worker->generation == 0)
        return;
    (void)pthread_mutex_lock(&conn->lock);
    open = conn->phase == CONN_OPEN && conn->want == CONN_NO_REPAIR && !conn->stopping;
    if (open) {
        conn->inside++;
        generation = conn->generation;
    }
    (void)pthread_mutex_unlock(&conn->lock);
    if (!open)
        return;
    if (worker->generation == generation)
        (void)conn->f->C_CloseSession(worker->session);
    worker->generation = 0;
    worker->stale = false;
    conn_leave(conn, generation, CONN_NO_REPAIR);
}
