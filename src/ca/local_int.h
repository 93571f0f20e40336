/* SPDX-License-Identifier: MIT */
#ifndef CA_LOCAL_INT_H
#define CA_LOCAL_INT_H

/*
 * The built-in authority, for its own files.
 *
 *   local.c        opening, the certificate and chain, what becomes of certificates
 *   local_issue.c  from a reserved serial to a recorded certificate, and what crashes left
 *   local_init.c   making an authority
 *   local_crl.c    CRLs
 *   local_ocsp.c   the OCSP signer
 */

#include <pthread.h>

#include "base/clock.h"
#include "ca/local.h"
#include "ca_int.h"
#include "store/instance.h"

struct ca_local {
    struct ca base;

    /* Constant. */
    struct store *store;      /* borrowed */
    struct hsm *hsm;          /* borrowed */
    struct hsm_key *key;      /* borrowed */
    struct hsm_key *ocsp_key; /* borrowed; NULL: none */
    const EVP_MD *md;         /* NULL: by the key */
    int64_t crl_validity_ms, crl_interval_ms, delta_interval_ms, ocsp_validity_ms;
    bool approval;
    int (*may_issue)(void *arg, struct cc_err *err);
    void *may_issue_arg;
    char *folder;
    struct pki_texts crl_urls, delta_crl_urls, issuer_urls, ocsp_urls;

    pthread_mutex_t lock;  /* guards what follows */
    X509 *certificate;     /* NULL: not read yet, or there is none */
    STACK_OF(X509) *chain; /* above it */
    int64_t read_at;       /* monotonic; 0: never */

    pthread_mutex_t crl_lock;  /* one CRL at a time; with no other lock held */
    pthread_mutex_t ocsp_lock; /* guards the signer; with no other lock held */
    X509 *ocsp_signer;
};

static inline struct ca_local *
ca_local_of(struct ca *ca)
{
    return (struct ca_local *)ca;
}

/* What an error that came of token, store or our own rules means to who asked. */
enum ca_outcome ca_local_outcome(struct cc_err *err);

/* The present certificate; yours to free.  CC_DOM_CONFIG when there is none or its time is over. */
CC_MUST int ca_local_certificate(struct ca_local *local, X509 **ret, struct cc_err *err);

/* Certificate and token key, to sign with: the certificate is yours to free. */
CC_MUST int ca_local_issuer(struct ca_local *local, struct pki_issuer *ret, struct cc_err *err);

/* A digest by its name, NULL for NULL; -1 for one that is not known. */
CC_MUST int ca_local_digest(const char *name, const EVP_MD **ret, struct cc_err *err);

/*
 * Reserves a serial, builds and signs the certificate of a plan, records it.  request_id may be NULL.  CA_UNKNOWN: it was
 * signed and could not be recorded.
 */
enum ca_outcome ca_local_issue_plan(struct ca_local *local, const struct pki_plan *plan,
        EVP_PKEY *public_key, const char *request_id, const char *profile, X509 **ret_certificate,
        struct cc_err *err);

/* SHA-256 of the SubjectPublicKeyInfo. */
CC_MUST int ca_local_key_hash(const EVP_PKEY *key, uint8_t ret[CADB_KEY_HASH_LEN],
        struct cc_err *err);

/* 20 random bytes of the token, positive. */
CC_MUST int ca_local_serial(struct hsm *hsm, uint8_t ret[PKI_SERIAL_LEN], struct cc_err *err);

/* Certificates in DER, one behind the other. */
CC_MUST int ca_local_read_chain(struct cc_bytes der, STACK_OF(X509) **ret, struct cc_err *err);

enum ca_outcome ca_local_issue(struct ca *ca, const struct ca_checked *checked,
        X509 **ret_certificate, struct cc_buf *ret_pending, struct cc_err *err);
enum ca_outcome ca_local_poll(struct ca *ca, const struct ca_checked *checked, const char *pending,
        X509 **ret_certificate, struct cc_buf *ret_pending, struct cc_err *err);
enum ca_outcome ca_local_find(struct ca *ca, const char *request_id, int64_t deadline,
        X509 **ret_certificate, struct cc_err *err);
enum ca_outcome ca_local_show_crl(struct ca *ca, size_t max, int64_t deadline, X509_CRL **ret_crl,
        struct cc_err *err);

#endif
