/* SPDX-License-Identifier: MIT */

/*
 * One file through inih.
 *
 * inih parses; what it would do without a word is refused before it sees the line: a line longer than its buffer (cut),
 * a NUL byte (cut), text behind a section's bracket (ignored), and an unknown section without keys (not reported).  Of a
 * section's name it keeps 49 bytes, so that what is passed on is the name that was seen here.
 * Its handler is not told the line, so the reader function, which inih calls once a line, counts.
 */

#include "config_int.h"

#include <ini.h>
#include <pthread.h>
#include <string.h>

#include "base/text.h"

struct reading {
    const struct config_reader *reader;
    const char *at; /* the text not yet read */
    size_t left;
    int line;
    char section[CONFIG_SECTION_MAX]; /* "" before the first */
    bool failed;
    struct cc_err *err;
};

static void
raise_line_limit(void)
{
    ini_max_line = CONFIG_LINE_MAX + 3; /* Debian's inih takes it at run time */
}

static struct config_origin
here(const struct reading *r)
{
    return (struct config_origin){ .file = r->reader->file, .line = r->line };
}

static int
fail_here(struct reading *r, const char *text)
{
    struct config_origin at = here(r);

    r->failed = true;
    return config_fail(&at, NULL, NULL, r->err, "%s", text);
}

static size_t
skip_blank(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && (text[n] == ' ' || text[n] == '\t'))
        n++;
    return n;
}

/* A line that begins a section: its name is known, and nothing but a comment follows. */
static int
check_section(struct reading *r, const char *line, size_t len)
{
    const char *end = memchr(line, ']', len);
    struct config_origin at = here(r);
    size_t name_len, rest;

    if (end == NULL)
        return fail_here(r, "this section name has no ]; write [name]");
    name_len = (size_t)(end - line) - 1;
    if (name_len >= sizeof(r->section))
        return fail_here(r, "this section name is too long");
    rest = len - name_len - 2;
    end++;
    if (rest > skip_blank(end, rest)) {
        char c = end[skip_blank(end, rest)];

        if (c != ';' && c != '#' && c != '\r')
            return fail_here(r, "text follows the ] of a section; put it on a line of its own");
    }
    memcpy(r->section, line + 1, name_len);
    r->section[name_len] = '\0';
    if (r->reader->section(r->reader->arg, &at, r->section, r->err) != 0) {
        r->failed = true;
        return -1;
    }
    return 0;
}

/* inih's ini_reader: the next line without its indentation, which inih would take for a continued value. */
static char *
next_line(char *out, int size, void *stream)
{
    struct reading *r = stream;
    const char *end;
    const char *line;
    size_t len, blank;

    if (r->failed || r->left == 0)
        return NULL;
    line = r->at;
    end = memchr(line, '\n', r->left);
    len = end == NULL ? r->left : (size_t)(end - line) + 1;
    r->at += len;
    r->left -= len;
    r->line++;

    blank = skip_blank(line, len);
    line += blank;
    len -= blank;
    if (memchr(line, '\0', len) != NULL) {
        (void)fail_here(r, "this line holds a NUL byte; the file must be plain text");
        return NULL;
    }
    if (len > CONFIG_LINE_MAX || len + 2 > (size_t)size) {
        (void)fail_here(r, "this line is too long; at most 2000 bytes are read");
        return NULL;
    }
    if (len > 0 && line[0] == '[' && check_section(r, line, end == NULL ? len : len - 1) != 0)
        return NULL;
    memcpy(out, line, len);
    out[len] = '\0';
    return out;
}

/* inih's ini_handler. */
static int
take_entry(void *user, const char *section, const char *name, const char *value)
{
    struct reading *r = user;
    struct config_origin at = here(r);

    (void)section;
    if (r->failed)
        return 0;
    if (r->section[0] == '\0')
        return fail_here(r, "this key stands before any section; put [section] above it") == 0;
    if (r->reader->entry(r->reader->arg, &at, r->section, name, value, r->err) != 0)
        r->failed = true;
    return !r->failed;
}

int
config_read_text(const struct config_reader *reader, const char *text, size_t len, int *ret_lines,
        struct cc_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct cc_err found = { .domain = CC_DOM_NONE };
    struct reading r = { .reader = reader, .at = text, .left = len, .err = &found };
    int bad_line;

    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        r.at += 3;
        r.left -= 3;
    }
    (void)pthread_once(&once, raise_line_limit);
    bad_line = ini_parse_stream(next_line, &r, take_entry, &r);
    if (bad_line < 0)
        return cc_err_nomem(err);
    /* inih goes on behind a line it does not understand; the first wrong line is what we report. */
    if (bad_line > 0 && (!r.failed || bad_line < r.line)) {
        struct config_origin at = { .file = reader->file, .line = bad_line };

        return config_fail(&at, NULL, NULL, err,
                "this line is neither [section] nor key = value; correct it or begin it with ;");
    }
    if (r.failed) {
        if (err != NULL && err->domain == CC_DOM_NONE)
            *err = found;
        return -1;
    }
    *ret_lines = r.line;
    return 0;
}
