/* SPDX-License-Identifier: MIT */
#ifndef CLI_PASSWORD_H
#define CLI_PASSWORD_H

/*
 * Passwords that an administrator gives: from a file, a descriptor or a prompt on the terminal, never from an
 * argument.  The caller frees.  Not for several threads.
 */

#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"

/* source: "file:PATH", "credential:NAME", "fd:N", or "prompt". */
CC_MUST struct cc_secret *cli_password_read(const char *source, const char *prompt,
        struct cc_err *err);

enum cli_encoding { CLI_ENCODING_AUTO, CLI_ENCODING_UTF8, CLI_ENCODING_LATIN1 };

/* "auto", "utf-8", "latin-1"; -1 for another text. */
int cli_encoding_parse(const char *name);

/*
 * The password as the service wants it encrypted: one byte a UTF-16 code unit, so ISO 8859-1.  With CLI_ENCODING_AUTO
 * bytes that are well-formed UTF-8 are taken for it.  A character above U+00FF is refused: it could not be delivered.
 */
CC_MUST struct cc_secret *cli_password_to_latin1(const struct cc_secret *password,
        enum cli_encoding encoding, struct cc_err *err);

#endif
