/* SPDX-License-Identifier: MIT */
#ifndef BASE_FAILPOINT_H
#define BASE_FAILPOINT_H

/*
 * Fail points: named places where a test has the program die, fail, wait or stop.
 *
 *   if (CC_FAILPOINT("store", "journal-finish", "before"))
 *       return cc_err_set(err, CC_DOM_STORE, …);
 *
 * is the point "store.journal-finish.before".  Names are small letters and hyphens; what else the parts have is made so
 * ("PkcsRequests/renewLeases" is pkcs-requests-renew-leases).  By convention nothing of a step is done before it, and
 * all of it after it; an error after it is one whose answer was lost.
 *
 * There are points only in builds with the CMake option CC_FAILPOINTS; in others, and those are what is released, the
 * macro is no code, and its arguments, which have no effect of their own, are not evaluated.  Even then nothing happens
 * unless the environment of the process names a specification, CERTCONNECTOR_FAILPOINTS_FILE.  The file is read again
 * whenever another was put in its place (write it beside, and rename it).  A line each:
 *
 *   passed = FOLDER            each passing of a point appends a byte to FOLDER/NAME: what was passed, and how often, by
 *                              all processes together
 *   NAME = crash               SIGKILL to itself
 *   NAME = error               the step fails, in a way that suits the place
 *   NAME = delay:MS            waits
 *   NAME = stop                SIGSTOP to itself
 *   NAME = ACTION@N            only the Nth passing counted in FOLDER, whichever process's it is
 *   NAME = ACTION*N            only the first N
 *
 * NAME may end in "*", for all that begin so; the first line that applies counts.  A line that makes no sense ends the
 * program: a test would wait for nothing.  Points may be passed by any thread, with locks held.
 *
 * What was read is one of the few process-wide variables of this project.
 */

#include <stdbool.h>

#ifdef CC_FAILPOINTS

/* Whether the step shall fail. */
bool cc_failpoint(const char *room, const char *step, const char *when);
#define CC_FAILPOINT(room, step, when) cc_failpoint(room, step, when)

#else

#define CC_FAILPOINT(room, step, when) ((void)sizeof(room), (void)sizeof(step), false)

#endif

#endif
