/* SPDX-License-Identifier: MIT */
#include "exposition.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/text.h"

#define LABELS_MAX 4

struct labels {
    const char *name[LABELS_MAX], *value[LABELS_MAX];
    size_t count;
};

static void
add(struct exposition *e, const char *text)
{
    e->failed = e->failed || cc_buf_add_str(e->buf, text, NULL) != 0;
}

static void
add_byte(struct exposition *e, char byte)
{
    e->failed = e->failed || cc_buf_add_u8(e->buf, (uint8_t)byte, NULL) != 0;
}

/* Labels are quoted, helps are not. */
static void
add_escaped(struct exposition *e, const char *text, bool quoted)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            add(e, "\\n");
        else if (*text == '\\' || (quoted && *text == '"')) {
            add_byte(e, '\\');
            add_byte(e, *text);
        } else
            add_byte(e, *text);
    }
}

/* Whole numbers as such, as far as a double has them. */
static void
add_number(struct exposition *e, double value)
{
    char text[64];

    if (value == floor(value) && fabs(value) < 9007199254740992.0)
        (void)snprintf(text, sizeof(text), "%.0f", value);
    else
        (void)snprintf(text, sizeof(text), "%.9g", value);
    add(e, text);
}

void
exposition_begin(struct exposition *e, const char *name, enum exposition_type type,
        const char *help)
{
    static const char *const types[] = { [EXPOSITION_COUNTER] = "counter",
        [EXPOSITION_GAUGE] = "gauge",
        [EXPOSITION_HISTOGRAM] = "histogram" };

    (void)snprintf(e->name, sizeof(e->name), "%s%s",
            cc_starts_with(name, "process_") ? "" : "certconnector_", name);
    add(e, "# HELP ");
    add(e, e->name);
    add_byte(e, ' ');
    add_escaped(e, help, false);
    add(e, "\n# TYPE ");
    add(e, e->name);
    add_byte(e, ' ');
    add(e, types[type]);
    add_byte(e, '\n');
}

static void
add_sample(struct exposition *e, const char *suffix, const struct labels *labels, const char *le,
        double value)
{
    const char *separator = "{";

    add(e, e->name);
    add(e, suffix);
    for (size_t i = 0; i < labels->count; i++) {
        add(e, separator);
        add(e, labels->name[i]);
        add(e, "=\"");
        add_escaped(e, labels->value[i], true);
        add_byte(e, '"');
        separator = ",";
    }
    if (le != NULL) {
        add(e, separator);
        add(e, "le=\"");
        add(e, le);
        add_byte(e, '"');
        separator = ",";
    }
    add(e, separator[0] == ',' ? "} " : " ");
    add_number(e, value);
    add_byte(e, '\n');
}

static struct labels
read_labels(va_list ap)
{
    struct labels labels = { .count = 0 };
    const char *name;

    while (labels.count < LABELS_MAX && (name = va_arg(ap, const char *)) != NULL) {
        labels.name[labels.count] = name;
        labels.value[labels.count++] = va_arg(ap, const char *);
    }
    return labels;
}

void
exposition_put(struct exposition *e, double value, ...)
{
    struct labels labels;
    va_list ap;

    va_start(ap, value);
    labels = read_labels(ap);
    va_end(ap);
    add_sample(e, "", &labels, NULL, value);
}

void
exposition_put_histogram(struct exposition *e, const struct cc_histogram_values *values, ...)
{
    struct labels labels;
    uint64_t below = 0;
    va_list ap;
    char le[32];

    va_start(ap, values);
    labels = read_labels(ap);
    va_end(ap);
    for (size_t i = 0; i < CC_HISTOGRAM_BOUNDS; i++) {
        below += values->count[i];
        (void)snprintf(le, sizeof(le), "%g", cc_histogram_bounds[i]);
        add_sample(e, "_bucket", &labels, le, (double)below);
    }
    add_sample(e, "_bucket", &labels, "+Inf", (double)values->total);
    add_sample(e, "_sum", &labels, NULL, values->sum);
    add_sample(e, "_count", &labels, NULL, (double)values->total);
}
