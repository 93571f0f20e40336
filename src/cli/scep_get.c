/* SPDX-License-Identifier: MIT */

/* certconnector scep cert and crl: what a server gives to those who have a certificate of it. */

#include <openssl/bn.h>
#include <openssl/err.h>
#include <string.h>

#include "base/text.h"
#include "ca_verbs.h"
#include "pki/cert.h"
#include "scep_verbs.h"

#define CONTENT_MAX ((size_t)16384)

struct options {
    struct scep_options common;
    const char *serial, *certificate, *key;
};

/* The serial number that is meant: in hexadecimal, or the signer's own (RFC 8894 section 3.3.5). */
static ASN1_INTEGER *
read_serial(const char *hex, const X509 *signer, struct cc_err *err)
{
    struct cc_buf bytes = CC_BUF_INIT(64);
    ASN1_INTEGER *serial = NULL;
    BIGNUM *number = NULL;

    if (hex == NULL) {
        if ((serial = ASN1_INTEGER_dup(X509_get0_serialNumber(signer))) == NULL)
            cc_err_nomem(err);
        return serial;
    }
    if (cc_unhex(hex, &bytes, NULL) != 0 || bytes.len == 0)
        cc_err_set(err, CC_DOM_USAGE, 0, "--serial is a serial number in hexadecimal");
    else if ((number = BN_bin2bn(bytes.data, (int)bytes.len, NULL)) == NULL ||
             (serial = BN_to_ASN1_INTEGER(number, NULL)) == NULL)
        cc_err_set_openssl(err, "serial number");
    BN_free(number);
    cc_buf_free(&bytes);
    return serial;
}

static int
deliver_certificate(const struct scep_session *session, const struct scep_answer *answer,
        const ASN1_INTEGER *serial, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(4 * PKI_CERT_MAX);
    X509 *certificate = NULL;
    int rc = -1;

    for (int i = 0; i < sk_X509_num(answer->certificates) && certificate == NULL; i++)
        if (ASN1_INTEGER_cmp(X509_get0_serialNumber(sk_X509_value(answer->certificates, i)),
                    serial) == 0)
            certificate = sk_X509_value(answer->certificates, i);
    if (answer->status == PKI_SCEP_SUCCESS && certificate == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "the answer: no certificate of this serial number is in it");
    if (certificate != NULL &&
            (scep_add_certificate_pem(certificate, &text, err) != 0 ||
                    cli_write_output(session->options->out, text.data, text.len, err) != 0))
        goto out;
    if (scep_show_answer(session, answer, certificate, err) == 0)
        rc = scep_answer_error(answer, err);
out:
    cc_buf_free(&text);
    return rc;
}

static int
deliver_crl(const struct scep_session *session, const struct scep_answer *answer,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(4 * PKI_SCEP_MESSAGE_MAX);
    unsigned char *der = NULL;
    int len, rc = -1;

    if (answer->status == PKI_SCEP_SUCCESS && answer->crl == NULL)
        return cc_err_set(err, CC_DOM_INPUT, 0, "the answer: no CRL is in it");
    if (answer->crl != NULL) {
        if ((len = i2d_X509_CRL(answer->crl, &der)) < 0) {
            cc_err_set_openssl(err, "the CRL");
            goto out;
        }
        if (cli_add_pem("X509 CRL", (struct cc_bytes){ der, (size_t)len }, &text, err) != 0 ||
                cli_write_output(session->options->out, text.data, text.len, err) != 0)
            goto out;
    }
    if (scep_show_answer(session, answer, NULL, err) == 0)
        rc = scep_answer_error(answer, err);
out:
    OPENSSL_free(der);
    cc_buf_free(&text);
    return rc;
}

static int
ask(struct scep_session *session, enum pki_scep_type type, const ASN1_INTEGER *serial,
        struct cc_err *err)
{
    const X509_NAME *issuer = X509_get_issuer_name(session->client.certificate);
    struct cc_buf content = CC_BUF_INIT(CONTENT_MAX);
    struct scep_answer answer;
    int rc = -1;

    if (pki_issuer_and_serial_write(issuer, serial, &content, err) == 0 &&
            scep_session_ask(session, type, cc_buf_bytes(&content), (struct cc_bytes){ NULL, 0 },
                    &answer, err) == 0) {
        rc = type == PKI_SCEP_GET_CERT ? deliver_certificate(session, &answer, serial, err)
                                       : deliver_crl(session, &answer, err);
        scep_answer_free(&answer);
    }
    cc_buf_free(&content);
    return rc;
}

static int
run(const struct cli_command *command, const struct options *options, enum pki_scep_type type)
{
    struct scep_session session;
    struct cc_err err = { 0 };
    ASN1_INTEGER *serial = NULL;
    EVP_PKEY *key = NULL;
    X509 *signer = NULL;
    int rc = -1;

    if (scep_session_open(&options->common, &session, &err) == 0 &&
            scep_read_certificate(options->certificate, &signer, &err) == 0 &&
            scep_read_key(options->key, &key, &err) == 0 &&
            (serial = read_serial(options->serial, signer, &err)) != NULL &&
            scep_session_authority(&session, &err) == 0) {
        session.client.certificate = signer;
        session.client.key = key;
        rc = ask(&session, type, serial, &err);
    }
    scep_session_close(&session);
    ASN1_INTEGER_free(serial);
    EVP_PKEY_free(key);
    X509_free(signer);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}

int
cli_scep_cert_run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .serial = NULL };
    const struct cli_option table[] = {
        SCEP_OPTIONS_SERVER(options.common),
        SCEP_OPTIONS_REQUEST(options.common),
        { "serial", &options.serial, NULL },
        { "certificate", &options.certificate, NULL },
        { "key", &options.key, NULL },
        { NULL, NULL, NULL },
    };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc || options.serial == NULL || options.certificate == NULL ||
            options.key == NULL || options.common.out == NULL)
        return cli_usage_error(command,
                "cert needs --url URL, --serial HEX, --certificate FILE, --key FILE and --out FILE, and takes options only");
    return run(command, &options, PKI_SCEP_GET_CERT);
}

int
cli_scep_crl_run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .serial = NULL };
    const struct cli_option table[] = {
        SCEP_OPTIONS_SERVER(options.common),
        SCEP_OPTIONS_REQUEST(options.common),
        { "certificate", &options.certificate, NULL },
        { "key", &options.key, NULL },
        { NULL, NULL, NULL },
    };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc || options.certificate == NULL || options.key == NULL ||
            options.common.out == NULL)
        return cli_usage_error(command,
                "crl needs --url URL, --certificate FILE, --key FILE and --out FILE, and takes options only");
    return run(command, &options, PKI_SCEP_GET_CRL);
}
