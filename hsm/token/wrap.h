/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_WRAP_H
#define HSM_TOKEN_WRAP_H

/* Re-encryption on the token: C_UnwrapKey, C_WrapKey. */

#include <openssl/types.h>

#include "base/buf.h"
#include "hsm/hsm.h"
#include "hsm/token/conn.h"
#include "hsm/token/key.h"

enum wrap_outcome {
    WRAP_DONE,
    WRAP_REFUSED, /* HSM_FAULT_UNSUPPORTED: the token cannot do this; remembered */
    WRAP_UNCLEAR, /* HSM_FAULT_DECRYPT or UNSUPPORTED: it failed this time; another ciphertext may do */
    WRAP_FAILED /* anything else: token away, key replaced */
};

/* ret_out is appended to on success. */
enum wrap_outcome token_wrap_again(struct token *token, struct p11_worker *worker,
        struct token_key *key, const struct hsm_reencrypt *request, X509 *recipient,
        struct cc_buf *ret_out, struct cc_err *err);

#endif
