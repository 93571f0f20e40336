/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base_int.h"

#define TEXT_SIZE 2048

static _Atomic int log_level = CC_LOG_NOTICE;

void
cc_log_set_level(enum cc_log_level level)
{
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

/* systemd.exec(5): $JOURNAL_STREAM names the journal's socket, and counts only if standard error still is it. */
static bool
to_journal(void)
{
    const char *stream = secure_getenv("JOURNAL_STREAM");
    char own[48];
    struct stat st;

    if (stream == NULL || fstat(STDERR_FILENO, &st) != 0)
        return false;
    (void)snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(stream, own) == 0;
}

void
cc_log(enum cc_log_level level, const char *room, const char *fmt, ...)
{
    int saved_errno = errno;
    char raw[TEXT_SIZE], text[TEXT_SIZE], line[TEXT_SIZE + 128], now[CC_TIME_LEN];
    va_list ap;
    int len;

    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed))
        return;
    va_start(ap, fmt);
    if (vsnprintf(raw, sizeof(raw), fmt, ap) < 0)
        raw[0] = '\0';
    va_end(ap);
    cc_escape_line(text, sizeof(text), raw);

    if (to_journal()) {
        len = snprintf(line, sizeof(line), "<%d>%.40s: %s\n", (int)level, room, text);
    } else {
        cc_time_format(cc_clock_now_ms(), now);
        len = snprintf(line, sizeof(line), "%s <%d>%.40s: %s\n", now, (int)level, room, text);
    }
    /* In one write, so that the lines of several threads do not mix; if that fails there is nobody to tell. */
    if (len > 0)
        (void)!cc_fd_write_all(STDERR_FILENO, line, (size_t)len, NULL);
    errno = saved_errno;
}
