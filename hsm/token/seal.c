/* SPDX-License-Identifier: MIT */
#include "hsm/token/decrypt.h"

#include <string.h>

#include "hsm/token/ckr.h"

#define SEAL_IV 12
#define SEAL_TAG 16
#define SEAL_HEADER_MAX (2 + P11_URI_ID_MAX)
#define SEAL_CONTEXT_MAX 4096

/* One C_Encrypt or C_Decrypt. */
struct seal_call {
    bool seals;
    uint8_t iv[SEAL_IV];
    struct cc_buf aad;
    struct cc_bytes in;
    uint8_t *out;
    size_t out_size;
    CK_ULONG out_len;
    bool begun;
};

static int
seal_header(const struct token_key_facts *facts, enum token_sealed what, struct cc_buf *ret,
        struct cc_err *err)
{
    if (cc_buf_add_u8(ret, (uint8_t)what, err) != 0 ||
            cc_buf_add_u8(ret, (uint8_t)facts->id_len, err) != 0)
        return -1;
    return facts->id_len == 0 ? 0 : cc_buf_add(ret, facts->id, facts->id_len, err);
}

static int
seal_aad(const struct token_key_facts *facts, enum token_sealed what, struct cc_bytes context,
        struct cc_buf *ret, struct cc_err *err)
{
    if (context.len > SEAL_CONTEXT_MAX)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "a context of %zu bytes",
                context.len);
    if (seal_header(facts, what, ret, err) != 0)
        return -1;
    return context.len == 0 ? 0 : cc_buf_add(ret, context.data, context.len, err);
}

static CK_RV
seal_work(struct p11_call *call, struct seal_call *seal, CK_MECHANISM *mechanism)
{
    union {
        const uint8_t *in;
        CK_BYTE *out;
    } data = { .in = seal->in.data };
    CK_RV rv;

    seal->out_len = seal->out_size;
    if (seal->seals) {
        call->where = "C_EncryptInit";
        if ((rv = call->f->C_EncryptInit(call->session, mechanism, call->key)) != CKR_OK)
            return rv;
        seal->begun = true;
        call->where = "C_Encrypt";
        return call->f->C_Encrypt(call->session, data.out, seal->in.len, seal->out, &seal->out_len);
    }
    call->where = "C_DecryptInit";
    if ((rv = call->f->C_DecryptInit(call->session, mechanism, call->key)) != CKR_OK)
        return rv;
    seal->begun = true;
    call->where = "C_Decrypt";
    return call->f->C_Decrypt(call->session, data.out, seal->in.len, seal->out, &seal->out_len);
}

static CK_RV
seal_op(struct p11_call *call, void *arg)
{
    struct seal_call *seal = arg;
    CK_GCM_PARAMS params = {
        .pIv = seal->iv,
        .ulIvLen = SEAL_IV,
        .ulIvBits = 8UL * SEAL_IV,
        .pAAD = seal->aad.data,
        .ulAADLen = seal->aad.len,
        .ulTagBits = 8UL * SEAL_TAG,
    };
    CK_MECHANISM mechanism = { CKM_AES_GCM, &params, sizeof(params) };
    CK_RV rv;

    seal->begun = false;
    /* A new one for each try: an IV that met a failure may have been used. */
    if (seal->seals) {
        call->where = "C_GenerateRandom";
        rv = call->f->C_GenerateRandom(call->session, seal->iv, sizeof(seal->iv));
        if (rv != CKR_OK)
            return rv;
    }
    return seal_work(call, seal, &mechanism);
}

int
token_seal(struct p11_worker *worker, struct token_key *key, enum token_sealed what,
        struct cc_bytes context, struct cc_bytes plain, struct cc_buf *ret_sealed,
        struct cc_err *err)
{
    struct seal_call seal = { .seals = true, .in = plain };
    struct token_key_facts facts;
    const size_t len = plain.len + SEAL_TAG;
    int rc = -1;

    cc_buf_init(&seal.aad, SEAL_HEADER_MAX + SEAL_CONTEXT_MAX);
    if (plain.len == 0 || plain.len > TOKEN_SEAL_MAX)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%zu bytes to be sealed", plain.len);
    if (token_key_get_facts(worker, key, &facts, err) != 0 ||
            seal_aad(&facts, what, context, &seal.aad, err) != 0 ||
            seal_header(&facts, what, ret_sealed, err) != 0)
        goto out;
    /* Room for both first, so that the place of the ciphertext does not move. */
    if (cc_buf_reserve(ret_sealed, SEAL_IV + len, err) == NULL)
        goto out;
    seal.out = ret_sealed->data + ret_sealed->len + SEAL_IV;
    seal.out_size = len;
    if (p11_run(worker, key, seal_op, &seal, err) != 0)
        goto out;
    if (seal.out_len != len) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "AES-GCM gave %lu bytes, not %zu",
                seal.out_len, len);
        goto out;
    }
    memcpy(ret_sealed->data + ret_sealed->len, seal.iv, SEAL_IV);
    ret_sealed->len += SEAL_IV + len;
    rc = 0;
out:
    cc_buf_free(&seal.aad);
    return rc;
}

static int
unseal_refuse(struct cc_err *err, const char *why)
{
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT, "sealed bytes: %s", why);
}

/* Leaves IV, ciphertext and tag in rest. */
static int
unseal_header(const struct token_key_facts *facts, enum token_sealed what, struct cc_bytes *rest,
        struct cc_err *err)
{
    size_t header;

    if (rest->len < 2 || rest->data[0] != (uint8_t)what)
        return unseal_refuse(err, "of another kind, or not of a version that is known");
    header = 2U + rest->data[1];
    if (rest->len < header + SEAL_IV + SEAL_TAG ||
            rest->len > header + SEAL_IV + TOKEN_SEAL_MAX + SEAL_TAG)
        return unseal_refuse(err, "cut short or too long");
    if (rest->data[1] != facts->id_len || memcmp(rest->data + 2, facts->id, facts->id_len) != 0)
        return unseal_refuse(err, "sealed under another key");
    rest->data += header;
    rest->len -= header;
    return 0;
}

static int
unseal_fault(const struct seal_call *seal, const struct cc_err *e, struct cc_err *err)
{
    if (e->domain != CC_DOM_PKCS11 || !seal->begun || ckr_is_refusal((CK_RV)e->code) ||
            ckr_is_memory((CK_RV)e->code))
        return cc_err_set(err, e->domain, e->code, "%s", e->text);
    return unseal_refuse(err, "they were changed, or belong to something else");
}

int
token_unseal(struct p11_worker *worker, struct token_key *key, enum token_sealed what,
        struct cc_bytes context, struct cc_bytes sealed, struct cc_secret **ret_plain,
        struct cc_err *err)
{
    struct seal_call seal = { .seals = false };
    struct token_key_facts facts;
    struct cc_secret *plain = NULL;
    struct cc_err e = { 0 };
    int rc = -1;

    cc_buf_init(&seal.aad, SEAL_HEADER_MAX + SEAL_CONTEXT_MAX);
    if (token_key_get_facts(worker, key, &facts, err) != 0 ||
            seal_aad(&facts, what, context, &seal.aad, err) != 0 ||
            unseal_header(&facts, what, &sealed, err) != 0)
        goto out;
    memcpy(seal.iv, sealed.data, SEAL_IV);
    seal.in = (struct cc_bytes){ sealed.data + SEAL_IV, sealed.len - SEAL_IV };
    /* Some tokens want room for as much as goes in. */
    seal.out_size = seal.in.len;
    if ((plain = cc_secret_new(seal.out_size, err)) == NULL)
        goto out;
    seal.out = cc_secret_data(plain);
    if (p11_run(worker, key, seal_op, &seal, &e) != 0) {
        unseal_fault(&seal, &e, err);
        goto out;
    }
    cc_secret_truncate(plain, seal.out_len);
    *ret_plain = plain;
    plain = NULL;
    rc = 0;
out:
    cc_secret_free(plain);
    cc_buf_free(&seal.aad);
    return rc;
}
