/* SPDX-License-Identifier: MIT */
#ifndef PKI_CRL_H
#define PKI_CRL_H

/*
 * Certificate revocation lists (RFC 5280 section 5), written as a stream: the memory needed does not grow with the
 * number of entries, which OpenSSL's X509_CRL would take hundreds of bytes each for.  The entries are counted and
 * collected in an unlinked temporary file, then hashed, signed and copied out.
 *
 * One thread at a time per writer.
 */

#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "pki/plan.h"

/* CRLReason, RFC 5280 section 5.3.1. */
enum pki_reason {
    PKI_REASON_UNSPECIFIED = 0,
    PKI_REASON_KEY_COMPROMISE = 1,
    PKI_REASON_CA_COMPROMISE = 2,
    PKI_REASON_AFFILIATION_CHANGED = 3,
    PKI_REASON_SUPERSEDED = 4,
    PKI_REASON_CESSATION_OF_OPERATION = 5,
    PKI_REASON_CERTIFICATE_HOLD = 6,
    PKI_REASON_REMOVE_FROM_CRL = 8, /* only in delta CRLs */
    PKI_REASON_PRIVILEGE_WITHDRAWN = 9,
    PKI_REASON_AA_COMPROMISE = 10
};

/* "keyCompromise" … as RFC 5280 spells them, ASCII case ignored when parsing; -1. */
int pki_reason_parse(const char *name);
const char *pki_reason_name(enum pki_reason reason);

struct pki_crl_writer;

struct pki_crl_settings {
    const struct pki_issuer *issuer; /* certificate and key; borrowed until finish */
    int64_t this_update_ms, next_update_ms;
    int64_t number;
    int64_t base_number; /* of a delta CRL, the CRL that it goes with; -1: a full one */
    const struct pki_texts
            *freshest_urls; /* of a full one: where deltas are (freshestCRL); NULL: none */
    const char *folder;     /* where the temporary file goes */
};

CC_MUST int pki_crl_begin(const struct pki_crl_settings *settings,
        struct pki_crl_writer **ret_writer, struct cc_err *err);

/* serial: INTEGER bytes.  invalidity_ms: 0: not known. */
CC_MUST int pki_crl_add(struct pki_crl_writer *writer, struct cc_bytes serial, int64_t revoked_ms,
        enum pki_reason reason, int64_t invalidity_ms, struct cc_err *err);

/* Signs.  *ret_fd: an unlinked file with the CRL, DER, positioned at its beginning; *ret_len: bytes.  Yours to close. */
CC_MUST int pki_crl_finish(struct pki_crl_writer *writer, int *ret_fd, int64_t *ret_len,
        struct cc_err *err);
void pki_crl_writer_free(struct pki_crl_writer *writer); /* accepts NULL; after finish, too */

#endif
