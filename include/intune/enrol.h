/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_ENROL_H
#define INTUNE_ENROL_H

/*
 * The identity of an instance at the connectors' service: a certificate for a key of the token, whose subject is the
 * instance's id (connector service protocol, enrolment), and the file that it is kept in.  Nothing here is secret: the
 * key stays where it is.  Any thread.
 */

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/text.h"
#include "intune/service.h"

#define INTUNE_KEY_NAME_MAX 32

/* Filled by intune_enrol() or intune_enrolled_read(); intune_enrolled_free() it. */
struct intune_enrolled {
    char connector_id[CC_UUID_LEN];
    X509 *certificate;
    STACK_OF(X509) *chain;         /* may be empty */
    char key[INTUNE_KEY_NAME_MAX]; /* which of the configured keys: "identity" … */
    int64_t not_before_ms, not_after_ms;
    int64_t renew_after_ms; /* wall time; the service's, or two thirds of the certificate's life */
    bool proven;            /* a call with it has worked; the caller's to say */
};

struct intune_enrolment {
    const char *display_name, *machine_name, *version;
    const char *const *features;
    size_t feature_count;
    const char *key; /* name for struct intune_enrolled */
    EVP_PKEY *pkey;  /* signs the request */
    bool renews; /* with the present identity: the id stays.  Else as one that the service has not seen */
};

CC_MUST int intune_enrol(struct intune *intune, const struct intune_enrolment *enrolment,
        struct intune_enrolled *ret, struct cc_err *err);

/*
 * Takes an instance out: the service refuses it from then on.  One that is not there, or was taken out before, is no
 * error.  shown: by its own identity; else as the application, which does for one that never enrolled.
 */
CC_MUST int intune_remove(struct intune *intune, const char *connector_id, bool shown,
        struct cc_err *err);

/* ---- the file: PEM that any program reads, with a few lines of ours in front ---- */

/* In one step, readable by owner and group. */
CC_MUST int intune_enrolled_write(const struct intune_enrolled *enrolled, const char *path,
        struct cc_err *err);

/* CC_DOM_INPUT: it is there and no identity; CC_DOM_SYSTEM with ENOENT: it is not there. */
CC_MUST int intune_enrolled_read(const char *path, struct intune_enrolled *ret, struct cc_err *err);

void intune_enrolled_free(struct intune_enrolled *enrolled); /* all zero then */

#endif
