/* SPDX-License-Identifier: MIT */
#ifndef PKI_NAME_H
#define PKI_NAME_H

/*
 * Distinguished names as text (RFC 4514) and alternative names by kind, with errors that name the part at fault.
 * Pure functions; any thread.
 */

#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

#define PKI_NAME_TEXT_MAX 4096 /* bytes of a name as text */

/*
 * RFC 4514 section 3: "CN=Device 7,OU=Sales\, East,O=Contoso", all escapes, "#" values, multi-valued RDNs, dotted OIDs.
 * The first RDN of the text is the last of the Name (RFC 4514 section 2.1).  Attribute types: those of RFC 4519 and the
 * usual ones beside (E, emailAddress, serialNumber, G, SN, T …), any case.  Values are UTF8String but for those whose
 * type RFC 5280 fixes (C, serialNumber: PrintableString; DC, emailAddress: IA5String).  Refused, each by name: empty
 * values, NUL and other control characters, text that is not UTF-8, values beyond their upper bound (RFC 5280 appendix
 * A.1), unknown types.  An empty text is an empty Name.  Yours to free.
 */
CC_MUST int pki_name_parse(const char *text, X509_NAME **ret_name, struct cc_err *err);

/* The reverse, RFC 4514 section 2; appended. */
CC_MUST int pki_name_format(const X509_NAME *name, struct cc_buf *ret, struct cc_err *err);

/* DER of a Name, appended, and back; nothing may follow it. */
CC_MUST int pki_name_write(const X509_NAME *name, struct cc_buf *ret, struct cc_err *err);
CC_MUST int pki_name_read(struct cc_bytes der, X509_NAME **ret_name, struct cc_err *err);

enum pki_san_type {
    PKI_SAN_UPN,   /* otherName 1.3.6.1.4.1.311.20.2.3, UTF8String */
    PKI_SAN_EMAIL, /* rfc822Name */
    PKI_SAN_DNS,
    PKI_SAN_URI,
    PKI_SAN_IP, /* v4 or v6 text */
    PKI_SAN_GUID, /* otherName 1.3.6.1.4.1.311.25.1, OCTET STRING of 16 bytes as Windows orders them */
    PKI_SAN_TYPES
};

/* "upn", "email", "dns", "uri", "ip", "guid"; -1 for another text. */
int pki_san_type_parse(const char *name);
const char *pki_san_type_name(enum pki_san_type type);

/* Borrowed strings. */
struct pki_san {
    enum pki_san_type type;
    const char *value;
};

/*
 * GeneralNames of these, in their order; yours to free.  NULL for none.  Each value is checked by its type (DNS: letter,
 * digit, hyphen labels, a leading "*." allowed; no NUL, no control characters); the error names type and place.
 */
CC_MUST int pki_san_build(const struct pki_san *sans, size_t count, GENERAL_NAMES **ret_names,
        struct cc_err *err);

/*
 * Strong mapping: "S-1-5-21-…".  The value of the extension 1.3.6.1.4.1.311.25.2 (szOID_NTDS_CA_SECURITY_EXT), DER,
 * appended; and the text of the URI form.
 */
#define PKI_SID_MAX 185 /* characters of the longest there is, and NUL */
#define PKI_SID_URI_MAX 256
CC_MUST int pki_sid_check(const char *sid, struct cc_err *err);
CC_MUST int pki_sid_extension(const char *sid, struct cc_buf *ret_value, struct cc_err *err);
CC_MUST int pki_sid_uri(const char *sid, struct cc_buf *ret_text, struct cc_err *err);
bool pki_is_sid_uri(const char *uri);        /* any case, whatever follows */
const char *pki_sid_of_uri(const char *uri); /* what follows, in one of these */

#endif
