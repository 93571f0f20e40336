/* SPDX-License-Identifier: MIT */
#ifndef EVENTLOG_EVENTLOG_H
#define EVENTLOG_EVENTLOG_H

/*
 * The event log: the product's record of what it did, for administrators and their tools.
 *
 * Two channels, admin.log and operational.log, one JSON object a line.  Ids, names, channels, categories and levels
 * come from the one table in eventlog/catalogue.h.  A file that reaches its size is archived under a name with its
 * time span, compressed; no line is ever lost, torn or written twice.  Where journald runs, each event goes there too.
 * Peer text cannot forge a line or a terminal sequence.
 *
 * Any thread.  Writing blocks for a write(2); an admin event is on disk (fdatasync) when the call returns.  A failure
 * to write is reported through cc_log() and by the return value, and the line is tried again with the next event.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "eventlog/catalogue.h"

struct eventlog;

enum eventlog_debug {
    EVENTLOG_DEBUG_NONE,
    EVENTLOG_DEBUG_ADMIN,
    EVENTLOG_DEBUG_OPERATIONAL,
    EVENTLOG_DEBUG_ALL
};

/* Everything is copied. */
struct eventlog_settings {
    const char *directory;
    const char *connector; /* the instance's name, in each event */
    uint64_t max_size;     /* bytes of one file before it is archived */
    enum eventlog_debug debug;
    bool journald; /* send there too, where it runs */
};

CC_MUST int eventlog_open(const struct eventlog_settings *settings, struct eventlog **ret_log,
        struct cc_err *err);
void eventlog_close(struct eventlog *log); /* accepts NULL */

/* New settings for a running log (size, debug level, name); the directory stays. */
CC_MUST int eventlog_reconfigure(struct eventlog *log, const struct eventlog_settings *settings,
        struct cc_err *err);

/* What an event may say besides its message; NULL or 0: not said.  Borrowed during the call. */
struct event_fields {
    const char *request_id;
    const char *transaction_id;
    const char *serial_number;
    const char *thumbprint;
    const char *user;
    const char *device;
    const char *ca;
    int64_t duration_ms; /* said when > 0 */
    const struct cc_err *error;
    bool deferred; /* not said: an admin event that may wait for eventlog_sync() to be on disk */
};

/* Writes one event; log NULL writes nothing.  fields may be NULL.  The message is one line; control bytes are escaped. */
int eventlog_write(struct eventlog *log, enum event_id id, const struct event_fields *fields,
        const char *fmt, ...) CC_PRINTF(4, 5);

/* Returns when every admin event written so far is on disk; -1 when one is not, and then it is tried again each time. */
CC_MUST int eventlog_sync(struct eventlog *log, struct cc_err *err);

/*
 * Trouble: a line could not be written, or not be synced.  It is kept and written as soon as that works again, behind
 * what is there and whole; but what kept lines take is bounded, and they die with the process.  So those who take work
 * from others ask eventlog_is_usable() first.
 */
struct eventlog_state {
    bool usable;
    int64_t since_ms;     /* wall time: of the last change; 0: never one */
    uint64_t waiting;     /* lines that are kept */
    uint64_t lost;        /* lines that found no room there, since the log was opened */
    struct cc_err reason; /* of the newest trouble */
};

/* begun is called once for each trouble, with the log's lock held: it must not call the log. */
typedef void (*eventlog_trouble_fn)(void *arg);
void eventlog_watch(struct eventlog *log, eventlog_trouble_fn begun, void *arg);

/* How often each event of event_types() was written since the log was opened, in their order. */
#define EVENTLOG_TYPES_MAX 160
void eventlog_get_counts(struct eventlog *log, uint64_t ret_counts[EVENTLOG_TYPES_MAX]);
uint64_t eventlog_count(struct eventlog *log, enum event_id id); /* of one */

bool eventlog_is_usable(struct eventlog *log); /* cheap; accepts NULL */
void eventlog_get_state(struct eventlog *log, struct eventlog_state *ret);

/* Tries to end the trouble: 0 when all that was kept is written. */
CC_MUST int eventlog_flush(struct eventlog *log, struct cc_err *err);

/* A debug line into a channel, written only when the debug level asks for that channel. */
void eventlog_debug(struct eventlog *log, enum event_channel channel, enum event_category category,
        const char *fmt, ...) CC_PRINTF(4, 5);

/* ---- reading ---- */

struct event_filter {
    int channel;            /* enum event_channel, or -1: both */
    int id;                 /* 0: any */
    int category;           /* enum event_category, or -1: any */
    int64_t since_ms;       /* 0: from the beginning */
    const char *request_id; /* or transaction id; NULL: any */
    const char *about;      /* the same, or serial number of a certificate; NULL: any */
};

/* line: the JSON text as written, without its line end.  Non-zero ends the reading. */
typedef int (*event_fn)(void *arg, const char *line, size_t len);

/*
 * Calls fn for each event of a directory that matches, in order of time, archives included.  With follow it goes on
 * with what is written from then on (across archiving), until fn returns non-zero or stop (may be NULL) becomes true.
 */
CC_MUST int eventlog_read(const char *directory, const struct event_filter *filter, bool follow,
        const volatile bool *stop, event_fn fn, void *arg, struct cc_err *err);

/*
 * Which of these requests have an event in the admin channel since that time, events that were deferred or could not be
 * written yet included; for recovery after a crash.  One reading for all of them.
 */
CC_MUST int eventlog_find_admin_events(struct eventlog *log, const char *const *request_ids,
        size_t count, int64_t since_ms, bool *ret_found, struct cc_err *err);

#endif
