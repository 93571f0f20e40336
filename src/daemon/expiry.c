/* SPDX-License-Identifier: MIT */
/*
 * Certificates, CRLs and secrets that end on a day, told of in time.
 *
 * All of them are collected anew every minute and when a threshold comes, so that what was renewed meanwhile is not told
 * of.  What was told is remembered in a file beside the state, by the very certificate, so that neither a restart nor a
 * clock that is set back says it again.
 */

#include "daemon_int.h"

#include <inttypes.h>
#include <limits.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cond.h"
#include "base/file.h"
#include "base/log.h"

#define LOOK_MS 1000     /* between two looks at the clock, which may have been set */
#define COLLECT_MS 60000 /* the same of all there is */
#define EARLY_MS                                                                                   \
    2000 /* the first few times: the first CRL and the like come a moment after the start */
#define EARLY_COUNT 5
#define TOLD_FILE "expiry-" /* and the name: instances may share a state directory */
#define TOLD_FILE_MAX ((size_t)1 << 20)
#define TOLD_MAX 1024
#define TOLD_KEEP_MS (30 * UPKEEP_DAY_MS) /* of what ended and is gone */
#define RA_MAX 32
#define LAST_DAY 1

/* Of one item, the lowest threshold that was told of. */
struct told {
    char id[80];
    int threshold;
    int64_t not_after_ms;
};

struct expiry {
    struct daemon *daemon;
    struct scep *scep; /* or NULL */
    pthread_t thread;

    /* The thread's own. */
    struct told *told; /* TOLD_MAX */
    size_t told_count;
    size_t ra_count; /* at the last collection */
    unsigned collections;
    int64_t collect_at; /* monotonic */
    int64_t change_ms;  /* wall: a threshold comes */

    pthread_mutex_t
            config_lock; /* held while items are collected, which may take as long as the store does */
    const struct config *config; /* guarded by config_lock */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct upkeep_items items; /* guarded by lock */
    bool changed_config;       /* guarded by lock */
    bool stopping;             /* guarded by lock */
};

/* ---- what was told: lines "ID THRESHOLD NOT-AFTER" ---- */

static bool
told_path(const struct expiry *e, char *ret, size_t size)
{
    const struct config *config = e->daemon->begun_with;

    return (size_t)snprintf(ret, size, "%s/" TOLD_FILE "%s", config->connector.state_directory,
                   config->connector.name) < size;
}

/* One line, taken apart; false: it is none of ours. */
static bool
parse_told(char *line, struct told *ret)
{
    char *rest = NULL;
    const char *id = strtok_r(line, " ", &rest), *threshold = strtok_r(NULL, " ", &rest);
    const char *not_after = strtok_r(NULL, " ", &rest);
    int64_t number;

    if (id == NULL || threshold == NULL || not_after == NULL ||
            !cc_strcpy(ret->id, sizeof(ret->id), id) ||
            cc_parse_int(threshold, 0, INT_MAX, &number, NULL) != 0 ||
            cc_parse_int(not_after, 0, INT64_MAX, &ret->not_after_ms, NULL) != 0)
        return false;
    ret->threshold = (int)number;
    return true;
}

static void
read_told(struct expiry *e)
{
    struct cc_buf file = CC_BUF_INIT(TOLD_FILE_MAX);
    char path[PATH_MAX], *text = NULL, *rest = NULL;

    if (told_path(e, path, sizeof(path)) && cc_file_read(path, &file, NULL) == 0 &&
            (text = cc_strdup(cc_buf_str(&file), NULL)) != NULL)
        for (char *line = strtok_r(text, "\n", &rest); line != NULL && e->told_count < TOLD_MAX;
                line = strtok_r(NULL, "\n", &rest))
            if (parse_told(line, &e->told[e->told_count]))
                e->told_count++;
    free(text);
    cc_buf_free(&file);
}

static int
write_lines(const struct expiry *e, struct cc_buf *ret, struct cc_err *err)
{
    for (size_t i = 0; i < e->told_count; i++)
        if (cc_buf_printf(ret, err, "%s %d %" PRId64 "\n", e->told[i].id, e->told[i].threshold,
                    e->told[i].not_after_ms) != 0)
            return -1;
    return 0;
}

/* Where it cannot be remembered it is known at least until the next start. */
static void
write_told(const struct expiry *e)
{
    struct cc_buf file = CC_BUF_INIT(TOLD_FILE_MAX);
    struct cc_err err = { 0 };
    char path[PATH_MAX];

    if (told_path(e, path, sizeof(path)) &&
            (write_lines(e, &file, &err) != 0 ||
                    cc_file_replace(path, file.data, file.len, 0640, &err) != 0))
        cc_log(CC_LOG_WARNING, "daemon", "remembering what expires: %s", cc_err_text(&err));
    cc_buf_free(&file);
}

static struct told *
find_told(struct expiry *e, const char *id)
{
    for (size_t i = 0; i < e->told_count; i++)
        if (strcmp(e->told[i].id, id) == 0)
            return &e->told[i];
    return NULL;
}

/* Room for another: what ended long ago is let go, or else the one that ends first. */
static struct told *
make_room(struct expiry *e, int64_t now)
{
    size_t kept = 0, first = 0;

    for (size_t i = 0; i < e->told_count; i++)
        if (e->told[i].not_after_ms + TOLD_KEEP_MS > now)
            e->told[kept++] = e->told[i];
    e->told_count = kept;
    if (kept < TOLD_MAX)
        return &e->told[e->told_count++];
    for (size_t i = 1; i < kept; i++)
        if (e->told[i].not_after_ms < e->told[first].not_after_ms)
            first = i;
    return &e->told[first];
}

/* ---- telling ---- */

static void
say(struct expiry *e, const struct upkeep_item *item, int threshold, int64_t now)
{
    const int64_t days = upkeep_days_left(item, now);
    char time[CC_TIME_LEN];

    cc_time_format(item->not_after_ms, time);
    if (item->not_after_ms <= now)
        eventlog_write(e->daemon->log, EVENT_CERTIFICATE_EXPIRED, NULL, "%s expired on %s: %s",
                item->name, time, item->cure);
    else if (threshold <= LAST_DAY)
        eventlog_write(e->daemon->log, EVENT_CERTIFICATE_LAST_DAY, NULL,
                "%s expires within a day, on %s: %s", item->name, time, item->cure);
    else
        eventlog_write(e->daemon->log, EVENT_CERTIFICATE_EXPIRING, NULL,
                "%s expires in %" PRId64 " days, on %s: %s", item->name, days, time, item->cure);
}

/* True when it was told of just now. */
static bool
tell(struct expiry *e, const struct upkeep_item *item, int64_t now)
{
    const int threshold = upkeep_threshold(item, now);
    struct told *told;

    if (threshold < 0)
        return false;
    told = find_told(e, item->id);
    if (told != NULL && told->threshold <= threshold)
        return false;
    say(e, item, threshold, now);
    if (told == NULL)
        told = make_room(e, now);
    (void)cc_strcpy(told->id, sizeof(told->id), item->id);
    told->threshold = threshold;
    told->not_after_ms = item->not_after_ms;
    return true;
}

static void
tell_all(struct expiry *e)
{
    const int64_t now = cc_clock_now_ms();
    bool any = false;

    e->change_ms = INT64_MAX;
    /* Only this thread changes e->items, so that it may read them without the lock. */
    for (size_t i = 0; i < e->items.count; i++) {
        const int64_t at = upkeep_next_change_ms(&e->items.item[i], now);

        any = tell(e, &e->items.item[i], now) || any;
        if (at < e->change_ms)
            e->change_ms = at;
    }
    if (any)
        write_told(e);
}

/* ---- collecting ---- */

/* The certificates that the CA gave the RA, which lie with those of devices. */
static int
add_ra(struct expiry *e, struct upkeep_items *items, struct cc_err *err)
{
    X509 *certificates[RA_MAX];
    int rc = 0;

    e->ra_count = e->scep != NULL ? scep_get1_certificates(e->scep, certificates, RA_MAX) : 0;
    for (size_t i = 0; i < e->ra_count; i++) {
        if (rc == 0)
            rc = upkeep_items_add(items, "scep-ra", "RA certificate",
                    "it should have been renewed by itself: the connector's log says why not",
                    certificates[i], true, err);
        X509_free(certificates[i]);
    }
    return rc;
}

static int
by_end(const void *a, const void *b)
{
    const struct upkeep_item *x = a, *y = b;

    return (x->not_after_ms > y->not_after_ms) - (x->not_after_ms < y->not_after_ms);
}

static void
take_over(struct expiry *e, struct upkeep_items *take_items)
{
    if (take_items->count > 0)
        qsort(take_items->item, take_items->count, sizeof(*take_items->item), by_end);
    pthread_mutex_lock(&e->lock);
    upkeep_items_free(&e->items);
    e->items = *take_items;
    pthread_mutex_unlock(&e->lock);
}

static void
collect(struct expiry *e)
{
    struct store *store = store_is_usable(e->daemon->store) ? e->daemon->store : NULL;
    struct upkeep_items items = { .count = 0 };
    struct cc_err err = { 0 };
    int rc;

    pthread_mutex_lock(&e->config_lock);
    rc = upkeep_items_collect(e->config, store, &items, &err);
    pthread_mutex_unlock(&e->config_lock);
    if (rc == 0 && add_ra(e, &items, &err) == 0) {
        take_over(e, &items);
    } else {
        upkeep_items_free(&items);
        cc_log(CC_LOG_WARNING, "daemon", "what expires: %s", cc_err_text(&err));
    }
    e->collections++;
    e->collect_at = cc_deadline_in(e->collections <= EARLY_COUNT ? EARLY_MS : COLLECT_MS);
}

/* SCEP gets its certificates some time after the start. */
static bool
has_other_ra(const struct expiry *e)
{
    X509 *certificates[RA_MAX];
    const size_t count =
            e->scep != NULL ? scep_get1_certificates(e->scep, certificates, RA_MAX) : 0;

    for (size_t i = 0; i < count; i++)
        X509_free(certificates[i]);
    return count != e->ra_count;
}

/* ---- the thread ---- */

static bool
expiry_wait(struct expiry *e)
{
    bool stopping;

    pthread_mutex_lock(&e->lock);
    if (!e->stopping && !e->changed_config)
        cc_cond_wait(&e->changed, &e->lock, LOOK_MS);
    stopping = e->stopping;
    if (e->changed_config)
        e->collect_at = 0;
    e->changed_config = false;
    pthread_mutex_unlock(&e->lock);
    return !stopping;
}

static void *
expiry_run(void *arg)
{
    struct expiry *e = arg;

    read_told(e);
    do {
        if (cc_deadline_left(e->collect_at) > 0 && cc_clock_now_ms() < e->change_ms &&
                !has_other_ra(e))
            continue;
        collect(e);
        tell_all(e);
    } while (expiry_wait(e));
    return NULL;
}

/* ---- begin and end ---- */

static void
expiry_free(struct expiry *e)
{
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->config_lock);
    upkeep_items_free(&e->items);
    free(e->told);
    free(e);
}

static struct expiry *
expiry_new(struct daemon *d, struct scep *scep, struct cc_err *err)
{
    struct expiry *e = calloc(1, sizeof(*e));

    if (e == NULL || (e->told = calloc(TOLD_MAX, sizeof(*e->told))) == NULL) {
        free(e);
        cc_err_nomem(err);
        return NULL;
    }
    e->daemon = d;
    e->scep = scep;
    e->config = d->config;
    (void)pthread_mutex_init(&e->config_lock, NULL);
    (void)pthread_mutex_init(&e->lock, NULL);
    if (cc_cond_init(&e->changed, err) == 0)
        return e;
    pthread_mutex_destroy(&e->lock);
    pthread_mutex_destroy(&e->config_lock);
    free(e->told);
    free(e);
    return NULL;
}

int
expiry_start(struct daemon *d, struct scep *scep, struct expiry **ret_expiry, struct cc_err *err)
{
    struct expiry *e = expiry_new(d, scep, err);
    int rc;

    if (e == NULL)
        return -1;
    if ((rc = pthread_create(&e->thread, NULL, expiry_run, e)) != 0) {
        expiry_free(e);
        return cc_err_set_errno(err, rc, "thread that watches what expires");
    }
    (void)pthread_setname_np(e->thread, "cc-expiry");
    *ret_expiry = e;
    return 0;
}

void
expiry_reconfigure(struct expiry *e, const struct config *config)
{
    pthread_mutex_lock(&e->config_lock);
    e->config = config;
    pthread_mutex_unlock(&e->config_lock);
    pthread_mutex_lock(&e->lock);
    e->changed_config = true;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

int
expiry_get(struct expiry *e, struct upkeep_items *ret, struct cc_err *err)
{
    struct upkeep_items copy = { .count = 0 };

    pthread_mutex_lock(&e->lock);
    copy.item = calloc(e->items.count + 1, sizeof(*copy.item));
    if (copy.item != NULL) {
        copy.count = e->items.count;
        if (copy.count > 0)
            memcpy(copy.item, e->items.item, copy.count * sizeof(*copy.item));
    }
    pthread_mutex_unlock(&e->lock);
    if (copy.item == NULL)
        return cc_err_nomem(err);
    *ret = copy;
    return 0;
}

void
expiry_stop(struct expiry *e)
{
    if (e == NULL)
        return;
    pthread_mutex_lock(&e->lock);
    e->stopping = true;
    pthread_cond_signal(&e->changed);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    expiry_free(e);
}
