/* SPDX-License-Identifier: MIT */
#ifndef EVENTLOG_EVENTLOG_INT_H
#define EVENTLOG_EVENTLOG_INT_H

/*
 * Between the files of this room: one line, the files of a directory, and lines read back.
 *
 * A channel's directory holds its live file "admin.log" and its archives "admin-FROM-TO.log.zst", where FROM and TO are
 * times like 20261101T123456789Z, and "-N" follows when two archives would have one name.  An archive is
 * renamed from the live file first and compressed later, so for a while it ends in ".log"; when both forms are there
 * the compressed one is whole and the other is about to go.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "eventlog/eventlog.h"

#define EVENT_CHANNELS 2
#define EVENT_MESSAGE_MAX 4096 /* bytes of a message, before JSON */
#define EVENT_FIELD_MAX 1024   /* bytes of any other text */
#define EVENT_LINE_MAX                                                                             \
    (256 * 1024) /* bytes of a line: every text at its longest, every byte escaped */
#define EVENT_FILE_NAME_MAX 96

/* What a line says. */
struct event_line {
    const struct event_type *type;
    enum event_category category; /* the type's, but for debug lines */
    int64_t time_ms;
    const char *connector;
    const char *message;
    const struct event_fields *fields; /* or NULL */
};

/* Appends the JSON text and its line end.  No byte of it can move a terminal's cursor or begin another line. */
CC_MUST int event_line_write(const struct event_line *line, struct cc_buf *ret, struct cc_err *err);

/* Appends text as valid UTF-8, at most max bytes of it; bytes that are none become \xNN. */
CC_MUST int event_text_clean(const char *text, size_t max, struct cc_buf *ret, struct cc_err *err);

/* ---- files ---- */

const char *event_file_name(enum event_channel channel); /* "admin.log" */

struct event_archive {
    char name[EVENT_FILE_NAME_MAX]; /* ends in ".log", compressed or not */
    bool compressed;                /* it is there as name + ".zst" */
    int64_t from_ms, to_ms;
    unsigned number; /* of those with the same times, from 1 */
    bool done;       /* for a reader: it has read it */
};

/* A name for a live file with these times that no archive in the directory has. */
CC_MUST int event_archive_name(int dir_fd, enum event_channel channel, int64_t from_ms,
        int64_t to_ms, char ret_name[EVENT_FILE_NAME_MAX], struct cc_err *err);

/* All archives of a channel, each once, oldest first; the array is yours. */
CC_MUST int event_archives_list(int dir_fd, enum event_channel channel,
        struct event_archive **ret_archives, size_t *ret_count, struct cc_err *err);

/* Compresses every archive that is not; removes what an earlier attempt left half done.  Only the owner of the log. */
CC_MUST int event_archives_compress(int dir_fd, struct cc_err *err);

/* ---- lines read back ---- */

struct event_source;

/* A file of the directory by name; compressed when the name ends in ".zst".  NULL without an error: no such file. */
CC_MUST int event_source_open(int dir_fd, const char *name, struct event_source **ret,
        struct cc_err *err);
void event_source_close(struct event_source *source); /* accepts NULL */

/* 1 with the next whole line without its end, borrowed until the next call; 0 at the end, which may move; -1.  A line
   beyond EVENT_LINE_MAX is left out. */
CC_MUST int event_source_next(struct event_source *source, const char **ret_line, size_t *ret_len,
        struct cc_err *err);

/* Whether the file of that name is still this one. */
bool event_source_is(const struct event_source *source, int dir_fd, const char *name);

/* The time that a line of ours says; -1 when it is none of ours. */
CC_MUST int event_line_time(const char *line, size_t len, int64_t *ret_ms);

/* Sets found[i] for each request that has an event in the admin files since that time. */
CC_MUST int event_requests_find(int dir_fd, const char *const *request_ids, size_t count,
        int64_t since_ms, bool *found, struct cc_err *err);

/* ---- journald ---- */

bool event_journal_runs(void);
void event_journal_send(const struct event_line *line);

#endif
