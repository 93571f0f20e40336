/* SPDX-License-Identifier: MIT */
#ifndef STORE_JOURNAL_H
#define STORE_JOURNAL_H

/*
 * The journal: requests under way, so that nothing is lost and nothing done twice.
 *
 *   received -> prepared -> issued -> reported -> closed
 *                        \-> failed /
 *
 * received   downloaded from the service; nothing done yet
 * prepared   something outside was begun that must be looked up after a crash (a CA's submission; not every workload)
 * issued     the work is done and its result stands, word for word as it will be uploaded
 * failed     the work ended in failure, and the result says so
 * reported   the service has answered the upload; the admin event is still to be written
 * closed     the admin event stands; kept until pruned, so that a request that comes again is recognised
 *
 * Each call is one durable step.  The key is (workload, request id).  What a row holds is nothing secret: passwords
 * and PFX are not journaled in clear, a request that had only been received is downloaded again.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "store/store.h"

enum journal_state {
    JOURNAL_RECEIVED = 1,
    JOURNAL_PREPARED,
    JOURNAL_ISSUED,
    JOURNAL_FAILED,
    JOURNAL_REPORTED,
    JOURNAL_CLOSED
};

/* How an attempt ended. */
enum journal_outcome {
    JOURNAL_NO_OUTCOME = 0,
    JOURNAL_SUCCEEDED,
    JOURNAL_FAILED_FINAL,
    JOURNAL_FAILED_RETRYABLE
};

/* What the service said to the upload. */
enum journal_verdict {
    JOURNAL_NO_VERDICT = 0,
    JOURNAL_ACCEPTED,
    JOURNAL_ALREADY_COMPLETED,
    JOURNAL_LEASE_LOST,
    JOURNAL_UNKNOWN
};

/* A row.  In calls: borrowed strings, NULL where not known.  In callbacks: valid during the callback. */
struct journal_entry {
    const char *workload; /* "pfx-import" … */
    const char *request_id;
    const char *request_context;
    int attempt;
    enum journal_state state;
    enum journal_outcome outcome;
    enum journal_verdict verdict;
    const char *user;
    const char *device;
    const char *thumbprint;         /* what the request named, or the result */
    const char *serial_number, *ca; /* of the result */
    const char *
            body; /* the request, for those that may be worked on after a crash; else NULL; gone when it ended */
    const char *variant;    /* of the workload's requests, NULL: the usual */
    const char *note;       /* of journal_prepare(); gone when the work is done */
    const char *result;     /* JSON as uploaded */
    const char *error_code; /* of a failure, as on the wire */
    const char *detail;     /* for the admin event: error text, or how it was done */
    const char *holder;     /* the connector that the service leased it to */
    int64_t lease_until_ms;
    int64_t received_ms;
    int64_t updated_ms;
};

/* What to do with a request that was downloaded. */
enum journal_todo {
    JOURNAL_DO,     /* new, a new attempt, or one that was received and never worked: work it */
    JOURNAL_UPLOAD, /* issued or failed before: upload the stored result */
    JOURNAL_REUPLOAD, /* taken or refused for good before: upload the stored result again, write no event */
    JOURNAL_BUSY, /* the same attempt is already known in state received or prepared: in work, or after a crash */
    JOURNAL_ELSEWHERE /* another instance has it in hand, or it waits to be adopted: nothing is to be done here */
};

/*
 * Records a batch of downloaded requests in one step; todo[i] for entries[i].
 *
 *   known as            attempt    becomes                                                todo
 *   nothing             any        received                                               DO
 *   received, prepared  higher     the same, with the new context, attempt and lease      DO
 *   received, prepared  same       the same, with the new context and lease               BUSY
 *   received, prepared  lower      unchanged                                              BUSY
 *   issued, failed      any        unchanged: the result holds its context word for word  UPLOAD
 *   reported, closed    higher     after a failure to be retried: received, all else anew DO
 *   reported, closed    any other  when another result or lease came before ours: issued  UPLOAD
 *                                  or failed again, without verdict
 *   reported, closed    any other  else unchanged                                         REUPLOAD
 *
 * An attempt of 0 means that the service counts none: it counts as higher where a failure is to be retried, and as the
 * same everywhere else.
 *
 * Open rows of another instance are ELSEWHERE while it runs.  Where it is gone they become ours, but those that are
 * prepared (they get the new context, attempt and lease) or reported: these are ELSEWHERE until they are adopted.
 *
 * At a start everything that is received or prepared has no worker: whoever walks the journal then works those, and
 * takes BUSY for "I have it already".
 */
CC_MUST int journal_receive(struct store *store, const struct journal_entry *entries, size_t count,
        enum journal_todo *ret_todo, struct cc_err *err);

/* received|prepared -> prepared, with the workload's own note of what was begun (may be sealed), replaced. */
CC_MUST int journal_prepare(struct store *store, const char *workload, const char *request_id,
        const char *note, struct cc_err *err);

/*
 * received|prepared -> issued or failed, by outcome.  -1 (CC_DOM_STORE, code 0) when the row is in another state.  Of the
 * steps that end the work on a request (this, and report and close below) the same again is no error, so that whoever
 * was not told whether it became durable may repeat it.
 */
CC_MUST int journal_finish(struct store *store, const char *workload, const char *request_id,
        enum journal_outcome outcome, const char *result, const char *error_code,
        const char *detail, struct cc_err *err);

/* The same for a batch in one step.  ret_done[i]: whether that row could be finished; those that could are. */
struct journal_finished {
    const char *request_id;
    enum journal_outcome outcome;
    const char *result;
    const char *error_code;
    const char *detail;
    const char *thumbprint, *serial_number, *ca; /* NULL: what is there stays */
};
CC_MUST int journal_finish_batch(struct store *store, const char *workload,
        const struct journal_finished *finished, size_t count, bool *ret_done, struct cc_err *err);

/*
 * issued|failed -> reported, a batch in one step.  In this and the two below a request that is in another state
 * fails the whole batch (CC_DOM_STORE, code 0) and nothing of it is done.
 */
struct journal_report {
    const char *request_id;
    enum journal_verdict verdict;
};
CC_MUST int journal_report(struct store *store, const char *workload,
        const struct journal_report *reports, size_t count, struct cc_err *err);

/* reported -> closed, a batch in one step. */
CC_MUST int journal_close(struct store *store, const char *workload, const char *const *request_ids,
        size_t count, struct cc_err *err);

/* reported -> gone: the result was withdrawn, as another instance's stands; should the request come again, it is new. */
CC_MUST int journal_withdraw(struct store *store, const char *workload, const char *request_id,
        struct cc_err *err);

/* received, prepared -> gone: the request was given back to the service unworked. */
CC_MUST int journal_forget(struct store *store, const char *workload,
        const char *const *request_ids, size_t count, struct cc_err *err);

/*
 * Makes open rows ours whose instance is gone (store/instance.h); *ret_count: how many.  Reported ones only from earlier
 * runs of our own name, or when their instance has been gone for an hour: whether their admin event stands is known to
 * the log of the one that reported them.
 */
CC_MUST int journal_adopt(struct store *store, const char *workload, int64_t *ret_count,
        struct cc_err *err);

/* Calls fn for each row of a workload that is ours and not closed, oldest first, until fn returns non-zero.  fn must not call the store. */
typedef int (*journal_fn)(void *arg, const struct journal_entry *entry);
CC_MUST int journal_walk(struct store *store, const char *workload, journal_fn fn, void *arg,
        struct cc_err *err);

/* One row; fn is called once or not at all. */
CC_MUST int journal_find(struct store *store, const char *workload, const char *request_id,
        journal_fn fn, void *arg, struct cc_err *err);

/*
 * For people who look for something: all rows of any workload and instance with this request id, in whatever case, or this
 * serial number of a certificate (upper-case hex; NULL: none), oldest first.  It may read the whole journal.
 */
CC_MUST int journal_search(struct store *store, const char *request_id, const char *serial_number,
        journal_fn fn, void *arg, struct cc_err *err);

struct journal_counts {
    /* Our rows in each state; closed ones are all instances', and those not yet pruned. */
    uint64_t by_state[JOURNAL_CLOSED + 1];
    /* Closed since the store was made, by all instances, each request once: one that failed and came again counts as it
       ended last. */
    uint64_t succeeded, failed;
    int64_t oldest_open_ms; /* received_ms of our oldest row not closed; 0: none */
};
CC_MUST int journal_count(struct store *store, const char *workload, struct journal_counts *ret,
        struct cc_err *err);

/* Removes rows closed before this time. */
CC_MUST int journal_prune(struct store *store, int64_t before_ms, struct cc_err *err);

#endif
