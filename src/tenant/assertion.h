/* SPDX-License-Identifier: MIT */
#ifndef TENANT_ASSERTION_H
#define TENANT_ASSERTION_H

/*
 * Client assertions (RFC 7523): a JWS in compact form, RS256 or PS256, under the key of a certificate that the client
 * was registered with.  Any thread.
 */

#include "tenant_int.h"

#define ASSERTION_MAX 32768 /* bytes of one; its header may have a chain of certificates */

enum assertion_verdict {
    ASSERTION_GOOD,
    ASSERTION_MALFORMED,
    ASSERTION_KEY,         /* a signature that is not good, or by a key that is not the client's */
    ASSERTION_CERTIFICATE, /* the certificate has ended, or has not begun */
    ASSERTION_CLIENT,      /* iss or sub is not the client */
    ASSERTION_AUDIENCE,    /* aud is not this token endpoint */
    ASSERTION_TIME,        /* too early, too late, or good for too long */
    ASSERTION_REPEATED     /* it was here before */
};

/* base: the URL that the client sees, without a slash at its end.  A good assertion is remembered for as long as it is
   valid. */
CC_MUST int assertion_check(struct tenant *tenant, const char *base, const char *client_id,
        const char *assertion, enum assertion_verdict *ret, struct cc_err *err);

/* Registers a certificate, DER or PEM; CC_DOM_INPUT for what is none, or not of an RSA key of 2048 bits at least. */
CC_MUST int assertion_register(struct tenant_store *store, const char *client_id,
        struct cc_bytes certificate, struct cc_err *err);

#endif
