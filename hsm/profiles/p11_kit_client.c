/* SPDX-License-Identifier: MIT */
#include "hsm/profiles/profile.h"

/*
 * Any token behind a p11-kit server.  Threads that share a connection wait for ever when the server dies, and are
 * served one after another; each C_GetFunctionList opens another connection.  Recognised by its file alone, because
 * behind it the module and token of the server describe themselves.  The server has a process for each connection, so
 * that a token with races at the start has them there too.
 */
const struct profile profile_p11_kit_client = {
    .name = "p11-kit-client",
    .module = "p11-kit-client.so",
    .connection_per_thread = true,
    .start_lock = true,
    .login_races = true,
};
