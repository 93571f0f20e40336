/* SPDX-License-Identifier: MIT */
#ifndef PKI_LINT_H
#define PKI_LINT_H

/* What RFC 5280 asks of a certificate, checked before it is signed: one table of rules.  Any thread. */

#include <openssl/types.h>

#include "base/compiler.h"
#include "base/err.h"

/*
 * cert: complete but for its signature.  issuer: NULL for one that signs itself.  -1 (CC_DOM_INPUT) with the section
 * and the rule of the first breach.
 */
CC_MUST int pki_lint(X509 *cert, X509 *issuer, struct cc_err *err);

#endif
