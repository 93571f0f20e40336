/* SPDX-License-Identifier: MIT */

/*
 * certconnector-token: the only process that loads a PKCS#11 module and knows its PIN.  Started by certconnectord and
 * certconnector, which speak to it over inherited sockets (hsm/wire.h).
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "hsm/token/fork.h"
#include "hsm/token/serve.h"
#include "hsm/token/stop.h"
#include "hsm/wire.h"

#define EXIT_USAGE 2

/* "--channels N" and nothing else. */
static int
read_arguments(int argc, char **argv, unsigned *ret_channels)
{
    int64_t channels;

    if (argc != 3 || strcmp(argv[1], "--channels") != 0 ||
            cc_parse_int(argv[2], 1, WIRE_CHANNELS_MAX, &channels, NULL) != 0)
        return -1;
    *ret_channels = (unsigned)channels;
    return 0;
}

static bool
is_socket(int fd)
{
    int type;
    socklen_t len = sizeof(type);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static bool
has_channels(unsigned channels)
{
    for (unsigned i = 0; i < channels; i++)
        if (!is_socket(WIRE_FIRST_FD + (int)i))
            return false;
    return true;
}

/* Only where there is no limit: the limit counts what is mapped, and threads could no longer start.  Secrets are
   locked one by one in any case. */
static void
lock_memory(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY)
        (void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

int
main(int argc, char **argv)
{
    struct cc_err err = { 0 };
    unsigned channels = 0;

    cc_process_harden();
    if (read_arguments(argc, argv, &channels) != 0 || !has_channels(channels)) {
        (void)fprintf(stderr,
                "certconnector-token is started by certconnectord and by certconnector, not by hand.\n"
                "To look at a token: certconnector token list\n");
        return EXIT_USAGE;
    }
    lock_memory();
    fork_forbid();
    /* Our other end going away is told by the end of channel 0; this is for the case that it is not read. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (stop_init(&err) != 0 || serve(channels, &err) != 0) {
        cc_log(CC_LOG_ERROR, "hsm", "%s", cc_err_text(&err));
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
