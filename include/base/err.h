/* SPDX-License-Identifier: MIT */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/*
 * What went wrong, for programs and for people.
 *
 * The caller owns a struct cc_err, usually on its stack, and passes it as the last parameter.  The function that
 * meets the cause sets it; those above put what they were doing in front.  The first cause stays: setting a set
 * error changes nothing.  No allocation, no globals; not shared between threads.  An error that was handled and
 * must not be seen by the next call is cleared with cc_err_clear().
 *
 * err may be NULL everywhere: the caller then only wants to know that it failed.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

/* Of the root cause: what a caller may branch on.  The meaning of the code depends on it. */
enum cc_err_domain {
    CC_DOM_NONE = 0,
    CC_DOM_SYSTEM,   /* errno */
    CC_DOM_INTERNAL, /* a promise of our own was broken, or memory ran out (errno) */
    CC_DOM_USAGE,    /* the person at the command line: bad arguments */
    CC_DOM_CONFIG,   /* the configuration: line number */
    CC_DOM_INPUT,    /* bytes from outside that are not what they should be: room's own code or 0 */
    CC_DOM_OPENSSL,  /* OpenSSL's packed error code */
    CC_DOM_PKCS11,   /* CKR_* */
    CC_DOM_TOKEN,    /* enum hsm_fault */
    CC_DOM_STORE,    /* the database library's code */
    CC_DOM_NETWORK,  /* CURLcode */
    CC_DOM_HTTP,     /* HTTP status */
    CC_DOM_SERVICE,  /* what the service says of a request: enum intune_error_code */
    CC_DOM_CANCELLED /* we are stopping: 0 */
};

struct cc_err {
    enum cc_err_domain domain;
    long code;
    char text
            [512]; /* one line, peer text escaped: "request 4711: sign CertRep: C_Sign: CKR_PIN_LOCKED" */
};

/* Records the root cause unless one is recorded; returns -1, so that "return cc_err_set(...)" reads well. */
int cc_err_set(struct cc_err *err, enum cc_err_domain domain, long code, const char *fmt, ...)
        CC_PRINTF(4, 5);

/* The same with ": " and the text of errnum appended. */
int cc_err_set_errno(struct cc_err *err, int errnum, const char *fmt, ...) CC_PRINTF(3, 4);

/* The same for memory that was not to be had. */
int cc_err_nomem(struct cc_err *err);

/* Takes the oldest entry of OpenSSL's error queue of this thread as the cause, appended to the text; empties the queue. */
int cc_err_set_openssl(struct cc_err *err, const char *fmt, ...) CC_PRINTF(2, 3);

/* Puts what we were doing in front of a recorded cause, "doing: cause"; returns -1. */
int cc_err_in(struct cc_err *err, const char *fmt, ...) CC_PRINTF(2, 3);

void cc_err_clear(struct cc_err *err);

/* A short stable name of the domain, as events show it: "pkcs11", "http"; never NULL. */
const char *cc_err_domain_name(enum cc_err_domain domain);

/* The text, or "no error"; err may be NULL. */
const char *cc_err_text(const struct cc_err *err);

#endif
