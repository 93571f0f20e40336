/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_CKR_H
#define HSM_TOKEN_CKR_H

/* What the return values of PKCS#11 (CKR_*) are called and what is done about them.  Pure functions; any thread. */

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

#include "base/err.h"

/* "CKR_DEVICE_ERROR"; "CKR_0x80000001" for one that has no name.  Borrowed; the unnamed ones until the thread's
   next call. */
const char *ckr_name(CK_RV rv);

/* What a failed call asks of us. */
enum ckr_class {
    CKR_IS_ANSWER,  /* nothing: it is the answer to the request */
    CKR_IS_KEY,     /* the handle of the key is void: search it again */
    CKR_IS_SESSION, /* the session is at something else: take another */
    CKR_IS_LOGIN,   /* sessions or the login are gone: close all, log in */
    CKR_IS_DEVICE,  /* the token is gone: finalise, initialise */
    CKR_IS_BUSY,    /* no session is free: wait */
    CKR_IS_PIN      /* the PIN was refused: never by itself again */
};

/* Of a call with a key in a session. */
enum ckr_class ckr_class(CK_RV rv);

/* Of C_OpenSession, where nothing is about the request. */
enum ckr_class ckr_class_open(CK_RV rv);

/* Whether a mechanism, its parameters, or a template was refused, whatever the data. */
bool ckr_is_refusal(CK_RV rv);

/* Of them, those that another template may cure. */
bool ckr_is_template(CK_RV rv);

/* Whether a call that was accepted failed for want of memory: that says nothing of what it was given. */
bool ckr_is_memory(CK_RV rv);

/* Whether C_Login says by it that it did not come to look at the PIN. */
bool ckr_is_before_pin(CK_RV rv);

/* Sets "where: CKR_NAME" in domain CC_DOM_PKCS11; returns -1. */
int ckr_err(struct cc_err *err, CK_RV rv, const char *where);

#endif
