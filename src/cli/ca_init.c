/* SPDX-License-Identifier: MIT */
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ca_verbs.h"
#include "hsm/admin.h"
#include "pki/cert.h"
#include "pki/name.h"
#include "store/cadb.h"
#include "token_match.h"

#define ROOT_VALIDITY_MS (3650 * PKI_DAY_MS)
#define REQUEST_MAX 65536
#define CERTIFICATES_MAX 16

struct options {
    const char *config, *ca, *subject, *validity, *path_length, *key_type, *out, *certificate,
            *chain;
    bool intermediate, scep, if_missing;
    struct ca_local_init init;
};

/* ---- the key ---- */

static bool
has_key(const struct hsm_admin_target *target, const char *uri)
{
    struct cc_buf spki = CC_BUF_INIT(16384);
    bool has = hsm_admin_export_public(target, uri, &spki, NULL) == 0;

    cc_buf_free(&spki);
    return has;
}

/* As whoever started us: only who may write the token can do this. */
static int
need_key(const struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    const struct hsm_admin_target target = {
        .helper = a->config->token.helper,
        .module = a->config->token.module,
        .init_args = a->config->token.init_args,
        .uri = a->config->token.uri,
        .pin = a->config->token.pin,
    };
    const unsigned roles = 1U << HSM_ROLE_CA | (options->scep ? 1U << HSM_ROLE_SCEP_RA_ENCRYPT : 0);
    char label[128];

    if (options->key_type == NULL || has_key(&target, a->entry->key))
        return 0;
    if (!cli_key_label(a->entry->key, label, sizeof(label)))
        return cc_err_set(err, CC_DOM_USAGE, 0,
                "--key-type: the key's URI %s has no plain object=LABEL; make the key with "
                "certconnector key generate",
                a->entry->key);
    return hsm_admin_generate_key(&target, roles, label, options->key_type, err);
}

/* ---- a new one ---- */

static int
show_new(struct cli_authority *a, const struct options *options, const struct cc_buf *request,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(4 * REQUEST_MAX), name = CC_BUF_INIT(2 * PKI_NAME_TEXT_MAX);
    int rc;

    if (options->intermediate) {
        rc = cli_add_pem("CERTIFICATE REQUEST", cc_buf_bytes(request), &text, err);
        if (rc == 0)
            rc = cli_write_output(options->out, text.data, text.len, err);
    } else {
        rc = cli_authority_open_ca(a, err);
        if (rc == 0)
            rc = ca_issuer_name(a->ca, &name, err);
        if (rc == 0)
            printf("the CA \"%s\" was made: %s\n", a->entry->name, cc_buf_str(&name));
    }
    cc_buf_free(&text);
    cc_buf_free(&name);
    return rc;
}

/* What the store has under the CA's name. */
struct present {
    X509_NAME *subject; /* that is wanted */
    bool same;          /* it is the root of this subject */
};

static int
on_present(void *arg, const struct cadb_authority *authority)
{
    struct present *present = arg;
    X509 *certificate = NULL;

    if (authority->request.len == 0 &&
            pki_cert_parse(authority->certificate, &certificate, NULL) == 0)
        present->same = X509_NAME_cmp(X509_get_subject_name(certificate), present->subject) == 0;
    X509_free(certificate);
    return 0;
}

/* Whether the root that is to be made is there already. */
static int
is_made(struct cli_authority *a, const struct options *options, bool *ret, struct cc_err *err)
{
    struct present present = { .subject = NULL };
    int rc;

    if (pki_name_parse(options->subject, &present.subject, err) != 0)
        return cc_err_in(err, "subject");
    rc = cadb_authority_find(a->store, a->entry->name, on_present, &present, err);
    X509_NAME_free(present.subject);
    *ret = present.same;
    return rc;
}

static int
make_new(struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    struct cc_buf request = CC_BUF_INIT(REQUEST_MAX);
    bool made = false;
    int rc = -1;

    if (need_key(a, options, err) != 0 || cli_authority_open(a, err) != 0 ||
            (options->if_missing && is_made(a, options, &made, err) != 0))
        goto out;
    if (made) {
        printf("the CA \"%s\" is there already\n", a->entry->name);
        rc = 0;
    } else if (ca_local_init(&a->settings, &options->init, &request, err) == 0) {
        rc = show_new(a, options, &request, err);
    }
out:
    cc_buf_free(&request);
    return rc;
}

/* ---- the certificate that the CA above gave ---- */

/* The first is the CA's own; the others, and those of the second file, are above it. */
static int
read_certificates(const struct options *options, STACK_OF(X509) *ret, struct cc_err *err)
{
    if (cli_read_certificates(options->certificate, ret, err) != 0)
        return -1;
    return options->chain != NULL ? cli_read_certificates(options->chain, ret, err) : 0;
}

static int
set_certificate(struct cli_authority *a, const struct options *options, struct cc_err *err)
{
    STACK_OF(X509) *certs = sk_X509_new_null();
    unsigned char *ders[CERTIFICATES_MAX] = { NULL };
    struct cc_bytes list[CERTIFICATES_MAX];
    int count, rc = -1;

    if (certs == NULL)
        return cc_err_nomem(err);
    if (read_certificates(options, certs, err) != 0 || cli_authority_open(a, err) != 0)
        goto out;
    count = sk_X509_num(certs) < CERTIFICATES_MAX ? sk_X509_num(certs) : CERTIFICATES_MAX;
    for (int i = 0; i < count; i++) {
        int len = i2d_X509(sk_X509_value(certs, i), &ders[i]);

        if (len < 0) {
            cc_err_set_openssl(err, "a certificate");
            goto out;
        }
        list[i] = (struct cc_bytes){ ders[i], (size_t)len };
    }
    rc = ca_local_set_certificate(&a->settings, list[0], list + 1, (size_t)count - 1, err);
    if (rc == 0)
        printf("the CA \"%s\" has its certificate\n", a->entry->name);
out:
    for (size_t i = 0; i < CERTIFICATES_MAX; i++)
        OPENSSL_free(ders[i]);
    sk_X509_pop_free(certs, X509_free);
    return rc;
}

/* ---- options ---- */

static int
check_options(const struct cli_command *command, struct options *options)
{
    struct cc_err err = { 0 };
    int64_t number = -1;

    options->init = (struct ca_local_init){
        .subject = options->subject,
        .validity_ms = ROOT_VALIDITY_MS,
        .path_len = -1,
        .intermediate = options->intermediate,
        .scep = options->scep,
    };
    if (options->if_missing && (options->certificate != NULL || options->intermediate))
        return cli_usage_error(command, "--if-missing is of a root");
    if (options->certificate != NULL)
        return options->subject == NULL
                       ? CLI_OK
                       : cli_usage_error(command, "--subject and --certificate exclude each other");
    if (options->subject == NULL)
        return cli_usage_error(command, "--subject is missing");
    if (options->validity != NULL &&
            cc_parse_duration_ms(options->validity, &options->init.validity_ms, &err) != 0)
        return cli_usage_error(command, "--validity: %s", cc_err_text(&err));
    if (options->path_length != NULL &&
            cc_parse_int(options->path_length, 0, 32, &number, &err) != 0)
        return cli_usage_error(command, "--path-length: %s", cc_err_text(&err));
    options->init.path_len = (int)number;
    return CLI_OK;
}

int
cli_ca_init_run(const struct cli_command *command, int argc, char **argv)
{
    struct options options = { .config = NULL };
    const struct cli_option table[] = {
        { "config", &options.config, NULL },
        { "ca", &options.ca, NULL },
        { "subject", &options.subject, NULL },
        { "validity", &options.validity, NULL },
        { "path-length", &options.path_length, NULL },
        { "key-type", &options.key_type, NULL },
        { "out", &options.out, NULL },
        { "certificate", &options.certificate, NULL },
        { "chain", &options.chain, NULL },
        { "intermediate", NULL, &options.intermediate },
        { "scep", NULL, &options.scep },
        { "if-missing", NULL, &options.if_missing },
        { NULL, NULL, NULL },
    };
    struct cli_authority a = { .config = NULL };
    struct cc_err err = { 0 };
    int first, status;
    int rc;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "init takes options only");
    if ((status = check_options(command, &options)) != CLI_OK)
        return status;
    rc = cli_authority_load(options.config, options.ca, &a, &err);
    if (rc == 0)
        rc = options.certificate != NULL ? set_certificate(&a, &options, &err)
                                         : make_new(&a, &options, &err);
    cli_authority_close(&a);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}
