/* SPDX-License-Identifier: MIT */
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ca_verbs.h"

#define DEADLINE_MS 60000
#define SERIAL_MAX 64

struct options {
    const char *config, *ca, *serial, *certificate, *reason;
    bool release;
    int reason_code;
};

/* Hexadecimal in pairs; colons pass. */
static int
read_hex(const char *text, struct cc_buf *ret, struct cc_err *err)
{
    char hex[2 * SERIAL_MAX + 2];
    size_t len = 0;

    for (; *text != '\0'; text++) {
        if (*text == ':')
            continue;
        if (len + 1 >= sizeof(hex))
            return cc_err_set(err, CC_DOM_USAGE, 0, "--serial is too long");
        hex[len++] = *text;
    }
    hex[len] = '\0';
    if (len == 0 || cc_unhex(hex, ret, NULL) != 0)
        return cc_err_set(err, CC_DOM_USAGE, 0, "--serial has to be hexadecimal, as list shows it");
    return 0;
}

static int
read_certificate(const char *path, struct cc_buf *ret, struct cc_err *err)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    int rc = -1;

    if (certs != NULL && cli_read_certificates(path, certs, err) == 0) {
        const ASN1_INTEGER *serial = X509_get0_serialNumber(sk_X509_value(certs, 0));

        rc = cc_buf_add(ret, ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial),
                err);
    }
    sk_X509_pop_free(certs, X509_free);
    return rc;
}

static const char *
what_was_done(const struct options *options, bool already)
{
    if (options->release)
        return "released";
    if (already)
        return "revoked before; its date and reason stay";
    return options->reason_code == PKI_REASON_CERTIFICATE_HOLD ? "on hold" : "revoked";
}

static int
change(struct cli_authority *a, const struct options *options, struct cc_bytes serial,
        struct cc_err *err)
{
    const struct ca_revocation revocation = {
        .serial = serial,
        .reason = (enum pki_reason)options->reason_code,
        .deadline = cc_deadline_in(DEADLINE_MS),
    };
    bool already = false;
    enum ca_outcome outcome = options->release ? ca_release(a->ca, serial, revocation.deadline, err)
                                               : ca_revoke(a->ca, &revocation, &already, err);
    int64_t next;

    if (outcome == CA_NOT_FOUND)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the CA \"%s\" issued no such certificate",
                a->entry->name);
    if (outcome != CA_DONE)
        return -1;
    printf("the certificate is %s\n", what_was_done(options, already));
    if (ca_local_keep_crls(a->ca, &next, NULL, err) != 0)
        return cc_err_in(err, "it is so in the database, but the CRL could not be signed");
    return 0;
}

static int
run(struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    struct cc_buf serial = CC_BUF_INIT(SERIAL_MAX);
    int rc = options->serial != NULL ? read_hex(options->serial, &serial, err)
                                     : read_certificate(options->certificate, &serial, err);

    if (rc == 0)
        rc = cli_authority_open(a, err);
    if (rc == 0)
        rc = cli_authority_open_ca(a, err);
    if (rc == 0)
        rc = change(a, options, cc_buf_bytes(&serial), err);
    cc_buf_free(&serial);
    return rc;
}

int
cli_ca_revoke_run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .reason_code = PKI_REASON_UNSPECIFIED };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "ca", &options.ca, NULL },
        { "serial", &options.serial, NULL },
        { "certificate", &options.certificate, NULL },
        { "reason", &options.reason, NULL },
        { "release", NULL, &options.release },
        { NULL, NULL, NULL },
    };
    struct cli_authority a = { .config = NULL };
    struct cc_err err = { 0 };
    int first, status, rc;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc || (options.serial == NULL) == (options.certificate == NULL))
        return cli_usage_error(command, "revoke needs one of --serial and --certificate");
    if (options.reason != NULL && options.release)
        return cli_usage_error(command, "--reason and --release exclude each other");
    if (options.reason != NULL && ((options.reason_code = pki_reason_parse(options.reason)) < 0 ||
                                          options.reason_code == PKI_REASON_REMOVE_FROM_CRL))
        return cli_usage_error(command,
                "--reason is none of RFC 5280: keyCompromise, cACompromise, affiliationChanged, "
                "superseded, cessationOfOperation, certificateHold, privilegeWithdrawn, "
                "aACompromise, unspecified");
    rc = cli_authority_load(options.config, options.ca, &a, &err);
    if (rc == 0)
        rc = run(&a, &options, &err);
    cli_authority_close(&a);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}
