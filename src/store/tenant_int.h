/* SPDX-License-Identifier: MIT */
#ifndef STORE_TENANT_INT_H
#define STORE_TENANT_INT_H

/* What the files behind store/tenant.h share. */

#include "db.h"
#include "store/tenant.h"

struct tenant_store {
    struct db *db;
};

/* One row at most, by a statement that the caller reads in its own place: 1 with a row, 0 without, -1. */
CC_MUST int tenant_one(struct db_conn *conn, const char *sql, const struct db_value *params,
        size_t count, struct db_rows **ret_rows, struct cc_err *err);

/* The random part of a request's contexts. */
#define TENANT_NONCE_BYTES 8
#define TENANT_NONCE_LEN (2 * TENANT_NONCE_BYTES + 1)

/* Adds n to a counter that lives as long as the database. */
CC_MUST int tenant_counter_add(struct db_conn *conn, const char *name, int64_t n,
        struct cc_err *err);

extern const struct cc_bytes tenant_no_hash;

/* A line in the history of request seq; n counts from 1 in each request. */
CC_MUST int tenant_event_add(struct db_conn *conn, int64_t seq, int64_t n,
        const struct tenant_event *event, struct cc_bytes hash, struct cc_err *err);

/* Cancels the open requests that wait for a PFX. */
CC_MUST int tenant_queue_cancel_pfx(struct db_conn *conn, const char *pfx_id, int64_t now_ms,
        struct cc_err *err);

/* Calls fn for the certificate to be revoked of this number, if there is one. */
CC_MUST int tenant_revocation_read(struct db_conn *conn, int64_t seq, tenant_revocation_fn fn,
        void *arg, bool *ret_stopped, struct cc_err *err);

/* Counters by name; verdicts have "uploads." and their number. */
#define COUNTER_LEASES "leases"
#define COUNTER_RELEASED "released"
#define COUNTER_REQUEUED "requeued"
#define COUNTER_UPLOADS "uploads."
#define COUNTER_REVOCATION_DELIVERIES "revocation.deliveries"
#define COUNTER_REVOCATION_REQUEUED "revocation.requeued"
#define COUNTER_REVOCATION_UPLOADS "revocation.uploads."
#define COUNTER_SCEP_VALIDATED "scep.validated"
#define COUNTER_SCEP_REFUSED "scep.refused"
#define COUNTER_SCEP_SUCCEEDED "scep.succeeded"
#define COUNTER_SCEP_FAILED "scep.failed"
#define COUNTER_SCEP_REPEATED "scep.repeated"
#define COUNTER_SCEP_CONTRADICTED "scep.contradicted"
#define COUNTER_SCEP_UNKNOWN "scep.unknown"

#endif
