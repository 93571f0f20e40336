/* SPDX-License-Identifier: MIT */
#include "hsm/token/permit.h"

#include "base/text.h"
#include "hsm/token/ckr.h"

static int
permit_hash(struct token *token, struct permit *permit, const struct cc_secret *pin,
        struct cc_err *err)
{
    struct ask_question question = { .kind = WIRE_PIN_SALT, .pin = permit->pin };
    struct ask_answer answer;

    if (ask_wait(token, &question, &answer, err) != 0)
        return -1;
    return pin_gate_hash(token->gate, permit->pin.token, pin, answer.salt, answer.iterations,
            permit->pin.hash, err);
}

/* Said by a token that counts wrong PINs, and has some left before its last. */
static bool
permit_token_tells(CK_FLAGS flags)
{
    return (flags & CKF_USER_PIN_COUNT_LOW) != 0 &&
           (flags & (CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED)) == 0;
}

static enum p11_outcome
permit_refuse(enum p11_outcome outcome, const struct ask_answer *answer, struct cc_err *err)
{
    if (outcome == P11_REFUSED)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED,
                "the token refused this PIN already (%s), from this connector or another that "
                "shares it; it is not tried again until it changes",
                cc_err_text(&answer->why));
    else
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED, "%s", cc_err_text(&answer->why));
    return outcome;
}

enum p11_outcome
permit_ask(struct token *token, const char *identity, const struct cc_secret *pin,
        CK_FLAGS token_flags, struct permit *ret, struct cc_err *err)
{
    struct ask_question question = {
        .kind = WIRE_PIN_MAY_TRY,
        .token_tells = permit_token_tells(token_flags),
    };
    struct ask_answer answer;

    *ret = (struct permit){ .is_asked = false };
    if (!ask_is_on(token))
        return P11_OPENED;
    (void)cc_strcpy(ret->pin.token, sizeof(ret->pin.token), identity);
    if (pin_gate_is_proven(token->gate, identity, pin) &&
            pin_gate_last_hash(token->gate, identity, pin, ret->pin.hash)) {
        ret->is_proven = true;
        return P11_OPENED;
    }
    if (permit_hash(token, ret, pin, err) != 0)
        return P11_FAILED;
    question.pin = ret->pin;
    if (ask_wait(token, &question, &answer, err) != 0)
        return P11_FAILED;
    if (answer.answer == HSM_PIN_REFUSED)
        return permit_refuse(P11_REFUSED, &answer, err);
    if (answer.answer == HSM_PIN_HELP)
        return permit_refuse(P11_FLAGGED, &answer, err);
    ret->is_asked = true;
    return P11_OPENED;
}

static enum hsm_pin_outcome
permit_outcome(struct token *token, CK_RV rv)
{
    if (rv == CKR_OK)
        return HSM_PIN_WAS_ACCEPTED;
    if (ckr_class(rv) == CKR_IS_PIN)
        return HSM_PIN_WAS_REFUSED;
    /* Where logins race with one another, this is how it shows. */
    if (ckr_is_before_pin(rv) || (rv == CKR_GENERAL_ERROR && token_profile(token)->login_races))
        return HSM_PIN_NOT_TRIED;
    return HSM_PIN_NOT_KNOWN;
}

void
permit_tell(struct token *token, const struct permit *permit, CK_RV rv)
{
    struct ask_question question = {
        .kind = WIRE_PIN_OUTCOME,
        .pin = permit->pin,
        .outcome = permit_outcome(token, rv),
    };

    if (!permit->is_asked && !(permit->is_proven && question.outcome == HSM_PIN_WAS_REFUSED))
        return;
    (void)cc_strcpy(question.reason, sizeof(question.reason), ckr_name(rv));
    ask_tell(token, &question);
}
