/* SPDX-License-Identifier: MIT */
#include "hsm/token/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hsm/wire.h"

#define STOP_SECONDS 3

static void
stop_now(int signal_number)
{
    (void)signal_number;
    _exit(EXIT_SUCCESS);
}

void
stop_soon(void)
{
    (void)alarm(STOP_SECONDS);
}

static void *
stop_thread(void *arg)
{
    sigset_t set;
    int signal_number;

    (void)arg;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    while (sigwait(&set, &signal_number) != 0)
        ;
    stop_soon();
    (void)shutdown(WIRE_FIRST_FD, SHUT_RD);
    return NULL;
}

int
stop_init(struct cc_err *err)
{
    struct sigaction now = { .sa_handler = stop_now };
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    sigset_t set;
    pthread_t thread;
    int e;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaction(SIGALRM, &now, NULL);
    (void)sigaction(SIGINT, &ignore, NULL);
    if ((e = pthread_sigmask(SIG_BLOCK, &set, NULL)) != 0 ||
            (e = pthread_create(&thread, NULL, stop_thread, NULL)) != 0)
        return cc_err_set_errno(err, e, "thread that waits for signals");
    (void)pthread_detach(thread);
    return 0;
}
