/* SPDX-License-Identifier: MIT */

/* certconnector scep enrol and renew. */

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "ca_verbs.h"
#include "password.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "scep_verbs.h"

#define PATH_TEXT_MAX 4096

/* Of both; what a verb has no option for stays NULL. */
struct enrolment {
    struct scep_options common;
    const char *subject, *dns, *email, *upn, *uri;
    const char *key, *new_key, *key_type, *certificate, *challenge_file;
};

/* ---- keys ---- */

static int
write_key(const char *path, EVP_PKEY *key, struct cc_err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    long len;
    int rc = -1;

    if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        cc_err_set_openssl(err, "the key");
    else if ((len = BIO_get_mem_data(bio, &data)) > 0)
        rc = cc_file_create(path, data, (size_t)len, 0600, err);
    BIO_free(bio); /* OpenSSL wipes what it frees (base/process.h) */
    return rc;
}

/* The one in the file, or a fresh one that is written there; without a file it lives as long as the command. */
static int
make_key(const char *path, const char *type, EVP_PKEY **ret_key, struct cc_err *err)
{
    const int spec = pki_keyspec_parse(type != NULL ? type : "rsa2048");
    EVP_PKEY *key = NULL;

    if (spec != PKI_RSA2048 && spec != PKI_RSA3072 && spec != PKI_RSA4096)
        return cc_err_set(err, CC_DOM_USAGE, 0, "--key-type is rsa2048, rsa3072 or rsa4096");
    if (path != NULL && access(path, F_OK) == 0)
        return scep_read_key(path, ret_key, err);
    if (pki_key_generate((enum pki_keyspec)spec, &key, err) != 0)
        return -1;
    if (path != NULL && write_key(path, key, err) != 0) {
        EVP_PKEY_free(key);
        return -1;
    }
    *ret_key = key;
    return 0;
}

/* ---- what is asked for ---- */

static int
plan_of_options(const struct enrolment *options, struct pki_plan *plan, struct cc_err *err)
{
    const struct pki_san all[] = { { PKI_SAN_DNS, options->dns }, { PKI_SAN_EMAIL, options->email },
        { PKI_SAN_UPN, options->upn }, { PKI_SAN_URI, options->uri } };
    struct pki_san sans[CC_COUNT(all)];
    X509_NAME *subject = NULL;
    size_t count = 0;

    for (size_t i = 0; i < CC_COUNT(all); i++)
        if (all[i].value != NULL)
            sans[count++] = all[i];
    if (pki_name_parse(options->subject, &subject, err) != 0)
        return -1;
    X509_NAME_free(plan->subject);
    plan->subject = subject;
    return pki_san_build(sans, count, &plan->sans, err);
}

/* The same names again. */
static int
plan_of_certificate(const X509 *certificate, struct pki_plan *plan, struct cc_err *err)
{
    X509_NAME *subject = X509_NAME_dup(X509_get_subject_name(certificate));

    if (subject == NULL)
        return cc_err_nomem(err);
    X509_NAME_free(plan->subject);
    plan->subject = subject;
    plan->sans = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    ERR_clear_error();
    return 0;
}

/* From the file, or from whoever sits at the terminal; *ret stays NULL for none. */
static int
read_challenge(const char *path, struct cc_secret **ret, struct cc_err *err)
{
    char reference[PATH_TEXT_MAX];
    struct cc_secret *challenge;

    if (path == NULL && isatty(STDIN_FILENO) != 1)
        return 0;
    (void)snprintf(reference, sizeof(reference), "file:%s", path != NULL ? path : "");
    challenge = cli_password_read(path != NULL ? reference : "prompt",
            "Challenge password (empty: none): ", err);
    if (challenge == NULL)
        return -1;
    if (cc_secret_len(challenge) == 0) {
        cc_secret_free(challenge);
        challenge = NULL;
    }
    *ret = challenge;
    return 0;
}

/* ---- asking ---- */

static int
deliver(const struct scep_session *session, const struct scep_answer *answer, const EVP_PKEY *key,
        struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(4 * PKI_CERT_MAX);
    X509 *certificate = NULL;
    int rc = -1;

    if (answer->status == PKI_SCEP_SUCCESS &&
            (scep_answer_certificate(answer, key, &certificate, err) != 0 ||
                    scep_add_certificate_pem(certificate, &text, err) != 0 ||
                    cli_write_output(session->options->out, text.data, text.len, err) != 0))
        goto out;
    if (scep_show_answer(session, answer, certificate, err) == 0)
        rc = scep_answer_error(answer, err);
out:
    cc_buf_free(&text);
    return rc;
}

static int
ask(struct scep_session *session, enum pki_scep_type type, const struct pki_plan *plan,
        EVP_PKEY *key, const struct cc_secret *challenge, struct cc_err *err)
{
    X509 *ca = scep_authority_find(session->client.authority, SCEP_ROLE_CA);
    struct cc_buf csr = CC_BUF_INIT(PKI_CSR_MAX), names = CC_BUF_INIT(PKI_CSR_MAX);
    struct scep_answer answer;
    int rc = -1;

    if (ca == NULL)
        ca = sk_X509_value(session->client.authority, 0);
    if (scep_csr(plan, key, challenge, &csr, err) == 0 &&
            scep_issuer_and_subject(X509_get_subject_name(ca), plan->subject, &names, err) == 0 &&
            scep_session_ask(session, type, cc_buf_bytes(&csr), cc_buf_bytes(&names), &answer,
                    err) == 0) {
        rc = deliver(session, &answer, key, err);
        scep_answer_free(&answer);
    }
    cc_buf_wipe(&csr);
    cc_buf_free(&names);
    return rc;
}

static int
enrol(struct scep_session *session, const struct enrolment *options, struct pki_plan *plan,
        struct cc_err *err)
{
    struct cc_secret *challenge = NULL;
    EVP_PKEY *key = NULL;
    X509 *signer = NULL;
    int rc = -1;

    if (plan_of_options(options, plan, err) != 0 || scep_session_authority(session, err) != 0 ||
            make_key(options->key, options->key_type, &key, err) != 0 ||
            read_challenge(options->challenge_file, &challenge, err) != 0)
        goto out;
    if (challenge != NULL && options->common.fingerprint == NULL)
        fputs("certconnector scep: the challenge goes to whoever answered: --fingerprint makes sure that it is the CA\n",
                stderr);
    plan->key_usages = KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT;
    if (scep_self_signed(plan, key, &signer, err) != 0)
        goto out;
    plan->key_usages = 0; /* of the certificate asked for, the CA's to say */
    session->client.certificate = signer;
    session->client.key = key;
    rc = ask(session, PKI_SCEP_PKCS_REQ, plan, key, challenge, err);
out:
    X509_free(signer);
    EVP_PKEY_free(key);
    cc_secret_free(challenge);
    return rc;
}

static int
renew(struct scep_session *session, const struct enrolment *options, struct pki_plan *plan,
        struct cc_err *err)
{
    EVP_PKEY *key = NULL, *new_key = NULL;
    X509 *old = NULL;
    int rc = -1;

    if (scep_read_certificate(options->certificate, &old, err) != 0 ||
            scep_read_key(options->key, &key, err) != 0 ||
            plan_of_certificate(old, plan, err) != 0 || scep_session_authority(session, err) != 0)
        goto out;
    if (options->new_key != NULL &&
            make_key(options->new_key, options->key_type, &new_key, err) != 0)
        goto out;
    session->client.certificate = old;
    session->client.key = key;
    rc = ask(session, PKI_SCEP_RENEWAL_REQ, plan, new_key != NULL ? new_key : key, NULL, err);
out:
    X509_free(old);
    EVP_PKEY_free(key);
    EVP_PKEY_free(new_key);
    return rc;
}

/* ---- the command line ---- */

static int
run(const struct cli_command *command, const struct enrolment *options,
        int (*verb)(struct scep_session *session, const struct enrolment *options,
                struct pki_plan *plan, struct cc_err *err))
{
    struct cc_err err = { 0 };
    struct pki_plan *plan = pki_plan_new(&err);
    struct scep_session session;
    int rc = scep_session_open(&options->common, &session, &err);

    if (rc == 0)
        rc = plan != NULL ? verb(&session, options, plan, &err) : -1;
    scep_session_close(&session);
    pki_plan_free(plan);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}

int
cli_scep_enrol_run(const struct cli_command *command, int argc, char **argv)
{
    struct enrolment options = { .key = NULL };
    const struct cli_option table[] = {
        SCEP_OPTIONS_SERVER(options.common),
        SCEP_OPTIONS_REQUEST(options.common),
        { "poll", &options.common.poll, NULL },
        { "subject", &options.subject, NULL },
        { "dns", &options.dns, NULL },
        { "email", &options.email, NULL },
        { "upn", &options.upn, NULL },
        { "uri", &options.uri, NULL },
        { "key", &options.key, NULL },
        { "key-type", &options.key_type, NULL },
        { "challenge-file", &options.challenge_file, NULL },
        { NULL, NULL, NULL },
    };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc || options.subject == NULL || options.common.out == NULL)
        return cli_usage_error(command,
                "enrol needs --url URL, --subject NAME and --out FILE, and takes options only");
    return run(command, &options, enrol);
}

int
cli_scep_renew_run(const struct cli_command *command, int argc, char **argv)
{
    struct enrolment options = { .key = NULL };
    const struct cli_option table[] = {
        SCEP_OPTIONS_SERVER(options.common),
        SCEP_OPTIONS_REQUEST(options.common),
        { "poll", &options.common.poll, NULL },
        { "certificate", &options.certificate, NULL },
        { "key", &options.key, NULL },
        { "new-key", &options.new_key, NULL },
        { "key-type", &options.key_type, NULL },
        { NULL, NULL, NULL },
    };
    int first, status;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc || options.certificate == NULL || options.key == NULL ||
            options.common.out == NULL)
        return cli_usage_error(command,
                "renew needs --url URL, --certificate FILE, --key FILE and --out FILE, and takes options only");
    return run(command, &options, renew);
}
