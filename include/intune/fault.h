/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_FAULT_H
#define INTUNE_FAULT_H

/*
 * The one place where the token's faults become the wire's.  What the token says in its own words is for the local log
 * alone; above all, all the ways in which a decryption fails look the same to the service, and to who sends it
 * ciphertexts.  Pure function; any thread.
 */

#include <stdbool.h>

#include "base/err.h"
#include "intune/queue.h"

struct intune_fault {
    enum intune_error_code code;
    const char *message; /* NULL: the error's own text */
    bool retryable;
    bool later; /* no failure: to be tried again here */
};

/* err: CC_DOM_SERVICE (code: enum intune_error_code) when we judged the request, else what the token said. */
struct intune_fault intune_fault_of(const struct cc_err *err);

#endif
