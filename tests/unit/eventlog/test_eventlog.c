/* SPDX-License-Identifier: MIT */
#include "eventlog/eventlog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

#define SMALL 65536

struct folder {
    char path[64];
};

static int
setup(void **state)
{
    static struct folder folder;

    (void)snprintf(folder.path, sizeof(folder.path), "/tmp/test_eventlog.XXXXXX");
    *state = &folder;
    return mkdtemp(folder.path) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
    const struct folder *folder = *state;
    char command[128];

    cc_clock_real();
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder->path);
    return system(command);
}

static struct eventlog *
open_log(const struct folder *folder, uint64_t max_size)
{
    struct eventlog_settings settings = {
        .directory = folder->path,
        .connector = "test-1",
        .max_size = max_size,
    };
    struct eventlog *log = NULL;
    struct cc_err err = { .domain = CC_DOM_NONE };

    if (eventlog_open(&settings, &log, &err) != 0)
        fail_msg("%s", err.text);
    return log;
}

/* Files of the folder whose names end so. */
static size_t
count_files(const struct folder *folder, const char *prefix, const char *suffix)
{
    DIR *dir = opendir(folder->path);
    const struct dirent *entry;
    size_t count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        size_t want = strlen(suffix);

        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && len >= want &&
                strcmp(entry->d_name + len - want, suffix) == 0)
            count++;
    }
    (void)closedir(dir);
    return count;
}

static uint64_t
file_size(const struct folder *folder, const char *name)
{
    char path[256];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void
put_file(const struct folder *folder, const char *name, const char *text, const char *mode)
{
    char path[256];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    f = fopen(path, mode);
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

/* ---- what is read ---- */

struct lines {
    size_t count;
    size_t max;
    char **text;
};

static int
keep(void *arg, const char *line, size_t len)
{
    struct lines *l = arg;

    if (l->count == l->max) {
        l->max = l->max == 0 ? 64 : 2 * l->max;
        l->text = realloc(l->text, l->max * sizeof(*l->text));
        assert_non_null(l->text);
    }
    l->text[l->count++] = strndup(line, len);
    return 0;
}

static void
lines_free(struct lines *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->text[i]);
    free(l->text);
    *l = (struct lines){ .count = 0 };
}

static const struct event_filter everything = { .channel = -1, .category = -1 };

static void
read_lines(const struct folder *folder, const struct event_filter *filter, struct lines *ret)
{
    struct cc_err err = { .domain = CC_DOM_NONE };

    if (eventlog_read(folder->path, filter, false, NULL, keep, ret, &err) != 0)
        fail_msg("%s", err.text);
}

/* The member of a line that must parse; yours to free. */
static char *
member(const char *line, const char *name)
{
    struct cc_err err = { .domain = CC_DOM_NONE };
    json_object *obj = cc_json_parse(line, strlen(line), &err);
    const char *text = NULL;
    char *copy;

    if (obj == NULL)
        fail_msg("%s: %s", err.text, line);
    assert_int_equal(cc_json_get_str(obj, name, 100000, &text, &err), 0);
    copy = text == NULL ? NULL : strdup(text);
    json_object_put(obj);
    return copy;
}

static void
assert_member(const char *line, const char *name, const char *want)
{
    char *text = member(line, name);

    assert_non_null(text);
    assert_string_equal(text, want);
    free(text);
}

/* The number that stands in a message "WORD NUMBER …" of one writer. */
static unsigned
number_of(const char *line, const char *word)
{
    char *message = member(line, "message");
    size_t len = strlen(word);
    unsigned number = UINT32_MAX;

    assert_non_null(message);
    if (strncmp(message, word, len) == 0 && message[len] == ' ')
        number = (unsigned)strtoul(message + len + 1, NULL, 10);
    free(message);
    return number;
}

/* ---- lines ---- */

static void
test_line(void **state)
{
    struct folder *folder = *state;
    struct eventlog *log;
    struct lines lines = { .count = 0 };
    struct cc_err why = { .domain = CC_DOM_NONE };
    struct event_fields fields = {
        .request_id = "r-1",
        .transaction_id = "t-1",
        .serial_number = "0A",
        .thumbprint = "AB",
        .user = "j\xc3\xb6rg@contoso.example",
        .device = "d-1",
        .ca = "corp",
        .duration_ms = 12,
        .error = &why,
    };

    cc_err_set(&why, CC_DOM_PKCS11, 0xa4, "sign: CKR_PIN_LOCKED");
    cc_clock_set(INT64_C(1793536496789), 0);
    log = open_log(folder, SMALL);
    assert_int_equal(
            eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_FAILURE, &fields, "request %d", 1), 0);
    assert_int_equal(eventlog_write(log, EVENT_CONNECTOR_STARTED, NULL, "started"), 0);
    assert_int_equal(eventlog_write(NULL, EVENT_CONNECTOR_STARTED, NULL, "nowhere"), 0);
    assert_int_equal(eventlog_write(log, (enum event_id)77, NULL, "no such event"), -1);
    eventlog_close(log);
    eventlog_close(NULL);

    read_lines(folder, &everything, &lines);
    assert_int_equal(lines.count, 2);
    assert_string_equal(lines.text[0],
            "{\"time\":\"2026-11-01T12:34:56.789Z\",\"id\":2001,\"name\":\"PkcsImportRequestFailure\","
            "\"channel\":\"Admin\",\"category\":\"PKCS Import\",\"level\":\"Error\",\"connector\":\"test-1\","
            "\"message\":\"request 1\",\"requestId\":\"r-1\",\"transactionId\":\"t-1\","
            "\"serialNumber\":\"0A\",\"thumbprint\":\"AB\",\"user\":\"j\xc3\xb6rg@contoso.example\","
            "\"device\":\"d-1\",\"ca\":\"corp\",\"durationMs\":12,"
            "\"error\":{\"domain\":\"pkcs11\",\"code\":164,\"text\":\"sign: CKR_PIN_LOCKED\"}}");
    assert_string_equal(lines.text[1],
            "{\"time\":\"2026-11-01T12:34:56.789Z\",\"id\":1,\"name\":\"ConnectorStarted\","
            "\"channel\":\"Admin\",\"category\":\"General\",\"level\":\"Information\","
            "\"connector\":\"test-1\",\"message\":\"started\"}");
    lines_free(&lines);
}

/* Texts that want to be more than a text.  What comes back is what went in; what stands in the file is harmless. */
static void
test_forging(void **state)
{
    static const struct {
        const char *text;
        const char *want; /* NULL: the text itself */
    } table[] = {
        { "a\n{\"time\":\"2026-11-01T12:34:56.789Z\",\"id\":2000,\"name\":\"PkcsImportRequestSuccess\"}",
                NULL },
        { "a\r\nb\tc\bd\fe\vf", NULL },
        { "\",\"id\":2000,\"x\":\"", NULL },
        { "\\\",\\u000a\\n\\", NULL },
        { "\\u0000 \\0 %00", NULL },
        { "\x1b[2J\x1b]0;title\x07", NULL },
        { "\x7f\xc2\x80\xc2\x9b"
          "31m",
                NULL },
        { "line\xe2\x80\xa8separator\xe2\x80\xa9paragraph", NULL },
        { "\xe2\x80\xaegnp.exe\xe2\x81\xa6x\xe2\x81\xa9\xd8\x9c\xe2\x80\x8f", NULL },
        { "ok \xc3\xa4\xe2\x82\xac\xf0\x9f\x94\x91", NULL },
        { "cut \xc3", "cut \\xC3" },
        { "\xff\xfe over\xc0\xafl", "\\xFF\\xFE over\\xC0\\xAFl" },
        { "surrogate \xed\xa0\x80", "surrogate \\xED\\xA0\\x80" },
        { "%s%n%d", NULL },
        { "", NULL },
    };
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, 1 << 20);
    struct lines lines = { .count = 0 };

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct event_fields fields = { .user = table[i].text, .request_id = table[i].text };
        struct cc_err why = { .domain = CC_DOM_INPUT, .code = 1 };

        (void)cc_strcpy(why.text, sizeof(why.text), table[i].text);
        fields.error = &why;
        assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_FAILURE, &fields, "%s",
                                 table[i].text),
                0);
    }
    eventlog_close(log);

    read_lines(folder, &everything, &lines);
    assert_int_equal(lines.count, CC_COUNT(table));
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        const char *want = table[i].want == NULL ? table[i].text : table[i].want;

        assert_member(lines.text[i], "user", want);
        assert_member(lines.text[i], "requestId", want);
        assert_member(lines.text[i], "message", want);
        assert_member(lines.text[i], "name", "PkcsImportRequestFailure");
        assert_true(cc_is_utf8(lines.text[i], strlen(lines.text[i])));
        for (const unsigned char *p = (const unsigned char *)lines.text[i]; *p != '\0'; p++) {
            assert_true(*p >= 0x20 && *p != 0x7f);
            if (p[0] == 0xc2)
                assert_true(p[1] >= 0xa0);
            if (p[0] == 0xe2 && p[1] == 0x80)
                assert_false(p[2] == 0xa8 || p[2] == 0xa9 || p[2] == 0xae || p[2] == 0x8f);
            if (p[0] == 0xe2 && p[1] == 0x81)
                assert_false(p[2] >= 0xa6 && p[2] <= 0xa9);
        }
    }
    lines_free(&lines);
}

static void
test_ceilings(void **state)
{
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, 1 << 20);
    struct lines lines = { .count = 0 };
    static char longest[100001];
    struct event_fields fields = { .user = longest };
    char *text;

    for (size_t i = 0; i + 1 < sizeof(longest); i += 2)
        memcpy(longest + i, "\xc3\xa4", 2);
    assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_FAILURE, &fields, "%s", longest),
            0);
    memset(longest, 0x01, sizeof(longest) - 1);
    fields = (struct event_fields){ longest, longest, longest, longest, longest, longest, longest,
        1, NULL, false };
    assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_FAILURE, &fields, "%s", longest),
            0);
    eventlog_close(log);

    read_lines(folder, &everything, &lines);
    assert_int_equal(lines.count, 2);
    text = member(lines.text[0], "user");
    assert_int_equal(strlen(text), 1024 + 3);
    free(text);
    text = member(lines.text[0], "message");
    assert_in_range(strlen(text), 4090, 4096);
    free(text);
    lines_free(&lines);
}

static void
test_debug(void **state)
{
    static const struct {
        enum eventlog_debug debug;
        size_t want_admin, want_operational;
    } table[] = {
        { EVENTLOG_DEBUG_NONE, 0, 0 },
        { EVENTLOG_DEBUG_ADMIN, 1, 0 },
        { EVENTLOG_DEBUG_OPERATIONAL, 0, 1 },
        { EVENTLOG_DEBUG_ALL, 1, 1 },
    };
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, SMALL);
    size_t want_admin = 0;
    size_t want_operational = 0;
    struct event_filter admin = { .channel = -1,
        .id = EVENT_ADMIN_DEBUG,
        .category = EVENT_CATEGORY_PKCS_IMPORT };
    struct event_filter operational = { .channel = -1,
        .id = EVENT_OPERATIONAL_DEBUG,
        .category = -1 };

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct eventlog_settings settings = {
            .directory = folder->path,
            .connector = "renamed",
            .max_size = SMALL,
            .debug = table[i].debug,
        };
        struct lines a = { .count = 0 };
        struct lines o = { .count = 0 };
        struct cc_err err = { .domain = CC_DOM_NONE };

        assert_int_equal(eventlog_reconfigure(log, &settings, &err), 0);
        eventlog_debug(log, EVENT_CHANNEL_ADMIN, EVENT_CATEGORY_PKCS_IMPORT, "a %d", 1);
        eventlog_debug(log, EVENT_CHANNEL_OPERATIONAL, EVENT_CATEGORY_GENERAL, "o %d", 1);
        eventlog_debug(NULL, EVENT_CHANNEL_ADMIN, EVENT_CATEGORY_GENERAL, "nowhere");
        want_admin += table[i].want_admin;
        want_operational += table[i].want_operational;
        read_lines(folder, &admin, &a);
        read_lines(folder, &operational, &o);
        assert_int_equal(a.count, want_admin);
        assert_int_equal(o.count, want_operational);
        if (a.count > 0) {
            assert_member(a.text[0], "level", "Debug");
            assert_member(a.text[0], "connector", "renamed");
        }
        lines_free(&a);
        lines_free(&o);
    }
    eventlog_close(log);
}

/* ---- files ---- */

/* A file holds as many whole lines as fit, to the byte. */
static void
test_rollover_to_the_byte(void **state)
{
    static const struct {
        int less; /* bytes below ten lines */
        uint64_t want_lines_a_file;
    } table[] = { { 0, 10 }, { 1, 9 } };

    for (size_t i = 0; i < CC_COUNT(table); i++) {
        struct folder *folder;
        void *own = NULL;
        struct eventlog *log;
        struct lines lines = { .count = 0 };
        uint64_t line_len, max;

        (void)state;
        assert_int_equal(setup(&own), 0);
        folder = own;
        cc_clock_set(INT64_C(1793536496789), 0);
        log = open_log(folder, SMALL);
        assert_int_equal(
                eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL, "n %05u", 0), 0);
        line_len = file_size(folder, "operational.log");
        assert_true(line_len > 100);
        max = 10 * line_len - (uint64_t)table[i].less;
        assert_int_equal(eventlog_reconfigure(log,
                                 &(struct eventlog_settings){ .directory = folder->path,
                                         .connector = "test-1",
                                         .max_size = max },
                                 NULL),
                0);
        for (unsigned n = 1; n < 50; n++)
            assert_int_equal(
                    eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL, "n %05u", n),
                    0);
        assert_true(file_size(folder, "operational.log") <= max);
        eventlog_close(log);

        assert_int_equal(count_files(folder, "operational-", ".log.zst"),
                (50 - 1) / table[i].want_lines_a_file);
        assert_int_equal(count_files(folder, "operational-", ".log"), 0);
        /* the clock stood still: names with numbers, still in order */
        assert_int_equal(count_files(folder,
                                 "operational-20261101T123456789Z-20261101T123456789Z-2",
                                 ".log.zst"),
                1);
        read_lines(folder, &everything, &lines);
        assert_int_equal(lines.count, 50);
        for (unsigned n = 0; n < 50; n++)
            assert_int_equal(number_of(lines.text[n], "n"), n);
        lines_free(&lines);
        assert_int_equal(teardown(&own), 0);
    }
}

struct sequence {
    unsigned next;
    bool bad;
};

static int
check_sequence(void *arg, const char *line, size_t len)
{
    struct sequence *s = arg;
    const char *at = memmem(line, len, "\"message\":\"n ", 13);

    if (at == NULL || strtoul(at + 13, NULL, 10) != s->next)
        s->bad = true;
    s->next++;
    return s->bad ? 1 : 0;
}

/* The size that is the default: fifty mebibytes to the byte, and one more. */
static void
test_rollover_at_50_mib(void **state)
{
    enum { MAX = 50 << 20 };
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, MAX);
    struct sequence seq = { .next = 0 };
    struct cc_err err = { .domain = CC_DOM_NONE };
    static char filler[4001];
    size_t frame, fill = 4000;
    unsigned n = 0;

    memset(filler, 'x', fill);
    assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL, "n %07u %.*s",
                             n++, 0, filler),
            0);
    frame = file_size(folder, "operational.log"); /* of a line around its filler */
    while ((MAX - frame) % (frame + fill) <
            frame) /* so that what is left at the end is a line too */
        fill--;
    while (file_size(folder, "operational.log") + frame + fill <= MAX)
        assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL,
                                 "n %07u %.*s", n++, (int)fill, filler),
                0);
    fill = MAX - file_size(folder, "operational.log") - frame;
    assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL, "n %07u %.*s",
                             n++, (int)fill, filler),
            0);
    assert_int_equal(file_size(folder, "operational.log"), MAX);
    assert_int_equal(count_files(folder, "operational-", ""), 0);
    assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL, "n %07u %.*s",
                             n++, 0, filler),
            0);
    assert_int_equal(file_size(folder, "operational.log"), frame);
    eventlog_close(log);
    assert_int_equal(count_files(folder, "operational-", ".log.zst"), 1);
    assert_int_equal(count_files(folder, "operational-", ""), 1);

    if (eventlog_read(folder->path, &everything, false, NULL, check_sequence, &seq, &err) != 0)
        fail_msg("%s", err.text);
    assert_false(seq.bad);
    assert_int_equal(seq.next, n);
}

enum { THREADS = 8, EACH = 400 };

struct writer {
    struct eventlog *log;
    unsigned number;
};

static void *
write_many(void *arg)
{
    const struct writer *w = arg;
    char word[16];

    (void)snprintf(word, sizeof(word), "w%u", w->number);
    for (unsigned i = 0; i < EACH; i++) {
        struct event_fields fields = { .request_id = word };

        /* every eighth one is synced */
        if (eventlog_write(w->log,
                    i % 8 == 0 ? EVENT_PKCS_IMPORT_REQUEST_SUCCESS
                               : EVENT_PKCS_IMPORT_UPLOAD_SUCCESS,
                    &fields, "%s %u %*s", word, i, (int)(i % 200), "") != 0)
            return arg;
    }
    return NULL;
}

static void
test_threads(void **state)
{
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, SMALL);
    struct writer writers[THREADS];
    pthread_t threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){ .log = log, .number = i };
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    eventlog_close(log);
    assert_true(count_files(folder, "operational-", ".log.zst") >= 5);

    for (unsigned i = 0; i < THREADS; i++) {
        char word[16];
        struct event_filter filter = { .channel = -1, .category = -1, .request_id = word };
        struct lines lines = { .count = 0 };
        bool seen[EACH] = { false };

        (void)snprintf(word, sizeof(word), "w%u", i);
        read_lines(folder, &filter, &lines);
        assert_int_equal(lines.count, EACH);
        for (size_t n = 0; n < lines.count; n++) {
            unsigned number = number_of(lines.text[n], word);

            assert_true(number < EACH);
            assert_false(seen[number]);
            seen[number] = true;
        }
        lines_free(&lines);
    }
}

/* Writes until it is killed, and says over the pipe which line is safe. */
static void
write_until_killed(const struct folder *folder, unsigned from, int pipe_fd)
{
    struct eventlog *log = open_log(folder, SMALL);

    for (unsigned n = from;; n++) {
        if (eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL, "n %u %*s", n,
                    (int)(n % 3000), "") != 0 ||
                write(pipe_fd, &n, sizeof(n)) != sizeof(n))
            _exit(1);
    }
}

static void
test_killed(void **state)
{
    struct folder *folder = *state;
    unsigned next = 0;
    struct lines lines = { .count = 0 };
    unsigned want = 0;

    for (int round = 0; round < 12; round++) {
        int fds[2];
        unsigned n = 0;
        unsigned count = 0;
        pid_t pid;

        assert_int_equal(pipe(fds), 0);
        assert_true((pid = fork()) >= 0);
        if (pid == 0) {
            (void)close(fds[0]);
            write_until_killed(folder, next, fds[1]);
        }
        (void)close(fds[1]);
        while (count < 40 + 13U * (unsigned)round && read(fds[0], &n, sizeof(n)) == sizeof(n))
            count++;
        assert_true(count > 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read(fds[0], &n, sizeof(n)) == sizeof(n))
            ;
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        (void)close(fds[0]);
        next = n + 1;
        put_file(folder, "operational.log", "{\"time\":\"20", "a");
    }
    eventlog_close(open_log(folder, SMALL));
    assert_int_equal(count_files(folder, "operational-", ".log"), 0);
    assert_int_equal(count_files(folder, "operational-", ".part"), 0);

    /* each line that was safe is there once; the one in flight may be there too, before its successor of that number */
    read_lines(folder, &everything, &lines);
    for (size_t i = 0; i < lines.count; i++) {
        unsigned n = number_of(lines.text[i], "n");

        if (want > 0 && n == want - 1)
            continue;
        assert_int_equal(n, want);
        want++;
    }
    assert_true(want >= next);
    lines_free(&lines);
}

static void
test_leftovers(void **state)
{
    static const char line[] =
            "{\"time\":\"2026-11-01T12:34:5%u.000Z\",\"id\":2020,\"name\":\"x\",\"channel\":\"Operational\","
            "\"category\":\"PKCS Import\",\"message\":\"n %u\"}\n";
    struct folder *folder = *state;
    struct lines lines = { .count = 0 };
    char text[3][256];

    for (unsigned i = 0; i < 3; i++)
        (void)snprintf(text[i], sizeof(text[i]), line, i, i);
    put_file(folder, "operational-20261101T123450000Z-20261101T123451000Z.log", text[0], "w");
    put_file(folder, "operational-20261101T123451000Z-20261101T123452000Z.log", text[1], "w");
    put_file(folder, "operational-20261101T123451000Z-20261101T123452000Z.log.zst.part", "half",
            "w");
    put_file(folder, "operational.log", text[2], "w");
    put_file(folder, "operational-notes.log", "not ours\n", "w");
    put_file(folder, "admin-20261101T123450000Z.log", "not ours\n", "w");

    for (int round = 0; round < 2; round++) {
        read_lines(folder, &everything, &lines);
        assert_int_equal(lines.count, 3);
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(number_of(lines.text[i], "n"), i);
        lines_free(&lines);
        if (round ==
                0) { /* killed between the compressed form's rename and the removal of the other */
            eventlog_close(open_log(folder, SMALL));
            put_file(folder, "operational-20261101T123450000Z-20261101T123451000Z.log", text[0],
                    "w");
        }
    }
    eventlog_close(open_log(folder, SMALL));
    assert_int_equal(count_files(folder, "operational-2", ".log.zst"), 2);
    assert_int_equal(count_files(folder, "operational-2", ".log"), 0);
    assert_int_equal(count_files(folder, "", ".part"), 0);
    assert_int_equal(count_files(folder, "operational-notes", ".log"), 1);
}

/* An archive that is damaged hides nothing but itself. */
static void
test_damaged_archive(void **state)
{
    struct folder *folder = *state;
    struct eventlog *log;
    struct lines lines = { .count = 0 };
    char path[256];

    cc_clock_set(INT64_C(1793536496789), 0);
    log = open_log(folder, 4096);
    for (unsigned n = 0; n < 60; n++)
        assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL, "n %u", n),
                0);
    eventlog_close(log);
    (void)snprintf(path, sizeof(path),
            "%s/operational-20261101T123456789Z-20261101T123456789Z.log.zst", folder->path);
    assert_int_equal(truncate(path, 60), 0);
    cc_log_set_level((enum cc_log_level)0);
    read_lines(folder, &everything, &lines);
    cc_log_set_level(CC_LOG_NOTICE);
    assert_in_range(lines.count, 20, 59);
    assert_int_equal(number_of(lines.text[lines.count - 1], "n"), 59);
    lines_free(&lines);
}

static void
test_one_owner(void **state)
{
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, SMALL);
    struct eventlog *other = NULL;
    struct eventlog_settings settings = { .directory = folder->path,
        .connector = "b",
        .max_size = SMALL };
    struct cc_err err = { .domain = CC_DOM_NONE };

    assert_int_equal(eventlog_open(&settings, &other, &err), -1);
    assert_null(other);
    assert_int_equal(err.code, EWOULDBLOCK);
    assert_non_null(strstr(err.text, "in use by another connector"));
    eventlog_close(log);
    eventlog_close(open_log(folder, SMALL));
}

static void
test_cannot_open(void **state)
{
    struct folder *folder = *state;
    char path[128];
    struct eventlog *log = NULL;
    struct eventlog_settings settings = { .directory = path, .connector = "b", .max_size = SMALL };
    struct cc_err err = { .domain = CC_DOM_NONE };

    (void)snprintf(path, sizeof(path), "%s/no/such", folder->path);
    assert_int_equal(eventlog_open(&settings, &log, &err), -1);
    assert_int_equal(err.code, ENOENT);
    cc_err_clear(&err);
    (void)snprintf(path, sizeof(path), "%s/admin.log", folder->path);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s", folder->path);
    assert_int_equal(eventlog_open(&settings, &log, &err), -1);
    assert_null(log);
    cc_err_clear(&err);
    (void)snprintf(path, sizeof(path), "%s/new", folder->path);
    if (eventlog_open(&settings, &log, &err) != 0)
        fail_msg("%s", err.text);
    eventlog_close(log);
}

/* A full disk: in a process of its own, as the limit holds for all files.  What could not be written comes later, whole
   and in order. */
static int
write_on_full_disk(const struct folder *folder)
{
    struct eventlog *log = open_log(folder, 1 << 20);
    struct rlimit limit = { .rlim_cur = 20000, .rlim_max = RLIM_INFINITY };
    const struct event_fields deferred = { .deferred = true };
    unsigned n = 0;
    unsigned refused = 0;

    cc_log_set_level((enum cc_log_level)0);
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || getrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 2;
    limit.rlim_cur = 20000;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 3;
    while (refused < 20 && n < 1000) {
        if (eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, NULL, "n %u", n++) != 0)
            refused++;
    }
    if (refused != 20 || file_size(folder, "admin.log") > 20000)
        return 4;
    if (eventlog_sync(log, NULL) == 0)
        return 7;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 5;
    /* What waits is written by a sync too, and by the next event, which may leave the sync to later. */
    if (eventlog_sync(log, NULL) != 0 || file_size(folder, "admin.log") <= 20000)
        return 8;
    if (eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, &deferred, "n %u", n++) != 0 ||
            eventlog_sync(log, NULL) != 0)
        return 6;
    eventlog_close(log);
    return 0;
}

static void
test_full_disk(void **state)
{
    struct folder *folder = *state;
    struct lines lines = { .count = 0 };
    int status = 0;
    pid_t pid;

    assert_true((pid = fork()) >= 0);
    if (pid == 0)
        _exit(write_on_full_disk(folder));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    read_lines(folder, &everything, &lines);
    assert_true(lines.count > 60);
    for (unsigned n = 0; n < lines.count; n++)
        assert_int_equal(number_of(lines.text[n], "n"), n);
    lines_free(&lines);
}

/* ---- a disk that does not sync ---- */

static struct {
    atomic_uint fail;      /* so many of the next syncs */
    _Atomic off_t on_disk; /* size of the file at the last good one */
} disk;

/* In place of the C library's: what a failed sync should have made durable reads as zeros afterwards. */
int
fdatasync(int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return -1;
    if (disk.fail == 0) {
        disk.on_disk = st.st_size;
        return fsync(fd);
    }
    disk.fail--;
    if (ftruncate(fd, disk.on_disk) != 0 || ftruncate(fd, st.st_size) != 0)
        abort();
    errno = EIO;
    return -1;
}

static void
count_trouble(void *arg)
{
    ++*(unsigned *)arg;
}

static void
write_deferred(struct eventlog *log, unsigned from, unsigned to)
{
    const struct event_fields deferred = { .deferred = true };

    for (unsigned n = from; n < to; n++)
        assert_int_equal(
                eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, &deferred, "n %u", n), 0);
}

/* The lines of a sync that failed are written anew; that the next sync succeeds proves nothing of them. */
static void
test_failing_sync(void **state)
{
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, 1 << 20);
    struct lines lines = { .count = 0 };
    struct eventlog_state seen;
    struct cc_err err = { .domain = CC_DOM_NONE };
    unsigned troubles = 0;

    cc_log_set_level((enum cc_log_level)0);
    eventlog_watch(log, count_trouble, &troubles);
    write_deferred(log, 0, 3);
    assert_int_equal(eventlog_sync(log, NULL), 0);
    assert_true(eventlog_is_usable(log));

    write_deferred(log, 3, 6);
    disk.fail = 2;
    assert_int_equal(eventlog_sync(log, &err), -1);
    assert_int_equal(err.code, EIO);
    assert_false(eventlog_is_usable(log));
    eventlog_get_state(log, &seen);
    assert_true(!seen.usable && seen.waiting == 3 && seen.lost == 0 && seen.since_ms > 0);
    /* Nobody reads what may not be there. */
    read_lines(folder, &everything, &lines);
    assert_int_equal(lines.count, 3);
    lines_free(&lines);

    assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, NULL, "n %u", 6), -1);
    assert_int_equal(troubles, 1);
    assert_int_equal(eventlog_flush(log, NULL), 0);
    assert_true(eventlog_is_usable(log));
    eventlog_get_state(log, &seen);
    assert_true(seen.usable && seen.waiting == 0 && seen.lost == 0);

    read_lines(folder, &everything, &lines);
    assert_int_equal(lines.count, 7);
    for (unsigned n = 0; n < lines.count; n++)
        assert_int_equal(number_of(lines.text[n], "n"), n);
    lines_free(&lines);
    eventlog_close(log);
}

/* The same when the file was full at that moment, and is to be archived. */
static void
test_failing_sync_of_an_archive(void **state)
{
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, SMALL);
    struct lines lines = { .count = 0 };
    unsigned n = 0;

    cc_log_set_level((enum cc_log_level)0);
    disk.on_disk = 0;
    while (file_size(folder, "admin.log") < SMALL - 1024) {
        write_deferred(log, n, n + 1);
        n++;
    }
    disk.fail = 1;
    while (disk.fail > 0) {
        const struct event_fields deferred = { .deferred = true };

        (void)eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, &deferred, "n %u", n++);
    }
    assert_false(eventlog_is_usable(log));
    assert_int_equal(eventlog_sync(log, NULL), 0);
    assert_true(eventlog_is_usable(log));
    read_lines(folder, &everything, &lines);
    assert_int_equal(lines.count, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(number_of(lines.text[i], "n"), i);
    lines_free(&lines);
    eventlog_close(log);
}

/* A crash in the middle of a line, or of the disk's work: what is no whole line goes. */
static void
test_torn_end(void **state)
{
    static const char half[] = "{\"time\":\"2026-11-01T12:34:56.789Z\",\"id\":20";
    static const char zeros[6000] = "";
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, 1 << 20);
    char path[256];
    uint64_t whole;
    FILE *file;

    write_deferred(log, 0, 2);
    eventlog_close(log);
    whole = file_size(folder, "admin.log");
    (void)snprintf(path, sizeof(path), "%s/admin.log", folder->path);
    for (int which = 0; which < 2; which++) {
        assert_non_null(file = fopen(path, "a"));
        assert_int_equal(which == 0 ? fwrite(half, sizeof(half) - 1, 1, file)
                                    : fwrite(zeros, sizeof(zeros), 1, file),
                1);
        assert_int_equal(fclose(file), 0);
        assert_true(file_size(folder, "admin.log") > whole);
        log = open_log(folder, 1 << 20);
        assert_int_equal(file_size(folder, "admin.log"), whole);
        eventlog_close(log);
    }
}

/* ---- reading ---- */

static void
test_filters(void **state)
{
    static const struct {
        struct event_filter filter;
        size_t want;
    } table[] = {
        { { .channel = -1, .category = -1 }, 6 },
        { { .channel = EVENT_CHANNEL_ADMIN, .category = -1 }, 3 },
        { { .channel = EVENT_CHANNEL_OPERATIONAL, .category = -1 }, 3 },
        { { .channel = -1, .category = -1, .id = 2000 }, 1 },
        { { .channel = -1, .category = EVENT_CATEGORY_PKCS_IMPORT }, 4 },
        { { .channel = -1, .category = EVENT_CATEGORY_SCEP }, 1 },
        { { .channel = -1, .category = -1, .since_ms = INT64_C(1793536490003) }, 3 },
        { { .channel = -1, .category = -1, .request_id = "r-1" }, 3 },
        { { .channel = -1, .category = -1, .request_id = "t/\"1" }, 1 },
        { { .channel = -1, .category = -1, .request_id = "r" }, 0 },
        { { .channel = -1, .category = -1, .request_id = "0A1B" }, 0 },
        { { .channel = -1, .category = -1, .about = "0A1B" }, 1 },
        { { .channel = -1, .category = -1, .about = "t/\"1" }, 1 },
        { { .channel = -1, .category = -1, .about = "r-1" }, 3 },
        { { .channel = EVENT_CHANNEL_ADMIN, .category = -1, .request_id = "r-1", .id = 2000 }, 1 },
        { { .channel = -1, .category = EVENT_CATEGORY_HEALTH }, 0 },
    };
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, SMALL);
    const struct event_fields r1 = { .request_id = "r-1" };
    const struct event_fields r2 = { .request_id = "r-2",
        .transaction_id = "t/\"1",
        .serial_number = "0A1B" };
    const struct {
        enum event_id id;
        const struct event_fields *fields;
    } events[] = {
        { EVENT_CONNECTOR_STARTED, NULL },
        { EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, &r1 },
        { EVENT_PKCS_IMPORT_REENCRYPT_SUCCESS, &r1 },
        { EVENT_PKCS_IMPORT_REQUEST_SUCCESS, &r1 },
        { EVENT_PKCS_IMPORT_UPLOAD_SUCCESS, &r2 },
        { EVENT_SCREP_REQUEST_SUCCESS, NULL },
    };
    struct lines lines = { .count = 0 };

    for (size_t i = 0; i < CC_COUNT(events); i++) {
        cc_clock_set(INT64_C(1793536490000) + (int64_t)i, 0);
        assert_int_equal(eventlog_write(log, events[i].id, events[i].fields, "r-1"), 0);
    }
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        read_lines(folder, &table[i].filter, &lines);
        if (lines.count != table[i].want)
            fail_msg("filter %zu: %zu lines, want %zu", i, lines.count, table[i].want);
        lines_free(&lines);
    }
    /* both channels in order of time */
    read_lines(folder, &everything, &lines);
    for (size_t i = 0; i < CC_COUNT(events); i++)
        assert_member(lines.text[i], "name", event_type_get((int)events[i].id)->name);
    lines_free(&lines);
    eventlog_close(log);
}

static void
test_find_admin_events(void **state)
{
    static const char *const ids[] = { "in-admin", "in-operational", "admin", "later",
        "in\"admin" };
    static const struct {
        int64_t since_ms;
        bool want[CC_COUNT(ids)];
    } table[] = {
        { 0, { true, false, false, true, true } },
        { INT64_C(1793536490000), { true, false, false, true, true } },
        { INT64_C(1793536490001), { false, false, false, true, false } },
    };
    struct folder *folder = *state;
    struct eventlog *log = open_log(folder, SMALL);
    /* said of another request by a peer that would like to have an event */
    const struct event_fields forged = { .request_id = "other",
        .user = "\",\"requestId\":\"admin\",\"" };

    cc_clock_set(INT64_C(1793536490000), 0);
    for (size_t i = 0; i < CC_COUNT(ids); i++) {
        const struct event_fields fields = { .request_id = ids[i], .deferred = true };

        if (i == 1)
            assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_UPLOAD_SUCCESS, &fields, "x"),
                    0);
        else if (i != 2 && i != 3)
            assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, &fields, "x"),
                    0);
    }
    assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_SUCCESS, &forged, "x"), 0);
    cc_clock_set(INT64_C(1793536490002), 0);
    assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_REQUEST_FAILURE,
                             &(struct event_fields){ .request_id = "later" }, "x"),
            0);
    for (size_t i = 0; i < CC_COUNT(table); i++) {
        bool found[CC_COUNT(ids)];

        assert_int_equal(
                eventlog_find_admin_events(log, ids, CC_COUNT(ids), table[i].since_ms, found, NULL),
                0);
        for (size_t j = 0; j < CC_COUNT(ids); j++) {
            if (found[j] != table[i].want[j])
                fail_msg("since %zu: %s: %d", i, ids[j], found[j]);
        }
    }
    eventlog_close(log);
}

static void
test_no_folder(void **state)
{
    struct cc_err err = { .domain = CC_DOM_NONE };
    struct lines lines = { .count = 0 };

    assert_int_equal(eventlog_read("/nonexistent", &everything, false, NULL, keep, &lines, &err),
            -1);
    assert_int_equal(err.code, ENOENT);
    read_lines(*state, &everything, &lines);
    assert_int_equal(lines.count, 0);
}

enum { FOLLOWED = 3000 };

/* A reader that follows; it ends when it has seen the last line. */
struct follower {
    const struct folder *folder;
    pthread_mutex_t lock; /* guards seen */
    pthread_cond_t changed;
    unsigned seen;
    unsigned bad;
    volatile bool stop;
    int rc;
};

static int
follow_line(void *arg, const char *line, size_t len)
{
    struct follower *f = arg;
    const char *at = memmem(line, len, "\"message\":\"n ", 13);
    bool last;

    (void)pthread_mutex_lock(&f->lock);
    if (at == NULL || strtoul(at + 13, NULL, 10) != f->seen)
        f->bad++;
    f->seen++;
    last = f->seen == FOLLOWED;
    (void)pthread_cond_broadcast(&f->changed);
    (void)pthread_mutex_unlock(&f->lock);
    return last ? 1 : 0;
}

static void *
follow(void *arg)
{
    struct follower *f = arg;

    f->rc = eventlog_read(f->folder->path, &everything, true, &f->stop, follow_line, f, NULL);
    return NULL;
}

static void
wait_seen(struct follower *f, unsigned count)
{
    (void)pthread_mutex_lock(&f->lock);
    while (f->seen < count)
        (void)pthread_cond_wait(&f->changed, &f->lock);
    (void)pthread_mutex_unlock(&f->lock);
}

static void
test_follow(void **state)
{
    struct follower f = {
        .folder = *state,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
        .rc = -1,
    };
    struct eventlog *log = NULL;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, follow, &f), 0); /* before there is a file */
    log = open_log(*state, 4096);
    for (unsigned n = 0; n < FOLLOWED; n++) {
        assert_int_equal(eventlog_write(log, EVENT_PKCS_IMPORT_DOWNLOADED_REQUEST, NULL, "n %u", n),
                0);
        if (n % 500 == 0) /* it has caught up, and waits in the live file */
            wait_seen(&f, n + 1);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(f.rc, 0);
    assert_int_equal(f.seen, FOLLOWED);
    assert_int_equal(f.bad, 0);
    assert_true(count_files(*state, "operational-2", "") > 50);

    /* and ends when it is told to, with nothing to read */
    f.stop = true;
    f.seen = 0;
    follow(&f);
    assert_int_equal(f.rc, 0);
    eventlog_close(log);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forging, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ceilings, setup, teardown),
        cmocka_unit_test_setup_teardown(test_debug, setup, teardown),
        cmocka_unit_test(test_rollover_to_the_byte),
        cmocka_unit_test_setup_teardown(test_rollover_at_50_mib, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leftovers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_archive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cannot_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failing_sync, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failing_sync_of_an_archive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_filters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_find_admin_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(test_follow, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
