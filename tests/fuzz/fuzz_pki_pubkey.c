/* SPDX-License-Identifier: MIT */
#include "pki/pubkey.h"

#include <openssl/evp.h>
#include <stdlib.h>

/* A public-key file of either format; what is read can be written in all forms and read back as the same key. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
write_and_read(EVP_PKEY *key,
        int (*write)(const EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err),
        int (*read)(struct cc_bytes file, EVP_PKEY **ret_key, struct cc_err *err))
{
    struct cc_buf file = CC_BUF_INIT(65536);
    EVP_PKEY *back = NULL;

    if (write(key, &file, NULL) == 0) {
        if (read(cc_buf_bytes(&file), &back, NULL) == 0 && EVP_PKEY_eq(key, back) != 1)
            abort();
        EVP_PKEY_free(back);
    }
    cc_buf_free(&file);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    EVP_PKEY *key = NULL;

    if (pki_pubkey_read((struct cc_bytes){ data, size }, &key, NULL) == 0) {
        write_and_read(key, pki_pubkey_write_cng, pki_pubkey_read);
        write_and_read(key, pki_pubkey_write_pem, pki_pubkey_read);
    }
    EVP_PKEY_free(key);
    key = NULL;
    if (pki_pubkey_parse_spki((struct cc_bytes){ data, size }, &key, NULL) == 0)
        write_and_read(key, pki_pubkey_write_spki, pki_pubkey_parse_spki);
    EVP_PKEY_free(key);
    return 0;
}
