/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_DEVICE_KEY_H
#define HSM_TOKEN_DEVICE_KEY_H

/*
 * Key pairs of devices.  Their private halves exist here, in memory that is wiped, between a call's beginning and its
 * end; what leaves is sealed under the seal key, or encrypted in a PFX whose password only the recipient can read.
 * Threads: any, each with its own worker.
 */

#include <openssl/types.h>

#include "base/buf.h"
#include "hsm/hsm.h"
#include "hsm/token/conn.h"
#include "hsm/token/key.h"

CC_MUST int token_device_key_new(struct p11_worker *worker, struct token_key *seal,
        enum pki_keyspec spec, enum hsm_generation generation, struct cc_bytes context,
        struct cc_buf *ret_sealed, struct cc_buf *ret_spki, struct cc_err *err);

CC_MUST int token_device_key_csr(struct p11_worker *worker, struct token_key *seal,
        struct cc_bytes context, struct cc_bytes sealed, struct cc_bytes subject,
        struct cc_bytes extensions, struct cc_buf *ret_csr, struct cc_err *err);

CC_MUST int token_device_key_pfx(struct p11_worker *worker, struct token_key *seal,
        const struct hsm_device_pfx *parts, struct cc_buf *ret_pfx, struct cc_buf *ret_password,
        struct cc_err *err);

/*
 * A key pair made on the token as session objects, brought here wrapped under a key of the moment.  HSM_FAULT_UNSUPPORTED
 * where the token makes no such pairs or wraps them in no way that is known.  Yours to free.
 */
CC_MUST int token_generate_pair(struct p11_worker *worker, enum pki_keyspec spec,
        EVP_PKEY **ret_key, struct cc_err *err);

#endif
