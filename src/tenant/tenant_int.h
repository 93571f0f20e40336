/* SPDX-License-Identifier: MIT */
#ifndef TENANT_INT_H
#define TENANT_INT_H

/*
 * The stand-in service: what its files share.
 *
 * struct tenant is made before the listener opens and freed after it closed; its parts have locks of their own.  A
 * struct call is one HTTP request on its way: whoever has it must end it exactly once with one of the call_reply
 * functions, at once or from another thread later.  Handlers run on the listener's workers.
 */

#include <json-c/json.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "base/secret.h"
#include "base/text.h"
#include "http/listener.h"
#include "store/tenant.h"

#define TENANT_ROOM "tenant" /* in log lines */
#define TENANT_APP_ID "0000000a-0000-0000-c000-000000000000"
#define TENANT_API_VERSION "2026-11-01"
#define TENANT_REVOCATION_API_VERSION "5019-05-05"
#define TENANT_SCEP_API_VERSION "2018-02-20"
#define TENANT_SCEP_KEY_LEN 32
#define TENANT_CONNECTORS_MAX 100
#define TENANT_CONNECTOR_GONE_DAYS 30 /* not heard of for so long, it has no place any more */
#define TENANT_FEATURE_PKCS "pkcs"
#define TENANT_FEATURE_PFX_IMPORT "pfx-import"
#define TENANT_FEATURE_SCEP "scep"
#define TENANT_FEATURE_REVOCATION "revocation"

/* Borrowed for the life of struct tenant. */
struct tenant_settings {
    const char *name; /* of the tenant, a domain */
    const char *
            public_url; /* as clients see it, without a slash at its end; NULL: from the Host header */
    bool tls;
    bool strict_users; /* an unknown user is an error; else users are made when first named */
    int64_t lease_ms, retry_delay_ms;
    int max_attempts;
    int64_t revocation_cool_down_ms;
    enum tenant_revocation_filter revocation_filter; /* at the start */
};

/* The queues: each is a feature, and parks its calls apart. */
enum queue { QUEUE_PKCS, QUEUE_PFX_IMPORT };
#define QUEUES (QUEUE_PFX_IMPORT + 1)
const char *queue_feature(enum queue queue);

struct connectors;
struct faults;
struct identity;
struct later;
struct parking;
struct releases;
struct sessions;

struct tenant {
    const struct tenant_settings *settings;
    struct tenant_store *store;
    struct connectors *connectors;
    struct faults *faults;
    struct identity *identity;
    struct later *later;
    struct releases *releases;
    struct sessions *sessions;
    struct parking *parking[QUEUES];
    uint8_t admin_hash[TENANT_HASH_LEN];
    uint8_t scep_key[TENANT_SCEP_KEY_LEN]; /* that challenges are signed with */
    char id[CC_UUID_LEN];
    _Atomic long account; /* number of the account's place in URIs, counted up by a move */
    _Atomic enum tenant_revocation_filter revocation_filter;
};

/* Takes over the store in every case. */
CC_MUST int tenant_open(const struct tenant_settings *settings, struct tenant_store *take_store,
        const struct cc_secret *admin_token, struct tenant **ret_tenant, struct cc_err *err);
/* Before the listener closes: parked and delayed calls are answered, and new ones are not kept. */
void tenant_stop(struct tenant *tenant);

/* The certificate of the CA that connectors have theirs from, in PEM, appended. */
CC_MUST int tenant_identity_ca(const struct tenant *tenant, struct cc_buf *ret, struct cc_err *err);
void tenant_close(struct tenant *tenant); /* accepts NULL */

/* The listener's handler; arg is the struct tenant. */
void tenant_handle(void *arg, struct http_exchange *exchange);

/* ---- a call (call.c) ---- */

#define CALL_CAPTURES 3
#define CALL_CAPTURE_MAX 256

enum fault_drop { FAULT_NO_DROP, FAULT_DROP_BEFORE, FAULT_DROP_AFTER };

/* What shall happen to a call. */
struct fault {
    enum fault_drop drop;
    int64_t latency_ms;
    unsigned status;                       /* 0: what it would be */
    int64_t retry_after_s, ms_retry_after; /* -1: none */
    char *body;                            /* instead of an error body; NULL: ours */
    char content_type[64];                 /* of body; "": JSON */
};

struct call {
    struct tenant *tenant;
    struct http_exchange *exchange;
    struct fault fault;
    char request_id[CC_UUID_LEN];
    char capture[CALL_CAPTURES][CALL_CAPTURE_MAX]; /* what "*" stands for in the route */
};

struct call *call_new(struct tenant *tenant, struct http_exchange *exchange);

/* Each ends the call. */
void call_reply(struct call *call, unsigned status, const struct http_header *headers, size_t count,
        const char *content_type, const void *body, size_t len);
void call_reply_json(struct call *call, unsigned status, json_object *take_body);
void call_reply_empty(struct call *call, unsigned status);
void call_reply_error(struct call *call, unsigned status, const char *code, const char *fmt, ...)
        CC_PRINTF(4, 5);
void call_reply_busy(struct call *call, unsigned status, unsigned retry_after_s);
void call_drop(struct call *call);

/* By what failed: CC_DOM_INPUT is the caller's fault (404 where that is its code), anything else is ours. */
void call_reply_failed(struct call *call, const struct cc_err *err);

/* The body as JSON of this type, yours to put; NULL: the call was ended with the reason. */
json_object *call_json(struct call *call, json_type type);
/* The same; what is no UTF-8 is taken for ISO 8859-1, which Microsoft's Java library sends without saying so. */
json_object *call_json_latin1(struct call *call, json_type type);

/* Characters of UTF-8, as ceilings of the service's are given in these. */
size_t call_count_chars(const char *text);

/* "https://host:port" as the client sees us; -1: the call was ended. */
CC_MUST int call_base_url(struct call *call, struct cc_buf *ret);
/* The same, and the call goes on. */
CC_MUST int call_read_base_url(struct call *call, struct cc_buf *ret, struct cc_err *err);

/* ---- who is calling (auth.c) ---- */

enum auth { AUTH_NONE, AUTH_GRAPH, AUTH_RESOURCE, AUTH_CONNECTOR, AUTH_ADMIN, AUTH_PAGE };

/* What a client may do, as permissions of applications are called. */
#define TENANT_ROLE_APPLICATIONS 1u        /* Application.Read.All */
#define TENANT_ROLE_CONFIGURATION_READ 2u  /* DeviceManagementConfiguration.Read.All */
#define TENANT_ROLE_CONFIGURATION_WRITE 4u /* DeviceManagementConfiguration.ReadWrite.All */
#define TENANT_ROLE_SCEP 8u                /* scep_challenge_provider */
#define TENANT_ROLE_PFX 16u                /* pfx_cert_provider */
#define TENANT_ROLE_USERS 32u              /* User.Read.All */

/* roles: one of them is needed; 0: none is.  false: the call was ended. */
CC_MUST bool auth_check(struct call *call, enum auth auth, unsigned roles);

/* What the store knows of a token. */
void auth_hash_token(const char *token, uint8_t ret_hash[TENANT_HASH_LEN]);

/* What the store knows of a client's secret. */
CC_MUST int auth_hash_secret(const uint8_t salt[TENANT_SALT_LEN], const void *secret, size_t len,
        uint8_t ret_hash[TENANT_HASH_LEN], struct cc_err *err);
/* A secret that does not end. */
CC_MUST int auth_set_secret(struct tenant_client *client, const struct cc_secret *secret,
        struct cc_err *err);
/* A new one has all roles, and no secret where that is NULL; of one that there is both stay as they were. */
CC_MUST int auth_put_client(struct tenant_store *store, const char *id,
        const struct cc_secret *secret, struct cc_err *err);

/* A random token in printable letters. */
#define AUTH_TOKEN_LEN 44 /* with its NUL */
CC_MUST int auth_make_token(char ret[AUTH_TOKEN_LEN], struct cc_err *err);

/* ---- handlers, each ends its call ---- */

void oauth_token(struct call *call);
void oauth_configuration(struct call *call);
void discovery_endpoints(struct call *call);
void graph_users(struct call *call);
void graph_pfx_list(struct call *call);
void graph_pfx_create(struct call *call);
void graph_pfx_get(struct call *call);
void graph_pfx_patch(struct call *call);
void graph_pfx_delete(struct call *call);
void graph_ndes_list(struct call *call);
void graph_ndes_get(struct call *call);
void graph_ndes_patch(struct call *call);
void graph_ndes_delete(struct call *call);
void graph_detail_list(struct call *call);
void graph_detail_get(struct call *call);
void graph_detail_metrics(struct call *call);
void graph_detail_series(struct call *call);
void queue_call(struct call *call);
void revocation_call(struct call *call);
void scep_call(struct call *call);
void connectors_call(struct call *call);
void admin_add_user(struct call *call);
void admin_put_client(struct call *call);
void admin_remove_client(struct call *call);
void admin_add_pfx_requests(struct call *call);
void admin_add_pkcs_requests(struct call *call);
void admin_list_requests(struct call *call);
void admin_get_request(struct call *call);
void admin_cancel_request(struct call *call);
void admin_list_connectors(struct call *call);
void admin_remove_connector(struct call *call);
void admin_put_release(struct call *call);
void admin_remove_release(struct call *call);
void admin_list_releases(struct call *call);
void admin_get_lifecycle_clock(struct call *call);
void admin_set_lifecycle_clock(struct call *call);
void admin_counts(struct call *call);
void admin_add_revocations(struct call *call);
void admin_list_revocations(struct call *call);
void admin_get_revocation(struct call *call);
void admin_unknown_revocations(struct call *call);
void admin_get_revocation_clock(struct call *call);
void admin_set_revocation_clock(struct call *call);
void admin_put_revocation_filter(struct call *call);
void admin_add_scep_challenges(struct call *call);
void admin_get_scep_challenge(struct call *call);
void admin_untarget_scep_challenge(struct call *call);
void admin_list_scep_transactions(struct call *call);
void admin_put_faults(struct call *call);
void admin_get_faults(struct call *call);
void admin_delete_faults(struct call *call);
void admin_move_account(struct call *call);
void admin_expire_tokens(struct call *call);

/* The status page: page*.c. */
void page_overview(struct call *call);
void page_connector(struct call *call);
void page_requests(struct call *call);
void page_request(struct call *call);
void page_releases(struct call *call);
void page_style(struct call *call);
void page_icon(struct call *call);
void page_sign_in(struct call *call);
void page_take_sign_in(struct call *call);
void page_sign_out(struct call *call);

/* Whether somebody has signed in; false: the call was ended, by sending to the form. */
CC_MUST bool page_admit(struct call *call);

/* ---- what a filter of certificates to be revoked is held against (revocation.c) ---- */

CC_MUST bool revocation_filter_parse(const char *name, enum tenant_revocation_filter *ret);

/* ---- names (graph_enum.c): as Graph spells them, NULL for what is none ---- */

const char *graph_purpose(const char *text);
const char *graph_padding(const char *text);

/* ---- the account's place (discovery.c) ---- */

/* false: the call was ended, as its path (capture 0) is not where the account is, or it asks for another api-version. */
CC_MUST bool discovery_check_account(struct call *call, const char *api_version);

/* ---- connectors (connectors.c) ---- */

CC_MUST int connectors_open(struct tenant_store *store, struct connectors **ret_connectors,
        struct cc_err *err);
void connectors_close(struct connectors *connectors);

/*
 * An instance says its name, and what it is about to do: false: it may not do this, and the call was ended.  One that
 * has a certificate must have come with it.
 */
CC_MUST bool connectors_admit(struct call *call, const char *id, const char *feature);
/* Whether its last health message is fresh; when it last called for anything. */
bool connectors_is_active(struct connectors *connectors, const char *id, int64_t *ret_contact_ms);
CC_MUST int connectors_id(json_object *obj, const char **ret, struct cc_err *err);

/* ---- calls that wait for work (parking.c) ---- */

struct parked_ask {
    enum queue queue;
    char connector_id[TENANT_ID_MAX + 1];
    unsigned max_requests;
    int64_t deadline; /* cc_clock_mono_ms */
};

/*
 * Tries to answer a call with work: true: the call was ended.  Runs on the parking's thread.  When time is up, it is
 * called with last set and must end the call.
 */
typedef bool (*parking_try_fn)(struct call *call, const struct parked_ask *ask, bool last);

CC_MUST int parking_open(struct tenant_store *store, const char *feature, parking_try_fn try_fn,
        struct parking **ret_parking, struct cc_err *err);
void parking_stop(struct parking *parking); /* answers all that are parked */
void parking_close(struct parking *parking);
void parking_add(struct parking *parking, struct call *call, const struct parked_ask *ask);
void parking_wake(struct parking *parking); /* there may be work now */
size_t parking_count(struct parking *parking);
bool queue_try_download(struct call *call, const struct parked_ask *ask, bool last);

/* ---- calls that are held back for a while (later.c) ---- */

typedef void (*later_fn)(struct call *call);
CC_MUST int later_open(struct later **ret_later, struct cc_err *err);
void later_stop(struct later *later); /* lets go of all that are held */
void later_close(struct later *later);
void later_add(struct later *later, struct call *call, int64_t delay_ms, later_fn fn);

/* ---- faults (faults.c) ---- */

CC_MUST int faults_open(struct faults **ret_faults, struct cc_err *err);
void faults_close(struct faults *faults);
struct fault faults_decide(struct faults *faults, const char *path);
int64_t faults_token_lifetime_s(struct faults *faults);
int64_t faults_identity_lifetime_s(struct faults *faults);

#endif
