/* SPDX-License-Identifier: MIT */
#include "assertion.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "base/json.h"
#include "pki/cert.h"

#define LEEWAY_S 300            /* that clocks may differ by, as Entra ID has it */
#define LIFE_MAX_S (24 * 3600)  /* of an assertion */
#define TIME_MAX_S 253402300799 /* the last second of the year 9999 */
#define RSA_BITS_MIN 2048

/* A JWS taken apart; all but the two texts are its decoded parts. */
struct jws {
    struct cc_bytes input; /* what is signed, of the text */
    struct cc_buf signature;
    json_object *header, *claims;
};

static void
jws_free(struct jws *jws)
{
    json_object_put(jws->header);
    json_object_put(jws->claims);
    cc_buf_free(&jws->signature);
}

/* RFC 4648 section 5; the "=" at the end that some libraries leave there are let pass. */
static int
unbase64url(const char *text, size_t len, struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf standard = CC_BUF_INIT(ASSERTION_MAX + 4);
    int rc = -1;

    while (len > 0 && text[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '+' || c == '/')
            cc_err_set(err, CC_DOM_INPUT, 0, "not base64url");
        if (c == '+' || c == '/' ||
                cc_buf_add_u8(&standard,
                        (uint8_t)(c == '-'   ? '+'
                                  : c == '_' ? '/'
                                             : c),
                        err) != 0)
            goto out;
    }
    while (standard.len % 4 != 0)
        if (cc_buf_add_u8(&standard, '=', err) != 0)
            goto out;
    rc = standard.len == 0 ? 0 : cc_unbase64(cc_buf_str(&standard), ret, err);
out:
    cc_buf_free(&standard);
    return rc;
}

/* NULL for what is no object. */
static json_object *
read_part(const char *text, size_t len)
{
    struct cc_buf json = CC_BUF_INIT(ASSERTION_MAX);
    json_object *obj = NULL;

    if (unbase64url(text, len, &json, NULL) == 0)
        obj = cc_json_parse(json.data, json.len, NULL);
    cc_buf_free(&json);
    if (!json_object_is_type(obj, json_type_object)) {
        json_object_put(obj);
        obj = NULL;
    }
    return obj;
}

static bool
jws_read(const char *text, struct jws *ret)
{
    const char *claims = strchr(text, '.');
    const char *signature = claims != NULL ? strchr(claims + 1, '.') : NULL;

    if (signature == NULL || strchr(signature + 1, '.') != NULL)
        return false;
    ret->input = (struct cc_bytes){ (const uint8_t *)text, (size_t)(signature - text) };
    ret->header = read_part(text, (size_t)(claims - text));
    ret->claims = read_part(claims + 1, (size_t)(signature - claims - 1));
    return ret->header != NULL && ret->claims != NULL &&
           unbase64url(signature + 1, strlen(signature + 1), &ret->signature, NULL) == 0;
}

/* NULL: absent, or no text. */
static const char *
text_member(json_object *obj, const char *name)
{
    const char *text = NULL;

    return cc_json_get_str(obj, name, ASSERTION_MAX, &text, NULL) == 0 ? text : NULL;
}

/* ---- the certificate ---- */

/* The first of the chain; base64 with line breaks was seen. */
static int
hash_chain(json_object *chain, struct cc_buf *ret)
{
    json_object *first = json_object_array_get_idx(chain, 0);
    struct cc_buf text = CC_BUF_INIT(ASSERTION_MAX), der = CC_BUF_INIT(ASSERTION_MAX);
    uint8_t hash[TENANT_HASH_LEN];
    int rc = -1;

    if (!json_object_is_type(first, json_type_string))
        goto out;
    for (const char *c = json_object_get_string(first); *c != '\0'; c++)
        if (*c != '\n' && *c != '\r' && cc_buf_add_u8(&text, (uint8_t)*c, NULL) != 0)
            goto out;
    if (cc_unbase64(cc_buf_str(&text), &der, NULL) != 0 || der.len == 0 ||
            EVP_Digest(der.data, der.len, hash, NULL, EVP_sha256(), NULL) != 1)
        goto out;
    rc = cc_buf_add(ret, hash, sizeof(hash), NULL);
out:
    cc_buf_free(&text);
    cc_buf_free(&der);
    return rc;
}

/* By which hash the header names the certificate; false: by none. */
static bool
read_hash(json_object *header, struct cc_buf *ret)
{
    const char *sha256 = text_member(header, "x5t#S256");
    const char *sha1 = text_member(header, "x5t");
    const char *named = sha256 != NULL ? sha256 : sha1;
    json_object *chain = NULL;

    if (named != NULL)
        return unbase64url(named, strlen(named), ret, NULL) == 0 &&
               ret->len == (sha256 != NULL ? TENANT_HASH_LEN : TENANT_SHA1_LEN);
    return cc_json_get_array(header, "x5c", &chain, NULL) == 0 && chain != NULL &&
           hash_chain(chain, ret) == 0;
}

/* *ret_cert stays NULL where the client has no such certificate. */
static int
find_certificate(struct tenant *tenant, const char *client_id, struct cc_bytes hash,
        X509 **ret_cert, struct cc_err *err)
{
    struct cc_buf der = CC_BUF_INIT(PKI_CERT_MAX);
    int rc = tenant_client_certificate_find(tenant->store, client_id, hash, &der, err);

    if (rc == 0 && der.len > 0)
        rc = pki_cert_parse(cc_buf_bytes(&der), ret_cert, err);
    cc_buf_free(&der);
    return rc;
}

static bool
verify(X509 *cert, bool pss, struct cc_bytes input, const struct cc_buf *signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_ctx = NULL;
    bool good = false;

    if (ctx == NULL ||
            EVP_DigestVerifyInit(ctx, &key_ctx, EVP_sha256(), NULL, X509_get0_pubkey(cert)) != 1)
        goto out;
    if (pss && (EVP_PKEY_CTX_set_rsa_padding(key_ctx, RSA_PKCS1_PSS_PADDING) != 1 ||
                       EVP_PKEY_CTX_set_rsa_pss_saltlen(key_ctx, RSA_PSS_SALTLEN_DIGEST) != 1))
        goto out;
    good = EVP_DigestVerify(ctx, signature->data, signature->len, input.data, input.len) == 1;
out:
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

static enum assertion_verdict
check_signature(X509 *cert, const struct jws *jws)
{
    const char *alg = text_member(jws->header, "alg");
    bool rs256 = alg != NULL && strcmp(alg, "RS256") == 0;
    bool ps256 = alg != NULL && strcmp(alg, "PS256") == 0;
    int64_t from_ms, until_ms, now_ms = cc_clock_now_ms();

    if (!rs256 && !ps256)
        return ASSERTION_MALFORMED;
    if (!verify(cert, ps256, jws->input, &jws->signature))
        return ASSERTION_KEY;
    if (pki_cert_validity(cert, &from_ms, &until_ms, NULL) != 0 ||
            now_ms < from_ms - LEEWAY_S * 1000 || now_ms > until_ms)
        return ASSERTION_CERTIFICATE;
    return ASSERTION_GOOD;
}

/* ---- the claims ---- */

/* Seconds since 1970, with a fraction where the library writes one; false: it is there and no such number. */
static bool
read_time(json_object *claims, const char *name, double fallback, double *ret)
{
    json_object *value;

    *ret = fallback;
    if (!json_object_object_get_ex(claims, name, &value))
        return true;
    if (!json_object_is_type(value, json_type_int) && !json_object_is_type(value, json_type_double))
        return false;
    *ret = json_object_get_double(value);
    return isfinite(*ret) && *ret >= 0 && *ret <= (double)TIME_MAX_S;
}

static enum assertion_verdict
check_times(json_object *claims, double *ret_exp)
{
    double now = (double)cc_clock_now_ms() / 1000;
    double nbf, iat;

    if (!read_time(claims, "exp", 0, ret_exp) || *ret_exp == 0 ||
            !read_time(claims, "nbf", now, &nbf) || !read_time(claims, "iat", now, &iat))
        return ASSERTION_MALFORMED;
    if (*ret_exp + LEEWAY_S < now || *ret_exp > now + LIFE_MAX_S + LEEWAY_S ||
            nbf > now + LEEWAY_S || iat > now + LEEWAY_S)
        return ASSERTION_TIME;
    return ASSERTION_GOOD;
}

static bool
is_endpoint(const struct tenant *tenant, const char *base, const char *audience)
{
    static const char path[] = "/oauth2/v2.0/token";
    size_t len = strlen(base);
    size_t total = strlen(audience);
    char name[CALL_CAPTURE_MAX];

    if (total < len + 1 + sizeof(path) - 1 || total - len - sizeof(path) >= sizeof(name) ||
            strncasecmp(audience, base, len) != 0 || audience[len] != '/' ||
            strcmp(audience + total - (sizeof(path) - 1), path) != 0)
        return false;
    memcpy(name, audience + len + 1, total - len - sizeof(path));
    name[total - len - sizeof(path)] = '\0';
    return cc_equal_nocase(name, tenant->settings->name) || cc_equal_nocase(name, tenant->id);
}

static enum assertion_verdict
check_claims(const struct tenant *tenant, const char *base, const char *client_id,
        json_object *claims)
{
    const char *issuer = text_member(claims, "iss");
    const char *subject = text_member(claims, "sub");
    const char *audience = text_member(claims, "aud");

    if (issuer == NULL || subject == NULL || !cc_equal_nocase(issuer, client_id) ||
            !cc_equal_nocase(subject, client_id))
        return ASSERTION_CLIENT;
    if (audience == NULL || !is_endpoint(tenant, base, audience))
        return ASSERTION_AUDIENCE;
    return ASSERTION_GOOD;
}

/* The last step: an assertion that was refused for something else may be mended and come again. */
static int
use_once(struct tenant *tenant, const char *client_id, json_object *claims, double exp,
        enum assertion_verdict *ret, struct cc_err *err)
{
    const char *jti = text_member(claims, "jti");
    bool fresh;

    if (jti == NULL || jti[0] == '\0' || strlen(jti) > TENANT_JTI_MAX) {
        *ret = ASSERTION_MALFORMED;
        return 0;
    }
    if (tenant_assertion_use(tenant->store, client_id, jti, cc_clock_now_ms(),
                (int64_t)((exp + LEEWAY_S + 1) * 1000), &fresh, err) != 0)
        return -1;
    *ret = fresh ? ASSERTION_GOOD : ASSERTION_REPEATED;
    return 0;
}

/* What can be said without the store. */
static enum assertion_verdict
check_all(const struct tenant *tenant, const char *base, const char *client_id,
        const struct jws *jws, X509 *cert, double *ret_exp)
{
    enum assertion_verdict verdict = check_signature(cert, jws);

    if (verdict == ASSERTION_GOOD)
        verdict = check_claims(tenant, base, client_id, jws->claims);
    if (verdict == ASSERTION_GOOD)
        verdict = check_times(jws->claims, ret_exp);
    return verdict;
}

int
assertion_check(struct tenant *tenant, const char *base, const char *client_id,
        const char *assertion, enum assertion_verdict *ret, struct cc_err *err)
{
    struct jws jws = { .signature = CC_BUF_INIT(ASSERTION_MAX) };
    struct cc_buf hash = CC_BUF_INIT(TENANT_HASH_LEN);
    X509 *cert = NULL;
    double exp = 0;
    int rc = 0;

    *ret = ASSERTION_MALFORMED;
    if (!jws_read(assertion, &jws) || !read_hash(jws.header, &hash))
        goto out;
    rc = find_certificate(tenant, client_id, cc_buf_bytes(&hash), &cert, err);
    if (rc != 0)
        goto out;
    *ret = cert != NULL ? check_all(tenant, base, client_id, &jws, cert, &exp) : ASSERTION_KEY;
    if (*ret == ASSERTION_GOOD)
        rc = use_once(tenant, client_id, jws.claims, exp, ret, err);
out:
    X509_free(cert);
    cc_buf_free(&hash);
    jws_free(&jws);
    return rc;
}

/* ---- registering ---- */

/* The DER of one certificate in PEM; what is no PEM is taken for DER. */
static int
to_der(struct cc_bytes text, struct cc_buf *ret, struct cc_err *err)
{
    BIO *in = BIO_new_mem_buf(text.data, (int)text.len);
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long len = 0;
    int rc;

    if (in == NULL)
        return cc_err_nomem(err);
    if (PEM_read_bio(in, &name, &header, &data, &len) != 1)
        rc = cc_buf_add(ret, text.data, text.len, err);
    else if (strcmp(name, PEM_STRING_X509) != 0)
        rc = cc_err_set(err, CC_DOM_INPUT, 0, "PEM of a %s, not of a certificate", name);
    else
        rc = cc_buf_add(ret, data, (size_t)len, err);
    ERR_clear_error();
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
    BIO_free(in);
    return rc;
}

int
assertion_register(struct tenant_store *store, const char *client_id, struct cc_bytes certificate,
        struct cc_err *err)
{
    struct cc_buf der = CC_BUF_INIT(PKI_CERT_MAX);
    uint8_t sha1[TENANT_SHA1_LEN], sha256[TENANT_HASH_LEN];
    X509 *cert = NULL;
    EVP_PKEY *key;
    int rc = -1;

    if (to_der(certificate, &der, err) != 0 || pki_cert_parse(cc_buf_bytes(&der), &cert, err) != 0)
        goto out;
    key = X509_get0_pubkey(cert);
    if (key == NULL || EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA ||
            EVP_PKEY_get_bits(key) < RSA_BITS_MIN) {
        cc_err_set(err, CC_DOM_INPUT, 0,
                "the certificate's key is not RSA of %d bits or more, as RS256 and PS256 need",
                RSA_BITS_MIN);
        goto out;
    }
    if (EVP_Digest(der.data, der.len, sha1, NULL, EVP_sha1(), NULL) != 1 ||
            EVP_Digest(der.data, der.len, sha256, NULL, EVP_sha256(), NULL) != 1) {
        cc_err_set_openssl(err, "hash of a certificate");
        goto out;
    }
    rc = tenant_client_certificate_add(store, client_id,
            &(struct tenant_client_certificate){ .sha1 = { sha1, sizeof(sha1) },
                    .sha256 = { sha256, sizeof(sha256) },
                    .der = cc_buf_bytes(&der) },
            err);
out:
    X509_free(cert);
    cc_buf_free(&der);
    return rc;
}
