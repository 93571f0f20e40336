/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "ca_verbs.h"
#include "scep_verbs.h"

#define CAPS_MAX 1024
#define SAVE_MAX ((size_t)1 << 20)

static const struct {
    enum scep_role role;
    const char *name, *ra_name;
} roles[] = {
    { SCEP_ROLE_CA, "CA", NULL },
    { SCEP_ROLE_SIGN, "sign", "RA sign" },
    { SCEP_ROLE_ENCRYPT, "encrypt", "RA encrypt" },
};

/* Of the i-th role, if it is one of these; NULL. */
static const char *
role_name(unsigned have, size_t i)
{
    if ((have & (unsigned)roles[i].role) == 0)
        return NULL;
    return (have & SCEP_ROLE_CA) != 0 ? roles[i].name : roles[i].ra_name;
}

static int
print_one(STACK_OF(X509) *authority, X509 *certificate, struct cc_err *err)
{
    const unsigned have = scep_authority_roles(authority, certificate);
    struct cc_buf subject = CC_BUF_INIT(PKI_NAME_TEXT_MAX);
    const char *between = " (";
    int rc = pki_name_format(X509_get_subject_name(certificate), &subject, err);

    if (rc == 0) {
        cli_print_escaped(cc_buf_str(&subject));
        for (size_t i = 0; i < CC_COUNT(roles); i++) {
            if (role_name(have, i) != NULL) {
                printf("%s%s", between, role_name(have, i));
                between = ", ";
            }
        }
        puts(have != 0 ? ")" : "");
        rc = scep_print_certificate(certificate, err);
    }
    cc_buf_free(&subject);
    return rc;
}

static int
print_all(char *caps, STACK_OF(X509) *authority, struct cc_err *err)
{
    char *rest = NULL;
    int rc = 0;

    fputs("capabilities:", stdout);
    for (char *word = strtok_r(caps, "\r\n", &rest); word != NULL;
            word = strtok_r(NULL, "\r\n", &rest)) {
        putchar(' ');
        cli_print_escaped(word);
    }
    putchar('\n');
    for (int i = 0; i < sk_X509_num(authority) && rc == 0; i++)
        rc = print_one(authority, sk_X509_value(authority, i), err);
    return rc;
}

static json_object *
certificate_json(STACK_OF(X509) *authority, X509 *certificate)
{
    const unsigned have = scep_authority_roles(authority, certificate);
    json_object *obj = scep_certificate_json(certificate), *array = json_object_new_array();

    for (size_t i = 0; array != NULL && i < CC_COUNT(roles); i++)
        if (role_name(have, i) != NULL)
            (void)json_object_array_add(array, json_object_new_string(role_name(have, i)));
    if (cc_json_add(obj, "roles", array, NULL) == 0)
        return obj;
    json_object_put(obj);
    return NULL;
}

static json_object *
all_json(char *caps, STACK_OF(X509) *authority)
{
    json_object *obj = json_object_new_object(), *words = json_object_new_array(),
                *certificates = json_object_new_array();
    char *rest = NULL;
    bool ok = words != NULL && certificates != NULL;

    for (char *word = ok ? strtok_r(caps, "\r\n", &rest) : NULL; word != NULL;
            word = strtok_r(NULL, "\r\n", &rest))
        (void)json_object_array_add(words, json_object_new_string(word));
    for (int i = 0; i < sk_X509_num(authority) && ok; i++) {
        json_object *one = certificate_json(authority, sk_X509_value(authority, i));

        ok = one != NULL && json_object_array_add(certificates, one) == 0;
    }
    ok = cc_json_add(obj, "capabilities", words, NULL) == 0 && ok;
    ok = cc_json_add(obj, "certificates", certificates, NULL) == 0 && ok;
    if (ok)
        return obj;
    json_object_put(obj);
    return NULL;
}

static int
save(STACK_OF(X509) *authority, const char *path, struct cc_err *err)
{
    struct cc_buf text = CC_BUF_INIT(SAVE_MAX);
    int rc = 0;

    for (int i = 0; i < sk_X509_num(authority) && rc == 0; i++)
        rc = scep_add_certificate_pem(sk_X509_value(authority, i), &text, err);
    if (rc == 0)
        rc = cli_write_output(path, text.data, text.len, err);
    cc_buf_free(&text);
    return rc;
}

static int
run(struct scep_session *session, const char *path, struct cc_err *err)
{
    struct cc_buf caps = CC_BUF_INIT(CAPS_MAX + 1);
    int rc = -1;

    if (scep_session_caps(session, &caps, err) != 0 || scep_session_authority(session, err) != 0)
        goto out;
    if (path != NULL && save(session->client.authority, path, err) != 0)
        goto out;
    /* an empty answer is text, too */
    if (cc_buf_add_u8(&caps, '\n', err) != 0)
        goto out;
    rc = session->options->json
                 ? cli_print_json(all_json((char *)caps.data, session->client.authority))
                 : print_all((char *)caps.data, session->client.authority, err);
    if (rc != 0 && session->options->json)
        rc = cc_err_nomem(err);
out:
    cc_buf_free(&caps);
    return rc;
}

int
cli_scep_caps_run(const struct cli_command *command, int argc, char **argv)
{
    struct scep_options options = { .url = NULL };
    const char *path = NULL;
    const struct cli_option table[] = {
        SCEP_OPTIONS_SERVER(options),
        { "fingerprint", &options.fingerprint, NULL },
        { "save", &path, NULL },
        { NULL, NULL, NULL },
    };
    struct scep_session session;
    struct cc_err err = { 0 };
    int first, status, rc;

    if (cli_options(command, argc, argv, table, &first, &status) != 0)
        return status;
    if (first < argc)
        return cli_usage_error(command, "caps takes options only");
    rc = scep_session_open(&options, &session, &err);
    if (rc == 0)
        rc = run(&session, path, &err);
    scep_session_close(&session);
    return rc == 0 ? CLI_OK : cli_fail(command, &err);
}
