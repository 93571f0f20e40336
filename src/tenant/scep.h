/* SPDX-License-Identifier: MIT */
#ifndef TENANT_SCEP_H
#define TENANT_SCEP_H

/*
 * SCEP validation: what its files share.
 *
 * A refusal is an error of CC_DOM_INPUT whose code is an enum scep_code; its text is what the caller is told.
 */

#include <openssl/x509.h>

#include "tenant_int.h"

/* What the service says of a request; numbers as Microsoft's libraries have them.  Those that have a cause here. */
enum scep_code {
    SCEP_SUCCESS = 1,
    SCEP_REQUEST_DECODING_FAILED,
    SCEP_PASSWORD_MISSING,
    SCEP_CHALLENGE_DESERIALIZATION,
    SCEP_CHALLENGE_DECRYPTION,
    SCEP_CHALLENGE_DECODING,
    SCEP_CHALLENGE_TIMESTAMP,
    SCEP_CHALLENGE_EXPIRED,
    SCEP_SUBJECT_MISSING,
    SCEP_SUBJECT_MISMATCH,
    SCEP_SAN_MISSING,
    SCEP_SAN_MISMATCH,
    SCEP_KEY_USAGE_MISMATCH,
    SCEP_KEY_LENGTH_MISMATCH,
    SCEP_EKU_MISSING,
    SCEP_EKU_MISMATCH,
    SCEP_NOT_TARGETED = 20,
    SCEP_SIGNATURE,
    SCEP_BAD_REQUEST_ID,
    SCEP_BAD_TENANT_ID = 25 /* not in the libraries, but on the wire */
};

/* NULL for what is no code. */
const char *scep_code_name(long code);

/* ---- challenges (scep_challenge.c) ---- */

#define SCEP_CHALLENGE_MAX 4096 /* bytes of one, as text */

struct scep_challenge {
    char tenant_id[65], id[TENANT_UUID_LEN];
    int64_t issued_ms, expires_ms;
};

/* Makes the key that challenges are signed with at the first start, and reads it. */
CC_MUST int scep_key_load(struct tenant *tenant, struct cc_err *err);

/* Appends the text of a challenge. */
CC_MUST int scep_challenge_write(const struct tenant *tenant,
        const struct scep_challenge *challenge, struct cc_buf *ret, struct cc_err *err);

/* The reverse; refused unless it is one of this service's and now lies between its times. */
CC_MUST int scep_challenge_read(const struct tenant *tenant, const char *text, int64_t now_ms,
        struct scep_challenge *ret, struct cc_err *err);

/* ---- what a request has to be (scep_compare.c) ---- */

/* From the members of an order; CC_DOM_INPUT with code 0 for what cannot be.  Yours to free. */
struct scep_wants;
CC_MUST int scep_wants_read(json_object *order, struct scep_wants **ret_wants, struct cc_err *err);
void scep_wants_free(struct scep_wants *wants); /* accepts NULL */

CC_MUST int scep_compare(const struct scep_wants *wants, X509_REQ *csr, struct cc_err *err);

/* The one challengePassword of a request (RFC 2985 section 5.4.1) as UTF-8, appended; refused without one. */
CC_MUST int scep_challenge_of(X509_REQ *csr, struct cc_buf *ret, struct cc_err *err);

#endif
