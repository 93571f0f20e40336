/* SPDX-License-Identifier: MIT */

/* What "scep" tells of certificates and answers. */

#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "pki/cert.h"
#include "scep_verbs.h"

#define DIGEST_TEXT_MAX (2 * EVP_MAX_MD_SIZE + 1)
#define SERIAL_TEXT_MAX 4096

static const char *const usage_names[] = { "digitalSignature", "nonRepudiation", "keyEncipherment",
    "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly" };

/* Texts of a certificate that are shown. */
struct shown {
    struct cc_buf subject, serial;
    char from[CC_TIME_LEN], until[CC_TIME_LEN];
    uint32_t usages; /* 0: none are said */
    char sha256[DIGEST_TEXT_MAX], sha1[DIGEST_TEXT_MAX], md5[DIGEST_TEXT_MAX];
};

static void
digest(const X509 *certificate, const EVP_MD *md, char ret_text[DIGEST_TEXT_MAX])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int len = 0;

    if (X509_digest(certificate, md, bytes, &len) != 1)
        len = 0; /* MD5, where it is not to be had */
    cc_hex(bytes, len, false, ret_text);
    ERR_clear_error();
}

/* shown_free() in every case. */
static int
read_shown(X509 *certificate, struct shown *ret, struct cc_err *err)
{
    int64_t from, until;

    *ret = (struct shown){ .usages = X509_get_key_usage(certificate) };
    cc_buf_init(&ret->subject, PKI_NAME_TEXT_MAX);
    cc_buf_init(&ret->serial, SERIAL_TEXT_MAX);
    if (pki_name_format(X509_get_subject_name(certificate), &ret->subject, err) != 0 ||
            pki_cert_serial(certificate, &ret->serial, err) != 0 ||
            pki_cert_validity(certificate, &from, &until, err) != 0)
        return -1;
    cc_time_format(from, ret->from);
    cc_time_format(until, ret->until);
    if (ret->usages == UINT32_MAX)
        ret->usages = 0;
    digest(certificate, EVP_sha256(), ret->sha256);
    digest(certificate, EVP_sha1(), ret->sha1);
    digest(certificate, EVP_md5(), ret->md5);
    return 0;
}

static void
shown_free(struct shown *shown)
{
    cc_buf_free(&shown->subject);
    cc_buf_free(&shown->serial);
}

static json_object *
usages_json(uint32_t usages)
{
    json_object *array = json_object_new_array();

    for (size_t i = 0; array != NULL && i < CC_COUNT(usage_names); i++)
        if ((usages & pki_key_usage_parse(usage_names[i])) != 0)
            (void)json_object_array_add(array, json_object_new_string(usage_names[i]));
    return array;
}

json_object *
scep_certificate_json(X509 *certificate)
{
    json_object *obj = json_object_new_object();
    struct shown shown;
    bool ok = read_shown(certificate, &shown, NULL) == 0 && obj != NULL &&
              cc_json_add_str(obj, "subject", cc_buf_str(&shown.subject), NULL) == 0 &&
              cc_json_add_str(obj, "serialNumber", cc_buf_str(&shown.serial), NULL) == 0 &&
              cc_json_add_str(obj, "notBefore", shown.from, NULL) == 0 &&
              cc_json_add_str(obj, "notAfter", shown.until, NULL) == 0 &&
              cc_json_add(obj, "keyUsage", usages_json(shown.usages), NULL) == 0 &&
              cc_json_add_str(obj, "sha256", shown.sha256, NULL) == 0 &&
              cc_json_add_str(obj, "sha1", shown.sha1, NULL) == 0 &&
              cc_json_add_str(obj, "md5", shown.md5, NULL) == 0;

    shown_free(&shown);
    if (ok)
        return obj;
    json_object_put(obj);
    return NULL;
}

int
scep_print_certificate(X509 *certificate, struct cc_err *err)
{
    struct shown shown;
    int rc = read_shown(certificate, &shown, err);

    if (rc == 0) {
        printf("  serial   %s\n  valid    %s to %s\n  usages  ", cc_buf_str(&shown.serial),
                shown.from, shown.until);
        for (size_t i = 0; i < CC_COUNT(usage_names); i++)
            if ((shown.usages & pki_key_usage_parse(usage_names[i])) != 0)
                printf(" %s", usage_names[i]);
        printf("%s\n  SHA-256  %s\n  SHA-1    %s\n  MD5      %s\n", shown.usages == 0 ? " any" : "",
                shown.sha256, shown.sha1, shown.md5);
    }
    shown_free(&shown);
    return rc;
}

static const char *
status_name(int status)
{
    return status == PKI_SCEP_SUCCESS   ? "SUCCESS"
           : status == PKI_SCEP_PENDING ? "PENDING"
                                        : "FAILURE";
}

static int
show_json(const struct scep_session *session, const struct scep_answer *answer, X509 *certificate,
        struct cc_err *err)
{
    json_object *obj = json_object_new_object();
    const bool failed = answer->status == PKI_SCEP_FAILURE;

    if (obj == NULL || cc_json_add_str(obj, "status", status_name(answer->status), err) != 0 ||
            cc_json_add_str(obj, "transactionId", session->transaction.id, err) != 0 ||
            cc_json_add_str(obj, "failInfo", failed ? pki_scep_fail_name(answer->fail_info) : NULL,
                    err) != 0 ||
            cc_json_add_str(obj, "failInfoText",
                    answer->fail_text[0] != '\0' ? answer->fail_text : NULL, err) != 0 ||
            (certificate != NULL && cc_json_add(obj, "certificate",
                                            scep_certificate_json(certificate), err) != 0)) {
        json_object_put(obj);
        return cc_err_nomem(err);
    }
    return cli_print_json(obj) == CLI_OK ? 0 : cc_err_set_errno(err, 0, "standard output");
}

int
scep_show_answer(const struct scep_session *session, const struct scep_answer *answer,
        X509 *certificate, struct cc_err *err)
{
    struct cc_buf subject = CC_BUF_INIT(PKI_NAME_TEXT_MAX);
    int rc = 0;

    if (session->options->json)
        return show_json(session, answer, certificate, err);
    printf("%s, transaction %s\n", status_name(answer->status), session->transaction.id);
    if (certificate != NULL &&
            (rc = pki_name_format(X509_get_subject_name(certificate), &subject, err)) == 0) {
        cli_print_escaped(cc_buf_str(&subject));
        putchar('\n');
        rc = scep_print_certificate(certificate, err);
    }
    cc_buf_free(&subject);
    return rc;
}

int
scep_answer_error(const struct scep_answer *answer, struct cc_err *err)
{
    switch (answer->status) {
    case PKI_SCEP_SUCCESS:
        return 0;
    case PKI_SCEP_PENDING:
        return cc_err_set(err, CC_DOM_INPUT, 0,
                "PENDING: somebody has to approve the request; --poll SECONDS waits for it");
    default:
        return cc_err_set(err, CC_DOM_INPUT, answer->fail_info, "FAILURE, %s%s%s",
                pki_scep_fail_name(answer->fail_info), answer->fail_text[0] != '\0' ? ": " : "",
                answer->fail_text);
    }
}
