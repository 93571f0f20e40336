/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_SCEP_H
#define INTUNE_SCEP_H

/*
 * Intune's published API for servers of SCEP: ScepActions/validateRequest, successNotification and failureNotification
 * of ScepRequestValidationFEService, api-version 2018-02-20.
 *
 * Before a certificate is issued the service is asked whether the request is one that it wants; after that it is told
 * what came of it.  Both answers are a code, and only "Success" is a yes: the list of codes is open, and whatever is
 * no answer at all (another status than 2xx, no JSON object, no code in it) is an error and never a yes.
 *
 * Any thread.  A call is retried as intune/service.h says, and ends with its retries at the deadline (of
 * cc_clock_mono_ms(); 0: none); after it nothing is asked.  Errors as in intune/service.h.  A refusal is an answer: it is
 * not retried, and will be the same next time.
 * Secret: a request carries its challenge, so that texts of notifications are worth as much as the request itself.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "intune/service.h"

struct intune_scep_answer {
    bool accepted;         /* the code is exactly "Success" */
    char code[64];         /* as the service spells it, escaped */
    char description[256]; /* the service's words, escaped; "" when it has none */
};

/* transaction_id: of the device's message; csr_der: PKCS#10, challenge inside.  0 with an answer, -1 without one. */
CC_MUST int intune_scep_validate(struct intune *intune, const char *transaction_id,
        struct cc_bytes csr_der, int64_t deadline, struct intune_scep_answer *ret,
        struct cc_err *err);

enum intune_scep_notification { INTUNE_SCEP_SUCCESS, INTUNE_SCEP_FAILURE };

/* Borrowed, all of it. */
struct intune_scep_success {
    const char *transaction_id;
    struct cc_bytes csr;       /* DER, as it was validated */
    const char *thumbprint;    /* SHA-1, upper-case hexadecimal */
    const char *serial_number; /* comes back in a revocation request */
    int64_t not_after_ms;
    const char *issuer;                                   /* what revocations are filtered by */
    const char *ca_configuration, *certificate_authority; /* NULL: left out */
};

struct intune_scep_failure {
    const char *transaction_id;
    struct cc_bytes csr;
    uint32_t hresult;        /* shown in the service's console */
    const char *description; /* cut at 255 characters; NULL or empty: words of ours */
};

/*
 * Appends the JSON text of a notification: all of it that is known when the outcome is.  It can be kept for days, as
 * who sends it (callerInfo) is added only by intune_scep_notify().  CC_DOM_INPUT for texts that are not UTF-8.
 */
CC_MUST int intune_scep_success_write(const struct intune_scep_success *success, struct cc_buf *ret,
        struct cc_err *err);
CC_MUST int intune_scep_failure_write(const struct intune_scep_failure *failure, struct cc_buf *ret,
        struct cc_err *err);

/* Sends such a text.  0 with an answer, -1 without one. */
CC_MUST int intune_scep_notify(struct intune *intune, enum intune_scep_notification kind,
        const char *text, int64_t deadline, struct intune_scep_answer *ret, struct cc_err *err);

#endif
