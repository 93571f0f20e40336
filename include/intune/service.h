/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_SERVICE_H
#define INTUNE_SERVICE_H

/*
 * What every conversation with the service stands on: sign-in (OAuth 2.0 client credentials), discovery of its
 * endpoints with a cache, and one way of calling that retries what may be retried.
 *
 * Any thread.  A call blocks up to the settings' timeout times its attempts; intune_cancel() ends it.
 * Retried, with backoff, full jitter and the service's Retry-After: no answer, 429, 503, other 5xx.  401: a new token
 * once.  Connection failures, 404, 410 and 5xx: the endpoints are discovered anew, once a call.  400, 403 and 409 are final.
 * Retries, but those of a 429 that says when, come out of a budget that good answers fill (one for ten), so that a service
 * that comes back is not met by a storm.  Retry-After is obeyed up to a minute, with jitter on top of it, and what the
 * connectors' service asks of one call is heeded by all calls to it.  When discovery fails, the endpoints known so far
 * serve on unless one of them answered 404 or 410.
 * Secrets: the client secret is read at each sign-in and wiped, tokens are kept in struct cc_secret, assertions are wiped.
 * Errors: CC_DOM_HTTP (code: status), CC_DOM_NETWORK, CC_DOM_CANCELLED, CC_DOM_INPUT for an answer that is not what it
 * should be; of sign-in also CC_DOM_TOKEN and CC_DOM_PKCS11 when the key cannot sign now, CC_DOM_CONFIG when the
 * certificate is not of the key.  The text carries the service's error code and message, escaped, and the client-request-id.
 */

#include <openssl/types.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/err.h"
#include "base/histogram.h"

struct hsm_key;
struct intune;

enum intune_contact {
    INTUNE_CONTACT_NONE,
    INTUNE_CONTACT_OK,
    INTUNE_CONTACT_LOST,
    INTUNE_SIGN_IN_REFUSED,
    INTUNE_SIGN_IN_UNABLE, /* we cannot say who we are: the token is away, a file is not there */
    INTUNE_CERTIFICATE_REFUSED, /* the connectors' service does not take our identity, or wants one */
    INTUNE_CONNECTOR_REMOVED,   /* it took this instance out */
    INTUNE_CONNECTOR_LIMIT,     /* the tenant has as many connectors as there can be */
    INTUNE_MOVED,
    INTUNE_CLOCK_OFF,
    INTUNE_CLOCK_RIGHT
};

enum intune_assertion_alg { INTUNE_PS256, INTUNE_RS256 };

/*
 * Sign-in by an assertion that a key of the token signs (RFC 7523), in place of a secret.  The file is read at each
 * sign-in: the first certificate is that of the key, others are its chain.
 */
struct intune_assertion {
    struct hsm_key *key;     /* RSA; lives longer than struct intune; NULL: the secret signs in */
    const char *certificate; /* file, PEM */
    enum intune_assertion_alg alg;
    bool chain; /* the certificates of the file are sent, too */
};

/*
 * Who this instance is to the connectors' service: shown in TLS there, not at sign-in, not to Graph.  Calls then speak in
 * the name of this connector, whichever they are given: the service lets nobody speak in another's.
 */
struct intune_identity {
    X509 *certificate;        /* NULL: there is none yet */
    STACK_OF(X509) *chain;    /* or NULL */
    struct hsm_key *key;      /* lives longer than struct intune */
    const char *connector_id; /* its subject */
};

/* Everything is copied.  URLs end with a slash. */
struct intune_settings {
    const char *authority;     /* https://login.microsoftonline.com/ */
    const char *graph;         /* https://graph.microsoft.com/ */
    const char *graph_version; /* "v1.0": of the discovery call */
    const char *resource;      /* https://api.manage.microsoft.com/ */
    const char *app_id;        /* of the service in discovery */
    const char *tenant;        /* NULL, as the next: there is no service, and no call succeeds */
    const char *client_id;
    const char *
            client_secret; /* reference (base/secret.h), read at each sign-in; NULL with an assertion */
    struct intune_assertion assertion;
    struct intune_identity identity;
    const char *caller_info; /* "certconnector/1.2.3" */
    const char *proxy, *no_proxy, *ca_file;
    const char *proxy_user, *proxy_password; /* as in struct http_client_settings */

    /*
     * What discovery may give: hosts of these names, or whose names end with one of them after a dot; none: the hosts of
     * resource and graph.  At port 443 and at addresses of the internet, unless it may be any.
     */
    const char *const *allowed_hosts;
    size_t allowed_host_count;
    bool any_port, private_addresses;

    bool allow_http;           /* for tests; any port and address then, too */
    int64_t max_clock_skew_ms; /* from when on our clock counts as wrong; 0: never */
    int64_t timeout_ms;        /* of one HTTP call; 0: 30 s */
    unsigned attempts;         /* of one call; 0: 4 */
    int64_t backoff_ms; /* span of the first pause between attempts, doubled each time; 0: 500 */

    /*
     * Told of each change of contact, from the calling thread, one at a time; err is NULL on OK, MOVED and
     * CLOCK_RIGHT, else says why.  MOVED and the two of the clock are news and no states, contact is what it was: the
     * service has other endpoints now; our clock differs too much from that of who answers, or does no more.
     * Must not call into this room but for intune_get_status().
     */
    void (*on_contact)(void *arg, enum intune_contact contact, const struct cc_err *err);
    void *on_contact_arg;
};

/* Nothing is contacted yet. */
CC_MUST int intune_open(const struct intune_settings *settings, struct intune **ret_intune,
        struct cc_err *err);
void intune_close(struct intune *intune); /* no call may be under way; accepts NULL */

/* Ends calls under way and refuses later ones: the connector is stopping. */
void intune_cancel(struct intune *intune);

/* Ends downloads from queues that are under way and refuses later ones; everything else goes on. */
void intune_cancel_downloads(struct intune *intune);

/* New settings for what follows; calls under way end with the old ones. */
CC_MUST int intune_reconfigure(struct intune *intune, const struct intune_settings *settings,
        struct cc_err *err);

/* What a call failed with is that we were refused for our identity (or for having none); it is told as
   CC_DOM_NETWORK, as it says nothing of what was asked. */
bool intune_was_certificate(const struct cc_err *err);

struct intune_status {
    enum intune_contact contact;
    int64_t last_contact_ms; /* wall time of the last good answer; 0: never */
    int64_t clock_skew_ms;   /* Date minus ours, at the last answer of anyone */
    bool clock_is_off;       /* by more than max_clock_skew_ms */
    char last_error[256];
};
void intune_get_status(struct intune *intune, struct intune_status *ret);

/* -1 while our clock is too far off, as far as is known; CC_DOM_SERVICE with what to do. */
CC_MUST int intune_check_clock(struct intune *intune, struct cc_err *err);

/* Calls of one kind, with all their attempts, since intune_open(). */
struct intune_measured {
    const char *call;                /* "PkcsRequests/download" …, "other" */
    uint64_t failed, refused;        /* of them: without a good answer; answered 4xx */
    struct cc_histogram_values time; /* what a long poll waits on purpose is in it */
};
#define INTUNE_MEASURED_MAX 20
size_t intune_get_measured(struct intune *intune, struct intune_measured ret[INTUNE_MEASURED_MAX]);

#endif
