/* SPDX-License-Identifier: MIT */
#ifndef FLOW_FLOW_H
#define FLOW_FLOW_H

/*
 * The way of requests from a queue of the service through a workload and back; knows nothing of what the work is.
 *
 *   download -> journal (received) -> work -> journal (issued, failed) -> upload -> journal (reported)
 *            -> admin event -> journal (closed)
 *
 * Threads of a flow: one downloads, a pool works, one keeps leases and gives back what cannot be done, two upload.
 * No lock is held while the service, the token or the disk is waited for, but for admission (flow_int.h).  A request
 * is in hand from its download until its row is closed or forgotten.  What is in hand is bounded: no more is asked of
 * the service than workers will soon take, and nothing while the workload is not ready.
 *
 * Requests of different CAs go in lanes.  Each lane has a worker of its own and the others are shared, so that a CA that
 * hangs slows down no other.  A lane in which 5 tries in a row came to nothing is sick: its requests wait in order, and it
 * is tried with one at a time until that works.  Up to 500 requests of a CA that is sick, or that lets all its workers
 * wait, take no room that others could have; what comes beyond these, and what has waited too long, goes back to the
 * service.
 *
 * After a crash the journal tells how far each request was.  Finished ones are uploaded again, which the service
 * recognises; those reported get the admin event they lack; those for which something was begun outside (flow_prepare())
 * are worked on.  The others go back to the service and come again, or are worked on where nothing can go back.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/histogram.h"
#include "eventlog/eventlog.h"
#include "intune/queue.h"
#include "intune/service.h"
#include "store/journal.h"

struct flow;
struct flow_item;

/*
 * Where requests come from that no queue with leases gives out: nothing is renewed or given back, and what is not
 * answered comes again by itself.  arg is the workload's.
 */
struct flow_source {
    int (*download)(void *arg, unsigned max, struct intune_work **ret_work, size_t *ret_count,
            size_t *ret_malformed, struct cc_err *err);
    int (*upload)(void *arg, const char *const *results, size_t count,
            enum intune_verdict *ret_verdicts, struct cc_err *err);
};

/* What events and the journal say of a request; borrowed from its body, NULL: not known. */
struct flow_about {
    const char *user, *device, *thumbprint;
    const char *variant; /* which of the kind's variants it is; NULL: the first */
    bool resumes; /* its body holds nothing secret: it is journaled, so that a crash does not send it back */
};

/* One request as the workload sees it; borrowed during the call. */
struct flow_request {
    const char *request_context;
    const char *request_id;
    bool last_attempt; /* the service will not send it again: a failure is final */
    json_object *body;
    const char *note;       /* of flow_prepare(), in this attempt or before a crash; NULL: none */
    struct flow_item *item; /* for flow_prepare() */
};

/*
 * Journals, durably, that something outside is about to be begun, and what must be known to look it up after a crash.
 * From then on the request does not go back to the service but by FLOW_LATER.
 */
CC_MUST int flow_prepare(const struct flow_request *request, const char *note, struct cc_err *err);

#define FLOW_DOWNLOAD_MAX 500
#define FLOW_RESULT_MAX ((size_t)1024 * 1024) /* bytes of one result's JSON */
#define FLOW_DETAIL_LEN 384
#define FLOW_LANE_LEN 65

struct flow_result {
    struct cc_buf json; /* as it will be uploaded */
    enum journal_outcome outcome;
    enum intune_error_code error_code; /* of a failure */
    char detail[FLOW_DETAIL_LEN];      /* how it was done, or why it was not */
    /* For events and the journal; "": not known. */
    char thumbprint[41], serial_number[65], ca[65];
    enum event_id event; /* instead of the variant's event of this outcome; 0: that one */
};

/* What became of an attempt. */
enum flow_outcome {
    FLOW_FINISHED, /* well or badly: result is filled */
    FLOW_LATER,    /* nothing was done, or what was begun is undone: tried again, or given back */
    FLOW_UNKNOWN,  /* something may have been done outside: tried here until it is known */
    FLOW_PENDING, /* somebody outside has to decide: the same, at leisure, and others are not kept waiting */
    FLOW_NOT_OURS /* left to other instances: forgotten here, without a result and without an admin event */
};

struct flow_events {
    enum event_id download_success, download_failure, downloaded_request;
    enum event_id work_success, work_failed_attempt, work_failure;
    enum event_id upload_success, upload_failure, uploaded_request;
    enum event_id request_success, request_failure;
};

/* Requests of one queue that are told apart in the event log. */
struct flow_variant {
    const char *name;  /* in the journal; NULL of the first */
    const char *title; /* its requests in messages: "imported-PFX request" */
    struct flow_events event;
};

/* A result that the service did not take. */
struct flow_refused {
    const char *request_id;
    const char *serial_number, *ca; /* as the result said them; NULL: not known */
};

/* What a workload is.  The functions are called with the arg of flow_start(), from any thread. */
struct flow_kind {
    enum intune_queue queue;
    const struct flow_source *source; /* instead of the queue; NULL: the queue */
    const char *workload;             /* its name in the journal: "pfx-import" */
    const struct flow_variant *variants;
    size_t variant_count;
    unsigned batch_max; /* the most that is asked for at once; 0: 100; at most FLOW_DOWNLOAD_MAX */

    /* How long what cannot be done now is kept before it goes back; 0: 5 minutes; -1: for ever. */
    int64_t keep_ms;
    int64_t retry_max_ms; /* where the backoff of failed attempts ends; 0: 10 s */

    /*
     * The CA that a request is for, by its body or by the note of flow_prepare() (NULL: none): at most FLOW_LANE_LEN - 1
     * bytes, borrowed.  NULL: of no CA, or it cannot be told.  It does not block.  The function may be NULL.
     */
    const char *(*lane)(void *arg, json_object *body, const char *note);

    /* Whether work could be done now. */
    bool (*ready)(void *arg);

    void (*describe)(void *arg, json_object *body, struct flow_about *ret);

    /* err says why on every outcome but success. */
    enum flow_outcome (*work)(void *arg, const struct flow_request *request,
            struct flow_result *ret, struct cc_err *err);

    /*
     * Undoes a success that the service did not take; -1: not now, it is tried again until it succeeds, across restarts.
     * A request that another instance did is then forgotten, so that it is worked anew should it come again.  May be NULL.
     */
    int (*withdraw)(void *arg, const struct flow_refused *refused, struct cc_err *err);
};

/* Strings are copied, the rest is borrowed and must outlive the flow. */
struct flow_settings {
    struct intune *intune;
    struct store *store;
    struct eventlog *log;
    const char *connector_id;
    unsigned workers;
    unsigned lanes; /* so many names may be told apart by the kind's lane() */
    unsigned batch; /* 1..100, or the kind's batch_max */
    int64_t poll_wait_ms;
    int64_t poll_interval_ms; /* between two downloads, kept across restarts; 0: as soon as there is room */
    unsigned max_attempts;
};

CC_MUST int flow_start(const struct flow_kind *kind, const struct flow_settings *settings,
        void *arg, struct flow **ret_flow, struct cc_err *err);

/* batch, poll_wait_ms, poll_interval_ms and max_attempts, for what follows. */
void flow_reconfigure(struct flow *flow, const struct flow_settings *settings);

/* The next download comes as soon as there is room, whatever is left of poll_interval_ms; one under way is not it. */
void flow_poll_now(struct flow *flow);

/* Another instance of the store is gone: goes on with what it had in hand, in the way of a start after a crash. */
void flow_adopt(struct flow *flow);

/* Ends and frees; accepts NULL.  What is begun ends and is uploaded within the time given, the rest goes back. */
void flow_stop(struct flow *flow, int64_t drain_ms);

struct flow_status {
    unsigned in_hand;
    uint64_t succeeded, failed; /* admin events written since start */
    int64_t last_download_ms;   /* wall time; 0: never */
    uint64_t
            tried_again; /* attempts that came to nothing and were repeated, here or by the service */
    uint64_t failed_by[INTUNE_ERROR_CODES]; /* the failed, by intune_error_code_number() */
    struct cc_histogram_values time;        /* of each admin event: since the download */
};
void flow_get_status(struct flow *flow, struct flow_status *ret);

#endif
