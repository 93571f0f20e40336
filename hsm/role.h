/* SPDX-License-Identifier: MIT */
#ifndef HSM_ROLE_H
#define HSM_ROLE_H

/* What roles allow: the client refuses before it asks, and the token process before it does.  Any thread. */

#include "hsm/hsm.h"

enum hsm_use { HSM_USE_SIGN = 1, HSM_USE_DECRYPT = 2, HSM_USE_REENCRYPT = 4, HSM_USE_SEAL = 8 };

/* The sum of them. */
unsigned hsm_role_uses(enum hsm_role role);

#endif
