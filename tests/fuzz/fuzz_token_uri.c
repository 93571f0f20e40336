/* SPDX-License-Identifier: MIT */

/* A PKCS#11 URI of any bytes: refused with a reason, or read into terminated fields that say no more than the text. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hsm/token/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_field(const char *field, size_t size)
{
    if (memchr(field, '\0', size) == NULL)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct p11_uri uri, key;
    struct cc_err err = { .domain = CC_DOM_NONE };

    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (p11_uri_parse(text, &uri, &err) == 0) {
        check_field(uri.token, sizeof(uri.token));
        check_field(uri.manufacturer, sizeof(uri.manufacturer));
        check_field(uri.model, sizeof(uri.model));
        check_field(uri.serial, sizeof(uri.serial));
        check_field(uri.object, sizeof(uri.object));
        check_field(uri.pin_source, sizeof(uri.pin_source));
        if (uri.id_len > sizeof(uri.id))
            abort();
        /* Within itself a key's URI contradicts nothing. */
        if (uri.pin_source[0] == '\0' && (uri.object[0] != '\0' || uri.id_len > 0) &&
                p11_uri_parse_key(text, &uri, &key, NULL) != 0)
            abort();
    } else if (err.text[0] == '\0') {
        abort();
    }
    free(text);
    return 0;
}
