/* SPDX-License-Identifier: MIT */
#ifndef TENANT_SESSION_H
#define TENANT_SESSION_H

/*
 * Who has signed in to the status page, in memory: a random name in a cookie, of which the hash is kept.  A session ends
 * eight hours after its sign-in, or with the program; of more than SESSIONS_MAX the oldest goes.  Any thread.
 */

#include "tenant_int.h"

#define SESSIONS_MAX 64
#define SESSION_LIFE_S (8 * 3600)

CC_MUST int sessions_open(struct sessions **ret_sessions, struct cc_err *err);
void sessions_close(struct sessions *sessions); /* accepts NULL */

CC_MUST int session_begin(struct sessions *sessions, char ret_name[AUTH_TOKEN_LEN],
        struct cc_err *err);
bool session_is_good(struct sessions *sessions, const char *name);
void session_end(struct sessions *sessions, const char *name);

#endif
