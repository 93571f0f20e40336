/* SPDX-License-Identifier: MIT */
/* certconnector-tenant: the stand-in service. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "credentials.h"
#include "options.h"
#include "tenant_int.h"

#define WORKERS 8
#define QUEUE_MAX 2048
#define CONNECTIONS_MAX 1500
#define BODY_MAX ((size_t)4 << 20)
#define DEADLINE_MS 30000
#define CA_MAX 65536

static int
open_tenant(const struct options *options, struct tenant **ret_tenant, struct cc_err *err)
{
    struct tenant_store *store = NULL;
    struct cc_secret *token = NULL;
    int rc = -1;

    if (tenant_store_open(options->state, &store, err) != 0)
        return -1;
    if (credentials_client(options, store, err) != 0 ||
            credentials_admin_token(options, &token, err) != 0) {
        tenant_store_close(store);
        goto out;
    }
    rc = tenant_open(&options->settings, store, token, ret_tenant, err);
out:
    cc_secret_free(token);
    return rc;
}

static int
listen_for(const struct options *options, struct tenant *tenant, struct http_listener **ret,
        struct cc_err *err)
{
    struct cc_buf ca = CC_BUF_INIT(CA_MAX);
    struct http_listener_settings settings = { .listen = options->listen,
        .tls_certificate_file = options->tls_certificate,
        .tls_key_file = options->tls_key,
        .workers = WORKERS,
        .queue_max = QUEUE_MAX,
        .max_connections = CONNECTIONS_MAX,
        .max_body = BODY_MAX,
        .deadline_ms = DEADLINE_MS,
        .handler = tenant_handle,
        .handler_arg = tenant };

    int rc = tenant_identity_ca(tenant, &ca, err);

    settings.tls_client_ca = cc_buf_str(&ca);
    if (rc == 0)
        rc = http_listener_open(&settings, ret, err);
    cc_buf_free(&ca);
    return rc;
}

static int
say_ready(const struct options *options, const struct http_listener *listener, struct cc_err *err)
{
    char port[16];

    (void)snprintf(port, sizeof(port), "%u", (unsigned)http_listener_port(listener));
    /* Who waits for the file looks for the admin token then. */
    (void)fflush(stdout);
    if (options->ready_file != NULL &&
            cc_file_replace(options->ready_file, port, strlen(port), 0644, err) != 0)
        return -1;
    (void)printf("certconnector-tenant " CC_VERSION " is ready: tenant %s, port %s\n",
            options->settings.name, port);
    (void)fflush(stdout);
    return 0;
}

/* Blocked in every thread, taken by the main one. */
static void
block_signals(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGTERM);
    sigaddset(ret, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, ret, NULL);
}

static int
serve(const struct options *options, struct cc_err *err)
{
    struct tenant *tenant = NULL;
    struct http_listener *listener = NULL;
    sigset_t signals;
    int signal_number;
    int rc = -1;

    block_signals(&signals);
    if (open_tenant(options, &tenant, err) != 0)
        return -1;
    if (listen_for(options, tenant, &listener, err) != 0)
        goto out;
    if (say_ready(options, listener, err) != 0)
        goto out;
    while (sigwait(&signals, &signal_number) != 0)
        ;
    rc = 0;
out:
    tenant_stop(tenant);
    http_listener_close(listener);
    tenant_close(tenant);
    return rc;
}

int
main(int argc, char **argv)
{
    struct options options;
    struct cc_err err = { 0 };

    cc_process_harden();
    (void)umask(077); /* the state has keys in it */
    if (options_parse(argc, argv, &options, &err) != 0) {
        (void)fprintf(stderr, "certconnector-tenant: %s\n", cc_err_text(&err));
        return 2;
    }
    if (options.help) {
        (void)fputs(options_help, stdout);
        return 0;
    }
    if (options.version) {
        (void)puts("certconnector-tenant " CC_VERSION);
        return 0;
    }
    if (serve(&options, &err) != 0) {
        (void)fprintf(stderr, "certconnector-tenant: %s\n", cc_err_text(&err));
        return 1;
    }
    return 0;
}
