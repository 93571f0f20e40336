/* SPDX-License-Identifier: MIT */
#ifndef HTTP_LIBRARY_H
#define HTTP_LIBRARY_H

#include "base/compiler.h"
#include "base/err.h"

/*
 * libcurl, made ready once a process, before anything else of it: whoever calls it first decides where its memory comes
 * from.  Any thread.
 */
CC_MUST int library_open(struct cc_err *err);

#endif
