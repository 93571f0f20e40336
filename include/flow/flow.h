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
 * After a crash the journal tells how far each request was.  Those not finished go back to the service and come again;
 * finished ones are uploaded again, which the service recognises; those reported get the admin event they lack.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "eventlog/eventlog.h"
#include "intune/queue.h"
#include "store/journal.h"

struct flow;

/* What events and the journal say of a request; borrowed from its body, NULL: not known. */
struct flow_about {
    const char *user, *device, *thumbprint;
};

/* One request as the workload sees it; borrowed during the call. */
struct flow_request {
    const char *request_context;
    const char *request_id;
    bool last_attempt; /* the service will not send it again: a failure is final */
    json_object *body;
};

#define FLOW_RESULT_MAX ((size_t)1024 * 1024) /* bytes of one result's JSON */
#define FLOW_DETAIL_LEN 384

struct flow_result {
    struct cc_buf json; /* as it will be uploaded */
    enum journal_outcome outcome;
    enum intune_error_code error_code; /* of a failure */
    char detail[FLOW_DETAIL_LEN];      /* how it was done, or why it was not */
};

/* What a workload is.  The functions are called with the arg of the settings, from any thread. */
struct flow_kind {
    enum intune_queue queue;
    const char *workload; /* its name in the journal: "pfx-import" */
    const char *title;    /* its requests in messages: "imported-PFX request" */
    struct {
        enum event_id download_success, download_failure, downloaded_request;
        enum event_id work_success, work_failed_attempt, work_failure;
        enum event_id upload_success, upload_failure, uploaded_request;
        enum event_id request_success, request_failure;
    } event;

    /* Whether work could be done now. */
    bool (*ready)(void *arg);

    void (*describe)(void *arg, json_object *body, struct flow_about *ret);

    /*
     * Does the work, well or badly, and fills ret: 0.  -1: nothing could be done now and the request is as it was;
     * err says why, and it is tried again.
     */
    int (*work)(void *arg, const struct flow_request *request, struct flow_result *ret,
            struct cc_err *err);
};

/* Strings are copied, the rest is borrowed and must outlive the flow. */
struct flow_settings {
    struct intune *intune;
    struct store *store;
    struct eventlog *log;
    const char *connector_id;
    unsigned workers;
    unsigned batch; /* 1..100 */
    int64_t poll_wait_ms;
    unsigned max_attempts;
};

CC_MUST int flow_start(const struct flow_kind *kind, const struct flow_settings *settings,
        void *arg, struct flow **ret_flow, struct cc_err *err);

/* batch, poll_wait_ms and max_attempts, for what follows. */
void flow_reconfigure(struct flow *flow, const struct flow_settings *settings);

/* Ends and frees; accepts NULL.  What is begun ends and is uploaded within the time given, the rest goes back. */
void flow_stop(struct flow *flow, int64_t drain_ms);

struct flow_status {
    unsigned in_hand;
    uint64_t succeeded, failed; /* admin events written since start */
    int64_t last_download_ms;   /* wall time; 0: never */
};
void flow_get_status(struct flow *flow, struct flow_status *ret);

#endif
