/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_SIGN_H
#define HSM_TOKEN_SIGN_H

/* Signatures, and random bytes. */

#include "base/buf.h"
#include "hsm/token/conn.h"
#include "hsm/token/key.h"
#include "hsm/wire.h"

struct sign_request {
    enum wire_sign how;
    int digest_nid; /* 0 with PKCS#1 v1.5: data is padded as it is */
    int mgf_nid;
    size_t salt_len;
    struct cc_bytes data;
};

/* Appended; ECDSA as DER. */
CC_MUST int token_sign(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct sign_request *request, struct cc_buf *ret, struct cc_err *err);

#define TOKEN_RANDOM_MAX 4096
CC_MUST int token_random(struct p11_worker *worker, uint8_t *ret, size_t len, struct cc_err *err);

#endif
