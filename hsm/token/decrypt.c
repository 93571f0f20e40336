/* SPDX-License-Identifier: MIT */
#include "hsm/token/decrypt.h"

#include <string.h>

#include "base/process.h"
#include "hsm/token/ckr.h"
#include "hsm/token/padding.h"

/* One C_Decrypt. */
struct decrypt_call {
    CK_MECHANISM mechanism;
    struct cc_bytes ciphertext;
    struct cc_secret *plain; /* as long as the modulus */
    CK_ULONG len;
    CK_RV said; /* by C_Decrypt; CKR_OK, too, where it was not called */
    bool quiet; /* what the token says of the ciphertext is no failure: its session stays, and nobody is told */
};

/* It is about the ciphertext, and has ended the operation (PKCS #11 2.40 section 5.9). */
static bool
decrypt_is_verdict(CK_RV rv)
{
    return ckr_class(rv) == CKR_IS_ANSWER && !ckr_is_memory(rv) && rv != CKR_BUFFER_TOO_SMALL;
}

static CK_RV
decrypt_op(struct p11_call *call, void *arg)
{
    struct decrypt_call *decrypt = arg;
    union {
        const uint8_t *in;
        CK_BYTE *out;
    } data = { .in = decrypt->ciphertext.data };
    CK_RV rv;

    decrypt->said = CKR_OK;
    call->where = "C_DecryptInit";
    if ((rv = call->f->C_DecryptInit(call->session, &decrypt->mechanism, call->key)) != CKR_OK)
        return rv;
    call->where = "C_Decrypt";
    decrypt->len = cc_secret_len(decrypt->plain);
    rv = call->f->C_Decrypt(call->session, data.out, decrypt->ciphertext.len,
            cc_secret_data(decrypt->plain), &decrypt->len);
    decrypt->said = rv;
    return decrypt->quiet && decrypt_is_verdict(rv) ? CKR_OK : rv;
}

static bool
decrypt_is_refusal(const struct cc_err *e)
{
    return e->domain == CC_DOM_PKCS11 && ckr_is_refusal((CK_RV)e->code);
}

/*
 * Whether the error is the answer to the ciphertext, not of a search when the operation was repeated.  Once the token
 * has taken the ciphertext all its answers are about that, in whichever words: a difference would tell of the padding.
 */
static bool
decrypt_is_answer(const struct decrypt_call *decrypt, const struct cc_err *e)
{
    return e->domain == CC_DOM_PKCS11 && decrypt->said != CKR_OK &&
           decrypt->said == (CK_RV)e->code && !ckr_is_memory(decrypt->said);
}

/* Of a call that failed: the answer to the ciphertext, what the token cannot do, or what it is. */
static int
decrypt_fault(const struct decrypt_call *decrypt, const struct cc_err *e, const char *what,
        struct cc_err *err)
{
    if (decrypt_is_refusal(e) && decrypt->said == CKR_OK)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "the token refuses %s (%s)",
                what, e->text);
    if (decrypt_is_answer(decrypt, e))
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

/* Parameters of OAEP, in the words of PKCS #11; label is borrowed. */
static CK_RSA_PKCS_OAEP_PARAMS
decrypt_oaep_params(const struct p11_hash *hash, const struct p11_hash *mgf, struct cc_bytes label)
{
    const union {
        const uint8_t *in;
        void *out;
    } data = { .in = label.data };

    return (CK_RSA_PKCS_OAEP_PARAMS){
        .hashAlg = hash->mechanism,
        .mgf = mgf->mgf,
        .source = CKZ_DATA_SPECIFIED,
        .pSourceData = label.len == 0 ? NULL : data.out,
        .ulSourceDataLen = label.len,
    };
}

static int
decrypt_oaep(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct token_key_facts *facts, const struct decrypt_request *request,
        struct cc_secret **ret_plain, struct cc_err *err)
{
    const int h = p11_hash_index(request->digest_nid), m = p11_hash_index(request->mgf_nid);
    CK_RSA_PKCS_OAEP_PARAMS params;
    struct decrypt_call decrypt = {
        .mechanism = { CKM_RSA_PKCS_OAEP, &params, sizeof(params) },
        .ciphertext = request->ciphertext,
    };
    struct cc_err e = { 0 };
    unsigned way;

    if (h < 0 || m < 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "RSA-OAEP with such a hash");
    params = decrypt_oaep_params(p11_hash(h), p11_hash(m), request->label);
    way = TOKEN_WAY_OAEP + (unsigned)(P11_HASHES * h + m);

    if (!decrypt_oaep_is_gap(token, key, way, h, m, request->label.len)) {
        if (decrypt_run(worker, key, &decrypt, facts->len, ret_plain, &e) == 0)
            return 0;
        if (!decrypt_is_refusal(&e))
            return decrypt_fault(&decrypt, &e, "RSA-OAEP", err);
        /* What the token says when it has seen the ciphertext may be about that one alone. */
        if (decrypt.said == CKR_OK)
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

/* ---- Content-encryption keys ---- */

/*
 * Implicit rejection (RFC 3218 section 2.3.2): the key is drawn at random before anything else, and what the ciphertext
 * holds takes its place or does not, without a branch.  The bare RSA operation is the way where there is one: to it every
 * ciphertext is good, so that nothing that the token does depends on the padding.  A token that unpads itself says
 * whether it could; that ends here.
 */
struct open_request {
    const struct p11_hash *hash, *mgf; /* of OAEP; NULL: PKCS #1 v1.5 */
    struct cc_bytes ciphertext;        /* as long as the modulus and below it */
    uint8_t *content_key;              /* random, so far */
    size_t len;
};

/* Nothing is left of the answer of a token that did not like the ciphertext. */
static int
open_run(struct p11_worker *worker, struct token_key *key, struct decrypt_call *decrypt,
        struct cc_err *err)
{
    struct cc_secret *const block = decrypt->plain;
    int rc;

    decrypt->quiet = true;
    rc = p11_run(worker, key, decrypt_op, decrypt, err);
    if (rc != 0 || decrypt->said != CKR_OK || decrypt->len > cc_secret_len(block))
        decrypt->len = 0;
    return rc;
}

static int
open_unpad(const struct open_request *request, uint8_t *block, size_t block_len, struct cc_err *err)
{
    if (request->hash != NULL)
        return padding_oaep_take_key(request->hash, request->mgf, block, block_len,
                request->content_key, request->len, err);
    padding_pkcs1_take_key(block, block_len, request->content_key, request->len);
    return 0;
}

/* 0 done, -1 failed, 1 the token has to unpad. */
static int
open_raw(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct open_request *request, struct cc_secret *block, struct cc_err *err)
{
    struct decrypt_call decrypt = {
        .mechanism = { .mechanism = CKM_RSA_X_509 },
        .ciphertext = request->ciphertext,
        .plain = block,
    };
    const size_t block_len = cc_secret_len(block);
    struct cc_err e = { 0 };

    if (!token->allow_raw_rsa || token_key_way(key, TOKEN_WAY_RAW) == TOKEN_WAY_REFUSED)
        return 1;
    if (open_run(worker, key, &decrypt, &e) != 0) {
        if (decrypt_is_answer(&decrypt, &e))
            return 1;
        if (!decrypt_is_refusal(&e))
            return cc_err_set(err, e.domain, e.code, "%s", e.text);
        token_key_set_way(key, TOKEN_WAY_RAW, TOKEN_WAY_REFUSED);
        return 1;
    }
    if (decrypt.said != CKR_OK)
        return 1;
    padding_align(cc_secret_data(block), block_len, decrypt.len);
    return open_unpad(request, cc_secret_data(block), block_len, err);
}

static int
open_by_token(struct p11_worker *worker, struct token_key *key, const struct open_request *request,
        struct cc_secret *block, struct cc_err *err)
{
    CK_RSA_PKCS_OAEP_PARAMS params;
    struct decrypt_call decrypt = {
        .mechanism = { .mechanism = CKM_RSA_PKCS },
        .ciphertext = request->ciphertext,
        .plain = block,
    };
    struct cc_err e = { 0 };

    if (request->hash != NULL) {
        params = decrypt_oaep_params(request->hash, request->mgf, (struct cc_bytes){ 0 });
        decrypt.mechanism = (CK_MECHANISM){ CKM_RSA_PKCS_OAEP, &params, sizeof(params) };
    }
    if (open_run(worker, key, &decrypt, &e) != 0 && !decrypt_is_answer(&decrypt, &e))
        return decrypt_fault(&decrypt, &e,
                request->hash != NULL
                        ? "RSA-OAEP with this hash, and the bare operation is refused or forbidden"
                        : "RSA PKCS#1 v1.5 decryption, and the bare operation is refused or forbidden",
                err);
    padding_take_key(cc_secret_data(block), cc_secret_len(block), decrypt.len, request->content_key,
            request->len);
    return 0;
}

static int
open_content_key(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct open_request *request, size_t key_len, struct cc_err *err)
{
    struct cc_secret *block = cc_secret_new(key_len, err);
    int rc;

    if (block == NULL)
        return -1;
    if ((rc = open_raw(token, worker, key, request, block, err)) == 1)
        rc = open_by_token(worker, key, request, block, err);
    cc_secret_free(block);
    return rc;
}

static int
open_read_hashes(const struct hsm_key_transport *transport, struct open_request *ret,
        struct cc_err *err)
{
    const int h = p11_hash_index(transport->digest_nid), m = p11_hash_index(transport->mgf_nid);

    if (!transport->oaep)
        return 0;
    if (h < 0 || m < 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "RSA-OAEP with such a hash");
    ret->hash = p11_hash(h);
    ret->mgf = p11_hash(m);
    return 0;
}

int
token_open_content_key(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_key_transport *transport, size_t len, struct cc_secret **ret_key,
        struct cc_err *err)
{
    /* Decrypted in place of what cannot be, for the same work; what comes of it is not used. */
    static const uint8_t stand_in[P11_RSA_MAX] = { [P11_RSA_MAX - 1] = 2 };
    struct cc_secret *content_key = cc_secret_new(len, err), *unused = cc_secret_new(len, err);
    struct open_request request = { .ciphertext = transport->encrypted, .len = len };
    struct token_key_facts facts;
    int rc = -1;

    if (content_key == NULL || unused == NULL ||
            cc_random(cc_secret_data(content_key), len, err) != 0 ||
            open_read_hashes(transport, &request, err) != 0 ||
            token_key_get_facts(worker, key, &facts, err) != 0)
        goto out;
    if (facts.len > P11_RSA_MAX) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "the key is too long");
        goto out;
    }
    request.content_key = cc_secret_data(content_key);
    if (!token_key_takes(key, request.ciphertext)) {
        request.content_key = cc_secret_data(unused);
        request.ciphertext =
                (struct cc_bytes){ stand_in + sizeof(stand_in) - facts.len, facts.len };
    }
    if (open_content_key(token, worker, key, &request, facts.len, err) != 0)
        goto out;
    *ret_key = content_key;
    content_key = NULL;
    rc = 0;
out:
    cc_secret_free(content_key);
    cc_secret_free(unused);
    return rc;
}
