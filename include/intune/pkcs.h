/* SPDX-License-Identifier: MIT */
#ifndef INTUNE_PKCS_H
#define INTUNE_PKCS_H

/* Requests and results of the queue PkcsRequests (connector service protocol).  Any thread. */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/err.h"
#include "intune/queue.h"

#define INTUNE_PKCS_SANS_MAX 64
#define INTUNE_PKCS_USAGES_MAX 32

enum intune_pkcs_kind { INTUNE_PKCS_ISSUE, INTUNE_PKCS_RECRYPT, INTUNE_PKCS_OTHER };

/* The kind alone, without looking further; absent: issue. */
enum intune_pkcs_kind intune_pkcs_kind_of(json_object *body);

struct intune_pkcs_san {
    const char *type, *value; /* as on the wire */
};

/* Texts are borrowed from the body; NULL: absent. */
struct intune_pkcs_request {
    enum intune_pkcs_kind kind;
    const char *user, *user_id, *device;
    const char *subject;
    struct intune_pkcs_san sans[INTUNE_PKCS_SANS_MAX];
    size_t san_count;
    const char *sid;
    const char *key_algorithm;
    const char *key_usages[INTUNE_PKCS_USAGES_MAX];
    size_t key_usage_count;
    const char *extended_key_usages[INTUNE_PKCS_USAGES_MAX];
    size_t extended_key_usage_count;
    int64_t validity_days; /* 0: absent */
    const char *authority, *authority_name, *template_name, *authority_type;
    const char *password_encryption, *content_cipher, *pfx_encryption;
    struct cc_buf recipient_certificate;
    struct cc_buf pfx, encrypted_password; /* recrypt */
};

/* Decodes and bounds every member; which values make sense is the workload's.  intune_pkcs_request_free() in every case. */
void intune_pkcs_request_init(struct intune_pkcs_request *request);
CC_MUST int intune_pkcs_request_read(json_object *body, struct intune_pkcs_request *ret,
        struct cc_err *err);
void intune_pkcs_request_free(struct intune_pkcs_request *request);

struct intune_pkcs_result {
    const char *request_context;
    enum intune_error_code error_code; /* INTUNE_OK: succeeded */
    const char *error_message;
    bool retryable;
    struct cc_bytes certificate; /* DER; empty in a recrypt */
    const char *thumbprint;      /* SHA-1, upper-case hexadecimal */
    const char *serial_number;   /* upper-case hexadecimal, no leading zero octets */
    int64_t expiration_ms;
    const char *issuing_authority, *authority_configuration;
    struct cc_bytes pfx, encrypted_password;
    const char *password_encryption;
};

/* Appends the JSON text of a result. */
CC_MUST int intune_pkcs_result_write(const struct intune_pkcs_result *result, struct cc_buf *ret,
        struct cc_err *err);

#endif
