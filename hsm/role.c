/* SPDX-License-Identifier: MIT */
#include "hsm/role.h"

#include <string.h>

static const struct {
    const char *name;
    unsigned uses;
} roles[HSM_ROLE_COUNT] = {
    [HSM_ROLE_PFX_IMPORT] = { "pfx-import", HSM_USE_DECRYPT | HSM_USE_REENCRYPT },
    [HSM_ROLE_SCEP_RA_SIGN] = { "scep-ra-sign", HSM_USE_SIGN },
    [HSM_ROLE_SCEP_RA_ENCRYPT] = { "scep-ra-encrypt", HSM_USE_DECRYPT | HSM_USE_SIGN },
    [HSM_ROLE_CA] = { "ca", HSM_USE_SIGN },
    [HSM_ROLE_OCSP] = { "ocsp", HSM_USE_SIGN },
    [HSM_ROLE_IDENTITY] = { "identity", HSM_USE_SIGN },
    [HSM_ROLE_SEAL] = { "seal", HSM_USE_SEAL },
    [HSM_ROLE_AUDIT] = { "audit", HSM_USE_SIGN },
};

const char *
hsm_role_name(enum hsm_role role)
{
    return role < HSM_ROLE_COUNT ? roles[role].name : "unknown";
}

int
hsm_role_parse(const char *name)
{
    for (int i = 0; i < HSM_ROLE_COUNT; i++)
        if (strcmp(name, roles[i].name) == 0)
            return i;
    return -1;
}

unsigned
hsm_role_uses(enum hsm_role role)
{
    return role < HSM_ROLE_COUNT ? roles[role].uses : 0;
}

const char *
hsm_state_name(enum hsm_state state)
{
    switch (state) {
    case HSM_STATE_STARTING:
        return "starting";
    case HSM_STATE_OPEN:
        return "open";
    case HSM_STATE_LOST:
        return "lost";
    case HSM_STATE_PIN_REFUSED:
        return "pin-refused";
    case HSM_STATE_CLOSED:
        return "closed";
    }
    return "unknown";
}
