/* SPDX-License-Identifier: MIT */
#include "pki/name.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

/*
 * A subject as a peer writes it.  One that is read is written back, and that text is the same Name again; the bytes are
 * read as DER too.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
write_and_read(const X509_NAME *name)
{
    struct cc_buf text = CC_BUF_INIT(1 << 20);
    X509_NAME *again = NULL;

    if (pki_name_format(name, &text, NULL) != 0)
        abort();
    if (pki_name_parse(cc_buf_str(&text), &again, NULL) != 0 || X509_NAME_cmp(name, again) != 0)
        abort();
    X509_NAME_free(again);
    cc_buf_free(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    X509_NAME *name = NULL;
    struct cc_err err = { 0 };

    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (pki_name_parse(text, &name, &err) == 0)
        write_and_read(name);
    else if (err.domain == CC_DOM_NONE || err.text[0] == '\0')
        abort();
    X509_NAME_free(name);
    name = NULL;
    (void)!pki_name_read((struct cc_bytes){ data, size }, &name, NULL);
    X509_NAME_free(name);
    free(text);
    return 0;
}
