/* SPDX-License-Identifier: MIT */
#ifndef PKCS_PKCS_INT_H
#define PKCS_PKCS_INT_H

/*
 * The workload, for its own files.
 *
 *   pkcs.c     settings, begin and end, what the flow calls
 *   ask.c      a request as profile, wishes and plan
 *   issue.c    from a plan to a PFX
 *   note.c     what the journal holds of a request that was begun
 *   pool.c     keys made ahead
 *   recrypt.c  an existing PFX for a new recipient
 */

#include <pthread.h>

#include "flow/flow.h"
#include "intune/fault.h"
#include "intune/pkcs.h"
#include "pkcs/pkcs.h"
#include "pki/keyspec.h"
#include "pki/password.h"
#include "pki/pfx.h"
#include "pki/plan.h"

#define PKCS_CAS_MAX 64
#define PKCS_PROFILES_MAX 64
#define PKCS_CA_DEADLINE_MS 60000
#define PKCS_SEALED_MAX 16384
#define PKCS_CSR_MAX 65536
#define PKCS_OUTPUT_MAX ((size_t)256 * 1024) /* of a PFX, and of an encrypted password */

struct pool;

/* The settings as one request sees them; the strings are borrowed from the configuration. */
struct pkcs_view {
    struct pkcs_ca cas[PKCS_CAS_MAX];
    size_t ca_count;
    struct ca *default_ca;
    struct pkcs_profile profiles[PKCS_PROFILES_MAX];
    size_t profile_count;
    enum hsm_generation generation;
    enum hsm_reencrypt_mode reencrypt;
};

struct pkcs {
    struct flow *flow;
    struct hsm *hsm;            /* borrowed */
    struct hsm_key *seal;       /* borrowed */
    struct hsm_key *pfx_import; /* borrowed; NULL: none */
    struct store *store;        /* borrowed */
    struct eventlog *log;       /* borrowed */
    struct pool *pool;

    pthread_mutex_t lock; /* guards what may change while running */
    struct pkcs_view view;
};

/* How the result is to be delivered. */
struct pkcs_delivery {
    enum pki_password_form form;
    enum pki_content_cipher cipher;
    enum pki_pfx_encryption encryption;
};

/* ---- ask.c: each refusal is CC_DOM_SERVICE with the code of the wire ---- */

int pkcs_refuse(struct cc_err *err, enum intune_error_code code, const struct cc_err *cause,
        const char *what);

CC_MUST int pkcs_read_delivery(const struct intune_pkcs_request *wire, struct pkcs_delivery *ret,
        struct cc_err *err);

/* The CA that a request names, or the one by default; borrowed from the view, NULL: none. */
const struct pkcs_ca *pkcs_find_ca(const struct pkcs_view *view,
        const struct intune_pkcs_request *wire);

/* The CA of a request, and the profile. */
CC_MUST int pkcs_choose(const struct pkcs_view *view, const struct intune_pkcs_request *wire,
        struct ca **ret_ca, const struct pki_profile **ret_profile, struct cc_err *err);

/* Yours to free. */
CC_MUST int pkcs_make_plan(const struct intune_pkcs_request *wire,
        const struct pki_profile *profile, int64_t now_ms, struct pki_plan **ret_plan,
        struct cc_err *err);

/* ---- note.c ---- */

/* What must be known of a request that was begun; nothing in it is secret, as the key is sealed. */
struct pkcs_note {
    char ca_request_id[CA_REQUEST_ID_MAX + 1]; /* under which the CA was asked */
    char ca[65];
    char key_id[64]; /* what the sealed key is bound to */
    struct cc_buf sealed, csr;
    char pending[CA_PENDING_MAX + 1]; /* of a CA that has to decide; "": none */
};

void pkcs_note_init(struct pkcs_note *note);
void pkcs_note_free(struct pkcs_note *note);
CC_MUST int pkcs_note_write(const struct pkcs_note *note, struct cc_buf *ret_text,
        struct cc_err *err);
CC_MUST int pkcs_note_read(const char *text, struct pkcs_note *ret, struct cc_err *err);

/* ---- pool.c ---- */

CC_MUST int pool_open(struct pkcs *work, unsigned size, struct pool **ret_pool, struct cc_err *err);
void pool_set_size(struct pool *pool, unsigned size);
void pool_close(struct pool *pool); /* accepts NULL */
int64_t pool_ready(struct pool *pool);

/* A key pair: one made ahead, or one made now.  Appended. */
CC_MUST int pool_get(struct pool *pool, enum pki_keyspec spec, enum hsm_generation generation,
        char ret_id[64], struct cc_buf *ret_sealed, struct cc_err *err);

/* ---- issue.c, recrypt.c ---- */

/* Whether any requests are in hand: the pool is filled when there are none. */
bool pkcs_is_idle(struct pkcs *work);

struct pkcs_view *pkcs_get_view(struct pkcs *work); /* a copy, free(); NULL without memory */

enum flow_outcome pkcs_issue(struct pkcs *work, const struct flow_request *request,
        struct flow_result *ret, struct cc_err *err);
enum flow_outcome pkcs_recrypt(struct pkcs *work, const struct flow_request *request,
        struct flow_result *ret, struct cc_err *err);

/* A failure as the result says it. */
enum flow_outcome pkcs_fail(const struct flow_request *request, const struct intune_fault *fault,
        struct flow_result *ret, struct cc_err *err);

#endif
