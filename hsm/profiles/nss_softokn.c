/* SPDX-License-Identifier: MIT */
#include "hsm/profiles/profile.h"

/* NSS's software token.  Its database is named by the initialisation string; it takes care of its own locking. */
const struct profile profile_nss_softokn = {
    .name = "nss-softokn",
    .module = "libsoftokn3.so",
    .library_manufacturer = "Mozilla",
    .token_manufacturer = "Mozilla",
    .init_args_wanted = true,
};
