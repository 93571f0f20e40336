/* SPDX-License-Identifier: MIT */
#include "scep.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/json.h"
#include "base/process.h"

/*
 * A challenge is opaque to connectors and devices: base64 of
 *
 *   version (1 byte) | id of the key | HMAC-SHA-256 of all that follows | JSON with the members of struct scep_challenge
 *
 * Like a real one it is longer than PKCS #9 has a challengePassword be (255, RFC 2985 appendix A), so that whoever has a
 * ceiling there is found out.
 */
#define VERSION 1
#define KEY_ID_LEN 8
#define MAC_LEN 32
#define HEAD_LEN (1 + KEY_ID_LEN + MAC_LEN)

#define KEY_VALUE "scep-challenge-key"
#define SLACK_MS ((int64_t)5 * 60 * 1000) /* that clocks may differ by */

int
scep_key_load(struct tenant *tenant, struct cc_err *err)
{
    struct cc_buf key = CC_BUF_INIT(TENANT_SCEP_KEY_LEN);
    char text[2 * TENANT_SCEP_KEY_LEN + 1];
    char *value = NULL;
    int rc = -1;

    if (tenant_value_get(tenant->store, KEY_VALUE, &value, err) != 0)
        return -1;
    if (value == NULL) {
        if (cc_random(tenant->scep_key, TENANT_SCEP_KEY_LEN, err) != 0)
            return -1;
        cc_hex(tenant->scep_key, TENANT_SCEP_KEY_LEN, false, text);
        rc = tenant_value_put(tenant->store, KEY_VALUE, text, err);
        cc_wipe(text, sizeof(text));
        return rc;
    }
    if (cc_unhex(value, &key, err) == 0 && key.len == TENANT_SCEP_KEY_LEN) {
        memcpy(tenant->scep_key, key.data, TENANT_SCEP_KEY_LEN);
        rc = 0;
    } else {
        cc_err_set(err, CC_DOM_INTERNAL, 0, "the key of challenges cannot be read");
    }
    cc_wipe(value, strlen(value));
    free(value);
    cc_buf_wipe(&key);
    return rc;
}

static int
make_key_id(const struct tenant *tenant, uint8_t ret[KEY_ID_LEN], struct cc_err *err)
{
    uint8_t hash[EVP_MAX_MD_SIZE];

    if (EVP_Digest(tenant->scep_key, TENANT_SCEP_KEY_LEN, hash, NULL, EVP_sha256(), NULL) != 1)
        return cc_err_set_openssl(err, "id of the key of challenges");
    memcpy(ret, hash, KEY_ID_LEN);
    return 0;
}

static int
make_mac(const struct tenant *tenant, struct cc_bytes text, uint8_t ret[MAC_LEN],
        struct cc_err *err)
{
    unsigned len = MAC_LEN;

    if (HMAC(EVP_sha256(), tenant->scep_key, TENANT_SCEP_KEY_LEN, text.data, text.len, ret, &len) ==
            NULL)
        return cc_err_set_openssl(err, "signature of a challenge");
    return 0;
}

/* ---- writing ---- */

static int
write_members(const struct scep_challenge *c, struct cc_buf *ret, struct cc_err *err)
{
    json_object *obj = json_object_new_object();
    int rc = -1;

    if (cc_json_add_str(obj, "tenantId", c->tenant_id, err) == 0 &&
            cc_json_add_str(obj, "challengeId", c->id, err) == 0 &&
            cc_json_add_int(obj, "issuedMilliseconds", c->issued_ms, err) == 0 &&
            cc_json_add_int(obj, "expirationMilliseconds", c->expires_ms, err) == 0)
        rc = cc_json_write(obj, ret, err);
    json_object_put(obj);
    return rc;
}

int
scep_challenge_write(const struct tenant *tenant, const struct scep_challenge *challenge,
        struct cc_buf *ret, struct cc_err *err)
{
    struct cc_buf members = CC_BUF_INIT(SCEP_CHALLENGE_MAX / 2);
    struct cc_buf bytes = CC_BUF_INIT(SCEP_CHALLENGE_MAX / 2);
    uint8_t key_id[KEY_ID_LEN], mac[MAC_LEN];
    int rc = -1;

    if (write_members(challenge, &members, err) != 0 || make_key_id(tenant, key_id, err) != 0 ||
            make_mac(tenant, cc_buf_bytes(&members), mac, err) != 0)
        goto out;
    if (cc_buf_add_u8(&bytes, VERSION, err) != 0 ||
            cc_buf_add(&bytes, key_id, KEY_ID_LEN, err) != 0 ||
            cc_buf_add(&bytes, mac, MAC_LEN, err) != 0 ||
            cc_buf_add(&bytes, members.data, members.len, err) != 0)
        goto out;
    rc = cc_base64(bytes.data, bytes.len, ret, err);
out:
    cc_buf_wipe(&members);
    cc_buf_wipe(&bytes);
    return rc;
}

/* ---- reading ---- */

/* Who signed it, and whether that was us. */
static int
check_seal(const struct tenant *tenant, const struct cc_buf *bytes, struct cc_bytes *ret_members,
        struct cc_err *err)
{
    uint8_t key_id[KEY_ID_LEN], mac[MAC_LEN];

    if (bytes->len <= HEAD_LEN || bytes->data[0] != VERSION)
        return cc_err_set(err, CC_DOM_INPUT, SCEP_CHALLENGE_DESERIALIZATION,
                "The challenge has no structure that is known.");
    *ret_members = (struct cc_bytes){ bytes->data + HEAD_LEN, bytes->len - HEAD_LEN };
    if (make_key_id(tenant, key_id, err) != 0 || make_mac(tenant, *ret_members, mac, err) != 0)
        return -1;
    if (memcmp(bytes->data + 1, key_id, KEY_ID_LEN) != 0)
        return cc_err_set(err, CC_DOM_INPUT, SCEP_CHALLENGE_DECRYPTION,
                "The challenge was made with a key that this service does not have.");
    if (CRYPTO_memcmp(bytes->data + 1 + KEY_ID_LEN, mac, MAC_LEN) != 0)
        return cc_err_set(err, CC_DOM_INPUT, SCEP_SIGNATURE,
                "The signature of the challenge is not good.");
    return 0;
}

static int
read_members(struct cc_bytes text, struct scep_challenge *ret, struct cc_err *err)
{
    struct cc_err reading = { 0 };
    json_object *obj = cc_json_parse(text.data, text.len, &reading);
    const char *tenant_id, *id;
    int rc = 0;

    if (obj == NULL ||
            cc_json_need_str(obj, "tenantId", sizeof(ret->tenant_id) - 1, &tenant_id, &reading) !=
                    0 ||
            cc_json_need_str(obj, "challengeId", sizeof(ret->id) - 1, &id, &reading) != 0 ||
            cc_json_get_int(obj, "issuedMilliseconds", INT64_MIN, INT64_MAX, 0, &ret->issued_ms,
                    &reading) != 0 ||
            cc_json_get_int(obj, "expirationMilliseconds", INT64_MIN, INT64_MAX, 0,
                    &ret->expires_ms, &reading) != 0) {
        rc = cc_err_set(err, CC_DOM_INPUT, SCEP_CHALLENGE_DESERIALIZATION,
                "The challenge cannot be read: %s", cc_err_text(&reading));
    } else {
        (void)cc_strcpy(ret->tenant_id, sizeof(ret->tenant_id), tenant_id);
        (void)cc_strcpy(ret->id, sizeof(ret->id), id);
    }
    json_object_put(obj);
    return rc;
}

static int
check_members(const struct tenant *tenant, const struct scep_challenge *c, int64_t now_ms,
        struct cc_err *err)
{
    if (!cc_equal_nocase(c->tenant_id, tenant->id))
        return cc_err_set(err, CC_DOM_INPUT, SCEP_BAD_TENANT_ID,
                "Failed to parse the tenant id in the challenge.tenantId in challenge does not"
                " match tenantId from security token.");
    if (c->issued_ms > now_ms + SLACK_MS || c->expires_ms <= c->issued_ms)
        return cc_err_set(err, CC_DOM_INPUT, SCEP_CHALLENGE_TIMESTAMP,
                "The challenge was issued in the future, or expires before it was issued.");
    if (c->expires_ms <= now_ms)
        return cc_err_set(err, CC_DOM_INPUT, SCEP_CHALLENGE_EXPIRED, "The challenge has expired.");
    return 0;
}

int
scep_challenge_read(const struct tenant *tenant, const char *text, int64_t now_ms,
        struct scep_challenge *ret, struct cc_err *err)
{
    struct cc_buf bytes = CC_BUF_INIT(SCEP_CHALLENGE_MAX);
    struct cc_bytes members = { NULL, 0 };
    struct cc_err decoding = { 0 };
    int rc = -1;

    if (cc_unbase64(text, &bytes, &decoding) != 0) {
        cc_err_set(err, CC_DOM_INPUT, SCEP_CHALLENGE_DECODING, "The challenge is not base64.");
        goto out;
    }
    if (check_seal(tenant, &bytes, &members, err) != 0 || read_members(members, ret, err) != 0)
        goto out;
    rc = check_members(tenant, ret, now_ms, err);
out:
    cc_buf_wipe(&bytes);
    return rc;
}
