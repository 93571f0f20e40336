/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_QUEUE_H
#define INTUNE_QUEUE_H

/*
 * The service's queues of work: download under a lease, renew, upload, release (connector service protocol,
 * api-version 2026-11-01).  One download call is a long poll.  Any thread.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "intune/service.h"

enum intune_queue { INTUNE_QUEUE_PKCS, INTUNE_QUEUE_PFX_IMPORT };

/* Results of a request, as the wire names them. */
enum intune_error_code {
    INTUNE_OK = 0,
    INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION = 4000,
    INTUNE_DATA_SERIALIZATION_ERROR = 4001,
    INTUNE_PARAMETER_DATA_INVALID_ERROR = 4002,
    INTUNE_CRYPTOGRAPHY_ERROR = 4003,
    INTUNE_CERTIFICATE_NOT_FOUND_ERROR = 4004,
    INTUNE_CONFLICT_ERROR = 4005,
    INTUNE_NOT_SUPPORTED_ERROR = 4006,
    INTUNE_PAYLOAD_TOO_LARGE_ERROR = 4007,
    INTUNE_RETRYABLE_SERVICE_EXCEPTION = 4100,
    INTUNE_SERVICE_UNAVAILABLE_EXCEPTION = 4101,
    INTUNE_SERVICE_TOO_BUSY_EXCEPTION = 4102,
    INTUNE_AUTHENTICATION_EXCEPTION = 4103,
    /* of the connector service only; names, no numbers on the wire */
    INTUNE_TOKEN_UNAVAILABLE = 9001,
    INTUNE_CA_UNAVAILABLE,
    INTUNE_CA_DENIED,
    INTUNE_CA_PENDING,
    INTUNE_BAD_REQUEST,
    INTUNE_RECIPIENT_NOT_ACCEPTED,
    INTUNE_KEY_NOT_FOUND,
    INTUNE_DECRYPT_FAILED
};

#define INTUNE_ERROR_CODES 21 /* INTUNE_OK among them */

/* From 0 to INTUNE_ERROR_CODES - 1, for tables of them, and back. */
unsigned intune_error_code_number(enum intune_error_code code);
enum intune_error_code intune_error_code_at(unsigned number);

/* "None", "CertificateNotFoundError", "TokenUnavailable" … */
const char *intune_error_code_name(enum intune_error_code code);

/* The code of such a name, NULL and unknown ones included: INTUNE_NON_RETRYABLE_SERVICE_EXCEPTION. */
enum intune_error_code intune_error_code_parse(const char *name);

/* One downloaded request: the members that every kind has, and the whole object for the workload to decode. */
struct intune_work {
    char request_context[1025];
    char request_id[129];
    int attempt; /* from 1 */
    int64_t lease_until_ms; /* by our wall clock: the service's Date tells what the lease is long; never too late */
    json_object *body;
};

/* Up to max requests, waiting up to wait_ms for the first; *ret_work is yours (intune_work_free).  A request that lacks
   the common members is skipped and counted in *ret_malformed. */
CC_MUST int intune_queue_download(struct intune *intune, enum intune_queue queue,
        const char *connector_id, unsigned max, int64_t wait_ms, struct intune_work **ret_work,
        size_t *ret_count, size_t *ret_malformed, struct cc_err *err);
void intune_work_free(struct intune_work *work, size_t count);

/* lease_until_ms[i] of each context, 0 where the lease is lost. */
CC_MUST int intune_queue_renew(struct intune *intune, enum intune_queue queue,
        const char *connector_id, const char *const *contexts, size_t count,
        int64_t *ret_lease_until_ms, struct cc_err *err);

enum intune_verdict {
    INTUNE_NO_VERDICT = 0, /* the answer says nothing of the result: it may be sent again */
    INTUNE_ACCEPTED,
    INTUNE_ALREADY_COMPLETED,
    INTUNE_LEASE_LOST,
    INTUNE_UNKNOWN
};

/*
 * results[i]: JSON text of one result object, requestContext included, sent as it is.  A status that we do not know
 * is INTUNE_UNKNOWN.
 */
CC_MUST int intune_queue_upload(struct intune *intune, enum intune_queue queue,
        const char *connector_id, const char *const *results, size_t count,
        enum intune_verdict *ret_verdicts, struct cc_err *err);

CC_MUST int intune_queue_release(struct intune *intune, enum intune_queue queue,
        const char *connector_id, const char *const *contexts, size_t count, struct cc_err *err);

/* ---- requests and results of imported PFX ---- */

struct intune_pfx_request {
    const char *user, *device, *thumbprint, *intended_purpose, *provider_name,
            *key_name; /* borrowed; NULL: absent */
    const char *padding_scheme, *password_encryption,
            *content_cipher;                                      /* as on the wire; NULL: absent */
    struct cc_buf pfx, encrypted_password, recipient_certificate; /* decoded */
};

/* Decodes and bounds every member; which values make sense is the workload's.  intune_pfx_request_free() in every case. */
CC_MUST int intune_pfx_request_read(json_object *body, struct intune_pfx_request *ret,
        struct cc_err *err);
void intune_pfx_request_init(struct intune_pfx_request *request);
void intune_pfx_request_free(struct intune_pfx_request *request);

struct intune_pfx_result {
    const char *request_context;
    enum intune_error_code error_code; /* INTUNE_OK: succeeded */
    const char *error_message;
    bool retryable;
    struct cc_bytes encrypted_password;
    const char *password_encryption;
    bool on_token;
};

/* Appends the JSON text of a result. */
CC_MUST int intune_pfx_result_write(const struct intune_pfx_result *result, struct cc_buf *ret,
        struct cc_err *err);

/* ---- health ---- */

#define INTUNE_FEATURES_MAX 16
#define INTUNE_FEATURE_LEN 32

/* How the service supports this release: fully, until its end is near, or not any more. */
enum intune_standing {
    INTUNE_STANDING_UNKNOWN, /* it did not say, or a word that we do not know */
    INTUNE_STANDING_ACTIVE,
    INTUNE_STANDING_WARNING,
    INTUNE_STANDING_ERROR
};

const char *intune_standing_name(enum intune_standing standing); /* "Active" …, "Unknown" */

/* What it answers a health message.  Peer text: escape it where it is shown. */
struct intune_lifecycle {
    enum intune_standing standing;
    char reason[512]; /* longer ones are cut; this and the version are empty where it did not say */
    char latest_version[64];
    int64_t supported_until_ms; /* 0: no end is known */
    bool says_features;         /* which are allowed: those that follow */
    size_t feature_count;
    char features[INTUNE_FEATURES_MAX][INTUNE_FEATURE_LEN];
};

bool intune_lifecycle_allows(const struct intune_lifecycle *lifecycle, const char *feature);

/*
 * heartbeat: the object of that name, taken over.  ret may be NULL; it is filled on success only.  An answer that cannot
 * be read is an error (CC_DOM_INPUT), although the message has arrived.
 */
CC_MUST int intune_heartbeat(struct intune *intune, json_object *take_heartbeat,
        struct intune_lifecycle *ret, struct cc_err *err);

/* Whether one was accepted since intune_open(): before that the service does not know which features we have. */
bool intune_was_heard(struct intune *intune);

#endif
