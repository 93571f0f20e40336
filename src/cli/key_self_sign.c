/* SPDX-License-Identifier: MIT */
#include "key_verbs.h"

#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ca_verbs.h"
#include "pki/cert.h"
#include "pki/plan.h"

/*
 * A certificate that a key of the token signs for itself: what is registered with an application for signing in, where
 * nobody asks who issued it.
 */

#define TOKEN_OPEN_MS 15000
#define BACKDATE_MS (INT64_C(5) * 60 * 1000)
#define DAYS_DEFAULT 365
#define DAYS_MAX 3650
#define CLIENT_AUTH "1.3.6.1.5.5.7.3.2"

struct self_sign {
    const char *key_uri, *subject, *path;
    enum hsm_role role;
    int64_t days;
    char thumbprint[PKI_THUMBPRINT_LEN];
};

static int
make_plan(const struct self_sign *wish, struct pki_plan **ret_plan, struct cc_err *err)
{
    struct pki_plan *plan = pki_plan_new(err);
    X509_NAME *subject = NULL;

    if (plan == NULL)
        return -1;
    if (pki_name_parse(wish->subject, &subject, err) != 0 ||
            pki_plan_add_extended_key_usage(plan, CLIENT_AUTH, err) != 0) {
        X509_NAME_free(subject);
        pki_plan_free(plan);
        return -1;
    }
    X509_NAME_free(plan->subject);
    plan->subject = subject;
    plan->key_usages = KU_DIGITAL_SIGNATURE;
    plan->not_before_ms = (cc_clock_now_ms() - BACKDATE_MS) / 1000 * 1000;
    plan->not_after_ms = plan->not_before_ms + wish->days * PKI_DAY_MS;
    *ret_plan = plan;
    return 0;
}

static int
issue(struct hsm *hsm, struct hsm_key *key, const struct pki_plan *plan, X509 **ret_certificate,
        struct cc_err *err)
{
    struct pki_issuer issuer = { .certificate = NULL };
    uint8_t serial[PKI_SERIAL_LEN];

    if (hsm_key_get0_evp(key, &issuer.key, err) != 0 ||
            hsm_random(hsm, serial, sizeof(serial), err) != 0)
        return -1;
    serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40); /* positive, and of full length */
    return pki_cert_issue(plan, (struct cc_bytes){ serial, sizeof(serial) }, issuer.key, &issuer,
            ret_certificate, err);
}

static int
write_out(struct self_sign *wish, X509 *certificate, struct cc_err *err)
{
    struct cc_buf pem = CC_BUF_INIT((size_t)PKI_CERT_MAX * 2);
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der);
    int rc = -1;

    if (len < 0)
        cc_err_set_openssl(err, "the certificate");
    else if (pki_cert_thumbprint(certificate, wish->thumbprint, err) == 0 &&
             cli_add_pem("CERTIFICATE", (struct cc_bytes){ der, (size_t)len }, &pem, err) == 0)
        rc = key_deliver(wish->path, &pem, err);
    OPENSSL_free(der);
    cc_buf_free(&pem);
    return rc;
}

static int
self_sign(struct cli_target *target, struct self_sign *wish, struct cc_err *err)
{
    struct hsm_settings settings = { .profile = "auto", .sessions = 1 };
    struct pki_plan *plan = NULL;
    X509 *certificate = NULL;
    struct hsm_key *key = NULL;
    struct hsm *hsm = NULL;
    char fallback[64];
    int rc = -1;

    if (make_plan(wish, &plan, err) != 0 || cli_target_resolve(target, err) != 0)
        goto out;
    settings.helper = target->admin.helper;
    settings.module = target->admin.module;
    settings.init_args = target->admin.init_args;
    settings.uri = target->admin.uri;
    settings.pin = target->admin.pin;
    if (settings.uri == NULL || settings.pin == NULL) {
        cc_err_set(err, CC_DOM_USAGE, 0, "signing takes a token and its PIN: say --uri and --pin");
        goto out;
    }
    if (wish->key_uri == NULL)
        wish->key_uri = key_role_uri(target, wish->role, fallback, sizeof(fallback));
    if (hsm_open(&settings, &hsm, err) != 0 || hsm_wait_open(hsm, TOKEN_OPEN_MS, err) != 0 ||
            hsm_key_get0(hsm, wish->role, wish->key_uri, &key, err) != 0 ||
            issue(hsm, key, plan, &certificate, err) != 0)
        goto out;
    rc = write_out(wish, certificate, err);
out:
    X509_free(certificate);
    pki_plan_free(plan);
    hsm_close(hsm);
    return rc;
}

int
key_self_sign_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_target target = { 0 };
    struct self_sign wish = { .subject = "CN=certconnector", .days = DAYS_DEFAULT };
    const char *role_name = NULL, *days = NULL;
    const struct cli_option options[] = {
        CLI_TOKEN_OPTIONS(target),
        { "role", &role_name, NULL },
        { "key", &wish.key_uri, NULL },
        { "subject", &wish.subject, NULL },
        { "days", &days, NULL },
        { "out", &wish.path, NULL },
        { NULL, NULL, NULL },
    };
    struct cc_err err = { 0 };
    int first, status;

    if (cli_options(command, argc, argv, options, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "unexpected argument %s", argv[first]);
    if (role_name == NULL)
        return cli_usage_error(command, "key self-sign needs --role");
    if (key_need_role(command, role_name, &wish.role, &status) != 0)
        return status;
    if (days != NULL && cc_parse_int(days, 1, DAYS_MAX, &wish.days, NULL) != 0)
        return cli_usage_error(command, "--days is a number from 1 to %d", DAYS_MAX);
    if (wish.subject[0] == '\0')
        return cli_usage_error(command, "--subject is a name, as in CN=connector");

    status = CLI_OK;
    if (self_sign(&target, &wish, &err) != 0)
        status = cli_fail(command, &err);
    else if (wish.path != NULL)
        printf("thumbprint %s\n", wish.thumbprint);
    cli_target_free(&target);
    return status;
}
