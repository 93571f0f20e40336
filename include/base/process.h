/* SPDX-License-Identifier: MIT */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

/* What every program of ours does first, and random bytes. */

#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"

/*
 * No core dumps, not traceable by processes of the same user (PR_SET_DUMPABLE 0), SIGPIPE ignored, descriptors 0 to
 * 2 open, umask 027, and all memory that OpenSSL frees is wiped.  Called at the top of main, before any thread and
 * any call of OpenSSL.
 */
void cc_process_harden(void);

/* From the kernel through OpenSSL; -1 when there is none, and then nothing may go on. */
CC_MUST int cc_random(void *data, size_t len, struct cc_err *err);

#endif
