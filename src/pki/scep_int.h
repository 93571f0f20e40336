/* SPDX-License-Identifier: MIT */
#ifndef SCEP_INT_H
#define SCEP_INT_H

/* Shared by the files that read and write SCEP messages. */

#include <openssl/cms.h>

#include "base/buf.h"

/* RFC 8894 section 3.2 */
enum scep_attribute {
    SCEP_MESSAGE_TYPE,
    SCEP_PKI_STATUS,
    SCEP_FAIL_INFO,
    SCEP_FAIL_INFO_TEXT,
    SCEP_SENDER_NONCE,
    SCEP_RECIPIENT_NONCE,
    SCEP_TRANSACTION_ID,
    SCEP_ATTRIBUTES
};

/* Lives as long as the process; NULL without memory. */
ASN1_OBJECT *scep_attribute_oid(enum scep_attribute which);

/* The signed attributes as SET OF in DER, as they are signed (RFC 5652 section 5.4); appended.  -1 without memory. */
int scep_attributes_sorted(const CMS_SignerInfo *signer, struct cc_buf *ret);

#endif
