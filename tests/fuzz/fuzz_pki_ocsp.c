/* SPDX-License-Identifier: MIT */
#include "pki/ocsp.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>

/* A request, through everything that is done with one: what is accepted can be answered. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static X509 *signer;
static EVP_PKEY *key;

static void
make_signer(void)
{
    X509_NAME *name = X509_NAME_new();

    key = EVP_EC_gen("P-256");
    signer = X509_new();
    if (key == NULL || signer == NULL || name == NULL ||
            !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                    (const unsigned char *)"Example CA", -1, -1, 0) ||
            !X509_set_subject_name(signer, name) || !X509_set_issuer_name(signer, name) ||
            !X509_set_pubkey(signer, key) ||
            X509_gmtime_adj(X509_getm_notBefore(signer), 0) == NULL ||
            X509_gmtime_adj(X509_getm_notAfter(signer), 1000) == NULL ||
            X509_sign(signer, key, EVP_sha256()) <= 0)
        abort();
    X509_NAME_free(name);
}

static void
answer(const struct pki_ocsp_request *request)
{
    struct pki_ocsp_single singles[PKI_OCSP_CERTS_MAX] = { { .status = PKI_OCSP_REVOKED } };
    struct pki_ocsp_settings settings = { .signer = signer, .key = key, .next_update_ms = 1000 };
    struct cc_buf der = CC_BUF_INIT((size_t)4 * PKI_OCSP_REQUEST_MAX);

    if (pki_ocsp_respond(request, singles, &settings, &der, NULL) != 0)
        abort();
    cc_buf_free(&der);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pki_ocsp_request *request = NULL;
    struct cc_buf serial = CC_BUF_INIT(PKI_SERIAL_LEN);

    if (signer == NULL)
        make_signer();
    if (pki_ocsp_request_parse((struct cc_bytes){ data, size }, &request, NULL) != 0)
        return 0;
    for (size_t i = 0; i < pki_ocsp_request_count(request); i++) {
        if (pki_ocsp_request_certid(request, i).len == 0)
            abort();
        (void)pki_ocsp_request_is_for(request, i, signer);
        cc_buf_reset(&serial);
        (void)!pki_ocsp_request_serial(request, i, &serial, NULL);
    }
    answer(request);
    pki_ocsp_request_free(request);
    cc_buf_free(&serial);
    return 0;
}
