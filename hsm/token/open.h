/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_OPEN_H
#define HSM_TOKEN_OPEN_H

/*
 * From C_Initialize to C_Login, once: no waiting, no second try (that is conn.c's).  The caller keeps every other
 * thread out of this connection meanwhile.
 */

#include <p11-kit/pkcs11.h>

#include "base/compiler.h"
#include "base/err.h"
#include "hsm/token/token.h"

enum p11_outcome {
    P11_OPENED,
    P11_FAILED,  /* it may work later */
    P11_REFUSED, /* the PIN was refused, now or before: only another one helps */
    P11_FLAGGED /* the token says that another wrong PIN would lock it, or has: an administrator must help */
};

/* A token that is open. */
struct p11_opened {
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE session; /* holds the login; never used for work */
    CK_INFO library;
    CK_TOKEN_INFO info;
};

/* On failure the module is finalised again. */
enum p11_outcome p11_open(struct token *token, CK_FUNCTION_LIST *f, struct p11_opened *ret,
        struct cc_err *err);

/* Closes all sessions and logs in anew; ret is that of p11_open() and gets the new session. */
enum p11_outcome p11_open_again(struct token *token, CK_FUNCTION_LIST *f, struct p11_opened *ret,
        struct cc_err *err);

void p11_finalize(CK_FUNCTION_LIST *f);

#endif
