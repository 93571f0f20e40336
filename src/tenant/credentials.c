/* SPDX-License-Identifier: MIT */
#include "credentials.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "assertion.h"
#include "base/file.h"
#include "base/text.h"
#include "pki/cert.h"

#define ADMIN_TOKEN_FILE "admin.token"
#define CLIENT_SECRET_FILE "client.secret"

/* The folder of the state, or the present one for a state in memory. */
static int
beside_state(const struct options *options, const char *name, char *ret, size_t size,
        struct cc_err *err)
{
    const char *path = strchr(options->state, ':');
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    int len;

    if (cc_starts_with(options->state, "postgresql:"))
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "with a state in PostgreSQL --admin-token-file and --client-id are needed");
    if (slash == NULL)
        len = snprintf(ret, size, "%s", name);
    else
        len = snprintf(ret, size, "%.*s/%s", (int)(slash - path - 1), path + 1, name);
    if (len < 0 || (size_t)len >= size)
        return cc_err_set(err, CC_DOM_USAGE, 0, "the path of the state is too long");
    return 0;
}

static int
load(const char *path, struct cc_secret **ret, struct cc_err *err)
{
    char reference[PATH_MAX + 8];

    (void)snprintf(reference, sizeof(reference), "file:%s", path);
    *ret = cc_secret_load(reference, err);
    return *ret == NULL ? -1 : 0;
}

/* A new token, written for its owner only. */
static int
make(const char *path, struct cc_secret **ret, struct cc_err *err)
{
    char token[AUTH_TOKEN_LEN];
    int rc = -1;

    if (auth_make_token(token, err) != 0)
        return -1;
    if (cc_file_create(path, token, strlen(token), 0600, err) != 0)
        goto out;
    *ret = cc_secret_copy(token, strlen(token), err);
    rc = *ret == NULL ? -1 : 0;
out:
    cc_wipe(token, sizeof(token));
    return rc;
}

int
credentials_admin_token(const struct options *options, struct cc_secret **ret_token,
        struct cc_err *err)
{
    char path[PATH_MAX];

    if (options->admin_token_file != NULL) {
        if (!cc_strcpy(path, sizeof(path), options->admin_token_file))
            return cc_err_set(err, CC_DOM_USAGE, 0, "--admin-token-file is too long");
    } else if (beside_state(options, ADMIN_TOKEN_FILE, path, sizeof(path), err) != 0) {
        return -1;
    }
    if (access(path, F_OK) == 0)
        return load(path, ret_token, err);
    if (make(path, ret_token, err) != 0)
        return cc_err_in(err, "admin token");
    (void)printf("admin token: %s (also in %s; not shown again)\n", cc_secret_str(*ret_token),
            path);
    return 0;
}

static int
add_certificate(const struct options *options, struct tenant_store *store, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(PKI_CERT_MAX);
    int rc = cc_file_read(options->client_certificate, &text, err);

    if (rc == 0)
        rc = assertion_register(store, options->client_id, cc_buf_bytes(&text), err);
    cc_buf_free(&text);
    return rc == 0 ? 0 : cc_err_in(err, "--client-certificate %s", options->client_certificate);
}

static int
put_given_client(const struct options *options, struct tenant_store *store, struct cc_err *err)
{
    struct cc_secret *secret = NULL;
    int rc = -1;

    if (options->client_secret_file != NULL && load(options->client_secret_file, &secret, err) != 0)
        return -1;
    if (options->client_certificate != NULL && add_certificate(options, store, err) != 0)
        goto out;
    rc = auth_put_client(store, options->client_id, secret, err);
out:
    cc_secret_free(secret);
    return rc;
}

static int
put_new_client(const struct options *options, struct tenant_store *store, struct cc_err *err)
{
    char path[PATH_MAX], id[CC_UUID_LEN];
    struct cc_secret *secret = NULL;
    int rc = -1;

    if (beside_state(options, CLIENT_SECRET_FILE, path, sizeof(path), err) != 0 ||
            cc_uuid(id, err) != 0)
        return -1;
    if (make(path, &secret, err) != 0)
        goto out;
    if (auth_put_client(store, id, secret, err) != 0)
        goto out;
    (void)printf("client: %s (its secret is in %s)\n", id, path);
    rc = 0;
out:
    cc_secret_free(secret);
    return rc;
}

int
credentials_client(const struct options *options, struct tenant_store *store, struct cc_err *err)
{
    int64_t count;

    if (options->client_id != NULL)
        return put_given_client(options, store, err);
    if (tenant_client_count(store, &count, err) != 0)
        return -1;
    return count == 0 ? put_new_client(options, store, err) : 0;
}
