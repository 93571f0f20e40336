/* SPDX-License-Identifier: MIT */

/*
 * Reading the log while its owner writes, archives and compresses it.
 *
 * Each channel is a row of files: archives, then the live file.  Nothing is lost or seen twice as the live file is
 * opened before the archives are listed, and the pair counts only if it is still the live file afterwards.  When a
 * live file that was read to its end is no longer the live one, the first archive that was not there before is
 * that file, and any others were filled since and are read next.
 */

#include "eventlog_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

#define STOP_CHECK_MS 250
#define SETTLE_TRIES 1000

struct row {
    enum event_channel channel;
    struct event_archive *archives; /* as of the last listing */
    size_t archive_count;
    size_t next; /* the archive to look at after source; archive_count: the live file */
    bool in_archive;
    struct event_source *source; /* being read */
    struct event_source *live;   /* opened, not yet being read */
    /* the next line, if has_line */
    bool has_line;
    const char *line;
    size_t len;
    int64_t time_ms;
};

struct reading {
    int dir_fd;
    const struct event_filter *filter;
    struct row rows[EVENT_CHANNELS];
    event_fn fn;
    void *arg;
};

/* ---- a row of files ---- */

/* The live file and the archives before it, as they were at one moment. */
static int
row_look(struct reading *r, struct row *row, struct cc_err *err)
{
    const char *name = event_file_name(row->channel);

    for (int i = 0; i < SETTLE_TRIES; i++) {
        struct event_source *again = NULL;
        bool settled;

        event_source_close(row->live);
        row->live = NULL;
        free(row->archives);
        row->archives = NULL;
        row->archive_count = 0;
        if (event_source_open(r->dir_fd, name, &row->live, err) != 0)
            return -1;
        if (event_archives_list(r->dir_fd, row->channel, &row->archives, &row->archive_count,
                    err) != 0)
            return -1;
        if (row->live != NULL) {
            settled = event_source_is(row->live, r->dir_fd, name);
        } else {
            if (event_source_open(r->dir_fd, name, &again, err) != 0)
                return -1;
            settled = again == NULL;
            event_source_close(again);
        }
        if (settled)
            return 0;
    }
    return cc_err_set(err, CC_DOM_SYSTEM, EBUSY, "%s is archived too often to follow", name);
}

/* Opens an archive in whichever form it has by now. */
static int
open_archive(struct reading *r, const struct event_archive *a, struct event_source **ret,
        struct cc_err *err)
{
    char packed[EVENT_FILE_NAME_MAX + 8];

    *ret = NULL;
    (void)snprintf(packed, sizeof(packed), "%s.zst", a->name);
    if (!a->compressed && event_source_open(r->dir_fd, a->name, ret, err) != 0)
        return -1;
    if (*ret == NULL && event_source_open(r->dir_fd, packed, ret, err) != 0)
        return -1;
    return 0;
}

/* The next file of the row becomes the source, NULL when there is none. */
static int
row_advance(struct reading *r, struct row *row, struct cc_err *err)
{
    event_source_close(row->source);
    row->source = NULL;
    while (row->source == NULL && row->next < row->archive_count) {
        const struct event_archive *a = &row->archives[row->next++];

        if (a->done || a->to_ms < r->filter->since_ms)
            continue;
        if (open_archive(r, a, &row->source, err) != 0)
            return -1;
    }
    row->in_archive = row->source != NULL;
    if (row->source == NULL) {
        row->source = row->live;
        row->live = NULL;
    }
    return 0;
}

static bool
listed(const struct event_archive *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) == 0)
            return true;
    }
    return false;
}

/* Looks again: what was there before has been read, and the oldest new archive too if it was read as the live file. */
static int
row_look_again(struct reading *r, struct row *row, bool live_was_read, struct cc_err *err)
{
    struct event_archive *before = row->archives;
    size_t before_count = row->archive_count;
    int rc;

    row->archives = NULL;
    row->archive_count = 0;
    if ((rc = row_look(r, row, err)) == 0) {
        for (size_t i = 0; i < row->archive_count; i++) {
            struct event_archive *a = &row->archives[i];

            a->done = listed(before, before_count, a->name);
            if (!a->done && live_was_read) {
                a->done = true;
                live_was_read = false;
            }
        }
        row->next = 0;
    }
    free(before);
    return rc;
}

/* Reads the row's next line unless one waits.  A damaged file is said and left; the rest of the log is still good. */
static int
row_next(struct reading *r, struct row *row, struct cc_err *err)
{
    while (!row->has_line && row->source != NULL) {
        struct cc_err why = { .domain = CC_DOM_NONE };
        int rc = event_source_next(row->source, &row->line, &row->len, &why);

        if (rc == 1) {
            row->has_line = event_line_time(row->line, row->len, &row->time_ms) == 0;
            continue;
        }
        if (rc < 0)
            cc_log(CC_LOG_ERROR, "eventlog", "%s: %s; its other events are left out",
                    row->in_archive ? row->archives[row->next - 1].name
                                    : event_file_name(row->channel),
                    why.text);
        if (!row->in_archive) /* the live file's end, so far */
            break;
        if (row_advance(r, row, err) != 0)
            return -1;
    }
    return 0;
}

static int
row_open(struct reading *r, struct row *row, struct cc_err *err)
{
    if (row_look(r, row, err) != 0)
        return -1;
    return row_advance(r, row, err);
}

static void
row_close(struct row *row)
{
    event_source_close(row->source);
    event_source_close(row->live);
    free(row->archives);
}

/* When the live file, read to its end, is no longer the live file: what came after it.  Whether there is more to read. */
static int
row_follow(struct reading *r, struct row *row, bool *ret_more, struct cc_err *err)
{
    if (row->source != NULL) {
        if (event_source_is(row->source, r->dir_fd, event_file_name(row->channel)))
            return 0;
        /* what was written between our last look at its end and its archiving */
        if (row_next(r, row, err) != 0)
            return -1;
        if (row->has_line) {
            *ret_more = true;
            return 0;
        }
    }
    if (row_look_again(r, row, row->source != NULL, err) != 0)
        return -1;
    if (row_advance(r, row, err) != 0)
        return -1;
    if (row->source != NULL)
        *ret_more = true;
    return 0;
}

/* ---- what is wanted ---- */

static bool
member_is(json_object *obj, const char *name, const char *want)
{
    const char *text = NULL;

    return cc_json_get_str(obj, name, EVENT_LINE_MAX, &text, NULL) == 0 && text != NULL &&
           strcmp(text, want) == 0;
}

static bool
category_is(json_object *obj, int want)
{
    const char *text = NULL;

    return cc_json_get_str(obj, "category", EVENT_FIELD_MAX, &text, NULL) == 0 && text != NULL &&
           event_category_parse(text) == want;
}

/* An id of letters, digits and dashes stands in a line as it is; a line without it needs no parsing. */
static bool
surely_without(const char *line, size_t len, const char *id)
{
    for (const char *p = id; *p != '\0'; p++) {
        if (!((*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                    *p == '-'))
            return false;
    }
    return memmem(line, len, id, strlen(id)) == NULL;
}

static bool
wanted(const struct event_filter *f, const struct row *row)
{
    json_object *obj;
    int64_t id;
    bool yes;

    if (row->time_ms < f->since_ms)
        return false;
    if (f->request_id != NULL && surely_without(row->line, row->len, f->request_id))
        return false;
    if (f->about != NULL && surely_without(row->line, row->len, f->about))
        return false;
    if ((obj = cc_json_parse(row->line, row->len, NULL)) == NULL) /* torn in a crash */
        return false;
    yes = cc_json_get_int(obj, "id", 1, INT32_MAX, 0, &id, NULL) == 0 && id != 0 &&
          (f->id == 0 || f->id == id) && (f->category < 0 || category_is(obj, f->category)) &&
          (f->request_id == NULL || member_is(obj, "requestId", f->request_id) ||
                  member_is(obj, "transactionId", f->request_id)) &&
          (f->about == NULL || member_is(obj, "requestId", f->about) ||
                  member_is(obj, "transactionId", f->about) ||
                  member_is(obj, "serialNumber", f->about));
    json_object_put(obj);
    return yes;
}

/* ---- reading ---- */

/* The row whose line is the oldest, NULL when none has one; at the same time the operational one, whose event leads to
   the admin event. */
static struct row *
oldest(struct reading *r)
{
    struct row *admin = &r->rows[EVENT_CHANNEL_ADMIN];
    struct row *operational = &r->rows[EVENT_CHANNEL_OPERATIONAL];

    if (!operational->has_line)
        return admin->has_line ? admin : NULL;
    if (!admin->has_line)
        return operational;
    return admin->time_ms < operational->time_ms ? admin : operational;
}

static bool
row_wanted(const struct reading *r, int channel)
{
    return r->filter->channel < 0 || r->filter->channel == channel;
}

/* Everything there is up to now: 0 at its end, 1 when fn had enough. */
static int
read_all(struct reading *r, const volatile bool *stop, struct cc_err *err)
{
    while (stop == NULL || !*stop) {
        struct row *row;

        for (int i = 0; i < EVENT_CHANNELS; i++) {
            if (row_next(r, &r->rows[i], err) != 0)
                return -1;
        }
        if ((row = oldest(r)) == NULL)
            return 0;
        row->has_line = false;
        if (wanted(r->filter, row) && r->fn(r->arg, row->line, row->len) != 0)
            return 1;
    }
    return 1;
}

/* Waits for the folder to change, or until stop should be looked at. */
static int
wait_change(int watch, struct cc_err *err)
{
    struct pollfd p = { .fd = watch, .events = POLLIN };
    char events[4096];

    if (poll(&p, 1, STOP_CHECK_MS) < 0 && errno != EINTR)
        return cc_err_set_errno(err, errno, "wait for the event log");
    /* what changed is found by looking; a read that fails finds nothing new */
    if ((p.revents & POLLIN) != 0)
        (void)!read(watch, events, sizeof(events));
    return 0;
}

static int
follow_rows(struct reading *r, int watch, const volatile bool *stop, struct cc_err *err)
{
    for (;;) {
        bool more = false;
        int rc = read_all(r, stop, err);

        if (rc != 0)
            return rc < 0 ? -1 : 0;
        for (int i = 0; i < EVENT_CHANNELS; i++) {
            if (row_wanted(r, i) && row_follow(r, &r->rows[i], &more, err) != 0)
                return -1;
        }
        if (!more && wait_change(watch, err) != 0)
            return -1;
    }
}

int
eventlog_read(const char *directory, const struct event_filter *filter, bool follow,
        const volatile bool *stop, event_fn fn, void *arg, struct cc_err *err)
{
    struct reading r = { .filter = filter, .fn = fn, .arg = arg };
    int watch = -1;
    int rc = -1;

    for (int i = 0; i < EVENT_CHANNELS; i++)
        r.rows[i].channel = (enum event_channel)i;
    if ((r.dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return cc_err_set_errno(err, errno, "open the event log's folder %s", directory);
    /* before the first look, so that no change goes unseen */
    if (follow && ((watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) < 0 ||
                          inotify_add_watch(watch, directory,
                                  IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM) < 0)) {
        cc_err_set_errno(err, errno, "watch %s", directory);
        goto out;
    }
    for (int i = 0; i < EVENT_CHANNELS; i++) {
        if (row_wanted(&r, i) && row_open(&r, &r.rows[i], err) != 0)
            goto out;
    }
    if (follow)
        rc = follow_rows(&r, watch, stop, err);
    else
        rc = read_all(&r, stop, err) < 0 ? -1 : 0;
out:
    for (int i = 0; i < EVENT_CHANNELS; i++)
        row_close(&r.rows[i]);
    if (watch >= 0)
        (void)close(watch);
    (void)close(r.dir_fd);
    return rc;
}

/* ---- finding requests ---- */

/* The request id of a line of ours: as it stands there, or, when it is escaped, by way of *ret_obj, yours to put. */
static const char *
line_request_id(const char *line, size_t len, size_t *ret_len, json_object **ret_obj)
{
    static const char name[] = "\"requestId\":\"";
    const char *id = memmem(line, len, name, sizeof(name) - 1);
    const char *end, *text = NULL;

    if (id == NULL)
        return NULL;
    id += sizeof(name) - 1;
    if ((end = memchr(id, '"', len - (size_t)(id - line))) == NULL) /* torn in a crash */
        return NULL;
    if (memchr(id, '\\', (size_t)(end - id)) != NULL) {
        *ret_obj = cc_json_parse(line, len, NULL);
        if (*ret_obj == NULL ||
                cc_json_get_str(*ret_obj, "requestId", EVENT_LINE_MAX, &text, NULL) != 0 ||
                text == NULL)
            return NULL;
        id = text;
        end = text + strlen(text);
    }
    *ret_len = (size_t)(end - id);
    return id;
}

static void
find_in_line(const struct row *row, const char *const *request_ids, size_t count, bool *found)
{
    json_object *obj = NULL;
    size_t len = 0;
    const char *id = line_request_id(row->line, row->len, &len, &obj);

    for (size_t i = 0; i < count && id != NULL; i++) {
        if (!found[i] && strlen(request_ids[i]) == len && memcmp(request_ids[i], id, len) == 0)
            found[i] = true;
    }
    json_object_put(obj);
}

int
event_requests_find(int dir_fd, const char *const *request_ids, size_t count, int64_t since_ms,
        bool *found, struct cc_err *err)
{
    const struct event_filter filter = { .since_ms = since_ms };
    struct reading r = { .dir_fd = dir_fd, .filter = &filter };
    struct row *row = &r.rows[EVENT_CHANNEL_ADMIN];
    int rc;

    row->channel = EVENT_CHANNEL_ADMIN;
    if ((rc = row_open(&r, row, err)) == 0)
        rc = row_next(&r, row, err);
    while (rc == 0 && row->has_line) {
        row->has_line = false;
        if (row->time_ms >= since_ms)
            find_in_line(row, request_ids, count, found);
        rc = row_next(&r, row, err);
    }
    row_close(row);
    return rc;
}
