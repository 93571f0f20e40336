/* SPDX-License-Identifier: MIT */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

/* Attributes that our prototypes carry. */

#define CC_MUST __attribute__((warn_unused_result))
#define CC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define CC_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
