/* SPDX-License-Identifier: MIT */
#ifndef PKI_PLAN_H
#define PKI_PLAN_H

/*
 * What a certificate shall be: rules (profile), wishes (ask), and what comes of both (plan).
 *
 * A plan is made before anything is sent to a CA, and whatever the CA answers is compared with it before anybody gets
 * it.  Profiles are constant and may be read by any thread; a plan belongs to one.  Nothing here is secret.
 * Refusals are CC_DOM_INPUT and name the field.
 */

#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "pki/keyspec.h"
#include "pki/name.h"

#define PKI_DAY_MS (INT64_C(24) * 3600 * 1000)

enum pki_sid_form { PKI_SID_NONE, PKI_SID_EXTENSION, PKI_SID_URI };

/* A list of texts, borrowed. */
struct pki_texts {
    const char *const *text;
    size_t count;
};

/*
 * The rules of one kind of certificate.  Everything is borrowed from who made it (the configuration) and outlives its
 * users.  Lists that are empty allow nothing, unless it says otherwise.
 */
struct pki_profile {
    const char *name;
    int64_t validity_ms; /* the longest */
    int64_t backdate_ms; /* notBefore lies so much before now, for clocks that are behind */
    unsigned
            key_usages; /* allowed, and taken when none are asked for: X509v3 bits, KU_* of x509v3.h */
    struct pki_texts extended_key_usages; /* dotted OIDs; the same */
    struct pki_texts
            subject_attributes; /* "CN", "O" … that a subject may have; empty: any known one */
    unsigned san_types;         /* bit 1 << enum pki_san_type */
    struct pki_texts
            san_domains; /* DNS names, and domains of e-mail and UPN: equal or below one; empty: any */
    unsigned key_specs;        /* bit 1 << enum pki_keyspec: keys that are certified */
    struct pki_texts policies; /* certificatePolicies, dotted OIDs */
    struct pki_texts crl_urls, delta_crl_urls, issuer_urls, ocsp_urls;
    enum pki_sid_form sid;
};

/* Key usages as RFC 5280 section 4.2.1.3 spells them ("digitalSignature"); 0 for another text. */
unsigned pki_key_usage_parse(const char *name);

/* Extended key usage: a name of RFC 5280 ("clientAuth", with or without "id-kp-") or a dotted OID, as dotted OID; -1. */
CC_MUST int pki_extended_key_usage_parse(const char *name, char *ret_oid, size_t size,
        struct cc_err *err);

/* What is asked for; borrowed. */
struct pki_ask {
    const char *subject; /* RFC 4514 */
    const struct pki_san *sans;
    size_t san_count;
    unsigned key_usages;                  /* 0: the profile's */
    struct pki_texts extended_key_usages; /* dotted OIDs; none: the profile's */
    const char *sid;                      /* NULL: none */
    int64_t validity_ms; /* 0: the profile's; longer ones are shortened to the profile's */
};

struct pki_plan {
    X509_NAME *subject;
    GENERAL_NAMES *sans; /* NULL: none; with the SID's URI where the profile has it so */
    unsigned key_usages;
    STACK_OF(ASN1_OBJECT) *extended_key_usages; /* NULL: none */
    int64_t not_before_ms, not_after_ms;        /* whole seconds */
    bool is_ca;
    int path_len;                      /* of a CA; -1: no limit */
    bool ocsp_no_check;                /* RFC 6960 section 4.2.2.2.1 */
    char sid[192];                     /* for the extension; "": none */
    const struct pki_profile *profile; /* borrowed; for policies and URLs; may be NULL */
};

/* Yours to free with pki_plan_free().  A subject or SAN that the profile does not allow is refused, never dropped. */
CC_MUST int pki_plan_make(const struct pki_profile *profile, const struct pki_ask *ask,
        int64_t now_ms, struct pki_plan **ret_plan, struct cc_err *err);
void pki_plan_free(struct pki_plan *plan); /* accepts NULL */

/* An empty plan, to be filled (for CA and OCSP certificates). */
CC_MUST struct pki_plan *pki_plan_new(struct cc_err *err);
CC_MUST int pki_plan_add_extended_key_usage(struct pki_plan *plan, const char *oid,
        struct cc_err *err);

/* The extensions of a request (PKCS #9 extensionRequest): SAN, key usages, SID; DER of Extensions, appended; nothing
   when there are none. */
CC_MUST int pki_plan_extensions(const struct pki_plan *plan, struct cc_buf *ret_der,
        struct cc_err *err);

/*
 * Whether cert is what was planned: the key, the subject, SANs (as a set), key usages (an EC key has no encipherment,
 * RFC 5480 section 3), extended key usages, SID, no CA, validity not longer than asked, no critical extension that we do
 * not know.  -1 names the first difference.
 */
CC_MUST int pki_plan_compare(const struct pki_plan *plan, const EVP_PKEY *public_key, X509 *cert,
        struct cc_err *err);

/* The same of who it is for alone: subject, SANs (as a set), SID. */
CC_MUST int pki_plan_compare_identity(const struct pki_plan *plan, X509 *cert, struct cc_err *err);

/* Who signs. */
struct pki_issuer {
    X509 *certificate; /* NULL: the new certificate signs itself, with key */
    EVP_PKEY *key;     /* may live on a token */
    const EVP_MD *md;  /* of the signature; NULL: SHA-256, SHA-384 with P-384 */
};

#define PKI_SERIAL_LEN 20 /* bytes of a serial of ours, the most that RFC 5280 allows */

/*
 * Builds the certificate, has it linted (pki/lint.h), and signs it.  serial: INTEGER bytes, positive.  Yours to free.
 * Never outlives its issuer's certificate: notAfter is cut to the issuer's.
 */
CC_MUST int pki_cert_issue(const struct pki_plan *plan, struct cc_bytes serial,
        EVP_PKEY *public_key, const struct pki_issuer *issuer, X509 **ret_cert, struct cc_err *err);

#endif
