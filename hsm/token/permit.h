/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_PERMIT_H
#define HSM_TOKEN_PERMIT_H

/*
 * Permission for one C_Login, of those who share the token, and word to them of what became of it.  Where nobody is to
 * be asked it is given.  token->login_lock is held from permit_ask() to permit_tell().
 */

#include <p11-kit/pkcs11.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"
#include "hsm/token/open.h"
#include "hsm/token/token.h"

struct permit {
    struct hsm_pin pin;
    bool is_asked;  /* the outcome is waited for */
    bool is_proven; /* given without asking: only a refusal is news */
};

/* P11_OPENED: the PIN may be offered to the token. */
enum p11_outcome permit_ask(struct token *token, const char *identity, const struct cc_secret *pin,
        CK_FLAGS token_flags, struct permit *ret, struct cc_err *err);

/* rv: what C_Login said. */
void permit_tell(struct token *token, const struct permit *permit, CK_RV rv);

#endif
