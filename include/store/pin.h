/* SPDX-License-Identifier: MIT */
#ifndef STORE_PIN_H
#define STORE_PIN_H

/*
 * What the instances that share a token know of its PINs, so that all of them together offer it a wrong one once: a
 * token may lock itself after three.
 *
 * A PIN is known by a slow salted hash.  Whoever wants to log in asks first.  A PIN that the token accepted a moment ago
 * is free for all; of any other, one instance at a time makes one attempt, whose outcome it tells, and the others wait
 * for that.  A PIN accepted longer ago is tried by one first too, as the token's may have been changed since.
 *
 *   unknown --ask--> being tried --accepted--> free for STORE_PIN_FREE_MS, then tried by one first
 *                               \--refused---> refused: never again, until the token accepts another than before
 *                               \--nothing told, its time over or its instance gone: may have been made, and counts
 *
 * Attempts with a PIN that the token did not accept last, refused or of unknown outcome, are counted until an attempt
 * succeeds.  At STORE_PIN_FAILURES there are no more, so that a token which locks after three is never locked from
 * here: an administrator must look, and store_pin_forget() begins anew.  Where the token itself says that wrong PINs
 * were tried, and not that the next would lock it, it is taken at its word.  An attempt with the PIN accepted
 * last counts only when it is refused: processes that are killed in their logins must not end all the others' work.
 *
 * token: the token's identity, any bytes.  A hash lies in the store as it is told; nothing of it can be logged in with,
 * but a short PIN can be found from it by trial.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

struct store;

#define STORE_PIN_SALT 16
#define STORE_PIN_REASON 64
#define STORE_PIN_FREE_MS 10000
#define STORE_PIN_TRY_MS                                                                           \
    30000 /* how long an attempt may take until its outcome counts as unknown */
#define STORE_PIN_FAILURES 2

/* How PINs of this token are hashed; made at the first call, with these iterations. */
CC_MUST int store_pin_salt(struct store *store, struct cc_bytes token, uint32_t iterations,
        uint8_t ret_salt[STORE_PIN_SALT], uint32_t *ret_iterations, struct cc_err *err);

enum store_pin_answer {
    STORE_PIN_TRY,     /* ours to try, within STORE_PIN_TRY_MS; the outcome must be told */
    STORE_PIN_FREE,    /* accepted a moment ago */
    STORE_PIN_WAIT,    /* another instance is trying one: ask again */
    STORE_PIN_REFUSED, /* the token refused it */
    STORE_PIN_HELP     /* too many attempts failed: an administrator must look */
};

/* token_tells: the token says that wrong PINs were tried, and not that the next would be the last.  ret_reason: why it
   was refused, else "". */
CC_MUST int store_pin_ask(struct store *store, struct cc_bytes token, struct cc_bytes hash,
        bool token_tells, enum store_pin_answer *ret_answer, char ret_reason[STORE_PIN_REASON],
        struct cc_err *err);

enum store_pin_outcome {
    STORE_PIN_WAS_ACCEPTED,
    STORE_PIN_WAS_REFUSED,
    STORE_PIN_NOT_TRIED, /* the token saw no PIN: as if it had not been asked for */
    STORE_PIN_NOT_KNOWN  /* it may have seen it */
};

CC_MUST int store_pin_tell(struct store *store, struct cc_bytes token, struct cc_bytes hash,
        enum store_pin_outcome outcome, const char *reason, struct cc_err *err);

/* All that is known of all tokens; *ret_count: of how many. */
CC_MUST int store_pin_forget(struct store *store, int64_t *ret_count, struct cc_err *err);

#endif
