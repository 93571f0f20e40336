/* SPDX-License-Identifier: MIT */
#include "hsm/token/decrypt.h"

#include <string.h>

#include "hsm/token/ckr.h"
#include "hsm/token/padding.h"

/* One C_Decrypt. */
struct decrypt_call {
    CK_MECHANISM mechanism;
    struct cc_bytes ciphertext;
    struct cc_secret *plain; /* as long as the modulus */
    CK_ULONG len;
    bool begun; /* C_DecryptInit was accepted */
};

static CK_RV
decrypt_op(struct p11_call *call, void *arg)
{
    struct decrypt_call *decrypt = arg;
    union {
        const uint8_t *in;
        CK_BYTE *out;
    } data = { .in = decrypt->ciphertext.data };
    CK_RV rv;

    decrypt->begun = false;
    call->where = "C_DecryptInit";
    if ((rv = call->f->C_DecryptInit(call->session, &decrypt->mechanism, call->key)) != CKR_OK)
        return rv;
    decrypt->begun = true;
    call->where = "C_Decrypt";
    decrypt->len = cc_secret_len(decrypt->plain);
    return call->f->C_Decrypt(call->session, data.out, decrypt->ciphertext.len,
            cc_secret_data(decrypt->plain), &decrypt->len);
}

static bool
decrypt_is_refusal(const struct cc_err *e)
{
    return e->domain == CC_DOM_PKCS11 && ckr_is_refusal((CK_RV)e->code);
}

/*
 * Of a call that failed: the answer to the ciphertext, what the token cannot do, or what it is.  Once the token has taken
 * the ciphertext all its answers are about that, in whichever words: a difference would tell of the padding.
 */
static int
decrypt_fault(const struct decrypt_call *decrypt, const struct cc_err *e, const char *what,
        struct cc_err *err)
{
    if (decrypt_is_refusal(e) && !decrypt->begun)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "the token refuses %s (%s)",
                what, e->text);
    if (e->domain == CC_DOM_PKCS11 && decrypt->begun && !ckr_is_memory((CK_RV)e->code))
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT,
                "the ciphertext does not decrypt with this key (%s)", e->text);
    return cc_err_set(err, e->domain, e->code, "%s", e->text);
}

/* ret_plain is truncated to what came out. */
static int
decrypt_run(struct p11_worker *worker, struct token_key *key, struct decrypt_call *decrypt,
        size_t key_len, struct cc_secret **ret_plain, struct cc_err *err)
{
    if ((decrypt->plain = cc_secret_new(key_len, err)) == NULL)
        return -1;
    if (p11_run(worker, key, decrypt_op, decrypt, err) != 0) {
        cc_secret_free(decrypt->plain);
        return -1;
    }
    cc_secret_truncate(decrypt->plain, decrypt->len);
    *ret_plain = decrypt->plain;
    return 0;
}

static int
decrypt_pkcs1(struct p11_worker *worker, struct token_key *key, const struct token_key_facts *facts,
        const struct decrypt_request *request, struct cc_secret **ret_plain, struct cc_err *err)
{
    struct decrypt_call decrypt = {
        .mechanism = { .mechanism = CKM_RSA_PKCS },
        .ciphertext = request->ciphertext,
    };
    struct cc_err e = { 0 };

    if (decrypt_run(worker, key, &decrypt, facts->len, ret_plain, &e) == 0)
        return 0;
    return decrypt_fault(&decrypt, &e, "RSA PKCS#1 v1.5 decryption", err);
}

/* The bare RSA operation; the result is as long as the modulus, whatever zeroes the token left out. */
static int
decrypt_raw(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct token_key_facts *facts, const struct decrypt_request *request,
        struct cc_secret **ret_plain, struct cc_err *err)
{
    struct decrypt_call decrypt = {
        .mechanism = { .mechanism = CKM_RSA_X_509 },
        .ciphertext = request->ciphertext,
    };
    struct cc_secret *bare = NULL, *plain;
    struct cc_err e = { 0 };
    size_t len;

    if (!token->allow_raw_rsa)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the setting allow-raw-rsa forbids it");
    if (decrypt_run(worker, key, &decrypt, facts->len, &bare, &e) != 0)
        return decrypt_fault(&decrypt, &e, "the bare RSA operation", err);
    if ((plain = cc_secret_new(facts->len, err)) != NULL) {
        len = cc_secret_len(bare);
        memcpy(cc_secret_data(plain) + facts->len - len, cc_secret_data(bare), len);
        *ret_plain = plain;
    }
    cc_secret_free(bare);
    return plain == NULL ? -1 : 0;
}

static int
decrypt_oaep_here(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct token_key_facts *facts, const struct decrypt_request *request,
        const struct p11_hash *hash, const struct p11_hash *mgf, struct cc_secret **ret_plain,
        struct cc_err *err)
{
    struct cc_secret *block = NULL;
    int rc;

    if (!token->allow_raw_rsa)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token refuses RSA-OAEP with %s, and allow-raw-rsa forbids to decode it outside",
                hash->name);
    if (decrypt_raw(token, worker, key, facts, request, &block, err) != 0)
        return -1;
    rc = padding_oaep_decode(hash, mgf, request->label, cc_secret_data(block), cc_secret_len(block),
            ret_plain, err);
    cc_secret_free(block);
    return rc;
}

/*
 * Whether the token itself need not, or must not, be asked.  A label that a token ignores cannot be told from one that
 * it checks, so that wherever we may check it ourselves we do.
 */
static bool
decrypt_oaep_is_gap(struct token *token, struct token_key *key, unsigned way, int h, int m,
        size_t label_len)
{
    const unsigned state = token_key_way(key, way);

    if (label_len > 0 && (token->allow_raw_rsa || token_has_gap(token, PROFILE_GAP_OAEP_LABEL)))
        return true;
    if (state != TOKEN_WAY_UNKNOWN)
        return state == TOKEN_WAY_REFUSED;
    return token->allow_raw_rsa && (h != 0 || m != 0) &&
           token_has_gap(token, PROFILE_GAP_OAEP_SHA2);
}

static int
decrypt_oaep(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct token_key_facts *facts, const struct decrypt_request *request,
        struct cc_secret **ret_plain, struct cc_err *err)
{
    const int h = p11_hash_index(request->digest_nid), m = p11_hash_index(request->mgf_nid);
    CK_RSA_PKCS_OAEP_PARAMS params = { .source = CKZ_DATA_SPECIFIED };
    union {
        const uint8_t *in;
        void *out;
    } label = { .in = request->label.data };
    struct decrypt_call decrypt = {
        .mechanism = { CKM_RSA_PKCS_OAEP, &params, sizeof(params) },
        .ciphertext = request->ciphertext,
    };
    struct cc_err e = { 0 };
    unsigned way;

    if (h < 0 || m < 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "RSA-OAEP with such a hash");
    params.hashAlg = p11_hash(h)->mechanism;
    params.mgf = p11_hash(m)->mgf;
    params.pSourceData = request->label.len == 0 ? NULL : label.out;
    params.ulSourceDataLen = request->label.len;
    way = TOKEN_WAY_OAEP + (unsigned)(P11_HASHES * h + m);

    if (!decrypt_oaep_is_gap(token, key, way, h, m, request->label.len)) {
        if (decrypt_run(worker, key, &decrypt, facts->len, ret_plain, &e) == 0)
            return 0;
        if (!decrypt_is_refusal(&e))
            return decrypt_fault(&decrypt, &e, "RSA-OAEP", err);
        /* What the token says when it has seen the ciphertext may be about that one alone. */
        if (!decrypt.begun)
            token_key_set_way(key, way, TOKEN_WAY_REFUSED);
    }
    return decrypt_oaep_here(token, worker, key, facts, request, p11_hash(h), p11_hash(m),
            ret_plain, err);
}

int
token_check_ciphertext(const struct token_key_facts *facts, struct cc_bytes ciphertext,
        struct cc_err *err)
{
    if (ciphertext.len == facts->len)
        return 0;
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT,
            "a ciphertext of %zu bytes cannot be for this key, whose modulus has %zu",
            ciphertext.len, facts->len);
}

int
token_decrypt(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct decrypt_request *request, struct cc_secret **ret_plain, struct cc_err *err)
{
    struct token_key_facts facts;

    if (token_key_get_facts(worker, key, &facts, err) != 0 ||
            token_check_ciphertext(&facts, request->ciphertext, err) != 0)
        return -1;
    switch (request->how) {
    case WIRE_DECRYPT_RSA_PKCS1:
        return decrypt_pkcs1(worker, key, &facts, request, ret_plain, err);
    case WIRE_DECRYPT_RSA_OAEP:
        return decrypt_oaep(token, worker, key, &facts, request, ret_plain, err);
    case WIRE_DECRYPT_RSA_RAW:
        return decrypt_raw(token, worker, key, &facts, request, ret_plain, err);
    }
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "unknown kind of decryption");
}
