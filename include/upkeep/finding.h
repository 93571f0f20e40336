/* SPDX-License-Identifier: MIT */
#ifndef UPKEEP_FINDING_H
#define UPKEEP_FINDING_H

/*
 * What a check found: one thing that is well, or one that is not with its cause and its cure.
 *
 * Texts are for people, one line each, peers' bytes escaped; a secret is never in one.  The command, where there is one,
 * is the cure for a shell, to be run as root; its arguments are quoted.
 */

#include <stdarg.h>
#include <stddef.h>

#include "base/compiler.h"

enum upkeep_severity {
    UPKEEP_OK,
    UPKEEP_WARNING, /* it works, but not for ever, or not as it should */
    UPKEEP_ERROR    /* something that is configured cannot work */
};

struct upkeep_finding {
    const char *area;  /* "files"; a constant */
    const char *check; /* "pin-file"; a constant */
    enum upkeep_severity severity;
    char what[384];
    char cause[512]; /* "" where all is well; so the rest */
    char cure[512];
    char command[768]; /* or "" */
};

/* "ok", "warning", "error". */
const char *upkeep_severity_name(enum upkeep_severity severity);

/* Who is told; the finding is borrowed until it returns. */
typedef void (*upkeep_fn)(void *arg, const struct upkeep_finding *finding);

/* Fields of a finding; what does not fit is cut. */
void upkeep_text(char *ret, size_t size, const char *fmt, va_list ap) CC_PRINTF(3, 0);
void upkeep_what(struct upkeep_finding *finding, const char *fmt, ...) CC_PRINTF(2, 3);
void upkeep_cause(struct upkeep_finding *finding, const char *fmt, ...) CC_PRINTF(2, 3);
void upkeep_cure(struct upkeep_finding *finding, const char *fmt, ...) CC_PRINTF(2, 3);

/* Words of a command, each quoted for a shell where it must be; after another command, "&&" comes between. */
void upkeep_command(struct upkeep_finding *finding, const char *const *words, size_t count);
#define UPKEEP_COMMAND(finding, ...)                                                               \
    upkeep_command((finding), (const char *const[]){ __VA_ARGS__ },                                \
            CC_COUNT(((const char *const[]){ __VA_ARGS__ })))

#endif
