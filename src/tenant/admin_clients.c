/* SPDX-License-Identifier: MIT */
#include "admin.h"

#include <string.h>

#include <openssl/crypto.h>

#include "assertion.h"
#include "base/clock.h"
#include "base/json.h"
#include "pki/cert.h"

#define SECRET_MAX 4096

static const struct {
    const char *name;
    unsigned bit;
} roles[] = {
    { "Application.Read.All", TENANT_ROLE_APPLICATIONS },
    { "DeviceManagementConfiguration.Read.All", TENANT_ROLE_CONFIGURATION_READ },
    { "DeviceManagementConfiguration.ReadWrite.All", TENANT_ROLE_CONFIGURATION_WRITE },
    { "scep_challenge_provider", TENANT_ROLE_SCEP },
    { "pfx_cert_provider", TENANT_ROLE_PFX },
    { "User.Read.All", TENANT_ROLE_USERS },
};

static int
read_role(json_object *item, int64_t *roles_mask, struct cc_err *err)
{
    for (size_t i = 0; i < CC_COUNT(roles); i++) {
        if (json_object_is_type(item, json_type_string) &&
                strcmp(json_object_get_string(item), roles[i].name) == 0) {
            *roles_mask |= roles[i].bit;
            return 0;
        }
    }
    return cc_err_set(err, CC_DOM_INPUT, 0, "member \"roles\" has one that there is not");
}

/* Unchanged where they are not told. */
static int
read_roles(json_object *body, int64_t *ret, struct cc_err *err)
{
    json_object *array;
    int64_t mask = 0;

    if (cc_json_get_array(body, "roles", &array, err) != 0)
        return -1;
    if (array == NULL)
        return 0;
    for (size_t i = 0; i < json_object_array_length(array); i++)
        if (read_role(json_object_array_get_idx(array, i), &mask, err) != 0)
            return -1;
    *ret = mask;
    return 0;
}

/* A new secret, or that of before until another time. */
static int
read_secret(json_object *body, struct tenant_client *client, struct cc_err *err)
{
    const char *text, *until;
    struct cc_secret *secret;
    int64_t until_ms;
    int rc;

    if (cc_json_get_str(body, "secret", SECRET_MAX, &text, err) != 0 ||
            cc_json_get_str(body, "secretExpirationDateTime", 64, &until, err) != 0)
        return -1;
    if (text != NULL) {
        if ((secret = cc_secret_copy(text, strlen(text), err)) == NULL)
            return -1;
        rc = auth_set_secret(client, secret, err);
        cc_secret_free(secret);
        if (rc != 0)
            return -1;
    }
    if (until == NULL)
        return 0;
    if (client->secret_expires_ms == TENANT_SECRET_NONE)
        return cc_err_set(err, CC_DOM_INPUT, 0, "there is no secret that could end");
    if (cc_time_parse(until, &until_ms, err) != 0)
        return -1;
    /* These numbers mean other things in a client. */
    if (until_ms <= 0)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "member \"secretExpirationDateTime\" is not after 1970-01-01T00:00:00Z");
    client->secret_expires_ms = until_ms;
    return 0;
}

static int
put_client(struct call *call, json_object *body, const char **ret_id, struct cc_err *err)
{
    struct tenant_store *store = call->tenant->store;
    struct cc_buf certificate = CC_BUF_INIT(PKI_CERT_MAX);
    struct tenant_client client;
    bool found;
    int rc = -1;

    if (cc_json_need_str(body, "clientId", TENANT_ID_MAX, ret_id, err) != 0 ||
            cc_json_get_base64(body, "certificate", &certificate, err) != 0 ||
            tenant_client_find(store, *ret_id, &found, &client, err) != 0)
        goto out;
    if (!found)
        client = (struct tenant_client){ .secret_expires_ms = TENANT_SECRET_NONE, .roles = -1 };
    if (read_secret(body, &client, err) != 0 || read_roles(body, &client.roles, err) != 0)
        goto out;
    /* The certificate first: one that is refused leaves everything as it was. */
    if (certificate.len > 0 &&
            assertion_register(store, *ret_id, cc_buf_bytes(&certificate), err) != 0)
        goto out;
    rc = tenant_client_put(store, *ret_id, &client, err);
out:
    OPENSSL_cleanse(&client, sizeof(client));
    cc_buf_free(&certificate);
    return rc;
}

void
admin_put_client(struct call *call)
{
    json_object *body = call_json(call, json_type_object);
    json_object *answer = NULL;
    struct cc_err err = { 0 };
    const char *id;

    if (body == NULL)
        return;
    if (put_client(call, body, &id, &err) != 0)
        goto fail;
    answer = json_object_new_object();
    if (cc_json_add_str(answer, "clientId", id, &err) != 0)
        goto fail;
    call_reply_json(call, 201, answer);
    json_object_put(body);
    return;
fail:
    json_object_put(answer);
    json_object_put(body);
    call_reply_failed(call, &err);
}

void
admin_remove_client(struct call *call)
{
    struct cc_err err = { 0 };
    bool found;

    if (tenant_client_remove(call->tenant->store, call->capture[0], &found, &err) != 0)
        call_reply_failed(call, &err);
    else if (!found)
        call_reply_error(call, 404, "ResourceNotFound", "there is no such client");
    else
        call_reply_empty(call, 204);
}
