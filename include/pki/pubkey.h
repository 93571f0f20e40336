/* SPDX-License-Identifier: MIT */
#ifndef PKI_PUBKEY_H
#define PKI_PUBKEY_H

/* Public-key files: PEM SubjectPublicKeyInfo, and Windows' BCRYPT_RSAPUBLIC_BLOB ("CNG blob").  Threads: any. */

#include <openssl/types.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

/* Either format, told by its first bytes; yours to free. */
CC_MUST int pki_pubkey_read(struct cc_bytes file, EVP_PKEY **ret_key, struct cc_err *err);

CC_MUST int pki_pubkey_parse_spki(struct cc_bytes der, EVP_PKEY **ret_key, struct cc_err *err);
CC_MUST int pki_pubkey_write_spki(const EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err);
CC_MUST int pki_pubkey_write_pem(const EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err);

/* RSA only. */
CC_MUST int pki_pubkey_write_cng(const EVP_PKEY *key, struct cc_buf *ret, struct cc_err *err);

#endif
