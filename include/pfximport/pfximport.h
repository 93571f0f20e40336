/* SPDX-License-Identifier: MIT */
#ifndef PFXIMPORT_PFXIMPORT_H
#define PFXIMPORT_PFXIMPORT_H

/*
 * The workload of imported PFX: download, journal, re-encrypt the password with the token, journal, upload, report.
 *
 * Owns its threads: one that downloads, one that renews leases, two that upload, and a pool that works.  What it is
 * given is borrowed and must outlive it.  Secret: nothing here ever holds the password of a PFX; PFX are freed when
 * their request is done.  A failure that the token may overcome is tried again for minutes, then the request goes back
 * to the service; any other fails the request with the code of the wire and an event.
 *
 * pfximport_stop() takes no more work, lets what is begun end and be uploaded within the time given (then it cuts the
 * calls to the service, intune_cancel()), and releases the rest to the service.  Nothing is lost by a kill at any
 * point either (store/journal.h).  Afterwards its struct intune
 * may download no more.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "eventlog/eventlog.h"
#include "flow/flow.h"
#include "hsm/hsm.h"
#include "intune/queue.h"
#include "intune/service.h"
#include "store/journal.h"

struct pfximport;

/*
 * "providerName/keyName" of an upload -> key.  The entry with name NULL is the default key: it serves requests that
 * name neither provider nor key, and those that name one when there is no other entry.  Once keys have names, a
 * request for a name that is not among them is failed (KeyNotFound), never tried with another key.
 */
struct pfximport_key {
    const char *name;
    struct hsm_key *key;
};

struct pfximport_settings {
    struct hsm *hsm; /* whose keys they are: nothing is downloaded while it is not open */
    struct intune *intune;
    struct store *store;
    struct eventlog *log; /* asked after a crash whether the admin event stands already */
    const char *connector_id;
    const struct pfximport_key *keys; /* copied */
    size_t key_count;
    enum hsm_reencrypt_mode reencrypt;
    bool check_pfx;
    unsigned workers;
    unsigned batch;       /* 1..100 */
    int64_t poll_wait_ms; /* long poll */
    unsigned max_attempts;
};

CC_MUST int pfximport_start(const struct pfximport_settings *settings, struct pfximport **ret_work,
        struct cc_err *err);

/* Changes what may change while running: keys, reencrypt, check_pfx, batch, poll_wait_ms, max_attempts. */
CC_MUST int pfximport_reconfigure(struct pfximport *work, const struct pfximport_settings *settings,
        struct cc_err *err);

/* Ends and frees; accepts NULL. */
void pfximport_stop(struct pfximport *work, int64_t drain_ms);

/* Another instance of the store is gone: goes on with what it had in hand. */
void pfximport_adopt(struct pfximport *work);

void pfximport_get_status(struct pfximport *work, struct flow_status *ret);

#endif
