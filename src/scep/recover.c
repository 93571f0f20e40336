/* SPDX-License-Identifier: MIT */
#include "scep_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/*
 * After a crash, ours or another instance's.  Rows whose notice was in memory are told and settled anew, without the
 * admin event where it stands; rows that were claimed have a certificate, which is found at the CA, or nothing, and wait
 * for their device.
 */

#define OWN_MAX 4096
#define GIVE_UP_MS                                                                                 \
    (INT64_C(24) * 3600 * 1000) /* a device that does not come back by then is not waited for */
#define LEFT_MAX 64

/* ---- notices ---- */

struct own {
    struct scepdb_row *row[OWN_MAX];
    char hex[OWN_MAX][SCEP_HEX_LEN];
    const char *request_id[OWN_MAX];
    bool found[OWN_MAX];
    size_t count;
    int64_t since_ms;
};

static int
note_own(void *arg, const struct scepdb_row *row)
{
    struct own *own = arg;

    if ((row->notify != SCEPDB_NOTIFY_DUE && row->notify != SCEPDB_NOTIFY_EVENT) ||
            row->id.len != SCEPDB_ID_LEN || !row->ours)
        return 0;
    if ((own->row[own->count] = row_copy(row)) == NULL)
        return 1;
    cc_hex(row->id.data, SCEPDB_ID_LEN, false, own->hex[own->count]);
    own->request_id[own->count] = own->hex[own->count];
    if (own->since_ms == 0 || row->received_ms < own->since_ms)
        own->since_ms = row->received_ms;
    return ++own->count == OWN_MAX;
}

static int
collect_own(struct scep *scep, struct own *own, struct cc_err *err)
{
    if (scepdb_walk_open(scep->store, note_own, own, err) != 0)
        return -1;
    if (own->count == 0)
        return 0;
    return eventlog_find_admin_events(scep->log, own->request_id, own->count, own->since_ms,
            own->found, err);
}

/* What fails here, as while the token is away, is due in the store a minute later. */
int
recover_own(struct scep *scep, struct cc_err *err)
{
    struct own *own = calloc(1, sizeof(*own));
    int64_t adopted = 0;
    int rc;

    if (own == NULL)
        return cc_err_nomem(err);
    if ((rc = scepdb_adopt(scep->store, &adopted, err)) == 0)
        rc = collect_own(scep, own, err);
    for (size_t i = 0; i < own->count; i++) {
        struct notice *notice = NULL;
        struct cc_err why = { 0 };

        if (rc == 0 && notice_of_row(scep, own->row[i], &notice, &why) == 0)
            notice_enqueue_again(notice, own->found[i]);
        else if (rc == 0)
            cc_log(CC_LOG_WARNING, "scep", "%s", cc_err_text(&why));
        free(own->row[i]);
    }
    free(own);
    return rc;
}

/* ---- enrolments ---- */

struct left {
    struct scep *scep;
    struct {
        struct task *task;
        struct cc_buf csr;
        enum scepdb_state state;
        int64_t received_ms;
    } item[LEFT_MAX];
    size_t count;
};

static int
note_left(void *arg, const struct scepdb_row *row)
{
    struct left *left = arg;
    struct endpoint *endpoint;
    struct task *task;
    const int64_t now_ms = store_now_ms(left->scep->store);

    if (!row->ours || row->state > SCEPDB_PENDING || row->notify != SCEPDB_NOTIFY_NONE ||
            row->id.len != SCEPDB_ID_LEN || row->lease_until_ms > now_ms)
        return 0;
    /* What waits for somebody at the CA waits for its device, too. */
    if (row->state == SCEPDB_PENDING && now_ms < row->expires_ms)
        return 0;
    if ((endpoint = endpoint_find(left->scep, row->profile)) == NULL ||
            (task = task_new_resumed(endpoint, row)) == NULL)
        return 0;
    cc_buf_init(&left->item[left->count].csr, 2 * PKI_CSR_MAX);
    if (cc_buf_add(&left->item[left->count].csr, row->csr.data, row->csr.len, NULL) != 0) {
        task_free(task);
        return 0;
    }
    left->item[left->count].task = task;
    left->item[left->count].state = row->state;
    left->item[left->count].received_ms = row->received_ms;
    return ++left->count == LEFT_MAX;
}

/* Without a message there is nobody to answer: what it comes to stands in the row. */
static void
go_on(struct task *task, const struct cc_buf *csr, int64_t received_ms)
{
    struct scep *scep = task->endpoint->scep;
    const int64_t now_ms = store_now_ms(scep->store);
    struct answer answer = { .kind = ANSWER_LATER };
    struct cc_err err = { 0 };
    bool ours = false;

    if (scepdb_take(scep->store, (struct cc_bytes){ task->id, SCEPDB_ID_LEN }, now_ms,
                now_ms + SCEP_LEASE_MS, &ours, &err) != 0 ||
            (ours && task_unseal_csr(task, cc_buf_bytes(csr), &err) != 0))
        cc_log(CC_LOG_WARNING, "scep", "transaction %s: %s", task->transaction, cc_err_text(&err));
    else if (ours)
        answer = enrol_resume(task, NULL,
                now_ms - received_ms > GIVE_UP_MS ? RESUME_GIVE_UP : RESUME_LOOK);
    answer_free(&answer);
}

void
recover_left(struct scep *scep)
{
    struct left *left = calloc(1, sizeof(*left));
    struct cc_err err = { 0 };

    if (left == NULL)
        return;
    left->scep = scep;
    if (scepdb_walk_open(scep->store, note_left, left, &err) != 0)
        cc_log(CC_LOG_WARNING, "scep", "%s", cc_err_text(&err));
    for (size_t i = 0; i < left->count; i++) {
        struct task *task = left->item[i].task;
        const struct answer answer = { .kind = ANSWER_LATER };

        if (flight_begin(scep, task->id, NULL)) {
            go_on(task, &left->item[i].csr, left->item[i].received_ms);
            answer_waiting(flight_end(scep, task->id), &answer);
        }
        task_free(task);
        cc_buf_free(&left->item[i].csr);
    }
    free(left);
}
