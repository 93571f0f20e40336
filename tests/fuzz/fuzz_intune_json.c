/* SPDX-License-Identifier: MIT */

/*
 * What the service answers: a token, the endpoints, requests of each kind and the lists they come in, verdicts on
 * requests of devices, how it supports our release.  The first byte chooses the reader.
 * Whatever is read well must be within its bounds, and a token must be gone from the text it stood in.
 */

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "intune/intune_int.h"
#include "intune/pkcs.h"
#include "intune/queue.h"
#include "intune/revocation.h"
#include "intune/scep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool holds)
{
    if (!holds)
        abort();
}

static void
token(const uint8_t *data, size_t size)
{
    struct cc_buf text = CC_BUF_INIT((size_t)1 << 20);
    struct cc_secret *secret = NULL;
    int64_t life = 0;
    size_t i;

    if (size <= text.max && cc_buf_add(&text, data, size, NULL) == 0 &&
            intune_token_read(&text, &secret, &life, NULL) == 0) {
        const char *token_text = cc_secret_str(secret);

        require(life >= 60000 && life <= 86400000);
        require(cc_secret_len(secret) > 0 && strlen(token_text) == cc_secret_len(secret));
        for (i = 0; i < cc_secret_len(secret); i++)
            require(token_text[i] > 0x20 && token_text[i] < 0x7f);
        /* A shorter one may stand elsewhere by chance. */
        require(cc_secret_len(secret) < size / 2 || strspn(token_text, "*") == strlen(token_text) ||
                memmem(text.data, text.len, token_text, cc_secret_len(secret)) == NULL);
    }
    cc_secret_free(secret);
    cc_buf_wipe(&text);
}

static void
endpoints(const uint8_t *data, size_t size)
{
    struct intune_endpoints *found = calloc(1, sizeof(*found));
    size_t i, j;

    require(found != NULL);
    if (intune_endpoints_read(data, size, found, NULL) == 0) {
        require(found->count <= INTUNE_ENDPOINTS_MAX);
        for (i = 0; i < found->count; i++) {
            size_t len = strlen(found->item[i].uri);

            require(len == 0 || found->item[i].uri[len - 1] != '/');
            for (j = 0; j < i; j++)
                require(!cc_equal_nocase(found->item[i].provider, found->item[j].provider));
        }
    } else {
        require(found->count == 0);
    }
    intune_endpoints_clear(found);
    free(found);
}

static void
request(const uint8_t *data, size_t size)
{
    json_object *json = cc_json_parse(data, size, NULL);
    struct intune_pfx_request read;

    if (json == NULL)
        return;
    if (intune_pfx_request_read(json, &read, NULL) == 0) {
        require(read.pfx.len <= (size_t)256 << 10);
        require(read.encrypted_password.len <= 1024);
        require(read.recipient_certificate.len <= (size_t)64 << 10);
        require(read.user == NULL || strlen(read.user) <= 1024);
        require(read.key_name == NULL || strlen(read.key_name) <= 1024);
    }
    intune_pfx_request_free(&read);
    json_object_put(json);
}

static void
download(const uint8_t *data, size_t size)
{
    struct intune_work *work = NULL;
    size_t count = 0, malformed = 0, i;

    if (intune_download_read(data, size, 5, 0, &work, &count, &malformed, NULL) != 0)
        return;
    require(count + malformed <= 5);
    for (i = 0; i < count; i++) {
        require(work[i].request_context[0] != '\0' && work[i].request_id[0] != '\0');
        require(work[i].attempt >= 1 && work[i].lease_until_ms > 0);
        require(json_object_is_type(work[i].body, json_type_object));
    }
    intune_work_free(work, count);
}

static void
pkcs_request(const uint8_t *data, size_t size)
{
    json_object *json = cc_json_parse(data, size, NULL);
    struct intune_pkcs_request read;
    bool good;

    if (json == NULL)
        return;
    good = intune_pkcs_request_read(json, &read, NULL) == 0;
    require(read.san_count <= INTUNE_PKCS_SANS_MAX);
    require(read.key_usage_count <= INTUNE_PKCS_USAGES_MAX);
    require(read.extended_key_usage_count <= INTUNE_PKCS_USAGES_MAX);
    require(read.pfx.len <= (size_t)256 << 10);
    require(read.encrypted_password.len <= (size_t)64 << 10);
    require(read.recipient_certificate.len <= (size_t)64 << 10);
    if (good) {
        require(read.kind == intune_pkcs_kind_of(json));
        require(read.subject == NULL || strlen(read.subject) <= 4096);
        require(read.validity_days >= 0 && read.validity_days <= 36500);
        for (size_t i = 0; i < read.san_count; i++)
            require(read.sans[i].type[0] != '\0' && strlen(read.sans[i].type) <= 1024 &&
                    strlen(read.sans[i].value) <= 1024);
        for (size_t i = 0; i < read.key_usage_count; i++)
            require(strlen(read.key_usages[i]) <= 1024);
        for (size_t i = 0; i < read.extended_key_usage_count; i++)
            require(strlen(read.extended_key_usages[i]) <= 1024);
    }
    intune_pkcs_request_free(&read);
    json_object_put(json);
}

static void
revocation_request(const uint8_t *data, size_t size)
{
    json_object *json = cc_json_parse(data, size, NULL);
    struct intune_revocation_request read;

    if (json == NULL)
        return;
    if (intune_revocation_request_read(json, &read, NULL) == 0) {
        require(read.serial_number[0] != '\0' && strlen(read.serial_number) <= 1024);
        require(read.issuer_name == NULL || strlen(read.issuer_name) <= 1024);
        require(read.ca_configuration == NULL || strlen(read.ca_configuration) <= 1024);
    }
    json_object_put(json);
}

static void
revocation_download(const uint8_t *data, size_t size)
{
    struct intune_work *work = NULL;
    size_t count = 0, malformed = 0;

    if (intune_revocation_download_read(data, size, 5, &work, &count, &malformed, NULL) != 0)
        return;
    require(count + malformed <= 5);
    for (size_t i = 0; i < count; i++) {
        const char *id = work[i].request_id;

        require(work[i].request_context[0] != '\0' && id[0] != '\0' && strlen(id) <= 128);
        for (size_t j = 0; id[j] != '\0'; j++)
            require(id[j] > 0x20 && id[j] < 0x7f);
        require(work[i].attempt == 0 && work[i].lease_until_ms == 0);
        require(json_object_is_type(work[i].body, json_type_object));
    }
    intune_work_free(work, count);
}

static void
scep_answer(const uint8_t *data, size_t size)
{
    struct intune_scep_answer answer = { 0 };

    if (intune_scep_answer_read(data, size, &answer, NULL) != 0) {
        require(!answer.accepted && answer.code[0] == '\0');
        return;
    }
    require(answer.code[0] != '\0');
    require(answer.accepted == (strcmp(answer.code, "Success") == 0));
    for (const char *c = answer.code; *c != '\0'; c++)
        require((unsigned char)*c >= 0x20 && *c != 0x7f);
    for (const char *c = answer.description; *c != '\0'; c++)
        require((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void
lifecycle(const uint8_t *data, size_t size)
{
    struct intune_lifecycle found = { .standing = INTUNE_STANDING_UNKNOWN };

    if (intune_lifecycle_read(data, size, &found, NULL) != 0) {
        require(found.standing == INTUNE_STANDING_UNKNOWN && found.feature_count == 0);
        return;
    }
    require(intune_standing_name(found.standing) != NULL);
    require(found.feature_count <= INTUNE_FEATURES_MAX);
    require(found.says_features || found.feature_count == 0);
    require(memchr(found.reason, 0, sizeof(found.reason)) != NULL);
    require(memchr(found.latest_version, 0, sizeof(found.latest_version)) != NULL);
    for (size_t i = 0; i < found.feature_count; i++)
        require(intune_lifecycle_allows(&found, found.features[i]));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(const uint8_t *, size_t) = { token, endpoints, request, download,
        pkcs_request, revocation_request, revocation_download, scep_answer, lifecycle };

    if (size == 0)
        return 0;
    readers[data[0] % CC_COUNT(readers)](data + 1, size - 1);
    return 0;
}
