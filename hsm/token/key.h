/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_KEY_H
#define HSM_TOKEN_KEY_H

/*
 * Keys: what the daemon registered, what was found on the token, and what the token turned out to be able to do.
 *
 * A key is found when it is first used, by its URI, and must be the only one there.  Its public half is then pinned:
 * each later search (after a lost session, a reopened token, a void handle) must find the same one, else a key put in
 * its place would sign under the old certificate.  Threads: any.
 */

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "hsm/hsm.h"
#include "hsm/role.h"
#include "hsm/token/conn.h"
#include "hsm/token/token.h"

struct token_key;

/* Constant once the key was found. */
struct token_key_facts {
    CK_KEY_TYPE type;
    size_t bits;                /* RSA modulus, order of the curve */
    size_t len;                 /* bytes of them, or of the AES key */
    uint8_t id[P11_URI_ID_MAX]; /* CKA_ID */
    size_t id_len;
};

CC_MUST int token_key_new(unsigned number, enum hsm_role role, const char *uri,
        const struct p11_uri *token_uri, struct cc_bytes expected_spki, struct token_key **ret_key,
        struct cc_err *err);
void token_key_free(struct token_key *key);

unsigned token_key_number(const struct token_key *key);

/* HSM_FAULT_ROLE unless the role allows this use. */
CC_MUST int token_key_check_use(const struct token_key *key, enum hsm_use use, struct cc_err *err);

/* Inside a connection: finds the object and compares it; sets call->key.  *ret_rv is CKR_OK when the error is our own
   finding (none, several, another), else what the token said. */
CC_MUST int token_key_find(struct token_key *key, struct p11_call *call, CK_SLOT_ID slot,
        CK_RV *ret_rv, struct cc_err *err);

/* Finds the key first where it was not yet. */
CC_MUST int token_key_get_facts(struct p11_worker *worker, struct token_key *key,
        struct token_key_facts *ret, struct cc_err *err);

/* Whether an RSA key that was found can decrypt this: as long as its modulus and below it (RFC 8017 section 5.1.2). */
bool token_key_takes(struct token_key *key, struct cc_bytes ciphertext);

/* SubjectPublicKeyInfo, appended. */
CC_MUST int token_key_get_spki(struct p11_worker *worker, struct token_key *key, struct cc_buf *ret,
        struct cc_err *err);

/*
 * What was learned by trying, forgotten at each search.  Index: TOKEN_WAY_OAEP + 5 * hash + MGF1 hash and the like,
 * hashes as numbered by p11_hash_index() (padding.h).
 */
enum {
    TOKEN_WAY_OAEP = 0,
    TOKEN_WAY_PSS = TOKEN_WAY_OAEP + 25,
    TOKEN_WAY_REENCRYPT = TOKEN_WAY_PSS + 25, /* + 5 * padding + form, see wrap.c */
    TOKEN_WAY_RAW = TOKEN_WAY_REENCRYPT + 25, /* the bare RSA operation */
    TOKEN_WAY_COUNT
};
/* TOKEN_WAY_REFUSED and above: refused; the rest says where, as who set it likes. */
enum { TOKEN_WAY_UNKNOWN, TOKEN_WAY_WORKS, TOKEN_WAY_REFUSED };

unsigned token_key_way(struct token_key *key, unsigned way);
void token_key_set_way(struct token_key *key, unsigned way, unsigned state);

#endif
