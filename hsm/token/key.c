/* SPDX-License-Identifier: MIT */
#include "hsm/token/key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "hsm/token/attr.h"
#include "hsm/token/ckr.h"
#include "hsm/token/public.h"
#include "pki/pubkey.h"

struct token_key {
    /* Constant. */
    unsigned number;
    enum hsm_role role;
    struct p11_uri uri;
    char text[P11_URI_MAX + 1];

    pthread_mutex_t lock;  /* guards what follows */
    struct cc_buf spki;    /* pinned, or empty */
    struct cc_buf modulus; /* of the RSA key pinned, as long as facts.len; or empty */
    bool found;
    struct token_key_facts facts; /* constant once found */
    uint8_t ways[TOKEN_WAY_COUNT];
};

static CK_OBJECT_CLASS
key_class(enum hsm_role role)
{
    return role == HSM_ROLE_SEAL ? CKO_SECRET_KEY : CKO_PRIVATE_KEY;
}

/* ---- Registering ---- */

int
token_key_new(unsigned number, enum hsm_role role, const char *uri, const struct p11_uri *token_uri,
        struct cc_bytes expected_spki, struct token_key **ret_key, struct cc_err *err)
{
    struct token_key *key = calloc(1, sizeof(*key));

    if (key == NULL)
        return cc_err_nomem(err);
    (void)pthread_mutex_init(&key->lock, NULL);
    key->number = number;
    key->role = role;
    cc_buf_init(&key->spki, P11_ATTR_MAX);
    cc_buf_init(&key->modulus, P11_ATTR_MAX);
    if (p11_uri_parse_key(uri, token_uri, &key->uri, err) != 0 ||
            cc_buf_add(&key->spki, expected_spki.data, expected_spki.len, err) != 0)
        goto fail;
    (void)cc_escape_into(key->text, sizeof(key->text), uri);
    if (key->uri.has_class && key->uri.class != key_class(role)) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%s: must have type=%s for this role",
                key->text, role == HSM_ROLE_SEAL ? "secret-key" : "private");
        goto fail;
    }
    *ret_key = key;
    return 0;
fail:
    token_key_free(key);
    return -1;
}

void
token_key_free(struct token_key *key)
{
    if (key == NULL)
        return;
    cc_buf_free(&key->spki);
    cc_buf_free(&key->modulus);
    (void)pthread_mutex_destroy(&key->lock);
    free(key);
}

unsigned
token_key_number(const struct token_key *key)
{
    return key->number;
}

static const char *
key_use_name(enum hsm_use use)
{
    switch (use) {
    case HSM_USE_SIGN:
        return "sign";
    case HSM_USE_DECRYPT:
        return "decrypt";
    case HSM_USE_REENCRYPT:
        return "re-encrypt";
    case HSM_USE_SEAL:
        return "seal";
    }
    return "do that";
}

int
token_key_check_use(const struct token_key *key, enum hsm_use use, struct cc_err *err)
{
    if ((hsm_role_uses(key->role) & use) != 0)
        return 0;
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_ROLE, "%s: a key of role %s does not %s",
            key->text, hsm_role_name(key->role), key_use_name(use));
}

/* ---- Finding ---- */

static CK_RV
find_read_facts(const struct p11_call *call, struct token_key_facts *ret)
{
    struct cc_buf id = CC_BUF_INIT(P11_ATTR_MAX);
    CK_ULONG len = 0;
    CK_RV rv;

    rv = p11_attr_read_ulong(call->f, call->session, call->key, CKA_KEY_TYPE, &ret->type);
    if (rv != CKR_OK)
        return rv;
    rv = p11_attr_read(call->f, call->session, call->key, CKA_ID, &id);
    if (rv == CKR_OK && id.len <= sizeof(ret->id)) {
        memcpy(ret->id, id.data, id.len);
        ret->id_len = id.len;
    }
    cc_buf_free(&id);
    if (rv != CKR_OK && ckr_class(rv) != CKR_IS_ANSWER)
        return rv;
    if (ret->type != CKK_AES)
        return CKR_OK;
    rv = p11_attr_read_ulong(call->f, call->session, call->key, CKA_VALUE_LEN, &len);
    ret->len = len;
    return rv;
}

static bool
find_any(const struct p11_call *call)
{
    const CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE template = p11_attr(CKA_TOKEN, &yes, sizeof(yes));
    CK_OBJECT_HANDLE handle;
    CK_ULONG count = 0;

    return p11_find(call->f, call->session, &template, 1, &handle, 1, &count) == CKR_OK &&
           count > 0;
}

/*
 * None was found: or is it that the login, or the token, is gone?
 *
 * SoftHSM, where it may not write to its token, says no more of the token from the login on, and sees no object that
 * was made since.  Such a token is opened anew to be sure; but not for each of many searches, where other objects show
 * that it is there.
 */
static CK_RV
find_why_none(const struct p11_call *call, CK_SLOT_ID slot)
{
    CK_FLAGS flags = CKF_TOKEN_INITIALIZED | CKF_LOGIN_REQUIRED;
    CK_SESSION_INFO session = { 0 };
    CK_TOKEN_INFO info = { 0 };
    CK_RV rv = call->f->C_GetTokenInfo(slot, &info);

    if (rv == CKR_OK)
        flags = info.flags;
    else if (ckr_class(rv) != CKR_IS_ANSWER)
        return rv;
    else if (!call->reopened && !(call->fresh && find_any(call)))
        return CKR_DEVICE_ERROR;
    if ((flags & CKF_TOKEN_INITIALIZED) == 0)
        return CKR_TOKEN_NOT_PRESENT;
    if ((rv = call->f->C_GetSessionInfo(call->session, &session)) != CKR_OK)
        return rv;
    if ((flags & CKF_LOGIN_REQUIRED) != 0 && session.state != CKS_RO_USER_FUNCTIONS &&
            session.state != CKS_RW_USER_FUNCTIONS)
        return CKR_USER_NOT_LOGGED_IN;
    return CKR_OK;
}

static int
find_object(const struct token_key *key, struct p11_call *call, CK_SLOT_ID slot, CK_RV *ret_rv,
        struct cc_err *err)
{
    const struct p11_uri *uri = &key->uri;
    const CK_OBJECT_CLASS class = key_class(key->role);
    const CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE template[4] = {
        p11_attr(CKA_CLASS, &class, sizeof(class)),
        p11_attr(CKA_TOKEN, &yes, sizeof(yes)),
    };
    CK_OBJECT_HANDLE handles[2];
    CK_ULONG n = 2, count = 0;

    if (uri->object[0] != '\0')
        template[n++] = p11_attr(CKA_LABEL, uri->object, strlen(uri->object));
    if (uri->id_len != 0)
        template[n++] = p11_attr(CKA_ID, uri->id, uri->id_len);
    *ret_rv = p11_find(call->f, call->session, template, n, handles, 2, &count);
    if (*ret_rv == CKR_OK && count == 0)
        *ret_rv = find_why_none(call, slot);
    if (*ret_rv != CKR_OK)
        return ckr_err(err, *ret_rv, "search of a key");
    if (count != 1)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_KEY_NOT_FOUND, "%s: %s", key->text,
                count == 0 ? "no key of the token has this URI"
                           : "more than one key of the token has this URI");
    call->key = handles[0];
    return 0;
}

/* Whether such a key can have such a role, and its length. */
static int
find_check_type(const struct token_key *key, const EVP_PKEY *public, struct token_key_facts *facts,
        struct cc_err *err)
{
    const bool decrypts = token_key_check_use(key, HSM_USE_DECRYPT, NULL) == 0;

    if (key->role == HSM_ROLE_SEAL ? facts->type != CKK_AES
                                   : facts->type != CKK_RSA && (facts->type != CKK_EC || decrypts))
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_ROLE,
                "%s: a key of this type cannot have its role", key->text);
    if (key->role == HSM_ROLE_SEAL)
        return 0;
    if (public == NULL)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_KEY_NOT_FOUND,
                "%s: the token does not tell its public half; store the public key with the same id",
                key->text);
    facts->bits = (size_t)EVP_PKEY_get_bits(public);
    facts->len = (facts->bits + 7) / 8;
    return 0;
}

static int
find_spki(const EVP_PKEY *public, struct cc_buf *ret, struct cc_err *err)
{
    return public == NULL ? 0 : pki_pubkey_write_spki(public, ret, err);
}

static int
find_modulus(const EVP_PKEY *public, const struct token_key_facts *facts, struct cc_buf *ret,
        struct cc_err *err)
{
    BIGNUM *n = NULL;
    uint8_t *room;
    int rc = -1;

    if (facts->type != CKK_RSA)
        return 0;
    if ((room = cc_buf_reserve(ret, facts->len, err)) == NULL)
        return -1;
    if (EVP_PKEY_get_bn_param(public, OSSL_PKEY_PARAM_RSA_N, &n) != 1 ||
            BN_bn2binpad(n, room, (int)facts->len) < 0) {
        cc_err_set_openssl(err, "modulus");
        goto out;
    }
    ret->len += facts->len;
    rc = 0;
out:
    BN_free(n);
    return rc;
}

/* Compares what was found with what is pinned, or pins it. */
static int
find_pin(struct token_key *key, const struct token_key_facts *facts, const struct cc_buf *spki,
        const struct cc_buf *modulus, struct cc_err *err)
{
    int rc = 0;

    (void)pthread_mutex_lock(&key->lock);
    if (key->spki.len == 0)
        rc = cc_buf_add(&key->spki, spki->data, spki->len, err);
    else if (key->spki.len != spki->len || memcmp(key->spki.data, spki->data, spki->len) != 0)
        rc = cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_KEY_REPLACED,
                "%s: another key is there than before", key->text);
    if (rc == 0 && key->modulus.len == 0)
        rc = cc_buf_add(&key->modulus, modulus->data, modulus->len, err);
    if (rc == 0) {
        key->facts = *facts;
        key->found = true;
        memset(key->ways, TOKEN_WAY_UNKNOWN, sizeof(key->ways));
    }
    (void)pthread_mutex_unlock(&key->lock);
    return rc;
}

int
token_key_find(struct token_key *key, struct p11_call *call, CK_SLOT_ID slot, CK_RV *ret_rv,
        struct cc_err *err)
{
    struct token_key_facts facts = { 0 };
    struct cc_buf spki = CC_BUF_INIT(P11_ATTR_MAX), modulus = CC_BUF_INIT(P11_ATTR_MAX);
    EVP_PKEY *public = NULL;
    int rc = -1;

    if (find_object(key, call, slot, ret_rv, err) != 0)
        goto out;
    if ((*ret_rv = find_read_facts(call, &facts)) != CKR_OK) {
        ckr_err(err, *ret_rv, "attributes of a key");
        goto out;
    }
    if (facts.type == CKK_RSA || facts.type == CKK_EC)
        if ((*ret_rv = p11_public_read(call->f, call->session, call->key, facts.type,
                     (struct cc_bytes){ facts.id, facts.id_len }, &public, err)) != CKR_OK)
            goto out;
    if (find_check_type(key, public, &facts, err) != 0 || find_spki(public, &spki, err) != 0 ||
            find_modulus(public, &facts, &modulus, err) != 0 ||
            find_pin(key, &facts, &spki, &modulus, err) != 0)
        goto out;
    rc = 0;
out:
    cc_buf_free(&spki);
    cc_buf_free(&modulus);
    EVP_PKEY_free(public);
    return rc;
}

/* ---- Asking ---- */

static CK_RV
key_op_none(struct p11_call *call, void *arg)
{
    (void)call;
    (void)arg;
    return CKR_OK;
}

static bool
key_copy_facts(struct token_key *key, struct token_key_facts *ret)
{
    bool found;

    (void)pthread_mutex_lock(&key->lock);
    found = key->found;
    if (found)
        *ret = key->facts;
    (void)pthread_mutex_unlock(&key->lock);
    return found;
}

int
token_key_get_facts(struct p11_worker *worker, struct token_key *key, struct token_key_facts *ret,
        struct cc_err *err)
{
    if (key_copy_facts(key, ret))
        return 0;
    if (p11_run(worker, key, key_op_none, NULL, err) != 0)
        return -1;
    return key_copy_facts(key, ret) ? 0 : cc_err_set(err, CC_DOM_INTERNAL, 0, "key not kept");
}

bool
token_key_takes(struct token_key *key, struct cc_bytes ciphertext)
{
    bool takes;

    (void)pthread_mutex_lock(&key->lock);
    takes = ciphertext.len > 0 && ciphertext.len == key->modulus.len &&
            memcmp(ciphertext.data, key->modulus.data, ciphertext.len) < 0;
    (void)pthread_mutex_unlock(&key->lock);
    return takes;
}

int
token_key_get_spki(struct p11_worker *worker, struct token_key *key, struct cc_buf *ret,
        struct cc_err *err)
{
    int rc;

    if (p11_run(worker, key, key_op_none, NULL, err) != 0)
        return -1;
    (void)pthread_mutex_lock(&key->lock);
    if (key->spki.len == 0)
        rc = cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_ROLE, "%s: has no public half", key->text);
    else
        rc = cc_buf_add(ret, key->spki.data, key->spki.len, err);
    (void)pthread_mutex_unlock(&key->lock);
    return rc;
}

unsigned
token_key_way(struct token_key *key, unsigned way)
{
    unsigned state;

    (void)pthread_mutex_lock(&key->lock);
    state = key->ways[way];
    (void)pthread_mutex_unlock(&key->lock);
    return state;
}

void
token_key_set_way(struct token_key *key, unsigned way, unsigned state)
{
    (void)pthread_mutex_lock(&key->lock);
    key->ways[way] = (uint8_t)state;
    (void)pthread_mutex_unlock(&key->lock);
}
