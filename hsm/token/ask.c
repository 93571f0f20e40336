/* SPDX-License-Identifier: MIT */
#include "hsm/token/ask.h"

#include "base/clock.h"
#include "hsm/token/token.h"

/* So long nothing is said of a wait: one that tries a PIN for all needs a moment. */
#define ASK_GRACE_MS 5000

bool
ask_is_on(const struct token *token)
{
    return token->ask.notify != NULL;
}

/* Lock held.  Waits until the question before was taken and puts this one in its place. */
static int
ask_put(struct token *token, const struct ask_question *question)
{
    struct token_ask *ask = &token->ask;

    while (ask->open && !ask->stopping)
        (void)pthread_cond_wait(&token->changed, &token->lock);
    if (ask->stopping)
        return -1;
    if (++ask->number == 0)
        ask->number = 1;
    ask->question = *question;
    ask->answer = (struct ask_answer){ .answer = HSM_PIN_WAIT };
    cc_err_set(&ask->answer.why, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
            "whether the PIN may be tried is being asked");
    ask->open = true;
    ask->fetched = ask->answered = false;
    (void)pthread_cond_broadcast(&token->changed);
    return 0;
}

/* Lock held, released meanwhile. */
static void
ask_notify(struct token *token)
{
    (void)pthread_mutex_unlock(&token->lock);
    token->ask.notify(token->ask.notify_arg);
    (void)pthread_mutex_lock(&token->lock);
}

/* Lock held, released meanwhile.  The token is not open, and not because of the module. */
static void
ask_note_wait(struct token *token)
{
    const struct cc_err why = token->ask.answer.why;

    (void)pthread_mutex_unlock(&token->lock);
    token_note_failure(token, HSM_STATE_LOST, &why);
    (void)pthread_mutex_lock(&token->lock);
}

int
ask_wait(struct token *token, const struct ask_question *question, struct ask_answer *ret_answer,
        struct cc_err *err)
{
    struct token_ask *ask = &token->ask;
    int64_t grace = cc_deadline_in(ASK_GRACE_MS);
    int rc;

    (void)pthread_mutex_lock(&token->lock);
    ask->waiting = true;
    if ((rc = ask_put(token, question)) == 0)
        ask_notify(token);
    while (rc == 0 && !ask->answered) {
        if (ask->stopping) {
            rc = -1;
        } else if (!token_cond_wait(&token->changed, &token->lock, grace)) {
            ask_note_wait(token);
            grace = cc_deadline_in(ASK_GRACE_MS);
        }
    }
    if (rc == 0)
        *ret_answer = ask->answer;
    ask->open = false;
    ask->waiting = false;
    ask->waited_until = cc_clock_mono_ms();
    (void)pthread_cond_broadcast(&token->changed);
    (void)pthread_mutex_unlock(&token->lock);
    return rc == 0 ? 0 : cc_err_set(err, CC_DOM_CANCELLED, 0, "the token process is ending");
}

void
ask_tell(struct token *token, const struct ask_question *question)
{
    (void)pthread_mutex_lock(&token->lock);
    if (ask_put(token, question) == 0)
        ask_notify(token);
    (void)pthread_mutex_unlock(&token->lock);
}

void
ask_stop(struct token *token)
{
    (void)pthread_mutex_lock(&token->lock);
    token->ask.stopping = true;
    (void)pthread_cond_broadcast(&token->changed);
    (void)pthread_mutex_unlock(&token->lock);
}

uint32_t
ask_fetch(struct token *token, struct ask_question *ret)
{
    uint32_t number = 0;

    (void)pthread_mutex_lock(&token->lock);
    if (ask_is_new(token)) {
        *ret = token->ask.question;
        number = token->ask.number;
        token->ask.fetched = true;
    }
    (void)pthread_mutex_unlock(&token->lock);
    return number;
}

void
ask_answer(struct token *token, uint32_t number, const struct ask_answer *answer)
{
    struct token_ask *ask = &token->ask;

    (void)pthread_mutex_lock(&token->lock);
    if (ask->open && ask->number == number && !ask->answered) {
        ask->answer = *answer;
        ask->answered = answer->answer != HSM_PIN_WAIT;
        if (ask->answered && ask->question.kind == WIRE_PIN_OUTCOME)
            ask->open = false; /* nobody waits for it */
        (void)pthread_cond_broadcast(&token->changed);
    }
    (void)pthread_mutex_unlock(&token->lock);
}

bool
ask_is_new(const struct token *token)
{
    return token->ask.open && !token->ask.fetched;
}

int64_t
ask_without_wait(const struct token *token, int64_t opening_ms)
{
    const int64_t since = cc_clock_mono_ms() - token->ask.waited_until;

    if (token->ask.waiting)
        return 0;
    return since < opening_ms ? since : opening_ms;
}
