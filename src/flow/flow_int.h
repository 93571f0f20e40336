/* SPDX-License-Identifier: MIT */
#ifndef FLOW_FLOW_INT_H
#define FLOW_FLOW_INT_H

/*
 * Inside of a flow: the requests in hand, and who may touch what of them.
 *
 * A request's stage says who has it: nobody (queued, waiting, done, unsettled, returning: then only under the lock) or
 * one thread (working, settling: a worker; uploading: an uploader), which reads and writes it freely but for the fields
 * that the lock guards.  Lock order: admission, then lock.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/breaker.h"
#include "base/pool.h"
#include "flow/flow.h"

#define FLOW_BATCH_MAX 100 /* results of one upload, leases of one call */
#define FLOW_PER_WORKER 4  /* requests in hand for each worker, so that none waits for a download */
#define FLOW_BODY_MAX ((size_t)512 * 1024) /* bytes of a request in the journal */
#define FLOW_UPLOADERS 2  /* so that one journals while the other waits for the service */
#define FLOW_GATHER_MS 25 /* how long a result waits for its neighbours, while there are any */
#define FLOW_KEEP_MS                                                                               \
    (5 * INT64_C(60) * 1000) /* how long what cannot be done now is kept before it goes back */
#define FLOW_UNANSWERED_MAX                                                                        \
    4 /* uploads whose answer says nothing of a result; then it is refused */
#define FLOW_READY_POLL_MS 50 /* between two looks at a workload that is not ready */
#define FLOW_RETRY_MS 250     /* backoff of failed attempts, and where it ends */
#define FLOW_RETRY_MAX_MS 10000
#define FLOW_PENDING_MAX_MS 30000  /* the same of those that somebody has to decide on */
#define FLOW_PENDING_MAX 1000      /* of them take no room that others could have */
#define FLOW_HELD_MAX 500          /* of a CA that fails; the same, for each */
#define FLOW_SLOW_MS 2000          /* without an end in a lane, while other CAs may have work */
#define FLOW_ANSWER_MS 500         /* within which a service that has work answers a download */
#define FLOW_SERVICE_RETRY_MS 1000 /* the same of calls to the service and the store */
#define FLOW_SERVICE_RETRY_MAX_MS 30000
#define FLOW_LIMIT_RETRY_MS 20000 /* the same of a service that has no place for us */

enum flow_stage {
    FLOW_QUEUED,    /* waits in the line of its lane for a worker */
    FLOW_WORKING,   /* a worker has it */
    FLOW_WAITING,   /* waits for the time of its next try */
    FLOW_UNDECIDED, /* the same, as somebody has to decide on it */
    FLOW_DONE,      /* its result waits for an uploader */
    FLOW_UPLOADING, /* an uploader has it */
    FLOW_UNSETTLED, /* its result was not taken and is to be withdrawn; waits for the time of the next try */
    FLOW_SETTLING,  /* a worker withdraws it, or will: it waits in line */
    FLOW_RETURNING, /* not to be worked here: the keeper gives it back and forgets it */
    FLOW_STAGES
};

struct flow_item {
    TAILQ_ENTRY(flow_item) link;  /* in flow->items, guarded by lock */
    TAILQ_ENTRY(flow_item) place; /* in lane->line, guarded by lock */
    struct flow *flow;
    struct flow_lane *lane;         /* constant once in hand */
    bool in_line;                   /* guarded by lock: no worker has it */
    uint64_t turn;                  /* guarded by lock: the lower came first */
    enum flow_stage stage;          /* guarded by lock */
    bool lease_lost;                /* guarded by lock */
    int64_t lease_begin, lease_end; /* monotonic, guarded by lock; end 0: no lease to keep */
    char *holder; /* another instance, whose request was taken over with its lease; NULL: we; guarded by lock */
    char *request_context;                         /* guarded by lock while queued or returning */
    char *request_id, *user, *device, *thumbprint; /* constant */
    const struct flow_variant *variant;            /* constant */
    int attempt;                                   /* guarded by lock */
    int64_t received;                              /* monotonic, constant */
    json_object *body;                             /* NULL after the work */
    char *note;     /* of flow_prepare(), or the journal's; NULL: none */
    bool begun;     /* something may have been done outside; guarded by lock */
    bool told;      /* that somebody has to decide on it; the worker's */
    unsigned tries; /* that came to nothing, of the work or of withdrawing it */
    int64_t due;    /* of the next, monotonic; guarded by lock */
    struct flow_result result;
    bool journaled; /* the result stands in the journal */
    bool reported;  /* the row was reported before, or closed even */
    bool closed;
    bool silent; /* reported before: its admin event stands, or is written by who reported it */
    enum journal_verdict verdict;
    unsigned unanswered; /* uploads whose answer said nothing of it */
};

TAILQ_HEAD(flow_items, flow_item);

/* Requests of one CA.  Guarded by the flow's lock. */
struct flow_lane {
    char name[FLOW_LANE_LEN];  /* "": those of none */
    struct flow_items line;    /* wait for a worker */
    unsigned unfinished;       /* queued, working, waiting */
    unsigned working;          /* workers that it has */
    int64_t moved;             /* monotonic: when it last began from nothing, or a worker ended */
    struct cc_breaker breaker; /* of the one without a name: not used */
};

struct flow_thread {
    struct flow *flow;
    void (*run)(struct flow *flow);
    pthread_t id;
    bool started;
    bool ended; /* guarded by lock */
};

struct flow {
    struct flow_kind kind;
    void *arg;
    struct intune *intune;
    struct store *store;
    struct eventlog *log;
    char *connector_id;
    unsigned workers;  /* that are shared, and one */
    unsigned lane_max; /* constant */

    /* Held while a row and its item come (journal_receive) or go (journal_forget), so that they do so together. */
    pthread_mutex_t admission;

    pthread_mutex_t lock;
    pthread_cond_t room;   /* the downloader: there is room, or we stop */
    pthread_cond_t done;   /* the uploaders: there are results, or all is over */
    pthread_cond_t attend; /* the keeper and who pauses: something to give back, or we stop */
    pthread_cond_t idle;   /* flow_stop(): no result is left, or a thread has ended */

    /* ---- guarded by lock ---- */
    struct flow_items items; /* all in hand, oldest first */
    unsigned count[FLOW_STAGES];
    struct flow_lane *lanes; /* lane_max of them, the first without a name */
    unsigned lane_count;
    uint64_t turns;
    bool overflowed;      /* a sick lane had no room for what came */
    unsigned room_wanted; /* the downloader waits until fewer are unfinished; 0: it does not */
    int64_t done_since;   /* monotonic: when there began to be results that wait for an uploader */
    unsigned batch;
    int64_t poll_wait_ms;
    int64_t poll_interval_ms;
    bool polled;       /* there was a download, before a restart maybe, */
    int64_t polled_ms; /* then; monotonic */
    bool poll_wanted;  /* the next download does not wait for the interval */
    unsigned max_attempts;
    bool stopping;  /* no new work; what is done is still uploaded */
    bool closing;   /* the time to upload is over */
    bool recovered; /* what was found at the start has been looked at: now the keeper may */
    bool adopting;  /* another instance is gone: the keeper looks for what it left */
    /* ---- */

    atomic_ullong succeeded, failed, tried_again;
    atomic_ullong failed_by[INTUNE_ERROR_CODES];
    struct cc_histogram time;
    atomic_llong last_download_ms;
    atomic_bool feature_refused; /* and event 34 said so */

    struct cc_pool *pool;
    struct flow_thread downloader, keeper, uploaders[FLOW_UPLOADERS];
};

/* ---- items ---- */

/* The variant of this name, the first for NULL. */
const struct flow_variant *flow_variant_find(const struct flow *flow, const char *name);

/* Not yet in hand.  Copies what it is given. */
struct flow_item *flow_item_new(struct flow *flow, const char *request_context,
        const char *request_id, int attempt, const struct flow_about *about, struct cc_err *err);

/* With what stands in the journal: result, or request and note. */
struct flow_item *flow_item_from_entry(struct flow *flow, const struct journal_entry *entry,
        struct cc_err *err);
void flow_item_free(struct flow_item *item);

/* The lease runs from now, until this wall time. */
void flow_item_lease(struct flow_item *item, int64_t lease_until_ms);

/* The connector in whose name the service is spoken to of this request: ours, or who had it before. */
const char *flow_item_holder(const struct flow_item *item);
bool flow_same_holder(const struct flow_item *a, const struct flow_item *b);

/* All with the lock held. */
void flow_item_add(struct flow_item *item, enum flow_stage stage);
void flow_item_set_stage(struct flow_item *item, enum flow_stage stage);
void flow_item_remove(struct flow_item *item);
unsigned flow_unfinished(const struct flow *flow);

/*
 * With the lock held: queued or settling, it waits in line for a worker; as we stop it is put aside, and where its lane
 * is sick and has too many already it goes back.
 */
void flow_queue(struct flow_item *item);

/* With the lock held: not to be worked on now; back to the service, unless only we know what was begun. */
void flow_put_aside(struct flow_item *item);

/* Whether the request stays in the journal when it is not worked on to its end. */
bool flow_stays(const struct flow_item *item);

/* Whether there are results that need not wait for more: a batch of them, or no more will come. */
bool flow_gathered(const struct flow *flow);

/* What events say of a request: its result's where there is one; NULL for "". */
const char *flow_text(const char *text);
const char *flow_thumbprint(const struct flow_item *item);

/* ---- waiting ---- */

/* With the lock held: waits on cond at most ms. */
void flow_wait(struct flow *flow, pthread_cond_t *cond, int64_t ms);

/* Waits until the time is over (true), or the flow stops, or with uploads allowed closes (false). */
bool flow_pause(struct flow *flow, int64_t ms, bool while_stopping);

/* ---- what went wrong, said once ---- */

/* Whether what is done now could be made durable, and told. */
bool flow_can_record(const struct flow *flow);

/* The store works, but the row is not where we thought it was: no use in trying again. */
bool flow_store_refused(const struct cc_err *err);

/* What the flow does, step by step, for who asked for debug events of the operational channel. */
void flow_debug(struct flow *flow, const char *fmt, ...) CC_PRINTF(2, 3);

/* After each call to the service: event 34 once when it does not allow the feature; returns rc. */
int flow_service_said(struct flow *flow, int rc, const struct cc_err *err);

/* ---- the steps, a file each ---- */

/* flow_source.c: the queue, or what is there instead of it. */
CC_MUST int flow_source_download(struct flow *flow, unsigned max, int64_t wait_ms,
        struct intune_work **ret_work, size_t *ret_count, size_t *ret_malformed,
        struct cc_err *err);
CC_MUST int flow_source_upload(struct flow *flow, const char *holder, const char *const *results,
        size_t count, enum intune_verdict *ret_verdicts, struct cc_err *err);
bool flow_has_leases(const struct flow *flow);

/* What the store knows of the last download, when downloads have an interval. */
void flow_read_poll(struct flow *flow);

/* Waits until the time of the next download; false: we stop. */
bool flow_wait_poll(struct flow *flow);
void flow_note_poll(struct flow *flow);

/* ---- flow_lane.c: whose turn it is; with the lock held where nothing else is said ---- */

CC_MUST int flow_lanes_init(struct flow *flow, unsigned lanes, struct cc_err *err);
unsigned flow_threads(const struct flow *flow);

/* Without the lock, of an item that is not yet in hand: what the kind says of its body, or the CA of its result. */
void flow_lane_choose(struct flow_item *item);

/* Hands those whose turn it is to the workers: after each change of lines, workers, or time. */
void flow_dispatch(struct flow *flow);
void flow_line_leave(struct flow_item *item);

/* As we stop: nothing waits for a worker any more, or for its next try. */
void flow_leave_off(struct flow *flow);

/* A worker's done with a request of the lane; true when it fell sick by that, or got well: to be told without the lock. */
enum flow_lane_verdict { FLOW_LANE_ANSWERED, FLOW_LANE_FAILED, FLOW_LANE_NOTHING };
bool flow_lane_end(struct flow *flow, struct flow_lane *lane, enum flow_lane_verdict verdict);
void flow_lane_tell(struct flow *flow, const struct flow_lane *lane, bool failed,
        const struct cc_err *err);

/* Requests of sick and of hanging lanes that take no room that others could have. */
unsigned flow_held(const struct flow *flow);

/* Whether it waits in line for a sick lane. */
bool flow_is_held(const struct flow_item *item);

/* When a sick lane may be tried again, monotonic. */
int64_t flow_lanes_due(const struct flow *flow);

/* flow_recover.c: what the journal holds that is not in hand: at start, and when others are gone.  Gives up when the flow
   stops. */
void flow_recover(struct flow *flow);

/* flow_download.c, flow_work.c, flow_settle.c, flow_keep.c, flow_upload.c */
void flow_downloader(struct flow *flow);
void flow_work(void *item);
void flow_settle(void *item);
void flow_keeper(struct flow *flow);
void flow_uploader(struct flow *flow);

/* flow_settle.c: whether the result is to be withdrawn, its verdict standing in the journal. */
bool flow_must_settle(const struct flow_item *item);

/* With the lock held: tried again after a while. */
void flow_settle_later(struct flow_item *item);

/* flow_upload.c: the admin event of an uploaded request, when it is ours to write; to be synced before its row is closed. */
void flow_write_admin_event(struct flow *flow, const struct flow_item *item);

#endif
