/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_DECRYPT_H
#define HSM_TOKEN_DECRYPT_H

/* RSA decryption, and sealing with AES-GCM.  Plaintexts are secret. */

#include "base/buf.h"
#include "base/secret.h"
#include "hsm/token/conn.h"
#include "hsm/token/key.h"
#include "hsm/wire.h"

struct decrypt_request {
    enum wire_decrypt how;
    int digest_nid; /* of OAEP */
    int mgf_nid;
    struct cc_bytes label;
    struct cc_bytes ciphertext;
};

/* HSM_FAULT_DECRYPT for what does not decrypt, HSM_FAULT_UNSUPPORTED for what the token cannot do.  The role of the key
   is not looked at. */
CC_MUST int token_decrypt(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct decrypt_request *request, struct cc_secret **ret_plain, struct cc_err *err);

/*
 * The content-encryption key that was transported, or random bytes in its place, always len of them; which, neither
 * error nor time nor the state of the session tells (see hsm_key_open_content_key()).  The role is not looked at.
 */
CC_MUST int token_open_content_key(struct token *token, struct p11_worker *worker,
        struct token_key *key, const struct hsm_key_transport *transport, size_t len,
        struct cc_secret **ret_key, struct cc_err *err);

/* HSM_FAULT_DECRYPT unless it is as long as the modulus. */
CC_MUST int token_check_ciphertext(const struct token_key_facts *facts, struct cc_bytes ciphertext,
        struct cc_err *err);

/*
 * What is sealed, and the first byte of its form.  Each opens only as what it is: bytes go back to the daemon, which must
 * not get a device's key by handing in one as the other.
 */
enum token_sealed { TOKEN_SEALED_BYTES = 1, TOKEN_SEALED_DEVICE_KEY = 2 };

/*
 * Sealed form: enum token_sealed, length of CKA_ID, CKA_ID, 96-bit IV, ciphertext and 128-bit tag.  Authenticated with
 * it: what stands before the IV, and the context.  With the tag it must fit into a secret, as some tokens want room for
 * it when they decrypt.
 */
#define TOKEN_SEAL_MAX (CC_SECRET_MAX - 16)
CC_MUST int token_seal(struct p11_worker *worker, struct token_key *key, enum token_sealed what,
        struct cc_bytes context, struct cc_bytes plain, struct cc_buf *ret_sealed,
        struct cc_err *err);
CC_MUST int token_unseal(struct p11_worker *worker, struct token_key *key, enum token_sealed what,
        struct cc_bytes context, struct cc_bytes sealed, struct cc_secret **ret_plain,
        struct cc_err *err);

#endif
