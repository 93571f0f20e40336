/* SPDX-License-Identifier: MIT */
#ifndef CLI_CHECK_INT_H
#define CLI_CHECK_INT_H

/*
 * What the files of "certconnector check" share.
 *
 * A step looks at one matter and says what it found; steps come in the order of the table in check.c, and a later one
 * uses what an earlier one opened.  What a running daemon holds is asked of it, and not tried a second time: it logs in
 * to the token once, and has the ports.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "cli_int.h"
#include "hsm/hsm.h"
#include "http/client.h"
#include "http/probe.h"
#include "intune/service.h"
#include "store/store.h"
#include "upkeep/finding.h"

#define CHECK_NETWORK_MS 10000 /* of one look at something far away */
#define CHECK_PLACES_MAX 16

/* A server that was probed. */
struct check_place {
    char origin[300]; /* "https://HOST:PORT/" */
    struct http_probe probe;
};

struct check {
    const char *path;      /* of the configuration */
    struct config *config; /* NULL: it is bad, and nothing else is looked at */
    json_object *status;   /* of the running daemon; NULL: none answers */

    struct store *store; /* NULL: it cannot be looked into; so the next */
    bool token_found;
    struct hsm_pin_memory pins; /* of the store's instances */
    bool pin_remembered;        /* it was not tried, as it was refused before */
    struct hsm *hsm;            /* open and logged in */
    struct intune *intune;
    bool service_reached;

    struct check_place *places;
    size_t place_count;

    const char *area; /* of the step that runs */
    struct upkeep_finding *findings;
    size_t count;
    struct upkeep_finding spare; /* without memory */
    bool no_memory;
};

/* ---- check_report.c ---- */

/* Another finding, to be completed until the next. */
struct upkeep_finding *check_say(struct check *c, const char *check, enum upkeep_severity severity,
        const char *fmt, ...) CC_PRINTF(4, 5);

/* The same for the checks of upkeep; arg is the struct check. */
void check_take(void *arg, const struct upkeep_finding *finding);

/* Something that another finding keeps from being tried. */
void check_not_tried(struct check *c, const char *check, const char *what, const char *because);

bool check_is_softhsm(const struct check *c);

/* All of them; the exit status. */
int check_print(const struct check *c);
int check_print_json(const struct check *c);

/* Of JSON that the daemon wrote: "" and NULL for what is not there. */
const char *check_text(json_object *obj, const char *name);
json_object *check_object(json_object *obj, const char *name);

/* ---- steps ---- */

void check_store(struct check *c); /* check_store.c */

void check_module(struct check *c); /* check_token.c */
void check_pin(struct check *c);
void check_keys(struct check *c);
void check_uses(struct check *c); /* check_uses.c */

void check_way(struct check *c); /* check_service.c */
void check_clock(struct check *c);
void check_client(struct check *c);
void check_identity(struct check *c);
void check_sign_in(struct check *c);
void check_discovery(struct check *c);

void check_authorities(struct check *c); /* check_ca.c */
void check_publishing(struct check *c);
void check_scep(struct check *c); /* check_scep.c */
void check_expiry(struct check *c);

/* ---- check_certificate.c ---- */

/* A certificate in a file that has to be of a key on the token; what is said where it is not as it should be. */
struct check_certificate {
    const char *check, *check_expired, *check_key;
    const char *what, *path, *setting; /* path NULL: there is none */
    enum hsm_role role;
    const char *uri, *other_uri; /* it may be of either; NULL: there is none */
    const char *when_expired, *when_of_another;
};
void check_certificate(struct check *c, const struct check_certificate *file);

/* ---- listeners, check_listener.c ---- */

void check_metrics(struct check *c); /* the step: the one of [metrics] */

/* Whether the daemon could listen there; says so under check ("port"), naming the setting. */
void check_can_listen(struct check *c, const char *listen, const char *setting);

/* What a listener of this machine answers to GET path; -1 with why. */
CC_MUST int check_get(const char *listen, const char *path, struct http_response *response,
        struct cc_err *err);

#endif
