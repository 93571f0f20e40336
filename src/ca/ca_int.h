/* SPDX-License-Identifier: MIT */
#ifndef CA_CA_INT_H
#define CA_CA_INT_H

/*
 * Between the calls of ca/ca.h and the drivers: what a kind of CA has to offer.  Each driver's struct begins with a
 * struct ca.  What a driver cannot is NULL, and the capability is not set.
 */

#include <stdatomic.h>

#include "ca/ca.h"

/* What was checked of a request before a driver sees it; borrowed. */
struct ca_checked {
    const struct ca_request *request;
    X509_REQ *csr; /* parsed for this call; NULL: there is none, or the caller had it */
    EVP_PKEY *key; /* of the request */
};

struct ca_driver {
    const char *kind;
    unsigned capabilities;
    void (*close)(struct ca *ca);

    enum ca_outcome (*issue)(struct ca *ca, const struct ca_checked *checked,
            X509 **ret_certificate, struct cc_buf *ret_pending, struct cc_err *err);
    enum ca_outcome (*poll)(struct ca *ca, const struct ca_checked *checked, const char *pending,
            X509 **ret_certificate, struct cc_buf *ret_pending, struct cc_err *err);
    enum ca_outcome (*find)(struct ca *ca, const char *request_id, int64_t deadline,
            X509 **ret_certificate, struct cc_err *err);
    enum ca_outcome (*revoke)(struct ca *ca, const struct ca_revocation *revocation,
            bool *ret_already, struct cc_err *err);
    enum ca_outcome (
            *release)(struct ca *ca, struct cc_bytes serial, int64_t deadline, struct cc_err *err);
    enum ca_outcome (*status)(struct ca *ca, struct cc_bytes serial, int64_t deadline,
            enum ca_status *ret_status, struct cc_err *err);
    enum ca_outcome (*certificate)(struct ca *ca, struct cc_bytes serial, int64_t deadline,
            X509 **ret_certificate, struct cc_err *err);
    enum ca_outcome (*crl)(struct ca *ca, size_t max, int64_t deadline, X509_CRL **ret_crl,
            struct cc_err *err);
    enum ca_outcome (*chain)(struct ca *ca, int64_t deadline, STACK_OF(X509) **ret_chain,
            struct cc_err *err);
    enum ca_outcome (*check)(struct ca *ca, int64_t deadline, struct cc_err *err);
};

struct ca {
    const struct ca_driver *driver;
    char *name;

    /* Of ca.c; all zero at first. */
    struct cc_histogram time[CA_OPERATIONS];
    atomic_uint_fast64_t count[CA_OPERATIONS][CA_OUTCOMES];
};

/* The serial of a certificate as INTEGER bytes; appended. */
CC_MUST int ca_serial_of(const X509 *certificate, struct cc_buf *ret, struct cc_err *err);

#endif
