/* SPDX-License-Identifier: MIT */
/* certconnectord: the connector daemon. */

#include "base/process.h"
#include "daemon_int.h"

int
main(int argc, char **argv)
{
    struct options options;
    int status;

    cc_process_harden();
    if (options_parse(argc, argv, &options, &status) == 0)
        status = daemon_run(&options);
    options_free(&options);
    return status;
}
