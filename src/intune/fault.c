/* SPDX-License-Identifier: MIT */
#include "intune/fault.h"

#include "hsm/hsm.h"

struct intune_fault
intune_fault_of(const struct cc_err *err)
{
    static const char undecryptable[] =
            "the password does not decrypt with this key, or does not open the PFX";
    static const char bad_pfx[] =
            "the PFX is malformed, beyond the limits, or holds another certificate";

    if (err->domain == CC_DOM_SERVICE)
        return (struct intune_fault){ .code = (enum intune_error_code)err->code };
    if (err->domain == CC_DOM_TOKEN) {
        switch ((enum hsm_fault)err->code) {
        case HSM_FAULT_UNAVAILABLE:
        case HSM_FAULT_PIN_REFUSED:
            return (struct intune_fault){ INTUNE_TOKEN_UNAVAILABLE, "the token is away", true,
                true };
        case HSM_FAULT_KEY_NOT_FOUND:
        case HSM_FAULT_KEY_REPLACED:
        case HSM_FAULT_ROLE:
            return (struct intune_fault){ INTUNE_KEY_NOT_FOUND, "the key cannot be used", false,
                false };
        case HSM_FAULT_UNSUPPORTED:
            return (struct intune_fault){ INTUNE_NOT_SUPPORTED_ERROR,
                "the token cannot do this in a way that the settings allow", false, false };
        case HSM_FAULT_DECRYPT:
        case HSM_FAULT_PFX_PASSWORD:
            return (struct intune_fault){ INTUNE_DECRYPT_FAILED, undecryptable, false, false };
        case HSM_FAULT_RECIPIENT:
            return (struct intune_fault){ INTUNE_RECIPIENT_NOT_ACCEPTED,
                "recipientCertificate cannot be encrypted to", false, false };
        case HSM_FAULT_PFX_CONTENT:
            return (struct intune_fault){ INTUNE_PARAMETER_DATA_INVALID_ERROR, bad_pfx, false,
                false };
        case HSM_FAULT_INPUT:
            return (struct intune_fault){ INTUNE_PARAMETER_DATA_INVALID_ERROR,
                "a member has a value that cannot be worked with", false, false };
        }
    }
    return (struct intune_fault){ INTUNE_CRYPTOGRAPHY_ERROR, "the token reported an error", true,
        false };
}
