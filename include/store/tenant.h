/* SPDX-License-Identifier: MIT */
#ifndef STORE_TENANT_H
#define STORE_TENANT_H

/*
 * The stand-in service's durable state: its clients and access tokens, users, imported PFX, connectors, the queues with
 * their leases and history, the certificates to be revoked, and the challenges and SCEP transactions of devices.
 *
 * Any thread, like all of the store.  What writes is durable when it returns.  Strings in arguments are borrowed;
 * strings in callbacks live during the callback, and a callback must not call the store.  Nothing here is a secret in
 * clear but the key that challenges are signed with, a value: secrets and tokens come as hashes, PFX passwords as
 * ciphertext, and a challenge is not kept.  Times: milliseconds since 1970, given by the caller.
 *
 * A request of a queue goes
 *
 *   queued -> leased -> completed
 *     ^         |   \-> failed
 *     \---------/   (lease ended or given back, or a failure that may be retried)
 *
 * or, from queued and leased, to cancelled.  Every lease has a requestContext of its own, made of the request's number,
 * the attempt and a random part.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"

struct tenant_store;

/* uri: as for store_open().  Brings the tables up to date; a schema newer than this program knows is refused. */
CC_MUST int tenant_store_open(const char *uri, struct tenant_store **ret_store, struct cc_err *err);
void tenant_store_close(struct tenant_store *store); /* accepts NULL; no call may be under way */

/* Small named values.  *ret_value is yours to free, NULL when there is none. */
CC_MUST int tenant_value_get(struct tenant_store *store, const char *name, char **ret_value,
        struct cc_err *err);
CC_MUST int tenant_value_put(struct tenant_store *store, const char *name, const char *value,
        struct cc_err *err);

/* ---- clients and access tokens ---- */

#define TENANT_HASH_LEN 32
#define TENANT_SALT_LEN 16
#define TENANT_ID_MAX 128 /* bytes of a client's or connector's id */

#define TENANT_SECRET_NEVER_ENDS 0
#define TENANT_SECRET_NONE (-1)

struct tenant_client {
    uint8_t salt[TENANT_SALT_LEN];
    uint8_t hash[TENANT_HASH_LEN];
    int64_t secret_expires_ms; /* or one of the above */
    int64_t roles;             /* bits of the caller's; all of them: -1 */
};

/* Creates the client or replaces its secret and roles; its certificates stay. */
CC_MUST int tenant_client_put(struct tenant_store *store, const char *id,
        const struct tenant_client *client, struct cc_err *err);
CC_MUST int tenant_client_find(struct tenant_store *store, const char *id, bool *ret_found,
        struct tenant_client *ret, struct cc_err *err);
CC_MUST int tenant_client_count(struct tenant_store *store, int64_t *ret, struct cc_err *err);

/* With its certificates and its tokens. */
CC_MUST int tenant_client_remove(struct tenant_store *store, const char *id, bool *ret_found,
        struct cc_err *err);

/* Certificates whose keys sign a client's assertions, found by either hash of their DER. */
#define TENANT_SHA1_LEN 20
struct tenant_client_certificate {
    struct cc_bytes sha1, sha256, der;
};

/* Nothing changes where the client has it already. */
CC_MUST int tenant_client_certificate_add(struct tenant_store *store, const char *client_id,
        const struct tenant_client_certificate *certificate, struct cc_err *err);

/* hash: SHA-1 or SHA-256, by its length.  ret then has its DER; nothing: there is none. */
CC_MUST int tenant_client_certificate_find(struct tenant_store *store, const char *client_id,
        struct cc_bytes hash, struct cc_buf *ret, struct cc_err *err);

/* Takes note of an assertion until expires_ms.  *ret_fresh is false where it was noted before. */
#define TENANT_JTI_MAX 256
CC_MUST int tenant_assertion_use(struct tenant_store *store, const char *client_id, const char *jti,
        int64_t now_ms, int64_t expires_ms, bool *ret_fresh, struct cc_err *err);

/* Bits: a token may be good for both, where both have the same address. */
#define TENANT_AUDIENCE_GRAPH 1u
#define TENANT_AUDIENCE_RESOURCE 2u

/* Records a token; tokens that ended before now_ms are forgotten on the way. */
CC_MUST int tenant_token_put(struct tenant_store *store, const uint8_t hash[TENANT_HASH_LEN],
        const char *client_id, unsigned audience, int64_t now_ms, int64_t expires_ms,
        struct cc_err *err);

struct tenant_token {
    unsigned audience;
    int64_t roles; /* of its client, as they are now */
};

/* *ret_found is false for a token that is unknown or ended, or whose client there is not. */
CC_MUST int tenant_token_find(struct tenant_store *store, const uint8_t hash[TENANT_HASH_LEN],
        int64_t now_ms, bool *ret_found, struct tenant_token *ret, struct cc_err *err);

/* Ends all tokens. */
CC_MUST int tenant_token_expire_all(struct tenant_store *store, int64_t *ret_count,
        struct cc_err *err);

/* ---- users ---- */

#define TENANT_UPN_MAX 256
#define TENANT_UUID_LEN 37

/* The id of a user, any case; with create a user that is unknown is made.  *ret_id is "" when there is none. */
CC_MUST int tenant_user_id(struct tenant_store *store, const char *upn, bool create,
        char ret_id[TENANT_UUID_LEN], struct cc_err *err);

/* ---- imported PFX ---- */

#define TENANT_PFX_ID_MAX 192

/* id, thumbprint and padding are as Graph shows them; NULL where a text is absent. */
struct tenant_pfx {
    const char *id;
    const char *user_id; /* with dashes */
    const char *user;    /* as it was uploaded */
    const char *thumbprint;
    const char *intended_purpose;
    const char *provider_name;
    const char *key_name;
    const char *padding_scheme;
    struct cc_bytes blob;
    struct cc_bytes encrypted_password;
    int64_t start_ms, expiration_ms;
    int64_t created_ms, modified_ms;
};

/* *ret_exists: there is one with this id already, and nothing was changed. */
CC_MUST int tenant_pfx_add(struct tenant_store *store, const struct tenant_pfx *pfx,
        bool *ret_exists, struct cc_err *err);

/* Replaces what is not NULL (texts, blobs) or not 0 (times) in the one named by pfx->id. */
CC_MUST int tenant_pfx_change(struct tenant_store *store, const struct tenant_pfx *pfx,
        bool *ret_found, struct cc_err *err);

/* Requests that wait for it are cancelled. */
CC_MUST int tenant_pfx_remove(struct tenant_store *store, const char *id, int64_t now_ms,
        bool *ret_found, struct cc_err *err);

struct tenant_pfx_query {
    const char *id;               /* NULL: any, in all of these */
    const char *user;             /* exactly as uploaded */
    const char *user_lower;       /* compared with the lower-case form */
    const char *thumbprint;       /* lower case */
    const char *intended_purpose; /* as Graph spells it */
    const char *after_id;         /* those behind this one in the order of ids */
    unsigned limit;
};

/* blob and encrypted_password are not read: Graph never shows them. */
typedef int (*tenant_pfx_fn)(void *arg, const struct tenant_pfx *pfx);
CC_MUST int tenant_pfx_list(struct tenant_store *store, const struct tenant_pfx_query *query,
        tenant_pfx_fn fn, void *arg, struct cc_err *err);

/*
 * The PFX that a device gets: of the user, with this thumbprint, or without one the one of this purpose whose start is
 * the latest.  *ret_id is "" when there is none.
 */
CC_MUST int tenant_pfx_choose(struct tenant_store *store, const char *user_lower,
        const char *thumbprint, const char *intended_purpose, char ret_id[TENANT_PFX_ID_MAX],
        struct cc_err *err);

/* ---- connectors ---- */

struct tenant_connector {
    const char *id;
    const char *version;                     /* NULL: not told yet */
    const char *features;                    /* JSON array, NULL: not told yet */
    const char *heartbeat;                   /* the last one, JSON, or NULL */
    const char *display_name, *machine_name; /* NULL: not told yet */
    int64_t first_ms, last_ms;
    int64_t enrolled_ms;            /* 0: it has no certificate */
    int64_t certificate_expires_ms; /* the last that it got; only when it is read */
    bool removed;
};

struct tenant_new_identity {
    const uint8_t *hash;     /* SHA-256 of the certificate */
    const uint8_t *key_hash; /* of its key, as SubjectPublicKeyInfo; NULL: not to be found by it */
    int64_t expires_ms;
};

/*
 * Records what is known of an instance; texts stay as they are where NULL, and enrolled_ms where it is 0 or was told
 * before.  identity: a certificate that it gets at the same time, or NULL.  A new one, or one that was last heard of before gone_ms, beyond limit others that were not removed and were heard of since, is not
 * recorded, and *ret_full is true.
 */
CC_MUST int tenant_connector_put(struct tenant_store *store,
        const struct tenant_connector *connector, const struct tenant_new_identity *identity,
        unsigned limit, int64_t gone_ms, bool *ret_full, struct cc_err *err);
CC_MUST int tenant_connector_remove(struct tenant_store *store, const char *id, bool *ret_found,
        struct cc_err *err);

typedef int (*tenant_connector_fn)(void *arg, const struct tenant_connector *connector);
CC_MUST int tenant_connector_list(struct tenant_store *store, tenant_connector_fn fn, void *arg,
        struct cc_err *err);

struct tenant_identity {
    char connector_id[TENANT_ID_MAX + 1]; /* "": there is no such certificate */
    bool superseded;                      /* one that it got later has been used */
    bool removed;                         /* the connector was */
};

/* Looks a certificate up; used for the first time it supersedes those that its connector got before. */
CC_MUST int tenant_identity_use(struct tenant_store *store, const uint8_t hash[TENANT_HASH_LEN],
        struct tenant_identity *ret, struct cc_err *err);

/*
 * The connector of these names that got a certificate for this key and has never used one: whoever asks with the key is
 * that one, and has not heard of its certificate.  "": none.
 */
CC_MUST int tenant_identity_unused(struct tenant_store *store,
        const uint8_t key_hash[TENANT_HASH_LEN], const char *display_name, const char *machine_name,
        char ret_id[TENANT_ID_MAX + 1], struct cc_err *err);

/* A name that an administrator gave it, shown in place of its own. */
CC_MUST int tenant_connector_name(struct tenant_store *store, const char *id, const char *name,
        bool *ret_found, struct cc_err *err);

/* ---- health metrics of connectors ---- */

/*
 * Counters that go up as long as a connector runs.  Of each the last value is kept, and for a day how much it went up
 * in each minute; of a connector, TENANT_METRICS_MAX of them, and others are passed over.
 */
#define TENANT_METRICS_MAX 64
#define TENANT_METRIC_NAME_MAX 64 /* bytes */
#define TENANT_METRICS_KEPT_MS (INT64_C(24) * 3600 * 1000)

struct tenant_metric {
    const char *name;
    int64_t time_ms; /* when it is read */
    int64_t value, succeeded, failed;
};

CC_MUST int tenant_metric_add(struct tenant_store *store, const char *connector_id,
        const struct tenant_metric *metrics, size_t count, int64_t now_ms, struct cc_err *err);

/* The last values, by name. */
typedef int (*tenant_metric_fn)(void *arg, const struct tenant_metric *metric);
CC_MUST int tenant_metric_list(struct tenant_store *store, const char *connector_id,
        tenant_metric_fn fn, void *arg, struct cc_err *err);

/* How much went up in each minute in which it was told, in order; what is told first went up from nothing known. */
struct tenant_metric_query {
    const char *name;
    int64_t from_ms, until_ms; /* both included */
};
CC_MUST int tenant_metric_series(struct tenant_store *store, const char *connector_id,
        const struct tenant_metric_query *query, tenant_metric_fn fn, void *arg,
        struct cc_err *err);

/* ---- releases of the connector ---- */

CC_MUST int tenant_release_put(struct tenant_store *store, const char *version, int64_t release_ms,
        struct cc_err *err);
CC_MUST int tenant_release_remove(struct tenant_store *store, const char *version, bool *ret_found,
        struct cc_err *err);

typedef int (*tenant_release_fn)(void *arg, const char *version, int64_t release_ms);
CC_MUST int tenant_release_list(struct tenant_store *store, tenant_release_fn fn, void *arg,
        struct cc_err *err);

/* ---- the queues ---- */

#define TENANT_CONTEXT_LEN 80 /* of a requestContext, with its NUL */

enum tenant_state {
    TENANT_QUEUED = 1,
    TENANT_LEASED,
    TENANT_COMPLETED,
    TENANT_FAILED,
    TENANT_CANCELLED
};
#define TENANT_STATES (TENANT_CANCELLED + 1)
const char *tenant_state_name(enum tenant_state state);
int tenant_state_parse(const char *name); /* -1: no such state */

#define TENANT_KIND_MAX 64 /* bytes of a kind */

/*
 * A new request: one of an imported PFX has pfx_id and what belongs to it, any other has a document.  A context's
 * random part is made here.
 */
struct tenant_new_request {
    char request_id[TENANT_UUID_LEN]; /* lower-case UUID, made by the caller */
    const char *document; /* JSON object, handed out word for word; NULL: of an imported PFX */
    const char *user,
            *kind; /* of a document's: whom it is for and what of, for those who look; or NULL */
    const char *pfx_id;
    const char *device_id;           /* NULL: none, as below */
    struct cc_bytes recipient;       /* DER, or what is to be taken for it */
    const char *password_encryption; /* NULL: the connector's default */
    const char *content_cipher;
    const char *
            overrides; /* JSON object whose members replace those of the request as it is handed out, or NULL */
};

/* Adds all of them in one step.  -1 with CC_DOM_INPUT (code 404) when a PFX is not there. */
CC_MUST int tenant_queue_add(struct tenant_store *store, const char *feature,
        const struct tenant_new_request *requests, size_t count, int64_t now_ms,
        struct cc_err *err);

/* A request as it is handed out. */
struct tenant_work {
    const char *request_id;
    const char *context;
    int attempt; /* from 1 */
    int64_t lease_until_ms;
    const char *overrides; /* NULL: none, as below */
    const char *document;  /* NULL: of an imported PFX; else what follows is empty */
    const char *device_id, *password_encryption, *content_cipher;
    struct cc_bytes recipient;
    struct tenant_pfx pfx;
};

struct tenant_lease_ask {
    const char *feature;
    const char *connector_id;
    unsigned max_requests;
    size_t max_bytes; /* of what is handed out, about; one request always fits */
    int64_t now_ms, lease_until_ms;
};

/*
 * Leases the requests that have waited longest, in one step, then calls fn for each; a request whose lease ended
 * counts as waiting.  *ret_count: how many are leased.
 */
typedef int (*tenant_work_fn)(void *arg, const struct tenant_work *work);
CC_MUST int tenant_queue_lease(struct tenant_store *store, const struct tenant_lease_ask *ask,
        tenant_work_fn fn, void *arg, size_t *ret_count, struct cc_err *err);

/* When the next request becomes free, by end of its delay or of its lease; -1: none is open. */
CC_MUST int tenant_queue_next_due(struct tenant_store *store, const char *feature, int64_t *ret_ms,
        struct cc_err *err);

/*
 * From here on a context of another feature's queue is one that does not exist.
 *
 * held[i]: the lease of contexts[i] is still this connector's and was prolonged.
 */
CC_MUST int tenant_queue_renew(struct tenant_store *store, const char *feature,
        const char *connector_id, const char *const *contexts, size_t count, int64_t now_ms,
        int64_t lease_until_ms, bool *ret_held, struct cc_err *err);

/* Gives leases back that are this connector's; *ret_count: how many were. */
CC_MUST int tenant_queue_release(struct tenant_store *store, const char *feature,
        const char *connector_id, const char *const *contexts, size_t count, int64_t now_ms,
        size_t *ret_count, struct cc_err *err);

/* ret_kinds[i]: of the request that contexts[i] names; "" where there is none, or it has no kind. */
CC_MUST int tenant_queue_kinds(struct tenant_store *store, const char *feature,
        const char *const *contexts, size_t count, char (*ret_kinds)[TENANT_KIND_MAX + 1],
        struct cc_err *err);

enum tenant_verdict {
    TENANT_ACCEPTED = 1,
    TENANT_DUPLICATE, /* the very same result again: "accepted" on the wire */
    TENANT_ALREADY_COMPLETED,
    TENANT_LEASE_LOST,
    TENANT_UNKNOWN
};
#define TENANT_VERDICTS (TENANT_UNKNOWN + 1)

struct tenant_result {
    const char *context;
    bool succeeded, retryable;
    const char *error_code; /* NULL when it succeeded */
    const char *text;       /* the result as JSON; the very same text is the very same result */
};

struct tenant_retry_rule {
    int64_t delay_ms; /* until a request that failed retryably is offered again */
    int max_attempts; /* failures after which it has failed for good */
};

/*
 * Takes results, all in one step.  A success is accepted as long as nobody completed the request and it was not
 * cancelled, whoever holds a lease; a failure is not, while another connector holds one.
 */
CC_MUST int tenant_queue_upload(struct tenant_store *store, const char *feature,
        const char *connector_id, const struct tenant_result *results, size_t count,
        const struct tenant_retry_rule *rule, int64_t now_ms, enum tenant_verdict *ret_verdicts,
        struct cc_err *err);

/* Cancels a request that is not completed. */
CC_MUST int tenant_queue_cancel(struct tenant_store *store, const char *request_id, int64_t now_ms,
        bool *ret_found, struct cc_err *err);

/* ---- looking at the queues ---- */

struct tenant_request {
    int64_t seq;
    const char *request_id, *feature;
    const char *kind, *user, *thumbprint, *device_id; /* NULL: none */
    enum tenant_state state;
    int attempt, failures;
    const char *connector_id; /* who holds the lease, or completed it; NULL: nobody */
    int64_t created_ms, updated_ms;
    int64_t due_ms; /* end of the lease or of the delay, while it is open */
};

struct tenant_request_query {
    enum tenant_state state; /* 0: any */
    const char *feature;     /* NULL: any */
    int64_t after_seq;       /* those behind it, in order of seq */
    bool newest_first;       /* in the reverse of it, those that were made before after_seq */
    unsigned limit;
};

typedef int (*tenant_request_fn)(void *arg, const struct tenant_request *request);
CC_MUST int tenant_request_list(struct tenant_store *store,
        const struct tenant_request_query *query, tenant_request_fn fn, void *arg,
        struct cc_err *err);

/* fn is called once or not at all. */
CC_MUST int tenant_request_find(struct tenant_store *store, const char *request_id,
        tenant_request_fn fn, void *arg, struct cc_err *err);

/* What happened to a request, in order. */
struct tenant_event {
    int64_t time_ms;
    const char *what; /* "queued", "leased", "uploaded", "released", "cancelled" */
    const char *connector_id;
    int attempt;
    int64_t lease_until_ms;      /* leased */
    enum tenant_verdict verdict; /* uploaded */
    bool requeued;               /* uploaded: a failure that will be tried again */
    const char *result;          /* uploaded: JSON; NULL for the very same result again */
};
typedef int (*tenant_event_fn)(void *arg, const struct tenant_event *event);
CC_MUST int tenant_request_history(struct tenant_store *store, int64_t seq, tenant_event_fn fn,
        void *arg, struct cc_err *err);

struct tenant_counts {
    int64_t by_state[TENANT_STATES];
    int64_t by_verdict[TENANT_VERDICTS]; /* since the store was made */
    int64_t requeued, leases, released;
};
CC_MUST int tenant_count(struct tenant_store *store, struct tenant_counts *ret, struct cc_err *err);

/* The requests of one feature. */
CC_MUST int tenant_count_feature(struct tenant_store *store, const char *feature,
        int64_t ret_by_state[TENANT_STATES], struct cc_err *err);

/* ---- certificates to be revoked ---- */

/*
 * No queue with leases: a download hands out what is open, also what was handed out before and not answered, and then
 * nothing more until the cool-down is over.  The cool-down is the tenant's, whoever asks.
 *
 *   queued -> delivered -> completed
 *     ^           |    \-> failed
 *     \-----------/   (a failure that may be retried)
 *
 * A requestContext stays the same from one delivery to the next.
 */
enum tenant_revocation_state {
    TENANT_REVOCATION_QUEUED = 1,
    TENANT_REVOCATION_DELIVERED,
    TENANT_REVOCATION_COMPLETED,
    TENANT_REVOCATION_FAILED
};
#define TENANT_REVOCATION_STATES (TENANT_REVOCATION_FAILED + 1)
const char *tenant_revocation_state_name(enum tenant_revocation_state state);
int tenant_revocation_state_parse(const char *name); /* -1: no such state */

struct tenant_new_revocation {
    char request_id[TENANT_UUID_LEN];           /* lower-case UUID, made by the caller */
    const char *serial_number;                  /* as it was reported */
    const char *issuer_name, *ca_configuration; /* NULL: none */
};

/* Adds all of them in one step.  The contexts are made here. */
CC_MUST int tenant_revocation_add(struct tenant_store *store,
        const struct tenant_new_revocation *revocations, size_t count, int64_t now_ms,
        struct cc_err *err);

struct tenant_revocation {
    int64_t seq; /* from 1 */
    const char *request_id, *context;
    const char *serial_number, *issuer_name, *ca_configuration;
    enum tenant_revocation_state state;
    int deliveries;
    int64_t created_ms, updated_ms;
};
typedef int (*tenant_revocation_fn)(void *arg, const struct tenant_revocation *revocation);

/* What a filter by issuer is held against. */
enum tenant_revocation_filter {
    TENANT_FILTER_DOCUMENTED, /* the issuer */
    TENANT_FILTER_REAL        /* the CA configuration, after the cut to max_requests */
};

struct tenant_revocation_ask {
    const char *issuer_name; /* NULL: all */
    enum tenant_revocation_filter filter;
    unsigned max_requests;
    int64_t now_ms, cool_down_ms;
};

/* Hands out those that were handed out least, in one step, then calls fn for each.  Begins the cool-down, unless it is on. */
CC_MUST int tenant_revocation_deliver(struct tenant_store *store,
        const struct tenant_revocation_ask *ask, tenant_revocation_fn fn, void *arg,
        struct cc_err *err);

/* When the cool-down began; 0: it is not on. */
CC_MUST int tenant_revocation_clock(struct tenant_store *store, int64_t *ret_ms,
        struct cc_err *err);

/* As if so much more time had gone by since; and as if it had never begun. */
CC_MUST int tenant_revocation_clock_advance(struct tenant_store *store, int64_t by_ms,
        struct cc_err *err);
CC_MUST int tenant_revocation_clock_reset(struct tenant_store *store, struct cc_err *err);

enum tenant_revocation_verdict {
    TENANT_REVOCATION_ACCEPTED = 1,
    TENANT_REVOCATION_REPEATED, /* there was a result, and it stands */
    TENANT_REVOCATION_UNKNOWN   /* no such context */
};
#define TENANT_REVOCATION_VERDICTS (TENANT_REVOCATION_UNKNOWN + 1)

struct tenant_revocation_result {
    const char *context;
    bool succeeded, retryable;
    const char *text; /* the result as JSON */
};

/* Takes results, all in one step. */
CC_MUST int tenant_revocation_upload(struct tenant_store *store,
        const struct tenant_revocation_result *results, size_t count, int64_t now_ms,
        struct cc_err *err);

struct tenant_revocation_query {
    enum tenant_revocation_state state; /* 0: any */
    int64_t after_seq;                  /* those behind it, in order of seq */
    unsigned limit;
};
CC_MUST int tenant_revocation_list(struct tenant_store *store,
        const struct tenant_revocation_query *query, tenant_revocation_fn fn, void *arg,
        struct cc_err *err);

/* fn is called once or not at all. */
CC_MUST int tenant_revocation_find(struct tenant_store *store, const char *request_id,
        tenant_revocation_fn fn, void *arg, struct cc_err *err);

struct tenant_revocation_event {
    int64_t time_ms;
    const char *what;                       /* "queued", "delivered", "uploaded" */
    enum tenant_revocation_verdict verdict; /* uploaded, as below */
    bool requeued;                          /* a failure that will be offered again */
    const char *result;                     /* JSON */
};
typedef int (*tenant_revocation_event_fn)(void *arg, const struct tenant_revocation_event *event);

/* What happened, in order; seq 0: the last results for contexts that there are not. */
#define TENANT_REVOCATION_UNKNOWN_MAX 1000
CC_MUST int tenant_revocation_history(struct tenant_store *store, int64_t seq,
        tenant_revocation_event_fn fn, void *arg, struct cc_err *err);

struct tenant_revocation_counts {
    int64_t by_state[TENANT_REVOCATION_STATES];
    int64_t by_verdict[TENANT_REVOCATION_VERDICTS]; /* since the store was made */
    int64_t requeued, deliveries;
};
CC_MUST int tenant_revocation_count(struct tenant_store *store,
        struct tenant_revocation_counts *ret, struct cc_err *err);

/* ---- SCEP: challenges ---- */

/*
 * A challenge is kept by its id and by what a request with it has to be.  The first validation that is good binds it to
 * that transaction and that request; from then on it is good for these only.
 */
struct tenant_scep_challenge {
    int64_t seq;
    const char *id;       /* lower-case UUID */
    const char *document; /* JSON: what was ordered */
    int64_t issued_ms, expires_ms;
    bool targeted;              /* its profile is still meant for the device */
    const char *transaction_id; /* NULL, and no hash: not bound yet */
    struct cc_bytes csr_hash;
};

struct tenant_new_scep_challenge {
    char id[TENANT_UUID_LEN]; /* made by the caller */
    const char *document;
    int64_t issued_ms, expires_ms;
};

/* Adds all of them in one step. */
CC_MUST int tenant_scep_challenge_add(struct tenant_store *store,
        const struct tenant_new_scep_challenge *challenges, size_t count, struct cc_err *err);

/* fn is called once or not at all. */
typedef int (*tenant_scep_challenge_fn)(void *arg, const struct tenant_scep_challenge *challenge);
CC_MUST int tenant_scep_challenge_find(struct tenant_store *store, const char *id,
        tenant_scep_challenge_fn fn, void *arg, struct cc_err *err);

/* The profile is no longer meant for the device. */
CC_MUST int tenant_scep_challenge_untarget(struct tenant_store *store, const char *id,
        bool *ret_found, struct cc_err *err);

/* ---- SCEP: transactions ---- */

/*
 * A transaction is a transactionId with the hash of a certificate request.  It is known from its first validation,
 * whatever that came to; of those that were only ever refused, the last TENANT_SCEP_REFUSED_MAX are kept, as devices
 * choose both.
 */
#define TENANT_SCEP_REFUSED_MAX 10000

struct tenant_scep_validation {
    const char *transaction_id;
    struct cc_bytes csr_hash;
    const char *code;         /* what it came to */
    const char *challenge_id; /* the challenge to bind, where it is good; NULL: it is refused */
    const char *bound_code;   /* what it comes to when that is bound to another */
    int64_t now_ms;
};

/* Records a validation and binds the challenge, in one step.  *ret_bound: it is not bound to another. */
CC_MUST int tenant_scep_validate(struct tenant_store *store,
        const struct tenant_scep_validation *validation, bool *ret_bound, struct cc_err *err);

enum tenant_scep_outcome { TENANT_SCEP_SUCCEEDED = 1, TENANT_SCEP_FAILED };

struct tenant_scep_notification {
    const char *transaction_id;
    struct cc_bytes csr_hash;
    enum tenant_scep_outcome outcome;
    const char *text; /* its members as JSON; the very same text is the very same notification */
    const char *caller_info;
    int64_t now_ms;
};

enum tenant_scep_verdict {
    TENANT_SCEP_ACCEPTED = 1,
    TENANT_SCEP_REPEATED,     /* the very same again: counted */
    TENANT_SCEP_CONTRADICTED, /* there was another, and it stands */
    TENANT_SCEP_UNKNOWN       /* the transaction was never validated */
};
CC_MUST int tenant_scep_notify(struct tenant_store *store,
        const struct tenant_scep_notification *notification, enum tenant_scep_verdict *ret_verdict,
        struct cc_err *err);

struct tenant_scep_transaction {
    int64_t seq; /* from 1 */
    const char *transaction_id;
    struct cc_bytes csr_hash;
    const char *challenge_id; /* of its last good validation; NULL: it had none */
    int64_t validations;
    const char *last_code; /* of the last validation */
    int64_t first_ms, last_ms;
    enum tenant_scep_outcome outcome;       /* 0: no notification, and what follows is empty */
    const char *notification, *caller_info; /* the first one's */
    int64_t notifications;                  /* the first and its repetitions */
    int64_t contradictions;                 /* those that were not taken */
    int64_t notified_ms, notified_last_ms;  /* of the first and of the last that was taken */
};

struct tenant_scep_query {
    const char *transaction_id; /* NULL: any */
    int64_t after_seq;          /* those behind it, in order of seq */
    unsigned limit;
};

typedef int (
        *tenant_scep_transaction_fn)(void *arg, const struct tenant_scep_transaction *transaction);
CC_MUST int tenant_scep_list(struct tenant_store *store, const struct tenant_scep_query *query,
        tenant_scep_transaction_fn fn, void *arg, struct cc_err *err);

/* Since the store was made. */
struct tenant_scep_counts {
    int64_t validated, refused;              /* validations */
    int64_t succeeded, failed;               /* notifications that were taken, once each */
    int64_t repeated, contradicted, unknown; /* other notifications */
};
CC_MUST int tenant_scep_count(struct tenant_store *store, struct tenant_scep_counts *ret,
        struct cc_err *err);

#endif
