/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/text.h"
#include "hsm/role.h"

#define SEAL_MAX 65520 /* what fits into a struct cc_secret when it is sealed */
#define RANDOM_MAX 4096
#define SPKI_MAX 8192
#define ENCRYPTED_MAX 4096 /* of a content-encryption key */

/* ---- registration ---- */

void
hsm_key_free(struct hsm_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->pkey);
    EVP_PKEY_free(key->public);
    free(key->spki);
    free(key->uri);
    free(key);
}

static struct hsm_key *
key_new(struct hsm *hsm, enum hsm_role role, const char *uri, struct cc_err *err)
{
    struct hsm_key *key = calloc(1, sizeof(*key));

    if (key == NULL) {
        cc_err_nomem(err);
        return NULL;
    }
    key->hsm = hsm;
    key->role = role;
    if ((key->uri = cc_strdup(uri, err)) == NULL) {
        free(key);
        return NULL;
    }
    return key;
}

/* LOCKED: hsm->lock. */
static struct hsm_key *
key_find_locked(struct hsm *hsm, enum hsm_role role, const char *uri)
{
    for (size_t i = 0; i < hsm->key_count; i++)
        if (hsm->keys[i]->role == role && strcmp(hsm->keys[i]->uri, uri) == 0)
            return hsm->keys[i];
    return NULL;
}

static struct hsm_key *
key_find_or_add(struct hsm *hsm, enum hsm_role role, const char *uri, struct cc_err *err)
{
    struct hsm_key *key;

    (void)pthread_mutex_lock(&hsm->lock);
    key = key_find_locked(hsm, role, uri);
    if (key == NULL && hsm->key_count == WIRE_KEYS_MAX)
        cc_err_set(err, CC_DOM_CONFIG, 0, "more than %d keys", WIRE_KEYS_MAX);
    else if (key == NULL && (key = key_new(hsm, role, uri, err)) != NULL) {
        hsm->keys[hsm->key_count++] = key;
        hsm_wake(hsm);
    }
    (void)pthread_mutex_unlock(&hsm->lock);
    return key;
}

int
hsm_key_get0(struct hsm *hsm, enum hsm_role role, const char *uri, struct hsm_key **ret_key,
        struct cc_err *err)
{
    struct hsm_key *key;

    if (role >= HSM_ROLE_COUNT)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "role %d", (int)role);
    if (hsm_uri_check(uri, err) != 0 || (key = key_find_or_add(hsm, role, uri, err)) == NULL)
        return cc_err_in(err, "%s key", hsm_role_name(role));
    *ret_key = key;
    return 0;
}

enum hsm_role
hsm_key_role(const struct hsm_key *key)
{
    return key->role;
}

const char *
hsm_key_uri(const struct hsm_key *key)
{
    return key->uri;
}

uint64_t
hsm_key_outages(const struct hsm_key *key)
{
    return atomic_load(&key->outages);
}

/* ---- calls ---- */

int
hsm_key_in(const struct hsm_key *key, const char *doing, struct cc_err *err)
{
    return cc_err_in(err, "%s with key %s", doing, key->uri);
}

int
hsm_key_check_use(const struct hsm_key *key, unsigned use, struct cc_err *err)
{
    if ((hsm_role_uses(key->role) & use) != 0)
        return 0;
    return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_ROLE,
            "the role %s does not allow this operation", hsm_role_name(key->role));
}

int
hsm_key_begin(struct cc_buf *call, enum wire_op op, struct cc_err *err)
{
    if (wire_put_u8(call, (uint8_t)op, err) != 0)
        return -1;
    return wire_put_u16(call, 0, err);
}

int
hsm_read_into_buf(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    struct cc_bytes bytes = { 0 };
    struct cc_buf *out = arg;

    if (wire_get_bytes(rest, &bytes, err) != 0)
        return -1;
    cc_buf_reset(out);
    return cc_buf_add(out, bytes.data, bytes.len, err);
}

/* ---- the public half ---- */

/* SubjectPublicKeyInfo with nothing behind it, of a kind that our provider carries. */
static EVP_PKEY *
spki_parse(OSSL_LIB_CTX *libctx, struct cc_bytes der, struct cc_err *err)
{
    const unsigned char *p = der.data;
    EVP_PKEY *pkey = NULL;

    if (der.len == 0 || der.len > SPKI_MAX) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "a public key of %zu bytes", der.len);
        return NULL;
    }
    pkey = d2i_PUBKEY_ex(NULL, &p, (long)der.len, libctx, "provider=default");
    if (pkey == NULL || p != der.data + der.len) {
        cc_err_set_openssl(err, "the token's public key");
        EVP_PKEY_free(pkey);
        return NULL;
    }
    if (!EVP_PKEY_is_a(pkey, "RSA") && !EVP_PKEY_is_a(pkey, "EC")) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_UNSUPPORTED, "neither an RSA nor an EC key");
        EVP_PKEY_free(pkey);
        return NULL;
    }
    return pkey;
}

/* Remembers what was read, unless another thread has meanwhile; another key than remembered is refused. */
static int
key_pin(struct hsm_key *key, const struct cc_buf *spki, EVP_PKEY *public_key, struct cc_err *err)
{
    EVP_PKEY *pkey = NULL;
    uint8_t *copy = NULL;
    int rc = -1;

    if (hsm_provider_key(key->hsm->libctx, key, public_key, &pkey, err) != 0)
        return -1;
    if ((copy = malloc(spki->len)) == NULL) {
        EVP_PKEY_free(pkey);
        return cc_err_nomem(err);
    }
    memcpy(copy, spki->data, spki->len);

    (void)pthread_mutex_lock(&key->hsm->lock);
    if (key->spki == NULL) {
        key->spki = copy;
        key->spki_len = spki->len;
        key->pkey = pkey;
        key->public = public_key;
        (void)EVP_PKEY_up_ref(public_key);
        copy = NULL;
        pkey = NULL;
        rc = 0;
    } else if (key->spki_len == spki->len && memcmp(key->spki, spki->data, spki->len) == 0) {
        rc = 0;
    }
    (void)pthread_mutex_unlock(&key->hsm->lock);
    free(copy);
    EVP_PKEY_free(pkey);
    if (rc != 0)
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_KEY_REPLACED,
                "the key under this URI is another than before");
    return rc;
}

static int
key_read_public(struct hsm_key *key, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX), spki = CC_BUF_INIT(SPKI_MAX);
    EVP_PKEY *public_key = NULL;
    int rc = -1;

    if (hsm_key_begin(&call, WIRE_PUBLIC, err) != 0 ||
            hsm_call(key->hsm, key, &call, hsm_read_into_buf, &spki, err) != 0)
        goto out;
    public_key = spki_parse(key->hsm->libctx, cc_buf_bytes(&spki), err);
    if (public_key == NULL || key_pin(key, &spki, public_key, err) != 0)
        goto out;
    rc = 0;
out:
    EVP_PKEY_free(public_key);
    cc_buf_free(&call);
    cc_buf_free(&spki);
    return rc;
}

/* Once pinned, key->pkey and key->public stay until hsm_close(). */
static int
key_need_public(struct hsm_key *key, struct cc_err *err)
{
    bool known;

    if (key->role == HSM_ROLE_SEAL)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_ROLE, "a secret key has no public half");
    (void)pthread_mutex_lock(&key->hsm->lock);
    known = key->spki != NULL;
    (void)pthread_mutex_unlock(&key->hsm->lock);
    return known ? 0 : key_read_public(key, err);
}

int
hsm_key_get0_evp(struct hsm_key *key, EVP_PKEY **ret_pkey, struct cc_err *err)
{
    if (key_need_public(key, err) != 0)
        return hsm_key_in(key, "work", err);
    *ret_pkey = key->pkey;
    return 0;
}

int
hsm_key_get1_public(struct hsm_key *key, EVP_PKEY **ret_pkey, struct cc_err *err)
{
    if (key_need_public(key, err) != 0)
        return hsm_key_in(key, "work", err);
    (void)EVP_PKEY_up_ref(key->public);
    *ret_pkey = key->public;
    return 0;
}

/* ---- private operations, for the provider ---- */

int
hsm_key_sign(struct hsm_key *key, const struct hsm_sign *sign, struct cc_buf *ret_sig,
        struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX), sig = CC_BUF_INIT(ret_sig->max);
    int rc = -1;

    if (hsm_key_check_use(key, HSM_USE_SIGN, err) != 0 ||
            hsm_key_begin(&call, WIRE_SIGN, err) != 0 ||
            wire_put_u8(&call, (uint8_t)sign->kind, err) != 0 ||
            wire_put_u16(&call, (uint16_t)sign->digest_nid, err) != 0 ||
            wire_put_u16(&call, (uint16_t)sign->mgf1_nid, err) != 0 ||
            wire_put_u16(&call, (uint16_t)sign->salt_len, err) != 0 ||
            wire_put_bytes(&call, sign->tbs.data, sign->tbs.len, err) != 0 ||
            hsm_call(key->hsm, key, &call, hsm_read_into_buf, &sig, err) != 0 ||
            cc_buf_add(ret_sig, sig.data, sig.len, err) != 0)
        goto out;
    rc = 0;
out:
    cc_buf_free(&call);
    cc_buf_free(&sig);
    return rc == 0 ? 0 : hsm_key_in(key, "sign", err);
}

struct plain {
    uint8_t *data;
    size_t size, len;
};

static int
read_plain(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    struct cc_bytes bytes = { 0 };
    struct plain *plain = arg;

    if (wire_get_bytes(rest, &bytes, err) != 0)
        return -1;
    if (bytes.len > plain->size)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a plaintext longer than there is room for");
    if (bytes.len > 0)
        memcpy(plain->data, bytes.data, bytes.len);
    plain->len = bytes.len;
    return 0;
}

int
hsm_key_decrypt(struct hsm_key *key, const struct hsm_decrypt *decrypt, uint8_t *ret_plain,
        size_t size, size_t *ret_len, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct plain plain = { .data = ret_plain, .size = size };
    int rc = -1;

    if (hsm_key_check_use(key, HSM_USE_DECRYPT, err) != 0 ||
            hsm_key_begin(&call, WIRE_DECRYPT, err) != 0 ||
            wire_put_u8(&call, (uint8_t)decrypt->kind, err) != 0 ||
            wire_put_u16(&call, (uint16_t)decrypt->digest_nid, err) != 0 ||
            wire_put_u16(&call, (uint16_t)decrypt->mgf1_nid, err) != 0 ||
            wire_put_bytes(&call, decrypt->label.data, decrypt->label.len, err) != 0 ||
            wire_put_bytes(&call, decrypt->ciphertext.data, decrypt->ciphertext.len, err) != 0 ||
            hsm_call(key->hsm, key, &call, read_plain, &plain, err) != 0)
        goto out;
    *ret_len = plain.len;
    rc = 0;
out:
    cc_buf_free(&call);
    return rc == 0 ? 0 : hsm_key_in(key, "decrypt", err);
}

/* ---- content-encryption keys ---- */

static int
read_exactly(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    struct cc_bytes bytes = { 0 };
    struct plain *out = arg;

    if (wire_get_bytes(rest, &bytes, err) != 0)
        return -1;
    if (bytes.len != out->size)
        return cc_err_set(err, CC_DOM_INPUT, 0, "%zu bytes instead of %zu", bytes.len, out->size);
    memcpy(out->data, bytes.data, bytes.len);
    return 0;
}

/* What is longer than any modulus is cut, so that it fits into the frame, and is too long all the same. */
static int
put_open_content_key(struct cc_buf *call, const struct hsm_key_transport *transport, size_t len,
        struct cc_err *err)
{
    const size_t encrypted_len =
            transport->encrypted.len < ENCRYPTED_MAX ? transport->encrypted.len : ENCRYPTED_MAX;

    if (hsm_key_begin(call, WIRE_OPEN_CONTENT_KEY, err) != 0 ||
            wire_put_u8(call, transport->oaep ? 1 : 0, err) != 0 ||
            wire_put_u16(call, (uint16_t)transport->digest_nid, err) != 0 ||
            wire_put_u16(call, (uint16_t)transport->mgf_nid, err) != 0 ||
            wire_put_u8(call, (uint8_t)len, err) != 0)
        return -1;
    return wire_put_bytes(call, transport->encrypted.data, encrypted_len, err);
}

int
hsm_key_open_content_key(struct hsm_key *key, const struct hsm_key_transport *transport,
        uint8_t *ret_key, size_t len, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    uint8_t content_key[HSM_CONTENT_KEY_MAX];
    struct plain out = { .data = content_key, .size = len };
    int rc = -1;

    if (len < HSM_CONTENT_KEY_MIN || len > HSM_CONTENT_KEY_MAX) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "a content-encryption key of %zu bytes",
                len);
        goto out;
    }
    if (hsm_key_check_use(key, HSM_USE_DECRYPT, err) != 0 ||
            put_open_content_key(&call, transport, len, err) != 0 ||
            hsm_call(key->hsm, key, &call, read_exactly, &out, err) != 0)
        goto out;
    memcpy(ret_key, content_key, len);
    rc = 0;
out:
    cc_wipe(content_key, sizeof(content_key));
    cc_buf_free(&call);
    return rc == 0 ? 0 : hsm_key_in(key, "open a content-encryption key", err);
}

/* ---- re-encryption ---- */

struct reencrypted {
    struct cc_buf out;
    bool on_token;
};

static int
read_reencrypted(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    struct reencrypted *result = arg;
    uint8_t on_token = 0;

    if (wire_get_u8(rest, &on_token, err) != 0)
        return -1;
    if (on_token > 1)
        return cc_err_set(err, CC_DOM_INPUT, 0, "a truth value of %u", on_token);
    result->on_token = on_token == 1;
    return hsm_read_into_buf(rest, &result->out, err);
}

static int
put_reencrypt(struct cc_buf *call, const struct hsm_reencrypt *request, struct cc_err *err)
{
    /* It comes from a peer, and too long a text would end the token process. */
    if (request->thumbprint != NULL && strlen(request->thumbprint) >= WIRE_THUMBPRINT_SIZE)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "a thumbprint of %zu bytes",
                strlen(request->thumbprint));
    if (hsm_key_begin(call, WIRE_REENCRYPT, err) != 0 ||
            wire_put_u8(call, (uint8_t)request->mode, err) != 0 ||
            wire_put_u8(call, request->enveloped ? 1 : 0, err) != 0 ||
            wire_put_u8(call, (uint8_t)request->padding, err) != 0 ||
            wire_put_bytes(call, request->ciphertext.data, request->ciphertext.len, err) != 0 ||
            wire_put_bytes(call, request->recipient.data, request->recipient.len, err) != 0 ||
            wire_put_u8(call, (uint8_t)request->form, err) != 0 ||
            wire_put_u8(call, (uint8_t)request->cipher, err) != 0 ||
            wire_put_bytes(call, request->pfx.data, request->pfx.len, err) != 0)
        return -1;
    return wire_put_str(call, request->thumbprint, err);
}

int
hsm_key_reencrypt(struct hsm_key *key, const struct hsm_reencrypt *request, struct cc_buf *ret_out,
        bool *ret_on_token, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct reencrypted result = { .out = CC_BUF_INIT(WIRE_FRAME_MAX) };
    int rc = -1;

    if (hsm_key_check_use(key, HSM_USE_REENCRYPT, err) != 0 || key_need_public(key, err) != 0 ||
            put_reencrypt(&call, request, err) != 0 ||
            hsm_call(key->hsm, key, &call, read_reencrypted, &result, err) != 0 ||
            cc_buf_add(ret_out, result.out.data, result.out.len, err) != 0)
        goto out;
    *ret_on_token = result.on_token;
    rc = 0;
out:
    cc_buf_free(&result.out);
    cc_buf_free(&call);
    return rc == 0 ? 0 : hsm_key_in(key, "re-encrypt", err);
}

/* ---- sealing ---- */

/* All of it in one piece of memory from the start: growing would leave copies of the secret behind. */
static int
put_seal(struct cc_buf *call, struct cc_bytes context, struct cc_bytes plain, struct cc_err *err)
{
    if (context.len > WIRE_FRAME_MAX / 2)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "a context of %zu bytes",
                context.len);
    if (cc_buf_reserve(call, 32 + context.len + plain.len, err) == NULL ||
            hsm_key_begin(call, WIRE_SEAL, err) != 0 ||
            wire_put_bytes(call, context.data, context.len, err) != 0)
        return -1;
    return wire_put_bytes(call, plain.data, plain.len, err);
}

int
hsm_seal(struct hsm_key *key, struct cc_bytes context, struct cc_bytes plain,
        struct cc_buf *ret_sealed, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX), sealed = CC_BUF_INIT(WIRE_FRAME_MAX);
    int rc = -1;

    if (plain.len > SEAL_MAX) {
        cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%zu bytes to seal: at most %d", plain.len,
                SEAL_MAX);
        goto out;
    }
    if (hsm_key_check_use(key, HSM_USE_SEAL, err) != 0 ||
            put_seal(&call, context, plain, err) != 0 ||
            hsm_call(key->hsm, key, &call, hsm_read_into_buf, &sealed, err) != 0 ||
            cc_buf_add(ret_sealed, sealed.data, sealed.len, err) != 0)
        goto out;
    rc = 0;
out:
    cc_buf_wipe(&call);
    cc_buf_free(&sealed);
    return rc == 0 ? 0 : hsm_key_in(key, "seal", err);
}

static int
read_secret(struct cc_bytes *rest, void *arg, struct cc_err *err)
{
    struct cc_bytes bytes = { 0 };
    struct cc_secret **secret = arg;

    if (wire_get_bytes(rest, &bytes, err) != 0)
        return -1;
    cc_secret_free(*secret);
    *secret = cc_secret_copy(bytes.data, bytes.len, err);
    return *secret != NULL ? 0 : -1;
}

int
hsm_unseal(struct hsm_key *key, struct cc_bytes context, struct cc_bytes sealed,
        struct cc_secret **ret_plain, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct cc_secret *plain = NULL;
    int rc = -1;

    if (hsm_key_check_use(key, HSM_USE_SEAL, err) != 0 ||
            hsm_key_begin(&call, WIRE_UNSEAL, err) != 0 ||
            wire_put_bytes(&call, context.data, context.len, err) != 0 ||
            wire_put_bytes(&call, sealed.data, sealed.len, err) != 0 ||
            hsm_call(key->hsm, key, &call, read_secret, &plain, err) != 0)
        goto out;
    *ret_plain = plain;
    plain = NULL;
    rc = 0;
out:
    cc_secret_free(plain);
    cc_buf_free(&call);
    return rc == 0 ? 0 : hsm_key_in(key, "unseal", err);
}

/* ---- random ---- */

int
hsm_random(struct hsm *hsm, void *ret_data, size_t len, struct cc_err *err)
{
    struct cc_buf call = CC_BUF_INIT(WIRE_FRAME_MAX);
    struct plain out = { .data = ret_data, .size = len };
    int rc = -1;

    if (len == 0 || len > RANDOM_MAX)
        return cc_err_set(err, CC_DOM_TOKEN, HSM_FAULT_INPUT, "%zu random bytes: 1 to %d", len,
                RANDOM_MAX);
    if (wire_put_u8(&call, WIRE_RANDOM, err) == 0 && wire_put_u32(&call, (uint32_t)len, err) == 0 &&
            hsm_call(hsm, NULL, &call, read_exactly, &out, err) == 0)
        rc = 0;
    cc_buf_free(&call);
    return rc == 0 ? 0 : cc_err_in(err, "random bytes from the token");
}
