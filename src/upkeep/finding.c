/* SPDX-License-Identifier: MIT */
#include "upkeep/finding.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

const char *
upkeep_severity_name(enum upkeep_severity severity)
{
    switch (severity) {
    case UPKEEP_OK:
        return "ok";
    case UPKEEP_WARNING:
        return "warning";
    case UPKEEP_ERROR:
        break;
    }
    return "error";
}

void
upkeep_text(char *ret, size_t size, const char *fmt, va_list ap)
{
    (void)vsnprintf(ret, size, fmt, ap);
}

void
upkeep_what(struct upkeep_finding *finding, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    upkeep_text(finding->what, sizeof(finding->what), fmt, ap);
    va_end(ap);
}

void
upkeep_cause(struct upkeep_finding *finding, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    upkeep_text(finding->cause, sizeof(finding->cause), fmt, ap);
    va_end(ap);
}

void
upkeep_cure(struct upkeep_finding *finding, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    upkeep_text(finding->cure, sizeof(finding->cure), fmt, ap);
    va_end(ap);
}

/* ---- commands ---- */

static bool
is_plain(const char *word)
{
    return word[0] != '\0' && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                           "0123456789_-./:=,+@%") == strlen(word);
}

/* Appends; false when it does not fit, and then the text is as it was. */
static bool
add(char *text, size_t size, const char *more)
{
    const size_t len = strlen(text);

    if (len + strlen(more) >= size)
        return false;
    memcpy(text + len, more, strlen(more) + 1);
    return true;
}

static bool
add_quoted(char *text, size_t size, const char *word)
{
    bool fits;

    if (is_plain(word))
        return add(text, size, word);
    fits = add(text, size, "'");
    for (; fits && *word != '\0'; word++)
        fits = add(text, size, *word == '\'' ? "'\\''" : (const char[]){ *word, '\0' });
    return fits && add(text, size, "'");
}

void
upkeep_command(struct upkeep_finding *finding, const char *const *words, size_t count)
{
    char *text = finding->command;
    const size_t size = sizeof(finding->command);
    bool fits = text[0] == '\0' || add(text, size, " && ");

    for (size_t i = 0; fits && i < count; i++)
        fits = (i == 0 || add(text, size, " ")) && add_quoted(text, size, words[i]);
    /* A part of a command is none. */
    if (!fits)
        text[0] = '\0';
}
