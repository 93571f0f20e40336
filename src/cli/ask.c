/* SPDX-License-Identifier: MIT */
#include "ask.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli_int.h"
#include "password.h"

#define COLUMNS 78

static volatile sig_atomic_t gone;
static struct sigaction before[3];
static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

static void
on_signal(int number)
{
    (void)number;
    gone = 1;
}

void
ask_begin(void)
{
    struct sigaction action = { .sa_handler = on_signal }; /* no SA_RESTART: a read ends */

    gone = 0;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < CC_COUNT(signals); i++)
        (void)sigaction(signals[i], &action, &before[i]);
}

void
ask_end(void)
{
    for (size_t i = 0; i < CC_COUNT(signals); i++)
        (void)sigaction(signals[i], &before[i], NULL);
}

bool
ask_is_gone(void)
{
    return gone != 0;
}

void
ask_print(unsigned indent, const char *text)
{
    while (*text != '\0') {
        size_t len = strlen(text);

        if (len + indent > COLUMNS) {
            len = COLUMNS - indent;
            while (len > 0 && text[len] != ' ')
                len--;
            if (len == 0)
                len = strcspn(text, " ");
        }
        printf("%*s%.*s\n", (int)indent, "", (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
}

/* A line of standard input, without blanks at its ends; -1 at the end of input. */
static int
read_line(char ret[ASK_ANSWER_MAX])
{
    size_t len = 0, blank;
    char c;
    ssize_t n;

    while ((n = read(STDIN_FILENO, &c, 1)) == 1 && c != '\n') {
        if (len + 1 < ASK_ANSWER_MAX)
            ret[len++] = c;
    }
    if (n != 1)
        gone = 1;
    while (len > 0 && strchr(" \t\r", ret[len - 1]) != NULL)
        len--;
    ret[len] = '\0';
    blank = strspn(ret, " \t");
    memmove(ret, ret + blank, len - blank + 1);
    return gone ? -1 : 0;
}

static enum ask_outcome
meaning(const char *line)
{
    if (strcmp(line, "?") == 0)
        return ASK_HELP;
    return strcmp(line, "<") == 0 || strcmp(line, "back") == 0 ? ASK_BACK : ASK_ANSWER;
}

enum ask_outcome
ask_line(const char *prompt, const char *present, char ret[ASK_ANSWER_MAX])
{
    fputs(prompt, stdout);
    if (present != NULL) {
        fputs(" [", stdout);
        cli_print_escaped(present);
        putchar(']');
    }
    fputs(": ", stdout);
    (void)fflush(stdout);
    if (gone || read_line(ret) != 0)
        return ASK_GONE;
    if (ret[0] == '\0' && present != NULL)
        (void)cc_strcpy(ret, ASK_ANSWER_MAX, present);
    return meaning(ret);
}

enum ask_outcome
ask_secret(const char *prompt, struct cc_secret **ret_secret)
{
    char text[256];
    struct cc_secret *secret = NULL;
    enum ask_outcome outcome = ASK_GONE;

    (void)fflush(stdout);
    (void)snprintf(text, sizeof(text), "%s: ", prompt);
    if (!gone && (secret = cli_password_read("prompt", text, NULL)) != NULL && !gone)
        outcome = meaning(cc_secret_str(secret));
    if (outcome == ASK_ANSWER)
        *ret_secret = secret;
    else
        cc_secret_free(secret);
    return outcome;
}

enum ask_outcome
ask_yes_no(const char *prompt, bool present, const char *help, bool *ret)
{
    char line[ASK_ANSWER_MAX];

    for (;;) {
        enum ask_outcome outcome = ask_line(prompt, present ? "yes" : "no", line);

        if (outcome == ASK_HELP)
            ask_print(2, help);
        else if (outcome != ASK_ANSWER || cc_parse_bool(line, ret, NULL) == 0)
            return outcome;
        else
            ask_print(2, "Write yes or no.");
    }
}
