/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_DAEMON_INT_H
#define DAEMON_DAEMON_INT_H

/*
 * The running daemon: which rooms there are, and what they are told.
 *
 * The main thread alone starts, changes and stops things.  Other threads (control socket, health messages, and those
 * of the rooms that report a change of state) only look, with the lock held where it says so.
 *
 * What can change with the configuration while everything else goes on, the parts, are started and stopped together:
 * the token, the service, the authorities, the workloads, the health messages.  What they were started with, the
 * configuration of their beginning, is kept until they are stopped, as they go on using its texts.
 */

#include <json-c/json.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/text.h"
#include "config/config.h"
#include "eventlog/eventlog.h"
#include "hsm/hsm.h"
#include "http/listener.h"
#include "intune/queue.h"
#include "intune/service.h"
#include "pfximport/pfximport.h"
#include "pkcs/pkcs.h"
#include "revocation/revocation.h"
#include "scep/scep.h"
#include "store/store.h"
#include "upkeep/expiry.h"

#define DAEMON_DRAIN_MS 20000        /* for work under way, when we stop */
#define DAEMON_GOODBYE_MS 3000       /* for the last health message */
#define DAEMON_SIGNAL_FENCED SIGUSR1 /* to ourselves */
#define DAEMON_LOOK_MS 10000         /* between two looks at ourselves (watchdog, status text) */
#define DAEMON_CLOSED_KEEP_MS                                                                      \
    (INT64_C(30) * 24 * 3600 * 1000) /* closed requests are kept, to recognise repeats */

struct options {
    const char *config_path;
    const char **overrides; /* "section.key=value", borrowed from argv */
    size_t override_count;
    bool check_only;
};

struct authorities;
struct expiry;
struct health;
struct identity;
struct keys;
struct watch;

struct parts {
    struct hsm *hsm;
    struct identity *identity; /* NULL: the instance has none of its own */
    struct intune *intune;
    struct authorities *authorities;
    struct scep *scep; /* NULL: the feature is off; so here */
    struct revocation *revocation;
    struct pkcs *pkcs;
    struct pfximport *pfximport;
    struct health *health;
    struct keys *keys;
    struct expiry *expiry;
};

/* How the service supports our release, by its last answer to a health message. */
struct lifecycle {
    struct intune_lifecycle now;  /* guarded by the daemon's lock */
    struct intune_lifecycle said; /* as events; this and the next are the health thread's */
    unsigned said_refused;        /* CONFIG_… */
};

#define RELOAD_WAITING_MAX 8

/* Reading the configuration again. */
struct reload {
    /* Guarded by the daemon's lock. */
    struct http_exchange *waiting[RELOAD_WAITING_MAX]; /* asked for one, and are told its outcome */
    size_t waiting_count;
    bool ended; /* nobody is told any more */

    /* The main thread's: of the one under way. */
    unsigned changed;   /* settings */
    char error[512];    /* "": it was taken */
    char restart[1024]; /* settings that wait for a restart: "[log] directory, …" */
};

/* Where monitoring asks. */
struct monitor {
    struct http_listener *listener; /* NULL: nowhere */
    char *at;                       /* as in the configuration; NULL: nowhere */
};

struct daemon {
    const struct options *options;
    char name
            [256]; /* [connector] name at the start, by which store, service and identity know it */
    struct eventlog *log;
    struct store *store;
    struct watch *watch;
    struct http_listener *control;
    struct monitor monitor; /* the main thread's */
    char connector_id[CC_UUID_LEN];
    int64_t started_ms;     /* wall time */
    sigset_t signals;       /* blocked, and asked for by the main thread */
    bool was_fenced;        /* the main thread's */
    atomic_llong turned_ms; /* monotonic: when the main thread last asked for signals */

    pthread_mutex_t lock;
    struct config *config; /* guarded by lock; the main thread reads it freely */
    struct config
            *begun_with; /* what the parts were started with; may be the same; the main thread's */
    struct parts parts;  /* guarded by lock; the main thread reads them freely */
    struct lifecycle lifecycle;

    struct reload reload;

    /* What was said last of the token and the service, so that an event tells a recovery from a first contact. */
    atomic_bool token_was_lost;
    atomic_bool service_was_lost;
};

/* ---- membership.c ---- */

/* Joins under the name of d, and waits for another instance of it that has not ended yet. */
CC_MUST int membership_join(struct daemon *d, struct cc_err *err);

/*
 * After something that needed the store failed for the reason why: 0 when it can be done again, as the store had been out
 * of order since outages_before and works now, or as we were taken for gone and must join again; else -1 with why, or
 * CC_DOM_CANCELLED.
 */
CC_MUST int membership_wait(struct daemon *d, uint64_t outages_before, const struct cc_err *why,
        struct cc_err *err);

/* The event, and a memory of it. */
void membership_say_fenced(struct daemon *d);

/* ---- options.c ---- */

/* 0: run; else *ret_status is the exit status, and all is said. */
CC_MUST int options_parse(int argc, char **argv, struct options *ret, int *ret_status);
void options_free(struct options *options);

/* ---- daemon.c ---- */

/* The next signal, or 0 after ms. */
int daemon_next_signal(struct daemon *d, int64_t ms);

/* From start to stop; the exit status. */
int daemon_run(const struct options *options);

/* ---- parts.c ---- */

/*
 * Joins the instances of the store and starts all parts with d->config.  A store that is out of order meanwhile, and
 * another instance of our name, are waited for.  On failure none is left running; with CC_DOM_CANCELLED we were told to
 * stop while we waited.
 */
CC_MUST int parts_start(struct daemon *d, struct cc_err *err);

/* Drains the work, says goodbye to the service, closes, and leaves the instances of the store. */
void parts_stop(struct daemon *d);

/* The same after we were taken for gone: there is nothing of ours to be drained. */
void parts_drop(struct daemon *d);

/* Gives running parts what may change while they run; new_config is not yet d->config. */
CC_MUST int parts_reconfigure(struct daemon *d, const struct config *new_config,
        struct cc_err *err);

/* Of the service, without identity.  Borrows from config. */
CC_MUST int parts_service_settings(struct daemon *d, struct hsm *hsm, const struct config *config,
        struct intune_settings *ret, struct cc_err *err);

struct eventlog_settings parts_log_settings(const struct daemon *d);

/* ---- workloads.c ---- */

CC_MUST int workloads_start(struct daemon *d, struct parts *parts, struct cc_err *err);
CC_MUST int workloads_reconfigure(struct daemon *d, const struct config *new_config,
        struct cc_err *err);

/* Drains their work, all in the same time. */
void workloads_stop(const struct parts *parts, int64_t drain_ms);

/* Another instance of the store is gone: they go on with what it had in hand. */
void workloads_adopt(const struct parts *parts);

/* What a workload is doing, whichever it is. */
struct workload_status {
    bool running;
    unsigned in_work;
    uint64_t succeeded, failed;
    int64_t last_download_ms;
    int64_t ready_keys;      /* of pkcs */
    struct flow_status flow; /* of all but scep */
    struct scep_status scep;
};

enum workload { WORKLOAD_PKCS, WORKLOAD_PFX_IMPORT, WORKLOAD_SCEP, WORKLOAD_REVOCATION, WORKLOADS };

/* Its name as a feature and in the journal. */
const char *workload_name(enum workload workload);
unsigned workload_feature(enum workload workload); /* CONFIG_… */
void workload_get_status(const struct daemon *d, enum workload workload,
        struct workload_status *ret);

/* ---- enrolment.c ---- */

CC_MUST int enrolment_start(struct daemon *d, struct parts *parts, struct cc_err *err);
void enrolment_get_status(struct scep *scep, struct eventlog *log, struct workload_status *ret);

/* ---- reload.c ---- */

/* Reads the configuration again.  A bad one changes nothing.  -1: the daemon cannot go on. */
CC_MUST int daemon_reload(struct daemon *d, struct cc_err *err);

/* From the control socket: the main thread reloads, and answers the exchange with what came of it. */
void reload_ask(struct daemon *d, struct http_exchange *exchange);

/* Somebody who asked has not been served: the signal came while others were waited for. */
bool reload_is_wanted(struct daemon *d);

/* Who still waits is sent away; before the control socket is closed. */
void reload_end(struct daemon *d);

/* Events 11 for each effective setting. */
void daemon_log_settings(struct daemon *d);

/* ---- status.c ---- */

/* What "certconnector status" shows; yours to put, NULL without memory. */
json_object *status_build(struct daemon *d);

/* The heartbeat of the connector service protocol; the same.  *ret_features: CONFIG_…, those that it names. */
json_object *status_build_heartbeat(struct daemon *d, unsigned *ret_features);

/* One line for systemd. */
void status_line(struct daemon *d, char *ret_text, size_t size);

/* Whether work can be done; else *ret_text says what is missing. */
bool status_is_ready(struct daemon *d, char *ret_text, size_t size);

const char *status_contact_name(enum intune_contact contact);

/* ---- keys.c ---- */

#define KEYS_MAX 64 /* looked after, of those configured */

struct key_state {
    char role[32];
    char uri[512];
    bool good;
    int64_t checked_ms; /* wall time; 0: not yet */
    char error[256];    /* why it is not good */
};

/* Tries each configured key, when the token is open, at once and then at every interval; in a thread of its own. */
CC_MUST int keys_start(struct daemon *d, struct hsm *hsm, int64_t interval_ms,
        struct keys **ret_keys, struct cc_err *err);
void keys_set_interval(struct keys *keys, int64_t interval_ms);

/* Into an array of KEYS_MAX; how many. */
size_t keys_get(struct keys *keys, struct key_state *ret_states);

/* Waits for an operation under way, at most its deadline; accepts NULL. */
void keys_stop(struct keys *keys);

/* ---- expiry.c ---- */

/*
 * Says events 50, 51 and 53 of what ends on a day, each crossing of a threshold once and for all; from a thread of its own.
 * scep (NULL: off) is borrowed until expiry_stop(), config until that or expiry_reconfigure().
 */
CC_MUST int expiry_start(struct daemon *d, struct scep *scep, struct expiry **ret_expiry,
        struct cc_err *err);
void expiry_reconfigure(struct expiry *expiry, const struct config *config);

/* What it looks after, those that end first in front; a copy, yours to free with upkeep_items_free(). */
CC_MUST int expiry_get(struct expiry *expiry, struct upkeep_items *ret, struct cc_err *err);
void expiry_stop(struct expiry *expiry); /* accepts NULL */

/* ---- findings.c ---- */

/* Event 52 for each thing that is wrong with files and disks. */
void findings_say(struct daemon *d);

/* ---- identity.c ---- */

/* The names of its keys in [keys]. */
#define IDENTITY "identity"
#define IDENTITY_NEXT "identity-next"

/*
 * Reads the identity that there is, for intune_open(): identity_fill().  *ret_identity is NULL where the configuration
 * wants none.  config: what the parts are started with.
 */
CC_MUST int identity_open(struct daemon *d, struct hsm *hsm, const struct config *config,
        struct identity **ret_identity, struct cc_err *err);
void identity_fill(struct identity *identity, struct intune_settings *settings);

/* Enrols, renews and enrols anew from a thread of its own. */
CC_MUST int identity_start(struct identity *identity, struct intune *intune, struct cc_err *err);

/* Settings of a new configuration for intune, with the identity; of which it goes on to use the texts. */
CC_MUST int identity_reconfigure(struct identity *identity, const struct config *new_config,
        struct cc_err *err);

/* What status shows of it. */
struct identity_status {
    bool enrolled;
    bool refused, removed;          /* by the service */
    char connector_id[CC_UUID_LEN]; /* as the rest: "" or 0 where it is not enrolled */
    char key[32];
    char serial[65];
    int64_t not_before_ms, not_after_ms, renew_after_ms;
    char last_error
            [256]; /* why it could not be enrolled or renewed; "": it was not tried, or it worked */
};
void identity_get_status(struct identity *identity, struct identity_status *ret);

void identity_stop(struct identity *identity);  /* its thread; NULL is fine, here and below */
void identity_close(struct identity *identity); /* when intune is closed, before hsm */

/* ---- watch.c ---- */

/* Says events 40, 41, 45 and 46, and tries store and log again, from a thread of its own; before others use the store. */
CC_MUST int watch_start(struct daemon *d, struct watch **ret_watch, struct cc_err *err);

/* When nobody else uses the store any more; accepts NULL. */
void watch_stop(struct watch *watch);

/* ---- monitor.c, metrics.c ---- */

/* Opens it there, or moves it; NULL: there is none.  -1: it stays where it is. */
CC_MUST int monitor_move(struct daemon *d, const char *listen, struct cc_err *err);
bool monitor_is_at(const struct daemon *d, const char *listen);
void monitor_close(struct daemon *d);

struct exposition;
void metrics_write(struct daemon *d, struct exposition *e);

/* ---- control.c ---- */

CC_MUST int control_open(struct daemon *d, struct cc_err *err);

/* ---- health.c ---- */

/* Sends health messages from a thread of its own, and prunes the journal once a day. */
CC_MUST int health_start(struct daemon *d, struct intune *intune, int64_t interval_ms,
        struct health **ret_health, struct cc_err *err);
void health_set_interval(struct health *health, int64_t interval_ms);

/* Sends a last message, and ends; accepts NULL. */
void health_stop(struct health *health);

/* ---- lifecycle.c ---- */

/* The service has answered a health message that named these features; in the thread of health messages. */
void lifecycle_learn(struct daemon *d, unsigned features, const struct intune_lifecycle *now);
void lifecycle_get(struct daemon *d, struct intune_lifecycle *ret);

/* Which of these features it does not allow; CONFIG_…. */
unsigned lifecycle_refused(const struct intune_lifecycle *lifecycle, unsigned features);

#endif
