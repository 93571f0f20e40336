/* SPDX-License-Identifier: MIT */
#include "tenant_int.h"

#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/clock.h"
#include "base/process.h"

#define TOKEN_MAX 4096 /* bytes that a bearer token may have */
#define TOKEN_BYTES 32

void
auth_hash_token(const char *token, uint8_t ret_hash[TENANT_HASH_LEN])
{
    if (EVP_Digest(token, strlen(token), ret_hash, NULL, EVP_sha256(), NULL) != 1)
        memset(ret_hash, 0, TENANT_HASH_LEN);
}

int
auth_hash_secret(const uint8_t salt[TENANT_SALT_LEN], const void *secret, size_t len,
        uint8_t ret_hash[TENANT_HASH_LEN], struct cc_err *err)
{
    unsigned size = TENANT_HASH_LEN;

    if (HMAC(EVP_sha256(), salt, TENANT_SALT_LEN, secret, len, ret_hash, &size) == NULL)
        return cc_err_set_openssl(err, "hash of a secret");
    return 0;
}

int
auth_set_secret(struct tenant_client *client, const struct cc_secret *secret, struct cc_err *err)
{
    if (cc_random(client->salt, sizeof(client->salt), err) != 0 ||
            auth_hash_secret(client->salt, cc_secret_str(secret), cc_secret_len(secret),
                    client->hash, err) != 0)
        return -1;
    client->secret_expires_ms = TENANT_SECRET_NEVER_ENDS;
    return 0;
}

int
auth_put_client(struct tenant_store *store, const char *id, const struct cc_secret *secret,
        struct cc_err *err)
{
    struct tenant_client client;
    bool found;
    int rc = -1;

    if (tenant_client_find(store, id, &found, &client, err) != 0)
        return -1;
    if (!found)
        client = (struct tenant_client){ .secret_expires_ms = TENANT_SECRET_NONE, .roles = -1 };
    if (secret == NULL || auth_set_secret(&client, secret, err) == 0)
        rc = tenant_client_put(store, id, &client, err);
    cc_wipe(&client, sizeof(client));
    return rc;
}

int
auth_make_token(char ret[AUTH_TOKEN_LEN], struct cc_err *err)
{
    static const char letters[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[AUTH_TOKEN_LEN - 1];

    if (cc_random(random, sizeof(random), err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof(random); i++)
        ret[i] = letters[random[i] & 63];
    ret[sizeof(random)] = '\0';
    cc_wipe(random, sizeof(random));
    return 0;
}

/* The token of "Authorization: Bearer token" (RFC 6750 section 2.1), borrowed, or NULL. */
static const char *
bearer(const struct call *call)
{
    static const char scheme[] = "Bearer ";
    const char *header = http_exchange_header(call->exchange, "Authorization");

    if (header == NULL || strncasecmp(header, scheme, sizeof(scheme) - 1) != 0)
        return NULL;
    header += sizeof(scheme) - 1;
    while (*header == ' ')
        header++;
    return header[0] != '\0' && strlen(header) <= TOKEN_MAX ? header : NULL;
}

static bool
check_admin(struct call *call, const uint8_t hash[TENANT_HASH_LEN])
{
    if (CRYPTO_memcmp(hash, call->tenant->admin_hash, TENANT_HASH_LEN) == 0)
        return true;
    call_reply_error(call, 401, "InvalidAuthenticationToken", "this is not the admin token");
    return false;
}

/* Graph and the queues say what is missing; the API of Intune says no more than that it will not have this token. */
static bool
check_roles(struct call *call, enum auth auth, const struct tenant_token *token, unsigned roles)
{
    if (roles == 0 || (token->roles & (int64_t)roles) != 0)
        return true;
    if (auth == AUTH_GRAPH)
        call_reply_error(call, 403, "Authorization_RequestDenied",
                "Insufficient privileges to complete the operation.");
    else if (auth == AUTH_CONNECTOR)
        call_reply_error(call, 403, "Forbidden", "the application lacks the role for this");
    else
        call_reply_error(call, 401, "Unauthorized", "the application lacks the role for this");
    return false;
}

bool
auth_check(struct call *call, enum auth auth, unsigned roles)
{
    const char *text;
    uint8_t hash[TENANT_HASH_LEN];
    struct cc_err err = { 0 };
    struct tenant_token token = { .audience = 0 };
    unsigned want = auth == AUTH_GRAPH ? TENANT_AUDIENCE_GRAPH : TENANT_AUDIENCE_RESOURCE;
    bool found;

    if (auth == AUTH_NONE)
        return true;
    if (auth == AUTH_PAGE)
        return page_admit(call);
    if ((text = bearer(call)) == NULL) {
        call_reply_error(call, 401, "InvalidAuthenticationToken", "a bearer token is needed");
        return false;
    }
    auth_hash_token(text, hash);
    if (auth == AUTH_ADMIN)
        return check_admin(call, hash);

    if (tenant_token_find(call->tenant->store, hash, cc_clock_now_ms(), &found, &token, &err) !=
            0) {
        call_reply_failed(call, &err);
        return false;
    }
    if (!found) {
        call_reply_error(call, 401, "InvalidAuthenticationToken",
                "the token is unknown or has expired");
        return false;
    }
    if ((token.audience & want) == 0) {
        call_reply_error(call, 401, "InvalidAuthenticationToken", "the token has another audience");
        return false;
    }
    return check_roles(call, auth, &token, roles);
}
