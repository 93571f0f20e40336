/* SPDX-License-Identifier: MIT */
#ifndef PKCS_PKCS_H
#define PKCS_PKCS_H

/*
 * The workload of PKCS requests: a key pair, a certificate for it, a PFX of both for the recipient.
 *
 *   download -> journal -> key pair (sealed) -> CSR -> journal (prepared) -> CA -> PFX -> journal (issued) -> upload
 *            -> journal -> event
 *
 * The private key and the password of the PFX exist in the token process alone; here the key is sealed.  What was
 * begun at a CA is looked up there before it is asked again, under an id that the journal holds.  A certificate whose
 * result the service did not take is revoked (superseded).
 *
 * A second kind of request (recrypt) has an existing PFX's password encrypted for a new recipient.
 *
 * Owns its threads (flow/flow.h), and one that fills the pool of ready RSA keys in idle time.  What it is given is
 * borrowed and must outlive it.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "ca/ca.h"
#include "eventlog/eventlog.h"
#include "flow/flow.h"
#include "hsm/hsm.h"
#include "intune/service.h"
#include "store/store.h"

struct pkcs;

/*
 * Which CA a request is for: the first entry whose authority and authority_name are NULL or equal to the request's
 * (ASCII case ignored); a request that names none, or none that is known, goes to the default, or is failed when there
 * is none.  And which profile: by the request's template name, else the CA's.
 */
struct pkcs_ca {
    struct ca *ca;
    const char *authority, *authority_name; /* as in the service's profiles; NULL: any */
    const struct pki_profile *profile;      /* when the request names no template; may be NULL */
};

struct pkcs_profile {
    const char *template_name;
    const struct pki_profile *profile;
};

struct pkcs_settings {
    struct hsm *hsm;
    struct hsm_key *seal;
    struct hsm_key *pfx_import; /* for recrypt; NULL: such requests are failed */
    struct intune *intune;
    struct store *store;
    struct eventlog *log;
    const char *connector_id;
    const struct pkcs_ca *cas; /* copied; the strings and profiles are borrowed */
    size_t ca_count;
    struct ca *default_ca; /* or NULL */
    const struct pkcs_profile *profiles;
    size_t profile_count;
    enum hsm_generation generation;
    enum hsm_reencrypt_mode reencrypt;
    unsigned pool; /* RSA-2048 keys kept ready; 0: none */
    unsigned workers, batch, max_attempts;
    int64_t poll_wait_ms;
};

CC_MUST int pkcs_start(const struct pkcs_settings *settings, struct pkcs **ret_work,
        struct cc_err *err);
CC_MUST int pkcs_reconfigure(struct pkcs *work, const struct pkcs_settings *settings,
        struct cc_err *err);

/* Ends and frees, as pfximport_stop(); accepts NULL. */
void pkcs_stop(struct pkcs *work, int64_t drain_ms);

/* Another instance of the store is gone: goes on with what it had in hand. */
void pkcs_adopt(struct pkcs *work);

struct pkcs_status {
    struct flow_status flow;
    int64_t pool_ready; /* keys */
};
void pkcs_get_status(struct pkcs *work, struct pkcs_status *ret);

#endif
