/* SPDX-License-Identifier: MIT */
#include "hsm/profiles/profile.h"

/* A token that we know nothing of: careful at the start, everything tried. */
const struct profile profile_generic = {
    .name = "generic",
    .start_lock = true,
};
