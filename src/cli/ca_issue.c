/* SPDX-License-Identifier: MIT */
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "ca_verbs.h"
#include "pki/csr.h"
#include "pki/profile.h"

#define DEADLINE_MS 60000
#define OUTPUT_MAX ((size_t)512 * 1024)

struct options {
    const char *config, *ca, *csr, *profile, *subject, *sid, *validity, *out;
    int64_t validity_ms;
};

/* What the request asks for, with what the administrator says instead. */
static int
make_plan(const struct options *options, const struct pki_csr_ask *csr_ask,
        const struct pki_profile *profile, struct pki_plan **ret_plan, struct cc_err *err)
{
    struct pki_ask ask = *pki_csr_ask_get0(csr_ask);

    if (options->subject != NULL)
        ask.subject = options->subject;
    ask.sid = options->sid;
    ask.validity_ms = options->validity_ms;
    if (pki_csr_ask_had_sid(csr_ask))
        fprintf(stderr,
                "certconnector ca: the SID in the request is left out: say it with --sid\n");
    return pki_plan_make(profile, &ask, cc_clock_now_ms(), ret_plan, err);
}

static int
show(struct cli_authority *a, X509 *cert, const char *out, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(OUTPUT_MAX);
    STACK_OF(X509) *chain = NULL;
    int rc = 0;

    if (ca_chain(a->ca, cc_deadline_in(DEADLINE_MS), &chain, err) != CA_DONE)
        return -1;
    for (int i = -1; i < sk_X509_num(chain) && rc == 0; i++) {
        unsigned char *der = NULL;
        int len = i2d_X509(i < 0 ? cert : sk_X509_value(chain, i), &der);

        rc = len < 0 ? cc_err_set_openssl(err, "a certificate")
                     : cli_add_pem("CERTIFICATE", (struct cc_bytes){ der, (size_t)len }, &text,
                               err);
        OPENSSL_free(der);
    }
    if (rc == 0)
        rc = cli_write_output(out, text.data, text.len, err);
    sk_X509_pop_free(chain, X509_free);
    cc_buf_free(&text);
    return rc;
}

static int
issue(struct cli_authority *a, const struct options *options, struct cc_bytes csr_der,
        const struct pki_plan *plan, struct cc_err *err)
{
    const struct ca_request request = {
        .csr = csr_der,
        .plan = plan,
        .deadline = cc_deadline_in(DEADLINE_MS),
    };
    struct cc_buf pending = CC_BUF_INIT(CA_PENDING_MAX);
    X509 *cert = NULL;
    int rc = -1;

    if (ca_issue(a->ca, &request, &cert, &pending, err) == CA_DONE)
        rc = show(a, cert, options->out, err);
    X509_free(cert);
    cc_buf_free(&pending);
    return rc;
}

static int
run(struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    struct cc_buf file = CC_BUF_INIT(PKI_CSR_MAX);
    struct pki_profile *profile = NULL;
    struct pki_csr_ask *ask = NULL;
    struct pki_plan *plan = NULL;
    unsigned char *der = NULL;
    X509_REQ *csr = NULL;
    int len, rc = -1;

    if (cc_file_read(options->csr, &file, err) != 0 ||
            pki_csr_parse(cc_buf_bytes(&file), &csr, err) != 0 ||
            pki_csr_read_ask(csr, &ask, err) != 0 ||
            cli_authority_profile(a, options->profile, &profile, err) != 0 ||
            make_plan(options, ask, profile, &plan, err) != 0)
        goto out;
    if ((len = i2d_X509_REQ(csr, &der)) < 0) {
        cc_err_set_openssl(err, "the request");
        goto out;
    }
    if (cli_authority_open(a, err) == 0 && cli_authority_open_ca(a, err) == 0)
        rc = issue(a, options, (struct cc_bytes){ der, (size_t)len }, plan, err);
out:
    OPENSSL_free(der);
    X509_REQ_free(csr);
    pki_plan_free(plan);
    pki_csr_ask_free(ask);
    pki_profile_free(profile);
    cc_buf_free(&file);
    return rc;
}

int
cli_ca_issue_run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .config = NULL };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "ca", &options.ca, NULL },
        { "csr", &options.csr, NULL },
        { "profile", &options.profile, NULL },
        { "subject", &options.subject, NULL },
        { "sid", &options.sid, NULL },
        { "validity", &options.validity, NULL },
        { "out", &options.out, NULL },
        { NULL, NULL, NULL },
    };
    struct cli_authority a = { .config = NULL };
    struct cc_err err = { 0 };
    int first, status, rc;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc || options.csr == NULL)
        return cli_usage_error(command, "issue needs --csr FILE, and takes options only");
    if (options.validity != NULL &&
            cc_parse_duration_ms(options.validity, &options.validity_ms, &err) != 0)
        return cli_usage_error(command, "--validity: %s", cc_err_text(&err));
    rc = cli_authority_load(options.config, options.ca, &a, &err);
    if (rc == 0)
        rc = run(&a, &options, &err);
    cli_authority_close(&a);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}
