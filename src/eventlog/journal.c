/* SPDX-License-Identifier: MIT */

/* Events to journald, as fields that journalctl(1) can select. */

#include "eventlog_int.h"

#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/text.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define FIELDS_MAX 16

bool
event_journal_runs(void)
{
    return access(JOURNAL_SOCKET, W_OK) == 0;
}

/* The fields of one message, each "NAME=value". */
struct fields {
    struct iovec list[FIELDS_MAX];
    struct cc_buf texts[FIELDS_MAX];
    int count;
};

/* A field that cannot be made is left out: the files have it. */
static void
add_field(struct fields *f, const char *name, const char *text)
{
    struct cc_buf *buf = &f->texts[f->count];

    if (text == NULL || f->count == FIELDS_MAX)
        return;
    cc_buf_init(buf, 4 * EVENT_MESSAGE_MAX + 64);
    if (cc_buf_printf(buf, NULL, "%s=", name) != 0 ||
            cc_escape(buf, text, strlen(text), EVENT_MESSAGE_MAX, NULL) != 0) {
        cc_buf_free(buf);
        return;
    }
    f->list[f->count].iov_base = buf->data;
    f->list[f->count].iov_len = buf->len;
    f->count++;
}

/* sd-daemon(3) */
static const char *
priority(enum event_level level)
{
    static const char *const priorities[] = {
        [EVENT_LEVEL_ERROR] = "3",
        [EVENT_LEVEL_WARNING] = "4",
        [EVENT_LEVEL_INFORMATION] = "6",
        [EVENT_LEVEL_DEBUG] = "7",
    };

    return priorities[level];
}

void
event_journal_send(const struct event_line *line)
{
    struct fields f = { .count = 0 };
    const struct event_fields *said = line->fields;
    char id[16];

    (void)snprintf(id, sizeof(id), "%d", (int)line->type->id);
    add_field(&f, "MESSAGE", line->message);
    add_field(&f, "PRIORITY", priority(line->type->level));
    add_field(&f, "SYSLOG_IDENTIFIER", "certconnector");
    add_field(&f, "CERTCONNECTOR_EVENT_ID", id);
    add_field(&f, "CERTCONNECTOR_EVENT_NAME", line->type->name);
    add_field(&f, "CERTCONNECTOR_CHANNEL", event_channel_name(line->type->channel));
    add_field(&f, "CERTCONNECTOR_CATEGORY", event_category_name(line->category));
    add_field(&f, "CERTCONNECTOR_NAME", line->connector);
    if (said != NULL) {
        add_field(&f, "CERTCONNECTOR_REQUEST_ID", said->request_id);
        add_field(&f, "CERTCONNECTOR_TRANSACTION_ID", said->transaction_id);
        add_field(&f, "CERTCONNECTOR_USER", said->user);
        add_field(&f, "CERTCONNECTOR_DEVICE", said->device);
        if (said->error != NULL && said->error->domain != CC_DOM_NONE)
            add_field(&f, "CERTCONNECTOR_ERROR", said->error->text);
    }
    /* journald may be gone by now; the files have the event */
    (void)sd_journal_sendv(f.list, f.count);
    for (int i = 0; i < f.count; i++)
        cc_buf_free(&f.texts[i]);
}
