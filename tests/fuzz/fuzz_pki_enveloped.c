/* SPDX-License-Identifier: MIT */
#include "pki/enveloped.h"

#include <openssl/evp.h>
#include <stdlib.h>

/* The message that an uploaded password came in. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pki_enveloped message;
    struct cc_err err = { 0 };

    pki_enveloped_init(&message);
    if (pki_enveloped_data_read((struct cc_bytes){ data, size }, &message, &err) != 0) {
        if (err.domain == CC_DOM_NONE || err.text[0] == '\0')
            abort();
    } else if (EVP_get_cipherbynid(message.cipher_nid) == NULL ||
               message.iv_len > sizeof(message.iv) ||
               message.iv_len !=
                       (size_t)EVP_CIPHER_get_iv_length(EVP_get_cipherbynid(message.cipher_nid)) ||
               message.encrypted_key.len + message.ciphertext.len >= size) {
        abort();
    }
    pki_enveloped_free(&message);
    return 0;
}
