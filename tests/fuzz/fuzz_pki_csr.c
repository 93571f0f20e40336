/* SPDX-License-Identifier: MIT */
#include "pki/csr.h"

#include <stdlib.h>

/* A request for a certificate, and what it asks for.  Its signature is not looked at: few inputs would get past it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pki_csr_ask *ask = NULL;
    X509_REQ *csr = NULL;
    struct cc_err err = { 0 };

    if (pki_csr_parse((struct cc_bytes){ data, size }, &csr, &err) != 0) {
        if (err.domain == CC_DOM_NONE || err.text[0] == '\0')
            abort();
        return 0;
    }
    (void)!pki_csr_verify(csr, NULL);
    if (pki_csr_read_ask(csr, &ask, &err) == 0 && pki_csr_ask_get0(ask) == NULL)
        abort();
    pki_csr_ask_free(ask);
    X509_REQ_free(csr);
    return 0;
}
