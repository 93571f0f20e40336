/* SPDX-License-Identifier: MIT */
#include "flow_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

/* Where requests come from, and how often it may be asked. */

bool
flow_has_leases(const struct flow *flow)
{
    return flow->kind.source == NULL;
}

int
flow_source_download(struct flow *flow, unsigned max, int64_t wait_ms,
        struct intune_work **ret_work, size_t *ret_count, size_t *ret_malformed, struct cc_err *err)
{
    if (flow->kind.source != NULL)
        return flow->kind.source->download(flow->arg, max, ret_work, ret_count, ret_malformed, err);
    return intune_queue_download(flow->intune, flow->kind.queue, flow->connector_id, max, wait_ms,
            ret_work, ret_count, ret_malformed, err);
}

int
flow_source_upload(struct flow *flow, const char *holder, const char *const *results, size_t count,
        enum intune_verdict *ret_verdicts, struct cc_err *err)
{
    if (flow->kind.source != NULL)
        return flow->kind.source->upload(flow->arg, results, count, ret_verdicts, err);
    return intune_queue_upload(flow->intune, flow->kind.queue, holder, results, count, ret_verdicts,
            err);
}

/* ---- the time of the next download ---- */

static void
polled_name(const struct flow *flow, char *ret, size_t size)
{
    (void)snprintf(ret, size, "polled.%s", flow->kind.workload);
}

/* A time that cannot be is none. */
void
flow_read_poll(struct flow *flow)
{
    char name[64], *text = NULL;
    struct cc_err err = { 0 };
    const int64_t now = cc_clock_now_ms();
    int64_t polled;
    bool known;

    polled_name(flow, name, sizeof(name));
    if (store_get_value(flow->store, name, &text, &err) != 0)
        cc_log(CC_LOG_WARNING, "flow", "time of the last download: %s", cc_err_text(&err));
    known = text != NULL && cc_parse_int(text, 1, now, &polled, NULL) == 0;
    free(text);
    pthread_mutex_lock(&flow->lock);
    flow->polled = known;
    flow->polled_ms = known ? cc_clock_mono_ms() - (now - polled) : 0;
    pthread_mutex_unlock(&flow->lock);
}

/* Kept by the wall clock, which goes on over a restart; here by one that nobody sets. */
void
flow_note_poll(struct flow *flow)
{
    char name[64], text[32];
    struct cc_err err = { 0 };
    bool kept;

    pthread_mutex_lock(&flow->lock);
    flow->polled = true;
    flow->polled_ms = cc_clock_mono_ms();
    kept = flow->poll_interval_ms > 0;
    pthread_mutex_unlock(&flow->lock);
    (void)snprintf(text, sizeof(text), "%" PRId64, cc_clock_now_ms());
    polled_name(flow, name, sizeof(name));
    if (kept && store_put_value(flow->store, name, text, &err) != 0)
        cc_log(CC_LOG_WARNING, "flow", "time of the last download: %s", cc_err_text(&err));
}

/* With the lock held. */
static int64_t
poll_left_ms(const struct flow *flow)
{
    int64_t left = flow->polled_ms + flow->poll_interval_ms - cc_clock_mono_ms();

    return flow->polled && !flow->poll_wanted && left > 0 ? left : 0;
}

void
flow_poll_now(struct flow *flow)
{
    pthread_mutex_lock(&flow->lock);
    flow->poll_wanted = true;
    pthread_cond_signal(&flow->room);
    pthread_mutex_unlock(&flow->lock);
}

bool
flow_wait_poll(struct flow *flow)
{
    bool go;

    pthread_mutex_lock(&flow->lock);
    while (!flow->stopping && poll_left_ms(flow) > 0)
        flow_wait(flow, &flow->room, poll_left_ms(flow));
    go = !flow->stopping;
    flow->poll_wanted = false; /* a wish that comes during the download is for another one */
    pthread_mutex_unlock(&flow->lock);
    return go;
}
