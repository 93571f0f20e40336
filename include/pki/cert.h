/* SPDX-License-Identifier: MIT */
#ifndef PKI_CERT_H
#define PKI_CERT_H

/* Certificates of others, read and judged (RFC 5280).  Threads: any, on objects of their own. */

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

#define PKI_CERT_MAX 65536 /* bytes of DER */

/* One certificate and nothing behind it; yours to free with X509_free(). */
CC_MUST int pki_cert_parse(struct cc_bytes der, X509 **ret_cert, struct cc_err *err);

/*
 * All certificates of a PEM text, in its order, whatever stands between them; at least one.  Damaged PEM is an error: what
 * stands behind it would be lost silently.  Yours to free with sk_X509_pop_free().
 */
CC_MUST int pki_certs_read_pem(struct cc_bytes text, STACK_OF(X509) **ret_certs,
        struct cc_err *err);

/* SHA-1 over the DER, lower-case hexadecimal: the name that Windows and Graph give a certificate. */
#define PKI_THUMBPRINT_LEN 41
CC_MUST int pki_cert_thumbprint(const X509 *cert, char ret_hex[PKI_THUMBPRINT_LEN],
        struct cc_err *err);

/* notBefore and notAfter in milliseconds since 1970. */
CC_MUST int pki_cert_validity(const X509 *cert, int64_t *ret_not_before_ms,
        int64_t *ret_not_after_ms, struct cc_err *err);

/* A certificate that secrets may be encrypted to: RSA of 2048 to 8192 bits, now_ms within its validity. */
CC_MUST int pki_cert_check_recipient(X509 *cert, int64_t now_ms, struct cc_err *err);

/* Serial number as the project reports it: upper-case hexadecimal, no leading zero octets; appended. */
CC_MUST int pki_cert_serial(const X509 *cert, struct cc_buf *ret, struct cc_err *err);

#endif
