/* SPDX-License-Identifier: MIT */
#ifndef PKI_INT_H
#define PKI_INT_H

/* Shared by the files of room pki. */

#include <openssl/types.h>

#include "pki/password.h"

/* Borrowed. */
const EVP_CIPHER *pki_content_cipher_evp(enum pki_content_cipher cipher);

#endif
