/* SPDX-License-Identifier: MIT */
#include "eventlog/eventlog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/text.h"
#include "eventlog_int.h"

#define ROOM "eventlog"
/* Bytes of lines that are kept until they can be written.  Requests are not taken meanwhile, which bounds the first. */
#define ADMIN_PENDING_MAX (16U << 20)
#define OPERATIONAL_PENDING_MAX (1U << 20)
#define UNSYNCED_MAX (1U << 20) /* bytes of deferred lines; beyond them one waits for the disk */
#define FIRST_LINE_MAX 256      /* bytes of a file that are read for its first time */

/* A line that is not written yet, or not known to be on disk. */
struct line {
    STAILQ_ENTRY(line) link;
    uint64_t number; /* of those written to the channel */
    size_t len;
    char text[];
};

STAILQ_HEAD(lines, line);

/* The live file of a channel. */
struct channel {
    enum event_channel id;
    int fd;           /* -1: to be opened */
    uint64_t size;    /* bytes of whole lines */
    bool torn;        /* behind them is a piece of one that could not be taken back */
    int64_t first_ms; /* of the events in the file; INT64_MAX: none */
    int64_t last_ms;
    struct lines pending; /* could not be written */
    size_t pending_bytes, pending_count;
    uint64_t lost; /* found no room there */
    bool failing;  /* and that has been said */

    /*
     * Syncing, of the admin channel: lines are counted, and kept until they are on disk; one thread syncs for all that
     * wait.  After a sync that failed nobody knows what of them is there, and the next one would succeed without it:
     * they are taken out of the file and written anew.
     */
    uint64_t written, synced;
    uint64_t archived; /* the last line of the newest archive, which is synced */
    struct lines unsynced;
    size_t unsynced_bytes;
    uint64_t synced_size; /* bytes of the live file that are on disk */
    unsigned file;        /* counts the live files */
    bool syncing;
    bool sync_failing;      /* the last one failed */
    bool doubtful;          /* what is behind synced_size is to be taken out */
    unsigned sync_failures; /* so far */
};

struct eventlog {
    pthread_mutex_t lock;  /* guards all below but what never changes */
    pthread_cond_t synced; /* a sync ended */
    int dir_fd;            /* never changes; carries the lock of the folder's one owner */
    struct cc_pool *pool;  /* never changes; compresses */
    char *connector;
    uint64_t max_size;
    enum eventlog_debug debug;
    bool journald;
    struct channel channels[EVENT_CHANNELS];
    eventlog_trouble_fn on_trouble; /* or NULL */
    void *trouble_arg;
    atomic_bool failing;   /* either channel; changed with the lock held */
    int64_t since_ms;      /* of its last change; 0: never one */
    struct cc_err trouble; /* the newest */
    atomic_uint_fast64_t counts[EVENTLOG_TYPES_MAX]; /* by place in event_types() */
};

/* ---- one channel; LOCKED, each of them ---------------------------------------------------- */

/* Bytes of whole lines; UINT64_MAX when behind the last of them is more than a line may have. */
static int
find_whole(const struct channel *ch, uint64_t *ret_size, struct cc_err *err)
{
    char tail[4096];
    uint64_t end = ch->size;

    while (end > 0 && ch->size - end <= EVENT_LINE_MAX) {
        const size_t want = end < sizeof(tail) ? (size_t)end : sizeof(tail);
        const char *last;

        if (pread(ch->fd, tail, want, (off_t)(end - want)) != (ssize_t)want)
            return cc_err_set_errno(err, errno, "read the end of %s", event_file_name(ch->id));
        end -= want;
        if ((last = memrchr(tail, '\n', want)) != NULL) {
            *ret_size = end + (uint64_t)(last - tail) + 1;
            return 0;
        }
    }
    *ret_size = end == 0 ? 0 : UINT64_MAX;
    return 0;
}

/*
 * A crash has torn the last line: bytes without a line end, or none but zeros where the disk did not take them.  Nobody
 * was told that it stands, so it is cut off, or where that is not possible ended by what is written next.
 */
static int
cut_torn(struct channel *ch, struct cc_err *err)
{
    uint64_t whole;

    if (find_whole(ch, &whole, err) != 0)
        return -1;
    if (whole < ch->size && ftruncate(ch->fd, (off_t)whole) == 0)
        ch->size = whole;
    ch->torn = whole != ch->size;
    return 0;
}

/* The times that an archive of this file will carry, as far as the file tells. */
static void
find_times(struct channel *ch, const struct stat *st)
{
    char start[FIRST_LINE_MAX];
    ssize_t n = pread(ch->fd, start, sizeof(start), 0);

    ch->first_ms = INT64_MAX;
    ch->last_ms = 0;
    if (ch->size == 0)
        return;
    ch->last_ms = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;
    if (n < 0 || event_line_time(start, (size_t)n, &ch->first_ms) != 0)
        ch->first_ms = ch->last_ms;
}

static int
channel_open(struct eventlog *log, struct channel *ch, struct cc_err *err)
{
    struct stat st;

    if (ch->fd >= 0)
        return 0;
    ch->fd = openat(log->dir_fd, event_file_name(ch->id),
            O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (ch->fd < 0)
        return cc_err_set_errno(err, errno, "open %s", event_file_name(ch->id));
    if (fstat(ch->fd, &st) != 0) {
        cc_err_set_errno(err, errno, "look at %s", event_file_name(ch->id));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        cc_err_set(err, CC_DOM_INPUT, 0, "%s is not a file", event_file_name(ch->id));
        goto fail;
    }
    ch->size = (uint64_t)st.st_size;
    if (cut_torn(ch, err) != 0)
        goto fail;
    ch->synced_size = ch->size;
    ch->file++;
    if (ch->size == 0 &&
            fsync(log->dir_fd) != 0) { /* the new name, and that of the archive before it */
        cc_err_set_errno(err, errno, "sync the folder");
        goto fail;
    }
    find_times(ch, &st);
    return 0;
fail:
    (void)close(ch->fd);
    ch->fd = -1;
    return -1;
}

static void
compress_job(void *arg)
{
    struct eventlog *log = arg;
    struct cc_err err = { .domain = CC_DOM_NONE };

    if (event_archives_compress(log->dir_fd, &err) != 0)
        cc_log(CC_LOG_WARNING, ROOM, "not compressed, tried again later: %s", err.text);
}

/* Full means that a job waits which will see every archive. */
static void
start_compression(struct eventlog *log)
{
    (void)!cc_pool_submit(log->pool, compress_job, log);
}

/* Lines up to this one are on disk.  While a sync is under way it has the last word: an error is told only once. */
static void
note_synced(struct channel *ch, uint64_t upto)
{
    struct line *line;

    if (ch->syncing)
        return;
    while ((line = STAILQ_FIRST(&ch->unsynced)) != NULL && line->number <= upto) {
        STAILQ_REMOVE_HEAD(&ch->unsynced, link);
        ch->unsynced_bytes -= line->len;
        free(line);
    }
    if (ch->synced < upto)
        ch->synced = upto;
    ch->sync_failing = false;
}

/* Before anything is written behind lines that may not be there. */
static int
take_out_doubtful(struct channel *ch, struct cc_err *err)
{
    if (!ch->doubtful)
        return 0;
    if (ftruncate(ch->fd, (off_t)ch->synced_size) != 0)
        return cc_err_set_errno(err, errno, "cut %s", event_file_name(ch->id));
    ch->size = ch->synced_size;
    ch->torn = false;
    ch->doubtful = false;
    return 0;
}

/* Every line that is not known to be on disk goes to the front of those to be written. */
static void
doubt_unsynced(struct channel *ch)
{
    struct line *line;

    STAILQ_FOREACH(line, &ch->unsynced, link)
    {
        ch->pending_bytes += line->len;
        ch->pending_count++;
    }
    STAILQ_CONCAT(&ch->unsynced, &ch->pending);
    STAILQ_CONCAT(&ch->pending, &ch->unsynced);
    ch->unsynced_bytes = 0;
    ch->written = ch->synced;
    ch->sync_failures++;
    ch->sync_failing = true;
    ch->doubtful = true;
    /* At once, for whoever reads the file or dies; it is tried again before the next line. */
    if (ch->fd >= 0)
        (void)!take_out_doubtful(ch, NULL);
}

/* The live file becomes an archive; the next line begins a new one.  On failure the live file goes on. */
static int
archive_live(struct eventlog *log, struct channel *ch, struct cc_err *err)
{
    char name[EVENT_FILE_NAME_MAX];
    int64_t now = cc_clock_now_ms();
    int64_t to = ch->last_ms > now ? ch->last_ms : now;

    if (ch->torn && cc_fd_write_all(ch->fd, "\n", 1, err) != 0)
        return -1;
    ch->torn = false;
    if (event_archive_name(log->dir_fd, ch->id, ch->first_ms > to ? to : ch->first_ms, to, name,
                err) != 0)
        return -1;
    /* operational events become durable with the compressed archive */
    if (ch->id == EVENT_CHANNEL_ADMIN && fdatasync(ch->fd) != 0) {
        doubt_unsynced(ch);
        return cc_err_set_errno(err, errno, "sync %s", event_file_name(ch->id));
    }
    ch->archived = ch->written;
    if (!ch->syncing)
        ch->synced_size = ch->size;
    note_synced(ch, ch->written);
    if (renameat(log->dir_fd, event_file_name(ch->id), log->dir_fd, name) != 0)
        return cc_err_set_errno(err, errno, "archive %s", event_file_name(ch->id));
    (void)close(ch->fd);
    ch->fd = -1;
    start_compression(log);
    return 0;
}

/* A line that did not go in whole is taken back out, so that what follows does not continue it. */
static int
append(struct channel *ch, const char *text, size_t len, struct cc_err *err)
{
    if (ch->torn) {
        if (cc_fd_write_all(ch->fd, "\n", 1, err) != 0)
            return -1;
        ch->torn = false;
        ch->size++;
    }
    if (cc_fd_write_all(ch->fd, text, len, err) != 0) {
        struct stat st;

        if (ftruncate(ch->fd, (off_t)ch->size) != 0 && fstat(ch->fd, &st) == 0 &&
                (uint64_t)st.st_size > ch->size) {
            ch->size = (uint64_t)st.st_size;
            ch->torn = true;
        }
        return cc_err_in(err, "write %s", event_file_name(ch->id));
    }
    ch->size += len;
    ch->written++;
    return 0;
}

static int
write_line(struct eventlog *log, struct channel *ch, const char *text, size_t len,
        struct cc_err *err)
{
    const unsigned failures = ch->sync_failures;
    int64_t time;

    if (channel_open(log, ch, err) != 0 || take_out_doubtful(ch, err) != 0)
        return -1;
    if (ch->size > 0 && ch->size + len > log->max_size) {
        struct cc_err why = { .domain = CC_DOM_NONE };

        if (archive_live(log, ch, &why) != 0 && !ch->failing)
            cc_log(CC_LOG_ERROR, ROOM, "%s grows beyond its size: %s", event_file_name(ch->id),
                    why.text);
        /* There are lines again that come before this one. */
        if (ch->sync_failures != failures) {
            *err = why;
            return -1;
        }
        if (channel_open(log, ch, err) != 0)
            return -1;
    }
    if (append(ch, text, len, err) != 0)
        return -1;
    if (event_line_time(text, len, &time) == 0) {
        ch->first_ms = time < ch->first_ms ? time : ch->first_ms;
        ch->last_ms = time > ch->last_ms ? time : ch->last_ms;
    }
    return 0;
}

static struct line *
line_new(const char *text, size_t len)
{
    struct line *line = malloc(sizeof(*line) + len);

    if (line != NULL) {
        line->len = len;
        memcpy(line->text, text, len);
    }
    return line;
}

/* What is lost is counted, and said once. */
static void
lose(struct channel *ch)
{
    if (ch->lost++ == 0)
        cc_log(CC_LOG_ERROR, ROOM, "events of %s are lost: too many wait", event_file_name(ch->id));
}

static void
keep_pending(struct channel *ch, struct line *take_line)
{
    const size_t max = ch->id == EVENT_CHANNEL_ADMIN ? ADMIN_PENDING_MAX : OPERATIONAL_PENDING_MAX;

    if (ch->pending_bytes + take_line->len > max) {
        lose(ch);
        free(take_line);
        return;
    }
    STAILQ_INSERT_TAIL(&ch->pending, take_line, link);
    ch->pending_bytes += take_line->len;
    ch->pending_count++;
}

/* It is in the file, and kept until that is on disk where somebody will ask. */
static void
keep_unsynced(struct channel *ch, struct line *take_line)
{
    if (ch->id != EVENT_CHANNEL_ADMIN) {
        free(take_line);
        return;
    }
    take_line->number = ch->written;
    STAILQ_INSERT_TAIL(&ch->unsynced, take_line, link);
    ch->unsynced_bytes += take_line->len;
}

static int
write_pending(struct eventlog *log, struct channel *ch, struct cc_err *err)
{
    struct line *line;

    while ((line = STAILQ_FIRST(&ch->pending)) != NULL) {
        if (write_line(log, ch, line->text, line->len, err) != 0)
            return -1;
        STAILQ_REMOVE_HEAD(&ch->pending, link);
        ch->pending_bytes -= line->len;
        ch->pending_count--;
        keep_unsynced(ch, line);
    }
    return 0;
}

static bool
is_failing(const struct channel *ch)
{
    return !STAILQ_EMPTY(&ch->pending) || ch->sync_failing;
}

/* After each attempt: says the edges; err is why, where it failed. */
static void
note_attempt(struct eventlog *log, struct channel *ch, const struct cc_err *err)
{
    const bool failing = is_failing(ch);
    bool any = false;

    if (failing && err->domain != CC_DOM_NONE)
        log->trouble = *err;
    if (failing && !ch->failing)
        cc_log(CC_LOG_ERROR, ROOM, "events are kept until the log can be written: %s", err->text);
    if (!failing && ch->failing)
        cc_log(CC_LOG_NOTICE, ROOM, "%s is written again", event_file_name(ch->id));
    ch->failing = failing;
    for (int i = 0; i < EVENT_CHANNELS; i++)
        any = any || log->channels[i].failing;
    if (any == atomic_load(&log->failing))
        return;
    atomic_store(&log->failing, any);
    log->since_ms = cc_clock_now_ms();
    if (any && log->on_trouble != NULL)
        log->on_trouble(log->trouble_arg);
}

static int
sync_descriptor(int fd)
{
    if (CC_FAILPOINT("event", "sync", "before"))
        return EIO;
    if (fdatasync(fd) != 0)
        return errno;
    return CC_FAILPOINT("event", "sync", "after") ? EIO : 0;
}

/* One sync for all that was written by now; the lock is not held meanwhile. */
static int
sync_written(struct eventlog *log, struct channel *ch, struct cc_err *err)
{
    const uint64_t upto = ch->written, size = ch->size;
    const unsigned file = ch->file, failures = ch->sync_failures;
    /* a descriptor of its own, as the file may be archived meanwhile */
    const int fd = fcntl(ch->fd, F_DUPFD_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return cc_err_set_errno(err, errno, "sync %s", event_file_name(ch->id));
    ch->syncing = true;
    (void)pthread_mutex_unlock(&log->lock);
    rc = sync_descriptor(fd);
    (void)close(fd);
    (void)pthread_mutex_lock(&log->lock);
    ch->syncing = false;
    if (rc != 0) {
        doubt_unsynced(ch);
    } else if (ch->sync_failures == failures) {
        note_synced(ch, upto > ch->archived ? upto : ch->archived);
        if (ch->file == file)
            ch->synced_size = size;
    }
    (void)pthread_cond_broadcast(&log->synced);
    return rc == 0 ? 0 : cc_err_set_errno(err, rc, "sync %s", event_file_name(ch->id));
}

/* Returns when line number seq is on disk.  One thread syncs, all whose lines were written by then are done with it. */
static int
wait_synced(struct eventlog *log, struct channel *ch, uint64_t seq, struct cc_err *err)
{
    const unsigned failures = ch->sync_failures;

    while (ch->synced < seq) {
        if (ch->syncing)
            (void)pthread_cond_wait(&log->synced, &log->lock);
        else if (sync_written(log, ch, err) != 0)
            return -1;
        /* Our line may have been among those that are written anew. */
        if (ch->sync_failures != failures)
            return cc_err_set(err, CC_DOM_SYSTEM, EIO, "sync %s: it failed for another line",
                    event_file_name(ch->id));
    }
    return 0;
}

/* Those that wait, and this line. */
static int
write_in_turn(struct eventlog *log, struct channel *ch, const char *text, size_t len,
        struct cc_err *err)
{
    if (ch->id == EVENT_CHANNEL_ADMIN && CC_FAILPOINT("event", "admin", "before"))
        return cc_err_set(err, CC_DOM_SYSTEM, ENOSPC, "fail point before the line");
    if (write_pending(log, ch, err) != 0)
        return -1;
    return write_line(log, ch, text, len, err);
}

/* The line, behind those that wait. */
static int
deliver(struct eventlog *log, struct channel *ch, const char *text, size_t len, struct cc_err *err)
{
    struct line *line = line_new(text, len);

    if (line == NULL) {
        lose(ch);
        return cc_err_nomem(err);
    }
    if (write_in_turn(log, ch, text, len, err) != 0) {
        keep_pending(ch, line);
        return -1;
    }
    keep_unsynced(ch, line);
    return 0;
}

/* What waits, and what may not be on disk. */
static int
flush(struct eventlog *log, struct channel *ch, struct cc_err *err)
{
    int rc = write_pending(log, ch, err);

    if (rc == 0 && ch->id == EVENT_CHANNEL_ADMIN)
        rc = wait_synced(log, ch, ch->written, err);
    note_attempt(log, ch, err);
    return rc;
}

/* ---- end of LOCKED ------------------------------------------------------------------------ */

static int
put_line(struct eventlog *log, enum event_channel channel, bool deferred, const char *text,
        size_t len)
{
    struct channel *ch = &log->channels[channel];
    struct cc_err err = { .domain = CC_DOM_NONE };
    int rc;

    (void)pthread_mutex_lock(&log->lock);
    rc = deliver(log, ch, text, len, &err);
    if (rc == 0 && channel == EVENT_CHANNEL_ADMIN &&
            (!deferred || ch->unsynced_bytes > UNSYNCED_MAX))
        rc = wait_synced(log, ch, ch->written, &err);
    note_attempt(log, ch, &err);
    (void)pthread_mutex_unlock(&log->lock);
    if (channel == EVENT_CHANNEL_ADMIN)
        (void)CC_FAILPOINT("event", "admin", "after");
    return rc;
}

static int
put_event(struct eventlog *log, struct event_line *line)
{
    struct cc_buf text = CC_BUF_INIT(2 * EVENT_LINE_MAX);
    struct cc_buf connector = CC_BUF_INIT(EVENT_FIELD_MAX + 8);
    struct cc_err err = { .domain = CC_DOM_NONE };
    bool journald;
    int rc = -1;

    line->time_ms = cc_clock_now_ms();
    (void)pthread_mutex_lock(&log->lock);
    journald = log->journald;
    rc = event_text_clean(log->connector, EVENT_FIELD_MAX, &connector, &err);
    (void)pthread_mutex_unlock(&log->lock);
    if (rc != 0)
        goto out;
    line->connector = cc_buf_str(&connector);
    if ((rc = event_line_write(line, &text, &err)) != 0)
        goto out;
    rc = put_line(log, line->type->channel, line->fields != NULL && line->fields->deferred,
            cc_buf_str(&text), text.len);
    if (journald)
        event_journal_send(line);
out:
    if (err.domain != CC_DOM_NONE)
        cc_log(CC_LOG_ERROR, ROOM, "event %d: %s", (int)line->type->id, err.text);
    cc_buf_free(&text);
    cc_buf_free(&connector);
    return rc;
}

/* What vsnprintf cut may end in the middle of a character. */
static void
trim_character(char *text)
{
    size_t len = strlen(text);
    size_t n = 0;

    while (n < 3 && n < len && ((unsigned char)text[len - n - 1] & 0xc0) == 0x80)
        n++;
    if (n < len && (unsigned char)text[len - n - 1] >= 0xc0)
        text[len - n - 1] = '\0';
}

static void CC_PRINTF(3, 0) format_message(char *text, size_t size, const char *fmt, va_list ap)
{
    int len = vsnprintf(text, size, fmt, ap);

    if (len < 0)
        text[0] = '\0';
    else if ((size_t)len >= size)
        trim_character(text);
}

static void
count_event(struct eventlog *log, const struct event_type *type)
{
    size_t count;
    const size_t place = (size_t)(type - event_types(&count));

    if (place < CC_COUNT(log->counts))
        (void)atomic_fetch_add(&log->counts[place], 1);
}

void
eventlog_get_counts(struct eventlog *log, uint64_t ret_counts[EVENTLOG_TYPES_MAX])
{
    for (size_t i = 0; i < EVENTLOG_TYPES_MAX; i++)
        ret_counts[i] = atomic_load(&log->counts[i]);
}

uint64_t
eventlog_count(struct eventlog *log, enum event_id id)
{
    size_t count;

    return atomic_load(&log->counts[event_type_get((int)id) - event_types(&count)]);
}

int
eventlog_write(struct eventlog *log, enum event_id id, const struct event_fields *fields,
        const char *fmt, ...)
{
    const struct event_type *type = event_type_get((int)id);
    char message[EVENT_MESSAGE_MAX + 1];
    struct event_line line = { .type = type, .message = message, .fields = fields };
    va_list ap;

    if (log == NULL)
        return 0;
    if (type == NULL) {
        cc_log(CC_LOG_ERROR, ROOM, "there is no event %d", (int)id);
        return -1;
    }
    line.category = type->category;
    count_event(log, type);
    va_start(ap, fmt);
    format_message(message, sizeof(message), fmt, ap);
    va_end(ap);
    return put_event(log, &line);
}

int
eventlog_sync(struct eventlog *log, struct cc_err *err)
{
    struct cc_err why = { .domain = CC_DOM_NONE };
    struct channel *ch;
    int rc;

    if (log == NULL)
        return 0;
    ch = &log->channels[EVENT_CHANNEL_ADMIN];
    (void)pthread_mutex_lock(&log->lock);
    rc = flush(log, ch, &why);
    (void)pthread_mutex_unlock(&log->lock);
    return rc == 0 ? 0 : cc_err_set(err, why.domain, why.code, "%s", why.text);
}

/* ---- trouble ---- */

void
eventlog_watch(struct eventlog *log, eventlog_trouble_fn begun, void *arg)
{
    (void)pthread_mutex_lock(&log->lock);
    log->on_trouble = begun;
    log->trouble_arg = arg;
    (void)pthread_mutex_unlock(&log->lock);
}

bool
eventlog_is_usable(struct eventlog *log)
{
    return log == NULL || !atomic_load(&log->failing);
}

void
eventlog_get_state(struct eventlog *log, struct eventlog_state *ret)
{
    struct eventlog_state state = { .usable = !atomic_load(&log->failing) };

    (void)pthread_mutex_lock(&log->lock);
    state.since_ms = log->since_ms;
    state.reason = log->trouble;
    for (int i = 0; i < EVENT_CHANNELS; i++) {
        state.waiting += log->channels[i].pending_count;
        state.lost += log->channels[i].lost;
    }
    (void)pthread_mutex_unlock(&log->lock);
    *ret = state;
}

int
eventlog_flush(struct eventlog *log, struct cc_err *err)
{
    int rc = 0;

    (void)pthread_mutex_lock(&log->lock);
    for (int i = 0; i < EVENT_CHANNELS; i++) {
        struct cc_err why = { .domain = CC_DOM_NONE };

        if (flush(log, &log->channels[i], &why) != 0)
            rc = cc_err_set(err, why.domain, why.code, "%s", why.text);
    }
    (void)pthread_mutex_unlock(&log->lock);
    return rc;
}

int
eventlog_find_admin_events(struct eventlog *log, const char *const *request_ids, size_t count,
        int64_t since_ms, bool *ret_found, struct cc_err *err)
{
    /* What waits to be written is an event already: it will be. */
    if (eventlog_sync(log, err) != 0)
        return -1;
    memset(ret_found, 0, count * sizeof(*ret_found));
    return event_requests_find(log->dir_fd, request_ids, count, since_ms, ret_found, err);
}

static bool
debug_wanted(struct eventlog *log, enum event_channel channel)
{
    enum eventlog_debug debug;

    (void)pthread_mutex_lock(&log->lock);
    debug = log->debug;
    (void)pthread_mutex_unlock(&log->lock);
    return debug == EVENTLOG_DEBUG_ALL ||
           debug == (channel == EVENT_CHANNEL_ADMIN ? EVENTLOG_DEBUG_ADMIN
                                                    : EVENTLOG_DEBUG_OPERATIONAL);
}

void
eventlog_debug(struct eventlog *log, enum event_channel channel, enum event_category category,
        const char *fmt, ...)
{
    char message[EVENT_MESSAGE_MAX + 1];
    struct event_line line = { .category = category, .message = message };
    va_list ap;

    if (log == NULL || !debug_wanted(log, channel))
        return;
    line.type = event_type_get(
            channel == EVENT_CHANNEL_ADMIN ? EVENT_ADMIN_DEBUG : EVENT_OPERATIONAL_DEBUG);
    va_start(ap, fmt);
    format_message(message, sizeof(message), fmt, ap);
    va_end(ap);
    (void)put_event(log, &line);
}

/* ---- opening and closing ---- */

/* The folder, made if it is missing, and ours alone. */
static int
take_folder(const char *path, struct cc_err *err)
{
    int fd;

    if (mkdir(path, 0750) != 0 && errno != EEXIST)
        return cc_err_set_errno(err, errno, "make folder %s", path);
    if ((fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return cc_err_set_errno(err, errno, "open folder %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            cc_err_set(err, CC_DOM_SYSTEM, EWOULDBLOCK,
                    "%s is in use by another connector; give each a folder of its own", path);
        else
            cc_err_set_errno(err, errno, "lock folder %s", path);
        (void)close(fd);
        return -1;
    }
    return fd;
}

int
eventlog_reconfigure(struct eventlog *log, const struct eventlog_settings *settings,
        struct cc_err *err)
{
    char *connector = cc_strdup(settings->connector, err);

    if (connector == NULL)
        return -1;
    (void)pthread_mutex_lock(&log->lock);
    free(log->connector);
    log->connector = connector;
    log->max_size = settings->max_size;
    log->debug = settings->debug;
    log->journald = settings->journald && event_journal_runs();
    (void)pthread_mutex_unlock(&log->lock);
    return 0;
}

int
eventlog_open(const struct eventlog_settings *settings, struct eventlog **ret_log,
        struct cc_err *err)
{
    struct eventlog *log = calloc(1, sizeof(*log));
    int rc = -1;

    if (log == NULL)
        return cc_err_nomem(err);
    (void)pthread_mutex_init(&log->lock, NULL);
    (void)pthread_cond_init(&log->synced, NULL);
    for (int i = 0; i < EVENT_CHANNELS; i++) {
        log->channels[i].id = (enum event_channel)i;
        log->channels[i].fd = -1;
        STAILQ_INIT(&log->channels[i].pending);
        STAILQ_INIT(&log->channels[i].unsynced);
    }
    if ((log->dir_fd = take_folder(settings->directory, err)) < 0)
        goto out;
    if (eventlog_reconfigure(log, settings, err) != 0)
        goto out;
    for (int i = 0; i < EVENT_CHANNELS; i++) {
        if (channel_open(log, &log->channels[i], err) != 0)
            goto out;
    }
    if ((log->pool = cc_pool_open("eventlog", 1, 1, err)) == NULL)
        goto out;
    start_compression(log); /* of what a crash left */

    *ret_log = log;
    log = NULL;
    rc = 0;
out:
    if (rc != 0)
        cc_err_in(err, "event log");
    eventlog_close(log);
    return rc;
}

static void
lines_free(struct lines *lines)
{
    struct line *line;

    while ((line = STAILQ_FIRST(lines)) != NULL) {
        STAILQ_REMOVE_HEAD(lines, link);
        free(line);
    }
}

static void
channel_close(struct eventlog *log, struct channel *ch)
{
    struct cc_err err = { .domain = CC_DOM_NONE };

    if (write_pending(log, ch, &err) != 0)
        cc_log(CC_LOG_ERROR, ROOM, "events of %s are lost: %s", event_file_name(ch->id), err.text);
    lines_free(&ch->pending);
    lines_free(&ch->unsynced);
    if (ch->fd >= 0) {
        (void)fdatasync(ch->fd);
        (void)close(ch->fd);
    }
}

void
eventlog_close(struct eventlog *log)
{
    if (log == NULL)
        return;
    (void)pthread_mutex_lock(
            &log->lock); /* nobody else is here; the channels' functions expect it */
    for (int i = 0; i < EVENT_CHANNELS; i++)
        channel_close(log, &log->channels[i]);
    (void)pthread_mutex_unlock(&log->lock);
    cc_pool_close(log->pool);
    if (log->dir_fd >= 0)
        (void)close(log->dir_fd);
    free(log->connector);
    (void)pthread_cond_destroy(&log->synced);
    (void)pthread_mutex_destroy(&log->lock);
    free(log);
}
