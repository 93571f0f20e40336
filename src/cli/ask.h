/* SPDX-License-Identifier: MIT */
#ifndef CLI_ASK_H
#define CLI_ASK_H

/*
 * Questions on a terminal of 80 columns that can do nothing but lines.  One thread; signals that would end the program
 * (Ctrl-C, a terminal that is gone) end the question instead, between ask_begin() and ask_end().
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"

enum ask_outcome {
    ASK_ANSWER, /* there is one; "" when only Enter was pressed and nothing is there to keep */
    ASK_BACK,   /* "<" or "back" */
    ASK_HELP,   /* "?" */
    ASK_GONE    /* Ctrl-C, or the end of input */
};

#define ASK_ANSWER_MAX 2000

void ask_begin(void);
void ask_end(void);
/* Whether somebody wants it to end. */
bool ask_is_gone(void);

/* One line; present, which may be NULL, is shown and is the answer to Enter. */
enum ask_outcome ask_line(const char *prompt, const char *present, char ret[ASK_ANSWER_MAX]);

/* The same without echo; an answer of no bytes is Enter.  NULL when there is none. */
enum ask_outcome ask_secret(const char *prompt, struct cc_secret **ret_secret);

/* Yes or no, asked again until it is one of them; help answers "?". */
enum ask_outcome ask_yes_no(const char *prompt, bool present, const char *help, bool *ret);

/* Text in lines of at most 78 columns, each behind indent blanks. */
void ask_print(unsigned indent, const char *text);

#endif
