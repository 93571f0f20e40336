/* SPDX-License-Identifier: MIT */
#include "pki/pfx.h"

#include <stdlib.h>
#include <string.h>

/*
 * A PFX as a peer hands it to us, with the password that the corpus was made with.  Iterations are capped at two
 * million, which is a second; the corpus has few, and a mutated count that is high only makes the run slow.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cc_bytes password = cc_bytes_of_str("test-password");
    char thumbprint[PKI_THUMBPRINT_LEN] = "";
    struct pki_pfx_info info;
    struct cc_err err = { 0 };

    (void)!pki_pfx_check_thumbprint((struct cc_bytes){ data, size }, password, thumbprint, NULL);
    if (pki_pfx_check((struct cc_bytes){ data, size }, password, &info, &err) != 0) {
        if (err.domain == CC_DOM_NONE || err.text[0] == '\0')
            abort();
        return 0;
    }
    if (strlen(info.thumbprint) != PKI_THUMBPRINT_LEN - 1 ||
            strlen(info.subject) >= sizeof(info.subject) ||
            strcmp(info.thumbprint, thumbprint) != 0)
        abort();
    return 0;
}
