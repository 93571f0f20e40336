/* SPDX-License-Identifier: MIT */
#include "local_int.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/lint.h"

/* Making an authority: a root that signs itself, or a request for one above. */

#define BACKDATE_MS 300000
#define REQUEST_MAX 65536
#define CHAIN_DER_MAX ((size_t)256 * 1024)

static int
make_plan(const struct ca_local_init *init, struct pki_plan **ret_plan, struct cc_err *err)
{
    struct pki_plan *plan = pki_plan_new(err);
    int64_t now_ms = cc_clock_now_ms() / 1000 * 1000;

    if (plan == NULL)
        return -1;
    plan->is_ca = true;
    plan->path_len = init->path_len;
    plan->key_usages = KU_KEY_CERT_SIGN | KU_CRL_SIGN;
    if (init->scep) /* RFC 8894 section 2.1.2 */
        plan->key_usages |= KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT;
    plan->not_before_ms = now_ms - BACKDATE_MS;
    plan->not_after_ms = now_ms + init->validity_ms - 1000;
    if (pki_name_parse(init->subject, &plan->subject, err) != 0) {
        pki_plan_free(plan);
        return -1;
    }
    if (X509_NAME_entry_count(plan->subject) == 0) {
        pki_plan_free(plan);
        return cc_err_set(err, CC_DOM_INPUT, 0, "subject: a CA needs one");
    }
    *ret_plan = plan;
    return 0;
}

static int
add_der(X509 *certificate, struct cc_buf *ret, struct cc_err *err)
{
    unsigned char *der = NULL;
    int len, rc;

    ERR_clear_error();
    if ((len = i2d_X509(certificate, &der)) < 0)
        return cc_err_set_openssl(err, "a certificate");
    rc = cc_buf_add(ret, der, (size_t)len, err);
    OPENSSL_free(der);
    return rc;
}

static int
self_sign(const struct ca_local_settings *settings, const struct pki_plan *plan, EVP_PKEY *key,
        struct cc_buf *ret_der, struct cc_err *err)
{
    struct pki_issuer issuer = { .certificate = NULL, .key = key };
    uint8_t serial[PKI_SERIAL_LEN];
    X509 *certificate = NULL;
    int rc = -1;

    if (ca_local_digest(settings->digest, &issuer.md, err) == 0 &&
            ca_local_serial(settings->hsm, serial, err) == 0 &&
            pki_cert_issue(plan, (struct cc_bytes){ serial, sizeof(serial) }, key, &issuer,
                    &certificate, err) == 0)
        rc = add_der(certificate, ret_der, err);
    X509_free(certificate);
    return rc;
}

static int
make_request(const struct pki_plan *plan, EVP_PKEY *key, struct cc_buf *ret_request,
        struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(4 * PKI_NAME_TEXT_MAX), extensions = CC_BUF_INIT(4096);
    int rc = -1;

    if (pki_name_write(plan->subject, &subject, err) == 0 &&
            pki_plan_extensions(plan, &extensions, err) == 0)
        rc = pki_csr_build(key, cc_buf_bytes(&subject), cc_buf_bytes(&extensions), NULL,
                ret_request, err);
    cc_buf_free(&subject);
    cc_buf_free(&extensions);
    return rc;
}

static int
store_new(const struct ca_local_settings *settings, struct cc_bytes certificate,
        struct cc_bytes request, struct cc_err *err)
{
    const struct cadb_authority authority = {
        .name = settings->name,
        .key_uri = hsm_key_uri(settings->key),
        .certificate = certificate,
        .request = request,
        .created_ms = cc_clock_now_ms(),
    };
    bool exists = false;

    if (cadb_authority_add(settings->store, &authority, &exists, err) != 0)
        return -1;
    if (exists)
        return cc_err_set(err, CC_DOM_USAGE, 0, "there is a CA \"%s\" already", settings->name);
    return 0;
}

int
ca_local_init(const struct ca_local_settings *settings, const struct ca_local_init *init,
        struct cc_buf *ret_request, struct cc_err *err)
{
    struct cc_buf certificate = CC_BUF_INIT(PKI_CERT_MAX), request = CC_BUF_INIT(REQUEST_MAX);
    struct pki_plan *plan = NULL;
    EVP_PKEY *key = NULL;
    int rc = -1;

    if (make_plan(init, &plan, err) != 0 || hsm_key_get0_evp(settings->key, &key, err) != 0)
        goto out;
    if (init->scep && !EVP_PKEY_is_a(key, "RSA")) {
        cc_err_set(err, CC_DOM_USAGE, 0,
                "SCEP clients encrypt to RSA keys alone, and this is none");
        goto out;
    }
    if (init->intermediate)
        rc = make_request(plan, key, &request, err);
    else
        rc = self_sign(settings, plan, key, &certificate, err);
    if (rc == 0)
        rc = store_new(settings, cc_buf_bytes(&certificate), cc_buf_bytes(&request), err);
    if (rc == 0 && request.len > 0)
        rc = cc_buf_add(ret_request, request.data, request.len, err);
out:
    hsm_err_resolve(err);
    pki_plan_free(plan);
    cc_buf_free(&certificate);
    cc_buf_free(&request);
    return rc;
}

/* ---- the certificate of an intermediate ---- */

static int
refuse(struct cc_err *err, const char *why)
{
    ERR_clear_error();
    return cc_err_set(err, CC_DOM_INPUT, 0, "the CA's certificate: %s", why);
}

/* Every certificate that signs itself is an anchor; the administrator chose them. */
static int
verify_chain(X509 *certificate, STACK_OF(X509) *chain, struct cc_err *err)
{
    X509_STORE *anchors = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int rc = -1;

    if (anchors == NULL || ctx == NULL)
        goto out;
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *above = sk_X509_value(chain, i);

        if (X509_self_signed(above, 1) == 1)
            (void)X509_STORE_add_cert(anchors, above);
    }
    if (X509_STORE_CTX_init(ctx, anchors, certificate, chain) != 1)
        goto out;
    if (X509_verify_cert(ctx) == 1)
        rc = 0;
    else
        cc_err_set(err, CC_DOM_INPUT, 0, "the CA's certificate does not verify up to a root: %s",
                X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
out:
    if (rc != 0)
        cc_err_nomem(err);
    ERR_clear_error();
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(anchors);
    return rc;
}

static int
check_certificate(X509 *certificate, EVP_PKEY *key, struct cc_err *err)
{
    if (X509_check_ca(certificate) != 1)
        return refuse(err, "basicConstraints does not say CA:TRUE");
    if ((X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) == 0)
        return refuse(err, "keyUsage lacks keyCertSign");
    if ((X509_get_key_usage(certificate) & KU_CRL_SIGN) == 0)
        return refuse(err, "keyUsage lacks cRLSign");
    if (EVP_PKEY_eq(X509_get0_pubkey(certificate), key) != 1)
        return refuse(err, "it is not for the CA's key in the token");
    return 0;
}

static int
read_chain(const struct cc_bytes *ders, size_t count, STACK_OF(X509) *ret, struct cc_err *err)
{
    for (size_t i = 0; i < count; i++) {
        X509 *above = NULL;

        if (pki_cert_parse(ders[i], &above, err) != 0)
            return cc_err_in(err, "chain");
        if (sk_X509_push(ret, above) <= 0) {
            X509_free(above);
            return cc_err_nomem(err);
        }
    }
    return 0;
}

/* From the issuer of certificate upward, whatever the order they came in. */
static int
order_chain(X509 *certificate, STACK_OF(X509) *chain, struct cc_buf *ret_der, struct cc_err *err)
{
    X509 *below = certificate;

    for (int steps = 0; steps <= sk_X509_num(chain); steps++) {
        X509 *above = NULL;

        if (X509_self_signed(below, 0) == 1)
            return 0;
        for (int i = 0; i < sk_X509_num(chain) && above == NULL; i++)
            if (X509_check_issued(sk_X509_value(chain, i), below) == X509_V_OK)
                above = sk_X509_value(chain, i);
        if (above == NULL)
            return refuse(err, "a certificate above it is missing");
        if (add_der(above, ret_der, err) != 0)
            return -1;
        below = above;
    }
    return refuse(err, "the certificates above it go round in a circle");
}

struct keeping {
    const X509 *cert;
    bool same;
};

static int
compare_name(void *arg, const struct cadb_authority *authority)
{
    struct keeping *keeping = arg;
    X509 *present = NULL;

    if (authority->certificate.len > 0 &&
            pki_cert_parse(authority->certificate, &present, NULL) == 0)
        keeping->same = X509_NAME_cmp(X509_get_subject_name(present),
                                X509_get_subject_name(keeping->cert)) == 0;
    X509_free(present);
    return 0;
}

/* What was issued names its issuer: a renewed certificate keeps the name. */
static int
check_name_kept(const struct ca_local_settings *settings, const X509 *cert, struct cc_err *err)
{
    struct keeping keeping = { cert, true };

    if (cadb_authority_find(settings->store, settings->name, compare_name, &keeping, err) != 0)
        return -1;
    if (!keeping.same)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "the certificate has another subject than the one that it is to replace");
    return 0;
}

int
ca_local_set_certificate(const struct ca_local_settings *settings, struct cc_bytes certificate,
        const struct cc_bytes *chain, size_t chain_count, struct cc_err *err)
{
    struct cc_buf chain_der = CC_BUF_INIT(CHAIN_DER_MAX);
    STACK_OF(X509) *above = sk_X509_new_null();
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    int rc = -1;

    if (above == NULL)
        return cc_err_nomem(err);
    if (pki_cert_parse(certificate, &cert, err) != 0 ||
            hsm_key_get0_evp(settings->key, &key, err) != 0 ||
            check_certificate(cert, key, err) != 0 || check_name_kept(settings, cert, err) != 0 ||
            read_chain(chain, chain_count, above, err) != 0 ||
            verify_chain(cert, above, err) != 0 || order_chain(cert, above, &chain_der, err) != 0)
        goto out;
    rc = cadb_authority_set_certificate(settings->store, settings->name, certificate,
            cc_buf_bytes(&chain_der), err);
out:
    X509_free(cert);
    sk_X509_pop_free(above, X509_free);
    cc_buf_free(&chain_der);
    return rc;
}
