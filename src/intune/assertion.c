/* SPDX-License-Identifier: MIT */
#include "intune_int.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "base/file.h"
#include "base/json.h"
#include "hsm/hsm.h"
#include "pki/cert.h"

/*
 * The assertion that a client signs in with in place of a secret: a JWT (RFC 7519, RFC 7523) in the compact form of a
 * JWS (RFC 7515), as Entra ID wants it.
 */

#define FILE_MAX ((size_t)1 << 20)
#define PART_MAX ((size_t)256 << 10) /* of header or claims */
#define LIFE_S 600
#define SIGNATURE_MAX 2048 /* bytes; RSA of 16384 bits */

/* ---- settings ---- */

static int
read_certificates(const char *file, STACK_OF(X509) **ret, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(FILE_MAX);
    int rc = cc_file_read(file, &text, err);

    if (rc == 0 && (rc = pki_certs_read_pem(cc_buf_bytes(&text), ret, err)) != 0)
        cc_err_in(err, "%s", file);
    cc_buf_free(&text);
    return rc == 0 ? 0 : cc_err_in(err, "the certificate to sign in with");
}

void
intune_assertion_free(struct intune_assertion *assertion)
{
    char *file;

    /* Ours, as intune_assertion_copy() made it. */
    memcpy(&file, &assertion->certificate, sizeof(file));
    free(file);
    assertion->certificate = NULL;
}

/* What can be seen without the token to be wrong is said at once. */
int
intune_assertion_copy(const struct intune_assertion *from, struct intune_assertion *to,
        struct cc_err *err)
{
    STACK_OF(X509) *certificates = NULL;
    struct cc_err why = { 0 };
    bool rsa;

    if (read_certificates(from->certificate, &certificates, &why) != 0)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "%s", why.text);
    rsa = EVP_PKEY_is_a(X509_get0_pubkey(sk_X509_value(certificates, 0)), "RSA") == 1;
    sk_X509_pop_free(certificates, X509_free);
    if (!rsa)
        return cc_err_set(err, CC_DOM_CONFIG, 0,
                "the certificate to sign in with: %s: the service takes only keys that are RSA",
                from->certificate);
    *to = *from;
    to->certificate = cc_strdup(from->certificate, err);
    return to->certificate == NULL ? -1 : 0;
}

/* ---- header and claims ---- */

/* RFC 4648 section 5, without padding. */
static int
add_base64url(struct cc_buf *ret, const void *data, size_t len, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(PART_MAX * 2);
    int rc = cc_base64(data, len, &text, err);

    for (size_t i = 0; rc == 0 && i < text.len; i++) {
        if (text.data[i] == '+')
            text.data[i] = '-';
        else if (text.data[i] == '/')
            text.data[i] = '_';
    }
    while (rc == 0 && text.len > 0 && text.data[text.len - 1] == '=')
        text.len--;
    if (rc == 0)
        rc = cc_buf_add(ret, text.data, text.len, err);
    cc_buf_wipe(&text);
    return rc;
}

static int
add_thumbprint(json_object *header, const char *name, X509 *certificate, const EVP_MD *md,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(EVP_MAX_MD_SIZE * 2);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int rc = -1;

    ERR_clear_error();
    if (!X509_digest(certificate, md, digest, &len))
        return cc_err_set_openssl(err, "thumbprint");
    if (add_base64url(&text, digest, len, err) == 0)
        rc = cc_json_add_str(header, name, cc_buf_str(&text), err);
    cc_buf_free(&text);
    return rc;
}

/* Standard base64 here (RFC 7515 section 4.1.6). */
static int
add_certificate(json_object *list, X509 *certificate, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT((size_t)PKI_CERT_MAX * 2);
    unsigned char *der = NULL;
    json_object *item = NULL;
    int len, rc = -1;

    ERR_clear_error();
    if ((len = i2d_X509(certificate, &der)) < 0) {
        cc_err_set_openssl(err, "a certificate");
        goto out;
    }
    if (cc_base64(der, (size_t)len, &text, err) != 0)
        goto out;
    item = json_object_new_string(cc_buf_str(&text));
    if (item == NULL || json_object_array_add(list, item) != 0) {
        json_object_put(item);
        cc_err_nomem(err);
        goto out;
    }
    rc = 0;
out:
    OPENSSL_free(der);
    cc_buf_free(&text);
    return rc;
}

static int
add_chain(json_object *header, STACK_OF(X509) *certificates, struct cc_err *err)
{
    json_object *list = json_object_new_array();

    if (cc_json_add(header, "x5c", list, err) != 0)
        return -1;
    for (int i = 0; i < sk_X509_num(certificates); i++)
        if (add_certificate(list, sk_X509_value(certificates, i), err) != 0)
            return -1;
    return 0;
}

/* Appends a JSON object, encoded. */
static int
add_part(struct cc_buf *ret, json_object *json, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(PART_MAX);
    int rc = cc_json_write(json, &text, err);

    if (rc == 0)
        rc = add_base64url(ret, text.data, text.len, err);
    cc_buf_free(&text);
    return rc;
}

static int
add_header(struct cc_buf *ret, const struct intune_assertion *assertion,
        STACK_OF(X509) *certificates, struct cc_err *err)
{
    X509 *own = sk_X509_value(certificates, 0);
    json_object *header = json_object_new_object();
    int rc = -1;

    if (cc_json_add_str(header, "alg", assertion->alg == INTUNE_RS256 ? "RS256" : "PS256", err) ==
                    0 &&
            cc_json_add_str(header, "typ", "JWT", err) == 0 &&
            add_thumbprint(header, "x5t", own, EVP_sha1(), err) == 0 &&
            add_thumbprint(header, "x5t#S256", own, EVP_sha256(), err) == 0 &&
            (!assertion->chain || add_chain(header, certificates, err) == 0))
        rc = add_part(ret, header, err);
    json_object_put(header);
    return rc;
}

static int
add_claims(struct cc_buf *ret, const struct intune_claims *claims, struct cc_err *err)
{
    const int64_t now_s = claims->now_ms / 1000;
    json_object *json = json_object_new_object();
    char id[CC_UUID_LEN];
    int rc = -1;

    if (cc_uuid(id, err) == 0 && cc_json_add_str(json, "aud", claims->audience, err) == 0 &&
            cc_json_add_str(json, "iss", claims->client_id, err) == 0 &&
            cc_json_add_str(json, "sub", claims->client_id, err) == 0 &&
            cc_json_add_str(json, "jti", id, err) == 0 &&
            cc_json_add_int(json, "iat", now_s, err) == 0 &&
            cc_json_add_int(json, "nbf", now_s, err) == 0 &&
            cc_json_add_int(json, "exp", now_s + LIFE_S, err) == 0)
        rc = add_part(ret, json, err);
    json_object_put(json);
    return rc;
}

/* ---- the signature ---- */

static int
set_padding(EVP_PKEY_CTX *ctx, enum intune_assertion_alg alg)
{
    if (alg == INTUNE_RS256)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0;
    /* RFC 7518 section 3.5 */
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, SHA256_DIGEST_LENGTH) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) > 0;
}

static int
add_signature(struct cc_buf *ret, enum intune_assertion_alg alg, EVP_PKEY *key, struct cc_err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_ctx = NULL;
    unsigned char signature[SIGNATURE_MAX];
    size_t len = sizeof(signature);
    int rc = -1;

    ERR_clear_error();
    if (ctx == NULL) {
        cc_err_nomem(err);
        goto out;
    }
    if (EVP_DigestSignInit_ex(ctx, &key_ctx, "SHA256", NULL, NULL, key, NULL) <= 0 ||
            !set_padding(key_ctx, alg) ||
            EVP_DigestSign(ctx, signature, &len, ret->data, ret->len) <= 0) {
        struct cc_err why = { 0 };

        cc_err_set_openssl(&why, "the signature");
        hsm_err_resolve(&why);
        cc_err_set(err, why.domain, why.code, "%s", why.text);
        goto out;
    }
    if (cc_buf_add_str(ret, ".", err) == 0)
        rc = add_base64url(ret, signature, len, err);
out:
    EVP_MD_CTX_free(ctx);
    OPENSSL_cleanse(signature, sizeof(signature));
    return rc;
}

int
intune_assertion_sign(const struct intune_assertion *assertion, EVP_PKEY *key,
        const struct intune_claims *claims, struct cc_buf *ret, struct cc_err *err)
{
    STACK_OF(X509) *certificates = NULL;
    struct cc_buf text = CC_BUF_INIT(ret->max);
    int rc = -1;

    if (read_certificates(assertion->certificate, &certificates, err) != 0)
        return -1;
    if (EVP_PKEY_eq(X509_get0_pubkey(sk_X509_value(certificates, 0)), key) != 1) {
        cc_err_set(err, CC_DOM_CONFIG, 0,
                "the certificate to sign in with: %s is of another key than the one that signs",
                assertion->certificate);
        goto out;
    }
    if (add_header(&text, assertion, certificates, err) != 0 ||
            cc_buf_add_str(&text, ".", err) != 0 || add_claims(&text, claims, err) != 0 ||
            add_signature(&text, assertion->alg, key, err) != 0)
        goto out;
    rc = cc_buf_add(ret, text.data, text.len, err);
out:
    sk_X509_pop_free(certificates, X509_free);
    cc_buf_wipe(&text);
    return rc;
}

int
intune_assertion_make(const struct intune_assertion *assertion, const struct intune_claims *claims,
        struct cc_buf *ret, struct cc_err *err)
{
    EVP_PKEY *key = NULL;

    if (hsm_key_get0_evp(assertion->key, &key, err) != 0 ||
            intune_assertion_sign(assertion, key, claims, ret, err) != 0)
        return cc_err_in(err, "assertion");
    return 0;
}
