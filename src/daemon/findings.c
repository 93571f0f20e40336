/* SPDX-License-Identifier: MIT */
#include "daemon_int.h"

#include <stdio.h>

#include "upkeep/machine.h"

/*
 * What "certconnector check" would say of the machine, at each start, as nobody looks before there is trouble.  What ends
 * on a day says expiry.c, and of keys keys.c.
 */

static void
on_finding(void *arg, const struct upkeep_finding *finding)
{
    struct daemon *d = arg;

    if (finding->severity != UPKEEP_OK)
        eventlog_write(d->log, EVENT_CHECK_FINDING, NULL, "%s: %s; %s%s%s",
                upkeep_severity_name(finding->severity), finding->what, finding->cure,
                finding->command[0] != '\0' ? ": " : "", finding->command);
}

void
findings_say(struct daemon *d)
{
    upkeep_check_files(d->config, d->options->config_path, on_finding, d);
    upkeep_check_disk(d->config, on_finding, d);
}
