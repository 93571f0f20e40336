/* SPDX-License-Identifier: MIT */
#include "upkeep/pins.h"

#include "store/pin.h"

/* A start spends half a tenth of a second on it; what a thief of the store would need for each guess. */
#define PIN_ITERATIONS 200000

static struct cc_bytes
hash_of(const struct hsm_pin *pin)
{
    return (struct cc_bytes){ pin->hash, sizeof(pin->hash) };
}

static int
salt(void *arg, const char *token, uint8_t ret_salt[HSM_PIN_SALT], uint32_t *ret_iterations,
        struct cc_err *err)
{
    struct store *store = arg;

    return store_pin_salt(store, cc_bytes_of_str(token), PIN_ITERATIONS, ret_salt, ret_iterations,
            err);
}

/* What the administrator is told goes into why. */
static enum hsm_pin_answer
answer(enum store_pin_answer said, const char *reason, struct cc_err *why)
{
    switch (said) {
    case STORE_PIN_TRY:
        return HSM_PIN_TRY;
    case STORE_PIN_FREE:
        return HSM_PIN_FREE;
    case STORE_PIN_WAIT:
        break;
    case STORE_PIN_REFUSED:
        cc_err_set(why, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED, "%s", reason);
        return HSM_PIN_REFUSED;
    case STORE_PIN_HELP:
        cc_err_set(why, CC_DOM_TOKEN, HSM_FAULT_PIN_REFUSED,
                "%d logins in a row failed or ended nobody knows how, and another might lock the "
                "token: log in once by hand with the right PIN, and then have the connectors "
                "forget what they know (certconnector token forget-pins)",
                STORE_PIN_FAILURES);
        return HSM_PIN_HELP;
    }
    cc_err_set(why, CC_DOM_TOKEN, HSM_FAULT_UNAVAILABLE,
            "another connector that shares the token is trying a PIN; its outcome is waited for");
    return HSM_PIN_WAIT;
}

static int
ask(void *arg, const struct hsm_pin *pin, bool token_tells, enum hsm_pin_answer *ret_answer,
        struct cc_err *why)
{
    struct store *store = arg;
    enum store_pin_answer said = STORE_PIN_WAIT;
    char reason[STORE_PIN_REASON];

    if (store_pin_ask(store, cc_bytes_of_str(pin->token), hash_of(pin), token_tells, &said, reason,
                why) != 0)
        return -1;
    *ret_answer = answer(said, reason, why);
    return 0;
}

static int
tell(void *arg, const struct hsm_pin *pin, enum hsm_pin_outcome outcome, const char *reason,
        struct cc_err *err)
{
    static const enum store_pin_outcome outcomes[] = {
        [HSM_PIN_WAS_ACCEPTED] = STORE_PIN_WAS_ACCEPTED,
        [HSM_PIN_WAS_REFUSED] = STORE_PIN_WAS_REFUSED,
        [HSM_PIN_NOT_TRIED] = STORE_PIN_NOT_TRIED,
        [HSM_PIN_NOT_KNOWN] = STORE_PIN_NOT_KNOWN,
    };
    struct store *store = arg;

    return store_pin_tell(store, cc_bytes_of_str(pin->token), hash_of(pin), outcomes[outcome],
            reason, err);
}

struct hsm_pin_memory
upkeep_pins_memory(struct store *store)
{
    return (struct hsm_pin_memory){ .salt = salt, .ask = ask, .tell = tell, .arg = store };
}
