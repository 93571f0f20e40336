/* SPDX-License-Identifier: MIT */
#include "hsm/token/device_key.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/process.h"
#include "base/secret.h"
#include "hsm/token/attr.h"
#include "hsm/token/ckr.h"
#include "hsm/token/public.h"

/*
 * A pair made on the token: C_GenerateKeyPair and C_WrapKey, all of it session objects.  How a token wraps a private key
 * is found by trying, from padded CBC, which most have, to the key wrap of RFC 3394, which fills a PKCS #8 up with zero
 * bytes where it has to; its DER tells where it ends.
 */

#define WRAPPED_MAX 4096
#define KEK_LEN 32
#define IV_LEN 16
#define FILL_MAX 8

/* DER of the curves' OIDs (RFC 5480 section 2.1.1.1). */
static const uint8_t oid_p256[] = { 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07 };
static const uint8_t oid_p384[] = { 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22 };

static const struct pair_kind {
    CK_MECHANISM_TYPE mechanism;
    CK_KEY_TYPE type;
    CK_ULONG bits;
    struct cc_bytes curve;
} kinds[PKI_KEYSPECS] = {
    [PKI_RSA2048] = { CKM_RSA_PKCS_KEY_PAIR_GEN, CKK_RSA, 2048, { NULL, 0 } },
    [PKI_RSA3072] = { CKM_RSA_PKCS_KEY_PAIR_GEN, CKK_RSA, 3072, { NULL, 0 } },
    [PKI_RSA4096] = { CKM_RSA_PKCS_KEY_PAIR_GEN, CKK_RSA, 4096, { NULL, 0 } },
    [PKI_EC_P256] = { CKM_EC_KEY_PAIR_GEN, CKK_EC, 0, { oid_p256, sizeof(oid_p256) } },
    [PKI_EC_P384] = { CKM_EC_KEY_PAIR_GEN, CKK_EC, 0, { oid_p384, sizeof(oid_p384) } },
};

struct pair_work {
    /* Constant over the tries. */
    const struct pair_kind *kind;
    uint8_t kek[KEK_LEN];
    uint8_t iv[IV_LEN];

    size_t way; /* that it was wrapped in */
    uint8_t wrapped[WRAPPED_MAX];
    CK_ULONG wrapped_len;
    EVP_PKEY *public; /* NULL: the token does not tell */

    /* Session objects; 0: not made. */
    CK_OBJECT_HANDLE public_key, private_key, kek_key;
};

static const struct pair_way {
    CK_MECHANISM_TYPE mechanism;
    bool has_iv;
    const EVP_CIPHER *(*cipher)(void);
} ways[] = {
    { CKM_AES_CBC_PAD, true, EVP_aes_256_cbc },
    { CKM_AES_KEY_WRAP_PAD, false, EVP_aes_256_wrap_pad },
    { CKM_AES_KEY_WRAP, false, EVP_aes_256_wrap },
};

/* ---- steps, each between entering a connection and leaving it ---- */

static CK_RV
pair_generate(struct p11_call *call, struct pair_work *work)
{
    static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    static const uint8_t exponent[] = { 1, 0, 1 };
    const struct pair_kind *kind = work->kind;
    const bool rsa = kind->type == CKK_RSA;
    CK_MECHANISM mechanism = { .mechanism = kind->mechanism };
    CK_ATTRIBUTE public[] = {
        p11_attr(CKA_TOKEN, &no, sizeof(no)),
        p11_attr(CKA_VERIFY, &yes, sizeof(yes)),
        rsa ? p11_attr(CKA_MODULUS_BITS, &kind->bits, sizeof(kind->bits))
            : p11_attr(CKA_EC_PARAMS, kind->curve.data, kind->curve.len),
        p11_attr(CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)),
    };
    CK_ATTRIBUTE private[] = {
        p11_attr(CKA_TOKEN, &no, sizeof(no)),
        p11_attr(CKA_PRIVATE, &yes, sizeof(yes)),
        p11_attr(CKA_SENSITIVE, &yes, sizeof(yes)),
        p11_attr(CKA_EXTRACTABLE, &yes, sizeof(yes)),
        p11_attr(CKA_SIGN, &yes, sizeof(yes)),
    };
    CK_RV rv;

    call->where = "C_GenerateKeyPair";
    rv = call->f->C_GenerateKeyPair(call->session, &mechanism, public,
            CC_COUNT(public) - (rsa ? 0 : 1), private, CC_COUNT(private), &work->public_key,
            &work->private_key);
    if (rv != CKR_OK)
        work->public_key = work->private_key = 0;
    return rv;
}

static CK_RV
pair_import_kek(struct p11_call *call, struct pair_work *work)
{
    static const CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    static const CK_KEY_TYPE type = CKK_AES;
    static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE template[] = {
        p11_attr(CKA_CLASS, &class, sizeof(class)),
        p11_attr(CKA_KEY_TYPE, &type, sizeof(type)),
        p11_attr(CKA_TOKEN, &no, sizeof(no)),
        p11_attr(CKA_WRAP, &yes, sizeof(yes)),
        p11_attr(CKA_VALUE, work->kek, sizeof(work->kek)),
    };
    CK_RV rv;

    call->where = "C_CreateObject";
    rv = call->f->C_CreateObject(call->session, template, CC_COUNT(template), &work->kek_key);
    if (rv != CKR_OK)
        work->kek_key = 0;
    return rv;
}

static CK_RV
pair_wrap(struct p11_call *call, struct pair_work *work)
{
    CK_RV rv = CKR_MECHANISM_INVALID;

    call->where = "C_WrapKey";
    for (work->way = 0; work->way < CC_COUNT(ways); work->way++) {
        const struct pair_way *way = &ways[work->way];
        CK_MECHANISM mechanism = { way->mechanism, way->has_iv ? work->iv : NULL,
            way->has_iv ? sizeof(work->iv) : 0 };

        work->wrapped_len = sizeof(work->wrapped);
        rv = call->f->C_WrapKey(call->session, &mechanism, work->kek_key, work->private_key,
                work->wrapped, &work->wrapped_len);
        if (rv == CKR_OK || !ckr_is_refusal(rv))
            break;
        call->dirty = true;
    }
    return rv == CKR_OK && work->wrapped_len > sizeof(work->wrapped) ? CKR_BUFFER_TOO_SMALL : rv;
}

static CK_RV
pair_steps(struct p11_call *call, struct pair_work *work)
{
    CK_RV rv;

    if ((rv = pair_generate(call, work)) != CKR_OK ||
            (rv = pair_import_kek(call, work)) != CKR_OK || (rv = pair_wrap(call, work)) != CKR_OK)
        return rv;
    call->where = "C_GetAttributeValue";
    EVP_PKEY_free(work->public);
    work->public = NULL;
    return p11_public_read(call->f, call->session, work->public_key, work->kind->type,
            (struct cc_bytes){ NULL, 0 }, &work->public, NULL);
}

/* An object that cannot be destroyed goes with its session. */
static void
pair_destroy(struct p11_call *call, CK_OBJECT_HANDLE *handle)
{
    if (*handle != 0 && call->f->C_DestroyObject(call->session, *handle) != CKR_OK)
        call->dirty = true;
    *handle = 0;
}

static CK_RV
pair_op(struct p11_call *call, void *arg)
{
    struct pair_work *work = arg;
    const CK_RV rv = pair_steps(call, work);

    pair_destroy(call, &work->private_key);
    pair_destroy(call, &work->public_key);
    pair_destroy(call, &work->kek_key);
    return rv;
}

/* ---- unwrapping here ---- */

static int
pair_open(const struct pair_work *work, struct cc_secret **ret, struct cc_err *err)
{
    const struct pair_way *way = &ways[work->way];
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    struct cc_secret *plain = cc_secret_new(WRAPPED_MAX + IV_LEN, err);
    int len = 0, tail = 0, rc = -1;

    if (ctx == NULL)
        cc_err_nomem(err);
    if (ctx == NULL || plain == NULL)
        goto out;
    EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    ERR_clear_error();
    if (EVP_DecryptInit_ex(ctx, way->cipher(), NULL, work->kek, way->has_iv ? work->iv : NULL) !=
                    1 ||
            EVP_DecryptUpdate(ctx, cc_secret_data(plain), &len, work->wrapped,
                    (int)work->wrapped_len) != 1 ||
            EVP_DecryptFinal_ex(ctx, cc_secret_data(plain) + len, &tail) != 1) {
        ERR_clear_error();
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "what the token wrapped does not unwrap again");
        goto out;
    }
    cc_secret_truncate(plain, (size_t)(len + tail));
    *ret = plain;
    plain = NULL;
    rc = 0;
out:
    cc_secret_free(plain);
    EVP_CIPHER_CTX_free(ctx);
    return rc;
}

/* A PKCS #8, and behind it at most what a key wrap fills up with. */
static int
pair_read(struct cc_secret *plain, const EVP_PKEY *public, EVP_PKEY **ret_key, struct cc_err *err)
{
    const unsigned char *at = cc_secret_data(plain);
    const unsigned char *end = at + cc_secret_len(plain);
    PKCS8_PRIV_KEY_INFO *info;
    EVP_PKEY *key = NULL;

    ERR_clear_error();
    info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)cc_secret_len(plain));
    if (info != NULL && end - at < FILL_MAX)
        key = EVP_PKCS82PKEY(info);
    PKCS8_PRIV_KEY_INFO_free(info);
    ERR_clear_error();
    if (key == NULL || EVP_PKEY_eq(key, public) != 1) {
        EVP_PKEY_free(key);
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "what the token wrapped is not the private key of the pair");
    }
    *ret_key = key;
    return 0;
}

static int
pair_fault(const struct cc_err *e, struct cc_err *err)
{
    if (e->domain == CC_DOM_PKCS11 && ckr_is_refusal((CK_RV)e->code))
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token cannot make such a key and give it away wrapped: %s", e->text);
    return cc_err_set(err, e->domain, e->code, "%s", e->text);
}

int
token_generate_pair(struct p11_worker *worker, enum pki_keyspec spec, EVP_PKEY **ret_key,
        struct cc_err *err)
{
    struct pair_work work = { .kind = &kinds[spec] };
    struct cc_secret *plain = NULL;
    struct cc_err e = { 0 };
    int rc = -1;

    if (cc_random(work.kek, sizeof(work.kek), err) != 0 ||
            cc_random(work.iv, sizeof(work.iv), err) != 0)
        goto out;
    if (p11_run(worker, NULL, pair_op, &work, &e) != 0) {
        pair_fault(&e, err);
        goto out;
    }
    if (work.public == NULL)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
                "the token does not tell the public half of a key that it made");
    else if (pair_open(&work, &plain, err) == 0)
        rc = pair_read(plain, work.public, ret_key, err);
out:
    cc_secret_free(plain);
    EVP_PKEY_free(work.public);
    cc_wipe(&work, sizeof(work));
    return rc;
}
