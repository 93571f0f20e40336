/* SPDX-License-Identifier: MIT */
#include "pki/cert.h"

#include <openssl/x509.h>
#include <stdlib.h>

#include "pki/password.h"

/* A recipient's certificate, through everything that is done with one: what is accepted can be encrypted for. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
use(X509 *cert)
{
    struct cc_buf out = CC_BUF_INIT(2 * PKI_CERT_MAX + 8192);
    char thumbprint[PKI_THUMBPRINT_LEN];
    int64_t from = 0;
    int64_t to = 0;

    if (pki_cert_thumbprint(cert, thumbprint, NULL) != 0 || pki_cert_serial(cert, &out, NULL) != 0)
        abort();
    if (pki_cert_validity(cert, &from, &to, NULL) == 0 &&
            pki_cert_check_recipient(cert, from, NULL) == 0)
        for (int form = PKI_PASSWORD_CMS; form <= PKI_PASSWORD_PKCS1; form++)
            (void)!pki_password_encrypt_for(cert, (enum pki_password_form)form, PKI_CIPHER_AES256,
                    cc_bytes_of_str("password"), &out, NULL);
    cc_buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    X509 *cert = NULL;

    if (pki_cert_parse((struct cc_bytes){ data, size }, &cert, NULL) != 0)
        return 0;
    use(cert);
    X509_free(cert);
    return 0;
}
