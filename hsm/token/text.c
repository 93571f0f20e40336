/* SPDX-License-Identifier: MIT */
#include "hsm/token/text.h"

#include <string.h>

size_t
p11_text_len(const CK_UTF8CHAR *field, size_t size)
{
    const void *nul = memchr(field, '\0', size);

    if (nul != NULL)
        size = (size_t)((const CK_UTF8CHAR *)nul - field);
    while (size > 0 && field[size - 1] == ' ')
        size--;
    return size;
}

void
p11_text_copy(const CK_UTF8CHAR *field, size_t size, char *ret)
{
    const size_t len = p11_text_len(field, size);

    memcpy(ret, field, len);
    ret[len] = '\0';
}
