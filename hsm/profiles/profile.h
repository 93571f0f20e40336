/* SPDX-License-Identifier: MIT */
#ifndef HSM_PROFILES_PROFILE_H
#define HSM_PROFILES_PROFILE_H

/*
 * What a make of token can and cannot do, as data: one constant table a file, one list in profile.c.
 *
 * Code asks for a property, never for a make.  What a token lacks is only where to begin: an operation that a profile
 * does not exclude is tried, and what the token itself refuses is remembered.  Any thread.
 */

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

/* Ways that a token is known to refuse, so that not every start begins with a failure. */
enum profile_gap {
    PROFILE_GAP_OAEP_SHA2 = 1 << 0,    /* RSA-OAEP with another hash than SHA-1 */
    PROFILE_GAP_WRAP_CBC_PAD = 1 << 1, /* C_WrapKey with CKM_AES_CBC_PAD or CKM_DES3_CBC_PAD */
    PROFILE_GAP_WRAP = 1 << 2,         /* C_WrapKey and C_UnwrapKey at all */
    PROFILE_GAP_OAEP_LABEL = 1 << 3    /* ignores the label of RSA-OAEP, and does not say so */
};

struct profile {
    const char *name;
    const char *module; /* file name that tells this make before the module is loaded, or NULL */
    const char *library_manufacturer; /* beginning of CK_INFO.manufacturerID, or NULL */
    const char *token_manufacturer;   /* beginning of CK_TOKEN_INFO.manufacturerID, or NULL */

    bool connection_per_thread; /* each C_GetFunctionList is a connection of its own, served one call at a time */
    bool start_lock; /* opening in two processes at once goes wrong */
    bool login_races; /* C_Login in two processes at once fails with CKR_GENERAL_ERROR, the PIN untried */
    bool init_args_wanted; /* does not start without a string in CK_C_INITIALIZE_ARGS.pReserved */
    unsigned gaps;         /* enum profile_gap */
    CK_VERSION gaps_until; /* last CK_INFO.libraryVersion with these gaps; 0.0: all */
};

/* NULL for an unknown name; "auto" is not a profile. */
const struct profile *profile_by_name(const char *name);

/* By the file name of a module's path; the generic one when it tells nothing.  Never NULL. */
const struct profile *profile_by_module(const char *path);

/* By what module and token say of themselves; fallback when that tells nothing. */
const struct profile *profile_by_info(const CK_INFO *library, const CK_TOKEN_INFO *token,
        const struct profile *fallback);

bool profile_has_gap(const struct profile *profile, CK_VERSION library, enum profile_gap gap);

extern const struct profile profile_generic;
extern const struct profile profile_nss_softokn;
extern const struct profile profile_p11_kit_client;
extern const struct profile profile_softhsm;

#endif
