/* SPDX-License-Identifier: MIT */
#include "pki/pfx.h"

#include <openssl/pkcs12.h>
#include <stdlib.h>
#include <string.h>

/*
 * What lies behind the MAC of a PFX: the input is its AuthenticatedSafe, which gets a right MAC here.  Whoever knows
 * the password can write anything there.
 */
#define PASSWORD "test-password"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned char *
put(unsigned char *out, int constructed, size_t len, int tag, int class)
{
    ASN1_put_object(&out, constructed, (int)len, tag, class);
    return out;
}

/* PFX ::= SEQUENCE { version 3, ContentInfo { id-data, [0] { OCTET STRING } } }; yours to free. */
static PKCS12 *
wrap(const uint8_t *data, size_t size)
{
    static const uint8_t version[] = { 0x02, 0x01, 0x03 };
    static const uint8_t id_data[] = { 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07,
        0x01 };
    size_t octets = (size_t)ASN1_object_size(0, (int)size, V_ASN1_OCTET_STRING);
    size_t content = (size_t)ASN1_object_size(1, (int)octets, 0);
    size_t info = (size_t)ASN1_object_size(1, (int)(sizeof(id_data) + content), V_ASN1_SEQUENCE);
    unsigned char *der = malloc(size + 128);
    unsigned char *at = der;
    const unsigned char *read = der;
    PKCS12 *p12;

    if (der == NULL)
        abort();
    at = put(at, 1, sizeof(version) + info, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
    memcpy(at, version, sizeof(version));
    at += sizeof(version);
    at = put(at, 1, sizeof(id_data) + content, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
    memcpy(at, id_data, sizeof(id_data));
    at += sizeof(id_data);
    at = put(at, 1, octets, 0, V_ASN1_CONTEXT_SPECIFIC);
    at = put(at, 0, size, V_ASN1_OCTET_STRING, V_ASN1_UNIVERSAL);
    memcpy(at, data, size);
    at += size;

    p12 = d2i_PKCS12(NULL, &read, at - der);
    free(der);
    return p12;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PKCS12 *p12 = wrap(data, size);
    char thumbprint[PKI_THUMBPRINT_LEN];
    struct pki_pfx_info info;
    unsigned char *der = NULL;
    int len;

    if (p12 == NULL || !PKCS12_set_mac(p12, PASSWORD, -1, NULL, 0, 1, EVP_sha256()))
        abort();
    if ((len = i2d_PKCS12(p12, &der)) <= 0)
        abort();
    (void)!pki_pfx_check((struct cc_bytes){ der, (size_t)len }, cc_bytes_of_str(PASSWORD), &info,
            NULL);
    (void)!pki_pfx_check_thumbprint((struct cc_bytes){ der, (size_t)len },
            cc_bytes_of_str(PASSWORD), thumbprint, NULL);
    OPENSSL_free(der);
    PKCS12_free(p12);
    return 0;
}
