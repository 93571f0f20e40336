/* SPDX-License-Identifier: MIT */
#include "hsm/token/sign.h"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <string.h>

#include "hsm/token/ckr.h"
#include "hsm/token/padding.h"

#define SIGN_DATA_MAX P11_RSA_MAX

/* One C_Sign: mechanism and data in, signature out. */
struct sign_call {
    CK_MECHANISM mechanism;
    const uint8_t *data;
    size_t len;
    uint8_t signature[P11_RSA_MAX];
    CK_ULONG signature_len;
};

static CK_RV
sign_op(struct p11_call *call, void *arg)
{
    struct sign_call *sign = arg;
    union {
        const uint8_t *in;
        CK_BYTE *out;
    } data = { .in = sign->data };
    CK_RV rv;

    call->where = "C_SignInit";
    if ((rv = call->f->C_SignInit(call->session, &sign->mechanism, call->key)) != CKR_OK)
        return rv;
    call->where = "C_Sign";
    sign->signature_len = sizeof(sign->signature);
    rv = call->f->C_Sign(call->session, data.out, sign->len, sign->signature, &sign->signature_len);
    return rv == CKR_OK && sign->signature_len > sizeof(sign->signature) ? CKR_BUFFER_TOO_SMALL
                                                                         : rv;
}

static int
sign_run(struct p11_worker *worker, struct token_key *key, struct sign_call *sign,
        struct cc_err *err)
{
    return p11_run(worker, key, sign_op, sign, err);
}

static int
sign_needs(const struct token_key_facts *facts, CK_KEY_TYPE type, struct cc_err *err)
{
    return facts->type == type ? 0
                               : cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT,
                                         "such a signature needs another type of key");
}

static int
sign_pkcs1(struct p11_worker *worker, struct token_key *key, const struct token_key_facts *facts,
        const struct sign_request *request, struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf data = CC_BUF_INIT(SIGN_DATA_MAX);
    struct sign_call sign = { .mechanism = { .mechanism = CKM_RSA_PKCS } };
    int rc;

    if (request->digest_nid == 0)
        rc = cc_buf_add(&data, request->data.data, request->data.len, err);
    else
        rc = padding_digest_info(request->digest_nid, request->data, &data, err);
    if (rc == 0 && data.len + 11 > facts->len) /* RFC 8017 section 9.2 */
        rc = cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%zu bytes are too long to be signed",
                data.len);
    sign.data = data.data;
    sign.len = data.len;
    if (rc == 0 && (rc = sign_run(worker, key, &sign, err)) == 0)
        rc = cc_buf_add(ret, sign.signature, sign.signature_len, err);
    cc_buf_free(&data);
    return rc;
}

static int
sign_block(struct p11_worker *worker, struct token_key *key, const uint8_t *block, size_t len,
        struct cc_buf *ret, struct cc_err *err)
{
    struct sign_call sign = {
        .mechanism = { .mechanism = CKM_RSA_X_509 },
        .data = block,
        .len = len,
    };

    if (sign_run(worker, key, &sign, err) != 0)
        return -1;
    return cc_buf_add(ret, sign.signature, sign.signature_len, err);
}

/* Padded here, for a token that does not know PSS or not this hash. */
static int
sign_pss_here(struct p11_worker *worker, struct token_key *key, const struct token_key_facts *facts,
        const struct sign_request *request, const struct p11_hash *hash, const struct p11_hash *mgf,
        struct cc_buf *ret, struct cc_err *err)
{
    uint8_t block[P11_RSA_MAX];

    if (facts->len > sizeof(block))
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "the key is too long");
    if (padding_pss_encode(hash, mgf, request->data, request->salt_len, facts->bits, block,
                facts->len, err) != 0)
        return -1;
    return sign_block(worker, key, block, facts->len, ret, err);
}

static int
sign_pss(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct token_key_facts *facts, const struct sign_request *request, struct cc_buf *ret,
        struct cc_err *err)
{
    const int h = p11_hash_index(request->digest_nid), m = p11_hash_index(request->mgf_nid);
    CK_RSA_PKCS_PSS_PARAMS params = { 0 };
    struct sign_call sign = {
        .mechanism = { CKM_RSA_PKCS_PSS, &params, sizeof(params) },
        .data = request->data.data,
        .len = request->data.len,
    };
    struct cc_err e = { 0 };
    unsigned way;

    if (h < 0 || m < 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "RSA-PSS with such a hash");
    params.hashAlg = p11_hash(h)->mechanism;
    params.mgf = p11_hash(m)->mgf;
    params.sLen = request->salt_len;
    way = TOKEN_WAY_PSS + (unsigned)(P11_HASHES * h + m);

    if (token_key_way(key, way) != TOKEN_WAY_REFUSED) {
        if (sign_run(worker, key, &sign, &e) == 0)
            return cc_buf_add(ret, sign.signature, sign.signature_len, err);
        if (e.domain != CC_DOM_PKCS11 || !ckr_is_refusal((CK_RV)e.code))
            return cc_err_set(err, e.domain, e.code, "%s", e.text);
        /* It may be another length of the salt that it does not take. */
        if (request->salt_len == request->data.len)
            token_key_set_way(key, way, TOKEN_WAY_REFUSED);
    }
    if (!token->allow_raw_rsa)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token refuses RSA-PSS with %s, and allow-raw-rsa forbids to pad outside it",
                p11_hash(h)->name);
    return sign_pss_here(worker, key, facts, request, p11_hash(h), p11_hash(m), ret, err);
}

static int
sign_raw(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct token_key_facts *facts, const struct sign_request *request, struct cc_buf *ret,
        struct cc_err *err)
{
    /* The same operation as decrypting, so a key that may not decrypt may not do this either. */
    if (token_key_check_use(key, HSM_USE_DECRYPT, err) != 0)
        return -1;
    if (!token->allow_raw_rsa)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "allow-raw-rsa forbids it");
    if (request->data.len != facts->len)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "not exactly the key's length");
    return sign_block(worker, key, request->data.data, request->data.len, ret, err);
}

/* PKCS#11 gives r || s. */
static int
sign_ecdsa_der(const struct sign_call *sign, struct cc_buf *ret, struct cc_err *err)
{
    const int half = (int)(sign->signature_len / 2);
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(sign->signature, half, NULL);
    BIGNUM *s = BN_bin2bn(sign->signature + half, half, NULL);
    unsigned char *der = NULL;
    int len, rc = -1;

    if (sig == NULL || r == NULL || s == NULL || ECDSA_SIG_set0(sig, r, s) != 1)
        goto out;
    r = s = NULL;
    if ((len = i2d_ECDSA_SIG(sig, &der)) > 0)
        rc = cc_buf_add(ret, der, (size_t)len, err);
out:
    if (rc != 0)
        cc_err_set_openssl(err, "ECDSA signature");
    OPENSSL_free(der);
    BN_free(s);
    BN_free(r);
    ECDSA_SIG_free(sig);
    return rc;
}

static int
sign_ecdsa(struct p11_worker *worker, struct token_key *key, const struct token_key_facts *facts,
        const struct sign_request *request, struct cc_buf *ret, struct cc_err *err)
{
    struct sign_call sign = {
        .mechanism = { .mechanism = CKM_ECDSA },
        .data = request->data.data,
        /* The leftmost bytes count (FIPS 186-4 section 6.4); not every token cuts them itself. */
        .len = request->data.len < facts->len ? request->data.len : facts->len,
    };

    if (sign_run(worker, key, &sign, err) != 0)
        return -1;
    if (sign.signature_len == 0 || sign.signature_len % 2 != 0)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token made an ECDSA signature of %lu bytes", sign.signature_len);
    return sign_ecdsa_der(&sign, ret, err);
}

int
token_sign(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct sign_request *request, struct cc_buf *ret, struct cc_err *err)
{
    struct token_key_facts facts;

    if (token_key_check_use(key, HSM_USE_SIGN, err) != 0)
        return -1;
    if (request->data.len == 0 || request->data.len > SIGN_DATA_MAX)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%zu bytes to be signed",
                request->data.len);
    if (token_key_get_facts(worker, key, &facts, err) != 0 ||
            sign_needs(&facts, request->how == WIRE_SIGN_ECDSA ? CKK_EC : CKK_RSA, err) != 0)
        return -1;
    switch (request->how) {
    case WIRE_SIGN_RSA_PKCS1:
        return sign_pkcs1(worker, key, &facts, request, ret, err);
    case WIRE_SIGN_RSA_PSS:
        return sign_pss(token, worker, key, &facts, request, ret, err);
    case WIRE_SIGN_RSA_RAW:
        return sign_raw(token, worker, key, &facts, request, ret, err);
    case WIRE_SIGN_ECDSA:
        return sign_ecdsa(worker, key, &facts, request, ret, err);
    }
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "unknown kind of signature");
}

struct random_call {
    uint8_t *data;
    size_t len;
};

static CK_RV
random_op(struct p11_call *call, void *arg)
{
    struct random_call *random = arg;

    call->where = "C_GenerateRandom";
    return call->f->C_GenerateRandom(call->session, random->data, random->len);
}

int
token_random(struct p11_worker *worker, uint8_t *ret, size_t len, struct cc_err *err)
{
    struct random_call random = { .data = ret, .len = len };

    if (len == 0 || len > TOKEN_RANDOM_MAX)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%zu random bytes", len);
    return p11_run(worker, NULL, random_op, &random, err);
}
