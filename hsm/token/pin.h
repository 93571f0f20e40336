/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_PIN_H
#define HSM_TOKEN_PIN_H

/*
 * The gate before C_Login: a PIN that a token refused is not offered to it again.
 *
 * A refusal is remembered in memory and, where there is a state folder, in its file "pin-refused" (mode 0600), so that
 * a service manager that restarts us for ever cannot lock the token.  What is kept is a slow salted hash over the token's
 * identity and the PIN: another PIN, or the same for another token, passes, and once it was accepted the file is
 * removed.  Threads: the caller serialises.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"

#define PIN_GATE_SALT 16
#define PIN_GATE_HASH 32
#define PIN_GATE_PROVEN_MS 10000

struct pin_gate;

/* Both are copied; state_dir may be NULL. */
CC_MUST struct pin_gate *pin_gate_new(const char *reference, const char *state_dir,
        struct cc_err *err);
void pin_gate_free(struct pin_gate *gate);

/* The PIN, to be freed right after the login; -1 with HSM_FAULT_PIN_REFUSED when this token refused it before. */
CC_MUST int pin_gate_load(struct pin_gate *gate, const char *identity, struct cc_secret **ret_pin,
        struct cc_err *err);

/* What the token said of the PIN that was loaded last.  reason: a CKR name. */
void pin_gate_refused(struct pin_gate *gate, const char *identity, const struct cc_secret *pin,
        const char *reason);
void pin_gate_note_refused(struct pin_gate *gate, const struct cc_secret *pin); /* others know */
void pin_gate_accepted(struct pin_gate *gate, const char *identity, const struct cc_secret *pin);

/* Whether this token accepted this PIN from this process a moment ago, so that nobody need be asked. */
bool pin_gate_is_proven(const struct pin_gate *gate, const char *identity,
        const struct cc_secret *pin);

/* Of this PIN and token, with the salt and the iterations of the last call. */
bool pin_gate_last_hash(const struct pin_gate *gate, const char *identity,
        const struct cc_secret *pin, uint8_t ret[PIN_GATE_HASH]);

/* The slow hash by which others know the PIN; made once for a PIN, token and salt. */
CC_MUST int pin_gate_hash(struct pin_gate *gate, const char *identity, const struct cc_secret *pin,
        const uint8_t salt[PIN_GATE_SALT], uint32_t iterations, uint8_t ret[PIN_GATE_HASH],
        struct cc_err *err);

/* Whether the reference now gives another PIN than the one refused; an unreadable one has not changed. */
bool pin_gate_changed(struct pin_gate *gate);

#endif
