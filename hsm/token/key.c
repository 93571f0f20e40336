/* SPDX-License-Identifier: MIT */
#include "hsm/token/key.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "hsm/token/attr.h"
#include "hsm/token/ckr.h"
#include "pki/pubkey.h"

struct token_key {
    /* Constant. */
    unsigned number;
    enum hsm_role role;
    struct p11_uri uri;
    char text[P11_URI_MAX + 1];

    pthread_mutex_t lock; /* guards what follows */
    struct cc_buf spki;   /* pinned, or empty */
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
    (void)pthread_mutex_destroy(&key->lock);
    free(key);
}

unsigned
token_key_number(const struct token_key *key)
{
    return key->number;
}

int
token_key_check_use(const struct token_key *key, enum token_use use, struct cc_err *err)
{
    static const struct {
        const char *name;
        bool uses[4]; /* by enum token_use */
    } roles[HSM_ROLE_COUNT] = {
        [HSM_ROLE_PFX_IMPORT] = { "pfx-import",
                { [TOKEN_DECRYPT] = true, [TOKEN_REENCRYPT] = true } },
        [HSM_ROLE_SCEP_RA_SIGN] = { "scep-ra-sign", { [TOKEN_SIGN] = true } },
        [HSM_ROLE_SCEP_RA_ENCRYPT] = { "scep-ra-encrypt",
                { [TOKEN_SIGN] = true, [TOKEN_DECRYPT] = true } },
        [HSM_ROLE_CA] = { "ca", { [TOKEN_SIGN] = true } },
        [HSM_ROLE_OCSP] = { "ocsp", { [TOKEN_SIGN] = true } },
        [HSM_ROLE_IDENTITY] = { "identity", { [TOKEN_SIGN] = true } },
        [HSM_ROLE_SEAL] = { "seal", { [TOKEN_SEAL] = true } },
        [HSM_ROLE_AUDIT] = { "audit", { [TOKEN_SIGN] = true } },
    };
    static const char *const names[] = {
        [TOKEN_SIGN] = "sign",
        [TOKEN_DECRYPT] = "decrypt",
        [TOKEN_REENCRYPT] = "re-encrypt",
        [TOKEN_SEAL] = "seal",
    };

    if (roles[key->role].uses[use])
        return 0;
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_ROLE, "%s: a key of role %s does not %s",
            key->text, roles[key->role].name, names[use]);
}

/* ---- What the object is ---- */

/* An object on the token being looked at, where its parts may come from. */
struct key_look {
    CK_FUNCTION_LIST *f;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE private;
    CK_OBJECT_HANDLE public; /* 0: none, or not to be told from another */
};

/* From the private object or, failing that, from the public one. */
static CK_RV
look_read(const struct key_look *look, CK_ATTRIBUTE_TYPE type, struct cc_buf *ret)
{
    CK_RV rv = p11_attr_read(look->f, look->session, look->private, type, ret);

    if (rv == CKR_OK || look->public == 0 || ckr_class(rv) != CKR_IS_ANSWER)
        return rv;
    return p11_attr_read(look->f, look->session, look->public, type, ret);
}

static CK_RV
look_find_public(struct key_look *look, const struct token_key_facts *facts)
{
    const CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_ATTRIBUTE template[] = {
        p11_attr(CKA_CLASS, &class, sizeof(class)),
        p11_attr(CKA_KEY_TYPE, &facts->type, sizeof(facts->type)),
        p11_attr(CKA_ID, facts->id, facts->id_len),
    };
    CK_OBJECT_HANDLE handles[2];
    CK_ULONG count;
    CK_RV rv;

    if (facts->id_len == 0)
        return CKR_OK;
    rv = p11_find(look->f, look->session, template, CC_COUNT(template), handles, 2, &count);
    if (rv == CKR_OK && count == 1)
        look->public = handles[0];
    return rv;
}

static EVP_PKEY *
key_from_params(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *pkey = NULL;

    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
            EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static EVP_PKEY *
key_make_rsa(const struct cc_buf *modulus, const struct cc_buf *exponent)
{
    BIGNUM *n = BN_bin2bn(modulus->data, (int)modulus->len, NULL);
    BIGNUM *e = BN_bin2bn(exponent->data, (int)exponent->len, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (n != NULL && e != NULL && build != NULL &&
            OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
            OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1 &&
            (params = OSSL_PARAM_BLD_to_param(build)) != NULL)
        pkey = key_from_params("RSA", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(e);
    BN_free(n);
    return pkey;
}

/* CKA_EC_PARAMS as the DER of a named curve's OID. */
static int
key_curve(const struct cc_buf *params)
{
    const unsigned char *p = params->data;
    ASN1_OBJECT *oid = d2i_ASN1_OBJECT(NULL, &p, (long)params->len);
    const int nid = oid == NULL ? NID_undef : OBJ_obj2nid(oid);

    ASN1_OBJECT_free(oid);
    return nid;
}

static EVP_PKEY *
key_make_ec_point(int nid, const uint8_t *point, size_t len)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (build != NULL &&
            OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, OBJ_nid2sn(nid),
                    0) == 1 &&
            OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, len) == 1 &&
            (params = OSSL_PARAM_BLD_to_param(build)) != NULL)
        pkey = key_from_params("EC", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    return pkey;
}

/* CKA_EC_POINT is a DER OCTET STRING; some tokens give the bare point. */
static EVP_PKEY *
key_make_ec(const struct cc_buf *params, const struct cc_buf *point)
{
    const unsigned char *p = point->data;
    ASN1_OCTET_STRING *octets = d2i_ASN1_OCTET_STRING(NULL, &p, (long)point->len);
    const int nid = key_curve(params);
    EVP_PKEY *pkey = NULL;

    if (nid != NID_undef && octets != NULL && p == point->data + point->len)
        pkey = key_make_ec_point(nid, ASN1_STRING_get0_data(octets),
                (size_t)ASN1_STRING_length(octets));
    if (nid != NID_undef && pkey == NULL)
        pkey = key_make_ec_point(nid, point->data, point->len);
    ASN1_OCTET_STRING_free(octets);
    return pkey;
}

/* The two parts of a public key, or CKR_ATTRIBUTE_TYPE_INVALID. */
static CK_RV
look_read_two(const struct key_look *look, CK_ATTRIBUTE_TYPE first, struct cc_buf *ret_first,
        CK_ATTRIBUTE_TYPE second, struct cc_buf *ret_second)
{
    const CK_RV rv = look_read(look, first, ret_first);

    return rv != CKR_OK ? rv : look_read(look, second, ret_second);
}

/* *ret stays NULL where the token does not say. */
static CK_RV
look_read_parts(const struct key_look *look, CK_KEY_TYPE type, EVP_PKEY **ret)
{
    struct cc_buf first = CC_BUF_INIT(P11_ATTR_MAX), second = CC_BUF_INIT(P11_ATTR_MAX);
    CK_RV rv;

    if (type == CKK_RSA) {
        rv = look_read_two(look, CKA_MODULUS, &first, CKA_PUBLIC_EXPONENT, &second);
        if (rv == CKR_OK)
            *ret = key_make_rsa(&first, &second);
    } else {
        rv = look_read_two(look, CKA_EC_PARAMS, &first, CKA_EC_POINT, &second);
        if (rv == CKR_OK)
            *ret = key_make_ec(&first, &second);
    }
    cc_buf_free(&second);
    cc_buf_free(&first);
    return rv;
}

static CK_RV
look_read_info(const struct key_look *look, EVP_PKEY **ret)
{
    struct cc_buf info = CC_BUF_INIT(P11_ATTR_MAX);
    const CK_RV rv =
            p11_attr_read(look->f, look->session, look->private, CKA_PUBLIC_KEY_INFO, &info);

    if (rv == CKR_OK && pki_pubkey_parse_spki(cc_buf_bytes(&info), ret, NULL) != 0)
        *ret = NULL;
    cc_buf_free(&info);
    return rv;
}

/* The public half: from its parts, else from CKA_PUBLIC_KEY_INFO. */
static CK_RV
look_read_public(struct key_look *look, const struct token_key_facts *facts, EVP_PKEY **ret,
        struct cc_err *err)
{
    CK_RV rv;

    *ret = NULL;
    if ((rv = look_find_public(look, facts)) != CKR_OK) {
        ckr_err(err, rv, "search of the public key");
        return rv;
    }
    rv = look_read_parts(look, facts->type, ret);
    if (*ret == NULL && ckr_class(rv) == CKR_IS_ANSWER)
        rv = look_read_info(look, ret);
    if (*ret == NULL && ckr_class(rv) != CKR_IS_ANSWER)
        ckr_err(err, rv, "public key");
    return *ret != NULL || ckr_class(rv) == CKR_IS_ANSWER ? CKR_OK : rv;
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

/* None was found: or is it that the login, or the token, is gone? */
static CK_RV
find_why_none(const struct p11_call *call, CK_SLOT_ID slot)
{
    CK_SESSION_INFO session = { 0 };
    CK_TOKEN_INFO info = { 0 };
    CK_RV rv;

    if ((rv = call->f->C_GetTokenInfo(slot, &info)) != CKR_OK)
        return ckr_class(rv) == CKR_IS_ANSWER ? CKR_DEVICE_ERROR : rv;
    if ((info.flags & CKF_TOKEN_INITIALIZED) == 0)
        return CKR_TOKEN_NOT_PRESENT;
    if ((rv = call->f->C_GetSessionInfo(call->session, &session)) != CKR_OK)
        return rv;
    if ((info.flags & CKF_LOGIN_REQUIRED) != 0 && session.state != CKS_RO_USER_FUNCTIONS &&
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
    const bool decrypts = token_key_check_use(key, TOKEN_DECRYPT, NULL) == 0;

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

/* Compares what was found with what is pinned, or pins it. */
static int
find_pin(struct token_key *key, const struct token_key_facts *facts, const struct cc_buf *spki,
        struct cc_err *err)
{
    int rc = 0;

    (void)pthread_mutex_lock(&key->lock);
    if (key->spki.len == 0)
        rc = cc_buf_add(&key->spki, spki->data, spki->len, err);
    else if (key->spki.len != spki->len || memcmp(key->spki.data, spki->data, spki->len) != 0)
        rc = cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_KEY_REPLACED,
                "%s: another key is there than before", key->text);
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
    struct cc_buf spki = CC_BUF_INIT(P11_ATTR_MAX);
    EVP_PKEY *public = NULL;
    struct key_look look;
    int rc = -1;

    if (find_object(key, call, slot, ret_rv, err) != 0)
        goto out;
    if ((*ret_rv = find_read_facts(call, &facts)) != CKR_OK) {
        ckr_err(err, *ret_rv, "attributes of a key");
        goto out;
    }
    look = (struct key_look){ .f = call->f, .session = call->session, .private = call->key };
    if (facts.type == CKK_RSA || facts.type == CKK_EC)
        if ((*ret_rv = look_read_public(&look, &facts, &public, err)) != CKR_OK)
            goto out;
    if (find_check_type(key, public, &facts, err) != 0 || find_spki(public, &spki, err) != 0 ||
            find_pin(key, &facts, &spki, err) != 0)
        goto out;
    rc = 0;
out:
    cc_buf_free(&spki);
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
