/* SPDX-License-Identifier: MIT */
/* $filter of the stand-in's collections: what is taken keeps its bounds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tenant/odata_filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct odata_filter filter;
    char *text = malloc(size + 1);

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (odata_filter_parse(text, &filter, NULL) == 0) {
        if (filter.count == 0 || filter.count > ODATA_TERMS_MAX)
            abort();
        for (size_t i = 0; i < filter.count; i++) {
            const struct odata_term *term = &filter.terms[i];

            if (strnlen(term->property, sizeof(term->property)) == sizeof(term->property) ||
                    strnlen(term->value, sizeof(term->value)) == sizeof(term->value) ||
                    term->property[0] == '\0')
                abort();
        }
    }
    free(text);
    return 0;
}
