/* SPDX-License-Identifier: MIT */
#ifndef BASE_LOG_H
#define BASE_LOG_H

/*
 * Diagnostic lines on standard error, for who looks into a running program.  The product's own record is the event
 * log (room eventlog); this is not it.  One line a call: "<4>hsm: text" under systemd (sd-daemon(3) levels), with a
 * time in front elsewhere.  Control bytes in the text are escaped.  Any thread.  Beside the clock that tests set, the
 * level is the one process-wide variable of this project.
 */

#include "base/compiler.h"

enum cc_log_level {
    CC_LOG_ERROR = 3,
    CC_LOG_WARNING = 4,
    CC_LOG_NOTICE = 5,
    CC_LOG_INFO = 6,
    CC_LOG_DEBUG = 7
};

/* Lines above this level are dropped; CC_LOG_NOTICE at start. */
void cc_log_set_level(enum cc_log_level level);

void cc_log(enum cc_log_level level, const char *room, const char *fmt, ...) CC_PRINTF(3, 4);

#endif
