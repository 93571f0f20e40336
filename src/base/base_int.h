/* SPDX-License-Identifier: MIT */
#ifndef BASE_INT_H
#define BASE_INT_H

/* What the files of this room share and nobody else sees. */

#include <stddef.h>

/*
 * cc_escape_into() that leaves backslashes alone: for lines that we compose ourselves, where text that was escaped
 * before must not be escaped again.  Applied twice it changes nothing more.  dst and text do not overlap.
 */
const char *cc_escape_line(char *dst, size_t size, const char *text);

#endif
