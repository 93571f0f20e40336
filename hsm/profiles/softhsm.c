/* SPDX-License-Identifier: MIT */
#include "hsm/profiles/profile.h"

/*
 * SoftHSM 2.  Each C_Login rewrites the token's file, and a process that initialises meanwhile does not see the
 * token.  Knows RSA-OAEP with SHA-1 only and without a label, and wraps with no block cipher in a padding mode; 2.7
 * does the latter.
 */
const struct profile profile_softhsm = {
    .name = "softhsm",
    .module = "libsofthsm2.so",
    .library_manufacturer = "SoftHSM",
    .token_manufacturer = "SoftHSM",
    .start_lock = true,
    .login_races = true,
    .gaps = PROFILE_GAP_OAEP_SHA2 | PROFILE_GAP_OAEP_LABEL | PROFILE_GAP_WRAP_CBC_PAD,
    .gaps_until = { .major = 2, .minor = 6 },
};
