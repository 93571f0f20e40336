/* SPDX-License-Identifier: MIT */
#ifndef PKI_INT_H
#define PKI_INT_H

/* Shared by the files of room pki. */

#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "pki/crl.h"
#include "pki/ocsp.h"
#include "pki/password.h"
#include "pki/plan.h"

/* Borrowed. */
const EVP_CIPHER *pki_content_cipher_evp(enum pki_content_cipher cipher);

/* A block cipher by its number, and the library context that it comes from (NULL: the default one).  Borrowed; NULL where
   OpenSSL has none. */
const EVP_CIPHER *pki_cipher_get0(int nid);
OSSL_LIB_CTX *pki_cipher_libctx(int nid);

/* Names that Microsoft gave numbers to. */
#define PKI_OID_UPN "1.3.6.1.4.1.311.20.2.3"
#define PKI_OID_NTDS_GUID "1.3.6.1.4.1.311.25.1"
#define PKI_OID_NTDS_CA_SECURITY "1.3.6.1.4.1.311.25.2"
#define PKI_OID_NTDS_OBJECTSID "1.3.6.1.4.1.311.25.2.1"

/* A DNS name, "*." in front allowed, and local@domain; in ASCII. */
bool pki_is_dns_name(const char *name);
bool pki_is_mailbox(const char *text);

/* keyUsage as OpenSSL has it; NULL without memory. */
ASN1_BIT_STRING *pki_key_usage_bits(unsigned key_usages);

/* One distribution point with these places; NULL without memory. */
CRL_DIST_POINTS *pki_distribution_points(const struct pki_texts *urls);

/* Usages that a key of this kind has: RFC 5480 section 3 gives EC keys no encipherment, RFC 3279 section 2.3.1 RSA keys
   no agreement. */
unsigned pki_key_usages_of(unsigned key_usages, bool is_ec);

/* The key of a certificate that is being made: its SubjectPublicKeyInfo, from which X509_get0_pubkey() need not have a
   key yet.  0 with OpenSSL's error. */
CC_MUST int pki_spki_set(X509 *cert, EVP_PKEY *key);

/* Yours to free; NULL with OpenSSL's error. */
X509_PUBKEY *pki_spki_new(const EVP_PKEY *key);

/* The digest of a signature where none was chosen: SHA-384 with a P-384 key, else SHA-256.  Borrowed. */
const EVP_MD *pki_signature_md(const EVP_PKEY *key);

/* The crlExtensions of a CRL, DER of Extensions, appended. */
CC_MUST int pki_crl_extensions(const struct pki_crl_settings *settings, struct cc_buf *ret,
        struct cc_err *err);

/* OpenSSL's objects in a request; borrowed. */
OCSP_REQUEST *pki_ocsp_request_get0(const struct pki_ocsp_request *request);
OCSP_CERTID *pki_ocsp_request_get0_id(const struct pki_ocsp_request *request, size_t i);

#endif
