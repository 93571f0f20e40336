/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_TEXT_H
#define HSM_TOKEN_TEXT_H

/* The blank-padded texts of PKCS#11 structures.  Any thread. */

#include <p11-kit/pkcs11.h>
#include <stddef.h>

/* Bytes before the padding; some tokens pad with NUL. */
size_t p11_text_len(const CK_UTF8CHAR *field, size_t size);

/* As a string; ret has room for size + 1. */
void p11_text_copy(const CK_UTF8CHAR *field, size_t size, char *ret);

#endif
