/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_REENCRYPT_H
#define HSM_TOKEN_REENCRYPT_H

/*
 * A password decrypted under our key and encrypted for a recipient.
 *
 * On the token: unwrapped into a session object that no one can read, and wrapped from there under the recipient's
 * public key; for CMS under a content key made on the token, and that under the recipient's.  What a token can of this
 * is found by trying and remembered for the key.  In this process: decrypted into locked memory, tried on the PFX,
 * encrypted, wiped.
 */

#include "base/buf.h"
#include "hsm/hsm.h"
#include "hsm/token/conn.h"
#include "hsm/token/key.h"

CC_MUST int token_reencrypt(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, struct cc_buf *ret_out, bool *ret_on_token,
        struct cc_err *err);

#endif
