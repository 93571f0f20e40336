/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "ca_verbs.h"
#include "pki/crl.h"
#include "store/cadb.h"

#define PAGE 500

struct options {
    const char *config, *ca, *state, *subject;
    bool json;
    unsigned states;
};

static const struct {
    const char *name;
    unsigned states;
} states[] = {
    { "issued", 1U << CADB_ISSUED },
    { "held", 1U << CADB_HELD },
    { "revoked", 1U << CADB_REVOKED },
    { "all", 1U << CADB_ISSUED | 1U << CADB_HELD | 1U << CADB_REVOKED },
};

static const char *
state_name(enum cadb_state state)
{
    return state == CADB_HELD ? "held" : state == CADB_REVOKED ? "revoked" : "issued";
}

/* One page at a time: a CA may have a million. */
struct listing {
    const struct options *options;
    json_object *array; /* of --json */
    uint8_t serial[CADB_SERIAL_MAX];
    size_t serial_len;
    int64_t reserved_ms;
    size_t count;
    bool failed;
};

static void
print_row(const struct cadb_certificate *cert, const char *serial)
{
    char until[CC_TIME_LEN];

    cc_time_format(cert->not_after_ms, until);
    printf("%-40s  %-7s  %.10s  %-12s  ", serial, state_name(cert->state), until, cert->profile);
    cli_print_escaped(cert->subject);
    if (cert->state == CADB_REVOKED)
        printf("  (%s)", pki_reason_name((enum pki_reason)cert->reason));
    putchar('\n');
}

static void
add_time(json_object *obj, const char *name, int64_t ms, bool *ok)
{
    char text[CC_TIME_LEN];

    if (ms == 0)
        return;
    cc_time_format(ms, text);
    *ok = *ok && cc_json_add_str(obj, name, text, NULL) == 0;
}

static bool
add_row(json_object *array, const struct cadb_certificate *cert, const char *serial)
{
    json_object *obj = json_object_new_object();
    bool ok = cc_json_add_str(obj, "serialNumber", serial, NULL) == 0 &&
              cc_json_add_str(obj, "state", state_name(cert->state), NULL) == 0 &&
              cc_json_add_str(obj, "subject", cert->subject, NULL) == 0 &&
              cc_json_add_str(obj, "profile", cert->profile, NULL) == 0 &&
              cc_json_add_str(obj, "requestId", cert->request_id, NULL) == 0;

    add_time(obj, "notBefore", cert->not_before_ms, &ok);
    add_time(obj, "notAfter", cert->not_after_ms, &ok);
    add_time(obj, "issuedDateTime", cert->issued_ms, &ok);
    if (cert->state != CADB_ISSUED) {
        add_time(obj, "revokedDateTime", cert->revoked_ms, &ok);
        ok = ok && cc_json_add_str(obj, "reason", pki_reason_name((enum pki_reason)cert->reason),
                           NULL) == 0;
    }
    if (ok && json_object_array_add(array, obj) == 0)
        return true;
    json_object_put(obj);
    return false;
}

static int
on_row(void *arg, const struct cadb_certificate *cert)
{
    struct listing *listing = arg;
    char serial[2 * CADB_SERIAL_MAX + 1];

    if (cert->serial.len > CADB_SERIAL_MAX)
        return 0;
    cc_hex(cert->serial.data, cert->serial.len, true, serial);
    memcpy(listing->serial, cert->serial.data, cert->serial.len);
    listing->serial_len = cert->serial.len;
    listing->reserved_ms = cert->reserved_ms;
    listing->count++;
    if (listing->array == NULL)
        print_row(cert, serial);
    else if (!add_row(listing->array, cert, serial))
        listing->failed = true;
    return 0;
}

static int
list(const struct cli_authority *a, struct store *store, struct listing *listing,
        struct cc_err *err)
{
    size_t before;

    do {
        const struct cadb_query query = {
            .states = listing->options->states,
            .subject = listing->options->subject,
            .after = { listing->serial, listing->serial_len },
            .after_ms = listing->reserved_ms,
            .limit = PAGE,
        };

        before = listing->count;
        if (cadb_list(store, a->entry->name, &query, on_row, listing, err) != 0)
            return -1;
    } while (listing->count - before == PAGE);
    return listing->failed ? cc_err_nomem(err) : 0;
}

static int
run(struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    struct listing listing = { .options = options };
    json_object *obj = NULL;
    int rc;

    if (options->json && ((obj = json_object_new_object()) == NULL ||
                                 (listing.array = json_object_new_array()) == NULL ||
                                 cc_json_add(obj, "certificates", listing.array, err) != 0)) {
        json_object_put(obj);
        return cc_err_nomem(err);
    }
    rc = list(a, a->store, &listing, err);
    if (rc == 0 && options->json)
        return cli_print_json(obj) == CLI_OK ? 0 : -1;
    json_object_put(obj);
    return rc;
}

int
cli_ca_list_run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .state = "issued" };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "ca", &options.ca, NULL },
        { "state", &options.state, NULL },
        { "subject", &options.subject, NULL },
        { "json", NULL, &options.json },
        { NULL, NULL, NULL },
    };
    struct cli_authority a = { .config = NULL };
    struct cc_err err = { 0 };
    int first, status, rc;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "list takes options only");
    for (size_t i = 0; i < CC_COUNT(states); i++)
        if (strcmp(states[i].name, options.state) == 0)
            options.states = states[i].states;
    if (options.states == 0)
        return cli_usage_error(command, "--state is issued, held, revoked or all");
    rc = cli_authority_load(options.config, options.ca, &a, &err);
    if (rc == 0)
        rc = cli_authority_open_store(&a, &err);
    if (rc == 0)
        rc = run(&a, &options, &err);
    cli_authority_close(&a);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}
