/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_CONN_H
#define HSM_TOKEN_CONN_H

/*
 * One connection to the module, and everything that keeps it alive.
 *
 * Operations run through p11_run(), each in the session of its own thread, as many at once as there are threads.  A
 * thread of the connection's own, the opener, alone calls C_Initialize, C_Login and C_Finalize, and only when no
 * operation is inside.  Whoever meets an error that says that something is gone asks the opener and waits, for at
 * most the open timeout; the operation is then repeated once.  Handles and sessions carry the generation of the
 * opening that made them and are void in the next.
 *
 *   IDLE --first use--> OPENING --> OPEN <--> (repair wanted) ; OPENING --> DOWN --backoff--> OPENING
 *   OPENING --> REFUSED --another PIN--> OPENING
 *
 * After any error the session in which it happened is closed, when the answer is out (p11_worker_tidy).
 */

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "hsm/token/token.h"

struct p11_conn;

/* A thread's place in a connection: used by that thread alone. */
struct p11_worker {
    struct p11_conn *conn;
    CK_SESSION_HANDLE session;
    unsigned generation; /* of session; 0: there is none */
    bool stale;          /* an error happened in it: close it before it is used again */
};

/* What one call has at hand. */
struct p11_call {
    CK_FUNCTION_LIST *f;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key;
    bool fresh;        /* in a search: the token was opened a short while ago */
    bool reopened;     /* the token was opened anew for this call */
    bool dirty;        /* set when a call failed although the operation goes on */
    const char *where; /* set by the operation to the name of the function that failed */
};

/*
 * An operation: may be called twice, and begins anew each time.  Every object made is destroyed before it returns.
 */
typedef CK_RV (*p11_op)(struct p11_call *call, void *arg);

/* f is what C_GetFunctionList gave; eager: opened at once, else when first used. */
CC_MUST int p11_conn_new(struct token *token, CK_FUNCTION_LIST *f, bool eager,
        struct p11_conn **ret_conn, struct cc_err *err);

/* Nobody enters any more, and who waits to gives up. */
void p11_conn_stop(struct p11_conn *conn);

/* How long the call into the module that opens the token has not come back by now; 0: there is none. */
int64_t p11_conn_opening_ms(struct p11_conn *conn);

/* Stops, waits for calls inside until deadline, finalises and frees.  false: a call is stuck in the module,
   and nothing was freed.  Accepts NULL. */
bool p11_conn_close(struct p11_conn *conn, int64_t deadline);

/*
 * Runs op with the key, which may be NULL.  Errors: CC_DOM_PKCS11 with the answer of the token; CC_DOM_TOKEN for a
 * token that is away, a refused PIN, a key that is not there or another.
 */
CC_MUST int p11_run(struct p11_worker *worker, struct token_key *key, p11_op op, void *arg,
        struct cc_err *err);

/* Closes the session if an error happened in it.  Called when the answer was sent, so that its time tells nothing. */
void p11_worker_tidy(struct p11_worker *worker);

#endif
