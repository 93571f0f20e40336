/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_ASK_H
#define HSM_TOKEN_ASK_H

/*
 * Questions of the token process to the daemon that started it, about PINs: the wire carries calls in the other direction
 * only, so that a question lies here until it is fetched (WIRE_PIN_QUESTION) and answered (WIRE_PIN_ANSWER).  A notice
 * on channel 0 says that there is one.
 *
 * One question at a time: who asks holds token->login_lock.  Threads: any, otherwise.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "hsm/hsm.h"
#include "hsm/wire.h"

struct token;

struct ask_question {
    enum wire_pin_question kind;
    struct hsm_pin pin;
    bool token_tells;
    enum hsm_pin_outcome outcome;
    char reason[HSM_PIN_REASON_SIZE];
};

struct ask_answer {
    enum hsm_pin_answer answer;
    struct cc_err why;
    uint8_t salt[HSM_PIN_SALT];
    uint32_t iterations;
};

/* In struct token; guarded by its lock, whose condition tells of changes. */
struct token_ask {
    void (*notify)(void *arg); /* sends the notice; NULL: nobody is asked */
    void *notify_arg;
    bool stopping;
    uint32_t number; /* of the question here, or of the last; counted up */
    bool open, fetched, answered;
    bool waiting; /* somebody does, for the answer */
    int64_t waited_until;
    struct ask_question question;
    struct ask_answer answer; /* the final one, or why it is to be waited for */
};

bool ask_is_on(const struct token *token);

/* Waits for the answer, for as long as it takes; after a while the token's state says that and what for.  -1: we end. */
CC_MUST int ask_wait(struct token *token, const struct ask_question *question,
        struct ask_answer *ret_answer, struct cc_err *err);

/* Leaves it to be fetched. */
void ask_tell(struct token *token, const struct ask_question *question);

/* Nobody is answered any more. */
void ask_stop(struct token *token);

/* ---- the daemon's side ---- */

/* Its number; 0: there is none that was not fetched. */
uint32_t ask_fetch(struct token *token, struct ask_question *ret);
void ask_answer(struct token *token, uint32_t number, const struct ask_answer *answer);

/* Lock held.  Whether there is a question that was not fetched. */
bool ask_is_new(const struct token *token);

/* Lock held.  Of the time that the opening has taken, what the module was in: none while we wait for an answer. */
int64_t ask_without_wait(const struct token *token, int64_t opening_ms);

#endif
