/* SPDX-License-Identifier: MIT */
#include "hsm/token/wrap.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>

#include "hsm/token/attr.h"
#include "hsm/token/ckr.h"
#include "hsm/token/padding.h"
#include "pki/enveloped.h"
#include "pki/password.h"
#include "pki/pubkey.h"

#define WRAP_PROBE "a secret of ours"
#define WRAP_IV_MAX 16
#define WRAP_OUT_MAX (PKI_PASSWORD_MAX + WRAP_IV_MAX)

/* The steps, for the text that says what a token lacks. */
enum wrap_step { WRAP_UNWRAP, WRAP_IMPORT, WRAP_CONTENT_KEY, WRAP_CONTENT, WRAP_TRANSPORT };

/* RSA mechanism with its parameters. */
struct wrap_rsa {
    CK_MECHANISM mechanism;
    CK_RSA_PKCS_OAEP_PARAMS oaep;
};

/* Content encryption of a CMS message. */
struct wrap_cipher {
    CK_MECHANISM_TYPE generate;
    CK_MECHANISM_TYPE encrypt;
    CK_KEY_TYPE type;
    CK_ULONG key_len; /* 0: not part of the template */
    size_t iv_len;
};

static const struct wrap_cipher wrap_ciphers[] = {
    [PKI_CIPHER_AES256] = { CKM_AES_KEY_GEN, CKM_AES_CBC_PAD, CKK_AES, 32, 16 },
    [PKI_CIPHER_DES_EDE3] = { CKM_DES3_KEY_GEN, CKM_DES3_CBC_PAD, CKK_DES3, 0, 8 },
};

struct wrap_bytes {
    uint8_t data[P11_RSA_MAX > WRAP_OUT_MAX ? P11_RSA_MAX : WRAP_OUT_MAX];
    CK_ULONG len;
};

struct wrap_work {
    /* Constant over the tries. */
    struct cc_bytes ciphertext;
    struct wrap_rsa from, to;
    const struct wrap_cipher *cipher; /* NULL: the password straight under the recipient's key */
    uint8_t n[P11_RSA_MAX], e[P11_RSA_MAX];
    size_t n_len, e_len;

    enum wrap_step step;         /* where it failed */
    struct wrap_bytes transport; /* under the recipient's key */
    struct wrap_bytes content;   /* under the content key */
    uint8_t iv[WRAP_IV_MAX];

    /* Session objects; 0: not made. */
    CK_OBJECT_HANDLE password, recipient, content_key;
};

/* ---- Steps, each between entering a connection and leaving it ---- */

/* Tokens differ in what they take for a new secret: from the strictest template to none. */
static CK_RV
wrap_unwrap(struct p11_call *call, struct wrap_work *work)
{
    static const CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    static const CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE template[] = {
        p11_attr(CKA_CLASS, &class, sizeof(class)),
        p11_attr(CKA_KEY_TYPE, &type, sizeof(type)),
        p11_attr(CKA_TOKEN, &no, sizeof(no)),
        p11_attr(CKA_SENSITIVE, &yes, sizeof(yes)),
        p11_attr(CKA_EXTRACTABLE, &yes, sizeof(yes)),
    };
    union {
        const uint8_t *in;
        CK_BYTE *out;
    } data = { .in = work->ciphertext.data };
    CK_ULONG count = CC_COUNT(template);
    CK_RV rv;

    call->where = "C_UnwrapKey";
    for (;;) {
        rv = call->f->C_UnwrapKey(call->session, &work->from.mechanism, call->key, data.out,
                work->ciphertext.len, template, count, &work->password);
        if (rv == CKR_OK || !ckr_is_template(rv) || count == CC_COUNT(template) - 2)
            break;
        call->dirty = true;
        count--;
    }
    if (rv != CKR_OK)
        work->password = 0;
    return rv;
}

static CK_RV
wrap_import(struct p11_call *call, struct wrap_work *work)
{
    static const CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    static const CK_KEY_TYPE type = CKK_RSA;
    static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE template[] = {
        p11_attr(CKA_CLASS, &class, sizeof(class)),
        p11_attr(CKA_KEY_TYPE, &type, sizeof(type)),
        p11_attr(CKA_TOKEN, &no, sizeof(no)),
        p11_attr(CKA_WRAP, &yes, sizeof(yes)),
        p11_attr(CKA_MODULUS, work->n, work->n_len),
        p11_attr(CKA_PUBLIC_EXPONENT, work->e, work->e_len),
    };
    CK_RV rv;

    call->where = "C_CreateObject";
    rv = call->f->C_CreateObject(call->session, template, CC_COUNT(template), &work->recipient);
    if (rv != CKR_OK)
        work->recipient = 0;
    return rv;
}

static CK_RV
wrap_make_content_key(struct p11_call *call, struct wrap_work *work)
{
    static const CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_MECHANISM mechanism = { .mechanism = work->cipher->generate };
    CK_ATTRIBUTE template[] = {
        p11_attr(CKA_TOKEN, &no, sizeof(no)),
        p11_attr(CKA_SENSITIVE, &yes, sizeof(yes)),
        p11_attr(CKA_EXTRACTABLE, &yes, sizeof(yes)),
        p11_attr(CKA_WRAP, &yes, sizeof(yes)),
        p11_attr(CKA_VALUE_LEN, &work->cipher->key_len, sizeof(work->cipher->key_len)),
    };
    const CK_ULONG count = CC_COUNT(template) - (work->cipher->key_len == 0 ? 1 : 0);
    CK_RV rv;

    call->where = "C_GenerateKey";
    rv = call->f->C_GenerateKey(call->session, &mechanism, template, count, &work->content_key);
    if (rv != CKR_OK)
        work->content_key = 0;
    return rv;
}

static CK_RV
wrap_key(struct p11_call *call, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE under,
        CK_OBJECT_HANDLE what, struct wrap_bytes *ret)
{
    CK_RV rv;

    call->where = "C_WrapKey";
    ret->len = sizeof(ret->data);
    rv = call->f->C_WrapKey(call->session, mechanism, under, what, ret->data, &ret->len);
    return rv == CKR_OK && ret->len > sizeof(ret->data) ? CKR_BUFFER_TOO_SMALL : rv;
}

static CK_RV
wrap_content(struct p11_call *call, struct wrap_work *work)
{
    CK_MECHANISM mechanism = { work->cipher->encrypt, work->iv, work->cipher->iv_len };
    CK_RV rv;

    call->where = "C_GenerateRandom";
    rv = call->f->C_GenerateRandom(call->session, work->iv, work->cipher->iv_len);
    if (rv != CKR_OK)
        return rv;
    return wrap_key(call, &mechanism, work->content_key, work->password, &work->content);
}

static CK_RV
wrap_steps(struct p11_call *call, struct wrap_work *work)
{
    CK_RV rv;

    work->step = WRAP_UNWRAP;
    if ((rv = wrap_unwrap(call, work)) != CKR_OK)
        return rv;
    work->step = WRAP_IMPORT;
    if ((rv = wrap_import(call, work)) != CKR_OK)
        return rv;
    if (work->cipher != NULL) {
        work->step = WRAP_CONTENT_KEY;
        if ((rv = wrap_make_content_key(call, work)) != CKR_OK)
            return rv;
        work->step = WRAP_CONTENT;
        if ((rv = wrap_content(call, work)) != CKR_OK)
            return rv;
    }
    work->step = WRAP_TRANSPORT;
    return wrap_key(call, &work->to.mechanism, work->recipient,
            work->cipher == NULL ? work->password : work->content_key, &work->transport);
}

/* An object that cannot be destroyed goes with its session. */
static void
wrap_destroy(struct p11_call *call, CK_OBJECT_HANDLE *handle)
{
    if (*handle != 0 && call->f->C_DestroyObject(call->session, *handle) != CKR_OK)
        call->dirty = true;
    *handle = 0;
}

static CK_RV
wrap_op(struct p11_call *call, void *arg)
{
    struct wrap_work *work = arg;
    const CK_RV rv = wrap_steps(call, work);

    wrap_destroy(call, &work->password);
    wrap_destroy(call, &work->content_key);
    wrap_destroy(call, &work->recipient);
    return rv;
}

/* ---- What goes in, and what comes out ---- */

static void
wrap_set_rsa(struct wrap_rsa *rsa, int oaep_nid)
{
    const struct p11_hash *hash;

    if (oaep_nid == NID_undef) {
        rsa->mechanism = (CK_MECHANISM){ .mechanism = CKM_RSA_PKCS };
        return;
    }
    hash = p11_hash(p11_hash_index(oaep_nid));
    rsa->oaep = (CK_RSA_PKCS_OAEP_PARAMS){
        .hashAlg = hash->mechanism,
        .mgf = hash->mgf,
        .source = CKZ_DATA_SPECIFIED,
    };
    rsa->mechanism = (CK_MECHANISM){ CKM_RSA_PKCS_OAEP, &rsa->oaep, sizeof(rsa->oaep) };
}

static int
wrap_form_nid(enum pki_password_form form)
{
    if (form == PKI_PASSWORD_OAEP_SHA256)
        return NID_sha256;
    return form == PKI_PASSWORD_OAEP_SHA1 ? NID_sha1 : NID_undef;
}

static int
wrap_number(const EVP_PKEY *pkey, const char *name, uint8_t *ret, size_t size, size_t *ret_len)
{
    BIGNUM *number = NULL;
    int rc = -1;

    if (EVP_PKEY_get_bn_param(pkey, name, &number) == 1 && (size_t)BN_num_bytes(number) <= size) {
        *ret_len = (size_t)BN_bn2bin(number, ret);
        rc = 0;
    }
    BN_free(number);
    return rc;
}

static int
wrap_prepare(struct wrap_work *work, const struct hsm_reencrypt *request, X509 *recipient,
        struct cc_err *err)
{
    const EVP_PKEY *pkey = X509_get0_pubkey(recipient);
    const EVP_MD *md = pki_padding_md(request->padding);

    work->ciphertext = request->ciphertext;
    wrap_set_rsa(&work->from, md == NULL ? NID_undef : EVP_MD_get_type(md));
    wrap_set_rsa(&work->to, wrap_form_nid(request->form));
    if (request->form == PKI_PASSWORD_CMS)
        work->cipher = &wrap_ciphers[request->cipher];
    if (wrap_number(pkey, OSSL_PKEY_PARAM_RSA_N, work->n, sizeof(work->n), &work->n_len) != 0 ||
            wrap_number(pkey, OSSL_PKEY_PARAM_RSA_E, work->e, sizeof(work->e), &work->e_len) != 0)
        return cc_err_set_openssl(err, "recipient's key");
    return 0;
}

static int
wrap_output(const struct wrap_work *work, const struct hsm_reencrypt *request, X509 *recipient,
        struct cc_buf *ret_out, struct cc_err *err)
{
    const struct cc_bytes transport = { work->transport.data, work->transport.len };
    struct cc_bytes iv, content;

    if (work->cipher == NULL)
        return cc_buf_add(ret_out, transport.data, transport.len, err);
    iv = (struct cc_bytes){ work->iv, work->cipher->iv_len };
    content = (struct cc_bytes){ work->content.data, work->content.len };
    return pki_enveloped_data_build(recipient, transport, request->cipher, iv, content, ret_out,
            err);
}

/* Index of the ways that are remembered: the form, and for CMS its cipher. */
static unsigned
wrap_way(const struct hsm_reencrypt *request)
{
    static const unsigned forms[] = {
        [PKI_PASSWORD_CMS] = 0,
        [PKI_PASSWORD_OAEP_SHA256] = 2,
        [PKI_PASSWORD_OAEP_SHA1] = 3,
        [PKI_PASSWORD_PKCS1] = 4,
    };
    unsigned form = forms[request->form];

    if (request->form == PKI_PASSWORD_CMS && request->cipher == PKI_CIPHER_DES_EDE3)
        form = 1;
    return TOKEN_WAY_REENCRYPT + 5 * (unsigned)request->padding + form;
}

/* What a token lacks that refuses at this step. */
static int
wrap_refused(const struct hsm_reencrypt *request, enum wrap_step step, const char *why,
        struct cc_err *err)
{
    static const char *const steps[] = {
        [WRAP_UNWRAP] = "unwrap a secret that came under",
        [WRAP_IMPORT] = "take the recipient's public key, after",
        [WRAP_CONTENT_KEY] = "make a content key, after",
        [WRAP_CONTENT] = "wrap a secret with a block cipher (CBC, padded), after",
        [WRAP_TRANSPORT] = "wrap a secret for the recipient, after",
    };

    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED,
            "the token cannot re-encrypt %s to %s%s%s: it does not %s %s (%s)",
            pki_padding_name(request->padding), pki_password_form_name(request->form),
            request->form == PKI_PASSWORD_CMS ? " with " : "",
            request->form == PKI_PASSWORD_CMS ? pki_content_cipher_name(request->cipher) : "",
            steps[step], pki_padding_name(request->padding), why);
}

/* closes: the failure is of the whole way, whatever the ciphertext. */
static enum wrap_outcome
wrap_judge(struct token_key *key, const struct hsm_reencrypt *request, const struct wrap_work *work,
        bool closes, const struct cc_err *e, struct cc_err *err)
{
    if (e->domain != CC_DOM_PKCS11 || ckr_is_memory((CK_RV)e->code)) {
        cc_err_set(err, e->domain, e->code, "%s", e->text);
        return WRAP_FAILED;
    }
    if (closes) {
        token_key_set_way(key, wrap_way(request), TOKEN_WAY_REFUSED + work->step);
        wrap_refused(request, work->step, e->text, err);
        return WRAP_REFUSED;
    }
    if (work->step == WRAP_UNWRAP)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_DECRYPT,
                "the ciphertext does not decrypt with this key (%s)", e->text);
    else
        wrap_refused(request, work->step, e->text, err);
    return WRAP_UNCLEAR;
}

/* What the profile says of the token, where there is another way. */
static bool
wrap_is_gap(struct token *token, const struct hsm_reencrypt *request)
{
    const bool sha2 =
            request->form == PKI_PASSWORD_OAEP_SHA256 ||
            (request->padding != PKI_PADDING_PKCS1 && request->padding != PKI_PADDING_OAEP_SHA1);

    return token_has_gap(token, PROFILE_GAP_WRAP) ||
           (request->form == PKI_PASSWORD_CMS && token_has_gap(token, PROFILE_GAP_WRAP_CBC_PAD)) ||
           (sha2 && token_has_gap(token, PROFILE_GAP_OAEP_SHA2));
}

/* Whether it is known without a try. */
static bool
wrap_is_refused(struct token *token, struct token_key *key, const struct hsm_reencrypt *request,
        struct cc_err *err)
{
    const unsigned state = token_key_way(key, wrap_way(request));

    if (state >= TOKEN_WAY_REFUSED) {
        wrap_refused(request, (enum wrap_step)(state - TOKEN_WAY_REFUSED), "seen before", err);
        return true;
    }
    if (state != TOKEN_WAY_UNKNOWN || request->mode == HSM_REENCRYPT_TOKEN ||
            !wrap_is_gap(token, request))
        return false;
    cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "this make of token is known not to");
    return true;
}

static bool
wrap_is_refusal(const struct cc_err *e)
{
    return e->domain == CC_DOM_PKCS11 && ckr_is_refusal((CK_RV)e->code);
}

/*
 * Whether a way that was refused is refused for a secret of our own too.  A refusal may be about what is in the
 * ciphertext (SoftHSM says of an empty secret that it cannot be wrapped), and who sent that must not close the way for
 * all others.  Where we cannot tell it stays open.
 */
static bool
wrap_is_closed(struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, X509 *recipient)
{
    struct cc_buf spki = CC_BUF_INIT(P11_ATTR_MAX), ciphertext = CC_BUF_INIT(P11_RSA_MAX);
    struct hsm_reencrypt own = *request;
    struct wrap_work work = { 0 };
    EVP_PKEY *public = NULL;
    struct cc_err e = { 0 };
    bool closed = false;

    if (token_key_get_spki(worker, key, &spki, NULL) != 0 ||
            pki_pubkey_parse_spki(cc_buf_bytes(&spki), &public, NULL) != 0 ||
            pki_password_encrypt_padding(public, request->padding, cc_bytes_of_str(WRAP_PROBE),
                    &ciphertext, NULL) != 0)
        goto out;
    own.ciphertext = cc_buf_bytes(&ciphertext);
    if (wrap_prepare(&work, &own, recipient, NULL) != 0)
        goto out;
    if (p11_run(worker, key, wrap_op, &work, &e) == 0)
        token_key_set_way(key, wrap_way(request), TOKEN_WAY_WORKS);
    else
        closed = wrap_is_refusal(&e);
out:
    EVP_PKEY_free(public);
    cc_buf_free(&ciphertext);
    cc_buf_free(&spki);
    return closed;
}

enum wrap_outcome
token_wrap_again(struct token *token, struct p11_worker *worker, struct token_key *key,
        const struct hsm_reencrypt *request, X509 *recipient, struct cc_buf *ret_out,
        struct cc_err *err)
{
    struct wrap_work work = { 0 };
    struct cc_err e = { 0 };
    bool closes;

    if (wrap_is_refused(token, key, request, err))
        return WRAP_REFUSED;
    if (wrap_prepare(&work, request, recipient, err) != 0)
        return WRAP_FAILED;
    if (p11_run(worker, key, wrap_op, &work, &e) != 0) {
        closes = wrap_is_refusal(&e) && token_key_way(key, wrap_way(request)) != TOKEN_WAY_WORKS &&
                 wrap_is_closed(worker, key, request, recipient);
        return wrap_judge(key, request, &work, closes, &e, err);
    }
    if (wrap_output(&work, request, recipient, ret_out, err) != 0)
        return WRAP_FAILED;
    token_key_set_way(key, wrap_way(request), TOKEN_WAY_WORKS);
    return WRAP_DONE;
}
