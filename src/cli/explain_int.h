/* SPDX-License-Identifier: MIT */
#ifndef CLI_EXPLAIN_INT_H
#define CLI_EXPLAIN_INT_H

/*
 * What is known of one request: collected from event log, state store and daemon (explain_gather.c), judged
 * (explain_words.c), shown (explain.c).
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "config/config.h"
#include "store/store.h"

#define EXPLAIN_ID_LEN 320 /* a transactionID is at most 256 bytes */
#define EXPLAIN_IDS_MAX 32
#define EXPLAIN_STEPS_MAX 10000
#define EXPLAIN_TEXT_MAX ((size_t)64 * 1024)

/* One thing that happened. */
struct explain_step {
    int64_t at_ms;
    size_t order;     /* as they were found; events come in the order of their writing */
    json_object *obj; /* time, source, text, and of an event id, name, level */
    char *line;       /* the event as it is written; NULL: none */
    size_t len;       /* of it */
};

/* How it stands with a request, by the newest that is known of it. */
enum explain_outcome { EXPLAIN_NOTHING, EXPLAIN_WAITS, EXPLAIN_SUCCEEDED, EXPLAIN_FAILED };

/* Where a request is that waits. */
enum explain_stage {
    EXPLAIN_STAGE_NONE,
    EXPLAIN_STAGE_WORK,    /* for its work to be done */
    EXPLAIN_STAGE_CA,      /* the CA was asked */
    EXPLAIN_STAGE_PERSON,  /* for an administrator of the CA */
    EXPLAIN_STAGE_SERVICE, /* for the service to take the result, or the news of it */
    EXPLAIN_STAGE_EVENT    /* for its admin event */
};

struct explain_facts {
    char kind[48]; /* "PKCS request"; empty: not known */
    char user[256], device[256];
    char request_id[EXPLAIN_ID_LEN], transaction_id[EXPLAIN_ID_LEN];
    char ca[128], serial[64];
    enum explain_outcome outcome;
    enum explain_stage stage;
    bool from_store;                    /* outcome and stage are a row's; else the events' */
    bool comes_again;                   /* it failed, and the service will give it out once more */
    int attempt;                        /* the newest; 0: not counted */
    char holder[128];                   /* the instance that has it; empty: not known */
    char ca_request_id[EXPLAIN_ID_LEN]; /* of SCEP; empty: none */
    char approval[EXPLAIN_ID_LEN];      /* what "ca approve" takes; empty: nobody is asked */
    char code[64];                      /* of a failure, as on the wire */
    char failure[1024];                 /* the newest words about one */
    int failure_event;                  /* the event that had them; 0: none */
    char certificate[512];              /* what became of it, in words */
    bool issued;                        /* a CA has signed it */
};

struct explain {
    const char *asked;
    char serial[64]; /* asked, as serial numbers are written; empty: it is none */
    const struct config *config;
    struct store *store;       /* NULL: it cannot be opened */
    struct cc_err store_error; /* why */
    struct cc_err log_error;   /* the event log could not be read; domain NONE: it could */
    json_object *daemon;       /* its status; NULL: it does not answer */

    char ids[EXPLAIN_IDS_MAX][EXPLAIN_ID_LEN]; /* looked for, one after the other */
    size_t id_count;
    struct explain_step *steps;
    size_t step_count, step_room;
    bool no_memory; /* something is missing in them */
    struct explain_facts facts;
};

/* All that can be found; what cannot be looked into is in store_error and log_error.  -1 without memory. */
CC_MUST int explain_gather(struct explain *explain, struct cc_err *err);
void explain_free(struct explain *explain);

/* What the request waits for, and what is to be done when it failed or does not go on; empty when there is nothing. */
void explain_waits(const struct explain *explain, char *ret, size_t size);
void explain_advice(const struct explain *explain, char *ret, size_t size);

#endif
