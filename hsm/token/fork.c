/* SPDX-License-Identifier: MIT */
#include "hsm/token/fork.h"

#include <pthread.h>
#include <stdlib.h>

#ifndef NDEBUG
static void
fork_abort(void)
{
    abort();
}
#endif

void
fork_forbid(void)
{
#ifndef NDEBUG
    (void)pthread_atfork(fork_abort, NULL, NULL);
#endif
}
