/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "ca_verbs.h"

#define CRL_MAX ((size_t)96 << 20)

struct options {
    const char *config, *ca, *out;
    bool delta, pem;
};

/* The CRL as it stands in the store. */
static int
read_crl(struct cli_authority *a, enum cadb_crl_kind kind, struct cc_buf *ret, struct cc_err *err)
{
    FILE *file = tmpfile();
    struct cadb_crl crl;
    bool found = false;
    int rc = -1;

    if (file == NULL)
        return cc_err_set_errno(err, errno, "temporary file");
    if (ca_local_get_crl(a->ca, kind, &found, &crl, fileno(file), err) == 0) {
        rewind(file);
        rc = lseek(fileno(file), 0, SEEK_SET) == 0 ? cc_fd_read_all(fileno(file), ret, err)
                                                   : cc_err_set_errno(err, errno, "lseek");
    }
    fclose(file);
    return rc;
}

static int
write_crl(const struct options *options, const struct cc_buf *der, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(2 * CRL_MAX);
    int rc;

    if (!options->pem && options->out == NULL && isatty(STDOUT_FILENO))
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "a CRL in DER is nothing for a terminal: --out FILE, or --pem");
    if (!options->pem)
        return cli_write_output(options->out, der->data, der->len, err);
    rc = cli_add_pem("X509 CRL", cc_buf_bytes(der), &text, err);
    if (rc == 0)
        rc = cli_write_output(options->out, text.data, text.len, err);
    cc_buf_free(&text);
    return rc;
}

static int
run(struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    const enum cadb_crl_kind kind = options->delta ? CADB_CRL_DELTA : CADB_CRL_FULL;
    struct cc_buf der = CC_BUF_INIT(CRL_MAX);
    int rc = -1;

    if (cli_authority_open(a, err) == 0 && cli_authority_open_ca(a, err) == 0 &&
            ca_local_make_crl(a->ca, kind, NULL, err) == 0 && read_crl(a, kind, &der, err) == 0)
        rc = write_crl(options, &der, err);
    cc_buf_free(&der);
    return rc;
}

int
cli_ca_crl_run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .config = NULL };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "ca", &options.ca, NULL },
        { "out", &options.out, NULL },
        { "delta", NULL, &options.delta },
        { "pem", NULL, &options.pem },
        { NULL, NULL, NULL },
    };
    struct cli_authority a = { .config = NULL };
    struct cc_err err = { 0 };
    int first, status, rc;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "crl takes options only");
    rc = cli_authority_load(options.config, options.ca, &a, &err);
    if (rc == 0)
        rc = run(&a, &options, &err);
    cli_authority_close(&a);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}
