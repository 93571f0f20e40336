/* SPDX-License-Identifier: MIT */

/*
 * Assertions of clients, as they come: nothing is good that was not signed.  The store has one
 * client with one certificate; the input is the whole assertion, or, behind a first "*", the claims of one that is
 * signed as it should be.
 */

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "base/text.h"
#include "tenant/assertion.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_MS INT64_C(1795888000000) /* of the seeds, which would get old */

static struct tenant tenant;
static const struct tenant_settings settings = { .name = "contoso.example" };
static EVP_PKEY *key;
static uint8_t hash[TENANT_SHA1_LEN];

static void
require(bool holds)
{
    if (!holds)
        abort();
}

static void
register_client(void)
{
    X509 *cert = X509_new();
    unsigned char *der = NULL;
    time_t from = NOW_MS / 1000 - 1, until = from + 86400;
    int len;

    key = EVP_RSA_gen(2048);
    require(key != NULL && cert != NULL && X509_set_pubkey(cert, key) == 1 &&
            ASN1_TIME_set(X509_getm_notBefore(cert), from) != NULL &&
            ASN1_TIME_set(X509_getm_notAfter(cert), until) != NULL &&
            X509_sign(cert, key, EVP_sha256()) > 0);
    len = i2d_X509(cert, &der);
    require(len > 0 && EVP_Digest(der, (size_t)len, hash, NULL, EVP_sha1(), NULL) == 1);
    require(assertion_register(tenant.store, "client", (struct cc_bytes){ der, (size_t)len },
                    NULL) == 0);
    OPENSSL_free(der);
    X509_free(cert);
}

static void
open_once(void)
{
    if (tenant.store != NULL)
        return;
    cc_clock_set(NOW_MS, 0);
    tenant.settings = &settings;
    require(tenant_store_open("sqlite::memory:", &tenant.store, NULL) == 0);
    register_client();
}

static void
add_base64url(struct cc_buf *text, const void *data, size_t size)
{
    struct cc_buf part = CC_BUF_INIT(4 * ASSERTION_MAX);

    require(size == 0 || cc_base64(data, size, &part, NULL) == 0);
    for (size_t i = 0; i < part.len; i++)
        part.data[i] = part.data[i] == '+' ? '-' : part.data[i] == '/' ? '_' : part.data[i];
    require(cc_buf_add_str(text, cc_buf_str(&part), NULL) == 0);
    cc_buf_free(&part);
}

static void
write_signed(struct cc_buf *text, const uint8_t *claims, size_t size)
{
    struct cc_buf header = CC_BUF_INIT(256);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t signature[256];
    size_t len = sizeof(signature);

    require(cc_buf_add_str(&header, "{\"alg\":\"RS256\",\"x5t\":\"", NULL) == 0);
    add_base64url(&header, hash, sizeof(hash));
    require(cc_buf_add_str(&header, "\"}", NULL) == 0);
    add_base64url(text, header.data, header.len);
    require(cc_buf_add_u8(text, '.', NULL) == 0);
    add_base64url(text, claims, size);
    require(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
            EVP_DigestSign(ctx, signature, &len, text->data, text->len) == 1);
    require(cc_buf_add_u8(text, '.', NULL) == 0);
    add_base64url(text, signature, len);
    EVP_MD_CTX_free(ctx);
    cc_buf_free(&header);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cc_buf text = CC_BUF_INIT(16 * ASSERTION_MAX);
    enum assertion_verdict verdict = ASSERTION_GOOD;
    bool is_signed = size > 0 && data[0] == '*';

    if (size > ASSERTION_MAX / 2)
        return 0;
    open_once();
    if (is_signed)
        write_signed(&text, data + 1, size - 1);
    else
        require(cc_buf_add(&text, data, size, NULL) == 0);
    require(assertion_check(&tenant, "https://localhost", "client", cc_buf_str(&text), &verdict,
                    NULL) == 0);
    require(verdict != ASSERTION_GOOD || is_signed);
    cc_buf_free(&text);
    return 0;
}
