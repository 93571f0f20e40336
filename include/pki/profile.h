/* SPDX-License-Identifier: MIT */
#ifndef PKI_PROFILE_H
#define PKI_PROFILE_H

/* Profiles out of the words that a configuration has for them.  Any thread. */

#include "base/compiler.h"
#include "base/err.h"
#include "pki/plan.h"

/* As in a struct pki_profile, in words; borrowed. */
struct pki_profile_words {
    const char *name;
    int64_t validity_ms, backdate_ms;
    struct pki_texts key_usages;          /* "digitalSignature" … */
    struct pki_texts extended_key_usages; /* "clientAuth", or dotted OIDs */
    struct pki_texts subject_attributes;
    struct pki_texts san_types; /* "upn" … */
    struct pki_texts san_domains;
    struct pki_texts key_specs; /* "rsa2048" … */
    struct pki_texts policies;
    struct pki_texts crl_urls, delta_crl_urls, issuer_urls, ocsp_urls;
    enum pki_sid_form sid;
};

/* Copies everything; yours to free.  CC_DOM_CONFIG for a word that is not known. */
CC_MUST int pki_profile_new(const struct pki_profile_words *words, struct pki_profile **ret_profile,
        struct cc_err *err);
void pki_profile_free(struct pki_profile *profile); /* only of pki_profile_new(); accepts NULL */

/* A list of copies; pki_texts_free() undoes it. */
CC_MUST int pki_texts_copy(const struct pki_texts *texts, struct pki_texts *ret,
        struct cc_err *err);
void pki_texts_free(struct pki_texts *texts);

#endif
