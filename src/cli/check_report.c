/* SPDX-License-Identifier: MIT */
#include "check_int.h"

#include <langinfo.h>
#include <locale.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

#define TEXT_MAX 4096

/* ---- findings ---- */

static struct upkeep_finding *
add(struct check *c)
{
    struct upkeep_finding *more = realloc(c->findings, (c->count + 1) * sizeof(*more));

    if (more == NULL) {
        c->no_memory = true;
        return &c->spare;
    }
    c->findings = more;
    return &more[c->count++];
}

struct upkeep_finding *
check_say(struct check *c, const char *check, enum upkeep_severity severity, const char *fmt, ...)
{
    struct upkeep_finding *f = add(c);
    va_list ap;

    *f = (struct upkeep_finding){ .area = c->area, .check = check, .severity = severity };
    va_start(ap, fmt);
    upkeep_text(f->what, sizeof(f->what), fmt, ap);
    va_end(ap);
    return f;
}

void
check_take(void *arg, const struct upkeep_finding *finding)
{
    *add(arg) = *finding;
}

void
check_not_tried(struct check *c, const char *check, const char *what, const char *because)
{
    struct upkeep_finding *f = check_say(c, check, UPKEEP_WARNING, "%s: not tried", what);

    upkeep_cause(f, "%s", because);
    upkeep_cure(f, "see to that first, then check again");
}

bool
check_is_softhsm(const struct check *c)
{
    return strstr(c->config->token.module, "softhsm") != NULL;
}

/* ---- what the daemon says ---- */

const char *
check_text(json_object *obj, const char *name)
{
    const char *text = NULL;

    if (obj == NULL || cc_json_get_str(obj, name, TEXT_MAX, &text, NULL) != 0 || text == NULL)
        return "";
    return text;
}

json_object *
check_object(json_object *obj, const char *name)
{
    json_object *found = NULL;

    return obj != NULL && cc_json_get_object(obj, name, &found, NULL) == 0 ? found : NULL;
}

/* ---- counting ---- */

struct summary {
    unsigned by_severity[UPKEEP_ERROR + 1];
};

static struct summary
count(const struct check *c)
{
    struct summary s = { .by_severity = { 0 } };

    for (size_t i = 0; i < c->count; i++)
        s.by_severity[c->findings[i].severity]++;
    return s;
}

static int
status_of(const struct check *c, const struct summary *s)
{
    if (c->no_memory || s->by_severity[UPKEEP_ERROR] > 0)
        return 2;
    return s->by_severity[UPKEEP_WARNING] > 0 ? 1 : 0;
}

static const char *
user_name(void)
{
    const struct passwd *user = getpwuid(geteuid()); /* NOLINT(concurrency-mt-unsafe) */

    return user != NULL ? user->pw_name : "unknown";
}

/* ---- for people ---- */

static const char *
mark(enum upkeep_severity severity)
{
    static const char *const marks[] = { "\xe2\x9c\x93 ", "! ", "\xe2\x9c\x97 " };
    /* The locale of the person at the terminal; no thread runs yet that could look at it. */
    static int utf8 = -1;

    if (utf8 < 0)
        utf8 = setlocale(LC_CTYPE, "") != NULL &&          /* NOLINT(concurrency-mt-unsafe) */
               strcmp(nl_langinfo(CODESET), "UTF-8") == 0; /* NOLINT(concurrency-mt-unsafe) */
    return utf8 != 0 ? marks[severity] : "";
}

static void
print_line(const char *label, const char *text)
{
    if (text[0] == '\0')
        return;
    printf("      %-9s ", label);
    cli_print_escaped(text);
    putchar('\n');
}

static void
print_finding(const struct upkeep_finding *f)
{
    printf("  %s%-8s ", mark(f->severity), upkeep_severity_name(f->severity));
    cli_print_escaped(f->what);
    putchar('\n');
    if (f->severity == UPKEEP_OK)
        return;
    print_line("why:", f->cause);
    print_line("do this:", f->cure);
    print_line("", f->command);
}

int
check_print(const struct check *c)
{
    const struct summary s = count(c);
    const char *area = "";

    for (size_t i = 0; i < c->count; i++) {
        if (strcmp(area, c->findings[i].area) != 0)
            printf("%s%s\n", i == 0 ? "" : "\n", c->findings[i].area);
        area = c->findings[i].area;
        print_finding(&c->findings[i]);
    }
    printf("\n%u ok, %u warnings, %u errors; the daemon %s; looked at as user %s\n",
            s.by_severity[UPKEEP_OK], s.by_severity[UPKEEP_WARNING], s.by_severity[UPKEEP_ERROR],
            c->status != NULL ? "runs" : "does not run", user_name());
    return status_of(c, &s);
}

/* ---- for programs ---- */

static int
add_finding(json_object *list, const struct upkeep_finding *f)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_str(obj, "area", f->area, NULL) == 0 &&
            cc_json_add_str(obj, "check", f->check, NULL) == 0 &&
            cc_json_add_str(obj, "severity", upkeep_severity_name(f->severity), NULL) == 0 &&
            cc_json_add_str(obj, "what", f->what, NULL) == 0 &&
            cc_json_add_str(obj, "cause", f->cause, NULL) == 0 &&
            cc_json_add_str(obj, "cure", f->cure, NULL) == 0 &&
            cc_json_add_str(obj, "command", f->command, NULL) == 0 &&
            json_object_array_add(list, obj) == 0)
        return 0;
    json_object_put(obj);
    return -1;
}

static json_object *
summary_json(const struct check *c, const struct summary *s)
{
    json_object *obj = json_object_new_object();

    if (cc_json_add_int(obj, "ok", s->by_severity[UPKEEP_OK], NULL) == 0 &&
            cc_json_add_int(obj, "warnings", s->by_severity[UPKEEP_WARNING], NULL) == 0 &&
            cc_json_add_int(obj, "errors", s->by_severity[UPKEEP_ERROR], NULL) == 0 &&
            cc_json_add_bool(obj, "daemonRuns", c->status != NULL, NULL) == 0 &&
            cc_json_add_str(obj, "user", user_name(), NULL) == 0)
        return obj;
    json_object_put(obj);
    return NULL;
}

int
check_print_json(const struct check *c)
{
    const struct summary s = count(c);
    json_object *obj = json_object_new_object(), *list = json_object_new_array();
    int rc = list != NULL ? 0 : -1;

    for (size_t i = 0; rc == 0 && i < c->count; i++)
        rc = add_finding(list, &c->findings[i]);
    if (rc != 0) {
        json_object_put(list);
        json_object_put(obj);
        return 2;
    }
    if (cc_json_add(obj, "findings", list, NULL) != 0 ||
            cc_json_add(obj, "summary", summary_json(c, &s), NULL) != 0) {
        json_object_put(obj);
        return 2;
    }
    return cli_print_json(obj) == CLI_OK ? status_of(c, &s) : 2;
}
