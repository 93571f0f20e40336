/* SPDX-License-Identifier: MIT */
#include "hsm/hsm_int.h"

#include <openssl/err.h>
#include <pthread.h>

/* One text for all reasons: what happened is in the data. */
static ERR_STRING_DATA reasons[HSM_REASON_CKR_END - HSM_REASON_CKR + HSM_REASON_OTHER + 2];
static int library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
err_register(void)
{
    size_t n = 0;

    library = ERR_get_next_error_library();
    for (int reason = 1; reason <= HSM_REASON_OTHER; reason++)
        reasons[n++].error = ERR_PACK(library, 0, reason);
    for (int reason = HSM_REASON_CKR; reason < HSM_REASON_CKR_END; reason++)
        reasons[n++].error = ERR_PACK(library, 0, reason);
    for (size_t i = 0; i < n; i++)
        reasons[i].string = "token";
    (void)ERR_load_strings(library, reasons);
}

static int
err_library(void)
{
    (void)pthread_once(&once, err_register);
    return library;
}

static int
err_reason(const struct cc_err *err)
{
    if (err->domain == CC_DOM_TOKEN && err->code > 0 && err->code < HSM_REASON_OTHER)
        return (int)err->code;
    if (err->domain == CC_DOM_PKCS11 && err->code > 0 &&
            err->code < HSM_REASON_CKR_END - HSM_REASON_CKR)
        return HSM_REASON_CKR + (int)err->code;
    return HSM_REASON_OTHER;
}

void
hsm_err_raise(const struct cc_err *err)
{
    ERR_raise_data(err_library(), err_reason(err), "%s", err->text);
}

void
hsm_err_resolve(struct cc_err *err)
{
    unsigned long code;
    int reason;

    if (err == NULL || err->domain != CC_DOM_OPENSSL)
        return;
    code = (unsigned long)err->code;
    reason = ERR_GET_REASON(code);
    if (ERR_GET_LIB(code) != err_library())
        return;
    if (reason >= HSM_REASON_CKR) {
        err->domain = CC_DOM_PKCS11;
        err->code = reason - HSM_REASON_CKR;
    } else {
        err->domain = CC_DOM_TOKEN;
        err->code = reason < HSM_REASON_OTHER ? reason : HSM_FAULT_UNAVAILABLE;
    }
}
