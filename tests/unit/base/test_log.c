/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"

#define NOW_MS INT64_C(1793536496789)
#define NOW_TEXT "2026-11-01T12:34:56.789Z"

/* Standard error goes into a file while a test runs. */
struct capture {
    int real;
    int file;
};

static int
capture_start(void **state)
{
    static struct capture capture;
    char name[] = "/tmp/test_log.XXXXXX";

    capture.real = dup(STDERR_FILENO);
    capture.file = mkostemp(name, O_CLOEXEC | O_APPEND);
    if (capture.file < 0 || unlink(name) != 0 || dup2(capture.file, STDERR_FILENO) < 0)
        return -1;
    unsetenv("JOURNAL_STREAM");
    cc_log_set_level(CC_LOG_NOTICE);
    cc_clock_set(NOW_MS, 0);
    *state = &capture;
    return 0;
}

static int
capture_stop(void **state)
{
    struct capture *capture = *state;

    cc_clock_real();
    unsetenv("JOURNAL_STREAM");
    (void)dup2(capture->real, STDERR_FILENO);
    (void)close(capture->real);
    (void)close(capture->file);
    return 0;
}

/* What was logged since the last call. */
static const char *
logged(void **state, struct cc_buf *buf)
{
    struct capture *capture = *state;

    cc_buf_reset(buf);
    assert_int_equal(lseek(capture->file, 0, SEEK_SET), 0);
    assert_int_equal(cc_fd_read_all(capture->file, buf, NULL), 0);
    assert_int_equal(ftruncate(capture->file, 0), 0);
    return cc_buf_str(buf);
}

static void
level_decides(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(10000);

    cc_log(CC_LOG_INFO, "hsm", "too much");
    assert_string_equal(logged(state, &buf), "");
    cc_log(CC_LOG_NOTICE, "hsm", "slot %d", 4);
    assert_string_equal(logged(state, &buf), NOW_TEXT " <5>hsm: slot 4\n");
    cc_log_set_level(CC_LOG_DEBUG);
    cc_log(CC_LOG_DEBUG, "http", "more");
    assert_string_equal(logged(state, &buf), NOW_TEXT " <7>http: more\n");
    cc_log_set_level(CC_LOG_ERROR);
    cc_log(CC_LOG_WARNING, "http", "more");
    assert_string_equal(logged(state, &buf), "");
    cc_buf_free(&buf);
}

static void
a_line_stays_a_line(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(10000);

    cc_log(CC_LOG_ERROR, "hsm", "user %s\n", "a\r\n<3>hsm: forged\x1b[31m\\x0a");
    assert_string_equal(logged(state, &buf),
            NOW_TEXT " <3>hsm: user a\\x0d\\x0a<3>hsm: forged\\x1b[31m\\x0a\\x0a\n");
    cc_buf_free(&buf);
}

static void
long_text_is_cut_and_ends_its_line(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(10000);
    char text[5000];

    memset(text, '\n', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    cc_log(CC_LOG_ERROR, "hsm", "%s", text);
    logged(state, &buf);
    assert_true(buf.len > 1000 && buf.len < 3000);
    assert_string_equal(cc_buf_str(&buf) + buf.len - 4, "...\n");
    assert_ptr_equal(strchr(cc_buf_str(&buf), '\n'), cc_buf_str(&buf) + buf.len - 1);
    cc_buf_free(&buf);
}

static void
journal_gets_no_time(void **state)
{
    struct cc_buf buf = CC_BUF_INIT(10000);
    char stream[64];
    struct stat st;

    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    (void)snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    cc_log(CC_LOG_WARNING, "store", "text");
    assert_string_equal(logged(state, &buf), "<4>store: text\n");

    /* The journal's socket, but standard error is something else by now. */
    (void)snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
            (uintmax_t)st.st_ino + 1);
    setenv("JOURNAL_STREAM", stream, 1);
    cc_log(CC_LOG_WARNING, "store", "text");
    assert_string_equal(logged(state, &buf), NOW_TEXT " <4>store: text\n");
    setenv("JOURNAL_STREAM", "nonsense", 1);
    cc_log(CC_LOG_WARNING, "store", "text");
    assert_string_equal(logged(state, &buf), NOW_TEXT " <4>store: text\n");
    cc_buf_free(&buf);
}

static void
errno_survives(void **state)
{
    (void)state;
    errno = EXDEV;
    cc_log(CC_LOG_ERROR, "hsm", "text");
    assert_int_equal(errno, EXDEV);
}

static void *
log_hundred(void *arg)
{
    int i;

    for (i = 0; i < 100; i++)
        cc_log(CC_LOG_ERROR, "hsm", "%s", (const char *)arg);
    return NULL;
}

static void
threads_do_not_mix_lines(void **state)
{
    static char texts[4][100];
    struct cc_buf buf = CC_BUF_INIT(1000000);
    pthread_t threads[4];
    const char *line, *end;
    size_t i, lines = 0;

    for (i = 0; i < 4; i++) {
        memset(texts[i], (int)('a' + i), sizeof(texts[i]) - 1);
        assert_int_equal(pthread_create(&threads[i], NULL, log_hundred, texts[i]), 0);
    }
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (line = logged(state, &buf); (end = strchr(line, '\n')) != NULL; line = end + 1) {
        const char *text = end - 99;

        assert_int_equal(strspn(text, (char[]){ text[0], '\0' }), 99);
        lines++;
    }
    assert_int_equal(lines, 400);
    cc_buf_free(&buf);
}

int
main(void)
{
#define CAPTURED(test) cmocka_unit_test_setup_teardown(test, capture_start, capture_stop)
    const struct CMUnitTest tests[] = {
        CAPTURED(level_decides),
        CAPTURED(a_line_stays_a_line),
        CAPTURED(long_text_is_cut_and_ends_its_line),
        CAPTURED(journal_gets_no_time),
        CAPTURED(errno_survives),
        CAPTURED(threads_do_not_mix_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
