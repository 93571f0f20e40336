/* SPDX-License-Identifier: MIT */
#ifndef PFXIMPORT_PFXIMPORT_H
#define PFXIMPORT_PFXIMPORT_H

/*
 * The workload of imported PFX: download, journal, re-encrypt the password with the token, journal, upload, report.
 *
 * Owns its threads: one that downloads, one that renews leases, one that uploads, and a pool that works.  What it is
 * given is borrowed and must outlive it.  pfximport_stop() takes no more work, lets what is begun end within the
 * time given, releases the rest to the service; nothing is lost by a kill at any point either (store/journal.h).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "eventlog/eventlog.h"
#include "hsm/hsm.h"
#include "intune/queue.h"
#include "intune/service.h"
#include "store/journal.h"

struct pfximport;

/* "providerName/keyName" of an upload -> key. */
struct pfximport_key {
    const char *name;
    struct hsm_key *key;
};

struct pfximport_settings {
    struct intune *intune;
    struct store *store;
    struct eventlog *log;
    const char *log_directory; /* asked after a crash whether the admin event stands already */
    const char *connector_id;
    const struct pfximport_key
            *keys; /* copied; the entry with name NULL serves requests that name no key */
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

struct pfximport_status {
    unsigned in_work;           /* requests leased and not yet uploaded */
    uint64_t succeeded, failed; /* admin events written since start */
    int64_t last_download_ms;   /* wall time of the last good download call; 0: never */
};
void pfximport_get_status(struct pfximport *work, struct pfximport_status *ret);

#endif
