/* SPDX-License-Identifier: MIT */
#ifndef HSM_TOKEN_FORK_H
#define HSM_TOKEN_FORK_H

/*
 * No fork() with a token open: sessions of a module in two processes corrupt each other (a module that starts programs
 * by fork() of its own is the reason why only debug builds refuse).
 */

/* From now on a fork() of this process aborts it, in builds with assertions. */
void fork_forbid(void);

#endif
