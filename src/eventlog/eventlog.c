/* SPDX-License-Identifier: MIT */
#include "eventlog/eventlog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/text.h"
#include "eventlog_int.h"

#define ROOM "eventlog"
#define PENDING_MAX (1U << 20) /* bytes of lines that could not be written yet, a channel */
#define FIRST_LINE_MAX 256     /* bytes of a file that are read for its first time */

/* A line that could not be written. */
struct pending {
    struct pending *next;
    size_t len;
    char text[];
};

/* The live file of a channel. */
struct channel {
    enum event_channel id;
    int fd;           /* -1: to be opened */
    uint64_t size;    /* bytes of whole lines */
    bool torn;        /* behind them is a piece of one that could not be taken back */
    int64_t first_ms; /* of the events in the file; INT64_MAX: none */
    int64_t last_ms;
    struct pending *pending, **pending_tail;
    size_t pending_bytes;
    bool failing; /* and that has been said */
    /* Syncing: lines are counted; one thread syncs for all that wait. */
    uint64_t written, synced;
    bool syncing;
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
};

/* ---- one channel; LOCKED, each of them ---------------------------------------------------- */

/* A file's last byte is a line end, or a crash has torn its last line. */
static int
find_torn(struct channel *ch, struct cc_err *err)
{
    char last = '\n';

    if (ch->size > 0 && pread(ch->fd, &last, 1, (off_t)ch->size - 1) != 1)
        return cc_err_set_errno(err, errno, "read the end of %s", event_file_name(ch->id));
    ch->torn = last != '\n';
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
    if (ch->size == 0 &&
            fsync(log->dir_fd) != 0) { /* the new name, and that of the archive before it */
        cc_err_set_errno(err, errno, "sync the folder");
        goto fail;
    }
    if (find_torn(ch, err) != 0)
        goto fail;
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
    if (ch->id == EVENT_CHANNEL_ADMIN && fdatasync(ch->fd) != 0)
        return cc_err_set_errno(err, errno, "sync %s", event_file_name(ch->id));
    ch->synced = ch->written;
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
    int64_t time;

    if (channel_open(log, ch, err) != 0)
        return -1;
    if (ch->size > 0 && ch->size + len > log->max_size) {
        struct cc_err why = { .domain = CC_DOM_NONE };

        if (archive_live(log, ch, &why) != 0 && !ch->failing)
            cc_log(CC_LOG_ERROR, ROOM, "%s grows beyond its size: %s", event_file_name(ch->id),
                    why.text);
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

static void
keep_pending(struct channel *ch, const char *text, size_t len)
{
    struct pending *p = NULL;

    if (ch->pending_bytes + len <= PENDING_MAX)
        p = malloc(sizeof(*p) + len);
    if (p == NULL) {
        cc_log(CC_LOG_ERROR, ROOM, "an event of %s is lost: too many wait",
                event_file_name(ch->id));
        return;
    }
    p->next = NULL;
    p->len = len;
    memcpy(p->text, text, len);
    *ch->pending_tail = p;
    ch->pending_tail = &p->next;
    ch->pending_bytes += len;
}

static int
write_pending(struct eventlog *log, struct channel *ch, struct cc_err *err)
{
    while (ch->pending != NULL) {
        struct pending *p = ch->pending;

        if (write_line(log, ch, p->text, p->len, err) != 0)
            return -1;
        ch->pending = p->next;
        if (ch->pending == NULL)
            ch->pending_tail = &ch->pending;
        ch->pending_bytes -= p->len;
        free(p);
    }
    return 0;
}

static void
say_failing(struct channel *ch, bool failing, const struct cc_err *err)
{
    if (failing && !ch->failing)
        cc_log(CC_LOG_ERROR, ROOM, "events are kept until the log can be written: %s", err->text);
    if (!failing && ch->failing)
        cc_log(CC_LOG_NOTICE, ROOM, "%s is written again", event_file_name(ch->id));
    ch->failing = failing;
}

/* Returns when line number seq is on disk.  One thread syncs, all whose lines were written by then are done with it. */
static int
wait_synced(struct eventlog *log, struct channel *ch, uint64_t seq, struct cc_err *err)
{
    while (ch->synced < seq) {
        uint64_t upto = ch->written;
        int rc = 0;
        int fd;

        if (ch->syncing) {
            (void)pthread_cond_wait(&log->synced, &log->lock);
            continue;
        }
        /* a descriptor of its own, as the file may be archived meanwhile */
        if ((fd = fcntl(ch->fd, F_DUPFD_CLOEXEC, 0)) < 0)
            return cc_err_set_errno(err, errno, "sync %s", event_file_name(ch->id));
        ch->syncing = true;
        (void)pthread_mutex_unlock(&log->lock);
        if (fdatasync(fd) != 0)
            rc = errno;
        (void)close(fd);
        (void)pthread_mutex_lock(&log->lock);
        ch->syncing = false;
        if (rc == 0 && ch->synced < upto)
            ch->synced = upto;
        (void)pthread_cond_broadcast(&log->synced);
        if (rc != 0)
            return cc_err_set_errno(err, rc, "sync %s", event_file_name(ch->id));
    }
    return 0;
}

/* The line, behind those that wait. */
static int
deliver(struct eventlog *log, struct channel *ch, const char *text, size_t len, struct cc_err *err)
{
    int rc = write_pending(log, ch, err);

    if (rc == 0)
        rc = write_line(log, ch, text, len, err);
    if (rc != 0)
        keep_pending(ch, text, len);
    say_failing(ch, rc != 0, err);
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
    if (rc == 0 && channel == EVENT_CHANNEL_ADMIN && !deferred &&
            (rc = wait_synced(log, ch, ch->written, &err)) != 0)
        cc_log(CC_LOG_ERROR, ROOM, "%s", err.text);
    (void)pthread_mutex_unlock(&log->lock);
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
    rc = write_pending(log, ch, &why);
    if (rc == 0)
        rc = wait_synced(log, ch, ch->written, &why);
    say_failing(ch, rc != 0, &why);
    (void)pthread_mutex_unlock(&log->lock);
    return rc == 0 ? 0 : cc_err_set(err, why.domain, why.code, "%s", why.text);
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
        log->channels[i].pending_tail = &log->channels[i].pending;
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
channel_close(struct eventlog *log, struct channel *ch)
{
    struct cc_err err = { .domain = CC_DOM_NONE };

    if (write_pending(log, ch, &err) != 0)
        cc_log(CC_LOG_ERROR, ROOM, "events of %s are lost: %s", event_file_name(ch->id), err.text);
    while (ch->pending != NULL) {
        struct pending *next = ch->pending->next;

        free(ch->pending);
        ch->pending = next;
    }
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
