/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_INT_H
#define INTUNE_INT_H

/*
 * How a call is made.  A struct link is one state of the settings with what was learnt under them: the HTTP client,
 * the tokens, the endpoints.  New settings make a new link; a call keeps the link it began with until its end.
 *
 * Locks: intune->contact_lock before intune->lock; link->lock alone.  None is held while a peer is waited for.
 */

#include <json-c/json.h>
#include <openssl/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/text.h"
#include "http/client.h"
#include "intune/service.h"

#define INTUNE_API_VERSION "2026-11-01"
#define INTUNE_REVOCATION_API_VERSION "5019-05-05"
#define INTUNE_SCEP_API_VERSION "2018-02-20"
#define INTUNE_CONNECTOR_SERVICE "PkiConnectorFEService"
#define INTUNE_SCEP_SERVICE "ScepRequestValidationFEService"
#define INTUNE_ENDPOINTS_MAX 64
/* What libcurl says of a connection that was cut (CURLE_RECV_ERROR), and fail points do. */
#define INTUNE_CUT 56
#define INTUNE_URL_MAX ((size_t)2048)

enum intune_scope { INTUNE_SCOPE_GRAPH, INTUNE_SCOPE_SERVICE, INTUNE_SCOPES };

/* A token, shared by the calls that use it. */
struct intune_token {
    unsigned owners; /* guarded by the link's lock */
    struct cc_secret *secret;
    int64_t refresh_at; /* monotonic: half of its life */
    int64_t expires_at;
};

/* Something that one thread fetches while the others wait for it. */
struct intune_flight {
    bool busy;
    unsigned landed;   /* how often it ended */
    struct cc_err err; /* how it ended last */
    bool refused, unable;
};

struct intune_token_slot {
    struct intune_token *token;
    int64_t try_at; /* not before, while the token still serves */
    struct intune_flight flight;
};

struct intune_endpoint {
    char *provider;
    char *uri;
};

struct intune_endpoints {
    struct intune_endpoint item[INTUNE_ENDPOINTS_MAX];
    size_t count;
    bool fresh; /* discovered, and nothing speaks against it */
    bool gone;  /* must not be used again, even if discovery fails */
    int64_t refresh_at;
    struct intune_flight flight;
};

struct intune_link {
    struct intune *intune;
    struct intune_link *next;
    unsigned owners; /* guarded by intune->lock */

    /* Constant. */
    char *authority, *graph, *graph_version, *resource, *app_id, *tenant, *client_id,
            *client_secret, *caller_info; /* client_secret: NULL with an assertion */
    struct intune_assertion assertion;    /* its texts are ours */
    struct hsm_key *identity_key;         /* NULL: no identity */
    char connector_id[CC_UUID_LEN];       /* of the identity; "": none */
    char **allowed_hosts;                 /* lower case does not matter; ended by NULL */
    bool allow_http, any_port, private_addresses;
    int64_t timeout_ms;
    int64_t backoff_ms;
    unsigned attempts;
    struct http_client *http;
    struct http_client *download; /* of long polls, so that they can be ended by themselves */
    /* The same, showing our identity, at the connectors' service; NULL: there is none. */
    struct http_client *shown, *shown_download;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t landed;
    struct intune_token_slot tokens[INTUNE_SCOPES];
    struct intune_endpoints endpoints;
};

/* Of calls of one kind. */
struct intune_measure {
    struct cc_histogram time;
    atomic_uint_fast64_t failed, refused;
};

struct intune {
    struct intune_measure measures[INTUNE_MEASURED_MAX]; /* by place in the table of measure.c */

    pthread_mutex_t
            lock; /* guards links, both kinds of cancelled, status, max_skew_ms, budget, call_at */
    pthread_cond_t cancel;
    bool cancelled;
    bool downloads_cancelled;
    struct intune_link *links; /* the one in force first */
    struct intune_status status;
    int64_t max_skew_ms; /* 0: no limit */
    int budget;          /* tenths of a retry */
    int64_t call_at;     /* monotonic: the connectors' service asked not to be called before */

    pthread_mutex_t contact_lock; /* one notice at a time, in order */
    void (*on_contact)(void *arg, enum intune_contact contact, const struct cc_err *err);
    void *on_contact_arg;
    atomic_bool was_heard; /* a heartbeat was accepted */
};

/* What one call has gone through. */
struct intune_attempt {
    struct intune_link *link;
    bool download;
    bool shown;       /* our identity is */
    int64_t deadline; /* monotonic; INT64_MAX: none */
    char request_id[CC_UUID_LEN];
    int64_t retry_after_ms; /* asked for by whoever refused; -1: nothing asked */
    bool renewed[INTUNE_SCOPES];
    bool rediscovered;
    bool refused;             /* it failed because we are not let in */
    bool unable;              /* it failed because we cannot say who we are */
    bool certificate_refused; /* … because of our identity */
    bool removed;             /* … because this instance was taken out */
    long entra_number;        /* of Entra ID's last refusal, "AADSTS" and this; 0: none */
};

/* ---- service.c ---- */

CC_MUST struct intune_link *intune_link_get(struct intune *intune);
void intune_link_ref(struct intune_link *link);
void intune_link_put(struct intune_link *link);
bool intune_link_is_current(struct intune_link *link);

/* What a call came to, for the status and on_contact. */
void intune_note_success(struct intune *intune, bool counted);
void intune_note_failure(struct intune *intune, enum intune_contact contact,
        const struct cc_err *err);
void intune_note_moved(struct intune *intune);

/* The time that the other side says it is; 0: it does not. */
void intune_note_date(struct intune *intune, int64_t date_ms);

/* What a Retry-After of the connectors' service says to all calls; heeded before each. */
void intune_note_call_at(struct intune *intune, int64_t at);
int64_t intune_call_at(struct intune *intune);

/* Waits unless we are stopping, or a download is to stop; -1 with CC_DOM_CANCELLED. */
CC_MUST int intune_wait(struct intune *intune, int64_t ms, bool download, struct cc_err *err);

/* Whether a retry may be made now; takes it from the budget. */
bool intune_may_retry(struct intune *intune);

/* ---- measure.c ---- */

/* How a call ended that began then (cc_histogram_now()); CC_DOM_NONE: well. */
void intune_measure(struct intune *intune, const char *what, int64_t began_us,
        const struct cc_err *why);

/* ---- token.c ---- */

/* The token of a scope, fetched when it is not at hand; intune_token_put() it. */
CC_MUST int intune_token_get(struct intune_attempt *attempt, enum intune_scope scope,
        struct intune_token **ret_token, struct cc_err *err);
void intune_token_put(struct intune_link *link, struct intune_token *token);

/* The service does not take this token: it is not given out again. */
void intune_token_drop(struct intune_link *link, enum intune_scope scope,
        struct intune_token *token);
void intune_tokens_free(struct intune_link *link);

/* Takes "access_token" out of the text of an answer, so that the rest can be read like any other. */
CC_MUST int intune_token_cut(struct cc_buf *text, struct cc_secret **ret_token, struct cc_err *err);

/* Reads the whole answer of a token endpoint, text with the token wiped from it. */
CC_MUST int intune_token_read(struct cc_buf *text, struct cc_secret **ret_token,
        int64_t *ret_life_ms, struct cc_err *err);

/* ---- assertion.c ---- */

CC_MUST int intune_assertion_copy(const struct intune_assertion *from, struct intune_assertion *to,
        struct cc_err *err);
void intune_assertion_free(struct intune_assertion *assertion);

/* What an assertion says, beside what is new in each. */
struct intune_claims {
    const char *audience;  /* the URL it is posted to */
    const char *client_id; /* issuer and subject */
    int64_t now_ms;        /* by the clock of who judges it */
};

/* Appends a fresh one, signed by the token.  Secret: whoever has it is the client. */
CC_MUST int intune_assertion_make(const struct intune_assertion *assertion,
        const struct intune_claims *claims, struct cc_buf *ret, struct cc_err *err);

/* The same with this key. */
CC_MUST int intune_assertion_sign(const struct intune_assertion *assertion, EVP_PKEY *key,
        const struct intune_claims *claims, struct cc_buf *ret, struct cc_err *err);

/* ---- advice.c ---- */

/* What to do about this refusal of a token endpoint, in plain words; NULL: it does not say, or we do not know. */
const char *intune_sign_in_advice(const struct http_response *response);

/* ---- discovery.c ---- */

/* Appends the URI of a service, without slash at its end. */
CC_MUST int intune_endpoint_get(struct intune_attempt *attempt, const char *provider,
        struct cc_buf *ret_uri, struct cc_err *err);

/* It did not answer well there: discover anew.  gone: and do not go there again. */
void intune_endpoint_forget(struct intune_link *link, bool gone);
void intune_endpoints_clear(struct intune_endpoints *endpoints);

/* Reads the answer of the discovery call. */
CC_MUST int intune_endpoints_read(const void *text, size_t len, struct intune_endpoints *ret,
        struct cc_err *err);

/* ---- host.c ---- */

/* The host of a URL, and where it ends: at a port, a path or the end. */
const char *intune_url_host(const char *url, size_t *ret_len);

/* Whether the URI that discovery gave for a service is one that we go to; the error names provider. */
CC_MUST int intune_check_uri(const struct intune_link *link, const char *provider, const char *uri,
        struct cc_err *err);

/* ---- call.c ---- */

/* Sends with the token of the scope, once more with a new one after 401. */
CC_MUST int intune_send(struct intune_attempt *attempt, enum intune_scope scope,
        struct http_request *request, struct http_response *ret, struct cc_err *err);

/* One exchange, ended at the call's deadline when that comes before request->timeout_ms. */
CC_MUST int intune_exchange(struct intune_attempt *attempt, struct http_client *client,
        const struct http_request *request, struct http_response *ret, struct cc_err *err);

/* LOCKED; until what is being fetched is there or not to be had: 0.  -1: the call's deadline came before. */
CC_MUST int intune_flight_wait(struct intune_attempt *attempt, const struct intune_flight *flight,
        struct cc_err *err);

/* An answer that is no success as an error; sets attempt->retry_after_ms. */
int intune_refusal(struct intune_attempt *attempt, const struct http_response *response,
        const char *what, struct cc_err *err);

struct intune_call {
    const char *what;        /* for errors; and after the service's URI */
    const char *url;         /* of Graph; NULL: a service of discovery */
    const char *service;     /* its name there; NULL: INTUNE_CONNECTOR_SERVICE */
    const char *api_version; /* of that service; NULL: INTUNE_API_VERSION */
    const char *method;
    json_object *body;    /* borrowed; or */
    struct cc_bytes text; /* JSON text */
    int64_t wait_ms;      /* that the service may take on purpose */
    int64_t deadline;     /* monotonic, of the call with all its attempts; 0: none */
    size_t max_response;
    bool may_be_empty;        /* no JSON in the answer is fine too */
    bool download;            /* ends with intune_cancel_downloads() */
    bool removal;             /* one that is not there, or not any more, is no error */
    bool unshown;             /* without our identity, where we have one */
    struct intune_link *link; /* whose connector the body speaks for; NULL: for none */
};

struct intune_answer {
    json_object *json; /* yours to put; NULL: there was none */
    int64_t date_ms;   /* of the service; 0: it did not say */
};

CC_MUST int intune_call(struct intune *intune, const struct intune_call *call,
        struct intune_answer *ret, struct cc_err *err);

/* For a call whose body names the connector: fills call->link, and returns whom to name.  intune_link_put(). */
const char *intune_call_name(struct intune *intune, struct intune_call *call, const char *name);

/* ---- health.c ---- */

/* Reads the answer to a health message from its text. */
struct intune_lifecycle;
CC_MUST int intune_lifecycle_read(const void *text, size_t len, struct intune_lifecycle *ret,
        struct cc_err *err);

/* ---- queue.c ---- */

/* Reads the answer of a download from its text. */
struct intune_work;
CC_MUST int intune_download_read(const void *text, size_t len, unsigned max, int64_t date_ms,
        struct intune_work **ret_work, size_t *ret_count, size_t *ret_malformed,
        struct cc_err *err);

/* ---- scep.c ---- */

/* Reads the answer of an action from its text. */
struct intune_scep_answer;
CC_MUST int intune_scep_answer_read(const void *text, size_t len, struct intune_scep_answer *ret,
        struct cc_err *err);

/* ---- revocation.c ---- */

/* The same of the revocation API. */
CC_MUST int intune_revocation_download_read(const void *text, size_t len, unsigned max,
        struct intune_work **ret_work, size_t *ret_count, size_t *ret_malformed,
        struct cc_err *err);

#endif
