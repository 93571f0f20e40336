/* SPDX-License-Identifier: MIT */
#include "hsm/token/open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "hsm/token/ckr.h"
#include "hsm/token/module.h"
#include "hsm/token/permit.h"
#include "hsm/token/text.h"

#define OPEN_LOCK_FILE "token.lock"

void
p11_finalize(CK_FUNCTION_LIST *f)
{
    (void)f->C_Finalize(NULL);
}

static CK_RV
open_session(CK_FUNCTION_LIST *f, struct p11_opened *opened)
{
    return f->C_OpenSession(opened->slot, CKF_SERIAL_SESSION, NULL, NULL, &opened->session);
}

/* What a refused PIN is remembered for. */
static void
open_identity(const CK_TOKEN_INFO *info, char *ret, size_t size)
{
    char label[33], manufacturer[33], model[17], serial[17];

    p11_text_copy(info->label, sizeof(info->label), label);
    p11_text_copy(info->manufacturerID, sizeof(info->manufacturerID), manufacturer);
    p11_text_copy(info->model, sizeof(info->model), model);
    p11_text_copy(info->serialNumber, sizeof(info->serialNumber), serial);
    (void)snprintf(ret, size, "%s\n%s\n%s\n%s", manufacturer, model, serial, label);
}

static bool
open_is_flagged(const CK_TOKEN_INFO *info, struct cc_err *err)
{
    if ((info->flags & CKF_USER_PIN_LOCKED) != 0)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED,
                "the token's PIN is locked; its security officer must set a new one");
    else if ((info->flags & CKF_USER_PIN_FINAL_TRY) != 0)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED,
                "one more wrong PIN would lock the token; log in once by hand with the right one");
    else
        return false;
    return true;
}

/* token->login_lock is held. */
static enum p11_outcome
open_login_locked(struct token *token, CK_FUNCTION_LIST *f, const struct p11_opened *opened,
        struct cc_err *err)
{
    enum p11_outcome outcome;
    struct cc_secret *pin = NULL;
    struct permit permit;
    struct cc_err e = { 0 };
    char identity[HSM_PIN_TOKEN_SIZE];
    CK_RV rv;

    open_identity(&opened->info, identity, sizeof(identity));
    if (pin_gate_load(token->gate, identity, &pin, &e) != 0) {
        cc_err_set(err, e.domain, e.code, "%s", e.text);
        return e.domain == CC_DOM_TOKEN && e.code == HSM_FAULT_PIN_REFUSED ? P11_REFUSED
                                                                           : P11_FAILED;
    }
    outcome = permit_ask(token, identity, pin, opened->info.flags, &permit, err);
    if (outcome != P11_OPENED) {
        if (outcome == P11_REFUSED)
            pin_gate_note_refused(token->gate, pin);
        cc_secret_free(pin);
        return outcome;
    }
    rv = f->C_Login(opened->session, CKU_USER, cc_secret_data(pin), cc_secret_len(pin));
    if (ckr_class(rv) == CKR_IS_PIN)
        pin_gate_refused(token->gate, identity, pin, ckr_name(rv));
    else if (rv == CKR_OK)
        pin_gate_accepted(token->gate, identity, pin);
    permit_tell(token, &permit, rv);
    cc_secret_free(pin);

    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)
        return P11_OPENED;
    if (ckr_class(rv) != CKR_IS_PIN) {
        ckr_err(err, rv, "C_Login");
        return P11_FAILED;
    }
    cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED,
            "the token refused the PIN (C_Login: %s); it is not tried again until it changes",
            ckr_name(rv));
    return P11_REFUSED;
}

static enum p11_outcome
open_login(struct token *token, CK_FUNCTION_LIST *f, const struct p11_opened *opened,
        struct cc_err *err)
{
    enum p11_outcome outcome;

    if (token->gate == NULL)
        return P11_OPENED;
    if (open_is_flagged(&opened->info, err))
        return P11_FLAGGED;
    (void)pthread_mutex_lock(&token->login_lock);
    outcome = open_login_locked(token, f, opened, err);
    (void)pthread_mutex_unlock(&token->login_lock);
    return outcome;
}

/* Between C_Initialize and C_Finalize. */
static enum p11_outcome
open_inside(struct token *token, CK_FUNCTION_LIST *f, struct p11_opened *opened, struct cc_err *err)
{
    CK_RV rv;

    if ((rv = f->C_GetInfo(&opened->library)) != CKR_OK) {
        ckr_err(err, rv, "C_GetInfo");
        return P11_FAILED;
    }
    if (p11_find_slot(f, &token->uri, CKF_TOKEN_INITIALIZED, &opened->slot, &opened->info, err) !=
            0)
        return P11_FAILED;
    if ((rv = open_session(f, opened)) != CKR_OK) {
        ckr_err(err, rv, "C_OpenSession");
        return P11_FAILED;
    }
    return open_login(token, f, opened, err);
}

static void
open_pause(int64_t ms)
{
    const struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

    (void)nanosleep(&ts, NULL);
}

/*
 * *ret_fd: the descriptor that holds the lock, -1 where none is wanted.  SoftHSM rewrites a token's file during each
 * login, without protection: processes that open it at the same time lose it from sight.
 */
static int
open_start_lock(struct token *token, int *ret_fd, struct cc_err *err)
{
    const int64_t deadline = cc_deadline_in(token->open_timeout_ms);
    char path[PATH_MAX];
    int fd;

    *ret_fd = -1;
    if (token->state_dir == NULL || !token_profile(token)->start_lock)
        return 0;
    if ((size_t)snprintf(path, sizeof(path), "%s/" OPEN_LOCK_FILE, token->state_dir) >=
            sizeof(path))
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT,
                "the state folder's path is too long");
    if ((fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        return cc_err_set_errno(err, errno, "%s", path);

    for (unsigned attempt = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; attempt++) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            cc_err_set_errno(err, errno, "%s", path);
            (void)close(fd);
            return -1;
        }
        if (cc_deadline_left(deadline) == 0) {
            (void)close(fd);
            return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
                    "another process is still opening the token (%s)", path);
        }
        open_pause(cc_backoff_ms(attempt, 2, 20));
    }
    *ret_fd = fd;
    return 0;
}

enum p11_outcome
p11_open(struct token *token, CK_FUNCTION_LIST *f, struct p11_opened *ret, struct cc_err *err)
{
    struct p11_opened opened = { 0 };
    enum p11_outcome outcome;
    int lock_fd;
    CK_RV rv;

    if (open_start_lock(token, &lock_fd, err) != 0)
        return P11_FAILED;
    if ((rv = p11_initialize(f, token->init_args)) != CKR_OK) {
        ckr_err(err, rv, "C_Initialize");
        outcome = P11_FAILED;
    } else if ((outcome = open_inside(token, f, &opened, err)) == P11_OPENED) {
        *ret = opened;
    } else {
        p11_finalize(f);
    }
    if (lock_fd >= 0)
        (void)close(lock_fd);
    return outcome;
}

enum p11_outcome
p11_open_again(struct token *token, CK_FUNCTION_LIST *f, struct p11_opened *ret, struct cc_err *err)
{
    struct p11_opened opened = *ret;
    enum p11_outcome outcome;
    CK_RV rv;
    int lock_fd;

    if (open_start_lock(token, &lock_fd, err) != 0)
        return P11_FAILED;
    (void)f->C_CloseAllSessions(opened.slot);
    if ((rv = f->C_GetTokenInfo(opened.slot, &opened.info)) != CKR_OK) {
        ckr_err(err, rv, "C_GetTokenInfo");
        outcome = P11_FAILED;
    } else if (!p11_uri_names_token(&token->uri, opened.slot, &opened.info)) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE, "another token is in the slot");
        outcome = P11_FAILED;
    } else if ((rv = open_session(f, &opened)) != CKR_OK) {
        ckr_err(err, rv, "C_OpenSession");
        outcome = P11_FAILED;
    } else if ((outcome = open_login(token, f, &opened, err)) == P11_OPENED) {
        *ret = opened;
    }
    if (lock_fd >= 0)
        (void)close(lock_fd);
    return outcome;
}
