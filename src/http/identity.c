/* SPDX-License-Identifier: MIT */
#include "identity.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

static int use_index; /* of the struct identity_use among what an SSL_CTX carries */

int
identity_library_open(void)
{
    use_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return use_index < 0 ? -1 : 0;
}

int
identity_copy(const struct http_client_identity *from, struct http_client_identity *to,
        struct cc_err *err)
{
    STACK_OF(X509) *chain = NULL;

    if (from->chain != NULL && (chain = X509_chain_up_ref(from->chain)) == NULL)
        return cc_err_nomem(err);
    *to = *from;
    to->chain = chain;
    if (X509_up_ref(from->certificate) == 1)
        return 0;
    to->certificate = NULL;
    return cc_err_nomem(err);
}

void
identity_free(struct http_client_identity *identity)
{
    X509_free(identity->certificate);
    sk_X509_pop_free(identity->chain, X509_free);
    *identity = (struct http_client_identity){ .certificate = NULL };
}

/* Alerts that speak of the peer's certificate (RFC 8446 section 6.2, RFC 5246 section 7.2.2). */
static bool
is_refusal(int alert)
{
    switch (alert) {
    case SSL_AD_NO_CERTIFICATE:
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return true;
    default:
        return false;
    }
}

/* In TLS 1.3 the verdict comes after the handshake, when the answer is read: libcurl then knows no more of it. */
static void
on_event(const SSL *ssl, int where, int value)
{
    struct identity_use *use;

    if (where != SSL_CB_READ_ALERT || !is_refusal(value & 0xff))
        return;
    use = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), use_index);
    if (use != NULL)
        use->refusal = SSL_alert_desc_string_long(value);
}

static int
put(SSL_CTX *ctx, struct identity_use *use, struct cc_err *err)
{
    const struct http_client_identity *identity = use->identity;
    EVP_PKEY *key = NULL;

    if (identity->key(identity->arg, &key, err) != 0)
        return -1;
    if (EVP_PKEY_eq(X509_get0_pubkey(identity->certificate), key) != 1)
        return cc_err_set(err, CC_DOM_CONFIG, 0, "the certificate that we show is of another key");
    ERR_clear_error();
    if (SSL_CTX_use_cert_and_key(ctx, identity->certificate, key, identity->chain, 1) != 1 ||
            SSL_CTX_set_ex_data(ctx, use_index, use) != 1)
        return cc_err_set_openssl(err, "our certificate");
    SSL_CTX_set_info_callback(ctx, on_event);
    return 0;
}

/*
 * libcurl asks for the TLS with an https proxy as well, which comes first: it takes the certificate of a peer for not
 * verified from before it asks until the handshake is good, and has no verdict on the proxy when there is none.
 */
static bool
is_proxys(CURL *easy)
{
    long verdict = X509_V_OK;

    return curl_easy_getinfo(easy, CURLINFO_PROXY_SSL_VERIFYRESULT, &verdict) == CURLE_OK &&
           verdict != X509_V_OK;
}

CURLcode
identity_put(CURL *easy, void *ssl_ctx, void *arg)
{
    struct identity_use *use = arg;

    if (is_proxys(easy))
        return CURLE_OK;
    cc_err_clear(&use->err);
    return put(ssl_ctx, use, &use->err) == 0 ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
}
